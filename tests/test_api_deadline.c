/* How long an answer may take, and what ends it then. */
#include "test.h"

#include <event2/event.h>

#include "api_fakes.h"

static const char chat[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}";
static const char *const user[] = {"authorization: Bearer user", NULL};

/* Of the request's, the header's and the model's time the smallest counts. */
static void test_deadlines(void **state)
{
    static const struct {
        const char *field, *header;
        uint64_t of_model, expected; /* seconds; milliseconds */
    } cases[] = {
        {"", NULL, 0, 0}, {",\"timeout\":2.5", NULL, 0, 2500}, {"", "x-request-timeout: 3", 0, 3000},
        {"", NULL, 4, 4000}, {",\"timeout\":9", "x-request-timeout: 0.5", 4, 500},
        {",\"timeout\":1", "x-request-timeout: 3", 4, 1000}, {",\"timeout\":9", "x-request-timeout: 30", 4, 4000},
    };
    static const char *const wrong[] = {"soon", "0", "-1", "\"1\"", "1, 2", "1e99", "1e-9"};
    static const char *const forms[][2] = {
        {"/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]%s}"},
        {"/v1/completions", "{\"prompt\":\"hi\"%s}"}, {"/v1/responses", "{\"input\":\"hi\"%s}"},
        {"/v1/embeddings", "{\"input\":\"hi\"%s}"},
    };
    struct fake_server server;
    char body[200], header[60];
    fake_open(&server, 1, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *const headers[] = {user[0], cases[i].header, NULL};
        server.model->most_seconds = cases[i].of_model;
        snprintf(body, sizeof body, forms[i % 4][1], cases[i].field);
        struct http_exchange *exchange = fake_ask(&server, "POST", forms[i % 4][0], headers, body);
        uint64_t deadline = fake_last(&server)->request.deadline;
        fake_hang_up(exchange);
        fake_free(exchange);
        assert_int_equal(deadline, cases[i].expected ? server.record.received_nanoseconds + 1000000 * cases[i].expected : 0);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        const char *const headers[] = {user[0], header, NULL};
        snprintf(header, sizeof header, "x-request-timeout: %s", wrong[i]);
        ask_and_expect(&server, "POST", "/v1/chat/completions", headers, chat, 400, "error.param", "X-Request-Timeout");
    }
    fake_close(&server);
}

static void run_until_over(struct fake_server *server, const struct http_exchange *exchange)
{
    while (!exchange->is_over)
        event_base_loop(server->base, EVLOOP_ONCE);
    fake_loop(server);
}

/* Backends that do not end an answer at its deadline themselves: the API does. */
static void test_late(void **state)
{
    static const char late[] = "{\"prompt\":[\"a\",\"b\"],\"n\":2,\"timeout\":0.001%s}";
    struct fake_server server;
    char body[200];
    fake_open(&server, 1, NULL);
    for (int is_stream = 0; is_stream < 2; is_stream++) {
        server.fake.count = 0;
        snprintf(body, sizeof body, late, is_stream ? ",\"stream\":true" : "");
        struct http_exchange *waiting = fake_ask(&server, "POST", "/v1/completions", user, body);
        struct http_exchange *told = fake_ask(&server, "POST", "/v1/completions", user, body);
        struct http_exchange *unlimited = fake_ask(&server, "POST", "/v1/chat/completions", user, chat);
        struct fake_answer *answers = server.fake.answers;
        fake_text(answers + 2, 1, "x");
        fake_text(answers + 2, 1, "y");
        fake_finish(answers + 3, 0, "stop", NULL);
        fake_finish(answers + 3, 1, "stop", NULL);
        fake_end(answers + 3, 3, 1);
        run_until_over(&server, waiting);
        run_until_over(&server, told);
        check_error(waiting, 504, "deadline", "null");
        assert_true(answers[0].is_cancelled && answers[1].is_cancelled && answers[2].is_cancelled);
        assert_false(answers[3].is_cancelled || answers[4].is_cancelled);
        if (is_stream) {
            check_event(told, fake_events(told) - 1, "choices[0].stop_reason", "deadline");
            assert_non_null(strstr((char *)told->reply.data, "data: [DONE]"));
        } else {
            check_at(told, "choices[1].text", "xy");
            check_at(told, "choices[0].finish_reason", "length");
            check_at(told, "choices[0].stop_reason", "deadline");
            check_at(told, "choices[1].stop_reason", "deadline");
            check_at(told, "choices[2].stop_reason", "null");
            check_at(told, "usage.completion_tokens", "3");
        }
        assert_int_equal(api_answers(server.api), 1);
        fake_hang_up(unlimited);
        fake_loop(&server);
        fake_free(waiting);
        fake_free(told);
        fake_free(unlimited);
    }
    fake_close(&server);
}

/* One prompt of several has nothing at the deadline: the others' answers stay. */
static void test_late_run(void **state)
{
    struct fake_server server;
    fake_open(&server, 1, NULL);
    struct http_exchange *exchange = fake_ask(&server, "POST", "/v1/completions", user, "{\"prompt\":[\"a\",\"b\"]}");
    fake_text(server.fake.answers, 0, "x");
    fake_fail(server.fake.answers + 1, 504, "server_error", "deadline", "it is too late");
    assert_false(exchange->is_over);
    fake_finish(server.fake.answers, 0, "length", "deadline");
    fake_end(server.fake.answers, 2, 1);
    check_at(exchange, "choices[0].text", "x");
    check_at(exchange, "choices[1].text", "");
    check_at(exchange, "choices[1].finish_reason", "length");
    check_at(exchange, "choices[1].stop_reason", "deadline");
    fake_free(exchange);
    exchange = fake_ask(&server, "POST", "/v1/completions", user, "{\"prompt\":[\"a\",\"b\"]}");
    fake_fail(server.fake.answers + 3, 504, "server_error", "deadline", "it is too late");
    check_error(exchange, 504, "deadline", "null");
    fake_free(exchange);
    fake_loop(&server);
    fake_close(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_late),
        cmocka_unit_test(test_late_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
