/* The compiled block: checked once, completely, then read in place. */
#include "model/tokenizer.h"

#include "base/memory.h"
#include "base/utf8.h"

static const char magic[8] = "BULLATOK";

struct sizes {
    uint32_t added[2];
    uint64_t total;
};

static int damaged(bulla_error *error, const char *what, uint64_t where)
{
    return bulla_fail(error, BULLA_E_INPUT, "tokenizer block: %s (at index %llu): import the model again", what,
                      (unsigned long long)where);
}

static int check_range(bulla_error *error, const char *name, uint64_t found, uint64_t low, uint64_t high)
{
    if (found >= low && found <= high)
        return BULLA_OK;
    return bulla_fail(error, BULLA_E_INPUT, "tokenizer block: %s is %llu, expected %llu to %llu", name,
                      (unsigned long long)found, (unsigned long long)low, (unsigned long long)high);
}

static int check_id(bulla_error *error, const char *name, uint32_t id, uint32_t vocabulary)
{
    return id == TOKENIZER_NONE ? BULLA_OK : check_range(error, name, id, 0, vocabulary - 1);
}

static int read_header(struct bulla_tokenizer *tokenizer, const uint8_t *block, size_t length, struct sizes *sizes,
                       bulla_error *error)
{
    struct reader reader = reader_over(block, length);
    const uint8_t *found = reader_bytes(&reader, sizeof magic);
    if (!found || memcmp(found, magic, sizeof magic) != 0)
        return bulla_fail(error, BULLA_E_INPUT, "tokenizer block: does not begin with BULLATOK");
    uint32_t version = reader_u32(&reader);
    if (version != TOKENIZER_VERSION)
        return bulla_fail(error, BULLA_E_UNSUPPORTED, "tokenizer block: version %u, this program reads version %d",
                          version, TOKENIZER_VERSION);
    tokenizer->algorithm = reader_u32(&reader);
    tokenizer->split = reader_u32(&reader);
    tokenizer->flags = reader_u32(&reader);
    tokenizer->vocabulary = reader_u32(&reader);
    tokenizer->merges = reader_u32(&reader);
    sizes->added[0] = reader_u32(&reader);
    sizes->added[1] = reader_u32(&reader);
    tokenizer->whole_words = reader_u32(&reader);
    tokenizer->start = reader_u32(&reader);
    tokenizer->end = reader_u32(&reader);
    tokenizer->unknown = reader_u32(&reader);
    tokenizer->pool_length = reader_u32(&reader);
    uint32_t reserved = reader_u32(&reader);
    sizes->total = reader_u64(&reader);
    uint64_t reserved_end = reader_u64(&reader);
    if (reader.failed)
        return bulla_fail(error, BULLA_E_INPUT, "tokenizer block: %zu bytes are too few for a header", length);
    if (reserved != 0 || reserved_end != 0)
        return bulla_fail(error, BULLA_E_INPUT, "tokenizer block: reserved header bytes are not zero");
    uint32_t vocabulary = tokenizer->vocabulary;
    int bad = check_range(error, "algorithm", tokenizer->algorithm, TOKENIZER_BYTE_LEVEL, TOKENIZER_SENTENCEPIECE) ||
              check_range(error, "split", tokenizer->split, 0, TOKENIZER_SPLIT_COUNT - 1) ||
              check_range(error, "flags", tokenizer->flags, 0, TOKENIZER_ALL_FLAGS) ||
              check_range(error, "vocabulary", vocabulary, 1, TOKENIZER_MAX_VOCABULARY) ||
              check_range(error, "merges", tokenizer->merges, 0, TOKENIZER_MAX_MERGES) ||
              check_range(error, "added tokens", sizes->added[0], 0, TOKENIZER_MAX_ADDED) ||
              check_range(error, "normalised added tokens", sizes->added[1], 0, TOKENIZER_MAX_ADDED) ||
              check_range(error, "whole words", tokenizer->whole_words, 0, vocabulary) ||
              check_id(error, "start token", tokenizer->start, vocabulary) ||
              check_id(error, "end token", tokenizer->end, vocabulary) ||
              check_id(error, "unknown token", tokenizer->unknown, vocabulary);
    return bad ? error->code : BULLA_OK;
}

