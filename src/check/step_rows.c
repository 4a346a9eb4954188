/* Elements of the operations that work on a row: docs/dispute-trace.md, "Arrays and elements". */
#include <string.h>

#include "check/step_internal.h"
#include "exec/ref/operations.h"

#define RS reference_round_shift

static int64_t magnitude(int64_t value)
{
    return value < 0 ? -value : value;
}

static int odd_ones(uint32_t bits)
{
    int odd = 0;
    for (; bits; bits &= bits - 1)
        odd ^= 1;
    return odd;
}

/* One element of a row at a time in arrays like its input's: embed, rope, gate, add, softcap. */
static void shape_row(const struct step *step, uint32_t array, struct step_array *shape)
{
    *shape = (struct step_array){.count = step->o->outputs, .width = 4, .is_result = 1};
}

/* Segments of the quantising operations, and of norm: heads, or the whole vector. */
static uint32_t segment_size(const bulla_operation *o)
{
    return o->heads ? o->head_size : o->n;
}

static uint64_t segments(const bulla_operation *o)
{
    return o->heads ? o->heads : 1;
}

enum { QUANTISE_A, QUANTISE_H1, QUANTISE_H, QUANTISE_M, QUANTISE_SS, QUANTISE_Q, QUANTISE_S };

static void shape_quantise(const struct step *step, uint32_t array, struct step_array *shape)
{
    const bulla_operation *o = step->o;
    uint64_t folds = segments(o) * step_chunks(segment_size(o), STEP_CHUNK);
    int is_head = o->kind == BULLA_HEAD_QUANT || o->kind == BULLA_KEY_QUANT;
    const struct step_array shapes[] = {
        [QUANTISE_A] = {.count = folds, .width = 8},
        [QUANTISE_H1] = {.count = o->block > 64 ? o->n : 0, .width = 4},
        [QUANTISE_H] = {.count = o->n, .width = 4},
        [QUANTISE_M] = {.count = folds, .width = 8},
        [QUANTISE_SS] = {.count = o->kind == BULLA_NORM_QUANT ? folds : 0, .width = 8},
        [QUANTISE_Q] = {.count = o->n, .width = 1, .is_result = 1},
        [QUANTISE_S] = {.count = segments(o), .width = is_head ? 4 : 8, .is_result = 1}};
    *shape = shapes[array];
}

/* The last element of a segment's fold. */
static int64_t segment_total(struct step *step, uint32_t array, uint64_t segment)
{
    uint64_t chunks = step_chunks(segment_size(step->o), STEP_CHUNK);
    return step_array_element(step, array, segment * chunks + chunks - 1);
}

/* a_i = x_i * 2^(e_i) of `count` elements */
static void read_scaled(struct step *step, uint64_t first, uint32_t count, int64_t *a)
{
    int64_t e[STEP_CHUNK];
    step_read_bytes(step, 0, step->position, first, count, a);
    if (step->o->kind != BULLA_NORM_QUANT)
        return;
    step_read_tensor(step, BULLA_TENSOR_E, first, count, e);
    for (uint32_t i = 0; i < count; i++)
        a[i] *= INT64_C(1) << (e[i] & 15);
}

static int64_t square_sum(struct step *step, int64_t sum, const int64_t *x, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        sum += x[i] * x[i]; /* below 2^62 + 2^62 */
        if (sum >> 62)
            return step_end(step, STEP_RANGE);
    }
    return sum;
}

