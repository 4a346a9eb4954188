#include "trust/ra_tls.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <string.h>

#include "base/hash.h"
#include "trust/certificates.h"

enum { FIRST_VERSION_WITH_TYPE = 4, TYPE_TDX = 0x81 };

int ra_tls_is_certificate(const char *bytes, size_t length)
{
    size_t blanks = 0;
    while (blanks < length && strchr(" \t\r\n", bytes[blanks]) && bytes[blanks])
        blanks++;
    static const char pem[] = "-----BEGIN CERTIFICATE-----";
    size_t left = length - blanks;
    return (left >= sizeof pem - 1 && memcmp(bytes + blanks, pem, sizeof pem - 1) == 0) ||
           (length > 1 && (uint8_t)bytes[0] == 0x30 && (uint8_t)bytes[1] > 0x80);
}

/* ---- Reading ---- */

static int read_certificate(const char *bytes, size_t length, struct ra_tls *ra_tls, struct verdict *verdict)
{
    struct certificates list = {0};
    bulla_error error = {0};
    unsigned char *key = NULL;
    int is_read = certificates_add(&list, CERTIFICATE, (const uint8_t *)bytes, length, &error) == BULLA_OK && list.count > 0;
    if (is_read) { /* a server's chain: the first is its own */
        ra_tls->certificate = list.list[0];
        X509_up_ref(list.list[0]);
    }
    certificates_free(&list);
    int key_length = is_read ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(ra_tls->certificate), &key) : 0;
    is_read = key_length > 0 && hash_sha256(key, (size_t)key_length, ra_tls->key, &verdict->error) == BULLA_OK;
    OPENSSL_free(key);
    ERR_clear_error();
    return verdict_holds(verdict, "ra_tls.certificate", is_read, "a certificate with a public key", "%s",
                         is_read ? certificate_subject(ra_tls->certificate, verdict) : error.text);
}

/* 60000([quote, claims]) */
static int take_tagged(struct ra_tls *ra_tls, const struct cbor *item)
{
    const struct cbor *pair = cbor_is(item, CBOR_TAG) && item->number == RA_TLS_QUOTE_TAG ? item->items : NULL;
    if (!cbor_is(pair, CBOR_ARRAY) || pair->length != 2 || !cbor_is(&pair->items[0], CBOR_BYTES) ||
        !cbor_is(&pair->items[1], CBOR_BYTES))
        return 0;
    ra_tls->form = RA_TLS_INTEROPERABLE;
    ra_tls->evidence = pair->items[0].bytes;
    ra_tls->evidence_length = pair->items[0].length;
    ra_tls->claims = pair->items[1].bytes;
    ra_tls->claims_length = pair->items[1].length;
    return 1;
}

/* [media type, document] */
static int take_wrapped(struct ra_tls *ra_tls, const struct cbor *item)
{
    if (!cbor_is(item, CBOR_ARRAY) || item->length != 2 || !cbor_is_text(&item->items[0], RA_TLS_MEDIA_TYPE) ||
        !cbor_is(&item->items[1], CBOR_BYTES))
        return 0;
    ra_tls->form = RA_TLS_DOCUMENT;
    ra_tls->evidence = item->items[1].bytes;
    ra_tls->evidence_length = item->items[1].length;
    return 1;
}

