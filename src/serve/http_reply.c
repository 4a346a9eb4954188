/* What the handler reads of a request and writes of an answer. */
#define _GNU_SOURCE
#include "serve/http_internal.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/memory.h"

const char *http_method(const struct http_exchange *exchange)
{
    return exchange->parser.path > 0 ? http_parser_method(&exchange->parser) : ""; /* its line may not be whole */
}

const char *http_path(const struct http_exchange *exchange)
{
    return http_parser_path(&exchange->parser);
}

const char *http_query(const struct http_exchange *exchange)
{
    return http_parser_query(&exchange->parser);
}

const char *http_header(const struct http_exchange *exchange, const char *name)
{
    return http_parser_header(&exchange->parser, name);
}

const char *http_body(const struct http_exchange *exchange, size_t *length)
{
    *length = exchange->parser.body.length;
    return exchange->parser.body.data ? (const char *)exchange->parser.body.data : "";
}

void http_drop_body(struct http_exchange *exchange)
{
    buffer_free(&exchange->parser.body);
    connection_hold(exchange->connection, 0);
}

const char *http_peer(const struct http_exchange *exchange)
{
    return exchange->connection->peer;
}

uint64_t http_received(const struct http_exchange *exchange)
{
    return exchange->received;
}

void http_on_close(struct http_exchange *exchange, void (*closed)(void *context), void *context)
{
    exchange->closed = closed;
    exchange->closed_context = context;
}

void http_on_drain(struct http_exchange *exchange, void (*drained)(void *context), void *context)
{
    exchange->drained = drained;
    exchange->drained_context = context;
}

size_t http_reply_unsent(const struct http_exchange *exchange)
{
    return connection_unsent(exchange->connection);
}

int http_reply_has_begun(const struct http_exchange *exchange)
{
    return exchange->has_begun;
}

void exchange_free(struct http_exchange *exchange)
{
    http_parser_free(&exchange->parser);
    buffer_free(&exchange->headers);
    memory_free(exchange);
}

/* A field value that cannot begin another line (RFC 9110 section 5.5). */
static int is_value(const char *value)
{
    for (; *value; value++)
        if (((unsigned char)*value < 0x20 && *value != '\t') || (unsigned char)*value == 0x7F)
            return 0;
    return 1;
}

static int is_name(const char *name)
{
    const char *c = name;
    while (http_is_token_byte((uint8_t)*c))
        c++;
    return c > name && *c == 0;
}

int http_reply_header(struct http_exchange *exchange, const char *name, const char *value, bulla_error *error)
{
    static const char *const own[] = {"content-length", "transfer-encoding", "connection", "date"};
    if (!is_name(name))
        return bulla_fail(error, BULLA_E_USAGE, "an answer's header cannot have the name \"%s\"", name);
    if (!is_value(value))
        return bulla_fail(error, BULLA_E_USAGE, "the answer's header %s cannot have a value with control characters",
                          name);
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        if (strcasecmp(name, own[i]) == 0)
            return bulla_fail(error, BULLA_E_USAGE, "the answer's header %s is set by the server itself", name);
    buffer_append_format(&exchange->headers, "%s: %s\r\n", name, value);
    if (exchange->headers.error.code != BULLA_OK)
        return bulla_fail(error, exchange->headers.error.code, "%s", exchange->headers.error.text);
    return BULLA_OK;
}

