/* Traces, steps and whole disputes about small random programs of every family (docs/dispute-trace.md). */
#include "test.h"

#include "answer_model.h"
#include "base/memory.h"
#include "base/merkle_range.h"
#include "check/trace_internal.h"
#include "dispute_play.h"
#include "exec/ref/run.h"
#include "random_program.h"

static uint64_t state = 88172645463325252;

static uint64_t below(uint64_t limit)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state * UINT64_C(0x2545F4914F6CDD1D) >> 16) % limit;
}

/* Proofs of runs of leaves, and of first leaves, in trees of every small size. */
static void test_merkle_range(void **unused)
{
    bulla_error error = {0};
    struct hash_stream *stream = hash_stream_open(&error);
    for (uint64_t count = 1; count <= 40; count++) {
        struct merkle_levels levels;
        uint8_t root[MERKLE_HASH], other[MERKLE_HASH], copy[40][MERKLE_HASH], proof[128][MERKLE_HASH];
        assert_ok(merkle_levels_open(&levels, count, &error), error);
        for (uint64_t i = 0; i < count * MERKLE_HASH; i++)
            levels.hashes[i] = (uint8_t)below(256);
        memcpy(copy, levels.hashes, count * MERKLE_HASH);
        assert_ok(merkle_levels_build(&levels, stream), error);
        merkle_levels_root(&levels, root);
        assert_ok(merkle_root(copy[0], count, other, &error), error);
        assert_memory_equal(root, other, MERKLE_HASH);
        struct merkle_prefix prefix = {0};
        for (uint64_t first = 0; first < count; first++)
            for (uint64_t run = 1; run <= count - first && run <= MERKLE_RANGE_LEAVES; run++) {
                uint8_t leaves[MERKLE_RANGE_LEAVES + 2][MERKLE_HASH];
                unsigned length = merkle_levels_proof(&levels, first, run, proof);
                assert_int_equal(length, merkle_range_length(first, run, count));
                memcpy(leaves, levels.hashes + first * MERKLE_HASH, run * MERKLE_HASH);
                assert_true(merkle_range_verify(stream, leaves, first, run, count, proof[0], root));
                memcpy(leaves, levels.hashes + first * MERKLE_HASH, run * MERKLE_HASH);
                leaves[below(run)][below(MERKLE_HASH)] ^= 4;
                assert_false(merkle_range_verify(stream, leaves, first, run, count, proof[0], root));
                if (length) {
                    proof[below(length)][below(MERKLE_HASH)] ^= 1;
                    memcpy(leaves, levels.hashes + first * MERKLE_HASH, run * MERKLE_HASH);
                    assert_false(merkle_range_verify(stream, leaves, first, run, count, proof[0], root));
                }
            }
        for (uint64_t run = 1; run <= count; run++) {
            unsigned length = merkle_levels_proof(&levels, 0, run, proof);
            assert_ok(merkle_prefix_add(stream, &prefix, levels.hashes + (run - 1) * MERKLE_HASH), error);
            assert_true(merkle_prefix_verify(stream, &prefix, count, proof[0], length, root));
            assert_false(merkle_prefix_verify(stream, &prefix, count, proof[0], length + 1, root));
            if (length) {
                proof[below(length)][below(MERKLE_HASH)] ^= 1;
                assert_false(merkle_prefix_verify(stream, &prefix, count, proof[0], length, root));
            }
        }
        merkle_levels_free(&levels);
    }
    hash_stream_close(stream);
}

static void test_bisection(void **unused)
{
    static const uint64_t sizes[] = {1, 2, 255, 256, 257, 65535, 65536, 65537, 1 << 24};
    static const unsigned rounds[] = {0, 1, 1, 1, 2, 2, 2, 3, 3};
    for (int i = 0; i < 9; i++) {
        assert_int_equal(bisection_rounds(sizes[i]), rounds[i]);
        uint64_t node = 0, first;
        uint32_t count;
        for (unsigned round = 0; round < rounds[i]; round++) { /* to the last leaf */
            bisection_reveal(sizes[i], round, node, &first, &count);
            assert_in_range(count, 1, 256);
            node = first + count - 1;
        }
        assert_int_equal(node, sizes[i] - 1);
        bisection_reveal(sizes[i], 0, 1, &first, &count);
        assert_int_equal(count, 0);
    }
}

