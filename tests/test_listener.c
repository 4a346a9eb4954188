/* Addresses to listen on, and the socket. */
#define _GNU_SOURCE
#include "test.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ops/listener.h"

static void test_parse(void **state)
{
    (void)state;
    static const char *const good[][3] = {{"127.0.0.1:8080", "127.0.0.1", "8080"},
                                          {"[::1]:0", "::1", "0"},
                                          {"localhost:65535", "localhost", "65535"},
                                          {"0.0.0.0:080", "0.0.0.0", "80"}};
    static const char *const bad[] = {"",       "8080",     ":8080",     "host",        "host:",     "host:65536", "host:-1",
                                      "::1:80", "host:8 0", "host:999999", "[]:80",      "host:0x50", "host: 80",   "host:80 "};
    struct listener_address address;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        bulla_error error = {0};
        assert_ok(listener_parse(good[i][0], &address, &error), error);
        assert_string_equal(address.host, good[i][1]);
        assert_string_equal(address.port, good[i][2]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        bulla_error error = {0};
        if (listener_parse(bad[i], &address, &error) != BULLA_E_USAGE)
            fail_msg("\"%s\" was taken", bad[i]);
        assert_non_null(strstr(error.text, "expected HOST:PORT"));
    }
    char text[400];
    memset(text, 'a', sizeof text);
    strcpy(text + 300, ":80");
    assert_int_equal(listener_parse(text, &address, &(bulla_error){0}), BULLA_E_USAGE);
}

static int find_loopback(const char *text)
{
    bulla_error error = {0};
    struct listener_address address;
    int is_loopback = -1;
    assert_ok(listener_parse(text, &address, &error), error);
    assert_ok(listener_find_loopback(&address, &is_loopback, &error), error);
    return is_loopback;
}

static void test_loopback(void **state)
{
    (void)state;
    assert_int_equal(find_loopback("127.0.0.1:0"), 1);
    assert_int_equal(find_loopback("127.9.9.9:0"), 1);
    assert_int_equal(find_loopback("[::1]:0"), 1);
    assert_int_equal(find_loopback("[::ffff:127.0.0.1]:0"), 1);
    assert_int_equal(find_loopback("0.0.0.0:0"), 0);
    assert_int_equal(find_loopback("[::]:0"), 0);
    assert_int_equal(find_loopback("192.0.2.1:0"), 0);
    assert_int_equal(find_loopback("[::ffff:192.0.2.1]:0"), 0);
}

static struct listener open_listener(const char *text, int takes_over)
{
    bulla_error error = {0};
    struct listener_address address;
    struct listener listener;
    assert_ok(listener_parse(text, &address, &error), error);
    assert_ok(listener_open(&address, takes_over, &listener, &error), error);
    return listener;
}

static int connect_to(const char *text)
{
    struct sockaddr_in where = {.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)strtoul(strrchr(text, ':') + 1, NULL, 10)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(descriptor, (struct sockaddr *)&where, sizeof where) == 0)
        return descriptor;
    close(descriptor);
    return -1;
}

/* A socket that nobody may join. */
static int listen_plainly(const struct listener_address *address)
{
    struct sockaddr_in where = {.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)strtoul(address->port, NULL, 10)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    assert_int_equal(setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one), 0);
    assert_int_equal(bind(descriptor, (struct sockaddr *)&where, sizeof where), 0);
    assert_int_equal(listen(descriptor, 1), 0);
    return descriptor;
}

static void assert_in_use(const char *text)
{
    bulla_error error = {0};
    struct listener_address address;
    struct listener listener;
    assert_ok(listener_parse(text, &address, &error), error);
    assert_int_equal(listener_open(&address, 0, &listener, &error), BULLA_E_IO);
    assert_non_null(strstr(error.text, "ddress already in use"));
    assert_non_null(strstr(error.text, "--take-over"));
    assert_int_equal(listener.socket, -1);
}

/* Nobody comes between a server and its address but one that says so; connections go on when the first has left. */
static void test_open(void **state)
{
    (void)state;
    bulla_error error = {0};
    struct listener first = open_listener("127.0.0.1:0", 0);
    assert_true(first.is_loopback);
    assert_int_equal(strncmp(first.text, "127.0.0.1:", 10), 0);
    assert_string_not_equal(first.text, "127.0.0.1:0");
    assert_true(accept(first.socket, NULL, NULL) < 0); /* it does not block */
    assert_in_use(first.text);
    struct listener second = open_listener(first.text, 1);
    assert_string_equal(second.text, first.text);
    assert_in_use(first.text);
    close(first.socket);
    int client = connect_to(second.text);
    assert_true(client >= 0);
    assert_in_use(first.text);
    struct listener third = open_listener(first.text, 1); /* one that took over can be followed as well */
    close(second.socket);
    struct listener_address address;
    assert_ok(listener_parse(first.text, &address, &error), error);
    assert_in_use(first.text);
    close(third.socket);
    assert_true(connect_to(second.text) < 0);
    struct listener fourth = open_listener(first.text, 0); /* though a connection of the second is there still */
    close(fourth.socket);
    close(client);
    int plain = listen_plainly(&address);
    assert_int_equal(listener_open(&address, 1, &first, &error), BULLA_E_IO);
    assert_non_null(strstr(error.text, "no bulla serve of the same user"));
    close(plain);
    bulla_error_clear(&error);
    address = (struct listener_address){.host = "192.0.2.1", .port = "1"}; /* nobody's (RFC 5737) */
    assert_int_equal(listener_open(&address, 0, &first, &error), BULLA_E_IO);
    assert_non_null(strstr(error.text, "192.0.2.1 port 1"));
    assert_int_equal(first.socket, -1);
    bulla_error_clear(&error);
    strcpy(address.host, "no such host.invalid");
    assert_int_equal(listener_open(&address, 0, &first, &error), BULLA_E_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_loopback),
        cmocka_unit_test(test_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
