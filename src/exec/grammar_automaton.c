#include "exec/grammar_automaton.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_SURROGATE = 0xD800, AFTER_SURROGATES = 0xE000 };

uint32_t automaton_interval_of(const struct automaton *automaton, uint32_t code_point)
{
    uint32_t low = 0, high = automaton->intervals;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (automaton->lows[middle] <= code_point)
            low = middle;
        else
            high = middle;
    }
    return low;
}

uint32_t automaton_class_of(const struct automaton *automaton, uint32_t code_point)
{
    return automaton->interval_class[automaton_interval_of(automaton, code_point)];
}

int automaton_accepts(const struct automaton *automaton, const uint32_t *code_points, size_t count)
{
    uint32_t state = automaton->start;
    for (size_t i = 0; i < count && state != AUTOMATON_DEAD; i++)
        state = automaton_step(automaton, state, code_points[i]);
    return state != AUTOMATON_DEAD && automaton->accepts[state];
}

static uint32_t interval_end(const struct automaton *automaton, uint32_t interval)
{
    return interval + 1 < automaton->intervals ? automaton->lows[interval + 1] : AUTOMATON_LAST_CODE_POINT + 1;
}

/* Arrays whose sizes are set; intervals are the caller's. */
static struct automaton *allocate(struct arena *arena, struct work *work, uint32_t states, uint32_t classes,
                                  bulla_error *error)
{
    if (states > AUTOMATON_MAX_STATES) {
        bulla_fail(error, BULLA_E_LIMIT, "an automaton of %u states is needed; at most %d are possible", states,
                   AUTOMATON_MAX_STATES);
        return NULL;
    }
    struct automaton *automaton = work_alloc(work, arena, 1, sizeof *automaton, error);
    if (!automaton)
        return NULL;
    automaton->states = states;
    automaton->classes = classes;
    automaton->next = work_alloc(work, arena, (size_t)states * classes, sizeof *automaton->next, error);
    automaton->accepts = work_alloc(work, arena, states, 1, error);
    automaton->completions = work_alloc(work, arena, states, sizeof *automaton->completions, error);
    if (!automaton->next || !automaton->accepts || !automaton->completions)
        return NULL;
    memset(automaton->next, 0xFF, (size_t)states * classes * sizeof *automaton->next);
    return automaton;
}

void automaton_set_ascii(struct automaton *automaton)
{
    for (uint32_t c = 0, interval = 0; c < 128; c++) {
        while (c >= interval_end(automaton, interval))
            interval++;
        automaton->ascii_class[c] = automaton->interval_class[interval];
    }
}

struct intervals {
    uint32_t *lows;
    uint16_t *classes;
    uint32_t count;
};

static void add_interval(struct intervals *intervals, uint32_t low, uint32_t class, uint32_t surrogates)
{
    int is_surrogate = low >= FIRST_SURROGATE && low < AFTER_SURROGATES;
    intervals->lows[intervals->count] = low;
    intervals->classes[intervals->count++] = (uint16_t)(is_surrogate ? surrogates : class);
}

/* Surrogates are cut out, and have a class of their own. */
static void write_intervals(struct intervals *intervals, const uint32_t *boundaries, const uint16_t *classes,
                            uint32_t count, uint32_t class_count)
{
    static const uint32_t cuts[2] = {FIRST_SURROGATE, AFTER_SURROGATES};
    uint32_t class = 0;
    for (uint32_t i = 0, j = 0; i < count || j < 2;) {
        if (j == 2 || (i < count && boundaries[i] <= cuts[j])) {
            class = classes ? classes[i] : i;
            j += j < 2 && boundaries[i] == cuts[j];
            add_interval(intervals, boundaries[i++], class, class_count);
        } else {
            add_interval(intervals, cuts[j++], class, class_count);
        }
    }
}

