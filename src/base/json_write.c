/* The writing half of json.h: RFC 8785, the JSON Canonicalization Scheme, and values as they came. */
#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/decimal.h"
#include "base/memory.h"
#include "base/utf8.h"

static void write_escaped(struct buffer *out, unsigned char c)
{
    static const char letters[] = "btn?fr"; /* 0x08.. */
    if (c >= 0x08 && c <= 0x0D && c != 0x0B)
        buffer_append_format(out, "\\%c", letters[c - 0x08]);
    else if (c < 0x20)
        buffer_append_format(out, "\\u%04x", c);
    else
        buffer_append_format(out, "\\%c", c);
}

void json_write_string(struct buffer *out, const char *text, size_t length)
{
    buffer_append_byte(out, '"');
    size_t start = 0, at = 0; /* start: the first byte not written yet */
    while (at < length) {
        unsigned char c = (unsigned char)text[at];
        uint32_t code_point;
        size_t size = utf8_decode(text + at, length - at, &code_point);
        if (size > 0 && c >= 0x20 && c != '"' && c != '\\') {
            at += size;
            continue;
        }
        buffer_append(out, text + start, at - start);
        if (size == 0)
            buffer_append_text(out, "\xEF\xBF\xBD");
        else
            write_escaped(out, c);
        start = ++at;
    }
    if (start < length)
        buffer_append(out, text + start, length - start);
    buffer_append_byte(out, '"');
}

/* Number::toString of ECMA-262, section 6.1.6.1.20, for finite numbers. */
static void write_number(struct buffer *out, double value)
{
    char digits[18];
    int point;
    if (value == 0) {
        buffer_append_byte(out, '0');
        return;
    }
    int count = decimal_shortest(value, digits, &point);
    if (value < 0)
        buffer_append_byte(out, '-');
    if (point > 0 && point <= 21) {
        buffer_append(out, digits, (size_t)(count < point ? count : point));
        for (int i = count; i < point; i++)
            buffer_append_byte(out, '0');
        if (count > point)
            buffer_append_format(out, ".%s", digits + point);
    } else if (point > -6 && point <= 0) {
        buffer_append_text(out, "0.");
        for (int i = point; i < 0; i++)
            buffer_append_byte(out, '0');
        buffer_append_text(out, digits);
    } else {
        buffer_append_byte(out, (uint8_t)digits[0]);
        if (count > 1)
            buffer_append_format(out, ".%s", digits + 1);
        buffer_append_format(out, "e%c%d", point > 0 ? '+' : '-', point > 0 ? point - 1 : 1 - point);
    }
}

struct sorted {
    const char *key;
    size_t length;
    const struct json *value;
};

/* The order of UTF-16 units: that of bytes, but characters beyond U+FFFF
 * (lead bytes F0..F4, surrogates in UTF-16) come before U+E000..U+FFFF (EE, EF). */
static int compare_keys(const void *a, const void *b)
{
    const struct sorted *left = a, *right = b;
    size_t shorter = left->length < right->length ? left->length : right->length;
    for (size_t i = 0; i < shorter; i++) {
        unsigned char x = (unsigned char)left->key[i], y = (unsigned char)right->key[i];
        if (x == y)
            continue;
        if ((x >= 0xF0) != (y >= 0xF0) && x >= 0xEE && y >= 0xEE)
            return x >= 0xF0 ? -1 : 1;
        return x < y ? -1 : 1;
    }
    return left->length < right->length ? -1 : left->length > right->length;
}

static void write_canonical_object(struct buffer *out, const struct json *object)
{
    struct sorted *members = memory_alloc(object->length, sizeof *members, &out->error);
    if (!members)
        return;
    for (size_t i = 0; i < object->length; i++)
        members[i] = (struct sorted){object->keys[i], object->key_lengths[i], object->items[i]};
    qsort(members, object->length, sizeof *members, compare_keys);
    buffer_append_byte(out, '{');
    for (size_t i = 0; i < object->length; i++) {
        if (i)
            buffer_append_byte(out, ',');
        json_write_string(out, members[i].key, members[i].length);
        buffer_append_byte(out, ':');
        json_write_canonical(out, members[i].value);
    }
    buffer_append_byte(out, '}');
    memory_free(members);
}

/* What is written the same in both forms; 0 for what is not. */
static int write_plain(struct buffer *out, const struct json *value)
{
    switch (value->type) {
    case JSON_NULL:
        buffer_append_text(out, "null");
        return 1;
    case JSON_FALSE:
        buffer_append_text(out, "false");
        return 1;
    case JSON_TRUE:
        buffer_append_text(out, "true");
        return 1;
    case JSON_STRING:
        json_write_string(out, value->text, value->length);
        return 1;
    default:
        return 0;
    }
}

static void write_array(struct buffer *out, const struct json *array,
                        void (*write_item)(struct buffer *out, const struct json *item))
{
    buffer_append_byte(out, '[');
    for (size_t i = 0; i < array->length; i++) {
        if (i)
            buffer_append_byte(out, ',');
        write_item(out, array->items[i]);
    }
    buffer_append_byte(out, ']');
}

void json_write_canonical(struct buffer *out, const struct json *value)
{
    if (write_plain(out, value))
        return;
    if (value->type == JSON_NUMBER)
        write_number(out, value->number);
    else if (value->type == JSON_ARRAY)
        write_array(out, value, json_write_canonical);
    else
        write_canonical_object(out, value);
}

void json_write(struct buffer *out, const struct json *value)
{
    if (write_plain(out, value))
        return;
    if (value->type == JSON_NUMBER) {
        buffer_append(out, value->text, value->length);
        return;
    }
    if (value->type == JSON_ARRAY) {
        write_array(out, value, json_write);
        return;
    }
    buffer_append_byte(out, '{');
    for (size_t i = 0; i < value->length; i++) {
        if (i)
            buffer_append_byte(out, ',');
        json_write_string(out, value->keys[i], value->key_lengths[i]);
        buffer_append_byte(out, ':');
        json_write(out, value->items[i]);
    }
    buffer_append_byte(out, '}');
}
