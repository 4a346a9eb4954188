/* One cell of a trace: its arrays, their comparison, and openings out of them. */
#include <string.h>

#include "base/memory.h"
#include "check/trace_internal.h"

enum { LEAF = 1024 }; /* bytes of a leaf under the model root */

static struct trace_cell_array *array_at(const struct trace *trace, uint32_t operation, uint32_t array)
{
    return &trace->arrays[trace->program.operations[operation].first_array + array];
}

/* The values that the cell's operations read and give. Those of the group that was expanded before are there. */
static int run_up_to(struct trace *trace, uint32_t group, uint64_t position, bulla_error *error)
{
    uint32_t last = trace->program.groups - 2, target = group < last ? group : last; /* last: with the logits */
    int is_slice = target == last && trace_is_sliceable(trace, last), code = BULLA_OK;
    if (trace->kept_group != target) {
        trace_free_values(trace);
        trace->kept_group = UINT32_MAX;
        code = trace_run_groups(trace, is_slice ? last : target + 1, target, 0, error);
    }
    if (code == BULLA_OK)
        trace->kept_group = target;
    return code == BULLA_OK && is_slice ? trace_run_group(trace, last, position, 1, last, 0, error) : code;
}

static int is_range_operation(const struct trace *trace, uint32_t operation)
{
    return trace->cell.is_range && operation == trace->answer.range_operation;
}

/* An operation's arrays, their trees and their roots in the message. */
static int expand_operation(struct trace *trace, uint32_t operation, const int64_t *witnesses, bulla_error *error)
{
    struct trace_cell_array *arrays = array_at(trace, operation, 0);
    if (!is_range_operation(trace, operation) &&
        !step_is_evaluated(&trace->program, &trace->answer, operation, trace->cell.position))
        return BULLA_OK;
    int code = trace_expand_operation(trace, operation, trace->cell.position, witnesses, 1, arrays, error);
    for (uint32_t i = 0; i < step_array_count(&trace->program, operation) && code == BULLA_OK; i++) {
        struct trace_cell_array *array = &arrays[i];
        code = merkle_levels_array(&array->tree.levels, array->bytes, array->shape.count * array->shape.width,
                                   trace->stream, error);
        array->tree.first_bad = array->first_bad == UINT64_MAX ? UINT64_MAX
                                                               : array->first_bad * array->shape.width / STEP_BLOCK;
        size_t number = trace->program.operations[operation].first_array + i;
        merkle_levels_root(&array->tree.levels, trace->message + number * MERKLE_HASH);
        if (is_range_operation(trace, operation) && array->bad_status == STEP_RANGE &&
            trace->cell.range_array == UINT32_MAX) {
            trace->cell.range_array = i;
            trace->cell.range_index = array->first_bad;
        }
    }
    return code;
}

static void write_witnesses(struct trace *trace)
{
    uint32_t sampling = trace->program.program.operation_count;
    if (trace->cell.group != trace->program.groups - 1 || trace->answer.sampling->temperature == 0)
        return;
    uint8_t *at = trace->message + trace->cell.length - STEP_WITNESSES * 8;
    for (uint32_t i = 0; i < step_array_count(&trace->program, sampling); i++) {
        const struct trace_cell_array *array = array_at(trace, sampling, i);
        if (array->shape.is_witness && array->bytes) {
            memcpy(at, array->bytes, 16);
            at += 16;
        }
    }
}

int trace_expand(struct trace *trace, uint32_t group, uint64_t position, const int64_t *witnesses, int is_range,
                 bulla_error *error)
{
    const struct step_answer *answer = &trace->answer;
    if (group >= trace->program.groups || position >= trace->positions)
        return bulla_fail(error, BULLA_E_USAGE, "a trace has no cell of group %u at position %llu", group,
                          (unsigned long long)position);
    is_range = is_range && answer->has_range && position == answer->range_position &&
               group == trace->program.operations[answer->range_operation].group;
    if (trace->is_expanded && !witnesses && trace->cell.group == group && trace->cell.position == position &&
        trace->cell.is_range == is_range)
        return BULLA_OK;
    trace->is_expanded = 0;
    trace_free_arrays(trace->arrays, STEP_MOST_ARRAYS);
    memset(trace->message, 0, STEP_MESSAGE);
    trace->cell = (struct step_cell){.group = group, .position = position, .message = trace->message,
        .length = step_cell_length(&trace->program, answer, group), .is_range = is_range, .range_array = UINT32_MAX};
    int code = run_up_to(trace, group, position, error);
    uint32_t begin, end;
    step_group(&trace->program, group, &begin, &end);
    for (uint32_t i = begin; i < end && code == BULLA_OK; i++)
        code = expand_operation(trace, i, witnesses, error);
    if (code == BULLA_OK)
        write_witnesses(trace);
    trace->is_expanded = code == BULLA_OK && !witnesses;
    return code;
}

