/* TPM 2.0: a quote of another project verifies, quotes of our own with event logs do, and nothing that was changed does. */
#include "test.h"

#include <openssl/rsa.h>

#include "base/json.h"
#include "base/memory.h"
#include "evidence_document.h"
#include "tpm_machine.h"
#include "trust/binding.h"

static const uint32_t variable = 0x80000001, application = 0x80000003, action = 0x80000007; /* types of events */

static const char *judge_machine(const struct machine *machine)
{
    struct buffer document = {0};
    char policy[2048];
    write_machine(machine, &document, policy);
    bulla_verdict *verdict = evidence_judge(&document, policy, evidence_time("2026-01-01"));
    const char *failures = evidence_failures(verdict);
    assert_int_equal(bulla_verdict_passed(verdict), failures[0] == 0);
    bulla_verdict_free(verdict);
    buffer_free(&document);
    return failures;
}

/* ---- Changes ---- */

static void use_key(struct machine *machine, EVP_PKEY *key, int scheme, int algorithm)
{
    machine->key = key;
    machine->scheme = scheme;
    machine->public_scheme = (uint16_t)scheme;
    machine->hash = algorithm;
    machine->public_hash = (uint16_t)algorithm;
}

static const char padding[4 << 20]; /* data of long events */

static void log_event(struct machine *machine, size_t at, struct logged event)
{
    memmove(machine->log + at + 1, machine->log + at, (machine->log_count - at) * sizeof *machine->log);
    machine->log[at] = event;
    machine->log_count++;
}

static void select_pcrs(struct machine *machine, size_t at, uint16_t bank, uint32_t pcrs)
{
    machine->selections[at].bank = bank;
    machine->selections[at].pcrs = pcrs;
    machine->selections[at].select_bytes = 3;
    if (machine->selection_count <= at)
        machine->selection_count = at + 1;
}

#define EVENT(pcr, type, text) ((struct logged){pcr, type, DATA(text), 0})
#define LEAVING "Exit Boot Services Invocation"
#define HAS_LEFT "Exit Boot Services Returned with "
#define SECURE_BOOT_WANTED ",\"secure_boot\":true"
/* Without claims nothing of the policy holds. */
#define UNREAD " policy.report_data policy.tpm_key policy.firmware_version"
#define CERTIFIED (m->is_certified = 1)

