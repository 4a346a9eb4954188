/* /v1/responses: the whole object, and the events of a stream in their order. */
#include "test.h"

#include "api_fakes.h"
#include "base/memory.h"

static const char body[] =
    "{\"model\":\"small\",\"input\":\"hi\",\"instructions\":\"be brief\",\"temperature\":0.25,\"metadata\":{\"a\":\"b\"},"
    "\"tools\":[{\"type\":\"function\",\"name\":\"f\",\"parameters\":{\"type\":\"object\"}}],\"max_output_tokens\":50%s}";

static struct http_exchange *ask(struct fake_server *server, const char *more)
{
    char text[2000];
    snprintf(text, sizeof text, body, more);
    return fake_ask(server, "POST", "/v1/responses", NULL, text);
}

/* Thinking, text, two calls. */
static void tell_all(struct fake_answer *answer)
{
    struct answer_logprob token = {"A", 1, -0.25};
    fake_tell(answer, &(struct answer_delta){.tokens = 1, .reasoning = "hm", .reasoning_length = 2, .tool = -1});
    fake_tell(answer, &(struct answer_delta){.tokens = 1, .reasoning = "!", .reasoning_length = 1, .tool = -1});
    fake_tell(answer, &(struct answer_delta){.tokens = 1, .text = "A", .text_length = 1, .tool = -1, .logprob = &token});
    fake_text(answer, 0, "\"b");
    fake_tell(answer, &(struct answer_delta){.tokens = 1, .tool = 0, .tool_id = "call_a", .tool_name = "f"});
    fake_tell(answer, &(struct answer_delta){.tokens = 1, .tool = 0, .arguments = "{\"x\":1}", .arguments_length = 7});
    fake_tell(answer, &(struct answer_delta){.tokens = 1, .tool = 1, .tool_id = "call_b", .tool_name = "f",
                                             .arguments = "{}", .arguments_length = 2});
}

static void check_whole(const struct http_exchange *exchange, const char *prefix)
{
    static const struct {
        const char *way, *expected;
    } expected[] = {
        {"object", "response"}, {"status", "completed"}, {"error", "null"}, {"incomplete_details", "null"},
        {"model", "small"}, {"instructions", "be brief"}, {"temperature", "0.25"}, {"top_p", "1"},
        {"metadata", "{\"a\":\"b\"}"}, {"max_output_tokens", "50"}, {"parallel_tool_calls", "true"},
        {"previous_response_id", "null"}, {"store", "false"}, {"tool_choice", "auto"}, {"tools[0].name", "f"},
        {"text", "{\"format\":{\"type\":\"text\"}}"}, {"truncation", "disabled"},
        {"output[0].type", "reasoning"}, {"output[0].summary", "[]"},
        {"output[0].content", "[{\"type\":\"reasoning_text\",\"text\":\"hm!\"}]"},
        {"output[1].type", "message"}, {"output[1].role", "assistant"}, {"output[1].status", "completed"},
        {"output[1].content[0].type", "output_text"}, {"output[1].content[0].text", "A\"b"},
        {"output[1].content[0].annotations", "[]"}, {"output[1].content[0].logprobs[0].token", "A"},
        {"output[2].type", "function_call"}, {"output[2].call_id", "call_a"}, {"output[2].name", "f"},
        {"output[2].arguments", "{\"x\":1}"}, {"output[3].call_id", "call_b"}, {"output[4]", "-"},
        {"usage", "{\"input_tokens\":4,\"input_tokens_details\":{\"cached_tokens\":2,\"cache_write_tokens\":0},\"output_tokens\":7,"
                  "\"output_tokens_details\":{\"reasoning_tokens\":1},\"total_tokens\":11}"},
    };
    char way[200];
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        snprintf(way, sizeof way, "%s%s", prefix, expected[i].way);
        if (*prefix)
            check_event(exchange, fake_events(exchange) - 1, way, expected[i].expected);
        else
            check_at(exchange, way, expected[i].expected);
    }
}

static void test_whole(void **state)
{
    struct fake_server server;
    fake_open(&server, 0, NULL);
    struct http_exchange *exchange = ask(&server, "");
    struct fake_answer *answer = fake_last(&server);
    assert_int_equal(answer->request.max_tokens, 50);
    assert_int_equal(answer->messages, 2);
    tell_all(answer);
    fake_finish(answer, 0, "tool_calls", NULL);
    fake_end(answer, 4, 7);
    check_whole(exchange, "");
    assert_true(strncmp(fake_at(exchange, "id"), "resp_", 5) == 0);
    fake_free(exchange);
    fake_close(&server);
}

