/* AMD SEV-SNP: real reports verify, and nothing that was changed does. */
#include "test.h"

#include "authority.h"
#include "base/memory.h"
#include "evidence_document.h"
#include "trust_roots.h"

struct vector {
    const char *report, *leaf, *issuers, *date, *policy_more;
};

static const struct vector vectors[] = {
    {"milan-v2-report.bin", "milan-v2-vcek.der", "ask_ark_milan.pem", "2023-06-01",
     ",\"allow_debug\":true"},
    {"milan-v3-report.bin", "milan-v3-vcek.pem", "ask_ark_milan.pem", "2026-03-01", NULL},
    {"genoa-v3-report.bin", "genoa-v3-vcek.pem", "ask_ark_genoa.pem", "2026-03-01", NULL},
};

/* The report's own report data is what the policy asks for: these were not made for a Bulla server. */
static void write_policy(const struct vector *vector, const uint8_t *report, char policy[1024])
{
    char report_data[129], measurement[97];
    hex_encode(report + 0x50, 64, report_data);
    hex_encode(report + 0x90, 48, measurement);
    snprintf(policy, 1024, "{\"type\":\"snp\",\"report_data\":\"%s\",\"launch_measurement\":\"%s\"%s}", report_data,
             measurement, vector->policy_more ? vector->policy_more : "");
}

static void write_document(const struct vector *vector, const uint8_t *report, size_t length, struct buffer *document)
{
    const char *folder = evidence_folder("snp");
    size_t leaf_length, issuers_length;
    uint8_t *leaf = evidence_file(folder, vector->leaf, &leaf_length);
    uint8_t *issuers = evidence_file(folder, vector->issuers, &issuers_length);
    struct buffer der = {0};
    evidence_begin(document, "snp");
    evidence_add_bytes(document, "report", report, length);
    if (strstr(vector->leaf, ".der")) {
        base64_append(&der, leaf, leaf_length);
        const char *const texts[] = {(const char *)der.data, (const char *)issuers};
        evidence_add_texts(document, "certificates", texts, 2);
    } else {
        const char *const texts[] = {(const char *)leaf, (const char *)issuers};
        evidence_add_texts(document, "certificates", texts, 2);
    }
    buffer_append_byte(document, '}');
    buffer_free(&der);
    memory_free(leaf);
    memory_free(issuers);
}

static void real_reports_verify(void **state)
{
    if (!evidence_folder("snp"))
        skip();
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        size_t length;
        char policy[1024];
        struct buffer document = {0};
        uint8_t *report = evidence_file(evidence_folder("snp"), vectors[i].report, &length);
        write_policy(&vectors[i], report, policy);
        write_document(&vectors[i], report, length, &document);
        bulla_verdict *verdict = evidence_judge(&document, policy, evidence_time(vectors[i].date));
        assert_string_equal(evidence_failures(verdict), "");
        assert_string_equal(evidence_state(verdict, "snp.crls"), "not checked");
        assert_true(bulla_verdict_passed(verdict));
        bulla_verdict_free(verdict);
        buffer_free(&document);
        memory_free(report);
    }
}

/* ---- Reports of a hierarchy of our own: every field changed and signed again ---- */

enum { REPORT = 1184, SIGNED = 0x2a0 };

/* What a machine of ours says; a case changes one thing of it. */
struct machine {
    uint8_t report[REPORT];
    uint8_t chip[64];
    size_t chip_length;
    const char *product;              /* "Milan-B0" */
    int has_provider;                 /* the leaf is a VLEK */
    const char *leaf_curve, *root_name;
    int64_t leaf_from, leaf_until, asked_at, revoked;
    int order;                        /* how the chain is given */
    int is_root_pinned, signs_with_other_key, is_turin, leaf_issuer_is_wrong;
    int extension_left_out;           /* index of the extension, or -1 */
    uint8_t tcb[9];                   /* what the leaf certifies: .1 to .9 */
    const char *policy_more;          /* members of the policy */
    size_t report_length;             /* in the document; 0: all of it */
    const char *more;                 /* members of the document */
};

