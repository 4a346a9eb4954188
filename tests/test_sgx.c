/* Intel SGX quotes, and what they share with Intel's others: every field changed and signed again, each change seen by
 * its check. Real quotes: test_dcap.c. */
#include "test.h"

#include "dcap_machine.h"
#include "evidence_document.h"

#define HEX_32(byte) byte byte byte byte byte byte byte byte byte byte byte byte byte byte byte byte                   \
    byte byte byte byte byte byte byte byte byte byte byte byte byte byte byte byte
#define HEX_16(byte) byte byte byte byte byte byte byte byte byte byte byte byte byte byte byte byte

static const char base_policy[] =
    "{\"type\":\"sgx\",\"report_data\":\"" HEX_32("d1") HEX_32("d1") "\",\"mrenclave\":\"" HEX_32("3a")
    "\",\"mrsigner\":\"" HEX_32("5b") "\",\"signer_info\":\"" HEX_32("5b")
    "\",\"config_id\":\"" HEX_32("c1") HEX_32("c1")
    "\",\"isv_ext_prod_id\":\"" HEX_16("e1") "\",\"isv_family_id\":\"" HEX_16("fa")
    "\",\"isv_prod_id\":7,\"minimum_isv_svn\":9,\"minimum_config_svn\":3";

static const char *judge(const struct dcap_machine *machine)
{
    char policy[2048];
    snprintf(policy, sizeof policy, "%s%s}", base_policy, machine->policy_more ? machine->policy_more : "");
    return dcap_failures(machine, "sgx", policy);
}

static void info(struct dcap_machine *m, const char *old, const char *new)
{
    dcap_replace(m->tcb_info, sizeof m->tcb_info, old, new);
}

static void identity(struct dcap_machine *m, const char *old, const char *new)
{
    dcap_replace(m->qe_identity, sizeof m->qe_identity, old, new);
}

static const int64_t day = 86400;

