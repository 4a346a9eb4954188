#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/decimal.h"
#include "base/memory.h"
#include "base/utf8.h"

/* Objects of more members than this get a hash index; shorter ones are walked. */
enum { INDEXED_MEMBERS = 8, MAX_BYTES = 1 << 30 };

/* Open addressing over member numbers + 1 (0: free). */
struct json_index {
    size_t mask;
    uint32_t *hashes;  /* of each member */
    uint32_t slots[];
};

/* The members of containers that are still open, innermost last. */
struct member {
    struct json *value;
    const char *key;
    size_t key_length;
};

struct parser {
    const char *text;
    size_t length;
    size_t at;
    const char *name;
    struct arena *arena;
    bulla_error *error;
    struct member *open;
    size_t open_count;
    size_t open_capacity;
    int depth;
};

static struct json *parse_value(struct parser *parser);

/* Records where and what; NULL, so that callers can return it. */
static void *fail_at(struct parser *parser, size_t at, const char *sentence)
{
    size_t line = 1, start = 0;
    for (size_t i = 0; i < at && i < parser->length; i++)
        if (parser->text[i] == '\n') {
            line++;
            start = i + 1;
        }
    bulla_fail(parser->error, BULLA_E_INPUT, "%s: line %zu, column %zu: %s", parser->name, line, at - start + 1,
               sentence);
    return NULL;
}

/* As fail_at, naming what stands there instead of `expected`. */
static void *fail_expected(struct parser *parser, const char *expected)
{
    char sentence[160];
    unsigned char found = parser->at < parser->length ? (unsigned char)parser->text[parser->at] : 0;
    if (parser->at >= parser->length)
        snprintf(sentence, sizeof sentence, "expected %s, found the end", expected);
    else if (found > 0x20 && found < 0x7F)
        snprintf(sentence, sizeof sentence, "expected %s, found '%c'", expected, found);
    else
        snprintf(sentence, sizeof sentence, "expected %s, found byte 0x%02x", expected, found);
    return fail_at(parser, parser->at, sentence);
}

static void skip_space(struct parser *parser)
{
    while (parser->at < parser->length) {
        char c = parser->text[parser->at];
        if (c != ' ' && c != '\n' && c != '\t' && c != '\r')
            return;
        parser->at++;
    }
}

static int next_is(const struct parser *parser, char c)
{
    return parser->at < parser->length && parser->text[parser->at] == c;
}

static struct json *new_value(struct parser *parser, enum json_type type)
{
    struct json *value = arena_alloc(parser->arena, 1, sizeof *value, parser->error);
    if (value)
        value->type = type;
    return value;
}

/* Four hex digits at `at`, or -1. */
static int32_t hex_unit(const struct parser *parser, size_t at)
{
    int32_t unit = 0;
    if (parser->length - at < 4)
        return -1;
    for (size_t i = 0; i < 4; i++) {
        char c = parser->text[at + i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10
                  : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0)
            return -1;
        unit = unit << 4 | digit;
    }
    return unit;
}

/* The escape after a backslash at `parser->at - 1`: writes its bytes (at most
 * four, fewer than the escape has) and moves on. 0 when it is none. */
static size_t read_escape(struct parser *parser, char *out)
{
    static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    const char *letter =
        parser->at < parser->length && parser->text[parser->at] ? strchr(letters, parser->text[parser->at]) : NULL;
    if (letter) {
        parser->at++;
        out[0] = meanings[letter - letters];
        return 1;
    }
    if (!next_is(parser, 'u')) {
        fail_at(parser, parser->at - 1, "a backslash must be followed by one of \"\\/bfnrtu");
        return 0;
    }
    int32_t unit = hex_unit(parser, parser->at + 1);
    if (unit < 0) {
        fail_at(parser, parser->at - 1, "\\u must be followed by four hex digits");
        return 0;
    }
    parser->at += 5;
    if (unit < 0xD800 || unit > 0xDFFF)
        return utf8_encode((uint32_t)unit, out);
    int32_t low = -1;
    if (unit < 0xDC00 && parser->length - parser->at >= 6 && parser->text[parser->at] == '\\' &&
        parser->text[parser->at + 1] == 'u')
        low = hex_unit(parser, parser->at + 2);
    if (low < 0xDC00 || low > 0xDFFF) {
        fail_at(parser, parser->at - 6, "a lone surrogate is no character");
        return 0;
    }
    parser->at += 6;
    return utf8_encode(0x10000 + ((uint32_t)(unit - 0xD800) << 10) + (uint32_t)(low - 0xDC00), out);
}

