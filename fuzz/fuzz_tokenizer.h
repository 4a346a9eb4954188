/* What the tokenizers' fuzz targets do with an opened one. */
#ifndef FUZZ_TOKENIZER_H
#define FUZZ_TOKENIZER_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "bulla/tokenizer.h"

/* Aborts unless streaming the ids gives `text`. */
static inline void fuzz_stream(const bulla_tokenizer *tokenizer, const uint32_t *ids, size_t count, const char *text,
                               size_t length)
{
    bulla_text_stream stream = {0};
    struct buffer streamed = {0};
    for (size_t i = 0; i < count; i++) {
        const uint8_t *bytes;
        size_t spelled;
        if (bulla_tokenizer_token_bytes(tokenizer, ids[i], &bytes, &spelled) != BULLA_OK)
            abort();
        char *out = malloc(4 + 3 * spelled);
        if (!out)
            abort();
        buffer_append(&streamed, out, bulla_text_stream_push(tokenizer, &stream, ids[i], out, 4 + 3 * spelled));
        free(out);
    }
    char rest[4];
    buffer_append(&streamed, rest, bulla_text_stream_end(&stream, rest, sizeof rest));
    if (streamed.length != length || (length > 0 && memcmp(streamed.data, text, length) != 0))
        abort();
    buffer_free(&streamed);
}

/* Encodes, decodes and streams; `same`, where not NULL, gets the decoded text. */
static inline void fuzz_encode_to(const bulla_tokenizer *tokenizer, const char *text, size_t length, unsigned flags,
                                  struct buffer *same)
{
    bulla_error error = {0};
    uint32_t *ids;
    size_t count, decoded_length;
    char *decoded;
    if (bulla_tokenizer_encode(tokenizer, text, length, flags, 1 << 20, &ids, &count, &error))
        abort();
    if (bulla_tokenizer_decode(tokenizer, ids, count, 0, &decoded, &decoded_length, &error))
        abort();
    fuzz_stream(tokenizer, ids, count, decoded, decoded_length);
    if (same)
        buffer_append(same, decoded, decoded_length);
    bulla_text_free(decoded);
    bulla_tokens_free(ids);
}

static inline void fuzz_encode(const bulla_tokenizer *tokenizer, const char *text, size_t length, unsigned flags)
{
    fuzz_encode_to(tokenizer, text, length, flags, NULL);
}

#endif
