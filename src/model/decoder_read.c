/* Settings of a decoder-only transformer, from GGUF metadata or config.json. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/decoder.h"
#include "model/real.h"

enum {
    MAX_LAYERS = 1024,
    MAX_CONTEXT = 1 << 24,   /* of a program */
    MAX_ELEMENTS = 133144,   /* that a linear operation sums in 32 bits */
    MAX_INNER_RATIO = 64     /* of inner width to hidden width: real models have up to 8 */
};

/* GGUF: PREFIX.gguf. config.json: the name itself, or inside text_config. */
static void spell(char key[160], const struct source *source, const char *prefix, const char *gguf, const char *hugging,
                  int nested)
{
    if (source_kind(source) == SOURCE_GGUF)
        snprintf(key, 160, "%s.%s", prefix, gguf ? gguf : "");
    else
        snprintf(key, 160, "%s%s", nested ? "text_config." : "", hugging ? hugging : "");
}

/* How often to look: config.json's keys may be nested. */
static int places(const struct source *source, const char *gguf, const char *hugging)
{
    if (source_kind(source) == SOURCE_GGUF)
        return gguf ? 1 : 0;
    return hugging ? 2 : 0;
}

int decoder_integer(const struct source *source, const char *prefix, const char *gguf, const char *hugging, int64_t low,
                    int64_t high, int64_t *value, bulla_error *error)
{
    char key[160];
    int found = 0;
    for (int i = 0; i < places(source, gguf, hugging) && found == 0; i++) {
        spell(key, source, prefix, gguf, hugging, i);
        found = source_get_integer(source, key, low, high, value, error);
    }
    return found;
}

int decoder_real(const struct source *source, const char *prefix, const char *gguf, const char *hugging, double *value,
                 bulla_error *error)
{
    char key[160];
    int found = 0;
    for (int i = 0; i < places(source, gguf, hugging) && found == 0; i++) {
        spell(key, source, prefix, gguf, hugging, i);
        found = source_get_real(source, key, value, error);
    }
    return found;
}

static int text(const struct source *source, const char *prefix, const char *gguf, const char *hugging,
                const char **value, bulla_error *error)
{
    char key[160];
    size_t length;
    int found = 0;
    for (int i = 0; i < places(source, gguf, hugging) && found == 0; i++) {
        spell(key, source, prefix, gguf, hugging, i);
        found = source_get_text(source, key, value, &length, error);
    }
    return found;
}

struct reading {
    const struct source *source;
    const char *prefix;
    bulla_error *error;
};

static uint32_t required(const struct reading *r, const char *gguf, const char *hugging, int64_t high)
{
    int64_t value = 0;
    int found = decoder_integer(r->source, r->prefix, gguf, hugging, 1, high, &value, r->error);
    if (found == 0)
        bulla_fail(r->error, BULLA_E_INPUT, "%s: %s is missing", source_path(r->source),
                   source_kind(r->source) == SOURCE_GGUF ? gguf : hugging);
    return found == 1 ? (uint32_t)value : 1;
}

static uint32_t optional(const struct reading *r, const char *gguf, const char *hugging, int64_t low, int64_t high,
                         uint32_t otherwise)
{
    int64_t value = 0;
    return decoder_integer(r->source, r->prefix, gguf, hugging, low, high, &value, r->error) == 1 ? (uint32_t)value
                                                                                               : otherwise;
}

static double optional_real(const struct reading *r, const char *gguf, const char *hugging, double otherwise)
{
    double value;
    return decoder_real(r->source, r->prefix, gguf, hugging, &value, r->error) == 1 ? value : otherwise;
}

static void read_sizes(const struct reading *r, uint64_t context, struct decoder *d)
{
    d->hidden = required(r, "embedding_length", "hidden_size", 1 << 17);
    d->layers = required(r, "block_count", "num_hidden_layers", MAX_LAYERS);
    d->heads = required(r, "attention.head_count", "num_attention_heads", 4096);
    d->kv_heads = optional(r, "attention.head_count_kv", "num_key_value_heads", 1, 4096, d->heads);
    d->inner = required(r, "feed_forward_length", "intermediate_size", MAX_ELEMENTS);
    d->context = required(r, "context_length", "max_position_embeddings", 1 << 30);
    if (context && context < d->context)
        d->context = (uint32_t)context;
    d->head_size = optional(r, "attention.key_length", "head_dim", 1, 4096, d->hidden / d->heads);
    d->eps = optional_real(r, "attention.layer_norm_rms_epsilon", "rms_norm_eps", -1);
    double part = source_kind(r->source) == SOURCE_GGUF ? 1 : optional_real(r, NULL, "partial_rotary_factor", 1);
    if (part == 1 && source_kind(r->source) != SOURCE_GGUF)
        part = optional_real(r, NULL, "rope_parameters.partial_rotary_factor", 1);
    if (!(part > 0 && part <= 1))
        bulla_fail(r->error, BULLA_E_INPUT, "%s: partial_rotary_factor is %g, expected above 0 and at most 1",
                   source_path(r->source), part);
    else
        d->rotary = optional(r, "rope.dimension_count", NULL, 2, 4096, (uint32_t)(d->head_size * part));
    d->score_scale = 1 / sqrt(d->head_size);
    d->embedding_factor = 1;
}

