/* The reference run on random programs of every family: what is evaluated, one
 * token at a time or all at once, values on demand, where RANGE is reported. */
#include "test.h"

#include "base/memory.h"
#include "exec/ref/run.h"
#include "random_program.h"

enum { POSITIONS = 90, PROGRAMS = 27 };

static bulla_program *new_program(uint64_t seed, int family, int strain)
{
    bulla_error error = {0};
    bulla_program *program;
    assert_ok(random_program_new(seed, family, strain, &program, &error), error);
    return program;
}

static struct reference_run *open_run(const bulla_program *program, uint64_t first_sampled)
{
    bulla_error error = {0};
    struct reference_run *run;
    assert_ok(reference_run_open(program, first_sampled, &run, &error), error);
    return run;
}

static void make_ids(const bulla_program *program, uint32_t seed, uint32_t ids[POSITIONS])
{
    for (int i = 0; i < POSITIONS; i++)
        ids[i] = ((seed = seed * 1664525 + 1013904223) >> 8) % program->vocabulary;
}

static int32_t *new_logits(const bulla_program *program)
{
    int32_t *logits = memory_alloc((size_t)POSITIONS * program->vocabulary, sizeof *logits, NULL);
    assert_non_null(logits);
    return logits;
}

static void test_pieces_and_first_sampled_change_nothing(void **state)
{
    for (int family = 0; family < RANDOM_FAMILIES; family++) {
        bulla_program *program = new_program(11, family, 0);
        uint32_t ids[POSITIONS], vocabulary = program->vocabulary;
        int32_t *whole = new_logits(program), *pieces = new_logits(program);
        bulla_error error = {0};
        make_ids(program, 5, ids);
        struct reference_run *run = open_run(program, 0);
        assert_ok(reference_run_append(run, ids, POSITIONS, whole, &error), error);
        assert_int_equal(reference_run_length(run), POSITIONS);
        reference_run_close(run);
        for (uint32_t first = 0; first < POSITIONS; first += 41) {
            run = open_run(program, first);
            int32_t *next = pieces;
            for (uint32_t at = 0, count = 1; at < POSITIONS; at += count, count = count * 3 % 17) {
                count = count < POSITIONS - at ? count : POSITIONS - at;
                assert_ok(reference_run_append(run, ids + at, count, next, &error), error);
                uint32_t given = at + count <= first ? 0 : at < first ? at + count - first : count;
                next += (size_t)given * vocabulary;
            }
            assert_memory_equal(pieces, whole + (size_t)first * vocabulary,
                                (size_t)(POSITIONS - first) * vocabulary * sizeof *whole);
            reference_run_close(run);
        }
        memory_free(whole);
        memory_free(pieces);
        random_program_free(program);
    }
}

/* What the page calls evaluated, by following every input of every pair. */
static void mark(const bulla_program *program, uint8_t *marks, uint32_t operation, uint64_t position)
{
    uint8_t *own = &marks[(size_t)operation * POSITIONS + position];
    if (*own)
        return;
    *own = 1;
    const bulla_operation *o = &program->operations[operation];
    for (int i = 0; i < 3; i++) {
        if (o->inputs[i] < 0)
            continue;
        mark(program, marks, (uint32_t)o->inputs[i], position);
        for (uint64_t p = 0; o->kind == BULLA_ATTEND && i > 0 && p < position; p++)
            if (!o->window || position - p < o->window)
                mark(program, marks, (uint32_t)o->inputs[i], p);
    }
}

static void test_evaluated(void **state)
{
    size_t pairs = 0, skipped = 0;
    for (int family = 0; family < RANDOM_FAMILIES; family++) {
        bulla_program *program = new_program(3, family, 0);
        for (uint64_t first = 0; first < POSITIONS; first += 22) {
            uint8_t *marks = memory_alloc(program->operation_count, POSITIONS, NULL);
            for (uint64_t position = first; position < POSITIONS; position++)
                mark(program, marks, program->operation_count - 1, position);
            struct reference_run *run = open_run(program, first);
            for (uint32_t i = 0; i < program->operation_count; i++)
                for (uint64_t position = 0; position < POSITIONS; position++) {
                    int evaluated = position >= reference_run_lowest(run, i);
                    assert_int_equal(marks[(size_t)i * POSITIONS + position], evaluated);
                    pairs++;
                    skipped += !evaluated;
                }
            reference_run_close(run);
            memory_free(marks);
        }
        random_program_free(program);
    }
    print_message("%zu pairs of operation and position, %zu of them not evaluated\n", pairs, skipped);
}

