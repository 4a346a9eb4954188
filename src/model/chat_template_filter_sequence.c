/* Filters of lists, dicts and whatever can be iterated, and default. */
#include <string.h>

#include "model/chat_template_internal.h"

#define FILTER(name)                                                                                              \
    static int name(struct render *render, struct value self, const struct arguments *arguments,                 \
                    const struct value *slots, struct value *result)

FILTER(length)
{
    (void)arguments;
    (void)slots;
    int64_t count = value_length(self);
    if (count < 0)
        return template_fail(render, BULLA_E_INPUT, "object of type '%s' has no len()", value_type_name(self));
    *result = value_integer(count);
    return 1;
}

FILTER(default_filter)
{
    (void)arguments;
    if (self.type == VALUE_UNDEFINED || (value_truth(slots[1]) && !value_truth(self))) {
        *result = slots[0];
        return slots[0].type != VALUE_MISSING || value_text(render, "", 0, result);
    }
    *result = self;
    return 1;
}

FILTER(first)
{
    (void)arguments;
    (void)slots;
    if (self.type == VALUE_ITERATOR) {
        struct iterator *iterator = self.iterator;
        if (iterator->position < iterator->list.count) {
            *result = iterator->list.items[iterator->position++];
            return 1;
        }
    }
    if (self.type == VALUE_TEXT && self.text->length > 0) {
        size_t size;
        text_character(self.text, 0, &size);
        return text_part(render, self.text, 0, size, 0, result);
    }
    struct list items;
    if (!value_iterate(render, self, &items))
        return 0;
    if (items.count == 0)
        return value_undefined_reason(render, "No first item, sequence was empty.", result);
    *result = items.items[0];
    return 1;
}

FILTER(last)
{
    (void)arguments;
    (void)slots;
    struct list items;
    if (self.type == VALUE_ITERATOR)
        return template_fail(render, BULLA_E_INPUT, "'generator' object is not reversible");
    if (self.type == VALUE_TEXT && self.text->length > 0)
        return text_part(render, self.text, text_previous(self.text, self.text->length), self.text->length, 0, result);
    if (!value_iterate(render, self, &items))
        return 0;
    if (items.count == 0)
        return value_undefined_reason(render, "No last item, sequence was empty.", result);
    *result = items.items[items.count - 1];
    return 1;
}

/* A list of its own, so that it can be changed in place. */
static int copy_items(struct render *render, struct value value, struct list **copy)
{
    struct list items;
    if (!value_iterate(render, value, &items) || !template_spend(render, items.count / 4) ||
        !list_new(render, items.count, copy))
        return 0;
    if (items.count)
        memcpy((*copy)->items, items.items, items.count * sizeof *items.items);
    (*copy)->count = items.count;
    return 1;
}

FILTER(list_filter)
{
    (void)arguments;
    (void)slots;
    struct list *copy;
    if (!copy_items(render, self, &copy))
        return 0;
    *result = value_list(copy);
    return 1;
}

/* The attribute named by a filter's argument, or the item itself. */
static int path_of(struct render *render, struct value item, struct value attribute, struct value *key)
{
    if (attribute.type == VALUE_MISSING || attribute.type == VALUE_NONE) {
        *key = item;
        return 1;
    }
    return value_path(render, item, attribute, (struct value){0}, key);
}

static int fold_case(struct render *render, struct value *key)
{
    if (key->type != VALUE_TEXT)
        return 1;
    return text_change_case(render, key->text, TEXT_LOWER, key);
}

static int key_of(struct render *render, struct value item, struct value attribute, struct value case_sensitive,
                  struct value *key)
{
    return template_spend(render, 1) && path_of(render, item, attribute, key) &&
           (value_truth(case_sensitive) || fold_case(render, key));
}

