/* Verification of evidence: whether hardware that you trust vouches for a server's keys, program and model; and of
 * receipts: whether a server that it vouches for gave this answer.
 *
 *     bulla_verdict *verdict;
 *     bulla_evidence_options options = {.policy = policy, .policy_length = length, .time = time(NULL)};
 *     if (bulla_verify_evidence(text, text_length, &options, &verdict, &error) == BULLA_OK) {
 *         accepted = bulla_verdict_passed(verdict);
 *         bulla_verdict_text(verdict, 1, &json, &json_length, &error);
 *     }
 *
 * bulla_verdict_text and bulla_policy_explain are of the whole of Bulla, the other calls of libbulla-verify.
 *
 * Nothing here opens a file, a socket or a thread. All calls may run at the same time on different objects.
 * docs/evidence.md and docs/receipt.md have the documents, docs/policy.md the policies. */
#ifndef BULLA_VERIFY_H
#define BULLA_VERIFY_H

#include <stddef.h>
#include <stdint.h>

#include "bulla/error.h"

typedef struct bulla_verdict bulla_verdict;

enum { BULLA_BINDING_BYTES = 32 };

typedef struct bulla_evidence_options {
    const char *policy;           /* JSON; NULL: nothing is required, and no verdict passes */
    size_t policy_length;
    int64_t time;                 /* Unix seconds: chains, lists and ages are judged then */
    /* What the caller knows of the server, BULLA_BINDING_BYTES each; NULL: not known, not checked. */
    const uint8_t *tls_key;       /* SHA-256 of the TLS certificate's SubjectPublicKeyInfo */
    const uint8_t *receipt_key;   /* Ed25519 */
    const uint8_t *nonce;         /* that the caller sent; with the document's "nonce_path" where it was one of many */
    const uint8_t *model;         /* model root */
    const char *collateral;       /* of a certificate's evidence, which has none in it: an object of JSON with that one
                                     member for the document, {"collateral": {...}}; or NULL */
    size_t collateral_length;
} bulla_evidence_options;

/* Verifies a document of evidence, or the evidence in a TLS certificate (RA-TLS; PEM or DER, whose key it must vouch for).
 * BULLA_OK: the verdict says what was found, also where the evidence is worthless; an
 * error: the document is no JSON or takes more than 128 MiB to read (BULLA_E_LIMIT), the policy is malformed, or memory was
 * short. The verdict is the caller's (bulla_verdict_free). */
int bulla_verify_evidence(const char *document, size_t length, const bulla_evidence_options *options,
                          bulla_verdict **verdict, bulla_error *error);

typedef struct bulla_receipt_options {
    /* Policy, time, and what is known of the server. `time` 0: when the receipt says that it was signed; the policy's
     * "max_age" counts then in any case. The check "receipt.time", which is none, says which time it was. `receipt_key` and
     * `model` are the receipt's own and not looked at. */
    bulla_evidence_options evidence;
    const char *evidence_document; /* for a receipt document without it; NULL: none */
    size_t evidence_length;
    const char *const *log_keys;  /* verifier keys, "NAME+HEXID+BASE64": the log's, then witnesses'; none: not checked */
    size_t log_key_count;
    size_t witnesses;             /* so many of them must have cosigned; without keys BULLA_E_USAGE */
    const void *request;          /* the body as sent; NULL: the transcript's */
    size_t request_length;
    const char *parameters;       /* JSON: an object whose members the receipt's parameters must have; NULL: not checked */
    size_t parameters_length;
} bulla_receipt_options;

enum { BULLA_MOST_LOG_KEYS = 64 };

/* Verifies a receipt document (docs/receipt.md): all that is in it, and all of the evidence where it is there. As above:
 * whatever is wrong with the receipt is a failed check; an error is about options, or a document that is no JSON. */
int bulla_verify_receipt(const char *document, size_t length, const bulla_receipt_options *options, bulla_verdict **verdict,
                         bulla_error *error);

/* All that the policy requires was checked and passed. */
int bulla_verdict_passed(const bulla_verdict *verdict);
/* The checks one by one, in the order in which they were made; their texts live as long as the verdict. */
typedef enum bulla_check_state { BULLA_CHECK_PASSED, BULLA_CHECK_FAILED, BULLA_CHECK_NOT_MADE } bulla_check_state;
typedef struct bulla_check {
    bulla_check_state state;
    const char *name;
    const char *found, *expected; /* or NULL; BULLA_CHECK_NOT_MADE: `found` says why */
    const char *advice;           /* what to do about it, or NULL */
} bulla_check;
size_t bulla_verdict_count(const bulla_verdict *verdict);
bulla_check bulla_verdict_check(const bulla_verdict *verdict, size_t index); /* below the count */

/* A line a check, or JSON: {"checks": [{"name", "state", "found", "expected", "advice"}, ...], "passed": bool}. The text
 * is the caller's (bulla_verdict_text_free), NUL-terminated. */
int bulla_verdict_text(const bulla_verdict *verdict, int as_json, char **text, size_t *length, bulla_error *error);
void bulla_verdict_text_free(char *text);
void bulla_verdict_free(bulla_verdict *verdict); /* NULL is fine */

/* What a policy accepts, in sentences; a malformed one is an error. The text is the caller's, as above. */
int bulla_policy_explain(const char *policy, size_t length, char **text, size_t *text_length, bulla_error *error);

#endif
