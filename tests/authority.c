#include "authority.h"

#include "test.h"

#include <openssl/bn.h>
#include <openssl/ecdsa.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "trust_roots.h"

enum { START_2020 = 1577836800 };
static const int64_t start_2040 = 2208988800;

EVP_PKEY *authority_key(const char *kind)
{
    EVP_PKEY *key = NULL;
    if (strncmp(kind, "RSA-", 4) == 0)
        key = EVP_RSA_gen((unsigned)atoi(kind + 4));
    else if (strcmp(kind, "Ed25519") == 0)
        key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    else
        key = EVP_EC_gen(kind);
    assert_non_null(key);
    return key;
}

static void set_time(ASN1_TIME *time, int64_t seconds)
{
    assert_non_null(ASN1_TIME_set(time, (time_t)seconds));
}

static const EVP_MD *digest_of(EVP_PKEY *key, const char *named)
{
    if (named)
        return EVP_get_digestbyname(named);
    if (EVP_PKEY_is_a(key, "ED25519"))
        return NULL;
    return EVP_PKEY_is_a(key, "EC") && EVP_PKEY_get_bits(key) == 256 ? EVP_sha256() : EVP_sha384();
}

static void add_extension(X509 *made, X509V3_CTX *context, const char *name, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf(NULL, context, name, value);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(made, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

static void add_raw_extension(X509 *made, const struct authority_extension *wanted)
{
    ASN1_OBJECT *object = OBJ_txt2obj(wanted->oid, 1);
    ASN1_OCTET_STRING *content = ASN1_OCTET_STRING_new();
    assert_true(object && content && ASN1_OCTET_STRING_set(content, wanted->content, (int)wanted->length) == 1);
    X509_EXTENSION *extension = X509_EXTENSION_create_by_OBJ(NULL, object, wanted->is_critical, content);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(made, extension, -1), 1);
    X509_EXTENSION_free(extension);
    ASN1_OCTET_STRING_free(content);
    ASN1_OBJECT_free(object);
}

X509 *authority_issue(const struct authority_certificate *wanted)
{
    static int64_t next_serial = 1000;
    X509 *made = X509_new(), *issuer = wanted->issuer ? wanted->issuer : made;
    EVP_PKEY *signer = wanted->issuer_key ? wanted->issuer_key : wanted->key;
    assert_non_null(made);
    X509_set_version(made, X509_VERSION_3);
    ASN1_INTEGER_set_int64(X509_get_serialNumber(made), wanted->serial ? wanted->serial : next_serial++);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(made), "CN", MBSTRING_UTF8, (const uint8_t *)wanted->name, -1, -1, 0);
    X509_set_issuer_name(made, X509_get_subject_name(issuer));
    set_time(X509_getm_notBefore(made), wanted->from ? wanted->from : START_2020);
    set_time(X509_getm_notAfter(made), wanted->until ? wanted->until : start_2040);
    assert_int_equal(X509_set_pubkey(made, wanted->key), 1);
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, made, NULL, NULL, 0);
    const char *constraints = wanted->constraints ? wanted->constraints
                              : wanted->is_authority ? "critical,CA:TRUE" : "critical,CA:FALSE";
    const char *usage = wanted->usage ? wanted->usage : wanted->is_authority ? "critical,keyCertSign,cRLSign" : "";
    if (constraints[0])
        add_extension(made, &context, "basicConstraints", constraints);
    if (usage[0])
        add_extension(made, &context, "keyUsage", usage);
    for (size_t i = 0; i < wanted->extension_count; i++)
        add_raw_extension(made, &wanted->extensions[i]);
    EVP_MD_CTX *signing = EVP_MD_CTX_new();
    EVP_PKEY_CTX *parameters;
    assert_int_equal(EVP_DigestSignInit(signing, &parameters, digest_of(signer, wanted->digest), NULL, signer), 1);
    if (wanted->signs_with_pss) {
        assert_true(EVP_PKEY_CTX_set_rsa_padding(parameters, RSA_PKCS1_PSS_PADDING) > 0);
        assert_true(EVP_PKEY_CTX_set_rsa_pss_saltlen(parameters, RSA_PSS_SALTLEN_DIGEST) > 0);
    }
    assert_true(X509_sign_ctx(made, signing) > 0);
    EVP_MD_CTX_free(signing);
    return made;
}

