/* The KV cache: pages of 64 positions with the keys and values of all layers, and
 * sequences that hold them. */
#include <string.h>

#include "base/memory.h"
#include "exec/cpu/engine_internal.h"

/* Tests: any order of pages gives the same bits. */
static void shuffle(uint32_t *pages, uint64_t count)
{
    uint64_t state = 0x9E3779B97F4A7C15;
    for (uint64_t i = count; i > 1; i--) {
        state = state * 6364136223846793005 + 1442695040888963407;
        uint64_t j = (state >> 33) % i;
        uint32_t page = pages[i - 1];
        pages[i - 1] = pages[j];
        pages[j] = page;
    }
}

int pool_open(struct pool *pool, uint64_t pages, size_t page_bytes, int is_shuffled, bulla_error *error)
{
    *pool = (struct pool){.page_bytes = page_bytes ? page_bytes : 64, .total = pages, .free_count = pages};
    if (pages > UINT32_MAX || __builtin_mul_overflow(pool->page_bytes, (size_t)pages, &pool->bytes))
        return bulla_fail(error, BULLA_E_LIMIT, "%llu pages of keys and values of %zu bytes each are too many",
                          (unsigned long long)pages, page_bytes);
    pool->free_pages = memory_alloc(pages, sizeof *pool->free_pages, error);
    pool->memory = pool->free_pages ? memory_map(pool->bytes, error) : NULL;
    if (!pool->memory) {
        pool_close(pool);
        return BULLA_E_MEMORY;
    }
    for (uint64_t i = 0; i < pages; i++)
        pool->free_pages[i] = (uint32_t)(pages - 1 - i);
    if (is_shuffled)
        shuffle(pool->free_pages, pages);
    return BULLA_OK;
}

void pool_close(struct pool *pool)
{
    memory_free(pool->free_pages);
    memory_unmap(pool->memory, pool->bytes);
    *pool = (struct pool){0};
}

static uint64_t pages_for(uint64_t length)
{
    return (length + KERNEL_POSITIONS - 1) / KERNEL_POSITIONS;
}

int sequence_grow(bulla_sequence *sequence, uint64_t length, bulla_error *error)
{
    struct pool *pool = &sequence->engine->pool;
    uint64_t needed = pages_for(length);
    if (needed > sequence->page_capacity) {
        uint64_t capacity = needed + needed / 2 + 4;
        uint32_t *pages = memory_resize(sequence->pages, capacity, sizeof *pages, error);
        if (!pages)
            return BULLA_E_MEMORY;
        sequence->pages = pages;
        sequence->page_capacity = capacity;
    }
    while (sequence->page_count < needed)
        sequence->pages[sequence->page_count++] = pool->free_pages[--pool->free_count];
    return BULLA_OK;
}

int bulla_sequence_open(bulla_engine *engine, uint64_t first_sampled, bulla_sequence **result, bulla_error *error)
{
    *result = NULL;
    bulla_sequence *sequence = memory_alloc(1, sizeof *sequence, error);
    if (!sequence)
        return BULLA_E_MEMORY;
    sequence->lowest = memory_alloc(engine->program->operation_count, sizeof *sequence->lowest, error);
    if (!sequence->lowest) {
        memory_free(sequence);
        return BULLA_E_MEMORY;
    }
    sequence->engine = engine;
    sequence->first_sampled = first_sampled;
    plan_lowest(engine->program, first_sampled, sequence->lowest);
    sequence->next = engine->sequences;
    if (sequence->next)
        sequence->next->previous = sequence;
    engine->sequences = sequence;
    *result = sequence;
    return BULLA_OK;
}

void bulla_sequence_close(bulla_sequence *sequence)
{
    if (!sequence)
        return;
    bulla_sequence_truncate(sequence, 0);
    if (sequence->next)
        sequence->next->previous = sequence->previous;
    if (sequence->previous)
        sequence->previous->next = sequence->next;
    else
        sequence->engine->sequences = sequence->next;
    memory_free(sequence->pages);
    memory_free(sequence->lowest);
    memory_free(sequence);
}

uint64_t bulla_sequence_length(const bulla_sequence *sequence)
{
    return sequence->length;
}

void bulla_sequence_truncate(bulla_sequence *sequence, uint64_t length)
{
    struct pool *pool = &sequence->engine->pool;
    sequence->length = length < sequence->length ? length : sequence->length;
    if (sequence->length <= sequence->range_position)
        sequence->has_range = 0;
    while (sequence->page_count > pages_for(sequence->length))
        pool->free_pages[pool->free_count++] = sequence->pages[--sequence->page_count];
}
