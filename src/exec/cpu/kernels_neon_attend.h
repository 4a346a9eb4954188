/* attend on aarch64: scores by kernels_neon_dot.h, weights in vectors of four,
 * values by SDOT or, with i8mm, SUDOT. Included by kernels_attend.c only. */
#ifndef EXEC_CPU_KERNELS_NEON_ATTEND_H
#define EXEC_CPU_KERNELS_NEON_ATTEND_H

enum { VECTORS = POSITIONS / 4, LINE_VECTORS = KERNEL_ROWS / 4 };

/* acc[rows][64] = q8 . k8; zeros where no query sees any of 16 positions. */
static void score_products(const struct attend_block_call *call, int32_t acc[][POSITIONS])
{
    uint32_t end = visible_end(call), groups = call->shape->padded / 4;
    for (uint32_t first = 0; first < call->rows; first += DOT_ROWS) {
        uint32_t rows = call->rows - first < DOT_ROWS ? call->rows - first : DOT_ROWS;
        for (uint32_t b = 0; b < POSITION_BLOCKS; b++) {
            int32x4_t sums[DOT_ROWS][4];
            if (b * KERNEL_ROWS >= end)
                memset(sums, 0, sizeof sums);
            else
                dot_rows(call->block->k8 + (size_t)b * groups * 64, groups, call->q8 + first * call->q_stride,
                         call->q_stride, rows, sums);
            for (uint32_t r = 0; r < rows; r++)
                for (int j = 0; j < 4; j++)
                    vst1q_s32(&acc[first + r][b * KERNEL_ROWS + 4 * j], sums[r][j]);
        }
    }
}

/* What all queries need of a block. */
struct weighing {
    const struct attend_shape *shape;
    const int32_t *t_k;
    int64x2_t a2; /* a count for round_wide */
    int32x4_t k_v[VECTORS];
};

static void weighing_begin(struct weighing *w, const struct attend_shape *shape, const struct key_block *block)
{
    w->shape = shape;
    w->t_k = block->t_k;
    w->a2 = right_by(shape->a2);
    for (int i = 0; i < VECTORS; i += 2) {
        uint16x8_t eight = vmovl_u8(vld1_u8(block->k_v + 4 * i));
        w->k_v[i] = vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(eight)));
        w->k_v[i + 1] = vreinterpretq_s32_u32(vmovl_high_u16(eight));
    }
}

/* Lanes of the four positions from 4 * i on that are visible. */
ALWAYS_INLINE uint32x4_t visible_lanes(uint64_t visible, int i)
{
    const uint32x4_t bits = {1, 2, 4, 8};
    return vtstq_u32(vdupq_n_u32((uint32_t)(visible >> (4 * i))), bits);
}

static int32x4_t softcap_vector(const int32_t *cap, int32x4_t z)
{
    int32_t scores[4];
    vst1q_s32(scores, z);
    for (int i = 0; i < 4; i++)
        scores[i] = (int32_t)score_softcap(cap, scores[i]);
    return vld1q_s32(scores);
}

/* EXP15. A shift of a mantissa (15 bits) by 31 gives 0 as the larger ones would, whose count would not fit a byte. */
ALWAYS_INLINE uint32x4_t exp15(const uint32_t *mantissas, uint32x4_t D)
{
    uint32x4_t index = vandq_u32(D, vdupq_n_u32(1023)), octaves = vminq_u32(vshrq_n_u32(D, 10), vdupq_n_u32(31));
    uint32x4_t mantissa = {mantissas[vgetq_lane_u32(index, 0)], mantissas[vgetq_lane_u32(index, 1)],
                           mantissas[vgetq_lane_u32(index, 2)], mantissas[vgetq_lane_u32(index, 3)]};
    return vshlq_u32(mantissa, vnegq_s32(vreinterpretq_s32_u32(octaves)));
}

