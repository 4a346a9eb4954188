/* Answers of the API: of all kinds, whole and streamed, their errors, clients that hang up, and a server that stops. */
#include "test.h"

#include <event2/event.h>
#include <math.h>

#include "api_fakes.h"
#include "base/memory.h"

static const char chat[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}";
static const char chat_stream[] = "{\"model\":\"tiny\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],"
                                  "\"stream\":true,\"stream_options\":{\"include_usage\":true}}";
static const char *const user[] = {"authorization: Bearer user", NULL};

static void test_chat(void **state)
{
    struct fake_server server;
    fake_open(&server, 1, NULL);
    struct http_exchange *exchange = fake_ask(&server, "POST", "/v1/chat/completions", user, chat);
    struct fake_answer *answer = fake_last(&server);
    assert_int_equal(exchange->status, 0);
    assert_int_equal(api_answers(server.api), 1);
    assert_int_equal(server.model->busy, 1);
    assert_string_equal(answer->request.tenant, "acme");
    assert_string_equal(answer->request.model, "small");
    fake_text(answer, 0, "Hel\"lo");
    fake_text(answer, 0, "\n\xE2\x82\xAC");
    fake_finish(answer, 0, "stop", "END");
    fake_end(answer, 5, 2);
    assert_int_equal(exchange->status, 200);
    assert_string_equal(exchange->content_type, "application/json");
    assert_true(strncmp(fake_at(exchange, "id"), "chatcmpl-", 9) == 0);
    check_at(exchange, "object", "chat.completion");
    check_at(exchange, "model", "small");
    check_at(exchange, "system_fingerprint", "bulla-0123456789ab");
    check_at(exchange, "choices[0].index", "0");
    check_at(exchange, "choices[0].message.role", "assistant");
    check_at(exchange, "choices[0].message.content", "Hel\"lo\n\xE2\x82\xAC");
    check_at(exchange, "choices[0].message.refusal", "null");
    check_at(exchange, "choices[0].message.tool_calls", "-");
    check_at(exchange, "choices[0].message.reasoning_content", "-");
    check_at(exchange, "choices[0].message.reasoning", "-");
    check_at(exchange, "choices[0].logprobs", "null");
    check_at(exchange, "choices[0].finish_reason", "stop");
    check_at(exchange, "choices[0].stop_reason", "END");
    check_at(exchange, "usage", "{\"prompt_tokens\":5,\"completion_tokens\":2,\"total_tokens\":7,"
                                "\"prompt_tokens_details\":{\"cached_tokens\":2},"
                                "\"completion_tokens_details\":{\"reasoning_tokens\":1}}");
    check_at(exchange, "bulla", "-");
    char seed[30];
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)answer->request.sampling.seed);
    assert_string_equal(fake_header(exchange, "x-bulla-seed"), seed);
    assert_int_equal(server.records, 1);
    assert_int_equal(server.record.status, 200);
    assert_int_equal(server.record.usage.output_tokens, 2);
    assert_int_equal(server.record.most_output_tokens, 2);
    assert_string_equal(server.record_finish, "stop");
    assert_string_equal(server.record_id, fake_header(exchange, "x-request-id"));
    assert_int_equal(server.record.reply_bytes, exchange->reply.length);
    assert_int_equal(server.first_tokens, 1);
    assert_int_equal(server.next_tokens, 1);
    fake_free(exchange);
    assert_int_equal(api_answers(server.api), 0);
    fake_loop(&server);
    assert_int_equal(server.model->busy, 0);
    assert_false(answer->is_cancelled);
    fake_close(&server);
}

static void tell_logprob(struct fake_answer *answer, uint32_t choice, const char *text, const char *token, size_t length)
{
    struct answer_logprob taken = {token, length, -0.5}, top[2] = {{token, length, -0.5}, {"\xFF", 1, -INFINITY}};
    struct answer_delta delta = {.choice = choice, .tokens = 1, .text = text, .text_length = strlen(text), .tool = -1,
                                 .logprob = &taken, .top = top, .top_count = 2};
    fake_tell(answer, &delta);
}

