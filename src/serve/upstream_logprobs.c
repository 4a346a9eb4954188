#include "serve/upstream_logprobs.h"

#include <math.h>
#include <string.h>

/* Engines write minus infinity as a number that is no more than very small, or as null. */
static const double LEAST = -9999;

static int read_number(const struct json *value, double *number)
{
    if (!value || value->type == JSON_NULL) {
        *number = LEAST;
        return 1;
    }
    if (value->type != JSON_NUMBER || isnan(value->number))
        return 0;
    *number = value->number < LEAST ? LEAST : value->number > 0 ? 0 : value->number;
    return 1;
}

/* The token's bytes where they are told: its text may be cut inside a character. */
static int read_bytes(const struct json *from, struct arena *arena, struct answer_logprob *to, bulla_error *error)
{
    const struct json *token = json_get(from, "token"), *bytes = json_get(from, "bytes");
    if (!json_is(token, JSON_STRING))
        return bulla_fail(error, BULLA_E_INPUT, "a log probability has no token");
    to->token = token->text;
    to->length = token->length;
    if (!json_is(bytes, JSON_ARRAY))
        return BULLA_OK;
    char *copy = arena_alloc(arena, bytes->length + 1, 1, NULL);
    if (!copy)
        return bulla_fail(error, BULLA_E_MEMORY, "memory is short");
    for (size_t i = 0; i < bytes->length; i++) {
        const struct json *byte = bytes->items[i];
        if (!json_is(byte, JSON_NUMBER) || !byte->is_integer || byte->integer < 0 || byte->integer > 255)
            return bulla_fail(error, BULLA_E_INPUT, "a log probability's token has something else than bytes");
        copy[i] = (char)byte->integer;
    }
    to->token = copy;
    to->length = bytes->length;
    return BULLA_OK;
}

static int read_entry(const struct json *from, struct arena *arena, struct answer_logprob *to, bulla_error *error)
{
    int code = read_bytes(from, arena, to, error);
    if (code == BULLA_OK && !read_number(json_get(from, "logprob"), &to->logprob))
        return bulla_fail(error, BULLA_E_INPUT, "a log probability is no number");
    return code;
}

static int alloc_top(struct upstream_logprob *token, size_t count, struct arena *arena, bulla_error *error)
{
    token->top_count = count < ANSWER_MOST_LOGPROBS ? count : ANSWER_MOST_LOGPROBS;
    token->top = arena_alloc(arena, token->top_count, sizeof *token->top, NULL);
    return token->top ? BULLA_OK : bulla_fail(error, BULLA_E_MEMORY, "memory is short");
}

static int read_chat(const struct json *content, struct arena *arena, struct upstream_logprobs *logprobs,
                     bulla_error *error)
{
    for (size_t i = 0; i < logprobs->count; i++) {
        struct upstream_logprob *token = &logprobs->tokens[i];
        const struct json *top = json_get(content->items[i], "top_logprobs");
        int code = read_entry(content->items[i], arena, &token->logprob, error);
        if (code == BULLA_OK && json_is(top, JSON_ARRAY))
            code = alloc_top(token, top->length, arena, error);
        for (size_t k = 0; k < token->top_count && code == BULLA_OK; k++)
            code = read_entry(top->items[k], arena, &token->top[k], error);
        if (code != BULLA_OK)
            return code;
    }
    return BULLA_OK;
}

static int read_completion(const struct json *value, struct arena *arena, struct upstream_logprobs *logprobs,
                           bulla_error *error)
{
    const struct json *tokens = json_get(value, "tokens"), *numbers = json_get(value, "token_logprobs");
    const struct json *tops = json_get(value, "top_logprobs");
    if (!json_is(numbers, JSON_ARRAY) || numbers->length != tokens->length ||
        (json_is(tops, JSON_ARRAY) && tops->length != tokens->length))
        return bulla_fail(error, BULLA_E_INPUT, "its lists of log probabilities differ in length");
    for (size_t i = 0; i < logprobs->count; i++) {
        struct upstream_logprob *token = &logprobs->tokens[i];
        const struct json *top = json_is(tops, JSON_ARRAY) ? tops->items[i] : NULL;
        if (!json_is(tokens->items[i], JSON_STRING) || !read_number(numbers->items[i], &token->logprob.logprob))
            return bulla_fail(error, BULLA_E_INPUT, "a log probability has no token or is no number");
        token->logprob.token = tokens->items[i]->text;
        token->logprob.length = tokens->items[i]->length;
        int code = json_is(top, JSON_OBJECT) ? alloc_top(token, top->length, arena, error) : BULLA_OK;
        if (code != BULLA_OK)
            return code;
        for (size_t k = 0; k < token->top_count; k++) {
            token->top[k].token = top->keys[k];
            token->top[k].length = top->key_lengths[k];
            if (!read_number(top->items[k], &token->top[k].logprob))
                return bulla_fail(error, BULLA_E_INPUT, "a log probability is no number");
        }
    }
    return BULLA_OK;
}

int upstream_logprobs_read(const struct json *value, struct arena *arena, struct upstream_logprobs *logprobs,
                           bulla_error *error)
{
    memset(logprobs, 0, sizeof *logprobs);
    const struct json *content = json_get(value, "content"), *tokens = json_get(value, "tokens");
    const struct json *list = json_is(content, JSON_ARRAY) ? content : json_is(tokens, JSON_ARRAY) ? tokens : NULL;
    if (!value || value->type == JSON_NULL || (json_is(value, JSON_OBJECT) && !list))
        return BULLA_OK;
    if (!list)
        return bulla_fail(error, BULLA_E_INPUT, "its log probabilities are no object");
    logprobs->tokens = arena_alloc(arena, list->length, sizeof *logprobs->tokens, NULL);
    if (!logprobs->tokens)
        return bulla_fail(error, BULLA_E_MEMORY, "memory is short");
    logprobs->count = list->length;
    return list == content ? read_chat(content, arena, logprobs, error)
                           : read_completion(value, arena, logprobs, error);
}
