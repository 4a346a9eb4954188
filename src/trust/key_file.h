/* Files with a private key: Ed25519 in PEM. */
#ifndef TRUST_KEY_FILE_H
#define TRUST_KEY_FILE_H

#include <openssl/evp.h>

#include "bulla/error.h"

/* *key is the caller's (EVP_PKEY_free), also where the call fails; it may be NULL then. */
int key_file_read(const char *path, EVP_PKEY **key, bulla_error *error);
/* The same; a key is made, in a file that only its owner can read, where there is no file. */
int key_file_open(const char *path, EVP_PKEY **key, bulla_error *error);

#endif
