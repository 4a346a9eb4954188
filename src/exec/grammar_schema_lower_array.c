/* An array's machine: which items may follow, by how many there are and how many of them satisfied each "contains". */
#include <string.h>

#include "exec/grammar_compile.h"

enum { MAX_CONTAINS = 3, MAX_NUMBERS = 1 << 20 };

struct place {
    uint32_t index, counts[MAX_CONTAINS];
};

struct array_builder {
    struct compiler *compiler;
    const struct array_part *array;
    uint32_t maximum, last; /* `last`: indexes from here on are alike, where there is no maximum */
    uint32_t caps[MAX_CONTAINS];
    uint32_t *numbers; /* of places; 0: none yet */
    LIST(struct place) places;
    LIST(uint32_t) first_edges;
    LIST(struct item_edge) edges;
};

static int has_scalar(struct compiler *compiler, uint32_t expression, int *has_other)
{
    const struct cells *cells = expression_cells(compiler, expression);
    int scalar = 0;
    compiler_work(compiler, 20 + 10 * (uint64_t)cells->count);
    for (size_t i = 0; i < cells->count; i++) {
        scalar |= (cells->items[i]->types & TYPE_SCALAR) != 0;
        *has_other |= (cells->items[i]->types & ~(unsigned)TYPE_SCALAR) != 0;
    }
    return scalar;
}

/* Items that must differ are written as scalars only: whether arrays and objects are equal is not seen in their text.
 */
static void check_unique(struct compiler *compiler, const struct array_part *array)
{
    for (size_t i = 0; i <= array->prefix.count && i <= array->maximum; i++) {
        int has_other = 0;
        uint32_t expression = i < array->prefix.count ? array->prefix.items[i] : array->rest;
        if (!has_scalar(compiler, expression, &has_other) && has_other)
            node_refuse(compiler, array->unique - 1, "uniqueItems", BULLA_E_UNSUPPORTED, "items that are arrays or "
                        "objects cannot be told apart; items that are strings, numbers, booleans or null can");
    }
}

static int prepare(struct array_builder *builder)
{
    struct compiler *compiler = builder->compiler;
    const struct array_part *array = builder->array;
    uint32_t most = array->unique ? GRAMMAR_MAX_OTHERS : GRAMMAR_MAX_ITEMS;
    builder->maximum = array->maximum;
    if (array->unique ? array->maximum > most : array->maximum != GRAMMAR_ENDLESS && array->maximum > most)
        builder->maximum = most;
    if (array->minimum > most || array->prefix.count > most)
        return bulla_fail(compiler->error, BULLA_E_LIMIT,
                          "schema: \"minItems\" or \"prefixItems\": arrays of more than "
                          "%u items are not written",
                          most);
    if (array->contains.count > MAX_CONTAINS)
        return bulla_fail(compiler->error, BULLA_E_UNSUPPORTED, "schema: more than %d \"contains\" apply to one array",
                          MAX_CONTAINS);
    builder->last = builder->maximum;
    if (builder->maximum == GRAMMAR_ENDLESS) {
        builder->last = (uint32_t)array->prefix.count > array->minimum ? (uint32_t)array->prefix.count : array->minimum;
        for (size_t i = 0; i < array->contains.count; i++)
            if (array->contains.items[i].from > builder->last)
                builder->last = array->contains.items[i].from;
    }
    uint64_t places = (uint64_t)builder->last + 1;
    for (size_t i = 0; i < array->contains.count; i++) {
        const struct contains *contains = &array->contains.items[i];
        builder->caps[i] = contains->maximum != GRAMMAR_ENDLESS ? contains->maximum : contains->minimum;
        places *= (uint64_t)builder->caps[i] + 1;
    }
    if (places > MAX_NUMBERS || !compiler_work(compiler, 20 * places))
        return bulla_fail(compiler->error, BULLA_E_LIMIT, "schema: \"contains\" with these numbers of items is too "
                          "large");
    builder->numbers = compiler_alloc(compiler, places, sizeof *builder->numbers);
    return compiler->error->code;
}

static uint32_t number_of(struct array_builder *builder, struct place place)
{
    uint64_t key = place.index;
    for (size_t i = 0; i < builder->array->contains.count; i++)
        key = key * ((uint64_t)builder->caps[i] + 1) + place.counts[i];
    if (builder->numbers[key] == 0) {
        LIST_ADD(builder->compiler, builder->places, place);
        builder->numbers[key] = (uint32_t)builder->places.count;
    }
    return builder->numbers[key] - 1;
}

