/* Text to ids: added tokens in the text as given, normalization, added tokens
 * in the normalised text, words, byte-pair encoding. */
#include "model/tokenizer.h"

#include "base/memory.h"
#include "base/utf8.h"
#include "model/unicode.h"

/* Ascending offsets of bytes that no control token may cover. */
struct marks {
    size_t *offsets;
    size_t count;
};

struct encoder {
    const struct bulla_tokenizer *tokenizer;
    unsigned flags;
    const char *text;   /* as given */
    struct marks marks; /* in it */
    struct marks moved; /* in the stretch that is normalised: room for all of `marks` */
    struct tokenizer_ids ids;
    struct tokenizer_bpe bpe;
    struct buffer normalised;
    struct buffer spare;
    bulla_error *error;
};

int tokenizer_ids_add(struct tokenizer_ids *ids, uint32_t id, bulla_error *error)
{
    if (ids->count == ids->limit)
        return bulla_fail(error, BULLA_E_LIMIT, "the text is longer than %zu tokens", ids->limit);
    if (ids->count == ids->capacity) {
        size_t capacity = ids->capacity ? 2 * ids->capacity : 64;
        uint32_t *grown = memory_resize(ids->items, capacity, sizeof *grown, error);
        if (!grown)
            return error->code;
        ids->items = grown;
        ids->capacity = capacity;
    }
    ids->items[ids->count++] = id;
    return BULLA_OK;
}

/* An occurrence of an added token. */
struct occurrence {
    size_t begin, end; /* with the white space it takes */
    size_t next;       /* where the search goes on */
    uint32_t id;
    int declined; /* its spelling stays text */
};

static const uint8_t *added_spelling(const struct bulla_tokenizer *tokenizer, const struct tokenizer_added_list *list,
                                     uint32_t index, uint32_t *length)
{
    const uint8_t *entry = list->entries + (size_t)TOKENIZER_ADDED_BYTES * index;
    *length = tokenizer_word(entry, 3);
    return tokenizer->pool + tokenizer_word(entry, 2);
}

/* The entries of [low, high) whose spelling has `byte` at `depth`; all of them agree on the bytes before. */
static void narrow(const struct bulla_tokenizer *tokenizer, const struct tokenizer_added_list *list, size_t depth,
                   uint8_t byte, uint32_t *low, uint32_t *high)
{
    uint32_t bounds[2];
    for (int side = 0; side < 2; side++) {
        uint32_t first = *low, last = *high;
        while (first < last) {
            uint32_t middle = first + (last - first) / 2, length;
            const uint8_t *spelling = added_spelling(tokenizer, list, middle, &length);
            if (length <= depth || spelling[depth] < byte || (side == 1 && spelling[depth] == byte))
                first = middle + 1;
            else
                last = middle;
        }
        bounds[side] = first;
    }
    *low = bounds[0];
    *high = bounds[1];
}

/* The longest added token spelled at `offset`: its index + 1, or 0. */
static uint32_t longest_added(const struct bulla_tokenizer *tokenizer, const struct tokenizer_added_list *list,
                              const char *text, size_t length, size_t offset, size_t *end)
{
    const uint8_t *bytes = (const uint8_t *)text;
    uint32_t low = list->first[bytes[offset]], high = list->first[bytes[offset] + 1], found = 0;
    for (size_t depth = 1; low < high; depth++) {
        uint32_t spelled;
        added_spelling(tokenizer, list, low, &spelled);
        if (spelled == depth) { /* the first in order is the one that ends here */
            found = low + 1;
            *end = offset + depth;
        }
        if (offset + depth >= length)
            break;
        narrow(tokenizer, list, depth, bytes[offset + depth], &low, &high);
    }
    return found;
}

static enum unicode_class class_before(const char *text, size_t offset, size_t *start)
{
    uint32_t code_point;
    size_t at = offset - 1;
    while (at > 0 && ((unsigned char)text[at] & 0xC0) == 0x80)
        at--;
    *start = at;
    unicode_next(text, offset, at, &code_point);
    return unicode_class_of(code_point);
}

static enum unicode_class class_after(const char *text, size_t length, size_t offset, size_t *next)
{
    uint32_t code_point;
    *next = unicode_next(text, length, offset, &code_point);
    return unicode_class_of(code_point);
}

/* A regular expression's \w. */
static int is_word(enum unicode_class class)
{
    return class != UNICODE_OTHER && class != UNICODE_SPACE && class != UNICODE_OTHER_NUMBER;
}

