#include "base/merkle.h"

#include <string.h>

#include "base/hash.h"
#include "base/memory.h"

int merkle_hash_node(struct hash_stream *stream, const uint8_t *left, const uint8_t *right, uint8_t node[MERKLE_HASH],
                     bulla_error *error)
{
    static const uint8_t prefix = 1;
    hash_stream_update(stream, &prefix, 1);
    hash_stream_update(stream, left, MERKLE_HASH);
    hash_stream_update(stream, right, MERKLE_HASH);
    return hash_stream_finish(stream, node, error);
}

/* One level up: pairs are hashed, a single last one moves up unchanged, which is
 * the split at the largest power of two, read from below. */
static int hash_level(struct hash_stream *stream, uint8_t *hashes, uint64_t *count, bulla_error *error)
{
    uint64_t parents = *count / 2;
    for (uint64_t i = 0; i < parents; i++) {
        uint8_t *pair = hashes + 2 * i * MERKLE_HASH;
        int code = merkle_hash_node(stream, pair, pair + MERKLE_HASH, hashes + i * MERKLE_HASH, error);
        if (code)
            return code;
    }
    if (*count & 1)
        memmove(hashes + parents * MERKLE_HASH, hashes + (*count - 1) * MERKLE_HASH, MERKLE_HASH);
    *count = parents + (*count & 1);
    return BULLA_OK;
}

static int reduce(struct hash_stream *stream, uint8_t *hashes, uint64_t count, uint8_t root[MERKLE_HASH],
                  bulla_error *error)
{
    int code = BULLA_OK;
    while (count > 1 && code == BULLA_OK)
        code = hash_level(stream, hashes, &count, error);
    memcpy(root, hashes, MERKLE_HASH);
    return code;
}

int merkle_root(uint8_t *hashes, uint64_t count, uint8_t root[MERKLE_HASH], bulla_error *error)
{
    if (count == 0)
        return hash_sha256("", 0, root, error);
    struct hash_stream *stream = hash_stream_open(error);
    if (!stream)
        return BULLA_E_MEMORY;
    int code = reduce(stream, hashes, count, root, error);
    hash_stream_close(stream);
    return code;
}

int merkle_path(const uint8_t *hashes, uint64_t count, uint64_t index, uint8_t path[64][MERKLE_HASH],
                unsigned *length, bulla_error *error)
{
    *length = 0;
    if (index >= count)
        return bulla_fail(error, BULLA_E_USAGE, "Merkle path: leaf %llu of %llu", (unsigned long long)index,
                          (unsigned long long)count);
    uint8_t *level = memory_alloc(count, MERKLE_HASH, error);
    struct hash_stream *stream = level ? hash_stream_open(error) : NULL;
    int code = stream ? BULLA_OK : BULLA_E_MEMORY;
    if (level)
        memcpy(level, hashes, count * MERKLE_HASH);
    for (; code == BULLA_OK && count > 1; index /= 2) {
        if ((index ^ 1) < count)
            memcpy(path[(*length)++], level + (index ^ 1) * MERKLE_HASH, MERKLE_HASH);
        code = hash_level(stream, level, &count, error);
    }
    hash_stream_close(stream);
    memory_free(level);
    return code;
}

int merkle_path_verify(const uint8_t leaf[MERKLE_HASH], uint64_t index, uint64_t count,
                       const uint8_t *path, unsigned length, const uint8_t root[MERKLE_HASH],
                       bulla_error *error)
{
    if (index >= count)
        return 0;
    struct hash_stream *stream = hash_stream_open(error);
    if (!stream)
        return 0;
    uint8_t node[MERKLE_HASH];
    memcpy(node, leaf, MERKLE_HASH);
    unsigned used = 0;
    int good = 1;
    for (; good && count > 1; index /= 2, count = count / 2 + (count & 1)) {
        if ((index ^ 1) >= count)
            continue;
        good = used < length;
        if (!good)
            break;
        const uint8_t *sibling = path + used++ * MERKLE_HASH;
        const uint8_t *left = index & 1 ? sibling : node, *right = index & 1 ? node : sibling;
        good = merkle_hash_node(stream, left, right, node, error) == BULLA_OK;
    }
    hash_stream_close(stream);
    return good && used == length && memcmp(node, root, MERKLE_HASH) == 0;
}

int merkle_leaf_hash(const void *data, size_t length, uint8_t hash[MERKLE_HASH], bulla_error *error)
{
    static const uint8_t prefix = 0;
    struct hash_stream *stream = hash_stream_open(error);
    if (!stream)
        return BULLA_E_MEMORY;
    hash_stream_update(stream, &prefix, 1);
    hash_stream_update(stream, data, length);
    int code = hash_stream_finish(stream, hash, error);
    hash_stream_close(stream);
    return code;
}

/* RFC 9162 section 2.1.4.2, with the two roots computed side by side. */
int merkle_consistency_verify(uint64_t first, const uint8_t first_root[MERKLE_HASH], uint64_t second,
                              const uint8_t second_root[MERKLE_HASH], const uint8_t *proof, unsigned length,
                              bulla_error *error)
{
    if (first > second)
        return 0;
    if (first == 0 || first == second)
        return length == 0 && (first == 0 || memcmp(first_root, second_root, MERKLE_HASH) == 0);
    uint64_t node = first - 1, last = second - 1;
    unsigned used = 0;
    uint8_t one[MERKLE_HASH], other[MERKLE_HASH];
    for (; node & 1; node >>= 1, last >>= 1)
        ;
    if (node == 0) /* the first tree is a whole subtree: its root is where the proof starts */
        memcpy(one, first_root, MERKLE_HASH);
    else if (length > 0)
        memcpy(one, proof + MERKLE_HASH * used++, MERKLE_HASH);
    else
        return 0;
    memcpy(other, one, MERKLE_HASH);
    struct hash_stream *stream = hash_stream_open(error);
    int good = stream != NULL;
    for (; good && used < length; node >>= 1, last >>= 1) {
        const uint8_t *hash = proof + MERKLE_HASH * used++;
        if (last == 0) {
            good = 0;
        } else if (node & 1 || node == last) {
            good = merkle_hash_node(stream, hash, one, one, error) == BULLA_OK &&
                   merkle_hash_node(stream, hash, other, other, error) == BULLA_OK;
            for (; !(node & 1) && node != 0; node >>= 1, last >>= 1)
                ;
        } else
            good = merkle_hash_node(stream, other, hash, other, error) == BULLA_OK;
    }
    hash_stream_close(stream);
    return good && last == 0 && memcmp(one, first_root, MERKLE_HASH) == 0 && memcmp(other, second_root, MERKLE_HASH) == 0;
}
