/* kernels_rows.h for one instruction set: plain loops over independent elements,
 * shaped so that the compiler vectorises them for the set it is given. */
#include "exec/cpu/kernels_rows.h"

#include <stddef.h>
#include <string.h>

#include "exec/ref/operations.h"

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

/* An i64 result leaves the open interval (-2^31, 2^31) exactly where one of
 * these sums has a bit above the lower 32. */
#define RANGE_BITS(y) ((uint64_t)((y) + 2147483647) | (uint64_t)((y) + 2147483648))
static inline int is_range(uint64_t bits)
{
    return bits >> 32 != 0;
}

static inline int32_t low_bits(int64_t value)
{
    return (int32_t)(uint32_t)(uint64_t)value;
}

static inline int64_t half_of(int k)
{
    return k ? INT64_C(1) << (k - 1) : 0;
}

typedef int32_t lanes __attribute__((vector_size(32), aligned(4)));
#define SWAP(v, a, b, c, d, e, f, g, h) __builtin_shufflevector(v, v, a, b, c, d, e, f, g, h)

/* Steps 1, 2 and 4 of the transform in registers, then the plain ones. */
static void hadamard(int32_t *restrict x, uint32_t n, uint32_t b)
{
    if (b < 8) {
        reference_hadamard(x, n, b);
        return;
    }
    const lanes m1 = {0, -1, 0, -1, 0, -1, 0, -1}, m2 = {0, 0, -1, -1, 0, 0, -1, -1}, m4 = {0, 0, 0, 0, -1, -1, -1, -1};
    for (uint32_t i = 0; i < n; i += 8) {
        lanes v;
        memcpy(&v, x + i, sizeof v);
        v = SWAP(v, 1, 0, 3, 2, 5, 4, 7, 6) + ((v ^ m1) - m1);
        v = SWAP(v, 2, 3, 0, 1, 6, 7, 4, 5) + ((v ^ m2) - m2);
        v = SWAP(v, 4, 5, 6, 7, 0, 1, 2, 3) + ((v ^ m4) - m4);
        memcpy(x + i, &v, sizeof v);
    }
    uint32_t step = 8;
    for (; step * 4 <= b; step *= 4) /* two steps a pass over memory */
        for (uint32_t start = 0; start < n; start += 4 * step) {
            int32_t *restrict p0 = x + start, *restrict p1 = p0 + step, *restrict p2 = p1 + step, *restrict p3 = p2 + step;
            for (uint32_t i = 0; i < step; i++) {
                int32_t a = p0[i] + p1[i], c = p0[i] - p1[i], d = p2[i] + p3[i], f = p2[i] - p3[i];
                p0[i] = a + d;
                p1[i] = c + f;
                p2[i] = a - d;
                p3[i] = c - f;
            }
        }
    for (; step < b; step *= 2)
        for (uint32_t start = 0; start < n; start += 2 * step) {
            int32_t *restrict low = x + start, *restrict high = low + step;
            for (uint32_t i = 0; i < step; i++) {
                int32_t l = low[i], r = high[i];
                low[i] = l + r;
                high[i] = l - r;
            }
        }
}

/* The bits of all |x_i| * 2^e_i together: their length is that of the largest. */
static uint64_t magnitude_bits(const int32_t *restrict x, const uint8_t *restrict e, uint32_t n)
{
    uint64_t bits = 0;
    uint32_t narrow = 0;
    if (e)
        for (uint32_t i = 0; i < n; i++) {
            uint32_t magnitude = x[i] < 0 ? 0u - (uint32_t)x[i] : (uint32_t)x[i];
            bits |= (uint64_t)magnitude << e[i];
        }
    else
        for (uint32_t i = 0; i < n; i++)
            narrow |= x[i] < 0 ? 0u - (uint32_t)x[i] : (uint32_t)x[i];
    return bits | narrow;
}

/* RS(x * 2^e, T) in 32 bits: the result fits, and rounding half up is the
 * quotient's floor plus the last bit shifted out. */
static void align(const int32_t *restrict x, const uint8_t *restrict e, uint32_t n, int T, int32_t *restrict h)
{
    if (!e && T == 0)
        memcpy(h, x, n * sizeof *h);
    else if (!e)
        for (uint32_t i = 0; i < n; i++)
            h[i] = (x[i] >> T) + ((x[i] >> (T - 1)) & 1);
    else
        for (uint32_t i = 0; i < n; i++) {
            int32_t k = T - (int32_t)e[i], right = k > 0 ? k : 0, left = k < 0 ? -k : 0;
            int32_t shifted = (int32_t)((uint32_t)x[i] << left);
            int32_t before = right > 0 ? right - 1 : 0, keep = right > 0 ? 1 : 0;
            h[i] = (shifted >> right) + ((shifted >> before) & keep);
        }
}

