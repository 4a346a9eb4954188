/* The native backend with a real worker process, engine and socket, and a fake scheduler in it (fake_scheduler.c). */
#include "test.h"

#include <signal.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/memory.h"
#include "fake_scheduler.h"
#include "native_fixture.h"

#define CHAT "{# tools tool_calls <tool_call> \"arguments\" <think> #}{{ messages[-1].content }}"
#define PLAIN "{{ messages[-1].content }}"

static struct native_fixture fixture;

static void open_fixture(const char *chat_template, const char *as)
{
    bulla_error error = {0};
    native_fixture_open(&fixture, chat_template, as);
    assert_ok(native_fixture_start(&fixture, &error), error);
}

static const char *text_of(const struct buffer *buffer)
{
    return buffer->length ? (const char *)buffer->data : "";
}

/* One answer from beginning to end. */
static void hear(struct heard *heard, const struct answer_request *request)
{
    memset(heard, 0, sizeof *heard);
    assert_true(heard_start(&fixture, heard, request));
    native_fixture_until(&fixture, heard_is_over(heard));
}

static void letters(char *text, uint64_t seed, size_t count)
{
    for (size_t i = 0; i < count; i++)
        text[i] = (char)fake_scheduler_token(seed, i);
    text[count] = 0;
}

static void an_answer_comes_through(void **state)
{
    (void)state;
    struct heard heard;
    struct answer_request request = heard_request("g...");
    char expected[30];
    open_fixture(PLAIN, NULL);
    assert_int_equal(native_fixture_state(&fixture), BACKEND_STARTING);
    request.max_tokens = 20;
    request.sampling.seed = 5;
    hear(&heard, &request);
    letters(expected, 5, 20);
    assert_int_equal(heard.ends, 1);
    assert_string_equal(text_of(&heard.choices[0].text), expected);
    assert_int_equal(heard.choices[0].tokens, 20);
    assert_int_equal(heard.choices[0].ids.length, 80);
    assert_string_equal(heard.choices[0].reason, "length");
    assert_string_equal(heard.choices[0].stop, "-");
    assert_true(heard.usage.prompt_tokens == 4 && heard.usage.cached_tokens == 1 && heard.usage.output_tokens == 20);
    assert_true(heard.usage.first_token_nanoseconds > 0 &&
                heard.usage.total_nanoseconds >= heard.usage.first_token_nanoseconds);
    assert_int_equal(native_fixture_state(&fixture), BACKEND_READY);
    struct backend_info info;
    fixture.backend->class->describe(fixture.backend, &info);
    assert_true(info.vocabulary >= info.spellings && info.spellings > 0);
    const char *bytes;
    size_t length;
    bulla_error error = {0};
    assert_ok(fixture.backend->class->spell(fixture.backend, info.spellings - 1, &bytes, &length, &error), error);
    assert_true(bytes && length > 0);
    assert_int_not_equal(fixture.backend->class->spell(fixture.backend, info.spellings, &bytes, &length, &error), BULLA_OK);
    assert_true(info.context == 700 && info.is_verified == 1 && strlen(info.model_root) == 64 && !info.trouble);
    heard_free(&heard);
    native_fixture_close(&fixture);
}

static void each_choice_has_its_seed(void **state)
{
    (void)state;
    struct heard heard;
    struct answer_request request = heard_request("g");
    open_fixture(PLAIN, NULL);
    request.max_tokens = 8;
    request.choices = 3;
    request.sampling.seed = 77;
    request.logprobs = 2;
    hear(&heard, &request);
    for (uint32_t k = 0; k < 3; k++) {
        char expected[10];
        letters(expected, bulla_sampling_choice_seed(77, k), 8);
        assert_string_equal(text_of(&heard.choices[k].text), expected);
        assert_int_equal(heard.choices[k].has_finished, 1);
        assert_int_equal(heard.choices[k].logprobs, 8);
        assert_int_equal(heard.choices[k].tops, 16);
    }
    assert_true(heard.usage.output_tokens == 24 && heard.usage.prompt_tokens == 1);
    heard_free(&heard);
    native_fixture_close(&fixture);
}