/* The item after `place` that counts for the "contains" of `bits`; for the others it does not, or need not be known to.
 * EXPRESSION_FALSE where that is no item of use. */
static uint32_t item_of(struct array_builder *builder, struct place *place, unsigned bits)
{
    struct compiler *compiler = builder->compiler;
    const struct array_part *array = builder->array;
    uint32_t expression =
        place->index < array->prefix.count ? array->prefix.items[place->index] : array->rest;
    for (size_t i = 0; i < array->contains.count; i++) {
        const struct contains *contains = &array->contains.items[i];
        int counts = bits >> i & 1;
        if (place->index < contains->from) {
            if (counts)
                return EXPRESSION_FALSE;
            continue;
        }
        if (counts && place->counts[i] == builder->caps[i])
            return EXPRESSION_FALSE;
        place->counts[i] += (uint32_t)counts;
        if (counts)
            expression = expression_and(compiler, expression, expression_of(compiler, contains->literal));
        else if (contains->maximum != GRAMMAR_ENDLESS)
            expression = expression_and(compiler, expression, expression_of(compiler, contains->literal ^ 1));
    }
    if (place->index < builder->last)
        place->index++;
    return expression;
}

static void add_edges(struct array_builder *builder, struct place place)
{
    if (place.index == builder->maximum)
        return;
    unsigned ways = 1u << builder->array->contains.count;
    for (unsigned bits = 0; bits < ways && compiler_work(builder->compiler, 60); bits++) {
        struct place next = place;
        uint32_t expression = item_of(builder, &next, bits);
        if (expression == EXPRESSION_FALSE || builder->compiler->error->code)
            continue;
        struct item_edge edge = {rule_of(builder->compiler, expression, builder->array->unique != 0),
                                 number_of(builder, next)};
        LIST_ADD(builder->compiler, builder->edges, edge);
    }
}

static int place_accepts(const struct array_builder *builder, const struct place *place)
{
    for (size_t i = 0; i < builder->array->contains.count; i++)
        if (place->counts[i] < builder->array->contains.items[i].minimum)
            return 0;
    return place->index >= builder->array->minimum;
}

static uint32_t write_items(struct array_builder *builder)
{
    struct compiler *compiler = builder->compiler;
    size_t states = builder->places.count;
    struct items *items = grammar_alloc(compiler, 1, sizeof *items);
    uint32_t *first = grammar_alloc(compiler, states + 1, sizeof *first);
    struct item_edge *edges = grammar_alloc(compiler, builder->edges.count, sizeof *edges);
    uint8_t *accepts = grammar_alloc(compiler, states, 1);
    uint8_t *depths = grammar_alloc(compiler, states, 1);
    uint16_t *indexes = grammar_alloc(compiler, states, sizeof *indexes);
    if (compiler->error->code)
        return GRAMMAR_ENDLESS;
    memcpy(first, builder->first_edges.items, states * sizeof *first);
    first[states] = (uint32_t)builder->edges.count;
    if (builder->edges.count > 0)
        memcpy(edges, builder->edges.items, builder->edges.count * sizeof *edges);
    for (size_t i = 0; i < states; i++) {
        accepts[i] = (uint8_t)place_accepts(builder, &builder->places.items[i]);
        indexes[i] = (uint16_t)builder->places.items[i].index;
    }
    memset(depths, GRAMMAR_NO_DEPTH, states);
    *items = (struct items){.states = (uint32_t)states, .first_edge = first, .edges = edges, .accepts = accepts,
                            .depths = depths, .unique = builder->array->unique != 0, .indexes = indexes};
    return grammar_add_array(compiler, items);
}

uint32_t array_lower(struct compiler *compiler, const struct array_part *array)
{
    struct array_part own = *array;
    if (own.maximum <= 1)
        own.unique = 0;
    struct array_builder builder = {.compiler = compiler, .array = &own};
    if (own.unique)
        check_unique(compiler, &own);
    if (compiler->error->code || prepare(&builder))
        return GRAMMAR_ENDLESS;
    number_of(&builder, (struct place){0});
    for (size_t i = 0; i < builder.places.count && compiler_work(compiler, 40); i++) {
        LIST_ADD(compiler, builder.first_edges, (uint32_t)builder.edges.count);
        add_edges(&builder, builder.places.items[i]);
    }
    return compiler->error->code ? GRAMMAR_ENDLESS : write_items(&builder);
}