static void apply_flags(struct occurrence *found, uint32_t flags, const char *text, size_t length, size_t floor)
{
    size_t next;
    if (flags & ADDED_SINGLE_WORD) {
        if ((found->begin > 0 && is_word(class_before(text, found->begin, &next))) ||
            (found->end < length && is_word(class_after(text, length, found->end, &next)))) {
            found->declined = 1;
            return;
        }
    }
    while (flags & ADDED_LEFT_STRIP && found->begin > floor &&
           class_before(text, found->begin, &next) == UNICODE_SPACE && next >= floor)
        found->begin = next;
    while (flags & ADDED_RIGHT_STRIP && found->end < length &&
           class_after(text, length, found->end, &next) == UNICODE_SPACE)
        found->end = next;
}

/* How many marks lie before `offset`. */
static size_t marks_before(const struct marks *marks, size_t offset)
{
    size_t first = 0, last = marks->count;
    while (first < last) {
        size_t middle = first + (last - first) / 2;
        if (marks->offsets[middle] < offset)
            first = middle + 1;
        else
            last = middle;
    }
    return first;
}

static int is_marked(const struct marks *marks, size_t begin, size_t end)
{
    return marks->count > 0 && marks_before(marks, begin) < marks_before(marks, end);
}

/* The next added token that begins at or after `offset`; 0 when there is none. `floor`: where the text not yet used
 * begins. */
static int find_added(const struct encoder *encoder, const struct tokenizer_added_list *list, const struct marks *marks,
                      const char *text, size_t length, size_t offset, size_t floor, struct occurrence *found)
{
    for (; list->count > 0 && offset < length; offset++) {
        uint8_t byte = (uint8_t)text[offset];
        if (list->first[byte] == list->first[byte + 1])
            continue;
        uint32_t index = longest_added(encoder->tokenizer, list, text, length, offset, &found->end);
        if (index == 0)
            continue;
        const uint8_t *entry = list->entries + (size_t)TOKENIZER_ADDED_BYTES * (index - 1);
        uint32_t flags = tokenizer_word(entry, 1);
        found->begin = offset;
        found->next = found->end;
        found->id = tokenizer_word(entry, 0);
        found->declined = flags & ADDED_SPECIAL && !(encoder->flags & BULLA_ENCODE_SPECIAL);
        if (!found->declined && flags & ADDED_SPECIAL && is_marked(marks, offset, found->end)) {
            found->declined = 1;
            found->next = offset + 1; /* the template's own token may begin inside */
        }
        if (!found->declined)
            apply_flags(found, flags, text, length, floor);
        return 1;
    }
    return 0;
}

typedef int encode_piece(struct encoder *encoder, const char *text, size_t length, int is_first);

/* Gives each stretch between added tokens to `encode`, and adds the tokens. */
static int encode_around_added(struct encoder *encoder, const struct tokenizer_added_list *list,
                               const struct marks *marks, const char *text, size_t length, int is_first,
                               encode_piece *encode)
{
    size_t used = 0, search = 0;
    struct occurrence found;
    while (find_added(encoder, list, marks, text, length, search, used, &found)) {
        search = found.next;
        if (found.declined)
            continue;
        if (found.begin > used && encode(encoder, text + used, found.begin - used, is_first && used == 0))
            return encoder->error->code;
        if (tokenizer_ids_add(&encoder->ids, found.id, encoder->error))
            return encoder->error->code;
        used = found.end;
        search = used > search ? used : search;
    }
    return used < length ? encode(encoder, text + used, length - used, is_first && used == 0) : BULLA_OK;
}

static int wants_prefix(const struct bulla_tokenizer *tokenizer, const char *text, int is_first)
{
    uint32_t flags = tokenizer->flags;
    return flags & TOKENIZER_PREFIX && (is_first || !(flags & TOKENIZER_PREFIX_FIRST)) &&
           !(flags & TOKENIZER_PREFIX_UNLESS && text[0] == ' ');
}

/* One stretch between all added tokens (length > 0). */
static int encode_words(struct encoder *encoder, const char *text, size_t length, int is_first)
{
    size_t segment = 0;
    if (encoder->tokenizer->flags & TOKENIZER_PREFIX_UNLESS && wants_prefix(encoder->tokenizer, text, is_first)) {
        buffer_clear(&encoder->spare);
        buffer_append_byte(&encoder->spare, ' ');
        buffer_append(&encoder->spare, text, length);
        if (encoder->spare.error.code)
            return bulla_fail(encoder->error, encoder->spare.error.code, "%s", encoder->spare.error.text);
        text = (const char *)encoder->spare.data;
        length = encoder->spare.length;
    }
    for (size_t offset = 0; offset < length;) {
        size_t end = tokenizer_next_word(encoder->tokenizer->split, text, length, offset, &segment);
        if (tokenizer_bpe_encode(&encoder->bpe, encoder->tokenizer, text + offset, end - offset, &encoder->ids,
                                 encoder->error))
            return encoder->error->code;
        offset = end;
    }
    return BULLA_OK;
}

