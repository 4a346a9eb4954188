#include "model/unicode.h"

#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"

/* Hangul syllables are composed by arithmetic (Unicode Standard 3.12). */
enum {
    HANGUL_FIRST = 0xAC00,
    HANGUL_LEAD = 0x1100,
    HANGUL_VOWEL = 0x1161,
    HANGUL_TAIL = 0x11A7,
    HANGUL_LEADS = 19,
    HANGUL_VOWELS = 21,
    HANGUL_TAILS = 28,
    HANGUL_COUNT = HANGUL_LEADS * HANGUL_VOWELS * HANGUL_TAILS
};

enum unicode_class unicode_class_of(uint32_t code_point)
{
    if (code_point < 0x80) {
        unsigned letter = (unsigned)(code_point | 0x20) - 'a';
        if (letter < 26)
            return code_point & 0x20 ? UNICODE_LOWER : UNICODE_UPPER;
        if (code_point - '0' < 10)
            return UNICODE_NUMBER;
        if (code_point == ' ' || (code_point >= 9 && code_point <= 13))
            return UNICODE_SPACE;
        return code_point == '_' ? UNICODE_WORD : UNICODE_OTHER;
    }
    size_t low = 0, high = UNICODE_CLASS_STARTS; /* the run is in [low, high) */
    uint32_t wanted = code_point < 0x110000 ? code_point * 16 + 15 : 0;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (unicode_class_starts[middle] <= wanted) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return (enum unicode_class)(unicode_class_starts[low] & 15);
}

size_t unicode_next(const char *text, size_t length, size_t offset, uint32_t *code_point)
{
    unsigned char first = (unsigned char)text[offset];
    if (first < 0x80) {
        *code_point = first;
        return offset + 1;
    }
    size_t bytes = utf8_decode(text + offset, length - offset, code_point);
    if (bytes == 0) {
        *code_point = 0xFFFD;
        return offset + 1;
    }
    return offset + bytes;
}

size_t unicode_ill_formed(const char *text, size_t length)
{
    uint32_t code_point;
    if (utf8_decode(text, length, &code_point) > 0)
        return 0;
    /* Table 3-7: the longest beginning of a well-formed sequence, at least one byte. */
    const unsigned char *bytes = (const unsigned char *)text;
    unsigned char first = bytes[0], low = 0x80, high = 0xBF;
    size_t expected = first >= 0xC2 && first <= 0xDF ? 2 : first >= 0xE0 && first <= 0xEF ? 3
                      : first >= 0xF0 && first <= 0xF4 ? 4 : 1;
    if (first == 0xE0) {
        low = 0xA0;
    } else if (first == 0xED) {
        high = 0x9F;
    } else if (first == 0xF0) {
        low = 0x90;
    } else if (first == 0xF4) {
        high = 0x8F;
    }
    size_t part = 1;
    while (part < expected && part < length && bytes[part] >= low && bytes[part] <= high) {
        part++;
        low = 0x80;
        high = 0xBF;
    }
    return part;
}

void unicode_append_well_formed(struct buffer *out, const char *text, size_t length)
{
    size_t offset = 0;
    while (offset < length) {
        size_t good = utf8_check(text + offset, length - offset);
        buffer_append(out, text + offset, good);
        offset += good;
        if (offset < length) {
            offset += unicode_ill_formed(text + offset, length - offset);
            buffer_append(out, "\xEF\xBF\xBD", 3);
        }
    }
}

static uint32_t combining_class(uint32_t code_point)
{
    size_t low = 0, high = UNICODE_COMBINING;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (unicode_combining[middle].last < code_point) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < UNICODE_COMBINING && unicode_combining[low].first <= code_point ? unicode_combining[low].value : 0;
}

static const struct unicode_pair *decomposition_of(uint32_t code_point)
{
    size_t low = 0, high = UNICODE_DECOMPOSITIONS;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (unicode_decompositions[middle].code_point < code_point) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < UNICODE_DECOMPOSITIONS && unicode_decompositions[low].code_point == code_point
               ? &unicode_decompositions[low]
               : NULL;
}

