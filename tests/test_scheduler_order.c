/* The scheduler's order, limits and failures; stop strings, logprobs and embeddings by themselves. */
#include "test.h"

#include <math.h>

#include "answer_model.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "base/memory.h"
#include "exec/generate.h"
#include "exec/scheduler_internal.h"
#include "random_program.h"

enum { MOST_IDS = 128, MOST_EVENTS = 4096, CONTEXT = 300 };

/* What was heard, in its order. */
struct heard {
    struct scheduler *scheduler;
    uint64_t finished[MOST_IDS];
    size_t finish_count;
    struct scheduler_finish finishes[MOST_IDS]; /* by id; pointers in them are not valid */
    uint64_t drawn[MOST_EVENTS];                /* ids of the requests, token by token */
    uint32_t tokens[MOST_EVENTS];
    size_t drawn_count;
    double logprobs[MOST_IDS];
    struct scheduler_logprob top[MOST_IDS][SCHEDULER_MOST_LOGPROBS];
    size_t top_count;
    struct buffer text;
    float embedding[512];
    size_t embedding_count, embeddings;
    char error[200];
};

static void hear_token(void *context, const struct scheduler_token *token)
{
    struct heard *heard = context;
    assert_true(heard->drawn_count < MOST_EVENTS);
    heard->tokens[heard->drawn_count] = token->token;
    heard->drawn[heard->drawn_count] = token->request;
    buffer_append(&heard->text, token->text, token->length);
    buffer_append_text(&heard->text, "|");
    if (heard->drawn_count < MOST_IDS) {
        heard->logprobs[heard->drawn_count] = token->logprob;
        memcpy(heard->top[heard->drawn_count], token->top, token->top_count * sizeof *token->top);
        heard->top_count = token->top_count;
    }
    heard->drawn_count++;
}

static void hear_finish(void *context, const struct scheduler_finish *finish)
{
    struct heard *heard = context;
    heard->finishes[finish->request] = *finish;
    heard->finished[heard->finish_count++] = finish->request;
    buffer_append(&heard->text, finish->rest, finish->rest_length);
    buffer_append_text(&heard->text, ".");
    if (finish->error)
        snprintf(heard->error, sizeof heard->error, "%s", finish->error->text);
}

static void hear_embedding(void *context, uint64_t request, const float *values, size_t count)
{
    struct heard *heard = context;
    assert_true(count <= sizeof heard->embedding / sizeof heard->embedding[0]);
    memcpy(heard->embedding, values, count * sizeof *values);
    heard->embedding_count = count;
    heard->embeddings++;
}

struct fixture {
    bulla_model *model;
    bulla_engine *engine;
    struct scheduler *scheduler;
    struct heard heard;
    uint32_t prompt[CONTEXT + 1];
};

static void set_up(struct fixture *fixture, const bulla_engine_options *engine, const struct scheduler_options *options)
{
    bulla_error error = {0};
    struct scheduler_events events = {&fixture->heard, hear_token, hear_finish, hear_embedding};
    memset(fixture, 0, sizeof *fixture);
    assert_ok(answer_model_open(6, RANDOM_ODD, 0, 0, "", &fixture->model, &error), error);
    assert_ok(bulla_engine_open(fixture->model, engine, &fixture->engine, &error), error);
    assert_ok(scheduler_open(fixture->engine, fixture->model, options, &events, &fixture->scheduler, &error), error);
    for (uint32_t i = 0; i <= CONTEXT; i++)
        fixture->prompt[i] = i * i % 37;
}

static void tear_down(struct fixture *fixture)
{
    scheduler_close(fixture->scheduler);
    assert_int_equal(bulla_engine_pages_free(fixture->engine), bulla_engine_pages_total(fixture->engine));
    bulla_engine_close(fixture->engine);
    bulla_model_close(fixture->model);
    buffer_free(&fixture->heard.text);
}

static struct scheduler_request request_of(const struct fixture *fixture, uint64_t id, const char *tenant, size_t count,
                                           uint64_t most)
{
    struct scheduler_request request = {.id = id, .prompt = fixture->prompt, .prompt_count = count, .max_tokens = most,
                                        .tenant = tenant, .logprobs = -1};
    bulla_sampling_defaults(&request.sampling);
    return request;
}

static void add(struct fixture *fixture, uint64_t id, const char *tenant, size_t count, uint64_t most, int priority)
{
    bulla_error error = {0};
    struct scheduler_request request = request_of(fixture, id, tenant, count, most);
    request.priority = priority;
    assert_ok(scheduler_add(fixture->scheduler, &request, &error), error);
}

static void steps(struct fixture *fixture, int count)
{
    bulla_error error = {0};
    for (int i = 0; i < count && !scheduler_is_idle(fixture->scheduler); i++)
        assert_ok(scheduler_step(fixture->scheduler, &error), error);
}

static void run_all(struct fixture *fixture)
{
    steps(fixture, 100000);
    assert_true(scheduler_is_idle(fixture->scheduler));
}

static void assert_finished(const struct heard *heard, const char *ids)
{
    char found[MOST_IDS + 1];
    for (size_t i = 0; i < heard->finish_count; i++)
        found[i] = (char)('a' + heard->finished[i]);
    found[heard->finish_count] = 0;
    assert_string_equal(found, ids);
}

/* --- order --- */

static const bulla_engine_options ONE_THREAD = {.threads = 1, .pages = 40};

/* Equal requests of two tenants, one at a time: they alternate as soon as there are two, and within a tenant go as
 * they came. */
static void tenants_take_turns(void **state)
{
    struct fixture fixture;
    set_up(&fixture, &ONE_THREAD, &(struct scheduler_options){.most_running = 1});
    for (uint64_t id = 0; id < 4; id++)
        add(&fixture, id, "ada", 10, 5, 0);
    for (uint64_t id = 4; id < 7; id++)
        add(&fixture, id, "bob", 10, 5, 0);
    run_all(&fixture);
    assert_finished(&fixture.heard, "aebfcgd");
    tear_down(&fixture);
}

