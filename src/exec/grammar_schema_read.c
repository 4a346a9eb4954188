/* A schema as cells: its own keywords, and the applicators that look at the same value (JSON Schema 2020-12 core,
 * sections 8.2.3, 10.2 and 11). */
#include <string.h>

#include "exec/grammar_compile.h"

enum { NODE_COST = 4000 }; /* a look-up for each keyword */

static const struct json *node_get(const struct compiler *compiler, uint32_t node, const char *keyword)
{
    return json_get(compiler->nodes.items[node].json, keyword);
}

static uint32_t member_literal(struct compiler *compiler, uint32_t node, const char *keyword)
{
    return 2 * node_member(compiler, node, keyword, node_get(compiler, node, keyword));
}

static struct cells *as_list(struct compiler *compiler, const struct cells *cells)
{
    struct cells *list = compiler_alloc(compiler, 1, sizeof *list);
    if (list)
        cells_join(compiler, list, cells);
    return list;
}

static const struct json *read_branches(struct compiler *compiler, uint32_t node, const char *keyword)
{
    const struct json *branches = read_keyword(compiler, node, keyword, JSON_ARRAY);
    if (branches && branches->length == 0)
        node_refuse(compiler, node, keyword, BULLA_E_INPUT, "it must list at least one schema");
    return branches;
}

static uint32_t branch_literal(struct compiler *compiler, uint32_t node, const char *keyword, const struct json *list,
                               size_t index)
{
    return 2 * node_nested(compiler, node, keyword, NULL, 0, index, list->items[index]);
}

static struct cells *all_of(struct compiler *compiler, uint32_t node, struct cells *cells)
{
    const struct json *branches = read_branches(compiler, node, "allOf");
    for (size_t i = 0; branches && i < branches->length; i++)
        cells = cells_and(compiler, cells, node_cells(compiler, branch_literal(compiler, node, "allOf", branches, i)));
    return cells;
}

static struct cells *any_of(struct compiler *compiler, uint32_t node, struct cells *cells)
{
    const struct json *branches = read_branches(compiler, node, "anyOf");
    struct cells *any = branches ? compiler_alloc(compiler, 1, sizeof *any) : NULL;
    for (size_t i = 0; any && i < branches->length; i++)
        cells_join(compiler, any, node_cells(compiler, branch_literal(compiler, node, "anyOf", branches, i)));
    return any ? cells_and(compiler, cells, any) : cells;
}

/* A branch, and none of the others; others that can be seen to share nothing with it need no "not". */
static struct cells *one_of(struct compiler *compiler, uint32_t node, struct cells *cells)
{
    const struct json *branches = read_branches(compiler, node, "oneOf");
    struct cells *one = branches ? compiler_alloc(compiler, 1, sizeof *one) : NULL;
    for (size_t i = 0; one && i < branches->length && !compiler->error->code; i++) {
        const struct cells *branch = node_cells(compiler, branch_literal(compiler, node, "oneOf", branches, i));
        branch = cells_and(compiler, cells, branch);
        for (size_t j = 0; j < branches->length && branch->count > 0 && !compiler->error->code; j++) {
            uint32_t other = branch_literal(compiler, node, "oneOf", branches, j);
            if (j != i && cells_and(compiler, branch, node_cells(compiler, other))->count > 0)
                branch = cells_and(compiler, branch, node_cells(compiler, other | 1));
        }
        cells_join(compiler, one, branch);
    }
    return one ? one : cells;
}

static struct cells *if_then_else(struct compiler *compiler, uint32_t node, struct cells *cells)
{
    int has_then = node_get(compiler, node, "then") != NULL, has_else = node_get(compiler, node, "else") != NULL;
    if (!node_get(compiler, node, "if") || (!has_then && !has_else))
        return cells;
    uint32_t condition = member_literal(compiler, node, "if");
    struct cells *both = compiler_alloc(compiler, 1, sizeof *both);
    for (int holds = 0; both && holds < 2; holds++) {
        const struct cells *side = node_cells(compiler, holds ? condition : condition | 1);
        if (holds ? has_then : has_else)
            side = cells_and(compiler, side,
                             node_cells(compiler, member_literal(compiler, node, holds ? "then" : "else")));
        cells_join(compiler, both, side);
    }
    return cells_and(compiler, cells, both);
}

