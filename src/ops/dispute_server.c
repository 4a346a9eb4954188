#include "ops/dispute_server.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "serve/http.h"

enum { TICK_MICROSECONDS = 200000, MOST_CONNECTIONS = 1000, MOST_FROM = 1 << 30 };

struct server {
    struct event_base *base;
    struct dispute_docket *docket;
    bulla_error *trouble;
};

static void reply(struct http_exchange *exchange, int status, struct buffer *body)
{
    if (body->error.code != BULLA_OK)
        http_reply(exchange, 500, NULL, NULL, 0);
    else
        http_reply_buffer(exchange, status, "application/json", body);
    buffer_free(body);
}

static void reply_error(struct http_exchange *exchange, int status, const char *why)
{
    struct buffer body = {0};
    buffer_append_byte(&body, '{');
    dispute_put_text(&body, "error", why);
    buffer_append_byte(&body, '}');
    reply(exchange, status, &body);
}

/* The store is not what the state is any more: nothing more may be said. */
static void stop(struct server *server, struct http_exchange *exchange, const bulla_error *error)
{
    bulla_fail(server->trouble, error->code, "%s", error->text);
    event_base_loopbreak(server->base);
    if (exchange)
        reply_error(exchange, 500, "the referee's store failed");
}

static void take_message(struct server *server, struct http_exchange *exchange)
{
    bulla_error why = {0}, error = {0};
    struct buffer body = {0};
    size_t length;
    int is_taken;
    const char *bytes = http_body(exchange, &length);
    if (dispute_docket_take(server->docket, bytes, length, &is_taken, &why, &error) != BULLA_OK) {
        stop(server, exchange, &error);
    } else if (!is_taken) {
        reply_error(exchange, why.code == BULLA_E_MEMORY ? 503 : 409, why.text);
    } else {
        buffer_append_text(&body, "{\"taken\":true}");
        reply(exchange, 200, &body);
    }
}

/* "from=N"; 0 where there is none. */
static uint64_t read_from(const struct http_exchange *exchange)
{
    const char *query = http_query(exchange);
    uint64_t from = strncmp(query, "from=", 5) == 0 ? strtoull(query + 5, NULL, 10) : 0;
    return from < MOST_FROM ? from : MOST_FROM;
}

static void get(struct server *server, struct http_exchange *exchange, const char *path)
{
    static const char disputes[] = "/v1/disputes/", answers[] = "/v1/answers/";
    struct buffer body = {0};
    uint8_t id[DISPUTE_HASH];
    bulla_error error = {0};
    int code = dispute_docket_tick(server->docket, &error);
    if (code != BULLA_OK) {
        stop(server, exchange, &error);
        return;
    }
    if (strcmp(path, "/v1/answers") == 0) {
        referee_write_ids(dispute_docket_referee(server->docket), read_from(exchange), &body);
    } else if (strncmp(path, disputes, sizeof disputes - 1) == 0 &&
               hex_decode(path + sizeof disputes - 1, strlen(path) - sizeof disputes + 1, id, sizeof id)) {
        code = dispute_docket_messages(server->docket, id, read_from(exchange), &body, &error);
    } else if (strncmp(path, answers, sizeof answers - 1) == 0 &&
               hex_decode(path + sizeof answers - 1, strlen(path) - sizeof answers + 1, id, sizeof id)) {
        code = dispute_docket_statement(server->docket, id, &body, &error);
    } else {
        code = bulla_fail(&error, BULLA_E_INPUT, "there is nothing here");
    }
    if (code == BULLA_OK)
        reply(exchange, 200, &body);
    else
        reply_error(exchange, code == BULLA_E_INPUT ? 404 : 500, error.text);
    buffer_free(&body);
}

static void on_request(void *context, struct http_exchange *exchange)
{
    struct server *server = context;
    const char *method = http_method(exchange), *path = http_path(exchange);
    if (strcmp(method, "POST") == 0 && strcmp(path, "/v1/disputes") == 0)
        take_message(server, exchange);
    else if (strcmp(method, "GET") == 0)
        get(server, exchange, path);
    else
        reply_error(exchange, 405, "a referee takes POST /v1/disputes and GET");
}

static void on_tick(evutil_socket_t unused, short what, void *context)
{
    struct server *server = context;
    bulla_error error = {0};
    (void)unused;
    (void)what;
    if (dispute_docket_tick(server->docket, &error) != BULLA_OK)
        stop(server, NULL, &error);
}

int dispute_server_run(struct event_base *base, int listener, const struct http_tls *tls, struct dispute_docket *docket,
                       bulla_error *trouble, bulla_error *error)
{
    struct server server = {base, docket, trouble};
    const struct http_limits limits = {.most_body_bytes = DISPUTE_MOST_DOCUMENT, .most_held_bytes = 16 * DISPUTE_MOST_DOCUMENT,
                                       .most_connections = MOST_CONNECTIONS};
    const struct http_handler handler = {.context = &server, .request = on_request};
    struct http_server *http = NULL;
    struct event *tick = event_new(base, -1, EV_PERSIST, on_tick, &server);
    int code = tick ? BULLA_OK : bulla_fail(error, BULLA_E_MEMORY, "memory is short for the referee's clock");
    if (code == BULLA_OK)
        code = http_server_open(base, listener, tls, &limits, &handler, &http, error);
    if (code == BULLA_OK) {
        event_add(tick, &(struct timeval){.tv_usec = TICK_MICROSECONDS});
        event_base_dispatch(base);
    }
    http_server_close(http);
    if (tick)
        event_free(tick);
    return code;
}
