/* The run of a whole answer: operation after operation over all positions, by an executor of import's
 * (model/import_executor.h). */
#include <string.h>

#include "base/memory.h"
#include "check/trace_internal.h"
#include "model/program_names.h"

static const bulla_operation *operation_at(const struct trace *trace, uint32_t operation)
{
    return &trace->program.program.operations[operation];
}

static void free_value(struct trace_value *value)
{
    memory_free(value->v.vector);
    memory_free(value->v.bytes);
    memory_free(value->v.scale);
    memory_free(value->v.head_scale);
    *value = (struct trace_value){0};
}

void trace_free_values(struct trace *trace)
{
    for (uint32_t i = 0; trace->values && i < trace->program.program.operation_count; i++)
        free_value(&trace->values[i]);
}

static int make_value(struct trace *trace, uint32_t operation, uint64_t base, uint64_t rows, bulla_error *error)
{
    const bulla_operation *o = operation_at(trace, operation);
    struct trace_value *value = &trace->values[operation];
    enum program_value type = program_kind(o->kind)->result;
    free_value(value);
    value->base = base;
    value->rows = rows;
    if (type == VALUE_VECTOR)
        return (value->v.vector = memory_alloc(rows, o->outputs * sizeof(int32_t), error)) ? BULLA_OK : BULLA_E_MEMORY;
    value->v.bytes = memory_alloc(rows, o->outputs, error);
    if (type == VALUE_QUANTISED)
        value->v.scale = memory_alloc(rows, sizeof(int64_t), error);
    else
        value->v.head_scale = memory_alloc(rows, o->heads * sizeof(int32_t), error);
    return value->v.bytes && (value->v.scale || value->v.head_scale) ? BULLA_OK : BULLA_E_MEMORY;
}

/* An input as if its rows began at position `first`. */
static struct import_value rows_from(const struct trace *trace, uint32_t operation, uint64_t first)
{
    const bulla_operation *o = operation_at(trace, operation);
    const struct trace_value *value = &trace->values[operation];
    uint64_t skip = first - value->base;
    struct import_value v = value->v;
    if (v.vector)
        v.vector += skip * o->outputs;
    if (v.bytes)
        v.bytes += skip * o->outputs;
    if (v.scale)
        v.scale += skip;
    if (v.head_scale)
        v.head_scale += skip * o->heads;
    return v;
}

int trace_is_sliceable(const struct trace *trace, uint32_t group)
{
    uint32_t begin, end;
    step_group(&trace->program, group, &begin, &end);
    for (uint32_t i = begin; i < end; i++) {
        int kind = operation_at(trace, i)->kind;
        if (kind == BULLA_ATTEND || kind == BULLA_ROPE)
            return 0;
    }
    return 1;
}

static void note_range(struct trace *trace, uint32_t operation, uint64_t position)
{
    if (!step_is_evaluated(&trace->program, &trace->answer, operation, position))
        return;
    uint64_t cell = trace->program.operations[operation].group * trace->positions + position;
    trace->cells.first_bad = cell < trace->cells.first_bad ? cell : trace->cells.first_bad;
    if (trace->has_range && (position > trace->range_position ||
                             (position == trace->range_position && operation >= trace->range_operation)))
        return;
    trace->has_range = 1;
    trace->range_position = position;
    trace->range_operation = operation;
}

/* The hook's fault goes into the result, from an inner array if it is there. */
static int alter(struct trace *trace, uint32_t operation, uint64_t first, uint64_t rows, bulla_error *error)
{
    const struct trace_hook *hook = trace->options.hook;
    uint64_t position;
    if (!hook || !hook->altered(hook->context, operation, &position) || position < first || position >= first + rows)
        return BULLA_OK;
    struct trace_cell_array arrays[16] = {0};
    int code = trace_expand_operation(trace, operation, position, NULL, 0, arrays, error);
    trace_free_arrays(arrays, 16);
    return code;
}

static int run_operation(struct trace *trace, uint32_t operation, uint64_t first, uint64_t rows, int collect,
                         bulla_error *error)
{
    const bulla_program *program = &trace->program.program;
    const bulla_operation *o = operation_at(trace, operation);
    const uint64_t starts[] = {0, rows};
    struct import_value inputs[3];
    struct import_step step = {.operation = o, .tables = program->data, .ids = trace->answer.tokens + first,
                               .positions = rows, .sequence_starts = starts, .sequences = 1};
    for (int role = 0; role < BULLA_TENSOR_ROLES; role++)
        step.tensors[role] = o->tensors[role] < 0 ? NULL : program->data[o->tensors[role]];
    for (int i = 0; i < 3; i++)
        if (o->inputs[i] >= 0) {
            inputs[i] = rows_from(trace, (uint32_t)o->inputs[i], first);
            step.inputs[i] = &inputs[i];
        }
    int code = make_value(trace, operation, first, rows, error);
    step.output = &trace->values[operation].v;
    step.range = memory_alloc(rows, 1, error);
    if (code == BULLA_OK && !step.range)
        code = BULLA_E_MEMORY;
    if (code == BULLA_OK)
        code = trace->options.executor->run(trace->options.executor->context, &step, error);
    for (uint64_t row = 0; collect && code == BULLA_OK && row < rows; row++)
        if (step.range[row])
            note_range(trace, operation, first + row);
    memory_free(step.range);
    return code ? code : alter(trace, operation, first, rows, error);
}

