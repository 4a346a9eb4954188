/* The operations of a decoder-only transformer, in the order in which they are
 * applied to a position. */
#include "model/decoder.h"

#include <stdio.h>
#include <string.h>

/* Tensor names in GGUF and in safetensors; %u is the layer. */
enum part {
    PART_EMBEDDING, PART_ATTENTION_NORM, PART_Q, PART_K, PART_V, PART_QKV, PART_Q_NORM, PART_K_NORM, PART_O,
    PART_POST_ATTENTION_NORM, PART_INNER_NORM, PART_GATE, PART_UP, PART_GATE_UP, PART_DOWN, PART_POST_INNER_NORM,
    PART_OUTPUT_NORM, PART_HEAD
};

static const struct {
    const char *gguf, *hugging;
} part_names[] = {
    [PART_EMBEDDING] = {"token_embd", "embed_tokens"},
    [PART_ATTENTION_NORM] = {"blk.%u.attn_norm", "layers.%u.input_layernorm"},
    [PART_Q] = {"blk.%u.attn_q", "layers.%u.self_attn.q_proj"},
    [PART_K] = {"blk.%u.attn_k", "layers.%u.self_attn.k_proj"},
    [PART_V] = {"blk.%u.attn_v", "layers.%u.self_attn.v_proj"},
    [PART_QKV] = {"blk.%u.attn_qkv", "layers.%u.self_attn.qkv_proj"},
    [PART_Q_NORM] = {"blk.%u.attn_q_norm", "layers.%u.self_attn.q_norm"},
    [PART_K_NORM] = {"blk.%u.attn_k_norm", "layers.%u.self_attn.k_norm"},
    [PART_O] = {"blk.%u.attn_output", "layers.%u.self_attn.o_proj"},
    [PART_POST_ATTENTION_NORM] = {"blk.%u.post_attention_norm", "layers.%u.post_attention_layernorm"},
    /* Llama's name; Gemma calls it pre_feedforward_layernorm. */
    [PART_INNER_NORM] = {"blk.%u.ffn_norm", "layers.%u.post_attention_layernorm"},
    [PART_GATE] = {"blk.%u.ffn_gate", "layers.%u.mlp.gate_proj"},
    [PART_UP] = {"blk.%u.ffn_up", "layers.%u.mlp.up_proj"},
    [PART_GATE_UP] = {"blk.%u.ffn_up", "layers.%u.mlp.gate_up_proj"},
    [PART_DOWN] = {"blk.%u.ffn_down", "layers.%u.mlp.down_proj"},
    [PART_POST_INNER_NORM] = {"blk.%u.post_ffw_norm", "layers.%u.post_feedforward_layernorm"},
    [PART_OUTPUT_NORM] = {"output_norm", "norm"},
    [PART_HEAD] = {"output", "lm_head"},
};

struct emission {
    const struct source *source;
    const struct decoder *decoder;
    struct draft_list *list;
    bulla_error *error;
    uint32_t layer;
    int32_t residual; /* value of the residual stream */
};

/* A part's name in the current layer, without what may stand before it. */
static void spell_part(const struct emission *e, enum part part, char stem[96])
{
    const char *format = source_kind(e->source) == SOURCE_GGUF ? part_names[part].gguf : part_names[part].hugging;
    if (part == PART_INNER_NORM && e->decoder->post_norms && source_kind(e->source) != SOURCE_GGUF)
        format = "layers.%u.pre_feedforward_layernorm";
    const char *number = strstr(format, "%u");
    if (number)
        snprintf(stem, 96, "%.*s%u%s", (int)(number - format), format, e->layer, number + 2);
    else
        snprintf(stem, 96, "%s", format);
}

/* The tensor of a part, or NULL where there is none. Checkpoints of multimodal
 * models keep the language model under one of several prefixes. */
static const struct source_tensor *find(const struct emission *e, enum part part, const char *suffix)
{
    static const char *const prefixes[] = {"model.", "language_model.model.", "model.language_model.", "",
                                           "language_model."};
    char stem[96], name[160];
    spell_part(e, part, stem);
    if (source_kind(e->source) == SOURCE_GGUF) {
        snprintf(name, sizeof name, "%s.%s", stem, suffix);
        return source_tensor_find(e->source, name);
    }
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        snprintf(name, sizeof name, "%s%s.%s", prefixes[i], stem, suffix);
        const struct source_tensor *tensor = source_tensor_find(e->source, name);
        if (tensor)
            return tensor;
    }
    return NULL;
}

