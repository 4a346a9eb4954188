#define _GNU_SOURCE
#include "base/memory.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static atomic_uint_least64_t allocations;
static atomic_uint_least64_t fail_at;
static atomic_int fail_forever;

static int injected(void)
{
    uint64_t number = atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed) + 1;
    uint64_t at = atomic_load_explicit(&fail_at, memory_order_relaxed);
    if (at == 0)
        return 0;
    return number == at || (number > at && atomic_load_explicit(&fail_forever, memory_order_relaxed));
}

void memory_inject_failure(uint64_t n, int keep_failing)
{
    atomic_store(&fail_forever, keep_failing);
    atomic_store(&fail_at, n == 0 ? 0 : atomic_load(&allocations) + n);
}

uint64_t memory_allocation_count(void)
{
    return atomic_load(&allocations);
}

static void *short_of_memory(size_t count, size_t size, bulla_error *error)
{
    bulla_fail(error, BULLA_E_MEMORY, "out of memory: %zu x %zu bytes could not be allocated", count, size);
    return NULL;
}

void *memory_alloc(size_t count, size_t size, bulla_error *error)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || injected())
        return short_of_memory(count, size, error);
    void *block = calloc(1, bytes ? bytes : 1);
    return block ? block : short_of_memory(count, size, error);
}

void *memory_resize(void *block, size_t count, size_t size, bulla_error *error)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || injected())
        return short_of_memory(count, size, error);
    void *grown = realloc(block, bytes ? bytes : 1);
    return grown ? grown : short_of_memory(count, size, error);
}

void *memory_alloc_aligned(size_t alignment, size_t bytes, bulla_error *error)
{
    void *block = NULL;
    if (injected() || posix_memalign(&block, alignment, bytes ? bytes : 1) != 0)
        return short_of_memory(1, bytes, error);
    memset(block, 0, bytes);
    return block;
}

char *memory_copy_text(const char *text, size_t length, bulla_error *error)
{
    char *copy = length == SIZE_MAX ? short_of_memory(1, length, error) : memory_alloc(length + 1, 1, error);
    if (copy && length)
        memcpy(copy, text, length);
    return copy;
}

void memory_free(void *block)
{
    free(block);
}

enum { HUGE_PAGE = 2 << 20 };

static size_t whole_pages(size_t bytes)
{
    return (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
}

void *memory_map(size_t bytes, bulla_error *error)
{
    if (bytes > SIZE_MAX / 2 || injected())
        return short_of_memory(1, bytes, error);
    size_t length = whole_pages(bytes ? bytes : 1);
    /* One huge page more, then what sticks out on both sides goes back. */
    uint8_t *start = mmap(NULL, length + HUGE_PAGE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED)
        return short_of_memory(1, bytes, error);
    size_t before = (HUGE_PAGE - (uintptr_t)start % HUGE_PAGE) % HUGE_PAGE;
    if (before)
        munmap(start, before);
    munmap(start + before + length, HUGE_PAGE - before);
    madvise(start + before, length, MADV_HUGEPAGE);
    return start + before;
}

void memory_unmap(void *block, size_t bytes)
{
    if (block)
        munmap(block, whole_pages(bytes ? bytes : 1));
}

void memory_wipe(void *block, size_t bytes)
{
    explicit_bzero(block, bytes);
}
