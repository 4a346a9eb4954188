#include "random_program.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "model/tables.h"

enum { MOST_OPERATIONS = 160, MOST_TENSORS = 400 };

struct family {
    const char *name;
    uint32_t n, hidden, heads, kv_heads, head_size, rotary, layers, vocabulary, context;
    int half, bias, head_norms, post_norms, softcaps, gated, gelu;
    uint32_t window;       /* 0: none */
    uint32_t full_every;   /* with a window: layers whose number + 1 is a multiple see everything */
};

static const struct family families[RANDOM_FAMILIES + 1] = {
    [RANDOM_LLAMA] = {"llama", 192, 320, 6, 2, 64, 64, 3, 211, 700, .half = 1, .gated = 1},
    [RANDOM_INTERLEAVED] = {"interleaved", 128, 256, 8, 8, 16, 16, 2, 128, 400, .gated = 1},
    [RANDOM_QWEN2] = {"qwen2", 96, 192, 6, 3, 32, 32, 2, 150, 400, .half = 1, .bias = 1, .gated = 1},
    [RANDOM_QWEN3] = {"qwen3", 128, 192, 4, 2, 128, 128, 2, 150, 400, .half = 1, .head_norms = 1, .gated = 1},
    [RANDOM_GEMMA2] = {"gemma2", 160, 320, 4, 2, 96, 96, 4, 170, 500, .half = 1, .post_norms = 1, .softcaps = 1,
                       .gated = 1, .gelu = 1, .window = 70, .full_every = 2},
    [RANDOM_GEMMA3] = {"gemma3", 128, 256, 4, 1, 256, 256, 4, 170, 500, .half = 1, .head_norms = 1, .post_norms = 1,
                       .gated = 1, .gelu = 1, .window = 24, .full_every = 4},
    [RANDOM_PHI3] = {"phi3", 160, 192, 2, 2, 80, 48, 2, 100, 400, .half = 1, .gated = 1},
    [RANDOM_UNGATED] = {"ungated", 64, 128, 4, 2, 16, 16, 2, 64, 300, .half = 1, .bias = 1, .gelu = 1},
    [RANDOM_MANY_HEADS] = {"many heads", 80, 96, 20, 1, 16, 16, 2, 70, 300, .half = 1, .gated = 1},
    [RANDOM_ODD] = {"odd", 36, 50, 3, 3, 6, 4, 3, 37, 300, .gated = 1, .window = 65, .full_every = 3},
    [RANDOM_WIDE] = {"wide", 320, 64, 4, 2, 16, 16, 1, 64, 300, .half = 1, .gated = 1},
};

struct builder {
    bulla_program program; /* first: what the caller holds */
    bulla_operation operations[MOST_OPERATIONS];
    bulla_tensor tensors[MOST_TENSORS];
    const void *data[MOST_TENSORS];
    double level[MOST_OPERATIONS]; /* log2 of a value's root mean square; of s for quantised ones */
    const struct family *family;
    uint64_t state;
    bulla_error *error;
    int failed;
    uint32_t layer;
    int strain_in; /* linear operations until the one whose s has a tight bound; negative: none or past */
};

const char *random_family_name(int family)
{
    return family >= 0 && family <= RANDOM_WIDE ? families[family].name : "unknown";
}

static uint64_t draw(struct builder *builder)
{
    builder->state ^= builder->state << 13;
    builder->state ^= builder->state >> 7;
    builder->state ^= builder->state << 17;
    return builder->state * UINT64_C(0x2545F4914F6CDD1D) >> 16;
}

static int64_t draw_between(struct builder *builder, int64_t low, int64_t high)
{
    return low + (int64_t)(draw(builder) % (uint64_t)(high - low + 1));
}

/* A zeroed tensor; its index through `index`. A scrap of memory where there is none. */
static void *tensor_new(struct builder *builder, const char *name, int dtype, uint32_t rows, uint32_t columns,
                        int32_t *index)
{
    bulla_program *program = &builder->program;
    uint64_t bytes = (uint64_t)rows * columns * bulla_dtype_size(dtype);
    void *data = program->tensor_count < MOST_TENSORS ? memory_alloc_aligned(64, bytes, builder->error) : NULL;
    if (!data) {
        builder->failed = 1;
        return NULL;
    }
    bulla_tensor *tensor = &builder->tensors[program->tensor_count];
    if (program->operation_count == 0)
        snprintf(tensor->name, sizeof tensor->name, "%s", name);
    else
        snprintf(tensor->name, sizeof tensor->name, "operation.%u.%s", program->operation_count - 1, name);
    tensor->dtype = (uint8_t)dtype;
    tensor->rows = rows;
    tensor->columns = columns;
    tensor->bytes = bytes;
    builder->data[program->tensor_count] = data;
    *index = (int32_t)program->tensor_count++;
    return data;
}

