/* attend: queries against blocks of 64 positions, then the blocks together. */
#include "exec/cpu/kernels.h"
#include "exec/cpu/kernels_dot.h"

#if defined(__AVX512F__)
enum { LANES = 16 };
#endif
enum { POSITIONS = KERNEL_POSITIONS, POSITION_BLOCKS = POSITIONS / KERNEL_ROWS, MAX_PADDED = KERNEL_MAX_HEAD };

static int64_t round_shift(int64_t a, int k)
{
    return k == 0 ? a : (a + (INT64_C(1) << (k - 1))) >> k;
}

static int64_t score_softcap(const int32_t *A, int64_t z)
{
    int64_t edge = INT64_C(1) << 19, shifted = z + edge;
    if (shifted < 0)
        return A[0];
    if (shifted >= 2 * edge)
        return A[1024];
    int64_t i = shifted >> 10, f = shifted & 1023;
    return A[i] + round_shift(((int64_t)A[i + 1] - A[i]) * f, 10);
}

/* w of a tile's queries at the block's positions, 15 bits: two digits where bytes are multiplied. */
struct query_weights {
#if defined(__AVX512F__) || defined(__ARM_FEATURE_DOTPROD)
    _Alignas(64) uint8_t digits[KERNEL_ROWS][2][POSITIONS]; /* low, high */
#else
    _Alignas(64) int16_t w[KERNEL_ROWS][POSITIONS];
#endif
};

static void clear_weights(struct query_weights *weights, uint32_t r)
{
#if defined(__AVX512F__) || defined(__ARM_FEATURE_DOTPROD)
    memset(weights->digits[r], 0, sizeof weights->digits[r]);
#else
    memset(weights->w[r], 0, sizeof weights->w[r]);
#endif
}

/* Bits begin <= p < end. */
static uint64_t visible_mask(uint32_t begin, uint32_t end)
{
    uint64_t below_end = end >= 64 ? UINT64_MAX : (UINT64_C(1) << end) - 1;
    return begin >= 64 ? 0 : below_end >> begin << begin;
}

/* Positions from which on no query sees any of the block. */
static uint32_t visible_end(const struct attend_block_call *call)
{
    uint32_t end = 0;
    for (uint32_t r = 0; r < call->rows; r++)
        end = call->end[r] > end ? call->end[r] : end;
    return end;
}

/* A block's part in the sums over blocks. */
struct part {
    int64_t f, half, k;
    uint64_t block;
};
enum { PARTS = 64 }; /* taken together at a time */

/* o_i = RS(RS(B_i, d) * R, k); 1 for RANGE. */
static int divide_sums(const int64_t *B, uint32_t size, int d, int64_t R, int k, int32_t *o)
{
    int bad = 0;
    for (uint32_t i = 0; i < size; i++) {
#if defined(__AVX512F__) || defined(KERNELS_HAVE_LANES)
        uint32_t lane = i % LANES, at = i - lane + lane % 2 * (LANES / 2) + lane / 2;
#else
        uint32_t at = i;
#endif
        int64_t value = round_shift(round_shift(B[at], d) * R, k);
        bad |= value >= INT64_C(1) << 31 || value <= -(INT64_C(1) << 31);
        o[i] = (int32_t)(uint32_t)(uint64_t)value;
    }
    return bad;
}

#if defined(__AVX512F__) || defined(KERNELS_HAVE_LANES)
/* |acc| <= 127^2 * size < 2^22: RS(acc * s_q, 22) is at most s_q + 1, and times t_k below 2^(31 + a2) is in bounds. */
static uint32_t bounded_query(const struct attend_shape *shape, uint32_t largest_t)
{
    uint64_t most = largest_t ? ((UINT64_C(1) << 30) << shape->a2) / largest_t : INT32_MAX;
    return most > INT32_MAX - 1 ? INT32_MAX - 1 : most ? (uint32_t)most - 1 : 0;
}
#endif

