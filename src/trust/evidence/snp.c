/* AMD SEV-SNP attestation reports: versions 2 to 5 of AMD's "SEV Secure Nested Paging Firmware ABI Specification"
 * (publication 56860), table "ATTESTATION_REPORT", signed by a VCEK or a VLEK ("Versioned Chip Endorsement Key (VCEK)
 * Certificate and KDS Interface Specification", publication 57230; VLEK: 58369).
 *
 * Document: "report" (1,184 bytes), "certificates" (VCEK or VLEK, ASK or ASVK, ARK), "crls" (optional). */
#include <string.h>

#include "trust/formats.h"

enum {
    REPORT_BYTES = 1184,
    SIGNED_BYTES = 0x2a0,
    NUMBER_BYTES = 48,         /* of P-384 */
    SIGNATURE_FIELD = 72,      /* r and s, little-endian, zeros above */
    ECDSA_P384_SHA384 = 1,
    SIGNED_BY_VCEK = 0, SIGNED_BY_VLEK = 1,
    CHIP_ID_BYTES = 64,
    TURIN_CHIP_ID_BYTES = 8    /* of the certificate; the report's are followed by zeros */
};

enum { POLICY_SMT = 16, POLICY_ONE = 17, POLICY_MIGRATION_AGENT = 18, POLICY_DEBUG = 19, POLICY_SINGLE_SOCKET = 20,
       POLICY_CXL = 21, POLICY_AES_256_XTS = 22, POLICY_RAPL_DISABLED = 23, POLICY_CIPHERTEXT_HIDING = 24,
       POLICY_PAGE_SWAP_DISABLED = 25, POLICY_BITS = 26 };

/* Offsets in the report. */
enum { AT_VERSION = 0, AT_GUEST_SVN = 4, AT_POLICY = 8, AT_FAMILY_ID = 0x10, AT_IMAGE_ID = 0x20, AT_VMPL = 0x30,
       AT_SIGNATURE_ALGORITHM = 0x34, AT_CURRENT_TCB = 0x38, AT_PLATFORM_INFO = 0x40, AT_FLAGS = 0x48,
       AT_REPORT_DATA = 0x50, AT_MEASUREMENT = 0x90, AT_HOST_DATA = 0xc0, AT_ID_KEY_DIGEST = 0xe0,
       AT_AUTHOR_KEY_DIGEST = 0x110, AT_REPORTED_TCB = 0x180, AT_CPUID = 0x188, AT_CHIP_ID = 0x1a0,
       AT_COMMITTED_TCB = 0x1e0, AT_SIGNATURE = 0x2a0 };

/* The parts of a TCB version: where their byte is, by product; the certificate's extension that holds the same. */
struct tcb_part {
    const char *check, *claim, *committed_check;
    const char *oid;
    int byte, turin_byte; /* -1: not there */
};

static const struct tcb_part tcb_parts[] = {
    {"snp.tcb.bootloader", "tcb.bootloader", "snp.committed_tcb.bootloader", "1.3.6.1.4.1.3704.1.3.1", 0, 1},
    {"snp.tcb.tee", "tcb.tee", "snp.committed_tcb.tee", "1.3.6.1.4.1.3704.1.3.2", 1, 2},
    {"snp.tcb.snp", "tcb.snp", "snp.committed_tcb.snp", "1.3.6.1.4.1.3704.1.3.3", 6, 3},
    {"snp.tcb.microcode", "tcb.microcode", "snp.committed_tcb.microcode", "1.3.6.1.4.1.3704.1.3.8", 7, 7},
    {"snp.tcb.fmc", "tcb.fmc", "snp.committed_tcb.fmc", "1.3.6.1.4.1.3704.1.3.9", -1, 0},
};

static const char oid_product[] = "1.3.6.1.4.1.3704.1.2", oid_chip_id[] = "1.3.6.1.4.1.3704.1.4",
                  oid_provider[] = "1.3.6.1.4.1.3704.1.5";

