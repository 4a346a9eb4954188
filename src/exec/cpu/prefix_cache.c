/* The prefix cache. docs/canonical.md lets a pair (operation, position) raise RANGE
 * only where it is evaluated, that is where its result reaches sampled logits. So
 * what lies in a page depends on its tokens, those before it, and on the
 * first_sampled of the sequence that computed it: with windows, a longer prompt
 * needs less of its first positions. A page is shared only with sequences that
 * evaluate nothing in it that was not evaluated, and found within its bounds, when
 * it was computed. */
#include "exec/cpu/prefix_cache.h"

#include <string.h>

#include "base/memory.h"
#include "exec/cpu/engine_internal.h"

static const uint32_t NO_PAGE = UINT32_MAX;

/* --- keys --- */

/* SHA-256(domain || 32 bytes || data). Keys stay in this process, so numbers are
 * hashed as they lie in memory. */
static int hash_key(const struct prefix_cache *cache, const char *domain, const uint8_t before[HASH_SHA256_BYTES],
                    const void *data, size_t length, struct prefix_key *key, bulla_error *error)
{
    hash_stream_update(cache->hash, domain, strlen(domain) + 1);
    hash_stream_update(cache->hash, before, HASH_SHA256_BYTES);
    hash_stream_update(cache->hash, data, length);
    return hash_stream_finish(cache->hash, key->bytes, error);
}

/* keys[block + 1], the key of the sequence's full page `block`. */
static int find_page_key(const bulla_sequence *sequence, uint64_t block, bulla_error *error)
{
    const struct prefix_chain *chain = &sequence->prefix;
    return hash_key(&sequence->engine->prefix, "bulla-prefix-page", chain->keys[block].bytes,
                    chain->ids + block * KERNEL_POSITIONS, KERNEL_POSITIONS * sizeof *chain->ids,
                    &chain->keys[block + 1], error);
}

/* --- entries --- */

static uint32_t *bucket_of(const struct prefix_cache *cache, const struct prefix_key *key)
{
    uint64_t number;
    memcpy(&number, key->bytes, sizeof number);
    return &cache->buckets[number & (cache->bucket_count - 1)];
}

static uint32_t find_entry(const bulla_engine *engine, const struct prefix_key *key)
{
    uint32_t page = *bucket_of(&engine->prefix, key);
    while (page != NO_PAGE && memcmp(&engine->pool.pages[page].prefix.key, key, sizeof *key) != 0)
        page = engine->pool.pages[page].prefix.next;
    return page;
}

static void add_entry(bulla_engine *engine, uint32_t page, const struct prefix_key *key, uint64_t first_sampled)
{
    uint32_t *bucket = bucket_of(&engine->prefix, key);
    engine->pool.pages[page].prefix =
        (struct prefix_entry){.key = *key, .first_sampled = first_sampled, .next = *bucket, .is_cached = 1};
    *bucket = page;
}

void prefix_forget(bulla_engine *engine, uint32_t page)
{
    struct pool *pool = &engine->pool;
    struct prefix_entry *entry = &pool->pages[page].prefix;
    if (!entry->is_cached)
        return;
    uint32_t *link = bucket_of(&engine->prefix, &entry->key);
    while (*link != page)
        link = &pool->pages[*link].prefix.next;
    *link = entry->next;
    entry->is_cached = 0;
    if (pool->pages[page].references == 0)
        page_free_idle(pool, page);
}

/* Sequences let go of their last page first, so a chain of pages is given up from its end. */
void prefix_evict(bulla_engine *engine)
{
    struct pool *pool = &engine->pool;
    prefix_forget(engine, pool->pages[pool->total].newer);
    engine->prefix.counters.evictions++;
}

/* Whether all that a sequence evaluates in its page `block` was evaluated in this
 * one. A lower first_sampled never evaluates less. */
static int is_covered(const bulla_sequence *sequence, uint64_t block, const struct prefix_entry *entry)
{
    const bulla_program *program = sequence->engine->program;
    uint64_t *had = sequence->engine->prefix.lowest, start = block * KERNEL_POSITIONS;
    if (entry->first_sampled <= sequence->first_sampled)
        return 1;
    plan_lowest(program, entry->first_sampled, had);
    for (uint32_t i = 0; i < program->operation_count; i++) {
        uint64_t needed = sequence->lowest[i] > start ? sequence->lowest[i] : start;
        if (needed < start + KERNEL_POSITIONS && had[i] > needed)
            return 0;
    }
    return 1;
}

/* --- sequences --- */

int prefix_reserve(struct prefix_chain *chain, uint64_t pages, bulla_error *error)
{
    uint32_t *ids = memory_resize(chain->ids, pages * KERNEL_POSITIONS, sizeof *ids, error);
    if (ids)
        chain->ids = ids;
    struct prefix_key *keys = ids ? memory_resize(chain->keys, pages + 1, sizeof *keys, error) : NULL;
    if (keys)
        chain->keys = keys;
    return keys ? BULLA_OK : BULLA_E_MEMORY;
}

