/* A native backend on an event loop, and answers of it as they were heard. The test's own program is the worker:
 * main must hand its arguments to native_fixture_worker first. */
#ifndef TESTS_NATIVE_FIXTURE_H
#define TESTS_NATIVE_FIXTURE_H

#include <event2/event.h>

#include "base/buffer.h"
#include "serve/native_internal.h"

enum { HEARD_CHOICES = 4, HEARD_SECONDS = 400 };

struct native_fixture {
    struct event_base *base;
    struct event *tick;
    struct backend *backend;
    char folder[64], path[100], program[100];
    struct native_options options;
};

/* A model of 211 tokens that are bytes, 700 positions. `as`: the worker's name, by which it may misbehave (see
 * native_fixture.c); NULL: it serves. Fails the test where it cannot. */
void native_fixture_open(struct native_fixture *fixture, const char *chat_template, const char *as);
void native_fixture_close(struct native_fixture *fixture);
/* Opens the backend with fixture->options. */
int native_fixture_start(struct native_fixture *fixture, bulla_error *error);
struct native *native_fixture_native(struct native_fixture *fixture);
/* Runs the loop until the condition holds; fails the test after HEARD_SECONDS. */
#define native_fixture_until(fixture, condition)                                       \
    do {                                                                               \
        uint64_t end_ = clock_nanoseconds() + HEARD_SECONDS * UINT64_C(1000000000);    \
        while (!(condition)) {                                                         \
            if (clock_nanoseconds() > end_)                                            \
                fail_msg("waited in vain for: %s", #condition);                        \
            event_base_loop((fixture)->base, EVLOOP_ONCE);                             \
        }                                                                              \
    } while (0)
int native_fixture_state(struct native_fixture *fixture);

/* One answer. */
struct heard {
    struct native_fixture *fixture;
    struct answer *answer; /* NULL once it has ended */
    struct {
        struct buffer text, reasoning, arguments, names, ids; /* ids: u32 each */
        uint64_t tokens, logprobs, tops;
        char reason[20], stop[20];
        int has_finished;
    } choices[HEARD_CHOICES];
    struct answer_usage usage;
    struct answer_error problem;
    float embedding[8];
    size_t embedding_count;
    int ends, fails, deltas, late; /* late: calls after the last one, or to one that was cancelled */
    int is_cancelled;
    void (*on_delta)(struct heard *heard);
    void (*on_end)(struct heard *heard);
};

/* A completion of `prompt`, of which each byte is a token, with one choice and no limit. */
struct answer_request heard_request(const char *prompt);
/* Starts; 1, or 0 with heard->problem. The prompt and the rest must live on. */
int heard_start(struct native_fixture *fixture, struct heard *heard, const struct answer_request *request);
void heard_cancel(struct heard *heard);
void heard_free(struct heard *heard);
int heard_is_over(const struct heard *heard);

/* The worker's side: -1 where the arguments are not a worker's, else the program's status. */
int native_fixture_worker(int argc, char **argv);

#endif
