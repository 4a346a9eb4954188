/* Answers: generate() against a plain loop over the reference and the sampler, on random programs. */
#include "test.h"

#include "answer_model.h"
#include "base/buffer.h"
#include "base/memory.h"
#include "exec/generate.h"
#include "exec/ref/run.h"
#include "random_program.h"

enum { MOST_TOKENS = 60, MOST_PROMPT = 200, EXP24 = 1 };

struct plain {
    uint32_t tokens[MOST_TOKENS];
    size_t count;
    enum generate_finish finish;
    uint64_t range_position;
    uint32_t range_operation;
};

static uint64_t state = 5;

static uint32_t next_random(uint32_t below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state >> 33) % below);
}

/* Position after position, as docs/canonical.md says it. */
static void answer_plainly(const bulla_model *model, const uint32_t *prompt, size_t count, size_t most,
                           const bulla_sampling *sampling, struct plain *plain)
{
    const bulla_program *program = bulla_model_program(model);
    bulla_error error = {0};
    struct reference_run *run;
    bulla_sampler *sampler;
    int32_t *logits = memory_alloc(program->vocabulary, sizeof *logits, &error);
    assert_ok(reference_run_open(program, count - 1, &run, &error), error);
    assert_ok(bulla_sampler_open(program->vocabulary, program->data[EXP24], &sampler, &error), error);
    *plain = (struct plain){.finish = GENERATE_LENGTH};
    int code = reference_run_append(run, prompt, count, logits, &error);
    while (code == BULLA_OK && plain->count < most) {
        uint32_t token;
        assert_ok(bulla_sampler_draw(sampler, sampling, logits, program->logits_F, prompt, count, plain->tokens,
                                     plain->count, NULL, count + plain->count, &token, &error), error);
        if (bulla_tokenizer_is_end(bulla_model_tokenizer(model), token)) {
            plain->finish = GENERATE_STOP;
            break;
        }
        plain->tokens[plain->count++] = token;
        if (plain->count < most)
            code = reference_run_append(run, &token, 1, logits, &error);
    }
    if (code != BULLA_OK) {
        assert_int_equal(code, BULLA_E_RANGE);
        plain->finish = GENERATE_RANGE;
        reference_run_range(run, &plain->range_position, &plain->range_operation);
    }
    reference_run_close(run);
    bulla_sampler_close(sampler);
    memory_free(logits);
}

struct heard {
    uint32_t tokens[MOST_TOKENS];
    size_t count;
    struct buffer text;
    size_t cancel_at; /* tokens; 0: never */
    int asked;        /* is_cancelled was called so often */
    int cancel_asked; /* at which of them it says yes; 0: never */
};

static int hear(void *context, uint32_t token, const char *text, size_t length)
{
    struct heard *heard = context;
    heard->tokens[heard->count++] = token;
    buffer_append(&heard->text, text, length);
    return heard->count == heard->cancel_at;
}

static int is_cancelled(void *context)
{
    struct heard *heard = context;
    return ++heard->asked == heard->cancel_asked;
}

/* What was handed out is what the tokens say. */
static void check_heard(const bulla_model *model, struct heard *heard, const struct generate_result *result)
{
    assert_int_equal(heard->count, result->token_count);
    if (heard->count)
        assert_memory_equal(heard->tokens, result->tokens, heard->count * sizeof *heard->tokens);
    buffer_append(&heard->text, result->rest, result->rest_length);
    bulla_text_stream stream = {{0}, 0, 0};
    struct buffer whole = {0};
    for (size_t i = 0; i < result->token_count; i++) {
        char out[64];
        buffer_append(&whole, out, bulla_text_stream_push(bulla_model_tokenizer(model), &stream, result->tokens[i], out,
                                                          sizeof out));
    }
    char rest[4];
    buffer_append(&whole, rest, bulla_text_stream_end(&stream, rest, sizeof rest));
    assert_int_equal(whole.length, heard->text.length);
    if (whole.length)
        assert_memory_equal(whole.data, heard->text.data, whole.length);
    buffer_free(&whole);
    buffer_free(&heard->text);
}

