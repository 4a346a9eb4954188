/* The engine's profile: what it counts, against a count from the program alone; and the bounds that
 * times are held against. Times themselves are not judged. */
#include "test.h"

#include "base/memory.h"
#include "bulla/engine.h"
#include "exec/cpu/bounds.h"
#include "exec/cpu/engine_internal.h"
#include "random_program.h"

enum { LENGTH = 150, BATCH = 64 };

struct totals {
    uint64_t weight_bytes, cache_bytes, multiply_adds;
};

static bulla_engine *open_engine(const bulla_program *program)
{
    bulla_error error = {0};
    bulla_engine_options options = {.threads = 2, .batch_rows = BATCH, .pages = 8};
    bulla_engine *engine;
    assert_ok(bulla_engine_open_program(program, NULL, &options, &engine, &error), error);
    return engine;
}

static void append_ids(bulla_engine *engine, bulla_sequence *sequence, uint32_t count)
{
    bulla_error error = {0};
    uint32_t ids[LENGTH] = {0};
    bulla_piece piece = {.sequence = sequence, .ids = ids, .count = count, .logits_from = count};
    assert_ok(bulla_engine_step(engine, &piece, 1, &error), error);
    assert_int_equal(piece.code, BULLA_OK);
}

static uint64_t padded(uint64_t value, uint64_t multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}

/* Positions [begin, end) of one sequence in one batch, all evaluated. */
static void count_operation(const bulla_program *program, const bulla_operation *o, uint64_t begin, uint64_t end,
                            struct totals *totals)
{
    uint64_t rows = end - begin;
    if (o->kind == BULLA_EMBED)
        totals->weight_bytes +=
            rows * (o->outputs + bulla_dtype_size(program->tensors[o->tensors[BULLA_TENSOR_ME]].dtype));
    if (o->kind == BULLA_LINEAR) {
        uint64_t outputs = padded(o->outputs, 16);
        totals->weight_bytes += padded(outputs * padded(o->n, 64) + outputs * (4 + 4 + 2), 64);
        totals->multiply_adds += rows * o->n * o->outputs;
    }
    if (o->kind != BULLA_ATTEND)
        return;
    uint8_t seen[LENGTH] = {0};
    for (uint64_t t = begin; t < end; t++)
        for (uint64_t p = o->window && t + 1 > o->window ? t + 1 - o->window : 0; p <= t; p++) {
            seen[p] = 1;
            totals->multiply_adds += 2 * o->heads * o->head_size;
        }
    for (uint64_t p = 0; p < end; p++)
        totals->cache_bytes += seen[p] * o->kv_heads * (2 * padded(o->head_size, 64) + 4 + 2 + 1);
}

static struct totals totals_of(const struct profile *profile)
{
    struct totals totals = {0};
    uint32_t count;
    const struct profile_stage *stages = profile_stages(profile, &count);
    for (uint32_t i = 0; i < count; i++) {
        totals.weight_bytes += stages[i].weight_bytes;
        totals.cache_bytes += stages[i].cache_bytes;
        totals.multiply_adds += stages[i].multiply_adds;
        assert_true(stages[i].calls == 0 || stages[i].nanoseconds > 0);
    }
    return totals;
}

