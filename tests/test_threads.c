/* src/base/threads.h: everything runs once and in step. Also meant to be run
 * under ThreadSanitizer (meson -Db_sanitize=thread), where the plain variables
 * below show whether run, barrier and return order memory. */
#include "test.h"

#include <stdatomic.h>

#include "base/memory.h"
#include "base/threads.h"

enum { MOST = 7 };

static struct thread_team *start(unsigned threads)
{
    struct thread_team *team;
    bulla_error error = {0};
    assert_ok(thread_team_start(threads, &team, &error), error);
    assert_int_equal(thread_team_size(team), threads);
    return team;
}

static void count_run(void *context, unsigned thread)
{
    ((uint64_t *)context)[thread]++;
}

static void test_runs(void **state)
{
    for (unsigned threads = 1; threads <= MOST; threads++) {
        uint64_t runs[MOST + 1] = {0};
        struct thread_team *team = start(threads);
        for (int i = 0; i < 2000; i++) {
            thread_team_run(team, count_run, runs);
            assert_int_equal(runs[0], i + 1); /* all have returned: their writes are visible */
            assert_int_equal(runs[threads - 1], i + 1);
        }
        for (unsigned i = 0; i <= MOST; i++)
            assert_int_equal(runs[i], i < threads ? 2000 : 0);
        thread_team_stop(team);
    }
}

/* Each thread adds its neighbour's last number to its own, a step at a time:
 * wrong unless every barrier holds all back. */
struct relay {
    struct thread_team *team;
    uint64_t numbers[2][MOST];
    int steps;
};

static void run_relay(void *context, unsigned thread)
{
    struct relay *relay = context;
    unsigned threads = thread_team_size(relay->team);
    for (int step = 0; step < relay->steps; step++) {
        uint64_t *now = relay->numbers[step & 1], *next = relay->numbers[~step & 1];
        next[thread] = now[thread] * 3 + now[(thread + 1) % threads];
        thread_team_barrier(relay->team);
    }
}

static void test_barriers(void **state)
{
    for (unsigned threads = 1; threads <= MOST; threads++) {
        struct relay relay = {.team = start(threads), .steps = 999}, alone = {.steps = 999};
        for (unsigned i = 0; i < threads; i++)
            relay.numbers[0][i] = alone.numbers[0][i] = i + 1;
        thread_team_run(relay.team, run_relay, &relay);
        for (int step = 0; step < alone.steps; step++)
            for (unsigned i = 0; i < threads; i++)
                alone.numbers[~step & 1][i] = alone.numbers[step & 1][i] * 3 + alone.numbers[step & 1][(i + 1) % threads];
        assert_memory_equal(relay.numbers[1], alone.numbers[1], threads * sizeof(uint64_t));
        thread_team_stop(relay.team);
    }
}

static void test_share_covers_once(void **state)
{
    static const uint64_t counts[] = {0, 1, 2, 15, 16, 17, 31, 100, 1000, 1023, UINT64_C(1) << 40};
    static const uint64_t grains[] = {1, 2, 16, 64};
    for (unsigned threads = 1; threads <= 9; threads++)
        for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
            for (size_t j = 0; j < sizeof grains / sizeof grains[0]; j++) {
                uint64_t at = 0, begin, end, least = UINT64_MAX, most = 0;
                for (unsigned thread = 0; thread < threads; thread++) {
                    thread_share(counts[i], grains[j], thread, threads, &begin, &end);
                    assert_true(begin == at && begin <= end);
                    assert_true(begin % grains[j] == 0 || begin == counts[i]);
                    at = end;
                    least = end - begin < least ? end - begin : least;
                    most = end - begin > most ? end - begin : most;
                }
                assert_true(at == counts[i]);
                assert_true(most - least <= 2 * grains[j]);
            }
}

static void count_index(void *context, uint64_t index)
{
    ((uint8_t *)context)[index]++; /* one thread an index: no race */
}

static void test_each(void **state)
{
    enum { COUNT = 5000 };
    static uint8_t counts[COUNT];
    uint8_t expected = 0;
    for (unsigned threads = 1; threads <= MOST; threads++) {
        struct thread_team *team = start(threads);
        for (int i = 0; i < 5; i++, expected++)
            thread_team_each(team, COUNT, count_index, counts);
        thread_team_each(team, 0, count_index, counts);
        thread_team_stop(team);
    }
    thread_team_each(NULL, COUNT, count_index, counts);
    expected++;
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(counts[i], expected);
}

/* Work of very different lengths: some spin, some sleep. */
static void work_unevenly(void *context, unsigned thread)
{
    struct relay *relay = context;
    for (int round = 0; round < 20; round++) {
        volatile uint64_t sink = 0;
        for (unsigned i = 0; i < (thread + (unsigned)round) % 3 * 20000; i++)
            sink = sink + i;
        relay->numbers[0][thread]++;
        thread_team_barrier(relay->team);
        for (unsigned i = 0; i < thread_team_size(relay->team); i++)
            if (relay->numbers[0][i] != (uint64_t)round + 1)
                relay->numbers[1][thread]++;
        thread_team_barrier(relay->team);
    }
}

static void test_uneven_work(void **state)
{
    for (int i = 0; i < 10; i++) {
        struct relay relay = {.team = start(5)};
        thread_team_run(relay.team, work_unevenly, &relay);
        for (int j = 0; j < 5; j++)
            assert_int_equal(relay.numbers[1][j], 0);
        thread_team_stop(relay.team);
    }
}

static void test_start_and_stop(void **state)
{
    for (int i = 0; i < 200; i++)
        thread_team_stop(start(1 + (unsigned)i % 4)); /* also without ever running */
    thread_team_stop(NULL);
    bulla_error error = {0};
    struct thread_team *team;
    assert_int_equal(thread_team_start(0, &team, &error), BULLA_E_USAGE);
    assert_null(team);
    bulla_error_clear(&error);
    assert_int_equal(thread_team_start(257, &team, &error), BULLA_E_USAGE);
    for (uint64_t n = 1; n <= 2; n++) {
        bulla_error_clear(&error);
        memory_inject_failure(n, 0);
        assert_int_equal(thread_team_start(3, &team, &error), BULLA_E_MEMORY);
    }
    memory_inject_failure(0, 0);
    assert_true(thread_cores() >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs),
        cmocka_unit_test(test_barriers),
        cmocka_unit_test(test_share_covers_once),
        cmocka_unit_test(test_each),
        cmocka_unit_test(test_uneven_work),
        cmocka_unit_test(test_start_and_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
