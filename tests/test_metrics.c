/* Counters, gauges and histograms, and their text. */
#include "test.h"

#include <math.h>

#include "base/memory.h"
#include "ops/metrics.h"

static const double bounds[] = {0.1, 1, 2.5};

enum { PLAIN, LABELLED, LEVEL, TIMES, FAMILIES };

static const struct metric_family families[FAMILIES] = {
    {"plain_total", "Things.\nWith a \\ in it.", METRIC_COUNTER, {NULL}, NULL, 0, 1},
    {"labelled_total", "By two.", METRIC_COUNTER, {"model_name", "reason"}, NULL, 0, 3},
    {"level", "A level.", METRIC_GAUGE, {"model_name"}, NULL, 0, 2},
    {"time_seconds", "Times.", METRIC_HISTOGRAM, {"model_name"}, bounds, 3, 2},
};

static char *text_of(const struct metrics *metrics)
{
    bulla_error error = {0};
    struct buffer out = {0};
    assert_ok(metrics_write(metrics, &out, &error), error);
    return (char *)out.data;
}

static struct metrics *open_metrics(void)
{
    bulla_error error = {0};
    struct metrics *metrics;
    assert_ok(metrics_open(families, FAMILIES, &metrics, &error), error);
    return metrics;
}

static void test_text(void **state)
{
    (void)state;
    struct metrics *metrics = open_metrics();
    char *text = text_of(metrics);
    assert_string_equal(text, "# HELP plain_total Things.\\nWith a \\\\ in it.\n# TYPE plain_total counter\nplain_total 0\n");
    memory_free(text);
    metrics_add(metrics, PLAIN, NULL, NULL, 2);
    metrics_add(metrics, PLAIN, NULL, NULL, 0.5);
    metrics_add(metrics, LABELLED, "a\"b\\c\nd", "stop", 1);
    metrics_set(metrics, LEVEL, "m", NULL, -0.25);
    metrics_observe(metrics, TIMES, "m", NULL, 0.1, 1); /* on a bound: within it */
    metrics_observe(metrics, TIMES, "m", NULL, 0.75, 2);
    metrics_observe(metrics, TIMES, "m", NULL, 4, 1);
    text = text_of(metrics);
    assert_string_equal(text, "# HELP plain_total Things.\\nWith a \\\\ in it.\n"
                              "# TYPE plain_total counter\n"
                              "plain_total 2.5\n"
                              "# HELP labelled_total By two.\n"
                              "# TYPE labelled_total counter\n"
                              "labelled_total{model_name=\"a\\\"b\\\\c\\nd\",reason=\"stop\"} 1\n"
                              "# HELP level A level.\n"
                              "# TYPE level gauge\n"
                              "level{model_name=\"m\"} -0.25\n"
                              "# HELP time_seconds Times.\n"
                              "# TYPE time_seconds histogram\n"
                              "time_seconds_bucket{model_name=\"m\",le=\"0.1\"} 1\n"
                              "time_seconds_bucket{model_name=\"m\",le=\"1\"} 3\n"
                              "time_seconds_bucket{model_name=\"m\",le=\"2.5\"} 3\n"
                              "time_seconds_bucket{model_name=\"m\",le=\"+Inf\"} 4\n"
                              "time_seconds_sum{model_name=\"m\"} 5.6\n"
                              "time_seconds_count{model_name=\"m\"} 4\n");
    memory_free(text);
    metrics_close(metrics);
    metrics_close(NULL);
}

