/* Attention in vectors of eight lanes (kernels_lanes.h). Included by
 * kernels_attend.c only. */
#ifndef EXEC_CPU_KERNELS_ATTEND_LANES_H
#define EXEC_CPU_KERNELS_ATTEND_LANES_H

enum { POSITION_VECTORS = POSITIONS / LANES };

/* acc[rows][64] = q8 . k8; zeros where no query sees any of 16 positions. */
static void score_products(const struct attend_block_call *call, int32_t acc[][POSITIONS])
{
    uint32_t end = visible_end(call), padded = call->shape->padded, groups = padded / 4;
    size_t stride = (size_t)padded * DOT_BYTES;
    _Alignas(64) uint8_t prepared[KERNEL_ROWS * MAX_PADDED * DOT_BYTES];
    _Alignas(64) int16_t widened[KERNEL_ROWS * MAX_PADDED];
    const int is_wide = DOT_WIDENS && call->rows >= WIDEN_FROM_ROWS;
    for (uint32_t r = 0; r < call->rows; r++)
        dot_prepare(call->q8 + r * call->q_stride, padded, prepared + r * stride);
    for (uint32_t b = 0; b < POSITION_BLOCKS; b++) {
        const int8_t *keys = call->block->k8 + (size_t)b * groups * 64;
        const int is_seen = b * KERNEL_ROWS < end;
        int32_t start[KERNEL_ROWS];
        for (uint32_t p = 0; p < KERNEL_ROWS; p++)
            start[p] = -128 * call->block->k_sum[b * KERNEL_ROWS + p];
        if (is_wide && is_seen)
            dot_widen(keys, (size_t)groups * 64, widened);
        for (uint32_t r = 0; r < call->rows; r += TILE_ROWS) {
            uint32_t count = call->rows - r < TILE_ROWS ? call->rows - r : TILE_ROWS;
            lanes sums[TILE_ROWS][2] = {0};
            if (is_seen && is_wide)
                dot_rows(widened, 1, start, groups, prepared + r * stride, stride, count, sums);
            else if (is_seen)
                dot_rows(keys, 0, start, groups, prepared + r * stride, stride, count, sums);
            for (uint32_t i = 0; i < count; i++) {
                lanes_store(&acc[r + i][b * KERNEL_ROWS], sums[i][0]);
                lanes_store(&acc[r + i][b * KERNEL_ROWS + LANES], sums[i][1]);
            }
        }
    }
}

/* What all queries need of a block. */
struct weighing {
    const struct attend_shape *shape;
    const struct key_block *block;
    lanes t[POSITION_VECTORS], k_v[POSITION_VECTORS];
    struct rounding by22, by_a2;
    uint32_t bounded_s; /* up to this s_q no score can leave its bound, whatever the products are */
};

static void weighing_begin(struct weighing *w, const struct attend_shape *shape, const struct key_block *block)
{
    *w = (struct weighing){.shape = shape, .block = block, .by22 = rounding_by(22), .by_a2 = rounding_by(shape->a2)};
    lanes most = lanes_set(0);
    for (int v = 0; v < POSITION_VECTORS; v++) {
        w->t[v] = lanes_load(block->t_k + v * LANES);
        w->k_v[v] = lanes_of_u8(block->k_v + v * LANES);
        most = lanes_max(most, w->t[v]);
    }
    w->bounded_s = bounded_query(shape, (uint32_t)lanes_max_all(most));
}

ALWAYS_INLINE lanes score(const struct weighing *w, lanes acc, lanes s_q, lanes t)
{
    wide even = round_low(wide_product(acc, s_q), &w->by22), odd = round_low(wide_product(lanes_odd(acc), s_q), &w->by22);
    return round_join(wide_product(even, t), wide_product(odd, lanes_odd(t)), &w->by_a2);
}

/* All bits of the lanes whose position is visible. */
ALWAYS_INLINE lanes visible_lanes(uint64_t visible, int vector)
{
    const int32_t one_bit[LANES] = {1, 2, 4, 8, 16, 32, 64, 128};
    lanes bits = lanes_load(one_bit), here = lanes_and(lanes_set((int32_t)(visible >> (vector * LANES) & 0xFF)), bits);
    return lanes_greater(here, lanes_set(0));
}

/* One query whose scores can't leave their bound, without softcap. `whole`: all 64 positions are visible. */
ALWAYS_INLINE void weigh_lanes(const struct weighing *w, const int32_t *acc, int32_t s_query, uint64_t visible,
                               struct attend_partial *partial, int16_t *weights, const int whole)
{
    lanes s_q = lanes_set(s_query), z[POSITION_VECTORS], top = lanes_set(INT32_MIN), k_top = lanes_set(0), sum = k_top;
    for (int v = 0; v < POSITION_VECTORS; v++) {
        lanes k_v = w->k_v[v];
        z[v] = score(w, lanes_load(acc + v * LANES), s_q, w->t[v]);
        if (!whole) {
            lanes seen = visible_lanes(visible, v);
            z[v] = lanes_select(lanes_set(INT32_MIN), z[v], seen);
            k_v = lanes_and(k_v, seen);
        }
        top = lanes_max(top, z[v]);
        k_top = lanes_max(k_top, k_v);
    }
    int32_t Z = lanes_max_all(top), K = lanes_max_all(k_top);
    lanes low_bits = lanes_set(1023), ten = lanes_set(10), all_Z = lanes_set(Z), all_K = lanes_set(K);
    for (int v = 0; v < POSITION_VECTORS; v += 2) {
        lanes pair[2];
        for (int i = 0; i < 2; i++) {
            lanes D = lanes_sub(all_Z, z[v + i]);
            lanes e = lanes_right(lanes_look_up(w->shape->exp15, lanes_and(D, low_bits)), lanes_right(D, ten));
            if (!whole)
                e = lanes_and(e, visible_lanes(visible, v + i));
            sum = lanes_add(sum, e);
            pair[i] = lanes_right(e, lanes_sub(all_K, w->k_v[v + i]));
        }
        lanes_store_i16(weights + v * LANES, pair[0], pair[1]);
    }
    *partial = (struct attend_partial){.Z = Z, .K = K, .S = lanes_sum(sum)};
}