struct automaton *automaton_new(struct arena *arena, struct work *work, uint32_t states, const uint32_t *boundaries,
                                const uint16_t *classes, uint32_t count, uint32_t class_count, bulla_error *error)
{
    if (class_count >= UINT16_MAX) {
        bulla_fail(error, BULLA_E_LIMIT, "more than %d kinds of characters are told apart", UINT16_MAX);
        return NULL;
    }
    struct intervals intervals = {.lows = work_alloc(work, arena, (size_t)count + 2, sizeof *intervals.lows, error),
                                  .classes = work_alloc(work, arena, (size_t)count + 2, sizeof *intervals.classes,
                                                        error)};
    if (!intervals.lows || !intervals.classes || work_take(work, 300 + 4 * (uint64_t)count, error))
        return NULL;
    write_intervals(&intervals, boundaries, classes, count, class_count);
    struct automaton *automaton = allocate(arena, work, states, class_count + 1, error);
    if (!automaton)
        return NULL;
    automaton->intervals = intervals.count;
    automaton->lows = intervals.lows;
    automaton->interval_class = intervals.classes;
    automaton_set_ascii(automaton);
    return automaton;
}

/* How many code points each class has. */
static uint32_t *class_sizes(struct arena *arena, const struct automaton *automaton, bulla_error *error)
{
    uint32_t *sizes = arena_alloc(arena, automaton->classes, sizeof *sizes, error);
    for (uint32_t i = 0; sizes && i < automaton->intervals; i++)
        sizes[automaton->interval_class[i]] += interval_end(automaton, i) - automaton->lows[i];
    return sizes;
}

static void kill_surrogates(struct automaton *automaton)
{
    uint32_t class = automaton_class_of(automaton, FIRST_SURROGATE);
    for (uint32_t state = 0; state < automaton->states; state++)
        automaton->next[(size_t)state * automaton->classes + class] = AUTOMATON_DEAD;
}

/* Transitions backwards: of `state`, those in sources[first[state]] .. sources[first[state + 1]]. */
struct reverse {
    uint32_t *first, *sources;
};

static int make_reverse(struct arena *arena, const struct automaton *automaton, struct reverse *reverse,
                        bulla_error *error)
{
    size_t edges = 0, total = (size_t)automaton->states * automaton->classes;
    reverse->first = arena_alloc(arena, (size_t)automaton->states + 2, sizeof *reverse->first, error);
    if (!reverse->first)
        return error->code;
    for (size_t i = 0; i < total; i++)
        if (automaton->next[i] != AUTOMATON_DEAD) {
            reverse->first[automaton->next[i] + 2]++;
            edges++;
        }
    reverse->sources = arena_alloc(arena, edges, sizeof *reverse->sources, error);
    if (!reverse->sources)
        return error->code;
    for (uint32_t state = 2; state <= automaton->states + 1; state++)
        reverse->first[state] += reverse->first[state - 1];
    for (size_t i = 0; i < total; i++)
        if (automaton->next[i] != AUTOMATON_DEAD)
            reverse->sources[reverse->first[automaton->next[i] + 1]++] = (uint32_t)(i / automaton->classes);
    return BULLA_OK;
}

static void remove_dead(struct automaton *automaton, const struct reverse *reverse, uint8_t *live, uint32_t *queue)
{
    uint32_t count = 0;
    for (uint32_t state = 0; state < automaton->states; state++)
        if (automaton->accepts[state]) {
            live[state] = 1;
            queue[count++] = state;
        }
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t edge = reverse->first[queue[i]]; edge < reverse->first[queue[i] + 1]; edge++)
            if (!live[reverse->sources[edge]]) {
                live[reverse->sources[edge]] = 1;
                queue[count++] = reverse->sources[edge];
            }
    size_t total = (size_t)automaton->states * automaton->classes;
    for (size_t i = 0; i < total; i++)
        if (automaton->next[i] != AUTOMATON_DEAD && !live[automaton->next[i]])
            automaton->next[i] = AUTOMATON_DEAD;
    if (automaton->start != AUTOMATON_DEAD && !live[automaton->start])
        automaton->start = AUTOMATON_DEAD;
}

static uint16_t count_completions(const struct automaton *automaton, uint32_t state, const uint32_t *sizes)
{
    uint64_t count = automaton->accepts[state];
    for (uint32_t class = 0; class < automaton->classes; class++) {
        uint32_t target = automaton->next[(size_t)state * automaton->classes + class];
        if (target != AUTOMATON_DEAD)
            count += (uint64_t)sizes[class] * automaton->completions[target];
    }
    return count < AUTOMATON_MANY ? (uint16_t)count : AUTOMATON_MANY;
}