static int read_evidence(struct ra_tls *ra_tls, struct verdict *verdict)
{
    size_t length = 0;
    bulla_error error = {0};
    const uint8_t *bytes = certificate_extension(ra_tls->certificate, RA_TLS_OID, &length);
    if (bytes && length <= RA_TLS_MOST_BYTES) {
        const struct cbor *item = cbor_parse(bytes, length, &verdict->arena, &error);
        if (!take_tagged(ra_tls, item) && !take_wrapped(ra_tls, item))
            return verdict_fails(verdict, "ra_tls.evidence",
                                 "extension " RA_TLS_OID " is neither 60000([quote, claims]) nor a wrapped document%s%s",
                                 error.code ? ": " : "", error.text);
        return verdict_holds(verdict, "ra_tls.evidence", 1, "evidence in an extension", "%s",
                             ra_tls->form == RA_TLS_DOCUMENT ? "a document" : "interoperable RA-TLS, with a quote");
    }
    bytes = bytes ? NULL : certificate_extension(ra_tls->certificate, RA_TLS_GRAMINE_OID, &length);
    if (!bytes || length > RA_TLS_MOST_BYTES)
        return verdict_fails(verdict, "ra_tls.evidence", "the certificate has neither extension " RA_TLS_OID " nor Gramine's, "
                             "or one of them twice, or too long: it holds no evidence");
    ra_tls->form = RA_TLS_GRAMINE;
    ra_tls->evidence = bytes;
    ra_tls->evidence_length = length;
    return verdict_holds(verdict, "ra_tls.evidence", 1, "evidence in an extension", "%s", "Gramine's own form, with a quote");
}

int ra_tls_open(const char *bytes, size_t length, struct ra_tls *ra_tls, struct verdict *verdict)
{
    *ra_tls = (struct ra_tls){0};
    return read_certificate(bytes, length, ra_tls, verdict) && read_evidence(ra_tls, verdict);
}

void ra_tls_close(struct ra_tls *ra_tls)
{
    X509_free(ra_tls->certificate);
    *ra_tls = (struct ra_tls){0};
}

/* ---- As a document ---- */

/* A quote's head says from version 4 on what it is about; before that, there were only enclaves. */
static const char *type_of(const struct ra_tls *ra_tls)
{
    struct reader reader = reader_over(ra_tls->evidence, ra_tls->evidence_length);
    unsigned version = reader_u16(&reader);
    reader_u16(&reader);
    uint32_t type = reader_u32(&reader);
    return !reader.failed && version >= FIRST_VERSION_WITH_TYPE && type == TYPE_TDX ? "tdx" : "sgx";
}

void ra_tls_write_document(const struct ra_tls *ra_tls, const struct json *collateral, struct buffer *out)
{
    if (ra_tls->form == RA_TLS_DOCUMENT) {
        buffer_append(out, ra_tls->evidence, ra_tls->evidence_length);
        return;
    }
    buffer_append_format(out, "{\"bulla_evidence\":1,\"type\":\"%s\",\"quote\":\"", type_of(ra_tls));
    base64_append(out, ra_tls->evidence, ra_tls->evidence_length);
    buffer_append_byte(out, '"');
    for (size_t i = 0; collateral && i < collateral->length; i++) {
        buffer_append_byte(out, ',');
        json_write_string(out, collateral->keys[i], collateral->key_lengths[i]);
        buffer_append_byte(out, ':');
        json_write(out, collateral->items[i]);
    }
    buffer_append_byte(out, '}');
}

/* ---- Checks ---- */

/* Both halves of the report data: a SHA-256, and zeros. */
static void check_report_data(const struct evidence *evidence, const uint8_t hash[BINDING_BYTES])
{
    const struct claim *claim = evidence_claim(evidence, "report_data");
    uint8_t expected[REPORT_DATA_BYTES] = {0};
    memcpy(expected, hash, BINDING_BYTES);
    verdict_same_bytes(evidence->verdict, "ra_tls.report_data", claim ? claim->bytes : NULL, claim ? claim->length : 0,
                       expected, sizeof expected);
}

/* The hash of the certificate's key by that algorithm (IANA's "Named Information Hash Algorithm Registry"); its length, or 0. */
static size_t hash_key(const struct ra_tls *ra_tls, uint64_t algorithm, uint8_t hash[EVP_MAX_MD_SIZE])
{
    const char *name = algorithm == 1 ? "SHA256" : algorithm == 7 ? "SHA384" : algorithm == 8 ? "SHA512" : NULL;
    unsigned char *key = NULL;
    size_t length = 0;
    int key_length = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(ra_tls->certificate), &key);
    if (!name || key_length <= 0 || EVP_Q_digest(NULL, name, NULL, key, (size_t)key_length, hash, &length) != 1)
        length = 0;
    OPENSSL_free(key);
    return length;
}