/* What counts is what was given: a tenant with answers of 5 tokens has three for one of 35. */
static void turns_go_by_service(void **state)
{
    struct fixture fixture;
    set_up(&fixture, &ONE_THREAD, &(struct scheduler_options){.most_running = 1});
    for (uint64_t id = 0; id < 2; id++)
        add(&fixture, id, "ada", 10, 35, 0);
    for (uint64_t id = 2; id < 8; id++)
        add(&fixture, id, NULL, 10, 5, 0);
    run_all(&fixture);
    assert_finished(&fixture.heard, "acdebfgh");
    tear_down(&fixture);
}

/* Bob, who was idle while ada was served, has no credit from that: they alternate. Nor does ada lose her debt by
 * going away for a moment. */
static void idling_saves_nothing(void **state)
{
    struct fixture fixture;
    set_up(&fixture, &ONE_THREAD, &(struct scheduler_options){.most_running = 1});
    for (uint64_t id = 0; id < 4; id++)
        add(&fixture, id, "ada", 10, 20, 0);
    steps(&fixture, 50); /* two and a half answers */
    for (uint64_t id = 4; id < 7; id++)
        add(&fixture, id, "bob", 10, 20, 0);
    run_all(&fixture);
    assert_finished(&fixture.heard, "abcedfg");
    fixture.heard.finish_count = 0;
    add(&fixture, 10, "ada", 10, 100, 0);
    add(&fixture, 11, "bob", 10, 10, 0);
    add(&fixture, 12, "bob", 10, 10, 0);
    steps(&fixture, 101); /* ada's is done, one of bob's begins */
    add(&fixture, 13, "ada", 10, 10, 0);
    run_all(&fixture);
    assert_finished(&fixture.heard, "klmn");
    tear_down(&fixture);
}

static void priority_goes_first(void **state)
{
    struct fixture fixture;
    set_up(&fixture, &ONE_THREAD, &(struct scheduler_options){.most_running = 1});
    add(&fixture, 0, "ada", 10, 5, 0);
    add(&fixture, 1, "ada", 10, 5, -1);
    add(&fixture, 2, "bob", 10, 5, 2);
    add(&fixture, 3, "ada", 10, 5, 2);
    steps(&fixture, 7);
    add(&fixture, 4, "ada", 10, 5, 9); /* takes the place of the one that runs */
    run_all(&fixture);
    assert_finished(&fixture.heard, "cedab");
    struct scheduler_counters counters;
    scheduler_count(fixture.scheduler, &counters);
    assert_int_equal(counters.preemptions, 1);
    tear_down(&fixture);
}

/* Those that decode draw a token in each step beside a long prompt; a short prompt passes it. */
static void prompts_and_decoders_share_steps(void **state)
{
    struct fixture fixture;
    set_up(&fixture, &ONE_THREAD, &(struct scheduler_options){.step_rows = 8});
    add(&fixture, 0, "ada", 1, 100, 0);
    steps(&fixture, 1);
    add(&fixture, 1, "ada", 200, 1, 0);
    add(&fixture, 2, "ada", 6, 1, 0);
    steps(&fixture, 10);
    assert_int_equal(fixture.heard.drawn_count, 12); /* one in each step, and the short prompt's */
    assert_finished(&fixture.heard, "c");
    steps(&fixture, 30);
    assert_finished(&fixture.heard, "cb");
    tear_down(&fixture);
}

/* Prompts start in turn as the steps have rows for them: one of bob's does not wait for all of ada's. */
static void prompts_take_turns(void **state)
{
    struct fixture fixture;
    set_up(&fixture, &ONE_THREAD, &(struct scheduler_options){.step_rows = 50});
    for (uint64_t id = 0; id < 8; id++)
        add(&fixture, id, "ada", 200, 1, 0);
    steps(&fixture, 1);
    add(&fixture, 8, "bob", 200, 1, 0);
    add(&fixture, 9, "bob", 200, 1, 0);
    run_all(&fixture);
    assert_finished(&fixture.heard, "aibjcdefgh");
    tear_down(&fixture);
}

/* A prompt of higher priority starts at once. A short one passes those that run and those that wait, and many short ones
 * take turns too. */
static void short_prompts_pass(void **state)
{
    struct fixture fixture;
    set_up(&fixture, &ONE_THREAD, &(struct scheduler_options){.step_rows = 50});
    for (uint64_t id = 0; id < 4; id++)
        add(&fixture, id, "ada", 250, 1, 0);
    add(&fixture, 4, "ada", 20, 1, 0);
    add(&fixture, 5, "ada", 200, 1, 1);
    steps(&fixture, 4);
    assert_finished(&fixture.heard, "f");
    steps(&fixture, 1);
    assert_finished(&fixture.heard, "fe");
    run_all(&fixture);
    assert_finished(&fixture.heard, "feabcd");
    fixture.heard.finish_count = 0;
    add(&fixture, 0, "ada", 290, 1, 0);
    for (uint64_t id = 1; id < 12; id++)
        add(&fixture, id, "ada", 20, 1, 0);
    steps(&fixture, 1);
    add(&fixture, 12, "bob", 20, 1, 0);
    steps(&fixture, 3);
    assert_finished(&fixture.heard, "bcdme");
    run_all(&fixture);
    tear_down(&fixture);
}

/* A prompt is as short as what the prefix cache leaves of it. */
static void cached_prompts_pass(void **state)
{
    static const uint8_t salt[BULLA_PREFIX_SALT_BYTES] = {1};
    struct fixture fixture;
    bulla_error error = {0};
    set_up(&fixture, &(bulla_engine_options){.threads = 1, .pages = 40, .prefix_salt = salt},
           &(struct scheduler_options){.step_rows = 50});
    struct scheduler_request request = request_of(&fixture, 0, "ada", 200, 1);
    request.shares_prefix = 1;
    assert_ok(scheduler_add(fixture.scheduler, &request, &error), error);
    run_all(&fixture);
    bulla_prefix_counters before, after;
    bulla_engine_prefix_counters(fixture.engine, &before);
    for (uint64_t id = 1; id < 4; id++)
        add(&fixture, id, "ada", 250, 1, 0);
    request.id = 4;
    assert_ok(scheduler_add(fixture.scheduler, &request, &error), error);
    steps(&fixture, 2);
    assert_finished(&fixture.heard, "ae");
    assert_int_equal(fixture.heard.finishes[4].cached_tokens, 192);
    run_all(&fixture);
    assert_finished(&fixture.heard, "aebcd");
    bulla_engine_prefix_counters(fixture.engine, &after);
    assert_int_equal(after.positions_queried - before.positions_queried, 200);
    tear_down(&fixture);
}

