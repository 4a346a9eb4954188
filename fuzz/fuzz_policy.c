/* Policies from any bytes: refused with a sentence, or explained; and what is accepted is so in its canonical form, with the
 * same hash. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "trust/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_again(const char *text, size_t length, const struct policy *policy)
{
    struct arena arena = {0};
    struct buffer canonical = {0};
    struct policy *second = NULL;
    bulla_error error = {0};
    json_write_canonical(&canonical, json_parse(text, length, "input", &arena, &error));
    if (policy_parse((const char *)canonical.data, canonical.length, "canonical", &second, &error) != BULLA_OK ||
        memcmp(policy_hash(policy), policy_hash(second), 32) != 0 || policy_memory(policy) != policy_memory(second))
        abort();
    policy_free(second);
    buffer_free(&canonical);
    arena_free(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct policy *policy = NULL;
    struct buffer sentences = {0};
    bulla_error error = {0};
    int code = policy_parse((const char *)data, size, "input", &policy, &error);
    if ((code == BULLA_OK) != (policy != NULL) || (code != BULLA_OK && !error.text[0]))
        abort();
    if (!policy)
        return 0;
    policy_explain(policy, &sentences);
    if (sentences.error.code != BULLA_OK || sentences.length == 0)
        abort();
    try_again((const char *)data, size, policy);
    buffer_free(&sentences);
    policy_free(policy);
    return 0;
}
