#include "serve/upstream_target.h"

#include <arpa/inet.h>
#include <event2/dns.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"

enum { MOST_URL_BYTES = 2000, MOST_NAME_BYTES = 253, MOST_KEY_BYTES = 4000 };

int target_address_set(struct target_address *address, const struct sockaddr *from, uint16_t port)
{
    memset(address, 0, sizeof *address);
    if (from->sa_family == AF_INET) {
        struct sockaddr_in *v4 = (struct sockaddr_in *)&address->address;
        memcpy(v4, from, sizeof *v4);
        v4->sin_port = htons(port);
        address->length = sizeof *v4;
    } else if (from->sa_family == AF_INET6) {
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&address->address;
        memcpy(v6, from, sizeof *v6);
        v6->sin6_port = htons(port);
        address->length = sizeof *v6;
    }
    return address->length != 0;
}

static void add_v4(struct upstream_target *target, struct in_addr host)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr = host};
    target_address_set(&target->addresses[target->address_count++], (struct sockaddr *)&v4, target->port);
}

static void add_v6(struct upstream_target *target, struct in6_addr host)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = host};
    target_address_set(&target->addresses[target->address_count++], (struct sockaddr *)&v6, target->port);
}

static int is_host_name(const char *name)
{
    size_t length = strlen(name);
    if (length == 0 || length > MOST_NAME_BYTES || name[0] == '-' || name[0] == '.')
        return 0;
    return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") == length;
}

/* What the host is: an address as it stands, or a name. Only what is written counts as loopback: a name that some
 * resolver turns into 127.0.0.1 does not. */
static int read_host(struct upstream_target *target, int is_bracketed, bulla_error *error)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (is_bracketed) {
        if (inet_pton(AF_INET6, target->host, &v6) != 1)
            return bulla_fail(error, BULLA_E_USAGE, "upstream URL: [%s] is no IPv6 address", target->host);
        add_v6(target, v6);
        target->is_loopback = IN6_IS_ADDR_LOOPBACK(&v6);
        return BULLA_OK;
    }
    if (inet_pton(AF_INET, target->host, &v4) == 1) {
        add_v4(target, v4);
        target->is_loopback = ntohl(v4.s_addr) >> 24 == 127;
        return BULLA_OK;
    }
    if (!is_host_name(target->host))
        return bulla_fail(error, BULLA_E_USAGE, "upstream URL: \"%.300s\" is no host name or address", target->host);
    target->is_name = 1;
    if (strcasecmp(target->host, "localhost") == 0) {
        add_v4(target, (struct in_addr){htonl(INADDR_LOOPBACK)});
        add_v6(target, in6addr_loopback);
        target->is_loopback = 1;
    }
    return BULLA_OK;
}

/* Digits up to `end`; 0 where they are no port. */
static uint16_t read_port(const char *text, const char *end)
{
    uint32_t port = 0;
    if (text == end || end - text > 5)
        return 0;
    for (; text < end; text++) {
        if (*text < '0' || *text > '9')
            return 0;
        port = port * 10 + (uint32_t)(*text - '0');
    }
    return port <= 65535 ? (uint16_t)port : 0;
}

/* The path without the slash and the "/v1" that may end it: what people are used to give as a base URL has it. */
static int read_prefix(struct upstream_target *target, const char *path, bulla_error *error)
{
    size_t length = strlen(path);
    for (size_t i = 0; i < length; i++)
        if (path[i] <= ' ' || path[i] >= 0x7F || strchr("?#\"\\<>", path[i]))
            return bulla_fail(error, BULLA_E_USAGE,
                              "upstream URL: its path has a character that does not belong there (byte %zu); a query "
                              "or "
                              "fragment cannot be given",
                              i);
    while (length > 0 && path[length - 1] == '/')
        length--;
    if (length >= 3 && memcmp(path + length - 3, "/v1", 3) == 0)
        length -= 3;
    target->prefix = memory_copy_text(path, length, error);
    return target->prefix ? BULLA_OK : error->code;
}

static int read_url(struct upstream_target *target, const char *url, int *is_tls, bulla_error *error)
{
    *is_tls = strncasecmp(url, "https://", 8) == 0;
    if ((!*is_tls && strncasecmp(url, "http://", 7) != 0) || strlen(url) > MOST_URL_BYTES)
        return bulla_fail(error, BULLA_E_USAGE, "upstream URL \"%.300s\": expected http://HOST:PORT or https://HOST",
                          url);
    const char *start = url + (*is_tls ? 8 : 7), *path = start + strcspn(start, "/?#");
    if (memchr(start, '@', (size_t)(path - start)))
        return bulla_fail(error, BULLA_E_USAGE, "upstream URL: it names a user; give the key as a setting of its own");
    int is_bracketed = *start == '[';
    const char *host = start + is_bracketed, *end = memchr(host, is_bracketed ? ']' : ':', (size_t)(path - host));
    if (is_bracketed && !end)
        return bulla_fail(error, BULLA_E_USAGE, "upstream URL \"%.300s\": '[' without ']'", url);
    const char *host_end = end ? end : path, *after = host_end + is_bracketed;
    target->port = *is_tls ? 443 : 80;
    if (after < path) {
        target->port = *after == ':' ? read_port(after + 1, path) : 0;
        if (target->port == 0)
            return bulla_fail(error, BULLA_E_USAGE, "upstream URL \"%.300s\": expected a port of 1 to 65535", url);
    }
    target->host = memory_copy_text(host, (size_t)(host_end - host), error);
    target->authority = memory_copy_text(start, (size_t)(path - start), error);
    if (!target->host || !target->authority || read_prefix(target, path, error) != BULLA_OK)
        return error->code;
    return read_host(target, is_bracketed, error);
}

