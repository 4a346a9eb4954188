#include "model/gguf.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "model/dequantize.h"

enum { HEADER_BYTES = 24, DEFAULT_ALIGNMENT = 32, MIN_KEY_BYTES = 13, MIN_TENSOR_BYTES = 33 };

/* gguf_metadata_value_type */
enum value_type {
    VALUE_U8,
    VALUE_I8,
    VALUE_U16,
    VALUE_I16,
    VALUE_U32,
    VALUE_I32,
    VALUE_F32,
    VALUE_BOOL,
    VALUE_STRING,
    VALUE_ARRAY,
    VALUE_U64,
    VALUE_I64,
    VALUE_F64,
    VALUE_TYPES
};

static const struct {
    unsigned bytes; /* of a scalar; 0 for strings and arrays */
    const char *name, *array_name;
} value_types[VALUE_TYPES] = {
    {1, "a u8", "an array of u8"},
    {1, "an i8", "an array of i8"},
    {2, "a u16", "an array of u16"},
    {2, "an i16", "an array of i16"},
    {4, "a u32", "an array of u32"},
    {4, "an i32", "an array of i32"},
    {4, "an f32", "an array of f32"},
    {1, "a bool", "an array of bool"},
    {0, "a string", "an array of string"},
    {0, "an array", "an array of arrays"},
    {8, "a u64", "an array of u64"},
    {8, "an i64", "an array of i64"},
    {8, "an f64", "an array of f64"},
};

/* One key and its value. Strings are copied, each with a NUL behind it: the file
 * has none. */
struct metadata {
    const char *key; /* in the file */
    size_t key_length;
    uint32_t type;
    uint32_t element_type; /* of an array */
    uint64_t count;        /* of an array */
    const uint8_t *data;   /* a scalar's bytes or an array's elements, in the file */
    const char *texts;     /* the string, or all strings of an array one after another */
    uint32_t *ends;        /* array: where each string's NUL is in `texts` */
    size_t length;         /* of a string */
};

struct gguf_tensor {
    const struct number_format *format;
    uint64_t offset; /* from the start of the file */
    uint64_t bytes;
};

struct gguf {
    struct file_map map;
    int borrowed;
    struct reader reader; /* while the header is read */
    struct metadata *metadata;
    size_t metadata_count;
    struct name_table keys;
    struct gguf_tensor *tensors;
    uint64_t alignment;
};

int gguf_has_magic(const uint8_t *data, size_t length)
{
    return length >= 4 && (memcmp(data, "GGUF", 4) == 0 || memcmp(data, "FUGG", 4) == 0);
}

/* Every failed read of the header ends here. */
static int fail_short(const struct gguf *gguf, const char *what, bulla_error *error)
{
    if (gguf->map.length > gguf->reader.length)
        return bulla_fail(error, BULLA_E_LIMIT, "the header goes on beyond %d bytes, the most that is read of one (%s)",
                          GGUF_MAX_HEADER_BYTES, what);
    return bulla_fail(error, BULLA_E_INPUT, "the file ends after %zu bytes, within %s; it is cut short or not valid",
                      gguf->map.length, what);
}

/* A u64 length and as many bytes, in place; NULL with the error recorded. */
static const char *read_string(struct gguf *gguf, size_t *length, const char *what, bulla_error *error)
{
    uint64_t bytes = reader_u64(&gguf->reader);
    size_t left = reader_left(&gguf->reader);
    if (!gguf->reader.failed && bytes > left && gguf->map.length == gguf->reader.length) {
        bulla_fail(error, BULLA_E_INPUT, "%s: a string of %llu bytes at byte %zu, where %zu are left in the file", what,
                   (unsigned long long)bytes, gguf->reader.offset, left);
        return NULL;
    }
    const uint8_t *text = reader_bytes(&gguf->reader, bytes);
    if (gguf->reader.failed) {
        fail_short(gguf, what, error);
        return NULL;
    }
    *length = (size_t)bytes;
    return (const char *)text;
}

