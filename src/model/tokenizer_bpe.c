/* Byte-pair encoding of one word: of all neighbours that merge, those with the
 * lowest rank do, the leftmost first, until none does. A heap of candidates
 * makes that O(n log n), so a megabyte without a space is no special case. */
#include "model/tokenizer.h"

#include "base/memory.h"
#include "model/unicode.h"

struct bpe_symbol {
    uint32_t id; /* TOKENIZER_NONE: a character that is no token */
    uint32_t start; /* in the word; a symbol ends where the next one starts */
    uint32_t previous, next; /* TOKENIZER_NONE at the ends; `previous` is DEAD after a merge */
};
#define DEAD (UINT32_MAX - 1)

/* Symbol `at` and its neighbour, which ends before `end`, would become `result`. */
struct bpe_candidate {
    uint32_t rank, at;
    uint32_t end;
    uint32_t result;
};

static int comes_before(const struct bpe_candidate *a, const struct bpe_candidate *b)
{
    return a->rank < b->rank || (a->rank == b->rank && a->at < b->at);
}

static void push(struct tokenizer_bpe *bpe, struct bpe_candidate candidate)
{
    size_t at = bpe->heap_count++;
    while (at > 0 && comes_before(&candidate, &bpe->heap[(at - 1) / 2])) {
        bpe->heap[at] = bpe->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    bpe->heap[at] = candidate;
}

static struct bpe_candidate pop(struct tokenizer_bpe *bpe)
{
    struct bpe_candidate top = bpe->heap[0], last = bpe->heap[--bpe->heap_count];
    size_t at = 0, child;
    while ((child = 2 * at + 1) < bpe->heap_count) {
        if (child + 1 < bpe->heap_count && comes_before(&bpe->heap[child + 1], &bpe->heap[child]))
            child++;
        if (!comes_before(&bpe->heap[child], &last))
            break;
        bpe->heap[at] = bpe->heap[child];
        at = child;
    }
    bpe->heap[at] = last;
    return top;
}

static int reserve(struct tokenizer_bpe *bpe, size_t symbols, bulla_error *error)
{
    if (symbols <= bpe->symbol_capacity)
        return BULLA_OK;
    size_t capacity = symbols < 64 ? 64 : symbols + symbols / 2;
    tokenizer_bpe_free(bpe);
    bpe->symbols = memory_alloc(capacity, sizeof *bpe->symbols, error);
    /* One candidate a neighbourhood at first; each merge takes one away and adds at most two. */
    bpe->heap = memory_alloc(capacity, 2 * sizeof *bpe->heap, error);
    if (!bpe->symbols || !bpe->heap)
        return error->code;
    bpe->symbol_capacity = capacity;
    return BULLA_OK;
}

void tokenizer_bpe_free(struct tokenizer_bpe *bpe)
{
    memory_free(bpe->symbols);
    memory_free(bpe->heap);
    memset(bpe, 0, sizeof *bpe);
}

/* The word's first symbols: its bytes, or its characters. Bytes that are no
 * token are left out where there is no unknown token, as `tokenizers` does. */
static size_t split_symbols(const struct bulla_tokenizer *tokenizer, const char *word, size_t length,
                            struct bpe_symbol *symbols)
{
    size_t count = 0;
    int drops = tokenizer->algorithm == TOKENIZER_BYTE_LEVEL && tokenizer->unknown == TOKENIZER_NONE;
    for (size_t offset = 0; offset < length;) {
        struct bpe_symbol *symbol = &symbols[count];
        symbol->start = (uint32_t)offset;
        symbol->previous = count == 0 ? TOKENIZER_NONE : (uint32_t)count - 1;
        symbol->next = (uint32_t)count + 1;
        if (tokenizer->algorithm == TOKENIZER_BYTE_LEVEL) {
            symbol->id = tokenizer->byte_ids[(unsigned char)word[offset++]];
        } else {
            uint32_t code_point;
            offset = unicode_next(word, length, offset, &code_point);
            symbol->id = tokenizer_character_id(tokenizer, code_point);
        }
        count += symbol->id != TOKENIZER_NONE || !drops;
    }
    if (count > 0)
        symbols[count - 1].next = TOKENIZER_NONE;
    return count;
}

static uint32_t symbol_end(const struct bpe_symbol *symbols, uint32_t at, size_t length)
{
    return symbols[at].next == TOKENIZER_NONE ? (uint32_t)length : symbols[symbols[at].next].start;
}

static void consider(struct tokenizer_bpe *bpe, const struct bulla_tokenizer *tokenizer, uint32_t at, size_t length)
{
    const struct bpe_symbol *symbols = bpe->symbols;
    uint32_t next = symbols[at].next;
    if (next == TOKENIZER_NONE || symbols[at].id == TOKENIZER_NONE || symbols[next].id == TOKENIZER_NONE)
        return;
    struct bpe_candidate candidate = {.at = at, .end = symbol_end(symbols, next, length)};
    if (tokenizer_find_merge(tokenizer, symbols[at].id, symbols[next].id, &candidate.rank, &candidate.result))
        push(bpe, candidate);
}

static void merge_all(struct tokenizer_bpe *bpe, const struct bulla_tokenizer *tokenizer, size_t length)
{
    struct bpe_symbol *symbols = bpe->symbols;
    while (bpe->heap_count > 0) {
        struct bpe_candidate candidate = pop(bpe);
        struct bpe_symbol *left = &symbols[candidate.at];
        /* Stale: one of the two was merged meanwhile. Borders only vanish, so the same end is the same pair. */
        if (left->previous == DEAD || left->next == TOKENIZER_NONE ||
            symbol_end(symbols, left->next, length) != candidate.end)
            continue;
        struct bpe_symbol *right = &symbols[left->next];
        left->id = candidate.result;
        left->next = right->next;
        right->previous = DEAD;
        if (left->next != TOKENIZER_NONE)
            symbols[left->next].previous = candidate.at;
        if (left->previous != TOKENIZER_NONE)
            consider(bpe, tokenizer, left->previous, length);
        consider(bpe, tokenizer, candidate.at, length);
    }
}

/* A SentencePiece character that is no token: its bytes where all of them are tokens, else the unknown token. */
static int add_unknown(const struct bulla_tokenizer *tokenizer, const char *text, size_t length, int after_unknown,
                       int *is_unknown, struct tokenizer_ids *ids, bulla_error *error)
{
    int known = tokenizer->algorithm == TOKENIZER_SENTENCEPIECE;
    for (size_t i = 0; i < length && known; i++)
        known = tokenizer->byte_ids[(unsigned char)text[i]] != TOKENIZER_NONE;
    for (size_t i = 0; i < length && known; i++) {
        if (tokenizer_ids_add(ids, tokenizer->byte_ids[(unsigned char)text[i]], error))
            return error->code;
    }
    *is_unknown = !known;
    if (known || tokenizer->unknown == TOKENIZER_NONE ||
        (after_unknown && tokenizer->flags & TOKENIZER_FUSE_UNKNOWN))
        return BULLA_OK;
    return tokenizer_ids_add(ids, tokenizer->unknown, error);
}

int tokenizer_bpe_encode(struct tokenizer_bpe *bpe, const struct bulla_tokenizer *tokenizer, const char *word,
                         size_t length, struct tokenizer_ids *ids, bulla_error *error)
{
    if (length == 0)
        return BULLA_OK;
    if (length >= DEAD)
        return bulla_fail(error, BULLA_E_LIMIT, "text of %zu bytes: a tokenizer takes less than 4 GiB", length);
    if (tokenizer->flags & TOKENIZER_WHOLE_WORDS) {
        uint32_t id = tokenizer_whole_word(tokenizer, (const uint8_t *)word, length);
        if (id != TOKENIZER_NONE)
            return tokenizer_ids_add(ids, id, error);
    }
    if (reserve(bpe, length, error))
        return error->code;
    size_t count = split_symbols(tokenizer, word, length, bpe->symbols);
    bpe->heap_count = 0;
    for (size_t i = 0; i + 1 < count; i++)
        consider(bpe, tokenizer, (uint32_t)i, length);
    merge_all(bpe, tokenizer, length);
    int is_unknown = 0;
    for (uint32_t at = count > 0 ? 0 : TOKENIZER_NONE; at != TOKENIZER_NONE; at = bpe->symbols[at].next) {
        const struct bpe_symbol *symbol = &bpe->symbols[at];
        int failed;
        if (symbol->id != TOKENIZER_NONE) {
            is_unknown = 0;
            failed = tokenizer_ids_add(ids, symbol->id, error);
        } else {
            failed = add_unknown(tokenizer, word + symbol->start, symbol_end(bpe->symbols, at, length) - symbol->start,
                                 is_unknown, &is_unknown, ids, error);
        }
        if (failed)
            return error->code;
    }
    return BULLA_OK;
}