/* SentencePiece's meta symbol U+2581 stands for a space; spellings in the block have the space. */
static void append_spaces(struct buffer *out, const char *text, size_t length)
{
    static const char meta[3] = "\xE2\x96\x81";
    size_t kept = 0;
    for (size_t at = 0; at + 3 <= length;) {
        const char *lead = memchr(text + at, meta[0], length - 2 - at);
        if (!lead)
            break;
        at = (size_t)(lead - text);
        if (memcmp(lead, meta, 3) == 0) {
            buffer_append(out, text + kept, at - kept);
            buffer_append_byte(out, ' ');
            kept = at + 3;
        }
        at += 3;
    }
    buffer_append(out, text + kept, length - kept);
}

/* The marks of a stretch of the text as given, counted from its begin. */
static void take_marks(struct encoder *encoder, const char *text, size_t length)
{
    size_t begin = (size_t)(text - encoder->text), first = marks_before(&encoder->marks, begin);
    encoder->moved.count = marks_before(&encoder->marks, begin + length) - first;
    for (size_t i = 0; i < encoder->moved.count; i++)
        encoder->moved.offsets[i] = encoder->marks.offsets[first + i] - begin;
}

/* Appends what `append` makes of the text, piece by piece between the marks, which move to where the same characters lie
 * in `out`. */
static void append_between_marks(struct encoder *encoder, struct buffer *out, const char *text, size_t length,
                                 void (*append)(struct buffer *out, const char *text, size_t length))
{
    size_t used = 0;
    for (size_t i = 0; i < encoder->moved.count; i++) {
        size_t mark = encoder->moved.offsets[i];
        append(out, text + used, mark - used);
        used = mark;
        encoder->moved.offsets[i] = out->length;
    }
    append(out, text + used, length - used);
}

/* One stretch between the added tokens of the text as given (length > 0). */
static int encode_normalised(struct encoder *encoder, const char *text, size_t length, int is_first)
{
    const struct bulla_tokenizer *tokenizer = encoder->tokenizer;
    if (encoder->marks.count)
        take_marks(encoder, text, length);
    if (tokenizer->flags & TOKENIZER_NFC) {
        buffer_clear(&encoder->spare);
        append_between_marks(encoder, &encoder->spare, text, length, unicode_append_nfc);
        text = (const char *)encoder->spare.data;
        length = encoder->spare.length;
        if (encoder->spare.error.code)
            return bulla_fail(encoder->error, encoder->spare.error.code, "%s", encoder->spare.error.text);
    }
    if (tokenizer->algorithm == TOKENIZER_SENTENCEPIECE) {
        buffer_clear(&encoder->normalised);
        if (!(tokenizer->flags & TOKENIZER_PREFIX_UNLESS) && wants_prefix(tokenizer, text, is_first))
            buffer_append_byte(&encoder->normalised, ' ');
        append_between_marks(encoder, &encoder->normalised, text, length, append_spaces);
        if (encoder->normalised.error.code)
            return bulla_fail(encoder->error, encoder->normalised.error.code, "%s", encoder->normalised.error.text);
        text = (const char *)encoder->normalised.data;
        length = encoder->normalised.length;
    }
    return encode_around_added(encoder, &tokenizer->added[1], &encoder->moved, text, length, is_first, encode_words);
}

static int encode_text(struct encoder *encoder, const char *text, size_t length)
{
    const struct bulla_tokenizer *tokenizer = encoder->tokenizer;
    int frame = encoder->flags & BULLA_ENCODE_START;
    if (frame && tokenizer->flags & TOKENIZER_ADD_START && tokenizer->start != TOKENIZER_NONE &&
        tokenizer_ids_add(&encoder->ids, tokenizer->start, encoder->error))
        return encoder->error->code;
    encoder->text = text;
    if (encode_around_added(encoder, &tokenizer->added[0], &encoder->marks, text, length, 1, encode_normalised))
        return encoder->error->code;
    if (frame && tokenizer->flags & TOKENIZER_ADD_END && tokenizer->end != TOKENIZER_NONE)
        return tokenizer_ids_add(&encoder->ids, tokenizer->end, encoder->error);
    return BULLA_OK;
}

/* The bytes of [begin, end) as spellings in the normalised text have them: U+2581 is a space. Returns what the character
 * or byte at `*at` gives and steps over it. */
static uint8_t next_spelled(const char *text, size_t length, int folds, size_t *at)
{
    if (folds && length - *at >= 3 && memcmp(text + *at, "\xE2\x96\x81", 3) == 0) {
        *at += 3;
        return ' ';
    }
    return (uint8_t)text[(*at)++];
}

