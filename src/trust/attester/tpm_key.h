/* The attestation key of a TPM: which one it is, what it looks like, what certifies it. */
#ifndef TRUST_ATTESTER_TPM_KEY_H
#define TRUST_ATTESTER_TPM_KEY_H

#include <tss2/tss2_esys.h>

#include "base/buffer.h"
#include "bulla/error.h"

/* BULLA_OK for TSS2_RC_SUCCESS, else BULLA_E_IO with what was tried and the TPM's own words. */
int tpm_result(TSS2_RC result, const char *what, bulla_error *error);
/* A handle such as "0x81010001", of hex or decimal digits. */
int tpm_read_handle(const char *text, const char *what, TPM2_HANDLE *handle, bulla_error *error);

/* Makes the primary key of a fixed template in the endorsement hierarchy: a restricted signing key (ECDSA on P-256 with
 * SHA-256). The same TPM gives the same key each time, until its endorsement seed changes. */
int tpm_key_make(ESYS_CONTEXT *esys, ESYS_TR *key, bulla_error *error);
/* The persistent one of that handle. */
int tpm_key_find(ESYS_CONTEXT *esys, TPM2_HANDLE handle, ESYS_TR *key, bulla_error *error);

/* Its TPMT_PUBLIC, and the same as a public key in PEM. */
int tpm_key_describe(ESYS_CONTEXT *esys, ESYS_TR key, struct buffer *public_area, struct buffer *pem, bulla_error *error);
/* A certificate in DER from an index of the TPM's memory, without what follows it there. */
int tpm_read_certificate(ESYS_CONTEXT *esys, TPM2_HANDLE index, struct buffer *der, bulla_error *error);

#endif