#define CHANGES(X)                                                                                                     \
    X(nothing, "", (void)m)                                                                                            \
    X(with_sizes, "", m->is_sized = 1)                                                                                 \
    X(no_log, "", m->has_no_log = 1)                                                                                   \
    X(no_public_area, "", m->has_public = 0)                                                                           \
    X(rsa_sha384, "", use_key(m, rsa, RSASSA, SHA_384))                                                                \
    X(rsa_pss, "", (use_key(m, rsa, RSAPSS, SHA_256), m->salt = RSA_PSS_SALTLEN_DIGEST))                               \
    X(rsa_pss_sha384, "", (use_key(m, rsa, RSAPSS, SHA_384), m->salt = RSA_PSS_SALTLEN_DIGEST))                        \
    X(rsa_pss_with_the_longest_salt, "", (use_key(m, rsa, RSAPSS, SHA_256), m->salt = RSA_PSS_SALTLEN_MAX))            \
    X(ecdsa_p256, "", use_key(m, p256, ECDSA, SHA_256))                                                                \
    X(ecdsa_p384, "", use_key(m, p384, ECDSA, SHA_384))                                                                \
    X(banks_the_other_way_round, "", (select_pcrs(m, 0, SHA_384, 1 << 7), select_pcrs(m, 1, SHA_256, 0x43ff)))         \
    X(an_empty_bank, "", select_pcrs(m, 2, SHA_512, 0))                                                                \
    X(quote_missing, "tpm.quote" UNREAD, m->left_out = "quote")                                                        \
    X(signature_missing, "tpm.signature" UNREAD, m->left_out = "signature")                                            \
    X(pcrs_missing, "tpm.pcrs" UNREAD, m->left_out = "pcrs")                                                           \
    X(key_missing, "tpm.key" UNREAD, m->left_out = "ak")                                                               \
    X(quote_with_more, "tpm.quote.form" UNREAD, m->quote_more = "x")                                                   \
    X(quote_cut, "tpm.quote.form" UNREAD, m->cut = 1)                                                                  \
    X(four_bytes_of_selection, "tpm.quote.form" UNREAD, m->selections[1].select_bytes = 4)                             \
    X(selections_without_end, "tpm.quote.form" UNREAD, m->selection_count = 0x10000000)                                \
    X(signature_with_more, "tpm.signature.form" UNREAD, m->signature_more = "x")                                       \
    X(made_outside_of_the_tpm, "tpm.quote.magic", m->magic = 0xff544346)                                               \
    X(another_statement, "tpm.quote.type", m->type = 0x8017)                                                           \
    X(clock_of_2, "tpm.quote.clock_info", m->safe = 2)                                                                 \
    X(more_values_than_quoted, "tpm.quote.selection", m->more_given = 1 << 20)                                         \
    X(fewer_values_than_quoted, "tpm.quote.selection tpm.quote.digest", m->less_given = 1 << 9)                        \
    X(a_bank_twice, "tpm.quote.selection", select_pcrs(m, 2, SHA_256, 1 << 15))                                        \
    X(an_unknown_bank, "tpm.quote.selection", select_pcrs(m, 2, 0x12, 1))                                              \
    X(nothing_selected, "tpm.quote.selection",                                                                         \
      (m->selection_count = 0, m->has_no_log = 1))                                                                     \
    X(value_changed, "tpm.quote.digest", m->value_changed = 9)                                                         \
    X(digest_of_another_hash, "tpm.quote.digest", m->digest_hash = SHA_384)                                            \
    X(rsa_of_1024_bits, "tpm.key.strength", use_key(m, small_rsa, RSASSA, SHA_256))                                    \
    X(p224, "tpm.key.strength", (use_key(m, p224, ECDSA, SHA_256), m->has_public = 0))                                 \
    X(scheme_of_another_kind, "tpm.signature.scheme tpm.quote.signature tpm.ak_public.scheme", m->said_scheme = ECDSA) \
    X(scheme_unknown, "tpm.signature.scheme tpm.quote.signature tpm.ak_public.scheme", m->said_scheme = 0x1a)          \
    X(pss_that_is_not, "tpm.quote.signature", (m->said_scheme = RSAPSS, m->public_scheme = RSAPSS))                    \
    X(sha1, "tpm.signature.hash", use_key(m, rsa, RSASSA, SHA_1))                                                      \
    X(sha512, "tpm.signature.hash", use_key(m, rsa, RSASSA, SHA_512))                                                  \
    X(signed_by_another, "tpm.quote.signature", m->signer = other_rsa)                                                 \
    X(key_not_named, "policy.tpm_key", m->policy = "")                                                                 \
    X(another_key_named, "policy.tpm_key", m->policy = "\"tpm_key\":\"00\",")                                          \
    X(named_by_name, "", m->policy = "tpm_name")                                                                       \
    X(another_name, "policy.tpm_name", m->policy = "\"tpm_name\":\"000b00\",")                                         \
    X(certified, "", (CERTIFIED, m->policy = "\"tpm_vendor\":\"a test's root\","))                                     \
    X(certified_and_named, "", CERTIFIED)                                                                              \
    X(certified_but_nobody_asked, "policy.tpm_key", (CERTIFIED, m->policy = ""))                                       \
    X(certified_by_another_vendor, "policy.tpm_vendor", (CERTIFIED, m->policy = "\"tpm_vendor\":\"google\","))         \
    X(vendor_without_certificate, "policy.tpm_vendor", m->policy = "\"tpm_vendor\":\"google\",")                       \
    X(leaf_expired, "tpm.chain", (CERTIFIED, m->leaf_until = evidence_time("2025-12-31")))                             \
    X(chain_swapped, "tpm.chain tpm.root", (CERTIFIED, m->order = ORDER_SWAPPED))                                      \
    X(chain_truncated, "tpm.chain", (CERTIFIED, m->order = ORDER_TRUNCATED))                                           \
    X(chain_extended, "tpm.chain", (CERTIFIED, m->order = ORDER_EXTENDED))                                             \
    X(chain_empty, "tpm.certificates" UNREAD, (CERTIFIED, m->order = ORDER_EMPTY))                                     \
    X(another_root, "tpm.root", (CERTIFIED, m->is_root_pinned = 0))                                                    \
    X(middle_revoked, "tpm.chain", (CERTIFIED, m->revoked = 8))                                                        \
    X(crls_malformed, "tpm.crls" UNREAD, (CERTIFIED, m->more = ",\"crls\":\"*\""))                                     \
    X(others_revoked, "", (CERTIFIED, m->revoked = 9))                                                                 \
    X(endorsement_key, "tpm.certificate.use", (CERTIFIED, m->use = "\x03\x02\x05\x20"))                                \
    X(certificate_of_another, "tpm.quote.signature tpm.ak_public.key policy.tpm_key",                                  \
      (CERTIFIED, m->certified = other_rsa))                                                                           \
    X(public_area_malformed, "tpm.ak_public", (m->has_public = 0, m->more = ",\"ak_public\":\"*\""))                   \
    X(public_area_of_ec, "", use_key(m, p256, ECDSA, SHA_256))                                                         \
    X(public_area_of_p384, "", use_key(m, p384, ECDSA, SHA_384))                                                       \
    X(public_area_of_another, "tpm.ak_public.key", m->public_of = other_rsa)                                           \
    X(public_area_of_another_kind, "tpm.ak_public.key", m->public_of = p256)                                           \
    X(exponent_written_out, "", m->exponent = 65537)                                                                   \
    X(exponent, "tpm.ak_public.key", m->exponent = 3)                                                                  \
    X(not_fixed_to_the_tpm, "tpm.ak_public.attributes", m->attributes &= ~(1u << 1))                                   \
    X(not_fixed_to_its_parent, "tpm.ak_public.attributes", m->attributes &= ~(1u << 4))                                \
    X(not_made_in_the_tpm, "tpm.ak_public.attributes", m->attributes &= ~(1u << 5))                                    \
    X(not_restricted, "tpm.ak_public.attributes", m->attributes &= ~(1u << 16))                                        \
    X(not_for_signatures, "tpm.ak_public.attributes", m->attributes &= ~(1u << 18))                                    \
    X(decrypts, "tpm.ak_public.attributes", m->attributes |= 1u << 17)                                                 \
    X(public_scheme, "tpm.ak_public.scheme", m->public_scheme = RSAPSS)                                                \
    X(public_hash, "tpm.ak_public.scheme", m->public_hash = SHA_384)                                                   \
    X(any_scheme, "tpm.ak_public.scheme", m->public_scheme = 0x10)                                                     \
    X(name_of_sha1, "tpm.ak_public.name_algorithm", m->name_algorithm = SHA_1)                                         \
    X(symmetric, "tpm.ak_public.form", m->symmetric = 6)                                                               \
    X(keyed_hash, "tpm.ak_public.form", m->public_type = 8)                                                            \
    X(log_malformed, "tpm.log", (m->has_no_log = 1, m->more = ",\"event_log\":\"*\""))                                 \
    X(log_of_3_mib, "", log_event(m, 3, ((struct logged){5, IPL, padding, 3 << 20, 0})))                               \
    X(log_longer_than_4_mib, "tpm.log", log_event(m, 3, ((struct logged){5, IPL, padding, 4 << 20, 0})))               \
    X(log_of_the_old_format, "tpm.log.spec_id", m->signature_of_log = "Spec ID Event02")                               \
    X(log_of_version_1, "tpm.log.spec_id", m->spec_major = 1)                                                          \
    X(log_of_long_digests, "tpm.log.spec_id", m->spec_size = 33)                                                       \
    X(log_with_a_bank_twice, "tpm.log.spec_id", m->log_bank_twice = 1)                                                 \
    X(log_without_a_bank, "tpm.log.banks", (m->log_bank = SHA_512, select_pcrs(m, 1, SHA_384, 1 << 9)))                \
    X(log_cut_in_an_event, "tpm.log.form", m->log_cut = 3)                                                             \
    X(locality_in_a_fixed_place, "", m->log[0] = EVENT(0, NO_ACTION, "StartupLocality\0\x03\0\0\0"))                   \
    X(locality_with_more, "tpm.log.startup_locality tpm.log.replay", m->log[0] = EVENT(0, NO_ACTION, "StartupLocality\0\x03\0\x04"))  \
    X(log_without_its_last_event, "tpm.log.replay",                                                                    \
      m->log_cut = 4 + 4 + 4 + 3 * 2 + 20 + 32 + 48 + 4 + sizeof "kernel" - 1)                                         \
    X(event_without_a_bank, "", (m->bank_left_out = SHA_1, m->left_out_at = 2))                                        \
    X(event_without_a_quoted_bank, "tpm.log.event_data tpm.log.replay",                                                \
      (m->bank_left_out = SHA_256, m->left_out_at = 2))                                                                \
    X(digest_twice_in_an_event, "tpm.log.form", m->digest_bank_twice = 1)                                              \
    X(event_in_pcr_24, "tpm.log.form", log_event(m, 3, EVENT(24, IPL, "x")))                                           \
    X(no_action_anywhere, "", log_event(m, 3, EVENT(0xffffffff, NO_ACTION, "SP800-155 Event")))                        \
    X(locality_0, "", m->log[0] = EVENT(0, NO_ACTION, "StartupLocality\0\x00"))                                        \
    X(locality_4, "", m->log[0] = EVENT(0, NO_ACTION, "StartupLocality\0\x04"))                                        \
    X(locality_2, "tpm.log.startup_locality", m->log[0] = EVENT(0, NO_ACTION, "StartupLocality\0\x02"))                \
    X(locality_without_a_number, "tpm.log.startup_locality", m->log[0] = EVENT(0, NO_ACTION, "StartupLocality\0"))     \
    X(locality_twice, "tpm.log.startup_locality", log_event(m, 1, EVENT(0, NO_ACTION, "StartupLocality\0\x04")))       \
    X(locality_too_late, "tpm.log.startup_locality", (m->log[0] = boot[1], m->log[1] = boot[0]))                       \
    X(locality_of_pcr_1, "tpm.log.startup_locality", m->log[0].pcr = 1)                                                \
    X(value_that_the_log_does_not_give, "tpm.log.replay", m->value_signed = 4)                                         \
    X(value_of_the_system, "", m->value_signed = 8)                                                                    \
    X(marked_by_systemd, "", (m->unlogged[0] = EVENT(0, IPL, "os-separator"), m->unlogged[1] = EVENT(7, IPL, "os-separator"))) \
    X(marked_by_another, "tpm.log.replay", m->unlogged[0] = EVENT(0, IPL, "os-separator."))                            \
    X(boot_services_left, "", (m->unlogged[0] = EVENT(5, action, LEAVING), m->unlogged[1] = EVENT(5, action, HAS_LEFT "Success"))) \
    X(boot_services_left_at_last, "", (m->unlogged[0] = m->unlogged[2] = EVENT(5, action, LEAVING),                    \
                                       m->unlogged[1] = EVENT(5, action, HAS_LEFT "Failure"),                          \
                                       m->unlogged[3] = EVENT(5, action, HAS_LEFT "Success")))                         \
    X(boot_services_not_left, "",                                                                                      \
      (m->unlogged[0] = EVENT(5, action, LEAVING), m->unlogged[1] = EVENT(5, action, HAS_LEFT "Failure")))             \
    X(boot_services_left_and_marked, "", (m->unlogged[0] = EVENT(5, action, LEAVING),                                  \
                                          m->unlogged[1] = EVENT(5, action, HAS_LEFT "Success"),                       \
                                          m->unlogged[2] = EVENT(5, IPL, "os-separator")))                             \
    X(boot_services_left_at_last_and_marked, "", (m->unlogged[0] = m->unlogged[2] = EVENT(5, action, LEAVING),         \
                                                  m->unlogged[1] = EVENT(5, action, HAS_LEFT "Failure"),               \
                                                  m->unlogged[3] = EVENT(5, action, HAS_LEFT "Success"),               \
                                                  m->unlogged[4] = EVENT(5, IPL, "os-separator")))                     \
    X(boot_services_left_elsewhere, "tpm.log.replay",                                                                  \
      (m->unlogged[0] = EVENT(4, action, LEAVING), m->unlogged[1] = EVENT(4, action, HAS_LEFT "Success")))             \
    X(firmware_register_without_events, "tpm.log.replay", m->value_signed = 3)                                         \
    X(system_register_without_events, "", m->value_signed = 9)                                                         \
    X(log_of_nothing_quoted, "",                                                                                       \
      (m->selection_count = 1, select_pcrs(m, 0, SHA_256, 1 << 14)))                                                   \
    X(variable_that_was_not_measured, "tpm.log.event_data", m->log[2].is_of_other_data = 1)                            \
    X(separator_that_was_not_measured, "tpm.log.event_data", m->log[5].is_of_other_data = 1)                           \
    X(not_measured_nor_quoted, "",                                                                                     \
      (m->log[2].is_of_other_data = 1, select_pcrs(m, 0, SHA_256, 0x4f), select_pcrs(m, 1, SHA_384, 1 << 9)))          \
    X(secure_boot, "", m->policy_more = SECURE_BOOT_WANTED)                                                            \
    X(secure_boot_is_off, "policy.secure_boot",                                                                        \
      (m->policy_more = SECURE_BOOT_WANTED, m->log[2] = EVENT(7, variable, SECURE_BOOT_IS_OFF)))                       \
    X(secure_boot_is_off_and_may_be, "",                                                                               \
      (m->policy_more = ",\"secure_boot\":false", m->log[2] = EVENT(7, variable, SECURE_BOOT_IS_OFF)))                 \
    X(secure_boot_is_empty, "policy.secure_boot",                                                                      \
      (m->policy_more = SECURE_BOOT_WANTED, m->log[2] = EVENT(7, variable, SECURE_BOOT("\0", ""))))                    \
    X(secure_boot_of_2, "policy.secure_boot",                                                                          \
      (m->policy_more = SECURE_BOOT_WANTED, m->log[2] = EVENT(7, variable, SECURE_BOOT("\x01", "\x02"))))              \
    X(secure_boot_with_more, "policy.secure_boot",                                                                     \
      (m->policy_more = SECURE_BOOT_WANTED, m->log[2] = EVENT(7, variable, SECURE_BOOT("\x01", "\x01\x00"))))          \
    X(secure_boot_of_another_owner, "policy.secure_boot",                                                              \
      (m->policy_more = SECURE_BOOT_WANTED,                                                                            \
       m->log[2] = EVENT(7, variable, "another's number" "\x0a\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0" SECURE_BOOT_NAME "\x01"))) \
    X(secure_boot_twice, "policy.secure_boot",                                                                         \
      (m->policy_more = SECURE_BOOT_WANTED, log_event(m, 2, EVENT(7, variable, SECURE_BOOT_IS_OFF))))                  \
    X(secure_boot_off_at_last, "policy.secure_boot",                                                                   \
      (m->policy_more = SECURE_BOOT_WANTED, log_event(m, 3, EVENT(7, variable, SECURE_BOOT_IS_OFF))))                  \
    X(secure_boot_after_the_firmware, "policy.secure_boot",                                                            \
      (m->policy_more = SECURE_BOOT_WANTED, m->log[2] = boot[3],                                                       \
       log_event(m, 9, EVENT(7, variable, SECURE_BOOT_IS_ON))))                                                        \
    X(secure_boot_elsewhere, "policy.secure_boot",                                                                     \
      (m->policy_more = SECURE_BOOT_WANTED, m->log[2].pcr = 1))                                                        \
    X(secure_boot_unsaid, "policy.secure_boot", (m->policy_more = SECURE_BOOT_WANTED, m->log[2] = boot[3]))            \
    X(secure_boot_not_quoted, "policy.secure_boot",                                                                    \
      (m->policy_more = SECURE_BOOT_WANTED, select_pcrs(m, 0, SHA_256, 0x4f), select_pcrs(m, 1, SHA_384, 1 << 9)))     \
    X(secure_boot_quoted_in_another_bank, "policy.secure_boot",                                                        \
      (m->policy_more = SECURE_BOOT_WANTED, select_pcrs(m, 0, SHA_256, 0x437f)))                                       \
    X(secure_boot_off_by_another_type, "policy.secure_boot",                                                           \
      (m->policy_more = SECURE_BOOT_WANTED, m->log[2] = EVENT(7, IPL, SECURE_BOOT_IS_OFF), m->log[7].type = variable,  \
       log_event(m, 10, EVENT(7, variable, SECURE_BOOT_IS_ON))))                                                       \
    X(secure_boot_without_a_separator, "policy.secure_boot",                                                           \
      (m->policy_more = SECURE_BOOT_WANTED, m->log[7].pcr = 6))                                                        \
    X(event_of_the_firmware_not_measured, "tpm.log.event_data",                                                        \
      log_event(m, 2, ((struct logged){7, IPL, DATA("x"), 1})))                                                        \
    X(debugger_by_another_type, "policy.allow_debug", log_event(m, 2, EVENT(7, IPL, "UEFI Debug Mode")))               \
    X(debugger, "policy.allow_debug", log_event(m, 2, EVENT(7, action, "UEFI Debug Mode")))                            \
    X(debugger_in_another_bank, "policy.allow_debug",                                                                  \
      (select_pcrs(m, 0, SHA_256, 0x437f), log_event(m, 2, EVENT(7, action, "UEFI Debug Mode"))))                      \
    X(debugger_allowed, "",                                                                                            \
      (log_event(m, 2, EVENT(7, action, "UEFI Debug Mode")), m->policy_more = ",\"allow_debug\":true"))                \
    X(another_action, "", log_event(m, 2, EVENT(7, action, "Exit Boot Services")))                                     \
    X(debugger_after_the_firmware, "", log_event(m, 9, EVENT(7, action, "UEFI Debug Mode")))                           \
    X(action_that_was_not_measured, "tpm.log.event_data",                                                              \
      log_event(m, 2, ((struct logged){7, action, DATA("UEFI Debug Mode"), 1})))                                       \
    X(boot_loaders, "", (m->log[4].is_of_other_data = m->log[9].is_of_other_data = 0, m->policy_more = BOOT_LOADERS))  \
    X(boot_loader, "policy.boot_loader", (m->log[4].is_of_other_data = 0, m->policy_more = BOOT_LOADERS))              \
    X(first_boot_loader_alone, "policy.boot_loader", (m->log[4].is_of_other_data = 0, m->policy_more = FIRST_LOADER "]"))   \
    X(first_boot_loader_and_any, "", (m->log[4].is_of_other_data = 0, m->policy_more = FIRST_LOADER ",null]"))            \
    X(first_boot_loader_by_number, "policy.boot_loader",                                                               \
      (m->log[4].is_of_other_data = 0, m->policy_more = ",\"boot_loader\":{\"0\":" SHIM "}"))                            \
    X(second_boot_loader_by_number, "",                                                                                \
      (m->log[9].is_of_other_data = 0, m->policy_more = ",\"boot_loader\":{\"1\":" KERNEL "}"))                          \
    X(a_program_behind_the_named, "policy.boot_loader",                                                                \
      (m->log[4].is_of_other_data = m->log[9].is_of_other_data = 0, m->policy_more = BOOT_LOADERS,                     \
       log_event(m, 10, EVENT(4, application, "another"))))                                                            \
    X(a_ninth_program, "policy.boot_loader", (add_programs(m, 7), m->policy_more = EIGHT_LOADERS))                       \
    X(eight_programs, "", (add_programs(m, 6), m->policy_more = EIGHT_LOADERS))                                          \
    X(one_boot_loader_less, "policy.boot_loader",                                                                      \
      (m->log[4].is_of_other_data = 0, m->log[9].pcr = 5, m->policy_more = BOOT_LOADERS))                              \
    X(boot_loader_by_another_type, "policy.boot_loader policy.boot_loader policy.boot_loader",                         \
      (m->log[4] = (struct logged){4, IPL, DATA("another"), 1}, m->log[9] = EVENT(4, application, "shim"),             \
       log_event(m, 10, EVENT(4, application, "kernel")), m->policy_more = BOOT_LOADERS))                              \
    X(boot_action, "", (m->log[4].is_of_other_data = m->log[9].is_of_other_data = 0, m->policy_more = BOOT_LOADERS,    \
                        log_event(m, 4, EVENT(4, action, "Calling EFI Application from Boot Option"))))                \
    X(boot_action_not_measured, "policy.boot_loader policy.boot_loader policy.boot_loader",                            \
      (m->log[4].is_of_other_data = m->log[9].is_of_other_data = 0, m->policy_more = BOOT_LOADERS,                     \
       log_event(m, 4, ((struct logged){4, action, DATA("BOOT ATTEMPTS OMITTED"), 1}))))                               \
    X(pcr, "policy.pcr", m->policy_more = ",\"pcr\":{\"14\":\"00\"}")                                                  \
    X(pcr_not_quoted, "policy.pcr", m->policy_more = ",\"pcr\":{\"20\":\"00\"}")                                       \
    X(firmware, "policy.firmware_version", m->firmware++)                                                              \
    X(another_nonce, "policy.report_data", m->asks_another_nonce = 1)

