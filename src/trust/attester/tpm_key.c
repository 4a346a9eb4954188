#include "trust/attester/tpm_key.h"

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>
#include <tss2/tss2_mu.h>
#include <tss2/tss2_rc.h>

enum { RSA_EXPONENT = 65537, MOST_CERTIFICATE = 8192, READ_BYTES = 512, MOST_POINT = 2 * TPM2_MAX_ECC_KEY_BYTES + 1 };

int tpm_result(TSS2_RC result, const char *what, bulla_error *error)
{
    if (result == TSS2_RC_SUCCESS)
        return BULLA_OK;
    return bulla_fail(error, BULLA_E_IO, "the TPM: %s failed: %s (0x%x)", what, Tss2_RC_Decode(result), result);
}

int tpm_read_handle(const char *text, const char *what, TPM2_HANDLE *handle, bulla_error *error)
{
    char *end;
    unsigned long long number = strtoull(text, &end, 0);
    if (*text < '0' || *text > '9' || *end || number > UINT32_MAX)
        return bulla_fail(error, BULLA_E_USAGE, "\"%.40s\" is no %s of a TPM; expected a number such as 0x81010001", text,
                          what);
    *handle = (TPM2_HANDLE)number;
    return BULLA_OK;
}

/* ---- Which key ---- */

int tpm_key_make(ESYS_CONTEXT *esys, ESYS_TR *key, bulla_error *error)
{
    const TPM2B_PUBLIC template = {
        .publicArea = {.type = TPM2_ALG_ECC,
                       .nameAlg = TPM2_ALG_SHA256,
                       .objectAttributes = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT |
                                           TPMA_OBJECT_SENSITIVEDATAORIGIN | TPMA_OBJECT_USERWITHAUTH |
                                           TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_SIGN_ENCRYPT,
                       .parameters.eccDetail = {.symmetric.algorithm = TPM2_ALG_NULL,
                                                .scheme = {.scheme = TPM2_ALG_ECDSA,
                                                           .details.ecdsa.hashAlg = TPM2_ALG_SHA256},
                                                .curveID = TPM2_ECC_NIST_P256,
                                                .kdf.scheme = TPM2_ALG_NULL}}};
    const TPM2B_SENSITIVE_CREATE sensitive = {0};
    const TPM2B_DATA outside = {0};
    const TPML_PCR_SELECTION none = {0};
    TSS2_RC result = Esys_CreatePrimary(esys, ESYS_TR_RH_ENDORSEMENT, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE,
                                        &sensitive, &template, &outside, &none, key, NULL, NULL, NULL, NULL);
    return tpm_result(result, "making an attestation key (--tpm-key names one that is there)", error);
}

int tpm_key_find(ESYS_CONTEXT *esys, TPM2_HANDLE handle, ESYS_TR *key, bulla_error *error)
{
    TSS2_RC result = Esys_TR_FromTPMPublic(esys, handle, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, key);
    return tpm_result(result, "finding the attestation key of --tpm-key", error);
}

/* ---- What it looks like ---- */

static EVP_PKEY *make_key(const char *kind, OSSL_PARAM_BLD *parts)
{
    OSSL_PARAM *parameters = OSSL_PARAM_BLD_to_param(parts);
    EVP_PKEY_CTX *context = parameters ? EVP_PKEY_CTX_new_from_name(NULL, kind, NULL) : NULL;
    EVP_PKEY *key = NULL;
    if (context && EVP_PKEY_fromdata_init(context) == 1 &&
        EVP_PKEY_fromdata(context, &key, EVP_PKEY_PUBLIC_KEY, parameters) != 1)
        key = NULL;
    EVP_PKEY_CTX_free(context);
    OSSL_PARAM_free(parameters);
    return key;
}

