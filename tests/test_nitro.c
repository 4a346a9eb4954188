/* AWS Nitro Enclaves: a real document verifies at its time, and nothing that was changed does. */
#include "test.h"

#include "authority.h"
#include "base/hash.h"
#include "base/memory.h"
#include "cose_writer.h"
#include "evidence_document.h"
#include "trust/receipt.h"
#include "trust_roots.h"

/* ---- The real document ---- */

static const char vector_asked[] = "2024-12-13T07:38:00Z"; /* it was made a second before */
static const char vector_policy[] =
    "{\"type\":\"nitro\",\"max_age\":\"10s\",\"module_id\":\"i-0f1cd77d37fd8bcc9-enc018e7aa61e2040ff\","
    "\"public_key\":\"%s\",\"pcr\":{\"0\":\"%s\",\"3\":\"%s\"},\"measurement\":\"%s\",\"signer_info\":\"%s\"}";
static const char vector_pcr0[] = "189038eccf28a3a098949e402f3b3d86a876f4915c5b02d546abb5d8c507ceb1"
                                  "755b8192d8cfca66e8f226160ca4c7a6";
/* SHA-256 of the public key in it: no user data is. */
static const char vector_key[] = "e646f8b0071d5ba75931402522cc6a5c42a84a6fea238864e5ac9a0e12d83bd3"
                                 "6d0c8109d3ca2b699fce8d082bf313f5d2ae249bb275b6b6e91e0fcd9262f4bb";

static void write_policy(char policy[1024])
{
    uint8_t key[64], digest[HASH_SHA256_BYTES];
    char hex[65], zeros[97] = "";
    bulla_error error = {0};
    assert_true(hex_decode(vector_key, 128, key, sizeof key));
    assert_ok(hash_sha256(key, sizeof key, digest, &error), error);
    hex_encode(digest, sizeof digest, hex);
    memset(zeros, '0', sizeof zeros - 1);
    snprintf(policy, 1024, vector_policy, hex, vector_pcr0, zeros, vector_pcr0, zeros);
}

static bulla_verdict *judge(const uint8_t *bytes, size_t length, const char *policy, int64_t time)
{
    struct buffer document = {0};
    evidence_begin(&document, "nitro");
    evidence_add_bytes(&document, "document", bytes, length);
    buffer_append_byte(&document, '}');
    bulla_verdict *verdict = evidence_judge(&document, policy, time);
    buffer_free(&document);
    return verdict;
}

static const char *failures_of(const uint8_t *bytes, size_t length, const char *policy, int64_t time)
{
    bulla_verdict *verdict = judge(bytes, length, policy, time);
    const char *failures = evidence_failures(verdict);
    assert_int_equal(bulla_verdict_passed(verdict), failures[0] == 0);
    bulla_verdict_free(verdict);
    return failures;
}

static void the_real_document_verifies(void **state)
{
    if (!evidence_folder("nitro"))
        skip();
    size_t length;
    char policy[1024];
    uint8_t *untagged = evidence_file(evidence_folder("nitro"), "document.cose", &length);
    uint8_t *tagged = memory_alloc(length + 1, 1, NULL);
    tagged[0] = 0xd2;
    memcpy(tagged + 1, untagged, length);
    write_policy(policy);
    assert_string_equal(failures_of(untagged, length, policy, evidence_time(vector_asked)), "");
    assert_string_equal(failures_of(tagged, length + 1, policy, evidence_time(vector_asked)), "");
    /* Years later its chain is as good, and it is as old as it is; before it was made it is not. */
    assert_string_equal(failures_of(untagged, length, policy, evidence_time("2031-01-01")), "policy.max_age");
    assert_string_equal(failures_of(untagged, length, policy, evidence_time("2024-12-13T07:37:57Z")),
                        "nitro.timestamp policy.max_age");
    memory_free(untagged);
    memory_free(tagged);
}