/* SHA-256 of "shim" and "kernel". */
#define SHIM "\"04e666aa09809daf691a99cc7bf2d57ba09bac171966a71812ffd049d7c96bb1\""
#define KERNEL "\"6923dd1bc0460082c5d55a831908c24a282860b7f1cd6c2b79cf1bc8857c639c\""
#define FIRST_LOADER ",\"boot_loader\":[" SHIM
#define BOOT_LOADERS FIRST_LOADER "," KERNEL "]"
#define EIGHT_LOADERS FIRST_LOADER "," KERNEL ",null,null,null,null,null,null]"

/* More programs behind the two of the boot, whose data are right then. */
static void add_programs(struct machine *machine, size_t count)
{
    machine->log[4].is_of_other_data = machine->log[9].is_of_other_data = 0;
    for (size_t i = 0; i < count; i++)
        log_event(machine, 10, (struct logged){4, application, DATA("another"), 0});
}

#define CHANGED struct machine
#define NEW_CHANGED new_machine()
#define JUDGE_CHANGED(m) judge_machine(m)
#include "changes.h"

/* ---- Documents that are no evidence ---- */

static void pcrs_are_read_strictly(void **state)
{
    static const char *const malformed[] = {
        "[]", "\"\"", "{\"sha256\":[]}", "{\"sha256\":{\"00\":\"%s\"}}", "{\"sha256\":{\"24\":\"%s\"}}",
        "{\"sha256\":{\"0\":\"%sff\"}}", "{\"sha256\":{\"0\":1}}", "{\"sha256\":{\"0\":\"%s\",\"pcr\":\"%s\"}}",
        "{\"sm3\":{\"0\":\"%s\"}}", "{\"sha256\":{\"0\":\"%s\"},\"sha\":{}}", "{\"sha384\":{\"0\":\"%s\"}}"};
    static const char value[] = "0000000000000000000000000000000000000000000000000000000000000000";
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++) {
        struct machine machine = new_machine();
        struct buffer document = {0};
        char policy[2048], pcrs[512];
        machine.left_out = "pcrs";
        write_machine(&machine, &document, policy);
        document.length--;
        snprintf(pcrs, sizeof pcrs, malformed[i], value, value);
        buffer_append_format(&document, ",\"pcrs\":%s}", pcrs);
        bulla_verdict *verdict = evidence_judge(&document, policy, evidence_time("2026-01-01"));
        assert_string_equal(evidence_state(verdict, "tpm.pcrs"), "fail");
        bulla_verdict_free(verdict);
        buffer_free(&document);
    }
}

