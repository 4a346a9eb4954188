#include "serve/models.h"

#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"

/* `head` is what others see; the texts that it points at are the entry's own. */
struct entry {
    struct served_model head;
    struct entry *next;
};

struct models {
    struct entry *first, **last; /* served, in the order they were added */
    struct entry *removed;       /* answers of theirs are still under way */
    size_t count;
};

int models_open(struct models **models, bulla_error *error)
{
    *models = memory_alloc(1, sizeof **models, error);
    if (!*models)
        return BULLA_E_MEMORY;
    (*models)->last = &(*models)->first;
    return BULLA_OK;
}

static void free_entry(struct entry *entry)
{
    memory_free((char *)(uintptr_t)entry->head.name);
    for (size_t i = 0; i < entry->head.alias_count; i++)
        memory_free((char *)(uintptr_t)entry->head.aliases[i]);
    memory_free(entry);
}

static void close_backend(struct backend *backend)
{
    if (backend)
        backend->class->close(backend);
}

static void close_entries(struct entry *entry)
{
    while (entry) {
        struct entry *next = entry->next;
        close_backend(entry->head.backend);
        free_entry(entry);
        entry = next;
    }
}

void models_close(struct models *models)
{
    if (!models)
        return;
    /* A backend that closes fails its answers, which come back here through models_end: that only counts. */
    close_entries(models->first);
    close_entries(models->removed);
    memory_free(models);
}

static int is_called(const struct served_model *model, const char *name)
{
    if (strcmp(model->name, name) == 0)
        return 1;
    for (size_t i = 0; i < model->alias_count; i++)
        if (strcmp(model->aliases[i], name) == 0)
            return 1;
    return 0;
}

struct served_model *models_find(struct models *models, const char *name)
{
    if (!name || !name[0])
        return models->count == 1 ? &models->first->head : NULL;
    for (struct entry *entry = models->first; entry; entry = entry->next)
        if (is_called(&entry->head, name))
            return &entry->head;
    return NULL;
}

struct served_model *models_at(struct models *models, size_t number)
{
    struct entry *entry = models->first;
    while (entry && number-- > 0)
        entry = entry->next;
    return entry ? &entry->head : NULL;
}

void models_root(const struct served_model *model, uint8_t root[32])
{
    struct backend_info info = {0};
    model->backend->class->describe(model->backend, &info);
    if (!info.model_root || !hex_decode(info.model_root, strlen(info.model_root), root, 32))
        memset(root, 0, 32);
}

size_t models_roots(struct models *models, uint8_t (*roots)[32], size_t most)
{
    size_t count = 0;
    for (int is_removed = 0; is_removed <= 1; is_removed++)
        for (struct entry *entry = is_removed ? models->removed : models->first; entry && count < most; entry = entry->next)
            models_root(&entry->head, roots[count++]);
    return count;
}

/* BULLA_E_USAGE where a name of `model` is empty, is another model's, or comes twice in it. */
static int check_names(struct models *models, const struct served_model *model, bulla_error *error)
{
    if (model->alias_count > MODEL_MOST_ALIASES)
        return bulla_fail(error, BULLA_E_USAGE, "the model has %zu aliases; at most %d are possible",
                          model->alias_count, MODEL_MOST_ALIASES);
    for (size_t i = 0; i <= model->alias_count; i++) {
        const char *name = i == 0 ? model->name : model->aliases[i - 1];
        if (!name || !name[0])
            return bulla_fail(error, BULLA_E_USAGE, "a model's %s is empty", i == 0 ? "name" : "alias");
        const struct served_model *other = models_find(models, name);
        if (other)
            return bulla_fail(error, BULLA_E_USAGE, "the name \"%s\" is taken: model \"%s\" has it", name, other->name);
        for (size_t j = 0; j < i; j++)
            if (strcmp(name, j == 0 ? model->name : model->aliases[j - 1]) == 0)
                return bulla_fail(error, BULLA_E_USAGE, "the name \"%s\" comes twice for one model", name);
    }
    return BULLA_OK;
}

/* A copy of `model` with texts of its own; NULL with the error recorded. */
static struct entry *copy_model(const struct served_model *model, bulla_error *error)
{
    struct entry *entry = memory_alloc(1, sizeof *entry, error);
    if (!entry)
        return NULL;
    entry->head = *model;
    entry->head.alias_count = 0;
    entry->head.busy = 0;
    entry->head.is_removed = 0;
    entry->head.name = memory_copy_text(model->name, strlen(model->name), error);
    int is_whole = entry->head.name != NULL;
    for (size_t i = 0; is_whole && i < model->alias_count; i++) {
        entry->head.aliases[i] = memory_copy_text(model->aliases[i], strlen(model->aliases[i]), error);
        is_whole = entry->head.aliases[i] != NULL;
        entry->head.alias_count += (size_t)is_whole;
    }
    if (is_whole)
        return entry;
    free_entry(entry);
    return NULL;
}

int models_add(struct models *models, const struct served_model *model, bulla_error *error)
{
    bulla_error own = {0};
    struct entry *entry = NULL;
    if (check_names(models, model, &own) == BULLA_OK)
        entry = copy_model(model, &own);
    if (!entry) {
        close_backend(model->backend);
        return bulla_fail(error, own.code, "%s", own.text);
    }
    *models->last = entry;
    models->last = &entry->next;
    models->count++;
    return BULLA_OK;
}

int models_remove(struct models *models, const char *name, bulla_error *error)
{
    struct entry **link = &models->first;
    while (*link && !(name && name[0] && is_called(&(*link)->head, name)))
        link = &(*link)->next;
    struct entry *entry = *link;
    if (!entry)
        return bulla_fail(error, BULLA_E_USAGE, "there is no model \"%s\"", name ? name : "");
    *link = entry->next;
    if (models->last == &entry->next)
        models->last = link;
    models->count--;
    entry->head.is_removed = 1;
    entry->next = models->removed;
    models->removed = entry;
    models_sweep(models);
    return BULLA_OK;
}

void models_begin(struct served_model *model)
{
    model->busy++;
}

void models_end(struct models *models, struct served_model *model)
{
    (void)models;
    if (model->busy > 0)
        model->busy--;
}

void models_sweep(struct models *models)
{
    struct entry **link = &models->removed;
    while (*link) {
        struct entry *entry = *link;
        if (entry->head.busy > 0) {
            link = &entry->next;
            continue;
        }
        *link = entry->next;
        close_backend(entry->head.backend);
        free_entry(entry);
    }
}
