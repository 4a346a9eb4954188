#define _GNU_SOURCE
#include "test.h"

#include <dirent.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "folder.h"
#include "http_fixture.h"
#include "serve/tls.h"
#include "serve/tls_make.h"

static struct http_tls *open_in_folder(const char *name)
{
    bulla_error error = {0};
    struct http_tls *tls;
    assert_ok(tls_open_folder(folder, &(struct tls_names){.host = name}, &tls, &error), error);
    return tls;
}

static void test_made_once(void **state)
{
    (void)state;
    uint8_t key[32], certificate[32];
    struct stat status;
    struct http_tls *tls = open_in_folder("models.example");
    memcpy(key, tls_key_digest(tls), 32);
    memcpy(certificate, tls_certificate_digest(tls), 32);
    assert_memory_not_equal(key, certificate, 32);
    tls_close(tls);
    assert_int_equal(stat(in_folder("key.pem"), &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    tls = open_in_folder("other.example"); /* kept */
    assert_memory_equal(key, tls_key_digest(tls), 32);
    assert_memory_equal(certificate, tls_certificate_digest(tls), 32);
    tls_close(tls);
    /* Only one is there, as after a stop in between: both are made again. */
    remove(in_folder("certificate.pem"));
    tls = open_in_folder(NULL);
    assert_memory_not_equal(key, tls_key_digest(tls), 32);
    memcpy(key, tls_key_digest(tls), 32);
    tls_close(tls);
    remove(in_folder("key.pem"));
    tls = open_in_folder(NULL);
    assert_memory_not_equal(key, tls_key_digest(tls), 32);
    tls_close(tls);
    tls_close(NULL);
}

static X509 *read_certificate(const char *path)
{
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    X509 *certificate = PEM_read_X509(file, NULL, NULL, NULL);
    assert_non_null(certificate);
    fclose(file);
    return certificate;
}

static void test_certificate(void **state)
{
    (void)state;
    remove(in_folder("key.pem"));
    tls_close(open_in_folder("models.example"));
    X509 *made = read_certificate(in_folder("certificate.pem"));
    assert_int_equal(X509_check_host(made, "localhost", 0, 0, NULL), 1);
    assert_int_equal(X509_check_host(made, "models.example", 0, 0, NULL), 1);
    assert_int_equal(X509_check_host(made, "a.models.example", 0, 0, NULL), 0);
    assert_int_equal(X509_check_ip_asc(made, "127.0.0.1", 0), 1);
    assert_int_equal(X509_check_ip_asc(made, "::1", 0), 1);
    assert_int_equal(X509_check_ip_asc(made, "10.0.0.1", 0), 0);
    assert_int_equal(X509_check_ca(made), 0);
    int days, seconds;
    assert_int_equal(ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(made)), 1);
    assert_in_range(days, 3640, 3653);
    assert_true(X509_cmp_current_time(X509_get0_notBefore(made)) < 0);
    assert_int_equal(EVP_PKEY_get_base_id(X509_get0_pubkey(made)), EVP_PKEY_EC);
    assert_int_equal(X509_verify(made, X509_get0_pubkey(made)), 1);
    X509_free(made);
    remove(in_folder("key.pem"));
    tls_close(open_in_folder("10.0.0.1"));
    made = read_certificate(in_folder("certificate.pem"));
    assert_int_equal(X509_check_ip_asc(made, "10.0.0.1", 0), 1);
    X509_free(made);
    static const char *const names[] = {"", "a b", "a,DNS:b", "*.a", "\xc3\xa4", "a\n"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct buffer certificate = {0}, key = {0};
        bulla_error error = {0};
        assert_int_equal(tls_make(&names[i], 1, NULL, &certificate, &key, &error), BULLA_E_USAGE);
        buffer_free(&certificate);
        buffer_free(&key);
    }
}

static int open_with(const char *const *names, size_t count)
{
    bulla_error error = {0};
    struct http_tls *tls;
    assert_ok(tls_open_folder(folder, &(struct tls_names){.host = "no_name", .names = names, .count = count}, &tls, &error),
              error);
    int was_made = tls_was_made(tls);
    tls_close(tls);
    return was_made;
}

static void assert_names(const char *first, const char *second, const char *third)
{
    X509 *made = read_certificate(in_folder("certificate.pem"));
    assert_int_equal(X509_check_host(made, "localhost", 0, 0, NULL), 1);
    assert_int_equal(X509_check_host(made, first, 0, 0, NULL), 1);
    assert_int_equal(X509_check_host(made, second, 0, 0, NULL), 1);
    assert_int_equal(X509_check_ip_asc(made, third, 0), 1);
    X509_free(made);
}

/* A certificate has the names that are asked for: one without is made again, and no name is lost by that. */
static void test_names(void **state)
{
    (void)state;
    static const char *const first[] = {"llm.example", "10.1.2.3"}, *const second[] = {"other.example"};
    static const char *const wrong[] = {"llm.example", "a b"};
    bulla_error error = {0};
    struct http_tls *tls;
    remove(in_folder("key.pem"));
    assert_int_equal(open_with(NULL, 0), 1);
    assert_int_equal(open_with(NULL, 0), 0);
    assert_int_equal(open_with(first, 2), 1);
    assert_int_equal(open_with(first, 2), 0);
    assert_int_equal(open_with(first, 1), 0);
    assert_int_equal(open_with(second, 1), 1);
    assert_names("llm.example", "other.example", "10.1.2.3");
    assert_int_equal(open_with(first, 2), 0); /* two servers of a folder do not make it in turns */
    assert_int_equal(open_with(NULL, 0), 0);
    assert_int_equal(tls_open_folder(folder, &(struct tls_names){.names = wrong, .count = 2}, &tls, &error), BULLA_E_USAGE);
    assert_non_null(strstr(error.text, "\"a b\" cannot be a certificate's name"));
    assert_names("llm.example", "other.example", "10.1.2.3");
}

static void expect_refused(const char *certificate, const char *key, int code, const char *words)
{
    bulla_error error = {0};
    struct http_tls *tls;
    assert_int_equal(tls_open(certificate, key, &tls, &error), code);
    assert_null(tls);
    if (!strstr(error.text, words))
        fail_msg("expected \"%s\" in \"%s\"", words, error.text);
}

static void test_files_that_are_wrong(void **state)
{
    (void)state;
    bulla_error error = {0};
    const char *certificate = in_folder("certificate.pem"), *key = in_folder("key.pem");
    char other[128];
    uint8_t *text;
    size_t length;
    tls_close(open_in_folder(NULL));
    struct buffer other_certificate = {0}, other_key = {0};
    assert_ok(tls_make(NULL, 0, NULL, &other_certificate, &other_key, &error), error);
    snprintf(other, sizeof other, "%s/other.pem", folder);
    expect_refused(in_folder("none"), key, BULLA_E_IO, "none");
    assert_ok(file_write(other, other_key.data, other_key.length, &error), error);
    expect_refused(certificate, other, BULLA_E_INPUT, "other.pem: it is not the certificate's key");
    expect_refused(other, key, BULLA_E_INPUT, "holds no certificate");
    expect_refused(certificate, certificate, BULLA_E_INPUT, "no private key");
    assert_ok(file_write(other, "", 0, &error), error);
    expect_refused(other, key, BULLA_E_INPUT, "holds no certificate");
    expect_refused(certificate, other, BULLA_E_INPUT, "no private key");
    /* A chain: the others follow the leaf. One that is damaged is not passed over. */
    assert_ok(file_read(certificate, 1 << 16, &text, &length, &error), error);
    struct buffer chain = {0};
    buffer_append(&chain, text, length);
    buffer_append(&chain, other_certificate.data, other_certificate.length);
    assert_ok(file_write(other, chain.data, chain.length, &error), error);
    struct http_tls *tls;
    assert_ok(tls_open(other, key, &tls, &error), error);
    tls_close(tls);
    chain.data[length + 60] = '!';
    assert_ok(file_write(other, chain.data, chain.length, &error), error);
    expect_refused(other, key, BULLA_E_INPUT, "damaged");
    buffer_clear(&chain);
    for (int i = 0; i < 11; i++)
        buffer_append(&chain, text, length);
    assert_ok(file_write(other, chain.data, chain.length, &error), error);
    expect_refused(other, key, BULLA_E_LIMIT, "more than 10 certificates");
    /* A key with a password is refused, not asked for. */
    EVP_PKEY *pair = EVP_EC_gen("P-256");
    FILE *file = fopen(other, "w");
    assert_int_equal(PEM_write_PKCS8PrivateKey(file, pair, EVP_aes_128_cbc(), "secret", 6, NULL, NULL), 1);
    fclose(file);
    EVP_PKEY_free(pair);
    expect_refused(certificate, other, BULLA_E_INPUT, "without a password");
    memory_free(text);
    buffer_free(&chain);
    buffer_free(&other_certificate);
    buffer_free(&other_key);
    remove(other);
    assert_int_equal(tls_open_folder("/dev/null/x", &(struct tls_names){0}, &tls, &error), BULLA_E_IO);
}

static int count_files(void)
{
    int count = 0;
    DIR *listing = opendir(folder);
    for (struct dirent *entry; (entry = readdir(listing));)
        count += entry->d_name[0] != '.';
    closedir(listing);
    return count;
}

/* Whatever fails while the files are made: never a pair that does not fit, and the next start makes one. */
static void test_making_fails(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++)
        for (uint64_t n = 1;; n++) {
            bulla_error error = {0};
            struct http_tls *tls;
            remove(in_folder("key.pem"));
            if (n % 2)
                remove(in_folder("certificate.pem"));
            (kind ? file_inject_failure : memory_inject_failure)(n, 1);
            int code = tls_open_folder(folder, &(struct tls_names){0}, &tls, &error);
            (kind ? file_inject_failure : memory_inject_failure)(0, 0);
            if (code == BULLA_OK) {
                tls_close(tls);
                assert_true(n > 5);
                break;
            }
            assert_int_equal(error.code, code);
            assert_null(tls);
            assert_true(count_files() <= 2);
            tls_close(open_in_folder(NULL));
        }
}

