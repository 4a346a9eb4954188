#include "serve/upstream_reply.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "serve/upstream_logprobs.h"

enum {
    MOST_PARSED_BYTES = 64 << 20, /* memory of one event's JSON */
    MOST_TYPE_BYTES = 100,        /* of an error's type, code and param */
    MOST_QUOTED_BYTES = 800       /* of an upstream's own message */
};

static const int64_t MOST_TOKENS = 1ll << 40; /* a count above is no count */

void upstream_problem(struct answer_error *problem, int status, const char *type, const char *code,
                      unsigned retry_after, const char *format, ...)
{
    va_list arguments;
    memset(problem, 0, sizeof *problem);
    problem->status = status;
    problem->type = type;
    problem->code = code;
    problem->retry_after = retry_after;
    va_start(arguments, format);
    vsnprintf(problem->message, sizeof problem->message, format, arguments);
    va_end(arguments);
    size_t whole = utf8_check(problem->message, strlen(problem->message)); /* a character cut at the end */
    problem->message[whole] = 0;
}

static int broken(struct answer_error *problem, const char *what)
{
    upstream_problem(problem, 502, "server_error", "upstream_broken", 0, "the upstream's answer is broken: %s", what);
    return BULLA_E_INPUT;
}

static int out_of_memory(struct answer_error *problem)
{
    upstream_problem(problem, 500, "server_error", "out_of_memory", 0, "memory is short");
    return BULLA_E_MEMORY;
}

int upstream_reply_open(struct upstream_reply *reply, const struct answer_request *request,
                        const struct answer_sink *sink, bulla_error *error)
{
    memset(reply, 0, sizeof *reply);
    reply->kind = request->kind;
    reply->sink = *sink;
    reply->id = request->id ? request->id : "0";
    reply->choice_count = request->choices > 0 ? request->choices : 1;
    if (reply->choice_count > ANSWER_MOST_CHOICES)
        return bulla_fail(error, BULLA_E_USAGE, "n is %u, more than %d", reply->choice_count, ANSWER_MOST_CHOICES);
    reply->kept.limit = 64 << 10;
    reply->choices = memory_alloc(reply->choice_count, sizeof *reply->choices, error);
    return reply->choices ? BULLA_OK : BULLA_E_MEMORY;
}

void upstream_reply_close(struct upstream_reply *reply)
{
    memory_free(reply->choices);
    arena_free(&reply->kept);
    reply->choices = NULL;
}

/* A member that is a string, or absent or null (*text NULL). 0 where it is anything else. */
static int get_text(const struct json *object, const char *key, const char **text, size_t *length)
{
    const struct json *value = json_get(object, key);
    *text = NULL;
    *length = 0;
    if (!value || value->type == JSON_NULL)
        return 1;
    if (value->type != JSON_STRING)
        return 0;
    *text = value->text;
    *length = value->length;
    return 1;
}

/* A member that is a count, or absent or null (0). */
static int get_count(const struct json *object, const char *key, uint64_t *count)
{
    const struct json *value = json_get(object, key);
    *count = 0;
    if (!value || value->type == JSON_NULL)
        return 1;
    if (value->type != JSON_NUMBER || !value->is_integer || value->integer < 0 || value->integer > MOST_TOKENS)
        return 0;
    *count = (uint64_t)value->integer;
    return 1;
}

static int read_usage(struct upstream_reply *reply, const struct json *usage, struct answer_error *problem)
{
    struct answer_usage *to = &reply->usage;
    if (!usage || usage->type == JSON_NULL)
        return BULLA_OK;
    uint64_t prompt, output, cached, reasoning;
    if (!get_count(usage, "prompt_tokens", &prompt) || !get_count(usage, "completion_tokens", &output) ||
        !get_count(json_get(usage, "prompt_tokens_details"), "cached_tokens", &cached) ||
        !get_count(json_get(usage, "completion_tokens_details"), "reasoning_tokens", &reasoning) ||
        usage->type != JSON_OBJECT || cached > prompt || reasoning > output)
        return broken(problem, "its usage holds something else than token counts");
    to->prompt_tokens = prompt;
    to->output_tokens = output;
    to->cached_tokens = cached;
    to->reasoning_tokens = reasoning;
    reply->has_usage = 1;
    return BULLA_OK;
}