static void compare(const struct plain *plain, const struct generate_result *result, const char *what)
{
    if (result->finish != plain->finish || result->token_count != plain->count)
        fail_msg("%s: %zu tokens, %s; expected %zu, %s", what, result->token_count, generate_finish_name(result->finish),
                 plain->count, generate_finish_name(plain->finish));
    if (plain->count)
        assert_memory_equal(result->tokens, plain->tokens, plain->count * sizeof *plain->tokens);
    if (plain->finish == GENERATE_RANGE) {
        assert_int_equal(result->range_position, plain->range_position);
        assert_int_equal(result->range_operation, plain->range_operation);
    }
}

static void choose_sampling(bulla_sampling *sampling)
{
    bulla_sampling_defaults(sampling);
    if (next_random(3) == 0)
        return;
    sampling->temperature = 200000 + next_random(2000000);
    sampling->top_p = 500000 + next_random(500001);
    sampling->top_k = next_random(50);
    sampling->seed = next_random(1000);
    sampling->presence = next_random(3) * 500000;
    sampling->repetition = 1000000 + next_random(300000);
}

/* One prompt, answered at once and after a part of it lay in a sequence already. */
static void check_answer(bulla_engine *engine, const bulla_model *model, int counts[4])
{
    bulla_error error = {0};
    const bulla_program *program = bulla_model_program(model);
    uint32_t prompt[MOST_PROMPT];
    size_t count = 1 + next_random(MOST_PROMPT), most = 1 + next_random(MOST_TOKENS);
    for (size_t i = 0; i < count; i++)
        prompt[i] = next_random(program->vocabulary);
    struct heard heard = {.count = 0}, again = {.count = 0};
    struct generate_request request = {.prompt = prompt, .prompt_count = count, .max_tokens = most, .on_token = hear,
                                       .is_cancelled = is_cancelled, .context = &heard};
    struct generate_result result;
    struct plain plain;
    choose_sampling(&request.sampling);
    answer_plainly(model, prompt, count, most, &request.sampling, &plain);
    counts[plain.finish]++;
    assert_ok(generate(engine, model, NULL, &request, &result, &error), error);
    compare(&plain, &result, "at once");
    assert_true(result.prefill_tokens <= count);
    check_heard(model, &heard, &result);
    generate_result_free(&result);

    bulla_sequence *sequence;
    assert_ok(bulla_sequence_open(engine, count - 1, &sequence, &error), error);
    uint32_t part = next_random((uint32_t)count + 1);
    bulla_piece piece = {.sequence = sequence, .ids = prompt, .count = part, .logits_from = part};
    if (part)
        assert_ok(bulla_engine_step(engine, &piece, 1, &error), error);
    if (piece.code == BULLA_OK) {
        request.context = &again;
        assert_ok(generate(engine, model, sequence, &request, &result, &error), error);
        compare(&plain, &result, "continued");
        assert_true(result.prefill_tokens <= (part < count ? count - part : 1));
        check_heard(model, &again, &result);
        generate_result_free(&result);
    }
    bulla_sequence_close(sequence);
}

static void answers(void **unused)
{
    static const int families[] = {RANDOM_LLAMA, RANDOM_QWEN2, RANDOM_GEMMA2, RANDOM_GEMMA3, RANDOM_PHI3, RANDOM_ODD};
    int counts[4] = {0};
    for (size_t f = 0; f < sizeof families / sizeof families[0]; f++)
        for (uint64_t seed = 1; seed <= test_count(test_is_sanitized() ? 1 : 2, 40); seed++) {
            bulla_error error = {0};
            bulla_model *model;
            bulla_engine *engine;
            assert_ok(answer_model_open(seed, families[f], seed & 1, seed % 3 ? 7 : 0, "", &model, &error), error);
            assert_ok(bulla_engine_open(model, &(bulla_engine_options){.threads = 1 + seed % 3}, &engine, &error), error);
            uint64_t pages = bulla_engine_pages_free(engine);
            for (int i = 0; i < 4; i++)
                check_answer(engine, model, counts);
            assert_int_equal(bulla_engine_pages_free(engine), pages);
            bulla_engine_close(engine);
            bulla_model_close(model);
        }
    print_message("finished by stop %d, length %d, range %d times\n", counts[0], counts[1], counts[2]);
    if (test_is_sanitized())
        return; /* the other tree counts */
    assert_true(counts[GENERATE_STOP] > 5 && counts[GENERATE_LENGTH] > 5 && counts[GENERATE_RANGE] > 5);
}

/* --- with speculation and without --- */

