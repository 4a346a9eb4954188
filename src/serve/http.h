/* An HTTP/1.1 server on libevent's bufferevents, over TLS 1.3 or in the clear, with a parser of its own that
 * refuses whatever two parsers could read differently (RFC 9112): bare LF, both Content-Length and
 * Transfer-Encoding, a repeated or malformed length, white space before a colon, folded lines, control
 * characters. One thread, the event base's.
 *
 * A request reaches its handler when its body is there whole; the handler may answer earlier, when the head is.
 * Bodies are bounded, each and together. An answer is sent at once or piece by piece. Connections are kept alive and
 * requests of one are answered in order; the next is not read before the last is answered. Slow and idle connections are
 * closed by time limits; a client that does not read its answer is cut off (docs/http.md, "Back-pressure"). */
#ifndef SERVE_HTTP_H
#define SERVE_HTTP_H

#include <stddef.h>
#include <stdint.h>

#include "bulla/error.h"

struct buffer;
struct event_base;
struct http_server;
struct http_exchange; /* one request and its answer */

struct http_limits {
    size_t most_header_bytes;  /* request line and headers; 0: 32 KiB */
    size_t most_header_lines;  /* 0: 100 */
    size_t most_body_bytes;    /* 0: 16 MiB */
    size_t most_held_bytes;    /* of all connections together: bodies that have come, whole answers that wait to be
                                  sent; 0: 512 MiB, or most_body_bytes where that is more */
    size_t most_unsent;        /* 0: 4 MiB */
    unsigned most_connections; /* 0: 12,000; more are closed at once */
    unsigned header_seconds;   /* for a whole request header from its first byte; 0: 10 */
    unsigned body_seconds;     /* for a whole body; 0: 60 */
    unsigned idle_seconds;     /* between requests; 0: 75 */
    unsigned write_seconds;    /* without progress of an answer that waits to be sent; 0: 30 */
};

struct http_tls; /* certificate and key, TLS 1.3 only; made by serve/tls.h */

struct http_handler {
    void *context;
    /* A request is whole. The handler answers now or later, with one http_reply or with http_reply_begin ...
     * http_reply_end. */
    void (*request)(void *context, struct http_exchange *exchange);
    /* The head of a request is whole and its body is still to come: nothing of that was kept, and no 100 (Continue) was
     * sent. Where the handler answers at once, with http_reply, the body is not read and the connection closes;
     * else `request` follows. NULL: every body is read. */
    void (*head)(void *context, struct http_exchange *exchange);
    /* A request that is not taken: malformed, too long, too slow, or memory is short; `message` is a sentence. The handler
     * answers at once, with http_reply, and the connection closes. Of the request there may be its headers and its
     * method ("": it was not understood), no path. NULL: it is answered without the handler. */
    void (*refuse)(void *context, struct http_exchange *exchange, int status, const char *message);
};

/* Serves on `listener`, a listening socket that becomes the server's where this succeeds. `tls` may be NULL; else it
 * must outlive it. The process must ignore SIGPIPE (BULLA_E_USAGE): libevent and OpenSSL write to sockets that may be
 * closed on the other side. */
int http_server_open(struct event_base *base, int listener, const struct http_tls *tls, const struct http_limits *limits,
                     const struct http_handler *handler, struct http_server **server, bulla_error *error);
/* No new connections but those that wait to be accepted; idle ones are closed (those without a request so far after a
 * second), answers under way are finished and their connections closed. */
void http_server_drain(struct http_server *server);
int http_server_is_drained(const struct http_server *server); /* no connection is left */
/* At once; exchanges are told through http_on_close. Not from inside a call to the handler. Sockets and their memory
 * go in the event loop's next turn, or with the base. NULL is fine. */
void http_server_close(struct http_server *server);
unsigned http_server_connections(const struct http_server *server);

/* The request. Text is valid until the answer ends. */
const char *http_method(const struct http_exchange *exchange); /* "GET", ... */
const char *http_path(const struct http_exchange *exchange);   /* decoded UTF-8 without the query; begins with '/', or
                                                                  is "*" for OPTIONS */
const char *http_query(const struct http_exchange *exchange);  /* as sent, without '?'; "" for none */
/* A header's value by its name in lower case, or NULL; fields that came several times are joined by ", ". */
const char *http_header(const struct http_exchange *exchange, const char *name);
const char *http_body(const struct http_exchange *exchange, size_t *length); /* NUL follows it */
void http_drop_body(struct http_exchange *exchange); /* its memory goes now, not with the answer; there is none then */
const char *http_peer(const struct http_exchange *exchange);    /* "127.0.0.1:54321" */
uint64_t http_received(const struct http_exchange *exchange);   /* clock_nanoseconds() when the request, or in `head` its
                                                                   head, was whole; when it was refused */

/* The answer. Headers of it: set before http_reply or http_reply_begin; Content-Length, Transfer-Encoding,
 * Connection and Date are the server's. Names and values with control characters are BULLA_E_USAGE. */
int http_reply_header(struct http_exchange *exchange, const char *name, const char *value, bulla_error *error);
/* All of it at once; the exchange is gone afterwards. `body` may be the request's own. It may be longer than
 * `most_unsent`: then the client has to take that many bytes in each `write_seconds`. No content type: NULL. HEAD's body
 * is counted and not sent; 204 and 304 have none. */
void http_reply(struct http_exchange *exchange, int status, const char *content_type, const void *body, size_t length);
/* The same of a buffer without an error, whose memory is sent from and then freed; the buffer is empty afterwards. */
void http_reply_buffer(struct http_exchange *exchange, int status, const char *content_type, struct buffer *body);
/* The same of parts that lie in several places. One with `release` is sent from where it lies, and that is called once, with
 * its bytes, when nothing needs them any more: parts of many answers may be the same bytes. Others are copied. */
struct http_part {
    const void *bytes;
    size_t length;
    void (*release)(const void *bytes, size_t length, void *context);
    void *context;
};
void http_reply_parts(struct http_exchange *exchange, int status, const char *content_type, const struct http_part *parts,
                      size_t count);
/* Piece by piece. What is written while the client is gone is dropped. */
void http_reply_begin(struct http_exchange *exchange, int status, const char *content_type);
void http_reply_write(struct http_exchange *exchange, const void *bytes, size_t length);
void http_reply_end(struct http_exchange *exchange);   /* the exchange is gone afterwards */
void http_reply_abort(struct http_exchange *exchange); /* cuts the connection, so that the client sees that it is not
                                                          whole; the exchange is gone afterwards */
size_t http_reply_unsent(const struct http_exchange *exchange); /* bytes that wait */
/* Called each time when all that was written has left, until the answer ends: for a handler that waits for its client.
 * NULL ends it. */
void http_on_drain(struct http_exchange *exchange, void (*drained)(void *context), void *context);
int http_reply_has_begun(const struct http_exchange *exchange);

/* Called once when the client hangs up or is cut off before the answer has ended, as soon as that is seen, also
 * while nothing is being written. The exchange is gone when it returns: no other call may follow. */
void http_on_close(struct http_exchange *exchange, void (*closed)(void *context), void *context);

#endif
