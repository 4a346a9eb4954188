/* How much of a channel's size goes into the activations and how much into the
 * weights. The error of int8 rows and of int8 activations both go with
 * (sum of sigma^2 d^2) (sum of w^2 / d^2), sigma a channel's size, w its column's in
 * the matrix that reads it and d what the channel is multiplied by before it is
 * quantised (and the column divided by). By Cauchy-Schwarz that is least at
 * d^2 = w / sigma (compare G. Xiao et al., "SmoothQuant", 2023). After a norm d is
 * a power of two, which norm_quant applies; before the last matrix of a branch d is
 * folded into the rows that make the channel: up's, and v's. */
#include <math.h>

#include "base/memory.h"
#include "model/import_state.h"

/* Mean of (x_i / r)^2 over the text, up to a common factor. */
static void channel_powers(const struct importing *im, uint32_t input, uint32_t n, double *power)
{
    for (uint64_t t = 0; t < im->text_positions; t++) {
        const int32_t *x = im->values[input].vector + t * n;
        double sum = 0;
        for (uint32_t i = 0; i < n; i++)
            sum += (double)x[i] * x[i];
        double inverse = sum > 0 ? 1 / sum : 0;
        for (uint32_t i = 0; i < n; i++)
            power[i] += (double)x[i] * x[i] * inverse;
    }
}

/* A channel that the text hardly uses may be large on other text: none counts as less
 * than a hundredth of the mean size. `stride` apart. */
static void raise_silent(double *power, uint32_t n, uint32_t stride)
{
    double mean = 0;
    for (uint32_t i = 0; i < n; i++)
        mean += power[i * stride] / n;
    for (uint32_t i = 0; i < n; i++)
        power[i * stride] = power[i * stride] < mean * 1e-4 ? mean * 1e-4 : power[i * stride];
}

/* Sums of squares of the columns of every matrix that reads value `index`; of a
 * large one (the head), some rows suffice. */
static int column_powers(const struct importing *im, uint32_t index, uint32_t n, double *power, bulla_error *error)
{
    enum { ROWS = 32, MOST_ROWS = 8192 };
    float *rows = memory_alloc(ROWS, n * sizeof *rows, error);
    int code = rows ? BULLA_OK : BULLA_E_MEMORY;
    for (uint32_t i = index + 1; i < im->list.count; i++) {
        const struct draft *draft = &im->list.drafts[i];
        const bulla_operation *o = &draft->operation;
        if (o->kind != BULLA_LINEAR || o->inputs[0] != (int32_t)index)
            continue;
        uint64_t stride = ROWS * (1 + (uint64_t)o->outputs / MOST_ROWS);
        for (uint64_t row = 0; row < o->outputs && code == BULLA_OK; row += stride) {
            uint64_t count = o->outputs - row < ROWS ? o->outputs - row : ROWS;
            code = source_tensor_read(im->source, draft->weight.tensor, draft->weight.first + row, count, rows, error);
            for (uint64_t r = 0; r < count && code == BULLA_OK; r++)
                for (uint32_t c = 0; c < n; c++)
                    power[c] += (double)rows[r * n + c] * (double)rows[r * n + c];
        }
    }
    memory_free(rows);
    return code;
}

/* sqrt(w / sigma) * sqrt(|gain|), for columns that are multiplied by a gain before. */
int import_wanted_scales(const struct importing *im, uint32_t index, const double *gain, double *wanted, bulla_error *error)
{
    const bulla_operation *o = &im->list.drafts[index].operation;
    double *power = memory_alloc(o->n, sizeof *power, error), *weight = memory_alloc(o->n, sizeof *weight, error);
    int code = power && weight ? column_powers(im, index, o->n, weight, error) : BULLA_E_MEMORY;
    if (code == BULLA_OK) {
        channel_powers(im, (uint32_t)o->inputs[0], o->n, power);
        raise_silent(power, o->n, 1);
        for (uint32_t i = 0; i < o->n; i++) {
            double ratio = power[i] > 0 ? sqrt(weight[i] / power[i]) : 0;
            wanted[i] = ratio < 1e300 ? sqrt(ratio * fabs(gain[i])) : 0;
        }
    }
    memory_free(power);
    memory_free(weight);
    return code;
}

