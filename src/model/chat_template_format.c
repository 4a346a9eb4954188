/* The two ways in which Python texts format values: '%s' % x and '{}'.format(x). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/chat_template_internal.h"

/* One conversion, in either notation. */
struct specification {
    char type; /* d, s, f, ...; 0: none given */
    char align;
    char sign;
    char fill[4];
    size_t fill_length;
    int zero, alternate, comma;
    int64_t width, precision; /* -1: not given */
};

enum { MAX_WIDTH = 10000, MAX_PRECISION = 300 };

static int fail_format(struct render *render, const char *what)
{
    return template_fail(render, BULLA_E_INPUT, "format: %s", what);
}

static int read_number(struct render *render, const struct text *text, size_t *at, int64_t *number)
{
    *number = 0;
    while (*at < text->length && text->bytes[*at] >= '0' && text->bytes[*at] <= '9') {
        *number = *number * 10 + (text->bytes[(*at)++] - '0');
        if (*number > MAX_WIDTH)
            return template_fail(render, BULLA_E_LIMIT, "format: a width or index above %d", MAX_WIDTH);
    }
    return 1;
}

/* "-12" and "+1.5e3" put into their width: `body` after its sign. */
static void append_padded(struct buffer *out, const struct specification *wanted, const char *sign, const char *body,
                          size_t body_length, size_t characters, char default_align)
{
    size_t used = strlen(sign) + characters;
    size_t missing = wanted->width > 0 && (size_t)wanted->width > used ? (size_t)wanted->width - used : 0;
    char align = wanted->align ? wanted->align : wanted->zero ? '=' : default_align;
    const char *fill = wanted->fill_length ? wanted->fill : wanted->zero ? "0" : " ";
    size_t fill_length = wanted->fill_length ? wanted->fill_length : 1;
    size_t before = align == '>' || align == '=' ? missing : align == '^' ? missing / 2 : 0;
    if (align == '=')
        buffer_append_text(out, sign);
    for (size_t i = 0; i < before; i++)
        buffer_append(out, fill, fill_length);
    if (align != '=')
        buffer_append_text(out, sign);
    buffer_append(out, body, body_length);
    for (size_t i = before; i < missing; i++)
        buffer_append(out, fill, fill_length);
}

static const char *sign_text(const struct specification *wanted, int negative)
{
    return negative ? "-" : wanted->sign == '+' ? "+" : wanted->sign == ' ' ? " " : "";
}

/* Puts a comma before every third digit from the right of the first `digits`. */
static size_t group_digits(char *body, size_t length, size_t digits)
{
    char grouped[512];
    size_t used = 0;
    for (size_t i = 0; i < length; i++) {
        if (i > 0 && i < digits && (digits - i) % 3 == 0)
            grouped[used++] = ',';
        grouped[used++] = body[i];
    }
    memcpy(body, grouped, used);
    return used;
}

static int format_integer(struct render *render, struct buffer *out, const struct specification *wanted,
                          int64_t integer)
{
    char body[512];
    int negative = integer < 0;
    uint64_t size = negative ? 0 - (uint64_t)integer : (uint64_t)integer;
    size_t length = 0;
    if (wanted->type == 'b') {
        char bits[65];
        size_t count = 0;
        do
            bits[count++] = (char)('0' + (size & 1));
        while (size >>= 1);
        while (count > 0)
            body[length++] = bits[--count];
        body[length] = 0;
    } else {
        length = (size_t)(wanted->type == 'x'   ? snprintf(body, sizeof body, "%llx", (unsigned long long)size)
                          : wanted->type == 'X' ? snprintf(body, sizeof body, "%llX", (unsigned long long)size)
                          : wanted->type == 'o' ? snprintf(body, sizeof body, "%llo", (unsigned long long)size)
                                                : snprintf(body, sizeof body, "%llu", (unsigned long long)size));
    }
    if (wanted->alternate)
        return template_fail(render, BULLA_E_UNSUPPORTED, "format: the flag '#' is not supported");
    if (wanted->comma && wanted->type && wanted->type != 'd')
        return fail_format(render, "',' does not go with this type");
    if (wanted->comma)
        length = group_digits(body, length, length);
    if (wanted->precision > (int64_t)length) /* '%.3d' */
        return template_fail(render, BULLA_E_UNSUPPORTED, "format: a precision for integers is not supported");
    append_padded(out, wanted, sign_text(wanted, negative), body, length, length, '>');
    return 1;
}

