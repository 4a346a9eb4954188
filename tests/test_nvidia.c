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
#define DRIVER (m->rims[0])
#define VBIOS (m->rims[1])

#define CHANGES(X)                                                                                                     \
    X(nothing, "", (void)m)                                                                                            \
    X(blackwell, "", (m->leaf_name = "GB100 A01 GSP FMC LF", m->fwid = FWID_BLACKWELL))                                \
    X(no_report, "nvidia.report policy.report_data", m->left_out = "report")                                           \
    X(report_with_more, "nvidia.report.form policy.report_data", m->report_more = "x")                                 \
    X(report_in_a_longer_buffer, "", m->report_zeros = 3)                                                              \
    X(request_of_spdm_1_2, "nvidia.request.version", m->request[0] = 0x12)                                             \
    X(another_request, "nvidia.request.code", m->request[1] = 0xe1)                                                    \
    X(request_without_signature, "nvidia.request.attributes", m->request[2] = 0)                                       \
    X(request_of_one, "nvidia.request.operation", m->request[3] = 1)                                                   \
    X(response_of_spdm_1_0, "nvidia.response.version", m->response[0] = 0x10)                                          \
    X(another_response, "nvidia.response.code", m->response[1] = 0x61)                                                 \
    X(response_of_another_slot, "nvidia.response.slot", m->response[3] = 1)                                            \
    X(both_of_another_slot, "", (m->response[3] = 1, m->request[36] = 1))                                              \
    X(another_nonce, "policy.report_data", m->request[20] = 0)                                                         \
    X(fewer_blocks_said, "nvidia.measurements.count" UNCOMPARED, m->block_count = 63)                                  \
    X(more_blocks_than_64, "nvidia.measurements.count" UNCOMPARED, (m->block_count = 65, m->blocks_written = 65))      \
    X(no_block, "nvidia.measurements.count" UNCOMPARED, (m->block_count = 0, m->blocks_written = 0))                   \
    X(half_a_block, "nvidia.measurements.count nvidia.measurements.specification nvidia.measurements.kind "            \
      "nvidia.measurements.order" UNCOMPARED, m->record_more = 3)                                                      \
    X(fewer_blocks, "", m->block_count = m->blocks_written = 40)                                                       \
    X(block_of_another_specification, "nvidia.measurements.specification", m->blocks[40].specification = 2)            \
    X(block_of_raw_bits, "nvidia.measurements.kind" UNCOMPARED, m->blocks[40].type = 0x81)                             \
    X(block_of_32_bytes, "nvidia.measurements.kind" UNCOMPARED, (m->blocks[40].size = 35, m->blocks[40].value_size = 32)) \
    X(block_of_two_sizes, "nvidia.measurements.kind" UNCOMPARED, m->blocks[40].value_size = 47)                        \
    X(block_of_another_kind, "", m->blocks[40].type = 3)                                                               \
    X(block_twice, "nvidia.measurements.order", m->blocks[40].index = 40)                                              \
    X(opaque_cut, "nvidia.opaque.form", m->opaque_cut = 1)                                                             \
    X(opaque_twice, "nvidia.opaque.form", (m->opaque[8] = m->opaque[1]))                                               \
    X(opaque_of_version_0, "", set_opaque(m, 34, DATA("\0\0")))                                                        \
    X(opaque_of_version_2, "nvidia.opaque.version", set_opaque(m, 34, DATA("\x02\0")))                                 \
    X(opaque_of_version_256, "nvidia.opaque.version", set_opaque(m, 34, DATA("\0\x01")))                               \
    X(opaque_of_a_short_version, "nvidia.opaque.version", set_opaque(m, 34, DATA("\x01")))                             \
    X(no_driver, "nvidia.opaque.driver_version nvidia.driver_rim.version" UNMEASURED, m->opaque[4].type = 40)          \
    X(driver_of_odd_characters, "nvidia.opaque.driver_version nvidia.driver_rim.version" UNMEASURED,                   \
      set_opaque(m, 3, DATA("535\n86")))                                                                               \
    X(no_vbios, "nvidia.opaque.vbios_version nvidia.vbios_rim.version" UNMEASURED, m->opaque[0].type = 40)             \
    X(short_vbios, "nvidia.opaque.vbios_version nvidia.vbios_rim.version" UNMEASURED, m->opaque[0].length = 7)         \
    X(no_fwid, "", m->opaque[6].type = 40)                                                                             \
    X(fwid, "nvidia.fwid", set_opaque(m, 20, "firmware identity of forty-eight bytes, exactly:.", 48))                 \
    X(short_fwid, "nvidia.fwid", set_opaque(m, 20, FWID_BYTES, 47))                                                    \
    X(leaf_without_fwid, "nvidia.fwid", m->fwid = FWID_NONE)                                                           \
    X(leaf_with_fwid_of_sha256, "nvidia.fwid", m->fwid = FWID_OF_SHA256)                                               \
    X(leaf_with_short_fwid, "nvidia.fwid", m->fwid = FWID_SHORT)                                                       \
    X(leaf_with_fwid_elsewhere, "nvidia.fwid", m->fwid = FWID_UNTAGGED)                                                \
    X(a_switch, "nvidia.certificate.kind", m->leaf_name = "LS_10 A01 FSP FMC LF")                                      \
    X(a_name_alone, "nvidia.certificate.kind", m->leaf_name = " GSP FMC LF")                                           \
    X(leaf_on_p256, "nvidia.certificate.key nvidia.report.signature", m->leaf_curve = "P-256")                         \
    X(signed_by_another, "nvidia.report.signature", m->signs_with_other_key = 1)                                       \
    X(leaf_expired, "nvidia.chain", m->leaf_until = evidence_time("2025-12-31"))                                       \
    X(chain_swapped, "nvidia.chain", m->order = ORDER_SWAPPED)                                                         \
    X(chain_truncated, "nvidia.chain nvidia.root nvidia.chain.length", m->order = ORDER_TRUNCATED)                     \
    X(chain_extended, "nvidia.chain nvidia.chain.length", m->order = ORDER_EXTENDED)                                   \
    X(chain_empty, "nvidia.certificates", m->order = ORDER_SHORT)                                                      \
    X(another_root, "nvidia.root", m->is_root_pinned = 0)                                                              \
    X(model_revoked, "nvidia.chain", m->is_revoked = 13)                                                               \
    X(crls_malformed, "nvidia.crls", m->more = ",\"crls\":\"*\"")                                                      \
    X(others_revoked, "", m->is_revoked = 99)                                                                          \
    X(rims_missing, "policy.gpu.allow_unmeasured", (DRIVER.is_given = 0, VBIOS.is_given = 0))                          \
    X(driver_rim_missing, "policy.gpu.allow_unmeasured", DRIVER.is_given = 0)                                          \
    X(vbios_rim_missing, "policy.gpu.allow_unmeasured", VBIOS.is_given = 0)                                            \
    X(rims_not_wanted, "",                                                                                             \
      (DRIVER.is_given = 0, VBIOS.is_given = 0, m->gpu_policy = "\"allow_unmeasured\":true"))                          \
    X(rims_wanted, "policy.gpu.allow_unmeasured", (DRIVER.is_given = 0, m->gpu_policy = "\"allow_unmeasured\":false")) \
    X(measurements_named_instead, "", (DRIVER.is_given = 0, m->gpu_policy = MEASUREMENTS))                             \
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
    X(no_decoder, "", (set_opaque(m, 11, DATA("\x55")), DRIVER.value = 0, DRIVER.more = ANOTHER_ELEMENT))              \
    X(a_decoder, "nvidia.driver_rim.measurements" UNMEASURED, (DRIVER.value = 0, DRIVER.more = ANOTHER_ELEMENT))       \
    X(vbios_rim_forged, "nvidia.vbios_rim.signature" UNMEASURED, VBIOS.is_forged = 1)                                  \
    X(vbios_rim_short, "nvidia.vbios_rim" UNMEASURED, VBIOS.is_short = 1)                                              \
    X(vbios_rim_expired, "nvidia.vbios_rim.chain" UNMEASURED, VBIOS.leaf_until = evidence_time("2025-12-31"))          \
    X(vbios_rim_of_another_version, "nvidia.vbios_rim.version" UNMEASURED, VBIOS.version = "96.00.5e.00.01")           \
    X(vbios_rim_of_other_values, "nvidia.vbios_rim.measurements" UNMEASURED, VBIOS.value = 0)                          \
    X(all_that_the_policy_names, "", m->gpu_policy =                                                                   \
      "\"driver_version\":\"535.86.09\",\"vbios_version\":\"96.00.5E.00.01\",\"chip\":[\"GB100\",\"GH100\"],"          \
      "\"sku\":\"1010_0200_882\",\"required\":true")                                                                   \
    X(policy_driver, "policy.gpu.driver_version", m->gpu_policy = "\"driver_version\":\"535.86.10\"")                  \
    X(policy_vbios, "policy.gpu.vbios_version", m->gpu_policy = "\"vbios_version\":\"96.00.5E.00.02\"")                \
    X(policy_chip, "policy.gpu.chip", m->gpu_policy = "\"chip\":\"GB100\"")                                            \
    X(policy_sku, "policy.gpu.sku", m->gpu_policy = "\"sku\":\"1010_0200_883\"")                                       \
    X(policy_sku_unsaid, "policy.gpu.sku", (m->gpu_policy = "\"sku\":\"1010_0200_882\"", m->opaque[1].type = 40))      \
    X(policy_measurement, "policy.gpu.measurement", m->gpu_policy = "\"measurement\":{\"63\":\"3f\"}")                 \
    X(policy_measurement_missing, "policy.gpu.measurement",                                                            \
      (m->gpu_policy = MEASUREMENTS, m->block_count = m->blocks_written = 40))

/* Claims that are not made where measurements cannot be read, and manifests with which nothing can be compared. */
#define UNCOMPARED " nvidia.driver_rim.measurements nvidia.vbios_rim.measurements" UNMEASURED
#define HEX_63 "3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f"
#define HEX_9 "090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909"
#define MEASUREMENTS "\"measurement\":{\"63\":\"" HEX_63 "\",\"9\":[\"00\",\"" HEX_9 "\"]}"
#define ANOTHER_ELEMENT                                                                                                \
    "<ns0:Resource active=\"True\" alternatives=\"1\" index=\"9\" type=\"Measurement\" ns2:Hash0=\"" HEX_9 "\"></ns0:Resource>"

#define CHANGED struct gpu
#define NEW_CHANGED new_gpu()
#define JUDGE_CHANGED(m) judge_gpu(m)
#include "changes.h"

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
