/* What clients can make the server hold: bodies that it does not want, bodies of many, long answers that nobody reads. */
#define _GNU_SOURCE
#include "test.h"

#include <errno.h>

#include "http_fixture.h"

static void send_zeros(struct fixture *fixture, int client, size_t length)
{
    static const char zeros[16384];
    while (length > 0) {
        ssize_t sent = send(client, zeros, length < sizeof zeros ? length : sizeof zeros, MSG_NOSIGNAL);
        assert_true(sent > 0 || errno == EAGAIN);
        length -= sent > 0 ? (size_t)sent : 0;
        fixture_turn(fixture);
    }
}

static void refuse_no(struct fixture *fixture, struct http_exchange *exchange)
{
    size_t length = 1;
    http_body(exchange, &length);
    assert_int_equal(length, 0);
    if (strcmp(http_path(exchange), "/no") == 0)
        http_reply(exchange, 401, "text/plain", "no", 2);
}

/* The handler is asked when the head is whole: before the client is told to go on, and before a body is kept. */
static void test_answer_to_a_head(void **state)
{
    (void)state;
    /* No byte of a body that is not wanted counts, or the second request would find no room. */
    const struct http_limits limits = {.most_body_bytes = 400000, .most_held_bytes = 400000};
    struct fixture fixture;
    struct buffer got = {0};
    static char block[16384];
    fixture_open(&fixture, &limits, NULL);
    fixture.on_head = refuse_no;
    int client = client_open(&fixture);
    client_send(client, "POST /no HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_int_equal(client_expect_end(&fixture, client, &got), 0);
    assert_string_equal(without_date(&got), "HTTP/1.1 401 Unauthorized\r\nContent-Type: text/plain\r\n"
                                            "Content-Length: 2\r\nConnection: close\r\n\r\nno");
    close(client);
    buffer_clear(&got);
    client = client_open(&fixture); /* one that sends without waiting gets its answer too */
    client_send(client, "POST /no HTTP/1.1\r\n" HOST "Content-Length: 400000\r\n\r\n");
    for (int i = 0; i < 20; i++) {
        assert_true(send(client, block, sizeof block, MSG_NOSIGNAL) > 0 || errno == EAGAIN);
        if (i > 4)
            fixture_turn(&fixture);
    }
    int other = client_open(&fixture);
    client_send(other, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 400000\r\n\r\n");
    send_zeros(&fixture, other, 400000);
    turn_until(&fixture, fixture.requests == 1);
    assert_int_equal(client_expect_end(&fixture, client, &got), 0);
    assert_int_equal(strncmp((char *)got.data, "HTTP/1.1 401", 12), 0);
    assert_int_equal(fixture.heads, 3);
    close(client), close(other);
    buffer_clear(&got);
    client = client_open(&fixture); /* without a body there is only the request; the connection stays */
    client_send(client, GET("/no") "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nhi" GET("/echo"));
    client_expect(&fixture, client, &got, "text/plain\r\nContent-Length: 0\r\n\r\n");
    assert_int_equal(fixture.heads, 4);
    close(client);
    buffer_free(&got);
    fixture_close(&fixture);
}

#define BODY(path) "POST " path " HTTP/1.1\r\n" HOST "Content-Length: 100000\r\n\r\n"

static int client_with_body(struct fixture *fixture, const char *head, size_t length)
{
    int client = client_open(fixture);
    client_send(client, head);
    send_zeros(fixture, client, length);
    for (int i = 0; i < 20; i++)
        fixture_turn(fixture);
    return client;
}

/* Bodies of all connections together are bounded, from their first byte until they are dropped or answered. */
static void test_bodies_together(void **state)
{
    (void)state;
    const struct http_limits limits = {.most_body_bytes = 100000, .most_held_bytes = 150000};
    struct fixture fixture;
    struct buffer got = {0};
    fixture_open(&fixture, &limits, NULL);
    int first = client_with_body(&fixture, BODY("/hold"), 90000);
    int second = client_with_body(&fixture, BODY("/echo"), 70000);
    assert_int_equal(client_expect_end(&fixture, second, &got), 0);
    assert_int_equal(strncmp((char *)got.data, "HTTP/1.1 503 Service Unavailable\r\n", 34), 0);
    assert_non_null(strstr((char *)got.data, "\r\nConnection: close\r\nRetry-After: 1\r\n"));
    assert_non_null(strstr((char *)got.data, "\"type\":\"server_error\""));
    close(second);
    send_zeros(&fixture, first, 10000); /* those that are there go on */
    turn_until(&fixture, fixture.held_count == 1);
    for (int is_dropped = 0; is_dropped < 2; is_dropped++) { /* also while they are answered */
        buffer_clear(&got);
        if (is_dropped) {
            size_t length;
            http_drop_body(fixture.held[0]);
            http_body(fixture.held[0], &length);
            assert_int_equal(length, 0);
        }
        second = client_with_body(&fixture, BODY("/echo"), is_dropped ? 100000 : 60000);
        if (is_dropped)
            turn_until(&fixture, fixture.requests == 2);
        else
            assert_int_equal(client_expect_end(&fixture, second, &got), 0);
        close(second);
    }
    http_reply(fixture.held[0], 200, NULL, "x", 1);
    turn_until(&fixture, http_server_connections(fixture.server) == 1);
    buffer_clear(&got);
    client_expect(&fixture, first, &got, "x");
    for (int i = 0; i < 3; i++) { /* those that hang up hold nothing */
        second = client_with_body(&fixture, BODY("/echo"), 90000);
        close(second);
        turn_until(&fixture, http_server_connections(fixture.server) == 1);
    }
    client_send(first, BODY("/hold"));
    send_zeros(&fixture, first, 100000);
    turn_until(&fixture, fixture.held_count == 2);
    close(first);
    buffer_free(&got);
    fixture_close(&fixture);
}

enum { WHOLE = 24 << 20 };

static void reply_whole(struct fixture *fixture, struct http_exchange *exchange)
{
    struct buffer body = {0};
    size_t length;
    http_body(exchange, &length);
    memset(buffer_extend(&body, WHOLE), 'w', WHOLE);
    http_reply_buffer(exchange, 200, "text/plain", &body);
    assert_null(body.data);
}

/* A long whole answer waits for a client that takes enough of it, and counts as long as it waits; one that takes a few
 * bytes now and then is cut off like one that takes none. */
static void test_whole_answer_that_waits(void **state)
{
    (void)state;
    const struct http_limits limits = {.most_unsent = 8 << 20, .most_body_bytes = 1000, .most_held_bytes = WHOLE,
                                       .write_seconds = 1};
    struct fixture fixture;
    struct buffer got = {0};
    char few[2048];
    fixture_open(&fixture, &limits, NULL);
    fixture.on_request = reply_whole;
    int client = client_open(&fixture), size = 65536;
    setsockopt(client, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    client_send(client, GET("/"));
    turn_until(&fixture, fixture.requests == 1);
    int other = client_open(&fixture);
    client_send(other, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello");
    assert_int_equal(client_expect_end(&fixture, other, &got), 0);
    assert_int_equal(strncmp((char *)got.data, "HTTP/1.1 503", 12), 0);
    close(other);
    buffer_clear(&got);
    while (got.length < WHOLE) {
        assert_int_equal(client_read(client, &got), 1);
        fixture_turn(&fixture);
    }
    client_expect(&fixture, client, &got, "wwww");
    assert_int_equal(got.length, strstr((char *)got.data, "\r\n\r\n") + 4 - (char *)got.data + WHOLE);
    buffer_clear(&got); /* sent: there is room again */
    client_send(client, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello");
    turn_until(&fixture, fixture.requests == 2);
    ssize_t length = 1;
    for (int i = 0; i < 10000 && (length > 0 || errno == EAGAIN); i++) {
        length = recv(client, few, sizeof few, 0);
        fixture_turn(&fixture);
        usleep(1000);
        if (http_server_connections(fixture.server) == 0)
            break;
    }
    assert_int_equal(http_server_connections(fixture.server), 0);
    assert_int_equal(client_expect_end(&fixture, client, &got), -1);
    assert_true(got.length < WHOLE);
    close(client);
    buffer_free(&got);
    fixture_close(&fixture);
}

/* A short one is copied, HEAD's is not sent. */
static void reply_by_path(struct fixture *fixture, struct http_exchange *exchange)
{
    struct buffer body = {0};
    size_t length = strcmp(http_path(exchange), "/short") == 0 ? 10 : 100000;
    memset(buffer_extend(&body, length), 'b', length);
    http_reply_buffer(exchange, 200, NULL, &body);
    assert_null(body.data);
    assert_int_equal(body.length, 0);
}

static void test_answer_of_a_buffer(void **state)
{
    (void)state;
    struct fixture fixture;
    struct buffer got = {0};
    fixture_open(&fixture, NULL, NULL);
    fixture.on_request = reply_by_path;
    int client = client_open(&fixture);
    client_send(client, GET("/short") "HEAD / HTTP/1.1\r\n" HOST "\r\n" GET("/"));
    turn_until(&fixture, fixture.requests == 3);
    for (int i = 0; i < 100; i++) {
        fixture_turn(&fixture);
        client_read(client, &got);
    }
    without_date(&got);
    without_date(&got);
    without_date(&got);
    static const char start[] = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbbbbbbbbbb"
                                "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
                                "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nbbb";
    assert_int_equal(strncmp((char *)got.data, start, sizeof start - 1), 0);
    assert_int_equal(got.length, sizeof start - 1 - 3 + 100000);
    close(client);
    buffer_free(&got);
    fixture_close(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answer_to_a_head), cmocka_unit_test(test_bodies_together),
        cmocka_unit_test(test_whole_answer_that_waits), cmocka_unit_test(test_answer_of_a_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
