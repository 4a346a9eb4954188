/* Operations on one row on aarch64: what kernels_rows.c does with AVX-512, in
 * vectors of four. Included by kernels_rows.c only. */
#ifndef EXEC_CPU_KERNELS_NEON_ROWS_H
#define EXEC_CPU_KERNELS_NEON_ROWS_H

#include "exec/cpu/kernels_neon.h"

ALWAYS_INLINE uint32x4_t magnitudes_of(int32x4_t v)
{
    return vreinterpretq_u32_s32(vabsq_s32(v));
}

/* The four lanes OR-ed. */
ALWAYS_INLINE uint32_t or_lanes(uint32x4_t v)
{
    uint64x2_t halves = vreinterpretq_u64_u32(v);
    uint64_t both = vgetq_lane_u64(halves, 0) | vgetq_lane_u64(halves, 1);
    return (uint32_t)(both | both >> 32);
}

/* Shifts by 16 elements' e. */
ALWAYS_INLINE void load_shifts(const uint8_t *e, int32x4_t shift[4])
{
    uint8x16_t bytes = vld1q_u8(e);
    uint16x8_t low = vmovl_u8(vget_low_u8(bytes)), high = vmovl_high_u8(bytes);
    shift[0] = vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(low)));
    shift[1] = vreinterpretq_s32_u32(vmovl_high_u16(low));
    shift[2] = vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(high)));
    shift[3] = vreinterpretq_s32_u32(vmovl_high_u16(high));
}

/* 16 values within a byte's range. */
ALWAYS_INLINE void store_bytes(int8_t *q, const int32x4_t v[4])
{
    int16x8_t low = vuzp1q_s16(vreinterpretq_s16_s32(v[0]), vreinterpretq_s16_s32(v[1]));
    int16x8_t high = vuzp1q_s16(vreinterpretq_s16_s32(v[2]), vreinterpretq_s16_s32(v[3]));
    vst1q_s8(q, vuzp1q_s8(vreinterpretq_s8_s16(low), vreinterpretq_s8_s16(high)));
}

/* --- quantize --- */

ALWAYS_INLINE struct extent measure(const int32_t *x, const uint8_t *e, uint32_t n, const int with_squares)
{
    uint32x4_t plain = vdupq_n_u32(0), low = plain, high = plain;
    int64x2_t squares = vdupq_n_s64(0), more_squares = squares;
    for (uint32_t i = 0; i < n; i += LANES) {
        int32x4_t shift[4];
        if (e)
            load_shifts(e + i, shift);
        for (int j = 0; j < 4; j++) {
            int32x4_t v = vld1q_s32(x + i + 4 * j);
            uint32x4_t a = magnitudes_of(v);
            plain = vorrq_u32(plain, a);
            if (e) {
                low = vorrq_u32(low, vshlq_u32(a, shift[j]));
                high = vorrq_u32(high, vshlq_u32(a, vsubq_s32(shift[j], vdupq_n_s32(32))));
            }
            if (with_squares) {
                squares = vmlal_s32(squares, vget_low_s32(v), vget_low_s32(v));
                more_squares = vmlal_high_s32(more_squares, v, v);
            }
        }
    }
    struct extent extent = {.plain = or_lanes(plain)};
    extent.scaled = e ? (uint64_t)or_lanes(high) << 32 | or_lanes(low) : extent.plain;
    extent.squares = (uint64_t)vaddvq_s64(vaddq_s64(squares, more_squares));
    return extent;
}

ALWAYS_INLINE void butterfly(int32x4_t *a, int32x4_t *b)
{
    int32x4_t low = *a, high = *b;
    *a = vaddq_s32(low, high);
    *b = vsubq_s32(low, high);
}

