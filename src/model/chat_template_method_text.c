/* Methods of Python's str. */
#include <string.h>

#include "model/chat_template_internal.h"

#define METHOD(name)                                                                                              \
    static int name(struct render *render, struct value self, const struct arguments *arguments,                 \
                    const struct value *slots, struct value *result)

static int want_text(struct render *render, struct value slot)
{
    if (slot.type == VALUE_TEXT)
        return 1;
    if (slot.type == VALUE_UNDEFINED)
        return value_fail_undefined(render, slot);
    return template_fail(render, BULLA_E_INPUT, "a string is wanted, not '%s'", value_type_name(slot));
}

/* A text, or NULL where the argument is missing or None. */
static int optional_text(struct render *render, struct value slot, const struct text **text)
{
    *text = NULL;
    if (slot.type == VALUE_MISSING || slot.type == VALUE_NONE)
        return 1;
    if (!want_text(render, slot))
        return 0;
    *text = slot.text;
    return 1;
}

static int mark(struct value self, struct value *result, int done)
{
    if (done && result->type == VALUE_TEXT)
        result->detail = self.detail;
    return done;
}

METHOD(upper)
{
    (void)arguments;
    (void)slots;
    return mark(self, result, text_change_case(render, self.text, TEXT_UPPER, result));
}

METHOD(lower)
{
    (void)arguments;
    (void)slots;
    return mark(self, result, text_change_case(render, self.text, TEXT_LOWER, result));
}

METHOD(casefold)
{
    (void)arguments;
    (void)slots;
    return mark(self, result, text_change_case(render, self.text, TEXT_FOLD, result));
}

METHOD(capitalize)
{
    (void)arguments;
    (void)slots;
    return mark(self, result, text_capitalize(render, self.text, result));
}

METHOD(title)
{
    (void)arguments;
    (void)slots;
    return mark(self, result, text_title(render, self.text, result));
}

static int strip_sides(struct render *render, struct value self, struct value slot, int sides, struct value *result)
{
    const struct text *characters;
    return optional_text(render, slot, &characters) && text_strip(render, self, characters, sides, result);
}

METHOD(strip)
{
    (void)arguments;
    return strip_sides(render, self, slots[0], STRIP_LEFT | STRIP_RIGHT, result);
}

METHOD(lstrip)
{
    (void)arguments;
    return strip_sides(render, self, slots[0], STRIP_LEFT, result);
}

METHOD(rstrip)
{
    (void)arguments;
    return strip_sides(render, self, slots[0], STRIP_RIGHT, result);
}

static int split_from(struct render *render, struct value self, const struct value *slots, int from_right,
                      struct value *result)
{
    const struct text *separator;
    int64_t most;
    return optional_text(render, slots[0], &separator) && slot_integer(render, slots[1], -1, &most) &&
           text_split(render, self, separator, most, from_right, result);
}

METHOD(split)
{
    (void)arguments;
    return split_from(render, self, slots, 0, result);
}

METHOD(rsplit)
{
    (void)arguments;
    return split_from(render, self, slots, 1, result);
}

METHOD(splitlines)
{
    (void)arguments;
    return text_split_lines(render, self, value_truth(slots[0]), result);
}

METHOD(replace)
{
    (void)arguments;
    int64_t most;
    struct value new = slots[1];
    if (!want_text(render, slots[0]) || !want_text(render, slots[1]) ||
        !slot_integer(render, slots[2], -1, &most))
        return 0;
    if (self.detail && !new.detail && !text_escape(render, new.text, &new))
        return 0;
    return mark(self, result, text_replace(render, self.text, slots[0].text, new.text, most < 0 ? -1 : most, result));
}

/* The bytes of text[start:end] for the searching methods; 0 on error, -1 when
 * `start` is beyond the end, so that even "" is not found. */