/* Every byte of it, each bit of it in full counts. */
static void every_byte_counts(void **state)
{
    if (!evidence_folder("nitro"))
        skip();
    size_t length, flipped = 0;
    char policy[1024];
    uint8_t *bytes = evidence_file(evidence_folder("nitro"), "document.cose", &length);
    write_policy(policy);
    for (size_t at = 0; at < length; at += test_count(7, 1))
        for (int bit = (int)test_count(at % 8, 0); bit < (int)test_count(at % 8 + 1, 8); bit++, flipped++) {
            bytes[at] ^= (uint8_t)(1 << bit);
            if (failures_of(bytes, length, policy, evidence_time(vector_asked))[0] == 0)
                fail_msg("byte %zu, bit %d: accepted", at, bit);
            bytes[at] ^= (uint8_t)(1 << bit);
        }
    for (size_t cut = 0; cut < length; cut += 7)
        assert_string_not_equal(failures_of(bytes, cut, policy, evidence_time(vector_asked)), "");
    memory_free(bytes);
    print_message("%zu bits flipped, none accepted\n", flipped);
}

/* ---- Documents of a hierarchy of our own: every field changed and signed again ---- */

enum { ABSENT = -1, NULLED = -2, TEXT = -3, MOST_INDEX = 40 };
enum { ORDER_RIGHT, ORDER_LEAF_FIRST, ORDER_SWAPPED, ORDER_TRUNCATED, ORDER_NO_ROOT, ORDER_EXTENDED, ORDER_DOUBLED,
       ORDER_ALONE, ORDER_MANY, ORDER_EMPTY, ORDER_TEXT, ORDER_PEM };

/* What an enclave of ours says; a case changes one thing of it. */
struct enclave {
    int pcr_length[MOST_INDEX];  /* 0: not there; TEXT: a text */
    uint8_t pcr[MOST_INDEX];     /* the byte that fills it */
    int has_text_index, pcrs;    /* pcrs: 0, or ABSENT or TEXT */
    const char *module_id, *digest; /* NULL: not there */
    int module_length;           /* 0: of the text, or TEXT for bytes in its place */
    int64_t timestamp;           /* in milliseconds; ABSENT or TEXT */
    int public_key, user_data, nonce; /* lengths, ABSENT, NULLED or TEXT */
    int certificate;             /* 0, ABSENT, TEXT; else bytes of zeros */
    int order;                   /* of the bundle */
    int padding;                 /* bytes of a field that nobody knows */
    struct cose_writing writing;
    const char *payload;         /* hex, in place of it all */
    int behind;                  /* bytes behind the document */
    const char *leaf_curve;
    const uint8_t *leaf_usage;   /* in DER; NULL: none */
    size_t leaf_usage_length;
    int leaf_is_authority, middle_is_none, is_root_pinned, leaf_issuer_is_wrong, signs_with_other_key, leaf_padding;
    int64_t leaf_from, leaf_until, middle_until, root_until;
    int64_t asked_at;
    int policy_names_key;        /* the public key in place of the report data */
    const char *policy_more;
};

static EVP_PKEY *root_key, *middle_key, *instance_key, *leaf_key, *other_key, *small_key;
static const uint8_t digital_signature[] = {3, 2, 7, 0x80}, key_agreement[] = {3, 2, 3, 8};
static int64_t made_at;

static int make_keys(void **state)
{
    EVP_PKEY **const keys[] = {&root_key, &middle_key, &instance_key, &leaf_key, &other_key};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        *keys[i] = authority_key("P-384");
    small_key = authority_key("P-256");
    made_at = evidence_time("2026-01-01T12:00:00Z");
    return 0;
}

static int free_keys(void **state)
{
    EVP_PKEY *const keys[] = {root_key, middle_key, instance_key, leaf_key, other_key, small_key};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        EVP_PKEY_free(keys[i]);
    return 0;
}

static struct enclave new_enclave(void)
{
    struct enclave enclave = {.module_id = "i-0123-enc4567", .digest = "SHA384", .timestamp = made_at * 1000 + 999,
                              .public_key = NULLED, .user_data = 64, .nonce = NULLED, .leaf_curve = "P-384",
                              .leaf_usage = digital_signature, .leaf_usage_length = sizeof digital_signature,
                              .is_root_pinned = 1, .asked_at = made_at + 60, .leaf_from = made_at - 60,
                              .leaf_until = made_at + 3 * 3600,
                              .writing = {.algorithm = -35}};
    for (int i = 0; i < 16; i++) {
        enclave.pcr_length[i] = 48;
        enclave.pcr[i] = i < 3 || i == 4 || i == 8 ? (uint8_t)(0xa0 + i) : 0;
    }
    return enclave;
}

