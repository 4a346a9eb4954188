#define _GNU_SOURCE /* memmem */
#include "model/chat_prompt.h"

#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "model/tokenizer.h"
#include "model/unicode.h"

/* Not by BULLA_ENCODE_START: that would also close the text with the end token where a
 * model's settings say so, and nothing could follow. */
int chat_encode_rendering(const bulla_tokenizer *tokenizer, const struct chat_rendering *rendering, size_t limit,
                          uint32_t **ids, size_t *count, bulla_error *error)
{
    uint32_t *found;
    size_t found_count;
    int code = tokenizer_encode_marked(tokenizer, rendering->text, rendering->length, BULLA_ENCODE_SPECIAL,
                                       rendering->marks, rendering->mark_count, limit, &found, &found_count, error);
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

int chat_encode(const bulla_tokenizer *tokenizer, const char *text, size_t length, size_t limit, uint32_t **ids,
                size_t *count, bulla_error *error)
{
    struct chat_rendering rendering = {.text = (char *)(uintptr_t)text, .length = length};
    return chat_encode_rendering(tokenizer, &rendering, limit, ids, count, error);
}

/* ---- Variables as JSON ---- */

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

/* What every rendering has; as apply_chat_template gives them, tools and documents are there also where there are none.
 * */
static void write_head(struct buffer *out, const bulla_tokenizer *tokenizer, int begins_answer)
{
    buffer_append_byte(out, '{');
    write_token(out, "bos_token", tokenizer, bulla_tokenizer_start_token(tokenizer));
    write_token(out, "eos_token", tokenizer, bulla_tokenizer_end_token(tokenizer));
    buffer_append_format(out, "\"add_generation_prompt\":%s,\"documents\":null", begins_answer ? "true" : "false");
}

int chat_encode_messages(const bulla_tokenizer *tokenizer, const bulla_chat_template *chat_template,
                         const struct chat_message *messages, size_t message_count, int generation, long long now,
                         uint32_t **ids, size_t *count, bulla_error *error)
{
    struct buffer variables = {0};
    write_head(&variables, tokenizer, generation);
    buffer_append_text(&variables, ",\"tools\":null,\"messages\":[");
    for (size_t i = 0; i < message_count; i++) {
        buffer_append_text(&variables, i ? ",{" : "{");
        write_member(&variables, "role", messages[i].role, strlen(messages[i].role));
        buffer_append_byte(&variables, ',');
        write_member(&variables, "content", messages[i].content, messages[i].length);
        buffer_append_byte(&variables, '}');
    }
    buffer_append_text(&variables, "]}");
    char *text = NULL;
    size_t length;
    int code = variables.error.code;
    if (code != BULLA_OK)
        bulla_fail(error, code, "%s", variables.error.text);
    else
        code = bulla_chat_template_render(chat_template, (const char *)variables.data, variables.length, now, &text,
                                          &length, error);
    if (code == BULLA_OK)
        code = chat_encode(tokenizer, text, length, SIZE_MAX, ids, count, error);
    bulla_text_free(text);
    buffer_free(&variables);
    return code;
}

/* ---- Spellings of control tokens ---- */

enum { SIGN_BYTES = 4, SIGNS = 0x247 };
/* Anatolian hieroglyphs: letters that Python prints as they are, so that str() of a list shows them unescaped too. */
static const uint32_t FIRST_SIGN = 0x14400;

struct variables_writer {
    struct buffer *out;
    const bulla_tokenizer *tokenizer;
    const char *sign;    /* NULL: spellings are only counted */
    struct buffer spare; /* a text with its signs */
    uint64_t spellings;
};

static int is_blank_from(const char *text, size_t length, size_t offset)
{
    uint32_t code_point;
    while (offset < length) {
        offset = unicode_next(text, length, offset, &code_point);
        if (unicode_class_of(code_point) != UNICODE_SPACE)
            return 0;
    }
    return 1;
}

/* Where the sign goes: behind the first character, so that the spelling is broken; but before one that is a control
 * token by itself or the last of the text (a template may trim blanks after it), as a mark must lie at this text's
 * bytes. */
static size_t sign_offset(const struct variables_writer *writer, const char *text, size_t length, size_t offset)
{
    uint32_t code_point;
    size_t next = unicode_next(text, length, offset, &code_point);
    int64_t single = bulla_tokenizer_find(writer->tokenizer, text + offset, next - offset);
    int is_single = single >= 0 && bulla_tokenizer_is_control(writer->tokenizer, (uint32_t)single);
    return is_single || is_blank_from(text, length, next) ? offset : next;
}

static void write_text(struct variables_writer *writer, const char *text, size_t length)
{
    size_t used = 0, offset = 0;
    buffer_clear(&writer->spare);
    for (; tokenizer_find_control(writer->tokenizer, text, length, &offset); offset++) {
        writer->spellings++;
        if (!writer->sign)
            break;
        size_t at = sign_offset(writer, text, length, offset);
        buffer_append(&writer->spare, text + used, at - used);
        buffer_append(&writer->spare, writer->sign, SIGN_BYTES);
        used = at;
    }
    if (used == 0 && writer->spare.length == 0) {
        json_write_string(writer->out, text, length);
        return;
    }
    buffer_append(&writer->spare, text + used, length - used);
    if (writer->spare.error.code == BULLA_OK)
        json_write_string(writer->out, (const char *)writer->spare.data, writer->spare.length);
}

/* In the order of appearance, which templates show. Depth: json_parse bounds it. */
static void write_value(struct variables_writer *writer, const struct json *value)
{
    static const char *const names[] = {"null", "false", "true"};
    struct buffer *out = writer->out;
    if (value->type <= JSON_TRUE) {
        buffer_append_text(out, names[value->type]);
    } else if (value->type == JSON_NUMBER) {
        buffer_append_text(out, value->text);
    } else if (value->type == JSON_STRING) {
        write_text(writer, value->text, value->length);
    } else {
        int is_object = value->type == JSON_OBJECT;
        buffer_append_byte(out, is_object ? '{' : '[');
        for (size_t i = 0; i < value->length && out->error.code == BULLA_OK; i++) {
            if (i)
                buffer_append_byte(out, ',');
            if (is_object) {
                write_text(writer, value->keys[i], value->key_lengths[i]);
                buffer_append_byte(out, ':');
            }
            write_value(writer, value->items[i]);
        }
        buffer_append_byte(out, is_object ? '}' : ']');
    }
}

static int check_names(const struct json *more, bulla_error *error)
{
    static const char *const taken[] = {"messages", "tools", "documents", "add_generation_prompt", "bos_token",
                                        "eos_token"};
    if (!more)
        return BULLA_OK;
    if (!json_is(more, JSON_OBJECT))
        return bulla_fail(error, BULLA_E_USAGE, "chat_template_kwargs is not an object");
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++)
        if (json_get(more, taken[i]))
            return bulla_fail(error, BULLA_E_USAGE, "chat_template_kwargs sets \"%s\", which the server sets",
                              taken[i]);
    return BULLA_OK;
}

