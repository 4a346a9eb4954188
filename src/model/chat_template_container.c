/* Lists, generators and dicts, and how they are made from JSON and sorted. */
#include <string.h>

#include "model/chat_template_internal.h"

/* Dicts of more entries than this get a hash index. */
enum { INDEXED_ENTRIES = 8 };

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
int value_hash(struct render *render, struct value value, uint32_t *hash)
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
            if (!template_enter(render) || !template_spend(render, 1) ||
                !value_hash(render, value.list->items[i], &part))
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
    if (!value_hash(render, key, &hash) || !dict_locate(render, dict, key, hash, &entry))
        return 0;
    *value = entry < dict->count ? dict->entries[entry].value : (struct value){0};
    return 1;
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
    if (!value_hash(render, key, &hash) || !dict_locate(render, dict, key, hash, &entry))
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
