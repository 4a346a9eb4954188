/* Expressions and calls. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "model/chat_template_internal.h"

int template_fail(struct render *render, int code, const char *format, ...)
{
    char sentence[960];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    bulla_fail(render->error, code, "chat template, line %u: %s", (unsigned)render->line, sentence);
    return 0;
}

int template_spend(struct render *render, size_t steps)
{
    if (steps > render->steps) {
        render->steps = 0;
        return template_fail(render, BULLA_E_LIMIT, "the template takes more than %d steps", TEMPLATE_MAX_STEPS);
    }
    render->steps -= steps;
    return 1;
}

int template_enter(struct render *render)
{
    if (++render->depth <= TEMPLATE_MAX_DEPTH)
        return 1;
    return template_fail(render, BULLA_E_LIMIT, "more than %d things are being evaluated at once",
                         TEMPLATE_MAX_DEPTH);
}

/* ---- Scopes ---- */

int scope_push(struct render *render, struct scope *parent)
{
    struct scope *scope = arena_alloc(render->arena, 1, sizeof *scope, render->error);
    if (!scope)
        return 0;
    scope->parent = parent;
    render->scope = scope;
    return 1;
}

int scope_set(struct render *render, struct scope *scope, uint32_t name, struct value value)
{
    for (uint32_t i = 0; i < scope->count; i++)
        if (scope->variables[i].name == name) {
            scope->variables[i].value = value;
            return 1;
        }
    if (scope->count == scope->capacity) {
        uint32_t capacity = scope->capacity ? 2 * scope->capacity : 4;
        struct variable *grown = arena_alloc(render->arena, capacity, sizeof *grown, render->error);
        if (!grown)
            return 0;
        if (scope->count)
            memcpy(grown, scope->variables, scope->count * sizeof *grown);
        scope->variables = grown;
        scope->capacity = capacity;
    }
    scope->variables[scope->count++] = (struct variable){name, value};
    return template_spend(render, scope->count / 32);
}

static int evaluate_name(struct render *render, uint32_t name, struct value *result)
{
    size_t looked = 0;
    for (const struct scope *scope = render->scope; scope; scope = scope->parent) {
        for (uint32_t i = 0; i < scope->count; i++)
            if (scope->variables[i].name == name) {
                *result = scope->variables[i].value;
                return 1;
            }
        looked += 1 + scope->count;
    }
    *result = render->globals[name];
    if (result->type == VALUE_MISSING)
        *result = value_undefined(UNDEFINED_NAME, render->chat_template->name_texts[name]);
    return template_spend(render, looked / 32);
}

/* ---- Calls ---- */

static int add_keyword(struct render *render, struct arguments *arguments, const struct text *name, struct value value)
{
    for (size_t i = 0; i < arguments->keyword_count; i++)
        if (arguments->keywords[i]->length == name->length &&
            memcmp(arguments->keywords[i]->bytes, name->bytes, name->length) == 0)
            return template_fail(render, BULLA_E_INPUT, "got multiple values for keyword argument '%.*s'",
                                 (int)(name->length < 100 ? name->length : 100), name->bytes);
    arguments->keywords[arguments->keyword_count] = name;
    arguments->keyword_values[arguments->keyword_count++] = value;
    return template_spend(render, arguments->keyword_count / 4);
}

/* `call` may be NULL: no arguments. Room for one more keyword is left. */
int evaluate_arguments(struct render *render, const struct call *call, struct arguments *arguments)
{
    struct list spread = {0};
    struct value value, keywords = {0};
    *arguments = (struct arguments){0};
    if (call && call->spread &&
        (!evaluate(render, call->spread, &value) || !value_iterate(render, value, &spread)))
        return 0;
    if (call && call->spread_keywords) {
        if (!evaluate(render, call->spread_keywords, &keywords))
            return 0;
        if (keywords.type != VALUE_DICT)
            return template_fail(render, BULLA_E_INPUT, "the argument after ** must be a mapping, not %s",
                                 value_type_name(keywords));
    }
    size_t count = call ? call->values.count : 0, keyword_count = call ? call->keyword_values.count : 0;
    size_t most = keyword_count + (keywords.type == VALUE_DICT ? keywords.dict->count : 0) + 1;
    arguments->values = arena_alloc(render->arena, count + spread.count, sizeof(struct value), render->error);
    arguments->keywords = arena_alloc(render->arena, most, sizeof(struct text *), render->error);
    arguments->keyword_values = arena_alloc(render->arena, most, sizeof(struct value), render->error);
    if (!arguments->values || !arguments->keywords || !arguments->keyword_values ||
        !template_spend(render, spread.count))
        return 0;
    for (; arguments->count < count; arguments->count++)
        if (!evaluate(render, call->values.nodes[arguments->count], &arguments->values[arguments->count]))
            return 0;
    for (size_t i = 0; i < spread.count; i++)
        arguments->values[arguments->count++] = spread.items[i];
    for (size_t i = 0; i < keyword_count; i++)
        if (!evaluate(render, call->keyword_values.nodes[i], &value) ||
            !add_keyword(render, arguments, call->keywords[i], value))
            return 0;
    for (size_t i = 0; keywords.type == VALUE_DICT && i < keywords.dict->count; i++) {
        if (keywords.dict->entries[i].key.type != VALUE_TEXT)
            return template_fail(render, BULLA_E_INPUT, "keywords must be strings");
        if (!add_keyword(render, arguments, keywords.dict->entries[i].key.text, keywords.dict->entries[i].value))
            return 0;
    }
    return 1;
}

