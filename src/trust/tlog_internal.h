/* What the parts of the log (tlog.h) have in common: its database, its key, its files. */
#ifndef TRUST_TLOG_INTERNAL_H
#define TRUST_TLOG_INTERNAL_H

#include <openssl/evp.h>

#include "trust/checkpoint.h"
#include "trust/tlog.h"
#include "trust/tlog_tiles.h"

/* ---- The database (tlog_store.c): one connection, used by one thread at a time ---- */

enum { TLOG_CHECKPOINT_BYTES = 1024, TLOG_BUNDLE_ENTRY = 2 + MERKLE_HASH, TLOG_TILE_GROUP = 1000 /* in a folder */ };

/* The one row of the table "log". */
struct tlog_state {
    struct note_key key;
    uint64_t size;
    uint8_t root[MERKLE_HASH];
    char checkpoint[TLOG_CHECKPOINT_BYTES]; /* the signed note */
    size_t checkpoint_length;
    uint64_t published; /* whole tiles of a tree of this size are durable as files */
};

struct tlog_store;

enum tlog_access { TLOG_READ, TLOG_WRITE, TLOG_CREATE };

/* Opens FOLDER/log.db. TLOG_CREATE makes an empty one where there is none. The store is also made for one without tables:
 * tlog_store_is_empty. */
int tlog_store_open(const char *folder, enum tlog_access access, struct tlog_store **store, bulla_error *error);
void tlog_store_close(struct tlog_store *store); /* NULL is fine */
int tlog_store_is_empty(struct tlog_store *store, int *is_empty, bulla_error *error);
/* Makes the tables, with this state, in one transaction. */
int tlog_store_create(struct tlog_store *store, const struct tlog_state *state, bulla_error *error);
/* PRAGMA quick_check. */
int tlog_store_check(struct tlog_store *store, bulla_error *error);

/* A transaction: all that is read in it is of one moment. For writing it holds the log's lock from the beginning. */
int tlog_store_begin(struct tlog_store *store, int is_for_writing, bulla_error *error);
int tlog_store_commit(struct tlog_store *store, bulla_error *error);
void tlog_store_rollback(struct tlog_store *store); /* of nothing: fine */

int tlog_store_read_state(struct tlog_store *store, struct tlog_state *state, bulla_error *error);
int tlog_store_write_state(struct tlog_store *store, const struct tlog_state *state, bulla_error *error);
int tlog_store_set_published(struct tlog_store *store, uint64_t published, bulla_error *error);

/* All hashes of a tile as far as they are there, into room for 256; how many. */
int tlog_store_read_tile(struct tlog_store *store, unsigned level, uint64_t index, uint8_t (*hashes)[MERKLE_HASH],
                         unsigned *width, bulla_error *error);
int tlog_store_write_tile(struct tlog_store *store, unsigned level, uint64_t index, uint8_t (*hashes)[MERKLE_HASH],
                          unsigned width, bulla_error *error);

struct tlog_row {
    uint64_t index;
    uint8_t id[TLOG_ID], hash[MERKLE_HASH]; /* SHA-256 of the body: the leaf, not its hash */
    const void *body;                       /* of the row; until the next call */
    size_t length;
};

/* *is_there: nothing was inserted, since the id is there already. */
int tlog_store_insert(struct tlog_store *store, const struct tlog_row *row, int *is_there, bulla_error *error);
/* BULLA_E_USAGE: there is none with this id. */
int tlog_store_find(struct tlog_store *store, const uint8_t id[TLOG_ID], struct tlog_row *row, bulla_error *error);
/* Rows from `first` on, at most `count`, in order; another result of `each` than BULLA_OK ends it. */
int tlog_store_each(struct tlog_store *store, uint64_t first, uint64_t count, int with_bodies,
                    int (*each)(void *context, const struct tlog_row *row, bulla_error *error), void *context,
                    bulla_error *error);
/* Appends the entry bundle `index` as it is published, TLOG_BUNDLE_ENTRY bytes an entry, at most `width` of them: fewer
 * where the database has no more. */
int tlog_store_read_bundle(struct tlog_store *store, uint64_t index, unsigned width, struct buffer *out, bulla_error *error);
/* The index of the last row and one; 0: none. */
int tlog_store_count(struct tlog_store *store, uint64_t *count, bulla_error *error);

/* The tree of the state: tiles of the database, checked like anyone's. */
int tlog_store_reader(struct tlog_store *store, const struct tlog_state *state, struct tlog_reader **reader,
                      bulla_error *error);
/* The edge of the state's tree, checked against its root. */
int tlog_store_edge(struct tlog_store *store, const struct tlog_state *state, struct tlog_edge *edge, bulla_error *error);
/* tlog_find by this connection. */
int tlog_store_prove(struct tlog_store *store, const uint8_t id[TLOG_ID], struct buffer *receipt,
                     struct tlog_inclusion *inclusion, bulla_error *error);

/* ---- Creation, and the checks when it is opened (tlog_folder.c) ---- */

/* The path FOLDER/NAME; NULL where memory is short. memory_free. */
char *tlog_path(const char *folder, const char *name, bulla_error *error);
/* Makes it durable that FOLDER's entries are as they are. */
int tlog_sync_folder(const char *folder, bulla_error *error);
/* Takes the lock file, waiting for whoever holds it; closing the descriptor gives it back. */
int tlog_lock(const char *folder, int *descriptor, bulla_error *error);
/* How many leaves the log has had, by the names of the tiles from a tree of `size` leaves on; `size` where there are none
 * beyond it. A tile is written when the database has its leaves durably, so that its name says it, whatever is in it. */
uint64_t tlog_tiles_size(const char *folder, uint64_t size);
/* Whether the database, of `size` leaves, has what the tiles have shown. */
int tlog_check_tiles(const char *folder, uint64_t shown, uint64_t size, bulla_error *error);
/* Finds or makes key and database, under the lock, and checks that they belong together. */
int tlog_prepare_folder(const struct tlog_options *options, struct note_key *key, EVP_PKEY **private_key, bulla_error *error);
/* Whether the state's checkpoint is of its size and root, and signed by its key. */
int tlog_check_signed(const char *folder, const struct tlog_state *state, bulla_error *error);
/* Signs size and root of the state into its checkpoint. */
int tlog_sign_state(struct tlog_state *state, EVP_PKEY *private_key, bulla_error *error);

/* ---- Files (tlog_publish.c) ---- */

struct tlog_publisher {
    const char *folder;
    struct tlog_store *store;
    int is_begun;               /* something was written since it was made */
    uint64_t written, synced;   /* leaves: of the tree that the files hold; whose whole tiles are durable */
    uint64_t published;         /* of the checkpoint file */
    uint64_t marked, marked_at; /* leaves: whose last tile's name is durable; clock_nanoseconds() */
};

enum { TLOG_MARK_SECONDS = 5 };

/* Writes what the database has and the files lack, the checkpoint last. Makes durable that so many leaves were published:
 * where that was TLOG_MARK_SECONDS ago, or `is_final`. */
int tlog_publish(struct tlog_publisher *publisher, int is_final, bulla_error *error);

#endif
