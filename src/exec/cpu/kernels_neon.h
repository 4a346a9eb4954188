/* What the kernels for aarch64 share: products of four i32 in 64 bits, rounded,
 * checked and narrowed. Instructions are explained in Arm's Architecture Reference
 * Manual for A-profile, C7.2. Included by kernel sources only. */
#ifndef EXEC_CPU_KERNELS_NEON_H
#define EXEC_CPU_KERNELS_NEON_H

#include <arm_neon.h>

#include "exec/cpu/kernels.h"
#include "exec/cpu/kernels_lanes.h"

/* Four i64: elements 0 and 1, 2 and 3. */
typedef int64x2x2_t wide4;

ALWAYS_INLINE wide4 multiply_wide(int32x4_t a, int32x4_t b)
{
    return (wide4){{vmull_s32(vget_low_s32(a), vget_low_s32(b)), vmull_high_s32(a, b)}};
}

/* A count for round_wide: RS(a, k), 0 <= k <= 62. */
ALWAYS_INLINE int64x2_t right_by(int k)
{
    return vdupq_n_s64(-k);
}

/* RS. SRSHL by a negative count shifts right and adds its half before, in as many bits as that takes. */
ALWAYS_INLINE wide4 round_wide(wide4 a, int64x2_t right)
{
    return (wide4){{vrshlq_s64(a.val[0], right), vrshlq_s64(a.val[1], right)}};
}

/* The low 32 bits of each. */
ALWAYS_INLINE int32x4_t narrow(wide4 a)
{
    return vuzp1q_s32(vreinterpretq_s32_s64(a.val[0]), vreinterpretq_s32_s64(a.val[1]));
}

/* `bits` with the magnitudes OR-ed in, for is_outside. */
ALWAYS_INLINE int64x2_t gather_magnitudes(int64x2_t bits, wide4 a)
{
    return vorrq_s64(bits, vorrq_s64(vabsq_s64(a.val[0]), vabsq_s64(a.val[1])));
}

/* Whether one of the gathered values is at or beyond +-2^31. */
ALWAYS_INLINE int is_outside(int64x2_t bits)
{
    return ((uint64_t)vgetq_lane_s64(bits, 0) | (uint64_t)vgetq_lane_s64(bits, 1)) >> 31 != 0;
}

#endif
