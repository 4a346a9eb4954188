/* Prompt lookup: a guess at the next tokens, without a model. The latest tokens
 * have often stood in the prompt or the answer before (names, code, quotations,
 * lists); the guess is what followed them there the last time. After A. Saxena,
 * "Prompt Lookup Decoding" (2023), with the match kept as long as it goes on. */
#ifndef EXEC_LOOKUP_H
#define EXEC_LOOKUP_H

#include <stddef.h>
#include <stdint.h>

#include "bulla/error.h"

enum {
    LOOKUP_SHORTEST = 2, /* tokens that must have stood before; more are tried first */
    LOOKUP_LONGEST = 3,
    LOOKUP_SIZES = LOOKUP_LONGEST - LOOKUP_SHORTEST + 1
};

/* Zero-initialise; all fields are for lookup.c alone. */
struct lookup {
    uint32_t *tokens; /* [capacity] */
    size_t count, capacity;
    /* [slot_count]: by the hash of 2, 3 tokens the index behind the place where they last stood; 0: none. */
    size_t *ends[LOOKUP_SIZES];
    size_t slot_count;          /* a power of two */
    size_t next;                /* index of the token that is guessed; 0: none */
    size_t length;              /* so many tokens before it are the latest ones (at least: counting stops) */
};

/* Room for `capacity` tokens. lookup_close ends it, also after an error. */
int lookup_open(struct lookup *lookup, size_t capacity, bulla_error *error);
void lookup_close(struct lookup *lookup); /* a zeroed one is fine */

/* The next token of the text, in a time that does not grow with the text; not more than `capacity` of them. */
void lookup_append(struct lookup *lookup, uint32_t token);

/* How many of the latest tokens stood before where the guess comes from: 0 when there is no guess. */
size_t lookup_match(const struct lookup *lookup);
/* The guess at the token `ahead` places after the next one, while there is a match. A text that repeats
 * itself is taken to go on doing so. */
uint32_t lookup_guess(const struct lookup *lookup, size_t ahead);

#endif
