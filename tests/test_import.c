/* Import of a small golden model with every allocation and every system call failing in turn, cancelled at every
 * moment, and the rounding of a matrix to int8 rows against plain loops. */
#include "test.h"

#include <glob.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "bulla/model.h"
#include "exec/cpu/import_run.h"
#include "exec/ref/import_run.h"
#include "model/import_state.h"
#include "model/numeric.h"
#include "model/source_format.h"

enum { CONTEXT = 8 }; /* positions a sequence: a short import */
static const char *const goldens[] = {"qwen2_awq", "gemma2"}; /* the second with post-norms and softcaps */
static char folder[64], source_path_text[128], target[160];
static int full;

static void link_file(const char *from_format, const char *golden, const char *name)
{
    char from[512], to[256];
    snprintf(from, sizeof from, from_format, getenv("BULLA_SOURCE_ROOT"), golden);
    snprintf(to, sizeof to, "%s/%s", source_path_text, name);
    assert_int_equal(symlink(from, to), 0);
}

static void use_golden(int index)
{
    snprintf(source_path_text, sizeof source_path_text, "%s/%s", folder, goldens[index]);
}

static int make_source(void **state)
{
    const char *counts = getenv("BULLA_TEST_COUNTS");
    full = counts && strcmp(counts, "full") == 0;
    assert_non_null(getenv("BULLA_SOURCE_ROOT"));
    snprintf(folder, sizeof folder, "/tmp/bulla-test-import-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(target, sizeof target, "%s/model.bulla", folder);
    for (int i = 1; i >= 0; i--) {
        use_golden(i);
        assert_int_equal(mkdir(source_path_text, 0700), 0);
        link_file("%s/tests/goldens/%s/config.json", goldens[i], "config.json");
        link_file("%s/tests/goldens/%s/model.safetensors", goldens[i], "model.safetensors");
        link_file("%s/tests/goldens/tokenizer.json", goldens[i], "tokenizer.json");
    }
    return 0;
}

static int remove_source(void **state)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) != 0;
}

struct cancelling {
    int calls, at;
};

static int count_or_cancel(void *context, const char *stage, double fraction)
{
    struct cancelling *cancelling = context;
    assert_non_null(stage);
    assert_true(fraction >= 0 && fraction <= 1);
    return ++cancelling->calls == cancelling->at;
}

static int import_once(int fast, unsigned threads, struct cancelling *cancelling, uint8_t root[32], bulla_error *error)
{
    struct import_executor executor;
    struct import_options options = {.fast = fast, .context = CONTEXT, .threads = threads};
    if (cancelling) {
        options.progress = count_or_cancel;
        options.progress_context = cancelling;
    }
    int code = cpu_import_executor_open(threads, NULL, &executor, error);
    if (code != BULLA_OK)
        return code;
    code = import_model(source_path_text, target, &options, &executor, root, error);
    cpu_import_executor_close(&executor);
    return code;
}

/* Files in the folder beside the source. */
static size_t files_there(void)
{
    char pattern[200];
    glob_t found;
    snprintf(pattern, sizeof pattern, "%s/model.bulla*", folder);
    int code = glob(pattern, 0, NULL, &found);
    size_t count = code == 0 ? found.gl_pathc : 0;
    if (code == 0)
        globfree(&found);
    return count;
}

static void check_loads(const uint8_t root[32])
{
    bulla_error error = {0};
    bulla_model *model;
    assert_ok(bulla_model_open(target, 1, &model, &error), error);
    assert_memory_equal(bulla_model_root(model), root, 32);
    bulla_model_close(model);
}

static void test_executors_and_threads(void **state)
{
    for (int fast = 0; fast < 2; fast++) {
        uint8_t root[32], other[32];
        bulla_error error = {0};
        assert_ok(import_once(fast, 1, NULL, root, &error), error);
        check_loads(root);
        for (unsigned threads = 2; threads <= 4; threads++) {
            assert_ok(import_once(fast, threads, NULL, other, &error), error);
            assert_memory_equal(root, other, 32);
        }
        struct import_executor reference;
        struct import_options options = {.fast = fast, .context = CONTEXT, .threads = 2};
        assert_ok(reference_import_executor_open(&reference, &error), error);
        assert_ok(import_model(source_path_text, target, &options, &reference, other, &error), error);
        reference_import_executor_close(&reference);
        assert_memory_equal(root, other, 32);
        file_inject_short_transfers(1000);
        assert_ok(import_once(fast, 1, NULL, other, &error), error);
        file_inject_short_transfers(0);
        assert_memory_equal(root, other, 32);
        check_loads(root);
        unlink(target);
    }
}

