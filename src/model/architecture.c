#include "model/architecture.h"

#include <string.h>

#include "base/memory.h"

static const struct architecture *const architectures[] = {
    &architecture_llama, &architecture_qwen2, &architecture_qwen3, &architecture_gemma2, &architecture_gemma3,
    &architecture_phi3,
};
enum { ARCHITECTURES = sizeof architectures / sizeof architectures[0] };

static int listed(const char *const *names, const char *name)
{
    for (; *names; names++)
        if (strcmp(*names, name) == 0)
            return 1;
    return 0;
}

int architecture_emit(const struct source *source, uint64_t context, struct draft_list *list, bulla_error *error)
{
    int gguf = source_kind(source) == SOURCE_GGUF;
    const char *key = gguf ? "general.architecture" : "model_type", *name;
    size_t length;
    int found = source_get_text(source, key, &name, &length, error);
    if (found < 0)
        return error->code;
    if (found == 0)
        return bulla_fail(error, BULLA_E_INPUT, "%s: %s is missing, so the architecture is unknown", source_path(source), key);
    for (int i = 0; i < ARCHITECTURES; i++)
        if (listed(gguf ? architectures[i]->gguf_names : architectures[i]->model_types, name)) {
            list->family = architectures[i]->name;
            return architectures[i]->emit(source, context, list, error);
        }
    return bulla_fail(error, BULLA_E_UNSUPPORTED, "%s: %s is \"%.80s\"; supported are llama (Llama 2 and 3, Mistral, SmolLM), "
                      "qwen2, qwen3, gemma2, gemma3 (text) and phi3", source_path(source), key, name);
}

struct draft *draft_add(struct draft_list *list, int kind, uint32_t layer, bulla_error *error)
{
    if (list->count == list->capacity) {
        uint32_t capacity = list->capacity ? 2 * list->capacity : 256;
        struct draft *grown = arena_alloc(list->arena, capacity, sizeof *grown, error);
        if (!grown)
            return NULL;
        if (list->count)
            memcpy(grown, list->drafts, list->count * sizeof *grown);
        list->drafts = grown;
        list->capacity = capacity;
    }
    struct draft *draft = &list->drafts[list->count++];
    memset(draft, 0, sizeof *draft);
    draft->operation.kind = (uint16_t)kind;
    draft->operation.layer = (uint16_t)layer;
    draft->factor = 1;
    memset(draft->operation.inputs, 0xFF, sizeof draft->operation.inputs);
    memset(draft->operation.tensors, 0xFF, sizeof draft->operation.tensors);
    return draft;
}
