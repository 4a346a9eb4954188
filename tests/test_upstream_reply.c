/* What an upstream's JSON becomes: chunks, embeddings and errors, the right ones and broken ones. */
#include "test.h"

#include "answer_log.h"
#include "base/memory.h"
#include "serve/upstream_reply.h"

static struct answer_request plain_request(enum answer_kind kind)
{
    struct answer_request request = {.kind = kind, .id = "r1", .choices = 1, .logprobs = -1, .shares_prefix = 1,
                                     .prompt = "Hi \"you\"", .prompt_length = 8};
    bulla_sampling_defaults(&request.sampling);
    return request;
}

/* Gives the events' data, separated by '|', to a reply; writes what it tells. */
static int run_reply(enum answer_kind kind, uint32_t choices, const char *events, struct answer_log *log)
{
    struct answer_request request = plain_request(kind);
    struct answer_sink sink = answer_log_sink(log);
    struct upstream_reply reply;
    struct answer_error problem;
    bulla_error error = {0};
    request.choices = choices;
    int code = upstream_reply_open(&reply, &request, &sink, &error);
    if (code != BULLA_OK)
        return code;
    if (kind == ANSWER_EMBEDDING)
        code = upstream_reply_embedding(&reply, events, strlen(events), &problem);
    for (const char *at = events; kind != ANSWER_EMBEDDING && *at && code == BULLA_OK;) {
        size_t length = strcspn(at, "|");
        code = upstream_reply_chunk(&reply, at, length, &problem);
        at += length + (at[length] == '|');
    }
    if (code == BULLA_OK && kind != ANSWER_EMBEDDING)
        code = upstream_reply_end(&reply, &problem);
    if (code == BULLA_OK)
        answer_log_end(log, &reply.usage);
    else
        answer_log_fail(log, &problem);
    upstream_reply_close(&reply);
    return code;
}

static void assert_reply(enum answer_kind kind, uint32_t choices, const char *events, const char *expected)
{
    struct answer_log log = {0};
    run_reply(kind, choices, events, &log);
    if (strcmp(answer_log_text(&log), expected) != 0)
        fail_msg("%s\ntells\n%s\nexpected\n%s", events, answer_log_text(&log), expected);
    answer_log_clear(&log);
}

#define DELTA(members) "{\"choices\":[{\"index\":0,\"delta\":{" members "}}]}|"
#define FINISH(reason) "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"" reason "\"}]}|"

static void test_chat_replies(void **state)
{
    (void)state;
    assert_reply(ANSWER_CHAT, 1,
                 DELTA("\"role\":\"assistant\",\"content\":\"\"") DELTA("\"reasoning_content\":\"hm\"")
                     DELTA("\"reasoning\":\"hmm\"") DELTA("\"content\":\"Hé\\n\"") DELTA("\"content\":null")
                         FINISH("stop") "{\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":7,"
                                        "\"prompt_tokens_details\":"
                                        "{\"cached_tokens\":4},\"completion_tokens_details\":{\"reasoning_tokens\":2}}}"
                                        "|[DONE]|ignored",
                 "0 reasoning \"hm\"\n0 reasoning \"hmm\"\n0 text \"Hé\n\"\n0 finish stop\n"
                 "end 5 prompt 4 cached 7 output 2 reasoning\n");
    assert_reply(ANSWER_CHAT, 2,
                 "{\"choices\":[{\"index\":1,\"delta\":{\"content\":\"b\"}},{\"index\":0,\"delta\":{\"content\":\"a\"}}"
                 "]}|"
                 "{\"choices\":[{\"index\":1,\"delta\":{},\"finish_reason\":\"length\"}]}|" FINISH("stop") "[DONE]",
                 "1 text \"b\"\n0 text \"a\"\n1 finish length\n0 finish stop\nend 0 prompt 0 cached 2 output 0 "
                 "reasoning\n");
    assert_reply(ANSWER_CHAT, 1,
                 "{\"choices\":[{\"delta\":{\"content\":\"x\"},\"finish_reason\":\"stop\",\"stop_reason\":\"END\"}]}",
                 "0 text \"x\"\n0 finish stop at \"END\"\nend 0 prompt 0 cached 1 output 0 reasoning\n");
}