static size_t count_drawn(const struct heard *heard, uint64_t id)
{
    size_t count = 0;
    for (size_t i = 0; i < heard->drawn_count; i++)
        count += heard->drawn[i] == id;
    return count;
}

/* While many prompts wait, tokens are decoded every third step; in each, where few are left, one prompt is alone, or the
 * prompts are of lower priority. */
static void crowds_go_first(void **state)
{
    for (int priority = 0; priority < 2; priority++) {
        struct fixture fixture;
        set_up(&fixture, &ONE_THREAD, &(struct scheduler_options){.step_rows = 32});
        add(&fixture, 0, "ada", 1, 100, priority);
        steps(&fixture, 1);
        add(&fixture, 1, "ada", 290, 1, 0);
        steps(&fixture, 4);
        assert_int_equal(count_drawn(&fixture.heard, 0), 5);
        for (uint64_t id = 2; id < 5; id++)
            add(&fixture, id, "ada", 200, 1, 0);
        steps(&fixture, 9);
        assert_int_equal(count_drawn(&fixture.heard, 0), 5 + (priority ? 9 : 3));
        steps(&fixture, 4);
        size_t before = count_drawn(&fixture.heard, 0);
        assert_int_equal(fixture.heard.finish_count, 2); /* 400 rows are left, 200 of them waiting */
        steps(&fixture, 4);
        assert_int_equal(count_drawn(&fixture.heard, 0), before + 4);
        run_all(&fixture);
        assert_finished(&fixture.heard, "bcdea");
        tear_down(&fixture);
    }
}

/* A step of two batches: what decodes, and a prompt that ends, is told after the first one, and those that go on are
 * computed last. Between the two a request whose rows come yet is cancelled, and others come; a scheduler is closed. */
static void tokens_come_after_their_batch(void **state)
{
    struct fixture fixture;
    set_up(&fixture, &(bulla_engine_options){.threads = 1, .pages = 40, .batch_rows = 32},
           &(struct scheduler_options){.step_rows = 64});
    add(&fixture, 0, "ada", 150, 5, 0);
    add(&fixture, 1, "ada", 20, 1, 0);
    steps(&fixture, 1);
    assert_finished(&fixture.heard, "b");
    struct scheduler_counters counters;
    scheduler_cancel(fixture.scheduler, 0);
    scheduler_count(fixture.scheduler, &counters);
    assert_int_equal(counters.pages_used, 0);
    assert_int_equal(counters.steps, 1);
    add(&fixture, 2, "ada", 20, 40, 0);
    steps(&fixture, 2); /* nothing is left of the step but its end */
    assert_int_equal(count_drawn(&fixture.heard, 2), 1);
    add(&fixture, 3, "ada", 150, 5, 0);
    for (uint64_t step = 1; step <= 2; step++) {
        steps(&fixture, 1);
        assert_int_equal(count_drawn(&fixture.heard, 2), 1 + step);
        assert_int_equal(bulla_sequence_length(fixture.scheduler->running[1]->sequence), 63 * step - 32);
        steps(&fixture, 1);
        assert_int_equal(count_drawn(&fixture.heard, 2), 1 + step);
        assert_int_equal(bulla_sequence_length(fixture.scheduler->running[1]->sequence), 63 * step);
    }
    add(&fixture, 4, "ada", 70, 1, 0);
    steps(&fixture, 3);
    struct scheduler_events events = {&fixture.heard, hear_token, hear_finish, hear_embedding};
    bulla_error error = {0};
    scheduler_close(fixture.scheduler);
    assert_ok(scheduler_open(fixture.engine, fixture.model, &(struct scheduler_options){.step_rows = 64}, &events,
                             &fixture.scheduler, &error), error);
    add(&fixture, 5, "ada", 150, 5, 0);
    run_all(&fixture);
    assert_finished(&fixture.heard, "baf");
    tear_down(&fixture);
}

/* In steps of one row a prompt gets every fourth, but its last row in turn; those that decode take turns in the
 * others. */
static void nobody_starves_in_small_steps(void **state)
{
    struct fixture fixture;
    set_up(&fixture, &ONE_THREAD, &(struct scheduler_options){.step_rows = 1});
    for (uint64_t id = 0; id < 3; id++)
        add(&fixture, id, "ada", 1, 60, 0);
    steps(&fixture, 6);
    add(&fixture, 3, "ada", 20, 1, 0);
    steps(&fixture, 80);
    assert_finished(&fixture.heard, "d");
    int counts[3];
    for (uint64_t i = 0; i < 3; i++)
        counts[i] = (int)count_drawn(&fixture.heard, i);
    for (int i = 1; i < 3; i++)
        assert_true(abs(counts[i] - counts[0]) <= 1);
    assert_int_equal(counts[0] + counts[1] + counts[2], 6 + 60);
    run_all(&fixture);
    tear_down(&fixture);
}

/* Two that fit together at first: the later one gives way, the earlier one is never computed again, and both end. */
static void the_last_gives_way(void **state)
{
    struct fixture fixture;
    set_up(&fixture, &(bulla_engine_options){.threads = 1, .pages = 4}, &(struct scheduler_options){.step_rows = 64});
    add(&fixture, 0, "ada", 100, 120, 0);
    add(&fixture, 1, "bob", 60, 60, 0);
    run_all(&fixture);
    struct scheduler_counters counters;
    scheduler_count(fixture.scheduler, &counters);
    assert_int_equal(counters.preemptions, 1);
    assert_finished(&fixture.heard, "ab");
    assert_int_equal(counters.output_tokens, 180);
    assert_int_equal(counters.prompt_tokens, 160);
    tear_down(&fixture);
}

static uint64_t preemptions(const struct fixture *fixture)
{
    struct scheduler_counters counters;
    scheduler_count(fixture->scheduler, &counters);
    return counters.preemptions;
}

/* One of bob's gets a place beside ada's long answers at once. The next one waits for that, and until ada was given as
 * much as bob; then it gets one too, beside eve's. */
