/* The step verifier: what a referee without the model runs to decide a dispute about an answer, as
 * docs/dispute-trace.md defines it. Nothing here uses floating point, reads files or sockets, or depends on more of the
 * model than its program part; every input is bounded. Nothing allocates, but step_program_part once a model, which checks
 * the program (bulla_program_check has a table of the tensors' names) after it was proved to be the model's. (SHA-256 is
 * libcrypto's, through a stream that the caller opens.)
 *
 *     step_program_part()     the model file's program part, against the model root: once a model
 *     step_program_open()     the groups and borders of its operations: once a model
 *     bisection_children()    each round's hashes against the node that was chosen before
 *     step_check_arrays()     the roots of a cell's arrays against the cell's leaf
 *     step_verify()           one element against what it follows from
 *
 * All integers in messages are little-endian. Where a function says that a message does not hold, its sender loses. */
#ifndef CHECK_STEP_H
#define CHECK_STEP_H

#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/merkle_range.h"
#include "bulla/error.h"
#include "bulla/program.h"
#include "bulla/sampler.h"

enum {
    STEP_BLOCK = 512,         /* bytes of an array's block */
    STEP_MESSAGE = 8192,      /* the most bytes of any message */
    STEP_MOST_ARRAYS = 250,   /* of a cell, so that their roots fit into a message */
    STEP_MOST_BORDER = 32,    /* roots of a group's border, */
    STEP_MOST_CONTEXT = 1 << 20, /* and positions, so that openings do; where no attend has more than FEW_HEADS kv heads: */
    STEP_MOST_CONTEXT_FEW = 1 << 22,
    STEP_FEW_HEADS = 16,
    STEP_CHUNK = 256,         /* elements that a fold takes at a time */
    STEP_LINEAR_CHUNK = 512,  /* the same of a linear operation */
    STEP_MOST_READ = 512,     /* elements that one read takes */
    STEP_WITNESSES = 4        /* scalars of a sampling cell at a temperature */
};

/* What follows from the program for each operation. */
struct step_operation {
    uint32_t group;
    uint16_t first_array; /* among the arrays of its group */
    uint8_t is_border;
};

/* A program as the referee has it: `program.data` may be NULL. */
struct step_program {
    bulla_program program;
    uint8_t model_root[MERKLE_HASH];
    uint64_t region_length;            /* bytes under the model root */
    struct step_operation *operations; /* [operation_count + 1]: the last is sampling */
    uint64_t *lowest;                  /* [operation_count + 1]: lowest position at which each is evaluated; UINT64_MAX: none */
    uint32_t groups;                   /* sampling's included */
};

/* The program part of a model file: `length` bytes from the region's start, 8-byte aligned, kept by the caller, with the
 * proof that they are the first leaves under the model root. Fills program.operations, tensors and sizes, model_root and
 * region_length. BULLA_E_INPUT where the proof does not hold or the program is none (model/program_part.h). */
int step_program_part(const void *part, size_t length, const uint8_t *proof, size_t proof_length,
                      const uint8_t model_root[MERKLE_HASH], struct hash_stream *stream, struct step_program *program,
                      bulla_error *error);
/* Fills `operations` and `lowest`, for which the caller has room ([operation_count + 1] each), and `groups`; `first` is the
 * position from which tokens are drawn. program->program has passed bulla_program_check. BULLA_E_UNSUPPORTED where it is
 * larger than the bounds above. */
int step_program_open(struct step_program *program, uint64_t first, struct step_operation *operations, uint64_t *lowest,
                      bulla_error *error);

/* The answer that the trace is of: receipt and request say all of this. */
struct step_answer {
    const uint32_t *tokens;           /* prompt, then drawn ones, an end token included; all below the vocabulary */
    uint32_t token_count;
    uint32_t prompt_count;            /* at least 1 */
    const bulla_sampling *sampling;   /* checked (bulla_sampling_check); the choice's seed */
    int has_range;                    /* ended by RANGE, at: */
    uint32_t range_position, range_operation; /* operation_count: in sampling */
    const uint8_t (*allowed)[MERKLE_HASH]; /* roots of a grammar's allowed sets, by position - first, one for each of
                                              first .. P - 1; NULL: all ids */
};
/* BULLA_E_INPUT where an answer cannot be one of this program, or the program was not opened (step_program_open) with
 * first = prompt_count - 1. */
int step_answer_check(const struct step_program *program, const struct step_answer *answer, bulla_error *error);
uint32_t step_answer_positions(const struct step_answer *answer); /* P */
uint64_t step_cells(const struct step_program *program, const struct step_answer *answer);
/* Whether this operation (operation_count: sampling) is evaluated at this position. */
int step_is_evaluated(const struct step_program *program, const struct step_answer *answer, uint32_t operation,
                      uint64_t position);
