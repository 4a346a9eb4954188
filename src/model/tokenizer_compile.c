#include "model/tokenizer_compile.h"

#include "base/memory.h"
#include "base/utf8.h"
#include "model/unicode.h"

int compile_start(struct compile *compile, uint32_t vocabulary, bulla_error *error)
{
    memset(compile, 0, sizeof *compile);
    compile->start = compile->end = compile->unknown = TOKENIZER_NONE;
    if (vocabulary == 0 || vocabulary > TOKENIZER_MAX_VOCABULARY)
        return bulla_fail(error, BULLA_E_UNSUPPORTED, "a vocabulary of %u tokens: 1 to %d are supported", vocabulary,
                          TOKENIZER_MAX_VOCABULARY);
    compile->tokens = memory_alloc(vocabulary, sizeof *compile->tokens, error);
    if (!compile->tokens)
        return error->code;
    compile->vocabulary = vocabulary;
    for (uint32_t id = 0; id < vocabulary; id++)
        compile->tokens[id] = (struct compile_token){.spelling = "", .kind = TOKEN_UNUSED};
    return BULLA_OK;
}

void compile_free(struct compile *compile)
{
    memory_free(compile->tokens);
    memory_free(compile->merges);
    memory_free(compile->added[0]);
    memory_free(compile->added[1]);
    arena_free(&compile->arena);
}

/* GPT-2's alphabet writes each byte as one printable character: itself where it
 * is one, else 256 + its number among those that are not. -1 for other characters. */
static int byte_of(uint32_t character)
{
    if (character < 256) {
        int printable = (character >= 0x21 && character <= 0x7E) || (character >= 0xA1 && character != 0xAD);
        return printable ? (int)character : -1;
    }
    if (character <= 0x120) /* 0x00..0x20 */
        return (int)character - 0x100;
    if (character <= 0x142) /* 0x7F..0xA0 */
        return (int)character - 0x121 + 0x7F;
    return character == 0x143 ? 0xAD : -1;
}

/* Into the arena; *length is 0 and *spelling NULL where the text is not in the alphabet. */
static int undo_byte_alphabet(struct compile *compile, struct compile_token *token, bulla_error *error)
{
    char *bytes = arena_alloc(&compile->arena, token->text_length + 1, 1, error);
    size_t count = 0;
    if (!bytes)
        return error->code;
    for (size_t offset = 0; offset < token->text_length;) {
        uint32_t character;
        offset = unicode_next(token->text, token->text_length, offset, &character);
        int byte = byte_of(character);
        if (byte < 0) {
            /* No text reaches it; shown as it is spelled. */
            token->spelling = token->text;
            token->length = token->text_length;
            token->kind = (uint8_t)((token->kind & ~TOKEN_KIND_MASK) | TOKEN_USER);
            return BULLA_OK;
        }
        bytes[count++] = (char)byte;
    }
    token->spelling = bytes;
    token->length = count;
    return BULLA_OK;
}

static int hex_digit(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    return digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
}

