/* Kernels that work on one position's vector (or one head of it), compiled once
 * an instruction set like those of kernels.h. Each equals its twin in
 * exec/ref/operations.h to the bit, RANGE included, and has the same contract;
 * what a bound makes cheaper is said at the function. */
#ifndef EXEC_CPU_KERNELS_ROWS_H
#define EXEC_CPU_KERNELS_ROWS_H

#include <stdint.h>

struct row_kernels {
    void (*embed)(const int8_t *E8, uint16_t ME, int ke, uint32_t n, int32_t *x);
    void (*quant)(const int32_t *x, uint32_t n, uint32_t b, int32_t *h, int8_t *q, int64_t *s);
    int (*norm_quant)(const int32_t *x, const uint8_t *e, uint32_t n, uint32_t b, int c, uint64_t eps, int32_t *h,
                      int8_t *q, int64_t *s);
    int (*norm)(const int32_t *x, const int32_t *G, uint32_t n, uint64_t eps, int k, int32_t *y);
    /* cosine[i], sine[i] of each turning pair at the position (row_kernels_angles). */
    int (*rope)(const int32_t *x, uint32_t size, uint32_t rotary, int half, const int32_t *cosine, const int32_t *sine,
                int32_t *y);
    int (*value_quant)(const int32_t *x, uint32_t size, int8_t *v8, int32_t *k_v);
    int (*gate)(const int32_t *g, const int32_t *u, uint32_t n, const int32_t *A, int F_g, int k, int32_t *y);
    int (*add)(const int32_t *x, const int32_t *y, uint32_t n, int32_t *sum);
};

/* Of an instruction set's name as in kernels.h ("portable", "avx2", ...); NULL
 * where it isn't built in. Running it needs the instructions. */
const struct row_kernels *row_kernels_find(const char *isa);

/* cosine and sine [rotary / 2] at a position, from the shared table. */
void row_kernels_angles(const uint64_t *turn, uint32_t rotary, uint64_t position, const int16_t table[65536],
                        int32_t *cosine, int32_t *sine);

#endif