static void test_stream(void **state)
{
    static const char *const types[] = {
        "response.created", "response.in_progress",
        "response.output_item.added", "response.content_part.added", "response.reasoning_text.delta",
        "response.reasoning_text.delta", "response.reasoning_text.done", "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added", "response.content_part.added", "response.output_text.delta",
        "response.output_text.delta", "response.output_text.done", "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added", "response.function_call_arguments.delta",
        "response.output_item.added", "response.function_call_arguments.delta",
        "response.function_call_arguments.done", "response.output_item.done",
        "response.function_call_arguments.done", "response.output_item.done",
        "response.completed"};
    enum { COUNT = sizeof types / sizeof types[0] };
    struct fake_server server;
    char number[20];
    fake_open(&server, 0, NULL);
    struct http_exchange *exchange = ask(&server, ",\"stream\":true");
    struct fake_answer *answer = fake_last(&server);
    tell_all(answer);
    fake_finish(answer, 0, "tool_calls", NULL);
    fake_end(answer, 4, 7);
    assert_true(exchange->is_over);
    assert_int_equal(fake_events(exchange), COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        check_event(exchange, i, "type", types[i]);
        snprintf(number, sizeof number, "%zu", i);
        check_event(exchange, i, "sequence_number", number);
    }
    assert_true(strncmp((char *)exchange->reply.data, "event: response.created\ndata: {", 31) == 0);
    check_event(exchange, 0, "response.status", "in_progress");
    check_event(exchange, 0, "response.output", "[]");
    check_event(exchange, 0, "response.usage", "null");
    check_event(exchange, 2, "item.type", "reasoning");
    check_event(exchange, 2, "item.content", "[]");
    check_event(exchange, 6, "text", "hm!");
    check_event(exchange, 9, "output_index", "1");
    check_event(exchange, 9, "item.status", "in_progress");
    check_event(exchange, 9, "item.content", "[]");
    check_event(exchange, 10, "part", "{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":\"\"}");
    check_event(exchange, 11, "delta", "A");
    check_event(exchange, 11, "logprobs[0].logprob", "-0.25");
    check_event(exchange, 12, "delta", "\"b");
    check_event(exchange, 12, "logprobs", "[]");
    check_event(exchange, 12, "content_index", "0");
    assert_string_equal(fake_event_at(exchange, 12, "item_id"), fake_event_at(exchange, 9, "item.id"));
    check_event(exchange, 13, "text", "A\"b");
    check_event(exchange, 13, "logprobs[0].token", "A");
    check_event(exchange, 15, "item.content[0].text", "A\"b");
    check_event(exchange, 16, "item.arguments", "");
    check_event(exchange, 16, "item.call_id", "call_a");
    check_event(exchange, 17, "delta", "{\"x\":1}");
    check_event(exchange, 20, "arguments", "{\"x\":1}");
    check_event(exchange, 20, "output_index", "2");
    check_event(exchange, 23, "item.arguments", "{}");
    check_event(exchange, 23, "item.status", "completed");
    check_whole(exchange, "response.");
    fake_free(exchange);
    fake_close(&server);
}