/* Settings of sampling, by number; the answers differ in them. */
static bulla_sampling settings_of(int number)
{
    static const bulla_logit_bias biases[2] = {{5, 400000}, {7, -90000000}};
    bulla_sampling s;
    bulla_sampling_defaults(&s);
    s.seed = 77 + (uint64_t)number;
    s.temperature = number % 4 == 0 ? 0 : 700000 + 20000000 * (uint64_t)(number % 3);
    if (number % 4 == 2) {
        s.top_k = 9;
        s.top_p = 800000;
        s.min_p = 20000;
    }
    if (number % 4 == 3)
        s.top_p = 930000;
    if (number % 3 == 1) {
        s.repetition = 1300000;
        s.presence = 200000;
        s.frequency = -300000;
        s.biases = biases;
        s.bias_count = 2;
    }
    return s;
}

static void open_case(struct dispute_case *c, int family, int strain, uint64_t seed, uint32_t prompt, uint32_t drawn)
{
    bulla_error error = {0};
    bulla_model *model;
    bulla_sampling settings = settings_of((int)seed);
    assert_ok(answer_model_open(seed, family, strain, 0, "", &model, &error), error);
    assert_ok(dispute_case_open(c, model, seed, prompt, drawn, &settings, seed % 5 == 3, &error), error);
}

static void honest_trace(struct dispute_case *c, struct trace **trace)
{
    bulla_error error = {0};
    assert_ok(dispute_case_trace(c, NULL, trace, &error), error);
}

static struct step_array shape_of(const struct dispute_case *c, uint32_t operation, uint64_t position, uint32_t array)
{
    return step_array_shape(&c->referee, &c->answer, operation, position, array);
}

static const char *where(const struct dispute_case *c, const struct dispute *d)
{
    static char text[200];
    int kind = d->operation < c->referee.program.operation_count ? c->referee.program.operations[d->operation].kind : 0;
    snprintf(text, sizeof text, "operation %u (%s), position %llu, array %s, element %llu", d->operation,
             kind ? bulla_operation_kind_name(kind) : "sampling", (unsigned long long)d->position,
             step_array_name(kind, d->array), (unsigned long long)d->index);
    return text;
}

static void check_sizes(const struct dispute_case *c, const struct dispute *d)
{
    if (d->rounds > 8 || d->bytes > 65536 || d->largest > STEP_MESSAGE)
        fail_msg("%s: %u rounds, %zu bytes, the largest message %zu", where(c, d), d->rounds, d->bytes, d->largest);
}

/* The step of one element of an honest trace, and the same with something changed. */
static void check_step(struct dispute_case *c, struct dispute *d)
{
    bulla_error error = {0};
    assert_ok(dispute_play(d, &error), error);
    if (!d->found || !d->proposer_won || d->verdict != STEP_HOLDS)
        fail_msg("%s: %s", where(c, d), step_verdict_text(d->verdict));
    check_sizes(c, d);
    struct step_claim claim = d->claim;
    claim.value ^= 1;
    assert_int_equal(step_verify(&c->referee, &c->answer, c->stream, &claim, d->opening, d->opening_length), STEP_DIFFERS);
    if (d->opening_length == 0)
        return;
    d->opening[below(d->opening_length)] ^= (uint8_t)(1 << below(8));
    if (step_verify(&c->referee, &c->answer, c->stream, &d->claim, d->opening, d->opening_length) == STEP_HOLDS)
        fail_msg("%s: an opening with a bit changed holds", where(c, d));
    assert_int_not_equal(step_verify(&c->referee, &c->answer, c->stream, &d->claim, d->opening, d->opening_length - 1),
                         STEP_HOLDS);
}

static size_t largest_opening;

/* Steps of every array of every operation at one position. */
static void check_cells(struct dispute_case *c, struct trace *trace, uint64_t position)
{
    for (uint32_t o = 0; o <= c->referee.program.operation_count; o++) {
        if (!step_is_evaluated(&c->referee, &c->answer, o, position))
            continue;
        for (uint32_t a = 0; a < step_array_count(&c->referee, o); a++) {
            struct step_array shape = shape_of(c, o, position, a);
            if (shape.count == 0 || shape.is_witness)
                continue;
            const uint64_t indices[] = {0, shape.count - 1, below(shape.count)};
            for (int i = 0; i < 3; i++) {
                struct dispute d = {.c = c, .proposer = trace, .operation = o, .position = position, .array = a,
                                    .index = indices[i]};
                check_step(c, &d);
                largest_opening = d.opening_length > largest_opening ? d.opening_length : largest_opening;
            }
        }
    }
}

