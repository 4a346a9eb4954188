/* What all formats share, by simulated evidence: the document, the binding, what a policy makes of it. */
#include "test.h"

#include "base/memory.h"
#include "evidence_document.h"
#include "base/hash.h"
#include "base/merkle.h"
#include "trust/binding.h"

static const int64_t now = 1800000000;

static struct binding some_binding(void)
{
    struct binding binding = {.model_count = 2};
    memset(binding.tls_key, 0x11, 32);
    memset(binding.receipt_key, 0x22, 32);
    memset(binding.policy, 0x33, 32);
    memset(binding.nonce, 0x44, 32);
    memset(binding.models[0], 0x55, 32);
    memset(binding.models[1], 0x66, 32);
    return binding;
}

/* `more`: members behind the others. */
static void write_document(const struct binding *binding, const char *more, struct buffer *document)
{
    uint8_t report_data[64];
    char hex[129];
    bulla_error error = {0};
    assert_ok(binding_report_data(binding, report_data, &error), error);
    hex_encode(report_data, 64, hex);
    evidence_begin(document, "sim");
    buffer_append_format(document, ",\"report\":{\"measurement\":\"%064d\",\"report_data\":\"%s\"},\"binding\":", 0, hex);
    binding_write(binding, document);
    buffer_append_format(document, "%s}", more);
}

/* The same report data, beside a binding of another nonce. */
static void write_other_binding(const struct binding *binding, struct buffer *document)
{
    struct binding other = *binding;
    write_document(binding, "", document);
    char *member = strstr((char *)document->data, ",\"binding\":");
    buffer_cut(document, (size_t)(member - (char *)document->data) + strlen(",\"binding\":"));
    other.nonce[0] ^= 1;
    binding_write(&other, document);
    buffer_append_byte(document, '}');
}

static const char accepting[] = "{\"type\":\"sim\",\"allow_simulated\":true,"
                                "\"measurement\":\"0000000000000000000000000000000000000000000000000000000000000000\"}";

static bulla_verdict *judge(const struct buffer *document, const char *policy, const bulla_evidence_options *known)
{
    bulla_verdict *verdict;
    bulla_error error = {0};
    bulla_evidence_options options = known ? *known : (bulla_evidence_options){0};
    options.policy = policy;
    options.policy_length = policy ? strlen(policy) : 0;
    options.time = now;
    assert_ok(bulla_verify_evidence((const char *)document->data, document->length, &options, &verdict, &error), error);
    return verdict;
}

static void expect(const struct buffer *document, const char *policy, const bulla_evidence_options *known, const char *failing)
{
    bulla_verdict *verdict = judge(document, policy, known);
    if (strcmp(evidence_failures(verdict), failing) != 0)
        fail_msg("these checks fail: \"%s\", expected \"%s\"; policy %s", evidence_failures(verdict), failing, policy);
    assert_int_equal(bulla_verdict_passed(verdict), failing[0] == 0);
    bulla_verdict_free(verdict);
}

static void what_is_bound_is_checked(void **state)
{
    struct binding binding = some_binding(), other = some_binding();
    struct buffer document = {0};
    uint8_t wrong[32] = {1};
    write_document(&binding, "", &document);
    expect(&document, accepting, NULL, "");
    const bulla_evidence_options right = {.tls_key = other.tls_key, .receipt_key = other.receipt_key, .nonce = other.nonce,
                                          .model = other.models[1]};
    expect(&document, accepting, &right, "");
    bulla_evidence_options known = right;
    known.tls_key = wrong;
    expect(&document, accepting, &known, "binding.tls_key");
    known = right;
    known.receipt_key = wrong;
    expect(&document, accepting, &known, "binding.receipt_key");
    known = right;
    known.nonce = wrong;
    expect(&document, accepting, &known, "binding.nonce");
    known = right;
    known.model = wrong;
    expect(&document, accepting, &known, "binding.model");
    buffer_free(&document);
}