static int tell(struct upstream_reply *reply, const struct answer_delta *delta, struct answer_error *problem)
{
    if (reply->is_stopped)
        return BULLA_OK;
    if (reply->choices[delta->choice].is_finished)
        return broken(problem, "a choice goes on after its end");
    reply->text_bytes += 16 + delta->text_length + delta->reasoning_length + delta->arguments_length;
    for (size_t i = 0; i < delta->top_count; i++)
        reply->text_bytes += 16 + delta->top[i].length;
    if (reply->text_bytes > REPLY_MOST_TEXT_BYTES)
        return broken(problem, "it is longer than 64 MiB");
    if (reply->first_delta == 0)
        reply->first_delta = clock_nanoseconds();
    if (!reply->has_usage)
        reply->usage.output_tokens += delta->tokens;
    reply->sink.delta(reply->sink.context, delta);
    return BULLA_OK;
}

/* The number of a call, where it says none that of its place. */
static int read_tool_index(const struct json *call, size_t place, int32_t *index)
{
    const struct json *number = json_get(call, "index");
    int64_t value = number ? number->integer : (int64_t)place;
    if ((number && (number->type != JSON_NUMBER || !number->is_integer)) || value < 0 || value >= REPLY_MOST_TOOLS)
        return 0;
    *index = (int32_t)value;
    return 1;
}

static int tell_tool_call(struct upstream_reply *reply, uint32_t choice, const struct json *call, size_t place,
                          struct answer_error *problem)
{
    struct answer_delta delta = {.choice = choice, .tokens = 1};
    const struct json *function = json_get(call, "function");
    const char *id, *name;
    size_t id_length, name_length;
    char own_id[160];
    if (!read_tool_index(call, place, &delta.tool) || !get_text(call, "id", &id, &id_length) ||
        !get_text(function, "name", &name, &name_length) ||
        !get_text(function, "arguments", &delta.arguments, &delta.arguments_length))
        return broken(problem, "a tool call has an impossible index, id, name or arguments");
    uint32_t *begun = &reply->choices[choice].tools[delta.tool / 32], bit = 1u << (delta.tool % 32);
    if (!(*begun & bit)) {
        if (name_length == 0 || strlen(name) != name_length || (id && strlen(id) != id_length))
            return broken(problem, "a tool call begins without a name");
        snprintf(own_id, sizeof own_id, "call_%.100s_%u_%d", reply->id, choice, (int)delta.tool);
        delta.tool_name = name;
        delta.tool_id = id_length > 0 ? id : own_id;
        *begun |= bit;
    }
    return tell(reply, &delta, problem);
}

static int tell_tool_calls(struct upstream_reply *reply, uint32_t choice, const struct json *calls,
                           struct answer_error *problem)
{
    if (!calls || calls->type == JSON_NULL)
        return BULLA_OK;
    if (calls->type != JSON_ARRAY)
        return broken(problem, "its tool_calls are no list");
    int code = BULLA_OK;
    for (size_t i = 0; i < calls->length && code == BULLA_OK && !reply->is_stopped; i++)
        code = tell_tool_call(reply, choice, calls->items[i], i, problem);
    return code;
}

/* One piece of text, and each further token whose log probability came with it as a piece without text. */
static int tell_text(struct upstream_reply *reply, struct answer_delta *delta, const struct upstream_logprobs *logprobs,
                     struct answer_error *problem)
{
    if (logprobs->count == 0) {
        int is_empty = delta->text_length == 0 && delta->reasoning_length == 0;
        delta->tokens = !is_empty; /* how many tokens it was is not told; the usage at the end counts them */
        return is_empty ? BULLA_OK : tell(reply, delta, problem);
    }
    int code = BULLA_OK;
    for (size_t i = 0; i < logprobs->count && code == BULLA_OK && !reply->is_stopped; i++) {
        delta->tokens = 1;
        delta->logprob = &logprobs->tokens[i].logprob;
        delta->top = logprobs->tokens[i].top;
        delta->top_count = logprobs->tokens[i].top_count;
        code = tell(reply, delta, problem);
        delta->text_length = delta->reasoning_length = 0;
        delta->text = delta->reasoning = NULL;
    }
    return code;
}