/* {"pubkey-hash": bytes of [algorithm, hash], "nonce": bytes (optional)}; others say nothing here, and the hash covers them. */
static const struct cbor *read_claims(const struct ra_tls *ra_tls, struct verdict *verdict)
{
    bulla_error error = {0};
    const struct cbor *map = cbor_parse(ra_tls->claims, ra_tls->claims_length, &verdict->arena, &error);
    const struct cbor *nonce = cbor_member(map, "nonce");
    int is_read = cbor_is(cbor_member(map, "pubkey-hash"), CBOR_BYTES) && (!nonce || cbor_is(nonce, CBOR_BYTES));
    return verdict_holds(verdict, "ra_tls.claims", is_read, "a map with pubkey-hash, and perhaps nonce", "%s",
                         error.code ? error.text : is_read ? "one" : "something else")
               ? map
               : NULL;
}

static void check_claims(const struct ra_tls *ra_tls, const struct evidence *evidence, const struct binding_expected *expected)
{
    struct verdict *verdict = evidence->verdict;
    uint8_t hash[EVP_MAX_MD_SIZE];
    bulla_error error = {0};
    const struct cbor *claims = read_claims(ra_tls, verdict);
    if (!claims)
        return;
    const struct cbor *stated = cbor_member(claims, "pubkey-hash"), *nonce = cbor_member(claims, "nonce");
    const struct cbor *pair = cbor_parse(stated->bytes, stated->length, &verdict->arena, &error);
    int is_pair = cbor_is(pair, CBOR_ARRAY) && pair->length == 2 && cbor_is(&pair->items[0], CBOR_UNSIGNED) &&
                  cbor_is(&pair->items[1], CBOR_BYTES);
    size_t length = is_pair ? hash_key(ra_tls, pair->items[0].number, hash) : 0;
    if (length)
        verdict_same_bytes(verdict, "ra_tls.key", hash, length, pair->items[1].bytes, pair->items[1].length);
    else
        verdict_fails(verdict, "ra_tls.key", "pubkey-hash is not a hash of a key by SHA-256, SHA-384 or SHA-512");
    if (hash_sha256(ra_tls->claims, ra_tls->claims_length, hash, &verdict->error) == BULLA_OK)
        check_report_data(evidence, hash);
    if (expected->nonce)
        verdict_same_bytes(verdict, "binding.nonce", nonce ? nonce->bytes : NULL, nonce ? nonce->length : 0, expected->nonce,
                           BINDING_BYTES);
}

void ra_tls_check(const struct ra_tls *ra_tls, const struct evidence *evidence, const struct binding_expected *expected)
{
    struct verdict *verdict = evidence->verdict;
    if (expected->tls_key)
        verdict_same_bytes(verdict, "ra_tls.tls_key", ra_tls->key, BINDING_BYTES, expected->tls_key, BINDING_BYTES);
    if (ra_tls->form == RA_TLS_DOCUMENT)
        return; /* its binding says the rest */
    if (ra_tls->form == RA_TLS_INTEROPERABLE)
        check_claims(ra_tls, evidence, expected);
    else
        check_report_data(evidence, ra_tls->key);
    if (ra_tls->form == RA_TLS_GRAMINE && expected->nonce)
        verdict_fails(verdict, "binding.nonce", "evidence of this form has no nonce");
    if (expected->receipt_key)
        verdict_fails(verdict, "binding.receipt_key", "a certificate of this form binds no key of receipts");
    if (expected->model)
        verdict_fails(verdict, "binding.model", "a certificate of this form binds no model");
}
