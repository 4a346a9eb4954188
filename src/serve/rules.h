/* What an operator decides about requests, as the server asks it: who a key belongs to and what it may do, and
 * where events are counted and logged. The layer above (ops/) implements it; a server without rules lets everyone
 * do everything but administer. */
#ifndef SERVE_RULES_H
#define SERVE_RULES_H

#include <stdint.h>

#include "base/buffer.h"
#include "serve/backend.h"

enum rules_scope { SCOPE_OPEN, SCOPE_USE, SCOPE_ADMIN, SCOPE_METRICS }; /* of a route; METRICS: OPEN or USE, as the
                                                                          operator chose */

struct rules_identity {
    char tenant[64]; /* "" for none */
    char key_id[24]; /* a short name of the key for logs; never the key */
    int is_admin;
    int priority;        /* largest that its requests may ask for */
    uint64_t most_tokens; /* an answer, 0: no limit */
};

/* One request, when its answer has ended or was cut. No text of prompt or answer. */
struct rules_record {
    const char *request_id, *method, *route, *model, *peer; /* route: the pattern, "/v1/models/{id}"; model may be NULL */
    const struct rules_identity *identity;
    int status;            /* 499: the client hung up first */
    const char *finish;    /* reason of choice 0, or NULL */
    const char *error_code; /* or NULL */
    int is_stream;
    uint64_t request_bytes, reply_bytes;
    struct answer_usage usage; /* zeros where no model answered */
    uint64_t received_nanoseconds, ended_nanoseconds; /* clock_nanoseconds() */
    uint64_t prompt_limit, most_tokens;  /* max_tokens in effect */
    uint32_t choices;
    uint64_t most_output_tokens; /* of one choice */
    uint64_t front_nanoseconds; /* wall time of the event thread in the API's code: about its CPU time, without HTTP and TLS */
};

struct serve_rules {
    void *context;
    /* `authorization` and `api_key` are the values of Authorization and x-api-key, or NULL; the second counts where there is
     * no first. BULLA_OK, or fills *problem (401, 403) and returns its code. */
    int (*authorise)(void *context, enum rules_scope scope, const char *authorization, const char *api_key,
                     struct rules_identity *identity, struct answer_error *problem);
    void (*record)(void *context, const struct rules_record *record);
    /* Time to each first token and between tokens, as they happen. */
    void (*first_token)(void *context, const char *model, uint64_t nanoseconds);
    void (*next_token)(void *context, const char *model, uint64_t nanoseconds, uint32_t tokens);
    /* Appends the text of /metrics (Prometheus text format 0.0.4). */
    int (*write_metrics)(void *context, struct buffer *out, bulla_error *error);
    /* Admin: a model from {"name":..., "path"|"upstream":..., ...}; adds it to the server's models. */
    int (*load_model)(void *context, const struct json *description, struct answer_error *problem);
    int (*unload_model)(void *context, const char *name, struct answer_error *problem);
};

#endif
