/* Where an upstream is: its URL taken apart, and what is needed to connect to it. Never changes once open. */
#ifndef SERVE_UPSTREAM_TARGET_H
#define SERVE_UPSTREAM_TARGET_H

#include <openssl/ssl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "bulla/error.h"

struct event_base;
struct evdns_base;

enum { TARGET_MOST_ADDRESSES = 4 };

struct target_address {
    struct sockaddr_storage address;
    int length;
};

struct upstream_target {
    struct event_base *base;
    char *host;       /* "127.0.0.1", "::1", "engine.example" */
    char *authority;  /* of the Host header: host, and the port where the URL has one */
    char *prefix;     /* "" or "/prefix", without the "/v1" that may end it */
    char *key;        /* or NULL */
    uint16_t port;
    int is_name;      /* not an address: needs `names`, unless it is "localhost" */
    int is_loopback;  /* 127.0.0.0/8, ::1 or "localhost", as written */
    int is_keyed;     /* opened by upstream_target_open_keyed */
    SSL_CTX *tls;     /* NULL: http */
    struct evdns_base *names;
    struct target_address addresses[TARGET_MOST_ADDRESSES]; /* where no name has to be looked up */
    size_t address_count;
};

/* `url`: http or https, a host or address (IPv6 in brackets), a port where it is not 80 or 443, a path where the API is
 * below one; no user, query or fragment. `key` holds visible ASCII only. For https the certificate must be for that
 * host, by an authority of `ca_file` (PEM; NULL: the system's), over TLS 1.2 or later. */
int upstream_target_open(struct event_base *base, const char *url, const char *key, const char *ca_file,
                         struct upstream_target *target, bulla_error *error);
/* The same for a server that is known by its TLS key, whatever its certificate says and whoever signed it: https only,
 * over TLS 1.3 only, no session is ever resumed. The caller compares the key (client_connection_key) before it trusts
 * anything. */
int upstream_target_open_keyed(struct event_base *base, const char *url, const char *key, struct upstream_target *target,
                               bulla_error *error);
void upstream_target_close(struct upstream_target *target); /* a zeroed one is fine */

/* A new TLS client connection that accepts this host's certificate only; NULL with the error recorded. */
SSL *upstream_target_tls(const struct upstream_target *target, bulla_error *error);
/* With the target's port. 0 where the family is neither IPv4 nor IPv6. */
int target_address_set(struct target_address *address, const struct sockaddr *from, uint16_t port);

#endif