static int format_float(struct render *render, struct buffer *out, const struct specification *wanted, double value)
{
    char body[512];
    int precision = wanted->precision >= 0 ? (int)wanted->precision : 6;
    double size = fabs(value);
    if (precision > MAX_PRECISION || (wanted->comma && precision > 20) || wanted->alternate)
        return template_fail(render, BULLA_E_UNSUPPORTED, "format: this precision or flag is not supported");
    int length;
    if (isnan(value) || isinf(value))
        length = snprintf(body, sizeof body, "%s", isnan(value) ? "nan" : "inf");
    else if (wanted->type == 'e' || wanted->type == 'E')
        length = snprintf(body, sizeof body, wanted->type == 'e' ? "%.*e" : "%.*E", precision, size);
    else if (wanted->type == 'g' || wanted->type == 'G')
        length = snprintf(body, sizeof body, wanted->type == 'g' ? "%.*g" : "%.*G", precision, size);
    else if (wanted->type == '%')
        length = snprintf(body, sizeof body, "%.*f%%", precision, size * 100);
    else
        length = snprintf(body, sizeof body, "%.*f", precision, size);
    if (length < 0 || (size_t)length >= sizeof body)
        return template_fail(render, BULLA_E_LIMIT, "format: a number with more than %zu digits", sizeof body);
    size_t digits = 0;
    for (int i = 0; i < length; i++)
        if (body[i] == ',') /* the decimal point of some locales */
            body[i] = '.';
    while (digits < (size_t)length && body[digits] >= '0' && body[digits] <= '9')
        digits++;
    size_t used = (size_t)length;
    if (wanted->comma && used + digits / 3 < sizeof body)
        used = group_digits(body, used, digits);
    append_padded(out, wanted, sign_text(wanted, !isnan(value) && signbit(value)), body, used, used, '>');
    return 1;
}

static int format_text(struct render *render, struct buffer *out, const struct specification *wanted,
                       const struct text *text, char default_align)
{
    size_t end = text->length, characters = text->characters;
    if (wanted->precision >= 0 && (size_t)wanted->precision < characters) {
        end = text_offset(text, (size_t)wanted->precision);
        characters = (size_t)wanted->precision;
    }
    append_padded(out, wanted, "", text->bytes, end, characters, default_align);
    return template_spend(render, text->length / 64);
}

/* ---- % ---- */

static int percent_number(struct render *render, struct buffer *out, const struct specification *wanted,
                          struct value value)
{
    if (value.type == VALUE_BIG)
        return template_fail(render, BULLA_E_LIMIT, "format: an integer beyond 64 bits");
    if (value.type == VALUE_UNDEFINED)
        return value_fail_undefined(render, value);
    if (!value_is_number(value))
        return template_fail(render, BULLA_E_INPUT, "%%%c format: a number is required, not %s", wanted->type,
                             value_type_name(value));
    if (strchr("eEfFgG", wanted->type))
        return format_float(render, out, wanted, value_as_double(value));
    if (value.type != VALUE_FLOAT)
        return format_integer(render, out, wanted, value.integer);
    if (!isfinite(value.real) || strchr("xXo", wanted->type))
        return template_fail(render, BULLA_E_INPUT, "%%%c format: an integer is required, not float", wanted->type);
    if (!(value.real > -0x1p63 && value.real < 0x1p63))
        return template_fail(render, BULLA_E_LIMIT, "%%%c format: an integer beyond 64 bits", wanted->type);
    return format_integer(render, out, wanted, (int64_t)value.real);
}

static int percent_convert(struct render *render, struct buffer *out, struct specification *wanted,
                           struct value value, int markup)
{
    struct value text;
    if (wanted->type == 'r' || wanted->type == 'a') {
        struct buffer repr = {0};
        int done = wanted->type == 'r' && value_print_repr(render, &repr, value);
        if (!done) {
            buffer_free(&repr);
            return template_fail(render, BULLA_E_UNSUPPORTED, "format: %%a is not supported");
        }
        if (!text_from_buffer(render, &repr, &text))
            return 0;
    } else if (wanted->type == 's') {
        if (!value_to_text(render, value, &text))
            return 0;
    } else if (wanted->type == 'c' && value.type == VALUE_TEXT && value.text->characters == 1) {
        text = value;
    } else {
        if (!strchr("diufFeEgGxXo", wanted->type))
            return template_fail(render, BULLA_E_UNSUPPORTED, "format: the conversion %%%c is not supported",
                                 wanted->type);
        return percent_number(render, out, wanted, value);
    }
    if (markup && !(text.detail && wanted->type == 's') && !text_escape(render, text.text, &text))
        return 0;
    wanted->zero = 0;
    return format_text(render, out, wanted, text.text, '>');
}

