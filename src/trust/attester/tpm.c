/* A TPM 2.0 by tpm2-tss's ESYS: a quote over PCRs with the SHA-256 of the report data as its nonce, the values of the PCRs,
 * the key, the firmware's event log (trust/evidence/tpm.c has the document). */
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <tss2/tss2_mu.h>
#include <tss2/tss2_tctildr.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/json.h"
#include "base/memory.h"
#include "trust/attester.h"
#include "trust/attester/kernel_file.h"
#include "trust/attester/tpm_key.h"
#include "trust/attester/tpm_log.h"

enum { PCRS = 24, TRIES = 4 };

static const char default_device[] = "/dev/tpmrm0", default_pcrs[] = "0,1,2,3,4,5,6,7,8,9,11,12,14";

struct tpm {
    TSS2_TCTI_CONTEXT *tcti;
    ESYS_CONTEXT *esys;
    ESYS_TR key;
    int key_is_made;      /* and so flushed at the end */
    TPML_PCR_SELECTION selection;
    struct buffer public_area, pem, certificate;
    const char *event_log; /* NULL: none */
};

static const char *device_of(const struct attester_options *options)
{
    return options->tpm_device ? options->tpm_device : default_device;
}

static int is_there(const struct attester_options *options)
{
    return options->tpm_tcti != NULL || access(device_of(options), R_OK | W_OK) == 0;
}

/* ---- Open and close ---- */

static int read_pcrs(const char *text, TPML_PCR_SELECTION *selection, bulla_error *error)
{
    *selection = (TPML_PCR_SELECTION){.count = 1, .pcrSelections[0] = {.hash = TPM2_ALG_SHA256, .sizeofSelect = PCRS / 8}};
    for (const char *at = text;; at++) {
        char *end;
        unsigned long pcr = strtoul(at, &end, 10);
        if (*at < '0' || *at > '9' || pcr >= PCRS || (*end && *end != ','))
            return bulla_fail(error, BULLA_E_USAGE, "\"%.80s\" is no list of PCRs; expected numbers from 0 to %d with commas "
                              "between, such as 0,1,7", text, PCRS - 1);
        selection->pcrSelections[0].pcrSelect[pcr / 8] |= (BYTE)(1u << pcr % 8);
        at = end;
        if (!*at)
            return BULLA_OK;
    }
}

static int connect_tpm(struct tpm *tpm, const struct attester_options *options, bulla_error *error)
{
    struct buffer name = {0};
    buffer_append_format(&name, "device:%s", device_of(options));
    if (name.error.code != BULLA_OK)
        return bulla_fail(error, name.error.code, "%s", name.error.text);
    const char *tcti = options->tpm_tcti ? options->tpm_tcti : (const char *)name.data;
    int code = tpm_result(Tss2_TctiLdr_Initialize(tcti, &tpm->tcti), "reaching it", error);
    if (code != BULLA_OK)
        bulla_fail_prefix(error, "%s", tcti);
    buffer_free(&name);
    return code == BULLA_OK ? tpm_result(Esys_Initialize(&tpm->esys, tpm->tcti, NULL), "starting to talk", error) : code;
}

static int choose_key(struct tpm *tpm, const struct attester_options *options, bulla_error *error)
{
    TPM2_HANDLE handle;
    if (!options->tpm_key) {
        tpm->key_is_made = 1;
        return tpm_key_make(tpm->esys, &tpm->key, error);
    }
    int code = tpm_read_handle(options->tpm_key, "key's handle", &handle, error);
    return code == BULLA_OK ? tpm_key_find(tpm->esys, handle, &tpm->key, error) : code;
}

static void close_tpm(void *state)
{
    struct tpm *tpm = state;
    if (tpm->key != ESYS_TR_NONE && tpm->key_is_made)
        Esys_FlushContext(tpm->esys, tpm->key);
    Esys_Finalize(&tpm->esys);
    Tss2_TctiLdr_Finalize(&tpm->tcti);
    buffer_free(&tpm->public_area);
    buffer_free(&tpm->pem);
    buffer_free(&tpm->certificate);
    memory_free(tpm);
}