/* States are taken away once all that they lead to are; what stays is on the way to a cycle and has no end of
 * completions. */
static void count_all_completions(struct automaton *automaton, const struct reverse *reverse, const uint8_t *live,
                                  uint32_t *left, uint32_t *queue, const uint32_t *sizes)
{
    uint32_t count = 0;
    for (uint32_t state = 0; state < automaton->states; state++) {
        automaton->completions[state] = live[state] ? AUTOMATON_MANY : 0;
        left[state] = 0;
        for (uint32_t class = 0; class < automaton->classes; class++)
            left[state] += automaton->next[(size_t)state * automaton->classes + class] != AUTOMATON_DEAD;
        if (live[state] && left[state] == 0)
            queue[count++] = state;
    }
    for (uint32_t i = 0; i < count; i++) {
        automaton->completions[queue[i]] = count_completions(automaton, queue[i], sizes);
        for (uint32_t edge = reverse->first[queue[i]]; edge < reverse->first[queue[i] + 1]; edge++)
            if (live[reverse->sources[edge]] && --left[reverse->sources[edge]] == 0)
                queue[count++] = reverse->sources[edge];
    }
}

static void find_free(struct automaton *automaton, const uint8_t *live)
{
    uint32_t surrogates = automaton_class_of(automaton, FIRST_SURROGATE);
    automaton->is_free = automaton->start != AUTOMATON_DEAD;
    for (uint32_t state = 0; state < automaton->states && automaton->is_free; state++)
        for (uint32_t class = 0; class < automaton->classes && live[state]; class++) {
            uint32_t target = automaton->next[(size_t)state * automaton->classes + class];
            if (class != surrogates && (target == AUTOMATON_DEAD || automaton->completions[target] < AUTOMATON_MANY))
                automaton->is_free = 0;
        }
}

/* What automaton_finish costs: a handful of walks over all transitions, two of them out of order. */
static uint64_t finish_cost(const struct automaton *automaton)
{
    return 1000 + 30 * (uint64_t)automaton->states + 8 * (uint64_t)automaton->states * automaton->classes +
           4 * (uint64_t)automaton->intervals;
}

int automaton_finish(struct arena *arena, struct work *work, struct automaton *automaton, bulla_error *error)
{
    struct arena scratch = {.limit = arena->limit};
    struct reverse reverse = {0};
    if (work_take(work, finish_cost(automaton), error))
        return error->code;
    kill_surrogates(automaton);
    uint8_t *live = arena_alloc(&scratch, automaton->states, 1, error);
    uint32_t *queue = arena_alloc(&scratch, automaton->states, sizeof *queue, error);
    uint32_t *left = arena_alloc(&scratch, automaton->states, sizeof *left, error);
    uint32_t *sizes = class_sizes(&scratch, automaton, error);
    int code = !live || !queue || !left || !sizes ? error->code : make_reverse(&scratch, automaton, &reverse, error);
    if (code == BULLA_OK) {
        remove_dead(automaton, &reverse, live, queue);
        count_all_completions(automaton, &reverse, live, left, queue, sizes);
        find_free(automaton, live);
    }
    arena_free(&scratch);
    return code;
}

struct automaton *automaton_universal(struct arena *arena, struct work *work, bulla_error *error)
{
    return automaton_from_length(arena, work, 0, UINT32_MAX, error);
}

struct automaton *automaton_from_length(struct arena *arena, struct work *work, uint32_t minimum, uint32_t maximum,
                                        bulla_error *error)
{
    static const uint32_t zero = 0;
    uint32_t last = maximum == UINT32_MAX ? minimum : maximum;
    if (last >= AUTOMATON_MAX_STATES) {
        bulla_fail(error, BULLA_E_LIMIT, "lengths up to %u are too long to be counted here", last);
        return NULL;
    }
    struct automaton *automaton = automaton_new(arena, work, last + 1, &zero, NULL, 1, 1, error);
    if (!automaton)
        return NULL;
    for (uint32_t state = 0; state <= last; state++) {
        automaton->accepts[state] = state >= minimum;
        uint32_t target = state < last ? state + 1 : maximum == UINT32_MAX ? state : AUTOMATON_DEAD;
        for (uint32_t class = 0; class < automaton->classes; class++)
            automaton->next[(size_t)state * automaton->classes + class] = target;
    }
    return automaton_finish(arena, work, automaton, error) ? NULL : automaton;
}

