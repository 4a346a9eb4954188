/* str(), repr() and json.dumps as Python has them. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/decimal.h"
#include "model/chat_template_internal.h"

/* float.__repr__: the shortest digits; an exponent below -4 and from 16 on. */
void print_float(struct buffer *out, double value)
{
    if (isnan(value) || isinf(value)) {
        buffer_append_text(out, isnan(value) ? "nan" : value < 0 ? "-inf" : "inf");
        return;
    }
    if (signbit(value))
        buffer_append_byte(out, '-');
    if (value == 0) {
        buffer_append_text(out, "0.0");
        return;
    }
    char digits[18];
    int point, count = decimal_shortest(value, digits, &point);
    if (point > 16 || point < -3) {
        buffer_append_byte(out, (uint8_t)digits[0]);
        if (count > 1)
            buffer_append_format(out, ".%s", digits + 1);
        buffer_append_format(out, "e%c%02d", point > 0 ? '+' : '-', point > 0 ? point - 1 : 1 - point);
    } else if (point <= 0) {
        buffer_append_text(out, "0.");
        for (int i = point; i < 0; i++)
            buffer_append_byte(out, '0');
        buffer_append_text(out, digits);
    } else {
        for (int i = 0; i < point; i++)
            buffer_append_byte(out, i < count ? (uint8_t)digits[i] : '0');
        buffer_append_format(out, ".%s", count > point ? digits + point : "0");
    }
}

static void print_text_repr(struct buffer *out, const struct text *text)
{
    int single = memchr(text->bytes, '\'', text->length) != NULL;
    int twice = memchr(text->bytes, '"', text->length) != NULL;
    char quote = single && !twice ? '"' : '\'';
    buffer_append_byte(out, (uint8_t)quote);
    for (size_t at = 0, size; at < text->length; at += size) {
        uint32_t code_point = text_character(text, at, &size);
        if (code_point == (uint32_t)quote || code_point == '\\')
            buffer_append_format(out, "\\%c", (char)code_point);
        else if (code_point == '\n' || code_point == '\r' || code_point == '\t')
            buffer_append_text(out, code_point == '\n' ? "\\n" : code_point == '\r' ? "\\r" : "\\t");
        else if (code_point < 0x20 || code_point == 0x7F)
            buffer_append_format(out, "\\x%02x", (unsigned)code_point);
        else if (code_point < 0x80 || text_is_printable(code_point))
            buffer_append(out, text->bytes + at, size);
        else
            buffer_append_format(out, code_point < 0x100     ? "\\x%02x"
                                      : code_point < 0x10000 ? "\\u%04x"
                                                             : "\\U%08x",
                                 (unsigned)code_point);
    }
    buffer_append_byte(out, (uint8_t)quote);
}

static int enter(struct render *render, const struct buffer *out)
{
    if (!template_enter(render))
        return 0;
    if (out->length > TEMPLATE_MAX_OUTPUT)
        return template_fail(render, BULLA_E_LIMIT, "a text grows beyond %d bytes", TEMPLATE_MAX_OUTPUT);
    return template_spend(render, 1);
}

static int print_list_repr(struct render *render, struct buffer *out, const struct list *list, char open,
                           char close)
{
    buffer_append_byte(out, (uint8_t)open);
    for (size_t i = 0; i < list->count; i++) {
        if (i)
            buffer_append_text(out, ", ");
        if (!value_print_repr(render, out, list->items[i]))
            return 0;
    }
    if (open == '(' && list->count == 1)
        buffer_append_byte(out, ',');
    buffer_append_byte(out, (uint8_t)close);
    return 1;
}

static int print_dict_repr(struct render *render, struct buffer *out, const struct dict *dict)
{
    buffer_append_byte(out, '{');
    for (size_t i = 0; i < dict->count; i++) {
        if (i)
            buffer_append_text(out, ", ");
        if (!value_print_repr(render, out, dict->entries[i].key))
            return 0;
        buffer_append_text(out, ": ");
        if (!value_print_repr(render, out, dict->entries[i].value))
            return 0;
    }
    buffer_append_byte(out, '}');
    return 1;
}

static void print_range(struct buffer *out, const struct range *range)
{
    buffer_append_format(out, "range(%lld, %lld", (long long)range->start, (long long)range->stop);
    if (range->step != 1)
        buffer_append_format(out, ", %lld", (long long)range->step);
    buffer_append_byte(out, ')');
}