FILTER(join)
{
    (void)arguments;
    struct list items;
    struct buffer out = {0};
    struct value separator;
    if (slots[0].type == VALUE_MISSING ? !value_text(render, "", 0, &separator)
                                       : !value_to_text(render, slots[0], &separator))
        return 0;
    if (!value_iterate(render, self, &items))
        return 0;
    for (size_t i = 0; i < items.count; i++) {
        struct value item;
        if (i)
            buffer_append(&out, separator.text->bytes, separator.text->length);
        if (!template_spend(render, 1 + separator.text->length / 64) ||
            !path_of(render, items.items[i], slots[1], &item) || !value_print(render, &out, item))
            goto failed;
        if (out.length > TEMPLATE_MAX_MEMORY) {
            template_fail(render, BULLA_E_LIMIT, "a text grows beyond %d bytes", TEMPLATE_MAX_MEMORY);
            goto failed;
        }
    }
    return text_from_buffer(render, &out, result);
failed:
    buffer_free(&out);
    return 0;
}

FILTER(reverse)
{
    (void)arguments;
    (void)slots;
    struct list *copy;
    if (self.type == VALUE_TEXT) {
        struct value bounds[3] = {value_none(), value_none(), value_integer(-1)};
        return value_slice(render, self, bounds, result);
    }
    if (!copy_items(render, self, &copy))
        return 0;
    for (size_t i = 0; i < copy->count / 2; i++) {
        struct value swap = copy->items[i];
        copy->items[i] = copy->items[copy->count - 1 - i];
        copy->items[copy->count - 1 - i] = swap;
    }
    if (self.type == VALUE_ITERATOR) {
        *result = value_list(copy);
        return 1;
    }
    return value_iterator(render, copy, result);
}

/* sort's attribute "a,b". Always a list of keys, as jinja2 has it: lists are
 * compared for equality first, so items without an order may be equal. */
static int sort_key(struct render *render, struct value item, struct value attribute, struct value case_sensitive,
                    struct value *key)
{
    struct text comma = {.bytes = ",", .length = 1};
    struct list single = {&attribute, 1, 1}, *keys;
    struct value paths = value_list(&single);
    if (attribute.type == VALUE_TEXT && !text_split(render, attribute, &comma, -1, 0, &paths))
        return 0;
    if (!list_new(render, paths.list->count, &keys))
        return 0;
    for (size_t i = 0; i < paths.list->count; i++) {
        struct value part;
        if (!key_of(render, item, paths.list->items[i], case_sensitive, &part) || !list_append(render, keys, part))
            return 0;
    }
    *key = value_list(keys);
    return 1;
}

FILTER(sort)
{
    (void)arguments;
    struct list *copy;
    if (!copy_items(render, self, &copy))
        return 0;
    struct value *keys = arena_alloc(render->arena, copy->count, sizeof *keys, render->error);
    if (!keys)
        return 0;
    for (size_t i = 0; i < copy->count; i++)
        if (!sort_key(render, copy->items[i], slots[2], slots[1], &keys[i]))
            return 0;
    *result = value_list(copy);
    return list_sort(render, copy, keys, value_truth(slots[0]));
}

static int unique_items(struct render *render, struct value self, const struct value *slots, struct list *kept)
{
    struct list items;
    struct dict *seen;
    if (!value_iterate(render, self, &items) || !dict_new(render, &seen))
        return 0;
    for (size_t i = 0; i < items.count; i++) {
        struct value key, before;
        if (!key_of(render, items.items[i], slots[1], slots[0], &key) || !dict_get(render, seen, key, &before))
            return 0;
        if (before.type == VALUE_MISSING &&
            (!dict_set(render, seen, key, value_none()) || !list_append(render, kept, items.items[i])))
            return 0;
    }
    return 1;
}

FILTER(unique)
{
    (void)arguments;
    struct list *kept = NULL;
    uint32_t depth = render->depth;
    return list_new(render, 8, &kept) &&
           value_generator(render, kept, unique_items(render, self, slots, kept), depth, result);
}

