/* TLS 1.3 for the server: a certificate and key from files, or self-made at the first start and kept. */
#ifndef SERVE_TLS_H
#define SERVE_TLS_H

#include <stddef.h>
#include <stdint.h>

#include "bulla/error.h"

struct http_tls;
struct ssl_ctx_st; /* OpenSSL's SSL_CTX */

/* PEM files: the chain, leaf first, and its private key without a password. */
int tls_open(const char *certificate_path, const char *key_path, struct http_tls **tls, bulla_error *error);
/* Host names or addresses that a certificate is to have. */
struct tls_names {
    const char *host;         /* this machine's, for a certificate that is made, where it can be in one; NULL: none */
    const char *const *names; /* one without these is made again, and has its earlier names too */
    size_t count;
};

/* The same from a folder's certificate.pem and key.pem, which are made first where they are not there: ECDSA P-256,
 * self-signed, ten years, for localhost, 127.0.0.1, ::1 and `names`; the key readable by its owner only, written so that
 * a stop in between leaves none or both (made again where only one is there). The folder is made where only it is
 * missing; of several processes that start at once one makes the files. */
int tls_open_folder(const char *folder, const struct tls_names *names, struct http_tls **tls, bulla_error *error);
/* Puts evidence into the certificate that connections get from now on: a copy with that extension (dotted OID, not critical)
 * and a serial number of its own, signed by the same key. What lies in files stays as it is; clients that take that
 * certificate as their CA do not know this one. BULLA_E_USAGE where another authority signed the server's. */
int tls_attest(struct http_tls *tls, const char *oid, const void *content, size_t length, bulla_error *error);
int tls_was_made(const struct http_tls *tls); /* tls_open_folder made its pair */
void tls_close(struct http_tls *tls); /* NULL is fine */
/* SHA-256 of the key's SubjectPublicKeyInfo, and of the certificate. */
const uint8_t *tls_key_digest(const struct http_tls *tls);
const uint8_t *tls_certificate_digest(const struct http_tls *tls);
/* What connections are made from, for this layer. */
struct ssl_ctx_st *tls_context(const struct http_tls *tls);

#endif
