/* The API's routes but for answers of models: ids, CORS, keys, models, tokens. */
#include "test.h"

#include "api_fakes.h"

static const char chat[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}";
static const char *const user[] = {"authorization: Bearer user", NULL};
static const char *const admin[] = {"authorization: Bearer admin", NULL};

static void test_routes(void **state)
{
    struct fake_server server;
    fake_open(&server, 0, &(struct api_options){.version = "1.2", .has_page = 1});
    ask_and_expect(&server, "GET", "/health", NULL, NULL, 200, "status", "ok");
    ask_and_expect(&server, "HEAD", "/health", NULL, NULL, 200, NULL, NULL);
    ask_and_expect(&server, "GET", "/ready", NULL, NULL, 200, "status", "ready");
    ask_and_expect(&server, "GET", "/version", NULL, NULL, 200, "version", "1.2");
    ask_and_expect(&server, "GET", "/metrics", NULL, NULL, 404, "error.code", "not_found");
    ask_and_expect(&server, "GET", "/nowhere", NULL, NULL, 404, "error.code", "not_found");
    ask_and_expect(&server, "GET", "/v1/models/", NULL, NULL, 404, "error.code", "not_found");
    ask_and_expect(&server, "OPTIONS", "/v1/models", NULL, NULL, 405, "error.code", "method_not_allowed");
    ask_and_expect(&server, "GET", "/v1/admin/models", NULL, NULL, 403, "error.code", "not_administrable");
    struct http_exchange *exchange = fake_ask(&server, "PUT", "/v1/admin/models", NULL, "{}");
    check_error(exchange, 405, "method_not_allowed", "null");
    assert_string_equal(fake_header(exchange, "allow"), "GET, POST");
    fake_free(exchange);
    exchange = fake_ask(&server, "GET", "/page/chat.js", NULL, NULL);
    assert_int_equal(exchange->status, 200);
    assert_string_equal(exchange->content_type, "text/javascript");
    assert_string_equal(fake_header(exchange, "content-security-policy"), "default-src 'none'");
    assert_string_equal(fake_header(exchange, "x-content-type-options"), "nosniff");
    assert_null(fake_header(exchange, "access-control-allow-origin"));
    fake_free(exchange);
    ask_and_expect(&server, "POST", "/", NULL, NULL, 405, "error.code", "method_not_allowed");
    fake_close(&server);
    fake_open(&server, 0, NULL);
    ask_and_expect(&server, "GET", "/", NULL, NULL, 404, "error.code", "not_found");
    fake_close(&server);
}

static void test_request_ids(void **state)
{
    static const struct {
        const char *sent;
        int is_kept;
    } cases[] = {{"x-request-id: abc-1", 1}, {"x-request-id: a b", 0}, {"x-request-id: \xC3\xA9", 0}, {NULL, 0},
                 {"x-request-id: ", 0}};
    struct fake_server server;
    char last[200] = "";
    fake_open(&server, 0, NULL);
    for (size_t i = 0; i < 5; i++) {
        struct http_exchange *exchange = fake_ask(&server, "GET", "/health", (const char *[]){cases[i].sent, NULL}, NULL);
        const char *id = fake_header(exchange, "x-request-id");
        if (cases[i].is_kept)
            assert_string_equal(id, "abc-1");
        else
            assert_true(strncmp(id, "req-", 4) == 0 && strlen(id) == 36 && strcmp(id, last) != 0);
        snprintf(last, sizeof last, "%s", id);
        fake_free(exchange);
    }
    char longest[200];
    snprintf(longest, sizeof longest, "x-request-id: %.129s", "0123456789012345678901234567890123456789012345678901234567890"
             "123456789012345678901234567890123456789012345678901234567890123456789");
    struct http_exchange *exchange = fake_ask(&server, "GET", "/health", (const char *[]){longest, NULL}, NULL);
    assert_int_equal(strlen(fake_header(exchange, "x-request-id")), 36);
    fake_free(exchange);
    fake_close(&server);
}

