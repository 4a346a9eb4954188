/* Every array of one cell, by the referee's own functions (check/step_internal.h), out of memory. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "check/trace_internal.h"

static void store_element(struct trace_cell_array *array, uint64_t index, int64_t value)
{
    uint8_t *at = array->bytes + index * array->shape.width;
    for (int i = 0; i < array->shape.width; i++)
        at[i] = (uint8_t)((uint64_t)value >> 8 * i);
}

static int64_t load_element(const struct trace_cell_array *array, uint64_t index)
{
    return step_block_element(&array->shape, array->bytes + index * array->shape.width, 0);
}

int trace_read_value(const struct trace *trace, const struct step_source *source, uint64_t first, uint32_t count,
                     int64_t *values)
{
    const bulla_operation *o = &trace->program.program.operations[source->operation];
    const struct trace_value *value = &trace->values[source->operation];
    if (source->position < value->base || source->position - value->base >= value->rows)
        return 1;
    uint64_t row = source->position - value->base;
    int is_bytes = source->array == step_kind(o->kind)->bytes;
    for (uint32_t i = 0; i < count; i++)
        if (value->v.vector)
            values[i] = value->v.vector[row * o->outputs + first + i];
        else if (is_bytes)
            values[i] = value->v.bytes[row * o->outputs + first + i];
        else
            values[i] = value->v.scale ? value->v.scale[row] : value->v.head_scale[row * o->heads + first + i];
    return 0;
}

static int read_tensor(const bulla_program *program, uint32_t number, uint64_t first, uint32_t count, int64_t *values)
{
    const void *data = program->data[number];
    for (uint32_t i = 0; i < count; i++)
        switch (program->tensors[number].dtype) {
        case BULLA_I8:
            values[i] = ((const int8_t *)data)[first + i];
            break;
        case BULLA_U8:
            values[i] = ((const uint8_t *)data)[first + i];
            break;
        case BULLA_I16:
            values[i] = ((const int16_t *)data)[first + i];
            break;
        case BULLA_U16:
            values[i] = ((const uint16_t *)data)[first + i];
            break;
        case BULLA_I32:
            values[i] = ((const int32_t *)data)[first + i];
            break;
        case BULLA_U32:
            values[i] = ((const uint32_t *)data)[first + i];
            break;
        default:
            values[i] = (int64_t)((const uint64_t *)data)[first + i];
        }
    return 0;
}

/* An operation under expansion. */
struct expansion {
    struct trace *trace;
    struct trace_cell_array *arrays;
};

static int read_memory(void *context, const struct step *step, const struct step_source *source, uint64_t first,
                       uint32_t count, int64_t *values)
{
    const struct expansion *expansion = context;
    return trace_read_memory(expansion->trace, expansion->arrays, step, source, first, count, values);
}

int trace_read_memory(const struct trace *trace, const struct trace_cell_array *arrays, const struct step *step,
                      const struct step_source *source, uint64_t first, uint32_t count, int64_t *values)
{
    switch (source->kind) {
    case STEP_SOURCE_ARRAY:
        for (uint32_t i = 0; i < count; i++)
            values[i] = load_element(&arrays[source->array], first + i);
        return 0;
    case STEP_SOURCE_RESULT:
        return trace_read_value(trace, source, first, count, values);
    case STEP_SOURCE_TENSOR:
        return read_tensor(&trace->program.program, source->array, first, count, values);
    default: {
        const uint64_t *allowed = trace->options.allowed[step->position + 1 - trace->answer.prompt_count];
        for (uint32_t i = 0; i < count; i++)
            values[i] = (int8_t)(allowed[(first + i) / 8] >> (first + i) % 8 * 8);
        return 0;
    }
    }
}

