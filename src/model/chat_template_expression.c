/* Tokens to a tree: filters, tests and operators, with jinja2's precedences. */
#include <string.h>

#include "model/chat_template_internal.h"

/* ---- Filters and tests ---- */

static int fail_unknown(struct template_parser *parser, const char *kind, const struct text *name)
{
    return template_fail(parser->render, BULLA_E_UNSUPPORTED, "the %s '%.*s' is not supported", kind,
                         (int)(name->length < 100 ? name->length : 100), name->bytes);
}

/* map('name') and its like name a filter or test: known now where it is a literal. */
static int check_named_builtin(struct template_parser *parser, const struct node *node)
{
    static const struct {
        const char *filter;
        uint8_t position, is_test;
    } users[] = {{"map", 0, 0}, {"select", 0, 1}, {"reject", 0, 1}, {"selectattr", 1, 1}, {"rejectattr", 1, 1}};
    for (size_t i = 0; node->call && i < sizeof users / sizeof users[0]; i++) {
        if (strcmp(node->builtin->name, users[i].filter) != 0 || node->call->values.count <= users[i].position)
            continue;
        const struct node *name = node->call->values.nodes[users[i].position];
        if (name->type != NODE_CONSTANT || name->value.type != VALUE_TEXT)
            return 1;
        if (!(users[i].is_test ? test_find(name->value.text) : filter_find(name->value.text)))
            return fail_unknown(parser, users[i].is_test ? "test" : "filter", name->value.text);
    }
    return 1;
}

struct node *parse_filters(struct template_parser *parser, struct node *input, int first_inline)
{
    struct node *node = input;
    while (first_inline || parser_at_operator(parser, "|")) {
        if (!first_inline)
            parser_advance(parser);
        first_inline = 0;
        struct value name;
        struct node *filter = parser_node(parser, NODE_FILTER);
        if (!filter)
            return NULL;
        if (parser_token(parser)->type != TOKEN_NAME)
            return parser_fail_unexpected(parser, "a filter's name");
        if (!parser_text(parser, &name))
            return NULL;
        filter->builtin = filter_find(name.text);
        if (!filter->builtin) {
            fail_unknown(parser, "filter", name.text);
            return NULL;
        }
        parser_advance(parser);
        if (parser_at_operator(parser, "(") && !(filter->call = parse_arguments(parser)))
            return NULL;
        filter->a = node;
        node = filter;
        if (!check_named_builtin(parser, node))
            return NULL;
    }
    return node;
}

/* Whether a test's argument may start here without parentheses. */
static int starts_test_argument(const struct template_parser *parser)
{
    switch (parser_token(parser)->type) {
    case TOKEN_NAME:
        return !parser_at_name(parser, "else") && !parser_at_name(parser, "or") && !parser_at_name(parser, "and");
    case TOKEN_STRING:
    case TOKEN_INTEGER:
    case TOKEN_FLOAT:
        return 1;
    default:
        return parser_at_operator(parser, "[") || parser_at_operator(parser, "{");
    }
}

static int parse_test_arguments(struct template_parser *parser, struct node *test)
{
    if (parser_at_operator(parser, "("))
        return (test->call = parse_arguments(parser)) != NULL;
    if (!starts_test_argument(parser))
        return 1;
    if (parser_at_name(parser, "is"))
        return template_fail(parser->render, BULLA_E_INPUT, "tests cannot be chained with 'is'");
    test->call = arena_alloc(parser->render->arena, 1, sizeof *test->call, parser->render->error);
    struct node *argument = test->call ? parse_primary(parser, 0) : NULL;
    argument = argument ? parse_postfix(parser, argument) : NULL;
    return argument && parser_append(parser, &test->call->values, argument);
}

/* After "is". */
static struct node *parse_test(struct template_parser *parser, struct node *value)
{
    int negated = parser_skip_name(parser, "not");
    struct value name;
    struct node *node = parser_node(parser, NODE_TEST);
    if (!node)
        return NULL;
    if (parser_token(parser)->type != TOKEN_NAME)
        return parser_fail_unexpected(parser, "a test's name");
    if (!parser_text(parser, &name))
        return NULL;
    node->builtin = test_find(name.text);
    if (!node->builtin) {
        fail_unknown(parser, "test", name.text);
        return NULL;
    }
    parser_advance(parser);
    node->a = value;
    if (!parse_test_arguments(parser, node))
        return NULL;
    /* A template that asks whether a name is there may well call it. */
    if (value->type == NODE_NAME &&
        !parser_assigns(parser, &parser->assigned, parser->chat_template->name_texts[value->name]))
        return NULL;
    if (!negated)
        return node;
    struct node *not_node = parser_node(parser, NODE_NOT);
    if (not_node)
        not_node->a = node;
    return not_node;
}

