/* An HTTP/1.1 client for one request: connects (TLS where the target has it), sends, and hands on the answer as it
 * comes. The connection is closed at the answer's end, so nothing of one answer can reach another, unless the request
 * keeps it: then whoever made the request may take it over for the next one, where the answer ended cleanly.
 *
 * Writing to a connection that the other side has closed raises SIGPIPE: the process ignores that signal. */
#ifndef SERVE_UPSTREAM_CLIENT_H
#define SERVE_UPSTREAM_CLIENT_H

#include "base/buffer.h"
#include "serve/upstream_response.h"
#include "serve/upstream_target.h"

enum client_failure {
    CLIENT_UNREACHABLE, /* refused, no such host, no route */
    CLIENT_TIMEOUT,     /* connecting, or no byte of the answer for too long */
    CLIENT_DEADLINE,    /* the request's own */
    CLIENT_UNTRUSTED,   /* TLS: the certificate or the protocol is not acceptable */
    CLIENT_BROKEN,      /* the answer is malformed, or cut off */
    CLIENT_MEMORY
};

struct client_call;
struct client_connection; /* one that is open and that no request uses */

/* None is called before client_call_open returns. The call may be closed inside each of them. */
struct client_sink {
    void *context;
    void (*head)(void *context, const struct upstream_response *response);
    void (*body)(void *context, const uint8_t *bytes, size_t length);
    /* Exactly one of these two is the last, unless the call is closed before. */
    void (*done)(void *context);
    void (*failed)(void *context, enum client_failure failure, const char *sentence);
};

struct client_request {
    const char *method, *path, *accept, *id; /* id: sent as X-Request-Id, or NULL */
    struct buffer *body;      /* JSON, taken over where the call could be opened; or NULL */
    unsigned connect_seconds; /* for connecting and TLS */
    unsigned idle_seconds;    /* without a byte of the answer */
    uint64_t deadline;        /* clock_nanoseconds(), 0: none */
    int is_anonymous;         /* without the target's key */
    const char *headers;      /* more header lines, each with its CR LF; NULL: none */
    int keeps;                /* asks that the connection stay open: see client_call_keep */
    int keeps_headers;        /* upstream_response_header knows all headers of the answer */
    struct client_connection *connection; /* to send on, taken over where the call could be opened; NULL: a new one */
};

/* `target` must outlive the call. */
int client_call_open(const struct upstream_target *target, const struct client_request *request,
                     const struct client_sink *sink, struct client_call **call, bulla_error *error);
/* Inside of `done` of a request that keeps: its connection, the caller's from now on; NULL where no other request can
 * follow on it, or memory is short. */
struct client_connection *client_call_keep(struct client_call *call);
/* Inside of `failed`: not a byte of an answer had come. */
int client_call_is_silent(const struct client_call *call);
/* Reads no more of the answer, or goes on: for a caller that cannot take it so fast. */
void client_call_pause(struct client_call *call, int is_paused);
/* SHA-256 of the SubjectPublicKeyInfo of the server's certificate; BULLA_E_INPUT where there is none (no TLS). */
int client_connection_key(const struct client_connection *connection, uint8_t digest[32], bulla_error *error);
/* `lost` is called once, when the server closes the connection or sends what nobody asked for; the connection is the
 * caller's to close then too. A request that takes it over ends the watch. */
void client_connection_watch(struct client_connection *connection, void (*lost)(void *context), void *context);
void client_connection_close(struct client_connection *connection); /* NULL is fine */
/* Closes the connection at once; also after the last callback. NULL is fine. */
void client_call_close(struct client_call *call);

#endif