/* X(what is changed, the checks that see it, the change) */
#define CHANGES(X)                                                                                                     \
    X(nothing, "", (void)m)                                                                                            \
    X(processor_without_configuration, "", m->smt = -1)                                                                \
    X(no_auth_data, "", m->auth_length = 0)                                                                            \
    X(auth_data_of_64_bytes, "", m->auth_length = 64)                                                                  \
    X(zeros_behind, "", m->padding = 70)                                                                               \
    X(no_quote, "dcap.quote ...", m->left_out = "quote")                                                               \
    /* The quote's form. */                                                                                            \
    X(version_2, "dcap.quote.version ...", m->header[0] = 2)                                                           \
    X(version_4, "dcap.quote.version ...", m->header[0] = 4)                                                           \
    X(version_259, "dcap.quote.version ...", m->header[1] = 1)                                                         \
    X(key_type, "dcap.quote.key_type", m->header[2] = 3)                                                               \
    X(tee_type, "dcap.quote.tee_type", m->header[4] = 0x81)                                                            \
    X(tee_type_above, "dcap.quote.tee_type", m->header[7] = 1)                                                         \
    X(vendor, "dcap.quote.vendor", m->header[27] = 0)                                                                  \
    X(bytes_behind, "dcap.quote.padding", (m->padding = 7, m->padding_byte = 1))                                       \
    X(data_longer, "dcap.quote.layout ...", m->data_length_more = 1)                                                   \
    X(data_longer_into_padding, "dcap.quote.layout ...", (m->data_length_more = 1, m->padding = 1))                    \
    X(data_shorter, "dcap.quote.layout ...", m->data_length_more = -1)                                                 \
    X(chain_longer, "dcap.quote.layout ...", m->chain_length_more = 1)                                                 \
    X(chain_shorter, "dcap.quote.layout ...", m->chain_length_more = -1)                                               \
    X(certification_of_another_type, "dcap.certification.chain", m->chain_type = 3)                                    \
    /* Signatures. */                                                                                                  \
    X(quote_by_another_key, "dcap.quote.signature", m->other_signs_quote = 1)                                          \
    X(qe_by_another_key, "dcap.qe.signature", m->other_signs_qe = 1)                                                   \
    X(another_key_bound, "dcap.qe.report_data", m->other_key_is_bound = 1)                                             \
    X(report_data_end, "dcap.qe.report_data", m->report_data_end = 1)                                                  \
    /* The PCK's chain. */                                                                                             \
    X(pck_not_yet, "dcap.pck.chain", m->pck_from = m->asked_at + day)                                                  \
    X(pck_expired, "dcap.pck.chain", m->pck_until = m->asked_at - day)                                                 \
    X(ca_expired, "dcap.pck.chain", m->ca_until = m->asked_at - day)                                                   \
    X(pck_signed_by_the_root, "dcap.pck.chain", m->pck_is_issued_by_root_key = 1)                                      \
    X(pck_revoked, "dcap.pck.chain", m->revoked_by_ca = DCAP_PCK_SERIAL)                                               \
    X(ca_revoked, "dcap.pck.chain", m->revoked_by_root = DCAP_CA_SERIAL)                                               \
    X(others_revoked, "", (m->revoked_by_ca = 5, m->revoked_by_root = 5))                                              \
    X(pck_crl_expired, "dcap.pck.chain", m->pck_crl_until = m->asked_at - day)                                         \
    X(pck_crl_not_yet, "dcap.pck.chain", m->pck_crl_from = m->asked_at + day)                                          \
    X(root_crl_expired, "pcs.tcb_info.chain pcs.qe_identity.chain dcap.pck.chain",                                     \
      m->root_crl_until = m->asked_at - day)                                                                           \
    X(chain_swapped, "dcap.pck.chain dcap.pck.root pcs.pck_crl.issuers", m->pck_order = DCAP_SWAPPED)                  \
    X(chain_truncated, "dcap.pck.chain dcap.pck.root dcap.pck.chain_length pcs.pck_crl.issuers",                       \
      m->pck_order = DCAP_TRUNCATED)                                                                                   \
    X(chain_extended, "dcap.pck.chain dcap.pck.chain_length pcs.pck_crl.issuers", m->pck_order = DCAP_EXTENDED)        \
    X(chain_doubled, "dcap.pck.chain dcap.pck.chain_length pcs.pck_crl.issuers", m->pck_order = DCAP_DOUBLED)          \
    X(another_root, "pcs.tcb_info.root pcs.qe_identity.root dcap.pck.root", m->is_root_pinned = 0)                     \
    X(no_certificates, "dcap.pck.certificates", m->has_no_certificates = 1)                                            \
    X(a_beginning_of_one, "dcap.pck.certificates", m->has_no_certificates = m->begins_a_certificate = 1)               \
    X(pck_right_below_the_root, "dcap.pck.chain_length", m->pck_is_below_root = 1)                                     \
    X(ca_below_another_root, "dcap.pck.root", m->ca_is_below_other_root = 1)                                           \
    X(pck_of_another_name, "dcap.pck.subject", m->pck_name = "Intel SGX TCB Signing")                                  \
    X(pck_on_p384, "dcap.qe.signature", m->pck_curve = "P-384")                                                        \
    X(extension_missing, "dcap.pck.extension", m->has_extension = 0)                                                   \
    X(extension_without_tcb, "dcap.pck.extension", m->field_left_out = 2)                                              \
    X(extension_without_pce_id, "dcap.pck.extension", m->field_left_out = 3)                                           \
    X(extension_without_fmspc, "dcap.pck.extension", m->field_left_out = 4)                                            \
    X(extension_without_type, "", m->field_left_out = 5)                                                               \
    X(extension_with_two_fmspc, "dcap.pck.extension", m->field_doubled = 4)                                            \
    X(component_9_left_out, "dcap.pck.extension", m->tcb_left_out = 9)                                                 \
    X(pce_svn_left_out, "dcap.pck.extension", m->tcb_left_out = 17)                                                    \
    /* The collateral. */                                                                                              \
    X(no_collateral, "pcs.collateral", m->left_out = "collateral")                                                     \
    X(no_root_crl, "pcs.crls", m->left_out = "root_ca_crl")                                                            \
    X(no_pck_crl, "pcs.crls", m->left_out = "pck_crl")                                                                 \
    X(no_issuers, "pcs.pck_crl.issuers", m->left_out = "pck_crl_issuer_chain")                                         \
    X(other_issuers, "pcs.pck_crl.issuers", m->has_other_issuers = 1)                                                  \
    X(issuers_truncated, "pcs.pck_crl.issuers", m->issuers_order = DCAP_TRUNCATED)                                     \
    X(no_tcb_info_chain, "pcs.tcb_info.chain", m->left_out = "tcb_info_issuer_chain")                                  \
    X(no_tcb_info_signature, "pcs.tcb_info.signature", m->left_out = "tcb_info_signature")                             \
    X(no_qe_identity_chain, "pcs.qe_identity.chain", m->left_out = "qe_identity_issuer_chain")                         \
    X(signer_expired, "pcs.tcb_info.chain pcs.qe_identity.chain", m->signer_until = m->asked_at - day)                 \
    X(signer_revoked, "pcs.tcb_info.chain pcs.qe_identity.chain", m->revoked_by_root = DCAP_SIGNER_SERIAL)             \
    X(signer_of_another_name, "pcs.tcb_info.signer pcs.qe_identity.signer",                                            \
      m->signer_name = "Intel SGX PCK Certificate")                                                                    \
    X(pck_signs_collateral, "pcs.tcb_info.signer pcs.qe_identity.signer", m->signer_is_pck = 1)                        \
    X(signer_below_the_ca, "pcs.tcb_info.signer pcs.qe_identity.signer", m->signer_is_below_ca = 1)                    \
    X(signer_below_another_root, "pcs.tcb_info.root pcs.qe_identity.root", m->signer_is_below_other_root = 1)          \
    X(signer_chain_truncated, "pcs.tcb_info.chain pcs.tcb_info.signer pcs.qe_identity.chain pcs.qe_identity.signer",   \
      m->signer_order = DCAP_TRUNCATED)                                                                                \
    X(signer_chain_doubled, "pcs.tcb_info.chain pcs.tcb_info.signer pcs.qe_identity.chain pcs.qe_identity.signer",     \
      m->signer_order = DCAP_DOUBLED)                                                                                  \
    X(tcb_info_by_another_key, "pcs.tcb_info.signature", m->other_signs_tcb_info = 1)                                  \
    X(qe_identity_by_another_key, "pcs.qe_identity.signature", m->other_signs_qe_identity = 1)                         \
    X(a_blank_more, "pcs.tcb_info.signature pcs.qe_identity.signature", m->adds_blank = 1)                             \
    X(tcb_info_of_tdx, "pcs.tcb_info.kind", info(m, "SGX", "TDX"))                                                     \
    X(tcb_info_version_2, "pcs.tcb_info.kind", info(m, "\"version\":3", "\"version\":2"))                              \
    X(tcb_type, "pcs.tcb_info.tcb_type", info(m, "\"tcbType\":0", "\"tcbType\":1"))                                    \
    X(tcb_info_too_old, "pcs.tcb_info.times", info(m, "2026-01-14T10:00:00Z", "2025-12-31T23:59:59Z"))                 \
    X(tcb_info_to_the_second, "", info(m, "2026-01-14T10:00:00Z", "2026-01-01T00:00:00Z"))                             \
    X(tcb_info_too_new, "pcs.tcb_info.times", info(m, "2025-12-15T10:00:00Z", "2026-01-01T00:00:01Z"))                 \
    X(tcb_info_time_odd, "pcs.tcb_info.form", info(m, "2025-12-15T10:00:00Z", "2025-12-15T10:00:00"))                  \
    X(tcb_info_time_of_no_day, "pcs.tcb_info.times pcs.tcb_info.form", info(m, "2026-01-14T", "2026-02-31T"))          \
    X(qe_identity_of_td_qe, "pcs.qe_identity.kind", identity(m, "\"QE\"", "\"TD_QE\""))                                \
    X(qe_identity_version_3, "pcs.qe_identity.kind", identity(m, "\"version\":2", "\"version\":3"))                    \
    X(qe_identity_too_old, "pcs.qe_identity.times", identity(m, "2026-01-14T10:00:00Z", "2025-12-31T23:59:59Z"))       \
    X(qe_identity_too_new, "pcs.qe_identity.times", identity(m, "2025-12-15T10:00:00Z", "2026-01-01T00:00:01Z"))       \
    X(number_of_evaluation_missing, "pcs.tcb_info.form", info(m, "tcbEvaluationDataNumber", "evaluation"))             \
    X(qe_number_of_evaluation_missing, "pcs.qe_identity.form", identity(m, "tcbEvaluationDataNumber", "evaluation"))   \
    /* Machine and QE. */                                                                                              \
    X(fmspc, "pcs.tcb_info.fmspc", m->fmspc[5] = 1)                                                                    \
    X(fmspc_missing, "pcs.tcb_info.fmspc pcs.tcb_info.form", info(m, "fmspc", "FMSPC"))                                \
    X(fmspc_short, "pcs.tcb_info.fmspc pcs.tcb_info.form", info(m, "00A067110000", "00A0671100"))                      \
    X(pce_id, "pcs.tcb_info.pce_id", m->pce_id[1] = 4)                                                                 \
    X(qe_mrsigner, "pcs.qe.mrsigner", m->qe_report[159] = 0)                                                           \
    X(qe_isv_prod_id, "pcs.qe.isv_prod_id", m->qe_report[256] = 1)                                                     \
    X(qe_isv_prod_id_above, "pcs.qe.isv_prod_id", m->qe_report[257] = 1)                                               \
    X(qe_miscselect, "pcs.qe.miscselect", m->qe_report[19] = 1)                                                        \
    X(qe_miscselect_bit_0, "pcs.qe.miscselect", m->qe_report[16] = 2)                                                  \
    X(qe_miscselect_outside_the_mask, "", m->qe_report[16] = 0x0f)                                                     \
    X(qe_debug, "pcs.qe.attributes", m->qe_report[48] = 0x17)                                                          \
    X(qe_not_initialised, "pcs.qe.attributes", m->qe_report[48] = 0x10)                                                \
    X(qe_attributes_above, "pcs.qe.attributes", m->qe_report[55] = 1)                                                  \
    X(qe_mode_outside_the_mask, "", m->qe_report[48] = 0x11)                                                           \
    /* Levels. */                                                                                                      \
    X(qe_newer, "", m->qe_report[258] = 9)                                                                             \
    X(qe_svn_above_255, "", (m->qe_report[258] = 1, m->qe_report[259] = 1))                                            \
    X(qe_out_of_date, "policy.tcb_status", m->qe_report[258] = 7)                                                      \
    X(qe_out_of_date_accepted, "", (m->qe_report[258] = 6, m->policy_more = ",\"tcb_status\":\"OutOfDate\""))          \
    X(qe_revoked, "policy.tcb_status",                                                                                 \
      (m->qe_report[258] = 2, m->policy_more = ",\"tcb_status\":[\"UpToDate\",\"OutOfDate\"]"))                        \
    X(qe_older_than_all, "pcs.qe.level", m->qe_report[258] = 1)                                                        \
    X(machine_out_of_date, "policy.tcb_status", m->svns[0] = 10)                                                       \
    X(machine_out_of_date_accepted, "",                                                                                \
      (m->svns[15] = 25, m->policy_more = ",\"tcb_status\":[\"UpToDate\",\"OutOfDate\"]"))                             \
    X(pce_revoked, "policy.tcb_status", (m->pce_svn = 12, m->policy_more = ",\"tcb_status\":\"OutOfDate\""))           \
    X(pce_revoked_accepted, "", (m->pce_svn = 12, m->policy_more = ",\"tcb_status\":\"Revoked\""))                     \
    X(machine_older_than_all, "pcs.machine.level", m->svns[3] = 5)                                                     \
    X(pce_older_than_all, "pcs.machine.level", m->pce_svn = 4)                                                         \
    X(a_status_unknown, "pcs.machine.level", info(m, "UpToDate", "UpToSnuff"))                                         \
    X(a_qe_status_unknown, "pcs.qe.level", identity(m, "UpToDate", "UpToSnuff"))                                       \
    X(fifteen_components, "pcs.tcb_info.form policy.tcb_status", info(m, "{\"svn\":11},", ""))                         \
    X(a_component_too_large, "pcs.tcb_info.form policy.tcb_status", info(m, "{\"svn\":11}", "{\"svn\":256}"))          \
    X(a_date_odd, "pcs.tcb_info.form", info(m, "2024-11-13T00:00:00Z", "2024-11-13"))                                  \
    X(tcb_date, "policy.minimum_tcb_date", m->policy_more = ",\"minimum_tcb_date\":20241114")                          \
    X(tcb_date_accepted, "", m->policy_more = ",\"minimum_tcb_date\":20241113")                                        \
    X(tcb_date_of_the_qe, "policy.minimum_tcb_date", (identity(m, "2024-12-13", "2024-11-12"),                         \
                                                      m->policy_more = ",\"minimum_tcb_date\":20241113"))              \
    X(tcb_part, "policy.minimum_tcb", m->policy_more = ",\"minimum_tcb\":{\"sgx16\":27}")                              \
    X(tcb_parts, "",                                                                                                   \
      m->policy_more = ",\"minimum_tcb\":{\"sgx01\":11,\"sgx16\":26,\"pce\":13,\"qe\":8,\"evaluation\":17}")           \
    X(tcb_evaluation, "policy.minimum_tcb", m->policy_more = ",\"minimum_tcb\":{\"evaluation\":18}")                   \
    X(tcb_evaluation_of_the_qe, "policy.minimum_tcb", (identity(m, ":18", ":16"),                                      \
                                                       m->policy_more = ",\"minimum_tcb\":{\"evaluation\":17}"))       \
    X(tcb_pce, "policy.minimum_tcb", m->policy_more = ",\"minimum_tcb\":{\"pce\":14}")                                 \
    X(tcb_qe, "policy.minimum_tcb", m->policy_more = ",\"minimum_tcb\":{\"qe\":9}")                                    \
    X(smt, "policy.allow_smt", (m->smt = 1, m->policy_more = ",\"allow_smt\":false"))                                  \
    X(no_smt, "", m->policy_more = ",\"allow_smt\":false")                                                             \
    X(smt_not_said, "policy.allow_smt", (m->smt = -1, m->policy_more = ",\"allow_smt\":false"))                        \
    /* The enclave. */                                                                                                 \
    X(debug, "policy.allow_debug", m->body[48] |= 2)                                                                   \
    X(debug_accepted, "", (m->body[48] |= 2, m->policy_more = ",\"allow_debug\":true"))                                \
    X(not_initialised, "sgx.report.attributes", m->body[48] &= 0xfe)                                                   \
    X(attribute_reserved, "sgx.report.attributes", m->body[48] |= 8)                                                   \
    X(attribute_aex_notify, "", m->body[49] |= 4)                                                                      \
    X(attributes_pinned, "", m->policy_more = ",\"sgx_attributes\":\"0500000000000000e700000000000000\"")              \
    X(attributes_others, "policy.sgx_attributes",                                                                      \
      (m->body[48] |= 0x10, m->policy_more = ",\"sgx_attributes\":\"0500000000000000e700000000000000\""))              \
    X(miscselect, "", m->body[16] = 3)                                                                                 \
    X(miscselect_reserved, "sgx.report.miscselect", m->body[16] = 4)                                                   \
    X(miscselect_reserved_above, "sgx.report.miscselect", m->body[19] = 0x80)                                          \
    X(reserved_1, "sgx.report.reserved", m->body[20] = 1)                                                              \
    X(reserved_1_end, "sgx.report.reserved", m->body[31] = 1)                                                          \
    X(reserved_2, "sgx.report.reserved", m->body[127] = 1)                                                             \
    X(reserved_3, "sgx.report.reserved", m->body[160] = 1)                                                             \
    X(reserved_4, "sgx.report.reserved", m->body[303] = 1)                                                             \
    X(mrenclave, "policy.mrenclave", m->body[64] = 0)                                                                  \
    X(mrsigner, "policy.mrsigner policy.signer_info", m->body[159] = 0)                                                \
    X(config_id, "policy.config_id", m->body[255] = 0)                                                                 \
    X(isv_prod_id, "policy.isv_prod_id", m->body[256] = 8)                                                             \
    X(isv_prod_id_above, "policy.isv_prod_id", m->body[257] = 1)                                                       \
    X(isv_svn, "policy.minimum_isv_svn", m->body[258] = 8)                                                             \
    X(isv_svn_above, "", (m->body[258] = 0, m->body[259] = 1))                                                         \
    X(config_svn, "policy.minimum_config_svn", m->body[260] = 2)                                                       \
    X(isv_ext_prod_id, "policy.isv_ext_prod_id", m->body[47] = 0)                                                      \
    X(isv_family_id, "policy.isv_family_id", m->body[319] = 0)                                                         \
    X(report_data, "policy.report_data", m->body[383] = 0)

