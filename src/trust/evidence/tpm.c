/* TPM 2.0 quotes ("Trusted Platform Module Library", family 2.0, part 2: Structures): TPMS_ATTEST with TPMS_QUOTE_INFO
 * (10.12), signed by an attestation key (TPMT_SIGNATURE, 11.3).
 *
 * Document: "quote" and "signature" (base64, each bare or with its TPM2B size), "pcrs" ({"sha256": {"0": "<hex>"}}), the
 * key as "ak" (PEM) or "certificates" (AK, ..., vendor's root; "crls" optional), "ak_public" (TPMT_PUBLIC, optional),
 * "event_log" (optional: tpm_events.c). */
#include "trust/evidence/tpm.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "trust/formats.h"
#include "trust/roots.h"
#include "trust/signature.h"

enum {
    MOST_QUOTE_BYTES = 4096, MOST_SIGNATURE_BYTES = 2048, MOST_SELECTIONS = 16,
    ATTEST_QUOTE = 0x8018,
    RSASSA = 0x0014, RSAPSS = 0x0016, ECDSA = 0x0018, SHA_256 = 0x000b, SHA_384 = 0x000c,
    SELECTION_BYTES = 3, /* of 24 PCRs */
    LEAST_RSA_BITS = 2048,
    MOST_CURVE_BYTES = 48
};

static const uint32_t generated_value = 0xff544347; /* TPM_GENERATED_VALUE: made in the TPM, not signed for someone */

const struct tpm_algorithm tpm_algorithms[TPM_ALGORITHMS] = {
    {0x0004, "sha1", "SHA1", 20},
    {SHA_256, "sha256", "SHA256", 32},
    {SHA_384, "sha384", "SHA384", 48},
    {0x000d, "sha512", "SHA512", 64},
};

int tpm_algorithm_find(uint16_t id)
{
    for (int i = 0; i < TPM_ALGORITHMS; i++)
        if (tpm_algorithms[i].id == id)
            return i;
    return -1;
}

struct attest {
    const uint8_t *bytes; /* what is signed */
    size_t length;
    uint32_t magic;
    uint16_t type;
    const uint8_t *nonce, *firmware, *digest;
    size_t nonce_length, digest_length;
    uint64_t clock;
    uint32_t resets, restarts;
    uint8_t is_safe;
    struct {
        int algorithm; /* index, or -1 */
        uint32_t pcrs;
    } selections[MOST_SELECTIONS];
    size_t selection_count;
};

struct signature {
    uint16_t scheme, hash;
    const uint8_t *numbers[2]; /* RSA: one; ECDSA: r and s */
    size_t lengths[2];
};

struct tpm {
    struct evidence *evidence;
    struct verdict *verdict;
    struct attest attest;
    struct signature signature;
    struct tpm_pcrs *pcrs; /* of the verdict's arena */
    EVP_PKEY *key;
};

/* ---- Reading ---- */

uint16_t tpm_read_u16(struct reader *reader)
{
    return __builtin_bswap16(reader_u16(reader));
}

uint32_t tpm_read_u32(struct reader *reader)
{
    return __builtin_bswap32(reader_u32(reader));
}

uint64_t tpm_read_u64(struct reader *reader)
{
    return __builtin_bswap64(reader_u64(reader));
}

const uint8_t *tpm_read_sized(struct reader *reader, size_t *length)
{
    *length = tpm_read_u16(reader);
    const uint8_t *bytes = reader_bytes(reader, *length);
    if (!bytes)
        *length = 0;
    return bytes;
}

struct reader tpm_reader_over(const uint8_t *bytes, size_t length)
{
    struct reader sized = reader_over(bytes, length);
    size_t inner = tpm_read_u16(&sized);
    return length >= 2 && inner == length - 2 ? reader_over(bytes + 2, inner) : reader_over(bytes, length);
}

static int check_form(struct tpm *tpm, const char *check, const struct reader *reader, const char *expected)
{
    return verdict_is(tpm->verdict, check, !reader->failed && reader_left(reader) == 0, expected);
}

