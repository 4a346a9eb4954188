/* The engine against the reference run, on random programs of every family: every
 * instruction set that runs here, 1 to 4 threads, batches of 1, 7, 64 and 512
 * rows, alone and beside others, pages in any order. */
#include "test.h"

#include "base/memory.h"
#include "bulla/engine.h"
#include "exec/cpu/engine_internal.h"
#include "exec/cpu/isa.h"
#include "exec/ref/run.h"
#include "random_program.h"

enum { SEQUENCES = 3 };

/* A sequence and what the reference says about it. */
struct expected {
    uint32_t length, first_sampled;
    uint32_t *ids;
    int32_t *logits; /* [length - first_sampled][vocabulary] */
    int code;
    uint64_t range_position;
    uint32_t range_operation;
};

static uint64_t random_state = 88172645463325252;

static uint32_t random_below(uint32_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)((random_state * UINT64_C(0x2545F4914F6CDD1D)) >> 33) % n;
}

/* Random ids, the first `shared` of them those of `like`, and what comes of them. */
static void expect_like(const bulla_program *program, uint32_t length, uint32_t first_sampled,
                        const struct expected *like, uint32_t shared, struct expected *expected)
{
    bulla_error error = {0};
    *expected = (struct expected){.length = length, .first_sampled = first_sampled};
    expected->ids = memory_alloc(length, sizeof *expected->ids, &error);
    expected->logits = memory_alloc((size_t)(length - first_sampled) * program->vocabulary, sizeof(int32_t), &error);
    assert_non_null(expected->logits);
    for (uint32_t i = 0; i < length; i++)
        expected->ids[i] = i < shared ? like->ids[i] : random_below(program->vocabulary);
    struct reference_run *run;
    assert_ok(reference_run_open(program, first_sampled, &run, &error), error);
    expected->code = reference_run_append(run, expected->ids, length, expected->logits, &error);
    assert_true(expected->code == BULLA_OK || expected->code == BULLA_E_RANGE);
    reference_run_range(run, &expected->range_position, &expected->range_operation);
    reference_run_close(run);
}

static void expect(const bulla_program *program, uint32_t length, uint32_t first_sampled, struct expected *expected)
{
    expect_like(program, length, first_sampled, NULL, 0, expected);
}

static void expected_free(struct expected *expected)
{
    memory_free(expected->ids);
    memory_free(expected->logits);
}

static const char *context_of_failure = "";

static void compare_logits(const struct expected *expected, uint32_t vocabulary, uint64_t position, const int32_t *logits)
{
    const int32_t *right = expected->logits + (position - expected->first_sampled) * vocabulary;
    for (uint32_t i = 0; i < vocabulary; i++)
        if (logits[i] != right[i])
            fail_msg("%s: position %llu, logit %u is %d, expected %d", context_of_failure, (unsigned long long)position,
                     i, logits[i], right[i]);
}

/* A piece of `count` ids from the sequence's end on, logits where they are sampled. */
static bulla_piece piece_of(bulla_sequence *sequence, const struct expected *expected, uint32_t count, int32_t *logits)
{
    uint64_t length = bulla_sequence_length(sequence);
    uint32_t from = length >= expected->first_sampled ? 0 : (uint32_t)(expected->first_sampled - length);
    return (bulla_piece){.sequence = sequence, .ids = expected->ids + length, .count = count,
                         .logits_from = from < count ? from : count, .logits = logits};
}

/* In one call or batch by batch: the same. */
static void step_or_batches(bulla_engine *engine, bulla_piece *pieces, size_t count)
{
    bulla_error error = {0};
    if (random_below(2)) {
        assert_ok(bulla_engine_step(engine, pieces, count, &error), error);
        return;
    }
    assert_ok(bulla_engine_begin(engine, pieces, count, &error), error);
    for (size_t ended = 0, before = 0; ended < count; before = ended) {
        ended = bulla_engine_continue(engine);
        assert_true(ended >= before && ended <= count);
    }
}