static const char *finish_name(const char *reason)
{
    static const char *const names[][2] = {{"stop", "stop"},
                                           {"length", "length"},
                                           {"tool_calls", "tool_calls"},
                                           {"content_filter", "content_filter"},
                                           {"function_call", "tool_calls"},
                                           {"eos_token", "stop"},
                                           {"stop_sequence", "stop"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(reason, names[i][0]) == 0)
            return names[i][1];
    return NULL;
}

static int tell_finish(struct upstream_reply *reply, uint32_t choice, const struct json *from,
                       struct answer_error *problem)
{
    const struct json *reason = json_get(from, "finish_reason"), *stop = json_get(from, "stop_reason");
    if (!reason || reason->type == JSON_NULL || reply->is_stopped)
        return BULLA_OK;
    const char *name = json_is(reason, JSON_STRING) ? finish_name(reason->text) : NULL;
    if (!name)
        return broken(problem, "it finished for a reason that is not known here");
    if (reply->choices[choice].is_finished)
        return BULLA_OK;
    reply->choices[choice].is_finished = 1;
    /* vLLM names the stop string; a number there is a token. */
    const char *text = json_is(stop, JSON_STRING) && strcmp(name, "stop") == 0 ? stop->text : NULL;
    reply->sink.finish(reply->sink.context, choice, name, text);
    return BULLA_OK;
}

static int read_choice(struct upstream_reply *reply, const struct json *choice, struct arena *arena,
                       struct answer_error *problem)
{
    const struct json *index = json_get(choice, "index"), *from = choice;
    uint32_t number = 0;
    if (index) {
        if (!json_is(index, JSON_NUMBER) || !index->is_integer || index->integer < 0 ||
            index->integer >= reply->choice_count)
            return broken(problem, "a choice has an index beyond those asked for");
        number = (uint32_t)index->integer;
    }
    struct answer_delta delta = {.choice = number, .tool = -1};
    int is_chat = reply->kind == ANSWER_CHAT, is_right;
    if (is_chat) {
        from = json_get(choice, "delta");
        const char *key = json_is(json_get(from, "reasoning_content"), JSON_STRING) ? "reasoning_content" : "reasoning";
        is_right = get_text(from, "content", &delta.text, &delta.text_length) &&
                   get_text(from, key, &delta.reasoning, &delta.reasoning_length);
    } else {
        is_right = get_text(choice, "text", &delta.text, &delta.text_length);
    }
    if (!is_right)
        return broken(problem, "a piece of its text is no string");
    struct upstream_logprobs logprobs;
    bulla_error error = {0};
    int code = upstream_logprobs_read(json_get(choice, "logprobs"), arena, &logprobs, &error);
    if (code != BULLA_OK)
        return code == BULLA_E_MEMORY ? out_of_memory(problem) : broken(problem, error.text);
    code = tell_text(reply, &delta, &logprobs, problem);
    if (code == BULLA_OK && is_chat)
        code = tell_tool_calls(reply, number, json_get(from, "tool_calls"), problem);
    return code == BULLA_OK ? tell_finish(reply, number, choice, problem) : code;
}

static const char *keep_short_text(struct upstream_reply *reply, const struct json *value)
{
    if (!json_is(value, JSON_STRING) || value->length == 0 || value->length > MOST_TYPE_BYTES)
        return NULL;
    for (size_t i = 0; i < value->length; i++)
        if (value->text[i] < ' ' || value->text[i] > '~')
            return NULL;
    return arena_copy_text(&reply->kept, value->text, value->length, NULL);
}

/* OpenAI's {"error":{"message",...}}, the older vLLM's {"object":"error","message",...}, FastAPI's {"detail"}. */
static const struct json *find_error(const struct json *value, const struct json **message)
{
    const struct json *error = json_get(value, "error");
    if (json_is(error, JSON_STRING)) {
        *message = error;
        return NULL;
    }
    if (!json_is(error, JSON_OBJECT))
        error = value;
    *message = json_get(error, "message");
    if (!json_is(*message, JSON_STRING))
        *message = json_get(value, "detail");
    return error;
}

void upstream_reply_refusal(struct upstream_reply *reply, int status, unsigned retry_after, const char *body,
                            size_t length, struct answer_error *problem)
{
    struct arena arena = {.limit = MOST_PARSED_BYTES};
    const struct json *value = json_parse(body, length, "error", &arena, NULL), *message = NULL;
    const struct json *error = value ? find_error(value, &message) : NULL;
    char said[MOST_QUOTED_BYTES + 3] = "";
    if (json_is(message, JSON_STRING))
        snprintf(said, sizeof said, ": %.*s",
                 (int)(message->length < MOST_QUOTED_BYTES ? message->length : MOST_QUOTED_BYTES), message->text);
    if (status == 401 || status == 403 || status == 407) {
        upstream_problem(problem, 502, "server_error", "upstream_refused", 0,
                         "the upstream refuses the key that this server has for it (status %d)", status);
    } else if (status >= 400 && status < 500) {
        const char *type = keep_short_text(reply, json_get(error, "type"));
        upstream_problem(problem, status,
                         type            ? type
                         : status == 429 ? "rate_limit_error"
                                         : "invalid_request_error",
                         NULL, retry_after ? retry_after : status == 429, "the upstream answers %d%s", status, said);
        problem->own_code = "upstream_refused";
        problem->code = keep_short_text(reply, json_get(error, "code"));
        problem->param = keep_short_text(reply, json_get(error, "param"));
    } else {
        upstream_problem(problem, 502, "server_error", "upstream_error", retry_after, "the upstream answers %d%s",
                         status, said);
    }
    arena_free(&arena);
}

/* An error in the middle of a stream: the status line is gone by then, so some engines say a status inside. */
static int read_stream_error(struct upstream_reply *reply, const struct json *value, const char *text, size_t length,
                             struct answer_error *problem)
{
    const struct json *error = json_get(value, "error");
    if ((!error || error->type == JSON_NULL) && !(json_is(json_get(value, "object"), JSON_STRING) &&
                                                  strcmp(json_get(value, "object")->text, "error") == 0))
        return BULLA_OK;
    const struct json *code = json_get(json_is(error, JSON_OBJECT) ? error : value, "code");
    int is_status = json_is(code, JSON_NUMBER) && code->is_integer && code->integer >= 400 && code->integer < 500;
    upstream_reply_refusal(reply, is_status ? (int)code->integer : 500, 0, text, length, problem);
    return BULLA_E_INPUT;
}

static int read_chunk(struct upstream_reply *reply, const char *text, size_t length, struct arena *arena,
                      struct answer_error *problem)
{
    bulla_error error = {0};
    const struct json *value = json_parse(text, length, "an event", arena, &error);
    if (!value)
        return error.code == BULLA_E_MEMORY ? out_of_memory(problem) : broken(problem, error.text);
    int code = read_stream_error(reply, value, text, length, problem);
    if (code != BULLA_OK)
        return code;
    code = read_usage(reply, json_get(value, "usage"), problem);
    const struct json *choices = json_get(value, "choices");
    if (code == BULLA_OK && !json_is(choices, JSON_ARRAY) && !reply->has_usage)
        return broken(problem, "an event has no list of choices");
    for (size_t i = 0; json_is(choices, JSON_ARRAY) && i < choices->length && code == BULLA_OK && !reply->is_stopped;
         i++)
        code = read_choice(reply, choices->items[i], arena, problem);
    return code;
}

int upstream_reply_chunk(struct upstream_reply *reply, const char *text, size_t length, struct answer_error *problem)
{
    if (reply->is_done || reply->is_stopped)
        return BULLA_OK;
    if (length == 6 && memcmp(text, "[DONE]", 6) == 0) {
        reply->is_done = 1;
        return BULLA_OK;
    }
    struct arena arena = {.limit = MOST_PARSED_BYTES};
    int code = read_chunk(reply, text, length, &arena, problem);
    arena_free(&arena);
    return code;
}

int upstream_reply_end(struct upstream_reply *reply, struct answer_error *problem)
{
    for (uint32_t i = 0; i < reply->choice_count; i++)
        if (!reply->choices[i].is_finished)
            return broken(problem, "it ends before every choice has finished");
    return BULLA_OK;
}

void upstream_reply_cut(struct upstream_reply *reply, const char *stop)
{
    for (uint32_t i = 0; i < reply->choice_count && !reply->is_stopped; i++) {
        if (reply->choices[i].is_finished)
            continue;
        reply->choices[i].is_finished = 1;
        reply->sink.finish(reply->sink.context, i, "length", stop);
    }
}

static int read_embedding(struct upstream_reply *reply, const struct json *value, struct arena *arena,
                          struct answer_error *problem)
{
    const struct json *data = json_get(value, "data");
    const struct json *first = json_is(data, JSON_ARRAY) && data->length == 1 ? data->items[0] : NULL;
    const struct json *vector = json_get(first, "embedding");
    if (!json_is(vector, JSON_ARRAY) || vector->length == 0 || vector->length > REPLY_MOST_VALUES)
        return broken(problem, "it does not hold one list of numbers under data[0].embedding");
    float *values = arena_alloc(arena, vector->length, sizeof *values, NULL);
    if (!values)
        return out_of_memory(problem);
    for (size_t i = 0; i < vector->length; i++) {
        values[i] = json_is(vector->items[i], JSON_NUMBER) ? (float)vector->items[i]->number : NAN;
        if (!isfinite(values[i]))
            return broken(problem, "an embedding holds something else than numbers");
    }
    int code = read_usage(reply, json_get(value, "usage"), problem);
    if (code == BULLA_OK && !reply->is_stopped)
        reply->sink.embedding(reply->sink.context, values, vector->length);
    return code;
}

int upstream_reply_embedding(struct upstream_reply *reply, const char *text, size_t length,
                             struct answer_error *problem)
{
    struct arena arena = {.limit = MOST_PARSED_BYTES};
    bulla_error error = {0};
    const struct json *value = json_parse(text, length, "its body", &arena, &error);
    int code;
    if (!value)
        code = error.code == BULLA_E_MEMORY ? out_of_memory(problem) : broken(problem, error.text);
    else
        code = read_embedding(reply, value, &arena, problem);
    arena_free(&arena);
    return code;
}
