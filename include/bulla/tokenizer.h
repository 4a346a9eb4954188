/* Text to token ids and back.
 *
 * A tokenizer is compiled once, at import, from a GGUF's metadata or from
 * tokenizer.json into one block of bytes (docs/tokenizer.md has its layout),
 * which the model root covers. Encoding is a pure function of that block and
 * the text. Two algorithms: byte-level BPE (GPT-2's, with the pre-tokenizers of
 * the supported families) and SentencePiece-style BPE with scores and byte
 * fallback. Any byte string can be encoded; invalid UTF-8 is treated as the
 * original tokenizers treat it (docs/tokenizer.md).
 */
#ifndef BULLA_TOKENIZER_H
#define BULLA_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "bulla/error.h"

typedef struct bulla_tokenizer bulla_tokenizer;

/* Opens a compiled tokenizer. `block` must stay valid and unchanged until
 * bulla_tokenizer_close; it is checked completely, so a damaged block gives
 * BULLA_E_INPUT here and never a crash later. */
int bulla_tokenizer_open(const void *block, size_t length, bulla_tokenizer **tokenizer, bulla_error *error);
void bulla_tokenizer_close(bulla_tokenizer *tokenizer); /* NULL is fine */

uint32_t bulla_tokenizer_vocabulary(const bulla_tokenizer *tokenizer); /* number of ids */

enum {
    BULLA_ENCODE_SPECIAL = 1, /* text that spells a control token becomes that token (chat templates);
                                 without it, control tokens are never produced from text. User-defined
                                 added tokens are always recognised. */
    BULLA_ENCODE_START = 2    /* add the beginning-of-sequence token (and the end one) where the model says so */
};

/* Encodes `length` bytes. On success *ids is an array of *count ids to be
 * freed with bulla_tokens_free. At most `limit` ids: more is BULLA_E_LIMIT. */
int bulla_tokenizer_encode(const bulla_tokenizer *tokenizer, const char *text, size_t length, unsigned flags,
                           size_t limit, uint32_t **ids, size_t *count, bulla_error *error);
void bulla_tokens_free(uint32_t *ids);

/* The exact bytes a token stands for inside a text: *bytes points into the
 * block or a static table. Control tokens give their spelling; whether to show
 * them is the caller's choice (bulla_tokenizer_is_control). For
 * SentencePiece-style vocabularies the leading space that encoding adds at the
 * start of a text is not removed here: bulla_tokenizer_decode does that. */
int bulla_tokenizer_token_bytes(const bulla_tokenizer *tokenizer, uint32_t id, const uint8_t **bytes,
                                size_t *length);
int bulla_tokenizer_is_control(const bulla_tokenizer *tokenizer, uint32_t id);
/* Whether generation stops at this token (end of sequence, end of turn). */
int bulla_tokenizer_is_end(const bulla_tokenizer *tokenizer, uint32_t id);
/* -1 where the model has none. */
int64_t bulla_tokenizer_start_token(const bulla_tokenizer *tokenizer);
int64_t bulla_tokenizer_end_token(const bulla_tokenizer *tokenizer);
int bulla_tokenizer_adds_start(const bulla_tokenizer *tokenizer);
/* The id whose spelling is exactly these bytes (control tokens too), or -1. */
int64_t bulla_tokenizer_find(const bulla_tokenizer *tokenizer, const char *spelling, size_t length);

/* Decodes a whole sequence to *text (NUL-terminated, *length bytes, free with
 * bulla_text_free). Control tokens are left out unless `show_control`. */
int bulla_tokenizer_decode(const bulla_tokenizer *tokenizer, const uint32_t *ids, size_t count, int show_control,
                           char **text, size_t *length, bulla_error *error);
void bulla_text_free(char *text);

/* Streaming: bytes come out only at character borders, so that no UTF-8
 * character is ever split; an incomplete character is held back (at most 3
 * bytes) until it is complete, or turned out to be invalid, which becomes
 * U+FFFD. Zero-initialise. */
typedef struct bulla_text_stream {
    uint8_t held[4];
    unsigned held_length;
    int started; /* something came out already (SentencePiece leading space) */
} bulla_text_stream;

/* The text that token `id` completes: at most *capacity* bytes are needed, where
 * capacity >= 4 + 3 * token length. Returns the number of bytes written to `out`. */
size_t bulla_text_stream_push(const bulla_tokenizer *tokenizer, bulla_text_stream *stream, uint32_t id,
                              char *out, size_t capacity);
/* What is still held at the end (U+FFFD for an incomplete character). */
size_t bulla_text_stream_end(bulla_text_stream *stream, char *out, size_t capacity);

#endif