static void test_honest_steps(void **unused)
{
    for (int family = 0; family < RANDOM_FAMILIES; family++)
        for (uint64_t seed = 0; seed < test_count(1, 12); seed++) {
            struct dispute_case c;
            struct trace *trace, *other;
            bulla_error error = {0};
            open_case(&c, family, 0, seed * RANDOM_FAMILIES + (uint64_t)family, 20 + (uint32_t)below(80), 4);
            assert_int_equal(c.answer.has_range, 0);
            honest_trace(&c, &trace);
            uint64_t range_position, positions = step_answer_positions(&c.answer);
            uint32_t range_operation;
            assert_false(trace_range(trace, &range_position, &range_operation));
            assert_true(trace_cells(trace)->first_bad == UINT64_MAX);
            check_cells(&c, trace, positions - 1);
            check_cells(&c, trace, below(positions));
            check_cells(&c, trace, seed % 2 ? 0 : c.answer.prompt_count - 1);
            honest_trace(&c, &other); /* two honest parties have nothing to dispute */
            struct dispute d = {.c = &c, .proposer = trace, .challenger = other};
            assert_ok(dispute_play(&d, &error), error);
            assert_false(d.found);
            trace_close(other);
            trace_close(trace);
            dispute_case_close(&c);
        }
    print_message("largest opening: %zu bytes\n", largest_opening);
}

static unsigned without_effect, without_arrays;

/* A liar with one bit wrong against an honest challenger. */
static void check_fault(struct dispute_case *c, struct trace *honest, struct dispute_fault *fault)
{
    bulla_error error = {0};
    struct trace *liar;
    uint8_t own[MERKLE_HASH], theirs[MERKLE_HASH];
    int sampling = fault->operation == c->referee.program.operation_count;
    int kind = sampling ? 0 : c->referee.program.operations[fault->operation].kind;
    if (kind == BULLA_VALUE_QUANT && fault->array == 0)
        fault->bit %= 3; /* the liar runs on kernels that are made for k_v up to 24 */
    if ((kind == BULLA_QUANT || kind == BULLA_NORM_QUANT) && shape_of(c, fault->operation, fault->position, fault->array).width == 8)
        fault->bit %= 63; /* and for s that is not negative */
    dispute_fault_hook(fault);
    assert_ok(dispute_case_trace(c, &fault->hook, &liar, &error), error);
    struct dispute d = {.c = c, .proposer = liar, .challenger = honest};
    assert_ok(dispute_play(&d, &error), error);
    trace_root(honest, own);
    trace_root(liar, theirs);
    if (!d.found) { /* what it says about the answer is right all the same */
        assert_memory_equal(own, theirs, MERKLE_HASH);
        without_effect++;
    } else if (d.verdict == STEP_UNPROVED && d.position == fault->position &&
               d.group == c->referee.operations[fault->operation].group) {
        /* The executor and the reference's functions go different ways behind a value that cannot be: this liar has no
         * arrays for the cell that it committed to. */
        assert_false(d.proposer_won);
        without_arrays++;
    } else if (d.proposer_won || d.operation != fault->operation || d.position != fault->position ||
               d.array != fault->array || d.index != fault->index)
        fail_msg("a fault in operation %u, position %llu, array %u, element %llu, bit %d: disputed at %s, %s",
                 fault->operation, (unsigned long long)fault->position, fault->array, (unsigned long long)fault->index,
                 fault->bit, where(c, &d), step_verdict_text(d.verdict));
    if (d.found)
        check_sizes(c, &d);
    trace_close(liar);
}

static void test_faults(void **unused)
{
    uint64_t faults = 0;
    for (int family = 0; family < RANDOM_FAMILIES; family++) {
        struct dispute_case c;
        struct trace *honest;
        open_case(&c, family, 0, 100 + (uint64_t)family, 70, 5);
        honest_trace(&c, &honest);
        int is_thorough = test_count(0, 1) || family == RANDOM_LLAMA || family == RANDOM_GEMMA2 || family == RANDOM_GEMMA3;
        uint64_t seen = 0, positions = step_answer_positions(&c.answer);
        for (uint32_t o = 0; o < c.referee.program.operation_count; o++) { /* each kind at its first, last, some place */
            int kind = c.referee.program.operations[o].kind, is_new = !(seen >> kind & 1);
            seen |= UINT64_C(1) << kind;
            for (uint32_t a = 0; a < step_array_count(&c.referee, o); a++)
                for (int place = 0; place < 3; place++) {
                    uint64_t position = place == 0 ? c.referee.lowest[o] : place == 1 ? positions - 1 : below(positions);
                    uint64_t count = shape_of(&c, o, position, a).count;
                    if (count == 0 || !step_is_evaluated(&c.referee, &c.answer, o, position) ||
                        below(is_new ? is_thorough ? 1 : 4 : test_count(60, 1)) != 0)
                        continue;
                    struct dispute_fault fault = {.operation = o, .array = a, .position = position,
                        .index = place == 0 ? 0 : place == 1 ? count - 1 : below(count),
                        .bit = (int)below(8u * shape_of(&c, o, position, a).width)};
                    check_fault(&c, honest, &fault);
                    faults++;
                }
        }
        trace_close(honest);
        dispute_case_close(&c);
    }
    print_message("%llu faults, %u of them without effect, %u cells without arrays\n", (unsigned long long)faults,
                  without_effect, without_arrays);
    assert_true(without_arrays * 10 < faults);
    assert_true(without_effect * 2 < faults);
}

