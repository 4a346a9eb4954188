/* Eight 32-bit lanes, and what exact fixed point needs of them beyond C: products
 * of 64 bits and their rounding shifts. Included by kernel sources only; KERNELS_HAVE_LANES
 * says that the instruction set has them.
 *
 * A product of eight lanes is two vectors of four 64-bit lanes: of the even and of
 * the odd elements. Shifts of 64-bit lanes are logical, which AVX2 has; the low 32
 * bits of a signed value's shift by at most 32 are the same either way. */
#ifndef EXEC_CPU_KERNELS_LANES_H
#define EXEC_CPU_KERNELS_LANES_H

#include <stdint.h>
#include <string.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

static inline int bit_length(uint64_t a)
{
    return a ? 64 - __builtin_clzll(a) : 0;
}

#if defined(__AVX2__) && !defined(__AVX512F__)
#include <immintrin.h>
#define KERNELS_HAVE_LANES 1
#if defined(__AVXVNNI__) || defined(KERNELS_EMULATE_AVXVNNI)
#define KERNELS_HAVE_VNNI 1 /* lanes_add_products_u8 */
#endif
enum { LANES = 8 };

typedef __m256i lanes; /* 8 x 32 */
typedef __m256i wide;  /* 4 x 64 */

ALWAYS_INLINE lanes lanes_load(const void *from)
{
    return _mm256_loadu_si256((const __m256i *)from);
}

ALWAYS_INLINE void lanes_store(void *to, lanes v)
{
    _mm256_storeu_si256((__m256i *)to, v);
}

ALWAYS_INLINE lanes lanes_of_u8(const uint8_t *from)
{
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)from));
}

ALWAYS_INLINE lanes lanes_of_u16(const uint16_t *from)
{
    return _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)from));
}

/* The low byte of each lane, all within -128..127. */
ALWAYS_INLINE void lanes_store_i8(int8_t *to, lanes v)
{
    __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    _mm_storel_epi64((__m128i *)(void *)to, _mm_packs_epi16(words, words));
}

/* 16 numbers of 16 bits in order: the low halves of a, then of b, all below 2^15. */
ALWAYS_INLINE void lanes_store_i16(int16_t *to, lanes a, lanes b)
{
    lanes_store(to, _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xD8));
}

/* 16 bytes as 16-bit numbers. */
ALWAYS_INLINE lanes lanes_i16_of_i8(const int8_t *from)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)from));
}

/* Four 16-bit numbers, four times. */
ALWAYS_INLINE lanes lanes_repeat_i16x4(const int16_t *from)
{
    int64_t four;
    memcpy(&four, from, sizeof four);
    return _mm256_set1_epi64x(four);
}

ALWAYS_INLINE lanes lanes_set(int32_t a)
{
    return _mm256_set1_epi32(a);
}

ALWAYS_INLINE lanes lanes_add(lanes a, lanes b)
{
    return _mm256_add_epi32(a, b);
}

ALWAYS_INLINE lanes lanes_sub(lanes a, lanes b)
{
    return _mm256_sub_epi32(a, b);
}

ALWAYS_INLINE lanes lanes_or(lanes a, lanes b)
{
    return _mm256_or_si256(a, b);
}

ALWAYS_INLINE lanes lanes_and(lanes a, lanes b)
{
    return _mm256_and_si256(a, b);
}

ALWAYS_INLINE lanes lanes_xor(lanes a, lanes b)
{
    return _mm256_xor_si256(a, b);
}

ALWAYS_INLINE lanes lanes_abs(lanes a)
{
    return _mm256_abs_epi32(a);
}

ALWAYS_INLINE lanes lanes_max(lanes a, lanes b)
{
    return _mm256_max_epi32(a, b);
}

ALWAYS_INLINE lanes lanes_min(lanes a, lanes b)
{
    return _mm256_min_epi32(a, b);
}

/* Shifts by a count a lane; 32 and more give 0 (copies of the sign for `_signed`). */
ALWAYS_INLINE lanes lanes_left(lanes a, lanes counts)
{
    return _mm256_sllv_epi32(a, counts);
}

ALWAYS_INLINE lanes lanes_right(lanes a, lanes counts)
{
    return _mm256_srlv_epi32(a, counts);
}