#if !defined(__AVX512F__) && !defined(__ARM_FEATURE_DOTPROD)
/* Scores to weights of one query: acc[64] -> w[64], Z, K, S. Returns 1 for RANGE. */
static int weigh_scalar(const struct attend_shape *shape, const struct key_block *block, const int32_t *acc, int32_t s_query,
                        uint64_t visible, struct attend_partial *partial, int16_t *w)
{
    int32_t z[POSITIONS], Z = INT32_MIN, K = 0;
    int bad = 0;
    for (int p = 0; p < POSITIONS; p++) {
        if (!(visible >> p & 1))
            continue;
        int64_t score = round_shift(round_shift((int64_t)acc[p] * s_query, 22) * block->t_k[p], shape->a2);
        bad |= score >= INT64_C(1) << 31 || score <= -(INT64_C(1) << 31);
        z[p] = (int32_t)(uint32_t)(uint64_t)score;
        if (shape->cap)
            z[p] = (int32_t)score_softcap(shape->cap, z[p]);
        Z = z[p] > Z ? z[p] : Z;
        K = block->k_v[p] > K ? block->k_v[p] : K;
    }
    uint32_t S = 0;
    for (int p = 0; p < POSITIONS; p++) {
        w[p] = 0;
        if (!(visible >> p & 1))
            continue;
        uint32_t D = (uint32_t)Z - (uint32_t)z[p], octaves = D >> 10;
        uint32_t e = octaves >= 15 ? 0 : shape->exp15[D & 1023] >> octaves;
        S += e;
        w[p] = (int16_t)(e >> (K - block->k_v[p]));
    }
    *partial = (struct attend_partial){.Z = Z, .K = K, .S = S};
    return bad;
}
#endif

#if defined(KERNELS_HAVE_LANES)
#include "exec/cpu/kernels_attend_lanes.h"
#elif defined(__ARM_FEATURE_DOTPROD)
#include "exec/cpu/kernels_neon_attend.h"
#else
/* acc[rows][64] = q8 . k8; zeros where no query sees any of 32 positions. */
static void score_products(const struct attend_block_call *call, int32_t acc[][POSITIONS])
{
    uint32_t end = visible_end(call);
    const struct attend_shape *shape = call->shape;
    _Alignas(64) uint8_t prepared[DOT_ROWS * MAX_PADDED];
    uint32_t groups = shape->padded / 4;
    for (uint32_t first = 0; first < call->rows; first += DOT_ROWS) {
        uint32_t rows = call->rows - first < DOT_ROWS ? call->rows - first : DOT_ROWS;
        for (uint32_t r = 0; r < rows; r++)
            dot_prepare(call->q8 + (first + r) * call->q_stride, shape->padded, prepared + (size_t)r * shape->padded);
#if defined(__AVX512VNNI__)
        for (uint32_t b = 0; b < POSITION_BLOCKS; b += 2) {
            if (b * KERNEL_ROWS >= end) {
                for (uint32_t r = 0; r < rows; r++)
                    memset(&acc[first + r][b * 16], 0, 2 * KERNEL_ROWS * sizeof(int32_t));
                continue;
            }
            const int8_t *keys[2];
            __m512i start[2], sums[DOT_ROWS][2];
            for (uint32_t half = 0; half < 2; half++) {
                keys[half] = call->block->k8 + (size_t)(b + half) * groups * 64;
                start[half] = _mm512_slli_epi32(
                    _mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)(call->block->k_sum + (b + half) * 16))), 7);
                start[half] = _mm512_sub_epi32(_mm512_setzero_si512(), start[half]);
            }
            dot_rows(keys, start, groups, prepared, shape->padded, rows, 2,
                     call->next ? dot_ahead(call->block->k8, call->next->k8) : 0, sums);
            for (uint32_t r = 0; r < rows; r++)
                for (uint32_t half = 0; half < 2; half++)
                    _mm512_store_si512(&acc[first + r][(b + half) * 16], sums[r][half]);
        }
#else
        for (uint32_t b = 0; b < POSITION_BLOCKS; b++) {
            if (b * KERNEL_ROWS >= end) {
                for (uint32_t r = 0; r < rows; r++)
                    memset(&acc[first + r][b * 16], 0, KERNEL_ROWS * sizeof(int32_t));
                continue;
            }
            int32_t sums[DOT_ROWS][KERNEL_ROWS];
            dot_rows(call->block->k8 + (size_t)b * groups * 64, groups, prepared, shape->padded, rows, sums);
            for (uint32_t r = 0; r < rows; r++)
                memcpy(&acc[first + r][b * 16], sums[r], sizeof sums[r]);
        }
#endif
    }
}
#endif

#if defined(KERNELS_HAVE_AMX)
#include "exec/cpu/kernels_amx.h"
enum { AMX_FROM_ROWS = 4 };

