/* Intel TDX quotes of versions 4 and 5, of TDX 1.0 and 1.5: what is of trust domains alone, changed and signed again.
 * What they share with SGX: test_sgx.c; real quotes: test_dcap.c. */
#include "test.h"

#include "dcap_machine.h"
#include "evidence_document.h"

#define HEX_16(byte) byte byte byte byte byte byte byte byte byte byte byte byte byte byte byte byte
#define HEX_48(byte) HEX_16(byte) HEX_16(byte) HEX_16(byte)
#define HEX_64(byte) HEX_48(byte) HEX_16(byte)

static const char base_policy[] =
    "{\"type\":\"tdx\",\"report_data\":\"" HEX_64("d1") "\",\"mrtd\":\"" HEX_48("3a")
    "\",\"mrconfigid\":\"" HEX_48("c1") "\",\"mrowner\":\"" HEX_48("0a") "\",\"mrownerconfig\":\"" HEX_48("0b")
    "\",\"mrseam\":\"" HEX_48("5e")
    "\",\"xfam\":\"e702060000000000\",\"rtmr\":[\"" HEX_48("10") "\",\"" HEX_48("11") "\",\"" HEX_48("12")
    "\",\"" HEX_48("13") "\"]";

static const char *judge(const struct dcap_machine *machine)
{
    char policy[4096];
    snprintf(policy, sizeof policy, "%s%s}", base_policy, machine->policy_more ? machine->policy_more : "");
    return dcap_failures(machine, "tdx", policy);
}

static void info(struct dcap_machine *m, const char *old, const char *new)
{
    dcap_replace(m->tcb_info, sizeof m->tcb_info, old, new);
}

/* The first `old` behind `after`. */
static void info_after(struct dcap_machine *m, const char *after, const char *old, const char *new)
{
    char *at = strstr(m->tcb_info, after);
    assert_non_null(at);
    dcap_replace(at, sizeof m->tcb_info - (size_t)(at - m->tcb_info), old, new);
}

/* Which of the machines below a change is tried on. */
enum { V4 = 1, V5_1_0 = 2, V5_1_5 = 4, V5 = V5_1_0 | V5_1_5, TDX_1_0 = V4 | V5_1_0, ALL = V4 | V5 };

static const struct {
    int which, version;
    size_t body_length;
    const char *name;
} machines[] = {{V4, 4, DCAP_TD_1_0_BODY, "4"},
                {V5_1_0, 5, DCAP_TD_1_0_BODY, "5, 1.0"},
                {V5_1_5, 5, DCAP_TD_1_5_BODY, "5, 1.5"}};

struct change {
    const char *what;
    int which;
    const char *fails;
    void (*make)(struct dcap_machine *machine);
};

static void module(struct dcap_machine *m, int svn, int now)
{
    m->body[0] = (uint8_t)svn;
    m->body[584] = (uint8_t)now;
}

