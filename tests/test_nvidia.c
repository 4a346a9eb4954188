/* NVIDIA's GPUs: a real report verifies, and nothing that was changed does. */
#include "test.h"

#include <openssl/pem.h>

#include "authority.h"
#include "base/memory.h"
#include "evidence_document.h"
#include "gpu_machine.h"
#include "trust_roots.h"

/* ---- The real report ---- */

static uint8_t *real_report(size_t *length)
{
    size_t text_length;
    uint8_t *text = evidence_file(evidence_folder("nvidia"), "hopper-report.hex", &text_length);
    while (text_length > 0 && text[text_length - 1] == '\n')
        text_length--;
    uint8_t *bytes = memory_alloc(text_length / 2 + 1, 1, NULL);
    assert_true(hex_decode((const char *)text, text_length, bytes, text_length / 2));
    *length = text_length / 2;
    memory_free(text);
    return bytes;
}

static void write_real(const uint8_t *report, size_t length, struct buffer *document)
{
    size_t chain_length;
    uint8_t *chain = evidence_file(evidence_folder("nvidia"), "hopper-chain.pem", &chain_length);
    const char *const texts[] = {(const char *)chain};
    evidence_begin(document, "nvidia");
    evidence_add_bytes(document, "report", report, length);
    evidence_add_texts(document, "certificates", texts, 1);
    buffer_append_byte(document, '}');
    memory_free(chain);
}

static const char real_policy[] =
    "{\"type\":\"nvidia\",\"report_data\":\"27a328247bf7935c993341cf587be6f05986ccce4fe7ba2c54100bd616a58f66\","
    "\"gpu\":{\"chip\":\"GH100\",\"sku\":\"1010_0200_882\",\"driver_version\":[\"535.86.05\",\"535.86.09\"],"
    "\"vbios_version\":\"96.00.5E.00.01\",\"measurement\":{\"1\":"
    "\"c3f65ef79a19c029868cd7ce54b10e44f192444edb3506dde29cef2aac4e916c90a4f438e55aa7581a9e384c74d82db6\"}}}";

static void the_real_report_verifies(void **state)
{
    struct buffer document = {0};
    size_t length;
    if (!evidence_folder("nvidia"))
        skip();
    uint8_t *report = real_report(&length);
    write_real(report, length, &document);
    bulla_verdict *verdict = evidence_judge(&document, real_policy, evidence_time("2026-01-01"));
    assert_string_equal(evidence_failures(verdict), "");
    assert_true(bulla_verdict_passed(verdict));
    assert_string_equal(evidence_state(verdict, "nvidia.fwid"), "not checked");
    assert_string_equal(evidence_state(verdict, "nvidia.driver_rim"), "not checked");
    bulla_verdict_free(verdict);
    memory_free(report);
    buffer_free(&document);
}

static void every_signed_byte_counts(void **state)
{
    struct buffer document = {0};
    size_t length, flips = 0;
    if (!evidence_folder("nvidia"))
        skip();
    uint8_t *report = real_report(&length);
    for (size_t at = 0; at < length; at += test_count(7, 1))
        for (int bit = (int)test_count(at % 8, 0); bit < (int)test_count(at % 8 + 1, 8); bit++, flips++) {
            report[at] ^= (uint8_t)(1 << bit);
            write_real(report, length, &document);
            bulla_verdict *verdict = evidence_judge(&document, real_policy, evidence_time("2026-01-01"));
            if (bulla_verdict_passed(verdict))
                fail_msg("byte %zu, bit %d: accepted", at, bit);
            report[at] ^= (uint8_t)(1 << bit);
            bulla_verdict_free(verdict);
        }
    memory_free(report);
    buffer_free(&document);
    print_message("%zu bits flipped, none accepted\n", flips);
}