/* The cache's page for the sequence's next one, whose ids are there; NO_PAGE for none. */
static int find_next(bulla_sequence *sequence, uint32_t *page, bulla_error *error)
{
    int code = find_page_key(sequence, sequence->page_count, error);
    if (code != BULLA_OK)
        return code;
    *page = find_entry(sequence->engine, &sequence->prefix.keys[sequence->page_count + 1]);
    if (*page != NO_PAGE && !is_covered(sequence, sequence->page_count, &sequence->engine->pool.pages[*page].prefix))
        *page = NO_PAGE;
    return BULLA_OK;
}

static void count_query(struct prefix_cache *cache, uint64_t queried, uint64_t reused)
{
    cache->counters.positions_queried += queried;
    cache->counters.positions_reused += reused;
    cache->counters.hits += reused > 0;
    cache->counters.misses += reused == 0;
}

int prefix_begin(bulla_sequence *sequence, const char *tenant, const uint32_t *ids, size_t count, bulla_error *error)
{
    struct prefix_cache *cache = &sequence->engine->prefix;
    struct prefix_chain *chain = &sequence->prefix;
    /* The first sampled position has to be computed: its logits are wanted. */
    uint64_t most = (count < sequence->first_sampled ? count : sequence->first_sampled) / KERNEL_POSITIONS;
    chain->is_shared = 1;
    int code = sequence_reserve(sequence, most + 1, error);
    if (code == BULLA_OK)
        code = hash_key(cache, "bulla-prefix-tenant", cache->salt, tenant, strlen(tenant), &chain->keys[0], error);
    if (code == BULLA_OK && most > 0)
        memcpy(chain->ids, ids, most * KERNEL_POSITIONS * sizeof *ids);
    for (uint32_t page = NO_PAGE; code == BULLA_OK && sequence->page_count < most;) {
        code = find_next(sequence, &page, error);
        if (code != BULLA_OK || page == NO_PAGE)
            break;
        page_hold(&sequence->engine->pool, page);
        sequence->pages[sequence->page_count++] = page;
    }
    chain->count = sequence->page_count;
    sequence->length = sequence->page_count * KERNEL_POSITIONS;
    if (code == BULLA_OK)
        count_query(cache, count, sequence->length);
    return code;
}

/* The sequence's full page `block`, whose key is there, enters the cache. Where the
 * cache has a page with the same tokens already, one of the two is enough: what is
 * evaluated in both has the same bits. */
static void publish(bulla_sequence *sequence, uint64_t block)
{
    bulla_engine *engine = sequence->engine;
    const struct prefix_key *key = &sequence->prefix.keys[block + 1];
    uint32_t own = sequence->pages[block], known = find_entry(engine, key);
    if (known != NO_PAGE && is_covered(sequence, block, &engine->pool.pages[known].prefix)) {
        page_hold(&engine->pool, known);
        page_release(&engine->pool, own);
        sequence->pages[block] = known;
        return;
    }
    if (known != NO_PAGE)
        prefix_forget(engine, known);
    add_entry(engine, own, key, sequence->first_sampled);
}

void prefix_note(bulla_sequence *sequence, const uint32_t *ids, uint32_t count)
{
    if (sequence->prefix.is_shared)
        memcpy(sequence->prefix.ids + sequence->length, ids, count * sizeof *ids);
}

void prefix_publish(bulla_sequence *sequence)
{
    struct prefix_chain *chain = &sequence->prefix;
    if (!chain->is_shared)
        return;
    /* A key that cannot be had now is tried for again at the next step. */
    while (chain->count < sequence->length / KERNEL_POSITIONS && !find_page_key(sequence, chain->count, NULL))
        publish(sequence, chain->count++);
}

void prefix_truncate(bulla_sequence *sequence)
{
    uint64_t full = sequence->length / KERNEL_POSITIONS;
    if (sequence->prefix.count > full)
        sequence->prefix.count = full;
}

/* --- the cache --- */

int prefix_cache_open(bulla_engine *engine, const uint8_t *salt, bulla_error *error)
{
    struct prefix_cache *cache = &engine->prefix;
    if (!salt)
        return BULLA_OK;
    memcpy(cache->salt, salt, sizeof cache->salt);
    for (cache->bucket_count = 1; cache->bucket_count < engine->pool.total;)
        cache->bucket_count *= 2;
    cache->buckets = memory_alloc(cache->bucket_count, sizeof *cache->buckets, error);
    cache->lowest = memory_alloc(engine->program->operation_count, sizeof *cache->lowest, error);
    cache->hash = cache->buckets && cache->lowest ? hash_stream_open(error) : NULL;
    if (!cache->hash)
        return BULLA_E_MEMORY;
    for (uint64_t i = 0; i < cache->bucket_count; i++)
        cache->buckets[i] = NO_PAGE;
    return BULLA_OK;
}

void prefix_cache_close(struct prefix_cache *cache)
{
    hash_stream_close(cache->hash);
    memory_free(cache->buckets);
    memory_free(cache->lowest);
    memory_wipe(cache, sizeof *cache);
}
