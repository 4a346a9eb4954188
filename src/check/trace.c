#include "check/trace.h"

#include <string.h>

#include "base/memory.h"
#include "base/merkle_data.h"
#include "check/trace_internal.h"

enum { SLICE = 64 }; /* positions of the last group that are run at once: their logits are in memory */

int trace_model_open(const bulla_program *program, struct thread_team *team, struct trace_model **result,
                     bulla_error *error)
{
    *result = NULL;
    struct trace_model *model = memory_alloc(1, sizeof *model, error);
    struct hash_stream *stream = hash_stream_open(error);
    const bulla_tensor *last = &program->tensors[program->tensor_count - 1];
    int code = model && stream ? BULLA_OK : BULLA_E_MEMORY;
    if (code == BULLA_OK) {
        model->program = program;
        model->region = (const uint8_t *)program->data[0] - program->tensors[0].offset;
        model->region_length = last->offset + last->bytes;
        code = merkle_levels_open(&model->leaves, (model->region_length + MERKLE_LEAF - 1) / MERKLE_LEAF, error);
    }
    if (code == BULLA_OK)
        code = merkle_leaf_hashes(model->region, model->region_length, team, model->leaves.hashes, error);
    if (code == BULLA_OK && merkle_levels_build(&model->leaves, stream))
        code = bulla_fail(error, BULLA_E_INTERNAL, "a model's tree: SHA-256 failed in libcrypto");
    hash_stream_close(stream);
    if (code)
        trace_model_close(model);
    else
        *result = model;
    return code;
}

void trace_model_close(struct trace_model *model)
{
    if (!model)
        return;
    merkle_levels_free(&model->leaves);
    memory_free(model);
}

int trace_model_part(const struct trace_model *model, const void **part, size_t *length, uint8_t proof[64][MERKLE_HASH],
                     unsigned *proof_length, bulla_error *error)
{
    *part = model->region;
    *length = model->program->tensors[0].offset;
    if (*length == 0 || *length % MERKLE_LEAF)
        return bulla_fail(error, BULLA_E_USAGE, "the program is not a model file's: its first tensor lies at %zu", *length);
    *proof_length = merkle_levels_proof(&model->leaves, 0, *length / MERKLE_LEAF, proof);
    return BULLA_OK;
}

static int open_borders(struct trace *trace, bulla_error *error)
{
    for (uint32_t group = 0; group < trace->program.groups; group++) {
        trace->border_roots[group] = step_border_roots(&trace->program, group, UINT32_MAX);
        trace->borders[group] = memory_alloc(trace->positions, (size_t)trace->border_roots[group] * MERKLE_HASH, error);
        if (!trace->borders[group])
            return BULLA_E_MEMORY;
    }
    return BULLA_OK;
}

static int open_parts(struct trace *trace, const bulla_program *program, bulla_error *error)
{
    uint32_t count = program->operation_count;
    struct step_operation *operations = memory_alloc(count + 1, sizeof *operations, error);
    uint64_t *lowest = memory_alloc(count + 1, sizeof *lowest, error);
    trace->program.operations = operations;
    trace->program.lowest = lowest;
    trace->stream = hash_stream_open(error);
    trace->last_use = memory_alloc(count, sizeof *trace->last_use, error);
    trace->values = memory_alloc(count, sizeof *trace->values, error);
    trace->message = memory_alloc(1, STEP_MESSAGE, error);
    trace->arrays = memory_alloc(STEP_MOST_ARRAYS, sizeof *trace->arrays, error);
    if (!operations || !lowest || !trace->stream || !trace->last_use || !trace->values || !trace->message || !trace->arrays)
        return BULLA_E_MEMORY;
    if (trace->answer.prompt_count == 0)
        return bulla_fail(error, BULLA_E_INPUT, "an answer without a prompt");
    int code = step_program_open(&trace->program, trace->answer.prompt_count - 1, operations, lowest, error);
    code = code ? code : step_answer_check(&trace->program, &trace->answer, error);
    if (code)
        return code;
    trace->positions = step_answer_positions(&trace->answer);
    trace->borders = memory_alloc(trace->program.groups, sizeof *trace->borders, error);
    trace->border_roots = memory_alloc(trace->program.groups, sizeof *trace->border_roots, error);
    if (!trace->borders || !trace->border_roots)
        return BULLA_E_MEMORY;
    for (uint32_t i = 0; i < count; i++)
        for (int j = 0; j < 3; j++)
            if (program->operations[i].inputs[j] >= 0)
                trace->last_use[program->operations[i].inputs[j]] = i;
    code = open_borders(trace, error);
    code = code ? code : merkle_levels_open(&trace->cells.levels, step_cells(&trace->program, &trace->answer), error);
    return code ? code : bulla_sampler_open(program->vocabulary, program->data[1], &trace->sampler, error);
}

