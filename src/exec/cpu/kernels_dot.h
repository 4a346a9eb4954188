/* Products of int8 rows with packed blocks of 16 rows (exec/cpu/kernels.h): the
 * inner loop of linear and of attention's scores. Included by kernel sources only.
 *
 * AVX-512 VNNI multiplies unsigned by signed bytes: the activations' sign bits
 * are flipped (q + 128) by dot_prepare, and sums start at -128 * sum(W_j). AVX2
 * moves q's sign to the weights; |q|, |W| <= 127, so that the 16-bit sums of two
 * products (at most 2 * 127^2) never saturate. NEON multiplies signed bytes. */
#ifndef EXEC_CPU_KERNELS_DOT_H
#define EXEC_CPU_KERNELS_DOT_H

#include <stdint.h>
#include <string.h>

#include "exec/cpu/kernels.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

enum { DOT_ROWS = 8 }; /* most activation rows at once */

#if defined(__AVX512VNNI__)

/* Row of `bytes` activations as dot wants them. */
ALWAYS_INLINE void dot_prepare(const int8_t *q, uint32_t bytes, uint8_t *prepared)
{
    const __m512i flip = _mm512_set1_epi8((char)0x80);
    for (uint32_t i = 0; i < bytes; i += 64)
        _mm512_store_si512(prepared + i, _mm512_xor_si512(_mm512_loadu_si512(q + i), flip));
}

ALWAYS_INLINE __m512i dot_broadcast(const uint8_t *q)
{
    int32_t four;
    memcpy(&four, q, 4);
    return _mm512_set1_epi32(four);
}

/* acc[row][block] += rows of q (prepared, `stride` apart) times blocks; constants ROWS, BLOCKS. */
ALWAYS_INLINE void dot_tile(const int8_t *const *weights, uint32_t groups, const uint8_t *q, size_t stride,
                            const int rows, const int blocks, __m512i acc[DOT_ROWS][2])
{
    for (uint32_t g = 0; g < groups; g++) {
        __m512i w[2];
        for (int b = 0; b < blocks; b++)
            w[b] = _mm512_load_si512(weights[b] + (size_t)g * 64);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            __m512i a = dot_broadcast(q + r * stride + (size_t)g * 4);
            for (int b = 0; b < blocks; b++)
                acc[r][b] = _mm512_dpbusd_epi32(acc[r][b], a, w[b]);
        }
    }
}

/* One row with four sums in flight. */
ALWAYS_INLINE __m512i dot_one(const int8_t *weights, uint32_t groups, const uint8_t *q, __m512i start)
{
    __m512i acc0 = start, acc1 = _mm512_setzero_si512(), acc2 = acc1, acc3 = acc1;
    for (uint32_t g = 0; g < groups; g += 4, weights += 256, q += 16) {
        acc0 = _mm512_dpbusd_epi32(acc0, dot_broadcast(q), _mm512_load_si512(weights));
        acc1 = _mm512_dpbusd_epi32(acc1, dot_broadcast(q + 4), _mm512_load_si512(weights + 64));
        acc2 = _mm512_dpbusd_epi32(acc2, dot_broadcast(q + 8), _mm512_load_si512(weights + 128));
        acc3 = _mm512_dpbusd_epi32(acc3, dot_broadcast(q + 12), _mm512_load_si512(weights + 192));
    }
    return _mm512_add_epi32(_mm512_add_epi32(acc0, acc1), _mm512_add_epi32(acc2, acc3));
}