/* A digest of a value good enough to tell it from another. */
static uint64_t digest(const struct reference_value *value)
{
    uint64_t sum = (uint64_t)value->s + value->type;
    for (uint32_t i = 0; i < value->elements; i++)
        sum = sum * UINT64_C(0x100000001B3) + (value->x ? (uint64_t)value->x[i] : (uint64_t)value->q[i]);
    for (uint32_t i = 0; i < value->heads; i++)
        sum = sum * UINT64_C(0x100000001B3) + (uint64_t)value->scales[i];
    return sum;
}

static void test_values_on_demand(void **state)
{
    for (int family = 0; family < RANDOM_FAMILIES; family++) {
        bulla_program *program = new_program(8, family, 0);
        uint32_t ids[POSITIONS], count = program->operation_count;
        make_ids(program, 1, ids);
        uint64_t *digests = memory_alloc((size_t)count * POSITIONS, sizeof *digests, NULL);
        struct reference_run *run = open_run(program, 5);
        const struct reference_value *value;
        bulla_error error = {0};
        for (uint32_t p = 0; p < POSITIONS; p++) {
            assert_ok(reference_run_append(run, &ids[p], 1, NULL, &error), error);
            for (uint32_t i = 0; i < count; i++)
                if (p >= reference_run_lowest(run, i)) {
                    assert_ok(reference_run_value(run, i, p, &value, &error), error);
                    digests[(size_t)p * count + i] = digest(value);
                } else {
                    bulla_error wrong = {0};
                    assert_int_equal(reference_run_value(run, i, p, &value, &wrong), BULLA_E_USAGE);
                    assert_null(value);
                }
        }
        for (uint32_t k = 0; k < 60; k++) { /* out of order, and between appends */
            uint32_t p = 5 + k * 37 % (POSITIONS - 5), i = k * 101 % count;
            assert_ok(reference_run_value(run, i, p, &value, &error), error);
            assert_true(digest(value) == digests[(size_t)p * count + i]);
        }
        assert_ok(reference_run_append(run, ids, 1, NULL, &error), error);
        assert_ok(reference_run_value(run, count - 1, POSITIONS - 1, &value, &error), error);
        assert_true(digest(value) == digests[(size_t)POSITIONS * count - 1]);
        assert_int_equal(reference_run_value(run, count - 1, POSITIONS + 1, &value, &error), BULLA_E_USAGE);
        bulla_error_clear(&error);
        assert_int_equal(reference_run_value(run, count, 0, &value, &error), BULLA_E_USAGE);
        reference_run_close(run);
        memory_free(digests);
        random_program_free(program);
    }
}

/* What a run says after its first RANGE. */
static void check_after_range(struct reference_run *run, uint64_t position, uint32_t operation)
{
    bulla_error error = {0};
    const struct reference_value *value;
    uint32_t id = 0;
    assert_int_equal(reference_run_append(run, &id, 1, NULL, &error), BULLA_E_RANGE);
    bulla_error_clear(&error);
    assert_int_equal(reference_run_value(run, operation, position, &value, &error), BULLA_E_RANGE);
    for (uint32_t i = 0; i < operation; i++) {
        bulla_error_clear(&error);
        if (reference_run_lowest(run, i) <= position)
            assert_ok(reference_run_value(run, i, position, &value, &error), error);
        if (position > 0 && reference_run_lowest(run, i) <= position - 1)
            assert_ok(reference_run_value(run, i, position - 1, &value, &error), error);
    }
}

