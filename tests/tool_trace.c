/* tool_trace steps: prints steps of disputes about small random programs as JSON, docs/dispute-trace.md's test vectors
 * (tests/vectors/trace/steps.json): honest ones of every array, and each kind of wrong one. The same every time.
 * tool_trace faults MODEL PROMPT DRAWN FAULTS SEED: random faults of one bit in a model file's run, each found, and each
 * honest element disputed in vain; prints figures as JSON. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "answer_model.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "base/memory.h"
#include "dispute_play.h"
#include "random_program.h"

struct writer {
    struct buffer answers, cells, steps;
    unsigned answer_count, cell_count;
    uint64_t state;
    struct dispute_case *c;
    unsigned ranges;
    /* The last cell written. */
    uint32_t group;
    uint64_t position;
};

static uint64_t below(struct writer *w, uint64_t limit)
{
    w->state = w->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (w->state >> 33) % limit;
}

static void separate(struct buffer *out)
{
    buffer_append_text(out, out->length ? ",\n" : "\n");
}

static void member_base64(struct buffer *out, const char *name, const void *bytes, size_t length)
{
    buffer_append_format(out, "\"%s\":\"", name);
    base64_append(out, bytes, length);
    buffer_append_text(out, "\"");
}

static void write_sampling(struct buffer *out, const bulla_sampling *s)
{
    buffer_append_format(out, "\"sampling\":{\"temperature\":%llu,\"top_k\":%u,\"top_p\":%llu,\"min_p\":%llu,"
                         "\"repetition\":%llu,\"presence\":%lld,\"frequency\":%lld,\"seed\":%llu,\"biases\":[",
                         (unsigned long long)s->temperature, s->top_k, (unsigned long long)s->top_p,
                         (unsigned long long)s->min_p, (unsigned long long)s->repetition, (long long)s->presence,
                         (long long)s->frequency, (unsigned long long)s->seed);
    for (size_t i = 0; i < s->bias_count; i++)
        buffer_append_format(out, "%s[%u,%lld]", i ? "," : "", s->biases[i].id, (long long)s->biases[i].bias);
    buffer_append_text(out, "]}");
}

static int write_answer(struct writer *w, struct trace *trace, bulla_error *error)
{
    struct dispute_case *c = w->c;
    struct buffer *out = &w->answers;
    const struct step_answer *answer = &c->answer;
    const void *part;
    size_t length;
    uint8_t proof[64][MERKLE_HASH], root[MERKLE_HASH];
    unsigned proof_length;
    int code = trace_model_part(c->tree, &part, &length, proof, &proof_length, error);
    if (code)
        return code;
    trace_root(trace, root);
    separate(out);
    buffer_append_text(out, "{");
    member_base64(out, "model_root", bulla_model_root(c->model), MERKLE_HASH);
    buffer_append_text(out, ",");
    member_base64(out, "part", part, length);
    buffer_append_text(out, ",");
    member_base64(out, "proof", proof, (size_t)proof_length * MERKLE_HASH);
    buffer_append_format(out, ",\"prompt\":%u,\"tokens\":[", answer->prompt_count);
    for (uint32_t i = 0; i < answer->token_count; i++)
        buffer_append_format(out, "%s%u", i ? "," : "", answer->tokens[i]);
    buffer_append_text(out, "],");
    write_sampling(out, answer->sampling);
    if (answer->has_range)
        buffer_append_format(out, ",\"range\":[%u,%u]", answer->range_position, answer->range_operation);
    if (answer->allowed) {
        buffer_append_text(out, ",");
        member_base64(out, "allowed", answer->allowed, (size_t)(answer->token_count - answer->prompt_count) * MERKLE_HASH);
    }
    buffer_append_text(out, ",");
    member_base64(out, "trace_root", root, MERKLE_HASH);
    buffer_append_text(out, "}");
    w->answer_count++;
    w->group = UINT32_MAX;
    return BULLA_OK;
}

