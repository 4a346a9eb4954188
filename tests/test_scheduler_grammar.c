/* Grammars shared by many answers: the table of compiled ones, what is known to compile, and what the scheduler does with
 * both. */
#include "test.h"

#include "answer_model.h"
#include "base/buffer.h"
#include "base/memory.h"
#include "exec/scheduler_internal.h"
#include "random_program.h"

/* --- the table --- */

static struct grammar_entry *take(struct grammar_table *table, const char *specification)
{
    struct grammar_entry *entry;
    bulla_error error = {0};
    assert_ok(grammar_table_take(table, specification, strlen(specification), &entry, &error), error);
    return entry;
}

static const struct grammar *compile(struct grammar_table *table, struct grammar_entry *entry, uint64_t *work)
{
    const struct grammar *grammar;
    bulla_error error = {0};
    assert_ok(grammar_table_compile(table, entry, &grammar, work, &error), error);
    return grammar;
}

static void a_table_compiles_once(void **state)
{
    struct grammar_table table = {0};
    uint64_t work;
    struct grammar_entry *first = take(&table, "{\"literal\":\"a\"}"), *other = take(&table, "{\"literal\":\"b\"}");
    assert_ptr_equal(take(&table, "{\"literal\":\"a\"}"), first);
    assert_ptr_not_equal(other, first);
    assert_false(grammar_entry_is_compiled(first));
    const struct grammar *grammar = compile(&table, first, &work);
    assert_true(work > 0);
    assert_ptr_equal(compile(&table, first, &work), grammar);
    assert_int_equal(work, 0);
    grammar_table_give(&table, first);
    grammar_table_give(&table, first);
    assert_int_equal(table.unused_count, 1);
    assert_ptr_equal(take(&table, "{\"literal\":\"a\"}"), first); /* kept, and in use again */
    assert_int_equal(table.unused_count, 0);
    assert_ptr_equal(compile(&table, first, &work), grammar);
    grammar_table_free(&table);
}

static void the_last_unused_are_kept(void **state)
{
    struct grammar_table table = {0};
    char specification[40];
    uint64_t work;
    for (int i = 0; i < 40; i++) {
        snprintf(specification, sizeof specification, "{\"literal\":\"%d\"}", i);
        struct grammar_entry *entry = take(&table, specification);
        compile(&table, entry, &work);
        grammar_table_give(&table, entry);
    }
    size_t kept = table.unused_count;
    assert_in_range(kept, 2, 39);
    assert_int_equal(table.bytes, table.unused_bytes);
    assert_true(grammar_entry_is_compiled(take(&table, "{\"literal\":\"39\"}")));
    assert_false(grammar_entry_is_compiled(take(&table, "{\"literal\":\"0\"}")));
    grammar_table_free(&table);
}

static void a_table_is_bounded(void **state)
{
    struct grammar_table table = {.most_bytes = 400000};
    const struct grammar *grammar;
    struct grammar_entry *entry, *third;
    bulla_error error = {0};
    uint64_t work;
    static char large[300000];
    struct grammar_entry *first = take(&table, "{\"schema\":{\"type\":\"integer\"}}");
    struct grammar_entry *second = take(&table, "{\"schema\":{\"type\":\"string\"}}");
    compile(&table, first, &work);
    compile(&table, second, &work);
    while (table.bytes < table.most_bytes - 60000) { /* grammars of 64 KiB or more each */
        char specification[60];
        snprintf(specification, sizeof specification, "{\"literal\":\"%zu\"}", table.bytes);
        compile(&table, take(&table, specification), &work);
    }
    third = take(&table, "{\"schema\":{\"type\":\"null\"}}");
    assert_int_equal(grammar_table_compile(&table, third, &grammar, &work, &error), BULLA_E_MEMORY);
    assert_false(grammar_entry_is_compiled(third));
    bulla_error_clear(&error);
    memset(large, ' ', sizeof large);
    assert_int_equal(grammar_table_take(&table, large, sizeof large, &entry, &error), BULLA_E_MEMORY);
    bulla_error_clear(&error);
    grammar_table_give(&table, first); /* what nobody uses makes room */
    grammar_table_give(&table, second);
    assert_ok(grammar_table_compile(&table, third, &grammar, &work, &error), error);
    assert_true(table.bytes <= table.most_bytes);
    grammar_table_free(&table);
}

/* --- what is known to compile --- */

static int check(struct grammar_memory *memory, const char *specification, uint64_t *work)
{
    bulla_error error = {0};
    *work = 0;
    return grammar_check(memory, specification, strlen(specification), work, &error);
}

static void what_compiles_is_remembered(void **state)
{
    static const char first[] = "{\"literal\":\"first\"}", bad[] = "{\"literal\":1}";
    struct grammar_memory memory = {0};
    char other[40];
    uint64_t work;
    assert_int_equal(check(&memory, first, &work), BULLA_OK);
    assert_true(work > 0);
    assert_int_equal(check(&memory, first, &work), BULLA_OK);
    assert_int_equal(work, 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(check(&memory, bad, &work), BULLA_E_INPUT);
        assert_true(work > 0);
    }
    assert_int_equal(check(NULL, first, &work), BULLA_OK);
    assert_true(work > 0);
    for (int i = 0; i < GRAMMAR_REMEMBERED; i++) {
        snprintf(other, sizeof other, "{\"literal\":\"%d\"}", i);
        assert_int_equal(check(&memory, other, &work), BULLA_OK);
    }
    assert_int_equal(check(&memory, first, &work), BULLA_OK);
    assert_true(work > 0);
}

