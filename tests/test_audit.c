/* What decides an audit: tokens computed again (check/replay.h), claims read (check/claim.h) and judged (check/audit.h). */
#include "test.h"

#include "answer_model.h"
#include "base/buffer.h"
#include "base/memory.h"
#include "check/audit.h"
#include "exec/scheduler.h"
#include "random_program.h"

enum { MOST_TOKENS = 700, PROMPT = 70 };

/* ---- Tokens ---- */

struct answer {
    uint32_t tokens[MOST_TOKENS];
    size_t count, finishes;
    enum scheduler_finish_reason reason;
    struct buffer text;
};

static void hear_token(void *context, const struct scheduler_token *token)
{
    struct answer *answer = context;
    answer->tokens[answer->count++] = token->token;
    buffer_append(&answer->text, token->text, token->length);
}

static void hear_finish(void *context, const struct scheduler_finish *finish)
{
    struct answer *answer = context;
    answer->reason = finish->reason;
    answer->finishes++;
    buffer_append(&answer->text, finish->rest, finish->rest_length);
}

static void forget(struct answer *answer)
{
    buffer_free(&answer->text);
    *answer = (struct answer){0};
}

struct fixture {
    bulla_model *model;
    bulla_engine *engines[2];
    struct scheduler *scheduler; /* that answers */
    struct replay *replay;
    struct answer answer, again;
    uint32_t prompt[PROMPT];
};

/* `strain`: as random_program_new. */
static void open_fixture(struct fixture *fixture, uint64_t seed, int strain, uint32_t end_every)
{
    static const uint8_t salt[BULLA_PREFIX_SALT_BYTES] = {1};
    const bulla_engine_options options = {.threads = 1, .prefix_salt = salt};
    const struct scheduler_events events = {.context = &fixture->answer, .token = hear_token, .finish = hear_finish};
    bulla_error error = {0};
    *fixture = (struct fixture){0};
    assert_ok(answer_model_open(seed, (int)(seed % RANDOM_FAMILIES), strain, end_every, "", &fixture->model, &error), error);
    for (int i = 0; i < 2; i++)
        assert_ok(bulla_engine_open(fixture->model, &options, &fixture->engines[i], &error), error);
    assert_ok(scheduler_open(fixture->engines[0], fixture->model, &(struct scheduler_options){0}, &events, &fixture->scheduler,
                             &error), error);
    assert_ok(replay_open(fixture->engines[1], fixture->model, &fixture->replay, &error), error);
    for (size_t i = 0; i < PROMPT; i++)
        fixture->prompt[i] = (uint32_t)(7 * i + seed) % bulla_model_program(fixture->model)->vocabulary;
}

static void close_fixture(struct fixture *fixture)
{
    replay_close(fixture->replay);
    scheduler_close(fixture->scheduler);
    for (int i = 0; i < 2; i++)
        bulla_engine_close(fixture->engines[i]);
    bulla_model_close(fixture->model);
    forget(&fixture->answer);
    forget(&fixture->again);
}

static struct scheduler_request request_of(const struct fixture *fixture, size_t prompt_count, uint64_t most)
{
    struct scheduler_request request = {.id = 1, .prompt = fixture->prompt, .prompt_count = prompt_count, .max_tokens = most,
                                        .tenant = "t", .shares_prefix = 1, .logprobs = -1};
    bulla_sampling_defaults(&request.sampling);
    request.sampling.temperature = 1000000;
    request.sampling.seed = 5;
    return request;
}

static void answer(struct fixture *fixture, const struct scheduler_request *request)
{
    bulla_error error = {0};
    forget(&fixture->answer);
    assert_ok(scheduler_add(fixture->scheduler, request, &error), error);
    while (!scheduler_is_idle(fixture->scheduler))
        assert_ok(scheduler_step(fixture->scheduler, &error), error);
    assert_int_equal(fixture->answer.finishes, 1);
}

