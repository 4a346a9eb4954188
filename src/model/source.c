#include "model/source.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "model/gguf.h"
#include "model/safetensors.h"
#include "model/source_format.h"

int source_check_name(const char *name, size_t length, size_t limit, const char *what, bulla_error *error)
{
    if (length < 1 || length > limit)
        return bulla_fail(error, BULLA_E_INPUT, "%s of %zu bytes; 1 to %zu are expected", what, length, limit);
    size_t valid = utf8_check(name, length);
    if (valid < length)
        return bulla_fail(error, BULLA_E_INPUT, "%s is not UTF-8 at byte %zu of %zu", what, valid, length);
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7F)
            return bulla_fail(error, BULLA_E_INPUT, "%s has a control character (0x%02X) at byte %zu", what, name[i], i);
    return BULLA_OK;
}

int source_index_tensors(struct source *source, bulla_error *error)
{
    int code = BULLA_OK;
    for (size_t i = 0; i < source->tensor_count && code == BULLA_OK; i++) {
        const char *name = source->tensors[i].name;
        size_t other;
        if (name_table_find(&source->names, name, strlen(name), &other))
            return bulla_fail(error, BULLA_E_INPUT, "tensor %s is there twice", name);
        code = name_table_add(&source->names, name, strlen(name), i, error);
    }
    return code;
}

void source_set_rows(struct source_tensor *tensor, uint64_t values)
{
    tensor->columns = tensor->shape[tensor->dimensions - 1];
    tensor->rows = 1;
    for (int i = 0; i < tensor->dimensions - 1; i++) /* cannot overflow unless the tensor is empty */
        tensor->rows = values == 0 ? 0 : tensor->rows * tensor->shape[i];
}

static int has_suffix(const char *text, const char *suffix)
{
    size_t length = strlen(text), wanted = strlen(suffix);
    return length >= wanted && strcmp(text + length - wanted, suffix) == 0;
}

static int open_file(struct source *source, bulla_error *error)
{
    struct file_map map;
    if (has_suffix(source->path, ".index.json"))
        return safetensors_open_index(source, error);
    int code = file_map_open(source->path, &map, error);
    if (code != BULLA_OK)
        return code;
    if (gguf_has_magic(map.data, map.length)) {
        code = gguf_open(source, &map, 0, error);
        return code == BULLA_OK ? BULLA_OK : bulla_fail_prefix(error, "%s", source->path);
    }
    if (has_suffix(source->path, ".safetensors"))
        return safetensors_open_file(source, &map, error);
    file_map_close(&map);
    return bulla_fail(error, BULLA_E_INPUT,
                      "%s: not a model: it does not start with GGUF, and its name does not end in .safetensors or "
                      ".index.json",
                      source->path);
}

static int open_path(struct source *source, const char *path, bulla_error *error)
{
    enum file_kind kind;
    source->path = arena_copy_text(&source->arena, path, strlen(path), error);
    if (!source->path || file_find_kind(path, &kind, error) != BULLA_OK)
        return error->code;
    if (kind == FILE_REGULAR)
        return open_file(source, error);
    if (kind == FILE_FOLDER)
        return safetensors_open_folder(source, error);
    return bulla_fail(error, BULLA_E_INPUT, "%s: %s", path,
                      kind == FILE_ABSENT ? "no such file or folder" : "neither a file nor a folder");
}

/* Hands the source out, or ends it and passes its error on. */
static int finish_open(struct source *opened, const bulla_error *own, struct source **source, bulla_error *error)
{
    if (own->code != BULLA_OK) {
        source_close(opened);
        return bulla_fail(error, own->code, "%s", own->text);
    }
    *source = opened;
    return BULLA_OK;
}

int source_open(const char *path, struct source **source, bulla_error *error)
{
    bulla_error own = {0};
    *source = NULL;
    struct source *opened = memory_alloc(1, sizeof *opened, &own);
    if (opened)
        open_path(opened, path, &own);
    return finish_open(opened, &own, source, error);
}

