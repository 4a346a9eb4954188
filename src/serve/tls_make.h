/* A server's own certificate, made at its first start. */
#ifndef SERVE_TLS_MAKE_H
#define SERVE_TLS_MAKE_H

#include "base/buffer.h"

struct x509_st; /* OpenSSL's X509 */
struct evp_pkey_st;

/* Both in PEM. ECDSA on P-256, since not every client takes Ed25519; self-signed for localhost, 127.0.0.1, ::1, `names`
 * (host names or addresses) and the names of `before` (NULL: none). Wipe and free the key. */
int tls_make(const char *const *names, size_t count, const struct x509_st *before, struct buffer *certificate,
             struct buffer *key, bulla_error *error);
/* A copy of a self-signed certificate with one more extension, which is not critical, and another serial number, signed by
 * its key; NULL with the error recorded. X509_free. */
struct x509_st *tls_extend(struct x509_st *certificate, struct evp_pkey_st *key, const char *oid, const void *content, size_t length,
                          bulla_error *error);
/* Whether it is a host name (letters, digits, '-', '.') or an address. */
int tls_is_name(const char *name);
/* Whether a client that wants to reach `name` takes the certificate. */
int tls_has_name(struct x509_st *certificate, const char *name);
/* What OpenSSL says, behind a sentence of ours; forgets its errors. */
int tls_fail(bulla_error *error, const char *what);

#endif
