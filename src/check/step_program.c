/* docs/dispute-trace.md, "The run" and "Bisection": what follows from the program and the answer alone. */
#include <string.h>

#include "check/step_internal.h"
#include "exec/ref/run.h"
#include "model/program_part.h"

int step_program_part(const void *part, size_t length, const uint8_t *proof, size_t proof_length,
                      const uint8_t model_root[MERKLE_HASH], struct hash_stream *stream, struct step_program *program,
                      bulla_error *error)
{
    *program = (struct step_program){0};
    memcpy(program->model_root, model_root, MERKLE_HASH);
    return program_part_read(part, length, proof, proof_length, model_root, stream, &program->program,
                             &program->region_length, error);
}

uint32_t step_border_roots(const struct step_program *program, uint32_t group, uint32_t end)
{
    uint32_t begin, all, roots = 0;
    step_group(program, group, &begin, &all);
    for (uint32_t i = begin; i < all && i < end; i++) /* sampling is no border */
        if (program->operations[i].is_border) {
            const struct step_kind *kind = step_kind(program->program.operations[i].kind);
            roots += kind->bytes == kind->scale ? 1 : 2;
        }
    return roots;
}

/* So that every opening fits into a message. */
static int check_sizes(const struct step_program *program, bulla_error *error)
{
    const bulla_program *p = &program->program;
    uint32_t kv_heads = 0;
    for (uint32_t i = 0; i < p->operation_count; i++)
        if (p->operations[i].kind == BULLA_ATTEND && p->operations[i].kv_heads > kv_heads)
            kv_heads = p->operations[i].kv_heads;
    uint32_t most = kv_heads > STEP_FEW_HEADS ? STEP_MOST_CONTEXT : STEP_MOST_CONTEXT_FEW;
    if (p->context > most)
        return bulla_fail(error, BULLA_E_UNSUPPORTED, "a context of %u positions, at most %u can be disputed with %u kv heads",
                          p->context, most, kv_heads);
    for (uint32_t group = 0; group < program->groups; group++)
        if (step_border_roots(program, group, UINT32_MAX) > STEP_MOST_BORDER)
            return bulla_fail(error, BULLA_E_UNSUPPORTED, "group %u has a border of %u results, at most %d can be disputed", group,
                              step_border_roots(program, group, UINT32_MAX), STEP_MOST_BORDER);
    return BULLA_OK;
}

int step_program_open(struct step_program *program, uint64_t first, struct step_operation *operations, uint64_t *lowest,
                      bulla_error *error)
{
    const bulla_program *p = &program->program;
    program->operations = operations;
    program->lowest = lowest;
    uint32_t group = 0, arrays = 0;
    for (uint32_t i = 0; i <= p->operation_count; i++) {
        int is_new = i == 1 || i == p->operation_count ||
                     (i > 1 && p->operations[i].layer != p->operations[i - 1].layer);
        group += (uint32_t)is_new;
        arrays = is_new ? 0 : arrays;
        operations[i] = (struct step_operation){.group = group, .first_array = (uint16_t)arrays};
        arrays += step_array_count(program, i);
        if (arrays > STEP_MOST_ARRAYS)
            return bulla_fail(error, BULLA_E_UNSUPPORTED, "the group of operation %u has %u arrays, at most %d can be disputed",
                              i, arrays, STEP_MOST_ARRAYS);
        if (i == p->operation_count)
            break;
        const bulla_operation *o = &p->operations[i];
        operations[i].is_border = o->kind == BULLA_KEY_QUANT || o->kind == BULLA_VALUE_QUANT ||
                                  i + 1 == p->operation_count;
        for (int j = 0; j < 3; j++)
            if (o->inputs[j] >= 0 && operations[o->inputs[j]].group != group)
                operations[o->inputs[j]].is_border = 1;
    }
    program->groups = group + 1;
    reference_lowest(p, first, lowest);
    lowest[p->operation_count] = first; /* sampling */
    return check_sizes(program, error);
}

uint32_t step_answer_positions(const struct step_answer *answer)
{
    return answer->has_range ? answer->token_count : answer->token_count - 1;
}

