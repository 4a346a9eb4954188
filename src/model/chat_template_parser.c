/* What the parser's files share: tokens, nodes, names. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "model/chat_template_internal.h"

/* ---- Tokens ---- */

const struct token *parser_token(const struct template_parser *parser)
{
    return &parser->tokens.tokens[parser->at];
}

const struct token *parser_next(const struct template_parser *parser)
{
    return &parser->tokens.tokens[parser->at + 1 < parser->tokens.count ? parser->at + 1 : parser->at];
}

void parser_advance(struct template_parser *parser)
{
    if (parser->at + 1 < parser->tokens.count)
        parser->at++;
    parser->render->line = parser_token(parser)->line;
}

int token_is(const struct token *token, enum token_type type, const char *text)
{
    return token->type == type && token->length == strlen(text) && memcmp(token->start, text, token->length) == 0;
}

int parser_at_operator(const struct template_parser *parser, const char *operator)
{
    return token_is(parser_token(parser), TOKEN_OPERATOR, operator);
}

int parser_at_name(const struct template_parser *parser, const char *name)
{
    return token_is(parser_token(parser), TOKEN_NAME, name);
}

int parser_skip_operator(struct template_parser *parser, const char *operator)
{
    int found = parser_at_operator(parser, operator);
    if (found)
        parser_advance(parser);
    return found;
}

int parser_skip_name(struct template_parser *parser, const char *name)
{
    int found = parser_at_name(parser, name);
    if (found)
        parser_advance(parser);
    return found;
}

void *parser_fail_unexpected(struct template_parser *parser, const char *expected)
{
    const struct token *token = parser_token(parser);
    static const char *const names[] = {"the end of the template", "text", "'{{'", "'}}'", "'{%'", "'%}'"};
    char found[80];
    if (token->type <= TOKEN_BLOCK_END)
        snprintf(found, sizeof found, "%s", names[token->type]);
    else
        snprintf(found, sizeof found, "'%.*s'", (int)(token->length < 60 ? token->length : 60), token->start);
    parser->render->line = token->line;
    template_fail(parser->render, BULLA_E_INPUT, "expected %s, found %s", expected, found);
    return NULL;
}

int parser_expect_operator(struct template_parser *parser, const char *operator)
{
    char expected[8];
    if (parser_skip_operator(parser, operator))
        return 1;
    snprintf(expected, sizeof expected, "'%s'", operator);
    return parser_fail_unexpected(parser, expected) != NULL;
}

/* ---- Nodes ---- */

struct node *parser_node(struct template_parser *parser, enum node_type type)
{
    struct node *node = arena_alloc(parser->render->arena, 1, sizeof *node, parser->render->error);
    if (!node)
        return NULL;
    node->type = type;
    node->line = parser_token(parser)->line;
    return node;
}

int parser_append(struct template_parser *parser, struct node_list *list, struct node *node)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 4;
        struct node **grown = arena_alloc(parser->render->arena, capacity, sizeof *grown, parser->render->error);
        if (!grown)
            return 0;
        if (list->count)
            memcpy(grown, list->nodes, list->count * sizeof *grown);
        list->nodes = grown;
        list->capacity = capacity;
    }
    list->nodes[list->count++] = node;
    return 1;
}

static int number_of_name(struct template_parser *parser, const struct text *name, uint32_t *number)
{
    struct bulla_chat_template *template = parser->chat_template;
    struct value key = {.type = VALUE_TEXT, .text = name}, value;
    if (!dict_get(parser->render, &template->names, key, &value))
        return 0;
    if (value.type != VALUE_MISSING) {
        *number = (uint32_t)value.integer;
        return 1;
    }
    *number = (uint32_t)template->names.count;
    if (*number == template->name_capacity) {
        size_t capacity = template->name_capacity ? 2 * template->name_capacity : 64;
        const struct text **grown =
            arena_alloc(parser->render->arena, capacity, sizeof *grown, parser->render->error);
        if (!grown)
            return 0;
        if (*number)
            memcpy(grown, template->name_texts, *number * sizeof *grown);
        template->name_texts = grown;
        template->name_capacity = capacity;
    }
    template->name_texts[*number] = name;
    return dict_set(parser->render, &template->names, key, value_integer(*number));
}

int parser_text(struct template_parser *parser, struct value *text)
{
    const struct token *token = parser_token(parser);
    return value_text_copy(parser->render, token->start, token->length, text);
}

int parser_name(struct template_parser *parser, uint32_t *number)
{
    struct value text;
    if (parser_token(parser)->type != TOKEN_NAME)
        return parser_fail_unexpected(parser, "a name") != NULL;
    if (!parser_text(parser, &text) || !number_of_name(parser, text.text, number))
        return 0;
    parser_advance(parser);
    return 1;
}

int parser_assigns(struct template_parser *parser, struct dict *set, const struct text *name)
{
    return dict_set(parser->render, set, (struct value){.type = VALUE_TEXT, .text = name}, value_none());
}

/* Remembers a call, to be checked when the whole template is known. */
int parser_remember(struct template_parser *parser, struct mention_list *list, struct mention mention)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 32;
        struct mention *grown = memory_resize(list->mentions, capacity, sizeof *grown, parser->render->error);
        if (!grown)
            return 0;
        list->mentions = grown;
        list->capacity = capacity;
    }
    list->mentions[list->count++] = mention;
    return 1;
}

int parser_enter(struct template_parser *parser)
{
    if (++parser->nesting <= TEMPLATE_MAX_NESTING)
        return 1;
    return template_fail(parser->render, BULLA_E_LIMIT, "expressions and blocks are nested more than %d deep",
                         TEMPLATE_MAX_NESTING);
}
