/* One answer: a prompt through the engine, token by token through the sampler,
 * out as text. */
#ifndef EXEC_GENERATE_H
#define EXEC_GENERATE_H

#include <stddef.h>
#include <stdint.h>

#include "bulla/engine.h"
#include "bulla/sampler.h"
#include "exec/speculate.h"

enum generate_finish { GENERATE_STOP, GENERATE_LENGTH, GENERATE_RANGE, GENERATE_CANCELLED };

struct generate_request {
    const uint32_t *prompt; /* [prompt_count], at least one */
    size_t prompt_count;
    uint64_t max_tokens;    /* 0: as many as the context holds */
    bulla_sampling sampling;
    const char *tenant;     /* whose prompt: a sequence of its own shares pages with this tenant's others through the
                               engine's prefix cache; NULL: it shares none */
    /* Most tokens proposed at once, as far as it pays, up to SPECULATE_MOST; 0: none. It changes the time that the
     * answer takes, and nothing else (exec/speculate.h). */
    uint32_t speculate;
    int always_speculates; /* tests: whether it pays or not */
    /* Each token as it is drawn, with the text that it completes (whole
     * characters; may be empty). Non-zero cancels. May be NULL. */
    int (*on_token)(void *context, uint32_t token, const char *text, size_t length);
    /* Asked between parts of the prompt and before each token; non-zero cancels. May be NULL. */
    int (*is_cancelled)(void *context);
    void *context;
};

struct generate_result {
    uint32_t *tokens; /* without the end token; free with generate_result_free */
    size_t token_count;
    enum generate_finish finish;
    uint64_t range_position; /* with GENERATE_RANGE */
    uint32_t range_operation; /* the number of operations where the sampler's own bound was left */
    char rest[4];            /* text of tokens that on_token did not get: U+FFFD for a character that the */
    size_t rest_length;      /*   answer's end cut, else empty */
    uint64_t prefill_tokens; /* positions computed for the prompt (fewer where a sequence held some) */
    uint64_t proposed_tokens, accepted_tokens; /* speculation; informative: what is proposed depends on times */
    double prefill_seconds, decode_seconds; /* wall time; informative */
};

/* The prompt and the answer together fill the context at most; a prompt longer
 * than the context is BULLA_E_LIMIT naming both numbers, and one of just its
 * length gives an empty answer that finishes by length. `sequence` may be NULL; a
 * sequence that the caller opened, that is not in RANGE and whose positions
 * are the prompt's first tokens is continued and left open. */
int generate(bulla_engine *engine, const bulla_model *model, bulla_sequence *sequence,
             const struct generate_request *request, struct generate_result *result, bulla_error *error);
void generate_result_free(struct generate_result *result); /* a zeroed result is fine */

const char *generate_finish_name(enum generate_finish finish); /* "stop", "length", "range", "cancelled" */

#endif