static const struct source_tensor *require(const struct emission *e, enum part part, const char *suffix, uint64_t rows,
                                           uint64_t columns)
{
    const struct source_tensor *tensor = find(e, part, suffix);
    if (!tensor) {
        char stem[96];
        spell_part(e, part, stem);
        bulla_fail(e->error, BULLA_E_INPUT, "%s: tensor %s.%s is missing", source_path(e->source), stem, suffix);
        return NULL;
    }
    if (tensor->rows != rows || tensor->columns != columns) {
        bulla_fail(e->error, BULLA_E_INPUT, "%s: tensor %s is [%llu, %llu], expected [%llu, %llu]", source_path(e->source),
                   tensor->name, (unsigned long long)tensor->rows, (unsigned long long)tensor->columns,
                   (unsigned long long)rows, (unsigned long long)columns);
        return NULL;
    }
    return tensor;
}

/* A draft of the current layer with its first input; NULL after an error. */
static struct draft *add(const struct emission *e, int kind, const char *name, int32_t input, uint32_t outputs,
                         enum draft_format format)
{
    if (e->error->code)
        return NULL;
    struct draft *draft = draft_add(e->list, kind, e->layer, e->error);
    if (!draft)
        return NULL;
    if (e->layer == BULLA_NO_LAYER)
        snprintf(draft->name, sizeof draft->name, "%s", name);
    else
        snprintf(draft->name, sizeof draft->name, "layer.%u.%s", e->layer, name);
    draft->operation.inputs[0] = input;
    draft->operation.n = input < 0 ? 0 : e->list->drafts[input].operation.outputs;
    draft->operation.outputs = outputs;
    draft->format = format;
    return draft;
}

static int32_t index_of(const struct emission *e, const struct draft *draft)
{
    return draft ? (int32_t)(draft - e->list->drafts) : -1;
}

static uint32_t hadamard_block(uint32_t n)
{
    uint32_t block = n & (0u - n);
    return block > 4096 ? 4096 : block;
}

static int32_t emit_norm_quant(const struct emission *e, const char *name, enum part part)
{
    uint32_t n = e->decoder->hidden;
    struct draft *draft = add(e, BULLA_NORM_QUANT, name, e->residual, n, FORMAT_NONE);
    if (!draft)
        return -1;
    draft->operation.block = hadamard_block(n);
    draft->gain = require(e, part, "weight", 1, n);
    draft->gain_offset = e->decoder->gain_offset;
    draft->eps = e->decoder->eps;
    return index_of(e, draft);
}

static int32_t emit_quant(const struct emission *e, const char *name, int32_t input)
{
    uint32_t n = input < 0 ? 1 : e->list->drafts[input].operation.outputs;
    struct draft *draft = add(e, BULLA_QUANT, name, input, n, FORMAT_NONE);
    if (draft)
        draft->operation.block = hadamard_block(n);
    return index_of(e, draft);
}

/* rows [first, first + outputs) of a part of `all` rows. */
static int32_t emit_linear(const struct emission *e, const char *name, int32_t input, enum part part, uint32_t outputs,
                           uint64_t first, uint64_t all, enum draft_format format)
{
    struct draft *draft = add(e, BULLA_LINEAR, name, input, outputs, format);
    if (!draft)
        return -1;
    draft->weight.tensor = require(e, part, "weight", all, draft->operation.n);
    draft->weight.first = first;
    if (find(e, part, "bias")) {
        draft->bias.tensor = require(e, part, "bias", 1, all);
        draft->bias.first = first;
    }
    return index_of(e, draft);
}

/* Cos and sin times the attention factor: with all dimensions turned the factor
 * squared joins the score scale; on partly turned heads it is folded into the
 * rows of q and k that turn, since rope is linear. */
static void scale_turned_rows(const struct emission *e, int32_t index, const struct decoder_rope *rope)
{
    const struct decoder *d = e->decoder;
    if (index < 0 || d->rotary == d->head_size || rope->attention_factor == 1)
        return;
    struct draft *draft = &e->list->drafts[index];
    draft->factor = rope->attention_factor;
    draft->row_period = d->head_size;
    draft->row_scaled = d->rotary;
}

