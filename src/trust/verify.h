/* What verifications share (include/bulla/verify.h). */
#ifndef TRUST_VERIFY_H
#define TRUST_VERIFY_H

#include "bulla/verify.h"
#include "trust/evidence.h"
#include "trust/policy.h"

/* States all checks of a document of evidence. Gives its format, or NULL where that is not known. `policy` may be NULL; the
 * options' own is not looked at. `used_at`: when it was relied on, which is when the policy's "max_age" counts. */
const struct evidence_format *verify_evidence(const struct json *document, const struct policy *policy,
                                              const bulla_evidence_options *options, int64_t used_at, struct verdict *verdict);

/* States the checks of one verification. What it reads lives in the arena until it returns. */
typedef void verify_checks(void *context, const struct policy *policy, struct arena *arena, struct verdict *verdict,
                           bulla_error *error);
/* Reads the policy (NULL: none) and makes a verdict of what `checks` states. */
int verify_with(const char *policy, size_t policy_length, verify_checks *checks, void *context, bulla_verdict **verdict,
                bulla_error *error);

#endif
