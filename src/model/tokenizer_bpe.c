/* Byte-pair encoding of one word: of all neighbours that merge, those with the
 * lowest rank do, the leftmost first, until none does. Candidates wait in a heap,
 * those of long words in buckets by rank: O(n log n), and nearly linear, so that
 * a megabyte without a space is no special case. */
#include <stdlib.h>

#include "model/tokenizer.h"

#include "base/memory.h"
#include "model/unicode.h"

struct bpe_symbol {
    uint32_t id; /* TOKENIZER_NONE: a character that is no token */
    uint32_t start; /* in the word; a symbol ends where the next one starts */
    uint32_t previous, next; /* TOKENIZER_NONE at the ends; `previous` is DEAD after a merge */
    uint32_t rank, result; /* of the merge with the next one; rank TOKENIZER_NONE: there is none */
};
#define DEAD (UINT32_MAX - 1)

/* A candidate is a symbol that merges with its next one: its rank above its number, so that the least goes first. One
 * whose symbol has another rank by now is stale. */
static uint64_t candidate_of(const struct bpe_symbol *symbols, uint32_t at)
{
    return (uint64_t)symbols[at].rank << 32 | at;
}

static int is_current(const struct bpe_symbol *symbols, uint64_t candidate)
{
    const struct bpe_symbol *symbol = &symbols[(uint32_t)candidate];
    return symbol->previous != DEAD && symbol->rank == candidate >> 32;
}

/* ---- A heap, the least first ---- */

static int reserve_keys(struct bpe_keys *keys, size_t count, bulla_error *error)
{
    if (count <= keys->capacity)
        return 1;
    size_t capacity = count < 64 ? 64 : count + count / 2;
    uint64_t *items = memory_resize(keys->items, capacity, sizeof *items, error);
    if (!items)
        return 0;
    keys->items = items;
    keys->capacity = capacity;
    return 1;
}

static int push(struct bpe_keys *heap, uint64_t key, bulla_error *error)
{
    if (heap->count == heap->capacity && !reserve_keys(heap, heap->count + 1, error))
        return 0;
    size_t at = heap->count++;
    for (; at > 0 && key < heap->items[(at - 1) / 2]; at = (at - 1) / 2)
        heap->items[at] = heap->items[(at - 1) / 2];
    heap->items[at] = key;
    return 1;
}

static uint64_t pop(struct bpe_keys *heap)
{
    uint64_t top = heap->items[0], last = heap->items[--heap->count];
    size_t at = 0, child;
    while ((child = 2 * at + 1) < heap->count) {
        child += child + 1 < heap->count && heap->items[child + 1] < heap->items[child];
        if (heap->items[child] >= last)
            break;
        heap->items[at] = heap->items[child];
        at = child;
    }
    heap->items[at] = last;
    return top;
}

/* ---- Buckets by rank, of long words ---- */

enum {
    BUCKETS = 1 << 18,
    LONG_WORD = 1 << 13, /* symbols; of a shorter one a heap alone is faster */
    AHEAD = 12           /* symbols of the run that are fetched before their turn */
};

/* A symbol in a bucket's list. */
struct bpe_node {
    uint32_t at, next; /* next: number + 1, 0 at the end */
};

/* Symbols wait in the bucket of their candidate's rank. A bucket's turn comes when all lower ones are empty; then what
 * is current in it is sorted, and taken in order. Merges nearly always make candidates of higher buckets; the others go
 * to a heap. So it is few long walks in memory instead of a heap of millions. */
struct bpe_buckets {
    uint32_t heads[BUCKETS]; /* node + 1, 0: empty */
    struct bpe_node *nodes;
    uint32_t node_count, free_node; /* free_node: number + 1 */
    size_t node_capacity;
    unsigned shift;          /* a bucket is that many low bits of ranks */
    struct bpe_keys waiting; /* a heap of the buckets that are not empty */
    struct bpe_keys run;     /* of the bucket whose turn it is */
    size_t run_at;
};