/* A quote made for a server's keys: its nonce is the SHA-256 of the 64 bytes that they hash to. */
static void a_quote_is_bound_to_keys(void **state)
{
    for (int is_other = 0; is_other < 2; is_other++) {
        struct machine machine = new_machine();
        struct binding binding = {.model_count = 1};
        struct buffer document = {0};
        uint8_t report_data[64];
        char policy[2048], key[65];
        bulla_error error = {0};
        memset(binding.tls_key, 7, sizeof binding.tls_key);
        assert_ok(binding_report_data(&binding, report_data, &error), error);
        assert_int_equal(EVP_Q_digest(NULL, "SHA256", NULL, report_data, sizeof report_data, machine.nonce, NULL), 1);
        binding.tls_key[0] ^= (uint8_t)is_other;
        write_machine(&machine, &document, policy);
        document.length--;
        buffer_append_text(&document, ",\"binding\":");
        binding_write(&binding, &document);
        buffer_append_byte(&document, '}');
        hash_key(machine.key, key);
        snprintf(policy, sizeof policy, "{\"tpm_key\":\"%s\"}", key);
        bulla_verdict *verdict = evidence_judge(&document, policy, evidence_time("2026-01-01"));
        assert_string_equal(evidence_failures(verdict), is_other ? "binding.report_data" : "");
        assert_string_equal(evidence_state(verdict, "evidence.tried"), "not checked");
        bulla_verdict_free(verdict);
        buffer_free(&document);
    }
}

