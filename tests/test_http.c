#define _GNU_SOURCE
#include "test.h"

#include <errno.h>
#include <event2/event.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/memory.h"
#include "http_fixture.h"

static void test_keep_alive_and_order(void **state)
{
    (void)state;
    struct fixture fixture;
    struct buffer got = {0};
    fixture_open(&fixture, NULL, NULL);
    int client = client_open(&fixture);
    client_send(client, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello");
    client_expect(&fixture, client, &got, "hello");
    assert_string_equal(without_date(&got),
                        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello");
    buffer_clear(&got);
    /* Pipelined: the second waits for the first, however late that is answered. */
    client_send(client, GET("/hold") "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\n2" GET("/none"));
    turn_until(&fixture, fixture.held_count == 1);
    for (int i = 0; i < 20; i++)
        fixture_turn(&fixture);
    assert_int_equal(fixture.requests, 2);
    assert_int_equal(client_read(client, &got), 1);
    assert_int_equal(got.length, 0);
    assert_string_equal(http_method(fixture.held[0]), "GET");
    assert_string_equal(http_header(fixture.held[0], "host"), "a");
    assert_null(http_header(fixture.held[0], "x"));
    assert_int_equal(strncmp(http_peer(fixture.held[0]), "127.0.0.1:", 10), 0);
    assert_true(http_received(fixture.held[0]) <= clock_nanoseconds());
    http_reply(fixture.held[0], 200, NULL, "1", 1);
    client_expect(&fixture, client, &got, "Content-Length: 0\r\n\r\n");
    const char *one = strstr((char *)got.data, "\r\n\r\n1HTTP/1.1 200");
    const char *two = strstr((char *)got.data, "\r\n\r\n2HTTP/1.1 404");
    assert_true(one && two && one < two);
    assert_int_equal(fixture.closed, 0);
    close(client);
    turn_until(&fixture, http_server_connections(fixture.server) == 0);
    buffer_free(&got);
    fixture_close(&fixture);
}

static void test_stream(void **state)
{
    (void)state;
    struct fixture fixture;
    struct buffer got = {0};
    bulla_error error = {0};
    fixture_open(&fixture, NULL, NULL);
    int client = client_open(&fixture);
    client_send(client, GET("/hold"));
    turn_until(&fixture, fixture.held_count == 1);
    struct http_exchange *exchange = fixture.held[0];
    assert_false(http_reply_has_begun(exchange));
    assert_ok(http_reply_header(exchange, "x-request-id", "r1", &error), error);
    http_reply_begin(exchange, 200, "text/event-stream");
    assert_true(http_reply_has_begun(exchange));
    http_reply_write(exchange, "one", 3);
    http_reply_write(exchange, "", 0);
    assert_true(http_reply_unsent(exchange) > 3);
    client_expect(&fixture, client, &got, "3\r\none\r\n");
    assert_int_equal(http_reply_unsent(exchange), 0);
    http_reply_write(exchange, "twotwotwotwotwo!", 16);
    http_reply_end(exchange);
    client_expect(&fixture, client, &got, "10\r\ntwotwotwotwotwo!\r\n0\r\n\r\n");
    assert_string_equal(without_date(&got), "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                                            "Transfer-Encoding: chunked\r\nx-request-id: r1\r\n\r\n"
                                            "3\r\none\r\n10\r\ntwotwotwotwotwo!\r\n0\r\n\r\n");
    buffer_clear(&got); /* and the connection goes on */
    client_send(client, GET("/echo"));
    client_expect(&fixture, client, &got, "Content-Length: 0\r\n\r\n");
    close(client);
    buffer_free(&got);
    fixture_close(&fixture);
}

/* HEAD, statuses without a body, HTTP/1.0, Connection: close. */
static void test_framing_of_answers(void **state)
{
    (void)state;
    struct fixture fixture;
    struct buffer got = {0};
    fixture_open(&fixture, NULL, NULL);
    int client = client_open(&fixture);
    client_send(client, "HEAD /hold HTTP/1.1\r\n" HOST "\r\nHEAD /hold HTTP/1.1\r\n" HOST "\r\n" GET("/hold")
                        GET("/hold"));
    turn_until(&fixture, fixture.held_count == 1);
    http_reply(fixture.held[0], 200, NULL, "hello", 5);
    turn_until(&fixture, fixture.held_count == 2);
    http_reply_begin(fixture.held[1], 200, NULL);
    http_reply_write(fixture.held[1], "hello", 5);
    client_expect(&fixture, client, &got, "chunked\r\n\r\n");
    http_reply_end(fixture.held[1]); /* nothing is added: the output is empty already */
    turn_until(&fixture, fixture.held_count == 3);
    http_reply(fixture.held[2], 204, NULL, "no", 2);
    turn_until(&fixture, fixture.held_count == 4);
    http_reply_begin(fixture.held[3], 304, NULL);
    http_reply_write(fixture.held[3], "no", 2);
    http_reply_end(fixture.held[3]);
    client_expect(&fixture, client, &got, "\r\n\r\n");
    assert_null(strstr((char *)got.data, "hello"));
    assert_non_null(strstr((char *)got.data, "Content-Length: 5\r\n"));
    assert_non_null(strstr((char *)got.data, "HTTP/1.1 204 No Content\r\n"));
    assert_null(strstr((char *)got.data, "Content-Length: 2"));
    close(client);

    buffer_clear(&got);
    client = client_open(&fixture);
    client_send(client, "GET /hold HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    turn_until(&fixture, fixture.held_count == 5);
    http_reply_begin(fixture.held[4], 200, NULL);
    http_reply_write(fixture.held[4], "until the end", 13);
    http_reply_end(fixture.held[4]);
    assert_int_equal(client_expect_end(&fixture, client, &got), 0);
    assert_string_equal(without_date(&got), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end");
    close(client);

    buffer_clear(&got);
    client = client_open(&fixture);
    client_send(client, "GET /echo HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n" GET("/echo"));
    assert_int_equal(client_expect_end(&fixture, client, &got), 0);
    assert_non_null(strstr((char *)got.data, "Connection: close\r\n"));
    assert_null(strstr((char *)got.data + 1, "HTTP/1.1"));
    close(client);
    buffer_free(&got);
    fixture_close(&fixture);
}

static void test_headers_of_answers(void **state)
{
    (void)state;
    static const char *const names[] = {"", "a b", "a:", "a\r\nb", "\xc3\xa4", "Content-Length", "transfer-encoding",
                                        "CONNECTION", "date"};
    struct fixture fixture;
    struct buffer got = {0};
    bulla_error error = {0};
    fixture_open(&fixture, NULL, NULL);
    int client = client_open(&fixture);
    client_send(client, GET("/hold"));
    turn_until(&fixture, fixture.held_count == 1);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        bulla_error_clear(&error);
        assert_int_equal(http_reply_header(fixture.held[0], names[i], "x", &error), BULLA_E_USAGE);
    }
    bulla_error_clear(&error);
    assert_int_equal(http_reply_header(fixture.held[0], "a", "b\r\nc: d", &error), BULLA_E_USAGE);
    bulla_error_clear(&error);
    assert_int_equal(http_reply_header(fixture.held[0], "a", "b\n", &error), BULLA_E_USAGE);
    bulla_error_clear(&error);
    assert_ok(http_reply_header(fixture.held[0], "a", "\xc3\xa4\t b", &error), error);
    http_reply(fixture.held[0], 1000, "text/html\r\nx: y", "", 0);
    client_expect(&fixture, client, &got, "\r\n\r\n");
    assert_string_equal(without_date(&got),
                        "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\na: \xc3\xa4\t b\r\n\r\n");
    close(client);
    buffer_free(&got);
    fixture_close(&fixture);
}

static void test_continue(void **state)
{
    (void)state;
    const struct http_limits limits = {.most_body_bytes = 10};
    struct fixture fixture;
    struct buffer got = {0};
    fixture_open(&fixture, &limits, NULL);
    int client = client_open(&fixture);
    client_send(client, "POST /echo HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    client_expect(&fixture, client, &got, "HTTP/1.1 100 Continue\r\n\r\n");
    client_send(client, "hi");
    client_expect(&fixture, client, &got, "\r\n\r\nhi");
    buffer_clear(&got); /* one that did not wait is not told */
    client_send(client, "POST /echo HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 2\r\n\r\nho");
    client_expect(&fixture, client, &got, "\r\n\r\nho");
    assert_null(strstr((char *)got.data, "Continue"));
    buffer_clear(&got); /* one whose body is not taken is told so instead */
    client_send(client, "POST /echo HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 11\r\n\r\n");
    assert_int_equal(client_expect_end(&fixture, client, &got), 0);
    assert_int_equal(strncmp((char *)got.data, "HTTP/1.1 413 Content Too Large\r\n", 32), 0);
    assert_non_null(strstr((char *)got.data, "{\"error\":{\"message\":\"The body is longer than is taken.\","
                                             "\"type\":\"invalid_request_error\",\"param\":null,\"code\":null}}"));
    close(client);
    buffer_free(&got);
    fixture_close(&fixture);
}

/* A client that still sends its body gets the answer to the head: the server does not reset it. */
static void test_refusal_reaches_a_sender(void **state)
{
    (void)state;
    const struct http_limits limits = {.most_body_bytes = 1 << 20};
    struct fixture fixture;
    struct buffer got = {0};
    static char block[16384];
    fixture_open(&fixture, &limits, NULL);
    int client = client_open(&fixture);
    client_send(client, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 2000000\r\n\r\n");
    for (int i = 0; i < 40; i++) {
        assert_true(send(client, block, sizeof block, MSG_NOSIGNAL) > 0 || errno == EAGAIN);
        if (i > 4) /* so that some is unread when the answer has been sent */
            fixture_turn(&fixture);
    }
    assert_int_equal(client_expect_end(&fixture, client, &got), 0);
    assert_int_equal(strncmp((char *)got.data, "HTTP/1.1 413", 12), 0);
    assert_int_equal(fixture.requests, 0);
    close(client);
    turn_until(&fixture, http_server_connections(fixture.server) == 0);
    /* But not for ever. */
    client = client_open(&fixture);
    client_send(client, "bad\r\n\r\n");
    int is_open = 1;
    for (int i = 0; i < 400 && is_open; i++) {
        fixture_turn(&fixture);
        is_open = send(client, block, sizeof block, MSG_NOSIGNAL) > 0 || errno == EAGAIN;
    }
    assert_false(is_open);
    close(client);
    buffer_free(&got);
    fixture_close(&fixture);
}

/* A client that hangs up while its answer is under way: closed, half-closed, reset; quiet and while streaming, and with
 * so much pipelined behind its request that its socket is no longer read. */
static void test_hang_up(void **state)
{
    (void)state;
    static char more[20000];
    for (int how = 0; how < 3; how++)
        for (int is_streaming = 0; is_streaming < 2; is_streaming++)
            for (int is_paused = 0; is_paused < 2; is_paused++) {
                struct fixture fixture;
                fixture_open(&fixture, NULL, NULL);
                int client = client_open(&fixture);
                client_send(client, GET("/hold"));
                turn_until(&fixture, fixture.held_count == 1);
                if (is_streaming) {
                    http_reply_begin(fixture.held[0], 200, NULL);
                    http_reply_write(fixture.held[0], "x", 1);
                }
                memset(more, 'x', sizeof more);
                if (is_paused)
                    assert_true(send(client, more, sizeof more, MSG_NOSIGNAL) > 0);
                for (int i = 0; i < 100; i++)
                    fixture_turn(&fixture);
                assert_int_equal(fixture.closed, 0);
                const struct linger now = {.l_onoff = 1};
                if (how == 2)
                    setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof now);
                if (how == 1)
                    shutdown(client, SHUT_WR);
                else
                    close(client);
                turn_until(&fixture, fixture.closed == 1);
                turn_until(&fixture, http_server_connections(fixture.server) == 0);
                if (how == 1)
                    close(client);
                fixture_close(&fixture);
                assert_int_equal(fixture.closed, 1);
            }
}

/* What was answered whole before the client's end was seen is still sent. */
static void test_half_close_after_request(void **state)
{
    (void)state;
    struct fixture fixture;
    struct buffer got = {0};
    fixture_open(&fixture, NULL, NULL);
    int client = client_open(&fixture);
    client_send(client, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello" GET("/hold"));
    shutdown(client, SHUT_WR);
    assert_int_equal(client_expect_end(&fixture, client, &got), 0);
    assert_non_null(strstr((char *)got.data, "\r\n\r\nhello"));
    turn_until(&fixture, http_server_connections(fixture.server) == 0);
    close(client);
    buffer_free(&got);
    fixture_close(&fixture);
}

static void *large;
enum { LARGE = 3 << 20 };

static void reply_large(struct fixture *fixture, struct http_exchange *exchange)
{
    http_reply(exchange, 200, NULL, large, LARGE);
}

/* A large answer to a client that has half-closed arrives whole too. */
static void test_large_answer(void **state)
{
    (void)state;
    struct fixture fixture;
    struct buffer got = {0};
    large = calloc(1, LARGE);
    fixture_open(&fixture, NULL, NULL);
    fixture.on_request = reply_large;
    int client = client_open(&fixture);
    client_send(client, GET("/"));
    shutdown(client, SHUT_WR);
    for (int i = 0; i < 50; i++)
        fixture_turn(&fixture);
    assert_int_equal(client_expect_end(&fixture, client, &got), 0);
    assert_true(got.length > LARGE);
    close(client);
    free(large);
    buffer_free(&got);
    fixture_close(&fixture);
}

/* The same bytes in two answers, and one that is cut off: each part is released once, when it has left. */
static void count_release(const void *bytes, size_t length, void *context)
{
    assert_true(bytes == large && length == LARGE);
    ++*(int *)context;
}

static void test_answer_in_parts(void **state)
{
    (void)state;
    struct fixture fixture;
    struct buffer got[2] = {{0}};
    int released[4] = {0}, clients[4];
    large = calloc(1, LARGE);
    memset(large, 'a', LARGE);
    fixture_open(&fixture, NULL, NULL);
    for (size_t i = 0; i < 4; i++) {
        clients[i] = client_open(&fixture);
        client_send(clients[i], i == 2 ? "HEAD /hold HTTP/1.1\r\n" HOST "\r\n" : GET("/hold"));
        turn_until(&fixture, fixture.held_count == i + 1);
        const struct http_part parts[] = {{"<", 1, NULL, NULL}, {large, LARGE, count_release, &released[i]}, {">", 1, NULL, NULL}};
        if (i == 3)
            http_reply_begin(fixture.held[3], 200, NULL); /* two answers: none */
        http_reply_parts(fixture.held[i], 200, "text/plain", parts, 3);
    }
    for (size_t i = 0; i < 2; i++) {
        client_expect(&fixture, clients[i], &got[i], "a>");
        assert_int_equal(released[i], 1);
        assert_non_null(strstr((const char *)got[i].data, "\r\n\r\n<aaaa"));
        buffer_free(&got[i]);
    }
    turn_until(&fixture, released[2] == 1 && released[3] == 1);
    for (size_t i = 0; i < 4; i++)
        close(clients[i]);
    fixture_close(&fixture);
    free(large);
}

static void test_abort(void **state)
{
    (void)state;
    struct fixture fixture;
    struct buffer got = {0};
    fixture_open(&fixture, NULL, NULL);
    int client = client_open(&fixture);
    client_send(client, GET("/hold"));
    turn_until(&fixture, fixture.held_count == 1);
    http_reply_begin(fixture.held[0], 200, NULL);
    http_reply_write(fixture.held[0], "half", 4);
    client_expect(&fixture, client, &got, "half\r\n");
    http_reply_abort(fixture.held[0]);
    assert_int_equal(client_expect_end(&fixture, client, &got), -1);
    assert_int_equal(fixture.closed, 0);
    assert_int_equal(http_server_connections(fixture.server), 0);
    close(client);
    client = client_open(&fixture); /* two answers, and an end without a beginning, are aborts */
    client_send(client, GET("/hold"));
    turn_until(&fixture, fixture.held_count == 2);
    http_reply_begin(fixture.held[1], 200, NULL);
    http_reply(fixture.held[1], 200, NULL, "x", 1);
    assert_int_equal(client_expect_end(&fixture, client, &got), -1);
    close(client);
    client = client_open(&fixture);
    client_send(client, GET("/hold"));
    turn_until(&fixture, fixture.held_count == 3);
    http_reply_end(fixture.held[2]);
    assert_int_equal(client_expect_end(&fixture, client, &got), -1);
    close(client);
    buffer_free(&got);
    fixture_close(&fixture);
}

/* A stream that nobody reads ends when too much waits, whatever the handler still does with it, and the handler is told
 * unless it has ended the exchange itself. */
static void test_unread_stream(void **state)
{
    (void)state;
    static char block[65536];
    const struct http_limits limits = {.most_unsent = 1 << 20};
    for (int how = 0; how < 3; how++) {
        struct fixture fixture;
        fixture_open(&fixture, &limits, NULL);
        int client = client_open(&fixture);
        client_send(client, GET("/hold"));
        turn_until(&fixture, fixture.held_count == 1);
        struct http_exchange *exchange = fixture.held[0];
        http_reply_begin(exchange, 200, NULL);
        for (int i = 0; i < 1000 && http_reply_unsent(exchange) <= limits.most_unsent; i++) {
            http_reply_write(exchange, block, sizeof block);
            if (http_reply_unsent(exchange) <= limits.most_unsent)
                fixture_turn(&fixture);
            assert_int_equal(fixture.closed, 0);
        }
        for (int i = 0; i < 1000; i++) /* not a byte more is kept */
            http_reply_write(exchange, block, sizeof block);
        assert_true(http_reply_unsent(exchange) < limits.most_unsent + 2 * sizeof block);
        if (how == 1)
            http_reply_end(exchange);
        if (how == 2)
            http_reply_abort(exchange);
        assert_int_equal(fixture.closed, 0);
        turn_until(&fixture, http_server_connections(fixture.server) == 0);
        assert_int_equal(fixture.closed, how == 0);
        close(client);
        fixture_close(&fixture);
    }
}

/* Each time limit. */
static void test_time_limits(void **state)
{
    (void)state;
    static char block[65536];
    const struct http_limits limits = {.header_seconds = 1, .body_seconds = 1, .idle_seconds = 1, .write_seconds = 1};
    struct fixture fixture;
    struct buffer got[5] = {{0}};
    fixture_open(&fixture, &limits, NULL);
    int idle = client_open(&fixture), header = client_open(&fixture), body = client_open(&fixture),
        reader = client_open(&fixture), line = client_open(&fixture);
    client_send(header, "GET / HTTP/1.1\r\nHost");
    client_send(body, "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhell");
    client_send(line, "\r\n"); /* is not the beginning of a request */
    client_send(reader, GET("/hold"));
    turn_until(&fixture, fixture.held_count == 1);
    http_reply_begin(fixture.held[0], 200, NULL);
    for (int i = 0; i < 40; i++) /* less than most_unsent */
        http_reply_write(fixture.held[0], block, sizeof block);
    assert_int_equal(client_expect_end(&fixture, idle, &got[0]), 0);
    assert_int_equal(got[0].length, 0);
    assert_int_equal(client_expect_end(&fixture, line, &got[1]), 0);
    assert_int_equal(got[1].length, 0);
    assert_int_equal(client_expect_end(&fixture, header, &got[2]), 0);
    assert_int_equal(strncmp((char *)got[2].data, "HTTP/1.1 408 Request Timeout\r\n", 30), 0);
    assert_int_equal(client_expect_end(&fixture, body, &got[3]), 0);
    assert_int_equal(strncmp((char *)got[3].data, "HTTP/1.1 408 Request Timeout\r\n", 30), 0);
    turn_until(&fixture, fixture.closed == 1);
    assert_int_equal(fixture.requests, 1);
    close(idle), close(header), close(body), close(reader), close(line);
    turn_until(&fixture, http_server_connections(fixture.server) == 0);
    for (int i = 0; i < 5; i++)
        buffer_free(&got[i]);
    fixture_close(&fixture);
}

static void test_drain(void **state)
{
    (void)state;
    struct fixture fixture;
    struct buffer got = {0};
    fixture_open(&fixture, NULL, NULL);
    int idle = client_open(&fixture), waiting = client_open(&fixture), streaming = client_open(&fixture),
        fresh = client_open(&fixture), silent = client_open(&fixture);
    client_send(idle, GET("/echo"));
    client_expect(&fixture, idle, &got, "Content-Length: 0\r\n\r\n");
    client_send(streaming, GET("/hold"));
    turn_until(&fixture, fixture.held_count == 1);
    client_send(waiting, GET("/hold") GET("/echo"));
    turn_until(&fixture, fixture.held_count == 2);
    http_reply_begin(fixture.held[0], 200, NULL);
    int queued = client_open(&fixture); /* connected, not accepted yet */
    http_server_drain(fixture.server);
    http_server_drain(fixture.server);
    assert_false(http_server_is_drained(fixture.server));
    buffer_clear(&got);
    assert_int_equal(client_expect_end(&fixture, idle, &got), 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons(fixture.port)};
    int late = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(late, (struct sockaddr *)&address, sizeof address), -1);
    close(late);
    client_send(fresh, GET("/echo")); /* one that has had no request gets one answered */
    client_send(queued, GET("/echo"));
    assert_int_equal(client_expect_end(&fixture, fresh, &got), 0);
    assert_non_null(strstr((char *)got.data, "Connection: close\r\n"));
    assert_int_equal(client_expect_end(&fixture, queued, &got), 0);
    buffer_clear(&got);
    http_reply(fixture.held[1], 200, NULL, "done", 4);
    assert_int_equal(client_expect_end(&fixture, waiting, &got), 0);
    assert_non_null(strstr((char *)got.data, "Connection: close\r\n"));
    assert_int_equal(strcmp((char *)got.data + got.length - 4, "done"), 0);
    http_reply_end(fixture.held[0]);
    buffer_clear(&got);
    assert_int_equal(client_expect_end(&fixture, streaming, &got), 0);
    close(idle), close(waiting), close(streaming), close(fresh), close(queued);
    turn_until(&fixture, http_server_is_drained(fixture.server)); /* `silent` is closed after a while */
    close(silent);
    assert_int_equal(fixture.closed, 0);
    buffer_free(&got);
    fixture_close(&fixture);
}

static void reply_in_closed(void *context)
{
    struct fixture *fixture = context;
    fixture->closed++;
    http_reply(fixture->held[0], 200, NULL, "x", 1); /* not allowed, and harmless */
}

static void test_close_with_answers_under_way(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_open(&fixture, NULL, NULL);
    int one = client_open(&fixture), two = client_open(&fixture), three = client_open(&fixture);
    client_send(one, GET("/hold"));
    turn_until(&fixture, fixture.held_count == 1);
    http_on_close(fixture.held[0], reply_in_closed, &fixture);
    client_send(two, GET("/hold"));
    turn_until(&fixture, fixture.held_count == 2);
    http_reply_begin(fixture.held[1], 200, NULL);
    http_reply_write(fixture.held[1], "x", 1);
    client_send(three, "GET /");
    for (int i = 0; i < 10; i++)
        fixture_turn(&fixture);
    assert_int_equal(http_server_connections(fixture.server), 3);
    fixture_close(&fixture);
    assert_int_equal(fixture.closed, 2);
    close(one), close(two), close(three);
    http_server_close(NULL);
}

static void test_most_connections(void **state)
{
    (void)state;
    const struct http_limits limits = {.most_connections = 2};
    struct fixture fixture;
    struct buffer got = {0};
    fixture_open(&fixture, &limits, NULL);
    int one = client_open(&fixture), two = client_open(&fixture), three = client_open(&fixture);
    assert_true(client_expect_end(&fixture, three, &got) <= 0);
    assert_int_equal(http_server_connections(fixture.server), 2);
    client_send(two, GET("/echo"));
    client_expect(&fixture, two, &got, "\r\n\r\n");
    close(one), close(two), close(three);
    buffer_free(&got);
    fixture_close(&fixture);
}

/* Without descriptors the server waits instead of spinning, and goes on when there are some again. */
static void test_no_descriptors(void **state)
{
    (void)state;
    struct fixture fixture;
    struct buffer got = {0};
    struct rlimit before, none;
    fixture_open(&fixture, NULL, NULL);
    int client = client_open(&fixture);
    int next = dup(client);
    close(next);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = (rlim_t)next;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    fixture_turn(&fixture);
    fixture_turn(&fixture);
    assert_int_equal(http_server_connections(fixture.server), 0);
    assert_true(event_base_get_num_events(fixture.base, EVENT_BASE_COUNT_ACTIVE) == 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    client_send(client, GET("/echo"));
    client_expect(&fixture, client, &got, "\r\n\r\n");
    close(client);
    buffer_free(&got);
    fixture_close(&fixture);
}

static void refuse(void *context, struct http_exchange *exchange, int status, const char *message)
{
    struct fixture *fixture = context;
    const char *id = http_header(exchange, "x-request-id");
    char text[300];
    fixture->closed++;
    assert_true(http_received(exchange) > 0 && http_received(exchange) <= clock_nanoseconds());
    assert_int_equal(strncmp(http_peer(exchange), "127.0.0.1:", 10), 0);
    int length = snprintf(text, sizeof text, "%d|%s|%s|%s", status, http_method(exchange), id ? id : "-", message);
    http_reply(exchange, status, "text/plain", text, (size_t)length);
}

/* What is not taken reaches the handler with what is known of it, and the connection closes. */
static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *request, *answer;
    } cases[] = {
        {"GET / HTTP/1.1\r\n" HOST "X-Request-Id: r1\r\nContent-Length: 99999\r\n\r\n",
         "413|GET|r1|The body is longer than is taken."},
        {"POST / HTTP/1.1\r\nX-Request-Id: r2\r\n" HOST HOST "\r\n", "400|POST|r2|The request has more than one Host header."},
        {"HEAD /\r\n\r\n", "400||-|The request line is malformed: it is METHOD TARGET HTTP/1.1."},
        {"\1\2\3\r\n\r\n", "400||-|A line holds a control character."},
        {"GET / HTTP/1.1\r\nA: 1\r\nA 2\r\n\r\n",
         "400|GET|-|A header line is not NAME: VALUE, with no space before the colon."},
        {"POST / HTTP/1.1\r\nX-Request-Id: r3\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nx\r\n",
         "400|POST|r3|A chunk's size is not a hexadecimal number."},
        {"GET / HTTP/1.1\r\nX-Request-Id: r4\r\n", "408|GET|r4|The request did not come in time."},
    };
    const struct http_limits limits = {.most_body_bytes = 1000, .header_seconds = 1};
    struct fixture fixture;
    fixture_open_with(&fixture, &limits, NULL, refuse);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buffer got = {0};
        int client = client_open(&fixture);
        client_send(client, cases[i].request);
        assert_int_equal(client_expect_end(&fixture, client, &got), 0);
        const char *body = got.data ? strstr((char *)got.data, "\r\n\r\n") : NULL;
        if (!body || strcmp(body + 4, cases[i].answer) != 0)
            fail_msg("expected %s, got %s", cases[i].answer, got.data ? (char *)got.data : "");
        assert_non_null(strstr((char *)got.data, "Connection: close\r\n"));
        assert_int_equal(fixture.closed, i + 1);
        close(client);
        buffer_free(&got);
    }
    assert_int_equal(fixture.requests, 0);
    fixture_close(&fixture);
}

static void test_open_refuses(void **state)
{
    (void)state;
    struct event_base *base = event_base_new();
    struct http_server *server;
    bulla_error error = {0};
    uint16_t port;
    int listener = fixture_listen(&port);
    const struct http_handler none = {0}, handler = {.request = fixture_request};
    const struct http_limits large_header = {.most_header_bytes = 17 << 20};
    const struct http_limits less_than_one = {.most_body_bytes = 1001, .most_held_bytes = 1000};
    signal(SIGPIPE, SIG_DFL);
    assert_int_equal(http_server_open(base, listener, NULL, NULL, &handler, &server, &error), BULLA_E_USAGE);
    bulla_error_clear(&error);
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(http_server_open(base, listener, NULL, NULL, &none, &server, &error), BULLA_E_USAGE);
    bulla_error_clear(&error);
    assert_int_equal(http_server_open(base, listener, NULL, &large_header, &handler, &server, &error), BULLA_E_USAGE);
    bulla_error_clear(&error);
    assert_int_equal(http_server_open(base, listener, NULL, &less_than_one, &handler, &server, &error), BULLA_E_USAGE);
    bulla_error_clear(&error);
    assert_int_equal(http_server_open(base, -1, NULL, NULL, &handler, &server, &error), BULLA_E_IO);
    assert_null(server);
    bulla_error_clear(&error);
    memory_inject_failure(1, 0);
    assert_int_equal(http_server_open(base, listener, NULL, NULL, &handler, &server, &error), BULLA_E_MEMORY);
    memory_inject_failure(0, 0);
    close(listener);
    event_base_free(base);
}

/* Memory that is short at any point of some requests ends or refuses them, and nothing else. */
static void test_memory(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_open(&fixture, NULL, NULL);
    for (uint64_t n = 1; n < 40; n++) {
        struct buffer got = {0};
        bulla_error error = {0};
        int client = client_open(&fixture);
        fixture.held_count = 0;
        buffer_append_byte(&got, ' '); /* so that the test's own memory is there */
        memory_inject_failure(n, 0);
        client_send(client, "POST /hold HTTP/1.1\r\n" HOST "A: 1\r\na: 2\r\nContent-Length: 5\r\n\r\nhello");
        for (int i = 0; i < 30; i++) {
            fixture_turn(&fixture);
            if (fixture.held_count == 1) {
                http_reply_header(fixture.held[0], "x", "y", &error);
                http_reply_begin(fixture.held[0], 200, NULL);
                http_reply_write(fixture.held[0], "hello", 5);
                http_reply_end(fixture.held[0]);
                fixture.held_count = 0;
            }
        }
        memory_inject_failure(0, 0);
        int is_open = client_read(client, &got);
        if (n > 30)
            assert_int_equal(is_open, 1);
        close(client);
        buffer_free(&got);
        turn_until(&fixture, http_server_connections(fixture.server) == 0);
    }
    fixture_close(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keep_alive_and_order), cmocka_unit_test(test_stream),
        cmocka_unit_test(test_framing_of_answers), cmocka_unit_test(test_headers_of_answers),
        cmocka_unit_test(test_continue), cmocka_unit_test(test_refusal_reaches_a_sender),
        cmocka_unit_test(test_hang_up), cmocka_unit_test(test_half_close_after_request),
        cmocka_unit_test(test_large_answer), cmocka_unit_test(test_answer_in_parts), cmocka_unit_test(test_abort), cmocka_unit_test(test_unread_stream),
        cmocka_unit_test(test_time_limits), cmocka_unit_test(test_drain),
        cmocka_unit_test(test_close_with_answers_under_way), cmocka_unit_test(test_most_connections),
        cmocka_unit_test(test_no_descriptors), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_open_refuses), cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
