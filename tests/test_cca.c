/* Arm CCA: tokens of a platform and a realm of our own verify, and nothing that was changed does. */
#include "test.h"

#include <openssl/x509.h>

#include "authority.h"
#include "base/hash.h"
#include "cose_writer.h"
#include "evidence_document.h"
#include "trust_roots.h"

enum { ABSENT = -1, TEXT = -3 };
enum { KEY_COSE, KEY_POINT, KEY_POINT_COMPRESSED, KEY_POINT_SHORT, KEY_TEXT, KEY_NONE, KEY_COSE_OF_ES512,
       KEY_OF_ANOTHER };

/* What a platform and a realm of ours say; a case changes one thing. Lengths: ABSENT and TEXT stand for themselves. */
struct machine {
    /* The platform's token. */
    const char *platform_profile; /* NULL: none */
    int challenge;                /* 0: the hash of the realm's key; else a length or so */
    int implementation_id, instance_id, config;
    int instance_kind;
    int64_t lifecycle;
    const char *platform_hash;
    int components;               /* how many; ABSENT or TEXT */
    int component_measurement, component_signer, component_is_text; /* of the last one */
    struct cose_writing platform;
    const char *platform_payload, *realm_payload; /* hex, in place of the claims */
    /* The realm's. */
    const char *realm_profile, *realm_hash, *key_hash;
    int report_data, personalization, initial, extensible, extensible_length, extensible_others;
    int key_form;
    const char *realm_curve;
    int64_t realm_curve_id;
    struct cose_writing realm;
    /* The collection and the document. */
    uint64_t tag;
    int content_format; /* of each token, in a list with it; 0: none */
    int entries, behind, platform_label, platform_is_text;
    int has_no_platform_key, key_behind, platform_key_is_pinned, signs_with_other_key, realm_signs_with_other_key;
    const char *policy_key;       /* NULL: the platform's; "": none is named */
    size_t policy_data;           /* bytes of report data that the policy names */
    int policy_names_no_program;
    const char *policy_more;
};

static EVP_PKEY *platform_key, *realm_key, *other_key, *small_key, *large_key;

static int make_keys(void **state)
{
    platform_key = authority_key("P-384");
    realm_key = authority_key("P-384");
    other_key = authority_key("P-384");
    small_key = authority_key("P-256");
    large_key = authority_key("P-521");
    return 0;
}

static int free_keys(void **state)
{
    EVP_PKEY *const keys[] = {platform_key, realm_key, other_key, small_key, large_key};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        EVP_PKEY_free(keys[i]);
    return 0;
}

static struct machine new_machine(void)
{
    return (struct machine){
        .platform_profile = "tag:arm.com,2023:cca_platform#1.0.0", .implementation_id = 32, .instance_id = 33,
        .instance_kind = 1, .config = 4, .lifecycle = 0x3003, .platform_hash = "sha-256", .components = 3,
        .component_measurement = 32, .component_signer = 32, .platform = {.algorithm = -35, .is_tagged = 1},
        .realm_profile = "tag:arm.com,2023:realm#1.0.0", .realm_hash = "sha-256", .key_hash = "sha-256",
        .report_data = 64, .personalization = 64, .initial = 32, .extensible = 4, .extensible_length = 32,
        .extensible_others = 32, .realm_curve = "P-384", .realm_curve_id = 2,
        .realm = {.algorithm = -35, .is_tagged = 1}, .tag = 399, .entries = 2,
        .policy_data = 64};
}

/* ---- Tokens ---- */

static void write_value(struct buffer *out, int length, int fill)
{
    uint8_t bytes[600];
    memset(bytes, fill, sizeof bytes);
    if (length == TEXT)
        cbor_write_text(out, "text");
    else
        cbor_write_bytes(out, bytes, (size_t)length);
}

static void write_bytes(struct buffer *out, size_t *pairs, int64_t label, int length, int fill)
{
    if (length == ABSENT)
        return;
    ++*pairs;
    cbor_write_integer(out, label);
    write_value(out, length, fill);
}