static void try_allocations(void)
{
    uint8_t root[32], other[32];
    bulla_error error = {0};
    uint64_t before = memory_allocation_count();
    assert_ok(import_once(0, 1, NULL, root, &error), error);
    uint64_t all = memory_allocation_count() - before, step = full ? 1 : all / 80 + 1, failed = 0;
    unlink(target);
    for (uint64_t n = 1; n <= all; n += n < 40 ? 1 : step) {
        error = (bulla_error){0};
        memory_inject_failure(n, 0);
        int code = import_once(0, 1, NULL, other, &error);
        memory_inject_failure(0, 0);
        if (code == BULLA_OK) { /* it did without */
            assert_memory_equal(root, other, 32);
            unlink(target);
            continue;
        }
        if (code != BULLA_E_MEMORY || error.code != code || !error.text[0])
            fail_msg("allocation %llu: %d, %d \"%s\"", (unsigned long long)n, code, error.code, error.text);
        assert_int_equal(files_there(), 0);
        failed++;
    }
    print_message("%llu allocations, %llu failures tried\n", (unsigned long long)all, (unsigned long long)failed);
    assert_true(failed > 20);
}

static void test_allocations(void **state)
{
    for (int i = 1; i >= 0; i--) {
        use_golden(i);
        try_allocations();
    }
}

static void test_system_calls(void **state)
{
    uint8_t root[32], other[32];
    for (int keep = 0; keep < 2; keep++) {
        bulla_error error = {0};
        uint64_t before = file_call_count();
        assert_ok(import_once(1, 1, NULL, root, &error), error);
        uint64_t all = file_call_count() - before;
        unlink(target);
        for (uint64_t n = 1; n <= all; n++) {
            error = (bulla_error){0};
            file_inject_failure(n, keep);
            int code = import_once(1, 1, NULL, other, &error);
            file_inject_failure(0, 0);
            if (code != BULLA_E_IO || error.code != code || !error.text[0])
                fail_msg("system call %llu: %d, %d \"%s\"", (unsigned long long)n, code, error.code, error.text);
            /* Only the last of them, that make the folder durable, come after the file is in place. */
            if (files_there() != 0) {
                assert_true(n + 3 > all);
                check_loads(root);
                unlink(target);
            }
            assert_int_equal(files_there(), 0);
        }
        print_message("%llu system calls\n", (unsigned long long)all);
    }
}

static void test_cancelled(void **state)
{
    uint8_t root[32];
    bulla_error error = {0};
    struct cancelling cancelling = {0};
    assert_ok(import_once(0, 2, &cancelling, root, &error), error);
    unlink(target);
    int all = cancelling.calls;
    assert_true(all > 5);
    for (int at = 1; at <= all; at += full ? 1 : 3) {
        cancelling = (struct cancelling){0, at};
        error = (bulla_error){0};
        assert_int_equal(import_once(0, 2, &cancelling, root, &error), BULLA_E_CANCELLED);
        assert_int_equal(files_there(), 0);
    }
}

/* --- one matrix --- */

enum { ROWS = 70, COLUMNS = 96, BLOCK = 32 };

struct matrix {
    uint8_t file[1024 + ROWS * COLUMNS * 4 + ROWS * 4];
    float weights[ROWS][COLUMNS];
    double gain[COLUMNS], rest[COLUMNS];
};

static uint64_t random_state = 5;

static double random_real(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (double)(int32_t)(random_state >> 32) / 2147483648.0;
}

