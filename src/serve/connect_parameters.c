/* Each parameter that a request sets must be in effect as it was asked for (docs/receipt.md, "Parameters"). Read here
 * from the request by themselves: this code shares nothing with the server's reader of requests. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/decimal.h"
#include "serve/connect_internal.h"

struct comparison {
    const struct connect_check *check;
    const struct json *asked, *effect; /* the request, the receipt's parameters */
    struct connect_problem *problem;
};

/* A member that is missing or null is NULL. */
static const struct json *find(const struct json *object, const char *key)
{
    const struct json *value = json_get(object, key);
    return value && !json_is(value, JSON_NULL) ? value : NULL;
}

static int fail(const struct comparison *comparison, const char *name)
{
    char check[64];
    struct buffer found = {0};
    const struct json *value = json_get(comparison->effect, name);
    snprintf(check, sizeof check, "parameters.%s", name);
    if (value)
        json_write_canonical(&found, value);
    int code = connect_fail(comparison->problem, check,
                            "the answer was not made with \"%s\" as it was asked for; in effect was %.200s", name,
                            found.length ? (const char *)found.data : "nothing");
    buffer_free(&found);
    return code;
}

static int is_integer(const struct json *value, int64_t number)
{
    return json_is(value, JSON_NUMBER) && value->is_integer && value->integer == number;
}

/* ---- Kinds of parameters; each gives whether what is in effect is what `asked` says ---- */

static int same_millionths(const struct json *asked, const struct json *effect)
{
    int64_t number;
    return json_is(asked, JSON_NUMBER) && decimal_millionths(asked->text, asked->length, &number) && is_integer(effect, number);
}

/* The server may hold a limit below it. */
static int at_most_millionths(const struct json *asked, const struct json *effect)
{
    int64_t number;
    return json_is(asked, JSON_NUMBER) && decimal_millionths(asked->text, asked->length, &number) &&
           json_is(effect, JSON_NUMBER) && effect->is_integer && effect->integer >= 0 && effect->integer <= number;
}

/* As decimals that have no fraction may be written in other ways too. */
static int read_whole(const struct json *value, int64_t *number)
{
    if (!json_is(value, JSON_NUMBER))
        return 0;
    if (value->is_integer) {
        *number = value->integer;
        return 1;
    }
    return decimal_millionths(value->text, value->length, number) && *number % 1000000 == 0 && (*number /= 1000000, 1);
}

static int same_integer(const struct json *asked, const struct json *effect)
{
    int64_t number;
    return read_whole(asked, &number) && is_integer(effect, number);
}

static int same_top_k(const struct json *asked, const struct json *effect)
{
    int64_t number;
    return read_whole(asked, &number) && is_integer(effect, number < 0 ? 0 : number);
}

/* -1: as many as the context holds. Limits of the server hold silently; they never make it more. */
static int at_most_tokens(const struct json *asked, const struct json *effect)
{
    int64_t number;
    if (!read_whole(asked, &number))
        return 0;
    return number < 0 || (json_is(effect, JSON_NUMBER) && effect->is_integer && effect->integer >= 0 &&
                          effect->integer <= number);
}

static int same_bool(const struct json *asked, const struct json *effect)
{
    return json_is_bool(asked) && json_is_bool(effect) && asked->type == effect->type;
}

static int same_text(const struct json *asked, const struct json *effect)
{
    return json_is(asked, JSON_STRING) && json_is(effect, JSON_STRING) && asked->length == effect->length &&
           memcmp(asked->text, effect->text, asked->length) == 0;
}

/* A text or a list of texts; empty ones count for nothing. */
static int same_stop(const struct json *asked, const struct json *effect)
{
    size_t count = 0, length = json_is(asked, JSON_ARRAY) ? asked->length : 1;
    if (!json_is(effect, JSON_ARRAY))
        return 0;
    for (size_t i = 0; i < length; i++) {
        const struct json *one = json_is(asked, JSON_ARRAY) ? asked->items[i] : asked;
        if (json_is(one, JSON_STRING) && one->length == 0)
            continue;
        if (count >= effect->length || !same_text(one, effect->items[count++]))
            return 0;
    }
    return count == effect->length;
}

/* A word, or {"type":"function","function":{"name":...}}, of responses {"type":"function","name":...}. */
static int same_tool_choice(const struct json *asked, const struct json *effect)
{
    const struct json *function = find(asked, "function"), *name = find(function ? function : asked, "name");
    if (json_is(asked, JSON_STRING))
        return same_text(asked, effect);
    return json_is(effect, JSON_OBJECT) && effect->length == 1 && same_text(name, find(effect, "name"));
}

struct rule {
    const char *name;     /* in the receipt */
    const char *fields[4]; /* of the request, the first that is there counts; NULL ends them */
    int (*same)(const struct json *asked, const struct json *effect);
};