static void test_range(void **state)
{
    int raised = 0, later = 0;
    for (uint64_t seed = 0; seed < PROGRAMS; seed++) {
        bulla_program *program = new_program(seed, (int)(seed % RANDOM_FAMILIES), 1);
        uint32_t ids[POSITIONS], operation, operation_later;
        uint64_t position, position_later;
        make_ids(program, (uint32_t)seed, ids);
        int32_t *logits = new_logits(program), *before = new_logits(program);
        bulla_error error = {0};
        struct reference_run *run = open_run(program, 0);
        int code = reference_run_append(run, ids, POSITIONS, logits, &error);
        assert_int_equal(reference_run_range(run, &position, &operation), code == BULLA_E_RANGE);
        if (code == BULLA_E_RANGE) {
            char named[64];
            raised++;
            snprintf(named, sizeof named, "position %llu, operation %u", (unsigned long long)position, operation);
            assert_non_null(strstr(error.text, named));
            assert_int_equal(reference_run_length(run), position);
            check_after_range(run, position, operation);
            /* Without the token that raised it all is well, with the same logits. */
            struct reference_run *shorter = open_run(program, 0);
            bulla_error_clear(&error);
            assert_ok(reference_run_append(shorter, ids, position, before, &error), error);
            assert_memory_equal(before, logits, position * program->vocabulary * sizeof *logits);
            reference_run_close(shorter);
            /* Sampled only after it, it is reported if and only if still evaluated. */
            if (position + 1 < POSITIONS) {
                shorter = open_run(program, position + 1);
                bulla_error_clear(&error);
                code = reference_run_append(shorter, ids, POSITIONS, NULL, &error);
                reference_run_range(shorter, &position_later, &operation_later);
                if (reference_run_lowest(shorter, operation) <= position)
                    assert_true(code == BULLA_E_RANGE && position_later == position && operation_later == operation);
                else
                    assert_true(code == BULLA_OK || position_later > position ||
                                (position_later == position && operation_later > operation));
                later += reference_run_lowest(shorter, operation) > position;
                reference_run_close(shorter);
            }
        } else
            assert_ok(code, error);
        reference_run_close(run);
        memory_free(logits);
        memory_free(before);
        random_program_free(program);
    }
    print_message("%d programs: RANGE in %d, in %d of them at a pair that later sampling does not reach\n", PROGRAMS, raised,
                  later);
    assert_true(raised > 10 && later > 0);
}

static void test_wrong_calls(void **state)
{
    bulla_program *program = new_program(1, RANDOM_ODD, 0);
    bulla_error error = {0};
    struct reference_run *run;
    assert_int_equal(reference_run_open(program, program->context, &run, &error), BULLA_E_LIMIT);
    assert_null(run);
    run = open_run(program, 0);
    uint32_t ids[400] = {0}, wrong[] = {0, program->vocabulary};
    bulla_error_clear(&error);
    assert_int_equal(reference_run_append(run, wrong, 2, NULL, &error), BULLA_E_USAGE);
    assert_int_equal(reference_run_length(run), 0);
    bulla_error_clear(&error);
    assert_int_equal(reference_run_append(run, ids, program->context + 1, NULL, &error), BULLA_E_LIMIT);
    bulla_error_clear(&error);
    assert_ok(reference_run_append(run, ids, program->context, NULL, &error), error); /* to the full context */
    assert_int_equal(reference_run_append(run, ids, 1, NULL, &error), BULLA_E_LIMIT);
    bulla_error_clear(&error);
    assert_ok(reference_run_append(run, ids, 0, NULL, &error), error);
    reference_run_close(run);
    reference_run_close(NULL);
    random_program_free(program);
}

static void test_allocation_failures(void **state)
{
    bulla_program *program = new_program(1, RANDOM_INTERLEAVED, 0);
    uint32_t ids[POSITIONS];
    make_ids(program, 9, ids);
    int32_t *logits = new_logits(program), *expected = new_logits(program);
    bulla_error error = {0};
    struct reference_run *run = open_run(program, 0);
    assert_ok(reference_run_append(run, ids, POSITIONS, expected, &error), error);
    reference_run_close(run);
    uint64_t n = 1, failed_open = 0, failed_append = 0;
    for (int done = 0; !done; n++) {
        bulla_error_clear(&error);
        memory_inject_failure(n, 0);
        if (reference_run_open(program, 0, &run, &error) != BULLA_OK) {
            assert_int_equal(error.code, BULLA_E_MEMORY);
            failed_open++;
            continue;
        }
        int32_t *next = logits;
        done = 1;
        for (uint32_t at = 0; at < POSITIONS; at += 9) {
            while (reference_run_append(run, ids + at, 9, next, &error) != BULLA_OK) { /* may be tried again */
                assert_int_equal(error.code, BULLA_E_MEMORY);
                bulla_error_clear(&error);
                done = 0;
                failed_append++;
            }
            next += 9 * program->vocabulary;
        }
        assert_memory_equal(logits, expected, (size_t)POSITIONS * program->vocabulary * sizeof *logits);
        reference_run_close(run);
    }
    memory_inject_failure(0, 0);
    print_message("%llu allocations failed at open, %llu at append\n", (unsigned long long)failed_open,
                  (unsigned long long)failed_append);
    assert_true(failed_open >= 2 && failed_append > 4);
    memory_free(logits);
    memory_free(expected);
    random_program_free(program);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces_and_first_sampled_change_nothing),
        cmocka_unit_test(test_evaluated),
        cmocka_unit_test(test_values_on_demand),
        cmocka_unit_test(test_range),
        cmocka_unit_test(test_wrong_calls),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
