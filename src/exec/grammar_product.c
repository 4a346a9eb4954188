/* Several automata run at once: the common refinement of their intervals, and the tuples of their states that can be
 * reached. */
#include <string.h>

#include "exec/grammar_automaton.h"

/* Tuples of `width` words, each once, numbered in the order in which they were found. */
struct tuples {
    struct arena *arena;
    struct work *work;
    uint32_t *items, *slots;
    size_t width, count, capacity, mask;
};

static uint64_t hash_words(const uint32_t *words, size_t count)
{
    uint64_t hash = UINT64_C(0x9E3779B97F4A7C15);
    for (size_t i = 0; i < count; i++) {
        hash = (hash ^ words[i]) * UINT64_C(0xD6E8FEB86659FD93);
        hash ^= hash >> 32;
    }
    return hash;
}

static int tuples_grow(struct tuples *tuples, bulla_error *error)
{
    size_t capacity = tuples->capacity ? 2 * tuples->capacity : 64, slots = 2 * capacity;
    uint32_t *items = work_alloc(tuples->work, tuples->arena, capacity * tuples->width + 1, sizeof *items, error);
    uint32_t *table = work_alloc(tuples->work, tuples->arena, slots, sizeof *table, error);
    if (!items || !table || work_take(tuples->work, tuples->count * (15 + 2 * tuples->width), error))
        return error->code;
    if (tuples->count > 0)
        memcpy(items, tuples->items, tuples->count * tuples->width * sizeof *items);
    for (size_t i = 0; i < tuples->count; i++) {
        size_t slot = hash_words(items + i * tuples->width, tuples->width) & (slots - 1);
        while (table[slot])
            slot = (slot + 1) & (slots - 1);
        table[slot] = (uint32_t)i + 1;
    }
    tuples->items = items;
    tuples->slots = table;
    tuples->capacity = capacity;
    tuples->mask = slots - 1;
    return BULLA_OK;
}

/* The tuple's number, AUTOMATON_DEAD after an error. */
static uint32_t tuples_add(struct tuples *tuples, const uint32_t *tuple, bulla_error *error)
{
    if (tuples->count == tuples->capacity && tuples_grow(tuples, error))
        return AUTOMATON_DEAD;
    size_t bytes = tuples->width * sizeof *tuple;
    size_t slot = hash_words(tuple, tuples->width) & tuples->mask;
    for (; tuples->slots[slot]; slot = (slot + 1) & tuples->mask) {
        uint32_t found = tuples->slots[slot] - 1;
        if (bytes == 0 || memcmp(tuples->items + found * tuples->width, tuple, bytes) == 0)
            return found;
    }
    if (bytes > 0)
        memcpy(tuples->items + tuples->count * tuples->width, tuple, bytes);
    tuples->slots[slot] = (uint32_t)++tuples->count;
    return (uint32_t)tuples->count - 1;
}

/* The intervals on each of which every component stays in one class. */
static size_t merge_lows(const struct automaton *const *components, size_t count, uint32_t *lows)
{
    uint32_t at[AUTOMATON_MAX_COMPONENTS] = {0};
    size_t used = 0;
    for (;;) {
        uint32_t low = UINT32_MAX;
        for (size_t i = 0; i < count; i++)
            if (at[i] < components[i]->intervals && components[i]->lows[at[i]] < low)
                low = components[i]->lows[at[i]];
        if (low == UINT32_MAX)
            return used;
        lows[used++] = low;
        for (size_t i = 0; i < count; i++)
            if (at[i] < components[i]->intervals && components[i]->lows[at[i]] == low)
                at[i]++;
    }
}

struct product {
    struct arena scratch;
    struct work *work;
    const struct automaton *const *components;
    size_t count;
    uint32_t *lows;
    uint16_t *interval_class;
    size_t intervals;
    struct tuples classes, states;
    uint32_t *next; /* [capacity of rows * classes.count] */
    size_t rows;
};

static int make_classes(struct product *product, struct arena *arena, bulla_error *error)
{
    size_t most = 1;
    for (size_t i = 0; i < product->count; i++)
        most += product->components[i]->intervals;
    product->lows = work_alloc(product->work, arena, most, sizeof *product->lows, error);
    product->interval_class = work_alloc(product->work, arena, most, sizeof *product->interval_class, error);
    if (!product->lows || !product->interval_class ||
        work_take(product->work, most * (40 + 30 * product->count), error))
        return error->code;
    product->intervals = product->count ? merge_lows(product->components, product->count, product->lows) : 1;
    for (size_t i = 0; i < product->intervals; i++) {
        uint32_t tuple[AUTOMATON_MAX_COMPONENTS];
        for (size_t j = 0; j < product->count; j++)
            tuple[j] = automaton_class_of(product->components[j], product->lows[i]);
        uint32_t class = tuples_add(&product->classes, tuple, error);
        if (class >= UINT16_MAX)
            return bulla_fail(error, BULLA_E_LIMIT, "more than %d kinds of characters are told apart", UINT16_MAX);
        product->interval_class[i] = (uint16_t)class;
    }
    return BULLA_OK;
}

static int row_room(struct product *product, bulla_error *error)
{
    if (product->rows > product->states.count)
        return BULLA_OK;
    size_t rows = product->rows ? 2 * product->rows : 64, classes = product->classes.count;
    uint32_t *next = work_alloc(product->work, &product->scratch, rows * classes, sizeof *next, error);
    if (!next)
        return error->code;
    if (product->rows > 0)
        memcpy(next, product->next, product->rows * classes * sizeof *next);
    product->next = next;
    product->rows = rows;
    return BULLA_OK;
}

