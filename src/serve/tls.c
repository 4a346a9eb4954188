#define _GNU_SOURCE
#include "serve/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "serve/tls_make.h"

enum { MOST_PEM_BYTES = 1 << 20, MOST_CHAIN = 10, MOST_NAMES = 64 };

struct http_tls {
    SSL_CTX *context;
    uint8_t key_digest[HASH_SHA256_BYTES], certificate_digest[HASH_SHA256_BYTES];
    int was_made;
};

/* RFC 7301: http/1.1, or no ALPN at all; a client that only speaks something else is told so. */
static int choose_protocol(SSL *ssl, const unsigned char **chosen, unsigned char *chosen_length,
                           const unsigned char *offered, unsigned length, void *context)
{
    static const unsigned char own[] = "\x08http/1.1";
    unsigned char *match;
    if (SSL_select_next_proto(&match, chosen_length, own, sizeof own - 1, offered, length) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *chosen = match;
    return SSL_TLSEXT_ERR_OK;
}

/* A key with a password would be asked for on the terminal. */
static int no_password(char *buffer, int size, int is_writing, void *context)
{
    return -1;
}

static SSL_CTX *open_context(bulla_error *error)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (!context || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1) {
        SSL_CTX_free(context);
        tls_fail(error, "OpenSSL could not be set up for TLS 1.3");
        return NULL;
    }
    /* Tickets hold all that a resumed session needs: nothing is kept for clients that are gone. */
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_alpn_select_cb(context, choose_protocol, NULL);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    return context;
}

static int digest_leaf(struct http_tls *tls, X509 *leaf, bulla_error *error)
{
    unsigned char *der = NULL, *key = NULL;
    int length = i2d_X509(leaf, &der), key_length = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(leaf), &key), code = BULLA_OK;
    if (length <= 0 || key_length <= 0)
        code = tls_fail(error, "the certificate cannot be encoded");
    if (code == BULLA_OK)
        code = hash_sha256(der, (size_t)length, tls->certificate_digest, error);
    if (code == BULLA_OK)
        code = hash_sha256(key, (size_t)key_length, tls->key_digest, error);
    OPENSSL_free(der);
    OPENSSL_free(key);
    return code;
}

/* Every certificate of the text: the first is the server's own, the others lead to an authority. */
static int take_chain(struct http_tls *tls, const uint8_t *text, size_t length, bulla_error *error)
{
    BIO *bio = BIO_new_mem_buf(text, (int)length);
    int count = 0, code = BULLA_OK;
    while (bio && code == BULLA_OK) {
        X509 *certificate = PEM_read_bio_X509(bio, NULL, no_password, NULL);
        if (!certificate)
            break;
        if (count == MOST_CHAIN)
            code = bulla_fail(error, BULLA_E_LIMIT, "it holds more than %d certificates", MOST_CHAIN);
        else if (count == 0 && SSL_CTX_use_certificate(tls->context, certificate) != 1)
            code = tls_fail(error, "its first certificate cannot be used");
        else if (count > 0 && SSL_CTX_add1_chain_cert(tls->context, certificate) != 1)
            code = tls_fail(error, "one of its certificates cannot be used");
        else if (count == 0)
            code = digest_leaf(tls, certificate, error);
        X509_free(certificate);
        count++;
    }
    BIO_free(bio);
    if (code == BULLA_OK && count == 0)
        return tls_fail(error, "it holds no certificate in PEM form");
    /* The loop's end is an error of its own: no further PEM block. */
    unsigned long number = ERR_peek_last_error();
    if (code == BULLA_OK && number != 0 && ERR_GET_REASON(number) != PEM_R_NO_START_LINE)
        return tls_fail(error, "one of its certificates is damaged");
    ERR_clear_error();
    return code;
}

