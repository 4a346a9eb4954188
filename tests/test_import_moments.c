/* The factor that error feedback works with, against plain loops over the positions. */
#include "test.h"

#include <math.h>

#include "base/memory.h"
#include "model/import_state.h"
#include "model/numeric.h"

/* More positions than go into one piece of the sums; the last ones are no text. */
enum { N = 9, TEXT = 700, POSITIONS = TEXT + 20, SMALL = 3000, LARGE = 40 };

struct moments {
    struct importing importing;
    struct draft draft;
    struct import_value value;
    int8_t q[POSITIONS][N];
    int64_t s[POSITIONS];
};

static uint64_t random_state;

static int random_below(int limit)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (int)((random_state >> 33) % (uint64_t)limit);
}

/* Text whose every 100th position is `outlier` times the others' size, and of another direction. */
static struct moments *open_moments(int64_t outlier)
{
    bulla_error error = {0};
    struct moments *m = memory_alloc(1, sizeof *m, NULL);
    assert_non_null(m);
    random_state = 3;
    for (int t = 0; t < POSITIONS; t++) {
        int common = random_below(121) - 60, large = t % 100 == 0;
        m->s[t] = large ? outlier * SMALL : SMALL - LARGE + random_below(2 * LARGE + 1);
        for (int i = 0; i < N; i++)
            m->q[t][i] = (int8_t)((large && i % 2 ? -common : common) + random_below(60));
    }
    m->draft.operation = (bulla_operation){.kind = BULLA_QUANT, .n = N, .outputs = N};
    m->value = (struct import_value){.bytes = &m->q[0][0], .scale = m->s};
    m->importing = (struct importing){.list = {.drafts = &m->draft, .count = 1}, .values = &m->value,
                                      .positions = POSITIONS, .text_positions = TEXT, .factor_input = -1};
    assert_ok(thread_team_start(2, &m->importing.team, &error), error);
    return m;
}

static void close_moments(struct moments *m)
{
    thread_team_stop(m->importing.team);
    memory_free(m->importing.factor);
    memory_free(m);
}

static void make(struct moments *m)
{
    bulla_error error = {0};
    assert_ok(import_make_factor(&m->importing, 0, &error), error);
    assert_non_null(m->importing.factor);
    assert_int_equal(m->importing.factor_input, 0);
}

/* H in whole numbers from scales of at most `most`, then damped and factored. */
static void expect(const struct moments *m, int64_t most, double H[N * N])
{
    int shift = 0;
    while (127 * most >> shift >= 1 << 11)
        shift++;
    memset(H, 0, N * N * sizeof *H);
    for (int t = 0; t < TEXT; t++)
        for (int i = 0; i < N * N; i++) {
            int64_t s = m->s[t] < most ? m->s[t] : most, half = (INT64_C(1) << shift) / 2;
            H[i] += (double)(((m->q[t][i / N] * s + half) >> shift) * ((m->q[t][i % N] * s + half) >> shift));
        }
    double diagonal = 0, *scratch = memory_alloc(numeric_factor_scratch(N), sizeof *scratch, NULL);
    assert_non_null(scratch);
    for (int i = 0; i < N; i++)
        diagonal += H[i * N + i];
    for (int i = 0; i < N; i++)
        H[i * N + i] += diagonal / N * 0.003 + 1;
    assert_true(numeric_factor(H, N, scratch, m->importing.team));
    memory_free(scratch);
}

static int64_t median_scale(const struct moments *m)
{
    for (int t = 0; t < TEXT; t++) {
        int below = 0, equal = 0;
        for (int other = 0; other < TEXT; other++) {
            below += m->s[other] < m->s[t];
            equal += m->s[other] == m->s[t];
        }
        if (below <= TEXT / 2 && TEXT / 2 < below + equal)
            return m->s[t];
    }
    return 0;
}

static void test_factor(void **state)
{
    static const int64_t outliers[] = {0, 1, 3, 1000, 1000000};
    for (size_t i = 0; i < sizeof outliers / sizeof outliers[0]; i++) {
        struct moments *m = open_moments(outliers[i]);
        double expected[N * N];
        int64_t bound = outliers[i] > 4 ? 4 * median_scale(m) : outliers[i] > 1 ? outliers[i] * SMALL : SMALL + LARGE;
        expect(m, bound, expected);
        make(m);
        assert_memory_equal(m->importing.factor, expected, sizeof expected);
        close_moments(m);
    }
}

/* Seven positions a million times larger than the others do not decide which way errors are passed on. */
static void test_outliers(void **state)
{
    struct moments *plain = open_moments(1), *outliers = open_moments(1000000);
    double without_bound[N * N];
    expect(outliers, 1000000 * (int64_t)SMALL, without_bound);
    make(plain);
    make(outliers);
    double bounded = 0, unbounded = 0;
    for (int j = 0; j < N; j++)
        for (int k = j + 1; k < N; k++) {
            bounded = fmax(bounded, fabs(outliers->importing.factor[j * N + k] - plain->importing.factor[j * N + k]));
            unbounded = fmax(unbounded, fabs(without_bound[j * N + k] - plain->importing.factor[j * N + k]));
        }
    print_message("largest difference of the factor %g, without a bound %g\n", bounded, unbounded);
    assert_true(unbounded > 5 * bounded);
    close_moments(plain);
    close_moments(outliers);
}

static void test_allocations(void **state)
{
    uint64_t n = 1;
    for (int code = BULLA_E_MEMORY; code != BULLA_OK; n++) {
        bulla_error error = {0};
        struct moments *m = open_moments(1);
        memory_inject_failure(n, 0);
        code = import_make_factor(&m->importing, 0, &error);
        memory_inject_failure(0, 0);
        assert_true(code == BULLA_OK || (code == BULLA_E_MEMORY && error.code == code && !m->importing.factor));
        close_moments(m);
    }
    assert_true(n > 5); /* it has four */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_factor), cmocka_unit_test(test_outliers), cmocka_unit_test(test_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