static int32_t emit_heads(const struct emission *e, int kind, const char *name, int32_t input, uint32_t heads,
                          enum draft_format format)
{
    struct draft *draft = add(e, kind, name, input, heads * e->decoder->head_size, format);
    if (!draft)
        return -1;
    draft->operation.heads = heads;
    draft->operation.head_size = e->decoder->head_size;
    draft->operation.block = hadamard_block(e->decoder->head_size);
    return index_of(e, draft);
}

static int32_t emit_head_norm(const struct emission *e, const char *name, int32_t input, uint32_t heads, enum part part)
{
    int32_t index = emit_heads(e, BULLA_NORM, name, input, heads, FORMAT_HEAD_NORM);
    if (index < 0)
        return -1;
    struct draft *draft = &e->list->drafts[index];
    draft->operation.block = 0;
    draft->gain = require(e, part, "weight", 1, e->decoder->head_size);
    draft->gain_offset = e->decoder->gain_offset;
    draft->eps = e->decoder->eps;
    return index;
}

static int32_t emit_rope(const struct emission *e, const char *name, int32_t input, uint32_t heads,
                         const uint64_t *turn)
{
    int32_t index = emit_heads(e, BULLA_ROPE, name, input, heads, FORMAT_NONE);
    if (index < 0)
        return -1;
    struct draft *draft = &e->list->drafts[index];
    draft->operation.block = 0;
    draft->operation.rotary = e->decoder->rotary;
    draft->operation.flags = e->decoder->half ? BULLA_OPERATION_HALF : 0;
    draft->turn = turn;
    return index;
}

static int is_windowed(const struct decoder *d, uint32_t layer)
{
    if (!d->window)
        return 0;
    if (d->windowed)
        return d->windowed[layer];
    return d->is_windowed ? d->is_windowed(d, layer) : 1;
}

/* q, k, v and the attention over them; returns the value that goes into o. */
static int32_t emit_attention(const struct emission *e, int32_t input, const struct decoder_rope *rope,
                              const uint64_t *turn)
{
    const struct decoder *d = e->decoder;
    uint32_t queries = d->heads * d->head_size, keys = d->kv_heads * d->head_size;
    uint64_t all = (uint64_t)queries + 2 * keys;
    enum draft_format format = d->head_norms ? FORMAT_BRANCH : FORMAT_HEAD;
    int fused = d->fused_qkv;
    int32_t q = emit_linear(e, "q", input, fused ? PART_QKV : PART_Q, queries, 0, fused ? all : queries, format);
    int32_t k = emit_linear(e, "k", input, fused ? PART_QKV : PART_K, keys, fused ? queries : 0, fused ? all : keys, format);
    int32_t v = emit_linear(e, "v", input, fused ? PART_QKV : PART_V, keys, fused ? queries + keys : 0,
                            fused ? all : keys, FORMAT_HEAD);
    scale_turned_rows(e, q, rope);
    scale_turned_rows(e, k, rope);
    if (d->head_norms) {
        q = emit_head_norm(e, "q_norm", q, d->heads, PART_Q_NORM);
        k = emit_head_norm(e, "k_norm", k, d->kv_heads, PART_K_NORM);
    }
    q = emit_rope(e, "q_rope", q, d->heads, turn);
    k = emit_rope(e, "k_rope", k, d->kv_heads, turn);
    q = emit_heads(e, BULLA_HEAD_QUANT, "q_quant", q, d->heads, FORMAT_NONE);
    k = emit_heads(e, BULLA_KEY_QUANT, "k_quant", k, d->kv_heads, FORMAT_NONE);
    v = emit_heads(e, BULLA_VALUE_QUANT, "v_quant", v, d->kv_heads, FORMAT_NONE);
    int32_t o = emit_heads(e, BULLA_ATTEND, "attend", q, d->heads, FORMAT_NONE);
    if (o < 0)
        return -1;
    struct draft *drafts = e->list->drafts;
    int whole = d->rotary == d->head_size;
    drafts[k].factor = d->score_scale * (whole ? rope->attention_factor * rope->attention_factor : 1);
    drafts[v].operation.block = 0;
    drafts[o].operation.block = 0;
    drafts[o].operation.inputs[1] = k;
    drafts[o].operation.inputs[2] = v;
    drafts[o].operation.kv_heads = d->kv_heads;
    drafts[o].operation.window = is_windowed(d, e->layer) ? d->window : 0;
    drafts[o].softcap = d->score_softcap;
    return o;
}