/* Folds over a segment: max |a|, max |h|, sum of squares. */
static int64_t fold_segment(struct step *step, uint32_t array, uint64_t index)
{
    uint32_t size = segment_size(step->o);
    uint64_t chunks = step_chunks(size, STEP_CHUNK), c = index % chunks, segment = index / chunks;
    uint64_t first = segment * size + c * STEP_CHUNK;
    uint32_t count = step_chunk(size, c, STEP_CHUNK);
    int64_t values[STEP_CHUNK], result = c ? step_array_element(step, array, index - 1) : 0;
    int is_norm = step->o->kind == BULLA_NORM; /* its ss is array 0 */
    if (array == QUANTISE_SS || is_norm) {
        result = step_bounded(step, result, 0, (INT64_C(1) << 62) - 1);
        step_read_bytes(step, 0, step->position, first, count, values);
        return square_sum(step, result, values, count);
    }
    if (array == QUANTISE_A)
        read_scaled(step, first, count, values);
    else
        step_read_array(step, QUANTISE_H, first, count, values);
    result = step_bounded(step, result, 0, array == QUANTISE_A ? (INT64_C(1) << 47) - 1 : INT64_C(1) << 31);
    for (uint32_t i = 0; i < count; i++)
        result = magnitude(values[i]) > result ? magnitude(values[i]) : result;
    return result;
}

static int64_t largest(struct step *step, uint64_t segment) /* A */
{
    return step_bounded(step, segment_total(step, QUANTISE_A, segment), 0, (INT64_C(1) << 47) - 1);
}

static int64_t largest_turned(struct step *step, uint64_t segment) /* m */
{
    return step_bounded(step, segment_total(step, QUANTISE_M, segment), 0, INT64_C(1) << 31);
}

/* Sum of +-values: one row of a Hadamard matrix. */
static int64_t hadamard_row(const int64_t *values, uint32_t count, uint32_t row)
{
    int64_t sum = 0;
    for (uint32_t j = 0; j < count; j++)
        sum += odd_ones(row & j) ? -values[j] : values[j];
    return sum; /* honest ones are within 2^30, others within 2^52 */
}

/* The transform of `count` consecutive inputs, scaled down. */
static int64_t first_stage(struct step *step, uint64_t first, uint32_t count, uint32_t row)
{
    int64_t a[64];
    int T = reference_quantize_shift(largest(step, first / segment_size(step->o)), step->o->block);
    read_scaled(step, first, count, a);
    for (uint32_t i = 0; i < count; i++)
        a[i] = RS(a[i], T);
    return hadamard_row(a, count, row);
}

static int64_t turned(struct step *step, uint32_t array, uint64_t index)
{
    uint32_t b = step->o->block, i = (uint32_t)(index % b), groups = b / 64;
    uint64_t base = index - i;
    if (array == QUANTISE_H1)
        return first_stage(step, base + (uint64_t)(i % groups) * 64, 64, i / groups);
    if (b <= 64)
        return first_stage(step, base, b, i);
    int64_t values[64];
    step_read_array(step, QUANTISE_H1, base + (uint64_t)(i % 64) * groups, groups, values);
    return hadamard_row(values, groups, i / 64);
}

static int64_t quantised(struct step *step, uint64_t index)
{
    int64_t m = largest_turned(step, index / segment_size(step->o));
    return reference_quantize_element(step_array_element(step, QUANTISE_H, index), m);
}

/* isqrt(ss + eps), or RANGE */
static int64_t norm_root(struct step *step, int64_t ss)
{
    ss = step_bounded(step, ss, 0, (INT64_C(1) << 62) - 1);
    uint64_t sum = (uint64_t)ss + step->o->eps; /* both below 2^62 */
    if (sum >> 62)
        step_end(step, STEP_RANGE);
    return step->status ? 1 : (int64_t)reference_integer_root(sum);
}

static int64_t scale_of(struct step *step, uint64_t segment)
{
    const bulla_operation *o = step->o;
    int64_t m = largest_turned(step, segment);
    int T = reference_quantize_shift(largest(step, segment), o->block);
    if (o->kind == BULLA_NORM_QUANT)
        return reference_norm_scale(m, norm_root(step, segment_total(step, QUANTISE_SS, segment)), T + o->c - 31);
    int64_t s = m * (INT64_C(1) << T); /* T <= 29 */
    if (o->kind == BULLA_QUANT)
        return s;
    s = step_fits(step, s);
    return o->kind == BULLA_KEY_QUANT && !step->status ? RS(s * o->C, 16) : s;
}

