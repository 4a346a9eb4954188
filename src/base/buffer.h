/* Bytes: a growing buffer for writing, and a checked reader for data from outside. */
#ifndef BASE_BUFFER_H
#define BASE_BUFFER_H

#include <stddef.h>
#include <stdint.h>

#include "bulla/error.h"

/* A growing byte buffer. Zero-initialise it; buffer_free when done. Appending
 * keeps the first error in `error` and goes quiet after it, so writing code
 * stays straight: check `error.code` once at the end. `data` is always
 * followed by a NUL that `length` does not count (NULL while empty). */
struct buffer {
    uint8_t *data;
    size_t length;
    size_t capacity;
    bulla_error error;
};

void buffer_free(struct buffer *buffer);
void buffer_clear(struct buffer *buffer); /* length 0, memory kept, error kept */
void buffer_drop_front(struct buffer *buffer, size_t length); /* forgets the first bytes, at most all; memory kept */
void buffer_cut(struct buffer *buffer, size_t length); /* keeps the first bytes, at most all; memory kept */
void buffer_append(struct buffer *buffer, const void *bytes, size_t length);
void buffer_append_text(struct buffer *buffer, const char *text);
void buffer_append_byte(struct buffer *buffer, uint8_t byte);
void buffer_append_format(struct buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Little-endian integers. */
void buffer_append_u16(struct buffer *buffer, uint16_t value);
void buffer_append_u32(struct buffer *buffer, uint32_t value);
void buffer_append_u64(struct buffer *buffer, uint64_t value);
/* Zero bytes until length is a multiple of `alignment`. */
void buffer_pad(struct buffer *buffer, size_t alignment);
/* `length` more zero bytes; returns where they start, NULL after an error. */
uint8_t *buffer_extend(struct buffer *buffer, size_t length);

/* A checked little-endian reader over bytes that it does not own. The first
 * read past the end sets `failed` and moves to the end; it and all later reads
 * give zeros. `offset` is where the next read starts. */
struct reader {
    const uint8_t *data;
    size_t length;
    size_t offset;
    int failed;
};

struct reader reader_over(const void *data, size_t length);
uint8_t reader_u8(struct reader *reader);
uint16_t reader_u16(struct reader *reader);
uint32_t reader_u32(struct reader *reader);
uint64_t reader_u64(struct reader *reader);
/* `length` bytes in place; NULL when fewer are left. */
const uint8_t *reader_bytes(struct reader *reader, uint64_t length);
size_t reader_left(const struct reader *reader);

/* Lower-case hex of `length` bytes into `text` (2 * length + 1 chars). */
void hex_encode(const uint8_t *bytes, size_t length, char *text);
/* The most bytes that `text_length` characters of base64 hold. */
size_t base64_most(size_t text_length);
/* Base64 (RFC 4648 section 4) with its padding and nothing else: no blanks, no stray bits. `bytes` has room for
 * base64_most; returns 0 when `text` is anything else. */
int base64_decode(const char *text, size_t text_length, uint8_t *bytes, size_t *length);
void base64_append(struct buffer *out, const uint8_t *bytes, size_t length);
/* Reads exactly 2 * length hex digits; returns 0 when `text` is anything else. */
int hex_decode(const char *text, size_t text_length, uint8_t *bytes, size_t length);

#endif
