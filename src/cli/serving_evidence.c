#include "cli/serving_evidence.h"

#include <stdlib.h>

#include "base/file.h"
#include "base/memory.h"
#include "ops/preflight.h"
#include "trust/binding.h"
#include "trust/ra_tls.h"

enum { POLICY_BYTES = 1 << 20 };

int serving_make_receipt_key(EVP_PKEY **key, bulla_error *error)
{
    *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    return *key ? BULLA_OK : bulla_fail(error, BULLA_E_INTERNAL, "OpenSSL could not make the key of the receipts");
}

/* On the attestation's thread: the log takes lines from any. */
static void on_told(void *context, const struct attester *attester, enum attestation_event event,
                    const uint8_t hash[ATTESTATION_HASH], const char *reason)
{
    static const struct {
        enum log_level level;
        const char *event;
    } events[] = {[ATTESTATION_RENEWED] = {LOG_LEVEL_INFO, "evidence_renewed"},
                  [ATTESTATION_NOT_RENEWED] = {LOG_LEVEL_ERROR, "evidence_not_renewed"},
                  [ATTESTATION_NOT_QUOTED] = {LOG_LEVEL_ERROR, "evidence_not_quoted"},
                  [ATTESTATION_OLD_COLLATERAL] = {LOG_LEVEL_WARNING, "collateral_not_read"},
                  [ATTESTATION_LACKS] = {LOG_LEVEL_WARNING, "evidence_lacks"}};
    char hex[2 * ATTESTATION_HASH + 1];
    struct log_line line;
    log_line_begin(&line, context, events[event].level, events[event].event);
    log_line_text(&line, "attester", attester->is_simulated ? attester->title : attester->name);
    if (hash) {
        hex_encode(hash, ATTESTATION_HASH, hex);
        log_line_text(&line, "sha256", hex);
    }
    log_line_text(&line, "reason", reason);
    log_line_end(&line);
}

static int read_policy(const struct config *config, uint8_t **text, size_t *length, bulla_error *error)
{
    struct policy *policy;
    int code = file_read(config->policy, POLICY_BYTES, text, length, error);
    if (code != BULLA_OK)
        return code;
    code = policy_parse((const char *)*text, *length, config->policy, &policy, error);
    if (code != BULLA_OK)
        return code;
    code = preflight_check(policy, error);
    policy_free(policy);
    return code;
}

int serving_open_attestation(const struct config *config, const uint8_t *tls_key, EVP_PKEY *receipt_key,
                             struct models *models, struct log *log, struct attestation **attestation,
                             bulla_error *error)
{
    uint8_t key[BINDING_BYTES], roots[MOST_MODELS][BINDING_BYTES], *policy = NULL;
    size_t key_length = sizeof key;
    struct attestation_options options = {.attester = config->attester, .machine = config->attesting, .tls_key = tls_key,
                                          .receipt_key = key, .models = (const uint8_t(*)[32])roots,
                                          .collateral = config->collateral, .makes_extension = config->ra_tls, .told = on_told, .context = log};
    if (!options.attester && !attester_find(&config->attesting))
        options.attester = "none";
    if (config->ra_tls && (!tls_key || (options.attester && strcmp(options.attester, "none") == 0)))
        return bulla_fail(error, BULLA_E_USAGE, "--ra-tls puts evidence into the TLS certificate, and there is no %s",
                          tls_key ? "evidence: this server has no attester" : "TLS");
    setenv("TSS2_LOG", "all+none", 0); /* the TPM's library would print what the log says anyway */
    options.model_count = models_roots(models, roots, MOST_MODELS);
    int code = BULLA_OK;
    if (EVP_PKEY_get_raw_public_key(receipt_key, key, &key_length) != 1 || key_length != sizeof key)
        code = bulla_fail(error, BULLA_E_INTERNAL, "OpenSSL does not give the receipts' public key");
    if (code == BULLA_OK && config->policy)
        code = read_policy(config, &policy, &options.policy_length, error);
    options.policy = (const char *)policy;
    if (code == BULLA_OK)
        code = attestation_open(&options, attestation, error);
    memory_free(policy);
    return code;
}

int serving_attest_certificate(struct attestation *attestation, struct http_tls *tls, uint8_t shown[ATTESTATION_HASH],
                               struct log *log, bulla_error *error)
{
    uint8_t hash[ATTESTATION_HASH];
    char digest[65];
    struct buffer extension = {0};
    struct log_line line;
    int code = attestation_standing(attestation, hash, NULL, error);
    if (code != BULLA_OK || memcmp(hash, shown, ATTESTATION_HASH) == 0)
        return code;
    code = attestation_extension(attestation, &extension, error);
    if (code == BULLA_OK)
        code = tls_attest(tls, RA_TLS_OID, extension.data, extension.length, error);
    buffer_free(&extension);
    if (code != BULLA_OK)
        return code;
    memcpy(shown, hash, ATTESTATION_HASH);
    hex_encode(tls_certificate_digest(tls), 32, digest);
    log_line_begin(&line, log, LOG_LEVEL_INFO, "certificate_attested");
    if (attestation_is_simulated(attestation))
        log_line_text(&line, "attester", attestation_attester(attestation)->title);
    log_line_text(&line, "sha256", digest);
    log_line_end(&line);
    return BULLA_OK;
}
