/* The native backend with the real scheduler and engine: many answers at once, some cancelled, the worker killed in the
 * middle; each answer is what generate() gives alone. */
#define _GNU_SOURCE /* memmem */
#include "test.h"

#include <signal.h>
#include <unistd.h>

#include "answer_model.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "exec/generate.h"
#include "native_fixture.h"
#include "random_program.h"

enum { AT_ONCE = 14, MOST_PROMPT = 100, VOCABULARY = 211 };

static struct native_fixture fixture;
static uint64_t random_state = 3;

static uint32_t next_random(uint32_t below)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((random_state >> 33) % below);
}

struct asked {
    struct heard heard;
    struct answer_request request;
    uint32_t prompt[MOST_PROMPT];
    int is_started;
};

static void make_request(struct asked *asked)
{
    memset(asked, 0, sizeof *asked);
    asked->request = heard_request("");
    asked->request.prompt_ids = asked->prompt;
    asked->request.prompt_id_count = 1 + next_random(MOST_PROMPT);
    asked->request.shares_prefix = 1;
    asked->request.tenant = next_random(2) ? "one" : "two";
    uint32_t stem = next_random(3); /* some prompts begin alike */
    for (size_t i = 0; i < asked->request.prompt_id_count; i++)
        asked->prompt[i] = i < 70 ? (uint32_t)(stem * 50 + i * i) % VOCABULARY : next_random(VOCABULARY);
    asked->request.max_tokens = 1 + next_random(30);
    asked->request.choices = 1 + next_random(3);
    asked->request.priority = (int)next_random(3);
    asked->request.logprobs = next_random(3) ? -1 : 2;
    asked->request.sampling.seed = random_state;
    asked->request.sampling.temperature = next_random(2) ? 0 : 900000;
    asked->request.sampling.frequency = next_random(3) ? 0 : 300000;
}

/* That choice k is what the engine says alone. */
static void check_choice(bulla_engine *engine, const bulla_model *model, const struct asked *asked, uint32_t k)
{
    struct generate_request request = {.prompt = asked->prompt, .prompt_count = asked->request.prompt_id_count,
                                       .max_tokens = asked->request.max_tokens, .sampling = asked->request.sampling};
    struct generate_result result;
    bulla_error error = {0};
    char *text;
    size_t length;
    if (asked->request.choices > 1)
        request.sampling.seed = bulla_sampling_choice_seed(asked->request.sampling.seed, k);
    assert_ok(generate(engine, model, NULL, &request, &result, &error), error);
    const struct buffer *ids = &asked->heard.choices[k].ids, *heard = &asked->heard.choices[k].text;
    assert_int_equal(ids->length, 4 * result.token_count);
    if (ids->length)
        assert_memory_equal(ids->data, result.tokens, ids->length);
    assert_ok(bulla_tokenizer_decode(bulla_model_tokenizer(model), result.tokens, result.token_count, 0, &text, &length,
                                     &error), error);
    assert_int_equal(heard->length, length);
    if (length)
        assert_memory_equal(heard->data, text, length);
    assert_string_equal(asked->heard.choices[k].reason, result.finish == GENERATE_STOP ? "stop" : "length");
    if (asked->request.logprobs >= 0)
        assert_int_equal(asked->heard.choices[k].logprobs, result.token_count);
    bulla_text_free(text);
    generate_result_free(&result);
}

static void check(bulla_engine *engine, const bulla_model *model, struct asked *asked, uint64_t *answers)
{
    if (!asked->heard.ends)
        return;
    uint64_t tokens = 0;
    for (uint32_t k = 0; k < asked->request.choices; k++) {
        check_choice(engine, model, asked, k);
        tokens += asked->heard.choices[k].tokens;
        ++*answers;
    }
    assert_int_equal(asked->heard.usage.prompt_tokens, asked->request.prompt_id_count);
    assert_int_equal(asked->heard.usage.output_tokens, tokens);
}

static int all_are_over(const struct asked *asked)
{
    for (size_t i = 0; i < AT_ONCE; i++)
        if (!heard_is_over(&asked[i].heard))
            return 0;
    return 1;
}