int value_call(struct render *render, struct value callee, const struct arguments *arguments, struct value *result)
{
    switch (callee.type) {
    case VALUE_MACRO:
        return macro_call(render, callee.macro, arguments, result);
    case VALUE_METHOD:
        return builtin_invoke(render, callee.method->function, callee.method->receiver, arguments, result);
    case VALUE_FUNCTION:
        return builtin_invoke(render, callee.function, callee, arguments, result);
    case VALUE_JOINER:
        return builtin_invoke(render, &joiner_call, callee, arguments, result);
    case VALUE_UNDEFINED:
        return value_fail_undefined(render, callee);
    default:
        return template_fail(render, BULLA_E_INPUT, "'%s' object is not callable", value_type_name(callee));
    }
}

static int evaluate_call(struct render *render, const struct node *node, struct value *result)
{
    struct value callee;
    struct arguments arguments;
    if (!evaluate(render, node->a, &callee) || !evaluate_arguments(render, node->call, &arguments))
        return 0;
    render->line = node->line;
    return value_call(render, callee, &arguments, result);
}

/* A filter or a test. */
static int apply_builtin(struct render *render, const struct node *node, struct value self, struct value *result)
{
    struct arguments arguments;
    if (!evaluate_arguments(render, node->call, &arguments))
        return 0;
    render->line = node->line;
    return builtin_invoke(render, node->builtin, self, &arguments, result);
}

/* The chain of filters of a block, whose innermost takes `input`. */
int evaluate_filters(struct render *render, const struct node *node, struct value input, struct value *result)
{
    struct value self = input;
    if (!node) {
        *result = input;
        return 1;
    }
    if (!template_enter(render))
        return 0;
    if (node->a && !evaluate_filters(render, node->a, input, &self))
        return 0;
    render->depth--;
    return template_spend(render, 1) && apply_builtin(render, node, self, result);
}

/* ---- Everything else ---- */

static int evaluate_items(struct render *render, const struct node *node, struct value *result)
{
    struct list *list;
    if (!list_new(render, node->children.count, &list))
        return 0;
    for (; list->count < node->children.count; list->count++)
        if (!evaluate(render, node->children.nodes[list->count], &list->items[list->count]))
            return 0;
    *result = (struct value){.type = node->type == NODE_TUPLE ? VALUE_TUPLE : VALUE_LIST, .list = list};
    return 1;
}

static int evaluate_dict(struct render *render, const struct node *node, struct value *result)
{
    struct dict *dict;
    if (!dict_new(render, &dict))
        return 0;
    for (size_t i = 0; i + 1 < node->children.count; i += 2) {
        struct value key, value;
        if (!evaluate(render, node->children.nodes[i], &key) ||
            !evaluate(render, node->children.nodes[i + 1], &value) || !dict_set(render, dict, key, value))
            return 0;
    }
    *result = (struct value){.type = VALUE_DICT, .dict = dict};
    return 1;
}

static int evaluate_slice(struct render *render, const struct node *node, struct value *result)
{
    struct value object, bounds[3] = {{0}};
    if (!evaluate(render, node->a, &object))
        return 0;
    for (size_t i = 0; i < 3; i++)
        if (node->children.nodes[i] && !evaluate(render, node->children.nodes[i], &bounds[i]))
            return 0;
    render->line = node->line;
    return value_slice(render, object, bounds, result);
}

