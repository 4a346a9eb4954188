/* Real functions to about 100 bits, so that what import rounds to integers
 * (tables, rotation angles, shifts) is the correctly rounded value on every
 * machine, whatever its libm does. A number is the unevaluated sum of two
 * binary64 values, |lo| <= ulp(hi) / 2 (T. J. Dekker, "A floating-point technique
 * for extending the available precision", Numerische Mathematik 18, 1971). Only
 * IEEE additions, multiplications, divisions are used, in a fixed order,
 * and without contraction (-ffp-contract=off). */
#ifndef MODEL_REAL_H
#define MODEL_REAL_H

#include <stdint.h>

struct real {
    double hi, lo;
};

struct real real_of(double value);
struct real real_add(struct real a, struct real b);
struct real real_subtract(struct real a, struct real b);
struct real real_multiply(struct real a, struct real b);
struct real real_divide(struct real a, struct real b);
struct real real_square_root(struct real a); /* a >= 0 */
struct real real_scale(struct real a, int exponent); /* a * 2^exponent, exact */
struct real real_exp(struct real a);         /* |a| <= 700 */
struct real real_log(struct real a);         /* a > 0 */
struct real real_power(struct real base, struct real exponent); /* base > 0 */
struct real real_cos(struct real a);         /* |a| <= 8 */
struct real real_tanh(struct real a);
struct real real_pi(void);
int real_less(struct real a, struct real b);

/* floor(a + 1/2) for |a| < 2^62. */
int64_t real_round(struct real a);
/* floor(a * 2^64 + 1/2) modulo 2^64, for 0 <= a < 1. */
uint64_t real_round_fraction(struct real a);

#endif
