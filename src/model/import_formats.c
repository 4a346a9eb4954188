/* One draft after another: its shifts and constants from bounds or from what the
 * calibration text shows, its integer tensors, its result at every position. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "model/import_state.h"
#include "model/program_names.h"
#include "model/real.h"

enum { E_SPAN = 8 };

/* Least x with |value| < 2^x (frexp's exponent). */
static int exponent_of(double value)
{
    int exponent = 0;
    if (value > 0)
        frexp(value, &exponent);
    return exponent;
}

static int clamp(int value, int low, int high)
{
    return value < low ? low : value > high ? high : value;
}

/* --- running --- */

static int alloc_value(const struct importing *im, const bulla_operation *o, struct import_value *value, bulla_error *error)
{
    enum program_value type = program_kind(o->kind)->result;
    memset(value, 0, sizeof *value);
    uint64_t elements = im->positions * o->outputs;
    int good = 1;
    if (type == VALUE_VECTOR)
        good = (value->vector = memory_alloc(elements, sizeof(int32_t), error)) != NULL;
    else
        good = (value->bytes = memory_alloc(elements, 1, error)) != NULL;
    if (type == VALUE_QUANTISED && good)
        good = (value->scale = memory_alloc(im->positions, sizeof(int64_t), error)) != NULL;
    else if (type != VALUE_VECTOR && good)
        good = (value->head_scale = memory_alloc(im->positions * o->heads, sizeof(int32_t), error)) != NULL;
    return good ? BULLA_OK : BULLA_E_MEMORY;
}

static void free_value(struct import_value *value)
{
    memory_free(value->vector);
    memory_free(value->bytes);
    memory_free(value->scale);
    memory_free(value->head_scale);
    memset(value, 0, sizeof *value);
}

static int run(struct importing *im, uint32_t index, bulla_error *error)
{
    const bulla_operation *o = &im->list.drafts[index].operation;
    struct import_step step = {.operation = o, .tables = im->tables, .ids = im->ids, .positions = im->positions,
                               .sequence_starts = im->sequence_starts, .sequences = im->sequences,
                               .output = &im->values[index]};
    for (int role = 0; role < BULLA_TENSOR_ROLES; role++)
        step.tensors[role] = im->tensors[role];
    for (int i = 0; i < 3 && o->inputs[i] >= 0; i++)
        step.inputs[i] = &im->values[o->inputs[i]];
    if (!im->values[index].vector && !im->values[index].bytes) {
        int code = alloc_value(im, o, &im->values[index], error);
        if (code)
            return code;
    }
    return im->executor->run(im->executor->context, &step, error);
}

/* The largest magnitude among many elements, a share a thread. */
struct largest {
    const int32_t *x;
    uint64_t count;
    unsigned threads;
    uint32_t found[256];
};

static void find_largest(void *context, unsigned thread)
{
    struct largest *largest = context;
    uint64_t begin, end;
    uint32_t found = 0;
    thread_share(largest->count, 4096, thread, largest->threads, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        uint32_t magnitude = largest->x[i] < 0 ? 0u - (uint32_t)largest->x[i] : (uint32_t)largest->x[i];
        found = magnitude > found ? magnitude : found;
    }
    largest->found[thread] = found;
}

uint32_t import_largest(const struct importing *im, uint32_t index)
{
    struct largest largest = {.x = im->values[index].vector, .threads = thread_team_size(im->team)};
    largest.count = im->positions * im->list.drafts[index].operation.outputs;
    thread_team_run(im->team, find_largest, &largest);
    uint32_t found = 0;
    for (unsigned i = 0; i < largest.threads; i++)
        found = largest.found[i] > found ? largest.found[i] : found;
    return found;
}

static int64_t largest_scale(const struct importing *im, uint32_t index)
{
    int64_t largest = 0;
    for (uint64_t i = 0; i < im->positions; i++)
        largest = im->values[index].scale[i] > largest ? im->values[index].scale[i] : largest;
    return largest;
}

