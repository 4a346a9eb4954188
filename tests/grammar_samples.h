/* A small vocabulary made by hand for grammars, and answers drawn from it at random. */
#ifndef TESTS_GRAMMAR_SAMPLES_H
#define TESTS_GRAMMAR_SAMPLES_H

#include "base/memory.h"
#include "exec/grammar.h"
#include "model/tokenizer_compile.h"

/* Ids 0..255 are the bytes. */
enum { GRAMMAR_SAMPLE_FIRST = 256, GRAMMAR_SAMPLE_IDS = 320, GRAMMAR_SAMPLE_START = 318, GRAMMAR_SAMPLE_END = 319 };

static const char *const grammar_sample_words[] = {"{\"",
                                                   "\":",
                                                   "\": ",
                                                   "\", \"",
                                                   "\"}",
                                                   "\"]",
                                                   ", ",
                                                   ",\"",
                                                   "[{\"",
                                                   "}, {\"",
                                                   "]}",
                                                   "}}",
                                                   "true",
                                                   "false",
                                                   "null",
                                                   "12",
                                                   "100",
                                                   ".5",
                                                   "foo",
                                                   "bar",
                                                   "\"foo",
                                                   "a\"",
                                                   " the",
                                                   "\\n",
                                                   "\\\"",
                                                   "\\u00",
                                                   "\\ud83d\\udc32",
                                                   "\xC3\xA9",
                                                   "\xE4\xBD",
                                                   "\xA0",
                                                   "\xF0\x9F\x90\xB2",
                                                   "\xF0\x9F",
                                                   "\n  ",
                                                   "  ",
                                                   "-1",
                                                   "0.",
                                                   "e+",
                                                   "2024-",
                                                   "name",
                                                   "abc\", ",
                                                   "[[",
                                                   "]]",
                                                   " {",
                                                   "\":[",
                                                   "\":{\"",
                                                   "@a.",
                                                   "://",
                                                   "<tool>",
                                                   "</tool>"};
enum { GRAMMAR_SAMPLE_WORDS = sizeof grammar_sample_words / sizeof *grammar_sample_words };

struct grammar_sample {
    struct buffer block;
    bulla_tokenizer *tokenizer;
    struct grammar_vocabulary *vocabulary;
};

static inline void grammar_sample_token(struct compile *compile, uint32_t id, const char *text, size_t length,
                                        uint8_t kind)
{
    compile->tokens[id] = (struct compile_token){text, length, text, length, -(double)id, kind};
}

/* SentencePiece: decoding drops a space at the start. `without` is a byte that no token has, or -1. */
static inline int grammar_sample_open(struct grammar_sample *sample, int sentencepiece, int without, bulla_error *error)
{
    static char bytes[256];
    struct compile compile;
    *sample = (struct grammar_sample){0};
    if (compile_start(&compile, GRAMMAR_SAMPLE_IDS, error))
        return error->code;
    compile.algorithm = sentencepiece ? TOKENIZER_SENTENCEPIECE : TOKENIZER_BYTE_LEVEL;
    compile.split = TOKENIZER_SPLIT_NONE;
    compile.flags = sentencepiece ? TOKENIZER_PREFIX | TOKENIZER_STRIP_FIRST : 0;
    compile.start = GRAMMAR_SAMPLE_START;
    compile.end = GRAMMAR_SAMPLE_END;
    compile.unknown = TOKENIZER_NONE;
    for (uint32_t byte = 0; byte < 256; byte++) {
        bytes[byte] = (char)byte;
        if ((int)byte != without)
            grammar_sample_token(&compile, byte, bytes + byte, 1, sentencepiece ? TOKEN_BYTE : TOKEN_NORMAL);
    }
    for (uint32_t i = 0; i < GRAMMAR_SAMPLE_WORDS; i++)
        if (without < 0 || !strchr(grammar_sample_words[i], without))
            grammar_sample_token(&compile, GRAMMAR_SAMPLE_FIRST + i, grammar_sample_words[i],
                                 strlen(grammar_sample_words[i]), TOKEN_NORMAL);
    grammar_sample_token(&compile, GRAMMAR_SAMPLE_START, "<s>", 3, TOKEN_CONTROL);
    grammar_sample_token(&compile, GRAMMAR_SAMPLE_END, "<end>", 5, TOKEN_CONTROL | TOKEN_END);
    int code = compile_write(&compile, &sample->block, error);
    compile_free(&compile);
    if (code == BULLA_OK)
        code = bulla_tokenizer_open(sample->block.data, sample->block.length, &sample->tokenizer, error);
    if (code == BULLA_OK)
        code = grammar_vocabulary_open(sample->tokenizer, GRAMMAR_SAMPLE_IDS + 5, &sample->vocabulary, error);
    return code;
}

static inline void grammar_sample_close(struct grammar_sample *sample)
{
    grammar_vocabulary_close(sample->vocabulary);
    bulla_tokenizer_close(sample->tokenizer);
    buffer_free(&sample->block);
}