/* An answer whose last token is another than the one that is drawn, with and without a fault in what leads to it. */
static void test_wrong_token(void **unused)
{
    for (uint64_t seed = 0; seed < test_count(20, 400); seed++) {
        struct dispute_case c;
        struct trace *liar, *honest;
        bulla_error error = {0};
        open_case(&c, (int)(seed % RANDOM_FAMILIES), 0, 300 + seed, 10, 4);
        uint32_t vocabulary = c.referee.program.vocabulary;
        c.tokens[c.answer.token_count - 1] = (c.tokens[c.answer.token_count - 1] + 1 + (uint32_t)below(vocabulary - 1)) %
                                             vocabulary;
        honest_trace(&c, &honest);
        struct dispute_fault fault = {.operation = c.referee.program.operation_count,
                                      .position = step_answer_positions(&c.answer) - 1};
        do
            fault.array = (uint32_t)below(16);
        while (shape_of(&c, fault.operation, fault.position, fault.array).count == 0);
        struct step_array shape = shape_of(&c, fault.operation, fault.position, fault.array);
        fault.index = below(shape.count);
        fault.bit = (int)below(8u * shape.width);
        dispute_fault_hook(&fault);
        assert_ok(dispute_case_trace(&c, seed % 4 ? &fault.hook : NULL, &liar, &error), error);
        struct dispute d = {.c = &c, .proposer = liar, .challenger = honest};
        assert_ok(dispute_play(&d, &error), error);
        if (!d.found || d.proposer_won)
            fail_msg("seed %llu, fault in array %s, element %llu: %s", (unsigned long long)seed,
                     step_array_name(0, fault.array), (unsigned long long)fault.index, where(&c, &d));
        if (seed % 4 == 0)
            assert_int_equal(d.verdict, STEP_FAILS);
        trace_close(liar);
        trace_close(honest);
        dispute_case_close(&c);
    }
}

/* Where the reference run raises RANGE on all of an answer's tokens, against where the answer says: -1 before it, 0 there,
 * 1 later or nowhere. */
static int compare_with_truth(const struct dispute_case *c)
{
    bulla_error error = {0};
    struct reference_run *run;
    uint64_t position;
    uint32_t operation;
    assert_ok(reference_run_open(bulla_model_program(c->model), c->answer.prompt_count - 1, &run, &error), error);
    int code = reference_run_append(run, c->tokens, c->answer.token_count, NULL, &error);
    assert_true(code == BULLA_OK || code == BULLA_E_RANGE);
    int has_range = reference_run_range(run, &position, &operation);
    reference_run_close(run);
    if (!has_range || position > c->answer.range_position)
        return 1;
    if (position < c->answer.range_position || operation < c->answer.range_operation)
        return -1;
    return operation == c->answer.range_operation ? 0 : 1;
}

/* Answers that end by RANGE, or should have. */
static void test_range(void **unused)
{
    unsigned ended = 0;
    for (uint64_t seed = 0; seed < test_count(30, 600); seed++) {
        struct dispute_case c;
        struct trace *liar, *honest;
        bulla_error error = {0};
        open_case(&c, (int)(seed % RANDOM_FAMILIES), 1, seed, 12, 12);
        honest_trace(&c, &honest);
        struct dispute d = {.c = &c, .proposer = honest, .challenger = honest};
        if (c.answer.has_range) {
            ended++;
            /* The honest answer: nothing differs, and the element that is named does leave its bound. */
            struct trace *other;
            honest_trace(&c, &other);
            d.challenger = other;
            assert_ok(dispute_play(&d, &error), error);
            assert_false(d.found);
            d.wants_range = 1;
            assert_ok(dispute_play(&d, &error), error);
            if (!d.proposer_won)
                fail_msg("seed %llu: %s: %s", (unsigned long long)seed, where(&c, &d), step_verdict_text(d.verdict));
            check_sizes(&c, &d);
            trace_close(other);
            /* The same answer that says nothing of RANGE, with another token behind it. */
            c.answer.has_range = 0;
            c.tokens[c.answer.token_count++] = 1;
            if (c.answer.token_count == c.answer.prompt_count + 1) /* it ended within the prompt */
                assert_true(step_answer_positions(&c.answer) <= c.answer.prompt_count);
            trace_close(honest);
            honest_trace(&c, &honest);
            assert_ok(dispute_case_trace(&c, NULL, &liar, &error), error);
            d = (struct dispute){.c = &c, .proposer = liar, .challenger = honest};
            assert_ok(dispute_play(&d, &error), error);
            assert_true(d.found && !d.proposer_won);
            assert_int_equal(d.verdict, STEP_RANGE);
            trace_close(liar);
        } else { /* an answer that was cut off by a RANGE that is none */
            c.answer.has_range = 1;
            c.answer.range_position = c.answer.token_count - 1;
            c.answer.range_operation = (uint32_t)below(c.referee.program.operation_count + 1);
            trace_close(honest);
            honest_trace(&c, &honest);
            assert_ok(dispute_case_trace(&c, NULL, &liar, &error), error);
            d = (struct dispute){.c = &c, .proposer = liar, .challenger = honest};
            int truth = compare_with_truth(&c);
            assert_ok(dispute_play(&d, &error), error);
            assert_int_equal(d.found, truth < 0); /* else all that is committed to is right */
            assert_false(d.proposer_won);
            d.wants_range = 1;
            if (truth >= 0) {
                assert_ok(dispute_play(&d, &error), error);
                assert_true(d.found);
                assert_int_equal(d.proposer_won, truth == 0);
            }
            trace_close(liar);
        }
        trace_close(honest);
        dispute_case_close(&c);
    }
    print_message("%u answers ended by RANGE\n", ended);
    assert_true(ended >= 3);
}