/* Runs `sequences` side by side to their ends in pieces of random size (the first
 * `whole` ids of each in one piece) and compares. */
static void run_and_compare(bulla_engine *engine, const bulla_program *program, const struct expected *expected,
                            uint32_t sequences, uint32_t whole)
{
    bulla_error error = {0};
    bulla_sequence *open[SEQUENCES] = {0};
    int32_t *logits[SEQUENCES];
    for (uint32_t s = 0; s < sequences; s++) {
        assert_ok(bulla_sequence_open(engine, expected[s].first_sampled, &open[s], &error), error);
        logits[s] = memory_alloc((size_t)expected[s].length * program->vocabulary, sizeof(int32_t), &error);
        assert_non_null(logits[s]);
    }
    for (int busy = 1; busy;) {
        bulla_piece pieces[SEQUENCES];
        uint32_t count = 0, of[SEQUENCES];
        for (uint32_t s = 0; s < sequences; s++) {
            uint64_t length = open[s] ? bulla_sequence_length(open[s]) : expected[s].length;
            if (length >= expected[s].length)
                continue;
            uint32_t left = expected[s].length - (uint32_t)length;
            uint32_t size = length == 0 ? whole : random_below(3) ? 1 : 1 + random_below(20);
            of[count] = s;
            pieces[count++] = piece_of(open[s], &expected[s], size < left ? size : left, logits[s]);
        }
        busy = count > 0;
        if (!busy)
            break;
        step_or_batches(engine, pieces, count);
        for (uint32_t i = 0; i < count; i++) {
            const struct expected *right = &expected[of[i]];
            uint64_t before = (uint64_t)(pieces[i].ids - right->ids), end = before + pieces[i].count;
            if (pieces[i].code == BULLA_E_RANGE) {
                if (right->code != BULLA_E_RANGE || right->range_position != pieces[i].range_position ||
                    right->range_operation != pieces[i].range_operation)
                    fail_msg("%s: RANGE at position %llu, operation %u; expected %s at %llu, %u", context_of_failure,
                             (unsigned long long)pieces[i].range_position, pieces[i].range_operation,
                             right->code ? "it" : "none", (unsigned long long)right->range_position,
                             right->range_operation);
                bulla_sequence_close(open[of[i]]);
                open[of[i]] = NULL;
                end = pieces[i].range_position;
            } else if (right->code == BULLA_E_RANGE && right->range_position < end)
                fail_msg("%s: no RANGE, expected it at %llu, %u", context_of_failure,
                         (unsigned long long)right->range_position, right->range_operation);
            for (uint64_t p = before + pieces[i].logits_from; p < end; p++)
                compare_logits(right, program->vocabulary, p,
                               pieces[i].logits + (p - before - pieces[i].logits_from) * program->vocabulary);
        }
    }
    for (uint32_t s = 0; s < sequences; s++) {
        bulla_sequence_close(open[s]);
        memory_free(logits[s]);
    }
    assert_int_equal(bulla_engine_pages_free(engine), bulla_engine_pages_total(engine));
}

static bulla_engine *open_engine(const bulla_program *program, const char *isa, unsigned threads, uint32_t batch_rows,
                                 int shuffle)
{
    bulla_error error = {0};
    bulla_engine_options options = {.threads = threads, .isa = isa, .batch_rows = batch_rows, .shuffle_pages = shuffle,
                                    .pages = 40};
    bulla_engine *engine;
    assert_ok(bulla_engine_open_program(program, NULL, &options, &engine, &error), error);
    assert_string_equal(bulla_engine_isa(engine), isa);
    return engine;
}

/* BULLA_FULL: every combination; else each instruction set with one of them, in turn. */
static int is_full(void)
{
    const char *full = getenv("BULLA_FULL");
    return full && *full;
}

