/* Two small tokenizers, made by hand, for tests and fuzzing. */
#ifndef TESTS_TOKENIZER_SAMPLES_H
#define TESTS_TOKENIZER_SAMPLES_H

#include <stdio.h>

#include "model/tokenizer_compile.h"

enum { SAMPLE_IDS = 320, SAMPLE_FIRST = 256 }; /* ids 0..255 are the bytes */

/* Words of both vocabularies, from SAMPLE_FIRST; in order of merging. */
static const char *const sample_words[] = {"lo", "low", "er", " low", " lower", "new", "ne", "  ", "the", "th", "low er",
                                           "xyz"};
enum { SAMPLE_WORDS = sizeof sample_words / sizeof *sample_words };

enum {
    SAMPLE_START = 300, /* <s> */
    SAMPLE_END,         /* <end> */
    SAMPLE_LEFT,        /* <left>, takes the white space before it */
    SAMPLE_RIGHT,       /* <right>, takes the white space after it */
    SAMPLE_TAG,         /* <b>, not special */
    SAMPLE_LINES,       /* two line ends, not special */
    SAMPLE_WORD,        /* "sun" as a single word */
    SAMPLE_UNKNOWN,     /* <unk> */
    SAMPLE_SPECIAL_END
};

/* A token whose spelling is its text; text from outside the arena must outlive `compile`. */
static inline void sample_token(struct compile *compile, uint32_t id, const char *text, size_t length, uint8_t kind)
{
    compile->tokens[id] = (struct compile_token){text, length, text, length, -(double)id, kind};
}

static inline int sample_added(struct compile *compile, bulla_error *error)
{
    static const struct {
        const char *text;
        uint8_t kind;
        uint32_t flags;
    } added[] = {
        {"<s>", TOKEN_CONTROL, ADDED_SPECIAL},
        {"<end>", TOKEN_CONTROL | TOKEN_END, ADDED_SPECIAL},
        {"<left>", TOKEN_CONTROL, ADDED_SPECIAL | ADDED_LEFT_STRIP},
        {"<right>", TOKEN_CONTROL, ADDED_SPECIAL | ADDED_RIGHT_STRIP},
        {"<b>", TOKEN_USER, ADDED_NORMALIZED},
        {"\n\n", TOKEN_USER, 0},
        {"sun", TOKEN_USER, ADDED_SINGLE_WORD},
        {"<unk>", TOKEN_UNKNOWN, ADDED_SPECIAL},
    };
    for (uint32_t i = 0; i < sizeof added / sizeof *added; i++) {
        size_t length = strlen(added[i].text);
        sample_token(compile, SAMPLE_START + i, added[i].text, length, added[i].kind);
        if (compile_add_added(compile, SAMPLE_START + i, added[i].flags, added[i].text, length, error))
            return error->code;
    }
    return BULLA_OK;
}

/* Byte-level: the bytes are tokens. SentencePiece: they are the fallback, and
 * some characters are tokens, behind the words. */
static inline int sample_build(uint32_t algorithm, uint32_t split, uint32_t flags, struct buffer *block,
                               bulla_error *error)
{
    struct compile compile;
    static const char ascii[] = "abcdefghijklmnopqrstuvwxyz <>.";
    int sentencepiece = algorithm == TOKENIZER_SENTENCEPIECE;
    if (compile_start(&compile, SAMPLE_IDS, error))
        return error->code;
    compile.algorithm = algorithm;
    compile.split = split;
    compile.flags = flags;
    compile.start = SAMPLE_START;
    compile.end = SAMPLE_END;
    compile.unknown = SAMPLE_UNKNOWN;
    char *bytes = arena_alloc(&compile.arena, 256, 1, error);
    int code = bytes ? BULLA_OK : error->code;
    for (uint32_t byte = 0; code == BULLA_OK && byte < 256; byte++) {
        bytes[byte] = (char)byte;
        sample_token(&compile, byte, bytes + byte, 1, sentencepiece ? TOKEN_BYTE : TOKEN_NORMAL);
    }
    for (uint32_t i = 0; code == BULLA_OK && i < SAMPLE_WORDS; i++)
        sample_token(&compile, SAMPLE_FIRST + i, sample_words[i], strlen(sample_words[i]), TOKEN_NORMAL);
    for (uint32_t i = 0; code == BULLA_OK && sentencepiece && ascii[i]; i++)
        sample_token(&compile, SAMPLE_FIRST + SAMPLE_WORDS + i, ascii + i, 1, TOKEN_NORMAL);
    if (code == BULLA_OK)
        code = compile_merges_from_scores(&compile, error) || sample_added(&compile, error) ||
               compile_write(&compile, block, error);
    compile_free(&compile);
    return code ? error->code : BULLA_OK;
}

#endif