/* Each part of a binding that is changed after the report was made. */
static void a_changed_binding_does_not_fit_the_report(void **state)
{
    for (int part = 0; part < 6; part++) {
        struct binding binding = some_binding();
        uint8_t *const parts[] = {binding.tls_key, binding.receipt_key, binding.policy, binding.nonce, binding.models[1]};
        struct buffer document = {0}, changed = {0};
        write_document(&binding, "", &document);
        if (part < 5)
            parts[part][31] ^= 1;
        else
            binding.model_count = 1;
        buffer_append(&changed, document.data, (size_t)(strstr((char *)document.data, "\"binding\"") - (char *)document.data));
        buffer_append_text(&changed, "\"binding\":");
        binding_write(&binding, &changed);
        buffer_append_byte(&changed, '}');
        expect(&changed, accepting, NULL, "binding.report_data");
        buffer_free(&document);
        buffer_free(&changed);
    }
}

/* Many askers share one report: it is bound to the root of the tree of their nonces. */
static void a_nonce_among_many(void **state)
{
    uint8_t hashes[3][MERKLE_HASH], copy[3][MERKLE_HASH], nonces[3][32], path[64][MERKLE_HASH];
    struct binding binding = some_binding();
    struct buffer document = {0}, more = {0};
    bulla_error error = {0};
    unsigned length;
    for (int i = 0; i < 3; i++) {
        uint8_t leaf[33] = {0};
        memset(nonces[i], 0x70 + i, 32);
        memcpy(leaf + 1, nonces[i], 32);
        assert_ok(hash_sha256(leaf, sizeof leaf, hashes[i], &error), error);
    }
    memcpy(copy, hashes, sizeof copy);
    assert_ok(merkle_path(hashes[0], 3, 1, path, &length, &error), error);
    assert_ok(merkle_root(copy[0], 3, binding.nonce, &error), error);
    buffer_append_text(&more, ",\"nonce_path\":{\"index\":1,\"count\":3,\"path\":[");
    for (unsigned i = 0; i < length; i++) {
        char hex[65];
        hex_encode(path[i], 32, hex);
        buffer_append_format(&more, "%s\"%s\"", i ? "," : "", hex);
    }
    buffer_append_text(&more, "]}");
    write_document(&binding, (const char *)more.data, &document);
    for (int i = 0; i < 3; i++) {
        const bulla_evidence_options known = {.nonce = nonces[i]};
        expect(&document, accepting, &known, i == 1 ? "" : "binding.nonce");
    }
    const bulla_evidence_options root = {.nonce = binding.nonce};
    expect(&document, accepting, &root, "binding.nonce");
    buffer_free(&document);
    buffer_free(&more);
}

static void simulated_evidence_is_never_taken_for_hardware(void **state)
{
    struct binding binding = some_binding();
    struct buffer document = {0};
    write_document(&binding, "", &document);
    expect(&document, NULL, NULL, "policy");
    expect(&document, "{}", NULL, "policy.allow_simulated");
    expect(&document, "{\"type\":\"sim\"}", NULL, "policy.allow_simulated");
    expect(&document, "{\"type\":\"snp\",\"allow_simulated\":true}", NULL, "policy.type");
    expect(&document, "{\"type\":[\"snp\",\"sim\"],\"allow_simulated\":true}", NULL, "");
    bulla_verdict *verdict = judge(&document, accepting, NULL);
    char *text;
    size_t length;
    bulla_error error = {0};
    assert_ok(bulla_verdict_text(verdict, 0, &text, &length, &error), error);
    assert_non_null(strstr(text, "SIMULATED"));
    bulla_verdict_text_free(text);
    bulla_verdict_free(verdict);
    buffer_free(&document);
}