static void read_selections(struct attest *attest, struct reader *reader)
{
    attest->selection_count = tpm_read_u32(reader);
    for (size_t i = 0; i < attest->selection_count && i < MOST_SELECTIONS; i++) {
        attest->selections[i].algorithm = tpm_algorithm_find(tpm_read_u16(reader));
        if (reader_u8(reader) != SELECTION_BYTES)
            reader->failed = 1;
        const uint8_t *bits = reader_bytes(reader, SELECTION_BYTES);
        attest->selections[i].pcrs = bits ? bits[0] | (uint32_t)bits[1] << 8 | (uint32_t)bits[2] << 16 : 0;
    }
    if (attest->selection_count > MOST_SELECTIONS) {
        attest->selection_count = 0;
        reader->failed = 1;
    }
}

static int read_attest(struct tpm *tpm)
{
    struct attest *attest = &tpm->attest;
    size_t length;
    const uint8_t *bytes = evidence_bytes(tpm->evidence, "tpm.quote", "quote", MOST_QUOTE_BYTES, &length);
    if (!bytes)
        return 0;
    struct reader reader = tpm_reader_over(bytes, length);
    attest->bytes = reader.data;
    attest->length = reader.length;
    attest->magic = tpm_read_u32(&reader);
    attest->type = tpm_read_u16(&reader);
    tpm_read_sized(&reader, &length); /* qualifiedSigner: says nothing that the key does not */
    attest->nonce = tpm_read_sized(&reader, &attest->nonce_length);
    attest->clock = tpm_read_u64(&reader);
    attest->resets = tpm_read_u32(&reader);
    attest->restarts = tpm_read_u32(&reader);
    attest->is_safe = reader_u8(&reader);
    attest->firmware = reader_bytes(&reader, 8);
    read_selections(attest, &reader);
    attest->digest = tpm_read_sized(&reader, &attest->digest_length);
    return check_form(tpm, "tpm.quote.form", &reader, "a TPMS_ATTEST of a quote, and nothing behind it");
}

static int read_signature(struct tpm *tpm)
{
    struct signature *signature = &tpm->signature;
    size_t length;
    const uint8_t *bytes = evidence_bytes(tpm->evidence, "tpm.signature", "signature", MOST_SIGNATURE_BYTES, &length);
    if (!bytes)
        return 0;
    struct reader reader = tpm_reader_over(bytes, length);
    signature->scheme = tpm_read_u16(&reader);
    signature->hash = tpm_read_u16(&reader);
    for (int i = 0; i < (signature->scheme == ECDSA ? 2 : 1); i++)
        signature->numbers[i] = tpm_read_sized(&reader, &signature->lengths[i]);
    return check_form(tpm, "tpm.signature.form", &reader, "a TPMT_SIGNATURE, and nothing behind it");
}

/* The members of one bank; how many of them are PCRs. */
static size_t read_bank(struct tpm_pcrs *pcrs, int algorithm, const struct json *bank)
{
    size_t count = 0;
    for (int i = 0; i < TPM_PCRS; i++) {
        char name[8];
        snprintf(name, sizeof name, "%d", i);
        const struct json *value = json_get(bank, name);
        if (!json_is(value, JSON_STRING) ||
            !hex_decode(value->text, value->length, pcrs->values[algorithm][i], tpm_algorithms[algorithm].size))
            continue;
        pcrs->given[algorithm] |= 1u << i;
        count++;
    }
    return count;
}

static int read_pcrs(struct tpm *tpm)
{
    const struct json *pcrs = json_get(tpm->evidence->document, "pcrs");
    size_t banks = 0;
    tpm->pcrs = arena_alloc(&tpm->verdict->arena, 1, sizeof *tpm->pcrs, &tpm->verdict->error);
    int is_read = tpm->pcrs && json_is(pcrs, JSON_OBJECT);
    for (int i = 0; i < TPM_ALGORITHMS && is_read; i++) {
        const struct json *bank = json_get(pcrs, tpm_algorithms[i].name);
        if (!bank)
            continue;
        banks++;
        is_read = json_is(bank, JSON_OBJECT) && read_bank(tpm->pcrs, i, bank) == bank->length;
    }
    if (is_read && banks == pcrs->length)
        return 1;
    return verdict_fails(tpm->verdict, "tpm.pcrs", "\"pcrs\" is not an object such as {\"sha256\": {\"0\": \"<hex>\"}} "
                         "of the banks sha1, sha256, sha384, sha512 and PCRs 0 to 23");
}