/* n, thinking, calls of tools and logprobs, gathered. */
static void test_chat_parts(void **state)
{
    struct fake_server server;
    fake_open(&server, 1, NULL);
    struct http_exchange *exchange =
        fake_ask(&server, "POST", "/v1/chat/completions", user,
                 "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"n\":2,\"logprobs\":true,\"top_logprobs\":2,"
                 "\"seed\":7,\"model\":\"tiny\"}");
    struct fake_answer *answer = fake_last(&server);
    assert_int_equal(answer->request.choices, 2);
    assert_true(answer->request.has_seed && answer->request.sampling.seed == 7);
    fake_tell(answer, &(struct answer_delta){.choice = 1, .tokens = 1, .reasoning = "hm", .reasoning_length = 2, .tool = -1});
    tell_logprob(answer, 0, "A", "A", 1);
    fake_tell(answer, &(struct answer_delta){.choice = 1, .tokens = 1, .tool = 0, .tool_id = "call_a", .tool_name = "f",
                                             .arguments = "{\"x\"", .arguments_length = 4});
    fake_tell(answer, &(struct answer_delta){.choice = 1, .tokens = 1, .tool = 0, .arguments = ":1}",
                                             .arguments_length = 3});
    fake_tell(answer, &(struct answer_delta){.choice = 1, .tokens = 1, .tool = 1, .tool_id = "call_b", .tool_name = "g"});
    tell_logprob(answer, 0, "", "\xE2\x82", 2);
    fake_finish(answer, 1, "tool_calls", NULL);
    fake_finish(answer, 0, "range", NULL);
    fake_end(answer, 3, 6);
    check_at(exchange, "model", "tiny");
    check_at(exchange, "choices[0].message.content", "A");
    check_at(exchange, "choices[0].finish_reason", "length");
    check_at(exchange, "choices[0].stop_reason", "range");
    check_at(exchange, "choices[0].logprobs.content[0]",
             "{\"token\":\"A\",\"logprob\":-0.5,\"bytes\":[65],\"top_logprobs\":[{\"token\":\"A\",\"logprob\":-0.5,"
             "\"bytes\":[65]},{\"token\":\"\xEF\xBF\xBD\",\"logprob\":-9999,\"bytes\":[255]}]}");
    check_at(exchange, "choices[0].logprobs.content[1].bytes", "[226,130]");
    check_at(exchange, "choices[1].index", "1");
    check_at(exchange, "choices[1].message.content", "null");
    check_at(exchange, "choices[1].message.reasoning_content", "hm");
    check_at(exchange, "choices[1].message.reasoning", "hm");
    check_at(exchange, "choices[1].message.tool_calls[0]", "{\"id\":\"call_a\",\"type\":\"function\",\"function\":"
                                                           "{\"name\":\"f\",\"arguments\":\"{\\\"x\\\":1}\"}}");
    check_at(exchange, "choices[1].message.tool_calls[1].function.arguments", "");
    check_at(exchange, "choices[1].finish_reason", "tool_calls");
    assert_string_equal(fake_header(exchange, "x-bulla-seed"), "7");
    assert_int_equal(server.record.most_output_tokens, 4);
    fake_free(exchange);
    fake_close(&server);
}

static void test_chat_stream(void **state)
{
    struct fake_server server;
    fake_open(&server, 1, NULL);
    struct http_exchange *exchange = fake_ask(&server, "POST", "/v1/chat/completions", user, chat_stream);
    struct fake_answer *answer = fake_last(&server);
    assert_false(exchange->has_begun);
    fake_tell(answer, &(struct answer_delta){.tokens = 1, .reasoning = "hm", .reasoning_length = 2, .tool = -1});
    assert_true(exchange->has_begun);
    assert_string_equal(exchange->content_type, "text/event-stream; charset=utf-8");
    assert_string_equal(fake_header(exchange, "cache-control"), "no-cache");
    fake_text(answer, 0, "a\nb");
    fake_text(answer, 0, "");
    fake_tell(answer, &(struct answer_delta){.tokens = 1, .tool = 0, .tool_id = "call_a", .tool_name = "f",
                                             .arguments = "{", .arguments_length = 1});
    fake_tell(answer, &(struct answer_delta){.tokens = 1, .tool = 0, .arguments = "}", .arguments_length = 1});
    tell_logprob(answer, 0, "", "x", 1);
    fake_finish(answer, 0, "tool_calls", NULL);
    fake_end(answer, 5, 6);
    assert_true(exchange->is_over);
    assert_int_equal(fake_events(exchange), 8);
    for (size_t i = 0; i < 8; i++) {
        check_event(exchange, i, "object", "chat.completion.chunk");
        check_event(exchange, i, "model", "tiny");
        assert_string_equal(fake_event_at(exchange, i, "id"), fake_event_at(exchange, 0, "id"));
        check_event(exchange, i, "choices[0].finish_reason", i < 6 ? "null" : i == 6 ? "tool_calls" : "-");
        if (i < 7)
            check_event(exchange, i, "usage", "null");
    }
    check_event(exchange, 0, "choices[0].delta", "{\"role\":\"assistant\",\"content\":\"\"}");
    check_event(exchange, 1, "choices[0].delta", "{\"reasoning_content\":\"hm\",\"reasoning\":\"hm\"}");
    check_event(exchange, 2, "choices[0].delta", "{\"content\":\"a\\nb\"}");
    check_event(exchange, 3, "choices[0].delta.tool_calls[0]", "{\"index\":0,\"id\":\"call_a\",\"type\":\"function\","
                                                               "\"function\":{\"name\":\"f\",\"arguments\":\"{\"}}");
    check_event(exchange, 4, "choices[0].delta.tool_calls[0]", "{\"index\":0,\"function\":{\"arguments\":\"}\"}}");
    check_event(exchange, 5, "choices[0].logprobs.content[0].token", "x");
    check_event(exchange, 6, "choices[0].delta", "{}");
    check_event(exchange, 7, "choices", "[]");
    check_event(exchange, 7, "usage.total_tokens", "11");
    const char *end = "\n\ndata: [DONE]\n\n";
    assert_string_equal((char *)exchange->reply.data + exchange->reply.length - strlen(end), end);
    assert_int_equal(server.record.reply_bytes, exchange->reply.length);
    assert_int_equal(server.record.is_stream, 1);
    fake_free(exchange);
    fake_close(&server);
}

