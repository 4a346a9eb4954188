#include "serve/upstream_client.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/dns.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/memory.h"

enum {
    MOST_READ_BYTES = 256 << 10, /* held by a connection before they are looked at */
    MOST_ID_BYTES = 128
};

/* A look-up that goes on; it may end after its call is gone. */
struct lookup {
    struct client_call *call;
};

struct client_connection {
    struct bufferevent *stream;
    SSL *tls; /* the stream's, or NULL */
    void (*lost)(void *context);
    void *context;
};

struct client_call {
    const struct upstream_target *target;
    struct client_sink sink;
    struct upstream_response response;
    struct buffer head;
    struct buffer body;
    struct target_address addresses[TARGET_MOST_ADDRESSES];
    size_t address_count, next_address;
    struct lookup *lookup;
    struct evdns_getaddrinfo_request *resolving;
    struct bufferevent *connection;
    SSL *tls; /* the connection's, or NULL */
    struct event *timer, *deadline;
    unsigned connect_seconds, idle_seconds;
    int is_begun, is_connected, has_ended, is_paused;
    int keeps, is_kept; /* is_kept: the connection outlived the answer, and may be taken */
    int depth;     /* callbacks of this call that are being run */
    int is_closed; /* freed when depth is 0 */
};

static void drop_connection(struct client_call *call)
{
    if (call->lookup) {
        call->lookup->call = NULL;
        call->lookup = NULL;
        if (call->resolving)
            evdns_getaddrinfo_cancel(call->resolving);
        call->resolving = NULL;
    }
    if (call->connection)
        bufferevent_free(call->connection);
    call->connection = NULL;
    call->tls = NULL;
    if (call->timer)
        event_del(call->timer);
    if (call->deadline)
        event_del(call->deadline);
}

static void free_call(struct client_call *call)
{
    if (call->timer)
        event_free(call->timer);
    if (call->deadline)
        event_free(call->deadline);
    upstream_response_free(&call->response);
    if (call->head.data)
        memory_wipe(call->head.data, call->head.length); /* it holds the key */
    buffer_free(&call->head);
    buffer_free(&call->body);
    memory_free(call);
}

static void enter(struct client_call *call)
{
    call->depth++;
}

static void leave(struct client_call *call)
{
    if (--call->depth == 0 && call->is_closed)
        free_call(call);
}

void client_call_close(struct client_call *call)
{
    if (!call || call->is_closed)
        return;
    drop_connection(call);
    call->is_closed = 1;
    if (call->depth == 0)
        free_call(call);
}

/* These three run between enter and leave. */
static void end_failed(struct client_call *call, enum client_failure failure, const char *sentence)
{
    if (call->is_closed || call->has_ended)
        return;
    call->has_ended = 1;
    drop_connection(call);
    call->sink.failed(call->sink.context, failure, sentence);
}

static void end_done(struct client_call *call)
{
    if (call->is_closed || call->has_ended)
        return;
    call->has_ended = 1;
    call->is_kept = call->keeps && upstream_response_can_follow(&call->response) &&
                    evbuffer_get_length(bufferevent_get_output(call->connection)) == 0;
    if (!call->is_kept)
        drop_connection(call);
    call->sink.done(call->sink.context);
    if (call->is_kept && !call->is_closed)
        drop_connection(call);
    call->is_kept = 0;
}

static void arm_timer(struct client_call *call, unsigned seconds)
{
    if (call->is_paused)
        return;
    struct timeval delay = {.tv_sec = seconds};
    if (event_add(call->timer, &delay) != 0)
        end_failed(call, CLIENT_MEMORY, "memory is short");
}

static int take_head(void *context)
{
    struct client_call *call = context;
    call->sink.head(call->sink.context, &call->response);
    return call->is_closed;
}

static int take_body(void *context, const uint8_t *bytes, size_t length)
{
    struct client_call *call = context;
    call->sink.body(call->sink.context, bytes, length);
    return call->is_closed;
}

/* Hands on all that has been read. */
static void drain(struct client_call *call)
{
    struct evbuffer *input = bufferevent_get_input(call->connection);
    bulla_error error = {0};
    while (!call->is_closed && !call->has_ended && evbuffer_get_length(input) > 0) {
        size_t length = evbuffer_get_contiguous_space(input);
        const uint8_t *bytes = evbuffer_pullup(input, (ev_ssize_t)length);
        int code = upstream_response_feed(&call->response, bytes, length, &error);
        if (call->is_closed)
            return;
        evbuffer_drain(input, length);
        call->response.has_more |= evbuffer_get_length(input) > 0 && call->response.state == RESPONSE_COMPLETE;
        if (code != BULLA_OK)
            end_failed(call, code == BULLA_E_MEMORY ? CLIENT_MEMORY : CLIENT_BROKEN, error.text);
        else if (call->response.state == RESPONSE_COMPLETE)
            end_done(call);
    }
}

