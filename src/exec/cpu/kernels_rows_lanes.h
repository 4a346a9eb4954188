/* Row operations in vectors of eight lanes (kernels_lanes.h). Included by
 * kernels_rows.c only, which has what all vector sets share; what shapes or values do
 * not allow goes to the reference. */
#ifndef EXEC_CPU_KERNELS_ROWS_LANES_H
#define EXEC_CPU_KERNELS_ROWS_LANES_H

#include <string.h>

#include "exec/cpu/kernels.h"
#include "exec/cpu/kernels_lanes.h"
#include "exec/ref/operations.h"

/* --- Hadamard --- */

/* Elements `step` apart, step >= LANES, in memory. */
static void hadamard_step(int32_t *h, uint32_t n, uint32_t step)
{
    for (uint32_t start = 0; start < n; start += 2 * step)
        for (uint32_t i = start; i < start + step; i += LANES) {
            lanes low = lanes_load(h + i), high = lanes_load(h + i + step);
            lanes_store(h + i, lanes_add(low, high));
            lanes_store(h + i + step, lanes_sub(low, high));
        }
}

/* Two steps on four vectors: v0 with v1, v2 with v3, then their results. */
ALWAYS_INLINE void hadamard_four(lanes v[4])
{
    lanes s0 = lanes_add(v[0], v[1]), d0 = lanes_sub(v[0], v[1]);
    lanes s1 = lanes_add(v[2], v[3]), d1 = lanes_sub(v[2], v[3]);
    v[0] = lanes_add(s0, s1);
    v[1] = lanes_add(d0, d1);
    v[2] = lanes_sub(s0, s1);
    v[3] = lanes_sub(d0, d1);
}

/* Two steps at once: elements step and 2 * step apart. */
static void hadamard_two_steps(int32_t *h, uint32_t n, uint32_t step)
{
    for (uint32_t start = 0; start < n; start += 4 * step)
        for (uint32_t i = start; i < start + step; i += LANES) {
            lanes v[4];
            for (uint32_t j = 0; j < 4; j++)
                v[j] = lanes_load(h + i + j * step);
            hadamard_four(v);
            for (uint32_t j = 0; j < 4; j++)
                lanes_store(h + i + j * step, v[j]);
        }
}

/* --- quantize --- */

ALWAYS_INLINE struct extent measure(const int32_t *x, const uint8_t *e, uint32_t n, const int with_squares)
{
    lanes plain = lanes_set(0), low = plain, high = plain;
    wide squares = wide_set(0), more_squares = squares;
    for (uint32_t i = 0; i < n; i += LANES) {
        lanes v = lanes_load(x + i), a = lanes_abs(v);
        plain = lanes_or(plain, a);
        if (e) {
            lanes shift = lanes_of_u8(e + i);
            low = lanes_or(low, lanes_left(a, shift));
            high = lanes_or(high, lanes_right(a, lanes_sub(lanes_set(32), shift)));
        }
        if (with_squares) {
            lanes odd = lanes_odd(v);
            squares = wide_add(squares, wide_product(v, v));
            more_squares = wide_add(more_squares, wide_product(odd, odd));
        }
    }
    struct extent extent = {.plain = lanes_or_all(plain)};
    extent.scaled = e ? (uint64_t)lanes_or_all(high) << 32 | lanes_or_all(low) : extent.plain;
    if (with_squares)
        extent.squares = wide_sum(wide_add(squares, more_squares));
    return extent;
}

/* RS(x * 2^e, T) of eight elements: |x| < 2^30, T <= 28. */
ALWAYS_INLINE lanes scale_down(const int32_t *x, const uint8_t *e, lanes T)
{
    lanes v = lanes_load(x), right = T;
    if (e) {
        lanes shift = lanes_of_u8(e);
        v = lanes_left(v, lanes_max(lanes_sub(shift, T), lanes_set(0)));
        right = lanes_max(lanes_sub(T, shift), lanes_set(0));
    }
    lanes half = lanes_right(lanes_left(lanes_set(1), right), lanes_set(1));
    return lanes_right_signed(lanes_add(v, half), right);
}