static struct replay_outcome replay(struct fixture *fixture, const struct scheduler_request *request, const uint32_t *tokens,
                                    size_t count)
{
    const struct scheduler_events events = {.context = &fixture->again, .token = hear_token, .finish = hear_finish};
    struct replay_outcome outcome;
    bulla_error error = {0};
    forget(&fixture->again);
    assert_ok(replay_run(fixture->replay, request, tokens, count, &events, &outcome, &error), error);
    assert_int_equal(fixture->again.finishes, outcome.result == REPLAY_SAME);
    assert_int_equal(fixture->again.count, outcome.result == REPLAY_REFUSED ? 0 : outcome.at);
    return outcome;
}

/* The true answer is told just as it was; each token that is another one is found, as are ends that are not so. */
static void check_answer(struct fixture *fixture, const struct scheduler_request *request, size_t stride)
{
    answer(fixture, request);
    const struct answer *right = &fixture->answer;
    struct replay_outcome outcome = replay(fixture, request, right->tokens, right->count);
    assert_int_equal(outcome.result, REPLAY_SAME);
    assert_int_equal(fixture->again.reason, right->reason);
    assert_int_equal(fixture->again.text.length, right->text.length);
    if (right->text.length)
        assert_memory_equal(fixture->again.text.data, right->text.data, right->text.length);
    uint32_t wrong[MOST_TOKENS];
    for (size_t at = 0; at < right->count; at += stride) {
        memcpy(wrong, right->tokens, sizeof wrong);
        wrong[at] = at % 2 ? wrong[at] ^ 1 : UINT32_MAX;
        outcome = replay(fixture, request, wrong, right->count);
        assert_int_equal(outcome.result, REPLAY_DIFFERS);
        assert_int_equal(outcome.at, at);
        assert_int_equal(outcome.drawn, right->tokens[at]);
        outcome = replay(fixture, request, right->tokens, at);
        assert_int_equal(outcome.result, REPLAY_GOES_ON);
        assert_int_equal(outcome.at, at);
        assert_int_equal(outcome.drawn, right->tokens[at]);
    }
    memcpy(wrong, right->tokens, sizeof wrong);
    wrong[right->count] = 3;
    outcome = replay(fixture, request, wrong, right->count + 1);
    assert_int_equal(outcome.result, REPLAY_ENDS);
    assert_int_equal(outcome.at, right->count);
}

static void answers_are_computed_again(void **state)
{
    for (uint64_t seed = 1, last = test_count(6, 30); seed <= last; seed++) {
        struct fixture fixture;
        open_fixture(&fixture, seed, 0, seed % 2 ? 40 : 0);
        struct scheduler_request request = request_of(&fixture, seed % 3 ? PROMPT : 1, 50);
        check_answer(&fixture, &request, 7);
        request.sampling.presence = 300000;
        request.sampling.repetition = 1200000;
        request.sampling.top_p = 900000;
        check_answer(&fixture, &request, 13);
        request.ignores_end = 1;
        check_answer(&fixture, &request, 17);
        request.max_tokens = 1;
        check_answer(&fixture, &request, 1);
        close_fixture(&fixture);
    }
}

static void bounds_end_them(void **state)
{
    size_t ranges = 0;
    for (uint64_t seed = 1, last = test_count(20, 100); seed <= last; seed++) {
        struct fixture fixture;
        open_fixture(&fixture, seed, 1, 0);
        struct scheduler_request request = request_of(&fixture, seed % 2 ? 3 : PROMPT, 100);
        check_answer(&fixture, &request, 37);
        ranges += fixture.answer.reason == SCHEDULER_RANGE;
        close_fixture(&fixture);
    }
    assert_true(ranges > 0);
}

/* More positions than one piece has, up to the end of the context. */
static void long_answers_too(void **state)
{
    struct fixture fixture;
    open_fixture(&fixture, 2, 0, 0);
    struct scheduler_request request = request_of(&fixture, PROMPT, 0);
    request.ignores_end = 1;
    check_answer(&fixture, &request, 61);
    assert_true(fixture.answer.count > 300);
    struct replay_outcome outcome = replay(&fixture, &request, fixture.answer.tokens, fixture.answer.count);
    assert_int_equal(outcome.answer_positions, fixture.answer.count);
    assert_int_equal(outcome.prompt_positions, PROMPT - 1 - BULLA_PAGE_POSITIONS); /* a page of it was there */
    close_fixture(&fixture);
}

