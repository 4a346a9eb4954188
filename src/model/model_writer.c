#include "model/model_file.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/merkle_data.h"

struct model_writer {
    struct file_writer *file;
    struct buffer head;   /* the region up to its first tensor, a whole number of leaves */
    struct buffer leaves; /* hashes of all leaves; those of the head are filled in last */
    struct buffer tail;   /* bytes of the leaf not yet complete */
    uint64_t operations_offset, tensors_offset;
    uint32_t operation_count, tensor_count;
    uint32_t tensors;     /* begun so far */
    uint64_t region;      /* bytes of the region written */
    uint64_t left;        /* bytes that the current tensor still lacks */
};

static struct model_region_header *region_header(struct model_writer *writer)
{
    return (struct model_region_header *)(void *)writer->head.data;
}

static uint64_t head_part(struct buffer *head, const void *bytes, size_t length)
{
    buffer_pad(head, MODEL_ALIGNMENT);
    uint64_t offset = head->length;
    if (bytes)
        buffer_append(head, bytes, length);
    else
        buffer_extend(head, length);
    return offset;
}

static int build_head(struct model_writer *writer, const struct buffer *tokenizer, const char *chat_template,
                      size_t template_length, bulla_error *error)
{
    struct buffer *head = &writer->head;
    struct model_region_header header = {.magic = MODEL_REGION_MAGIC, .version = BULLA_PROGRAM_VERSION};
    header.operation_count = writer->operation_count;
    header.tensor_count = writer->tensor_count;
    buffer_extend(head, sizeof header);
    header.operations_offset = head_part(head, NULL, writer->operation_count * sizeof(bulla_operation));
    header.tensors_offset = head_part(head, NULL, writer->tensor_count * sizeof(bulla_tensor));
    header.tokenizer_offset = head_part(head, tokenizer->data ? tokenizer->data : (const uint8_t *)"", tokenizer->length);
    header.tokenizer_length = tokenizer->length;
    header.template_offset = head_part(head, chat_template, template_length);
    header.template_length = template_length;
    buffer_pad(head, MERKLE_LEAF);
    header.data_offset = head->length;
    buffer_extend(&writer->leaves, head->length / MERKLE_LEAF * MERKLE_HASH);
    if (head->error.code || writer->leaves.error.code)
        return bulla_fail(error, BULLA_E_MEMORY, "out of memory for the model's directory");
    memcpy(head->data, &header, sizeof header);
    writer->operations_offset = header.operations_offset;
    writer->tensors_offset = header.tensors_offset;
    writer->region = head->length;
    return BULLA_OK;
}

int model_writer_open(const char *path, uint32_t operation_count, uint32_t tensor_count, const struct buffer *tokenizer,
                      const char *chat_template, size_t template_length, struct model_writer **result,
                      bulla_error *error)
{
    *result = NULL;
    struct model_writer *writer = memory_alloc(1, sizeof *writer, error);
    if (!writer)
        return BULLA_E_MEMORY;
    writer->operation_count = operation_count;
    writer->tensor_count = tensor_count;
    int code = build_head(writer, tokenizer, chat_template, template_length, error);
    if (code == BULLA_OK && !(writer->file = file_writer_open(path, error)))
        code = error ? error->code : BULLA_E_IO;
    static const struct model_file_header empty;
    if (code == BULLA_OK)
        code = file_writer_append(writer->file, &empty, sizeof empty, error);
    if (code == BULLA_OK)
        code = file_writer_append(writer->file, writer->head.data, writer->head.length, error);
    if (code != BULLA_OK) {
        model_writer_abandon(writer);
        return code;
    }
    *result = writer;
    return BULLA_OK;
}

static int hash_complete_leaves(struct model_writer *writer, const uint8_t *bytes, uint64_t length, bulla_error *error)
{
    uint64_t count = (length + MERKLE_LEAF - 1) / MERKLE_LEAF;
    uint8_t *hashes = buffer_extend(&writer->leaves, count * MERKLE_HASH);
    if (!hashes)
        return bulla_fail(error, BULLA_E_MEMORY, "out of memory for the model's leaf hashes");
    return merkle_leaf_hashes(bytes, length, NULL, hashes, error);
}

static int append_region(struct model_writer *writer, const uint8_t *bytes, uint64_t length, bulla_error *error)
{
    int code = file_writer_append(writer->file, bytes, length, error);
    writer->region += length;
    struct buffer *tail = &writer->tail;
    if (code == BULLA_OK && tail->length) {
        uint64_t fill = MERKLE_LEAF - tail->length < length ? MERKLE_LEAF - tail->length : length;
        buffer_append(tail, bytes, fill);
        bytes += fill;
        length -= fill;
        if (tail->length == MERKLE_LEAF) {
            code = hash_complete_leaves(writer, tail->data, MERKLE_LEAF, error);
            buffer_clear(tail);
        }
    }
    uint64_t whole = length / MERKLE_LEAF * MERKLE_LEAF;
    if (code == BULLA_OK && whole)
        code = hash_complete_leaves(writer, bytes, whole, error);
    if (code == BULLA_OK && length > whole)
        buffer_append(tail, bytes + whole, length - whole);
    if (code == BULLA_OK && tail->error.code)
        code = bulla_fail(error, tail->error.code, "%s", tail->error.text);
    return code;
}