struct node *parse_filter_expression(struct template_parser *parser, struct node *node)
{
    while (node) {
        if (parser_at_operator(parser, "|"))
            node = parse_filters(parser, node, 0);
        else if (parser_skip_name(parser, "is"))
            node = parse_test(parser, node);
        else if (parser_at_operator(parser, "("))
            node = parse_call(parser, node);
        else
            break;
    }
    return node;
}

/* ---- Operators, the tightest first ---- */

static struct node *parse_unary(struct template_parser *parser, int with_filter)
{
    struct node *node;
    int negative = parser_at_operator(parser, "-");
    if (negative || parser_at_operator(parser, "+")) {
        node = parser_node(parser, negative ? NODE_NEGATIVE : NODE_POSITIVE);
        parser_advance(parser);
        if (!node || !parser_enter(parser) || !(node->a = parse_unary(parser, 0)))
            return NULL;
        parser->nesting--;
    } else {
        node = parse_primary(parser, 0);
    }
    node = node ? parse_postfix(parser, node) : NULL;
    return node && with_filter ? parse_filter_expression(parser, node) : node;
}

static struct node *binary(struct template_parser *parser, enum node_type type, enum operator_type operator,
                           struct node *left, struct node *right)
{
    struct node *node = left && right ? parser_node(parser, type) : NULL;
    if (!node)
        return NULL;
    node->operator = operator;
    node->line = left->line;
    node->a = left;
    node->b = right;
    return node;
}

static struct node *parse_power(struct template_parser *parser)
{
    struct node *node = parse_unary(parser, 1);
    while (node && parser_skip_operator(parser, "**"))
        node = binary(parser, NODE_BINARY, OPERATOR_POWER, node, parse_unary(parser, 1));
    return node;
}

static struct node *parse_product(struct template_parser *parser)
{
    static const char *const symbols[] = {"*", "/", "//", "%"};
    struct node *node = parse_power(parser);
    for (size_t i = 0; node && i < 4;) {
        if (!parser_skip_operator(parser, symbols[i])) {
            i++;
            continue;
        }
        node = binary(parser, NODE_BINARY, OPERATOR_MULTIPLY + i, node, parse_power(parser));
        i = 0;
    }
    return node;
}

static struct node *parse_concat(struct template_parser *parser)
{
    struct node *first = parse_product(parser);
    if (!first || !parser_at_operator(parser, "~"))
        return first;
    struct node *node = parser_node(parser, NODE_CONCAT);
    if (!node || !parser_append(parser, &node->children, first))
        return NULL;
    while (parser_skip_operator(parser, "~")) {
        struct node *next = parse_product(parser);
        if (!next || !parser_append(parser, &node->children, next))
            return NULL;
    }
    return node;
}

static struct node *parse_sum(struct template_parser *parser)
{
    struct node *node = parse_concat(parser);
    while (node && (parser_at_operator(parser, "+") || parser_at_operator(parser, "-"))) {
        enum operator_type operator = parser_at_operator(parser, "+") ? OPERATOR_ADD : OPERATOR_SUBTRACT;
        parser_advance(parser);
        node = binary(parser, NODE_BINARY, operator, node, parse_concat(parser));
    }
    return node;
}

/* Steps over a comparison operator; -1 when there is none. */
static int comparison(struct template_parser *parser)
{
    static const char *const symbols[] = {"==", "!=", "<", "<=", ">", ">="};
    for (int i = 0; i < 6; i++)
        if (parser_skip_operator(parser, symbols[i]))
            return OPERATOR_EQUAL + i;
    if (parser_skip_name(parser, "in"))
        return OPERATOR_IN;
    if (parser_at_name(parser, "not") && token_is(parser_next(parser), TOKEN_NAME, "in")) {
        parser_advance(parser);
        parser_advance(parser);
        return OPERATOR_NOT_IN;
    }
    return -1;
}