/* The generations of processors: CPUID family and models, the name in certificates, the root. */
struct product {
    const char *name, *root;
    unsigned family, first_model, last_model;
};

static const struct product products[] = {
    {"Milan", "ARK-Milan", 0x19, 0x00, 0x0f},
    {"Genoa", "ARK-Genoa", 0x19, 0x10, 0x1f},
    {"Genoa", "ARK-Genoa", 0x19, 0xa0, 0xaf}, /* Bergamo and Siena: Genoa's keys */
    {"Turin", "ARK-Turin", 0x1a, 0x00, 0x11},
};

struct snp {
    struct evidence *evidence;
    struct verdict *verdict;
    const uint8_t *report;
    struct certificates chain;
    X509 *leaf;
    uint32_t version;
    int is_vlek;
    const char *product; /* by the certificate */
};

/* A DER INTEGER below 256, as AMD's extensions have it; -1: anything else. */
static int small_integer(const uint8_t *der, size_t length)
{
    if (length == 3 && der[0] == 2 && der[1] == 1 && der[2] < 0x80)
        return der[2];
    if (length == 4 && der[0] == 2 && der[1] == 2 && der[2] == 0 && der[3] >= 0x80)
        return der[3];
    return -1;
}

/* ---- The report by itself ---- */

static void check_form(struct snp *snp)
{
    struct verdict *verdict = snp->verdict;
    const uint8_t *report = snp->report;
    uint64_t policy = evidence_number(report + AT_POLICY, 8);
    unsigned signer = report[AT_FLAGS] >> 2 & 7;
    snp->version = (uint32_t)evidence_number(report + AT_VERSION, 4);
    snp->is_vlek = signer == SIGNED_BY_VLEK;
    verdict_holds(verdict, "snp.report.version", 2 <= snp->version && snp->version <= 5, "2 to 5", "%u",
                  snp->version);
    verdict_same_number(verdict, "snp.report.signature_algorithm", evidence_number(report + AT_SIGNATURE_ALGORITHM, 4),
                        ECDSA_P384_SHA384);
    verdict_holds(verdict, "snp.report.policy", policy >> POLICY_ONE & 1 && policy >> POLICY_BITS == 0,
                  "bit 17 set, none above 25", "0x%llx", (unsigned long long)policy);
    verdict_holds(verdict, "snp.report.signing_key", signer == SIGNED_BY_VCEK || signer == SIGNED_BY_VLEK,
                  "0 (VCEK) or 1 (VLEK)", "%u", signer);
}

/* ---- The chain ---- */

static void check_chain(struct snp *snp)
{
    static const struct chain_rules rules = {"snp.chain", "snp.root", "amd", REVOCATION_GIVEN, "snp.crls"};
    size_t length;
    certificates_verify(&snp->chain, &snp->chain, &rules, snp->evidence->time, snp->verdict);
    verdict_same_number(snp->verdict, "snp.chain.length", snp->chain.count, 3);
    int has_provider = certificate_extension(snp->leaf, oid_provider, &length) != NULL;
    verdict_holds(snp->verdict, "snp.certificate.kind", has_provider == snp->is_vlek,
                  snp->is_vlek ? "a VLEK, as the report says" : "a VCEK, as the report says", "%s",
                  has_provider ? "a VLEK" : "a VCEK");
}

/* "Milan-B0" in an IA5String: the name before the stepping. */
static const char *certificate_product(struct snp *snp)
{
    size_t length;
    const uint8_t *der = certificate_extension(snp->leaf, oid_product, &length);
    if (!der || length < 3 || der[0] != 0x16 || der[1] != length - 2)
        return NULL;
    const char *text = (const char *)der + 2;
    const char *end = memchr(text, '-', length - 2);
    size_t name = end ? (size_t)(end - text) : length - 2;
    for (size_t i = 0; i < sizeof products / sizeof *products; i++)
        if (strlen(products[i].name) == name && memcmp(products[i].name, text, name) == 0)
            return products[i].name;
    return NULL;
}

