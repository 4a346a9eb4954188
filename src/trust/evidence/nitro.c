/* AWS Nitro Enclaves attestation documents, as AWS's "Nitro Enclaves Attestation Process" has them (section 2.2: the
 * fields; 3.1: COSE_Sign1; 3.2.2: what each field may be; 3.2.3: the chain): signed by the key of a certificate that
 * comes in the document, is valid for some hours, and whose chain leads to the root that AWS publishes. So the chain is
 * judged at the document's own time, which must not lie after the time that is asked about; how old it may be, the
 * policy's max_age says.
 *
 * Document: "document" (the COSE_Sign1). The report data is what the enclave gave as user_data. */
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "trust/cose.h"
#include "trust/formats.h"

enum {
    LONGEST_DOCUMENT = 16384 + 256, /* the payload, headers and signature around it */
    LONGEST_CERTIFICATE = 1024, LONGEST_PUBLIC_KEY = 1024, LONGEST_USER_DATA = 512,
    MOST_PCRS = 32, CLAIMED_PCRS = 16, PROGRAM_PCRS = 3, SIGNER_PCR = 8,
    MILLISECONDS = 1000, DER_SEQUENCE = 0x30
};

/* Locked before the enclave runs: image, kernel, application, role, instance, signer. */
static const unsigned locked_pcrs[] = {0, 1, 2, 3, 4, SIGNER_PCR};

struct nitro {
    struct evidence *evidence;
    struct verdict *verdict;
    struct cose_sign1 sign1;
    const struct cbor *fields; /* of the payload */
    struct certificates chain;
};

static const char *describe(const struct nitro *nitro, const struct cbor *item)
{
    return cbor_describe(item, &nitro->verdict->arena, &nitro->verdict->error);
}

/* ---- Envelope and fields ---- */

static int read_document(struct nitro *nitro)
{
    struct verdict *verdict = nitro->verdict;
    struct cose_sign1 *sign1 = &nitro->sign1;
    bulla_error error = {0};
    size_t length;
    const uint8_t *bytes = evidence_bytes(nitro->evidence, "nitro.document", "document", LONGEST_DOCUMENT, &length);
    if (!bytes)
        return 0;
    if (cose_sign1_read(bytes, length, &verdict->arena, sign1, &error) != BULLA_OK)
        return verdict_fails(verdict, "nitro.document", "%s", error.text);
    verdict_holds(verdict, "nitro.algorithm", strcmp(sign1->algorithm->name, "ES384") == 0, "ES384", "%s",
                  sign1->algorithm->name);
    verdict_same_number(verdict, "nitro.unprotected", sign1->unprotected->length, 0);
    nitro->fields = cbor_parse(sign1->payload->bytes, sign1->payload->length, &verdict->arena, &error);
    return verdict_holds(verdict, "nitro.payload", cbor_is(nitro->fields, CBOR_MAP), "a map", "%s",
                         nitro->fields ? describe(nitro, nitro->fields) : error.text);
}

/* Optional fields are left out, or null, as the hypervisor writes them. */
static const struct cbor *optional(const struct nitro *nitro, const char *name)
{
    const struct cbor *field = cbor_member(nitro->fields, name);
    return cbor_is(field, CBOR_NULL) ? NULL : field;
}

static void check_optional(struct nitro *nitro, const char *check, const char *name, size_t least, size_t most)
{
    const struct cbor *field = optional(nitro, name);
    char expected[64];
    if (!field)
        return;
    snprintf(expected, sizeof expected, "%zu to %zu bytes", least, most);
    verdict_holds(nitro->verdict, check, cbor_is(field, CBOR_BYTES) && least <= field->length && field->length <= most,
                  expected, "%s", describe(nitro, field));
}

