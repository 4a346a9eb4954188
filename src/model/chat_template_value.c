/* Values: what they are, whether they are equal, and what they contain. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "model/chat_template_internal.h"

struct value value_none(void)
{
    return (struct value){.type = VALUE_NONE};
}

struct value value_bool(int truth)
{
    return (struct value){.type = VALUE_BOOL, .integer = truth != 0};
}

struct value value_integer(int64_t integer)
{
    return (struct value){.type = VALUE_INTEGER, .integer = integer};
}

struct value value_float(double real)
{
    return (struct value){.type = VALUE_FLOAT, .real = real};
}

struct value value_list(struct list *list)
{
    return (struct value){.type = VALUE_LIST, .list = list};
}

struct value value_undefined(enum undefined_kind kind, const struct text *text)
{
    return (struct value){.type = VALUE_UNDEFINED, .detail = (uint8_t)kind, .text = text};
}

int value_undefined_reason(struct render *render, const char *reason, struct value *result)
{
    struct value text;
    if (!value_text(render, reason, strlen(reason), &text))
        return 0;
    *result = value_undefined(UNDEFINED_REASON, text.text);
    return 1;
}

int value_text(struct render *render, const char *bytes, size_t length, struct value *result)
{
    struct text *text = arena_alloc(render->arena, 1, sizeof *text, render->error);
    if (!text)
        return 0;
    text->bytes = bytes;
    text->length = length;
    for (size_t i = 0; i < length; i++)
        text->characters += ((unsigned char)bytes[i] & 0xC0) != 0x80;
    *result = (struct value){.type = VALUE_TEXT, .text = text};
    return template_spend(render, length / 64);
}

int value_text_copy(struct render *render, const char *bytes, size_t length, struct value *result)
{
    const char *copy = arena_copy_text(render->arena, bytes, length, render->error);
    return copy && value_text(render, copy, length, result);
}

const char *value_type_name(struct value value)
{
    static const char *const names[] = {
        [VALUE_MISSING] = "missing",      [VALUE_UNDEFINED] = "Undefined", [VALUE_NONE] = "NoneType",
        [VALUE_BOOL] = "bool",            [VALUE_INTEGER] = "int",         [VALUE_BIG] = "int",
        [VALUE_FLOAT] = "float",          [VALUE_TEXT] = "str",            [VALUE_LIST] = "list",
        [VALUE_TUPLE] = "tuple",          [VALUE_RANGE] = "range",         [VALUE_VIEW] = "dict view",
        [VALUE_ITERATOR] = "generator",   [VALUE_DICT] = "dict",           [VALUE_NAMESPACE] = "Namespace",
        [VALUE_LOOP] = "LoopContext",     [VALUE_MACRO] = "Macro",         [VALUE_METHOD] = "method",
        [VALUE_FUNCTION] = "function",    [VALUE_JOINER] = "Joiner"};
    return names[value.type];
}

/* ---- Questions ---- */

int value_truth(struct value value)
{
    switch (value.type) {
    case VALUE_MISSING:
    case VALUE_UNDEFINED:
    case VALUE_NONE:
        return 0;
    case VALUE_BOOL:
    case VALUE_INTEGER:
        return value.integer != 0;
    case VALUE_FLOAT:
        return value.real != 0;
    default: {
        int64_t length = value_length(value);
        return length != 0;
    }
    }
}

int64_t value_length(struct value value)
{
    switch (value.type) {
    case VALUE_UNDEFINED:
        return 0;
    case VALUE_TEXT:
        return (int64_t)value.text->characters;
    case VALUE_LIST:
    case VALUE_TUPLE:
    case VALUE_RANGE:
    case VALUE_VIEW:
        return (int64_t)value.list->count;
    case VALUE_DICT:
        return (int64_t)value.dict->count;
    case VALUE_LOOP:
        return (int64_t)value.loop->items.count;
    default:
        return -1;
    }
}

int value_is_integer(struct value value)
{
    return value.type == VALUE_INTEGER || value.type == VALUE_BOOL;
}

int value_is_number(struct value value)
{
    return value_is_integer(value) || value.type == VALUE_FLOAT;
}

double value_as_double(struct value value)
{
    return value.type == VALUE_FLOAT ? value.real : (double)value.integer;
}

