/* Arm CCA attestation tokens: a platform token, signed by the platform's attestation key, and a realm token, signed by
 * a key that the platform token vouches for by its hash. "Realm Management Monitor specification" (DEN0137, version
 * 1.0), section A7.2.3, and draft-ffm-rats-cca-token-00, which has the same and what a verifier must do; also the
 * profile of platforms of before version 1.0, whose realm tokens have no profile and a bare point as their key.
 *
 * Arm has no root that vouches for platforms: who trusts one names the SHA-256 of its key (the policy's
 * "platform_key"), or the table of pinned roots does.
 *
 * Document: "token" (the collection: tag 399, or in the form of draft-ietf-rats-msg-wrap 907), "platform_key" (the platform's
 * key: SubjectPublicKeyInfo in DER). The report data is the challenge that the realm asked for its token with. */
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "trust/cose.h"
#include "trust/formats.h"
#include "trust/signature.h"

enum {
    LONGEST_TOKEN = 1 << 16, LONGEST_KEY = 512,
    TAG_COLLECTION = 399, TAG_WRAPPED = 907, CONTENT_FORMAT = 263, /* application/eat+cwt */
    PLATFORM_TOKEN = 44234, REALM_TOKEN = 44241,
    MEASUREMENTS = 4,          /* that a realm may extend */
    MOST_COMPONENTS = 24,      /* as the policy has slots */
    UEID_RANDOM = 1,           /* first byte of an instance id */
    UNCOMPRESSED = 4,          /* first byte of a bare point */
    STATE_SECURED = 0x30, STATE_REALM_DEBUG = 0x40, STATE_ROOT_DEBUG = 0x50
};

/* Claims by their labels: EAT's, the platform's, the realm's; those of a software component. */
enum { LABEL_CHALLENGE = 10, LABEL_INSTANCE_ID = 256, LABEL_PROFILE = 265, LABEL_LIFECYCLE = 2395,
       LABEL_IMPLEMENTATION_ID = 2396, LABEL_COMPONENTS = 2399, LABEL_CONFIG = 2401, LABEL_PLATFORM_HASH = 2402,
       LABEL_PERSONALIZATION = 44235, LABEL_REALM_HASH = 44236, LABEL_REALM_KEY = 44237,
       LABEL_INITIAL_MEASUREMENT = 44238, LABEL_EXTENSIBLE_MEASUREMENTS = 44239, LABEL_REALM_KEY_HASH = 44240 };
enum { COMPONENT_MEASUREMENT = 2, COMPONENT_SIGNER = 5 };

/* What a platform may call its token. A realm's has this profile, or none and then a bare point as its key: firmware of
 * the platform and of realms is not of one age. */
static const char *const platform_profiles[] = {"tag:arm.com,2023:cca_platform#1.0.0", "http://arm.com/CCA-SSD/1.0.0"};
static const char realm_profile[] = "tag:arm.com,2023:realm#1.0.0";

static const struct hash {
    const char *name, *digest;
    size_t size;
} hashes[] = {{"sha-256", "SHA256", 32}, {"sha-384", "SHA384", 48}, {"sha-512", "SHA512", 64}};

/* Claims that are bytes. */
static const struct field {
    const char *check, *claim;
    int64_t label;
    size_t size; /* 0: any */
} platform_fields[] = {
    {"cca.platform.implementation_id", "implementation_id", LABEL_IMPLEMENTATION_ID, 32},
    {"cca.platform.instance_id", "instance_id", LABEL_INSTANCE_ID, 33},
    {"cca.platform.config", "platform_config", LABEL_CONFIG, 0},
}, realm_fields[] = {
    {"cca.realm.challenge", "report_data", LABEL_CHALLENGE, 64},
    {"cca.realm.personalization_value", "personalization_value", LABEL_PERSONALIZATION, 64},
};

/* One of the two tokens. */
struct token {
    struct cose_sign1 sign1;
    const struct cbor *claims;
};

struct cca {
    struct evidence *evidence;
    struct verdict *verdict;
    struct token platform, realm;
};

static const char *describe(const struct cca *cca, const struct cbor *item)
{
    return cbor_describe(item, &cca->verdict->arena, &cca->verdict->error);
}

