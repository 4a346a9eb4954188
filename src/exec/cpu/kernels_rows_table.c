#include <stddef.h>
#include <string.h>

#include "exec/cpu/kernels_rows.h"

extern const struct row_kernels row_kernels_portable;
#if defined(__x86_64__)
extern const struct row_kernels row_kernels_avx2, row_kernels_vnni, row_kernels_amx;
#endif

const struct row_kernels *row_kernels_find(const char *isa)
{
    static const struct {
        const char *name;
        const struct row_kernels *kernels;
    } list[] = {
        {"portable", &row_kernels_portable},
#if defined(__x86_64__)
        {"avx2", &row_kernels_avx2},
        {"vnni", &row_kernels_vnni},
        {"amx", &row_kernels_amx},
#endif
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
        if (strcmp(list[i].name, isa) == 0)
            return list[i].kernels;
    return NULL;
}

void row_kernels_angles(const uint64_t *turn, uint32_t rotary, uint64_t position, const int16_t table[65536],
                        int32_t *cosine, int32_t *sine)
{
    for (uint32_t i = 0; i < rotary / 2; i++) {
        uint64_t n = (position * turn[i] + (UINT64_C(1) << 47)) >> 48;
        cosine[i] = table[n];
        sine[i] = table[(n - (1 << 14)) & 0xFFFF];
    }
}
