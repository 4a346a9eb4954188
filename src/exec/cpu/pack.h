/* Packing into the layouts of exec/cpu/kernels.h. */
#ifndef EXEC_CPU_PACK_H
#define EXEC_CPU_PACK_H

#include <stdint.h>

#include "exec/cpu/kernels.h"

/* Sets shape, counts and k1, k2; the pointers and bounds come later. */
void pack_linear_shape(struct packed_linear *linear, uint32_t rows, uint32_t columns, int32_t k1, int32_t k2);
/* Elements of the arrays that a linear operation needs. */
static inline uint64_t pack_weight_bytes(const struct packed_linear *linear)
{
    return (uint64_t)linear->blocks * linear->groups * 64;
}

/* Where pack_linear_blocks writes: the arrays behind a packed_linear's pointers. */
struct pack_target {
    int8_t *weights;
    int32_t *offset, *bias;
    uint16_t *M;
};
/* Row blocks [begin, end): W[rows][columns], M[rows], bias[rows] or NULL. Raises
 * linear's bounds (largest_magnitude and so on) as needed; several threads may pack
 * different blocks at once. */
void pack_linear_blocks(struct packed_linear *linear, const struct pack_target *target, const int8_t *W,
                        const uint16_t *M, const int32_t *bias, uint32_t begin, uint32_t end);

/* Once all blocks are packed: up to which s results are bounded. */
void pack_linear_finish(struct packed_linear *linear);

/* One position's key or value into its block. `size` elements, `padded` dimensions. */
void pack_key(int8_t *k8, int16_t *k_sum, uint32_t slot, const int8_t *key, uint32_t size, uint32_t padded);
void pack_value(int8_t *v8, uint32_t slot, const int8_t *value, uint32_t size);

/* Four positions' values, slots `slot` to `slot + 3`, a multiple of 4; `stride` bytes apart. */
void pack_four_values(int8_t *v8, uint32_t slot, const int8_t *values, size_t stride, uint32_t size);

#endif