/* Where the string whose first byte is at parser->at ends (its closing quote);
 * 0 after an error. Escapes are only stepped over. */
static size_t find_string_end(struct parser *parser)
{
    size_t at = parser->at;
    for (; at < parser->length; at++) {
        if (parser->text[at] == '"')
            return at;
        if (parser->text[at] == '\\')
            at++;
    }
    fail_at(parser, parser->at - 1, "this string has no end");
    return 0;
}

/* The string whose opening quote is at parser->at, decoded into the arena. */
static char *parse_string(struct parser *parser, size_t *length)
{
    parser->at++;
    size_t end = find_string_end(parser), used = 0;
    char *out = end ? arena_alloc(parser->arena, end - parser->at + 1, 1, parser->error) : NULL;
    while (out && parser->at < end) {
        unsigned char c = (unsigned char)parser->text[parser->at];
        if (c == '\\') {
            parser->at++;
            size_t size = read_escape(parser, out + used);
            if (size == 0)
                return NULL;
            used += size;
        } else if (c < 0x20) {
            return fail_at(parser, parser->at, "a control character in a string must be escaped");
        } else if (c < 0x80) {
            out[used++] = (char)c;
            parser->at++;
        } else {
            uint32_t code_point;
            size_t size = utf8_decode(parser->text + parser->at, end - parser->at, &code_point);
            if (size == 0)
                return fail_at(parser, parser->at, "these bytes are not UTF-8");
            memcpy(out + used, parser->text + parser->at, size);
            used += size;
            parser->at += size;
        }
    }
    if (!out)
        return NULL;
    parser->at++;
    out[used] = 0;
    *length = used;
    return out;
}

static size_t skip_digits(struct parser *parser)
{
    size_t start = parser->at;
    while (parser->at < parser->length && parser->text[parser->at] >= '0' && parser->text[parser->at] <= '9')
        parser->at++;
    return parser->at - start;
}

/* RFC 8259 section 6; returns 0 after an error. *plain: no fraction, no exponent. */
static int scan_number(struct parser *parser, int *plain)
{
    *plain = 1;
    if (next_is(parser, '-'))
        parser->at++;
    if (next_is(parser, '0'))
        parser->at++;
    else if (skip_digits(parser) == 0)
        return fail_expected(parser, "a digit"), 0;
    if (next_is(parser, '.')) {
        parser->at++;
        *plain = 0;
        if (skip_digits(parser) == 0)
            return fail_expected(parser, "a digit after the decimal point"), 0;
    }
    if (next_is(parser, 'e') || next_is(parser, 'E')) {
        parser->at++;
        *plain = 0;
        if (next_is(parser, '+') || next_is(parser, '-'))
            parser->at++;
        if (skip_digits(parser) == 0)
            return fail_expected(parser, "a digit of the exponent"), 0;
    }
    return 1;
}

/* An int64 from checked digits; 0 when it does not fit. */
static int read_integer(const char *text, size_t length, int64_t *integer)
{
    int negative = text[0] == '-';
    int64_t value = 0;
    for (size_t i = (size_t)negative; i < length; i++) {
        int digit = text[i] - '0';
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, negative ? -digit : digit, &value))
            return 0;
    }
    *integer = value;
    return 1;
}

static struct json *parse_number(struct parser *parser)
{
    size_t start = parser->at;
    int plain;
    if (!scan_number(parser, &plain))
        return NULL;
    struct json *value = new_value(parser, JSON_NUMBER);
    if (!value)
        return NULL;
    value->length = parser->at - start;
    value->text = arena_copy_text(parser->arena, parser->text + start, value->length, parser->error);
    if (!value->text)
        return NULL;
    value->number = decimal_parse(value->text, value->length);
    if (!isfinite(value->number))
        return fail_at(parser, start, "this number is too large for binary64");
    value->is_integer = plain && read_integer(value->text, value->length, &value->integer);
    return value;
}

static struct json *parse_word(struct parser *parser, const char *word, enum json_type type)
{
    size_t length = strlen(word);
    if (parser->length - parser->at < length || memcmp(parser->text + parser->at, word, length) != 0)
        return fail_expected(parser, "a JSON value");
    parser->at += length;
    return new_value(parser, type);
}

