/* Which kernels run here. */
#ifndef EXEC_CPU_ISA_H
#define EXEC_CPU_ISA_H

#include <stddef.h>

#include "bulla/error.h"
#include "exec/cpu/kernels.h"

/* The kernels named `isa`; NULL or "": those that BULLA_ISA names, else the best that run
 * here. A name that is unknown or does not run here is BULLA_E_UNSUPPORTED,
 * saying why. */
int isa_choose(const char *isa, const struct kernels **kernels, bulla_error *error);

/* An instruction set of this build, as `bulla doctor` explains it. */
struct isa_state {
    const char *name, *description; /* "vnni", "AVX-512 VNNI" */
    int runs;
    char reason[256]; /* why it does not run: "lacks avx512f, avx512bw"; "" where it does */
};
/* The instruction set number `index`, best first; 0 where there are no more. */
int isa_describe(size_t index, struct isa_state *state);

#endif
