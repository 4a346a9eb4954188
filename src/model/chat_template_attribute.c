/* a.b and a[b] as jinja2's sandboxed environment resolves them: an attribute of
 * the Python object first for a.b, an item first for a[b]. */
#include <string.h>

#include "model/chat_template_internal.h"

const struct builtin *builtin_find(const struct builtin *table, const char *name, size_t length)
{
    for (; table->name; table++)
        if (strlen(table->name) == length && memcmp(table->name, name, length) == 0)
            return table;
    return NULL;
}

static const struct builtin *const method_tables[] = {text_methods, list_methods, tuple_methods, dict_methods,
                                                      loop_methods, NULL};

static const char *const plain_attributes[] = {
    "index",    "index0",    "revindex", "revindex0",    "first",         "last", "length", "depth",
    "depth0",   "previtem",  "nextitem", "name",         "arguments",     "real", "imag",   "numerator",
    "denominator", "caller", "catch_kwargs", "catch_varargs", "start",    "stop", "step",   "next",
    "current",  NULL};

int attribute_is_known(const struct text *name)
{
    for (size_t i = 0; method_tables[i]; i++)
        if (builtin_find(method_tables[i], name->bytes, name->length))
            return 1;
    for (size_t i = 0; plain_attributes[i]; i++)
        if (text_equals(name, plain_attributes[i]))
            return 1;
    return 0;
}

static int bind_method(struct render *render, struct value receiver, const struct builtin *function,
                       struct value *result)
{
    struct method *method = arena_alloc(render->arena, 1, sizeof *method, render->error);
    if (!method)
        return 0;
    *method = (struct method){receiver, function};
    *result = (struct value){.type = VALUE_METHOD, .method = method};
    return 1;
}

static const struct builtin *methods_of(struct value object)
{
    switch (object.type) {
    case VALUE_TEXT:
        return text_methods;
    case VALUE_LIST:
        return list_methods;
    case VALUE_TUPLE:
    case VALUE_RANGE:
        return tuple_methods;
    case VALUE_DICT:
        return dict_methods;
    case VALUE_LOOP:
        return loop_methods;
    default:
        return NULL;
    }
}

