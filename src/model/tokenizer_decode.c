/* Ids to text: whole, or token by token without ever splitting a character. */
#include "model/tokenizer.h"

#include "base/memory.h"
#include "base/utf8.h"
#include "model/unicode.h"

uint32_t bulla_tokenizer_vocabulary(const bulla_tokenizer *tokenizer)
{
    return tokenizer->vocabulary;
}

int bulla_tokenizer_token_bytes(const bulla_tokenizer *tokenizer, uint32_t id, const uint8_t **bytes, size_t *length)
{
    *bytes = NULL;
    *length = 0;
    if (id >= tokenizer->vocabulary)
        return BULLA_E_USAGE;
    uint32_t spelled;
    *bytes = tokenizer_spelling(tokenizer, id, &spelled);
    *length = spelled;
    return BULLA_OK;
}

/* Normalising makes a text shorter at most threefold: three bytes of U+2581 are a space, nine of Hangul's parts three of
 * a syllable. */
size_t tokenizer_most_bytes(const struct bulla_tokenizer *tokenizer, size_t count)
{
    int shortens = tokenizer->flags & TOKENIZER_NFC || tokenizer->algorithm == TOKENIZER_SENTENCEPIECE;
    size_t longest = 1, bytes;
    for (uint32_t id = 0; id < tokenizer->vocabulary; id++) {
        uint32_t length;
        tokenizer_spelling(tokenizer, id, &length);
        longest = length > longest ? length : longest;
    }
    for (int i = 0; i < 2; i++)
        for (uint32_t j = 0; j < tokenizer->added[i].count; j++) {
            uint32_t length = tokenizer_word(tokenizer->added[i].entries + (size_t)TOKENIZER_ADDED_BYTES * j, 3);
            longest = length > longest ? length : longest;
        }
    return __builtin_mul_overflow(longest * (shortens ? 3 : 1), count, &bytes) ? SIZE_MAX : bytes;
}

int bulla_tokenizer_is_control(const bulla_tokenizer *tokenizer, uint32_t id)
{
    if (id >= tokenizer->vocabulary)
        return 1;
    int kind = tokenizer_kind(tokenizer, id);
    return kind == TOKEN_CONTROL || kind == TOKEN_UNKNOWN || kind == TOKEN_UNUSED;
}

int bulla_tokenizer_is_end(const bulla_tokenizer *tokenizer, uint32_t id)
{
    return id < tokenizer->vocabulary && (tokenizer->token_kinds[id] & TOKEN_END) != 0;
}

static int64_t id_or_none(uint32_t id)
{
    return id == TOKENIZER_NONE ? -1 : (int64_t)id;
}

int64_t bulla_tokenizer_start_token(const bulla_tokenizer *tokenizer)
{
    return id_or_none(tokenizer->start);
}

int64_t bulla_tokenizer_end_token(const bulla_tokenizer *tokenizer)
{
    return id_or_none(tokenizer->end);
}

int bulla_tokenizer_adds_start(const bulla_tokenizer *tokenizer)
{
    return (tokenizer->flags & TOKENIZER_ADD_START) != 0 && tokenizer->start != TOKENIZER_NONE;
}

int64_t bulla_tokenizer_find(const bulla_tokenizer *tokenizer, const char *spelling, size_t length)
{
    for (uint32_t id = 0; id < tokenizer->vocabulary; id++) {
        uint32_t spelled;
        const uint8_t *bytes = tokenizer_spelling(tokenizer, id, &spelled);
        if (spelled == length && memcmp(bytes, spelling, length) == 0 && tokenizer_kind(tokenizer, id) != TOKEN_BYTE)
            return id;
    }
    return -1;
}

/* The bytes that `id` adds to a text; 0 bytes for what isn't shown. */
static size_t shown_bytes(const bulla_tokenizer *tokenizer, uint32_t id, int show_control, int *started,
                          const uint8_t **bytes)
{
    size_t length;
    if (bulla_tokenizer_token_bytes(tokenizer, id, bytes, &length) != BULLA_OK)
        return 0;
    if (bulla_tokenizer_is_control(tokenizer, id))
        return show_control ? length : 0;
    if (length > 0 && !*started) {
        *started = 1;
        if (tokenizer->flags & TOKENIZER_STRIP_FIRST && (*bytes)[0] == ' ') {
            (*bytes)++;
            return length - 1;
        }
    }
    return length;
}

int bulla_tokenizer_decode(const bulla_tokenizer *tokenizer, const uint32_t *ids, size_t count, int show_control,
                           char **text, size_t *length, bulla_error *error)
{
    struct buffer raw = {0}, out = {0};
    int started = 0;
    *text = NULL;
    *length = 0;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *bytes;
        if (ids[i] >= tokenizer->vocabulary) {
            buffer_free(&raw);
            return bulla_fail(error, BULLA_E_USAGE, "token %zu is %u, the vocabulary has %u", i, ids[i],
                              tokenizer->vocabulary);
        }
        size_t shown = shown_bytes(tokenizer, ids[i], show_control, &started, &bytes);
        buffer_append(&raw, bytes, shown);
    }
    unicode_append_well_formed(&out, (const char *)raw.data, raw.length);
    buffer_append(&out, "", 0); /* an empty text is a text too */
    int code = raw.error.code ? raw.error.code : out.error.code;
    if (code) {
        bulla_fail(error, code, "%s", raw.error.code ? raw.error.text : out.error.text);
        buffer_free(&out);
    } else {
        *text = (char *)out.data;
        *length = out.length;
    }
    buffer_free(&raw);
    return code;
}

void bulla_text_free(char *text)
{
    memory_free(text);
}

/* Whether the bytes may still become a well-formed character with more bytes. */
static int is_beginning(const char *bytes, size_t length)
{
    unsigned char first = (unsigned char)bytes[0];
    size_t expected = first < 0xC2 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 1;
    return length < expected && unicode_ill_formed(bytes, length) == length;
}

static size_t put(char *out, size_t capacity, size_t used, const char *bytes, size_t length)
{
    if (length > capacity - used)
        return used;
    memcpy(out + used, bytes, length);
    return used + length;
}

size_t bulla_text_stream_push(const bulla_tokenizer *tokenizer, bulla_text_stream *stream, uint32_t id, char *out,
                              size_t capacity)
{
    const uint8_t *bytes;
    size_t length = shown_bytes(tokenizer, id, 0, &stream->started, &bytes), used = 0;
    for (size_t i = 0; i < length; i++) {
        stream->held[stream->held_length++] = bytes[i];
        /* At most two rounds: a broken beginning gives U+FFFD, and then the new byte stands alone. */
        while (stream->held_length > 0) {
            const char *held = (const char *)stream->held;
            size_t bad = unicode_ill_formed(held, stream->held_length), taken = bad ? bad : stream->held_length;
            if (bad && is_beginning(held, stream->held_length))
                break;
            used = bad ? put(out, capacity, used, "\xEF\xBF\xBD", 3) : put(out, capacity, used, held, taken);
            stream->held_length -= (unsigned)taken;
            memmove(stream->held, stream->held + taken, stream->held_length);
        }
    }
    return used;
}

size_t bulla_text_stream_end(bulla_text_stream *stream, char *out, size_t capacity)
{
    size_t used = stream->held_length > 0 ? put(out, capacity, 0, "\xEF\xBF\xBD", 3) : 0;
    stream->held_length = 0;
    return used;
}