static int search_range(struct render *render, const struct text *text, const struct value *bounds, size_t *from,
                        size_t *to)
{
    int64_t start = 0, end = (int64_t)text->characters, count = end;
    if (bounds[0].type != VALUE_NONE && !slot_integer(render, bounds[0], 0, &start))
        return 0;
    if (bounds[1].type != VALUE_NONE && !slot_integer(render, bounds[1], count, &end))
        return 0;
    if (start < 0)
        start = start + count < 0 ? 0 : start + count;
    if (end < 0)
        end = end + count < 0 ? 0 : end + count;
    if (end > count)
        end = count;
    if (start > count)
        return -1;
    *from = text_offset(text, (size_t)start);
    *to = text_offset(text, (size_t)end);
    if (!template_spend(render, *to / 64))
        return 0;
    return *from <= *to ? 1 : -1;
}

static int starts_or_ends(const struct text *text, size_t from, size_t to, const struct text *part, int at_end)
{
    if (part->length > to - from)
        return 0;
    return memcmp(text->bytes + (at_end ? to - part->length : from), part->bytes, part->length) == 0;
}

static int test_affix(struct render *render, struct value self, const struct value *slots, int at_end,
                      struct value *result)
{
    size_t from, to;
    int range = search_range(render, self.text, slots + 1, &from, &to), found = 0;
    if (range == 0)
        return 0;
    if (slots[0].type != VALUE_TUPLE) {
        if (!want_text(render, slots[0]))
            return 0;
        found = range > 0 && starts_or_ends(self.text, from, to, slots[0].text, at_end);
    }
    for (size_t i = 0; slots[0].type == VALUE_TUPLE && !found && i < slots[0].list->count; i++) {
        struct value part = slots[0].list->items[i];
        if (!template_spend(render, 1) || !want_text(render, part))
            return 0;
        found = range > 0 && starts_or_ends(self.text, from, to, part.text, at_end);
    }
    *result = value_bool(found);
    return 1;
}

METHOD(startswith)
{
    (void)arguments;
    return test_affix(render, self, slots, 0, result);
}

METHOD(endswith)
{
    (void)arguments;
    return test_affix(render, self, slots, 1, result);
}

/* The number of the character where slots[0] is found, or -1. */
static int search(struct render *render, struct value self, const struct value *slots, int last, int64_t *index)
{
    size_t from, to, at = SIZE_MAX;
    *index = -1;
    if (!want_text(render, slots[0]))
        return 0;
    int range = search_range(render, self.text, slots + 1, &from, &to);
    if (range <= 0)
        return range < 0;
    struct text part = {.bytes = self.text->bytes, .length = to};
    if (!last)
        at = text_find(&part, slots[0].text, from);
    else if (!text_find_last(render, &part, slots[0].text, to, &at))
        return 0;
    if (at == SIZE_MAX || at < from)
        return 1;
    struct value before;
    if (!text_part(render, self.text, 0, at, 0, &before))
        return 0;
    *index = (int64_t)before.text->characters;
    return 1;
}

METHOD(find)
{
    (void)arguments;
    int64_t index;
    int done = search(render, self, slots, 0, &index);
    *result = value_integer(index);
    return done;
}

METHOD(rfind)
{
    (void)arguments;
    int64_t index;
    int done = search(render, self, slots, 1, &index);
    *result = value_integer(index);
    return done;
}

static int want_found(struct render *render, struct value result)
{
    return result.integer >= 0 || template_fail(render, BULLA_E_INPUT, "index(): substring not found");
}

METHOD(index_method)
{
    return find(render, self, arguments, slots, result) && want_found(render, *result);
}

METHOD(rindex_method)
{
    return rfind(render, self, arguments, slots, result) && want_found(render, *result);
}

METHOD(count)
{
    (void)arguments;
    size_t from, to;
    int64_t found = 0;
    if (!want_text(render, slots[0]))
        return 0;
    int range = search_range(render, self.text, slots + 1, &from, &to);
    if (range == 0)
        return 0;
    struct text part = {.bytes = self.text->bytes, .length = range > 0 ? to : 0};
    if (range > 0 && slots[0].text->length == 0) {
        struct value middle;
        if (!text_part(render, self.text, from, to, 0, &middle))
            return 0;
        found = (int64_t)middle.text->characters + 1;
    } else if (range > 0) {
        for (size_t at = from; (at = text_find(&part, slots[0].text, at)) != SIZE_MAX; at += slots[0].text->length) {
            found++;
            if (!template_spend(render, 1))
                return 0;
        }
    }
    *result = value_integer(found);
    return 1;
}

