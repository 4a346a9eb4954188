/* Attestation reports of NVIDIA GPUs (Hopper, Blackwell): SPDM 1.1 (DMTF DSP0274, 10.11), the GET_MEASUREMENTS request
 * followed by the MEASUREMENTS response, signed by the GPU's attestation key; opaque data and certificates as NVIDIA's
 * attestation SDK reads them.
 *
 * Document: "report", "certificates" (leaf, ..., NVIDIA Device Identity CA), "crls" (optional), "rims" (optional:
 * nvidia_rim.c). */
#include "trust/evidence/nvidia.h"

#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/objects.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "trust/formats.h"

enum {
    MOST_REPORT_BYTES = 1 << 16, REQUEST_BYTES = 37, NONCE_BYTES = 32, NUMBER_BYTES = 48 /* of P-384 */,
    AT_NONCE = 4, AT_SLOT = 36, AT_RESPONSE = REQUEST_BYTES, AT_RESPONSE_SLOT = REQUEST_BYTES + 3,
    DMTF = 1, VALUE_HEAD = 3, RAW_BITS = 0x80, MOST_OPAQUE_VERSION = 1, CHAIN_LENGTH = 5,
    NO_DECODER = 0x55, FWID_BYTES = 48, FWID_LIST = 6 /* the tag of DiceTcbInfo's fwids */
};

/* Types of opaque data. */
enum { DRIVER_VERSION = 3, VBIOS_VERSION = 6, DECODER_STATUS = 11, CHIP_SKU = 15, PROJECT = 17, PROJECT_SKU = 18, FWID = 20,
       OPAQUE_VERSION = 34, OPAQUE_TYPES = 64 };

struct opaque {
    const uint8_t *bytes; /* NULL: not there */
    size_t length;
};

struct nvidia {
    struct evidence *evidence;
    struct verdict *verdict;
    const uint8_t *bytes;
    size_t length, block_count, signed_length;
    struct opaque record, opaque; /* the measurement record, all opaque data */
    struct opaque fields[OPAQUE_TYPES];
    struct nvidia_report report;
    struct certificates chain;
    X509 *leaf;
};

/* ---- The report by itself ---- */

static int read_report(struct nvidia *gpu)
{
    gpu->bytes = evidence_bytes(gpu->evidence, "nvidia.report", "report", MOST_REPORT_BYTES, &gpu->length);
    if (!gpu->bytes)
        return 0;
    struct reader reader = reader_over(gpu->bytes, gpu->length);
    reader_bytes(&reader, REQUEST_BYTES + 4);
    gpu->block_count = reader_u8(&reader);
    gpu->record.length = reader_u16(&reader);
    gpu->record.length |= (size_t)reader_u8(&reader) << 16;
    gpu->record.bytes = reader_bytes(&reader, gpu->record.length);
    reader_bytes(&reader, NONCE_BYTES); /* the GPU's own */
    gpu->opaque.length = reader_u16(&reader);
    gpu->opaque.bytes = reader_bytes(&reader, gpu->opaque.length);
    gpu->signed_length = reader.offset;
    reader_bytes(&reader, 2 * NUMBER_BYTES);
    size_t others = 0;
    while (reader_left(&reader) > 0) /* some drivers' buffers are longer than the report */
        others += reader_u8(&reader) != 0;
    return verdict_is(gpu->verdict, "nvidia.report.form", !reader.failed && others == 0,
                      "a request, a response and its signature of 96 bytes, at most zeros behind");
}

static void check_head(struct nvidia *gpu)
{
    static const struct {
        const char *check;
        int at, expected;
    } bytes[] = {
        {"nvidia.request.version", 0, 0x11},        /* SPDM 1.1 */
        {"nvidia.request.code", 1, 0xe0},           /* GET_MEASUREMENTS */
        {"nvidia.request.attributes", 2, 1},        /* with a signature */
        {"nvidia.request.operation", 3, 0xff},      /* all measurements */
        {"nvidia.response.version", AT_RESPONSE, 0x11},
        {"nvidia.response.code", AT_RESPONSE + 1, 0x60}, /* MEASUREMENTS */
    };
    for (size_t i = 0; i < sizeof bytes / sizeof *bytes; i++)
        verdict_same_number(gpu->verdict, bytes[i].check, gpu->bytes[bytes[i].at], (uint64_t)bytes[i].expected);
    verdict_same_number(gpu->verdict, "nvidia.response.slot", gpu->bytes[AT_RESPONSE_SLOT] & 15, gpu->bytes[AT_SLOT] & 15);
    const uint8_t *nonce = gpu->bytes + AT_NONCE;
    evidence_claim_bytes(gpu->evidence, "report_data", nonce, NONCE_BYTES);
    if (gpu->evidence->nonce)
        verdict_same_bytes(gpu->verdict, "nvidia.request.nonce", nonce, NONCE_BYTES, gpu->evidence->nonce,
                           gpu->evidence->nonce_length);
    else
        verdict_not_made(gpu->verdict, "nvidia.request.nonce", "the report stands alone: its nonce is its report data");
}