static void check_family(int family, uint64_t seed, int strain, int *ranges)
{
    static const uint32_t batches[] = {1, 7, 64, 512};
    static const unsigned threads[] = {1, 2, 3, 4};
    bulla_error error = {0};
    bulla_program *program;
    assert_ok(random_program_new(seed, family, strain, &program, &error), error);
    struct expected expected[SEQUENCES];
    expect(program, 150, 0, &expected[0]);
    expect(program, 100, 90, &expected[1]);
    expect(program, 33, 32, &expected[2]);
    for (uint32_t s = 0; s < SEQUENCES; s++)
        *ranges += expected[s].code == BULLA_E_RANGE;
    char text[100];
    int turn = family + (int)seed;
    for (const char *const *isa = bulla_engine_isas(); *isa; isa++, turn++)
        for (int i = is_full() ? 0 : turn % 4; i < (is_full() ? 4 : turn % 4 + 1); i++) {
            snprintf(text, sizeof text, "%s, %s, %u threads, batches of %u", random_family_name(family), *isa,
                     threads[i], batches[(i + turn / 2) % 4]);
            context_of_failure = text;
            bulla_engine *engine = open_engine(program, *isa, threads[i], batches[(i + turn / 2) % 4], i % 2);
            run_and_compare(engine, program, &expected[1], 1, 80 + random_below(15));
            run_and_compare(engine, program, expected, SEQUENCES, 1 + random_below(120));
            bulla_engine_close(engine);
        }
    for (uint32_t s = 0; s < SEQUENCES; s++)
        expected_free(&expected[s]);
    random_program_free(program);
}

static void test_families(void **state)
{
    int ranges = 0;
    for (int family = 0; family < RANDOM_FAMILIES; family++)
        check_family(family, 11, 0, &ranges);
    assert_int_equal(ranges, 0);
}

static void test_range(void **state)
{
    int ranges = 0, programs = 0;
    for (int family = 0; family < RANDOM_FAMILIES; family++)
        for (uint64_t seed = 1; seed <= (is_full() ? 8 : 1); seed++, programs++)
            check_family(family, seed, 1, &ranges);
    print_message("RANGE in %d of %d sequences\n", ranges, programs * SEQUENCES);
    assert_true(ranges > programs / 2);
}

/* Long enough for one sequence's blocks to be shared out among threads. */
static void test_long(void **state)
{
    bulla_error error = {0};
    bulla_program *program;
    assert_ok(random_program_new(5, RANDOM_LLAMA, 0, &program, &error), error);
    struct expected expected;
    expect(program, 640, 600, &expected);
    for (const char *const *isa = bulla_engine_isas(); *isa; isa++)
        for (unsigned threads = 1; threads <= 4; threads += is_full() ? 1 : 3) {
            context_of_failure = *isa;
            bulla_engine *engine = open_engine(program, *isa, threads, 512, 1);
            run_and_compare(engine, program, &expected, 1, 590);
            bulla_engine_close(engine);
        }
    expected_free(&expected);
    random_program_free(program);
}

static void test_truncate(void **state)
{
    bulla_error error = {0};
    bulla_program *program;
    assert_ok(random_program_new(6, RANDOM_GEMMA3, 0, &program, &error), error);
    struct expected expected;
    expect(program, 140, 20, &expected);
    bulla_engine *engine = open_engine(program, *bulla_engine_isas(), 2, 64, 0);
    context_of_failure = "truncate";
    bulla_sequence *sequence;
    assert_ok(bulla_sequence_open(engine, 20, &sequence, &error), error);
    int32_t *logits = memory_alloc((size_t)140 * program->vocabulary, sizeof *logits, &error);
    for (int round = 0; round < 20; round++) {
        uint32_t to = random_below((uint32_t)bulla_sequence_length(sequence) + 1);
        bulla_sequence_truncate(sequence, to);
        assert_int_equal(bulla_sequence_length(sequence), to);
        bulla_piece piece = piece_of(sequence, &expected, 1 + random_below(140 - to), logits);
        assert_ok(bulla_engine_step(engine, &piece, 1, &error), error);
        assert_int_equal(piece.code, BULLA_OK);
        for (uint32_t i = piece.logits_from; i < piece.count; i++)
            compare_logits(&expected, program->vocabulary, to + i, logits + (size_t)(i - piece.logits_from) * program->vocabulary);
    }
    bulla_engine_close(engine); /* with its sequence */
    memory_free(logits);
    expected_free(&expected);
    random_program_free(program);
}

