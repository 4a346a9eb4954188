/* Bytes as leaves of a Merkle tree (base/merkle.h): a model's tensors, hashed by a team of threads. */
#ifndef BASE_MERKLE_DATA_H
#define BASE_MERKLE_DATA_H

#include "base/merkle.h"
#include "base/threads.h"

enum { MERKLE_LEAF = 1024 }; /* bytes */

/* Hashes of `count` consecutive leaves of MERKLE_LEAF bytes at `data` (the last
 * one may be shorter: `length` bytes in all). hashes[ceil(length / 1024)][32].
 * `team` may be NULL. */
int merkle_leaf_hashes(const void *data, uint64_t length, struct thread_team *team, uint8_t *hashes,
                       bulla_error *error);

/* The root over `length` bytes in leaves of MERKLE_LEAF bytes, without keeping
 * their hashes. `team` may be NULL. */
int merkle_data_root(const void *data, uint64_t length, struct thread_team *team, uint8_t root[MERKLE_HASH],
                     bulla_error *error);

#endif
