/* GPUs that come with a CPU's evidence, and what policies say of GPUs. */
#include "test.h"

#include <openssl/pem.h>

#include "authority.h"
#include "base/json.h"
#include "evidence_document.h"
#include "gpu_machine.h"
#include "trust_roots.h"

static void put(struct buffer *out, uint64_t value, int bytes)
{
    for (int i = bytes; i-- > 0;)
        buffer_append_byte(out, (uint8_t)(value >> (8 * i)));
}

/* A TPM's quote of one register with that nonce, without the closing brace. */
static void write_cpu(const uint8_t *nonce, size_t nonce_length, struct buffer *document)
{
    struct buffer quote = {0}, signature = {0};
    uint8_t numbers[64], zeros[32] = {0}, digest[32];
    BIO *out = BIO_new(BIO_s_mem());
    char *pem;
    put(&quote, 0xff5443478018, 6);
    put(&quote, 0, 2);
    put(&quote, nonce_length, 2);
    buffer_append(&quote, nonce, nonce_length);
    buffer_extend(&quote, 25);
    put(&quote, 1, 4);
    put(&quote, 0x000b03800000, 6);
    put(&quote, 32, 2);
    assert_int_equal(EVP_Q_digest(NULL, "SHA256", NULL, zeros, 32, digest, NULL), 1);
    buffer_append(&quote, digest, 32);
    authority_sign_raw(gpu_small_key, "SHA256", quote.data, quote.length, numbers, 32);
    put(&signature, 0x0018000b0020, 6);
    buffer_append(&signature, numbers, 32);
    put(&signature, 32, 2);
    buffer_append(&signature, numbers + 32, 32);
    evidence_begin(document, "tpm");
    evidence_add_bytes(document, "quote", quote.data, quote.length);
    evidence_add_bytes(document, "signature", signature.data, signature.length);
    buffer_append_format(document, ",\"pcrs\":{\"sha256\":{\"7\":\"%064d\"}},\"ak\":", 0);
    assert_int_equal(PEM_write_bio_PUBKEY(out, gpu_small_key), 1);
    long length = BIO_get_mem_data(out, &pem);
    json_write_string(document, pem, (size_t)length);
    BIO_free(out);
    buffer_free(&quote);
    buffer_free(&signature);
}

static void write_cpu_policy(const uint8_t *nonce, size_t nonce_length, const char *more, char policy[1024])
{
    unsigned char *der = NULL;
    uint8_t sha256[32];
    char key[65], hex[129];
    int length = i2d_PUBKEY(gpu_small_key, &der);
    assert_int_equal(EVP_Q_digest(NULL, "SHA256", NULL, der, (size_t)length, sha256, NULL), 1);
    OPENSSL_free(der);
    hex_encode(sha256, 32, key);
    hex_encode(nonce, nonce_length, hex);
    snprintf(policy, 1024, "{\"type\":\"tpm\",\"report_data\":\"%s\",\"tpm_key\":\"%s\"%s}", hex, key, more);
}

struct attached {
    const char *what, *fails;
    const char *gpus;     /* in place of those that follow: JSON */
    int count;            /* of GPUs */
    size_t nonce_length;  /* of the CPU */
    const char *policy;
    void (*make)(struct gpu *gpu); /* of the last; NULL: nothing */
};

static void ask_another_nonce(struct gpu *gpu)
{
    gpu->request[20] = 0;
}

static void sign_with_another_key(struct gpu *gpu)
{
    gpu->signs_with_other_key = 1;
}

static void drop_manifests(struct gpu *gpu)
{
    gpu->rims[0].is_given = gpu->rims[1].is_given = 0;
}