/* a < b < c: each operand once, and none after the first that fails. */
static int evaluate_compare(struct render *render, const struct node *node, struct value *result)
{
    struct value left, right;
    int truth = 1;
    if (!evaluate(render, node->children.nodes[0], &left))
        return 0;
    for (size_t i = 1; truth && i < node->children.count; i++) {
        if (!evaluate(render, node->children.nodes[i], &right) ||
            !operator_compare(render, node->operators[i - 1], left, right, &truth))
            return 0;
        left = right;
    }
    *result = value_bool(truth);
    return 1;
}

static int evaluate_concat(struct render *render, const struct node *node, struct value *result)
{
    struct buffer out = {0};
    for (size_t i = 0; i < node->children.count; i++) {
        struct value value;
        if (!evaluate(render, node->children.nodes[i], &value) || !value_print(render, &out, value)) {
            buffer_free(&out);
            return 0;
        }
    }
    return text_from_buffer(render, &out, result);
}

static int evaluate_condition(struct render *render, const struct node *node, struct value *result)
{
    struct value condition;
    if (!evaluate(render, node->b, &condition))
        return 0;
    if (value_truth(condition))
        return evaluate(render, node->a, result);
    if (node->c)
        return evaluate(render, node->c, result);
    return value_undefined_reason(render, "the inline if-expression was false and there is no else", result);
}

static int evaluate_logic(struct render *render, const struct node *node, struct value *result)
{
    if (!evaluate(render, node->a, result))
        return 0;
    if (value_truth(*result) == (node->type == NODE_OR))
        return 1;
    return evaluate(render, node->b, result);
}

static int evaluate_unary(struct render *render, const struct node *node, struct value *result)
{
    struct value value;
    if (!evaluate(render, node->a, &value))
        return 0;
    if (node->type == NODE_NOT) {
        *result = value_bool(!value_truth(value));
        return 1;
    }
    if (node->type == NODE_NEGATIVE)
        return operator_negate(render, value, result);
    if (value.type == VALUE_UNDEFINED)
        return value_fail_undefined(render, value);
    if (!value_is_number(value) && value.type != VALUE_BIG)
        return template_fail(render, BULLA_E_INPUT, "bad operand type for unary +: '%s'", value_type_name(value));
    *result = value.type == VALUE_BOOL ? value_integer(value.integer) : value;
    return 1;
}

static int evaluate_pair(struct render *render, const struct node *node, struct value *result)
{
    struct value left, right;
    if (!evaluate(render, node->a, &left) || !evaluate(render, node->b, &right))
        return 0;
    render->line = node->line;
    return node->type == NODE_ITEM ? value_item(render, left, right, result)
                                   : operator_apply(render, node->operator, left, right, result);
}

static int evaluate_on(struct render *render, const struct node *node, struct value *result)
{
    struct value value;
    if (!evaluate(render, node->a, &value))
        return 0;
    render->line = node->line;
    if (node->type == NODE_ATTRIBUTE)
        return value_attribute(render, value, node->value.text, result);
    return apply_builtin(render, node, value, result);
}

static int evaluate_node(struct render *render, const struct node *node, struct value *result)
{
    switch (node->type) {
    case NODE_CONSTANT:
        *result = node->value;
        return 1;
    case NODE_NAME:
        return evaluate_name(render, node->name, result);
    case NODE_TUPLE:
    case NODE_LIST:
        return evaluate_items(render, node, result);
    case NODE_DICT:
        return evaluate_dict(render, node, result);
    case NODE_ATTRIBUTE:
    case NODE_FILTER:
    case NODE_TEST:
        return evaluate_on(render, node, result);
    case NODE_ITEM:
    case NODE_BINARY:
        return evaluate_pair(render, node, result);
    case NODE_SLICE:
        return evaluate_slice(render, node, result);
    case NODE_CALL:
        return evaluate_call(render, node, result);
    case NODE_CONDITION:
        return evaluate_condition(render, node, result);
    case NODE_OR:
    case NODE_AND:
        return evaluate_logic(render, node, result);
    case NODE_NOT:
    case NODE_NEGATIVE:
    case NODE_POSITIVE:
        return evaluate_unary(render, node, result);
    case NODE_COMPARE:
        return evaluate_compare(render, node, result);
    case NODE_CONCAT:
        return evaluate_concat(render, node, result);
    default:
        return template_fail(render, BULLA_E_INTERNAL, "node %d is no expression", (int)node->type);
    }
}

int evaluate(struct render *render, const struct node *node, struct value *result)
{
    render->line = node->line;
    if (!template_enter(render) || !template_spend(render, 1) || !evaluate_node(render, node, result))
        return 0;
    render->depth--;
    return 1;
}
