#define _GNU_SOURCE
#include "serve/http_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/memory.h"

enum {
    ACCEPTS_A_TURN = 64, /* so that those who are connected get their turn */
    DRAIN_TURNS = 128,
    PAUSE_MICROSECONDS = 100000, /* after accept failed for want of descriptors or memory */
    UNSENT_IN_KERNEL = 128 << 10,
    KEEPALIVE_IDLE_SECONDS = 30, KEEPALIVE_INTERVAL_SECONDS = 10, KEEPALIVE_PROBES = 3
};

static void take_limits(struct http_limits *limits, const struct http_limits *given)
{
    static const struct http_limits defaults = {
        .most_header_bytes = 32 << 10, .most_header_lines = 100, .most_body_bytes = 16 << 20,
        .most_held_bytes = 512 << 20, .most_unsent = 4 << 20, .most_connections = 12000, .header_seconds = 10,
        .body_seconds = 60, .idle_seconds = 75, .write_seconds = 30};
    *limits = given ? *given : defaults;
#define DEFAULT(field) if (limits->field == 0) limits->field = defaults.field
    DEFAULT(most_header_bytes);
    DEFAULT(most_header_lines);
    DEFAULT(most_body_bytes);
    if (limits->most_held_bytes == 0 && limits->most_body_bytes > defaults.most_held_bytes)
        limits->most_held_bytes = limits->most_body_bytes;
    DEFAULT(most_held_bytes);
    DEFAULT(most_unsent);
    DEFAULT(most_connections);
    DEFAULT(header_seconds);
    DEFAULT(body_seconds);
    DEFAULT(idle_seconds);
    DEFAULT(write_seconds);
#undef DEFAULT
}

static void describe_peer(const struct sockaddr_storage *address, char peer[HTTP_PEER_BYTES])
{
    char host[INET6_ADDRSTRLEN];
    const struct sockaddr_in *four = (const struct sockaddr_in *)address;
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;
    if (address->ss_family == AF_INET && inet_ntop(AF_INET, &four->sin_addr, host, sizeof host))
        snprintf(peer, HTTP_PEER_BYTES, "%s:%u", host, ntohs(four->sin_port));
    else if (address->ss_family == AF_INET6 && inet_ntop(AF_INET6, &six->sin6_addr, host, sizeof host))
        snprintf(peer, HTTP_PEER_BYTES, "[%s]:%u", host, ntohs(six->sin6_port));
    else
        snprintf(peer, HTTP_PEER_BYTES, "local");
}

static void set_option(int socket, int level, int option, int value)
{
    setsockopt(socket, level, option, &value, sizeof value); /* each is an improvement only: a socket pair has none */
}

/* Events go out as they are written; a peer that is gone without a word is found by keep-alive probes; and the kernel
 * takes no more than it may need, so that the count of what waits is true. */
