/* A log as it grows, for who monitors it and who watches its receipts. */
#ifndef CLI_LOG_FOLLOW_H
#define CLI_LOG_FOLLOW_H

#include "cli/log_state.h"
#include "trust/receipt.h"

/* Each may be NULL. An error ends the look. */
struct log_follow_events {
    void *context;
    /* Each entry that was not in the tree known before, in order; whether they are in the signed tree shows later. */
    int (*entry)(void *context, uint64_t index, const uint8_t hash[RECEIPT_HASH], bulla_error *error);
    /* The log has only grown, and its entries give the root that was signed: before the state is kept, so that who keeps
     * more than that keeps it first. */
    int (*accept)(void *context, const struct checkpoint *next, bulla_error *error);
    /* The state is kept. `last` is of size 0 where there was none. */
    int (*done)(void *context, const struct checkpoint *last, const struct checkpoint *next, bulla_error *error);
};

struct log_follow {
    const char *name;  /* of the verb, for what is said on standard error */
    const struct note_key *key;
    struct log_source *source;
    struct log_state *state;
    struct log_follow_events events;
    int is_once;
    uint64_t every;    /* seconds between looks */
};

/* The present in UTC, as what is said of a log begins with it. */
enum { LOG_TIME = 32 };
void log_time(char when[LOG_TIME]);
/* Until something is wrong with the log or with what `events` do of it. That it cannot be reached is no news of it, unless
 * it is looked at once. BULLA_E_CANCELLED after an interrupt, which the caller catches. */
int log_follow(const struct log_follow *follow, bulla_error *error);

#endif
