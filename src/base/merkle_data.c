#include "base/merkle_data.h"

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

static void reduce_piece(void *context, uint64_t piece)
{
    struct leaf_job *job = context;
    bulla_error error = {0};
    uint8_t hashes[LEAVES_A_PIECE * MERKLE_HASH];
    struct hash_stream *stream = hash_stream_open(&error);
    uint64_t count = stream ? hash_leaves(job, piece, stream, hashes, &error) : 0;
    hash_stream_close(stream);
    if (count && !error.code)
        merkle_root(hashes, count, job->hashes + piece * MERKLE_HASH, &error);
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