/* Each certificate of the real chain, byte by byte. */
static void every_byte_of_the_chain_counts(void **state)
{
    struct buffer document = {0}, ders[5] = {{0}};
    size_t length, chain_length, count = 0, flips = 0;
    if (!evidence_folder("nvidia"))
        skip();
    uint8_t *report = real_report(&length);
    uint8_t *chain = evidence_file(evidence_folder("nvidia"), "hopper-chain.pem", &chain_length);
    BIO *in = BIO_new_mem_buf(chain, (int)chain_length);
    for (X509 *certificate; count < 5 && (certificate = PEM_read_bio_X509(in, NULL, NULL, NULL)); count++) {
        authority_write_der(&ders[count], certificate);
        X509_free(certificate);
    }
    BIO_free(in);
    assert_int_equal(count, 5);
    for (size_t i = 0; i < count; i++)
        for (size_t at = 0; at < ders[i].length; at += test_count(31, 1), flips++) {
            ders[i].data[at] ^= (uint8_t)(1 << at % 8);
            evidence_begin(&document, "nvidia");
            evidence_add_bytes(&document, "report", report, length);
            buffer_append_text(&document, ",\"certificates\":");
            for (size_t j = 0; j < count; j++) {
                buffer_append_text(&document, j ? ",\"" : "[\"");
                base64_append(&document, ders[j].data, ders[j].length);
                buffer_append_byte(&document, '"');
            }
            buffer_append_text(&document, "]}");
            bulla_verdict *verdict = evidence_judge(&document, real_policy, evidence_time("2026-01-01"));
            if (bulla_verdict_passed(verdict))
                fail_msg("certificate %zu, byte %zu: accepted", i, at);
            bulla_verdict_free(verdict);
            ders[i].data[at] ^= (uint8_t)(1 << at % 8);
        }
    for (size_t i = 0; i < count; i++)
        buffer_free(&ders[i]);
    memory_free(report);
    memory_free(chain);
    buffer_free(&document);
    print_message("%zu bytes of certificates changed, none accepted\n", flips);
}

/* ---- GPUs of our own ---- */

static const char *judge_gpu(struct gpu *gpu)
{
    struct buffer document = {0};
    char policy[2048];
    test_roots_forget();
    write_gpu(gpu, &document);
    snprintf(policy, sizeof policy,
             "{\"report_data\":\"d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1\",%s\"gpu\":{%s}}",
             gpu->policy ? gpu->policy : "", gpu->gpu_policy ? gpu->gpu_policy : "");
    bulla_verdict *verdict = evidence_judge(&document, policy, evidence_time("2026-01-01"));
    const char *failures = evidence_failures(verdict);
    assert_int_equal(bulla_verdict_passed(verdict), failures[0] == 0);
    bulla_verdict_free(verdict);
    buffer_free(&document);
    return failures;
}

static void set_opaque(struct gpu *gpu, int type, const char *bytes, size_t length)
{
    for (size_t i = 0; i < gpu->opaque_count; i++)
        if (gpu->opaque[i].type == type)
            gpu->opaque[i] = (struct opaque){type, bytes, length};
}

/* The driver's values with which nothing is compared: "policy.gpu.allow_unmeasured" is asked then. */
#define UNMEASURED " policy.gpu.allow_unmeasured"
#define DRIVER (g->rims[0])
#define VBIOS (g->rims[1])

