/* A referee at work: its log in a store, its clock, and HTTP (docs/dispute.md, "Carriers").
 *
 *     POST /v1/disputes            a message: 200 where it was taken, 409 where it has no effect, 503 where memory is short
 *     GET  /v1/disputes/ID?from=N  the dispute's messages from number N on: {"messages": [...]}
 *     GET  /v1/answers?from=N      ids of answers: {"answers": [...]}
 *     GET  /v1/answers/ID          the answer's state, signed
 *
 * Messages of answers, which have requests in them, are shown to nobody. */
#ifndef OPS_DISPUTE_SERVER_H
#define OPS_DISPUTE_SERVER_H

#include "check/referee.h"
#include "ops/dispute_store.h"

struct event_base;
struct http_tls;
struct dispute_docket;

struct dispute_docket_options {
    struct dispute_store *store;
    const struct referee_text *text;
    EVP_PKEY *key;                /* the referee's */
    struct referee_config config; /* for a new store; an old one has its own, whose key must be this one */
    int64_t (*now)(void);         /* milliseconds since 1970 */
};

/* ---- The referee with its store, whatever carries the messages ---- */

/* Rebuilds the state; where there was one, what is open gets its time anew. */
int dispute_docket_open(const struct dispute_docket_options *options, struct dispute_docket **docket, bulla_error *error);
void dispute_docket_close(struct dispute_docket *docket); /* NULL is fine */
const struct referee *dispute_docket_referee(const struct dispute_docket *docket);
/* What the clock decides. */
int dispute_docket_tick(struct dispute_docket *docket, bulla_error *error);
/* A message that came. *is_taken 0: it has no effect, and *why says why (not an error of this call). An error is one of the
 * store: the state is not what is kept any more, and the docket must be closed. */
int dispute_docket_take(struct dispute_docket *docket, const void *bytes, size_t length, int *is_taken, bulla_error *why,
                        bulla_error *error);
/* {"messages": [...]} */
int dispute_docket_messages(struct dispute_docket *docket, const uint8_t id[DISPUTE_HASH], uint64_t from, struct buffer *out,
                            bulla_error *error);
/* {"signature": BASE64, "statement": {"answer": {...}, "key": HEX, "protocol": "bulla-dispute-state-v1", "time": N}} */
int dispute_docket_statement(struct dispute_docket *docket, const uint8_t id[DISPUTE_HASH], struct buffer *out, bulla_error *error);
#define DISPUTE_STATEMENT "bulla-dispute-state-v1"

/* ---- HTTP ---- */

/* Serves until the base's loop is broken. `listener`: a socket. An error of the store breaks the loop and is put into
 * *trouble. */
int dispute_server_run(struct event_base *base, int listener, const struct http_tls *tls, struct dispute_docket *docket,
                       bulla_error *trouble, bulla_error *error);

#endif
