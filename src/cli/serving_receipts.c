#include "cli/serving_receipts.h"

#include <string.h>

#include "cli/state_folder.h"

static int standing(void *context, uint8_t hash[RECEIPT_HASH], uint8_t policy[RECEIPT_HASH], int *is_simulated,
                    bulla_error *error)
{
    struct attestation *attestation = context;
    memcpy(policy, attestation_policy_hash(attestation), RECEIPT_HASH);
    *is_simulated = attestation_is_simulated(attestation);
    return attestation_attester(attestation) ? attestation_standing(attestation, hash, NULL, error) : BULLA_OK;
}

static int find(void *context, const uint8_t hash[RECEIPT_HASH], struct buffer *document, int *is_found, bulla_error *error)
{
    bulla_error why = {0};
    int code = attestation_find(context, hash, document, &why);
    *is_found = code == BULLA_OK;
    return code == BULLA_OK || code == BULLA_E_INPUT || code == BULLA_E_UNSUPPORTED
               ? BULLA_OK
               : bulla_fail(error, code, "%s", why.text);
}

int serving_keeps_receipts_in_state(const struct config *config)
{
    return !config->receipts;
}

int serving_open_receipts(struct event_base *base, const struct config *config, const char *folder, EVP_PKEY *key,
                          struct attestation *attestation, struct receipts_log *log, struct receipts **receipts,
                          bulla_error *error)
{
    if (config->receipts && strcmp(config->receipts, "none") == 0)
        return BULLA_OK;
    if (config->receipts)
        folder = config->receipts;
    int code = state_folder_check(folder, error);
    if (code == BULLA_OK)
        code = receipts_tlog_open(folder, config->receipts_origin, log, error);
    struct receipts_options options = {.key = key, .log = *log};
    if (attestation)
        options.evidence = (struct receipts_evidence){.context = attestation, .standing = standing, .find = find};
    return code == BULLA_OK ? receipts_open(base, &options, receipts, error) : code;
}