int source_open_bytes(enum source_kind kind, const void *data, size_t length, const void *config, size_t config_length,
                      struct source **source, bulla_error *error)
{
    bulla_error own = {0};
    *source = NULL;
    struct file_map map = {.data = data, .length = length};
    struct source *opened = memory_alloc(1, sizeof *opened, &own);
    if (opened)
        opened->path = arena_copy_text(&opened->arena, "(memory)", 8, &own);
    if (own.code == BULLA_OK && kind == SOURCE_GGUF)
        gguf_open(opened, &map, 1, &own);
    else if (own.code == BULLA_OK)
        safetensors_open_bytes(opened, &map, config, config_length, &own);
    return finish_open(opened, &own, source, error);
}

void source_close(struct source *source)
{
    if (!source)
        return;
    if (source->format)
        source->format->close(source);
    name_table_free(&source->names);
    arena_free(&source->arena);
    memory_free(source);
}

enum source_kind source_kind(const struct source *source)
{
    return source->format->kind;
}

const char *source_path(const struct source *source)
{
    return source->path;
}

int source_digest(const struct source *source, uint8_t digest[32], bulla_error *error)
{
    return source->format->digest(source, digest, error);
}

size_t source_tensor_count(const struct source *source)
{
    return source->tensor_count;
}

const struct source_tensor *source_tensor_at(const struct source *source, size_t index)
{
    return index < source->tensor_count ? &source->tensors[index] : NULL;
}

const struct source_tensor *source_tensor_find(const struct source *source, const char *name)
{
    size_t index;
    return name_table_find(&source->names, name, strlen(name), &index) ? &source->tensors[index] : NULL;
}

int source_tensor_read(const struct source *source, const struct source_tensor *tensor, uint64_t first_row,
                       uint64_t count, float *values, bulla_error *error)
{
    if (first_row > tensor->rows || count > tensor->rows - first_row)
        return bulla_fail(error, BULLA_E_USAGE, "%s: tensor %s: %llu rows from %llu asked for, of %llu", source->path,
                          tensor->name, (unsigned long long)count, (unsigned long long)first_row,
                          (unsigned long long)tensor->rows);
    if (count == 0 || tensor->columns == 0)
        return BULLA_OK;
    bulla_error own = {0};
    if (source->format->read(source, tensor, first_row, count, values, &own) == BULLA_OK)
        return BULLA_OK;
    return bulla_fail(error, own.code, "%s: tensor %s: %s", source->path, tensor->name, own.text);
}

void source_tensor_release(const struct source *source, const struct source_tensor *tensor)
{
    source->format->release(source, tensor);
}

/* Settings. The getters return 1, 0 or -1, as source.h says. */

static int fail_setting(const struct source *source, const char *key, const bulla_error *own, bulla_error *error)
{
    bulla_fail(error, own->code, "%s: %s: %s", source->path, key, own->text);
    return -1;
}

static int find_setting(const struct source *source, const char *key, struct setting *setting, bulla_error *error)
{
    bulla_error own = {0};
    if (source->format->setting(source, key, setting, &own) != BULLA_OK)
        return fail_setting(source, key, &own, error);
    return setting->type != SETTING_ABSENT;
}

static int wrong_type(const struct source *source, const char *key, const struct setting *setting,
                      const char *expected, bulla_error *error)
{
    bulla_fail(error, BULLA_E_INPUT, "%s: %s is %s; %s was expected", source->path, key, setting->type_name, expected);
    return -1;
}

int source_get_integer(const struct source *source, const char *key, int64_t low, int64_t high, int64_t *value,
                       bulla_error *error)
{
    struct setting setting;
    int found = find_setting(source, key, &setting, error);
    if (found != 1)
        return found;
    if (setting.type != SETTING_INTEGER)
        return wrong_type(source, key, &setting, "an integer", error);
    if (setting.integer < low || setting.integer > high) {
        bulla_fail(error, BULLA_E_INPUT, "%s: %s is %lld; %lld to %lld was expected", source->path, key,
                   (long long)setting.integer, (long long)low, (long long)high);
        return -1;
    }
    *value = setting.integer;
    return 1;
}

