/* What the API does not let in, what answers under way may hold together, and how long a whole one may be. */
#include "test.h"

#include "api_fakes.h"
#include "base/memory.h"
#include "serve/api_answer.h"

static const char chat[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}";
static const char *const user[] = {"authorization: Bearer user", NULL};
static const char *const admin[] = {"authorization: Bearer admin", NULL};

/* Requests that are not let in are answered before their bodies are read, and recorded once. */
static void test_heads(void **state)
{
    static const char *const foreign[] = {"authorization: Bearer user", "origin: https://evil.example", NULL};
    static const struct {
        const char *method, *path;
        const char *const *headers;
        int status, is_refused;
    } cases[] = {
        {"POST", "/v1/chat/completions", NULL, 401, 1},   {"POST", "/v1/embeddings", NULL, 401, 1},
        {"POST", "/tokenize", NULL, 401, 1},              {"POST", "/v1/admin/models", user, 403, 1},
        {"POST", "/nowhere", user, 404, 1},               {"POST", "/nowhere", NULL, 404, 1},
        {"PUT", "/tokenize", user, 405, 1},               {"POST", "/tokenize", foreign, 403, 1},
        {"GET", "/health", NULL, 200, 1},                 {"DELETE", "/v1/admin/models/small", admin, 200, 1},
        {"POST", "/tokenize", user, 200, 0},              {"POST", "/v1/chat/completions", user, 400, 0},
    };
    struct fake_server server;
    fake_open(&server, 1, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct http_exchange *exchange =
            fake_ask(&server, cases[i].method, cases[i].path, cases[i].headers, "{\"prompt\":\"a\"}");
        assert_int_equal(exchange->status, cases[i].status);
        assert_int_equal(exchange->is_refused, cases[i].is_refused);
        assert_int_equal(server.records, i + 1);
        assert_int_equal(server.record.request_bytes, cases[i].is_refused ? 0 : strlen("{\"prompt\":\"a\"}"));
        fake_free(exchange);
    }
    api_drain(server.api);
    struct http_exchange *late = fake_ask(&server, "POST", "/v1/chat/completions", user, chat);
    check_error(late, 503, "draining", "null");
    assert_true(late->is_refused);
    fake_free(late);
    fake_close(&server);
}

/* Where only this machine can ask and no key is needed, the host that is asked for must be this machine. */
static void test_hosts(void **state)
{
    static const char *const more[] = {"box.example", "[fd00::1]"};
    static const struct {
        const char *host; /* NULL: none */
        int is_taken;
    } cases[] = {
        {NULL, 1},
        {"host: localhost", 1},
        {"host: LocalHost:8080", 1},
        {"host: a.localhost:8080", 1},
        {"host: 127.0.0.1:8080", 1},
        {"host: 127.255.3.4", 1},
        {"host: [::1]:8080", 1},
        {"host: [0:0::1]", 1},
        {"host: box.example", 1},
        {"host: BOX.example:81", 1},
        {"host: [fd00::1]:8080", 1},
        {"host: evil.example:8080", 0},
        {"host: localhost.evil.example", 0},
        {"host: evillocalhost", 0},
        {"host: .localhost", 0},
        {"host: 127.0.0.1.evil.example", 0},
        {"host: 128.0.0.1", 0},
        {"host: 0.0.0.0:8080", 0},
        {"host: 127.1", 0},
        {"host: [::2]", 0},
        {"host: [fd00::2]", 0},
        {"host: a.box.example", 0},
    };
    static const struct {
        const char *method, *path, *body;
        int status;
    } routes[] = {{"GET", "/health", NULL, 200},           {"GET", "/", NULL, 200},
                  {"GET", "/v1/models", NULL, 200},        {"GET", "/nowhere", NULL, 404},
                  {"POST", "/tokenize", "{\"prompt\":\"a\"}", 200}, {"OPTIONS", "/tokenize", NULL, 204}};
    struct fake_server server;
    char origin[100];
    fake_open(&server, 0, &(struct api_options){.has_page = 1, .cors_origin = "https://a.example", .is_local = 1,
                                                .hosts = more, .host_count = 2});
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (size_t k = 0; k < sizeof routes / sizeof routes[0]; k++) {
            const char *headers[] = {cases[i].host, NULL, NULL};
            if (cases[i].host) { /* of the same origin, as a page is whose name was bound anew */
                snprintf(origin, sizeof origin, "origin: http://%s", cases[i].host + strlen("host: "));
                headers[1] = origin;
            }
            ask_and_expect(&server, routes[k].method, routes[k].path, headers, routes[k].body,
                           cases[i].is_taken ? routes[k].status : 403, cases[i].is_taken ? NULL : "error.code",
                           "foreign_host");
        }
    static const char *const evil[] = {"host: evil.example:8080", "origin: http://evil.example:8080", NULL};
    struct http_exchange *exchange = fake_ask(&server, "POST", "/tokenize", evil, "{\"prompt\":\"a\"}");
    assert_true(exchange->is_refused);
    assert_non_null(strstr(fake_at(exchange, "error.message"), "evil.example:8080 is no name of this machine"));
    assert_non_null(strstr(fake_at(exchange, "error.message"), "--hosts"));
    fake_free(exchange);
    fake_close(&server);
    fake_open(&server, 0, NULL); /* others can connect: any name may be its own */
    ask_and_expect(&server, "GET", "/v1/models", evil, NULL, 200, "object", "list");
    fake_close(&server);
}