static const struct rule shared[] = {
    {"frequency_penalty", {"frequency_penalty"}, same_millionths},
    {"presence_penalty", {"presence_penalty"}, same_millionths},
    {"repetition_penalty", {"repetition_penalty", "repeat_penalty"}, same_millionths},
    {"temperature", {"temperature"}, same_millionths},
    {"top_p", {"top_p"}, same_millionths},
    {"min_p", {"min_p"}, same_millionths},
    {"top_k", {"top_k"}, same_top_k},
    {"timeout", {"timeout"}, at_most_millionths},
    {"ignore_eos", {"ignore_eos"}, same_bool},
    {"parallel_tool_calls", {"parallel_tool_calls"}, same_bool},
    {"stop", {"stop"}, same_stop},
    {"tool_choice", {"tool_choice"}, same_tool_choice},
};
static const struct rule of_chunks[] = { /* chats and completions */
    {"max_tokens", {"max_completion_tokens", "max_tokens", "n_predict"}, at_most_tokens},
    {"n", {"n"}, same_integer},
    {"echo", {"echo"}, same_bool},
    {"reasoning_effort", {"reasoning_effort"}, same_text},
};
static const struct rule of_responses[] = {
    {"max_tokens", {"max_output_tokens"}, at_most_tokens},
};

static int apply(const struct comparison *comparison, const struct rule *rules, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct json *asked = NULL;
        for (size_t j = 0; !asked && j < 4 && rules[i].fields[j]; j++)
            asked = find(comparison->asked, rules[i].fields[j]);
        if (asked && !rules[i].same(asked, json_get(comparison->effect, rules[i].name)))
            return fail(comparison, rules[i].name);
    }
    return BULLA_OK;
}

/* ---- Those with rules of their own ---- */

/* What is hashed: the member as it was sent, or null where there is none. */
static int compare_hash(const struct comparison *comparison, const char *name, const struct json *asked)
{
    const struct json *effect = json_get(comparison->effect, name);
    uint8_t hash[RECEIPT_HASH];
    char hex[2 * RECEIPT_HASH + 1];
    if (!asked)
        return !effect || json_is(effect, JSON_NULL) ? BULLA_OK : fail(comparison, name);
    if (receipt_parameter_hash(comparison->check->salt, asked, hash, NULL) != BULLA_OK)
        return connect_fail(comparison->problem, "memory", "memory is short");
    hex_encode(hash, sizeof hash, hex);
    return json_is_text(effect, hex) ? BULLA_OK : fail(comparison, name);
}

static int compare_hashes(const struct comparison *comparison)
{
    int is_response = comparison->check->asked.form == CONNECT_RESPONSE;
    const struct json *format = is_response ? find(find(comparison->asked, "text"), "format")
                                            : find(comparison->asked, "response_format");
    if (compare_hash(comparison, "response_format", format) != BULLA_OK ||
        compare_hash(comparison, "tools", find(comparison->asked, "tools")) != BULLA_OK ||
        compare_hash(comparison, "logit_bias", find(comparison->asked, "logit_bias")) != BULLA_OK)
        return BULLA_E_INPUT;
    return compare_hash(comparison, "chat_template_kwargs", find(comparison->asked, "chat_template_kwargs"));
}

/* 64 bits; -1 and missing: the server draws one, and says which. An upstream is sent the low 63 bits. */
static int compare_seed(const struct comparison *comparison)
{
    const struct json *asked = find(comparison->asked, "seed"), *effect = find(comparison->effect, "seed");
    int is_upstream = strcmp(comparison->check->receipt.backend, "upstream") == 0;
    if (!asked || (json_is(asked, JSON_NUMBER) && strcmp(asked->text, "-1") == 0))
        return effect || is_upstream ? BULLA_OK : fail(comparison, "seed");
    int64_t whole;
    uint64_t bits = json_is(asked, JSON_NUMBER) && !asked->is_integer && !strpbrk(asked->text, ".eE-")
                        ? strtoull(asked->text, NULL, 10)
                        : read_whole(asked, &whole) ? (uint64_t)whole : 0;
    char text[24], shorter[24];
    snprintf(text, sizeof text, "%" PRIu64, bits);
    snprintf(shorter, sizeof shorter, "%" PRIu64, bits & INT64_MAX);
    int holds = json_is_text(effect, text) || (is_upstream && json_is_text(effect, shorter));
    return holds ? BULLA_OK : fail(comparison, "seed");
}

