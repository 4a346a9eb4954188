#include "trust/tlog_tree.h"

#include <string.h>

#include "base/hash.h"
#include "base/memory.h"

enum { TILE_LEVELS = 8, TILE_WIDTH = 1 << TILE_LEVELS };

/* ---- Proofs ---- */

/* The root of the leaves begin .. end - 1, where `begin` is a multiple of a power of two that is at least their number:
 * the whole subtrees in it, largest first, are hashed together from the right. */
static int range_root(const struct tlog_nodes *nodes, uint64_t begin, uint64_t end, uint8_t root[MERKLE_HASH],
                      bulla_error *error)
{
    uint8_t parts[TLOG_TREE_LEVELS][MERKLE_HASH];
    unsigned count = 0;
    int code = BULLA_OK;
    for (unsigned level = TLOG_TREE_LEVELS; code == BULLA_OK && level-- > 0;)
        if ((end - begin) >> level) {
            code = nodes->get(nodes->context, level, begin >> level, parts[count++], error);
            begin += UINT64_C(1) << level;
        }
    struct hash_stream *stream = code == BULLA_OK && count > 1 ? hash_stream_open(error) : NULL;
    if (code == BULLA_OK && count > 1 && !stream)
        code = BULLA_E_MEMORY;
    for (unsigned i = count - 1; code == BULLA_OK && i > 0; i--)
        code = merkle_hash_node(stream, parts[i - 1], parts[i], parts[i - 1], error);
    hash_stream_close(stream);
    memcpy(root, parts[0], MERKLE_HASH);
    return code;
}

int tlog_tree_root(const struct tlog_nodes *nodes, uint64_t size, uint8_t root[MERKLE_HASH], bulla_error *error)
{
    return size == 0 ? hash_sha256("", 0, root, error) : range_root(nodes, 0, size, root, error);
}

int tlog_tree_inclusion(const struct tlog_nodes *nodes, uint64_t size, uint64_t index,
                        uint8_t path[TLOG_MOST_PATH][MERKLE_HASH], unsigned *length, bulla_error *error)
{
    int code = BULLA_OK;
    *length = 0;
    if (index >= size)
        return bulla_fail(error, BULLA_E_USAGE, "a proof of leaf %llu of %llu", (unsigned long long)index,
                          (unsigned long long)size);
    for (unsigned level = 0; code == BULLA_OK && (size - 1) >> level; level++) {
        uint64_t sibling = index >> level ^ 1, begin = sibling << level;
        if (begin >= size)
            continue;
        uint64_t whole = UINT64_C(1) << level, left = size - begin;
        code = range_root(nodes, begin, begin + (left < whole ? left : whole), path[(*length)++], error);
    }
    return code;
}

struct range {
    uint64_t begin, end;
};

int tlog_tree_consistency(const struct tlog_nodes *nodes, uint64_t first, uint64_t second,
                          uint8_t proof[TLOG_MOST_PROOF][MERKLE_HASH], unsigned *length, bulla_error *error)
{
    struct range others[TLOG_TREE_LEVELS], last = {0, second};
    unsigned count = 0;
    int is_whole = 1, code = BULLA_OK;
    *length = 0;
    if (first > second)
        return bulla_fail(error, BULLA_E_USAGE, "a proof that %llu leaves began as %llu", (unsigned long long)second,
                          (unsigned long long)first);
    if (first == 0)
        return BULLA_OK;
    while (first < last.end) { /* the walk down to where the first tree ends; SUBPROOF of the RFC */
        uint64_t half = 1;
        while (half < last.end - last.begin - half)
            half *= 2;
        uint64_t middle = last.begin + half;
        if (first <= middle) {
            others[count++] = (struct range){middle, last.end};
            last.end = middle;
        } else {
            others[count++] = (struct range){last.begin, middle};
            last.begin = middle;
            is_whole = 0;
        }
    }
    if (!is_whole)
        code = range_root(nodes, last.begin, last.end, proof[(*length)++], error);
    while (code == BULLA_OK && count-- > 0)
        code = range_root(nodes, others[count].begin, others[count].end, proof[(*length)++], error);
    return code;
}

/* ---- The edge ---- */

static int push(struct tlog_edge_level *level, const uint8_t hash[MERKLE_HASH], bulla_error *error)
{
    if (level->count == level->capacity) {
        size_t capacity = level->capacity ? 2 * level->capacity : TILE_WIDTH;
        uint8_t(*larger)[MERKLE_HASH] = memory_resize(level->hashes, capacity, sizeof *larger, error);
        if (!larger)
            return BULLA_E_MEMORY;
        level->hashes = larger;
        level->capacity = capacity;
    }
    memcpy(level->hashes[level->count++], hash, MERKLE_HASH);
    return BULLA_OK;
}