static void write_cell(struct writer *w, const struct dispute *d)
{
    const struct step_cell *cell = &d->claim.cell;
    if (w->group == cell->group && w->position == cell->position && !cell->is_range)
        return;
    w->group = cell->is_range ? UINT32_MAX : cell->group;
    w->position = cell->position;
    struct buffer *out = &w->cells;
    separate(out);
    buffer_append_format(out, "{\"answer\":%u,\"group\":%u,\"position\":%llu,", w->answer_count - 1, cell->group,
                         (unsigned long long)cell->position);
    member_base64(out, "leaf", d->leaf, MERKLE_HASH);
    buffer_append_text(out, ",");
    member_base64(out, "arrays", cell->message, cell->length);
    if (cell->is_range)
        buffer_append_format(out, ",\"range\":[%u,%llu]", cell->range_array, (unsigned long long)cell->range_index);
    buffer_append_text(out, "}");
    w->cell_count++;
}

static void write_step(struct writer *w, const struct dispute *d, size_t length)
{
    struct dispute_case *c = w->c;
    enum step_verdict verdict = step_verify(&c->referee, &c->answer, c->stream, &d->claim, d->opening, length);
    separate(&w->steps);
    buffer_append_format(&w->steps, "{\"cell\":%u,\"operation\":%u,\"array\":%u,\"index\":%llu,\"value\":%lld,",
                         w->cell_count - 1, d->claim.operation, d->claim.array, (unsigned long long)d->claim.index,
                         (long long)d->claim.value);
    member_base64(&w->steps, "opening", d->opening, length);
    buffer_append_format(&w->steps, ",\"verdict\":\"%s\"}", step_verdict_text(verdict));
}

/* One element of an array; now and then with something wrong besides. */
static int write_element(struct writer *w, struct trace *trace, uint32_t operation, uint32_t array, uint64_t position,
                         uint64_t index, int change, bulla_error *error)
{
    struct dispute d = {.c = w->c, .proposer = trace, .operation = operation, .array = array, .position = position,
                        .index = index};
    int code = dispute_play(&d, error);
    if (code)
        return code;
    write_cell(w, &d);
    write_step(w, &d, d.opening_length);
    size_t length = d.opening_length;
    if (change == 1)
        d.claim.value += 1;
    else if (change == 2 && length)
        d.opening[below(w, length)] ^= 1;
    else if (change == 3 && length)
        length--;
    else
        return BULLA_OK;
    write_step(w, &d, length);
    return BULLA_OK;
}

/* A step of each array of each kind of operation at one position. */
static int write_kinds(struct writer *w, struct trace *trace, uint64_t position, int many, bulla_error *error)
{
    struct dispute_case *c = w->c;
    uint64_t seen = 0;
    int code = BULLA_OK;
    for (uint32_t o = 0; o <= c->referee.program.operation_count && code == BULLA_OK; o++) {
        int is_sampling = o == c->referee.program.operation_count, kind = is_sampling ? 0 : c->referee.program.operations[o].kind;
        if (!step_is_evaluated(&c->referee, &c->answer, o, position) || (seen >> kind & 1))
            continue;
        seen |= UINT64_C(1) << kind;
        if (!many && kind != BULLA_ATTEND && !is_sampling && below(w, 3))
            continue;
        for (uint32_t a = 0; a < step_array_count(&c->referee, o) && code == BULLA_OK; a++) {
            struct step_array shape = step_array_shape(&c->referee, &c->answer, o, position, a);
            if (shape.count && !shape.is_witness)
                code = write_element(w, trace, o, a, position, many ? shape.count - 1 : below(w, shape.count),
                                     (int)below(w, 9), error);
        }
    }
    return code;
}

