#include "model/tables.h"

#include "model/real.h"

void tables_exp(int bits, uint32_t mantissas[1024])
{
    struct real top = real_of((double)((UINT64_C(1) << bits) - 1));
    for (int i = 0; i < 1024; i++) {
        struct real power = real_power(real_of(2), real_scale(real_of(-i), -10));
        mantissas[i] = (uint32_t)real_round(real_multiply(top, power));
    }
}

void tables_cosine(int16_t cosine[65536])
{
    /* One octant is computed to each side of the symmetry, so that exact values
     * (0, +-16384) come out exact. */
    for (int i = 0; i <= 16384; i++) {
        struct real angle = real_scale(real_multiply(real_pi(), real_of(2.0 * i)), -16);
        int16_t value = i == 16384 ? 0 : (int16_t)real_round(real_scale(real_cos(angle), 14));
        cosine[i] = value;
        cosine[(65536 - i) & 0xFFFF] = value;
        cosine[32768 - i] = (int16_t)-value;
        cosine[(32768 + i) & 0xFFFF] = (int16_t)-value;
    }
}

static struct real silu(struct real x)
{
    struct real minus = {-x.hi, -x.lo};
    return real_divide(x, real_add(real_of(1), real_exp(minus)));
}

static struct real gelu_tanh(struct real x)
{
    struct real factor = real_square_root(real_divide(real_of(2), real_pi()));
    struct real cubic = real_divide(real_of(44715), real_of(1000000));
    struct real cube = real_multiply(real_multiply(x, x), x);
    struct real inner = real_multiply(factor, real_add(x, real_multiply(cubic, cube)));
    /* x/2 * (1 + tanh(y)) = x * e^(2y) / (e^(2y) + 1), which loses nothing for y < 0 */
    if (inner.hi > 300)
        return x;
    if (inner.hi < -300)
        return real_of(0);
    struct real e = real_exp(real_scale(inner, 1));
    return real_multiply(x, real_divide(e, real_add(e, real_of(1))));
}

void tables_activation(enum tables_activation activation, int32_t A[1025])
{
    for (int i = 0; i <= 1024; i++) {
        struct real x = real_of(-16 + i / 32.0);
        struct real y = activation == TABLES_SILU ? silu(x) : gelu_tanh(x);
        A[i] = (int32_t)real_round(real_scale(y, 16));
    }
}

void tables_softcap(double cap, int logarithmic, int F, int32_t A[1025])
{
    struct real unit = logarithmic ? real_log(real_of(2)) : real_of(1);
    struct real limit = real_divide(real_of(cap), unit);
    for (int i = 0; i <= 1024; i++) {
        struct real x = real_scale(real_of(i * 1024.0 - 524288.0), -F);
        struct real y = real_multiply(limit, real_tanh(real_divide(x, limit)));
        A[i] = (int32_t)real_round(real_scale(y, F));
    }
}