/* Between the batches of a step pieces have their results one after another, sequences are closed before and after they
 * have, one that has is cut, and no other step begins. The rest of the step is as if nothing had been. */
static void test_batches(void **state)
{
    enum { COUNT = 4, LENGTH = 40 };
    bulla_error error = {0};
    bulla_program *program;
    assert_ok(random_program_new(6, RANDOM_GEMMA3, 0, &program, &error), error);
    struct expected expected;
    expect(program, LENGTH, 0, &expected);
    bulla_engine *engine = open_engine(program, *bulla_engine_isas(), 2, 32, 0);
    context_of_failure = "batches";
    bulla_sequence *open[COUNT];
    bulla_piece pieces[COUNT];
    for (int closes = 0; closes < 2; closes++) {
        for (int i = 0; i < COUNT; i++) {
            int32_t *logits = memory_alloc((size_t)LENGTH * program->vocabulary, sizeof *logits, &error);
            assert_ok(bulla_sequence_open(engine, 0, &open[i], &error), error);
            pieces[i] = piece_of(open[i], &expected, i == 0 ? 10 : LENGTH, logits);
        }
        assert_ok(bulla_engine_begin(engine, pieces, COUNT, &error), error);
        assert_int_equal(bulla_engine_continue(engine), 1); /* 10 and 22 rows */
        compare_logits(&expected, program->vocabulary, 9, pieces[0].logits + 9 * program->vocabulary);
        assert_int_equal(bulla_engine_begin(engine, pieces, 1, &error), BULLA_E_USAGE);
        bulla_error_clear(&error);
        assert_int_equal(bulla_engine_step(engine, pieces, 1, &error), BULLA_E_USAGE);
        bulla_error_clear(&error);
        bulla_sequence_truncate(open[0], 5);
        if (closes) {
            bulla_sequence_close(open[0]);
            bulla_sequence_close(open[1]); /* in the middle of its piece */
            bulla_sequence_close(open[2]); /* before it */
            assert_int_equal(bulla_engine_pages_free(engine), bulla_engine_pages_total(engine) - 1);
            assert_int_equal(bulla_engine_continue(engine), 3);
            assert_int_equal(bulla_engine_continue(engine), 4);
        } else {
            assert_int_equal(bulla_engine_continue(engine), 2); /* 18 and 14 */
            assert_int_equal(bulla_engine_continue(engine), 3); /* 26 and 6 */
            assert_int_equal(bulla_engine_continue(engine), 3);
            assert_int_equal(bulla_engine_continue(engine), 4);
            bulla_piece piece = piece_of(open[0], &expected, 1, pieces[0].logits);
            assert_ok(bulla_engine_step(engine, &piece, 1, &error), error);
            compare_logits(&expected, program->vocabulary, 5, pieces[0].logits);
        }
        for (int i = 0; i < COUNT; i++) {
            for (uint64_t p = 0; p < LENGTH && i > (closes ? 2 : 0); p++)
                compare_logits(&expected, program->vocabulary, p, pieces[i].logits + p * program->vocabulary);
            if (!closes || i > 2)
                bulla_sequence_close(open[i]);
            memory_free(pieces[i].logits);
        }
        assert_int_equal(bulla_engine_pages_free(engine), bulla_engine_pages_total(engine));
    }
    bulla_engine_close(engine);
    expected_free(&expected);
    random_program_free(program);
}