/* Told before start returns. */
static void play_failure(struct fake_backend *fake, struct fake_answer *answer)
{
    if (fake->count == 2)
        fake_fail(answer, 429, "rate_limit_error", "too_many", "come back later");
}

static void test_completions(void **state)
{
    struct fake_server server;
    fake_open(&server, 0, NULL);
    server.fake.play = fake_play_at_once;
    struct http_exchange *exchange = fake_ask(&server, "POST", "/v1/completions", NULL,
                                              "{\"prompt\":[\"ab\",[67,68]],\"n\":2,\"echo\":true}");
    assert_int_equal(server.fake.count, 2);
    assert_int_equal(server.fake.answers[0].request.max_tokens, 16);
    assert_string_equal(server.fake.answers[0].request.prompt, "ab");
    assert_int_equal(server.fake.answers[1].request.prompt_ids[1], 68);
    check_at(exchange, "object", "text_completion");
    check_at(exchange, "choices[0].text", "abnow");
    check_at(exchange, "choices[3].text", "CDnow");
    check_at(exchange, "choices[3].index", "3");
    check_at(exchange, "choices[3].finish_reason", "length");
    check_at(exchange, "usage.prompt_tokens", "2");
    check_at(exchange, "usage.completion_tokens", "4");
    fake_free(exchange);
    exchange = fake_ask(&server, "POST", "/v1/completions", NULL, "{\"prompt\":\"ab\",\"echo\":true,\"stream\":true}");
    assert_int_equal(fake_events(exchange), 3);
    check_event(exchange, 0, "choices[0].text", "ab");
    check_event(exchange, 1, "choices[0].text", "now");
    check_event(exchange, 2, "choices[0].finish_reason", "length");
    check_event(exchange, 2, "usage", "-");
    fake_free(exchange);
    ask_and_expect(&server, "POST", "/v1/completions", NULL, "{\"prompt\":[900],\"echo\":true}", 400, "error.param",
                   "echo");
    server.fake.play = NULL;
    exchange = fake_ask(&server, "POST", "/v1/completions", NULL, "{\"prompt\":\"x\",\"logprobs\":2}");
    struct fake_answer *answer = fake_last(&server);
    tell_logprob(answer, 0, "\xC3\xA9", "\xC3\xA9", 2);
    tell_logprob(answer, 0, "b", "b", 1);
    fake_finish(answer, 0, "stop", NULL);
    fake_end(answer, 1, 2);
    check_at(exchange, "choices[0].logprobs",
             "{\"tokens\":[\"\xC3\xA9\",\"b\"],\"token_logprobs\":[-0.5,-0.5],\"top_logprobs\":[{\"\xC3\xA9\":-0.5,"
             "\"bytes:\\\\xff\":-9999},{\"b\":-0.5,\"bytes:\\\\xff\":-9999}],\"text_offset\":[0,1]}");
    fake_free(exchange);
    fake_close(&server);
}

/* The token that was taken is always among the likeliest ones of a completion. */
static void test_completion_logprobs(void **state)
{
    static const struct answer_logprob a = {"a", 1, -0.5}, b = {"b", 1, -1}, again = {"b", 1, -2};
    struct fake_server server;
    fake_open(&server, 0, NULL);
    struct http_exchange *exchange = fake_ask(&server, "POST", "/v1/completions", NULL, "{\"prompt\":\"x\",\"logprobs\":0}");
    struct fake_answer *answer = fake_last(&server);
    struct answer_logprob top[] = {a, b, again};
    struct answer_delta delta = {.tokens = 1, .text = "b", .text_length = 1, .tool = -1, .logprob = &b, .top = top};
    for (size_t count = 0; count <= 3; count++) {
        delta.top_count = count;
        fake_tell(answer, &delta);
    }
    fake_finish(answer, 0, "stop", NULL);
    fake_end(answer, 1, 4);
    check_at(exchange, "choices[0].logprobs.top_logprobs",
             "[{\"b\":-1},{\"a\":-0.5,\"b\":-1},{\"a\":-0.5,\"b\":-1},{\"a\":-0.5,\"b\":-1}]");
    fake_free(exchange);
    fake_close(&server);
}

