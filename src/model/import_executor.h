/* Running one operation at a time over many positions: what import needs of an
 * executor to see a model's own integer activations on the calibration text.
 * Import lies below the executors, so it is handed this table by whoever calls
 * it; any executor gives the same bits. */
#ifndef MODEL_IMPORT_EXECUTOR_H
#define MODEL_IMPORT_EXECUTOR_H

#include <stdint.h>

#include "base/threads.h"
#include "bulla/program.h"

/* What an operation gave at every position, row-major by position. Which members
 * are there follows from the kind of the operation (model/program_names.h):
 *   VALUE_VECTOR:                vector [positions][outputs]
 *   VALUE_QUANTISED:             bytes [positions][outputs], scale [positions]
 *   VALUE_HEADS, KEYS, VALUES:   bytes [positions][heads * head_size],
 *                                head_scale [positions][heads] (s_q, t_k, k_v) */
struct import_value {
    int32_t *vector;
    int8_t *bytes;
    int64_t *scale;
    int32_t *head_scale;
};

struct import_step {
    const bulla_operation *operation;
    const void *tensors[BULLA_TENSOR_ROLES]; /* NULL where the operation has none */
    const void *const *tables;               /* EXP15, EXP24, EXP31, COS */
    const struct import_value *inputs[3];
    struct import_value *output;             /* memory is there */
    const uint32_t *ids;                     /* [positions] for embed */
    uint64_t positions;                      /* over all sequences */
    const uint64_t *sequence_starts;         /* [sequences + 1]; position in its sequence = index - start */
    uint64_t sequences;
    uint8_t *range;                          /* [positions] or NULL: gets 1 where a bound is left, 0 elsewhere; leaving one
                                                is then no error */
};

struct import_executor {
    const char *name;
    void *context;
    struct thread_team *team; /* what it runs on: the importer works with the same threads, between steps. May be NULL */
    /* BULLA_E_RANGE when a bound is left at any position (all positions are
     * computed; the error names the first by position). */
    int (*run)(void *context, const struct import_step *step, bulla_error *error);
};

#endif
