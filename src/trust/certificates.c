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

enum { LONGEST_BYTES = 1 << 20, AUTH_LEVEL = 2 /* 112 bits: RSA from 2048, no SHA-1 */ };

static const char pem_begin[] = "-----BEGIN ";

void certificates_free(struct certificates *certificates)
{
    for (size_t i = 0; i < certificates->count; i++)
        X509_free(certificates->list[i]);
    *certificates = (struct certificates){0};
}

void revocation_lists_free(struct revocation_lists *lists)
{
    for (size_t i = 0; i < lists->count; i++)
        X509_CRL_free(lists->list[i]);
    *lists = (struct revocation_lists){0};
}

/* A reader of one kind of thing: certificates or revocation lists. */
struct kind {
    const char *name, *pem_name;
    size_t most;
    int (*add)(void *list, const uint8_t *bytes, size_t length); /* DER, all of it; 0: malformed */
    size_t (*count)(const void *list);
};

static int add_certificate(void *list, const uint8_t *bytes, size_t length)
{
    struct certificates *certificates = list;
    const uint8_t *at = bytes;
    X509 *certificate = d2i_X509(NULL, &at, (long)length);
    if (!certificate || at != bytes + length) {
        X509_free(certificate);
        return 0;
    }
    certificates->list[certificates->count++] = certificate;
    return 1;
}

static size_t count_certificates(const void *list)
{
    return ((const struct certificates *)list)->count;
}

static int add_revocation_list(void *list, const uint8_t *bytes, size_t length)
{
    struct revocation_lists *lists = list;
    const uint8_t *at = bytes;
    X509_CRL *crl = d2i_X509_CRL(NULL, &at, (long)length);
    if (!crl || at != bytes + length) {
        X509_CRL_free(crl);
        return 0;
    }
    lists->list[lists->count++] = crl;
    return 1;
}

static size_t count_revocation_lists(const void *list)
{
    return ((const struct revocation_lists *)list)->count;
}

static const struct kind certificate_kind = {"certificate", PEM_STRING_X509, MOST_CERTIFICATES, add_certificate,
                                             count_certificates};
static const struct kind revocation_kind = {"revocation list", PEM_STRING_X509_CRL, MOST_REVOCATION_LISTS,
                                            add_revocation_list, count_revocation_lists};

static int add_der(const struct kind *kind, void *list, const uint8_t *bytes, size_t length, bulla_error *error)
{
    if (kind->count(list) == kind->most)
        return bulla_fail(error, BULLA_E_LIMIT, "more than %zu %ss", kind->most, kind->name);
    int is_read = kind->add(list, bytes, length);
    ERR_clear_error();
    return is_read ? BULLA_OK : bulla_fail(error, BULLA_E_INPUT, "%s %zu is malformed", kind->name, kind->count(list) + 1);
}

static int add_pem(const struct kind *kind, void *list, const uint8_t *bytes, size_t length, bulla_error *error)
{
    int code = BULLA_OK;
    size_t before = kind->count(list);
    BIO *in = BIO_new_mem_buf(bytes, (int)length);
    char *name = NULL, *header = NULL;
    unsigned char *der = NULL;
    long der_length;
    ERR_clear_error();
    while (in && code == BULLA_OK && PEM_read_bio(in, &name, &header, &der, &der_length)) {
        if (strcmp(name, kind->pem_name) != 0)
            code = bulla_fail(error, BULLA_E_INPUT, "a PEM block is a %.40s, expected a %s", name, kind->pem_name);
        else
            code = add_der(kind, list, der, (size_t)der_length, error);
        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_free(der);
    }
    int is_read = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE; /* nothing else was begun */
    BIO_free(in);
    ERR_clear_error();
    if (code == BULLA_OK && in && !is_read)
        return bulla_fail(error, BULLA_E_INPUT, "%s %zu is malformed", kind->name, kind->count(list) + 1);
    if (!in)
        return bulla_fail(error, BULLA_E_MEMORY, "out of memory");
    if (code == BULLA_OK && kind->count(list) == before)
        return bulla_fail(error, BULLA_E_INPUT, "no %s could be read", kind->name);
    return code;
}

static int add_bytes(const struct kind *kind, void *list, const uint8_t *bytes, size_t length, bulla_error *error)
{
    if (length > LONGEST_BYTES)
        return bulla_fail(error, BULLA_E_LIMIT, "%zu bytes of %ss, at most %d are taken", length, kind->name, LONGEST_BYTES);
    if (length >= sizeof pem_begin - 1 && memcmp(bytes, pem_begin, sizeof pem_begin - 1) == 0)
        return add_pem(kind, list, bytes, length, error);
    return add_der(kind, list, bytes, length, error);
}