/* Butterflies inside two vectors: elements 1, then 2 apart. */
ALWAYS_INLINE void hadamard_lanes(int32x4_t *a, int32x4_t *b)
{
    int32x4_t even = vtrn1q_s32(*a, *b), odd = vtrn2q_s32(*a, *b);
    butterfly(&even, &odd);
    int64x2_t first = vreinterpretq_s64_s32(vtrn1q_s32(even, odd));
    int64x2_t second = vreinterpretq_s64_s32(vtrn2q_s32(even, odd));
    int32x4_t low = vreinterpretq_s32_s64(vtrn1q_s64(first, second));
    int32x4_t high = vreinterpretq_s32_s64(vtrn2q_s64(first, second));
    butterfly(&low, &high);
    first = vreinterpretq_s64_s32(low);
    second = vreinterpretq_s64_s32(high);
    *a = vreinterpretq_s32_s64(vtrn1q_s64(first, second));
    *b = vreinterpretq_s32_s64(vtrn2q_s64(first, second));
}

/* Had_16 of RS(x * 2^e, T): |x| < 2^30, T <= 28, and the result within 2^30 by the choice of T. */
ALWAYS_INLINE void transform_lanes(const int32_t *x, const uint8_t *e, int T, int32_t *h)
{
    int32x4_t v[4], shift[4];
    if (e)
        load_shifts(e, shift);
    for (int j = 0; j < 4; j++)
        v[j] = vrshlq_s32(vld1q_s32(x + 4 * j), vsubq_s32(e ? shift[j] : vdupq_n_s32(0), vdupq_n_s32(T)));
    hadamard_lanes(&v[0], &v[1]);
    hadamard_lanes(&v[2], &v[3]);
    butterfly(&v[0], &v[1]);
    butterfly(&v[2], &v[3]);
    butterfly(&v[0], &v[2]);
    butterfly(&v[1], &v[3]);
    for (int j = 0; j < 4; j++)
        vst1q_s32(h + 4 * j, v[j]);
}

/* Elements `step` apart, then 2 * step: step >= 4, in memory. */
static void hadamard_two_steps(int32_t *h, uint32_t n, uint32_t step)
{
    for (uint32_t start = 0; start < n; start += 4 * step)
        for (uint32_t i = start; i < start + step; i += 4) {
            int32x4_t v[4];
            for (uint32_t j = 0; j < 4; j++)
                v[j] = vld1q_s32(h + i + j * step);
            butterfly(&v[0], &v[1]);
            butterfly(&v[2], &v[3]);
            butterfly(&v[0], &v[2]);
            butterfly(&v[1], &v[3]);
            for (uint32_t j = 0; j < 4; j++)
                vst1q_s32(h + i + j * step, v[j]);
        }
}

static void hadamard_step(int32_t *h, uint32_t n, uint32_t step)
{
    for (uint32_t start = 0; start < n; start += 2 * step)
        for (uint32_t i = start; i < start + step; i += 4) {
            int32x4_t low = vld1q_s32(h + i), high = vld1q_s32(h + i + step);
            vst1q_s32(h + i, vaddq_s32(low, high));
            vst1q_s32(h + i + step, vsubq_s32(low, high));
        }
}

/* h = Had_b(RS(x * 2^e, T)), b >= 16; returns max|h|. */
ALWAYS_INLINE uint32_t transform(const int32_t *x, const uint8_t *e, uint32_t n, uint32_t b, int T, int32_t *h)
{
    uint32_t step = LANES;
    for (uint32_t i = 0; i < n; i += LANES)
        transform_lanes(x + i, e ? e + i : NULL, T, h + i);
    for (; 4 * step <= b; step *= 4)
        hadamard_two_steps(h, n, step);
    if (step < b)
        hadamard_step(h, n, step);
    uint32x4_t most = vdupq_n_u32(0);
    for (uint32_t i = 0; i < n; i += 4)
        most = vmaxq_u32(most, magnitudes_of(vld1q_s32(h + i)));
    return vmaxvq_u32(most);
}