/* <0xAB> to the byte, or -1. */
static int byte_token(const char *text, size_t length)
{
    if (length != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>')
        return -1;
    int high = hex_digit(text[3]), low = hex_digit(text[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

static int undo_meta_symbol(struct compile *compile, struct compile_token *token, bulla_error *error)
{
    char *bytes = arena_alloc(&compile->arena, token->text_length + 1, 1, error);
    size_t count = 0;
    if (!bytes)
        return error->code;
    for (size_t offset = 0; offset < token->text_length;) {
        if (token->text_length - offset >= 3 && memcmp(token->text + offset, "\xE2\x96\x81", 3) == 0) {
            bytes[count++] = ' ';
            offset += 3;
        } else {
            bytes[count++] = token->text[offset++];
        }
    }
    token->spelling = bytes;
    token->length = count;
    return BULLA_OK;
}

static int spell(struct compile *compile, uint32_t id, bulla_error *error)
{
    struct compile_token *token = &compile->tokens[id];
    int kind = token->kind & TOKEN_KIND_MASK;
    token->spelling = token->text;
    token->length = token->text_length;
    if (compile->algorithm == TOKENIZER_BYTE_LEVEL)
        return kind == TOKEN_NORMAL ? undo_byte_alphabet(compile, token, error) : BULLA_OK;
    if (kind == TOKEN_BYTE) {
        int byte = byte_token(token->text, token->text_length);
        char *spelling = arena_alloc(&compile->arena, 1, 1, error);
        if (byte < 0)
            return bulla_fail(error, BULLA_E_INPUT, "token %u is a byte token, but spelled \"%.40s\" instead of <0xAB>",
                              id, token->text);
        if (!spelling)
            return error->code;
        *spelling = (char)byte;
        token->spelling = spelling;
        token->length = 1;
        return BULLA_OK;
    }
    return kind == TOKEN_NORMAL || kind == TOKEN_USER ? undo_meta_symbol(compile, token, error) : BULLA_OK;
}

int compile_spellings(struct compile *compile, bulla_error *error)
{
    for (uint32_t id = 0; id < compile->vocabulary; id++) {
        const struct compile_token *token = &compile->tokens[id];
        if (!token->text)
            continue;
        if (token->text_length > TOKENIZER_MAX_TOKEN_LENGTH)
            return bulla_fail(error, BULLA_E_UNSUPPORTED, "token %u is %zu bytes long: at most %d are supported", id,
                              token->text_length, TOKENIZER_MAX_TOKEN_LENGTH);
        if (spell(compile, id, error))
            return error->code;
    }
    return BULLA_OK;
}

/* Doubles the room of a growing array when it is full. */
static void *grow(void *items, size_t count, size_t *capacity, size_t size, bulla_error *error)
{
    if (count < *capacity)
        return items;
    size_t wanted = *capacity ? 2 * *capacity : 256;
    void *grown = memory_resize(items, wanted, size, error);
    if (grown)
        *capacity = wanted;
    return grown;
}

int compile_add_merge(struct compile *compile, struct compile_merge merge, bulla_error *error)
{
    struct compile_merge *grown =
        grow(compile->merges, compile->merge_count, &compile->merge_capacity, sizeof *grown, error);
    if (!grown)
        return error->code;
    compile->merges = grown;
    compile->merges[compile->merge_count++] = merge;
    if (compile->merge_count > TOKENIZER_MAX_MERGES)
        return bulla_fail(error, BULLA_E_UNSUPPORTED, "more than %d merges are not supported", TOKENIZER_MAX_MERGES);
    return BULLA_OK;
}

static int by_score(const void *context, uint32_t a, uint32_t b)
{
    const struct compile_token *tokens = context;
    return tokens[a].score > tokens[b].score ? -1 : tokens[a].score < tokens[b].score;
}

/* Fills `ranks`: 0 for the highest score, the same for equal ones. */
static int rank_scores(const struct compile *compile, uint32_t *ranks, bulla_error *error)
{
    uint32_t *order = memory_alloc(compile->vocabulary, sizeof *order, error);
    if (!order)
        return error->code;
    for (uint32_t id = 0; id < compile->vocabulary; id++)
        order[id] = id;
    if (compile_sort(order, compile->vocabulary, by_score, compile->tokens, error) == BULLA_OK) {
        uint32_t rank = 0;
        for (uint32_t i = 0; i < compile->vocabulary; i++) {
            rank += i > 0 && by_score(compile->tokens, order[i - 1], order[i]) != 0;
            ranks[order[i]] = rank;
        }
    }
    memory_free(order);
    return error->code;
}

static int is_normal(const struct compile_token *token)
{
    return (token->kind & TOKEN_KIND_MASK) == TOKEN_NORMAL && token->length > 0;
}

static int index_spellings(const struct compile *compile, struct name_table *names, bulla_error *error)
{
    for (uint32_t id = 0; id < compile->vocabulary; id++) {
        const struct compile_token *token = &compile->tokens[id];
        size_t found;
        if (is_normal(token) && !name_table_find(names, token->spelling, token->length, &found) &&
            name_table_add(names, token->spelling, token->length, id, error))
            return error->code;
    }
    return BULLA_OK;
}

static int add_splits(struct compile *compile, const struct name_table *names, uint32_t id, uint32_t rank,
                      bulla_error *error)
{
    const struct compile_token *token = &compile->tokens[id];
    uint32_t character;
    for (size_t at = unicode_next(token->spelling, token->length, 0, &character); at < token->length;
         at = unicode_next(token->spelling, token->length, at, &character)) {
        size_t left, right;
        if (!name_table_find(names, token->spelling, at, &left) ||
            !name_table_find(names, token->spelling + at, token->length - at, &right))
            continue;
        struct compile_merge merge = {(uint32_t)left, (uint32_t)right, rank, id};
        if (compile_add_merge(compile, merge, error))
            return error->code;
    }
    return BULLA_OK;
}

int compile_merges_from_scores(struct compile *compile, bulla_error *error)
{
    struct name_table names = {0};
    uint32_t *ranks = memory_alloc(compile->vocabulary, sizeof *ranks, error);
    int code = ranks ? rank_scores(compile, ranks, error) : error->code;
    if (code == BULLA_OK)
        code = index_spellings(compile, &names, error);
    for (uint32_t id = 0; code == BULLA_OK && id < compile->vocabulary; id++) {
        const struct compile_token *token = &compile->tokens[id];
        size_t first;
        /* Of tokens with one spelling the first counts. */
        if (is_normal(token) && name_table_find(&names, token->spelling, token->length, &first) && first == id)
            code = add_splits(compile, &names, id, ranks[id], error);
    }
    name_table_free(&names);
    memory_free(ranks);
    return code;
}

/* What the normalization makes of an added token's spelling, which is searched for in normalised text. */
static int normalise_spelling(struct compile *compile, const char **spelling, size_t *length, bulla_error *error)
{
    struct buffer out = {0};
    if (compile->algorithm == TOKENIZER_SENTENCEPIECE) {
        if (compile->flags & TOKENIZER_PREFIX && !(compile->flags & (TOKENIZER_PREFIX_FIRST | TOKENIZER_PREFIX_UNLESS)))
            buffer_append_byte(&out, ' ');
        for (size_t at = 0; at < *length; at++) {
            int meta = *length - at >= 3 && memcmp(*spelling + at, "\xE2\x96\x81", 3) == 0;
            buffer_append_byte(&out, meta ? ' ' : (uint8_t)(*spelling)[at]);
            at += meta ? 2 : 0;
        }
    } else if (compile->flags & TOKENIZER_NFC) {
        unicode_append_nfc(&out, *spelling, *length);
    } else {
        buffer_append(&out, *spelling, *length);
    }
    if (out.error.code)
        bulla_fail(error, out.error.code, "%s", out.error.text);
    char *copy = out.error.code ? NULL : arena_copy_text(&compile->arena, (const char *)out.data, out.length, error);
    if (copy) {
        *spelling = copy;
        *length = out.length;
    }
    buffer_free(&out);
    return copy ? BULLA_OK : error->code;
}

int compile_add_added(struct compile *compile, uint32_t id, uint32_t flags, const char *spelling, size_t length,
                      bulla_error *error)
{
    int list = flags & ADDED_NORMALIZED ? 1 : 0;
    if (length == 0)
        return BULLA_OK;
    if (list == 1 && normalise_spelling(compile, &spelling, &length, error))
        return error->code;
    if (length > TOKENIZER_MAX_ADDED_LENGTH)
        return bulla_fail(error, BULLA_E_UNSUPPORTED, "added token %u is %zu bytes long: at most %d are supported", id,
                          length, TOKENIZER_MAX_ADDED_LENGTH);
    if (utf8_check(spelling, length) != length)
        return bulla_fail(error, BULLA_E_INPUT, "added token %u is not UTF-8", id);
    size_t capacity = compile->added_capacity[list];
    struct compile_added *grown =
        grow(compile->added[list], compile->added_count[list], &capacity, sizeof *grown, error);
    if (!grown)
        return error->code;
    compile->added[list] = grown;
    compile->added_capacity[list] = (uint32_t)capacity;
    grown[compile->added_count[list]++] = (struct compile_added){id, flags, spelling, length};
    if (compile->added_count[list] > TOKENIZER_MAX_ADDED)
        return bulla_fail(error, BULLA_E_UNSUPPORTED, "more than %d added tokens are not supported",
                          TOKENIZER_MAX_ADDED);
    return BULLA_OK;
}

void compile_mark_end(struct compile *compile, int64_t id)
{
    if (id >= 0 && id < compile->vocabulary)
        compile->tokens[id].kind |= TOKEN_END;
}

void compile_mark_known_ends(struct compile *compile)
{
    /* Of the supported families' chat templates and base models. */
    static const char *const known[] = {
        "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>",
        "</s>", "<eos>", "<EOT>", "<|return|>",
    };
    for (uint32_t id = 0; id < compile->vocabulary; id++) {
        struct compile_token *token = &compile->tokens[id];
        for (size_t i = 0; i < sizeof known / sizeof *known && (token->kind & TOKEN_KIND_MASK) == TOKEN_CONTROL; i++) {
            if (token->text && token->text_length == strlen(known[i]) &&
                memcmp(token->text, known[i], token->text_length) == 0)
                token->kind |= TOKEN_END;
        }
    }
}
