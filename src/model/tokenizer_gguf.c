/* The tokenizer of a GGUF file: the keys tokenizer.ggml.* of the GGUF
 * specification. What the file does not say (the regular expression, whether a
 * token takes white space after it) is known by the name of its pre-tokenizer
 * or its architecture. */
#include "model/tokenizer_gguf.h"

#include <math.h>

#include "model/name_table.h"

struct pre_tokenizer {
    const char *name;
    uint32_t split, flags;
};

/* Values of tokenizer.ggml.pre. */
static const struct pre_tokenizer pre_tokenizers[] = {
    {"default", TOKENIZER_SPLIT_GPT2, 0},
    {"gpt-2", TOKENIZER_SPLIT_GPT2, 0},
    {"smollm", TOKENIZER_SPLIT_SMOLLM, 0},
    {"starcoder", TOKENIZER_SPLIT_SMOLLM, 0},
    {"refact", TOKENIZER_SPLIT_SMOLLM, 0},
    {"llama-bpe", TOKENIZER_SPLIT_LLAMA3, TOKENIZER_WHOLE_WORDS | TOKENIZER_ADD_START},
    {"llama3", TOKENIZER_SPLIT_LLAMA3, TOKENIZER_WHOLE_WORDS | TOKENIZER_ADD_START},
    {"llama-v3", TOKENIZER_SPLIT_LLAMA3, TOKENIZER_WHOLE_WORDS | TOKENIZER_ADD_START},
    {"dbrx", TOKENIZER_SPLIT_LLAMA3, 0}, /* Phi-4 */
    {"qwen2", TOKENIZER_SPLIT_QWEN2, TOKENIZER_NFC},
    {"deepseek-r1-qwen", TOKENIZER_SPLIT_QWEN2, TOKENIZER_NFC | TOKENIZER_ADD_START},
    {"qwen35", TOKENIZER_SPLIT_QWEN35, TOKENIZER_NFC},
    {"tekken", TOKENIZER_SPLIT_TEKKEN, TOKENIZER_WHOLE_WORDS | TOKENIZER_ADD_START},
    {"gpt-4o", TOKENIZER_SPLIT_GPT4O, 0},
};

static int find_pre_tokenizer(const struct source *source, struct compile *compile, bulla_error *error)
{
    const char *name = "default";
    size_t length;
    if (source_get_text(source, "tokenizer.ggml.pre", &name, &length, error) < 0)
        return error->code;
    for (size_t i = 0; i < sizeof pre_tokenizers / sizeof *pre_tokenizers; i++) {
        if (strcmp(pre_tokenizers[i].name, name) == 0) {
            compile->split = pre_tokenizers[i].split;
            compile->flags = pre_tokenizers[i].flags;
            return BULLA_OK;
        }
    }
    return bulla_fail(error, BULLA_E_UNSUPPORTED,
                      "tokenizer.ggml.pre is \"%.60s\"; supported are gpt-2, smollm, starcoder, refact, llama-bpe, "
                      "dbrx, qwen2, deepseek-r1-qwen, qwen35, tekken and gpt-4o",
                      name);
}

static int find_algorithm(const struct source *source, struct compile *compile, bulla_error *error)
{
    const char *model = NULL;
    size_t length;
    int found = source_get_text(source, "tokenizer.ggml.model", &model, &length, error);
    if (found < 0)
        return error->code;
    if (found == 0)
        return bulla_fail(error, BULLA_E_INPUT, "tokenizer.ggml.model is missing: the file holds no tokenizer");
    if (strcmp(model, "gpt2") == 0) {
        compile->algorithm = TOKENIZER_BYTE_LEVEL;
        return find_pre_tokenizer(source, compile, error);
    }
    if (strcmp(model, "llama") == 0) {
        compile->algorithm = TOKENIZER_SENTENCEPIECE;
        compile->split = TOKENIZER_SPLIT_NONE;
        compile->flags = TOKENIZER_PREFIX | TOKENIZER_STRIP_FIRST | TOKENIZER_ADD_START | TOKENIZER_FUSE_UNKNOWN;
        return BULLA_OK;
    }
    return bulla_fail(error, BULLA_E_UNSUPPORTED,
                      "tokenizer.ggml.model is \"%.60s\"; supported are gpt2 (byte-level BPE) and llama "
                      "(SentencePiece)",
                      model);
}