/* A sequence that left a bound goes on from before that position, with other tokens, as if it had not. */
static void check_after_range(const bulla_program *program, const struct expected *bad, const char *isa,
                              uint32_t batch_rows)
{
    bulla_error error = {0};
    uint32_t kept = random_below((uint32_t)bad->range_position + 1);
    struct expected other;
    expect_like(program, bad->length, 0, bad, kept, &other);
    bulla_engine *engine = open_engine(program, isa, 1, batch_rows, 0);
    bulla_sequence *sequence;
    assert_ok(bulla_sequence_open(engine, 0, &sequence, &error), error);
    int32_t *logits = memory_alloc((size_t)bad->length * program->vocabulary, sizeof *logits, &error);
    assert_non_null(logits);
    bulla_piece piece = piece_of(sequence, bad, bad->length, logits);
    assert_ok(bulla_engine_step(engine, &piece, 1, &error), error);
    assert_int_equal(piece.code, BULLA_E_RANGE);
    assert_int_equal(piece.range_position, bad->range_position);
    for (uint64_t p = 0; p < piece.range_position; p++)
        compare_logits(bad, program->vocabulary, p, logits + p * program->vocabulary);
    bulla_sequence_truncate(sequence, bad->range_position + 1);
    assert_int_equal(bulla_engine_step(engine, &piece, 1, &error), BULLA_E_USAGE);
    assert_non_null(strstr(error.text, "left a bound"));
    bulla_error_clear(&error);
    bulla_sequence_truncate(sequence, kept);
    piece = piece_of(sequence, &other, other.length - kept, logits);
    assert_ok(bulla_engine_step(engine, &piece, 1, &error), error);
    assert_int_equal(piece.code, other.code);
    assert_int_equal(piece.range_position, other.range_position);
    assert_int_equal(piece.range_operation, other.range_operation);
    for (uint64_t p = kept; p < (other.code ? other.range_position : other.length); p++)
        compare_logits(&other, program->vocabulary, p, logits + (p - kept) * program->vocabulary);
    bulla_engine_close(engine);
    memory_free(logits);
    expected_free(&other);
}

static void test_truncate_range(void **state)
{
    int checked = 0, recovered = 0;
    for (int family = 0; family < RANDOM_FAMILIES; family++)
        for (uint64_t seed = 1; seed <= (is_full() ? 40 : 8); seed++) {
            bulla_error error = {0};
            bulla_program *program;
            struct expected bad;
            assert_ok(random_program_new(seed, family, 1, &program, &error), error);
            expect(program, 80, 0, &bad);
            context_of_failure = random_family_name(family);
            for (const char *const *isa = bulla_engine_isas(); *isa && bad.code == BULLA_E_RANGE; isa++, checked++) {
                check_after_range(program, &bad, *isa, seed % 2 ? 64 : 7);
                recovered += bad.range_position > 3;
            }
            expected_free(&bad);
            random_program_free(program);
        }
    print_message("%d sequences went on after RANGE, %d of them behind position 3\n", checked, recovered);
    assert_true(recovered > 10);
}

