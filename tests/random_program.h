/* Small random programs of every family's shape, valid and calibrated crudely:
 * values stay well within their bounds, unless asked to leave them. Nothing is
 * read from files. */
#ifndef TESTS_RANDOM_PROGRAM_H
#define TESTS_RANDOM_PROGRAM_H

#include <stdint.h>

#include "bulla/error.h"
#include "bulla/program.h"

enum random_family {
    RANDOM_LLAMA,       /* grouped heads of 64, half rope */
    RANDOM_INTERLEAVED, /* pairs 2i, 2i + 1; heads of 16 */
    RANDOM_QWEN2,       /* biases on q, k, v */
    RANDOM_QWEN3,       /* q/k norms a head, heads of 128 */
    RANDOM_GEMMA2,      /* post-norms, softcaps of scores and logits, windows on every other layer, heads of 96 */
    RANDOM_GEMMA3,      /* q/k norms, post-norms, windows on most layers, one kv head of 256 */
    RANDOM_PHI3,        /* heads of 80, part of each turned */
    RANDOM_UNGATED,     /* a gate without its second input */
    RANDOM_ODD,         /* sizes that no vector width divides */
    RANDOM_MANY_HEADS,  /* 20 query heads share one kv head */
    RANDOM_FAMILIES,
    RANDOM_WIDE = RANDOM_FAMILIES /* rows of more than 256 elements; not one of those that tests go through */
};

const char *random_family_name(int family);

/* The same seed gives the same program. `strain` 0 stays in range; 1 lets some
 * operation of the middle reach its bound at some positions. Free with
 * random_program_free. */
int random_program_new(uint64_t seed, int family, int strain, bulla_program **program, bulla_error *error);
void random_program_free(bulla_program *program); /* NULL is fine */

#endif