/* What no family here has: experts, and attention to later positions. */
static int check_absent(const struct reading *r)
{
    static const char *const keys[] = {"num_local_experts", "num_experts"};
    int64_t experts = 0;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (decoder_integer(r->source, r->prefix, "expert_count", keys[i], 0, 1 << 20, &experts, r->error) == 1 && experts > 1)
            return bulla_fail(r->error, BULLA_E_UNSUPPORTED, "%s: a mixture of %lld experts; program version 1 has none",
                              source_path(r->source), (long long)experts);
    int both_ways = 0;
    for (int nested = 0; nested < 2 && source_kind(r->source) != SOURCE_GGUF; nested++)
        if (source_get_bool(r->source, nested ? "text_config.use_bidirectional_attention" : "use_bidirectional_attention",
                            &both_ways, r->error) == 1 && both_ways)
            return bulla_fail(r->error, BULLA_E_UNSUPPORTED, "%s: use_bidirectional_attention is true; a language model that "
                              "sees earlier positions only was expected", source_path(r->source));
    return r->error->code;
}

/* The activation that the model names must be the one that its family's operations have. */
static int check_activation(const struct reading *r, const struct decoder *d)
{
    /* Gemma's own key is hidden_activation; its hidden_act is not used (some configurations say "gelu" there). */
    int gelu = d->activation == TABLES_GELU_TANH;
    const char *key = gelu ? "hidden_activation" : "hidden_act", *expected = gelu ? "gelu_pytorch_tanh" : "silu", *other;
    if (text(r->source, NULL, NULL, key, &other, r->error) == 1 && strcmp(other, expected) != 0 &&
        (gelu || strcmp(other, "swish") != 0))
        return bulla_fail(r->error, BULLA_E_UNSUPPORTED, "%s: %s is \"%.40s\"; supported in this family is %s",
                          source_path(r->source), key, other, expected);
    return r->error->code;
}

static int check_sizes(const struct reading *r, const struct decoder *d)
{
    if (r->error->code)
        return r->error->code;
    const char *path = source_path(r->source);
    if (d->head_size > 256 || d->head_size < 2 || d->head_size % 2)
        return bulla_fail(r->error, BULLA_E_UNSUPPORTED, "%s: heads of %u dimensions; expected an even number up to 256", path,
                          d->head_size);
    if (d->heads % d->kv_heads)
        return bulla_fail(r->error, BULLA_E_INPUT, "%s: %u heads cannot share %u key-value heads evenly", path, d->heads,
                          d->kv_heads);
    if (d->rotary % 2 || d->rotary == 0 || d->rotary > d->head_size)
        return bulla_fail(r->error, BULLA_E_INPUT, "%s: %u rotary dimensions in heads of %u", path, d->rotary, d->head_size);
    if (!(d->eps >= 0 && d->eps < 1))
        return bulla_fail(r->error, BULLA_E_INPUT, "%s: the norms' epsilon is missing or not in [0, 1)", path);
    if (d->heads * d->head_size > MAX_ELEMENTS)
        return bulla_fail(r->error, BULLA_E_UNSUPPORTED, "%s: %u heads of %u dimensions are %u together; supported are %d", path,
                          d->heads, d->head_size, d->heads * d->head_size, MAX_ELEMENTS);
    uint64_t ratio_limit = (uint64_t)d->hidden * MAX_INNER_RATIO;
    if (d->inner > ratio_limit || d->heads * d->head_size > ratio_limit)
        return bulla_fail(r->error, BULLA_E_UNSUPPORTED, "%s: %u inner dimensions and %u of all heads with a hidden width of %u; "
                          "supported are at most %d times as many", path, d->inner, d->heads * d->head_size, d->hidden,
                          MAX_INNER_RATIO);
    if (d->context > MAX_CONTEXT)
        return bulla_fail(r->error, BULLA_E_LIMIT, "%s: a context of %u positions; at most %d are possible (--context takes "
                          "fewer)", path, d->context, MAX_CONTEXT);
    if (check_absent(r))
        return r->error->code;
    if (source_kind(r->source) != SOURCE_GGUF)
        return check_activation(r, d);
    int64_t values = d->head_size;
    if (decoder_integer(r->source, r->prefix, "attention.value_length", NULL, 1, 4096, &values, r->error) == 1 &&
        values != d->head_size)
        return bulla_fail(r->error, BULLA_E_UNSUPPORTED, "%s: values of %lld dimensions beside keys of %u", path,
                          (long long)values, d->head_size);
    return r->error->code;
}

