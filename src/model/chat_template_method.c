/* Methods of lists, tuples, dicts, loops, joiners and cyclers; and how arguments
 * are bound to parameters. Those of strings are in chat_template_method_text.c. */
#include <string.h>

#include "model/chat_template_internal.h"

static int fail_argument(struct render *render, const struct builtin *builtin, const char *what,
                         const struct text *name)
{
    size_t length = name && name->length < 100 ? name->length : name ? 100 : 0;
    return template_fail(render, BULLA_E_INPUT, "%s() %s%.*s", builtin->name, what, (int)length,
                         name ? name->bytes : "");
}

static size_t parameter_count(const struct builtin *builtin)
{
    size_t count = 0;
    while (count < BUILTIN_PARAMETERS && builtin->parameters[count])
        count++;
    return count;
}

static int bind_keywords(struct render *render, const struct builtin *builtin, const struct arguments *arguments,
                         size_t parameters, struct value *slots)
{
    for (size_t k = 0; k < arguments->keyword_count; k++) {
        size_t i = 0;
        while (i < parameters && !text_equals(arguments->keywords[k], builtin->parameters[i]))
            i++;
        if (i == parameters || (builtin->flags & BUILTIN_POSITIONAL))
            return fail_argument(render, builtin, "got an unexpected keyword argument ", arguments->keywords[k]);
        if (slots[i].type != VALUE_MISSING)
            return fail_argument(render, builtin, "got two values for argument ", arguments->keywords[k]);
        slots[i] = arguments->keyword_values[k];
    }
    return 1;
}

int builtin_invoke(struct render *render, const struct builtin *builtin, struct value self,
                   const struct arguments *arguments, struct value *result)
{
    struct value slots[BUILTIN_PARAMETERS] = {{0}};
    if (builtin->flags & BUILTIN_UNSUPPORTED)
        return template_fail(render, BULLA_E_UNSUPPORTED, "%s() is not supported", builtin->name);
    if (!template_enter(render)) /* map('map', 'map', ...) calls itself */
        return 0;
    if (builtin->flags & BUILTIN_VARIADIC) {
        int done = builtin->call(render, self, arguments, NULL, result);
        render->depth--;
        return done;
    }
    size_t parameters = parameter_count(builtin);
    if (arguments->count > parameters)
        return fail_argument(render, builtin, "got too many arguments", NULL);
    for (size_t i = 0; i < arguments->count; i++)
        slots[i] = arguments->values[i];
    if (!bind_keywords(render, builtin, arguments, parameters, slots))
        return 0;
    for (size_t i = 0; i < builtin->required; i++)
        if (slots[i].type == VALUE_MISSING)
            return fail_argument(render, builtin, "misses an argument", NULL);
    int done = builtin->call(render, self, arguments, slots, result);
    render->depth--;
    return done;
}

int slot_integer(struct render *render, struct value slot, int64_t otherwise,
                 int64_t *integer)
{
    *integer = otherwise;
    if (slot.type == VALUE_MISSING)
        return 1;
    if (slot.type == VALUE_UNDEFINED)
        return value_fail_undefined(render, slot);
    if (!value_is_integer(slot))
        return template_fail(render, BULLA_E_INPUT, "an integer is wanted, not '%s'", value_type_name(slot));
    *integer = slot.integer;
    return 1;
}

#define METHOD(name)                                                                                              \
    static int name(struct render *render, struct value self, const struct arguments *arguments,                 \
                    const struct value *slots, struct value *result)

/* ---- Lists and tuples ---- */

METHOD(list_count)
{
    (void)arguments;
    int64_t count = 0;
    for (size_t i = 0; i < self.list->count; i++) {
        int equal;
        if (!template_spend(render, 1) || !value_equal(render, self.list->items[i], slots[0], &equal))
            return 0;
        count += equal;
    }
    *result = value_integer(count);
    return 1;
}

METHOD(list_index)
{
    (void)arguments;
    int64_t start, stop, count = (int64_t)self.list->count;
    if (!slot_integer(render, slots[1], 0, &start) || !slot_integer(render, slots[2], count, &stop))
        return 0;
    start = start < 0 ? (start + count < 0 ? 0 : start + count) : start;
    stop = stop < 0 ? stop + count : stop > count ? count : stop;
    for (int64_t i = start; i < stop; i++) {
        int equal;
        if (!template_spend(render, 1) || !value_equal(render, self.list->items[i], slots[0], &equal))
            return 0;
        if (equal) {
            *result = value_integer(i);
            return 1;
        }
    }
    return template_fail(render, BULLA_E_INPUT, "index(): the value is not in the list");
}

METHOD(list_copy)
{
    (void)arguments;
    (void)slots;
    struct list *copy;
    if (!list_new(render, self.list->count, &copy))
        return 0;
    if (self.list->count)
        memcpy(copy->items, self.list->items, self.list->count * sizeof *copy->items);
    copy->count = self.list->count;
    *result = value_list(copy);
    return 1;
}

/* ---- Dicts ---- */

METHOD(dict_method_get)
{
    (void)arguments;
    if (!dict_get(render, self.dict, slots[0], result))
        return 0;
    if (result->type == VALUE_MISSING)
        *result = slots[1].type == VALUE_MISSING ? value_none() : slots[1];
    return 1;
}