static inline uint64_t grammar_sample_random(uint64_t *seed)
{
    *seed += UINT64_C(0x9E3779B97F4A7C15);
    uint64_t value = (*seed ^ *seed >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    value = (value ^ value >> 27) * UINT64_C(0x94D049BB133111EB);
    return value ^ value >> 31;
}

static inline int grammar_sample_is_allowed(const uint64_t *allowed, uint32_t id)
{
    return (int)(allowed[id / 64] >> (id & 63) & 1);
}

/* What an answer is drawn with: chance, and a text (the specification) whose parts are likely to lead to an end. */
struct grammar_sample_draws {
    uint64_t seed;
    const char *hint;
    size_t hint_length, hint_at;
};

/* The next byte of the hint where it is allowed, else somewhere else in it; GRAMMAR_SAMPLE_IDS for none. */
static inline uint32_t grammar_sample_hint(const uint64_t *allowed, struct grammar_sample_draws *draws)
{
    if (draws->hint_length == 0)
        return GRAMMAR_SAMPLE_IDS;
    for (int tries = 0; tries < 20; tries++) {
        uint8_t byte = (uint8_t)draws->hint[draws->hint_at];
        draws->hint_at = (draws->hint_at + 1) % draws->hint_length;
        if (grammar_sample_is_allowed(allowed, byte))
            return byte;
        draws->hint_at = grammar_sample_random(&draws->seed) % draws->hint_length;
    }
    return GRAMMAR_SAMPLE_IDS;
}

/* One of the allowed ids; the more steps there were, the likelier one that closes something. */
static inline uint32_t grammar_sample_draw(const uint64_t *allowed, struct grammar_sample_draws *draws, size_t step)
{
    static const char closing[] = "]}\"01";
    uint32_t ids[GRAMMAR_SAMPLE_IDS + 64], count = 0, hint = GRAMMAR_SAMPLE_IDS;
    uint64_t *seed = &draws->seed;
    if (grammar_sample_is_allowed(allowed, GRAMMAR_SAMPLE_END) && (step > 60 || grammar_sample_random(seed) % 3 == 0))
        return GRAMMAR_SAMPLE_END;
    if (grammar_sample_random(seed) % 16 < (step > 60 ? 14u : 3u))
        hint = grammar_sample_hint(allowed, draws);
    if (hint != GRAMMAR_SAMPLE_IDS)
        return hint;
    if (grammar_sample_random(seed) % 4 < (step > 60 ? 3u : 1u))
        for (size_t i = 0; i < sizeof closing - 1; i++)
            if (grammar_sample_is_allowed(allowed, (uint8_t)closing[i]))
                return (uint8_t)closing[i];
    for (uint32_t id = 0; id < GRAMMAR_SAMPLE_IDS; id++)
        if (grammar_sample_is_allowed(allowed, id))
            ids[count++] = id;
    return count ? ids[grammar_sample_random(seed) % count] : GRAMMAR_SAMPLE_IDS;
}

/* Appends an answer's text as it is streamed. BULLA_E_LIMIT when it does not end within `most` tokens. */
static inline int grammar_sample_answer(const struct grammar_sample *sample, const struct grammar *grammar,
                                        uint64_t seed, const char *hint, size_t hint_length, size_t most,
                                        struct buffer *text, bulla_error *error)
{
    struct grammar_sample_draws draws = {.seed = seed, .hint = hint, .hint_length = hint_length};
    struct grammar_state *state;
    bulla_text_stream stream = {0};
    char out[64];
    int code = grammar_state_open(grammar, sample->vocabulary, &state, error);
    size_t step = 0;
    for (; code == BULLA_OK && step < most; step++) {
        const uint64_t *allowed;
        code = grammar_state_allowed(state, &allowed, error);
        if (code)
            break;
        uint32_t id = grammar_sample_draw(allowed, &draws, step);
        code = grammar_state_accept(state, id, error);
        if (id == GRAMMAR_SAMPLE_END)
            break;
        buffer_append(text, out, bulla_text_stream_push(sample->tokenizer, &stream, id, out, sizeof out));
    }
    if (code == BULLA_OK && step == most)
        code = bulla_fail(error, BULLA_E_LIMIT, "no end after %zu tokens", most);
    buffer_append(text, out, bulla_text_stream_end(&stream, out, sizeof out));
    grammar_state_close(state);
    return code;
}

/* Whether the text, byte by byte, is an answer. */
static inline int grammar_sample_accepts(const struct grammar_sample *sample, const struct grammar *grammar,
                                         const char *text, size_t length, bulla_error *error)
{
    struct grammar_state *state;
    int accepted = grammar_state_open(grammar, sample->vocabulary, &state, error) == BULLA_OK;
    for (size_t i = 0; accepted && i < length; i++) {
        bulla_error refused = {0};
        accepted = grammar_state_accept(state, (uint8_t)text[i], &refused) == BULLA_OK;
        if (!accepted && refused.code != BULLA_E_USAGE)
            bulla_fail(error, refused.code, "%s", refused.text);
    }
    accepted = accepted && grammar_state_is_complete(state);
    grammar_state_close(state);
    return accepted;
}

#endif
