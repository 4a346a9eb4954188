#include "trust/signature.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <string.h>

enum { LONGEST_POINT = 2 * 66 };

/* `is_pss`: RSASSA-PSS with a salt of any length; else PKCS #1 v1.5, or not RSA. */
static int verify(EVP_PKEY *key, const char *digest, int is_pss, const void *data, size_t length, const uint8_t *signature,
                  size_t signature_length)
{
    EVP_PKEY_CTX *parameters;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    int is_right = context && EVP_DigestVerifyInit_ex(context, &parameters, digest, NULL, NULL, key, NULL) == 1;
    if (is_right && is_pss)
        is_right = EVP_PKEY_CTX_set_rsa_padding(parameters, RSA_PKCS1_PSS_PADDING) > 0 &&
                   EVP_PKEY_CTX_set_rsa_pss_saltlen(parameters, RSA_PSS_SALTLEN_AUTO) > 0;
    is_right = is_right && EVP_DigestVerify(context, signature, signature_length, data, length) == 1;
    EVP_MD_CTX_free(context);
    ERR_clear_error();
    return is_right;
}

int signature_verify(EVP_PKEY *key, const char *digest, const void *data, size_t length, const uint8_t *signature,
                     size_t signature_length)
{
    return verify(key, digest, 0, data, length, signature, signature_length);
}

int signature_rsa_pss_any_salt_verify(EVP_PKEY *key, const char *digest, const void *data, size_t length,
                                      const uint8_t *signature, size_t signature_length)
{
    return EVP_PKEY_is_a(key, "RSA") && verify(key, digest, 1, data, length, signature, signature_length);
}

int signature_ecdsa_verify(EVP_PKEY *key, const char *digest, const void *data, size_t length, const uint8_t *r_and_s,
                           size_t size)
{
    uint8_t *der = NULL;
    int is_right = 0;
    ECDSA_SIG *numbers = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(r_and_s, (int)size, NULL), *s = BN_bin2bn(r_and_s + size, (int)size, NULL);
    if (numbers && r && s && ECDSA_SIG_set0(numbers, r, s) == 1) {
        r = s = NULL; /* the signature's now */
        int der_length = i2d_ECDSA_SIG(numbers, &der);
        is_right = der_length > 0 && EVP_PKEY_is_a(key, "EC") &&
                   verify(key, digest, 0, data, length, der, (size_t)der_length);
    }
    OPENSSL_free(der);
    BN_free(r);
    BN_free(s);
    ECDSA_SIG_free(numbers);
    ERR_clear_error();
    return is_right;
}

EVP_PKEY *signature_key_from_point(const char *curve, const uint8_t *point, size_t length)
{
    uint8_t uncompressed[1 + LONGEST_POINT] = {4};
    EVP_PKEY *key = NULL;
    if (length == 0 || length > LONGEST_POINT)
        return NULL;
    memcpy(uncompressed + 1, point, length);
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char *)(uintptr_t)curve, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, uncompressed, length + 1),
        OSSL_PARAM_construct_end(),
    };
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    if (!context || EVP_PKEY_fromdata_init(context) != 1 ||
        EVP_PKEY_fromdata(context, &key, EVP_PKEY_PUBLIC_KEY, parameters) != 1)
        key = NULL;
    EVP_PKEY_CTX_free(context);
    ERR_clear_error();
    return key;
}

EVP_PKEY *signature_key_from_ed25519(const uint8_t key[32])
{
    EVP_PKEY *made = EVP_PKEY_new_raw_public_key_ex(NULL, "ED25519", NULL, key, 32);
    ERR_clear_error();
    return made;
}

int signature_key_is_on(EVP_PKEY *key, const char *curve)
{
    char name[64] = "";
    if (!EVP_PKEY_is_a(key, "EC") || EVP_PKEY_get_group_name(key, name, sizeof name, NULL) != 1)
        return 0;
    int is_same = OBJ_txt2nid(name) != NID_undef && OBJ_txt2nid(name) == EC_curve_nist2nid(curve);
    ERR_clear_error();
    return is_same;
}