static void stop_strings_and_grammars_end_them(void **state)
{
    struct fixture fixture;
    open_fixture(&fixture, 3, 0, 0);
    const struct scheduler_text stops[] = {{"zz", 2}, {"e", 1}};
    struct scheduler_request request = request_of(&fixture, PROMPT, 300);
    request.stops = stops;
    request.stop_count = 2;
    check_answer(&fixture, &request, 29);
    static const char grammar[] = "{\"schema\":{\"enum\":[\"north\",\"south\",12,[true]]}}";
    request.stop_count = 0;
    request.grammar = grammar;
    request.grammar_length = sizeof grammar - 1;
    check_answer(&fixture, &request, 1);
    assert_int_equal(fixture.answer.reason, SCHEDULER_STOP);
    request.grammar = "{\"schema\":7}";
    request.grammar_length = strlen(request.grammar);
    assert_int_equal(replay(&fixture, &request, NULL, 0).result, REPLAY_REFUSED);
    request.grammar = NULL;
    request.prompt_count = 0;
    assert_int_equal(replay(&fixture, &request, NULL, 0).result, REPLAY_REFUSED);
    close_fixture(&fixture);
}

/* Whichever allocation fails: an error of memory, no outcome, and the next run is as ever. */
static void memory_may_be_short(void **state)
{
    static const char grammar[] = "{\"schema\":{\"enum\":[\"north\",\"south\"]}}";
    const struct scheduler_text stop = {"qq", 2};
    struct fixture fixture;
    int failures = 0, is_whole = 0;
    open_fixture(&fixture, 5, 0, 0);
    struct scheduler_request request = request_of(&fixture, PROMPT, 60);
    request.stops = &stop;
    request.stop_count = 1;
    for (int with_grammar = 0; with_grammar < 2; with_grammar++, is_whole = 0) {
        request.grammar = with_grammar ? grammar : NULL;
        request.grammar_length = with_grammar ? sizeof grammar - 1 : 0;
        answer(&fixture, &request);
        for (uint64_t n = 1; !is_whole; n++) {
            const struct scheduler_events events = {.context = &fixture.again, .token = hear_token, .finish = hear_finish};
            struct replay_outcome outcome;
            bulla_error error = {0};
            forget(&fixture.again);
            buffer_extend(&fixture.again.text, 1000); /* the test's own */
            buffer_clear(&fixture.again.text);
            uint64_t before = memory_allocation_count();
            memory_inject_failure(n, 0);
            int code = replay_run(fixture.replay, &request, fixture.answer.tokens, fixture.answer.count, &events, &outcome, &error);
            memory_inject_failure(0, 0);
            is_whole = memory_allocation_count() - before < n;
            failures += code != BULLA_OK;
            assert_int_equal(code, code == BULLA_OK ? BULLA_OK : BULLA_E_MEMORY);
            if (code == BULLA_OK)
                assert_int_equal(outcome.result, REPLAY_SAME);
        }
        assert_int_equal(replay(&fixture, &request, fixture.answer.tokens, fixture.answer.count).result, REPLAY_SAME);
    }
    assert_true(failures > 10);
    close_fixture(&fixture);
}

/* ---- Judging ---- */

static const char *state_of(const struct verdict *verdict, const char *name)
{
    static const char *const names[] = {[BULLA_CHECK_PASSED] = "pass", [BULLA_CHECK_FAILED] = "fail",
                                        [BULLA_CHECK_NOT_MADE] = "not checked"};
    const bulla_check *check = verdict_find(verdict, name);
    return check ? names[check->state] : "none";
}

/* Judges an answer of two tokens, "a" and then "b" with the finish; `told` steps are told, and what comes of it is in the
 * three states, of tokens, finish and delivered. */
