/* `bulla verify`: evidence and receipts checked offline. */
#include <stddef.h>
#include <string.h>

#include "base/buffer.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "bulla/verify.h"
#include "cli/verb.h"
#include "cli/verdicts.h"
#include "cli/verify_dispute.h"

struct verify_choice {
    const char *collateral, *policy, *time, *tls_key, *receipt_key, *nonce, *model, *evidence, *request, *parameters,
        *dispute, *referee_key;
    struct option_texts log_keys;
    uint64_t witnesses;
    int as_json;
};

static const struct option_spec options[] = {
    {"policy", 'p', OPTION_TEXT, offsetof(struct verify_choice, policy), "FILE",
     "what is accepted (docs/policy.md); without one nothing is required and nothing is verified", 0, 0},
    {"collateral", 0, OPTION_TEXT, offsetof(struct verify_choice, collateral), "FILE",
     "of a certificate's evidence: JSON with what it needs beside it, {\"collateral\": {...}}", 0, 0},
    {"json", 0, OPTION_FLAG, offsetof(struct verify_choice, as_json), NULL, "the verdict as JSON", 0, 0},
    {"time", 0, OPTION_TEXT, offsetof(struct verify_choice, time), "TIME",
     "when it is judged, as 2026-01-31 or 2026-01-31T12:00:00Z; default: now, of a receipt when it was signed", 0, 0},
    {"tls-key", 0, OPTION_TEXT, offsetof(struct verify_choice, tls_key), "HEX",
     "SHA-256 of the public key of the server's TLS certificate, to which it must be bound", 0, 0},
    {"receipt-key", 0, OPTION_TEXT, offsetof(struct verify_choice, receipt_key), "HEX",
     "key of the receipts, to which it must be bound", 0, 0},
    {"nonce", 0, OPTION_TEXT, offsetof(struct verify_choice, nonce), "HEX", "nonce that the evidence was asked for with", 0, 0},
    {"model", 0, OPTION_TEXT, offsetof(struct verify_choice, model), "HEX", "root of the model that must be among its models",
     0, 0},
    {"evidence", 0, OPTION_TEXT, offsetof(struct verify_choice, evidence), "FILE",
     "of a receipt: the evidence, where it is not in its document", 0, 0},
    {"request", 0, OPTION_TEXT, offsetof(struct verify_choice, request), "FILE",
     "of a receipt: the body of the request that it must be for", 0, 0},
    {"parameters", 0, OPTION_TEXT, offsetof(struct verify_choice, parameters), "JSON",
     "of a receipt: parameters that it must have, such as '{\"temperature\":0}'", 0, 0},
    {"dispute", 0, OPTION_TEXT, offsetof(struct verify_choice, dispute), "FILE",
     "of a receipt: what a referee of disputes says of its answer (docs/dispute.md), which must be final", 0, 0},
    {"referee-key", 0, OPTION_TEXT, offsetof(struct verify_choice, referee_key), "KEY", "that referee's key", 0, 0},
    {"log-key", 0, OPTION_TEXTS, offsetof(struct verify_choice, log_keys), "KEY",
     "of a receipt: verifier key of the log that has it, then those of witnesses", 0, 0},
    {"witnesses", 0, OPTION_INTEGER, offsetof(struct verify_choice, witnesses), "N",
     "of a receipt: so many of these witnesses must have cosigned; default 0", 0, BULLA_MOST_LOG_KEYS},
};

enum { MOST_READ = 1 << 30 }; /* bytes of memory for a look at the file, as a receipt may take */

/* NULL with the error recorded where the text is no 32 bytes in hex; `text` NULL: nothing was given. */
static int read_key(const char *text, const char *option, uint8_t bytes[BULLA_BINDING_BYTES], const uint8_t **given,
                    bulla_error *error)
{
    *given = NULL;
    if (!text)
        return BULLA_OK;
    if (!hex_decode(text, strlen(text), bytes, BULLA_BINDING_BYTES))
        return bulla_fail(error, BULLA_E_USAGE, "--%s is not %d bytes in hex", option, BULLA_BINDING_BYTES);
    *given = bytes;
    return BULLA_OK;
}

static int read_options(const struct verify_choice *chosen, uint8_t keys[4][BULLA_BINDING_BYTES],
                        bulla_evidence_options *wanted, bulla_error *error)
{
    int code = verdicts_read_time(chosen->time, &wanted->time, error);
    if (code == BULLA_OK)
        code = read_key(chosen->tls_key, "tls-key", keys[0], &wanted->tls_key, error);
    if (code == BULLA_OK)
        code = read_key(chosen->receipt_key, "receipt-key", keys[1], &wanted->receipt_key, error);
    if (code == BULLA_OK)
        code = read_key(chosen->nonce, "nonce", keys[2], &wanted->nonce, error);
    return code == BULLA_OK ? read_key(chosen->model, "model", keys[3], &wanted->model, error) : code;
}

/* Files that belong to a receipt; what was read is the caller's, also after an error. */
struct receipt_files {
    uint8_t *evidence, *request;
};