static void test_counts(void **state)
{
    bulla_error error = {0};
    for (int family = 0; family < RANDOM_FAMILIES; family++) {
        bulla_program *program;
        struct profile *profile;
        bulla_sequence *sequence;
        struct totals expected = {0};
        assert_ok(random_program_new(3, family, 0, &program, &error), error);
        bulla_engine *engine = open_engine(program);
        assert_ok(profile_open(engine, &profile, &error), error);
        assert_ok(bulla_sequence_open(engine, 0, &sequence, &error), error);
        append_ids(engine, sequence, 1); /* not counted */
        profile_attach(engine, profile);
        append_ids(engine, sequence, LENGTH - 2);
        profile_attach(engine, NULL);
        append_ids(engine, sequence, 1);
        for (uint64_t begin = 1; begin < LENGTH - 1; begin += BATCH)
            for (uint32_t i = 0; i < program->operation_count; i++)
                count_operation(program, &program->operations[i], begin,
                                begin + BATCH < LENGTH - 1 ? begin + BATCH : LENGTH - 1, &expected);
        struct totals found = totals_of(profile);
        if (memcmp(&found, &expected, sizeof found) != 0)
            fail_msg("%s: %llu bytes of weights, %llu of the cache, %llu multiply-adds; expected %llu, %llu, %llu",
                     random_family_name(family), (unsigned long long)found.weight_bytes,
                     (unsigned long long)found.cache_bytes, (unsigned long long)found.multiply_adds,
                     (unsigned long long)expected.weight_bytes, (unsigned long long)expected.cache_bytes,
                     (unsigned long long)expected.multiply_adds);
        profile_close(profile);
        bulla_engine_close(engine);
        random_program_free(program);
    }
}

/* Positions of several sequences; only the last of each has logits. */
static void test_several_sequences(void **state)
{
    bulla_error error = {0};
    bulla_program *program;
    struct profile *profile;
    assert_ok(random_program_new(3, RANDOM_LLAMA, 0, &program, &error), error);
    bulla_engine *engine = open_engine(program);
    assert_ok(profile_open(engine, &profile, &error), error);
    profile_attach(engine, profile);
    uint32_t ids[20] = {0};
    bulla_piece pieces[2];
    for (int i = 0; i < 2; i++) {
        pieces[i] = (bulla_piece){.ids = ids, .count = 20, .logits_from = 20};
        assert_ok(bulla_sequence_open(engine, 19, &pieces[i].sequence, &error), error);
    }
    assert_ok(bulla_engine_step(engine, pieces, 2, &error), error);
    uint32_t count;
    const struct profile_stage *stages = profile_stages(profile, &count);
    const bulla_operation *head = &program->operations[program->operation_count - 1];
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t j = 0; j < i; j++)
            assert_string_not_equal(stages[i].name, stages[j].name);
        if (strcmp(stages[i].name, "attend()") == 0)
            assert_int_equal(stages[i].calls, program->layers);
    }
    assert_int_equal(stages[count - 1].multiply_adds, 2 * (uint64_t)head->n * head->outputs);
    bulla_engine_close(engine);
    profile_close(profile);
    random_program_free(program);
}

static void test_bounds(void **state)
{
    bulla_error error = {0};
    bulla_program *program;
    double speed = 0;
    assert_ok(random_program_new(3, RANDOM_LLAMA, 0, &program, &error), error);
    bulla_engine *engine = open_engine(program);
    static const uint32_t rows[] = {1, 3, 32, UINT32_MAX};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_ok(bounds_measure_multiplying(engine, rows[i], &speed, &error), error);
        assert_true(speed > 0);
    }
    assert_ok(bounds_read_new(engine->team, 1000000, &speed, &error), error);
    assert_true(speed > 0);
    bulla_engine_close(engine);
    random_program_free(program);
}

static void test_allocation_failures(void **state)
{
    bulla_error error = {0};
    bulla_program *program;
    struct profile *profile = NULL;
    double speed;
    assert_ok(random_program_new(6, RANDOM_ODD, 0, &program, &error), error);
    bulla_engine *engine = open_engine(program);
    int done = 0;
    for (uint64_t n = 1; !done; n++) {
        bulla_error_clear(&error);
        memory_inject_failure(n, 0);
        int code = profile_open(engine, &profile, &error);
        if (code == BULLA_OK)
            code = bounds_measure_multiplying(engine, 1, &speed, &error);
        if (code == BULLA_OK)
            code = bounds_read_new(engine->team, 4096, &speed, &error);
        memory_inject_failure(0, 0);
        done = code == BULLA_OK;
        assert_true(done || code == BULLA_E_MEMORY);
        assert_true(done == (error.code == BULLA_OK));
        profile_close(profile);
        assert_true(n < 100);
    }
    bulla_engine_close(engine);
    random_program_free(program);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_several_sequences),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