static int32_t find_reader(const struct importing *im, int kind, uint32_t index)
{
    for (uint32_t i = index + 1; i < im->list.count; i++)
        if (im->list.drafts[i].operation.kind == kind && im->list.drafts[i].operation.inputs[0] == (int32_t)index)
            return (int32_t)i;
    return -1;
}

/* Of each made row, the powers of all the channels that it becomes: a value's row
 * is read by every query head of its group. */
static uint32_t source_row(const bulla_operation *o, uint32_t channel)
{
    if (o->kind != BULLA_ATTEND)
        return channel;
    uint32_t head = channel / o->head_size;
    return (uint32_t)((uint64_t)head * o->kv_heads / o->heads) * o->head_size + channel % o->head_size;
}

/* scale[rows], at most 1 and at least 2^-8. */
static void row_scales(const bulla_operation *o, const double *power, const double *weight, uint32_t rows, double *scale,
                       double *sums)
{
    for (uint32_t i = 0; i < o->outputs; i++) {
        sums[2 * source_row(o, i)] += power[i];
        sums[2 * source_row(o, i) + 1] += weight[i];
    }
    raise_silent(sums, rows, 2);
    double largest = 0;
    for (uint32_t i = 0; i < rows; i++) {
        double ratio = sums[2 * i] > 0 ? sqrt(sums[2 * i + 1] / sums[2 * i]) : 0;
        scale[i] = ratio < 1e300 ? sqrt(ratio) : 0;
        largest = scale[i] > largest ? scale[i] : largest;
    }
    for (uint32_t i = 0; i < rows; i++) {
        scale[i] = largest > 0 ? scale[i] / largest : 1;
        scale[i] = scale[i] < 1.0 / 256 ? 1.0 / 256 : scale[i];
    }
}

int import_balance(struct importing *im, uint32_t index, bulla_error *error)
{
    const bulla_operation *o = &im->list.drafts[index].operation;
    int32_t quant = find_reader(im, BULLA_QUANT, index);
    int32_t reader = quant < 0 ? -1 : find_reader(im, BULLA_LINEAR, (uint32_t)quant);
    int32_t maker = o->kind == BULLA_ATTEND ? im->list.drafts[o->inputs[2]].operation.inputs[0] : o->inputs[1];
    if (reader < 0 || maker < 0 || im->list.drafts[maker].operation.kind != BULLA_LINEAR)
        return BULLA_OK;
    uint32_t rows = im->list.drafts[maker].operation.outputs;
    double *scale = arena_alloc(&im->arena, rows, sizeof *scale, error);
    double *column = arena_alloc(&im->arena, o->outputs, sizeof *column, error);
    double *power = memory_alloc(o->outputs, sizeof *power, error), *weight = memory_alloc(o->outputs, sizeof *weight, error);
    double *sums = memory_alloc(rows, 2 * sizeof *sums, error);
    int code = scale && column && power && weight && sums ? column_powers(im, (uint32_t)quant, o->outputs, weight, error)
                                                         : BULLA_E_MEMORY;
    if (code == BULLA_OK) {
        channel_powers(im, index, o->outputs, power);
        row_scales(o, power, weight, rows, scale, sums);
        for (uint32_t i = 0; i < o->outputs; i++)
            column[i] = 1 / scale[source_row(o, i)];
        im->list.drafts[maker].next_row_scale = scale;
        im->list.drafts[reader].next_column_scale = column;
    }
    memory_free(power);
    memory_free(weight);
    memory_free(sums);
    return code;
}