/* Hashing the border of a group. */
struct border_job {
    struct trace *trace;
    uint32_t group;
    uint64_t first, rows;
    int failed;
};

enum { ROWS_A_PIECE = 16 };

static int hash_result(const struct trace *trace, uint32_t operation, uint64_t position, struct hash_stream *stream,
                       uint8_t **roots)
{
    const bulla_operation *o = operation_at(trace, operation);
    struct import_value v = rows_from(trace, operation, position);
    const struct { const void *bytes; uint64_t length; } parts[] = {
        {v.vector, o->outputs * sizeof(int32_t)}, {v.bytes, o->outputs}, {v.scale, sizeof(int64_t)},
        {v.head_scale, o->heads * sizeof(int32_t)}};
    static const uint8_t in_order[] = {0, 1, 2, 3}, scale_first[] = {0, 2, 3, 1};
    int is_scale_first = step_kind(o->kind)->scale < step_kind(o->kind)->bytes, code = BULLA_OK;
    int is_there = step_is_evaluated(&trace->program, &trace->answer, operation, position);
    for (int i = 0; i < 4 && code == BULLA_OK; i++) {
        uint8_t part = (is_scale_first ? scale_first : in_order)[i];
        if (!parts[part].bytes)
            continue;
        if (is_there) /* else it stays the empty root */
            code = merkle_array_root(stream, parts[part].bytes, parts[part].length, *roots);
        *roots += MERKLE_HASH;
    }
    return code;
}

static void hash_rows(void *context, uint64_t piece)
{
    struct border_job *job = context;
    struct trace *trace = job->trace;
    uint32_t begin, end;
    int code = BULLA_OK;
    struct hash_stream *stream = hash_stream_open(NULL);
    step_group(&trace->program, job->group, &begin, &end);
    uint64_t from = job->first + piece * ROWS_A_PIECE, to = from + ROWS_A_PIECE;
    to = to < job->first + job->rows ? to : job->first + job->rows;
    for (uint64_t p = from; p < to && stream && code == BULLA_OK; p++) {
        uint8_t *roots = trace->borders[job->group] + p * trace->border_roots[job->group] * MERKLE_HASH;
        for (uint32_t i = begin; i < end && code == BULLA_OK; i++)
            if (trace->program.operations[i].is_border)
                code = hash_result(trace, i, p, stream, &roots);
    }
    if (!stream || code)
        __atomic_store_n(&job->failed, 1, __ATOMIC_RELAXED);
    hash_stream_close(stream);
}

static int hash_border(struct trace *trace, uint32_t group, uint64_t first, uint64_t rows, bulla_error *error)
{
    struct border_job job = {.trace = trace, .group = group, .first = first, .rows = rows};
    thread_team_each(trace->options.executor->team, (rows + ROWS_A_PIECE - 1) / ROWS_A_PIECE, hash_rows, &job);
    return job.failed ? bulla_fail(error, BULLA_E_MEMORY, "hashing a trace: out of memory, or SHA-256 failed in libcrypto")
                      : BULLA_OK;
}

static int is_input_of(const struct trace *trace, uint32_t operation, uint32_t group)
{
    uint32_t begin, end;
    step_group(&trace->program, group, &begin, &end);
    for (uint32_t i = begin; i < end; i++) {
        if (i == operation)
            return 1;
        if (i == trace->program.program.operation_count)
            return operation + 1 == i; /* sampling reads the logits */
        for (int j = 0; j < 3; j++)
            if (operation_at(trace, i)->inputs[j] == (int32_t)operation)
                return 1;
    }
    return 0;
}

int trace_run_group(struct trace *trace, uint32_t group, uint64_t first, uint64_t rows, uint32_t keep, int collect,
                    bulla_error *error)
{
    uint32_t begin, end;
    int code = BULLA_OK;
    step_group(&trace->program, group, &begin, &end);
    for (uint32_t i = begin; i < end && code == BULLA_OK; i++) {
        code = run_operation(trace, i, first, rows, collect, error);
        for (int j = 0; j < 3; j++) { /* what nothing reads any more; borders stay until they are hashed */
            int32_t input = operation_at(trace, i)->inputs[j];
            if (input >= 0 && trace->last_use[input] == i && !trace->program.operations[input].is_border &&
                !is_input_of(trace, (uint32_t)input, keep))
                free_value(&trace->values[input]);
        }
    }
    return code == BULLA_OK && collect ? hash_border(trace, group, first, rows, error) : code;
}

int trace_run_groups(struct trace *trace, uint32_t last, uint32_t keep, int collect, bulla_error *error)
{
    int code = BULLA_OK;
    for (uint32_t group = 0; group < last && code == BULLA_OK; group++) {
        uint32_t begin, end;
        step_group(&trace->program, group, &begin, &end);
        code = trace_run_group(trace, group, 0, trace->positions, keep, collect, error);
        for (uint32_t i = 0; i < end; i++)
            if (trace->last_use[i] < end && !is_input_of(trace, i, keep))
                free_value(&trace->values[i]);
    }
    return code;
}