/* More prompts than are asked at once. */
static void test_many_prompts(void **state)
{
    struct fake_server server;
    struct buffer body = {0};
    fake_open(&server, 0, NULL);
    buffer_append_text(&body, "{\"input\":[");
    for (int i = 0; i < 100; i++)
        buffer_append_format(&body, i ? ",\"%d\"" : "\"%d\"", i);
    buffer_append_text(&body, "]}");
    struct http_exchange *exchange = fake_ask(&server, "POST", "/v1/embeddings", NULL, (char *)body.data);
    assert_int_equal(server.fake.count, 64);
    for (size_t i = 0; i < 100; i++) {
        struct fake_answer *answer = server.fake.answers + i;
        float value = (float)i;
        if (i == server.fake.count)
            fake_loop(&server);
        assert_true(i < server.fake.count);
        answer->sink.embedding(answer->sink.context, &value, 1);
        fake_end(answer, 1, 0);
    }
    assert_int_equal(exchange->status, 200);
    check_at(exchange, "data[99].embedding", "[99]");
    check_at(exchange, "usage", "{\"prompt_tokens\":100,\"total_tokens\":100}");
    fake_free(exchange);
    buffer_free(&body);
    fake_close(&server);
}

static void test_embeddings(void **state)
{
    static const float values[] = {1.0f, -0.1f, 3.5e-9f};
    struct fake_server server;
    fake_open(&server, 0, NULL);
    static const struct {
        const char *body, *way, *expected;
        int status;
    } cases[] = {
        {"{\"input\":\"a\"}", "data[0].embedding", "[1,-0.100000001,3.50000007e-09]", 200},
        {"{\"input\":[1,2],\"encoding_format\":\"base64\"}", "data[0].embedding", "AACAP83MzL2nhHAx", 200},
        {"{\"input\":\"a\",\"dimensions\":3}", "object", "list", 200},
        {"{\"input\":\"a\",\"dimensions\":2}", "error.param", "dimensions", 400},
    };
    for (size_t i = 0; i < 4; i++) {
        struct http_exchange *exchange = fake_ask(&server, "POST", "/v1/embeddings", NULL, cases[i].body);
        struct fake_answer *answer = fake_last(&server);
        assert_int_equal(answer->request.kind, ANSWER_EMBEDDING);
        answer->sink.embedding(answer->sink.context, values, 3);
        if (cases[i].status == 200)
            fake_end(answer, 1, 0);
        assert_int_equal(exchange->status, cases[i].status);
        check_at(exchange, cases[i].way, cases[i].expected);
        fake_free(exchange);
        fake_loop(&server);
        assert_int_equal(answer->is_cancelled, cases[i].status != 200);
    }
    fake_close(&server);
}

