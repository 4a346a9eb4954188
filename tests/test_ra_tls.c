/* Evidence in TLS certificates: a real one of Gramine's, and others in all three forms, each with one thing changed. */
#include "test.h"

#include <openssl/x509.h>

#include "authority.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/memory.h"
#include "cose_writer.h"
#include "dcap_machine.h"
#include "evidence_document.h"
#include "trust/ra_tls.h"

enum { AT_REPORT_DATA = 320 };

static EVP_PKEY *own_key, *other_key;

static int make_keys(void **state)
{
    own_key = authority_key("P-256");
    other_key = authority_key("P-256");
    return dcap_keys_make(state);
}

static int free_keys(void **state)
{
    EVP_PKEY_free(own_key);
    EVP_PKEY_free(other_key);
    return dcap_keys_free(state);
}

static size_t hash_of_key(EVP_PKEY *key, const char *digest, uint8_t hash[64])
{
    unsigned char *der = NULL;
    size_t length = 0;
    int der_length = i2d_PUBKEY(key, &der);
    assert_int_equal(EVP_Q_digest(NULL, digest, NULL, der, (size_t)der_length, hash, &length), 1);
    OPENSSL_free(der);
    return length;
}

/* What a certificate is made with; a case changes one thing. */
struct making {
    enum ra_tls_form form;
    EVP_PKEY *certified, *hashed;      /* whose key the certificate and the evidence have */
    int64_t algorithm;
    const char *digest;
    const uint8_t *nonce;
    size_t nonce_length;
    int has_other_member, has_no_hash, is_hash_a_list, lacks_claims, has_other_tag, is_doubled, has_other_type;
    int report_data_end;               /* the last byte of the report data */
    int adds_legacy;                   /* Gramine's extension as well, about nothing */
    const char *document;              /* RA_TLS_DOCUMENT */
    bulla_evidence_options expected;   /* what is known beside the policy */
};

static struct making new_making(enum ra_tls_form form)
{
    return (struct making){.form = form, .certified = own_key, .hashed = own_key, .algorithm = 1, .digest = "SHA256"};
}

static void write_claims(const struct making *making, struct buffer *claims)
{
    uint8_t hash[64];
    struct buffer pair = {0};
    size_t length = hash_of_key(making->hashed, making->digest, hash);
    cbor_write_list(&pair, 2);
    cbor_write_integer(&pair, making->algorithm);
    cbor_write_bytes(&pair, hash, length);
    cbor_write_map(claims, 1 + (size_t)(making->nonce != NULL) + (size_t)making->has_other_member);
    cbor_write_text(claims, making->has_no_hash ? "pubkey" : "pubkey-hash");
    if (making->is_hash_a_list)
        buffer_append(claims, pair.data, pair.length);
    else
        cbor_write_bytes(claims, pair.data, pair.length);
    if (making->nonce) {
        cbor_write_text(claims, "nonce");
        cbor_write_bytes(claims, making->nonce, making->nonce_length);
    }
    if (making->has_other_member) {
        cbor_write_text(claims, "other");
        cbor_write_integer(claims, 1);
    }
    buffer_free(&pair);
}

/* An enclave's quote over these report data, and its collateral as an object. */
static void make_quote(const struct making *making, const uint8_t hash[32], struct buffer *quote, struct buffer *collateral)
{
    struct dcap_machine machine = dcap_machine_new("sgx", 3, DCAP_SGX_BODY);
    struct buffer document = {0};
    struct arena arena = {0};
    bulla_error error = {0};
    memset(machine.body + AT_REPORT_DATA, 0, 64);
    memcpy(machine.body + AT_REPORT_DATA, hash, 32);
    machine.body[AT_REPORT_DATA + 63] = (uint8_t)making->report_data_end;
    dcap_write_document(&machine, "sgx", &document);
    const struct json *value = json_parse((char *)document.data, document.length, "document", &arena, &error);
    const struct json *text = json_get(value, "quote");
    uint8_t *bytes = buffer_extend(quote, base64_most(text->length));
    size_t length;
    assert_true(base64_decode(text->text, text->length, bytes, &length));
    buffer_cut(quote, length);
    buffer_append_text(collateral, "{\"collateral\":");
    json_write(collateral, json_get(value, "collateral"));
    buffer_append_byte(collateral, '}');
    arena_free(&arena);
    buffer_free(&document);
}

