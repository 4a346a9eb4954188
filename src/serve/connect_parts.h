/* What the proxy's files share. */
#ifndef SERVE_CONNECT_PARTS_H
#define SERVE_CONNECT_PARTS_H

#include "serve/connect.h"
#include "serve/connect_check.h"
#include "serve/connect_keeper.h"
#include "serve/connect_link.h"
#include "serve/connect_log.h"
#include "serve/upstream_events.h"

struct event;

enum {
    CONNECT_MOST_WHOLE = 64 << 20,   /* of an answer that is no stream */
    CONNECT_MOST_UNSENT = 256 << 10, /* to a client, before no more is read from the server */
    CONNECT_MOST_EVIDENCE = 16       /* standing documents that are remembered */
};

enum passing_kind {
    PASSING_PLAIN,      /* says nothing that a receipt could cover */
    PASSING_UNVERIFIED, /* passes, marked */
    PASSING_ANSWER      /* has a receipt */
};

/* A small document of the server's. */
struct connect_fetch {
    struct connect *connect;
    struct connect_ask *ask;
    struct buffer body;
    int status;
    size_t most;
    /* Called once, unless it is closed before; the fetch may be closed in it. */
    void (*done)(struct connect_fetch *fetch, const struct connect_problem *problem);
    void *context;
};

int connect_fetch_open(struct connect *connect, const char *path, size_t most,
                       void (*done)(struct connect_fetch *fetch, const struct connect_problem *problem), void *context,
                       struct connect_fetch **fetch);
void connect_fetch_close(struct connect_fetch *fetch); /* NULL is fine */

/* One request. */
struct passing {
    struct connect *connect;
    struct passing *next, **link;
    struct http_exchange *exchange; /* NULL once the client is gone */
    enum passing_kind kind;
    struct connect_ask *ask;
    struct arena arena;             /* of the request's JSON */
    struct connect_asked asked;
    struct connect_check *check;    /* of an answer with status 200 */
    struct upstream_events events;
    struct buffer whole, ready, out, last; /* ready: what is checked and not yet written; last: the held event */
    uint64_t written;               /* clock_nanoseconds() when the client last got something */
    int status, is_stream, has_begun, is_paused;
    int has_last, has_ended;        /* the receipt came; the answer ended as it should */
    int is_proved;                  /* all is verified and kept */
    int depth, is_over;             /* callbacks being run; freed when it is over and depth is 0 */
    /* connect_prove.c */
    struct connect_fetch *evidence;
    struct connect_entry entry;
    struct passing *log_next;
    int waits_for_log, is_kept;     /* is_kept: the keeper has it */
    unsigned tries;
    char receipt_path[1100];
};

struct known_evidence {
    uint8_t hash[32], tls_key[32], receipt_key[32], model[32];
    struct buffer document;
};

struct connect {
    struct connect_options options;
    struct event_base *base;
    struct connect_link *link;
    struct connect_log *log;
    struct connect_keeper *keeper;
    struct event *tick;
    struct passing *passings;
    /* What is told of the server. */
    char said[1100];
    /* The log's key, before anything is sent. */
    struct connect_fetch *key_fetch;
    struct passing *key_waiting;
    /* One tile at a time. */
    struct connect_fetch *tile_fetch;
    struct event *tile_timer;
    struct tlog_tile tile;
    int waits_for_tile;
    struct passing *log_waiting, *log_first; /* log_first: for which the tile is fetched; NULL: gone */
    struct known_evidence known[CONNECT_MOST_EVIDENCE];
    size_t known_count;
};

void connect_tell(struct connect *connect, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* {"error":{...},"bulla":{"check":...,"verified":false}} */
void connect_write_error(struct buffer *out, const char *code, const struct connect_problem *problem);
void connect_refuse(struct http_exchange *exchange, int status, const char *type, const char *code, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* connect_pass.c */
void passing_start(struct connect *connect, struct http_exchange *exchange, enum passing_kind kind, enum connect_form form);
void passing_send(struct passing *passing); /* the log's key is known, or not needed */
/* The answer ends here, visibly. */
void passing_fail(struct passing *passing, int status, const struct connect_problem *problem);
void passing_proved(struct passing *passing);
void passing_enter(struct passing *passing);
void passing_leave(struct passing *passing);
/* Without a word to the client, whose exchange is gone. */
void passing_drop(struct passing *passing);

/* connect_prove.c */
void prove_begin(struct passing *passing);  /* its receipt has come */
void prove_cancel(struct passing *passing); /* it goes */
/* Calls passing_send for it, now or later, or passing_fail. */
void prove_find_log(struct passing *passing);
int prove_open(struct connect *connect); /* 0: memory is short */
void prove_close(struct connect *connect);

#endif
