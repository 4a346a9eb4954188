#include "exec/ref/operations.h"

#include <stddef.h>
#include <string.h>

enum { OK = 0, RANGE = 1 };

static int fits(int64_t value)
{
    return value > -(INT64_C(1) << 31) && value < (INT64_C(1) << 31);
}

/* Stores a value that a bound covers; outside it the low 32 bits, so that the
 * behaviour stays defined. */
static int store(int64_t value, int32_t *result)
{
    *result = (int32_t)(uint32_t)(uint64_t)value;
    return fits(value) ? OK : RANGE;
}

int64_t reference_round_shift(int64_t a, int k)
{
    return k == 0 ? a : (a + (INT64_C(1) << (k - 1))) >> k;
}

#define RS reference_round_shift

int reference_bit_length(uint64_t a)
{
    int length = 0;
    for (; a; a >>= 1)
        length++;
    return length;
}

uint64_t reference_integer_root(uint64_t a)
{
    uint64_t root = 0;
    for (int bit = 31; bit >= 0; bit--) {
        uint64_t candidate = root | UINT64_C(1) << bit;
        if (candidate * candidate <= a)
            root = candidate;
    }
    return root;
}

uint32_t reference_exp(const uint32_t mantissas[1024], int bits, uint64_t D)
{
    uint64_t octaves = D >> 10;
    return octaves >= (uint64_t)bits ? 0 : mantissas[D & 1023] >> octaves;
}

int64_t reference_interpolate(int64_t low, int64_t high, int64_t f, int bits)
{
    return low + RS((high - low) * f, bits);
}

void reference_hadamard(int32_t *x, uint32_t n, uint32_t b)
{
    for (uint32_t step = 1; step < b; step *= 2)
        for (uint32_t i = 0; i < n; i++)
            if (!(i & step)) {
                int32_t low = x[i], high = x[i + step];
                x[i] = low + high;
                x[i + step] = low - high;
            }
}

void reference_embed(const int8_t *E8, uint16_t ME, int ke, uint32_t n, int32_t *x)
{
    for (uint32_t i = 0; i < n; i++)
        x[i] = (int32_t)RS((int64_t)E8[i] * ME, ke);
}

static int64_t magnitude(int64_t value)
{
    return value < 0 ? -value : value;
}

int reference_quantize_shift(int64_t A, uint32_t b)
{
    int shift = reference_bit_length((uint64_t)A) + reference_bit_length(b) - 1 - 30;
    return shift > 0 ? shift : 0;
}

int64_t reference_quantize_element(int64_t h, int64_t m)
{
    if (m == 0)
        return 0;
    int l = reference_bit_length((uint64_t)m);
    int64_t R = (INT64_C(127) << (l + 16)) / m;
    return (h * R + (INT64_C(1) << (l + 15))) >> (l + 16);
}

void reference_quantize(const int32_t *x, const uint8_t *e, uint32_t n, uint32_t b, int32_t *h, int8_t *q,
                        uint32_t *m, int *T)
{
    int64_t A = 0;
    for (uint32_t i = 0; i < n; i++) {
        int64_t a = magnitude((int64_t)x[i] * (INT64_C(1) << (e ? e[i] : 0)));
        A = a > A ? a : A;
    }
    *T = reference_quantize_shift(A, b);
    for (uint32_t i = 0; i < n; i++)
        h[i] = (int32_t)RS((int64_t)x[i] * (INT64_C(1) << (e ? e[i] : 0)), *T);
    reference_hadamard(h, n, b);
    int64_t largest = 0;
    for (uint32_t i = 0; i < n; i++)
        largest = magnitude(h[i]) > largest ? magnitude(h[i]) : largest;
    *m = (uint32_t)largest;
    for (uint32_t i = 0; i < n; i++)
        q[i] = (int8_t)reference_quantize_element(h[i], largest);
}

void reference_quant(const int32_t *x, uint32_t n, uint32_t b, int32_t *h, int8_t *q, int64_t *s)
{
    uint32_t m;
    int T;
    reference_quantize(x, NULL, n, b, h, q, &m, &T);
    *s = (int64_t)m << T;
}

/* r = isqrt(ss + eps), or RANGE: ss + eps < 2^62. */
static int norm_root(const int32_t *x, uint32_t n, uint64_t eps, uint64_t *r)
{
    uint64_t sum = eps;
    int bad = eps >> 62 != 0;
    for (uint32_t i = 0; i < n && !bad; i++) {
        sum += (uint64_t)((int64_t)x[i] * x[i]);
        bad = sum >> 62 != 0;
    }
    *r = bad ? 1 : reference_integer_root(sum);
    return bad ? RANGE : OK;
}

int64_t reference_norm_scale(int64_t m, int64_t r, int shift)
{
    uint64_t ratio = ((uint64_t)m << 31) / (uint64_t)r;
    if (shift >= 0)
        return reference_bit_length(ratio) + shift > 62 ? INT64_C(1) << 62 : (int64_t)(ratio << shift);
    return shift <= -64 ? 0 : (int64_t)(ratio >> -shift);
}