static void test_limits(void **state)
{
    bulla_error error = {0};
    bulla_program *program;
    assert_ok(random_program_new(6, RANDOM_ODD, 0, &program, &error), error);
    bulla_engine_options options = {.threads = 1, .pages = 2};
    bulla_engine *engine;
    assert_ok(bulla_engine_open_program(program, NULL, &options, &engine, &error), error);
    bulla_sequence *a, *b;
    assert_ok(bulla_sequence_open(engine, 10, &a, &error), error);
    assert_ok(bulla_sequence_open(engine, 0, &b, &error), error);
    uint32_t ids[400] = {0};
    int32_t logits[64];
    bulla_piece piece = {.sequence = a, .ids = ids, .count = 129, .logits_from = 129};
    assert_int_equal(bulla_engine_step(engine, &piece, 1, &error), BULLA_E_LIMIT); /* pages */
    assert_int_equal(bulla_engine_pages_free(engine), 2);
    bulla_error_clear(&error);
    piece.count = piece.logits_from = 301;
    assert_int_equal(bulla_engine_step(engine, &piece, 1, &error), BULLA_E_LIMIT); /* context */
    bulla_error_clear(&error);
    piece = (bulla_piece){.sequence = a, .ids = ids, .count = 5, .logits_from = 4, .logits = logits};
    assert_int_equal(bulla_engine_step(engine, &piece, 1, &error), BULLA_E_USAGE); /* logits before first_sampled */
    bulla_error_clear(&error);
    ids[3] = program->vocabulary;
    piece = (bulla_piece){.sequence = a, .ids = ids, .count = 5, .logits_from = 5};
    assert_int_equal(bulla_engine_step(engine, &piece, 1, &error), BULLA_E_USAGE);
    assert_non_null(strstr(error.text, "vocabulary"));
    bulla_error_clear(&error);
    ids[3] = 0;
    bulla_piece twice[2] = {piece, piece};
    assert_int_equal(bulla_engine_step(engine, twice, 2, &error), BULLA_E_USAGE);
    bulla_error_clear(&error);
    bulla_piece two[2] = {piece, {.sequence = b, .ids = ids, .count = 70, .logits_from = 70}};
    assert_int_equal(bulla_engine_step(engine, two, 2, &error), BULLA_E_LIMIT);
    assert_int_equal(bulla_sequence_length(a), 0);
    assert_int_equal(bulla_engine_pages_free(engine), 2);
    bulla_error_clear(&error);
    assert_ok(bulla_engine_step(engine, &piece, 1, &error), error);
    assert_int_equal(bulla_engine_pages_free(engine), 1);
    bulla_engine_close(engine);
    options.isa = "nonsense";
    assert_int_equal(bulla_engine_open_program(program, NULL, &options, &engine, &error), BULLA_E_UNSUPPORTED);
    random_program_free(program);
}

/* Hidden states beside ordinary sequences: the result of the last operation but those of the head, which the reference
 * finds in a program that ends there. */
struct hidden_expected {
    uint32_t *ids;
    int32_t *states; /* [length][size] */
    uint32_t length, size, operation;
    int code;
    uint64_t range_position;
    uint32_t range_operation;
};

static void expect_hidden(const bulla_program *program, uint32_t length, struct hidden_expected *expected)
{
    bulla_error error = {0};
    uint32_t head = program->operation_count - 1;
    head -= program->operations[head].kind == BULLA_SOFTCAP;
    *expected = (struct hidden_expected){.length = length,
                                         .operation = (uint32_t)program->operations[head - 1].inputs[0]};
    expected->size = program->operations[expected->operation].outputs;
    expected->ids = memory_alloc(length, sizeof *expected->ids, &error);
    expected->states = memory_alloc((size_t)length * expected->size, sizeof *expected->states, &error);
    assert_non_null(expected->states);
    for (uint32_t i = 0; i < length; i++)
        expected->ids[i] = random_below(program->vocabulary);
    bulla_program cut = *program;
    cut.operation_count = expected->operation + 1;
    struct reference_run *run;
    assert_ok(reference_run_open(&cut, 0, &run, &error), error);
    for (uint32_t i = 0; i < length && expected->code == BULLA_OK; i++) {
        const struct reference_value *value;
        expected->code = reference_run_append(run, expected->ids + i, 1, NULL, &error);
        if (expected->code != BULLA_OK)
            break;
        assert_ok(reference_run_value(run, expected->operation, i, &value, &error), error);
        memcpy(expected->states + (size_t)i * expected->size, value->x, expected->size * sizeof *value->x);
    }
    assert_true(expected->code == BULLA_OK || expected->code == BULLA_E_RANGE);
    reference_run_range(run, &expected->range_position, &expected->range_operation);
    reference_run_close(run);
}

