/* Filters that make texts and numbers. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/decimal.h"
#include "model/chat_template_internal.h"

#define FILTER(name)                                                                                              \
    static int name(struct render *render, struct value self, const struct arguments *arguments,                 \
                    const struct value *slots, struct value *result)

/* A method of str applied to str(self), markup staying markup. */
static int apply_method(struct render *render, struct value self, const char *name,
                        const struct arguments *arguments, struct value *result)
{
    const struct builtin *method = builtin_find(text_methods, name, strlen(name));
    return value_to_text(render, self, &self) && builtin_invoke(render, method, self, arguments, result);
}

FILTER(upper)
{
    (void)slots;
    return apply_method(render, self, "upper", arguments, result);
}

FILTER(lower)
{
    (void)slots;
    return apply_method(render, self, "lower", arguments, result);
}

FILTER(capitalize)
{
    (void)slots;
    return apply_method(render, self, "capitalize", arguments, result);
}

FILTER(trim)
{
    struct value chars = slots[0].type == VALUE_MISSING ? value_none() : slots[0];
    struct arguments again = {.count = 1, .values = &chars};
    (void)arguments;
    return apply_method(render, self, "strip", &again, result);
}

FILTER(center)
{
    struct value width = slots[0].type == VALUE_MISSING ? value_integer(80) : slots[0];
    struct arguments again = {.count = 1, .values = &width};
    (void)arguments;
    return apply_method(render, self, "center", &again, result);
}

static int splits_words(uint32_t c)
{
    return text_is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
}

/* The first character after white space or one of -({[< in upper case, the rest
 * of the word lower. */
FILTER(title)
{
    (void)arguments;
    (void)slots;
    struct buffer out = {0};
    struct value text;
    if (!value_to_text(render, self, &text))
        return 0;
    for (size_t at = 0; at < text.text->length;) {
        size_t size, end;
        int split = splits_words(text_character(text.text, at, &size));
        text_append_case(&out, text.text, at, TEXT_UPPER);
        at += size;
        for (end = at; end < text.text->length; end += size)
            if (splits_words(text_character(text.text, end, &size)) != split)
                break;
        struct text rest = {.bytes = text.text->bytes + at, .length = end - at};
        for (size_t i = 0; i < rest.length; i += size) {
            text_character(&rest, i, &size);
            text_append_case(&out, &rest, i, TEXT_LOWER);
        }
        at = end;
    }
    return text_from_buffer(render, &out, result);
}

FILTER(replace)
{
    (void)arguments;
    struct value text, old, new;
    int64_t most = -1;
    if (slots[2].type != VALUE_NONE && !slot_integer(render, slots[2], -1, &most))
        return 0;
    if (!value_to_text(render, self, &text) || !value_to_text(render, slots[0], &old) ||
        !value_to_text(render, slots[1], &new))
        return 0;
    return text_replace(render, text.text, old.text, new.text, most < 0 ? -1 : most, result);
}

static int indentation(struct render *render, struct value slot, struct value *text)
{
    int64_t width;
    if (slot.type == VALUE_TEXT) {
        *text = slot;
        return 1;
    }
    struct value space;
    return slot_integer(render, slot, 4, &width) && value_text(render, " ", 1, &space) &&
           operator_apply(render, OPERATOR_MULTIPLY, space, value_integer(width), text);
}

FILTER(indent)
{
    (void)arguments;
    struct value width, lines;
    struct buffer out = {0};
    int first = value_truth(slots[1]), blank = value_truth(slots[2]);
    if (self.type == VALUE_UNDEFINED)
        return value_fail_undefined(render, self);
    if (self.type != VALUE_TEXT)
        return template_fail(render, BULLA_E_INPUT, "indent wants a string, not '%s'", value_type_name(self));
    /* One line end more, so that a text ending with one keeps it. */
    buffer_append(&out, self.text->bytes, self.text->length);
    buffer_append_byte(&out, '\n');
    struct value longer;
    if (!text_from_buffer(render, &out, &longer) || !indentation(render, slots[0], &width) ||
        !text_split_lines(render, longer, 0, &lines))
        return 0;
    for (size_t i = 0; i < lines.list->count; i++) {
        const struct text *line = lines.list->items[i].text;
        if (i)
            buffer_append_byte(&out, '\n');
        if (i ? line->length > 0 || blank : first)
            buffer_append(&out, width.text->bytes, width.text->length);
        buffer_append(&out, line->bytes, line->length);
        if (out.length > TEMPLATE_MAX_MEMORY)
            template_fail(render, BULLA_E_LIMIT, "a text grows beyond %d bytes", TEMPLATE_MAX_MEMORY);
        if (out.length > TEMPLATE_MAX_MEMORY || !template_spend(render, 1 + width.text->length / 64)) {
            buffer_free(&out);
            return 0;
        }
    }
    if (!text_from_buffer(render, &out, result))
        return 0;
    result->detail = self.detail;
    return 1;
}