/* The same for 16 rows by tiles, which kernels' attend_begin has configured. */
static void score_tiles(const struct attend_block_call *call, int32_t acc[][POSITIONS])
{
    const struct attend_shape *shape = call->shape;
    const int8_t *k8 = call->block->k8;
    size_t block_bytes = (size_t)shape->padded * KERNEL_ROWS;
    amx_zero(0);
    amx_zero(1);
    amx_zero(2);
    amx_zero(3);
    for (uint32_t k = 0; k < shape->padded / 64; k++) {
        const int8_t *keys = k8 + (size_t)k * 1024;
        amx_load(4, call->q8 + k * 64, call->q_stride);
        amx_load(6, keys, 64);
        amx_load(7, keys + block_bytes, 64);
        amx_multiply(0, 4, 6);
        amx_multiply(1, 4, 7);
        amx_load(6, keys + 2 * block_bytes, 64);
        amx_load(7, keys + 3 * block_bytes, 64);
        amx_multiply(2, 4, 6);
        amx_multiply(3, 4, 7);
    }
    enum { STRIDE = POSITIONS * sizeof(int32_t) };
    amx_store(0, acc[0], STRIDE);
    amx_store(1, acc[0] + 16, STRIDE);
    amx_store(2, acc[0] + 32, STRIDE);
    amx_store(3, acc[0] + 48, STRIDE);
}

/* O by tiles: the two digits of w, unsigned, times v8. */
static void value_tiles(const struct attend_block_call *call, const struct query_weights *weights)
{
    _Alignas(64) int32_t sums[4][KERNEL_ROWS][KERNEL_ROWS]; /* low, high of two blocks of dimensions */
    amx_load(4, weights->digits[0][0], sizeof weights->digits[0]);
    amx_load(5, weights->digits[0][1], sizeof weights->digits[0]);
    for (uint32_t i = 0; i < call->shape->padded; i += 2 * KERNEL_ROWS) {
        const int8_t *values = call->block->v8 + (size_t)i * POSITIONS;
        amx_zero(0);
        amx_zero(1);
        amx_zero(2);
        amx_zero(3);
        amx_load(6, values, 64);
        amx_load(7, values + 1024, 64);
        amx_multiply_unsigned(0, 4, 6);
        amx_multiply_unsigned(1, 5, 6);
        amx_multiply_unsigned(2, 4, 7);
        amx_multiply_unsigned(3, 5, 7);
        amx_store(0, sums[0], 64);
        amx_store(1, sums[1], 64);
        amx_store(2, sums[2], 64);
        amx_store(3, sums[3], 64);
        for (uint32_t r = 0; r < call->rows; r++) {
            int32_t *O = call->O + r * call->O_stride + i;
            _mm512_storeu_si512(O, _mm512_add_epi32(_mm512_load_si512(sums[0][r]),
                                                    _mm512_slli_epi32(_mm512_load_si512(sums[1][r]), 8)));
            _mm512_storeu_si512(O + KERNEL_ROWS, _mm512_add_epi32(_mm512_load_si512(sums[2][r]),
                                                                  _mm512_slli_epi32(_mm512_load_si512(sums[3][r]), 8)));
        }
    }
}
#endif

#if defined(__AVX512F__)
/* Scores to weights of one query: acc[64] -> w in two digits, Z, K, S. Returns 1 for RANGE. */
/* EXP15's mantissas as products of 2^-(a/32) * (2^15 - 1) and 2^-(b/1024), i = 32 * a +
 * b, in single precision: rounded to nearest, each of the 1,024 is the table's
 * (tests/test_cpu_operations.c compares them all). */
