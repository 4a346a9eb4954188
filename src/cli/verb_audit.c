/* `bulla audit`: an answer computed again, and compared with its receipt. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "cli/auditing.h"
#include "cli/verb.h"
#include "cli/verdicts.h"

struct audit_choice {
    const char *model, *request, *policy, *evidence, *time;
    struct option_texts log_keys;
    uint64_t witnesses, threads;
    int as_json, timing;
};

static const struct option_spec options[] = {
    {"model", 'm', OPTION_TEXT, offsetof(struct audit_choice, model), "FILE",
     "the model to compute with: a model file, GGUF file or safetensors folder, as `bulla run` takes it", 0, 0},
    {"request", 'r', OPTION_TEXT, offsetof(struct audit_choice, request), "FILE",
     "the body of the request; default: the one in the receipt's transcript", 0, 0},
    {"policy", 'p', OPTION_TEXT, offsetof(struct audit_choice, policy), "FILE",
     "what is accepted of the evidence (docs/policy.md); without one it is not judged", 0, 0},
    {"evidence", 0, OPTION_TEXT, offsetof(struct audit_choice, evidence), "FILE",
     "the evidence, where it is not in the receipt's document", 0, 0},
    {"json", 0, OPTION_FLAG, offsetof(struct audit_choice, as_json), NULL, "the verdict as JSON", 0, 0},
    {"time", 0, OPTION_TEXT, offsetof(struct audit_choice, time), "TIME",
     "when the evidence is judged, as 2026-01-31 or 2026-01-31T12:00:00Z; default: when the receipt was signed", 0, 0},
    {"log-key", 0, OPTION_TEXTS, offsetof(struct audit_choice, log_keys), "KEY",
     "verifier key of the log that has it, then those of witnesses", 0, 0},
    {"witnesses", 0, OPTION_INTEGER, offsetof(struct audit_choice, witnesses), "N",
     "so many of these witnesses must have cosigned; default 0", 0, BULLA_MOST_LOG_KEYS},
    {"threads", 't', OPTION_INTEGER, offsetof(struct audit_choice, threads), "N", "threads; default: one a core", 1, 1024},
    {"timing", 0, OPTION_FLAG, offsetof(struct audit_choice, timing), NULL,
     "say on standard error how long prompt and answer took", 0, 0},
};

/* Files that are read; the caller's, also after an error. */
struct audit_files {
    uint8_t *document, *request, *policy, *evidence;
    size_t length;
};

static int read_file(const char *path, uint8_t **bytes, size_t *length, bulla_error *error)
{
    return path ? file_read(path, VERDICTS_LARGEST_DOCUMENT, bytes, length, error) : BULLA_OK;
}

static int read_files(const struct audit_choice *chosen, const char *path, struct audit_files *files,
                      bulla_receipt_options *receipt, bulla_error *error)
{
    *receipt = (bulla_receipt_options){.log_keys = chosen->log_keys.texts, .log_key_count = chosen->log_keys.count,
                                       .witnesses = chosen->witnesses};
    int code = chosen->time ? verdicts_read_time(chosen->time, &receipt->evidence.time, error) : BULLA_OK;
    if (code == BULLA_OK)
        code = read_file(path, &files->document, &files->length, error);
    if (code == BULLA_OK)
        code = read_file(chosen->request, &files->request, &receipt->request_length, error);
    if (code == BULLA_OK)
        code = read_file(chosen->policy, &files->policy, &receipt->evidence.policy_length, error);
    if (code == BULLA_OK)
        code = read_file(chosen->evidence, &files->evidence, &receipt->evidence_length, error);
    receipt->request = files->request;
    receipt->evidence.policy = (const char *)files->policy;
    receipt->evidence_document = (const char *)files->evidence;
    return code;
}

static void print_timing(const struct audit_cost *cost)
{
    fprintf(stderr, "(prompt: %llu positions in %.3f s; answer: %llu positions in %.3f s)\n",
            (unsigned long long)cost->prompt_positions, cost->prompt_seconds, (unsigned long long)cost->answer_positions,
            cost->answer_seconds);
}

static int audit(const struct audit_choice *chosen, const char *path, const struct audit_files *files,
                 const bulla_receipt_options *receipt, bulla_error *error)
{
    struct auditor *auditor = NULL;
    bulla_verdict *verdict;
    struct audit_cost cost = {0};
    bulla_error own = {0};
    int code = auditing_open(chosen->model, (unsigned)chosen->threads, &auditor, error);
    if (code != BULLA_OK)
        return code;
    code = auditor_audit(auditor, (const char *)files->document, files->length, receipt, &verdict, &cost, &own);
    auditor_close(auditor);
    if (code != BULLA_OK)
        return bulla_fail(error, code, "%s: %s", path, own.text);
    code = verdicts_print(verdict, chosen->as_json, error);
    int has_passed = bulla_verdict_passed(verdict);
    bulla_verdict_free(verdict);
    if (chosen->timing)
        print_timing(&cost);
    if (code == BULLA_OK && !has_passed)
        code = bulla_fail(error, BULLA_E_INPUT, "%s does not pass", path);
    return code;
}

static int run(const struct verb *verb, int argc, char **argv, bulla_error *error)
{
    struct audit_choice chosen = {0};
    struct audit_files files = {0};
    bulla_receipt_options receipt;
    int others;
    int code = verb_parse(verb, argc, argv, &chosen, &others, error);
    if (code == BULLA_OK && !chosen.model)
        code = bulla_fail(error, BULLA_E_USAGE, "with which model? --model FILE");
    if (code == BULLA_OK)
        code = read_files(&chosen, argv[0], &files, &receipt, error);
    if (code == BULLA_OK)
        code = audit(&chosen, argv[0], &files, &receipt, error);
    memory_free(files.document);
    memory_free(files.request);
    memory_free(files.policy);
    memory_free(files.evidence);
    return code;
}

const struct verb verb_audit = {
    .name = "audit",
    .summary = "compute an answer again and compare it with its receipt",
    .arguments = "RECEIPT --model FILE",
    .details = "RECEIPT is a receipt's document with its transcript, as `bulla connect` keeps it. All that\n"
               "`bulla verify` checks is checked; then the prompt is made from the request again and each token\n"
               "of the answer computed and drawn again, in a fraction of the time that answering took, and all\n"
               "that was delivered compared. The exit status is 0 only where all of it is as the receipt says.\n"
               "Nobody need be trusted for that, and no evidence is needed. docs/audit.md says more.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .minimum_arguments = 1,
    .maximum_arguments = 1,
    .run = run,
};