/* A client, of the same thread. */
struct tls_client {
    SSL_CTX *context;
    SSL *ssl;
    int socket;
};

static void client_start(struct fixture *fixture, struct tls_client *client, int version, const char *protocols)
{
    client->context = SSL_CTX_new(TLS_client_method());
    assert_int_equal(SSL_CTX_set_max_proto_version(client->context, version), 1);
    client->socket = client_open(fixture);
    client->ssl = SSL_new(client->context);
    if (protocols)
        SSL_set_alpn_protos(client->ssl, (const unsigned char *)protocols, (unsigned)strlen(protocols));
    SSL_set_fd(client->ssl, client->socket);
}

static int client_connect(struct fixture *fixture, struct tls_client *client)
{
    for (int turns = 0; turns < 10000; turns++) {
        int result = SSL_connect(client->ssl);
        if (result == 1)
            return 1;
        int reason = SSL_get_error(client->ssl, result);
        if (reason != SSL_ERROR_WANT_READ && reason != SSL_ERROR_WANT_WRITE)
            return 0;
        fixture_turn(fixture);
        usleep(1000);
    }
    return 0;
}

static void client_stop(struct tls_client *client)
{
    SSL_free(client->ssl);
    SSL_CTX_free(client->context);
    close(client->socket);
    ERR_clear_error();
}

