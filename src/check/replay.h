/* An answer's tokens, computed again: the engine takes the prompt and the tokens that someone says were answered in few
 * large pieces, and at each position the scheduler draws from the logits what it draws while it answers: the same code for
 * sampling, penalties, grammar, stop strings and the end (exec/scheduler_draw.c). What is drawn is compared with what was
 * said. So it costs a prefill, and has the same bits as the answer whatever machine, batch or cache that was computed with.
 *
 * Memory beside the engine's: the tokens, and the logits of one piece, 64 MiB at most (or of one position, if more). */
#ifndef CHECK_REPLAY_H
#define CHECK_REPLAY_H

#include "exec/scheduler.h"

struct replay;

/* `engine` (with its sequences all the replay's own) and `model` must outlive it. Where the engine has a prefix cache,
 * requests that say `shares_prefix` and the same tenant share what their prompts have in common. */
int replay_open(bulla_engine *engine, const bulla_model *model, struct replay **replay, bulla_error *error);
void replay_close(struct replay *replay); /* NULL is fine */

enum replay_result {
    REPLAY_SAME,    /* each token is drawn, and then the answer ends */
    REPLAY_DIFFERS, /* at tokens[at] another one is drawn: `drawn` */
    REPLAY_ENDS,    /* the answer ends before tokens[at] */
    REPLAY_GOES_ON, /* each token is drawn, and then `drawn` */
    REPLAY_REFUSED  /* the request has no answer: `refusal` says why */
};

struct replay_outcome {
    enum replay_result result;
    size_t at;               /* tokens before it are right */
    uint32_t drawn;
    bulla_error refusal;
    uint64_t prompt_positions, answer_positions; /* that were computed; of the prompt all but the last one */
    double prompt_seconds, answer_seconds;       /* that took; informative */
};

/* Computes an answer to the request again as far as it is tokens[0..count), which may be anything. `events` are told of
 * the tokens that are right, and with REPLAY_SAME of the finish, as scheduler_step tells of them. BULLA_OK also where the
 * tokens are wrong; an error is one of memory or of the engine. */
int replay_run(struct replay *replay, const struct scheduler_request *request, const uint32_t *tokens, size_t count,
               const struct scheduler_events *events, struct replay_outcome *outcome, bulla_error *error);

#endif