const struct step_cell *trace_arrays(const struct trace *trace)
{
    return &trace->cell;
}

int trace_arrays_difference(const struct trace *trace, const struct step_cell *other, uint32_t *operation,
                            uint32_t *array)
{
    uint32_t begin, end;
    step_group(&trace->program, trace->cell.group, &begin, &end);
    for (uint32_t o = begin; o < end; o++)
        for (uint32_t a = 0; a < step_array_count(&trace->program, o); a++) {
            const uint8_t *own = step_cell_root(&trace->program, &trace->cell, o, a);
            const uint8_t *theirs = step_cell_root(&trace->program, other, o, a);
            const struct trace_cell_array *mine = array_at(trace, o, a);
            int is_bad = mine->bytes && mine->first_bad != UINT64_MAX;
            if (other->is_range && o == trace->answer.range_operation) {
                if (a > other->range_array)
                    continue; /* cannot be disputed */
                is_bad &= a != other->range_array; /* what the proposer names is looked at by itself */
            }
            if (!theirs || memcmp(own, theirs, MERKLE_HASH) != 0 || is_bad) {
                *operation = o;
                *array = a;
                return 1;
            }
        }
    return 0;
}

const struct trace_tree *trace_array(const struct trace *trace, uint32_t operation, uint32_t array)
{
    return &array_at(trace, operation, array)->tree;
}

const uint8_t *trace_block(const struct trace *trace, uint32_t operation, uint32_t array, uint64_t block, size_t *length)
{
    const struct trace_cell_array *own = array_at(trace, operation, array);
    uint64_t left = own->shape.count * own->shape.width - block * STEP_BLOCK;
    *length = left < STEP_BLOCK ? left : STEP_BLOCK;
    return own->bytes + block * STEP_BLOCK;
}

int64_t trace_block_difference(const struct trace *trace, uint32_t operation, uint32_t array, uint64_t block,
                               const uint8_t *other)
{
    const struct trace_cell_array *own = array_at(trace, operation, array);
    size_t length;
    const uint8_t *bytes = trace_block(trace, operation, array, block, &length);
    uint64_t first = block * STEP_BLOCK / own->shape.width;
    for (uint32_t i = 0; i < length / own->shape.width; i++)
        if (own->first_bad == first + i ||
            memcmp(bytes + i * own->shape.width, other + i * own->shape.width, own->shape.width) != 0)
            return (int64_t)(first + i);
    return -1;
}

int64_t trace_element(const struct trace *trace, uint32_t operation, uint32_t array, uint64_t index)
{
    const struct trace_cell_array *own = array_at(trace, operation, array);
    return step_block_element(&own->shape, own->bytes + index * own->shape.width, 0);
}

/* An opening being written: the reads of a step, answered from memory, each with its piece. */
struct writer {
    struct trace *trace;
    uint8_t *bytes;
    size_t length;
    int is_full, code;
    int has_border;
    uint64_t border_cell;
};

static void put(struct writer *writer, const void *bytes, uint64_t length)
{
    if (writer->is_full || length > STEP_MESSAGE - writer->length) {
        writer->is_full = 1;
        return;
    }
    memcpy(writer->bytes + writer->length, bytes, length);
    writer->length += length;
}

/* Leaves of `size` bytes that hold bytes [first, end) of `total`, and their proof. */
static void put_leaves(struct writer *writer, const struct merkle_levels *levels, const uint8_t *bytes, uint64_t size,
                       uint64_t first, uint64_t end, uint64_t total)
{
    uint8_t proof[128][MERKLE_HASH];
    uint64_t begin = first / size, last = (end - 1) / size, stop = (last + 1) * size < total ? (last + 1) * size : total;
    put(writer, bytes + begin * size, stop - begin * size);
    unsigned length = merkle_levels_proof(levels, begin, last - begin + 1, proof);
    put(writer, proof, (uint64_t)length * MERKLE_HASH);
}

/* A piece of an array that has to be packed first: a result of another cell, an allowed set. */
static void put_array(struct writer *writer, const uint8_t *bytes, const struct step_array *shape, uint64_t first,
                      uint32_t count)
{
    struct merkle_levels levels;
    uint64_t total = shape->count * shape->width;
    writer->code = merkle_levels_array(&levels, bytes, total, writer->trace->stream, NULL);
    if (writer->code == BULLA_OK)
        put_leaves(writer, &levels, bytes, STEP_BLOCK, first * shape->width, (first + count) * shape->width, total);
    merkle_levels_free(&levels);
}

