#include "trust/ra_tls_write.h"

#include <string.h>

#include "trust/ra_tls.h"

enum { MAJOR_BYTES = 2, MAJOR_TEXT = 3, MAJOR_ARRAY = 4, MAJOR_MAP = 5, MAJOR_TAG = 6, SHA_256 = 1 };

/* RFC 8949 section 3: the major type and a number of at most 32 bits, as short as it can be. */
static void write_head(struct buffer *out, unsigned major, size_t number)
{
    unsigned bytes = number < 24 ? 0 : number < 0x100 ? 1 : number < 0x10000 ? 2 : 4;
    unsigned code = bytes == 0 ? (unsigned)number : bytes == 1 ? 24 : bytes == 2 ? 25 : 26;
    buffer_append_byte(out, (uint8_t)(major << 5 | code));
    while (bytes-- > 0)
        buffer_append_byte(out, (uint8_t)(number >> (8 * bytes)));
}

static void write_string(struct buffer *out, unsigned major, const void *bytes, size_t length)
{
    write_head(out, major, length);
    buffer_append(out, bytes, length);
}

void ra_tls_write_claims(const uint8_t key[32], struct buffer *claims)
{
    static const char name[] = "pubkey-hash";
    struct buffer pair = {0};
    write_head(&pair, MAJOR_ARRAY, 2);
    buffer_append_byte(&pair, SHA_256);
    write_string(&pair, MAJOR_BYTES, key, 32);
    write_head(claims, MAJOR_MAP, 1);
    write_string(claims, MAJOR_TEXT, name, sizeof name - 1);
    write_string(claims, MAJOR_BYTES, pair.data, pair.length);
    if (pair.error.code != BULLA_OK && claims->error.code == BULLA_OK)
        claims->error = pair.error;
    buffer_free(&pair);
}

void ra_tls_write_tagged(const void *quote, size_t quote_length, const struct buffer *claims, struct buffer *extension)
{
    write_head(extension, MAJOR_TAG, RA_TLS_QUOTE_TAG);
    write_head(extension, MAJOR_ARRAY, 2);
    write_string(extension, MAJOR_BYTES, quote, quote_length);
    write_string(extension, MAJOR_BYTES, claims->data, claims->length);
}

void ra_tls_write_wrapped(const void *document, size_t length, struct buffer *extension)
{
    static const char type[] = RA_TLS_MEDIA_TYPE;
    write_head(extension, MAJOR_ARRAY, 2);
    write_string(extension, MAJOR_TEXT, type, sizeof type - 1);
    write_string(extension, MAJOR_BYTES, document, length);
}
