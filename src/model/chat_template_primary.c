/* Tokens to a tree: names, literals, a.b, a[b] and calls. */
#include <string.h>

#include "model/chat_template_internal.h"

/* ---- Primary expressions ---- */

static struct node *constant(struct template_parser *parser, struct value value)
{
    struct node *node = parser_node(parser, NODE_CONSTANT);
    if (node)
        node->value = value;
    return node;
}

/* varargs, kwargs and caller are given to the macros that mention them. */
static void note_special_name(struct template_parser *parser, uint32_t name)
{
    for (struct node *macro = parser->macro; macro; macro = macro->c) {
        macro->uses_varargs |= name == NAME_VARARGS;
        macro->uses_kwargs |= name == NAME_KWARGS;
        macro->uses_caller |= name == NAME_CALLER;
    }
}

static struct node *parse_name(struct template_parser *parser, int with_namespace)
{
    static const struct {
        const char *name;
        uint8_t type, integer;
    } constants[] = {{"true", VALUE_BOOL, 1},  {"True", VALUE_BOOL, 1},  {"false", VALUE_BOOL, 0},
                     {"False", VALUE_BOOL, 0}, {"none", VALUE_NONE, 0}, {"None", VALUE_NONE, 0}};
    for (size_t i = 0; i < sizeof constants / sizeof constants[0]; i++)
        if (parser_at_name(parser, constants[i].name)) {
            struct node *node = constant(
                parser, (struct value){.type = constants[i].type, .integer = constants[i].integer});
            parser_advance(parser);
            return node;
        }
    struct node *node = parser_node(parser, NODE_NAME);
    if (!node || !parser_name(parser, &node->name))
        return NULL;
    if (with_namespace && parser_skip_operator(parser, ".")) {
        node->type = NODE_NAMESPACE_ATTRIBUTE;
        if (parser_token(parser)->type != TOKEN_NAME)
            return parser_fail_unexpected(parser, "an attribute's name");
        if (!parser_text(parser, &node->value) || !parser_assigns(parser, &parser->attributes, node->value.text))
            return NULL;
        parser_advance(parser);
        return node;
    }
    note_special_name(parser, node->name);
    return node;
}

/* Strings side by side are one. */
static struct node *parse_string(struct template_parser *parser)
{
    struct node *node = constant(parser, parser_token(parser)->value);
    parser_advance(parser);
    while (node && parser_token(parser)->type == TOKEN_STRING) {
        if (!operator_apply(parser->render, OPERATOR_ADD, node->value, parser_token(parser)->value, &node->value))
            return NULL;
        parser_advance(parser);
    }
    return node;
}

static struct node *parse_list(struct template_parser *parser)
{
    struct node *node = parser_node(parser, NODE_LIST);
    parser_advance(parser);
    while (node && !parser_at_operator(parser, "]")) {
        if (node->children.count > 0 && !parser_expect_operator(parser, ","))
            return NULL;
        if (parser_at_operator(parser, "]"))
            break;
        struct node *item = parse_expression(parser);
        if (!item || !parser_append(parser, &node->children, item))
            return NULL;
    }
    return node && parser_expect_operator(parser, "]") ? node : NULL;
}

static struct node *parse_dict(struct template_parser *parser)
{
    struct node *node = parser_node(parser, NODE_DICT);
    parser_advance(parser);
    while (node && !parser_at_operator(parser, "}")) {
        if (node->children.count > 0 && !parser_expect_operator(parser, ","))
            return NULL;
        if (parser_at_operator(parser, "}"))
            break;
        struct node *key = parse_expression(parser);
        if (!key || !parser_expect_operator(parser, ":"))
            return NULL;
        struct node *value = parse_expression(parser);
        if (!value || !parser_append(parser, &node->children, key) || !parser_append(parser, &node->children, value))
            return NULL;
        if (key->type == NODE_CONSTANT && key->value.type == VALUE_TEXT &&
            !parser_assigns(parser, &parser->attributes, key->value.text))
            return NULL;
    }
    return node && parser_expect_operator(parser, "}") ? node : NULL;
}

struct node *parse_primary(struct template_parser *parser, int with_namespace)
{
    const struct token *token = parser_token(parser);
    struct node *node;
    switch (token->type) {
    case TOKEN_NAME:
        return parse_name(parser, with_namespace);
    case TOKEN_STRING:
        return parse_string(parser);
    case TOKEN_INTEGER:
    case TOKEN_FLOAT:
        node = constant(parser, token->value);
        parser_advance(parser);
        return node;
    default:
        break;
    }
    if (parser_at_operator(parser, "[") || parser_at_operator(parser, "{")) {
        if (!parser_enter(parser))
            return NULL;
        node = parser_at_operator(parser, "[") ? parse_list(parser) : parse_dict(parser);
        parser->nesting--;
        return node;
    }
    if (parser_skip_operator(parser, "(")) {
        node = parse_tuple(parser, 1, NULL, 1, 0, 0);
        return node && parser_expect_operator(parser, ")") ? node : NULL;
    }
    return parser_fail_unexpected(parser, "an expression");
}

/* ---- Subscripts and calls ---- */

static struct node *parse_attribute(struct template_parser *parser, struct node *object)
{
    const struct token *token = parser_token(parser);
    struct node *node = parser_node(parser, token->type == TOKEN_INTEGER ? NODE_ITEM : NODE_ATTRIBUTE);
    if (!node)
        return NULL;
    node->a = object;
    if (token->type == TOKEN_INTEGER) {
        node->b = constant(parser, token->value);
        if (!node->b)
            return NULL;
    } else if (token->type != TOKEN_NAME) {
        return parser_fail_unexpected(parser, "a name or number after '.'");
    } else if (!parser_text(parser, &node->value)) {
        return NULL;
    }
    parser_advance(parser);
    return node;
}