/* rows x 1 or 2 blocks, sums starting at `start`. */
ALWAYS_INLINE void dot_rows(const int8_t *const *weights, const __m512i *start, uint32_t groups, const uint8_t *q,
                            size_t stride, uint32_t rows, int blocks, __m512i acc[DOT_ROWS][2])
{
    for (uint32_t r = 0; r < DOT_ROWS; r++)
        for (int b = 0; b < blocks; b++)
            acc[r][b] = start[b];
#define DOT_CASE(n) \
    case n: \
        if (blocks == 1) \
            dot_tile(weights, groups, q, stride, n, 1, acc); \
        else \
            dot_tile(weights, groups, q, stride, n, 2, acc); \
        break
    switch (rows) {
    case 1:
        for (int b = 0; b < blocks; b++)
            acc[0][b] = dot_one(weights[b], groups, q, start[b]);
        break;
        DOT_CASE(2);
        DOT_CASE(3);
        DOT_CASE(4);
        DOT_CASE(5);
        DOT_CASE(6);
        DOT_CASE(7);
    default:
        if (blocks == 1)
            dot_tile(weights, groups, q, stride, DOT_ROWS, 1, acc);
        else
            dot_tile(weights, groups, q, stride, DOT_ROWS, 2, acc);
    }
#undef DOT_CASE
}

#elif defined(__ARM_FEATURE_DOTPROD)
#include "exec/cpu/kernels_neon_dot.h"
#else /* sums as arrays */

ALWAYS_INLINE void dot_prepare(const int8_t *q, uint32_t bytes, uint8_t *prepared)
{
    memcpy(prepared, q, bytes);
}

#if defined(__AVX2__)
ALWAYS_INLINE void dot_rows_fixed(const int8_t *weights, uint32_t groups, const uint8_t *q, size_t stride,
                                  const int rows, int32_t acc[][KERNEL_ROWS])
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i sum[4][2];
    for (int r = 0; r < rows; r++)
        sum[r][0] = sum[r][1] = _mm256_setzero_si256();
    for (uint32_t g = 0; g < groups; g++) {
        __m256i w0 = _mm256_load_si256((const __m256i *)(weights + (size_t)g * 64));
        __m256i w1 = _mm256_load_si256((const __m256i *)(weights + (size_t)g * 64 + 32));
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            int32_t four;
            memcpy(&four, q + r * stride + (size_t)g * 4, 4);
            __m256i a = _mm256_set1_epi32(four), magnitude = _mm256_abs_epi8(a);
            __m256i p0 = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(w0, a));
            __m256i p1 = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(w1, a));
            sum[r][0] = _mm256_add_epi32(sum[r][0], _mm256_madd_epi16(p0, ones));
            sum[r][1] = _mm256_add_epi32(sum[r][1], _mm256_madd_epi16(p1, ones));
        }
    }
    for (int r = 0; r < rows; r++) {
        _mm256_storeu_si256((__m256i *)acc[r], sum[r][0]);
        _mm256_storeu_si256((__m256i *)(acc[r] + 8), sum[r][1]);
    }
}
#else
ALWAYS_INLINE void dot_rows_fixed(const int8_t *weights, uint32_t groups, const uint8_t *q, size_t stride,
                                  const int rows, int32_t acc[][KERNEL_ROWS])
{
    for (int r = 0; r < rows; r++) {
        int32_t sum[KERNEL_ROWS] = {0};
        for (uint32_t g = 0; g < groups; g++) {
            const int8_t *line = weights + (size_t)g * 64, *a = (const int8_t *)q + r * stride + (size_t)g * 4;
            for (int j = 0; j < KERNEL_ROWS; j++)
                sum[j] += line[4 * j] * a[0] + line[4 * j + 1] * a[1] + line[4 * j + 2] * a[2] + line[4 * j + 3] * a[3];
        }
        memcpy(acc[r], sum, sizeof sum);
    }
}
#endif

/* rows <= 8 times one block. */
ALWAYS_INLINE void dot_rows(const int8_t *weights, uint32_t groups, const uint8_t *q, size_t stride, uint32_t rows,
                            int32_t acc[DOT_ROWS][KERNEL_ROWS])
{
    for (uint32_t r = 0; r < rows;) {
        if (rows - r >= 4) {
            dot_rows_fixed(weights, groups, q + r * stride, stride, 4, acc + r);
            r += 4;
        } else {
            dot_rows_fixed(weights, groups, q + r * stride, stride, 1, acc + r);
            r += 1;
        }
    }
}
#endif

#endif
