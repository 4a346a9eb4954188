/* What compiling a grammar may still cost. All of its parts, down to the automata, take from one budget, so that its
 * time is bounded whatever the specification. Work is counted, not measured: what is too complex is so everywhere, each
 * time. A unit is a nanosecond or less of a processor of today. */
#ifndef EXEC_GRAMMAR_WORK_H
#define EXEC_GRAMMAR_WORK_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "bulla/error.h"

struct work {
    uint64_t left;
};

/* BULLA_E_LIMIT where less is left; then nothing is. What is about to be done is taken before it is done. */
int work_take(struct work *work, uint64_t amount, bulla_error *error);
/* arena_alloc, and what that costs. */
void *work_alloc(struct work *work, struct arena *arena, size_t count, size_t size, bulla_error *error);
/* About what sorting `count` things costs, a few units for each comparison. */
uint64_t work_to_sort(uint64_t count);

#endif
