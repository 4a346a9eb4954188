#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "model/chat_template_internal.h"

/* Dicts of more entries than this get a hash index. */
enum { INDEXED_ENTRIES = 8 };

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

/* ---- Lists ---- */

int list_new(struct render *render, size_t capacity, struct list **list)
{
    *list = arena_alloc(render->arena, 1, sizeof **list, render->error);
    if (!*list)
        return 0;
    (*list)->capacity = capacity;
    (*list)->items = arena_alloc(render->arena, capacity, sizeof *(*list)->items, render->error);
    return (*list)->items && template_spend(render, capacity / 4);
}

int list_append(struct render *render, struct list *list, struct value value)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 8;
        struct value *grown = arena_alloc(render->arena, capacity, sizeof *grown, render->error);
        if (!grown)
            return 0;
        if (list->count)
            memcpy(grown, list->items, list->count * sizeof *grown);
        list->items = grown;
        list->capacity = capacity;
    }
    list->items[list->count++] = value;
    return 1;
}

int value_iterator(struct render *render, struct list *list, struct value *result)
{
    struct iterator *iterator = arena_alloc(render->arena, 1, sizeof *iterator, render->error);
    if (!iterator)
        return 0;
    iterator->list = *list;
    *result = (struct value){.type = VALUE_ITERATOR, .iterator = iterator};
    return 1;
}

int value_generator(struct render *render, struct list *list, int done, uint32_t depth, struct value *result)
{
    const char *failure = NULL;
    if (!done) {
        if (render->error->code != BULLA_E_INPUT)
            return 0;
        bulla_error error = *render->error;
        bulla_error_clear(render->error);
        render->depth = depth;
        failure = arena_copy_text(render->arena, error.text, strlen(error.text), render->error);
        if (!failure)
            return 0;
    }
    if (!value_iterator(render, list, result))
        return 0;
    result->iterator->failure = failure;
    return 1;
}

/* ---- Dicts ---- */

static uint32_t mix_hash(uint64_t hash)
{
    hash = (hash ^ hash >> 32) * UINT64_C(0xD6E8FEB86659FD93);
    return (uint32_t)(hash >> 32);
}

/* Equal values have equal hashes: 1, 1.0 and true too. */
static int hash_value(struct render *render, struct value value, uint32_t *hash)
{
    uint64_t state = UINT64_C(0xCBF29CE484222325);
    switch (value.type) {
    case VALUE_TEXT:
    case VALUE_BIG:
        for (size_t i = 0; i < value.text->length; i++)
            state = (state ^ (unsigned char)value.text->bytes[i]) * UINT64_C(0x100000001B3);
        break;
    case VALUE_BOOL:
    case VALUE_INTEGER:
    case VALUE_FLOAT: {
        double real = value_as_double(value) + 0.0; /* -0.0 becomes 0.0 */
        memcpy(&state, &real, sizeof state);
        break;
    }
    case VALUE_TUPLE:
        for (size_t i = 0; i < value.list->count; i++) {
            uint32_t part = 0;
            if (!template_enter(render) || !template_spend(render, 1) || !hash_value(render, value.list->items[i], &part))
                return 0;
            render->depth--;
            state = (state ^ part) * UINT64_C(0x100000001B3);
        }
        break;
    case VALUE_LIST:
    case VALUE_DICT:
    case VALUE_VIEW:
        return template_fail(render, BULLA_E_INPUT, "unhashable type: '%s'", value_type_name(value));
    default: /* the same object, or one of its kind */
        state = value.type;
    }
    *hash = mix_hash(state);
    return 1;
}

int dict_new(struct render *render, struct dict **dict)
{
    *dict = arena_alloc(render->arena, 1, sizeof **dict, render->error);
    return *dict != NULL;
}

/* *entry becomes the number of the entry with this key, `count` when there is none. */
static int dict_locate(struct render *render, const struct dict *dict, struct value key, uint32_t hash,
                       size_t *entry)
{
    int equal = 0;
    if (!dict->slots) {
        for (*entry = 0; *entry < dict->count; ++*entry) {
            const struct dict_entry *candidate = &dict->entries[*entry];
            if (candidate->hash != hash)
                continue;
            if (!value_equal(render, candidate->key, key, &equal))
                return 0;
            if (equal)
                return 1;
        }
        return 1;
    }
    for (size_t slot = hash & dict->mask; dict->slots[slot]; slot = (slot + 1) & dict->mask) {
        *entry = dict->slots[slot] - 1;
        if (!template_spend(render, 1)) /* keys made to collide cannot take for ever */
            return 0;
        if (dict->entries[*entry].hash != hash)
            continue;
        if (!value_equal(render, dict->entries[*entry].key, key, &equal))
            return 0;
        if (equal)
            return 1;
    }
    *entry = dict->count;
    return 1;
}

int dict_get(struct render *render, const struct dict *dict, struct value key, struct value *value)
{
    uint32_t hash = 0;
    size_t entry = 0;
    if (!hash_value(render, key, &hash) || !dict_locate(render, dict, key, hash, &entry))
        return 0;
    *value = entry < dict->count ? dict->entries[entry].value : (struct value){0};
    return 1;
}

int dict_get_text(struct render *render, const struct dict *dict, const char *key, struct value *value)
{
    struct text text = {.bytes = key, .length = strlen(key)};
    return dict_get(render, dict, (struct value){.type = VALUE_TEXT, .text = &text}, value);
}