static int64_t element_quantise(struct step *step, uint32_t array, uint64_t index)
{
    if (array == QUANTISE_H1 || array == QUANTISE_H)
        return turned(step, array, index);
    if (array == QUANTISE_Q)
        return quantised(step, index);
    return array == QUANTISE_S ? scale_of(step, index) : fold_segment(step, array, index);
}

const struct step_kind step_kind_quantise = {7, QUANTISE_Q, QUANTISE_S, shape_quantise, element_quantise};

/* value_quant */
enum { VALUE_K, VALUE_V8 };

static void shape_value(const struct step *step, uint32_t array, struct step_array *shape)
{
    *shape = array == VALUE_K ? (struct step_array){.count = step->o->heads, .width = 4, .is_result = 1}
                              : (struct step_array){.count = step->o->n, .width = 1, .is_result = 1};
}

static int64_t element_value(struct step *step, uint32_t array, uint64_t index)
{
    uint32_t size = step->o->head_size;
    if (array == VALUE_V8) {
        int64_t k = step_bounded(step, step_array_element(step, VALUE_K, index / size), 0, 24);
        return RS(step_input(step, 0, index), (int)k);
    }
    int64_t v[STEP_CHUNK], most = 0;
    int32_t k;
    step_read_bytes(step, 0, step->position, index * size, size, v);
    for (uint32_t i = 0; i < size; i++)
        most = magnitude(v[i]) > most ? magnitude(v[i]) : most;
    return reference_value_shift(most, &k) ? step_end(step, STEP_RANGE) : k;
}

const struct step_kind step_kind_value = {2, VALUE_V8, VALUE_K, shape_value, element_value};

enum { NORM_SS, NORM_Y };

static void shape_norm(const struct step *step, uint32_t array, struct step_array *shape)
{
    if (array == NORM_Y)
        shape_row(step, array, shape);
    else
        *shape = (struct step_array){.count = step->o->heads * step_chunks(step->o->head_size, STEP_CHUNK), .width = 8};
}

static int64_t element_norm(struct step *step, uint32_t array, uint64_t index)
{
    if (array == NORM_SS)
        return fold_segment(step, array, index);
    uint32_t size = step->o->head_size;
    int64_t ss = segment_total(step, NORM_SS, index / size), x = step_input(step, 0, index);
    int64_t G = step_tensor(step, BULLA_TENSOR_G, index % size), r = norm_root(step, ss), inv = (INT64_C(1) << 46) / r;
    int32_t y;
    x = step_bounded(step, x, -r, r);
    return reference_norm_element(x, inv, (int32_t)G, step->o->k, &y) ? step_end(step, STEP_RANGE) : y;
}

const struct step_kind step_kind_norm = {2, NORM_Y, NORM_Y, shape_norm, element_norm};

enum { LINEAR_ACC, LINEAR_Y };

static void shape_linear(const struct step *step, uint32_t array, struct step_array *shape)
{
    shape_row(step, array, shape);
    if (array == LINEAR_ACC)
        *shape = (struct step_array){.count = step->o->outputs * step_chunks(step->o->n, STEP_LINEAR_CHUNK), .width = 4};
}

static int64_t partial_sum(struct step *step, uint64_t index)
{
    uint32_t n = step->o->n;
    uint64_t chunks = step_chunks(n, STEP_LINEAR_CHUNK), row = index / chunks, c = index % chunks;
    uint64_t first = c * STEP_LINEAR_CHUNK;
    uint32_t count = step_chunk(n, c, STEP_LINEAR_CHUNK);
    int64_t W[STEP_LINEAR_CHUNK], q[STEP_LINEAR_CHUNK], acc = c ? step_array_element(step, LINEAR_ACC, index - 1) : 0;
    step_read_tensor(step, BULLA_TENSOR_W, row * n + first, count, W);
    step_read_bytes(step, 0, step->position, first, count, q);
    for (uint32_t i = 0; i < count; i++)
        acc += W[i] * q[i];
    return acc;
}

