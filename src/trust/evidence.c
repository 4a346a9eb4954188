#include "trust/evidence.h"

#include <stdio.h>
#include <string.h>

#include "trust/formats.h"

enum { EVIDENCE_VERSION = 1 };

static const struct evidence_format *const formats[] = {
    &evidence_cca,
    &evidence_nitro,
    &evidence_snp,
    &evidence_sim,
    &evidence_sgx,
    &evidence_tdx,
    &evidence_nvidia,
    &evidence_tpm,
};

const struct evidence_format *evidence_format_find(const char *type)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strcmp(formats[i]->type, type) == 0)
            return formats[i];
    return NULL;
}

const struct evidence_format *evidence_verify(struct evidence *evidence)
{
    struct verdict *verdict = evidence->verdict;
    const struct json *version = json_get(evidence->document, "bulla_evidence"), *type = json_get(evidence->document, "type");
    if (!json_is(version, JSON_NUMBER) || !version->is_integer || version->integer != EVIDENCE_VERSION) {
        verdict_fails(verdict, "evidence.version", "the document is not evidence of version %d (\"bulla_evidence\": %d)",
                      EVIDENCE_VERSION, EVIDENCE_VERSION);
        return NULL;
    }
    const struct evidence_format *format = json_is(type, JSON_STRING) ? evidence_format_find(type->text) : NULL;
    if (!verdict_holds(verdict, "evidence.type", format != NULL, "a type that this version knows", "%.40s",
                       json_is(type, JSON_STRING) ? type->text : "none"))
        return NULL;
    format->verify(evidence);
    return format;
}

/* ---- For formats ---- */

const uint8_t *evidence_bytes(struct evidence *evidence, const char *check, const char *member, size_t most, size_t *length)
{
    const struct json *value = json_get(evidence->document, member);
    *length = 0;
    if (!json_is(value, JSON_STRING)) {
        verdict_fails(evidence->verdict, check, "the document has no \"%s\" (a string in base64)", member);
        return NULL;
    }
    if (base64_most(value->length) > most + 2) {
        verdict_fails(evidence->verdict, check, "\"%s\" is longer than %zu bytes", member, most);
        return NULL;
    }
    uint8_t *bytes = arena_alloc(&evidence->verdict->arena, base64_most(value->length) + 1, 1, &evidence->verdict->error);
    if (bytes && base64_decode(value->text, value->length, bytes, length) && *length <= most)
        return bytes;
    verdict_fails(evidence->verdict, check, "\"%s\" is not base64 of at most %zu bytes", member, most);
    return NULL;
}

int evidence_certificates(struct evidence *evidence, const char *check, enum certificate_kind kind,
                          const struct json *document, const char *member, struct certificates *certificates)
{
    bulla_error error = {0};
    int code = certificates_add_json(certificates, kind, json_get(document, member), &error);
    if (code == BULLA_OK && (kind == REVOCATION_LIST || certificates->count))
        return 1;
    return verdict_fails(evidence->verdict, check, "\"%s\": %s", member, code != BULLA_OK ? error.text : "an empty list");
}

int evidence_chain(struct evidence *evidence, const char *check, const char *crls_check, struct certificates *chain)
{
    const struct json *document = evidence->document;
    if (!evidence_certificates(evidence, check, CERTIFICATE, document, "certificates", chain))
        return 0;
    return !json_get(document, "crls") ||
           evidence_certificates(evidence, crls_check, REVOCATION_LIST, document, "crls", chain);
}

uint64_t evidence_number(const uint8_t *at, size_t bytes)
{
    uint64_t number = 0;
    while (bytes-- > 0)
        number = number << 8 | at[bytes];
    return number;
}

static void add_claim(struct evidence *evidence, struct claim claim)
{
    if (evidence->claim_count == MOST_CLAIMS) /* the verdict does not pass any more */
        bulla_fail(&evidence->verdict->error, BULLA_E_INTERNAL, "more than %d claims", MOST_CLAIMS);
    else
        evidence->claims[evidence->claim_count++] = claim;
}

void evidence_claim_bytes(struct evidence *evidence, const char *name, const uint8_t *bytes, size_t length)
{
    add_claim(evidence, (struct claim){.name = name, .kind = CLAIM_BYTES, .bytes = bytes, .length = length});
}

void evidence_claim_number(struct evidence *evidence, const char *name, uint64_t number)
{
    add_claim(evidence, (struct claim){.name = name, .kind = CLAIM_NUMBER, .number = number});
}

void evidence_claim_flag(struct evidence *evidence, const char *name, int is_set)
{
    add_claim(evidence, (struct claim){.name = name, .kind = CLAIM_FLAG, .number = is_set != 0});
}

void evidence_claim_text(struct evidence *evidence, const char *name, const char *text)
{
    add_claim(evidence, (struct claim){.name = name, .kind = CLAIM_TEXT, .text = text});
}

void evidence_claim_fields(struct evidence *evidence, const uint8_t *bytes, size_t length, const struct claim_field *fields,
                           size_t count)
{
    for (const struct claim_field *field = fields; field < fields + count; field++)
        if (field->at + field->length > length)
            continue;
        else if (field->is_number)
            evidence_claim_number(evidence, field->name, evidence_number(bytes + field->at, field->length));
        else
            evidence_claim_bytes(evidence, field->name, bytes + field->at, field->length);
}

void evidence_claim_slot(struct evidence *evidence, const char *name, unsigned number, const uint8_t *bytes,
                         size_t length)
{
    char text[64];
    int written = snprintf(text, sizeof text, "%s%u", name, number);
    const char *copy = arena_copy_text(&evidence->verdict->arena, text, (size_t)written, &evidence->verdict->error);
    if (copy)
        evidence_claim_bytes(evidence, copy, bytes, length);
}

const struct claim *evidence_claim(const struct evidence *evidence, const char *name)
{
    for (size_t i = 0; i < evidence->claim_count; i++)
        if (strcmp(evidence->claims[i].name, name) == 0)
            return &evidence->claims[i];
    return NULL;
}