#define CHANGES(X)                                                                                                     \
    X(nothing, "", (void)g)                                                                                            \
    X(blackwell, "", (g->leaf_name = "GB100 A01 GSP FMC LF", g->fwid = FWID_BLACKWELL))                                \
    X(no_report, "nvidia.report policy.report_data", g->left_out = "report")                                           \
    X(report_with_more, "nvidia.report.form policy.report_data", g->report_more = "x")                                 \
    X(request_of_spdm_1_2, "nvidia.request.version", g->request[0] = 0x12)                                             \
    X(another_request, "nvidia.request.code", g->request[1] = 0xe1)                                                    \
    X(request_without_signature, "nvidia.request.attributes", g->request[2] = 0)                                       \
    X(request_of_one, "nvidia.request.operation", g->request[3] = 1)                                                   \
    X(response_of_spdm_1_0, "nvidia.response.version", g->response[0] = 0x10)                                          \
    X(another_response, "nvidia.response.code", g->response[1] = 0x61)                                                 \
    X(response_of_another_slot, "nvidia.response.slot", g->response[3] = 1)                                            \
    X(both_of_another_slot, "", (g->response[3] = 1, g->request[36] = 1))                                              \
    X(another_nonce, "policy.report_data", g->request[20] = 0)                                                         \
    X(fewer_blocks_said, "nvidia.measurements.count" UNCOMPARED, g->block_count = 63)                                  \
    X(more_blocks_than_64, "nvidia.measurements.count" UNCOMPARED, (g->block_count = 65, g->blocks_written = 65))      \
    X(no_block, "nvidia.measurements.count" UNCOMPARED, (g->block_count = 0, g->blocks_written = 0))                   \
    X(half_a_block, "nvidia.measurements.count nvidia.measurements.specification nvidia.measurements.kind "            \
      "nvidia.measurements.order" UNCOMPARED, g->record_more = 3)                                                      \
    X(fewer_blocks, "", g->block_count = g->blocks_written = 40)                                                       \
    X(block_of_another_specification, "nvidia.measurements.specification", g->blocks[40].specification = 2)            \
    X(block_of_raw_bits, "nvidia.measurements.kind" UNCOMPARED, g->blocks[40].type = 0x81)                             \
    X(block_of_32_bytes, "nvidia.measurements.kind" UNCOMPARED, (g->blocks[40].size = 35, g->blocks[40].value_size = 32)) \
    X(block_of_two_sizes, "nvidia.measurements.kind" UNCOMPARED, g->blocks[40].value_size = 47)                        \
    X(block_of_another_kind, "", g->blocks[40].type = 3)                                                               \
    X(block_twice, "nvidia.measurements.order", g->blocks[40].index = 40)                                              \
    X(opaque_cut, "nvidia.opaque.form", g->opaque_cut = 1)                                                             \
    X(opaque_twice, "nvidia.opaque.form", (g->opaque[8] = g->opaque[1]))                                               \
    X(opaque_of_version_0, "", set_opaque(g, 34, DATA("\0\0")))                                                        \
    X(opaque_of_version_2, "nvidia.opaque.version", set_opaque(g, 34, DATA("\x02\0")))                                 \
    X(opaque_of_version_256, "nvidia.opaque.version", set_opaque(g, 34, DATA("\0\x01")))                               \
    X(opaque_of_a_short_version, "nvidia.opaque.version", set_opaque(g, 34, DATA("\x01")))                             \
    X(no_driver, "nvidia.opaque.driver_version nvidia.driver_rim.version" UNMEASURED, g->opaque[4].type = 40)          \
    X(driver_of_odd_characters, "nvidia.opaque.driver_version nvidia.driver_rim.version" UNMEASURED,                   \
      set_opaque(g, 3, DATA("535\n86")))                                                                               \
    X(no_vbios, "nvidia.opaque.vbios_version nvidia.vbios_rim.version" UNMEASURED, g->opaque[0].type = 40)             \
    X(short_vbios, "nvidia.opaque.vbios_version nvidia.vbios_rim.version" UNMEASURED, g->opaque[0].length = 7)         \
    X(no_fwid, "", g->opaque[6].type = 40)                                                                             \
    X(fwid, "nvidia.fwid", set_opaque(g, 20, "firmware identity of forty-eight bytes, exactly:.", 48))                 \
    X(short_fwid, "nvidia.fwid", set_opaque(g, 20, FWID_BYTES, 47))                                                    \
    X(leaf_without_fwid, "nvidia.fwid", g->fwid = FWID_NONE)                                                           \
    X(leaf_with_fwid_of_sha256, "nvidia.fwid", g->fwid = FWID_OF_SHA256)                                               \
    X(leaf_with_short_fwid, "nvidia.fwid", g->fwid = FWID_SHORT)                                                       \
    X(leaf_with_fwid_elsewhere, "nvidia.fwid", g->fwid = FWID_UNTAGGED)                                                \
    X(a_switch, "nvidia.certificate.kind", g->leaf_name = "LS_10 A01 FSP FMC LF")                                      \
    X(a_name_alone, "nvidia.certificate.kind", g->leaf_name = " GSP FMC LF")                                           \
    X(leaf_on_p256, "nvidia.certificate.key nvidia.report.signature", g->leaf_curve = "P-256")                         \
    X(signed_by_another, "nvidia.report.signature", g->signs_with_other_key = 1)                                       \
    X(leaf_expired, "nvidia.chain", g->leaf_until = evidence_time("2025-12-31"))                                       \
    X(chain_swapped, "nvidia.chain", g->order = ORDER_SWAPPED)                                                         \
    X(chain_truncated, "nvidia.chain nvidia.root nvidia.chain.length", g->order = ORDER_TRUNCATED)                     \
    X(chain_extended, "nvidia.chain nvidia.chain.length", g->order = ORDER_EXTENDED)                                   \
    X(chain_empty, "nvidia.certificates", g->order = ORDER_SHORT)                                                      \
    X(another_root, "nvidia.root", g->is_root_pinned = 0)                                                              \
    X(model_revoked, "nvidia.chain", g->is_revoked = 13)                                                               \
    X(crls_malformed, "nvidia.crls", g->more = ",\"crls\":\"*\"")                                                      \
    X(others_revoked, "", g->is_revoked = 99)                                                                          \
    X(rims_missing, "policy.gpu.allow_unmeasured", (DRIVER.is_given = 0, VBIOS.is_given = 0))                          \
    X(driver_rim_missing, "policy.gpu.allow_unmeasured", DRIVER.is_given = 0)                                          \
    X(vbios_rim_missing, "policy.gpu.allow_unmeasured", VBIOS.is_given = 0)                                            \
    X(rims_not_wanted, "",                                                                                             \
      (DRIVER.is_given = 0, VBIOS.is_given = 0, g->gpu_policy = "\"allow_unmeasured\":true"))                          \
    X(rims_wanted, "policy.gpu.allow_unmeasured", (DRIVER.is_given = 0, g->gpu_policy = "\"allow_unmeasured\":false")) \
    X(measurements_named_instead, "", (DRIVER.is_given = 0, g->gpu_policy = MEASUREMENTS))                             \
    X(driver_rim_forged, "nvidia.driver_rim.signature" UNMEASURED, DRIVER.is_forged = 1)                               \
    X(driver_rim_of_another_key, "nvidia.driver_rim.signature" UNMEASURED, DRIVER.is_of_other_key = 1)                 \
    X(driver_rim_on_p256, "nvidia.driver_rim.signature" UNMEASURED, DRIVER.leaf_is_small = 1)                          \
    X(driver_rim_short, "nvidia.driver_rim" UNMEASURED, DRIVER.is_short = 1)                                           \
    X(driver_rim_expired, "nvidia.driver_rim.chain" UNMEASURED, DRIVER.leaf_until = evidence_time("2025-12-31"))       \
    X(rims_of_another_root,                                                                                            \
      "nvidia.driver_rim.root nvidia.vbios_rim.root" UNMEASURED, DRIVER.is_root_pinned = VBIOS.is_root_pinned = 0)     \
    X(driver_rim_of_another_version, "nvidia.driver_rim.version" UNMEASURED, DRIVER.version = "535.86.1")              \
    X(driver_rim_of_the_vbios, "nvidia.driver_rim.version" UNMEASURED, DRIVER.version = "96.00.5E.00.01")              \
    X(driver_rim_of_other_values, "nvidia.driver_rim.measurements" UNMEASURED, DRIVER.value = 0)                       \
    X(driver_rim_of_unlisted_values, "nvidia.driver_rim.measurements" UNMEASURED, DRIVER.alternatives = 1)             \
    X(driver_rim_of_no_values, "nvidia.driver_rim.measurements" UNMEASURED, DRIVER.alternatives = 0)                   \
    X(driver_rim_of_measurement_64, "nvidia.driver_rim.measurements" UNMEASURED, DRIVER.index = 64)                    \
    X(driver_rim_of_nothing_active, "nvidia.driver_rim.measurements" UNMEASURED, DRIVER.active = "False")              \
    X(driver_rim_of_other_resources, "nvidia.driver_rim.measurements" UNMEASURED, DRIVER.type = "File")                \
    X(driver_rim_with_a_broken_element, "nvidia.driver_rim.measurements" UNMEASURED,                                   \
      DRIVER.more = "<ns0:Resource type=\"Measurement\" active=\"True")                                                \
    X(no_decoder, "", (set_opaque(g, 11, DATA("\x55")), DRIVER.value = 0, DRIVER.more = ANOTHER_ELEMENT))              \
    X(a_decoder, "nvidia.driver_rim.measurements" UNMEASURED, (DRIVER.value = 0, DRIVER.more = ANOTHER_ELEMENT))       \
    X(vbios_rim_forged, "nvidia.vbios_rim.signature" UNMEASURED, VBIOS.is_forged = 1)                                  \
    X(vbios_rim_short, "nvidia.vbios_rim" UNMEASURED, VBIOS.is_short = 1)                                              \
    X(vbios_rim_expired, "nvidia.vbios_rim.chain" UNMEASURED, VBIOS.leaf_until = evidence_time("2025-12-31"))          \
    X(vbios_rim_of_another_version, "nvidia.vbios_rim.version" UNMEASURED, VBIOS.version = "96.00.5e.00.01")           \
    X(vbios_rim_of_other_values, "nvidia.vbios_rim.measurements" UNMEASURED, VBIOS.value = 0)                          \
    X(all_that_the_policy_names, "", g->gpu_policy =                                                                   \
      "\"driver_version\":\"535.86.09\",\"vbios_version\":\"96.00.5E.00.01\",\"chip\":[\"GB100\",\"GH100\"],"          \
      "\"sku\":\"1010_0200_882\",\"required\":true")                                                                   \
    X(policy_driver, "policy.gpu.driver_version", g->gpu_policy = "\"driver_version\":\"535.86.10\"")                  \
    X(policy_vbios, "policy.gpu.vbios_version", g->gpu_policy = "\"vbios_version\":\"96.00.5E.00.02\"")                \
    X(policy_chip, "policy.gpu.chip", g->gpu_policy = "\"chip\":\"GB100\"")                                            \
    X(policy_sku, "policy.gpu.sku", g->gpu_policy = "\"sku\":\"1010_0200_883\"")                                       \
    X(policy_sku_unsaid, "policy.gpu.sku", (g->gpu_policy = "\"sku\":\"1010_0200_882\"", g->opaque[1].type = 40))      \
    X(policy_measurement, "policy.gpu.measurement", g->gpu_policy = "\"measurement\":{\"63\":\"3f\"}")                 \
    X(policy_measurement_missing, "policy.gpu.measurement",                                                            \
      (g->gpu_policy = MEASUREMENTS, g->block_count = g->blocks_written = 40))