/* Turns until what came ends with `end`; 0 where the server ended first. */
static int client_receive(struct fixture *fixture, struct tls_client *client, struct buffer *got, const char *end)
{
    char bytes[16384];
    size_t length = strlen(end);
    for (int turns = 0; turns < 10000; turns++) {
        fixture_turn(fixture);
        int result = SSL_read(client->ssl, bytes, sizeof bytes);
        if (result > 0)
            buffer_append(got, bytes, (size_t)result);
        else if (SSL_get_error(client->ssl, result) != SSL_ERROR_WANT_READ)
            return 0;
        else
            usleep(200);
        if (got->length >= length && memcmp(got->data + got->length - length, end, length) == 0)
            return 1;
    }
    return 0;
}

static void client_write(struct tls_client *client, const char *text)
{
    assert_int_equal(SSL_write(client->ssl, text, (int)strlen(text)), (int)strlen(text));
}

static void test_versions_and_protocols(void **state)
{
    (void)state;
    struct http_tls *tls = open_in_folder(NULL);
    struct fixture fixture;
    struct buffer got = {0};
    static const struct {
        int version;
        const char *protocols, *chosen; /* NULL: refused */
    } cases[] = {{TLS1_3_VERSION, NULL, ""}, {TLS1_3_VERSION, "\x02h2\x08http/1.1", "http/1.1"},
                 {TLS1_3_VERSION, "\x02h2", NULL}, {TLS1_2_VERSION, NULL, NULL}};
    fixture_open(&fixture, NULL, tls);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tls_client client;
        const unsigned char *chosen;
        unsigned length;
        client_start(&fixture, &client, cases[i].version, cases[i].protocols);
        assert_int_equal(client_connect(&fixture, &client), cases[i].chosen != NULL);
        SSL_get0_alpn_selected(client.ssl, &chosen, &length);
        if (cases[i].chosen) {
            assert_int_equal(length, strlen(cases[i].chosen));
            assert_int_equal(length == 0 || memcmp(chosen, cases[i].chosen, length) == 0, 1);
            buffer_clear(&got);
            client_write(&client, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
            assert_int_equal(client_receive(&fixture, &client, &got, "\r\n\r\nhello"), 1);
        }
        client_stop(&client);
    }
    int plain = client_open(&fixture); /* HTTP without TLS */
    client_send(plain, GET("/echo"));
    assert_true(client_expect_end(&fixture, plain, &got) <= 0);
    close(plain);
    turn_until(&fixture, http_server_connections(fixture.server) == 0);
    buffer_free(&got);
    fixture_close(&fixture);
    tls_close(tls);
}

