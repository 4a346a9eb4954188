/* The parts of a server that evidence binds together: the key of its receipts, its policy, its attestation. */
#ifndef CLI_SERVING_EVIDENCE_H
#define CLI_SERVING_EVIDENCE_H

#include <openssl/evp.h>

#include "ops/config.h"
#include "ops/log.h"
#include "serve/tls.h"
#include "trust/attestation.h"

/* An Ed25519 key that is never written anywhere: it ends with the process. EVP_PKEY_free ends it. */
int serving_make_receipt_key(EVP_PKEY **key, bulla_error *error);

/* The attestation of a server that serves these models; the machine is looked at as the policy demands. `tls_key` NULL: no
 * TLS. `log` may be NULL, and outlives it, as the configuration does. */
int serving_open_attestation(const struct config *config, const uint8_t *tls_key, EVP_PKEY *receipt_key,
                             struct models *models, struct log *log, struct attestation **attestation,
                             bulla_error *error);

/* Puts the newest standing evidence into the certificate where it is another than `shown`, which then is its hash. */
int serving_attest_certificate(struct attestation *attestation, struct http_tls *tls, uint8_t shown[ATTESTATION_HASH],
                               struct log *log, bulla_error *error);

#endif
