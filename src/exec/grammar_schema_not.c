/* The negation of a schema, keyword by keyword: a value is refused where one of them refuses it. */
#include <string.h>

#include "exec/grammar_compile.h"

static const struct json *node_get(const struct compiler *compiler, uint32_t node, const char *keyword)
{
    return json_get(compiler->nodes.items[node].json, keyword);
}

static struct cell *add_cell(struct compiler *compiler, struct cells *cells, unsigned types)
{
    struct cell *cell = cell_new(compiler, types);
    cells_add(compiler, cells, cell);
    return cell;
}

static void refuse(struct compiler *compiler, uint32_t node, const char *keyword)
{
    node_refuse(compiler, node, keyword, BULLA_E_UNSUPPORTED, "it cannot be negated, as \"not\", \"oneOf\" or \"if\" "
                "needs here");
}

static void not_type(struct compiler *compiler, uint32_t node, struct cells *out)
{
    int integer_only = 0, with_integer = 0;
    unsigned types = read_types(compiler, node, &integer_only, &with_integer);
    if (types != TYPE_ANY)
        add_cell(compiler, out, TYPE_ANY & ~types);
    struct cell *fractional = integer_only ? add_cell(compiler, out, TYPE_NUMBER) : NULL;
    if (fractional)
        fractional->number.fractional = 1;
}

static void not_number(struct compiler *compiler, uint32_t node, struct cells *out)
{
    static const struct {
        const char *keyword;
        enum number_relation opposite;
    } limits[] = {{"minimum", NUMBER_BELOW}, {"maximum", NUMBER_ABOVE}, {"exclusiveMinimum", NUMBER_AT_MOST},
                  {"exclusiveMaximum", NUMBER_AT_LEAST}};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        const struct json *value = read_keyword(compiler, node, limits[i].keyword, JSON_NUMBER);
        struct cell *cell = value ? add_cell(compiler, out, TYPE_NUMBER) : NULL;
        if (cell)
            number_limit_add(compiler, &cell->number, limits[i].opposite, value);
    }
    const struct json *factor = read_keyword(compiler, node, "multipleOf", JSON_NUMBER);
    struct cell *cell = factor ? add_cell(compiler, out, TYPE_NUMBER) : NULL;
    struct number_multiple multiple = {.negated = 1};
    if (!cell || read_decimal(compiler, factor, &multiple.factor))
        return;
    if (multiple.factor.negative || multiple.factor.count == 0)
        node_refuse(compiler, node, "multipleOf", BULLA_E_INPUT, "it must be above 0");
    LIST_ADD(compiler, cell->number.multiples, multiple);
}

/* Values of `type` with a count outside what two keywords allow; `counts` finds the part of the cell. */
struct count_pair {
    uint32_t *minimum, *maximum;
};

static struct count_pair counts_of(struct cell *cell, unsigned type)
{
    if (type == TYPE_STRING)
        return (struct count_pair){&cell->string.minimum, &cell->string.maximum};
    if (type == TYPE_ARRAY)
        return (struct count_pair){&cell->array.minimum, &cell->array.maximum};
    return (struct count_pair){&cell->object.minimum, &cell->object.maximum};
}

static void not_counts(struct compiler *compiler, uint32_t node, struct cells *out, unsigned type, const char *least,
                       const char *most)
{
    uint32_t minimum = read_count_keyword(compiler, node, least, 0);
    uint32_t maximum = read_count_keyword(compiler, node, most, GRAMMAR_ENDLESS);
    struct cell *fewer = minimum > 0 ? add_cell(compiler, out, type) : NULL;
    struct cell *more = maximum < GRAMMAR_ENDLESS - 1 ? add_cell(compiler, out, type) : NULL;
    if (fewer)
        *counts_of(fewer, type).maximum = minimum - 1;
    if (more)
        *counts_of(more, type).minimum = maximum + 1;
}

