/* GGUF version 2 and 3, little-endian (the specification in ggml's docs/gguf.md).
 *
 * Opening reads the header only, and keeps of it what the file's own bytes
 * justify: at most GGUF_MAX_HEADER_BYTES are looked at (ten times what the largest
 * vocabularies need), GGUF_MAX_KEYS and GGUF_MAX_TENSORS accepted. */
#ifndef MODEL_GGUF_H
#define MODEL_GGUF_H

#include "base/file.h"
#include "model/source_format.h"

enum {
    GGUF_MAX_HEADER_BYTES = 128 << 20,
    GGUF_MAX_KEYS = 1 << 16,
    GGUF_MAX_TENSORS = 1 << 20,
    GGUF_MAX_NAME_BYTES = 1024,
    GGUF_MAX_ALIGNMENT = 1 << 20
};

/* Whether the bytes start as GGUF does, in either byte order. */
int gguf_has_magic(const uint8_t *data, size_t length);

/* Fills a zeroed source from a file. The map becomes the source's (closed with
 * it, also after an error); `map->data` may be memory of the caller's if
 * `borrowed`. */
int gguf_open(struct source *source, const struct file_map *map, int borrowed, bulla_error *error);

#endif