/* Room for `sizes` strings, then the strings: two walks over the same bytes. */
static int read_string_array(struct source *source, struct metadata *metadata, bulla_error *error)
{
    struct gguf *gguf = source->model;
    struct reader start = gguf->reader;
    size_t length, total = 0;
    metadata->ends = arena_alloc(&source->arena, (size_t)metadata->count, sizeof *metadata->ends, error);
    if (!metadata->ends)
        return BULLA_E_MEMORY;
    for (uint64_t i = 0; i < metadata->count; i++) {
        if (!read_string(gguf, &length, "an array of strings", error))
            return BULLA_E_INPUT;
        total += length; /* below GGUF_MAX_HEADER_BYTES with the NULs: each has a u64 in the file */
        metadata->ends[i] = (uint32_t)(total + i);
    }
    char *texts = arena_alloc(&source->arena, total + (size_t)metadata->count, 1, error);
    if (!texts)
        return BULLA_E_MEMORY;
    metadata->texts = texts;
    gguf->reader = start;
    for (uint64_t i = 0; i < metadata->count; i++) {
        const char *text = read_string(gguf, &length, "an array of strings", error);
        memcpy(texts, text, length);
        texts += length + 1; /* the arena's bytes are zero */
    }
    return BULLA_OK;
}

static int read_array(struct source *source, struct metadata *metadata, bulla_error *error)
{
    struct gguf *gguf = source->model;
    metadata->element_type = reader_u32(&gguf->reader);
    metadata->count = reader_u64(&gguf->reader);
    if (gguf->reader.failed)
        return fail_short(gguf, "an array", error);
    if (metadata->element_type >= VALUE_TYPES)
        return bulla_fail(error, BULLA_E_INPUT, "an array of type %u: types are 0 to %d", metadata->element_type,
                          VALUE_TYPES - 1);
    if (metadata->element_type == VALUE_ARRAY)
        return bulla_fail(error, BULLA_E_UNSUPPORTED, "an array of arrays, which no known model has");
    unsigned bytes = metadata->element_type == VALUE_STRING ? 8 : value_types[metadata->element_type].bytes;
    size_t left = reader_left(&gguf->reader);
    if (metadata->count > left / bytes) {
        if (gguf->map.length > gguf->reader.length)
            return fail_short(gguf, "an array", error);
        return bulla_fail(error, BULLA_E_INPUT, "%s with %llu elements, where %zu bytes are left in the file",
                          value_types[metadata->element_type].array_name, (unsigned long long)metadata->count, left);
    }
    if (metadata->element_type == VALUE_STRING)
        return read_string_array(source, metadata, error);
    metadata->data = reader_bytes(&gguf->reader, metadata->count * bytes);
    return BULLA_OK;
}

static int read_value(struct source *source, struct metadata *metadata, bulla_error *error)
{
    struct gguf *gguf = source->model;
    if (metadata->type >= VALUE_TYPES)
        return bulla_fail(error, BULLA_E_INPUT, "a value of type %u: types are 0 to %d", metadata->type,
                          VALUE_TYPES - 1);
    if (metadata->type == VALUE_ARRAY)
        return read_array(source, metadata, error);
    if (metadata->type == VALUE_STRING) {
        const char *text = read_string(gguf, &metadata->length, "a string", error);
        metadata->texts = text ? arena_copy_text(&source->arena, text, metadata->length, error) : NULL;
        return metadata->texts ? BULLA_OK : BULLA_E_INPUT;
    }
    metadata->data = reader_bytes(&gguf->reader, value_types[metadata->type].bytes);
    if (!metadata->data)
        return fail_short(gguf, "a value", error);
    if (metadata->type == VALUE_BOOL && metadata->data[0] > 1)
        return bulla_fail(error, BULLA_E_INPUT, "a bool of value %d: it is 0 or 1", metadata->data[0]);
    return BULLA_OK;
}