static void judge(const char *parameters, const char *finish, size_t finish_length, struct replay_outcome outcome,
                  const char *told_finish, const char *expected)
{
    const struct claim_step steps[] = {{RECEIPT_CONTENT, "a", 1, 1}, {RECEIPT_FINISH, finish, finish_length, 1}};
    const uint32_t tokens[] = {10, 11};
    const struct claim_choice claim = {.steps = steps, .step_count = 2, .tokens = tokens, .token_count = 2, .finish = finish,
                                       .stop = strlen(finish) < finish_length ? finish + strlen(finish) + 1 : NULL};
    struct verdict verdict = {0};
    struct receipt receipt = {0};
    struct audit_delivery delivery = {.claim = &claim};
    char states[100];
    receipt.parameters = json_parse(parameters, strlen(parameters), "", &verdict.arena, NULL);
    audit_delivered_tokens(&delivery, 1);
    audit_delivered(&delivery, RECEIPT_CONTENT, "a", 1);
    audit_delivered_tokens(&delivery, 1);
    if (told_finish)
        audit_delivered(&delivery, RECEIPT_FINISH, told_finish, strlen(told_finish));
    audit_check_choice(&verdict, &receipt, 4, &outcome, &delivery);
    snprintf(states, sizeof states, "%s, %s, %s", state_of(&verdict, "audit.tokens.4"), state_of(&verdict, "audit.finish.4"),
             state_of(&verdict, "audit.delivered.4"));
    assert_string_equal(states, expected);
    assert_int_equal(verdict_passed(&verdict), strcmp(expected, "pass, pass, pass") == 0);
    verdict_free(&verdict);
}

static void choices_are_judged(void **state)
{
    static const char limited[] = "{\"max_tokens\":2,\"timeout\":null}", unlimited[] = "{\"max_tokens\":null,\"timeout\":5}";
    const struct replay_outcome same = {.result = REPLAY_SAME, .at = 2}, differs = {.result = REPLAY_DIFFERS, .at = 1},
                                ends = {.result = REPLAY_ENDS, .at = 1}, goes_on = {.result = REPLAY_GOES_ON, .at = 2},
                                refused = {.result = REPLAY_REFUSED};
    judge(limited, "length", 6, same, "length", "pass, pass, pass");
    judge(limited, "stop", 4, same, "length", "pass, fail, pass");
    judge(limited, "stop\0x", 6, same, "stop", "pass, fail, pass");
    judge(limited, "length", 6, differs, NULL, "fail, not checked, not checked");
    judge(limited, "length", 6, ends, NULL, "fail, not checked, not checked");
    judge(limited, "length", 6, refused, NULL, "fail, not checked, not checked");
    judge(limited, "length", 6, goes_on, NULL, "fail, not checked, not checked");
    judge(unlimited, "stop", 4, goes_on, NULL, "fail, not checked, not checked");
    /* Cut off where no token says so. */
    judge(unlimited, "length", 6, goes_on, NULL, "pass, not checked, pass");
    judge(unlimited, "length\0deadline", 15, goes_on, NULL, "pass, not checked, pass");
    judge(limited, "length\0deadline", 15, goes_on, NULL, "fail, not checked, not checked");
    judge(unlimited, "length\0deadline", 15, same, "stop", "pass, not checked, not checked");
    judge(limited, "length\0deadline", 15, same, "stop", "pass, fail, pass");
}

/* The first step that is another one is told. */
static void deliveries_are_compared(void **state)
{
    const struct claim_step steps[] = {{RECEIPT_CONTENT, "ab", 2, 1}, {RECEIPT_CONTENT, "c", 1, 2}, {RECEIPT_FINISH, "stop", 4, 0}};
    const struct claim_choice claim = {.steps = steps, .step_count = 3};
    const struct {
        enum receipt_part part;
        const char *text;
        size_t tokens, differs;
    } second[] = {{RECEIPT_CONTENT, "c", 2, 0}, {RECEIPT_CONTENT, "d", 2, 2}, {RECEIPT_CONTENT, "cc", 2, 2},
                  {RECEIPT_REASONING, "c", 2, 2}, {RECEIPT_CONTENT, "c", 1, 2}, {RECEIPT_FINISH, "stop", 2, 2}};
    for (size_t i = 0; i < sizeof second / sizeof *second; i++) {
        struct audit_delivery delivery = {.claim = &claim};
        audit_delivered_tokens(&delivery, 1);
        audit_delivered(&delivery, RECEIPT_CONTENT, "ab", 2);
        audit_delivered_tokens(&delivery, second[i].tokens);
        audit_delivered(&delivery, second[i].part, second[i].text, strlen(second[i].text));
        assert_int_equal(delivery.differs, second[i].differs);
        audit_delivered(&delivery, RECEIPT_FINISH, "stop", 4);
        assert_int_equal(delivery.differs, second[i].differs);
        assert_true(delivery.ends_so);
        audit_delivered(&delivery, RECEIPT_CONTENT, "more", 4);
        assert_true(delivery.differs > 0);
    }
}

