/* What ties evidence to a server: its keys, its models, its policy and the asker's nonce, all hashed into the evidence's
 * report data.
 *
 *     report data = SHA-512("bulla-evidence-v1" || canonical JSON of
 *         {"models": ROOT, "nonce": NONCE, "policy": HASH, "receipt_key": KEY, "tls_key": HASH})
 *
 * each in lower-case hex: ROOT is the Merkle root (RFC 6962) over the sorted model roots, NONCE 32 bytes (where many
 * askers share one quote: the root of the tree whose leaves are their nonces), KEY the Ed25519 public key that signs
 * receipts, tls_key the SHA-256 of the TLS certificate's SubjectPublicKeyInfo. Formats with 32 bytes of report data hold
 * the SHA-256 of those 64. */
#ifndef TRUST_BINDING_H
#define TRUST_BINDING_H

#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "bulla/error.h"
#include "trust/evidence.h"

enum { BINDING_BYTES = 32, MOST_MODELS = 256, REPORT_DATA_BYTES = 64 };

struct binding {
    uint8_t tls_key[BINDING_BYTES], receipt_key[BINDING_BYTES], policy[BINDING_BYTES], nonce[BINDING_BYTES];
    uint8_t models[MOST_MODELS][BINDING_BYTES]; /* sorted, none twice */
    size_t model_count;                         /* at least 1 */
};

/* {"tls_key": hex, "receipt_key": hex, "policy": hex, "nonce": hex, "models": [hex, ...]}; other members are errors. */
int binding_read(const struct json *value, struct binding *binding, bulla_error *error);
/* The same, canonical. */
void binding_write(const struct binding *binding, struct buffer *out);
/* The 64 bytes of report data. */
int binding_report_data(const struct binding *binding, uint8_t report_data[REPORT_DATA_BYTES], bulla_error *error);

/* What the asker knows beforehand, each NULL where it does not: the evidence must be bound to that. */
struct binding_expected {
    const uint8_t *tls_key, *receipt_key, *nonce, *model; /* BINDING_BYTES each */
    const struct json *nonce_path; /* from the asker's nonce to the binding's nonce: {"index", "count", "path": [hex]} */
};

/* "binding.*" checks: the document's binding hashes to the evidence's report data, and is what was expected. */
void binding_check(const struct evidence_format *format, const struct evidence *evidence,
                   const struct binding_expected *expected);

#endif
