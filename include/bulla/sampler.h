/* From logits to a token, exactly as docs/canonical.md, "Sampling", says.
 * Request numbers are integers in millionths, as in the receipt. */
#ifndef BULLA_SAMPLER_H
#define BULLA_SAMPLER_H

#include <stddef.h>
#include <stdint.h>

#include "bulla/error.h"

typedef struct bulla_logit_bias {
    uint32_t id;
    int64_t bias; /* millionths; |bias| <= 1000 * 10^6 */
} bulla_logit_bias;

/* All in millionths but top_k and seed. bulla_sampling_defaults sets the
 * documented defaults: temperature 0 (greedy), top_k 0, top_p 10^6, min_p 0,
 * repetition 10^6, presence and frequency 0, seed 0. */
typedef struct bulla_sampling {
    uint64_t temperature; /* T_u, at most 100 * 10^6; 0: the largest logit, ties to the lowest id */
    uint32_t top_k;       /* 0: all */
    uint64_t top_p;       /* 0 .. 10^6 */
    uint64_t min_p;       /* 0 .. 10^6 */
    uint64_t repetition;  /* 10^4 .. 10^8; 10^6: none */
    int64_t presence, frequency; /* |.| <= 100 * 10^6 */
    uint64_t seed;        /* the seed in effect (of the choice, bulla_sampling_choice_seed) */
    const bulla_logit_bias *biases; /* any order, ids distinct */
    size_t bias_count;
} bulla_sampling;

void bulla_sampling_defaults(bulla_sampling *sampling);
/* BULLA_E_USAGE naming the field that is out of its range. */
int bulla_sampling_check(const bulla_sampling *sampling, uint32_t vocabulary, bulla_error *error);
/* First 8 bytes of SHA-256("bulla-choice" || seed || k): the seed of choice k of n (k from 0). */
uint64_t bulla_sampling_choice_seed(uint64_t seed, uint64_t choice);

/* Working memory of a sampler for one vocabulary; one thread at a time. */
typedef struct bulla_sampler bulla_sampler;
int bulla_sampler_open(uint32_t vocabulary, const uint32_t exp24[1024], bulla_sampler **sampler, bulla_error *error);
void bulla_sampler_close(bulla_sampler *sampler);

/* The token at `position` (its own position; the first prompt token is 0).
 * logits[vocabulary] with F fraction bits; they are not changed. prompt and generated
 * tokens so far feed the penalties. `allowed` is a bit set of ids (bit id & 63
 * of word id / 64) or NULL for all. Costs little more than one pass over the
 * logits in ordinary use. BULLA_E_RANGE when an adjusted logit leaves 32 bits,
 * BULLA_E_INPUT when no id is allowed. */
int bulla_sampler_draw(bulla_sampler *sampler, const bulla_sampling *sampling, const int32_t *logits, int F,
                       const uint32_t *prompt, size_t prompt_count, const uint32_t *generated,
                       size_t generated_count, const uint64_t *allowed, uint64_t position, uint32_t *token,
                       bulla_error *error);

#endif