static struct cell *absent_cell(struct compiler *compiler, const struct text *key)
{
    struct cell *cell = cell_new(compiler, TYPE_ANY);
    if (cell)
        property_add(compiler, &cell->object, key, EXPRESSION_FALSE);
    return cell;
}

/* Objects without `key`, and those with it that satisfy `then`. */
static struct cells *depends(struct compiler *compiler, struct cells *cells, const struct text *key,
                             const struct cells *then)
{
    struct cells *present = compiler_alloc(compiler, 1, sizeof *present);
    struct cells *all = compiler_alloc(compiler, 1, sizeof *all);
    struct cell *has = cell_new(compiler, TYPE_OBJECT);
    if (!present || !all || !has)
        return cells;
    texts_add(compiler, &has->object.required, key);
    cells_add(compiler, present, has);
    cells_add(compiler, all, absent_cell(compiler, key)); /* values of other types too */
    cells_join(compiler, all, cells_and(compiler, present, then));
    return cells_and(compiler, cells, all);
}

static const struct cells *required_cells(struct compiler *compiler, uint32_t node, const char *keyword,
                                          const struct json *names)
{
    struct cells *cells = compiler_alloc(compiler, 1, sizeof *cells);
    struct cell *cell = cell_new(compiler, TYPE_OBJECT);
    for (size_t i = 0; cell && i < names->length; i++) {
        if (names->items[i]->type != JSON_STRING)
            node_refuse(compiler, node, keyword, BULLA_E_INPUT, "it must list names of properties");
        else
            texts_add(compiler, &cell->object.required, &(struct text){names->items[i]->text, names->items[i]->length});
    }
    cells_add(compiler, cells, cell);
    return cells;
}

/* "dependentRequired", "dependentSchemas", and "dependencies", which was both up to draft 7. */
static struct cells *dependent(struct compiler *compiler, uint32_t node, const char *keyword, struct cells *cells)
{
    const struct json *map = read_keyword(compiler, node, keyword, JSON_OBJECT);
    for (size_t i = 0; map && i < map->length && !compiler->error->code; i++) {
        struct text key = {map->keys[i], map->key_lengths[i]};
        const struct json *value = map->items[i];
        int is_list = value->type == JSON_ARRAY;
        if (is_list == (strcmp(keyword, "dependentSchemas") == 0) && strcmp(keyword, "dependencies") != 0) {
            node_refuse(compiler, node, keyword, BULLA_E_INPUT, "\"%.80s\" has the wrong type", map->keys[i]);
            return cells;
        }
        const struct cells *then =
            is_list ? required_cells(compiler, node, keyword, value)
                    : node_cells(compiler, 2 * node_nested(compiler, node, keyword, key.bytes, key.length, i, value));
        cells = depends(compiler, cells, &key, then);
    }
    return cells;
}

static struct cells *references(struct compiler *compiler, uint32_t node, struct cells *cells)
{
    static const char *const keywords[] = {"$ref", "$dynamicRef"};
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++) {
        const struct json *reference = node_get(compiler, node, keywords[i]);
        uint32_t target = reference ? node_resolve(compiler, node, keywords[i], reference) : GRAMMAR_ENDLESS;
        if (target != GRAMMAR_ENDLESS)
            cells = cells_and(compiler, cells, node_cells(compiler, 2 * target));
    }
    return cells;
}