/* q_i = RS(h_i * R, l + 16), R = floor(127 * 2^(l+16) / m) < 2^24 */
ALWAYS_INLINE void divide(const int32_t *h, uint32_t n, uint32_t m, int8_t *q)
{
    int l = bit_length(m);
    int32x4_t R = vdupq_n_s32((int32_t)((INT64_C(127) << (l + 16)) / m));
    for (uint32_t i = 0; i < n; i += LANES) {
        int32x4_t v[4];
        for (int j = 0; j < 4; j++)
            v[j] = narrow(round_wide(multiply_wide(vld1q_s32(h + i + 4 * j), R), right_by(l + 16)));
        store_bytes(q + i, v);
    }
}

int KERNEL(value_quant)(const int32_t *x, uint32_t size, int8_t *v8, int32_t *k_v)
{
    if (size % LANES)
        return reference_value_quant(x, size, v8, k_v);
    uint32x4_t most = vdupq_n_u32(0);
    for (uint32_t i = 0; i < size; i += 4)
        most = vmaxq_u32(most, magnitudes_of(vld1q_s32(x + i)));
    uint32_t largest = vmaxvq_u32(most);
    if (largest >> SAFE_BITS)
        return reference_value_quant(x, size, v8, k_v);
    *k_v = value_shift(largest);
    for (uint32_t i = 0; i < size; i += LANES) {
        int32x4_t v[4];
        for (int j = 0; j < 4; j++)
            v[j] = vrshlq_s32(vld1q_s32(x + i + 4 * j), vdupq_n_s32(-*k_v));
        store_bytes(v8 + i, v);
    }
    return 0;
}

/* --- norm, rope --- */

/* x * inv for 0 <= inv <= 2^46 in two digits of 23 bits; |x * inv| <= 2^46. */
ALWAYS_INLINE wide4 multiply_reciprocal(int32x4_t x, uint64_t inv)
{
    wide4 low = multiply_wide(x, vdupq_n_s32((int32_t)(inv & ((1 << 23) - 1))));
    wide4 high = multiply_wide(x, vdupq_n_s32((int32_t)(inv >> 23)));
    return (wide4){{vaddq_s64(low.val[0], vshlq_n_s64(high.val[0], 23)),
                    vaddq_s64(low.val[1], vshlq_n_s64(high.val[1], 23))}};
}

int KERNEL(norm)(const int32_t *x, const int32_t *G, uint32_t n, uint64_t eps, int k, int32_t *y)
{
    if (n % LANES)
        return reference_norm(x, G, n, eps, k, y);
    struct extent extent = measure(x, NULL, n, 1);
    if (!is_norm_exact(&extent, n, eps))
        return reference_norm(x, G, n, eps, k, y);
    uint64_t inv = (UINT64_C(1) << 46) / integer_root(extent.squares + eps);
    int64x2_t magnitudes = vdupq_n_s64(0);
    for (uint32_t i = 0; i < n; i += 4) {
        /* |x| <= r, so that x * inv stays within 2^46 and the first result within 2^24. */
        int32x4_t unit = narrow(round_wide(multiply_reciprocal(vld1q_s32(x + i), inv), right_by(22)));
        wide4 value = round_wide(multiply_wide(unit, vld1q_s32(G + i)), right_by(k));
        magnitudes = gather_magnitudes(magnitudes, value);
        vst1q_s32(y + i, narrow(value));
    }
    return is_outside(magnitudes);
}

/* RS(a * c + b * s, 14), |a|, |b| < 2^30. */
ALWAYS_INLINE int32x4_t turn_sum(int32x4_t a, int32x4_t c, int32x4_t b, int32x4_t s)
{
    int64x2_t low = vmlal_s32(vmull_s32(vget_low_s32(a), vget_low_s32(c)), vget_low_s32(b), vget_low_s32(s));
    int64x2_t high = vmlal_high_s32(vmull_high_s32(a, c), b, s);
    return vrshrn_high_n_s64(vrshrn_n_s64(low, 14), high, 14);
}