#define CHANGED struct dcap_machine
#define NEW_CHANGED dcap_machine_new("sgx", 3, DCAP_SGX_BODY)
#define JUDGE_CHANGED(m) judge(m)
#define FAILS_AS(found, named) dcap_fails_as(found, named)
#include "changes.h"

/* Each of the 16 components counts: one that is lower makes the machine's level a lower one. */
static void every_component_counts(void **state)
{
    for (int i = 0; i < 16; i++) {
        struct dcap_machine machine = dcap_machine_new("sgx", 3, DCAP_SGX_BODY);
        machine.svns[i]--;
        assert_string_equal(judge(&machine), "policy.tcb_status");
        machine.policy_more = ",\"tcb_status\":\"OutOfDate\"";
        assert_string_equal(judge(&machine), "");
    }
}

/* Statuses of machine (rows) and QE (columns) join as Intel's library joins them. */
static void statuses_join(void **state)
{
    static const char *const names[] = {"UpToDate", "SWHardeningNeeded", "ConfigurationNeeded",
                                        "ConfigurationAndSWHardeningNeeded", "OutOfDate",
                                        "OutOfDateConfigurationNeeded", "Revoked"};
    static const char *const qe[] = {"UpToDate", "OutOfDate", "Revoked"};
    static const char *const joined[][3] = {
        {"UpToDate", "OutOfDate", "Revoked"},
        {"SWHardeningNeeded", "OutOfDate", "Revoked"},
        {"ConfigurationNeeded", "OutOfDateConfigurationNeeded", "Revoked"},
        {"ConfigurationAndSWHardeningNeeded", "OutOfDateConfigurationNeeded", "Revoked"},
        {"OutOfDate", "OutOfDate", "Revoked"},
        {"OutOfDateConfigurationNeeded", "OutOfDateConfigurationNeeded", "Revoked"},
        {"Revoked", "Revoked", "Revoked"}};
    for (size_t i = 0; i < 7; i++)
        for (size_t j = 0; j < 3; j++) {
            char policy[128];
            struct dcap_machine machine = dcap_machine_new("sgx", 3, DCAP_SGX_BODY);
            info(&machine, "UpToDate", names[i]);
            identity(&machine, "UpToDate", qe[j]);
            snprintf(policy, sizeof policy, ",\"tcb_status\":\"%s\"", joined[i][j]);
            machine.policy_more = policy;
            assert_string_equal(judge(&machine), "");
        }
}