static void test_errors(void **state)
{
    static const char *const broken[] = {"{\"messages\":[{\"role\":\"user\",\"content\":1}]}", "{\"messages\":"};
    struct fake_server server;
    fake_open(&server, 1, NULL);
    ask_and_expect(&server, "POST", "/v1/chat/completions", user, broken[0], 400, "error.param", "messages[0].content");
    ask_and_expect(&server, "POST", "/v1/chat/completions", user, broken[1], 400, "error.code", "invalid_json");
    ask_and_expect(&server, "POST", "/v1/completions", user, "{\"prompt\":\"x\",\"model\":\"other\"}", 404, "error.code",
                   "model_not_found");
    ask_and_expect(&server, "POST", "/v1/completions", user, "{\"prompt\":\"x\",\"model\":\"small:mine\"}", 400,
                   "error.code", "unsupported_parameter");
    server.fake.refusal = (struct answer_error){.status = 503, .type = "overloaded_error", .code = "busy",
                                                .message = "too many wait", .retry_after = 7};
    struct http_exchange *exchange = fake_ask(&server, "POST", "/v1/chat/completions", user, chat);
    check_error(exchange, 503, "busy", "null");
    assert_string_equal(fake_header(exchange, "retry-after"), "7");
    assert_string_equal(server.record_code, "busy");
    fake_free(exchange);
    server.fake.refusal.status = 0;
    /* Before anything was told a stream's error is an answer of its own; later it is an event. */
    for (int told = 0; told < 2; told++) {
        exchange = fake_ask(&server, "POST", "/v1/chat/completions", user, chat_stream);
        struct fake_answer *answer = fake_last(&server);
        if (told)
            fake_text(answer, 0, "x");
        fake_fail(answer, 500, "server_error", "worker_died", "the model's worker died");
        assert_true(exchange->is_over);
        assert_int_equal(server.record.status, 500);
        assert_string_equal(server.record_code, "worker_died");
        if (told) {
            assert_int_equal(exchange->status, 200);
            check_event(exchange, 2, "error.message", "the model's worker died");
            assert_non_null(strstr((char *)exchange->reply.data, "}}\n\ndata: [DONE]\n\n"));
        } else {
            check_error(exchange, 500, "worker_died", "null");
        }
        fake_free(exchange);
    }
    /* Another server's words reach the client; the log has a word of this program. */
    for (int told = 0; told < 2; told++) {
        struct answer_error words = {.status = 400, .type = "their type", .code = told ? "their code" : NULL,
                                     .own_code = "upstream_refused", .message = "their message, of some length"};
        exchange = fake_ask(&server, "POST", "/v1/chat/completions", user, told ? chat_stream : chat);
        struct fake_answer *answer = fake_last(&server);
        if (told)
            fake_text(answer, 0, "x");
        answer->is_over = 1;
        (answer->sink.fail)(answer->sink.context, &words);
        assert_string_equal(server.record_code, "upstream_refused");
        if (told)
            check_event(exchange, 2, "error.code", "their code");
        else
            check_at(exchange, "error.type", "their type");
        fake_free(exchange);
    }
    /* One run of several that fails ends them all. */
    server.fake.count = 0;
    server.fake.play = play_failure;
    exchange = fake_ask(&server, "POST", "/v1/completions", user, "{\"prompt\":[\"a\",\"b\",\"c\"]}");
    check_error(exchange, 429, "too_many", "null");
    assert_int_equal(server.fake.count, 2);
    fake_free(exchange);
    fake_loop(&server);
    assert_true(server.fake.answers[0].is_cancelled);
    assert_false(server.fake.answers[1].is_cancelled);
    fake_close(&server);
}

/* What is wrong is named as the client has it: ids that the model has not, prompts that are too long. */
static void test_field_names(void **state)
{
    static const struct {
        const char *path, *body, *from_backend, *code, *param; /* from_backend: the param of its error; NULL: not asked */
    } cases[] = {
        {"/v1/completions", "{\"prompt\":[1,1000]}", NULL, "invalid_value", "prompt[1]"},
        {"/v1/completions", "{\"prompt\":[[1,1000]]}", NULL, "invalid_value", "prompt[0][1]"},
        {"/v1/embeddings", "{\"input\":[[1],[1000]]}", NULL, "invalid_value", "input[1][0]"},
        {"/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"\"}],\"logit_bias\":{\"1000\":1}}", NULL,
         "invalid_value", "logit_bias"},
        {"/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"\"}]}", "messages",
         "context_length_exceeded", "messages"},
        {"/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"\"}]}", "", "context_length_exceeded",
         "messages"},
        {"/v1/responses", "{\"input\":\"x\"}", "messages", "context_length_exceeded", "input"},
        {"/v1/responses", "{\"input\":\"x\"}", "tools", "unsupported", "tools"},
        {"/v1/completions", "{\"prompt\":\"x\"}", "prompt", "context_length_exceeded", "prompt"},
        {"/v1/completions", "{\"prompt\":[\"x\"]}", "prompt", "context_length_exceeded", "prompt[0]"},
        {"/v1/embeddings", "{\"input\":[\"x\"]}", "input", "context_length_exceeded", "input[0]"},
    };
    struct fake_server server;
    fake_open(&server, 0, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *param = cases[i].from_backend;
        server.fake.refusal = (struct answer_error){
            .status = param ? 400 : 500, .type = "invalid_request_error", .code = cases[i].code,
            .param = param && *param ? param : NULL, .message = "the prompt is too long"};
        struct http_exchange *exchange = fake_ask(&server, "POST", cases[i].path, NULL, cases[i].body);
        check_error(exchange, 400, cases[i].code, cases[i].param);
        fake_free(exchange);
    }
    server.fake.refusal.status = 0;
    struct http_exchange *exchange = fake_ask(&server, "POST", "/v1/completions", NULL, "{\"prompt\":[\"a\",[5]]}");
    fake_fail(server.fake.answers + 1, 400, "invalid_request_error", "context_length_exceeded", "it is too long");
    check_error(exchange, 400, "context_length_exceeded", "prompt[1]");
    fake_free(exchange);
    fake_loop(&server);
    fake_close(&server);
}