static void write_optional(struct buffer *out, size_t *pairs, const char *name, int length, int fill)
{
    uint8_t bytes[20000];
    if (length == ABSENT)
        return;
    ++*pairs;
    cbor_write_text(out, name);
    if (length == NULLED) {
        cbor_write_null(out);
    } else if (length == TEXT) {
        cbor_write_text(out, "text");
    } else {
        memset(bytes, fill, sizeof bytes);
        cbor_write_bytes(out, bytes, (size_t)length);
    }
}

static void write_pcrs(struct buffer *out, size_t *pairs, const struct enclave *enclave)
{
    struct buffer map = {0};
    size_t count = enclave->has_text_index != 0;
    if (enclave->pcrs) {
        write_optional(out, pairs, "pcrs", enclave->pcrs, 0);
        return;
    }
    for (int i = 0; i < MOST_INDEX; i++) {
        uint8_t value[255];
        if (!enclave->pcr_length[i])
            continue;
        count++;
        cbor_write_integer(&map, i);
        memset(value, enclave->pcr[i], sizeof value);
        if (enclave->pcr_length[i] == TEXT)
            cbor_write_text(&map, "0123456789abcdef0123456789abcdef0123456789abcdef");
        else
            cbor_write_bytes(&map, value, (size_t)enclave->pcr_length[i]);
    }
    if (enclave->has_text_index) {
        cbor_write_text(&map, "16");
        cbor_write_bytes(&map, "0123456789abcdef0123456789abcdef0123456789abcdef", 48);
    }
    ++*pairs;
    cbor_write_text(out, "pcrs");
    cbor_write_map(out, count);
    buffer_append(out, map.data, map.length);
    buffer_free(&map);
}

/* Certificates of the chain, root first, the leaf last. */
struct hierarchy {
    X509 *root, *middle, *instance, *leaf;
};

static void write_certificate(struct buffer *out, X509 *certificate, int as_pem)
{
    struct buffer der = {0};
    if (as_pem)
        authority_write_pem(&der, certificate);
    else
        authority_write_der(&der, certificate);
    cbor_write_bytes(out, der.data, der.length);
    buffer_free(&der);
}

static void write_chain(struct buffer *out, size_t *pairs, const struct enclave *enclave, const struct hierarchy *all)
{
    X509 *root = all->root, *middle = all->middle, *instance = all->instance, *leaf = all->leaf;
    const struct {
        X509 *list[8];
        size_t count;
    } orders[] = {[ORDER_RIGHT] = {{root, middle, instance}, 3}, [ORDER_PEM] = {{root, middle, instance}, 3},
                  [ORDER_LEAF_FIRST] = {{instance, middle, root}, 3}, [ORDER_SWAPPED] = {{root, instance, middle}, 3},
                  [ORDER_TRUNCATED] = {{root, instance}, 2}, [ORDER_NO_ROOT] = {{middle, instance}, 2},
                  [ORDER_EXTENDED] = {{root, middle, instance, leaf}, 4},
                  [ORDER_DOUBLED] = {{root, root, middle, instance}, 4},
                  [ORDER_ALONE] = {{root}, 1}, [ORDER_EMPTY] = {{0}, 0}, [ORDER_TEXT] = {{0}, 0},
                  [ORDER_MANY] = {{root, root, root, root, root, root, middle, instance}, 8}};
    if (enclave->certificate) {
        write_optional(out, pairs, "certificate", enclave->certificate, 0);
    } else {
        ++*pairs;
        cbor_write_text(out, "certificate");
        write_certificate(out, leaf, 0);
    }
    ++*pairs;
    cbor_write_text(out, "cabundle");
    if (enclave->order == ORDER_TEXT) {
        cbor_write_text(out, "none");
        return;
    }
    cbor_write_list(out, orders[enclave->order].count);
    for (size_t i = 0; i < orders[enclave->order].count; i++)
        write_certificate(out, orders[enclave->order].list[i], enclave->order == ORDER_PEM);
}