static void on_read(struct bufferevent *connection, void *context)
{
    struct client_call *call = context;
    enter(call);
    drain(call);
    if (!call->is_closed && !call->has_ended)
        arm_timer(call, call->idle_seconds);
    leave(call);
}

static void connect_next(struct client_call *call);
static void use_connection(struct client_call *call);

/* What the TLS handshake did not like, or that there was none. */
static void end_untrusted(struct client_call *call, unsigned long tls_error)
{
    char sentence[400], reason[200];
    long verdict = call->tls ? SSL_get_verify_result(call->tls) : X509_V_OK;
    ERR_error_string_n(tls_error, reason, sizeof reason);
    snprintf(sentence, sizeof sentence, "TLS with %.100s failed: %s", call->target->host,
             verdict != X509_V_OK ? X509_verify_cert_error_string(verdict) : reason);
    end_failed(call, CLIENT_UNTRUSTED, sentence);
}

static void on_connect_failure(struct client_call *call, int socket_error)
{
    unsigned long tls_error = call->target->tls ? bufferevent_get_openssl_error(call->connection) : 0;
    char sentence[300];
    ERR_clear_error();
    if (ERR_GET_LIB(tls_error) != 0 && !ERR_SYSTEM_ERROR(tls_error)) { /* else it was the socket's */
        end_untrusted(call, tls_error);
        return;
    }
    if (call->next_address < call->address_count) {
        bufferevent_free(call->connection);
        call->connection = NULL;
        call->tls = NULL;
        connect_next(call);
        return;
    }
    snprintf(sentence, sizeof sentence, "no connection to %.100s port %u: %s", call->target->host, call->target->port,
             socket_error ? evutil_socket_error_to_string(socket_error) : "it was closed at once");
    end_failed(call, CLIENT_UNREACHABLE, sentence);
}

static void on_connected(struct client_call *call)
{
    int one = 1;
    setsockopt(bufferevent_getfd(call->connection), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    call->is_connected = 1;
    arm_timer(call, call->idle_seconds);
}

/* The connection ended: what came is the answer where that is whole. An error of TLS, also a missing close_notify, is
 * no orderly end. */
static void on_end(struct client_call *call, short what)
{
    bulla_error error = {0};
    drain(call);
    ERR_clear_error();
    if (call->is_closed || call->has_ended)
        return;
    if (!(what & BEV_EVENT_EOF) && call->response.state != RESPONSE_COMPLETE)
        end_failed(call, CLIENT_BROKEN, "the connection was broken off in the middle of its answer");
    else if (upstream_response_close(&call->response, &error) != BULLA_OK)
        end_failed(call, CLIENT_BROKEN, error.text);
    else
        end_done(call);
}

static void on_event(struct bufferevent *connection, short what, void *context)
{
    struct client_call *call = context;
    int socket_error = EVUTIL_SOCKET_ERROR();
    enter(call);
    if (what & BEV_EVENT_CONNECTED)
        on_connected(call);
    else if (!call->is_connected)
        on_connect_failure(call, what & BEV_EVENT_ERROR ? socket_error : 0);
    else
        on_end(call, what);
    leave(call);
}

static void remove_body(const void *data, size_t length, void *context)
{
    memory_free((void *)data);
}

/* Gives the request to the connection; the body's memory goes over. */
static int queue_request(struct client_call *call)
{
    if (bufferevent_write(call->connection, call->head.data, call->head.length) != 0)
        return 0;
    if (call->body.length == 0 || call->next_address < call->address_count)
        return call->body.length == 0 || bufferevent_write(call->connection, call->body.data, call->body.length) == 0;
    if (evbuffer_add_reference(bufferevent_get_output(call->connection), call->body.data, call->body.length,
                               remove_body, NULL) != 0)
        return 0;
    memset(&call->body, 0, sizeof call->body);
    return 1;
}

static int make_connection(struct client_call *call)
{
    struct event_base *base = call->target->base;
    if (!call->target->tls) {
        call->connection = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
        return call->connection != NULL;
    }
    call->tls = upstream_target_tls(call->target, NULL);
    if (!call->tls)
        return 0;
    call->connection =
        bufferevent_openssl_socket_new(base, -1, call->tls, BUFFEREVENT_SSL_CONNECTING, BEV_OPT_CLOSE_ON_FREE);
    if (!call->connection) {
        SSL_free(call->tls);
        call->tls = NULL;
    }
    return call->connection != NULL;
}

/* Tries the next address: "localhost" is 127.0.0.1 and ::1, a name may have several. */
static void connect_next(struct client_call *call)
{
    struct target_address *address = &call->addresses[call->next_address++];
    if (!make_connection(call)) {
        end_failed(call, CLIENT_MEMORY, "memory is short");
        return;
    }
    bufferevent_setcb(call->connection, on_read, NULL, on_event, call);
    bufferevent_setwatermark(call->connection, EV_READ, 0, MOST_READ_BYTES);
    if (!queue_request(call) || bufferevent_enable(call->connection, EV_READ | EV_WRITE) != 0) {
        end_failed(call, CLIENT_MEMORY, "memory is short");
        return;
    }
    if (bufferevent_socket_connect(call->connection, (struct sockaddr *)&address->address, address->length) != 0)
        on_connect_failure(call, EVUTIL_SOCKET_ERROR());
}

/* Sends on a connection that was there before. */
static void use_connection(struct client_call *call)
{
    call->is_connected = 1;
    if (!queue_request(call) || bufferevent_enable(call->connection, EV_READ | EV_WRITE) != 0)
        end_failed(call, CLIENT_MEMORY, "memory is short");
}

static void on_resolved(int result, struct evutil_addrinfo *list, void *context)
{
    struct lookup *lookup = context;
    struct client_call *call = lookup->call;
    memory_free(lookup);
    if (call) {
        enter(call);
        call->lookup = NULL;
        call->resolving = NULL;
        for (struct evutil_addrinfo *one = list; one && call->address_count < TARGET_MOST_ADDRESSES; one = one->ai_next)
            if (target_address_set(&call->addresses[call->address_count], one->ai_addr, call->target->port))
                call->address_count++;
        if (call->address_count > 0) {
            connect_next(call);
        } else {
            char sentence[300];
            snprintf(sentence, sizeof sentence, "%.100s cannot be looked up: %s", call->target->host,
                     evutil_gai_strerror(result));
            end_failed(call, CLIENT_UNREACHABLE, sentence);
        }
        leave(call);
    }
    if (list)
        evutil_freeaddrinfo(list);
}

static void resolve(struct client_call *call)
{
    struct evutil_addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = EVUTIL_AI_ADDRCONFIG};
    struct lookup *lookup = memory_alloc(1, sizeof *lookup, NULL);
    if (!lookup) {
        end_failed(call, CLIENT_MEMORY, "memory is short");
        return;
    }
    lookup->call = call;
    call->lookup = lookup;
    /* It may have called on_resolved before it returns; then it returns NULL. */
    struct evdns_getaddrinfo_request *request =
        evdns_getaddrinfo(call->target->names, call->target->host, NULL, &hints, on_resolved, lookup);
    if (request && call->lookup == lookup)
        call->resolving = request;
}

