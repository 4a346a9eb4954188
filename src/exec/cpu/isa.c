#define _GNU_SOURCE
#include "exec/cpu/isa.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu_features.h"
#include "bulla/engine.h"

#define FEATURE(name) (1u << CPU_##name)
#define VNNI_FEATURES (FEATURE(AVX2) | FEATURE(AVX512F) | FEATURE(AVX512BW) | FEATURE(AVX512VL) | FEATURE(AVX512_VNNI))

#if defined(AVXVNNI_IS_EMULATED)
#define AVXVNNI_FEATURES FEATURE(AVX2)
#else
#define AVXVNNI_FEATURES (FEATURE(AVX2) | FEATURE(AVX_VNNI))
#endif

#if defined(AMX_IS_EMULATED) && defined(__x86_64__)
#define AMX_FEATURES VNNI_FEATURES
enum { FIRST_CHOICE = 1 }; /* emulated tiles only where they are asked for */
#else
#define AMX_FEATURES (VNNI_FEATURES | FEATURE(AMX_TILE) | FEATURE(AMX_INT8))
enum { FIRST_CHOICE = 0 };
#endif

struct isa {
    const struct kernels *kernels;
    uint32_t features;
};

/* Best first. AVX512DQ is in every processor with AVX512_VNNI. */
static const struct isa isas[] = {
#if defined(__x86_64__)
    {&kernels_amx, AMX_FEATURES},
    {&kernels_vnni, VNNI_FEATURES},
    {&kernels_avxvnni, AVXVNNI_FEATURES},
    {&kernels_avx2, FEATURE(AVX2)},
#elif defined(__aarch64__)
    {&kernels_i8mm, FEATURE(ASIMDDP) | FEATURE(I8MM)},
    {&kernels_neon, FEATURE(ASIMDDP)},
#endif
    {&kernels_portable, 0},
};
enum { ISAS = sizeof isas / sizeof isas[0] };

static int isa_runs(const struct isa *isa, bulla_error *error)
{
    uint32_t missing = isa->features & ~cpu_features();
    for (int f = 0; f < CPU_FEATURE_COUNT; f++)
        if (missing >> f & 1)
            return bulla_fail(error, BULLA_E_UNSUPPORTED,
                              "instruction set %s: this processor or operating system lacks %s; leave BULLA_ISA unset for "
                              "the best that runs here", isa->kernels->name, cpu_feature_name((enum cpu_feature)f));
    return isa->kernels->prepare(error);
}

int isa_describe(size_t index, struct isa_state *state)
{
    if (index >= ISAS)
        return 0;
    const struct isa *isa = &isas[index];
    *state = (struct isa_state){.name = isa->kernels->name, .description = isa->kernels->description};
    uint32_t missing = isa->features & ~cpu_features();
    size_t used = 0, size = sizeof state->reason;
    for (int f = 0; f < CPU_FEATURE_COUNT; f++)
        if (missing >> f & 1)
            used += (size_t)snprintf(state->reason + used, size - used, "%s%s", used ? ", " : "lacks ",
                                     cpu_feature_name((enum cpu_feature)f));
    bulla_error error = {0};
    if (!missing && isa->kernels->prepare(&error) != BULLA_OK)
        snprintf(state->reason, size, "%.*s", (int)size - 1, error.text);
    state->runs = !state->reason[0];
    return 1;
}

static const struct isa *isa_find(const char *name)
{
    for (int i = 0; i < ISAS; i++)
        if (strcmp(isas[i].kernels->name, name) == 0)
            return &isas[i];
    return NULL;
}

int isa_choose(const char *name, const struct kernels **kernels, bulla_error *error)
{
    if (!name || !*name)
        name = getenv("BULLA_ISA");
    if (name && *name) {
        const struct isa *isa = isa_find(name);
        if (!isa)
            return bulla_fail(error, BULLA_E_UNSUPPORTED, "instruction set %.40s is unknown here; known are portable"
#if defined(__x86_64__)
                              ", avx2, avxvnni, vnni, amx"
#elif defined(__aarch64__)
                              ", neon, i8mm"
#endif
                              , name);
        int code = isa_runs(isa, error);
        *kernels = code ? NULL : isa->kernels;
        return code;
    }
    for (int i = FIRST_CHOICE; i < ISAS; i++)
        if (isa_runs(&isas[i], NULL) == BULLA_OK) {
            *kernels = isas[i].kernels;
            return BULLA_OK;
        }
    return bulla_fail(error, BULLA_E_INTERNAL, "not even portable kernels run");
}

/* Those that run are a tail of one of two lists: with avxvnni, which not every processor with a better set has, or
 * without it; of the others each needs all that the next one does. */
const char *const *bulla_engine_isas(void)
{
#if defined(__x86_64__)
    static const char *const with_avxvnni[] = {"amx", "vnni", "avxvnni", "avx2", "portable", NULL};
    static const char *const without[] = {"amx", "vnni", "avx2", "portable", NULL};
    const char *const *names = bulla_engine_isa_available("avxvnni", NULL, 0) ? with_avxvnni : without;
#else
    static const char *const names_of_all[] = {
#if defined(__aarch64__)
        "i8mm", "neon",
#endif
        "portable", NULL};
    const char *const *names = names_of_all;
#endif
    while (names[1] && !bulla_engine_isa_available(names[0], NULL, 0))
        names++;
    return names;
}

int bulla_engine_isa_available(const char *name, char *reason, size_t reason_size)
{
    bulla_error error = {0};
    const struct kernels *kernels;
    int code = name && *name ? isa_choose(name, &kernels, &error)
                             : bulla_fail(&error, BULLA_E_USAGE, "no instruction set is named");
    if (reason && reason_size) {
        size_t length = code ? strlen(error.text) : 0;
        length = length < reason_size ? length : reason_size - 1;
        memcpy(reason, error.text, length);
        reason[length] = 0;
    }
    return code == BULLA_OK;
}