static const char *gguf_scaling(const struct reading *r, struct decoder_rope *rope)
{
    const char *type = NULL;
    text(r->source, r->prefix, "rope.scaling.type", NULL, &type, r->error);
    rope->factor = optional_real(r, "rope.scaling.factor", NULL, 0);
    if (!type) /* a factor alone is linear, as older files have it */
        type = rope->factor > 0 && rope->factor != 1 ? "linear" : "none";
    rope->original_context = optional(r, "rope.scaling.original_context_length", NULL, 1, 1 << 30, 0);
    rope->high = optional_real(r, "rope.scaling.yarn_beta_fast", NULL, 32);
    rope->low = optional_real(r, "rope.scaling.yarn_beta_slow", NULL, 1);
    rope->attention_factor = optional_real(r, "rope.scaling.attn_factor", NULL, 0);
    rope->truncate = 1;
    return type;
}

/* config.json: rope_scaling, or rope_parameters in newer files, by whichever
 * prefix has the type. */
static const char *hugging_scaling(const struct reading *r, const char *prefix, struct decoder_rope *rope)
{
    char key[128];
    const char *type = NULL;
    rope->truncate = 1;
    snprintf(key, sizeof key, "%s.rope_type", prefix);
    if (text(r->source, NULL, NULL, key, &type, r->error) == 0) {
        snprintf(key, sizeof key, "%s.type", prefix);
        text(r->source, NULL, NULL, key, &type, r->error);
    }
    if (!type)
        return NULL;
    int llama3 = strcmp(type, "llama3") == 0;
    const struct {
        const char *name;
        double *value, otherwise;
    } list[] = {
        {"factor", &rope->factor, 0},
        {"original_max_position_embeddings", &rope->original_context, 0},
        {llama3 ? "high_freq_factor" : "beta_fast", &rope->high, llama3 ? 4 : 32},
        {llama3 ? "low_freq_factor" : "beta_slow", &rope->low, 1},
        {"attention_factor", &rope->attention_factor, 0},
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        snprintf(key, sizeof key, "%s.%s", prefix, list[i].name);
        *list[i].value = optional_real(r, NULL, key, list[i].otherwise);
    }
    snprintf(key, sizeof key, "%s.truncate", prefix);
    source_get_bool(r->source, key, &rope->truncate, r->error);
    snprintf(key, sizeof key, "%s.mscale", prefix);
    if (optional_real(r, NULL, key, 0) != 0)
        bulla_fail(r->error, BULLA_E_UNSUPPORTED, "%s: %s: this way to choose YaRN's attention factor is not supported",
                   source_path(r->source), key);
    return type;
}

static double yarn_attention(const struct decoder_rope *rope)
{
    struct real factor = real_of(rope->factor);
    return rope->factor <= 1 ? 1 : real_add(real_multiply(real_divide(real_of(1), real_of(10)), real_log(factor)), real_of(1)).hi;
}

static double longrope_attention(double factor, double original)
{
    if (factor <= 1 || original <= 1)
        return 1;
    struct real ratio = real_divide(real_log(real_of(factor)), real_log(real_of(original)));
    return real_square_root(real_add(real_of(1), ratio)).hi;
}

/* LongRoPE's divisors: the long list where the context goes beyond the original
 * one, else the short one (a program has one rope for every length). */