static struct source *open_matrix(struct matrix *matrix)
{
    char header[300];
    int bytes = ROWS * COLUMNS * 4, length = snprintf(header, sizeof header,
        "{\"w\":{\"dtype\":\"F32\",\"shape\":[%d,%d],\"data_offsets\":[0,%d]}}", ROWS, COLUMNS, bytes);
    uint64_t padded = ((uint64_t)length + 7) / 8 * 8;
    memset(matrix->file, ' ', sizeof matrix->file);
    memcpy(matrix->file, &padded, 8);
    memcpy(matrix->file + 8, header, (size_t)length);
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLUMNS; j++)
            matrix->weights[i][j] = (float)(i == 3 ? 0 : random_real() * (j == 5 ? 40 : 1));
    memcpy(matrix->file + 8 + padded, matrix->weights, (size_t)bytes);
    for (int j = 0; j < COLUMNS; j++) {
        matrix->gain[j] = random_real() * 3;
        matrix->rest[j] = matrix->gain[j] / (1 << (j % 4));
    }
    struct source *source;
    bulla_error error = {0};
    assert_ok(source_open_bytes(SOURCE_SAFETENSORS, matrix->file, 8 + padded + (uint64_t)bytes, "{}", 2, &source, &error), error);
    return source;
}

/* The row after folding and Had_b / b, by the matrix of signs (-1)^popcount(i & j). */
static void expected_row(const struct matrix *matrix, int row, double factor, double w[COLUMNS])
{
    for (int j = 0; j < COLUMNS; j++) {
        double sum = 0;
        for (int i = 0; i < BLOCK; i++) {
            int column = j / BLOCK * BLOCK + i;
            double value = (double)matrix->weights[row][column] * factor * matrix->rest[column];
            sum += __builtin_popcount((unsigned)(i & (j % BLOCK))) % 2 ? -value : value;
        }
        w[j] = sum / BLOCK;
    }
}

static void check_rows(const struct matrix *matrix, const struct weight_job *job, const struct draft *draft, double tolerance)
{
    double bound = 0;
    for (int row = 0; row < ROWS; row++) {
        double w[COLUMNS], largest = 0, sum = 0;
        double factor = draft->row_period && (uint32_t)row % draft->row_period >= draft->row_scaled ? 1 : draft->factor;
        factor = draft->row_period ? factor : 1;
        expected_row(matrix, row, factor, w);
        for (int j = 0; j < COLUMNS; j++) {
            largest = fmax(largest, fabs(w[j]));
            sum += pow((double)matrix->weights[row][j] * factor * matrix->gain[j], 2);
        }
        bound = fmax(bound, job->bound_factor * sqrt(sum));
        assert_true(fabs(job->scales[row] - largest / 127) <= 1e-12 * largest);
        for (int j = 0; j < COLUMNS; j++) {
            int8_t q = job->W[row * COLUMNS + j];
            assert_true(q >= -127);
            assert_true(fabs(w[j] - q * job->scales[row]) <= tolerance * job->scales[row] + 1e-300);
        }
    }
    assert_true(fabs(job->bound - bound) <= 1e-12 * bound);
}

static void test_rounding(void **state)
{
    static struct matrix matrix;
    struct source *source = open_matrix(&matrix);
    bulla_error error = {0};
    struct thread_team *team;
    int8_t *W = memory_alloc(ROWS, COLUMNS, NULL), *other = memory_alloc(ROWS, COLUMNS, NULL);
    double *scales = memory_alloc(ROWS, sizeof *scales, NULL);
    double *identity = memory_alloc(COLUMNS * COLUMNS, sizeof *identity, NULL);
    assert_true(W && other && scales && identity);
    for (int i = 0; i < COLUMNS; i++)
        identity[i * COLUMNS + i] = 1;
    struct draft draft = {.name = "test", .weight = {source_tensor_find(source, "w"), 0}, .factor = 1.5};
    for (unsigned threads = 1; threads <= 3; threads++) {
        assert_ok(thread_team_start(threads, &team, &error), error);
        struct weight_job job = {.source = source, .draft = &draft, .rest = matrix.rest, .gain = matrix.gain, .rows = ROWS,
                                 .columns = COLUMNS, .block = BLOCK, .bound_factor = sqrt(COLUMNS), .team = team, .W = W,
                                 .scales = scales};
        draft.row_period = threads == 2 ? 10 : 0;
        draft.row_scaled = 6;
        assert_ok(weights_round(&job, &error), error);
        check_rows(&matrix, &job, &draft, 0.5 + 1e-9);
        /* Without correlations nothing is passed on: but for ties, the same. */
        job.factor = identity;
        job.W = other;
        assert_ok(weights_round(&job, &error), error);
        check_rows(&matrix, &job, &draft, 0.5 + 1e-9);
        thread_team_stop(team);
    }
    memory_free(W);
    memory_free(other);
    memory_free(scales);
    memory_free(identity);
    source_close(source);
}