static void a_tenant_gets_a_place(void **state)
{
    struct fixture fixture;
    set_up(&fixture, &ONE_THREAD, &(struct scheduler_options){.most_running = 4});
    for (uint64_t id = 0; id < 6; id++)
        add(&fixture, id, "ada", 10, 60, 0);
    steps(&fixture, 20);
    add(&fixture, 6, "bob", 10, 3, 0);
    add(&fixture, 7, "bob", 10, 3, 0);
    steps(&fixture, 4);
    assert_finished(&fixture.heard, "g");
    assert_int_equal(preemptions(&fixture), 1);
    add(&fixture, 8, "eve", 10, 3, 0);
    steps(&fixture, 4);
    assert_finished(&fixture.heard, "ghi");
    assert_int_equal(preemptions(&fixture), 3);
    run_all(&fixture);
    assert_finished(&fixture.heard, "ghiabcdef");
    assert_int_equal(preemptions(&fixture), 3);
    for (int id = 0; id < 6; id++)
        assert_int_equal(fixture.heard.finishes[id].output_tokens, 60);
    tear_down(&fixture);
}

/* So it is with pages; and where ada's need more of them later, it is not bob's that gives way. */
static void a_tenant_gets_pages(void **state)
{
    struct fixture fixture;
    set_up(&fixture, &(bulla_engine_options){.threads = 1, .pages = 9}, &(struct scheduler_options){0});
    for (uint64_t id = 0; id < 4; id++)
        add(&fixture, id, "ada", 70, 120, 0);
    steps(&fixture, 20);
    add(&fixture, 4, "bob", 70, 50, 0);
    steps(&fixture, 30);
    assert_int_equal(preemptions(&fixture), 1);
    assert_int_equal(fixture.heard.drawn[fixture.heard.drawn_count - 1], 4);
    steps(&fixture, 21);
    assert_finished(&fixture.heard, "e");
    assert_int_equal(preemptions(&fixture), 2);
    run_all(&fixture);
    assert_finished(&fixture.heard, "eabcd");
    tear_down(&fixture);
}

/* A tenant's only request keeps its place and its pages, and so does what runs first. */
static void only_ones_stay(void **state)
{
    struct fixture fixture;
    set_up(&fixture, &(bulla_engine_options){.threads = 1, .pages = 5}, &(struct scheduler_options){.most_running = 2});
    add(&fixture, 0, "eve", 10, 40, 0);
    add(&fixture, 1, "ada", 200, 40, 0);
    steps(&fixture, 3);
    add(&fixture, 2, "bob", 70, 3, 0);
    run_all(&fixture);
    assert_finished(&fixture.heard, "abc");
    fixture.heard.finish_count = 0;
    add(&fixture, 0, "ada", 130, 40, 0);
    add(&fixture, 1, "ada", 10, 40, 0);
    steps(&fixture, 3);
    add(&fixture, 2, "bob", 190, 3, 0); /* the second one's page would not be enough for it */
    run_all(&fixture);
    assert_finished(&fixture.heard, "abc");
    assert_int_equal(preemptions(&fixture), 0);
    tear_down(&fixture);
}

/* One that comes back takes the full pages of its own answer from the prefix cache, and goes on with the same tokens. */
static void answers_come_back_from_the_cache(void **state)
{
    static const uint8_t salt[BULLA_PREFIX_SALT_BYTES] = {1};
    uint32_t tokens[100];
    for (int is_disturbed = 0; is_disturbed < 2; is_disturbed++) {
        struct fixture fixture;
        bulla_error error = {0};
        set_up(&fixture, &(bulla_engine_options){.threads = 1, .pages = 40, .prefix_salt = salt},
               &(struct scheduler_options){.most_running = 1});
        struct scheduler_request request = request_of(&fixture, 0, "ada", 70, 100);
        request.shares_prefix = 1;
        assert_ok(scheduler_add(fixture.scheduler, &request, &error), error);
        steps(&fixture, 70);
        if (is_disturbed)
            add(&fixture, 1, "bob", 10, 1, 1);
        run_all(&fixture);
        bulla_prefix_counters counters;
        bulla_engine_prefix_counters(fixture.engine, &counters);
        assert_int_equal(counters.positions_reused, is_disturbed ? 128 : 0);
        size_t count = 0;
        for (size_t i = 0; i < fixture.heard.drawn_count; i++) {
            if (fixture.heard.drawn[i] != 0)
                continue;
            if (is_disturbed)
                assert_int_equal(fixture.heard.tokens[i], tokens[count]);
            tokens[count++] = fixture.heard.tokens[i];
        }
        assert_int_equal(count, 100);
        tear_down(&fixture);
    }
}

/* Several choices of one prompt: its pages are computed once. */
static void choices_share_a_prompt(void **state)
{
    static const uint8_t salt[BULLA_PREFIX_SALT_BYTES] = {1};
    struct fixture fixture;
    bulla_error error = {0};
    set_up(&fixture, &(bulla_engine_options){.threads = 1, .pages = 40, .prefix_salt = salt},
           &(struct scheduler_options){.step_rows = 50});
    for (uint64_t id = 0; id < 8; id++) {
        struct scheduler_request request = request_of(&fixture, id, "ada", 150, 4);
        request.shares_prefix = 1;
        request.sampling.temperature = 1000000;
        request.sampling.seed = bulla_sampling_choice_seed(1, id);
        assert_ok(scheduler_add(fixture.scheduler, &request, &error), error);
    }
    run_all(&fixture);
    for (uint64_t id = 0; id < 8; id++)
        assert_int_equal(fixture.heard.finishes[id].cached_tokens, id ? 128 : 0);
    tear_down(&fixture);
}

/* However many wait for one prompt, others go past them. */
static void choices_hold_up_nobody(void **state)
{
    static const uint8_t salt[BULLA_PREFIX_SALT_BYTES] = {1};
    struct fixture fixture;
    bulla_error error = {0};
    set_up(&fixture, &(bulla_engine_options){.threads = 1, .pages = 40, .prefix_salt = salt},
           &(struct scheduler_options){.step_rows = 180});
    struct scheduler_request request = request_of(&fixture, 0, "ada", 150, 1);
    request.shares_prefix = 1;
    for (; request.id < 100; request.id++)
        assert_ok(scheduler_add(fixture.scheduler, &request, &error), error);
    add(&fixture, 100, "ada", 20, 1, 0);
    steps(&fixture, 1);
    assert_int_equal(fixture.heard.finish_count, 2);
    assert_int_equal(fixture.heard.finishes[100].output_tokens, 1);
    run_all(&fixture);
    for (int id = 1; id < 100; id++)
        assert_int_equal(fixture.heard.finishes[id].cached_tokens, 128);
    tear_down(&fixture);
}

