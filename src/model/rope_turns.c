/* Rotation angles a position: the frequencies of rotary embeddings (Su et al.,
 * "RoFormer", 2021) with the scalings in use:
 *   linear   theta / factor (Chen et al., 2023)
 *   llama3   Llama 3.1's: low frequencies divided by factor, smooth between
 *   yarn     Peng et al., "YaRN", 2023
 *   factors  a divisor a dimension: LongRoPE (Ding et al., 2024), and GGUF's rope_freqs
 */
#include <math.h>

#include "model/decoder.h"
#include "model/real.h"

static struct real two_pi(void)
{
    return real_scale(real_pi(), 1);
}

/* base^(-2i / rotary) */
static struct real plain(const struct decoder_rope *rope, uint32_t rotary, uint32_t i)
{
    struct real exponent = real_divide(real_of(-2.0 * i), real_of(rotary));
    return real_power(real_of(rope->base), exponent);
}

static struct real mix(struct real a, struct real b, struct real share_of_b)
{
    return real_add(real_multiply(a, real_subtract(real_of(1), share_of_b)), real_multiply(b, share_of_b));
}

static struct real llama3(const struct decoder_rope *rope, struct real theta)
{
    struct real slow = real_divide(theta, real_of(rope->factor));
    struct real turns = real_divide(real_multiply(theta, real_of(rope->original_context)), two_pi());
    if (real_less(real_of(rope->high), turns))
        return theta;
    if (real_less(turns, real_of(rope->low)))
        return slow;
    struct real share = real_divide(real_subtract(turns, real_of(rope->low)),
                                    real_subtract(real_of(rope->high), real_of(rope->low)));
    return mix(slow, theta, share);
}

/* The dimension that makes `turns` full turns over the original context. */
static struct real yarn_dimension(const struct decoder_rope *rope, uint32_t rotary, double turns)
{
    struct real ratio = real_divide(real_of(rope->original_context), real_multiply(real_of(turns), two_pi()));
    return real_divide(real_multiply(real_of(rotary), real_log(ratio)),
                       real_scale(real_log(real_of(rope->base)), 1));
}

static struct real yarn(const struct decoder_rope *rope, uint32_t rotary, uint32_t i, struct real theta)
{
    struct real low = yarn_dimension(rope, rotary, rope->high), high = yarn_dimension(rope, rotary, rope->low);
    if (rope->truncate) {
        low = real_of(floor(low.hi));
        high = real_of(ceil(high.hi));
    }
    struct real last = real_of(rotary - 1.0);
    low = real_less(low, real_of(0)) ? real_of(0) : low;
    high = real_less(last, high) ? last : high;
    struct real width = real_subtract(high, low);
    if (width.hi == 0)
        width = real_of(0.001);
    struct real ramp = real_divide(real_subtract(real_of(i), low), width);
    ramp = ramp.hi < 0 ? real_of(0) : ramp.hi > 1 ? real_of(1) : ramp;
    return mix(theta, real_divide(theta, real_of(rope->factor)), ramp);
}

int decoder_turns(const struct decoder_rope *rope, uint32_t rotary, struct arena *arena, const uint64_t **result,
                  bulla_error *error)
{
    uint64_t *turn = arena_alloc(arena, rotary / 2, sizeof *turn, error);
    if (!turn)
        return BULLA_E_MEMORY;
    for (uint32_t i = 0; i < rotary / 2; i++) {
        struct real theta = plain(rope, rotary, i);
        if (rope->scaling == ROPE_LINEAR)
            theta = real_divide(theta, real_of(rope->factor));
        else if (rope->scaling == ROPE_LLAMA3)
            theta = llama3(rope, theta);
        else if (rope->scaling == ROPE_YARN)
            theta = yarn(rope, rotary, i, theta);
        else if (rope->scaling == ROPE_FACTORS)
            theta = real_divide(theta, real_of(rope->factors[i]));
        struct real fraction = real_divide(theta, two_pi());
        if (!(fraction.hi > 0) || !(fraction.hi < 1))
            return bulla_fail(error, BULLA_E_INPUT, "rope: the angle of dimension %u is %g a position, expected between 0 "
                              "and 2 pi", i, theta.hi);
        turn[i] = real_round_fraction(fraction);
    }
    *result = turn;
    return BULLA_OK;
}