X509_CRL *authority_revoke(X509 *issuer, EVP_PKEY *issuer_key, int64_t from, int64_t until, const int64_t *serials,
                           size_t count)
{
    X509_CRL *list = X509_CRL_new();
    ASN1_TIME *time = ASN1_TIME_new();
    assert_true(list && time);
    X509_CRL_set_version(list, X509_CRL_VERSION_2);
    X509_CRL_set_issuer_name(list, X509_get_subject_name(issuer));
    set_time(time, from ? from : START_2020);
    X509_CRL_set1_lastUpdate(list, time);
    for (size_t i = 0; i < count; i++) {
        X509_REVOKED *revoked = X509_REVOKED_new();
        ASN1_INTEGER *serial = ASN1_INTEGER_new();
        ASN1_INTEGER_set_int64(serial, serials[i]);
        X509_REVOKED_set_serialNumber(revoked, serial);
        X509_REVOKED_set_revocationDate(revoked, time);
        X509_CRL_add0_revoked(list, revoked);
        ASN1_INTEGER_free(serial);
    }
    set_time(time, until ? until : start_2040);
    X509_CRL_set1_nextUpdate(list, time);
    ASN1_TIME_free(time);
    assert_true(X509_CRL_sign(list, issuer_key, digest_of(issuer_key, NULL)) > 0);
    return list;
}

void authority_trust(const char *vendor, X509 *root)
{
    uint8_t sha256[32];
    assert_int_equal(X509_digest(root, EVP_sha256(), sha256, NULL), 1);
    test_root_add(vendor, sha256);
}

static void append_memory(struct buffer *out, BIO *memory)
{
    char *bytes;
    long length = BIO_get_mem_data(memory, &bytes);
    buffer_append(out, bytes, (size_t)length);
    BIO_free(memory);
}

void authority_write_pem(struct buffer *out, X509 *certificate)
{
    BIO *memory = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_X509(memory, certificate), 1);
    append_memory(out, memory);
}

void authority_write_crl_pem(struct buffer *out, X509_CRL *list)
{
    BIO *memory = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_X509_CRL(memory, list), 1);
    append_memory(out, memory);
}

void authority_write_der(struct buffer *out, X509 *certificate)
{
    BIO *memory = BIO_new(BIO_s_mem());
    assert_int_equal(i2d_X509_bio(memory, certificate), 1);
    append_memory(out, memory);
}

void authority_write_crl_der(struct buffer *out, X509_CRL *list)
{
    BIO *memory = BIO_new(BIO_s_mem());
    assert_int_equal(i2d_X509_CRL_bio(memory, list), 1);
    append_memory(out, memory);
}

void authority_sign(EVP_PKEY *key, const char *digest, const void *data, size_t length, uint8_t *signature,
                    size_t *signature_length)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestSignInit_ex(context, NULL, digest, NULL, NULL, key, NULL), 1);
    assert_int_equal(EVP_DigestSign(context, signature, signature_length, data, length), 1);
    EVP_MD_CTX_free(context);
}

void authority_sign_raw(EVP_PKEY *key, const char *digest, const void *data, size_t length, uint8_t *r_and_s, size_t size)
{
    uint8_t der[160];
    size_t der_length = sizeof der;
    const uint8_t *at = der;
    authority_sign(key, digest, data, length, der, &der_length);
    ECDSA_SIG *numbers = d2i_ECDSA_SIG(NULL, &at, (long)der_length);
    assert_non_null(numbers);
    assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_r(numbers), r_and_s, (int)size), size);
    assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_s(numbers), r_and_s + size, (int)size), size);
    ECDSA_SIG_free(numbers);
}
