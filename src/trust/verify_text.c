/* The calls of bulla/verify.h that say verdicts and policies in words. */
#include "base/memory.h"
#include "bulla/verify.h"
#include "trust/policy.h"

/* The buffer's bytes become the caller's. */
static int hand_over(struct buffer *out, char **text, size_t *length, bulla_error *error)
{
    buffer_append(out, "", 0);
    if (out->error.code != BULLA_OK || !out->data) {
        bulla_fail(error, out->error.code ? out->error.code : BULLA_E_INTERNAL, "%s", out->error.text);
        buffer_free(out);
        return error ? error->code : BULLA_E_MEMORY;
    }
    *text = (char *)out->data;
    *length = out->length;
    return BULLA_OK;
}

int bulla_verdict_text(const bulla_verdict *verdict, int as_json, char **text, size_t *length, bulla_error *error)
{
    struct buffer out = {0};
    if (as_json)
        verdict_write_json(&verdict->verdict, &out);
    else
        verdict_write_text(&verdict->verdict, &out);
    return hand_over(&out, text, length, error);
}

void bulla_verdict_text_free(char *text)
{
    memory_free(text);
}

int bulla_policy_explain(const char *policy, size_t length, char **text, size_t *text_length, bulla_error *error)
{
    struct policy *parsed;
    struct buffer out = {0};
    int code = policy_parse(policy, length, "the policy", &parsed, error);
    if (code != BULLA_OK)
        return code;
    policy_explain(parsed, &out);
    policy_free(parsed);
    return hand_over(&out, text, text_length, error);
}
