/* A tokenizer from any tokenizer.json; the block that comes out must open and work. */
#include <stddef.h>
#include <stdint.h>

#include "fuzz_tokenizer.h"
#include "model/tokenizer_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena = {.limit = 64 << 20};
    bulla_error error = {0};
    struct compile compile = {0};
    struct buffer block = {0};
    bulla_tokenizer *tokenizer;
    struct tokenizer_files files = {0};
    files.tokenizer = json_parse((const char *)data, size, "tokenizer.json", &arena, &error);
    files.config = files.generation = files.model = files.tokenizer;
    if (files.tokenizer && tokenizer_compile_json(&files, 600, &compile, &error) == BULLA_OK &&
        compile_write(&compile, &block, &error) == BULLA_OK) {
        if (bulla_tokenizer_open(block.data, block.length, &tokenizer, &error))
            abort();
        fuzz_encode(tokenizer, (const char *)data, size, 0);
        fuzz_encode(tokenizer, (const char *)data, size, BULLA_ENCODE_SPECIAL | BULLA_ENCODE_START);
        bulla_tokenizer_close(tokenizer);
    } else if (error.code == BULLA_OK) {
        abort();
    }
    compile_free(&compile);
    buffer_free(&block);
    arena_free(&arena);
    return 0;
}
