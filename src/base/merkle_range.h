/* Proofs that consecutive leaves are in a Merkle tree (base/merkle.h), bounded and without allocation: what a step's
 * opening is made of (docs/dispute-trace.md, "Openings"). */
#ifndef BASE_MERKLE_RANGE_H
#define BASE_MERKLE_RANGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/merkle.h"

enum { MERKLE_RANGE_LEAVES = 16 }; /* the most that one proof is for */

/* The hash of a leaf: SHA-256(00 || tag || data), without the tag where `tag` is negative. */
int merkle_range_leaf(struct hash_stream *stream, int tag, const void *data, size_t length, uint8_t hash[MERKLE_HASH]);

/* Hashes in the proof of leaves first .. first + count - 1 of `total`; count >= 1, all of them below total. */
unsigned merkle_range_length(uint64_t first, uint64_t count, uint64_t total);

/* 1 where the proof (merkle_range_length hashes) leads from `count` <= MERKLE_RANGE_LEAVES leaf hashes to the root. The
 * leaf hashes are overwritten; there is room for count + 2. */
int merkle_range_verify(struct hash_stream *stream, uint8_t (*leaves)[MERKLE_HASH], uint64_t first, uint64_t count,
                        uint64_t total, const uint8_t *proof, const uint8_t root[MERKLE_HASH]);

/* The first leaves of a tree, however many, one after another: zero-initialise. */
struct merkle_prefix {
    uint64_t count;
    uint8_t nodes[64][MERKLE_HASH]; /* [level]: the complete subtree of that size, where `count` has that bit */
};
int merkle_prefix_add(struct hash_stream *stream, struct merkle_prefix *prefix, const uint8_t leaf[MERKLE_HASH]);
/* 1 where the proof of leaves 0 .. count - 1 of `total` leads to the root. */
int merkle_prefix_verify(struct hash_stream *stream, const struct merkle_prefix *prefix, uint64_t total,
                         const uint8_t *proof, unsigned length, const uint8_t root[MERKLE_HASH]);

#endif