static const float exp_coarse[32] = {
    0x1.fffc00p+14f, 0x1.f5037cp+14f, 0x1.ea4726p+14f, 0x1.dfc5b4p+14f, 0x1.d57de2p+14f, 0x1.cb6e76p+14f,
    0x1.c1963ap+14f, 0x1.b7f400p+14f, 0x1.ae869cp+14f, 0x1.a54cf0p+14f, 0x1.9c45e0p+14f, 0x1.937054p+14f,
    0x1.8acb3ep+14f, 0x1.825594p+14f, 0x1.7a0e54p+14f, 0x1.71f47ap+14f, 0x1.6a0712p+14f, 0x1.624526p+14f,
    0x1.5aadc8p+14f, 0x1.53400ep+14f, 0x1.4bfb16p+14f, 0x1.44ddfcp+14f, 0x1.3de7e8p+14f, 0x1.371806p+14f,
    0x1.306d80p+14f, 0x1.29e78cp+14f, 0x1.238560p+14f, 0x1.1d4638p+14f, 0x1.172956p+14f, 0x1.112dfap+14f,
    0x1.0b5370p+14f, 0x1.059902p+14f,
};
static const float exp_fine[32] = {
    0x1.000000p+0f, 0x1.ffa74ep-1f, 0x1.ff4eacp-1f, 0x1.fef61ap-1f, 0x1.fe9d96p-1f, 0x1.fe4522p-1f, 0x1.fdecbep-1f,
    0x1.fd9468p-1f, 0x1.fd3c22p-1f, 0x1.fce3ecp-1f, 0x1.fc8bc4p-1f, 0x1.fc33acp-1f, 0x1.fbdba4p-1f, 0x1.fb83aap-1f,
    0x1.fb2bc0p-1f, 0x1.fad3e4p-1f, 0x1.fa7c18p-1f, 0x1.fa245cp-1f, 0x1.f9ccaep-1f, 0x1.f97510p-1f, 0x1.f91d80p-1f,
    0x1.f8c600p-1f, 0x1.f86e90p-1f, 0x1.f8172ep-1f, 0x1.f7bfdap-1f, 0x1.f76898p-1f, 0x1.f71164p-1f, 0x1.f6ba3ep-1f,
    0x1.f66328p-1f, 0x1.f60c20p-1f, 0x1.f5b528p-1f, 0x1.f55e40p-1f,
};

ALWAYS_INLINE __m512i exp15(__m512i D, const __m512 tables[4])
{
    enum { NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC };
    __m512 coarse = _mm512_permutex2var_ps(tables[0], _mm512_srli_epi32(D, 5), tables[1]);
    __m512 fine = _mm512_permutex2var_ps(tables[2], D, tables[3]);
    __m512i mantissa = _mm512_cvt_roundps_epi32(_mm512_mul_round_ps(coarse, fine, NEAREST), NEAREST);
    return _mm512_srlv_epi32(mantissa, _mm512_srli_epi32(D, 10));
}

/* What all queries need of a block. */
struct weighing {
    const struct attend_shape *shape;
    __m512i t_even[POSITION_BLOCKS], t_odd[POSITION_BLOCKS], k_v[POSITION_BLOCKS];
    __m512i half2, a2;
    __m512i k_shift[POSITION_BLOCKS]; /* largest_k - k_v */
    __m512 tables[4];
    int32_t largest_k;
    uint32_t bounded_s; /* up to this s_q no score can leave its bound, whatever the products are */
};

ALWAYS_INLINE void weighing_begin(struct weighing *w, const struct attend_shape *shape, const struct key_block *block)
{
    __m512i most = _mm512_setzero_si512(), k_most = most;
    for (int b = 0; b < POSITION_BLOCKS; b++) {
        w->t_even[b] = _mm512_loadu_si512(block->t_k + 16 * b);
        w->t_odd[b] = _mm512_srli_epi64(w->t_even[b], 32);
        w->k_v[b] = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(block->k_v + 16 * b)));
        most = _mm512_max_epi32(most, w->t_even[b]);
        k_most = _mm512_max_epi32(k_most, w->k_v[b]);
    }
    w->largest_k = _mm512_reduce_max_epi32(k_most);
    for (int b = 0; b < POSITION_BLOCKS; b++)
        w->k_shift[b] = _mm512_sub_epi32(_mm512_set1_epi32(w->largest_k), w->k_v[b]);
    w->shape = shape;
    w->half2 = _mm512_set1_epi64(shape->a2 ? INT64_C(1) << (shape->a2 - 1) : 0);
    w->a2 = _mm512_set1_epi64(shape->a2);
    w->tables[0] = _mm512_loadu_ps(exp_coarse);
    w->tables[1] = _mm512_loadu_ps(exp_coarse + 16);
    w->tables[2] = _mm512_loadu_ps(exp_fine);
    w->tables[3] = _mm512_loadu_ps(exp_fine + 16);
    w->bounded_s = bounded_query(shape, (uint32_t)_mm512_reduce_max_epi32(most));
}

ALWAYS_INLINE __m512i score_halves(__m512i acc, __m512i s_q, __m512i t_k, const struct weighing *w)
{
    const __m512i half1 = _mm512_set1_epi64(1 << 21);
    __m512i z = _mm512_srai_epi64(_mm512_add_epi64(_mm512_mul_epi32(acc, s_q), half1), 22);
    return _mm512_srav_epi64(_mm512_add_epi64(_mm512_mul_epi32(z, t_k), w->half2), w->a2);
}

