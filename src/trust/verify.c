#include "trust/verify.h"

#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"
#include "trust/binding.h"
#include "trust/ra_tls.h"

enum { MOST_GPUS = 64, MOST_READ = 128 << 20, MOST_READ_OF_RECEIPT = 1 << 30 };

/* The policy may name the report data or the program's key itself: for evidence that was not made for a Bulla server. Whoever
 * expects keys, a nonce or a model of a server is not answered by that, nor is a policy that names models. */
static int wants_binding(const struct policy *policy, const struct binding_expected *expected)
{
    return !policy || policy_names(policy, "models") || expected->tls_key || expected->receipt_key || expected->nonce || expected->model ||
           (!policy_names(policy, "report_data") && !policy_names(policy, "public_key"));
}

/* What a GPU's evidence must hold as its nonce: the CPU's report data, or where those are 64 bytes, their SHA-256. So the
 * GPU is bound to what the CPU is bound to (trust/binding.h). */
static int gpu_nonce(const struct evidence *cpu, uint8_t nonce[BINDING_BYTES])
{
    const struct claim *claim = evidence_claim(cpu, "report_data");
    if (claim && claim->length == BINDING_BYTES)
        memcpy(nonce, claim->bytes, BINDING_BYTES);
    if (claim && claim->length == REPORT_DATA_BYTES)
        return hash_sha256(claim->bytes, claim->length, nonce, &cpu->verdict->error) == BULLA_OK;
    return claim && claim->length == BINDING_BYTES;
}

/* Verifies one of the document's GPUs; its checks are called "gpus.0.nvidia.chain" and the like. */
static void verify_gpu(const struct evidence *cpu, size_t index, const struct json *document, const uint8_t *nonce,
                       const struct policy *policy)
{
    struct verdict *verdict = cpu->verdict;
    size_t first = verdict->count;
    struct evidence gpu = {.document = document, .time = cpu->time, .nonce = nonce, .nonce_length = BINDING_BYTES,
                           .verdict = verdict};
    const struct evidence_format *format = evidence_verify(&gpu);
    if (format && verdict_holds(verdict, "evidence.gpu", format->is_gpu, "evidence of a GPU", "%s", format->title))
        policy_check_gpu(policy, &gpu);
    for (size_t i = first; i < verdict->count; i++) {
        char name[128];
        int length = snprintf(name, sizeof name, "gpus.%zu.%s", index, verdict->checks[i].name);
        const char *copy = arena_copy_text(&verdict->arena, name, (size_t)length, &verdict->error);
        if (copy)
            verdict->checks[i].name = copy;
    }
}

static void verify_gpus(const struct evidence *cpu, const struct evidence_format *format, const struct policy *policy)
{
    const struct json *gpus = json_get(cpu->document, "gpus");
    uint8_t nonce[BINDING_BYTES];
    size_t count = json_is(gpus, JSON_ARRAY) ? gpus->length : 0;
    if (gpus && (format->is_gpu || count == 0 || count > MOST_GPUS))
        verdict_fails(cpu->verdict, "evidence.gpus", "\"gpus\" is not a list of 1 to %d documents in a CPU's", MOST_GPUS);
    else if (gpus && !gpu_nonce(cpu, nonce))
        verdict_fails(cpu->verdict, "evidence.gpus", "the CPU's evidence has no report data to which GPUs could be bound");
    else if (gpus) {
        for (size_t i = 0; i < count; i++)
            verify_gpu(cpu, i, gpus->items[i], nonce, policy);
        /* GPUs sign any nonce: the measured program must see to it that they are this machine's. */
        verdict_not_made(cpu->verdict, "evidence.gpus", "the CPU's evidence does not say whose machine the GPUs are in");
    }
    policy_check_gpu_count(policy, format->is_gpu ? 1 : count, cpu->verdict);
}

/* `certificate` NULL: the document did not come in one. */
static const struct evidence_format *verify(const struct json *document, const struct ra_tls *certificate,
                                            const struct policy *policy, const bulla_evidence_options *options,
                                            int64_t used_at, struct verdict *verdict)
{
    struct evidence evidence = {.document = document, .time = options->time, .used_at = used_at, .verdict = verdict};
    struct binding_expected expected = {.tls_key = options->tls_key, .receipt_key = options->receipt_key,
                                              .nonce = options->nonce, .model = options->model,
                                              .nonce_path = json_get(document, "nonce_path")};
    const struct evidence_format *format = evidence_verify(&evidence);
    if (!format)
        return NULL;
    if (!format->has_met_real)
        verdict_not_made(verdict, "evidence.tried", "no evidence of real hardware of this type was ever tried");
    verify_gpus(&evidence, format, policy);
    if (certificate)
        ra_tls_check(certificate, &evidence, &expected);
    if (certificate && certificate->form == RA_TLS_DOCUMENT)
        expected.tls_key = certificate->key;
    if (certificate && certificate->form != RA_TLS_DOCUMENT)
        verdict_not_made(verdict, "binding", "the certificate's form binds its key alone");
    else if (certificate || wants_binding(policy, &expected))
        binding_check(format, &evidence, &expected);
    else
        verdict_not_made(verdict, "binding", "the policy names the report data or the key instead");
    policy_check_evidence(policy, format, &evidence);
    if (options->model)
        policy_check_model(policy, options->model, verdict);
    else
        policy_check_bound_models(policy, &evidence);
    return format;
}

