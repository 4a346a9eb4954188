/* Fields of a request's JSON, read with their types and ranges checked. Whatever is wrong becomes an error
 * of status 400 that names the field by its way from the request's top ("messages[2].content"). A field that is null
 * counts as missing; fields that nobody reads are ignored. */
#ifndef SERVE_API_FIELDS_H
#define SERVE_API_FIELDS_H

#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "serve/backend.h"

/* Where a value stands: a member of `outer`, or an item of it where `key` is NULL. */
struct place {
    const struct place *outer; /* NULL: the request itself */
    const char *key;
    size_t item;
};

struct field_reader {
    struct arena *arena;          /* the request's: values made here and the error's `param` live in it */
    struct answer_error *problem;
};

/* Fills the problem and returns BULLA_E_INPUT. `code` is a constant. The place's name is put before the sentence. */
int field_fail(struct field_reader *reader, const struct place *place, const char *code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* What a call into a lower layer said: 400 for what a request is to blame for, naming `place` (which may be NULL), else
 * 503 or 500. Returns the error's code. */
int field_fail_error(struct field_reader *reader, const struct place *place, const bulla_error *error);
/* The place's name, in the arena; NULL for none, and where memory is short. */
const char *field_name(struct field_reader *reader, const struct place *place);
/* "a number", ...: what a value is, for sentences. */
const char *field_type_name(const struct json *value);
int field_fail_type(struct field_reader *reader, const struct place *place, const struct json *found,
                    const char *expected);

/* The member, or NULL where it is missing or null. */
const struct json *field_find(const struct json *object, const char *key);
/* Each of these leaves *value as it was where the field is missing. `outer` is the object's own place. */
int field_flag(struct field_reader *reader, const struct json *object, const struct place *outer, const char *key,
               int *value);
int field_integer(struct field_reader *reader, const struct json *object, const struct place *outer, const char *key,
                  int64_t least, int64_t most, int64_t *value);
/* A decimal number in millionths, exactly, rounded half up. The bounds are millionths too. */
int field_millionths(struct field_reader *reader, const struct json *object, const struct place *outer,
                     const char *key, int64_t least, int64_t most, int64_t *value);
int field_typed(struct field_reader *reader, const struct json *object, const struct place *outer, const char *key,
                enum json_type type, const struct json **value);
/* The same, of a field that must be there. */
int field_needed(struct field_reader *reader, const struct json *object, const struct place *outer, const char *key,
                 enum json_type type, const struct json **value);

/* Values made here; NULL with the problem filled when memory is short. Objects and lists hold up to `room` members;
 * made_add and made_push of NULL give NULL back, so that calls can be nested and checked once. */
struct json *made_text(struct field_reader *reader, const char *text, size_t length);
struct json *made_object(struct field_reader *reader, size_t room);
struct json *made_list(struct field_reader *reader, size_t room);
/* `key` is not copied. */
struct json *made_add(struct json *object, const char *key, const struct json *value);
struct json *made_push(struct json *list, const struct json *value);
/* A copy of an object whose members can be exchanged (made_exchange) without touching the one that was read, with room
 * for `more` of them. */
struct json *made_copy(struct field_reader *reader, const struct json *object, size_t more);
void made_exchange(struct json *object, const char *key, const struct json *value);
int made_is_text(const struct json *value, const char *text);

#endif
