/* Tokens to a tree: statements and the whole template. */
#include <stdio.h>
#include <string.h>

#include "model/chat_template_internal.h"

static int parse_body(struct template_parser *parser, struct node_list *body, const char *const *ends);

static int at_any(const struct template_parser *parser, const char *const *names)
{
    for (; names && *names; names++)
        if (parser_at_name(parser, *names))
            return 1;
    return 0;
}

static int expect_block_end(struct template_parser *parser)
{
    if (parser_token(parser)->type != TOKEN_BLOCK_END)
        return parser_fail_unexpected(parser, "'%}'") != NULL;
    parser_advance(parser);
    return 1;
}

/* The body of a statement, from the end of its first tag to the name of the tag
 * that ends it, at which the parser stops. */
static int parse_block(struct template_parser *parser, struct node_list *body, const char *const *ends)
{
    parser_skip_operator(parser, ":");
    return expect_block_end(parser) && parse_body(parser, body, ends);
}

static int parse_last_block(struct template_parser *parser, struct node_list *body, const char *end)
{
    const char *const ends[] = {end, NULL};
    if (!parse_block(parser, body, ends))
        return 0;
    parser_advance(parser);
    return 1;
}

static struct node *parse_if(struct template_parser *parser)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    struct node *first = parser_node(parser, NODE_IF), *node = first;
    while (node) {
        parser_advance(parser);
        node->a = parse_expression_or_tuple(parser, 0, NULL);
        if (!node->a || !parse_block(parser, &node->body, ends))
            return NULL;
        if (parser_at_name(parser, "elif")) {
            struct node *next = parser_node(parser, NODE_IF);
            if (!next || !parser_append(parser, &node->otherwise, next))
                return NULL;
            node = next;
            continue;
        }
        if (!parser_at_name(parser, "else")) {
            parser_advance(parser);
            return first;
        }
        parser_advance(parser);
        return parse_last_block(parser, &node->otherwise, "endif") ? first : NULL;
    }
    return NULL;
}

static struct node *parse_for(struct template_parser *parser)
{
    static const char *const ends[] = {"endfor", "else", NULL};
    struct node *node = parser_node(parser, NODE_FOR);
    parser_advance(parser);
    if (!node || !(node->a = parse_target(parser, "in", 0)))
        return NULL;
    if (!parser_skip_name(parser, "in"))
        return parser_fail_unexpected(parser, "'in'");
    if (!(node->b = parse_expression_or_tuple(parser, 0, "recursive")))
        return NULL;
    if (parser_skip_name(parser, "if") && !(node->c = parse_expression(parser)))
        return NULL;
    if (parser_at_name(parser, "recursive")) {
        template_fail(parser->render, BULLA_E_UNSUPPORTED, "recursive for loops are not supported");
        return NULL;
    }
    parser->loops++;
    int done = parse_block(parser, &node->body, ends);
    parser->loops--;
    if (!done)
        return NULL;
    if (!parser_skip_name(parser, "else")) {
        parser_advance(parser);
        return node;
    }
    return parse_last_block(parser, &node->otherwise, "endfor") ? node : NULL;
}

static struct node *parse_set(struct template_parser *parser)
{
    struct node *node = parser_node(parser, NODE_SET);
    parser_advance(parser);
    if (!node || !(node->a = parse_target(parser, NULL, 1)))
        return NULL;
    if (parser_skip_operator(parser, "=")) {
        node->b = parse_expression_or_tuple(parser, 1, NULL);
        return node->b ? node : NULL;
    }
    node->type = NODE_SET_BLOCK;
    if (parser_at_operator(parser, "|") && !(node->b = parse_filters(parser, NULL, 0)))
        return NULL;
    return parse_last_block(parser, &node->body, "endset") ? node : NULL;
}

/* (a, b=1): numbers of names into node->parameters, defaults into its children. */
static int parse_parameters(struct template_parser *parser, struct node *node)
{
    size_t capacity = 0;
    if (!parser_expect_operator(parser, "("))
        return 0;
    while (!parser_at_operator(parser, ")")) {
        if (node->parameter_count > 0 && !parser_expect_operator(parser, ","))
            return 0;
        if (node->parameter_count == capacity) {
            capacity = capacity ? 2 * capacity : 4;
            uint32_t *grown = arena_alloc(parser->render->arena, capacity, sizeof *grown, parser->render->error);
            if (!grown)
                return 0;
            if (node->parameter_count)
                memcpy(grown, node->parameters, node->parameter_count * sizeof *grown);
            node->parameters = grown;
        }
        uint32_t *name = &node->parameters[node->parameter_count++];
        if (!parser_name(parser, name) ||
            !parser_assigns(parser, &parser->assigned, parser->chat_template->name_texts[*name]))
            return 0;
        if (parser_skip_operator(parser, "=")) {
            struct node *value = parse_expression(parser);
            if (!value || !parser_append(parser, &node->children, value))
                return 0;
        } else if (node->children.count > 0) {
            return template_fail(parser->render, BULLA_E_INPUT, "a parameter without a default follows one with it");
        }
    }
    if (node->parameter_count > TEMPLATE_MAX_PARAMETERS)
        return template_fail(parser->render, BULLA_E_UNSUPPORTED, "a macro with more than %d parameters",
                             TEMPLATE_MAX_PARAMETERS);
    return parser_expect_operator(parser, ")");
}

