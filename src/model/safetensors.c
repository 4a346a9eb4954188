#include "model/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/awq_gptq.h"
#include "model/dequantize.h"
#include "model/safetensors_header.h"
#include "model/side_files.h"

static const size_t INDEX_LIMIT = 64 << 20;

struct shard {
    struct file_map map;
    int borrowed;
    const char *name; /* without folder */
};

/* What is behind a source_tensor. */
struct shown_tensor {
    const struct stored_tensor *stored; /* of packed: qweight */
    int packed;
    struct packed_matrix matrix; /* where packed */
};

struct safetensors {
    struct side_files side;
    struct shard *shards; /* in order of name */
    size_t shard_count;
    struct stored_tensors stored; /* in order of name once all are there */
    struct packing packing;
};

/* What a source shows. */

static int compare_stored_names(const void *left, const void *right)
{
    const struct stored_tensor *a = left, *b = right;
    return strcmp(a->name, b->name);
}

/* The stored tensor whose name is the first `length` bytes of `base`, then `suffix`. */
static const struct stored_tensor *find_stored(const struct safetensors *model, const char *base, size_t length,
                                               const char *suffix)
{
    char name[SAFETENSORS_MAX_NAME_BYTES + 16];
    if (length + strlen(suffix) >= sizeof name)
        return NULL;
    memcpy(name, base, length);
    memcpy(name + length, suffix, strlen(suffix) + 1);
    struct stored_tensor key = {.name = name};
    return bsearch(&key, model->stored.items, model->stored.count, sizeof key, compare_stored_names);
}

/* The length of NAME where `name` is NAME followed by `suffix`, else 0. */
static size_t base_length(const char *name, const char *suffix)
{
    size_t length = strlen(name), end = strlen(suffix);
    return length > end && strcmp(name + length - end, suffix) == 0 ? length - end : 0;
}

/* Whether this is a companion of some NAME.qweight, shown only as part of it. */
static int is_companion(const struct safetensors *model, const char *name)
{
    static const char *const suffixes[] = {".qzeros", ".scales", ".g_idx"};
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        size_t length = base_length(name, suffixes[i]);
        if (length > 0)
            return find_stored(model, name, length, ".qweight") != NULL;
    }
    return 0;
}

static const uint8_t *stored_data(const struct safetensors *model, const struct stored_tensor *stored)
{
    return model->shards[stored->shard].map.data + stored->begin;
}

static struct packed_part part_of(const struct safetensors *model, const struct stored_tensor *stored)
{
    struct packed_part part = {0};
    if (stored)
        part = (struct packed_part){.type_name = stored->type_name,
                                    .dimensions = stored->dimensions,
                                    .shape = {stored->shape[0], stored->shape[1]},
                                    .data = stored_data(model, stored)};
    return part;
}

static int show_packed(struct source *source, const struct stored_tensor *stored, size_t length,
                       struct source_tensor *tensor, struct shown_tensor *shown, bulla_error *error)
{
    const struct safetensors *model = source->model;
    char *name = arena_alloc(&source->arena, length + sizeof ".weight", 1, error);
    if (!name)
        return BULLA_E_MEMORY;
    memcpy(name, stored->name, length);
    memcpy(name + length, ".weight", sizeof ".weight");
    struct packed_part weights = part_of(model, stored);
    struct packed_part zeros = part_of(model, find_stored(model, stored->name, length, ".qzeros"));
    struct packed_part scales = part_of(model, find_stored(model, stored->name, length, ".scales"));
    struct packed_part indices = part_of(model, find_stored(model, stored->name, length, ".g_idx"));
    shown->packed = 1;
    tensor->name = name;
    tensor->type_name = packing_type_name(model->packing.layout);
    if (packed_matrix_open(&model->packing, &weights, &zeros, &scales, &indices, &shown->matrix, error) != BULLA_OK)
        return bulla_fail_prefix(error, "tensor %s", name);
    tensor->dimensions = 2;
    tensor->shape[0] = shown->matrix.outputs;
    tensor->shape[1] = shown->matrix.inputs;
    source_set_rows(tensor, 1);
    return BULLA_OK;
}

