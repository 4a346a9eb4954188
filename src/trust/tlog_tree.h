/* Proofs over the tree of a log, from the hashes of its nodes wherever they are kept; and the right edge of such a tree,
 * to which leaves are appended.
 *
 * Node `index` of level l is the root of the leaves index 2^l .. (index + 1) 2^l - 1: only nodes whose leaves are all
 * there have a hash that stays. Trees have less than 2^63 leaves.
 *
 * Source: RFC 9162 section 2.1. */
#ifndef TRUST_TLOG_TREE_H
#define TRUST_TLOG_TREE_H

#include <stdint.h>

#include "base/merkle.h"
#include "bulla/error.h"

enum { TLOG_MOST_PATH = 64, TLOG_MOST_PROOF = 65, TLOG_TREE_LEVELS = 64 };

struct tlog_nodes {
    void *context;
    int (*get)(void *context, unsigned level, uint64_t index, uint8_t hash[MERKLE_HASH], bulla_error *error);
};

/* The root of the first `size` leaves. */
int tlog_tree_root(const struct tlog_nodes *nodes, uint64_t size, uint8_t root[MERKLE_HASH], bulla_error *error);
/* As merkle_path, and section 2.1.4.1: what merkle_path_verify and merkle_consistency_verify take. */
int tlog_tree_inclusion(const struct tlog_nodes *nodes, uint64_t size, uint64_t index,
                        uint8_t path[TLOG_MOST_PATH][MERKLE_HASH], unsigned *length, bulla_error *error);
int tlog_tree_consistency(const struct tlog_nodes *nodes, uint64_t first, uint64_t second,
                          uint8_t proof[TLOG_MOST_PROOF][MERKLE_HASH], unsigned *length, bulla_error *error);

/* The right edge: of each level the nodes from the beginning of its last tile on, and those appended since. It holds
 * whatever the paths of appended leaves and new tiles need. Zero-initialise it. */
struct tlog_edge {
    uint64_t size;
    struct tlog_edge_level {
        uint64_t first; /* index of hashes[0] in its level */
        uint8_t (*hashes)[MERKLE_HASH];
        size_t count, capacity;
    } levels[TLOG_TREE_LEVELS];
    struct hash_stream *stream;
};

/* Starts at a tree of `size` leaves. `tile` gives the hashes of the tile of `width` at the right edge of level 8 `level`
 * (not called where there is none). */
int tlog_edge_load(struct tlog_edge *edge, uint64_t size,
                   int (*tile)(void *context, unsigned level, uint64_t index, unsigned width,
                               uint8_t (*hashes)[MERKLE_HASH], bulla_error *error),
                   void *context, bulla_error *error);
/* After an error the edge is good for nothing but tlog_edge_free. */
int tlog_edge_append(struct tlog_edge *edge, const uint8_t leaf_hash[MERKLE_HASH], bulla_error *error);
/* Forgets the nodes before each level's last tile, as if it had been loaded now. */
void tlog_edge_trim(struct tlog_edge *edge);
void tlog_edge_free(struct tlog_edge *edge);
/* Its nodes: what the root, and the paths of leaves appended since it was loaded or trimmed, need. */
struct tlog_nodes tlog_edge_nodes(struct tlog_edge *edge);

#endif
