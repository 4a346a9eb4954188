/* The step verifier on anything. By the first byte: elements of any operation whose operands are the input's bytes, as if
 * proofs held (what a proposer commits to is its own affair); a claim with its arrays message and opening; a model file's
 * program part. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "check/step_internal.h"
#include "random_program.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_OPERATIONS = 200, TOKENS = 80 };

/* A program of each family, made when it is first wanted. */
static struct step_program *program_of(uint8_t family)
{
    static struct step_program programs[RANDOM_FAMILIES];
    static struct step_operation operations[RANDOM_FAMILIES][MOST_OPERATIONS];
    static uint64_t lowest[RANDOM_FAMILIES][MOST_OPERATIONS];
    struct step_program *program = &programs[family % RANDOM_FAMILIES];
    bulla_program *random;
    if (program->groups)
        return program;
    if (random_program_new(5, family % RANDOM_FAMILIES, 0, &random, NULL))
        abort();
    program->program = *random;
    program->region_length = 1 << 20;
    if (step_program_open(program, TOKENS / 2, operations[family % RANDOM_FAMILIES], lowest[family % RANDOM_FAMILIES], NULL))
        abort();
    return program;
}

static int read_input(void *context, const struct step *step, const struct step_source *source, uint64_t first,
                      uint32_t count, int64_t *values)
{
    struct reader *reader = context;
    uint32_t width = 1;
    if (source->kind == STEP_SOURCE_TENSOR) { /* bounds of these are the model's: bulla_program_check */
        for (uint32_t i = 0; i < count; i++) {
            const bulla_tensor *tensor = &step->program->program.tensors[source->array];
            if (first + count > tensor->bytes / bulla_dtype_size(tensor->dtype))
                abort();
            uint8_t byte = reader_u8(reader);
            values[i] = tensor->dtype == BULLA_U8 || tensor->dtype == BULLA_U16 || tensor->dtype == BULLA_U32
                            ? byte * (tensor->dtype == BULLA_U8 ? 1 : 257) : (int8_t)byte * (tensor->dtype == BULLA_I32 ? 65536 : 1);
        }
        return reader->failed;
    }
    if (source->kind != STEP_SOURCE_ALLOWED) {
        struct step_array shape = step_array_shape(step->program, step->answer, source->operation, source->position,
                                                   source->array);
        if (count > STEP_MOST_READ || first + count > shape.count) /* no step reads beyond an array */
            abort();
        width = shape.width;
    }
    for (uint32_t i = 0; i < count; i++)
        values[i] = width == 1 ? (int8_t)reader_u8(reader)
                    : width == 4 ? (int32_t)reader_u32(reader) : (int64_t)reader_u64(reader);
    return reader->failed;
}

static void run_element(struct reader *reader, struct step *step)
{
    uint32_t array = reader_u8(reader) % step_array_count(step->program, step->operation);
    struct step_array shape = step_array_shape(step->program, step->answer, step->operation, step->position, array);
    if (shape.count == 0 || shape.is_witness)
        return;
    step_element(step, array, reader_u32(reader) % shape.count);
}

static void run_claim(struct reader *reader, const struct step *step)
{
    static uint8_t empty[STEP_MESSAGE];
    struct step_claim claim = {.operation = step->operation, .array = reader_u8(reader) % 17, .index = reader_u16(reader),
                               .value = (int8_t)reader_u8(reader)};
    struct step_cell *cell = &claim.cell;
    cell->group = step->program->operations[step->operation].group;
    cell->position = step->position;
    cell->is_range = step->answer->has_range;
    cell->range_array = reader_u8(reader) % 17;
    cell->range_index = reader_u16(reader);
    cell->length = step_cell_length(step->program, step->answer, cell->group);
    cell->message = empty;
    const uint8_t *roots = reader_bytes(reader, cell->length);
    cell->message = roots ? roots : empty;
    step_check_arrays(step->program, step->answer, step->stream, cell, empty);
    size_t left = reader_left(reader);
    step_verify(step->program, step->answer, step->stream, &claim, reader_bytes(reader, left), left);
}

static void run_part(struct reader *reader, struct hash_stream *stream)
{
    struct step_program program;
    size_t proof = reader_u8(reader) % 20 * 32, length = reader_left(reader);
    if (length < proof)
        return;
    const uint8_t *hashes = reader_bytes(reader, proof);
    length -= proof;
    uint8_t *part = malloc(length + 1), root[MERKLE_HASH] = {0};
    memcpy(part, reader_bytes(reader, length), length);
    step_program_part(part, length, hashes, proof, root, stream, &program, NULL);
    free(part);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct hash_stream *stream;
    static uint8_t allowed[TOKENS][MERKLE_HASH];
    uint32_t tokens[TOKENS];
    struct reader reader = reader_over(data, size);
    uint8_t mode = reader_u8(&reader);
    stream = stream ? stream : hash_stream_open(NULL);
    if (mode % 4 == 3) {
        run_part(&reader, stream);
        return 0;
    }
    const struct step_program *program = program_of(reader_u8(&reader));
    uint32_t vocabulary = program->program.vocabulary, operations = program->program.operation_count;
    for (int i = 0; i < TOKENS; i++)
        tokens[i] = (reader_u8(&reader) * 7u) % vocabulary;
    const bulla_logit_bias bias = {tokens[0], (int32_t)reader_u32(&reader) % 1000000000};
    const bulla_sampling sampling = {.temperature = reader_u32(&reader) % 100000001, .top_k = reader_u8(&reader),
        .top_p = reader_u32(&reader) % 1000001, .min_p = reader_u32(&reader) % 1000001,
        .repetition = 10000 + reader_u32(&reader) % 99990001, .presence = (int32_t)reader_u32(&reader) % 100000001,
        .frequency = (int32_t)reader_u32(&reader) % 100000001, .biases = &bias, .bias_count = 1};
    struct step_answer answer = {.tokens = tokens, .token_count = TOKENS, .prompt_count = TOKENS / 2 + 1,
        .sampling = &sampling, .has_range = mode >> 2 & 1, .range_position = TOKENS - 1,
        .range_operation = reader_u16(&reader) % (operations + 1),
        .allowed = mode >> 3 & 1 ? (const uint8_t (*)[MERKLE_HASH])allowed : NULL};
    struct step step = {.program = program, .answer = &answer, .stream = stream, .read = read_input, .context = &reader};
    step.operation = reader_u16(&reader) % (operations + 1);
    step.position = reader_u8(&reader) % step_answer_positions(&answer);
    step.o = step.operation < operations ? &program->program.operations[step.operation] : NULL;
    if (step.operation == operations && step.position < TOKENS / 2)
        return 0;
    if (mode % 4 == 2)
        run_claim(&reader, &step);
    else
        run_element(&reader, &step);
    return 0;
}