static void not_string(struct compiler *compiler, uint32_t node, struct cells *out)
{
    const struct json *pattern = read_keyword(compiler, node, "pattern", JSON_STRING);
    const struct json *format = read_keyword(compiler, node, "format", JSON_STRING);
    not_counts(compiler, node, out, TYPE_STRING, "minLength", "maxLength");
    struct cell *cell = pattern ? add_cell(compiler, out, TYPE_STRING) : NULL;
    const struct automaton *upper =
        cell ? read_pattern(compiler, node, "pattern", (struct text){pattern->text, pattern->length}, 1) : NULL;
    if (upper)
        LIST_ADD(compiler, cell->string.patterns, (struct pattern_term){upper, 1});
    if (format && format_pattern(format->text))
        refuse(compiler, node, "format");
}

static void not_items(struct compiler *compiler, uint32_t node, struct cells *out)
{
    const struct json *items = node_get(compiler, node, "items");
    const struct json *prefix = node_get(compiler, node, "prefixItems");
    if (json_is(items, JSON_ARRAY))
        refuse(compiler, node, "items");
    size_t count = json_is(prefix, JSON_ARRAY) ? prefix->length : 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t child = node_nested(compiler, node, "prefixItems", NULL, 0, i, prefix->items[i]);
        uint32_t expression = expression_of(compiler, 2 * child + 1);
        struct cell *cell = expression != EXPRESSION_FALSE ? add_cell(compiler, out, TYPE_ARRAY) : NULL;
        for (size_t j = 0; cell && j <= i; j++)
            LIST_ADD(compiler, cell->array.prefix, j < i ? EXPRESSION_TRUE : expression);
        if (cell)
            cell->array.minimum = (uint32_t)i + 1;
    }
    uint32_t literal = items ? 2 * node_member(compiler, node, "items", items) + 1 : 0;
    if (items && expression_of(compiler, literal) != EXPRESSION_FALSE) {
        struct cell *cell = add_cell(compiler, out, TYPE_ARRAY);
        struct contains other = {.literal = literal, .from = (uint32_t)count, .minimum = 1, .maximum = GRAMMAR_ENDLESS};
        if (cell)
            LIST_ADD(compiler, cell->array.contains, other);
    }
}

static void not_contains(struct compiler *compiler, uint32_t node, struct cells *out)
{
    const struct json *contains = node_get(compiler, node, "contains");
    if (!contains)
        return;
    uint32_t literal = 2 * node_member(compiler, node, "contains", contains);
    uint32_t minimum = read_count_keyword(compiler, node, "minContains", 1);
    uint32_t maximum = read_count_keyword(compiler, node, "maxContains", GRAMMAR_ENDLESS);
    struct cell *fewer = minimum > 0 ? add_cell(compiler, out, TYPE_ARRAY) : NULL;
    struct cell *more = maximum < GRAMMAR_ENDLESS - 1 ? add_cell(compiler, out, TYPE_ARRAY) : NULL;
    if (fewer)
        LIST_ADD(compiler, fewer->array.contains, (struct contains){.literal = literal, .maximum = minimum - 1});
    if (more)
        LIST_ADD(compiler, more->array.contains,
                 (struct contains){.literal = literal, .minimum = maximum + 1, .maximum = GRAMMAR_ENDLESS});
}

static void not_array(struct compiler *compiler, uint32_t node, struct cells *out)
{
    not_counts(compiler, node, out, TYPE_ARRAY, "minItems", "maxItems");
    not_items(compiler, node, out);
    not_contains(compiler, node, out);
    if (json_is(node_get(compiler, node, "uniqueItems"), JSON_TRUE))
        refuse(compiler, node, "uniqueItems");
}

