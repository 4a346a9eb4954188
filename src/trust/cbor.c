#include "trust/cbor.h"

#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "base/utf8.h"

enum { MAJOR_UNSIGNED, MAJOR_NEGATIVE, MAJOR_BYTES, MAJOR_TEXT, MAJOR_ARRAY, MAJOR_MAP, MAJOR_TAG, MAJOR_SIMPLE };
enum { INFO_BYTE = 24, INFO_LONGEST = 27, SIMPLE_NULL = 22, FIRST_LONG_SIMPLE = 32 };

struct parsing {
    struct reader reader;
    struct arena *arena;
    bulla_error *error;
    size_t items;
};

/* What an item begins with (RFC 8949, section 3). */
struct head {
    unsigned major, info;
    uint64_t argument;
};

static int fail(struct parsing *parsing, size_t at, const char *what)
{
    return bulla_fail(parsing->error, BULLA_E_INPUT, "CBOR, byte %zu: %s", at, what);
}

static int read_head(struct parsing *parsing, struct head *head)
{
    struct reader *reader = &parsing->reader;
    size_t at = reader->offset;
    uint8_t initial = reader_u8(reader);
    *head = (struct head){.major = initial >> 5, .info = initial & 31, .argument = initial & 31};
    if (head->info > INFO_LONGEST)
        return fail(parsing, at, "an indefinite or reserved length");
    if (head->info >= INFO_BYTE) {
        head->argument = 0;
        for (unsigned i = 0; i < 1u << (head->info - INFO_BYTE); i++)
            head->argument = head->argument << 8 | reader_u8(reader);
    }
    return reader->failed ? fail(parsing, at, "cut off") : BULLA_OK;
}

static int read_string(struct parsing *parsing, const struct head *head, struct cbor *item)
{
    size_t at = parsing->reader.offset;
    item->type = head->major == MAJOR_BYTES ? CBOR_BYTES : CBOR_TEXT;
    item->bytes = reader_bytes(&parsing->reader, head->argument);
    if (!item->bytes)
        return fail(parsing, at, "a string that is cut off");
    item->length = (size_t)head->argument;
    if (item->type == CBOR_TEXT && utf8_check((const char *)item->bytes, item->length) != item->length)
        return fail(parsing, at, "a text that is no UTF-8");
    return BULLA_OK;
}

static int is_same_key(const struct cbor *a, const struct cbor *b)
{
    if (a->type != b->type)
        return 0;
    return a->type == CBOR_TEXT ? a->length == b->length && memcmp(a->bytes, b->bytes, a->length) == 0
                                : a->number == b->number;
}

static int check_key(struct parsing *parsing, size_t at, const struct cbor *keys, size_t pairs)
{
    const struct cbor *key = &keys[2 * pairs];
    if (key->type != CBOR_UNSIGNED && key->type != CBOR_NEGATIVE && key->type != CBOR_TEXT)
        return fail(parsing, at, "a key that is neither an integer nor a text");
    for (size_t i = 0; i < pairs; i++)
        if (is_same_key(&keys[2 * i], key))
            return fail(parsing, at, "a key that is in its map twice");
    return BULLA_OK;
}

static int read_item(struct parsing *parsing, int depth, struct cbor *item);

/* Arrays, maps and tags. A count above the bytes that are left is wrong before anything is allocated for it. */
static int read_items(struct parsing *parsing, int depth, const struct head *head, struct cbor *item)
{
    size_t at = parsing->reader.offset, each = head->major == MAJOR_MAP ? 2 : 1;
    uint64_t length = head->major == MAJOR_TAG ? 1 : head->argument;
    if (length > reader_left(&parsing->reader) / each)
        return fail(parsing, at, "more items than there are bytes");
    size_t count = each * (size_t)length;
    if (depth == MOST_CBOR_DEPTH || parsing->items + count > MOST_CBOR_ITEMS)
        return bulla_fail(parsing->error, BULLA_E_LIMIT, "CBOR, byte %zu: deeper than %d or more than %d items", at,
                          MOST_CBOR_DEPTH, MOST_CBOR_ITEMS);
    parsing->items += count;
    struct cbor *items = arena_alloc(parsing->arena, count + 1, sizeof *items, parsing->error);
    if (!items)
        return BULLA_E_MEMORY;
    int code = BULLA_OK;
    for (size_t i = 0; i < count && code == BULLA_OK; i++) {
        at = parsing->reader.offset;
        code = read_item(parsing, depth + 1, &items[i]);
        if (code == BULLA_OK && head->major == MAJOR_MAP && i % 2 == 0)
            code = check_key(parsing, at, items, i / 2);
    }
    item->type = head->major == MAJOR_ARRAY ? CBOR_ARRAY : head->major == MAJOR_MAP ? CBOR_MAP : CBOR_TAG;
    item->items = items;
    item->length = (size_t)length;
    return code;
}

