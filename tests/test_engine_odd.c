/* The engine against the reference on programs that are valid but far from
 * sense: every shift and constant at its edges, tensors full of extremes. The
 * same bits, and every RANGE at the same place, on each instruction set. */
#include "test.h"

#include "base/memory.h"
#include "bulla/engine.h"
#include "exec/cpu/engine_internal.h"
#include "exec/ref/run.h"
#include "odd_program.h"

enum { TOKENS = 70 };

struct expected {
    uint32_t ids[TOKENS], count;
    uint64_t first_sampled;
    int32_t *logits;
    int code;
    uint64_t position;
    uint32_t operation;
};

static void expect(const bulla_program *program, struct expected *expected)
{
    bulla_error error = {0};
    struct reference_run *run;
    expected->logits = memory_alloc((size_t)TOKENS * program->vocabulary, sizeof *expected->logits, NULL);
    assert_ok(reference_run_open(program, expected->first_sampled, &run, &error), error);
    expected->code = reference_run_append(run, expected->ids, expected->count, expected->logits, &error);
    assert_true(expected->code == BULLA_OK || expected->code == BULLA_E_RANGE);
    reference_run_range(run, &expected->position, &expected->operation);
    reference_run_close(run);
}

static void compare(const bulla_program *program, const char *isa, uint64_t seed, const struct expected *expected)
{
    bulla_error error = {0};
    bulla_engine *engine;
    bulla_sequence *sequence;
    bulla_engine_options options = {.threads = 1 + (unsigned)(seed & 1), .isa = isa, .batch_rows = seed % 3 ? 64 : 7};
    assert_ok(bulla_engine_open_program(program, NULL, &options, &engine, &error), error);
    assert_ok(bulla_sequence_open(engine, expected->first_sampled, &sequence, &error), error);
    int32_t *logits = memory_alloc((size_t)TOKENS * program->vocabulary, sizeof *logits, NULL);
    bulla_piece piece = {.sequence = sequence, .ids = expected->ids, .count = expected->count,
                         .logits_from = (uint32_t)expected->first_sampled, .logits = logits};
    assert_ok(bulla_engine_step(engine, &piece, 1, &error), error);
    if (piece.code != expected->code ||
        (piece.code && (piece.range_position != expected->position || piece.range_operation != expected->operation)))
        fail_msg("program %llu, %s: code %d at %llu, %u; expected %d at %llu, %u (%s)", (unsigned long long)seed, isa,
                 piece.code, (unsigned long long)piece.range_position, piece.range_operation, expected->code,
                 (unsigned long long)expected->position, expected->operation,
                 bulla_operation_kind_name(program->operations[expected->operation].kind));
    uint64_t end = expected->code ? expected->position : expected->count;
    for (uint64_t i = 0; end > expected->first_sampled && i < (end - expected->first_sampled) * program->vocabulary; i++)
        if (logits[i] != expected->logits[i])
            fail_msg("program %llu, %s: logit %llu is %d, expected %d", (unsigned long long)seed, isa,
                     (unsigned long long)i, logits[i], expected->logits[i]);
    memory_free(logits);
    bulla_sequence_close(sequence);
    bulla_engine_close(engine);
}

static void test_odd_programs(void **state)
{
    uint64_t programs = test_count(60, 5000), whole = 0;
    for (uint64_t seed = 0; seed < programs; seed++) {
        struct program_copy copy;
        bulla_error error = {0};
        assert_ok(odd_program_new(seed, &copy, &error), error);
        struct expected expected = {.count = seed % 4 ? 3 : TOKENS, .first_sampled = seed % 5 ? 0 : 2};
        for (uint32_t i = 0; i < expected.count; i++)
            expected.ids[i] = (uint32_t)((i * 7919 + seed) % copy.program.vocabulary);
        expect(&copy.program, &expected);
        whole += expected.code == BULLA_OK;
        for (const char *const *isa = bulla_engine_isas(); *isa; isa++)
            compare(&copy.program, *isa, seed, &expected);
        memory_free(expected.logits);
        program_copy_free(&copy);
    }
    print_message("%llu odd programs equal, %llu of them in range to the end; instruction sets:",
                  (unsigned long long)programs, (unsigned long long)whole);
    for (const char *const *isa = bulla_engine_isas(); *isa; isa++)
        print_message(" %s", *isa);
    print_message("\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_odd_programs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