static int read_receipt_options(const struct verify_choice *chosen, const bulla_evidence_options *wanted,
                                struct receipt_files *files, bulla_receipt_options *receipt, bulla_error *error)
{
    size_t length = 0;
    int code = BULLA_OK;
    *receipt = (bulla_receipt_options){.evidence = *wanted, .log_keys = chosen->log_keys.texts,
                                       .log_key_count = chosen->log_keys.count, .witnesses = chosen->witnesses,
                                       .parameters = chosen->parameters,
                                       .parameters_length = chosen->parameters ? strlen(chosen->parameters) : 0};
    if (!chosen->time)
        receipt->evidence.time = 0;
    if (chosen->receipt_key || chosen->model)
        return bulla_fail(error, BULLA_E_USAGE, "--receipt-key and --model are for evidence: a receipt says both itself; a policy "
                                                "says which models are accepted");
    if (chosen->evidence)
        code = file_read(chosen->evidence, VERDICTS_LARGEST_DOCUMENT, &files->evidence, &receipt->evidence_length, error);
    if (code == BULLA_OK && chosen->request)
        code = file_read(chosen->request, VERDICTS_LARGEST_DOCUMENT, &files->request, &length, error);
    receipt->evidence_document = (const char *)files->evidence;
    receipt->request = files->request;
    receipt->request_length = length;
    return code;
}

static int verify_receipt(const char *document, size_t length, const struct verify_choice *chosen,
                          const bulla_evidence_options *wanted, bulla_verdict **verdict, bulla_error *error)
{
    struct receipt_files files = {0};
    bulla_receipt_options receipt;
    int code = read_receipt_options(chosen, wanted, &files, &receipt, error);
    if (code == BULLA_OK)
        code = bulla_verify_receipt(document, length, &receipt, verdict, error);
    if (code == BULLA_OK && chosen->dispute) {
        code = verify_dispute(*verdict, document, length, chosen->dispute, chosen->referee_key, error);
        if (code != BULLA_OK)
            bulla_verdict_free(*verdict);
    }
    memory_free(files.evidence);
    memory_free(files.request);
    return code;
}

/* What is asked of a receipt, nothing else can answer. */
static int refuse_receipt_options(const struct verify_choice *chosen, bulla_error *error)
{
    const char *given = chosen->evidence        ? "evidence"
                        : chosen->request       ? "request"
                        : chosen->parameters    ? "parameters"
                        : chosen->dispute       ? "dispute"
                        : chosen->referee_key   ? "referee-key"
                        : chosen->log_keys.count ? "log-key"
                        : chosen->witnesses     ? "witnesses"
                                                : NULL;
    return given ? bulla_fail(error, BULLA_E_INPUT, "it is no receipt, and --%s asks something of one", given) : BULLA_OK;
}

/* What is no JSON is told by whoever verifies it. */
static int is_receipt(const char *document, size_t length)
{
    struct arena arena = {.limit = MOST_READ};
    int is = json_get(json_parse(document, length, "", &arena, NULL), "bulla_receipt") != NULL;
    arena_free(&arena);
    return is;
}

static int verify_file(const char *path, const char *policy, size_t policy_length, const struct verify_choice *chosen,
                       bulla_error *error)
{
    uint8_t keys[4][BULLA_BINDING_BYTES], *document, *collateral = NULL;
    size_t length;
    bulla_evidence_options wanted = {.policy = policy, .policy_length = policy_length};
    bulla_verdict *verdict;
    int code = read_options(chosen, keys, &wanted, error);
    if (code == BULLA_OK && chosen->collateral)
        code = file_read(chosen->collateral, VERDICTS_LARGEST_DOCUMENT, &collateral, &wanted.collateral_length, error);
    wanted.collateral = (const char *)collateral;
    if (code == BULLA_OK)
        code = file_read(path, VERDICTS_LARGEST_DOCUMENT, &document, &length, error);
    if (code != BULLA_OK) {
        memory_free(collateral);
        return code;
    }
    if (is_receipt((const char *)document, length))
        code = verify_receipt((const char *)document, length, chosen, &wanted, &verdict, error);
    else if ((code = refuse_receipt_options(chosen, error)) == BULLA_OK)
        code = bulla_verify_evidence((const char *)document, length, &wanted, &verdict, error);
    memory_free(document);
    memory_free(collateral);
    if (code != BULLA_OK)
        return bulla_fail_prefix(error, "%s", path);
    code = verdicts_print(verdict, chosen->as_json, error);
    int has_passed = bulla_verdict_passed(verdict);
    bulla_verdict_free(verdict);
    if (code == BULLA_OK && !has_passed)
        code = bulla_fail(error, BULLA_E_INPUT, "%s is not verified", path);
    return code;
}

static int run(const struct verb *verb, int argc, char **argv, bulla_error *error)
{
    struct verify_choice chosen = {0};
    uint8_t *policy = NULL;
    size_t policy_length = 0;
    int others;
    int code = verb_parse(verb, argc, argv, &chosen, &others, error);
    if (code == BULLA_OK && chosen.policy)
        code = file_read(chosen.policy, VERDICTS_LARGEST_DOCUMENT, &policy, &policy_length, error);
    if (code == BULLA_OK)
        code = verify_file(argv[0], (const char *)policy, policy_length, &chosen, error);
    memory_free(policy);
    return code;
}

const struct verb verb_verify = {
    .name = "verify",
    .summary = "check evidence or a receipt against a policy, offline",
    .arguments = "FILE --policy FILE",
    .details = "FILE is a document of evidence, a TLS certificate that holds some (RA-TLS), or a receipt.\n"
               "Prints every check as pass, fail or not checked, with what was found and expected. The exit\n"
               "status is 0 only where all that the policy requires was checked and passed. docs/evidence.md\n"
               "and docs/receipt.md say more.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .minimum_arguments = 1,
    .maximum_arguments = 1,
    .run = run,
};