FILTER(string)
{
    (void)arguments;
    (void)slots;
    return value_to_text(render, self, result);
}

FILTER(safe)
{
    (void)arguments;
    (void)slots;
    if (!value_to_text(render, self, result))
        return 0;
    result->detail = 1;
    return 1;
}

FILTER(forceescape)
{
    (void)arguments;
    (void)slots;
    struct value text;
    return value_to_text(render, self, &text) && text_escape(render, text.text, result);
}

FILTER(escape)
{
    if (self.type == VALUE_TEXT && self.detail) {
        *result = self;
        return 1;
    }
    return forceescape(render, self, arguments, slots, result);
}

FILTER(truncate)
{
    (void)arguments;
    int64_t length, leeway, size = value_length(self);
    struct value end = slots[2], part;
    if (size < 0)
        return template_fail(render, BULLA_E_INPUT, "truncate wants a string, not '%s'", value_type_name(self));
    if (!slot_integer(render, slots[0], 255, &length) ||
        !slot_integer(render, slots[3].type == VALUE_NONE ? (struct value){0} : slots[3], 5, &leeway) ||
        (end.type == VALUE_MISSING ? !value_text(render, "...", 3, &end) : !value_to_text(render, end, &end)))
        return 0;
    int64_t end_size = (int64_t)end.text->characters;
    if (length < end_size || leeway < 0)
        return template_fail(render, BULLA_E_INPUT, "truncate: the length is below that of the ending");
    if (size <= length || size - length <= leeway) {
        *result = self;
        return 1;
    }
    if (self.type != VALUE_TEXT)
        return template_fail(render, BULLA_E_INPUT, "truncate wants a string, not '%s'", value_type_name(self));
    size_t cut = text_offset(self.text, (size_t)(length - end_size));
    if (!value_truth(slots[1])) {
        struct text space = {.bytes = " ", .length = 1};
        size_t at;
        if (!text_find_last(render, self.text, &space, cut, &at))
            return 0;
        cut = at == SIZE_MAX ? cut : at;
    }
    return text_part(render, self.text, 0, cut, self.detail, &part) &&
           operator_apply(render, OPERATOR_ADD, part, end, result);
}

FILTER(wordcount)
{
    (void)arguments;
    (void)slots;
    struct value text;
    int64_t words = 0;
    int inside = 0;
    if (!value_to_text(render, self, &text))
        return 0;
    for (size_t at = 0, size; at < text.text->length; at += size) {
        uint32_t c = text_character(text.text, at, &size);
        int word = c == '_' || text_is_alphabetic(c) || text_is_digit(c, TEXT_NUMERIC);
        words += word && !inside;
        inside = word;
    }
    *result = value_integer(words);
    return template_spend(render, text.text->length / 16);
}

FILTER(format_filter)
{
    (void)slots;
    struct value text, values = {.type = VALUE_TUPLE};
    struct list list = {arguments->values, arguments->count, arguments->count};
    if (arguments->count > 0 && arguments->keyword_count > 0)
        return template_fail(render, BULLA_E_INPUT, "format can't handle positional and keyword arguments at once");
    values.list = &list;
    if (arguments->keyword_count > 0) {
        values.type = VALUE_DICT;
        if (!dict_new(render, &values.dict))
            return 0;
        for (size_t i = 0; i < arguments->keyword_count; i++)
            if (!dict_set(render, values.dict, (struct value){.type = VALUE_TEXT, .text = arguments->keywords[i]},
                          arguments->keyword_values[i]))
                return 0;
    }
    return value_to_text(render, self, &text) && format_percent(render, text, values, result);
}

/* ---- Numbers ---- */