/* The same answer with another last token, or, where it ended by RANGE, with a token behind it. */
static int write_lie(struct writer *w, uint32_t operation, uint32_t array, uint64_t position, uint64_t index,
                     bulla_error *error)
{
    struct dispute_case *c = w->c;
    struct trace *trace;
    if (c->answer.has_range)
        c->tokens[c->answer.token_count++] = 1;
    else
        c->tokens[c->answer.token_count - 1] ^= 1;
    c->answer.has_range = 0;
    int code = dispute_case_trace(c, NULL, &trace, error);
    code = code ? code : write_answer(w, trace, error);
    code = code ? code : write_element(w, trace, operation, array, position, index, 0, error);
    trace_close(trace);
    return code;
}

/* The step of an answer that ended by RANGE, and the same of the element before it. */
static int write_range(struct writer *w, struct trace *trace, bulla_error *error)
{
    struct dispute d = {.c = w->c, .proposer = trace, .wants_range = 1};
    w->ranges++;
    int code = dispute_play(&d, error); /* for the arrays */
    if (code)
        return code;
    d.array = d.claim.cell.range_array;
    d.index = d.claim.cell.range_index;
    code = dispute_play(&d, error);
    if (code)
        return code;
    write_cell(w, &d);
    write_step(w, &d, d.opening_length);
    d.opening[below(w, d.opening_length)] ^= 8;
    write_step(w, &d, d.opening_length);
    if (w->ranges == 1)
        code = write_lie(w, d.operation, d.array, d.position, d.index, error);
    return code;
}

static int write_case(struct writer *w, int family, int strain, uint64_t seed, uint32_t prompt, uint32_t drawn,
                      const bulla_sampling *sampling, int grammar, bulla_error *error)
{
    struct dispute_case c = {0};
    struct trace *trace = NULL;
    bulla_model *model;
    w->c = &c;
    int code = answer_model_open(seed, family, strain, 0, "", &model, error);
    if (code)
        return code;
    code = dispute_case_open(&c, model, seed, prompt, drawn, sampling, grammar, error);
    if (code == BULLA_OK && strain && !c.answer.has_range)
        code = bulla_fail(error, BULLA_E_INTERNAL, "seed %llu raises no RANGE", (unsigned long long)seed);
    code = code ? code : dispute_case_trace(&c, NULL, &trace, error);
    code = code ? code : write_answer(w, trace, error);
    if (code == BULLA_OK && c.answer.has_range)
        code = write_range(w, trace, error);
    else if (code == BULLA_OK) {
        code = write_kinds(w, trace, step_answer_positions(&c.answer) - 1, 1, error);
        code = code ? code : write_kinds(w, trace, prompt - 1, 0, error);
        uint32_t sampling_operation = c.referee.program.operation_count;
        if (code == BULLA_OK && !grammar)
            code = write_lie(w, sampling_operation, step_array_count(&c.referee, sampling_operation) - 1,
                             step_answer_positions(&c.answer) - 1, 0, error);
    }
    trace_close(trace);
    dispute_case_close(&c);
    return code;
}

/* An answer that is cut off by a RANGE that is none, in `operation`: what a proposer may name, as far as it needs no opening. */
static int write_named(struct writer *w, uint32_t operation, const uint64_t (*named)[2], size_t count, bulla_error *error)
{
    struct dispute_case *c = w->c;
    struct dispute d = {.c = c, .wants_range = 1};
    dispute_case_cut(c, operation);
    int code = dispute_case_trace(c, NULL, &d.proposer, error);
    code = code ? code : write_answer(w, d.proposer, error);
    code = code ? code : dispute_play(&d, error); /* for the arrays */
    for (size_t i = 0; i < count && code == BULLA_OK; i++) {
        d.claim.operation = operation;
        d.claim.array = d.claim.cell.range_array = (uint32_t)named[i][0];
        d.claim.index = d.claim.cell.range_index = named[i][1];
        d.claim.value = 0;
        write_cell(w, &d);
        write_step(w, &d, 0);
    }
    trace_close(d.proposer);
    return code;
}