/* X(what is changed, of which machines, the checks that see it, the change) */
#define CHANGES(X)                                                                                                     \
    X(nothing, ALL, "", (void)m)                                                                                       \
    X(zeros_behind, ALL, "", m->padding = 70)                                                                          \
    X(version_3, ALL, "dcap.quote.version ...", m->header[0] = 3)                                                      \
    X(version_6, ALL, "dcap.quote.version ...", m->header[0] = 6)                                                      \
    X(tee_type, ALL, "dcap.quote.tee_type", m->header[4] = 0)                                                          \
    X(key_type, ALL, "dcap.quote.key_type", m->header[2] = 3)                                                          \
    X(vendor, ALL, "dcap.quote.vendor", m->header[12] = 0)                                                             \
    X(certification_type, ALL, "dcap.certification.type", m->certification_type = 5)                                   \
    X(chain_type, ALL, "dcap.certification.chain", m->chain_type = 1)                                                  \
    X(certification_longer, ALL, "dcap.quote.layout ...", m->certification_length_more = 1)                            \
    X(certification_shorter, ALL, "dcap.quote.layout ...", m->certification_length_more = -1)                          \
    X(data_longer, ALL, "dcap.quote.layout ...", (m->data_length_more = 1, m->padding = 1))                            \
    X(chain_longer, ALL, "dcap.quote.layout ...", m->chain_length_more = 1)                                            \
    X(body_of_an_enclave, V5, "dcap.quote.body_type ...", m->body_type = 1)                                            \
    X(body_of_type_4, V5, "dcap.quote.body_type ...", m->body_type = 4)                                                \
    X(body_longer, V5, "dcap.quote.body_type ...", m->body_says++)                                                     \
    X(body_of_the_other_type, V5, "dcap.quote.body_type ...", m->body_type ^= 1)                                       \
    X(quote_by_another_key, ALL, "dcap.quote.signature", m->other_signs_quote = 1)                                     \
    X(qe_by_another_key, ALL, "dcap.qe.signature", m->other_signs_qe = 1)                                              \
    X(another_key_bound, ALL, "dcap.qe.report_data", m->other_key_is_bound = 1)                                        \
    X(pck_revoked, ALL, "dcap.pck.chain", m->revoked_by_ca = DCAP_PCK_SERIAL)                                          \
    X(tcb_info_of_sgx, ALL, "pcs.tcb_info.kind", info(m, "\"TDX\"", "\"SGX\""))                                        \
    X(qe_identity_of_qe, ALL, "pcs.qe_identity.kind",                                                                  \
      dcap_replace(m->qe_identity, sizeof m->qe_identity, "TD_QE", "QE"))                                              \
    /* The module. */                                                                                                  \
    X(module_signer, ALL, "pcs.module.mrsigner", m->body[111] = 1)                                                     \
    X(module_attributes, ALL, "pcs.module.attributes", m->body[112] = 1)                                               \
    X(module_attributes_end, TDX_1_0, "pcs.module.attributes", m->body[119] = 1)                                       \
    X(module_attributes_outside_the_mask, V5_1_5, "", m->body[119] = 1)                                                \
    X(module_expected_signer, TDX_1_0, "pcs.module.mrsigner", info_after(m, "tdxModule\"", ":\"0000", ":\"0001"))      \
    X(identity_expected_signer, V5_1_5, "pcs.module.mrsigner", info_after(m, "TDX_1C", ":\"0000", ":\"0001"))          \
    X(module_and_no_identities, TDX_1_0, "", info(m, "tdxModuleIdentities", "otherIdentities"))                        \
    X(identities_missing, V5_1_5, "pcs.module.version pcs.module.level pcs.tcb_info.form",                             \
      info(m, "tdxModuleIdentities", "otherIdentities"))                                                               \
    X(module_missing, TDX_1_0, "pcs.module.version", info(m, "\"tdxModule\"", "\"otherModule\""))                      \
    X(module_version_unknown, ALL, "pcs.module.version pcs.module.level", m->body[1] = 2)                              \
    X(identity_in_small_letters, V5_1_5, "", info(m, "TDX_1C", "tdx_1c"))                                              \
    X(module_of_another_version, V5_1_5, "", (m->body[1] = 3, module(m, 3, 3)))                                        \
    X(module_attributes_form, V5_1_5, "pcs.module.attributes pcs.tcb_info.form",                                       \
      info_after(m, "TDX_1C", "\"attributes\":\"00", "\"attributes\":\""))                                             \
    /* Levels. */                                                                                                      \
    X(machine_out_of_date, ALL, "policy.tcb_status", m->svns[4]--)                                                     \
    X(machine_out_of_date_accepted, ALL, "", (m->svns[4]--, m->policy_more = ",\"tcb_status\":\"OutOfDate\""))         \
    X(tdx_component_0, TDX_1_0, "policy.tcb_status", m->body[0] = 4)                                                   \
    X(tdx_older_than_all, TDX_1_0, "", (memset(m->body, 0, 16), m->policy_more = ",\"tcb_status\":\"Revoked\""))       \
    X(tdx_older_than_all_but_now, V5_1_5, "policy.tcb_status",                                                         \
      (memset(m->body + 2, 0, 14), m->policy_more = ",\"tcb_status\":[\"OutOfDate\",\"TDRelaunchAdvised\"]"))          \
    X(tdx_components_missing, ALL, "pcs.tcb_info.form policy.tcb_status",                                              \
      info(m, "tdxtcbcomponents", "tdxcomponents"))                                                                    \
    X(module_revoked, V5_1_5, "policy.tcb_status", (module(m, 2, 9), m->policy_more = ",\"tcb_status\":\"OutOfDate\""))\
    X(module_older_than_all, V5_1_5, "pcs.module.level", module(m, 1, 9))                                              \
    X(module_out_of_date, V5_1_5, "policy.tcb_status", module(m, 5, 5))                                                \
    X(module_out_of_date_accepted, V5_1_5, "", (module(m, 5, 5), m->policy_more = ",\"tcb_status\":\"OutOfDate\""))    \
    X(module_updated, V5_1_5, "", (module(m, 5, 6), m->policy_more = ",\"tcb_status\":\"TDRelaunchAdvised\""))         \
    X(module_updated_refused, V5_1_5, "policy.tcb_status",                                                             \
      (module(m, 5, 6), m->policy_more = ",\"tcb_status\":\"OutOfDate\""))                                             \
    X(module_updated_to_another_version, V5_1_5, "",                                                                   \
      (module(m, 5, 3), m->body[585] = 3, m->policy_more = ",\"tcb_status\":\"TDRelaunchAdvised\""))                   \
    X(module_updated_to_an_unknown_version, V5_1_5, "",                                                                \
      (module(m, 5, 9), m->body[585] = 9, m->policy_more = ",\"tcb_status\":\"OutOfDate\""))                           \
    X(module_updated_and_zeros, V5_1_5, "",                                                                            \
      (module(m, 5, 0), memset(m->body + 584, 0, 16), m->policy_more = ",\"tcb_status\":\"OutOfDate\""))               \
    X(module_updated_but_the_machine_is_not, V5_1_5, "",                                                               \
      (module(m, 5, 6), m->svns[0]--, m->policy_more = ",\"tcb_status\":\"OutOfDate\""))                               \
    X(module_updated_but_the_qe_is_not, V5_1_5, "",                                                                    \
      (module(m, 5, 6), m->qe_report[258] = 6, m->policy_more = ",\"tcb_status\":\"OutOfDate\""))                      \
    X(module_updated_and_configuration, V5_1_5, "",                                                                    \
      (module(m, 5, 6), info_after(m, "{\"sgxtcb", "UpToDate", "ConfigurationNeeded"),                                 \
       m->policy_more = ",\"tcb_status\":\"TDRelaunchAdvisedConfigurationNeeded\""))                                   \
    X(module_newer, V5_1_5, "", module(m, 7, 7))                                                                       \
    X(tcb_date_of_the_module, V5_1_5, "policy.minimum_tcb_date",                                                       \
      (info_after(m, "TDX_1C", "2024-11-13", "2024-11-12"), m->policy_more = ",\"minimum_tcb_date\":20241113"))        \
    X(tcb_parts, TDX_1_0, "", m->policy_more = ",\"minimum_tcb\":{\"tdx01\":5,\"tdx02\":0,\"tdx16\":20,\"sgx16\":26}") \
    X(tcb_part, ALL, "policy.minimum_tcb", m->policy_more = ",\"minimum_tcb\":{\"tdx16\":21}")                         \
    /* The domain. */                                                                                                  \
    X(debug, ALL, "policy.allow_debug", m->body[120] |= 1)                                                             \
    X(debug_accepted, ALL, "", (m->body[120] |= 1, m->policy_more = ",\"allow_debug\":true"))                          \
    X(migratable, ALL, "policy.allow_migration_agent", m->body[123] |= 0x20)                                           \
    X(migratable_accepted, ALL, "", (m->body[123] |= 0x20, m->policy_more = ",\"allow_migration_agent\":true"))        \
    X(service_domain, V5_1_5, "policy.allow_migration_agent", m->body[647] = 1)                                        \
    X(service_domain_accepted, V5_1_5, "", (memset(m->body + 600, 0x77, 48),                                           \
      m->policy_more = ",\"allow_migration_agent\":true,\"mrservicetd\":\"" HEX_48("77") "\""))                        \
    X(service_domain_of_another, V5_1_5, "policy.mrservicetd", (memset(m->body + 600, 0x78, 48),                       \
      m->policy_more = ",\"allow_migration_agent\":true,\"mrservicetd\":\"" HEX_48("77") "\""))                        \
    X(service_domain_not_said, TDX_1_0, "policy.mrservicetd", m->policy_more = ",\"mrservicetd\":\"" HEX_48("00") "\"")\
    X(report_data, ALL, "policy.report_data", m->body[583] = 0)                                                        \
    X(mrtd, ALL, "policy.mrtd", m->body[136] = 0)                                                                      \
    X(mrtd_end, ALL, "policy.mrtd", m->body[183] = 0)                                                                  \
    X(mrconfigid, ALL, "policy.mrconfigid", m->body[231] = 0)                                                          \
    X(mrowner, ALL, "policy.mrowner", m->body[279] = 0)                                                                \
    X(mrownerconfig, ALL, "policy.mrownerconfig", m->body[327] = 0)                                                    \
    X(rtmr0, ALL, "policy.rtmr", m->body[328] = 0)                                                                     \
    X(rtmr1, ALL, "policy.rtmr", m->body[376] = 0)                                                                     \
    X(rtmr2, ALL, "policy.rtmr", m->body[424] = 0)                                                                     \
    X(rtmr3, ALL, "policy.rtmr", m->body[519] = 0)                                                                     \
    X(mrseam, ALL, "policy.mrseam", m->body[63] = 0)                                                                   \
    X(xfam, ALL, "policy.xfam", m->body[135] = 1)