/* ---- Every byte ---- */

/* The number of flips; fails where one is accepted. `text` is the member's value in the document, in base64. */
static size_t flip_base64(struct buffer *document, const char *member, const char *policy)
{
    char name[64];
    size_t flips = 0, length;
    snprintf(name, sizeof name, "\"%s\":\"", member);
    char *text = strstr((char *)document->data, name);
    assert_non_null(text);
    text += strlen(name);
    size_t text_length = strcspn(text, "\"");
    uint8_t *bytes = memory_alloc(base64_most(text_length) + 1, 1, NULL);
    assert_true(base64_decode(text, text_length, bytes, &length));
    for (size_t at = 0; at < length; at++)
        for (int bit = (int)(at % 8); bit < (int)test_count(at % 8 + 1, 8); bit++, flips++) {
            struct buffer again = {0};
            bytes[at] ^= (uint8_t)(1 << bit);
            base64_append(&again, bytes, length);
            memcpy(text, again.data, text_length);
            bulla_verdict *verdict = evidence_judge(document, policy, evidence_time("2026-01-01"));
            if (bulla_verdict_passed(verdict))
                fail_msg("%s: byte %zu, bit %d: accepted", member, at, bit);
            bytes[at] ^= (uint8_t)(1 << bit);
            bulla_verdict_free(verdict);
            buffer_free(&again);
        }
    struct buffer again = {0};
    base64_append(&again, bytes, length);
    memcpy(text, again.data, text_length);
    buffer_free(&again);
    memory_free(bytes);
    return flips;
}

