/* The prefix cache: finds pages by the tokens whose keys and values they hold, so
 * that a prompt that begins like an earlier one of the same tenant starts from
 * that one's pages. docs/prefix-cache.md says what may be shared, and why so. */
#ifndef EXEC_CPU_PREFIX_CACHE_H
#define EXEC_CPU_PREFIX_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"
#include "bulla/engine.h"

/* What a full page is found by: SHA-256 over the key of the page before it and its
 * own 64 tokens; before the first page the salt and the tenant stand for a page.
 * Keys are equal only where salt, tenant and all tokens up to the page's end are
 * (else SHA-256 would have a collision), so no tokens are compared. */
struct prefix_key {
    uint8_t bytes[HASH_SHA256_BYTES];
};

/* A page's entry. */
struct prefix_entry {
    struct prefix_key key;
    uint64_t first_sampled; /* the page holds what is evaluated for this one */
    uint32_t next;          /* page in the same bucket */
    uint8_t is_cached;
};

/* A sequence's tokens and keys. */
struct prefix_chain {
    int is_shared;           /* 0: it neither takes pages from the cache nor gives it any */
    uint32_t *ids;           /* [64 * page_capacity], one a position */
    struct prefix_key *keys; /* [page_capacity + 1]: the tenant's, then one a page */
    uint64_t count;          /* full pages whose keys are there; the cache knows or knew them */
};

struct prefix_cache {
    struct hash_stream *hash; /* NULL: there is no prefix cache */
    uint8_t salt[BULLA_PREFIX_SALT_BYTES];
    uint32_t *buckets;        /* [bucket_count], a power of two: the first page of each */
    uint64_t bucket_count;
    uint64_t *lowest;         /* [operation_count]: of an entry's first_sampled */
    bulla_prefix_counters counters;
};

/* Room for so many pages of a sequence that is shared. */
int prefix_reserve(struct prefix_chain *chain, uint64_t pages, bulla_error *error);

/* `salt` NULL: no prefix cache. */
int prefix_cache_open(bulla_engine *engine, const uint8_t *salt, bulla_error *error);
void prefix_cache_close(struct prefix_cache *cache);

/* Gives an empty sequence the pages that the cache has for the start of these tokens. */
int prefix_begin(bulla_sequence *sequence, const char *tenant, const uint32_t *ids, size_t count, bulla_error *error);
/* The tokens that the sequence computes next, whether they leave a bound or not. */
void prefix_note(bulla_sequence *sequence, const uint32_t *ids, uint32_t count);
/* None of the sequence's positions left a bound: its full pages enter the cache. */
void prefix_publish(bulla_sequence *sequence);
/* The sequence was cut to its length. */
void prefix_truncate(bulla_sequence *sequence);
/* The cache no longer knows this page, if it did. */
void prefix_forget(bulla_engine *engine, uint32_t page);
/* Makes the page that was idle longest a free one. */
void prefix_evict(bulla_engine *engine);

#endif
