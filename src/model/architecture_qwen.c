/* Qwen2 and Qwen2.5 (biases on q, k, v) and Qwen3 (norms on q and k instead)
 * (Qwen team, 2024 and 2025). */
#include "model/decoder.h"

static int window_from(const struct decoder *decoder, uint32_t layer)
{
    return layer >= decoder->window_pattern;
}

static int emit_as(const struct source *source, const char *prefix, int head_norms, uint64_t context,
                   struct draft_list *list, bulla_error *error)
{
    struct decoder decoder = {.activation = TABLES_SILU, .half = 1, .head_norms = head_norms};
    int code = decoder_read(source, prefix, context, &decoder, list->arena, error);
    if (code != BULLA_OK)
        return code;
    int used = 0;
    int64_t window = 0, from = 0;
    if (source_kind(source) != SOURCE_GGUF && source_get_bool(source, "use_sliding_window", &used, error) == 1 && used &&
        source_get_integer(source, "sliding_window", 1, 1 << 30, &window, error) == 1) {
        source_get_integer(source, "max_window_layers", 0, 1 << 30, &from, error);
        decoder.window = (uint32_t)window;
        decoder.window_pattern = (uint32_t)from;
        decoder.is_windowed = window_from;
    }
    return error->code ? error->code : decoder_emit(source, &decoder, list, error);
}

static int emit_qwen2(const struct source *source, uint64_t context, struct draft_list *list, bulla_error *error)
{
    return emit_as(source, "qwen2", 0, context, list, error);
}

static int emit_qwen3(const struct source *source, uint64_t context, struct draft_list *list, bulla_error *error)
{
    return emit_as(source, "qwen3", 1, context, list, error);
}

const struct architecture architecture_qwen2 = {
    .name = "qwen2",
    .gguf_names = (const char *const[]){"qwen2", NULL},
    .model_types = (const char *const[]){"qwen2", NULL},
    .emit = emit_qwen2,
};

const struct architecture architecture_qwen3 = {
    .name = "qwen3",
    .gguf_names = (const char *const[]){"qwen3", NULL},
    .model_types = (const char *const[]){"qwen3", NULL},
    .emit = emit_qwen3,
};