/* Error feedback, an element at a time: column k is rounded as w_k + sum over j < k, ascending, of error_j A_jk. */
static void test_feedback(void **state)
{
    static struct matrix matrix;
    struct source *source = open_matrix(&matrix);
    bulla_error error = {0};
    struct thread_team *team;
    assert_ok(thread_team_start(2, &team, &error), error);
    int8_t *nearest = memory_alloc(ROWS, COLUMNS, NULL), *W = memory_alloc(ROWS, COLUMNS, NULL);
    double *scales = memory_alloc(ROWS, sizeof *scales, NULL), *H = memory_alloc(COLUMNS * COLUMNS, sizeof *H, NULL);
    double *moments = memory_alloc(COLUMNS * COLUMNS, sizeof *H, NULL);
    double *scratch = memory_alloc(numeric_factor_scratch(COLUMNS), sizeof *scratch, NULL);
    assert_true(nearest && W && scales && H && moments && scratch);
    for (int t = 0; t < 40; t++) { /* few samples: strong correlations */
        double x[COLUMNS], common = random_real() * 300;
        for (int i = 0; i < COLUMNS; i++)
            x[i] = floor(random_real() * 100 + common);
        for (int i = 0; i < COLUMNS * COLUMNS; i++)
            moments[i] += x[i / COLUMNS] * x[i % COLUMNS];
    }
    for (int i = 0; i < COLUMNS; i++)
        moments[i * COLUMNS + i] += 20000;
    memcpy(H, moments, COLUMNS * COLUMNS * sizeof *H);
    assert_true(numeric_factor(H, COLUMNS, scratch, team));
    struct draft draft = {.name = "test", .weight = {source_tensor_find(source, "w"), 0}, .factor = 1};
    struct weight_job job = {.source = source, .draft = &draft, .rest = matrix.rest, .gain = matrix.gain, .rows = ROWS,
                             .columns = COLUMNS, .block = BLOCK, .bound_factor = 1, .team = team, .W = nearest, .scales = scales};
    assert_ok(weights_round(&job, &error), error);
    job.factor = H;
    job.W = W;
    assert_ok(weights_round(&job, &error), error);
    double loss[2] = {0};
    for (int row = 0; row < ROWS; row++) {
        double w[COLUMNS], errors[COLUMNS], rounding[2][COLUMNS], scale = scales[row], inverse = scale > 0 ? 1 / scale : 0;
        expected_row(&matrix, row, 1, w);
        for (int k = 0; k < COLUMNS; k++) {
            double wanted = w[k];
            for (int j = 0; j < k; j++)
                wanted += errors[j] * H[j * COLUMNS + k];
            /* `w` differs in its last bits from the fast transform's: a tie may fall either way. */
            double rounded = fmax(-127, fmin(127, floor(wanted * inverse + 0.5)));
            double off = fabs(wanted * inverse + 0.5 - round(wanted * inverse + 0.5));
            int8_t q = W[row * COLUMNS + k];
            if (q != (int8_t)rounded && off > 1e-6)
                fail_msg("row %d column %d is %d, expected %g", row, k, q, rounded);
            errors[k] = w[k] - q * scale;
            rounding[0][k] = w[k] - nearest[row * COLUMNS + k] * scale;
            rounding[1][k] = errors[k];
        }
        for (int kind = 0; kind < 2; kind++)
            for (int i = 0; i < COLUMNS * COLUMNS; i++)
                loss[kind] += rounding[kind][i / COLUMNS] * moments[i] * rounding[kind][i % COLUMNS];
    }
    print_message("loss to nearest %g, with error feedback %g\n", loss[0], loss[1]);
    assert_true(loss[1] < 0.7 * loss[0]); /* what it is for */
    thread_team_stop(team);
    memory_free(nearest);
    memory_free(W);
    memory_free(scales);
    memory_free(H);
    memory_free(moments);
    memory_free(scratch);
    source_close(source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rounding),     cmocka_unit_test(test_feedback),    cmocka_unit_test(test_executors_and_threads),
        cmocka_unit_test(test_system_calls), cmocka_unit_test(test_allocations), cmocka_unit_test(test_cancelled),
    };
    return cmocka_run_group_tests(tests, make_source, remove_source);
}