static void write_text(struct buffer *out, size_t *pairs, int64_t label, const char *text)
{
    if (!text)
        return;
    ++*pairs;
    cbor_write_integer(out, label);
    cbor_write_text(out, text);
}

static void write_components(struct buffer *out, size_t *pairs, const struct machine *machine)
{
    if (machine->components < 0) {
        write_bytes(out, pairs, 2399, machine->components, 0);
        return;
    }
    ++*pairs;
    cbor_write_integer(out, 2399);
    cbor_write_list(out, (size_t)machine->components);
    for (int i = 0; i < machine->components; i++) {
        int is_last = i + 1 == machine->components;
        struct buffer component = {0};
        size_t count = 0;
        if (is_last && machine->component_is_text) {
            cbor_write_text(out, "component");
            continue;
        }
        write_text(&component, &count, 1, "RMM");
        write_bytes(&component, &count, 2, is_last ? machine->component_measurement : 48, 0x50 + i);
        write_text(&component, &count, 4, "1.0.0");
        write_bytes(&component, &count, 5, is_last ? machine->component_signer : 64, 0x70 + i);
        cbor_write_map(out, count);
        buffer_append(out, component.data, component.length);
        buffer_free(&component);
    }
}

static void finish_map(struct buffer *out, size_t pairs, struct buffer *claims)
{
    cbor_write_map(out, pairs);
    buffer_append(out, claims->data, claims->length);
    buffer_free(claims);
}

static void write_given(struct buffer *out, const char *hex)
{
    uint8_t bytes[64];
    assert_true(strlen(hex) <= 2 * sizeof bytes && hex_decode(hex, strlen(hex), bytes, strlen(hex) / 2));
    buffer_append(out, bytes, strlen(hex) / 2);
}

static void write_platform_claims(struct buffer *out, const struct machine *machine, const struct buffer *key)
{
    struct buffer claims = {0};
    size_t pairs = 0, length;
    uint8_t digest[EVP_MAX_MD_SIZE], instance[33];
    const char *hash = strcmp(machine->key_hash ? machine->key_hash : "", "sha-512") == 0 ? "SHA512" : "SHA256";
    write_text(&claims, &pairs, 265, machine->platform_profile);
    if (machine->challenge) {
        write_bytes(&claims, &pairs, 10, machine->challenge, 0);
    } else {
        assert_int_equal(EVP_Q_digest(NULL, hash, NULL, key->data, key->length, digest, &length), 1);
        ++pairs;
        cbor_write_integer(&claims, 10);
        cbor_write_bytes(&claims, digest, length);
    }
    write_bytes(&claims, &pairs, 2396, machine->implementation_id, 0x11);
    if (machine->instance_id == 33 && ++pairs) {
        memset(instance, 0x22, sizeof instance);
        instance[0] = (uint8_t)machine->instance_kind;
        cbor_write_integer(&claims, 256);
        cbor_write_bytes(&claims, instance, sizeof instance);
    } else {
        write_bytes(&claims, &pairs, 256, machine->instance_id, 1);
    }
    write_bytes(&claims, &pairs, 2401, machine->config, 0xcf);
    if (machine->lifecycle < 0) {
        write_bytes(&claims, &pairs, 2395, (int)machine->lifecycle, 0);
    } else {
        ++pairs;
        cbor_write_integer(&claims, 2395);
        cbor_write_integer(&claims, machine->lifecycle);
    }
    write_components(&claims, &pairs, machine);
    write_text(&claims, &pairs, 2400, "https://verifier.example");
    write_text(&claims, &pairs, 2402, machine->platform_hash);
    finish_map(out, pairs, &claims);
}

static EVP_PKEY *key_of_realm(const struct machine *machine)
{
    return machine->realm_curve[2] == '2' ? small_key : machine->realm_curve[2] == '5' ? large_key : realm_key;
}