static int open_tpm(const struct attester_options *options, void **state, bulla_error *error)
{
    struct tpm *tpm = memory_alloc(1, sizeof *tpm, error);
    TPM2_HANDLE index;
    if (!tpm)
        return BULLA_E_MEMORY;
    tpm->key = ESYS_TR_NONE;
    tpm->event_log = tpm_log_path(options);
    int code = read_pcrs(options->tpm_pcrs ? options->tpm_pcrs : default_pcrs, &tpm->selection, error);
    if (code == BULLA_OK)
        code = connect_tpm(tpm, options, error);
    if (code == BULLA_OK)
        code = choose_key(tpm, options, error);
    if (code == BULLA_OK)
        code = tpm_key_describe(tpm->esys, tpm->key, &tpm->public_area, &tpm->pem, error);
    if (code == BULLA_OK && options->tpm_certificate)
        code = tpm_read_handle(options->tpm_certificate, "certificate's index", &index, error);
    if (code == BULLA_OK && options->tpm_certificate)
        code = tpm_read_certificate(tpm->esys, index, &tpm->certificate, error);
    if (code == BULLA_OK)
        *state = tpm;
    else
        close_tpm(tpm);
    return code;
}

/* ---- A quote ---- */

struct values {
    uint8_t pcrs[PCRS][HASH_SHA256_BYTES];
    uint32_t read; /* bits */
};

static uint32_t bits_of(const TPML_PCR_SELECTION *selection)
{
    uint32_t bits = 0;
    for (UINT32 i = 0; i < selection->count; i++)
        for (unsigned k = 0; k < PCRS / 8 && k < selection->pcrSelections[i].sizeofSelect; k++)
            bits |= (uint32_t)selection->pcrSelections[i].pcrSelect[k] << (8 * k);
    return bits;
}

/* A TPM gives at most eight at a time. */
static int read_values(struct tpm *tpm, struct values *values, bulla_error *error)
{
    uint32_t wanted = bits_of(&tpm->selection);
    *values = (struct values){0};
    while (values->read != wanted) {
        TPML_PCR_SELECTION left = tpm->selection, *given = NULL;
        TPML_DIGEST *digests = NULL;
        for (unsigned k = 0; k < PCRS / 8; k++)
            left.pcrSelections[0].pcrSelect[k] = (BYTE)((wanted & ~values->read) >> (8 * k));
        int code = tpm_result(Esys_PCR_Read(tpm->esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &left, NULL, &given, &digests),
                              "reading PCRs", error);
        uint32_t bits = code == BULLA_OK ? bits_of(given) & wanted & ~values->read : 0, number = 0;
        for (unsigned pcr = 0; pcr < PCRS && code == BULLA_OK; pcr++) {
            if (!(bits >> pcr & 1) || number >= digests->count || digests->digests[number].size != HASH_SHA256_BYTES)
                continue;
            memcpy(values->pcrs[pcr], digests->digests[number++].buffer, HASH_SHA256_BYTES);
            values->read |= 1u << pcr;
        }
        Esys_Free(given);
        Esys_Free(digests);
        if (code == BULLA_OK && number == 0)
            code = bulla_fail(error, BULLA_E_UNSUPPORTED,
                              "the TPM: it does not give all of the PCRs of the bank SHA-256 that are to be quoted");
        if (code != BULLA_OK)
            return code;
    }
    return BULLA_OK;
}

/* Whether the quoted digest, by whatever hash the signature has, is that of these values. */
static int is_of(const TPM2B_ATTEST *quoted, const struct values *values, TPMI_ALG_HASH hash)
{
    TPMS_ATTEST attest;
    size_t offset = 0, length = 0;
    uint8_t digest[EVP_MAX_MD_SIZE], joined[PCRS * HASH_SHA256_BYTES];
    size_t used = 0;
    const char *name = hash == TPM2_ALG_SHA384 ? "SHA384" : hash == TPM2_ALG_SHA512 ? "SHA512" : "SHA256";
    for (unsigned pcr = 0; pcr < PCRS; pcr++)
        if (values->read >> pcr & 1) {
            memcpy(joined + used, values->pcrs[pcr], HASH_SHA256_BYTES);
            used += HASH_SHA256_BYTES;
        }
    return Tss2_MU_TPMS_ATTEST_Unmarshal(quoted->attestationData, quoted->size, &offset, &attest) == TSS2_RC_SUCCESS &&
           EVP_Q_digest(NULL, name, NULL, joined, used, digest, &length) == 1 &&
           attest.attested.quote.pcrDigest.size == length &&
           memcmp(attest.attested.quote.pcrDigest.buffer, digest, length) == 0;
}

