/* The scheduler's limits and failures; stop strings, logprobs and embeddings by themselves. */
#include "test.h"

#include <math.h>

#include "base/clock.h"
#include "base/memory.h"
#include "scheduler_fixture.h"

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
        cmocka_unit_test(limits), cmocka_unit_test(whole_contexts), cmocka_unit_test(deadlines),
        cmocka_unit_test(stop_strings), cmocka_unit_test(logprobs), cmocka_unit_test(embeddings),
        cmocka_unit_test(allocation_failures), cmocka_unit_test(cancelling_from_inside),
        cmocka_unit_test(deadlines_from_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