/* What the realm's key claim holds. */
static void write_realm_key(struct buffer *out, const struct machine *machine)
{
    uint8_t point[132];
    size_t length = cose_key_point(key_of_realm(machine), point);
    if (machine->key_form == KEY_COSE || machine->key_form == KEY_COSE_OF_ES512) {
        cose_write_key(out, key_of_realm(machine), machine->realm_curve_id, machine->key_form == KEY_COSE ? 0 : -36);
    } else if (machine->key_form == KEY_OF_ANOTHER) {
        cose_write_key(out, other_key, 2, 0);
    } else if (machine->key_form <= KEY_POINT_SHORT) {
        buffer_append_byte(out, machine->key_form == KEY_POINT_COMPRESSED ? 2 : 4);
        buffer_append(out, point, machine->key_form == KEY_POINT_SHORT ? length - 1 : length);
    }
}

static void write_realm_claims(struct buffer *out, const struct machine *machine, const struct buffer *key)
{
    struct buffer claims = {0};
    size_t pairs = 0;
    write_text(&claims, &pairs, 265, machine->realm_profile);
    write_bytes(&claims, &pairs, 10, machine->report_data, 0xd1);
    write_bytes(&claims, &pairs, 44235, machine->personalization, 0x66);
    write_text(&claims, &pairs, 44236, machine->realm_hash);
    write_bytes(&claims, &pairs, 44238, machine->initial, 0x3a);
    if (machine->extensible < 0) {
        write_bytes(&claims, &pairs, 44239, machine->extensible, 0);
    } else {
        ++pairs;
        cbor_write_integer(&claims, 44239);
        cbor_write_list(&claims, (size_t)machine->extensible);
        for (int i = 0; i < machine->extensible; i++)
            write_value(&claims, i == 2 ? machine->extensible_length : machine->extensible_others, 0x40 + i);
    }
    if (machine->key_form == KEY_TEXT) {
        write_text(&claims, &pairs, 44237, "key");
    } else if (machine->key_form != KEY_NONE) {
        ++pairs;
        cbor_write_integer(&claims, 44237);
        cbor_write_bytes(&claims, key->data, key->length);
    }
    write_text(&claims, &pairs, 44240, machine->key_hash);
    write_text(&claims, &pairs, 44999, "a claim that nobody knows");
    finish_map(out, pairs, &claims);
}

static void write_entry(struct buffer *out, const struct machine *machine, const struct buffer *token)
{
    if (machine->content_format) {
        cbor_write_list(out, 2);
        cbor_write_integer(out, machine->content_format);
    }
    cbor_write_bytes(out, token->data, token->length);
}

static void write_signed(struct buffer *out, const struct cose_writing *writing, EVP_PKEY *key,
                         const struct buffer *claims)
{
    struct cose_writing own = *writing;
    own.key = key;
    own.payload = claims->data ? claims->data : (const uint8_t *)"";
    own.payload_length = claims->length;
    cose_write_sign1(out, &own);
}

static void write_token(struct buffer *out, const struct machine *machine)
{
    struct buffer key = {0}, claims[2] = {{0}}, tokens[2] = {{0}};
    write_realm_key(&key, machine);
    if (machine->platform_payload)
        write_given(&claims[0], machine->platform_payload);
    else
        write_platform_claims(&claims[0], machine, &key);
    if (machine->realm_payload)
        write_given(&claims[1], machine->realm_payload);
    else
        write_realm_claims(&claims[1], machine, &key);
    write_signed(&tokens[0], &machine->platform, machine->signs_with_other_key ? other_key : platform_key, &claims[0]);
    write_signed(&tokens[1], &machine->realm, machine->realm_signs_with_other_key ? other_key : key_of_realm(machine),
                 &claims[1]);
    if (machine->tag)
        cbor_write_tag(out, machine->tag);
    cbor_write_map(out, (size_t)machine->entries);
    cbor_write_integer(out, machine->platform_label ? machine->platform_label : 44234);
    if (machine->platform_is_text)
        cbor_write_text(out, "token");
    else
        write_entry(out, machine, &tokens[0]);
    if (machine->entries > 1) {
        cbor_write_integer(out, 44241);
        write_entry(out, machine, &tokens[1]);
    }
    if (machine->entries > 2) {
        cbor_write_integer(out, 7);
        cbor_write_integer(out, 7);
    }
    for (int i = 0; i < machine->behind; i++)
        buffer_append_byte(out, 0);
    for (int i = 0; i < 2; i++) {
        buffer_free(&claims[i]);
        buffer_free(&tokens[i]);
    }
    buffer_free(&key);
}

