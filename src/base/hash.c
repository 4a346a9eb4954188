#include "base/hash.h"

#include <openssl/evp.h>

#include "base/memory.h"

struct hash_stream {
    EVP_MD_CTX *context;
    int failed;
};

int hash_sha256(const void *data, size_t length, uint8_t digest[HASH_SHA256_BYTES], bulla_error *error)
{
    unsigned written = 0;
    if (EVP_Digest(length ? data : "", length, digest, &written, EVP_sha256(), NULL) != 1 ||
        written != HASH_SHA256_BYTES)
        return bulla_fail(error, BULLA_E_INTERNAL, "SHA-256 of %zu bytes failed in libcrypto", length);
    return BULLA_OK;
}

struct hash_stream *hash_stream_open(bulla_error *error)
{
    struct hash_stream *stream = memory_alloc(1, sizeof *stream, error);
    if (!stream)
        return NULL;
    stream->context = EVP_MD_CTX_new();
    if (!stream->context || EVP_DigestInit_ex2(stream->context, EVP_sha256(), NULL) != 1) {
        bulla_fail(error, BULLA_E_MEMORY, "out of memory: libcrypto has no SHA-256 context to give");
        hash_stream_close(stream);
        return NULL;
    }
    return stream;
}

void hash_stream_update(struct hash_stream *stream, const void *data, size_t length)
{
    if (length > 0 && !stream->failed)
        stream->failed = EVP_DigestUpdate(stream->context, data, length) != 1;
}

int hash_stream_finish(struct hash_stream *stream, uint8_t digest[HASH_SHA256_BYTES], bulla_error *error)
{
    unsigned written = 0;
    int failed = stream->failed || EVP_DigestFinal_ex(stream->context, digest, &written) != 1 ||
                 written != HASH_SHA256_BYTES;
    /* No algorithm named: the context keeps the one it has, without a look-up. */
    stream->failed = EVP_DigestInit_ex2(stream->context, NULL, NULL) != 1;
    return failed ? bulla_fail(error, BULLA_E_INTERNAL, "SHA-256 failed in libcrypto") : BULLA_OK;
}

void hash_stream_close(struct hash_stream *stream)
{
    if (!stream)
        return;
    EVP_MD_CTX_free(stream->context);
    memory_free(stream);
}