/* Lanes of visible positions whose score leaves its bound. */
static int scores_outside(__m512i even, __m512i odd, __mmask16 visible)
{
    const __m512i least = _mm512_set1_epi64(-(INT64_C(1) << 31)), most = _mm512_set1_epi64(INT64_C(1) << 31);
    uint32_t out_even = _mm512_cmple_epi64_mask(even, least) | _mm512_cmpge_epi64_mask(even, most);
    uint32_t out_odd = _mm512_cmple_epi64_mask(odd, least) | _mm512_cmpge_epi64_mask(odd, most);
    for (int i = 0; i < 8 && (out_even | out_odd); i++)
        if ((out_even >> i & (uint32_t)visible >> (2 * i) & 1) || (out_odd >> i & (uint32_t)visible >> (2 * i + 1) & 1))
            return 1;
    return 0;
}

static __m512i softcap_vector(const int32_t *cap, __m512i z)
{
    int32_t scores[KERNEL_ROWS];
    _mm512_storeu_si512(scores, z);
    for (int i = 0; i < KERNEL_ROWS; i++)
        scores[i] = (int32_t)score_softcap(cap, scores[i]);
    return _mm512_loadu_si512(scores);
}

/* `simple`: all 64 positions are visible, no score can leave its bound and there is no softcap. */
ALWAYS_INLINE int weigh_vectors(const struct weighing *w, const int32_t *acc, int32_t s_query, uint64_t visible,
                                struct attend_partial *partial, uint8_t *low, uint8_t *high, const int simple)
{
    __m512i s_q = _mm512_set1_epi64(s_query), z[POSITION_BLOCKS], e[POSITION_BLOCKS], shift[POSITION_BLOCKS];
    __m512i top = _mm512_set1_epi32(INT32_MIN), k_top = _mm512_setzero_si512(), sum = _mm512_setzero_si512();
    __mmask16 mask[POSITION_BLOCKS];
    int32_t K = w->largest_k;
    int bad = 0;
#pragma GCC unroll 4
    for (int b = 0; b < POSITION_BLOCKS; b++) {
        __m512i sums = _mm512_load_si512(acc + 16 * b);
        __m512i even = score_halves(sums, s_q, w->t_even[b], w);
        __m512i odd = score_halves(_mm512_srli_epi64(sums, 32), s_q, w->t_odd[b], w);
        z[b] = _mm512_mask_shuffle_epi32(even, 0xAAAA, odd, _MM_PERM_CCAA);
        if (simple) {
            top = _mm512_max_epi32(top, z[b]);
            continue;
        }
        mask[b] = (__mmask16)(visible >> (16 * b));
        bad |= scores_outside(even, odd, mask[b]);
        if (w->shape->cap)
            z[b] = softcap_vector(w->shape->cap, z[b]);
        top = _mm512_mask_max_epi32(top, mask[b], top, z[b]);
        k_top = _mm512_mask_max_epi32(k_top, mask[b], k_top, w->k_v[b]);
    }
    int32_t Z = _mm512_reduce_max_epi32(top);
    if (!simple)
        K = _mm512_reduce_max_epi32(k_top);
#pragma GCC unroll 4
    for (int b = 0; b < POSITION_BLOCKS; b++) {
        e[b] = exp15(_mm512_sub_epi32(_mm512_set1_epi32(Z), z[b]), w->tables);
        if (!simple)
            e[b] = _mm512_maskz_mov_epi32(mask[b], e[b]);
        sum = _mm512_add_epi32(sum, e[b]);
        shift[b] = simple ? w->k_shift[b] : _mm512_sub_epi32(_mm512_set1_epi32(K), w->k_v[b]);
        e[b] = _mm512_srlv_epi32(e[b], shift[b]);
    }
    /* Packing works within 128 bits: the last permutation puts the positions in order. */
    const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    const __m512i low_byte = _mm512_set1_epi16(255);
    __m512i w01 = _mm512_packus_epi32(e[0], e[1]), w23 = _mm512_packus_epi32(e[2], e[3]);
    __m512i lows = _mm512_packus_epi16(_mm512_and_si512(w01, low_byte), _mm512_and_si512(w23, low_byte));
    __m512i highs = _mm512_packus_epi16(_mm512_srli_epi16(w01, 8), _mm512_srli_epi16(w23, 8));
    _mm512_store_si512(low, _mm512_permutexvar_epi32(order, lows));
    _mm512_store_si512(high, _mm512_permutexvar_epi32(order, highs));
    *partial = (struct attend_partial){.Z = Z, .K = K, .S = (uint32_t)_mm512_reduce_add_epi32(sum)};
    return bad;
}

