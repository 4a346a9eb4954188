/* CBOR and COSE_Sign1 for tests, written as RFC 8949 and RFC 9052 say and apart from the code that reads them. */
#ifndef TESTS_COSE_WRITER_H
#define TESTS_COSE_WRITER_H

#include <openssl/evp.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

/* Appends items, with the shortest lengths. Lists, maps and tags are followed by what is in them. */
void cbor_write_integer(struct buffer *out, int64_t value);
void cbor_write_bytes(struct buffer *out, const void *bytes, size_t length);
void cbor_write_text(struct buffer *out, const char *text);
void cbor_write_list(struct buffer *out, size_t items);
void cbor_write_map(struct buffer *out, size_t pairs);
void cbor_write_tag(struct buffer *out, uint64_t tag);
void cbor_write_null(struct buffer *out);

/* What a COSE_Sign1 is made with. Zero members take the defaults. */
struct cose_writing {
    int64_t algorithm;              /* -7, -35 or -36; another is written, and signed as -35 */
    EVP_PKEY *key;
    int is_tagged, unprotected;     /* unprotected: one parameter is there */
    int64_t unprotected_label;      /* its label */
    const char *header;             /* NULL: {1: algorithm}; else the protected header in hex */
    const void *payload;
    size_t payload_length;
};

void cose_write_sign1(struct buffer *out, const struct cose_writing *writing);
/* A COSE_Key of an EC key: {1: 2, -1: curve, -2: x, -3: y}, with 3: `algorithm` where that is not 0. */
void cose_write_key(struct buffer *out, EVP_PKEY *key, int64_t curve, int64_t algorithm);
/* x || y of an EC key; gives their length in all. */
size_t cose_key_point(EVP_PKEY *key, uint8_t point[132]);

#endif
