/* What the HTTP server's own files share. A connection is in one state; who may move it where:
 *
 *   HANDSHAKE -> IDLE -> READING -> HANDLING -> FLUSHING -> IDLE (kept alive) or LINGERING -> gone
 *
 * Nothing that a handler calls ends a connection or calls the handler back: what must end is marked, and ends in a turn
 * of the event loop of its own. So a handler may write, end or abort an exchange wherever it likes, also inside of
 * its own `request`. */
#ifndef SERVE_HTTP_INTERNAL_H
#define SERVE_HTTP_INTERNAL_H

#include <event2/event.h>
#include <time.h>

#include "base/buffer.h"
#include "serve/http.h"
#include "serve/http_parser.h"

struct bufferevent;

enum {
    HTTP_MOST_PIPELINED = 8 << 10, /* bytes behind a request; then the socket is no longer read */
    HTTP_LINGER_SECONDS = 3,       /* for the client to close, after the server has */
    HTTP_MOST_COPIED = 16 << 10,   /* of a whole answer; a longer one is sent from where it lies */
    HTTP_PEER_BYTES = 56           /* "[IPv6]:port" and NUL */
};

enum connection_state {
    CONNECTION_HANDSHAKE, /* TLS */
    CONNECTION_IDLE,      /* no byte of a request */
    CONNECTION_READING,   /* a request is on its way */
    CONNECTION_HANDLING,  /* the handler has it */
    CONNECTION_FLUSHING,  /* the answer has ended and waits to be sent */
    CONNECTION_LINGERING, /* all is sent and closed; what comes is dropped until the client closes too */
    CONNECTION_DOOMED     /* ends in the next turn of the loop */
};

struct connection {
    struct http_server *server;
    struct connection *previous, *next;
    struct bufferevent *stream;
    struct event *timer;
    struct http_exchange *exchange; /* NULL in IDLE before the first byte, and from FLUSHING on */
    uint64_t deadline;              /* clock_nanoseconds(); 0: none. The timer may be set earlier */
    uint64_t timer_at;              /* 0: not set */
    uint64_t queued;                /* bytes ever given to be sent */
    uint64_t progress_bytes, progress_at; /* of them sent, and when that last grew */
    size_t lingered;                /* bytes dropped */
    size_t held;                    /* its part of the server's `held` */
    int socket;
    enum connection_state state;
    unsigned is_closing : 1;     /* no request after this one */
    unsigned is_cut : 1;         /* nothing more is sent */
    unsigned is_reset : 1;       /* ends with RST, so that the client cannot take what it has for whole */
    unsigned is_watched : 1;     /* the deadline is that of watch() */
    unsigned is_paused : 1;      /* the socket is not read */
    unsigned has_hung_up : 1;    /* the client sends no more */
    unsigned has_had_request : 1;
    char peer[HTTP_PEER_BYTES];
};

struct http_exchange {
    struct connection *connection;
    struct http_parser parser;
    uint64_t received;
    struct buffer headers; /* of the answer, by http_reply_header */
    void (*closed)(void *context);
    void *closed_context;
    void (*drained)(void *context);
    void *drained_context;
    unsigned has_begun : 1;
    unsigned is_chunked : 1;
    unsigned has_no_body : 1;  /* HEAD, 204, 304 */
    unsigned is_ending : 1;    /* `closed` runs */
};

struct http_server {
    struct event_base *base;
    const struct http_tls *tls;
    struct http_limits limits;
    struct http_handler handler;
    struct event *accepting, *accept_again;
    int listener; /* -1 once closed */
    struct connection *connections;
    unsigned connection_count;
    size_t held; /* bytes of bodies that have come and of long whole answers that wait to be sent */
    int is_draining;
    time_t date_second;
    char date[32];
    struct buffer head; /* of the answer being written */
};

/* http_connection.c. Takes the socket, also where it fails. */
void connection_open(struct http_server *server, int socket, const char *peer);
/* At once, without a word to the handler. */
void connection_free(struct connection *connection);
/* The same, telling the handler where it has the exchange. */
void connection_end(struct connection *connection);
/* An idle connection of a draining server. */
void connection_drain(struct connection *connection);
/* Bytes to the output; what cannot be taken dooms the connection. */
void connection_write(struct connection *connection, const void *bytes, size_t length);
/* Ends it in the next turn of the loop. */
void connection_cut(struct connection *connection);
/* The exchange's answer has ended: frees it, sends what waits, goes on or closes. */
void connection_finish_exchange(struct connection *connection);
/* Takes the buffer's memory and sends from it; what cannot be taken dooms the connection. Whether it was taken. */
int connection_give(struct connection *connection, struct buffer *buffer);
/* A part of an answer; it is released, now or later. */
void connection_write_part(struct connection *connection, const struct http_part *part);
/* What the connection holds now of what the server counts. */
void connection_hold(struct connection *connection, size_t bytes);
size_t connection_unsent(const struct connection *connection);
/* Begins to look after the progress of what waits to be sent. */
void connection_watch(struct connection *connection);

/* http_reply.c. One whole answer in the OpenAI form of an error, after which the connection closes. */
void exchange_refuse(struct http_exchange *exchange, int status, const char *message);
void exchange_free(struct http_exchange *exchange);

/* http_server.c. "Sun, 06 Nov 1994 08:49:37 GMT", made once a second. */
const char *server_date(struct http_server *server);

#endif
