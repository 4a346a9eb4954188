/* safetensors (the format's specification, huggingface/safetensors), one file or
 * several with an index, and the JSON files that come beside them.
 *
 * As the original implementation does, a file is refused unless its tensors
 * cover its data section exactly, without gap or overlap. */
#ifndef MODEL_SAFETENSORS_H
#define MODEL_SAFETENSORS_H

#include "base/file.h"
#include "model/source_format.h"

enum { SAFETENSORS_MAX_SHARDS = 4096 };

/* Each fills a zeroed source whose `path` is set. */
int safetensors_open_folder(struct source *source, bulla_error *error);
int safetensors_open_index(struct source *source, bulla_error *error);
/* The map becomes the source's, also after an error. */
int safetensors_open_file(struct source *source, const struct file_map *map, bulla_error *error);
/* The bytes stay the caller's. `config` (NULL: none) stands for config.json. */
int safetensors_open_bytes(struct source *source, const struct file_map *map, const void *config,
                           size_t config_length, bulla_error *error);

#endif
