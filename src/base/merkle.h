/* The Merkle tree of RFC 6962 section 2.1 (RFC 9162 keeps it): SHA-256, leaves
 * hashed as 0x00 || leaf and nodes as 0x01 || left || right, a list of n leaves
 * split at the largest power of two below n. One tree for the model root, for
 * logs and for openings. */
#ifndef BASE_MERKLE_H
#define BASE_MERKLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/threads.h"
#include "bulla/error.h"

enum { MERKLE_HASH = 32, MERKLE_LEAF = 1024 };

/* Hashes of `count` consecutive leaves of MERKLE_LEAF bytes at `data` (the last
 * one may be shorter: `length` bytes in all). hashes[ceil(length / 1024)][32].
 * `team` may be NULL. */
int merkle_leaf_hashes(const void *data, uint64_t length, struct thread_team *team, uint8_t *hashes,
                       bulla_error *error);

/* The root over leaf hashes, which are overwritten. 0 leaves: SHA-256 of nothing. */
int merkle_root(uint8_t *hashes, uint64_t count, uint8_t root[MERKLE_HASH], bulla_error *error);

/* The root over `length` bytes in leaves of MERKLE_LEAF bytes, without keeping
 * their hashes. `team` may be NULL. */
int merkle_data_root(const void *data, uint64_t length, struct thread_team *team, uint8_t root[MERKLE_HASH],
                     bulla_error *error);

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

#endif