static void write_payload(struct buffer *out, const struct enclave *enclave, const struct hierarchy *all)
{
    struct buffer fields = {0};
    size_t pairs = 0;
    uint8_t given[64];
    if (enclave->payload) {
        assert_true(hex_decode(enclave->payload, strlen(enclave->payload), given, strlen(enclave->payload) / 2));
        buffer_append(out, given, strlen(enclave->payload) / 2);
        return;
    }
    if (enclave->module_id && ++pairs) {
        cbor_write_text(&fields, "module_id");
        if (enclave->module_length == TEXT)
            cbor_write_bytes(&fields, enclave->module_id, strlen(enclave->module_id));
        else if (enclave->module_length)
            buffer_append(&fields, "\x63" "a\0b", 4);
        else
            cbor_write_text(&fields, enclave->module_id);
    }
    if (enclave->digest && ++pairs) {
        cbor_write_text(&fields, "digest");
        cbor_write_text(&fields, enclave->digest);
    }
    if (enclave->timestamp < 0) {
        write_optional(&fields, &pairs, "timestamp", (int)enclave->timestamp, 0);
    } else {
        ++pairs;
        cbor_write_text(&fields, "timestamp");
        cbor_write_integer(&fields, enclave->timestamp);
    }
    write_pcrs(&fields, &pairs, enclave);
    write_chain(&fields, &pairs, enclave, all);
    write_optional(&fields, &pairs, "public_key", enclave->public_key, 0x77);
    write_optional(&fields, &pairs, "user_data", enclave->user_data, 0xd1);
    write_optional(&fields, &pairs, "nonce", enclave->nonce, 0x33);
    if (enclave->padding)
        write_optional(&fields, &pairs, "padding", enclave->padding, 0);
    cbor_write_map(out, pairs);
    buffer_append(out, fields.data, fields.length);
    buffer_free(&fields);
}

static struct hierarchy make_hierarchy(const struct enclave *enclave)
{
    struct hierarchy all;
    static const uint8_t zeros[700];
    const struct authority_extension extensions[] = {
        {"2.5.29.15", enclave->leaf_usage, enclave->leaf_usage_length, 0},
        {"1.3.6.1.4.1.99999.1", zeros, (size_t)enclave->leaf_padding, 0}};
    int begins = enclave->leaf_usage == NULL, count = (enclave->leaf_padding ? 2 : 1) - begins;
    all.root = authority_issue(&(struct authority_certificate){
        .name = "aws.nitro-enclaves", .key = root_key, .is_authority = 1, .until = enclave->root_until});
    all.middle = authority_issue(&(struct authority_certificate){
        .name = "zonal.aws.nitro-enclaves", .key = middle_key, .issuer = all.root, .issuer_key = root_key,
        .is_authority = !enclave->middle_is_none, .until = enclave->middle_until});
    all.instance = authority_issue(&(struct authority_certificate){
        .name = "i-0123.aws.nitro-enclaves", .key = instance_key, .issuer = all.middle, .issuer_key = middle_key,
        .is_authority = 1});
    all.leaf = authority_issue(&(struct authority_certificate){
        .name = "i-0123-enc4567.aws", .key = strcmp(enclave->leaf_curve, "P-384") == 0 ? leaf_key : small_key,
        .issuer = all.instance, .issuer_key = enclave->leaf_issuer_is_wrong ? middle_key : instance_key,
        .is_authority = enclave->leaf_is_authority, .from = enclave->leaf_from, .until = enclave->leaf_until,
        .extensions = extensions + begins, .extension_count = enclave->leaf_is_authority ? 0 : (size_t)count});
    test_roots_forget();
    if (enclave->is_root_pinned)
        authority_trust("aws", all.root);
    return all;
}