/* Every number reads back as the same double. */
static void test_numbers(void **state)
{
    (void)state;
    struct metrics *metrics = open_metrics();
    static const double values[] = {0,      1,          -1,    0.1,     0.001,    1e-7,      1.5e-9, 123456.789, 1e15, 9007199254740993.0,
                                    1e300,  -2.5e-300,  1e22,  1 / 3.0, 1e9 / 7,  0.000123,  99.5,   1e16,       4.35, INFINITY,
                                    -INFINITY};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        metrics_set(metrics, LEVEL, "m", NULL, values[i]);
        char *text = text_of(metrics);
        char *at = strstr(text, "level{model_name=\"m\"} ");
        assert_non_null(at);
        double read = strtod(at + 22, NULL);
        if (read != values[i])
            fail_msg("%.17g was written as %s", values[i], at + 22);
        memory_free(text);
    }
    metrics_set(metrics, LEVEL, "m", NULL, (double)NAN);
    char *text = text_of(metrics);
    assert_non_null(strstr(text, "level{model_name=\"m\"} NaN\n"));
    memory_free(text);
    metrics_close(metrics);
}

static size_t count_of(const char *text, const char *part)
{
    size_t count = 0;
    for (const char *at = strstr(text, part); at; at = strstr(at + 1, part))
        count++;
    return count;
}

/* However many values clients make up, a family stays as small as it is, and nothing is lost. */
static void test_cardinality(void **state)
{
    (void)state;
    struct metrics *metrics = open_metrics();
    char name[32];
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "model %d", i);
        metrics_add(metrics, LABELLED, name, "stop", 1);
        metrics_observe(metrics, TIMES, name, NULL, 1, 1);
    }
    assert_true(metrics_value(metrics, LABELLED, "model 2", "stop") == 1);
    assert_true(metrics_value(metrics, LABELLED, "model 3", "stop") == 0);
    assert_true(metrics_value(metrics, LABELLED, "other", "other") == 997);
    char *text = text_of(metrics);
    assert_int_equal(count_of(text, "\nlabelled_total{"), 4);
    assert_non_null(strstr(text, "time_seconds_count{model_name=\"other\"} 998\n"));
    memory_free(text);
    metrics_forget(metrics, LABELLED);
    assert_true(metrics_value(metrics, LABELLED, "model 2", "stop") == 0);
    metrics_add(metrics, LABELLED, "new", "stop", 1);
    assert_true(metrics_value(metrics, LABELLED, "new", "stop") == 1);
    /* "other" may be a label of its own from the start. */
    metrics_set(metrics, LEVEL, "other", NULL, 1);
    metrics_set(metrics, LEVEL, "b", NULL, 2);
    metrics_set(metrics, LEVEL, "c", NULL, 3);
    metrics_set(metrics, LEVEL, "d", NULL, 4);
    assert_true(metrics_value(metrics, LEVEL, "other", NULL) == 4);
    metrics_close(metrics);
}

static void test_long_values(void **state)
{
    (void)state;
    struct metrics *metrics = open_metrics();
    char name[400];
    for (size_t i = 0; i + 1 < sizeof name; i += 2)
        memcpy(name + i, "\xC3\xA9", 2);
    name[sizeof name - 2] = 0;
    metrics_set(metrics, LEVEL, name, NULL, 1);
    char *text = text_of(metrics);
    char *at = strstr(text, "level{model_name=\"");
    assert_non_null(at);
    size_t length = strcspn(at + 18, "\"");
    assert_int_equal(length, 126); /* 127 would be half a character */
    memory_free(text);
    metrics_close(metrics);
}

static void test_memory(void **state)
{
    (void)state;
    for (uint64_t n = 1;; n++) {
        bulla_error error = {0};
        struct metrics *metrics = NULL;
        struct buffer out = {0};
        memory_inject_failure(n, 0);
        int code = metrics_open(families, FAMILIES, &metrics, &error);
        if (code == BULLA_OK)
            code = metrics_write(metrics, &out, &error);
        memory_inject_failure(0, 0);
        buffer_free(&out);
        metrics_close(metrics);
        if (code == BULLA_OK) {
            assert_true(n > 6);
            return;
        }
        assert_int_equal(code, BULLA_E_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),        cmocka_unit_test(test_numbers),     cmocka_unit_test(test_cardinality),
        cmocka_unit_test(test_long_values), cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