static void quantize(const int32_t *restrict x, const uint8_t *restrict e, uint32_t n, uint32_t b, int32_t *restrict h,
                     int8_t *restrict q, uint32_t *m, int *T)
{
    int shift = reference_bit_length(magnitude_bits(x, e, n)) + reference_bit_length(b) - 1 - 30;
    *T = shift > 0 ? shift : 0;
    if (*T >= 32) { /* only with x near 2^31 and e near 15 */
        reference_quantize(x, e, n, b, h, q, m, T);
        return;
    }
    align(x, e, n, *T, h);
    hadamard(h, n, b);
    int32_t largest = 0;
    for (uint32_t i = 0; i < n; i++) {
        int32_t magnitude = h[i] < 0 ? -h[i] : h[i];
        largest = magnitude > largest ? magnitude : largest;
    }
    *m = (uint32_t)largest;
    if (largest == 0) {
        memset(q, 0, n);
        return;
    }
    int l = 32 - __builtin_clz((uint32_t)largest);
    int32_t R = (int32_t)((INT64_C(127) << (l + 16)) / largest);
    /* 256 more before the shift makes it one of non-negative numbers. */
    int64_t add = (INT64_C(1) << (l + 15)) + (INT64_C(256) << (l + 16));
    for (uint32_t i = 0; i < n; i++)
        q[i] = (int8_t)(int32_t)((uint64_t)((int64_t)h[i] * R + add) >> (l + 16));
}

static void embed(const int8_t *restrict E8, uint16_t ME, int ke, uint32_t n, int32_t *restrict x)
{
    if (ke > 24) {
        reference_embed(E8, ME, ke, n, x);
        return;
    }
    int32_t half = (int32_t)half_of(ke); /* |E8 * ME| < 2^23 */
    for (uint32_t i = 0; i < n; i++)
        x[i] = ((int32_t)E8[i] * (int32_t)ME + half) >> ke;
}

static void quant(const int32_t *x, uint32_t n, uint32_t b, int32_t *h, int8_t *q, int64_t *s)
{
    uint32_t m;
    int T;
    quantize(x, NULL, n, b, h, q, &m, &T);
    *s = (int64_t)m << T;
}

/* isqrt by binary64's root, corrected: exact below 2^62. */
static uint64_t integer_root(uint64_t a)
{
    uint64_t r = (uint64_t)__builtin_sqrt((double)a);
    while (r * r > a)
        r--;
    while ((r + 1) * (r + 1) <= a)
        r++;
    return r;
}

/* 0 and r, or 1 where ss + eps may reach 2^62 (the caller asks the reference). */
static int root_of_squares(const int32_t *restrict x, uint32_t n, uint64_t eps, uint64_t *r)
{
    int length = reference_bit_length(magnitude_bits(x, NULL, n));
    if (2 * length + reference_bit_length(n) > 61 || eps >> 61)
        return 1;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += (uint64_t)((int64_t)x[i] * x[i]);
    *r = integer_root(sum + eps);
    return 0;
}

static int norm_quant(const int32_t *x, const uint8_t *e, uint32_t n, uint32_t b, int c, uint64_t eps, int32_t *h,
                      int8_t *q, int64_t *s)
{
    uint64_t r;
    if (root_of_squares(x, n, eps, &r))
        return reference_norm_quant(x, e, n, b, c, eps, h, q, s);
    uint32_t m;
    int T;
    quantize(x, e, n, b, h, q, &m, &T);
    uint64_t ratio = ((uint64_t)m << 31) / r;
    int shift = T + c - 31;
    if (shift >= 0)
        *s = reference_bit_length(ratio) + shift > 62 ? INT64_C(1) << 62 : (int64_t)(ratio << shift);
    else
        *s = shift <= -64 ? 0 : (int64_t)(ratio >> -shift);
    return 0;
}

static int norm(const int32_t *restrict x, const int32_t *restrict G, uint32_t n, uint64_t eps, int k,
                int32_t *restrict y)
{
    uint64_t r;
    if (root_of_squares(x, n, eps, &r) || r < 32768)
        return reference_norm(x, G, n, eps, k, y);
    int32_t inv = (int32_t)((UINT64_C(1) << 46) / r); /* r >= 2^15 */
    int64_t half = half_of(k);
    uint64_t bits = 0;
    for (uint32_t i = 0; i < n; i++) {
        int32_t ratio = (int32_t)(((int64_t)x[i] * inv + (1 << 21)) >> 22); /* |x| <= r: below 2^24 */
        int64_t value = ((int64_t)ratio * G[i] + half) >> k;
        bits |= RANGE_BITS(value);
        y[i] = low_bits(value);
    }
    return is_range(bits);
}