static int compare_numbers(const void *a, const void *b)
{
    uint32_t first = *(const uint32_t *)a, second = *(const uint32_t *)b;
    return (first > second) - (first < second);
}

/* Ascending, each once. */
static size_t sort_unique(uint32_t *items, size_t count)
{
    size_t used = 0;
    qsort(items, count, sizeof *items, compare_numbers);
    for (size_t i = 0; i < count; i++)
        if (used == 0 || items[used - 1] != items[i])
            items[used++] = items[i];
    return used;
}

/* The intervals that words tell apart: each character's own, and those between, which are of class 0. */
struct word_intervals {
    uint32_t *lows;
    uint16_t *classes;
    uint32_t count, class_count;
};

static void add_word_interval(struct word_intervals *intervals, uint32_t low, uint32_t class)
{
    intervals->lows[intervals->count] = low;
    intervals->classes[intervals->count++] = (uint16_t)class;
}

static int find_word_intervals(struct arena *scratch, struct work *work, const struct code_points *words, size_t count,
                               size_t characters, struct word_intervals *intervals, bulla_error *error)
{
    uint32_t *items = work_alloc(work, scratch, characters, sizeof *items, error);
    intervals->lows = work_alloc(work, scratch, 2 * characters + 1, sizeof *intervals->lows, error);
    intervals->classes = work_alloc(work, scratch, 2 * characters + 1, sizeof *intervals->classes, error);
    if (!items || !intervals->lows || !intervals->classes || work_take(work, work_to_sort(characters), error))
        return error->code;
    size_t used = 0;
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < words[i].count; j++)
            items[used++] = words[i].items[j];
    used = sort_unique(items, used);
    intervals->class_count = (uint32_t)used + 1;
    if (used == 0 || items[0] > 0)
        add_word_interval(intervals, 0, 0);
    for (size_t i = 0; i < used; i++) {
        add_word_interval(intervals, items[i], (uint32_t)i + 1);
        if (items[i] < AUTOMATON_LAST_CODE_POINT && (i + 1 == used || items[i + 1] > items[i] + 1))
            add_word_interval(intervals, items[i] + 1, 0);
    }
    return BULLA_OK;
}

static void write_words(struct automaton *automaton, const struct code_points *words, size_t count)
{
    uint32_t states = 1;
    for (size_t i = 0; i < count; i++) {
        uint32_t state = 0;
        for (size_t j = 0; j < words[i].count; j++) {
            uint32_t class = automaton_class_of(automaton, words[i].items[j]);
            uint32_t *next = &automaton->next[(size_t)state * automaton->classes + class];
            if (*next == AUTOMATON_DEAD)
                *next = states++;
            state = *next;
        }
        automaton->accepts[state] = 1;
    }
    automaton->states = states;
}

struct automaton *automaton_from_words(struct arena *arena, struct work *work, const struct code_points *words,
                                       size_t count, bulla_error *error)
{
    size_t characters = 0;
    for (size_t i = 0; i < count; i++)
        characters += words[i].count;
    if (characters >= AUTOMATON_MAX_STATES) {
        bulla_fail(error, BULLA_E_LIMIT, "a list of texts has %zu characters; at most %d are possible", characters,
                   AUTOMATON_MAX_STATES - 1);
        return NULL;
    }
    struct arena scratch = {.limit = arena->limit};
    struct automaton *automaton = NULL;
    struct word_intervals intervals = {0};
    if (!find_word_intervals(&scratch, work, words, count, characters, &intervals, error) &&
        !work_take(work, 10 * (uint64_t)count + 40 * (uint64_t)characters, error))
        automaton = automaton_new(arena, work, (uint32_t)characters + 1, intervals.lows, intervals.classes,
                                  intervals.count, intervals.class_count, error);
    arena_free(&scratch);
    if (!automaton)
        return NULL;
    write_words(automaton, words, count);
    return automaton_finish(arena, work, automaton, error) ? NULL : automaton;
}
