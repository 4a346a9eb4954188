/* The extension of a TLS certificate with evidence in it, as trust/ra_tls.h reads it. */
#ifndef TRUST_RA_TLS_WRITE_H
#define TRUST_RA_TLS_WRITE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

/* The claims of interoperable RA-TLS about a key, of which there is the SHA-256 of the SubjectPublicKeyInfo. */
void ra_tls_write_claims(const uint8_t key[32], struct buffer *claims);
/* 60000([quote, claims]) */
void ra_tls_write_tagged(const void *quote, size_t quote_length, const struct buffer *claims, struct buffer *extension);
/* [media type, document] */
void ra_tls_write_wrapped(const void *document, size_t length, struct buffer *extension);

#endif
