/* The engine against the reference run on a model file: the same logits, to the
 * bit, on every instruction set that runs here, 1 to 4 threads, batches of 1, 7,
 * 64 and 512 rows, alone and beside another sequence, pages in any order.
 *
 * usage: tool_engine MODEL [POSITIONS [SEED]]; exits 0 where all agree. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bulla/engine.h"
#include "bulla/model.h"
#include "exec/ref/run.h"

struct run {
    const bulla_program *program;
    uint32_t length, first_sampled;
    uint32_t *ids;
    int32_t *expected; /* [length - first_sampled][vocabulary] */
    int32_t *found;
};

static int fail(const bulla_error *error)
{
    fprintf(stderr, "tool_engine: %s\n", error->text);
    return 1;
}

/* The prompt in two pieces beside another sequence (where `beside`), then token by token. */
static int run_engine(const struct run *run, bulla_engine *engine, int beside, bulla_error *error)
{
    bulla_sequence *sequence = NULL, *other = NULL;
    uint32_t vocabulary = run->program->vocabulary;
    int code = bulla_sequence_open(engine, run->first_sampled, &sequence, error);
    if (code == BULLA_OK)
        code = bulla_sequence_open(engine, run->length, &other, error);
    uint32_t done = 0, prompt = run->first_sampled + 1;
    while (code == BULLA_OK && done < run->length) {
        uint32_t count = done == 0 ? prompt / 2 : done < prompt ? prompt - done : 1;
        uint32_t last = done + count, from = last <= run->first_sampled ? count : run->first_sampled > done ? run->first_sampled - done : 0;
        bulla_piece pieces[2] = {
            {.sequence = sequence, .ids = run->ids + done, .count = count, .logits_from = from,
             .logits = run->found + (size_t)(done + from - run->first_sampled) * vocabulary},
            {.sequence = other, .ids = run->ids + done, .count = (count + 1) / 2, .logits_from = (count + 1) / 2}};
        code = bulla_engine_step(engine, pieces, beside ? 2 : 1, error);
        if (code == BULLA_OK && pieces[0].code)
            code = bulla_fail(error, pieces[0].code, "RANGE at position %llu, operation %u",
                              (unsigned long long)pieces[0].range_position, pieces[0].range_operation);
        done += count;
    }
    bulla_sequence_close(sequence);
    bulla_sequence_close(other);
    return code;
}

static int check(const struct run *run, const bulla_model *model, const char *isa, unsigned threads, uint32_t batch,
                 bulla_error *error)
{
    size_t bytes = (size_t)(run->length - run->first_sampled) * run->program->vocabulary * sizeof(int32_t);
    bulla_engine_options options = {.threads = threads, .isa = isa, .batch_rows = batch, .shuffle_pages = (int)threads % 2,
                                    .pages = 2 * ((uint64_t)run->length / BULLA_PAGE_POSITIONS + 1)};
    bulla_engine *engine;
    int code = bulla_engine_open(model, &options, &engine, error);
    for (int beside = 0; beside < 2 && code == BULLA_OK; beside++) {
        memset(run->found, 0, bytes);
        code = run_engine(run, engine, beside, error);
        if (code == BULLA_OK && memcmp(run->found, run->expected, bytes) != 0)
            code = bulla_fail(error, BULLA_E_INTERNAL, "%s, %u threads, batches of %u, %s: other logits than the reference's",
                              isa, threads, batch, beside ? "beside another sequence" : "alone");
    }
    bulla_engine_close(engine);
    if (code == BULLA_OK)
        printf("%s, %u threads, batches of %u: the same bits\n", isa, threads, batch);
    return code;
}

int main(int count, char **arguments)
{
    static const uint32_t batches[] = {1, 7, 64, 512};
    bulla_error error = {0};
    bulla_model *model;
    if (count < 2)
        return fprintf(stderr, "usage: tool_engine MODEL [POSITIONS [SEED]]\n"), 2;
    if (bulla_model_open(arguments[1], 0, &model, &error))
        return fail(&error);
    const bulla_program *program = bulla_model_program(model);
    struct run run = {.program = program, .length = count > 2 ? (uint32_t)atoi(arguments[2]) : 100};
    run.first_sampled = run.length - run.length / 8 - 1;
    size_t logits = (size_t)(run.length - run.first_sampled) * program->vocabulary;
    run.ids = calloc(run.length, sizeof *run.ids);
    run.expected = calloc(logits, sizeof(int32_t));
    run.found = calloc(logits, sizeof(int32_t));
    srand(count > 3 ? (unsigned)atoi(arguments[3]) : 1);
    for (uint32_t i = 0; i < run.length; i++)
        run.ids[i] = (uint32_t)rand() % program->vocabulary;
    struct reference_run *reference;
    int code = reference_run_open(program, run.first_sampled, &reference, &error);
    if (code == BULLA_OK)
        code = reference_run_append(reference, run.ids, run.length, run.expected, &error);
    for (const char *const *isa = bulla_engine_isas(); *isa && code == BULLA_OK; isa++)
        for (unsigned i = 0; i < 4 && code == BULLA_OK; i++)
            code = check(&run, model, *isa, i + 1, batches[i], &error);
    reference_run_close(reference);
    bulla_model_close(model);
    free(run.ids);
    free(run.expected);
    free(run.found);
    return code ? fail(&error) : 0;
}
