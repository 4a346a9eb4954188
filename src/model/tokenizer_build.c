#include "model/tokenizer_build.h"

#include "model/tokenizer_gguf.h"
#include "model/tokenizer_json.h"

int tokenizer_build(const struct source *source, uint32_t vocabulary, struct buffer *block, bulla_error *error)
{
    bulla_error local = {0};
    struct compile compile = {0};
    if (!error)
        error = &local;
    int code;
    if (source_kind(source) == SOURCE_GGUF) {
        code = tokenizer_compile_gguf(source, vocabulary, &compile, error);
    } else {
        struct tokenizer_files files = {source_json(source, "tokenizer.json"),
                                        source_json(source, "tokenizer_config.json"),
                                        source_json(source, "generation_config.json"),
                                        source_json(source, "config.json")};
        code = tokenizer_compile_json(&files, vocabulary, &compile, error);
    }
    if (code == BULLA_OK)
        code = compile_write(&compile, block, error);
    compile_free(&compile);
    return code;
}