struct speculated {
    uint64_t answers, proposed, accepted; /* tokens: where they are always proposed */
    int finished[4], short_of_pages;
};

/* A prompt that mostly repeats itself, or a random one. */
static void choose_prompt(uint32_t *prompt, size_t count, uint32_t vocabulary)
{
    uint32_t period = next_random(3) ? 1 + next_random(12) : 1000;
    for (size_t i = 0; i < count; i++)
        prompt[i] = i < period || next_random(20) == 0 ? next_random(vocabulary) : prompt[i - period];
}

/* An answer, with all that is heard of it. */
struct outcome {
    int code;
    struct generate_result result;
    struct heard heard;
    uint64_t length; /* of the sequence */
};

static void run_answer(bulla_engine *engine, const bulla_model *model, const struct generate_request *request,
                       const struct heard *cancel, uint32_t speculate, int always, struct outcome *outcome)
{
    bulla_error error = {0};
    struct generate_request own = *request;
    bulla_sequence *sequence;
    *outcome = (struct outcome){.heard = *cancel};
    own.context = &outcome->heard;
    own.speculate = speculate;
    own.always_speculates = always;
    assert_ok(bulla_sequence_open(engine, request->prompt_count - 1, &sequence, &error), error);
    outcome->code = generate(engine, model, sequence, &own, &outcome->result, &error);
    outcome->length = bulla_sequence_length(sequence);
    bulla_sequence_close(sequence);
}

static void assert_same_outcome(const struct outcome *with, const struct outcome *without)
{
    assert_int_equal(with->code, without->code);
    assert_int_equal(with->heard.asked, without->heard.asked);
    assert_int_equal(with->heard.count, without->heard.count);
    assert_memory_equal(with->heard.tokens, without->heard.tokens, sizeof with->heard.tokens);
    assert_int_equal(with->heard.text.length, without->heard.text.length);
    if (with->heard.text.length)
        assert_memory_equal(with->heard.text.data, without->heard.text.data, with->heard.text.length);
    if (with->code != BULLA_OK)
        return;
    const struct generate_result *a = &with->result, *b = &without->result;
    assert_int_equal(a->finish, b->finish);
    assert_int_equal(a->token_count, b->token_count);
    assert_memory_equal(a->tokens, b->tokens, a->token_count * sizeof *a->tokens);
    assert_int_equal(a->range_position, b->range_position);
    assert_int_equal(a->range_operation, b->range_operation);
    assert_int_equal(a->rest_length, b->rest_length);
    assert_memory_equal(a->rest, b->rest, a->rest_length);
    assert_int_equal(a->prefill_tokens, b->prefill_tokens);
    assert_true(a->finish == GENERATE_RANGE || with->length == without->length);
    assert_true(b->proposed_tokens == 0 && a->accepted_tokens <= a->proposed_tokens);
}

static void outcome_free(struct outcome *outcome)
{
    generate_result_free(&outcome->result);
    buffer_free(&outcome->heard.text);
}

static void check_speculation(bulla_engine *engine, const bulla_model *model, struct speculated *totals)
{
    const bulla_program *program = bulla_model_program(model);
    uint32_t prompt[1000];
    size_t count = next_random(24) ? 1 + next_random(80) : program->context - next_random(30);
    choose_prompt(prompt, count, program->vocabulary);
    struct generate_request request = {.prompt = prompt, .prompt_count = count, .max_tokens = 1 + next_random(MOST_TOKENS),
                                       .on_token = hear, .is_cancelled = is_cancelled};
    struct heard cancel = {.cancel_at = next_random(8) ? 0 : 1 + next_random(20),
                           .cancel_asked = next_random(8) ? 0 : 1 + (int)next_random(20)};
    choose_sampling(&request.sampling);
    request.sampling.temperature /= 1 + next_random(4);
    request.sampling.frequency = next_random(4) ? 0 : (int64_t)next_random(2000000) - 1000000;
    struct outcome without, with;
    run_answer(engine, model, &request, &cancel, 0, 0, &without);
    for (int always = 0; always < 2; always++) {
        run_answer(engine, model, &request, &cancel, 1 + next_random(SPECULATE_MOST), always, &with);
        assert_same_outcome(&with, &without);
        totals->answers++;
        totals->proposed += always ? with.result.proposed_tokens : 0;
        totals->accepted += always ? with.result.accepted_tokens : 0;
        totals->short_of_pages += with.code == BULLA_E_LIMIT;
        totals->finished[with.result.finish] += with.code == BULLA_OK;
        outcome_free(&with);
    }
    outcome_free(&without);
}

