#include <string.h>

#include "base/memory.h"
#include "check/trace_internal.h"

enum { BLOCK_TAG = 1 };

int merkle_levels_open(struct merkle_levels *levels, uint64_t count, bulla_error *error)
{
    *levels = (struct merkle_levels){.count = count};
    uint64_t at = 0, size = count;
    for (unsigned level = 0;; level++) {
        levels->start[level] = at;
        levels->height = level;
        at += size;
        if (size <= 1)
            break;
        size = size / 2 + (size & 1);
    }
    levels->hashes = memory_alloc(at ? at : 1, MERKLE_HASH, error);
    return levels->hashes ? BULLA_OK : BULLA_E_MEMORY;
}

static uint8_t *hash_at(const struct merkle_levels *levels, unsigned level, uint64_t index)
{
    return levels->hashes + (levels->start[level] + index) * MERKLE_HASH;
}

int merkle_levels_build(struct merkle_levels *levels, struct hash_stream *stream)
{
    int code = BULLA_OK;
    uint64_t size = levels->count;
    for (unsigned level = 0; level < levels->height && code == BULLA_OK; level++, size = size / 2 + (size & 1)) {
        for (uint64_t i = 0; i < size / 2 && code == BULLA_OK; i++)
            code = merkle_hash_node(stream, hash_at(levels, level, 2 * i), hash_at(levels, level, 2 * i + 1),
                                    hash_at(levels, level + 1, i), NULL);
        if (size & 1)
            memcpy(hash_at(levels, level + 1, size / 2), hash_at(levels, level, size - 1), MERKLE_HASH);
    }
    return code;
}

void merkle_levels_free(struct merkle_levels *levels)
{
    memory_free(levels->hashes);
    *levels = (struct merkle_levels){0};
}

void merkle_levels_root(const struct merkle_levels *levels, uint8_t root[MERKLE_HASH])
{
    memset(root, 0, MERKLE_HASH);
    if (levels->count)
        memcpy(root, hash_at(levels, levels->height, 0), MERKLE_HASH);
}

unsigned merkle_levels_proof(const struct merkle_levels *levels, uint64_t first, uint64_t count,
                             uint8_t (*proof)[MERKLE_HASH])
{
    unsigned length = 0;
    uint64_t last = first + count - 1, size = levels->count;
    for (unsigned level = 0; size > 1; level++, first /= 2, last /= 2, size = size / 2 + (size & 1)) {
        if (first & 1)
            memcpy(proof[length++], hash_at(levels, level, first - 1), MERKLE_HASH);
        if (!(last & 1) && last + 1 < size)
            memcpy(proof[length++], hash_at(levels, level, last + 1), MERKLE_HASH);
    }
    return length;
}

static uint64_t block_bytes(uint64_t length, uint64_t block)
{
    uint64_t left = length - block * STEP_BLOCK;
    return left < STEP_BLOCK ? left : STEP_BLOCK;
}

int merkle_levels_array(struct merkle_levels *levels, const void *bytes, uint64_t length, struct hash_stream *stream,
                        bulla_error *error)
{
    int code = merkle_levels_open(levels, (length + STEP_BLOCK - 1) / STEP_BLOCK, error);
    for (uint64_t block = 0; block < levels->count && code == BULLA_OK; block++)
        code = merkle_range_leaf(stream, BLOCK_TAG, (const uint8_t *)bytes + block * STEP_BLOCK, block_bytes(length, block),
                                 hash_at(levels, 0, block));
    return code ? code : merkle_levels_build(levels, stream);
}

int merkle_array_root(struct hash_stream *stream, const void *bytes, uint64_t length, uint8_t root[MERKLE_HASH])
{
    struct merkle_prefix prefix = {0};
    uint8_t leaf[MERKLE_HASH];
    int code = BULLA_OK, is_first = 1;
    for (uint64_t block = 0; block * STEP_BLOCK < length && code == BULLA_OK; block++) {
        code = merkle_range_leaf(stream, BLOCK_TAG, (const uint8_t *)bytes + block * STEP_BLOCK, block_bytes(length, block),
                                 leaf);
        code = code ? code : merkle_prefix_add(stream, &prefix, leaf);
    }
    memset(root, 0, MERKLE_HASH);
    for (int level = 0; level < 64 && code == BULLA_OK; level++) {
        if (!(prefix.count >> level & 1))
            continue;
        if (is_first)
            memcpy(root, prefix.nodes[level], MERKLE_HASH);
        else
            code = merkle_hash_node(stream, prefix.nodes[level], root, root, NULL);
        is_first = 0;
    }
    return code;
}

int trace_allowed_root(const uint64_t *allowed, uint32_t vocabulary, uint8_t root[MERKLE_HASH], bulla_error *error)
{
    struct hash_stream *stream = hash_stream_open(error);
    if (!stream)
        return BULLA_E_MEMORY;
    int code = merkle_array_root(stream, allowed, (vocabulary + 7) / 8, root); /* little-endian words */
    hash_stream_close(stream);
    return code ? bulla_fail(error, code, "the root of an allowed set: SHA-256 failed in libcrypto") : BULLA_OK;
}
