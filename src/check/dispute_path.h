/* One dispute about one choice of an answer, from the proposer's claim to one step (docs/dispute.md, docs/dispute-trace.md,
 * "Bisection"): whose turn it is, what a message must be, and who has lost. The referee decides by it; the parties follow it
 * with the same messages, and so know what is asked of them. No clock, no files; memory is that of the arena at the start. */
#ifndef CHECK_DISPUTE_PATH_H
#define CHECK_DISPUTE_PATH_H

#include "check/dispute_message.h"
#include "check/step.h"

enum { DISPUTE_WHY = 200 };

/* What receipt and request say of one choice. */
struct dispute_facts {
    const struct step_program *program; /* without operations of step_program_open */
    const uint32_t *tokens;             /* the prompt's, then those that were answered, without an end token */
    uint32_t token_count, prompt_count;
    bulla_sampling sampling;
    const uint8_t (*allowed_roots)[MERKLE_HASH]; /* as in struct step_answer; NULL: no grammar */
    const uint64_t *const *allowed;              /* the sets themselves, for the parties; NULL where nobody asked */
    int expects_end, expects_range;     /* by its finish the answer ended with an end token, by RANGE */
    const uint32_t *ends;               /* end tokens */
    size_t end_count;
    enum dispute_about fault;           /* 0: text and tokens are what request and receipt give; else which part is not */
    char why[DISPUTE_WHY];              /* of the fault */
};

enum path_stage {
    PATH_CLAIM,   /* the proposer says the trace's root */
    PATH_NODE,    /* the challenger chooses a node */
    PATH_REVEAL,  /* the proposer says what it consists of */
    PATH_ARRAYS,  /* the proposer says the roots of the cell's arrays */
    PATH_ARRAY,   /* the challenger chooses one */
    PATH_BLOCK,   /* the proposer gives the block */
    PATH_ELEMENT, /* the challenger chooses an element */
    PATH_OPENING  /* the proposer opens its step */
};
enum path_result { PATH_GOES_ON, PATH_PROPOSER_LOSES, PATH_CHALLENGER_LOSES };

struct dispute_path {
    struct step_program program;
    struct step_answer answer;
    struct hash_stream *stream;
    const struct dispute_facts *given;
    uint32_t *tokens;          /* with room for the end token */
    enum path_stage stage;
    int is_array;              /* bisecting an array's blocks, not the cells */
    uint64_t leaves, node;     /* of the tree; the chosen node: of `round` rounds */
    unsigned round;
    uint8_t node_hash[MERKLE_HASH];
    uint8_t hashes[256][MERKLE_HASH]; /* as last revealed: `count` from number `first` on */
    uint64_t first;
    uint32_t count;
    struct step_claim claim;   /* claim.cell.message is `arrays` */
    int wants_range;
    uint8_t arrays[STEP_MESSAGE + 4];
    uint8_t bytes[STEP_MESSAGE + 4];  /* of the block, then of the opening */
    size_t length;
    unsigned rounds;           /* messages of the proposer after its claim */
    enum step_verdict verdict; /* of the last step */
    const char *why;           /* who lost: a sentence */
};

/* `given` and the arena must outlive it. BULLA_E_INPUT where there is nothing to dispute. */
int path_open(struct dispute_path *path, const struct dispute_facts *given, struct arena *arena, bulla_error *error);
void path_close(struct dispute_path *path);
int path_is_proposers(const struct dispute_path *path); /* whose turn it is */
/* Takes the message of the party whose turn it is. */
enum path_result path_take(struct dispute_path *path, enum dispute_kind kind, const struct json *body);

#endif