/* --- tensors --- */

static int write_tensor(struct importing *im, struct draft *draft, int role, int dtype, uint32_t rows, uint32_t columns,
                        const void *data, bulla_error *error)
{
    if (!im->writer)
        return BULLA_OK;
    char name[80];
    snprintf(name, sizeof name, "%s.%s", draft->name, bulla_tensor_role_name(role));
    int code = model_writer_begin_tensor(im->writer, name, dtype, rows, columns, &draft->operation.tensors[role], error);
    return code ? code : model_writer_append(im->writer, data, (uint64_t)rows * columns * bulla_dtype_size(dtype), error);
}

static void *new_tensor(struct importing *im, int role, uint64_t count, size_t size, bulla_error *error)
{
    memory_free(im->tensors[role]);
    return im->tensors[role] = memory_alloc(count, size, error);
}

/* Multipliers mu[rows] as M * 2^-shift with the largest M in [2^15, 2^16). */
static int write_multipliers(struct importing *im, struct draft *draft, int role, const double *mu, uint32_t rows,
                             int lowest_shift, int highest_shift, int *shift, bulla_error *error)
{
    uint16_t *M = new_tensor(im, role, rows, sizeof *M, error);
    if (!M)
        return BULLA_E_MEMORY;
    double largest = 0;
    for (uint32_t i = 0; i < rows; i++)
        largest = mu[i] > largest ? mu[i] : largest;
    *shift = clamp(16 - exponent_of(largest), lowest_shift, highest_shift);
    if (floor(ldexp(largest, *shift) + 0.5) > 65535)
        --*shift;
    if (*shift < lowest_shift)
        return bulla_fail(error, BULLA_E_UNSUPPORTED, "%s: weights too large for the integer format", draft->name);
    for (uint32_t i = 0; i < rows; i++)
        M[i] = (uint16_t)floor(ldexp(mu[i], *shift) + 0.5);
    return write_tensor(im, draft, role, BULLA_U16, 1, rows, M, error);
}

/* round(n * eps * 2^(2F)), at least 1, below 2^62. */
static int norm_eps(const struct draft *draft, uint32_t n, int F, uint64_t *eps, bulla_error *error)
{
    struct real value = real_scale(real_multiply(real_of(n), real_of(draft->eps)), 2 * F);
    if (value.hi >= 4e18)
        return bulla_fail(error, BULLA_E_UNSUPPORTED, "%s: epsilon %g is too large at %d fraction bits", draft->name,
                          draft->eps, F);
    int64_t rounded = real_round(value);
    *eps = rounded < 1 ? 1 : (uint64_t)rounded;
    return BULLA_OK;
}

static int input_F(const struct importing *im, const struct draft *draft)
{
    return im->list.drafts[draft->operation.inputs[0]].operation.F;
}

/* --- embed --- */

int import_embed_fits(const struct importing *im, int F)
{
    return floor(ldexp(im->embed_scale, F) + 0.5) <= 65535;
}

static int do_embed(struct importing *im, uint32_t index, struct draft *draft, bulla_error *error)
{
    bulla_operation *o = &draft->operation;
    uint32_t rows = im->list.vocabulary, n = o->outputs;
    double *scales = memory_alloc(rows, sizeof *scales, error);
    int8_t *E8 = new_tensor(im, BULLA_TENSOR_E8, rows, n, error);
    struct weight_job job = {.source = im->source, .draft = draft, .rows = rows, .columns = n, .block = 1, .team = im->team,
                             .W = E8, .scales = scales, .tick = import_tick, .tick_context = im};
    int code = scales && E8 ? weights_round(&job, error) : BULLA_E_MEMORY;
    if (code == BULLA_OK)
        code = write_tensor(im, draft, BULLA_TENSOR_E8, BULLA_I8, rows, n, E8, error);
    o->F = im->residual_F;
    im->embed_scale = 0;
    for (uint32_t i = 0; i < rows && code == BULLA_OK; i++) {
        scales[i] *= draft->factor;
        im->embed_scale = scales[i] > im->embed_scale ? scales[i] : im->embed_scale;
        scales[i] = ldexp(scales[i], o->F);
    }
    if (code == BULLA_OK && !import_embed_fits(im, o->F))
        code = bulla_fail(error, BULLA_E_RANGE, "elements up to %g are too large for %d fraction bits", im->embed_scale * 127, o->F);
    if (code == BULLA_OK)
        code = write_multipliers(im, draft, BULLA_TENSOR_ME, scales, rows, 0, 61, &o->ke, error);
    memory_free(scales);
    return code ? code : run(im, index, error);
}