static void note_bad(struct trace *trace, uint64_t position)
{
    uint64_t cell = (trace->program.groups - 1) * trace->positions + position;
    trace->cells.first_bad = cell < trace->cells.first_bad ? cell : trace->cells.first_bad;
}

/* The token of one position, drawn again. */
static int check_draw(struct trace *trace, uint64_t position, bulla_error *error)
{
    const struct step_answer *answer = &trace->answer;
    uint32_t last = trace->program.program.operation_count - 1, token;
    uint64_t prompt = answer->prompt_count;
    const struct trace_value *logits = &trace->values[last];
    const uint64_t *allowed = trace->options.allowed ? trace->options.allowed[position + 1 - prompt] : NULL;
    bulla_error own = {0};
    int is_evaluated = step_is_evaluated(&trace->program, answer, last + 1, position);
    int is_claimed = answer->has_range && answer->range_position == position && answer->range_operation == last + 1;
    if (!is_evaluated && !is_claimed)
        return BULLA_OK;
    int code = bulla_sampler_draw(trace->sampler, answer->sampling,
                                  logits->v.vector + (position - logits->base) * trace->program.program.vocabulary,
                                  trace->program.program.logits_F, answer->tokens, prompt, answer->tokens + prompt,
                                  position + 1 - prompt, allowed, position + 1, &token, &own);
    if (code != BULLA_OK && code != BULLA_E_RANGE && code != BULLA_E_INPUT)
        return bulla_fail(error, code, "%s", own.text);
    if (!is_evaluated)
        return BULLA_OK;
    if (code == BULLA_E_RANGE && (!trace->has_range || position < trace->range_position)) {
        trace->has_range = 1;
        trace->range_position = position;
        trace->range_operation = last + 1;
    }
    if (code || token != answer->tokens[position + 1])
        note_bad(trace, position);
    return BULLA_OK;
}

/* The last group: logits and draws of the positions that are sampled, some at a time. */
static int run_last_group(struct trace *trace, bulla_error *error)
{
    uint32_t group = trace->program.groups - 2;
    uint64_t first = trace->answer.prompt_count - 1, step = SLICE, begin = first;
    if (!trace_is_sliceable(trace, group)) {
        begin = 0;
        step = trace->positions;
    }
    int code = BULLA_OK;
    for (uint64_t at = begin; at < trace->positions && code == BULLA_OK; at += step) {
        uint64_t rows = trace->positions - at < step ? trace->positions - at : step;
        code = trace_run_group(trace, group, at, rows, UINT32_MAX, 1, error);
        for (uint64_t p = at > first ? at : first; p < at + rows && code == BULLA_OK; p++)
            code = check_draw(trace, p, error);
    }
    return code;
}

static int build_cells(struct trace *trace, bulla_error *error)
{
    uint8_t *leaf = trace->cells.levels.hashes;
    int code = BULLA_OK;
    for (uint32_t group = 0; group < trace->program.groups; group++) {
        size_t length = (size_t)trace->border_roots[group] * MERKLE_HASH;
        for (uint64_t p = 0; p < trace->positions && code == BULLA_OK; p++, leaf += MERKLE_HASH)
            code = step_cell_leaf(trace->stream, trace->borders[group] + p * length, length, leaf);
    }
    code = code ? code : merkle_levels_build(&trace->cells.levels, trace->stream);
    return code ? bulla_fail(error, code, "a trace's tree: SHA-256 failed in libcrypto") : BULLA_OK;
}