static void the_request_arrives_whole(void **state)
{
    (void)state;
    struct heard heard;
    struct answer_request request = heard_request("c");
    open_fixture(PLAIN, NULL);
    native_fixture_until(&fixture, native_fixture_state(&fixture) == BACKEND_READY); /* the deadline has passed */
    request.tenant = "somebody";
    request.priority = -4;
    request.deadline = 123456789;
    request.shares_prefix = 1;
    request.grammar = "{\"literal\":\"x\"}";
    request.grammar_length = strlen(request.grammar);
    hear(&heard, &request);
    assert_string_equal(text_of(&heard.choices[0].text), "somebody -4 1 0 123456789 {\"literal\":\"x\"}");
    assert_string_equal(heard.choices[0].reason, "stop");
    heard_free(&heard);
    native_fixture_close(&fixture);
}

static void the_worker_holds_nothing_else(void **state)
{
    (void)state;
    struct heard heard;
    struct answer_request request = heard_request("C");
    int spare = dup(0); /* inherited by a careless spawn */
    setenv("BULLA_SECRET", "key", 1);
    open_fixture(PLAIN, NULL);
    hear(&heard, &request);
    /* Standard input, output and error, and the socket: model and counters are mapped, and closed. */
    assert_string_equal(text_of(&heard.choices[0].text), "0 1 2 3 none 1");
    unsetenv("BULLA_SECRET");
    close(spare);
    heard_free(&heard);
    native_fixture_close(&fixture);
}

static void ends_are_what_clients_know(void **state)
{
    (void)state;
    static const struct {
        const char *prompt, *reason, *stop, *text, *code;
        int status;
    } cases[] = {
        {"o", "stop", "the end", "abrest", NULL, 0},  {"R", "length", "range", "ab", NULL, 0},
        {"D", "length", "deadline", "ab", NULL, 0},   {"r", NULL, NULL, "", "range", 422},
        {"d", NULL, NULL, "", "deadline", 504},       {"f", NULL, NULL, "", "out_of_memory", 503},
        {"q", NULL, NULL, "", "context_length_exceeded", 400},
    };
    open_fixture(PLAIN, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct heard heard;
        struct answer_request request = heard_request(cases[i].prompt);
        char expected[20];
        request.stops[0] = "the end";
        request.stop_lengths[0] = 7;
        request.stop_count = 1;
        hear(&heard, &request);
        assert_int_equal(heard.fails, cases[i].code != NULL);
        if (cases[i].code) {
            assert_string_equal(heard.problem.code, cases[i].code);
            assert_int_equal(heard.problem.status, cases[i].status);
        } else {
            assert_string_equal(heard.choices[0].reason, cases[i].reason);
            assert_string_equal(heard.choices[0].stop, cases[i].stop);
            letters(expected, 0, 2);
            snprintf(expected + 2, sizeof expected - 2, "%s", cases[i].text + 2);
            assert_string_equal(text_of(&heard.choices[0].text), expected);
        }
        heard_free(&heard);
    }
    /* Of several choices none is lost because one has nothing to show. */
    struct heard heard;
    struct answer_request request = heard_request("r");
    request.choices = 2;
    hear(&heard, &request);
    assert_string_equal(heard.choices[1].reason, "length");
    assert_string_equal(heard.choices[1].stop, "range");
    heard_free(&heard);
    native_fixture_close(&fixture);
}

/* ---- Chats ---- */

static void chat(struct heard *heard, const char *content, int with_tools, struct arena *arena)
{
    static const char tools[] = "[{\"type\":\"function\",\"function\":{\"name\":\"find\","
                                "\"parameters\":{\"type\":\"object\"}}}]";
    bulla_error error = {0};
    struct buffer messages = {0};
    struct answer_request request = heard_request("");
    buffer_append_text(&messages, "[{\"role\":\"user\",\"content\":");
    json_write_string(&messages, content, strlen(content));
    buffer_append_text(&messages, "}]");
    request.kind = ANSWER_CHAT;
    request.messages = json_parse((const char *)messages.data, messages.length, "messages", arena, &error);
    request.tools = with_tools ? json_parse(tools, strlen(tools), "tools", arena, &error) : NULL;
    request.tool_choice = with_tools ? TOOLS_AUTO : TOOLS_NONE;
    if (!request.messages)
        fail_msg("%s", error.text);
    hear(heard, &request);
    buffer_free(&messages);
}

