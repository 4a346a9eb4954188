/* What this processor can do, and the operating system lets programs use. */
#ifndef BASE_CPU_FEATURES_H
#define BASE_CPU_FEATURES_H

#include <stdint.h>

enum cpu_feature {
    CPU_AVX2,
    CPU_AVX_VNNI,
    CPU_AVX512F,
    CPU_AVX512BW,
    CPU_AVX512VL,
    CPU_AVX512_VBMI,
    CPU_AVX512_VNNI,
    CPU_AMX_TILE, /* on Linux a process asks for its state first: arch_prctl(ARCH_REQ_XCOMP_PERM) */
    CPU_AMX_INT8,
    CPU_SHA,
    CPU_ASIMDDP, /* NEON's dot product of bytes: SDOT (FEAT_DotProd) */
    CPU_I8MM,    /* its 2 x 8 by 8 x 2 products: SMMLA, USDOT (FEAT_I8MM) */
    CPU_FEATURE_COUNT
};

/* Bit `f` is set where feature `f` is there; 0 on other processors than x86-64 and aarch64. */
uint32_t cpu_features(void);
/* As the kernel spells it (/proc/cpuinfo): "avx512_vnni", "asimddp". */
const char *cpu_feature_name(enum cpu_feature feature);
/* The processor's own name into `name` (NUL-terminated); "" where it has none. */
void cpu_brand(char name[49]);

#endif
