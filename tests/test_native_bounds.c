/* What the native backend holds is bounded: places by tenant, bytes under way, bytes that wait to be sent, and time
 * before there is a worker. */
#include "test.h"

#include <signal.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "native_fixture.h"

static struct native_fixture fixture;

static struct native *native(void)
{
    return native_fixture_native(&fixture);
}

static void open_fixture(const char *as, uint32_t most_running, uint64_t most_waiting)
{
    bulla_error error = {0};
    native_fixture_open(&fixture, "{{ messages[-1].content }}", as);
    fixture.options.most_running = most_running;
    fixture.options.most_waiting = most_waiting;
    assert_ok(native_fixture_start(&fixture, &error), error);
}

static void wait_until_ready(void)
{
    native_fixture_until(&fixture, native_fixture_state(&fixture) == BACKEND_READY);
}

static void expect_overloaded(const struct heard *heard, const char *part)
{
    assert_int_equal(heard->problem.status, 503);
    assert_string_equal(heard->problem.code, "overloaded");
    assert_true(heard->problem.retry_after > 0);
    if (!strstr(heard->problem.message, part))
        fail_msg("\"%s\" does not say \"%s\"", heard->problem.message, part);
}

static uint64_t running(void)
{
    struct backend_counters counters;
    fixture.backend->class->count(fixture.backend, &counters);
    return counters.running + counters.waiting;
}

/* ---- Places ---- */

enum { PLACES = 8 };

/* As many answers of the tenant as there is room for, at most `count`, from answers[0] on. */
static int take_places(struct heard *answers, const char *tenant, int count)
{
    struct answer_request request = heard_request("h");
    request.tenant = tenant;
    for (int i = 0; i < count; i++)
        if (!heard_start(&fixture, &answers[i], &request))
            return i;
    return count;
}

static void give_places(struct heard *answers, int count)
{
    for (int i = 0; i < count; i++) {
        heard_cancel(&answers[i]);
        heard_free(&answers[i]);
    }
}

/* One key alone may have all places; another one still has its half. */
static void one_tenant_does_not_take_every_place(void **state)
{
    (void)state;
    struct heard ada[PLACES + 1] = {0}, ben[PLACES + 1] = {0}, nobody[PLACES + 1] = {0};
    open_fixture(NULL, PLACES / 2, PLACES / 2);
    wait_until_ready();
    assert_int_equal(take_places(ada, "ada", PLACES + 1), PLACES);
    expect_overloaded(&ada[PLACES], "too many answers are under way");
    assert_int_equal(take_places(ben, "ben", PLACES + 1), PLACES / 2);
    expect_overloaded(&ben[PLACES / 2], "of this key");
    assert_int_equal(take_places(nobody, NULL, 1), 0);
    expect_overloaded(&nobody[0], "too many answers are under way");
    give_places(ada + PLACES / 2 - 1, PLACES / 2 + 1); /* fewer than half are left */
    assert_int_equal(take_places(ada + PLACES / 2 - 1, "ada", 2), 1);
    expect_overloaded(&ada[PLACES / 2], "of this key");
    give_places(ben, PLACES / 2);
    assert_int_equal(take_places(ada + PLACES / 2, "ada", PLACES), PLACES / 2); /* alone again */
    give_places(ada, PLACES);
    assert_null(native()->tenants);
    assert_int_equal(take_places(nobody, NULL, PLACES), PLACES);
    give_places(nobody, PLACES);
    native_fixture_until(&fixture, running() == 0);
    native_fixture_close(&fixture);
}

/* ---- Bytes ---- */

enum { GRAMMAR_BYTES = 1000000, CHOICES = 4 };

/* A request whose grammar, for the worker of these tests, may be anything. */
static struct answer_request large_request(const char *prompt, char *grammar)
{
    struct answer_request request = heard_request(prompt);
    memset(grammar, ' ', GRAMMAR_BYTES);
    request.choices = CHOICES;
    request.grammar = grammar;
    request.grammar_length = GRAMMAR_BYTES;
    return request;
}

static void choices_are_sent_together(void **state)
{
    (void)state;
    static char grammar[GRAMMAR_BYTES];
    struct heard heard = {0};
    struct answer_request request = large_request("g", grammar);
    open_fixture(NULL, 0, 0);
    wait_until_ready();
    pid_t worker = native()->run.process.pid;
    kill(worker, SIGSTOP);
    request.max_tokens = 5;
    assert_true(heard_start(&fixture, &heard, &request));
    assert_in_range(native()->run.out.length, GRAMMAR_BYTES / 2, GRAMMAR_BYTES + 1000);
    assert_in_range(native()->held_bytes, GRAMMAR_BYTES, GRAMMAR_BYTES + 1000);
    kill(worker, SIGCONT);
    native_fixture_until(&fixture, heard_is_over(&heard));
    for (int i = 0; i < CHOICES; i++)
        assert_int_equal(heard.choices[i].tokens, 5);
    assert_true(native()->held_bytes == 0);
    heard_free(&heard);
    native_fixture_close(&fixture);
}

