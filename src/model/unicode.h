/* What tokenizers need of Unicode, from tables of our own so that ids never
 * depend on the version of an installed library: character classes (Unicode
 * 16.0) and normalization form C (Unicode 9.0); docs/tokenizer.md says why. */
#ifndef MODEL_UNICODE_H
#define MODEL_UNICODE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

enum unicode_class {
    UNICODE_OTHER,
    UNICODE_UPPER,  /* Lu, Lt */
    UNICODE_LOWER,  /* Ll */
    UNICODE_LETTER, /* Lm, Lo */
    UNICODE_MARK,   /* M */
    UNICODE_NUMBER, /* Nd, Nl */
    UNICODE_SPACE,  /* White_Space */
    UNICODE_WORD,   /* other characters that \w matches: Pc, Join_Control, the rest of Alphabetic */
    UNICODE_OTHER_NUMBER /* No: a number, but not of \w */
};

enum unicode_class unicode_class_of(uint32_t code_point);

/* Reads the code point at text[offset] of well-formed UTF-8 (offset < length)
 * and returns where the next one starts. Other bytes give U+FFFD and never read
 * past `length`. */
size_t unicode_next(const char *text, size_t length, size_t offset, uint32_t *code_point);

/* How many bytes at `text` (length > 0) are one maximal ill-formed part, as the
 * Unicode Standard 3.9 (U+FFFD Substitution of Maximal Subparts) counts; 0 when
 * a well-formed character starts there. */
size_t unicode_ill_formed(const char *text, size_t length);

/* Appends `text` with each maximal ill-formed part replaced by U+FFFD. */
void unicode_append_well_formed(struct buffer *out, const char *text, size_t length);

/* Appends the normalization form C (UAX 15) of well-formed `text`. Errors go to
 * out->error. Time is linear in the text. */
void unicode_append_nfc(struct buffer *out, const char *text, size_t length);

/* The tables (unicode_tables.c, generated). */
enum {
    UNICODE_CLASS_STARTS = 3223,
    UNICODE_COMBINING = 333,
    UNICODE_DECOMPOSITIONS = 2060,
    UNICODE_COMPOSITIONS = 940
};
struct unicode_combining {
    uint32_t first, last;
    uint32_t value; /* canonical combining class, 1..254 */
};
struct unicode_pair {
    uint32_t code_point;
    uint32_t first, second; /* its canonical decomposition; second is 0 where it is one character */
};
/* first code point of a run * 16 + its class, ascending */
extern const uint32_t unicode_class_starts[UNICODE_CLASS_STARTS];
extern const struct unicode_combining unicode_combining[UNICODE_COMBINING];
extern const struct unicode_pair unicode_decompositions[UNICODE_DECOMPOSITIONS]; /* by code_point */
/* Those that compose again: their places in unicode_decompositions, by first, second. */
extern const uint16_t unicode_compositions[UNICODE_COMPOSITIONS];

#endif