static int read_key(struct source *source, struct metadata *metadata, bulla_error *error)
{
    struct gguf *gguf = source->model;
    size_t other;
    metadata->key = read_string(gguf, &metadata->key_length, "a key", error);
    if (!metadata->key)
        return BULLA_E_INPUT;
    int code = source_check_name(metadata->key, metadata->key_length, GGUF_MAX_NAME_BYTES, "a key", error);
    if (code != BULLA_OK)
        return code;
    if (name_table_find(&gguf->keys, metadata->key, metadata->key_length, &other))
        return bulla_fail(error, BULLA_E_INPUT, "key %.*s is there twice", (int)metadata->key_length, metadata->key);
    metadata->type = reader_u32(&gguf->reader);
    if (gguf->reader.failed)
        return fail_short(gguf, "a key", error);
    code = read_value(source, metadata, error);
    return code == BULLA_OK ? BULLA_OK
                            : bulla_fail_prefix(error, "key %.*s", (int)metadata->key_length, metadata->key);
}

static int read_metadata(struct source *source, uint64_t count, bulla_error *error)
{
    struct gguf *gguf = source->model;
    if (count > reader_left(&gguf->reader) / MIN_KEY_BYTES)
        return bulla_fail(error, BULLA_E_INPUT, "metadata_kv_count is %llu, more than the file's %zu bytes can hold",
                          (unsigned long long)count, gguf->map.length);
    if (count > GGUF_MAX_KEYS)
        return bulla_fail(error, BULLA_E_LIMIT, "metadata_kv_count is %llu; up to %d keys are read",
                          (unsigned long long)count, GGUF_MAX_KEYS);
    gguf->metadata = arena_alloc(&source->arena, (size_t)count, sizeof *gguf->metadata, error);
    int code = gguf->metadata ? BULLA_OK : BULLA_E_MEMORY;
    for (; code == BULLA_OK && gguf->metadata_count < count; gguf->metadata_count++) {
        struct metadata *metadata = &gguf->metadata[gguf->metadata_count];
        code = read_key(source, metadata, error);
        if (code == BULLA_OK)
            code = name_table_add(&gguf->keys, metadata->key, metadata->key_length, gguf->metadata_count, error);
        if (code != BULLA_OK)
            bulla_fail_prefix(error, "metadata %zu of %llu", gguf->metadata_count + 1, (unsigned long long)count);
    }
    return code;
}

static const struct metadata *find_metadata(const struct gguf *gguf, const char *key)
{
    size_t index;
    return name_table_find(&gguf->keys, key, strlen(key), &index) ? &gguf->metadata[index] : NULL;
}

static int read_alignment(struct gguf *gguf, bulla_error *error)
{
    const struct metadata *metadata = find_metadata(gguf, "general.alignment");
    gguf->alignment = DEFAULT_ALIGNMENT;
    if (!metadata)
        return BULLA_OK;
    if (metadata->type != VALUE_U32)
        return bulla_fail(error, BULLA_E_INPUT, "general.alignment is %s; it must be a u32",
                          value_types[metadata->type].name);
    struct reader reader = reader_over(metadata->data, 4);
    gguf->alignment = reader_u32(&reader);
    if (gguf->alignment == 0 || (gguf->alignment & (gguf->alignment - 1)) || gguf->alignment > GGUF_MAX_ALIGNMENT)
        return bulla_fail(error, BULLA_E_INPUT, "general.alignment is %llu; it must be a power of two up to %d",
                          (unsigned long long)gguf->alignment, GGUF_MAX_ALIGNMENT);
    return BULLA_OK;
}

/* A split file has only a part of the tensors. */
static int refuse_split(struct source *source, bulla_error *error)
{
    struct setting setting;
    int code = source->format->setting(source, "split.count", &setting, error);
    if (code == BULLA_OK && setting.type == SETTING_INTEGER && setting.integer > 1)
        return bulla_fail(error, BULLA_E_UNSUPPORTED,
                          "split.count is %lld: this is one part of a split model; merge the parts first "
                          "(llama-gguf-split --merge)",
                          (long long)setting.integer);
    return code;
}

