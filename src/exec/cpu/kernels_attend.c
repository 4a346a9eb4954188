/* attend: queries against blocks of 64 positions, then the blocks together. */
#include "exec/cpu/kernels.h"
#include "exec/cpu/kernels_dot.h"

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

/* Bits begin <= p < end. */
static uint64_t visible_mask(uint32_t begin, uint32_t end)
{
    uint64_t below_end = end >= 64 ? UINT64_MAX : (UINT64_C(1) << end) - 1;
    return begin >= 64 ? 0 : below_end >> begin << begin;
}

/* acc[rows][64] = q8 . k8 */
static void score_products(const struct attend_block_call *call, int32_t acc[][POSITIONS])
{
    const struct attend_shape *shape = call->shape;
    _Alignas(64) uint8_t prepared[DOT_ROWS * MAX_PADDED];
    uint32_t groups = shape->padded / 4;
    for (uint32_t first = 0; first < call->rows; first += DOT_ROWS) {
        uint32_t rows = call->rows - first < DOT_ROWS ? call->rows - first : DOT_ROWS;
        for (uint32_t r = 0; r < rows; r++)
            dot_prepare(call->q8 + (first + r) * call->q_stride, shape->padded, prepared + (size_t)r * shape->padded);
#if defined(__AVX512VNNI__)
        for (uint32_t b = 0; b < POSITION_BLOCKS; b += 2) {
            const int8_t *keys[2];
            __m512i start[2], sums[DOT_ROWS][2];
            for (uint32_t half = 0; half < 2; half++) {
                keys[half] = call->block->k8 + (size_t)(b + half) * groups * 64;
                start[half] = _mm512_slli_epi32(
                    _mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)(call->block->k_sum + (b + half) * 16))), 7);
                start[half] = _mm512_sub_epi32(_mm512_setzero_si512(), start[half]);
            }
            dot_rows(keys, start, groups, prepared, shape->padded, rows, 2, sums);
            for (uint32_t r = 0; r < rows; r++)
                for (uint32_t half = 0; half < 2; half++)
                    _mm512_store_si512(&acc[first + r][(b + half) * 16], sums[r][half]);
        }
#else
        for (uint32_t b = 0; b < POSITION_BLOCKS; b++) {
            int32_t sums[DOT_ROWS][KERNEL_ROWS];
            dot_rows(call->block->k8 + (size_t)b * groups * 64, groups, prepared, shape->padded, rows, sums);
            for (uint32_t r = 0; r < rows; r++)
                memcpy(&acc[first + r][b * 16], sums[r], sizeof sums[r]);
        }
#endif
    }
}

/* Scores to weights of one query: acc[64] -> w in two digits, Z, K, S. Returns 1 for RANGE. */
#if defined(__AVX512F__)
ALWAYS_INLINE __m512i score_halves(__m512i acc, __m512i s_q, __m512i t_k, __m512i half2, __m128i a2)
{
    const __m512i half1 = _mm512_set1_epi64(1 << 21);
    __m512i z = _mm512_srai_epi64(_mm512_add_epi64(_mm512_mul_epi32(acc, s_q), half1), 22);
    return _mm512_sra_epi64(_mm512_add_epi64(_mm512_mul_epi32(z, t_k), half2), a2);
}