METHOD(join)
{
    (void)arguments;
    struct list items;
    struct buffer out = {0};
    if (!value_iterate(render, slots[0], &items))
        return 0;
    for (size_t i = 0; i < items.count; i++) {
        struct value item = items.items[i];
        if (self.detail) { /* Markup.join takes and escapes anything */
            if (!value_to_text(render, item, &item) || (!item.detail && !text_escape(render, item.text, &item)))
                goto failed;
        } else if (!want_text(render, item)) {
            goto failed;
        }
        if (i)
            buffer_append(&out, self.text->bytes, self.text->length);
        buffer_append(&out, item.text->bytes, item.text->length);
        if (out.length > TEMPLATE_MAX_MEMORY) {
            template_fail(render, BULLA_E_LIMIT, "a text grows beyond %d bytes", TEMPLATE_MAX_MEMORY);
            goto failed;
        }
        if (!template_spend(render, 1 + (self.text->length + item.text->length) / 64))
            goto failed;
    }
    return mark(self, result, text_from_buffer(render, &out, result));
failed:
    buffer_free(&out);
    return 0;
}

METHOD(format_method)
{
    (void)slots;
    return format_braces(render, self, arguments, result);
}

static int make_tuple(struct render *render, struct value a, struct value b, struct value c, struct value *result)
{
    struct list *list;
    if (!list_new(render, 3, &list))
        return 0;
    list->items[0] = a;
    list->items[1] = b;
    list->items[2] = c;
    list->count = 3;
    *result = (struct value){.type = VALUE_TUPLE, .list = list};
    return 1;
}

static int partition_at(struct render *render, struct value self, struct value separator, int last,
                        struct value *result)
{
    struct value parts[3];
    size_t length = self.text->length, at = SIZE_MAX;
    if (!want_text(render, separator))
        return 0;
    if (separator.text->length == 0)
        return template_fail(render, BULLA_E_INPUT, "partition(): empty separator");
    if (!last)
        at = text_find(self.text, separator.text, 0);
    else if (!text_find_last(render, self.text, separator.text, length, &at))
        return 0;
    size_t start = at == SIZE_MAX ? (last ? 0 : length) : at;
    size_t end = at == SIZE_MAX ? start : at + separator.text->length;
    return template_spend(render, length / 64) && text_part(render, self.text, 0, start, self.detail, &parts[0]) &&
           text_part(render, self.text, start, end, self.detail, &parts[1]) &&
           text_part(render, self.text, end, length, self.detail, &parts[2]) &&
           make_tuple(render, parts[0], parts[1], parts[2], result);
}

METHOD(partition)
{
    (void)arguments;
    return partition_at(render, self, slots[0], 0, result);
}

METHOD(rpartition)
{
    (void)arguments;
    return partition_at(render, self, slots[0], 1, result);
}

METHOD(removeprefix)
{
    (void)arguments;
    if (!want_text(render, slots[0]))
        return 0;
    size_t from = starts_or_ends(self.text, 0, self.text->length, slots[0].text, 0) ? slots[0].text->length : 0;
    return text_part(render, self.text, from, self.text->length, self.detail, result);
}

METHOD(removesuffix)
{
    (void)arguments;
    if (!want_text(render, slots[0]))
        return 0;
    size_t cut = starts_or_ends(self.text, 0, self.text->length, slots[0].text, 1) ? slots[0].text->length : 0;
    return text_part(render, self.text, 0, self.text->length - cut, self.detail, result);
}