/* ---- The key ---- */

/* libcrypto would ask on the terminal for the password of a PEM text that says it is encrypted. */
static int no_password(char *password, int size, int is_for_writing, void *nothing)
{
    return -1;
}

static EVP_PKEY *read_pem(const struct json *pem)
{
    BIO *in = json_is(pem, JSON_STRING) ? BIO_new_mem_buf(pem->text, (int)pem->length) : NULL;
    EVP_PKEY *key = in ? PEM_read_bio_PUBKEY(in, NULL, no_password, NULL) : NULL;
    BIO_free(in);
    ERR_clear_error();
    return key;
}

static void check_chain(struct tpm *tpm, const struct certificates *chain)
{
    static const struct chain_rules rules = {"tpm.chain", "tpm.root", "tpm", REVOCATION_GIVEN, "tpm.crls"};
    X509 *leaf = chain->list[0];
    uint8_t sha256[32];
    if (certificates_verify(chain, chain, &rules, tpm->evidence->time, tpm->verdict) &&
        X509_digest(chain->list[chain->count - 1], EVP_sha256(), sha256, NULL))
        evidence_claim_text(tpm->evidence, "tpm_vendor", root_find("tpm", sha256)->name);
    /* Certificates of endorsement keys, which encrypt, are of the same roots. */
    verdict_is(tpm->verdict, "tpm.certificate.use",
               X509_get_extension_flags(leaf) & EXFLAG_KUSAGE && X509_get_key_usage(leaf) & KU_DIGITAL_SIGNATURE,
               "a key for signatures");
}

static int read_certified_key(struct tpm *tpm)
{
    struct certificates chain = {0};
    int is_read = evidence_chain(tpm->evidence, "tpm.certificates", "tpm.crls", &chain);
    if (is_read) {
        check_chain(tpm, &chain);
        tpm->key = X509_get_pubkey(chain.list[0]);
    }
    certificates_free(&chain);
    return is_read;
}

static int read_key(struct tpm *tpm)
{
    const struct json *document = tpm->evidence->document, *pem = json_get(document, "ak");
    if (json_get(document, "certificates")) {
        if (!read_certified_key(tpm))
            return 0;
        if (pem)
            verdict_not_made(tpm->verdict, "tpm.ak", "the certificate's key is taken instead");
    } else {
        verdict_not_made(tpm->verdict, "tpm.chain", "no certificate vouches for the key: only a policy that names it can");
        tpm->key = read_pem(pem);
    }
    if (tpm->key)
        return 1;
    return verdict_fails(tpm->verdict, "tpm.key", "there is no public key, as \"ak\" in PEM or in \"certificates\"");
}

static void check_key(struct tpm *tpm)
{
    EVP_PKEY *key = tpm->key;
    int bits = EVP_PKEY_get_bits(key), is_rsa = EVP_PKEY_is_a(key, "RSA");
    int is_strong = is_rsa ? bits >= LEAST_RSA_BITS : signature_key_is_on(key, "P-256") || signature_key_is_on(key, "P-384");
    verdict_holds(tpm->verdict, "tpm.key.strength", is_strong, "RSA from 2048 bits, P-256 or P-384", "%s of %d bits",
                  is_rsa ? "RSA" : EVP_PKEY_is_a(key, "EC") ? "EC" : "another kind", bits);
    unsigned char *der = NULL;
    int length = i2d_PUBKEY(key, &der);
    uint8_t *sha256 = arena_alloc(&tpm->verdict->arena, HASH_SHA256_BYTES, 1, &tpm->verdict->error);
    if (length > 0 && sha256 && hash_sha256(der, (size_t)length, sha256, &tpm->verdict->error) == BULLA_OK)
        evidence_claim_bytes(tpm->evidence, "tpm_key", sha256, HASH_SHA256_BYTES);
    else
        verdict_fails(tpm->verdict, "tpm.key", "the key cannot be written");
    OPENSSL_free(der);
}