static bulla_operation *operation_new(struct builder *builder, int kind, int first, int second)
{
    bulla_program *program = &builder->program;
    if (program->operation_count == MOST_OPERATIONS) {
        builder->failed = 1;
        return &builder->operations[0];
    }
    bulla_operation *o = &builder->operations[program->operation_count++];
    *o = (bulla_operation){.kind = (uint16_t)kind, .layer = (uint16_t)builder->layer, .inputs = {first, second, -1}};
    memset(o->tensors, 0xFF, sizeof o->tensors);
    if (first >= 0)
        o->n = o->outputs = builder->operations[first].outputs;
    return o;
}

static int last(const struct builder *builder)
{
    return (int)builder->program.operation_count - 1;
}

static int finish(struct builder *builder, double level)
{
    builder->level[last(builder)] = level;
    return last(builder);
}

static uint32_t block_of(uint32_t n)
{
    uint32_t block = n & -n;
    return block > 4096 ? 4096 : block;
}

static int clamp(double shift, int low, int high)
{
    int value = (int)floor(shift + 0.5);
    return value < low ? low : value > high ? high : value;
}

static int add_embed(struct builder *builder)
{
    const struct family *f = builder->family;
    bulla_operation *o = operation_new(builder, BULLA_EMBED, -1, -1);
    o->outputs = f->n;
    int8_t *E8 = tensor_new(builder, "E8", BULLA_I8, f->vocabulary, f->n, &o->tensors[BULLA_TENSOR_E8]);
    uint16_t *ME = tensor_new(builder, "ME", BULLA_U16, 1, f->vocabulary, &o->tensors[BULLA_TENSOR_ME]);
    for (uint64_t i = 0; E8 && i < (uint64_t)f->vocabulary * f->n; i++)
        E8[i] = (int8_t)draw_between(builder, -127, 127);
    for (uint32_t i = 0; ME && i < f->vocabulary; i++)
        ME[i] = (uint16_t)draw_between(builder, 1 << 15, 65535);
    return finish(builder, 21.8);
}

static int add_norm_quant(struct builder *builder, int x)
{
    bulla_operation *o = operation_new(builder, BULLA_NORM_QUANT, x, -1);
    o->block = block_of(o->n);
    o->eps = (uint64_t)draw_between(builder, 1, 1 << 16);
    o->c = 24;
    uint8_t *e = tensor_new(builder, "e", BULLA_U8, 1, o->n, &o->tensors[BULLA_TENSOR_E]);
    for (uint32_t i = 0; e && i < o->n; i++)
        e[i] = draw(builder) % 8 ? 0 : (uint8_t)draw_between(builder, 1, 3);
    return finish(builder, o->c + 2.0 + log2(o->block) / 2 - log2(o->n) / 2);
}

static int add_quant(struct builder *builder, int x)
{
    bulla_operation *o = operation_new(builder, BULLA_QUANT, x, -1);
    o->block = block_of(o->n);
    return finish(builder, builder->level[x] + 1.7 + log2(o->block) / 2);
}

/* Results near 2^target. */
static int add_linear(struct builder *builder, int q, uint32_t outputs, int bias, double target)
{
    bulla_operation *o = operation_new(builder, BULLA_LINEAR, q, -1);
    o->outputs = outputs;
    int strained = builder->strain_in-- == 0;
    int8_t *W = tensor_new(builder, "W", BULLA_I8, outputs, o->n, &o->tensors[BULLA_TENSOR_W]);
    uint16_t *M = tensor_new(builder, "M", BULLA_U16, 1, outputs, &o->tensors[BULLA_TENSOR_M]);
    for (uint64_t i = 0; W && i < (uint64_t)outputs * o->n; i++)
        W[i] = (int8_t)draw_between(builder, -127, 127);
    for (uint32_t i = 0; M && i < outputs; i++)
        M[i] = (uint16_t)draw_between(builder, 1 << 15, 65535);
    if (bias) {
        int32_t *values = tensor_new(builder, "bias", BULLA_I32, 1, outputs, &o->tensors[BULLA_TENSOR_BIAS]);
        for (uint32_t i = 0; values && i < outputs; i++)
            values[i] = (int32_t)draw_between(builder, -(INT64_C(1) << clamp(target, 1, 28)),
                                              INT64_C(1) << clamp(target, 1, 28));
    }
    /* Small blocks spread an outlier less, so that s varies more. */
    double margin = strained ? (double)draw_between(builder, 8, 19) / 10 : o->n % 16 ? 5 : 3.5;
    o->k1 = clamp(builder->level[q] + margin - 15, 0, 46);
    double sum = log2(73 * 42) + log2(o->n) / 2, scale = builder->level[q] + 15.5 - o->k1;
    o->k2 = clamp(sum + scale - target, 0, 61);
    return finish(builder, sum + scale - o->k2);
}