static void what_the_policy_asks_must_be_there(void **state)
{
    struct binding binding = some_binding();
    struct buffer document = {0};
    write_document(&binding, "", &document);
    expect(&document, "{\"allow_simulated\":true,\"measurement\":\"00\"}", NULL, "policy.measurement");
    expect(&document, "{\"allow_simulated\":true,\"mrenclave\":\"00\"}", NULL, "policy.mrenclave");
    expect(&document, "{\"allow_simulated\":true,\"tcb_status\":\"UpToDate\"}", NULL, "policy.tcb_status");
    expect(&document, "{\"allow_simulated\":true,\"max_age\":\"1h\"}", NULL, "policy.max_age");
    const bulla_evidence_options known = {.nonce = binding.nonce};
    expect(&document, "{\"allow_simulated\":true,\"max_age\":\"1h\"}", &known, "");
    const bulla_evidence_options model = {.model = binding.models[0]};
    expect(&document, "{\"allow_simulated\":true,\"models\":\"5555555555555555555555555555555555555555555555555555555555555555\"}",
           &model, "");
    expect(&document, "{\"allow_simulated\":true,\"models\":\"6655555555555555555555555555555555555555555555555555555555555555\"}",
           &model, "policy.models");
    /* Where nobody says which model, each that is bound must be accepted. */
    expect(&document, "{\"allow_simulated\":true,\"models\":\"5555555555555555555555555555555555555555555555555555555555555555\"}",
           NULL, "policy.models");
    expect(&document, "{\"allow_simulated\":true,\"models\":["
           "\"6666666666666666666666666666666666666666666666666666666666666666\","
           "\"5555555555555555555555555555555555555555555555555555555555555555\"]}", NULL, "");
    buffer_free(&document);
}

/* A policy may name the report data in place of a binding, but not in place of what the caller expects of a server. */
static void what_is_expected_is_not_passed_over(void **state)
{
    struct binding binding = some_binding();
    uint8_t report_data[64], wrong[32] = {1};
    char policy[512], hex[129];
    bulla_error error = {0};
    struct buffer document = {0};
    write_document(&binding, "", &document);
    assert_ok(binding_report_data(&binding, report_data, &error), error);
    hex_encode(report_data, 64, hex);
    snprintf(policy, sizeof policy, "{\"allow_simulated\":true,\"report_data\":\"%s\"}", hex);
    expect(&document, policy, NULL, "");
    const bulla_evidence_options tls = {.tls_key = wrong}, receipt = {.receipt_key = wrong}, nonce = {.nonce = wrong},
                                 model = {.model = wrong}, right = {.nonce = binding.nonce};
    expect(&document, policy, &tls, "binding.tls_key");
    expect(&document, policy, &receipt, "binding.receipt_key");
    expect(&document, policy, &nonce, "binding.nonce");
    expect(&document, policy, &model, "binding.model");
    expect(&document, policy, &right, "");
    /* Models are those of a binding that the report data stand for. */
    char roots[2][65];
    hex_encode(binding.models[0], 32, roots[0]);
    hex_encode(binding.models[1], 32, roots[1]);
    snprintf(policy, sizeof policy, "{\"allow_simulated\":true,\"report_data\":\"%s\",\"models\":[\"%s\",\"%s\"]}", hex,
             roots[0], roots[1]);
    expect(&document, policy, NULL, "");
    struct buffer other = {0};
    write_other_binding(&binding, &other);
    expect(&other, policy, NULL, "binding.report_data");
    buffer_free(&other);
    char *member = strstr((char *)document.data, ",\"binding\"");
    *member = '}';
    document.length = (size_t)(member - (char *)document.data) + 1;
    expect(&document, policy, NULL, "binding policy.models");
    expect(&document, policy, &tls, "binding policy.models");
    buffer_free(&document);
}

