/* Workers of the native backend that die, do not start, or do not speak as they should. */
#include "test.h"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "fake_scheduler.h"
#include "native_fixture.h"

static struct native_fixture fixture;

static void open_fixture(const char *as)
{
    bulla_error error = {0};
    native_fixture_open(&fixture, "{{ messages[-1].content }}", as);
    assert_ok(native_fixture_start(&fixture, &error), error);
}

static uint64_t restarts(void)
{
    struct backend_counters counters;
    fixture.backend->class->count(fixture.backend, &counters);
    return counters.restarts;
}

/* Waits for an answer to "g" and checks it. */
static void expect_service(void)
{
    struct heard heard = {0};
    struct answer_request request = heard_request("g");
    request.max_tokens = 6;
    assert_true(heard_start(&fixture, &heard, &request));
    native_fixture_until(&fixture, heard_is_over(&heard));
    assert_int_equal(heard.ends, 1);
    assert_int_equal(heard.choices[0].tokens, 6);
    heard_free(&heard);
}

static void a_killed_worker_costs_its_answers_only(void **state)
{
    (void)state;
    struct heard long_one = {0}, hanging = {0}, later = {0};
    struct answer_request endless = heard_request("g"), hangs = heard_request("h");
    open_fixture(NULL);
    expect_service();
    assert_true(heard_start(&fixture, &long_one, &endless));
    assert_true(heard_start(&fixture, &hanging, &hangs));
    native_fixture_until(&fixture, long_one.choices[0].tokens > 100);
    kill(native_fixture_native(&fixture)->run.process.pid, SIGKILL);
    native_fixture_until(&fixture, long_one.fails && hanging.fails);
    assert_string_equal(long_one.problem.code, "worker_died");
    assert_int_equal(long_one.problem.status, 503);
    assert_true(long_one.problem.retry_after > 0);
    assert_int_equal(native_fixture_state(&fixture), BACKEND_STARTING);
    endless.max_tokens = 5;
    assert_true(heard_start(&fixture, &later, &endless)); /* waits for the next worker */
    native_fixture_until(&fixture, heard_is_over(&later));
    assert_int_equal(later.choices[0].tokens, 5);
    assert_true(later.usage.queued_nanoseconds > 0);
    assert_int_equal(restarts(), 1);
    assert_int_equal(native_fixture_state(&fixture), BACKEND_READY);
    struct backend_counters counters;
    native_fixture_until(&fixture, (fixture.backend->class->count(fixture.backend, &counters),
                                    counters.output_tokens > 111));
    heard_free(&long_one);
    heard_free(&hanging);
    heard_free(&later);
    native_fixture_close(&fixture);
}

/* Stopped, it neither ends nor answers: the front kills it, but not while it has nothing to do. */
static void a_stuck_worker_is_killed(void **state)
{
    (void)state;
    struct heard heard = {0};
    bulla_error error = {0};
    struct answer_request request = heard_request("g");
    native_fixture_open(&fixture, "{{ messages[-1].content }}", NULL);
    fixture.options.stuck_seconds = 1;
    assert_ok(native_fixture_start(&fixture, &error), error);
    expect_service();
    uint64_t idle_until = clock_nanoseconds() + 2500000000;
    native_fixture_until(&fixture, clock_nanoseconds() > idle_until);
    assert_int_equal(restarts(), 0);
    kill(native_fixture_native(&fixture)->run.process.pid, SIGSTOP);
    assert_true(heard_start(&fixture, &heard, &request));
    native_fixture_until(&fixture, heard.fails);
    assert_string_equal(heard.problem.code, "worker_died");
    heard_free(&heard);
    expect_service();
    assert_int_equal(restarts(), 1);
    native_fixture_close(&fixture);
}

static struct answer_request again_request;

static void start_again(struct heard *heard)
{
    static int is_first = 1;
    if (is_first) {
        is_first = 0;
        heard->fails = 0;
        assert_true(heard_start(heard->fixture, heard, &again_request));
    }
}

/* An answer that kills its worker, one that fails its engine, tokens that no vocabulary has, and an end too many. */
static void whatever_ends_the_worker_another_follows(void **state)
{
    (void)state;
    static const char *const prompts[] = {"k", "e", "v"};
    open_fixture(NULL);
    for (size_t i = 0; i < 3; i++) {
        struct heard heard = {0};
        struct answer_request request = heard_request(prompts[i]);
        assert_true(heard_start(&fixture, &heard, &request));
        native_fixture_until(&fixture, heard_is_over(&heard));
        assert_string_equal(heard.problem.code, "worker_died");
        heard_free(&heard);
        struct backend_info info = {0};
        native_fixture_until(&fixture, (fixture.backend->class->describe(fixture.backend, &info), info.trouble));
        assert_true(info.was_ready);
        static const char *const reasons[] = {"signal 9", "the engine is on fire", "not in the vocabulary"};
        if (!strstr(info.trouble, reasons[i]))
            fail_msg("%s: %s", prompts[i], info.trouble);
        expect_service();
        assert_int_equal(restarts(), i + 1);
    }
    /* A second end of an answer that is over is about nobody. */
    struct heard heard = {0};
    struct answer_request request = heard_request("u");
    assert_true(heard_start(&fixture, &heard, &request));
    native_fixture_until(&fixture, heard_is_over(&heard));
    assert_int_equal(heard.ends, 1);
    heard_free(&heard);
    expect_service();
    assert_int_equal(restarts(), 3);
    /* From inside a failure the request is sent again. */
    again_request = heard_request("g");
    again_request.max_tokens = 4;
    request = heard_request("k");
    heard.on_end = start_again;
    assert_true(heard_start(&fixture, &heard, &request));
    native_fixture_until(&fixture, heard_is_over(&heard));
    assert_int_equal(heard.ends, 1);
    assert_int_equal(heard.choices[0].tokens, 2 + 4);
    heard_free(&heard);
    native_fixture_close(&fixture);
}