/* Values that change between the reading and the quote are read again. */
static int quote_values(struct tpm *tpm, const TPM2B_DATA *nonce, struct values *values, TPM2B_ATTEST **quoted,
                        TPMT_SIGNATURE **signature, bulla_error *error)
{
    const TPMT_SIG_SCHEME own = {.scheme = TPM2_ALG_NULL}; /* the key's */
    for (int i = 0; i < TRIES; i++) {
        int code = read_values(tpm, values, error);
        if (code == BULLA_OK)
            code = tpm_result(Esys_Quote(tpm->esys, tpm->key, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, nonce, &own,
                                         &tpm->selection, quoted, signature),
                              "quoting", error);
        if (code != BULLA_OK || is_of(*quoted, values, (*signature)->signature.any.hashAlg))
            return code;
        Esys_Free(*quoted);
        Esys_Free(*signature);
        *quoted = NULL;
        *signature = NULL;
    }
    return bulla_fail(error, BULLA_E_IO, "the TPM: its PCRs changed %d times while they were quoted", TRIES);
}

/* ---- The document ---- */

static void write_values(struct buffer *out, const struct values *values)
{
    const char *before = "";
    char hex[2 * HASH_SHA256_BYTES + 1];
    buffer_append_text(out, ",\"pcrs\":{\"sha256\":{");
    for (unsigned pcr = 0; pcr < PCRS; pcr++) {
        if (!(values->read >> pcr & 1))
            continue;
        hex_encode(values->pcrs[pcr], HASH_SHA256_BYTES, hex);
        buffer_append_format(out, "%s\"%u\":\"%s\"", before, pcr, hex);
        before = ",";
    }
    buffer_append_text(out, "}}");
}

/* It is left out where there is none, or it is too long: that was said at the start. */
static int write_log(struct buffer *out, const char *path, bulla_error *error)
{
    struct buffer log = {0};
    bulla_error own = {0};
    int code = tpm_log_read(path, &log, &own);
    if (code == BULLA_OK && log.length)
        document_add_bytes(out, "event_log", log.data, log.length);
    buffer_free(&log);
    return code == BULLA_OK || code == BULLA_E_LIMIT ? BULLA_OK : bulla_fail(error, code, "%s", own.text);
}

static int find_lack(const struct attester_options *options, bulla_error *error)
{
    struct buffer log = {0};
    int code = tpm_log_read(tpm_log_path(options), &log, error);
    buffer_free(&log);
    return code;
}

static void write_key(struct buffer *out, const struct tpm *tpm)
{
    document_add_bytes(out, "ak_public", tpm->public_area.data, tpm->public_area.length);
    if (tpm->certificate.length) {
        buffer_append_text(out, ",\"certificates\":[\"");
        base64_append(out, tpm->certificate.data, tpm->certificate.length);
        buffer_append_text(out, "\"]");
    } else {
        buffer_append_text(out, ",\"ak\":");
        json_write_string(out, (const char *)tpm->pem.data, tpm->pem.length);
    }
}

static int write_document(const struct tpm *tpm, const TPM2B_ATTEST *quoted, const TPMT_SIGNATURE *signature,
                          const struct values *values, struct buffer *document, bulla_error *error)
{
    uint8_t bytes[sizeof(TPMT_SIGNATURE)];
    size_t length = 0;
    int code = tpm_result(Tss2_MU_TPMT_SIGNATURE_Marshal(signature, bytes, sizeof bytes, &length), "encoding a signature", error);
    if (code != BULLA_OK)
        return code;
    buffer_append_text(document, "{\"type\":\"tpm\"");
    document_add_bytes(document, "quote", quoted->attestationData, quoted->size);
    document_add_bytes(document, "signature", bytes, length);
    write_values(document, values);
    write_key(document, tpm);
    code = write_log(document, tpm->event_log, error);
    buffer_append_byte(document, '}');
    return code;
}

static int quote(void *state, const uint8_t report_data[ATTESTER_DATA], struct buffer *document, bulla_error *error)
{
    struct tpm *tpm = state;
    struct values values;
    TPM2B_DATA nonce = {.size = HASH_SHA256_BYTES};
    TPM2B_ATTEST *quoted = NULL;
    TPMT_SIGNATURE *signature = NULL;
    int code = hash_sha256(report_data, ATTESTER_DATA, nonce.buffer, error);
    if (code == BULLA_OK)
        code = quote_values(tpm, &nonce, &values, &quoted, &signature, error);
    if (code == BULLA_OK)
        code = write_document(tpm, quoted, signature, &values, document, error);
    Esys_Free(quoted);
    Esys_Free(signature);
    return code;
}

const struct attester attester_tpm = {
    .name = "tpm",
    .title = "TPM 2.0",
    .is_there = is_there,
    .find_lack = find_lack,
    .open = open_tpm,
    .quote = quote,
    .close = close_tpm,
};