static void test_cors(void **state)
{
    static const char *const preflight[] = {"origin: https://a.example", "access-control-request-headers: X-Stainless-Os, "
                                            "authorization", NULL};
    static const char *const foreign[] = {"origin: https://evil.example", "host: localhost:8080", NULL};
    static const char *const own[] = {"origin: https://localhost:8080", "host: localhost:8080", NULL};
    static const char *const null_origin[] = {"origin: null", "host: localhost:8080", NULL};
    struct fake_server server;
    fake_open(&server, 0, &(struct api_options){.version = "1", .cors_origin = "https://a.example"});
    struct http_exchange *exchange = fake_ask(&server, "OPTIONS", "/v1/chat/completions", preflight, NULL);
    assert_int_equal(exchange->status, 204);
    assert_string_equal(fake_header(exchange, "access-control-allow-origin"), "https://a.example");
    assert_string_equal(fake_header(exchange, "access-control-allow-headers"), "X-Stainless-Os, authorization");
    assert_string_equal(fake_header(exchange, "vary"), "Origin");
    assert_non_null(strstr(fake_header(exchange, "access-control-allow-methods"), "POST"));
    fake_free(exchange);
    ask_and_expect(&server, "POST", "/tokenize", preflight, "{\"prompt\":\"a\"}", 200, "count", "2");
    ask_and_expect(&server, "POST", "/tokenize", foreign, "{\"prompt\":\"a\"}", 403, "error.code", "foreign_origin");
    fake_close(&server);
    fake_open(&server, 0, NULL);
    ask_and_expect(&server, "POST", "/tokenize", foreign, "{\"prompt\":\"a\"}", 403, "error.code", "foreign_origin");
    ask_and_expect(&server, "POST", "/tokenize", null_origin, "{\"prompt\":\"a\"}", 403, "error.code", "foreign_origin");
    ask_and_expect(&server, "POST", "/tokenize", own, "{\"prompt\":\"a\"}", 200, "count", "2");
    ask_and_expect(&server, "GET", "/v1/models", foreign, NULL, 200, "object", "list");
    fake_close(&server);
    fake_open(&server, 0, &(struct api_options){.cors_origin = "*"});
    ask_and_expect(&server, "POST", "/tokenize", foreign, "{\"prompt\":\"a\"}", 200, "count", "2");
    fake_close(&server);
}

/* What the HTTP layer does not take has what every answer has. */
static void test_refusals(void **state)
{
    static const struct {
        int status;
        const char *code;
    } cases[] = {{400, "malformed_http"}, {408, "request_timeout"}, {413, "body_too_long"}, {414, "header_too_long"},
                 {417, "unsupported_http"}, {431, "header_too_long"}, {501, "unsupported_http"}, {503, "overloaded"},
                 {505, "unsupported_http"}};
    struct fake_server server;
    fake_open(&server, 1, &(struct api_options){.cors_origin = "https://a.example"});
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct http_exchange *exchange = calloc(1, sizeof *exchange);
        assert_non_null(exchange);
        exchange->given[0] = (struct fake_header){"x-request-id", "r1"};
        exchange->given_count = i % 2;
        server.handler.refuse(server.handler.context, exchange, cases[i].status, "The request is not taken.");
        assert_int_equal(exchange->status, cases[i].status);
        check_error(exchange, cases[i].status, cases[i].code, "null");
        check_at(exchange, "error.message", "The request is not taken.");
        assert_string_equal(fake_header(exchange, "access-control-allow-origin"), "https://a.example");
        assert_int_equal(strcmp(fake_header(exchange, "x-request-id"), "r1") == 0, i % 2);
        assert_int_equal(server.records, i + 1);
        assert_int_equal(server.record.status, cases[i].status);
        assert_string_equal(server.record_code, cases[i].code);
        assert_string_equal(server.record_route, "unknown");
        assert_string_equal(server.record_id, fake_header(exchange, "x-request-id"));
        fake_free(exchange);
    }
    fake_close(&server);
}