int value_fail_undefined(struct render *render, struct value value)
{
    char sentence[300];
    size_t length = value.text->length < 200 ? value.text->length : 200;
    switch (value.detail) {
    case UNDEFINED_NAME:
        snprintf(sentence, sizeof sentence, "'%.*s' is undefined", (int)length, value.text->bytes);
        break;
    case UNDEFINED_ATTRIBUTE:
        snprintf(sentence, sizeof sentence, "there is no '%.*s' here", (int)length, value.text->bytes);
        break;
    case UNDEFINED_UNSAFE:
        snprintf(sentence, sizeof sentence, "'%.*s' would change its object or is private, which templates may not do",
                 (int)length, value.text->bytes);
        break;
    default:
        snprintf(sentence, sizeof sentence, "%.*s", (int)length, value.text->bytes);
    }
    return template_fail(render, BULLA_E_INPUT, "%s", sentence);
}

/* ---- Equality and order ---- */

static int enter(struct render *render)
{
    return template_enter(render) && template_spend(render, 1);
}

static int lists_equal(struct render *render, const struct list *left, const struct list *right, int *equal)
{
    *equal = left->count == right->count;
    for (size_t i = 0; *equal && i < left->count; i++)
        if (!value_equal(render, left->items[i], right->items[i], equal))
            return 0;
    return 1;
}

static int dicts_equal(struct render *render, const struct dict *left, const struct dict *right, int *equal)
{
    *equal = left->count == right->count;
    for (size_t i = 0; *equal && i < left->count; i++) {
        struct value other;
        if (!dict_get(render, right, left->entries[i].key, &other))
            return 0;
        if (other.type == VALUE_MISSING)
            *equal = 0;
        else if (!value_equal(render, left->entries[i].value, other, equal))
            return 0;
    }
    return 1;
}

/* Exact for every int64 and double. NaN gives 2. */
static int compare_numbers(struct value left, struct value right)
{
    if (left.type != VALUE_FLOAT && right.type != VALUE_FLOAT)
        return left.integer < right.integer ? -1 : left.integer > right.integer;
    if (left.type == VALUE_FLOAT && right.type == VALUE_FLOAT)
        return left.real < right.real ? -1 : left.real > right.real ? 1 : left.real == right.real ? 0 : 2;
    if (right.type != VALUE_FLOAT) {
        int order = compare_numbers(right, left);
        return order == 2 ? 2 : -order;
    }
    double real = right.real;
    if (isnan(real))
        return 2;
    if (real >= 0x1p63)
        return -1;
    if (real < -0x1p63)
        return 1;
    int64_t whole = (int64_t)real; /* toward zero */
    if (left.integer != whole)
        return left.integer < whole ? -1 : 1;
    double rest = real - (double)whole;
    return rest > 0 ? -1 : rest < 0;
}

static int texts_equal(const struct text *left, const struct text *right)
{
    return left->length == right->length && memcmp(left->bytes, right->bytes, left->length) == 0;
}

int value_equal(struct render *render, struct value left, struct value right, int *equal)
{
    if (value_is_number(left) && value_is_number(right)) {
        *equal = compare_numbers(left, right) == 0;
        return 1;
    }
    *equal = 0;
    if (left.type != right.type)
        return 1;
    switch (left.type) {
    case VALUE_UNDEFINED:
    case VALUE_NONE:
        *equal = 1;
        return 1;
    case VALUE_TEXT:
    case VALUE_BIG:
        *equal = texts_equal(left.text, right.text);
        return template_spend(render, *equal ? left.text->length / 64 : 0);
    case VALUE_LIST:
    case VALUE_TUPLE:
    case VALUE_RANGE:
    case VALUE_VIEW:
    case VALUE_DICT:
        if (!enter(render))
            return 0;
        if (left.type == VALUE_DICT ? !dicts_equal(render, left.dict, right.dict, equal)
                                    : !lists_equal(render, left.list, right.list, equal))
            return 0;
        render->depth--;
        return 1;
    case VALUE_METHOD:
        *equal = left.method->function == right.method->function;
        return !*equal || value_equal(render, left.method->receiver, right.method->receiver, equal);
    default:
        *equal = left.loop == right.loop; /* the same object */
        return 1;
    }
}

static int order_lists(struct render *render, const char *operator, const struct list *left,
                       const struct list *right, int *order)
{
    for (size_t i = 0; i < left->count && i < right->count; i++) {
        int equal;
        if (!value_equal(render, left->items[i], right->items[i], &equal))
            return 0;
        if (!equal)
            return value_order(render, operator, left->items[i], right->items[i], order);
    }
    *order = left->count < right->count ? -1 : left->count > right->count;
    return 1;
}