static void test_hang_up(void **state)
{
    struct fake_server server;
    fake_open(&server, 1, NULL);
    for (int told = 0; told < 2; told++) {
        struct http_exchange *exchange = fake_ask(&server, "POST", "/v1/chat/completions", user, chat_stream);
        struct fake_answer *answer = fake_last(&server);
        if (told)
            fake_text(answer, 0, "x");
        fake_hang_up(exchange);
        assert_int_equal(server.record.status, 499);
        assert_int_equal(api_answers(server.api), 0);
        fake_text(answer, 0, "late"); /* what a backend tells before it is cancelled is dropped */
        fake_loop(&server);
        assert_true(answer->is_cancelled);
        assert_int_equal(server.model->busy, 0);
        fake_free(exchange);
    }
    /* Cut off in the middle of a write. */
    struct http_exchange *exchange = fake_ask(&server, "POST", "/v1/chat/completions", user, chat_stream);
    struct fake_answer *answer = fake_last(&server);
    exchange->cut_after = 300;
    fake_text(answer, 0, "x");
    fake_text(answer, 0, "y");
    assert_true(exchange->is_closed);
    fake_finish(answer, 0, "stop", NULL);
    fake_end(answer, 1, 1);
    fake_loop(&server);
    assert_false(answer->is_cancelled);
    assert_int_equal(server.record.status, 499);
    fake_free(exchange);
    fake_close(&server);
}

static void test_limits(void **state)
{
    struct fake_server server;
    static const char body[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"max_tokens\":500,\"priority\":9}";
    fake_open(&server, 1, NULL);
    server.identity.priority = 3;
    server.identity.most_tokens = 100;
    server.model->most_tokens = 200;
    server.fake.play = fake_play_at_once;
    ask_and_expect(&server, "POST", "/v1/chat/completions", user, body, 200, NULL, NULL);
    assert_int_equal(fake_last(&server)->request.max_tokens, 100);
    assert_int_equal(fake_last(&server)->request.priority, 3);
    assert_int_equal(server.record.most_tokens, 100);
    assert_int_equal(server.record.prompt_limit, 2048);
    server.identity.most_tokens = 0;
    ask_and_expect(&server, "POST", "/v1/chat/completions", user, chat, 200, NULL, NULL);
    assert_int_equal(fake_last(&server)->request.max_tokens, 200);
    assert_int_equal(fake_last(&server)->request.priority, 0);
    fake_close(&server);
    fake_open(&server, 0, NULL);
    server.fake.play = fake_play_at_once;
    ask_and_expect(&server, "POST", "/v1/chat/completions", NULL, body, 200, NULL, NULL);
    assert_int_equal(fake_last(&server)->request.max_tokens, 500);
    assert_int_equal(fake_last(&server)->request.priority, 9);
    fake_close(&server);
}

/* Schemas of tools that cannot be enforced: where a call is forced, and where a tool says `strict`. */
static void test_tool_schemas(void **state)
{
    static const char tools[] = "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}},{\"type\":\"function\","
                                "\"function\":{\"name\":\"g\"%s,\"parameters\":%s}}]%s";
    static const char bad[] = "{\"type\":\"object\",\"refused\":1}", good[] = "{\"type\":\"object\"}";
    static const char strict[] = ",\"strict\":true";
    static const struct {
        const char *strict, *parameters, *choice, *code; /* NULL: it is taken */
    } cases[] = {
        {"", bad, "", NULL}, {strict, bad, "", "unsupported_schema"}, {strict, bad, ",\"tool_choice\":\"none\"", NULL},
        {"", bad, ",\"tool_choice\":\"required\"", "unsupported_schema"}, {strict, good, "", NULL}, {strict, good, "", NULL},
        {"", bad, ",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}}", NULL},
        {"", bad, ",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"g\"}}", "unsupported_schema"},
        {strict, "{\"type\":\"array\"}", "", "invalid_schema"}, {",\"strict\":false", bad, "", NULL},
    };
    struct fake_server server;
    char list[500], body[700];
    fake_open(&server, 0, NULL);
    server.fake.play = fake_play_at_once;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(list, sizeof list, tools, cases[i].strict, cases[i].parameters, cases[i].choice);
        snprintf(body, sizeof body, "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],%s}", list);
        struct http_exchange *exchange = fake_ask(&server, "POST", "/v1/chat/completions", NULL, body);
        if (cases[i].code)
            check_error(exchange, 400, cases[i].code, "tools[1].function.parameters");
        else
            check_at(exchange, "object", "chat.completion");
        fake_free(exchange);
    }
    static const char flat[] = "{\"input\":\"x\",\"tools\":[{\"type\":\"function\",\"name\":\"f\",\"strict\":true,"
                               "\"parameters\":{\"refused\":1}}]}";
    ask_and_expect(&server, "POST", "/v1/responses", NULL, flat, 400, "error.param", "tools[0].parameters");
    server.fake.kind = "upstream";
    ask_and_expect(&server, "POST", "/v1/responses", NULL, flat, 200, "tools[0].name", "f");
    fake_close(&server);
}