static int weigh(const struct attend_shape *shape, const struct key_block *block, const int32_t *acc, int32_t s_query,
                 uint64_t visible, struct attend_partial *partial, uint8_t *low, uint8_t *high)
{
    const __m512i least = _mm512_set1_epi64(-(INT64_C(1) << 31)), most = _mm512_set1_epi64(INT64_C(1) << 31);
    __m512i half2 = _mm512_set1_epi64(shape->a2 ? INT64_C(1) << (shape->a2 - 1) : 0);
    __m512i s_q = _mm512_set1_epi64(s_query), z[POSITION_BLOCKS];
    __m128i a2 = _mm_cvtsi32_si128(shape->a2);
    __m512i top = _mm512_set1_epi32(INT32_MIN);
    uint32_t bad = 0;
    for (int b = 0; b < POSITION_BLOCKS; b++) {
        __mmask16 mask = (__mmask16)(visible >> (16 * b));
        __m512i sums = _mm512_load_si512(acc + 16 * b), t_k = _mm512_loadu_si512(block->t_k + 16 * b);
        __m512i even = score_halves(sums, s_q, t_k, half2, a2);
        __m512i odd = score_halves(_mm512_srli_epi64(sums, 32), s_q, _mm512_srli_epi64(t_k, 32), half2, a2);
        __mmask16 out_even = _mm512_cmple_epi64_mask(even, least) | _mm512_cmpge_epi64_mask(even, most);
        __mmask16 out_odd = _mm512_cmple_epi64_mask(odd, least) | _mm512_cmpge_epi64_mask(odd, most);
        if (out_even | out_odd)
            for (int i = 0; i < 8; i++)
                bad |= (((uint32_t)out_even >> i & 1) & ((uint32_t)mask >> (2 * i) & 1)) |
                       (((uint32_t)out_odd >> i & 1) & ((uint32_t)mask >> (2 * i + 1) & 1));
        z[b] = _mm512_mask_shuffle_epi32(even, 0xAAAA, odd, _MM_PERM_CCAA);
        if (shape->cap) {
            int32_t scores[KERNEL_ROWS];
            _mm512_storeu_si512(scores, z[b]);
            for (int i = 0; i < KERNEL_ROWS; i++)
                scores[i] = (int32_t)score_softcap(shape->cap, scores[i]);
            z[b] = _mm512_loadu_si512(scores);
        }
        top = _mm512_mask_max_epi32(top, mask, top, z[b]);
    }
    int32_t Z = _mm512_reduce_max_epi32(top);
    __m512i k_top = _mm512_setzero_si512(), k_v[POSITION_BLOCKS];
    for (int b = 0; b < POSITION_BLOCKS; b++) {
        k_v[b] = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(block->k_v + 16 * b)));
        k_top = _mm512_mask_max_epi32(k_top, (__mmask16)(visible >> (16 * b)), k_top, k_v[b]);
    }
    int32_t K = _mm512_reduce_max_epi32(k_top);
    __m512i sum = _mm512_setzero_si512();
    for (int b = 0; b < POSITION_BLOCKS; b++) {
        __mmask16 mask = (__mmask16)(visible >> (16 * b));
        __m512i D = _mm512_sub_epi32(_mm512_set1_epi32(Z), z[b]);
        __m512i mantissa = _mm512_i32gather_epi32(_mm512_and_si512(D, _mm512_set1_epi32(1023)), shape->exp15, 4);
        __m512i e = _mm512_maskz_srlv_epi32(mask, mantissa, _mm512_srli_epi32(D, 10));
        sum = _mm512_add_epi32(sum, e);
        __m512i w = _mm512_srlv_epi32(e, _mm512_sub_epi32(_mm512_set1_epi32(K), k_v[b]));
        _mm_storeu_si128((__m128i *)(low + 16 * b), _mm512_cvtepi32_epi8(w));
        _mm_storeu_si128((__m128i *)(high + 16 * b), _mm512_cvtepi32_epi8(_mm512_srli_epi32(w, 8)));
    }
    *partial = (struct attend_partial){.Z = Z, .K = K, .S = (uint32_t)_mm512_reduce_add_epi32(sum)};
    return bad != 0;
}
#else
static int weigh(const struct attend_shape *shape, const struct key_block *block, const int32_t *acc, int32_t s_query,
                 uint64_t visible, struct attend_partial *partial, uint8_t *low, uint8_t *high)
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
        uint32_t w = 0;
        if (visible >> p & 1) {
            uint32_t D = (uint32_t)Z - (uint32_t)z[p], octaves = D >> 10;
            uint32_t e = octaves >= 15 ? 0 : shape->exp15[D & 1023] >> octaves;
            S += e;
            w = e >> (K - block->k_v[p]);
        }
        low[p] = (uint8_t)w;
        high[p] = (uint8_t)(w >> 8);
    }
    *partial = (struct attend_partial){.Z = Z, .K = K, .S = S};
    return bad;
}
#endif