static void on_timer(evutil_socket_t nothing, short what, void *context)
{
    struct client_call *call = context;
    enter(call);
    if (call->is_begun) {
        end_failed(call, CLIENT_TIMEOUT,
                   call->is_connected ? "it sent nothing for too long" : "it did not take the connection in time");
    } else {
        call->is_begun = 1;
        arm_timer(call, call->connection ? call->idle_seconds : call->connect_seconds);
        if (!call->has_ended && call->connection)
            use_connection(call);
        else if (!call->has_ended && call->address_count > 0)
            connect_next(call);
        else if (!call->has_ended)
            resolve(call);
    }
    leave(call);
}

static void on_deadline(evutil_socket_t nothing, short what, void *context)
{
    struct client_call *call = context;
    enter(call);
    end_failed(call, CLIENT_DEADLINE, "the request's deadline has passed");
    leave(call);
}

static int is_visible(const char *text)
{
    size_t length = strlen(text);
    for (size_t i = 0; i < length; i++)
        if (text[i] < '!' || text[i] > '~')
            return 0;
    return length > 0 && length <= MOST_ID_BYTES;
}

static void write_head(struct buffer *head, const struct upstream_target *target, const struct client_request *request)
{
    buffer_append_format(head,
                         "%s %s%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bulla\r\nAccept: %s\r\nAccept-Encoding: "
                         "identity\r\n",
                         request->method, target->prefix, request->path, target->authority, request->accept);
    if (target->key && !request->is_anonymous)
        buffer_append_format(head, "Authorization: Bearer %s\r\n", target->key);
    if (request->id && is_visible(request->id))
        buffer_append_format(head, "X-Request-Id: %s\r\n", request->id);
    if (request->body)
        buffer_append_format(head, "Content-Type: application/json\r\nContent-Length: %zu\r\n", request->body->length);
    if (request->headers)
        buffer_append_text(head, request->headers);
    buffer_append_text(head, request->keeps ? "\r\n" : "Connection: close\r\n\r\n");
}