static uint64_t positions_queried(const struct fixture *fixture)
{
    bulla_prefix_counters counters;
    bulla_engine_prefix_counters(fixture->engine, &counters);
    return counters.positions_queried;
}

/* One that found no room is tried again when something changed what it needs: a prompt of its tenant went on, or another
 * one started; and otherwise not before there are pages. */
static void no_room_is_looked_at_again(void **state)
{
    static const uint8_t salt[BULLA_PREFIX_SALT_BYTES] = {1};
    struct fixture fixture;
    bulla_error error = {0};
    set_up(&fixture, &(bulla_engine_options){.threads = 1, .pages = 8, .prefix_salt = salt},
           &(struct scheduler_options){.step_rows = 8});
    for (uint64_t id = 0; id < 6; id++)
        add(&fixture, id, "bob", 1, 50, 0);
    steps(&fixture, 1);
    add(&fixture, 6, "ada", 7, 40, 0);
    struct scheduler_request request = request_of(&fixture, 7, "ada", 100, 3);
    request.shares_prefix = 1;
    assert_ok(scheduler_add(fixture.scheduler, &request, &error), error);
    for (uint64_t step = 1; step <= 4; step++) { /* two rows in each of the first three */
        steps(&fixture, 1);
        assert_int_equal(positions_queried(&fixture), 100 * step);
    }
    steps(&fixture, 6);
    assert_int_equal(positions_queried(&fixture), 400);
    add(&fixture, 8, "eve", 1, 30, 1);
    steps(&fixture, 6);
    assert_int_equal(positions_queried(&fixture), 500);
    run_all(&fixture);
    assert_int_equal(positions_queried(&fixture), 600);
    tear_down(&fixture);
}

/* A prompt of high priority does not wait for the pages of one of low priority, which gets no rows beside others. */
static void priority_waits_for_no_prefix(void **state)
{
    static const uint8_t salt[BULLA_PREFIX_SALT_BYTES] = {1};
    struct fixture fixture;
    bulla_error error = {0};
    set_up(&fixture, &(bulla_engine_options){.threads = 1, .pages = 40, .prefix_salt = salt},
           &(struct scheduler_options){.step_rows = 50});
    struct scheduler_request request = request_of(&fixture, 0, "ada", 200, 1);
    request.shares_prefix = 1;
    assert_ok(scheduler_add(fixture.scheduler, &request, &error), error);
    steps(&fixture, 1);
    add(&fixture, 1, "bob", 200, 1, 1);
    request.id = 2;
    request.priority = 1;
    assert_ok(scheduler_add(fixture.scheduler, &request, &error), error);
    run_all(&fixture);
    assert_finished(&fixture.heard, "bca");
    tear_down(&fixture);
}

/* Nor does a prompt wait for one that is not being computed. */
static void nothing_waits_for_the_idle(void **state)
{
    static const uint8_t salt[BULLA_PREFIX_SALT_BYTES] = {1};
    struct fixture fixture;
    bulla_error error = {0};
    set_up(&fixture, &(bulla_engine_options){.threads = 1, .pages = 40, .prefix_salt = salt},
           &(struct scheduler_options){.step_rows = 50});
    struct scheduler_request request = request_of(&fixture, 0, "ada", 70, 1);
    request.shares_prefix = 1;
    assert_ok(scheduler_add(fixture.scheduler, &request, &error), error);
    steps(&fixture, 1);
    request.id = 1;
    assert_ok(scheduler_add(fixture.scheduler, &request, &error), error);
    fixture.scheduler->running[0]->latest_step--;
    steps(&fixture, 1);
    assert_int_equal(fixture.scheduler->running_count, 1);
    assert_int_equal(fixture.scheduler->running[0]->id, 1);
    run_all(&fixture);
    tear_down(&fixture);
}

/* --- limits --- */

static void refuse(struct fixture *fixture, const struct scheduler_request *request, int code, const char *part)
{
    bulla_error error = {0};
    assert_int_equal(scheduler_add(fixture->scheduler, request, &error), code);
    if (!strstr(error.text, part))
        fail_msg("\"%s\" does not say \"%s\"", error.text, part);
}

static void limits(void **state)
{
    static const struct scheduler_text stops[] = {{"", 0}, {"\xff", 1}};
    struct fixture fixture;
    set_up(&fixture, &(bulla_engine_options){.threads = 1, .pages = 3}, &(struct scheduler_options){.most_running = 2});
    struct scheduler_request request = request_of(&fixture, 1, NULL, 0, 5);
    refuse(&fixture, &request, BULLA_E_USAGE, "empty");
    request = request_of(&fixture, 1, NULL, CONTEXT + 1, 5);
    refuse(&fixture, &request, BULLA_E_LIMIT, "301 tokens");
    request = request_of(&fixture, 1, NULL, 193, 0);
    refuse(&fixture, &request, BULLA_E_LIMIT, "need 4 pages");
    request = request_of(&fixture, 1, NULL, 100, 94);
    refuse(&fixture, &request, BULLA_E_LIMIT, "answer of 94 need 4 pages");
    request.embeds = 1;
    request.prompt_count = 193;
    refuse(&fixture, &request, BULLA_E_LIMIT, "pages");
    request = request_of(&fixture, 1, NULL, 10, 5);
    request.logprobs = 21;
    refuse(&fixture, &request, BULLA_E_USAGE, "logprobs");
    request.logprobs = -1;
    request.sampling.top_p = 2000000;
    refuse(&fixture, &request, BULLA_E_USAGE, "top_p");
    request = request_of(&fixture, 1, NULL, 10, 5);
    request.stops = stops;
    request.stop_count = 1;
    refuse(&fixture, &request, BULLA_E_USAGE, "stop string 0 is empty");
    request.stops++;
    refuse(&fixture, &request, BULLA_E_USAGE, "stop string 0 is not UTF-8");
    request.stop_count = 17;
    refuse(&fixture, &request, BULLA_E_USAGE, "found 17");
    request.stop_count = 0;
    request.grammar = "{\"schema\":{\"$dynamicRef\":\"#a\"}}";
    request.grammar_length = strlen(request.grammar);
    refuse(&fixture, &request, BULLA_E_UNSUPPORTED, "$dynamicRef");
    assert_true(scheduler_is_idle(fixture.scheduler));
    add(&fixture, 1, NULL, 100, 93, 0);
    request = request_of(&fixture, 1, NULL, 10, 5);
    refuse(&fixture, &request, BULLA_E_USAGE, "number 1");
    add(&fixture, 2, NULL, 100, 0, 0); /* as much as the pool holds */
    run_all(&fixture);
    for (int i = 1; i < 3; i++) {
        assert_int_equal(fixture.heard.finishes[i].output_tokens, 93);
        assert_int_equal(fixture.heard.finishes[i].reason, SCHEDULER_LENGTH);
    }
    tear_down(&fixture);
}