/* --- norm_quant, quant --- */

/* g = rest * 2^e, e in 0..8 nearest to what is wanted, the largest at 8. */
static int split_gains(struct importing *im, uint32_t index, struct draft *draft, bulla_error *error)
{
    uint32_t n = draft->operation.n;
    memory_free(im->rest);
    memory_free(im->gain);
    im->rest = memory_alloc(n, sizeof *im->rest, error);
    im->gain = memory_alloc(n, sizeof *im->gain, error);
    uint8_t *e = new_tensor(im, BULLA_TENSOR_E, n, 1, error);
    if (!im->rest || !im->gain || !e)
        return BULLA_E_MEMORY;
    int code = weights_read_vector(im->source, draft->gain, 0, n, im->gain, error);
    if (code)
        return code;
    for (uint32_t i = 0; i < n; i++)
        im->gain[i] += draft->gain_offset;
    double *wanted = memory_alloc(n, sizeof *wanted, error);
    code = wanted ? import_wanted_scales(im, index, im->gain, wanted, error) : BULLA_E_MEMORY;
    double largest = 0;
    for (uint32_t i = 0; i < n && code == BULLA_OK; i++)
        largest = wanted[i] > largest ? wanted[i] : largest;
    for (uint32_t i = 0; i < n && code == BULLA_OK; i++) {
        double ratio = largest > 0 ? wanted[i] / largest : 0;
        int exponent = 0;
        double fraction = frexp(ratio, &exponent);
        int nearest = fraction < 0.70710678118654757 ? exponent - 1 : exponent; /* of 2^e around the ratio */
        e[i] = (uint8_t)(ratio > 0 ? clamp(E_SPAN + nearest, 0, E_SPAN) : 0);
        im->rest[i] = ldexp(im->gain[i], -e[i]);
    }
    memory_free(wanted);
    if (code)
        return code;
    return write_tensor(im, draft, BULLA_TENSOR_E, BULLA_U8, 1, n, e, error);
}

static int do_norm_quant(struct importing *im, uint32_t index, struct draft *draft, bulla_error *error)
{
    bulla_operation *o = &draft->operation;
    int code = split_gains(im, index, draft, error);
    if (code == BULLA_OK)
        code = norm_eps(draft, o->n, input_F(im, draft), &o->eps, error);
    o->c = 16;
    if (code == BULLA_OK)
        code = run(im, index, error);
    if (code)
        return code;
    int length = exponent_of((double)largest_scale(im, index));
    o->c = clamp(o->c + 26 - length, -64, 64); /* the largest s in [2^25, 2^26) */
    return run(im, index, error);
}

static int do_quant(struct importing *im, uint32_t index, struct draft *draft, bulla_error *error)
{
    return run(im, index, error);
}

/* --- linear --- */

/* Fraction bits of a linear operation's result; FORMAT_BRANCH after `quant` is
 * found by running (do_linear). */
static int linear_F(const struct importing *im, const struct draft *draft, int after_norm, double bound)
{
    int room = exponent_of(bound);
    switch (draft->format) {
    case FORMAT_RESIDUAL:
        return im->residual_F;
    case FORMAT_HEAD:
        return after_norm ? clamp(20 - room, -15, 30) : 12;
    case FORMAT_LOGITS:
        return clamp(29 - room, 0, 16);
    default:
        return after_norm ? clamp(24 - room, -15, 30) : 12;
    }
}