/* Claims that are not made where measurements cannot be read, and manifests with which nothing can be compared. */
#define UNCOMPARED " nvidia.driver_rim.measurements nvidia.vbios_rim.measurements" UNMEASURED
#define HEX_63 "3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f"
#define HEX_9 "090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909"
#define MEASUREMENTS "\"measurement\":{\"63\":\"" HEX_63 "\",\"9\":[\"00\",\"" HEX_9 "\"]}"
#define ANOTHER_ELEMENT                                                                                                \
    "<ns0:Resource active=\"True\" alternatives=\"1\" index=\"9\" type=\"Measurement\" ns2:Hash0=\"" HEX_9 "\"></ns0:Resource>"

struct change {
    const char *what, *fails;
    void (*make)(struct gpu *gpu);
};

#define DEFINE(name, failing, change)                                                                                  \
    static void change_##name(struct gpu *g)                                                                           \
    {                                                                                                                  \
        change;                                                                                                        \
    }
CHANGES(DEFINE)
#define LIST(name, failing, change) {#name, failing, change_##name},
static const struct change changes[] = {CHANGES(LIST)};

static void every_change_is_seen_by_its_check(void **state)
{
    int wrong = 0;
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        struct gpu gpu = new_gpu();
        changes[i].make(&gpu);
        const char *failures = judge_gpu(&gpu);
        if (strcmp(failures, changes[i].fails) != 0 && ++wrong)
            print_error("%s: these checks fail: \"%s\", expected \"%s\"\n", changes[i].what, failures, changes[i].fails);
    }
    assert_int_equal(wrong, 0);
    print_message("%zu changes, each signed again and seen by its check\n", sizeof changes / sizeof *changes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_real_report_verifies),
        cmocka_unit_test(every_signed_byte_counts),
        cmocka_unit_test(every_byte_of_the_chain_counts),
        cmocka_unit_test(every_change_is_seen_by_its_check),
    };
    return cmocka_run_group_tests(tests, make_keys, free_keys);
}