/* The primary composite of two characters, or 0. */
static uint32_t compose(uint32_t first, uint32_t second)
{
    if (first - HANGUL_LEAD < HANGUL_LEADS && second - HANGUL_VOWEL < HANGUL_VOWELS)
        return HANGUL_FIRST + ((first - HANGUL_LEAD) * HANGUL_VOWELS + (second - HANGUL_VOWEL)) * HANGUL_TAILS;
    if (first - HANGUL_FIRST < HANGUL_COUNT && (first - HANGUL_FIRST) % HANGUL_TAILS == 0 && second > HANGUL_TAIL &&
        second < HANGUL_TAIL + HANGUL_TAILS) {
        return first + (second - HANGUL_TAIL);
    }
    size_t low = 0, high = UNICODE_COMPOSITIONS;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct unicode_pair *pair = &unicode_decompositions[unicode_compositions[middle]];
        if (pair->first < first || (pair->first == first && pair->second < second)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    const struct unicode_pair *pair =
        &unicode_decompositions[unicode_compositions[low < UNICODE_COMPOSITIONS ? low : 0]];
    return pair->first == first && pair->second == second ? pair->code_point : 0;
}

/* Code points with their combining class in bits 24..31. */
struct characters {
    uint32_t *items;
    size_t count;
};

static void add_decomposed(struct characters *out, uint32_t code_point)
{
    if (code_point - HANGUL_FIRST < HANGUL_COUNT) {
        uint32_t index = code_point - HANGUL_FIRST;
        out->items[out->count++] = HANGUL_LEAD + index / (HANGUL_VOWELS * HANGUL_TAILS);
        out->items[out->count++] = HANGUL_VOWEL + index / HANGUL_TAILS % HANGUL_VOWELS;
        if (index % HANGUL_TAILS > 0)
            out->items[out->count++] = HANGUL_TAIL + index % HANGUL_TAILS;
        return;
    }
    /* Only the first part of a decomposition decomposes further: at most four characters come out. */
    uint32_t tail[4];
    int tails = 0;
    const struct unicode_pair *pair = code_point < 0xC0 ? NULL : decomposition_of(code_point);
    while (pair) {
        if (pair->second && tails < 3)
            tail[tails++] = pair->second;
        code_point = pair->first;
        pair = decomposition_of(code_point);
    }
    out->items[out->count++] = code_point | combining_class(code_point) << 24;
    while (tails > 0) {
        tails--;
        out->items[out->count++] = tail[tails] | combining_class(tail[tails]) << 24;
    }
}

/* Stable sort of one run of combining characters by class; `spare` has room for as many. */
static void sort_run(uint32_t *items, size_t count, uint32_t *spare)
{
    if (count < 16) {
        for (size_t i = 1; i < count; i++) {
            uint32_t item = items[i];
            size_t at = i;
            for (; at > 0 && items[at - 1] >> 24 > item >> 24; at--)
                items[at] = items[at - 1];
            items[at] = item;
        }
        return;
    }
    size_t places[257] = {0};
    for (size_t i = 0; i < count; i++)
        places[(items[i] >> 24) + 1]++;
    for (size_t i = 1; i < 257; i++)
        places[i] += places[i - 1];
    for (size_t i = 0; i < count; i++)
        spare[places[items[i] >> 24]++] = items[i];
    memcpy(items, spare, count * sizeof *items);
}

static void order_canonically(struct characters *text, uint32_t *spare)
{
    for (size_t i = 0; i < text->count; i++) {
        size_t end = i;
        while (end < text->count && text->items[end] >> 24)
            end++;
        if (end > i + 1)
            sort_run(text->items + i, end - i, spare);
        i = end > i ? end - 1 : i;
    }
}

/* UAX 15: each character joins the last starter before it unless something between blocks it. */
static void compose_all(struct characters *text)
{
    size_t starter = SIZE_MAX, out = 0;
    uint32_t last_class = 0; /* of the last character kept after the starter; 0 when none is */
    for (size_t i = 0; i < text->count; i++) {
        uint32_t item = text->items[i], value = item >> 24;
        if (starter != SIZE_MAX && (last_class < value || out == starter + 1)) {
            uint32_t composite = compose(text->items[starter], item & 0xFFFFFF);
            if (composite) {
                text->items[starter] = composite;
                continue;
            }
        }
        if (value == 0)
            starter = out;
        last_class = value;
        text->items[out++] = item;
    }
    text->count = out;
}

static int may_change(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)text[i] >= 0xCC) { /* below U+0300 nothing decomposes without coming back */
            return 1;
        }
    }
    return 0;
}

void unicode_append_nfc(struct buffer *out, const char *text, size_t length)
{
    if (!may_change(text, length)) {
        buffer_append(out, text, length);
        return;
    }
    /* A character of two bytes decomposes to at most three (U+01D5, say), one of three or four to at most four. */
    struct characters characters = {.count = 0};
    characters.items = memory_alloc(length + length / 2 + 8, 2 * sizeof *characters.items, &out->error);
    if (!characters.items)
        return;
    for (size_t offset = 0; offset < length;) {
        uint32_t code_point;
        offset = unicode_next(text, length, offset, &code_point);
        add_decomposed(&characters, code_point);
    }
    order_canonically(&characters, characters.items + (length + length / 2 + 8));
    compose_all(&characters);
    for (size_t i = 0; i < characters.count; i++) {
        char encoded[4];
        buffer_append(out, encoded, utf8_encode(characters.items[i] & 0xFFFFFF, encoded));
    }
    memory_free(characters.items);
}
