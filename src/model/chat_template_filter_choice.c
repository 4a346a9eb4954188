/* map, select, reject, selectattr and rejectattr: filters that apply another
 * filter or test, named by an argument, to every item. Python makes generators
 * of them: see value_generator. */
#include <string.h>

#include "model/chat_template_internal.h"

#define FILTER(name)                                                                                              \
    static int name(struct render *render, struct value self, const struct arguments *arguments,                 \
                    const struct value *slots, struct value *result)

const struct builtin *filter_find(const struct text *name)
{
    static const struct builtin *const tables[] = {text_filters, sequence_filters, choice_filters};
    const struct builtin *found = NULL;
    for (size_t i = 0; !found && i < sizeof tables / sizeof tables[0]; i++)
        found = builtin_find(tables[i], name->bytes, name->length);
    return found;
}

static int fail_name(struct render *render, const char *kind, struct value name)
{
    if (name.type != VALUE_TEXT)
        return template_fail(render, BULLA_E_INPUT, "the name of a %s must be a string", kind);
    return template_fail(render, BULLA_E_UNSUPPORTED, "there is no %s '%.*s'", kind,
                         (int)(name.text->length < 100 ? name.text->length : 100), name.text->bytes);
}

/* The arguments after the first `used`. */
static struct arguments rest_of(const struct arguments *arguments, size_t used)
{
    struct arguments rest = *arguments;
    rest.values += used;
    rest.count -= used;
    return rest;
}

static int map_attribute(struct render *render, const struct list *items, const struct arguments *arguments,
                         struct list *mapped)
{
    struct value attribute = {0}, otherwise = {0};
    for (size_t i = 0; i < arguments->keyword_count; i++) {
        if (text_equals(arguments->keywords[i], "attribute"))
            attribute = arguments->keyword_values[i];
        else if (text_equals(arguments->keywords[i], "default"))
            otherwise = arguments->keyword_values[i];
        else
            return template_fail(render, BULLA_E_INPUT, "map got an unexpected keyword argument");
    }
    if (attribute.type == VALUE_MISSING)
        return template_fail(render, BULLA_E_INPUT, "map requires a filter argument");
    if (otherwise.type == VALUE_NONE)
        otherwise.type = VALUE_MISSING;
    for (size_t i = 0; i < items->count; i++) {
        struct value value = items->items[i];
        if (attribute.type != VALUE_NONE && !value_path(render, value, attribute, otherwise, &value))
            return 0;
        if (!template_spend(render, 1) || !list_append(render, mapped, value))
            return 0;
    }
    return 1;
}

static int map_items(struct render *render, struct value self, const struct arguments *arguments,
                     struct list *mapped)
{
    struct list items;
    if (!value_iterate(render, self, &items))
        return 0;
    if (arguments->count == 0)
        return map_attribute(render, &items, arguments, mapped);
    struct value name = arguments->values[0], value;
    const struct builtin *filter = name.type == VALUE_TEXT ? filter_find(name.text) : NULL;
    struct arguments rest = rest_of(arguments, 1);
    if (!filter)
        return fail_name(render, "filter", name);
    for (size_t i = 0; i < items.count; i++)
        if (!template_spend(render, 1) || !builtin_invoke(render, filter, items.items[i], &rest, &value) ||
            !list_append(render, mapped, value))
            return 0;
    return 1;
}

FILTER(map)
{
    (void)slots;
    struct list *mapped = NULL;
    uint32_t depth = render->depth;
    return list_new(render, 8, &mapped) &&
           value_generator(render, mapped, !value_truth(self) || map_items(render, self, arguments, mapped), depth,
                           result);
}

static int choose_items(struct render *render, struct value self, const struct arguments *arguments,
                        int by_attribute, int wanted, struct list *kept)
{
    struct list items;
    struct value truth;
    const struct builtin *test = NULL;
    size_t used = (size_t)by_attribute;
    if (arguments->count < used)
        return template_fail(render, BULLA_E_INPUT, "Missing parameter for attribute name");
    if (arguments->count > used) {
        struct value name = arguments->values[used];
        test = name.type == VALUE_TEXT ? test_find(name.text) : NULL;
        if (!test)
            return fail_name(render, "test", name);
        used++;
    }
    struct arguments rest = rest_of(arguments, used);
    if (!value_iterate(render, self, &items))
        return 0;
    for (size_t i = 0; i < items.count; i++) {
        struct value value = items.items[i];
        if (!template_spend(render, 1) ||
            (by_attribute && !value_path(render, value, arguments->values[0], (struct value){0}, &value)))
            return 0;
        truth = value;
        if (test && !builtin_invoke(render, test, value, &rest, &truth))
            return 0;
        if (value_truth(truth) == wanted && !list_append(render, kept, items.items[i]))
            return 0;
    }
    return 1;
}

static int choose(struct render *render, struct value self, const struct arguments *arguments, int by_attribute,
                  int wanted, struct value *result)
{
    struct list *kept = NULL;
    uint32_t depth = render->depth;
    int done = list_new(render, 8, &kept) &&
               (!value_truth(self) || choose_items(render, self, arguments, by_attribute, wanted, kept));
    return kept && value_generator(render, kept, done, depth, result);
}

FILTER(select)
{
    (void)slots;
    return choose(render, self, arguments, 0, 1, result);
}

FILTER(reject)
{
    (void)slots;
    return choose(render, self, arguments, 0, 0, result);
}

FILTER(selectattr)
{
    (void)slots;
    return choose(render, self, arguments, 1, 1, result);
}

FILTER(rejectattr)
{
    (void)slots;
    return choose(render, self, arguments, 1, 0, result);
}

const struct builtin choice_filters[] = {
    {"map", map, 0, BUILTIN_VARIADIC, {NULL}},
    {"select", select, 0, BUILTIN_VARIADIC, {NULL}},
    {"reject", reject, 0, BUILTIN_VARIADIC, {NULL}},
    {"selectattr", selectattr, 0, BUILTIN_VARIADIC, {NULL}},
    {"rejectattr", rejectattr, 0, BUILTIN_VARIADIC, {NULL}},
    {NULL, NULL, 0, 0, {NULL}},
};