static int32_t emit_inner(const struct emission *e, int32_t input)
{
    const struct decoder *d = e->decoder;
    int fused = d->fused_gate_up;
    uint64_t all = fused ? 2 * (uint64_t)d->inner : d->inner;
    int32_t g = emit_linear(e, "gate", input, fused ? PART_GATE_UP : PART_GATE, d->inner, 0, all, FORMAT_GATE);
    int32_t u = emit_linear(e, "up", input, fused ? PART_GATE_UP : PART_UP, d->inner, fused ? d->inner : 0, all, FORMAT_GATE);
    struct draft *draft = add(e, BULLA_GATE, "product", g, d->inner, FORMAT_PRODUCT);
    if (!draft)
        return -1;
    draft->operation.inputs[1] = u;
    draft->operation.flags = BULLA_OPERATION_GATED;
    draft->activation = d->activation;
    return index_of(e, draft);
}

/* A branch's last matrix, its post-norm where there is one, and the addition to
 * the residual stream. */
static void emit_join(struct emission *e, int32_t input, const char *name, enum part part, enum part norm)
{
    const struct decoder *d = e->decoder;
    char label[24];
    snprintf(label, sizeof label, "%s_in", name);
    int32_t y = emit_linear(e, name, emit_quant(e, label, input), part, d->hidden, 0, d->hidden,
                            d->post_norms ? FORMAT_BRANCH : FORMAT_RESIDUAL);
    if (d->post_norms) {
        snprintf(label, sizeof label, "%s_norm", name);
        struct draft *draft = add(e, BULLA_NORM, label, y, d->hidden, FORMAT_RESIDUAL);
        if (draft) {
            draft->operation.heads = 1;
            draft->operation.head_size = d->hidden;
            draft->gain = require(e, norm, "weight", 1, d->hidden);
            draft->gain_offset = d->gain_offset;
            draft->eps = d->eps;
        }
        y = index_of(e, draft);
    }
    snprintf(label, sizeof label, "%s_add", name);
    struct draft *sum = add(e, BULLA_ADD, label, e->residual, d->hidden, FORMAT_RESIDUAL);
    if (sum)
        sum->operation.inputs[1] = y;
    e->residual = index_of(e, sum);
}

static void emit_layer(struct emission *e, const struct decoder_rope *rope, const uint64_t *turn)
{
    int32_t input = emit_norm_quant(e, "attention_in", PART_ATTENTION_NORM);
    emit_join(e, emit_attention(e, input, rope, turn), "o", PART_O, PART_POST_ATTENTION_NORM);
    input = emit_norm_quant(e, "inner_in", PART_INNER_NORM);
    emit_join(e, emit_inner(e, input), "down", PART_DOWN, PART_POST_INNER_NORM);
}

static void emit_embedding(struct emission *e)
{
    const struct source_tensor *embedding = find(e, PART_EMBEDDING, "weight");
    if (!embedding || embedding->rows == 0 || embedding->rows > 1 << 24) {
        char stem[96];
        spell_part(e, PART_EMBEDDING, stem);
        bulla_fail(e->error, BULLA_E_INPUT, "%s: tensor %s.weight, the embedding, is missing or has no sensible number of rows",
                   source_path(e->source), stem);
        return;
    }
    e->list->vocabulary = (uint32_t)embedding->rows;
    struct draft *draft = add(e, BULLA_EMBED, "embed", -1, e->decoder->hidden, FORMAT_RESIDUAL);
    if (!draft)
        return;
    draft->weight.tensor = require(e, PART_EMBEDDING, "weight", embedding->rows, e->decoder->hidden);
    draft->factor = e->decoder->embedding_factor;
    e->residual = index_of(e, draft);
}

