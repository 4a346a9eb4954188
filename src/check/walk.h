/* What an answer's tokens deliver, without computing one of them: text, stop strings, grammar, limits and the end go the way
 * that they go while a scheduler answers (exec/scheduler_draw.c), with the tokens that someone says were drawn. What a
 * referee without weights can settle of an answer (docs/dispute.md). */
#ifndef CHECK_WALK_H
#define CHECK_WALK_H

#include "bulla/model.h"
#include "check/replay.h"

struct walk;

/* `model` needs no tensors; it must outlive the walk. */
int walk_open(const bulla_model *model, struct walk **walk, bulla_error *error);
void walk_close(struct walk *walk); /* NULL is fine */

/* How the answer is said to end where its tokens alone do not end it. */
enum walk_end { WALK_END_TOKEN, WALK_RANGE, WALK_DEADLINE, WALK_LIMIT /* not at all */ };

struct walk_options {
    enum walk_end end;
    /* At each position from which a token is drawn: the ids that a grammar allows; NULL: all. May be NULL. */
    int (*allowed)(void *context, const uint64_t *allowed, bulla_error *error);
    void *context;
};

/* As replay_run, but that no token is drawn: REPLAY_DIFFERS says that tokens[at] could not be (`drawn` means nothing), and
 * REPLAY_GOES_ON that the answer does not end behind its tokens. *has_end: an end token was drawn behind them. */
int walk_run(struct walk *walk, const struct scheduler_request *request, const uint32_t *tokens, size_t count,
             const struct walk_options *options, const struct scheduler_events *events, struct replay_outcome *outcome,
             int *has_end, bulla_error *error);

#endif