/* With close_notify, without, with an RST; with much pipelined; quiet or streaming. */
static void test_hang_up(void **state)
{
    (void)state;
    struct http_tls *tls = open_in_folder(NULL);
    static char more[20000];
    memset(more, 'x', sizeof more);
    for (int how = 0; how < 4; how++)
        for (int is_paused = 0; is_paused < 2; is_paused++) {
            struct fixture fixture;
            struct tls_client client;
            if (how == 0 && is_paused) /* close_notify behind what is not read cannot be seen */
                continue;
            fixture_open(&fixture, NULL, tls);
            client_start(&fixture, &client, TLS1_3_VERSION, NULL);
            assert_int_equal(client_connect(&fixture, &client), 1);
            client_write(&client, GET("/hold"));
            turn_until(&fixture, fixture.held_count == 1);
            if (is_paused)
                assert_int_equal(SSL_write(client.ssl, more, sizeof more), sizeof more);
            if (how == 1) {
                http_reply_begin(fixture.held[0], 200, NULL);
                http_reply_write(fixture.held[0], "x", 1);
            }
            for (int i = 0; i < 50; i++)
                fixture_turn(&fixture);
            assert_int_equal(fixture.closed, 0);
            const struct linger now = {.l_onoff = 1};
            if (how == 0)
                SSL_shutdown(client.ssl);
            else if (how == 2)
                setsockopt(client.socket, SOL_SOCKET, SO_LINGER, &now, sizeof now);
            if (how != 0)
                shutdown(client.socket, how == 3 ? SHUT_WR : SHUT_RDWR);
            if (how == 1 || how == 2)
                client_stop(&client);
            turn_until(&fixture, fixture.closed == 1);
            turn_until(&fixture, http_server_connections(fixture.server) == 0);
            if (how == 0 || how == 3)
                client_stop(&client);
            fixture_close(&fixture);
        }
    tls_close(tls);
}

/* A handshake that ends while the server drains leaves the client the drain's time for a request, not that between
 * requests. */
static void test_handshake_in_a_drain(void **state)
{
    (void)state;
    struct http_tls *tls = open_in_folder(NULL);
    struct fixture fixture;
    struct tls_client silent, asking;
    struct buffer got = {0};
    fixture_open(&fixture, NULL, tls);
    client_start(&fixture, &silent, TLS1_3_VERSION, NULL);
    client_start(&fixture, &asking, TLS1_3_VERSION, NULL);
    assert_int_equal(SSL_connect(silent.ssl), -1); /* says its first word */
    turn_until(&fixture, http_server_connections(fixture.server) == 2);
    http_server_drain(fixture.server);
    assert_int_equal(client_connect(&fixture, &silent), 1);
    assert_int_equal(client_connect(&fixture, &asking), 1);
    client_write(&asking, GET("/echo"));
    assert_int_equal(client_receive(&fixture, &asking, &got, "Connection: close\r\n\r\n"), 1);
    client_stop(&asking);
    turn_until(&fixture, http_server_is_drained(fixture.server));
    client_stop(&silent);
    buffer_free(&got);
    fixture_close(&fixture);
    tls_close(tls);
}

static char *large;
enum { LARGE = 6 << 20 };

static void reply_large(struct fixture *fixture, struct http_exchange *exchange)
{
    if (strcmp(http_path(exchange), "/large") == 0)
        http_reply(exchange, 200, NULL, large, LARGE);
    else
        http_reply(exchange, 200, NULL, "small", 5);
}