/* A large body whose fields mean nothing takes no memory while its answer lasts. */
static void test_bodies_are_forgotten(void **state)
{
    struct fake_server server;
    struct buffer body = {0};
    fake_open(&server, 0, NULL);
    buffer_append_text(&body, "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"junk\":[0");
    for (int i = 0; i < 300000; i++)
        buffer_append_text(&body, ",{}");
    buffer_append_text(&body, "]}");
    struct http_exchange *exchange = fake_ask(&server, "POST", "/v1/chat/completions", NULL, (char *)body.data);
    assert_int_equal(exchange->status, 0);
    assert_int_equal(exchange->body_length, 0);
    struct api_answer *answer = server.api->answers;
    assert_int_equal(answer->request.json.total, 0);
    assert_int_equal(server.api->held, answer->held);
    assert_true(server.api->held >= answer->request.kept.total && server.api->held < 200000);
    fake_text(fake_last(&server), 0, "x");
    fake_end(fake_last(&server), 1, 1);
    assert_int_equal(exchange->status, 200);
    fake_loop(&server);
    assert_int_equal(server.api->held, 0);
    fake_free(exchange);
    buffer_free(&body);
    fake_close(&server);
}

/* What answers under way hold together is bounded: what their requests left, and what was gathered. */
static void test_overload(void **state)
{
    struct fake_server server;
    struct buffer body = {0};
    struct http_exchange *exchanges[8];
    size_t count = 0;
    fake_open(&server, 1, &(struct api_options){.most_held_bytes = 4 << 20});
    buffer_append_text(&body, "{\"prompt\":\"");
    memset(buffer_extend(&body, 1 << 20), 'p', 1 << 20);
    buffer_append_text(&body, "\"}");
    for (; count < 8; count++) {
        exchanges[count] = fake_ask(&server, "POST", "/v1/completions", user, (char *)body.data);
        if (exchanges[count]->status)
            break;
    }
    assert_int_equal(count, 3);
    check_error(exchanges[3], 503, "overloaded", "null");
    check_at(exchanges[3], "error.type", "overloaded_error");
    assert_string_equal(server.record_code, "overloaded");
    assert_int_equal(api_answers(server.api), 3);
    ask_and_expect(&server, "POST", "/tokenize", user, "{\"prompt\":\"a\"}", 200, "count", "2"); /* holds nothing */
    char text[65536] = "";
    memset(text, 't', sizeof text - 1);
    for (int i = 0; i < 16; i++)
        fake_text(server.fake.answers, 0, text);
    struct http_exchange *small = fake_ask(&server, "POST", "/v1/chat/completions", user, chat);
    check_error(small, 503, "overloaded", "null");
    assert_true(small->is_refused);
    fake_free(small);
    fake_end(server.fake.answers, 1, 1); /* one that ends makes room */
    fake_hang_up(exchanges[1]);
    fake_loop(&server);
    fake_free(exchanges[3]);
    exchanges[3] = fake_ask(&server, "POST", "/v1/completions", user, (char *)body.data);
    assert_int_equal(exchanges[3]->status, 0);
    fake_hang_up(exchanges[2]);
    fake_hang_up(exchanges[3]);
    fake_loop(&server);
    assert_int_equal(server.api->held, 0);
    for (size_t i = 0; i < 4; i++)
        fake_free(exchanges[i]);
    buffer_free(&body);
    fake_close(&server);
}

static void check_too_long(struct http_exchange *exchange, const char *param, const char *says)
{
    check_error(exchange, 400, "reply_too_long", param);
    assert_non_null(strstr(fake_at(exchange, "error.message"), "64 MiB"));
    if (!strstr(fake_at(exchange, "error.message"), says))
        fail_msg("\"%s\" does not say \"%s\"", fake_at(exchange, "error.message"), says);
    fake_free(exchange);
}