static struct node *parse_comparison(struct template_parser *parser)
{
    struct node *first = parse_sum(parser), *node = NULL;
    size_t capacity = 0;
    for (int operator; first && (operator = comparison(parser)) >= 0;) {
        if (!node && (!(node = parser_node(parser, NODE_COMPARE)) || !parser_append(parser, &node->children, first)))
            return NULL;
        size_t count = node->children.count - 1;
        if (count == capacity) {
            capacity = capacity ? 2 * capacity : 4;
            uint8_t *grown = arena_alloc(parser->render->arena, capacity, 1, parser->render->error);
            if (!grown)
                return NULL;
            if (count)
                memcpy(grown, node->operators, count);
            node->operators = grown;
        }
        node->operators[count] = (uint8_t)operator;
        struct node *right = parse_sum(parser);
        if (!right || !parser_append(parser, &node->children, right))
            return NULL;
    }
    return node ? node : first;
}

static struct node *parse_not(struct template_parser *parser)
{
    if (!parser_at_name(parser, "not"))
        return parse_comparison(parser);
    struct node *node = parser_node(parser, NODE_NOT);
    parser_advance(parser);
    if (!node || !parser_enter(parser) || !(node->a = parse_not(parser)))
        return NULL;
    parser->nesting--;
    return node;
}

static struct node *parse_and(struct template_parser *parser)
{
    struct node *node = parse_not(parser);
    while (node && parser_skip_name(parser, "and"))
        node = binary(parser, NODE_AND, 0, node, parse_not(parser));
    return node;
}

static struct node *parse_or(struct template_parser *parser)
{
    struct node *node = parse_and(parser);
    while (node && parser_skip_name(parser, "or"))
        node = binary(parser, NODE_OR, 0, node, parse_and(parser));
    return node;
}

/* a if b else c */
struct node *parse_expression(struct template_parser *parser)
{
    if (!parser_enter(parser))
        return NULL;
    struct node *node = parse_or(parser);
    while (node && parser_skip_name(parser, "if")) {
        struct node *condition = parser_node(parser, NODE_CONDITION);
        if (!condition || !(condition->b = parse_or(parser)))
            return NULL;
        if (parser_skip_name(parser, "else") && !(condition->c = parse_expression(parser)))
            return NULL;
        condition->a = node;
        node = condition;
    }
    parser->nesting--;
    return node;
}

/* ---- Tuples and targets ---- */

static int at_tuple_end(const struct template_parser *parser, const char *end_name)
{
    enum token_type type = parser_token(parser)->type;
    return type == TOKEN_OUTPUT_END || type == TOKEN_BLOCK_END || parser_at_operator(parser, ")") ||
           (end_name && parser_at_name(parser, end_name));
}

struct node *parse_tuple(struct template_parser *parser, int with_condition, const char *end_name,
                                int in_parentheses, int simple, int with_namespace)
{
    struct node *tuple = parser_node(parser, NODE_TUPLE);
    int is_tuple = 0;
    if (!tuple || !parser_enter(parser))
        return NULL;
    for (;;) {
        if (tuple->children.count > 0 && !parser_expect_operator(parser, ","))
            return NULL;
        if (at_tuple_end(parser, end_name))
            break;
        struct node *item = simple ? parse_primary(parser, with_namespace)
                            : with_condition ? parse_expression(parser)
                                             : parse_or(parser);
        if (!item || !parser_append(parser, &tuple->children, item))
            return NULL;
        if (!parser_at_operator(parser, ","))
            break;
        is_tuple = 1;
    }
    parser->nesting--;
    if (!is_tuple && tuple->children.count > 0)
        return tuple->children.nodes[0];
    if (!is_tuple && !in_parentheses)
        return parser_fail_unexpected(parser, "an expression");
    return tuple;
}

struct node *parse_expression_or_tuple(struct template_parser *parser, int with_condition, const char *end_name)
{
    return parse_tuple(parser, with_condition, end_name, 0, 0, 0);
}

static int check_target(struct template_parser *parser, const struct node *target)
{
    if (target->type == NODE_NAMESPACE_ATTRIBUTE)
        return 1;
    if (target->type == NODE_NAME)
        return parser_assigns(parser, &parser->assigned, parser->chat_template->name_texts[target->name]);
    if (target->type != NODE_TUPLE)
        return template_fail(parser->render, BULLA_E_INPUT, "a value can only be given to names");
    for (size_t i = 0; i < target->children.count; i++)
        if (!check_target(parser, target->children.nodes[i]))
            return 0;
    return 1;
}

struct node *parse_target(struct template_parser *parser, const char *end_name, int with_namespace)
{
    struct node *target = parse_tuple(parser, 1, end_name, 0, 1, with_namespace);
    return target && check_target(parser, target) ? target : NULL;
}