static int read_factors(const struct reading *r, const char *prefix, const struct decoder *d, struct decoder_rope *rope,
                        struct arena *arena)
{
    int gguf = source_kind(r->source) == SOURCE_GGUF, is_long = d->context > rope->original_context;
    double *factors = arena_alloc(arena, d->rotary / 2, sizeof *factors, r->error);
    float *values = arena_alloc(arena, d->rotary / 2, sizeof *values, r->error);
    if (!factors || !values)
        return BULLA_E_MEMORY;
    char key[128];
    uint64_t count = 0;
    if (gguf) {
        const char *name = prefix ? prefix : is_long ? "rope_factors_long.weight" : "rope_factors_short.weight";
        const struct source_tensor *tensor = source_tensor_find(r->source, name);
        if (!tensor || tensor->rows * tensor->columns != d->rotary / 2)
            return bulla_fail(r->error, BULLA_E_INPUT, "%s: tensor %s is missing or not of %u elements", source_path(r->source),
                              name, d->rotary / 2);
        snprintf(key, sizeof key, "tensor %s", name);
        if (source_tensor_read(r->source, tensor, 0, tensor->rows, values, r->error))
            return r->error->code;
    } else {
        snprintf(key, sizeof key, "%s.%s", prefix, is_long ? "long_factor" : "short_factor");
        if (source_get_array(r->source, key, &count, r->error) >= 0 && count != d->rotary / 2)
            bulla_fail(r->error, BULLA_E_INPUT, "%s: %s has %llu divisors, expected %u", source_path(r->source), key,
                       (unsigned long long)count, d->rotary / 2);
        if (r->error->code)
            return r->error->code;
    }
    for (uint32_t i = 0; i < d->rotary / 2; i++) {
        factors[i] = (double)values[i];
        int found = gguf ? 1 : source_get_array_real(r->source, key, i, &factors[i], r->error);
        if (found != 1 || !(factors[i] > 0 && factors[i] < 1e9))
            return bulla_fail(r->error, BULLA_E_INPUT, "%s: rope divisor %u of %s is missing or not positive",
                              source_path(r->source), i, key);
    }
    rope->factors = factors;
    rope->scaling = ROPE_FACTORS;
    return BULLA_OK;
}

/* Settings that are there must lie where the formulas have a meaning (0: not there). */
static int check_scaling(const struct reading *r, const char *type, const struct decoder_rope *rope)
{
    int llama3 = type && strcmp(type, "llama3") == 0;
    const struct {
        const char *name;
        double value, low, high;
    } list[] = {
        {"factor", rope->factor, 0, 1e6},
        {"original context", rope->original_context, 0, 1 << 30},
        {llama3 ? "high_freq_factor" : "beta_fast", rope->high, 1e-6, 1e6},
        {llama3 ? "low_freq_factor" : "beta_slow", rope->low, 1e-6, 1e6},
        {"attention factor", rope->attention_factor, 0, 100},
    };
    for (size_t i = 0; type && i < sizeof list / sizeof list[0]; i++)
        if (!(list[i].value >= list[i].low && list[i].value <= list[i].high))
            return bulla_fail(r->error, BULLA_E_INPUT, "%s: rope scaling \"%.40s\": %s is %g, expected %g to %g",
                              source_path(r->source), type, list[i].name, list[i].value, list[i].low, list[i].high);
    if (type && rope->low >= rope->high)
        return bulla_fail(r->error, BULLA_E_INPUT, "%s: rope scaling \"%.40s\": %s is %g, expected above %s, %g",
                          source_path(r->source), type, list[2].name, rope->high, list[3].name, rope->low);
    return BULLA_OK;
}

