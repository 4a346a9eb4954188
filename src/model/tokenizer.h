/* Inside of a tokenizer: the opened block, and what its files share.
 * docs/tokenizer.md describes the layout and the algorithms. */
#ifndef MODEL_TOKENIZER_H
#define MODEL_TOKENIZER_H

#include <string.h>

#include "base/buffer.h"
#include "bulla/tokenizer.h"

enum {
    TOKENIZER_VERSION = 1,
    TOKENIZER_HEADER_BYTES = 80,
    TOKENIZER_MERGE_BYTES = 12, /* right id, rank, result id */
    TOKENIZER_ADDED_BYTES = 16, /* id, flags, spelling's offset and length */
    TOKENIZER_MAX_VOCABULARY = 1 << 22,
    TOKENIZER_MAX_MERGES = 1 << 24,
    TOKENIZER_MAX_ADDED = 1 << 18,
    TOKENIZER_MAX_ADDED_LENGTH = 512, /* bytes of an added token's spelling: bounds the search at each position */
    TOKENIZER_MAX_TOKEN_LENGTH = 1 << 16
};
#define TOKENIZER_NONE UINT32_MAX /* no such token */

enum tokenizer_algorithm { TOKENIZER_BYTE_LEVEL = 1, TOKENIZER_SENTENCEPIECE = 2 };

/* How text is split into words before BPE; docs/tokenizer.md has the regular expression of each. */
enum tokenizer_split {
    TOKENIZER_SPLIT_NONE,
    TOKENIZER_SPLIT_GPT2,
    TOKENIZER_SPLIT_SMOLLM,
    TOKENIZER_SPLIT_LLAMA3,
    TOKENIZER_SPLIT_QWEN2,
    TOKENIZER_SPLIT_TEKKEN,
    TOKENIZER_SPLIT_GPT4O,
    TOKENIZER_SPLIT_QWEN35,
    TOKENIZER_SPLIT_SPACES,
    TOKENIZER_SPLIT_COUNT
};

/* Header flags. */
enum {
    TOKENIZER_NFC = 1,           /* normalise to NFC */
    TOKENIZER_WHOLE_WORDS = 2,   /* a word that is a token's spelling is that token, without merges */
    TOKENIZER_PREFIX = 4,        /* a space before every piece of text between added tokens */
    TOKENIZER_PREFIX_FIRST = 8,  /* with PREFIX: only where the piece begins the input */
    TOKENIZER_PREFIX_UNLESS = 16, /* with PREFIX: after all added tokens, and not where there is a space already */
    TOKENIZER_STRIP_FIRST = 32,  /* decoding drops one space at the very start */
    TOKENIZER_ADD_START = 64,    /* BULLA_ENCODE_START puts the start token first */
    TOKENIZER_ADD_END = 128,     /* BULLA_ENCODE_START puts the end token last */
    TOKENIZER_FUSE_UNKNOWN = 256, /* neighbouring unknown characters become one unknown token */
    TOKENIZER_ALL_FLAGS = 511
};

/* A token's kind, one byte: the low bits, and whether generation ends at it. */
enum {
    TOKEN_NORMAL,
    TOKEN_CONTROL,
    TOKEN_USER, /* added, shown as text */
    TOKEN_BYTE, /* a byte of byte fallback */
    TOKEN_UNKNOWN,
    TOKEN_UNUSED,
    TOKEN_KINDS,
    TOKEN_KIND_MASK = 15,
    TOKEN_END = 128
};

/* Flags of an added token. */
enum {
    ADDED_SPECIAL = 1,     /* only with BULLA_ENCODE_SPECIAL */
    ADDED_NORMALIZED = 2,  /* searched in the normalised text */
    ADDED_LEFT_STRIP = 4,  /* takes the white space before it too */
    ADDED_RIGHT_STRIP = 8, /* and after it */
    ADDED_SINGLE_WORD = 16, /* not beside a word character */
    ADDED_ALL_FLAGS = 31
};

/* One list of added tokens, sorted by spelling. */
struct tokenizer_added_list {
    const uint8_t *entries;
    uint32_t count;
    uint32_t first[257]; /* entries whose spelling begins with byte b: first[b] .. first[b + 1] */
};

struct bulla_tokenizer {
    uint32_t algorithm, split, flags;
    uint32_t vocabulary, merges, whole_words;
    uint32_t start, end, unknown; /* ids or TOKENIZER_NONE */
    /* Sections of the block. */
    const uint8_t *token_offsets; /* u32 [vocabulary + 1] into the pool */
    const uint8_t *token_kinds;   /* u8 [vocabulary] */
    const uint8_t *merge_first;   /* u32 [vocabulary + 1] */
    const uint8_t *merge_entries; /* [merges], sorted by left id, right id */
    const uint8_t *whole_order;   /* u32 [whole_words], ids sorted by spelling */
    const uint8_t *pool;
    uint32_t pool_length;
    struct tokenizer_added_list added[2]; /* searched in the text as given; in the normalised text */
    /* Derived when opened. */
    uint32_t byte_ids[256];
    uint32_t *characters; /* SentencePiece: ids of one-character tokens, pages of 256 code points */
    uint32_t *character_pages; /* [0x1100]: page number in `characters`, TOKENIZER_NONE for an empty page */
};

