/* The transparency log of a server's receipts (docs/log.md): a folder with
 *
 *     log.db       SQLite database: the receipts, the tree, the newest signed checkpoint. The one source of truth
 *     key.pem      the log's Ed25519 key, readable by its owner only
 *     checkpoint, tile/...   C2SP tlog-tiles for whoever follows the log; made from the database
 *     lock         held while files are published
 *
 * The tree's leaves are the 32 bytes SHA-256 of each signed receipt. Several processes may have one folder open and append
 * in turns: every batch reads the state from the database in the transaction that appends to it, so that a log never forks.
 * No checkpoint leaves here before it is committed and synced.
 *
 * Names begin with tlog_, as in C2SP's formats: log_ is the server's own log of events (ops/log.h). */
#ifndef TRUST_TLOG_H
#define TRUST_TLOG_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "bulla/error.h"
#include "trust/note.h"
#include "trust/tlog_tree.h"

enum { TLOG_ID = 16, TLOG_MOST_RECEIPT_BYTES = 4 << 20 };

struct tlog;

struct tlog_options {
    const char *folder;  /* made where it is not there; what is above it must be */
    const char *origin;  /* the log's name, such as example.com/log; NULL: as in the folder, at creation "bulla-" and 16
                            random hex digits. An error where the folder's log has another */
    size_t most_waiting; /* appends that wait; 0: 65,536 */
    size_t most_bytes;   /* of receipts that wait; 0: 64 MiB */
};

/* Creates the log where the folder has none. Checks that key, database and published checkpoint belong together and that
 * the tree's right edge gives the signed root; writes anew whatever of the tiles may not have survived. */
int tlog_open(const struct tlog_options *options, struct tlog **log, bulla_error *error);
/* Waits for what was appended, then publishes. NULL is fine. */
void tlog_close(struct tlog *log);
/* The verifier key; as long as the log is open. */
const struct note_key *tlog_key(const struct tlog *log);
const char *tlog_folder(const struct tlog *log);

struct tlog_inclusion {
    uint64_t index, size; /* of the leaf, of the checkpoint's tree */
    unsigned length;
    uint8_t path[TLOG_MOST_PATH][MERKLE_HASH];
    char *checkpoint; /* a signed note, NUL-terminated */
    size_t checkpoint_length;
};

/* Called on the log's own thread, in order of append, once for each append. `inclusion`, with its checkpoint, lives for the
 * call only and is NULL after an error. `error` NULL: the receipt is durable. */
typedef void (*tlog_done)(void *context, const struct tlog_inclusion *inclusion, const bulla_error *error);

/* Queues a receipt: the canonical bytes of a receipt document's "signed", copied. Returns at once and never waits for the
 * disk. BULLA_E_LIMIT: too many wait, or it is longer than TLOG_MOST_RECEIPT_BYTES; `done` is then not called. An id
 * that the log has already is an error that `done` gets (BULLA_E_USAGE). An error on the way to the disk goes to all of
 * the batch; the log goes on, and what is appended later may succeed. */
int tlog_append(struct tlog *log, const uint8_t id[TLOG_ID], const void *receipt, size_t length, tlog_done done,
                void *context, bulla_error *error);

/* The receipt with this id, and its proof under the newest checkpoint; from any thread. BULLA_E_USAGE: there is none.
 * `receipt` (appended to) may be NULL. On success the inclusion's checkpoint is the caller's: tlog_inclusion_free. */
int tlog_find(struct tlog *log, const uint8_t id[TLOG_ID], struct buffer *receipt, struct tlog_inclusion *inclusion,
              bulla_error *error);
void tlog_inclusion_free(struct tlog_inclusion *inclusion);
/* {"checkpoint":"...","index":17,"path":["HEX",...]}: the member "log" of a receipt document, canonical. */
void tlog_inclusion_write(const struct tlog_inclusion *inclusion, struct buffer *out);

struct tlog_status {
    uint64_t size, batches; /* leaves of the newest checkpoint seen here; transactions of this process */
    uint64_t published;     /* leaves of the checkpoint that was last published here */
    size_t waiting;         /* appends */
    bulla_error trouble;    /* with the files that are published, or BULLA_OK; it is tried again by itself */
};

void tlog_status(struct tlog *log, struct tlog_status *status);

/* ---- Without opening it for appending: while a server runs, or of a copy. Nothing is changed. ---- */

/* The verifier key of the folder's log. */
int tlog_read_key(const char *folder, struct note_key *key, bulla_error *error);
/* As tlog_find. */
int tlog_read_receipt(const char *folder, const uint8_t id[TLOG_ID], struct buffer *receipt,
                      struct tlog_inclusion *inclusion, bulla_error *error);

struct tlog_check {
    uint64_t size;            /* leaves, of the database */
    uint64_t published;       /* of the published checkpoint */
    uint8_t root[MERKLE_HASH];
};

/* Checks everything: the database, each receipt's hash, every node of the tree up to the signed root, and every published
 * file against the database. The first thing that is wrong is the error. */
int tlog_check(const char *folder, struct tlog_check *check, bulla_error *error);

#endif