/* Objects without a text of their own; Python adds an address. */
static void print_object(struct render *render, struct buffer *out, struct value value)
{
    if (value.type == VALUE_MACRO && value.macro->node->type == NODE_MACRO) {
        const struct text *name = render->chat_template->name_texts[value.macro->node->name];
        buffer_append_text(out, "<Macro ");
        print_text_repr(out, name);
        buffer_append_byte(out, '>');
    } else if (value.type == VALUE_MACRO) {
        buffer_append_text(out, "<Macro anonymous>");
    } else if (value.type == VALUE_LOOP) {
        buffer_append_format(out, "<LoopContext %zu/%zu>", value.loop->index + 1, value.loop->items.count);
    } else {
        buffer_append_format(out, "<%s object>", value_type_name(value));
    }
}

static int print_container(struct render *render, struct buffer *out, struct value value)
{
    static const char *const views[] = {"dict_keys(", "dict_values(", "dict_items("};
    int done;
    if (!enter(render, out))
        return 0;
    switch (value.type) {
    case VALUE_LIST:
        done = print_list_repr(render, out, value.list, '[', ']');
        break;
    case VALUE_TUPLE:
        done = print_list_repr(render, out, value.list, '(', ')');
        break;
    case VALUE_VIEW:
        buffer_append_text(out, views[value.detail]);
        done = print_list_repr(render, out, value.list, '[', ']');
        buffer_append_byte(out, ')');
        break;
    case VALUE_NAMESPACE:
        buffer_append_text(out, "<Namespace ");
        done = print_dict_repr(render, out, value.dict);
        buffer_append_byte(out, '>');
        break;
    default:
        done = print_dict_repr(render, out, value.dict);
    }
    render->depth--;
    return done;
}

int value_print_repr(struct render *render, struct buffer *out, struct value value)
{
    switch (value.type) {
    case VALUE_TEXT:
        buffer_append_text(out, value.detail ? "Markup(" : "");
        print_text_repr(out, value.text);
        buffer_append_text(out, value.detail ? ")" : "");
        return template_spend(render, value.text->length / 16);
    case VALUE_UNDEFINED:
        buffer_append_text(out, "Undefined");
        return 1;
    default:
        return value_print(render, out, value);
    }
}

int value_print(struct render *render, struct buffer *out, struct value value)
{
    switch (value.type) {
    case VALUE_MISSING:
    case VALUE_UNDEFINED:
        return 1;
    case VALUE_NONE:
        buffer_append_text(out, "None");
        return 1;
    case VALUE_BOOL:
        buffer_append_text(out, value.integer ? "True" : "False");
        return 1;
    case VALUE_INTEGER:
        buffer_append_format(out, "%lld", (long long)value.integer);
        return 1;
    case VALUE_FLOAT:
        print_float(out, value.real);
        return 1;
    case VALUE_TEXT:
    case VALUE_BIG:
        buffer_append(out, value.text->bytes, value.text->length);
        return template_spend(render, value.text->length / 64);
    case VALUE_LIST:
    case VALUE_TUPLE:
    case VALUE_VIEW:
    case VALUE_DICT:
    case VALUE_NAMESPACE:
        return print_container(render, out, value);
    case VALUE_RANGE:
        print_range(out, value.range);
        return 1;
    default:
        print_object(render, out, value);
        return 1;
    }
}

int value_to_text(struct render *render, struct value value, struct value *result)
{
    if (value.type == VALUE_TEXT) {
        *result = value;
        return 1;
    }
    struct buffer out = {0};
    if (!value_print(render, &out, value)) {
        buffer_free(&out);
        return 0;
    }
    return text_from_buffer(render, &out, result);
}

/* ---- json.dumps ---- */

static void print_json_text(struct buffer *out, const struct text *text, int ascii)
{
    if (!ascii) {
        json_write_string(out, text->bytes, text->length);
        return;
    }
    buffer_append_byte(out, '"');
    for (size_t at = 0, size; at < text->length; at += size) {
        uint32_t code_point = text_character(text, at, &size);
        if (code_point >= 0x10000)
            buffer_append_format(out, "\\u%04x\\u%04x", 0xD800u + ((code_point - 0x10000) >> 10),
                                 0xDC00u + (code_point & 0x3FF));
        else if (code_point > 0x7E)
            buffer_append_format(out, "\\u%04x", (unsigned)code_point);
        else if (code_point == '"' || code_point == '\\')
            buffer_append_format(out, "\\%c", (char)code_point);
        else if (code_point >= 0x08 && code_point <= 0x0D && code_point != 0x0B)
            buffer_append_format(out, "\\%c", "btn?fr"[code_point - 8]);
        else if (code_point < 0x20)
            buffer_append_format(out, "\\u%04x", (unsigned)code_point);
        else
            buffer_append_byte(out, (uint8_t)code_point);
    }
    buffer_append_byte(out, '"');
}