struct percent {
    struct render *render;
    const struct text *format;
    size_t at;
    struct value arguments; /* a tuple's items, one value or a dict */
    size_t used;
    int takes_names;
};

static int next_argument(struct percent *state, struct value *value)
{
    struct value arguments = state->arguments;
    size_t count = arguments.type == VALUE_TUPLE ? arguments.list->count : 1;
    if (state->used >= count)
        return fail_format(state->render, "not enough arguments for format string");
    *value = arguments.type == VALUE_TUPLE ? arguments.list->items[state->used] : arguments;
    state->used++;
    return 1;
}

static int named_argument(struct percent *state, struct value *value)
{
    const char *start = state->format->bytes + state->at + 1;
    const char *end = memchr(start, ')', state->format->length - state->at - 1);
    struct value key;
    if (!end)
        return fail_format(state->render, "incomplete format key");
    if (state->arguments.type != VALUE_DICT)
        return fail_format(state->render, "format requires a mapping");
    state->at += (size_t)(end - start) + 2;
    state->takes_names = 1;
    if (!value_text(state->render, start, (size_t)(end - start), &key) ||
        !dict_get(state->render, state->arguments.dict, key, value))
        return 0;
    return value->type != VALUE_MISSING || fail_format(state->render, "a named argument is missing");
}

static int star_or_number(struct percent *state, int64_t *number)
{
    struct value value;
    if (state->at >= state->format->length || state->format->bytes[state->at] != '*')
        return read_number(state->render, state->format, &state->at, number);
    state->at++;
    if (!next_argument(state, &value))
        return 0;
    if (!value_is_integer(value) || value.integer < 0 || value.integer > MAX_WIDTH)
        return fail_format(state->render, "* wants a small integer");
    *number = value.integer;
    return 1;
}

static void read_flags(struct percent *state, struct specification *wanted)
{
    for (; state->at < state->format->length; state->at++) {
        char flag = state->format->bytes[state->at];
        if (flag == '-')
            wanted->align = '<';
        else if (flag == '0')
            wanted->zero = 1;
        else if (flag == '+' || (flag == ' ' && wanted->sign != '+'))
            wanted->sign = flag;
        else if (flag == '#')
            wanted->alternate = 1;
        else if (flag != ' ')
            break;
    }
    if (wanted->align == '<')
        wanted->zero = 0;
}

/* A conversion after its '%'. */
static int percent_one(struct percent *state, struct buffer *out, int markup)
{
    struct specification wanted = {.width = -1, .precision = -1};
    struct value value = {0};
    const struct text *format = state->format;
    if (state->at < format->length && format->bytes[state->at] == '(' && !named_argument(state, &value))
        return 0;
    read_flags(state, &wanted);
    if (!star_or_number(state, &wanted.width))
        return 0;
    if (state->at < format->length && format->bytes[state->at] == '.') {
        state->at++;
        if (!star_or_number(state, &wanted.precision))
            return 0;
    }
    while (state->at < format->length && strchr("hlL", format->bytes[state->at]) && format->bytes[state->at])
        state->at++;
    if (state->at >= format->length)
        return fail_format(state->render, "incomplete format");
    wanted.type = format->bytes[state->at++];
    if (wanted.type == '%') {
        buffer_append_byte(out, '%');
        return 1;
    }
    if (value.type == VALUE_MISSING && !next_argument(state, &value))
        return 0;
    return percent_convert(state->render, out, &wanted, value, markup);
}

int format_percent(struct render *render, struct value format, struct value arguments, struct value *result)
{
    struct percent state = {.render = render, .format = format.text, .arguments = arguments};
    struct buffer out = {0};
    int done = 1;
    while (done && state.at < format.text->length) {
        const char *start = format.text->bytes + state.at;
        const char *percent = memchr(start, '%', format.text->length - state.at);
        size_t plain = percent ? (size_t)(percent - start) : format.text->length - state.at;
        buffer_append(&out, start, plain);
        state.at += plain;
        if (percent) {
            state.at++;
            done = template_spend(render, 1) && percent_one(&state, &out, format.detail);
        }
        if (out.length > TEMPLATE_MAX_OUTPUT)
            done = template_fail(render, BULLA_E_LIMIT, "a text grows beyond %d bytes", TEMPLATE_MAX_OUTPUT);
    }
    int all_used = arguments.type == VALUE_TUPLE ? state.used >= arguments.list->count : state.used > 0;
    /* Whatever Python can index may hold more than is used. */
    int is_mapping = arguments.type == VALUE_DICT || arguments.type == VALUE_LIST || arguments.type == VALUE_RANGE ||
                     arguments.type == VALUE_UNDEFINED;
    if (done && !all_used && !state.takes_names && !is_mapping)
        done = fail_format(render, "not all arguments converted during string formatting");
    if (!done) {
        buffer_free(&out);
        return 0;
    }
    if (!text_from_buffer(render, &out, result))
        return 0;
    result->detail = format.detail;
    return 1;
}

