/* tool_court MODEL PROMPT DRAWN FAULTS SEED: whole disputes about a model file's run before the referee, by messages: each
 * time one bit of one element is wrong, in turns at the proposer's and at the challenger's. Each kind of operation comes at
 * the first, the last and middle places, then random ones. The honest side has to win. Who is wrong is a process of its own,
 * whose run is altered and which answers and commits accordingly: the same program with "liar" for FAULTS. Prints figures as
 * JSON. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "court_liar.h"

struct figures {
    size_t bytes, largest;
    unsigned faults, rounds, messages, without_effect;
    double referee_seconds, slowest_referee;
};

static uint64_t state;

static uint64_t below(uint64_t limit)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (state >> 33) % limit;
}

/* place 0: first, 1: last, 2: anywhere */
static uint64_t at(int place, uint64_t first, uint64_t count)
{
    return place == 0 ? first : place == 1 ? count - 1 : first + below(count - first);
}

static int is_of_kind(const struct dispute_case *c, uint32_t operation, int kind)
{
    return (int)c->referee.program.operations[operation].kind == kind || kind == 0;
}

/* Fault `number`: of the kinds that the program has, each three times first. */
static void choose(const struct dispute_case *c, struct dispute_fault *fault, int number)
{
    uint32_t operations = c->referee.program.operation_count;
    int place = number / BULLA_OPERATION_KINDS % 3, kind = number < 3 * BULLA_OPERATION_KINDS ? number % BULLA_OPERATION_KINDS : 0;
    uint64_t positions = step_answer_positions(&c->answer);
    struct step_array shape = {0};
    for (int tries = 0; shape.count == 0 || shape.is_witness; tries++) {
        uint32_t operation = (uint32_t)at(tries < 8 ? place : 2, 0, operations);
        for (uint32_t i = 0; i < operations && !is_of_kind(c, operation, kind); i++)
            operation = place == 1 ? (operation + operations - 1) % operations : (operation + 1) % operations;
        uint64_t lowest = c->referee.lowest[operation];
        *fault = (struct dispute_fault){.operation = operation, .position = lowest < positions ? at(place, lowest, positions) : 0};
        if (!step_is_evaluated(&c->referee, &c->answer, operation, fault->position))
            continue;
        fault->array = (uint32_t)below(step_array_count(&c->referee, operation));
        shape = step_array_shape(&c->referee, &c->answer, operation, fault->position, fault->array);
    }
    fault->index = at(place, 0, shape.count);
    fault->bit = (int)below(8u * shape.width);
}

static int try_fault(struct court *court, struct liar *liar, struct figures *f, int number, bulla_error *error)
{
    struct dispute_fault fault;
    struct trial trial = {0};
    struct trial_party party;
    const char *why;
    int is_honest = number / 2 % 2; /* the proposer */
    choose(court->c, &fault, number);
    int code = court_register(court, error);
    double before = court->seconds;
    code = code ? code : liar_join(liar, court, (uint64_t)number, is_honest, &fault, &party, error);
    code = code ? code : trial_open_with(&trial, court, (uint64_t)number, is_honest, &party, error);
    code = code ? code : trial_play(&trial, 0, error);
    if (code)
        return code;
    const char *status = trial_status(&trial, &why);
    int is_withdrawn = strcmp(why, "the challenger withdrew") == 0;
    if (strcmp(status, is_honest || is_withdrawn ? "proposer won" : "challenger won") != 0)
        code = bulla_fail(error, BULLA_E_INTERNAL, "a fault of the %s in operation %u, position %llu, array %u, element %llu, bit %d: %s, %s",
                          is_honest ? "challenger" : "proposer", fault.operation, (unsigned long long)fault.position, fault.array,
                          (unsigned long long)fault.index, fault.bit, status, why);
    f->faults++;
    f->without_effect += (unsigned)is_withdrawn;
    unsigned rounds = party_path(trial.parties[!is_honest])->rounds;
    double took = court->seconds - before;
    f->rounds = rounds > f->rounds ? rounds : f->rounds;
    f->messages = trial.count > f->messages ? trial.count : f->messages;
    f->bytes = trial.bytes > f->bytes ? trial.bytes : f->bytes;
    f->largest = trial.largest > f->largest ? trial.largest : f->largest;
    f->referee_seconds += took;
    f->slowest_referee = took > f->slowest_referee ? took : f->slowest_referee;
    trial_close(&trial);
    return code;
}

static int run(char **argv, bulla_error *error)
{
    struct dispute_case c = {0};
    struct court court = {0};
    struct liar liar = {0};
    struct figures f = {0};
    bulla_model *model;
    bulla_sampling sampling;
    int faults = atoi(argv[4]);
    bulla_sampling_defaults(&sampling);
    sampling.temperature = 800000;
    sampling.top_p = 950000;
    sampling.top_k = 50;
    sampling.repetition = 1100000;
    state = sampling.seed = (uint64_t)atoi(argv[5]);
    int code = bulla_model_open(argv[1], 2, &model, error);
    code = code ? code : dispute_case_open(&c, model, sampling.seed, (uint32_t)atoi(argv[2]), (uint32_t)atoi(argv[3]), &sampling, 0, error);
    if (code == BULLA_OK && strcmp(argv[4], "liar") == 0) {
        code = liar_serve(&c, error);
        dispute_case_close(&c);
        return code;
    }
    code = code ? code : court_open(&court, &c, error);
    char *const arguments[] = {argv[0], argv[1], argv[2], argv[3], (char[]){"liar"}, argv[5], NULL};
    code = code ? code : liar_start(&liar, "/proc/self/exe", arguments, error);
    for (int i = 0; i < faults && code == BULLA_OK; i++)
        code = try_fault(&court, &liar, &f, i, error);
    if (liar.process)
        code = code ? (liar_stop(&liar, NULL), code) : liar_stop(&liar, error);
    if (code == BULLA_OK)
        code = court_restart(&court, 0, error);
    if (code == BULLA_OK)
        printf("{\"positions\":%u,\"cells\":%llu,\"faults\":%u,\"without_effect\":%u,\"rounds\":%u,\"messages\":%u,\"bytes\":%zu,"
               "\"largest\":%zu,\"referee_ms\":%.2f,\"slowest_referee_ms\":%.2f}\n",
               step_answer_positions(&c.answer), (unsigned long long)step_cells(&c.referee, &c.answer), f.faults, f.without_effect,
               f.rounds, f.messages, f.bytes, f.largest, 1e3 * f.referee_seconds / f.faults, 1e3 * f.slowest_referee);
    court_close(&court);
    dispute_case_close(&c);
    return code;
}

int main(int argc, char **argv)
{
    bulla_error error = {0};
    if (argc != 6) {
        fprintf(stderr, "usage: tool_court MODEL PROMPT DRAWN FAULTS SEED\n");
        return 2;
    }
    if (run(argv, &error) == BULLA_OK)
        return 0;
    fprintf(stderr, "tool_court: %s\n", error.text);
    return 1;
}