static void write_enclave_policy(const struct enclave *enclave, char policy[1024])
{
    uint8_t bytes[64], digest[HASH_SHA256_BYTES];
    char value[129], measurement[97];
    bulla_error error = {0};
    memset(bytes, enclave->policy_names_key ? 0x77 : 0xd1, sizeof bytes);
    hex_encode(bytes, sizeof bytes, value);
    if (enclave->policy_names_key) {
        assert_ok(hash_sha256(bytes, 64, digest, &error), error);
        hex_encode(digest, sizeof digest, value);
    }
    memset(bytes, 0xa1, sizeof bytes);
    hex_encode(bytes, 48, measurement);
    snprintf(policy, 1024, "{\"type\":\"nitro\",\"%s\":\"%s\",\"pcr\":{\"1\":\"%s\"}%s}",
             enclave->policy_names_key ? "public_key" : "report_data", value, measurement,
             enclave->policy_more ? enclave->policy_more : "");
}

static void write_document(const struct enclave *enclave, struct buffer *document)
{
    struct buffer payload = {0};
    struct hierarchy all = make_hierarchy(enclave);
    struct cose_writing writing = enclave->writing;
    write_payload(&payload, enclave, &all);
    writing.payload = payload.data ? payload.data : (const uint8_t *)"";
    writing.payload_length = payload.length;
    writing.key = strcmp(enclave->leaf_curve, "P-384") == 0 ? leaf_key : small_key;
    if (enclave->signs_with_other_key)
        writing.key = other_key;
    cose_write_sign1(document, &writing);
    for (int i = 0; i < enclave->behind; i++)
        buffer_append_byte(document, 0);
    X509 *const list[] = {all.root, all.middle, all.instance, all.leaf};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        X509_free(list[i]);
    buffer_free(&payload);
}

/* The names of the checks that fail. */
static const char *judge_enclave(const struct enclave *enclave)
{
    struct buffer document = {0};
    char policy[1024];
    write_document(enclave, &document);
    write_enclave_policy(enclave, policy);
    const char *failures = failures_of(document.data, document.length, policy, enclave->asked_at);
    buffer_free(&document);
    return failures;
}

static void debug(struct enclave *enclave)
{
    memset(enclave->pcr, 0, 3);
    enclave->policy_more = ",\"allow_debug\":true";
}

static void key_only(struct enclave *enclave)
{
    enclave->policy_names_key = 1;
    enclave->public_key = 64;
    enclave->user_data = NULLED;
}

#define NO_PCR(index) m->pcr_length[index] = 0
/* What the policy says of a document that could not be read. */
#define NOTHING_SAID " policy.report_data policy.pcr"
#define UNREAD "nitro.document" NOTHING_SAID

