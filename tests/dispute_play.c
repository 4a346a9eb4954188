#include "dispute_play.h"

#include <string.h>

#include "base/memory.h"
#include "base/threads.h"
#include "exec/cpu/import_run.h"
#include "exec/generate.h"
#include "exec/ref/run.h"

static uint64_t draw(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state * UINT64_C(0x2545F4914F6CDD1D) >> 16;
}

static int open_allowed(struct dispute_case *c, uint64_t *state, uint32_t count, bulla_error *error)
{
    uint32_t vocabulary = bulla_model_program(c->model)->vocabulary, words = vocabulary / 64 + 1;
    c->allowed_count = count;
    c->allowed = memory_alloc(count, sizeof *c->allowed, error);
    c->allowed_roots = memory_alloc(count, MERKLE_HASH, error);
    if (!c->allowed || !c->allowed_roots)
        return BULLA_E_MEMORY;
    for (uint32_t i = 0; i < count; i++) {
        c->allowed[i] = memory_alloc(words, sizeof **c->allowed, error);
        if (!c->allowed[i])
            return BULLA_E_MEMORY;
        for (uint32_t id = 0; id < vocabulary; id++)
            if (draw(state) % 3 == 0 || id == 5)
                c->allowed[i][id / 64] |= UINT64_C(1) << (id & 63);
        int code = trace_allowed_root(c->allowed[i], vocabulary, c->allowed_roots[i], error);
        if (code)
            return code;
    }
    return BULLA_OK;
}

/* The answer's tokens, one at a time. */
static int answer(struct dispute_case *c, uint32_t drawn, bulla_error *error)
{
    const bulla_program *program = bulla_model_program(c->model);
    struct reference_run *run = NULL;
    bulla_sampler *sampler = NULL;
    int32_t *logits = memory_alloc(program->vocabulary, sizeof *logits, error);
    int code = logits ? reference_run_open(program, c->answer.prompt_count - 1, &run, error) : BULLA_E_MEMORY;
    code = code ? code : bulla_sampler_open(program->vocabulary, program->data[1], &sampler, error);
    uint32_t fed = 0;
    for (uint32_t i = 0; i < drawn && code == BULLA_OK; i++) {
        uint32_t count = c->answer.token_count;
        code = reference_run_append(run, c->tokens + fed, count - fed, logits, error);
        fed = count;
        if (code == BULLA_OK)
            code = bulla_sampler_draw(sampler, &c->sampling, logits, program->logits_F, c->tokens, c->answer.prompt_count,
                                      c->tokens + c->answer.prompt_count, count - c->answer.prompt_count,
                                      c->allowed ? c->allowed[count - c->answer.prompt_count] : NULL, count,
                                      &c->tokens[count], error);
        if (code == BULLA_OK)
            c->answer.token_count++;
    }
    uint64_t position;
    uint32_t operation;
    if (code == BULLA_E_RANGE && reference_run_range(run, &position, &operation)) {
        bulla_error_clear(error);
        code = BULLA_OK;
        c->answer.has_range = 1;
        c->answer.range_position = (uint32_t)position;
        c->answer.range_operation = operation;
    }
    reference_run_close(run);
    bulla_sampler_close(sampler);
    memory_free(logits);
    return code;
}

/* The same by the engine, for models that the reference is too slow for. */
static int answer_fast(struct dispute_case *c, uint32_t drawn, bulla_error *error)
{
    bulla_engine *engine = NULL;
    struct generate_result result = {0};
    struct generate_request request = {.prompt = c->tokens, .prompt_count = c->answer.prompt_count, .max_tokens = drawn,
                                       .sampling = c->sampling};
    int code = bulla_engine_open(c->model, &(bulla_engine_options){.threads = 2}, &engine, error);
    code = code ? code : generate(engine, c->model, NULL, &request, &result, error);
    for (size_t i = 0; i < result.token_count && code == BULLA_OK; i++)
        c->tokens[c->answer.token_count++] = result.tokens[i];
    c->answer.has_range = result.finish == GENERATE_RANGE;
    c->answer.range_position = (uint32_t)result.range_position;
    c->answer.range_operation = result.range_operation;
    generate_result_free(&result);
    bulla_engine_close(engine);
    return code;
}

