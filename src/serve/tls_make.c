#define _GNU_SOURCE
#include "serve/tls_make.h"

#include <arpa/inet.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <string.h>

enum { YEARS_DAYS = 3652, SERIAL_BITS = 127, MOST_NAME = 253 };

int tls_fail(bulla_error *error, const char *what)
{
    unsigned long number = ERR_peek_error();
    const char *reason = number ? ERR_reason_error_string(number) : NULL;
    ERR_clear_error();
    return bulla_fail(error, BULLA_E_INPUT, "%s%s%s", what, reason ? ": " : "", reason ? reason : "");
}

/* A subject alternative name (RFC 5280 section 4.2.1.6): an address in four or sixteen bytes, or a host name. */
static GENERAL_NAME *read_name(const char *name)
{
    uint8_t address[16];
    size_t bytes = inet_pton(AF_INET, name, address) == 1 ? 4 : inet_pton(AF_INET6, name, address) == 1 ? 16 : 0;
    GENERAL_NAME *general = GENERAL_NAME_new();
    ASN1_STRING *text = bytes ? ASN1_OCTET_STRING_new() : ASN1_IA5STRING_new();
    if (!general || !text || ASN1_STRING_set(text, bytes ? (const void *)address : name,
                                             bytes ? (int)bytes : (int)strlen(name)) != 1) {
        GENERAL_NAME_free(general);
        ASN1_STRING_free(text);
        return NULL;
    }
    GENERAL_NAME_set0_value(general, bytes ? GEN_IPADD : GEN_DNS, text);
    return general;
}

/* Each name once. */
static int add_name(GENERAL_NAMES *names, const char *name)
{
    GENERAL_NAME *added = read_name(name);
    int is_there = 0;
    for (int i = 0; added && i < sk_GENERAL_NAME_num(names); i++)
        is_there |= GENERAL_NAME_cmp(sk_GENERAL_NAME_value(names, i), added) == 0;
    if (added && !is_there && sk_GENERAL_NAME_push(names, added) > 0)
        return 1;
    GENERAL_NAME_free(added);
    return is_there;
}

static int add_names(X509 *certificate, const char *const *names, size_t count, const X509 *before)
{
    GENERAL_NAMES *all = before ? X509_get_ext_d2i(before, NID_subject_alt_name, NULL, NULL) : NULL;
    if (!all)
        all = GENERAL_NAMES_new();
    int is_good = all && add_name(all, "localhost") && add_name(all, "127.0.0.1") && add_name(all, "::1");
    for (size_t i = 0; is_good && i < count; i++)
        is_good = add_name(all, names[i]);
    is_good = is_good && X509_add1_ext_i2d(certificate, NID_subject_alt_name, all, 0, X509V3_ADD_DEFAULT) == 1;
    GENERAL_NAMES_free(all);
    return is_good;
}

int tls_has_name(X509 *certificate, const char *name)
{
    uint8_t address[16];
    int is_address = inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1;
    return (is_address ? X509_check_ip_asc(certificate, name, 0) : X509_check_host(certificate, name, 0, 0, NULL)) == 1;
}

static int add_extension(X509 *certificate, int number, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx(&context, certificate, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, number, value);
    int is_good = extension && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return is_good;
}

static int set_serial(X509 *certificate)
{
    BIGNUM *serial = BN_new();
    int is_good = serial && BN_rand(serial, SERIAL_BITS, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
                  BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(certificate)) != NULL;
    BN_free(serial);
    return is_good;
}

/* No authority (CA:FALSE): clients that check a leaf strictly refuse one that is. Valid from a day ago, since clocks
 * differ. */
