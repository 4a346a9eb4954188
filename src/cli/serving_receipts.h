/* The server's receipts: its log, its key, the evidence that binds the key. */
#ifndef CLI_SERVING_RECEIPTS_H
#define CLI_SERVING_RECEIPTS_H

#include "ops/config.h"
#include "serve/receipts_tlog.h"
#include "trust/attestation.h"

/* Opens the log (of the configuration's folder, or of `folder`) and what signs for it with `key`. Both stay NULL and zero
 * where the configuration wants none. Closed by receipts_tlog_close, then receipts_close. */
int serving_open_receipts(struct event_base *base, const struct config *config, const char *folder, EVP_PKEY *key,
                          struct attestation *attestation, struct receipts_log *log, struct receipts **receipts,
                          bulla_error *error);
/* Whether they are to be logged in the folder of the server's state. */
int serving_keeps_receipts_in_state(const struct config *config);

#endif
