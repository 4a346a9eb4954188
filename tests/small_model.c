#include "small_model.h"

#include <string.h>

#include "model/model_file.h"
#include "model/tokenizer.h"

void small_tokenizer(uint32_t vocabulary, struct buffer *block)
{
    uint64_t total = TOKENIZER_HEADER_BYTES + 8 * ((uint64_t)vocabulary + 1) + 2 * (uint64_t)vocabulary;
    const uint32_t words[] = {TOKENIZER_VERSION, TOKENIZER_BYTE_LEVEL, TOKENIZER_SPLIT_NONE, 0, vocabulary, 0, 0, 0, 0,
                              TOKENIZER_NONE, TOKENIZER_NONE, TOKENIZER_NONE, vocabulary, 0};
    buffer_append(block, "BULLATOK", 8);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        buffer_append_u32(block, words[i]);
    buffer_append_u64(block, total);
    buffer_append_u64(block, 0);
    for (uint32_t id = 0; id <= vocabulary; id++) /* spellings' offsets */
        buffer_append_u32(block, id);
    for (uint32_t id = 0; id <= vocabulary; id++) /* merges */
        buffer_append_u32(block, 0);
    for (uint32_t id = 0; id < vocabulary; id++)
        buffer_append_byte(block, TOKEN_NORMAL);
    for (uint32_t id = 0; id < vocabulary; id++)
        buffer_append_byte(block, (uint8_t)id);
}

static int write_tensors(struct model_writer *writer, const bulla_program *program, bulla_error *error)
{
    int code = BULLA_OK;
    for (uint32_t i = 0; i < program->tensor_count && code == BULLA_OK; i++) {
        const bulla_tensor *tensor = &program->tensors[i];
        const uint8_t *bytes = program->data[i];
        uint64_t half = tensor->bytes / 3; /* in two pieces, as import does in many */
        int32_t index;
        code = model_writer_begin_tensor(writer, tensor->name, tensor->dtype, tensor->rows, tensor->columns, &index, error);
        code = code ? code : model_writer_append(writer, bytes, half, error);
        code = code ? code : model_writer_append(writer, bytes + half, tensor->bytes - half, error);
        if (code == BULLA_OK && index != (int32_t)i)
            code = bulla_fail(error, BULLA_E_INTERNAL, "tensor %u got the number %d", i, index);
    }
    return code;
}

int small_model_write(const char *path, const bulla_program *program, const char *chat_template,
                      const char *description, uint8_t root[32], bulla_error *error)
{
    static const uint8_t source[32] = {1, 2, 3};
    struct buffer tokenizer = {0};
    struct model_writer *writer;
    small_tokenizer(program->vocabulary, &tokenizer);
    int code = tokenizer.error.code ? bulla_fail(error, tokenizer.error.code, "%s", tokenizer.error.text) : BULLA_OK;
    if (code == BULLA_OK)
        code = model_writer_open(path, program->operation_count, program->tensor_count, &tokenizer, chat_template,
                                 strlen(chat_template), &writer, error);
    buffer_free(&tokenizer);
    if (code)
        return code;
    code = write_tensors(writer, program, error);
    if (code == BULLA_OK)
        return model_writer_commit(writer, program, source, description, strlen(description), root, error);
    model_writer_abandon(writer);
    return code;
}
