/* A model as its publisher ships it: one GGUF file, or a folder (or file) of
 * safetensors with config.json beside it. Readers present both in one shape:
 * named tensors that give real numbers, a few at a time, and settings by key.
 *
 * Nothing from the file is trusted: every count, size and offset was checked
 * against the file before a source is handed out, and tensor data is bounded
 * by what the file holds. */
#ifndef MODEL_SOURCE_H
#define MODEL_SOURCE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/json.h"
#include "bulla/error.h"

enum { SOURCE_MAX_DIMENSIONS = 4 };

enum source_kind { SOURCE_GGUF, SOURCE_SAFETENSORS };

struct source;

/* One tensor. `shape` is outermost first, as numpy has it: a matrix that maps
 * `columns` inputs to `rows` outputs is {rows, columns} in both formats (GGUF's
 * own order is the reverse). A "row" below is the innermost dimension. */
struct source_tensor {
    const char *name;       /* as in the file, NUL-terminated, printable */
    const char *type_name;  /* "Q4_K", "BF16", "GPTQ 4-bit", ... */
    int dimensions;         /* 1..4 */
    uint64_t shape[SOURCE_MAX_DIMENSIONS];
    uint64_t rows, columns; /* product of all but the last dimension; the last */
    const void *private_data;
};

/* Opens `path`: a GGUF file, a .safetensors file, a folder holding
 * model.safetensors or model.safetensors.index.json, or that index file.
 * The files are mapped read-only. A GGUF file with a tensor in a number format
 * that is not read is refused here; safetensors may hold such tensors (masks,
 * counters), whose reading is refused. */
int source_open(const char *path, struct source **source, bulla_error *error);
void source_close(struct source *source); /* NULL is fine */

enum source_kind source_kind(const struct source *source);
const char *source_path(const struct source *source);

/* SHA-256 over all bytes that a source can give (the GGUF file; or those that are
 * there of config.json, generation_config.json, tokenizer.json,
 * tokenizer_config.json, special_tokens_map.json, added_tokens.json,
 * chat_template.json, chat_template.jinja and tokenizer.model, then each shard in
 * order of name, each preceded by its name, a NUL and its length as u64
 * little-endian). */
int source_digest(const struct source *source, uint8_t digest[32], bulla_error *error);

/* Tensors, in order of the file (GGUF) or of name (safetensors). 4-bit groups
 * (NAME.qweight, .qzeros, .scales, .g_idx of GPTQ and AWQ) appear as one tensor
 * NAME.weight of shape {outputs, inputs}. */
size_t source_tensor_count(const struct source *source);
const struct source_tensor *source_tensor_at(const struct source *source, size_t index);
/* NULL when there is none of that name. */
const struct source_tensor *source_tensor_find(const struct source *source, const char *name);

/* Dequantises `count` rows from `first_row` into `values` (count * columns
 * floats), equal to the bit to what PyPI `gguf` gives. The result may hold NaN
 * or infinity: the importer checks. Safe from several threads at once. */
int source_tensor_read(const struct source *source, const struct source_tensor *tensor, uint64_t first_row,
                       uint64_t count, float *values, bulla_error *error);
/* Tells the kernel that the tensor's pages are not needed any more. */
void source_tensor_release(const struct source *source, const struct source_tensor *tensor);

/* Settings. For GGUF the metadata, by its keys ("llama.block_count"); for
 * safetensors config.json, nested members joined by '.' ("rope_scaling.factor",
 * "text_config.hidden_size"). Each getter returns 1 when the setting is there
 * and of that type, 0 when it is not there (or is JSON null), and -1 with the
 * error recorded when it is there with another type or outside [low, high]. A
 * JSON number without a fraction is an integer, however written, and any integer
 * is a real too. */
int source_get_integer(const struct source *source, const char *key, int64_t low, int64_t high, int64_t *value,
                       bulla_error *error);
int source_get_real(const struct source *source, const char *key, double *value, bulla_error *error); /* finite */
int source_get_bool(const struct source *source, const char *key, int *value, bulla_error *error);
/* UTF-8, NUL-terminated, owned by the source. */
int source_get_text(const struct source *source, const char *key, const char **text, size_t *length,
                    bulla_error *error);
/* Arrays. `count` elements; the element getters take an index below it and
 * follow the same rules. A bool is the integer 0 or 1 there. */
int source_get_array(const struct source *source, const char *key, uint64_t *count, bulla_error *error);
int source_get_array_integer(const struct source *source, const char *key, uint64_t index, int64_t *value,
                             bulla_error *error);
int source_get_array_real(const struct source *source, const char *key, uint64_t index, double *value,
                          bulla_error *error);
int source_get_array_text(const struct source *source, const char *key, uint64_t index, const char **text,
                          size_t *length, bulla_error *error);

/* safetensors only: a JSON file of the list at source_digest as parsed; NULL where
 * it is not there or the source is a GGUF. */
const struct json *source_json(const struct source *source, const char *file_name);
/* The whole bytes of a file of that list (chat_template.jinja, tokenizer.model);
 * 0 and NULL where it isn't there. Owned by the source. A name that is not in the
 * list is BULLA_E_USAGE. */
int source_side_file(const struct source *source, const char *file_name, const uint8_t **data, size_t *length,
                     bulla_error *error);

#endif