static void put_cell(struct writer *writer, uint32_t group, uint64_t position)
{
    const struct trace *trace = writer->trace;
    uint64_t cell = group * trace->positions + position, length = (uint64_t)trace->border_roots[group] * MERKLE_HASH;
    uint8_t proof[128][MERKLE_HASH];
    if (writer->has_border && writer->border_cell == cell)
        return;
    writer->has_border = 1;
    writer->border_cell = cell;
    put(writer, trace->borders[group] + position * length, length);
    put(writer, proof, (uint64_t)merkle_levels_proof(&trace->cells.levels, cell, 1, proof) * MERKLE_HASH);
}

static void put_result(struct writer *writer, const struct step *step, const struct step_source *source, uint64_t first,
                       uint32_t count)
{
    const struct trace *trace = writer->trace;
    uint32_t group = trace->program.operations[source->operation].group;
    struct step_array shape = step_array_shape(&trace->program, &trace->answer, source->operation, source->position,
                                               source->array);
    if (group == trace->cell.group && source->position == step->position) {
        const struct trace_cell_array *array = array_at(trace, source->operation, source->array);
        put_leaves(writer, &array->tree.levels, array->bytes, STEP_BLOCK, first * shape.width,
                   (first + count) * shape.width, shape.count * shape.width);
        return;
    }
    put_cell(writer, group, source->position);
    uint8_t *bytes = memory_alloc(shape.count, shape.width, NULL);
    int64_t value;
    if (!bytes) {
        writer->code = BULLA_E_MEMORY;
        return;
    }
    for (uint64_t i = 0; i < shape.count && !trace_read_value(trace, source, i, 1, &value); i++)
        for (int b = 0; b < shape.width; b++)
            bytes[i * shape.width + (uint64_t)b] = (uint8_t)((uint64_t)value >> 8 * b);
    put_array(writer, bytes, &shape, first, count);
    memory_free(bytes);
}

static void put_tensor(struct writer *writer, const struct step_source *source, uint64_t first, uint32_t count)
{
    const struct trace_model *model = writer->trace->model;
    const bulla_tensor *tensor = &model->program->tensors[source->array];
    uint64_t size = bulla_dtype_size(tensor->dtype), begin = tensor->offset + first * size;
    put_leaves(writer, &model->leaves, model->region, LEAF, begin, begin + count * size, model->region_length);
}

/* Values from memory, as check/trace_expand.c reads them, and their piece. */
static int read_and_put(void *context, const struct step *step, const struct step_source *source, uint64_t first,
                        uint32_t count, int64_t *values)
{
    struct writer *writer = context;
    struct trace *trace = writer->trace;
    struct trace_cell_array *arrays = array_at(trace, step->operation, 0);
    switch (source->kind) {
    case STEP_SOURCE_ARRAY:
        put_leaves(writer, &arrays[source->array].tree.levels, arrays[source->array].bytes, STEP_BLOCK,
                   first * arrays[source->array].shape.width, (first + count) * arrays[source->array].shape.width,
                   arrays[source->array].shape.count * arrays[source->array].shape.width);
        break;
    case STEP_SOURCE_RESULT:
        put_result(writer, step, source, first, count);
        break;
    case STEP_SOURCE_TENSOR:
        put_tensor(writer, source, first, count);
        break;
    default: {
        const struct step_array shape = {.count = (trace->program.program.vocabulary + 7) / 8, .width = 1};
        put_array(writer, (const uint8_t *)trace->options.allowed[step->position + 1 - trace->answer.prompt_count], &shape,
                  first, count);
    }
    }
    return trace_read_memory(trace, arrays, step, source, first, count, values);
}

int trace_opening(struct trace *trace, uint32_t operation, uint32_t array, uint64_t index, uint8_t *opening,
                  size_t *length, bulla_error *error)
{
    const bulla_program *program = &trace->program.program;
    struct writer writer = {.trace = trace, .bytes = opening};
    if (operation > program->operation_count || trace->program.operations[operation].group != trace->cell.group ||
        array >= step_array_count(&trace->program, operation) || index >= array_at(trace, operation, array)->shape.count)
        return bulla_fail(error, BULLA_E_USAGE, "the expanded cell has no array %u of operation %u, or no element %llu in it",
                          array, operation, (unsigned long long)index);
    struct step step = {.program = &trace->program, .answer = &trace->answer, .operation = operation,
                        .position = trace->cell.position, .stream = trace->stream, .read = read_and_put, .context = &writer,
                        .o = operation < program->operation_count ? &program->operations[operation] : NULL};
    step_element(&step, array, index);
    *length = writer.length;
    if (writer.code)
        return bulla_fail(error, writer.code, "an opening: out of memory, or SHA-256 failed in libcrypto");
    if (writer.is_full)
        return bulla_fail(error, BULLA_E_LIMIT, "the opening of an element of operation %u, array %u has more than %d bytes",
                          operation, array, STEP_MESSAGE);
    return BULLA_OK;
}