/* ---- Verdicts ---- */

static void write_platform_key(struct buffer *out, uint8_t sha256[32])
{
    uint8_t der[512], *end = der;
    bulla_error error = {0};
    int length = i2d_PUBKEY(platform_key, &end);
    assert_true(length > 0 && (size_t)length <= sizeof der);
    buffer_append(out, der, (size_t)length);
    assert_ok(hash_sha256(der, (size_t)length, sha256, &error), error);
}

static const char *failures_of(const struct buffer *token, const struct buffer *key, const char *policy)
{
    struct buffer document = {0};
    evidence_begin(&document, "cca");
    evidence_add_bytes(&document, "token", token->data, token->length);
    if (key)
        evidence_add_bytes(&document, "platform_key", key->data, key->length);
    buffer_append_byte(&document, '}');
    bulla_verdict *verdict = evidence_judge(&document, policy, evidence_time("2026-01-01"));
    const char *failures = evidence_failures(verdict);
    assert_int_equal(bulla_verdict_passed(verdict), failures[0] == 0);
    assert_string_equal(evidence_state(verdict, "evidence.tried"), "not checked");
    bulla_verdict_free(verdict);
    buffer_free(&document);
    return failures;
}

static void write_policy(const struct machine *machine, const uint8_t sha256[32], char policy[1024])
{
    uint8_t bytes[64];
    char report_data[129], measurement[65], key[65], member[128] = "", program[128] = "";
    memset(bytes, 0xd1, sizeof bytes);
    hex_encode(bytes, machine->policy_data, report_data);
    memset(bytes, 0x3a, sizeof bytes);
    hex_encode(bytes, 32, measurement);
    hex_encode(sha256, 32, key);
    if (!machine->policy_key || machine->policy_key[0])
        snprintf(member, sizeof member, ",\"platform_key\":\"%s\"", machine->policy_key ? machine->policy_key : key);
    if (!machine->policy_names_no_program)
        snprintf(program, sizeof program, ",\"measurement\":\"%s\"", measurement);
    snprintf(policy, 1024, "{\"type\":\"cca\",\"report_data\":\"%s\"%s%s%s}", report_data, program, member,
             machine->policy_more ? machine->policy_more : "");
}

/* The names of the checks that fail. */
static const char *judge_machine(const struct machine *machine)
{
    struct buffer token = {0}, key = {0};
    uint8_t sha256[32];
    char policy[1024];
    write_token(&token, machine);
    write_platform_key(&key, sha256);
    test_roots_forget();
    if (machine->platform_key_is_pinned)
        test_root_add("arm", sha256);
    if (machine->key_behind)
        buffer_append_byte(&key, 0);
    write_policy(machine, sha256, policy);
    const char *failures = failures_of(&token, machine->has_no_platform_key ? NULL : &key, policy);
    buffer_free(&token);
    buffer_free(&key);
    return failures;
}

static void of_before_1_0(struct machine *machine)
{
    machine->platform_profile = "http://arm.com/CCA-SSD/1.0.0";
    machine->realm_profile = NULL;
    machine->key_form = KEY_POINT;
}

static void sha_512(struct machine *machine)
{
    machine->realm_hash = machine->key_hash = "sha-512";
    machine->initial = machine->extensible_length = machine->extensible_others = 64;
}

static void on(struct machine *machine, const char *curve, int64_t curve_id, int64_t algorithm)
{
    machine->realm_curve = curve;
    machine->realm_curve_id = curve_id;
    machine->realm.algorithm = algorithm;
}

