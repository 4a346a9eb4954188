/* A vocabulary as two tries: tokens that are plain inside any string, and all others. */
#ifndef EXEC_GRAMMAR_VOCABULARY_H
#define EXEC_GRAMMAR_VOCABULARY_H

#include "exec/grammar.h"

/* A byte after those of the nodes above it. Nodes are in the order of their bytes, each before those below it. */
struct trie_node {
    uint32_t end;         /* the first node that is not below it */
    uint32_t first_token; /* of the tokens that are spelled by the way to here */
    uint16_t depth;       /* bytes before this one */
    uint8_t byte;
};

struct trie {
    struct trie_node *nodes; /* [count + 1]; the last one only has first_token */
    uint32_t count;
    uint32_t *tokens; /* ids in the order of the nodes */
    uint32_t token_count;
};

struct grammar_vocabulary {
    const bulla_tokenizer *tokenizer;
    uint32_t size, words;
    int strips_space; /* the first token of a text loses one leading space */
    struct trie plain, special;
    uint8_t *plain_characters; /* [plain.token_count] */
    uint32_t most_characters;
    uint64_t *plain_mask, *end_mask; /* [words] */
    uint32_t end_count;
};

#endif
