/* Cells and lists of them: what a value must satisfy, type by type, and the conjunction of such. */
#include <string.h>

#include "exec/grammar_compile.h"

enum {
    MAX_CELLS = 4096,
    CELL_COST = 700 /* of joining two, beside what their lists cost */
};

struct cell *cell_new(struct compiler *compiler, unsigned types)
{
    struct cell *cell = compiler_alloc(compiler, 1, sizeof *cell);
    if (!cell)
        return NULL;
    cell->types = types;
    cell->string.maximum = cell->array.maximum = cell->object.maximum = GRAMMAR_ENDLESS;
    cell->array.rest = EXPRESSION_TRUE;
    return cell;
}

void cells_add(struct compiler *compiler, struct cells *cells, struct cell *cell)
{
    if (!cell || !cells)
        return;
    if (cells->count >= MAX_CELLS)
        bulla_fail(compiler->error, BULLA_E_LIMIT, "the schema combines alternatives to more than %d", MAX_CELLS);
    LIST_ADD(compiler, *cells, cell);
}

void cells_join(struct compiler *compiler, struct cells *cells, const struct cells *other)
{
    for (size_t i = 0; other && i < other->count; i++)
        cells_add(compiler, cells, other->items[i]);
}

struct cells *cells_universal(struct compiler *compiler)
{
    struct cells *cells = compiler_alloc(compiler, 1, sizeof *cells);
    cells_add(compiler, cells, cell_new(compiler, TYPE_ANY));
    return cells;
}

/* `from` after `to`. The lists are those of two cells, so their items must not be shared while they grow. */
#define LIST_JOIN(compiler, to, from)                                \
    do {                                                             \
        for (size_t join = 0; join < (from).count; join++)           \
            LIST_ADD((compiler), (to), (from).items[join]);          \
    } while (0)

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static int number_word_fits(const struct number_part *number, const struct number_word *word)
{
    struct number_rules rules = {.integer = number->integer, .fractional = number->fractional,
                                 .limits = number->limits.items, .limit_count = number->limits.count,
                                 .multiples = number->multiples.items, .multiple_count = number->multiples.count};
    if (!number_satisfies(&rules, &word->value))
        return 0;
    for (size_t i = 0; number->is_finite && i < number->words.count; i++)
        if (decimal_compare(&number->words.items[i].value, &word->value) == 0)
            return 1;
    return !number->is_finite;
}

static void number_and(struct compiler *compiler, struct number_part *out, const struct number_part *a,
                       const struct number_part *b)
{
    *out = (struct number_part){.integer = a->integer || b->integer, .fractional = a->fractional || b->fractional};
    LIST_JOIN(compiler, out->limits, a->limits);
    LIST_JOIN(compiler, out->limits, b->limits);
    LIST_JOIN(compiler, out->multiples, a->multiples);
    LIST_JOIN(compiler, out->multiples, b->multiples);
    const struct number_part *finite = a->is_finite ? a : b, *other = a->is_finite ? b : a;
    uint64_t word_cost = 40 * (uint64_t)out->limits.count + 1000 * (uint64_t)out->multiples.count;
    for (size_t i = 0; finite->is_finite && i < finite->words.count; i++)
        if (compiler_work(compiler, 20 + word_cost + 50 * (uint64_t)other->words.count) &&
            number_word_fits(out, &finite->words.items[i]) && number_word_fits(other, &finite->words.items[i]))
            LIST_ADD(compiler, out->words, finite->words.items[i]);
    out->is_finite = finite->is_finite;
}

static int string_word_fits(struct compiler *compiler, const struct string_part *string, const struct text *word)
{
    struct code_points code_points = text_code_points(compiler, word);
    if (!compiler_work(compiler, string->patterns.count * (20 + 4 * (uint64_t)word->length)))
        return 0;
    if (code_points.count < string->minimum ||
        (string->maximum != GRAMMAR_ENDLESS && code_points.count > string->maximum))
        return 0;
    if (string->is_finite && texts_find(compiler, &string->words, word) == GRAMMAR_ENDLESS)
        return 0;
    for (size_t i = 0; i < string->patterns.count; i++)
        if (automaton_accepts(string->patterns.items[i].automaton, code_points.items, code_points.count) ==
            string->patterns.items[i].negated)
            return 0;
    return texts_find(compiler, &string->excluded, word) == GRAMMAR_ENDLESS;
}