static int extreme(struct render *render, struct value self, const struct value *slots, int largest,
                   struct value *result)
{
    struct list items;
    struct value best_key = {0};
    if (!value_iterate(render, self, &items))
        return 0;
    if (items.count == 0)
        return value_undefined_reason(render, "No aggregated item, sequence was empty.", result);
    for (size_t i = 0; i < items.count; i++) {
        struct value key;
        int order = 1;
        if (!key_of(render, items.items[i], slots[1], slots[0], &key))
            return 0;
        if (i > 0 && !value_order(render, largest ? ">" : "<", key, best_key, &order))
            return 0;
        if (i == 0 || (largest ? order == 1 : order == -1)) {
            *result = items.items[i];
            best_key = key;
        }
    }
    return 1;
}

FILTER(min_filter)
{
    (void)arguments;
    return extreme(render, self, slots, 0, result);
}

FILTER(max_filter)
{
    (void)arguments;
    return extreme(render, self, slots, 1, result);
}

FILTER(sum)
{
    (void)arguments;
    struct list items;
    struct value total = slots[1].type == VALUE_MISSING ? value_integer(0) : slots[1];
    if (total.type == VALUE_TEXT)
        return template_fail(render, BULLA_E_INPUT, "sum() can't sum strings");
    if (!value_iterate(render, self, &items))
        return 0;
    for (size_t i = 0; i < items.count; i++) {
        struct value item;
        if (!template_spend(render, 1) || !path_of(render, items.items[i], slots[0], &item) ||
            !operator_apply(render, OPERATOR_ADD, total, item, &total))
            return 0;
    }
    *result = total;
    return 1;
}

static int fill(struct render *render, struct list *list, size_t count, struct value with)
{
    while (list->count < count)
        if (!template_spend(render, 1) || !list_append(render, list, with))
            return 0;
    return 1;
}

static int is_given(struct value slot)
{
    return slot.type != VALUE_MISSING && slot.type != VALUE_NONE;
}

static int batch_items(struct render *render, struct value self, const struct value *slots, struct list *lists)
{
    struct list items, *row;
    int64_t size;
    if (!value_iterate(render, self, &items) || !slot_integer(render, slots[0], 0, &size) ||
        !list_new(render, 8, &row))
        return 0;
    /* As jinja2: a row is compared with the size before an item is added. */
    for (size_t i = 0; i < items.count; i++) {
        if ((int64_t)row->count == size &&
            (!list_append(render, lists, value_list(row)) || !list_new(render, 8, &row)))
            return 0;
        if (!template_spend(render, 1) || !list_append(render, row, items.items[i]))
            return 0;
    }
    if (row->count == 0)
        return 1;
    if (is_given(slots[1]) && size > 0 && !fill(render, row, (size_t)size, slots[1]))
        return 0;
    return list_append(render, lists, value_list(row));
}

FILTER(batch)
{
    (void)arguments;
    struct list *lists = NULL;
    uint32_t depth = render->depth;
    return list_new(render, 8, &lists) &&
           value_generator(render, lists, batch_items(render, self, slots, lists), depth, result);
}

static int slice_items(struct render *render, struct value self, const struct value *slots, struct list *lists)
{
    struct list items;
    int64_t slices;
    if (!slot_integer(render, slots[0], 0, &slices) || !value_iterate(render, self, &items))
        return 0;
    if (slices == 0)
        return template_fail(render, BULLA_E_INPUT, "division by zero");
    if (slices < 0)
        slices = 0;
    if (!template_spend(render, (size_t)slices))
        return 0;
    size_t each = slices ? items.count / (size_t)slices : 0, more = slices ? items.count % (size_t)slices : 0, at = 0;
    for (size_t i = 0; i < (size_t)slices; i++) {
        struct list *row;
        if (!list_new(render, each + 1, &row))
            return 0;
        for (size_t end = at + each + (i < more); at < end; at++)
            if (!list_append(render, row, items.items[at]))
                return 0;
        if (is_given(slots[1]) && i >= more && !list_append(render, row, slots[1]))
            return 0;
        if (!list_append(render, lists, value_list(row)))
            return 0;
    }
    return 1;
}

