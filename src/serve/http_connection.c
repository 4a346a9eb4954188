/* One connection. Traps of libevent 2.1's bufferevents that shape it:
 *
 * - A hang-up is only seen while the socket is read. So it is read while an answer is under way too, up to
 *   HTTP_MOST_PIPELINED bytes; then it is polled for POLLRDHUP four times a second. (An event for EV_CLOSED would not
 *   do: libevent reports an RST, EPOLLERR, as readable and writable only, so that the event would never run and epoll
 *   return at once again and again.)
 * - A TLS bufferevent stops writing when the client ends its side; that has to be switched on again.
 * - SSL_write of a large piece tells of no progress until all is sent, unless partial writes are allowed.
 * - bufferevent_free inside of callbacks is fine; the memory and the socket go in the loop's next turn. */
#define _GNU_SOURCE
#include "serve/http_internal.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "serve/tls.h"

#define SECOND UINT64_C(1000000000)
#define PAUSED_TICK (SECOND / 4)  /* between looks at a client whose socket is not read */
#define DRAIN_GRACE SECOND        /* for the first request of a connection that has just been made */

static void process(struct connection *connection);

/* The timer is left where it is when a deadline moves back, and set again when it runs too early: most requests then
 * touch no timer. */
static void set_timer(struct connection *connection, uint64_t now)
{
    uint64_t wait = connection->deadline > now ? connection->deadline - now : 0;
    wait = wait / 1000 + 1000; /* a millisecond more: the loop's clock is a little behind */
    const struct timeval after = {.tv_sec = (time_t)(wait / 1000000), .tv_usec = (suseconds_t)(wait % 1000000)};
    if (event_add(connection->timer, &after) == 0)
        connection->timer_at = connection->deadline;
    else
        connection_cut(connection); /* nothing may wait for ever */
}

static void set_deadline_at(struct connection *connection, uint64_t now, uint64_t nanoseconds)
{
    connection->deadline = now + nanoseconds;
    if (connection->timer_at == 0 || connection->timer_at > connection->deadline)
        set_timer(connection, now);
}

static void set_deadline(struct connection *connection, unsigned seconds)
{
    connection->is_watched = 0;
    set_deadline_at(connection, clock_nanoseconds(), seconds * SECOND);
}

static void clear_deadline(struct connection *connection)
{
    connection->deadline = 0;
    connection->is_watched = 0;
}

size_t connection_unsent(const struct connection *connection)
{
    return evbuffer_get_length(bufferevent_get_output(connection->stream));
}

