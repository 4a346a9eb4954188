/* The native backend: a worker process with Bulla's engine, its cache and the scheduler. The front keeps the model's file
 * open and its tokenizer and chat template mapped; it turns messages into ids and what the worker tells into deltas (tool
 * calls and thinking are parsed here). The worker is this program again (`bulla worker`, by /proc/self/exe), joined by a
 * socket pair (serve/wire.h) and a page of shared counters; it gets the model's open file as a descriptor, and needs no other
 * file and no network once it has started. One that dies costs its own answers only, which fail with a clear error, and
 * is started again. */
#ifndef SERVE_NATIVE_H
#define SERVE_NATIVE_H

#include "serve/backend.h"

struct event_base;

struct native_options {
    const char *path;        /* of a model file */
    const char *program;     /* NULL: /proc/self/exe */
    unsigned threads;        /* 0: one a core */
    uint64_t cache_positions; /* KV cache; 0: a quarter of the memory that is free, at least one full context */
    uint32_t most_running;   /* 0: the scheduler's */
    uint32_t speculate;
    int has_prefix_cache;
    const char *isa;         /* or NULL */
    uint64_t most_waiting;   /* more are refused with 503; 0: 4,096 */
};

/* Maps and checks the model and starts the worker; the backend is BACKEND_READY when the worker says so. */
int native_open(struct event_base *base, const struct native_options *options, struct backend **backend, bulla_error *error);

/* The worker's side: serves the socket until the other end is closed. Runs in the child process. */
int native_worker_run(int socket, int model_file, int counters, bulla_error *error);

#endif