static void check_hidden(bulla_engine *engine, const bulla_program *program, const struct hidden_expected *right,
                         const struct expected *other)
{
    bulla_error error = {0};
    bulla_sequence *hidden, *beside;
    int32_t *states = memory_alloc((size_t)right->length * right->size, sizeof *states, &error);
    int32_t *logits = memory_alloc((size_t)other->length * program->vocabulary, sizeof *logits, &error);
    assert_true(states && logits);
    assert_int_equal(bulla_engine_hidden_size(engine), right->size);
    assert_ok(bulla_sequence_open_hidden(engine, &hidden, &error), error);
    assert_ok(bulla_sequence_open(engine, other->first_sampled, &beside, &error), error);
    int is_bad = 0;
    for (uint64_t at = 0, besides = 0; at < right->length && !is_bad;) {
        uint32_t count = 1 + random_below(40), left = right->length - (uint32_t)at;
        count = count < left ? count : left;
        bulla_piece pieces[2] = {{.sequence = hidden, .ids = right->ids + at, .count = count, .logits_from = count,
                                  .hidden = states + at * right->size}};
        int both = besides < other->length;
        if (both)
            pieces[1] = piece_of(beside, other, 1 + random_below(other->length - (uint32_t)besides), logits);
        assert_ok(bulla_engine_step(engine, pieces, 1 + (size_t)both, &error), error);
        besides += both ? pieces[1].count : 0;
        at += count;
        if (both && pieces[1].code == BULLA_OK)
            for (uint64_t p = besides - pieces[1].count + pieces[1].logits_from; p < besides; p++)
                compare_logits(other, program->vocabulary, p, logits + (p - (besides - pieces[1].count) -
                                                                       pieces[1].logits_from) * program->vocabulary);
        besides = both && pieces[1].code != BULLA_OK ? other->length : besides;
        is_bad = pieces[0].code != BULLA_OK;
        if (is_bad) {
            assert_int_equal(right->code, BULLA_E_RANGE);
            assert_int_equal(pieces[0].range_position, right->range_position);
            assert_int_equal(pieces[0].range_operation, right->range_operation);
        }
        assert_true(is_bad || right->code == BULLA_OK || right->range_position >= at);
    }
    assert_int_equal(is_bad, right->code != BULLA_OK);
    size_t whole = is_bad ? (size_t)right->range_position : right->length;
    assert_memory_equal(states, right->states, whole * right->size * sizeof *states);
    bulla_sequence_close(hidden);
    bulla_sequence_close(beside);
    memory_free(states);
    memory_free(logits);
}

static void test_hidden(void **state)
{
    static const uint32_t batches[] = {1, 2, 7, 64};
    int ranges = 0, turn = 0;
    for (int family = 0; family < RANDOM_FAMILIES; family++)
        for (uint64_t seed = 1; seed <= (is_full() ? 8 : 3); seed++) {
            bulla_error error = {0};
            bulla_program *program;
            struct hidden_expected right;
            struct expected other;
            assert_ok(random_program_new(seed, family, seed != 1, &program, &error), error);
            expect_hidden(program, 100, &right);
            expect(program, 70, 60, &other);
            ranges += right.code == BULLA_E_RANGE;
            context_of_failure = random_family_name(family);
            for (const char *const *isa = bulla_engine_isas(); *isa; isa++, turn++) {
                bulla_engine *engine = open_engine(program, *isa, 1 + (unsigned)turn % 3, batches[turn / 3 % 4], 0);
                check_hidden(engine, program, &right, &other);
                bulla_engine_close(engine);
            }
            memory_free(right.ids);
            memory_free(right.states);
            expected_free(&other);
            random_program_free(program);
        }
    print_message("hidden states: RANGE in %d sequences\n", ranges);
    assert_true(ranges > 3);
}