static int open_referee(struct dispute_case *c, bulla_error *error)
{
    const void *part;
    size_t length;
    uint8_t proof[64][MERKLE_HASH];
    unsigned proof_length;
    int code = trace_model_part(c->tree, &part, &length, proof, &proof_length, error);
    if (code)
        return code;
    c->part = memory_alloc(1, length, error);
    c->operations = memory_alloc(bulla_model_program(c->model)->operation_count + 1, sizeof *c->operations, error);
    c->lowest = memory_alloc(bulla_model_program(c->model)->operation_count + 1, sizeof *c->lowest, error);
    c->stream = hash_stream_open(error);
    if (!c->part || !c->operations || !c->lowest || !c->stream)
        return BULLA_E_MEMORY;
    memcpy(c->part, part, length);
    code = step_program_part(c->part, length, proof[0], proof_length * MERKLE_HASH, bulla_model_root(c->model), c->stream,
                             &c->referee, error);
    code = code ? code : step_program_open(&c->referee, c->answer.prompt_count - 1, c->operations, c->lowest, error);
    return code ? code : step_answer_check(&c->referee, &c->answer, error);
}

int dispute_case_open(struct dispute_case *c, bulla_model *model, uint64_t seed, uint32_t prompt, uint32_t drawn,
                      const bulla_sampling *sampling, int grammar, bulla_error *error)
{
    *c = (struct dispute_case){.model = model, .sampling = *sampling};
    uint64_t state = seed * 2 + 1;
    for (int i = 0; i < 8; i++)
        draw(&state);
    for (size_t i = 0; i < sampling->bias_count; i++)
        c->biases[i] = sampling->biases[i];
    c->sampling.biases = c->biases;
    for (uint32_t i = 0; i < prompt; i++)
        c->tokens[i] = (uint32_t)(draw(&state) % bulla_model_program(model)->vocabulary);
    c->answer = (struct step_answer){.tokens = c->tokens, .token_count = prompt, .prompt_count = prompt,
                                     .sampling = &c->sampling};
    int code = cpu_import_executor_open(thread_cores() > 1 ? 2 : 1, NULL, &c->executor, error);
    code = code ? code : trace_model_open(bulla_model_program(model), c->executor.team, &c->tree, error);
    code = code || !grammar ? code : open_allowed(c, &state, drawn + 1, error); /* one more where RANGE ends it */
    c->answer.allowed = (const uint8_t (*)[MERKLE_HASH])c->allowed_roots;
    if (code == BULLA_OK)
        code = bulla_model_program(model)->vocabulary > 1000 ? answer_fast(c, drawn, error) : answer(c, drawn, error);
    return code ? code : open_referee(c, error);
}

void dispute_case_close(struct dispute_case *c)
{
    for (uint32_t i = 0; c->allowed && i < c->allowed_count; i++)
        memory_free(c->allowed[i]);
    memory_free(c->allowed);
    memory_free(c->allowed_roots);
    trace_model_close(c->tree);
    cpu_import_executor_close(&c->executor);
    hash_stream_close(c->stream);
    memory_free(c->part);
    memory_free(c->operations);
    memory_free(c->lowest);
    bulla_model_close(c->model);
}

int dispute_case_trace(struct dispute_case *c, const struct trace_hook *hook, struct trace **trace, bulla_error *error)
{
    struct trace_options options = {.executor = &c->executor, .hook = hook,
                                    .allowed = (const uint64_t *const *)c->allowed};
    return trace_open(c->tree, &c->answer, &options, trace, error);
}

static int64_t altered_element(void *context, uint32_t operation, uint64_t position, uint32_t array, uint64_t index,
                               int64_t value)
{
    const struct dispute_fault *fault = context;
    int is_it = operation == fault->operation && position == fault->position && array == fault->array &&
                index == fault->index;
    return is_it ? (int64_t)((uint64_t)value ^ UINT64_C(1) << fault->bit) : value;
}

static int altered_operation(void *context, uint32_t operation, uint64_t *position)
{
    const struct dispute_fault *fault = context;
    *position = fault->position;
    return operation == fault->operation;
}