static struct cells *values(struct compiler *compiler, uint32_t node, struct cells *cells)
{
    const struct json *constant = node_get(compiler, node, "const");
    const struct json *listed = read_keyword(compiler, node, "enum", JSON_ARRAY);
    if (constant)
        cells = cells_and(compiler, cells, values_cells(compiler, node, &constant, 1, 0));
    if (listed)
        cells = cells_and(compiler, cells, values_cells(compiler, node, (const struct json *const *)listed->items,
                                                        listed->length, 0));
    return cells;
}

/* {"anyOf": [schema, ...]}, made up: an item is evaluated where it satisfies one of "contains". */
static uint32_t any_literal(struct compiler *compiler, uint32_t node, const struct json *schema,
                            const struct cell *cell)
{
    size_t count = cell->evaluated.contains.count + 1;
    struct json *list = compiler_alloc(compiler, 2, sizeof *list);
    struct json **items = compiler_alloc(compiler, count + 1, sizeof *items);
    const char **keys = compiler_alloc(compiler, 1, sizeof *keys);
    size_t *lengths = compiler_alloc(compiler, 1, sizeof *lengths);
    if (!list || !items || !keys || !lengths)
        return 0;
    items[0] = (struct json *)(uintptr_t)schema; /* never changed through it */
    for (size_t i = 1; i < count; i++)
        items[i] = (struct json *)(uintptr_t)compiler->nodes.items[cell->evaluated.contains.items[i - 1] / 2].json;
    items[count] = &list[0];
    keys[0] = "anyOf";
    lengths[0] = strlen(keys[0]);
    list[0] = (struct json){.type = JSON_ARRAY, .length = count, .items = items};
    list[1] = (struct json){.type = JSON_OBJECT, .length = 1, .items = items + count, .keys = keys,
                            .key_lengths = lengths};
    return 2 * node_add(compiler, &list[1], node, "unevaluatedItems", strlen("unevaluatedItems"), 0);
}

static void limit_items(struct compiler *compiler, uint32_t node, struct cell *cell, const struct json *schema)
{
    uint32_t literal = member_literal(compiler, node, "unevaluatedItems");
    if (cell->evaluated.all_items || json_is(schema, JSON_TRUE) || !(cell->types & TYPE_ARRAY))
        return;
    if (cell->evaluated.contains.count > 0)
        literal = any_literal(compiler, node, schema, cell);
    uint32_t expression = expression_of(compiler, literal);
    struct array_part *array = &cell->array;
    while (array->prefix.count < cell->evaluated.prefix && !compiler->error->code)
        LIST_ADD(compiler, array->prefix, array->rest);
    for (size_t i = cell->evaluated.prefix; i < array->prefix.count; i++)
        array->prefix.items[i] = expression_and(compiler, array->prefix.items[i], expression);
    array->rest = expression_and(compiler, array->rest, expression);
}

static void limit_members(struct compiler *compiler, uint32_t node, struct cell *cell)
{
    uint32_t literal = member_literal(compiler, node, "unevaluatedProperties");
    if (cell->evaluated.all_members || !(cell->types & TYPE_OBJECT))
        return;
    LIST_ADD(compiler, cell->object.additional,
             (struct additional){.except = cell->evaluated.members, .expression = expression_of(compiler, literal)});
}

/* Cells are shared by the lists of other nodes: those that change are copied. */
static struct cells *unevaluated(struct compiler *compiler, uint32_t node, struct cells *cells)
{
    const struct json *items = node_get(compiler, node, "unevaluatedItems");
    const struct json *members = node_get(compiler, node, "unevaluatedProperties");
    if (!items && !members)
        return cells;
    struct cells *limited = compiler_alloc(compiler, 1, sizeof *limited);
    const struct cells *copies = cells_and(compiler, cells, cells_universal(compiler));
    for (size_t i = 0; limited && i < copies->count; i++) {
        struct cell *cell = copies->items[i];
        if (items)
            limit_items(compiler, node, cell, items);
        if (members)
            limit_members(compiler, node, cell);
        cell->evaluated.all_items |= items != NULL;
        cell->evaluated.all_members |= members != NULL;
        if (cell_is_possible(compiler, cell, 2))
            cells_add(compiler, limited, cell);
    }
    return limited;
}

