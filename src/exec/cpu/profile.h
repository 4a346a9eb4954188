/* Where an engine's time goes: its stages (exec/cpu/plan.h), with those that hold
 * the same operations, as they do in every layer, counted together.
 *
 * A stage is what lies between two barriers, so its time is that of its slowest
 * thread. Where threads quantise a stage's input for themselves (OWN_ROWS) that
 * is time of the stage. */
#ifndef EXEC_CPU_PROFILE_H
#define EXEC_CPU_PROFILE_H

#include <stdint.h>

#include "bulla/engine.h"

struct profile_stage {
    const char *name; /* its operations, each name once: linear ones by their tensors, others by their kind:
                         "gate+up+gate()", "attend()" */
    uint64_t calls;   /* once a layer and batch of rows */
    uint64_t nanoseconds;
    /* What had to be read at least, each byte once a call: packed weights, rows of the embedding; keys and values
     * that some query sees. Activations and tables stay in caches and do not count. */
    uint64_t weight_bytes, cache_bytes;
    uint64_t multiply_adds; /* of linear operations; of queries with keys and of attention's weights with values */
};

struct profile;
/* An empty profile for this engine, which must outlive it. */
int profile_open(const bulla_engine *engine, struct profile **profile, bulla_error *error);
void profile_close(struct profile *profile); /* not while it is attached; NULL is fine */
/* The engine's steps count into `profile` from now on; NULL: into none. */
void profile_attach(bulla_engine *engine, struct profile *profile);
/* In the order in which they first come in the program; they and their names live as long as the profile. */
const struct profile_stage *profile_stages(const struct profile *profile, uint32_t *count);

/* One call of stage `stage` of the plan, for the batch that is set up. step.c calls it. */
void profile_add(struct profile *profile, uint32_t stage, uint64_t nanoseconds);

#endif
