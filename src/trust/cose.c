#include "trust/cose.h"

#include <string.h>

#include "base/buffer.h"
#include "trust/signature.h"

enum { TAG_SIGN1 = 18, LABEL_ALGORITHM = 1, LABEL_CRITICAL = 2 };
enum { KEY_TYPE = 1, KEY_ALGORITHM = 3, KEY_CURVE = -1, KEY_X = -2, KEY_Y = -3, TYPE_EC2 = 2, LONGEST_COORDINATE = 66 };

static const struct cose_algorithm algorithms[] = {
    {"ES256", -7, "P-256", "SHA256", 1, 32},
    {"ES384", -35, "P-384", "SHA384", 2, 48},
    {"ES512", -36, "P-521", "SHA512", 3, LONGEST_COORDINATE},
};

static const struct cose_algorithm *find_algorithm(const struct cbor *id)
{
    for (size_t i = 0; i < sizeof algorithms / sizeof *algorithms; i++)
        if (cbor_is_integer(id, algorithms[i].id))
            return &algorithms[i];
    return NULL;
}

/* RFC 9052, section 3: a parameter is in one of the headers only. Those that say how it is signed belong in the
 * protected one. */
static int read_headers(const struct cbor *encoded, struct arena *arena, struct cose_sign1 *sign1, bulla_error *error)
{
    bulla_error own = {0};
    const struct cbor *header = cbor_parse(encoded->bytes, encoded->length, arena, &own);
    if (!cbor_is(header, CBOR_MAP))
        return bulla_fail(error, BULLA_E_INPUT, "COSE_Sign1: the protected header is no map%s%s",
                          own.text[0] ? ": " : "", own.text);
    sign1->algorithm = find_algorithm(cbor_label(header, LABEL_ALGORITHM));
    if (!sign1->algorithm)
        return bulla_fail(error, BULLA_E_UNSUPPORTED, "COSE_Sign1: the algorithm is none of ES256, ES384 and ES512");
    if (cbor_label(header, LABEL_CRITICAL))
        return bulla_fail(error, BULLA_E_UNSUPPORTED, "COSE_Sign1: the header demands what is not understood (crit)");
    if (cbor_label(sign1->unprotected, LABEL_ALGORITHM) || cbor_label(sign1->unprotected, LABEL_CRITICAL))
        return bulla_fail(error, BULLA_E_INPUT, "COSE_Sign1: what belongs in the protected header is in the other");
    return BULLA_OK;
}

int cose_sign1_read(const uint8_t *bytes, size_t length, struct arena *arena, struct cose_sign1 *sign1,
                    bulla_error *error)
{
    const struct cbor *root = cbor_parse(bytes, length, arena, error);
    if (!root)
        return bulla_fail(error, BULLA_E_INPUT, "not CBOR");
    int is_tagged = cbor_is(root, CBOR_TAG) && root->number == TAG_SIGN1;
    const struct cbor *parts = is_tagged ? root->items : root;
    if (!cbor_is(parts, CBOR_ARRAY) || parts->length != 4 || !cbor_is(&parts->items[0], CBOR_BYTES) ||
        !cbor_is(&parts->items[1], CBOR_MAP) || !cbor_is(&parts->items[2], CBOR_BYTES) ||
        !cbor_is(&parts->items[3], CBOR_BYTES))
        return bulla_fail(error, BULLA_E_INPUT, "not a COSE_Sign1: a list of header, map, payload and signature");
    *sign1 = (struct cose_sign1){.is_tagged = is_tagged, .header = &parts->items[0], .unprotected = &parts->items[1],
                                 .payload = &parts->items[2], .signature = &parts->items[3]};
    return read_headers(sign1->header, arena, sign1, error);
}

/* A byte string with the shortest length that does, as section 9 demands of what is signed. */
static void append_bytes(struct buffer *out, const uint8_t *bytes, size_t length)
{
    if (length < 24) {
        buffer_append_byte(out, (uint8_t)(0x40 | length));
    } else if (length <= UINT8_MAX) {
        buffer_append_byte(out, 0x58);
        buffer_append_byte(out, (uint8_t)length);
    } else {
        int bytes_of_length = length <= UINT16_MAX ? 2 : 4;
        buffer_append_byte(out, bytes_of_length == 2 ? 0x59 : 0x5a);
        for (int i = bytes_of_length; i-- > 0;)
            buffer_append_byte(out, (uint8_t)(length >> (8 * i)));
    }
    buffer_append(out, bytes, length);
}

int cose_sign1_verify(const struct cose_sign1 *sign1, EVP_PKEY *key)
{
    static const char context[] = "\x84\x6aSignature1"; /* Sig_structure (section 4.4): a list of 4, first a text */
    const struct cose_algorithm *algorithm = sign1->algorithm;
    struct buffer structure = {0};
    if (!key || !signature_key_is_on(key, algorithm->curve) || sign1->signature->length != 2 * algorithm->size)
        return 0;
    buffer_append_text(&structure, context);
    append_bytes(&structure, sign1->header->bytes, sign1->header->length);
    append_bytes(&structure, (const uint8_t *)"", 0);
    append_bytes(&structure, sign1->payload->bytes, sign1->payload->length);
    int is_right = structure.error.code == BULLA_OK &&
                   signature_ecdsa_verify(key, algorithm->digest, structure.data, structure.length,
                                          sign1->signature->bytes, algorithm->size);
    buffer_free(&structure);
    return is_right;
}

EVP_PKEY *cose_key(const uint8_t *bytes, size_t length, const struct cose_algorithm *algorithm, struct arena *arena,
                   bulla_error *error)
{
    uint8_t point[2 * LONGEST_COORDINATE];
    const struct cbor *map = cbor_parse(bytes, length, arena, error);
    if (!map)
        return NULL;
    const struct cbor *x = cbor_label(map, KEY_X), *y = cbor_label(map, KEY_Y), *own = cbor_label(map, KEY_ALGORITHM);
    EVP_PKEY *key = NULL;
    if (cbor_is_integer(cbor_label(map, KEY_TYPE), TYPE_EC2) && (!own || find_algorithm(own) == algorithm) &&
        cbor_is_integer(cbor_label(map, KEY_CURVE), algorithm->curve_id) && cbor_is(x, CBOR_BYTES) &&
        cbor_is(y, CBOR_BYTES) && x->length == algorithm->size && y->length == algorithm->size) {
        memcpy(point, x->bytes, x->length);
        memcpy(point + x->length, y->bytes, y->length);
        key = signature_key_from_point(algorithm->curve, point, 2 * algorithm->size);
    }
    if (!key)
        bulla_fail(error, BULLA_E_INPUT, "not a COSE_Key for %s: a point of the curve %s", algorithm->name,
                   algorithm->curve);
    return key;
}
