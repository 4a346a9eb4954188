/* The table of one instruction set. */
#define _GNU_SOURCE
#include "exec/cpu/kernels.h"

#if defined(__AMX_INT8__)
#include <sys/syscall.h>
#include <unistd.h>

/* Tile data is a large state that a process must ask for (Linux,
 * Documentation/arch/x86/xstate.rst). */
static int prepare(bulla_error *error)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    if (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) != 0)
        return bulla_fail(error, BULLA_E_UNSUPPORTED,
                          "instruction set amx: the operating system refuses tile registers (arch_prctl)");
    return BULLA_OK;
}
#define DESCRIPTION "AMX int8 tiles, AVX-512 VNNI"
#else
static int prepare(bulla_error *error)
{
    return BULLA_OK;
}
#if defined(KERNELS_EMULATE_AMX)
#define DESCRIPTION "AMX int8 tiles, emulated in memory, AVX-512 VNNI"
#elif defined(__AVX512VNNI__)
#define DESCRIPTION "AVX-512 VNNI"
#elif defined(__AVXVNNI__)
#define DESCRIPTION "AVX-VNNI (256 bits)"
#elif defined(KERNELS_EMULATE_AVXVNNI)
#define DESCRIPTION "AVX-VNNI (256 bits), emulated by AVX2"
#elif defined(__AVX2__)
#define DESCRIPTION "AVX2"
#elif defined(__ARM_FEATURE_MATMUL_INT8)
#define DESCRIPTION "NEON, int8 matrix product"
#elif defined(__ARM_FEATURE_DOTPROD)
#define DESCRIPTION "NEON, dot product"
#else
#define DESCRIPTION "portable C"
#endif
#endif

#define TEXT_(name) #name
#define TEXT(name) TEXT_(name)

extern const struct kernels KERNEL_JOIN(kernels, KERNELS_ISA);
const struct kernels KERNEL_JOIN(kernels, KERNELS_ISA) = {
    .name = TEXT(KERNELS_ISA),
    .description = DESCRIPTION,
    .prepare = prepare,
    .linear = KERNEL(linear),
    .attend_begin = KERNEL(attend_begin),
    .attend_end = KERNEL(attend_end),
    .attend_block = KERNEL(attend_block),
    .attend_combine = KERNEL(attend_combine),
    .quant = KERNEL(quant),
    .norm_quant = KERNEL(norm_quant),
    .head_quant = KERNEL(head_quant),
    .value_quant = KERNEL(value_quant),
    .norm = KERNEL(norm),
    .rope = KERNEL(rope),
    .gate = KERNEL(gate),
    .small_steps = KERNEL(small_steps),
    .add = KERNEL(add),
    .softcap = KERNEL(softcap),
};
