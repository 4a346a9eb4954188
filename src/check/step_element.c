/* What the functions of elements share: kinds, shapes, reads, bounds. */
#include <string.h>

#include "check/step_internal.h"
#include "exec/ref/operations.h"

static const struct step_kind *const kinds[BULLA_OPERATION_KINDS] = {
    [0] = &step_kind_sampling,
    [BULLA_EMBED] = &step_kind_embed,         [BULLA_NORM_QUANT] = &step_kind_quantise,
    [BULLA_QUANT] = &step_kind_quantise,      [BULLA_LINEAR] = &step_kind_linear,
    [BULLA_NORM] = &step_kind_norm,           [BULLA_ROPE] = &step_kind_rope,
    [BULLA_HEAD_QUANT] = &step_kind_quantise, [BULLA_KEY_QUANT] = &step_kind_quantise,
    [BULLA_VALUE_QUANT] = &step_kind_value,   [BULLA_ATTEND] = &step_kind_attend,
    [BULLA_GATE] = &step_kind_gate,           [BULLA_ADD] = &step_kind_add,
    [BULLA_SOFTCAP] = &step_kind_softcap,
};

const struct step_kind *step_kind(int kind)
{
    return kinds[kind];
}

static const bulla_operation *operation_of(const struct step_program *program, uint32_t operation)
{
    return operation < program->program.operation_count ? &program->program.operations[operation] : NULL;
}

static const struct step_kind *kind_of(const struct step_program *program, uint32_t operation)
{
    const bulla_operation *o = operation_of(program, operation);
    return step_kind(o ? o->kind : 0);
}

uint32_t step_array_count(const struct step_program *program, uint32_t operation)
{
    return kind_of(program, operation)->arrays;
}

struct step_array step_array_shape(const struct step_program *program, const struct step_answer *answer,
                                   uint32_t operation, uint64_t position, uint32_t array)
{
    struct step_array shape = {.width = 1};
    if (operation > program->program.operation_count || array >= step_array_count(program, operation))
        return shape;
    const struct step step = {.program = program, .answer = answer, .o = operation_of(program, operation),
                              .operation = operation, .position = position};
    kind_of(program, operation)->shape(&step, array, &shape);
    return shape;
}

uint64_t step_array_blocks(const struct step_array *array)
{
    return (array->count * array->width + STEP_BLOCK - 1) / STEP_BLOCK;
}

int64_t step_number(const uint8_t *bytes, unsigned width, int is_signed)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < width; i++)
        value |= (uint64_t)bytes[i] << 8 * i;
    uint64_t sign = is_signed && width < 8 ? UINT64_C(1) << (8 * width - 1) : 0;
    return (int64_t)((value ^ sign) - sign);
}

int64_t step_block_element(const struct step_array *array, const uint8_t *bytes, uint32_t element)
{
    return step_number(bytes + (size_t)element * array->width, array->width, 1);
}

int64_t step_element(struct step *step, uint32_t array, uint64_t index)
{
    return kind_of(step->program, step->operation)->element(step, array, index);
}

void step_read(struct step *step, const struct step_source *source, uint64_t first, uint32_t count, int64_t *values)
{
    if (step->status == STEP_HOLDS && count > 0 && step->read(step->context, step, source, first, count, values))
        step->status = STEP_UNPROVED;
    if (step->status != STEP_HOLDS)
        memset(values, 0, count * sizeof *values);
}

void step_read_array(struct step *step, uint32_t array, uint64_t first, uint32_t count, int64_t *values)
{
    const struct step_source source = {.kind = STEP_SOURCE_ARRAY, .operation = step->operation, .array = array,
                                       .position = step->position};
    step_read(step, &source, first, count, values);
}

int64_t step_array_element(struct step *step, uint32_t array, uint64_t index)
{
    int64_t value;
    step_read_array(step, array, index, 1, &value);
    return value;
}

static void read_result(struct step *step, int slot, int is_scale, uint64_t position, uint64_t first, uint32_t count,
                        int64_t *values)
{
    uint32_t input = (uint32_t)step->o->inputs[slot];
    const struct step_kind *kind = kind_of(step->program, input);
    const struct step_source source = {STEP_SOURCE_RESULT, input, is_scale ? kind->scale : kind->bytes, position};
    step_read(step, &source, first, count, values);
}

void step_read_bytes(struct step *step, int slot, uint64_t position, uint64_t first, uint32_t count, int64_t *values)
{
    read_result(step, slot, 0, position, first, count, values);
}

int64_t step_input(struct step *step, int slot, uint64_t index)
{
    int64_t value;
    read_result(step, slot, 0, step->position, index, 1, &value);
    return value;
}

int64_t step_scale(struct step *step, int slot, uint64_t position, uint64_t index)
{
    int64_t value;
    read_result(step, slot, 1, position, index, 1, &value);
    return value;
}

static void read_tensor(struct step *step, int32_t tensor, uint64_t first, uint32_t count, int64_t *values)
{
    const struct step_source source = {.kind = STEP_SOURCE_TENSOR, .array = (uint32_t)tensor};
    step_read(step, &source, first, count, values);
}

void step_read_tensor(struct step *step, int role, uint64_t first, uint32_t count, int64_t *values)
{
    read_tensor(step, step->o->tensors[role], first, count, values);
}

int64_t step_tensor(struct step *step, int role, uint64_t index)
{
    int64_t value;
    step_read_tensor(step, role, index, 1, &value);
    return value;
}

int64_t step_table(struct step *step, int table, uint64_t index)
{
    int64_t value;
    read_tensor(step, table, index, 1, &value);
    return value;
}

int64_t step_exp(struct step *step, int table, int bits, int64_t D)
{
    if (step->status != STEP_HOLDS || D >> 10 >= bits)
        return 0;
    return (step_table(step, table, (uint64_t)D & 1023) & UINT32_MAX) >> (D >> 10);
}

int64_t step_interpolate(struct step *step, int64_t i, int64_t f, int bits)
{
    int64_t A[2];
    step_read_tensor(step, BULLA_TENSOR_A, (uint64_t)i, 2, A);
    return reference_interpolate(A[0], A[1], f, bits);
}

int64_t step_softcap(struct step *step, int64_t z)
{
    const int64_t edge = 1 << 19;
    if (z < -edge)
        return step_tensor(step, BULLA_TENSOR_A, 0);
    if (z >= edge)
        return step_tensor(step, BULLA_TENSOR_A, 1024);
    return step_interpolate(step, (z + edge) >> 10, (z + edge) & 1023, 10);
}

int64_t step_end(struct step *step, int status)
{
    if (step->status == STEP_HOLDS)
        step->status = status;
    return 0;
}

int64_t step_bounded(struct step *step, int64_t value, int64_t low, int64_t high)
{
    if (value >= low && value <= high)
        return value;
    step_end(step, STEP_NO_OPERAND);
    return low;
}

int64_t step_fits(struct step *step, int64_t value)
{
    return value > -(INT64_C(1) << 31) && value < INT64_C(1) << 31 ? value : step_end(step, STEP_RANGE);
}

uint64_t step_chunks(uint64_t size, uint32_t chunk)
{
    return (size + chunk - 1) / chunk;
}

uint32_t step_chunk(uint64_t size, uint64_t c, uint32_t chunk)
{
    uint64_t left = size - c * chunk;
    return (uint32_t)(left < chunk ? left : chunk);
}