/* Keywords of members that no list of cells says the negation of ("some other member ..."), unless they allow all. */
static void not_quantified(struct compiler *compiler, uint32_t node)
{
    static const char *const keywords[] = {"additionalProperties", "propertyNames", "unevaluatedProperties",
                                           "unevaluatedItems", "additionalItems"};
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++) {
        const struct json *schema = node_get(compiler, node, keywords[i]);
        if (schema &&
            expression_of(compiler, 2 * node_member(compiler, node, keywords[i], schema)) != EXPRESSION_TRUE)
            refuse(compiler, node, keywords[i]);
    }
    const struct json *patterns = read_keyword(compiler, node, "patternProperties", JSON_OBJECT);
    for (size_t i = 0; patterns && i < patterns->length; i++) {
        uint32_t child = node_nested(compiler, node, "patternProperties", patterns->keys[i], patterns->key_lengths[i],
                                     i, patterns->items[i]);
        if (expression_of(compiler, 2 * child) != EXPRESSION_TRUE)
            refuse(compiler, node, "patternProperties");
    }
    if (node_get(compiler, node, "dependencies"))
        refuse(compiler, node, "dependencies");
    if (node_get(compiler, node, "$recursiveRef"))
        refuse(compiler, node, "$recursiveRef");
}

static void not_object(struct compiler *compiler, uint32_t node, struct cells *out)
{
    const struct json *required = read_keyword(compiler, node, "required", JSON_ARRAY);
    const struct json *properties = read_keyword(compiler, node, "properties", JSON_OBJECT);
    not_counts(compiler, node, out, TYPE_OBJECT, "minProperties", "maxProperties");
    for (size_t i = 0; required && i < required->length; i++) {
        struct text key = {required->items[i]->text, required->items[i]->length};
        struct cell *cell = add_cell(compiler, out, TYPE_OBJECT);
        if (required->items[i]->type != JSON_STRING)
            node_refuse(compiler, node, "required", BULLA_E_INPUT, "it must be a list of strings");
        else if (cell)
            property_add(compiler, &cell->object, &key, EXPRESSION_FALSE);
    }
    for (size_t i = 0; properties && i < properties->length; i++) {
        struct text key = {properties->keys[i], properties->key_lengths[i]};
        uint32_t child = node_nested(compiler, node, "properties", key.bytes, key.length, i, properties->items[i]);
        uint32_t expression = expression_of(compiler, 2 * child + 1);
        struct cell *cell = expression != EXPRESSION_FALSE ? add_cell(compiler, out, TYPE_OBJECT) : NULL;
        if (cell) {
            property_add(compiler, &cell->object, &key, expression);
            texts_add(compiler, &cell->object.required, &key);
        }
    }
    not_quantified(compiler, node);
}

/* Objects with `key` that refuse what depends on it. */
static void not_dependent(struct compiler *compiler, uint32_t node, struct cells *out, const char *keyword)
{
    const struct json *map = read_keyword(compiler, node, keyword, JSON_OBJECT);
    for (size_t i = 0; map && i < map->length && !compiler->error->code; i++) {
        struct text key = {map->keys[i], map->key_lengths[i]};
        const struct json *value = map->items[i];
        struct cells *present = compiler_alloc(compiler, 1, sizeof *present);
        struct cell *has = add_cell(compiler, present, TYPE_OBJECT);
        if (has)
            texts_add(compiler, &has->object.required, &key);
        if (value->type != JSON_ARRAY) {
            uint32_t child = node_nested(compiler, node, keyword, key.bytes, key.length, i, value);
            cells_join(compiler, out, cells_and(compiler, present, node_cells(compiler, 2 * child + 1)));
            continue;
        }
        for (size_t j = 0; j < value->length && !compiler->error->code; j++) {
            struct cells *absent = compiler_alloc(compiler, 1, sizeof *absent);
            struct cell *lacks = add_cell(compiler, absent, TYPE_OBJECT);
            struct text name = {value->items[j]->text, value->items[j]->length};
            if (value->items[j]->type != JSON_STRING)
                node_refuse(compiler, node, keyword, BULLA_E_INPUT, "it must list names of properties");
            else if (lacks)
                property_add(compiler, &lacks->object, &name, EXPRESSION_FALSE);
            cells_join(compiler, out, cells_and(compiler, present, absent));
        }
    }
}

static void not_values(struct compiler *compiler, uint32_t node, struct cells *out)
{
    const struct json *constant = node_get(compiler, node, "const");
    const struct json *listed = read_keyword(compiler, node, "enum", JSON_ARRAY);
    if (constant)
        cells_join(compiler, out, values_cells(compiler, node, &constant, 1, 1));
    if (listed)
        cells_join(compiler, out, values_cells(compiler, node, (const struct json *const *)listed->items,
                                               listed->length, 1));
}

