/* model/numeric.h against plain loops: moments exactly, panels and factors bit for bit, whatever the threads and
 * the sizes, and with every instruction set that the code is compiled for (which is why the file itself is included). */
#include "test.h"

#include <math.h>

#include "base/memory.h"
#include "base/threads.h"
#include "model/numeric.c"

static uint64_t random_state = 7;

static uint64_t random_u64(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * UINT64_C(0x2545F4914F6CDD1D);
}

/* About evenly spread over [-1, 1), times a power of two that varies, so that sums round. */
static double random_real(void)
{
    double value = (double)(int64_t)random_u64() / 9223372036854775808.0;
    return value * (double)(UINT64_C(1) << (random_u64() % 20));
}

static void *take(size_t count, size_t size)
{
    void *block = memory_alloc(count, size, NULL);
    assert_non_null(block);
    return block;
}

static struct thread_team *start(unsigned threads)
{
    bulla_error error = {0};
    struct thread_team *team;
    assert_ok(thread_team_start(threads, &team, &error), error);
    return team;
}

static void test_moments(void **state)
{
    static const uint32_t sizes[] = {1, 2, 3, 4, 5, 7, 8, 17, 64, 65};
    static const uint64_t counts[] = {0, 1, 2, 15, 16, 17, 33, 480, 511};
    for (int round = 0; round < 60; round++) {
        uint32_t n = sizes[random_u64() % 10], padded = (n + 3) & ~3u;
        uint64_t stride = 512, count = counts[random_u64() % 9];
        int extreme = round % 4 == 0;
        int16_t *a = take(padded * stride, sizeof *a);
        int64_t *sums = take((uint64_t)n * n, sizeof *sums), *expected = take((uint64_t)n * n, sizeof *expected);
        for (uint64_t i = 0; i < padded * stride; i++)
            a[i] = (int16_t)(extreme ? (random_u64() & 3 ? 2048 : -2048) : (int)(random_u64() % 4097) - 2048);
        for (uint64_t i = 0; i < n; i++)
            for (uint64_t j = 0; j <= i; j++) {
                sums[i * n + j] = expected[i * n + j] = (int64_t)(random_u64() >> 20);
                for (uint64_t t = 0; t < count; t++)
                    expected[i * n + j] += (int64_t)a[i * stride + t] * a[j * stride + t];
            }
        struct thread_team *team = round % 3 ? start((unsigned)(round % 3)) : NULL;
        numeric_add_moments(a, stride, count, n, sums, team);
        for (uint64_t i = 0; i < n; i++)
            for (uint64_t j = 0; j <= i; j++)
                assert_true(sums[i * n + j] == expected[i * n + j]);
        if (team)
            thread_team_stop(team);
        memory_free(a);
        memory_free(sums);
        memory_free(expected);
    }
}

static void expected_panel(double *C, uint64_t ldc, const double *X, uint64_t ldx, const double *B, uint64_t ldb, uint32_t rows,
                        uint32_t columns, uint32_t depth)
{
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t k = 0; k < columns; k++)
            for (uint32_t m = 0; m < depth; m++) {
                double product = X[r * ldx + m] * B[m * ldb + k];
                C[r * ldc + k] = C[r * ldc + k] + product;
            }
}

static void test_panel(void **state)
{
    for (int round = 0; round < 200; round++) {
        uint32_t rows = (uint32_t)(random_u64() % 35), columns = (uint32_t)(random_u64() % 70);
        uint32_t depth = (uint32_t)(random_u64() % 90);
        uint64_t ldc = columns + random_u64() % 5, ldx = depth + random_u64() % 5, ldb = columns + random_u64() % 5;
        double *C = take(rows * ldc, sizeof *C), *expected = take(rows * ldc, sizeof *expected);
        double *X = take(rows * ldx, sizeof *X), *B = take(depth * ldb, sizeof *B);
        for (uint64_t i = 0; i < rows * ldc; i++)
            C[i] = expected[i] = random_real();
        for (uint64_t i = 0; i < rows * ldx; i++)
            X[i] = random_real();
        for (uint64_t i = 0; i < depth * ldb; i++)
            B[i] = random_real();
        numeric_panel(C, ldc, X, ldx, B, ldb, rows, columns, depth);
        expected_panel(expected, ldc, X, ldx, B, ldb, rows, columns, depth);
        assert_memory_equal(C, expected, rows * ldc * sizeof *C); /* what lies between the rows, too */
        memory_free(C);
        memory_free(expected);
        memory_free(X);
        memory_free(B);
    }
}

