/* CBOR (RFC 8949) as evidence has it, read strictly into a tree: all of the input is one item; lengths are definite;
 * the keys of maps are integers or texts, none twice; texts are UTF-8; depth and number of items are bounded. Integers
 * may be longer than they need to be (section 4.1): what depends on bytes is signed over bytes. */
#ifndef TRUST_CBOR_H
#define TRUST_CBOR_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "bulla/error.h"

enum { MOST_CBOR_DEPTH = 8, MOST_CBOR_ITEMS = 1024 };

enum cbor_type {
    CBOR_UNSIGNED,
    CBOR_NEGATIVE,
    CBOR_BYTES,
    CBOR_TEXT,
    CBOR_ARRAY,
    CBOR_MAP,
    CBOR_TAG,
    CBOR_NULL,
    CBOR_OTHER /* a float or another simple value: no format here looks at one */
};

struct cbor {
    enum cbor_type type;
    uint64_t number;          /* CBOR_UNSIGNED: the value; CBOR_NEGATIVE: the value is -1 - number; CBOR_TAG: which */
    const uint8_t *bytes;     /* CBOR_BYTES, CBOR_TEXT: where they are in the input, no NUL behind them */
    size_t length;            /* of these; CBOR_ARRAY: items; CBOR_MAP: pairs; CBOR_TAG: 1 */
    const struct cbor *items; /* CBOR_MAP: key, value, key, value, ... */
};

/* NULL where the bytes are anything else, with the error recorded. The tree is the arena's, its bytes the input's. */
const struct cbor *cbor_parse(const uint8_t *bytes, size_t length, struct arena *arena, bulla_error *error);

/* All take NULL for an item that is not there. */
int cbor_is(const struct cbor *item, enum cbor_type type);
int cbor_is_text(const struct cbor *item, const char *text);
int cbor_is_integer(const struct cbor *item, int64_t value);
/* What a map has under an integer, or under a text; NULL: nothing, or no map. */
const struct cbor *cbor_label(const struct cbor *map, int64_t label);
const struct cbor *cbor_member(const struct cbor *map, const char *name);
/* What an item is, in a few words of the arena: a text itself, "32 bytes", "a list of 3", "nothing" for NULL. */
const char *cbor_describe(const struct cbor *item, struct arena *arena, bulla_error *error);

#endif