/* The first steps, 1 to 16 apart (as far as b goes), on four vectors at a time. */
ALWAYS_INLINE void transform_lanes(const int32_t *x, const uint8_t *e, uint32_t n, lanes T, int32_t *h)
{
    for (uint32_t i = 0; i < n; i += 4 * LANES) {
        lanes v[4];
        for (uint32_t j = 0; j < 4; j++)
            v[j] = lanes_hadamard(scale_down(x + i + j * LANES, e ? e + i + j * LANES : NULL, T));
        hadamard_four(v);
        for (uint32_t j = 0; j < 4; j++)
            lanes_store(h + i + j * LANES, v[j]);
    }
}

/* h = Had_b(RS(x * 2^e, T)); returns max|h|. */
ALWAYS_INLINE uint32_t transform(const int32_t *x, const uint8_t *e, uint32_t n, uint32_t b, int shift, int32_t *h)
{
    lanes T = lanes_set(shift), most = lanes_set(0);
    uint32_t step = LANES;
    if (b >= 4 * LANES) {
        transform_lanes(x, e, n, T, h);
        step = 4 * LANES;
    } else
        for (uint32_t i = 0; i < n; i += LANES)
            lanes_store(h + i, lanes_hadamard(scale_down(x + i, e ? e + i : NULL, T)));
    for (; 4 * step <= b; step *= 4)
        hadamard_two_steps(h, n, step);
    if (step < b)
        hadamard_step(h, n, step);
    for (uint32_t i = 0; i < n; i += LANES)
        most = lanes_max(most, lanes_abs(lanes_load(h + i)));
    return (uint32_t)lanes_max_all(most);
}

/* q_i = (h_i * R + 2^(l+15)) >> (l + 16), R = floor(127 * 2^(l+16) / m) */
ALWAYS_INLINE void divide(const int32_t *h, uint32_t n, uint32_t m, int8_t *q)
{
    int l = bit_length(m);
    lanes R = lanes_set((int32_t)((INT64_C(127) << (l + 16)) / m));
    const struct rounding down = rounding_by(l + 16);
    for (uint32_t i = 0; i < n; i += LANES) {
        lanes v = lanes_load(h + i);
        lanes_store_i8(q + i, round_join(wide_product(v, R), wide_product(lanes_odd(v), R), &down));
    }
}

/* OR of the magnitudes of n elements; a tail is taken one by one. */
static uint32_t magnitudes(const int32_t *x, uint32_t n)
{
    lanes plain = lanes_set(0);
    uint32_t i = 0, rest = 0;
    for (; i + LANES <= n; i += LANES)
        plain = lanes_or(plain, lanes_abs(lanes_load(x + i)));
    for (; i < n; i++)
        rest |= x[i] < 0 ? -(uint32_t)x[i] : (uint32_t)x[i];
    return lanes_or_all(plain) | rest;
}

int KERNEL(value_quant)(const int32_t *x, uint32_t size, int8_t *v8, int32_t *k_v)
{
    if (size % LANES || magnitudes(x, size) >> SAFE_BITS)
        return reference_value_quant(x, size, v8, k_v);
    lanes most = lanes_set(0);
    for (uint32_t i = 0; i < size; i += LANES)
        most = lanes_max(most, lanes_abs(lanes_load(x + i)));
    uint32_t largest = (uint32_t)lanes_max_all(most);
    int k = value_shift(largest);
    *k_v = k;
    lanes shift = lanes_set(k), half = lanes_set((1 << k) >> 1);
    for (uint32_t i = 0; i < size; i += LANES)
        lanes_store_i8(v8 + i, lanes_right_signed(lanes_add(lanes_load(x + i), half), shift));
    return 0;
}

/* --- norm, rope --- */

int KERNEL(norm)(const int32_t *x, const int32_t *G, uint32_t n, uint64_t eps, int k, int32_t *y)
{
    /* RS(x * inv, 22) is at most 2^24, G below 2^24: from k = 18 on no result can leave 31 bits. */
    if (n % LANES || k < 18)
        return reference_norm(x, G, n, eps, k, y);
    struct extent extent = measure(x, NULL, n, 1);
    if (!is_norm_exact(&extent, n, eps))
        return reference_norm(x, G, n, eps, k, y);
    uint64_t inverse = (UINT64_C(1) << 46) / integer_root(extent.squares + eps);
    if (inverse >> 31)
        return reference_norm(x, G, n, eps, k, y);
    lanes inv = lanes_set((int32_t)inverse);
    const struct rounding first = rounding_by(22), second = rounding_by(k);
    for (uint32_t i = 0; i < n; i += LANES) {
        lanes v = lanes_load(x + i), g = lanes_load(G + i);
        wide even = round_low(wide_product(v, inv), &first), odd = round_low(wide_product(lanes_odd(v), inv), &first);
        lanes_store(y + i, round_join(wide_product(even, g), wide_product(odd, lanes_odd(g)), &second));
    }
    return 0;
}