static int read_key(struct upstream_target *target, const char *key, bulla_error *error)
{
    size_t length = strlen(key);
    for (size_t i = 0; i < length; i++)
        if (key[i] < '!' || key[i] > '~')
            return bulla_fail(error, BULLA_E_USAGE, "upstream key: byte %zu is not a visible ASCII character", i);
    if (length == 0 || length > MOST_KEY_BYTES)
        return bulla_fail(error, BULLA_E_USAGE, "upstream key: it has %zu bytes, expected 1 to %d", length,
                          MOST_KEY_BYTES);
    target->key = memory_copy_text(key, length, error);
    return target->key ? BULLA_OK : error->code;
}

static int open_tls(struct upstream_target *target, const char *ca_file, bulla_error *error)
{
    target->tls = SSL_CTX_new(TLS_client_method());
    if (!target->tls || SSL_CTX_set_min_proto_version(target->tls, TLS1_2_VERSION) != 1) {
        ERR_clear_error();
        return bulla_fail(error, BULLA_E_INTERNAL, "upstream: OpenSSL gave no TLS client");
    }
    SSL_CTX_set_verify(target->tls, SSL_VERIFY_PEER, NULL);
    int found = ca_file ? SSL_CTX_load_verify_locations(target->tls, ca_file, NULL)
                        : SSL_CTX_set_default_verify_paths(target->tls);
    if (found != 1) {
        ERR_clear_error();
        return bulla_fail(error, BULLA_E_INPUT, "%s: it holds no certificates in PEM form that could be read",
                          ca_file ? ca_file : "the system's certificate store");
    }
    return BULLA_OK;
}

static int open_keyed_tls(struct upstream_target *target, bulla_error *error)
{
    target->tls = SSL_CTX_new(TLS_client_method());
    if (!target->tls || SSL_CTX_set_min_proto_version(target->tls, TLS1_3_VERSION) != 1) {
        ERR_clear_error();
        return bulla_fail(error, BULLA_E_INTERNAL, "OpenSSL gave no TLS 1.3 client");
    }
    SSL_CTX_set_verify(target->tls, SSL_VERIFY_NONE, NULL); /* TLS itself still shows that the server has the key */
    SSL_CTX_set_session_cache_mode(target->tls, SSL_SESS_CACHE_OFF);
    return BULLA_OK;
}

static int open_target(struct event_base *base, const char *url, const char *key, const char *ca_file, int is_keyed,
                       struct upstream_target *target, bulla_error *error)
{
    bulla_error own = {0};
    int is_tls = 0;
    memset(target, 0, sizeof *target);
    target->base = base;
    target->is_keyed = is_keyed;
    if (read_url(target, url, &is_tls, &own) == BULLA_OK && key)
        read_key(target, key, &own);
    if (own.code == BULLA_OK && is_keyed && !is_tls)
        bulla_fail(&own, BULLA_E_USAGE, "\"%.300s\": expected https://HOST:PORT: evidence vouches for a TLS key", url);
    if (own.code == BULLA_OK && is_keyed)
        open_keyed_tls(target, &own);
    else if (own.code == BULLA_OK && is_tls)
        open_tls(target, ca_file, &own);
    if (own.code == BULLA_OK && target->address_count == 0) {
        target->names = evdns_base_new(base, EVDNS_BASE_INITIALIZE_NAMESERVERS | EVDNS_BASE_DISABLE_WHEN_INACTIVE);
        if (!target->names)
            bulla_fail(&own, BULLA_E_IO, "upstream URL: %s cannot be looked up: the system's resolver settings "
                       "(/etc/resolv.conf) could not be used", target->host);
    }
    if (own.code != BULLA_OK) {
        upstream_target_close(target);
        return bulla_fail(error, own.code, "%s", own.text);
    }
    return BULLA_OK;
}

int upstream_target_open(struct event_base *base, const char *url, const char *key, const char *ca_file,
                         struct upstream_target *target, bulla_error *error)
{
    return open_target(base, url, key, ca_file, 0, target, error);
}

int upstream_target_open_keyed(struct event_base *base, const char *url, const char *key, struct upstream_target *target,
                               bulla_error *error)
{
    return open_target(base, url, key, NULL, 1, target, error);
}

void upstream_target_close(struct upstream_target *target)
{
    if (target->names)
        evdns_base_free(target->names, 1);
    SSL_CTX_free(target->tls);
    if (target->key)
        memory_wipe(target->key, strlen(target->key));
    memory_free(target->key);
    memory_free(target->host);
    memory_free(target->authority);
    memory_free(target->prefix);
    memset(target, 0, sizeof *target);
}

SSL *upstream_target_tls(const struct upstream_target *target, bulla_error *error)
{
    SSL *tls = SSL_new(target->tls);
    X509_VERIFY_PARAM *check = tls ? SSL_get0_param(tls) : NULL;
    int done = 0;
    if (check && target->is_keyed) {
        done = !target->is_name || SSL_set_tlsext_host_name(tls, target->host) == 1;
    } else if (check && target->is_name) {
        X509_VERIFY_PARAM_set_hostflags(check, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        done = X509_VERIFY_PARAM_set1_host(check, target->host, 0) == 1 &&
               SSL_set_tlsext_host_name(tls, target->host) == 1;
    } else if (check) {
        done = X509_VERIFY_PARAM_set1_ip_asc(check, target->host) == 1;
    }
    if (done)
        return tls;
    SSL_free(tls);
    ERR_clear_error();
    bulla_fail(error, BULLA_E_MEMORY, "upstream: OpenSSL gave no TLS connection");
    return NULL;
}
