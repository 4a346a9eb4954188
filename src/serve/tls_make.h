/* A server's own certificate, made at its first start. */
#ifndef SERVE_TLS_MAKE_H
#define SERVE_TLS_MAKE_H

#include "base/buffer.h"

/* Both in PEM. ECDSA on P-256, since not every client takes Ed25519; self-signed for localhost, 127.0.0.1, ::1 and
 * `name`, a host name or an address, or NULL. Wipe and free the key. */
int tls_make(const char *name, struct buffer *certificate, struct buffer *key, bulla_error *error);
/* What OpenSSL says, behind a sentence of ours; forgets its errors. */
int tls_fail(bulla_error *error, const char *what);

#endif
