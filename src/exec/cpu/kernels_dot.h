/* Products of int8 rows with packed blocks of 16 rows (exec/cpu/kernels.h): the
 * inner loop of linear and of attention's scores. Included by kernel sources only.
 *
 * VNNI multiplies unsigned by signed bytes: the activations' sign bits are flipped
 * (q + 128) by dot_prepare, and sums start at -128 * sum(W_j). AVX2 multiplies 16-bit
 * numbers, the weights widened on the way or, where many rows meet them, before.
 * NEON multiplies signed bytes. */
#ifndef EXEC_CPU_KERNELS_DOT_H
#define EXEC_CPU_KERNELS_DOT_H

#include <stdint.h>
#include <string.h>

#include "exec/cpu/kernels.h"
#include "exec/cpu/kernels_lanes.h"

#if defined(__AVX512F__)
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

/* Memory is the bound where few rows meet the weights, and what the processor fetches by itself is not enough: each line
 * that is multiplied asks for the one `ahead` bytes behind it (0: none) to come into the second-level cache, which more
 * lines may be on the way to than to the first. */
ALWAYS_INLINE size_t dot_ahead(const void *now, const void *next)
{
    return (size_t)((uintptr_t)next - (uintptr_t)now);
}

ALWAYS_INLINE void dot_fetch(const void *now, size_t ahead)
{
    __builtin_prefetch((const void *)((uintptr_t)now + ahead), 0, 2);
}

/* acc[row][block] = start[block] + rows of q (prepared, `stride` apart) times blocks; constants ROWS, BLOCKS. The sums are
 * the tile's own until the end: gcc keeps what a caller sees in memory, or copies it from register to register. */