static uint32_t bucket_of(const struct bpe_buckets *buckets, uint32_t rank)
{
    uint32_t bucket = rank >> buckets->shift;
    return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

static int put_in_bucket(struct bpe_buckets *buckets, uint32_t at, uint32_t bucket, bulla_error *error)
{
    uint32_t node = buckets->free_node ? buckets->free_node - 1 : buckets->node_count++;
    if (buckets->free_node)
        buckets->free_node = buckets->nodes[node].next;
    if (!buckets->heads[bucket] && !push(&buckets->waiting, bucket, error))
        return 0;
    buckets->nodes[node] = (struct bpe_node){at, buckets->heads[bucket]};
    buckets->heads[bucket] = node + 1;
    return 1;
}

static int compare_keys(const void *a, const void *b)
{
    uint64_t first = *(const uint64_t *)a, second = *(const uint64_t *)b;
    return (first > second) - (first < second);
}

/* The latest symbol of a list is its first: mostly it has to be turned round only. */
static void sort_run(struct bpe_keys *run)
{
    int is_sorted = 1;
    for (size_t i = 0, j = run->count; i + 1 < j; i++) {
        uint64_t item = run->items[i];
        run->items[i] = run->items[--j];
        run->items[j] = item;
    }
    for (size_t i = 1; i < run->count && is_sorted; i++)
        is_sorted = run->items[i - 1] <= run->items[i];
    if (!is_sorted)
        qsort(run->items, run->count, sizeof *run->items, compare_keys);
}

/* Makes the next bucket the run; 0 where there is none, or after an error. */
static int begin_run(struct tokenizer_bpe *bpe, bulla_error *error)
{
    struct bpe_buckets *buckets = bpe->buckets;
    if (!buckets || buckets->waiting.count == 0)
        return 0;
    uint32_t bucket = (uint32_t)pop(&buckets->waiting), next;
    buckets->run.count = buckets->run_at = 0;
    for (uint32_t at = buckets->heads[bucket]; at; at = next) {
        struct bpe_node *node = &buckets->nodes[at - 1];
        const struct bpe_symbol *symbol = &bpe->symbols[node->at];
        next = node->next;
        if (symbol->previous != DEAD && symbol->rank != TOKENIZER_NONE && bucket_of(buckets, symbol->rank) == bucket) {
            if (!reserve_keys(&buckets->run, buckets->run.count + 1, error))
                return 0;
            buckets->run.items[buckets->run.count++] = candidate_of(bpe->symbols, node->at);
        }
        node->next = buckets->free_node;
        buckets->free_node = at;
    }
    buckets->heads[bucket] = 0;
    bpe->first_bucket = bucket + 1;
    sort_run(&buckets->run);
    return 1;
}

static void close_buckets(struct tokenizer_bpe *bpe)
{
    if (!bpe->buckets)
        return;
    memory_free(bpe->buckets->nodes);
    memory_free(bpe->buckets->waiting.items);
    memory_free(bpe->buckets->run.items);
    memory_free(bpe->buckets);
    bpe->buckets = NULL;
}

/* All are empty: when a word is done nothing waits any more. Ranks are places of merges, or fewer; should there be higher
 * ones, they share the last bucket. */
static int open_buckets(struct tokenizer_bpe *bpe, size_t symbols, uint32_t merges, bulla_error *error)
{
    if (!bpe->buckets && !(bpe->buckets = memory_alloc(1, sizeof *bpe->buckets, error)))
        return 0;
    struct bpe_buckets *buckets = bpe->buckets;
    if (buckets->node_capacity < 2 * symbols) { /* one a symbol; each merge takes one away and adds at most two */
        struct bpe_node *nodes = memory_resize(buckets->nodes, 2 * symbols, sizeof *nodes, error);
        if (!nodes)
            return 0;
        buckets->nodes = nodes;
        buckets->node_capacity = 2 * symbols;
    }
    buckets->shift = 0;
    while (merges >> buckets->shift >= BUCKETS - 1)
        buckets->shift++;
    buckets->node_count = buckets->free_node = 0;
    buckets->run.count = buckets->run_at = 0;
    bpe->first_bucket = 0;
    return 1;
}

/* ---- Candidates ---- */

static int reserve(struct tokenizer_bpe *bpe, size_t symbols, bulla_error *error)
{
    if (symbols <= bpe->symbol_capacity)
        return BULLA_OK;
    size_t capacity = symbols < 64 ? 64 : symbols + symbols / 2;
    memory_free(bpe->symbols);
    bpe->symbol_capacity = 0;
    bpe->symbols = memory_alloc(capacity, sizeof *bpe->symbols, error);
    if (!bpe->symbols)
        return error->code;
    bpe->symbol_capacity = capacity;
    return BULLA_OK;
}

void tokenizer_bpe_free(struct tokenizer_bpe *bpe)
{
    close_buckets(bpe);
    memory_free(bpe->symbols);
    memory_free(bpe->heap.items);
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

/* tokenizer_find_merge, with the last pairs remembered. */
static void find_merge(struct tokenizer_bpe *bpe, const struct bulla_tokenizer *tokenizer, uint32_t at)
{
    struct bpe_symbol *symbol = &bpe->symbols[at];
    symbol->rank = TOKENIZER_NONE;
    if (symbol->next == TOKENIZER_NONE || symbol->id == TOKENIZER_NONE ||
        bpe->symbols[symbol->next].id == TOKENIZER_NONE)
        return;
    uint64_t pair = (uint64_t)symbol->id << 32 | bpe->symbols[symbol->next].id;
    struct bpe_known *known = &bpe->known[pair * UINT64_C(0x9E3779B97F4A7C15) >> 32 & (TOKENIZER_KNOWN_PAIRS - 1)];
    if (known->pair != pair + 1) {
        known->pair = pair + 1;
        if (!tokenizer_find_merge(tokenizer, symbol->id, bpe->symbols[symbol->next].id, &known->rank, &known->result))
            known->rank = TOKENIZER_NONE;
    }
    symbol->rank = known->rank;
    symbol->result = known->result;
}

/* The merge of the symbol with the next one waits for its turn, where there is one. */
static int consider(struct tokenizer_bpe *bpe, const struct bulla_tokenizer *tokenizer, uint32_t at,
                    bulla_error *error)
{
    find_merge(bpe, tokenizer, at);
    uint32_t rank = bpe->symbols[at].rank;
    if (rank == TOKENIZER_NONE)
        return 1;
    uint32_t bucket = bpe->uses_buckets ? bucket_of(bpe->buckets, rank) : 0;
    if (bpe->uses_buckets && bucket >= bpe->first_bucket)
        return put_in_bucket(bpe->buckets, at, bucket, error);
    return push(&bpe->heap, candidate_of(bpe->symbols, at), error);
}

/* The least candidate; 0 where there is none any more, or after an error. What is in the heap goes before all buckets
 * but the run's. */
static int take(struct tokenizer_bpe *bpe, uint64_t *candidate, bulla_error *error)
{
    struct bpe_buckets *buckets = bpe->uses_buckets ? bpe->buckets : NULL;
    for (;;) {
        int has_run = buckets && buckets->run_at < buckets->run.count;
        if (bpe->heap.count > 0 && (!has_run || bpe->heap.items[0] <= buckets->run.items[buckets->run_at])) {
            *candidate = pop(&bpe->heap);
            return 1;
        }
        if (has_run) {
            *candidate = buckets->run.items[buckets->run_at++];
            if (buckets->run_at + AHEAD < buckets->run.count)
                __builtin_prefetch(&bpe->symbols[(uint32_t)buckets->run.items[buckets->run_at + AHEAD]], 1);
            return 1;
        }
        if (!buckets || !begin_run(bpe, error))
            return 0;
    }
}

static int merge_all(struct tokenizer_bpe *bpe, const struct bulla_tokenizer *tokenizer, bulla_error *error)
{
    struct bpe_symbol *symbols = bpe->symbols;
    uint64_t candidate;
    while (take(bpe, &candidate, error)) {
        uint32_t at = (uint32_t)candidate;
        if (!is_current(symbols, candidate))
            continue;
        struct bpe_symbol *left = &symbols[at], *right = &symbols[left->next];
        left->id = left->result;
        left->next = right->next;
        right->previous = DEAD;
        if (left->next != TOKENIZER_NONE)
            symbols[left->next].previous = at;
        if ((left->previous != TOKENIZER_NONE && !consider(bpe, tokenizer, left->previous, error)) ||
            !consider(bpe, tokenizer, at, error))
            break;
    }
    return error->code;
}

/* All neighbours, before any merge. */
static int consider_all(struct tokenizer_bpe *bpe, const struct bulla_tokenizer *tokenizer, size_t count,
                        bulla_error *error)
{
    bpe->heap.count = 0;
    bpe->uses_buckets = count >= LONG_WORD;
    if (bpe->uses_buckets && !open_buckets(bpe, count, tokenizer->merges, error))
        return error->code;
    for (size_t i = 0; i < count; i++)
        if (!consider(bpe, tokenizer, (uint32_t)i, error))
            break;
    return error->code;
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
    if (consider_all(bpe, tokenizer, count, error) || merge_all(bpe, tokenizer, error))
        return error->code;
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
