/* Chains of X.509 certificates that come with evidence: read, chained to a pinned root, judged at a given time, with the
 * revocation lists that came along. RFC 5280's path validation is libcrypto's; here are the pin, the exact order, and the
 * reasons in words. */
#ifndef TRUST_CERTIFICATES_H
#define TRUST_CERTIFICATES_H

#include <openssl/x509.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "trust/verdict.h"

enum { MOST_CERTIFICATES = 8 };

/* Certificates, the leaf first and the root last, and revocation lists in any order. Zero-initialise; certificates_free ends
 * it. */
struct certificates {
    X509 *list[MOST_CERTIFICATES];
    X509_CRL *crls[MOST_CERTIFICATES];
    size_t count, crl_count;
};

enum certificate_kind { CERTIFICATE, REVOCATION_LIST };

void certificates_free(struct certificates *certificates);
/* Appends what `bytes` hold: things of that kind in PEM one after another, or one in DER. */
int certificates_add(struct certificates *certificates, enum certificate_kind kind, const uint8_t *bytes, size_t length,
                     bulla_error *error);
/* The same for a string of JSON (PEM, or DER in base64), or a list of such. */
int certificates_add_json(struct certificates *certificates, enum certificate_kind kind, const struct json *value,
                          bulla_error *error);

enum revocation {
    REVOCATION_NONE,  /* the vendor publishes none that could be asked for */
    REVOCATION_GIVEN, /* by the lists that are there; a certificate that none covers is not judged */
    REVOCATION_ALL    /* each certificate needs a list of its issuer that is valid at the time */
};

/* What is demanded of a chain, and what the checks are called. */
struct chain_rules {
    const char *chain;      /* from the leaf to the root: order, signatures, times, authority, revocation */
    const char *root;       /* the last is a pinned root of the vendor */
    const char *vendor;
    enum revocation revocation;
    const char *crls;       /* REVOCATION_GIVEN: not made where certificates are not judged */
};

/* States these checks, judged at `time` (Unix seconds) with the revocation lists of `lists`; whether both passed. The
 * certificates are exactly the chain: one that is missing, doubled, out of order or not part of it is a failure. */
int certificates_verify(const struct certificates *chain, const struct certificates *lists, const struct chain_rules *rules,
                        int64_t time, struct verdict *verdict);
/* States whether the certificate's key is on P-384 (where `key_check` is given), and whether `numbers` (r and s of 48 bytes
 * each) are its signature of the bytes, by SHA-384. */
int certificate_check_p384(X509 *certificate, const char *key_check, const char *signature_check, const void *data,
                           size_t length, const uint8_t *numbers, struct verdict *verdict);

/* The content of an extension by its dotted OID (the octets inside the OCTET STRING), or NULL. The certificate's own. */
const uint8_t *certificate_extension(X509 *certificate, const char *oid, size_t *length);
/* Whether the subject's common name is exactly this. */
int certificate_is_named(X509 *certificate, const char *common_name);
/* "C=US, O=..., CN=..." of the verdict's arena. */
const char *certificate_subject(X509 *certificate, struct verdict *verdict);

#endif
