/* linear on aarch64: products by kernels_neon_dot.h, the epilogue in vectors of
 * four. Included by kernels_linear.c only. */
#ifndef EXEC_CPU_KERNELS_NEON_LINEAR_H
#define EXEC_CPU_KERNELS_NEON_LINEAR_H

/* What the epilogue needs of a block and an operation. */
struct finish {
    uint32x4_t M[4];
    int32x4_t bias[4];
    int64x2_t k1, k2; /* counts for round_wide */
    uint32_t rows;    /* of the matrix in this block */
};

ALWAYS_INLINE struct finish finish_begin(const struct packed_linear *linear, uint32_t block)
{
    struct finish f;
    uint32_t first = block * KERNEL_ROWS, left = linear->rows - first;
    for (int j = 0; j < 4; j++) {
        f.M[j] = vmovl_u16(vld1_u16(linear->M + first + 4 * j));
        f.bias[j] = vld1q_s32(linear->bias + first + 4 * j);
    }
    f.k1 = right_by(linear->k1);
    f.k2 = right_by(linear->k2);
    f.rows = left < KERNEL_ROWS ? left : KERNEL_ROWS;
    return f;
}

/* RS(s * M, k1), s < 2^32: below 2^31. */
ALWAYS_INLINE int32x4_t scale_of(const struct finish *f, int j, uint32x4_t s)
{
    uint64x2_t low = vrshlq_u64(vmull_u32(vget_low_u32(f->M[j]), vget_low_u32(s)), f->k1);
    uint64x2_t high = vrshlq_u64(vmull_high_u32(f->M[j], s), f->k1);
    return vuzp1q_s32(vreinterpretq_s32_u64(low), vreinterpretq_s32_u64(high));
}

/* One row's results of a block. */
ALWAYS_INLINE void finish_row(const struct linear_call *call, const struct finish *f, uint32_t row, uint32_t block,
                              enum row_way way, const int32x4_t acc[4])
{
    int32_t y[KERNEL_ROWS];
    if (way == ROW_RANGE || way == ROW_SCALAR) {
        for (int j = 0; j < 4; j++)
            vst1q_s32(y + 4 * j, acc[j]);
        finish_scalar(call, row, block, way, y);
        return;
    }
    uint32x4_t s = vdupq_n_u32((uint32_t)call->s[row]);
    int64x2_t magnitudes = vdupq_n_s64(0);
    int32_t *result = result_of(call, row, block), *target = f->rows == KERNEL_ROWS ? result : y;
    for (int j = 0; j < 4; j++) {
        wide4 value = round_wide(multiply_wide(acc[j], scale_of(f, j, s)), f->k2);
        if (way == ROW_CHECKED) {
            value.val[0] = vaddw_s32(value.val[0], vget_low_s32(f->bias[j]));
            value.val[1] = vaddw_high_s32(value.val[1], f->bias[j]);
            magnitudes = gather_magnitudes(magnitudes, value);
            vst1q_s32(target + 4 * j, narrow(value));
        } else
            vst1q_s32(target + 4 * j, vaddq_s32(narrow(value), f->bias[j]));
    }
    if (target == y)
        memcpy(result, y, f->rows * sizeof *y);
    if (is_outside(magnitudes))
        kernel_mark_range(&call->range[row], call->operation);
}

static void linear_rows(const struct linear_call *call, uint32_t first, uint32_t rows, uint32_t begin, uint32_t end,
                        uint8_t *prepared)
{
    const struct packed_linear *linear = call->linear;
    enum row_way way[DOT_ROWS];
    for (uint32_t r = 0; r < rows; r++)
        way[r] = row_way(linear, call->s[row_of(call, first + r)]);
    for (uint32_t block = begin; block < end; block++) {
        int32x4_t acc[DOT_ROWS][4];
        struct finish f = finish_begin(linear, block);
        dot_rows(linear->weights + (size_t)block * linear->groups * 64, linear->groups,
                 call->q + first * call->q_stride, call->q_stride, rows, acc);
        for (uint32_t r = 0; r < rows; r++)
            finish_row(call, &f, row_of(call, first + r), block, way[r], acc[r]);
    }
}

#endif