/* On every instruction set that runs here; batches smaller than a step with its proposals; pools that run out of
 * pages, for which an answer must not depend on what was only proposed. */
static void speculation_changes_nothing(void **unused)
{
    static const uint32_t batches[] = {0, 3, 7};
    struct speculated totals = {0};
    for (int family = 0; family < RANDOM_FAMILIES; family++)
        for (uint64_t seed = 1; seed <= test_count(test_is_sanitized() ? 1 : 2, 100); seed++) {
            bulla_error error = {0};
            bulla_model *model;
            assert_ok(answer_model_open(seed, family, seed & 1, next_random(3) ? 0 : 9, "", &model, &error), error);
            for (const char *const *isa = bulla_engine_isas(); *isa; isa++) {
                bulla_engine *engine;
                bulla_engine_options options = {.threads = 1 + next_random(8) / 7, .isa = *isa,
                                                .batch_rows = batches[next_random(3)],
                                                .pages = next_random(4) ? 0 : 1 + next_random(2)};
                assert_ok(bulla_engine_open(model, &options, &engine, &error), error);
                for (int i = 0; i < 16; i++)
                    check_speculation(engine, model, &totals);
                assert_int_equal(bulla_engine_pages_free(engine), bulla_engine_pages_total(engine));
                bulla_engine_close(engine);
            }
            bulla_model_close(model);
        }
    print_message("%llu answers, %llu tokens proposed, %llu accepted; stop %d, length %d, range %d, cancelled %d times, "
                  "%d short of pages\n", (unsigned long long)totals.answers, (unsigned long long)totals.proposed,
                  (unsigned long long)totals.accepted, totals.finished[GENERATE_STOP], totals.finished[GENERATE_LENGTH],
                  totals.finished[GENERATE_RANGE], totals.finished[GENERATE_CANCELLED], totals.short_of_pages);
    if (test_is_sanitized())
        return;
    for (int i = 0; i < 4; i++)
        assert_true(totals.finished[i] > 20);
    assert_true(totals.accepted > totals.answers / 4 && totals.accepted < totals.proposed && totals.short_of_pages > 20);
}

struct fixture {
    bulla_model *model;
    bulla_engine *engine;
    uint32_t prompt[1000];
    struct generate_request request;
};

static void set_up(struct fixture *fixture)
{
    bulla_error error = {0};
    memset(fixture, 0, sizeof *fixture);
    assert_ok(answer_model_open(6, RANDOM_ODD, 0, 0, "", &fixture->model, &error), error);
    assert_ok(bulla_engine_open(fixture->model, &(bulla_engine_options){.threads = 1}, &fixture->engine, &error), error);
    fixture->request.prompt = fixture->prompt;
    fixture->request.prompt_count = 10;
    bulla_sampling_defaults(&fixture->request.sampling);
}

static void tear_down(struct fixture *fixture)
{
    bulla_engine_close(fixture->engine);
    bulla_model_close(fixture->model);
}

static void assert_refused(struct fixture *fixture, int code, const char *part)
{
    bulla_error error = {0};
    struct generate_result result;
    assert_int_equal(generate(fixture->engine, fixture->model, NULL, &fixture->request, &result, &error), code);
    assert_non_null(strstr(error.text, part));
    assert_null(result.tokens);
}

static void limits(void **unused)
{
    struct fixture fixture;
    bulla_error error = {0};
    struct generate_result result;
    set_up(&fixture);
    uint32_t context = bulla_model_program(fixture.model)->context;
    fixture.request.prompt_count = 0;
    assert_refused(&fixture, BULLA_E_USAGE, "empty");
    fixture.request.prompt_count = context + 1;
    assert_refused(&fixture, BULLA_E_LIMIT, "301 tokens, more than the model's context of 300");
    fixture.request.prompt_count = context;
    assert_ok(generate(fixture.engine, fixture.model, NULL, &fixture.request, &result, &error), error);
    assert_int_equal(result.finish, GENERATE_LENGTH);
    assert_int_equal(result.token_count, 0);
    generate_result_free(&result);
    for (uint64_t most = 0; most <= 60; most += 30) {
        fixture.request.prompt_count = context - 40;
        fixture.request.max_tokens = most;
        assert_ok(generate(fixture.engine, fixture.model, NULL, &fixture.request, &result, &error), error);
        assert_int_equal(result.token_count, most == 30 ? 30 : 40);
        assert_int_equal(result.finish, GENERATE_LENGTH);
        generate_result_free(&result);
    }
    fixture.prompt[3] = 37;
    assert_refused(&fixture, BULLA_E_USAGE, "prompt token 3 is 37");
    fixture.prompt[3] = 0;
    fixture.request.sampling.top_p = 2000000;
    assert_refused(&fixture, BULLA_E_USAGE, "top_p");
    tear_down(&fixture);
}