static void malformed_documents_fail(void **state)
{
    static const struct {
        const char *text, *fails;
    } cases[] = {
        {"{}", "evidence.version"},
        {"[]", "evidence.version"},
        {"{\"bulla_evidence\":2,\"type\":\"sim\"}", "evidence.version"},
        {"{\"bulla_evidence\":\"1\",\"type\":\"sim\"}", "evidence.version"},
        {"{\"bulla_evidence\":1}", "evidence.type"},
        {"{\"bulla_evidence\":1,\"type\":\"sum\"}", "evidence.type"},
        {"{\"bulla_evidence\":1,\"type\":[]}", "evidence.type"},
        {"{\"bulla_evidence\":1,\"type\":\"sim\"}", "sim.report binding policy.measurement"},
        {"{\"bulla_evidence\":1,\"type\":\"sim\",\"report\":{\"measurement\":\"00\",\"report_data\":7},\"binding\":{}}",
         "sim.measurement sim.report_data binding policy.measurement"},
        {"{\"bulla_evidence\":1,\"type\":\"snp\"}", "snp.report binding policy.type policy.measurement"},
    };
    bulla_verdict *verdict;
    bulla_error error = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buffer document = {0};
        buffer_append_text(&document, cases[i].text);
        expect(&document, accepting, NULL, cases[i].fails);
        buffer_free(&document);
    }
    const bulla_evidence_options options = {.policy = accepting, .policy_length = strlen(accepting), .time = now};
    assert_int_equal(bulla_verify_evidence("{", 1, &options, &verdict, &error), BULLA_E_INPUT);
    assert_null(verdict);
}

/* Small numbers take fifty times their bytes: a document that would take all memory is refused before. */
static void large_documents_are_refused(void **state)
{
    enum { NUMBERS = 4 << 20 };
    struct buffer document = {0};
    bulla_verdict *verdict;
    bulla_error error = {0};
    const bulla_evidence_options options = {.policy = accepting, .policy_length = strlen(accepting), .time = now};
    buffer_append_text(&document, "{\"bulla_evidence\":1,\"type\":\"sim\",\"more\":[0");
    for (int i = 0; i < NUMBERS; i++)
        buffer_append_text(&document, ",0");
    buffer_append_text(&document, "]}");
    assert_int_equal(bulla_verify_evidence((const char *)document.data, document.length, &options, &verdict, &error), BULLA_E_LIMIT);
    assert_null(verdict);
    buffer_free(&document);
}

/* Whatever allocation fails, nothing is accepted. */
static void without_memory_nothing_passes(void **state)
{
    struct binding binding = some_binding();
    struct buffer document = {0};
    write_document(&binding, "", &document);
    const bulla_evidence_options options = {.policy = accepting, .policy_length = strlen(accepting), .time = now};
    int has_passed = 0;
    uint64_t failing = 1;
    for (; !has_passed && failing < 1000; failing++) {
        bulla_error error = {0};
        bulla_verdict *verdict;
        memory_inject_failure(failing, 0);
        int code = bulla_verify_evidence((const char *)document.data, document.length, &options, &verdict, &error);
        memory_inject_failure(0, 0);
        if (code != BULLA_OK) {
            assert_int_equal(code, BULLA_E_MEMORY);
            assert_null(verdict);
        } else {
            has_passed = bulla_verdict_passed(verdict);
        }
        bulla_verdict_free(verdict);
    }
    print_message("%llu failing allocations\n", (unsigned long long)failing - 2); /* the last passed: none failed */
    assert_true(failing > 5 && failing < 1000);
    buffer_free(&document);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_bound_is_checked),
        cmocka_unit_test(a_changed_binding_does_not_fit_the_report),
        cmocka_unit_test(a_nonce_among_many),
        cmocka_unit_test(simulated_evidence_is_never_taken_for_hardware),
        cmocka_unit_test(what_the_policy_asks_must_be_there),
        cmocka_unit_test(what_is_expected_is_not_passed_over),
        cmocka_unit_test(malformed_documents_fail),
        cmocka_unit_test(large_documents_are_refused),
        cmocka_unit_test(without_memory_nothing_passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
