#define _GNU_SOURCE
#include "ops/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WAITING_CONNECTIONS = 4096 }; /* that nobody has accepted yet; the system may hold fewer */

int listener_parse(const char *text, struct listener_address *address, bulla_error *error)
{
    const char *colon = strrchr(text, ':'), *host = text;
    size_t length = colon ? (size_t)(colon - text) : 0;
    if (length >= 2 && host[0] == '[' && host[length - 1] == ']') {
        host++;
        length -= 2;
    } else if (colon && memchr(host, ':', length)) {
        colon = NULL; /* an IPv6 address without brackets */
    }
    unsigned port = 0;
    size_t digits = colon ? strspn(colon + 1, "0123456789") : 0;
    int fits = colon && length > 0 && length < sizeof address->host && digits > 0 && digits <= 5 && !colon[1 + digits];
    for (size_t i = 0; fits && i < digits; i++)
        port = port * 10 + (unsigned)(colon[1 + i] - '0');
    if (!fits || port > 65535)
        return bulla_fail(error, BULLA_E_USAGE,
                          "\"%s\" is no address to listen on; expected HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080",
                          text);
    memcpy(address->host, host, length);
    address->host[length] = 0;
    snprintf(address->port, sizeof address->port, "%u", port);
    return BULLA_OK;
}

static int look_up(const struct listener_address *address, struct addrinfo **found, bulla_error *error)
{
    struct addrinfo wanted = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    int result = getaddrinfo(address->host, address->port, &wanted, found);
    if (result == 0)
        return BULLA_OK;
    return bulla_fail(error, BULLA_E_USAGE, "cannot listen on %s: %s", address->host,
                      result == EAI_SYSTEM ? strerror(errno) : gai_strerror(result));
}

static int is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *four = (const void *)address;
        return ntohl(four->sin_addr.s_addr) >> 24 == 127;
    }
    if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *six = (const void *)address;
        return IN6_IS_ADDR_LOOPBACK(&six->sin6_addr) ||
               (IN6_IS_ADDR_V4MAPPED(&six->sin6_addr) && six->sin6_addr.s6_addr[12] == 127);
    }
    return 0;
}

int listener_find_loopback(const struct listener_address *address, int *is_local, bulla_error *error)
{
    struct addrinfo *found;
    int code = look_up(address, &found, error);
    if (code != BULLA_OK)
        return code;
    *is_local = is_loopback(found->ai_addr);
    freeaddrinfo(found);
    return BULLA_OK;
}

/* The address that the socket has now. */
static int describe(struct listener *listener)
{
    struct sockaddr_storage own;
    socklen_t length = sizeof own;
    char host[LISTENER_HOST], port[8];
    if (getsockname(listener->socket, (struct sockaddr *)&own, &length) != 0 ||
        getnameinfo((struct sockaddr *)&own, length, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return 0;
    listener->is_loopback = is_loopback((struct sockaddr *)&own);
    snprintf(listener->text, sizeof listener->text, own.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
    return 1;
}

static int set_option(int socket, int option)
{
    int one = 1;
    return setsockopt(socket, SOL_SOCKET, option, &one, sizeof one) == 0;
}

/* Sockets share an address where all have SO_REUSEPORT. One that has it from the start joins those that listen; one that
 * gets it when it listens already was alone until then, and can be joined. */
static int open_socket(const struct addrinfo *where, int takes_over, struct listener *listener)
{
    int descriptor = socket(where->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    listener->socket = descriptor;
    return descriptor >= 0 && set_option(descriptor, SO_REUSEADDR) &&
           (!takes_over || set_option(descriptor, SO_REUSEPORT)) &&
           bind(descriptor, where->ai_addr, where->ai_addrlen) == 0 && listen(descriptor, WAITING_CONNECTIONS) == 0 &&
           set_option(descriptor, SO_REUSEPORT) && describe(listener);
}

/* What to do about an address that is in use. */
static const char *advise(int takes_over)
{
    return takes_over ? "; what listens there is no bulla serve of the same user, which --take-over could follow"
                      : ": another server listens there; stop it, name another address with --listen HOST:PORT, or start "
                        "with --take-over to follow it";
}

int listener_open(const struct listener_address *address, int takes_over, struct listener *listener, bulla_error *error)
{
    struct addrinfo *found;
    int code = look_up(address, &found, error);
    if (code != BULLA_OK)
        return code;
    *listener = (struct listener){.socket = -1};
    if (!open_socket(found, takes_over, listener)) {
        int number = errno;
        if (listener->socket >= 0)
            close(listener->socket);
        listener->socket = -1;
        code = bulla_fail(error, BULLA_E_IO, "cannot listen on %s port %s: %s%s", address->host, address->port,
                          strerror(number), number == EADDRINUSE ? advise(takes_over) : "");
    }
    freeaddrinfo(found);
    return code;
}
