#include "exec/grammar_vocabulary.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "exec/grammar_internal.h"
#include "model/tokenizer.h"

struct entry {
    const uint8_t *bytes;
    uint32_t length, id;
};

static int compare_entries(const void *a, const void *b)
{
    const struct entry *first = a, *second = b;
    uint32_t common = first->length < second->length ? first->length : second->length;
    int order = memcmp(first->bytes, second->bytes, common);
    if (order == 0)
        order = (first->length > second->length) - (first->length < second->length);
    return order ? order : (first->id > second->id) - (first->id < second->id);
}

static int is_plain(const struct entry *entry)
{
    for (uint32_t i = 0; i < entry->length; i++)
        if (entry->bytes[i] < 0x20 || entry->bytes[i] == '"' || entry->bytes[i] == '\\')
            return 0;
    return utf8_check((const char *)entry->bytes, entry->length) == entry->length;
}

static uint8_t count_characters(const struct entry *entry)
{
    unsigned count = 0;
    for (uint32_t i = 0; i < entry->length; i++)
        count += (entry->bytes[i] & 0xC0) != 0x80;
    return (uint8_t)(count < UINT8_MAX ? count : UINT8_MAX);
}

/* Nodes of sorted entries; `nodes` NULL counts them. */
static uint32_t write_nodes(const struct entry *entries, uint32_t count, struct trie_node *nodes)
{
    uint32_t path[GRAMMAR_MAX_TOKEN_BYTES], depth = 0, used = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct entry *entry = &entries[i];
        uint32_t common = 0;
        while (i > 0 && common < entry->length && common < entries[i - 1].length &&
               entries[i - 1].bytes[common] == entry->bytes[common])
            common++;
        for (; nodes && depth > common; depth--)
            nodes[path[depth - 1]].end = used;
        for (depth = common; depth < entry->length; depth++) {
            path[depth] = used;
            if (nodes)
                nodes[used] =
                    (struct trie_node){.first_token = i, .depth = (uint16_t)depth, .byte = entry->bytes[depth]};
            used++;
        }
    }
    for (; nodes && depth > 0; depth--)
        nodes[path[depth - 1]].end = used;
    if (nodes)
        nodes[used].first_token = count;
    return used;
}

static int build_trie(struct trie *trie, const struct entry *entries, uint32_t count, bulla_error *error)
{
    trie->count = write_nodes(entries, count, NULL);
    trie->nodes = memory_alloc((size_t)trie->count + 1, sizeof *trie->nodes, error);
    trie->tokens = memory_alloc(count, sizeof *trie->tokens, error);
    if (!trie->nodes || !trie->tokens)
        return BULLA_E_MEMORY;
    write_nodes(entries, count, trie->nodes);
    for (uint32_t i = 0; i < count; i++)
        trie->tokens[i] = entries[i].id;
    trie->token_count = count;
    return BULLA_OK;
}

static void set_bit(uint64_t *mask, uint32_t id)
{
    mask[id / 64] |= UINT64_C(1) << (id & 63);
}

/* Sorts the tokens that can be text into plain ones (from the front) and others (from the back). */
static uint32_t collect(struct grammar_vocabulary *vocabulary, struct entry *entries, uint32_t *special)
{
    uint32_t plain = 0, back = vocabulary->size;
    for (uint32_t id = 0; id < vocabulary->size && id < bulla_tokenizer_vocabulary(vocabulary->tokenizer); id++) {
        struct entry entry = {.id = id};
        size_t length;
        if (bulla_tokenizer_is_end(vocabulary->tokenizer, id)) {
            set_bit(vocabulary->end_mask, id);
            vocabulary->end_count++;
            continue;
        }
        if (bulla_tokenizer_is_control(vocabulary->tokenizer, id) ||
            bulla_tokenizer_token_bytes(vocabulary->tokenizer, id, &entry.bytes, &length) || length == 0 ||
            length > GRAMMAR_MAX_TOKEN_BYTES)
            continue;
        entry.length = (uint32_t)length;
        if (is_plain(&entry)) {
            set_bit(vocabulary->plain_mask, id);
            entries[plain++] = entry;
        } else {
            entries[--back] = entry;
        }
    }
    *special = vocabulary->size - back;
    memmove(entries + plain, entries + back, *special * sizeof *entries);
    return plain;
}

static int fill(struct grammar_vocabulary *vocabulary, struct entry *entries, bulla_error *error)
{
    uint32_t special, plain = collect(vocabulary, entries, &special);
    qsort(entries, plain, sizeof *entries, compare_entries);
    qsort(entries + plain, special, sizeof *entries, compare_entries);
    vocabulary->plain_characters = memory_alloc(plain, 1, error);
    if (!vocabulary->plain_characters || build_trie(&vocabulary->plain, entries, plain, error) ||
        build_trie(&vocabulary->special, entries + plain, special, error))
        return BULLA_E_MEMORY;
    for (uint32_t i = 0; i < plain; i++) {
        vocabulary->plain_characters[i] = count_characters(&entries[i]);
        if (vocabulary->plain_characters[i] > vocabulary->most_characters)
            vocabulary->most_characters = vocabulary->plain_characters[i];
    }
    return BULLA_OK;
}

int grammar_vocabulary_open(const bulla_tokenizer *tokenizer, uint32_t size, struct grammar_vocabulary **result,
                            bulla_error *error)
{
    *result = NULL;
    if (size == 0 || size > TOKENIZER_MAX_VOCABULARY)
        return bulla_fail(error, BULLA_E_USAGE, "grammar: a vocabulary of %u ids; from 1 to %d are possible", size,
                          TOKENIZER_MAX_VOCABULARY);
    struct grammar_vocabulary *vocabulary = memory_alloc(1, sizeof *vocabulary, error);
    if (!vocabulary)
        return BULLA_E_MEMORY;
    vocabulary->tokenizer = tokenizer;
    vocabulary->size = size;
    vocabulary->words = (size + 63) / 64;
    vocabulary->strips_space = (tokenizer->flags & TOKENIZER_STRIP_FIRST) != 0;
    vocabulary->plain_mask = memory_alloc(vocabulary->words, sizeof(uint64_t), error);
    vocabulary->end_mask = memory_alloc(vocabulary->words, sizeof(uint64_t), error);
    struct entry *entries = memory_alloc(size, sizeof *entries, error);
    int code = !vocabulary->plain_mask || !vocabulary->end_mask || !entries ? BULLA_E_MEMORY
                                                                           : fill(vocabulary, entries, error);
    memory_free(entries);
    if (code) {
        grammar_vocabulary_close(vocabulary);
        return code;
    }
    *result = vocabulary;
    return BULLA_OK;
}

void grammar_vocabulary_close(struct grammar_vocabulary *vocabulary)
{
    if (!vocabulary)
        return;
    memory_free(vocabulary->plain.nodes);
    memory_free(vocabulary->plain.tokens);
    memory_free(vocabulary->special.nodes);
    memory_free(vocabulary->special.tokens);
    memory_free(vocabulary->plain_characters);
    memory_free(vocabulary->plain_mask);
    memory_free(vocabulary->end_mask);
    memory_free(vocabulary);
}
