/* Encodes and decodes records with a model's tokenizer, for comparison with others.
 *
 * usage: tool_tokenizer SOURCE VOCABULARY [special] [start]
 *
 * SOURCE: a GGUF file or a folder; VOCABULARY: rows of the embedding, 0 to take
 * the tokenizer's own count (GGUF only). Standard input: records, each a
 * length as u32 little-endian and that many bytes. For each record, standard output has the
 * ids, the decoded text in hex, and the streamed text in hex, a line each. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "bulla/tokenizer.h"
#include "model/tokenizer_build.h"

static void print_hex(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        printf("%02x", (unsigned char)text[i]);
    printf("\n");
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static int print_streamed(const bulla_tokenizer *tokenizer, const uint32_t *ids, size_t count)
{
    bulla_text_stream stream = {0};
    struct buffer text = {0};
    for (size_t i = 0; i < count; i++) {
        const uint8_t *bytes;
        size_t length;
        bulla_tokenizer_token_bytes(tokenizer, ids[i], &bytes, &length);
        size_t capacity = 4 + 3 * length;
        char *out = memory_alloc(capacity, 1, NULL);
        if (!out)
            return 1;
        buffer_append(&text, out, bulla_text_stream_push(tokenizer, &stream, ids[i], out, capacity));
        memory_free(out);
    }
    char rest[4];
    buffer_append(&text, rest, bulla_text_stream_end(&stream, rest, sizeof rest));
    print_hex((const char *)text.data, text.length);
    buffer_free(&text);
    return 0;
}

static int run_record(const bulla_tokenizer *tokenizer, const char *text, size_t length, unsigned flags,
                      bulla_error *error)
{
    uint32_t *ids;
    size_t count, decoded_length;
    char *decoded;
    if (bulla_tokenizer_encode(tokenizer, text, length, flags, SIZE_MAX, &ids, &count, error))
        return 1;
    for (size_t i = 0; i < count; i++)
        printf("%s%" PRIu32, i ? " " : "", ids[i]);
    printf("\n");
    int failed = bulla_tokenizer_decode(tokenizer, ids, count, 0, &decoded, &decoded_length, error);
    if (!failed) {
        print_hex(decoded, decoded_length);
        failed = print_streamed(tokenizer, ids, count);
        bulla_text_free(decoded);
    }
    bulla_tokens_free(ids);
    return failed;
}

static int run_records(const bulla_tokenizer *tokenizer, unsigned flags, bulla_error *error)
{
    uint8_t prefix[4];
    double begin = seconds();
    size_t total = 0;
    while (fread(prefix, 1, 4, stdin) == 4) {
        struct reader reader = reader_over(prefix, 4);
        uint32_t length = reader_u32(&reader);
        char *text = malloc((size_t)length + 1);
        if (!text || fread(text, 1, length, stdin) != length)
            return 1;
        int failed = run_record(tokenizer, text, length, flags, error);
        free(text);
        if (failed)
            return 1;
        total += length;
    }
    fprintf(stderr, "%zu bytes in %.3f s\n", total, seconds() - begin);
    return 0;
}

static int build(const char *path, uint32_t vocabulary, struct buffer *block, bulla_error *error)
{
    struct source *source;
    uint64_t count = vocabulary;
    if (source_open(path, &source, error))
        return 1;
    double begin = seconds();
    int failed = (vocabulary == 0 && source_get_array(source, "tokenizer.ggml.tokens", &count, error) != 1) ||
                 tokenizer_build(source, (uint32_t)count, block, error);
    fprintf(stderr, "built %zu bytes in %.3f s\n", block->length, seconds() - begin);
    source_close(source);
    return failed;
}

int main(int count, char **arguments)
{
    bulla_error error = {0};
    struct buffer block = {0};
    bulla_tokenizer *tokenizer = NULL;
    unsigned flags = 0;
    for (int i = 3; i < count; i++) {
        flags |= strcmp(arguments[i], "special") == 0 ? BULLA_ENCODE_SPECIAL : 0;
        flags |= strcmp(arguments[i], "start") == 0 ? BULLA_ENCODE_START : 0;
    }
    if (count < 3) {
        fprintf(stderr, "usage: tool_tokenizer SOURCE VOCABULARY [special] [start]\n");
        return 2;
    }
    int failed = build(arguments[1], (uint32_t)strtoul(arguments[2], NULL, 10), &block, &error);
    double begin = seconds();
    failed = failed || bulla_tokenizer_open(block.data, block.length, &tokenizer, &error);
    fprintf(stderr, "opened in %.1f ms\n", (seconds() - begin) * 1e3);
    failed = failed || run_records(tokenizer, flags, &error);
    if (failed)
        fprintf(stderr, "%s\n", error.text);
    bulla_tokenizer_close(tokenizer);
    buffer_free(&block);
    return failed;
}