int step_answer_check(const struct step_program *program, const struct step_answer *answer, bulla_error *error)
{
    uint32_t drawn = answer->token_count - answer->prompt_count, last = answer->token_count - 1;
    if (answer->prompt_count == 0 || answer->token_count < answer->prompt_count || (drawn == 0 && !answer->has_range))
        return bulla_fail(error, BULLA_E_INPUT, "an answer of %u tokens, %u of them the prompt's", answer->token_count,
                          answer->prompt_count);
    if (program->lowest[program->program.operation_count] != answer->prompt_count - 1)
        return bulla_fail(error, BULLA_E_INPUT, "an answer to a prompt of %u tokens, the program was opened for one of %llu",
                          answer->prompt_count,
                          (unsigned long long)program->lowest[program->program.operation_count] + 1);
    if (step_answer_positions(answer) > program->program.context)
        return bulla_fail(error, BULLA_E_INPUT, "an answer of %u positions, the model has a context of %u",
                          step_answer_positions(answer), program->program.context);
    for (uint32_t i = 0; i < answer->token_count; i++)
        if (answer->tokens[i] >= program->program.vocabulary)
            return bulla_fail(error, BULLA_E_INPUT, "token %u is %u, expected one below the vocabulary of %u", i,
                              answer->tokens[i], program->program.vocabulary);
    if (answer->has_range && (answer->range_operation > program->program.operation_count ||
                              answer->range_position > last || (drawn && answer->range_position < last) ||
                              answer->range_position < program->lowest[answer->range_operation]))
        return bulla_fail(error, BULLA_E_INPUT, "an answer of %u tokens that ended by RANGE at position %u, operation %u",
                          answer->token_count, answer->range_position, answer->range_operation);
    return BULLA_OK;
}

uint64_t step_cells(const struct step_program *program, const struct step_answer *answer)
{
    return (uint64_t)program->groups * step_answer_positions(answer);
}

int step_is_evaluated(const struct step_program *program, const struct step_answer *answer, uint32_t operation,
                      uint64_t position)
{
    if (operation > program->program.operation_count || position >= step_answer_positions(answer) ||
        position < program->lowest[operation])
        return 0;
    return !answer->has_range || position < answer->range_position ||
           (position == answer->range_position && operation < answer->range_operation);
}

void step_group(const struct step_program *program, uint32_t group, uint32_t *begin, uint32_t *end)
{
    uint32_t low = 0, high = program->program.operation_count + 1; /* the first operation of a group >= `group` */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (program->operations[middle].group < group)
            low = middle + 1;
        else
            high = middle;
    }
    *begin = low;
    for (*end = low; *end <= program->program.operation_count && program->operations[*end].group == group;)
        ++*end;
}

/* 256 children a node. */
unsigned bisection_rounds(uint64_t leaves)
{
    unsigned rounds = 0;
    for (; leaves > 1; leaves = (leaves + 255) / 256)
        rounds++;
    return rounds;
}

void bisection_reveal(uint64_t leaves, unsigned round, uint64_t node, uint64_t *first, uint32_t *count)
{
    unsigned rounds = bisection_rounds(leaves);
    *first = 0;
    *count = 0;
    if (round >= rounds)
        return;
    unsigned bits = 8 * (rounds - 1 - round);
    uint64_t nodes = ((leaves - 1) >> bits) + 1; /* of the revealed level */
    if (node >= (nodes + 255) / 256)
        return;
    *first = node * 256;
    *count = (uint32_t)(nodes - *first < 256 ? nodes - *first : 256);
}

int bisection_children(struct hash_stream *stream, const uint8_t (*hashes)[MERKLE_HASH], uint32_t count,
                       const uint8_t node[MERKLE_HASH])
{
    struct merkle_prefix prefix = {0};
    int code = count == 0 || count > 256;
    for (uint32_t i = 0; i < count && code == BULLA_OK; i++)
        code = merkle_prefix_add(stream, &prefix, hashes[i]);
    return code == BULLA_OK && merkle_prefix_verify(stream, &prefix, count, NULL, 0, node);
}