static int weigh(const struct weighing *w, const int32_t *acc, int32_t s_query, uint64_t visible,
                 struct attend_partial *partial, struct query_weights *weights, uint32_t r)
{
    /* s_q is not negative unless RANGE was raised before. */
    if (w->shape->cap || (uint32_t)s_query > w->bounded_s)
        return weigh_scalar(w->shape, w->block, acc, s_query, visible, partial, weights->w[r]);
    if (visible == UINT64_MAX)
        weigh_lanes(w, acc, s_query, visible, partial, weights->w[r], 1);
    else
        weigh_lanes(w, acc, s_query, visible, partial, weights->w[r], 0);
    return 0;
}

/* O[i] = sum of w * v8 over the block's positions. */
static void weighted_values(const struct attend_block_call *call, const struct query_weights *weights)
{
    uint32_t groups = (visible_end(call) + 3) / 4;
    _Alignas(64) int16_t widened[KERNEL_ROWS * POSITIONS];
    const int is_wide = call->rows >= WIDEN_FROM_ROWS;
    for (uint32_t i = 0; i < call->shape->size; i += KERNEL_ROWS) {
        const int8_t *values = call->block->v8 + (size_t)i * POSITIONS;
        if (is_wide)
            dot_widen(values, (size_t)groups * 64, widened);
        for (uint32_t r = 0; r < call->rows; r += TILE16_ROWS) {
            uint32_t count = call->rows - r < TILE16_ROWS ? call->rows - r : TILE16_ROWS;
            lanes sums[TILE16_ROWS][2];
            if (is_wide)
                dot_rows16(widened, 1, groups, weights->w[r], POSITIONS, count, sums);
            else
                dot_rows16(values, 0, groups, weights->w[r], POSITIONS, count, sums);
            for (uint32_t j = 0; j < count; j++) {
                int32_t *O = call->O + (r + j) * call->O_stride + i;
                lanes_store(O, sums[j][0]);
                lanes_store(O + LANES, sums[j][1]);
            }
        }
    }
}

/* Makes 64-bit sums unsigned before logical shifts: a multiple of every 2^k, k <= 62. */
static const int64_t WIDE_BIAS = INT64_C(1) << 62;

/* B_i += RS(O_j,i * f_j, 15 + K - K_j) over the parts; even and odd elements of each eight apart, until divide_vectors. */
static void add_parts_lanes(const struct part *parts, uint32_t count, const int32_t *O, uint32_t padded, uint32_t size,
                            int64_t *B)
{
    int64_t excess = 0;
    for (uint32_t j = 0; j < count; j++)
        excess += WIDE_BIAS >> parts[j].k;
    for (uint32_t i = 0; i < size; i += LANES) {
        wide even = wide_sub(wide_load(B + i), wide_set(excess)), odd = wide_sub(wide_load(B + i + 4), wide_set(excess));
        for (uint32_t j = 0; j < count; j++) {
            lanes values = lanes_load(O + parts[j].block * padded + i), f = lanes_set((int32_t)parts[j].f);
            wide rounding = wide_set(parts[j].half + WIDE_BIAS);
            even = wide_add(even, wide_right(wide_add(wide_product(values, f), rounding), (int)parts[j].k));
            odd = wide_add(odd, wide_right(wide_add(wide_product(lanes_odd(values), f), rounding), (int)parts[j].k));
        }
        wide_store(B + i, even);
        wide_store(B + i + 4, odd);
    }
}

/* RS(a, k) of signed 64-bit lanes, |a| <= 2^62. */
ALWAYS_INLINE wide round_wide(wide a, int k)
{
    int64_t half = k ? INT64_C(1) << (k - 1) : 0;
    return wide_sub(wide_right(wide_add(a, wide_set(half + WIDE_BIAS)), k), wide_set(WIDE_BIAS >> k));
}

/* o_i = RS(RS(B_i, d) * R, k), R below 2^31; 1 for RANGE. */
static int divide_vectors(const int64_t *B, uint32_t size, int d, int64_t R, int k, int32_t *o)
{
    if (R >> 31)
        return divide_sums(B, size, d, R, k, o);
    const lanes reciprocal = lanes_set((int32_t)R);
    const wide most = wide_set(INT64_C(1) << 31), one_less = wide_set((INT64_C(1) << 31) - 1);
    wide outside = wide_set(0);
    for (uint32_t i = 0; i < size; i += LANES) {
        wide half[2];
        for (int h = 0; h < 2; h++) {
            wide value = round_wide(wide_load(B + i + 4 * h), d);
            value = wide_add(wide_product_unsigned(value, reciprocal),
                             wide_left(wide_product(lanes_odd(value), reciprocal), 32));
            half[h] = round_wide(value, k);
            /* Within -2^31 < a < 2^31 neither sum leaves 32 bits. */
            outside = lanes_or(outside, wide_right(lanes_or(wide_add(half[h], most), wide_add(half[h], one_less)), 32));
        }
        lanes_store(o + i, lanes_blend(half[0], wide_left(half[1], 32)));
    }
    return lanes_any(outside);
}

#endif