static void check_fields(struct nitro *nitro)
{
    struct verdict *verdict = nitro->verdict;
    const struct cbor *module = cbor_member(nitro->fields, "module_id"), *digest = cbor_member(nitro->fields, "digest");
    const char *text = NULL;
    if (cbor_is(module, CBOR_TEXT))
        text = arena_copy_text(&verdict->arena, (const char *)module->bytes, module->length, &verdict->error);
    if (verdict_holds(verdict, "nitro.module_id", text && text[0] && strlen(text) == module->length, "a text", "%s",
                      describe(nitro, module)))
        evidence_claim_text(nitro->evidence, "module_id", text);
    verdict_holds(verdict, "nitro.digest", cbor_is_text(digest, "SHA384"), "SHA384", "%s", describe(nitro, digest));
    check_optional(nitro, "nitro.public_key", "public_key", 1, LONGEST_PUBLIC_KEY);
    check_optional(nitro, "nitro.user_data", "user_data", 0, LONGEST_USER_DATA);
    check_optional(nitro, "nitro.nonce", "nonce", 0, LONGEST_USER_DATA);
}

static void check_time(struct nitro *nitro)
{
    const struct cbor *timestamp = cbor_member(nitro->fields, "timestamp");
    int64_t asked_at = nitro->evidence->time, made_at = 0;
    char expected[64];
    if (cbor_is(timestamp, CBOR_UNSIGNED))
        made_at = (int64_t)(timestamp->number / MILLISECONDS);
    nitro->evidence->made_at = made_at;
    snprintf(expected, sizeof expected, "a Unix time from 1 to %lld", (long long)asked_at);
    if (!verdict_holds(nitro->verdict, "nitro.timestamp", 0 < made_at && made_at <= asked_at, expected, "%lld",
                       (long long)made_at) && made_at > asked_at)
        verdict_advise(nitro->verdict, "the document is of the future: set this machine's clock");
}

/* ---- PCRs ---- */

static const struct cbor *pcr(const struct nitro *nitro, int64_t index)
{
    const struct cbor *value = cbor_label(cbor_member(nitro->fields, "pcrs"), index);
    return cbor_is(value, CBOR_BYTES) ? value : NULL;
}

static int is_zero(const struct cbor *value)
{
    uint8_t any = 0;
    for (size_t i = 0; value && i < value->length; i++)
        any |= value->bytes[i];
    return any == 0;
}

static int is_pcr(const struct cbor *index, const struct cbor *value)
{
    return cbor_is(index, CBOR_UNSIGNED) && index->number < MOST_PCRS && cbor_is(value, CBOR_BYTES) &&
           (value->length == 32 || value->length == 48 || value->length == 64);
}

static void check_pcrs(struct nitro *nitro)
{
    struct verdict *verdict = nitro->verdict;
    const struct cbor *pcrs = cbor_member(nitro->fields, "pcrs");
    size_t good = 0, count = cbor_is(pcrs, CBOR_MAP) ? pcrs->length : 0, locked = 0, zeros = 0;
    for (size_t i = 0; i < count; i++)
        good += is_pcr(&pcrs->items[2 * i], &pcrs->items[2 * i + 1]) != 0;
    verdict_holds(verdict, "nitro.pcrs", count > 0 && good == count, "PCRs 0 to 31 of 32, 48 or 64 bytes",
                  "%zu PCRs, %zu of them such", count, good);
    for (size_t i = 0; i < sizeof locked_pcrs / sizeof *locked_pcrs; i++)
        locked += pcr(nitro, locked_pcrs[i]) != NULL;
    verdict_holds(verdict, "nitro.pcrs.locked", locked == sizeof locked_pcrs / sizeof *locked_pcrs, "PCR0 to 4 and 8",
                  "%zu of these", locked);
    for (int i = 0; i < PROGRAM_PCRS; i++)
        zeros += is_zero(pcr(nitro, i)) != 0;
    if (!verdict_holds(verdict, "nitro.pcrs.measured", zeros == 0, "PCR0 to 2 not of zeros", "%zu of zeros", zeros))
        verdict_advise(verdict, "an enclave that was started with --debug-mode has zeros there: start it without");
    evidence_claim_flag(nitro->evidence, "debug", zeros == PROGRAM_PCRS);
}