static void answers_are_taken_apart(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct heard heard;
    open_fixture(CHAT, NULL);
    chat(&heard, "s<think>hm, so</think>Yes. <tool_call>\n{\"name\": \"find\", \"arguments\": {\"a\":1}}\n</tool_call>",
         1, &arena);
    assert_string_equal(text_of(&heard.choices[0].reasoning), "hm, so");
    assert_string_equal(text_of(&heard.choices[0].arguments), "{\"a\":1}");
    assert_string_equal(text_of(&heard.choices[0].names), "find");
    assert_string_equal(heard.choices[0].reason, "tool_calls");
    assert_int_equal(heard.choices[0].tokens, heard.usage.output_tokens);
    assert_int_equal(heard.choices[0].ids.length, 4 * heard.usage.output_tokens);
    assert_true(heard.usage.reasoning_tokens >= 6 && heard.usage.reasoning_tokens < 25);
    heard_free(&heard);
    chat(&heard, "sNo <tool_call> here", 0, &arena);
    assert_string_equal(text_of(&heard.choices[0].text), "No <tool_call> here");
    assert_string_equal(heard.choices[0].reason, "stop");
    assert_int_equal(heard.choices[0].tokens, 19);
    heard_free(&heard);
    arena_free(&arena);
    native_fixture_close(&fixture);
}

/* That a prompt which ends inside <think> is seen, and that words which look like it are not. */
static void thinking_is_seen(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct heard heard;
    open_fixture("{# <think> #}s{{ messages[-1].content }}"
                 "{% if messages[-1].content == 'a</think>b' %}<think>\n{% endif %}", NULL);
    chat(&heard, "a</think>b", 0, &arena);
    assert_string_equal(text_of(&heard.choices[0].reasoning), "a");
    assert_string_equal(text_of(&heard.choices[0].text), "b<think>\n");
    heard_free(&heard);
    chat(&heard, "x<think>y", 0, &arena);
    assert_string_equal(text_of(&heard.choices[0].reasoning), "");
    assert_string_equal(text_of(&heard.choices[0].text), "x<think>y");
    heard_free(&heard);
    arena_free(&arena);
    native_fixture_close(&fixture);
}

static void what_cannot_be_taken_is_refused(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct heard heard = {0};
    bulla_error error = {0};
    struct answer_request request = heard_request("");
    open_fixture(PLAIN, NULL);
    assert_false(heard_start(&fixture, &heard, &request));
    assert_int_equal(heard.problem.status, 400);
    assert_string_equal(heard.problem.param, "prompt");
    char *long_prompt = memory_alloc(702, 1, &error);
    memset(long_prompt, 'x', 701);
    request = heard_request(long_prompt);
    assert_false(heard_start(&fixture, &heard, &request));
    assert_string_equal(heard.problem.code, "context_length_exceeded");
    assert_non_null(strstr(heard.problem.message, "more than 700 bytes"));
    native_fixture_native(&fixture)->limits.bytes = 1000; /* as if there were tokens of several bytes */
    assert_false(heard_start(&fixture, &heard, &request));
    assert_string_equal(heard.problem.code, "context_length_exceeded");
    assert_non_null(strstr(heard.problem.message, "more than 700 tokens"));
    memory_free(long_prompt);
    static const uint32_t ids[] = {1, 211};
    request = heard_request("");
    request.prompt_ids = ids;
    request.prompt_id_count = 2;
    assert_false(heard_start(&fixture, &heard, &request));
    assert_int_equal(heard.problem.status, 400);
    request.kind = ANSWER_CHAT;
    request.messages = json_parse("[{\"role\":\"user\",\"content\":\"s\"}]", 31, "messages", &arena, &error);
    request.tools = json_parse("[{}]", 4, "tools", &arena, &error);
    request.tool_choice = TOOLS_AUTO;
    assert_false(heard_start(&fixture, &heard, &request));
    assert_string_equal(heard.problem.param, "tools");
    request.tools = NULL;
    request.template_kwargs = json_parse("{\"messages\":1}", 14, "kwargs", &arena, &error);
    assert_false(heard_start(&fixture, &heard, &request));
    assert_string_equal(heard.problem.param, "chat_template_kwargs");
    heard_free(&heard);
    arena_free(&arena);
    native_fixture_close(&fixture);
}