static void write_variables(struct variables_writer *writer, const struct chat_variables *variables)
{
    buffer_clear(writer->out);
    writer->spellings = 0;
    write_head(writer->out, writer->tokenizer, variables->begins_answer);
    buffer_append_text(writer->out, ",\"tools\":");
    if (variables->tools)
        write_value(writer, variables->tools);
    else
        buffer_append_text(writer->out, "null");
    for (size_t i = 0; variables->more && i < variables->more->length; i++) {
        buffer_append_byte(writer->out, ',');
        write_text(writer, variables->more->keys[i], variables->more->key_lengths[i]);
        buffer_append_byte(writer->out, ':');
        write_value(writer, variables->more->items[i]);
    }
    buffer_append_text(writer->out, ",\"messages\":");
    write_value(writer, variables->messages);
    buffer_append_byte(writer->out, '}');
    if (writer->out->error.code == BULLA_OK && writer->spare.error.code != BULLA_OK)
        writer->out->error = writer->spare.error;
}

/* A letter that the variables do not hold. */
static int choose_sign(const struct buffer *variables, char sign[SIGN_BYTES], bulla_error *error)
{
    for (uint32_t i = 0; i < SIGNS; i++) {
        utf8_encode(FIRST_SIGN + i, sign);
        if (!memmem(variables->data, variables->length, sign, SIGN_BYTES))
            return BULLA_OK;
    }
    return bulla_fail(error, BULLA_E_INPUT, "the messages spell a control token and hold all of the %d characters from "
                      "U+%X on, one of which is needed to tell it apart", SIGNS, FIRST_SIGN);
}

