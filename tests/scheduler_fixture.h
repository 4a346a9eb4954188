/* A scheduler over a small random model, and what it told: for tests of its order, its limits and its failures. */
#ifndef TESTS_SCHEDULER_FIXTURE_H
#define TESTS_SCHEDULER_FIXTURE_H

#include "base/buffer.h"
#include "exec/scheduler_internal.h"

enum { MOST_IDS = 128, MOST_EVENTS = 4096, CONTEXT = 300 };

/* What was heard, in its order. */
struct heard {
    struct scheduler *scheduler;
    uint64_t finished[MOST_IDS];
    size_t finish_count;
    struct scheduler_finish finishes[MOST_IDS]; /* by id; pointers in them are not valid */
    uint64_t drawn[MOST_EVENTS];                /* ids of the requests, token by token */
    uint32_t tokens[MOST_EVENTS];
    size_t drawn_count;
    double logprobs[MOST_IDS];
    struct scheduler_logprob top[MOST_IDS][SCHEDULER_MOST_LOGPROBS];
    size_t top_count;
    struct buffer text;
    float embedding[512];
    size_t embedding_count, embeddings;
    char error[200];
};

/* prompt: any tokens */
struct fixture {
    bulla_model *model;
    bulla_engine *engine;
    struct scheduler *scheduler;
    struct heard heard;
    uint32_t prompt[CONTEXT + 1];
};

static const bulla_engine_options ONE_THREAD = {.threads = 1, .pages = 40};

/* The scheduler's events: they are kept in a struct heard. */
void hear_token(void *context, const struct scheduler_token *token);
void hear_finish(void *context, const struct scheduler_finish *finish);
void hear_embedding(void *context, uint64_t request, const float *values, size_t count);

void set_up(struct fixture *fixture, const bulla_engine_options *engine, const struct scheduler_options *options);
void tear_down(struct fixture *fixture);

/* A greedy request with the first `count` tokens of the fixture's prompt; `add` adds it. */
struct scheduler_request request_of(const struct fixture *fixture, uint64_t id, const char *tenant, size_t count,
                                    uint64_t most);
void add(struct fixture *fixture, uint64_t id, const char *tenant, size_t count, uint64_t most, int priority);
/* Calls of scheduler_step, as long as there is anything to do. */
void steps(struct fixture *fixture, int count);
void run_all(struct fixture *fixture);

/* `ids`: of the requests that finished, in order, from 'a' for 0. */
void assert_finished(const struct heard *heard, const char *ids);
size_t count_drawn(const struct heard *heard, uint64_t id);
uint64_t preemptions(const struct fixture *fixture);

#endif