static int read_scaling(const struct reading *r, const char *prefix, struct decoder *d, struct decoder_rope *rope,
                        struct arena *arena)
{
    int gguf = source_kind(r->source) == SOURCE_GGUF;
    const char *type = gguf ? gguf_scaling(r, rope) : hugging_scaling(r, prefix, rope);
    if (r->error->code || check_scaling(r, type, rope))
        return r->error->code;
    double given = rope->attention_factor;
    rope->attention_factor = 1;
    uint32_t trained = required(r, "context_length", "max_position_embeddings", 1 << 30);
    if (rope->original_context == 0)
        rope->original_context = optional(r, NULL, "original_max_position_embeddings", 1, 1 << 30, trained);
    if (gguf && source_tensor_find(r->source, "rope_freqs.weight"))
        return read_factors(r, "rope_freqs.weight", d, rope, arena);
    if (gguf && source_tensor_find(r->source, "rope_factors_long.weight"))
        type = "longrope";
    if (!type || strcmp(type, "none") == 0 || strcmp(type, "default") == 0)
        return BULLA_OK;
    if (strcmp(type, "longrope") == 0 || strcmp(type, "su") == 0) {
        double factor = rope->factor > 0 && !gguf ? rope->factor : trained / rope->original_context;
        rope->attention_factor = given > 0 ? given : longrope_attention(factor, rope->original_context);
        return read_factors(r, gguf ? NULL : prefix, d, rope, arena);
    }
    if (rope->factor == 0)
        rope->factor = trained / rope->original_context;
    if (!(rope->factor > 0))
        return bulla_fail(r->error, BULLA_E_INPUT, "%s: the rope scaling \"%.40s\" has no positive factor", source_path(r->source), type);
    if (strcmp(type, "linear") == 0)
        rope->scaling = ROPE_LINEAR;
    else if (strcmp(type, "llama3") == 0)
        rope->scaling = ROPE_LLAMA3;
    else if (strcmp(type, "yarn") == 0) {
        rope->scaling = ROPE_YARN;
        /* GGUF's attn_factor multiplies YaRN's own; config.json's replaces it. */
        rope->attention_factor = gguf ? (given > 0 ? given : 1) * yarn_attention(rope) : given > 0 ? given : yarn_attention(rope);
    } else
        return bulla_fail(r->error, BULLA_E_UNSUPPORTED, "%s: rope scaling \"%.40s\"; supported are linear, llama3, yarn and "
                          "longrope", source_path(r->source), type);
    return BULLA_OK;
}

static int layer_types(const struct reading *r, struct decoder *d, struct arena *arena)
{
    uint64_t count = 0;
    const char *key = "layer_types";
    int found = source_get_array(r->source, key, &count, r->error);
    if (found == 0)
        found = source_get_array(r->source, key = "text_config.layer_types", &count, r->error);
    if (found != 1 || source_kind(r->source) == SOURCE_GGUF)
        return r->error->code;
    if (count < d->layers)
        return bulla_fail(r->error, BULLA_E_INPUT, "%s: layer_types has %llu entries for %u layers", source_path(r->source),
                          (unsigned long long)count, d->layers);
    uint8_t *windowed = arena_alloc(arena, d->layers, 1, r->error);
    for (uint32_t i = 0; windowed && i < d->layers; i++) {
        const char *type;
        size_t length;
        if (source_get_array_text(r->source, key, i, &type, &length, r->error) != 1)
            return bulla_fail(r->error, BULLA_E_INPUT, "%s: layer_types[%u] is no text", source_path(r->source), i);
        windowed[i] = strcmp(type, "sliding_attention") == 0;
        if (!windowed[i] && strcmp(type, "full_attention") != 0)
            return bulla_fail(r->error, BULLA_E_UNSUPPORTED, "%s: layer_types[%u] is \"%.40s\"; supported are full_attention and "
                              "sliding_attention", source_path(r->source), i, type);
    }
    d->windowed = windowed;
    return r->error->code;
}

int decoder_read(const struct source *source, const char *prefix, uint64_t context, struct decoder *d,
                 struct arena *arena, bulla_error *error)
{
    struct reading r = {source, prefix, error};
    read_sizes(&r, context, d);
    int code = check_sizes(&r, d);
    int gguf = source_kind(source) == SOURCE_GGUF;
    d->rope.base = optional_real(&r, "rope.freq_base", "rope_theta", 0);
    const char *scaling = "rope_scaling", *type;
    if (!gguf && d->rope.base == 0 && code == BULLA_OK) {
        /* Newer files gather all of it in rope_parameters, by layer type where there are two. */
        scaling = "rope_parameters";
        if (decoder_real(source, NULL, NULL, "rope_parameters.full_attention.rope_theta", &d->rope.base, error) == 1)
            scaling = "rope_parameters.full_attention";
        else
            d->rope.base = optional_real(&r, NULL, "rope_parameters.rope_theta", 0);
    } else if (!gguf && text(source, NULL, NULL, "rope_scaling.rope_type", &type, error) == 0 &&
               text(source, NULL, NULL, "rope_parameters.rope_type", &type, error) == 1)
        scaling = "rope_parameters";
    if (d->rope.base == 0)
        d->rope.base = 10000;
    if (code == BULLA_OK && !(d->rope.base > 1 && d->rope.base < 1e12))
        code = bulla_fail(error, BULLA_E_INPUT, "%s: the rope base is %g, expected above 1", source_path(source), d->rope.base);
    if (code == BULLA_OK)
        code = read_scaling(&r, scaling, d, &d->rope, arena);
    if (code == BULLA_OK)
        code = layer_types(&r, d, arena);
    return code ? code : error->code;
}
