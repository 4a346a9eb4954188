/* For tests in Python: a server of serve/http.h on a port of loopback that the system picks.
 *
 *   tool_http [NAME=VALUE...]   limits by their names in struct http_limits; tls=FOLDER
 *
 * Prints "port N", then a line whenever http_on_close tells of a client: "closed PATH". Ends with standard input.
 *
 *   /echo             the request as JSON
 *   /slow?ms=N        "slow", after a while
 *   /stream?n=N       N server-sent events, some in each turn of the event loop and no faster than they are sent;
 *                     without n for ever, as fast as it goes
 *   /hang             never answers
 *   /drain            drains the server, "drains"
 *   /connections      their number */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/json.h"
#include "serve/http.h"
#include "serve/tls.h"

enum { EVENTS_A_TURN = 64, MOST_WAITING = 256 << 10 };

struct tool {
    struct event_base *base;
    struct http_server *server;
};

/* An answer under way. */
struct answer {
    struct http_exchange *exchange;
    struct event *timer;
    unsigned long left; /* events of a stream */
    int is_stream, is_endless;
    char path[64];
};

static void answer_free(struct answer *answer)
{
    event_free(answer->timer);
    free(answer);
}

static void closed(void *context)
{
    struct answer *answer = context;
    printf("closed %s\n", answer->path);
    fflush(stdout);
    answer_free(answer);
}

static void step(evutil_socket_t descriptor, short what, void *context)
{
    struct answer *answer = context;
    struct timeval soon = {0};
    if (!answer->is_stream) {
        http_reply(answer->exchange, 200, "text/plain", "slow", 4);
        answer_free(answer);
        return;
    }
    int is_full = !answer->is_endless && http_reply_unsent(answer->exchange) > MOST_WAITING;
    for (int i = 0; !is_full && i < EVENTS_A_TURN && answer->left > 0; i++, answer->left--) {
        char text[64];
        int length = snprintf(text, sizeof text, "data: {\"left\":%lu}\n\n", answer->left);
        http_reply_write(answer->exchange, text, (size_t)length);
    }
    if (answer->left == 0) {
        http_reply_write(answer->exchange, "data: [DONE]\n\n", 14);
        http_reply_end(answer->exchange);
        answer_free(answer);
    } else {
        soon.tv_usec = is_full ? 1000 : 0;
        event_add(answer->timer, &soon);
    }
}

static struct answer *begin(struct tool *tool, struct http_exchange *exchange)
{
    struct answer *answer = calloc(1, sizeof *answer);
    if (!answer)
        exit(1);
    answer->exchange = exchange;
    answer->timer = evtimer_new(tool->base, step, answer);
    snprintf(answer->path, sizeof answer->path, "%s", http_path(exchange));
    http_on_close(exchange, closed, answer);
    return answer;
}

static unsigned long query_number(const struct http_exchange *exchange, const char *name, unsigned long otherwise)
{
    const char *found = strstr(http_query(exchange), name);
    return found ? strtoul(found + strlen(name), NULL, 10) : otherwise;
}

static void write_member(struct buffer *out, const char *name, const char *value)
{
    json_write_string(out, name, strlen(name));
    buffer_append_byte(out, ':');
    if (value)
        json_write_string(out, value, strlen(value));
    else
        buffer_append_text(out, "null");
    buffer_append_byte(out, ',');
}

static void echo(struct http_exchange *exchange)
{
    static const char *const headers[] = {"host", "content-length", "transfer-encoding", "x", "connection"};
    struct buffer out = {0};
    size_t length;
    const char *body = http_body(exchange, &length);
    buffer_append_byte(&out, '{');
    write_member(&out, "method", http_method(exchange));
    write_member(&out, "path", http_path(exchange));
    write_member(&out, "query", http_query(exchange));
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++)
        write_member(&out, headers[i], http_header(exchange, headers[i]));
    buffer_append_text(&out, "\"body\":");
    json_write_string(&out, body, length);
    buffer_append_byte(&out, '}');
    http_reply(exchange, 200, "application/json", out.data, out.length);
    buffer_free(&out);
}