int reference_norm_quant(const int32_t *x, const uint8_t *e, uint32_t n, uint32_t b, int c, uint64_t eps,
                         int32_t *h, int8_t *q, int64_t *s)
{
    uint64_t r;
    int bad = norm_root(x, n, eps, &r);
    uint32_t m;
    int T;
    reference_quantize(x, e, n, b, h, q, &m, &T);
    *s = reference_norm_scale(m, (int64_t)r, T + c - 31);
    return bad;
}

int reference_linear_end(int64_t acc, int64_t s, uint16_t M, int32_t bias, int k1, int k2, int32_t *y)
{
    if (s >= INT64_C(1) << (15 + k1)) {
        *y = 0;
        return RANGE;
    }
    return store(RS(acc * RS(s * M, k1), k2) + bias, y);
}

int reference_linear_row(const int8_t *q, int64_t s, const int8_t *W, uint16_t M, int32_t bias, uint32_t n, int k1,
                         int k2, int32_t *y)
{
    int32_t acc = 0;
    for (uint32_t i = 0; i < n; i++)
        acc += W[i] * q[i];
    return reference_linear_end(acc, s, M, bias, k1, k2, y);
}

int reference_linear(const int8_t *q, int64_t s, const int8_t *W, const uint16_t *M, const int32_t *bias,
                     uint32_t rows, uint32_t n, int k1, int k2, int32_t *y)
{
    int bad = OK;
    for (uint32_t j = 0; j < rows; j++)
        bad |= reference_linear_row(q, s, W + (uint64_t)j * n, M[j], bias ? bias[j] : 0, n, k1, k2, &y[j]);
    return bad;
}

int reference_norm_element(int64_t x, int64_t inv, int32_t G, int k, int32_t *y)
{
    return store(RS(RS(x * inv, 22) * G, k), y);
}

int reference_norm(const int32_t *x, const int32_t *G, uint32_t n, uint64_t eps, int k, int32_t *y)
{
    uint64_t r;
    int bad = norm_root(x, n, eps, &r);
    /* Within the bound |x| <= r, so that x * inv stays below 2^46. */
    int64_t inv = bad ? 0 : (int64_t)((UINT64_C(1) << 46) / r);
    for (uint32_t i = 0; i < n; i++)
        bad |= reference_norm_element(x[i], inv, G[i], k, &y[i]);
    return bad;
}

uint32_t reference_rope_angle(uint64_t position, uint64_t turn)
{
    return (uint32_t)((position * turn + (UINT64_C(1) << 47)) >> 48);
}

int reference_rope(const int32_t *x, uint32_t size, uint32_t rotary, int half, const uint64_t *turn,
                   uint64_t position, const int16_t cosine[65536], int32_t *y)
{
    int bad = OK;
    for (uint32_t i = 0; i < rotary / 2; i++) {
        uint32_t first = half ? i : 2 * i, second = half ? i + rotary / 2 : 2 * i + 1;
        uint32_t n = reference_rope_angle(position, turn[i]);
        int64_t c = cosine[n], s = cosine[(n - (1 << 14)) & 0xFFFF];
        int64_t a = x[first], b = x[second];
        bad |= store(RS(a * c - b * s, 14), &y[first]);
        bad |= store(RS(a * s + b * c, 14), &y[second]);
    }
    for (uint32_t i = rotary; i < size; i++)
        y[i] = x[i];
    return bad;
}

int reference_head_quant(const int32_t *x, uint32_t size, uint32_t b, int32_t *h, int8_t *q8, int32_t *s)
{
    int64_t scale;
    reference_quant(x, size, b, h, q8, &scale);
    return store(scale, s);
}

int reference_key_quant(const int32_t *x, uint32_t size, uint32_t b, uint32_t C, int32_t *h, int8_t *k8, int32_t *t)
{
    int32_t s;
    int bad = reference_head_quant(x, size, b, h, k8, &s);
    *t = bad ? 0 : (int32_t)RS((int64_t)s * C, 16);
    return bad;
}

int reference_value_shift(int64_t largest, int32_t *k_v)
{
    int k = 0;
    while (k < 25 && largest > INT64_C(127) << k)
        k++;
    *k_v = k > 24 ? 24 : k;
    return k > 24 ? RANGE : OK;
}

int reference_value_quant(const int32_t *x, uint32_t size, int8_t *v8, int32_t *k_v)
{
    int64_t largest = 0;
    for (uint32_t i = 0; i < size; i++)
        largest = magnitude(x[i]) > largest ? magnitude(x[i]) : largest;
    int bad = reference_value_shift(largest, k_v);
    for (uint32_t i = 0; i < size; i++)
        v8[i] = (int8_t)(uint8_t)(uint64_t)RS(x[i], *k_v);
    return bad;
}

int32_t reference_softcap(const int32_t *A, int32_t z)
{
    int64_t edge = INT64_C(1) << 19, shifted = (int64_t)z + edge;
    if (shifted < 0)
        return A[0];
    if (shifted >= 2 * edge)
        return A[1024];
    int64_t i = shifted >> 10, f = shifted & 1023;
    return (int32_t)reference_interpolate(A[i], A[i + 1], f, 10);
}

