/* The header of one safetensors file: u64 length, JSON (spaces behind it allowed),
 * and what it says of the data behind it. */
#ifndef MODEL_SAFETENSORS_HEADER_H
#define MODEL_SAFETENSORS_HEADER_H

#include "base/arena.h"
#include "base/json.h"
#include "model/source.h"

enum {
    SAFETENSORS_MAX_HEADER_BYTES = 100000000, /* the original's limit */
    SAFETENSORS_MAX_PARSED_BYTES = 256 << 20, /* of memory for a header or an index while it is read */
    SAFETENSORS_MAX_TENSORS = 1 << 20,        /* of a model */
    SAFETENSORS_MAX_NAME_BYTES = 1024
};

/* A tensor as a header names it. */
struct stored_tensor {
    const char *name;
    const char *type_name; /* "F32", ... */
    int dimensions;        /* 0..4 */
    uint64_t shape[SOURCE_MAX_DIMENSIONS];
    uint64_t begin, bytes; /* in the shard's file, which holds them */
    size_t shard;
};

/* Zero-initialise; memory_free(items) ends it. */
struct stored_tensors {
    struct stored_tensor *items;
    size_t count, capacity;
};

/* One file of a model. Where the model has an index, only those tensors are taken
 * that it puts into this file. */
struct shard_content {
    const uint8_t *data;
    size_t length;
    size_t shard;                  /* its number */
    const char *name;              /* as the index names it */
    const struct json *weight_map; /* NULL: no index */
};

/* Adds the file's tensors, names copied into `names`, once every one is checked. */
int stored_tensors_read(struct stored_tensors *tensors, const struct shard_content *content, struct arena *names,
                        bulla_error *error);

#endif
