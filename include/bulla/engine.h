/* The engine: runs a model's program fast, for many sequences at once, with the
 * same bits as the reference whatever the threads, the batch, the order of
 * pages, the chunking of the prompt or the instruction set.
 *
 * A sequence is a prompt and what was generated after it; its keys and values
 * lie in pages of 64 positions taken from one pool. A step takes a batch of
 * pieces (a run of new tokens of one sequence each): prompt chunks and single
 * decoded tokens side by side.
 */
#ifndef BULLA_ENGINE_H
#define BULLA_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#include "bulla/error.h"
#include "bulla/model.h"

typedef struct bulla_engine bulla_engine;
typedef struct bulla_sequence bulla_sequence;

enum { BULLA_PAGE_POSITIONS = 64, BULLA_PREFIX_SALT_BYTES = 32 };

typedef struct bulla_engine_options {
    unsigned threads;       /* 0: one a core */
    const char *isa;        /* NULL: the best here (or BULLA_ISA); "portable", "avx2", "neon", ... forces one */
    uint64_t pages;         /* KV pages in the pool; 0: enough for one sequence of the model's full context */
    uint32_t batch_rows;    /* most positions computed together, 0: 256 */
    int shuffle_pages;      /* tests: hand pages out in a scattered order */
    const uint8_t *prefix_salt; /* [BULLA_PREFIX_SALT_BYTES], secret and random, copied: what the prefix cache's keys
                                   start from. NULL: no prefix cache */
} bulla_engine_options;

/* `model` must outlive the engine. */
int bulla_engine_open(const bulla_model *model, const bulla_engine_options *options, bulla_engine **engine,
                      bulla_error *error);
void bulla_engine_close(bulla_engine *engine); /* all its sequences are gone with it */

const char *bulla_engine_isa(const bulla_engine *engine);     /* the kernels in use: "vnni", ... */
unsigned bulla_engine_threads(const bulla_engine *engine);
/* Pages that sequences can still take: also those that only the prefix cache holds. */
uint64_t bulla_engine_pages_free(const bulla_engine *engine);
uint64_t bulla_engine_pages_total(const bulla_engine *engine);

/* Instruction sets this processor can run, best first, NULL-terminated. */
const char *const *bulla_engine_isas(void);
/* Whether `isa` is built in and runs here; the reason why not into `reason` (may be NULL). */
int bulla_engine_isa_available(const char *isa, char *reason, size_t reason_size);

/* A new empty sequence. `first_sampled` is the position from which a token will
 * first be sampled (the last prompt token's position): values that can't reach
 * it are not evaluated, so cannot raise RANGE (docs/canonical.md). */
int bulla_sequence_open(bulla_engine *engine, uint64_t first_sampled, bulla_sequence **sequence, bulla_error *error);
/* The same for a prompt whose beginning may be in the prefix cache already: the
 * sequence starts with the full pages that it shares with earlier sequences of
 * this tenant, and its own full pages can be shared by later ones. Its length
 * says how many positions are there: a multiple of 64, at most first_sampled and
 * at most `count`; the first piece starts with ids[length]. No bit and no RANGE
 * depends on it. `tenant` NULL, or an engine without a prefix cache: a new empty
 * sequence that shares nothing. */
int bulla_sequence_open_prefix(bulla_engine *engine, uint64_t first_sampled, const char *tenant, const uint32_t *ids,
                               size_t count, bulla_sequence **sequence, bulla_error *error);
/* How many positions bulla_sequence_open_prefix would find now, where nothing but that is wanted: it counts as no
 * look-up. 0 where memory is short. */
uint64_t bulla_engine_prefix_find(bulla_engine *engine, uint64_t first_sampled, const char *tenant, const uint32_t *ids,
                                  size_t count);
/* A new empty sequence for hidden states: no position is sampled, so no logits can be asked for, and what
 * can't reach the hidden state of some position is not evaluated. BULLA_E_UNSUPPORTED where the program has none. */
int bulla_sequence_open_hidden(bulla_engine *engine, bulla_sequence **sequence, bulla_error *error);
/* Elements of a hidden state, the input of the last normalisation before the logits; 0: the program has none. */
uint32_t bulla_engine_hidden_size(const bulla_engine *engine);
void bulla_sequence_close(bulla_sequence *sequence); /* returns its pages; NULL is fine */
uint64_t bulla_sequence_length(const bulla_sequence *sequence); /* positions computed so far */
/* Forgets positions from `length` on (length <= current), and with them a RANGE
 * that was raised there. Speculation and edits of a conversation use it. Going on
 * within a page that another sequence shares by now takes one page more. */
void bulla_sequence_truncate(bulla_sequence *sequence, uint64_t length);

/* What the prefix cache did since the engine was opened. */
typedef struct bulla_prefix_counters {
    uint64_t positions_queried; /* of prompts that were looked up */
    uint64_t positions_reused;  /* of these, found */
    uint64_t hits, misses;      /* look-ups that found a page or more, and none */
    uint64_t evictions;         /* pages given up because a sequence needed one */
} bulla_prefix_counters;
void bulla_engine_prefix_counters(const bulla_engine *engine, bulla_prefix_counters *counters);

/* One piece of a step. */
typedef struct bulla_piece {
    bulla_sequence *sequence;
    const uint32_t *ids;   /* [count], each below the vocabulary */
    uint32_t count;
    uint32_t logits_from;  /* logits are wanted for ids[logits_from .. count): `count` for none. Only
                              positions >= first_sampled may be asked for. */
    int32_t *logits;       /* [count - logits_from][vocabulary]; caller's */
    int32_t *hidden;       /* [count][bulla_engine_hidden_size], caller's, or NULL: hidden states, in fixed point (with
                              the same number of fraction bits everywhere). Only of a sequence that was opened for
                              them, or of positions >= first_sampled. */
    int code;              /* result: BULLA_OK, BULLA_E_RANGE (error has position and operation), ... */
    uint64_t range_position; /* where RANGE was raised, the first in (position, operation) order */
    uint32_t range_operation;
} bulla_piece;

/* Runs the pieces together; each sequence at most once in a step. Any number of
 * ids: the engine cuts them into batches of batch_rows. Returns BULLA_OK when
 * every piece was handled (look at each piece's code); otherwise nothing
 * changed: no free page (BULLA_E_LIMIT), a context that is full (BULLA_E_LIMIT),
 * an id too large (BULLA_E_USAGE). After RANGE the logits of positions below
 * range_position are right, and the sequence can only be closed, or truncated to
 * range_position or less and then continued. */
int bulla_engine_step(bulla_engine *engine, bulla_piece *pieces, size_t count, bulla_error *error);

/* The same batch by batch, for those who want results as soon as they are there. bulla_engine_begin is the part that
 * can fail; `pieces` are the engine's until the step is over. Each bulla_engine_continue computes a batch and returns
 * how many pieces, from the first on, have their results; the step is over when all have. In between no other step
 * can be begun. The sequences of pieces with results can be used as ever; the others can only be closed, which leaves
 * out the rest of their pieces. */
int bulla_engine_begin(bulla_engine *engine, bulla_piece *pieces, size_t count, bulla_error *error);
size_t bulla_engine_continue(bulla_engine *engine);

#endif