static int linear_parameters(struct importing *im, struct draft *draft, const double *scales, double *mu, bulla_error *error)
{
    bulla_operation *o = &draft->operation;
    const struct draft *input = &im->list.drafts[o->inputs[0]];
    int norm = input->operation.kind == BULLA_NORM_QUANT, shift, code;
    /* y = acc * s * scale / 127 * 2^(F - F_x), or after a norm * sqrt(n) * 2^(F - c). */
    int exponent = norm ? o->F - input->operation.c : o->F - im->list.drafts[input->operation.inputs[0]].operation.F;
    double unit = (norm ? sqrt(o->n) : 1) / 127;
    for (uint32_t i = 0; i < o->outputs; i++)
        mu[i] = ldexp(scales[i] * unit, exponent);
    int64_t largest = largest_scale(im, (uint32_t)o->inputs[0]);
    o->k1 = clamp(exponent_of((double)largest) + (norm ? 2 : 4) - 15, 0, 31);
    code = write_multipliers(im, draft, BULLA_TENSOR_M, mu, o->outputs, o->k1, o->k1 + 61, &shift, error);
    o->k2 = shift - o->k1;
    if (code || !draft->bias.tensor)
        return code;
    int32_t *bias = new_tensor(im, BULLA_TENSOR_BIAS, o->outputs, sizeof *bias, error);
    if (!bias)
        return BULLA_E_MEMORY;
    code = weights_read_vector(im->source, draft->bias.tensor, draft->bias.first, o->outputs, mu, error);
    for (uint32_t i = 0; i < o->outputs && code == BULLA_OK; i++) {
        mu[i] *= weights_row_factor(draft, i);
        double value = floor(ldexp(mu[i], o->F) + 0.5);
        if (fabs(value) >= 1073741824.0)
            return bulla_fail(error, BULLA_E_UNSUPPORTED, "%s: bias %g is too large for %d fraction bits", draft->name, mu[i],
                              o->F);
        bias[i] = (int32_t)value;
    }
    return code ? code : write_tensor(im, draft, BULLA_TENSOR_BIAS, BULLA_I32, 1, o->outputs, bias, error);
}

/* A branch before a post-norm: F by what the text shows, its largest near 2^24. */
static int measure_branch(struct importing *im, uint32_t index, struct draft *draft, const double *scales, double *mu,
                          bulla_error *error)
{
    struct model_writer *writer = im->writer;
    im->writer = NULL; /* nothing is written before F is known */
    int code = BULLA_E_RANGE;
    for (int F = 12; code == BULLA_E_RANGE && F > -40; F -= 6) {
        bulla_error_clear(error);
        draft->operation.F = F;
        code = linear_parameters(im, draft, scales, mu, error);
        if (code == BULLA_OK)
            code = run(im, index, error);
    }
    im->writer = writer;
    if (code == BULLA_OK)
        draft->operation.F = clamp(draft->operation.F + 24 - exponent_of(import_largest(im, index)), -15, 30);
    return code;
}

