#include "serve/dispute_text.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "serve/auditor.h"
#include "serve/dispute_part.h"

struct model {
    struct dispute_part part;    /* of a referee */
    struct step_program program;
    struct auditor *auditor;
};

struct dispute_text {
    int wants_sets;
    size_t count;
    struct model models[];
};

static int open_text(size_t count, struct dispute_text **text, bulla_error *error)
{
    *text = memory_alloc(1, sizeof **text + count * sizeof (*text)->models[0], error);
    return *text ? BULLA_OK : BULLA_E_MEMORY;
}

static int open_part(const char *path, struct model *model, bulla_error *error)
{
    char name[40];
    int descriptor;
    int code = dispute_part_open(path, &model->part, error);
    if (code == BULLA_OK)
        code = dispute_part_model(&model->part, &descriptor, error);
    if (code != BULLA_OK)
        return code;
    snprintf(name, sizeof name, "/proc/self/fd/%d", descriptor);
    const struct native_replay_options options = {.path = name, .walks = 1};
    code = auditor_open(&options, &model->auditor, error);
    close(descriptor);
    model->program = model->part.program;
    return code == BULLA_OK ? code : bulla_fail_prefix(error, "%s", path);
}

int dispute_text_open(const char *const *parts, size_t count, struct dispute_text **text, bulla_error *error)
{
    int code = open_text(count, text, error);
    for (size_t i = 0; code == BULLA_OK && i < count; i++, (*text)->count++)
        code = open_part(parts[i], &(*text)->models[i], error);
    if (code != BULLA_OK && *text) {
        (*text)->count = count;
        dispute_text_close(*text);
        *text = NULL;
    }
    return code;
}

int dispute_text_open_model(const char *path, struct dispute_text **text, bulla_error *error)
{
    const struct native_replay_options options = {.path = path, .walks = 1};
    int code = open_text(1, text, error);
    if (code != BULLA_OK)
        return code;
    struct model *model = &(*text)->models[0];
    (*text)->count = (*text)->wants_sets = 1;
    code = auditor_open(&options, &model->auditor, error);
    if (code != BULLA_OK) {
        dispute_text_close(*text);
        *text = NULL;
        return code;
    }
    model->program.program = *bulla_model_program(auditor_model(model->auditor));
    const bulla_tensor *last = &model->program.program.tensors[model->program.program.tensor_count - 1];
    model->program.region_length = last->offset + last->bytes;
    memcpy(model->program.model_root, auditor_model_root(model->auditor), MERKLE_HASH);
    return BULLA_OK;
}

void dispute_text_close(struct dispute_text *text)
{
    if (!text)
        return;
    for (size_t i = 0; i < text->count; i++) {
        auditor_close(text->models[i].auditor);
        dispute_part_close(&text->models[i].part);
    }
    memory_free(text);
}

/* Whose model the receipt names, if that is one of these; else any, which will refuse it. */
static const struct model *find_model(const struct dispute_text *text, const char *document, size_t length)
{
    struct arena arena = {0};
    uint8_t root[MERKLE_HASH] = {0};
    const struct json *receipt = json_get(json_get(json_parse(document, length, "", &arena, NULL), "signed"), "receipt");
    int is_there = dispute_get_hash(receipt, "model_root", root);
    arena_free(&arena);
    for (size_t i = 0; is_there && i < text->count; i++)
        if (memcmp(text->models[i].program.model_root, root, MERKLE_HASH) == 0)
            return &text->models[i];
    return text->count ? &text->models[0] : NULL;
}

static int read_document(void *context, const char *document, size_t length, struct referee_receipt *receipt, bulla_error *error)
{
    const struct model *model = find_model(context, document, length);
    struct arena arena = {0};
    struct claim claim;
    if (!model)
        return bulla_fail(error, BULLA_E_UNSUPPORTED, "there is no model's program to decide by");
    int code = auditor_read(model->auditor, document, length, &arena, &claim, error);
    if (code == BULLA_OK) {
        *receipt = (struct referee_receipt){.choices = (uint32_t)claim.receipt.choice_count};
        memcpy(receipt->key, claim.receipt.key, RECEIPT_KEY);
        memcpy(receipt->id, claim.receipt.id, RECEIPT_ID);
        code = receipt_hash(json_get(json_parse(document, length, "", &arena, error), "signed"), receipt->hash, error);
    }
    arena_free(&arena);
    return code;
}

static int derive(void *context, const char *document, size_t length, uint32_t choice, struct arena *arena,
                  struct dispute_facts *given, bulla_error *error)
{
    const struct dispute_text *text = context;
    const struct model *model = find_model(text, document, length);
    int code = auditor_derive(model->auditor, document, length, choice, text->wants_sets, arena, given, error);
    given->program = &model->program;
    return code;
}

struct referee_text dispute_text_table(struct dispute_text *text)
{
    return (struct referee_text){text, read_document, derive};
}