static void test_tool_replies(void **state)
{
    (void)state;
    assert_reply(ANSWER_CHAT, 1,
                 DELTA("\"tool_calls\":[{\"index\":0,\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":\"f\","
                       "\"arguments\":\"\"}}]") DELTA("\"tool_calls\":[{\"index\":0,\"id\":\"c1\",\"function\":{"
                                                      "\"name\":\"f\",\"arguments\":\"{\\\"a\\\"\"}}]")
                     DELTA("\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\":1}\"}},{\"index\":1,"
                           "\"function\":{\"name\":\"g\"}}]") FINISH("tool_calls") "[DONE]",
                 "0 tool 0 id \"c1\" name \"f\" arguments \"\"\n0 tool 0 arguments \"{\"a\"\"\n0 tool 0 arguments "
                 "\":1}\"\n"
                 "0 tool 1 id \"call_r1_0_1\" name \"g\" arguments \"\"\n0 finish tool_calls\n"
                 "end 0 prompt 0 cached 4 output 0 reasoning\n");
}

static void test_logprob_replies(void **state)
{
    (void)state;
    assert_reply(ANSWER_CHAT, 1,
                 "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"ab\"},\"logprobs\":{\"content\":["
                 "{\"token\":\"a\",\"logprob\":-0.25,\"bytes\":[97],\"top_logprobs\":[{\"token\":\"a\",\"logprob\":-0."
                 "25},"
                 "{\"token\":\"?\",\"logprob\":-2,\"bytes\":[255]}]},{\"token\":\"b\",\"logprob\":null,\"bytes\":null}]"
                 "}}]}|" FINISH("stop"),
                 "0 text \"ab\"\n0 logprob \"a\" -0.250 top \"a\" -0.250 \"\xFF\" -2.000\n0 logprob \"b\" -9999.000\n0 "
                 "finish stop\n"
                 "end 0 prompt 0 cached 2 output 0 reasoning\n");
    assert_reply(ANSWER_COMPLETION, 1,
                 "{\"choices\":[{\"index\":0,\"text\":\"a\",\"logprobs\":{\"tokens\":[\"a\"],\"token_logprobs\":[-1],"
                 "\"top_logprobs\":[{\"a\":-1,\"b\":-3e300}],\"text_offset\":[0]},\"finish_reason\":null}]}|"
                 "{\"choices\":[{\"index\":0,\"text\":\"\",\"logprobs\":null,\"finish_reason\":\"length\"}]}|[DONE]",
                 "0 text \"a\"\n0 logprob \"a\" -1.000 top \"a\" -1.000 \"b\" -9999.000\n0 finish length\n"
                 "end 0 prompt 0 cached 1 output 0 reasoning\n");
}

static void test_embedding_replies(void **state)
{
    (void)state;
    assert_reply(ANSWER_EMBEDDING, 1,
                 "{\"data\":[{\"embedding\":[0.5,-1,1e-3],\"index\":0}],\"usage\":{\"prompt_tokens\":3,\"total_"
                 "tokens\":3}}",
                 "embedding 0.500 -1.000 0.001\nend 3 prompt 0 cached 0 output 0 reasoning\n");
    static const char *const broken[] = {
        "", "[]", "{}", "{\"data\":[]}", "{\"data\":[{\"embedding\":[]}]}", "{\"data\":[{\"embedding\":\"AAAA\"}]}",
        "{\"data\":[{\"embedding\":[1]},{\"embedding\":[1]}]}", "{\"data\":[{\"embedding\":[1,null]}]}",
        "{\"data\":[{\"embedding\":[1e300]}]}", "{\"data\":[{\"embedding\":[1]}],\"usage\":{\"prompt_tokens\":-1}}"};
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        struct answer_log log = {0};
        assert_int_not_equal(run_reply(ANSWER_EMBEDDING, 1, broken[i], &log), BULLA_OK);
        assert_memory_equal(answer_log_text(&log), "fail 502 server_error upstream_broken 0 ", 40);
        answer_log_clear(&log);
    }
}