static int arm_first(struct client_call *call, uint64_t deadline)
{
    struct timeval now = {0};
    call->timer = evtimer_new(call->target->base, on_timer, call);
    call->deadline = evtimer_new(call->target->base, on_deadline, call);
    if (!call->timer || !call->deadline || event_add(call->timer, &now) != 0)
        return 0;
    if (deadline == 0)
        return 1;
    uint64_t clock = clock_nanoseconds(), left = deadline > clock ? deadline - clock : 0;
    struct timeval delay = {.tv_sec = (time_t)(left / 1000000000), .tv_usec = (suseconds_t)(left % 1000000000 / 1000)};
    return event_add(call->deadline, &delay) == 0;
}

static void take_connection(struct client_call *call, struct client_connection *connection)
{
    call->connection = connection->stream;
    call->tls = connection->tls;
    bufferevent_setcb(call->connection, on_read, NULL, on_event, call);
    memory_free(connection);
}

int client_call_open(const struct upstream_target *target, const struct client_request *request,
                     const struct client_sink *sink, struct client_call **result, bulla_error *error)
{
    struct client_call *call = memory_alloc(1, sizeof *call, error);
    if (!call)
        return BULLA_E_MEMORY;
    call->target = target;
    call->sink = *sink;
    call->response.sink = (struct response_sink){call, take_head, take_body};
    call->connect_seconds = request->connect_seconds;
    call->idle_seconds = request->idle_seconds;
    call->keeps = request->keeps;
    call->response.keeps_headers = request->keeps_headers;
    if (!request->connection) {
        memcpy(call->addresses, target->addresses, sizeof call->addresses);
        call->address_count = target->address_count;
    }
    write_head(&call->head, target, request);
    if (call->head.error.code != BULLA_OK || !arm_first(call, request->deadline)) {
        client_call_close(call);
        return bulla_fail(error, BULLA_E_MEMORY, "memory is short");
    }
    if (request->body) {
        call->body = *request->body;
        memset(request->body, 0, sizeof *request->body);
    }
    if (request->connection)
        take_connection(call, request->connection);
    *result = call;
    return BULLA_OK;
}

struct client_connection *client_call_keep(struct client_call *call)
{
    struct client_connection *connection = call->is_kept ? memory_alloc(1, sizeof *connection, NULL) : NULL;
    if (!connection)
        return NULL;
    connection->stream = call->connection;
    connection->tls = call->tls;
    bufferevent_setcb(connection->stream, NULL, NULL, NULL, NULL);
    call->connection = NULL;
    call->tls = NULL;
    call->is_kept = 0;
    drop_connection(call); /* its timers */
    return connection;
}

int client_call_is_silent(const struct client_call *call)
{
    return call->response.state == RESPONSE_STATUS && call->response.head_bytes == 0;
}

void client_call_pause(struct client_call *call, int is_paused)
{
    if (!call->connection || call->is_closed || call->has_ended || call->is_paused == is_paused)
        return;
    call->is_paused = is_paused;
    if (is_paused) {
        bufferevent_disable(call->connection, EV_READ);
        event_del(call->timer);
        return;
    }
    enter(call);
    if (bufferevent_enable(call->connection, EV_READ) != 0)
        end_failed(call, CLIENT_MEMORY, "memory is short");
    else
        arm_timer(call, call->idle_seconds);
    leave(call);
}

int client_connection_key(const struct client_connection *connection, uint8_t digest[32], bulla_error *error)
{
    X509 *leaf = connection->tls ? SSL_get0_peer_certificate(connection->tls) : NULL;
    unsigned char *key = NULL;
    int length = leaf ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(leaf), &key) : 0;
    int code = length > 0 ? hash_sha256(key, (size_t)length, digest, error)
                          : bulla_fail(error, BULLA_E_INPUT, "the connection has no certificate of the server");
    OPENSSL_free(key);
    ERR_clear_error();
    return code;
}

static void tell_lost(struct client_connection *connection)
{
    void (*lost)(void *context) = connection->lost;
    connection->lost = NULL;
    if (lost)
        lost(connection->context);
}

static void on_watched_read(struct bufferevent *stream, void *context)
{
    tell_lost(context);
}

static void on_watched_event(struct bufferevent *stream, short what, void *context)
{
    ERR_clear_error();
    tell_lost(context);
}

void client_connection_watch(struct client_connection *connection, void (*lost)(void *context), void *context)
{
    connection->lost = lost;
    connection->context = context;
    bufferevent_setcb(connection->stream, on_watched_read, NULL, on_watched_event, connection);
}

void client_connection_close(struct client_connection *connection)
{
    if (!connection)
        return;
    bufferevent_free(connection->stream);
    memory_free(connection);
}
