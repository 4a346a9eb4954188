/* Architectures: from a source's settings and tensors to a list of drafts, the
 * operations of the program with what import still has to work out (formats,
 * shifts, rounded weights). Adding an architecture is one file that fills a
 * `struct decoder` (model/decoder.h) or emits drafts itself, and one line in
 * architecture.c. */
#ifndef MODEL_ARCHITECTURE_H
#define MODEL_ARCHITECTURE_H

#include <stdint.h>

#include "base/arena.h"
#include "bulla/program.h"
#include "model/source.h"
#include "model/tables.h"

/* How the fraction bits of a result are chosen (docs/canonical.md, "Import"). */
enum draft_format {
    FORMAT_NONE,      /* not a vector, or as its input */
    FORMAT_RESIDUAL,  /* the residual stream's */
    FORMAT_GATE,      /* largest bound near 2^24 */
    FORMAT_HEAD,      /* q, k, v: largest bound near 2^20 */
    FORMAT_HEAD_NORM, /* q, k after their norm: 14 */
    FORMAT_BRANCH,    /* before a post-norm: largest seen near 2^24 */
    FORMAT_PRODUCT,   /* the gate's result: largest seen near 2^27 */
    FORMAT_LOGITS
};

/* Rows [first, first + count) of a source's matrix, one behind the other where
 * two are joined. */
struct draft_rows {
    const struct source_tensor *tensor; /* NULL: none */
    uint64_t first;
};

struct draft {
    bulla_operation operation; /* kind, layer, flags, inputs, n, outputs, heads, ... set; shifts and tensors not yet */
    char name[48];             /* "layer.3.q" */
    enum draft_format format;
    struct draft_rows weight;  /* embed, linear */
    struct draft_rows bias;    /* linear */
    const struct source_tensor *gain; /* norm, norm_quant */
    double gain_offset;        /* added to each gain (1 for Gemma's safetensors) */
    double eps;                /* norm, norm_quant */
    double factor;             /* embed: the embedding's; key_quant: score scale in nats; linear: 1 */
    /* linear: rows whose index modulo row_period lies below row_scaled are
     * multiplied by `factor` (an attention factor on partly rotated heads). */
    uint32_t row_period, row_scaled;
    /* linear: what import multiplies rows by, and columns of what reads them by its
     * inverse (import_balance); NULL for none. In the arena. */
    const double *row_scale, *column_scale;
    const double *next_row_scale, *next_column_scale; /* found in the measuring pass, for the next one */
    const uint64_t *turn;      /* rope: [rotary / 2], in the arena */
    enum tables_activation activation;
    double softcap;            /* attend, softcap: 0 for none */
};

/* What an architecture builds. */
struct draft_list {
    struct arena *arena;
    struct draft *drafts;
    uint32_t count, capacity;
    uint32_t vocabulary, context, layers;
    const char *family;  /* "llama", "gemma3", ... for the description */
    const char *fallback_template; /* chat template where the source ships none, or NULL */
};

struct architecture {
    const char *name;
    const char *const *gguf_names;  /* general.architecture, NULL-ended */
    const char *const *model_types; /* config.json's model_type, NULL-ended */
    int (*emit)(const struct source *source, uint64_t context, struct draft_list *list, bulla_error *error);
};

/* Emits the drafts of whatever `source` is; `context` 0 means the model's own. A model
 * that no architecture covers is BULLA_E_UNSUPPORTED, naming it and what is
 * supported. */
int architecture_emit(const struct source *source, uint64_t context, struct draft_list *list, bulla_error *error);

/* A new draft at the end of the list, zeroed but for unused inputs and tensors
 * (-1) and `layer`; NULL with the error recorded. Its index is its value. */
struct draft *draft_add(struct draft_list *list, int kind, uint32_t layer, bulla_error *error);

extern const struct architecture architecture_llama, architecture_qwen2, architecture_qwen3, architecture_gemma2,
    architecture_gemma3, architecture_phi3;

#endif