void connection_free(struct connection *connection)
{
    struct http_server *server = connection->server;
    if (connection->previous)
        connection->previous->next = connection->next;
    else
        server->connections = connection->next;
    if (connection->next)
        connection->next->previous = connection->previous;
    server->connection_count--;
    connection_hold(connection, 0);
    if (connection->exchange)
        exchange_free(connection->exchange);
    if (connection->is_reset) {
        const struct linger now = {.l_onoff = 1};
        setsockopt(connection->socket, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    event_free(connection->timer);
    bufferevent_free(connection->stream);
    memory_free(connection);
}

void connection_end(struct connection *connection)
{
    struct http_exchange *exchange = connection->exchange;
    if (connection->state == CONNECTION_HANDLING && exchange && exchange->closed) {
        exchange->is_ending = 1;
        exchange->closed(exchange->closed_context);
    }
    connection_free(connection);
}

void connection_cut(struct connection *connection)
{
    connection->is_cut = 1;
    bufferevent_trigger_event(connection->stream, BEV_EVENT_ERROR, BEV_TRIG_DEFER_CALLBACKS);
}

void connection_write(struct connection *connection, const void *bytes, size_t length)
{
    if (connection->is_cut || length == 0)
        return;
    if (bufferevent_write(connection->stream, bytes, length) != 0) {
        connection_cut(connection);
        return;
    }
    connection->queued += length;
    if (connection->state != CONNECTION_READING) /* 100 (Continue) is not what the deadline of a body waits for */
        connection_watch(connection);
}

static void free_given(const void *bytes, size_t length, void *context)
{
    memory_free((void *)(uintptr_t)bytes);
}

int connection_give(struct connection *connection, struct buffer *buffer)
{
    struct evbuffer *output = bufferevent_get_output(connection->stream);
    if (connection->is_cut)
        return 0;
    if (evbuffer_add_reference(output, buffer->data, buffer->length, free_given, NULL) != 0) {
        connection_cut(connection);
        return 0;
    }
    connection->queued += buffer->length;
    *buffer = (struct buffer){0};
    connection_watch(connection);
    return 1;
}

void connection_write_part(struct connection *connection, const struct http_part *part)
{
    struct evbuffer *output = bufferevent_get_output(connection->stream);
    if (!part->release) {
        connection_write(connection, part->bytes, part->length);
    } else if (connection->is_cut || part->length == 0) {
        part->release(part->bytes, part->length, part->context);
    } else if (evbuffer_add_reference(output, part->bytes, part->length, part->release, part->context) == 0) {
        connection->queued += part->length;
        connection_watch(connection);
    } else {
        part->release(part->bytes, part->length, part->context);
        connection_cut(connection);
    }
}

void connection_hold(struct connection *connection, size_t bytes)
{
    connection->server->held += bytes - connection->held;
    connection->held = bytes;
}

static void pause_reading(struct connection *connection)
{
    bufferevent_disable(connection->stream, EV_READ);
    connection->is_paused = 1;
    connection_watch(connection);
    if (connection->deadline > clock_nanoseconds() + PAUSED_TICK)
        set_deadline_at(connection, clock_nanoseconds(), PAUSED_TICK);
}

static void resume_reading(struct connection *connection)
{
    connection->is_paused = 0;
    if (bufferevent_enable(connection->stream, EV_READ) != 0)
        connection_cut(connection);
}

static uint64_t write_limit(const struct connection *connection)
{
    return connection->server->limits.write_seconds * SECOND;
}

void connection_watch(struct connection *connection)
{
    if (connection->is_watched)
        return;
    uint64_t now = clock_nanoseconds();
    connection->is_watched = 1;
    connection->progress_bytes = connection->queued - connection_unsent(connection);
    connection->progress_at = now;
    set_deadline_at(connection, now, connection->is_paused ? PAUSED_TICK : write_limit(connection) / 4);
}

/* Whether the client of a socket that is not read has closed or reset it. */
static int has_hung_up(const struct connection *connection)
{
    struct pollfd look = {.fd = connection->socket, .events = POLLRDHUP};
    return poll(&look, 1, 0) > 0 && (look.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

/* The client has ended its side. What was answered whole is still sent; an answer under way is cancelled. */
static void hang_up(struct connection *connection)
{
    if (connection->state != CONNECTION_FLUSHING || connection->is_cut) {
        connection_end(connection);
        return;
    }
    connection->has_hung_up = 1;
    if (bufferevent_enable(connection->stream, EV_WRITE) != 0)
        connection_end(connection);
}

/* While something waits to be sent, or the socket is not read. Where more waits than most_unsent, as a long whole answer
 * may, it is no progress to take a few bytes of it: that would hold all of it for as long as a client likes. */
static void look_after(struct connection *connection, uint64_t now)
{
    size_t unsent = connection_unsent(connection), most = connection->server->limits.most_unsent;
    uint64_t sent = connection->queued - unsent, step = unsent > most ? most : 1;
    if (connection->is_paused && !connection->has_hung_up && has_hung_up(connection)) {
        if (connection->state == CONNECTION_HANDLING) {
            connection_end(connection);
            return;
        }
        connection->has_hung_up = 1;
    }
    if (sent - connection->progress_bytes >= step || unsent == 0) {
        connection->progress_bytes = sent;
        connection->progress_at = now;
    } else if (now - connection->progress_at >= write_limit(connection)) {
        connection->is_reset = 1;
        connection_end(connection);
        return;
    }
    if (connection->is_paused || unsent > 0)
        set_deadline_at(connection, now, connection->is_paused ? PAUSED_TICK : write_limit(connection) / 4);
    else
        clear_deadline(connection);
}

static void run_timer(evutil_socket_t descriptor, short what, void *context)
{
    struct connection *connection = context;
    uint64_t now = clock_nanoseconds();
    connection->timer_at = 0;
    if (connection->deadline == 0)
        return;
    if (connection->deadline > now) {
        set_timer(connection, now);
        return;
    }
    switch (connection->state) {
    case CONNECTION_READING:
        exchange_refuse(connection->exchange, 408, "The request did not come in time.");
        return;
    case CONNECTION_HANDLING:
    case CONNECTION_FLUSHING:
        look_after(connection, now);
        return;
    case CONNECTION_HANDSHAKE:
    case CONNECTION_IDLE:
    case CONNECTION_LINGERING:
    case CONNECTION_DOOMED:
        break;
    }
    connection_end(connection);
}

/* TLS's close_notify: what came before it is whole. */
static void say_goodbye(struct connection *connection)
{
    SSL *ssl = bufferevent_openssl_get_ssl(connection->stream);
    if (!ssl)
        return;
    ERR_clear_error();
    SSL_shutdown(ssl);
    ERR_clear_error();
}

/* All is sent. A close with unread input would be an RST, which may take the answer from a client that has not read it
 * yet (RFC 9112 section 9.6): so only this side is closed, and what comes is dropped for a while. */
static void linger(struct connection *connection)
{
    if (connection->has_hung_up) {
        connection_free(connection);
        return;
    }
    say_goodbye(connection);
    struct evbuffer *input = bufferevent_get_input(connection->stream);
    shutdown(connection->socket, SHUT_WR);
    evbuffer_drain(input, evbuffer_get_length(input));
    connection->state = CONNECTION_LINGERING;
    set_deadline(connection, HTTP_LINGER_SECONDS);
    resume_reading(connection);
}

static void finish_flush(struct connection *connection)
{
    struct http_server *server = connection->server;
    connection_hold(connection, 0);
    if (connection->is_closing || connection->has_hung_up || server->is_draining) {
        linger(connection);
        return;
    }
    connection->state = CONNECTION_IDLE;
    set_deadline(connection, server->limits.idle_seconds);
    if (connection->is_paused)
        resume_reading(connection);
    process(connection);
}

void connection_finish_exchange(struct connection *connection)
{
    exchange_free(connection->exchange);
    connection->exchange = NULL;
    connection_hold(connection, 0);
    connection->state = connection->is_cut ? CONNECTION_DOOMED : CONNECTION_FLUSHING;
    if (connection->is_cut)
        return;
    if (connection_unsent(connection) == 0)
        bufferevent_trigger(connection->stream, EV_WRITE, BEV_TRIG_DEFER_CALLBACKS | BEV_TRIG_IGNORE_WATERMARKS);
    else
        connection_watch(connection);
}

/* The request is whole: to the handler, which may have ended the exchange when this returns. */
static void hand_over(struct connection *connection)
{
    struct http_exchange *exchange = connection->exchange;
    struct http_server *server = connection->server;
    connection->state = CONNECTION_HANDLING;
    connection->has_had_request = 1;
    connection->is_closing = !exchange->parser.keeps_alive;
    clear_deadline(connection);
    exchange->received = clock_nanoseconds();
    server->handler.request(server->handler.context, exchange);
}

/* The head is whole and a body follows, which the handler may not want. */
static void see_header(struct connection *connection, int is_all_there)
{
    struct http_exchange *exchange = connection->exchange;
    const struct http_handler *handler = &connection->server->handler;
    set_deadline(connection, connection->server->limits.body_seconds);
    if (handler->head) {
        exchange->received = clock_nanoseconds();
        connection->is_closing = 1; /* an answer now is the last: the body would have to be read before the next request */
        handler->head(handler->context, exchange);
        if (connection->exchange != exchange)
            return;
        connection->is_closing = 0;
    }
    if (exchange->parser.expects_continue && is_all_there) { /* else the body comes without waiting */
        static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
        connection_write(connection, text, sizeof text - 1);
    }
}

static struct http_exchange *start_exchange(struct connection *connection)
{
    const struct http_limits *limits = &connection->server->limits;
    const struct http_parser_limits taken = {limits->most_header_bytes, limits->most_header_lines,
                                             limits->most_body_bytes};
    struct http_exchange *exchange = memory_alloc(1, sizeof *exchange, NULL);
    if (!exchange)
        return NULL;
    exchange->connection = connection;
    http_parser_start(&exchange->parser, &taken);
    return exchange;
}

/* Counts what has come of the body; whether that is more than all connections together may hold. */
static int holds_too_much(struct connection *connection)
{
    struct http_server *server = connection->server;
    size_t length = connection->exchange->parser.body.length, before = connection->held;
    connection_hold(connection, length);
    return length > before && server->held > server->limits.most_held_bytes;
}

static void take_input(struct connection *connection, struct evbuffer *input, const struct evbuffer_iovec *piece)
{
    struct http_parser *parser = &connection->exchange->parser;
    size_t used;
    enum http_parse result = http_parser_push(parser, piece->iov_base, piece->iov_len, &used);
    evbuffer_drain(input, used);
    if (connection->state == CONNECTION_IDLE && http_parser_has_begun(parser)) {
        connection->state = CONNECTION_READING;
        set_deadline(connection, connection->server->limits.header_seconds);
    }
    int is_too_much = holds_too_much(connection);
    if (result == HTTP_PARSE_REFUSED)
        exchange_refuse(connection->exchange, parser->status, parser->refusal);
    else if (is_too_much)
        exchange_refuse(connection->exchange, 503, "The server holds as much for its clients as it may; try again later.");
    else if (result == HTTP_PARSE_HEADER)
        see_header(connection, evbuffer_get_length(input) == 0);
    else if (result == HTTP_PARSE_WHOLE)
        hand_over(connection);
}

static void process(struct connection *connection)
{
    struct evbuffer *input = bufferevent_get_input(connection->stream);
    while (connection->state == CONNECTION_IDLE || connection->state == CONNECTION_READING) {
        struct evbuffer_iovec piece;
        if (evbuffer_peek(input, -1, NULL, &piece, 1) < 1 || piece.iov_len == 0)
            return;
        if (!connection->exchange && !(connection->exchange = start_exchange(connection))) {
            connection->state = CONNECTION_DOOMED;
            connection_cut(connection);
            return;
        }
        take_input(connection, input, &piece);
    }
}

static void read_more(struct bufferevent *stream, void *context)
{
    struct connection *connection = context;
    struct evbuffer *input = bufferevent_get_input(stream);
    process(connection);
    size_t length = evbuffer_get_length(input);
    if (connection->state == CONNECTION_LINGERING) {
        evbuffer_drain(input, length);
        connection->lingered += length;
        if (connection->lingered > connection->server->limits.most_body_bytes)
            connection_free(connection);
    } else if (length >= HTTP_MOST_PIPELINED) {
        pause_reading(connection);
    }
}

static void written(struct bufferevent *stream, void *context)
{
    struct connection *connection = context;
    struct http_exchange *exchange = connection->exchange;
    if (connection->is_cut || connection_unsent(connection) > 0)
        return;
    if (connection->state == CONNECTION_FLUSHING)
        finish_flush(connection);
    else if (connection->state == CONNECTION_HANDLING && exchange && exchange->drained)
        exchange->drained(exchange->drained_context);
}

static void event_happened(struct bufferevent *stream, short what, void *context)
{
    struct connection *connection = context;
    if (what & BEV_EVENT_CONNECTED) {
        connection->state = CONNECTION_IDLE;
        if (connection->server->is_draining) /* its grace, not the time between requests */
            connection_drain(connection);
        else
            set_deadline(connection, connection->server->limits.idle_seconds);
    } else if (what & BEV_EVENT_EOF && what & BEV_EVENT_READING) {
        hang_up(connection);
    } else {
        connection_end(connection);
    }
}

void connection_drain(struct connection *connection)
{
    int is_new = connection->state == CONNECTION_HANDSHAKE || !connection->has_had_request;
    if (connection->state != CONNECTION_IDLE && connection->state != CONNECTION_HANDSHAKE)
        return;
    if (is_new) {
        set_deadline_at(connection, clock_nanoseconds(), DRAIN_GRACE);
        return;
    }
    say_goodbye(connection);
    connection_free(connection);
}

/* NULL closes the socket. */
static struct bufferevent *open_stream(struct http_server *server, int socket)
{
    struct bufferevent *stream = NULL;
    if (!server->tls) {
        stream = bufferevent_socket_new(server->base, socket, BEV_OPT_CLOSE_ON_FREE);
    } else {
        SSL *ssl = SSL_new(tls_context(server->tls));
        if (ssl) {
            SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_RELEASE_BUFFERS);
            stream = bufferevent_openssl_socket_new(server->base, socket, ssl, BUFFEREVENT_SSL_ACCEPTING,
                                                    BEV_OPT_CLOSE_ON_FREE);
        }
    }
    if (!stream)
        close(socket);
    return stream;
}

void connection_open(struct http_server *server, int socket, const char *peer)
{
    struct bufferevent *stream = open_stream(server, socket);
    if (!stream)
        return;
    struct connection *connection = memory_alloc(1, sizeof *connection, NULL);
    struct event *timer = connection ? evtimer_new(server->base, run_timer, connection) : NULL;
    if (!timer) {
        memory_free(connection);
        bufferevent_free(stream);
        return;
    }
    connection->server = server;
    connection->stream = stream;
    connection->timer = timer;
    connection->socket = socket;
    connection->state = server->tls ? CONNECTION_HANDSHAKE : CONNECTION_IDLE;
    snprintf(connection->peer, sizeof connection->peer, "%s", peer);
    connection->next = server->connections;
    if (connection->next)
        connection->next->previous = connection;
    server->connections = connection;
    server->connection_count++;
    bufferevent_setcb(stream, read_more, written, event_happened, connection);
    set_deadline(connection, server->tls ? server->limits.header_seconds : server->limits.idle_seconds);
    if (bufferevent_enable(stream, EV_READ | EV_WRITE) != 0)
        connection_cut(connection);
}