ALWAYS_INLINE void dot_tile(const int8_t *const *weights, const __m512i *start, uint32_t groups, const uint8_t *q,
                            size_t stride, const int rows, const int blocks, size_t ahead, __m512i acc[DOT_ROWS][2])
{
    __m512i sums[DOT_ROWS][2];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        for (int b = 0; b < blocks; b++)
            sums[r][b] = start[b];
    for (uint32_t g = 0; g < groups; g++) {
        __m512i w[2];
        for (int b = 0; b < blocks; b++) {
            w[b] = _mm512_load_si512(weights[b] + (size_t)g * 64);
            dot_fetch(weights[b] + (size_t)g * 64, ahead);
        }
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            __m512i a = dot_broadcast(q + r * stride + (size_t)g * 4);
            for (int b = 0; b < blocks; b++)
                sums[r][b] = _mm512_dpbusd_epi32(sums[r][b], a, w[b]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        for (int b = 0; b < blocks; b++)
            acc[r][b] = sums[r][b];
}

/* One row with four sums in flight. */
ALWAYS_INLINE __m512i dot_one(const int8_t *weights, uint32_t groups, const uint8_t *q, size_t ahead, __m512i start)
{
    __m512i acc0 = start, acc1 = _mm512_setzero_si512(), acc2 = acc1, acc3 = acc1;
    for (uint32_t g = 0; g < groups; g += 4, weights += 256, q += 16) {
        for (int i = 0; i < 4; i++)
            dot_fetch(weights + 64 * i, ahead);
        acc0 = _mm512_dpbusd_epi32(acc0, dot_broadcast(q), _mm512_load_si512(weights));
        acc1 = _mm512_dpbusd_epi32(acc1, dot_broadcast(q + 4), _mm512_load_si512(weights + 64));
        acc2 = _mm512_dpbusd_epi32(acc2, dot_broadcast(q + 8), _mm512_load_si512(weights + 128));
        acc3 = _mm512_dpbusd_epi32(acc3, dot_broadcast(q + 12), _mm512_load_si512(weights + 192));
    }
    return _mm512_add_epi32(_mm512_add_epi32(acc0, acc1), _mm512_add_epi32(acc2, acc3));
}

/* rows x 1 or 2 blocks, sums starting at `start`. */
ALWAYS_INLINE void dot_rows(const int8_t *const *weights, const __m512i *start, uint32_t groups, const uint8_t *q,
                            size_t stride, uint32_t rows, int blocks, size_t ahead, __m512i acc[DOT_ROWS][2])
{
#define DOT_CASE(n) \
    case n: \
        if (blocks == 1) \
            dot_tile(weights, start, groups, q, stride, n, 1, ahead, acc); \
        else \
            dot_tile(weights, start, groups, q, stride, n, 2, ahead, acc); \
        break
    switch (rows) {
    case 1:
        for (int b = 0; b < blocks; b++)
            acc[0][b] = dot_one(weights[b], groups, q, ahead, start[b]);
        break;
        DOT_CASE(2);
        DOT_CASE(3);
        DOT_CASE(4);
        DOT_CASE(5);
        DOT_CASE(6);
        DOT_CASE(7);
    default:
        if (blocks == 1)
            dot_tile(weights, start, groups, q, stride, DOT_ROWS, 1, ahead, acc);
        else
            dot_tile(weights, start, groups, q, stride, DOT_ROWS, 2, ahead, acc);
    }
#undef DOT_CASE
}

#elif defined(__ARM_FEATURE_DOTPROD)
#include "exec/cpu/kernels_neon_dot.h"
#elif defined(KERNELS_HAVE_LANES) /* sums as two vectors of eight */

/* --- 16-bit rows --- */

enum { TILE16_ROWS = 6, WIDEN_FROM_ROWS = 12 }; /* rows whose sums stay in registers; from where dot_widen pays */

/* i8 -> i16, a multiple of 16 of them. */
ALWAYS_INLINE void dot_widen(const int8_t *from, size_t count, int16_t *to)
{
    for (size_t i = 0; i < count; i += 16)
        lanes_store(to + i, lanes_i16_of_i8(from + i));
}

/* Constants: rows of `a` (`stride` elements apart) times `vectors` quarters of a packed block, i8 or (`is_wide`) widened,
 * from quarter `first` on. A vector holds four rows of weights times four columns, so that each row's sum is in two
 * lanes until the end. Six rows by two quarters are what 16 registers hold. */
ALWAYS_INLINE void dot_tile16(const void *weights, const int is_wide, const size_t first, uint32_t groups, const int16_t *a,
                              size_t stride, const int rows, const size_t vectors, lanes acc[][2])
{
    lanes sums[TILE16_ROWS][4];
    for (int r = 0; r < rows; r++)
        for (size_t j = 0; j < vectors; j++)
            sums[r][j] = lanes_set(0);
    for (size_t g = 0; g < groups; g++) {
        lanes w[4];
#pragma GCC unroll 4
        for (size_t j = 0; j < vectors; j++)
            w[j] = is_wide ? lanes_load((const int16_t *)weights + g * 64 + (first + j) * 16)
                           : lanes_i16_of_i8((const int8_t *)weights + g * 64 + (first + j) * 16);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            lanes four = lanes_repeat_i16x4(a + r * stride + g * 4);
#pragma GCC unroll 4
            for (size_t j = 0; j < vectors; j++)
                sums[r][j] = lanes_add_products_i16(sums[r][j], w[j], four);
        }
    }
    for (int r = 0; r < rows; r++)
        for (size_t j = 0; j < vectors; j += 2)
            acc[r][(first + j) / 2] = lanes_add_neighbours(sums[r][j], sums[r][j + 1]);
}

/* acc[row] = up to TILE16_ROWS rows times the block. */
ALWAYS_INLINE void dot_rows16(const void *weights, const int is_wide, uint32_t groups, const int16_t *a, size_t stride,
                              uint32_t rows, lanes acc[][2])
{
#define DOT_CASE(n)                                                             \
    case n:                                                                     \
        for (size_t first = 0; first < 4; first += 2)                           \
            dot_tile16(weights, is_wide, first, groups, a, stride, n, 2, acc);  \
        break
    switch (rows) {
    case 1:
        dot_tile16(weights, is_wide, 0, groups, a, stride, 1, 4, acc);
        break;
    case 2:
        dot_tile16(weights, is_wide, 0, groups, a, stride, 2, 4, acc);
        break;
        DOT_CASE(3);
        DOT_CASE(4);
        DOT_CASE(5);
    default:
        for (size_t first = 0; first < 4; first += 2)
            dot_tile16(weights, is_wide, first, groups, a, stride, TILE16_ROWS, 2, acc);
    }
#undef DOT_CASE
}

/* --- int8 rows --- */

#if defined(KERNELS_HAVE_VNNI)

enum { DOT_BYTES = 1, TILE_ROWS = 6, DOT_WIDENS = 0 }; /* bytes of a prepared activation; rows of a tile */

ALWAYS_INLINE void dot_prepare(const int8_t *q, uint32_t bytes, void *prepared)
{
    for (uint32_t i = 0; i < bytes; i += 32)
        lanes_store((uint8_t *)prepared + i, lanes_xor(lanes_load(q + i), _mm256_set1_epi8((char)0x80)));
}

ALWAYS_INLINE void dot_tile(const int8_t *weights, const int32_t *start, uint32_t groups, const uint8_t *q, size_t stride,
                            const int rows, lanes acc[][2])
{
    lanes sums[TILE_ROWS][2];
    for (int r = 0; r < rows; r++) {
        sums[r][0] = lanes_load(start);
        sums[r][1] = lanes_load(start + LANES);
    }
    for (size_t g = 0; g < groups; g++) {
        lanes w0 = lanes_load(weights + g * 64), w1 = lanes_load(weights + g * 64 + 32);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            int32_t four;
            memcpy(&four, q + r * stride + g * 4, 4);
            sums[r][0] = lanes_add_products_u8(sums[r][0], lanes_set(four), w0);
            sums[r][1] = lanes_add_products_u8(sums[r][1], lanes_set(four), w1);
        }
    }
    for (int r = 0; r < rows; r++) {
        acc[r][0] = sums[r][0];
        acc[r][1] = sums[r][1];
    }
}

