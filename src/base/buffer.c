#include "base/buffer.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"

static int reserve(struct buffer *buffer, size_t more)
{
    if (buffer->error.code != BULLA_OK)
        return 0;
    if (more >= SIZE_MAX / 2 - buffer->length) {
        bulla_fail(&buffer->error, BULLA_E_MEMORY, "a buffer of %zu bytes cannot grow by %zu", buffer->length, more);
        return 0;
    }
    size_t needed = buffer->length + more + 1;
    if (needed <= buffer->capacity)
        return 1;
    size_t capacity = buffer->capacity ? buffer->capacity : 64;
    while (capacity < needed)
        capacity += capacity / 2;
    uint8_t *data = memory_resize(buffer->data, capacity, 1, &buffer->error);
    if (!data)
        return 0;
    buffer->data = data;
    buffer->capacity = capacity;
    return 1;
}

void buffer_free(struct buffer *buffer)
{
    memory_free(buffer->data);
    memset(buffer, 0, sizeof *buffer);
}

void buffer_clear(struct buffer *buffer)
{
    buffer->length = 0;
    if (buffer->data)
        buffer->data[0] = 0;
}

void buffer_cut(struct buffer *buffer, size_t length)
{
    if (length >= buffer->length)
        return;
    buffer->length = length;
    buffer->data[length] = 0;
}

void buffer_drop_front(struct buffer *buffer, size_t length)
{
    if (length >= buffer->length) {
        buffer_clear(buffer);
        return;
    }
    buffer->length -= length;
    memmove(buffer->data, buffer->data + length, buffer->length + 1);
}

uint8_t *buffer_extend(struct buffer *buffer, size_t length)
{
    if (!reserve(buffer, length))
        return NULL;
    uint8_t *start = buffer->data + buffer->length;
    memset(start, 0, length + 1);
    buffer->length += length;
    return start;
}

void buffer_append(struct buffer *buffer, const void *bytes, size_t length)
{
    if (!reserve(buffer, length))
        return;
    if (length)
        memcpy(buffer->data + buffer->length, bytes, length);
    buffer->length += length;
    buffer->data[buffer->length] = 0;
}

void buffer_append_text(struct buffer *buffer, const char *text)
{
    buffer_append(buffer, text, strlen(text));
}

void buffer_append_byte(struct buffer *buffer, uint8_t byte)
{
    buffer_append(buffer, &byte, 1);
}

void buffer_append_format(struct buffer *buffer, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    if (length < 0)
        bulla_fail(&buffer->error, BULLA_E_INTERNAL, "a text could not be formatted");
    else if (reserve(buffer, (size_t)length)) {
        vsnprintf((char *)buffer->data + buffer->length, (size_t)length + 1, format, again);
        buffer->length += (size_t)length;
    }
    va_end(again);
    va_end(arguments);
}

static void append_little_endian(struct buffer *buffer, uint64_t value, size_t bytes)
{
    uint8_t raw[8];
    for (size_t i = 0; i < bytes; i++)
        raw[i] = (uint8_t)(value >> (8 * i));
    buffer_append(buffer, raw, bytes);
}

void buffer_append_u16(struct buffer *buffer, uint16_t value)
{
    append_little_endian(buffer, value, 2);
}

void buffer_append_u32(struct buffer *buffer, uint32_t value)
{
    append_little_endian(buffer, value, 4);
}

void buffer_append_u64(struct buffer *buffer, uint64_t value)
{
    append_little_endian(buffer, value, 8);
}

void buffer_pad(struct buffer *buffer, size_t alignment)
{
    size_t over = buffer->length % alignment;
    if (over)
        buffer_extend(buffer, alignment - over);
}

struct reader reader_over(const void *data, size_t length)
{
    return (struct reader){.data = data, .length = length};
}

size_t reader_left(const struct reader *reader)
{
    return reader->length - reader->offset;
}

const uint8_t *reader_bytes(struct reader *reader, uint64_t length)
{
    if (length > reader_left(reader)) {
        reader->failed = 1;
        reader->offset = reader->length;
        return NULL;
    }
    const uint8_t *start = reader->data + reader->offset;
    reader->offset += (size_t)length;
    return start;
}

static uint64_t read_little_endian(struct reader *reader, size_t bytes)
{
    const uint8_t *raw = reader_bytes(reader, bytes);
    uint64_t value = 0;
    for (size_t i = 0; raw && i < bytes; i++)
        value |= (uint64_t)raw[i] << (8 * i);
    return value;
}

uint8_t reader_u8(struct reader *reader)
{
    return (uint8_t)read_little_endian(reader, 1);
}

uint16_t reader_u16(struct reader *reader)
{
    return (uint16_t)read_little_endian(reader, 2);
}

uint32_t reader_u32(struct reader *reader)
{
    return (uint32_t)read_little_endian(reader, 4);
}

uint64_t reader_u64(struct reader *reader)
{
    return read_little_endian(reader, 8);
}

void hex_encode(const uint8_t *bytes, size_t length, char *text)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < length; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    text[2 * length] = 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int hex_decode(const char *text, size_t text_length, uint8_t *bytes, size_t length)
{
    if (length > SIZE_MAX / 2 || text_length != 2 * length)
        return 0;
    for (size_t i = 0; i < length; i++) {
        int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return 0;
        bytes[i] = (uint8_t)(high << 4 | low);
    }
    return 1;
}

static const char base64_letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

size_t base64_most(size_t text_length)
{
    return text_length / 4 * 3;
}

int base64_decode(const char *text, size_t text_length, uint8_t *bytes, size_t *length)
{
    size_t padding = 0, count = 0;
    uint32_t bits = 0;
    if (text_length % 4)
        return 0;
    while (padding < 2 && padding < text_length && text[text_length - 1 - padding] == '=')
        padding++;
    for (size_t i = 0; i < text_length - padding; i++) {
        int digit = base64_digit(text[i]);
        if (digit < 0)
            return 0;
        bits = bits << 6 | (uint32_t)digit;
        if (i % 4 == 0)
            continue;
        unsigned spare = 6 - 2 * (unsigned)(i % 4); /* bits of this digit that belong to the next byte */
        bytes[count++] = (uint8_t)(bits >> spare);
        bits &= (1u << spare) - 1;
    }
    *length = count;
    return bits == 0;
}

void base64_append(struct buffer *out, const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i += 3) {
        size_t left = length - i;
        uint32_t bits = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) | (left > 2 ? bytes[i + 2] : 0);
        for (unsigned digit = 0; digit < 4; digit++)
            buffer_append_byte(out, digit > left ? '=' : (uint8_t)base64_letters[bits >> (18 - 6 * digit) & 63]);
    }
}