static void steps_after_the_last_are_found(void **state)
{
    const struct claim_step steps[] = {{RECEIPT_FINISH, "stop", 4, 0}, {RECEIPT_FINISH, "stop", 4, 0}};
    const struct replay_outcome same = {.result = REPLAY_SAME};
    struct receipt receipt = {0};
    for (size_t more = 0; more < 2; more++) {
        const struct claim_choice claim = {.steps = steps, .step_count = 1 + more, .finish = "stop"};
        struct audit_delivery delivery = {.claim = &claim};
        struct verdict verdict = {0};
        audit_delivered(&delivery, RECEIPT_FINISH, "stop", 4);
        audit_check_choice(&verdict, &receipt, 0, &same, &delivery);
        assert_string_equal(state_of(&verdict, "audit.delivered.0"), more ? "fail" : "pass");
        verdict_free(&verdict);
    }
}

static void long_texts_are_told_in_whole_characters(void **state)
{
    char text[300];
    const struct claim_step steps[] = {{RECEIPT_FINISH, "stop", 4, 0}};
    const struct claim_choice claim = {.steps = steps, .step_count = 1};
    for (size_t shift = 0; shift < 3; shift++) {
        struct audit_delivery delivery = {.claim = &claim};
        memset(text, 'x', shift);
        for (size_t i = shift; i + 3 <= sizeof text; i += 3)
            memcpy(text + i, "\xe2\x82\xac", 3);
        audit_delivered(&delivery, RECEIPT_CONTENT, text, sizeof text / 3 * 3 - 3);
        assert_true(strlen(delivery.expected) > 50);
        struct buffer out = {0};
        json_write_string(&out, delivery.expected, strlen(delivery.expected));
        assert_null(strstr((const char *)out.data, "\xef\xbf\xbd"));
        buffer_free(&out);
    }
}

static uint64_t limit_of(const char *said, uint64_t asked, int expected_lower)
{
    struct arena arena = {0};
    int is_lower;
    uint64_t limit = audit_limit(json_parse(said, strlen(said), "", &arena, NULL), asked, &is_lower);
    assert_int_equal(is_lower, expected_lower);
    arena_free(&arena);
    return limit;
}

static void servers_may_have_lower_limits(void **state)
{
    assert_int_equal(limit_of("null", 0, 0), 0);
    assert_int_equal(limit_of("null", 5, 0), 5); /* which the receipt then does not say */
    assert_int_equal(limit_of("5", 5, 0), 5);
    assert_int_equal(limit_of("4", 5, 1), 4);
    assert_int_equal(limit_of("6", 5, 0), 5);
    assert_int_equal(limit_of("6", 0, 1), 6);
    assert_int_equal(limit_of("-1", 0, 0), 0);
    assert_int_equal(limit_of("\"6\"", 0, 0), 0);
}

static int compare(const char *said, const char *expected)
{
    struct verdict verdict = {0};
    struct receipt receipt = {.parameters = json_parse(said, strlen(said), "", &verdict.arena, NULL)};
    struct buffer text = {0};
    buffer_append_text(&text, expected);
    int is_same = audit_check_parameters(&verdict, &receipt, &text, "");
    assert_int_equal(is_same, verdict_passed(&verdict));
    buffer_free(&text);
    verdict_free(&verdict);
    return is_same;
}

