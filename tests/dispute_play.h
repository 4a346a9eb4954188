/* A dispute about an answer from its first message to its last, without a network: proposer and challenger have a trace
 * each, the referee has the model's program part and what the messages say. */
#ifndef TESTS_DISPUTE_PLAY_H
#define TESTS_DISPUTE_PLAY_H

#include "bulla/model.h"
#include "check/trace.h"

/* A model, an answer of it and what both need. */
struct dispute_case {
    bulla_model *model;
    struct trace_model *tree;
    struct import_executor executor;
    struct step_answer answer;
    uint32_t tokens[1024];
    bulla_sampling sampling;
    bulla_logit_bias biases[2];
    uint64_t **allowed; /* NULL, or bits by position */
    uint32_t allowed_count;
    uint8_t (*allowed_roots)[MERKLE_HASH];
    /* The referee's. */
    struct step_program referee;
    struct step_operation *operations;
    uint64_t *lowest;
    struct hash_stream *stream;
    void *part;
};

/* Answers `prompt` random tokens with `drawn` more, by the reference run; stops at RANGE (answer.has_range). Takes the model, also on failure. */
int dispute_case_open(struct dispute_case *c, bulla_model *model, uint64_t seed, uint32_t prompt, uint32_t drawn,
                      const bulla_sampling *sampling, int grammar, bulla_error *error);
void dispute_case_close(struct dispute_case *c);
int dispute_case_trace(struct dispute_case *c, const struct trace_hook *hook, struct trace **trace, bulla_error *error);

/* One bit of one element. */
struct dispute_fault {
    uint32_t operation, array;
    uint64_t position, index;
    int bit;
    struct trace_hook hook; /* dispute_fault_hook() sets it */
};
void dispute_fault_hook(struct dispute_fault *fault);

/* One element of another value; without `in_run` the executor's run stays as it would be without. */
struct dispute_value {
    uint32_t operation, array;
    uint64_t position, index;
    int64_t value;
    int in_run;
    struct trace_hook hook; /* dispute_value_hook() sets it */
};
void dispute_value_hook(struct dispute_value *value);

/* The answer as if it had ended by RANGE where its last token is read, at this operation. */
void dispute_case_cut(struct dispute_case *c, uint32_t operation);

struct dispute {
    struct dispute_case *c;
    struct trace *proposer;
    struct trace *challenger; /* honest: goes where it differs. NULL: goes to the target */
    int wants_range;          /* the challenger asks for the range cell */
    uint32_t operation, array, group;
    uint64_t position, index; /* the target, or what was disputed */
    /* What came of it. */
    int asks_named;           /* the challenger asked at once for the opening of what the range cell names */
    int found;                /* the challenger found something to dispute */
    int proposer_won;
    enum step_verdict verdict;
    unsigned rounds;
    size_t bytes, largest, opening_length; /* messages' */
    struct step_claim claim;
    uint8_t leaf[MERKLE_HASH]; /* the cell's */
    uint8_t message[STEP_MESSAGE], opening[STEP_MESSAGE], block[STEP_BLOCK];
    size_t block_length;
};
/* BULLA_OK where the dispute could be played, whoever won. */
int dispute_play(struct dispute *d, bulla_error *error);

#endif
