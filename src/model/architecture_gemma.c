/* Gemma 2 and Gemma 3's text model (Gemma team, 2024 and 2025): the embedding
 * times sqrt(hidden), norms with gain 1 + w (GGUF has the 1 added), norms after
 * each branch, windows on most layers; Gemma 2 with softcaps, Gemma 3 with q and
 * k norms and a rope base of its own on windowed layers. */
#include <math.h>

#include "model/decoder.h"

/* Gemma's turns, for sources that ship no template (https://ai.google.dev/gemma/docs
 * describes the format). */
static const char turns_template[] =
    "{{ bos_token }}{% set ns = namespace(first='') %}{% for message in messages %}{% if message['role'] == 'system' %}"
    "{% set ns.first = message['content'] | trim + '\\n\\n' %}{% else %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else 'user') + '\\n' + ns.first + "
    "message['content'] | trim + '<end_of_turn>\\n' }}{% set ns.first = '' %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}";

static int not_each_nth(const struct decoder *decoder, uint32_t layer)
{
    return (layer + 1) % decoder->window_pattern != 0;
}

static int read_window(const struct source *source, const char *prefix, uint32_t pattern, struct decoder *decoder,
                       bulla_error *error)
{
    int64_t window = 0, every = pattern;
    decoder_integer(source, prefix, "attention.sliding_window", "sliding_window", 1, 1 << 30, &window, error);
    decoder_integer(source, prefix, NULL, "sliding_window_pattern", 1, 1 << 20, &every, error);
    decoder->window = (uint32_t)window;
    decoder->window_pattern = (uint32_t)every;
    decoder->is_windowed = not_each_nth;
    return error->code;
}

static int read_common(const struct source *source, const char *prefix, uint64_t context, struct decoder *decoder,
                       struct draft_list *list, bulla_error *error)
{
    int gguf = source_kind(source) == SOURCE_GGUF;
    decoder->activation = TABLES_GELU_TANH;
    decoder->half = 1;
    decoder->post_norms = 1;
    decoder->gain_offset = gguf ? 0 : 1;
    int code = decoder_read(source, prefix, context, decoder, list->arena, error);
    if (code != BULLA_OK)
        return code;
    double scalar = 0;
    decoder->embedding_factor = sqrt(decoder->hidden);
    if (decoder_real(source, prefix, NULL, "query_pre_attn_scalar", &scalar, error) == 1) {
        if (!(scalar > 0 && scalar <= 1e6))
            return bulla_fail(error, BULLA_E_INPUT, "%s: query_pre_attn_scalar is %g, expected above 0 and at most 1e6",
                              source_path(source), scalar);
        decoder->score_scale = 1 / sqrt(scalar);
    }
    if (gguf && decoder->layers == (prefix[5] == '2' ? 46 : 62)) /* the 27B models, whose GGUFs don't say */
        decoder->score_scale = 1 / sqrt((double)decoder->hidden / decoder->heads);
    list->fallback_template = turns_template;
    return error->code;
}

static int read_softcap(const struct source *source, const char *key, double *softcap, bulla_error *error)
{
    if (decoder_real(source, "gemma2", key, key, softcap, error) == 1 && *softcap != 0 && !(*softcap >= 0.01 && *softcap <= 1000))
        return bulla_fail(error, BULLA_E_INPUT, "%s: %s is %g, expected 0.01 to 1000, or 0 for none", source_path(source), key,
                          *softcap);
    return error->code;
}

static int emit_gemma2(const struct source *source, uint64_t context, struct draft_list *list, bulla_error *error)
{
    struct decoder decoder = {0};
    int code = read_common(source, "gemma2", context, &decoder, list, error);
    if (code == BULLA_OK)
        code = read_window(source, "gemma2", 2, &decoder, error);
    if (code != BULLA_OK)
        return code;
    if (read_softcap(source, "attn_logit_softcapping", &decoder.score_softcap, error) ||
        read_softcap(source, "final_logit_softcapping", &decoder.logits_softcap, error))
        return error->code;
    return error->code ? error->code : decoder_emit(source, &decoder, list, error);
}

static int emit_gemma3(const struct source *source, uint64_t context, struct draft_list *list, bulla_error *error)
{
    struct decoder decoder = {.head_norms = 1};
    int code = read_common(source, "gemma3", context, &decoder, list, error);
    if (code == BULLA_OK)
        code = read_window(source, "gemma3", 6, &decoder, error);
    if (code != BULLA_OK)
        return code;
    decoder.separate_window_rope = 1;
    decoder.window_rope = (struct decoder_rope){.base = 10000, .attention_factor = 1};
    if (decoder_real(source, "gemma3", "rope.freq_base_swa", "rope_local_base_freq", &decoder.window_rope.base, error) == 0)
        decoder_real(source, "gemma3", NULL, "rope_parameters.sliding_attention.rope_theta", &decoder.window_rope.base, error);
    if (!(decoder.window_rope.base > 1 && decoder.window_rope.base < 1e12))
        return bulla_fail(error, BULLA_E_INPUT, "%s: the local rope base is %g, expected above 1 and below 1e12",
                          source_path(source), decoder.window_rope.base);
    return error->code ? error->code : decoder_emit(source, &decoder, list, error);
}

const struct architecture architecture_gemma2 = {
    .name = "gemma2",
    .gguf_names = (const char *const[]){"gemma2", NULL},
    .model_types = (const char *const[]){"gemma2", NULL},
    .emit = emit_gemma2,
};

const struct architecture architecture_gemma3 = {
    .name = "gemma3",
    .gguf_names = (const char *const[]){"gemma3", NULL},
    .model_types = (const char *const[]){"gemma3", "gemma3_text", NULL},
    .emit = emit_gemma3,
};
