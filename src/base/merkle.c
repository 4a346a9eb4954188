#include "base/merkle.h"

#include <string.h>

#include "base/hash.h"
#include "base/memory.h"

/* Leaves that a thread takes at a time: a power of two, so that they are a whole
 * subtree. */
enum { LEAVES_A_PIECE = 256 };

struct leaf_job {
    const uint8_t *data;
    uint64_t length;
    uint8_t *hashes; /* of the leaves, or of the pieces' subtrees */
    uint8_t *codes;  /* one a piece */
};

/* Hashes of a piece's leaves; their number. */
static uint64_t hash_leaves(const struct leaf_job *job, uint64_t piece, struct hash_stream *stream, uint8_t *hashes,
                            bulla_error *error)
{
    uint64_t start = piece * LEAVES_A_PIECE * MERKLE_LEAF, end = start + LEAVES_A_PIECE * MERKLE_LEAF, count = 0;
    static const uint8_t prefix = 0;
    for (end = end < job->length ? end : job->length; start < end && !error->code; start += MERKLE_LEAF) {
        uint64_t length = end - start < MERKLE_LEAF ? end - start : MERKLE_LEAF;
        hash_stream_update(stream, &prefix, 1);
        hash_stream_update(stream, job->data + start, length);
        hash_stream_finish(stream, hashes + count++ * MERKLE_HASH, error);
    }
    return count;
}

static void hash_piece(void *context, uint64_t piece)
{
    struct leaf_job *job = context;
    bulla_error error = {0};
    struct hash_stream *stream = hash_stream_open(&error);
    if (stream)
        hash_leaves(job, piece, stream, job->hashes + piece * LEAVES_A_PIECE * MERKLE_HASH, &error);
    hash_stream_close(stream);
    job->codes[piece] = (uint8_t)error.code;
}

/* Every piece by `work`, then the first failure of any. */
static int run_pieces(struct leaf_job *job, struct thread_team *team, void (*work)(void *context, uint64_t piece),
                      bulla_error *error)
{
    uint64_t leaves = (job->length + MERKLE_LEAF - 1) / MERKLE_LEAF;
    uint64_t pieces = (leaves + LEAVES_A_PIECE - 1) / LEAVES_A_PIECE;
    job->codes = memory_alloc(pieces, sizeof *job->codes, error);
    if (!job->codes)
        return BULLA_E_MEMORY;
    thread_team_each(team, pieces, work, job);
    int code = BULLA_OK;
    for (uint64_t i = 0; i < pieces && code == BULLA_OK; i++)
        code = job->codes[i];
    memory_free(job->codes);
    return code ? bulla_fail(error, code, "hashing the leaves of a Merkle tree: %s",
                             code == BULLA_E_MEMORY ? "out of memory" : "SHA-256 failed in libcrypto") : BULLA_OK;
}

int merkle_leaf_hashes(const void *data, uint64_t length, struct thread_team *team, uint8_t *hashes,
                       bulla_error *error)
{
    struct leaf_job job = {.data = data, .length = length, .hashes = hashes};
    return run_pieces(&job, team, hash_piece, error);
}

static int hash_node(struct hash_stream *stream, const uint8_t *left, const uint8_t *right, uint8_t *node,
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
        int code = hash_node(stream, pair, pair + MERKLE_HASH, hashes + i * MERKLE_HASH, error);
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

static void reduce_piece(void *context, uint64_t piece)
{
    struct leaf_job *job = context;
    bulla_error error = {0};
    uint8_t hashes[LEAVES_A_PIECE * MERKLE_HASH];
    struct hash_stream *stream = hash_stream_open(&error);
    uint64_t count = stream ? hash_leaves(job, piece, stream, hashes, &error) : 0;
    if (count && !error.code)
        reduce(stream, hashes, count, job->hashes + piece * MERKLE_HASH, &error);
    hash_stream_close(stream);
    job->codes[piece] = (uint8_t)error.code;
}

int merkle_data_root(const void *data, uint64_t length, struct thread_team *team, uint8_t root[MERKLE_HASH],
                     bulla_error *error)
{
    uint64_t pieces = (length + LEAVES_A_PIECE * MERKLE_LEAF - 1) / (LEAVES_A_PIECE * MERKLE_LEAF);
    struct leaf_job job = {.data = data, .length = length};
    job.hashes = memory_alloc(pieces, MERKLE_HASH, error);
    if (!job.hashes)
        return BULLA_E_MEMORY;
    int code = run_pieces(&job, team, reduce_piece, error);
    if (code == BULLA_OK)
        code = merkle_root(job.hashes, pieces, root, error);
    memory_free(job.hashes);
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
        good = hash_node(stream, left, right, node, error) == BULLA_OK;
    }
    hash_stream_close(stream);
    return good && used == length && memcmp(node, root, MERKLE_HASH) == 0;
}