/* Eight pairs (a, b) turned by (c, s), |a|, |b| < 2^30. */
ALWAYS_INLINE void turn_pairs(lanes a, lanes b, lanes c, lanes s, lanes *first, lanes *second)
{
    const struct rounding by14 = rounding_by(14);
    lanes a_odd = lanes_odd(a), b_odd = lanes_odd(b), c_odd = lanes_odd(c), s_odd = lanes_odd(s);
    *first = round_join(wide_sub(wide_product(a, c), wide_product(b, s)),
                        wide_sub(wide_product(a_odd, c_odd), wide_product(b_odd, s_odd)), &by14);
    *second = round_join(wide_add(wide_product(a, s), wide_product(b, c)),
                         wide_add(wide_product(a_odd, s_odd), wide_product(b_odd, c_odd)), &by14);
}

/* Four pairs of neighbours: elements 2i and 2i + 1 turned by c[2i], s[2i]. */
ALWAYS_INLINE lanes turn_neighbours(lanes a, lanes c, lanes s)
{
    const struct rounding by14 = rounding_by(14);
    lanes b = lanes_odd(a);
    return round_join(wide_sub(wide_product(a, c), wide_product(b, s)),
                      wide_add(wide_product(a, s), wide_product(b, c)), &by14);
}

int KERNEL(rope)(const int32_t *x, uint32_t heads, uint32_t size, uint32_t rotary, int half, const uint64_t *turn,
                 uint64_t position, const int16_t *cosine, int32_t *y)
{
    int bad = 0;
    if (rotary % (2 * LANES) || rotary > KERNEL_MAX_HEAD || magnitudes(x, heads * size) >> SAFE_BITS) {
        for (uint32_t h = 0; h < heads; h++)
            bad |= reference_rope(x + (size_t)h * size, size, rotary, half, turn, position, cosine, y + (size_t)h * size);
        return bad;
    }
    int32_t c[KERNEL_MAX_HEAD], s[KERNEL_MAX_HEAD];
    uint32_t step = half ? 1 : 2; /* a number a pair for halves, every second one for neighbours */
    for (uint32_t i = 0; i < rotary / 2; i++) {
        uint64_t n = (position * turn[i] + (UINT64_C(1) << 47)) >> 48;
        c[i * step] = cosine[n];
        s[i * step] = cosine[(n - (1 << 14)) & 0xFFFF];
    }
    for (uint32_t h = 0; h < heads; h++, x += size, y += size) {
        if (half)
            for (uint32_t i = 0; i < rotary / 2; i += LANES) {
                lanes first, second;
                turn_pairs(lanes_load(x + i), lanes_load(x + i + rotary / 2), lanes_load(c + i), lanes_load(s + i), &first,
                           &second);
                lanes_store(y + i, first);
                lanes_store(y + i + rotary / 2, second);
            }
        else
            for (uint32_t i = 0; i < rotary; i += LANES)
                lanes_store(y + i, turn_neighbours(lanes_load(x + i), lanes_load(c + i), lanes_load(s + i)));
        memcpy(y + rotary, x + rotary, (size - rotary) * sizeof *y);
    }
    return 0;
}

/* --- gate, add, softcap --- */

/* The activation of t in Q16. */
ALWAYS_INLINE lanes activation(const int32_t *A, lanes t)
{
    const lanes edge = lanes_set(1 << 20);
    const struct rounding by11 = rounding_by(11);
    lanes above = lanes_greater(t, lanes_sub(edge, lanes_set(1))), below = lanes_greater(lanes_sub(lanes_set(0), edge), t);
    lanes at = lanes_add(t, edge), outside = lanes_or(above, below);
    at = lanes_select(at, lanes_set(0), outside);
    lanes index = lanes_right(at, lanes_set(11)), f = lanes_and(at, lanes_set(2047));
    lanes a = lanes_look_up(A, index), next = lanes_look_up(A + 1, index);
    a = lanes_add(a, round_product(lanes_sub(next, a), f, &by11)); /* the rise is below 2^31: |A| < 2^30 */
    return lanes_select(lanes_select(a, lanes_set(0), below), t, above);
}