/* ---- The quote ---- */

static void check_head(struct tpm *tpm)
{
    const struct attest *attest = &tpm->attest;
    verdict_holds(tpm->verdict, "tpm.quote.magic", attest->magic == generated_value, "TPM_GENERATED_VALUE (0xff544347)",
                  "0x%08x", attest->magic);
    verdict_holds(tpm->verdict, "tpm.quote.type", attest->type == ATTEST_QUOTE, "TPM_ST_ATTEST_QUOTE (0x8018)", "0x%04x",
                  attest->type);
    verdict_holds(tpm->verdict, "tpm.quote.clock_info", attest->is_safe <= 1, "\"safe\" is 0 or 1",
                  "clock %llu ms, %u resets, %u restarts, safe: %u", (unsigned long long)attest->clock, attest->resets,
                  attest->restarts, attest->is_safe);
    evidence_claim_bytes(tpm->evidence, "report_data", attest->nonce, attest->nonce_length);
    evidence_claim_bytes(tpm->evidence, "firmware_version", attest->firmware, 8);
}

static const char *describe_pcrs(struct tpm *tpm, const uint32_t pcrs[TPM_ALGORITHMS])
{
    char text[128] = "";
    size_t used = 0;
    for (int i = 0; i < TPM_ALGORITHMS; i++)
        if (pcrs[i])
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%s: bits 0x%06x", used ? ", " : "",
                                     tpm_algorithms[i].name, pcrs[i]);
    return arena_copy_text(&tpm->verdict->arena, text, used, &tpm->verdict->error);
}

/* The document's values are those that the quote is about: no more, which would be claims that nobody signed. */
static void check_selection(struct tpm *tpm)
{
    const struct attest *attest = &tpm->attest;
    uint32_t quoted[TPM_ALGORITHMS] = {0};
    int is_known = 1;
    for (size_t i = 0; i < attest->selection_count; i++) {
        int algorithm = attest->selections[i].algorithm;
        uint32_t pcrs = attest->selections[i].pcrs;
        is_known &= pcrs == 0 || (algorithm >= 0 && quoted[algorithm] == 0);
        if (algorithm >= 0)
            quoted[algorithm] |= pcrs;
    }
    const char *given = describe_pcrs(tpm, tpm->pcrs->given), *found = describe_pcrs(tpm, quoted);
    verdict_holds(tpm->verdict, "tpm.quote.selection",
                  is_known && memcmp(quoted, tpm->pcrs->given, sizeof quoted) == 0 && given && given[0],
                  given ? given : "", "%s%s", found ? found : "", is_known ? "" : ", and a bank twice or of another hash");
}

/* The digest of the selected values, in the order of the selection, by the hash of the signature (TPM2_Quote). */
static void check_digest(struct tpm *tpm)
{
    const struct attest *attest = &tpm->attest;
    static const uint8_t zeros[TPM_LONGEST_DIGEST];
    uint8_t digest[EVP_MAX_MD_SIZE];
    size_t length = 0;
    struct buffer values = {0};
    int hash = tpm_algorithm_find(tpm->signature.hash);
    for (size_t i = 0; i < attest->selection_count; i++)
        for (int pcr = 0, bank = attest->selections[i].algorithm; pcr < TPM_PCRS && bank >= 0; pcr++)
            if (attest->selections[i].pcrs >> pcr & 1)
                buffer_append(&values, tpm->pcrs->given[bank] >> pcr & 1 ? tpm->pcrs->values[bank][pcr] : zeros,
                              tpm_algorithms[bank].size);
    if (values.error.code != BULLA_OK)
        bulla_fail(&tpm->verdict->error, values.error.code, "%s", values.error.text);
    int is_made = hash >= 0 && EVP_Q_digest(NULL, tpm_algorithms[hash].digest, NULL, values.data, values.length, digest,
                                            &length) == 1;
    verdict_same_bytes(tpm->verdict, "tpm.quote.digest", attest->digest, attest->digest_length, is_made ? digest : NULL,
                       length);
    buffer_free(&values);
}

