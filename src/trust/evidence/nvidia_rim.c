/* NVIDIA's reference manifests (RIMs): the measurements that a GPU's driver and VBIOS must have. NVIDIA publishes them as
 * SWID tags (ISO/IEC 19770-2) with an XML signature over the canonical form of the tag (Canonical XML 1.1) without that
 * signature. The document holds the canonical form, which whoever gathers the evidence makes of the tag with any XML
 * library: its SHA-384 is in the only place of the signed element (SignedInfo) that is not the same in every tag, so that
 * libcrypto alone verifies it. In the canonical form "<" begins a tag and nothing else, attributes are sorted, and values
 * stand between double quotes: it is read with string functions, after the signature.
 *
 * Document: "rims": {"driver": {"content", "signature" (base64), "certificates"}, "vbios": {...}}. */
#define _GNU_SOURCE
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "trust/evidence/nvidia.h"

enum { MOST_CONTENT_BYTES = 1 << 18, NUMBER_BYTES = 48 /* of P-384 */, DIGEST_BYTES = 48, MOST_ALTERNATIVES = 64,
       MEASUREMENT_OF_DECODER = 35 };

/* SignedInfo in its canonical form, around the digest (W3C XML Signature, 4.4). */
static const char before_digest[] =
    "<ds:SignedInfo xmlns=\"http://standards.iso.org/iso/19770/-2/2015/schema.xsd\""
    " xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\""
    " xmlns:ns0=\"http://standards.iso.org/iso/19770/-2/2015/schema.xsd\""
    " xmlns:ns2=\"http://www.w3.org/2001/04/xmlenc#sha384\">"
    "<ds:CanonicalizationMethod Algorithm=\"http://www.w3.org/2006/12/xml-c14n11\"></ds:CanonicalizationMethod>"
    "<ds:SignatureMethod Algorithm=\"http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384\"></ds:SignatureMethod>"
    "<ds:Reference URI=\"\"><ds:Transforms>"
    "<ds:Transform Algorithm=\"http://www.w3.org/2000/09/xmldsig#enveloped-signature\"></ds:Transform>"
    "<ds:Transform Algorithm=\"http://www.w3.org/2006/12/xml-c14n11\"></ds:Transform></ds:Transforms>"
    "<ds:DigestMethod Algorithm=\"http://www.w3.org/2001/04/xmldsig-more#sha384\"></ds:DigestMethod><ds:DigestValue>";
static const char behind_digest[] = "</ds:DigestValue></ds:Reference></ds:SignedInfo>";

/* One of the two manifests: its member, and what its checks are called. */
struct kind {
    const char *member, *read, *signature, *version, *measurements;
    struct chain_rules chain;
};

static const struct kind kinds[] = {
    {"driver", "nvidia.driver_rim", "nvidia.driver_rim.signature", "nvidia.driver_rim.version",
     "nvidia.driver_rim.measurements", {"nvidia.driver_rim.chain", "nvidia.driver_rim.root", "nvidia_rim", REVOCATION_NONE, NULL}},
    {"vbios", "nvidia.vbios_rim", "nvidia.vbios_rim.signature", "nvidia.vbios_rim.version",
     "nvidia.vbios_rim.measurements", {"nvidia.vbios_rim.chain", "nvidia.vbios_rim.root", "nvidia_rim", REVOCATION_NONE, NULL}},
};

/* Bytes of the content. */
struct span {
    const char *at;
    size_t length;
};

/* ---- Reading the canonical form ---- */

/* The attributes of the next element of that name, e.g. "<ns0:Meta "; moves `rest` behind its name. */
static int next_element(struct span *rest, const char *opening, struct span *attributes)
{
    size_t skipped = strlen(opening);
    const char *at = memmem(rest->at, rest->length, opening, skipped);
    if (!at)
        return 0;
    rest->length -= (size_t)(at - rest->at) + skipped;
    rest->at = at + skipped;
    *attributes = *rest;
    return 1;
}

/* The value of an attribute: `name="value"`, blank, the next; ">" ends them. */
static int attribute(struct span attributes, const char *name, struct span *value)
{
    const char *at = attributes.at, *end = attributes.at + attributes.length;
    while (at < end && *at != '>') {
        const char *equals = memchr(at, '=', (size_t)(end - at));
        const char *closing = equals && end - equals > 2 ? memchr(equals + 2, '"', (size_t)(end - equals) - 2) : NULL;
        if (!closing)
            return 0;
        if ((size_t)(equals - at) == strlen(name) && memcmp(at, name, strlen(name)) == 0) {
            *value = (struct span){equals + 2, (size_t)(closing - equals) - 2};
            return 1;
        }
        at = closing + 1;
        at += at < end && *at == ' ';
    }
    return 0;
}

static int attribute_is(struct span attributes, const char *name, const char *text)
{
    struct span value;
    return attribute(attributes, name, &value) && value.length == strlen(text) && memcmp(value.at, text, value.length) == 0;
}

