#include "trust/evidence/dcap.h"

#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/objects.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/hash.h"
#include "trust/signature.h"

enum {
    MOST_QUOTE_BYTES = 1 << 16,
    HEADER_BYTES = 48, AT_KEY_TYPE = 2, AT_TEE_TYPE = 4, AT_VENDOR = 12, VENDOR_BYTES = 16,
    ECDSA_P256 = 2,                /* type of the attestation key */
    POINT_BYTES = 64,
    PCK_CHAIN = 5, QE_REPORT = 6,  /* types of certification data */
    REPORT_DATA_LENGTH = 64
};

/* ---- The quote by itself ---- */

/* The body, and from version 5 on its type and length before it. */
static int read_body(struct verdict *verdict, struct dcap_quote *quote, struct reader *reader)
{
    unsigned type = 0;
    if (quote->version >= 5) {
        type = reader_u16(reader);
        uint32_t length = reader_u32(reader);
        quote->body_length = quote->kind->body_bytes(quote->version, type);
        if (!verdict_holds(verdict, "dcap.quote.body_type", quote->body_length && quote->body_length == length,
                           "a body of this type of evidence, as long as such are", "type %u, %u bytes", type, length))
            return 0;
    } else {
        quote->body_length = quote->kind->body_bytes(quote->version, type);
        verdict_not_made(verdict, "dcap.quote.body_type", "quotes of version %u do not say it", quote->version);
    }
    quote->body = reader_bytes(reader, quote->body_length);
    quote->signed_length = reader->offset;
    return 1;
}

/* The signature data: from version 4 on, what follows the attestation key is certification data of its own type. Gives
 * whether its parts fill it exactly. */
static int read_signature_data(struct verdict *verdict, struct dcap_quote *quote, struct reader reader)
{
    quote->signature = reader_bytes(&reader, DCAP_SIGNATURE_BYTES);
    quote->attestation_key = reader_bytes(&reader, POINT_BYTES);
    if (quote->version >= 4) {
        verdict_same_number(verdict, "dcap.certification.type", reader_u16(&reader), QE_REPORT);
        uint32_t length = reader_u32(&reader);
        if (length != reader_left(&reader))
            return 0;
    }
    quote->qe_report = reader_bytes(&reader, ENCLAVE_REPORT_BYTES);
    quote->qe_signature = reader_bytes(&reader, DCAP_SIGNATURE_BYTES);
    quote->auth_length = reader_u16(&reader);
    quote->auth_data = reader_bytes(&reader, quote->auth_length);
    unsigned type = reader_u16(&reader);
    quote->certificates_length = reader_u32(&reader);
    quote->certificates = reader_bytes(&reader, quote->certificates_length);
    if (reader.failed || reader_left(&reader))
        return 0;
    if (!verdict_holds(verdict, "dcap.certification.chain", type == PCK_CHAIN, "5 (the PCK's chain)", "%u", type))
        verdict_advise(verdict,
                       "make the quote on a machine that has its PCK certificate: only such quotes hold the chain");
    return 1;
}

static void check_header(struct verdict *verdict, const struct dcap_quote *quote)
{
    static const uint8_t intel[VENDOR_BYTES] = {0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9,
                                                0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07};
    verdict_same_number(verdict, "dcap.quote.tee_type", evidence_number(quote->bytes + AT_TEE_TYPE, 4), quote->kind->tee_type);
    verdict_same_number(verdict, "dcap.quote.key_type", evidence_number(quote->bytes + AT_KEY_TYPE, 2), ECDSA_P256);
    verdict_same_bytes(verdict, "dcap.quote.vendor", quote->bytes + AT_VENDOR, VENDOR_BYTES, intel, sizeof intel);
}