/* The tensor's format and bytes from its type and shape. */
static int size_tensor(struct source_tensor *tensor, struct gguf_tensor *own, uint32_t type, bulla_error *error)
{
    uint64_t values = 1;
    own->format = number_format_find(type);
    if (!own->format)
        return bulla_fail(error, BULLA_E_UNSUPPORTED, "number format %u is not known; formats that are read: %s", type,
                          number_formats_read);
    if (!own->format->dequantize)
        return bulla_fail(error, BULLA_E_UNSUPPORTED, "number format %s is not read; formats that are: %s",
                          own->format->name, number_formats_read);
    for (int i = 0; i < tensor->dimensions; i++) {
        if (tensor->shape[i] == 0)
            return bulla_fail(error, BULLA_E_INPUT, "dimension %d is 0", tensor->dimensions - 1 - i);
        if (__builtin_mul_overflow(values, tensor->shape[i], &values) || values > INT64_MAX / 8)
            return bulla_fail(error, BULLA_E_INPUT, "its dimensions multiply to more than any file can hold");
    }
    source_set_rows(tensor, values);
    if (tensor->columns % own->format->values_per_block)
        return bulla_fail(error, BULLA_E_INPUT, "rows of %llu values are no whole number of %s blocks of %u",
                          (unsigned long long)tensor->columns, own->format->name, own->format->values_per_block);
    own->bytes = values / own->format->values_per_block * own->format->bytes_per_block;
    tensor->type_name = own->format->name;
    return BULLA_OK;
}

/* One tensor's entry, past its name. The offset is still relative to the data. */
static int read_tensor(struct gguf *gguf, struct source_tensor *tensor, struct gguf_tensor *own, bulla_error *error)
{
    uint32_t dimensions = reader_u32(&gguf->reader);
    if (gguf->reader.failed)
        return fail_short(gguf, "a tensor's entry", error);
    if (dimensions < 1 || dimensions > SOURCE_MAX_DIMENSIONS)
        return bulla_fail(error, BULLA_E_INPUT, "%u dimensions; tensors have 1 to %d", dimensions,
                          SOURCE_MAX_DIMENSIONS);
    tensor->dimensions = (int)dimensions;
    for (int i = tensor->dimensions - 1; i >= 0; i--) /* the file has the innermost first */
        tensor->shape[i] = reader_u64(&gguf->reader);
    uint32_t type = reader_u32(&gguf->reader);
    own->offset = reader_u64(&gguf->reader);
    if (gguf->reader.failed)
        return fail_short(gguf, "a tensor's entry", error);
    tensor->private_data = own;
    int code = size_tensor(tensor, own, type, error);
    if (code == BULLA_OK && own->offset % gguf->alignment)
        return bulla_fail(error, BULLA_E_INPUT, "its offset %llu is no multiple of the alignment %llu",
                          (unsigned long long)own->offset, (unsigned long long)gguf->alignment);
    return code;
}

static int read_tensors(struct source *source, uint64_t count, bulla_error *error)
{
    struct gguf *gguf = source->model;
    if (count > reader_left(&gguf->reader) / MIN_TENSOR_BYTES)
        return bulla_fail(error, BULLA_E_INPUT, "tensor_count is %llu, more than the file's %zu bytes can hold",
                          (unsigned long long)count, gguf->map.length);
    if (count > GGUF_MAX_TENSORS)
        return bulla_fail(error, BULLA_E_LIMIT, "tensor_count is %llu; up to %d tensors are read",
                          (unsigned long long)count, GGUF_MAX_TENSORS);
    source->tensors = arena_alloc(&source->arena, (size_t)count, sizeof *source->tensors, error);
    gguf->tensors = arena_alloc(&source->arena, (size_t)count, sizeof *gguf->tensors, error);
    if (!source->tensors || !gguf->tensors)
        return BULLA_E_MEMORY;
    for (uint64_t i = 0; i < count; i++) {
        size_t length;
        struct source_tensor *tensor = &source->tensors[i];
        const char *name = read_string(gguf, &length, "a tensor's name", error);
        int code = name ? source_check_name(name, length, GGUF_MAX_NAME_BYTES, "a tensor's name", error) : BULLA_E_INPUT;
        if (code != BULLA_OK) {
            bulla_fail_prefix(error, "tensor %llu of %llu", (unsigned long long)i + 1, (unsigned long long)count);
            return code;
        }
        tensor->name = arena_copy_text(&source->arena, name, length, error);
        if (!tensor->name)
            return BULLA_E_MEMORY;
        code = read_tensor(gguf, tensor, &gguf->tensors[i], error);
        if (code != BULLA_OK)
            return bulla_fail_prefix(error, "tensor %s", tensor->name);
    }
    source->tensor_count = (size_t)count;
    return BULLA_OK;
}