void dispute_fault_hook(struct dispute_fault *fault)
{
    fault->hook = (struct trace_hook){.context = fault, .element = altered_element, .altered = altered_operation};
}

static int64_t other_value(void *context, uint32_t operation, uint64_t position, uint32_t array, uint64_t index, int64_t value)
{
    const struct dispute_value *other = context;
    int is_it = operation == other->operation && position == other->position && array == other->array && index == other->index;
    return is_it ? other->value : value;
}

static int altered_by_value(void *context, uint32_t operation, uint64_t *position)
{
    const struct dispute_value *other = context;
    *position = other->position;
    return other->in_run && operation == other->operation;
}

void dispute_value_hook(struct dispute_value *value)
{
    value->hook = (struct trace_hook){.context = value, .element = other_value, .altered = altered_by_value};
}

void dispute_case_cut(struct dispute_case *c, uint32_t operation)
{
    c->answer.has_range = 1;
    c->answer.range_position = c->answer.token_count - 1;
    c->answer.range_operation = operation;
}

static void count_message(struct dispute *d, size_t length)
{
    d->rounds++;
    d->bytes += length;
    d->largest = length > d->largest ? length : d->largest;
}

/* The proposer loses what it cannot show. */
static int lost(struct dispute *d, enum step_verdict verdict)
{
    d->found = 1;
    d->verdict = verdict;
    return 0;
}

/* Down a tree: as the challenger chooses, or towards leaf `target`. 0: over, as d says. */
static int descend(struct dispute *d, const struct trace_tree *theirs, int is_array, uint64_t target,
                   uint8_t hash[MERKLE_HASH], uint64_t *leaf)
{
    int is_chosen = d->challenger && (is_array || !d->wants_range);
    uint64_t leaves = theirs->levels.count, node = 0;
    unsigned rounds = bisection_rounds(leaves);
    for (unsigned round = 0; round < rounds; round++) {
        uint8_t hashes[256][MERKLE_HASH];
        uint64_t first;
        uint32_t count, expected;
        trace_reveal(theirs, round, node, hashes, &count);
        count_message(d, (size_t)count * MERKLE_HASH);
        bisection_reveal(leaves, round, node, &first, &expected);
        if (count != expected || !bisection_children(d->c->stream, (const uint8_t (*)[MERKLE_HASH])hashes, count, hash))
            return lost(d, STEP_UNPROVED);
        const uint8_t (*others)[MERKLE_HASH] = (const uint8_t (*)[MERKLE_HASH])hashes;
        int64_t chosen = !is_chosen ? (int64_t)(target >> 8 * (rounds - 1 - round))
                         : is_array ? trace_choose_node(d->challenger, &d->claim.cell, d->operation, d->array, round, node, others)
                                    : trace_difference(trace_cells(d->challenger), round, node, others);
        if (chosen < 0)
            return 0;
        node = (uint64_t)chosen;
        memcpy(hash, hashes[node - first], MERKLE_HASH);
    }
    *leaf = node;
    return 1;
}

static int find_cell(struct dispute *d, uint32_t *group)
{
    const struct step_program *program = &d->c->referee;
    uint64_t positions = step_answer_positions(&d->c->answer), cell, target;
    uint8_t hash[MERKLE_HASH];
    trace_root(d->proposer, d->claim.trace_root);
    memcpy(hash, d->claim.trace_root, MERKLE_HASH);
    if (d->wants_range) {
        d->operation = d->c->answer.range_operation;
        d->position = d->c->answer.range_position;
    }
    target = program->operations[d->operation].group * positions + d->position;
    if (!descend(d, trace_cells(d->proposer), 0, target, hash, &cell))
        return 0;
    *group = d->group = (uint32_t)(cell / positions);
    d->position = cell % positions;
    memcpy(d->leaf, hash, MERKLE_HASH);
    return 1;
}