static int64_t element_linear(struct step *step, uint32_t array, uint64_t row)
{
    const bulla_operation *o = step->o;
    if (array == LINEAR_ACC)
        return partial_sum(step, row);
    uint64_t chunks = step_chunks(o->n, STEP_LINEAR_CHUNK);
    int64_t acc = step_array_element(step, LINEAR_ACC, row * chunks + chunks - 1);
    int64_t s = step_bounded(step, step_scale(step, 0, step->position, 0), 0, INT64_C(1) << 62);
    int64_t M = step_tensor(step, BULLA_TENSOR_M, row);
    int64_t bias = o->tensors[BULLA_TENSOR_BIAS] < 0 ? 0 : step_tensor(step, BULLA_TENSOR_BIAS, row);
    int32_t y;
    return reference_linear_end(acc, s, (uint16_t)M, (int32_t)bias, o->k1, o->k2, &y) ? step_end(step, STEP_RANGE) : y;
}

const struct step_kind step_kind_linear = {2, LINEAR_Y, LINEAR_Y, shape_linear, element_linear};

static int64_t element_embed(struct step *step, uint32_t array, uint64_t index)
{
    uint32_t id = step->answer->tokens[step->position];
    int8_t E8 = (int8_t)step_tensor(step, BULLA_TENSOR_E8, (uint64_t)id * step->o->outputs + index);
    uint16_t ME = (uint16_t)step_tensor(step, BULLA_TENSOR_ME, id);
    int32_t x;
    reference_embed(&E8, ME, step->o->ke, 1, &x);
    return x;
}

const struct step_kind step_kind_embed = {1, 0, 0, shape_row, element_embed};

static int64_t element_rope(struct step *step, uint32_t array, uint64_t index)
{
    const bulla_operation *o = step->o;
    uint32_t in_head = (uint32_t)(index % o->head_size), rotary = o->rotary;
    uint64_t head = index - in_head;
    if (in_head >= rotary)
        return step_input(step, 0, index);
    int is_half = (o->flags & BULLA_OPERATION_HALF) != 0;
    uint32_t i = is_half ? in_head % (rotary / 2) : in_head / 2;
    uint32_t first = is_half ? i : 2 * i, second = is_half ? i + rotary / 2 : 2 * i + 1;
    int64_t a = step_input(step, 0, head + first), b = step_input(step, 0, head + second);
    uint32_t n = reference_rope_angle(step->position, (uint64_t)step_tensor(step, BULLA_TENSOR_TURN, i));
    int64_t c = step_table(step, 3, n), s = step_table(step, 3, (n - (1 << 14)) & 0xFFFF);
    return step_fits(step, in_head == first ? RS(a * c - b * s, 14) : RS(a * s + b * c, 14));
}

const struct step_kind step_kind_rope = {1, 0, 0, shape_row, element_rope};

static int64_t element_gate(struct step *step, uint32_t array, uint64_t index)
{
    const bulla_operation *o = step->o;
    const int64_t edge = 1 << 20;
    int64_t g = step_input(step, 0, index), u = o->flags & BULLA_OPERATION_GATED ? step_input(step, 1, index) : 0;
    int32_t t;
    if (reference_gate_input(g, o->F_g, &t))
        return step_end(step, STEP_RANGE);
    int64_t a = t >= edge ? t : 0;
    if (!step->status && t >= -edge && t < edge)
        a = step_interpolate(step, (t + edge) >> 11, (t + edge) & 2047, 11);
    return step_fits(step, o->flags & BULLA_OPERATION_GATED ? RS(a * u, o->k) : a);
}

const struct step_kind step_kind_gate = {1, 0, 0, shape_row, element_gate};

static int64_t element_add(struct step *step, uint32_t array, uint64_t index)
{
    int32_t x = (int32_t)step_input(step, 0, index), y = (int32_t)step_input(step, 1, index), sum;
    return reference_add(&x, &y, 1, &sum) ? step_end(step, STEP_RANGE) : sum;
}

const struct step_kind step_kind_add = {1, 0, 0, shape_row, element_add};

static int64_t element_softcap(struct step *step, uint32_t array, uint64_t index)
{
    return step_softcap(step, step_input(step, 0, index));
}

const struct step_kind step_kind_softcap = {1, 0, 0, shape_row, element_softcap};
