#include "exec/grammar_automaton.h"

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

/* Arrays whose sizes are set; classes are the caller's. */
static struct automaton *allocate(struct arena *arena, uint32_t states, uint32_t classes, uint32_t intervals,
                                  bulla_error *error)
{
    if (states > AUTOMATON_MAX_STATES || classes > UINT16_MAX) {
        bulla_fail(error, BULLA_E_LIMIT, "an automaton of %u states and %u kinds of characters is needed; at most %d "
                   "and %d are possible", states, classes, AUTOMATON_MAX_STATES, UINT16_MAX);
        return NULL;
    }
    struct automaton *automaton = arena_alloc(arena, 1, sizeof *automaton, error);
    if (!automaton)
        return NULL;
    automaton->states = states;
    automaton->classes = classes;
    automaton->intervals = intervals;
    automaton->next = arena_alloc(arena, (size_t)states * classes, sizeof *automaton->next, error);
    automaton->accepts = arena_alloc(arena, states, 1, error);
    automaton->completions = arena_alloc(arena, states, sizeof *automaton->completions, error);
    if (!automaton->next || !automaton->accepts || !automaton->completions)
        return NULL;
    memset(automaton->next, 0xFF, (size_t)states * classes * sizeof *automaton->next);
    return automaton;
}

static void set_ascii(struct automaton *automaton)
{
    for (uint32_t c = 0; c < 128; c++)
        automaton->ascii_class[c] = (uint16_t)automaton_class_of(automaton, c);
}

struct automaton *automaton_new(struct arena *arena, uint32_t states, const uint32_t *boundaries, uint32_t count,
                                bulla_error *error)
{
    uint32_t *lows = arena_alloc(arena, (size_t)count + 3, sizeof *lows, error);
    uint16_t *classes = arena_alloc(arena, (size_t)count + 3, sizeof *classes, error);
    if (!lows || !classes)
        return NULL;
    uint32_t used = 0;
    static const uint32_t own[2] = {FIRST_SURROGATE, AFTER_SURROGATES};
    for (uint32_t i = 0, j = 0; i < count || j < 2;) {
        uint32_t low = j == 2 || (i < count && boundaries[i] <= own[j]) ? boundaries[i++] : own[j++];
        if (used == 0 || lows[used - 1] != low)
            lows[used++] = low;
    }
    if (used > UINT16_MAX) {
        bulla_fail(error, BULLA_E_LIMIT, "more than %d kinds of characters are told apart", UINT16_MAX);
        return NULL;
    }
    for (uint32_t i = 0; i < used; i++)
        classes[i] = (uint16_t)i;
    struct automaton *automaton = allocate(arena, states, used, used, error);
    if (!automaton)
        return NULL;
    automaton->lows = lows;
    automaton->interval_class = classes;
    set_ascii(automaton);
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

int automaton_finish(struct arena *arena, struct automaton *automaton, bulla_error *error)
{
    struct arena scratch = {.limit = arena->limit};
    struct reverse reverse = {0};
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

struct automaton *automaton_universal(struct arena *arena, bulla_error *error)
{
    return automaton_from_length(arena, 0, UINT32_MAX, error);
}

struct automaton *automaton_from_length(struct arena *arena, uint32_t minimum, uint32_t maximum, bulla_error *error)
{
    static const uint32_t zero = 0;
    uint32_t last = maximum == UINT32_MAX ? minimum : maximum;
    if (last >= AUTOMATON_MAX_STATES) {
        bulla_fail(error, BULLA_E_LIMIT, "lengths up to %u are too long to be counted here", last);
        return NULL;
    }
    struct automaton *automaton = automaton_new(arena, last + 1, &zero, 1, error);
    if (!automaton)
        return NULL;
    for (uint32_t state = 0; state <= last; state++) {
        automaton->accepts[state] = state >= minimum;
        uint32_t target = state < last ? state + 1 : maximum == UINT32_MAX ? state : AUTOMATON_DEAD;
        for (uint32_t class = 0; class < automaton->classes; class++)
            automaton->next[(size_t)state * automaton->classes + class] = target;
    }
    return automaton_finish(arena, automaton, error) ? NULL : automaton;
}

static void sort_words(uint32_t *items, size_t count)
{
    for (size_t gap = count / 2; gap > 0; gap /= 2)
        for (size_t i = gap; i < count; i++) {
            uint32_t item = items[i];
            size_t j = i;
            for (; j >= gap && items[j - gap] > item; j -= gap)
                items[j] = items[j - gap];
            items[j] = item;
        }
}

/* Ascending, each once. */
static size_t sort_unique(uint32_t *items, size_t count)
{
    size_t used = 0;
    sort_words(items, count);
    for (size_t i = 0; i < count; i++)
        if (used == 0 || items[used - 1] != items[i])
            items[used++] = items[i];
    return used;
}

struct automaton *automaton_from_words(struct arena *arena, const struct code_points *words, size_t count,
                                       bulla_error *error)
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
    uint32_t *boundaries = arena_alloc(&scratch, 2 * characters + 1, sizeof *boundaries, error);
    if (!boundaries)
        return NULL;
    size_t used = 1; /* boundaries[0] is 0 */
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < words[i].count; j++) {
            boundaries[used++] = words[i].items[j];
            boundaries[used++] = words[i].items[j] + 1;
        }
    used = sort_unique(boundaries, used);
    if (used > 1 && boundaries[used - 1] > AUTOMATON_LAST_CODE_POINT)
        used--;
    struct automaton *automaton = automaton_new(arena, (uint32_t)characters + 1, boundaries, (uint32_t)used, error);
    arena_free(&scratch);
    if (!automaton)
        return NULL;
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
    return automaton_finish(arena, automaton, error) ? NULL : automaton;
}
