/* Continuous batching: many answers at once from one engine. Requests join and leave at every step;
 * prompts are computed in chunks beside the tokens that others decode. A batch never changes an
 * answer: each has the same tokens and text as generate() gives alone (exec/generate.h).
 *
 * Memory: keys and values lie in the engine's pages. A request is accepted when its prompt and all of its answer
 * would fit into the whole pool; where running requests need more pages than there are, the one that
 * would be served last gives its pages back, waits, and is computed again later: the arithmetic is exact, so its
 * answer goes on with the same bits. So every request that was accepted finishes. docs/scheduler.md has the rules.
 *
 * Order: by priority first; within one, tenants take turns by what they were given so far (prompt and
 * answered tokens), and a tenant's own requests go in the order they came. A waiting request takes the place of a
 * running one of lower priority.
 *
 * One thread; nothing here blocks but scheduler_step, which runs one batch of the engine. */
#ifndef EXEC_SCHEDULER_H
#define EXEC_SCHEDULER_H

#include <stddef.h>
#include <stdint.h>

#include "bulla/engine.h"
#include "bulla/sampler.h"

struct scheduler;

enum { SCHEDULER_MOST_LOGPROBS = 20, SCHEDULER_MOST_STOPS = 16 };

enum scheduler_finish_reason {
    SCHEDULER_STOP,     /* an end token, a stop string, a grammar after which nothing may follow, an embedding */
    SCHEDULER_LENGTH,   /* max_tokens or the context */
    SCHEDULER_RANGE,    /* a bound was left: no later token is defined (docs/canonical.md) */
    SCHEDULER_CANCELLED,
    SCHEDULER_DEADLINE,
    SCHEDULER_FAILED    /* memory was short, ...: `error` says */
};

struct scheduler_text {
    const char *text;
    size_t length;
};

struct scheduler_request {
    uint64_t id;            /* the caller's; unique among those not finished */
    const uint32_t *prompt; /* [prompt_count], at least one; copied, as all the rest is */
    size_t prompt_count;
    uint64_t max_tokens;    /* 0: as many as the context holds, and the pool where it is smaller */
    bulla_sampling sampling;
    const char *tenant;     /* for turns and for the prefix cache; NULL is a tenant of its own */
    int shares_prefix;      /* whether the prefix cache may serve it and keep its pages */
    int priority;           /* larger goes first */
    uint64_t deadline;      /* clock_nanoseconds() at which it ends with what it has, seen at the next step; 0: none */
    int ignores_end;        /* end tokens are ordinary ones: it goes on to max_tokens (benchmarks); not with a grammar */
    int logprobs;           /* -1: none; else how many of the likeliest tokens beside the one taken */
    const struct scheduler_text *stops; /* [stop_count], strings that end the answer and are not part of it; they
                                           may lie across tokens. Not empty, UTF-8. The one that is complete first
                                           counts, of those that end at the same byte the longest. */
    size_t stop_count;
    const char *grammar;    /* specification (exec/grammar.h), or NULL; compiled when the request starts */
    size_t grammar_length;
    int embeds;             /* no answer: the prompt's pooled hidden state instead (scheduler_events.embedding) */
};

struct scheduler_logprob {
    uint32_t token;
    double logprob; /* natural logarithm of the unchanged logits' softmax; informative, not part of what is exact */
};

/* One token of an answer. */
struct scheduler_token {
    uint64_t request;
    uint32_t token;
    const char *text; /* the text that became certain with it: whole characters, nothing that may be the beginning of
                         a stop string. May be empty; what was held back comes with a later token or the finish. */
    size_t length;
    double logprob;                        /* with logprobs >= 0 */
    const struct scheduler_logprob *top;   /* [top_count], likeliest first */
    size_t top_count;
};

struct scheduler_finish {
    uint64_t request;
    enum scheduler_finish_reason reason;
    const char *stop;      /* the stop string that ended it, or NULL */
    const char *rest;      /* text that was held back and belongs to the answer */
    size_t rest_length;
    uint64_t prompt_tokens, cached_tokens, output_tokens; /* cached: of the prompt, found in the prefix cache at first */
    uint64_t range_position;
    uint32_t range_operation;
    const bulla_error *error; /* with SCHEDULER_FAILED */
    uint64_t queued_nanoseconds, prefill_nanoseconds, decode_nanoseconds; /* wall time until its first step, its
                                                                             first token, its end */
};

/* What a scheduler tells, from inside scheduler_step and scheduler_cancel. A callback may add and cancel requests,
 * also the one that it is about; it may not step or close. Pointers are valid during the call. `embedding` may be
 * NULL where no request embeds. */
struct scheduler_events {
    void *context;
    void (*token)(void *context, const struct scheduler_token *token);
    void (*finish)(void *context, const struct scheduler_finish *finish); /* once for each accepted request */
    /* Before the finish of a request that embeds: the mean over positions of the residual stream, each position's
     * scaled to length 1 first; the whole scaled to length 1. [count] */
    void (*embedding)(void *context, uint64_t request, const float *values, size_t count);
};

struct scheduler_options {
    uint32_t most_running; /* 0: 256 */
    uint32_t step_rows;    /* most positions a step; 0: 512 */
    uint32_t speculate;    /* most tokens proposed at once where few requests run (exec/speculate.h); 0: none */
    size_t grammar_bytes;  /* most memory for all grammars together; 0: 512 MiB */
};

/* `engine` (with its sequences all this scheduler's own) and `model` must outlive it. */
int scheduler_open(bulla_engine *engine, const bulla_model *model, const struct scheduler_options *options,
                   const struct scheduler_events *events, struct scheduler **scheduler, bulla_error *error);
void scheduler_close(struct scheduler *scheduler); /* without finishing anything; NULL is fine */

/* Accepts a request, or says why it can not be served: BULLA_E_LIMIT (context, pool), BULLA_E_USAGE, BULLA_E_MEMORY. An
 * accepted one gets exactly one finish: SCHEDULER_FAILED where its grammar turns out not to be one. */
int scheduler_add(struct scheduler *scheduler, const struct scheduler_request *request, bulla_error *error);
/* Ends it now, with its finish (SCHEDULER_CANCELLED); one that is unknown or already finished is left alone. */
void scheduler_cancel(struct scheduler *scheduler, uint64_t id);
int scheduler_is_idle(const struct scheduler *scheduler);
/* One batch of the engine for those whose turn it is: the first one of a step, or the next one of a step that has more
 * rows than a batch, so that tokens are told after the batch that they come from. Requests that fail get their finish;
 * an error is one of the scheduler as a whole (BULLA_E_USAGE: this was called from a callback). */
int scheduler_step(struct scheduler *scheduler, bulla_error *error);

struct scheduler_counters {
    uint64_t running, waiting;         /* now */
    uint64_t pages_used, pages_total;  /* now; used: by running requests */
    uint64_t prompt_tokens, output_tokens, steps, preemptions; /* since it was opened */
    uint64_t proposed_tokens, accepted_tokens;
};
void scheduler_count(const struct scheduler *scheduler, struct scheduler_counters *counters);

const char *scheduler_finish_name(enum scheduler_finish_reason reason);

#endif
