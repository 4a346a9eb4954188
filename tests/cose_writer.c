#include "cose_writer.h"

#include "test.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>

#include "authority.h"

enum { MAJOR_UNSIGNED, MAJOR_NEGATIVE, MAJOR_BYTES, MAJOR_TEXT, MAJOR_LIST, MAJOR_MAP, MAJOR_TAG };

static void write_head(struct buffer *out, int major, uint64_t argument)
{
    int longer = argument < 0x100 ? 24 : argument < 0x10000 ? 25 : argument >> 32 == 0 ? 26 : 27;
    int info = argument < 24 ? (int)argument : longer;
    buffer_append_byte(out, (uint8_t)(major << 5 | info));
    for (int i = info < 24 ? 0 : 1 << (info - 24); i-- > 0;)
        buffer_append_byte(out, (uint8_t)(argument >> (8 * i)));
}

void cbor_write_integer(struct buffer *out, int64_t value)
{
    write_head(out, value < 0 ? MAJOR_NEGATIVE : MAJOR_UNSIGNED, (uint64_t)(value < 0 ? -1 - value : value));
}

void cbor_write_bytes(struct buffer *out, const void *bytes, size_t length)
{
    write_head(out, MAJOR_BYTES, length);
    buffer_append(out, bytes, length);
}

void cbor_write_text(struct buffer *out, const char *text)
{
    write_head(out, MAJOR_TEXT, strlen(text));
    buffer_append_text(out, text);
}

void cbor_write_list(struct buffer *out, size_t items)
{
    write_head(out, MAJOR_LIST, items);
}

void cbor_write_map(struct buffer *out, size_t pairs)
{
    write_head(out, MAJOR_MAP, pairs);
}

void cbor_write_tag(struct buffer *out, uint64_t tag)
{
    write_head(out, MAJOR_TAG, tag);
}

void cbor_write_null(struct buffer *out)
{
    buffer_append_byte(out, 0xf6);
}

static void write_header(struct buffer *out, const struct cose_writing *writing)
{
    uint8_t bytes[256];
    if (writing->header) {
        size_t length = strlen(writing->header) / 2;
        assert_true(length <= sizeof bytes && hex_decode(writing->header, 2 * length, bytes, length));
        buffer_append(out, bytes, length);
        return;
    }
    cbor_write_map(out, 1);
    cbor_write_integer(out, 1);
    cbor_write_integer(out, writing->algorithm);
}

void cose_write_sign1(struct buffer *out, const struct cose_writing *writing)
{
    int is_256 = writing->algorithm == -7, is_512 = writing->algorithm == -36;
    size_t size = is_256 ? 32 : is_512 ? 66 : 48;
    uint8_t numbers[132];
    struct buffer header = {0}, structure = {0};
    write_header(&header, writing);
    cbor_write_list(&structure, 4);
    cbor_write_text(&structure, "Signature1");
    cbor_write_bytes(&structure, header.data, header.length);
    cbor_write_bytes(&structure, "", 0);
    cbor_write_bytes(&structure, writing->payload, writing->payload_length);
    authority_sign_raw(writing->key, is_256 ? "SHA256" : is_512 ? "SHA512" : "SHA384", structure.data, structure.length,
                       numbers, size);
    if (writing->is_tagged)
        cbor_write_tag(out, 18);
    cbor_write_list(out, 4);
    cbor_write_bytes(out, header.data, header.length);
    cbor_write_map(out, writing->unprotected != 0);
    if (writing->unprotected) {
        cbor_write_integer(out, writing->unprotected_label);
        cbor_write_integer(out, writing->algorithm);
    }
    cbor_write_bytes(out, writing->payload, writing->payload_length);
    cbor_write_bytes(out, numbers, 2 * size);
    buffer_free(&header);
    buffer_free(&structure);
}

size_t cose_key_point(EVP_PKEY *key, uint8_t point[132])
{
    int size = (EVP_PKEY_get_bits(key) + 7) / 8;
    BIGNUM *x = NULL, *y = NULL;
    assert_int_equal(EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_EC_PUB_X, &x), 1);
    assert_int_equal(EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_EC_PUB_Y, &y), 1);
    assert_int_equal(BN_bn2binpad(x, point, size), size);
    assert_int_equal(BN_bn2binpad(y, point + size, size), size);
    BN_free(x);
    BN_free(y);
    return 2 * (size_t)size;
}

void cose_write_key(struct buffer *out, EVP_PKEY *key, int64_t curve, int64_t algorithm)
{
    uint8_t point[132];
    size_t length = cose_key_point(key, point);
    const int64_t numbers[] = {1, 2, -1, curve};
    cbor_write_map(out, algorithm ? 5 : 4);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        cbor_write_integer(out, numbers[i]);
    if (algorithm) {
        cbor_write_integer(out, 3);
        cbor_write_integer(out, algorithm);
    }
    for (int i = 0; i < 2; i++) {
        cbor_write_integer(out, -2 - i);
        cbor_write_bytes(out, point + (size_t)i * length / 2, length / 2);
    }
}
