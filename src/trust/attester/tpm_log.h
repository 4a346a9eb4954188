/* The firmware's event log, as the kernel gives it. */
#ifndef TRUST_ATTESTER_TPM_LOG_H
#define TRUST_ATTESTER_TPM_LOG_H

#include "base/buffer.h"
#include "trust/attester.h"

/* Where it is; NULL: there is none of this TPM, which is not the machine's own. */
const char *tpm_log_path(const struct attester_options *options);
/* Appends it. Nothing where the firmware does not measure, or only root may read it. BULLA_E_LIMIT: it is longer than
 * verifiers take (trust/evidence/tpm.h), and nothing of it is any good: the sentence says what evidence lacks without it. */
int tpm_log_read(const char *path, struct buffer *log, bulla_error *error);

#endif