/* A large answer that is read slowly is progress; then pipelined requests, then an end with close_notify. */
static void test_large_answers(void **state)
{
    (void)state;
    struct http_tls *tls = open_in_folder(NULL);
    const struct http_limits limits = {.write_seconds = 3};
    struct fixture fixture;
    struct tls_client client;
    struct buffer got = {0};
    large = malloc(LARGE);
    for (size_t i = 0; i < LARGE; i++)
        large[i] = (char)(i * 2654435761u >> 20);
    fixture_open(&fixture, &limits, tls);
    fixture.on_request = reply_large;
    client_start(&fixture, &client, TLS1_3_VERSION, NULL);
    assert_int_equal(client_connect(&fixture, &client), 1);
    client_write(&client, GET("/large") GET("/small") "GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    for (int i = 0; i < 45; i++) { /* for longer than write_seconds, a little in every tenth of a second */
        char bytes[16384];
        usleep(100000);
        fixture_turn(&fixture);
        for (int part = 0; part < 7; part++) {
            int length = SSL_read(client.ssl, bytes, sizeof bytes);
            if (length > 0)
                buffer_append(&got, bytes, (size_t)length);
        }
    }
    assert_true(got.length < LARGE);
    assert_int_equal(client_receive(&fixture, &client, &got, "never"), 0);
    assert_true(SSL_get_shutdown(client.ssl) & SSL_RECEIVED_SHUTDOWN);
    assert_true(got.length > 2 * (size_t)LARGE);
    const char *body = strstr((char *)got.data, "\r\n\r\n") + 4;
    assert_memory_equal(body, large, LARGE);
    assert_non_null(memmem(body + LARGE, 400, "\r\n\r\nsmallHTTP/1.1", 17));
    assert_memory_equal(got.data + got.length - LARGE, large, LARGE);
    client_stop(&client);
    free(large);
    buffer_free(&got);
    fixture_close(&fixture);
    tls_close(tls);
}

static void test_half_done_handshake(void **state)
{
    (void)state;
    struct http_tls *tls = open_in_folder(NULL);
    const struct http_limits limits = {.header_seconds = 1};
    struct fixture fixture;
    struct buffer got = {0};
    fixture_open(&fixture, &limits, tls);
    int silent = client_open(&fixture), half = client_open(&fixture);
    client_send(half, "\x16\x03\x01\x02");
    assert_int_equal(client_expect_end(&fixture, silent, &got), 0);
    assert_int_equal(client_expect_end(&fixture, half, &got), 0);
    assert_int_equal(got.length, 0);
    close(silent), close(half);
    turn_until(&fixture, http_server_connections(fixture.server) == 0);
    fixture_close(&fixture);
    tls_close(tls);
}

/* An answer that is cut off does not look whole: no close_notify. */
static void test_abort(void **state)
{
    (void)state;
    struct http_tls *tls = open_in_folder(NULL);
    struct fixture fixture;
    struct tls_client client;
    struct buffer got = {0};
    fixture_open(&fixture, NULL, tls);
    client_start(&fixture, &client, TLS1_3_VERSION, NULL);
    assert_int_equal(client_connect(&fixture, &client), 1);
    client_write(&client, "GET /hold HTTP/1.0\r\n\r\n");
    turn_until(&fixture, fixture.held_count == 1);
    http_reply_begin(fixture.held[0], 200, NULL);
    http_reply_write(fixture.held[0], "half", 4);
    assert_int_equal(client_receive(&fixture, &client, &got, "half"), 1);
    http_reply_abort(fixture.held[0]);
    assert_int_equal(client_receive(&fixture, &client, &got, "never"), 0);
    assert_false(SSL_get_shutdown(client.ssl) & SSL_RECEIVED_SHUTDOWN);
    client_stop(&client);
    buffer_free(&got);
    fixture_close(&fixture);
    tls_close(tls);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_made_once), cmocka_unit_test(test_certificate), cmocka_unit_test(test_names),
        cmocka_unit_test(test_files_that_are_wrong), cmocka_unit_test(test_making_fails),
        cmocka_unit_test(test_versions_and_protocols), cmocka_unit_test(test_hang_up),
        cmocka_unit_test(test_large_answers), cmocka_unit_test(test_half_done_handshake),
        cmocka_unit_test(test_handshake_in_a_drain),
        cmocka_unit_test(test_abort),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