/* A specification whose automaton has some thousand states. */
static void append_costly(struct buffer *out, int number)
{
    buffer_append_format(out, "{\"schema\":{\"type\":\"string\",\"pattern\":\"^(a|b)*a(a|b){10}%d$\"}}", number);
}

/* What several cost is bounded as what one costs. */
static void checks_have_one_budget(void **state)
{
    struct buffer specification = {0};
    bulla_error error = {0};
    uint64_t work = 0;
    int count = 0, code;
    do {
        buffer_clear(&specification);
        append_costly(&specification, count);
        code = grammar_check(NULL, (char *)specification.data, specification.length, &work, &error);
    } while (code == BULLA_OK && ++count < 1000);
    buffer_free(&specification);
    assert_int_equal(code, BULLA_E_LIMIT);
    assert_non_null(strstr(error.text, "too complex"));
    assert_in_range(count, 2, 100);
    assert_int_equal(work, GRAMMAR_MOST_WORK);
}

/* --- the scheduler --- */

enum { MOST_IDS = 16, PROMPT = 20 };

struct fixture {
    bulla_model *model;
    bulla_engine *engine;
    struct scheduler *scheduler;
    struct buffer texts[MOST_IDS];
    struct scheduler_finish finishes[MOST_IDS];
    bulla_error errors[MOST_IDS];
    size_t finish_count, tokens[MOST_IDS];
};

static void hear_token(void *context, const struct scheduler_token *token)
{
    struct fixture *fixture = context;
    buffer_append(&fixture->texts[token->request], token->text, token->length);
    fixture->tokens[token->request]++;
}

static void hear_finish(void *context, const struct scheduler_finish *finish)
{
    struct fixture *fixture = context;
    buffer_append(&fixture->texts[finish->request], finish->rest, finish->rest_length);
    fixture->finishes[finish->request] = *finish;
    fixture->finish_count++;
    if (finish->error)
        fixture->errors[finish->request] = *finish->error;
}

static void set_up(struct fixture *fixture, const struct scheduler_options *options)
{
    bulla_error error = {0};
    struct scheduler_events events = {.context = fixture, .token = hear_token, .finish = hear_finish};
    memset(fixture, 0, sizeof *fixture);
    assert_ok(answer_model_open(6, RANDOM_ODD, 0, 0, "", &fixture->model, &error), error);
    assert_ok(bulla_engine_open(fixture->model, &(bulla_engine_options){.threads = 1}, &fixture->engine, &error), error);
    assert_ok(scheduler_open(fixture->engine, fixture->model, options, &events, &fixture->scheduler, &error), error);
}

static void tear_down(struct fixture *fixture)
{
    scheduler_close(fixture->scheduler);
    bulla_engine_close(fixture->engine);
    bulla_model_close(fixture->model);
    for (int i = 0; i < MOST_IDS; i++)
        buffer_free(&fixture->texts[i]);
}

static int try_add(struct fixture *fixture, uint64_t id, const char *grammar, uint64_t most)
{
    uint32_t prompt[PROMPT];
    for (uint32_t i = 0; i < PROMPT; i++)
        prompt[i] = (i + (uint32_t)id) * i % 37;
    bulla_error error = {0};
    struct scheduler_request request = {.id = id, .prompt = prompt, .prompt_count = PROMPT, .max_tokens = most,
                                        .logprobs = -1, .grammar = grammar,
                                        .grammar_length = grammar ? strlen(grammar) : 0};
    bulla_sampling_defaults(&request.sampling);
    request.sampling.seed = id;
    return scheduler_add(fixture->scheduler, &request, &error);
}

static void add(struct fixture *fixture, uint64_t id, const char *grammar, uint64_t most)
{
    assert_int_equal(try_add(fixture, id, grammar, most), BULLA_OK);
}

static void step(struct fixture *fixture)
{
    bulla_error error = {0};
    assert_ok(scheduler_step(fixture->scheduler, &error), error);
}

static void run_all(struct fixture *fixture)
{
    while (!scheduler_is_idle(fixture->scheduler))
        step(fixture);
}