static int compare_logprobs(const struct comparison *comparison)
{
    const struct json *asked = find(comparison->asked, "logprobs"), *top = find(comparison->asked, "top_logprobs");
    const struct json *effect = json_get(comparison->effect, "logprobs");
    int64_t number = 0;
    if (comparison->check->asked.form == CONNECT_RESPONSE) /* they come where `include` or `top_logprobs` asks */
        return !top || !read_whole(top, &number) || number == 0 || is_integer(effect, number) ? BULLA_OK
                                                                                              : fail(comparison, "logprobs");
    if (comparison->check->asked.form == CONNECT_COMPLETION)
        return !asked || same_integer(asked, effect) ? BULLA_OK : fail(comparison, "logprobs");
    if (!json_is(asked, JSON_TRUE))
        return !asked || json_is(effect, JSON_NULL) ? BULLA_OK : fail(comparison, "logprobs");
    if (top && !read_whole(top, &number))
        return fail(comparison, "logprobs");
    return is_integer(effect, number) ? BULLA_OK : fail(comparison, "logprobs");
}

static int compare_effort(const struct comparison *comparison)
{
    const struct json *asked = find(find(comparison->asked, "reasoning"), "effort");
    if (comparison->check->asked.form != CONNECT_RESPONSE || !asked)
        return BULLA_OK;
    return same_text(asked, json_get(comparison->effect, "reasoning_effort")) ? BULLA_OK
                                                                              : fail(comparison, "reasoning_effort");
}

static int compare_final(const struct comparison *comparison)
{
    int goes_on = json_is(find(comparison->asked, "continue_final_message"), JSON_TRUE) ||
                  json_is(find(comparison->asked, "add_generation_prompt"), JSON_FALSE);
    const struct json *effect = json_get(comparison->effect, "continue_final_message");
    if (comparison->check->asked.form == CONNECT_COMPLETION)
        return BULLA_OK;
    return json_is(effect, goes_on ? JSON_TRUE : JSON_FALSE) ? BULLA_OK : fail(comparison, "continue_final_message");
}

static int compare_names(const struct comparison *comparison)
{
    static const char *const endpoints[] = {[CONNECT_CHAT] = "/v1/chat/completions", [CONNECT_COMPLETION] = "/v1/completions",
                                            [CONNECT_RESPONSE] = "/v1/responses"};
    const struct connect_check *check = comparison->check;
    const struct json *endpoint = json_get(comparison->effect, "endpoint"), *model = json_get(comparison->effect, "model");
    const struct json *asked = find(comparison->asked, "model");
    if (!json_is_text(endpoint, endpoints[check->asked.form]))
        return fail(comparison, "endpoint");
    if (!json_is_text(model, check->model))
        return fail(comparison, "model");
    return !asked || (json_is(asked, JSON_STRING) && asked->length == 0) || same_text(asked, model) ? BULLA_OK
                                                                                                   : fail(comparison, "model");
}

/* As many choices as were asked for: `n` for each prompt. */
static int compare_choices(const struct comparison *comparison)
{
    const struct json *prompt = find(comparison->asked, "prompt"), *n = find(comparison->asked, "n");
    int64_t each = 1;
    size_t prompts = 1;
    if (n && (!read_whole(n, &each) || each < 1 || each > RECEIPT_MOST_CHOICES))
        return fail(comparison, "n");
    if (comparison->check->asked.form == CONNECT_COMPLETION && json_is(prompt, JSON_ARRAY) && prompt->length > 0 &&
        !json_is(prompt->items[0], JSON_NUMBER))
        prompts = prompt->length;
    if (comparison->check->receipt.choice_count == prompts * (size_t)each)
        return BULLA_OK;
    return connect_fail(comparison->problem, "parameters.n", "%zu choices came, and %zu were asked for",
                        comparison->check->receipt.choice_count, prompts * (size_t)each);
}

int connect_check_parameters(const struct connect_check *check, const struct json *parameters,
                             struct connect_problem *problem)
{
    const struct comparison comparison = {check, check->asked.json, parameters, problem};
    int is_response = check->asked.form == CONNECT_RESPONSE;
    int code = compare_names(&comparison);
    if (code == BULLA_OK)
        code = apply(&comparison, shared, sizeof shared / sizeof *shared);
    if (code == BULLA_OK && is_response)
        code = apply(&comparison, of_responses, sizeof of_responses / sizeof *of_responses);
    else if (code == BULLA_OK)
        code = apply(&comparison, of_chunks, sizeof of_chunks / sizeof *of_chunks);
    if (code == BULLA_OK)
        code = compare_seed(&comparison);
    if (code == BULLA_OK)
        code = compare_hashes(&comparison);
    if (code == BULLA_OK)
        code = compare_logprobs(&comparison);
    if (code == BULLA_OK)
        code = compare_effort(&comparison);
    if (code == BULLA_OK)
        code = compare_final(&comparison);
    return code == BULLA_OK ? compare_choices(&comparison) : code;
}
