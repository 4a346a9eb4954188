/* Operations on one row by itself. Vectors where AVX-512 or NEON is there, or
 * kernels_lanes.h has them, and shapes and values allow it; else, and for the rare
 * rows beyond those, the reference's own functions. */
#include "exec/cpu/kernels.h"
#include <string.h>

#include "exec/cpu/kernels_lanes.h"
#include "exec/ref/operations.h"

#if defined(__AVX512F__) || defined(__ARM_FEATURE_DOTPROD) || defined(KERNELS_HAVE_LANES)
#define HAS_VECTORS
#if !defined(KERNELS_HAVE_LANES)
enum { LANES = 16 }; /* elements taken together */
#endif
enum { SAFE_BITS = 30 }; /* the magnitudes that all vector paths allow */

static uint64_t integer_root(uint64_t a)
{
    uint64_t root = (uint64_t)__builtin_sqrt((double)a);
    while (root * root > a)
        root--;
    while ((root + 1) * (root + 1) <= a)
        root++;
    return root;
}

/* What the first pass finds. OR-ing magnitudes keeps the bit length of the largest. */
struct extent {
    uint32_t plain;       /* |x|, e left out */
    uint64_t scaled;      /* |x| * 2^e */
    uint64_t squares;     /* modulo 2^64 */
};

/* Whether `squares` is the exact sum, and within the page's bound together with eps. */
static int is_norm_exact(const struct extent *extent, uint32_t n, uint64_t eps)
{
    return 2 * bit_length(extent->plain) + bit_length(n) <= 64 && (extent->squares | eps) >> 62 == 0 &&
           (extent->squares + eps) >> 62 == 0;
}

/* Least k with largest <= 127 * 2^k. */
static int value_shift(uint32_t largest)
{
    int k = bit_length(largest) > 7 ? bit_length(largest) - 7 : 0;
    return k + (largest > UINT32_C(127) << k); /* 127 * 2^k is 2^(k+7) less a little */
}
#endif

#if defined(__AVX512F__)
#include <immintrin.h>

/* Results of 64-bit lanes (even and odd elements) as 16 i32. */
ALWAYS_INLINE __m512i join(__m512i even, __m512i odd)
{
    return _mm512_mask_shuffle_epi32(even, 0xAAAA, odd, _MM_PERM_CCAA);
}

/* RS of products in 64-bit lanes. Counts are vectors: shifts by one in an xmm register take twice as long. */
ALWAYS_INLINE __m512i round_shift(__m512i product, __m512i half, __m512i k)
{
    return _mm512_srav_epi64(_mm512_add_epi64(product, half), k);
}

ALWAYS_INLINE __m512i half_of(int k)
{
    return _mm512_set1_epi64(k ? INT64_C(1) << (k - 1) : 0);
}

/* Lanes at or beyond +-2^31. */
ALWAYS_INLINE __mmask8 outside(__m512i value)
{
    const __m512i low = _mm512_set1_epi64(-(INT64_C(1) << 31)), high = _mm512_set1_epi64(INT64_C(1) << 31);
    return _mm512_cmple_epi64_mask(value, low) | _mm512_cmpge_epi64_mask(value, high);
}

/* --- Hadamard --- */

/* Butterflies inside a vector: elements 1, 2, 4, 8 apart. */
ALWAYS_INLINE __m512i butterfly(__m512i v, __m512i partner, __mmask16 high)
{
    return _mm512_mask_sub_epi32(_mm512_add_epi32(v, partner), high, partner, v);
}

ALWAYS_INLINE __m512i hadamard_lanes(__m512i v)
{
    v = butterfly(v, _mm512_shuffle_epi32(v, _MM_PERM_CDAB), 0xAAAA);
    v = butterfly(v, _mm512_shuffle_epi32(v, _MM_PERM_BADC), 0xCCCC);
    v = butterfly(v, _mm512_shuffle_i32x4(v, v, 0xB1), 0xF0F0);
    return butterfly(v, _mm512_shuffle_i32x4(v, v, 0x4E), 0xFF00);
}

/* Constant `steps` (1 to 3) at once: elements step, 2 * step and 4 * step apart, step >= 16, in memory. `most` rises to
 * the largest magnitudes where this `is_last`. */
