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

#endif
