/* What a watcher remembers beside the log's newest checkpoint (cli/log_state.h): which receipts it has still to audit, and
 * what came of the others. Files beside STATE:
 *
 *     STATE.audits   {"size", "chosen", "passed", "failed", "unchecked", "given_up", "waiting": [[index, "HASH"], ...]}
 *     STATE.secret   32 random bytes, which only the owner may read: what its choice of receipts depends on
 *
 * It is kept before the checkpoint is, so that no receipt is passed over where the watcher is ended in between. */
#ifndef CLI_WATCH_STATE_H
#define CLI_WATCH_STATE_H

#include "check/audit.h"

struct watch_waiting {
    uint64_t index;
    uint8_t hash[RECEIPT_HASH];
};

struct watch_counts {
    uint64_t size;   /* entries of the log that were looked at */
    uint64_t chosen; /* of them; the sum of all that follow and of those that wait */
    uint64_t passed, failed, unchecked;
    uint64_t given_up; /* no document ever came */
};

struct watch_state {
    struct buffer path;      /* of STATE.audits */
    uint8_t secret[AUDIT_SECRET];
    struct watch_counts counts;
    struct watch_waiting *waiting; /* in the log's order */
    size_t waiting_count, waiting_capacity;
    uint64_t kept_size;            /* counts.size as it was kept last */
    size_t fresh;                  /* of those that wait, the last ones, which were taken since */
};

/* `path`: STATE, whose lock the caller holds. Makes the secret where there is none. watch_state_close in either case. */
int watch_state_open(const char *path, struct watch_state *state, bulla_error *error);
void watch_state_close(struct watch_state *state);
/* The next entry, chosen or not. Nothing of one that was kept before; and where an entry comes again that was not kept,
 * all of those are forgotten first: they were of a look that failed. */
int watch_state_take(struct watch_state *state, uint64_t index, const uint8_t hash[RECEIPT_HASH], int is_chosen,
                     bulla_error *error);
/* waiting[at] waits no longer. */
void watch_state_drop(struct watch_state *state, size_t at);
/* Of more than `most` that wait those that came first are given up. */
void watch_state_give_up(struct watch_state *state, size_t most);
/* Durably. */
int watch_state_keep(struct watch_state *state, bulla_error *error);

#endif