static uint32_t first_of_kind(const struct dispute_case *c, int kind)
{
    uint32_t o = 0;
    while (c->referee.program.operations[o].kind != kind)
        o++;
    return o;
}

/* The range cell, asked for by the honest challenger. The liar names this element, unless its own trace does. */
static void play_range(struct dispute_case *c, const struct trace_hook *hook, const uint64_t *named, struct dispute *d)
{
    struct trace *liar, *honest;
    bulla_error error = {0};
    honest_trace(c, &honest);
    assert_ok(dispute_case_trace(c, hook, &liar, &error), error);
    uint32_t group = c->referee.operations[c->answer.range_operation].group;
    assert_ok(trace_expand(liar, group, c->answer.range_position, NULL, 1, &error), error);
    if (named) {
        liar->cell.range_array = (uint32_t)named[0];
        liar->cell.range_index = named[1];
    }
    *d = (struct dispute){.c = c, .proposer = liar, .challenger = honest, .wants_range = 1};
    assert_ok(dispute_play(d, &error), error);
    check_sizes(c, d);
    trace_close(liar);
    trace_close(honest);
}

/* An answer that is cut off by a RANGE that is none, with each lie that could show one. */
static void test_false_range(void **unused)
{
    struct dispute_case c;
    struct dispute d;
    open_case(&c, RANDOM_WIDE, 0, 7, 6, 3);
    uint32_t norm = first_of_kind(&c, BULLA_NORM_QUANT);
    assert_in_range(c.referee.program.operations[norm].n, 257, 511);
    dispute_case_cut(&c, norm);
    /* A sum of squares that makes the next one leave its bound, which the liar then names: the first is disputed. */
    struct dispute_value lie = {.operation = norm, .array = 4, .position = c.answer.range_position,
                                .value = (INT64_C(1) << 62) - 1};
    dispute_value_hook(&lie);
    play_range(&c, &lie.hook, NULL, &d);
    assert_int_equal(d.claim.cell.range_array, 4);
    assert_int_equal(d.claim.cell.range_index, 1);
    assert_true(d.found && !d.proposer_won && !d.asks_named);
    assert_int_equal(d.verdict, STEP_DIFFERS);
    assert_int_equal(d.array, 4);
    assert_int_equal(d.index, 0);
    /* The named element is itself another, or what is behind it: what is named is opened. */
    static const uint64_t places[][2] = {{4, 1}, {5, 0}, {6, 0}, {2, 1}};
    lie.in_run = 1;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        lie.array = (uint32_t)places[i][0];
        lie.index = places[i][1];
        play_range(&c, &lie.hook, (const uint64_t[2]){4, 1}, &d);
        int is_before = lie.array < 4;
        assert_true(d.found && !d.proposer_won);
        assert_int_equal(d.verdict, STEP_DIFFERS);
        assert_int_equal(d.array, is_before ? lie.array : 4);
        assert_int_equal(d.index, 1);
    }
    /* Honest arrays: whatever is named. */
    static const uint64_t named[][2] = {{0, 0}, {3, 1}, {4, 0}, {4, 1}, {4, 2}, {5, 319}, {6, 0}, {6, 1}, {1, 0}, {7, 0},
                                        {UINT32_MAX, 0}, {0, UINT64_C(1) << 53}};
    for (size_t i = 0; i < sizeof named / sizeof named[0]; i++) {
        play_range(&c, NULL, named[i], &d);
        assert_true(d.found && !d.proposer_won && d.asks_named);
        assert_int_equal(d.verdict, STEP_DIFFERS);
    }
    static const uint64_t in_sampling[][2] = {{0, 0}, {4, 0}, {4, 2}, {10, 1}, {13, 0}, {15, 0}, {16, 0}, {UINT32_MAX, 0}};
    dispute_case_cut(&c, c.referee.program.operation_count);
    for (size_t i = 0; i < sizeof in_sampling / sizeof in_sampling[0]; i++) {
        play_range(&c, NULL, in_sampling[i], &d);
        assert_true(d.found && !d.proposer_won);
        assert_int_equal(d.verdict, in_sampling[i][0] == 15 ? STEP_FAILS : STEP_DIFFERS);
    }
    dispute_case_close(&c);
}

