/* The model file's fixed parts, and the writer that import uses. Layout:
 * bulla/model.h. All integers little-endian; reserved bytes are zero. */
#ifndef MODEL_MODEL_FILE_H
#define MODEL_MODEL_FILE_H

#include <stdint.h>

#include "base/buffer.h"
#include "base/threads.h"
#include "bulla/program.h"

#define MODEL_FILE_MAGIC "BULLA-MODEL\r\n\x1a\n" /* 16 bytes with the NUL */
#define MODEL_REGION_MAGIC "bulla-program-1"      /* 16 bytes with the NUL */
enum { MODEL_FILE_VERSION = 1, MODEL_FILE_HEADER = 4096, MODEL_REGION_HEADER = 1024, MODEL_ALIGNMENT = 64 };

struct model_file_header {
    char magic[16];
    uint32_t file_version;
    uint32_t program_version;
    uint64_t region_offset, region_length;
    uint64_t description_offset, description_length;
    uint8_t model_root[32];
    uint8_t source_digest[32];
    /* SHA-256 over the 4,096 bytes with this field zero, then the description. */
    uint8_t header_digest[32];
    uint8_t reserved[4096 - 152];
};
_Static_assert(sizeof(struct model_file_header) == MODEL_FILE_HEADER, "the header is 4,096 bytes");

struct model_region_header {
    char magic[16];
    uint32_t version; /* BULLA_PROGRAM_VERSION */
    uint32_t operation_count;
    uint32_t tensor_count;
    uint32_t vocabulary;
    uint32_t context;
    uint32_t layers;
    int32_t logits_F;
    uint32_t reserved_word;
    /* Offsets from the start of the region, each a multiple of 64. */
    uint64_t operations_offset, tensors_offset;
    uint64_t tokenizer_offset, tokenizer_length;
    uint64_t template_offset, template_length;
    uint64_t data_offset;
    uint8_t reserved[1024 - 104];
};
_Static_assert(sizeof(struct model_region_header) == MODEL_REGION_HEADER, "the region's header is one leaf");

/* Magic, version, reserved bytes, and counts that a program can have; not where its parts lie. */
int model_region_check(const struct model_region_header *header, bulla_error *error);
/* The header_digest of `header` with its description. */
int model_file_header_digest(const struct model_file_header *header, const char *description, uint64_t length,
                             uint8_t digest[32], bulla_error *error);

/* Writing. Everything but the tensors' data is given at the start by its size;
 * tensors follow one after another; operations and settings are given at the
 * end, when import knows them. The file appears at `path` only when
 * model_writer_commit succeeds. */
struct model_writer;

int model_writer_open(const char *path, uint32_t operation_count, uint32_t tensor_count, const struct buffer *tokenizer,
                      const char *chat_template, size_t template_length, struct model_writer **writer,
                      bulla_error *error);
/* The next tensor starts: its directory record, without offset and bytes, which
 * are filled in. `index` gets the tensor's number. */
int model_writer_begin_tensor(struct model_writer *writer, const char *name, int dtype, uint32_t rows,
                              uint32_t columns, int32_t *index, bulla_error *error);
/* More of the current tensor's elements, in order. */
int model_writer_append(struct model_writer *writer, const void *bytes, uint64_t length, bulla_error *error);
/* `program` gives operations, vocabulary, context, layers and logits_F. Frees
 * the writer in every case. */
int model_writer_commit(struct model_writer *writer, const bulla_program *program, const uint8_t source_digest[32],
                        const char *description, size_t description_length, uint8_t model_root[32],
                        bulla_error *error);
void model_writer_abandon(struct model_writer *writer); /* NULL is fine */

#endif