/* H = A D A^T a column at a time from the last, every element by one sequence of roundings. */
static int expected_factor(double *H, uint32_t n)
{
    for (uint32_t k = n; k-- > 0;) {
        double pivot = H[k * n + k];
        if (!(pivot > 0))
            return 0;
        for (uint32_t i = 0; i < k; i++)
            H[i * n + k] = H[i * n + k] / pivot;
        for (uint32_t i = 0; i < k; i++) {
            double scaled = pivot * H[i * n + k];
            for (uint32_t j = i; j < k; j++) {
                double product = scaled * H[j * n + k];
                H[i * n + j] = H[i * n + j] - product;
            }
        }
    }
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < i; j++)
            H[i * n + j] = 0;
    return 1;
}

/* A matrix of inner products, which is positive definite with its diagonal raised. */
static void fill_moments(double *H, uint32_t n)
{
    uint32_t rank = n / 2 + 1;
    double *a = take((uint64_t)n * rank, sizeof *a);
    for (uint64_t i = 0; i < (uint64_t)n * rank; i++)
        a[i] = (double)((int)(random_u64() % 4001) - 2000);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < n; j++) {
            double sum = 0;
            for (uint32_t t = 0; t < rank; t++)
                sum += a[i * rank + t] * a[j * rank + t];
            H[i * n + j] = sum + (i == j ? 1e4 : 0);
        }
    memory_free(a);
}

static void test_factor(void **state)
{
    static const uint32_t sizes[] = {1, 2, 3, 15, 63, 64, 65, 127, 128, 129, 200, 257};
    for (int round = 0; round < 24; round++) {
        uint32_t n = sizes[round % 12];
        double *H = take((uint64_t)n * n, sizeof *H), *expected = take((uint64_t)n * n, sizeof *expected);
        double *original = take((uint64_t)n * n, sizeof *original), *scratch = take(numeric_factor_scratch(n), sizeof *scratch);
        fill_moments(original, n);
        memcpy(H, original, (uint64_t)n * n * sizeof *H);
        memcpy(expected, original, (uint64_t)n * n * sizeof *H);
        struct thread_team *team = start(1 + (unsigned)round % 4);
        assert_true(numeric_factor(H, n, scratch, team));
        assert_true(expected_factor(expected, n));
        for (uint64_t i = 0; i < (uint64_t)n * n; i++)
            if (!(H[i] == expected[i]))
                fail_msg("n %u: element [%llu, %llu] is %.17g, expected %.17g", n, (unsigned long long)(i / n),
                         (unsigned long long)(i % n), H[i], expected[i]);
        /* And it is the factor: A D A^T gives the matrix back. */
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t j = i; j < n; j++) {
                double sum = 0;
                for (uint32_t m = j; m < n; m++)
                    sum += (m == i ? 1 : H[i * n + m]) * H[m * n + m] * (m == j ? 1 : H[j * n + m]);
                double size = original[i * n + i] + original[j * n + j];
                assert_true(sum - original[i * n + j] < 1e-9 * size && original[i * n + j] - sum < 1e-9 * size);
            }
        thread_team_stop(team);
        memory_free(H);
        memory_free(expected);
        memory_free(original);
        memory_free(scratch);
    }
}

static void test_not_positive(void **state)
{
    static const double values[] = {0, -1, (double)NAN, (double)-INFINITY};
    uint32_t n = 130;
    double *H = take((uint64_t)n * n, sizeof *H), *scratch = take(numeric_factor_scratch(n), sizeof *scratch);
    for (int i = 0; i < 4; i++)
        for (uint32_t place = 0; place < n; place += 43) {
            fill_moments(H, n);
            H[place * n + place] = values[i];
            assert_false(numeric_factor(H, n, scratch, NULL));
        }
    memory_free(H);
    memory_free(scratch);
}

typedef void moment_tile_function(const int16_t *, const int16_t *, uint64_t, uint64_t, int32_t[MOMENT_TILE][MOMENT_TILE]);
typedef void panel_function(double *, uint64_t, const double *, uint64_t, const double *, uint64_t, uint32_t, uint32_t, uint32_t);

