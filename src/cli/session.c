#include "cli/session.h"

#include <string.h>
#include <time.h>

#include "base/buffer.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "cli/model_cache.h"
#include "cli/output.h"

int session_open(const char *path, const bulla_engine_options *options, struct session *session, bulla_error *error)
{
    static const bulla_engine_options defaults = {0};
    memset(session, 0, sizeof *session);
    if (!options)
        options = &defaults;
    double start = output_clock();
    int code = model_cache_open(path, options->threads, &session->model, error);
    if (code != BULLA_OK)
        return code;
    size_t length;
    const char *source = bulla_model_chat_template(session->model, &length);
    if (length > 0)
        code = bulla_chat_template_compile(source, length, &session->chat_template, error);
    if (code != BULLA_OK)
        return bulla_fail_prefix(error, "%s: its chat template", path);
    code = bulla_engine_open(session->model, options, &session->engine, error);
    session->load_seconds = output_clock() - start;
    return code;
}

void session_close(struct session *session)
{
    if (session->engine)
        bulla_engine_close(session->engine);
    bulla_chat_template_free(session->chat_template);
    bulla_model_close(session->model);
    memset(session, 0, sizeof *session);
}

void session_prompt_free(struct session_prompt *prompt)
{
    memory_free(prompt->ids);
    *prompt = (struct session_prompt){0};
}

/* Encodes with the start token in front unless it is there. Not by BULLA_ENCODE_START: that would also
 * close the text with the end token where a model's settings say so, and nothing could follow. */
static int encode(const struct session *session, const char *text, size_t length, struct session_prompt *prompt,
                  bulla_error *error)
{
    const bulla_tokenizer *tokenizer = bulla_model_tokenizer(session->model);
    uint32_t *ids;
    size_t count;
    int code = bulla_tokenizer_encode(tokenizer, text, length, BULLA_ENCODE_SPECIAL, SIZE_MAX, &ids, &count, error);
    if (code != BULLA_OK)
        return code;
    int64_t start = bulla_tokenizer_start_token(tokenizer);
    size_t added = start >= 0 && bulla_tokenizer_adds_start(tokenizer) && (count == 0 || ids[0] != start);
    prompt->ids = memory_alloc(count + added, sizeof *prompt->ids, error);
    if (prompt->ids) {
        if (added)
            prompt->ids[0] = (uint32_t)start;
        if (count)
            memcpy(prompt->ids + added, ids, count * sizeof *ids);
        prompt->count = count + added;
    }
    bulla_tokens_free(ids);
    return prompt->ids ? BULLA_OK : BULLA_E_MEMORY;
}

static void write_member(struct buffer *out, const char *name, const char *text, size_t length)
{
    buffer_append_format(out, "\"%s\":", name);
    json_write_string(out, text, length);
}

/* Writes a token's spelling as a member; nothing where the model has no such token. */
static void write_token(struct buffer *out, const char *name, const bulla_tokenizer *tokenizer, int64_t token)
{
    const uint8_t *bytes = NULL;
    size_t length = 0;
    if (token < 0)
        return;
    bulla_tokenizer_token_bytes(tokenizer, (uint32_t)token, &bytes, &length);
    write_member(out, name, (const char *)bytes, length);
    buffer_append_byte(out, ',');
}

/* The template's variables as JSON. */
static void write_variables(struct buffer *out, const bulla_tokenizer *tokenizer,
                            const struct session_message *messages, size_t count)
{
    buffer_append_byte(out, '{');
    write_token(out, "bos_token", tokenizer, bulla_tokenizer_start_token(tokenizer));
    write_token(out, "eos_token", tokenizer, bulla_tokenizer_end_token(tokenizer));
    buffer_append_text(out, "\"add_generation_prompt\":true,\"messages\":[");
    for (size_t i = 0; i < count; i++) {
        buffer_append_text(out, i ? ",{" : "{");
        write_member(out, "role", messages[i].role, strlen(messages[i].role));
        buffer_append_byte(out, ',');
        write_member(out, "content", messages[i].content, messages[i].length);
        buffer_append_byte(out, '}');
    }
    buffer_append_text(out, "]}");
}

int session_chat_prompt(const struct session *session, const struct session_message *messages, size_t count,
                        struct session_prompt *prompt, bulla_error *error)
{
    *prompt = (struct session_prompt){0};
    if (!session->chat_template)
        return bulla_fail(error, BULLA_E_UNSUPPORTED, "the model has no chat template");
    for (size_t i = 0; i < count; i++) {
        size_t valid = utf8_check(messages[i].content, messages[i].length);
        if (valid < messages[i].length)
            return bulla_fail(error, BULLA_E_INPUT, "the %s's text is not UTF-8: byte 0x%02X at offset %zu of %zu",
                              messages[i].role, (unsigned char)messages[i].content[valid], valid, messages[i].length);
    }
    struct buffer variables = {0};
    write_variables(&variables, bulla_model_tokenizer(session->model), messages, count);
    char *text = NULL;
    size_t length;
    int code = variables.error.code;
    if (code != BULLA_OK)
        bulla_fail(error, code, "%s", variables.error.text);
    else
        code = bulla_chat_template_render(session->chat_template, (const char *)variables.data, variables.length,
                                          (long long)time(NULL), &text, &length, error);
    if (code == BULLA_OK)
        code = encode(session, text, length, prompt, error);
    bulla_text_free(text);
    buffer_free(&variables);
    return code;
}

int session_raw_prompt(const struct session *session, const char *text, size_t length, struct session_prompt *prompt,
                       bulla_error *error)
{
    *prompt = (struct session_prompt){0};
    return encode(session, text, length, prompt, error);
}