/* A hash by its name in IANA's registry; NULL where that is none of the three. */
static const struct hash *check_hash(struct cca *cca, const char *check, const struct cbor *claims, int64_t label)
{
    const struct cbor *name = cbor_label(claims, label);
    const struct hash *hash = NULL;
    for (size_t i = 0; i < sizeof hashes / sizeof *hashes; i++)
        if (cbor_is_text(name, hashes[i].name))
            hash = &hashes[i];
    verdict_holds(cca->verdict, check, hash != NULL, "sha-256, sha-384 or sha-512", "%s", describe(cca, name));
    return hash;
}

/* Bytes of `size` (0: as long as any of the hashes). */
static int is_digest(const struct cbor *item, size_t size)
{
    return cbor_is(item, CBOR_BYTES) &&
           (size ? item->length == size : item->length == 32 || item->length == 48 || item->length == 64);
}

/* ---- Envelopes ---- */

static int read_token(struct cca *cca, const char *check, const struct cbor *encoded, struct token *token)
{
    struct verdict *verdict = cca->verdict;
    bulla_error error = {0};
    if (!cbor_is(encoded, CBOR_BYTES))
        return verdict_fails(verdict, check, "%s in the collection", describe(cca, encoded));
    if (cose_sign1_read(encoded->bytes, encoded->length, &verdict->arena, &token->sign1, &error) != BULLA_OK)
        return verdict_fails(verdict, check, "%s", error.text);
    const struct cbor *payload = token->sign1.payload;
    token->claims = cbor_parse(payload->bytes, payload->length, &verdict->arena, &error);
    if (!cbor_is(token->claims, CBOR_MAP))
        return verdict_fails(verdict, check, "claims: %s", token->claims ? describe(cca, token->claims) : error.text);
    return verdict_is(verdict, check, token->sign1.is_tagged, "a COSE_Sign1 with its tag, 18");
}

/* An entry of the collection: the token, in the later form in a list behind its content format. */
static const struct cbor *find_token(const struct cbor *root, int64_t label)
{
    const struct cbor *entry = cbor_label(root->items, label);
    if (root->number != TAG_WRAPPED)
        return entry;
    return cbor_is(entry, CBOR_ARRAY) && entry->length == 2 && cbor_is_integer(&entry->items[0], CONTENT_FORMAT)
               ? &entry->items[1]
               : NULL;
}

static int read_tokens(struct cca *cca)
{
    bulla_error error = {0};
    size_t length;
    const uint8_t *bytes = evidence_bytes(cca->evidence, "cca.token", "token", LONGEST_TOKEN, &length);
    if (!bytes)
        return 0;
    const struct cbor *root = cbor_parse(bytes, length, &cca->verdict->arena, &error);
    int is_collection = cbor_is(root, CBOR_TAG) && (root->number == TAG_COLLECTION || root->number == TAG_WRAPPED) &&
                        cbor_is(root->items, CBOR_MAP) && root->items->length == 2;
    if (!verdict_holds(cca->verdict, "cca.token", is_collection, "tag 399 or 907 around a map of 2", "%s%s%s",
                       root ? describe(cca, root) : error.text, cbor_is(root, CBOR_TAG) ? " around " : "",
                       cbor_is(root, CBOR_TAG) ? describe(cca, root->items) : ""))
        return 0;
    int has_platform = read_token(cca, "cca.platform.token", find_token(root, PLATFORM_TOKEN), &cca->platform);
    return read_token(cca, "cca.realm.token", find_token(root, REALM_TOKEN), &cca->realm) && has_platform;
}

/* ---- Keys and signatures ---- */

static void check_signature(struct cca *cca, const char *check, const struct token *token, EVP_PKEY *key)
{
    verdict_is(cca->verdict, check, cose_sign1_verify(&token->sign1, key), "a signature of the token by that key");
}

static void check_platform_key(struct cca *cca)
{
    struct verdict *verdict = cca->verdict;
    size_t length;
    const uint8_t *bytes = evidence_bytes(cca->evidence, "cca.platform.key", "platform_key", LONGEST_KEY, &length);
    if (!bytes)
        return;
    const uint8_t *end = bytes;
    EVP_PKEY *key = d2i_PUBKEY(NULL, &end, (long)length);
    uint8_t *hash = arena_alloc(&verdict->arena, HASH_SHA256_BYTES, 1, &verdict->error);
    if (key && end == bytes + length && hash && hash_sha256(bytes, length, hash, &verdict->error) == BULLA_OK) {
        evidence_claim_bytes(cca->evidence, "platform_key", hash, HASH_SHA256_BYTES);
        check_signature(cca, "cca.platform.signature", &cca->platform, key);
    } else {
        verdict_fails(verdict, "cca.platform.key", "\"platform_key\" is no SubjectPublicKeyInfo in DER");
    }
    EVP_PKEY_free(key);
    ERR_clear_error();
}

