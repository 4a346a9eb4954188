/* Allocation for the whole project. Every allocation goes through here, so that
 * tests can make the n-th one fail and see that nothing leaks or crashes. */
#ifndef BASE_MEMORY_H
#define BASE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "bulla/error.h"

/* Zeroed memory for `count` things of `size` bytes; NULL, with the error
 * recorded, on overflow or when memory is short. `count * size` = 0 gives a
 * unique pointer. Free with memory_free. `error` may be NULL. */
void *memory_alloc(size_t count, size_t size, bulla_error *error);

/* As realloc: on failure the old block stays valid and NULL is returned. New
 * bytes are not zeroed. */
void *memory_resize(void *block, size_t count, size_t size, bulla_error *error);

/* Zeroed memory aligned to `alignment` (a power of two, at least 8). */
void *memory_alloc_aligned(size_t alignment, size_t bytes, bulla_error *error);

/* A NUL-terminated copy of `length` bytes at `text`. */
char *memory_copy_text(const char *text, size_t length, bulla_error *error);

void memory_free(void *block); /* NULL is fine */

/* Whole pages of zeroed memory, 2 MiB aligned, in huge pages where the operating
 * system gives them; what is never touched takes no memory. Give back with
 * memory_unmap and the same number of bytes. */
void *memory_map(size_t bytes, bulla_error *error);
void memory_unmap(void *block, size_t bytes); /* NULL is fine */

/* Overwrites a secret so that the compiler cannot drop the writes. */
void memory_wipe(void *block, size_t bytes);

/* Tests only: the allocation number `n` from now (1 = the next) fails, and every
 * one after it too if `keep_failing`. 0 switches injection off. */
void memory_inject_failure(uint64_t n, int keep_failing);
/* Tests only: allocations asked for since the process started. */
uint64_t memory_allocation_count(void);

#endif