ALWAYS_INLINE void hadamard_steps(int32_t *h, uint32_t n, uint32_t step, const int steps, const int is_last, __m512i *most)
{
    const int count = 1 << steps;
    for (uint32_t start = 0; start < n; start += (uint32_t)count * step)
        for (uint32_t i = start; i < start + step; i += LANES) {
            __m512i v[8];
#pragma GCC unroll 8
            for (int j = 0; j < count; j++)
                v[j] = _mm512_loadu_si512(h + i + (uint32_t)j * step);
#pragma GCC unroll 3
            for (int apart = 1; apart < count; apart *= 2)
#pragma GCC unroll 8
                for (int j = 0; j < count; j++)
                    if (!(j & apart)) {
                        __m512i low = v[j], high = v[j + apart];
                        v[j] = _mm512_add_epi32(low, high);
                        v[j + apart] = _mm512_sub_epi32(low, high);
                    }
#pragma GCC unroll 8
            for (int j = 0; j < count; j++) {
                if (is_last)
                    *most = _mm512_max_epi32(*most, _mm512_abs_epi32(v[j]));
                _mm512_storeu_si512(h + i + (uint32_t)j * step, v[j]);
            }
        }
}

/* The steps from `step` to b / 2; the largest magnitudes. */
static __m512i hadamard_rest(int32_t *h, uint32_t n, uint32_t step, uint32_t b)
{
    __m512i most = _mm512_setzero_si512();
    for (; 8 * step < b; step *= 8)
        hadamard_steps(h, n, step, 3, 0, &most);
    if (8 * step == b)
        hadamard_steps(h, n, step, 3, 1, &most);
    else if (4 * step == b)
        hadamard_steps(h, n, step, 2, 1, &most);
    else
        hadamard_steps(h, n, step, 1, 1, &most);
    return most;
}

/* --- quantize --- */

ALWAYS_INLINE struct extent measure(const int32_t *x, const uint8_t *e, uint32_t n, const int with_squares)
{
    __m512i plain = _mm512_setzero_si512(), low = plain, high = plain, squares = plain, more_squares = plain;
    for (uint32_t i = 0; i < n; i += LANES) {
        __m512i v = _mm512_loadu_si512(x + i), a = _mm512_abs_epi32(v);
        plain = _mm512_or_si512(plain, a);
        if (e) {
            __m512i shift = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(e + i)));
            low = _mm512_or_si512(low, _mm512_sllv_epi32(a, shift));
            high = _mm512_or_si512(high, _mm512_srlv_epi32(a, _mm512_sub_epi32(_mm512_set1_epi32(32), shift)));
        }
        if (with_squares) {
            __m512i odd = _mm512_srli_epi64(v, 32);
            squares = _mm512_add_epi64(squares, _mm512_mul_epi32(v, v));
            more_squares = _mm512_add_epi64(more_squares, _mm512_mul_epi32(odd, odd));
        }
    }
    struct extent extent = {.plain = (uint32_t)_mm512_reduce_or_epi32(plain)};
    extent.scaled = e ? (uint64_t)(uint32_t)_mm512_reduce_or_epi32(high) << 32 | (uint32_t)_mm512_reduce_or_epi32(low)
                      : extent.plain;
    if (with_squares) {
        uint64_t lanes[8];
        _mm512_storeu_si512(lanes, _mm512_add_epi64(squares, more_squares));
        for (int i = 0; i < 8; i++)
            extent.squares += lanes[i];
    }
    return extent;
}

/* RS(x * 2^e, T) of 16 elements: |x| < 2^30, T <= 28. Constant `is_scaled`: whether there is an e or T is not 0. */
ALWAYS_INLINE __m512i scale_down(const int32_t *x, const uint8_t *e, __m512i T, const int is_scaled)
{
    __m512i v = _mm512_loadu_si512(x);
    if (!is_scaled)
        return v;
    __m512i right = T;
    if (e) {
        __m512i shift = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)e));
        v = _mm512_sllv_epi32(v, _mm512_max_epi32(_mm512_sub_epi32(shift, T), _mm512_setzero_si512()));
        right = _mm512_max_epi32(_mm512_sub_epi32(T, shift), _mm512_setzero_si512());
    }
    __m512i half = _mm512_srli_epi32(_mm512_sllv_epi32(_mm512_set1_epi32(1), right), 1);
    return _mm512_srav_epi32(_mm512_add_epi32(v, half), right);
}