static void test_unverified(void **state)
{
    struct fake_server server;
    fake_open(&server, 0, NULL);
    server.fake.is_unverified = 1;
    server.fake.play = fake_play_at_once;
    struct http_exchange *exchange = fake_ask(&server, "POST", "/v1/chat/completions", NULL, chat);
    check_at(exchange, "bulla", "{\"verified\":false}");
    check_at(exchange, "system_fingerprint", "null");
    assert_string_equal(fake_header(exchange, "x-bulla-verified"), "false");
    fake_free(exchange);
    exchange = fake_ask(&server, "POST", "/v1/chat/completions", NULL, chat_stream);
    for (size_t i = 0; i < fake_events(exchange); i++)
        check_event(exchange, i, "bulla.verified", "false");
    assert_string_equal(fake_header(exchange, "x-bulla-verified"), "false");
    fake_free(exchange);
    ask_and_expect(&server, "POST", "/v1/responses", NULL, "{\"input\":\"x\"}", 200, "bulla.verified", "false");
    ask_and_expect(&server, "GET", "/v1/models", NULL, NULL, 200, "data[0].bulla.verified", "false");
    ask_and_expect(&server, "GET", "/v1/models", NULL, NULL, 200, "data[0].owned_by", "bulla");
    fake_close(&server);
}

/* x-bulla-seed names what an upstream was sent, or nothing. */
static void test_upstream_seed(void **state)
{
    static const char *const seeds[][2] = {
        {"", NULL}, {",\"seed\":-1", NULL}, {",\"seed\":7", "7"}, {",\"seed\":-3", "9223372036854775805"}};
    struct fake_server server;
    char body[100];
    fake_open(&server, 0, NULL);
    server.fake.kind = "upstream";
    server.fake.play = fake_play_at_once;
    for (size_t i = 0; i < sizeof seeds / sizeof seeds[0]; i++) {
        snprintf(body, sizeof body, "{\"prompt\":\"x\"%s}", seeds[i][0]);
        struct http_exchange *exchange = fake_ask(&server, "POST", "/v1/completions", NULL, body);
        const char *header = fake_header(exchange, "x-bulla-seed");
        assert_true(seeds[i][1] ? header && strcmp(header, seeds[i][1]) == 0 : !header);
        assert_int_equal(fake_last(&server)->request.has_seed, seeds[i][1] != NULL);
        fake_free(exchange);
    }
    ask_and_expect(&server, "GET", "/v1/models", NULL, NULL, 200, "data[0].owned_by", "upstream");
    fake_close(&server);
}

static void test_stopping(void **state)
{
    struct fake_server server;
    fake_open(&server, 1, NULL);
    struct http_exchange *whole = fake_ask(&server, "POST", "/v1/chat/completions", user, chat);
    struct http_exchange *stream = fake_ask(&server, "POST", "/v1/chat/completions", user, chat_stream);
    fake_text(fake_last(&server), 0, "x");
    api_drain(server.api);
    assert_int_equal(api_answers(server.api), 2);
    ask_and_expect(&server, "GET", "/ready", NULL, NULL, 503, "error.code", "draining");
    ask_and_expect(&server, "GET", "/health", NULL, NULL, 200, NULL, NULL);
    struct http_exchange *late = fake_ask(&server, "POST", "/v1/chat/completions", user, chat);
    check_error(late, 503, "draining", "null");
    fake_free(late);
    fake_text(fake_last(&server), 0, "y");
    api_hand_back(server.api);
    check_error(whole, 503, "server_stopping", "null");
    check_event(stream, 3, "error.code", "server_stopping");
    assert_true(stream->is_over);
    assert_int_equal(api_answers(server.api), 0);
    assert_true(server.fake.answers[0].is_cancelled && server.fake.answers[1].is_cancelled);
    fake_free(whole);
    fake_free(stream);
    fake_close(&server);
}