static int compare_offsets(const void *left, const void *right)
{
    const struct gguf_tensor *a = (*(const struct source_tensor *const *)left)->private_data;
    const struct gguf_tensor *b = (*(const struct source_tensor *const *)right)->private_data;
    return (a->offset > b->offset) - (a->offset < b->offset);
}

/* In order of offset, no tensor may start before the end of the one before. */
static int refuse_overlaps(struct source *source, bulla_error *error)
{
    const struct source_tensor **order = memory_alloc(source->tensor_count, sizeof *order, error);
    if (!order)
        return BULLA_E_MEMORY;
    for (size_t i = 0; i < source->tensor_count; i++)
        order[i] = &source->tensors[i];
    qsort(order, source->tensor_count, sizeof *order, compare_offsets);
    int code = BULLA_OK;
    for (size_t i = 1; i < source->tensor_count && code == BULLA_OK; i++) {
        const struct gguf_tensor *before = order[i - 1]->private_data, *own = order[i]->private_data;
        if (own->offset < before->offset + before->bytes)
            code = bulla_fail(error, BULLA_E_INPUT, "tensors %s and %s overlap: bytes %llu to %llu and from %llu",
                              order[i - 1]->name, order[i]->name, (unsigned long long)before->offset,
                              (unsigned long long)(before->offset + before->bytes), (unsigned long long)own->offset);
    }
    memory_free(order);
    return code;
}

/* Offsets become those of the file, and each tensor's bytes must be in it. */
static int place_tensors(struct source *source, bulla_error *error)
{
    struct gguf *gguf = source->model;
    uint64_t start = (gguf->reader.offset + gguf->alignment - 1) / gguf->alignment * gguf->alignment;
    uint64_t room = gguf->map.length > start ? gguf->map.length - start : 0;
    for (size_t i = 0; i < source->tensor_count; i++) {
        struct gguf_tensor *own = &gguf->tensors[i];
        if (own->offset > room || own->bytes > room - own->offset)
            return bulla_fail(error, BULLA_E_INPUT,
                              "tensor %s: its %llu bytes at offset %llu go beyond the %llu bytes of tensor data in the "
                              "file; it is cut short or not valid",
                              source->tensors[i].name, (unsigned long long)own->bytes, (unsigned long long)own->offset,
                              (unsigned long long)room);
        own->offset += start;
    }
    return refuse_overlaps(source, error);
}

static int read_version(struct gguf *gguf, bulla_error *error)
{
    const uint8_t *magic = reader_bytes(&gguf->reader, 4);
    uint32_t version = reader_u32(&gguf->reader);
    if (memcmp(magic, "FUGG", 4) == 0 || (version != 0 && version % 65536 == 0))
        return bulla_fail(error, BULLA_E_UNSUPPORTED,
                          "a big-endian GGUF file; only little-endian ones are read: convert it (gguf-convert-endian)");
    if (version != 2 && version != 3)
        return bulla_fail(error, BULLA_E_UNSUPPORTED, "GGUF version %u; versions 2 and 3 are read", version);
    return BULLA_OK;
}