/* What is between '[' and ']' or ',': an expression, or a slice whose object the caller sets. */
static struct node *parse_index(struct template_parser *parser)
{
    struct node *parts[3] = {NULL, NULL, NULL};
    size_t part = 0;
    if (!parser_at_operator(parser, ":")) {
        parts[0] = parse_expression(parser);
        if (!parts[0] || !parser_at_operator(parser, ":"))
            return parts[0];
    }
    struct node *node = parser_node(parser, NODE_SLICE);
    while (node && part < 2 && parser_skip_operator(parser, ":")) {
        part++;
        if (parser_at_operator(parser, ":") || parser_at_operator(parser, "]") || parser_at_operator(parser, ","))
            continue;
        parts[part] = parse_expression(parser);
        if (!parts[part])
            return NULL;
    }
    for (size_t i = 0; node && i < 3; i++)
        if (!parser_append(parser, &node->children, parts[i]))
            return NULL;
    return node;
}

static struct node *parse_subscript(struct template_parser *parser, struct node *object)
{
    struct node *node = parser_node(parser, NODE_ITEM);
    struct node *index = node ? parse_index(parser) : NULL;
    if (!index)
        return NULL;
    if (index->type == NODE_SLICE && !index->a) {
        index->a = object;
        return parser_expect_operator(parser, "]") ? index : NULL;
    }
    node->a = object;
    node->b = index;
    if (parser_at_operator(parser, ",")) {
        node->b = parser_node(parser, NODE_TUPLE);
        if (!node->b || !parser_append(parser, &node->b->children, index))
            return NULL;
    }
    while (parser_skip_operator(parser, ",")) {
        if (parser_at_operator(parser, "]"))
            break;
        index = parse_expression(parser);
        if (!index || !parser_append(parser, &node->b->children, index))
            return NULL;
    }
    return parser_expect_operator(parser, "]") ? node : NULL;
}

static int add_keyword(struct template_parser *parser, struct call *call)
{
    struct value name;
    size_t count = call->keyword_values.count;
    if (!parser_text(parser, &name) || !parser_assigns(parser, &parser->attributes, name.text))
        return 0;
    parser_advance(parser);
    parser_advance(parser);
    if ((count & (count - 1)) == 0) { /* 0, 1, 2, 4, ...: room for twice as many */
        const struct text **grown =
            arena_alloc(parser->render->arena, 2 * count + 1, sizeof *grown, parser->render->error);
        if (!grown)
            return 0;
        if (count)
            memcpy(grown, call->keywords, count * sizeof *grown);
        call->keywords = grown;
    }
    call->keywords[count] = name.text;
    struct node *value = parse_expression(parser);
    return value && parser_append(parser, &call->keyword_values, value);
}

static int add_argument(struct template_parser *parser, struct call *call)
{
    struct node *value;
    if (parser_at_operator(parser, "*") || parser_at_operator(parser, "**")) {
        struct node **slot = parser_at_operator(parser, "*") ? &call->spread : &call->spread_keywords;
        if (*slot || call->spread_keywords)
            return parser_fail_unexpected(parser, "')' after a spread argument") != NULL;
        parser_advance(parser);
        *slot = parse_expression(parser);
        return *slot != NULL;
    }
    if (call->spread_keywords)
        return parser_fail_unexpected(parser, "')' after a spread argument") != NULL;
    if (parser_token(parser)->type == TOKEN_NAME && token_is(parser_next(parser), TOKEN_OPERATOR, "="))
        return add_keyword(parser, call);
    if (call->spread || call->keyword_values.count > 0)
        return parser_fail_unexpected(parser, "a keyword argument after a keyword argument") != NULL;
    value = parse_expression(parser);
    return value && parser_append(parser, &call->values, value);
}

/* At '('. */
struct call *parse_arguments(struct template_parser *parser)
{
    struct call *call = arena_alloc(parser->render->arena, 1, sizeof *call, parser->render->error);
    int first = 1;
    if (!call || !parser_expect_operator(parser, "("))
        return NULL;
    while (!parser_at_operator(parser, ")")) {
        if (!first && !parser_expect_operator(parser, ","))
            return NULL;
        if (!first && parser_at_operator(parser, ")"))
            break;
        if (!add_argument(parser, call))
            return NULL;
        first = 0;
    }
    return parser_expect_operator(parser, ")") ? call : NULL;
}

struct node *parse_call(struct template_parser *parser, struct node *callee)
{
    struct node *node = parser_node(parser, NODE_CALL);
    if (!node || !(node->call = parse_arguments(parser)))
        return NULL;
    node->a = callee;
    struct mention mention = {NULL, node->line, callee->name};
    if (callee->type == NODE_NAME) {
        mention.name = parser->chat_template->name_texts[callee->name];
        return parser_remember(parser, &parser->called, mention) ? node : NULL;
    }
    if (callee->type == NODE_ATTRIBUTE) {
        mention.name = callee->value.text;
        return parser_remember(parser, &parser->called_methods, mention) ? node : NULL;
    }
    return node;
}

struct node *parse_postfix(struct template_parser *parser, struct node *node)
{
    while (node) {
        if (parser_skip_operator(parser, "."))
            node = parse_attribute(parser, node);
        else if (parser_skip_operator(parser, "["))
            node = parse_subscript(parser, node);
        else if (parser_at_operator(parser, "("))
            node = parse_call(parser, node);
        else
            break;
    }
    return node;
}