static int do_linear(struct importing *im, uint32_t index, struct draft *draft, bulla_error *error)
{
    bulla_operation *o = &draft->operation;
    int32_t input = o->inputs[0];
    int norm = im->list.drafts[input].operation.kind == BULLA_NORM_QUANT, head = draft->format == FORMAT_LOGITS;
    if (!im->writer && head)
        return BULLA_OK; /* the measuring pass needs no logits */
    int code = BULLA_OK;
    if (im->feedback && im->factor_input != input)
        code = import_make_factor(im, input, error);
    double *scales = memory_alloc(o->outputs, sizeof *scales, error), *mu = memory_alloc(o->outputs, sizeof *mu, error);
    int8_t *W = head ? NULL : new_tensor(im, BULLA_TENSOR_W, o->outputs, o->n, error);
    if (code == BULLA_OK && (!scales || !mu || (!W && !head)))
        code = BULLA_E_MEMORY;
    struct weight_job job = {.source = im->source, .draft = draft, .rest = norm ? im->rest : NULL, .gain = im->gain,
                             .factor = im->feedback ? im->factor : NULL, .rows = o->outputs, .columns = o->n,
                             .block = im->list.drafts[input].operation.block, .bound_factor = sqrt(o->n), .team = im->team,
                             .W = W, .scales = scales, .tick = import_tick, .tick_context = im};
    if (code == BULLA_OK && head) {
        char name[80];
        snprintf(name, sizeof name, "%s.W", draft->name);
        job.writer = im->writer;
        code = model_writer_begin_tensor(im->writer, name, BULLA_I8, o->outputs, o->n, &o->tensors[BULLA_TENSOR_W], error);
    }
    if (code == BULLA_OK)
        code = weights_round(&job, error);
    if (code == BULLA_OK && !head)
        code = write_tensor(im, draft, BULLA_TENSOR_W, BULLA_I8, o->outputs, o->n, W, error);
    if (code == BULLA_OK && draft->format == FORMAT_BRANCH && !norm)
        code = measure_branch(im, index, draft, scales, mu, error);
    else
        o->F = linear_F(im, draft, norm, job.bound);
    if (head && index + 1 < im->list.count) /* a softcap's table covers +-2^19: five caps to each side */
        o->F = clamp(19 - exponent_of(5 * im->list.drafts[index + 1].softcap), 0, 16);
    if (code == BULLA_OK)
        code = linear_parameters(im, draft, scales, mu, error);
    memory_free(scales);
    memory_free(mu);
    return code || head ? code : run(im, index, error);
}

/* --- the rest --- */

static int do_norm(struct importing *im, uint32_t index, struct draft *draft, bulla_error *error)
{
    bulla_operation *o = &draft->operation;
    uint32_t n = o->head_size;
    o->F = draft->format == FORMAT_RESIDUAL ? im->residual_F : 14;
    int code = norm_eps(draft, n, input_F(im, draft), &o->eps, error);
    double *gain = memory_alloc(n, sizeof *gain, error), root = sqrt(n), largest = 0;
    int32_t *G = new_tensor(im, BULLA_TENSOR_G, n, sizeof *G, error);
    if (code == BULLA_OK)
        code = gain && G ? weights_read_vector(im->source, draft->gain, 0, n, gain, error) : BULLA_E_MEMORY;
    for (uint32_t i = 0; i < n && code == BULLA_OK; i++) {
        gain[i] = (gain[i] + draft->gain_offset) * root;
        largest = fabs(gain[i]) > largest ? fabs(gain[i]) : largest;
    }
    /* y = x / r * 2^24 * G * 2^-k, G = gain * 2^scale, k = 24 + scale - F */
    int scale = clamp(23 - exponent_of(largest), o->F - 24, 61 - 24 + o->F);
    o->k = 24 + scale - o->F;
    for (uint32_t i = 0; i < n && code == BULLA_OK; i++) {
        double value = floor(ldexp(gain[i], scale) + 0.5);
        if (fabs(value) >= 16777216)
            code = bulla_fail(error, BULLA_E_UNSUPPORTED, "%s: the gains are too large for %d fraction bits", draft->name, o->F);
        else
            G[i] = (int32_t)value;
    }
    memory_free(gain);
    if (code == BULLA_OK)
        code = write_tensor(im, draft, BULLA_TENSOR_G, BULLA_I32, 1, n, G, error);
    return code ? code : run(im, index, error);
}

