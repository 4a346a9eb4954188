/* The public area of a TPM's key: TPMT_PUBLIC ("Trusted Platform Module Library", part 2, 12.2.4), of which the key's name
 * is the hash (part 1, 16: "Names"). It is what makes a key an attestation key: one that never leaves its TPM, was made in
 * it, and signs nothing that only looks like the TPM's own statement. A policy that names it (`tpm_name`) pins all that. */
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <string.h>

#include "trust/evidence/tpm.h"
#include "trust/signature.h"

enum {
    MOST_PUBLIC_BYTES = 2048, MOST_MODULUS_BYTES = 1024,
    TYPE_RSA = 0x0001, TYPE_ECC = 0x0023, NONE = 0x0010,
    NIST_P256 = 0x0003, NIST_P384 = 0x0004, DEFAULT_EXPONENT = 65537,
    /* TPMA_OBJECT (8.3) */
    FIXED_TPM = 1 << 1, FIXED_PARENT = 1 << 4, SENSITIVE_DATA_ORIGIN = 1 << 5, RESTRICTED = 1 << 16, DECRYPT = 1 << 17,
    SIGN = 1 << 18
};

struct public_area {
    uint16_t type, name_algorithm;
    uint32_t attributes;
    uint16_t symmetric, scheme, hash;
    uint16_t curve;
    uint32_t exponent;
    const uint8_t *unique[2]; /* the modulus; or x and y */
    size_t lengths[2];
};

static int read_public(struct reader *reader, struct public_area *area)
{
    size_t length;
    area->type = tpm_read_u16(reader);
    area->name_algorithm = tpm_read_u16(reader);
    area->attributes = tpm_read_u32(reader);
    tpm_read_sized(reader, &length); /* authPolicy */
    area->symmetric = tpm_read_u16(reader); /* restricted keys that decrypt have one: these are refused */
    area->scheme = tpm_read_u16(reader);
    area->hash = area->scheme == NONE ? NONE : tpm_read_u16(reader);
    if (area->type == TYPE_RSA) {
        tpm_read_u16(reader); /* keyBits: the modulus tells */
        area->exponent = tpm_read_u32(reader);
        area->unique[0] = tpm_read_sized(reader, &area->lengths[0]);
    } else {
        area->curve = tpm_read_u16(reader);
        if (tpm_read_u16(reader) != NONE) /* kdf */
            tpm_read_u16(reader);
        for (int i = 0; i < 2; i++)
            area->unique[i] = tpm_read_sized(reader, &area->lengths[i]);
    }
    return !reader->failed && reader_left(reader) == 0 && (area->type == TYPE_RSA || area->type == TYPE_ECC) &&
           area->symmetric == NONE;
}

static int is_rsa_key(const struct public_area *area, EVP_PKEY *key)
{
    BIGNUM *modulus = NULL, *exponent = NULL;
    uint8_t bytes[MOST_MODULUS_BYTES];
    int is_same = EVP_PKEY_is_a(key, "RSA") && area->lengths[0] <= sizeof bytes &&
                  EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_N, &modulus) == 1 &&
                  EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &exponent) == 1 &&
                  BN_bn2binpad(modulus, bytes, (int)area->lengths[0]) == (int)area->lengths[0] &&
                  memcmp(bytes, area->unique[0], area->lengths[0]) == 0 &&
                  BN_is_word(exponent, area->exponent ? area->exponent : DEFAULT_EXPONENT);
    BN_free(modulus);
    BN_free(exponent);
    ERR_clear_error();
    return is_same;
}

static int is_ec_key(const struct public_area *area, EVP_PKEY *key)
{
    uint8_t point[2 * 48] = {0};
    const char *curve = area->curve == NIST_P256 ? "P-256" : area->curve == NIST_P384 ? "P-384" : NULL;
    size_t size = area->curve == NIST_P256 ? 32 : 48;
    if (!curve || area->lengths[0] > size || area->lengths[1] > size)
        return 0;
    for (int i = 0; i < 2; i++)
        memcpy(point + (i + 1) * size - area->lengths[i], area->unique[i], area->lengths[i]);
    EVP_PKEY *made = signature_key_from_point(curve, point, 2 * size);
    int is_same = made && EVP_PKEY_eq(made, key) == 1;
    EVP_PKEY_free(made);
    ERR_clear_error();
    return is_same;
}

/* nameAlg || H(public area) */
static void claim_name(struct evidence *evidence, const struct public_area *area, const struct reader *bytes)
{
    size_t length = 0;
    int hash = tpm_algorithm_find(area->name_algorithm);
    uint8_t *name = arena_alloc(&evidence->verdict->arena, 2 + TPM_LONGEST_DIGEST, 1, &evidence->verdict->error);
    int is_made = name && hash >= 0 && tpm_algorithms[hash].size >= 32 &&
                  EVP_Q_digest(NULL, tpm_algorithms[hash].digest, NULL, bytes->data, bytes->length, name + 2, &length) == 1;
    verdict_holds(evidence->verdict, "tpm.ak_public.name_algorithm", is_made, "SHA-256, SHA-384 or SHA-512", "0x%02x",
                  area->name_algorithm);
    if (!is_made)
        return;
    name[0] = (uint8_t)(area->name_algorithm >> 8);
    name[1] = (uint8_t)area->name_algorithm;
    evidence_claim_bytes(evidence, "tpm_name", name, 2 + length);
}

void tpm_check_public_area(struct evidence *evidence, EVP_PKEY *key, uint16_t scheme, uint16_t hash)
{
    enum { NEEDED = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | RESTRICTED | SIGN };
    struct verdict *verdict = evidence->verdict;
    struct public_area area = {0};
    size_t length;
    if (!json_get(evidence->document, "ak_public")) {
        verdict_not_made(verdict, "tpm.ak_public", "the document has no public area of the key (\"ak_public\")");
        return;
    }
    const uint8_t *bytes = evidence_bytes(evidence, "tpm.ak_public", "ak_public", MOST_PUBLIC_BYTES, &length);
    if (!bytes)
        return;
    struct reader whole = tpm_reader_over(bytes, length), reader = whole;
    if (!verdict_is(verdict, "tpm.ak_public.form", read_public(&reader, &area),
                    "a TPMT_PUBLIC of RSA or ECC without a symmetric cipher"))
        return;
    verdict_is(verdict, "tpm.ak_public.key", area.type == TYPE_RSA ? is_rsa_key(&area, key) : is_ec_key(&area, key),
               "the key that the quote is checked with");
    verdict_holds(verdict, "tpm.ak_public.attributes", (area.attributes & (NEEDED | DECRYPT)) == NEEDED,
                  "fixedTPM, fixedParent, sensitiveDataOrigin, restricted and sign, not decrypt", "0x%08x", area.attributes);
    verdict_holds(verdict, "tpm.ak_public.scheme", area.scheme == scheme && area.hash == hash,
                  "the scheme and the hash of the signature", "0x%02x, 0x%02x", area.scheme, area.hash);
    claim_name(evidence, &area, &whole);
}