static void whole_contexts(void **state)
{
    struct fixture fixture;
    set_up(&fixture, &ONE_THREAD, &(struct scheduler_options){.most_running = 2});
    add(&fixture, 0, NULL, CONTEXT, 0, 0);
    add(&fixture, 1, NULL, CONTEXT - 1, 0, 0);
    add(&fixture, 2, NULL, CONTEXT - 40, 60, 0);
    run_all(&fixture);
    for (int i = 0; i < 3; i++) {
        static const uint64_t counts[] = {0, 1, 40};
        assert_int_equal(fixture.heard.finishes[i].output_tokens, counts[i]);
        assert_int_equal(fixture.heard.finishes[i].reason, SCHEDULER_LENGTH);
    }
    tear_down(&fixture);
}

static void deadlines(void **state)
{
    struct fixture fixture;
    bulla_error error = {0};
    set_up(&fixture, &ONE_THREAD, &(struct scheduler_options){.most_running = 1});
    struct scheduler_request late = request_of(&fixture, 1, NULL, 10, 5);
    struct scheduler_request running = request_of(&fixture, 2, NULL, 10, 200);
    late.deadline = 1;
    running.deadline = clock_nanoseconds() + 50000000;
    assert_ok(scheduler_add(fixture.scheduler, &running, &error), error);
    assert_ok(scheduler_add(fixture.scheduler, &late, &error), error);
    steps(&fixture, 1);
    assert_finished(&fixture.heard, "b");
    assert_int_equal(fixture.heard.finishes[1].output_tokens, 0);
    while (clock_nanoseconds() < running.deadline)
        continue;
    run_all(&fixture);
    assert_finished(&fixture.heard, "bc");
    assert_int_equal(fixture.heard.finishes[2].reason, SCHEDULER_DEADLINE);
    tear_down(&fixture);
}

/* --- text, logprobs, embeddings --- */

/* "ababac" ends first where "abac" does; what begins like it is held back until it is not. */
static void stop_strings(void **state)
{
    static const struct scheduler_text stops[] = {{"\x05\x06\x05\x07", 4}, {"\x06\x05\x07\x08\x09", 5}};
    static const char *const words[] = {"\x05\x06\x05\x06\x05\x07\x08", "\x05\x06\x08", "\x06\x05\x07\x08\x05"};
    static const char *const heard[] = {"|||\x05\x06|||.", "||\x05\x06\x08|.", "||||\x06\x05\x07\x08|.\x05"};
    bulla_error error = {0};
    struct fixture fixture;
    set_up(&fixture, &ONE_THREAD, &(struct scheduler_options){.most_running = 1});
    for (int w = 0; w < 3; w++) {
        struct job job = {.id = 0};
        struct scheduler_request request = {.stops = stops, .stop_count = 2};
        struct buffer said = {0};
        const struct stop *stop = NULL;
        assert_ok(text_open(&job, &request, &error), error);
        for (const char *byte = words[w]; *byte && !stop; byte++) {
            assert_ok(text_append(bulla_model_tokenizer(fixture.model), &job, (uint8_t)*byte, &stop, &error), error);
            buffer_append(&said, job.out.data, job.out.length);
            buffer_append_text(&said, "|");
        }
        assert_int_equal(stop != NULL, w == 0);
        if (!stop)
            assert_ok(text_end(&job, &stop, &error), error);
        buffer_append_text(&said, ".");
        buffer_append(&said, job.held.data, job.held.length);
        assert_string_equal((const char *)said.data, heard[w]);
        text_close(&job);
        buffer_free(&said);
    }
    tear_down(&fixture);
}

/* The logarithms are those of the logits, the largest first and of equal ones the lowest id. */
static void logprobs(void **state)
{
    int32_t logits[200];
    struct scheduler_logprob top[SCHEDULER_MOST_LOGPROBS];
    for (int round = 0; round < 200; round++) {
        uint32_t count = 1 + (uint32_t)round, likeliest = count < 20 ? count : 20;
        double sum = 0;
        for (uint32_t i = 0; i < count; i++) {
            logits[i] = (int32_t)((i * 7919u + (uint32_t)round * 104729u) % 31u) * 20000 - 300000;
            sum += exp(logits[i] / 65536.0);
        }
        uint32_t token = (uint32_t)round / 2;
        double found = logprobs_find(logits, count, 16, token, top, 20);
        assert_true(fabs(found - (logits[token] / 65536.0 - log(sum))) < 1e-9);
        for (uint32_t i = 0; i < likeliest; i++) {
            uint32_t before = 0;
            for (uint32_t id = 0; id < count; id++)
                before += logits[id] > logits[top[i].token] ||
                          (logits[id] == logits[top[i].token] && id < top[i].token);
            assert_int_equal(before, i);
            assert_true(fabs(top[i].logprob - (logits[top[i].token] / 65536.0 - log(sum))) < 1e-9);
        }
    }
}

