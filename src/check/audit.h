/* What decides an audit (docs/audit.md): whether what someone says of an answer is what was computed again. Each call states
 * checks in a verdict, "audit.*" by name, with what was found and what is right. A check that had to be made and could not
 * be keeps the verdict from passing.
 *
 * Nothing here knows requests or servers: whoever audits computes what is right (serve/auditor.h) and hands it in. */
#ifndef CHECK_AUDIT_H
#define CHECK_AUDIT_H

#include "check/claim.h"
#include "check/replay.h"
#include "trust/verdict.h"

/* A check that had to be made and could not be, and why. */
void audit_lacks(struct verdict *verdict, const char *name, const char *why);

/* A verdict of bulla_verify_receipt without a policy fails for want of one. Who computes the answer again need not believe a
 * machine: here that check is one that was not made. */
void audit_without_policy(struct verdict *verdict);

/* The model that the answer is computed with again. */
struct audit_model {
    const uint8_t *root, *tokenizer, *chat_template; /* RECEIPT_HASH each; chat_template NULL: it has none */
    uint32_t program_version;
};

/* Whether the receipt is of this model; 0: nothing of the answer can be computed with it. */
int audit_check_model(struct verdict *verdict, const struct receipt *receipt, const struct audit_model *model);

/* A limit in effect: what the request asked for (0: none), or where the receipt says a lower one, that, for a server may
 * have its own. *is_lower: so it is. */
uint64_t audit_limit(const struct json *said, uint64_t asked, int *is_lower);
/* `expected`: canonical JSON of what the request gives. `limits`: the limits of the server's own among them, in words; "": none. */
int audit_check_parameters(struct verdict *verdict, const struct receipt *receipt, const struct buffer *expected,
                           const char *limits);

enum { AUDIT_WORDS = 160 }; /* bytes that say what a step is */

/* What is delivered of one choice, step by step as it is computed again, beside what is said to have been. */
struct audit_delivery {
    const struct claim_choice *claim;
    size_t steps, waiting; /* so far; tokens that go with the next step */
    size_t differs;        /* 1 + the first step that is another one, but for the words of a finish; 0: none */
    int ends_so;           /* the finish came, and with the same words */
    char expected[AUDIT_WORDS], finish[AUDIT_WORDS]; /* that step as it is right; the finish as it is right */
};
void audit_delivered_tokens(struct audit_delivery *delivery, size_t count);
void audit_delivered(struct audit_delivery *delivery, enum receipt_part part, const char *text, size_t length);

/* The choice's tokens, its finish, and what was delivered of it. */
void audit_check_choice(struct verdict *verdict, const struct receipt *receipt, size_t number,
                        const struct replay_outcome *outcome, const struct audit_delivery *delivery);
/* ---- Which receipts are audited ---- */

enum { AUDIT_SECRET = 32, AUDIT_ALL = 1000000 };

/* Whether the receipt of that hash is among the share, in millionths, that who knows the secret audits: the first 8 bytes
 * of SHA-256("bulla-watch-v1" || secret || hash), as a little-endian number, are below that share of 2^64. Who does not
 * know the secret cannot tell before. */
int audit_is_chosen(const uint8_t secret[AUDIT_SECRET], const uint8_t hash[RECEIPT_HASH], uint64_t share, int *is_chosen,
                    bulla_error *error);

/* What a verdict says of the server that signed the receipt. */
enum audit_finding {
    AUDIT_PASSED,
    AUDIT_FAILED,    /* it signed what is not so */
    AUDIT_UNCHECKED, /* not all could be computed again, and nothing is wrong */
    AUDIT_UNBOUND    /* the document is not what was signed: that may be anybody's doing */
};
enum audit_finding audit_find(const struct verdict *verdict);

#endif