ALWAYS_INLINE uint32_t transform_as(const int32_t *x, const uint8_t *e, uint32_t n, uint32_t b, int shift,
                                    const int is_scaled, int32_t *h)
{
    __m512i T = _mm512_set1_epi32(shift), most = _mm512_setzero_si512();
    uint32_t step = b;
    if (b >= 64)
        for (uint32_t i = 0; i < n; i += 64) {
            __m512i v0 = hadamard_lanes(scale_down(x + i, e ? e + i : NULL, T, is_scaled));
            __m512i v1 = hadamard_lanes(scale_down(x + i + 16, e ? e + i + 16 : NULL, T, is_scaled));
            __m512i v2 = hadamard_lanes(scale_down(x + i + 32, e ? e + i + 32 : NULL, T, is_scaled));
            __m512i v3 = hadamard_lanes(scale_down(x + i + 48, e ? e + i + 48 : NULL, T, is_scaled));
            __m512i s0 = _mm512_add_epi32(v0, v1), d0 = _mm512_sub_epi32(v0, v1);
            __m512i s1 = _mm512_add_epi32(v2, v3), d1 = _mm512_sub_epi32(v2, v3);
            v0 = _mm512_add_epi32(s0, s1);
            v1 = _mm512_add_epi32(d0, d1);
            v2 = _mm512_sub_epi32(s0, s1);
            v3 = _mm512_sub_epi32(d0, d1);
            if (b == 64)
                most = _mm512_max_epi32(most, _mm512_max_epi32(
                    _mm512_max_epi32(_mm512_abs_epi32(v0), _mm512_abs_epi32(v1)),
                    _mm512_max_epi32(_mm512_abs_epi32(v2), _mm512_abs_epi32(v3))));
            _mm512_storeu_si512(h + i, v0);
            _mm512_storeu_si512(h + i + 16, v1);
            _mm512_storeu_si512(h + i + 32, v2);
            _mm512_storeu_si512(h + i + 48, v3);
            step = 64;
        }
    else
        for (uint32_t i = 0; i < n; i += LANES) { /* b is 16 or 32 */
            __m512i v = hadamard_lanes(scale_down(x + i, e ? e + i : NULL, T, is_scaled));
            most = _mm512_max_epi32(most, _mm512_abs_epi32(v));
            _mm512_storeu_si512(h + i, v);
            step = LANES;
        }
    if (step < b)
        most = hadamard_rest(h, n, step, b);
    return (uint32_t)_mm512_reduce_max_epi32(most);
}

/* h = Had_b(RS(x * 2^e, T)); returns max|h|. */
ALWAYS_INLINE uint32_t transform(const int32_t *x, const uint8_t *e, uint32_t n, uint32_t b, int T, int32_t *h)
{
    return e || T ? transform_as(x, e, n, b, T, 1, h) : transform_as(x, NULL, n, b, 0, 0, h);
}

/* q_i = (h_i * R + 2^(l+15)) >> (l + 16), R = floor(127 * 2^(l+16) / m). Small h are shifted up, so that all shifts are at
 * least 32 and results lie in products' upper halves. */
ALWAYS_INLINE void divide_as(const int32_t *h, uint32_t n, uint32_t m, const int is_small, int8_t *q)
{
    int l = bit_length(m), down = is_small ? 32 : l + 16;
    __m512i R = _mm512_set1_epi64((INT64_C(127) << (l + 16)) / m), half = _mm512_set1_epi64(INT64_C(1) << (down - 1));
    __m512i left = _mm512_set1_epi32(16 - l), right = _mm512_set1_epi32(down - 32);
    for (uint32_t i = 0; i < n; i += LANES) {
        __m512i v = _mm512_loadu_si512(h + i);
        if (is_small)
            v = _mm512_sllv_epi32(v, left);
        __m512i even = _mm512_add_epi64(_mm512_mul_epi32(v, R), half);
        __m512i odd = _mm512_add_epi64(_mm512_mul_epi32(_mm512_shuffle_epi32(v, _MM_PERM_DDBB), R), half);
        v = _mm512_mask_shuffle_epi32(odd, 0x5555, even, _MM_PERM_DDBB);
        if (!is_small)
            v = _mm512_srav_epi32(v, right);
        _mm_storeu_si128((__m128i *)(q + i), _mm512_cvtepi32_epi8(v));
    }
}

