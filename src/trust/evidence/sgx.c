/* Intel SGX quotes of version 3 (trust/evidence/dcap.h): reports of enclaves. Bits of ATTRIBUTES and MISCSELECT: "Intel
 * 64 and IA-32 Architectures Software Developer's Manual", volume 3D, "SGX Enclave Control Structure (SECS)". */
#include "trust/evidence/dcap.h"
#include "trust/formats.h"

enum { ATTRIBUTES_BYTES = 16, MISCSELECT_BITS = 2 };

/* Flags of ATTRIBUTES; those that are not here are reserved. */
enum { INIT = 1 << 0, DEBUG = 1 << 1, MODE64BIT = 1 << 2, PROVISIONKEY = 1 << 4, EINITTOKEN_KEY = 1 << 5, CET = 1 << 6,
       KSS = 1 << 7, AEX_NOTIFY = 1 << 10 };

static size_t body_bytes(unsigned version, unsigned body_type)
{
    return version == 3 && body_type == 0 ? ENCLAVE_REPORT_BYTES : 0;
}

static const struct dcap_kind sgx_kind = {.tee_type = 0, .first_version = 3, .last_version = 3, .versions = "3",
                                          .tcb_info_id = "SGX", .qe_identity_id = "QE", .body_bytes = body_bytes};

static void check_report(struct verdict *verdict, const uint8_t *report)
{
    static const struct {
        int from, until;
    } reserved[] = {{20, 32}, {96, 128}, {160, 192}, {262, 304}};
    const uint64_t known = INIT | DEBUG | MODE64BIT | PROVISIONKEY | EINITTOKEN_KEY | CET | KSS | AEX_NOTIFY;
    uint64_t flags = evidence_number(report + ENCLAVE_ATTRIBUTES, 8);
    uint32_t miscselect = (uint32_t)evidence_number(report + ENCLAVE_MISCSELECT, 4);
    size_t others = 0;
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
        for (int at = reserved[i].from; at < reserved[i].until; at++)
            others += report[at] != 0;
    verdict_holds(verdict, "sgx.report.attributes", flags & INIT && !(flags & ~known), "INIT, and no reserved flag",
                  "0x%llx", (unsigned long long)flags);
    verdict_holds(verdict, "sgx.report.miscselect", miscselect >> MISCSELECT_BITS == 0, "no reserved bit", "0x%x",
                  miscselect);
    verdict_holds(verdict, "sgx.report.reserved", others == 0, "zeros", "%zu other bytes", others);
}

static void claim(struct evidence *evidence, const uint8_t *report)
{
    static const struct claim_field fields[] = {
        {"report_data", ENCLAVE_REPORT_DATA, 64, 0},
        {"mrenclave", ENCLAVE_MRENCLAVE, 32, 0},
        {"mrsigner", ENCLAVE_MRSIGNER, 32, 0},
        {"signer_info", ENCLAVE_MRSIGNER, 32, 0},
        {"config_id", ENCLAVE_CONFIG_ID, 64, 0},
        {"isv_ext_prod_id", ENCLAVE_EXT_PROD_ID, 16, 0},
        {"isv_family_id", ENCLAVE_FAMILY_ID, 16, 0},
        {"sgx_attributes", ENCLAVE_ATTRIBUTES, ATTRIBUTES_BYTES, 0},
        {"isv_prod_id", ENCLAVE_PROD_ID, 2, 1},
        {"isv_svn", ENCLAVE_SVN, 2, 1},
        {"config_svn", ENCLAVE_CONFIG_SVN, 2, 1},
    };
    evidence_claim_fields(evidence, report, ENCLAVE_REPORT_BYTES, fields, sizeof fields / sizeof *fields);
    evidence_claim_flag(evidence, "debug", (report[ENCLAVE_ATTRIBUTES] & DEBUG) != 0);
}

static void verify(struct evidence *evidence)
{
    struct dcap_quote quote;
    if (!dcap_read(evidence, &sgx_kind, &quote))
        return;
    check_report(evidence->verdict, quote.body);
    claim(evidence, quote.body);
    dcap_verify(evidence, &quote, NULL);
}

const struct evidence_format evidence_sgx = {
    .type = "sgx",
    .title = "Intel SGX quote",
    .has_met_real = 1,
    .report_data_bytes = 64,
    .verify = verify,
};
