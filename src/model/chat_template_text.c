#define _GNU_SOURCE /* memmem */
#include <string.h>

#include "base/utf8.h"
#include "model/chat_template_internal.h"

uint32_t text_character(const struct text *text, size_t at, size_t *size)
{
    uint32_t code_point = 0;
    *size = utf8_decode(text->bytes + at, text->length - at, &code_point);
    if (*size == 0) /* texts are valid; never loop on one that is not */
        *size = 1;
    return code_point;
}

size_t text_previous(const struct text *text, size_t at)
{
    do
        at--;
    while (at > 0 && ((unsigned char)text->bytes[at] & 0xC0) == 0x80);
    return at;
}

int text_equals(const struct text *text, const char *other)
{
    return text->length == strlen(other) && memcmp(text->bytes, other, text->length) == 0;
}

size_t text_find(const struct text *text, const struct text *part, size_t from)
{
    if (from > text->length || part->length > text->length - from)
        return SIZE_MAX;
    if (part->length == 0)
        return from;
    /* In windows, so that a call costs what it finds: a sanitizer checks all that memmem might read. */
    size_t window = 4096 + 2 * part->length;
    for (;; from += window - part->length) {
        size_t left = text->length - from;
        const char *found = memmem(text->bytes + from, left < window ? left : window, part->bytes, part->length);
        if (found || left <= window)
            return found ? (size_t)(found - text->bytes) : SIZE_MAX;
    }
}

int text_find_last(struct render *render, const struct text *text, const struct text *part, size_t end, size_t *at)
{
    *at = SIZE_MAX;
    if (part->length > end)
        return 1;
    size_t compared = 0; /* spent as steps: a part that almost matches everywhere costs its length each time */
    for (size_t candidate = end - part->length + 1; candidate-- > 0;) {
        size_t same = 0;
        while (same < part->length && text->bytes[candidate + same] == part->bytes[same])
            same++;
        if (same == part->length) {
            *at = candidate;
            return template_spend(render, compared / 16);
        }
        compared += same + 1;
        if (compared > 1 << 20) {
            if (!template_spend(render, compared / 16))
                return 0;
            compared = 0;
        }
    }
    return template_spend(render, compared / 16);
}

size_t text_offset(const struct text *text, size_t index)
{
    if (index >= text->characters)
        return text->length;
    if (text->characters == text->length)
        return index;
    size_t at = 0;
    for (; index > 0; index--) {
        at++;
        while (at < text->length && ((unsigned char)text->bytes[at] & 0xC0) == 0x80)
            at++;
    }
    return at;
}

int text_part(struct render *render, const struct text *text, size_t start, size_t end, int markup,
              struct value *result)
{
    if (!value_text(render, text->bytes + start, end > start ? end - start : 0, result))
        return 0;
    result->detail = (uint8_t)markup;
    return 1;
}

int text_from_buffer(struct render *render, struct buffer *buffer, struct value *result)
{
    int done = 0;
    if (buffer->error.code != BULLA_OK)
        bulla_fail(render->error, buffer->error.code, "%s", buffer->error.text);
    else
        done = value_text_copy(render, buffer->length ? (const char *)buffer->data : "", buffer->length, result);
    buffer_free(buffer);
    return done;
}

static int is_stripped(const struct text *text, size_t at, size_t size, const struct text *characters)
{
    if (!characters) {
        size_t ignored;
        return text_is_space(text_character(text, at, &ignored));
    }
    struct text character = {.bytes = text->bytes + at, .length = size};
    return text_find(characters, &character, 0) != SIZE_MAX;
}

int text_strip(struct render *render, struct value value, const struct text *characters, int sides,
               struct value *result)
{
    const struct text *text = value.text;
    size_t start = 0, end = text->length, steps = 0;
    while ((sides & STRIP_LEFT) && start < end) {
        size_t size;
        text_character(text, start, &size);
        if (!is_stripped(text, start, size, characters))
            break;
        start += size;
        steps++;
    }
    while ((sides & STRIP_RIGHT) && end > start) {
        size_t before = text_previous(text, end);
        if (!is_stripped(text, before, end - before, characters))
            break;
        end = before;
        steps++;
    }
    if (!template_spend(render, steps * (characters ? 1 + characters->length / 64 : 1) / 4))
        return 0;
    return text_part(render, text, start, end, value.detail, result);
}

static int append_part(struct render *render, struct list *list, struct value text, size_t start, size_t end)
{
    struct value part;
    return template_spend(render, 1) && text_part(render, text.text, start, end, text.detail, &part) &&
           list_append(render, list, part);
}

static void reverse_list(struct list *list)
{
    for (size_t i = 0; i < list->count / 2; i++) {
        struct value swap = list->items[i];
        list->items[i] = list->items[list->count - 1 - i];
        list->items[list->count - 1 - i] = swap;
    }
}

/* Words between white space, none of them empty. */
static int split_space(struct render *render, struct value value, int64_t most, struct list *list)
{
    const struct text *text = value.text;
    size_t at = 0, size;
    for (;;) {
        while (at < text->length && text_is_space(text_character(text, at, &size)))
            at += size;
        if (at == text->length)
            return 1;
        size_t start = at;
        if (most >= 0 && (uint64_t)most <= list->count)
            return append_part(render, list, value, start, text->length);
        while (at < text->length && !text_is_space(text_character(text, at, &size)))
            at += size;
        if (!append_part(render, list, value, start, at))
            return 0;
    }
}