static int add_norm(struct builder *builder, int x, uint32_t heads, uint32_t head_size, double target)
{
    bulla_operation *o = operation_new(builder, BULLA_NORM, x, -1);
    o->heads = heads;
    o->head_size = head_size;
    o->eps = (uint64_t)draw_between(builder, 1, 1 << 16);
    int32_t *G = tensor_new(builder, "G", BULLA_I32, 1, head_size, &o->tensors[BULLA_TENSOR_G]);
    for (uint32_t i = 0; G && i < head_size; i++)
        G[i] = (int32_t)draw_between(builder, 1 << 20, 1 << 21) * (draw(builder) % 8 ? 1 : -1);
    double raw = 24 + 20.6 - log2(head_size) / 2;
    o->k = clamp(raw - target, 0, 61);
    return finish(builder, raw - o->k);
}

static int add_rope(struct builder *builder, int x, uint32_t heads)
{
    const struct family *f = builder->family;
    bulla_operation *o = operation_new(builder, BULLA_ROPE, x, -1);
    o->heads = heads;
    o->head_size = f->head_size;
    o->rotary = f->rotary;
    o->flags = f->half ? BULLA_OPERATION_HALF : 0;
    uint64_t *turn = tensor_new(builder, "turn", BULLA_U64, 1, f->rotary / 2, &o->tensors[BULLA_TENSOR_TURN]);
    for (uint32_t i = 0; turn && i < f->rotary / 2; i++)
        turn[i] = (uint64_t)(ldexp(exp(-9.2 * i / (f->rotary / 2)) / 6.283185307179586, 63) * 2);
    return finish(builder, builder->level[x]);
}

static int add_head_operation(struct builder *builder, int kind, int x, uint32_t heads)
{
    const struct family *f = builder->family;
    bulla_operation *o = operation_new(builder, kind, x, -1);
    o->heads = heads;
    o->head_size = f->head_size;
    if (kind != BULLA_VALUE_QUANT)
        o->block = block_of(f->head_size);
    if (kind == BULLA_KEY_QUANT)
        o->C = (uint32_t)draw_between(builder, 1 << 15, 65535);
    return finish(builder, builder->level[x] + 1.6 + log2(o->block ? o->block : 1) / 2);
}

static void add_table(struct builder *builder, bulla_operation *o, double cap, int logarithmic, int F)
{
    int32_t *A = tensor_new(builder, "A", BULLA_I32, 1, 1025, &o->tensors[BULLA_TENSOR_A]);
    if (A && cap > 0)
        tables_softcap(cap, logarithmic, F, A);
    else if (A)
        tables_activation(builder->family->gelu ? TABLES_GELU_TANH : TABLES_SILU, A);
}

static int add_attention(struct builder *builder, int x)
{
    const struct family *f = builder->family;
    int q = add_linear(builder, x, f->heads * f->head_size, f->bias, 18);
    int k = add_linear(builder, x, f->kv_heads * f->head_size, f->bias, 18);
    int v = add_linear(builder, x, f->kv_heads * f->head_size, f->bias, 20);
    if (f->head_norms) {
        q = add_norm(builder, q, f->heads, f->head_size, 16);
        k = add_norm(builder, k, f->kv_heads, f->head_size, 16);
    }
    q = add_head_operation(builder, BULLA_HEAD_QUANT, add_rope(builder, q, f->heads), f->heads);
    k = add_head_operation(builder, BULLA_KEY_QUANT, add_rope(builder, k, f->kv_heads), f->kv_heads);
    int values = add_head_operation(builder, BULLA_VALUE_QUANT, v, f->kv_heads);
    bulla_operation *o = operation_new(builder, BULLA_ATTEND, q, k);
    o->inputs[2] = values;
    o->heads = f->heads;
    o->kv_heads = f->kv_heads;
    o->head_size = f->head_size;
    o->window = f->window && (builder->layer + 1) % f->full_every ? f->window : 0;
    double product = log2(42 * 42) + log2(f->head_size) / 2 + builder->level[q] - 22 + builder->level[k] - 0.5;
    o->a2 = clamp(product - 11.5, 0, 61);
    if (f->softcaps)
        add_table(builder, o, 20, 1, 10);
    return finish(builder, builder->level[v] + 1);
}