/* ---- str.format ---- */

struct braces {
    struct render *render;
    const struct text *format;
    size_t at;
    const struct arguments *arguments;
    int64_t automatic; /* next number of {} */
    int uses_numbers;
};

static int is_field_end(char c)
{
    return c == '}' || c == '!' || c == ':' || c == '.' || c == '[';
}

/* {}, {0}, {name}, with .attribute and [item] after it. */
static int field_start(struct braces *state, struct value *value)
{
    const struct text *format = state->format;
    const struct arguments *arguments = state->arguments;
    size_t start = state->at;
    while (state->at < format->length && !is_field_end(format->bytes[state->at]))
        state->at++;
    struct text name = {.bytes = format->bytes + start, .length = state->at - start};
    int is_number = name.length == 0 || (name.bytes[0] >= '0' && name.bytes[0] <= '9');
    if (!is_number) {
        for (size_t i = 0; i < arguments->keyword_count; i++)
            if (arguments->keywords[i]->length == name.length &&
                memcmp(arguments->keywords[i]->bytes, name.bytes, name.length) == 0) {
                *value = arguments->keyword_values[i];
                return 1;
            }
        return fail_format(state->render, "a named argument is missing");
    }
    int64_t index = state->automatic;
    if (name.length > 0) {
        size_t at = 0;
        if (!read_number(state->render, &name, &at, &index))
            return 0;
        state->uses_numbers = 1;
    } else {
        state->automatic++;
    }
    if (state->uses_numbers && state->automatic > 0)
        return fail_format(state->render, "cannot switch between automatic and manual numbering");
    if ((uint64_t)index >= arguments->count)
        return fail_format(state->render, "replacement index out of range");
    *value = arguments->values[index];
    return 1;
}

static int field_parts(struct braces *state, struct value *value)
{
    const struct text *format = state->format;
    while (state->at < format->length && (format->bytes[state->at] == '.' || format->bytes[state->at] == '[')) {
        int item = format->bytes[state->at++] == '[';
        size_t start = state->at;
        while (state->at < format->length &&
               (item ? format->bytes[state->at] != ']' : !is_field_end(format->bytes[state->at])))
            state->at++;
        struct value key;
        if (state->at == format->length || !value_text(state->render, format->bytes + start, state->at - start, &key))
            return fail_format(state->render, "expected '}' before end of string");
        if (item)
            state->at++;
        int is_number = key.text->length > 0;
        for (size_t i = 0; i < key.text->length; i++)
            is_number &= key.text->bytes[i] >= '0' && key.text->bytes[i] <= '9';
        if (item && is_number && !number_from_text(key.text, 10, &key))
            return 0;
        if (item ? !value_item(state->render, *value, key, value)
                 : !value_attribute(state->render, *value, key.text, value))
            return 0;
    }
    return 1;
}

/* [[fill]align][sign][#][0][width][,][.precision][type] */
static int field_specification(struct braces *state, struct specification *wanted)
{
    const struct text *format = state->format;
    size_t size;
    if (state->at < format->length)
        text_character(format, state->at, &size);
    else
        size = 1;
    if (state->at + size < format->length && strchr("<>^=", format->bytes[state->at + size]) &&
        format->bytes[state->at + size] && size <= sizeof wanted->fill) {
        memcpy(wanted->fill, format->bytes + state->at, size);
        wanted->fill_length = size;
        wanted->align = format->bytes[state->at + size];
        state->at += size + 1;
    } else if (state->at < format->length && format->bytes[state->at] && strchr("<>^=", format->bytes[state->at])) {
        wanted->align = format->bytes[state->at++];
    }
    if (state->at < format->length && format->bytes[state->at] && strchr("+- ", format->bytes[state->at]))
        wanted->sign = format->bytes[state->at++];
    if (state->at < format->length && format->bytes[state->at] == '0') {
        wanted->zero = 1;
        state->at++;
    }
    if (!read_number(state->render, format, &state->at, &wanted->width))
        return 0;
    if (state->at < format->length && format->bytes[state->at] == ',') {
        wanted->comma = 1;
        state->at++;
    }
    if (state->at < format->length && format->bytes[state->at] == '.') {
        state->at++;
        if (!read_number(state->render, format, &state->at, &wanted->precision))
            return 0;
    }
    if (state->at < format->length && format->bytes[state->at] != '}')
        wanted->type = format->bytes[state->at++];
    int groups_zeros = wanted->comma && (wanted->zero || wanted->align == '='); /* they get commas too */
    if (groups_zeros || state->at >= format->length || format->bytes[state->at] != '}')
        return template_fail(state->render, BULLA_E_UNSUPPORTED, "format: this format specification is not supported");
    return 1;
}