int model_writer_begin_tensor(struct model_writer *writer, const char *name, int dtype, uint32_t rows,
                              uint32_t columns, int32_t *index, bulla_error *error)
{
    if (writer->left || writer->tensors == writer->tensor_count || strlen(name) >= sizeof((bulla_tensor *)0)->name)
        return bulla_fail(error, BULLA_E_INTERNAL, "tensor %s begins out of turn", name);
    uint8_t zeros[MODEL_ALIGNMENT] = {0};
    uint64_t over = writer->region % MODEL_ALIGNMENT;
    int code = over ? append_region(writer, zeros, MODEL_ALIGNMENT - over, error) : BULLA_OK;
    bulla_tensor tensor = {.dtype = (uint8_t)dtype, .rows = rows, .columns = columns, .offset = writer->region};
    snprintf(tensor.name, sizeof tensor.name, "%s", name);
    tensor.bytes = (uint64_t)rows * columns * bulla_dtype_size(dtype);
    memcpy(writer->head.data + writer->tensors_offset + writer->tensors * sizeof tensor, &tensor, sizeof tensor);
    *index = (int32_t)writer->tensors++;
    writer->left = tensor.bytes;
    return code;
}

int model_writer_append(struct model_writer *writer, const void *bytes, uint64_t length, bulla_error *error)
{
    if (length > writer->left)
        return bulla_fail(error, BULLA_E_INTERNAL, "a tensor has more bytes than its shape");
    writer->left -= length;
    return append_region(writer, bytes, length, error);
}

static int seal_region(struct model_writer *writer, const bulla_program *program, uint8_t root[32], bulla_error *error)
{
    if (writer->left || writer->tensors != writer->tensor_count || program->operation_count != writer->operation_count)
        return bulla_fail(error, BULLA_E_INTERNAL, "a model with missing tensors or operations");
    struct model_region_header *header = region_header(writer);
    header->vocabulary = program->vocabulary;
    header->context = program->context;
    header->layers = program->layers;
    header->logits_F = program->logits_F;
    memcpy(writer->head.data + writer->operations_offset, program->operations,
           program->operation_count * sizeof(bulla_operation));
    int code = BULLA_OK;
    if (writer->tail.length)
        code = hash_complete_leaves(writer, writer->tail.data, writer->tail.length, error);
    if (code == BULLA_OK)
        code = merkle_leaf_hashes(writer->head.data, writer->head.length, NULL, writer->leaves.data, error);
    if (code == BULLA_OK)
        code = merkle_root(writer->leaves.data, writer->leaves.length / MERKLE_HASH, root, error);
    if (code == BULLA_OK)
        code = file_writer_write_at(writer->file, MODEL_FILE_HEADER, writer->head.data, writer->head.length, error);
    return code;
}

int model_file_header_digest(const struct model_file_header *header, const char *description, uint64_t length,
                             uint8_t digest[32], bulla_error *error)
{
    struct model_file_header blank = *header;
    memset(blank.header_digest, 0, sizeof blank.header_digest);
    struct hash_stream *stream = hash_stream_open(error);
    if (!stream)
        return BULLA_E_MEMORY;
    hash_stream_update(stream, &blank, sizeof blank);
    hash_stream_update(stream, description, length);
    int code = hash_stream_finish(stream, digest, error);
    hash_stream_close(stream);
    return code;
}

int model_writer_commit(struct model_writer *writer, const bulla_program *program, const uint8_t source_digest[32],
                        const char *description, size_t description_length, uint8_t model_root[32],
                        bulla_error *error)
{
    struct model_file_header header = {.magic = MODEL_FILE_MAGIC,
                                       .file_version = MODEL_FILE_VERSION,
                                       .program_version = BULLA_PROGRAM_VERSION,
                                       .region_offset = MODEL_FILE_HEADER,
                                       .region_length = writer->region,
                                       .description_offset = MODEL_FILE_HEADER + writer->region,
                                       .description_length = description_length};
    int code = seal_region(writer, program, header.model_root, error);
    memcpy(header.source_digest, source_digest, 32);
    memcpy(model_root, header.model_root, 32);
    if (code == BULLA_OK)
        code = file_writer_append(writer->file, description, description_length, error);
    if (code == BULLA_OK)
        code = model_file_header_digest(&header, description, description_length, header.header_digest, error);
    if (code == BULLA_OK)
        code = file_writer_write_at(writer->file, 0, &header, sizeof header, error);
    if (code == BULLA_OK) {
        struct file_writer *file = writer->file;
        writer->file = NULL;
        code = file_writer_commit(file, error);
    }
    model_writer_abandon(writer);
    return code;
}

void model_writer_abandon(struct model_writer *writer)
{
    if (!writer)
        return;
    file_writer_abandon(writer->file);
    buffer_free(&writer->head);
    buffer_free(&writer->leaves);
    buffer_free(&writer->tail);
    memory_free(writer);
}