/* What is changed, and the checks that see it: without the one that is named alone the evidence would be accepted. */
#define CHANGES(X)                                                                                                    \
    X(nothing, "", (void)m)                                                                                           \
    X(tagged, "", m->writing.is_tagged = 1)                                                                           \
    X(key_in_place_of_data, "", key_only(m))                                                                          \
    X(key_left_out, "", (key_only(m), m->user_data = ABSENT, m->nonce = ABSENT))                                      \
    X(unknown_field, "", m->padding = 100)                                                                            \
    X(too_long, UNREAD, m->padding = 16384)                                                                           \
    X(bytes_behind, UNREAD, m->behind = 1)                                                                            \
    X(algorithm_in_unprotected_too, UNREAD, (m->writing.unprotected = 1, m->writing.unprotected_label = 1))           \
    X(algorithm_unknown, UNREAD, m->writing.header = "a10127")                                                        \
    X(algorithm_es256, "nitro.algorithm", (m->leaf_curve = "P-256", m->writing.algorithm = -7))                       \
    X(algorithm_of_another_curve, "nitro.signature", m->leaf_curve = "P-256")                                         \
    X(unprotected_parameter, "nitro.unprotected", (m->writing.unprotected = 1, m->writing.unprotected_label = 4))     \
    X(payload_a_list, "nitro.payload" NOTHING_SAID, m->payload = "80")                                                \
    X(payload_empty, "nitro.payload" NOTHING_SAID, m->payload = "")                                                   \
    X(payload_with_a_key_twice, "nitro.payload" NOTHING_SAID, m->payload = "a2616101616102")                          \
    X(module_id_missing, "nitro.module_id", m->module_id = NULL)                                                      \
    X(module_id_empty, "nitro.module_id", m->module_id = "")                                                          \
    X(module_id_bytes, "nitro.module_id", m->module_length = TEXT)                                                    \
    X(module_id_with_nul, "nitro.module_id", m->module_length = 1)                                                    \
    X(module_id_named, "", m->policy_more = ",\"module_id\":\"i-0123-enc4567\"")                                      \
    X(module_id_of_another, "policy.module_id", m->policy_more = ",\"module_id\":\"i-0124-enc4567\"")                 \
    X(digest_missing, "nitro.digest", m->digest = NULL)                                                               \
    X(digest_sha512, "nitro.digest", m->digest = "SHA512")                                                            \
    X(digest_longer, "nitro.digest", m->digest = "SHA384 ")                                                           \
    X(timestamp_missing, "nitro.timestamp nitro.chain", m->timestamp = ABSENT)                                        \
    X(timestamp_text, "nitro.timestamp nitro.chain", m->timestamp = TEXT)                                             \
    X(timestamp_zero, "nitro.timestamp nitro.chain", m->timestamp = 0)                                                \
    X(asked_at_that_second, "", m->asked_at = made_at)                                                                \
    X(made_later_than_asked, "nitro.timestamp", m->asked_at = made_at - 1)                                            \
    X(young_enough, "", (m->policy_more = ",\"max_age\":\"60s\"", m->asked_at = made_at + 60))                        \
    X(too_old, "policy.max_age", (m->policy_more = ",\"max_age\":\"60s\"", m->asked_at = made_at + 61))               \
    X(pcrs_missing, "nitro.pcrs nitro.pcrs.locked nitro.pcrs.measured policy.pcr policy.allow_debug", m->pcrs = ABSENT)\
    X(pcrs_text, "nitro.pcrs nitro.pcrs.locked nitro.pcrs.measured policy.pcr policy.allow_debug", m->pcrs = TEXT)    \
    X(pcr_31, "", m->pcr_length[31] = 48)                                                                             \
    X(pcr_32, "nitro.pcrs", m->pcr_length[32] = 48)                                                                   \
    X(pcr_named_by_a_text, "nitro.pcrs", m->has_text_index = 1)                                                       \
    X(pcr_a_text, "nitro.pcrs", m->pcr_length[9] = TEXT)                                                              \
    X(pcr_of_32, "", m->pcr_length[2] = 32)                                                                           \
    X(pcr_of_64, "", m->pcr_length[2] = 64)                                                                           \
    X(pcr_of_47, "nitro.pcrs", m->pcr_length[2] = 47)                                                                 \
    X(pcr_of_65, "nitro.pcrs", m->pcr_length[9] = 65)                                                                 \
    X(pcr0_not_locked, "nitro.pcrs.locked nitro.pcrs.measured", NO_PCR(0))                                            \
    X(pcr3_not_locked, "nitro.pcrs.locked", NO_PCR(3))                                                                \
    X(pcr4_not_locked, "nitro.pcrs.locked", NO_PCR(4))                                                                \
    X(pcr8_not_locked, "nitro.pcrs.locked", NO_PCR(8))                                                                \
    X(pcr15_not_locked, "", NO_PCR(15))                                                                               \
    X(pcr0_of_zeros, "nitro.pcrs.measured", m->pcr[0] = 0)                                                            \
    X(pcr2_of_zeros, "nitro.pcrs.measured", m->pcr[2] = 0)                                                            \
    X(pcr1_of_zeros, "nitro.pcrs.measured policy.pcr", m->pcr[1] = 0)                                                 \
    X(pcr8_of_zeros, "", m->pcr[8] = 0)                                                                               \
    X(debugging, "nitro.pcrs.measured policy.pcr policy.allow_debug", (debug(m), m->policy_more = NULL))              \
    X(debugging_allowed, "nitro.pcrs.measured policy.pcr", debug(m))                                                  \
    X(another_program, "policy.pcr", m->pcr[1] = 0xa2)                                                                \
    X(measurement, "policy.measurement", m->policy_more = ",\"measurement\":\"a0\"")                                  \
    X(signer, "policy.signer_info", m->policy_more = ",\"signer_info\":\"a8\"")                                       \
    X(certificate_missing, "nitro.certificate", m->certificate = ABSENT)                                              \
    X(certificate_text, "nitro.certificate", m->certificate = TEXT)                                                   \
    X(certificate_of_zeros, "nitro.certificate", m->certificate = 500)                                                \
    X(certificate_too_long, "nitro.certificate", m->leaf_padding = 700)                                               \
    X(bundle_empty, "nitro.cabundle", m->order = ORDER_EMPTY)                                                         \
    X(bundle_text, "nitro.cabundle", m->order = ORDER_TEXT)                                                           \
    X(bundle_in_pem, "nitro.cabundle", m->order = ORDER_PEM)                                                          \
    X(bundle_of_many, "nitro.cabundle", m->order = ORDER_MANY)                                                        \
    X(chain_leaf_first, "nitro.chain nitro.root", m->order = ORDER_LEAF_FIRST)                                        \
    X(chain_swapped, "nitro.chain", m->order = ORDER_SWAPPED)                                                         \
    X(chain_truncated, "nitro.chain", m->order = ORDER_TRUNCATED)                                                     \
    X(chain_without_root, "nitro.chain nitro.root", m->order = ORDER_NO_ROOT)                                         \
    X(chain_of_two, "nitro.chain", m->order = ORDER_ALONE)                                                            \
    X(chain_extended, "nitro.chain", m->order = ORDER_EXTENDED)                                                       \
    X(chain_doubled, "nitro.chain", m->order = ORDER_DOUBLED)                                                         \
    X(another_root, "nitro.root", m->is_root_pinned = 0)                                                              \
    X(leaf_of_another_issuer, "nitro.chain", m->leaf_issuer_is_wrong = 1)                                             \
    X(middle_no_authority, "nitro.chain", m->middle_is_none = 1)                                                      \
    X(leaf_not_yet, "nitro.chain", m->leaf_from = made_at + 1)                                                        \
    X(leaf_expired, "nitro.chain", m->leaf_until = made_at - 1)                                                       \
    X(middle_expired, "nitro.chain", m->middle_until = made_at - 1)                                                   \
    X(root_expired, "nitro.chain", m->root_until = made_at - 1)                                                       \
    X(leaf_expired_since, "", (m->leaf_until = made_at + 1, m->asked_at = made_at + 86400 * 3650))                    \
    X(leaf_for_nothing, "nitro.certificate.usage", m->leaf_usage = NULL)                                              \
    X(leaf_for_key_agreement, "nitro.certificate.usage",                                                              \
      (m->leaf_usage = key_agreement, m->leaf_usage_length = sizeof key_agreement))                                   \
    X(leaf_an_authority, "nitro.certificate.usage", m->leaf_is_authority = 1)                                         \
    X(signed_by_another_key, "nitro.signature", m->signs_with_other_key = 1)                                          \
    X(public_key_of_none, "nitro.public_key", m->public_key = 0)                                                      \
    X(public_key_of_1024, "", m->public_key = 1024)                                                                   \
    X(public_key_of_1025, "nitro.public_key", m->public_key = 1025)                                                   \
    X(public_key_text, "nitro.public_key", m->public_key = TEXT)                                                      \
    X(public_key_of_another, "policy.public_key", (key_only(m), m->public_key = 65))                                  \
    X(public_key_not_there, "policy.public_key", (key_only(m), m->public_key = NULLED))                               \
    X(user_data_of_none, "", (key_only(m), m->user_data = 0))                                                         \
    X(user_data_of_512, "", (key_only(m), m->user_data = 512))                                                        \
    X(user_data_of_513, "nitro.user_data", (key_only(m), m->user_data = 513))                                         \
    X(user_data_text, "nitro.user_data", (key_only(m), m->user_data = TEXT))                                          \
    X(user_data_shorter, "policy.report_data", m->user_data = 63)                                                     \
    X(user_data_missing, "policy.report_data", m->user_data = ABSENT)                                                 \
    X(nonce_of_512, "", m->nonce = 512)                                                                               \
    X(nonce_of_513, "nitro.nonce", m->nonce = 513)                                                                    \
    X(nonce_text, "nitro.nonce", m->nonce = TEXT)