static int rope(const int32_t *restrict x, uint32_t size, uint32_t rotary, int half, const int32_t *restrict cosine,
                const int32_t *restrict sine, int32_t *restrict y)
{
    uint64_t bits = 0;
    uint32_t pairs = rotary / 2;
    if (half)
        for (uint32_t i = 0; i < pairs; i++) {
            int64_t a = x[i], b = x[i + pairs];
            int64_t first = (a * cosine[i] - b * sine[i] + 8192) >> 14, second = (a * sine[i] + b * cosine[i] + 8192) >> 14;
            bits |= RANGE_BITS(first) | RANGE_BITS(second);
            y[i] = low_bits(first);
            y[i + pairs] = low_bits(second);
        }
    else
        for (uint32_t i = 0; i < pairs; i++) {
            int64_t a = x[2 * i], b = x[2 * i + 1];
            int64_t first = (a * cosine[i] - b * sine[i] + 8192) >> 14, second = (a * sine[i] + b * cosine[i] + 8192) >> 14;
            bits |= RANGE_BITS(first) | RANGE_BITS(second);
            y[2 * i] = low_bits(first);
            y[2 * i + 1] = low_bits(second);
        }
    for (uint32_t i = rotary; i < size; i++)
        y[i] = x[i];
    return is_range(bits);
}

static int value_quant(const int32_t *restrict x, uint32_t size, int8_t *restrict v8, int32_t *k_v)
{
    uint32_t largest = 0;
    for (uint32_t i = 0; i < size; i++) {
        uint32_t magnitude = x[i] < 0 ? 0u - (uint32_t)x[i] : (uint32_t)x[i];
        largest = magnitude > largest ? magnitude : largest;
    }
    int k = 0;
    while (k < 25 && (uint64_t)largest > UINT64_C(127) << k)
        k++;
    if (k > 24)
        return reference_value_quant(x, size, v8, k_v);
    *k_v = k;
    if (k == 0)
        for (uint32_t i = 0; i < size; i++)
            v8[i] = (int8_t)x[i];
    else
        for (uint32_t i = 0; i < size; i++)
            v8[i] = (int8_t)((x[i] >> k) + ((x[i] >> (k - 1)) & 1));
    return 0;
}

/* A table whose steps are small enough for 32-bit interpolation. */
static int is_smooth(const int32_t *restrict A)
{
    uint32_t bits = 0;
    for (int i = 0; i < 1024; i++) {
        int32_t step = (int32_t)((uint32_t)A[i + 1] - (uint32_t)A[i]);
        bits |= (uint32_t)(step < 0 ? -(step + 1) : step);
    }
    return bits < 1 << 20;
}

static int gate(const int32_t *restrict g, const int32_t *restrict u, uint32_t n, const int32_t *restrict A, int F_g,
                int k, int32_t *restrict y)
{
    int right = F_g - 16;
    if (!u || right < 0 || right > 31 || !is_smooth(A))
        return reference_gate(g, u, n, A, F_g, k, y);
    int before = right > 0 ? right - 1 : 0, keep = right > 0;
    int64_t half = half_of(k);
    uint64_t bits = 0;
    for (uint32_t i = 0; i < n; i++) {
        int32_t t = (g[i] >> right) + ((g[i] >> before) & keep);
        int32_t inside = t < -(1 << 20) ? -(1 << 20) : t > (1 << 20) - 1 ? (1 << 20) - 1 : t;
        int32_t index = (inside + (1 << 20)) >> 11, f = (inside + (1 << 20)) & 2047;
        int32_t low = A[index], a = low + (((A[index + 1] - low) * f + 1024) >> 11);
        a = t >= 1 << 20 ? t : t < -(1 << 20) ? 0 : a;
        int64_t value = ((int64_t)a * u[i] + half) >> k;
        bits |= RANGE_BITS(value);
        y[i] = low_bits(value);
    }
    return is_range(bits);
}

static int add(const int32_t *restrict x, const int32_t *restrict y, uint32_t n, int32_t *restrict sum)
{
    int32_t bad = 0;
    for (uint32_t i = 0; i < n; i++) {
        int32_t total = (int32_t)((uint32_t)x[i] + (uint32_t)y[i]);
        bad |= ((x[i] ^ total) & (y[i] ^ total)) >> 31;
        bad |= total == INT32_MIN ? -1 : 0;
        sum[i] = total;
    }
    return bad != 0;
}

extern const struct row_kernels JOIN(row_kernels_, KERNELS_ISA);
const struct row_kernels JOIN(row_kernels_, KERNELS_ISA) = {embed, quant, norm_quant, norm, rope, value_quant, gate, add};