/* Long texts are refused by their bytes, before anything looks at them. */
static void long_texts_are_not_encoded(void **state)
{
    (void)state;
    enum { BYTES = 1 << 20 };
    struct arena arena = {0};
    struct heard heard = {0};
    bulla_error error = {0};
    struct buffer messages = {0};
    uint32_t *ids;
    size_t count;
    char *text = memory_alloc(BYTES + 2, 1, &error);
    memset(text, 'x', BYTES + 1);
    open_fixture(PLAIN, NULL);
    const struct backend_class *class = fixture.backend->class;
    struct answer_request request = heard_request(text);
    assert_false(heard_start(&fixture, &heard, &request));
    assert_int_equal(heard.problem.status, 400);
    assert_string_equal(heard.problem.code, "context_length_exceeded");
    assert_string_equal(heard.problem.param, "prompt");
    assert_non_null(strstr(heard.problem.message, "bytes"));
    assert_int_equal(class->tokenize(fixture.backend, &request, 1, &ids, &count, &error), BULLA_E_LIMIT);
    assert_non_null(strstr(error.text, "1048576 bytes"));
    bulla_error_clear(&error);
    request.prompt_length = BYTES;
    assert_ok(class->tokenize(fixture.backend, &request, 1, &ids, &count, &error), error);
    assert_int_equal(count, BYTES);
    bulla_tokens_free(ids);
    buffer_append_text(&messages, "[{\"role\":\"user\",\"content\":\"");
    buffer_append(&messages, text, BYTES + 1);
    buffer_append_text(&messages, "\"}]");
    request = heard_request("");
    request.kind = ANSWER_CHAT;
    request.messages = json_parse((char *)messages.data, messages.length, "messages", &arena, &error);
    assert_false(heard_start(&fixture, &heard, &request));
    assert_string_equal(heard.problem.code, "context_length_exceeded");
    assert_string_equal(heard.problem.param, "messages");
    assert_non_null(strstr(heard.problem.message, "bytes"));
    assert_int_equal(class->tokenize(fixture.backend, &request, 1, &ids, &count, &error), BULLA_E_LIMIT);
    assert_non_null(strstr(error.text, "1048576 bytes"));
    buffer_free(&messages);
    arena_free(&arena);
    memory_free(text);
    heard_free(&heard);
    native_fixture_close(&fixture);
}

static void texts_become_ids_and_back(void **state)
{
    (void)state;
    bulla_error error = {0};
    struct answer_request request = heard_request("abc");
    uint32_t *ids;
    size_t count, length;
    char *text;
    open_fixture(PLAIN, NULL);
    const struct backend_class *class = fixture.backend->class;
    assert_ok(class->tokenize(fixture.backend, &request, 1, &ids, &count, &error), error);
    assert_int_equal(count, 3);
    assert_ok(class->detokenize(fixture.backend, ids, count, 100, &text, &length, &error), error);
    assert_string_equal(text, "abc");
    bulla_text_free(text);
    assert_ok(class->detokenize(fixture.backend, ids, count, 3, &text, &length, &error), error);
    bulla_text_free(text);
    assert_int_equal(class->detokenize(fixture.backend, ids, count, 2, &text, &length, &error), BULLA_E_LIMIT);
    bulla_error_clear(&error);
    ids[1] = 211;
    assert_int_equal(class->detokenize(fixture.backend, ids, count, 100, &text, &length, &error), BULLA_E_INPUT);
    bulla_tokens_free(ids);
    native_fixture_close(&fixture);
}

static void embeddings_come_through(void **state)
{
    (void)state;
    struct heard heard;
    struct answer_request request = heard_request("text");
    open_fixture(PLAIN, NULL);
    request.kind = ANSWER_EMBEDDING;
    hear(&heard, &request);
    assert_int_equal(heard.ends, 1);
    assert_int_equal(heard.embedding_count, 3);
    assert_true(heard.embedding[1] > 3.9f && heard.embedding[1] < 4.1f);
    assert_int_equal(heard.choices[0].has_finished, 0);
    heard_free(&heard);
    native_fixture_close(&fixture);
}

/* ---- Cancelling, closing ---- */

static struct heard *victims[2];

static void cancel_all(struct heard *heard)
{
    for (size_t i = 0; i < 2; i++)
        if (victims[i]->answer)
            heard_cancel(victims[i]);
}

static uint64_t running(void)
{
    struct backend_counters counters;
    fixture.backend->class->count(fixture.backend, &counters);
    return counters.running + counters.waiting;
}