static void show_plain(const struct stored_tensor *stored, struct source_tensor *tensor)
{
    tensor->name = stored->name;
    tensor->type_name = stored->type_name;
    tensor->dimensions = stored->dimensions ? stored->dimensions : 1; /* a scalar is a vector of one */
    memcpy(tensor->shape, stored->shape, sizeof tensor->shape);
    if (stored->dimensions == 0)
        tensor->shape[0] = 1;
    source_set_rows(tensor, stored->bytes);
}

static int compare_names(const void *left, const void *right)
{
    const struct source_tensor *a = left, *b = right;
    return strcmp(a->name, b->name);
}

static int show_tensors(struct source *source, bulla_error *error)
{
    struct safetensors *model = source->model;
    source->tensors = arena_alloc(&source->arena, model->stored.count, sizeof *source->tensors, error);
    struct shown_tensor *shown = arena_alloc(&source->arena, model->stored.count, sizeof *shown, error);
    if (!source->tensors || !shown)
        return BULLA_E_MEMORY;
    for (size_t i = 0; i < model->stored.count; i++) {
        const struct stored_tensor *stored = &model->stored.items[i];
        struct source_tensor *tensor = &source->tensors[source->tensor_count];
        size_t length = base_length(stored->name, ".qweight");
        if (is_companion(model, stored->name))
            continue;
        shown->stored = stored;
        tensor->private_data = shown++;
        if (length == 0)
            show_plain(stored, tensor);
        else if (show_packed(source, stored, length, tensor, shown - 1, error) != BULLA_OK)
            return BULLA_E_INPUT;
        source->tensor_count++;
    }
    qsort(source->tensors, source->tensor_count, sizeof *source->tensors, compare_names);
    return source_index_tensors(source, error);
}

/* Every tensor of the index must have been in the shard that it names. */
static int check_index(const struct safetensors *model, const struct json *weight_map, bulla_error *error)
{
    for (size_t i = 0; i < weight_map->length; i++) {
        const char *name = weight_map->keys[i];
        if (!find_stored(model, name, strlen(name), ""))
            return bulla_fail(error, BULLA_E_INPUT, "tensor %s: the index says that it is in %s, but it is not there",
                              name, weight_map->items[i]->text);
    }
    return BULLA_OK;
}

static int read_shard(struct source *source, size_t index, const struct json *weight_map, bulla_error *error)
{
    struct safetensors *model = source->model;
    const struct shard *shard = &model->shards[index];
    struct shard_content content = {.data = shard->map.data,
                                    .length = shard->map.length,
                                    .shard = index,
                                    .name = shard->name,
                                    .weight_map = weight_map};
    return stored_tensors_read(&model->stored, &content, &source->arena, error);
}

/* From maps to tensors. `weight_map` is NULL where there is no index. */
static int read_shards(struct source *source, const char *folder, const struct json *weight_map, bulla_error *error)
{
    struct safetensors *model = source->model;
    int code = packing_parse(side_files_json(&model->side, "config.json"), &model->packing, error);
    if (code != BULLA_OK)
        return bulla_fail_prefix(error, "%s/config.json", folder);
    for (size_t i = 0; i < model->shard_count; i++)
        if (read_shard(source, i, weight_map, error) != BULLA_OK)
            return bulla_fail_prefix(error, "%s/%s", folder, model->shards[i].name);
    if (model->stored.count > 0)
        qsort(model->stored.items, model->stored.count, sizeof *model->stored.items, compare_stored_names);
    code = weight_map ? check_index(model, weight_map, error) : BULLA_OK;
    if (code == BULLA_OK)
        code = show_tensors(source, error);
    return code == BULLA_OK ? BULLA_OK : bulla_fail_prefix(error, "%s", source->path);
}

/* The format's functions. */