static void set_options(int socket)
{
    set_option(socket, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(socket, IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_IN_KERNEL);
    set_option(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(socket, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_SECONDS);
    set_option(socket, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SECONDS);
    set_option(socket, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
}

/* Waits a little where accept would fail again at once: a level-triggered event would spin meanwhile. */
static void pause_accepting(struct http_server *server)
{
    const struct timeval pause = {.tv_usec = PAUSE_MICROSECONDS};
    if (event_add(server->accept_again, &pause) == 0)
        event_del(server->accepting);
}

static void accept_again(evutil_socket_t descriptor, short what, void *context)
{
    struct http_server *server = context;
    if (server->listener >= 0 && event_add(server->accepting, NULL) != 0)
        pause_accepting(server);
}

/* Whether to go on after accept failed: not for these (accept(2): errors of the network concern one connection). */
static int is_shortage(int number)
{
    return number != EINTR && number != ECONNABORTED && number != EPROTO && number != ENETDOWN &&
           number != ENOPROTOOPT && number != EHOSTDOWN && number != ENONET && number != EHOSTUNREACH &&
           number != EOPNOTSUPP && number != ENETUNREACH && number != EPERM;
}

/* Whether more may wait. */
static int accept_some(struct http_server *server)
{
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        struct sockaddr_storage address = {0};
        socklen_t length = sizeof address;
        char peer[HTTP_PEER_BYTES];
        int socket = accept4(server->listener, (struct sockaddr *)&address, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (socket < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return 0;
        if (socket < 0 && is_shortage(errno)) {
            pause_accepting(server);
            return 0;
        }
        if (socket < 0)
            continue;
        if (server->connection_count >= server->limits.most_connections) {
            close(socket);
            continue;
        }
        describe_peer(&address, peer);
        set_options(socket);
        connection_open(server, socket, peer);
    }
    return 1;
}

static void accept_connections(evutil_socket_t listener, short what, void *context)
{
    accept_some(context);
}

static int check_arguments(int listener, const struct http_limits *limits, const struct http_handler *handler,
                           bulla_error *error)
{
    if (!handler || !handler->request)
        return bulla_fail(error, BULLA_E_USAGE, "the HTTP server was given no handler");
    if (limits->most_header_bytes > 16 << 20 || limits->most_body_bytes > SIZE_MAX / 4)
        return bulla_fail(error, BULLA_E_USAGE,
                          "the HTTP server's limits of %zu bytes for headers and %zu for bodies are more than 16 MiB "
                          "and %zu", limits->most_header_bytes, limits->most_body_bytes, SIZE_MAX / 4);
    if (limits->most_held_bytes < limits->most_body_bytes)
        return bulla_fail(error, BULLA_E_USAGE,
                          "the HTTP server's limit of %zu bytes held for all clients is less than that of one body, %zu",
                          limits->most_held_bytes, limits->most_body_bytes);
    struct sigaction broken_pipe;
    if (sigaction(SIGPIPE, NULL, &broken_pipe) != 0 || broken_pipe.sa_handler == SIG_DFL)
        return bulla_fail(error, BULLA_E_USAGE,
                          "the process does not ignore SIGPIPE: a client that hangs up would end it; ignore it first");
    int flags = fcntl(listener, F_GETFL);
    if (flags < 0 || fcntl(listener, F_SETFL, flags | O_NONBLOCK) != 0)
        return bulla_fail(error, BULLA_E_IO, "the listening socket %d cannot be used: %s", listener, strerror(errno));
    return BULLA_OK;
}

int http_server_open(struct event_base *base, int listener, const struct http_tls *tls,
                     const struct http_limits *limits, const struct http_handler *handler,
                     struct http_server **opened, bulla_error *error)
{
    struct http_limits taken;
    *opened = NULL;
    take_limits(&taken, limits);
    int code = check_arguments(listener, &taken, handler, error);
    if (code != BULLA_OK)
        return code;
    struct http_server *server = memory_alloc(1, sizeof *server, error);
    if (!server)
        return BULLA_E_MEMORY;
    server->base = base;
    server->tls = tls;
    server->limits = taken;
    server->handler = *handler;
    server->listener = -1;
    server->accepting = event_new(base, listener, EV_READ | EV_PERSIST, accept_connections, server);
    server->accept_again = evtimer_new(base, accept_again, server);
    if (!server->accepting || !server->accept_again || event_add(server->accepting, NULL) != 0) {
        http_server_close(server);
        return bulla_fail(error, BULLA_E_MEMORY, "the HTTP server's events could not be set up: memory is short");
    }
    server->listener = listener;
    *opened = server;
    return BULLA_OK;
}

static void close_listener(struct http_server *server)
{
    if (server->accepting)
        event_free(server->accepting);
    if (server->accept_again)
        event_free(server->accept_again);
    server->accepting = server->accept_again = NULL;
    if (server->listener >= 0)
        close(server->listener);
    server->listener = -1;
}

void http_server_drain(struct http_server *server)
{
    if (server->is_draining)
        return;
    /* Whoever is in the queue has connected to this server: closing the listener would reset them. */
    for (int turns = 0; turns < DRAIN_TURNS && accept_some(server); turns++)
        ;
    server->is_draining = 1;
    close_listener(server);
    for (struct connection *connection = server->connections, *next; connection; connection = next) {
        next = connection->next;
        connection_drain(connection);
    }
}

int http_server_is_drained(const struct http_server *server)
{
    return server->is_draining && server->connection_count == 0;
}

unsigned http_server_connections(const struct http_server *server)
{
    return server->connection_count;
}

void http_server_close(struct http_server *server)
{
    if (!server)
        return;
    close_listener(server);
    while (server->connections)
        connection_end(server->connections);
    buffer_free(&server->head);
    memory_free(server);
}

const char *server_date(struct http_server *server)
{
    static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t now = time(NULL);
    struct tm parts;
    if (now == server->date_second || !gmtime_r(&now, &parts))
        return server->date;
    server->date_second = now;
    snprintf(server->date, sizeof server->date, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[parts.tm_wday % 7],
             parts.tm_mday % 100, months[parts.tm_mon % 12], (parts.tm_year + 1900) % 10000, parts.tm_hour % 100,
             parts.tm_min % 100, parts.tm_sec % 100);
    return server->date;
}