/* A log that says that secure boot is off: no flip makes it say the contrary. And the bytes that are signed. */
static void every_byte_of_our_own_counts(void **state)
{
    struct machine machine = new_machine();
    struct buffer document = {0};
    char policy[2048];
    write_machine(&machine, &document, policy);
    size_t flips = flip_base64(&document, "quote", policy) + flip_base64(&document, "signature", policy);
    machine.policy = "tpm_name";
    write_machine(&machine, &document, policy);
    flips += flip_base64(&document, "ak_public", policy);
    machine.policy_more = SECURE_BOOT_WANTED;
    machine.log[2] = EVENT(7, variable, SECURE_BOOT_IS_OFF);
    write_machine(&machine, &document, policy);
    size_t of_log = flip_base64(&document, "event_log", policy);
    buffer_free(&document);
    print_message("%zu bits of signed bytes and %zu of the log flipped, none accepted\n", flips, of_log);
}

static void without_memory_nothing_passes(void **state)
{
    struct machine machine = new_machine();
    struct buffer document = {0};
    char policy[2048];
    machine.is_certified = 1;
    write_machine(&machine, &document, policy);
    uint64_t count = evidence_fail_allocations(&document, policy, evidence_time("2026-01-01"));
    assert_true(count > 10);
    buffer_free(&document);
    print_message("%llu failing allocations\n", (unsigned long long)count);
}