enum { ORDER_RIGHT, ORDER_SWAPPED, ORDER_TRUNCATED, ORDER_LEAF_ALONE, ORDER_EXTENDED, ORDER_DOUBLED, ORDER_EMPTY,
       ORDER_BROKEN /* an unfinished block of PEM behind the others */ };

static EVP_PKEY *root_key, *middle_key, *leaf_key, *other_key, *small_key;

static int make_keys(void **state)
{
    root_key = authority_key("RSA-4096");
    middle_key = authority_key("RSA-4096");
    leaf_key = authority_key("P-384");
    other_key = authority_key("P-384");
    small_key = authority_key("P-256");
    return 0;
}

static int free_keys(void **state)
{
    EVP_PKEY *const keys[] = {root_key, middle_key, leaf_key, other_key, small_key};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        EVP_PKEY_free(keys[i]);
    return 0;
}

static void put_u64(uint8_t *at, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static struct machine new_machine(void)
{
    struct machine machine = {.product = "Milan-B0", .leaf_curve = "P-384", .root_name = "ARK-Milan", .chip_length = 64,
                              .asked_at = evidence_time("2026-01-01"), .is_root_pinned = 1, .extension_left_out = -1};
    uint8_t *report = machine.report;
    report[0] = 3;
    put_u64(report + 8, 0x30000);     /* SMT, and the bit that is always 1 */
    report[0x34] = 1;
    memset(report + 0x50, 0xd1, 64);
    memset(report + 0x90, 0x3a, 48);
    memset(report + 0xc0, 0x05, 32);
    static const uint8_t tcb[8] = {4, 0, 0, 0, 0, 0, 24, 219};
    memcpy(report + 0x38, tcb, 8);
    memcpy(report + 0x180, tcb, 8);
    memcpy(report + 0x1e0, tcb, 8);
    memcpy(report + 0x1f0, tcb, 8);
    report[0x188] = 0x19;
    report[0x189] = 0x01;
    memset(machine.chip, 0xc4, 64);
    memcpy(report + 0x1a0, machine.chip, 64);
    memcpy(machine.tcb, (const uint8_t[]){4, 0, 24, 0, 0, 0, 0, 219, 0}, 9);
    return machine;
}

static X509 *issue_leaf(const struct machine *machine, X509 *issuer, EVP_PKEY *issuer_key)
{
    static const char *const tcb_oids[] = {"1.3.6.1.4.1.3704.1.3.1", "1.3.6.1.4.1.3704.1.3.2", "1.3.6.1.4.1.3704.1.3.3",
                                           "1.3.6.1.4.1.3704.1.3.4", "1.3.6.1.4.1.3704.1.3.5", "1.3.6.1.4.1.3704.1.3.6",
                                           "1.3.6.1.4.1.3704.1.3.7", "1.3.6.1.4.1.3704.1.3.8", "1.3.6.1.4.1.3704.1.3.9"};
    struct authority_extension extensions[12];
    uint8_t numbers[9][4], product[64], provider[] = {0x16, 3, 'c', 's', 'p'};
    size_t count = 0, product_length = strlen(machine->product);
    for (int i = 0; i < 9; i++) {
        size_t length = machine->tcb[i] < 0x80 ? 3 : 4;
        memcpy(numbers[i], length == 3 ? (const uint8_t[]){2, 1, machine->tcb[i], 0} : (const uint8_t[]){2, 2, 0, machine->tcb[i]}, 4);
        if (i != machine->extension_left_out && (i < 8 || machine->is_turin))
            extensions[count++] = (struct authority_extension){tcb_oids[i], numbers[i], length, 0};
    }
    product[0] = 0x16;
    product[1] = (uint8_t)product_length;
    memcpy(product + 2, machine->product, product_length);
    if (machine->extension_left_out != 10)
        extensions[count++] = (struct authority_extension){"1.3.6.1.4.1.3704.1.2", product, product_length + 2, 0};
    if (machine->has_provider)
        extensions[count++] = (struct authority_extension){"1.3.6.1.4.1.3704.1.5", provider, sizeof provider, 0};
    else if (machine->extension_left_out != 11)
        extensions[count++] = (struct authority_extension){"1.3.6.1.4.1.3704.1.4", machine->chip, machine->chip_length, 0};
    EVP_PKEY *key = strcmp(machine->leaf_curve, "P-384") == 0 ? leaf_key : small_key;
    return authority_issue(&(struct authority_certificate){
        .name = "SEV-VCEK", .key = key, .issuer = issuer, .issuer_key = issuer_key, .from = machine->leaf_from,
        .until = machine->leaf_until, .signs_with_pss = 1, .serial = 7, .extensions = extensions, .extension_count = count});
}

static void write_chain(const struct machine *machine, X509 *leaf, X509 *middle, X509 *root, struct buffer *document)
{
    struct buffer pem[3] = {{0}};
    X509 *const certificates[] = {leaf, middle, root};
    for (int i = 0; i < 3; i++)
        authority_write_pem(&pem[i], certificates[i]);
    const char *l = (const char *)pem[0].data, *m = (const char *)pem[1].data, *r = (const char *)pem[2].data;
    char broken[8192];
    snprintf(broken, sizeof broken, "%s-----BEGIN CERTIFICATE-----\nMIIB\n", r);
    const struct {
        const char *texts[4];
        size_t count;
    } orders[] = {[ORDER_RIGHT] = {{l, m, r}, 3},        [ORDER_SWAPPED] = {{l, r, m}, 3}, [ORDER_TRUNCATED] = {{l, m}, 2},
                  [ORDER_LEAF_ALONE] = {{l}, 1},         [ORDER_EXTENDED] = {{l, l, m, r}, 4},
                  [ORDER_DOUBLED] = {{l, m, m, r}, 4},   [ORDER_EMPTY] = {{l}, 0},
                  [ORDER_BROKEN] = {{l, m, broken}, 3}};
    evidence_add_texts(document, "certificates", orders[machine->order].texts, orders[machine->order].count);
    for (int i = 0; i < 3; i++)
        buffer_free(&pem[i]);
}

/* The names of the checks that fail. */
static const char *judge_machine(const struct machine *machine)
{
    uint8_t report[REPORT], numbers[96];
    struct buffer document = {0}, list = {0};
    char policy[1024], report_data[129], measurement[97];
    memcpy(report, machine->report, REPORT);
    authority_sign_raw(machine->signs_with_other_key ? other_key : leaf_key, "SHA384", report, SIGNED, numbers, 48);
    for (int i = 0; i < 48; i++) {
        report[SIGNED + i] = numbers[47 - i];
        report[SIGNED + 72 + i] = numbers[95 - i];
    }
    X509 *root = authority_issue(&(struct authority_certificate){.name = machine->root_name, .key = root_key,
                                                                 .is_authority = 1, .signs_with_pss = 1});
    X509 *middle = authority_issue(&(struct authority_certificate){.name = "SEV-Milan", .key = middle_key, .issuer = root,
                                                                   .issuer_key = root_key, .is_authority = 1,
                                                                   .signs_with_pss = 1, .serial = 8});
    X509 *leaf = issue_leaf(machine, middle, machine->leaf_issuer_is_wrong ? root_key : middle_key);
    test_roots_forget();
    if (machine->is_root_pinned)
        authority_trust("amd", root);
    evidence_begin(&document, "snp");
    if (!machine->more || !strstr(machine->more, "\"report\""))
        evidence_add_bytes(&document, "report", report, machine->report_length ? machine->report_length : sizeof report);
    buffer_append_text(&document, machine->more ? machine->more : "");
    write_chain(machine, leaf, middle, root, &document);
    if (machine->revoked) {
        X509_CRL *crl = authority_revoke(root, root_key, 0, 0, &machine->revoked, 1);
        authority_write_crl_pem(&list, crl);
        const char *const texts[] = {(const char *)list.data};
        evidence_add_texts(&document, "crls", texts, 1);
        X509_CRL_free(crl);
    }
    buffer_append_byte(&document, '}');
    hex_encode(report + 0x50, 64, report_data);
    memset(measurement, 0, sizeof measurement);
    for (int i = 0; i < 48; i++)
        memcpy(measurement + 2 * i, "3a", 2);
    snprintf(policy, sizeof policy, "{\"type\":\"snp\",\"report_data\":\"%s\",\"launch_measurement\":\"%s\"%s}", report_data,
             measurement, machine->policy_more ? machine->policy_more : "");
    bulla_verdict *verdict = evidence_judge(&document, policy, machine->asked_at);
    const char *failures = evidence_failures(verdict);
    assert_int_equal(bulla_verdict_passed(verdict), failures[0] == 0);
    bulla_verdict_free(verdict);
    X509_free(root);
    X509_free(middle);
    X509_free(leaf);
    buffer_free(&document);
    buffer_free(&list);
    return failures;
}

static void byte(struct machine *machine, int at, int value)
{
    machine->report[at] = (uint8_t)value;
}

static void turin(struct machine *machine)
{
    static const uint8_t tcb[8] = {1, 3, 2, 5, 0, 0, 0, 70};
    machine->product = "Turin-C1";
    machine->root_name = "ARK-Turin";
    machine->is_turin = 1;
    machine->chip_length = 8;
    byte(machine, 0, 5);
    byte(machine, 0x188, 0x1a);
    memset(machine->report + 0x1a8, 0, 56);
    memcpy(machine->report + 0x38, tcb, 8);
    memcpy(machine->report + 0x180, tcb, 8);
    memcpy(machine->report + 0x1e0, tcb, 8);
    memcpy(machine->tcb, (const uint8_t[]){3, 2, 5, 0, 0, 0, 0, 70, 1}, 9);
}

static void vlek(struct machine *machine)
{
    machine->has_provider = 1;
    byte(machine, 0x48, 1 << 2);
}

/* Without claims nothing of the policy holds. */
#define UNREAD " policy.report_data policy.launch_measurement"

/* What is changed, and the one check that sees it: without that check the evidence would be accepted. */
#define CHANGES(X)                                                                                                      \
    X(nothing, "", (void)m)                                                                                             \
    X(turin_of_version_5, "", turin(m))                                                                                 \
    X(vlek, "", vlek(m))                                                                                                \
    X(genoa, "", (m->product = "Genoa-B2", m->root_name = "ARK-Genoa", byte(m, 0x189, 0x11)))                           \
    X(bergamo_has_genoas_keys, "", (m->product = "Genoa-B2", m->root_name = "ARK-Genoa", byte(m, 0x189, 0xa0)))         \
    X(version_1, "snp.report.version", byte(m, 0, 1))                                                                   \
    X(version_4, "", byte(m, 0, 4))                                                                                     \
    X(version_6, "snp.report.version", byte(m, 0, 6))                                                                   \
    X(version_259, "snp.report.version", byte(m, 1, 1))                                                                 \
    X(signature_algorithm, "snp.report.signature_algorithm", byte(m, 0x34, 2))                                          \
    X(policy_bit_17, "snp.report.policy", byte(m, 10, 1))                                                               \
    X(policy_bit_26, "snp.report.policy", byte(m, 11, 4))                                                               \
    X(signing_key_none, "snp.report.signing_key", byte(m, 0x48, 7 << 2))                                                \
    X(signing_key_2, "snp.report.signing_key", byte(m, 0x48, 2 << 2))                                                   \
    X(vlek_by_a_vcek, "snp.certificate.kind", byte(m, 0x48, 1 << 2))                                                    \
    X(vcek_by_a_vlek, "snp.certificate.kind snp.chip_id", m->has_provider = 1)                                          \
    X(signed_by_another_key, "snp.report.signature", m->signs_with_other_key = 1)                                       \
    X(padding_above_r, "snp.report.signature_padding", byte(m, SIGNED + 50, 1))                                         \
    X(padding_above_s, "snp.report.signature_padding", byte(m, SIGNED + 72 + 50, 1))                                    \
    X(padding_at_the_end, "snp.report.signature_padding", byte(m, REPORT - 1, 1))                                       \
    X(leaf_on_p256, "snp.certificate.key snp.report.signature", m->leaf_curve = "P-256")                                \
    X(leaf_not_yet, "snp.chain", m->leaf_from = evidence_time("2026-01-02"))                                            \
    X(leaf_expired, "snp.chain", m->leaf_until = evidence_time("2025-12-31"))                                           \
    X(leaf_signed_by_the_root, "snp.chain", m->leaf_issuer_is_wrong = 1)                                                \
    X(chain_swapped, "snp.chain snp.root snp.root.product", m->order = ORDER_SWAPPED)                                   \
    X(chain_truncated, "snp.chain snp.root snp.chain.length snp.root.product", m->order = ORDER_TRUNCATED)              \
    X(chain_extended, "snp.chain snp.chain.length", m->order = ORDER_EXTENDED)                                          \
    X(chain_doubled, "snp.chain snp.chain.length", m->order = ORDER_DOUBLED)                                            \
    X(chain_empty, "snp.certificates" UNREAD, m->order = ORDER_EMPTY)                                                   \
    X(chain_with_a_broken_block, "snp.certificates" UNREAD, m->order = ORDER_BROKEN)                                    \
    X(leaf_alone, "snp.chain snp.chain.length snp.root.product", m->order = ORDER_LEAF_ALONE)                           \
    X(report_short, "snp.report.length" UNREAD, m->report_length = REPORT - 1)                                          \
    X(report_missing, "snp.report" UNREAD, m->more = ",\"report\":7")                                                   \
    X(crls_malformed, "snp.crls" UNREAD, m->more = ",\"crls\":\"*\"")                                                   \
    X(another_root, "snp.root", m->is_root_pinned = 0)                                                                  \
    X(root_of_another_product, "snp.root.product", m->root_name = "ARK-Genoa")                                          \
    X(middle_revoked, "snp.chain", m->revoked = 8)                                                                      \
    X(others_revoked, "", m->revoked = 9)                                                                               \
    X(product_unknown, "snp.certificate.product snp.root.product snp.report.cpuid", m->product = "Venice-A0")           \
    X(product_missing, "snp.certificate.product snp.root.product snp.report.cpuid", m->extension_left_out = 10)         \
    X(cpuid_of_another, "snp.report.cpuid", byte(m, 0x189, 0x11))                                                       \
    X(cpuid_family, "snp.report.cpuid", byte(m, 0x188, 0x1a))                                                           \
    X(chip_id, "snp.chip_id", byte(m, 0x1a0, 0))                                                                        \
    X(chip_id_at_its_end, "snp.chip_id", byte(m, 0x1df, 0))                                                             \
    X(chip_id_kept_back, "", memset(m->report + 0x1a0, 0, 64))                                                          \
    X(turin_chip_id_kept_back, "", (turin(m), memset(m->report + 0x1a0, 0, 64)))                                        \
    X(crls_that_only_begin, "snp.crls" UNREAD, m->more = ",\"crls\":\"-----BEGIN x\"")                                  \
    X(chip_id_missing, "snp.chip_id", m->extension_left_out = 11)                                                       \
    X(turin_chip_id_longer, "snp.chip_id", (turin(m), byte(m, 0x1a8, 1)))                                               \
    X(tcb_bootloader, "snp.tcb.bootloader", m->tcb[0] = 5)                                                              \
    X(tcb_tee, "snp.tcb.tee", m->tcb[1] = 1)                                                                            \
    X(tcb_snp, "snp.tcb.snp", m->tcb[2] = 23)                                                                           \
    X(tcb_microcode, "snp.tcb.microcode", m->tcb[7] = 220)                                                              \
    X(tcb_microcode_missing, "snp.tcb.microcode", m->extension_left_out = 7)                                            \
    X(turin_tcb_fmc, "snp.tcb.fmc", (turin(m), m->tcb[8] = 2))                                                          \
    X(turin_tcb_bootloader, "snp.tcb.bootloader", (turin(m), m->tcb[0] = 4))                                            \
    X(committed_bootloader, "snp.committed_tcb.bootloader", byte(m, 0x1e0, 3))                                          \
    X(committed_tee, "snp.committed_tcb.tee", (byte(m, 0x181, 1), m->tcb[1] = 1))                                       \
    X(turin_committed_fmc, "snp.committed_tcb.fmc", (turin(m), byte(m, 0x1e0, 0)))                                      \
    X(committed_snp, "snp.committed_tcb.snp", byte(m, 0x1e6, 23))                                                       \
    X(committed_microcode, "snp.committed_tcb.microcode", byte(m, 0x1e7, 218))                                          \
    X(debugging, "policy.allow_debug", byte(m, 10, 0x0b))                                                               \
    X(debugging_allowed, "", (byte(m, 10, 0x0b), m->policy_more = ",\"allow_debug\":true"))                             \
    X(migration_agent, "policy.allow_migration_agent", byte(m, 10, 0x07))                                               \
    X(smt_forbidden, "policy.allow_smt", m->policy_more = ",\"allow_smt\":false")                                       \
    X(vmpl_2, "policy.vmpl", byte(m, 0x30, 2))                                                                          \
    X(vmpl_2_accepted, "", (byte(m, 0x30, 2), m->policy_more = ",\"vmpl\":[0,2]"))                                      \
    X(measurement, "policy.launch_measurement", byte(m, 0x90, 0))                                                       \
    X(host_data, "policy.host_data", m->policy_more = ",\"host_data\":\"00\"")                                          \
    X(tcb_too_old, "policy.minimum_tcb", m->policy_more = ",\"minimum_tcb\":{\"snp\":25}")                              \
    X(tcb_new_enough, "", m->policy_more = ",\"minimum_tcb\":{\"snp\":24,\"microcode\":219}")                           \
    X(tcb_part_unknown, "policy.minimum_tcb", m->policy_more = ",\"minimum_tcb\":{\"coffee\":1}")                       \
    X(guest_svn, "policy.minimum_guest_svn", m->policy_more = ",\"minimum_guest_svn\":1")

#define CHANGED struct machine
#define NEW_CHANGED new_machine()
#define JUDGE_CHANGED(m) judge_machine(m)
#include "changes.h"

/* Every byte of a real report, each bit of it in full counts. */
static void every_signed_byte_counts(void **state)
{
    if (!evidence_folder("snp"))
        skip();
    size_t length, flipped = 0;
    char policy[1024];
    uint8_t *report = evidence_file(evidence_folder("snp"), vectors[1].report, &length);
    write_policy(&vectors[1], report, policy);
    for (size_t at = 0; at < length; at++)
        for (int bit = (int)test_count(at % 8, 0); bit < (int)test_count(at % 8 + 1, 8); bit++, flipped++) {
            struct buffer document = {0};
            report[at] ^= (uint8_t)(1 << bit);
            write_document(&vectors[1], report, length, &document);
            bulla_verdict *verdict = evidence_judge(&document, policy, evidence_time(vectors[1].date));
            if (bulla_verdict_passed(verdict))
                fail_msg("byte %zu, bit %d: accepted", at, bit);
            report[at] ^= (uint8_t)(1 << bit);
            bulla_verdict_free(verdict);
            buffer_free(&document);
        }
    memory_free(report);
    print_message("%zu bits flipped, none accepted\n", flipped);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_reports_verify),
        cmocka_unit_test(every_signed_byte_counts),
        cmocka_unit_test(every_change_is_seen_by_its_check),
    };
    return cmocka_run_group_tests(tests, make_keys, free_keys);
}