static void dict_place(struct dict *dict, size_t entry)
{
    size_t slot = dict->entries[entry].hash & dict->mask;
    while (dict->slots[slot])
        slot = (slot + 1) & dict->mask;
    dict->slots[slot] = (uint32_t)entry + 1;
}

static int dict_grow(struct render *render, struct dict *dict)
{
    size_t capacity = dict->capacity ? 2 * dict->capacity : INDEXED_ENTRIES;
    if (capacity > UINT32_MAX / 4)
        return template_fail(render, BULLA_E_LIMIT, "a dict has more than %zu members", dict->count);
    struct dict_entry *entries = arena_alloc(render->arena, capacity, sizeof *entries, render->error);
    if (!entries)
        return 0;
    if (dict->count)
        memcpy(entries, dict->entries, dict->count * sizeof *entries);
    dict->entries = entries;
    dict->capacity = capacity;
    if (capacity <= INDEXED_ENTRIES)
        return 1;
    dict->slots = arena_alloc(render->arena, 2 * capacity, sizeof *dict->slots, render->error);
    if (!dict->slots)
        return 0;
    dict->mask = 2 * capacity - 1;
    for (size_t i = 0; i < dict->count; i++)
        dict_place(dict, i);
    return template_spend(render, capacity);
}

int dict_set(struct render *render, struct dict *dict, struct value key, struct value value)
{
    uint32_t hash = 0;
    size_t entry = 0;
    if (!hash_value(render, key, &hash) || !dict_locate(render, dict, key, hash, &entry))
        return 0;
    if (entry == dict->count) {
        if (dict->count == dict->capacity && !dict_grow(render, dict))
            return 0;
        dict->entries[entry] = (struct dict_entry){.key = key, .hash = hash};
        dict->count++;
        if (dict->slots)
            dict_place(dict, entry);
    }
    dict->entries[entry].value = value;
    return 1;
}

/* ---- From JSON ---- */

static int number_from_json(struct render *render, const struct json *json, struct value *result)
{
    if (json->is_integer) {
        *result = value_integer(json->integer);
        return 1;
    }
    if (!memchr(json->text, '.', json->length) && !memchr(json->text, 'e', json->length) &&
        !memchr(json->text, 'E', json->length)) {
        if (!value_text_copy(render, json->text, json->length, result))
            return 0;
        result->type = VALUE_BIG;
        return 1;
    }
    *result = value_float(json->number);
    return 1;
}

/* Recursion is bounded by JSON_MAX_DEPTH. Texts are shared with `json`, whose
 * arena must live as long. */
int value_from_json(struct render *render, const struct json *json, struct value *result)
{
    switch (json->type) {
    case JSON_NULL:
        *result = value_none();
        return 1;
    case JSON_FALSE:
    case JSON_TRUE:
        *result = value_bool(json->type == JSON_TRUE);
        return 1;
    case JSON_NUMBER:
        return number_from_json(render, json, result);
    case JSON_STRING:
        return value_text(render, json->text, json->length, result);
    case JSON_ARRAY: {
        struct list *list;
        if (!list_new(render, json->length, &list))
            return 0;
        list->count = json->length;
        for (size_t i = 0; i < json->length; i++)
            if (!value_from_json(render, json->items[i], &list->items[i]))
                return 0;
        *result = value_list(list);
        return 1;
    }
    case JSON_OBJECT: {
        struct dict *dict;
        if (!dict_new(render, &dict))
            return 0;
        for (size_t i = 0; i < json->length; i++) {
            struct value key, value;
            if (!value_text(render, json->keys[i], json->key_lengths[i], &key) ||
                !value_from_json(render, json->items[i], &value) || !dict_set(render, dict, key, value))
                return 0;
        }
        *result = (struct value){.type = VALUE_DICT, .dict = dict};
        return 1;
    }
    }
    return 0;
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
        if (container.type == VALUE_VIEW && container.detail == VIEW_KEYS && !hash_value(render, item, &hash))
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

/* ---- Sorting: a merge sort, because comparing can fail ---- */

static int merge(struct render *render, const struct value *keys, size_t *order, size_t *scratch, size_t start,
                 size_t middle, size_t end, int reverse)
{
    size_t left = start, right = middle;
    for (size_t out = start; out < end; out++) {
        int take_right = left == middle;
        if (left < middle && right < end) {
            int comparison;
            struct value a = keys[order[right]], b = keys[order[left]];
            if (!template_spend(render, 1) || !value_order(render, "<", reverse ? b : a, reverse ? a : b, &comparison))
                return 0;
            take_right = comparison == -1;
        }
        scratch[out] = take_right ? order[right++] : order[left++];
    }
    memcpy(order + start, scratch + start, (end - start) * sizeof *order);
    return 1;
}

int list_sort(struct render *render, struct list *values, const struct value *keys, int reverse)
{
    size_t count = values->count;
    size_t *order = arena_alloc(render->arena, 2 * count, sizeof *order, render->error);
    struct value *sorted = arena_alloc(render->arena, count, sizeof *sorted, render->error);
    if (!order || !sorted)
        return 0;
    for (size_t i = 0; i < count; i++)
        order[i] = i;
    for (size_t width = 1; width < count; width *= 2)
        for (size_t start = 0; start + width < count; start += 2 * width) {
            size_t end = count - start < 2 * width ? count : start + 2 * width;
            if (!merge(render, keys, order, order + count, start, start + width, end, reverse))
                return 0;
        }
    for (size_t i = 0; i < count; i++)
        sorted[i] = values->items[order[i]];
    values->items = sorted;
    values->capacity = count;
    return 1;
}