static int add_json(const struct kind *kind, void *list, const struct json *value, bulla_error *error)
{
    if (json_is(value, JSON_ARRAY)) {
        int code = BULLA_OK;
        for (size_t i = 0; i < value->length && code == BULLA_OK; i++)
            code = json_is(value->items[i], JSON_STRING)
                       ? add_json(kind, list, value->items[i], error)
                       : bulla_fail(error, BULLA_E_INPUT, "item %zu of the %ss is not a string", i, kind->name);
        return code;
    }
    if (!json_is(value, JSON_STRING))
        return bulla_fail(error, BULLA_E_INPUT, "the %ss are not there; expected a string (PEM, or DER in base64) or a list "
                          "of such", kind->name);
    if (strncmp(value->text, pem_begin, sizeof pem_begin - 1) == 0)
        return add_bytes(kind, list, (const uint8_t *)value->text, value->length, error);
    uint8_t *der = memory_alloc(base64_most(value->length) + 1, 1, error);
    size_t length;
    if (!der)
        return BULLA_E_MEMORY;
    int code = base64_decode(value->text, value->length, der, &length)
                   ? add_bytes(kind, list, der, length, error)
                   : bulla_fail(error, BULLA_E_INPUT, "%s %zu is neither PEM nor base64", kind->name, kind->count(list) + 1);
    memory_free(der);
    return code;
}

int certificates_add(struct certificates *certificates, const uint8_t *bytes, size_t length, bulla_error *error)
{
    return add_bytes(&certificate_kind, certificates, bytes, length, error);
}

int certificates_add_json(struct certificates *certificates, const struct json *value, bulla_error *error)
{
    return add_json(&certificate_kind, certificates, value, error);
}

int revocation_lists_add(struct revocation_lists *lists, const uint8_t *bytes, size_t length, bulla_error *error)
{
    return add_bytes(&revocation_kind, lists, bytes, length, error);
}

int revocation_lists_add_json(struct revocation_lists *lists, const struct json *value, bulla_error *error)
{
    return add_json(&revocation_kind, lists, value, error);
}

/* ---- Verification ---- */

/* Lists that are there judge; a certificate that none covers is passed over where REVOCATION_GIVEN. */
static int pass_uncovered(int is_good, X509_STORE_CTX *context)
{
    if (is_good || X509_STORE_CTX_get_error(context) != X509_V_ERR_UNABLE_TO_GET_CRL)
        return is_good;
    X509_STORE_CTX_set_error(context, X509_V_OK);
    return 1;
}

/* libcrypto's path validation with the last certificate as the only trusted one; NULL where it holds, else why not. */
static const char *path_problem(const struct certificates *chain, const struct revocation_lists *lists,
                                enum revocation revocation, int64_t time)
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
    for (size_t i = 0; i < lists->count; i++)
        if (!sk_X509_CRL_push(crls, lists->list[i]))
            goto Exit;
    X509_STORE_CTX_set0_trusted_stack(context, trusted);
    X509_STORE_CTX_set0_crls(context, crls);
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(context);
    X509_VERIFY_PARAM_set_time(param, (time_t)time);
    X509_VERIFY_PARAM_set_auth_level(param, AUTH_LEVEL);
    X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_CHECK_SS_SIGNATURE);
    if (revocation != REVOCATION_NONE)
        X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    if (revocation == REVOCATION_GIVEN)
        X509_STORE_CTX_set_verify_cb(context, pass_uncovered);
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

int certificates_verify(const struct certificates *chain, const struct revocation_lists *lists, enum revocation revocation,
                        const char *vendor, int64_t time, const struct chain_names *names, struct verdict *verdict)
{
    static const struct revocation_lists no_lists;
    uint8_t sha256[32];
    if (chain->count < 2)
        return verdict_fails(verdict, names->chain, "%zu certificates, where leaf and root at least are needed", chain->count);
    X509 *last = chain->list[chain->count - 1];
    const char *problem = path_problem(chain, lists ? lists : &no_lists, revocation, time);
    int holds = verdict_holds(verdict, names->chain, !problem, "a valid chain to the vendor's root at that time", "%s",
                              problem ? problem : certificate_subject(chain->list[0], verdict));
    if (!X509_digest(last, EVP_sha256(), sha256, NULL))
        return verdict_fails(verdict, names->root, "the root cannot be hashed");
    const struct root *root = root_find(vendor, sha256);
    char hex[65];
    hex_encode(sha256, sizeof sha256, hex);
    return verdict_holds(verdict, names->root, root != NULL, "a pinned root of the vendor", "%s, SHA-256 %s",
                         root ? root->name : certificate_subject(last, verdict), hex) && holds;
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