static void check_dialect(struct compiler *compiler, uint32_t node)
{
    static const char *const known[] = {
        "https://json-schema.org/draft/2020-12/schema", "https://json-schema.org/draft/2019-09/schema",
        "http://json-schema.org/draft-07/schema", "http://json-schema.org/draft-06/schema", NULL};
    const struct json *dialect = read_keyword(compiler, node, "$schema", JSON_STRING);
    if (!dialect)
        return;
    size_t length = dialect->length;
    while (length > 0 && dialect->text[length - 1] == '#')
        length--;
    for (size_t i = 0; known[i]; i++)
        if (strlen(known[i]) == length && memcmp(known[i], dialect->text, length) == 0)
            return;
    node_refuse(compiler, node, "$schema", BULLA_E_UNSUPPORTED, "\"%.100s\" is a dialect that is not known; 2020-12, "
                "2019-09, draft-07 and draft-06 are", dialect->text);
}

static struct cells *read_node(struct compiler *compiler, uint32_t node)
{
    struct cells *cells = compiler_alloc(compiler, 1, sizeof *cells);
    check_dialect(compiler, node);
    if (node_get(compiler, node, "$recursiveRef"))
        node_refuse(compiler, node, "$recursiveRef", BULLA_E_UNSUPPORTED, "only \"$ref\" to one place is possible");
    struct cell *own = keywords_cell(compiler, node);
    if (own && cells && cell_is_possible(compiler, own, 2))
        cells_add(compiler, cells, own);
    cells = values(compiler, node, cells);
    cells = references(compiler, node, cells);
    cells = all_of(compiler, node, cells);
    cells = any_of(compiler, node, cells);
    cells = one_of(compiler, node, cells);
    if (node_get(compiler, node, "not"))
        cells = cells_and(compiler, cells, node_cells(compiler, member_literal(compiler, node, "not") | 1));
    cells = if_then_else(compiler, node, cells);
    cells = dependent(compiler, node, "dependentRequired", cells);
    cells = dependent(compiler, node, "dependentSchemas", cells);
    cells = dependent(compiler, node, "dependencies", cells);
    return unevaluated(compiler, node, cells);
}

static struct cells *without_annotations(struct compiler *compiler, struct cells *cells)
{
    struct cells *plain = cells ? cells_and(compiler, cells, cells_universal(compiler)) : NULL;
    for (size_t i = 0; plain && i < plain->count; i++)
        memset(&plain->items[i]->evaluated, 0, sizeof plain->items[i]->evaluated);
    return plain;
}

const struct cells *node_cells(struct compiler *compiler, uint32_t literal)
{
    static const struct cells none;
    uint32_t number = literal / 2;
    int negated = literal & 1;
    if (compiler->error->code || compiler->probe_failed)
        return &none;
    struct node *node = &compiler->nodes.items[number];
    if (node->cells[negated])
        return node->cells[negated];
    if (json_is_bool(node->json))
        return json_is(node->json, negated ? JSON_FALSE : JSON_TRUE) ? cells_universal(compiler)
                                                                     : as_list(compiler, &none);
    if (node->busy[negated]) {
        compiler->probe_failed = compiler->probing > 0;
        if (!compiler->probing)
            node_refuse(compiler, number, "$ref", BULLA_E_UNSUPPORTED, "it leads back to itself without a value in "
                        "between");
        return &none;
    }
    node->busy[negated] = 1;
    compiler_work(compiler, NODE_COST);
    struct cells *cells = negated ? without_annotations(compiler, node_negate(compiler, number))
                                  : read_node(compiler, number);
    node = &compiler->nodes.items[number]; /* the list may have moved */
    node->busy[negated] = 0;
    if (compiler->error->code || compiler->probe_failed || !cells)
        return &none;
    node->cells[negated] = cells;
    return cells;
}