/* acc[64] -> z; the largest z and k_v of visible positions in `partial`. Returns 1 for RANGE. */
ALWAYS_INLINE int score_vectors(const struct weighing *w, const int32_t *acc, int32_t s_query, uint64_t visible,
                                int32x4_t z[VECTORS], struct attend_partial *partial)
{
    int32x4_t s_q = vdupq_n_s32(s_query), top = vdupq_n_s32(INT32_MIN), k_top = vdupq_n_s32(0);
    uint64x2_t bad = vdupq_n_u64(0);
    for (int i = 0; i < VECTORS; i++) {
        uint32x4_t seen = visible_lanes(visible, i);
        /* |acc| <= 127^2 * 256 < 2^22, so that the first result fits 32 bits. */
        int32x4_t scaled = narrow(round_wide(multiply_wide(vld1q_s32(acc + 4 * i), s_q), right_by(22)));
        wide4 score = round_wide(multiply_wide(scaled, vld1q_s32(w->t_k + 4 * i)), w->a2);
        int64x2_t seen_low = vmovl_s32(vget_low_s32(vreinterpretq_s32_u32(seen)));
        int64x2_t seen_high = vmovl_high_s32(vreinterpretq_s32_u32(seen));
        bad = vorrq_u64(bad, vreinterpretq_u64_s64(vandq_s64(vabsq_s64(score.val[0]), seen_low)));
        bad = vorrq_u64(bad, vreinterpretq_u64_s64(vandq_s64(vabsq_s64(score.val[1]), seen_high)));
        z[i] = narrow(score);
        if (w->shape->cap)
            z[i] = softcap_vector(w->shape->cap, z[i]);
        top = vmaxq_s32(top, vbslq_s32(seen, z[i], top));
        k_top = vmaxq_s32(k_top, vandq_s32(w->k_v[i], vreinterpretq_s32_u32(seen)));
    }
    partial->Z = vmaxvq_s32(top);
    partial->K = vmaxvq_s32(k_top);
    return is_outside(vreinterpretq_s64_u64(bad));
}

static int weigh(const struct weighing *w, const int32_t *acc, int32_t s_query, uint64_t visible,
                 struct attend_partial *partial, struct query_weights *weights, uint32_t r)
{
    int32x4_t z[VECTORS];
    int bad = score_vectors(w, acc, s_query, visible, z, partial);
    uint32x4_t Z = vdupq_n_u32((uint32_t)partial->Z), sum = vdupq_n_u32(0);
    int32x4_t K = vdupq_n_s32(partial->K);
    for (int i = 0; i < VECTORS; i += 4) {
        uint32x4_t weight[4];
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            uint32x4_t e = exp15(w->shape->exp15, vsubq_u32(Z, vreinterpretq_u32_s32(z[i + j])));
            e = vandq_u32(e, visible_lanes(visible, i + j));
            sum = vaddq_u32(sum, e);
            weight[j] = vshlq_u32(e, vsubq_s32(w->k_v[i + j], K));
        }
        uint16x8_t first = vmovn_high_u32(vmovn_u32(weight[0]), weight[1]);
        uint16x8_t second = vmovn_high_u32(vmovn_u32(weight[2]), weight[3]);
        vst1q_u8(weights->digits[r][0] + 4 * i, vuzp1q_u8(vreinterpretq_u8_u16(first), vreinterpretq_u8_u16(second)));
        vst1q_u8(weights->digits[r][1] + 4 * i, vuzp2q_u8(vreinterpretq_u8_u16(first), vreinterpretq_u8_u16(second)));
    }
    partial->S = vaddvq_u32(sum);
    return bad;
}

/* The two digits of 16 positions' weights, w = low + 256 * high. Without i8mm only
 * signed bytes multiply: low - 128, and the values' own sum makes up for that
 * (high is below 128). */
struct digits {
#if defined(__ARM_FEATURE_MATMUL_INT8)
    uint8x16_t low, high;
#else
    int8x16_t low, high;
#endif
};

ALWAYS_INLINE struct digits digits_load(const uint8_t *low, const uint8_t *high)
{
#if defined(__ARM_FEATURE_MATMUL_INT8)
    return (struct digits){vld1q_u8(low), vld1q_u8(high)};
#else
    return (struct digits){vreinterpretq_s8_u8(veorq_u8(vld1q_u8(low), vdupq_n_u8(0x80))),
                           vreinterpretq_s8_u8(vld1q_u8(high))};
#endif
}