static int is_small(const int32_t *x, uint32_t n)
{
    uint32x4_t plain = vdupq_n_u32(0);
    uint32_t i = 0, rest = 0;
    for (; i + 4 <= n; i += 4)
        plain = vorrq_u32(plain, magnitudes_of(vld1q_s32(x + i)));
    for (; i < n; i++)
        rest |= x[i] < 0 ? 0 - (uint32_t)x[i] : (uint32_t)x[i];
    return (or_lanes(plain) | rest) >> SAFE_BITS == 0;
}

int KERNEL(rope)(const int32_t *x, uint32_t heads, uint32_t size, uint32_t rotary, int half, const uint64_t *turn,
                 uint64_t position, const int16_t *cosine, int32_t *y)
{
    int bad = 0;
    if (rotary % 8 || rotary > KERNEL_MAX_HEAD || !is_small(x, heads * size)) {
        for (uint32_t h = 0; h < heads; h++)
            bad |= reference_rope(x + (size_t)h * size, size, rotary, half, turn, position, cosine,
                                  y + (size_t)h * size);
        return bad;
    }
    int32_t c[KERNEL_MAX_HEAD / 2], s[KERNEL_MAX_HEAD / 2];
    for (uint32_t i = 0; i < rotary / 2; i++) {
        uint64_t n = (position * turn[i] + (UINT64_C(1) << 47)) >> 48;
        c[i] = cosine[n];
        s[i] = cosine[(n - (1 << 14)) & 0xFFFF];
    }
    for (uint32_t h = 0; h < heads; h++, x += size, y += size) {
        for (uint32_t i = 0; i < rotary / 2; i += 4) {
            int32x4x2_t pair = half ? (int32x4x2_t){{vld1q_s32(x + i), vld1q_s32(x + i + rotary / 2)}}
                                    : vld2q_s32(x + 2 * i);
            int32x4_t cosines = vld1q_s32(c + i), sines = vld1q_s32(s + i);
            int32x4x2_t turned = {{turn_sum(pair.val[0], cosines, vnegq_s32(pair.val[1]), sines),
                                   turn_sum(pair.val[0], sines, pair.val[1], cosines)}};
            if (half) {
                vst1q_s32(y + i, turned.val[0]);
                vst1q_s32(y + i + rotary / 2, turned.val[1]);
            } else
                vst2q_s32(y + 2 * i, turned);
        }
        memcpy(y + rotary, x + rotary, (size - rotary) * sizeof *y);
    }
    return 0;
}

/* --- gate, add, softcap --- */

/* A[i] and A[i+1]. */
ALWAYS_INLINE void look_up(const int32_t *A, uint32x4_t index, int32x4_t *value, int32x4_t *next)
{
    int32x4_t first = vcombine_s32(vld1_s32(A + vgetq_lane_u32(index, 0)), vld1_s32(A + vgetq_lane_u32(index, 1)));
    int32x4_t second = vcombine_s32(vld1_s32(A + vgetq_lane_u32(index, 2)), vld1_s32(A + vgetq_lane_u32(index, 3)));
    *value = vuzp1q_s32(first, second);
    *next = vuzp2q_s32(first, second);
}

/* A[i] + RS((A[i+1] - A[i]) * f, k); |A| < 2^30. */
ALWAYS_INLINE int32x4_t interpolate(const int32_t *A, uint32x4_t index, int32x4_t f, const int k)
{
    int32x4_t value, next;
    look_up(A, index, &value, &next);
    return vaddq_s32(value, narrow(round_wide(multiply_wide(vsubq_s32(next, value), f), right_by(k))));
}