static int find_array(struct dispute *d, uint32_t group, bulla_error *error)
{
    struct dispute_case *c = d->c;
    int64_t witnesses[STEP_WITNESSES] = {0};
    int code = trace_expand(d->proposer, group, d->position, NULL, d->wants_range, error);
    if (code)
        return code;
    d->claim.cell = *trace_arrays(d->proposer);
    memcpy(d->message, d->claim.cell.message, d->claim.cell.length);
    d->claim.cell.message = d->message;
    count_message(d, d->claim.cell.length + (d->wants_range ? 12 : 0));
    d->found = 1;
    if (!step_check_arrays(&c->referee, &c->answer, c->stream, &d->claim.cell, d->leaf)) {
        d->verdict = STEP_UNPROVED;
        return BULLA_OK;
    }
    d->verdict = STEP_HOLDS;
    if (!d->challenger)
        return BULLA_OK;
    if (group == c->referee.groups - 1 && c->sampling.temperature)
        memcpy(witnesses, d->message + d->claim.cell.length - sizeof witnesses, sizeof witnesses);
    code = trace_expand(d->challenger, group, d->position, witnesses, d->wants_range, error);
    if (code)
        return code;
    switch (trace_choose_array(d->challenger, &d->claim.cell, &d->operation, &d->array)) {
    case TRACE_NOTHING:
        d->found = 0;
        break;
    case TRACE_NAMED:
        d->asks_named = 1;
        d->operation = c->answer.range_operation;
        d->array = d->claim.cell.range_array;
        d->index = d->claim.cell.range_index;
        break;
    default:
        break;
    }
    return BULLA_OK;
}

/* Whether the opening of what the proposer names is asked for at once. */
static int is_named(const struct dispute *d)
{
    if (d->challenger)
        return d->asks_named;
    return d->wants_range && d->operation == d->c->answer.range_operation && d->array == d->claim.cell.range_array &&
           d->index == d->claim.cell.range_index;
}

static int settle(struct dispute *d, bulla_error *error)
{
    struct dispute_case *c = d->c;
    struct step_claim *claim = &d->claim;
    uint64_t block = 0;
    struct step_array shape = step_array_shape(&c->referee, &c->answer, d->operation, d->position, d->array);
    claim->operation = d->operation;
    claim->array = d->array;
    if (!is_named(d)) {
        uint8_t hash[MERKLE_HASH];
        size_t length;
        memcpy(hash, step_cell_root(&c->referee, &claim->cell, d->operation, d->array), MERKLE_HASH);
        if (!descend(d, trace_array(d->proposer, d->operation, d->array), 1,
                     d->index * shape.width / STEP_BLOCK, hash, &block))
            return BULLA_OK;
        const uint8_t *bytes = trace_block(d->proposer, d->operation, d->array, block, &length);
        memcpy(d->block, bytes, length);
        d->block_length = length;
        count_message(d, length);
        if (!step_check_block(c->stream, &shape, block, d->block, length, hash)) {
            d->verdict = STEP_UNPROVED;
            return BULLA_OK;
        }
        if (d->challenger) {
            int64_t index = trace_choose_element(d->challenger, &claim->cell, d->operation, d->array, block, d->block);
            if (index < 0) {
                d->found = 0;
                return BULLA_OK;
            }
            d->index = (uint64_t)index;
        }
        claim->value = step_block_element(&shape, d->block, (uint32_t)(d->index - block * STEP_BLOCK / shape.width));
    }
    claim->index = d->index;
    int code = is_named(d) && (d->index >= shape.count || shape.is_witness) /* nothing can be opened */
                   ? BULLA_OK : trace_opening(d->proposer, d->operation, d->array, d->index, d->opening, &d->opening_length, error);
    if (code)
        return code;
    count_message(d, d->opening_length);
    d->verdict = step_verify(&c->referee, &c->answer, c->stream, claim, d->opening, d->opening_length);
    d->proposer_won = d->verdict == STEP_HOLDS || d->verdict == STEP_NOT_A_STEP;
    return BULLA_OK;
}

int dispute_play(struct dispute *d, bulla_error *error)
{
    uint32_t group;
    d->found = d->proposer_won = d->asks_named = 0;
    d->rounds = 0;
    d->bytes = d->largest = d->opening_length = 0;
    d->verdict = STEP_HOLDS;
    if (!find_cell(d, &group))
        return BULLA_OK;
    int code = find_array(d, group, error);
    if (code || !d->found || d->verdict != STEP_HOLDS)
        return code;
    return settle(d, error);
}