static int do_rope(struct importing *im, uint32_t index, struct draft *draft, bulla_error *error)
{
    bulla_operation *o = &draft->operation;
    o->F = input_F(im, draft);
    int slot = 0;
    while (slot < 7 && im->turns[slot] && im->turns[slot] != draft->turn)
        slot++;
    if (im->writer && !im->turns[slot]) {
        int code = write_tensor(im, draft, BULLA_TENSOR_TURN, BULLA_U64, 1, o->rotary / 2, draft->turn, error);
        if (code)
            return code;
        im->turns[slot] = draft->turn;
        im->shared_turn[slot] = o->tensors[BULLA_TENSOR_TURN];
    }
    if (im->writer)
        o->tensors[BULLA_TENSOR_TURN] = im->shared_turn[slot];
    uint64_t *turn = new_tensor(im, BULLA_TENSOR_TURN, o->rotary / 2, sizeof *turn, error);
    if (!turn)
        return BULLA_E_MEMORY;
    memcpy(turn, draft->turn, o->rotary / 2 * sizeof *turn);
    return run(im, index, error);
}

static int find_attend(const struct importing *im, uint32_t key)
{
    for (uint32_t i = key + 1; i < im->list.count; i++)
        if (im->list.drafts[i].operation.kind == BULLA_ATTEND && im->list.drafts[i].operation.inputs[1] == (int32_t)key)
            return (int)i;
    return -1;
}

/* C and a2: z = (q . k) * scale * log2(e) * 2^10, with q . k = acc * s_q * s_k / (127^2 b) * 2^-(F_q + F_k)
 * and z = acc * s_q * s_k * C * 2^-(16 + 22 + a2). */
static int do_key_quant(struct importing *im, uint32_t index, struct draft *draft, bulla_error *error)
{
    bulla_operation *o = &draft->operation;
    int attend = find_attend(im, index);
    if (attend < 0)
        return bulla_fail(error, BULLA_E_INTERNAL, "%s: keys that nothing reads", draft->name);
    bulla_operation *a = &im->list.drafts[attend].operation;
    const struct draft *query = &im->list.drafts[a->inputs[0]];
    struct real log2_e = real_divide(real_of(1), real_log(real_of(2)));
    double value = real_multiply(real_of(draft->factor / (16129.0 * o->block)), log2_e).hi;
    value = ldexp(value, 10 - input_F(im, query) - input_F(im, draft));
    int shift = clamp(16 - exponent_of(value), 38, 38 + 61);
    if (floor(ldexp(value, shift) + 0.5) > 65535)
        shift--;
    double C = floor(ldexp(value, shift) + 0.5);
    if (shift < 38 || C > 65535 || C < 1)
        return bulla_fail(error, BULLA_E_UNSUPPORTED, "%s: the score scale %g does not fit", draft->name, draft->factor);
    o->C = (uint32_t)C;
    a->a2 = shift - 38;
    return run(im, index, error);
}

static int softcap_table(struct importing *im, struct draft *draft, int logarithmic, int F, bulla_error *error)
{
    bulla_operation *o = &draft->operation;
    int32_t *A = new_tensor(im, BULLA_TENSOR_A, 1025, sizeof *A, error);
    if (!A)
        return BULLA_E_MEMORY;
    tables_softcap(draft->softcap, logarithmic, F, A);
    if (logarithmic && im->writer && im->shared_softcap >= 0) {
        o->tensors[BULLA_TENSOR_A] = im->shared_softcap; /* one cap in all layers */
        return BULLA_OK;
    }
    int code = write_tensor(im, draft, BULLA_TENSOR_A, BULLA_I32, 1, 1025, A, error);
    if (logarithmic && im->writer)
        im->shared_softcap = o->tensors[BULLA_TENSOR_A];
    return code;
}

static int do_attend(struct importing *im, uint32_t index, struct draft *draft, bulla_error *error)
{
    bulla_operation *o = &draft->operation;
    o->F = input_F(im, &im->list.drafts[o->inputs[2]]) + 2;
    int code = draft->softcap > 0 ? softcap_table(im, draft, 1, 10, error) : BULLA_OK;
    return code ? code : run(im, index, error);
}

