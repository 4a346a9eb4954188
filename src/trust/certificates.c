#include "trust/certificates.h"

#include <limits.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "base/memory.h"
#include "trust/roots.h"
#include "trust/signature.h"

enum { LONGEST_BYTES = 1 << 20, AUTH_LEVEL = 2 /* 112 bits: RSA from 2048, no SHA-1 */ };

static const char pem_begin[] = "-----BEGIN ";

static const char *const kind_names[] = {[CERTIFICATE] = "certificate", [REVOCATION_LIST] = "revocation list"},
                  *const pem_names[] = {[CERTIFICATE] = PEM_STRING_X509, [REVOCATION_LIST] = PEM_STRING_X509_CRL};

void certificates_free(struct certificates *certificates)
{
    for (size_t i = 0; i < certificates->count; i++)
        X509_free(certificates->list[i]);
    for (size_t i = 0; i < certificates->crl_count; i++)
        X509_CRL_free(certificates->crls[i]);
    *certificates = (struct certificates){0};
}

static size_t count_of(const struct certificates *certificates, enum certificate_kind kind)
{
    return kind == CERTIFICATE ? certificates->count : certificates->crl_count;
}

static int malformed(const struct certificates *certificates, enum certificate_kind kind, bulla_error *error)
{
    return bulla_fail(error, BULLA_E_INPUT, "%s %zu is malformed", kind_names[kind], count_of(certificates, kind) + 1);
}

static int add_der(struct certificates *certificates, enum certificate_kind kind, const uint8_t *bytes, size_t length,
                   bulla_error *error)
{
    const uint8_t *at = bytes;
    X509 *certificate = NULL;
    X509_CRL *crl = NULL;
    if (count_of(certificates, kind) == MOST_CERTIFICATES)
        return bulla_fail(error, BULLA_E_LIMIT, "more than %d %ss", MOST_CERTIFICATES, kind_names[kind]);
    if (kind == CERTIFICATE)
        certificate = d2i_X509(NULL, &at, (long)length);
    else
        crl = d2i_X509_CRL(NULL, &at, (long)length);
    ERR_clear_error();
    if ((!certificate && !crl) || at != bytes + length) {
        X509_free(certificate);
        X509_CRL_free(crl);
        return malformed(certificates, kind, error);
    }
    if (certificate)
        certificates->list[certificates->count++] = certificate;
    else
        certificates->crls[certificates->crl_count++] = crl;
    return BULLA_OK;
}

static int add_pem(struct certificates *certificates, enum certificate_kind kind, const uint8_t *bytes, size_t length,
                   bulla_error *error)
{
    int code = BULLA_OK, blocks = 0;
    BIO *in = BIO_new_mem_buf(bytes, (int)length);
    char *name = NULL, *header = NULL;
    unsigned char *der = NULL;
    long der_length;
    ERR_clear_error();
    while (in && code == BULLA_OK && PEM_read_bio(in, &name, &header, &der, &der_length)) {
        if (strcmp(name, pem_names[kind]) != 0)
            code = bulla_fail(error, BULLA_E_INPUT, "a PEM block is a %.40s, expected a %s", name, kind_names[kind]);
        else
            code = add_der(certificates, kind, der, (size_t)der_length, error);
        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_free(der);
        blocks++;
    }
    int is_read = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE; /* nothing else was begun */
    BIO_free(in);
    ERR_clear_error();
    if (!in)
        return bulla_fail(error, BULLA_E_MEMORY, "out of memory");
    return code == BULLA_OK && (!is_read || blocks == 0) ? malformed(certificates, kind, error) : code;
}

int certificates_add(struct certificates *certificates, enum certificate_kind kind, const uint8_t *bytes, size_t length,
                     bulla_error *error)
{
    if (length > LONGEST_BYTES)
        return bulla_fail(error, BULLA_E_LIMIT, "%zu bytes of %ss, at most %d are taken", length, kind_names[kind],
                          LONGEST_BYTES);
    while (length > 0 && (*bytes == ' ' || *bytes == '\n' || *bytes == '\r' || *bytes == '\t')) { /* before PEM; DER has none */
        bytes++;
        length--;
    }
    int is_pem = length >= sizeof pem_begin - 1 && memcmp(bytes, pem_begin, sizeof pem_begin - 1) == 0;
    return (is_pem ? add_pem : add_der)(certificates, kind, bytes, length, error);
}

