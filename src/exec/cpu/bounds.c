#define _GNU_SOURCE
#include "exec/cpu/bounds.h"

#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "exec/cpu/engine_internal.h"
#include "exec/cpu/pack.h"

/* --- reading --- */

enum { WAYS = 5, ROUNDS = 5, LINE = 64, MAX_THREADS = 256 };
static const uint64_t LARGE_BYTES = UINT64_C(1) << 30;

typedef int64_t line __attribute__((vector_size(LINE)));

struct reading {
    const uint8_t *data;
    uint64_t bytes;
    unsigned threads;
    int way;
    int64_t sums[MAX_THREADS * LINE / sizeof(int64_t)]; /* a line a thread, so that the loads are needed */
};

/* `streams` places at once, two lines from each in turn, asking for lines `ahead` early (0: not), into the second-level
 * cache: more lines may be on the way to that than to the first. */
__attribute__((always_inline)) static inline int64_t read_span(const line *p, uint64_t count, int streams, int ahead)
{
    line sums[8] = {{0}}, total = {0};
    uint64_t part = count / (uint64_t)streams;
    for (uint64_t i = 0; i + 2 <= part; i += 2)
        for (int s = 0; s < streams; s++) {
            const line *at = p + (uint64_t)s * part + i;
            if (ahead) {
                __builtin_prefetch(at + ahead, 0, 2);
                __builtin_prefetch(at + ahead + 1, 0, 2);
            }
            sums[s % 8] ^= at[0];
            sums[(s + 4) % 8] ^= at[1];
        }
    for (int s = 0; s < 8; s++)
        total ^= sums[s];
    return total[0] ^ total[7];
}

static void read_share(void *context, unsigned thread)
{
    struct reading *reading = context;
    uint64_t begin, end;
    thread_share(reading->bytes, 4096, thread, reading->threads, &begin, &end);
    const line *p = (const void *)(reading->data + begin);
    uint64_t count = (end - begin) / LINE;
    int64_t sum;
    switch (reading->way) {
    case 0: sum = read_span(p, count, 1, 0); break;
    case 1: sum = read_span(p, count, 1, 64); break;
    case 2: sum = read_span(p, count, 4, 0); break;
    case 3: sum = read_span(p, count, 4, 32); break;
    default: sum = read_span(p, count, 8, 16); break;
    }
    reading->sums[thread * LINE / sizeof sum] = sum;
}

double bounds_read(struct thread_team *team, const void *data, uint64_t bytes)
{
    struct reading reading = {.data = data, .bytes = bytes, .threads = thread_team_size(team)};
    double best = 0;
    for (int round = 0; round < ROUNDS * WAYS; round++) {
        reading.way = round % WAYS;
        double start = clock_seconds();
        thread_team_run(team, read_share, &reading);
        double speed = (double)bytes / (clock_seconds() - start);
        best = speed > best ? speed : best;
    }
    return best;
}

int bounds_read_new(struct thread_team *team, uint64_t bytes, double *bytes_per_second, bulla_error *error)
{
    uint8_t *data = memory_map(bytes, error);
    if (!data)
        return BULLA_E_MEMORY;
    memset(data, 1, bytes); /* pages that nobody wrote to are all the same one */
    *bytes_per_second = bounds_read(team, data, bytes);
    memory_unmap(data, bytes);
    return BULLA_OK;
}

int bounds_measure_reading(const bulla_engine *engine, struct bounds *bounds, bulla_error *error)
{
    const struct weights *weights = &engine->weights;
    bounds->weight_bytes = bounds->large_bytes = weights->bytes;
    bounds->weights_per_second = bounds->large_per_second = bounds_read(engine->team, weights->memory, weights->bytes);
    if (weights->bytes >= LARGE_BYTES)
        return BULLA_OK;
    bounds->large_bytes = LARGE_BYTES;
    return bounds_read_new(engine->team, LARGE_BYTES, &bounds->large_per_second, error);
}

/* --- multiplying --- */

/* 16 KB of weights; 16 KB of activations where all rows are there, read again for every pair of row blocks. */
enum { OUTPUTS = 32, COLUMNS = 512, MOST_ROWS = 32, SHIFT = 20, CALLS_AT_FIRST = 16, TRIES = 5 };
static const double LONG_ENOUGH = 2e-3; /* seconds, for the clock and the start of the threads not to count */