static uint32_t branch_literal(struct compiler *compiler, uint32_t node, const char *keyword, const struct json *list,
                               size_t index)
{
    return 2 * node_nested(compiler, node, keyword, NULL, 0, index, list->items[index]);
}

/* None of the branches but those of the two numbers, which hold. */
static struct cells *exactly(struct compiler *compiler, uint32_t node, const char *keyword, const struct json *list,
                             size_t first, size_t second)
{
    struct cells *cells = cells_universal(compiler);
    compiler_work(compiler, 5 * (uint64_t)list->length);
    for (size_t i = 0; i < list->length && !compiler->error->code; i++) {
        int holds = i == first || i == second;
        if (!holds && first < list->length)
            continue; /* two hold: whatever the others do */
        uint32_t literal = branch_literal(compiler, node, keyword, list, i);
        cells = cells_and(compiler, cells, node_cells(compiler, holds ? literal : literal | 1));
    }
    return cells;
}

static void not_branches(struct compiler *compiler, uint32_t node, struct cells *out)
{
    const struct json *all = read_keyword(compiler, node, "allOf", JSON_ARRAY);
    const struct json *any = read_keyword(compiler, node, "anyOf", JSON_ARRAY);
    const struct json *one = read_keyword(compiler, node, "oneOf", JSON_ARRAY);
    for (size_t i = 0; all && i < all->length; i++)
        cells_join(compiler, out, node_cells(compiler, branch_literal(compiler, node, "allOf", all, i) | 1));
    if (any)
        cells_join(compiler, out, exactly(compiler, node, "anyOf", any, any->length, any->length));
    if (!one)
        return;
    cells_join(compiler, out, exactly(compiler, node, "oneOf", one, one->length, one->length));
    for (size_t i = 0; i < one->length && !compiler->error->code; i++)
        for (size_t j = i + 1; j < one->length && !compiler->error->code; j++)
            cells_join(compiler, out, exactly(compiler, node, "oneOf", one, i, j));
}

static void not_conditions(struct compiler *compiler, uint32_t node, struct cells *out)
{
    static const char *const sides[] = {"else", "then"};
    const struct json *condition = node_get(compiler, node, "if");
    const struct json *negated = node_get(compiler, node, "not");
    if (negated)
        cells_join(compiler, out, node_cells(compiler, 2 * node_member(compiler, node, "not", negated)));
    for (int holds = 0; condition && holds < 2; holds++) {
        const struct json *side = node_get(compiler, node, sides[holds]);
        if (!side)
            continue;
        uint32_t literal = 2 * node_member(compiler, node, "if", condition) + !holds;
        uint32_t other = 2 * node_member(compiler, node, sides[holds], side) + 1;
        cells_join(compiler, out, cells_and(compiler, node_cells(compiler, literal), node_cells(compiler, other)));
    }
}

static void not_references(struct compiler *compiler, uint32_t node, struct cells *out)
{
    static const char *const keywords[] = {"$ref", "$dynamicRef"};
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++) {
        const struct json *reference = node_get(compiler, node, keywords[i]);
        uint32_t target = reference ? node_resolve(compiler, node, keywords[i], reference) : GRAMMAR_ENDLESS;
        if (target != GRAMMAR_ENDLESS)
            cells_join(compiler, out, node_cells(compiler, 2 * target + 1));
    }
}

struct cells *node_negate(struct compiler *compiler, uint32_t node)
{
    struct cells *out = compiler_alloc(compiler, 1, sizeof *out);
    if (!out)
        return NULL;
    not_type(compiler, node, out);
    not_values(compiler, node, out);
    not_number(compiler, node, out);
    not_string(compiler, node, out);
    not_array(compiler, node, out);
    not_object(compiler, node, out);
    not_dependent(compiler, node, out, "dependentRequired");
    not_dependent(compiler, node, out, "dependentSchemas");
    not_branches(compiler, node, out);
    not_conditions(compiler, node, out);
    not_references(compiler, node, out);
    return out;
}