/* A worker that reads nothing is not written to for ever, also not about answers that are over; the memory for it is
 * given back. */
static void what_waits_to_be_sent_is_bounded(void **state)
{
    (void)state;
    static char grammar[GRAMMAR_BYTES];
    struct heard heard = {0};
    struct answer_request request = large_request("h", grammar);
    open_fixture(NULL, 0, 0);
    wait_until_ready();
    pid_t worker = native()->run.process.pid;
    kill(worker, SIGSTOP);
    int count = 0;
    for (; count < 200 && heard_start(&fixture, &heard, &request); count++) {
        heard_cancel(&heard);
        heard_free(&heard);
    }
    assert_in_range(count, 10, 100);
    expect_overloaded(&heard, "to be sent");
    kill(worker, SIGCONT);
    native_fixture_until(&fixture, native()->run.out.length == 0);
    assert_int_equal(native()->run.out.capacity, 0);
    assert_true(heard_start(&fixture, &heard, &request));
    heard_cancel(&heard);
    heard_free(&heard);
    native_fixture_until(&fixture, running() == 0);
    native_fixture_close(&fixture);
}

/* Biases and stop strings count for each choice, prompts too, and grammars. */
static void what_answers_hold_is_bounded(void **state)
{
    (void)state;
    enum { BIASES = 500000, MOST = 64 };
    struct heard heard[MOST] = {0};
    bulla_error error = {0};
    struct answer_request request = heard_request("h");
    bulla_logit_bias *biases = memory_alloc(BIASES, sizeof *biases, &error);
    request.choices = CHOICES;
    request.sampling.biases = biases;
    request.sampling.bias_count = BIASES;
    open_fixture(NULL, 0, 0);
    wait_until_ready();
    int count = 0;
    while (count < MOST && heard_start(&fixture, &heard[count], &request)) {
        count++;
        native_fixture_until(&fixture, native_run_unsent(&native()->run) == 0);
    }
    assert_in_range(count, 2, 16);
    expect_overloaded(&heard[count], "too large together");
    assert_true(native()->held_bytes <= 256u << 20);
    give_places(heard, count);
    assert_true(native()->held_bytes == 0);
    memory_free(biases);
    native_fixture_close(&fixture);
}

/* ---- Deadlines ---- */

static void start_again(struct heard *heard)
{
    static struct answer_request request;
    request = heard_request("g");
    request.deadline = 1;
    heard->on_end = NULL;
    heard->fails = 0;
    assert_true(heard_start(&fixture, heard, &request));
}

/* There is no worker yet that would see them. */
static void deadlines_pass_while_answers_wait(void **state)
{
    (void)state;
    struct heard late = {0}, early = {0}, never = {0}, again = {0};
    struct answer_request request = heard_request("g");
    open_fixture("sleeps", 0, 0);
    assert_true(heard_start(&fixture, &never, &request));
    request.deadline = clock_nanoseconds() + 40000000;
    assert_true(heard_start(&fixture, &late, &request));
    request.deadline = clock_nanoseconds() + 20000000;
    assert_true(heard_start(&fixture, &early, &request));
    request.deadline = 1; /* passed already */
    again.on_end = start_again;
    assert_true(heard_start(&fixture, &again, &request));
    native_fixture_until(&fixture, again.fails && !again.answer);
    native_fixture_until(&fixture, early.fails);
    native_fixture_until(&fixture, late.fails);
    assert_int_equal(late.problem.status, 504);
    assert_string_equal(late.problem.code, "deadline");
    assert_string_equal(again.problem.code, "deadline");
    assert_false(heard_is_over(&never));
    heard_cancel(&never);
    assert_true(native()->waiting_choices == 0 && native()->next_deadline == UINT64_MAX);
    heard_free(&never);
    heard_free(&late);
    heard_free(&early);
    heard_free(&again);
    native_fixture_close(&fixture);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_tenant_does_not_take_every_place),
        cmocka_unit_test(choices_are_sent_together),
        cmocka_unit_test(what_waits_to_be_sent_is_bounded),
        cmocka_unit_test(what_answers_hold_is_bounded),
        cmocka_unit_test(deadlines_pass_while_answers_wait),
    };
    int status = native_fixture_worker(argc, argv);
    return status >= 0 ? status : cmocka_run_group_tests(tests, NULL, NULL);
}