static void parameters_are_compared(void **state)
{
    assert_true(compare("{\"a\":1,\"b\":[\"x\"]}", "{\"b\":[\"x\"],\"a\":1}"));
    assert_false(compare("{\"a\":1,\"b\":[\"x\"]}", "{\"b\":[\"y\"],\"a\":1}"));
    assert_false(compare("{\"a\":1}", "{\"a\":1,\"b\":null}"));
    assert_false(compare("{\"a\":1,\"b\":null}", "{\"a\":1}"));
    assert_false(compare("{\"a\":true}", "{\"a\":1}"));
}

/* ---- Which are audited, and what a verdict says ---- */

static void shares_are_chosen(void **state)
{
    const uint8_t secrets[2][AUDIT_SECRET] = {{1}, {2}};
    uint8_t hash[RECEIPT_HASH] = {0};
    size_t chosen[2] = {0}, both = 0;
    bulla_error error = {0};
    for (unsigned i = 0; i < 4000; i++) {
        int is_chosen[2], is;
        memcpy(hash, &i, sizeof i);
        for (int k = 0; k < 2; k++) {
            assert_ok(audit_is_chosen(secrets[k], hash, AUDIT_ALL / 4, &is_chosen[k], &error), error);
            chosen[k] += (size_t)is_chosen[k];
        }
        both += (size_t)(is_chosen[0] && is_chosen[1]);
        assert_ok(audit_is_chosen(secrets[0], hash, AUDIT_ALL, &is, &error), error);
        assert_true(is);
        assert_ok(audit_is_chosen(secrets[0], hash, 0, &is, &error), error);
        assert_false(is);
        assert_ok(audit_is_chosen(secrets[0], hash, AUDIT_ALL / 2, &is, &error), error);
        assert_true(is || !is_chosen[0]); /* a larger share has the smaller one */
    }
    for (int k = 0; k < 2; k++)
        assert_in_range(chosen[k], 900, 1100);
    assert_in_range(both, 200, 300);
}

static enum audit_finding find(const char *failed, const char *lacking)
{
    struct verdict verdict = {0};
    verdict_is(&verdict, "receipt.signature", 1, "one");
    if (failed)
        verdict_fails(&verdict, failed, "something");
    if (lacking)
        audit_lacks(&verdict, lacking, "nothing");
    enum audit_finding finding = audit_find(&verdict);
    verdict_free(&verdict);
    return finding;
}

static void findings_accuse_who_signed(void **state)
{
    assert_int_equal(find(NULL, NULL), AUDIT_PASSED);
    assert_int_equal(find("policy", NULL), AUDIT_PASSED); /* what the evidence is worth is another question */
    assert_int_equal(find(NULL, "audit.finish.0"), AUDIT_UNCHECKED);
    assert_int_equal(find("audit.tokens.0", NULL), AUDIT_FAILED);
    assert_int_equal(find("audit.tokens.0", "audit.finish.0"), AUDIT_FAILED);
    assert_int_equal(find("receipt.finish", NULL), AUDIT_FAILED);
    assert_int_equal(find("audit.model", "audit.tokens"), AUDIT_UNCHECKED); /* a watcher need not have every model */
    assert_int_equal(find("receipt.chain.12", "audit.tokens"), AUDIT_UNBOUND);
    assert_int_equal(find("receipt.request", NULL), AUDIT_UNBOUND);
    assert_int_equal(find("receipt.transcript", "audit.tokens"), AUDIT_UNBOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_computed_again),
        cmocka_unit_test(bounds_end_them),
        cmocka_unit_test(long_answers_too),
        cmocka_unit_test(stop_strings_and_grammars_end_them),
        cmocka_unit_test(memory_may_be_short),
        cmocka_unit_test(choices_are_judged),
        cmocka_unit_test(deliveries_are_compared),
        cmocka_unit_test(steps_after_the_last_are_found),
        cmocka_unit_test(long_texts_are_told_in_whole_characters),
        cmocka_unit_test(servers_may_have_lower_limits),
        cmocka_unit_test(parameters_are_compared),
        cmocka_unit_test(shares_are_chosen),
        cmocka_unit_test(findings_accuse_who_signed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