ALWAYS_INLINE void divide(const int32_t *h, uint32_t n, uint32_t m, int8_t *q)
{
    if (bit_length(m) < 16)
        divide_as(h, n, m, 1, q);
    else
        divide_as(h, n, m, 0, q);
}

#elif defined(__ARM_FEATURE_DOTPROD)
#include "exec/cpu/kernels_neon_rows.h"
#elif defined(KERNELS_HAVE_LANES)
#include "exec/cpu/kernels_rows_lanes.h"
#endif

#if defined(HAS_VECTORS)
/* Whether the vector path covers this row; T. */
ALWAYS_INLINE int is_vector_row(uint32_t n, uint32_t b, const struct extent *extent, int *T)
{
    int shift = bit_length(extent->scaled) + bit_length(b) - 1 - 30;
    *T = shift > 0 ? shift : 0;
    return extent->plain >> SAFE_BITS == 0;
}

ALWAYS_INLINE void quantise(const int32_t *x, const uint8_t *e, uint32_t n, uint32_t b, int T, int32_t *h, int8_t *q,
                            uint32_t *m)
{
    *m = transform(x, e, n, b, T, h);
    if (*m == 0)
        memset(q, 0, n);
    else
        divide(h, n, *m, q);
}

void KERNEL(quant)(const int32_t *x, uint32_t n, uint32_t b, int32_t *h, int8_t *q, int64_t *s)
{
    int T;
    uint32_t m;
    if (n % LANES == 0 && b >= LANES) {
        struct extent extent = measure(x, NULL, n, 0);
        if (is_vector_row(n, b, &extent, &T)) {
            quantise(x, NULL, n, b, T, h, q, &m);
            *s = (int64_t)m << T;
            return;
        }
    }
    reference_quant(x, n, b, h, q, s);
}

int KERNEL(norm_quant)(const int32_t *x, const uint8_t *e, uint32_t n, uint32_t b, int c, uint64_t eps, int32_t *h,
                       int8_t *q, int64_t *s)
{
    int T;
    uint32_t m;
    if (n % LANES || b < LANES)
        return reference_norm_quant(x, e, n, b, c, eps, h, q, s);
    struct extent extent = measure(x, e, n, 1);
    if (!is_vector_row(n, b, &extent, &T) || !is_norm_exact(&extent, n, eps))
        return reference_norm_quant(x, e, n, b, c, eps, h, q, s);
    quantise(x, e, n, b, T, h, q, &m);
    uint64_t ratio = ((uint64_t)m << 31) / integer_root(extent.squares + eps);
    int shift = T + c - 31;
    if (shift >= 0)
        *s = bit_length(ratio) + shift > 62 ? INT64_C(1) << 62 : (int64_t)(ratio << shift);
    else
        *s = shift <= -64 ? 0 : (int64_t)(ratio >> -shift);
    return 0;
}

int KERNEL(head_quant)(const int32_t *x, uint32_t size, uint32_t b, int32_t *h, int8_t *q8, int32_t *s)
{
    int64_t scale;
    KERNEL(quant)(x, size, b, h, q8, &scale);
    *s = (int32_t)(uint32_t)(uint64_t)scale;
    return scale >> 31 != 0;
}
#endif

#if defined(__AVX512F__)
int KERNEL(value_quant)(const int32_t *x, uint32_t size, int8_t *v8, int32_t *k_v)
{
    if (size % LANES)
        return reference_value_quant(x, size, v8, k_v);
    __m512i most = _mm512_setzero_si512();
    for (uint32_t i = 0; i < size; i += LANES)
        most = _mm512_max_epu32(most, _mm512_abs_epi32(_mm512_loadu_si512(x + i)));
    uint32_t largest = _mm512_reduce_max_epu32(most);
    if (largest >> SAFE_BITS)
        return reference_value_quant(x, size, v8, k_v);
    int k = value_shift(largest);
    *k_v = k;
    __m512i shift = _mm512_set1_epi32(k), half = _mm512_set1_epi32((1 << k) >> 1);
    for (uint32_t i = 0; i < size; i += LANES)
        _mm_storeu_si128((__m128i *)(v8 + i), _mm512_cvtepi32_epi8(_mm512_srav_epi32(
            _mm512_add_epi32(_mm512_loadu_si512(x + i), half), shift)));
    return 0;
}

/* --- norm, rope --- */