static EVP_PKEY *realm_key(const struct cca *cca, const struct cbor *claim, bulla_error *error)
{
    const struct cose_algorithm *algorithm = cca->realm.sign1.algorithm;
    if (cbor_label(cca->realm.claims, LABEL_PROFILE))
        return cose_key(claim->bytes, claim->length, algorithm, &cca->verdict->arena, error);
    if (claim->length != 1 + 2 * algorithm->size || claim->bytes[0] != UNCOMPRESSED)
        return NULL;
    return signature_key_from_point(algorithm->curve, claim->bytes + 1, claim->length - 1);
}

/* The realm's key and what makes it more than a key: the platform was asked for its token with the key's hash. */
static void check_realm_key(struct cca *cca)
{
    struct verdict *verdict = cca->verdict;
    const struct cbor *claim = cbor_label(cca->realm.claims, LABEL_REALM_KEY),
                      *challenge = cbor_label(cca->platform.claims, LABEL_CHALLENGE);
    const struct hash *hash = check_hash(cca, "cca.realm.key_hash", cca->realm.claims, LABEL_REALM_KEY_HASH);
    uint8_t digest[EVP_MAX_MD_SIZE];
    size_t length = 0;
    bulla_error error = {0};
    if (!cbor_is(claim, CBOR_BYTES)) {
        verdict_fails(verdict, "cca.realm.key", "%s", describe(cca, claim));
        return;
    }
    EVP_PKEY *key = realm_key(cca, claim, &error);
    verdict_holds(verdict, "cca.realm.key", key != NULL, "a key for the algorithm of the realm's token", "%s",
                  key ? cca->realm.sign1.algorithm->curve : error.text[0] ? error.text : "no point of its curve");
    check_signature(cca, "cca.realm.signature", &cca->realm, key);
    EVP_PKEY_free(key);
    int is_hashed = hash && EVP_Q_digest(NULL, hash->digest, NULL, claim->bytes, claim->length, digest, &length) == 1;
    int has_challenge = cbor_is(challenge, CBOR_BYTES);
    verdict_same_bytes(verdict, "cca.binding", has_challenge ? challenge->bytes : NULL,
                       has_challenge ? challenge->length : 0, is_hashed ? digest : NULL, length);
}

/* ---- Claims ---- */

static void check_profiles(struct cca *cca)
{
    const struct cbor *platform = cbor_label(cca->platform.claims, LABEL_PROFILE),
                      *realm = cbor_label(cca->realm.claims, LABEL_PROFILE);
    int is_known = cbor_is_text(platform, platform_profiles[0]) || cbor_is_text(platform, platform_profiles[1]);
    verdict_holds(cca->verdict, "cca.platform.profile", is_known, platform_profiles[0], "%s", describe(cca, platform));
    verdict_holds(cca->verdict, "cca.realm.profile", !realm || cbor_is_text(realm, realm_profile), realm_profile, "%s",
                  describe(cca, realm));
}

static void check_field(struct cca *cca, const struct cbor *claims, const struct field *field)
{
    const struct cbor *item = cbor_label(claims, field->label);
    char expected[64] = "bytes";
    if (field->size)
        snprintf(expected, sizeof expected, "%zu bytes", field->size);
    if (verdict_holds(cca->verdict, field->check,
                      cbor_is(item, CBOR_BYTES) && (field->size == 0 || item->length == field->size), expected, "%s",
                      describe(cca, item)))
        evidence_claim_bytes(cca->evidence, field->claim, item->bytes, item->length);
}

/* An instance id is a random one of EAT (a UEID), as its first byte says. */
static void check_instance_id(struct cca *cca)
{
    const struct claim *id = evidence_claim(cca->evidence, "instance_id");
    if (id)
        verdict_same_number(cca->verdict, "cca.platform.instance_id.kind", id->bytes[0], UEID_RANDOM);
}

