/* Any text through small tokenizers of every kind. The first byte picks the
 * kind; where nothing is normalised, decoding must give the text back. */
#include <stddef.h>
#include <stdint.h>

#include "../tests/tokenizer_samples.h"
#include "fuzz_tokenizer.h"
#include "model/unicode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Tokenizers stay open between inputs: building one takes longer than an input does. */
static bulla_tokenizer *open_kind(uint8_t kind, uint32_t algorithm, uint32_t split, uint32_t flags)
{
    static struct buffer blocks[256];
    static bulla_tokenizer *opened[256];
    bulla_error error = {0};
    if (!opened[kind] && (sample_build(algorithm, split, flags, &blocks[kind], &error) ||
                          bulla_tokenizer_open(blocks[kind].data, blocks[kind].length, &opened[kind], &error)))
        abort();
    return opened[kind];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    uint32_t algorithm = data[0] & 1 ? TOKENIZER_SENTENCEPIECE : TOKENIZER_BYTE_LEVEL;
    uint32_t flags = data[0] & 2 ? TOKENIZER_NFC : 0;
    uint32_t split = data[0] >> 4 < TOKENIZER_SPLIT_COUNT ? data[0] >> 4 : 0;
    flags |= data[0] & 4 ? TOKENIZER_PREFIX | TOKENIZER_STRIP_FIRST : TOKENIZER_WHOLE_WORDS;
    struct buffer decoded = {0}, expected = {0};
    bulla_tokenizer *tokenizer = open_kind(data[0], algorithm, split, flags);
    const char *text = (const char *)data + 1;
    fuzz_encode(tokenizer, text, size - 1, BULLA_ENCODE_SPECIAL | BULLA_ENCODE_START);
    fuzz_encode_to(tokenizer, text, size - 1, 0, &decoded);
    unicode_append_well_formed(&expected, text, size - 1);
    int exact = algorithm == TOKENIZER_BYTE_LEVEL && !(flags & (TOKENIZER_NFC | TOKENIZER_STRIP_FIRST));
    if (exact && (decoded.length != expected.length ||
                  (expected.length > 0 && memcmp(decoded.data, expected.data, expected.length) != 0)))
        abort();
    buffer_free(&decoded);
    buffer_free(&expected);
    return 0;
}