static void string_and(struct compiler *compiler, struct string_part *out, const struct string_part *a,
                       const struct string_part *b)
{
    *out = (struct string_part){.minimum = larger(a->minimum, b->minimum), .maximum = smaller(a->maximum, b->maximum)};
    LIST_JOIN(compiler, out->patterns, a->patterns);
    LIST_JOIN(compiler, out->patterns, b->patterns);
    texts_join(compiler, &out->excluded, &a->excluded);
    texts_join(compiler, &out->excluded, &b->excluded);
    const struct string_part *finite = a->is_finite ? a : b, *other = a->is_finite ? b : a;
    for (size_t i = 0; finite->is_finite && i < finite->words.count; i++)
        if (string_word_fits(compiler, out, &finite->words.items[i]) &&
            string_word_fits(compiler, other, &finite->words.items[i]))
            texts_add(compiler, &out->words, &finite->words.items[i]);
    out->is_finite = finite->is_finite;
}

static uint32_t item_expression(const struct array_part *array, size_t index)
{
    return index < array->prefix.count ? array->prefix.items[index] : array->rest;
}

static void array_and(struct compiler *compiler, struct array_part *out, const struct array_part *a,
                      const struct array_part *b)
{
    size_t prefix = a->prefix.count > b->prefix.count ? a->prefix.count : b->prefix.count;
    *out = (struct array_part){.minimum = larger(a->minimum, b->minimum), .maximum = smaller(a->maximum, b->maximum),
                               .unique = a->unique ? a->unique : b->unique};
    for (size_t i = 0; i < prefix; i++)
        LIST_ADD(compiler, out->prefix, expression_and(compiler, item_expression(a, i), item_expression(b, i)));
    out->rest = expression_and(compiler, a->rest, b->rest);
    LIST_JOIN(compiler, out->contains, a->contains);
    LIST_JOIN(compiler, out->contains, b->contains);
}

static void join_properties(struct compiler *compiler, struct object_part *object, const struct properties *other)
{
    for (size_t i = 0; i < other->keys.count && !compiler->error->code; i++)
        property_add(compiler, object, &other->keys.items[i], other->expressions.items[i]);
}

static void object_and(struct compiler *compiler, struct object_part *out, const struct object_part *a,
                       const struct object_part *b)
{
    *out = (struct object_part){.minimum = larger(a->minimum, b->minimum), .maximum = smaller(a->maximum, b->maximum)};
    join_properties(compiler, out, &a->properties);
    join_properties(compiler, out, &b->properties);
    LIST_JOIN(compiler, out->patterns, a->patterns);
    LIST_JOIN(compiler, out->patterns, b->patterns);
    LIST_JOIN(compiler, out->additional, a->additional);
    LIST_JOIN(compiler, out->additional, b->additional);
    LIST_JOIN(compiler, out->names, a->names);
    LIST_JOIN(compiler, out->names, b->names);
    texts_join(compiler, &out->required, &a->required);
    texts_join(compiler, &out->required, &b->required);
}

static void evaluated_and(struct compiler *compiler, struct evaluated *out, const struct evaluated *a,
                          const struct evaluated *b)
{
    *out = (struct evaluated){.all_members = a->all_members || b->all_members,
                              .all_items = a->all_items || b->all_items,
                              .prefix = larger(a->prefix, b->prefix)};
    texts_join(compiler, &out->members.names, &a->members.names);
    texts_join(compiler, &out->members.names, &b->members.names);
    LIST_JOIN(compiler, out->members.patterns, a->members.patterns);
    LIST_JOIN(compiler, out->members.patterns, b->members.patterns);
    LIST_JOIN(compiler, out->contains, a->contains);
    LIST_JOIN(compiler, out->contains, b->contains);
}

static struct cell *cell_and(struct compiler *compiler, const struct cell *a, const struct cell *b)
{
    unsigned types = a->types & b->types;
    struct cell *out = types ? cell_new(compiler, types) : NULL;
    if (!out)
        return NULL;
    if (types & TYPE_NUMBER)
        number_and(compiler, &out->number, &a->number, &b->number);
    if (types & TYPE_STRING)
        string_and(compiler, &out->string, &a->string, &b->string);
    if (types & TYPE_ARRAY)
        array_and(compiler, &out->array, &a->array, &b->array);
    if (types & TYPE_OBJECT)
        object_and(compiler, &out->object, &a->object, &b->object);
    evaluated_and(compiler, &out->evaluated, &a->evaluated, &b->evaluated);
    return out;
}

struct cells *cells_and(struct compiler *compiler, const struct cells *a, const struct cells *b)
{
    struct cells *cells = compiler_alloc(compiler, 1, sizeof *cells);
    for (size_t i = 0; cells && a && i < a->count; i++)
        for (size_t j = 0; b && j < b->count; j++) {
            if (!compiler_work(compiler, CELL_COST))
                return cells;
            struct cell *cell = cell_and(compiler, a->items[i], b->items[j]);
            if (cell && cell_is_possible(compiler, cell, 2))
                cells_add(compiler, cells, cell);
        }
    return cells;
}