static void check_product(struct snp *snp)
{
    struct verdict *verdict = snp->verdict;
    const char *found = NULL;
    snp->product = certificate_product(snp);
    verdict_holds(verdict, "snp.certificate.product", snp->product != NULL, "Milan, Genoa or Turin", "%s",
                  snp->product ? snp->product : "another, or none");
    const char *root = certificate_subject(snp->chain.list[snp->chain.count - 1], verdict);
    for (size_t i = 0; i < sizeof products / sizeof *products; i++)
        if (snp->product && strcmp(products[i].name, snp->product) == 0)
            found = products[i].root;
    verdict_holds(verdict, "snp.root.product", found && root && strstr(root, found), found ? found : "the product's root",
                  "%s", root ? root : "?");
    if (snp->version < 3) {
        verdict_not_made(verdict, "snp.report.cpuid", "reports of version 2 do not say it");
        return;
    }
    unsigned family = snp->report[AT_CPUID], model = snp->report[AT_CPUID + 1];
    found = "another";
    for (size_t i = 0; i < sizeof products / sizeof *products; i++)
        if (products[i].family == family && products[i].first_model <= model && model <= products[i].last_model)
            found = products[i].name;
    verdict_holds(verdict, "snp.report.cpuid", snp->product && strcmp(found, snp->product) == 0,
                  snp->product ? snp->product : "a known product", "%s (family 0x%x, model 0x%x)", found, family, model);
}

static void check_chip_id(struct snp *snp)
{
    static const uint8_t zeros[CHIP_ID_BYTES];
    size_t length;
    const uint8_t *chip = snp->report + AT_CHIP_ID, *certified = certificate_extension(snp->leaf, oid_chip_id, &length);
    if (snp->is_vlek) {
        verdict_not_made(snp->verdict, "snp.chip_id", "a VLEK is of a provider, not of a chip");
        return;
    }
    if (memcmp(chip, zeros, CHIP_ID_BYTES) == 0) { /* MaskChipId: who signed is still that chip's key */
        verdict_not_made(snp->verdict, "snp.chip_id", "the host keeps it out of its reports");
        return;
    }
    size_t expected = snp->product && strcmp(snp->product, "Turin") == 0 ? TURIN_CHIP_ID_BYTES : CHIP_ID_BYTES;
    if (!certified || length != expected)
        verdict_fails(snp->verdict, "snp.chip_id", "the certificate names no chip of %zu bytes", expected);
    else if (memcmp(chip + expected, zeros, CHIP_ID_BYTES - expected) != 0)
        verdict_fails(snp->verdict, "snp.chip_id", "the report's chip id is longer than %zu bytes", expected);
    else
        verdict_same_bytes(snp->verdict, "snp.chip_id", chip, expected, certified, expected);
}

static void check_signature(struct snp *snp)
{
    static const uint8_t zeros[REPORT_BYTES];
    uint8_t numbers[2 * NUMBER_BYTES];
    const uint8_t *field = snp->report + AT_SIGNATURE;
    for (size_t i = 0; i < NUMBER_BYTES; i++) {
        numbers[i] = field[NUMBER_BYTES - 1 - i];
        numbers[NUMBER_BYTES + i] = field[SIGNATURE_FIELD + NUMBER_BYTES - 1 - i];
    }
    size_t above = SIGNATURE_FIELD - NUMBER_BYTES;
    verdict_is(snp->verdict, "snp.report.signature_padding",
               memcmp(field + NUMBER_BYTES, zeros, above) == 0 &&
                   memcmp(field + SIGNATURE_FIELD + NUMBER_BYTES, zeros, above) == 0 &&
                   memcmp(field + 2 * SIGNATURE_FIELD, zeros, REPORT_BYTES - AT_SIGNATURE - 2 * SIGNATURE_FIELD) == 0,
               "zeros around r and s");
    certificate_check_p384(snp->leaf, "snp.certificate.key", "snp.report.signature", snp->report, SIGNED_BYTES, numbers,
                           snp->verdict);
}

