/* What verifications share (include/bulla/verify.h). */
#ifndef TRUST_VERIFY_H
#define TRUST_VERIFY_H

#include "bulla/verify.h"
#include "trust/evidence.h"
#include "trust/policy.h"

struct bulla_verdict {
    struct verdict verdict;
};

/* States all checks of a document of evidence. Gives its format, or NULL where that is not known. `policy` may be NULL; the
 * options' own is not looked at. */
const struct evidence_format *verify_evidence(const struct json *document, const struct policy *policy,
                                              const bulla_evidence_options *options, struct verdict *verdict);

/* Reads policy and document (`what`, in error sentences) and lets `check` state its checks. */
int verify_document(const char *document, size_t length, const char *what, const char *policy, size_t policy_length,
                    void (*check)(void *context, const struct json *document, const struct policy *policy,
                                  struct verdict *verdict),
                    void *context, bulla_verdict **verdict, bulla_error *error);

#endif