/* The body of a macro: its own loops, and mentions of caller, varargs and kwargs. */
static int parse_macro_body(struct template_parser *parser, struct node *node, const char *end)
{
    int loops = parser->loops;
    node->c = parser->macro;
    parser->macro = node;
    parser->loops = 0;
    int done = parse_last_block(parser, &node->body, end);
    parser->macro = node->c;
    parser->loops = loops;
    return done;
}

static struct node *parse_macro(struct template_parser *parser)
{
    struct node *node = parser_node(parser, NODE_MACRO);
    parser_advance(parser);
    if (!node || !parser_name(parser, &node->name) ||
        !parser_assigns(parser, &parser->assigned, parser->chat_template->name_texts[node->name]) ||
        !parse_parameters(parser, node))
        return NULL;
    return parse_macro_body(parser, node, "endmacro") ? node : NULL;
}

static struct node *parse_call_block(struct template_parser *parser)
{
    struct node *node = parser_node(parser, NODE_CALL_BLOCK);
    parser_advance(parser);
    if (!node || (parser_at_operator(parser, "(") && !parse_parameters(parser, node)))
        return NULL;
    if (!(node->a = parse_expression(parser)))
        return NULL;
    if (node->a->type != NODE_CALL) {
        template_fail(parser->render, BULLA_E_INPUT, "a call block must call something");
        return NULL;
    }
    return parse_macro_body(parser, node, "endcall") ? node : NULL;
}

/* transformers' block around what the assistant says: its text, in a scope of its own. */
static struct node *parse_generation(struct template_parser *parser)
{
    struct node *node = parser_node(parser, NODE_CALL_BLOCK);
    parser_advance(parser);
    return node && parse_macro_body(parser, node, "endgeneration") ? node : NULL;
}

static struct node *parse_filter_block(struct template_parser *parser)
{
    struct node *node = parser_node(parser, NODE_FILTER_BLOCK);
    parser_advance(parser);
    if (!node || !(node->b = parse_filters(parser, NULL, 1)))
        return NULL;
    return parse_last_block(parser, &node->body, "endfilter") ? node : NULL;
}

static struct node *parse_with(struct template_parser *parser)
{
    struct node *node = parser_node(parser, NODE_WITH);
    parser_advance(parser);
    while (node && parser_token(parser)->type != TOKEN_BLOCK_END) {
        if (node->children.count > 0 && !parser_expect_operator(parser, ","))
            return NULL;
        struct node *target = parse_target(parser, NULL, 0);
        if (!target || !parser_expect_operator(parser, "="))
            return NULL;
        struct node *value = parse_expression(parser);
        if (!value || !parser_append(parser, &node->children, target) ||
            !parser_append(parser, &node->children, value))
            return NULL;
    }
    return node && parse_last_block(parser, &node->body, "endwith") ? node : NULL;
}

static struct node *parse_loop_control(struct template_parser *parser)
{
    struct node *node = parser_node(parser, parser_at_name(parser, "break") ? NODE_BREAK : NODE_CONTINUE);
    if (parser->loops == 0) {
        template_fail(parser->render, BULLA_E_INPUT, "break and continue need a loop around them");
        return NULL;
    }
    parser_advance(parser);
    return node;
}

static const struct {
    const char *name;
    struct node *(*parse)(struct template_parser *parser);
} statements[] = {
    {"if", parse_if},           {"for", parse_for},
    {"set", parse_set},         {"macro", parse_macro},
    {"call", parse_call_block}, {"generation", parse_generation},
    {"filter", parse_filter_block}, {"with", parse_with},
    {"break", parse_loop_control},  {"continue", parse_loop_control},
};

static struct node *parse_statement(struct template_parser *parser)
{
    const struct token *token = parser_token(parser);
    if (token->type != TOKEN_NAME)
        return parser_fail_unexpected(parser, "a statement");
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++)
        if (parser_at_name(parser, statements[i].name)) {
            if (++parser->nesting > TEMPLATE_MAX_NESTING) {
                template_fail(parser->render, BULLA_E_LIMIT, "expressions and blocks are nested more than %d deep",
                              TEMPLATE_MAX_NESTING);
                return NULL;
            }
            struct node *node = statements[i].parse(parser);
            parser->nesting--;
            return node;
        }
    template_fail(parser->render, BULLA_E_UNSUPPORTED, "the statement '%.*s' is not supported here",
                  (int)(token->length < 100 ? token->length : 100), token->start);
    return NULL;
}