static void expect_failure(const char *as, const char *reason)
{
    struct heard waiting = {0}, late = {0};
    struct answer_request request = heard_request("g");
    struct backend_info info;
    open_fixture(as);
    assert_true(heard_start(&fixture, &waiting, &request));
    native_fixture_until(&fixture, native_fixture_state(&fixture) == BACKEND_FAILED);
    fixture.backend->class->describe(fixture.backend, &info);
    if (!strstr(info.trouble, reason))
        fail_msg("%s: %s", as, info.trouble);
    assert_int_equal(waiting.fails, 1);
    assert_string_equal(waiting.problem.code, "worker_failed");
    assert_non_null(strstr(waiting.problem.message, reason));
    assert_false(heard_start(&fixture, &late, &request));
    assert_int_equal(late.problem.status, 503);
    assert_int_equal(late.problem.retry_after, 30);
    assert_int_equal(restarts(), 2);
    heard_free(&waiting);
    heard_free(&late);
    native_fixture_close(&fixture);
}

static void workers_that_do_not_start(void **state)
{
    (void)state;
    expect_failure("dies", "ended with status 7: the cache is ?[31mtoo large");
    expect_failure("garbage", "a frame has type");
    expect_failure("other", "another model root");
}

static void a_worker_that_starts_at_last(void **state)
{
    (void)state;
    open_fixture("flaky");
    expect_service();
    assert_int_equal(restarts(), 2);
    assert_int_equal(native_fixture_state(&fixture), BACKEND_READY);
    native_fixture_close(&fixture);
}

static void what_is_no_program_is_said_at_once(void **state)
{
    (void)state;
    bulla_error error = {0};
    native_fixture_open(&fixture, "{{ messages }}", NULL);
    fixture.options.program = "/nowhere/bulla";
    assert_int_equal(native_fixture_start(&fixture, &error), BULLA_E_IO);
    assert_non_null(strstr(error.text, "/nowhere/bulla"));
    bulla_error_clear(&error);
    fixture.options.program = fixture.program;
    fixture.options.path = "/nowhere/model";
    assert_int_equal(native_fixture_start(&fixture, &error), BULLA_E_IO);
    assert_non_null(strstr(error.text, "/nowhere/model"));
    native_fixture_close(&fixture);
}

/* The worker sees its socket's end; nothing else tells it. */
static void workers_do_not_outlive_the_front(void **state)
{
    (void)state;
    open_fixture(NULL);
    expect_service();
    struct native *native = native_fixture_native(&fixture);
    pid_t pid = native->run.process.pid;
    int status, pidfd = native->run.process.handle;
    assert_true(pid > 0 && pidfd >= 0);
    close(native->run.socket);
    event_del(native->run.readable);
    native->run.socket = dup(0); /* so that closing it closes no other's */
    native_fixture_until(&fixture, native_process_has_ended(&native->run.process, &status));
    assert_int_equal(status, 0); /* it ended by itself, with nothing to say */
    native_fixture_close(&fixture);
}

/* Sends all of it as fast as the worker takes it, as long as nothing comes back; whether something did. */
static int flood(int socket, const struct buffer *bytes)
{
    int told = 0;
    for (size_t sent = 0; sent < bytes->length && !told;) {
        struct pollfd writable = {.fd = socket, .events = POLLOUT};
        poll(&writable, 1, 100);
        ssize_t put = send(socket, bytes->data + sent, bytes->length - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        sent += put > 0 ? (size_t)put : 0;
        assert_int_equal(ioctl(socket, FIONREAD, &told), 0);
    }
    return told > 0;
}

/* Frames that go on coming do not keep an answer from its steps. Each of these takes the worker a while: it looks
 * through thousands of answers. */
static void frames_that_go_on_coming_stop_no_answer(void **state)
{
    (void)state;
    enum { HANGING = 3000, FRAMES = 300000 };
    struct buffer frames = {0};
    uint32_t prompt = 'h';
    open_fixture(NULL);
    expect_service();
    for (uint64_t i = 0; i <= HANGING; i++) {
        struct wire_choice choice = {.id = (i + 1) << 32 | UINT32_MAX};
        struct scheduler_request request = {.prompt = &prompt, .prompt_count = 1, .logprobs = -1};
        prompt = i < HANGING ? 'h' : 'g';
        bulla_sampling_defaults(&request.sampling);
        wire_write_submit(&frames, &request, &choice, 1);
    }
    for (uint64_t i = 0; i < FRAMES; i++)
        wire_write_cancel(&frames, UINT32_MAX);
    assert_true(flood(native_fixture_native(&fixture)->run.socket, &frames));
    buffer_free(&frames);
    native_fixture_close(&fixture);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_worker_costs_its_answers_only),
        cmocka_unit_test(a_stuck_worker_is_killed),
        cmocka_unit_test(whatever_ends_the_worker_another_follows),
        cmocka_unit_test(workers_that_do_not_start),
        cmocka_unit_test(a_worker_that_starts_at_last),
        cmocka_unit_test(what_is_no_program_is_said_at_once),
        cmocka_unit_test(workers_do_not_outlive_the_front),
        cmocka_unit_test(frames_that_go_on_coming_stop_no_answer),
    };
    int status = native_fixture_worker(argc, argv);
    return status >= 0 ? status : cmocka_run_group_tests(tests, NULL, NULL);
}