FILTER(slice)
{
    (void)arguments;
    struct list *lists = NULL;
    uint32_t depth = render->depth;
    return list_new(render, 8, &lists) &&
           value_generator(render, lists, slice_items(render, self, slots, lists), depth, result);
}

static int pairs_of(struct render *render, struct value dict, struct list **pairs)
{
    struct value view;
    struct arguments none = {0};
    if (dict.type == VALUE_UNDEFINED)
        return value_fail_undefined(render, dict);
    if (dict.type != VALUE_DICT)
        return template_fail(render, BULLA_E_INPUT, "can only get item pairs from a mapping, not '%s'",
                             value_type_name(dict));
    if (!builtin_invoke(render, builtin_find(dict_methods, "items", 5), dict, &none, &view))
        return 0;
    *pairs = view.list;
    return 1;
}

FILTER(items_filter)
{
    (void)arguments;
    (void)slots;
    struct list *pairs = NULL;
    uint32_t depth = render->depth;
    if (!list_new(render, 0, &pairs))
        return 0;
    int done = self.type == VALUE_UNDEFINED || pairs_of(render, self, &pairs);
    return value_generator(render, pairs, done, depth, result);
}

FILTER(dictsort)
{
    (void)arguments;
    struct list *pairs = NULL;
    int by_value = slots[1].type == VALUE_TEXT && text_equals(slots[1].text, "value");
    if (is_given(slots[1]) && !by_value && !(slots[1].type == VALUE_TEXT && text_equals(slots[1].text, "key")))
        return template_fail(render, BULLA_E_INPUT, "You can only sort by either \"key\" or \"value\"");
    if (!pairs_of(render, self, &pairs))
        return 0;
    struct value *keys = arena_alloc(render->arena, pairs->count, sizeof *keys, render->error);
    if (!keys)
        return 0;
    for (size_t i = 0; i < pairs->count; i++)
        if (!key_of(render, pairs->items[i].list->items[by_value], value_none(), slots[0], &keys[i]))
            return 0;
    *result = value_list(pairs);
    return list_sort(render, pairs, keys, value_truth(slots[2]));
}

FILTER(attr)
{
    (void)arguments;
    struct value name;
    return value_to_text(render, slots[0], &name) && value_only_attribute(render, self, name.text, result);
}

const struct builtin sequence_filters[] = {
    {"length", length, 0, 0, {NULL}},
    {"count", length, 0, 0, {NULL}},
    {"default", default_filter, 0, 0, {"default_value", "boolean"}},
    {"d", default_filter, 0, 0, {"default_value", "boolean"}},
    {"first", first, 0, 0, {NULL}},
    {"last", last, 0, 0, {NULL}},
    {"list", list_filter, 0, 0, {NULL}},
    {"join", join, 0, 0, {"d", "attribute"}},
    {"reverse", reverse, 0, 0, {NULL}},
    {"sort", sort, 0, 0, {"reverse", "case_sensitive", "attribute"}},
    {"unique", unique, 0, 0, {"case_sensitive", "attribute"}},
    {"min", min_filter, 0, 0, {"case_sensitive", "attribute"}},
    {"max", max_filter, 0, 0, {"case_sensitive", "attribute"}},
    {"sum", sum, 0, 0, {"attribute", "start"}},
    {"batch", batch, 1, 0, {"linecount", "fill_with"}},
    {"slice", slice, 1, 0, {"slices", "fill_with"}},
    {"items", items_filter, 0, 0, {NULL}},
    {"dictsort", dictsort, 0, 0, {"case_sensitive", "by", "reverse"}},
    {"attr", attr, 1, 0, {"name"}},
    {NULL, NULL, 0, 0, {NULL}},
};
