/* Certificate hierarchies that tests make themselves, in the shape of a vendor's: keys, certificates with extensions of
 * any OID, revocation lists. Failing to make one fails the test. */
#ifndef TESTS_AUTHORITY_H
#define TESTS_AUTHORITY_H

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

/* "P-256", "P-384", "RSA-2048", "RSA-4096" or "Ed25519". EVP_PKEY_free. */
EVP_PKEY *authority_key(const char *kind);

struct authority_extension {
    const char *oid;
    const uint8_t *content; /* what lies in the OCTET STRING */
    size_t length;
    int is_critical;
};

/* What a certificate says. Zero members take the defaults. */
struct authority_certificate {
    const char *name;          /* common name */
    EVP_PKEY *key;             /* the subject's: its public half is certified */
    X509 *issuer;              /* NULL: self-signed */
    EVP_PKEY *issuer_key;      /* NULL: the subject's */
    int64_t from, until;       /* Unix seconds; 0: 2020-01-01 and 2040-01-01 */
    int is_authority;          /* basicConstraints CA:TRUE, keyCertSign and cRLSign */
    const char *constraints, *usage; /* basicConstraints and keyUsage otherwise, as "critical,CA:TRUE,pathlen:0"; "": none */
    int signs_with_pss;        /* RSASSA-PSS with SHA-384 */
    const char *digest;        /* NULL: SHA-384 for P-384 and RSA, SHA-256 for P-256 */
    int64_t serial;            /* 0: the next number */
    const struct authority_extension *extensions;
    size_t extension_count;
};

X509 *authority_issue(const struct authority_certificate *certificate); /* X509_free */

/* A revocation list of `issuer`, current from `from` until `until` (0: as above), with `count` revoked serials. */
X509_CRL *authority_revoke(X509 *issuer, EVP_PKEY *issuer_key, int64_t from, int64_t until, const int64_t *serials,
                           size_t count);

/* Makes the certificate a root of the vendor for this test binary (tests/trust_roots.h). */
void authority_trust(const char *vendor, X509 *root);
/* Appends PEM. */
void authority_write_pem(struct buffer *out, X509 *certificate);
void authority_write_crl_pem(struct buffer *out, X509_CRL *list);
/* DER, of the buffer's end. */
void authority_write_der(struct buffer *out, X509 *certificate);
void authority_write_crl_der(struct buffer *out, X509_CRL *list);

/* ECDSA over `data` as r || s, `size` bytes each, big-endian. */
void authority_sign_raw(EVP_PKEY *key, const char *digest, const void *data, size_t length, uint8_t *r_and_s, size_t size);
/* In the key's own encoding; *length holds the room and gets the length. */
void authority_sign(EVP_PKEY *key, const char *digest, const void *data, size_t length, uint8_t *signature,
                    size_t *signature_length);

#endif
