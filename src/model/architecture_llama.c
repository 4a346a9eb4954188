/* Llama 2 and 3, Mistral, SmolLM (Touvron et al., 2023; Jiang et al., 2023). GGUF
 * stores q and k with interleaved rotation pairs, safetensors with half-split ones. */
#include "model/decoder.h"

static int emit(const struct source *source, uint64_t context, struct draft_list *list, bulla_error *error)
{
    struct decoder decoder = {.activation = TABLES_SILU, .half = source_kind(source) != SOURCE_GGUF};
    int code = decoder_read(source, "llama", context, &decoder, list->arena, error);
    if (code != BULLA_OK)
        return code;
    int64_t window = 0;
    if (source_kind(source) != SOURCE_GGUF &&
        decoder_integer(source, "llama", NULL, "sliding_window", 1, 1 << 30, &window, error) == 1)
        decoder.window = (uint32_t)window;
    return error->code ? error->code : decoder_emit(source, &decoder, list, error);
}

const struct architecture architecture_llama = {
    .name = "llama",
    .gguf_names = (const char *const[]){"llama", NULL},
    .model_types = (const char *const[]){"llama", "mistral", NULL},
    .emit = emit,
};
