/* A tokenizer as its source describes it, on the way to the compiled block. */
#ifndef MODEL_TOKENIZER_COMPILE_H
#define MODEL_TOKENIZER_COMPILE_H

#include "base/arena.h"
#include "base/buffer.h"
#include "model/name_table.h"
#include "model/tokenizer.h"

struct compile_token {
    const char *text; /* as the source spells it; NULL for an id that has no token */
    size_t text_length;
    const char *spelling; /* the bytes it stands for; set by compile_spellings */
    size_t length;
    double score; /* SentencePiece without merges */
    uint8_t kind; /* TOKEN_..., with TOKEN_END */
};

struct compile_merge {
    uint32_t left, right, rank, result;
};

struct compile_added {
    uint32_t id, flags;
    const char *spelling; /* what is searched for */
    size_t length;
};

struct compile {
    struct arena arena;
    uint32_t algorithm, split, flags;
    uint32_t start, end, unknown;
    uint32_t vocabulary; /* entries of `tokens` */
    struct compile_token *tokens;
    struct compile_merge *merges;
    size_t merge_count, merge_capacity;
    struct compile_added *added[2];
    uint32_t added_count[2], added_capacity[2];
};

/* Room for `vocabulary` tokens, all unused at first. */
int compile_start(struct compile *compile, uint32_t vocabulary, bulla_error *error);
void compile_free(struct compile *compile);

/* From `text` to the bytes a token stands for: GPT-2's byte alphabet undone for
 * normal tokens, or U+2581 to a space and <0xAB> to a byte. */
int compile_spellings(struct compile *compile, bulla_error *error);

int compile_add_merge(struct compile *compile, struct compile_merge merge, bulla_error *error);
/* Every pair of normal tokens whose spellings make a third merges to it, ranked by its score. */
int compile_merges_from_scores(struct compile *compile, bulla_error *error);
/* A token that text is searched for: as given, or (ADDED_NORMALIZED) after the normalization of `compile->flags`.
 * `spelling` must be in the arena or the source. */
int compile_add_added(struct compile *compile, uint32_t id, uint32_t flags, const char *spelling, size_t length,
                      bulla_error *error);

/* Marks the token as one that generation ends at. */
void compile_mark_end(struct compile *compile, int64_t id);
/* Marks control tokens with a spelling known to end a turn or a text. */
void compile_mark_known_ends(struct compile *compile);

/* Sorts and writes the block. */
int compile_write(struct compile *compile, struct buffer *block, bulla_error *error);

/* Stable sort; `compare` as in qsort. */
int compile_sort(uint32_t *items, size_t count, int (*compare)(const void *context, uint32_t a, uint32_t b),
                 const void *context, bulla_error *error);

#endif