/* A key that switches some flags on or off; they stay as they are where it is missing. */
static int read_switch(const struct source *source, const char *key, uint32_t flags, struct compile *compile,
                       bulla_error *error)
{
    int on, found = source_get_bool(source, key, &on, error);
    if (found < 0)
        return error->code;
    if (found)
        compile->flags = on ? compile->flags | flags : compile->flags & ~flags;
    return BULLA_OK;
}

static int read_id(const struct source *source, const char *key, uint32_t vocabulary, uint32_t *id, bulla_error *error)
{
    int64_t value;
    int found = source_get_integer(source, key, -1, UINT32_MAX, &value, error);
    if (found < 0)
        return error->code;
    *id = TOKENIZER_NONE;
    if (found == 0 || value < 0 || value == UINT32_MAX)
        return BULLA_OK;
    if (value >= vocabulary)
        return bulla_fail(error, BULLA_E_INPUT, "%s is %lld: the vocabulary has %u tokens", key, (long long)value,
                          vocabulary);
    *id = (uint32_t)value;
    return BULLA_OK;
}

/* tokenizer.ggml.token_type: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. */
static int read_kind(const struct source *source, uint64_t index, uint8_t *kind, bulla_error *error)
{
    static const uint8_t kinds[] = {TOKEN_NORMAL,  TOKEN_NORMAL, TOKEN_UNKNOWN, TOKEN_CONTROL,
                                    TOKEN_USER, TOKEN_UNUSED, TOKEN_BYTE};
    int64_t type;
    if (source_get_array_integer(source, "tokenizer.ggml.token_type", index, &type, error) != 1)
        return bulla_fail(error, BULLA_E_INPUT, "tokenizer.ggml.token_type[%llu] is missing",
                          (unsigned long long)index);
    if (type < 0 || type > 6)
        return bulla_fail(error, BULLA_E_INPUT, "tokenizer.ggml.token_type[%llu] is %lld, expected 1 to 6",
                          (unsigned long long)index, (long long)type);
    *kind = kinds[type];
    return BULLA_OK;
}

static int read_score(const struct source *source, uint64_t index, double *score, bulla_error *error)
{
    if (source_get_array_real(source, "tokenizer.ggml.scores", index, score, error) != 1)
        return bulla_fail(error, BULLA_E_INPUT, "tokenizer.ggml.scores[%llu] is missing", (unsigned long long)index);
    return BULLA_OK;
}

static int expect_count(const struct source *source, const char *key, uint64_t expected, int *there, bulla_error *error)
{
    uint64_t count;
    *there = source_get_array(source, key, &count, error);
    if (*there < 0)
        return error->code;
    if (*there && count != expected)
        return bulla_fail(error, BULLA_E_INPUT, "%s has %llu elements, tokenizer.ggml.tokens has %llu", key,
                          (unsigned long long)count, (unsigned long long)expected);
    return BULLA_OK;
}

static int read_tokens(const struct source *source, struct compile *compile, uint64_t count, bulla_error *error)
{
    int sentencepiece = compile->algorithm == TOKENIZER_SENTENCEPIECE, types, scores;
    if (expect_count(source, "tokenizer.ggml.token_type", count, &types, error) ||
        expect_count(source, "tokenizer.ggml.scores", count, &scores, error))
        return error->code;
    if (sentencepiece && (!types || !scores))
        return bulla_fail(error, BULLA_E_INPUT, "tokenizer.ggml.%s is missing, which a SentencePiece vocabulary needs",
                          types ? "scores" : "token_type");
    for (uint64_t i = 0; i < count; i++) {
        struct compile_token *token = &compile->tokens[i];
        if (source_get_array_text(source, "tokenizer.ggml.tokens", i, &token->text, &token->text_length, error) != 1)
            return bulla_fail(error, BULLA_E_INPUT, "tokenizer.ggml.tokens[%llu] is missing", (unsigned long long)i);
        token->kind = TOKEN_NORMAL;
        if (types && read_kind(source, i, &token->kind, error))
            return error->code;
        if (sentencepiece && read_score(source, i, &token->score, error))
            return error->code;
        if (!sentencepiece && token->kind == TOKEN_BYTE)
            token->kind = TOKEN_NORMAL;
    }
    return BULLA_OK;
}