static int fill(X509 *certificate, EVP_PKEY *key)
{
    const unsigned char *common_name = (const unsigned char *)"Bulla server";
    X509_NAME *subject = X509_get_subject_name(certificate);
    return X509_set_version(certificate, X509_VERSION_3) == 1 && set_serial(certificate) &&
           X509_gmtime_adj(X509_getm_notBefore(certificate), -24 * 60 * 60) != NULL &&
           X509_time_adj_ex(X509_getm_notAfter(certificate), YEARS_DAYS, 0, NULL) != NULL &&
           X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, common_name, -1, -1, 0) == 1 &&
           X509_set_issuer_name(certificate, subject) == 1 && X509_set_pubkey(certificate, key) == 1 &&
           add_extension(certificate, NID_basic_constraints, "critical,CA:FALSE") &&
           add_extension(certificate, NID_key_usage, "critical,digitalSignature") &&
           add_extension(certificate, NID_ext_key_usage, "serverAuth") &&
           add_extension(certificate, NID_subject_key_identifier, "hash");
}

int tls_is_name(const char *name)
{
    uint8_t address[16];
    if (inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1)
        return 1;
    size_t length = strlen(name);
    return length > 0 && length <= MOST_NAME &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.") == length;
}

static int check_name(const char *name, bulla_error *error)
{
    if (tls_is_name(name))
        return BULLA_OK;
    return bulla_fail(error, BULLA_E_USAGE,
                      "\"%s\" cannot be a certificate's name: expected a host name (letters, digits, '-', '.') or an "
                      "address", name);
}

static int take_memory(BIO *bio, struct buffer *out)
{
    char *data;
    long length = BIO_get_mem_data(bio, &data);
    if (length > 0)
        buffer_append(out, data, (size_t)length);
    return length > 0;
}

static int put_extension(X509 *certificate, const char *oid, const void *content, size_t length)
{
    ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
    ASN1_OCTET_STRING *bytes = ASN1_OCTET_STRING_new();
    X509_EXTENSION *extension = NULL;
    if (object && bytes && ASN1_OCTET_STRING_set(bytes, content, (int)length) == 1)
        extension = X509_EXTENSION_create_by_OBJ(NULL, object, 0, bytes);
    for (int at; object && (at = X509_get_ext_by_OBJ(certificate, object, -1)) >= 0;)
        X509_EXTENSION_free(X509_delete_ext(certificate, at));
    int is_good = extension && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    ASN1_OCTET_STRING_free(bytes);
    ASN1_OBJECT_free(object);
    return is_good;
}

X509 *tls_extend(X509 *certificate, EVP_PKEY *key, const char *oid, const void *content, size_t length, bulla_error *error)
{
    X509 *made = X509_dup(certificate);
    if (made && put_extension(made, oid, content, length) && set_serial(made) && X509_sign(made, key, EVP_sha256()) > 0)
        return made;
    X509_free(made);
    tls_fail(error, "OpenSSL could not put evidence into the certificate");
    return NULL;
}

int tls_make(const char *const *names, size_t count, const X509 *before, struct buffer *certificate, struct buffer *key,
             bulla_error *error)
{
    int code = BULLA_OK;
    for (size_t i = 0; code == BULLA_OK && i < count; i++)
        code = check_name(names[i], error);
    if (code != BULLA_OK)
        return code;
    EVP_PKEY *pair = EVP_EC_gen("P-256");
    X509 *made = X509_new();
    BIO *certificate_text = BIO_new(BIO_s_mem()), *key_text = BIO_new(BIO_s_secmem());
    if (!pair || !made || !certificate_text || !key_text || !fill(made, pair) ||
        !add_names(made, names, count, before) || X509_sign(made, pair, EVP_sha256()) <= 0 ||
        PEM_write_bio_X509(certificate_text, made) != 1 ||
        PEM_write_bio_PrivateKey(key_text, pair, NULL, NULL, 0, NULL, NULL) != 1 ||
        !take_memory(certificate_text, certificate) || !take_memory(key_text, key))
        code = tls_fail(error, "OpenSSL could not make a certificate");
    else if (certificate->error.code != BULLA_OK || key->error.code != BULLA_OK)
        code = bulla_fail(error, BULLA_E_MEMORY, "out of memory for a certificate");
    BIO_free(key_text);
    BIO_free(certificate_text);
    X509_free(made);
    EVP_PKEY_free(pair);
    return code;
}
