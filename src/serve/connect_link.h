/* Connections to a server that is trusted because of its evidence. Each one, when it is made, asks for evidence with a
 * fresh nonce over itself, and is used for nothing else unless that verifies: bound to this connection's TLS key, to the
 * nonce, and as the policy wants it. What it binds (the key of receipts, the models) holds for what comes over that
 * connection. Connections are used again until their evidence is too old. */
#ifndef SERVE_CONNECT_LINK_H
#define SERVE_CONNECT_LINK_H

#include "base/buffer.h"
#include "serve/connect_check.h"
#include "serve/upstream_response.h"
#include "trust/policy.h"

struct event_base;
struct connect_link;
struct connect_ask; /* one request, from when it is asked until its answer has ended */

struct connect_link_options {
    const char *url, *key;      /* https; the key that the server wants, or NULL */
    const char *policy;         /* JSON; must want evidence that is bound to keys and a nonce */
    size_t policy_length;
    unsigned renew_seconds;     /* how old evidence may be that a connection is used with; the policy's max_age where less */
    unsigned connect_seconds, idle_seconds; /* as struct client_request's */
    /* What the evidence of a new connection was found to be: `problem` NULL where it verified. */
    void (*told)(void *context, const struct connect_pin *pin, const char *type, const struct connect_problem *problem);
    void *context;
};

int connect_link_open(struct event_base *base, const struct connect_link_options *options, struct connect_link **link,
                      bulla_error *error);
void connect_link_close(struct connect_link *link); /* after all asks have ended. NULL is fine */
/* Makes a verified connection where there is none and none is being made. */
void connect_link_warm(struct connect_link *link);
const struct policy *connect_link_policy(const struct connect_link *link);

/* As upstream_client.h's sink; `failed` with the status for a client. */
struct connect_ask_sink {
    void *context;
    void (*head)(void *context, const struct upstream_response *response);
    void (*body)(void *context, const uint8_t *bytes, size_t length);
    void (*done)(void *context);
    void (*failed)(void *context, int status, const struct connect_problem *problem);
};

struct connect_ask_request {
    const char *method, *path, *accept, *headers; /* of struct client_request */
    const void *body; /* NULL: none; must stay until the answer's head is there or the ask has ended */
    size_t length;
};

/* None of the sink is called before this returns. */
int connect_ask_open(struct connect_link *link, const struct connect_ask_request *request, const struct connect_ask_sink *sink,
                     struct connect_ask **ask, bulla_error *error);
/* Ends it at once where it goes on; its memory goes. To be called for each, once, also after the last callback; also inside
 * of one. NULL is fine. */
void connect_ask_close(struct connect_ask *ask);
void connect_ask_pause(struct connect_ask *ask, int is_paused);
/* From `head` on: what the evidence of its connection binds. Its own memory, as long as the ask. */
const struct connect_pin *connect_ask_pin(const struct connect_ask *ask);
const uint8_t *connect_ask_tls_key(const struct connect_ask *ask);

/* Verifies a document under the link's policy; `nonce` may be NULL. Where it fails: which check, and why. With
 * `may_be_old` the policy's max_age does not count. */
int connect_verify_evidence(const struct connect_link *link, const char *document, size_t length, const uint8_t *tls_key,
                            const uint8_t *nonce, const uint8_t *receipt_key, const uint8_t *model, int may_be_old,
                            struct connect_problem *problem);

#endif