/* Places the sections; the header's counts fix every size. */
static int place_sections(struct bulla_tokenizer *tokenizer, const uint8_t *block, size_t length,
                          const struct sizes *sizes, bulla_error *error)
{
    struct reader reader = reader_over(block, length);
    uint64_t vocabulary = tokenizer->vocabulary;
    reader_bytes(&reader, TOKENIZER_HEADER_BYTES);
    tokenizer->token_offsets = reader_bytes(&reader, 4 * (vocabulary + 1));
    tokenizer->merge_first = reader_bytes(&reader, 4 * (vocabulary + 1));
    tokenizer->merge_entries = reader_bytes(&reader, (uint64_t)TOKENIZER_MERGE_BYTES * tokenizer->merges);
    for (int list = 0; list < 2; list++) {
        tokenizer->added[list].count = sizes->added[list];
        tokenizer->added[list].entries = reader_bytes(&reader, (uint64_t)TOKENIZER_ADDED_BYTES * sizes->added[list]);
    }
    tokenizer->whole_order = reader_bytes(&reader, 4 * (uint64_t)tokenizer->whole_words);
    tokenizer->token_kinds = reader_bytes(&reader, vocabulary);
    tokenizer->pool = reader_bytes(&reader, tokenizer->pool_length);
    if (reader.failed || reader_left(&reader) != 0 || sizes->total != length)
        return bulla_fail(error, BULLA_E_INPUT,
                          "tokenizer block: %zu bytes long, its header says %llu and its counts need another length",
                          length, (unsigned long long)sizes->total);
    return BULLA_OK;
}

static int check_tokens(const struct bulla_tokenizer *tokenizer, bulla_error *error)
{
    uint32_t previous = tokenizer_word(tokenizer->token_offsets, 0);
    if (previous != 0)
        return damaged(error, "the first spelling does not start at 0", 0);
    for (uint32_t id = 0; id < tokenizer->vocabulary; id++) {
        uint32_t next = tokenizer_word(tokenizer->token_offsets, (size_t)id + 1);
        if (next < previous || next - previous > TOKENIZER_MAX_TOKEN_LENGTH || next > tokenizer->pool_length)
            return damaged(error, "a spelling's offset is out of order", id);
        int kind = tokenizer->token_kinds[id];
        if ((kind & TOKEN_KIND_MASK) >= TOKEN_KINDS || (kind & ~(TOKEN_KIND_MASK | TOKEN_END)) != 0)
            return damaged(error, "an unknown kind of token", id);
        if ((kind & TOKEN_KIND_MASK) == TOKEN_BYTE && next - previous != 1)
            return damaged(error, "a byte token that is not one byte", id);
        previous = next;
    }
    return BULLA_OK;
}

static uint32_t spelling_length(const struct bulla_tokenizer *tokenizer, uint32_t id)
{
    uint32_t length;
    tokenizer_spelling(tokenizer, id, &length);
    return length;
}

static int check_merges(const struct bulla_tokenizer *tokenizer, bulla_error *error)
{
    uint32_t vocabulary = tokenizer->vocabulary;
    uint32_t at = tokenizer_word(tokenizer->merge_first, 0);
    if (at != 0)
        return damaged(error, "the first token's merges do not start at 0", 0);
    for (uint32_t left = 0; left < vocabulary; left++) {
        uint32_t end = tokenizer_word(tokenizer->merge_first, (size_t)left + 1);
        if (end < at || end > tokenizer->merges)
            return damaged(error, "a token's merges are out of order", left);
        uint32_t left_length = at < end ? spelling_length(tokenizer, left) : 0;
        for (int64_t last = -1; at < end; at++) {
            const uint8_t *entry = tokenizer->merge_entries + (size_t)TOKENIZER_MERGE_BYTES * at;
            uint32_t right = tokenizer_word(entry, 0), result = tokenizer_word(entry, 2);
            if (right >= vocabulary || right <= last || result >= vocabulary)
                return damaged(error, "a merge names no token, or is out of order", at);
            int kind = tokenizer_kind(tokenizer, result);
            if (kind != TOKEN_NORMAL && kind != TOKEN_USER)
                return damaged(error, "a merge gives a control token", at);
            if (left_length + spelling_length(tokenizer, right) != spelling_length(tokenizer, result))
                return damaged(error, "a merge gives a token of another length", at);
            last = right;
        }
    }
    return at == tokenizer->merges ? BULLA_OK : damaged(error, "merges belong to no token", at);
}