/* Each of the 128 bits of ATTRIBUTES: INIT and reserved ones fail by themselves, all others where they are pinned. */
static void every_attribute_bit_counts(void **state)
{
    for (int bit = 0; bit < 128; bit++) {
        struct dcap_machine machine = dcap_machine_new("sgx", 3, DCAP_SGX_BODY);
        int is_reserved = bit == 0 || bit == 3 || bit == 8 || bit == 9 || (bit > 10 && bit < 64);
        machine.body[48 + bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_string_equal(judge(&machine), is_reserved ? "sgx.report.attributes"
                                             : bit == 1  ? "policy.allow_debug"
                                                         : "");
        machine.policy_more = ",\"allow_debug\":true,\"sgx_attributes\":\"0500000000000000e700000000000000\"";
        assert_string_equal(judge(&machine),
                            is_reserved ? "sgx.report.attributes policy.sgx_attributes" : "policy.sgx_attributes");
    }
}

/* The verdict names the level and the advisories, and says what to do. */
static void verdicts_name_level_and_advisories(void **state)
{
    struct dcap_machine machine = dcap_machine_new("sgx", 3, DCAP_SGX_BODY);
    struct buffer document = {0};
    char *text, policy[2048];
    size_t length;
    bulla_error error = {0};
    machine.svns[2] = 12;
    machine.qe_report[258] = 6;
    dcap_write_document(&machine, "sgx", &document);
    snprintf(policy, sizeof policy, "%s}", base_policy);
    bulla_verdict *verdict = evidence_judge(&document, policy, machine.asked_at);
    assert_ok(bulla_verdict_text(verdict, 0, &text, &length, &error), error);
    static const char *const expected[] = {
        "pass        pcs.machine.level: found OutOfDate: level 2 of 3, 2023-02-15\n"
        "            update microcode, firmware, SGX software and TDX module of the machine, start anew what ran: "
        "INTEL-SA-00657, INTEL-SA-00767\n",
        "pass        pcs.qe.level: found OutOfDate: level 2 of 3, 2021-11-10\n"
        "            update microcode, firmware, SGX software and TDX module of the machine, start anew what ran: "
        "INTEL-SA-00615\n",
        "fail        policy.tcb_status: found OutOfDate, expected UpToDate\n"};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        if (!strstr(text, expected[i]))
            fail_msg("\"%s\" is not in\n%s", expected[i], text);
    bulla_verdict_text_free(text);
    bulla_verdict_free(verdict);
    buffer_free(&document);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_change_is_seen_by_its_check), cmocka_unit_test(every_component_counts),
        cmocka_unit_test(statuses_join),                     cmocka_unit_test(every_attribute_bit_counts),
        cmocka_unit_test(verdicts_name_level_and_advisories),
    };
    return cmocka_run_group_tests(tests, dcap_keys_make, dcap_keys_free);
}
