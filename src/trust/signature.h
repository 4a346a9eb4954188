/* Signatures as evidence carries them, checked by libcrypto: ECDSA as two numbers rather than DER, keys as points. */
#ifndef TRUST_SIGNATURE_H
#define TRUST_SIGNATURE_H

#include <openssl/evp.h>
#include <stddef.h>
#include <stdint.h>

/* ECDSA over `length` bytes at `data`, hashed with `digest` ("SHA256", "SHA384"): r and s of `size` bytes each, big-endian,
 * one after the other. 1 where the signature is right. The key may be of any kind: only EC keys can be right. */
int signature_ecdsa_verify(EVP_PKEY *key, const char *digest, const void *data, size_t length, const uint8_t *r_and_s,
                           size_t size);
/* A signature in the key's own encoding (ECDSA: DER; RSA: PKCS #1 v1.5; Ed25519: 64 bytes, `digest` NULL). */
int signature_verify(EVP_PKEY *key, const char *digest, const void *data, size_t length, const uint8_t *signature,
                     size_t signature_length);
/* RSASSA-PSS with MGF1 of the same digest and a salt of any length, as TPMs choose it. */
int signature_rsa_pss_any_salt_verify(EVP_PKEY *key, const char *digest, const void *data, size_t length,
                                      const uint8_t *signature, size_t signature_length);
/* Ed25519: 1 where it is made. */
int signature_ed25519_sign(EVP_PKEY *key, const void *data, size_t length, uint8_t signature[64]);

/* The public key of a point x || y (`length` bytes in all) on the curve "P-256", "P-384" or "P-521"; NULL where it is none.
 * The caller's, EVP_PKEY_free. */
EVP_PKEY *signature_key_from_point(const char *curve, const uint8_t *point, size_t length);
/* Of 32 bytes of Ed25519. */
EVP_PKEY *signature_key_from_ed25519(const uint8_t key[32]);
/* Whether the key is on that curve. */
int signature_key_is_on(EVP_PKEY *key, const char *curve);

#endif