/* Operations [*begin, *end) of a group. */
void step_group(const struct step_program *program, uint32_t group, uint32_t *begin, uint32_t *end);

/* Bisection of a tree over `leaves` leaves: rounds, and what round i (from 0) reveals of node `node` of the round before
 * (0 in the first): *count hashes, the first of which is number *first of its level. Its level's nodes are subtrees of
 * 256^(rounds - 1 - i) leaves. `count` 0: no such node. */
unsigned bisection_rounds(uint64_t leaves);
void bisection_reveal(uint64_t leaves, unsigned round, uint64_t node, uint64_t *first, uint32_t *count);
/* 1 where these hashes give the node's. */
int bisection_children(struct hash_stream *stream, const uint8_t (*hashes)[MERKLE_HASH], uint32_t count,
                       const uint8_t node[MERKLE_HASH]);

/* Arrays of an operation (operation_count: sampling). */
struct step_array {
    uint64_t count;   /* elements; 0: the array is empty here */
    uint8_t width;    /* bytes of one: 1, 4, 8 */
    uint8_t is_result;
    uint8_t is_witness;
};
uint32_t step_array_count(const struct step_program *program, uint32_t operation);
/* `position` matters for attend alone. An array beyond the operation's is empty. */
struct step_array step_array_shape(const struct step_program *program, const struct step_answer *answer,
                                   uint32_t operation, uint64_t position, uint32_t array);
uint64_t step_array_blocks(const struct step_array *array);
const char *step_array_name(int kind, uint32_t array); /* of an operation kind; 0: sampling */

/* One cell's arrays message: the roots, and for sampling at a temperature the witness scalars. */
struct step_cell {
    uint32_t group;
    uint64_t position;
    const uint8_t *message;
    size_t length;
    /* The cell in which the answer says that RANGE was raised, asked for as such: the operation's arrays are there too, and
     * the proposer names the element with the message. Nothing behind it can be disputed. */
    int is_range;
    uint32_t range_array;
    uint64_t range_index;
};
size_t step_cell_length(const struct step_program *program, const struct step_answer *answer, uint32_t group);
/* A root in the message, NULL where there is none. */
const uint8_t *step_cell_root(const struct step_program *program, const struct step_cell *cell, uint32_t operation,
                              uint32_t array);
/* 1 where the message has its length, gives the cell's leaf, and empty arrays have the empty root. */
int step_check_arrays(const struct step_program *program, const struct step_answer *answer, struct hash_stream *stream,
                      const struct step_cell *cell, const uint8_t leaf[MERKLE_HASH]);
/* The leaf of a cell whose border's result roots, one after another, are `roots`. */
int step_cell_leaf(struct hash_stream *stream, const uint8_t *roots, size_t length, uint8_t leaf[MERKLE_HASH]);

enum step_verdict {
    STEP_HOLDS,        /* the element is what it follows to be */
    STEP_DIFFERS,      /* it follows to be another */
    STEP_RANGE,        /* its bound is left */
    STEP_FAILS,        /* a check fails */
    STEP_UNPROVED,     /* the opening is short, long, or does not lead to what was committed to */
    STEP_NO_OPERAND,   /* an operand is one that no honest trace has */
    STEP_NOT_A_STEP    /* there is no such element, or it is a witness: the challenger's fault */
};
const char *step_verdict_text(int verdict);

struct step_claim {
    uint8_t trace_root[MERKLE_HASH];
    struct step_cell cell; /* step_check_arrays passed */
    uint32_t operation, array;
    uint64_t index;
    int64_t value;         /* what the proposer's block has there */
};
/* The step of one element: anything but STEP_HOLDS and STEP_NOT_A_STEP and the proposer loses. Of the element that a range
 * cell names, `value` plays no part, and STEP_HOLDS says that it leaves its bound. */
enum step_verdict step_verify(const struct step_program *program, const struct step_answer *answer,
                              struct hash_stream *stream, const struct step_claim *claim, const uint8_t *opening,
                              size_t length);
/* 1 where `block` (whole, by its array's shape) leads, with its hash alone, to `hash`. */
int step_check_block(struct hash_stream *stream, const struct step_array *array, uint64_t block, const uint8_t *bytes,
                     size_t length, const uint8_t hash[MERKLE_HASH]);
/* An element out of a block's bytes. */
int64_t step_block_element(const struct step_array *array, const uint8_t *bytes, uint32_t element);

#endif