/* A witness weight that no weight can be. */
static int write_witness(struct writer *w, bulla_error *error)
{
    struct dispute_case *c = w->c;
    struct trace *trace;
    enum { CUT2 = 10, CHECK2 = 13 };
    struct dispute_value lie = {.operation = c->referee.program.operation_count, .array = CUT2,
                                .position = step_answer_positions(&c->answer) - 1, .value = 1 << 24};
    dispute_value_hook(&lie);
    int code = dispute_case_trace(c, &lie.hook, &trace, error);
    code = code ? code : write_answer(w, trace, error);
    code = code ? code : write_element(w, trace, lie.operation, CHECK2, lie.position, 0, 0, error);
    trace_close(trace);
    return code;
}

static int write_lies(struct writer *w, const bulla_sampling *sampling, bulla_error *error)
{
    static const uint64_t in_sampling[][2] = {{4, 0}, {15, 0}, {15, 1}, {16, 0}, {UINT32_MAX, 0}};
    static const uint64_t in_quantise[][2] = {{0, 1}, {1, 0}, {5, 64}, {7, 0}, {UINT32_MAX, 0}};
    struct dispute_case c = {0};
    bulla_model *model;
    uint32_t operation = 0;
    w->c = &c;
    int code = answer_model_open(5, RANDOM_UNGATED, 0, 0, "", &model, error);
    if (code)
        return code;
    code = dispute_case_open(&c, model, 5, 6, 2, sampling, 0, error);
    while (code == BULLA_OK && c.referee.program.operations[operation].kind != BULLA_NORM_QUANT)
        operation++;
    code = code ? code : write_witness(w, error);
    code = code ? code : write_named(w, c.referee.program.operation_count, in_sampling, 5, error);
    code = code ? code : write_named(w, operation, in_quantise, 5, error);
    dispute_case_close(&c);
    return code;
}

static int write_cases(struct writer *w, bulla_error *error)
{
    static const bulla_logit_bias biases[] = {{5, 400000}, {7, -90000000}};
    bulla_sampling greedy, all, cut;
    bulla_sampling_defaults(&greedy);
    bulla_sampling_defaults(&all);
    bulla_sampling_defaults(&cut);
    all.temperature = 1000000;
    all.seed = 11;
    cut.temperature = 5000000;
    cut.seed = 12;
    cut.top_k = 30;
    cut.top_p = 900000;
    cut.min_p = 10000;
    cut.repetition = 1200000;
    cut.presence = 100000;
    cut.frequency = -50000;
    cut.biases = biases;
    cut.bias_count = 2;
    int code = write_case(w, RANDOM_GEMMA2, 0, 1, 80, 3, &cut, 0, error);
    code = code ? code : write_case(w, RANDOM_GEMMA3, 0, 2, 70, 3, &all, 1, error);
    code = code ? code : write_case(w, RANDOM_UNGATED, 0, 3, 20, 3, &greedy, 0, error);
    code = code ? code : write_case(w, RANDOM_ODD, 0, 4, 70, 2, &cut, 1, error);
    for (uint64_t seed = 0; seed < 40 && w->ranges < 5 && code == BULLA_OK; seed++) { /* those that do */
        code = write_case(w, RANDOM_LLAMA, 1, seed, 12, 12, &greedy, 0, error);
        if (code == BULLA_E_INTERNAL) {
            bulla_error_clear(error);
            code = BULLA_OK;
        }
    }
    return code ? code : write_lies(w, &cut, error);
}

/* tool_trace faults: a real model. */
struct figures {
    double open_seconds, play_seconds, verify_seconds;
    size_t bytes, largest, opening;
    unsigned rounds, faults, without_effect, lost;
};

static double largest_of(double a, double b)
{
    return a > b ? a : b;
}