/* ---- TCB ---- */

static void check_tcb(struct snp *snp)
{
    struct verdict *verdict = snp->verdict;
    int is_turin = snp->product && strcmp(snp->product, "Turin") == 0;
    for (size_t i = 0; i < sizeof tcb_parts / sizeof *tcb_parts; i++) {
        const struct tcb_part *part = &tcb_parts[i];
        int byte = is_turin ? part->turin_byte : part->byte;
        if (byte < 0)
            continue;
        size_t length = 0;
        const uint8_t *der = certificate_extension(snp->leaf, part->oid, &length);
        int certified = der ? small_integer(der, length) : -1;
        uint8_t reported = snp->report[AT_REPORTED_TCB + byte], committed = snp->report[AT_COMMITTED_TCB + byte];
        if (certified < 0)
            verdict_fails(verdict, part->check, "the certificate does not say it");
        else
            verdict_same_number(verdict, part->check, reported, (uint64_t)certified);
        verdict_at_least(verdict, part->committed_check, committed, reported);
        evidence_claim_number(snp->evidence, part->claim, reported);
    }
}

/* ---- Claims ---- */

static void claim(struct evidence *evidence, const uint8_t *report)
{
    static const struct claim_field fields[] = {
        {"report_data", AT_REPORT_DATA, 64, 0},
        {"launch_measurement", AT_MEASUREMENT, 48, 0},
        {"host_data", AT_HOST_DATA, 32, 0},
        {"signer_info", AT_ID_KEY_DIGEST, 48, 0},
        {"author_key_digest", AT_AUTHOR_KEY_DIGEST, 48, 0},
        {"family_id", AT_FAMILY_ID, 16, 0},
        {"image_id", AT_IMAGE_ID, 16, 0},
        {"chip_id", AT_CHIP_ID, CHIP_ID_BYTES, 0},
        {"guest_svn", AT_GUEST_SVN, 4, 1},
        {"vmpl", AT_VMPL, 4, 1},
        {"platform_info", AT_PLATFORM_INFO, 8, 1},
    };
    static const struct {
        const char *name;
        int bit;
    } flags[] = {{"debug", POLICY_DEBUG}, {"migration_agent", POLICY_MIGRATION_AGENT}, {"smt", POLICY_SMT},
                 {"single_socket", POLICY_SINGLE_SOCKET}, {"cxl", POLICY_CXL}, {"aes_256_xts", POLICY_AES_256_XTS},
                 {"rapl_disabled", POLICY_RAPL_DISABLED}, {"ciphertext_hiding", POLICY_CIPHERTEXT_HIDING},
                 {"page_swap_disabled", POLICY_PAGE_SWAP_DISABLED}};
    uint64_t policy = evidence_number(report + AT_POLICY, 8);
    evidence_claim_fields(evidence, report, REPORT_BYTES, fields, sizeof fields / sizeof *fields);
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        evidence_claim_flag(evidence, flags[i].name, policy >> flags[i].bit & 1);
}

static void verify(struct evidence *evidence)
{
    struct snp snp = {.evidence = evidence, .verdict = evidence->verdict};
    size_t length;
    snp.report = evidence_bytes(evidence, "snp.report", "report", REPORT_BYTES, &length);
    if (!snp.report || !verdict_same_number(evidence->verdict, "snp.report.length", length, REPORT_BYTES))
        return;
    check_form(&snp);
    if (evidence_chain(evidence, "snp.certificates", "snp.crls", &snp.chain)) {
        snp.leaf = snp.chain.list[0];
        check_chain(&snp);
        check_product(&snp);
        check_chip_id(&snp);
        check_signature(&snp);
        check_tcb(&snp);
        claim(evidence, snp.report);
    }
    certificates_free(&snp.chain);
}

const struct evidence_format evidence_snp = {
    .type = "snp",
    .title = "AMD SEV-SNP attestation report",
    .has_met_real = 1,
    .report_data_bytes = 64,
    .verify = verify,
};