int certificates_add_json(struct certificates *certificates, enum certificate_kind kind, const struct json *value,
                          bulla_error *error)
{
    int code = BULLA_OK;
    for (size_t i = 0; json_is(value, JSON_ARRAY) && i < value->length && code == BULLA_OK; i++)
        code = json_is(value->items[i], JSON_STRING)
                   ? certificates_add_json(certificates, kind, value->items[i], error)
                   : bulla_fail(error, BULLA_E_INPUT, "item %zu of the %ss is not a string", i, kind_names[kind]);
    if (json_is(value, JSON_ARRAY))
        return code;
    if (!json_is(value, JSON_STRING))
        return bulla_fail(error, BULLA_E_INPUT, "the %ss are not there; expected a string (PEM, or DER in base64) or a list "
                          "of such", kind_names[kind]);
    if (strncmp(value->text, pem_begin, sizeof pem_begin - 1) == 0)
        return certificates_add(certificates, kind, (const uint8_t *)value->text, value->length, error);
    uint8_t *der = memory_alloc(base64_most(value->length) + 1, 1, error);
    size_t length;
    if (!der)
        return BULLA_E_MEMORY;
    code = base64_decode(value->text, value->length, der, &length)
               ? certificates_add(certificates, kind, der, length, error)
               : bulla_fail(error, BULLA_E_INPUT, "%s %zu is neither PEM nor base64", kind_names[kind],
                            count_of(certificates, kind) + 1);
    memory_free(der);
    return code;
}

/* ---- Verification ---- */

/* Lists that are there judge; a certificate that none covers is passed over where REVOCATION_GIVEN. */
static int pass_uncovered(int is_good, X509_STORE_CTX *context)
{
    if (is_good || X509_STORE_CTX_get_error(context) != X509_V_ERR_UNABLE_TO_GET_CRL)
        return is_good;
    X509_STORE_CTX_set_error(context, X509_V_OK);
    ++*(size_t *)X509_STORE_CTX_get_app_data(context);
    return 1;
}

/* libcrypto's path validation with the last certificate as the only trusted one; NULL where it holds, else why not.
 * *uncovered: how many certificates no list judged. */
static const char *path_problem(const struct certificates *chain, const struct certificates *lists,
                                enum revocation revocation, int64_t time, size_t *uncovered)
{
    const char *problem = "out of memory";
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *context = X509_STORE_CTX_new();
    STACK_OF(X509) *trusted = sk_X509_new_null(), *between = sk_X509_new_null();
    STACK_OF(X509_CRL) *crls = sk_X509_CRL_new_null();
    if (!store || !context || !trusted || !between || !crls || !X509_STORE_CTX_init(context, store, chain->list[0], between))
        goto Exit;
    if (!sk_X509_push(trusted, chain->list[chain->count - 1]))
        goto Exit;
    for (size_t i = 1; i + 1 < chain->count; i++)
        if (!sk_X509_push(between, chain->list[i]))
            goto Exit;
    for (size_t i = 0; i < lists->crl_count; i++)
        if (!sk_X509_CRL_push(crls, lists->crls[i]))
            goto Exit;
    X509_STORE_CTX_set0_trusted_stack(context, trusted);
    X509_STORE_CTX_set0_crls(context, crls);
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(context);
    X509_VERIFY_PARAM_set_time(param, (time_t)time);
    X509_VERIFY_PARAM_set_auth_level(param, AUTH_LEVEL);
    X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_CHECK_SS_SIGNATURE);
    if (revocation != REVOCATION_NONE)
        X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    if (revocation == REVOCATION_GIVEN) {
        X509_STORE_CTX_set_app_data(context, uncovered);
        X509_STORE_CTX_set_verify_cb(context, pass_uncovered);
    }
    if (X509_verify_cert(context) != 1) {
        problem = X509_verify_cert_error_string(X509_STORE_CTX_get_error(context));
        goto Exit;
    }
    /* The chain that was found is the one that was given. */
    STACK_OF(X509) *found = X509_STORE_CTX_get0_chain(context);
    problem = (size_t)sk_X509_num(found) != chain->count ? "a certificate is not part of the chain" : NULL;
    for (size_t i = 0; i < chain->count && !problem; i++)
        if (X509_cmp(sk_X509_value(found, (int)i), chain->list[i]) != 0)
            problem = "the certificates are not in order, leaf first";