/* What the policy says of a token whose parts could not be read. */
#define NOTHING_SAID " policy.report_data policy.measurement policy.platform_key"

/* What is changed, and the checks that see it: without the one that is named alone the evidence would be accepted. */
#define CHANGES(X)                                                                                                    \
    X(nothing, "", (void)m)                                                                                           \
    X(platform_of_before_1_0, "", of_before_1_0(m))                                                                   \
    X(realm_key_on_p256, "", on(m, "P-256", 1, -7))                                                                   \
    X(realm_key_on_p521, "", on(m, "P-521", 3, -36))                                                                  \
    X(bare_point_on_p521, "", (of_before_1_0(m), on(m, "P-521", 3, -36)))                                             \
    X(key_hashed_by_sha_512, "", m->key_hash = "sha-512")                                                             \
    X(realm_of_sha_512, "policy.measurement", sha_512(m))                                                             \
    X(key_in_unprotected, "", (m->platform.unprotected = 1, m->platform.unprotected_label = 4))                       \
    X(no_tag, "cca.token" NOTHING_SAID, m->tag = 0)                                                                   \
    X(tag_908, "cca.token" NOTHING_SAID, m->tag = 908)                                                                \
    X(one_token, "cca.token" NOTHING_SAID, m->entries = 1)                                                            \
    X(three_entries, "cca.token" NOTHING_SAID, m->entries = 3)                                                        \
    X(bytes_behind, "cca.token" NOTHING_SAID, m->behind = 1)                                                          \
    X(platform_by_another_label, "cca.platform.token" NOTHING_SAID, m->platform_label = 44233)                        \
    X(platform_a_text, "cca.platform.token" NOTHING_SAID, m->platform_is_text = 1)                                    \
    X(platform_untagged, "cca.platform.token" NOTHING_SAID, m->platform.is_tagged = 0)                                \
    X(realm_untagged, "cca.realm.token" NOTHING_SAID, m->realm.is_tagged = 0)                                         \
    X(platform_of_another_algorithm, "cca.platform.token" NOTHING_SAID, m->platform.header = "a10127")                \
    X(platform_claims_a_list, "cca.platform.token" NOTHING_SAID, m->platform_payload = "80")                          \
    X(platform_claims_with_a_key_twice, "cca.platform.token" NOTHING_SAID, m->platform_payload = "a20a010a02")        \
    X(realm_claims_empty, "cca.realm.token" NOTHING_SAID, m->realm_payload = "")                                      \
    X(platform_key_missing, "cca.platform.key policy.platform_key", m->has_no_platform_key = 1)                       \
    X(platform_key_with_more_behind, "cca.platform.key policy.platform_key", m->key_behind = 1)                       \
    X(platform_key_not_named, "policy.platform_key", m->policy_key = "")                                              \
    X(platform_key_of_another, "policy.platform_key", m->policy_key = "00")                                           \
    X(platform_key_pinned, "", (m->policy_key = "", m->platform_key_is_pinned = 1))                                   \
    X(platform_key_pinned_but_another_named, "policy.platform_key",                                                   \
      (m->policy_key = "00", m->platform_key_is_pinned = 1))                                                          \
    X(platform_signed_by_another, "cca.platform.signature", m->signs_with_other_key = 1)                              \
    X(platform_profile_missing, "cca.platform.profile", m->platform_profile = NULL)                                   \
    X(platform_profile_unknown, "cca.platform.profile", m->platform_profile = "tag:arm.com,2024:cca_platform#2.0.0")  \
    X(realm_profile_unknown, "cca.realm.profile", m->realm_profile = "tag:arm.com,2024:realm#2.0.0")                  \
    X(realm_older_than_its_platform, "",                                                                              \
      (of_before_1_0(m), m->platform_profile = new_machine().platform_profile))                                       \
    X(realm_newer_than_its_platform, "", (m->platform_profile = "http://arm.com/CCA-SSD/1.0.0"))                      \
    X(realm_of_no_profile_with_a_map, "cca.realm.key cca.realm.signature", m->realm_profile = NULL)                   \
    X(wrapped, "", (m->tag = 907, m->content_format = 263))                                                           \
    X(wrapped_but_bare, "cca.platform.token cca.realm.token" NOTHING_SAID, m->tag = 907)                              \
    X(bare_but_wrapped, "cca.platform.token cca.realm.token" NOTHING_SAID, m->content_format = 263)                   \
    X(wrapped_as_something_else, "cca.platform.token cca.realm.token" NOTHING_SAID,                                   \
      (m->tag = 907, m->content_format = 262))                                                                        \
    X(realm_key_missing, "cca.realm.key", m->key_form = KEY_NONE)                                                     \
    X(realm_key_text, "cca.realm.key", m->key_form = KEY_TEXT)                                                        \
    X(realm_key_a_point, "cca.realm.key cca.realm.signature", m->key_form = KEY_POINT)                                \
    X(realm_key_for_es512, "cca.realm.key cca.realm.signature", m->key_form = KEY_COSE_OF_ES512)                      \
    X(realm_key_on_another_curve, "cca.realm.key cca.realm.signature", on(m, "P-256", 1, -35))                        \
    X(bare_point_compressed, "cca.realm.key cca.realm.signature",                                                     \
      (of_before_1_0(m), m->key_form = KEY_POINT_COMPRESSED))                                                         \
    X(bare_point_short, "cca.realm.key cca.realm.signature", (of_before_1_0(m), m->key_form = KEY_POINT_SHORT))       \
    X(bare_point_in_cose, "cca.realm.key cca.realm.signature", (of_before_1_0(m), m->key_form = KEY_COSE))            \
    X(realm_signed_by_another, "cca.realm.signature", m->realm_signs_with_other_key = 1)                              \
    X(realm_key_of_another, "cca.realm.signature", m->key_form = KEY_OF_ANOTHER)                                      \
    X(realm_of_another_platform, "cca.binding", m->challenge = 32)                                                    \
    X(challenge_missing, "cca.binding", m->challenge = ABSENT)                                                        \
    X(challenge_text, "cca.binding", m->challenge = TEXT)                                                             \
    X(key_hash_missing, "cca.realm.key_hash cca.binding", m->key_hash = NULL)                                         \
    X(key_hash_unknown, "cca.realm.key_hash cca.binding", m->key_hash = "md5")                                        \
    X(key_hash_of_another, "cca.binding", m->key_hash = "sha-384")                                                    \
    X(implementation_id_missing, "cca.platform.implementation_id", m->implementation_id = ABSENT)                     \
    X(implementation_id_short, "cca.platform.implementation_id", m->implementation_id = 31)                           \
    X(implementation_id_long, "cca.platform.implementation_id", m->implementation_id = 33)                            \
    X(implementation_id_text, "cca.platform.implementation_id", m->implementation_id = TEXT)                          \
    X(instance_id_missing, "cca.platform.instance_id", m->instance_id = ABSENT)                                       \
    X(instance_id_short, "cca.platform.instance_id", m->instance_id = 32)                                             \
    X(instance_id_of_another_kind, "cca.platform.instance_id.kind", m->instance_kind = 2)                             \
    X(config_missing, "cca.platform.config", m->config = ABSENT)                                                      \
    X(config_text, "cca.platform.config", m->config = TEXT)                                                           \
    X(config_empty, "", m->config = 0)                                                                                \
    X(lifecycle_missing, "cca.platform.lifecycle", m->lifecycle = ABSENT)                                             \
    X(lifecycle_text, "cca.platform.lifecycle", m->lifecycle = TEXT)                                                  \
    X(lifecycle_first_secured, "", m->lifecycle = 0x3000)                                                             \
    X(lifecycle_last_secured, "", m->lifecycle = 0x30ff)                                                              \
    X(lifecycle_before_secured, "cca.platform.lifecycle", m->lifecycle = 0x2fff)                                      \
    X(lifecycle_behind_secured, "cca.platform.lifecycle", m->lifecycle = 0x3100)                                      \
    X(lifecycle_too_long, "cca.platform.lifecycle", m->lifecycle = 0x13000)                                           \
    X(lifecycle_realm_debug, "cca.platform.lifecycle policy.allow_debug", m->lifecycle = 0x4000)                      \
    X(lifecycle_root_debug, "cca.platform.lifecycle policy.allow_debug", m->lifecycle = 0x5001)                       \
    X(lifecycle_decommissioned, "cca.platform.lifecycle", m->lifecycle = 0x6000)                                      \
    X(debugging_allowed, "cca.platform.lifecycle", (m->lifecycle = 0x4000, m->policy_more = ",\"allow_debug\":true")) \
    X(platform_hash_missing, "cca.platform.hash_algorithm", m->platform_hash = NULL)                                  \
    X(platform_hash_unknown, "cca.platform.hash_algorithm", m->platform_hash = "sha-1")                               \
    X(components_missing, "cca.platform.sw_components", m->components = ABSENT)                                       \
    X(components_text, "cca.platform.sw_components", m->components = TEXT)                                            \
    X(components_none, "cca.platform.sw_components", m->components = 0)                                               \
    X(components_24, "", m->components = 24)                                                                          \
    X(components_25, "cca.platform.sw_components", m->components = 25)                                                \
    X(component_text, "cca.platform.sw_components", m->component_is_text = 1)                                         \
    X(component_without_measurement, "cca.platform.sw_components", m->component_measurement = ABSENT)                 \
    X(component_of_another_length, "cca.platform.sw_components", m->component_measurement = 33)                       \
    X(component_without_signer, "cca.platform.sw_components", m->component_signer = ABSENT)                           \
    X(component_signer_text, "cca.platform.sw_components", m->component_signer = TEXT)                                \
    X(components_named, "", m->policy_more = ",\"sw_components\":3,\"sw_component\":{\"2\":\"" SAID_32("52") "\"}")   \
    X(components_of_another_number, "policy.sw_components", m->policy_more = ",\"sw_components\":2")                  \
    X(component_of_another, "policy.sw_component",                                                                    \
      m->policy_more = ",\"sw_component\":{\"2\":\"" SAID_32("53") "\"}")                                             \
    X(signer_named, "", m->policy_more = ",\"sw_signer\":{\"2\":\"" SAID_32("72") "\"}")                              \
    X(signer_of_another, "policy.sw_signer", m->policy_more = ",\"sw_signer\":{\"2\":\"" SAID_32("52") "\"}")         \
    X(report_data_missing, "cca.realm.challenge policy.report_data", m->report_data = ABSENT)                         \
    X(report_data_short, "cca.realm.challenge policy.report_data", m->report_data = 63)                               \
    X(report_data_long, "cca.realm.challenge policy.report_data", m->report_data = 65)                                \
    X(report_data_short_and_named_so, "cca.realm.challenge policy.report_data",                                       \
      (m->report_data = 63, m->policy_data = 63))                                                                     \
    X(personalization_missing, "cca.realm.personalization_value", m->personalization = ABSENT)                        \
    X(personalization_short, "cca.realm.personalization_value", m->personalization = 32)                              \
    X(personalization_named, "", m->policy_more = ",\"personalization_value\":\"" SAID_32("66") SAID_32("66") "\"")   \
    X(personalization_of_another, "policy.personalization_value",                                                     \
      m->policy_more = ",\"personalization_value\":\"66\"")                                                           \
    X(implementation_named, "", m->policy_more = ",\"implementation_id\":\"" SAID_32("11") "\"")                      \
    X(implementation_of_another, "policy.implementation_id", m->policy_more = ",\"implementation_id\":\"11\"")        \
    X(instance_of_another, "policy.instance_id", m->policy_more = ",\"instance_id\":\"01\"")                          \
    X(config_named, "", m->policy_more = ",\"platform_config\":\"cfcfcfcf\"")                                         \
    X(config_of_another, "policy.platform_config", m->policy_more = ",\"platform_config\":\"cfcfcfce\"")              \
    X(hash_missing, "cca.realm.hash_algorithm", m->realm_hash = NULL)                                                 \
    X(hash_unknown, "cca.realm.hash_algorithm", m->realm_hash = "sha3-256")                                           \
    X(hash_of_another_length, "cca.realm.initial_measurement cca.realm.extensible_measurements policy.measurement",   \
      m->realm_hash = "sha-512")                                                                                      \
    X(initial_missing, "cca.realm.initial_measurement policy.measurement", m->initial = ABSENT)                       \
    X(initial_short, "cca.realm.initial_measurement policy.measurement", m->initial = 31)                             \
    X(initial_of_another_hash, "cca.realm.initial_measurement policy.measurement", m->initial = 48)                   \
    X(initial_text_and_not_named, "cca.realm.initial_measurement",                                                    \
      (m->initial = TEXT, m->policy_names_no_program = 1))                                                            \
    X(initial_missing_and_not_named, "cca.realm.initial_measurement",                                                 \
      (m->initial = ABSENT, m->policy_names_no_program = 1))                                                          \
    X(extensible_missing, "cca.realm.extensible_measurements", m->extensible = ABSENT)                                \
    X(extensible_text, "cca.realm.extensible_measurements", m->extensible = TEXT)                                     \
    X(extensible_3, "cca.realm.extensible_measurements", m->extensible = 3)                                           \
    X(extensible_5, "cca.realm.extensible_measurements", m->extensible = 5)                                           \
    X(extensible_of_another_hash, "cca.realm.extensible_measurements", m->extensible_length = 48)                     \
    X(extensible_one_text, "cca.realm.extensible_measurements", m->extensible_length = TEXT)                          \
    X(extensible_named, "", m->policy_more = ",\"rem\":{\"3\":\"" SAID_32("43") "\"}")                                \
    X(extensible_of_another, "policy.rem", m->policy_more = ",\"rem\":{\"0\":\"" SAID_32("43") "\"}")