int KERNEL(norm)(const int32_t *x, const int32_t *G, uint32_t n, uint64_t eps, int k, int32_t *y)
{
    if (n % LANES)
        return reference_norm(x, G, n, eps, k, y);
    struct extent extent = measure(x, NULL, n, 1);
    if (!is_norm_exact(&extent, n, eps))
        return reference_norm(x, G, n, eps, k, y);
    __m512i inv = _mm512_set1_epi64((int64_t)((UINT64_C(1) << 46) / integer_root(extent.squares + eps)));
    __m512i half = half_of(k), half22 = half_of(22);
    __m512i shift = _mm512_set1_epi64(k);
    __mmask8 bad = 0;
    for (uint32_t i = 0; i < n; i += LANES) {
        __m512i v = _mm512_loadu_si512(x + i), g = _mm512_loadu_si512(G + i);
        /* |x| <= r, so that x * inv stays below 2^46 and the first result below 2^25. */
        __m512i even = _mm512_mullo_epi64(_mm512_srai_epi64(_mm512_slli_epi64(v, 32), 32), inv);
        __m512i odd = _mm512_mullo_epi64(_mm512_srai_epi64(v, 32), inv);
        even = _mm512_srai_epi64(_mm512_add_epi64(even, half22), 22);
        odd = _mm512_srai_epi64(_mm512_add_epi64(odd, half22), 22);
        even = round_shift(_mm512_mul_epi32(even, g), half, shift);
        odd = round_shift(_mm512_mul_epi32(odd, _mm512_srli_epi64(g, 32)), half, shift);
        bad |= outside(even) | outside(odd);
        _mm512_storeu_si512(y + i, join(even, odd));
    }
    return bad != 0;
}

/* 16 pairs (a, b) turned by (c, s), |a|, |b| < 2^30. */
ALWAYS_INLINE void turn_pairs(__m512i a, __m512i b, __m512i c, __m512i s, __m512i *first, __m512i *second)
{
    const __m512i half = _mm512_set1_epi64(1 << 13);
    const __m512i k = _mm512_set1_epi64(14);
    __m512i a_odd = _mm512_srli_epi64(a, 32), b_odd = _mm512_srli_epi64(b, 32);
    __m512i c_odd = _mm512_srli_epi64(c, 32), s_odd = _mm512_srli_epi64(s, 32);
    __m512i even = _mm512_sub_epi64(_mm512_mul_epi32(a, c), _mm512_mul_epi32(b, s));
    __m512i odd = _mm512_sub_epi64(_mm512_mul_epi32(a_odd, c_odd), _mm512_mul_epi32(b_odd, s_odd));
    *first = join(round_shift(even, half, k), round_shift(odd, half, k));
    even = _mm512_add_epi64(_mm512_mul_epi32(a, s), _mm512_mul_epi32(b, c));
    odd = _mm512_add_epi64(_mm512_mul_epi32(a_odd, s_odd), _mm512_mul_epi32(b_odd, c_odd));
    *second = join(round_shift(even, half, k), round_shift(odd, half, k));
}

/* Eight pairs of neighbours: elements 2i and 2i + 1 turned by c[i], s[i] in 64-bit lanes. */
ALWAYS_INLINE __m512i turn_neighbours(__m512i a, __m512i c, __m512i s)
{
    const __m512i half = _mm512_set1_epi64(1 << 13);
    const __m512i k = _mm512_set1_epi64(14);
    __m512i b = _mm512_srli_epi64(a, 32);
    __m512i first = _mm512_sub_epi64(_mm512_mul_epi32(a, c), _mm512_mul_epi32(b, s));
    __m512i second = _mm512_add_epi64(_mm512_mul_epi32(a, s), _mm512_mul_epi32(b, c));
    return join(round_shift(first, half, k), round_shift(second, half, k));
}

static int is_small(const int32_t *x, uint32_t n)
{
    __m512i plain = _mm512_setzero_si512();
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES)
        plain = _mm512_or_si512(plain, _mm512_abs_epi32(_mm512_loadu_si512(x + i)));
    if (i < n)
        plain = _mm512_or_si512(plain, _mm512_abs_epi32(_mm512_maskz_loadu_epi32((__mmask16)((1u << (n - i)) - 1), x + i)));
    return (uint32_t)_mm512_reduce_or_epi32(plain) >> SAFE_BITS == 0;
}