static const char *phrase(int status)
{
    static const struct {
        int status;
        const char *phrase;
    } phrases[] = {{200, "OK"}, {201, "Created"}, {202, "Accepted"}, {204, "No Content"}, {301, "Moved Permanently"},
                   {302, "Found"}, {303, "See Other"}, {304, "Not Modified"}, {307, "Temporary Redirect"},
                   {308, "Permanent Redirect"}, {400, "Bad Request"}, {401, "Unauthorized"}, {403, "Forbidden"},
                   {404, "Not Found"}, {405, "Method Not Allowed"}, {406, "Not Acceptable"}, {408, "Request Timeout"},
                   {409, "Conflict"}, {411, "Length Required"}, {413, "Content Too Large"}, {414, "URI Too Long"},
                   {415, "Unsupported Media Type"}, {417, "Expectation Failed"}, {422, "Unprocessable Content"},
                   {429, "Too Many Requests"}, {431, "Request Header Fields Too Large"}, {500, "Internal Server Error"},
                   {501, "Not Implemented"}, {502, "Bad Gateway"}, {503, "Service Unavailable"},
                   {504, "Gateway Timeout"}, {505, "HTTP Version Not Supported"}};
    for (size_t i = 0; i < sizeof phrases / sizeof phrases[0]; i++)
        if (phrases[i].status == status)
            return phrases[i].phrase;
    return "";
}

/* Status line and headers. `length` SIZE_MAX: the body's is not known. A status outside of 200 to 599 is a bug of the
 * handler's and becomes 500. */
static void write_head(struct http_exchange *exchange, int status, const char *content_type, size_t length)
{
    struct connection *connection = exchange->connection;
    struct http_server *server = connection->server;
    struct buffer *head = &server->head;
    status = status < 200 || status > 599 ? 500 : status;
    exchange->has_begun = 1;
    exchange->has_no_body = status == 204 || status == 304 || strcmp(http_method(exchange), "HEAD") == 0;
    connection->is_closing |= server->is_draining || exchange->parser.minor_version == 0;
    exchange->is_chunked = length == SIZE_MAX && exchange->parser.minor_version > 0 && status != 204 && status != 304;
    buffer_clear(head);
    bulla_error_clear(&head->error);
    buffer_append_format(head, "HTTP/1.1 %d %s\r\nDate: %s\r\n", status, phrase(status), server_date(server));
    if (content_type && is_value(content_type))
        buffer_append_format(head, "Content-Type: %s\r\n", content_type);
    if (exchange->is_chunked)
        buffer_append_text(head, "Transfer-Encoding: chunked\r\n");
    else if (length != SIZE_MAX && status != 204 && status != 304)
        buffer_append_format(head, "Content-Length: %zu\r\n", length);
    if (connection->is_closing)
        buffer_append_text(head, "Connection: close\r\n");
    buffer_append(head, exchange->headers.data, exchange->headers.length);
    buffer_append_text(head, "\r\n");
    if (head->error.code != BULLA_OK)
        connection_cut(connection);
    else
        connection_write(connection, head->data, head->length);
}

/* The head of a whole answer; whether the rest may follow. */
static int begin_whole(struct http_exchange *exchange, int status, const char *content_type, size_t length)
{
    if (exchange->is_ending)
        return 0;
    if (exchange->has_begun) { /* two answers: what was begun cannot become whole */
        http_reply_abort(exchange);
        return 0;
    }
    write_head(exchange, status, content_type, length);
    return 1;
}

void http_reply(struct http_exchange *exchange, int status, const char *content_type, const void *body, size_t length)
{
    if (!begin_whole(exchange, status, content_type, length))
        return;
    if (!exchange->has_no_body)
        connection_write(exchange->connection, body, length);
    connection_finish_exchange(exchange->connection);
}

void http_reply_buffer(struct http_exchange *exchange, int status, const char *content_type, struct buffer *body)
{
    struct connection *connection = exchange->connection;
    size_t length = body->length;
    if (length <= HTTP_MOST_COPIED) {
        http_reply(exchange, status, content_type, body->data, length);
    } else if (begin_whole(exchange, status, content_type, length)) {
        int is_taken = !exchange->has_no_body && connection_give(connection, body);
        connection_finish_exchange(connection);
        connection_hold(connection, is_taken ? length : 0);
    }
    buffer_free(body);
}