/* Every element that is read is this one, but for A's total, which is 0. */
static int read_constant(void *context, const struct step *step, const struct step_source *source, uint64_t first,
                         uint32_t count, int64_t *values)
{
    for (uint32_t i = 0; i < count; i++)
        values[i] = source->kind == STEP_SOURCE_ARRAY && source->array == 0 ? 0 : *(const int64_t *)context;
    return 0;
}

/* Sums are whole: a sum of 64 * 2^30 is not 0, in either stage of the transform. */
static void test_whole_sums(void **unused)
{
    int64_t value = INT64_C(1) << 30;
    for (int array = 1; array <= 2; array++)
        for (uint32_t block = array == 1 ? 4096 : 64; block <= 4096; block *= 64) {
            bulla_operation o = {.kind = BULLA_QUANT, .n = block, .outputs = block, .block = block};
            const struct step_program program = {.program = {.operations = &o, .operation_count = 1}};
            struct step step = {.program = &program, .o = &o, .read = read_constant, .context = &value};
            assert_true(step_element(&step, (uint32_t)array, 0) == value * 64);
            assert_int_equal(step.status, STEP_HOLDS);
        }
}

/* An answer whose prompt is not the one that the program was opened for. */
static void test_other_prompt(void **unused)
{
    struct dispute_case c;
    bulla_error error = {0};
    open_case(&c, RANDOM_UNGATED, 0, 3, 6, 3);
    assert_ok(step_answer_check(&c.referee, &c.answer, &error), error);
    for (int i = -1; i <= 1; i += 2) {
        struct step_answer other = c.answer;
        other.prompt_count += (uint32_t)i;
        assert_int_equal(step_answer_check(&c.referee, &other, NULL), BULLA_E_INPUT);
    }
    dispute_case_close(&c);
}

/* Places that a cell does not have, and witness scalars, which no step gives. */
static void test_no_places(void **unused)
{
    struct dispute_case c;
    struct trace *trace;
    bulla_error error = {0};
    uint8_t opening[STEP_MESSAGE], hashes[256][MERKLE_HASH];
    size_t length;
    uint32_t hash_count;
    open_case(&c, RANDOM_LLAMA, 0, 7, 6, 3); /* at a temperature */
    honest_trace(&c, &trace);
    uint32_t sampling = c.referee.program.operation_count;
    assert_ok(trace_expand(trace, c.referee.groups - 1, step_answer_positions(&c.answer) - 1, NULL, 0, &error), error);
    static const struct {
        uint32_t operation, array; /* the operation from sampling on */
        uint64_t index;
    } places[] = {{0, 4, 0}, {0, 10, 1}, {0, 2, 0}, {0, 0, 211}, {0, 16, 0}, {0, UINT32_MAX, 0}, {UINT32_MAX, 0, 0}, {1, 0, 0}};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        assert_int_equal(trace_opening(trace, sampling + places[i].operation, places[i].array, places[i].index, opening, &length,
                                       NULL), BULLA_E_USAGE);
    for (size_t i = 4; i < sizeof places / sizeof places[0]; i++) {
        assert_null(trace_array(trace, sampling + places[i].operation, places[i].array));
        assert_null(trace_block(trace, sampling + places[i].operation, places[i].array, 0, &length));
        assert_int_equal(length, 0);
    }
    assert_null(trace_block(trace, sampling, 0, 1000, &length));
    assert_int_equal(length, 0);
    const struct trace_tree *leaf = trace_array(trace, sampling, 15); /* a tree of one leaf has no rounds */
    trace_reveal(leaf, 0, 0, hashes, &hash_count);
    assert_int_equal(hash_count, 0);
    trace_reveal(trace_cells(trace), 9, 0, hashes, &hash_count);
    assert_int_equal(hash_count, 0);
    assert_true(trace_difference(leaf, 0, 0, (const uint8_t (*)[MERKLE_HASH])hashes) == -1);
    trace_close(trace);
    dispute_case_close(&c);
}