static int loop_attribute(struct render *render, struct loop *loop, const struct text *name, struct value *result)
{
    if (text_equals(name, "last") || text_equals(name, "nextitem")) {
        if (!loop_pull(render, loop, loop->index + 2))
            return 0;
    } else if (text_equals(name, "length") || text_equals(name, "revindex") || text_equals(name, "revindex0")) {
        if (!loop_pull(render, loop, SIZE_MAX))
            return 0;
    }
    int64_t index = (int64_t)loop->index, count = (int64_t)loop->items.count;
    const struct {
        const char *name;
        struct value value;
    } numbers[] = {{"index", value_integer(index + 1)},
                   {"index0", value_integer(index)},
                   {"revindex", value_integer(count - index)},
                   {"revindex0", value_integer(count - index - 1)},
                   {"first", value_bool(index == 0)},
                   {"last", value_bool(index == count - 1)},
                   {"length", value_integer(count)},
                   {"depth", value_integer(1)}, /* deeper only in recursive loops */
                   {"depth0", value_integer(0)}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (text_equals(name, numbers[i].name)) {
            *result = numbers[i].value;
            return 1;
        }
    if (text_equals(name, "previtem")) {
        if (index == 0)
            return value_undefined_reason(render, "there is no previous item", result);
        *result = loop->items.items[index - 1];
    } else if (text_equals(name, "nextitem")) {
        if (index + 1 >= count)
            return value_undefined_reason(render, "there is no next item", result);
        *result = loop->items.items[index + 1];
    }
    return 1;
}

static int macro_attribute(struct render *render, const struct macro *macro, const struct text *name,
                           struct value *result)
{
    const struct node *node = macro->node;
    if (text_equals(name, "name")) {
        if (node->type != NODE_MACRO)
            *result = value_none();
        else
            *result = (struct value){.type = VALUE_TEXT, .text = render->chat_template->name_texts[node->name]};
        return 1;
    }
    if (text_equals(name, "catch_kwargs") || text_equals(name, "catch_varargs") || text_equals(name, "caller")) {
        *result = value_bool(text_equals(name, "caller")         ? node->uses_caller
                             : text_equals(name, "catch_kwargs") ? node->uses_kwargs
                                                                 : node->uses_varargs);
        return 1;
    }
    if (!text_equals(name, "arguments"))
        return 1;
    struct list *list;
    if (!list_new(render, node->parameter_count, &list))
        return 0;
    for (size_t i = 0; i < node->parameter_count; i++)
        list->items[i] = (struct value){.type = VALUE_TEXT,
                                        .text = render->chat_template->name_texts[node->parameters[i]]};
    list->count = node->parameter_count;
    *result = (struct value){.type = VALUE_TUPLE, .list = list};
    return 1;
}

static int number_attribute(struct value number, const struct text *name, struct value *result)
{
    if (number.type == VALUE_BOOL)
        number.type = VALUE_INTEGER;
    if (text_equals(name, "real"))
        *result = number;
    else if (text_equals(name, "imag"))
        *result = number.type == VALUE_FLOAT ? value_float(0) : value_integer(0);
    else if (text_equals(name, "numerator") && number.type != VALUE_FLOAT)
        *result = number;
    else if (text_equals(name, "denominator") && number.type != VALUE_FLOAT)
        *result = value_integer(1);
    return 1;
}

static int range_attribute(const struct range *range, const struct text *name, struct value *result)
{
    if (text_equals(name, "start"))
        *result = value_integer(range->start);
    else if (text_equals(name, "stop"))
        *result = value_integer(range->stop);
    else if (text_equals(name, "step"))
        *result = value_integer(range->step);
    return 1;
}

static int cycler_attribute(struct render *render, struct value object, const struct text *name, struct value *result)
{
    struct joiner *cycler = object.joiner;
    if (cycler->is_cycler && text_equals(name, "current"))
        *result = cycler->items.items[cycler->position];
    else if (cycler->is_cycler && text_equals(name, "next"))
        return bind_method(render, object, &cycler_next, result);
    return 1;
}

/* Python's getattr(object, name); VALUE_MISSING for an AttributeError. */
static int get_attribute(struct render *render, struct value object, const struct text *name, struct value *result)
{
    *result = (struct value){0};
    if (object.type == VALUE_UNDEFINED)
        return value_fail_undefined(render, object);
    const struct builtin *methods = methods_of(object);
    const struct builtin *method = methods ? builtin_find(methods, name->bytes, name->length) : NULL;
    if (method && (method->flags & BUILTIN_UNSAFE)) {
        *result = value_undefined(UNDEFINED_UNSAFE, name);
        return 1;
    }
    if (method)
        return bind_method(render, object, method, result);
    switch (object.type) {
    case VALUE_NAMESPACE:
        return dict_get(render, object.dict, (struct value){.type = VALUE_TEXT, .text = name}, result);
    case VALUE_LOOP:
        return loop_attribute(render, object.loop, name, result);
    case VALUE_MACRO:
        return macro_attribute(render, object.macro, name, result);
    case VALUE_BOOL:
    case VALUE_INTEGER:
    case VALUE_BIG:
    case VALUE_FLOAT:
        return number_attribute(object, name, result);
    case VALUE_RANGE:
        return range_attribute(object.range, name, result);
    case VALUE_JOINER:
        return cycler_attribute(render, object, name, result);
    default:
        return 1;
    }
}

static int list_item(struct render *render, struct value object, int64_t index, struct value *result)
{
    int64_t count = value_length(object);
    if (index < 0)
        index += count;
    if (index < 0 || index >= count)
        return 1;
    if (object.type != VALUE_TEXT) {
        *result = object.list->items[index];
        return 1;
    }
    size_t start = text_offset(object.text, (size_t)index), size;
    text_character(object.text, start, &size);
    return template_spend(render, object.text->characters == object.text->length ? 0 : start / 16) &&
           text_part(render, object.text, start, start + size, object.detail, result);
}

/* Python's object[key]; VALUE_MISSING for a TypeError or LookupError. */
static int get_item(struct render *render, struct value object, struct value key, struct value *result)
{
    *result = (struct value){0};
    switch (object.type) {
    case VALUE_UNDEFINED:
        return value_fail_undefined(render, object);
    case VALUE_TEXT:
    case VALUE_LIST:
    case VALUE_TUPLE:
    case VALUE_RANGE:
        return value_is_integer(key) ? list_item(render, object, key.integer, result) : 1;
    case VALUE_DICT:
        if (key.type == VALUE_LIST || key.type == VALUE_DICT || key.type == VALUE_VIEW)
            return 1;
        return dict_get(render, object.dict, key, result);
    default:
        return 1;
    }
}

int value_attribute(struct render *render, struct value object, const struct text *name, struct value *result)
{
    struct value key = {.type = VALUE_TEXT, .text = name};
    if (!get_attribute(render, object, name, result))
        return 0;
    if (result->type == VALUE_MISSING && !get_item(render, object, key, result))
        return 0;
    if (result->type == VALUE_MISSING) {
        int is_private = name->length >= 2 && name->bytes[0] == '_' && name->bytes[1] == '_';
        *result = value_undefined(is_private ? UNDEFINED_UNSAFE : UNDEFINED_ATTRIBUTE, name);
    }
    return 1;
}

int value_only_attribute(struct render *render, struct value object, const struct text *name, struct value *result)
{
    if (!get_attribute(render, object, name, result))
        return 0;
    if (result->type == VALUE_MISSING)
        *result = value_undefined(UNDEFINED_ATTRIBUTE, name);
    return 1;
}

int value_item(struct render *render, struct value object, struct value key, struct value *result)
{
    struct value name;
    if (!get_item(render, object, key, result))
        return 0;
    if (result->type == VALUE_MISSING && key.type == VALUE_TEXT && !get_attribute(render, object, key.text, result))
        return 0;
    if (result->type != VALUE_MISSING)
        return 1;
    if (!value_to_text(render, key, &name))
        return 0;
    *result = value_undefined(UNDEFINED_ATTRIBUTE, name.text);
    return 1;
}

/* One bound of a slice, clipped as Python's slice.indices does. */
static int slice_bound(struct render *render, struct value bound, int64_t count, int64_t step, int64_t otherwise,
                       int64_t *index)
{
    *index = otherwise;
    if (bound.type == VALUE_MISSING || bound.type == VALUE_NONE)
        return 1;
    if (!value_is_integer(bound))
        return template_fail(render, BULLA_E_INPUT, "slice indices must be integers or None, not %s",
                             value_type_name(bound));
    int64_t low = step < 0 ? -1 : 0, high = step < 0 ? count - 1 : count;
    int64_t value = bound.integer;
    if (value < 0)
        value = value < -count ? low : value + count;
    *index = value < low ? low : value > high ? high : value;
    return 1;
}

static int slice_text(struct render *render, struct value object, int64_t start, int64_t stop, int64_t step,
                      struct value *result)
{
    const struct text *text = object.text;
    if (step == 1) {
        size_t from = text_offset(text, (size_t)start);
        size_t to = stop > start ? text_offset(text, (size_t)stop) : from;
        return template_spend(render, text->characters == text->length ? 0 : to / 16) &&
               text_part(render, text, from, to, object.detail, result);
    }
    struct list characters;
    struct buffer out = {0};
    if (!value_iterate(render, object, &characters))
        return 0;
    for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
        const struct text *character = characters.items[i].text;
        buffer_append(&out, character->bytes, character->length);
        if (__builtin_add_overflow(i, step, &i))
            break;
    }
    if (!text_from_buffer(render, &out, result))
        return 0;
    result->detail = object.detail;
    return 1;
}