static void write_extension(const struct making *making, struct buffer *extension, struct buffer *collateral)
{
    struct buffer claims = {0}, quote = {0};
    uint8_t hash[64];
    if (making->form == RA_TLS_DOCUMENT) {
        cbor_write_list(extension, 2);
        cbor_write_text(extension, making->has_other_type ? "application/json" : RA_TLS_MEDIA_TYPE);
        cbor_write_bytes(extension, making->document, strlen(making->document));
        return;
    }
    bulla_error error = {0};
    if (making->form == RA_TLS_INTEROPERABLE) {
        write_claims(making, &claims);
        assert_ok(hash_sha256(claims.data, claims.length, hash, &error), error);
    } else {
        hash_of_key(making->hashed, "SHA256", hash);
    }
    make_quote(making, hash, &quote, collateral);
    if (making->form == RA_TLS_INTEROPERABLE) {
        cbor_write_tag(extension, making->has_other_tag ? 60001 : RA_TLS_QUOTE_TAG);
        cbor_write_list(extension, making->lacks_claims ? 1 : 2);
        cbor_write_bytes(extension, quote.data, quote.length);
        if (!making->lacks_claims)
            cbor_write_bytes(extension, claims.data, claims.length);
    } else {
        buffer_append(extension, quote.data, quote.length);
    }
    buffer_free(&claims);
    buffer_free(&quote);
}

/* PEM. */
static void make_certificate(const struct making *making, struct buffer *pem, struct buffer *collateral)
{
    struct buffer extension = {0};
    write_extension(making, &extension, collateral);
    const char *oid = making->form == RA_TLS_GRAMINE ? RA_TLS_GRAMINE_OID : RA_TLS_OID;
    const struct authority_extension extensions[] = {
        {.oid = oid, .content = extension.data, .length = extension.length},
        {.oid = making->is_doubled ? oid : RA_TLS_GRAMINE_OID, .content = (const uint8_t *)"nothing", .length = 7}};
    struct authority_certificate certificate = {.name = "server", .key = making->certified, .extensions = extensions,
                                                .extension_count = (size_t)(1 + (making->is_doubled || making->adds_legacy))};
    X509 *made = authority_issue(&certificate);
    authority_write_pem(pem, made);
    X509_free(made);
    buffer_free(&extension);
}

static const char *judge(const struct making *making, const char *policy)
{
    struct buffer pem = {0}, collateral = {0};
    bulla_error error = {0};
    bulla_verdict *verdict;
    make_certificate(making, &pem, &collateral);
    bulla_evidence_options options = making->expected;
    options.policy = policy;
    options.policy_length = strlen(policy);
    options.time = dcap_machine_new("sgx", 3, DCAP_SGX_BODY).asked_at;
    options.collateral = (const char *)collateral.data;
    options.collateral_length = collateral.length;
    assert_ok(bulla_verify_evidence((const char *)pem.data, pem.length, &options, &verdict, &error), error);
    const char *failures = evidence_failures(verdict);
    assert_int_equal(bulla_verdict_passed(verdict), strlen(failures) == 0);
    bulla_verdict_free(verdict);
    buffer_free(&pem);
    buffer_free(&collateral);
    return failures;
}

static const char policy[] = "{\"type\":\"sgx\"}";

/* X(what is changed, the checks that see it, the change) */
#define CHANGES(X)                                                                                                     \
    X(nothing, "", (void)m)                                                                                            \
    X(legacy_beside, "", m->adds_legacy = 1)                                                                           \
    X(sha_384, "", (m->algorithm = 7, m->digest = "SHA384"))                                                           \
    X(sha_512, "", (m->algorithm = 8, m->digest = "SHA512"))                                                           \
    X(nonce, "", (m->nonce = nonce, m->nonce_length = 32, m->expected.nonce = nonce))                                  \
    X(nonce_unasked, "", (m->nonce = nonce, m->nonce_length = 3))                                                      \
    X(nonce_other, "binding.nonce", (m->nonce = nonce, m->nonce_length = 32, m->expected.nonce = zeros))               \
    X(nonce_short, "binding.nonce", (m->nonce = nonce, m->nonce_length = 31, m->expected.nonce = nonce))               \
    X(nonce_missing, "binding.nonce", m->expected.nonce = nonce)                                                       \
    X(algorithm_unknown, "ra_tls.key", m->algorithm = 2)                                                               \
    X(algorithm_negative, "ra_tls.key", m->algorithm = -1)                                                             \
    X(algorithm_other, "ra_tls.key", m->algorithm = 7)                                                                 \
    X(key_other, "ra_tls.key", m->hashed = other_key)                                                                  \
    X(certificate_other, "ra_tls.key", m->certified = other_key)                                                       \
    X(report_data_end, "ra_tls.report_data", m->report_data_end = 1)                                                   \
    X(member_other, "", m->has_other_member = 1)                                                                       \
    X(hash_missing, "ra_tls.claims", m->has_no_hash = 1)                                                               \
    X(hash_a_list, "ra_tls.claims", m->is_hash_a_list = 1)                                                             \
    X(claims_missing, "ra_tls.evidence", m->lacks_claims = 1)                                                          \
    X(tag_other, "ra_tls.evidence", m->has_other_tag = 1)                                                              \
    X(doubled, "ra_tls.evidence", m->is_doubled = 1)                                                                   \
    X(tls_key_other, "ra_tls.tls_key", m->expected.tls_key = zeros)                                                    \
    X(receipt_key, "binding.receipt_key", m->expected.receipt_key = zeros)                                             \
    X(model, "binding.model", m->expected.model = zeros)

