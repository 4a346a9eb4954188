/* src/model/real.h against tests/vectors/real.txt, whose values have more digits
 * than two binary64 numbers hold. */
#include "test.h"

#include <inttypes.h>
#include <math.h>

#include "model/real.h"

static int checked;

/* A function with the error it may have, in units of 2^-100: of the result, or
 * (absolute) of 1 where the result comes near 0 by cancellation. */
struct function {
    const char *name;
    struct real (*one)(struct real a);
    struct real (*two)(struct real a, struct real b);
    int absolute;
    double limit, worst;
};

static struct function functions[] = {
    {"exp", real_exp, NULL, 0, 16, 0},          {"log", real_log, NULL, 0, 16, 0},
    {"cos", real_cos, NULL, 1, 1, 0},          {"tanh", real_tanh, NULL, 1, 1, 0},
    {"square_root", real_square_root, NULL, 0, 1, 0},
    {"add", NULL, real_add, 0, 1, 0},           {"subtract", NULL, real_subtract, 0, 1, 0},
    {"multiply", NULL, real_multiply, 0, 1, 0}, {"divide", NULL, real_divide, 0, 1, 0},
    {"power", NULL, real_power, 0, 16, 0},
};
enum { FUNCTIONS = sizeof functions / sizeof functions[0] };

static void check(const char *line, struct function *function, struct real found, struct real expected)
{
    if (found.hi != found.hi + found.lo)
        fail_msg("%s: the lower part is not below half an ulp", line);
    double off = fabs((found.hi - expected.hi) + (found.lo - expected.lo));
    double error = ldexp(function->absolute || expected.hi == 0 ? off : off / fabs(expected.hi), 100);
    if (!(error <= function->limit))
        fail_msg("%s: found %a + %a, off by %g * 2^-100", line, found.hi, found.lo, error);
    function->worst = fmax(function->worst, error);
    checked++;
}

static void check_turn(const char *line, int base, int size, int i, uint64_t expected)
{
    struct real exponent = real_divide(real_of(-2.0 * i), real_of(size));
    struct real turn = real_divide(real_power(real_of(base), exponent), real_scale(real_pi(), 1));
    if (real_round_fraction(turn) != expected)
        fail_msg("%s: found %" PRIu64, line, real_round_fraction(turn));
    checked++;
}

static void check_line(const char *line)
{
    char name[32];
    struct real a, b, c;
    int base, size, i;
    uint64_t turn;
    int64_t integer;
    assert_int_equal(sscanf(line, "%31s", name), 1);
    for (int k = 0; k < FUNCTIONS; k++) {
        struct function *function = &functions[k];
        int count = strcmp(name, function->name) ? 0 : sscanf(line, "%*s %la %la %la %la %la %la", &a.hi, &a.lo, &b.hi,
                                                              &b.lo, &c.hi, &c.lo);
        if (count == 4 && function->one)
            check(line, function, function->one(a), b);
        if (count == 6 && function->two)
            check(line, function, function->two(a, b), c);
    }
    if (sscanf(line, "pi %la %la", &a.hi, &a.lo) == 2)
        checked += real_pi().hi == a.hi && real_pi().lo == a.lo;
    if (sscanf(line, "round %la %la %" SCNd64, &a.hi, &a.lo, &integer) == 3) {
        if (real_round(a) != integer)
            fail_msg("%s: found %" PRId64, line, real_round(a));
        checked++;
    }
    if (sscanf(line, "turn %d %d %d %" SCNu64, &base, &size, &i, &turn) == 4)
        check_turn(line, base, size, i, turn);
}

static void test_table(void **state)
{
    char path[4096], line[512];
    snprintf(path, sizeof path, "%s/tests/vectors/real.txt",
             getenv("BULLA_SOURCE_ROOT") ? getenv("BULLA_SOURCE_ROOT") : ".");
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    int lines = 0;
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (line[0] == '#')
            continue;
        lines++;
        check_line(line);
        if (checked != lines)
            fail_msg("%s: not understood", line);
    }
    fclose(file);
    for (int k = 0; k < FUNCTIONS; k++)
        print_message("%s: largest error %.2f * 2^-100\n", functions[k].name, functions[k].worst);
    print_message("%d values equal\n", checked);
    assert_true(lines > 1500);
}

static void test_edges(void **state)
{
    assert_int_equal(real_round(real_of(0.5)), 1);
    assert_int_equal(real_round(real_of(-0.5)), 0);
    assert_int_equal(real_round((struct real){0.5, -1e-30}), 0);
    assert_int_equal(real_round((struct real){-0.5, -1e-30}), -1);
    assert_true(real_round_fraction(real_of(0)) == 0);
    assert_true(real_round_fraction(real_of(0.5)) == UINT64_C(1) << 63);
    assert_true(real_round_fraction((struct real){1, -1e-25}) == 0); /* 2^64 modulo 2^64 */
    assert_true(real_square_root(real_of(0)).hi == 0);
    assert_true(real_tanh(real_of(1e300)).hi == 1 && real_tanh(real_of(-1e300)).hi == -1);
    assert_true(real_cos(real_of(0)).hi == 1 && real_cos(real_of(0)).lo == 0);
    assert_true(real_less(real_of(1), (struct real){1, 1e-20}) && !real_less(real_of(1), real_of(1)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_table), cmocka_unit_test(test_edges)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
