/* How a program runs on a batch of rows: which operations go together between two
 * barriers, and where their results lie. Works for any valid program; nothing
 * here knows a model. */
#ifndef EXEC_CPU_PLAN_H
#define EXEC_CPU_PLAN_H

#include <stddef.h>
#include <stdint.h>

#include "bulla/error.h"
#include "bulla/program.h"
#include "exec/cpu/kernels.h"
#include "model/program_names.h"

enum stage_kind {
    STAGE_ROWS,   /* operations on each row by itself, one after another; rows are shared out */
    STAGE_LINEAR, /* linear operations with the same input; their outputs are shared out, together with
                     the element-wise operation (gate, add) that alone reads them */
    STAGE_ATTEND
};

struct stage {
    enum stage_kind kind;
    uint32_t first, count; /* in plan.order */
    uint8_t can_be_own;    /* STAGE_ROWS: one quantisation that only the next stage, of linear operations, reads */
    uint8_t by_heads;      /* STAGE_ROWS: every operation is by the head, and heads do not mix */
    uint32_t fused;        /* STAGE_LINEAR: so many element-wise operations come after the linear ones */
};

/* Where an operation's result lies.
 *   VALUE_VECTOR     i32 [row][stride]
 *   VALUE_QUANTISED  i8 [row][stride], s: i64 [row]
 *   VALUE_HEADS      i8 [row][heads][padded] (stride = heads * padded), s_q: i32 [row][heads]
 *   VALUE_KEYS, VALUE_VALUES  in the cache's pages, per head `head_bytes` from `page_offset`:
 *       keys   k8 [64 * padded], t_k i32 [64], k_sum i16 [64]
 *       values v8 [64 * padded], k_v u8 [64] */
struct place {
    enum program_value type;
    size_t offset, scales;   /* bytes into the activations */
    size_t stride;           /* elements */
    size_t page_offset, head_bytes;
    uint32_t padded;         /* head size rounded up to 64 */
    int is_logits;           /* rows go where the caller wants logits */
};

struct plan {
    const bulla_program *program;
    uint32_t *order;         /* [operation_count], operations by stage */
    struct stage *stages;
    uint32_t stage_count;
    int32_t *fused_into;     /* [operation_count]: a linear operation's element-wise one, or -1 */
    struct place *places;    /* [operation_count] */
    uint32_t batch_rows;
    size_t activation_bytes;
    size_t page_bytes;       /* keys and values of 64 positions of all layers */
    uint32_t largest_columns; /* padded, of linear operations */
    uint32_t largest_elements; /* of any row */
    uint32_t largest_padded, largest_kv_heads; /* of attention, 0 without any */
    int32_t hidden;          /* the operation whose result is the hidden state: kept to the end of a batch; -1: none */
};

int plan_make(const bulla_program *program, uint32_t batch_rows, struct plan *plan, bulla_error *error);
void plan_free(struct plan *plan);

/* The lowest position at which each operation is evaluated when logits are
 * sampled from `first_sampled` on; UINT64_MAX: never. */
void plan_lowest(const bulla_program *program, uint64_t first_sampled, uint64_t *lowest);
/* The same when results of `operation` are wanted from position `first` on, and nothing else. */
void plan_lowest_of(const bulla_program *program, uint32_t operation, uint64_t first, uint64_t *lowest);

#endif
