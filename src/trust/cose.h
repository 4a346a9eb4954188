/* COSE (RFC 9052, RFC 9053) as evidence has it: COSE_Sign1 with ECDSA, and the EC2 keys that go with it. An algorithm
 * is used on its own curve only: ES256 on P-256, ES384 on P-384, ES512 on P-521. */
#ifndef TRUST_COSE_H
#define TRUST_COSE_H

#include <openssl/evp.h>
#include <stddef.h>
#include <stdint.h>

#include "trust/cbor.h"

struct cose_algorithm {
    const char *name;          /* "ES384" */
    int64_t id;
    const char *curve, *digest;
    int64_t curve_id;          /* of COSE_Key */
    size_t size;               /* bytes of a coordinate, and of each number of a signature */
};

struct cose_sign1 {
    const struct cose_algorithm *algorithm;
    int is_tagged;
    const struct cbor *unprotected;   /* a map; nothing vouches for what is in it */
    const struct cbor *header, *payload, *signature; /* byte strings; the header's is the protected one, encoded */
};

/* Reads a COSE_Sign1, tagged (18) or not, whose protected header names one of the algorithms above and nothing that
 * must be understood beyond that ("crit"). The parts are the arena's and the input's. */
int cose_sign1_read(const uint8_t *bytes, size_t length, struct arena *arena, struct cose_sign1 *sign1,
                    bulla_error *error);
/* Whether the key is one for the algorithm and the signature over header and payload is right (no external data). */
int cose_sign1_verify(const struct cose_sign1 *sign1, EVP_PKEY *key);

/* The key of a COSE_Key of type EC2, on the algorithm's curve and for no other algorithm; NULL where it is anything
 * else. EVP_PKEY_free. */
EVP_PKEY *cose_key(const uint8_t *bytes, size_t length, const struct cose_algorithm *algorithm, struct arena *arena,
                   bulla_error *error);

#endif