static void test_broken_chunks(void **state)
{
    (void)state;
    static const char *const broken[] = {"",
                                         "null",
                                         "[]",
                                         "{}",
                                         "not json",
                                         "{\"choices\":{}}",
                                         "{\"choices\":[{\"index\":1,\"delta\":{}}]}",
                                         "{\"choices\":[{\"index\":-1,\"delta\":{}}]}",
                                         "{\"choices\":[{\"index\":0.5,\"delta\":{}}]}",
                                         "{\"choices\":[{\"index\":\"0\",\"delta\":{}}]}",
                                         "{\"choices\":[{\"index\":18446744073709551616,\"delta\":{}}]}",
                                         DELTA("\"content\":1"),
                                         DELTA("\"content\":[]"),
                                         DELTA("\"reasoning\":{}"),
                                         DELTA("\"content\":\"\\ud800\""),
                                         DELTA("\"content\":\"\xC0\x80\""),
                                         DELTA("\"content\":\"a\",\"content\":\"b\""),
                                         DELTA("\"tool_calls\":{}"),
                                         DELTA("\"tool_calls\":[1]"),
                                         DELTA("\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{}\"}}]"),
                                         DELTA("\"tool_calls\":[{\"index\":128,\"function\":{\"name\":\"f\"}}]"),
                                         DELTA("\"tool_calls\":[{\"index\":-1,\"function\":{\"name\":\"f\"}}]"),
                                         DELTA("\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"f\","
                                               "\"arguments\":{}}}]"),
                                         DELTA("\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"f\\u0000g\"}}]"),
                                         FINISH("abort"),
                                         "{\"choices\":[{\"delta\":{},\"finish_reason\":1}]}",
                                         FINISH("stop") DELTA("\"content\":\"late\""),
                                         "{\"choices\":[],\"usage\":{\"prompt_tokens\":\"5\"}}",
                                         "{\"choices\":[],\"usage\":{\"prompt_tokens\":1e300}}",
                                         "{\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"prompt_tokens_details\":{"
                                         "\"cached_tokens\":2}}}",
                                         "{\"choices\":[],\"usage\":[]}",
                                         "{\"choices\":[{\"delta\":{},\"logprobs\":1}]}",
                                         "{\"choices\":[{\"delta\":{},\"logprobs\":{\"content\":[{}]}}]}",
                                         "{\"choices\":[{\"delta\":{},\"logprobs\":{\"content\":[{\"token\":\"a\","
                                         "\"logprob\":\"x\"}]}}]}",
                                         "{\"choices\":[{\"delta\":{},\"logprobs\":{\"content\":[{\"token\":\"a\","
                                         "\"bytes\":[256]}]}}]}",
                                         "{\"choices\":[{\"delta\":{},\"logprobs\":{\"tokens\":[\"a\"],\"token_"
                                         "logprobs\":[]}}]}",
                                         "[DONE]",
                                         DELTA("\"content\":\"a\"") "[DONE]"};
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        struct answer_log log = {0};
        if (run_reply(ANSWER_CHAT, 1, broken[i], &log) == BULLA_OK)
            fail_msg("taken: %s", broken[i]);
        if (!strstr(answer_log_text(&log), "fail 502 server_error upstream_broken 0 "))
            fail_msg("%s: %s", broken[i], answer_log_text(&log));
        answer_log_clear(&log);
    }
}

static void refuse(int status, const char *body, const char *expected)
{
    struct answer_request request = plain_request(ANSWER_CHAT);
    struct answer_log log = {0};
    struct answer_sink sink = answer_log_sink(&log);
    struct upstream_reply reply;
    struct answer_error problem;
    bulla_error error = {0};
    assert_ok(upstream_reply_open(&reply, &request, &sink, &error), error);
    upstream_reply_refusal(&reply, status, status == 429 ? 9 : 0, body, strlen(body), &problem);
    answer_log_fail(&log, &problem);
    if (problem.param)
        buffer_append_text(&log.text, problem.param);
    if (strcmp(answer_log_text(&log), expected) != 0)
        fail_msg("%d %s\ntells\n%s\nexpected\n%s", status, body, answer_log_text(&log), expected);
    /* Where the words are the upstream's, there is one for the log. */
    if (problem.status < 500)
        assert_string_equal(problem.own_code, "upstream_refused");
    else
        assert_null(problem.own_code);
    upstream_reply_close(&reply);
    answer_log_clear(&log);
}

