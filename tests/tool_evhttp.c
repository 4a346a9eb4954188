/* For tests/python/test_http.py: what libevent's own HTTP server makes of a request, in the form of tool_http's /echo.
 * The measure by which it is not used for serving (docs/http.md). Prints "port N"; ends with standard input. */
#define _GNU_SOURCE
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/json.h"

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

static const char *method_name(enum evhttp_cmd_type type)
{
    static const struct {
        enum evhttp_cmd_type type;
        const char *name;
    } names[] = {{EVHTTP_REQ_GET, "GET"}, {EVHTTP_REQ_POST, "POST"}, {EVHTTP_REQ_HEAD, "HEAD"}, {EVHTTP_REQ_PUT, "PUT"},
                 {EVHTTP_REQ_DELETE, "DELETE"}, {EVHTTP_REQ_OPTIONS, "OPTIONS"}, {EVHTTP_REQ_TRACE, "TRACE"},
                 {EVHTTP_REQ_CONNECT, "CONNECT"}, {EVHTTP_REQ_PATCH, "PATCH"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (names[i].type == type)
            return names[i].name;
    return "?";
}

static void echo(struct evhttp_request *request, void *context)
{
    static const char *const headers[] = {"host", "content-length", "transfer-encoding", "x", "connection"};
    struct buffer out = {0};
    struct evbuffer *input = evhttp_request_get_input_buffer(request), *reply = evbuffer_new();
    size_t length = evbuffer_get_length(input);
    const char *body = length ? (const char *)evbuffer_pullup(input, -1) : "";
    const char *uri = evhttp_request_get_uri(request), *query = strchr(uri, '?');
    size_t path_length = query ? (size_t)(query - uri) : strlen(uri);
    size_t decoded_length;
    char *path = strndup(uri, path_length), *decoded = evhttp_uridecode(path, 0, &decoded_length);
    buffer_append_byte(&out, '{');
    write_member(&out, "method", method_name(evhttp_request_get_command(request)));
    buffer_append_text(&out, "\"path\":");
    json_write_string(&out, decoded, decoded_length);
    buffer_append_byte(&out, ',');
    write_member(&out, "query", query ? query + 1 : "");
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++)
        write_member(&out, headers[i], evhttp_find_header(evhttp_request_get_input_headers(request), headers[i]));
    buffer_append_text(&out, "\"body\":");
    json_write_string(&out, body, length);
    buffer_append_byte(&out, '}');
    evbuffer_add(reply, out.data, out.length);
    evhttp_send_reply(request, 200, "OK", reply);
    evbuffer_free(reply);
    buffer_free(&out);
    free(decoded);
    free(path);
}

static void end(evutil_socket_t descriptor, short what, void *context)
{
    char byte;
    if (read(descriptor, &byte, 1) <= 0)
        event_base_loopbreak(context);
}

int main(void)
{
    struct event_base *base = event_base_new();
    struct evhttp *server = evhttp_new(base);
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    signal(SIGPIPE, SIG_IGN);
    evhttp_set_allowed_methods(server, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD | EVHTTP_REQ_PUT |
                                           EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS | EVHTTP_REQ_TRACE |
                                           EVHTTP_REQ_CONNECT | EVHTTP_REQ_PATCH);
    evhttp_set_max_headers_size(server, 32 << 10);
    evhttp_set_max_body_size(server, 16 << 20);
    evhttp_set_gencb(server, echo, NULL);
    struct evhttp_bound_socket *bound = evhttp_bind_socket_with_handle(server, "127.0.0.1", 0);
    if (!bound || getsockname(evhttp_bound_socket_get_fd(bound), (struct sockaddr *)&address, &length) != 0) {
        fprintf(stderr, "no socket to listen on\n");
        return 1;
    }
    printf("port %u\n", ntohs(address.sin_port));
    fflush(stdout);
    struct event *input = event_new(base, STDIN_FILENO, EV_READ | EV_PERSIST, end, base);
    event_add(input, NULL);
    event_base_dispatch(base);
    event_free(input);
    evhttp_free(server);
    event_base_free(base);
    return 0;
}
