#include "model/tokenizer_build.h"

#include "model/tokenizer_gguf.h"
#include "model/tokenizer_json.h"

int tokenizer_build(const struct source *source, uint32_t vocabulary, struct buffer *block, bulla_error *error)
{
    bulla_error local = {0};
    struct compile compile = {0};
    if (!error)
        error = &local;
    int code = source_kind(source) == SOURCE_GGUF ? tokenizer_compile_gguf(source, vocabulary, &compile, error)
                                                  : tokenizer_compile_json(source, vocabulary, &compile, error);
    if (code == BULLA_OK)
        code = compile_write(&compile, block, error);
    compile_free(&compile);
    return code;
}