static const uint8_t zeros[32], nonce[32] = {1, 2, 3};

#define FUNCTION(name, fails, change) \
    static void make_##name(struct making *m) { change; }
CHANGES(FUNCTION)
#define ROW(name, fails, change) {#name, fails, make_##name},
static const struct {
    const char *what, *fails;
    void (*make)(struct making *making);
} changes[] = {CHANGES(ROW)};

static void each_change_is_seen(void **state)
{
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        struct making making = new_making(RA_TLS_INTEROPERABLE);
        changes[i].make(&making);
        const char *failures = judge(&making, policy);
        if (strcmp(failures, changes[i].fails) != 0)
            fail_msg("%s: fails \"%s\", expected \"%s\"", changes[i].what, failures, changes[i].fails);
    }
}

static void gramines_own_form(void **state)
{
    uint8_t key[64];
    struct making making = new_making(RA_TLS_GRAMINE);
    assert_string_equal(judge(&making, policy), "");
    hash_of_key(own_key, "SHA256", key);
    making.expected.tls_key = key;
    assert_string_equal(judge(&making, policy), "");
    making.expected.nonce = nonce;
    assert_string_equal(judge(&making, policy), "binding.nonce");
    making = new_making(RA_TLS_GRAMINE);
    making.certified = other_key;
    assert_string_equal(judge(&making, policy), "ra_tls.report_data");
    making = new_making(RA_TLS_GRAMINE);
    making.report_data_end = 1;
    assert_string_equal(judge(&making, policy), "ra_tls.report_data");
    making = new_making(RA_TLS_GRAMINE);
    making.is_doubled = 1;
    assert_string_equal(judge(&making, policy), "ra_tls.evidence");
    making = new_making(RA_TLS_GRAMINE);
    assert_string_equal(judge(&making, "{\"type\":\"tdx\"}"), "policy.type");
    char naming[128];
    snprintf(naming, sizeof naming, "{\"type\":\"sgx\",\"models\":\"%064d\"}", 0);
    assert_string_equal(judge(&making, naming), "policy.models");
    making = new_making(RA_TLS_INTEROPERABLE);
    assert_string_equal(judge(&making, naming), "policy.models");
}

/* SIMULATED evidence of a server with that key. */
static void write_simulated(EVP_PKEY *key, struct buffer *out)
{
    struct binding binding = {.model_count = 1};
    uint8_t hash[64], report_data[REPORT_DATA_BYTES];
    char hex[2 * REPORT_DATA_BYTES + 1];
    bulla_error error = {0};
    hash_of_key(key, "SHA256", hash);
    memcpy(binding.tls_key, hash, 32);
    memcpy(binding.nonce, nonce, 32);
    assert_ok(binding_report_data(&binding, report_data, &error), error);
    hex_encode(report_data, sizeof report_data, hex);
    evidence_begin(out, "sim");
    buffer_append_format(out, ",\"report\":{\"measurement\":\"%064d\",\"report_data\":\"%s\"},\"binding\":", 0, hex);
    binding_write(&binding, out);
    buffer_append_byte(out, '}');
}

static void a_wrapped_document(void **state)
{
    static const char accepted[] = "{\"type\":\"sim\",\"allow_simulated\":true}";
    struct buffer document = {0};
    write_simulated(own_key, &document);
    struct making making = new_making(RA_TLS_DOCUMENT);
    making.document = (const char *)document.data;
    assert_string_equal(judge(&making, accepted), "");
    making.expected.nonce = nonce;
    making.expected.model = zeros;
    making.expected.receipt_key = zeros;
    assert_string_equal(judge(&making, accepted), "");
    making.expected.nonce = zeros;
    assert_string_equal(judge(&making, accepted), "binding.nonce");
    making.expected = (bulla_evidence_options){.tls_key = zeros};
    assert_string_equal(judge(&making, accepted), "ra_tls.tls_key");
    making.expected = (bulla_evidence_options){0};
    making.certified = other_key;
    assert_string_equal(judge(&making, accepted), "binding.tls_key");
    making.certified = own_key;
    making.has_other_type = 1;
    assert_string_equal(judge(&making, accepted), "ra_tls.evidence");
    buffer_free(&document);
}