static EVP_PKEY *rsa_key(const TPMT_PUBLIC *area)
{
    uint32_t exponent = area->parameters.rsaDetail.exponent;
    BIGNUM *n = BN_bin2bn(area->unique.rsa.buffer, area->unique.rsa.size, NULL);
    OSSL_PARAM_BLD *parts = OSSL_PARAM_BLD_new();
    EVP_PKEY *key = NULL;
    if (n && parts && OSSL_PARAM_BLD_push_BN(parts, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
        OSSL_PARAM_BLD_push_uint32(parts, OSSL_PKEY_PARAM_RSA_E, exponent ? exponent : RSA_EXPONENT) == 1)
        key = make_key("RSA", parts);
    OSSL_PARAM_BLD_free(parts);
    BN_free(n);
    return key;
}

static int append_coordinate(struct buffer *point, const TPM2B_ECC_PARAMETER *coordinate, size_t size)
{
    if (coordinate->size > size)
        return 0;
    buffer_extend(point, size - coordinate->size);
    buffer_append(point, coordinate->buffer, coordinate->size);
    return 1;
}

static EVP_PKEY *ecc_key(const TPMT_PUBLIC *area)
{
    int is_p384 = area->parameters.eccDetail.curveID == TPM2_ECC_NIST_P384;
    size_t size = is_p384 ? 48 : 32;
    struct buffer point = {0};
    OSSL_PARAM_BLD *parts = OSSL_PARAM_BLD_new();
    EVP_PKEY *key = NULL;
    buffer_append_byte(&point, 0x04);
    if ((is_p384 || area->parameters.eccDetail.curveID == TPM2_ECC_NIST_P256) &&
        append_coordinate(&point, &area->unique.ecc.x, size) && append_coordinate(&point, &area->unique.ecc.y, size) &&
        point.error.code == BULLA_OK && parts &&
        OSSL_PARAM_BLD_push_utf8_string(parts, OSSL_PKEY_PARAM_GROUP_NAME, is_p384 ? "P-384" : "P-256", 0) == 1 &&
        OSSL_PARAM_BLD_push_octet_string(parts, OSSL_PKEY_PARAM_PUB_KEY, point.data, point.length) == 1)
        key = make_key("EC", parts);
    OSSL_PARAM_BLD_free(parts);
    buffer_free(&point);
    return key;
}

static int write_pem(EVP_PKEY *key, struct buffer *pem)
{
    BIO *out = BIO_new(BIO_s_mem());
    char *text;
    int is_written = out && PEM_write_bio_PUBKEY(out, key) == 1;
    long length = is_written ? BIO_get_mem_data(out, &text) : 0;
    if (length > 0)
        buffer_append(pem, text, (size_t)length);
    BIO_free(out);
    return length > 0;
}

int tpm_key_describe(ESYS_CONTEXT *esys, ESYS_TR key, struct buffer *public_area, struct buffer *pem, bulla_error *error)
{
    TPM2B_PUBLIC *read = NULL;
    uint8_t bytes[sizeof(TPMT_PUBLIC)];
    size_t length = 0;
    int code = tpm_result(Esys_ReadPublic(esys, key, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &read, NULL, NULL),
                          "reading the attestation key", error);
    if (code == BULLA_OK)
        code = tpm_result(Tss2_MU_TPMT_PUBLIC_Marshal(&read->publicArea, bytes, sizeof bytes, &length),
                          "encoding the attestation key", error);
    EVP_PKEY *made = NULL;
    if (code == BULLA_OK) {
        buffer_append(public_area, bytes, length);
        made = read->publicArea.type == TPM2_ALG_RSA   ? rsa_key(&read->publicArea)
               : read->publicArea.type == TPM2_ALG_ECC ? ecc_key(&read->publicArea)
                                                       : NULL;
        if (!made || !write_pem(made, pem))
            code = bulla_fail(error, BULLA_E_UNSUPPORTED,
                              "the TPM's attestation key is of a kind that no verifier takes; expected RSA, P-256 or P-384");
    }
    EVP_PKEY_free(made);
    Esys_Free(read);
    return code;
}

/* ---- What certifies it ---- */

/* By the index's own authorisation, or where it does not allow that by the owner's. */
static TSS2_RC read_part(ESYS_CONTEXT *esys, ESYS_TR index, uint16_t size, uint16_t offset, TPM2B_MAX_NV_BUFFER **part)
{
    TSS2_RC result = Esys_NV_Read(esys, index, index, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, size, offset, part);
    if (result == TSS2_RC_SUCCESS)
        return result;
    return Esys_NV_Read(esys, ESYS_TR_RH_OWNER, index, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, size, offset, part);
}

/* The length that DER's head says, head included; 0 where it is no SEQUENCE of a certificate's size. */
static size_t der_length(const struct buffer *der)
{
    const uint8_t *bytes = der->data;
    size_t length = der->length >= 4 && bytes[0] == 0x30 && bytes[1] == 0x82 ? (size_t)(bytes[2] << 8 | bytes[3]) + 4 : 0;
    return length <= der->length ? length : 0;
}

int tpm_read_certificate(ESYS_CONTEXT *esys, TPM2_HANDLE handle, struct buffer *der, bulla_error *error)
{
    static const char what[] = "reading the certificate of --tpm-certificate";
    ESYS_TR index = ESYS_TR_NONE;
    TPM2B_NV_PUBLIC *about = NULL;
    int code = tpm_result(Esys_TR_FromTPMPublic(esys, handle, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &index), what, error);
    if (code != BULLA_OK)
        return code;
    code = tpm_result(Esys_NV_ReadPublic(esys, index, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &about, NULL), what, error);
    size_t size = code == BULLA_OK ? about->nvPublic.dataSize : 0;
    Esys_Free(about);
    if (code == BULLA_OK && size > MOST_CERTIFICATE)
        code = bulla_fail(error, BULLA_E_LIMIT, "the TPM: index 0x%x holds %zu bytes, more than a certificate has", handle, size);
    while (code == BULLA_OK && der->length < size && der->error.code == BULLA_OK) {
        TPM2B_MAX_NV_BUFFER *part = NULL;
        size_t left = size - der->length;
        code = tpm_result(read_part(esys, index, (uint16_t)(left < READ_BYTES ? left : READ_BYTES), (uint16_t)der->length, &part),
                          what, error);
        if (code == BULLA_OK && part->size == 0)
            code = bulla_fail(error, BULLA_E_IO, "the TPM: index 0x%x gives no bytes", handle);
        if (code == BULLA_OK)
            buffer_append(der, part->buffer, part->size);
        Esys_Free(part);
    }
    Esys_TR_Close(esys, &index);
    if (code == BULLA_OK && der_length(der) == 0)
        code = bulla_fail(error, BULLA_E_INPUT, "the TPM: index 0x%x holds no certificate in DER", handle);
    if (code == BULLA_OK)
        buffer_cut(der, der_length(der));
    return code;
}