static void test_refusals(void **state)
{
    (void)state;
    refuse(400,
           "{\"error\":{\"message\":\"too "
           "long\",\"type\":\"BadRequestError\",\"param\":\"prompt\",\"code\":\"context\"}}",
           "fail 400 BadRequestError context 0 the upstream answers 400: too long\nprompt");
    refuse(400, "{\"object\":\"error\",\"message\":\"older\",\"type\":\"T\",\"code\":400}",
           "fail 400 T - 0 the upstream answers 400: older\n");
    refuse(404, "{\"detail\":\"Not Found\"}",
           "fail 404 invalid_request_error - 0 the upstream answers 404: Not Found\n");
    refuse(422, "{\"error\":\"text\"}", "fail 422 invalid_request_error - 0 the upstream answers 422: text\n");
    refuse(429, "slow down", "fail 429 rate_limit_error - 9 the upstream answers 429\n");
    refuse(400, "{\"error\":{\"message\":5,\"type\":\"a\\nb\",\"code\":[]}}",
           "fail 400 invalid_request_error - 0 the upstream answers 400\n");
    refuse(401, "{\"error\":{\"message\":\"bad key sk-1\"}}",
           "fail 502 server_error upstream_refused 0 the upstream refuses the key that this server has for it (status "
           "401)\n");
    refuse(500, "{\"error\":{\"message\":\"oops\",\"type\":\"x\"}}",
           "fail 502 server_error upstream_error 0 the upstream answers 500: oops\n");
    refuse(302, "", "fail 502 server_error upstream_error 0 the upstream answers 302\n");
    assert_reply(ANSWER_CHAT, 1, DELTA("\"content\":\"a\"") "{\"error\":{\"message\":\"out of cache\",\"code\":500}}",
                 "0 text \"a\"\nfail 502 server_error upstream_error 0 the upstream answers 500: out of cache\n");
    assert_reply(ANSWER_CHAT, 1, "{\"object\":\"error\",\"message\":\"too long\",\"type\":\"T\",\"code\":400}",
                 "fail 400 T - 0 the upstream answers 400: too long\n");
    char long_message[4000];
    snprintf(long_message, sizeof long_message, "{\"error\":{\"message\":\"%0*d\xC3\xA9\xC3\xA9\"}}", 799, 0);
    struct answer_log log = {0};
    assert_int_not_equal(run_reply(ANSWER_CHAT, 1, long_message, &log), BULLA_OK);
    assert_string_equal(answer_log_text(&log) + strlen(answer_log_text(&log)) - 3, "00\n"); /* no half character */
    answer_log_clear(&log);
}

/* An upstream that never stops talking is stopped. */
static void test_text_limit(void **state)
{
    (void)state;
    struct answer_request request = plain_request(ANSWER_CHAT);
    struct answer_log log = {0};
    struct answer_sink sink = answer_log_sink(&log);
    struct upstream_reply reply;
    struct answer_error problem;
    struct buffer event = {0};
    bulla_error error = {0};
    assert_ok(upstream_reply_open(&reply, &request, &sink, &error), error);
    buffer_append_text(&event, "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"");
    memset(buffer_extend(&event, 1 << 20), 'x', 1 << 20);
    buffer_append_text(&event, "\"}}]}");
    int told = 0;
    while (upstream_reply_chunk(&reply, (char *)event.data, event.length, &problem) == BULLA_OK) {
        buffer_clear(&log.text);
        assert_true(++told < 65);
    }
    assert_int_equal(told, 63);
    assert_int_equal(problem.status, 502);
    upstream_reply_close(&reply);
    buffer_free(&event);
    answer_log_clear(&log);
}

/* Each allocation in turn fails: an error, no leak. */
static void test_allocation_failures(void **state)
{
    (void)state;
    static const char events[] =
        "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"logprobs\":{\"content\":[{\"token\":\"a\","
        "\"logprob\":-1,\"bytes\":[97],\"top_logprobs\":[{\"token\":\"a\",\"logprob\":-1}]}]}}]}|" FINISH("stop");
    int succeeded = 0;
    for (uint64_t n = 1; !succeeded; n++) {
        struct answer_log log = {0};
        memory_inject_failure(n, 1);
        succeeded = run_reply(ANSWER_CHAT, 1, events, &log) == BULLA_OK && log.text.error.code == BULLA_OK;
        memory_inject_failure(0, 0);
        assert_true(succeeded || n < 200);
        answer_log_clear(&log);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chat_replies),
        cmocka_unit_test(test_tool_replies),
        cmocka_unit_test(test_logprob_replies),
        cmocka_unit_test(test_embedding_replies),
        cmocka_unit_test(test_broken_chunks),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_text_limit),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
