#include "serve/upstream_request.h"

#include <inttypes.h>
#include <string.h>

const char *upstream_request_path(enum answer_kind kind)
{
    static const char *const paths[] = {"/v1/chat/completions", "/v1/completions", "/v1/embeddings"};
    return paths[kind];
}

/* Millionths as an exact decimal: 700000 is 0.7. */
static void write_millionths(struct buffer *out, int64_t value)
{
    uint64_t size = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    buffer_append_format(out, "%s%" PRIu64, value < 0 ? "-" : "", size / 1000000);
    uint32_t fraction = (uint32_t)(size % 1000000);
    if (fraction == 0)
        return;
    int digits = 6;
    for (; fraction % 10 == 0; fraction /= 10)
        digits--;
    buffer_append_format(out, ".%0*" PRIu32, digits, fraction);
}

/* `name` is a literal that needs no escapes; every member but the first ("model") follows another. */
static void begin_member(struct buffer *out, const char *name)
{
    buffer_append_format(out, ",\"%s\":", name);
}

static void write_text(struct buffer *out, const char *name, const char *text, size_t length)
{
    begin_member(out, name);
    json_write_string(out, text, length);
}

static void write_integer(struct buffer *out, const char *name, int64_t value)
{
    begin_member(out, name);
    buffer_append_format(out, "%" PRId64, value);
}

static void write_bool(struct buffer *out, const char *name, int value)
{
    begin_member(out, name);
    buffer_append_text(out, value ? "true" : "false");
}

static void write_decimal(struct buffer *out, const char *name, int64_t millionths)
{
    begin_member(out, name);
    write_millionths(out, millionths);
}

static void write_json(struct buffer *out, const char *name, const struct json *value)
{
    begin_member(out, name);
    json_write(out, value);
}

/* Writes a member of an object that is passed on; the first has no comma. */
typedef void (*member_writer)(struct buffer *out, const char *key, const struct json *value);

static void write_members(struct buffer *out, const struct json *object, member_writer write)
{
    buffer_append_byte(out, '{');
    for (size_t i = 0; i < object->length; i++) {
        if (i)
            buffer_append_byte(out, ',');
        json_write_string(out, object->keys[i], object->key_lengths[i]);
        buffer_append_byte(out, ':');
        write(out, object->keys[i], object->items[i]);
    }
    buffer_append_byte(out, '}');
}

/* OpenAI's API has a call's arguments as JSON text, answer_request as the value that the text stands for. */
static void write_function_member(struct buffer *out, const char *key, const struct json *value)
{
    if (strcmp(key, "arguments") != 0 || value->type == JSON_STRING) {
        json_write(out, value);
        return;
    }
    struct buffer text = {0};
    json_write(&text, value);
    if (text.error.code != BULLA_OK)
        bulla_fail(&out->error, text.error.code, "%s", text.error.text);
    else
        json_write_string(out, (const char *)text.data, text.length);
    buffer_free(&text);
}

static void write_call_member(struct buffer *out, const char *key, const struct json *value)
{
    if (strcmp(key, "function") == 0 && value->type == JSON_OBJECT)
        write_members(out, value, write_function_member);
    else
        json_write(out, value);
}

static void write_message_member(struct buffer *out, const char *key, const struct json *value)
{
    if (strcmp(key, "tool_calls") != 0 || value->type != JSON_ARRAY) {
        json_write(out, value);
        return;
    }
    buffer_append_byte(out, '[');
    for (size_t i = 0; i < value->length; i++) {
        if (i)
            buffer_append_byte(out, ',');
        if (value->items[i]->type == JSON_OBJECT)
            write_members(out, value->items[i], write_call_member);
        else
            json_write(out, value->items[i]);
    }
    buffer_append_byte(out, ']');
}

static void write_messages(struct buffer *out, const struct json *messages)
{
    begin_member(out, "messages");
    buffer_append_byte(out, '[');
    for (size_t i = 0; messages && i < messages->length; i++) {
        if (i)
            buffer_append_byte(out, ',');
        if (messages->items[i]->type == JSON_OBJECT)
            write_members(out, messages->items[i], write_message_member);
        else
            json_write(out, messages->items[i]);
    }
    buffer_append_byte(out, ']');
}

static void write_tools(struct buffer *out, const struct answer_request *request)
{
    static const char *const choices[] = {"none", "auto", "required"};
    if (!request->tools)
        return;
    write_json(out, "tools", request->tools);
    if (request->tool_choice == TOOLS_NAMED) {
        begin_member(out, "tool_choice");
        buffer_append_text(out, "{\"type\":\"function\",\"function\":{\"name\":");
        json_write_string(out, request->tool_name, strlen(request->tool_name));
        buffer_append_text(out, "}}");
    } else {
        write_text(out, "tool_choice", choices[request->tool_choice], strlen(choices[request->tool_choice]));
    }
    write_bool(out, "parallel_tool_calls", request->parallel_tool_calls);
}