/* Order by bytes, a beginning before what it begins. */
static int compare_spellings(const uint8_t *a, size_t a_length, const uint8_t *b, size_t b_length)
{
    int order = memcmp(a, b, a_length < b_length ? a_length : b_length);
    return order ? order : a_length < b_length ? -1 : a_length > b_length;
}

static int check_whole_words(const struct bulla_tokenizer *tokenizer, bulla_error *error)
{
    const uint8_t *previous = NULL;
    uint32_t previous_length = 0;
    for (uint32_t i = 0; i < tokenizer->whole_words; i++) {
        uint32_t id = tokenizer_word(tokenizer->whole_order, i), length;
        if (id >= tokenizer->vocabulary)
            return damaged(error, "a whole word names no token", i);
        const uint8_t *spelling = tokenizer_spelling(tokenizer, id, &length);
        if (previous && compare_spellings(previous, previous_length, spelling, length) >= 0)
            return damaged(error, "whole words are out of order", i);
        previous = spelling;
        previous_length = length;
    }
    return BULLA_OK;
}

static int check_added(const struct bulla_tokenizer *tokenizer, struct tokenizer_added_list *list, bulla_error *error)
{
    const uint8_t *previous = NULL;
    uint32_t previous_length = 0, byte = 0;
    for (uint32_t i = 0; i < list->count; i++) {
        const uint8_t *entry = list->entries + (size_t)TOKENIZER_ADDED_BYTES * i;
        uint32_t id = tokenizer_word(entry, 0), flags = tokenizer_word(entry, 1);
        uint32_t offset = tokenizer_word(entry, 2), length = tokenizer_word(entry, 3);
        if (id >= tokenizer->vocabulary || flags > ADDED_ALL_FLAGS)
            return damaged(error, "an added token names no token, or has unknown flags", i);
        if (length == 0 || length > TOKENIZER_MAX_ADDED_LENGTH || offset > tokenizer->pool_length ||
            length > tokenizer->pool_length - offset)
            return damaged(error, "an added token's spelling is not in the pool", i);
        const uint8_t *spelling = tokenizer->pool + offset;
        if (utf8_check((const char *)spelling, length) != length)
            return damaged(error, "an added token's spelling is not UTF-8", i);
        if (previous && compare_spellings(previous, previous_length, spelling, length) >= 0)
            return damaged(error, "added tokens are out of order", i);
        while (byte <= spelling[0])
            list->first[byte++] = i;
        previous = spelling;
        previous_length = length;
    }
    while (byte < 257)
        list->first[byte++] = list->count;
    return BULLA_OK;
}

/* Byte-level: the one-byte tokens. SentencePiece: the tokens of byte fallback. The lowest id counts. */
static void derive_bytes(struct bulla_tokenizer *tokenizer)
{
    int kind = tokenizer->algorithm == TOKENIZER_BYTE_LEVEL ? TOKEN_NORMAL : TOKEN_BYTE;
    memset(tokenizer->byte_ids, 0xFF, sizeof tokenizer->byte_ids);
    for (uint32_t id = 0; id < tokenizer->vocabulary; id++) {
        uint32_t length;
        const uint8_t *spelling = tokenizer_spelling(tokenizer, id, &length);
        if (length == 1 && tokenizer_kind(tokenizer, id) == kind && tokenizer->byte_ids[spelling[0]] == TOKENIZER_NONE)
            tokenizer->byte_ids[spelling[0]] = id;
    }
}

enum { PAGES = 0x110000 / 256 };

static uint32_t one_character(const struct bulla_tokenizer *tokenizer, uint32_t id)
{
    uint32_t length, code_point;
    const uint8_t *spelling = tokenizer_spelling(tokenizer, id, &length);
    if (length == 0 || length > 4 || tokenizer_kind(tokenizer, id) != TOKEN_NORMAL)
        return TOKENIZER_NONE;
    return utf8_decode((const char *)spelling, length, &code_point) == length ? code_point : TOKENIZER_NONE;
}

