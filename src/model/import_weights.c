/* From a source's matrix to int8 rows: the norm's gains folded into the columns,
 * the Hadamard transform along each row, and rounding, to nearest or with error
 * feedback (docs/canonical.md, "Import"; E. Frantar et al., "GPTQ", 2023, in the
 * form of J. Chee et al., "QuIP", 2023: with H = A D A^T, A unit upper
 * triangular, column k is rounded as w_k + sum over j < k of (w_j - rounded_j) A_jk).
 */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/memory.h"
#include "model/import_state.h"
#include "model/numeric.h"

enum { GROUP = 32, FEEDBACK_BLOCK = 64, GROUP_BYTES = 256 << 20 /* of all threads' groups together */ };

/* One group of rows in work, by one thread. */
struct group {
    float *source;  /* [GROUP][columns] */
    double *w;      /* [GROUP][columns] */
    double *errors; /* [GROUP][columns] */
};

struct rounding {
    struct weight_job *job;
    uint64_t first; /* row of the piece in work */
    int8_t *W;      /* of the piece */
    struct group *groups; /* [threads] */
    unsigned workers;     /* threads that have a group */
    uint64_t rows;  /* of the piece */
    double *bounds; /* [rows] of the piece */
    double *bias;   /* [all rows] or NULL */
    bulla_error *errors; /* [threads] */
    atomic_uint_least64_t next;
};

double weights_row_factor(const struct draft *draft, uint64_t row)
{
    double scale = draft->row_scale ? draft->row_scale[row] : 1;
    int turns = draft->row_period && row % draft->row_period < draft->row_scaled;
    return turns ? scale * draft->factor : scale;
}

/* The row in real numbers, folded and transformed, its scale, and after a norm its result's bound. */
static int prepare_row(const struct rounding *rounding, const float *source, uint64_t row, double *w,
                       double *bound, bulla_error *error)
{
    const struct weight_job *job = rounding->job;
    double factor = weights_row_factor(job->draft, row);
    for (uint32_t i = 0; i < job->columns; i++) {
        if (!(fabsf(source[i]) <= 3e38f))
            return bulla_fail(error, BULLA_E_INPUT, "%s: tensor %s, row %llu, column %u is %s; weights must be finite",
                              source_path(job->source), job->draft->weight.tensor->name,
                              (unsigned long long)(job->draft->weight.first + row), i,
                              isnan(source[i]) ? "NaN" : "infinite");
        w[i] = (double)source[i] * factor;
    }
    for (uint32_t i = 0; job->draft->column_scale && i < job->columns; i++)
        w[i] *= job->draft->column_scale[i];
    double sum = 0;
    for (uint32_t i = 0; job->rest && i < job->columns; i++) {
        sum += w[i] * job->gain[i] * (w[i] * job->gain[i]);
        w[i] *= job->rest[i];
    }
    *bound = job->bound_factor * sqrt(sum) + (rounding->bias ? fabs(rounding->bias[row] * factor) : 0);
    numeric_hadamard(w, job->columns, job->block);
    job->scales[row] = numeric_largest(w, job->columns) / 127;
    return BULLA_OK;
}

static int8_t round_unit(double value)
{
    double rounded = floor(value + 0.5);
    return (int8_t)(rounded > 127 ? 127 : rounded < -127 ? -127 : rounded);
}

static void round_nearest(const struct rounding *rounding, const double *w, uint64_t row, int8_t *W)
{
    const struct weight_job *job = rounding->job;
    if (job->scales[row] > 0)
        numeric_round(w, job->columns, job->scales[row], W);
    else
        memset(W, 0, job->columns);
}

