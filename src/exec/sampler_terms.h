/* Numbers of docs/canonical.md, "Sampling", that the sampler draws by and the step verifier of disputes computes again. */
#ifndef EXEC_SAMPLER_TERMS_H
#define EXEC_SAMPLER_TERMS_H

#include "bulla/sampler.h"

/* GNU C; ISO C has no integer of 128 bits. */
__extension__ typedef __int128 int128;
__extension__ typedef unsigned __int128 uint128;

enum {
    SAMPLER_MILLION = 1000000,
    SAMPLER_SCALE = 1477319722, /* round(10^6 * 1024 / ln 2) */
    SAMPLER_MESSAGE = 28        /* bytes that a draw's number is the hash of */
};

/* Millionths as units of logits with F fraction bits. */
int128 sampler_logit_units(int128 millionths, int F);
/* Repetition, presence and frequency, of a logit whose bias was added: `was_seen` where repetition counts for its id,
 * which was generated so often. */
int128 sampler_penalised(const bulla_sampling *sampling, int F, int128 logit, int was_seen, uint64_t generated);
/* "bulla-sample" || seed || position of the new token: a draw's number is the first 8 bytes of its SHA-256. */
void sampler_draw_message(uint64_t seed, uint64_t position, uint8_t message[SAMPLER_MESSAGE]);

#endif