Exit:
    X509_STORE_CTX_free(context);
    X509_STORE_free(store);
    sk_X509_free(trusted);
    sk_X509_free(between);
    sk_X509_CRL_free(crls);
    ERR_clear_error();
    return problem;
}

int certificates_verify(const struct certificates *chain, const struct certificates *lists, const struct chain_rules *rules,
                        int64_t time, struct verdict *verdict)
{
    uint8_t sha256[32];
    char hex[65];
    if (chain->count < 2)
        return verdict_fails(verdict, rules->chain, "%zu certificates, where leaf and root at least are needed", chain->count);
    X509 *last = chain->list[chain->count - 1];
    size_t uncovered = 0;
    const char *problem = path_problem(chain, lists, rules->revocation, time, &uncovered);
    int holds = verdict_holds(verdict, rules->chain, !problem, "a valid chain to the vendor's root at that time", "%s",
                              problem ? problem : certificate_subject(chain->list[0], verdict));
    if (uncovered)
        verdict_not_made(verdict, rules->crls, "%zu certificates are covered by no revocation list that is there", uncovered);
    if (!X509_digest(last, EVP_sha256(), sha256, NULL))
        return verdict_fails(verdict, rules->root, "the root cannot be hashed");
    const struct root *root = root_find(rules->vendor, sha256);
    hex_encode(sha256, sizeof sha256, hex);
    return verdict_holds(verdict, rules->root, root != NULL, "a pinned root of the vendor", "%s, SHA-256 %s",
                         root ? root->name : certificate_subject(last, verdict), hex) && holds;
}

int certificate_check_p384(X509 *certificate, const char *key_check, const char *signature_check, const void *data,
                           size_t length, const uint8_t *numbers, struct verdict *verdict)
{
    EVP_PKEY *key = X509_get0_pubkey(certificate);
    int is_on_curve = key && signature_key_is_on(key, "P-384");
    if (key_check)
        verdict_is(verdict, key_check, is_on_curve, "an EC key on P-384");
    return verdict_is(verdict, signature_check,
                      is_on_curve && signature_ecdsa_verify(key, "SHA384", data, length, numbers, 48),
                      "ECDSA P-384 with SHA-384 by the leaf's key");
}

const uint8_t *certificate_extension(X509 *certificate, const char *oid, size_t *length)
{
    const uint8_t *content = NULL;
    ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
    int at = object ? X509_get_ext_by_OBJ(certificate, object, -1) : -1;
    if (at >= 0 && X509_get_ext_by_OBJ(certificate, object, at) < 0) { /* one that comes twice is none */
        const ASN1_OCTET_STRING *data = X509_EXTENSION_get_data(X509_get_ext(certificate, at));
        content = ASN1_STRING_get0_data(data);
        *length = (size_t)ASN1_STRING_length(data);
    }
    ASN1_OBJECT_free(object);
    return content;
}

int certificate_is_named(X509 *certificate, const char *common_name)
{
    const X509_NAME *subject = X509_get_subject_name(certificate);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0) /* of two, neither counts */
        return 0;
    const ASN1_STRING *name = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));
    size_t length = (size_t)ASN1_STRING_length(name);
    return length == strlen(common_name) && memcmp(ASN1_STRING_get0_data(name), common_name, length) == 0;
}

const char *certificate_subject(X509 *certificate, struct verdict *verdict)
{
    const char *text = "?";
    char *bytes;
    BIO *out = BIO_new(BIO_s_mem());
    if (out && X509_NAME_print_ex(out, X509_get_subject_name(certificate), 0, XN_FLAG_ONELINE & ~ASN1_STRFLGS_ESC_MSB) >= 0) {
        long length = BIO_get_mem_data(out, &bytes);
        text = arena_copy_text(&verdict->arena, bytes, (size_t)length, &verdict->error);
    }
    BIO_free(out);
    return text;
}
