/* Products of int8 rows with packed blocks of 16 rows (exec/cpu/kernels_dot.h) on
 * aarch64. A line of a block, 4 columns of 16 rows, is four vectors; SDOT by
 * element multiplies one with 4 of an activation row's 16 bytes. With i8mm two
 * lines are zipped to 2 rows of 8 columns, which SMMLA multiplies with 8 columns
 * of 2 activation rows. */
#ifndef EXEC_CPU_KERNELS_NEON_DOT_H
#define EXEC_CPU_KERNELS_NEON_DOT_H

#include "exec/cpu/kernels_neon.h"

/* acc[j] += a's 4 bytes number LANE times vector j of a line. */
#define DOT_LINE(acc, line, a, LANE)                                                  \
    do {                                                                              \
        (acc)[0] = vdotq_laneq_s32((acc)[0], vld1q_s8(line), a, LANE);                \
        (acc)[1] = vdotq_laneq_s32((acc)[1], vld1q_s8((line) + 16), a, LANE);         \
        (acc)[2] = vdotq_laneq_s32((acc)[2], vld1q_s8((line) + 32), a, LANE);         \
        (acc)[3] = vdotq_laneq_s32((acc)[3], vld1q_s8((line) + 48), a, LANE);         \
    } while (0)

/* One row of activations, with two sums in flight. */
ALWAYS_INLINE void dot_one(const int8_t *weights, uint32_t groups, const int8_t *q, int32x4_t acc[4])
{
    int32x4_t even[4], odd[4];
    for (int j = 0; j < 4; j++)
        even[j] = odd[j] = vdupq_n_s32(0);
    for (uint32_t g = 0; g < groups; g += 4, weights += 256, q += 16) {
        int8x16_t a = vld1q_s8(q);
        DOT_LINE(even, weights, a, 0);
        DOT_LINE(odd, weights + 64, a, 1);
        DOT_LINE(even, weights + 128, a, 2);
        DOT_LINE(odd, weights + 192, a, 3);
    }
    for (int j = 0; j < 4; j++)
        acc[j] = vaddq_s32(even[j], odd[j]);
}

#if defined(__ARM_FEATURE_MATMUL_INT8)

/* `pairs` (a constant) pairs of rows. */
ALWAYS_INLINE void dot_pairs(const int8_t *weights, uint32_t groups, const int8_t *q, size_t stride, const int pairs,
                             int32x4_t acc[][4])
{
    /* Each sum is 2 x 2: both rows of the pair by weight rows 2i and 2i + 1. */
    int32x4_t sum[2][8];
    for (int p = 0; p < pairs; p++)
        for (int i = 0; i < 8; i++)
            sum[p][i] = vdupq_n_s32(0);
    for (uint32_t g = 0; g < groups; g += 4, weights += 256, q += 16) {
        int8x16_t a[2][2]; /* of each pair columns 0 to 7, 8 to 15 */
        for (int p = 0; p < pairs; p++) {
            int64x2_t first = vreinterpretq_s64_s8(vld1q_s8(q + 2 * p * stride));
            int64x2_t second = vreinterpretq_s64_s8(vld1q_s8(q + (2 * p + 1) * stride));
            a[p][0] = vreinterpretq_s8_s64(vzip1q_s64(first, second));
            a[p][1] = vreinterpretq_s8_s64(vzip2q_s64(first, second));
        }
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++)
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                const int8_t *line = weights + 128 * half + 16 * j;
                int32x4_t low = vreinterpretq_s32_s8(vld1q_s8(line)), high = vreinterpretq_s32_s8(vld1q_s8(line + 64));
                int8x16_t w0 = vreinterpretq_s8_s32(vzip1q_s32(low, high));
                int8x16_t w1 = vreinterpretq_s8_s32(vzip2q_s32(low, high));
                for (int p = 0; p < pairs; p++) {
                    sum[p][2 * j] = vmmlaq_s32(sum[p][2 * j], a[p][half], w0);
                    sum[p][2 * j + 1] = vmmlaq_s32(sum[p][2 * j + 1], a[p][half], w1);
                }
            }
    }
    for (int p = 0; p < pairs; p++)
        for (int j = 0; j < 4; j++) {
            int64x2_t first = vreinterpretq_s64_s32(sum[p][2 * j]), second = vreinterpretq_s64_s32(sum[p][2 * j + 1]);
            acc[2 * p][j] = vreinterpretq_s32_s64(vzip1q_s64(first, second));
            acc[2 * p + 1][j] = vreinterpretq_s32_s64(vzip2q_s64(first, second));
        }
}

#else

ALWAYS_INLINE void dot_pairs(const int8_t *weights, uint32_t groups, const int8_t *q, size_t stride, const int pairs,
                             int32x4_t acc[][4])
{
    int32x4_t sum[4][4];
    for (int r = 0; r < 2 * pairs; r++)
        for (int j = 0; j < 4; j++)
            sum[r][j] = vdupq_n_s32(0);
    for (uint32_t g = 0; g < groups; g += 4, weights += 256, q += 16)
#pragma GCC unroll 4
        for (int r = 0; r < 2 * pairs; r++) {
            int8x16_t a = vld1q_s8(q + r * stride);
            DOT_LINE(sum[r], weights, a, 0);
            DOT_LINE(sum[r], weights + 64, a, 1);
            DOT_LINE(sum[r], weights + 128, a, 2);
            DOT_LINE(sum[r], weights + 192, a, 3);
        }
    for (int r = 0; r < 2 * pairs; r++)
        for (int j = 0; j < 4; j++)
            acc[r][j] = sum[r][j];
}
#endif

/* acc[row][rows 4j to 4j + 3 of the block] = rows <= DOT_ROWS of q, `stride` apart, times one block. */
ALWAYS_INLINE void dot_rows(const int8_t *weights, uint32_t groups, const int8_t *q, size_t stride, uint32_t rows,
                            int32x4_t acc[DOT_ROWS][4])
{
    uint32_t r = 0;
    for (; rows - r >= 4; r += 4)
        dot_pairs(weights, groups, q + r * stride, stride, 2, acc + r);
    if (rows - r >= 2) {
        dot_pairs(weights, groups, q + r * stride, stride, 1, acc + r);
        r += 2;
    }
    if (r < rows)
        dot_one(weights, groups, q + r * stride, acc[r]);
}

#endif