int KERNEL(rope)(const int32_t *x, uint32_t heads, uint32_t size, uint32_t rotary, int half, const uint64_t *turn,
                 uint64_t position, const int16_t *cosine, int32_t *y)
{
    int bad = 0;
    if (rotary % 32 || rotary > KERNEL_MAX_HEAD || !is_small(x, heads * size)) {
        for (uint32_t h = 0; h < heads; h++)
            bad |= reference_rope(x + (size_t)h * size, size, rotary, half, turn, position, cosine, y + (size_t)h * size);
        return bad;
    }
    /* 32 bits a pair for halves, 64 for neighbours. */
    int32_t c[KERNEL_MAX_HEAD], s[KERNEL_MAX_HEAD];
    uint32_t step = half ? 1 : 2;
    for (uint32_t i = 0; i < rotary / 2; i++) {
        uint64_t n = (position * turn[i] + (UINT64_C(1) << 47)) >> 48;
        c[i * step] = cosine[n];
        s[i * step] = cosine[(n - (1 << 14)) & 0xFFFF];
    }
    for (uint32_t h = 0; h < heads; h++, x += size, y += size) {
        if (half)
            for (uint32_t i = 0; i < rotary / 2; i += LANES) {
                __m512i first, second;
                turn_pairs(_mm512_loadu_si512(x + i), _mm512_loadu_si512(x + i + rotary / 2), _mm512_loadu_si512(c + i),
                           _mm512_loadu_si512(s + i), &first, &second);
                _mm512_storeu_si512(y + i, first);
                _mm512_storeu_si512(y + i + rotary / 2, second);
            }
        else
            for (uint32_t i = 0; i < rotary; i += LANES)
                _mm512_storeu_si512(y + i, turn_neighbours(_mm512_loadu_si512(x + i), _mm512_loadu_si512(c + i),
                                                           _mm512_loadu_si512(s + i)));
        memcpy(y + rotary, x + rotary, (size - rotary) * sizeof *y);
    }
    return 0;
}

/* --- gate, add, softcap --- */

/* A[i] and A[i+1] as pairs of neighbours, eight at a time. */
ALWAYS_INLINE void look_up(const int32_t *A, __m512i index, __m512i *value, __m512i *next)
{
    __m512i low = _mm512_i32gather_epi64(_mm512_castsi512_si256(index), A, 4);
    __m512i high = _mm512_i32gather_epi64(_mm512_extracti64x4_epi64(index, 1), A, 4);
    const __m512i evens = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i odds = _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    *value = _mm512_permutex2var_epi32(low, evens, high);
    *next = _mm512_permutex2var_epi32(low, odds, high);
}

/* Whether all steps A[i+1] - A[i] fit 16 bits: then a step times f (11 bits) is one
 * product of 16-bit halves, and fits 32 bits. Real activations' steps are below 2^12. */
static int has_small_steps(const int32_t *A)
{
    __m512i most = _mm512_setzero_si512();
    for (uint32_t i = 0; i < 1024; i += LANES)
        most = _mm512_max_epu32(most, _mm512_abs_epi32(_mm512_sub_epi32(_mm512_loadu_si512(A + i + 1), _mm512_loadu_si512(A + i))));
    return _mm512_reduce_max_epu32(most) < 1 << 15;
}

/* The activation of t in Q16. */
ALWAYS_INLINE __m512i activation(const int32_t *A, __m512i t, const int small_steps)
{
    const __m512i edge = _mm512_set1_epi32(1 << 20);
    __mmask16 above = _mm512_cmpge_epi32_mask(t, edge);
    /* t + 2^20 as unsigned is below 2^21 just where -2^20 <= t < 2^20. */
    __m512i at = _mm512_add_epi32(t, edge), a, next;
    __mmask16 inside = _mm512_cmplt_epu32_mask(at, _mm512_set1_epi32(1 << 21));
    at = _mm512_maskz_mov_epi32(inside, at);
    __m512i f = _mm512_and_si512(at, _mm512_set1_epi32(2047));
    look_up(A, _mm512_srli_epi32(at, 11), &a, &next);
    __m512i rise = _mm512_sub_epi32(next, a); /* below 2^31: |A| < 2^30 */
    if (small_steps)
        rise = _mm512_srai_epi32(_mm512_add_epi32(_mm512_madd_epi16(rise, f), _mm512_set1_epi32(1 << 10)), 11);
    else {
        const __m512i half = _mm512_set1_epi64(1 << 10);
        const __m512i k = _mm512_set1_epi64(11);
        __m512i even = round_shift(_mm512_mul_epi32(rise, f), half, k);
        __m512i odd = round_shift(_mm512_mul_epi32(_mm512_srli_epi64(rise, 32), _mm512_srli_epi64(f, 32)), half, k);
        rise = join(even, odd);
    }
    a = _mm512_maskz_add_epi32(inside, a, rise);
    return _mm512_mask_mov_epi32(a, above, t);
}