static int field_convert(struct render *render, struct buffer *out, const struct specification *wanted,
                         struct value value, int has_specification)
{
    if (has_specification && value_is_number(value) && value.type != VALUE_BOOL && wanted->type != 's') {
        if (value.type == VALUE_FLOAT && !wanted->type && wanted->precision < 0 && !wanted->comma && !wanted->sign) {
            struct value repr;
            if (!value_to_text(render, value_float(fabs(value.real)), &repr))
                return 0;
            append_padded(out, wanted, signbit(value.real) ? "-" : "", repr.text->bytes, repr.text->length,
                          repr.text->length, '>');
            return 1;
        }
        if (wanted->type && strchr("eEfFgG%", wanted->type))
            return format_float(render, out, wanted, value_as_double(value));
        if (value.type == VALUE_INTEGER && (!wanted->type || strchr("dxXob", wanted->type)) && wanted->precision < 0)
            return format_integer(render, out, wanted, value.integer);
        return template_fail(render, BULLA_E_UNSUPPORTED, "format: this format of a number is not supported");
    }
    struct value text;
    if (has_specification && (value.type != VALUE_TEXT || (wanted->type && wanted->type != 's') || wanted->comma ||
                              wanted->sign || wanted->align == '=' || wanted->zero))
        return template_fail(render, BULLA_E_UNSUPPORTED, "format: this format of a %s is not supported",
                             value_type_name(value));
    return value_to_text(render, value, &text) && format_text(render, out, wanted, text.text, '<');
}

static int braces_field(struct braces *state, struct buffer *out, int markup)
{
    struct specification wanted = {.width = -1, .precision = -1};
    const struct text *format = state->format;
    struct value value;
    int has_specification = 0;
    if (!field_start(state, &value) || !field_parts(state, &value))
        return 0;
    if (state->at + 1 < format->length && format->bytes[state->at] == '!') {
        char conversion = format->bytes[state->at + 1];
        struct buffer text = {0};
        if (conversion != 's' && conversion != 'r')
            return template_fail(state->render, BULLA_E_UNSUPPORTED, "format: the conversion !%c is not supported",
                                 conversion);
        int done = conversion == 's' ? value_print(state->render, &text, value)
                                     : value_print_repr(state->render, &text, value);
        if (!done) {
            buffer_free(&text);
            return 0;
        }
        if (!text_from_buffer(state->render, &text, &value))
            return 0;
        state->at += 2;
    }
    if (state->at < format->length && format->bytes[state->at] == ':') {
        state->at++;
        has_specification = state->at < format->length && format->bytes[state->at] != '}';
        if (!field_specification(state, &wanted))
            return 0;
    }
    if (state->at >= format->length || format->bytes[state->at] != '}')
        return fail_format(state->render, "expected '}' before end of string");
    state->at++;
    if (markup && !(value.type == VALUE_TEXT && value.detail))
        return template_fail(state->render, BULLA_E_UNSUPPORTED, "format: a method of safe text is not supported");
    return field_convert(state->render, out, &wanted, value, has_specification);
}

int format_braces(struct render *render, struct value format, const struct arguments *arguments, struct value *result)
{
    struct braces state = {.render = render, .format = format.text, .arguments = arguments};
    struct buffer out = {0};
    int done = 1;
    while (done && state.at < format.text->length) {
        char c = format.text->bytes[state.at++];
        int doubled = state.at < format.text->length && format.text->bytes[state.at] == c;
        if ((c == '{' || c == '}') && doubled) {
            buffer_append_byte(&out, (uint8_t)c);
            state.at++;
        } else if (c == '{') {
            done = template_spend(render, 1) && braces_field(&state, &out, format.detail);
        } else if (c == '}') {
            done = fail_format(render, "single '}' encountered in format string");
        } else {
            buffer_append_byte(&out, (uint8_t)c);
        }
        if (out.length > TEMPLATE_MAX_OUTPUT)
            done = template_fail(render, BULLA_E_LIMIT, "a text grows beyond %d bytes", TEMPLATE_MAX_OUTPUT);
    }
    if (!done) {
        buffer_free(&out);
        return 0;
    }
    if (!text_from_buffer(render, &out, result))
        return 0;
    result->detail = format.detail;
    return 1;
}