/* Takes the signs out of the text; each leaves a mark at the byte that follows it. */
static int take_signs(struct chat_rendering *rendering, const char sign[SIGN_BYTES], bulla_error *error)
{
    size_t capacity = 0, kept = 0, read = 0;
    const char *text = rendering->text, *end = text + rendering->length;
    for (const char *at = text; (at = memmem(at, (size_t)(end - at), sign, SIGN_BYTES)); at += SIGN_BYTES)
        capacity++;
    rendering->marks = memory_alloc(capacity, sizeof *rendering->marks, error);
    if (!rendering->marks)
        return BULLA_E_MEMORY;
    while (read < rendering->length) {
        const char *next = memmem(text + read, rendering->length - read, sign, SIGN_BYTES);
        size_t stop = next ? (size_t)(next - text) : rendering->length;
        memmove(rendering->text + kept, text + read, stop - read);
        kept += stop - read;
        read = next ? stop + SIGN_BYTES : stop;
        if (next)
            rendering->marks[rendering->mark_count++] = kept;
    }
    rendering->text[kept] = 0;
    rendering->length = kept;
    return BULLA_OK;
}

/* ---- Continuing the last message ---- */

static int is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static void copy_backwards(char *out, const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        out[i] = text[length - 1 - i];
}

/* *end: where the last occurrence of the content ends; 0 where there is none. Both are turned round, so that it is the
 * first one, which memmem finds in a time that their lengths bound. */
static int find_last(const struct chat_rendering *rendering, const char *content, size_t length, size_t *end,
                     bulla_error *error)
{
    *end = 0;
    if (length == 0 || length > rendering->length)
        return BULLA_OK;
    char *text = memory_alloc(rendering->length + length, 1, error);
    if (!text)
        return BULLA_E_MEMORY;
    copy_backwards(text, rendering->text, rendering->length);
    copy_backwards(text + rendering->length, content, length);
    const char *found = memmem(text, rendering->length, text + rendering->length, length);
    if (found)
        *end = rendering->length - (size_t)(found - text);
    memory_free(text);
    return BULLA_OK;
}

/* Cuts what the template writes after the last message's content, which it may have trimmed. */
static int cut_after_last(struct chat_rendering *rendering, const struct json *messages, bulla_error *error)
{
    const struct json *last = messages->length ? messages->items[messages->length - 1] : NULL;
    const struct json *content = json_get(last, "content");
    if (!json_is(content, JSON_STRING))
        return bulla_fail(error, BULLA_E_INPUT, "the last message has no text that could be continued");
    const char *text = content->text;
    size_t length = content->length, end;
    int code = find_last(rendering, text, length, &end, error);
    if (code == BULLA_OK && end == 0) {
        while (length > 0 && is_blank(text[length - 1]))
            length--;
        for (; length > 0 && is_blank(text[0]); length--)
            text++;
        code = find_last(rendering, text, length, &end, error);
    }
    if (code != BULLA_OK)
        return code;
    if (end == 0)
        return bulla_fail(error, BULLA_E_INPUT,
                          length ? "the chat template changes the last message's text, so that it "
                          "cannot be continued" : "the last message is empty: there is nothing to continue");
    rendering->length = end;
    rendering->text[end] = 0;
    while (rendering->mark_count && rendering->marks[rendering->mark_count - 1] >= end)
        rendering->mark_count--;
    return BULLA_OK;
}

int chat_render(const bulla_tokenizer *tokenizer, const bulla_chat_template *chat_template,
                const struct chat_variables *variables, struct chat_rendering *rendering, bulla_error *error)
{
    struct buffer json = {0};
    char sign[SIGN_BYTES];
    struct variables_writer writer = {.out = &json, .tokenizer = tokenizer};
    *rendering = (struct chat_rendering){0};
    int code = check_names(variables->more, error);
    if (code == BULLA_OK)
        write_variables(&writer, variables);
    int is_marked = code == BULLA_OK && json.error.code == BULLA_OK && writer.spellings > 0;
    if (is_marked)
        code = choose_sign(&json, sign, error);
    if (is_marked && code == BULLA_OK) {
        writer.sign = sign;
        write_variables(&writer, variables);
    }
    if (code == BULLA_OK && json.error.code != BULLA_OK)
        code = bulla_fail(error, json.error.code, "%s", json.error.text);
    if (code == BULLA_OK)
        code = bulla_chat_template_render(chat_template, (const char *)json.data, json.length, variables->now,
                                          &rendering->text, &rendering->length, error);
    if (code == BULLA_OK && is_marked)
        code = take_signs(rendering, sign, error);
    if (code == BULLA_OK && variables->continues_last)
        code = cut_after_last(rendering, variables->messages, error);
    buffer_free(&writer.spare);
    buffer_free(&json);
    if (code != BULLA_OK)
        chat_rendering_free(rendering);
    return code;
}

void chat_rendering_free(struct chat_rendering *rendering)
{
    bulla_text_free(rendering->text);
    memory_free(rendering->marks);
    *rendering = (struct chat_rendering){0};
}
