/* What a witness or a monitor remembers of a log: the newest checkpoint that it has found consistent, a file with the
 * signed note. Whoever uses it holds its lock, so that two never go on from one state side by side. */
#ifndef CLI_LOG_STATE_H
#define CLI_LOG_STATE_H

#include "cli/log_source.h"

struct log_state {
    const char *path;
    int lock;
    struct buffer note;           /* empty: nothing was seen yet */
    struct checkpoint checkpoint; /* of size 0 then */
};

/* Takes the lock, and reads what is there; it must be signed by the log's key. */
int log_state_open(const char *path, const struct note_key *key, struct log_state *state, bulla_error *error);
void log_state_close(struct log_state *state);
/* Remembers the note, durably. */
int log_state_keep(struct log_state *state, const struct buffer *note, const struct checkpoint *checkpoint,
                   bulla_error *error);
/* tlog_check_growth from the state to this checkpoint. Where the two contradict each other both notes are kept beside the
 * state, and the error says where. */
int log_state_check(const struct log_state *state, struct log_source *source, const struct buffer *note,
                    const struct checkpoint *checkpoint, bulla_error *error);

#endif
