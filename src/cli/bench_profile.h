/* `bulla bench --profile`: what each stage of the engine took, beside what reading
 * memory and multiplying alone would take on this machine. */
#ifndef CLI_BENCH_PROFILE_H
#define CLI_BENCH_PROFILE_H

#include <stdint.h>

#include "base/buffer.h"
#include "bulla/engine.h"
#include "exec/cpu/bounds.h"
#include "exec/cpu/profile.h"

/* Prefill or decode; zeroed where it is not profiled. */
struct bench_phase {
    struct profile *profile;
    double seconds;              /* wall time of what was counted */
    uint64_t tokens;
    double most_multiply_adds;   /* a second */
};

/* Measures how fast the engine can multiply with `rows` rows together, and starts an empty profile. */
int bench_phase_open(bulla_engine *engine, uint64_t rows, struct bench_phase *phase, bulla_error *error);
void bench_phase_close(struct bench_phase *phase);

/* A table for people: the longest stage first. */
void bench_profile_table(struct buffer *out, const char *name, const struct bounds *bounds,
                         const struct bench_phase *phase);
/* The bounds' members and the phases', null where not profiled: one JSON object. */
void bench_profile_json(struct buffer *out, const struct bounds *bounds, const struct bench_phase *prefill,
                        const struct bench_phase *decode);

#endif
