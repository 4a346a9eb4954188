#include "trust/key_file.h"

#include <openssl/err.h>
#include <openssl/pem.h>

#include "base/file.h"
#include "base/memory.h"

enum { MOST_KEY_FILE = 4096 };

static int fail_key(const char *path, const char *what, bulla_error *error)
{
    ERR_clear_error();
    return bulla_fail(error, BULLA_E_INPUT, "%s: %s", path, what);
}

static int make_key(const char *path, EVP_PKEY **key, bulla_error *error)
{
    BIO *bio = BIO_new(BIO_s_secmem());
    char *text;
    *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    int code = BULLA_OK;
    if (!bio || !*key || PEM_write_bio_PrivateKey(bio, *key, NULL, NULL, 0, NULL, NULL) != 1)
        code = fail_key(path, "a key could not be made", error);
    long length = code == BULLA_OK ? BIO_get_mem_data(bio, &text) : 0;
    if (code == BULLA_OK)
        code = file_write_private(path, text, (size_t)length, error);
    BIO_free(bio);
    return code;
}

int key_file_read(const char *path, EVP_PKEY **key, bulla_error *error)
{
    uint8_t *text;
    size_t length;
    *key = NULL;
    int code = file_read(path, MOST_KEY_FILE, &text, &length, error);
    if (code != BULLA_OK)
        return code;
    BIO *bio = BIO_new_mem_buf(text, (int)length);
    *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    memory_wipe(text, length);
    memory_free(text);
    if (!*key || !EVP_PKEY_is_a(*key, "ED25519"))
        return fail_key(path, "not an Ed25519 private key in PEM", error);
    return BULLA_OK;
}

int key_file_open(const char *path, EVP_PKEY **key, bulla_error *error)
{
    enum file_kind kind;
    *key = NULL;
    int code = file_find_kind(path, &kind, error);
    if (code != BULLA_OK)
        return code;
    return kind == FILE_ABSENT ? make_key(path, key, error) : key_file_read(path, key, error);
}