static int index_tokens(const struct compile *compile, struct name_table *names, bulla_error *error)
{
    for (uint32_t id = 0; id < compile->vocabulary; id++) {
        const struct compile_token *token = &compile->tokens[id];
        size_t found;
        int kind = token->kind & TOKEN_KIND_MASK;
        if (token->text && (kind == TOKEN_NORMAL || kind == TOKEN_USER) &&
            !name_table_find(names, token->text, token->text_length, &found) &&
            name_table_add(names, token->text, token->text_length, id, error))
            return error->code;
    }
    return BULLA_OK;
}

/* "left right": the ids of both and of what they make together. */
static int read_merge(struct compile *compile, const struct name_table *names, uint64_t index, const char *text,
                      size_t length, char *joined, bulla_error *error)
{
    const char *space = length > 1 ? memchr(text + 1, ' ', length - 1) : NULL;
    size_t left_length = space ? (size_t)(space - text) : 0, left, right, result;
    if (!space || left_length + 1 == length)
        return bulla_fail(error, BULLA_E_INPUT, "tokenizer.ggml.merges[%llu] is \"%.60s\", expected two tokens",
                          (unsigned long long)index, text);
    memcpy(joined, text, left_length);
    memcpy(joined + left_length, space + 1, length - left_length - 1);
    if (!name_table_find(names, text, left_length, &left) ||
        !name_table_find(names, space + 1, length - left_length - 1, &right) ||
        !name_table_find(names, joined, length - 1, &result))
        return bulla_fail(error, BULLA_E_INPUT,
                          "tokenizer.ggml.merges[%llu] is \"%.60s\": not both and their sum are tokens",
                          (unsigned long long)index, text);
    struct compile_merge merge = {(uint32_t)left, (uint32_t)right, (uint32_t)index, (uint32_t)result};
    return compile_add_merge(compile, merge, error);
}

static int read_merges(const struct source *source, struct compile *compile, bulla_error *error)
{
    uint64_t count;
    struct name_table names = {0};
    struct buffer joined = {0};
    int found = source_get_array(source, "tokenizer.ggml.merges", &count, error);
    if (found == 0)
        return bulla_fail(error, BULLA_E_INPUT, "tokenizer.ggml.merges is missing, which a BPE vocabulary needs");
    if (found < 0 || index_tokens(compile, &names, error))
        count = 0;
    for (uint64_t i = 0; i < count && error->code == BULLA_OK; i++) {
        const char *text;
        size_t length;
        if (source_get_array_text(source, "tokenizer.ggml.merges", i, &text, &length, error) != 1)
            break;
        buffer_clear(&joined);
        uint8_t *room = buffer_extend(&joined, length + 1);
        if (room)
            read_merge(compile, &names, i, text, length, (char *)room, error);
        else
            bulla_fail(error, joined.error.code, "%s", joined.error.text);
    }
    buffer_free(&joined);
    name_table_free(&names);
    return error->code;
}

/* Phi-3's tokenizer.json: these take the white space after them, and the file does not say so. */
static int phi3_takes_space(const struct compile_token *token)
{
    static const char *const do_not[] = {"<unk>", "<s>", "<|endoftext|>"};
    for (size_t i = 0; i < sizeof do_not / sizeof *do_not; i++) {
        if (strcmp(token->text, do_not[i]) == 0)
            return 0;
    }
    return (token->kind & TOKEN_KIND_MASK) == TOKEN_CONTROL || strcmp(token->text, "</s>") == 0;
}