static int split_space_from_right(struct render *render, struct value value, int64_t most, struct list *list)
{
    const struct text *text = value.text;
    size_t at = text->length, size;
    for (;;) {
        while (at > 0 && text_is_space(text_character(text, text_previous(text, at), &size)))
            at = text_previous(text, at);
        if (at == 0)
            break;
        size_t end = at;
        if (most >= 0 && (uint64_t)most <= list->count) {
            if (!append_part(render, list, value, 0, end))
                return 0;
            break;
        }
        while (at > 0 && !text_is_space(text_character(text, text_previous(text, at), &size)))
            at = text_previous(text, at);
        if (!append_part(render, list, value, at, end))
            return 0;
    }
    reverse_list(list);
    return 1;
}

static int split_separator(struct render *render, struct value value, const struct text *separator, int64_t most,
                           int from_right, struct list *list)
{
    const struct text *text = value.text;
    size_t start = 0, end = text->length;
    while (most < 0 || list->count < (uint64_t)most) {
        size_t at = SIZE_MAX;
        if (!from_right)
            at = text_find(text, separator, start);
        else if (!text_find_last(render, text, separator, end, &at))
            return 0;
        if (at == SIZE_MAX)
            break;
        if (from_right ? !append_part(render, list, value, at + separator->length, end)
                       : !append_part(render, list, value, start, at))
            return 0;
        if (from_right)
            end = at;
        else
            start = at + separator->length;
    }
    if (!append_part(render, list, value, start, end))
        return 0;
    if (from_right)
        reverse_list(list);
    return 1;
}

int text_split(struct render *render, struct value text, const struct text *separator, int64_t most, int from_right,
               struct value *result)
{
    struct list *list;
    if (separator && separator->length == 0)
        return template_fail(render, BULLA_E_INPUT, "split: empty separator");
    if (!template_spend(render, text.text->length / (from_right ? 4 : 16)) || !list_new(render, 4, &list))
        return 0;
    *result = value_list(list);
    if (separator)
        return split_separator(render, text, separator, most, from_right, list);
    return from_right ? split_space_from_right(render, text, most, list) : split_space(render, text, most, list);
}

static int is_line_end(uint32_t code_point)
{
    return (code_point >= 0x0A && code_point <= 0x0D) || (code_point >= 0x1C && code_point <= 0x1E) ||
           code_point == 0x85 || code_point == 0x2028 || code_point == 0x2029;
}

int text_split_lines(struct render *render, struct value value, int keep_ends, struct value *result)
{
    const struct text *text = value.text;
    struct list *list;
    if (!template_spend(render, text->length / 16) || !list_new(render, 4, &list))
        return 0;
    *result = value_list(list);
    size_t start = 0, at = 0;
    while (at < text->length) {
        size_t size;
        uint32_t code_point = text_character(text, at, &size);
        if (!is_line_end(code_point)) {
            at += size;
            continue;
        }
        size_t end = at + size;
        if (code_point == '\r' && end < text->length && text->bytes[end] == '\n')
            end++;
        if (!append_part(render, list, value, start, keep_ends ? end : at))
            return 0;
        start = at = end;
    }
    return start == text->length || append_part(render, list, value, start, text->length);
}

static int replace_nothing(struct render *render, const struct text *text, const struct text *new, int64_t most,
                           struct buffer *out)
{
    for (size_t at = 0;; ) {
        if (most == 0) {
            buffer_append(out, text->bytes + at, text->length - at);
            return 1;
        }
        most -= most > 0;
        if (!template_spend(render, 1 + new->length / 64))
            return 0;
        buffer_append(out, new->bytes, new->length);
        if (at == text->length)
            return 1;
        size_t size;
        text_character(text, at, &size);
        buffer_append(out, text->bytes + at, size);
        at += size;
    }
}

int text_replace(struct render *render, const struct text *text, const struct text *old, const struct text *new,
                 int64_t most, struct value *result)
{
    struct buffer out = {0};
    size_t start = 0;
    int done = template_spend(render, text->length / 64);
    if (done && old->length == 0) {
        done = replace_nothing(render, text, new, most, &out);
        start = text->length;
    }
    while (done && most != 0 && old->length > 0) {
        size_t at = text_find(text, old, start);
        if (at == SIZE_MAX)
            break;
        most -= most > 0;
        buffer_append(&out, text->bytes + start, at - start);
        buffer_append(&out, new->bytes, new->length);
        start = at + old->length;
        done = template_spend(render, 1 + new->length / 64);
        if (out.length > TEMPLATE_MAX_MEMORY)
            done = template_fail(render, BULLA_E_LIMIT, "a text grows beyond %d bytes", TEMPLATE_MAX_MEMORY);
    }
    if (!done) {
        buffer_free(&out);
        return 0;
    }
    buffer_append(&out, text->bytes + start, text->length - start);
    return text_from_buffer(render, &out, result);
}

int text_escape(struct render *render, const struct text *text, struct value *result)
{
    struct buffer out = {0};
    size_t start = 0;
    for (size_t i = 0; i < text->length; i++) {
        const char *replacement = text->bytes[i] == '&'    ? "&amp;"
                                  : text->bytes[i] == '<'  ? "&lt;"
                                  : text->bytes[i] == '>'  ? "&gt;"
                                  : text->bytes[i] == '\'' ? "&#39;"
                                  : text->bytes[i] == '"'  ? "&#34;"
                                                           : NULL;
        if (!replacement)
            continue;
        buffer_append(&out, text->bytes + start, i - start);
        buffer_append_text(&out, replacement);
        start = i + 1;
    }
    buffer_append(&out, text->bytes + start, text->length - start);
    if (!text_from_buffer(render, &out, result))
        return 0;
    result->detail = 1;
    return template_spend(render, text->length / 16);
}