static void test_keys(void **state)
{
    static const struct {
        const char *method, *path, *body;
        int none, with_user, with_admin; /* status */
    } cases[] = {
        {"GET", "/health", NULL, 200, 200, 200},
        {"GET", "/ready", NULL, 200, 200, 200},
        {"GET", "/version", NULL, 200, 200, 200},
        {"GET", "/", NULL, 200, 200, 200},
        {"GET", "/metrics", NULL, 401, 200, 200},
        {"GET", "/v1/models", NULL, 401, 200, 200},
        {"GET", "/v1/models/small", NULL, 401, 200, 200},
        {"POST", "/tokenize", "{\"prompt\":\"a\"}", 401, 200, 200},
        {"POST", "/detokenize", "{\"tokens\":[65]}", 401, 200, 200},
        {"POST", "/v1/chat/completions", "{}", 401, 400, 400},
        {"POST", "/chat/completions", "{}", 401, 400, 400},
        {"POST", "/v1/completions", "{}", 401, 400, 400},
        {"POST", "/v1/embeddings", "{}", 401, 400, 400},
        {"POST", "/v1/responses", "{}", 401, 400, 400},
        {"GET", "/v1/admin/models", NULL, 401, 403, 200},
        {"POST", "/v1/admin/models", "{\"name\":\"later\",\"path\":\"p\"}", 401, 403, 200},
        {"DELETE", "/v1/admin/models/small", NULL, 401, 403, 200},
    };
    struct fake_server server;
    fake_open(&server, 1, &(struct api_options){.has_page = 1});
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ask_and_expect(&server, cases[i].method, cases[i].path, NULL, cases[i].body, cases[i].none, NULL, NULL);
        ask_and_expect(&server, cases[i].method, cases[i].path, user, cases[i].body, cases[i].with_user, NULL, NULL);
        ask_and_expect(&server, cases[i].method, cases[i].path, admin, cases[i].body, cases[i].with_admin, NULL, NULL);
        assert_int_equal(server.records, 3 * i + 3);
        assert_int_equal(server.record.status, cases[i].with_admin);
    }
    struct http_exchange *exchange = fake_ask(&server, "GET", "/v1/models", NULL, NULL);
    check_error(exchange, 401, "invalid_api_key", "null");
    assert_string_equal(fake_header(exchange, "www-authenticate"), "Bearer");
    fake_free(exchange);
    ask_and_expect(&server, "GET", "/v1/models", (const char *[]){"x-api-key: user", NULL}, NULL, 200, NULL, NULL);
    ask_and_expect(&server, "GET", "/v1/models", (const char *[]){"x-api-key: user", "authorization: Bearer x", NULL}, NULL,
                   401, NULL, NULL);
    fake_close(&server);
}

static void test_models(void **state)
{
    struct fake_server server;
    fake_open(&server, 1, NULL);
    struct http_exchange *exchange = fake_ask(&server, "GET", "/v1/models", user, NULL);
    check_at(exchange, "data[0].id", "small");
    check_at(exchange, "data[0].object", "model");
    check_at(exchange, "data[0].created", "1700000000");
    check_at(exchange, "data[0].max_model_len", "2048");
    check_at(exchange, "data[1].id", "tiny");
    check_at(exchange, "data[1].parent", "small");
    check_at(exchange, "data[2]", "-");
    fake_free(exchange);
    ask_and_expect(&server, "GET", "/v1/models/tiny", user, NULL, 200, "id", "tiny");
    ask_and_expect(&server, "GET", "/v1/models/none", user, NULL, 404, "error.code", "model_not_found");
    ask_and_expect(&server, "GET", "/v1/admin/models", admin, NULL, 200, "data[0].state", "ready");
    ask_and_expect(&server, "POST", "/v1/admin/models", admin, "{}", 400, "error.param", "name");
    ask_and_expect(&server, "POST", "/v1/admin/models", admin, "{\"name\":\"n\"}", 400, "error.param", "path");
    ask_and_expect(&server, "POST", "/v1/admin/models", admin, "{\"name\":\"later\",\"path\":\"p\"}", 200, "state",
                   "starting");
    ask_and_expect(&server, "GET", "/v1/admin/models", admin, NULL, 200, "data[1].state", "starting");
    ask_and_expect(&server, "DELETE", "/v1/admin/models/x", admin, NULL, 404, "error.code", "model_not_found");
    ask_and_expect(&server, "DELETE", "/v1/admin/models/small", admin, NULL, 200, "state", "unloaded");
    assert_string_equal(server.record_route, "/v1/admin/models/{id}");
    fake_close(&server);
}