/* ---- keylime's quote ---- */

enum { PCR_FILE_VALUES = 132, PCR_FILE_DIGESTS = 8, PCR_FILE_DIGEST = 2 + 64 };

/* As tpm2-tools write the values: the C structures as they lie in memory. */
static void add_written_pcrs(struct buffer *document, const uint8_t *bytes, size_t length)
{
    static const char *const pcrs[] = {"15", "16", "22"};
    size_t found = 0;
    assert_true(length >= PCR_FILE_VALUES + 8 + PCR_FILE_DIGESTS * PCR_FILE_DIGEST);
    buffer_append_text(document, ",\"pcrs\":{\"sha256\":{");
    for (size_t i = 0; i < PCR_FILE_DIGESTS; i++) {
        const uint8_t *digest = bytes + PCR_FILE_VALUES + 8 + i * PCR_FILE_DIGEST;
        char hex[65];
        if (digest[0] == 0)
            continue;
        assert_true(found < 3);
        hex_encode(digest + 2, 32, hex);
        buffer_append_format(document, "%s\"%s\":\"%s\"", found ? "," : "", pcrs[found], hex);
        found++;
    }
    buffer_append_text(document, "}}");
}

static void write_keylime(struct buffer *document)
{
    const char *folder = evidence_folder("tpm");
    size_t length;
    static const struct {
        const char *file, *member;
    } files[] = {{"quote.out", "quote"}, {"quotesig.out", "signature"}};
    evidence_begin(document, "tpm");
    for (size_t i = 0; i < 2; i++) {
        uint8_t *bytes = evidence_file(folder, files[i].file, &length);
        evidence_add_bytes(document, files[i].member, bytes, length);
        memory_free(bytes);
    }
    uint8_t *pcrs = evidence_file(folder, "quotepcr.out", &length);
    add_written_pcrs(document, pcrs, length);
    memory_free(pcrs);
    uint8_t *pem = evidence_file(folder, "akpub.pem", &length);
    buffer_append_text(document, ",\"ak\":");
    json_write_string(document, (const char *)pem, length);
    buffer_append_byte(document, '}');
    memory_free(pem);
}

