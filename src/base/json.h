/* JSON (RFC 8259): one strict reader and one writer for the whole project, so
 * that a receipt, a policy and a model's configuration are read by the same
 * few hundred lines, which need no other library (docs/dependencies.md).
 *
 * Strict: UTF-8 only, no lone surrogates, no duplicate keys, no trailing bytes,
 * depth and size limited. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "bulla/error.h"

enum json_type { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

/* One value; everything it points at lives in the arena given to json_parse. */
struct json {
    enum json_type type;
    int is_integer;    /* JSON_NUMBER without fraction or exponent that fits int64 */
    int64_t integer;   /* its value where is_integer */
    double number;     /* JSON_NUMBER */
    const char *text;  /* JSON_STRING, decoded UTF-8, NUL-terminated (may hold NUL inside); JSON_NUMBER: as written */
    size_t length;     /* bytes of text; members of an array or object */
    struct json **items;     /* JSON_ARRAY, JSON_OBJECT: values, in order of appearance */
    const char **keys;       /* JSON_OBJECT, NUL-terminated */
    size_t *key_lengths;     /* JSON_OBJECT */
    struct json_index *index; /* private: key lookup of large objects */
};

enum { JSON_MAX_DEPTH = 128 };

/* Parses `length` bytes holding one JSON value. `name` (a file's, say) starts
 * error sentences. NULL with the error recorded when it isn't strict JSON. */
struct json *json_parse(const char *text, size_t length, const char *name, struct arena *arena, bulla_error *error);

/* The member `key`, or NULL when `object` is NULL, no object, or has none. */
struct json *json_get(const struct json *object, const char *key);
/* The same for a key with its length (keys may hold NUL). */
struct json *json_get_bytes(const struct json *object, const char *key, size_t length);

int json_is(const struct json *value, enum json_type type); /* NULL is of no type */
int json_is_bool(const struct json *value);
int json_is_text(const struct json *value, const char *text); /* that string, and nothing behind a NUL in it */

/* Writing: appends to a buffer (its error handling). json_write_string writes
 * quotes and escapes as RFC 8785 section 3.2.2.2; `text` must be valid UTF-8
 * (invalid bytes become U+FFFD), and may be NULL where `length` is 0. */
void json_write_string(struct buffer *out, const char *text, size_t length);
/* Writes a parsed value in RFC 8785 canonical form: members sorted by UTF-16
 * units, numbers as ECMAScript writes them. */
void json_write_canonical(struct buffer *out, const struct json *value);
/* Writes a parsed value without blanks, members in the order of appearance and numbers as they were written:
 * what is passed on to another program, for which the order may mean something (a schema's properties). */
void json_write(struct buffer *out, const struct json *value);

#endif