void http_reply_parts(struct http_exchange *exchange, int status, const char *content_type, const struct http_part *parts,
                      size_t count)
{
    struct connection *connection = exchange->connection;
    size_t length = 0;
    for (size_t i = 0; i < count; i++)
        length += parts[i].length;
    int is_begun = begin_whole(exchange, status, content_type, length);
    for (size_t i = 0; i < count; i++)
        if (is_begun && !exchange->has_no_body)
            connection_write_part(connection, &parts[i]);
        else if (parts[i].release)
            parts[i].release(parts[i].bytes, parts[i].length, parts[i].context);
    if (is_begun)
        connection_finish_exchange(connection);
}

void http_reply_begin(struct http_exchange *exchange, int status, const char *content_type)
{
    if (!exchange->is_ending && !exchange->has_begun)
        write_head(exchange, status, content_type, SIZE_MAX);
}

/* One chunk a write: its frame costs some seven bytes, and no other copy. */
static int write_chunk(struct connection *connection, const void *bytes, size_t length)
{
    struct evbuffer *output = bufferevent_get_output(connection->stream);
    struct evbuffer_iovec space;
    char size[24];
    int digits = snprintf(size, sizeof size, "%zx\r\n", length);
    size_t all = (size_t)digits + length + 2;
    if (evbuffer_reserve_space(output, (ev_ssize_t)all, &space, 1) != 1)
        return 0;
    char *to = space.iov_base;
    memcpy(to, size, (size_t)digits);
    memcpy(to + digits, bytes, length);
    memcpy(to + digits + length, "\r\n", 2);
    space.iov_len = all;
    if (evbuffer_commit_space(output, &space, 1) != 0)
        return 0;
    connection->queued += all;
    connection_watch(connection);
    return 1;
}

void http_reply_write(struct http_exchange *exchange, const void *bytes, size_t length)
{
    struct connection *connection = exchange->connection;
    if (connection->is_cut || exchange->is_ending || !exchange->has_begun || exchange->has_no_body || length == 0)
        return;
    if (!exchange->is_chunked) {
        connection_write(connection, bytes, length);
    } else if (length > SIZE_MAX / 4 || !write_chunk(connection, bytes, length)) {
        connection_cut(connection);
        return;
    }
    if (!connection->is_cut && connection_unsent(connection) > connection->server->limits.most_unsent) {
        connection->is_reset = 1;
        connection_cut(connection);
    }
}

void http_reply_end(struct http_exchange *exchange)
{
    if (exchange->is_ending)
        return;
    if (!exchange->has_begun) {
        http_reply_abort(exchange);
        return;
    }
    if (exchange->is_chunked && !exchange->has_no_body)
        connection_write(exchange->connection, "0\r\n\r\n", 5);
    connection_finish_exchange(exchange->connection);
}

void http_reply_abort(struct http_exchange *exchange)
{
    if (exchange->is_ending)
        return;
    exchange->connection->is_reset = 1;
    connection_cut(exchange->connection);
    connection_finish_exchange(exchange->connection);
}

static void refuse_plainly(struct http_exchange *exchange, int status, const char *message)
{
    struct buffer body = {0};
    buffer_append_text(&body, "{\"error\":{\"message\":");
    json_write_string(&body, message, strlen(message));
    buffer_append_format(&body, ",\"type\":\"%s\",\"param\":null,\"code\":null}}",
                         status == 503 ? "server_error" : "invalid_request_error");
    if (status == 503)
        buffer_append_text(&exchange->headers, "Retry-After: 1\r\n");
    if (body.error.code == BULLA_OK)
        http_reply(exchange, status, "application/json", body.data, body.length);
    else
        http_reply(exchange, status, NULL, NULL, 0);
    buffer_free(&body);
}

void exchange_refuse(struct http_exchange *exchange, int status, const char *message)
{
    const struct http_handler *handler = &exchange->connection->server->handler;
    exchange->connection->is_closing = 1;
    exchange->received = clock_nanoseconds();
    if (handler->refuse)
        handler->refuse(handler->context, exchange, status, message);
    else
        refuse_plainly(exchange, status, message);
}