static int add_feed_forward(struct builder *builder, int x)
{
    const struct family *f = builder->family;
    int g = add_linear(builder, x, f->hidden, 0, 20), u = f->gated ? add_linear(builder, x, f->hidden, 0, 20) : -1;
    bulla_operation *o = operation_new(builder, BULLA_GATE, g, u);
    o->flags = f->gated ? BULLA_OPERATION_GATED : 0;
    o->F_g = (int32_t)draw_between(builder, 18, 20);
    o->k = 14;
    add_table(builder, o, 0, 0, 0);
    double activation = builder->level[g] - o->F_g + 16;
    return finish(builder, f->gated ? activation + builder->level[u] - o->k : activation);
}

static int add_sum(struct builder *builder, int x, int branch, double level)
{
    if (builder->family->post_norms)
        branch = add_norm(builder, branch, 1, builder->family->n, level);
    operation_new(builder, BULLA_ADD, x, branch);
    return finish(builder, builder->level[x] + 0.2);
}

static void add_layers(struct builder *builder)
{
    const struct family *f = builder->family;
    int x = add_embed(builder);
    for (builder->layer = 0; builder->layer < f->layers; builder->layer++) {
        int o = add_attention(builder, add_norm_quant(builder, x));
        x = add_sum(builder, x, add_linear(builder, add_quant(builder, o), f->n, 0, 21), 21);
        int y = add_feed_forward(builder, add_norm_quant(builder, x));
        x = add_sum(builder, x, add_linear(builder, add_quant(builder, y), f->n, 0, 21), 21);
    }
    builder->layer = BULLA_NO_LAYER;
    int logits = add_linear(builder, add_norm_quant(builder, x), f->vocabulary, 0, 17.5);
    if (f->softcaps) {
        bulla_operation *o = operation_new(builder, BULLA_SOFTCAP, logits, -1);
        add_table(builder, o, 30, 0, 16);
    }
    builder->operations[last(builder)].F = builder->program.logits_F = 16;
}

static void add_tables(struct builder *builder)
{
    static const int bits[] = {15, 24, 31};
    static const char *const names[] = {"table.EXP15", "table.EXP24", "table.EXP31"};
    int32_t index;
    for (int i = 0; i < 3; i++) {
        uint32_t *mantissas = tensor_new(builder, names[i], BULLA_U32, 1, 1024, &index);
        if (mantissas)
            tables_exp(bits[i], mantissas);
    }
    int16_t *cosine = tensor_new(builder, "table.COS", BULLA_I16, 1, 65536, &index);
    if (cosine)
        tables_cosine(cosine);
}

int random_program_new(uint64_t seed, int family, int strain, bulla_program **program, bulla_error *error)
{
    *program = NULL;
    struct builder *builder = memory_alloc(1, sizeof *builder, error);
    if (!builder)
        return BULLA_E_MEMORY;
    builder->family = &families[family];
    builder->state = (seed + 1) * UINT64_C(0x9E3779B97F4A7C15) + (uint64_t)family;
    builder->error = error;
    const struct family *f = builder->family;
    builder->program = (bulla_program){.operations = builder->operations, .tensors = builder->tensors,
        .data = builder->data, .vocabulary = f->vocabulary, .context = f->context, .layers = f->layers};
    for (int i = 0; i < 8; i++)
        draw(builder);
    builder->strain_in = strain ? (int)draw_between(builder, 0, 7 * (int)f->layers - 1) : -1;
    add_tables(builder);
    add_layers(builder);
    int code = builder->failed ? bulla_fail(error, BULLA_E_INTERNAL, "a random program grew too large")
                               : bulla_program_check(&builder->program, error);
    if (code) {
        random_program_free(&builder->program);
        return code;
    }
    *program = &builder->program;
    return BULLA_OK;
}

void random_program_free(bulla_program *program)
{
    if (!program)
        return;
    for (uint32_t i = 0; i < program->tensor_count; i++)
        memory_free((void *)(uintptr_t)program->data[i]);
    memory_free(program);
}