int value_order(struct render *render, const char *operator, struct value left, struct value right, int *order)
{
    if (value_is_number(left) && value_is_number(right)) {
        *order = compare_numbers(left, right);
        return 1;
    }
    if (left.type == VALUE_TEXT && right.type == VALUE_TEXT) { /* UTF-8 keeps the order of code points */
        size_t shorter = left.text->length < right.text->length ? left.text->length : right.text->length;
        *order = memcmp(left.text->bytes, right.text->bytes, shorter);
        if (*order == 0)
            *order = left.text->length < right.text->length ? -1 : left.text->length > right.text->length;
        *order = *order < 0 ? -1 : *order > 0;
        return template_spend(render, shorter / 64);
    }
    if (left.type == right.type && (left.type == VALUE_LIST || left.type == VALUE_TUPLE)) {
        if (!enter(render) || !order_lists(render, operator, left.list, right.list, order))
            return 0;
        render->depth--;
        return 1;
    }
    if (left.type == VALUE_UNDEFINED || right.type == VALUE_UNDEFINED)
        return value_fail_undefined(render, left.type == VALUE_UNDEFINED ? left : right);
    if (left.type == VALUE_BIG || right.type == VALUE_BIG)
        return template_fail(render, BULLA_E_LIMIT, "an integer beyond 64 bits cannot be compared");
    return template_fail(render, BULLA_E_INPUT, "'%s' not supported between instances of '%s' and '%s'", operator,
                         value_type_name(left), value_type_name(right));
}

/* ---- Iteration ---- */

int value_is_iterable(struct value value)
{
    return value_length(value) >= 0 || value.type == VALUE_ITERATOR;
}

static int iterate_text(struct render *render, const struct text *text, struct list *items)
{
    struct list *list;
    if (!template_spend(render, text->characters) || !list_new(render, text->characters, &list))
        return 0;
    for (size_t at = 0; at < text->length;) {
        size_t size;
        struct value character;
        text_character(text, at, &size);
        if (!value_text(render, text->bytes + at, size, &character) || !list_append(render, list, character))
            return 0;
        at += size;
    }
    *items = *list;
    return 1;
}

static int iterate_keys(struct render *render, const struct dict *dict, struct list *items)
{
    struct list *list;
    if (!list_new(render, dict->count, &list))
        return 0;
    for (size_t i = 0; i < dict->count; i++)
        list->items[i] = dict->entries[i].key;
    list->count = dict->count;
    *items = *list;
    return 1;
}

int value_iterate(struct render *render, struct value value, struct list *items)
{
    *items = (struct list){0};
    switch (value.type) {
    case VALUE_UNDEFINED:
        return 1;
    case VALUE_TEXT:
        return iterate_text(render, value.text, items);
    case VALUE_LIST:
    case VALUE_TUPLE:
    case VALUE_RANGE:
    case VALUE_VIEW:
        *items = *value.list;
        return 1;
    case VALUE_DICT:
        return iterate_keys(render, value.dict, items);
    case VALUE_ITERATOR:
        if (value.iterator->failure) {
            bulla_fail(render->error, BULLA_E_INPUT, "%s", value.iterator->failure);
            return 0;
        }
        items->items = value.iterator->list.items + value.iterator->position;
        items->count = items->capacity = value.iterator->list.count - value.iterator->position;
        value.iterator->position = value.iterator->list.count;
        return 1;
    default:
        return template_fail(render, BULLA_E_INPUT, "'%s' object is not iterable", value_type_name(value));
    }
}

int value_contains(struct render *render, struct value container, struct value item, int *contains)
{
    struct value found;
    struct list items;
    uint32_t hash;
    *contains = 0;
    switch (container.type) {
    case VALUE_TEXT:
        if (item.type != VALUE_TEXT)
            return template_fail(render, BULLA_E_INPUT, "'in <string>' requires string as left operand, not %s",
                                 value_type_name(item));
        *contains = text_find(container.text, item.text, 0) != SIZE_MAX;
        return template_spend(render, container.text->length / 64);
    case VALUE_DICT:
        if (!dict_get(render, container.dict, item, &found))
            return 0;
        *contains = found.type != VALUE_MISSING;
        return 1;
    case VALUE_ITERATOR: /* consumed up to where it is found */
        while (!*contains && container.iterator->position < container.iterator->list.count)
            if (!template_spend(render, 1) ||
                !value_equal(render, container.iterator->list.items[container.iterator->position++], item, contains))
                return 0;
        return *contains || value_iterate(render, container, &items); /* what is left: nothing, or an error */
    default:
        if (container.type == VALUE_VIEW && container.detail == VIEW_KEYS && !value_hash(render, item, &hash))
            return 0;
        if (!value_is_iterable(container))
            return template_fail(render, BULLA_E_INPUT, "argument of type '%s' is not iterable",
                                 value_type_name(container));
        if (!value_iterate(render, container, &items))
            return 0;
        for (size_t i = 0; !*contains && i < items.count; i++)
            if (!template_spend(render, 1) || !value_equal(render, items.items[i], item, contains))
                return 0;
        return 1;
    }
}