static struct json *parse_string_value(struct parser *parser)
{
    struct json *value = new_value(parser, JSON_STRING);
    if (value && !(value->text = parse_string(parser, &value->length)))
        return NULL;
    return value;
}

static int push_member(struct parser *parser, struct member member)
{
    if (parser->open_count == parser->open_capacity) {
        size_t capacity = parser->open_capacity ? 2 * parser->open_capacity : 64;
        struct member *grown = memory_resize(parser->open, capacity, sizeof *grown, parser->error);
        if (!grown)
            return 0;
        parser->open = grown;
        parser->open_capacity = capacity;
    }
    parser->open[parser->open_count++] = member;
    return 1;
}

static uint32_t hash_key(const char *key, size_t length)
{
    uint64_t hash = UINT64_C(0xCBF29CE484222325); /* FNV-1a, then a mixer */
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)key[i]) * UINT64_C(0x100000001B3);
    hash = (hash ^ hash >> 32) * UINT64_C(0xD6E8FEB86659FD93);
    return (uint32_t)(hash >> 32);
}

static int same_key(const struct json *object, size_t member, const char *key, size_t length)
{
    return object->key_lengths[member] == length &&
           (length == 0 || memcmp(object->keys[member], key, length) == 0);
}

static void *fail_duplicate(struct parser *parser, const char *key)
{
    bulla_fail(parser->error, BULLA_E_INPUT, "%s: the object that ends at byte %zu has the key \"%.80s\" twice",
               parser->name, parser->at, key);
    return NULL;
}

/* Indexes the members and refuses a key that is there twice. Keys made to
 * collide would make this quadratic: an object that needs far more steps than
 * chance allows is refused. */
static struct json *index_members(struct parser *parser, struct json *object)
{
    size_t slots = 16;
    while (slots < 2 * object->length)
        slots *= 2;
    struct json_index *index =
        arena_alloc(parser->arena, 1, sizeof *index + slots * sizeof index->slots[0], parser->error);
    if (!index)
        return NULL;
    index->hashes = arena_alloc(parser->arena, object->length, sizeof *index->hashes, parser->error);
    if (!index->hashes)
        return NULL;
    index->mask = slots - 1;
    size_t steps = 0, most_steps = 32 * object->length + 1000;
    for (size_t i = 0; i < object->length; i++) {
        uint32_t hash = index->hashes[i] = hash_key(object->keys[i], object->key_lengths[i]);
        size_t slot = hash & index->mask;
        for (; index->slots[slot]; slot = (slot + 1) & index->mask) {
            size_t other = index->slots[slot] - 1;
            if (index->hashes[other] == hash && same_key(object, other, object->keys[i], object->key_lengths[i]))
                return fail_duplicate(parser, object->keys[i]);
            if (++steps > most_steps) {
                bulla_fail(parser->error, BULLA_E_LIMIT, "%s: the object that ends at byte %zu has colliding keys",
                           parser->name, parser->at);
                return NULL;
            }
        }
        index->slots[slot] = (uint32_t)i + 1;
    }
    object->index = index;
    return object;
}

static struct json *refuse_duplicates(struct parser *parser, struct json *object)
{
    if (object->length > INDEXED_MEMBERS)
        return index_members(parser, object);
    for (size_t i = 1; i < object->length; i++)
        for (size_t j = 0; j < i; j++)
            if (same_key(object, j, object->keys[i], object->key_lengths[i]))
                return fail_duplicate(parser, object->keys[i]);
    return object;
}

/* Moves the open members from `first` on into a value of their own. */
static struct json *close_container(struct parser *parser, enum json_type type, size_t first)
{
    struct json *value = new_value(parser, type);
    if (!value)
        return NULL;
    const struct member *members = parser->open ? parser->open + first : NULL; /* NULL while nothing was ever open */
    size_t count = parser->open_count - first;
    value->length = count;
    value->items = arena_alloc(parser->arena, count, sizeof *value->items, parser->error);
    if (!value->items)
        return NULL;
    for (size_t i = 0; i < count; i++)
        value->items[i] = members[i].value;
    parser->open_count = first;
    if (type == JSON_ARRAY)
        return value;
    value->keys = arena_alloc(parser->arena, count, sizeof *value->keys, parser->error);
    value->key_lengths = arena_alloc(parser->arena, count, sizeof *value->key_lengths, parser->error);
    if (!value->keys || !value->key_lengths)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        value->keys[i] = members[i].key;
        value->key_lengths[i] = members[i].key_length;
    }
    return refuse_duplicates(parser, value);
}

