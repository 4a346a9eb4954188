#include "answer_model.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/model_file.h"
#include "model/tokenizer.h"
#include "random_program.h"
#include "small_model.h"

static int write_model(const char *path, const bulla_program *program, const struct buffer *tokenizer,
                       const char *chat_template, bulla_error *error)
{
    uint8_t root[32];
    struct model_writer *writer;
    int32_t index;
    int code = model_writer_open(path, program->operation_count, program->tensor_count, tokenizer, chat_template,
                                 strlen(chat_template), &writer, error);
    if (code != BULLA_OK)
        return code;
    for (uint32_t i = 0; i < program->tensor_count && code == BULLA_OK; i++) {
        const bulla_tensor *tensor = &program->tensors[i];
        code = model_writer_begin_tensor(writer, tensor->name, tensor->dtype, tensor->rows, tensor->columns, &index, error);
        code = code ? code : model_writer_append(writer, program->data[i], tensor->bytes, error);
    }
    if (code == BULLA_OK)
        return model_writer_commit(writer, program, (const uint8_t[32]){0}, "{}", 2, root, error);
    model_writer_abandon(writer);
    return code;
}

int answer_model_write(const char *path, uint64_t seed, int family, int strain, uint32_t end_every,
                       const char *chat_template, bulla_error *error)
{
    bulla_program *program;
    struct buffer tokenizer = {0};
    int code = random_program_new(seed, family, strain, &program, error);
    if (code != BULLA_OK)
        return code;
    small_tokenizer(program->vocabulary, &tokenizer);
    uint8_t *kinds = tokenizer.data + TOKENIZER_HEADER_BYTES + 8 * ((size_t)program->vocabulary + 1);
    for (uint32_t id = end_every; end_every && id < program->vocabulary; id += end_every)
        kinds[id] |= TOKEN_END;
    code = write_model(path, program, &tokenizer, chat_template, error);
    random_program_free(program);
    buffer_free(&tokenizer);
    return code;
}

int answer_model_open(uint64_t seed, int family, int strain, uint32_t end_every, const char *chat_template,
                      bulla_model **model, bulla_error *error)
{
    char path[] = "/tmp/bulla-answer-XXXXXX";
    int descriptor = mkstemp(path);
    if (descriptor < 0)
        return bulla_fail(error, BULLA_E_IO, "%s: cannot be made", path);
    close(descriptor);
    int code = answer_model_write(path, seed, family, strain, end_every, chat_template, error);
    if (code == BULLA_OK)
        code = bulla_model_open(path, 1, model, error);
    unlink(path);
    return code;
}