static void claim_pcrs(struct tpm *tpm)
{
    int bank = tpm_algorithm_find(SHA_256);
    for (unsigned i = 0; i < TPM_PCRS; i++)
        if (tpm->pcrs->given[bank] >> i & 1)
            evidence_claim_slot(tpm->evidence, "pcr", i, tpm->pcrs->values[bank][i], tpm_algorithms[bank].size);
}

/* ---- The signature ---- */

static int ecdsa_is_right(struct tpm *tpm, const char *digest)
{
    uint8_t numbers[2 * MOST_CURVE_BYTES] = {0};
    const struct signature *signature = &tpm->signature;
    size_t size = signature_key_is_on(tpm->key, "P-256") ? 32 : MOST_CURVE_BYTES;
    for (int i = 0; i < 2; i++) {
        if (signature->lengths[i] > size)
            return 0;
        memcpy(numbers + (i + 1) * size - signature->lengths[i], signature->numbers[i], signature->lengths[i]);
    }
    return signature_ecdsa_verify(tpm->key, digest, tpm->attest.bytes, tpm->attest.length, numbers, size);
}

static int is_signed_right(struct tpm *tpm, const char *digest)
{
    const struct attest *attest = &tpm->attest;
    const struct signature *signature = &tpm->signature;
    switch (signature->scheme) {
    case RSASSA:
        return EVP_PKEY_is_a(tpm->key, "RSA") && signature_verify(tpm->key, digest, attest->bytes, attest->length,
                                                                  signature->numbers[0], signature->lengths[0]);
    case RSAPSS:
        return signature_rsa_pss_any_salt_verify(tpm->key, digest, attest->bytes, attest->length, signature->numbers[0],
                                                 signature->lengths[0]);
    case ECDSA:
        return ecdsa_is_right(tpm, digest);
    default:
        return 0;
    }
}

static void check_signature(struct tpm *tpm)
{
    const struct signature *signature = &tpm->signature;
    int is_rsa = EVP_PKEY_is_a(tpm->key, "RSA");
    int fits = is_rsa ? signature->scheme == RSASSA || signature->scheme == RSAPSS : signature->scheme == ECDSA;
    verdict_holds(tpm->verdict, "tpm.signature.scheme", fits, is_rsa ? "RSASSA (0x14) or RSAPSS (0x16), as the key is RSA"
                                                                     : "ECDSA (0x18), as the key is EC", "0x%02x",
                  signature->scheme);
    verdict_holds(tpm->verdict, "tpm.signature.hash", signature->hash == SHA_256 || signature->hash == SHA_384,
                  "SHA-256 (0x0b) or SHA-384 (0x0c)", "0x%02x", signature->hash);
    int hash = tpm_algorithm_find(signature->hash);
    verdict_is(tpm->verdict, "tpm.quote.signature", hash >= 0 && is_signed_right(tpm, tpm_algorithms[hash].digest),
               "by the attestation key, with that scheme and hash");
}

static void verify(struct evidence *evidence)
{
    struct tpm tpm = {.evidence = evidence, .verdict = evidence->verdict};
    int is_read = read_attest(&tpm) & read_signature(&tpm) & read_pcrs(&tpm) & read_key(&tpm);
    if (is_read) {
        check_head(&tpm);
        check_selection(&tpm);
        check_digest(&tpm);
        check_key(&tpm);
        check_signature(&tpm);
        claim_pcrs(&tpm);
        tpm_check_public_area(evidence, tpm.key, tpm.signature.scheme, tpm.signature.hash);
        tpm_check_event_log(evidence, tpm.pcrs);
    }
    EVP_PKEY_free(tpm.key);
}

const struct evidence_format evidence_tpm = {
    .type = "tpm",
    .title = "TPM 2.0 quote",
    .report_data_bytes = 32,
    .verify = verify,
};