/* The honest challenger against a liar, or (fault NULL) a challenger who is wrong against an honest proposer. */
static int play(struct dispute_case *c, struct dispute *d, struct figures *f, bulla_error *error)
{
    double start = clock_seconds();
    int code = dispute_play(d, error);
    f->play_seconds = largest_of(f->play_seconds, clock_seconds() - start);
    if (code || !d->found)
        return code;
    f->bytes = d->bytes > f->bytes ? d->bytes : f->bytes;
    f->largest = d->largest > f->largest ? d->largest : f->largest;
    f->opening = d->opening_length > f->opening ? d->opening_length : f->opening;
    f->rounds = d->rounds > f->rounds ? d->rounds : f->rounds;
    start = clock_seconds();
    step_check_arrays(&c->referee, &c->answer, c->stream, &d->claim.cell, d->leaf);
    step_verify(&c->referee, &c->answer, c->stream, &d->claim, d->opening, d->opening_length);
    f->verify_seconds = largest_of(f->verify_seconds, clock_seconds() - start);
    return BULLA_OK;
}

/* A random element of a random evaluated cell's array. */
static void choose(struct writer *w, struct dispute_fault *fault, int number)
{
    struct dispute_case *c = w->c;
    uint32_t operations = c->referee.program.operation_count;
    struct step_array shape = {0};
    while (shape.count == 0 || shape.is_witness) {
        fault->operation = (uint32_t)below(w, operations);
        if (number < 2 * BULLA_OPERATION_KINDS) /* each kind first */
            for (uint32_t tries = 0; tries < operations && c->referee.program.operations[fault->operation].kind != number % BULLA_OPERATION_KINDS; tries++)
                fault->operation = (fault->operation + 1) % operations;
        fault->position = below(w, step_answer_positions(&c->answer));
        if (!step_is_evaluated(&c->referee, &c->answer, fault->operation, fault->position))
            continue;
        fault->array = (uint32_t)below(w, step_array_count(&c->referee, fault->operation));
        shape = step_array_shape(&c->referee, &c->answer, fault->operation, fault->position, fault->array);
    }
    fault->index = below(w, shape.count);
    fault->bit = (int)below(w, 8u * shape.width);
}

static int try_fault(struct writer *w, struct trace *honest, int number, struct figures *f, bulla_error *error)
{
    struct dispute_case *c = w->c;
    struct dispute_fault fault;
    struct trace *liar;
    uint8_t own[MERKLE_HASH], theirs[MERKLE_HASH];
    choose(w, &fault, number);
    dispute_fault_hook(&fault);
    int code = dispute_case_trace(c, &fault.hook, &liar, error);
    if (code)
        return code;
    struct dispute d = {.c = c, .proposer = liar, .challenger = honest};
    code = play(c, &d, f, error);
    f->faults++;
    trace_root(honest, own);
    trace_root(liar, theirs);
    if (code == BULLA_OK && !d.found && memcmp(own, theirs, MERKLE_HASH) == 0)
        f->without_effect++;
    else if (code == BULLA_OK && (!d.found || d.proposer_won))
        code = bulla_fail(error, BULLA_E_INTERNAL, "a fault in operation %u, position %llu, array %u, element %llu, bit %d: the liar won",
                          fault.operation, (unsigned long long)fault.position, fault.array, (unsigned long long)fault.index,
                          fault.bit);
    trace_close(liar);
    if (code)
        return code;
    /* Whoever disputes the same element of the honest trace loses. */
    d = (struct dispute){.c = c, .proposer = honest, .operation = fault.operation, .array = fault.array,
                         .position = fault.position, .index = fault.index};
    code = play(c, &d, f, error);
    if (code == BULLA_OK && !d.proposer_won)
        code = bulla_fail(error, BULLA_E_INTERNAL, "operation %u, position %llu, array %u, element %llu: the honest proposer lost: %s",
                          d.operation, (unsigned long long)d.position, d.array, (unsigned long long)d.index,
                          step_verdict_text(d.verdict));
    return code;
}

