#include "model/safetensors_header.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/source_format.h"

struct number_type {
    const char *name;
    unsigned bits;
};

/* Dtype of the safetensors crate. Those that dequantize.h knows by name can be
 * read; the others are listed only. */
static const struct number_type number_types[] = {
    {"F32", 32},    {"F16", 16},    {"BF16", 16},   {"F64", 64}, {"BOOL", 8}, {"U8", 8},   {"I8", 8},
    {"U16", 16},    {"I16", 16},    {"U32", 32},    {"I32", 32}, {"U64", 64}, {"I64", 64}, {"C64", 64},
    {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F4", 4},   {"F6_E2M3", 6}, {"F6_E3M2", 6},
    {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8},
};

static int fail_entry(const char *name, bulla_error *error, const char *problem)
{
    return bulla_fail(error, BULLA_E_INPUT, "tensor %s: %s", name, problem);
}

static int read_shape(struct stored_tensor *tensor, const struct json *entry, uint64_t *values, bulla_error *error)
{
    const struct json *shape = json_get(entry, "shape");
    if (!json_is(shape, JSON_ARRAY))
        return fail_entry(tensor->name, error, "its shape is no array");
    if (shape->length > SOURCE_MAX_DIMENSIONS)
        return bulla_fail(error, BULLA_E_UNSUPPORTED, "tensor %s: %zu dimensions; up to %d are read", tensor->name,
                          shape->length, SOURCE_MAX_DIMENSIONS);
    *values = 1;
    tensor->dimensions = (int)shape->length;
    for (size_t i = 0; i < shape->length; i++) {
        const struct json *size = shape->items[i];
        if (!json_is(size, JSON_NUMBER) || !size->is_integer || size->integer < 0)
            return fail_entry(tensor->name, error, "its shape holds something else than integers from 0 up");
        tensor->shape[i] = (uint64_t)size->integer;
        if (__builtin_mul_overflow(*values, tensor->shape[i], values))
            return fail_entry(tensor->name, error, "its dimensions multiply to more than any file can hold");
    }
    return BULLA_OK;
}

/* Bytes begin and end relative to the data section, which has `room` bytes. */
static int read_offsets(struct stored_tensor *tensor, const struct json *entry, uint64_t room, bulla_error *error)
{
    const struct json *offsets = json_get(entry, "data_offsets");
    if (!json_is(offsets, JSON_ARRAY) || offsets->length != 2)
        return fail_entry(tensor->name, error, "its data_offsets are no array of two");
    for (int i = 0; i < 2; i++)
        if (!json_is(offsets->items[i], JSON_NUMBER) || !offsets->items[i]->is_integer ||
            offsets->items[i]->integer < 0)
            return fail_entry(tensor->name, error, "its data_offsets hold something else than integers from 0 up");
    uint64_t begin = (uint64_t)offsets->items[0]->integer, end = (uint64_t)offsets->items[1]->integer;
    if (begin > end || end > room)
        return bulla_fail(error, BULLA_E_INPUT,
                          "tensor %s: data_offsets %llu to %llu, where the file has %llu bytes of tensor data; it is cut "
                          "short or not valid",
                          tensor->name, (unsigned long long)begin, (unsigned long long)end, (unsigned long long)room);
    tensor->begin = begin;
    tensor->bytes = end - begin;
    return BULLA_OK;
}

static int read_type(struct stored_tensor *tensor, const struct json *entry, unsigned *bits, bulla_error *error)
{
    const struct json *type = json_get(entry, "dtype");
    if (!json_is(type, JSON_STRING))
        return fail_entry(tensor->name, error, "its dtype is no string");
    for (size_t i = 0; i < sizeof number_types / sizeof number_types[0]; i++) {
        if (strcmp(number_types[i].name, type->text) == 0) {
            tensor->type_name = number_types[i].name;
            *bits = number_types[i].bits;
            return BULLA_OK;
        }
    }
    return bulla_fail(error, BULLA_E_UNSUPPORTED, "tensor %s: dtype %s is not known", tensor->name, type->text);
}

static int read_entry(struct stored_tensor *tensor, const struct json *entry, uint64_t room, bulla_error *error)
{
    uint64_t values = 0, bits;
    unsigned bits_each = 0;
    if (!json_is(entry, JSON_OBJECT))
        return fail_entry(tensor->name, error, "its entry is no object");
    int code = read_type(tensor, entry, &bits_each, error);
    if (code == BULLA_OK)
        code = read_shape(tensor, entry, &values, error);
    if (code == BULLA_OK)
        code = read_offsets(tensor, entry, room, error);
    if (code != BULLA_OK)
        return code;
    if (__builtin_mul_overflow(values, bits_each, &bits) || bits % 8 || bits / 8 != tensor->bytes)
        return bulla_fail(error, BULLA_E_INPUT, "tensor %s: %llu values of %s do not fill its %llu bytes", tensor->name,
                          (unsigned long long)values, tensor->type_name, (unsigned long long)tensor->bytes);
    return BULLA_OK;
}

static int compare_begins(const void *left, const void *right)
{
    const struct stored_tensor *a = left, *b = right;
    if (a->begin != b->begin)
        return a->begin < b->begin ? -1 : 1;
    return (a->bytes > b->bytes) - (a->bytes < b->bytes); /* empty ones come before what starts there too */
}

/* The shard's tensors must cover its data. */
static int check_cover(struct stored_tensor *tensors, size_t count, uint64_t room, bulla_error *error)
{
    uint64_t end = 0;
    qsort(tensors, count, sizeof *tensors, compare_begins);
    for (size_t i = 0; i < count; i++) {
        if (tensors[i].begin != end)
            return bulla_fail(error, BULLA_E_INPUT, "tensor %s starts at byte %llu of the data, where byte %llu is the "
                              "next: tensors %s",
                              tensors[i].name, (unsigned long long)tensors[i].begin, (unsigned long long)end,
                              tensors[i].begin < end ? "overlap" : "leave a gap");
        end += tensors[i].bytes;
    }
    if (end != room)
        return bulla_fail(error, BULLA_E_INPUT, "its tensors end after %llu bytes of data, the file after %llu",
                          (unsigned long long)end, (unsigned long long)room);
    return BULLA_OK;
}

/* Room for `more` tensors at the end of the list. */
static int reserve(struct stored_tensors *tensors, size_t more, bulla_error *error)
{
    if (more > SAFETENSORS_MAX_TENSORS - tensors->count)
        return bulla_fail(error, BULLA_E_LIMIT, "more than %d tensors", SAFETENSORS_MAX_TENSORS);
    if (tensors->items && tensors->count + more <= tensors->capacity)
        return BULLA_OK;
    size_t capacity = tensors->count + more + tensors->capacity / 2;
    struct stored_tensor *grown = memory_resize(tensors->items, capacity, sizeof *grown, error);
    if (!grown)
        return BULLA_E_MEMORY;
    tensors->items = grown;
    tensors->capacity = capacity;
    return BULLA_OK;
}

/* Drops, from tensor `first` on, what the index puts elsewhere or does not know. */
static void keep_indexed(struct stored_tensors *tensors, size_t first, const struct shard_content *content)
{
    size_t kept = first;
    for (size_t i = first; i < tensors->count; i++) {
        const struct json *place = json_get(content->weight_map, tensors->items[i].name);
        if (json_is_text(place, content->name))
            tensors->items[kept++] = tensors->items[i];
    }
    tensors->count = kept;
}

static int read_entries(struct stored_tensors *tensors, const struct shard_content *content,
                        const struct json *header, uint64_t data_start, struct arena *names, bulla_error *error)
{
    uint64_t room = content->length - data_start;
    size_t first = tensors->count;
    int code = reserve(tensors, header->length, error);
    for (size_t i = 0; i < header->length && code == BULLA_OK; i++) {
        const char *name = header->keys[i];
        if (strcmp(name, "__metadata__") == 0)
            continue;
        code = source_check_name(name, header->key_lengths[i], SAFETENSORS_MAX_NAME_BYTES, "a tensor's name", error);
        if (code != BULLA_OK)
            break;
        struct stored_tensor *tensor = &tensors->items[tensors->count++];
        *tensor = (struct stored_tensor){.shard = content->shard};
        tensor->name = arena_copy_text(names, name, strlen(name), error);
        code = tensor->name ? read_entry(tensor, header->items[i], room, error) : BULLA_E_MEMORY;
    }
    if (code == BULLA_OK)
        code = check_cover(tensors->items + first, tensors->count - first, room, error);
    for (size_t i = first; i < tensors->count; i++)
        tensors->items[i].begin += data_start;
    if (content->weight_map)
        keep_indexed(tensors, first, content);
    return code;
}

int stored_tensors_read(struct stored_tensors *tensors, const struct shard_content *content, struct arena *names,
                        bulla_error *error)
{
    struct reader reader = reader_over(content->data, content->length);
    uint64_t length = reader_u64(&reader);
    if (reader.failed)
        return bulla_fail(error, BULLA_E_INPUT, "the file has %zu bytes; safetensors start with 8 that give the "
                          "header's length",
                          content->length);
    if (length > SAFETENSORS_MAX_HEADER_BYTES)
        return bulla_fail(error, BULLA_E_LIMIT, "its header's length is %llu bytes; up to %d are read (is it really a "
                          "safetensors file?)",
                          (unsigned long long)length, SAFETENSORS_MAX_HEADER_BYTES);
    const char *text = (const char *)reader_bytes(&reader, length);
    if (!text)
        return bulla_fail(error, BULLA_E_INPUT, "its header's length is %llu bytes, the file has %zu; it is cut short "
                          "or not valid",
                          (unsigned long long)length, content->length);
    if (length < 2 || text[0] != '{')
        return bulla_fail(error, BULLA_E_INPUT, "its header does not start with {");
    struct arena arena = {.limit = SAFETENSORS_MAX_PARSED_BYTES};
    const struct json *header = json_parse(text, (size_t)length, "header", &arena, error);
    int code = header ? read_entries(tensors, content, header, 8 + length, names, error) : BULLA_E_INPUT;
    arena_free(&arena);
    return code;
}