static int pattern_accepts(const struct automaton *automaton, const struct code_points *key)
{
    return automaton_accepts(automaton, key->items, key->count);
}

/* Keys that only one reading of a pattern matches count as unmatched: what applies to both cases then applies. */
static int key_set_holds(struct compiler *compiler, const struct key_set *set, const struct text *key,
                         const struct code_points *code_points)
{
    if (texts_find(compiler, &set->names, key) != GRAMMAR_ENDLESS)
        return 1;
    if (!compiler_work(compiler, 10 + set->patterns.count * (10 + 4 * (uint64_t)key->length)))
        return 0;
    for (size_t i = 0; i < set->patterns.count; i++)
        if (pattern_accepts(set->patterns.items[i].lower, code_points))
            return 1;
    return 0;
}

uint32_t object_expression(struct compiler *compiler, const struct object_part *object, const struct text *key)
{
    struct code_points code_points = text_code_points(compiler, key);
    uint32_t expression = EXPRESSION_TRUE;
    uint32_t number = texts_find(compiler, &object->properties.keys, key);
    if (number != GRAMMAR_ENDLESS)
        expression = object->properties.expressions.items[number];
    if (!compiler_work(compiler, 50 + object->patterns.count * (10 + 4 * (uint64_t)key->length)))
        return EXPRESSION_FALSE;
    for (size_t i = 0; i < object->patterns.count; i++)
        if (pattern_accepts(object->patterns.items[i].pattern.upper, &code_points))
            expression = expression_and(compiler, expression, object->patterns.items[i].expression);
    for (size_t i = 0; i < object->additional.count; i++)
        if (!key_set_holds(compiler, &object->additional.items[i].except, key, &code_points))
            expression = expression_and(compiler, expression, object->additional.items[i].expression);
    return expression;
}

static int numbers_are_possible(struct compiler *compiler, const struct number_part *number)
{
    if (number->is_finite)
        return number->words.count > 0;
    if (!compiler_work(compiler, 50 * (uint64_t)number->limits.count * number->limits.count))
        return 0;
    if (number->integer && number->fractional)
        return 0;
    for (size_t i = 0; i < number->limits.count; i++)
        for (size_t j = 0; j < number->limits.count; j++) {
            const struct number_limit *low = &number->limits.items[i], *high = &number->limits.items[j];
            int is_low = low->relation == NUMBER_ABOVE || low->relation == NUMBER_AT_LEAST;
            int is_high = high->relation == NUMBER_BELOW || high->relation == NUMBER_AT_MOST;
            int order = decimal_compare(&low->value, &high->value);
            int touches = low->relation == NUMBER_AT_LEAST && high->relation == NUMBER_AT_MOST;
            if (is_low && is_high && (order > 0 || (order == 0 && !touches)))
                return 0;
        }
    return 1;
}

/* An item that cannot be ends the array before it. */
static int arrays_are_possible(struct compiler *compiler, struct array_part *array)
{
    for (size_t i = 0; i < array->prefix.count; i++)
        if (expression_is_empty(compiler, array->prefix.items[i], 1))
            array->maximum = smaller(array->maximum, (uint32_t)i);
    if (expression_is_empty(compiler, array->rest, 1))
        array->maximum = smaller(array->maximum, (uint32_t)array->prefix.count);
    return array->minimum <= array->maximum;
}

static int objects_are_possible(struct compiler *compiler, const struct object_part *object, int depth)
{
    if (object->minimum > object->maximum || object->required.count > object->maximum)
        return 0;
    for (size_t i = 0; i < object->required.count; i++)
        if (expression_is_empty(compiler, object_expression(compiler, object, &object->required.items[i]), depth))
            return 0;
    return 1;
}

int cell_is_possible(struct compiler *compiler, struct cell *cell, int depth)
{
    if (compiler->error->code)
        return 0;
    if (cell->types & TYPE_NUMBER && !numbers_are_possible(compiler, &cell->number))
        cell->types &= ~(unsigned)TYPE_NUMBER;
    if (cell->types & TYPE_STRING &&
        (cell->string.minimum > cell->string.maximum || (cell->string.is_finite && cell->string.words.count == 0)))
        cell->types &= ~(unsigned)TYPE_STRING;
    if (cell->types & TYPE_ARRAY && !arrays_are_possible(compiler, &cell->array))
        cell->types &= ~(unsigned)TYPE_ARRAY;
    if (cell->types & TYPE_OBJECT && !objects_are_possible(compiler, &cell->object, depth))
        cell->types &= ~(unsigned)TYPE_OBJECT;
    return cell->types != 0;
}