static int falling(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

int trace_find_cut(const struct trace *trace, const struct trace_cell_array *arrays, int cut, int64_t witness[2],
                   bulla_error *error)
{
    enum { W = 3, CUT1 = 4 }; /* docs/dispute-trace.md */
    const struct trace_cell_array *w = &arrays[W];
    const bulla_sampling *sampling = trace->answer.sampling;
    int64_t *weights = memory_alloc(w->shape.count, sizeof *weights, error);
    if (!weights)
        return BULLA_E_MEMORY;
    uint64_t count = 0, kept;
    for (uint64_t i = 0; i < w->shape.count; i++)
        if (load_element(w, i) > 0)
            weights[count++] = load_element(w, i);
    qsort(weights, count, sizeof *weights, falling);
    if (cut == 0)
        kept = sampling->top_k && sampling->top_k < count ? sampling->top_k : count;
    else {
        int64_t c1 = load_element(&arrays[CUT1], 0), n1 = load_element(&arrays[CUT1], 1);
        __extension__ typedef unsigned __int128 uint128;
        uint128 P = 0, sum = 0;
        uint64_t first = 0;
        for (int64_t ties = 0; first < count && (weights[first] > c1 || (weights[first] == c1 && ties++ < n1)); first++)
            P += (uint64_t)weights[first];
        uint128 needed = (sampling->top_p * P + 999999) / 1000000;
        for (kept = 0; kept < first && (kept == 0 || sum < needed); kept++)
            sum += (uint64_t)weights[kept];
    }
    witness[0] = witness[1] = 0; /* no weight above 0: the checks behind fail */
    for (uint64_t i = kept; i-- > 0 && weights[i] == weights[kept - 1];) {
        witness[0] = weights[i];
        witness[1]++;
    }
    memory_free(weights);
    return BULLA_OK;
}

static int make_witness(struct trace *trace, struct trace_cell_array *arrays, uint32_t number, const int64_t *witnesses,
                        bulla_error *error)
{
    int cut = number > 4, code = BULLA_OK; /* arrays cut1 and cut2 */
    int64_t own[2];
    if (witnesses)
        memcpy(own, witnesses + 2 * cut, sizeof own);
    else
        code = trace_find_cut(trace, arrays, cut, own, error);
    for (int i = 0; i < 2 && code == BULLA_OK; i++)
        store_element(&arrays[number], (uint64_t)i, own[i]);
    return code;
}

static int make_array(struct step *step, struct trace *trace, struct trace_cell_array *arrays, uint32_t number,
                      const int64_t *witnesses, bulla_error *error)
{
    const struct trace_hook *hook = trace->options.hook;
    struct trace_cell_array *array = &arrays[number];
    array->shape = step_array_shape(&trace->program, &trace->answer, step->operation, step->position, number);
    array->first_bad = UINT64_MAX;
    array->bytes = memory_alloc(array->shape.count, array->shape.width, error);
    if (!array->bytes)
        return BULLA_E_MEMORY;
    int code = array->shape.is_witness && array->shape.count ? make_witness(trace, arrays, number, witnesses, error)
                                                             : BULLA_OK;
    for (uint64_t i = 0; i < array->shape.count && code == BULLA_OK; i++) {
        step->status = STEP_HOLDS;
        int64_t value = array->shape.is_witness ? load_element(array, i) : step_element(step, number, i);
        if (step->status == STEP_UNPROVED)
            return bulla_fail(error, BULLA_E_INTERNAL, "expanding operation %u at position %llu: an input is not there",
                              step->operation, (unsigned long long)step->position);
        if (step->status != STEP_HOLDS && array->first_bad == UINT64_MAX) {
            array->first_bad = i;
            array->bad_status = step->status;
        }
        if (step->status == STEP_FAILS)
            value = 1; /* what a proposer has to say */
        if (hook)
            value = hook->element(hook->context, step->operation, step->position, number, i, value);
        store_element(array, i, value);
    }
    return code;
}

/* Where an element of a result lies in trace->values. */
static void write_value(struct trace *trace, uint32_t operation, uint64_t position, uint32_t number, uint64_t index,
                        int64_t element)
{
    const bulla_operation *o = &trace->program.program.operations[operation];
    struct trace_value *value = &trace->values[operation];
    uint64_t row = position - value->base;
    if (value->v.vector)
        value->v.vector[row * o->outputs + index] = (int32_t)element;
    else if (number == step_kind(o->kind)->bytes)
        value->v.bytes[row * o->outputs + index] = (int8_t)element;
    else if (value->v.scale)
        value->v.scale[row] = element;
    else
        value->v.head_scale[row * o->heads + index] = (int32_t)element;
}

/* Results go to trace->values, or are compared with them: the executor's and the reference's functions are two
 * implementations. */
static int settle_result(struct trace *trace, uint32_t operation, uint64_t position, uint32_t number,
                         const struct trace_cell_array *array, int values_stay, bulla_error *error)
{
    const struct step_source source = {STEP_SOURCE_RESULT, operation, number, position};
    for (uint64_t i = 0; i < array->shape.count; i++) {
        int64_t value, own = load_element(array, i);
        if (!values_stay)
            write_value(trace, operation, position, number, i, own);
        else if (trace_read_value(trace, &source, i, 1, &value) || value != own)
            return bulla_fail(error, BULLA_E_INTERNAL, "operation %u at position %llu, element %llu: the executor's result "
                              "differs from the reference's", operation, (unsigned long long)position,
                              (unsigned long long)i);
    }
    return BULLA_OK;
}

int trace_expand_operation(struct trace *trace, uint32_t operation, uint64_t position, const int64_t *witnesses,
                           int values_stay, struct trace_cell_array *arrays, bulla_error *error)
{
    const bulla_program *program = &trace->program.program;
    struct expansion expansion = {trace, arrays};
    struct step step = {.program = &trace->program, .answer = &trace->answer, .operation = operation,
                        .position = position, .stream = trace->stream, .read = read_memory, .context = &expansion,
                        .o = operation < program->operation_count ? &program->operations[operation] : NULL};
    int code = BULLA_OK, has_bad = 0;
    for (uint32_t i = 0; i < step_array_count(&trace->program, operation) && code == BULLA_OK; i++) {
        code = make_array(&step, trace, arrays, i, witnesses, error);
        has_bad |= arrays[i].first_bad != UINT64_MAX;
        if (code == BULLA_OK && step.o && arrays[i].shape.is_result && !(values_stay && has_bad))
            code = settle_result(trace, operation, position, i, &arrays[i], values_stay, error);
    }
    return code;
}

void trace_free_arrays(struct trace_cell_array *arrays, uint32_t count)
{
    for (uint32_t i = 0; arrays && i < count; i++) {
        memory_free(arrays[i].bytes);
        merkle_levels_free(&arrays[i].tree.levels);
        arrays[i] = (struct trace_cell_array){0};
    }
}
