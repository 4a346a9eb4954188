/* What this machine does at best, measured: what times are held against. */
#ifndef EXEC_CPU_BOUNDS_H
#define EXEC_CPU_BOUNDS_H

#include <stdint.h>

#include "base/threads.h"
#include "bulla/engine.h"

/* Bytes a second at which the team's threads together read the `bytes` at `data`, a share each: the best
 * of several ways of reading, five times each. Nothing is kept from one to the next but what caches hold. */
double bounds_read(struct thread_team *team, const void *data, uint64_t bytes);
/* The same of new memory of that size, in huge pages where there are some. */
int bounds_read_new(struct thread_team *team, uint64_t bytes, double *bytes_per_second, bulla_error *error);

/* Of an engine's own memory and threads. */
struct bounds {
    uint64_t weight_bytes;    /* all packed weights */
    double weights_per_second; /* bytes, reading those */
    uint64_t large_bytes;     /* so much that no cache helps: at least 1 GiB */
    double large_per_second;
};
int bounds_measure_reading(const bulla_engine *engine, struct bounds *bounds, bulla_error *error);

/* Multiply-adds a second of the engine's linear kernel, epilogue included, all threads together, each on
 * data that fit its first-level cache; `rows` activations share a matrix (more than 32 count as 32). */
int bounds_measure_multiplying(const bulla_engine *engine, uint32_t rows, double *per_second, bulla_error *error);

#endif