int dcap_read(struct evidence *evidence, const struct dcap_kind *kind, struct dcap_quote *quote)
{
    struct verdict *verdict = evidence->verdict;
    size_t length, others = 0;
    *quote = (struct dcap_quote){.kind = kind};
    quote->bytes = evidence_bytes(evidence, "dcap.quote", "quote", MOST_QUOTE_BYTES, &length);
    if (!quote->bytes)
        return 0;
    struct reader reader = reader_over(quote->bytes, length);
    quote->version = reader_u16(&reader);
    if (!verdict_holds(verdict, "dcap.quote.version",
                       kind->first_version <= quote->version && quote->version <= kind->last_version, kind->versions,
                       "%u", quote->version))
        return 0;
    reader_bytes(&reader, HEADER_BYTES - 2);
    if (!read_body(verdict, quote, &reader))
        return 0;
    uint32_t data_length = reader_u32(&reader);
    const uint8_t *data = reader_bytes(&reader, data_length);
    int fits = !reader.failed && read_signature_data(verdict, quote, reader_over(data, data_length));
    if (!verdict_is(verdict, "dcap.quote.layout", fits, "parts that fill the quote, as long as it says"))
        return 0;
    while (reader_left(&reader))
        others += reader_u8(&reader) != 0;
    verdict_holds(verdict, "dcap.quote.padding", others == 0, "nothing, or zeros, behind the quote", "%zu other bytes",
                  others);
    check_header(verdict, quote);
    return 1;
}

/* ---- The PCK's certificate ---- */

/* Intel's extension is a SEQUENCE of SEQUENCE {OBJECT IDENTIFIER, value}; some values are such sequences again. `take`
 * gets the last number of the identifier, which must be right below `parent`; whether all were taken. */
static int each_field(const ASN1_STRING *sequence, const char *parent, struct pck *pck, uint32_t *seen,
                      int (*take)(struct pck *pck, unsigned number, const ASN1_TYPE *value))
{
    const uint8_t *at = ASN1_STRING_get0_data(sequence), *end = at + ASN1_STRING_length(sequence);
    size_t parent_length = strlen(parent);
    ASN1_SEQUENCE_ANY *fields = d2i_ASN1_SEQUENCE_ANY(NULL, &at, ASN1_STRING_length(sequence));
    int is_read = fields && at == end;
    for (int i = 0; is_read && i < sk_ASN1_TYPE_num(fields); i++) {
        const ASN1_TYPE *field = sk_ASN1_TYPE_value(fields, i);
        char oid[80] = "";
        ASN1_SEQUENCE_ANY *pair = NULL;
        if (field->type == V_ASN1_SEQUENCE) {
            at = ASN1_STRING_get0_data(field->value.sequence);
            pair = d2i_ASN1_SEQUENCE_ANY(NULL, &at, ASN1_STRING_length(field->value.sequence));
        }
        is_read = pair && sk_ASN1_TYPE_num(pair) == 2 && sk_ASN1_TYPE_value(pair, 0)->type == V_ASN1_OBJECT &&
                  OBJ_obj2txt(oid, sizeof oid, sk_ASN1_TYPE_value(pair, 0)->value.object, 1) > 0 &&
                  strncmp(oid, parent, parent_length) == 0 && strchr(oid + parent_length, '.') == NULL;
        unsigned long number = is_read ? strtoul(oid + parent_length, NULL, 10) : 0;
        is_read = is_read && number < 32 && !(*seen >> number & 1) &&
                  take(pck, (unsigned)number, sk_ASN1_TYPE_value(pair, 1));
        *seen |= 1u << (number & 31);
        sk_ASN1_TYPE_pop_free(pair, ASN1_TYPE_free);
    }
    sk_ASN1_TYPE_pop_free(fields, ASN1_TYPE_free);
    ERR_clear_error();
    return is_read;
}

static int take_octets(const ASN1_TYPE *value, uint8_t *bytes, int length)
{
    if (value->type != V_ASN1_OCTET_STRING || ASN1_STRING_length(value->value.octet_string) != length)
        return 0;
    memcpy(bytes, ASN1_STRING_get0_data(value->value.octet_string), (size_t)length);
    return 1;
}

enum { OID_TCB = 2, OID_PCE_ID = 3, OID_FMSPC = 4, OID_CONFIGURATION = 7, OID_PCE_SVN = 17, OID_SMT = 3 };