/* A model file's program part that says something else, under a root of its own: it is no program of any model. */
static void test_program_part(void **unused)
{
    struct dispute_case c;
    bulla_error error = {0};
    open_case(&c, RANDOM_UNGATED, 0, 3, 6, 3);
    const bulla_program *program = bulla_model_program(c.model);
    size_t length = program->tensors[0].offset, region = c.tree->region_length;
    uint8_t *bytes = memory_alloc_aligned(64, region, &error), root[MERKLE_HASH], proof[64][MERKLE_HASH];
    bulla_tensor *tensors = (bulla_tensor *)(void *)(bytes + ((const uint8_t *)program->tensors - c.tree->region));
    static const uint64_t offsets[] = {0, UINT64_C(1) << 40, UINT64_MAX - 63};
    for (int i = 0; i < 4; i++) {
        memcpy(bytes, c.tree->region, region);
        if (i == 3)
            bytes[1023] = 1; /* reserved, in the header */
        else if (i)
            tensors[program->tensor_count / 2].offset = offsets[i];
        struct merkle_levels levels;
        assert_ok(merkle_levels_open(&levels, (region + 1023) / 1024, &error), error);
        for (uint64_t leaf = 0; leaf < levels.count; leaf++) {
            size_t left = region - leaf * 1024;
            assert_ok(merkle_range_leaf(c.stream, -1, bytes + leaf * 1024, left < 1024 ? left : 1024,
                                        levels.hashes + leaf * MERKLE_HASH), error);
        }
        assert_ok(merkle_levels_build(&levels, c.stream), error);
        merkle_levels_root(&levels, root);
        unsigned count = merkle_levels_proof(&levels, 0, length / 1024, proof);
        struct step_program read;
        int code = step_program_part(bytes, length, proof[0], count * MERKLE_HASH, root, c.stream, &read, NULL);
        assert_int_equal(code, i ? BULLA_E_INPUT : BULLA_OK);
        root[0] ^= 1;
        assert_int_equal(step_program_part(bytes, length, proof[0], count * MERKLE_HASH, root, c.stream, &read, &error),
                         BULLA_E_INPUT);
        assert_non_null(strstr(error.text, i == 3 ? "a reserved byte" : "does not lead to the model root"));
        bulla_error_clear(&error);
        merkle_levels_free(&levels);
    }
    memory_free(bytes);
    dispute_case_close(&c);
}

/* A proposer whose tree has a cell that no run gives cannot show what it consists of. */
static void test_wrong_tree(void **unused)
{
    struct dispute_case c;
    struct trace *liar, *honest;
    bulla_error error = {0};
    open_case(&c, RANDOM_QWEN2, 0, 1, 30, 3);
    honest_trace(&c, &honest);
    honest_trace(&c, &liar);
    for (int i = 0; i < 40; i++) {
        struct merkle_levels *levels = &liar->cells.levels;
        uint64_t cell = below(levels->count);
        uint8_t *byte = levels->hashes + cell * MERKLE_HASH + below(MERKLE_HASH), bit = (uint8_t)(1 << below(8));
        *byte ^= bit;
        assert_ok(merkle_levels_build(levels, c.stream), error);
        struct dispute d = {.c = &c, .proposer = liar, .challenger = honest};
        assert_ok(dispute_play(&d, &error), error);
        assert_true(d.found && !d.proposer_won);
        assert_int_equal(d.verdict, STEP_UNPROVED);
        assert_int_equal(d.group * step_answer_positions(&c.answer) + d.position, cell);
        *byte ^= bit;
    }
    trace_close(liar);
    trace_close(honest);
    dispute_case_close(&c);
}