static int read_header(struct source *source, bulla_error *error)
{
    struct gguf *gguf = source->model;
    if (!gguf_has_magic(gguf->map.data, gguf->map.length))
        return bulla_fail(error, BULLA_E_INPUT, "does not start with GGUF");
    if (gguf->map.length < HEADER_BYTES)
        return bulla_fail(error, BULLA_E_INPUT, "the file has %zu bytes; a GGUF header has %d or more",
                          gguf->map.length, HEADER_BYTES);
    size_t length = gguf->map.length;
    gguf->reader = reader_over(gguf->map.data, length < GGUF_MAX_HEADER_BYTES ? length : GGUF_MAX_HEADER_BYTES);
    int code = read_version(gguf, error);
    uint64_t tensor_count = reader_u64(&gguf->reader), key_count = reader_u64(&gguf->reader);
    if (code == BULLA_OK)
        code = read_metadata(source, key_count, error);
    if (code == BULLA_OK)
        code = read_alignment(gguf, error);
    if (code == BULLA_OK)
        code = refuse_split(source, error);
    if (code == BULLA_OK)
        code = read_tensors(source, tensor_count, error);
    if (code == BULLA_OK)
        code = source_index_tensors(source, error);
    return code == BULLA_OK ? place_tensors(source, error) : code;
}

static void close_gguf(struct source *source)
{
    struct gguf *gguf = source->model;
    name_table_free(&gguf->keys);
    if (!gguf->borrowed)
        file_map_close(&gguf->map);
}

static int digest_gguf(const struct source *source, uint8_t digest[32], bulla_error *error)
{
    const struct gguf *gguf = source->model;
    return hash_sha256(gguf->map.data, gguf->map.length, digest, error);
}

static int read_rows(const struct source *source, const struct source_tensor *tensor, uint64_t first_row,
                     uint64_t count, float *values, bulla_error *error)
{
    const struct gguf *gguf = source->model;
    const struct gguf_tensor *own = tensor->private_data;
    uint64_t blocks_per_row = tensor->columns / own->format->values_per_block;
    const uint8_t *data = gguf->map.data + own->offset + first_row * blocks_per_row * own->format->bytes_per_block;
    own->format->dequantize(data, count * blocks_per_row, values);
    return BULLA_OK;
}

static void release_tensor(const struct source *source, const struct source_tensor *tensor)
{
    const struct gguf *gguf = source->model;
    const struct gguf_tensor *own = tensor->private_data;
    if (!gguf->borrowed)
        file_map_release(&gguf->map, (size_t)own->offset, (size_t)own->bytes);
}

/* Text is checked where it is asked for: a vocabulary may hold what nobody reads. */
static int set_text(struct setting *setting, const char *text, size_t length, bulla_error *error)
{
    size_t valid = utf8_check(text, length);
    const char *nul = memchr(text, 0, length);
    if (valid < length)
        return bulla_fail(error, BULLA_E_INPUT, "its text is not UTF-8 at byte %zu of %zu", valid, length);
    if (nul)
        return bulla_fail(error, BULLA_E_INPUT, "its text has a NUL at byte %zu of %zu", (size_t)(nul - text), length);
    setting->type = SETTING_TEXT;
    setting->text = text;
    setting->length = length;
    return BULLA_OK;
}

static void set_unsigned(struct setting *setting, uint64_t value)
{
    setting->type = value > INT64_MAX ? SETTING_REAL : SETTING_INTEGER;
    setting->integer = (int64_t)value;
    setting->real = (double)value;
    if (value > INT64_MAX)
        setting->type_name = "a u64 above 2^63 - 1";
}

static void set_signed(struct setting *setting, int64_t value)
{
    setting->type = SETTING_INTEGER;
    setting->integer = value;
    setting->real = (double)value;
}

/* A bool in an array may be any byte: array contents are not looked at earlier. */
static int set_bool(struct setting *setting, uint8_t value, bulla_error *error)
{
    if (value > 1)
        return bulla_fail(error, BULLA_E_INPUT, "a bool of value %d: it is 0 or 1", value);
    setting->type = SETTING_BOOL;
    setting->integer = value;
    return BULLA_OK;
}

