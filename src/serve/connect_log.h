/* What connect knows of a server's log: the newest checkpoint that it has seen, kept in a folder. Every receipt must be in
 * the tree of a checkpoint that the log signed, and every checkpoint must be one of a single history: where it is not, the
 * log has forked. Pure but for opening the folder's files; tiles are fetched by whoever calls.
 *
 *     ID.checkpoint   notes, a zero byte between them, the newest last; ID the first 32 hex digits of SHA-256 of the log's
 *                     verifier key. What a loss of power leaves of a last one is no note, and the one before it counts
 *     ID.fork         both notes, where the log contradicted itself: nothing is sent while it is there */
#ifndef SERVE_CONNECT_LOG_H
#define SERVE_CONNECT_LOG_H

#include "serve/connect_check.h"
#include "trust/checkpoint.h"
#include "trust/tlog_tiles.h"

enum { CONNECT_MOST_WITNESSES = 16, CONNECT_MOST_KEPT = 1 << 16 /* bytes of ID.checkpoint, then it is written anew */ };

struct connect_log;

struct connect_log_options {
    const char *folder;
    const struct note_key *witnesses;
    size_t witness_count, needed; /* of them must have cosigned each checkpoint */
};

int connect_log_open(const struct connect_log_options *options, struct connect_log **log, bulla_error *error);
void connect_log_close(struct connect_log *log); /* NULL is fine */
/* Whose checkpoints are expected, with what is kept of that log. */
int connect_log_set_key(struct connect_log *log, const struct note_key *key, bulla_error *error);
const struct note_key *connect_log_key(const struct connect_log *log); /* NULL: not known yet */
/* The file that says so, where the log has forked; it is looked at again each time. */
const char *connect_log_fork(struct connect_log *log);
/* Where the newest checkpoint is to be kept, and its note. */
const char *connect_log_path(const struct connect_log *log);
const struct buffer *connect_log_note(const struct connect_log *log);
uint64_t connect_log_size(const struct connect_log *log); /* 0: none is known */

/* A receipt's place in the log. Zero-initialise; connect_entry_free. */
struct connect_entry {
    struct checkpoint checkpoint;
    struct buffer note;
    uint64_t index;
    unsigned length;
    uint8_t path[64][MERKLE_HASH];
};
void connect_entry_free(struct connect_entry *entry);
/* The document's member "log": its checkpoint is signed as it must be, and the leaf is in its tree. */
int connect_log_read(const struct connect_log *log, const struct json *member, const uint8_t leaf[32],
                     struct connect_entry *entry, struct connect_problem *problem);

enum connect_history {
    CONNECT_ONE_HISTORY, /* the entry's checkpoint and the newest are of one history; the entry's may be the newest now */
    CONNECT_WANTS_TILE,  /* *want has to be given by connect_log_give before that can be said */
    CONNECT_FORKED,      /* they are not: both notes are kept */
    CONNECT_NOT_SHOWN    /* the log's tiles do not show it */
};
/* `problem` says why, of the last two. */
enum connect_history connect_log_compare(struct connect_log *log, const struct connect_entry *entry, struct tlog_tile *want,
                                         struct connect_problem *problem);
/* A tile that was wanted; `bytes` NULL: the server says that there is none. */
void connect_log_give(struct connect_log *log, const struct tlog_tile *tile, const void *bytes, size_t length);

#endif