/* acc[row] = up to TILE_ROWS rows of q (prepared, `stride` bytes apart) times the block, sums starting at start[16].
 * `is_wide` is for sets without VNNI. */
ALWAYS_INLINE void dot_rows(const void *weights, const int is_wide, const int32_t *start, uint32_t groups, const void *q,
                            size_t stride, uint32_t rows, lanes acc[][2])
{
    (void)is_wide;
#define DOT_CASE(n) \
    case n: \
        dot_tile(weights, start, groups, q, stride, n, acc); \
        break
    switch (rows) {
        DOT_CASE(1);
        DOT_CASE(2);
        DOT_CASE(3);
        DOT_CASE(4);
        DOT_CASE(5);
    default:
        dot_tile(weights, start, groups, q, stride, TILE_ROWS, acc);
    }
#undef DOT_CASE
}

#else

enum { DOT_BYTES = 2, TILE_ROWS = TILE16_ROWS, DOT_WIDENS = 1 };

ALWAYS_INLINE void dot_prepare(const int8_t *q, uint32_t bytes, void *prepared)
{
    dot_widen(q, bytes, prepared);
}

/* acc[row] = up to TILE_ROWS rows of q (prepared, `stride` bytes apart) times the block, i8 or (`is_wide`) widened.
 * `start` is for VNNI. */
ALWAYS_INLINE void dot_rows(const void *weights, const int is_wide, const int32_t *start, uint32_t groups, const void *q,
                            size_t stride, uint32_t rows, lanes acc[][2])
{
    (void)start;
    dot_rows16(weights, is_wide, groups, q, stride / 2, rows, acc);
}
#endif

#else /* sums as arrays */

ALWAYS_INLINE void dot_prepare(const int8_t *q, uint32_t bytes, uint8_t *prepared)
{
    memcpy(prepared, q, bytes);
}

/* rows <= 8 times one block. */
ALWAYS_INLINE void dot_rows(const int8_t *weights, uint32_t groups, const uint8_t *q, size_t stride, uint32_t rows,
                            int32_t acc[DOT_ROWS][KERNEL_ROWS])
{
    for (uint32_t r = 0; r < rows; r++) {
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

#endif
