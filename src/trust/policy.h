/* What a verifier accepts: a JSON file with the sections "attestation" and "resources", or flat. Each requirement becomes
 * a check of the verdict, and whatever the policy does not allow by name is not accepted: debugging, simulated hardware,
 * migration agents, out-of-date TCBs. docs/policy.md has every field.
 *
 *     {"attestation": {"type": "snp", "launch_measurement": ["5f2c...", "..."], "minimum_tcb": {"snp": 24}},
 *      "resources": {"memory": "16GB"}} */
#ifndef TRUST_POLICY_H
#define TRUST_POLICY_H

#include "trust/evidence.h"

struct policy;

/* Reads and checks a policy of `length` bytes; `name` stands for it in error sentences. Unknown fields, wrong types and
 * values that no evidence could have are errors. */
int policy_parse(const char *text, size_t length, const char *name, struct policy **policy, bulla_error *error);
void policy_free(struct policy *policy); /* NULL is fine */

/* Whether the policy has that field of attestation. */
int policy_names(const struct policy *policy, const char *field);
/* SHA-256 of the policy's canonical JSON (RFC 8785). */
const uint8_t *policy_hash(const struct policy *policy);
/* "policy.*" checks of evidence of that format, whose claims are there. A verdict without a policy: one failed check,
 * "policy", which says that nothing was required. */
void policy_check_evidence(const struct policy *policy, const struct evidence_format *format,
                           const struct evidence *evidence);
/* The checks of one GPU's evidence that came with the CPU's, and of how many there are. */
void policy_check_gpu(const struct policy *policy, const struct evidence *gpu);
void policy_check_gpu_count(const struct policy *policy, size_t count, struct verdict *verdict);
/* Whether it accepts this model root (all are, where it names none); states the check. */
int policy_check_model(const struct policy *policy, const uint8_t root[32], struct verdict *verdict);
/* The same where nobody says which model: it must accept each that the evidence is bound to, as any of them may answer.
 * The document's binding was checked against the report data, or it has none. */
void policy_check_bound_models(const struct policy *policy, const struct evidence *evidence);
/* Bytes of memory that the machine must have; 0: not said. */
uint64_t policy_memory(const struct policy *policy);
uint64_t policy_gpu_memory(const struct policy *policy);
/* Seconds that evidence may be old; 0: not said. */
uint64_t policy_most_age(const struct policy *policy);

/* In sentences, a line each. */
void policy_explain(const struct policy *policy, struct buffer *out);

#endif
