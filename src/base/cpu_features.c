/* CPUID and XGETBV as in Intel's Software Developer's Manual, volume 2A (CPUID,
 * leaves 1, 7 and 80000002H to 80000004H) and volume 1, 13.2 (XCR0). On aarch64
 * what Linux says of the processor in the auxiliary vector
 * (Documentation/arch/arm64/elf_hwcaps.rst). */
#include "base/cpu_features.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>

enum {
    XCR0_AVX = 1 << 1 | 1 << 2,                  /* XMM and the upper halves of YMM */
    XCR0_AVX512 = XCR0_AVX | 1 << 5 | 1 << 6 | 1 << 7, /* mask registers, ZMM */
    XCR0_AMX = 1 << 17 | 1 << 18                 /* tile configuration and data */
};

enum cpuid_register { EBX, ECX, EDX, EAX_OF_1 };

struct source {
    enum cpuid_register where; /* of leaf 7: EBX, ECX, EDX of subleaf 0, EAX of subleaf 1 */
    int bit;
    uint32_t state; /* bits that XCR0 must hold */
};

enum { X86_FEATURES = CPU_SHA + 1 };

static const struct source sources[X86_FEATURES] = {
    [CPU_AVX2] = {EBX, 5, XCR0_AVX},
    [CPU_AVX_VNNI] = {EAX_OF_1, 4, XCR0_AVX},
    [CPU_AVX512F] = {EBX, 16, XCR0_AVX512},
    [CPU_AVX512BW] = {EBX, 30, XCR0_AVX512},
    [CPU_AVX512VL] = {EBX, 31, XCR0_AVX512},
    [CPU_AVX512_VBMI] = {ECX, 1, XCR0_AVX512},
    [CPU_AVX512_VNNI] = {ECX, 11, XCR0_AVX512},
    [CPU_AMX_TILE] = {EDX, 24, XCR0_AMX},
    [CPU_AMX_INT8] = {EDX, 25, XCR0_AMX},
    [CPU_SHA] = {EBX, 29, 0},
};

/* The register states that the operating system saves and restores. */
static uint32_t enabled_state(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
        return 0;
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

uint32_t cpu_features(void)
{
    unsigned a, registers[4] = {0};
    if (!__get_cpuid_count(7, 0, &a, &registers[EBX], &registers[ECX], &registers[EDX]))
        return 0;
    unsigned subleaves = a, b, c, d;
    if (subleaves >= 1)
        __get_cpuid_count(7, 1, &registers[EAX_OF_1], &b, &c, &d);
    uint32_t state = enabled_state(), features = 0;
    for (int f = 0; f < X86_FEATURES; f++)
        if (registers[sources[f].where] >> sources[f].bit & 1 && (state & sources[f].state) == sources[f].state)
            features |= 1u << f;
    return features;
}

void cpu_brand(char name[49])
{
    memset(name, 0, 49);
    for (unsigned i = 0; i < 3; i++) {
        unsigned words[4];
        if (!__get_cpuid(0x80000002u + i, &words[0], &words[1], &words[2], &words[3]))
            return;
        memcpy(name + 16 * i, words, sizeof words);
    }
    size_t spaces = strspn(name, " ");
    memmove(name, name + spaces, 49 - spaces);
}
#else
#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>

uint32_t cpu_features(void)
{
    uint32_t features = 0;
    if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP)
        features |= 1u << CPU_ASIMDDP;
    if (getauxval(AT_HWCAP2) & HWCAP2_I8MM)
        features |= 1u << CPU_I8MM;
    return features;
}
#else
uint32_t cpu_features(void)
{
    return 0;
}
#endif

void cpu_brand(char name[49])
{
    memset(name, 0, 49);
}
#endif

const char *cpu_feature_name(enum cpu_feature feature)
{
    static const char *const names[CPU_FEATURE_COUNT] = {
        "avx2",        "avx_vnni",    "avx512f",  "avx512bw", "avx512vl",
        "avx512vbmi",  "avx512_vnni", "amx_tile", "amx_int8", "sha",
        "asimddp",     "i8mm",
    };
    return (unsigned)feature < CPU_FEATURE_COUNT ? names[feature] : "unknown";
}