static void set_real(struct setting *setting, uint32_t type, uint64_t bits)
{
    uint32_t low = (uint32_t)bits;
    float single;
    memcpy(&single, &low, sizeof single);
    memcpy(&setting->real, &bits, sizeof setting->real);
    if (type == VALUE_F32)
        setting->real = single;
    setting->type = SETTING_REAL;
}

static int set_scalar(struct setting *setting, uint32_t type, const uint8_t *data, bulla_error *error)
{
    uint64_t raw = 0;
    for (unsigned i = 0; i < value_types[type].bytes; i++)
        raw |= (uint64_t)data[i] << 8 * i;
    switch (type) {
    case VALUE_I8:
        set_signed(setting, (int8_t)raw);
        return BULLA_OK;
    case VALUE_I16:
        set_signed(setting, (int16_t)raw);
        return BULLA_OK;
    case VALUE_I32:
        set_signed(setting, (int32_t)raw);
        return BULLA_OK;
    case VALUE_I64:
        set_signed(setting, (int64_t)raw);
        return BULLA_OK;
    case VALUE_BOOL:
        return set_bool(setting, (uint8_t)raw, error);
    case VALUE_F32:
    case VALUE_F64:
        set_real(setting, type, raw);
        return BULLA_OK;
    default:
        set_unsigned(setting, raw);
        return BULLA_OK;
    }
}

static int find_setting(const struct source *source, const char *key, struct setting *setting, bulla_error *error)
{
    const struct metadata *metadata = find_metadata(source->model, key);
    memset(setting, 0, sizeof *setting);
    if (!metadata)
        return BULLA_OK;
    setting->type_name = value_types[metadata->type].name;
    if (metadata->type == VALUE_STRING)
        return set_text(setting, metadata->texts, metadata->length, error);
    if (metadata->type != VALUE_ARRAY)
        return set_scalar(setting, metadata->type, metadata->data, error);
    setting->type = SETTING_ARRAY;
    setting->type_name = value_types[metadata->element_type].array_name;
    setting->count = metadata->count;
    return BULLA_OK;
}

static int find_element(const struct source *source, const char *key, uint64_t index, struct setting *setting,
                        bulla_error *error)
{
    const struct metadata *metadata = find_metadata(source->model, key);
    memset(setting, 0, sizeof *setting);
    setting->type_name = value_types[metadata->element_type].name;
    if (metadata->element_type == VALUE_STRING) {
        size_t start = index ? metadata->ends[index - 1] + (size_t)1 : 0;
        return set_text(setting, metadata->texts + start, metadata->ends[index] - start, error);
    }
    const uint8_t *data = metadata->data + index * value_types[metadata->element_type].bytes;
    return set_scalar(setting, metadata->element_type, data, error);
}

static const struct json *no_json(const struct source *source, const char *file_name)
{
    return NULL;
}

static int no_side_file(const struct source *source, const char *file_name, const uint8_t **data, size_t *length,
                        bulla_error *error)
{
    *data = NULL;
    *length = 0;
    return BULLA_OK;
}

static const struct source_format gguf_format = {
    .kind = SOURCE_GGUF,
    .close = close_gguf,
    .digest = digest_gguf,
    .read = read_rows,
    .release = release_tensor,
    .setting = find_setting,
    .element = find_element,
    .json = no_json,
    .side_file = no_side_file,
};

int gguf_open(struct source *source, const struct file_map *map, int borrowed, bulla_error *error)
{
    struct gguf *gguf = arena_alloc(&source->arena, 1, sizeof *gguf, error);
    if (!gguf) {
        struct file_map unused = *map;
        if (!borrowed)
            file_map_close(&unused);
        return BULLA_E_MEMORY;
    }
    gguf->map = *map;
    gguf->borrowed = borrowed;
    source->model = gguf;
    source->format = &gguf_format;
    return read_header(source, error);
}