static void close_safetensors(struct source *source)
{
    struct safetensors *model = source->model;
    for (size_t i = 0; i < model->shard_count; i++)
        if (!model->shards[i].borrowed)
            file_map_close(&model->shards[i].map);
    side_files_close(&model->side);
    memory_free(model->stored.items);
}

static int digest_safetensors(const struct source *source, uint8_t digest[32], bulla_error *error)
{
    const struct safetensors *model = source->model;
    struct hash_stream *stream = hash_stream_open(error);
    if (!stream)
        return BULLA_E_MEMORY;
    side_files_hash(&model->side, stream);
    for (size_t i = 0; i < model->shard_count; i++)
        side_files_hash_one(stream, model->shards[i].name, model->shards[i].map.data, model->shards[i].map.length);
    int code = hash_stream_finish(stream, digest, error);
    hash_stream_close(stream);
    return code;
}

static int read_rows(const struct source *source, const struct source_tensor *tensor, uint64_t first_row,
                     uint64_t count, float *values, bulla_error *error)
{
    const struct safetensors *model = source->model;
    const struct shown_tensor *shown = tensor->private_data;
    if (shown->packed) {
        packed_matrix_read(&shown->matrix, first_row, count, values);
        return BULLA_OK;
    }
    const struct number_format *format = number_format_find_name(tensor->type_name);
    if (!format || !format->dequantize)
        return bulla_fail(error, BULLA_E_UNSUPPORTED, "numbers of type %s are not read; F32, F16, BF16 and 4-bit GPTQ "
                          "and AWQ are",
                          tensor->type_name);
    uint64_t first = first_row * tensor->columns * format->bytes_per_block;
    format->dequantize(stored_data(model, shown->stored) + first, count * tensor->columns, values);
    return BULLA_OK;
}

static void release_tensor(const struct source *source, const struct source_tensor *tensor)
{
    const struct safetensors *model = source->model;
    const struct stored_tensor *stored = ((const struct shown_tensor *)tensor->private_data)->stored;
    const struct shard *shard = &model->shards[stored->shard];
    if (!shard->borrowed)
        file_map_release(&shard->map, (size_t)stored->begin, (size_t)stored->bytes);
}

static const struct json *find_json(const struct source *source, const char *file_name)
{
    return side_files_json(&((const struct safetensors *)source->model)->side, file_name);
}

static int find_setting(const struct source *source, const char *key, struct setting *setting, bulla_error *error)
{
    return side_files_setting(find_json(source, "config.json"), key, setting, error);
}

static int find_element(const struct source *source, const char *key, uint64_t index, struct setting *setting,
                        bulla_error *error)
{
    return side_files_element(find_json(source, "config.json"), key, index, setting, error);
}

static int find_side_file(const struct source *source, const char *file_name, const uint8_t **data, size_t *length,
                          bulla_error *error)
{
    const struct safetensors *model = source->model;
    return side_files_bytes(&model->side, file_name, data, length, error);
}

static const struct source_format safetensors_format = {
    .kind = SOURCE_SAFETENSORS,
    .close = close_safetensors,
    .digest = digest_safetensors,
    .read = read_rows,
    .release = release_tensor,
    .setting = find_setting,
    .element = find_element,
    .json = find_json,
    .side_file = find_side_file,
};

/* Opening. */

static struct safetensors *begin(struct source *source, bulla_error *error)
{
    struct safetensors *model = arena_alloc(&source->arena, 1, sizeof *model, error);
    source->model = model;
    source->format = model ? &safetensors_format : NULL;
    return model;
}

static int add_shards(struct source *source, size_t count, bulla_error *error)
{
    struct safetensors *model = source->model;
    model->shards = arena_alloc(&source->arena, count, sizeof *model->shards, error);
    return model->shards ? BULLA_OK : BULLA_E_MEMORY;
}