/* g in Q16: RS(g, F_g - 16) or g * 2^(16 - F_g). Where rounding carries beyond 31
 * bits the sum is right as an unsigned number; where the product does, the caller
 * sees it by the largest |g|. */
ALWAYS_INLINE __m512i gate_input(__m512i g, int F_g)
{
    if (F_g < 16)
        return _mm512_sllv_epi32(g, _mm512_set1_epi32(16 - F_g));
    __m512i half = _mm512_set1_epi32((int32_t)((INT64_C(1) << (F_g - 16)) >> 1)), shift = _mm512_set1_epi32(F_g - 16);
    __m512i sum = _mm512_add_epi32(g, half);
    return _mm512_mask_srlv_epi32(_mm512_srav_epi32(sum, shift), _mm512_cmplt_epi32_mask(sum, g), sum, shift);
}

/* Bits of the largest magnitude of which `bits` has the OR. */
static int magnitude_bits(__m512i bits)
{
    return bit_length((uint32_t)_mm512_reduce_or_epi32(bits));
}

/* Returns 1 where a result could have left its bound: then y is to be computed with care. */
ALWAYS_INLINE int gate_vectors(const int32_t *g, const int32_t *u, uint32_t n, const int32_t *A, int F_g, int k, int32_t *y,
                               const int small_steps)
{
    __m512i half = half_of(k), shift = _mm512_set1_epi64(k);
    __m512i largest_g = _mm512_setzero_si512(), largest_a = largest_g, largest_u = largest_g;
    for (uint32_t i = 0; i < n; i += LANES) {
        __m512i v = _mm512_loadu_si512(g + i), a = activation(A, gate_input(v, F_g), small_steps);
        if (F_g < 16)
            largest_g = _mm512_or_si512(largest_g, _mm512_abs_epi32(v));
        if (!u) {
            _mm512_storeu_si512(y + i, a);
            continue;
        }
        __m512i up = _mm512_loadu_si512(u + i);
        largest_a = _mm512_or_si512(largest_a, _mm512_abs_epi32(a));
        largest_u = _mm512_or_si512(largest_u, _mm512_abs_epi32(up));
        __m512i even = round_shift(_mm512_mul_epi32(a, up), half, shift);
        __m512i odd = round_shift(_mm512_mul_epi32(_mm512_srli_epi64(a, 32), _mm512_srli_epi64(up, 32)), half, shift);
        _mm512_storeu_si512(y + i, join(even, odd));
    }
    if (F_g < 16 && magnitude_bits(largest_g) + 16 - F_g > 30)
        return 1;
    return magnitude_bits(largest_a) + magnitude_bits(largest_u) - k > 30;
}

int KERNEL(gate)(const int32_t *g, const int32_t *u, uint32_t n, const int32_t *A, int F_g, int small_steps, int k,
                 int32_t *y)
{
    if (n % LANES || F_g < 0 || F_g > 40)
        return reference_gate(g, u, n, A, F_g, k, y);
    int careful = small_steps ? gate_vectors(g, u, n, A, F_g, k, y, 1) : gate_vectors(g, u, n, A, F_g, k, y, 0);
    return careful ? reference_gate(g, u, n, A, F_g, k, y) : 0;
}

int KERNEL(small_steps)(const int32_t *A)
{
    return has_small_steps(A);
}

