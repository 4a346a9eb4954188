/* Whether this machine has what a policy's "resources" demand (docs/policy.md): asked at the start of a server and by
 * `bulla doctor`. */
#ifndef OPS_PREFLIGHT_H
#define OPS_PREFLIGHT_H

#include "base/buffer.h"
#include "trust/policy.h"

/* Bytes of memory that this process may have: the machine's, or its control group's limit where that is less. 0: unknown. */
uint64_t preflight_memory(void);
/* Of all GPUs together, as AMD's driver and NVIDIA's library tell. 0: none, or they do not say. */
uint64_t preflight_gpu_memory(void);

/* BULLA_E_LIMIT, with what is there and what is demanded, where something is too small. */
int preflight_check(const struct policy *policy, bulla_error *error);

#endif