/* A range again; its numbers are at most TEMPLATE_MAX_RANGE, but its bounds may be far away. */
static int slice_range(struct render *render, const struct range *range, int64_t start, int64_t stop, int64_t step,
                       struct value *result)
{
    int64_t first, last, by;
    if (__builtin_mul_overflow(start, range->step, &first) || __builtin_add_overflow(first, range->start, &first) ||
        __builtin_mul_overflow(stop, range->step, &last) || __builtin_add_overflow(last, range->start, &last) ||
        __builtin_mul_overflow(step, range->step, &by))
        return template_fail(render, BULLA_E_LIMIT, "a range's bound needs more than 64 bits");
    struct value bounds[3] = {value_integer(first), value_integer(last), value_integer(by)};
    struct arguments arguments = {.count = 3, .values = bounds};
    return builtin_invoke(render, builtin_find(function_table, "range", 5), (struct value){0}, &arguments, result);
}

int value_slice(struct render *render, struct value object, const struct value bounds[3], struct value *result)
{
    int64_t step = 1, start, stop, count = value_length(object);
    if (object.type == VALUE_UNDEFINED)
        return value_fail_undefined(render, object);
    if (object.type != VALUE_TEXT && object.type != VALUE_LIST && object.type != VALUE_TUPLE &&
        object.type != VALUE_RANGE)
        return template_fail(render, BULLA_E_INPUT, "'%s' object cannot be sliced", value_type_name(object));
    if (bounds[2].type != VALUE_MISSING && bounds[2].type != VALUE_NONE) {
        if (!value_is_integer(bounds[2]) || bounds[2].integer == 0)
            return template_fail(render, BULLA_E_INPUT, "a slice's step must be an integer that is not 0");
        step = bounds[2].integer;
    }
    if (!slice_bound(render, bounds[0], count, step, step < 0 ? count - 1 : 0, &start) ||
        !slice_bound(render, bounds[1], count, step, step < 0 ? -1 : count, &stop))
        return 0;
    if (object.type == VALUE_TEXT)
        return slice_text(render, object, start, stop, step, result);
    if (object.type == VALUE_RANGE)
        return slice_range(render, object.range, start, stop, step, result);
    struct list *list;
    if (!list_new(render, stop > start && step == 1 ? (size_t)(stop - start) : 0, &list))
        return 0;
    for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
        if (!template_spend(render, 1) || !list_append(render, list, object.list->items[i]))
            return 0;
        if (__builtin_add_overflow(i, step, &i))
            break;
    }
    *result = (struct value){.type = object.type, .list = list};
    return 1;
}

