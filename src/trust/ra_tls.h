/* RA-TLS: evidence in a TLS certificate, which binds the certificate's key, so that whoever sees the certificate in a
 * handshake knows whom it talks to. Read here in three forms:
 *
 *   interoperable  extension 2.23.133.5.4.9 (TCG DICE, tagged evidence), by the Confidential Computing Consortium's
 *                  "Interoperable RA-TLS": 60000([quote, claims]) in CBOR. `claims` is a byte string with the map
 *                  {"pubkey-hash": bytes of [algorithm, hash], "nonce": bytes (optional)}; the report data are its
 *                  SHA-256 and zeros, the hash that of the certificate's SubjectPublicKeyInfo
 *   Gramine's own  extension 0.6.9.42.840.113741.1337.6: the quote; the report data are the SHA-256 of the
 *                  SubjectPublicKeyInfo and zeros
 *   a document     extension 2.23.133.5.4.9 with a conceptual message wrapper (draft-ietf-rats-msg-wrap) in CBOR:
 *                  [RA_TLS_MEDIA_TYPE, bytes of a document of trust/evidence.h], bound as trust/binding.h says
 *
 * Where a certificate has both extensions the first counts. */
#ifndef TRUST_RA_TLS_H
#define TRUST_RA_TLS_H

#include <openssl/x509.h>

#include "trust/binding.h"
#include "trust/cbor.h"

#define RA_TLS_MEDIA_TYPE "application/vnd.bulla.evidence+json"
#define RA_TLS_OID "2.23.133.5.4.9"
#define RA_TLS_GRAMINE_OID "0.6.9.42.840.113741.1337.6"

enum { RA_TLS_QUOTE_TAG = 60000, RA_TLS_MOST_BYTES = 1 << 20 };

struct ra_tls {
    X509 *certificate;
    enum ra_tls_form { RA_TLS_INTEROPERABLE, RA_TLS_GRAMINE, RA_TLS_DOCUMENT } form;
    uint8_t key[BINDING_BYTES];    /* SHA-256 of the SubjectPublicKeyInfo */
    const uint8_t *evidence;       /* the quote, or the document */
    size_t evidence_length;
    const uint8_t *claims;         /* RA_TLS_INTEROPERABLE: the bytes that are hashed */
    size_t claims_length;
};

/* Whether bytes are a certificate, not a document of JSON. */
int ra_tls_is_certificate(const char *bytes, size_t length);

/* Reads a certificate, PEM or DER; whether there is evidence in it. States "ra_tls.certificate" and "ra_tls.evidence".
 * ra_tls_close ends it in either case; what it points at is the certificate's or the verdict's. */
int ra_tls_open(const char *bytes, size_t length, struct ra_tls *ra_tls, struct verdict *verdict);
void ra_tls_close(struct ra_tls *ra_tls);

/* The evidence as a document; `collateral` (an object of JSON with more members, as an Intel quote's) may be NULL. */
void ra_tls_write_document(const struct ra_tls *ra_tls, const struct json *collateral, struct buffer *out);

/* "ra_tls.*" checks: the verified evidence vouches for the certificate's key, and that is what was expected. */
void ra_tls_check(const struct ra_tls *ra_tls, const struct evidence *evidence, const struct binding_expected *expected);

#endif