static int parse_key(struct parser *parser, struct member *member)
{
    if (!next_is(parser, '"'))
        return fail_expected(parser, "a key in double quotes"), 0;
    member->key = parse_string(parser, &member->key_length);
    if (!member->key)
        return 0;
    skip_space(parser);
    if (!next_is(parser, ':'))
        return fail_expected(parser, "':' after a key"), 0;
    parser->at++;
    skip_space(parser);
    return 1;
}

static struct json *parse_container(struct parser *parser, enum json_type type)
{
    char end = type == JSON_ARRAY ? ']' : '}';
    size_t first = parser->open_count;
    if (++parser->depth > JSON_MAX_DEPTH)
        return fail_at(parser, parser->at, "arrays and objects are nested more than 128 deep");
    parser->at++;
    skip_space(parser);
    while (!next_is(parser, end)) {
        struct member member = {0};
        if (type == JSON_OBJECT && !parse_key(parser, &member))
            return NULL;
        member.value = parse_value(parser);
        if (!member.value || !push_member(parser, member))
            return NULL;
        skip_space(parser);
        if (next_is(parser, end))
            break;
        if (!next_is(parser, ','))
            return fail_expected(parser, type == JSON_ARRAY ? "',' or ']'" : "',' or '}'");
        parser->at++;
        skip_space(parser);
        if (next_is(parser, end))
            return fail_expected(parser, type == JSON_ARRAY ? "a value after ','" : "a key after ','");
    }
    parser->at++;
    parser->depth--;
    return close_container(parser, type, first);
}

static struct json *parse_value(struct parser *parser)
{
    char c = parser->at < parser->length ? parser->text[parser->at] : 0;
    if (c == '"')
        return parse_string_value(parser);
    if (c == '[')
        return parse_container(parser, JSON_ARRAY);
    if (c == '{')
        return parse_container(parser, JSON_OBJECT);
    if (c == '-' || (c >= '0' && c <= '9'))
        return parse_number(parser);
    if (c == 't')
        return parse_word(parser, "true", JSON_TRUE);
    if (c == 'f')
        return parse_word(parser, "false", JSON_FALSE);
    return parse_word(parser, "null", JSON_NULL);
}

struct json *json_parse(const char *text, size_t length, const char *name, struct arena *arena, bulla_error *error)
{
    struct parser parser = {.text = text, .length = length, .name = name, .arena = arena, .error = error};
    if (length > MAX_BYTES) {
        bulla_fail(error, BULLA_E_LIMIT, "%s: %zu bytes of JSON; at most %d are read", name, length, MAX_BYTES);
        return NULL;
    }
    skip_space(&parser);
    struct json *value = parse_value(&parser);
    if (value) {
        skip_space(&parser);
        if (parser.at < length)
            value = fail_expected(&parser, "the end after the JSON value");
    }
    memory_free(parser.open);
    return value;
}

struct json *json_get_bytes(const struct json *object, const char *key, size_t length)
{
    if (!object || object->type != JSON_OBJECT)
        return NULL;
    const struct json_index *index = object->index;
    if (!index) {
        for (size_t i = 0; i < object->length; i++)
            if (same_key(object, i, key, length))
                return object->items[i];
        return NULL;
    }
    uint32_t hash = hash_key(key, length);
    for (size_t slot = hash & index->mask; index->slots[slot]; slot = (slot + 1) & index->mask) {
        size_t member = index->slots[slot] - 1;
        if (index->hashes[member] == hash && same_key(object, member, key, length))
            return object->items[member];
    }
    return NULL;
}

struct json *json_get(const struct json *object, const char *key)
{
    return json_get_bytes(object, key, strlen(key));
}

int json_is(const struct json *value, enum json_type type)
{
    return value && value->type == type;
}

int json_is_bool(const struct json *value)
{
    return json_is(value, JSON_TRUE) || json_is(value, JSON_FALSE);
}

int json_is_text(const struct json *value, const char *text)
{
    return json_is(value, JSON_STRING) && value->length == strlen(text) && memcmp(value->text, text, value->length) == 0;
}