/* Sums over positions for 16 dimensions and up to two queries. */
struct value_sums {
    int32x4_t low[2][LINE_VECTORS], high[2][LINE_VECTORS];
    int32x4_t plain[LINE_VECTORS]; /* of the values by themselves */
};

#if defined(__ARM_FEATURE_MATMUL_INT8)
#define DIGIT_DOT vsudotq_laneq_s32
#else
#define DIGIT_DOT vdotq_laneq_s32
#endif
/* One line of values, positions 4 * LANE to 4 * LANE + 3 of the digits' 16. */
#define VALUE_LINE(sums, line, digits, rows, LANE)                                                        \
    for (int j = 0; j < LINE_VECTORS; j++) {                                                              \
        int8x16_t v = vld1q_s8((line) + 64 * LANE + 16 * j);                                              \
        for (int r = 0; r < rows; r++) {                                                                  \
            (sums)->low[r][j] = DIGIT_DOT((sums)->low[r][j], v, (digits)[r].low, LANE);                   \
            (sums)->high[r][j] = DIGIT_DOT((sums)->high[r][j], v, (digits)[r].high, LANE);                \
        }                                                                                                 \
        (sums)->plain[j] = vdotq_s32((sums)->plain[j], v, vdupq_n_s8(1));                                 \
    }

/* O of one or two (a constant) queries. */
ALWAYS_INLINE void weighted_values_rows(const struct attend_block_call *call, uint32_t first, const int rows,
                                        const struct query_weights *weights)
{
    uint32_t end = visible_end(call);
    for (uint32_t i = 0; i < call->shape->size; i += KERNEL_ROWS) {
        const int8_t *values = call->block->v8 + (size_t)i * POSITIONS;
        struct value_sums sums;
        memset(&sums, 0, sizeof sums);
        for (uint32_t p = 0; p < end; p += 16, values += 256) {
            struct digits digits[2];
            for (int r = 0; r < rows; r++)
                digits[r] = digits_load(weights->digits[first + r][0] + p, weights->digits[first + r][1] + p);
            VALUE_LINE(&sums, values, digits, rows, 0)
            VALUE_LINE(&sums, values, digits, rows, 1)
            VALUE_LINE(&sums, values, digits, rows, 2)
            VALUE_LINE(&sums, values, digits, rows, 3)
        }
        for (int r = 0; r < rows; r++)
            for (int j = 0; j < LINE_VECTORS; j++) {
                int32x4_t O = vaddq_s32(sums.low[r][j], vshlq_n_s32(sums.high[r][j], 8));
#if !defined(__ARM_FEATURE_MATMUL_INT8)
                O = vaddq_s32(O, vshlq_n_s32(sums.plain[j], 7));
#endif
                vst1q_s32(call->O + (first + r) * call->O_stride + i + 4 * j, O);
            }
    }
}
#undef VALUE_LINE
#undef DIGIT_DOT

static void weighted_values(const struct attend_block_call *call, const struct query_weights *weights)
{
    uint32_t first = 0;
    for (; call->rows - first >= 2; first += 2)
        weighted_values_rows(call, first, 2, weights);
    if (first < call->rows)
        weighted_values_rows(call, first, 1, weights);
}

/* As add_parts. */
static void add_parts_vectors(const struct part *parts, uint32_t count, const int32_t *O, uint32_t padded, uint32_t size,
                              int64_t *B)
{
    for (uint32_t i = 0; i < size; i += 4) {
        int64x2_t low = vld1q_s64(B + i), high = vld1q_s64(B + i + 2);
        for (uint32_t j = 0; j < count; j++) {
            int32x4_t values = vld1q_s32(O + parts[j].block * padded + i), f = vdupq_n_s32((int32_t)parts[j].f);
            wide4 rounded = round_wide(multiply_wide(values, f), right_by((int)parts[j].k));
            low = vaddq_s64(low, rounded.val[0]);
            high = vaddq_s64(high, rounded.val[1]);
        }
        vst1q_s64(B + i, low);
        vst1q_s64(B + i + 2, high);
    }
}

#endif
