/* A schema's rule, and the rule of any object. */
#include <string.h>

#include "exec/grammar_compile.h"

uint32_t schema_compile(struct compiler *compiler, const struct json *schema)
{
    memset(&compiler->nodes, 0, sizeof compiler->nodes);
    memset(&compiler->anchors, 0, sizeof compiler->anchors);
    memset(&compiler->expressions, 0, sizeof compiler->expressions);
    memset(&compiler->pending, 0, sizeof compiler->pending);
    compiler->node_slots = compiler->expression_slots = NULL;
    compiler->node_slot_count = compiler->expression_slot_count = compiler->pending_done = 0;
    if (!json_is(schema, JSON_OBJECT) && !json_is_bool(schema)) {
        bulla_fail(compiler->error, BULLA_E_INPUT, "schema: a schema is an object or a boolean");
        return 0;
    }
    if (nodes_index(compiler, schema))
        return 0;
    uint32_t expression = expression_of(compiler, 2 * compiler->root_node);
    uint32_t rule = rule_of(compiler, expression, 0);
    rules_write(compiler);
    LIST_ADD(compiler, compiler->roots, rule);
    return rule;
}

/* The machines of an array and of an object of any values, with free white space; of the rule `value`. */
static uint32_t loose_array(struct compiler *compiler, uint32_t value)
{
    struct items *items = grammar_alloc(compiler, 1, sizeof *items);
    uint32_t *first = grammar_alloc(compiler, 2, sizeof *first);
    struct item_edge *edge = grammar_alloc(compiler, 1, sizeof *edge);
    uint8_t *accepts = grammar_alloc(compiler, 1, 1), *depths = grammar_alloc(compiler, 1, 1);
    if (compiler->error->code)
        return GRAMMAR_ENDLESS;
    first[1] = 1;
    edge->rule = value;
    accepts[0] = 1;
    depths[0] = GRAMMAR_NO_DEPTH;
    *items = (struct items){.states = 1, .first_edge = first, .edges = edge, .accepts = accepts, .depths = depths,
                            .loose = 1};
    return grammar_add_array(compiler, items);
}

static uint32_t loose_object(struct compiler *compiler, uint32_t value)
{
    struct members *members = grammar_alloc(compiler, 1, sizeof *members);
    uint32_t *required = grammar_alloc(compiler, 1, sizeof *required);
    uint8_t *depths = grammar_alloc(compiler, 1, 1);
    struct automaton *keys = automaton_universal(&compiler->grammar->arena, &compiler->work, compiler->error);
    uint32_t *rules = keys ? grammar_alloc(compiler, keys->states, sizeof *rules) : NULL;
    if (compiler->error->code)
        return GRAMMAR_ENDLESS;
    rules[0] = value;
    *members = (struct members){.required_after = required, .depth_after = depths, .maximum = GRAMMAR_ENDLESS,
                                .other_rules = rules, .others_depth = GRAMMAR_NO_DEPTH, .loose = 1};
    members->others = grammar_add_automaton(compiler, keys);
    return grammar_add_object(compiler, members);
}

uint32_t loose_rule(struct compiler *compiler)
{
    if (compiler->loose_value != GRAMMAR_ENDLESS)
        return compiler->loose_value;
    struct cell *scalar = cell_new(compiler, TYPE_SCALAR);
    struct alternative *any = grammar_alloc(compiler, 2, sizeof *any);
    uint32_t value = grammar_add_rule(compiler, (struct rule){.kind = RULE_VALUE, .depth = GRAMMAR_NO_DEPTH, .count = 1,
                                                              .alternatives = any});
    if (!scalar || !any)
        return 0;
    cell_lower(compiler, scalar, 0, any);
    any->array = loose_array(compiler, value);
    any->object = loose_object(compiler, value);
    any[1] = any[0];
    any[1].words = any[1].number = any[1].language = any[1].array = GRAMMAR_ENDLESS;
    compiler->loose_value = grammar_add_rule(compiler, (struct rule){.kind = RULE_VALUE, .depth = GRAMMAR_NO_DEPTH,
                                                                     .loose = 1, .count = 1, .alternatives = any + 1});
    return compiler->loose_value;
}