/* Whether a control token of the list is spelled at `offset`, or begins there and would go on after `end`. */
static int control_begins(const struct bulla_tokenizer *tokenizer, const struct tokenizer_added_list *list, int folds,
                          const char *text, size_t end, size_t offset)
{
    uint8_t byte = next_spelled(text, end, folds, &offset);
    uint32_t low = list->first[byte], high = list->first[byte + 1];
    for (size_t depth = 1; low < high; depth++) {
        uint32_t spelled;
        added_spelling(tokenizer, list, low, &spelled);
        if (spelled == depth && tokenizer_word(list->entries + (size_t)TOKENIZER_ADDED_BYTES * low, 1) & ADDED_SPECIAL)
            return 1;
        if (offset >= end)
            break;
        narrow(tokenizer, list, depth, next_spelled(text, end, folds, &offset), &low, &high);
    }
    for (; low < high; low++)
        if (tokenizer_word(list->entries + (size_t)TOKENIZER_ADDED_BYTES * low, 1) & ADDED_SPECIAL)
            return 1;
    return 0;
}

/* In either list. */
static int control_begins_at(const struct bulla_tokenizer *tokenizer, const char *text, size_t end, size_t offset)
{
    int folds = tokenizer->algorithm == TOKENIZER_SENTENCEPIECE;
    return control_begins(tokenizer, &tokenizer->added[0], 0, text, end, offset) ||
           control_begins(tokenizer, &tokenizer->added[1], folds, text, end, offset);
}

int tokenizer_find_control(const struct bulla_tokenizer *tokenizer, const char *text, size_t length, size_t *offset)
{
    size_t trimmed = length, start;
    while (trimmed > 0 && class_before(text, trimmed, &start) == UNICODE_SPACE)
        trimmed = start;
    for (; *offset < length; ++*offset)
        if (control_begins_at(tokenizer, text, length, *offset) ||
            (*offset < trimmed && trimmed < length && control_begins_at(tokenizer, text, trimmed, *offset)))
            return 1;
    return 0;
}

static int encode_repaired(struct encoder *encoder, const char *text, size_t length)
{
    if (encoder->marks.count) {
        encoder->moved.offsets = memory_alloc(encoder->marks.count, sizeof *encoder->moved.offsets, encoder->error);
        if (!encoder->moved.offsets)
            return BULLA_E_MEMORY;
    }
    int code = encode_text(encoder, text, length);
    memory_free(encoder->moved.offsets);
    return code;
}

int bulla_tokenizer_encode(const bulla_tokenizer *tokenizer, const char *text, size_t length, unsigned flags,
                           size_t limit, uint32_t **ids, size_t *count, bulla_error *error)
{
    return tokenizer_encode_marked(tokenizer, text, length, flags, NULL, 0, limit, ids, count, error);
}

int tokenizer_encode_marked(const struct bulla_tokenizer *tokenizer, const char *text, size_t length, unsigned flags,
                            const size_t *marks, size_t mark_count, size_t limit, uint32_t **ids, size_t *count,
                            bulla_error *error)
{
    bulla_error local = {0};
    struct encoder encoder = {.tokenizer = tokenizer, .flags = flags, .error = error ? error : &local,
                              .marks = {(size_t *)(uintptr_t)marks, mark_count}};
    struct buffer repaired = {0};
    encoder.ids.limit = limit;
    *ids = NULL;
    *count = 0;
    int code = BULLA_OK;
    if (mark_count && utf8_check(text, length) != length) {
        code = bulla_fail(encoder.error, BULLA_E_INPUT, "the text is not UTF-8 at byte %zu", utf8_check(text, length));
    } else if (length > 0 && utf8_check(text, length) != length) {
        unicode_append_well_formed(&repaired, text, length);
        text = (const char *)repaired.data;
        length = repaired.length;
        if (repaired.error.code)
            code = bulla_fail(encoder.error, repaired.error.code, "%s", repaired.error.text);
    }
    if (code == BULLA_OK)
        code = encode_repaired(&encoder, text, length);
    if (code == BULLA_OK && !encoder.ids.items) { /* nothing to encode: still an array to free */
        encoder.ids.items = memory_alloc(1, sizeof *encoder.ids.items, encoder.error);
        code = encoder.ids.items ? BULLA_OK : encoder.error->code;
    }
    if (code == BULLA_OK) {
        *ids = encoder.ids.items;
        *count = encoder.ids.count;
    } else {
        memory_free(encoder.ids.items);
    }
    tokenizer_bpe_free(&encoder.bpe);
    buffer_free(&encoder.normalised);
    buffer_free(&encoder.spare);
    buffer_free(&repaired);
    return code;
}

void bulla_tokens_free(uint32_t *ids)
{
    memory_free(ids);
}