static void a_real_certificate_of_gramines(void **state)
{
    if (!evidence_folder("ratls"))
        skip();
    struct buffer pem = {0};
    size_t length;
    uint8_t *text = evidence_file(evidence_folder("ratls"), "gramine-cert.pem", &length);
    buffer_append(&pem, text, length);
    bulla_verdict *verdict = evidence_judge(&pem, "{\"type\":\"sgx\",\"allow_debug\":true}", evidence_time("2024-06-01"));
    assert_string_equal(evidence_failures(verdict), "pcs.collateral"); /* nobody has that of its machine any more */
    static const char *const passed[] = {"ra_tls.certificate", "ra_tls.evidence", "ra_tls.claims", "ra_tls.key",
                                         "ra_tls.report_data", "dcap.quote.layout"};
    for (size_t i = 0; i < sizeof passed / sizeof *passed; i++)
        assert_string_equal(evidence_state(verdict, passed[i]), "pass");
    bulla_verdict_free(verdict);
    buffer_free(&pem);
    memory_free(text);
}

static void what_is_no_certificate(void **state)
{
    static const char *const texts[] = {"-----BEGIN CERTIFICATE-----\n",
                                        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", "\x30\x82\x01"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct buffer bytes = {0};
        buffer_append_text(&bytes, texts[i]);
        bulla_verdict *verdict = evidence_judge(&bytes, policy, 1700000000);
        assert_int_equal(bulla_verdict_passed(verdict), 0);
        assert_string_equal(evidence_failures(verdict), "ra_tls.certificate");
        bulla_verdict_free(verdict);
        buffer_free(&bytes);
    }
    assert_false(ra_tls_is_certificate(" {", 2));
    assert_false(ra_tls_is_certificate("", 0));
    assert_true(ra_tls_is_certificate(" \n-----BEGIN CERTIFICATE-----", 29));
}

/* Nothing but collateral: not a binding, nor GPUs, for which the certificate does not vouch. */
static void collateral_and_nothing_else(void **state)
{
    static const char *const texts[] = {"[]", "{}", "{\"collateral\":{},\"binding\":{}}", "{\"gpus\":[]}"};
    struct making making = new_making(RA_TLS_INTEROPERABLE);
    struct buffer pem = {0}, collateral = {0};
    make_certificate(&making, &pem, &collateral);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        bulla_verdict *verdict;
        bulla_error error = {0};
        bulla_evidence_options options = {.policy = policy, .policy_length = sizeof policy - 1, .time = 1700000000,
                                          .collateral = texts[i], .collateral_length = strlen(texts[i])};
        assert_int_equal(bulla_verify_evidence((const char *)pem.data, pem.length, &options, &verdict, &error), BULLA_E_INPUT);
        assert_null(verdict);
    }
    buffer_free(&pem);
    buffer_free(&collateral);
}

static void nothing_passes_without_memory(void **state)
{
    struct making making = new_making(RA_TLS_INTEROPERABLE);
    struct buffer pem = {0}, collateral = {0};
    make_certificate(&making, &pem, &collateral);
    for (uint64_t n = 1; n < 400; n++) {
        bulla_verdict *verdict;
        bulla_error error = {0};
        bulla_evidence_options options = {.policy = policy, .policy_length = sizeof policy - 1,
                                          .time = dcap_machine_new("sgx", 3, DCAP_SGX_BODY).asked_at,
                                          .collateral = (const char *)collateral.data,
                                          .collateral_length = collateral.length};
        memory_inject_failure(n, 1);
        int code = bulla_verify_evidence((const char *)pem.data, pem.length, &options, &verdict, &error);
        memory_inject_failure(0, 0);
        if (code == BULLA_OK && bulla_verdict_passed(verdict)) {
            assert_true(n > 20); /* no allocation failed any more */
            bulla_verdict_free(verdict);
            break;
        }
        bulla_verdict_free(verdict);
    }
    buffer_free(&pem);
    buffer_free(&collateral);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_change_is_seen),
        cmocka_unit_test(gramines_own_form),
        cmocka_unit_test(a_wrapped_document),
        cmocka_unit_test(a_real_certificate_of_gramines),
        cmocka_unit_test(what_is_no_certificate),
        cmocka_unit_test(collateral_and_nothing_else),
        cmocka_unit_test(nothing_passes_without_memory),
    };
    return cmocka_run_group_tests(tests, make_keys, free_keys);
}