#define DEFINE(name, machines, failing, change)                                                                        \
    static void change_##name(struct dcap_machine *m)                                                                  \
    {                                                                                                                  \
        change;                                                                                                        \
    }
CHANGES(DEFINE)
#define LIST(name, machines, failing, change) {#name, machines, failing, change_##name},
static const struct change changes[] = {CHANGES(LIST)};
enum { MACHINES = sizeof machines / sizeof *machines };

static struct dcap_machine new_machine(size_t which)
{
    return dcap_machine_new("tdx", machines[which].version, machines[which].body_length);
}

static void every_change_is_seen_by_its_check(void **state)
{
    size_t wrong = 0, made = 0;
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++)
        for (size_t j = 0; j < MACHINES; j++) {
            if (!(changes[i].which & machines[j].which))
                continue;
            struct dcap_machine machine = new_machine(j);
            changes[i].make(&machine);
            const char *failures = judge(&machine);
            made++;
            if (!dcap_fails_as(failures, changes[i].fails) && ++wrong)
                print_error("%s (quote of %s): these checks fail: \"%s\", expected \"%s\"\n", changes[i].what,
                            machines[j].name, failures, changes[i].fails);
        }
    assert_int_equal(wrong, 0);
    print_message("%zu changes of quotes of 3 kinds, each signed again and seen by its check\n", made);
}