/* str.center puts the odd space on the left when the width is odd. */
static int pad(struct render *render, struct value self, const struct value *slots, char side, struct value *result)
{
    int64_t width;
    const struct text *fill;
    if (!slot_integer(render, slots[0], 0, &width) || !optional_text(render, slots[1], &fill))
        return 0;
    if (fill && fill->characters != 1)
        return template_fail(render, BULLA_E_INPUT, "the fill character must be exactly one character long");
    if (width > TEMPLATE_MAX_MEMORY / 8)
        return template_fail(render, BULLA_E_LIMIT, "a width of %lld", (long long)width);
    int64_t missing = width - (int64_t)self.text->characters;
    int64_t left = side == 'r' ? missing : side == 'l' ? 0 : missing / 2 + (missing & width & 1);
    struct buffer out = {0};
    for (int64_t i = 0; i < missing; i++) {
        if (i == left)
            buffer_append(&out, self.text->bytes, self.text->length);
        buffer_append(&out, fill ? fill->bytes : " ", fill ? fill->length : 1);
    }
    if (missing <= 0 || left >= missing)
        buffer_append(&out, self.text->bytes, self.text->length);
    return mark(self, result, text_from_buffer(render, &out, result));
}

METHOD(center)
{
    (void)arguments;
    return pad(render, self, slots, 'c', result);
}

METHOD(ljust)
{
    (void)arguments;
    return pad(render, self, slots, 'l', result);
}

METHOD(rjust)
{
    (void)arguments;
    return pad(render, self, slots, 'r', result);
}

METHOD(zfill)
{
    (void)arguments;
    int64_t width;
    struct buffer out = {0};
    if (!slot_integer(render, slots[0], 0, &width))
        return 0;
    if (width > TEMPLATE_MAX_MEMORY / 8)
        return template_fail(render, BULLA_E_LIMIT, "a width of %lld", (long long)width);
    int has_sign = self.text->length > 0 && (self.text->bytes[0] == '-' || self.text->bytes[0] == '+');
    buffer_append(&out, self.text->bytes, (size_t)has_sign);
    for (int64_t i = (int64_t)self.text->characters; i < width; i++)
        buffer_append_byte(&out, '0');
    buffer_append(&out, self.text->bytes + has_sign, self.text->length - (size_t)has_sign);
    return mark(self, result, text_from_buffer(render, &out, result));
}

/* ---- Questions about every character ---- */

static int is_alnum(uint32_t c)
{
    return text_is_alphabetic(c) || text_is_digit(c, TEXT_NUMERIC);
}

static int is_decimal(uint32_t c)
{
    return text_is_digit(c, TEXT_DECIMAL);
}

static int is_digit(uint32_t c)
{
    return text_is_digit(c, TEXT_DIGIT);
}

static int is_numeric(uint32_t c)
{
    return text_is_digit(c, TEXT_NUMERIC);
}

static int is_ascii(uint32_t c)
{
    return c < 0x80;
}

static int every(struct render *render, struct value self, int (*question)(uint32_t), int when_empty,
                 struct value *result)
{
    int truth = self.text->length > 0 || when_empty;
    for (size_t at = 0, size; truth && at < self.text->length; at += size)
        truth = question(text_character(self.text, at, &size));
    *result = value_bool(truth);
    return template_spend(render, self.text->length / 16);
}

/* islower and isupper: a cased character, and none of the other case. */
static int case_is(struct render *render, struct value self, int upper_case, struct value *result)
{
    int cased = 0, other = 0;
    for (size_t at = 0, size; !other && at < self.text->length; at += size) {
        uint32_t c = text_character(self.text, at, &size);
        other = text_is_title(c) || (upper_case ? text_is_lower(c) : text_is_upper(c));
        cased |= upper_case ? text_is_upper(c) : text_is_lower(c);
    }
    *result = value_bool(cased && !other);
    return template_spend(render, self.text->length / 16);
}

#define EVERY(name, question, when_empty)                                \
    METHOD(name)                                                         \
    {                                                                    \
        (void)arguments;                                                 \
        (void)slots;                                                     \
        return every(render, self, question, when_empty, result);        \
    }

EVERY(isspace_method, text_is_space, 0)
EVERY(isalpha_method, text_is_alphabetic, 0)
EVERY(isalnum_method, is_alnum, 0)
EVERY(isdecimal_method, is_decimal, 0)
EVERY(isdigit_method, is_digit, 0)
EVERY(isnumeric_method, is_numeric, 0)
EVERY(isascii_method, is_ascii, 1)
EVERY(isprintable_method, text_is_printable, 1)

