/* Intel TDX quotes of versions 4 and 5 (trust/evidence/dcap.h): reports of trust domains, of TDX 1.0 or 1.5. Bits of
 * ATTRIBUTES: "Intel TDX Module ABI Specification", section "ATTRIBUTES". */
#include <string.h>

#include "trust/evidence/dcap.h"
#include "trust/formats.h"

enum { TDX = 0x81, REPORT_1_0 = 2, REPORT_1_5 = 3, REPORT_1_0_BYTES = 584, REPORT_1_5_BYTES = 648,
       MEASUREMENT_BYTES = 48 };

/* Offsets in the report; the last two in those of TDX 1.5. */
enum { AT_TEE_TCB_SVN = 0, AT_MRSEAM = 16, AT_MRSIGNERSEAM = 64, AT_SEAMATTRIBUTES = 112, AT_ATTRIBUTES = 120,
       AT_XFAM = 128, AT_MRTD = 136, AT_MRCONFIGID = 184, AT_MROWNER = 232, AT_MROWNERCONFIG = 280, AT_RTMR = 328,
       AT_REPORT_DATA = 520, AT_TEE_TCB_SVN_2 = 584, AT_MRSERVICETD = 600 };

/* Bits of ATTRIBUTES. Any of the first eight makes a domain that nobody should trust; those that are not here are
 * reserved. */
enum { DEBUG = 0, HGS_PLUS_PROF = 4, PERF_PROF = 5, PMT_PROF = 6, UNTRUSTED_BITS = 8, ICSSD = 16, LASS = 27,
       SEPT_VE_DISABLE = 28, MIGRATABLE = 29, PKS = 30, KL = 31, TPA = 62, PERFMON = 63 };

static size_t body_bytes(unsigned version, unsigned body_type)
{
    if (version == 4 || body_type == REPORT_1_0)
        return REPORT_1_0_BYTES;
    return body_type == REPORT_1_5 ? REPORT_1_5_BYTES : 0;
}

static const struct dcap_kind tdx_kind = {.tee_type = TDX, .first_version = 4, .last_version = 5, .versions = "4 or 5",
                                          .tcb_info_id = "TDX", .qe_identity_id = "TD_QE", .body_bytes = body_bytes};

static void check_attributes(struct verdict *verdict, uint64_t attributes)
{
    static const int known[] = {DEBUG, HGS_PLUS_PROF, PERF_PROF, PMT_PROF, ICSSD, LASS, SEPT_VE_DISABLE, MIGRATABLE,
                                PKS, KL, TPA, PERFMON};
    uint64_t reserved = ~0ull;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        reserved &= ~(1ull << known[i]);
    verdict_holds(verdict, "tdx.report.attributes", !(attributes & reserved), "no reserved bit", "0x%llx",
                  (unsigned long long)attributes);
}

static void claim(struct evidence *evidence, const struct dcap_quote *quote)
{
    static const struct claim_field fields[] = {
        {"report_data", AT_REPORT_DATA, 64, 0},
        {"mrtd", AT_MRTD, MEASUREMENT_BYTES, 0},
        {"rtmr0", AT_RTMR, MEASUREMENT_BYTES, 0},
        {"rtmr1", AT_RTMR + MEASUREMENT_BYTES, MEASUREMENT_BYTES, 0},
        {"rtmr2", AT_RTMR + 2 * MEASUREMENT_BYTES, MEASUREMENT_BYTES, 0},
        {"rtmr3", AT_RTMR + 3 * MEASUREMENT_BYTES, MEASUREMENT_BYTES, 0},
        {"mrconfigid", AT_MRCONFIGID, MEASUREMENT_BYTES, 0},
        {"mrowner", AT_MROWNER, MEASUREMENT_BYTES, 0},
        {"mrownerconfig", AT_MROWNERCONFIG, MEASUREMENT_BYTES, 0},
        {"mrseam", AT_MRSEAM, MEASUREMENT_BYTES, 0},
        {"td_attributes", AT_ATTRIBUTES, 8, 0},
        {"xfam", AT_XFAM, 8, 0},
        {"mrservicetd", AT_MRSERVICETD, MEASUREMENT_BYTES, 0},
    };
    static const uint8_t none[MEASUREMENT_BYTES];
    uint64_t attributes = evidence_number(quote->body + AT_ATTRIBUTES, 8);
    int is_served = 0;
    evidence_claim_fields(evidence, quote->body, quote->body_length, fields, sizeof fields / sizeof *fields);
    if (quote->body_length == REPORT_1_5_BYTES)
        is_served = memcmp(quote->body + AT_MRSERVICETD, none, sizeof none) != 0;
    evidence_claim_flag(evidence, "debug", (attributes & ((1 << UNTRUSTED_BITS) - 1)) != 0);
    /* A migratable domain may be moved, and a service domain is what moves it. */
    evidence_claim_flag(evidence, "migration_agent", (attributes >> MIGRATABLE & 1) || is_served);
}

static void verify(struct evidence *evidence)
{
    struct dcap_quote quote;
    if (!dcap_read(evidence, &tdx_kind, &quote))
        return;
    const struct pcs_td td = {
        .tee_tcb_svn = quote.body + AT_TEE_TCB_SVN,
        .tee_tcb_svn_2 = quote.body_length == REPORT_1_5_BYTES ? quote.body + AT_TEE_TCB_SVN_2 : NULL,
        .mrsignerseam = quote.body + AT_MRSIGNERSEAM,
        .seamattributes = quote.body + AT_SEAMATTRIBUTES,
    };
    check_attributes(evidence->verdict, evidence_number(quote.body + AT_ATTRIBUTES, 8));
    claim(evidence, &quote);
    dcap_verify(evidence, &quote, &td);
}

const struct evidence_format evidence_tdx = {
    .type = "tdx",
    .title = "Intel TDX quote",
    .has_met_real = 1,
    .report_data_bytes = 64,
    .verify = verify,
};