static int add_added(const struct source *source, struct compile *compile, bulla_error *error)
{
    const char *architecture = "";
    size_t length;
    if (source_get_text(source, "general.architecture", &architecture, &length, error) < 0)
        return error->code;
    int sentencepiece = compile->algorithm == TOKENIZER_SENTENCEPIECE;
    int phi3 = sentencepiece && strcmp(architecture, "phi3") == 0;
    for (uint32_t id = 0; id < compile->vocabulary; id++) {
        const struct compile_token *token = &compile->tokens[id];
        int kind = token->kind & TOKEN_KIND_MASK;
        if (!token->text || (kind != TOKEN_CONTROL && kind != TOKEN_UNKNOWN && kind != TOKEN_USER))
            continue;
        uint32_t flags = kind == TOKEN_USER ? 0 : ADDED_SPECIAL;
        /* SentencePiece finds its user-defined symbols where spaces are already U+2581. */
        if (kind == TOKEN_USER && sentencepiece && (memchr(token->spelling, ' ', token->length)))
            flags |= ADDED_NORMALIZED;
        if (phi3 && phi3_takes_space(token))
            flags |= ADDED_RIGHT_STRIP;
        if (compile_add_added(compile, id, flags, token->spelling, token->length, error))
            return error->code;
    }
    return BULLA_OK;
}

static int read_special(const struct source *source, struct compile *compile, bulla_error *error)
{
    uint32_t turn_end, message_end, vocabulary = compile->vocabulary;
    if (read_id(source, "tokenizer.ggml.bos_token_id", vocabulary, &compile->start, error) ||
        read_id(source, "tokenizer.ggml.eos_token_id", vocabulary, &compile->end, error) ||
        read_id(source, "tokenizer.ggml.eot_token_id", vocabulary, &turn_end, error) ||
        read_id(source, "tokenizer.ggml.eom_token_id", vocabulary, &message_end, error))
        return error->code;
    if (compile->algorithm == TOKENIZER_SENTENCEPIECE &&
        read_id(source, "tokenizer.ggml.unknown_token_id", vocabulary, &compile->unknown, error))
        return error->code;
    const uint32_t ends[] = {compile->end, turn_end, message_end};
    for (int i = 0; i < 3; i++)
        compile_mark_end(compile, ends[i] == TOKENIZER_NONE ? -1 : (int64_t)ends[i]);
    compile_mark_known_ends(compile);
    if (read_switch(source, "tokenizer.ggml.add_bos_token", TOKENIZER_ADD_START, compile, error) ||
        read_switch(source, "tokenizer.ggml.add_eos_token", TOKENIZER_ADD_END, compile, error))
        return error->code;
    if (compile->algorithm == TOKENIZER_SENTENCEPIECE)
        return read_switch(source, "tokenizer.ggml.add_space_prefix", TOKENIZER_PREFIX | TOKENIZER_STRIP_FIRST,
                           compile, error);
    return BULLA_OK;
}

int tokenizer_compile_gguf(const struct source *source, uint32_t vocabulary, struct compile *compile,
                           bulla_error *error)
{
    uint64_t count;
    int found = source_get_array(source, "tokenizer.ggml.tokens", &count, error);
    if (found < 0)
        return error->code;
    if (found == 0)
        return bulla_fail(error, BULLA_E_INPUT, "tokenizer.ggml.tokens is missing: the file holds no tokenizer");
    if (count > vocabulary)
        return bulla_fail(error, BULLA_E_INPUT, "tokenizer.ggml.tokens has %llu tokens, the model's embedding %u rows",
                          (unsigned long long)count, vocabulary);
    if (compile_start(compile, vocabulary, error) || find_algorithm(source, compile, error) ||
        read_tokens(source, compile, count, error) || read_special(source, compile, error))
        return error->code;
    if (compile->algorithm == TOKENIZER_BYTE_LEVEL && read_merges(source, compile, error))
        return error->code;
    if (compile_spellings(compile, error) || add_added(source, compile, error))
        return error->code;
    return compile->algorithm == TOKENIZER_SENTENCEPIECE ? compile_merges_from_scores(compile, error) : BULLA_OK;
}