static int do_gate(struct importing *im, uint32_t index, struct draft *draft, bulla_error *error)
{
    bulla_operation *o = &draft->operation;
    int32_t *A = new_tensor(im, BULLA_TENSOR_A, 1025, sizeof *A, error);
    if (!A)
        return BULLA_E_MEMORY;
    memcpy(A, im->activation[draft->activation], 1025 * sizeof *A);
    o->tensors[BULLA_TENSOR_A] = im->writer ? im->activation_tensor[draft->activation] : -1;
    o->F_g = input_F(im, draft);
    if (!(o->flags & BULLA_OPERATION_GATED)) {
        o->F = 16;
        return run(im, index, error);
    }
    int F_u = im->list.drafts[o->inputs[1]].operation.F, code = BULLA_E_RANGE;
    /* F = 16 + F_u - k; its largest near 2^27 */
    for (o->k = clamp(16, 0, 61); code == BULLA_E_RANGE && o->k < 60; o->k += 6) {
        bulla_error_clear(error);
        code = run(im, index, error);
        if (code == BULLA_OK)
            break;
    }
    if (code)
        return code;
    o->k = clamp(o->k + exponent_of(import_largest(im, index)) - 27, 0, 61);
    o->F = 16 + F_u - o->k;
    return run(im, index, error);
}

static int do_add(struct importing *im, uint32_t index, struct draft *draft, bulla_error *error)
{
    draft->operation.F = im->residual_F;
    return run(im, index, error);
}

static int do_softcap(struct importing *im, uint32_t index, struct draft *draft, bulla_error *error)
{
    draft->operation.F = input_F(im, draft);
    return im->writer ? softcap_table(im, draft, 0, draft->operation.F, error) : BULLA_OK;
}

static int do_heads(struct importing *im, uint32_t index, struct draft *draft, bulla_error *error)
{
    draft->operation.F = input_F(im, draft);
    return run(im, index, error);
}

int import_draft(struct importing *im, uint32_t index, bulla_error *error)
{
    static int (*const kinds[BULLA_OPERATION_KINDS])(struct importing *, uint32_t, struct draft *, bulla_error *) = {
        [BULLA_EMBED] = do_embed,         [BULLA_NORM_QUANT] = do_norm_quant, [BULLA_QUANT] = do_quant,
        [BULLA_LINEAR] = do_linear,       [BULLA_NORM] = do_norm,             [BULLA_ROPE] = do_rope,
        [BULLA_HEAD_QUANT] = do_heads,    [BULLA_KEY_QUANT] = do_key_quant,   [BULLA_VALUE_QUANT] = do_heads,
        [BULLA_ATTEND] = do_attend,       [BULLA_GATE] = do_gate,             [BULLA_ADD] = do_add,
        [BULLA_SOFTCAP] = do_softcap,
    };
    struct draft *draft = &im->list.drafts[index];
    int code = kinds[draft->operation.kind](im, index, draft, error);
    for (int role = 0; role < BULLA_TENSOR_ROLES; role++) {
        memory_free(im->tensors[role]);
        im->tensors[role] = NULL;
    }
    if (code == BULLA_OK && !im->writer && (draft->operation.kind == BULLA_GATE || draft->operation.kind == BULLA_ATTEND))
        code = import_balance(im, index, error);
    if (code == BULLA_OK && draft->format == FORMAT_RESIDUAL && im->values[index].vector) {
        double largest = ldexp(import_largest(im, index), -draft->operation.F);
        im->residual_max = largest > im->residual_max ? largest : im->residual_max;
    }
    for (int i = 0; i < 3; i++) {
        int32_t input = draft->operation.inputs[i];
        if (input >= 0 && im->last_use[input] == index)
            free_value(&im->values[input]);
    }
    return code ? bulla_fail_prefix(error, "%s", draft->name) : BULLA_OK;
}
