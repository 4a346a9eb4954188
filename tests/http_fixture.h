/* A server in this process and clients of it, for the tests of HTTP and TLS: one thread, which runs the server's event
 * loop whenever a client waits. */
#ifndef TESTS_HTTP_FIXTURE_H
#define TESTS_HTTP_FIXTURE_H

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buffer.h"
#include "serve/http.h"

#define HOST "Host: a\r\n"
#define GET(path) "GET " path " HTTP/1.1\r\n" HOST "\r\n"

enum { MOST_HELD = 8 };

/* What the handler was asked for. By path: /echo is answered at once with its body, /hold waits in `held` for the
 * test to answer, others are 404. */
struct fixture {
    struct event_base *base;
    struct http_server *server;
    struct http_exchange *held[MOST_HELD];
    size_t held_count, heads, requests, closed;
    void (*on_request)(struct fixture *fixture, struct http_exchange *exchange); /* instead of all that */
    void (*on_head)(struct fixture *fixture, struct http_exchange *exchange);    /* NULL: none is answered early */
    uint16_t port;
};

static inline void fixture_closed(void *context)
{
    struct fixture *fixture = context;
    fixture->closed++;
}

static inline void fixture_request(void *context, struct http_exchange *exchange)
{
    struct fixture *fixture = context;
    size_t length;
    const char *body = http_body(exchange, &length);
    fixture->requests++;
    if (fixture->on_request) {
        fixture->on_request(fixture, exchange);
    } else if (strcmp(http_path(exchange), "/echo") == 0) {
        http_reply(exchange, 200, "text/plain", body, length);
    } else if (strcmp(http_path(exchange), "/hold") == 0) {
        assert_true(fixture->held_count < MOST_HELD);
        http_on_close(exchange, fixture_closed, fixture);
        fixture->held[fixture->held_count++] = exchange;
    } else {
        http_reply(exchange, 404, NULL, NULL, 0);
    }
}

static inline void fixture_head(void *context, struct http_exchange *exchange)
{
    struct fixture *fixture = context;
    fixture->heads++;
    if (fixture->on_head)
        fixture->on_head(fixture, exchange);
}

static inline int fixture_listen(uint16_t *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(listener >= 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listener, 128), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    *port = ntohs(address.sin_port);
    return listener;
}

/* `refuse` NULL: requests that are not taken are answered without the handler. */
static inline void fixture_open_with(struct fixture *fixture, const struct http_limits *limits, const struct http_tls *tls,
                                     void (*refuse)(void *context, struct http_exchange *exchange, int status,
                                                    const char *message))
{
    bulla_error error = {0};
    memset(fixture, 0, sizeof *fixture);
    signal(SIGPIPE, SIG_IGN);
    fixture->base = event_base_new();
    assert_non_null(fixture->base);
    const struct http_handler handler = {fixture, fixture_request, fixture_head, refuse};
    int listener = fixture_listen(&fixture->port);
    assert_ok(http_server_open(fixture->base, listener, tls, limits, &handler, &fixture->server, &error), error);
}

static inline void fixture_open(struct fixture *fixture, const struct http_limits *limits, const struct http_tls *tls)
{
    fixture_open_with(fixture, limits, tls, NULL);
}

static inline void fixture_turn(struct fixture *fixture)
{
    event_base_loop(fixture->base, EVLOOP_NONBLOCK);
}

static inline void fixture_close(struct fixture *fixture)
{
    http_server_close(fixture->server);
    fixture_turn(fixture);
    event_base_free(fixture->base);
}

/* Turns until `condition` holds, for ten seconds at most. */
#define turn_until(fixture, condition)                                \
    do {                                                              \
        for (int turns_ = 0; !(condition) && turns_ < 10000; turns_++) { \
            fixture_turn(fixture);                                    \
            if (!(condition))                                         \
                usleep(1000);                                         \
        }                                                             \
        assert_true(condition);                                       \
    } while (0)

static inline int client_open(const struct fixture *fixture)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons(fixture->port)};
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(client >= 0);
    assert_int_equal(connect(client, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(fcntl(client, F_SETFL, O_NONBLOCK), 0);
    return client;
}

static inline void client_send(int client, const char *text)
{
    assert_int_equal(send(client, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* Reads what is there. 1: more may come; 0: the server has closed; -1: reset. */
static inline int client_read(int client, struct buffer *got)
{
    char bytes[65536];
    ssize_t length = recv(client, bytes, sizeof bytes, 0);
    if (length > 0)
        buffer_append(got, bytes, (size_t)length);
    return length > 0 || (length < 0 && errno == EAGAIN) ? 1 : length == 0 ? 0 : -1;
}

/* Turns until what the client has got ends with `end`. */
static inline void client_expect(struct fixture *fixture, int client, struct buffer *got, const char *end)
{
    size_t length = strlen(end);
    for (int turns = 0; turns < 10000; turns++) {
        fixture_turn(fixture);
        int state = client_read(client, got);
        if (got->length >= length && memcmp(got->data + got->length - length, end, length) == 0)
            return;
        if (state != 1)
            break;
        usleep(1000);
    }
    fail_msg("expected an end of \"%s\", got \"%s\"", end, got->data ? (char *)got->data : "");
}

/* Turns until the server has closed: 0, or reset: -1. */
static inline int client_expect_end(struct fixture *fixture, int client, struct buffer *got)
{
    for (int turns = 0; turns < 10000; turns++) {
        fixture_turn(fixture);
        int state = client_read(client, got);
        if (state != 1)
            return state;
        usleep(1000);
    }
    fail_msg("the server did not close; got \"%s\"", got->data ? (char *)got->data : "");
    return 1;
}

/* What came without its first Date, which changes. */
static inline const char *without_date(struct buffer *got)
{
    char *date = got->data ? strstr((char *)got->data, "Date: ") : NULL;
    if (date) {
        char *end = strchr(date, '\n') + 1;
        memmove(date, end, strlen(end) + 1);
        got->length = strlen((char *)got->data);
    }
    return got->data ? (char *)got->data : "";
}

#endif