static void check_lifecycle(struct cca *cca)
{
    const struct cbor *lifecycle = cbor_label(cca->platform.claims, LABEL_LIFECYCLE);
    if (!cbor_is(lifecycle, CBOR_UNSIGNED)) {
        verdict_fails(cca->verdict, "cca.platform.lifecycle", "%s", describe(cca, lifecycle));
        return;
    }
    uint64_t state = lifecycle->number >> 8;
    if (!verdict_holds(cca->verdict, "cca.platform.lifecycle", state == STATE_SECURED, "secured (0x3000 to 0x30ff)",
                       "0x%llx", (unsigned long long)lifecycle->number))
        verdict_advise(cca->verdict, "the platform is being made, debugged or is taken out of service: use another");
    evidence_claim_flag(cca->evidence, "debug", state == STATE_REALM_DEBUG || state == STATE_ROOT_DEBUG);
}

/* The platform's firmware: what was measured, and who signed it. */
static void check_components(struct cca *cca)
{
    const struct cbor *list = cbor_label(cca->platform.claims, LABEL_COMPONENTS);
    size_t count = cbor_is(list, CBOR_ARRAY) ? list->length : 0, good = 0;
    for (size_t i = 0; i < count; i++)
        good += is_digest(cbor_label(&list->items[i], COMPONENT_MEASUREMENT), 0) &&
                is_digest(cbor_label(&list->items[i], COMPONENT_SIGNER), 0);
    if (!verdict_holds(cca->verdict, "cca.platform.sw_components",
                       0 < count && count <= MOST_COMPONENTS && good == count,
                       "1 to 24 components, each with measurement and signer", "%zu, %zu of them such", count, good))
        return;
    evidence_claim_number(cca->evidence, "sw_components", count);
    for (unsigned i = 0; i < count; i++) {
        const struct cbor *measurement = cbor_label(&list->items[i], COMPONENT_MEASUREMENT),
                          *signer = cbor_label(&list->items[i], COMPONENT_SIGNER);
        evidence_claim_slot(cca->evidence, "sw_component", i, measurement->bytes, measurement->length);
        evidence_claim_slot(cca->evidence, "sw_signer", i, signer->bytes, signer->length);
    }
}

static void check_measurements(struct cca *cca)
{
    struct verdict *verdict = cca->verdict;
    const struct hash *hash = check_hash(cca, "cca.realm.hash_algorithm", cca->realm.claims, LABEL_REALM_HASH);
    const struct cbor *initial = cbor_label(cca->realm.claims, LABEL_INITIAL_MEASUREMENT),
                      *list = cbor_label(cca->realm.claims, LABEL_EXTENSIBLE_MEASUREMENTS);
    size_t size = hash ? hash->size : 0, count = cbor_is(list, CBOR_ARRAY) ? list->length : 0, good = 0;
    if (verdict_holds(verdict, "cca.realm.initial_measurement", is_digest(initial, size), "a value of the realm's hash",
                      "%s", describe(cca, initial)))
        evidence_claim_bytes(cca->evidence, "measurement", initial->bytes, initial->length);
    for (size_t i = 0; i < count; i++)
        good += is_digest(&list->items[i], size) != 0;
    if (!verdict_holds(verdict, "cca.realm.extensible_measurements", count == MEASUREMENTS && good == count,
                       "4 values of the realm's hash", "%zu, %zu of them such", count, good))
        return;
    for (unsigned i = 0; i < MEASUREMENTS; i++)
        evidence_claim_slot(cca->evidence, "rem", i, list->items[i].bytes, list->items[i].length);
}

static void verify(struct evidence *evidence)
{
    struct cca cca = {.evidence = evidence, .verdict = evidence->verdict};
    if (!read_tokens(&cca))
        return;
    check_platform_key(&cca);
    check_profiles(&cca);
    check_realm_key(&cca);
    for (size_t i = 0; i < sizeof platform_fields / sizeof *platform_fields; i++)
        check_field(&cca, cca.platform.claims, &platform_fields[i]);
    check_instance_id(&cca);
    check_lifecycle(&cca);
    check_hash(&cca, "cca.platform.hash_algorithm", cca.platform.claims, LABEL_PLATFORM_HASH);
    check_components(&cca);
    for (size_t i = 0; i < sizeof realm_fields / sizeof *realm_fields; i++)
        check_field(&cca, cca.realm.claims, &realm_fields[i]);
    check_measurements(&cca);
}

const struct evidence_format evidence_cca = {
    .type = "cca",
    .title = "Arm CCA attestation token",
    .report_data_bytes = 64,
    .verify = verify,
};
