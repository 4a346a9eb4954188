/* bulla_tokenizer_open on any bytes; what it accepts must encode and decode
 * without a fault, and stream what it decodes. The text is the input itself. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "fuzz_tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bulla_tokenizer *tokenizer;
    bulla_error error = {0};
    if (bulla_tokenizer_open(data, size, &tokenizer, &error) == BULLA_OK) {
        fuzz_encode(tokenizer, (const char *)data, size < 4096 ? size : 4096, 0);
        fuzz_encode(tokenizer, (const char *)data + size - size / 4, size / 4,
                    BULLA_ENCODE_SPECIAL | BULLA_ENCODE_START);
        bulla_tokenizer_find(tokenizer, (const char *)data, size < 8 ? size : 8);
        bulla_tokenizer_close(tokenizer);
    } else if (tokenizer || error.code == BULLA_OK) {
        abort();
    }
    return 0;
}