static int derive_characters(struct bulla_tokenizer *tokenizer, bulla_error *error)
{
    tokenizer->character_pages = memory_alloc(PAGES, sizeof(uint32_t), error);
    if (!tokenizer->character_pages)
        return error->code;
    uint32_t pages = 0;
    memset(tokenizer->character_pages, 0xFF, PAGES * sizeof(uint32_t));
    for (uint32_t id = 0; id < tokenizer->vocabulary; id++) {
        uint32_t code_point = one_character(tokenizer, id);
        if (code_point != TOKENIZER_NONE && tokenizer->character_pages[code_point / 256] == TOKENIZER_NONE)
            tokenizer->character_pages[code_point / 256] = pages++;
    }
    tokenizer->characters = memory_alloc((size_t)pages * 256, sizeof(uint32_t), error);
    if (!tokenizer->characters)
        return error->code;
    memset(tokenizer->characters, 0xFF, (size_t)pages * 256 * sizeof(uint32_t));
    for (uint32_t id = 0; id < tokenizer->vocabulary; id++) {
        uint32_t code_point = one_character(tokenizer, id);
        if (code_point == TOKENIZER_NONE)
            continue;
        uint32_t *slot = &tokenizer->characters[tokenizer->character_pages[code_point / 256] * 256 + code_point % 256];
        if (*slot == TOKENIZER_NONE)
            *slot = id;
    }
    return BULLA_OK;
}

int bulla_tokenizer_open(const void *block, size_t length, bulla_tokenizer **tokenizer, bulla_error *error)
{
    bulla_error local = {0};
    if (!error)
        error = &local;
    *tokenizer = NULL;
    struct bulla_tokenizer *opened = memory_alloc(1, sizeof *opened, error);
    struct sizes sizes = {{0, 0}, 0};
    if (!opened)
        return error->code;
    int bad = read_header(opened, block, length, &sizes, error) ||
              place_sections(opened, block, length, &sizes, error) || check_tokens(opened, error) ||
              check_merges(opened, error) || check_added(opened, &opened->added[0], error) ||
              check_added(opened, &opened->added[1], error) || check_whole_words(opened, error) ||
              (opened->algorithm == TOKENIZER_SENTENCEPIECE && derive_characters(opened, error));
    if (bad) {
        bulla_tokenizer_close(opened);
        return error->code;
    }
    derive_bytes(opened);
    *tokenizer = opened;
    return BULLA_OK;
}

void bulla_tokenizer_close(bulla_tokenizer *tokenizer)
{
    if (!tokenizer)
        return;
    memory_free(tokenizer->characters);
    memory_free(tokenizer->character_pages);
    memory_free(tokenizer);
}

int tokenizer_find_merge(const struct bulla_tokenizer *tokenizer, uint32_t left, uint32_t right, uint32_t *rank,
                         uint32_t *result)
{
    size_t low = tokenizer_word(tokenizer->merge_first, left);
    size_t end = tokenizer_word(tokenizer->merge_first, (size_t)left + 1), high = end;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (tokenizer_load(tokenizer->merge_entries + TOKENIZER_MERGE_BYTES * middle) < right)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == end)
        return 0;
    const uint8_t *entry = tokenizer->merge_entries + TOKENIZER_MERGE_BYTES * low;
    *rank = tokenizer_word(entry, 1);
    *result = tokenizer_word(entry, 2);
    return tokenizer_word(entry, 0) == right;
}

uint32_t tokenizer_character_id(const struct bulla_tokenizer *tokenizer, uint32_t code_point)
{
    uint32_t page = tokenizer->character_pages[code_point / 256];
    return page == TOKENIZER_NONE ? TOKENIZER_NONE : tokenizer->characters[page * 256 + code_point % 256];
}

uint32_t tokenizer_whole_word(const struct bulla_tokenizer *tokenizer, const uint8_t *word, size_t length)
{
    size_t low = 0, high = tokenizer->whole_words;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        uint32_t id = tokenizer_word(tokenizer->whole_order, middle), spelled;
        const uint8_t *spelling = tokenizer_spelling(tokenizer, id, &spelled);
        int order = compare_spellings(spelling, spelled, word, length);
        if (order == 0)
            return id;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return TOKENIZER_NONE;
}