/* Blocks of one DMTF digest each, numbered from 1 on (10.11.1, tables of the measurement block). */
static void check_measurements(struct nvidia *gpu)
{
    struct reader reader = reader_over(gpu->record.bytes, gpu->record.length);
    int are_dmtf = 1, are_digests = 1, are_numbered = 1;
    size_t count = 0;
    for (; reader_left(&reader) > 0; count++) {
        uint8_t index = reader_u8(&reader), specification = reader_u8(&reader);
        uint16_t size = reader_u16(&reader);
        struct reader block = reader_over(gpu->record.bytes + reader.offset, reader_left(&reader) < size ? 0 : size);
        reader_bytes(&reader, size);
        uint8_t type = reader_u8(&block);
        uint16_t length = reader_u16(&block);
        are_dmtf &= specification == DMTF;
        are_digests &= size == VALUE_HEAD + NVIDIA_MEASUREMENT_BYTES && length == NVIDIA_MEASUREMENT_BYTES &&
                       !(type & RAW_BITS);
        are_numbered &= index == count + 1;
        if (count < NVIDIA_MEASUREMENTS)
            gpu->report.measurements[count] = reader_bytes(&block, NVIDIA_MEASUREMENT_BYTES);
    }
    gpu->report.measurement_count = count;
    int is_whole = !reader.failed && count == gpu->block_count && count > 0 && count <= NVIDIA_MEASUREMENTS;
    verdict_holds(gpu->verdict, "nvidia.measurements.count", is_whole, "as many blocks as the response says, 1 to 64",
                  "%zu blocks, %zu said", count, gpu->block_count);
    verdict_is(gpu->verdict, "nvidia.measurements.specification", are_dmtf, "1 (DMTF)");
    verdict_is(gpu->verdict, "nvidia.measurements.kind", are_digests, "digests of 48 bytes");
    verdict_is(gpu->verdict, "nvidia.measurements.order", are_numbered, "numbered from 1 on");
    if (!is_whole || !are_digests)
        gpu->report.measurement_count = 0;
    for (unsigned i = 0; i < gpu->report.measurement_count; i++)
        evidence_claim_slot(gpu->evidence, "gpu.measurement", i, gpu->report.measurements[i], NVIDIA_MEASUREMENT_BYTES);
}

/* ---- Opaque data: what the driver and the firmware say of themselves ---- */

/* Of printable characters, zeros behind; NULL: not there, or anything else. */
static const char *opaque_text(struct nvidia *gpu, int type)
{
    const struct opaque *field = &gpu->fields[type];
    size_t length = 0;
    while (length < field->length && field->bytes[length] > ' ' && field->bytes[length] < 0x7f)
        length++;
    for (size_t i = length; i < field->length; i++)
        if (field->bytes[i] != 0)
            return NULL;
    return length ? arena_copy_text(&gpu->verdict->arena, (const char *)field->bytes, length, &gpu->verdict->error) : NULL;
}

/* NVIDIA's way of writing the two words: 00 5e 00 96 01 00 00 00 is 96.00.5E.00.01. */
static const char *vbios_text(struct nvidia *gpu)
{
    const struct opaque *field = &gpu->fields[VBIOS_VERSION];
    char text[16];
    if (field->length != 8)
        return NULL;
    const uint8_t *at = field->bytes;
    int length = snprintf(text, sizeof text, "%02X.%02X.%02X.%02X.%02X", at[3], at[2], at[1], at[0], at[4]);
    return arena_copy_text(&gpu->verdict->arena, text, (size_t)length, &gpu->verdict->error);
}

static void read_opaque(struct nvidia *gpu)
{
    struct reader reader = reader_over(gpu->opaque.bytes, gpu->opaque.length);
    int are_once = 1;
    while (reader_left(&reader) > 0) {
        uint16_t type = reader_u16(&reader), length = reader_u16(&reader);
        const uint8_t *bytes = reader_bytes(&reader, length);
        if (type >= OPAQUE_TYPES || !bytes) /* later firmware may say more */
            continue;
        are_once &= !gpu->fields[type].bytes;
        gpu->fields[type] = (struct opaque){bytes, length};
    }
    verdict_holds(gpu->verdict, "nvidia.opaque.form", !reader.failed && are_once, "fields to the end, each once", "%s",
                  reader.failed ? "a field that is cut off" : are_once ? "so" : "a field twice");
}

