/* The Merkle tree of RFC 6962 section 2.1 (RFC 9162 keeps it): SHA-256, leaves
 * hashed as 0x00 || leaf and nodes as 0x01 || left || right, a list of n leaves
 * split at the largest power of two below n. One tree for the model root, for
 * logs and for openings. */
#ifndef BASE_MERKLE_H
#define BASE_MERKLE_H

#include <stddef.h>
#include <stdint.h>

#include "bulla/error.h"

enum { MERKLE_HASH = 32 };

struct hash_stream;

/* The hash of one leaf: SHA-256 of a zero byte and its bytes. */
int merkle_leaf_hash(const void *data, size_t length, uint8_t hash[MERKLE_HASH], bulla_error *error);

/* The hash of a node over two others; `node` may be one of them. */
int merkle_hash_node(struct hash_stream *stream, const uint8_t *left, const uint8_t *right, uint8_t node[MERKLE_HASH],
                     bulla_error *error);

/* The root over leaf hashes, which are overwritten. 0 leaves: SHA-256 of nothing. */
int merkle_root(uint8_t *hashes, uint64_t count, uint8_t root[MERKLE_HASH], bulla_error *error);

/* The audit path (RFC 6962 section 2.1.1) of leaf `index` among `count` leaf
 * hashes: at most 64 hashes into `path`, their number into *length. */
int merkle_path(const uint8_t *hashes, uint64_t count, uint64_t index, uint8_t path[64][MERKLE_HASH],
                unsigned *length, bulla_error *error);
/* 1 where the path (`length` hashes, one after another) leads from the leaf hash
 * to the root, 0 where it doesn't (or on a failure of the hash, recorded in
 * `error`). */
int merkle_path_verify(const uint8_t leaf[MERKLE_HASH], uint64_t index, uint64_t count,
                       const uint8_t *path, unsigned length, const uint8_t root[MERKLE_HASH],
                       bulla_error *error);
/* 1 where the proof (RFC 9162 section 2.1.4.1, `length` hashes) shows that the tree of `second` leaves began with that of
 * `first`; 0 as above. Nothing needs no proof: `first` 0 is the beginning of every tree. */
int merkle_consistency_verify(uint64_t first, const uint8_t first_root[MERKLE_HASH], uint64_t second,
                              const uint8_t second_root[MERKLE_HASH], const uint8_t *proof, unsigned length,
                              bulla_error *error);

#endif
