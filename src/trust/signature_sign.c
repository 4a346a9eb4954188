/* The writing half of signature.h. */
#include <openssl/err.h>

#include "trust/signature.h"

int signature_ed25519_sign(EVP_PKEY *key, const void *data, size_t length, uint8_t signature[64])
{
    size_t made = 64;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    int is_made = context && EVP_DigestSignInit_ex(context, NULL, NULL, NULL, NULL, key, NULL) == 1 &&
                  EVP_DigestSign(context, signature, &made, data, length) == 1 && made == 64;
    EVP_MD_CTX_free(context);
    ERR_clear_error();
    return is_made;
}
