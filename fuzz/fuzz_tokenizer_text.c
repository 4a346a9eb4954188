/* Any text through small tokenizers of every kind. The first byte picks the
 * kind; where nothing is normalised, decoding must give the text back. */
#include <stddef.h>
#include <stdint.h>

#include "../tests/tokenizer_samples.h"
#include "fuzz_tokenizer.h"
#include "model/unicode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    uint32_t algorithm = data[0] & 1 ? TOKENIZER_SENTENCEPIECE : TOKENIZER_BYTE_LEVEL;
    uint32_t flags = data[0] & 2 ? TOKENIZER_NFC : 0;
    uint32_t split = data[0] >> 4 < TOKENIZER_SPLIT_COUNT ? data[0] >> 4 : 0;
    flags |= data[0] & 4 ? TOKENIZER_PREFIX | TOKENIZER_STRIP_FIRST : TOKENIZER_WHOLE_WORDS;
    struct buffer block = {0}, decoded = {0}, expected = {0};
    bulla_tokenizer *tokenizer;
    bulla_error error = {0};
    const char *text = (const char *)data + 1;
    if (sample_build(algorithm, split, flags, &block, &error) ||
        bulla_tokenizer_open(block.data, block.length, &tokenizer, &error))
        abort();
    fuzz_encode(tokenizer, text, size - 1, BULLA_ENCODE_SPECIAL | BULLA_ENCODE_START);
    fuzz_encode_to(tokenizer, text, size - 1, 0, &decoded);
    unicode_append_well_formed(&expected, text, size - 1);
    int exact = algorithm == TOKENIZER_BYTE_LEVEL && !(flags & (TOKENIZER_NFC | TOKENIZER_STRIP_FIRST));
    if (exact && (decoded.length != expected.length ||
                  (expected.length > 0 && memcmp(decoded.data, expected.data, expected.length) != 0)))
        abort();
    bulla_tokenizer_close(tokenizer);
    buffer_free(&block);
    buffer_free(&decoded);
    buffer_free(&expected);
    return 0;
}