/* What one thread has of the activations and results. */
struct own_rows {
    _Alignas(LINE) int8_t q[MOST_ROWS * COLUMNS];
    int64_t s[MOST_ROWS];
    int32_t y[MOST_ROWS * OUTPUTS];
    uint32_t range[MOST_ROWS];
};

struct matrix {
    _Alignas(LINE) int8_t packed[OUTPUTS * COLUMNS];
    int8_t W[OUTPUTS * COLUMNS];
    int32_t offset[OUTPUTS], bias[OUTPUTS];
    uint16_t packed_M[OUTPUTS], M[OUTPUTS];
};

struct multiplying {
    const bulla_engine *engine;
    struct packed_linear linear;
    struct own_rows *rows; /* [threads] */
    uint8_t *scratch;      /* [threads][scratch_bytes] */
    size_t scratch_bytes;
    uint32_t row_count;
    uint64_t calls;
};

static void multiply(void *context, unsigned thread)
{
    struct multiplying *m = context;
    struct own_rows *rows = &m->rows[thread];
    struct linear_call call = {.linear = &m->linear, .q = rows->q, .s = rows->s, .y = rows->y, .range = rows->range,
                               .q_stride = COLUMNS, .y_stride = OUTPUTS, .rows = m->row_count};
    for (uint64_t i = 0; i < m->calls; i++)
        m->engine->kernels->linear(&call, 0, m->linear.blocks, m->scratch + thread * m->scratch_bytes);
}

/* Values are small, so that every result is in its bounds: the way that a model's are computed. */
static void fill(struct multiplying *m, struct matrix *matrix)
{
    for (uint32_t i = 0; i < OUTPUTS * COLUMNS; i++)
        matrix->W[i] = (int8_t)(i % 31 - 15);
    for (uint32_t i = 0; i < OUTPUTS; i++)
        matrix->M[i] = 1 << 15;
    struct pack_target target = {.weights = matrix->packed, .offset = matrix->offset, .bias = matrix->bias,
                                 .M = matrix->packed_M};
    pack_linear_shape(&m->linear, OUTPUTS, COLUMNS, SHIFT, SHIFT);
    m->linear.weights = matrix->packed;
    m->linear.offset = matrix->offset;
    m->linear.bias = matrix->bias;
    m->linear.M = matrix->packed_M;
    pack_linear_blocks(&m->linear, &target, matrix->W, matrix->M, NULL, 0, m->linear.blocks);
    pack_linear_finish(&m->linear);
    for (unsigned t = 0; t < m->engine->threads; t++)
        for (uint32_t r = 0; r < MOST_ROWS; r++) {
            m->rows[t].s[r] = 1 << SHIFT;
            for (uint32_t i = 0; i < COLUMNS; i++)
                m->rows[t].q[r * COLUMNS + i] = (int8_t)((i + r) % 63 - 31);
        }
}

static double time_calls(struct multiplying *m)
{
    double start = clock_seconds();
    thread_team_run(m->engine->team, multiply, m);
    return clock_seconds() - start;
}

static double best_speed(struct multiplying *m)
{
    m->calls = CALLS_AT_FIRST;
    while (time_calls(m) < LONG_ENOUGH)
        m->calls *= 2;
    double fastest = time_calls(m);
    for (int i = 1; i < TRIES; i++) {
        double seconds = time_calls(m);
        fastest = seconds < fastest ? seconds : fastest;
    }
    return (double)m->calls * m->engine->threads * m->row_count * OUTPUTS * COLUMNS / fastest;
}

int bounds_measure_multiplying(const bulla_engine *engine, uint32_t rows, double *per_second, bulla_error *error)
{
    struct multiplying m = {.engine = engine, .row_count = rows < MOST_ROWS ? rows : MOST_ROWS,
                            .scratch_bytes = (size_t)kernel_round_up(kernel_linear_scratch(COLUMNS), LINE)};
    m.rows = memory_alloc_aligned(LINE, engine->threads * sizeof *m.rows, error);
    m.scratch = memory_alloc_aligned(LINE, engine->threads * m.scratch_bytes, error);
    struct matrix *matrix = memory_alloc_aligned(LINE, sizeof *matrix, error);
    int code = m.rows && m.scratch && matrix ? BULLA_OK : BULLA_E_MEMORY;
    if (code == BULLA_OK) {
        fill(&m, matrix);
        *per_second = best_speed(&m);
    }
    memory_free(m.rows);
    memory_free(m.scratch);
    memory_free(matrix);
    return code;
}