/* The embedding of a prompt by itself, from one piece of the engine. */
static void embed_alone(struct fixture *fixture, size_t count, double *embedding)
{
    bulla_error error = {0};
    size_t size = bulla_engine_hidden_size(fixture->engine);
    int32_t *states = memory_alloc(count * size, sizeof *states, &error);
    bulla_sequence *sequence;
    assert_ok(bulla_sequence_open_hidden(fixture->engine, &sequence, &error), error);
    bulla_piece piece = {.sequence = sequence, .ids = fixture->prompt, .count = (uint32_t)count,
                         .logits_from = (uint32_t)count, .hidden = states};
    assert_ok(bulla_engine_step(fixture->engine, &piece, 1, &error), error);
    double total = 0;
    memset(embedding, 0, size * sizeof *embedding);
    for (size_t p = 0; p < count; p++) {
        double squares = 0;
        for (size_t i = 0; i < size; i++)
            squares += (double)states[p * size + i] * states[p * size + i];
        for (size_t i = 0; i < size; i++)
            embedding[i] += states[p * size + i] / sqrt(squares) / (double)count;
    }
    for (size_t i = 0; i < size; i++)
        total += embedding[i] * embedding[i];
    for (size_t i = 0; i < size; i++)
        embedding[i] /= sqrt(total);
    bulla_sequence_close(sequence);
    memory_free(states);
}

/* Beside answers, in chunks, given back once in the middle; bit for bit the same. */
static void embeddings(void **state)
{
    float first[512];
    double alone[512];
    static const uint32_t rows[] = {0, 1, 7, 33};
    uint64_t preemptions = 0;
    for (int r = 0; r < 4; r++) {
        struct fixture fixture;
        bulla_error error = {0};
        set_up(&fixture, &(bulla_engine_options){.threads = 1, .pages = 5, .batch_rows = 5},
               &(struct scheduler_options){.step_rows = rows[r]});
        embed_alone(&fixture, 150, alone);
        add(&fixture, 0, NULL, 40, 100, 0);
        struct scheduler_request request = request_of(&fixture, 1, NULL, 150, 0);
        request.embeds = 1;
        memset(&request.sampling, 0, sizeof request.sampling);
        assert_ok(scheduler_add(fixture.scheduler, &request, &error), error);
        steps(&fixture, 2);
        add(&fixture, 2, NULL, 70, 100, 1);
        run_all(&fixture);
        struct scheduler_counters counters;
        scheduler_count(fixture.scheduler, &counters);
        preemptions += counters.preemptions;
        assert_int_equal(fixture.heard.embeddings, 1);
        assert_int_equal(fixture.heard.finishes[1].reason, SCHEDULER_STOP);
        assert_int_equal(fixture.heard.finishes[1].output_tokens, 0);
        assert_int_equal(fixture.heard.embedding_count, bulla_engine_hidden_size(fixture.engine));
        for (size_t i = 0; i < fixture.heard.embedding_count; i++)
            assert_true(fabs(fixture.heard.embedding[i] - alone[i]) < 1e-6);
        if (r == 0)
            memcpy(first, fixture.heard.embedding, sizeof first);
        assert_memory_equal(first, fixture.heard.embedding, fixture.heard.embedding_count * sizeof *first);
        tear_down(&fixture);
    }
    assert_true(preemptions > 1);
}

/* --- failures --- */

static const char grammar[] = "{\"repeat\":{\"choice\":[{\"literal\":\"!\"},{\"literal\":\"#\"}]},\"min\":1,\"max\":5}";

/* Requests of every kind, with pages that do not suffice at once. */
static int add_each_kind(struct fixture *fixture, struct scheduler *scheduler, int accepted[5])
{
    static const struct scheduler_text stop = {"\x01\x02\x03", 3};
    bulla_error error = {0};
    int failures = 0;
    for (uint64_t id = 0; id < 5; id++) {
        struct scheduler_request request = request_of(fixture, id, id % 2 ? "ada" : NULL, 50 + 20 * id, 40);
        request.shares_prefix = 1;
        request.embeds = id == 2;
        request.stops = &stop;
        request.stop_count = id == 1;
        request.logprobs = (int)id;
        request.grammar = id == 3 ? grammar : NULL;
        request.grammar_length = strlen(grammar);
        bulla_error_clear(&error);
        int code = scheduler_add(scheduler, &request, &error);
        assert_true(code == BULLA_OK || code == BULLA_E_MEMORY);
        accepted[id] = code == BULLA_OK;
        failures += code != BULLA_OK;
    }
    return failures;
}

/* Every allocation fails once: what could not be added was refused, what could not go on failed by itself, and every
 * other answer is whole. */
static void allocation_failures(void **state)
{
    static const uint8_t salt[BULLA_PREFIX_SALT_BYTES] = {1};
    uint64_t whole[5] = {0}, most = 1;
    size_t whole_count = 0;
    int is_first = 1, failed = 0;
    struct fixture fixture;
    set_up(&fixture, &(bulla_engine_options){.threads = 1, .pages = 6, .prefix_salt = salt},
           &(struct scheduler_options){0});
    for (uint64_t n = 0; n < most; n++) {
        struct scheduler_events events = {&fixture.heard, hear_token, hear_finish, hear_embedding};
        struct scheduler_options options = {.speculate = 4, .step_rows = 40};
        struct scheduler *scheduler;
        bulla_error error = {0};
        int accepted[5] = {0}, failures = 0;
        buffer_free(&fixture.heard.text);
        memset(&fixture.heard, 0, sizeof fixture.heard);
        for (int i = 0; i < 64; i++) /* no memory for what is heard is asked for later */
            buffer_extend(&fixture.heard.text, 64);
        fixture.heard.text.length = 0;
        uint64_t before = memory_allocation_count();
        memory_inject_failure(n, 0);
        int code = scheduler_open(fixture.engine, fixture.model, &options, &events, &scheduler, &error);
        assert_true(code == BULLA_OK || code == BULLA_E_MEMORY);
        if (code == BULLA_OK) {
            scheduler->always_speculates = 1;
            failures = add_each_kind(&fixture, scheduler, accepted);
            while (!scheduler_is_idle(scheduler))
                assert_ok(scheduler_step(scheduler, &error), error);
        }
        memory_inject_failure(0, 0);
        scheduler_close(code == BULLA_OK ? scheduler : NULL);
        assert_int_equal(bulla_engine_pages_free(fixture.engine), 6);
        size_t finished = 0;
        for (int i = 0; i < 5; i++) {
            finished += (size_t)accepted[i];
            const struct scheduler_finish *finish = &fixture.heard.finishes[i];
            if (!accepted[i])
                continue;
            if (finish->reason == SCHEDULER_FAILED)
                failures++;
            else if (is_first)
                whole[i] = finish->output_tokens;
            else
                assert_int_equal(finish->output_tokens, whole[i]);
        }
        assert_int_equal(fixture.heard.finish_count, finished);
        if (is_first)
            whole_count = fixture.heard.drawn_count;
        else if (failures == 0 && code == BULLA_OK)
            assert_int_equal(fixture.heard.drawn_count, whole_count);
        failed += failures;
        most = is_first ? memory_allocation_count() - before + 10 : most; /* without a prefix it takes the most */
        is_first = 0;
    }
    print_message("%llu allocations, %d requests failed by themselves\n", (unsigned long long)most, failed);
    assert_true(failed > 30);
    tear_down(&fixture);
}