static void answers_are_those_given_alone(void **state)
{
    (void)state;
    static struct asked asked[AT_ONCE];
    bulla_error error = {0};
    bulla_model *model;
    bulla_engine *engine;
    bulla_engine_options options = {.threads = 1};
    uint64_t answers = 0, deaths = 0, cancelled = 0;
    native_fixture_open(&fixture, "{{ messages[-1].content }}", NULL);
    assert_ok(answer_model_write(fixture.path, 3, RANDOM_LLAMA, 0, 29, "{{ messages[-1].content }}", &error), error);
    fixture.options.cache_positions = 1200; /* fewer than all need at once */
    fixture.options.has_prefix_cache = 1;
    fixture.options.speculate = 4;
    assert_ok(native_fixture_start(&fixture, &error), error);
    assert_ok(bulla_model_open(fixture.path, 1, &model, &error), error);
    assert_ok(bulla_engine_open(model, &options, &engine, &error), error);
    for (uint64_t round = 0; round < test_count(3, 200); round++) {
        for (size_t i = 0; i < AT_ONCE; i++) {
            make_request(&asked[i]);
            assert_true(heard_start(&fixture, &asked[i].heard, &asked[i].request));
        }
        for (size_t i = 0; i < AT_ONCE; i += 7) {
            native_fixture_until(&fixture, asked[i].heard.deltas > 0 || heard_is_over(&asked[i].heard));
            if (asked[i].heard.answer) {
                heard_cancel(&asked[i].heard);
                cancelled++;
            }
        }
        if (round % 3 == 2)
            kill(native_fixture_native(&fixture)->run.process.pid, SIGKILL);
        native_fixture_until(&fixture, all_are_over(asked));
        for (size_t i = 0; i < AT_ONCE; i++) {
            check(engine, model, &asked[i], &answers);
            deaths += (uint64_t)asked[i].heard.fails;
            if (asked[i].heard.fails)
                assert_string_equal(asked[i].heard.problem.code, "worker_died");
            heard_free(&asked[i].heard);
        }
    }
    struct backend_counters counters;
    /* After the last of them was killed. */
    native_fixture_until(&fixture, native_fixture_state(&fixture) == BACKEND_READY);
    native_fixture_until(&fixture, (fixture.backend->class->count(fixture.backend, &counters),
                                    counters.pages_total > 0));
    assert_true(answers > 30 && cancelled > 1 && counters.restarts >= 1);
    assert_true(counters.prefix_reused > 0 && counters.pages_total >= 19);
    print_message("%llu answers, %llu cancelled, %llu lost with their worker, %llu preemptions\n",
                  (unsigned long long)answers,
                  (unsigned long long)cancelled, (unsigned long long)deaths, (unsigned long long)counters.preemptions);
    bulla_engine_close(engine);
    bulla_model_close(model);
    native_fixture_close(&fixture);
}

static void answers_stop_where_asked(void **state)
{
    (void)state;
    bulla_error error = {0};
    struct asked asked;
    native_fixture_open(&fixture, "{{ messages[-1].content }}", NULL);
    fixture.options.cache_positions = 0; /* as much as fits */
    assert_ok(native_fixture_start(&fixture, &error), error);
    make_request(&asked);
    asked.request.choices = 1;
    asked.request.max_tokens = 40;
    assert_true(heard_start(&fixture, &asked.heard, &asked.request));
    native_fixture_until(&fixture, heard_is_over(&asked.heard));
    assert_int_equal(asked.heard.ends, 1);
    /* The same once more, to stop where a piece of its text is. */
    char whole[400] = {0}, stop[9] = {0};
    assert_true(asked.heard.choices[0].text.length > 20 && asked.heard.choices[0].text.length < sizeof whole);
    memcpy(whole, asked.heard.choices[0].text.data, asked.heard.choices[0].text.length);
    size_t from = 0, size = 0;
    uint32_t code_point = 0;
    for (int i = 0; i < 8 || code_point == 0; i++) { /* a character from the ninth on that is not NUL */
        from += utf8_decode(whole + from, sizeof whole - from, &code_point);
        size = utf8_decode(whole + from, sizeof whole - from, &code_point);
    }
    memcpy(stop, whole + from, size);
    size_t at = (size_t)((char *)memmem(whole, sizeof whole, stop, size) - whole);
    heard_free(&asked.heard);
    asked.request.stops[0] = stop;
    asked.request.stop_lengths[0] = size;
    asked.request.stop_count = 1;
    assert_true(heard_start(&fixture, &asked.heard, &asked.request));
    native_fixture_until(&fixture, heard_is_over(&asked.heard));
    if (!asked.heard.ends)
        fail_msg("%s", asked.heard.problem.message);
    assert_string_equal(asked.heard.choices[0].reason, "stop");
    assert_string_equal(asked.heard.choices[0].stop, stop);
    assert_int_equal(asked.heard.choices[0].text.length, at);
    assert_memory_equal(asked.heard.choices[0].text.data, whole, at);
    heard_free(&asked.heard);
    struct native *native = native_fixture_native(&fixture);
    assert_true(native->run.configure.pages >= 11 && native->run.configure.pages <= 256 * 11);
    native_fixture_close(&fixture);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_those_given_alone),
        cmocka_unit_test(answers_stop_where_asked),
    };
    int status = native_fixture_worker(argc, argv);
    return status >= 0 ? status : cmocka_run_group_tests(tests, NULL, NULL);
}