/* Prompts that `echo` repeats too often are refused before a backend is asked. */
static void test_long_echo(void **state)
{
    struct fake_server server;
    struct buffer body = {0};
    fake_open(&server, 0, NULL);
    buffer_append_text(&body, "{\"echo\":true,\"n\":128,\"prompt\":\"");
    memset(buffer_extend(&body, 600000), 'p', 600000);
    buffer_append_text(&body, "\"}");
    check_too_long(fake_ask(&server, "POST", "/v1/completions", NULL, (char *)body.data), "echo", "`n`");
    server.fake.spelled = 1 << 20;
    check_too_long(fake_ask(&server, "POST", "/v1/completions", NULL, "{\"echo\":true,\"n\":33,\"prompt\":[65,66]}"), "echo",
                   "fewer prompts");
    assert_int_equal(server.fake.count, 0);
    server.fake.play = fake_play_at_once;
    struct http_exchange *exchange = fake_ask(&server, "POST", "/v1/completions", NULL,
                                              "{\"echo\":true,\"n\":31,\"prompt\":[65,66]}");
    assert_int_equal(exchange->status, 200);
    assert_true(exchange->reply.length > 62u << 20);
    fake_free(exchange);
    buffer_free(&body);
    fake_close(&server);
}

static void test_long_texts(void **state)
{
    struct fake_server server;
    struct buffer body = {0};
    fake_open(&server, 0, NULL);
    buffer_append_text(&body, "{\"tokens\":[1");
    for (int i = 0; i < 999; i++)
        buffer_append_text(&body, ",1");
    buffer_append_text(&body, "]}");
    server.fake.spelled = 40000; /* more than half of the most: the text stands there twice */
    ask_and_expect(&server, "POST", "/detokenize", NULL, (char *)body.data, 400, "error.type", "invalid_request_error");
    server.fake.spelled = 10000; /* 10 MB, each byte six in JSON */
    check_too_long(fake_ask(&server, "POST", "/detokenize", NULL, (char *)body.data), "null", "fewer tokens");
    buffer_clear(&body);
    buffer_append_text(&body, "{\"return_token_strs\":true,\"prompt\":\"");
    memset(buffer_extend(&body, 1000), 'p', 1000);
    buffer_append_text(&body, "\"}");
    server.fake.spelled = 70000;
    check_too_long(fake_ask(&server, "POST", "/tokenize", NULL, (char *)body.data), "null", "return_token_strs");
    buffer_free(&body);
    fake_close(&server);
}

/* Whole answers are bounded while they are gathered, and once more where JSON makes them longer. */
static void test_long_answers(void **state)
{
    static const char *const bodies[][2] = {{"/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}"},
                                            {"/v1/completions", "{\"prompt\":\"a\"}"},
                                            {"/v1/responses", "{\"input\":\"a\"}"}};
    enum { PIECE = 1 << 20 };
    struct fake_server server;
    char *text = malloc(PIECE + 1);
    fake_open(&server, 1, NULL);
    for (size_t i = 0; i < 3; i++)
        for (int is_escaped = 0; is_escaped < 2; is_escaped++) {
            struct http_exchange *exchange = fake_ask(&server, "POST", bodies[i][0], user, bodies[i][1]);
            struct fake_answer *answer = fake_last(&server);
            memset(text, is_escaped ? 1 : 't', PIECE);
            text[PIECE] = 0;
            int pieces = 0;
            for (; pieces < (is_escaped ? 11 : 65) && !exchange->is_over; pieces++)
                fake_text(answer, 0, text);
            if (is_escaped)
                fake_end(answer, 1, 1);
            assert_in_range(pieces, is_escaped ? 11 : 64, is_escaped ? 11 : 65);
            check_too_long(exchange, "null", "max_tokens");
            assert_string_equal(server.record_code, "reply_too_long");
            fake_loop(&server);
            assert_int_equal(server.api->held, 0);
        }
    free(text);
    static float values[65536];
    struct buffer body = {0};
    for (size_t i = 0; i < 65536; i++)
        values[i] = 12.3456789f;
    buffer_append_text(&body, "{\"input\":[\"a\"");
    for (int i = 1; i < 200; i++)
        buffer_append_text(&body, ",\"a\"");
    buffer_append_text(&body, "]}");
    server.fake.count = 0;
    struct http_exchange *exchange = fake_ask(&server, "POST", "/v1/embeddings", user, (char *)body.data);
    size_t i = 0;
    for (; i < 200 && !exchange->is_over; i++) {
        fake_loop(&server);
        struct fake_answer *answer = server.fake.answers + i;
        answer->sink.embedding(answer->sink.context, values, 65536);
        if (!exchange->is_over)
            fake_end(answer, 1, 0);
    }
    assert_true(i > 80 && i < 200);
    check_too_long(exchange, "null", "inputs");
    buffer_free(&body);
    fake_close(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads),      cmocka_unit_test(test_hosts),     cmocka_unit_test(test_bodies_are_forgotten),
        cmocka_unit_test(test_overload),   cmocka_unit_test(test_long_echo), cmocka_unit_test(test_long_texts),
        cmocka_unit_test(test_long_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
