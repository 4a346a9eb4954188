/* The operations of docs/canonical.md in plain scalar C, one function each:
 * the executable form of that page, which every other executor must equal to
 * the bit, and the step verifier of disputes. No allocation, no threads, no
 * floating point.
 *
 * Functions that can leave a bound marked ‡ return 0 when all is within and 1
 * (RANGE) when not; the result is then unspecified but defined behaviour. Names
 * of parameters are the page's. Shapes are in the comments. */
#ifndef EXEC_REF_OPERATIONS_H
#define EXEC_REF_OPERATIONS_H

#include <stdint.h>

/* The tables of the page that every program shares. */
struct reference_tables {
    uint32_t exp15[1024], exp24[1024], exp31[1024]; /* mantissas: round((2^n - 1) * 2^(-i/1024)) */
    int16_t cosine[65536];                          /* round(16384 * cos(2*pi*i / 2^16)) */
};

/* RS(a, k), 0 <= k <= 62, |a| < 2^62. */
int64_t reference_round_shift(int64_t a, int k);
int reference_bit_length(uint64_t a);
uint64_t reference_integer_root(uint64_t a); /* floor of the square root */
/* EXPn[D]: mantissas shifted right by D / 1024, 0 from n octaves on. */
uint32_t reference_exp(const uint32_t mantissas[1024], int bits, uint64_t D);
/* Between two neighbours of a table, f / 2^bits of the way. */
int64_t reference_interpolate(int64_t low, int64_t high, int64_t f, int bits);
/* Had_b of each consecutive block of b, in place; x[n], b divides n. */
void reference_hadamard(int32_t *x, uint32_t n, uint32_t b);

/* x[n] = RS(E8[n] * ME, ke) */
void reference_embed(const int8_t *E8, uint16_t ME, int ke, uint32_t n, int32_t *x);

/* quantize(x; e, b), of one element: the shift T where the largest |x * 2^e| is A < 2^47; q where the largest |h| is m; and s of
 * norm_quant, where shift is T + c - 31. |h| <= 2^31, m <= 2^31, 1 <= r < 2^31. */
int reference_quantize_shift(int64_t A, uint32_t b);
int64_t reference_quantize_element(int64_t h, int64_t m);
int64_t reference_norm_scale(int64_t m, int64_t r, int shift);
/* quantize(x; e, b): x[n], e[n] or NULL for zeros -> q[n], m, T. `h` is scratch of n. */
void reference_quantize(const int32_t *x, const uint8_t *e, uint32_t n, uint32_t b, int32_t *h, int8_t *q,
                        uint32_t *m, int *T);
void reference_quant(const int32_t *x, uint32_t n, uint32_t b, int32_t *h, int8_t *q, int64_t *s);
int reference_norm_quant(const int32_t *x, const uint8_t *e, uint32_t n, uint32_t b, int c, uint64_t eps,
                         int32_t *h, int8_t *q, int64_t *s);

/* The end of a row: y = RS(acc * RS(s * M, k1), k2) + bias; 0 <= s <= 2^62, |acc| <= 2^31. */
int reference_linear_end(int64_t acc, int64_t s, uint16_t M, int32_t bias, int k1, int k2, int32_t *y);
/* One row: y = RS(acc * RS(s * M, k1), k2) + bias, acc = sum of W[i] * q[i]. */
int reference_linear_row(const int8_t *q, int64_t s, const int8_t *W, uint16_t M, int32_t bias, uint32_t n, int k1,
                         int k2, int32_t *y);
/* q[n], s, W[rows][n], M[rows], bias[rows] or NULL -> y[rows] */
int reference_linear(const int8_t *q, int64_t s, const int8_t *W, const uint16_t *M, const int32_t *bias,
                     uint32_t rows, uint32_t n, int k1, int k2, int32_t *y);

/* One element: y = RS(RS(x * inv, 22) * G, k), |x * inv| <= 2^46 */
int reference_norm_element(int64_t x, int64_t inv, int32_t G, int k, int32_t *y);
/* One group: x[n], G[n] -> y[n] */
int reference_norm(const int32_t *x, const int32_t *G, uint32_t n, uint64_t eps, int k, int32_t *y);

/* A pair's angle, in 2^16 of a circle. */
uint32_t reference_rope_angle(uint64_t position, uint64_t turn);
/* One head: x[size] -> y[size]; turn[rotary / 2]. */
int reference_rope(const int32_t *x, uint32_t size, uint32_t rotary, int half, const uint64_t *turn,
                   uint64_t position, const int16_t cosine[65536], int32_t *y);

/* One head: x[size] -> q8[size], s. `h` is scratch of size. */
int reference_head_quant(const int32_t *x, uint32_t size, uint32_t b, int32_t *h, int8_t *q8, int32_t *s);
int reference_key_quant(const int32_t *x, uint32_t size, uint32_t b, uint32_t C, int32_t *h, int8_t *k8, int32_t *t);
int reference_value_shift(int64_t largest, int32_t *k_v); /* of the largest |x| of a head */
int reference_value_quant(const int32_t *x, uint32_t size, int8_t *v8, int32_t *k_v);

/* A key as the cache holds it for one kv head. */
struct reference_key {
    const int8_t *k8; /* [size] */
    const int8_t *v8; /* [size] */
    int32_t t_k;
    int32_t k_v;
};
enum { REFERENCE_ATTEND_BLOCK = 64 };
/* One visible position's score. cap: A[1025] or NULL. */
int reference_score(const int8_t *q8, int32_t s_q, const struct reference_key *key, uint32_t size, int a2,
                    const int32_t *cap, int32_t *z);
/* Softcap table: A[1025] over -2^19 .. 2^19 in steps of 2^10. */
int32_t reference_softcap(const int32_t *A, int32_t z);
/* One aligned block j: visible positions [0, count) of it with their scores z
 * -> Z_j, K_j, S_j, O_j[size]. */
void reference_attend_block(const struct reference_key *keys, const int32_t *z, uint32_t count, uint32_t size,
                            const struct reference_tables *tables, int32_t *Z, int32_t *K, uint32_t *S, int32_t *O);
/* One query head at position t: `key(context, p)` gives position p's key. o[size]. */
int reference_attend(const int8_t *q8, int32_t s_q, uint32_t size, uint64_t t, uint32_t window, int a2,
                     const int32_t *cap, const struct reference_tables *tables,
                     struct reference_key (*key)(void *context, uint64_t position), void *context, int32_t *o);

/* R, and d, of the sum over all blocks: o = RS(RS(B, d) * R, 53 - K); 1 <= S < 2^62. */
int64_t reference_attend_ratio(uint64_t S, int *d);

int reference_gate_input(int64_t g, int F_g, int32_t *t); /* t, where the activation is read */
/* y = RS(a * u, k) with the activation a of g; u NULL: ungated, y = a. */
int reference_gate(const int32_t *g, const int32_t *u, uint32_t n, const int32_t *A, int F_g, int k, int32_t *y);
int reference_add(const int32_t *x, const int32_t *y, uint32_t n, int32_t *sum);

#endif