int KERNEL(add)(const int32_t *x, const int32_t *y, uint32_t n, int32_t *sum)
{
    uint32_t i = 0;
    __m512i over = _mm512_setzero_si512();
    __mmask16 least = 0;
    for (; i + LANES <= n; i += LANES) {
        __m512i a = _mm512_loadu_si512(x + i), b = _mm512_loadu_si512(y + i), c = _mm512_add_epi32(a, b);
        /* The sign changed against both. */
        over = _mm512_or_si512(over, _mm512_and_si512(_mm512_xor_si512(a, c), _mm512_xor_si512(b, c)));
        least |= _mm512_cmpeq_epi32_mask(c, _mm512_set1_epi32(INT32_MIN));
        _mm512_storeu_si512(sum + i, c);
    }
    int bad = least != 0 || _mm512_cmplt_epi32_mask(over, _mm512_setzero_si512()) != 0;
    return i < n ? bad | reference_add(x + i, y + i, n - i, sum + i) : bad;
}

void KERNEL(softcap)(const int32_t *A, const int32_t *x, uint32_t n, int32_t *y)
{
    const __m512i edge = _mm512_set1_epi32(1 << 19), half = _mm512_set1_epi64(1 << 9);
    const __m512i k = _mm512_set1_epi64(10);
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        /* A[1024] itself is reached as its neighbour below with the whole step on top. */
        __m512i v = _mm512_loadu_si512(x + i), a, next;
        v = _mm512_max_epi32(_mm512_min_epi32(v, edge), _mm512_sub_epi32(_mm512_setzero_si512(), edge));
        __m512i at = _mm512_add_epi32(v, edge);
        __m512i index = _mm512_min_epi32(_mm512_srli_epi32(at, 10), _mm512_set1_epi32(1023));
        __m512i f = _mm512_sub_epi32(at, _mm512_slli_epi32(index, 10));
        look_up(A, index, &a, &next);
        __m512i rise = _mm512_sub_epi32(next, a);
        __m512i even = round_shift(_mm512_mul_epi32(rise, f), half, k);
        __m512i odd = round_shift(_mm512_mul_epi32(_mm512_srli_epi64(rise, 32), _mm512_srli_epi64(f, 32)), half, k);
        _mm512_storeu_si512(y + i, _mm512_add_epi32(a, join(even, odd)));
    }
    for (; i < n; i++)
        y[i] = reference_softcap(A, x[i]);
}

#elif !defined(HAS_VECTORS)

void KERNEL(quant)(const int32_t *x, uint32_t n, uint32_t b, int32_t *h, int8_t *q, int64_t *s)
{
    reference_quant(x, n, b, h, q, s);
}

int KERNEL(norm_quant)(const int32_t *x, const uint8_t *e, uint32_t n, uint32_t b, int c, uint64_t eps, int32_t *h,
                       int8_t *q, int64_t *s)
{
    return reference_norm_quant(x, e, n, b, c, eps, h, q, s);
}

int KERNEL(head_quant)(const int32_t *x, uint32_t size, uint32_t b, int32_t *h, int8_t *q8, int32_t *s)
{
    return reference_head_quant(x, size, b, h, q8, s);
}

int KERNEL(value_quant)(const int32_t *x, uint32_t size, int8_t *v8, int32_t *k_v)
{
    return reference_value_quant(x, size, v8, k_v);
}

int KERNEL(norm)(const int32_t *x, const int32_t *G, uint32_t n, uint64_t eps, int k, int32_t *y)
{
    return reference_norm(x, G, n, eps, k, y);
}

int KERNEL(rope)(const int32_t *x, uint32_t heads, uint32_t size, uint32_t rotary, int half, const uint64_t *turn,
                 uint64_t position, const int16_t *cosine, int32_t *y)
{
    int bad = 0;
    for (uint32_t h = 0; h < heads; h++)
        bad |= reference_rope(x + (size_t)h * size, size, rotary, half, turn, position, cosine, y + (size_t)h * size);
    return bad;
}

int KERNEL(gate)(const int32_t *g, const int32_t *u, uint32_t n, const int32_t *A, int F_g, int small_steps, int k,
                 int32_t *y)
{
    return reference_gate(g, u, n, A, F_g, k, y);
}

int KERNEL(small_steps)(const int32_t *A)
{
    return 0;
}

int KERNEL(add)(const int32_t *x, const int32_t *y, uint32_t n, int32_t *sum)
{
    return reference_add(x, y, n, sum);
}

void KERNEL(softcap)(const int32_t *A, const int32_t *x, uint32_t n, int32_t *y)
{
    for (uint32_t i = 0; i < n; i++)
        y[i] = reference_softcap(A, x[i]);
}
#endif