#define SAID_8(hex) hex hex hex hex hex hex hex hex
#define SAID_32(hex) SAID_8(hex) SAID_8(hex) SAID_8(hex) SAID_8(hex)

#define CHANGED struct machine
#define NEW_CHANGED new_machine()
#define JUDGE_CHANGED(m) judge_machine(m)
#include "changes.h"

/* Every byte of the token and of the platform's key, each bit in full counts. */
static void every_byte_counts(void **state)
{
    struct machine machine = new_machine();
    struct buffer token = {0}, key = {0};
    uint8_t sha256[32];
    char policy[1024];
    size_t flipped = 0;
    write_token(&token, &machine);
    write_platform_key(&key, sha256);
    write_policy(&machine, sha256, policy);
    assert_string_equal(failures_of(&token, &key, policy), "");
    struct buffer *const parts[] = {&token, &key};
    for (int i = 0; i < 2; i++)
        for (size_t at = 0; at < parts[i]->length; at++)
            for (int bit = (int)test_count(at % 8, 0); bit < (int)test_count(at % 8 + 1, 8); bit++, flipped++) {
                parts[i]->data[at] ^= (uint8_t)(1 << bit);
                if (failures_of(&token, &key, policy)[0] == 0)
                    fail_msg("part %d, byte %zu, bit %d: accepted", i, at, bit);
                parts[i]->data[at] ^= (uint8_t)(1 << bit);
            }
    for (size_t cut = 1; cut < token.length; cut += 7) {
        struct buffer shorter = token;
        shorter.length -= cut;
        assert_string_not_equal(failures_of(&shorter, &key, policy), "");
    }
    buffer_free(&token);
    buffer_free(&key);
    print_message("%zu bits flipped, none accepted\n", flipped);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_change_is_seen_by_its_check),
        cmocka_unit_test(every_byte_counts),
    };
    return cmocka_run_group_tests(tests, make_keys, free_keys);
}