static int weigh(const struct weighing *w, const int32_t *acc, int32_t s_query, uint64_t visible,
                 struct attend_partial *partial, struct query_weights *weights, uint32_t r)
{
    uint8_t *low = weights->digits[r][0], *high = weights->digits[r][1];
    /* s_q is not negative unless RANGE was raised before. */
    if (visible == UINT64_MAX && !w->shape->cap && (uint32_t)s_query <= w->bounded_s)
        return weigh_vectors(w, acc, s_query, visible, partial, low, high, 1);
    return weigh_vectors(w, acc, s_query, visible, partial, low, high, 0);
}
#elif !defined(KERNELS_HAVE_LANES) && !defined(__ARM_FEATURE_DOTPROD)
struct weighing {
    const struct attend_shape *shape;
    const struct key_block *block;
};

static void weighing_begin(struct weighing *w, const struct attend_shape *shape, const struct key_block *block)
{
    *w = (struct weighing){shape, block};
}

static int weigh(const struct weighing *w, const int32_t *acc, int32_t s_query, uint64_t visible,
                 struct attend_partial *partial, struct query_weights *weights, uint32_t r)
{
    return weigh_scalar(w->shape, w->block, acc, s_query, visible, partial, weights->w[r]);
}
#endif

/* O[i] = sum of w * v8 over the block's positions. */
#if defined(__AVX512VNNI__)
/* Constant `queries`, each two rows of digits. */
ALWAYS_INLINE void weighted_values_of(const struct attend_block_call *call, uint32_t first, const int queries,
                                      uint32_t groups, const struct query_weights *weights)
{
    const __m512i start[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    for (uint32_t i = 0; i < call->shape->padded; i += 2 * KERNEL_ROWS) {
        const int8_t *values = call->block->v8 + (size_t)i * POSITIONS;
        const int8_t *const both[2] = {values, values + (size_t)KERNEL_ROWS * POSITIONS};
        int32_t *O = call->O + first * call->O_stride + i;
        __m512i sums[DOT_ROWS][2];
        dot_tile(both, start, groups, weights->digits[first][0], POSITIONS, 2 * queries, 2,
                 call->next ? dot_ahead(call->block->v8, call->next->v8) : 0, sums);
#pragma GCC unroll 4
        for (int r = 0; r < queries; r++, O += call->O_stride)
            for (int b = 0; b < 2; b++)
                _mm512_storeu_si512(O + b * KERNEL_ROWS,
                                    _mm512_add_epi32(sums[2 * r][b], _mm512_slli_epi32(sums[2 * r + 1][b], 8)));
    }
}

static void weighted_values(const struct attend_block_call *call, const struct query_weights *weights)
{
    uint32_t first = 0, groups = (visible_end(call) + 3) / 4;
    for (; call->rows - first >= 4; first += 4)
        weighted_values_of(call, first, 4, groups, weights);
    if (call->rows - first == 3)
        weighted_values_of(call, first, 3, groups, weights);
    else if (call->rows - first == 2)
        weighted_values_of(call, first, 2, groups, weights);
    else if (call->rows - first == 1)
        weighted_values_of(call, first, 1, groups, weights);
}
#elif !defined(KERNELS_HAVE_LANES) && !defined(__ARM_FEATURE_DOTPROD)
static void weighted_values(const struct attend_block_call *call, const struct query_weights *weights)
{
    for (uint32_t r = 0; r < call->rows; r++) {
        const int16_t *w = weights->w[r];
        for (uint32_t i = 0; i < call->shape->size; i += KERNEL_ROWS) {
            const int8_t *values = call->block->v8 + (size_t)i * POSITIONS;
            int32_t sums[KERNEL_ROWS] = {0};
            for (int g = 0; g < POSITIONS / 4; g++, values += 64)
                for (int j = 0; j < KERNEL_ROWS; j++)
                    sums[j] += w[4 * g] * values[4 * j] + w[4 * g + 1] * values[4 * j + 1] +
                               w[4 * g + 2] * values[4 * j + 2] + w[4 * g + 3] * values[4 * j + 3];
            memcpy(call->O + r * call->O_stride + i, sums, sizeof sums);
        }
    }
}
#endif

static void block_products(const struct attend_block_call *call, int32_t acc[][POSITIONS])
{
#if defined(KERNELS_HAVE_AMX)
    if (call->rows >= AMX_FROM_ROWS) {
        score_tiles(call, acc);
        return;
    }
#endif
    score_products(call, acc);
}

static void block_values(const struct attend_block_call *call, const struct query_weights *weights)
{
#if defined(KERNELS_HAVE_AMX)
    if (call->rows >= AMX_FROM_ROWS) {
        value_tiles(call, weights);
        return;
    }
#endif
    weighted_values(call, weights);
}

/* Asks for a block's positions from `first` (a multiple of 16) on to come into the second-level cache. Inlined always: gcc
 * takes a function that only asks for something like this for one that does nothing. */
ALWAYS_INLINE void key_block_fetch(const struct key_block *block, const struct attend_shape *shape, uint32_t first)
{
    for (size_t i = (size_t)first * shape->padded; i < (size_t)KERNEL_POSITIONS * shape->padded; i += 64)
        __builtin_prefetch(block->k8 + i, 0, 2);
    for (size_t dimension = 0; dimension < shape->size; dimension += KERNEL_ROWS)
        for (size_t i = (size_t)first * KERNEL_ROWS; i < KERNEL_POSITIONS * KERNEL_ROWS; i += 64)
            __builtin_prefetch(block->v8 + dimension * KERNEL_POSITIONS + i, 0, 2);
    for (size_t i = 0; i < KERNEL_POSITIONS * sizeof(int32_t); i += 64)
        __builtin_prefetch((const int8_t *)block->t_k + i, 0, 2);
    __builtin_prefetch(block->k_sum, 0, 2);
    __builtin_prefetch(block->k_sum + 32, 0, 2);
    __builtin_prefetch(block->k_v, 0, 2);
}

/* Positions of the next block that the products fetch, a line for each of their own; a multiple of 16. */
static uint32_t fetched_positions(const struct attend_block_call *call)
{
#if defined(KERNELS_HAVE_AMX)
    if (call->rows >= AMX_FROM_ROWS)
        return 0;
#endif
#if defined(__AVX512VNNI__)
    return visible_end(call) / KERNEL_ROWS * KERNEL_ROWS;
#else
    return 0;
#endif
}

void KERNEL(attend_block)(const struct attend_block_call *call)
{
    _Alignas(64) int32_t acc[KERNEL_ROWS][POSITIONS];
    struct query_weights weights;
    struct weighing weighing;
    if (call->next)
        key_block_fetch(call->next, call->shape, fetched_positions(call));
    weighing_begin(&weighing, call->shape, call->block);
    block_products(call, acc);
    for (uint32_t r = 0; r < call->rows; r++) {
        struct attend_partial *partial = &call->partial[r * call->partial_stride];
        uint64_t visible = visible_mask(call->begin[r], call->end[r]);
        if (visible == 0) {
            *partial = (struct attend_partial){.Z = INT32_MIN, .K = -1};
            clear_weights(&weights, r);
        } else if (weigh(&weighing, acc[r], call->s_q[r], visible, partial, &weights, r))
            kernel_mark_range(call->range[r], call->operation);
    }
    block_values(call, &weights);
}

void KERNEL(attend_begin)(void)
{
#if defined(KERNELS_HAVE_AMX)
    amx_configure(AMX_ROWS, AMX_ROWS);
#endif
}

void KERNEL(attend_end)(void)
{
#if defined(KERNELS_HAVE_AMX)
    amx_release();
#endif
}

/* B_i += RS(O_j,i * f_j, 15 + K - K_j) over the parts. */
static void add_parts(const struct part *parts, uint32_t count, const int32_t *O, uint32_t padded, uint32_t size, int64_t *B)
{
#if defined(__AVX512F__)
    /* Even and odd elements of each 16 apart: B is in that order until attend_combine undoes it. */
    for (uint32_t i = 0; i < size; i += KERNEL_ROWS) {
        __m512i even = _mm512_loadu_si512(B + i), odd = _mm512_loadu_si512(B + i + 8);
        for (uint32_t j = 0; j < count; j++) {
            __m512i values = _mm512_loadu_si512(O + parts[j].block * padded + i), f = _mm512_set1_epi64(parts[j].f);
            __m512i half = _mm512_set1_epi64(parts[j].half), k = _mm512_set1_epi64(parts[j].k);
            __m512i first = _mm512_mul_epi32(values, f), second = _mm512_mul_epi32(_mm512_srli_epi64(values, 32), f);
            even = _mm512_add_epi64(even, _mm512_srav_epi64(_mm512_add_epi64(first, half), k));
            odd = _mm512_add_epi64(odd, _mm512_srav_epi64(_mm512_add_epi64(second, half), k));
        }
        _mm512_storeu_si512(B + i, even);
        _mm512_storeu_si512(B + i + 8, odd);
    }
#elif defined(KERNELS_HAVE_LANES)
    add_parts_lanes(parts, count, O, padded, size, B);
#elif defined(__ARM_FEATURE_DOTPROD)
    add_parts_vectors(parts, count, O, padded, size, B);
#else
    for (uint32_t j = 0; j < count; j++)
        for (uint32_t i = 0; i < size; i++)
            B[i] += ((int64_t)O[parts[j].block * padded + i] * parts[j].f + parts[j].half) >> parts[j].k;
#endif
}

#if defined(__AVX512F__)
/* The same for whole vectors. */
static int divide_vectors(const int64_t *B, uint32_t size, int down, int64_t reciprocal, int k, int32_t *o)
{
    const __m512i least = _mm512_set1_epi64(-(INT64_C(1) << 31)), most = _mm512_set1_epi64(INT64_C(1) << 31);
    __m512i R = _mm512_set1_epi64(reciprocal), half_d = _mm512_set1_epi64(down ? INT64_C(1) << (down - 1) : 0);
    __m512i half_k = _mm512_set1_epi64(INT64_C(1) << (k - 1));
    __m512i d = _mm512_set1_epi64(down), shift = _mm512_set1_epi64(k);
    __mmask8 bad = 0;
    for (uint32_t i = 0; i < size; i += KERNEL_ROWS) {
        __m512i half[2];
        for (int h = 0; h < 2; h++) {
            __m512i value = _mm512_srav_epi64(_mm512_add_epi64(_mm512_loadu_si512(B + i + 8 * h), half_d), d);
            half[h] = _mm512_srav_epi64(_mm512_add_epi64(_mm512_mullo_epi64(value, R), half_k), shift);
            bad |= _mm512_cmple_epi64_mask(half[h], least) | _mm512_cmpge_epi64_mask(half[h], most);
        }
        _mm512_storeu_si512(o + i, _mm512_mask_shuffle_epi32(half[0], 0xAAAA, half[1], _MM_PERM_CCAA));
    }
    return bad != 0;
}
#endif

int KERNEL(attend_combine)(const struct attend_combine_call *call)
{
    uint32_t size = call->shape->size, whole = (size + KERNEL_ROWS - 1) / KERNEL_ROWS * KERNEL_ROWS, count = 0;
    int64_t B[KERNEL_MAX_HEAD], S = 0;
    int32_t Z = INT32_MIN, K = 0;
    struct part parts[PARTS];
    memset(B, 0, whole * sizeof *B);
    parts[0] = (struct part){0};
    for (uint64_t j = 0; j < call->blocks; j++)
        if (call->partial[j].K >= 0) {
            Z = call->partial[j].Z > Z ? call->partial[j].Z : Z;
            K = call->partial[j].K > K ? call->partial[j].K : K;
        }
    for (uint64_t j = 0; j < call->blocks; j++) {
        const struct attend_partial *partial = &call->partial[j];
        uint32_t D = (uint32_t)Z - (uint32_t)partial->Z, octaves = D >> 10;
        if (partial->K < 0 || octaves >= 31)
            continue;
        int64_t f = (int64_t)(call->shape->exp31[D & 1023] >> octaves);
        int k = 15 + K - partial->K;
        S += round_shift((int64_t)partial->S * f, 15);
        parts[count++] = (struct part){f, INT64_C(1) << (k - 1), k, j};
        if (count == PARTS) {
            add_parts(parts, count, call->O, call->shape->padded, size, B);
            count = 0;
        }
    }
    add_parts(parts, count, call->O, call->shape->padded, size, B);
    int d = S >> 32 ? 32 - __builtin_clz((uint32_t)(S >> 32)) : 0;
    int64_t R = (int64_t)((UINT64_C(1) << 55) / ((uint64_t)S >> d));
#if defined(__AVX512F__) || defined(KERNELS_HAVE_LANES)
    if (size == whole)
        return divide_vectors(B, size, d, R, 53 - K, call->o);
#endif
    return divide_sums(B, size, d, R, 53 - K, call->o);
}