/* Steps of sampling: the honest ones hold. */
static int try_sampling(struct writer *w, struct trace *honest, struct figures *f, bulla_error *error)
{
    struct dispute_case *c = w->c;
    uint32_t operation = c->referee.program.operation_count;
    uint64_t position = step_answer_positions(&c->answer) - 1;
    int code = BULLA_OK;
    for (uint32_t a = 0; a < step_array_count(&c->referee, operation) && code == BULLA_OK; a++) {
        struct step_array shape = step_array_shape(&c->referee, &c->answer, operation, position, a);
        if (shape.count == 0 || shape.is_witness)
            continue;
        struct dispute d = {.c = c, .proposer = honest, .operation = operation, .array = a, .position = position,
                            .index = below(w, shape.count)};
        code = play(c, &d, f, error);
        if (code == BULLA_OK && !d.proposer_won)
            code = bulla_fail(error, BULLA_E_INTERNAL, "sampling, array %s: the honest proposer lost: %s", step_array_name(0, a),
                              step_verdict_text(d.verdict));
    }
    return code;
}

static int run_faults(const char *path, uint32_t prompt, uint32_t drawn, int faults, uint64_t seed, bulla_error *error)
{
    struct dispute_case c = {0};
    struct writer w = {.state = seed, .c = &c};
    struct figures f = {0};
    struct trace *honest = NULL;
    bulla_model *model;
    bulla_sampling sampling;
    bulla_sampling_defaults(&sampling);
    sampling.temperature = 800000;
    sampling.top_p = 950000;
    sampling.top_k = 50;
    sampling.repetition = 1100000;
    sampling.seed = seed;
    int code = bulla_model_open(path, 2, &model, error);
    if (code)
        return code;
    code = dispute_case_open(&c, model, seed, prompt, drawn, &sampling, 0, error);
    double start = clock_seconds();
    code = code ? code : dispute_case_trace(&c, NULL, &honest, error);
    f.open_seconds = clock_seconds() - start;
    if (code == BULLA_OK && trace_cells(honest)->first_bad != UINT64_MAX)
        code = bulla_fail(error, BULLA_E_INTERNAL, "the honest trace has a cell that cannot be right");
    code = code ? code : try_sampling(&w, honest, &f, error);
    for (int i = 0; i < faults && code == BULLA_OK; i++)
        code = try_fault(&w, honest, i, &f, error);
    if (code == BULLA_OK)
        printf("{\"positions\":%u,\"cells\":%llu,\"faults\":%u,\"without_effect\":%u,\"rounds\":%u,\"bytes\":%zu,"
               "\"largest\":%zu,\"opening\":%zu,\"trace_ms\":%.1f,\"dispute_ms\":%.1f,\"referee_ms\":%.2f}\n",
               step_answer_positions(&c.answer), (unsigned long long)step_cells(&c.referee, &c.answer), f.faults,
               f.without_effect, f.rounds, f.bytes, f.largest, f.opening, 1e3 * f.open_seconds, 1e3 * f.play_seconds,
               1e3 * f.verify_seconds);
    trace_close(honest);
    dispute_case_close(&c);
    return code;
}

static int print_steps(bulla_error *error)
{
    struct writer w = {.state = 1};
    int code = write_cases(&w, error);
    if (code == BULLA_OK)
        printf("{\"answers\":[%s\n],\n\"cells\":[%s\n],\n\"steps\":[%s\n]}\n", (char *)w.answers.data,
               (char *)w.cells.data, (char *)w.steps.data);
    buffer_free(&w.answers);
    buffer_free(&w.cells);
    buffer_free(&w.steps);
    return code;
}

int main(int argc, char **argv)
{
    bulla_error error = {0};
    int code;
    if (argc == 2 && strcmp(argv[1], "steps") == 0)
        code = print_steps(&error);
    else if (argc == 7 && strcmp(argv[1], "faults") == 0)
        code = run_faults(argv[2], (uint32_t)atoi(argv[3]), (uint32_t)atoi(argv[4]), atoi(argv[5]), (uint64_t)atoi(argv[6]),
                          &error);
    else {
        fprintf(stderr, "usage: tool_trace steps | faults MODEL PROMPT DRAWN FAULTS SEED\n");
        return 2;
    }
    if (code)
        fprintf(stderr, "tool_trace: %s\n", error.text);
    return code != BULLA_OK;
}
