/* The native backend: a worker process with Bulla's engine, its cache and the scheduler. The front keeps the model's
 * file open and its tokenizer and chat template mapped; it turns messages into ids and what the worker tells into
 * deltas (tool calls and thinking are parsed here). The worker is this program again (`bulla worker`, by
 * /proc/self/exe), joined by a socket pair (serve/wire.h) and a page of shared counters; it gets the model's open file
 * as a descriptor, and needs no other file and no network once it has started. One that dies costs its own answers
 * only, which fail with a clear error (503, code "worker_died"), and is started again; requests that come meanwhile
 * wait for it, among most_waiting. Where it dies at its start several times in a row the backend is BACKEND_FAILED with
 * the reason, refuses requests (503, code "worker_failed"), and tries again every half minute. docs/processes.md says
 * all of it.
 *
 * Choices: with n = 1 the answer takes the request's seed as it is; with more, choice k (from 0) takes
 * bulla_sampling_choice_seed(seed, k), as docs/canonical.md has it.
 *
 * Ends: an answer's finish is "stop", "tool_calls" or "length". Clients know no "range" (a value left a bound of the
 * model's arithmetic, so that no next token is defined) and no deadline: an only choice that ends so before its first
 * token fails (422 with code "range", 504 with code "deadline"); later, and with several choices, what there is stays,
 * and its finish is "length" with the stop text "range" or "deadline".
 *
 * Deltas: each token has one delta that says tokens = 1, also where its text is held back, empty. With tools, or where
 * the model thinks aloud, the text goes through an output_parser: one token may give several deltas, of which the first
 * has it. */
#ifndef SERVE_NATIVE_H
#define SERVE_NATIVE_H

#include "serve/backend.h"

struct event_base;

struct native_options {
    const char *path;        /* of a model file */
    const char *program;     /* NULL: /proc/self/exe */
    unsigned threads;        /* 0: one a core */
    uint64_t cache_positions; /* KV cache; 0: a quarter of the memory that is free when the backend is opened, less the
                                 model's size, at least one full context and at most 256 */
    uint32_t most_running;   /* 0: the scheduler's */
    uint32_t speculate;
    int has_prefix_cache;
    const char *isa;         /* or NULL */
    uint64_t most_waiting;   /* more are refused with 503; 0: 4,096 */
    unsigned stuck_seconds;  /* a worker that has answers to give and makes no step for so long is killed; 0: 120 */
};

/* Maps and checks the model and starts the worker; the backend is BACKEND_READY when the worker says so. Closing it
 * kills the worker and waits up to two seconds for its end. */
int native_open(struct event_base *base, const struct native_options *options, struct backend **backend,
                bulla_error *error);

/* The worker's side: serves the socket until the other end is closed. Runs in the child process. */
int native_worker_run(int socket, int model_file, int counters, bulla_error *error);

#endif