/* g in Q16: RS(g, F_g - 16) or g * 2^(16 - F_g). Where rounding carries beyond 31
 * bits the sum is right as an unsigned number; where the product does, the caller
 * sees it by the largest |g|. */
ALWAYS_INLINE lanes gate_input(lanes g, int F_g)
{
    if (F_g < 16)
        return lanes_left(g, lanes_set(16 - F_g));
    lanes half = lanes_set((int32_t)((INT64_C(1) << (F_g - 16)) >> 1)), shift = lanes_set(F_g - 16);
    lanes sum = lanes_add(g, half);
    return lanes_select(lanes_right_signed(sum, shift), lanes_right(sum, shift), lanes_greater(g, sum));
}

int KERNEL(gate)(const int32_t *g, const int32_t *u, uint32_t n, const int32_t *A, int F_g, int small_steps, int k,
                 int32_t *y)
{
    (void)small_steps;
    if (n % LANES || F_g < 0 || F_g > 40)
        return reference_gate(g, u, n, A, F_g, k, y);
    const struct rounding down = rounding_by(k);
    lanes largest_g = lanes_set(0), largest_a = largest_g, largest_u = largest_g;
    for (uint32_t i = 0; i < n; i += LANES) {
        lanes v = lanes_load(g + i), a = activation(A, gate_input(v, F_g));
        largest_g = lanes_or(largest_g, lanes_abs(v));
        if (!u) {
            lanes_store(y + i, a);
            continue;
        }
        lanes up = lanes_load(u + i);
        largest_a = lanes_or(largest_a, lanes_abs(a));
        largest_u = lanes_or(largest_u, lanes_abs(up));
        lanes_store(y + i, round_product(a, up, &down));
    }
    /* Where a result could have left its bound the reference looks closely. */
    int careful = F_g < 16 && bit_length(lanes_or_all(largest_g)) + 16 - F_g > 30;
    careful |= bit_length(lanes_or_all(largest_a)) + bit_length(lanes_or_all(largest_u)) - k > 30;
    return careful ? reference_gate(g, u, n, A, F_g, k, y) : 0;
}

int KERNEL(small_steps)(const int32_t *A)
{
    (void)A;
    return 0;
}

int KERNEL(add)(const int32_t *x, const int32_t *y, uint32_t n, int32_t *sum)
{
    uint32_t i = 0;
    lanes over = lanes_set(0);
    for (; i + LANES <= n; i += LANES) {
        lanes a = lanes_load(x + i), b = lanes_load(y + i), c = lanes_add(a, b);
        /* The sign changed against both; or the sum is -2^31, the one negative number from which 1 less is positive. */
        over = lanes_or(over, lanes_and(lanes_xor(a, c), lanes_xor(b, c)));
        over = lanes_or(over, lanes_and(c, lanes_xor(lanes_sub(c, lanes_set(1)), lanes_set(-1))));
        lanes_store(sum + i, c);
    }
    int bad = lanes_any(lanes_greater(lanes_set(0), over));
    return i < n ? bad | reference_add(x + i, y + i, n - i, sum + i) : bad;
}

void KERNEL(softcap)(const int32_t *A, const int32_t *x, uint32_t n, int32_t *y)
{
    const lanes edge = lanes_set(1 << 19);
    const struct rounding by10 = rounding_by(10);
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        /* A[1024] itself is reached as its neighbour below with the whole step on top. */
        lanes v = lanes_max(lanes_min(lanes_load(x + i), edge), lanes_sub(lanes_set(0), edge));
        lanes at = lanes_add(v, edge), index = lanes_min(lanes_right(at, lanes_set(10)), lanes_set(1023));
        lanes f = lanes_sub(at, lanes_left(index, lanes_set(10)));
        lanes a = lanes_look_up(A, index), next = lanes_look_up(A + 1, index);
        lanes_store(y + i, lanes_add(a, round_product(lanes_sub(next, a), f, &by10)));
    }
    for (; i < n; i++)
        y[i] = reference_softcap(A, x[i]);
}

#endif
