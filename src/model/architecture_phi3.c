/* Phi-3 and Phi-4-mini (Microsoft, 2024 and 2025): q, k, v in one matrix, gate
 * and up in one, LongRoPE, a sliding window. */
#include "model/decoder.h"

static int emit(const struct source *source, uint64_t context, struct draft_list *list, bulla_error *error)
{
    struct decoder decoder = {.activation = TABLES_SILU, .half = 1, .fused_qkv = 1, .fused_gate_up = 1};
    int code = decoder_read(source, "phi3", context, &decoder, list->arena, error);
    if (code != BULLA_OK)
        return code;
    int64_t window = 0;
    if (decoder_integer(source, "phi3", "attention.sliding_window", "sliding_window", 0, 1 << 30, &window, error) == 1)
        decoder.window = (uint32_t)window;
    return error->code ? error->code : decoder_emit(source, &decoder, list, error);
}

const struct architecture architecture_phi3 = {
    .name = "phi3",
    .gguf_names = (const char *const[]){"phi3", NULL},
    .model_types = (const char *const[]){"phi3", NULL},
    .emit = emit,
};