static void check_opaque(struct nvidia *gpu)
{
    struct nvidia_report *report = &gpu->report;
    read_opaque(gpu);
    const struct opaque *version = &gpu->fields[OPAQUE_VERSION], *decoder = &gpu->fields[DECODER_STATUS];
    struct reader reader = reader_over(version->bytes, version->length);
    unsigned number = version->bytes ? reader_u16(&reader) : 0;
    verdict_holds(gpu->verdict, "nvidia.opaque.version", !reader.failed && number <= MOST_OPAQUE_VERSION, "0 or 1", "%u",
                  number);
    report->has_no_decoder = decoder->length == 1 && decoder->bytes[0] == NO_DECODER;
    report->driver_version = opaque_text(gpu, DRIVER_VERSION);
    report->vbios_version = vbios_text(gpu);
    verdict_holds(gpu->verdict, "nvidia.opaque.driver_version", report->driver_version != NULL, "a version", "%s",
                  report->driver_version ? report->driver_version : "none");
    verdict_holds(gpu->verdict, "nvidia.opaque.vbios_version", report->vbios_version != NULL, "a version", "%s",
                  report->vbios_version ? report->vbios_version : "none");
    if (report->driver_version)
        evidence_claim_text(gpu->evidence, "gpu.driver_version", report->driver_version);
    if (report->vbios_version)
        evidence_claim_text(gpu->evidence, "gpu.vbios_version", report->vbios_version);
    const char *project = opaque_text(gpu, PROJECT), *project_sku = opaque_text(gpu, PROJECT_SKU),
               *chip_sku = opaque_text(gpu, CHIP_SKU);
    char sku[128];
    int length = snprintf(sku, sizeof sku, "%s_%s_%s", project ? project : "", project_sku ? project_sku : "",
                          chip_sku ? chip_sku : "");
    const char *text = length < (int)sizeof sku ? arena_copy_text(&gpu->verdict->arena, sku, (size_t)length,
                                                                  &gpu->verdict->error) : NULL;
    if (text && project && project_sku && chip_sku)
        evidence_claim_text(gpu->evidence, "gpu.sku", text);
}

/* ---- The chain ---- */

/* A GPU's leaf is "GH100 A01 GSP FMC LF": of the GPU's System Processor. Other devices chain to the same root. */
static void check_kind(struct nvidia *gpu)
{
    static const char ending[] = " GSP FMC LF";
    const X509_NAME *subject = X509_get_subject_name(gpu->leaf);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    const ASN1_STRING *data = at < 0 ? NULL : X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));
    const char *name = data ? arena_copy_text(&gpu->verdict->arena, (const char *)ASN1_STRING_get0_data(data),
                                              (size_t)ASN1_STRING_length(data), &gpu->verdict->error) : NULL;
    size_t length = name ? strlen(name) : 0, chip = name ? strcspn(name, " ") : 0;
    int is_gpu = length > sizeof ending - 1 && chip > 0 && strcmp(name + length - (sizeof ending - 1), ending) == 0 &&
                 X509_NAME_get_index_by_NID(subject, NID_commonName, at) < 0;
    if (!verdict_holds(gpu->verdict, "nvidia.certificate.kind", is_gpu, "a GPU's: CHIP REVISION GSP FMC LF", "%s",
                       name ? name : "no name"))
        return;
    const char *text = arena_copy_text(&gpu->verdict->arena, name, chip, &gpu->verdict->error);
    if (text)
        evidence_claim_text(gpu->evidence, "gpu.chip", text);
}

static void check_chain(struct nvidia *gpu)
{
    static const struct chain_rules rules = {"nvidia.chain", "nvidia.root", "nvidia", REVOCATION_GIVEN, "nvidia.crls"};
    certificates_verify(&gpu->chain, &gpu->chain, &rules, gpu->evidence->time, gpu->verdict);
    verdict_same_number(gpu->verdict, "nvidia.chain.length", gpu->chain.count, CHAIN_LENGTH);
    check_kind(gpu);
}