static void answers_share_one_grammar(void **state)
{
    static const char form[] = "{\"repeat\":{\"choice\":[{\"literal\":\"!\"},{\"literal\":\"#\"}]},\"min\":3,\"max\":6}";
    struct fixture fixture;
    set_up(&fixture, &(struct scheduler_options){0});
    for (uint64_t id = 0; id < 5; id++)
        add(&fixture, id, form, 20);
    add(&fixture, 5, "{\"literal\":\"#!#!\"}", 20);
    size_t waiting = fixture.scheduler->grammars.bytes;
    step(&fixture);
    const struct job *job = fixture.scheduler->jobs;
    for (int i = 0; i < 6; i++, job = job->next)
        assert_int_equal(job->grammar == job_find(fixture.scheduler, 0)->grammar, job->id != 5);
    assert_true(waiting < 1000); /* specifications alone, once each */
    assert_in_range(fixture.scheduler->grammars.bytes, 2 * (64 << 10), 3 * (64 << 10));
    run_all(&fixture);
    for (int id = 0; id < 5; id++) {
        assert_in_range(fixture.texts[id].length, 3, 6);
        assert_int_equal(strspn((char *)fixture.texts[id].data, "!#"), fixture.texts[id].length);
        assert_int_equal(fixture.finishes[id].reason, SCHEDULER_STOP);
    }
    assert_string_equal((char *)fixture.texts[5].data, "#!#!");
    assert_int_equal(fixture.scheduler->grammars.unused_count, 2);
    tear_down(&fixture);
}

/* Nothing is compiled before the request's turn; one that is cancelled before never is. */
static void grammars_are_compiled_at_the_start(void **state)
{
    static const char bad[] = "{\"schema\":{\"$dynamicRef\":\"#a\"}}";
    struct fixture fixture;
    set_up(&fixture, &(struct scheduler_options){.most_running = 1});
    add(&fixture, 0, NULL, 5);
    add(&fixture, 1, bad, 5);
    add(&fixture, 2, bad, 5);
    struct buffer complex = {0};
    for (int i = 0; i < 40; i++) {
        buffer_append_text(&complex, i ? "," : "{\"choice\":[");
        append_costly(&complex, i);
    }
    buffer_append_text(&complex, "]}");
    add(&fixture, 3, (char *)complex.data, 5);
    buffer_free(&complex);
    step(&fixture);
    scheduler_cancel(fixture.scheduler, 1);
    assert_int_equal(fixture.finishes[1].reason, SCHEDULER_CANCELLED);
    assert_int_equal(fixture.finish_count, 1);
    run_all(&fixture);
    assert_int_equal(fixture.finishes[0].output_tokens, 5);
    assert_int_equal(fixture.finishes[2].reason, SCHEDULER_FAILED);
    assert_int_equal(fixture.errors[2].code, BULLA_E_UNSUPPORTED);
    assert_non_null(strstr(fixture.errors[2].text, "$dynamicRef"));
    assert_int_equal(fixture.errors[3].code, BULLA_E_UNSUPPORTED);
    assert_non_null(strstr(fixture.errors[3].text, "too complex"));
    tear_down(&fixture);
}

static void a_step_compiles_little(void **state)
{
    enum { COSTLY = 4 };
    struct buffer specification = {0};
    struct fixture fixture;
    set_up(&fixture, &(struct scheduler_options){0});
    add(&fixture, 0, NULL, 30);
    step(&fixture);
    for (int i = 0; i < COSTLY; i++) {
        buffer_clear(&specification);
        append_costly(&specification, i);
        add(&fixture, 1 + (uint64_t)i, (char *)specification.data, 3);
    }
    add(&fixture, 1 + COSTLY, (char *)specification.data, 3);
    buffer_free(&specification);
    for (size_t i = 1; i <= COSTLY; i++) {
        step(&fixture);
        assert_int_equal(fixture.tokens[0], i + 1); /* the others' steps go on */
        size_t compiled = 0;
        for (const struct job *job = fixture.scheduler->jobs; job; job = job->next)
            compiled += job->grammar_state != NULL;
        assert_int_equal(compiled + fixture.finish_count, i < COSTLY ? i : i + 1); /* two have the last one */
    }
    run_all(&fixture);
    assert_int_equal(fixture.finish_count, COSTLY + 2);
    tear_down(&fixture);
}

static void grammars_have_a_budget(void **state)
{
    struct fixture fixture;
    set_up(&fixture, &(struct scheduler_options){.grammar_bytes = 100000});
    add(&fixture, 0, "{\"literal\":\"!!!!!!!!\"}", 30);
    add(&fixture, 1, "{\"literal\":\"##\"}", 30);
    run_all(&fixture);
    assert_string_equal((char *)fixture.texts[0].data, "!!!!!!!!");
    assert_int_equal(fixture.finishes[1].reason, SCHEDULER_FAILED);
    assert_int_equal(fixture.errors[1].code, BULLA_E_MEMORY);
    static char large[200000];
    memset(large, ' ', sizeof large - 1);
    assert_int_equal(try_add(&fixture, 2, large, 30), BULLA_E_MEMORY);
    add(&fixture, 3, "{\"literal\":\"##\"}", 30);
    run_all(&fixture);
    assert_string_equal((char *)fixture.texts[3].data, "##");
    tear_down(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_compiles_once),
        cmocka_unit_test(the_last_unused_are_kept),
        cmocka_unit_test(a_table_is_bounded),
        cmocka_unit_test(what_compiles_is_remembered),
        cmocka_unit_test(checks_have_one_budget),
        cmocka_unit_test(answers_share_one_grammar),
        cmocka_unit_test(grammars_are_compiled_at_the_start),
        cmocka_unit_test(a_step_compiles_little),
        cmocka_unit_test(grammars_have_a_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
