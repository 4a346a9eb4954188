/* What source.c and the readers of the formats share; nobody else includes it. */
#ifndef MODEL_SOURCE_FORMAT_H
#define MODEL_SOURCE_FORMAT_H

#include "base/arena.h"
#include "model/name_table.h"
#include "model/source.h"

/* A setting, or an element of one, as the file has it. */
enum setting_type {
    SETTING_ABSENT,
    SETTING_INTEGER, /* integer */
    SETTING_REAL,    /* real; also integers above int64's range */
    SETTING_BOOL,    /* integer, 0 or 1 */
    SETTING_TEXT,    /* text, length: UTF-8 without NUL, NUL-terminated */
    SETTING_ARRAY,   /* count */
    SETTING_OTHER
};

struct setting {
    enum setting_type type;
    int64_t integer;
    double real;
    const char *text;
    size_t length;
    uint64_t count;
    const char *type_name; /* for sentences: "a u32", "an array of string" */
};

/* A format's functions. The generic half has checked arguments already, and puts
 * the source's path before error sentences. */
struct source_format {
    enum source_kind kind;
    void (*close)(struct source *source); /* what does not live in the arena */
    int (*digest)(const struct source *source, uint8_t digest[32], bulla_error *error);
    int (*read)(const struct source *source, const struct source_tensor *tensor, uint64_t first_row, uint64_t count,
                float *values, bulla_error *error);
    void (*release)(const struct source *source, const struct source_tensor *tensor);
    /* The setting `key`; its type is SETTING_ABSENT where there is none. */
    int (*setting)(const struct source *source, const char *key, struct setting *setting, bulla_error *error);
    /* Element `index` of the array `key`; the array is there and longer. */
    int (*element)(const struct source *source, const char *key, uint64_t index, struct setting *setting,
                   bulla_error *error);
    const struct json *(*json)(const struct source *source, const char *file_name);
    int (*side_file)(const struct source *source, const char *file_name, const uint8_t **data, size_t *length,
                     bulla_error *error);
};

struct source {
    const struct source_format *format;
    void *model; /* the format's own, in the arena */
    char *path;
    struct arena arena;
    struct source_tensor *tensors;
    size_t tensor_count;
    struct name_table names; /* of tensors */
};

/* The same as source_open over bytes in memory, which stay the caller's and must
 * outlive the source: a GGUF file's or one .safetensors file's (without
 * config.json, or with the given bytes as it). */
int source_open_bytes(enum source_kind kind, const void *data, size_t length, const void *config, size_t config_length,
                      struct source **source, bulla_error *error);

/* Fails, naming `what`, unless the name is 1 to `limit` bytes of UTF-8 without
 * control characters. */
int source_check_name(const char *name, size_t length, size_t limit, const char *what, bulla_error *error);

/* Enters all of source->tensors into source->names. */
int source_index_tensors(struct source *source, bulla_error *error);

/* Completes rows and columns from the shape, whose product (fits u64) is `values`. */
void source_set_rows(struct source_tensor *tensor, uint64_t values);

#endif