static void cancelling(void **unused)
{
    struct fixture fixture;
    bulla_error error = {0};
    struct generate_result result;
    set_up(&fixture);
    fixture.request.on_token = hear;
    fixture.request.is_cancelled = is_cancelled;
    for (int at = 1; at < 8; at++) {
        struct heard heard = {.cancel_at = (size_t)at}, asked = {.cancel_asked = at};
        fixture.request.context = &heard;
        assert_ok(generate(fixture.engine, fixture.model, NULL, &fixture.request, &result, &error), error);
        assert_int_equal(result.finish, GENERATE_CANCELLED);
        assert_int_equal(result.token_count, at);
        check_heard(fixture.model, &heard, &result);
        generate_result_free(&result);
        fixture.request.context = &asked;
        assert_ok(generate(fixture.engine, fixture.model, NULL, &fixture.request, &result, &error), error);
        assert_int_equal(result.finish, GENERATE_CANCELLED);
        assert_int_equal(result.token_count, at - 1);
        check_heard(fixture.model, &asked, &result);
        generate_result_free(&result);
    }
    tear_down(&fixture);
}

/* The answer is the same from a cached prefix, and another tenant's prompt is none. */
static void cached_prefixes(void **unused)
{
    static const struct { const char *tenant; uint64_t computed; } turns[] = {
        {"ada", 150}, {"ada", 22}, {"bob", 150}, {NULL, 150}, {"bob", 22}};
    static const uint8_t salt[BULLA_PREFIX_SALT_BYTES] = {1};
    struct fixture fixture;
    struct generate_result results[5];
    bulla_error error = {0};
    set_up(&fixture);
    bulla_engine_close(fixture.engine);
    assert_ok(bulla_engine_open(fixture.model, &(bulla_engine_options){.threads = 1, .pages = 20, .prefix_salt = salt},
                                &fixture.engine, &error), error);
    fixture.request.prompt_count = 150;
    fixture.request.max_tokens = 20;
    for (int i = 0; i < 5; i++) {
        fixture.request.tenant = turns[i].tenant;
        assert_ok(generate(fixture.engine, fixture.model, NULL, &fixture.request, &results[i], &error), error);
        assert_int_equal(results[i].prefill_tokens, turns[i].computed);
        assert_int_equal(results[i].token_count, 20);
        assert_memory_equal(results[i].tokens, results[0].tokens, 20 * sizeof *results[i].tokens);
    }
    for (int i = 0; i < 5; i++)
        generate_result_free(&results[i]);
    assert_int_equal(bulla_engine_pages_free(fixture.engine), 20);
    tear_down(&fixture);
}

static void allocation_failures(void **unused)
{
    struct fixture fixture;
    set_up(&fixture);
    uint64_t pages = bulla_engine_pages_free(fixture.engine);
    int done = 0;
    for (uint64_t n = 1; !done; n++) {
        bulla_error error = {0};
        struct generate_result result;
        fixture.request.max_tokens = 5;
        memory_inject_failure(n, 0);
        int code = generate(fixture.engine, fixture.model, NULL, &fixture.request, &result, &error);
        memory_inject_failure(0, 0);
        done = code == BULLA_OK;
        assert_true(done || code == BULLA_E_MEMORY);
        assert_int_equal(bulla_engine_pages_free(fixture.engine), pages);
        generate_result_free(&result);
        assert_true(n < 100);
    }
    tear_down(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers),
        cmocka_unit_test(speculation_changes_nothing),
        cmocka_unit_test(limits),
        cmocka_unit_test(cancelling),
        cmocka_unit_test(cached_prefixes),
        cmocka_unit_test(allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