const struct evidence_format *verify_evidence(const struct json *document, const struct policy *policy,
                                              const bulla_evidence_options *options, int64_t used_at, struct verdict *verdict)
{
    return verify(document, NULL, policy, options, used_at, verdict);
}

/* Of a certificate the document in it, with the caller's collateral. */
static void verify_certificate(const char *bytes, size_t length, const struct policy *policy,
                               const bulla_evidence_options *options, struct arena *arena, struct verdict *verdict,
                               bulla_error *error)
{
    struct ra_tls certificate;
    struct buffer document = {0};
    const struct json *collateral = NULL;
    if (options->collateral)
        collateral = json_parse(options->collateral, options->collateral_length, "the collateral", arena, error);
    if (collateral && !(json_is(collateral, JSON_OBJECT) && collateral->length == 1 && json_get(collateral, "collateral")))
        bulla_fail(error, BULLA_E_INPUT, "the collateral is not an object of JSON with the one member \"collateral\"");
    if (ra_tls_open(bytes, length, &certificate, verdict) && error->code == BULLA_OK) {
        ra_tls_write_document(&certificate, collateral, &document);
        if (document.error.code != BULLA_OK)
            bulla_fail(error, document.error.code, "%s", document.error.text);
        const struct json *root = json_parse((const char *)document.data, document.length, "the certificate's evidence", arena,
                                             error);
        if (root)
            verify(root, &certificate, policy, options, options->time, verdict);
    }
    ra_tls_close(&certificate);
    buffer_free(&document);
}

int verify_with(const char *policy_text, size_t policy_length, verify_checks *checks, void *context,
                bulla_verdict **result, bulla_error *error)
{
    struct policy *policy = NULL;
    struct arena arena = {.limit = MOST_READ_OF_RECEIPT};
    *result = NULL;
    if (policy_text) {
        int code = policy_parse(policy_text, policy_length, "the policy", &policy, error);
        if (code != BULLA_OK)
            return code;
    }
    bulla_error own = {0};
    bulla_verdict *made = memory_alloc(1, sizeof *made, &own);
    if (made) {
        checks(context, policy, &arena, &made->verdict, &own);
        if (made->verdict.error.code != BULLA_OK)
            bulla_fail(&own, made->verdict.error.code, "%s", made->verdict.error.text);
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

/* A document or certificate to be verified. */
struct subject {
    const char *bytes;
    size_t length;
    const bulla_evidence_options *options;
};

static void check_subject(void *context, const struct policy *policy, struct arena *arena, struct verdict *verdict,
                          bulla_error *error)
{
    const struct subject *subject = context;
    arena->limit = MOST_READ; /* an 8 MiB document of small numbers would take half a gigabyte */
    if (ra_tls_is_certificate(subject->bytes, subject->length)) {
        verify_certificate(subject->bytes, subject->length, policy, subject->options, arena, verdict, error);
        return;
    }
    const struct json *document = json_parse(subject->bytes, subject->length, "the evidence", arena, error);
    if (document)
        verify(document, NULL, policy, subject->options, subject->options->time, verdict);
}

int bulla_verify_evidence(const char *document, size_t length, const bulla_evidence_options *options,
                          bulla_verdict **verdict, bulla_error *error)
{
    struct subject subject = {document, length, options};
    return verify_with(options->policy, options->policy_length, check_subject, &subject, verdict, error);
}

int bulla_verdict_passed(const bulla_verdict *verdict)
{
    return verdict_passed(&verdict->verdict);
}

size_t bulla_verdict_count(const bulla_verdict *verdict)
{
    return verdict->verdict.count;
}

bulla_check bulla_verdict_check(const bulla_verdict *verdict, size_t index)
{
    return verdict->verdict.checks[index];
}

void bulla_verdict_free(bulla_verdict *verdict)
{
    if (!verdict)
        return;
    verdict_free(&verdict->verdict);
    memory_free(verdict);
}