int trace_open(const struct trace_model *model, const struct step_answer *answer, const struct trace_options *options,
               struct trace **result, bulla_error *error)
{
    *result = NULL;
    struct trace *trace = memory_alloc(1, sizeof *trace, error);
    if (!trace)
        return BULLA_E_MEMORY;
    trace->model = model;
    trace->program.program = *model->program;
    trace->program.region_length = model->region_length;
    merkle_levels_root(&model->leaves, trace->program.model_root);
    trace->answer = *answer;
    trace->options = *options;
    trace->cells.first_bad = UINT64_MAX;
    trace->kept_group = UINT32_MAX;
    int code = open_parts(trace, model->program, error);
    if (code == BULLA_OK)
        code = trace_run_groups(trace, trace->program.groups - 2, trace->program.groups - 2, 1, error);
    code = code ? code : run_last_group(trace, error);
    trace_free_values(trace);
    code = code ? code : build_cells(trace, error);
    if (code)
        trace_close(trace);
    else
        *result = trace;
    return code;
}

void trace_close(struct trace *trace)
{
    if (!trace)
        return;
    trace_free_values(trace);
    trace_free_arrays(trace->arrays, trace->arrays ? STEP_MOST_ARRAYS : 0);
    for (uint32_t i = 0; trace->borders && i < trace->program.groups; i++)
        memory_free(trace->borders[i]);
    merkle_levels_free(&trace->cells.levels);
    bulla_sampler_close(trace->sampler);
    hash_stream_close(trace->stream);
    memory_free(trace->borders);
    memory_free(trace->border_roots);
    memory_free(trace->last_use);
    memory_free(trace->values);
    memory_free(trace->arrays);
    memory_free(trace->message);
    memory_free(trace->program.operations);
    memory_free(trace->program.lowest);
    memory_free(trace);
}

const struct step_program *trace_program(const struct trace *trace)
{
    return &trace->program;
}

void trace_root(const struct trace *trace, uint8_t root[MERKLE_HASH])
{
    merkle_levels_root(&trace->cells.levels, root);
}

int trace_range(const struct trace *trace, uint64_t *position, uint32_t *operation)
{
    *position = trace->range_position;
    *operation = trace->range_operation;
    return trace->has_range;
}

const struct trace_tree *trace_cells(const struct trace *trace)
{
    return &trace->cells;
}

void trace_reveal(const struct trace_tree *tree, unsigned round, uint64_t node, uint8_t (*hashes)[MERKLE_HASH],
                  uint32_t *count)
{
    const struct merkle_levels *levels = &tree->levels;
    uint64_t first;
    bisection_reveal(levels->count, round, node, &first, count);
    if (*count == 0)
        return;
    unsigned level = 8 * (bisection_rounds(levels->count) - 1 - round);
    memcpy(hashes, levels->hashes + (levels->start[level] + first) * MERKLE_HASH, (size_t)*count * MERKLE_HASH);
}

int64_t trace_first_node(const struct trace_tree *tree, uint64_t sought, unsigned round, uint64_t node,
                         const uint8_t (*others)[MERKLE_HASH])
{
    uint8_t own[256][MERKLE_HASH];
    uint64_t first;
    uint32_t count;
    trace_reveal(tree, round, node, own, &count);
    if (count == 0)
        return -1;
    unsigned bits = 8 * (bisection_rounds(tree->levels.count) - 1 - round);
    bisection_reveal(tree->levels.count, round, node, &first, &count);
    for (uint32_t i = 0; i < count; i++)
        if (memcmp(own[i], others[i], MERKLE_HASH) != 0 || (sought != UINT64_MAX && sought >> bits == first + i))
            return (int64_t)(first + i);
    return -1;
}

int64_t trace_difference(const struct trace_tree *tree, unsigned round, uint64_t node,
                         const uint8_t (*others)[MERKLE_HASH])
{
    return trace_first_node(tree, tree->first_bad, round, node, others);
}