static void gpus_are_bound_to_the_cpu(void **state)
{
    static const struct attached cases[] = {
        {"one", "", NULL, 1, 32, "", NULL},
        {"two", "", NULL, 2, 32, ",\"gpu\":{\"chip\":\"GH100\"}", NULL},
        {"of another nonce", "gpus.0.nvidia.request.nonce", NULL, 1, 32, "", ask_another_nonce},
        {"the second is badly signed", "gpus.1.nvidia.report.signature", NULL, 2, 32, "", sign_with_another_key},
        {"the second is not accepted", "gpus.0.policy.gpu.chip gpus.1.policy.gpu.chip", NULL, 2, 32,
         ",\"gpu\":{\"chip\":\"GB100\"}", NULL},
        {"nothing was compared", "gpus.0.policy.gpu.allow_unmeasured", NULL, 1, 32, "", drop_manifests},
        {"nothing need be compared", "", NULL, 1, 32, ",\"gpu\":{\"allow_unmeasured\":true}", drop_manifests},
        {"none, though wanted", "policy.gpu", NULL, 0, 32, ",\"gpu\":{\"chip\":\"GH100\"}", NULL},
        {"none, which may be", "", NULL, 0, 32, ",\"gpu\":{\"chip\":\"GH100\",\"required\":false}", NULL},
        {"an empty list", "evidence.gpus", "[]", 0, 32, "", NULL},
        {"no list", "evidence.gpus", "{}", 0, 32, "", NULL},
        {"no document", "gpus.0.evidence.version", "[1]", 0, 32, "", NULL},
        {"of an unknown type", "gpus.0.evidence.type", "[{\"bulla_evidence\":1,\"type\":\"abacus\"}]", 0, 32, "", NULL},
        {"report data of another length", "evidence.gpus", NULL, 1, 31, "", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buffer document = {0};
        uint8_t nonce[64];
        char policy[1024];
        memset(nonce, 0xd1, sizeof nonce);
        test_roots_forget();
        write_cpu(nonce, cases[i].nonce_length, &document);
        if (cases[i].gpus || cases[i].count)
            buffer_append_format(&document, ",\"gpus\":%s", cases[i].gpus ? cases[i].gpus : "[");
        for (int j = 0; j < cases[i].count; j++) {
            struct gpu gpu = new_gpu();
            if (cases[i].make && j == cases[i].count - 1)
                cases[i].make(&gpu);
            buffer_append_text(&document, j ? "," : "");
            write_gpu(&gpu, &document);
        }
        buffer_append_text(&document, cases[i].count ? "]}" : "}");
        write_cpu_policy(nonce, cases[i].nonce_length, cases[i].policy, policy);
        bulla_verdict *verdict = evidence_judge(&document, policy, evidence_time("2026-01-01"));
        if (strcmp(evidence_failures(verdict), cases[i].fails) != 0)
            fail_msg("%s: these checks fail: \"%s\", expected \"%s\"", cases[i].what, evidence_failures(verdict),
                     cases[i].fails);
        assert_int_equal(bulla_verdict_passed(verdict), cases[i].fails[0] == 0);
        bulla_verdict_free(verdict);
        buffer_free(&document);
    }
}

/* Neither may stand where the other belongs. */
static void a_cpu_is_no_gpu(void **state)
{
    struct buffer cpu = {0}, document = {0};
    uint8_t nonce[32];
    char policy[1024], hex[65];
    memset(nonce, 0xd1, sizeof nonce);
    hex_encode(nonce, sizeof nonce, hex);
    write_cpu(nonce, sizeof nonce, &cpu);
    buffer_append(&document, cpu.data, cpu.length);
    buffer_append_format(&document, ",\"gpus\":[%s}]}", (const char *)cpu.data);
    write_cpu_policy(nonce, sizeof nonce, "", policy);
    bulla_verdict *verdict = evidence_judge(&document, policy, evidence_time("2026-01-01"));
    assert_string_equal(evidence_failures(verdict), "gpus.0.evidence.gpu");
    bulla_verdict_free(verdict);
    struct gpu gpu = new_gpu();
    buffer_clear(&document);
    test_roots_forget();
    write_gpu(&gpu, &document);
    document.length--;
    buffer_append_format(&document, ",\"gpus\":[%s}]}", (const char *)cpu.data);
    snprintf(policy, sizeof policy, "{\"report_data\":\"%s\"}", hex);
    verdict = evidence_judge(&document, policy, evidence_time("2026-01-01"));
    assert_string_equal(evidence_failures(verdict), "evidence.gpus");
    bulla_verdict_free(verdict);
    /* A policy that names neither type nor report data is of CPUs. */
    buffer_clear(&document);
    write_gpu(&gpu, &document);
    verdict = evidence_judge(&document, "{\"gpu\":{\"chip\":\"GH100\"}}", evidence_time("2026-01-01"));
    assert_string_equal(evidence_failures(verdict), "binding policy.type");
    bulla_verdict_free(verdict);
    buffer_free(&document);
    buffer_free(&cpu);
}

/* Where the CPU's report data are 64 bytes, their SHA-256 is the GPU's nonce. */
static void a_gpu_is_bound_to_64_bytes(void **state)
{
    for (int is_other = 0; is_other < 2; is_other++) {
        struct buffer document = {0};
        struct gpu gpu = new_gpu();
        uint8_t report_data[64];
        char policy[1024], hex[129];
        memset(report_data, 0x64, sizeof report_data);
        hex_encode(report_data, sizeof report_data, hex);
        assert_int_equal(EVP_Q_digest(NULL, "SHA256", NULL, report_data, 64, gpu.request + 4, NULL), 1);
        gpu.request[4] ^= (uint8_t)is_other;
        test_roots_forget();
        evidence_begin(&document, "sim");
        buffer_append_format(&document, ",\"report\":{\"measurement\":\"%064d\",\"report_data\":\"%s\"},\"gpus\":[", 0, hex);
        write_gpu(&gpu, &document);
        buffer_append_text(&document, "]}");
        snprintf(policy, sizeof policy, "{\"report_data\":\"%s\",\"allow_simulated\":true,\"gpu\":{}}", hex);
        bulla_verdict *verdict = evidence_judge(&document, policy, evidence_time("2026-01-01"));
        assert_string_equal(evidence_failures(verdict), is_other ? "gpus.0.nvidia.request.nonce" : "");
        bulla_verdict_free(verdict);
        buffer_free(&document);
    }
}

static void without_memory_nothing_passes(void **state)
{
    struct buffer document = {0};
    struct gpu gpu = new_gpu();
    uint8_t nonce[32];
    char policy[1024];
    memset(nonce, 0xd1, sizeof nonce);
    test_roots_forget();
    write_cpu(nonce, sizeof nonce, &document);
    buffer_append_text(&document, ",\"gpus\":[");
    write_gpu(&gpu, &document);
    buffer_append_text(&document, "]}");
    write_cpu_policy(nonce, sizeof nonce, ",\"gpu\":{\"chip\":\"GH100\"}", policy);
    uint64_t count = evidence_fail_allocations(&document, policy, evidence_time("2026-01-01"));
    assert_true(count > 10);
    buffer_free(&document);
    print_message("%llu failing allocations\n", (unsigned long long)count);
}

/* ---- Policies ---- */

static void policies_of_gpus_are_read_strictly(void **state)
{
    static const char *const malformed[] = {
        "{\"gpu\":[]}", "{\"gpu\":{\"coffee\":1}}", "{\"gpu\":{\"required\":1}}",
        "{\"gpu\":{\"measurement\":{\"64\":\"00\"}}}",
        "{\"gpu.chip\":\"GH100\"}", "{\"gpu\":{\"chip\":1}}", "{\"pcr\":{\"24\":\"00\"}}", "{\"secure_boot\":1}"};
    bulla_error error = {0};
    char *text;
    size_t length;
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++)
        if (bulla_policy_explain(malformed[i], strlen(malformed[i]), &text, &length, &error) == BULLA_OK)
            fail_msg("taken: %s", malformed[i]);
    static const char policy[] = "{\"gpu\":{\"chip\":[\"GH100\",\"GB100\"],\"measurement\":{\"63\":\"00\"}},"
                                 "\"secure_boot\":true}";
    assert_ok(bulla_policy_explain(policy, sizeof policy - 1, &text, &length, &error), error);
    assert_non_null(strstr(text, "The GPU's chip must be one of GH100, GB100.\n"));
    assert_non_null(strstr(text, "The GPU's measurement gpu.measurement63 must be 00.\n"));
    assert_non_null(strstr(text, "A GPU must be attested"));
    assert_non_null(strstr(text, "The secure boot must be on.\n"));
    bulla_verdict_text_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpus_are_bound_to_the_cpu),
        cmocka_unit_test(a_cpu_is_no_gpu),
        cmocka_unit_test(a_gpu_is_bound_to_64_bytes),
        cmocka_unit_test(without_memory_nothing_passes),
        cmocka_unit_test(policies_of_gpus_are_read_strictly),
    };
    return cmocka_run_group_tests(tests, make_keys, free_keys);
}
