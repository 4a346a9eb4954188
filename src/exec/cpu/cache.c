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
    if (pages >= UINT32_MAX || __builtin_mul_overflow(pool->page_bytes, (size_t)pages, &pool->bytes))
        return bulla_fail(error, BULLA_E_LIMIT, "%llu pages of keys and values of %zu bytes each are too many",
                          (unsigned long long)pages, page_bytes);
    pool->free_pages = memory_alloc(pages, sizeof *pool->free_pages, error);
    pool->pages = memory_alloc(pages + 1, sizeof *pool->pages, error);
    pool->memory = pool->free_pages && pool->pages ? memory_map(pool->bytes, error) : NULL;
    if (!pool->memory) {
        pool_close(pool);
        return BULLA_E_MEMORY;
    }
    pool->pages[pages].older = pool->pages[pages].newer = (uint32_t)pages;
    for (uint64_t i = 0; i < pages; i++)
        pool->free_pages[i] = (uint32_t)(pages - 1 - i);
    if (is_shuffled)
        shuffle(pool->free_pages, pages);
    return BULLA_OK;
}

void pool_close(struct pool *pool)
{
    memory_free(pool->free_pages);
    memory_free(pool->pages);
    memory_unmap(pool->memory, pool->bytes);
    *pool = (struct pool){0};
}

uint64_t pool_available(const struct pool *pool)
{
    return pool->free_count + pool->idle_count;
}

static void join(struct pool *pool, uint32_t older, uint32_t newer)
{
    pool->pages[older].newer = newer;
    pool->pages[newer].older = older;
}

static void leave_idle(struct pool *pool, uint32_t page)
{
    join(pool, pool->pages[page].older, pool->pages[page].newer);
    pool->idle_count--;
}

/* As the one used last. */
static void enter_idle(struct pool *pool, uint32_t page)
{
    uint32_t end = (uint32_t)pool->total;
    join(pool, pool->pages[end].older, page);
    join(pool, page, end);
    pool->idle_count++;
}

/* A page for one sequence; the caller has seen that one is available. */
static uint32_t page_take(bulla_engine *engine)
{
    struct pool *pool = &engine->pool;
    if (pool->free_count == 0)
        prefix_evict(engine);
    uint32_t page = pool->free_pages[--pool->free_count];
    pool->pages[page].references = 1;
    return page;
}

void page_hold(struct pool *pool, uint32_t page)
{
    if (pool->pages[page].references++ == 0)
        leave_idle(pool, page);
}

void page_release(struct pool *pool, uint32_t page)
{
    if (--pool->pages[page].references > 0)
        return;
    if (pool->pages[page].prefix.is_cached)
        enter_idle(pool, page);
    else
        pool->free_pages[pool->free_count++] = page;
}

void page_free_idle(struct pool *pool, uint32_t page)
{
    leave_idle(pool, page);
    pool->free_pages[pool->free_count++] = page;
}

static uint64_t pages_for(uint64_t length)
{
    return (length + KERNEL_POSITIONS - 1) / KERNEL_POSITIONS;
}

int sequence_reserve(bulla_sequence *sequence, uint64_t pages, bulla_error *error)
{
    if (pages <= sequence->page_capacity)
        return BULLA_OK;
    uint64_t capacity = pages + pages / 2 + 4;
    uint32_t *numbers = memory_resize(sequence->pages, capacity, sizeof *numbers, error);
    if (!numbers)
        return BULLA_E_MEMORY;
    sequence->pages = numbers;
    if (sequence->prefix.is_shared && prefix_reserve(&sequence->prefix, capacity, error) != BULLA_OK)
        return BULLA_E_MEMORY;
    sequence->page_capacity = capacity;
    return BULLA_OK;
}

int sequence_own_end(bulla_sequence *sequence, bulla_error *error)
{
    struct pool *pool = &sequence->engine->pool;
    if (sequence->length % KERNEL_POSITIONS == 0)
        return BULLA_OK;
    uint32_t *page = &sequence->pages[sequence->length / KERNEL_POSITIONS];
    if (pool->pages[*page].references == 1) {
        prefix_forget(sequence->engine, *page);
        return BULLA_OK;
    }
    if (pool_available(pool) == 0)
        return bulla_fail(error, BULLA_E_LIMIT, "a sequence goes on within a page of the KV cache that others share, "
                          "and no page is free for a copy of its own");
    uint32_t copy = page_take(sequence->engine);
    memcpy(pool->memory + copy * pool->page_bytes, pool->memory + *page * pool->page_bytes, pool->page_bytes);
    page_release(pool, *page);
    *page = copy;
    return BULLA_OK;
}

int sequence_grow(bulla_sequence *sequence, uint64_t length, bulla_error *error)
{
    uint64_t needed = pages_for(length);
    int code = sequence_reserve(sequence, needed, error);
    while (code == BULLA_OK && sequence->page_count < needed)
        sequence->pages[sequence->page_count++] = page_take(sequence->engine);
    return code;
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

int bulla_sequence_open_hidden(bulla_engine *engine, bulla_sequence **result, bulla_error *error)
{
    *result = NULL;
    if (engine->plan.hidden < 0)
        return bulla_fail(error, BULLA_E_UNSUPPORTED, "the model's program has no hidden state: before its logits there "
                          "is no normalisation");
    int code = bulla_sequence_open(engine, UINT64_MAX, result, error);
    if (code == BULLA_OK)
        plan_lowest_of(engine->program, (uint32_t)engine->plan.hidden, 0, (*result)->lowest);
    return code;
}

int bulla_sequence_open_prefix(bulla_engine *engine, uint64_t first_sampled, const char *tenant, const uint32_t *ids,
                               size_t count, bulla_sequence **result, bulla_error *error)
{
    int code = bulla_sequence_open(engine, first_sampled, result, error);
    if (code != BULLA_OK || !tenant || !engine->prefix.hash)
        return code;
    code = prefix_begin(*result, tenant, ids, count, error);
    if (code != BULLA_OK) {
        bulla_sequence_close(*result);
        *result = NULL;
    }
    return code;
}

uint64_t bulla_engine_prefix_find(bulla_engine *engine, uint64_t first_sampled, const char *tenant, const uint32_t *ids,
                                  size_t count)
{
    bulla_sequence *sequence;
    const bulla_prefix_counters before = engine->prefix.counters;
    if (bulla_sequence_open_prefix(engine, first_sampled, tenant, ids, count, &sequence, NULL) != BULLA_OK)
        return 0;
    uint64_t found = sequence->length;
    bulla_sequence_close(sequence);
    engine->prefix.counters = before;
    return found;
}

void bulla_sequence_close(bulla_sequence *sequence)
{
    if (!sequence)
        return;
    if (sequence->in_step)
        step_forget(&sequence->engine->step, sequence);
    bulla_sequence_truncate(sequence, 0);
    if (sequence->next)
        sequence->next->previous = sequence->previous;
    if (sequence->previous)
        sequence->previous->next = sequence->next;
    else
        sequence->engine->sequences = sequence->next;
    memory_free(sequence->pages);
    memory_free(sequence->prefix.ids);
    memory_free(sequence->prefix.keys);
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
        page_release(pool, sequence->pages[--sequence->page_count]);
    prefix_truncate(sequence);
}