static int make_view(struct render *render, const struct dict *dict, enum view_kind kind, struct value *result)
{
    struct list *list;
    if (!template_spend(render, dict->count / 4) || !list_new(render, dict->count, &list))
        return 0;
    list->count = dict->count;
    for (size_t i = 0; i < dict->count; i++) {
        const struct dict_entry *entry = &dict->entries[i];
        struct list *pair;
        list->items[i] = kind == VIEW_KEYS ? entry->key : entry->value;
        if (kind != VIEW_ITEMS)
            continue;
        if (!list_new(render, 2, &pair))
            return 0;
        pair->items[0] = entry->key;
        pair->items[1] = entry->value;
        pair->count = 2;
        list->items[i] = (struct value){.type = VALUE_TUPLE, .list = pair};
    }
    *result = (struct value){.type = VALUE_VIEW, .detail = (uint8_t)kind, .list = list};
    return 1;
}

METHOD(dict_items)
{
    (void)arguments;
    (void)slots;
    return make_view(render, self.dict, VIEW_ITEMS, result);
}

METHOD(dict_keys)
{
    (void)arguments;
    (void)slots;
    return make_view(render, self.dict, VIEW_KEYS, result);
}

METHOD(dict_values)
{
    (void)arguments;
    (void)slots;
    return make_view(render, self.dict, VIEW_VALUES, result);
}

METHOD(dict_copy)
{
    (void)arguments;
    (void)slots;
    struct dict *copy;
    if (!dict_new(render, &copy))
        return 0;
    for (size_t i = 0; i < self.dict->count; i++)
        if (!dict_set(render, copy, self.dict->entries[i].key, self.dict->entries[i].value))
            return 0;
    *result = (struct value){.type = VALUE_DICT, .dict = copy};
    return 1;
}

/* ---- loop, joiner, cycler ---- */

METHOD(loop_cycle)
{
    (void)slots;
    if (arguments->count == 0)
        return template_fail(render, BULLA_E_INPUT, "no items for cycling given");
    *result = arguments->values[self.loop->index % arguments->count];
    return 1;
}

METHOD(loop_changed)
{
    (void)slots;
    struct list *list;
    int equal = 0;
    if (!list_new(render, arguments->count, &list))
        return 0;
    if (arguments->count)
        memcpy(list->items, arguments->values, arguments->count * sizeof *list->items);
    list->count = arguments->count;
    struct value now = {.type = VALUE_TUPLE, .list = list};
    if (self.loop->has_changed_value && !value_equal(render, self.loop->changed_value, now, &equal))
        return 0;
    self.loop->has_changed_value = 1;
    self.loop->changed_value = now;
    *result = value_bool(!equal);
    return 1;
}

METHOD(joiner_use)
{
    (void)arguments;
    (void)slots;
    if (self.joiner->is_cycler)
        return template_fail(render, BULLA_E_INPUT, "'Cycler' object is not callable");
    if (self.joiner->position++ > 0) {
        *result = self.joiner->separator;
        return 1;
    }
    return value_text(render, "", 0, result);
}

METHOD(cycler_step)
{
    (void)render;
    (void)arguments;
    (void)slots;
    struct joiner *cycler = self.joiner;
    *result = cycler->items.items[cycler->position];
    cycler->position = (cycler->position + 1) % cycler->items.count;
    return 1;
}

const struct builtin joiner_call = {"joiner", joiner_use, 0, 0, {NULL}};
const struct builtin cycler_next = {"next", cycler_step, 0, 0, {NULL}};

#define UNSAFE(name) {name, NULL, 0, BUILTIN_UNSAFE | BUILTIN_UNSUPPORTED, {NULL}}
#define UNSUPPORTED(name) {name, NULL, 0, BUILTIN_UNSUPPORTED, {NULL}}
#define END {NULL, NULL, 0, 0, {NULL}}

const struct builtin list_methods[] = {
    {"count", list_count, 1, BUILTIN_POSITIONAL, {"value"}},
    {"index", list_index, 1, BUILTIN_POSITIONAL, {"value", "start", "stop"}},
    {"copy", list_copy, 0, 0, {NULL}},
    UNSAFE("append"),
    UNSAFE("clear"),
    UNSAFE("pop"),
    UNSAFE("reverse"),
    UNSAFE("insert"),
    UNSAFE("sort"),
    UNSAFE("extend"),
    UNSAFE("remove"),
    END,
};

const struct builtin tuple_methods[] = {
    {"count", list_count, 1, BUILTIN_POSITIONAL, {"value"}},
    {"index", list_index, 1, BUILTIN_POSITIONAL, {"value", "start", "stop"}},
    END,
};

const struct builtin dict_methods[] = {
    {"get", dict_method_get, 1, BUILTIN_POSITIONAL, {"key", "default"}},
    {"items", dict_items, 0, 0, {NULL}},
    {"keys", dict_keys, 0, 0, {NULL}},
    {"values", dict_values, 0, 0, {NULL}},
    {"copy", dict_copy, 0, 0, {NULL}},
    UNSUPPORTED("fromkeys"),
    UNSAFE("clear"),
    UNSAFE("pop"),
    UNSAFE("popitem"),
    UNSAFE("setdefault"),
    UNSAFE("update"),
    END,
};

const struct builtin loop_methods[] = {
    {"cycle", loop_cycle, 0, BUILTIN_VARIADIC, {NULL}},
    {"changed", loop_changed, 0, BUILTIN_VARIADIC, {NULL}},
    END,
};