/* Each component of the machine and of its TDX part counts; the first two of TDX are the module's, which is rated apart
 * from version 1 on. */
static void every_component_counts(void **state)
{
    for (size_t j = 0; j < MACHINES; j++)
        for (int i = 0; i < 32; i++) {
            struct dcap_machine machine = new_machine(j);
            uint8_t *component = i < 16 ? &machine.svns[i] : &machine.body[i - 16];
            if (i == 17 || (i == 16 && machines[j].which == V5_1_5))
                continue;
            --*component;
            assert_string_equal(judge(&machine), "policy.tcb_status");
            machine.policy_more = ",\"tcb_status\":\"OutOfDate\"";
            if (i >= 16 && machines[j].which == V5_1_5) { /* what runs now is not lower yet */
                assert_string_equal(judge(&machine), "policy.tcb_status");
                machine.body[584 + i - 16]--;
            }
            assert_string_equal(judge(&machine), "");
        }
}

static void every_attribute_bit_counts(void **state)
{
    static const int known[] = {0, 4, 5, 6, 16, 27, 28, 29, 30, 31, 62, 63};
    for (size_t j = 0; j < MACHINES; j++)
        for (int bit = 0; bit < 64; bit++) {
            struct dcap_machine machine = new_machine(j);
            char expected[128];
            int is_reserved = 1;
            for (size_t i = 0; i < sizeof known / sizeof *known; i++)
                is_reserved &= bit != known[i];
            machine.body[120 + bit / 8] ^= (uint8_t)(1 << bit % 8);
            const char *policy = bit < 8 ? "policy.allow_debug" : bit == 29 ? "policy.allow_migration_agent" : "";
            snprintf(expected, sizeof expected, "%s%s%s", is_reserved ? "tdx.report.attributes" : "",
                     is_reserved && policy[0] ? " " : "", policy);
            assert_string_equal(judge(&machine), expected);
            machine.policy_more = ",\"allow_debug\":true,\"allow_migration_agent\":true,"
                                  "\"td_attributes\":\"0000001000000000\"";
            assert_string_equal(judge(&machine), is_reserved ? "tdx.report.attributes policy.td_attributes"
                                                             : "policy.td_attributes");
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_change_is_seen_by_its_check),
        cmocka_unit_test(every_component_counts),
        cmocka_unit_test(every_attribute_bit_counts),
    };
    return cmocka_run_group_tests(tests, dcap_keys_make, dcap_keys_free);
}