/* The parent of the last two nodes of `level`, behind those of the level above it. */
static int push_parent(struct tlog_edge *edge, unsigned level, bulla_error *error)
{
    const struct tlog_edge_level *children = &edge->levels[level];
    uint8_t parent[MERKLE_HASH];
    int code = merkle_hash_node(edge->stream, children->hashes[children->count - 2], children->hashes[children->count - 1],
                                parent, error);
    return code == BULLA_OK ? push(&edge->levels[level + 1], parent, error) : code;
}

static int load_tile(struct tlog_edge *edge, unsigned tile_level, uint8_t (*hashes)[MERKLE_HASH], unsigned width,
                     bulla_error *error)
{
    unsigned bottom = tile_level * TILE_LEVELS;
    int code = BULLA_OK;
    for (unsigned i = 0; code == BULLA_OK && i < width; i++) {
        code = push(&edge->levels[bottom], hashes[i], error);
        for (unsigned up = 1; code == BULLA_OK && up < TILE_LEVELS && (i + 1) % (1u << up) == 0; up++)
            code = push_parent(edge, bottom + up - 1, error);
    }
    return code;
}

int tlog_edge_load(struct tlog_edge *edge, uint64_t size,
                   int (*tile)(void *context, unsigned level, uint64_t index, unsigned width,
                               uint8_t (*hashes)[MERKLE_HASH], bulla_error *error),
                   void *context, bulla_error *error)
{
    uint8_t hashes[TILE_WIDTH][MERKLE_HASH];
    int code = size > INT64_MAX ? bulla_fail(error, BULLA_E_LIMIT, "a tree of more than 2^63 leaves") : BULLA_OK;
    if (code == BULLA_OK && !edge->stream && !(edge->stream = hash_stream_open(error)))
        code = BULLA_E_MEMORY;
    edge->size = size;
    for (unsigned level = 0; code == BULLA_OK && level < TLOG_TREE_LEVELS; level++) {
        uint64_t nodes = size >> level / TILE_LEVELS * TILE_LEVELS;
        unsigned width = (unsigned)(nodes % TILE_WIDTH), in_tile = level % TILE_LEVELS;
        edge->levels[level].first = (nodes - width) >> in_tile;
        if (in_tile == 0) { /* pushes all of this tile's levels, too */
            for (unsigned i = 0; i < TILE_LEVELS; i++)
                edge->levels[level + i].count = 0;
            if (width > 0)
                code = tile(context, level / TILE_LEVELS, nodes / TILE_WIDTH, width, hashes, error);
            if (code == BULLA_OK)
                code = load_tile(edge, level / TILE_LEVELS, hashes, width, error);
        }
    }
    return code;
}

int tlog_edge_append(struct tlog_edge *edge, const uint8_t leaf_hash[MERKLE_HASH], bulla_error *error)
{
    if (edge->size >= INT64_MAX)
        return bulla_fail(error, BULLA_E_LIMIT, "the log is full: 2^63 leaves");
    if (!edge->stream && !(edge->stream = hash_stream_open(error)))
        return BULLA_E_MEMORY;
    int code = push(&edge->levels[0], leaf_hash, error);
    edge->size++;
    for (unsigned level = 0; code == BULLA_OK && edge->size % (UINT64_C(2) << level) == 0; level++)
        code = push_parent(edge, level, error);
    return code;
}

void tlog_edge_trim(struct tlog_edge *edge)
{
    for (unsigned i = 0; i < TLOG_TREE_LEVELS; i++) {
        struct tlog_edge_level *level = &edge->levels[i];
        uint64_t nodes = edge->size >> i / TILE_LEVELS * TILE_LEVELS;
        uint64_t first = (nodes - nodes % TILE_WIDTH) >> i % TILE_LEVELS;
        size_t gone = (size_t)(first - level->first);
        if (gone > 0 && gone < level->count)
            memmove(level->hashes, level->hashes + gone, (level->count - gone) * sizeof *level->hashes);
        level->count -= gone;
        level->first = first;
    }
}

void tlog_edge_free(struct tlog_edge *edge)
{
    for (unsigned i = 0; i < TLOG_TREE_LEVELS; i++)
        memory_free(edge->levels[i].hashes);
    hash_stream_close(edge->stream);
    memset(edge, 0, sizeof *edge);
}

static int get_edge_node(void *context, unsigned level, uint64_t index, uint8_t hash[MERKLE_HASH], bulla_error *error)
{
    const struct tlog_edge *edge = context;
    const struct tlog_edge_level *nodes = &edge->levels[level];
    if (index < nodes->first || index - nodes->first >= nodes->count)
        return bulla_fail(error, BULLA_E_INTERNAL, "node %llu of level %u is not at the edge of the tree",
                          (unsigned long long)index, level);
    memcpy(hash, nodes->hashes[index - nodes->first], MERKLE_HASH);
    return BULLA_OK;
}

struct tlog_nodes tlog_edge_nodes(struct tlog_edge *edge)
{
    return (struct tlog_nodes){edge, get_edge_node};
}