static void cancelled_answers_are_silent(void **state)
{
    (void)state;
    struct heard first = {0}, second = {0};
    struct answer_request hangs = heard_request("h"), goes_on = heard_request("g");
    goes_on.choices = 3;
    open_fixture(PLAIN, NULL);
    assert_true(heard_start(&fixture, &first, &hangs));
    heard_cancel(&first); /* before the worker heard of it */
    heard_free(&first);
    assert_true(heard_start(&fixture, &first, &hangs));
    native_fixture_until(&fixture, running() == 1 && native_fixture_state(&fixture) == BACKEND_READY);
    victims[0] = &first;
    victims[1] = &second;
    second.on_delta = cancel_all; /* both, from inside a call */
    assert_true(heard_start(&fixture, &second, &goes_on));
    native_fixture_until(&fixture, second.is_cancelled);
    assert_int_equal(second.deltas, 1);
    assert_true(first.is_cancelled);
    native_fixture_until(&fixture, running() == 0); /* in the worker too */
    heard_free(&first);
    heard_free(&second);
    native_fixture_close(&fixture);
}

static void close_it(struct heard *heard)
{
    if (heard->fixture->backend)
        heard->fixture->backend->class->close(heard->fixture->backend);
    heard->fixture->backend = NULL;
}

static void closing_fails_what_is_under_way(void **state)
{
    (void)state;
    struct heard first = {0}, second = {0};
    struct answer_request hangs = heard_request("h"), goes_on = heard_request("g");
    open_fixture(PLAIN, NULL);
    assert_true(heard_start(&fixture, &first, &hangs));
    second.on_delta = close_it; /* from inside a call */
    assert_true(heard_start(&fixture, &second, &goes_on));
    native_fixture_until(&fixture, heard_is_over(&second));
    assert_int_equal(first.fails, 1);
    assert_int_equal(second.fails, 1);
    assert_string_equal(first.problem.code, "model_unloaded");
    heard_free(&first);
    heard_free(&second);
    native_fixture_close(&fixture);
    /* By the last answer's end, as a model that was unloaded is. */
    open_fixture(PLAIN, NULL);
    goes_on.max_tokens = 3;
    first.on_end = close_it;
    assert_true(heard_start(&fixture, &first, &goes_on));
    native_fixture_until(&fixture, heard_is_over(&first));
    assert_int_equal(first.ends, 1);
    heard_free(&first);
    native_fixture_close(&fixture);
}

/* ---- A side that does not read ---- */

static void a_front_that_does_not_read_stops_the_worker(void **state)
{
    (void)state;
    struct heard heard = {0};
    struct answer_request request = heard_request("g");
    const struct timespec moment = {.tv_nsec = 50 * 1000 * 1000};
    open_fixture(PLAIN, NULL);
    native_fixture_until(&fixture, native_fixture_state(&fixture) == BACKEND_READY);
    assert_true(heard_start(&fixture, &heard, &request));
    struct wire_counters *counters = native_fixture_native(&fixture)->run.counters;
    uint64_t before = 1, now = 0;
    for (int i = 0; i < 600 && (now == 0 || now != before); i++) { /* until it makes no step any more */
        before = now;
        nanosleep(&moment, NULL);
        now = atomic_load(&counters->steps);
    }
    assert_true(now == before && now > 1000);
    assert_true(now < 400000); /* 4 MiB, and what the socket holds, in frames of 48 bytes */
    native_fixture_until(&fixture, heard.choices[0].tokens > now + 1000);
    uint32_t id;
    for (size_t i = 0; i < heard.choices[0].tokens; i++) {
        memcpy(&id, heard.choices[0].ids.data + 4 * i, 4);
        assert_int_equal(id, fake_scheduler_token(0, i));
    }
    heard_cancel(&heard);
    heard_free(&heard);
    native_fixture_close(&fixture);
}

static void a_worker_that_does_not_read_is_waited_for(void **state)
{
    (void)state;
    enum { MANY = 300 };
    static struct heard heard[MANY];
    static uint32_t ids[600];
    struct answer_request request = heard_request("");
    open_fixture(PLAIN, NULL);
    native_fixture_until(&fixture, native_fixture_state(&fixture) == BACKEND_READY);
    pid_t pid = native_fixture_native(&fixture)->run.process.pid;
    kill(pid, SIGSTOP);
    for (size_t i = 0; i < 600; i++)
        ids[i] = i ? 'a' : 's';
    request.prompt_ids = ids;
    request.prompt_id_count = 600;
    for (size_t i = 0; i < MANY; i++)
        assert_true(heard_start(&fixture, &heard[i], &request)); /* more than the socket holds; nothing blocks */
    assert_true(native_fixture_native(&fixture)->run.out.length > 0);
    kill(pid, SIGCONT);
    for (size_t i = 0; i < MANY; i++) {
        native_fixture_until(&fixture, heard_is_over(&heard[i]));
        assert_int_equal(heard[i].choices[0].tokens, 599);
        heard_free(&heard[i]);
    }
    assert_int_equal(native_fixture_native(&fixture)->run.out.length, 0);
    native_fixture_close(&fixture);
}