/* A group of rows with error feedback, a block of columns at a time. */
static void round_with_feedback(const struct rounding *rounding, struct group *group, uint64_t first, uint32_t rows,
                                int8_t *W)
{
    const struct weight_job *job = rounding->job;
    uint64_t n = job->columns;
    for (uint32_t begin = 0; begin < n; begin += FEEDBACK_BLOCK) {
        uint32_t width = n - begin < FEEDBACK_BLOCK ? (uint32_t)(n - begin) : FEEDBACK_BLOCK;
        double wanted[GROUP][FEEDBACK_BLOCK];
        for (uint32_t r = 0; r < rows; r++)
            for (uint32_t k = 0; k < width; k++)
                wanted[r][k] = group->w[r * n + begin + k];
        numeric_panel(&wanted[0][0], FEEDBACK_BLOCK, group->errors, n, job->factor + begin, n, rows, width, begin);
        for (uint32_t r = 0; r < rows; r++) {
            double scale = job->scales[first + r], inverse = scale > 0 ? 1 / scale : 0;
            for (uint32_t k = 0; k < width; k++) {
                int8_t q = round_unit(wanted[r][k] * inverse);
                double error = group->w[r * n + begin + k] - q * scale;
                W[r * n + begin + k] = q;
                group->errors[r * n + begin + k] = error;
                const double *a = job->factor + (begin + k) * n + begin;
                for (uint32_t later = k + 1; later < width; later++)
                    wanted[r][later] += error * a[later];
            }
        }
    }
}

static void round_groups(void *context, unsigned thread)
{
    struct rounding *rounding = context;
    struct weight_job *job = rounding->job;
    if (thread >= rounding->workers)
        return;
    struct group *group = &rounding->groups[thread];
    bulla_error *error = &rounding->errors[thread];
    uint64_t groups = (rounding->rows + GROUP - 1) / GROUP, index;
    while (!error->code && (index = atomic_fetch_add(&rounding->next, 1)) < groups) {
        uint64_t begin = index * GROUP, first = rounding->first + begin;
        uint32_t rows = rounding->rows - begin < GROUP ? (uint32_t)(rounding->rows - begin) : GROUP;
        if (source_tensor_read(job->source, job->draft->weight.tensor, job->draft->weight.first + first, rows, group->source,
                               error))
            break;
        for (uint32_t r = 0; r < rows && !error->code; r++) {
            double *w = group->w + (uint64_t)r * job->columns;
            const float *source = group->source + (uint64_t)r * job->columns;
            if (prepare_row(rounding, source, first + r, w, &rounding->bounds[begin + r], error))
                break;
            if (!job->factor)
                round_nearest(rounding, w, first + r, rounding->W + (begin + r) * job->columns);
        }
        if (job->factor && !error->code)
            round_with_feedback(rounding, group, first, rows, rounding->W + begin * job->columns);
    }
}

static void free_groups(struct rounding *rounding, unsigned threads)
{
    for (unsigned i = 0; rounding->groups && i < threads; i++) {
        memory_free(rounding->groups[i].source);
        memory_free(rounding->groups[i].w);
        memory_free(rounding->groups[i].errors);
    }
    memory_free(rounding->groups);
    memory_free(rounding->errors);
    memory_free(rounding->bounds);
    memory_free(rounding->bias);
}

static int alloc_groups(struct rounding *rounding, unsigned threads, uint64_t piece, bulla_error *error)
{
    const struct weight_job *job = rounding->job;
    rounding->groups = memory_alloc(threads, sizeof *rounding->groups, error);
    rounding->errors = memory_alloc(threads, sizeof *rounding->errors, error);
    rounding->bounds = memory_alloc(piece, sizeof *rounding->bounds, error);
    uint64_t fit = GROUP_BYTES / (GROUP * (uint64_t)job->columns * (sizeof(float) + 2 * sizeof(double)));
    rounding->workers = fit < 1 ? 1 : fit < threads ? (unsigned)fit : threads;
    for (unsigned i = 0; rounding->groups && i < rounding->workers; i++) {
        struct group *group = &rounding->groups[i];
        group->source = memory_alloc(GROUP, job->columns * sizeof(float), error);
        group->w = memory_alloc(GROUP, job->columns * sizeof(double), error);
        group->errors = memory_alloc(GROUP, job->columns * sizeof(double), error);
        if (!group->source || !group->w || !group->errors)
            return BULLA_E_MEMORY;
    }
    return rounding->groups && rounding->errors && rounding->bounds ? BULLA_OK : BULLA_E_MEMORY;
}