/* Whether the head is the embedding: as config.json says, else where there is no head. */
static enum part head_part(const struct emission *e)
{
    int tied = 0, found = 0, there = find(e, PART_HEAD, "weight") != NULL;
    if (source_kind(e->source) != SOURCE_GGUF) {
        found = source_get_bool(e->source, "tie_word_embeddings", &tied, e->error);
        if (found == 0)
            found = source_get_bool(e->source, "text_config.tie_word_embeddings", &tied, e->error);
    }
    if (found == 1 && !tied && !there)
        bulla_fail(e->error, BULLA_E_INPUT, "%s: tensor lm_head.weight is missing, and tie_word_embeddings is false",
                   source_path(e->source));
    return !there || (found == 1 && tied) ? PART_EMBEDDING : PART_HEAD;
}

static void emit_logits(struct emission *e)
{
    const struct decoder *d = e->decoder;
    int32_t input = emit_norm_quant(e, "head_in", PART_OUTPUT_NORM);
    enum part part = head_part(e);
    int32_t logits = emit_linear(e, "head", input, part, e->list->vocabulary, 0, e->list->vocabulary, FORMAT_LOGITS);
    if (!d->logits_softcap)
        return;
    struct draft *draft = add(e, BULLA_SOFTCAP, "head_softcap", logits, e->list->vocabulary, FORMAT_LOGITS);
    if (draft)
        draft->softcap = d->logits_softcap;
}

/* A layer's tensor by its name that stands for nothing that is computed: buffers that some checkpoints keep. */
static int is_buffer(const char *name)
{
    static const char *const ends[] = {".rotary_emb.inv_freq", ".masked_bias", ".k_scale", ".v_scale", ".rope_freqs.weight"};
    size_t length = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        if (length > strlen(ends[i]) && strcmp(name + length - strlen(ends[i]), ends[i]) == 0)
            return 1;
    return 0;
}

/* A tensor of a layer that no operation uses is a part of the model that would be missing. */
static int check_all_used(const struct emission *e)
{
    static const char *const starts[] = {"model.layers.", "language_model.model.layers.", "model.language_model.layers.",
                                         "layers.", "language_model.layers.", NULL};
    static const char *const gguf_starts[] = {"blk.", NULL};
    size_t count = source_tensor_count(e->source);
    const struct source_tensor *first = source_tensor_at(e->source, 0);
    uint8_t *used = arena_alloc(e->list->arena, count, 1, e->error);
    if (!used)
        return BULLA_E_MEMORY;
    for (uint32_t i = 0; i < e->list->count; i++) {
        const struct draft *draft = &e->list->drafts[i];
        const struct source_tensor *list[] = {draft->weight.tensor, draft->bias.tensor, draft->gain};
        for (int j = 0; j < 3; j++)
            if (list[j])
                used[list[j] - first] = 1;
    }
    for (size_t i = 0; i < count; i++)
        for (const char *const *start = source_kind(e->source) == SOURCE_GGUF ? gguf_starts : starts; *start; start++)
            if (!used[i] && strncmp(first[i].name, *start, strlen(*start)) == 0 && !is_buffer(first[i].name))
                return bulla_fail(e->error, BULLA_E_UNSUPPORTED, "%s: tensor %s has no place in %s with %u layers; the model is "
                                  "something else", source_path(e->source), first[i].name, e->list->family,
                                  e->decoder->layers);
    return BULLA_OK;
}

int decoder_emit(const struct source *source, const struct decoder *decoder, struct draft_list *list,
                 bulla_error *error)
{
    struct emission e = {source, decoder, list, error, BULLA_NO_LAYER, -1};
    const struct decoder_rope *other = decoder->separate_window_rope ? &decoder->window_rope : &decoder->rope;
    const uint64_t *turn, *window_turn;
    list->context = decoder->context;
    list->layers = decoder->layers;
    int code = decoder_turns(&decoder->rope, decoder->rotary, list->arena, &turn, error);
    if (code == BULLA_OK)
        code = decoder_turns(other, decoder->rotary, list->arena, &window_turn, error);
    if (code != BULLA_OK)
        return bulla_fail_prefix(error, "%s", source_path(source));
    emit_embedding(&e);
    for (e.layer = 0; e.layer < decoder->layers && error->code == BULLA_OK; e.layer++) {
        int windowed = is_windowed(decoder, e.layer);
        emit_layer(&e, windowed ? other : &decoder->rope, windowed ? window_turn : turn);
    }
    e.layer = BULLA_NO_LAYER;
    emit_logits(&e);
    return error->code ? error->code : check_all_used(&e);
}
