/* What the files of the importer share. */
#ifndef MODEL_IMPORT_STATE_H
#define MODEL_IMPORT_STATE_H

#include "base/threads.h"
#include "bulla/chat_template.h"
#include "bulla/tokenizer.h"
#include "model/architecture.h"
#include "model/import.h"
#include "model/model_file.h"

/* One matrix on its way from the source to int8 rows (import_weights.c). */
struct weight_job {
    const struct source *source;
    const struct draft *draft;
    const double *rest;   /* [n]: folded into the columns; NULL where no norm comes before */
    const double *gain;   /* [n]: the norm's whole gains, for the bound; with `rest` */
    const double *factor; /* numeric_factor's result for this input, or NULL: round to nearest */
    uint32_t rows, columns, block;
    double bound_factor;  /* sqrt(n): bound = max of bound_factor * ||row * gain|| + |bias| */
    struct thread_team *team;
    int8_t *W;            /* [rows][columns], or NULL where `writer` takes them */
    struct model_writer *writer;
    double *scales;       /* [rows]: real value of one unit of W */
    double bound;         /* result */
    int (*tick)(void *context, uint64_t weights); /* progress; non-zero cancels */
    void *tick_context;
};

/* Fills W (and/or hands it to the writer), scales and bound. */
int weights_round(struct weight_job *job, bulla_error *error);

/* What a linear operation's row is multiplied by on its way. */
double weights_row_factor(const struct draft *draft, uint64_t row);

/* `count` elements of a vector, from `first`; every one finite. */
int weights_read_vector(const struct source *source, const struct source_tensor *tensor, uint64_t first, uint64_t count,
                        double *values, bulla_error *error);

/* The importer (import.c and import_formats.c). */
struct importing {
    const struct source *source;
    const struct import_options *options;
    const struct import_executor *executor;
    struct thread_team *team;
    struct arena arena;
    struct draft_list list;
    struct import_value *values; /* [drafts]; freed after their last use */
    uint32_t *last_use;          /* [drafts] */
    const void *tables[4];
    const int32_t *activation[2]; /* by enum tables_activation */
    int activation_used[2];
    int32_t activation_tensor[2];

    uint32_t *ids;               /* [positions] */
    uint64_t *sequence_starts;   /* [sequences + 1] */
    uint64_t positions, sequences;
    uint64_t text_positions;     /* the first of them: those whose moments count */

    int residual_F;
    double residual_max;         /* largest |x| of the residual stream seen, real */
    double embed_scale;          /* largest real value of one unit of an embedding's row */
    struct model_writer *writer; /* NULL in the measuring pass */
    int feedback;
    double *factor;              /* of the input of the linear operations in work */
    int32_t factor_input;        /* its value, or -1 */
    double *rest, *gain;         /* [n] of the last norm_quant */

    /* Tensors of the operation in work, in memory. */
    void *tensors[BULLA_TENSOR_ROLES];
    int32_t shared_turn[8], shared_softcap;
    const uint64_t *turns[8];

    uint64_t weights_total, weights_done;
    const char *stage;
    double stage_from, stage_to;
};

/* Fills ids, sequence_starts and the counts beside them with the built-in text and random ids.
 * Conversations go through `chat_template`; NULL where the model has none. */
int import_make_sequences(struct importing *importing, const bulla_tokenizer *tokenizer,
                          const bulla_chat_template *chat_template, bulla_error *error);
/* The parameters of draft `index`, its result over the calibration positions and
 * (with a writer) its tensors in the file. */
int import_draft(struct importing *importing, uint32_t index, bulla_error *error);
/* Whether 16-bit multipliers reach the embedding's elements at F fraction bits. */
int import_embed_fits(const struct importing *importing, int F);
/* importing->factor from the second moments of the quantised value `input` over the text, damped and factored. */
int import_make_factor(struct importing *importing, int32_t input, bulla_error *error);
/* What each channel of the norm_quant `index` should be multiplied by: wanted[n], up to a
 * common factor. */
int import_wanted_scales(const struct importing *importing, uint32_t index, const double *gain, double *wanted,
                         bulla_error *error);
/* After the measuring pass saw the product or attention `index`: scales for the rows
 * that make its channels and the columns that read them. */
int import_balance(struct importing *importing, uint32_t index, bulla_error *error);
int import_tick(void *importing, uint64_t weights); /* progress; non-zero cancels */
/* max |x| over a value's vector. */
uint32_t import_largest(const struct importing *importing, uint32_t index);

#endif
