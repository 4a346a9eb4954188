/* The upstream backend: any OpenAI-compatible server (vLLM, llama-server, ...). Requests go to its
 * /v1/chat/completions, /v1/completions and /v1/embeddings, always streamed where it can be; what it tells comes back
 * as deltas. An upstream on loopback counts as part of this machine; any other is unverified until a policy says
 * otherwise. */
#ifndef SERVE_UPSTREAM_H
#define SERVE_UPSTREAM_H

#include "serve/backend.h"

struct event_base;

struct upstream_options {
    const char *url;        /* "http://127.0.0.1:8081", "https://host:port/prefix" */
    const char *model;      /* its name there; NULL: the first of its /v1/models */
    const char *key;        /* sent as bearer token; NULL: none */
    const char *ca_file;    /* for https; NULL: the system's */
    unsigned connect_seconds; /* 0: 5 */
    unsigned idle_seconds;    /* without a byte of the answer; 0: 120 */
    uint64_t most_waiting;    /* answers at once, more are refused; 0: 1,024 */
};

int upstream_open(struct event_base *base, const struct upstream_options *options, struct backend **backend,
                  bulla_error *error);

#endif