ALWAYS_INLINE lanes lanes_right_signed(lanes a, lanes counts)
{
    return _mm256_srav_epi32(a, counts);
}

/* All bits of the lanes where a > b, signed. */
ALWAYS_INLINE lanes lanes_greater(lanes a, lanes b)
{
    return _mm256_cmpgt_epi32(a, b);
}

/* b where the mask's lane is set, else a. */
ALWAYS_INLINE lanes lanes_select(lanes a, lanes b, lanes mask)
{
    return _mm256_blendv_epi8(a, b, mask);
}

ALWAYS_INLINE int lanes_any(lanes mask)
{
    return !_mm256_testz_si256(mask, mask);
}

ALWAYS_INLINE uint32_t lanes_or_all(lanes v)
{
    __m128i a = _mm_or_si128(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    a = _mm_or_si128(a, _mm_shuffle_epi32(a, 0x4E));
    a = _mm_or_si128(a, _mm_shuffle_epi32(a, 0xB1));
    return (uint32_t)_mm_cvtsi128_si32(a);
}

ALWAYS_INLINE int32_t lanes_max_all(lanes v)
{
    __m128i a = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    a = _mm_max_epi32(a, _mm_shuffle_epi32(a, 0x4E));
    a = _mm_max_epi32(a, _mm_shuffle_epi32(a, 0xB1));
    return _mm_cvtsi128_si32(a);
}

ALWAYS_INLINE uint32_t lanes_sum(lanes v)
{
    __m128i a = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    a = _mm_add_epi32(a, _mm_shuffle_epi32(a, 0x4E));
    a = _mm_add_epi32(a, _mm_shuffle_epi32(a, 0xB1));
    return (uint32_t)_mm_cvtsi128_si32(a);
}

/* Sums of neighbours: a0 + a1, a2 + a3, ..., b0 + b1, ... */
ALWAYS_INLINE lanes lanes_add_neighbours(lanes a, lanes b)
{
    return _mm256_permute4x64_epi64(_mm256_hadd_epi32(a, b), 0xD8);
}

/* sum + the two products of 16-bit numbers in each lane. */
ALWAYS_INLINE lanes lanes_add_products_i16(lanes sum, lanes a, lanes b)
{
#if defined(__AVXVNNI__)
    return _mm256_dpwssd_avx_epi32(sum, a, b);
#else
    /* In this order: left to itself gcc multiplies a whole tile first, and runs out of registers. */
    lanes products;
    __asm__("vpmaddwd %2, %3, %1\n\tvpaddd %1, %0, %0" : "+x"(sum), "=&x"(products) : "x"(a), "x"(b));
    return sum;
#endif
}

#if defined(__AVXVNNI__)
/* sum + the four products of a's u8 and b's i8 in each lane. */
ALWAYS_INLINE lanes lanes_add_products_u8(lanes sum, lanes a, lanes b)
{
    return _mm256_dpbusd_avx_epi32(sum, a, b);
}
#elif defined(KERNELS_EMULATE_AVXVNNI)
/* The same by AVX2, for tests on processors that lack it. */
ALWAYS_INLINE lanes lanes_add_products_u8(lanes sum, lanes a, lanes b)
{
    lanes low = _mm256_madd_epi16(_mm256_cvtepu8_epi16(_mm256_castsi256_si128(a)),
                                  _mm256_cvtepi8_epi16(_mm256_castsi256_si128(b)));
    lanes high = _mm256_madd_epi16(_mm256_cvtepu8_epi16(_mm256_extracti128_si256(a, 1)),
                                   _mm256_cvtepi8_epi16(_mm256_extracti128_si256(b, 1)));
    return lanes_add(sum, lanes_add_neighbours(low, high));
}
#endif

/* The odd lanes at the even places (what is at the odd ones does not matter). */
ALWAYS_INLINE lanes lanes_odd(lanes a)
{
    return _mm256_srli_epi64(a, 32);
}

/* A Hadamard step within the lanes: elements 1, 2 and 4 apart. */
ALWAYS_INLINE lanes lanes_hadamard(lanes v)
{
    const lanes zero = _mm256_setzero_si256();
    /* high lanes: partner - v, low lanes: v + partner */
    v = _mm256_add_epi32(_mm256_shuffle_epi32(v, 0xB1), _mm256_blend_epi32(v, _mm256_sub_epi32(zero, v), 0xAA));
    v = _mm256_add_epi32(_mm256_shuffle_epi32(v, 0x4E), _mm256_blend_epi32(v, _mm256_sub_epi32(zero, v), 0xCC));
    return _mm256_add_epi32(_mm256_permute4x64_epi64(v, 0x4E), _mm256_blend_epi32(v, _mm256_sub_epi32(zero, v), 0xF0));
}

/* table[index] of each lane. */
ALWAYS_INLINE lanes lanes_look_up(const void *table, lanes index)
{
    return _mm256_i32gather_epi32((const int *)table, index, 4);
}

ALWAYS_INLINE wide wide_set(int64_t a)
{
    return _mm256_set1_epi64x(a);
}

ALWAYS_INLINE wide wide_add(wide a, wide b)
{
    return _mm256_add_epi64(a, b);
}

ALWAYS_INLINE wide wide_sub(wide a, wide b)
{
    return _mm256_sub_epi64(a, b);
}

/* Products of the even lanes. */
ALWAYS_INLINE wide wide_product(lanes a, lanes b)
{
    return _mm256_mul_epi32(a, b);
}

ALWAYS_INLINE wide wide_product_unsigned(lanes a, lanes b)
{
    return _mm256_mul_epu32(a, b);
}

/* Logical shifts, all lanes by the same count; 64 and more give 0. */
ALWAYS_INLINE wide wide_right(wide a, int count)
{
    return _mm256_srl_epi64(a, _mm_cvtsi32_si128(count));
}

ALWAYS_INLINE wide wide_left(wide a, int count)
{
    return _mm256_sll_epi64(a, _mm_cvtsi32_si128(count));
}

ALWAYS_INLINE uint64_t wide_sum(wide a)
{
    uint64_t parts[4];
    lanes_store(parts, a);
    return parts[0] + parts[1] + parts[2] + parts[3];
}

ALWAYS_INLINE wide wide_load(const void *from)
{
    return lanes_load(from);
}

ALWAYS_INLINE void wide_store(void *to, wide a)
{
    lanes_store(to, a);
}

/* Lanes whose low halves are in `even`, and whose high halves are in `odd`: results of
 * even elements lie low, of odd ones high. */
ALWAYS_INLINE lanes lanes_blend(wide even, wide odd)
{
    return _mm256_blend_epi32(even, odd, 0xAA);
}

/* The high halves at the low places. */
ALWAYS_INLINE wide wide_high(wide a)
{
    return _mm256_shuffle_epi32(a, 0xF5);
}

/* Shifts each half by itself, copies of the sign above. */
ALWAYS_INLINE wide wide_halves_right_signed(wide a, int count)
{
    return _mm256_sra_epi32(a, _mm_cvtsi32_si128(count));
}
#endif

#if defined(KERNELS_HAVE_LANES)
/* RS(a, k) of products, 0 <= k <= 62, |a| < 2^62. */
struct rounding {
    wide half;
    int k;
};

ALWAYS_INLINE struct rounding rounding_by(int k)
{
    return (struct rounding){wide_set(k ? INT64_C(1) << (k - 1) : 0), k};
}

/* The low 32 bits of RS of even and odd elements, joined. */
ALWAYS_INLINE lanes round_join(wide even, wide odd, const struct rounding *r)
{
    even = wide_add(even, r->half);
    odd = wide_add(odd, r->half);
    if (r->k <= 32)
        return lanes_blend(wide_right(even, r->k), wide_left(odd, 32 - r->k));
    even = wide_halves_right_signed(even, r->k - 32);
    return lanes_blend(wide_high(even), wide_halves_right_signed(odd, r->k - 32));
}

/* The low 32 bits of RS at the even places, k <= 32. */
ALWAYS_INLINE wide round_low(wide a, const struct rounding *r)
{
    return wide_right(wide_add(a, r->half), r->k);
}

/* RS(a * b, k) of all lanes, low 32 bits. */
ALWAYS_INLINE lanes round_product(lanes a, lanes b, const struct rounding *r)
{
    return round_join(wide_product(a, b), wide_product(lanes_odd(a), lanes_odd(b)), r);
}
#endif

#endif