static inline uint32_t tokenizer_load(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static inline uint32_t tokenizer_word(const uint8_t *words, size_t index)
{
    return tokenizer_load(words + 4 * index);
}

static inline const uint8_t *tokenizer_spelling(const struct bulla_tokenizer *tokenizer, uint32_t id, uint32_t *length)
{
    uint32_t start = tokenizer_word(tokenizer->token_offsets, id);
    *length = tokenizer_word(tokenizer->token_offsets, (size_t)id + 1) - start;
    return tokenizer->pool + start;
}

static inline int tokenizer_kind(const struct bulla_tokenizer *tokenizer, uint32_t id)
{
    return tokenizer->token_kinds[id] & TOKEN_KIND_MASK;
}

/* What a merge of the neighbours `left` and `right` gives; 0 where there is none. */
int tokenizer_find_merge(const struct bulla_tokenizer *tokenizer, uint32_t left, uint32_t right, uint32_t *rank,
                         uint32_t *result);
/* The token that is one character, or TOKENIZER_NONE (SentencePiece only). */
uint32_t tokenizer_character_id(const struct bulla_tokenizer *tokenizer, uint32_t code_point);
/* The token spelled by a whole word, or TOKENIZER_NONE (TOKENIZER_WHOLE_WORDS only). */
uint32_t tokenizer_whole_word(const struct bulla_tokenizer *tokenizer, const uint8_t *word, size_t length);

/* Ids being written. */
struct tokenizer_ids {
    uint32_t *items;
    size_t count, capacity, limit;
};
int tokenizer_ids_add(struct tokenizer_ids *ids, uint32_t id, bulla_error *error);

/* bulla_tokenizer_encode for a text (UTF-8) in which somebody else's words lie: no control token covers a byte at one of the
 * ascending offsets `marks`. Nothing else differs. */
int tokenizer_encode_marked(const struct bulla_tokenizer *tokenizer, const char *text, size_t length, unsigned flags,
                            const size_t *marks, size_t mark_count, size_t limit, uint32_t **ids, size_t *count,
                            bulla_error *error);
/* Bytes of the longest text of which `count` ids may be all; but for white space that added tokens take with them, and
 * for characters that are left out or share an unknown token. */
size_t tokenizer_most_bytes(const struct bulla_tokenizer *tokenizer, size_t count);
/* Moves *offset on to where a control token is spelled in this UTF-8 text, or where the text's end (white space after it
 * aside) is the beginning of one; 0 where there is none. U+2581 counts as the space that it stands for in the normalised
 * text of SentencePiece; that NFC may make a spelling out of other characters is left aside: no known vocabulary
 * searches control tokens in NFC text. */
int tokenizer_find_control(const struct bulla_tokenizer *tokenizer, const char *text, size_t length, size_t *offset);

/* Where the word that starts at `offset` ends. `text` is well-formed UTF-8, a
 * piece between added tokens. *segment is 0 at its first word and kept between calls. */
size_t tokenizer_next_word(uint32_t split, const char *text, size_t length, size_t offset, size_t *segment);

/* Byte-pair merging of one word; see tokenizer_bpe.c. Zero-initialised. */
enum { TOKENIZER_KNOWN_PAIRS = 1024 };
struct bpe_keys {
    uint64_t *items;
    size_t count, capacity;
};
struct bpe_known {
    uint64_t pair; /* left id, right id; + 1, 0: none */
    uint32_t rank, result; /* rank TOKENIZER_NONE: they do not merge */
};
struct tokenizer_bpe {
    struct bpe_symbol *symbols;
    size_t symbol_capacity;
    struct bpe_keys heap;
    struct bpe_buckets *buckets; /* NULL until there is a long word */
    int uses_buckets;            /* of this word: */
    uint32_t first_bucket;       /*   candidates of this and higher ones wait in theirs, others in the heap */
    struct bpe_known known[TOKENIZER_KNOWN_PAIRS];
};
int tokenizer_bpe_encode(struct tokenizer_bpe *bpe, const struct bulla_tokenizer *tokenizer, const char *word,
                         size_t length, struct tokenizer_ids *ids, bulla_error *error);
void tokenizer_bpe_free(struct tokenizer_bpe *bpe);

#endif