/* The tuple that all components step to; 0 when the whole can accept no longer. */
static int step_tuple(const struct product *product, uint32_t state, uint32_t class, uint64_t needed, uint32_t *tuple)
{
    const uint32_t *from = product->states.items + (size_t)state * product->count;
    const uint32_t *classes = product->classes.items + (size_t)class * product->count;
    for (size_t i = 0; i < product->count; i++) {
        const struct automaton *part = product->components[i];
        tuple[i] =
            from[i] == AUTOMATON_DEAD ? AUTOMATON_DEAD : part->next[(size_t)from[i] * part->classes + classes[i]];
        if (tuple[i] == AUTOMATON_DEAD && needed >> i & 1)
            return 0;
    }
    return 1;
}

static int explore(struct product *product, uint64_t needed, uint32_t most_states, bulla_error *error)
{
    uint32_t tuple[AUTOMATON_MAX_COMPONENTS];
    for (size_t i = 0; i < product->count; i++)
        tuple[i] = product->components[i]->start;
    tuples_add(&product->states, tuple, error);
    for (uint32_t state = 0; !error->code && state < product->states.count; state++) {
        if (product->states.count > most_states)
            return bulla_fail(error, BULLA_E_LIMIT, "together they need an automaton of more than %u states",
                              most_states);
        if (row_room(product, error) ||
            work_take(product->work, 20 + product->classes.count * (20 + 6 * product->count), error))
            return error->code;
        for (uint32_t class = 0; class < product->classes.count && !error->code; class++) {
            uint32_t target = step_tuple(product, state, class, needed, tuple)
                                  ? tuples_add(&product->states, tuple, error) : AUTOMATON_DEAD;
            product->next[(size_t)state * product->classes.count + class] = target;
        }
    }
    return error->code;
}

static uint64_t outputs_of(const struct product *product, size_t state)
{
    uint64_t outputs = 0;
    for (size_t i = 0; i < product->count; i++) {
        uint32_t part = product->states.items[state * product->count + i];
        if (part != AUTOMATON_DEAD && product->components[i]->accepts[part])
            outputs |= UINT64_C(1) << i;
    }
    return outputs;
}

static struct automaton *write_product(struct product *product, struct arena *arena,
                                       struct automaton_condition condition, bulla_error *error)
{
    struct automaton *automaton = work_alloc(product->work, arena, 1, sizeof *automaton, error);
    size_t states = product->states.count, classes = product->classes.count;
    uint32_t *next = work_alloc(product->work, arena, states * classes, sizeof *next, error);
    uint8_t *accepts = work_alloc(product->work, arena, states, 1, error);
    uint16_t *completions = work_alloc(product->work, arena, states, sizeof *completions, error);
    uint64_t *outputs = work_alloc(product->work, arena, states, sizeof *outputs, error);
    if (!automaton || !next || !accepts || !completions || !outputs ||
        work_take(product->work, 1000 + states * (10 + 4 * product->count), error))
        return NULL;
    memcpy(next, product->next, states * classes * sizeof *next);
    for (size_t i = 0; i < states; i++) {
        outputs[i] = outputs_of(product, i);
        accepts[i] = (outputs[i] & condition.all) == condition.all && !(outputs[i] & condition.none) &&
                     (!condition.any || outputs[i] & condition.any);
    }
    *automaton = (struct automaton){.states = (uint32_t)states, .classes = (uint32_t)classes,
                                    .intervals = (uint32_t)product->intervals, .lows = product->lows,
                                    .interval_class = product->interval_class, .next = next, .accepts = accepts,
                                    .completions = completions, .outputs = outputs};
    automaton_set_ascii(automaton);
    return automaton_finish(arena, product->work, automaton, error) ? NULL : automaton;
}

struct automaton *automaton_product(struct arena *arena, struct work *work, const struct automaton *const *components,
                                    size_t count, struct automaton_condition condition, uint32_t most_states,
                                    bulla_error *error)
{
    if (count == 0)
        return automaton_universal(arena, work, error);
    if (count > AUTOMATON_MAX_COMPONENTS) {
        bulla_fail(error, BULLA_E_LIMIT, "%zu patterns apply at one place; at most %d can", count,
                   AUTOMATON_MAX_COMPONENTS);
        return NULL;
    }
    struct product product = {.scratch = {.limit = arena->limit}, .work = work, .components = components,
                              .count = count};
    product.classes = product.states = (struct tuples){.arena = &product.scratch, .work = work, .width = count};
    struct automaton *automaton = NULL;
    if (!make_classes(&product, arena, error) && !explore(&product, condition.all, most_states, error))
        automaton = write_product(&product, arena, condition, error);
    arena_free(&product.scratch);
    return automaton;
}

int automaton_select(struct arena *arena, struct work *work, struct automaton *automaton,
                     int (*is_wanted)(const void *context, uint64_t outputs), const void *context, bulla_error *error)
{
    for (uint32_t state = 0; state < automaton->states; state++)
        automaton->accepts[state] = automaton->outputs && is_wanted(context, automaton->outputs[state]);
    return automaton_finish(arena, work, automaton, error);
}