/* A small decimal number; -1: none. */
static int attribute_number(struct span attributes, const char *name)
{
    struct span value;
    int number = 0;
    if (!attribute(attributes, name, &value) || value.length == 0 || value.length > 3)
        return -1;
    for (size_t i = 0; i < value.length; i++) {
        if (value.at[i] < '0' || value.at[i] > '9')
            return -1;
        number = 10 * number + (value.at[i] - '0');
    }
    return number;
}

/* ---- Checks ---- */

/* Whether the report's measurement is one of those that the element lists. */
static int is_measured(struct span element, const struct nvidia_report *report, int index)
{
    int alternatives = attribute_number(element, "alternatives");
    for (int i = 0; i < alternatives && i < MOST_ALTERNATIVES; i++) {
        char name[16];
        uint8_t expected[NVIDIA_MEASUREMENT_BYTES];
        struct span value;
        snprintf(name, sizeof name, "ns2:Hash%d", i);
        if (attribute(element, name, &value) && hex_decode(value.at, value.length, expected, sizeof expected) && index >= 0 &&
            (size_t)index < report->measurement_count && memcmp(expected, report->measurements[index], sizeof expected) == 0)
            return 1;
    }
    return 0;
}

static int check_measurements(const struct kind *kind, struct span content, const struct nvidia_report *report,
                              struct verdict *verdict)
{
    struct span element;
    size_t compared = 0;
    while (next_element(&content, "<ns0:Resource ", &element)) {
        int index = attribute_number(element, "index");
        if (!attribute_is(element, "type", "Measurement") || attribute_is(element, "active", "False") ||
            (index == MEASUREMENT_OF_DECODER && report->has_no_decoder))
            continue;
        if (!is_measured(element, report, index))
            return verdict_fails(verdict, kind->measurements, "measurement %d is none of the manifest's", index);
        compared++;
    }
    return verdict_holds(verdict, kind->measurements, compared > 0, "the manifest's active measurements", "%zu of them",
                         compared);
}

static int check_version(const struct kind *kind, struct span content, const char *version, struct verdict *verdict)
{
    struct span meta, found = {"none", 4};
    int is_same = next_element(&content, "<ns0:Meta ", &meta) && attribute(meta, "colloquialVersion", &found) && version &&
                  found.length == strlen(version) && memcmp(found.at, version, found.length) == 0;
    return verdict_holds(verdict, kind->version, is_same, version ? version : "the report's", "%.*s",
                         (int)(found.length < 64 ? found.length : 64), found.at);
}

static int check_signature(const struct kind *kind, struct span content, const uint8_t *signature, X509 *leaf,
                           struct verdict *verdict)
{
    uint8_t digest[DIGEST_BYTES] = {0};
    struct buffer signed_info = {0};
    if (EVP_Q_digest(NULL, "SHA384", NULL, content.at, content.length, digest, NULL) != 1)
        bulla_fail(&verdict->error, BULLA_E_INTERNAL, "SHA-384 failed");
    buffer_append_text(&signed_info, before_digest);
    base64_append(&signed_info, digest, sizeof digest);
    buffer_append_text(&signed_info, behind_digest);
    if (signed_info.error.code != BULLA_OK)
        bulla_fail(&verdict->error, signed_info.error.code, "%s", signed_info.error.text);
    int is_right = certificate_check_p384(leaf, NULL, kind->signature, signed_info.data, signed_info.length, signature,
                                          verdict);
    buffer_free(&signed_info);
    return is_right;
}

static int check_rim(const struct kind *kind, struct evidence *evidence, const struct nvidia_report *report,
                     const char *version)
{
    struct verdict *verdict = evidence->verdict;
    const struct json *member = json_get(json_get(evidence->document, "rims"), kind->member);
    if (!member) {
        verdict_not_made(verdict, kind->read, "the document has no reference manifest of NVIDIA's (\"rims\": {\"%s\"})",
                         kind->member);
        return 0;
    }
    struct evidence part = {.document = member, .verdict = verdict};
    struct certificates chain = {0};
    size_t length, signature_length;
    const uint8_t *bytes = evidence_bytes(&part, kind->read, "content", MOST_CONTENT_BYTES, &length), *signature = NULL;
    if (bytes)
        signature = evidence_bytes(&part, kind->read, "signature", 2 * NUMBER_BYTES, &signature_length);
    int holds = signature && evidence_certificates(&part, kind->read, CERTIFICATE, member, "certificates", &chain);
    if (holds && signature_length != 2 * NUMBER_BYTES)
        holds = verdict_fails(verdict, kind->read, "its signature is not of %d bytes", 2 * NUMBER_BYTES);
    if (holds) {
        struct span content = {(const char *)bytes, length};
        holds = certificates_verify(&chain, &chain, &kind->chain, evidence->time, verdict);
        holds &= check_signature(kind, content, signature, chain.list[0], verdict);
        holds &= check_version(kind, content, version, verdict);
        holds &= check_measurements(kind, content, report, verdict);
    }
    certificates_free(&chain);
    return holds;
}

int nvidia_check_rims(struct evidence *evidence, const struct nvidia_report *report)
{
    int driver = check_rim(&kinds[0], evidence, report, report->driver_version);
    int vbios = check_rim(&kinds[1], evidence, report, report->vbios_version);
    return driver && vbios;
}