/* Messages with a bit changed. */
static void test_tampered(void **unused)
{
    struct dispute_case c;
    struct trace *trace;
    bulla_error error = {0};
    open_case(&c, RANDOM_GEMMA2, 0, 3, 90, 3);
    honest_trace(&c, &trace);
    uint8_t root[MERKLE_HASH], hashes[256][MERKLE_HASH];
    uint32_t count;
    trace_root(trace, root);
    trace_reveal(trace_cells(trace), 0, 0, hashes, &count);
    assert_true(bisection_children(c.stream, (const uint8_t (*)[MERKLE_HASH])hashes, count, root));
    assert_false(bisection_children(c.stream, (const uint8_t (*)[MERKLE_HASH])hashes, count - 1, root));
    hashes[below(count)][below(MERKLE_HASH)] ^= 2;
    assert_false(bisection_children(c.stream, (const uint8_t (*)[MERKLE_HASH])hashes, count, root));
    for (uint32_t group = 0; group < c.referee.groups; group++) {
        uint64_t position = step_answer_positions(&c.answer) - 1;
        assert_ok(trace_expand(trace, group, position, NULL, 0, &error), error);
        struct step_cell cell = *trace_arrays(trace);
        const uint8_t *leaf = trace->cells.levels.hashes + (group * trace->positions + position) * MERKLE_HASH;
        uint8_t message[STEP_MESSAGE];
        memcpy(message, cell.message, cell.length);
        cell.message = message;
        assert_true(step_check_arrays(&c.referee, &c.answer, c.stream, &cell, leaf));
        cell.length--;
        assert_false(step_check_arrays(&c.referee, &c.answer, c.stream, &cell, leaf));
        cell.length++;
        uint32_t begin, end;
        step_group(&c.referee, group, &begin, &end);
        for (uint32_t o = begin; o < end; o++) /* what the leaf covers, what is empty, what is a witness */
            for (uint32_t a = 0; a < step_array_count(&c.referee, o); a++) {
                struct step_array shape = shape_of(&c, o, position, a);
                size_t at = (size_t)(step_cell_root(&c.referee, &cell, o, a) - message) + below(MERKLE_HASH);
                message[at] ^= 16;
                int is_bound = shape.count == 0 || shape.is_witness || (shape.is_result && c.referee.operations[o].is_border);
                assert_int_equal(step_check_arrays(&c.referee, &c.answer, c.stream, &cell, leaf), !is_bound);
                message[at] ^= 16;
                if (shape.count == 0)
                    continue;
                size_t length;
                uint64_t block = below(step_array_blocks(&shape));
                uint8_t bytes[STEP_BLOCK];
                const struct merkle_levels *levels = &trace_array(trace, o, a)->levels;
                const uint8_t *own = trace_block(trace, o, a, block, &length);
                memcpy(bytes, own, length);
                assert_true(step_check_block(c.stream, &shape, block, bytes, length, levels->hashes + block * MERKLE_HASH));
                bytes[below(length)] ^= 1;
                assert_false(step_check_block(c.stream, &shape, block, bytes, length, levels->hashes + block * MERKLE_HASH));
            }
    }
    trace_close(trace);
    dispute_case_close(&c);
}

/* Memory that is short at any allocation: an error, nothing lost, and the next attempt works. */
static void test_memory(void **unused)
{
    struct dispute_case c;
    open_case(&c, RANDOM_UNGATED, 0, 2, 5, 2);
    uint32_t operation = c.referee.program.operation_count;
    int done = 0;
    for (uint64_t n = 1; !done; n += 1 + n / 16) {
        bulla_error error = {0};
        struct trace_model *model = NULL;
        struct trace *trace = NULL;
        struct trace_options options = {.executor = &c.executor, .allowed = (const uint64_t *const *)c.allowed};
        uint8_t opening[STEP_MESSAGE];
        size_t length;
        uint64_t before = memory_allocation_count();
        memory_inject_failure(n, 0);
        int code = trace_model_open(c.tree->program, NULL, &model, &error);
        code = code ? code : trace_open(model, &c.answer, &options, &trace, &error);
        code = code ? code : trace_expand(trace, c.referee.groups - 1, 5, NULL, 0, &error);
        code = code ? code : trace_opening(trace, operation, 0, 3, opening, &length, &error);
        memory_inject_failure(0, 0);
        assert_true(code == BULLA_OK || code == BULLA_E_MEMORY);
        done = code == BULLA_OK;
        if (done) /* no allocation failed */
            assert_true(memory_allocation_count() - before < n);
        if (trace && code) {
            bulla_error_clear(&error);
            assert_ok(trace_expand(trace, c.referee.groups - 1, 5, NULL, 0, &error), error);
            assert_ok(trace_opening(trace, operation, 0, 3, opening, &length, &error), error);
        }
        trace_close(trace);
        trace_model_close(model);
    }
    dispute_case_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_wrong_tree),     cmocka_unit_test(test_tampered),
        cmocka_unit_test(test_merkle_range), cmocka_unit_test(test_bisection), cmocka_unit_test(test_honest_steps),
        cmocka_unit_test(test_faults),       cmocka_unit_test(test_wrong_token), cmocka_unit_test(test_range),
        cmocka_unit_test(test_false_range),  cmocka_unit_test(test_whole_sums),
        cmocka_unit_test(test_no_places),    cmocka_unit_test(test_program_part),
        cmocka_unit_test(test_other_prompt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
