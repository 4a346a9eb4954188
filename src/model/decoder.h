/* The decoder-only transformer that the supported families share: what differs
 * between them as fields, and the emission of its operations. */
#ifndef MODEL_DECODER_H
#define MODEL_DECODER_H

#include "model/architecture.h"

/* Rotary position embedding with its scaling (docs/architectures.md has the formulas). */
struct decoder_rope {
    double base;
    enum { ROPE_PLAIN, ROPE_LINEAR, ROPE_LLAMA3, ROPE_YARN, ROPE_FACTORS } scaling;
    double factor;            /* linear, llama3, yarn */
    double low, high;         /* llama3: low_freq_factor, high_freq_factor; yarn: beta_slow, beta_fast */
    double original_context;  /* llama3, yarn */
    int truncate;             /* yarn: correction range cut to whole dimensions */
    const double *factors;    /* ROPE_FACTORS: divisors, [rotary / 2] */
    double attention_factor;  /* multiplies cos and sin: yarn, longrope; 1 otherwise */
};

struct decoder {
    uint32_t hidden, layers, heads, kv_heads, head_size, rotary, inner, vocabulary, context;
    int half;                  /* rope pairs i with i + rotary/2 */
    double eps;
    double embedding_factor;
    double score_scale;        /* usually 1 / sqrt(head_size) */
    double score_softcap, logits_softcap; /* 0: none */
    double gain_offset;        /* of every norm */
    int head_norms;            /* q and k norms a head */
    int post_norms;            /* norms after attention and after the inner network */
    int fused_qkv, fused_gate_up;
    enum tables_activation activation;
    uint32_t window;           /* of windowed layers, 0: none */
    int (*is_windowed)(const struct decoder *decoder, uint32_t layer); /* NULL: all, where window is set */
    uint32_t window_pattern;   /* for is_windowed */
    const uint8_t *windowed;   /* [layers], where the source lists it; or NULL */
    struct decoder_rope rope;        /* of full layers */
    struct decoder_rope window_rope; /* of windowed layers */
    int separate_window_rope;
};

/* Settings that all families name alike, from either kind of source: sizes,
 * eps, rope base, and what scaling config.json's rope_scaling or GGUF's keys say. */
int decoder_read(const struct source *source, const char *gguf_prefix, uint64_t context, struct decoder *decoder,
                 struct arena *arena, bulla_error *error);

/* Emits all operations. */
int decoder_emit(const struct source *source, const struct decoder *decoder, struct draft_list *list,
                 bulla_error *error);

/* Settings under the name that the kind of source uses: GGUF `PREFIX.gguf`, or
 * config.json's `hugging` (also inside text_config). Results as source_get_*. */
int decoder_integer(const struct source *source, const char *prefix, const char *gguf, const char *hugging, int64_t low,
                    int64_t high, int64_t *value, bulla_error *error);
int decoder_real(const struct source *source, const char *prefix, const char *gguf, const char *hugging, double *value,
                 bulla_error *error);

/* turn[rotary / 2] of one rope, in the arena. */
int decoder_turns(const struct decoder_rope *rope, uint32_t rotary, struct arena *arena, const uint64_t **turn,
                  bulla_error *error);

#endif