/* 1.2.840.113741.1.13.1.2: components 1 to 16, PCESVN, and all of them once more as the raw CPUSVN. */
static int take_tcb(struct pck *pck, unsigned number, const ASN1_TYPE *value)
{
    int64_t svn;
    if (number > OID_PCE_SVN)
        return 1;
    if (number == 0 || value->type != V_ASN1_INTEGER || ASN1_INTEGER_get_int64(&svn, value->value.integer) != 1 ||
        svn < 0 || svn > (number == OID_PCE_SVN ? UINT16_MAX : UINT8_MAX))
        return 0;
    if (number == OID_PCE_SVN)
        pck->pce_svn = (uint16_t)svn;
    else
        pck->svns[number - 1] = (uint8_t)svn;
    return 1;
}

/* 1.2.840.113741.1.13.1.7 of machines of several packages. */
static int take_configuration(struct pck *pck, unsigned number, const ASN1_TYPE *value)
{
    if (number != OID_SMT)
        return 1;
    pck->has_smt = value->type == V_ASN1_BOOLEAN;
    pck->smt = pck->has_smt && value->value.boolean;
    return pck->has_smt;
}

static int take_field(struct pck *pck, unsigned number, const ASN1_TYPE *value)
{
    const uint32_t all = ((1u << (OID_PCE_SVN + 1)) - 1) & ~1u; /* 1 to 17 */
    uint32_t seen = 0;
    switch (number) {
    case OID_TCB:
        return value->type == V_ASN1_SEQUENCE &&
               each_field(value->value.sequence, "1.2.840.113741.1.13.1.2.", pck, &seen, take_tcb) &&
               (seen & all) == all;
    case OID_PCE_ID:
        return take_octets(value, pck->pce_id, PCE_ID_BYTES);
    case OID_FMSPC:
        return take_octets(value, pck->fmspc, FMSPC_BYTES);
    case OID_CONFIGURATION:
        return value->type == V_ASN1_SEQUENCE &&
               each_field(value->value.sequence, "1.2.840.113741.1.13.1.7.", pck, &seen, take_configuration);
    default:
        return 1;
    }
}

static int read_pck(struct verdict *verdict, X509 *leaf, struct pck *pck)
{
    const uint32_t all = 1u << OID_TCB | 1u << OID_PCE_ID | 1u << OID_FMSPC;
    uint32_t seen = 0;
    size_t length = 0;
    const uint8_t *der = certificate_extension(leaf, "1.2.840.113741.1.13.1", &length);
    ASN1_STRING *sequence = der ? ASN1_STRING_new() : NULL;
    int is_read = sequence && ASN1_STRING_set(sequence, der, (int)length) == 1 &&
                  each_field(sequence, "1.2.840.113741.1.13.1.", pck, &seen, take_field) && (seen & all) == all;
    ASN1_STRING_free(sequence);
    return verdict_holds(verdict, "dcap.pck.extension", is_read, "TCB, PCE id and FMSPC", "%s",
                         is_read ? "all" : der ? "an extension without them, or malformed" : "no SGX extension");
}

static void check_chain(struct evidence *evidence, const struct certificates *chain, const struct certificates *lists)
{
    static const struct chain_rules rules = {"dcap.pck.chain", "dcap.pck.root", "intel", REVOCATION_ALL, NULL};
    struct verdict *verdict = evidence->verdict;
    certificates_verify(chain, lists, &rules, evidence->time, verdict);
    verdict_same_number(verdict, "dcap.pck.chain_length", chain->count, 3);
    verdict_holds(verdict, "dcap.pck.subject", certificate_is_named(chain->list[0], "Intel SGX PCK Certificate"),
                  "Intel SGX PCK Certificate", "%s", certificate_subject(chain->list[0], verdict));
}

/* ---- The signatures, from the PCK down to the body ---- */

int dcap_ecdsa_verify(EVP_PKEY *key, const void *data, size_t length, const uint8_t signature[DCAP_SIGNATURE_BYTES])
{
    return key && signature_key_is_on(key, "P-256") &&
           signature_ecdsa_verify(key, "SHA256", data, length, signature, DCAP_SIGNATURE_BYTES / 2);
}

