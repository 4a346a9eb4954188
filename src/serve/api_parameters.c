#include "serve/api_parameters.h"

#include <inttypes.h>
#include <string.h>

#include "serve/api_answer.h"
#include "trust/receipt.h"

static void write_name(struct buffer *out, const char *name)
{
    buffer_append_format(out, ",\"%s\":", name);
}

static void write_flag(struct buffer *out, const char *name, int flag)
{
    write_name(out, name);
    buffer_append_text(out, flag ? "true" : "false");
}

static void write_integer(struct buffer *out, const char *name, int64_t value)
{
    write_name(out, name);
    buffer_append_format(out, "%" PRId64, value);
}

/* null where it is 0, which stands for no limit. */
static void write_limit(struct buffer *out, const char *name, uint64_t value)
{
    write_name(out, name);
    if (value)
        api_write_number(out, value);
    else
        buffer_append_text(out, "null");
}

static void write_text(struct buffer *out, const char *name, const char *text)
{
    write_name(out, name);
    api_write_text_or_null(out, text);
}

/* What is large or says much is there as its hash. */
static void write_hash(struct buffer *out, const char *name, const uint8_t *salt, const struct json *value)
{
    uint8_t hash[RECEIPT_HASH];
    char digits[2 * RECEIPT_HASH + 1] = "";
    if (value && receipt_parameter_hash(salt, value, hash, &out->error) == BULLA_OK)
        hex_encode(hash, sizeof hash, digits);
    write_text(out, name, value ? digits : NULL);
}

static void write_stops(struct buffer *out, const struct answer_request *request)
{
    write_name(out, "stop");
    buffer_append_byte(out, '[');
    for (size_t i = 0; i < request->stop_count; i++) {
        if (i)
            buffer_append_byte(out, ',');
        json_write_string(out, request->stops[i], request->stop_lengths[i]);
    }
    buffer_append_byte(out, ']');
}

static void write_tool_choice(struct buffer *out, const struct answer_request *request)
{
    static const char *const names[] = {[TOOLS_NONE] = "none", [TOOLS_AUTO] = "auto", [TOOLS_REQUIRED] = "required"};
    if (request->tool_choice != TOOLS_NAMED) {
        write_text(out, "tool_choice", names[request->tool_choice]);
        return;
    }
    buffer_append_text(out, ",\"tool_choice\":{\"name\":");
    api_write_text(out, request->tool_name);
    buffer_append_byte(out, '}');
}

void api_parameters_write(const struct api_request *request, const struct api_parameters *parameters, const uint8_t *salt,
                          struct buffer *out)
{
    const struct answer_request *answer = &request->answer;
    const bulla_sampling *sampling = &answer->sampling;
    const struct json *body = request->body, *format = field_find(body, "response_format");
    if (strcmp(parameters->endpoint, "/v1/responses") == 0)
        format = field_find(field_find(body, "text"), "format");
    buffer_append_byte(out, '{'); /* in the order of RFC 8785 */
    write_hash(out, "chat_template_kwargs", salt, field_find(body, "chat_template_kwargs"));
    write_flag(out, "continue_final_message", answer->continues_last);
    write_flag(out, "echo", request->echoes);
    write_text(out, "endpoint", parameters->endpoint);
    write_integer(out, "frequency_penalty", sampling->frequency);
    write_flag(out, "ignore_eos", answer->ignores_end);
    write_hash(out, "logit_bias", salt, field_find(body, "logit_bias"));
    write_name(out, "logprobs");
    if (answer->logprobs >= 0)
        api_write_number(out, (uint64_t)answer->logprobs);
    else
        buffer_append_text(out, "null");
    write_limit(out, "max_tokens", answer->max_tokens);
    write_integer(out, "min_p", (int64_t)sampling->min_p);
    write_text(out, "model", parameters->model);
    write_integer(out, "n", answer->choices);
    write_flag(out, "parallel_tool_calls", answer->parallel_tool_calls);
    write_integer(out, "presence_penalty", sampling->presence);
    write_text(out, "reasoning_effort", answer->reasoning_effort);
    write_integer(out, "repetition_penalty", (int64_t)sampling->repetition);
    write_hash(out, "response_format", salt, format);
    write_text(out, "seed", parameters->seed);
    write_stops(out, answer);
    write_integer(out, "temperature", (int64_t)sampling->temperature);
    write_limit(out, "timeout", parameters->microseconds);
    write_tool_choice(out, answer);
    write_hash(out, "tools", salt, field_find(body, "tools"));
    write_integer(out, "top_k", sampling->top_k);
    write_integer(out, "top_p", (int64_t)sampling->top_p);
    buffer_append_byte(out, '}');
    if (out->error.code == BULLA_OK) { /* the first member's comma */
        memmove(out->data + 1, out->data + 2, out->length - 1);
        buffer_cut(out, out->length - 1);
    }
}
