#include "bulla/verify.h"

#include <string.h>

#include "base/memory.h"
#include "trust/binding.h"
#include "trust/policy.h"

struct bulla_verdict {
    struct verdict verdict;
};

/* The policy may name the report data or the program's key itself: for evidence that was not made for a Bulla server. */
static int wants_binding(const struct policy *policy)
{
    return !policy || (!policy_names(policy, "report_data") && !policy_names(policy, "public_key"));
}

static void verify(const struct json *document, const struct policy *policy, const bulla_evidence_options *options,
                   struct verdict *verdict)
{
    struct evidence evidence = {.document = document, .time = options->time, .verdict = verdict};
    const struct binding_expected expected = {.tls_key = options->tls_key, .receipt_key = options->receipt_key,
                                              .nonce = options->nonce, .model = options->model,
                                              .nonce_path = json_get(document, "nonce_path")};
    const struct evidence_format *format = evidence_verify(&evidence);
    if (!format)
        return;
    if (!format->has_met_real)
        verdict_not_made(verdict, "evidence.tried", "no evidence of real hardware of this type was ever tried");
    if (wants_binding(policy))
        binding_check(format, &evidence, &expected);
    else
        verdict_not_made(verdict, "binding", "the policy names the report data or the key instead");
    policy_check_evidence(policy, format, &evidence);
    if (options->model)
        policy_check_model(policy, options->model, verdict);
}

int bulla_verify_evidence(const char *document, size_t length, const bulla_evidence_options *options,
                          bulla_verdict **result, bulla_error *error)
{
    struct policy *policy = NULL;
    struct arena arena = {0};
    *result = NULL;
    if (options->policy) {
        int code = policy_parse(options->policy, options->policy_length, "the policy", &policy, error);
        if (code != BULLA_OK)
            return code;
    }
    bulla_error own = {0};
    const struct json *root = json_parse(document, length, "the evidence", &arena, &own);
    bulla_verdict *made = root ? memory_alloc(1, sizeof *made, &own) : NULL;
    if (made) {
        verify(root, policy, options, &made->verdict);
        if (made->verdict.error.code == BULLA_E_MEMORY)
            bulla_fail(&own, BULLA_E_MEMORY, "%s", made->verdict.error.text);
    }
    policy_free(policy);
    arena_free(&arena);
    if (own.code != BULLA_OK) {
        bulla_verdict_free(made);
        return bulla_fail(error, own.code, "%s", own.text);
    }
    *result = made;
    return BULLA_OK;
}

int bulla_verdict_passed(const bulla_verdict *verdict)
{
    return verdict_passed(&verdict->verdict);
}

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

void bulla_verdict_free(bulla_verdict *verdict)
{
    if (!verdict)
        return;
    verdict_free(&verdict->verdict);
    memory_free(verdict);
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