/* The activation of t in Q16. */
ALWAYS_INLINE int32x4_t activation(const int32_t *A, int32x4_t t)
{
    const int32x4_t edge = vdupq_n_s32(1 << 20);
    /* t + 2^20 as unsigned is below 2^21 just where -2^20 <= t < 2^20. */
    uint32x4_t at = vreinterpretq_u32_s32(vaddq_s32(t, edge)), inside = vcltq_u32(at, vdupq_n_u32(1 << 21));
    at = vandq_u32(at, inside);
    int32x4_t f = vreinterpretq_s32_u32(vandq_u32(at, vdupq_n_u32(2047)));
    int32x4_t a = vandq_s32(interpolate(A, vshrq_n_u32(at, 11), f, 11), vreinterpretq_s32_u32(inside));
    return vbslq_s32(vcgeq_s32(t, edge), t, a);
}

int KERNEL(gate)(const int32_t *g, const int32_t *u, uint32_t n, const int32_t *A, int F_g, int small_steps, int k,
                 int32_t *y)
{
    if (n % 4 || F_g < 0 || F_g > 40)
        return reference_gate(g, u, n, A, F_g, k, y);
    uint32x4_t largest_g = vdupq_n_u32(0);
    int64x2_t magnitudes = vdupq_n_s64(0);
    for (uint32_t i = 0; i < n; i += 4) {
        int32x4_t v = vld1q_s32(g + i);
        int32x4_t a = activation(A, vrshlq_s32(v, vdupq_n_s32(16 - F_g)));
        largest_g = vorrq_u32(largest_g, magnitudes_of(v));
        if (!u) {
            vst1q_s32(y + i, a);
            continue;
        }
        wide4 value = round_wide(multiply_wide(a, vld1q_s32(u + i)), right_by(k));
        magnitudes = gather_magnitudes(magnitudes, value);
        vst1q_s32(y + i, narrow(value));
    }
    /* Where g shifted left could have left 32 bits. */
    if (F_g < 16 && bit_length(or_lanes(largest_g)) + 16 - F_g > 31)
        return reference_gate(g, u, n, A, F_g, k, y);
    return is_outside(magnitudes);
}

int KERNEL(small_steps)(const int32_t *A)
{
    return 0;
}

int KERNEL(add)(const int32_t *x, const int32_t *y, uint32_t n, int32_t *sum)
{
    uint32_t i = 0;
    uint32x4_t good = vdupq_n_u32(UINT32_MAX);
    for (; i + 4 <= n; i += 4) {
        int32x4_t a = vld1q_s32(x + i), b = vld1q_s32(y + i), c = vaddq_s32(a, b);
        uint32x4_t exact = vceqq_s32(c, vqaddq_s32(a, b)), least = vceqq_s32(c, vdupq_n_s32(INT32_MIN));
        good = vandq_u32(good, vbicq_u32(exact, least));
        vst1q_s32(sum + i, c);
    }
    int bad = vminvq_u32(good) == 0;
    return i < n ? bad | reference_add(x + i, y + i, n - i, sum + i) : bad;
}

void KERNEL(softcap)(const int32_t *A, const int32_t *x, uint32_t n, int32_t *y)
{
    const int32x4_t edge = vdupq_n_s32(1 << 19);
    uint32_t i = 0;
    for (; i + 4 <= n; i += 4) {
        /* A[1024] itself is reached as its neighbour below with the whole step on top. */
        int32x4_t v = vmaxq_s32(vminq_s32(vld1q_s32(x + i), edge), vnegq_s32(edge));
        uint32x4_t at = vreinterpretq_u32_s32(vaddq_s32(v, edge));
        uint32x4_t index = vminq_u32(vshrq_n_u32(at, 10), vdupq_n_u32(1023));
        int32x4_t f = vreinterpretq_s32_u32(vsubq_u32(at, vshlq_n_u32(index, 10)));
        vst1q_s32(y + i, interpolate(A, index, f, 10));
    }
    for (; i < n; i++)
        y[i] = reference_softcap(A, x[i]);
}

#endif
