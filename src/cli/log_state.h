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
/* Whether the tree of this checkpoint began with that of the state. Where the two contradict each other, being of no single
 * history, both notes are kept beside the state, and the error says where: signed as they are, they show it to anyone. An
 * older checkpoint (a replay, or a copy that is behind) is BULLA_E_IO, as is a log that cannot be reached: it contradicts
 * nothing. Tiles that are missing or of neither tree are errors without such evidence. */
int log_state_check(const struct log_state *state, struct log_source *source, const struct buffer *note,
                    const struct checkpoint *checkpoint, bulla_error *error);

#endif