static int take_key(struct http_tls *tls, const uint8_t *text, size_t length, bulla_error *error)
{
    BIO *bio = BIO_new_mem_buf(text, (int)length);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
    int code = BULLA_OK;
    if (!key)
        code = tls_fail(error, "it holds no private key in PEM form without a password");
    else if (SSL_CTX_use_PrivateKey(tls->context, key) != 1 || SSL_CTX_check_private_key(tls->context) != 1)
        code = tls_fail(error, "it is not the certificate's key: give the pair, or remove both so that they are made");
    EVP_PKEY_free(key);
    BIO_free(bio);
    return code;
}

static int take_file(struct http_tls *tls, const char *path,
                     int (*take)(struct http_tls *tls, const uint8_t *text, size_t length, bulla_error *error),
                     bulla_error *error)
{
    uint8_t *text;
    size_t length;
    bulla_error own = {0};
    int code = file_read(path, MOST_PEM_BYTES, &text, &length, error);
    if (code != BULLA_OK)
        return code;
    code = take(tls, text, length, &own);
    memory_wipe(text, length);
    memory_free(text);
    return code == BULLA_OK ? code : bulla_fail(error, code, "%s: %s", path, own.text);
}

int tls_open(const char *certificate_path, const char *key_path, struct http_tls **opened, bulla_error *error)
{
    *opened = NULL;
    struct http_tls *tls = memory_alloc(1, sizeof *tls, error);
    if (!tls)
        return BULLA_E_MEMORY;
    ERR_clear_error();
    tls->context = open_context(error);
    int code = tls->context ? take_file(tls, certificate_path, take_chain, error) : BULLA_E_INTERNAL;
    if (code == BULLA_OK)
        code = take_file(tls, key_path, take_key, error);
    if (code != BULLA_OK) {
        tls_close(tls);
        return code;
    }
    *opened = tls;
    return BULLA_OK;
}

void tls_close(struct http_tls *tls)
{
    if (tls)
        SSL_CTX_free(tls->context);
    memory_free(tls);
}

int tls_was_made(const struct http_tls *tls)
{
    return tls->was_made;
}

const uint8_t *tls_key_digest(const struct http_tls *tls)
{
    return tls->key_digest;
}

const uint8_t *tls_certificate_digest(const struct http_tls *tls)
{
    return tls->certificate_digest;
}

struct ssl_ctx_st *tls_context(const struct http_tls *tls)
{
    return tls->context;
}

int tls_attest(struct http_tls *tls, const char *oid, const void *content, size_t length, bulla_error *error)
{
    X509 *leaf = SSL_CTX_get0_certificate(tls->context);
    EVP_PKEY *key = SSL_CTX_get0_privatekey(tls->context);
    ERR_clear_error();
    if (X509_self_signed(leaf, 1) != 1)
        return bulla_fail(error, BULLA_E_USAGE, "evidence goes into a certificate that the server signs itself, and this one is "
                          "of an authority; leave out --tls-certificate, or --ra-tls");
    X509 *made = tls_extend(leaf, key, oid, content, length, error);
    if (!made)
        return error ? error->code : BULLA_E_INTERNAL;
    int code = SSL_CTX_use_certificate(tls->context, made) == 1 ? digest_leaf(tls, made, error)
                                                               : tls_fail(error, "the certificate with evidence cannot be used");
    X509_free(made);
    return code;
}

/* The folder's lock, held while its files are looked at and made: processes that start at once would else mix their
 * pairs. The descriptor, or -1. */
static int lock_folder(const char *folder, bulla_error *error)
{
    int descriptor = -1, number;
    if (mkdir(folder, 0700) == 0 || errno == EEXIST)
        descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (descriptor >= 0 && flock(descriptor, LOCK_EX) != 0)
        if (errno != EINTR) {
            number = errno;
            close(descriptor);
            errno = number;
            descriptor = -1;
        }
    if (descriptor < 0)
        bulla_fail(error, BULLA_E_IO, "%s: cannot be used as the folder of the server's certificate: %s", folder,
                   strerror(errno));
    return descriptor;
}

/* The key first, then the certificate, after whichever is there alone is gone: so at no moment are both there without
 * being a pair. */