static void print_json_float(struct buffer *out, double value)
{
    if (isnan(value) || isinf(value))
        buffer_append_text(out, isnan(value) ? "NaN" : value < 0 ? "-Infinity" : "Infinity");
    else
        print_float(out, value);
}

static void new_line(struct buffer *out, const struct json_style *style, unsigned level)
{
    if (!style->indent)
        return;
    buffer_append_byte(out, '\n');
    for (unsigned i = 0; i < level && out->length <= TEMPLATE_MAX_OUTPUT; i++)
        buffer_append(out, style->indent->bytes, style->indent->length);
}

static int print_json_list(struct render *render, struct buffer *out, const struct list *list,
                           const struct json_style *style, unsigned level)
{
    if (list->count == 0) {
        buffer_append_text(out, "[]");
        return 1;
    }
    buffer_append_byte(out, '[');
    for (size_t i = 0; i < list->count; i++) {
        if (i)
            buffer_append(out, style->item_separator.bytes, style->item_separator.length);
        new_line(out, style, level + 1);
        if (!value_print_json(render, out, list->items[i], style, level + 1))
            return 0;
    }
    new_line(out, style, level);
    buffer_append_byte(out, ']');
    return 1;
}

/* Keys become texts: numbers, true, false and null as JSON writes them. */
static int print_json_key(struct render *render, struct buffer *out, struct value key,
                          const struct json_style *style)
{
    switch (key.type) {
    case VALUE_TEXT:
        print_json_text(out, key.text, style->ascii);
        return 1;
    case VALUE_NONE:
    case VALUE_BOOL:
    case VALUE_INTEGER:
    case VALUE_BIG:
    case VALUE_FLOAT:
        buffer_append_byte(out, '"');
        if (!value_print_json(render, out, key, style, 0))
            return 0;
        buffer_append_byte(out, '"');
        return 1;
    default:
        return template_fail(render, BULLA_E_INPUT, "tojson: keys must be str, int, float, bool or None, not %s",
                             value_type_name(key));
    }
}

/* json.dumps sorts the members before it makes texts of their keys. */
static int sort_entries(struct render *render, const struct dict *dict, struct list *order)
{
    struct list *keys, *numbers;
    if (!list_new(render, dict->count, &keys) || !list_new(render, dict->count, &numbers))
        return 0;
    for (size_t i = 0; i < dict->count; i++) {
        keys->items[i] = dict->entries[i].key;
        numbers->items[i] = value_integer((int64_t)i);
    }
    keys->count = numbers->count = dict->count;
    if (!list_sort(render, numbers, keys->items, 0))
        return 0;
    *order = *numbers;
    return 1;
}

static int print_json_dict(struct render *render, struct buffer *out, const struct dict *dict,
                           const struct json_style *style, unsigned level)
{
    struct list order = {0};
    if (dict->count == 0) {
        buffer_append_text(out, "{}");
        return 1;
    }
    if (style->sort_keys && !sort_entries(render, dict, &order))
        return 0;
    buffer_append_byte(out, '{');
    for (size_t i = 0; i < dict->count; i++) {
        const struct dict_entry *entry = &dict->entries[style->sort_keys ? (size_t)order.items[i].integer : i];
        if (i)
            buffer_append(out, style->item_separator.bytes, style->item_separator.length);
        new_line(out, style, level + 1);
        if (!print_json_key(render, out, entry->key, style))
            return 0;
        buffer_append(out, style->key_separator.bytes, style->key_separator.length);
        if (!value_print_json(render, out, entry->value, style, level + 1))
            return 0;
    }
    new_line(out, style, level);
    buffer_append_byte(out, '}');
    return 1;
}

int value_print_json(struct render *render, struct buffer *out, struct value value, const struct json_style *style,
                     unsigned level)
{
    int done;
    switch (value.type) {
    case VALUE_NONE:
        buffer_append_text(out, "null");
        return 1;
    case VALUE_BOOL:
        buffer_append_text(out, value.integer ? "true" : "false");
        return 1;
    case VALUE_INTEGER:
    case VALUE_BIG:
        return value_print(render, out, value);
    case VALUE_FLOAT:
        print_json_float(out, value.real);
        return 1;
    case VALUE_TEXT:
        print_json_text(out, value.text, style->ascii);
        return template_spend(render, value.text->length / 64);
    case VALUE_LIST:
    case VALUE_TUPLE:
    case VALUE_DICT:
        if (!enter(render, out))
            return 0;
        done = value.type == VALUE_DICT ? print_json_dict(render, out, value.dict, style, level)
                                        : print_json_list(render, out, value.list, style, level);
        render->depth--;
        return done;
    default:
        return template_fail(render, BULLA_E_INPUT, "tojson: an object of type %s is not JSON serializable",
                             value_type_name(value));
    }
}