/* An ordinary sequence has hidden states where logits are sampled; one for hidden states has no logits. */
static void test_hidden_limits(void **state)
{
    bulla_error error = {0};
    bulla_program *program;
    assert_ok(random_program_new(6, RANDOM_ODD, 0, &program, &error), error);
    bulla_engine *engine = open_engine(program, *bulla_engine_isas(), 1, 64, 0);
    uint32_t ids[10] = {0}, size = bulla_engine_hidden_size(engine);
    int32_t *states = memory_alloc(10 * (size_t)(size + program->vocabulary), sizeof *states, &error);
    bulla_sequence *hidden, *ordinary;
    assert_ok(bulla_sequence_open_hidden(engine, &hidden, &error), error);
    assert_ok(bulla_sequence_open(engine, 5, &ordinary, &error), error);
    bulla_piece piece = {.sequence = hidden, .ids = ids, .count = 5, .logits_from = 4, .logits = states};
    assert_int_equal(bulla_engine_step(engine, &piece, 1, &error), BULLA_E_USAGE);
    bulla_error_clear(&error);
    piece = (bulla_piece){.sequence = ordinary, .ids = ids, .count = 5, .logits_from = 5, .hidden = states};
    assert_int_equal(bulla_engine_step(engine, &piece, 1, &error), BULLA_E_USAGE);
    assert_non_null(strstr(error.text, "hidden state of position 0"));
    bulla_error_clear(&error);
    piece.hidden = NULL;
    assert_ok(bulla_engine_step(engine, &piece, 1, &error), error);
    piece.hidden = states;
    assert_ok(bulla_engine_step(engine, &piece, 1, &error), error);
    bulla_engine_close(engine);
    memory_free(states);
    random_program_free(program);
}

/* Every allocation of opening, stepping and closing fails once. */
static void test_allocation_failures(void **state)
{
    bulla_error error = {0};
    bulla_program *program;
    assert_ok(random_program_new(6, RANDOM_ODD, 0, &program, &error), error);
    int done = 0;
    for (uint64_t n = 1; !done; n++) {
        bulla_error_clear(&error);
        memory_inject_failure(n, 0);
        bulla_engine_options options = {.threads = 2, .pages = 2};
        bulla_engine *engine;
        bulla_sequence *sequence = NULL;
        int code = bulla_engine_open_program(program, NULL, &options, &engine, &error);
        if (code == BULLA_OK)
            code = bulla_sequence_open(engine, 0, &sequence, &error);
        uint32_t ids[3] = {1, 2, 3};
        bulla_piece piece = {.sequence = sequence, .ids = ids, .count = 3, .logits_from = 3};
        if (code == BULLA_OK)
            code = bulla_engine_step(engine, &piece, 1, &error);
        done = code == BULLA_OK;
        assert_true(done || code == BULLA_E_MEMORY);
        memory_inject_failure(0, 0);
        bulla_engine_close(engine);
        assert_true(n < 200);
    }
    random_program_free(program);
}

static void test_isas(void **state)
{
    char reason[200];
    assert_false(bulla_engine_isa_available("neon9", reason, sizeof reason));
    assert_non_null(strstr(reason, "neon9"));
    print_message("kernels that run here:");
    for (const char *const *isa = bulla_engine_isas(); *isa; isa++) {
        assert_true(bulla_engine_isa_available(*isa, reason, sizeof reason));
        assert_string_equal(reason, "");
        print_message(" %s", *isa);
    }
    print_message("\n");
    /* The same as each set by itself says; what does not run is refused for the reason that is given. */
    const char *const *running = bulla_engine_isas();
    struct isa_state described;
    for (size_t i = 0; isa_describe(i, &described); i++) {
        assert_true(described.name[0] && described.description[0]);
        assert_int_equal(bulla_engine_isa_available(described.name, reason, sizeof reason), described.runs);
        assert_int_equal(described.runs, described.reason[0] == 0);
        if (described.runs)
            assert_string_equal(*running++, described.name);
    }
    assert_null(*running);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_isas),           cmocka_unit_test(test_families), cmocka_unit_test(test_range),
        cmocka_unit_test(test_long),           cmocka_unit_test(test_truncate), cmocka_unit_test(test_limits),
        cmocka_unit_test(test_truncate_range), cmocka_unit_test(test_allocation_failures),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_hidden),         cmocka_unit_test(test_hidden_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
