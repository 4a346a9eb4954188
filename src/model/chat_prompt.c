#include "model/chat_prompt.h"

#include <string.h>

#include "base/json.h"
#include "base/memory.h"

/* Not by BULLA_ENCODE_START: that would also close the text with the end token where a
 * model's settings say so, and nothing could follow. */
int chat_encode(const bulla_tokenizer *tokenizer, const char *text, size_t length, uint32_t **ids, size_t *count,
                bulla_error *error)
{
    uint32_t *found;
    size_t found_count;
    int code = bulla_tokenizer_encode(tokenizer, text, length, BULLA_ENCODE_SPECIAL, SIZE_MAX, &found, &found_count,
                                      error);
    if (code != BULLA_OK)
        return code;
    int64_t start = bulla_tokenizer_start_token(tokenizer);
    size_t added = start >= 0 && bulla_tokenizer_adds_start(tokenizer) && (found_count == 0 || found[0] != start);
    *ids = memory_alloc(found_count + added, sizeof **ids, error);
    if (*ids) {
        if (added)
            (*ids)[0] = (uint32_t)start;
        if (found_count)
            memcpy(*ids + added, found, found_count * sizeof *found);
        *count = found_count + added;
    }
    bulla_tokens_free(found);
    return *ids ? BULLA_OK : BULLA_E_MEMORY;
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
static void write_variables(struct buffer *out, const bulla_tokenizer *tokenizer, const struct chat_message *messages,
                            size_t count, int generation)
{
    buffer_append_byte(out, '{');
    write_token(out, "bos_token", tokenizer, bulla_tokenizer_start_token(tokenizer));
    write_token(out, "eos_token", tokenizer, bulla_tokenizer_end_token(tokenizer));
    buffer_append_format(out, "\"add_generation_prompt\":%s,\"messages\":[", generation ? "true" : "false");
    for (size_t i = 0; i < count; i++) {
        buffer_append_text(out, i ? ",{" : "{");
        write_member(out, "role", messages[i].role, strlen(messages[i].role));
        buffer_append_byte(out, ',');
        write_member(out, "content", messages[i].content, messages[i].length);
        buffer_append_byte(out, '}');
    }
    buffer_append_text(out, "]}");
}

int chat_encode_messages(const bulla_tokenizer *tokenizer, const bulla_chat_template *chat_template,
                         const struct chat_message *messages, size_t message_count, int generation, long long now,
                         uint32_t **ids, size_t *count, bulla_error *error)
{
    struct buffer variables = {0};
    write_variables(&variables, tokenizer, messages, message_count, generation);
    char *text = NULL;
    size_t length;
    int code = variables.error.code;
    if (code != BULLA_OK)
        bulla_fail(error, code, "%s", variables.error.text);
    else
        code = bulla_chat_template_render(chat_template, (const char *)variables.data, variables.length, now, &text,
                                          &length, error);
    if (code == BULLA_OK)
        code = chat_encode(tokenizer, text, length, ids, count, error);
    bulla_text_free(text);
    buffer_free(&variables);
    return code;
}
