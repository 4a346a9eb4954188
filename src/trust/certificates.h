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

enum { MOST_CERTIFICATES = 8, MOST_REVOCATION_LISTS = 8 };

/* Zero-initialise; certificates_free ends it. The leaf comes first, the root last. */
struct certificates {
    X509 *list[MOST_CERTIFICATES];
    size_t count;
};

struct revocation_lists {
    X509_CRL *list[MOST_REVOCATION_LISTS];
    size_t count;
};

void certificates_free(struct certificates *certificates);
void revocation_lists_free(struct revocation_lists *lists);

/* Appends what `bytes` hold: PEM certificates one after another, or one in DER. */
int certificates_add(struct certificates *certificates, const uint8_t *bytes, size_t length, bulla_error *error);
/* The same for a string of JSON (PEM, or DER in base64), or a list of such. */
int certificates_add_json(struct certificates *certificates, const struct json *value, bulla_error *error);
int revocation_lists_add(struct revocation_lists *lists, const uint8_t *bytes, size_t length, bulla_error *error);
int revocation_lists_add_json(struct revocation_lists *lists, const struct json *value, bulla_error *error);

enum revocation {
    REVOCATION_NONE,  /* the vendor publishes none that could be asked for */
    REVOCATION_GIVEN, /* by the lists that are there; a certificate that none covers is not judged */
    REVOCATION_ALL    /* each certificate needs a list of its issuer that is valid at the time */
};

/* What checks of a chain are called. */
struct chain_names {
    const char *chain;      /* from the leaf to the root: order, signatures, times, authority, revocation */
    const char *root;       /* the last is a pinned root of the vendor */
};

/* States both checks, judged at `time` (Unix seconds); whether both passed. The certificates are exactly the chain: one
 * that is missing, doubled, out of order or not part of it is a failure. */
int certificates_verify(const struct certificates *chain, const struct revocation_lists *lists, enum revocation revocation,
                        const char *vendor, int64_t time, const struct chain_names *names, struct verdict *verdict);

/* The content of an extension by its dotted OID (the octets inside the OCTET STRING), or NULL. The certificate's own. */
const uint8_t *certificate_extension(X509 *certificate, const char *oid, size_t *length);
/* Whether the subject's common name is exactly this. */
int certificate_is_named(X509 *certificate, const char *common_name);
/* "C=US, O=..., CN=..." of the verdict's arena. */
const char *certificate_subject(X509 *certificate, struct verdict *verdict);

#endif
