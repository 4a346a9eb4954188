/* The parties' side of a dispute: the trace of an answer's run, computed when it is asked for (docs/dispute-trace.md).
 *
 * trace_open runs the program over all of the answer's positions at once, operation after operation, and keeps the hashes
 * at the borders of cells. trace_expand runs it again up to one cell's group and computes every array of that cell. So a
 * party's work is two runs, whoever it is: the proposer reveals from its trace, the challenger compares with its own.
 *
 *     trace_open, trace_cells           both: the trace root, and the first differing cell round by round
 *     trace_expand, trace_arrays        both: the cell's arrays; the challenger under the proposer's witness scalars
 *     trace_array, trace_block          both: down to an element
 *     trace_opening                     the proposer: what check/step.h decides by
 *
 * One thread at a time uses a trace; it works with its executor's threads. */
#ifndef CHECK_TRACE_H
#define CHECK_TRACE_H

#include "check/step.h"
#include "model/import_executor.h"

/* A Merkle tree with all its nodes. */
struct merkle_levels {
    uint64_t count;     /* leaves */
    unsigned height;    /* levels above the leaves */
    uint8_t *hashes;    /* level after level */
    uint64_t start[65]; /* [level]: number of its first hash */
};

/* A model's tree of tensors: once a model. `program` is a model file's, whose tensors lie in one map
 * (bulla_model_program). */
struct trace_model {
    const bulla_program *program;
    const uint8_t *region;
    uint64_t region_length;
    struct merkle_levels leaves; /* its root is the model root */
};
int trace_model_open(const bulla_program *program, struct thread_team *team, struct trace_model **model,
                     bulla_error *error);
void trace_model_close(struct trace_model *model); /* NULL is fine */
/* The proof of the program part for step_program_part (at most 64 hashes); *part is the part itself. */
int trace_model_part(const struct trace_model *model, const void **part, size_t *length, uint8_t proof[64][MERKLE_HASH],
                     unsigned *proof_length, bulla_error *error);

/* Tests put faults into a run here. `element` gets each element of each array when a cell is expanded, and gives what is
 * used in its place; `altered` says whether some element of the operation's arrays is altered, at which position. */
struct trace_hook {
    void *context;
    int64_t (*element)(void *context, uint32_t operation, uint64_t position, uint32_t array, uint64_t index,
                       int64_t value);
    int (*altered)(void *context, uint32_t operation, uint64_t *position);
};

struct trace_options {
    const struct import_executor *executor;
    const uint64_t *const *allowed; /* bits of the ids that a grammar allows, by position - first; NULL: all */
    const struct trace_hook *hook;  /* NULL in earnest */
};

struct trace;
/* model, tokens, sampling, allowed sets and executor must outlive the trace. BULLA_E_INPUT for an answer that is none. */
int trace_open(const struct trace_model *model, const struct step_answer *answer, const struct trace_options *options,
               struct trace **trace, bulla_error *error);
void trace_close(struct trace *trace); /* NULL is fine */
const struct step_program *trace_program(const struct trace *trace);
void trace_root(const struct trace *trace, uint8_t root[MERKLE_HASH]);
/* 1 where the run leaves a bound, and where first in the order (position, operation); by the answer's evaluated pairs. */
int trace_range(const struct trace *trace, uint64_t *position, uint32_t *operation);

/* A tree that is bisected: over the cells, or over the blocks of an array. */
struct trace_tree {
    struct merkle_levels levels;
    uint64_t first_bad; /* the first leaf that no proposer can defend, by the own recomputation; UINT64_MAX: none */
};
const struct trace_tree *trace_cells(const struct trace *trace);
/* What round `round` reveals of `node`; hashes[256]. */
void trace_reveal(const struct trace_tree *tree, unsigned round, uint64_t node, uint8_t (*hashes)[MERKLE_HASH],
                  uint32_t *count);
/* The first node of the revealed level that differs from the other's hashes or cannot be right; -1: none. */
int64_t trace_difference(const struct trace_tree *tree, unsigned round, uint64_t node,
                         const uint8_t (*others)[MERKLE_HASH]);

/* Computes a cell's arrays. `witnesses`: the proposer's scalars of a sampling cell, NULL: the own. The cell in which the
 * answer says that RANGE was raised becomes the range cell with `is_range`. */
int trace_expand(struct trace *trace, uint32_t group, uint64_t position, const int64_t *witnesses, int is_range,
                 bulla_error *error);
/* The expanded cell's arrays message, with what a range cell names. */
const struct step_cell *trace_arrays(const struct trace *trace);
/* The first array that differs from the other's or cannot be right; 0: there is none. In a range cell, arrays behind the
 * named element's are passed over; where the element that differs in its own array is not before it, ask for the named
 * one's opening. */
int trace_arrays_difference(const struct trace *trace, const struct step_cell *other, uint32_t *operation,
                            uint32_t *array);
const struct trace_tree *trace_array(const struct trace *trace, uint32_t operation, uint32_t array);
/* A block's bytes in place. */
const uint8_t *trace_block(const struct trace *trace, uint32_t operation, uint32_t array, uint64_t block, size_t *length);
/* The first element of the array, out of this block, that differs from the other's block or cannot be right; -1: none. */
int64_t trace_block_difference(const struct trace *trace, uint32_t operation, uint32_t array, uint64_t block,
                               const uint8_t *other);
int64_t trace_element(const struct trace *trace, uint32_t operation, uint32_t array, uint64_t index);
/* The opening of an element's step, by this trace's own commitments. opening[STEP_MESSAGE]. BULLA_E_LIMIT where it would
 * be longer. */
int trace_opening(struct trace *trace, uint32_t operation, uint32_t array, uint64_t index, uint8_t *opening,
                  size_t *length, bulla_error *error);

/* The root of a grammar's allowed set. */
int trace_allowed_root(const uint64_t *allowed, uint32_t vocabulary, uint8_t root[MERKLE_HASH], bulla_error *error);

#endif