/* O[i] = sum of w * v8 over the block's positions; `low` and `high` are w's bytes. */
#if defined(__AVX512VNNI__)
ALWAYS_INLINE void weighted_values_rows(const struct attend_block_call *call, uint32_t first, const int rows,
                                        uint8_t low[][POSITIONS], uint8_t high[][POSITIONS])
{
    for (uint32_t i = 0; i < call->shape->size; i += KERNEL_ROWS) {
        const int8_t *values = call->block->v8 + (size_t)i * POSITIONS;
        __m512i sum_low[4], sum_high[4];
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++)
            sum_low[r] = sum_high[r] = _mm512_setzero_si512();
        for (int g = 0; g < POSITIONS / 4; g++) {
            __m512i v = _mm512_load_si512(values + g * 64);
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++) {
                sum_low[r] = _mm512_dpbusd_epi32(sum_low[r], dot_broadcast(low[first + r] + 4 * g), v);
                sum_high[r] = _mm512_dpbusd_epi32(sum_high[r], dot_broadcast(high[first + r] + 4 * g), v);
            }
        }
        for (int r = 0; r < rows; r++)
            _mm512_storeu_si512(call->O + (first + r) * call->O_stride + i,
                                _mm512_add_epi32(sum_low[r], _mm512_slli_epi32(sum_high[r], 8)));
    }
}

static void weighted_values(const struct attend_block_call *call, uint8_t low[][POSITIONS], uint8_t high[][POSITIONS])
{
    uint32_t first = 0;
    for (; call->rows - first >= 4; first += 4)
        weighted_values_rows(call, first, 4, low, high);
    if (call->rows - first == 3)
        weighted_values_rows(call, first, 3, low, high);
    else if (call->rows - first == 2)
        weighted_values_rows(call, first, 2, low, high);
    else if (call->rows - first == 1)
        weighted_values_rows(call, first, 1, low, high);
}
#else
static void weighted_values(const struct attend_block_call *call, uint8_t low[][POSITIONS], uint8_t high[][POSITIONS])
{
    for (uint32_t r = 0; r < call->rows; r++) {
        int16_t w[POSITIONS];
        for (int p = 0; p < POSITIONS; p++)
            w[p] = (int16_t)(low[r][p] | high[r][p] << 8);
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

void KERNEL(attend_block)(const struct attend_block_call *call)
{
    _Alignas(64) int32_t acc[KERNEL_ROWS][POSITIONS];
    _Alignas(64) uint8_t low[KERNEL_ROWS][POSITIONS], high[KERNEL_ROWS][POSITIONS];
    score_products(call, acc);
    for (uint32_t r = 0; r < call->rows; r++) {
        struct attend_partial *partial = &call->partial[r * call->partial_stride];
        uint64_t visible = visible_mask(call->begin[r], call->end[r]);
        if (visible == 0) {
            *partial = (struct attend_partial){.Z = INT32_MIN, .K = -1};
            memset(low[r], 0, POSITIONS);
            memset(high[r], 0, POSITIONS);
        } else if (weigh(call->shape, call->block, acc[r], call->s_q[r], visible, partial, low[r], high[r]))
            kernel_mark_range(call->range[r], call->operation);
    }
    weighted_values(call, low, high);
}

int KERNEL(attend_combine)(const struct attend_combine_call *call)
{
    uint32_t size = call->shape->size, padded = call->shape->padded;
    int64_t B[KERNEL_MAX_HEAD] = {0}, S = 0;
    int32_t Z = INT32_MIN, K = 0;
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
        int32_t f = (int32_t)(call->shape->exp31[D & 1023] >> octaves);
        S += round_shift((int64_t)partial->S * f, 15);
        int k = 15 + K - partial->K;
        int64_t half = INT64_C(1) << (k - 1);
        const int32_t *O = call->O + j * padded;
        for (uint32_t i = 0; i < size; i++)
            B[i] += ((int64_t)O[i] * f + half) >> k;
    }
    int d = S >> 32 ? 32 - __builtin_clz((uint32_t)(S >> 32)) : 0;
    int64_t R = (int64_t)((UINT64_C(1) << 55) / ((uint64_t)S >> d));
    int bad = 0;
    for (uint32_t i = 0; i < size; i++) {
        int64_t o = round_shift(round_shift(B[i], d) * R, 53 - K);
        bad |= o >= INT64_C(1) << 31 || o <= -(INT64_C(1) << 31);
        call->o[i] = (int32_t)(uint32_t)(uint64_t)o;
    }
    return bad;
}