static int integer_from_double(struct render *render, double real, struct value *result)
{
    if (!(real > -0x1p63 && real < 0x1p63))
        return template_fail(render, BULLA_E_LIMIT, "int: the number is infinite or needs more than 64 bits");
    *result = value_integer((int64_t)real);
    return 1;
}

FILTER(int_filter)
{
    (void)arguments;
    int64_t base;
    double real;
    struct value otherwise = slots[0].type == VALUE_MISSING ? value_integer(0) : slots[0];
    if (!slot_integer(render, slots[1], 10, &base))
        return 0;
    *result = otherwise;
    switch (self.type) {
    case VALUE_UNDEFINED:
        return value_fail_undefined(render, self);
    case VALUE_BIG:
        *result = self;
        return 1;
    case VALUE_BOOL:
    case VALUE_INTEGER:
        *result = value_integer(self.integer);
        return 1;
    case VALUE_FLOAT:
        return isnan(self.real) || integer_from_double(render, self.real, result);
    case VALUE_TEXT:
        if (base != 0 && (base < 2 || base > 36))
            base = 1; /* nothing is a number: Python's ValueError, then float() */
        if (base != 1 && number_from_text(self.text, (int)base, result))
            return result->type != VALUE_MISSING ||
                   template_fail(render, BULLA_E_LIMIT, "int: the number needs more than 64 bits");
        if (!float_from_text(self.text, &real) || isnan(real) || isinf(real))
            return 1;
        return integer_from_double(render, real, result);
    default:
        return 1;
    }
}

FILTER(float_filter)
{
    (void)arguments;
    double real;
    *result = slots[0].type == VALUE_MISSING ? value_float(0) : slots[0];
    if (self.type == VALUE_UNDEFINED)
        return value_fail_undefined(render, self);
    if (value_is_number(self))
        *result = value_float(value_as_double(self));
    else if ((self.type == VALUE_TEXT || self.type == VALUE_BIG) && float_from_text(self.text, &real))
        *result = value_float(real);
    return 1;
}

FILTER(abs_filter)
{
    (void)arguments;
    (void)slots;
    if (self.type == VALUE_FLOAT) {
        *result = value_float(fabs(self.real));
        return 1;
    }
    if (!value_is_integer(self)) {
        if (self.type == VALUE_UNDEFINED)
            return value_fail_undefined(render, self);
        if (self.type == VALUE_BIG)
            return template_fail(render, BULLA_E_LIMIT, "abs: an integer beyond 64 bits");
        return template_fail(render, BULLA_E_INPUT, "bad operand type for abs(): '%s'", value_type_name(self));
    }
    *result = value_integer(self.integer);
    return self.integer >= 0 || operator_negate(render, self, result);
}

/* Python's round(float, digits): the nearest decimal of the exact value, ties to even. */
static double round_decimal(double value, int digits)
{
    char text[400];
    if (!isfinite(value) || digits > 22 + 300)
        return value;
    int length = snprintf(text, sizeof text, "%.*f", digits > 60 ? 60 : digits, value);
    if (length < 0 || (size_t)length >= sizeof text)
        return value;
    for (int i = 0; i < length; i++)
        if (text[i] != '-' && (text[i] < '0' || text[i] > '9'))
            text[i] = '.';
    return decimal_parse(text, (size_t)length);
}

FILTER(round_filter)
{
    (void)arguments;
    int64_t precision;
    if (!slot_integer(render, slots[0], 0, &precision))
        return 0;
    if (self.type == VALUE_UNDEFINED)
        return value_fail_undefined(render, self);
    if (self.type == VALUE_BIG)
        return template_fail(render, BULLA_E_LIMIT, "round: an integer beyond 64 bits");
    if (!value_is_number(self))
        return template_fail(render, BULLA_E_INPUT, "round wants a number, not '%s'", value_type_name(self));
    if (precision < 0 || precision > 60)
        return template_fail(render, BULLA_E_UNSUPPORTED, "round: a precision outside 0..60 is not supported");
    if (slots[1].type == VALUE_MISSING || (slots[1].type == VALUE_TEXT && text_equals(slots[1].text, "common"))) {
        *result = self.type == VALUE_FLOAT ? value_float(round_decimal(self.real, (int)precision))
                                           : value_integer(self.integer);
        return 1;
    }
    int up = slots[1].type == VALUE_TEXT && text_equals(slots[1].text, "ceil");
    if (!up && !(slots[1].type == VALUE_TEXT && text_equals(slots[1].text, "floor")))
        return template_fail(render, BULLA_E_INPUT, "method must be common, ceil or floor");
    if (precision > 15)
        return template_fail(render, BULLA_E_UNSUPPORTED, "round: a precision above 15 is not supported here");
    if (self.type != VALUE_FLOAT) { /* scaled and unscaled exactly */
        *result = value_float((double)self.integer);
        return 1;
    }
    double scale = 1;
    for (int64_t i = 0; i < precision; i++)
        scale *= 10;
    double scaled = self.real * scale;
    if (!isfinite(scaled))
        return template_fail(render, BULLA_E_INPUT, "round: the number is not finite");
    *result = value_float(((up ? ceil(scaled) : floor(scaled)) + 0.0) / scale);
    return 1;
}