int reference_score(const int8_t *q8, int32_t s_q, const struct reference_key *key, uint32_t size, int a2,
                    const int32_t *cap, int32_t *z)
{
    int32_t acc = 0;
    for (uint32_t i = 0; i < size; i++)
        acc += q8[i] * key->k8[i];
    int bad = store(RS(RS((int64_t)acc * s_q, 22) * key->t_k, a2), z);
    if (cap)
        *z = reference_softcap(cap, *z);
    return bad;
}

void reference_attend_block(const struct reference_key *keys, const int32_t *z, uint32_t count, uint32_t size,
                            const struct reference_tables *tables, int32_t *Z, int32_t *K, uint32_t *S, int32_t *O)
{
    *Z = z[0];
    *K = keys[0].k_v;
    for (uint32_t p = 1; p < count; p++) {
        *Z = z[p] > *Z ? z[p] : *Z;
        *K = keys[p].k_v > *K ? keys[p].k_v : *K;
    }
    *S = 0;
    memset(O, 0, size * sizeof *O);
    for (uint32_t p = 0; p < count; p++) {
        uint32_t e = reference_exp(tables->exp15, 15, (uint64_t)((int64_t)*Z - z[p]));
        int32_t w = (int32_t)(e >> (*K - keys[p].k_v));
        *S += e;
        for (uint32_t i = 0; i < size; i++)
            O[i] += w * keys[p].v8[i];
    }
}

int64_t reference_attend_ratio(uint64_t S, int *d)
{
    *d = reference_bit_length(S) > 32 ? reference_bit_length(S) - 32 : 0;
    return (int64_t)((UINT64_C(1) << 55) / (S >> *d));
}

enum { MAX_HEAD = 1024 };

int reference_attend(const int8_t *q8, int32_t s_q, uint32_t size, uint64_t t, uint32_t window, int a2,
                     const int32_t *cap, const struct reference_tables *tables,
                     struct reference_key (*key)(void *context, uint64_t position), void *context, int32_t *o)
{
    uint64_t first = window && t + 1 > window ? t + 1 - window : 0;
    struct reference_key keys[REFERENCE_ATTEND_BLOCK];
    int32_t z[REFERENCE_ATTEND_BLOCK], O[MAX_HEAD];
    int64_t B[MAX_HEAD] = {0}, Z_all = INT64_MIN, K_all = 0;
    uint64_t S_all = 0;
    int bad = OK;
    /* Z and K over all blocks come first, then the blocks again with both known. */
    for (int pass = 0; pass < 2; pass++)
        for (uint64_t start = first; start <= t;) {
            uint64_t end = (start / REFERENCE_ATTEND_BLOCK + 1) * REFERENCE_ATTEND_BLOCK;
            uint32_t count = (uint32_t)((end <= t ? end : t + 1) - start), S;
            int32_t Z, K;
            for (uint32_t p = 0; p < count; p++) {
                keys[p] = key(context, start + p);
                bad |= reference_score(q8, s_q, &keys[p], size, a2, cap, &z[p]);
            }
            reference_attend_block(keys, z, count, size, tables, &Z, &K, &S, O);
            if (pass == 0) {
                Z_all = Z > Z_all ? Z : Z_all;
                K_all = K > K_all ? K : K_all;
            } else {
                int64_t f = reference_exp(tables->exp31, 31, (uint64_t)(Z_all - Z));
                S_all += (uint64_t)RS(S * f, 15);
                for (uint32_t i = 0; i < size; i++)
                    B[i] += RS(O[i] * f, (int)(15 + K_all - K));
            }
            start = end;
        }
    int d;
    int64_t R = reference_attend_ratio(S_all, &d);
    for (uint32_t i = 0; i < size; i++)
        bad |= store(RS(RS(B[i], d) * R, (int)(53 - K_all)), &o[i]);
    return bad;
}

static int64_t activation(const int32_t *A, int64_t t)
{
    int64_t edge = INT64_C(1) << 20;
    if (t >= edge)
        return t;
    if (t < -edge)
        return 0;
    int64_t i = (t + edge) >> 11, f = (t + edge) & 2047;
    return reference_interpolate(A[i], A[i + 1], f, 11);
}

int reference_gate_input(int64_t g, int F_g, int32_t *t)
{
    return store(F_g >= 16 ? RS(g, F_g - 16) : g * (INT64_C(1) << (16 - F_g)), t);
}

int reference_gate(const int32_t *g, const int32_t *u, uint32_t n, const int32_t *A, int F_g, int k, int32_t *y)
{
    int bad = OK;
    for (uint32_t i = 0; i < n; i++) {
        int32_t t;
        bad |= reference_gate_input(g[i], F_g, &t);
        int64_t a = activation(A, t);
        bad |= store(u ? RS(a * u[i], k) : a, &y[i]);
    }
    return bad;
}

int reference_add(const int32_t *x, const int32_t *y, uint32_t n, int32_t *sum)
{
    int bad = OK;
    for (uint32_t i = 0; i < n; i++)
        bad |= store((int64_t)x[i] + y[i], &sum[i]);
    return bad;
}