/* {% print a, b %} */
static int parse_print(struct template_parser *parser, struct node_list *body)
{
    int first = 1;
    parser_advance(parser);
    while (parser_token(parser)->type != TOKEN_BLOCK_END) {
        if (!first && !parser_expect_operator(parser, ","))
            return 0;
        struct node *node = parser_node(parser, NODE_OUTPUT);
        if (!node || !(node->a = parse_expression(parser)) || !parser_append(parser, body, node))
            return 0;
        first = 0;
    }
    return 1;
}

static int parse_tag(struct template_parser *parser, struct node_list *body)
{
    if (parser_at_name(parser, "print"))
        return parse_print(parser, body) && expect_block_end(parser);
    struct node *node = parse_statement(parser);
    return node && parser_append(parser, body, node) && expect_block_end(parser);
}

static int parse_data(struct template_parser *parser, struct node_list *body)
{
    struct node *node = parser_node(parser, NODE_DATA);
    if (!node || !value_text_copy(parser->render, parser_token(parser)->start, parser_token(parser)->length,
                                  &node->value))
        return 0;
    parser_advance(parser);
    return parser_append(parser, body, node);
}

static int parse_output(struct template_parser *parser, struct node_list *body)
{
    struct node *node = parser_node(parser, NODE_OUTPUT);
    parser_advance(parser);
    if (!node || !(node->a = parse_expression_or_tuple(parser, 1, NULL)))
        return 0;
    if (parser_token(parser)->type != TOKEN_OUTPUT_END)
        return parser_fail_unexpected(parser, "'}}'") != NULL;
    parser_advance(parser);
    return parser_append(parser, body, node);
}

static int fail_unfinished(struct template_parser *parser, const char *const *ends)
{
    char expected[100];
    int used = 0;
    for (size_t i = 0; ends[i] && used >= 0 && (size_t)used < sizeof expected; i++)
        used += snprintf(expected + used, sizeof expected - (size_t)used, "%s'%s'", i ? " or " : "", ends[i]);
    return parser_fail_unexpected(parser, expected) != NULL;
}

/* Up to a tag with one of the names `ends` (NULL: to the end of the template). */
static int parse_body(struct template_parser *parser, struct node_list *body, const char *const *ends)
{
    for (;;) {
        int done;
        switch (parser_token(parser)->type) {
        case TOKEN_END:
            return !ends || fail_unfinished(parser, ends);
        case TOKEN_DATA:
            done = parse_data(parser, body);
            break;
        case TOKEN_OUTPUT_BEGIN:
            done = parse_output(parser, body);
            break;
        case TOKEN_BLOCK_BEGIN:
            parser_advance(parser);
            if (at_any(parser, ends))
                return 1;
            done = parse_tag(parser, body);
            break;
        default:
            done = parser_fail_unexpected(parser, "text or a tag") != NULL;
        }
        if (!done)
            return 0;
    }
}

/* ---- What is called must be something ---- */

static int fail_call(struct template_parser *parser, const char *kind, const struct mention *mention)
{
    parser->render->line = mention->line;
    return template_fail(parser->render, BULLA_E_UNSUPPORTED, "the %s '%.*s' is not supported", kind,
                         (int)(mention->name->length < 100 ? mention->name->length : 100), mention->name->bytes);
}

static int is_in(struct template_parser *parser, const struct dict *set, const struct text *name, int *found)
{
    struct value value;
    if (!dict_get(parser->render, set, (struct value){.type = VALUE_TEXT, .text = name}, &value))
        return 0;
    *found = value.type != VALUE_MISSING;
    return 1;
}

/* Variables come from JSON and cannot be called: a name that is neither one of
 * the functions nor given a value by the template is a function that is not
 * there. So is a method that no value has. */
static int check_calls(struct template_parser *parser)
{
    int found;
    for (size_t i = 0; i < parser->called.count; i++) {
        const struct mention *mention = &parser->called.mentions[i];
        if (mention->number == NAME_CALLER ||
            builtin_find(function_table, mention->name->bytes, mention->name->length))
            continue;
        if (!is_in(parser, &parser->assigned, mention->name, &found))
            return 0;
        if (!found)
            return fail_call(parser, "function", mention);
    }
    for (size_t i = 0; i < parser->called_methods.count; i++) {
        const struct mention *mention = &parser->called_methods.mentions[i];
        if (attribute_is_known(mention->name))
            continue;
        if (!is_in(parser, &parser->attributes, mention->name, &found))
            return 0;
        if (!found)
            return fail_call(parser, "method", mention);
    }
    return 1;
}

int parse_template(struct template_parser *parser)
{
    return parse_body(parser, &parser->chat_template->body, NULL) && check_calls(parser);
}
