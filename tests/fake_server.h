/* An HTTP server in the test's own process and event loop, on loopback: it says what a test scripts, byte for byte. */
#ifndef TESTS_FAKE_SERVER_H
#define TESTS_FAKE_SERVER_H

#include "test.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <openssl/ssl.h>

#include "base/buffer.h"
#include "base/clock.h"

enum { PATIENCE_SECONDS = 20, MOST_CONNECTIONS = 64 };

/* What the server answers to everything but GET /v1/models: the first `cut` bytes, then, once those are sent, the rest.
 */
struct script {
    const char *bytes;
    size_t length, cut;
    int closes;       /* after the last byte */
    int resets;       /* closes so that the client sees an error */
    const char *models; /* body of /v1/models; NULL: 404 */
};

struct connection {
    struct server *server;
    struct bufferevent *event;
    int is_answered;
};

struct server {
    struct event_base *base;
    struct evconnlistener *listener;
    struct event *patience;
    SSL_CTX *tls;
    unsigned port;
    struct script script;
    struct buffer request; /* the last whole one that was no probe */
    struct connection connections[MOST_CONNECTIONS];
    unsigned accepted, hung_up, answered; /* hung_up: by the client */
};

static inline void close_connection(struct connection *connection)
{
    if (connection->event)
        bufferevent_free(connection->event);
    connection->event = NULL;
}

static inline void send_rest(struct connection *connection)
{
    struct script *script = &connection->server->script;
    bufferevent_write(connection->event, script->bytes + script->cut, script->length - script->cut);
    connection->is_answered = 2;
}

static inline void on_sent(struct bufferevent *event, void *context)
{
    struct connection *connection = context;
    if (connection->is_answered == 1)
        send_rest(connection);
    else if (connection->is_answered == 2 && connection->server->script.resets) {
        struct linger none = {.l_onoff = 1};
        setsockopt(bufferevent_getfd(event), SOL_SOCKET, SO_LINGER, &none, sizeof none);
        close_connection(connection);
    } else if (connection->is_answered == 2 && connection->server->script.closes) {
        close_connection(connection);
    }
}

static inline void answer(struct connection *connection, const char *request, size_t length)
{
    struct server *server = connection->server;
    if (memcmp(request, "GET ", 4) == 0) {
        const char *models = server->script.models;
        evbuffer_add_printf(bufferevent_get_output(connection->event), "HTTP/1.1 %s\r\nContent-Length: %zu\r\n\r\n%s",
                            models ? "200 OK" : "404 Not Found", models ? strlen(models) : 0, models ? models : "");
        connection->is_answered = 3;
        return;
    }
    buffer_clear(&server->request);
    buffer_append(&server->request, request, length);
    server->answered++;
    if (!server->script.bytes)
        return;
    connection->is_answered = 1;
    if (server->script.cut > 0)
        bufferevent_write(connection->event, server->script.bytes, server->script.cut);
    else
        send_rest(connection);
}

static inline void on_request(struct bufferevent *event, void *context)
{
    struct connection *connection = context;
    struct evbuffer *input = bufferevent_get_input(event);
    size_t length = evbuffer_get_length(input);
    if (connection->is_answered)
        return;
    char *text = malloc(length + 1);
    evbuffer_copyout(input, text, length);
    text[length] = 0;
    char *end = strstr(text, "\r\n\r\n"), *size = strstr(text, "Content-Length: ");
    if (end && length >= (size_t)(end + 4 - text) + (size && size < end ? (size_t)atol(size + 16) : 0))
        answer(connection, text, length);
    free(text);
}

static inline void on_gone(struct bufferevent *event, short what, void *context)
{
    struct connection *connection = context;
    if (what & BEV_EVENT_CONNECTED)
        return;
    connection->server->hung_up++;
    close_connection(connection);
}

static inline void on_accept(struct evconnlistener *listener, evutil_socket_t descriptor, struct sockaddr *address,
                             int length, void *context)
{
    struct server *server = context;
    assert_true(server->accepted < MOST_CONNECTIONS);
    struct connection *connection = &server->connections[server->accepted++];
    memset(connection, 0, sizeof *connection);
    connection->server = server;
    connection->event = server->tls ? bufferevent_openssl_socket_new(server->base, descriptor, SSL_new(server->tls),
                                                                     BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE)
                                    : bufferevent_socket_new(server->base, descriptor, BEV_OPT_CLOSE_ON_FREE);
    bufferevent_setcb(connection->event, on_request, on_sent, on_gone, connection);
    bufferevent_enable(connection->event, EV_READ | EV_WRITE);
}

static inline void server_open(struct server *server)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    memset(server, 0, sizeof *server);
    server->base = event_base_new();
    server->listener = evconnlistener_new_bind(server->base, on_accept, server, LEV_OPT_CLOSE_ON_FREE, 16,
                                               (struct sockaddr *)&address, sizeof address);
    assert_non_null(server->listener);
    getsockname(evconnlistener_get_fd(server->listener), (struct sockaddr *)&address, &length);
    server->port = ntohs(address.sin_port);
}

static inline void forget_connections(struct server *server)
{
    for (unsigned i = 0; i < server->accepted; i++)
        close_connection(&server->connections[i]);
    server->accepted = server->hung_up = server->answered = 0;
}

static inline void server_close(struct server *server)
{
    forget_connections(server);
    if (server->listener)
        evconnlistener_free(server->listener);
    SSL_CTX_free(server->tls);
    buffer_free(&server->request);
    event_base_free(server->base);
}

/* Runs the loop until the counter has this value; fails after a while. */
static inline void run_until(struct server *server, const unsigned *counter, unsigned value)
{
    uint64_t end = clock_nanoseconds() + PATIENCE_SECONDS * 1000000000ull;
    while (*counter < value) {
        event_base_loop(server->base, EVLOOP_ONCE);
        if (clock_nanoseconds() > end)
            fail_msg("nothing happened for %d s", PATIENCE_SECONDS);
    }
}

/* Everything that is pending now, without waiting for more. */
static inline void run_pending(struct server *server)
{
    for (int i = 0; i < 20; i++)
        event_base_loop(server->base, EVLOOP_NONBLOCK);
}

#endif