static int add_one_shard(struct source *source, const struct file_map *map, const char *name, int borrowed,
                         bulla_error *error)
{
    struct safetensors *model = source->model;
    int code = add_shards(source, 1, error);
    if (code != BULLA_OK)
        return code;
    model->shards[0] = (struct shard){.map = *map, .borrowed = borrowed, .name = name};
    model->shard_count = 1;
    return BULLA_OK;
}

/* FOLDER/NAME in the source's arena. */
static char *join(struct source *source, const char *folder, const char *name, bulla_error *error)
{
    size_t length = strlen(folder) + 1 + strlen(name);
    char *path = arena_alloc(&source->arena, length + 1, 1, error);
    if (path) {
        memcpy(path, folder, strlen(folder));
        path[strlen(folder)] = '/';
        memcpy(path + strlen(folder) + 1, name, strlen(name));
    }
    return path;
}

/* The folder that a path's file is in. */
static char *folder_of(struct source *source, const char *path, bulla_error *error)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return arena_copy_text(&source->arena, ".", 1, error);
    return arena_copy_text(&source->arena, path, slash == path ? 1 : (size_t)(slash - path), error);
}

static const char *file_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* With the shards mapped: what is beside them, and what is in them. */
static int open_rest(struct source *source, const char *folder, const struct json *weight_map, bulla_error *error)
{
    struct safetensors *model = source->model;
    int code = side_files_open(&model->side, folder, error);
    return code == BULLA_OK ? read_shards(source, folder, weight_map, error) : code;
}

int safetensors_open_file(struct source *source, const struct file_map *map, bulla_error *error)
{
    struct file_map own = *map;
    if (!begin(source, error) || add_one_shard(source, map, file_of(source->path), 0, error) != BULLA_OK) {
        file_map_close(&own);
        return BULLA_E_MEMORY;
    }
    char *folder = folder_of(source, source->path, error);
    return folder ? open_rest(source, folder, NULL, error) : BULLA_E_MEMORY;
}

int safetensors_open_bytes(struct source *source, const struct file_map *map, const void *config,
                           size_t config_length, bulla_error *error)
{
    struct safetensors *model = begin(source, error);
    if (!model)
        return BULLA_E_MEMORY;
    int code = add_one_shard(source, map, "model.safetensors", 1, error);
    if (code == BULLA_OK && config)
        code = side_files_set_config(&model->side, config, config_length, error);
    return code == BULLA_OK ? read_shards(source, source->path, NULL, error) : code;
}

/* A shard's name comes from a file: it must not lead out of the folder. */
static int check_shard_name(const char *tensor, const struct json *name, bulla_error *error)
{
    if (!json_is(name, JSON_STRING))
        return bulla_fail(error, BULLA_E_INPUT, "weight_map has no file name for tensor %s", tensor);
    size_t end = strlen(name->text), suffix = strlen(".safetensors");
    if (end != name->length || strchr(name->text, '/') || name->text[0] == '.' || end <= suffix || end > 255 ||
        strcmp(name->text + end - suffix, ".safetensors") != 0)
        return bulla_fail(error, BULLA_E_INPUT, "weight_map puts tensor %s into %s; the name of a .safetensors file in "
                          "the same folder was expected",
                          tensor, name->text);
    return BULLA_OK;
}

static int compare_shards(const void *left, const void *right)
{
    const struct shard *a = left, *b = right;
    return strcmp(a->name, b->name);
}