/* FWID ::= SEQUENCE { hashAlg OBJECT IDENTIFIER, digest OCTET STRING } of SHA-384. */
static int read_fwid(const uint8_t *der, long length, uint8_t fwid[FWID_BYTES])
{
    ASN1_SEQUENCE_ANY *parts = d2i_ASN1_SEQUENCE_ANY(NULL, &der, length);
    const ASN1_TYPE *hash = sk_ASN1_TYPE_value(parts, 0), *digest = sk_ASN1_TYPE_value(parts, 1);
    int is_one = sk_ASN1_TYPE_num(parts) == 2 && hash->type == V_ASN1_OBJECT &&
                 OBJ_obj2nid(hash->value.object) == NID_sha384 && digest->type == V_ASN1_OCTET_STRING &&
                 ASN1_STRING_length(digest->value.octet_string) == FWID_BYTES;
    if (is_one)
        memcpy(fwid, ASN1_STRING_get0_data(digest->value.octet_string), FWID_BYTES);
    sk_ASN1_TYPE_pop_free(parts, ASN1_TYPE_free);
    return is_one;
}

/* The element that holds the FWID: of Hopper's extension (2.23.133.5.4.1: version, device's key, FWID) the third; of
 * DiceTcbInfo (2.23.133.5.4.1.1, TCG DICE Attestation Architecture, 6.1.1) the first in the list tagged 6. */
static int find_fwid(const uint8_t *der, long length, uint8_t fwid[FWID_BYTES])
{
    int is_found = 0;
    ASN1_SEQUENCE_ANY *parts = d2i_ASN1_SEQUENCE_ANY(NULL, &der, length);
    for (int i = 0; i < sk_ASN1_TYPE_num(parts) && !is_found; i++) {
        const ASN1_TYPE *part = sk_ASN1_TYPE_value(parts, i);
        if (part->type != V_ASN1_SEQUENCE && part->type != V_ASN1_OTHER)
            continue;
        const uint8_t *inner = ASN1_STRING_get0_data(part->value.asn1_string);
        long size = ASN1_STRING_length(part->value.asn1_string), left = size;
        int tag, tag_class;
        const uint8_t *at = inner;
        if (part->type == V_ASN1_SEQUENCE)
            is_found = read_fwid(inner, size, fwid);
        else if (!(ASN1_get_object(&at, &left, &tag, &tag_class, size) & 0x80) && tag == FWID_LIST &&
                 tag_class == V_ASN1_CONTEXT_SPECIFIC)
            is_found = read_fwid(at, left, fwid);
    }
    sk_ASN1_TYPE_pop_free(parts, ASN1_TYPE_free);
    ERR_clear_error();
    return is_found;
}

/* The firmware that the leaf was issued for is the firmware that reports. */
static void check_fwid(struct nvidia *gpu)
{
    uint8_t fwid[FWID_BYTES];
    size_t length = 0;
    const struct opaque *said = &gpu->fields[FWID];
    if (!said->bytes) {
        verdict_not_made(gpu->verdict, "nvidia.fwid", "this firmware's report does not say it");
        return;
    }
    const uint8_t *der = certificate_extension(gpu->leaf, "2.23.133.5.4.1", &length);
    if (!der)
        der = certificate_extension(gpu->leaf, "2.23.133.5.4.1.1", &length);
    int is_found = der && find_fwid(der, (long)length, fwid);
    verdict_same_bytes(gpu->verdict, "nvidia.fwid", said->bytes, said->length, is_found ? fwid : NULL, FWID_BYTES);
}

static void verify(struct evidence *evidence)
{
    struct nvidia gpu = {.evidence = evidence, .verdict = evidence->verdict};
    if (!read_report(&gpu))
        return;
    check_head(&gpu);
    check_measurements(&gpu);
    check_opaque(&gpu);
    if (evidence_chain(evidence, "nvidia.certificates", "nvidia.crls", &gpu.chain)) {
        gpu.leaf = gpu.chain.list[0];
        check_chain(&gpu);
        check_fwid(&gpu);
        certificate_check_p384(gpu.leaf, "nvidia.certificate.key", "nvidia.report.signature", gpu.bytes,
                               gpu.signed_length, gpu.bytes + gpu.signed_length, gpu.verdict);
        evidence_claim_flag(evidence, "gpu.unmeasured", !nvidia_check_rims(evidence, &gpu.report));
    }
    certificates_free(&gpu.chain);
}

const struct evidence_format evidence_nvidia = {
    .type = "nvidia",
    .title = "NVIDIA GPU attestation report",
    .is_gpu = 1,
    .has_met_real = 1,
    .report_data_bytes = 32,
    .verify = verify,
};