static void handle(void *context, struct http_exchange *exchange)
{
    struct tool *tool = context;
    const char *path = http_path(exchange);
    if (strcmp(path, "/slow") == 0) {
        unsigned long wait = query_number(exchange, "ms=", 100);
        const struct timeval after = {(time_t)(wait / 1000), (suseconds_t)(wait % 1000) * 1000};
        event_add(begin(tool, exchange)->timer, &after);
    } else if (strcmp(path, "/stream") == 0) {
        struct answer *answer = begin(tool, exchange);
        answer->left = query_number(exchange, "n=", (unsigned long)-1);
        answer->is_stream = 1;
        answer->is_endless = answer->left == (unsigned long)-1;
        http_reply_begin(exchange, 200, "text/event-stream");
        step(-1, 0, answer);
    } else if (strcmp(path, "/hang") == 0) {
        begin(tool, exchange);
    } else if (strcmp(path, "/drain") == 0) {
        http_server_drain(tool->server);
        http_reply(exchange, 200, "text/plain", "drains", 6);
    } else if (strcmp(path, "/connections") == 0) {
        char text[16];
        int length = snprintf(text, sizeof text, "%u", http_server_connections(tool->server));
        http_reply(exchange, 200, "text/plain", text, (size_t)length);
    } else {
        echo(exchange);
    }
}

static int take_option(const char *option, struct http_limits *limits, struct http_tls **tls, bulla_error *error)
{
    const char *value = strchr(option, '=');
    if (!value)
        return bulla_fail(error, BULLA_E_USAGE, "%s: expected NAME=VALUE", option);
    unsigned long number = strtoul(value + 1, NULL, 10);
    if (strncmp(option, "tls=", 4) == 0)
        return tls_open_folder(value + 1, &(struct tls_names){0}, tls, error);
#define LIMIT(field) if (strncmp(option, #field "=", sizeof #field) == 0) { \
        limits->field = (__typeof__(limits->field))number; return BULLA_OK; }
    LIMIT(most_header_bytes)
    LIMIT(most_header_lines)
    LIMIT(most_body_bytes)
    LIMIT(most_held_bytes)
    LIMIT(most_unsent)
    LIMIT(most_connections)
    LIMIT(header_seconds)
    LIMIT(body_seconds)
    LIMIT(idle_seconds)
    LIMIT(write_seconds)
    return bulla_fail(error, BULLA_E_USAGE, "%s: no such option", option);
}

static void end(evutil_socket_t descriptor, short what, void *context)
{
    char byte;
    if (read(descriptor, &byte, 1) <= 0)
        event_base_loopbreak(context);
}

int main(int argc, char **argv)
{
    struct tool tool = {.base = event_base_new()};
    struct http_limits limits = {0};
    struct http_tls *tls = NULL;
    bulla_error error = {0};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    signal(SIGPIPE, SIG_IGN);
    for (int i = 1; i < argc; i++)
        take_option(argv[i], &limits, &tls, &error);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener, 4096) != 0 || getsockname(listener, (struct sockaddr *)&address, &length) != 0)
        bulla_fail(&error, BULLA_E_IO, "no socket to listen on");
    const struct http_handler handler = {.context = &tool, .request = handle};
    if (error.code != BULLA_OK ||
        http_server_open(tool.base, listener, tls, &limits, &handler, &tool.server, &error) != BULLA_OK) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    printf("port %u\n", ntohs(address.sin_port));
    fflush(stdout);
    struct event *input = event_new(tool.base, STDIN_FILENO, EV_READ | EV_PERSIST, end, tool.base);
    event_add(input, NULL);
    event_base_dispatch(tool.base);
    http_server_close(tool.server);
    event_base_loop(tool.base, EVLOOP_NONBLOCK);
    event_free(input);
    event_base_free(tool.base);
    tls_close(tls);
    return 0;
}