static const char keylime_policy[] =
    "{\"type\":\"tpm\",\"report_data\":\"db1db298db6d60e6385b7231743e9c3056a18003\","
    "\"tpm_key\":\"4bbc3c7e987a043760565a98b68a7aa473a9163d026b8b53ef9c96b439f9426c\","
    "\"pcr\":{\"15\":\"0000000000000000000000000000000000000000000000000000000000000000\"}}";

static void the_quote_of_keylime_verifies(void **state)
{
    struct buffer document = {0};
    if (!evidence_folder("tpm"))
        skip();
    write_keylime(&document);
    bulla_verdict *verdict = evidence_judge(&document, keylime_policy, evidence_time("2026-01-01"));
    assert_string_equal(evidence_failures(verdict), "");
    assert_true(bulla_verdict_passed(verdict));
    bulla_verdict_free(verdict);
    buffer_free(&document);
}

/* The quote, its signature, the values in hex and the key in DER. */
static void every_byte_of_keylimes_counts(void **state)
{
    struct buffer document = {0};
    if (!evidence_folder("tpm"))
        skip();
    write_keylime(&document);
    size_t flips = flip_base64(&document, "quote", keylime_policy) + flip_base64(&document, "signature", keylime_policy);
    char *values = strstr((char *)document.data, "\"sha256\""), *behind = strstr(values, "}");
    for (char *at = strstr(values, ":\""); at && at < behind; at = strstr(at, ":\""))
        for (at += 2; *at != '"'; at++, flips++) {
            char before = *at;
            *at = before == '0' ? '1' : '0';
            bulla_verdict *verdict = evidence_judge(&document, keylime_policy, evidence_time("2026-01-01"));
            if (bulla_verdict_passed(verdict))
                fail_msg("the values' byte %td: accepted", at - values);
            bulla_verdict_free(verdict);
            *at = before;
        }
    char *pem = strstr((char *)document.data, "KEY-----\\n") + 10, *end = strstr(pem, "\\n-----END");
    for (char *at = pem; at < end; at += *at == '\\' ? 2 : 1) {
        char before = *at;
        if (before == '\\') /* the end of a line, in JSON */
            continue;
        *at = before == 'A' ? 'B' : 'A';
        bulla_verdict *verdict = evidence_judge(&document, keylime_policy, evidence_time("2026-01-01"));
        if (bulla_verdict_passed(verdict))
            fail_msg("the key's byte %td: accepted", at - pem);
        bulla_verdict_free(verdict);
        *at = before;
        flips++;
    }
    print_message("%zu changes of keylime's quote, none accepted\n", flips);
    buffer_free(&document);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_quote_of_keylime_verifies),
        cmocka_unit_test(every_byte_of_keylimes_counts),
        cmocka_unit_test(every_change_is_seen_by_its_check),
        cmocka_unit_test(every_byte_of_our_own_counts),
        cmocka_unit_test(pcrs_are_read_strictly),
        cmocka_unit_test(a_quote_is_bound_to_keys),
        cmocka_unit_test(without_memory_nothing_passes),
    };
    return cmocka_run_group_tests(tests, make_keys, free_keys);
}