METHOD(islower_method)
{
    (void)arguments;
    (void)slots;
    return case_is(render, self, 0, result);
}

METHOD(isupper_method)
{
    (void)arguments;
    (void)slots;
    return case_is(render, self, 1, result);
}

#define UNSUPPORTED(name) {name, NULL, 0, BUILTIN_UNSUPPORTED, {NULL}}

const struct builtin text_methods[] = {
    {"strip", strip, 0, BUILTIN_POSITIONAL, {"chars"}},
    {"lstrip", lstrip, 0, BUILTIN_POSITIONAL, {"chars"}},
    {"rstrip", rstrip, 0, BUILTIN_POSITIONAL, {"chars"}},
    {"split", split, 0, 0, {"sep", "maxsplit"}},
    {"rsplit", rsplit, 0, 0, {"sep", "maxsplit"}},
    {"splitlines", splitlines, 0, 0, {"keepends"}},
    {"startswith", startswith, 1, BUILTIN_POSITIONAL, {"prefix", "start", "end"}},
    {"endswith", endswith, 1, BUILTIN_POSITIONAL, {"suffix", "start", "end"}},
    {"replace", replace, 2, BUILTIN_POSITIONAL, {"old", "new", "count"}},
    {"upper", upper, 0, 0, {NULL}},
    {"lower", lower, 0, 0, {NULL}},
    {"casefold", casefold, 0, 0, {NULL}},
    {"capitalize", capitalize, 0, 0, {NULL}},
    {"title", title, 0, 0, {NULL}},
    {"join", join, 1, BUILTIN_POSITIONAL, {"iterable"}},
    {"format", format_method, 0, BUILTIN_VARIADIC, {NULL}},
    {"find", find, 1, BUILTIN_POSITIONAL, {"sub", "start", "end"}},
    {"rfind", rfind, 1, BUILTIN_POSITIONAL, {"sub", "start", "end"}},
    {"index", index_method, 1, BUILTIN_POSITIONAL, {"sub", "start", "end"}},
    {"rindex", rindex_method, 1, BUILTIN_POSITIONAL, {"sub", "start", "end"}},
    {"count", count, 1, BUILTIN_POSITIONAL, {"sub", "start", "end"}},
    {"partition", partition, 1, BUILTIN_POSITIONAL, {"sep"}},
    {"rpartition", rpartition, 1, BUILTIN_POSITIONAL, {"sep"}},
    {"removeprefix", removeprefix, 1, BUILTIN_POSITIONAL, {"prefix"}},
    {"removesuffix", removesuffix, 1, BUILTIN_POSITIONAL, {"suffix"}},
    {"center", center, 1, BUILTIN_POSITIONAL, {"width", "fillchar"}},
    {"ljust", ljust, 1, BUILTIN_POSITIONAL, {"width", "fillchar"}},
    {"rjust", rjust, 1, BUILTIN_POSITIONAL, {"width", "fillchar"}},
    {"zfill", zfill, 1, BUILTIN_POSITIONAL, {"width"}},
    {"isspace", isspace_method, 0, 0, {NULL}},
    {"isalpha", isalpha_method, 0, 0, {NULL}},
    {"isalnum", isalnum_method, 0, 0, {NULL}},
    {"isdecimal", isdecimal_method, 0, 0, {NULL}},
    {"isdigit", isdigit_method, 0, 0, {NULL}},
    {"isnumeric", isnumeric_method, 0, 0, {NULL}},
    {"isascii", isascii_method, 0, 0, {NULL}},
    {"isprintable", isprintable_method, 0, 0, {NULL}},
    {"islower", islower_method, 0, 0, {NULL}},
    {"isupper", isupper_method, 0, 0, {NULL}},
    UNSUPPORTED("encode"),
    UNSUPPORTED("expandtabs"),
    UNSUPPORTED("format_map"),
    UNSUPPORTED("isidentifier"),
    UNSUPPORTED("istitle"),
    UNSUPPORTED("maketrans"),
    UNSUPPORTED("swapcase"),
    UNSUPPORTED("translate"),
    {NULL, NULL, 0, 0, {NULL}},
};