static void test_keep_alive(void **state)
{
    struct fake_server server;
    fake_open(&server, 0, &(struct api_options){.keep_alive_seconds = 1});
    struct http_exchange *exchange = fake_ask(&server, "POST", "/v1/chat/completions", NULL, chat_stream);
    struct http_exchange *whole = fake_ask(&server, "POST", "/v1/chat/completions", NULL, chat);
    for (int i = 0; i < 100 && !exchange->reply.length; i++)
        event_base_loop(server.base, EVLOOP_ONCE);
    assert_string_equal((char *)exchange->reply.data, ": keep-alive\n\n");
    assert_false(whole->has_begun);
    fake_text(server.fake.answers, 0, "x");
    check_event(exchange, 1, "choices[0].delta.content", "x");
    fake_hang_up(exchange);
    fake_hang_up(whole);
    /* Nothing is left that would wake the loop. */
    event_base_loop(server.base, 0);
    fake_free(exchange);
    fake_free(whole);
    fake_close(&server);
}

static size_t count_headers(const struct http_exchange *exchange, const char *name)
{
    size_t count = 0;
    for (size_t i = 0; i < exchange->header_count; i++)
        count += strcmp(exchange->headers[i].name, name) == 0;
    return count;
}

/* Each allocation of an exchange fails once: the client hears of it, or the connection is cut. */
static void test_memory(void **state)
{
    static const struct {
        const char *path, *body;
    } cases[] = {
        {"/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"n\":2}"},
        {"/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"stream\":true}"},
        {"/v1/completions", "{\"prompt\":[[65],\"b\"],\"echo\":true,\"logprobs\":null}"},
        {"/v1/responses", "{\"input\":\"x\",\"tools\":[{\"type\":\"function\",\"name\":\"f\",\"strict\":true}]}"},
        {"/v1/responses", "{\"input\":\"x\",\"stream\":true}"},
        {"/tokenize", "{\"prompt\":\"abc\",\"return_token_strs\":true}"},
        {"/detokenize", "{\"tokens\":[65]}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int is_whole = 0;
        for (uint64_t n = 1; !is_whole; n++) {
            struct fake_server server;
            assert_true(n < 500);
            fake_open(&server, 1, NULL);
            server.fake.play = NULL;
            memory_inject_failure(n, 0);
            struct http_exchange *exchange = fake_ask(&server, "POST", cases[i].path, user, cases[i].body);
            for (size_t k = 0; k < server.fake.count; k++) {
                struct fake_answer *answer = server.fake.answers + k;
                for (uint32_t c = 0; c < answer->request.choices && !exchange->is_over; c++) {
                    fake_text(answer, c, "text that a buffer has to grow for, which takes more than 64 bytes");
                    fake_tell(answer, &(struct answer_delta){.choice = c, .tool = 0, .tool_id = "i", .tool_name = "f",
                                                             .arguments = "{}", .arguments_length = 2});
                    fake_finish(answer, c, "stop", "x");
                }
                if (!exchange->is_over)
                    fake_end(answer, 1, 1);
            }
            memory_inject_failure(0, 0);
            assert_true(exchange->is_over);
            assert_int_equal(server.records, 1);
            is_whole = server.record.status == 200 && strcmp(server.record_code, "") == 0;
            if (!is_whole && server.record.status != 503)
                fail_msg("%s, allocation %llu: status %d", cases[i].path, (unsigned long long)n, server.record.status);
            assert_int_equal(count_headers(exchange, "Retry-After"), exchange->status == 503);
            fake_free(exchange);
            fake_close(&server);
        }
    }
}

static void test_open_memory(void **state)
{
    for (uint64_t n = 1;; n++) {
        static const char *const hosts[] = {"a", "b"};
        struct api_options options = {.cors_origin = "*", .version = "1", .hosts = hosts, .host_count = 2};
        struct event_base *base = event_base_new();
        struct api *api;
        bulla_error error = {0};
        memory_inject_failure(n, 0);
        int code = api_open(base, &options, &api, &error);
        memory_inject_failure(0, 0);
        if (code == BULLA_OK)
            api_close(api);
        event_base_free(base);
        if (code == BULLA_OK)
            break;
        assert_int_equal(code, BULLA_E_MEMORY);
        assert_null(api);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chat),        cmocka_unit_test(test_chat_parts),  cmocka_unit_test(test_chat_stream),
        cmocka_unit_test(test_completions), cmocka_unit_test(test_completion_logprobs),
        cmocka_unit_test(test_many_prompts), cmocka_unit_test(test_embeddings), cmocka_unit_test(test_errors),
        cmocka_unit_test(test_field_names), cmocka_unit_test(test_hang_up),
           cmocka_unit_test(test_limits),      cmocka_unit_test(test_tool_schemas),
        cmocka_unit_test(test_upstream_seed), cmocka_unit_test(test_unverified),  cmocka_unit_test(test_stopping),    cmocka_unit_test(test_keep_alive),
        cmocka_unit_test(test_memory),      cmocka_unit_test(test_open_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