static void claim(struct nitro *nitro)
{
    struct evidence *evidence = nitro->evidence;
    const struct cbor *image = pcr(nitro, 0), *signer = pcr(nitro, SIGNER_PCR);
    const struct cbor *user_data = optional(nitro, "user_data"), *key = optional(nitro, "public_key");
    uint8_t *digest = arena_alloc(&evidence->verdict->arena, HASH_SHA256_BYTES, 1, &evidence->verdict->error);
    for (unsigned i = 0; i < CLAIMED_PCRS; i++)
        if (pcr(nitro, i))
            evidence_claim_slot(evidence, "pcr", i, pcr(nitro, i)->bytes, pcr(nitro, i)->length);
    if (image)
        evidence_claim_bytes(evidence, "measurement", image->bytes, image->length);
    if (signer)
        evidence_claim_bytes(evidence, "signer_info", signer->bytes, signer->length);
    if (cbor_is(user_data, CBOR_BYTES))
        evidence_claim_bytes(evidence, "report_data", user_data->bytes, user_data->length);
    if (digest && cbor_is(key, CBOR_BYTES) &&
        hash_sha256(key->bytes, key->length, digest, &evidence->verdict->error) == BULLA_OK)
        evidence_claim_bytes(evidence, "public_key", digest, HASH_SHA256_BYTES);
}

/* ---- Chain and signature ---- */

static int add_certificate(struct nitro *nitro, const char *check, const struct cbor *item)
{
    bulla_error error = {0};
    if (!cbor_is(item, CBOR_BYTES) || item->length == 0 || item->length > LONGEST_CERTIFICATE ||
        item->bytes[0] != DER_SEQUENCE)
        return verdict_fails(nitro->verdict, check, "%s where a certificate in DER of at most %d bytes should be",
                             describe(nitro, item), LONGEST_CERTIFICATE);
    if (certificates_add(&nitro->chain, CERTIFICATE, item->bytes, item->length, &error) != BULLA_OK)
        return verdict_fails(nitro->verdict, check, "%s", error.text);
    return 1;
}

/* The bundle begins with the root (section 3.2.3). */
static int read_chain(struct nitro *nitro)
{
    const struct cbor *bundle = cbor_member(nitro->fields, "cabundle");
    if (!add_certificate(nitro, "nitro.certificate", cbor_member(nitro->fields, "certificate")))
        return 0;
    if (!cbor_is(bundle, CBOR_ARRAY) || bundle->length == 0)
        return verdict_fails(nitro->verdict, "nitro.cabundle", "%s where a list of certificates should be",
                             describe(nitro, bundle));
    for (size_t i = bundle->length; i-- > 0;)
        if (!add_certificate(nitro, "nitro.cabundle", &bundle->items[i]))
            return 0;
    return 1;
}

static void check_chain(struct nitro *nitro)
{
    static const struct chain_rules rules = {"nitro.chain", "nitro.root", "aws", REVOCATION_NONE, NULL};
    struct verdict *verdict = nitro->verdict;
    X509 *leaf = nitro->chain.list[0];
    certificates_verify(&nitro->chain, &nitro->chain, &rules, nitro->evidence->made_at, verdict);
    verdict_is(verdict, "nitro.certificate.usage",
               (X509_get_extension_flags(leaf) & (EXFLAG_KUSAGE | EXFLAG_CA)) == EXFLAG_KUSAGE &&
                   X509_get_key_usage(leaf) & KU_DIGITAL_SIGNATURE,
               "no authority, with the use digitalSignature");
    verdict_is(verdict, "nitro.signature", cose_sign1_verify(&nitro->sign1, X509_get0_pubkey(leaf)),
               "a signature of the document by the certificate's key");
}

static void verify(struct evidence *evidence)
{
    struct nitro nitro = {.evidence = evidence, .verdict = evidence->verdict};
    if (!read_document(&nitro))
        return;
    check_fields(&nitro);
    check_time(&nitro);
    check_pcrs(&nitro);
    if (read_chain(&nitro))
        check_chain(&nitro);
    claim(&nitro);
    certificates_free(&nitro.chain);
}

const struct evidence_format evidence_nitro = {
    .type = "nitro",
    .title = "AWS Nitro Enclaves attestation document",
    .has_met_real = 1,
    .report_data_bytes = 64,
    .verify = verify,
};
