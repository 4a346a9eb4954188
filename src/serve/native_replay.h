/* Answers of the native backend computed again (check/replay.h). A request goes the way that it goes in a server, to the
 * very frame that a worker would get; that frame is answered here, with tokens that someone says were answered, and what
 * is told back becomes prompt, deltas and finishes as they would be delivered. */
#ifndef SERVE_NATIVE_REPLAY_H
#define SERVE_NATIVE_REPLAY_H

#include "check/replay.h"
#include "serve/backend.h"

struct native_replay;

struct native_replay_options {
    const char *path; /* of a model file; its root is computed */
    unsigned threads; /* 0: one a core */
};

int native_replay_open(const struct native_replay_options *options, struct native_replay **replay, bulla_error *error);
void native_replay_close(struct native_replay *replay); /* NULL is fine */
void native_replay_describe(const struct native_replay *replay, struct backend_info *info);

/* Begins an answer as the backend does: the sink is told the prompt, before it returns. `time`: Unix seconds that the chat
 * template sees. Returns 0 with *problem filled where a server would not take the request. One at a time. */
int native_replay_start(struct native_replay *replay, const struct answer_request *request, int64_t time,
                        const struct answer_sink *sink, struct answer_error *problem);

/* What a choice is said to have answered. */
struct native_replay_claim {
    const uint32_t *tokens;
    size_t count;
};

/* Computes what was started again, a claim and an outcome for each choice. The sink is told as by a server as far as the
 * claims are right: of choices that are not, neither the finish nor the answer's end. */
int native_replay_run(struct native_replay *replay, const struct native_replay_claim *claims,
                      struct replay_outcome *outcomes, bulla_error *error);
/* Lets go of what was started, if it has not ended. */
void native_replay_stop(struct native_replay *replay);

#endif