/* ---- JSON ---- */

static int read_separators(struct render *render, struct value slot, struct json_style *style)
{
    style->item_separator = style->indent ? (struct text){",", 1, 1} : (struct text){", ", 2, 2};
    style->key_separator = (struct text){": ", 2, 2};
    if (slot.type == VALUE_MISSING || slot.type == VALUE_NONE)
        return 1;
    struct list parts;
    if (!value_iterate(render, slot, &parts))
        return 0;
    if (parts.count != 2 || parts.items[0].type != VALUE_TEXT || parts.items[1].type != VALUE_TEXT)
        return template_fail(render, BULLA_E_INPUT, "tojson: separators must be two strings");
    style->item_separator = *parts.items[0].text;
    style->key_separator = *parts.items[1].text;
    return 1;
}

FILTER(tojson)
{
    (void)arguments;
    struct json_style style = {.ascii = value_truth(slots[0]), .sort_keys = value_truth(slots[3])};
    struct buffer out = {0};
    struct value indent;
    if (slots[1].type != VALUE_MISSING && slots[1].type != VALUE_NONE) {
        if (!indentation(render, slots[1], &indent))
            return 0;
        style.indent = indent.text;
    }
    if (!read_separators(render, slots[2], &style))
        return 0;
    if (!value_print_json(render, &out, self, &style, 0)) {
        buffer_free(&out);
        return 0;
    }
    return text_from_buffer(render, &out, result);
}

/* Not in jinja2: some templates use it where their model's own code adds it. */
FILTER(from_json)
{
    (void)arguments;
    (void)slots;
    if (self.type == VALUE_UNDEFINED)
        return value_fail_undefined(render, self);
    if (self.type != VALUE_TEXT)
        return template_fail(render, BULLA_E_INPUT, "from_json wants a string, not '%s'", value_type_name(self));
    struct json *json = json_parse(self.text->bytes, self.text->length, "chat template, from_json", render->arena,
                                   render->error);
    return json && template_spend(render, self.text->length / 4) && value_from_json(render, json, result);
}

const struct builtin text_filters[] = {
    {"upper", upper, 0, 0, {NULL}},
    {"lower", lower, 0, 0, {NULL}},
    {"capitalize", capitalize, 0, 0, {NULL}},
    {"title", title, 0, 0, {NULL}},
    {"trim", trim, 0, 0, {"chars"}},
    {"center", center, 0, 0, {"width"}},
    {"replace", replace, 2, 0, {"old", "new", "count"}},
    {"indent", indent, 0, 0, {"width", "first", "blank"}},
    {"string", string, 0, 0, {NULL}},
    {"safe", safe, 0, 0, {NULL}},
    {"escape", escape, 0, 0, {NULL}},
    {"e", escape, 0, 0, {NULL}},
    {"forceescape", forceescape, 0, 0, {NULL}},
    {"truncate", truncate, 0, 0, {"length", "killwords", "end", "leeway"}},
    {"wordcount", wordcount, 0, 0, {NULL}},
    {"format", format_filter, 0, BUILTIN_VARIADIC, {NULL}},
    {"int", int_filter, 0, 0, {"default", "base"}},
    {"float", float_filter, 0, 0, {"default"}},
    {"abs", abs_filter, 0, 0, {NULL}},
    {"round", round_filter, 0, 0, {"precision", "method"}},
    {"tojson", tojson, 0, 0, {"ensure_ascii", "indent", "separators", "sort_keys"}},
    {"from_json", from_json, 0, 0, {NULL}},
    {NULL, NULL, 0, 0, {NULL}},
};