static int read_item(struct parsing *parsing, int depth, struct cbor *item)
{
    struct head head;
    size_t at = parsing->reader.offset;
    int code = read_head(parsing, &head);
    if (code != BULLA_OK)
        return code;
    *item = (struct cbor){.number = head.argument};
    switch (head.major) {
    case MAJOR_UNSIGNED:
    case MAJOR_NEGATIVE:
        item->type = head.major == MAJOR_UNSIGNED ? CBOR_UNSIGNED : CBOR_NEGATIVE;
        return BULLA_OK;
    case MAJOR_BYTES:
    case MAJOR_TEXT:
        return read_string(parsing, &head, item);
    case MAJOR_SIMPLE:
        item->type = head.info == SIMPLE_NULL ? CBOR_NULL : CBOR_OTHER;
        if (head.info == INFO_BYTE && head.argument < FIRST_LONG_SIMPLE)
            return fail(parsing, at, "a simple value that is longer than it may be");
        return BULLA_OK;
    default:
        return read_items(parsing, depth, &head, item);
    }
}

const struct cbor *cbor_parse(const uint8_t *bytes, size_t length, struct arena *arena, bulla_error *error)
{
    struct parsing parsing = {.reader = reader_over(bytes, length), .arena = arena, .error = error};
    struct cbor *root = arena_alloc(arena, 1, sizeof *root, error);
    if (!root || read_item(&parsing, 0, root) != BULLA_OK)
        return NULL;
    if (reader_left(&parsing.reader) > 0) {
        fail(&parsing, parsing.reader.offset, "more bytes behind the item");
        return NULL;
    }
    return root;
}

int cbor_is(const struct cbor *item, enum cbor_type type)
{
    return item && item->type == type;
}

int cbor_is_text(const struct cbor *item, const char *text)
{
    return cbor_is(item, CBOR_TEXT) && item->length == strlen(text) && memcmp(item->bytes, text, item->length) == 0;
}

int cbor_is_integer(const struct cbor *item, int64_t value)
{
    if (value < 0)
        return cbor_is(item, CBOR_NEGATIVE) && item->number == (uint64_t)(-1 - value);
    return cbor_is(item, CBOR_UNSIGNED) && item->number == (uint64_t)value;
}

const struct cbor *cbor_label(const struct cbor *map, int64_t label)
{
    for (size_t i = 0; cbor_is(map, CBOR_MAP) && i < map->length; i++)
        if (cbor_is_integer(&map->items[2 * i], label))
            return &map->items[2 * i + 1];
    return NULL;
}

const struct cbor *cbor_member(const struct cbor *map, const char *name)
{
    for (size_t i = 0; cbor_is(map, CBOR_MAP) && i < map->length; i++)
        if (cbor_is_text(&map->items[2 * i], name))
            return &map->items[2 * i + 1];
    return NULL;
}

const char *cbor_describe(const struct cbor *item, struct arena *arena, bulla_error *error)
{
    enum { LONGEST_SHOWN = 100 };
    char text[LONGEST_SHOWN + 1] = "another value";
    if (!item)
        return "nothing";
    if (item->type == CBOR_TEXT) {
        size_t most = item->length < LONGEST_SHOWN ? item->length : LONGEST_SHOWN;
        size_t length = utf8_check((const char *)item->bytes, most); /* a character that is cut is left out */
        memcpy(text, item->bytes, length);
        text[length] = 0;
    } else if (item->type == CBOR_UNSIGNED || item->type == CBOR_TAG) {
        snprintf(text, sizeof text, "%s%llu", item->type == CBOR_TAG ? "tag " : "", (unsigned long long)item->number);
    } else if (item->type == CBOR_BYTES) {
        snprintf(text, sizeof text, "%zu bytes", item->length);
    } else if (item->type == CBOR_ARRAY || item->type == CBOR_MAP) {
        snprintf(text, sizeof text, "a %s of %zu", item->type == CBOR_MAP ? "map" : "list", item->length);
    }
    const char *copy = arena_copy_text(arena, text, strlen(text), error);
    return copy ? copy : "?";
}