/* The shards that the index names, once each, in order of name. */
static int list_shards(struct source *source, const struct json *weight_map, bulla_error *error)
{
    struct safetensors *model = source->model;
    struct name_table names = {0};
    size_t most = weight_map->length < SAFETENSORS_MAX_SHARDS ? weight_map->length : SAFETENSORS_MAX_SHARDS, other;
    int code = add_shards(source, most, error);
    for (size_t i = 0; i < weight_map->length && code == BULLA_OK; i++) {
        const struct json *name = weight_map->items[i];
        code = check_shard_name(weight_map->keys[i], name, error);
        if (code != BULLA_OK || name_table_find(&names, name->text, name->length, &other))
            continue;
        if (model->shard_count == most)
            code = bulla_fail(error, BULLA_E_LIMIT, "weight_map names more than %zu files", most);
        else
            code = name_table_add(&names, name->text, name->length, model->shard_count, error);
        const char *copy = code ? NULL : arena_copy_text(&source->arena, name->text, name->length, error);
        if (copy)
            model->shards[model->shard_count++].name = copy;
        else if (code == BULLA_OK)
            code = BULLA_E_MEMORY;
    }
    name_table_free(&names);
    if (code == BULLA_OK && model->shard_count > 0)
        qsort(model->shards, model->shard_count, sizeof *model->shards, compare_shards);
    return code;
}

static int open_shards(struct source *source, const char *folder, bulla_error *error)
{
    struct safetensors *model = source->model;
    int code = BULLA_OK;
    for (size_t i = 0; i < model->shard_count && code == BULLA_OK; i++) {
        const char *path = join(source, folder, model->shards[i].name, error);
        code = path ? file_map_open(path, &model->shards[i].map, error) : BULLA_E_MEMORY;
    }
    return code;
}

/* The index: {"metadata": ..., "weight_map": {tensor: file, ...}}. */
static int open_indexed(struct source *source, const char *index_path, bulla_error *error)
{
    struct arena arena = {.limit = SAFETENSORS_MAX_PARSED_BYTES};
    uint8_t *text;
    size_t length;
    int code = file_read(index_path, INDEX_LIMIT, &text, &length, error);
    if (code != BULLA_OK)
        return code;
    const struct json *index = json_parse((const char *)text, length, index_path, &arena, error);
    const struct json *weight_map = json_get(index, "weight_map");
    char *folder = folder_of(source, index_path, error);
    memory_free(text);
    if (!index || !folder)
        code = BULLA_E_INPUT;
    else if (!json_is(weight_map, JSON_OBJECT) || weight_map->length == 0)
        code = bulla_fail(error, BULLA_E_INPUT, "%s: it has no weight_map with tensors", index_path);
    else if ((code = list_shards(source, weight_map, error)) != BULLA_OK)
        bulla_fail_prefix(error, "%s", index_path);
    if (code == BULLA_OK)
        code = open_shards(source, folder, error);
    if (code == BULLA_OK)
        code = open_rest(source, folder, weight_map, error);
    arena_free(&arena);
    return code;
}

int safetensors_open_index(struct source *source, bulla_error *error)
{
    return begin(source, error) ? open_indexed(source, source->path, error) : BULLA_E_MEMORY;
}

static int open_whole(struct source *source, const char *path, bulla_error *error)
{
    struct file_map map;
    int code = file_map_open(path, &map, error);
    if (code != BULLA_OK)
        return code;
    code = add_one_shard(source, &map, "model.safetensors", 0, error);
    if (code != BULLA_OK) {
        file_map_close(&map);
        return code;
    }
    return open_rest(source, source->path, NULL, error);
}

int safetensors_open_folder(struct source *source, bulla_error *error)
{
    enum file_kind kind;
    if (!begin(source, error))
        return BULLA_E_MEMORY;
    char *whole = join(source, source->path, "model.safetensors", error);
    char *index = join(source, source->path, "model.safetensors.index.json", error);
    if (!whole || !index)
        return BULLA_E_MEMORY;
    int code = file_find_kind(whole, &kind, error);
    if (code == BULLA_OK && kind != FILE_ABSENT)
        return open_whole(source, whole, error);
    if (code == BULLA_OK)
        code = file_find_kind(index, &kind, error);
    if (code == BULLA_OK && kind != FILE_ABSENT)
        return open_indexed(source, index, error);
    return code == BULLA_OK ? bulla_fail(error, BULLA_E_INPUT,
                                         "%s: this folder has neither model.safetensors nor model.safetensors.index.json; "
                                         "a model is such a folder or a GGUF file",
                                         source->path)
                            : code;
}