static void compare_target(const char *name, moment_tile_function *moments, panel_function *panel)
{
    enum { ROWS = 33, COLUMNS = 71, DEPTH = 67, STRIDE = 512 };
    static int16_t a[8 * STRIDE];
    static double C[ROWS * COLUMNS], expected[ROWS * COLUMNS], X[ROWS * DEPTH], B[DEPTH * COLUMNS];
    print_message("numeric: %s\n", name);
    for (int round = 0; round < 40; round++) {
        for (int i = 0; i < 8 * STRIDE; i++)
            a[i] = (int16_t)(round ? (int)(random_u64() % 4097) - 2048 : 2048);
        int32_t tile[MOMENT_TILE][MOMENT_TILE], expected_tile[MOMENT_TILE][MOMENT_TILE] = {{0}};
        uint64_t count = round ? random_u64() % STRIDE : STRIDE - 1;
        for (int i = 0; i < MOMENT_TILE; i++)
            for (int j = 0; j < MOMENT_TILE; j++)
                for (uint64_t t = 0; t < count; t++)
                    expected_tile[i][j] += a[i * STRIDE + t] * a[(4 + j) * STRIDE + t];
        moments(a, a + 4 * STRIDE, STRIDE, count, tile);
        assert_memory_equal(tile, expected_tile, sizeof tile);
        for (int i = 0; i < ROWS * COLUMNS; i++)
            C[i] = expected[i] = random_real();
        for (int i = 0; i < ROWS * DEPTH; i++)
            X[i] = random_real();
        for (int i = 0; i < DEPTH * COLUMNS; i++)
            B[i] = random_real();
        uint32_t rows = (uint32_t)(random_u64() % (ROWS + 1)), columns = (uint32_t)(random_u64() % (COLUMNS + 1));
        panel(C, COLUMNS, X, DEPTH, B, COLUMNS, rows, columns, DEPTH);
        expected_panel(expected, COLUMNS, X, DEPTH, B, COLUMNS, rows, columns, DEPTH);
        assert_memory_equal(C, expected, sizeof C);
    }
}

static void test_targets(void **state)
{
    compare_target("chosen here", moment_tile_best, panel_best);
#if defined(__x86_64__)
    compare_target("plain", moment_tile_plain, panel_plain);
    if (__builtin_cpu_supports("avx2"))
        compare_target("avx2", moment_tile_avx2, panel_avx2);
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        compare_target("avx512", moment_tile_avx512, panel_avx512);
#endif
}

/* --- rows --- */

typedef void hadamard_of(double *x, uint32_t n, uint32_t block);
typedef void round_of(const double *x, uint32_t n, double scale, int8_t *q);
typedef void largest_of(const double *x, uint32_t n, double *result);

static void expected_hadamard(double *x, uint32_t n, uint32_t block)
{
    for (uint32_t step = 1; step < block; step *= 2)
        for (uint32_t i = 0; i < n; i++) {
            if (i & step)
                continue;
            double low = x[i], high = x[i + step];
            x[i] = low + high;
            x[i + step] = low - high;
        }
    for (uint32_t i = 0; i < n; i++)
        x[i] /= block;
}

static void compare_rows(hadamard_of *transform, round_of *round_row, largest_of *find_largest)
{
    enum { MOST = 768 };
    double x[MOST], expected[MOST], peak, found;
    int8_t q[MOST];
    for (int round = 0; round < 300; round++) {
        uint32_t block = 1u << (random_u64() % 9), n = (uint32_t)(1 + random_u64() % (MOST / block)) * block;
        for (uint32_t i = 0; i < n; i++)
            x[i] = expected[i] = random_real();
        transform(x, n, block);
        expected_hadamard(expected, n, block);
        assert_memory_equal(x, expected, n * sizeof *x);
        peak = 0;
        for (uint32_t i = 0; i < n; i++)
            peak = fabs(x[i]) > peak ? fabs(x[i]) : peak;
        find_largest(x, n, &found);
        assert_true(found == peak);
        double scale = peak > 0 ? peak / (round % 2 ? 127 : 100) : 1; /* beyond 127 too */
        for (uint32_t i = 0; round % 3 == 0 && i < n; i++)
            x[i] = ((double)(random_u64() % 600) - 300) / 2 * scale; /* ties */
        round_row(x, n, scale, q);
        for (uint32_t i = 0; i < n; i++) {
            double wanted = floor(x[i] / scale + 0.5);
            assert_int_equal(q[i], wanted > 127 ? 127 : wanted < -127 ? -127 : (int)wanted);
        }
    }
}

static void test_rows(void **state)
{
    compare_rows(hadamard_best, round_best, largest_best);
#if defined(__x86_64__)
    compare_rows(hadamard_plain, round_plain, largest_plain);
    if (__builtin_cpu_supports("avx2"))
        compare_rows(hadamard_avx2, round_avx2, largest_avx2);
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        compare_rows(hadamard_avx512, round_avx512, largest_avx512);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moments),      cmocka_unit_test(test_panel),   cmocka_unit_test(test_factor),
        cmocka_unit_test(test_not_positive), cmocka_unit_test(test_targets), cmocka_unit_test(test_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