#define CHANGED struct enclave
#define NEW_CHANGED new_enclave()
#define JUDGE_CHANGED(m) judge_enclave(m)
#include "changes.h"

static void the_member_is_base64_of_a_document(void **state)
{
    static const char *const documents[] = {"{\"bulla_evidence\":1,\"type\":\"nitro\"}",
                                            "{\"bulla_evidence\":1,\"type\":\"nitro\",\"document\":7}",
                                            "{\"bulla_evidence\":1,\"type\":\"nitro\",\"document\":\"!\"}",
                                            "{\"bulla_evidence\":1,\"type\":\"nitro\",\"document\":\"\"}"};
    for (size_t i = 0; i < sizeof documents / sizeof *documents; i++) {
        struct buffer document = {0};
        buffer_append_text(&document, documents[i]);
        bulla_verdict *verdict = evidence_judge(&document, "{\"report_data\":\"00\"}", made_at);
        assert_string_equal(evidence_state(verdict, "nitro.document"), "fail");
        assert_false(bulla_verdict_passed(verdict));
        bulla_verdict_free(verdict);
        buffer_free(&document);
    }
}

/* How old a receipt's evidence was is a question of when it was signed, whenever it is judged. */
static void a_receipt_relied_on_it_when_it_was_signed(void **state)
{
    static const char policy[] = "{\"type\":\"nitro\",\"max_age\":\"60s\"}";
    const struct {
        int64_t signed_at, judged_at;
        const char *expected;
    } cases[] = {{made_at + 60, 0, "pass"}, {made_at + 61, 0, "fail"}, {made_at + 60, made_at + 86400 * 3650, "pass"},
                 {made_at + 61, made_at + 1, "fail"}, {made_at - 1, made_at + 1, "fail"}};
    EVP_PKEY *key = authority_key("Ed25519");
    struct enclave enclave = new_enclave();
    struct buffer document = {0}, evidence = {0};
    write_document(&enclave, &document);
    evidence_begin(&evidence, "nitro");
    evidence_add_bytes(&evidence, "document", document.data, document.length);
    buffer_append_byte(&evidence, '}');
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct receipt_choice choice = {.finish = "stop"};
        struct receipt receipt = {.time = cases[i].signed_at, .backend = "native", .program_version = 1, .parameters_text = "{}",
                                  .choices = &choice, .choice_count = 1, .retention = "none"};
        const bulla_receipt_options options = {.evidence = {.policy = policy, .policy_length = sizeof policy - 1,
                                                            .time = cases[i].judged_at},
                                               .evidence_document = (const char *)evidence.data,
                                               .evidence_length = evidence.length};
        struct buffer text = {0};
        size_t length = RECEIPT_KEY;
        bulla_verdict *verdict;
        bulla_error error = {0};
        assert_int_equal(EVP_PKEY_get_raw_public_key(key, receipt.key, &length), 1);
        buffer_append_text(&text, "{\"bulla_receipt\":1,\"signed\":");
        assert_ok(receipt_sign(&receipt, key, &text, &error), error);
        buffer_append_byte(&text, '}');
        assert_ok(bulla_verify_receipt((const char *)text.data, text.length, &options, &verdict, &error), error);
        assert_string_equal(evidence_state(verdict, "policy.max_age"), cases[i].expected);
        bulla_verdict_free(verdict);
        buffer_free(&text);
    }
    buffer_free(&document);
    buffer_free(&evidence);
    EVP_PKEY_free(key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_receipt_relied_on_it_when_it_was_signed),
        cmocka_unit_test(the_real_document_verifies),
        cmocka_unit_test(every_byte_counts),
        cmocka_unit_test(every_change_is_seen_by_its_check),
        cmocka_unit_test(the_member_is_base64_of_a_document),
    };
    return cmocka_run_group_tests(tests, make_keys, free_keys);
}