/* An answer that was cut, one that is empty, one that failed. */
static void test_other_ends(void **state)
{
    struct fake_server server;
    fake_open(&server, 0, NULL);
    for (int is_stream = 0; is_stream < 2; is_stream++) {
        struct http_exchange *exchange = ask(&server, is_stream ? ",\"stream\":true" : "");
        struct fake_answer *answer = fake_last(&server);
        fake_text(answer, 0, "x");
        fake_finish(answer, 0, "length", NULL);
        fake_end(answer, 1, 1);
        if (is_stream) {
            size_t last = fake_events(exchange) - 1;
            check_event(exchange, last, "type", "response.incomplete");
            check_event(exchange, last, "response.incomplete_details.reason", "max_output_tokens");
            check_event(exchange, last - 1, "item.status", "incomplete");
        } else {
            check_at(exchange, "status", "incomplete");
            check_at(exchange, "incomplete_details", "{\"reason\":\"max_output_tokens\"}");
            check_at(exchange, "output[0].status", "incomplete");
        }
        fake_free(exchange);
        exchange = ask(&server, is_stream ? ",\"stream\":true" : "");
        answer = fake_last(&server);
        fake_finish(answer, 0, "stop", NULL);
        fake_end(answer, 1, 0);
        if (is_stream)
            check_event(exchange, fake_events(exchange) - 1, "response.output[0].content[0].text", "");
        else
            check_at(exchange, "output[0].content[0].text", "");
        fake_free(exchange);
    }
    struct http_exchange *exchange = ask(&server, ",\"stream\":true");
    fake_text(fake_last(&server), 0, "x");
    fake_fail(fake_last(&server), 502, "server_error", "upstream", "the upstream hung up");
    assert_true(exchange->is_over);
    size_t last = fake_events(exchange) - 1;
    check_event(exchange, last, "type", "response.failed");
    check_event(exchange, last, "response.status", "failed");
    check_event(exchange, last, "response.error", "{\"code\":\"server_error\",\"message\":\"the upstream hung up\"}");
    fake_free(exchange);
    exchange = ask(&server, ",\"stream\":true");
    fake_fail(fake_last(&server), 400, "invalid_request_error", "context_length_exceeded", "the prompt is too long");
    assert_int_equal(exchange->status, 400);
    check_at(exchange, "error.code", "context_length_exceeded");
    fake_free(exchange);
    fake_close(&server);
}

/* What a response repeats is what is in force. */
static void test_echo(void **state)
{
    static const struct {
        const char *way, *expected;
    } expected[] = {
        {"max_output_tokens", "20"}, {"reasoning", "{\"effort\":\"low\",\"summary\":null}"},
        {"text", "{\"format\":{\"type\":\"json_object\"}}"}, {"top_logprobs", "0"}, {"parallel_tool_calls", "false"},
        {"truncation", "disabled"}, {"max_tool_calls", "3"}, {"user", "u"}, {"safety_identifier", "s"},
        {"prompt_cache_key", "k"}, {"service_tier", "default"}, {"tool_choice", "none"},
    };
    struct fake_server server;
    fake_open(&server, 0, NULL);
    server.model->most_tokens = 20;
    struct http_exchange *exchange = ask(
        &server, ",\"reasoning\":{\"effort\":\"low\",\"summary\":\"auto\",\"unknown\":1},\"text\":{\"verbosity\":\"medium\","
                 "\"format\":{\"type\":\"json_object\"}},\"top_logprobs\":4,\"parallel_tool_calls\":false,\"user\":\"u\","
                 "\"max_tool_calls\":3,\"safety_identifier\":\"s\",\"prompt_cache_key\":\"k\",\"service_tier\":\"flex\","
                 "\"tool_choice\":\"none\"");
    fake_finish(fake_last(&server), 0, "stop", NULL);
    fake_end(fake_last(&server), 1, 0);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        check_at(exchange, expected[i].way, expected[i].expected);
    fake_free(exchange);
    fake_close(&server);
}

/* Memory short in a stream that has begun: the client hears of it, or its connection is cut. */
static void test_memory(void **state)
{
    int is_whole = 0;
    for (uint64_t n = 1; !is_whole; n++) {
        struct fake_server server;
        assert_true(n < 1000);
        fake_open(&server, 1, NULL);
        struct http_exchange *exchange = fake_ask(&server, "POST", "/v1/responses",
                                                  (const char *[]){"authorization: Bearer user", NULL},
                                                  "{\"input\":\"x\",\"stream\":true}");
        struct fake_answer *answer = fake_last(&server);
        memory_inject_failure(n, 0);
        for (int i = 0; i < 10; i++) {
            fake_tell(answer, &(struct answer_delta){.tokens = 1, .reasoning = "think", .reasoning_length = 5, .tool = -1});
            fake_text(answer, 0, "a piece of text that is long enough for some buffer to grow");
            fake_tell(answer, &(struct answer_delta){.tool = i, .tool_id = "i", .tool_name = "f", .arguments = "{}",
                                                     .arguments_length = 2});
        }
        fake_finish(answer, 0, "stop", NULL);
        if (!exchange->is_over)
            fake_end(answer, 1, 1);
        memory_inject_failure(0, 0);
        assert_true(exchange->is_over);
        is_whole = server.record.status == 200;
        if (!is_whole && !exchange->was_aborted && exchange->status == 200) {
            size_t last = fake_events(exchange) - 1;
            check_event(exchange, last, "type", "response.failed");
        }
        fake_free(exchange);
        fake_close(&server);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_other_ends),
        cmocka_unit_test(test_echo),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