static int make_pair(int folder, const char *certificate_path, const char *key_path, const struct tls_names *names,
                     const X509 *before, bulla_error *error)
{
    struct buffer certificate = {0}, key = {0};
    const char *all[MOST_NAMES + 1];
    size_t count = names->count;
    if (count > MOST_NAMES)
        return bulla_fail(error, BULLA_E_LIMIT, "%zu names for a certificate, at most %d are taken", count, MOST_NAMES);
    for (size_t i = 0; i < count; i++)
        all[i] = names->names[i];
    if (names->host && tls_is_name(names->host))
        all[count++] = names->host;
    int code = tls_make(all, count, before, &certificate, &key, error);
    if (code == BULLA_OK && ((unlink(certificate_path) != 0 && errno != ENOENT) || fsync(folder) != 0))
        code = bulla_fail(error, BULLA_E_IO, "%s: cannot be replaced: %s", certificate_path, strerror(errno));
    if (code == BULLA_OK)
        code = file_write_private(key_path, key.data, key.length, error);
    if (code == BULLA_OK)
        code = file_write(certificate_path, certificate.data, certificate.length, error);
    if (key.data)
        memory_wipe(key.data, key.capacity);
    buffer_free(&key);
    buffer_free(&certificate);
    return code;
}

/* The folder's certificate; NULL where there is none that can be read, which tls_open tells. */
static X509 *read_leaf(const char *path)
{
    uint8_t *text;
    size_t length;
    bulla_error error = {0};
    if (file_read(path, MOST_PEM_BYTES, &text, &length, &error) != BULLA_OK)
        return NULL;
    BIO *bio = BIO_new_mem_buf(text, (int)length);
    X509 *leaf = bio ? PEM_read_bio_X509(bio, NULL, no_password, NULL) : NULL;
    BIO_free(bio);
    memory_free(text);
    ERR_clear_error();
    return leaf;
}

static int has_names(X509 *certificate, const struct tls_names *names)
{
    int has_all = 1;
    for (size_t i = 0; i < names->count; i++)
        has_all &= tls_has_name(certificate, names->names[i]);
    return has_all;
}

static int prepare_folder(const char *folder, const char *certificate_path, const char *key_path,
                          const struct tls_names *names, int *was_made, bulla_error *error)
{
    enum file_kind certificate_kind, key_kind;
    X509 *before = NULL;
    int descriptor = lock_folder(folder, error);
    *was_made = 0;
    if (descriptor < 0)
        return BULLA_E_IO;
    int code = file_find_kind(certificate_path, &certificate_kind, error);
    if (code == BULLA_OK)
        code = file_find_kind(key_path, &key_kind, error);
    if (code == BULLA_OK && certificate_kind != FILE_ABSENT && key_kind != FILE_ABSENT)
        before = read_leaf(certificate_path);
    if (code == BULLA_OK &&
        (certificate_kind == FILE_ABSENT || key_kind == FILE_ABSENT || (before && !has_names(before, names)))) {
        code = make_pair(descriptor, certificate_path, key_path, names, before, error);
        *was_made = 1;
    }
    X509_free(before);
    close(descriptor);
    return code;
}

int tls_open_folder(const char *folder, const struct tls_names *names, struct http_tls **tls, bulla_error *error)
{
    struct buffer certificate_path = {0}, key_path = {0};
    *tls = NULL;
    buffer_append_format(&certificate_path, "%s/certificate.pem", folder);
    buffer_append_format(&key_path, "%s/key.pem", folder);
    const char *certificate = (const char *)certificate_path.data, *key = (const char *)key_path.data;
    int code, was_made = 0;
    if (certificate_path.error.code != BULLA_OK || key_path.error.code != BULLA_OK)
        code = bulla_fail(error, BULLA_E_MEMORY, "out of memory for the paths of %s", folder);
    else
        code = prepare_folder(folder, certificate, key, names, &was_made, error);
    if (code == BULLA_OK)
        code = tls_open(certificate, key, tls, error);
    if (code == BULLA_OK)
        (*tls)->was_made = was_made;
    buffer_free(&certificate_path);
    buffer_free(&key_path);
    return code;
}