/* 1 with the finite number that the setting is, -1 otherwise. */
static int take_real(const struct source *source, const char *key, const struct setting *setting, double *value,
                     bulla_error *error)
{
    if (setting->type != SETTING_INTEGER && setting->type != SETTING_REAL)
        return wrong_type(source, key, setting, "a number", error);
    *value = setting->type == SETTING_INTEGER ? (double)setting->integer : setting->real;
    if (isfinite(*value))
        return 1;
    bulla_fail(error, BULLA_E_INPUT, "%s: %s is %s; a finite number was expected", source->path, key,
               isnan(*value) ? "NaN" : "infinite");
    return -1;
}

int source_get_real(const struct source *source, const char *key, double *value, bulla_error *error)
{
    struct setting setting;
    int found = find_setting(source, key, &setting, error);
    return found == 1 ? take_real(source, key, &setting, value, error) : found;
}

int source_get_bool(const struct source *source, const char *key, int *value, bulla_error *error)
{
    struct setting setting;
    int found = find_setting(source, key, &setting, error);
    if (found != 1)
        return found;
    if (setting.type != SETTING_BOOL)
        return wrong_type(source, key, &setting, "a bool", error);
    *value = (int)setting.integer;
    return 1;
}

int source_get_text(const struct source *source, const char *key, const char **text, size_t *length,
                    bulla_error *error)
{
    struct setting setting;
    int found = find_setting(source, key, &setting, error);
    if (found != 1)
        return found;
    if (setting.type != SETTING_TEXT)
        return wrong_type(source, key, &setting, "a string", error);
    *text = setting.text;
    *length = setting.length;
    return 1;
}

int source_get_array(const struct source *source, const char *key, uint64_t *count, bulla_error *error)
{
    struct setting setting;
    int found = find_setting(source, key, &setting, error);
    if (found != 1)
        return found;
    if (setting.type != SETTING_ARRAY)
        return wrong_type(source, key, &setting, "an array", error);
    *count = setting.count;
    return 1;
}

/* An element, and its name for sentences ("KEY[5]") in `name`. */
static int find_element(const struct source *source, const char *key, uint64_t index, struct setting *setting,
                        char name[256], bulla_error *error)
{
    uint64_t count;
    int found = source_get_array(source, key, &count, error);
    if (found != 1)
        return found;
    snprintf(name, 256, "%s[%llu]", key, (unsigned long long)index);
    if (index >= count) {
        bulla_fail(error, BULLA_E_USAGE, "%s: %s asked for, of %llu elements", source->path, name,
                   (unsigned long long)count);
        return -1;
    }
    bulla_error own = {0};
    if (source->format->element(source, key, index, setting, &own) != BULLA_OK)
        return fail_setting(source, name, &own, error);
    return setting->type != SETTING_ABSENT;
}

int source_get_array_integer(const struct source *source, const char *key, uint64_t index, int64_t *value,
                             bulla_error *error)
{
    struct setting setting;
    char name[256];
    int found = find_element(source, key, index, &setting, name, error);
    if (found != 1)
        return found;
    if (setting.type != SETTING_INTEGER && setting.type != SETTING_BOOL)
        return wrong_type(source, name, &setting, "an integer", error);
    *value = setting.integer;
    return 1;
}

int source_get_array_real(const struct source *source, const char *key, uint64_t index, double *value,
                          bulla_error *error)
{
    struct setting setting;
    char name[256];
    int found = find_element(source, key, index, &setting, name, error);
    return found == 1 ? take_real(source, name, &setting, value, error) : found;
}

int source_get_array_text(const struct source *source, const char *key, uint64_t index, const char **text,
                          size_t *length, bulla_error *error)
{
    struct setting setting;
    char name[256];
    int found = find_element(source, key, index, &setting, name, error);
    if (found != 1)
        return found;
    if (setting.type != SETTING_TEXT)
        return wrong_type(source, name, &setting, "a string", error);
    *text = setting.text;
    *length = setting.length;
    return 1;
}

const struct json *source_json(const struct source *source, const char *file_name)
{
    return source->format->json(source, file_name);
}

int source_side_file(const struct source *source, const char *file_name, const uint8_t **data, size_t *length,
                     bulla_error *error)
{
    return source->format->side_file(source, file_name, data, length, error);
}