/* A server is ready with one model that is, unless one that it was started with has never been. */
static void test_ready(void **state)
{
    static const struct {
        int first, was_ready, is_awaited, later, status;
    } cases[] = {
        {BACKEND_READY, 1, 1, -1, 200},               {BACKEND_STARTING, 0, 1, -1, 503}, {BACKEND_STARTING, 1, 1, -1, 503},
        {BACKEND_FAILED, 0, 1, -1, 503},              {BACKEND_READY, 1, 1, BACKEND_STARTING, 200},
        {BACKEND_READY, 1, 1, BACKEND_FAILED, 200},   {BACKEND_STARTING, 1, 1, BACKEND_READY, 200},
        {BACKEND_STARTING, 0, 1, BACKEND_READY, 503}, {BACKEND_STARTING, 0, 0, BACKEND_READY, 200},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fake_server server;
        fake_open(&server, 1, NULL);
        server.fake.state = cases[i].first;
        server.fake.was_ready = cases[i].was_ready;
        server.model->is_awaited = cases[i].is_awaited;
        if (cases[i].later >= 0) {
            ask_and_expect(&server, "POST", "/v1/admin/models", admin, "{\"name\":\"later\",\"path\":\"p\"}", 200, NULL, NULL);
            server.later.state = cases[i].later;
        }
        ask_and_expect(&server, "GET", "/ready", NULL, NULL, cases[i].status, cases[i].status == 200 ? "status" : "error.code",
                       cases[i].status == 200 ? "ready" : "not_ready");
        fake_close(&server);
    }
}

static void test_tokens(void **state)
{
    struct fake_server server;
    fake_open(&server, 0, NULL);
    struct http_exchange *exchange =
        fake_ask(&server, "POST", "/tokenize", NULL, "{\"prompt\":\"AB\",\"return_token_strs\":true,\"model\":\"small\"}");
    check_at(exchange, "count", "3");
    check_at(exchange, "tokens", "[1,65,66]");
    check_at(exchange, "token_strs", "[\"\\u0001\",\"A\",\"B\"]");
    check_at(exchange, "max_model_len", "2048");
    fake_free(exchange);
    ask_and_expect(&server, "POST", "/tokenize", NULL, "{\"content\":\"AB\"}", 200, "tokens", "[65,66]");
    ask_and_expect(&server, "POST", "/tokenize", NULL, "{\"content\":\"A\xC3\xA9\",\"with_pieces\":true}", 200, "tokens",
                   "[{\"id\":65,\"piece\":\"A\"},{\"id\":195,\"piece\":[195]},{\"id\":169,\"piece\":[169]}]");
    ask_and_expect(&server, "POST", "/tokenize", NULL, chat, 200, "count", "4");
    ask_and_expect(&server, "POST", "/detokenize", NULL, "{\"tokens\":[72,105]}", 200, "prompt", "Hi");
    exchange = fake_ask(&server, "POST", "/detokenize", NULL, "{\"tokens\":[65,200]}");
    check_error(exchange, 400, "invalid_value", "tokens[1]");
    fake_free(exchange);
    fake_close(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_routes), cmocka_unit_test(test_request_ids), cmocka_unit_test(test_cors),
        cmocka_unit_test(test_keys),   cmocka_unit_test(test_models),      cmocka_unit_test(test_ready),
        cmocka_unit_test(test_tokens), cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