static void few_may_wait(void **state)
{
    (void)state;
    struct heard heard[4] = {{0}};
    struct answer_request request = heard_request("h");
    bulla_error error = {0};
    native_fixture_open(&fixture, PLAIN, NULL);
    fixture.options.most_running = 1;
    fixture.options.most_waiting = 2;
    assert_ok(native_fixture_start(&fixture, &error), error);
    for (size_t i = 0; i < 3; i++)
        assert_true(heard_start(&fixture, &heard[i], &request));
    assert_false(heard_start(&fixture, &heard[3], &request));
    assert_int_equal(heard[3].problem.status, 503);
    assert_string_equal(heard[3].problem.code, "overloaded");
    assert_true(heard[3].problem.retry_after > 0);
    heard_cancel(&heard[1]);
    assert_true(heard_start(&fixture, &heard[3], &request));
    for (size_t i = 0; i < 4; i++) {
        if (heard[i].answer)
            heard_cancel(&heard[i]);
        heard_free(&heard[i]);
    }
    native_fixture_close(&fixture);
}

static void memory_that_is_short_fails_one_request(void **state)
{
    (void)state;
    struct arena arena = {0};
    bulla_error error = {0};
    struct answer_request request = heard_request("");
    request.kind = ANSWER_CHAT;
    request.messages = json_parse("[{\"role\":\"user\",\"content\":\"sabc\"}]", 34, "messages", &arena, &error);
    request.choices = 2;
    open_fixture(CHAT, NULL);
    native_fixture_until(&fixture, native_fixture_state(&fixture) == BACKEND_READY);
    uint64_t n = 1;
    for (int is_done = 0; !is_done; n++) {
        struct heard heard = {0};
        memory_inject_failure(n, 0);
        is_done = heard_start(&fixture, &heard, &request);
        memory_inject_failure(0, 0);
        if (is_done) {
            native_fixture_until(&fixture, heard_is_over(&heard));
            assert_string_equal(text_of(&heard.choices[1].text), "abc");
        } else {
            assert_int_equal(heard.problem.status, 503);
            assert_string_equal(heard.problem.code, "out_of_memory");
        }
        heard_free(&heard);
    }
    assert_true(n > 8);
    assert_int_equal(native_fixture_native(&fixture)->choices, 0);
    assert_true(native_fixture_native(&fixture)->held_bytes == 0);
    arena_free(&arena);
    native_fixture_close(&fixture);
}

static void memory_that_is_short_fails_the_opening(void **state)
{
    (void)state;
    native_fixture_open(&fixture, PLAIN, "sleeps");
    uint64_t n = 1;
    for (int is_done = 0; !is_done; n++) {
        bulla_error error = {0};
        memory_inject_failure(n, 0);
        int code = native_fixture_start(&fixture, &error);
        memory_inject_failure(0, 0);
        is_done = code == BULLA_OK;
        assert_true(is_done || (code == BULLA_E_MEMORY && error.code == code && !fixture.backend));
    }
    assert_true(n > 8);
    native_fixture_close(&fixture);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_comes_through),
        cmocka_unit_test(each_choice_has_its_seed),
        cmocka_unit_test(the_request_arrives_whole),
        cmocka_unit_test(the_worker_holds_nothing_else),
        cmocka_unit_test(ends_are_what_clients_know),
        cmocka_unit_test(answers_are_taken_apart),
        cmocka_unit_test(thinking_is_seen),
        cmocka_unit_test(what_cannot_be_taken_is_refused),
        cmocka_unit_test(long_texts_are_not_encoded),
        cmocka_unit_test(texts_become_ids_and_back),
        cmocka_unit_test(embeddings_come_through),
        cmocka_unit_test(cancelled_answers_are_silent),
        cmocka_unit_test(closing_fails_what_is_under_way),
        cmocka_unit_test(a_front_that_does_not_read_stops_the_worker),
        cmocka_unit_test(a_worker_that_does_not_read_is_waited_for),
        cmocka_unit_test(few_may_wait),
        cmocka_unit_test(memory_that_is_short_fails_one_request),
        cmocka_unit_test(memory_that_is_short_fails_the_opening),
    };
    int status = native_fixture_worker(argc, argv);
    return status >= 0 ? status : cmocka_run_group_tests(tests, NULL, NULL);
}
