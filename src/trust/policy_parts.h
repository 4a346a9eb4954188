/* What a policy is made of, for trust/policy.c, which reads and checks it, and policy_explain.c, which says it in words. */
#ifndef TRUST_POLICY_PARTS_H
#define TRUST_POLICY_PARTS_H

#include "base/hash.h"
#include "trust/policy.h"

enum { MOST_REQUIREMENTS = 128, LONGEST_VALUE = 64 /* bytes */ };

enum policy_kind {
    KIND_BYTES,  /* hex, or a list of it: the claim is one of these */
    KIND_SLOTS,  /* by number: {"0": hex or list, ...} or [hex, list or null, ...]; a claim each */
    KIND_NUMBER, /* a number, or a list: the claim is one of these */
    KIND_LEAST,  /* the claim is at least this */
    KIND_LEASTS, /* {"part": number, ...}: a claim each, "tcb.part" */
    KIND_TEXT,   /* a string, or a list: the claim is one of these */
    KIND_ALLOW,  /* true: the claim may be set */
    KIND_MUST    /* true: the claim must be set */
};

/* A field of the policy, the claim that it is about, the check that comes of it. */
struct policy_field {
    const char *name;
    enum policy_kind kind;
    const char *claim, *check;
};

struct policy_value {
    uint8_t bytes[LONGEST_VALUE];
    size_t length;
    uint64_t number;
    const char *text;
};

struct policy_requirement {
    const struct policy_field *field;
    const char *claim;    /* the field's, or with the slot's or part's name behind it */
    struct policy_value *values; /* KIND_ALLOW: one, number 0 or 1 */
    size_t count;
};

struct policy {
    struct arena arena;
    struct policy_requirement requirements[MOST_REQUIREMENTS];
    size_t count;
    struct policy_value *types, *models;
    size_t type_count, model_count;
    int allows_simulated, requires_gpu;
    uint64_t most_age; /* seconds; 0: not said */
    uint64_t boot_loaders; /* that it has places for: others may not have been started; 0: it does not speak of them */
    uint64_t memory, gpu_memory;
    uint8_t hash[HASH_SHA256_BYTES];
};

/* "one of A, B"; long lists are cut. Values of a field, or texts where it is NULL. */
void policy_append_values(const struct policy_field *field, const struct policy_value *values, size_t count,
                          struct buffer *out);
/* Whether a field says which program runs. */
int policy_names_program(const struct policy *policy);

#endif
