/* An HTTP/1.1 client for one request on a connection of its own: connects (TLS where the target has it), sends, and
 * hands on the answer as it comes. The connection is closed at the answer's end; none is kept for later requests, so
 * nothing of one answer can reach another.
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
};

/* `target` must outlive the call. */
int client_call_open(const struct upstream_target *target, const struct client_request *request,
                     const struct client_sink *sink, struct client_call **call, bulla_error *error);
/* Closes the connection at once; also after the last callback. NULL is fine. */
void client_call_close(struct client_call *call);

#endif