static int is_number(const struct text *text)
{
    for (size_t i = 0; i < text->length; i++)
        if (text->bytes[i] < '0' || text->bytes[i] > '9')
            return 0;
    return text->length > 0;
}

int value_path(struct render *render, struct value object, struct value path, struct value otherwise,
               struct value *result)
{
    *result = object;
    if (path.type != VALUE_TEXT) {
        if (!value_item(render, object, path, result))
            return 0;
        if (result->type == VALUE_UNDEFINED && otherwise.type != VALUE_MISSING)
            *result = otherwise;
        return 1;
    }
    for (size_t start = 0; start <= path.text->length;) {
        struct text dot = {.bytes = ".", .length = 1};
        size_t end = text_find(path.text, &dot, start);
        struct value part;
        if (end == SIZE_MAX)
            end = path.text->length;
        if (!template_spend(render, 1) || !text_part(render, path.text, start, end, 0, &part))
            return 0;
        if (is_number(part.text) && (!number_from_text(part.text, 10, &part) || part.type == VALUE_MISSING))
            return template_fail(render, BULLA_E_LIMIT, "an index has more than 64 bits");
        if (!value_item(render, *result, part, result))
            return 0;
        if (result->type == VALUE_UNDEFINED && otherwise.type != VALUE_MISSING)
            *result = otherwise;
        start = end + 1;
    }
    return 1;
}
