/* The scheduler's order: whose turn it is, who gets rows, pages and places, who gives way. */
#include "test.h"

#include "scheduler_fixture.h"

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

/* A prompt of higher priority starts at once. A short one passes those that run and those that wait, and many short
 * ones take turns too. */
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

/* While many prompts wait, tokens are decoded every third step; in each, where few are left, one prompt is alone, or
 * the prompts are of lower priority. */
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

/* One that comes back takes the full pages of its own answer from the prefix cache, and goes on with the same
 * tokens. */
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

/* One that found no room is tried again when something changed what it needs: a prompt of its tenant went on, or
 * another one started; and otherwise not before there are pages. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tenants_take_turns), cmocka_unit_test(turns_go_by_service),
        cmocka_unit_test(idling_saves_nothing), cmocka_unit_test(priority_goes_first),
        cmocka_unit_test(prompts_and_decoders_share_steps), cmocka_unit_test(prompts_take_turns),
        cmocka_unit_test(short_prompts_pass), cmocka_unit_test(cached_prompts_pass), cmocka_unit_test(crowds_go_first),
        cmocka_unit_test(tokens_come_after_their_batch), cmocka_unit_test(nobody_starves_in_small_steps),
        cmocka_unit_test(the_last_gives_way), cmocka_unit_test(a_tenant_gets_a_place),
        cmocka_unit_test(a_tenant_gets_pages), cmocka_unit_test(only_ones_stay),
        cmocka_unit_test(answers_come_back_from_the_cache), cmocka_unit_test(choices_share_a_prompt),
        cmocka_unit_test(choices_hold_up_nobody), cmocka_unit_test(no_room_is_looked_at_again),
        cmocka_unit_test(priority_waits_for_no_prefix), cmocka_unit_test(nothing_waits_for_the_idle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