static void write_chat(struct buffer *out, const struct answer_request *request)
{
    write_messages(out, request->messages);
    write_tools(out, request);
    if (request->template_kwargs)
        write_json(out, "chat_template_kwargs", request->template_kwargs);
    if (request->reasoning_effort)
        write_text(out, "reasoning_effort", request->reasoning_effort, strlen(request->reasoning_effort));
    if (request->continues_last) {
        write_bool(out, "add_generation_prompt", 0);
        write_bool(out, "continue_final_message", 1);
    }
    if (request->logprobs >= 0) {
        write_bool(out, "logprobs", 1);
        write_integer(out, "top_logprobs", request->logprobs);
    }
}

static void write_prompt(struct buffer *out, const struct answer_request *request, const char *name)
{
    if (!request->prompt_ids) {
        write_text(out, name, request->prompt, request->prompt_length);
        return;
    }
    begin_member(out, name);
    buffer_append_byte(out, '[');
    for (size_t i = 0; i < request->prompt_id_count; i++)
        buffer_append_format(out, "%s%" PRIu32, i ? "," : "", request->prompt_ids[i]);
    buffer_append_byte(out, ']');
}

/* Every parameter in effect, also where it is neutral: an upstream's own defaults (llama-server's top_k is 40) must not
 * take its place. */
static void write_sampling(struct buffer *out, const bulla_sampling *sampling, int has_seed)
{
    write_decimal(out, "temperature", (int64_t)sampling->temperature);
    write_decimal(out, "top_p", (int64_t)sampling->top_p);
    write_integer(out, "top_k", sampling->top_k > 0 ? (int64_t)sampling->top_k : -1); /* -1: all, for every engine */
    write_decimal(out, "min_p", (int64_t)sampling->min_p);
    write_decimal(out, "presence_penalty", sampling->presence);
    write_decimal(out, "frequency_penalty", sampling->frequency);
    write_decimal(out, "repetition_penalty", (int64_t)sampling->repetition); /* vLLM, SGLang, LMDeploy */
    write_decimal(out, "repeat_penalty", (int64_t)sampling->repetition);     /* llama-server */
    if (has_seed) /* engines take 63 bits */
        write_integer(out, "seed", (int64_t)(sampling->seed & INT64_MAX));
    if (sampling->bias_count == 0)
        return;
    begin_member(out, "logit_bias");
    for (size_t i = 0; i < sampling->bias_count; i++) {
        buffer_append_format(out, "%c\"%" PRIu32 "\":", i ? ',' : '{', sampling->biases[i].id);
        write_millionths(out, sampling->biases[i].bias);
    }
    buffer_append_byte(out, '}');
}

static void write_generation(struct buffer *out, const struct answer_request *request)
{
    buffer_append_text(out, ",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    write_integer(out, "n", request->choices > 0 ? request->choices : 1);
    if (request->max_tokens > 0)
        write_integer(out, "max_tokens", (int64_t)(request->max_tokens & INT64_MAX));
    write_sampling(out, &request->sampling, request->has_seed);
    if (request->stop_count > 0) {
        begin_member(out, "stop");
        for (size_t i = 0; i < request->stop_count; i++) {
            buffer_append_byte(out, i ? ',' : '[');
            json_write_string(out, request->stops[i], request->stop_lengths[i]);
        }
        buffer_append_byte(out, ']');
    }
    if (request->response_format) {
        begin_member(out, "response_format");
        buffer_append(out, request->response_format, request->response_format_length);
    }
    if (request->ignores_end)
        write_bool(out, "ignore_eos", 1);
    if (!request->shares_prefix)
        write_bool(out, "cache_prompt", 0);
}

void upstream_request_write(const struct answer_request *request, const char *model, struct buffer *out)
{
    buffer_append_text(out, "{\"model\":");
    json_write_string(out, model, strlen(model));
    if (request->kind == ANSWER_EMBEDDING) {
        write_prompt(out, request, "input");
        buffer_append_text(out, ",\"encoding_format\":\"float\"}");
        return;
    }
    if (request->kind == ANSWER_CHAT) {
        write_chat(out, request);
    } else {
        write_prompt(out, request, "prompt");
        if (request->logprobs >= 0)
            write_integer(out, "logprobs", request->logprobs);
    }
    write_generation(out, request);
    buffer_append_byte(out, '}');
}
