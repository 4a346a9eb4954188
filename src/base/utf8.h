/* UTF-8 (RFC 3629), one code point at a time. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Reads the code point at `text`, of which `length` bytes are there. Returns
 * its bytes (1..4), or 0 when the bytes are no well-formed UTF-8 (overlong,
 * surrogate, above U+10FFFF, cut off, length 0). */
size_t utf8_decode(const char *text, size_t length, uint32_t *code_point);

/* Writes `code_point` (any below 0x110000) into `text`; returns its bytes. */
size_t utf8_encode(uint32_t code_point, char text[4]);

/* Where the first byte that is not well-formed UTF-8 is; `length` when all is. */
size_t utf8_check(const char *text, size_t length);

#endif
