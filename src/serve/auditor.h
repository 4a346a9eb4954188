/* Receipts audited (docs/audit.md): the request goes through the server's own code again, its prompt and the answer's tokens
 * through the model, and what comes of that is compared with the receipt and its transcript (check/audit.h). */
#ifndef SERVE_AUDITOR_H
#define SERVE_AUDITOR_H

#include "bulla/verify.h"
#include "serve/native_replay.h"

struct auditor; /* with one model */

int auditor_open(const struct native_replay_options *options, struct auditor **auditor, bulla_error *error);
void auditor_close(struct auditor *auditor); /* NULL is fine */
const uint8_t *auditor_model_root(const struct auditor *auditor);

/* What an audit took. */
struct audit_cost {
    uint64_t prompt_positions, answer_positions; /* computed */
    double prompt_seconds, answer_seconds;       /* in the model, sampling included; informative */
};

/* Verifies the document as bulla_verify_receipt does with these options, but that a policy is optional, and audits its
 * answer: the verdict has both. It passes only where all of the answer was computed again and is as it is said to be. An
 * error is about options, memory, or a document that is no JSON. `cost` may be NULL. */
int auditor_audit(struct auditor *auditor, const char *document, size_t length, const bulla_receipt_options *options,
                  bulla_verdict **verdict, struct audit_cost *cost, bulla_error *error);

#endif