static void check_signatures(struct verdict *verdict, const struct dcap_quote *quote, X509 *leaf)
{
    uint8_t bound[REPORT_DATA_LENGTH] = {0};
    bulla_error *error = &verdict->error;
    verdict_is(verdict, "dcap.qe.signature",
               dcap_ecdsa_verify(X509_get0_pubkey(leaf), quote->qe_report, ENCLAVE_REPORT_BYTES, quote->qe_signature),
               "ECDSA P-256 with SHA-256 by the PCK");
    struct hash_stream *hash = hash_stream_open(error);
    if (hash) {
        hash_stream_update(hash, quote->attestation_key, POINT_BYTES);
        hash_stream_update(hash, quote->auth_data, quote->auth_length);
        hash_stream_finish(hash, bound, error);
        hash_stream_close(hash);
    }
    verdict_same_bytes(verdict, "dcap.qe.report_data", quote->qe_report + ENCLAVE_REPORT_DATA, sizeof bound, bound,
                       sizeof bound);
    EVP_PKEY *key = signature_key_from_point("P-256", quote->attestation_key, POINT_BYTES);
    verdict_is(verdict, "dcap.quote.signature",
               dcap_ecdsa_verify(key, quote->bytes, quote->signed_length, quote->signature),
               "ECDSA P-256 with SHA-256 by the attestation key");
    EVP_PKEY_free(key);
}

/* ---- All ---- */

/* "tcb.sgx01" to "tcb.sgx16", and so on. */
static void claim_components(struct evidence *evidence, const char *kind, const uint8_t svns[SVN_COMPONENTS])
{
    struct verdict *verdict = evidence->verdict;
    for (unsigned i = 0; i < SVN_COMPONENTS; i++) {
        char name[32];
        int length = snprintf(name, sizeof name, "tcb.%s%02u", kind, i + 1);
        const char *copy = arena_copy_text(&verdict->arena, name, (size_t)length, &verdict->error);
        if (copy)
            evidence_claim_number(evidence, copy, svns[i]);
    }
}

static void claim_tcb(struct evidence *evidence, const struct pck *pck, const struct dcap_quote *quote,
                      const struct pcs_td *td)
{
    claim_components(evidence, "sgx", pck->svns);
    if (td)
        claim_components(evidence, "tdx", td->tee_tcb_svn);
    evidence_claim_number(evidence, "tcb.pce", pck->pce_svn);
    evidence_claim_number(evidence, "tcb.qe", evidence_number(quote->qe_report + ENCLAVE_SVN, 2));
    if (pck->has_smt)
        evidence_claim_flag(evidence, "smt", pck->smt);
}

void dcap_verify(struct evidence *evidence, const struct dcap_quote *quote, const struct pcs_td *td)
{
    struct verdict *verdict = evidence->verdict;
    struct pcs pcs = {0};
    struct certificates chain = {0};
    struct pck pck = {0};
    bulla_error error = {0};
    if (!pcs_open(&pcs, evidence))
        goto Exit;
    pcs_check_statements(&pcs, quote->kind->tcb_info_id, quote->kind->qe_identity_id);
    if (certificates_add(&chain, CERTIFICATE, quote->certificates, quote->certificates_length, &error) != BULLA_OK) {
        verdict_fails(verdict, "dcap.pck.certificates", "%s", error.text);
        goto Exit;
    }
    check_chain(evidence, &chain, &pcs.lists);
    pcs_check_issuers(&pcs, &chain);
    check_signatures(verdict, quote, chain.list[0]);
    pcs_check_qe(&pcs, quote->qe_report);
    if (td)
        pcs_check_module(&pcs, td);
    if (!read_pck(verdict, chain.list[0], &pck))
        goto Exit;
    pcs_check_machine(&pcs, &pck);
    pcs_rate(&pcs, &pck, quote->qe_report, td);
    claim_tcb(evidence, &pck, quote, td);
Exit:
    certificates_free(&chain);
    pcs_close(&pcs);
}
