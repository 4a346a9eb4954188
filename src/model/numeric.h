/* The importer's dense arithmetic: second moments, their triangular factor, and
 * panel updates. Results do not depend on threads or instruction set: integer
 * sums are exact, and every binary64 element is the result of one fixed sequence
 * of roundings (vectors run over independent elements, nothing is contracted). */
#ifndef MODEL_NUMERIC_H
#define MODEL_NUMERIC_H

#include <stdint.h>

#include "base/threads.h"

/* sums[i][j] += sum over t of a[i][t] * a[j][t] for j <= i: a[n][stride] of |a| <= 2^11,
 * `count` <= stride columns used, count <= 511, so that a product's sum stays in 31 bits. Exact. */
void numeric_add_moments(const int16_t *a, uint64_t stride, uint64_t count, uint32_t n, int64_t *sums,
                         struct thread_team *team);

/* C[r][k] += sum over m ascending of X[r][m] * B[m][k], for `rows` rows, `columns`
 * columns, depth `depth`; leading dimensions in elements. One thread. */
void numeric_panel(double *C, uint64_t ldc, const double *X, uint64_t ldx, const double *B, uint64_t ldb, uint32_t rows,
                   uint32_t columns, uint32_t depth);

/* Factors a symmetric positive definite H[n][n] (upper triangle read) as A D A^T
 * with A unit upper triangular: on return the strict upper triangle of H holds A
 * and its diagonal D; the rest is zero. Returns 0 where a pivot is not positive. */
int numeric_factor(double *H, uint32_t n, double *scratch, struct thread_team *team);
/* Elements of `scratch` that numeric_factor needs. */
uint64_t numeric_factor_scratch(uint32_t n);

/* The Hadamard transform of x[n] in blocks of `block` (a power of two that divides n), divided by `block`. */
void numeric_hadamard(double *x, uint32_t n, uint32_t block);
/* q[i] = x[i] / scale rounded to nearest, ties upwards, within 127; `scale` is above 0. */
void numeric_round(const double *x, uint32_t n, double scale, int8_t *q);
double numeric_largest(const double *x, uint32_t n); /* the largest |x[i]| */

#endif
