/* The proxy of `bulla connect` (docs/connect.md): an HTTP handler that passes OpenAI's API on to a server which it verifies
 * first, and whose answers it checks as they come (connect_check.h).
 *
 *   connect.c         who may ask, routes, the handler
 *   connect_pass.c    one request and its answer on their way
 *   connect_prove.c   an answer whose receipt has come: its evidence, its place in the log, what is kept of it
 *   connect_fetch.c   small documents of the server's
 *   connect_link.c    verified connections;  connect_log.c  the log's history;  connect_keeper.c  files */
#ifndef SERVE_CONNECT_H
#define SERVE_CONNECT_H

#include "serve/http.h"
#include "trust/note.h"

struct event_base;
struct connect;

struct connect_options {
    const char *url;                /* https */
    const char *server_key;         /* sent as the bearer's; NULL: none */
    const char *policy;
    size_t policy_length;
    const char *local_key;          /* that clients must send; NULL: none is asked for */
    const char *receipts;           /* folder of receipt documents */
    const char *logs;               /* folder of checkpoints */
    int leaves_texts_out;           /* of receipt documents */
    int is_strict;                  /* routes whose answers nothing verifies are refused */
    int needs_no_log;               /* receipts of a server without a log are accepted */
    const struct note_key *log_key; /* NULL: the one that the verified server tells */
    const struct note_key *witnesses;
    size_t witness_count, witnesses_needed;
    unsigned renew_seconds, connect_seconds, idle_seconds; /* 0: 3,600, 10, 300 */
    void (*told)(void *context, const char *line); /* what an operator should know, a sentence */
    void *context;
};

/* Texts and keys are copied. */
int connect_open(struct event_base *base, const struct connect_options *options, struct connect **connect,
                 bulla_error *error);
void connect_close(struct connect *connect); /* after the HTTP server. NULL is fine */
struct http_handler connect_handler(struct connect *connect);

#endif
