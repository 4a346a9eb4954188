#include "model/real.h"

#include <math.h>

static struct real two_sum(double a, double b)
{
    double sum = a + b, part = sum - a;
    return (struct real){sum, (a - (sum - part)) + (b - part)};
}

static struct real quick_sum(double a, double b) /* |a| >= |b| */
{
    double sum = a + b;
    return (struct real){sum, b - (sum - a)};
}

static struct real two_product(double a, double b)
{
    const double splitter = 134217729.0; /* 2^27 + 1 */
    double t = splitter * a, a_hi = t - (t - a), a_lo = a - a_hi;
    double u = splitter * b, b_hi = u - (u - b), b_lo = b - b_hi;
    double product = a * b;
    return (struct real){product, ((a_hi * b_hi - product) + a_hi * b_lo + a_lo * b_hi) + a_lo * b_lo};
}

struct real real_of(double value)
{
    return (struct real){value, 0};
}

struct real real_add(struct real a, struct real b)
{
    struct real high = two_sum(a.hi, b.hi), low = two_sum(a.lo, b.lo);
    struct real sum = quick_sum(high.hi, high.lo + low.hi);
    return quick_sum(sum.hi, sum.lo + low.lo);
}

struct real real_subtract(struct real a, struct real b)
{
    return real_add(a, (struct real){-b.hi, -b.lo});
}

struct real real_multiply(struct real a, struct real b)
{
    struct real product = two_product(a.hi, b.hi);
    return quick_sum(product.hi, product.lo + (a.hi * b.lo + a.lo * b.hi));
}

struct real real_divide(struct real a, struct real b)
{
    double first = a.hi / b.hi;
    struct real rest = real_subtract(a, real_multiply(b, real_of(first)));
    double second = rest.hi / b.hi;
    rest = real_subtract(rest, real_multiply(b, real_of(second)));
    double third = rest.hi / b.hi;
    return real_add(quick_sum(first, second), real_of(third));
}

struct real real_square_root(struct real a)
{
    if (a.hi <= 0)
        return real_of(0);
    struct real root = real_of(sqrt(a.hi));
    for (int i = 0; i < 2; i++) /* Newton: (r + a / r) / 2 */
        root = real_scale(real_add(root, real_divide(a, root)), -1);
    return root;
}

struct real real_scale(struct real a, int exponent)
{
    return (struct real){ldexp(a.hi, exponent), ldexp(a.lo, exponent)};
}

int real_less(struct real a, struct real b)
{
    return a.hi < b.hi || (a.hi == b.hi && a.lo < b.lo);
}

static struct real natural_log_2(void)
{
    return (struct real){0.6931471805599453, 2.3190468138462996e-17};
}

struct real real_pi(void)
{
    return (struct real){3.141592653589793, 1.2246467991473532e-16};
}

/* exp(a) = 2^n * exp(r / 512)^512 with |r| <= ln2 / 2, Taylor series inside. */
struct real real_exp(struct real a)
{
    int n = (int)floor(a.hi / natural_log_2().hi + 0.5);
    struct real r = real_scale(real_subtract(a, real_multiply(natural_log_2(), real_of(n))), -9);
    struct real term = r, sum = r; /* of exp(r) - 1, so that small results keep their bits */
    for (int i = 2; i <= 12; i++) {
        term = real_divide(real_multiply(term, r), real_of(i));
        sum = real_add(sum, term);
    }
    for (int i = 0; i < 9; i++) /* exp(2r) - 1 = 2 s + s^2 */
        sum = real_add(real_scale(sum, 1), real_multiply(sum, sum));
    return real_scale(real_add(sum, real_of(1)), n);
}

/* Newton on exp, from a first value by halving into [sqrt(1/2), sqrt(2)). */
struct real real_log(struct real a)
{
    int exponent;
    double fraction = frexp(a.hi, &exponent);
    if (fraction < 0.70710678118654757)
        exponent--;
    struct real m = real_scale(a, -exponent);
    double z = (m.hi - 1) / (m.hi + 1), square = z * z, term = z, sum = 0;
    for (int i = 1; i < 60; i += 2, term *= square)
        sum += term / i;
    struct real y = real_of(2 * sum);
    for (int i = 0; i < 3; i++) {
        struct real minus = {-y.hi, -y.lo};
        y = real_add(y, real_subtract(real_multiply(m, real_exp(minus)), real_of(1)));
    }
    return real_add(y, real_multiply(natural_log_2(), real_of(exponent)));
}

struct real real_power(struct real base, struct real exponent)
{
    return real_exp(real_multiply(exponent, real_log(base)));
}

/* Taylor of cos(a / 64), then cos(2x) = 2 cos(x)^2 - 1 six times, carried as
 * v = cos(x) - 1 so that nothing cancels. */
struct real real_cos(struct real a)
{
    struct real x = real_scale(a, -6), square = real_multiply(x, x);
    struct real term = real_of(1), v = real_of(0);
    for (int i = 2; i <= 26; i += 2) {
        term = real_divide(real_multiply(term, square), real_of(-(double)i * (i - 1)));
        v = real_add(v, term);
    }
    for (int i = 0; i < 6; i++) /* cos(2x) - 1 = 4 v + 2 v^2 */
        v = real_add(real_scale(v, 2), real_scale(real_multiply(v, v), 1));
    return real_add(v, real_of(1));
}

struct real real_tanh(struct real a)
{
    if (a.hi > 40 || a.hi < -40)
        return real_of(a.hi > 0 ? 1 : -1);
    struct real e = real_exp(real_scale(a, 1)), one = real_of(1);
    return real_divide(real_subtract(e, one), real_add(e, one));
}

int64_t real_round(struct real a)
{
    double whole = floor(a.hi);
    struct real rest = real_add(real_subtract(a, real_of(whole)), real_of(0.5));
    double more = floor(rest.hi);
    if (rest.hi == more && rest.lo < 0)
        more -= 1;
    return (int64_t)whole + (int64_t)more;
}

uint64_t real_round_fraction(struct real a)
{
    /* The upper 32 bits, then what is left. */
    struct real scaled = real_scale(a, 32);
    double upper = floor(scaled.hi);
    if (scaled.hi == upper && scaled.lo < 0)
        upper -= 1;
    struct real rest = real_scale(real_subtract(scaled, real_of(upper)), 32);
    return ((uint64_t)upper << 32) + (uint64_t)real_round(rest);
}