/* --- finishes told from inside --- */

static void cancel_in_finish(void *context, const struct scheduler_finish *finish)
{
    struct heard *heard = context;
    hear_finish(context, finish);
    scheduler_cancel(heard->scheduler, finish->request + 1);
    scheduler_cancel(heard->scheduler, finish->request);
}

/* A finish that cancels the next request, whose finish cancels the next; an id is free again in its own finish. */
static void cancelling_from_inside(void **state)
{
    struct fixture fixture;
    bulla_error error = {0};
    set_up(&fixture, &ONE_THREAD, &(struct scheduler_options){.most_running = 2});
    scheduler_close(fixture.scheduler);
    struct scheduler_events events = {&fixture.heard, hear_token, cancel_in_finish, hear_embedding};
    assert_ok(scheduler_open(fixture.engine, fixture.model, &(struct scheduler_options){.most_running = 3}, &events,
                             &fixture.scheduler, &error), error);
    fixture.heard.scheduler = fixture.scheduler;
    for (uint64_t id = 0; id < 6; id++)
        add(&fixture, id, NULL, 10, id == 0 ? 3 : 10, 0);
    add(&fixture, 8, NULL, 10, 2, 0);
    steps(&fixture, 3);
    assert_finished(&fixture.heard, "abcdef");
    run_all(&fixture);
    assert_finished(&fixture.heard, "abcdefi");
    scheduler_cancel(fixture.scheduler, 12345);
    tear_down(&fixture);
}

static void cancel_and_add_in_finish(void *context, const struct scheduler_finish *finish)
{
    static const uint32_t prompt[] = {1, 2, 3};
    struct heard *heard = context;
    bulla_error error = {0};
    hear_finish(context, finish);
    if (finish->reason != SCHEDULER_DEADLINE)
        return;
    scheduler_cancel(heard->scheduler, finish->request + 1);
    struct scheduler_request more = {.id = finish->request + 20, .prompt = prompt, .prompt_count = 3, .max_tokens = 2,
                                     .logprobs = -1, .deadline = finish->request == 0 ? 2 : UINT64_MAX};
    bulla_sampling_defaults(&more.sampling);
    assert_ok(scheduler_add(heard->scheduler, &more, &error), error);
}

/* Deadlines that pass together, in whose finishes others of them are cancelled, and new ones come that are late too. */
static void deadlines_from_inside(void **state)
{
    struct fixture fixture;
    bulla_error error = {0};
    set_up(&fixture, &ONE_THREAD, &(struct scheduler_options){.most_running = 1});
    scheduler_close(fixture.scheduler);
    struct scheduler_events events = {&fixture.heard, hear_token, cancel_and_add_in_finish, hear_embedding};
    assert_ok(scheduler_open(fixture.engine, fixture.model, &(struct scheduler_options){.most_running = 3}, &events,
                             &fixture.scheduler, &error), error);
    fixture.heard.scheduler = fixture.scheduler;
    for (uint64_t id = 0; id < 6; id++) {
        struct scheduler_request request = request_of(&fixture, id, NULL, 10, 5);
        request.deadline = id == 5 ? UINT64_MAX : 1;
        assert_ok(scheduler_add(fixture.scheduler, &request, &error), error);
    }
    steps(&fixture, 1);
    assert_finished(&fixture.heard, "abcdef");
    assert_int_equal(fixture.heard.finishes[1].reason, SCHEDULER_CANCELLED);
    assert_int_equal(fixture.heard.finishes[2].reason, SCHEDULER_DEADLINE);
    assert_int_equal(fixture.heard.finishes[5].reason, SCHEDULER_CANCELLED);
    steps(&fixture, 1);
    assert_int_equal(fixture.heard.finishes[20].reason, SCHEDULER_DEADLINE);
    run_all(&fixture);
    assert_int_equal(fixture.heard.finishes[22].reason, SCHEDULER_LENGTH);
    assert_int_equal(fixture.heard.finishes[24].reason, SCHEDULER_LENGTH);
    tear_down(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tenants_take_turns),        cmocka_unit_test(turns_go_by_service),
        cmocka_unit_test(idling_saves_nothing),      cmocka_unit_test(priority_goes_first),
        cmocka_unit_test(prompts_and_decoders_share_steps), cmocka_unit_test(prompts_take_turns),
        cmocka_unit_test(short_prompts_pass),        cmocka_unit_test(cached_prompts_pass),
        cmocka_unit_test(nobody_starves_in_small_steps),
        cmocka_unit_test(the_last_gives_way),        cmocka_unit_test(choices_share_a_prompt),
        cmocka_unit_test(a_tenant_gets_a_place),     cmocka_unit_test(a_tenant_gets_pages),
        cmocka_unit_test(only_ones_stay),            cmocka_unit_test(priority_waits_for_no_prefix),
        cmocka_unit_test(nothing_waits_for_the_idle), cmocka_unit_test(choices_hold_up_nobody),
        cmocka_unit_test(answers_come_back_from_the_cache), cmocka_unit_test(no_room_is_looked_at_again), cmocka_unit_test(crowds_go_first),
        cmocka_unit_test(tokens_come_after_their_batch),
        cmocka_unit_test(deadlines_from_inside),
        cmocka_unit_test(limits),                    cmocka_unit_test(whole_contexts),
        cmocka_unit_test(deadlines),                 cmocka_unit_test(stop_strings),
        cmocka_unit_test(logprobs),                  cmocka_unit_test(embeddings),
        cmocka_unit_test(allocation_failures),       cmocka_unit_test(cancelling_from_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
