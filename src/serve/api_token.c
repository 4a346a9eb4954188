/* POST /tokenize and /detokenize, as vLLM has them. */
#include "bulla/tokenizer.h"
#include "serve/api_answer.h"

static void fail_backend(struct api_call *call, struct api_request *request, const bulla_error *error)
{
    struct answer_error problem = {0};
    struct field_reader reader = {&request->json, &problem};
    field_fail_error(&reader, NULL, error);
    api_call_fail(call, &problem);
}

/* `less`: what to send instead where the reply is too long. */
static void reply_bounded(struct api_call *call, struct buffer *out, const char *less)
{
    if (out->error.code == BULLA_E_LIMIT)
        api_call_fail_with(call, 400, "invalid_request_error", "reply_too_long", NULL,
                           "the answer is longer than 64 MiB, the most that is given at once; ask with %s", less);
    else
        api_call_reply_json(call, 200, out);
}

/* The text of each token by itself. */
static int write_strings(struct buffer *out, struct backend *backend, const uint32_t *ids, size_t count,
                         bulla_error *error)
{
    buffer_append_byte(out, '[');
    for (size_t i = 0; i < count; i++) {
        char *text;
        size_t length;
        int code = backend->class->detokenize(backend, ids + i, 1, API_MOST_REPLY, &text, &length, error);
        if (code != BULLA_OK)
            return code;
        if (i)
            buffer_append_byte(out, ',');
        json_write_string(out, text, length);
        bulla_text_free(text);
    }
    buffer_append_byte(out, ']');
    return BULLA_OK;
}

static int write_tokens(struct buffer *out, struct backend *backend, const uint32_t *ids, size_t count, int with_strings,
                        bulla_error *error)
{
    struct backend_info info = {0};
    int code = BULLA_OK;
    backend->class->describe(backend, &info);
    buffer_append_text(out, "{\"count\":");
    api_write_number(out, count);
    buffer_append_text(out, ",\"max_model_len\":");
    api_write_number(out, info.context);
    buffer_append_text(out, ",\"tokens\":[");
    for (size_t i = 0; i < count; i++) {
        if (i)
            buffer_append_byte(out, ',');
        api_write_number(out, ids[i]);
    }
    buffer_append_text(out, "],\"token_strs\":");
    if (with_strings)
        code = write_strings(out, backend, ids, count, error);
    else
        buffer_append_text(out, "null");
    buffer_append_byte(out, '}');
    return code;
}

void api_serve_tokenize(struct api_call *call)
{
    struct api_request request = {0};
    struct answer_error problem = {0};
    struct buffer out = {.limit = API_MOST_REPLY};
    bulla_error error = {0};
    uint32_t *ids = NULL;
    size_t length, count = 0;
    const char *body = http_body(call->exchange, &length);
    if (api_request_read_tokenize(body, length, &request, &problem) != BULLA_OK) {
        api_call_fail(call, &problem);
        api_request_free(&request);
        return;
    }
    struct served_model *model = api_call_find_model(call, request.model);
    if (model) {
        struct backend *backend = model->backend;
        request.answer.id = call->id;
        request.answer.model = model->name;
        request.answer.tenant = call->identity.tenant;
        request.answer.prompt = request.prompts[0].text;
        request.answer.prompt_length = request.prompts[0].length;
        int code = backend->class->tokenize(backend, &request.answer, request.adds_special, &ids, &count, &error);
        if (code == BULLA_OK)
            code = write_tokens(&out, backend, ids, count, request.wants_strings, &error);
        if (code == BULLA_OK)
            reply_bounded(call, &out, request.wants_strings ? "a shorter text, or without `return_token_strs`"
                                                            : "a shorter text");
        else
            fail_backend(call, &request, &error);
    }
    bulla_tokens_free(ids);
    buffer_free(&out);
    api_request_free(&request);
}

/* The text under vLLM's name and under llama.cpp's. */
static void reply_text(struct api_call *call, const char *text, size_t length)
{
    struct buffer out = {.limit = API_MOST_REPLY};
    buffer_append_text(&out, "{\"prompt\":");
    json_write_string(&out, text, length);
    buffer_append_text(&out, ",\"content\":");
    json_write_string(&out, text, length);
    buffer_append_byte(&out, '}');
    reply_bounded(call, &out, "fewer tokens");
    buffer_free(&out);
}

void api_serve_detokenize(struct api_call *call)
{
    struct api_request request = {0};
    struct answer_error problem = {0};
    bulla_error error = {0};
    char *text = NULL;
    size_t length, text_length = 0;
    const char *body = http_body(call->exchange, &length);
    if (api_request_read_detokenize(body, length, &request, &problem) != BULLA_OK) {
        api_call_fail(call, &problem);
        api_request_free(&request);
        return;
    }
    struct served_model *model = api_call_find_model(call, request.model);
    if (model) {
        const struct api_prompt *ids = request.prompts;
        int code = model->backend->class->detokenize(model->backend, ids->ids, ids->id_count, API_MOST_REPLY / 2, &text,
                                                     &text_length, &error); /* it stands there twice */
        if (code == BULLA_OK)
            reply_text(call, text, text_length);
        else
            fail_backend(call, &request, &error);
    }
    bulla_text_free(text);
    api_request_free(&request);
}