static int round_piece(struct rounding *rounding, unsigned threads, bulla_error *error)
{
    struct weight_job *job = rounding->job;
    atomic_store(&rounding->next, 0);
    thread_team_run(job->team, round_groups, rounding);
    for (unsigned i = 0; i < threads; i++)
        if (rounding->errors[i].code)
            return bulla_fail(error, rounding->errors[i].code, "%s", rounding->errors[i].text);
    for (uint64_t i = 0; i < rounding->rows; i++)
        job->bound = rounding->bounds[i] > job->bound ? rounding->bounds[i] : job->bound;
    uint64_t bytes = rounding->rows * job->columns;
    if (job->writer && model_writer_append(job->writer, rounding->W, bytes, error))
        return error->code;
    if (job->tick && job->tick(job->tick_context, bytes))
        return bulla_fail(error, BULLA_E_CANCELLED, "the import was cancelled");
    return BULLA_OK;
}

int weights_round(struct weight_job *job, bulla_error *error)
{
    /* Pieces of about 16 MiB of int8, so that a large vocabulary streams. */
    uint64_t piece = (UINT64_C(16) << 20) / job->columns / GROUP * GROUP;
    piece = piece < GROUP ? GROUP : piece > job->rows ? job->rows : piece;
    unsigned threads = thread_team_size(job->team);
    struct rounding rounding = {.job = job};
    int8_t *own = job->W ? NULL : memory_alloc(piece, job->columns, error);
    int code = job->W || own ? alloc_groups(&rounding, threads, piece, error) : BULLA_E_MEMORY;
    job->bound = 0;
    if (code == BULLA_OK && job->draft->bias.tensor) {
        rounding.bias = memory_alloc(job->rows, sizeof *rounding.bias, error);
        code = rounding.bias ? weights_read_vector(job->source, job->draft->bias.tensor, job->draft->bias.first, job->rows,
                                                   rounding.bias, error) : BULLA_E_MEMORY;
    }
    for (uint64_t first = 0; first < job->rows && code == BULLA_OK; first += piece) {
        rounding.first = first;
        rounding.rows = job->rows - first < piece ? job->rows - first : piece;
        rounding.W = job->W ? job->W + first * job->columns : own;
        code = round_piece(&rounding, threads, error);
    }
    source_tensor_release(job->source, job->draft->weight.tensor);
    free_groups(&rounding, threads);
    memory_free(own);
    return code;
}

int weights_read_vector(const struct source *source, const struct source_tensor *tensor, uint64_t first, uint64_t count,
                        double *values, bulla_error *error)
{
    float *all = memory_alloc(tensor->rows * tensor->columns, sizeof *all, error);
    int code = all ? source_tensor_read(source, tensor, 0, tensor->rows, all, error) : BULLA_E_MEMORY;
    if (code == BULLA_OK && (tensor->rows * tensor->columns < first || tensor->rows * tensor->columns - first < count))
        code = bulla_fail(error, BULLA_E_INPUT, "%s: tensor %s has %llu elements, expected %llu", source_path(source),
                          tensor->name, (unsigned long long)(tensor->rows * tensor->columns),
                          (unsigned long long)(first + count));
    for (uint64_t i = 0; i < count && code == BULLA_OK; i++) {
        values[i] = (double)all[first + i];
        if (!(fabs(values[i]) <= 3e38))
            code = bulla_fail(error, BULLA_E_INPUT, "%s: tensor %s, element %llu is %s; weights must be finite",
                              source_path(source), tensor->name, (unsigned long long)(first + i),
                              isnan(values[i]) ? "NaN" : "infinite");
    }
    memory_free(all);
    return code;
}
