/* The step verifier against tests/vectors/trace/steps.json, which docs/dispute-trace.md's second referee passes too
 * (tests/python/test_trace_vectors.py). */
#include "test.h"

#include "base/arena.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "check/step.h"

enum { MOST_TOKENS = 200, MOST_OPERATIONS = 200, MOST_ANSWERS = 20 };

struct answer {
    struct step_program program;
    struct step_operation operations[MOST_OPERATIONS];
    uint64_t lowest[MOST_OPERATIONS];
    struct step_answer answer;
    uint32_t tokens[MOST_TOKENS];
    bulla_sampling sampling;
    bulla_logit_bias biases[2];
    uint8_t trace_root[MERKLE_HASH];
};

static uint8_t *bytes_of(struct arena *arena, const struct json *object, const char *name, size_t *length)
{
    const struct json *text = json_get(object, name);
    assert_true(json_is(text, JSON_STRING));
    uint8_t *bytes = arena_alloc(arena, base64_most(text->length) + 1, 1, NULL);
    assert_non_null(bytes);
    assert_true(base64_decode(text->text, text->length, bytes, length));
    return bytes;
}

static int64_t integer_of(const struct json *value)
{
    assert_non_null(value);
    assert_true(value->is_integer);
    return value->integer;
}

static int64_t number_of(const struct json *object, const char *name)
{
    return integer_of(json_get(object, name));
}

static void read_sampling(struct answer *a, const struct json *s)
{
    const struct json *biases = json_get(s, "biases");
    a->sampling = (bulla_sampling){.temperature = (uint64_t)number_of(s, "temperature"),
        .top_k = (uint32_t)number_of(s, "top_k"), .top_p = (uint64_t)number_of(s, "top_p"),
        .min_p = (uint64_t)number_of(s, "min_p"), .repetition = (uint64_t)number_of(s, "repetition"),
        .presence = number_of(s, "presence"), .frequency = number_of(s, "frequency"), .seed = (uint64_t)number_of(s, "seed"),
        .biases = a->biases, .bias_count = biases->length};
    assert_in_range(biases->length, 0, 2);
    for (size_t i = 0; i < biases->length; i++)
        a->biases[i] = (bulla_logit_bias){(uint32_t)integer_of(biases->items[i]->items[0]),
                                          integer_of(biases->items[i]->items[1])};
}

static void read_answer(struct answer *a, struct arena *arena, const struct json *json, struct hash_stream *stream)
{
    bulla_error error = {0};
    size_t length, proof_length, root_length;
    uint8_t *part = bytes_of(arena, json, "part", &length), *proof = bytes_of(arena, json, "proof", &proof_length);
    uint8_t *root = bytes_of(arena, json, "model_root", &root_length);
    const struct json *tokens = json_get(json, "tokens"), *range = json_get(json, "range");
    assert_in_range(tokens->length, 1, MOST_TOKENS);
    for (size_t i = 0; i < tokens->length; i++)
        a->tokens[i] = (uint32_t)integer_of(tokens->items[i]);
    read_sampling(a, json_get(json, "sampling"));
    a->answer = (struct step_answer){.tokens = a->tokens, .token_count = (uint32_t)tokens->length,
        .prompt_count = (uint32_t)number_of(json, "prompt"), .sampling = &a->sampling, .has_range = range != NULL};
    if (range) {
        a->answer.range_position = (uint32_t)integer_of(range->items[0]);
        a->answer.range_operation = (uint32_t)integer_of(range->items[1]);
    }
    if (json_get(json, "allowed"))
        a->answer.allowed = (const uint8_t (*)[MERKLE_HASH])bytes_of(arena, json, "allowed", &root_length);
    memcpy(a->trace_root, bytes_of(arena, json, "trace_root", &root_length), MERKLE_HASH);
    assert_ok(step_program_part(part, length, proof, proof_length, root, stream, &a->program, &error), error);
    part[length / 2] ^= 1; /* the same with a bit changed */
    assert_int_not_equal(step_program_part(part, length, proof, proof_length, root, stream, &a->program, NULL), BULLA_OK);
    part[length / 2] ^= 1;
    assert_ok(step_program_part(part, length, proof, proof_length, root, stream, &a->program, &error), error);
    assert_true(a->program.program.operation_count < MOST_OPERATIONS);
    assert_ok(step_program_open(&a->program, a->answer.prompt_count - 1, a->operations, a->lowest, &error), error);
    assert_ok(step_answer_check(&a->program, &a->answer, &error), error);
}

static void check_step(struct arena *arena, const struct json *cells, const struct json *step, struct answer *answers,
                       struct hash_stream *stream)
{
    const struct json *c = cells->items[number_of(step, "cell")], *range = json_get(c, "range");
    struct answer *a = &answers[number_of(c, "answer")];
    size_t length, leaf_length;
    struct step_claim claim = {.operation = (uint32_t)number_of(step, "operation"),
        .array = (uint32_t)number_of(step, "array"), .index = (uint64_t)number_of(step, "index"),
        .value = number_of(step, "value")};
    claim.cell = (struct step_cell){.group = (uint32_t)number_of(c, "group"), .position = (uint64_t)number_of(c, "position"),
                                    .is_range = range != NULL};
    if (range) {
        claim.cell.range_array = (uint32_t)integer_of(range->items[0]);
        claim.cell.range_index = (uint64_t)integer_of(range->items[1]);
    }
    memcpy(claim.trace_root, a->trace_root, MERKLE_HASH);
    claim.cell.message = bytes_of(arena, c, "arrays", &claim.cell.length);
    uint8_t *leaf = bytes_of(arena, c, "leaf", &leaf_length);
    assert_true(step_check_arrays(&a->program, &a->answer, stream, &claim.cell, leaf));
    leaf[5] ^= 1;
    assert_false(step_check_arrays(&a->program, &a->answer, stream, &claim.cell, leaf));
    uint8_t *opening = bytes_of(arena, step, "opening", &length);
    enum step_verdict verdict = step_verify(&a->program, &a->answer, stream, &claim, opening, length);
    assert_string_equal(step_verdict_text(verdict), json_get(step, "verdict")->text);
}

static void test_steps(void **state)
{
    char path[4096];
    bulla_error error = {0};
    struct file_map map;
    struct arena arena = {0};
    struct hash_stream *stream = hash_stream_open(&error);
    const char *root = getenv("BULLA_SOURCE_ROOT");
    snprintf(path, sizeof path, "%s/tests/vectors/trace/steps.json", root ? root : ".");
    assert_ok(file_map_open(path, &map, &error), error);
    const struct json *json = json_parse((const char *)map.data, map.length, path, &arena, &error);
    assert_non_null(json);
    const struct json *answers = json_get(json, "answers"), *steps = json_get(json, "steps");
    struct answer *read = memory_alloc(answers->length, sizeof *read, &error);
    assert_non_null(read);
    for (size_t i = 0; i < answers->length; i++)
        read_answer(&read[i], &arena, answers->items[i], stream);
    for (size_t i = 0; i < steps->length; i++)
        check_step(&arena, json_get(json, "cells"), steps->items[i], read, stream);
    assert_true(steps->length > 300);
    memory_free(read);
    arena_free(&arena);
    file_map_close(&map);
    hash_stream_close(stream);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_steps)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
