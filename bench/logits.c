/* Logits of given tokens, as integers: what bench/accuracy.py and tests/python/test_families.py compare with float.
 *
 *     logits FILE [reference]
 *
 * Standard input: records of u32: n, n token ids, the first position wanted. Standard output: i32 F and u32
 * vocabulary, then for each record and each position from the wanted one on, vocabulary i32 with F fraction bits.
 * All little-endian. The engine computes them, or the reference. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "bulla/engine.h"
#include "bulla/model.h"
#include "exec/ref/run.h"

enum { ROWS_AT_ONCE = 64 };

struct state {
    bulla_model *model;
    const bulla_program *program;
    bulla_engine *engine; /* NULL: the reference */
    uint32_t *ids;        /* [context] */
    int32_t *logits;      /* [ROWS_AT_ONCE][vocabulary] */
};

struct record {
    uint32_t count, first;
};

static int put(const void *data, size_t size, size_t count, bulla_error *error)
{
    if (fwrite(data, size, count, stdout) != count)
        return bulla_fail(error, BULLA_E_IO, "standard output takes no more");
    return BULLA_OK;
}

/* 1 and a record, 0 at the end of the input, negative with the error recorded. */
static int next_record(struct state *state, struct record *record, bulla_error *error)
{
    size_t got = fread(&record->count, 1, sizeof record->count, stdin);
    if (got == 0 && feof(stdin))
        return 0;
    int bad = got != sizeof record->count;
    if (!bad && (record->count == 0 || record->count > state->program->context)) {
        bulla_fail(error, BULLA_E_INPUT, "standard input: a record of %u tokens, expected 1 to %u", record->count,
                   state->program->context);
        return -1;
    }
    bad = bad || fread(state->ids, sizeof *state->ids, record->count, stdin) != record->count ||
          fread(&record->first, sizeof record->first, 1, stdin) != 1;
    if (bad) {
        bulla_fail(error, BULLA_E_INPUT, "standard input ends in the middle of a record");
        return -1;
    }
    if (record->first >= record->count) {
        bulla_fail(error, BULLA_E_INPUT, "standard input: position %u is wanted of %u tokens", record->first,
                   record->count);
        return -1;
    }
    return 1;
}

/* Positions [from, from + rows) of the sequence; logits of all of them where `wanted`. */
static int engine_rows(struct state *state, bulla_sequence *sequence, uint32_t from, uint32_t rows, int wanted,
                       bulla_error *error)
{
    bulla_piece piece = {.sequence = sequence, .ids = state->ids + from, .count = rows,
                         .logits_from = wanted ? 0 : rows, .logits = wanted ? state->logits : NULL};
    int code = bulla_engine_step(state->engine, &piece, 1, error);
    if (code == BULLA_OK && piece.code != BULLA_OK)
        code = bulla_fail(error, piece.code, "RANGE at position %llu in operation %u",
                          (unsigned long long)piece.range_position, piece.range_operation);
    return code;
}

static int engine_record(struct state *state, const struct record *record, bulla_error *error)
{
    bulla_sequence *sequence;
    int code = bulla_sequence_open(state->engine, record->first, &sequence, error);
    if (code == BULLA_OK && record->first)
        code = engine_rows(state, sequence, 0, record->first, 0, error);
    for (uint32_t from = record->first; code == BULLA_OK && from < record->count; from += ROWS_AT_ONCE) {
        uint32_t rows = record->count - from < ROWS_AT_ONCE ? record->count - from : ROWS_AT_ONCE;
        code = engine_rows(state, sequence, from, rows, 1, error);
        if (code == BULLA_OK)
            code = put(state->logits, sizeof(int32_t), (size_t)rows * state->program->vocabulary, error);
    }
    bulla_sequence_close(sequence);
    return code;
}

static int reference_record(struct state *state, const struct record *record, bulla_error *error)
{
    struct reference_run *run;
    int code = reference_run_open(state->program, record->first, &run, error);
    if (code == BULLA_OK && record->first)
        code = reference_run_append(run, state->ids, record->first, NULL, error);
    for (uint32_t at = record->first; code == BULLA_OK && at < record->count; at++) {
        code = reference_run_append(run, state->ids + at, 1, state->logits, error);
        if (code == BULLA_OK)
            code = put(state->logits, sizeof(int32_t), state->program->vocabulary, error);
    }
    reference_run_close(run);
    return code;
}

static int all_records(struct state *state, bulla_error *error)
{
    uint32_t head[2] = {(uint32_t)state->program->logits_F, state->program->vocabulary};
    int code = put(head, sizeof head, 1, error);
    struct record record;
    int more = 0;
    while (code == BULLA_OK && (more = next_record(state, &record, error)) > 0)
        code = state->engine ? engine_record(state, &record, error) : reference_record(state, &record, error);
    if (code == BULLA_OK && more == 0 && fflush(stdout) != 0)
        code = bulla_fail(error, BULLA_E_IO, "standard output takes no more");
    return code != BULLA_OK ? code : more < 0 ? BULLA_E_INPUT : BULLA_OK;
}

static int run(const char *path, int reference, struct state *state, bulla_error *error)
{
    int code = bulla_model_open(path, 0, &state->model, error);
    if (code != BULLA_OK)
        return code;
    state->program = bulla_model_program(state->model);
    bulla_engine_options options = {0};
    if (!reference && (code = bulla_engine_open(state->model, &options, &state->engine, error)) != BULLA_OK)
        return code;
    state->ids = memory_alloc(state->program->context, sizeof *state->ids, error);
    state->logits = memory_alloc((size_t)ROWS_AT_ONCE * state->program->vocabulary, sizeof *state->logits, error);
    return state->ids && state->logits ? all_records(state, error) : BULLA_E_MEMORY;
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 3 || (argc == 3 && strcmp(argv[2], "reference") != 0)) {
        fprintf(stderr, "usage: logits FILE [reference]\n");
        return 2;
    }
    struct state state = {0};
    bulla_error error = {0};
    int code = run(argv[1], argc == 3, &state, &error);
    if (code != BULLA_OK)
        fprintf(stderr, "logits: %s\n", error.text);
    memory_free(state.logits);
    memory_free(state.ids);
    bulla_engine_close(state.engine);
    bulla_model_close(state.model);
    return code == BULLA_OK ? 0 : 1;
}
