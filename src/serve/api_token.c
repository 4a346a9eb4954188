/* POST /tokenize and /detokenize, as vLLM and llama.cpp have them. */
#include "base/utf8.h"
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

/* llama.cpp's spelling of a token: its text, or its bytes where they are no whole characters. */
static void write_piece(struct buffer *out, const char *bytes, size_t length)
{
    if (utf8_check(bytes, length) == length) {
        json_write_string(out, bytes, length);
        return;
    }
    buffer_append_byte(out, '[');
    for (size_t i = 0; i < length; i++) {
        if (i)
            buffer_append_byte(out, ',');
        api_write_number(out, (unsigned char)bytes[i]);
    }
    buffer_append_byte(out, ']');
}

enum token_form { FORM_ID, FORM_TEXT, FORM_PIECE };

static int write_token(struct buffer *out, const struct backend *backend, uint32_t id, enum token_form form,
                       bulla_error *error)
{
    const char *bytes = NULL;
    size_t length = 0;
    int code = form == FORM_ID ? BULLA_OK : backend->class->spell(backend, id, &bytes, &length, error);
    if (code != BULLA_OK)
        return code;
    if (form == FORM_TEXT) {
        json_write_string(out, bytes, length);
        return BULLA_OK;
    }
    if (form == FORM_PIECE)
        buffer_append_text(out, "{\"id\":");
    api_write_number(out, id);
    if (form == FORM_PIECE) {
        buffer_append_text(out, ",\"piece\":");
        write_piece(out, bytes, length);
        buffer_append_byte(out, '}');
    }
    return BULLA_OK;
}

static int write_list(struct buffer *out, const struct backend *backend, const uint32_t *ids, size_t count,
                      enum token_form form, bulla_error *error)
{
    int code = BULLA_OK;
    buffer_append_byte(out, '[');
    for (size_t i = 0; i < count && code == BULLA_OK; i++) {
        if (i)
            buffer_append_byte(out, ',');
        code = write_token(out, backend, ids[i], form, error);
    }
    buffer_append_byte(out, ']');
    return code;
}

static int write_tokens(struct buffer *out, const struct backend *backend, const uint32_t *ids, size_t count,
                        const struct api_request *request, bulla_error *error)
{
    struct backend_info info = {0};
    backend->class->describe(backend, &info);
    buffer_append_text(out, "{\"count\":");
    api_write_number(out, count);
    buffer_append_text(out, ",\"max_model_len\":");
    api_write_number(out, info.context);
    buffer_append_text(out, ",\"tokens\":");
    int code = write_list(out, backend, ids, count, request->wants_pieces ? FORM_PIECE : FORM_ID, error);
    buffer_append_text(out, ",\"token_strs\":");
    if (code == BULLA_OK && request->wants_strings)
        code = write_list(out, backend, ids, count, FORM_TEXT, error);
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
            code = write_tokens(&out, backend, ids, count, &request, &error);
        if (code == BULLA_OK)
            reply_bounded(call, &out, request.wants_strings || request.wants_pieces
                                          ? "a shorter text, or without `return_token_strs` and `with_pieces`"
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

static void detokenize(struct api_call *call, struct backend *backend, struct api_request *request)
{
    struct answer_error problem = {0};
    struct backend_info info = {0};
    bulla_error error = {0};
    const struct api_prompt *ids = request->prompts;
    char *text = NULL;
    size_t length = 0;
    backend->class->describe(backend, &info);
    if (api_request_check_ids(request, info.spellings, &problem) != BULLA_OK)
        api_call_fail(call, &problem);
    else if (backend->class->detokenize(backend, ids->ids, ids->id_count, API_MOST_REPLY / 2, &text, &length, /* there twice */
                                        &error) != BULLA_OK)
        fail_backend(call, request, &error);
    else
        reply_text(call, text, length);
    bulla_text_free(text);
}

void api_serve_detokenize(struct api_call *call)
{
    struct api_request request = {0};
    struct answer_error problem = {0};
    size_t length;
    const char *body = http_body(call->exchange, &length);
    if (api_request_read_detokenize(body, length, &request, &problem) != BULLA_OK) {
        api_call_fail(call, &problem);
    } else {
        struct served_model *model = api_call_find_model(call, request.model);
        if (model)
            detokenize(call, model->backend, &request);
    }
    api_request_free(&request);
}
