/* Arithmetic, concatenation and comparison as Python has them. Integers are 64
 * bits: a result beyond is an error, never a wrong number. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/decimal.h"
#include "model/chat_template_internal.h"

static const char *const symbols[] = {"+", "-", "*", "/", "//", "%", "**", "==", "!=", "<", "<=", ">", ">=", "in",
                                      "not in"};

static int fail_types(struct render *render, enum operator_type operator, struct value left, struct value right)
{
    if (left.type == VALUE_UNDEFINED || right.type == VALUE_UNDEFINED)
        return value_fail_undefined(render, left.type == VALUE_UNDEFINED ? left : right);
    if (left.type == VALUE_BIG || right.type == VALUE_BIG)
        return template_fail(render, BULLA_E_LIMIT, "integers beyond 64 bits cannot be computed with");
    return template_fail(render, BULLA_E_INPUT, "unsupported operand types for %s: '%s' and '%s'", symbols[operator],
                         value_type_name(left), value_type_name(right));
}

static int fail_overflow(struct render *render)
{
    return template_fail(render, BULLA_E_LIMIT, "an integer result needs more than 64 bits");
}

static int fail_zero(struct render *render)
{
    return template_fail(render, BULLA_E_INPUT, "division by zero");
}

static int64_t floor_divide(int64_t left, int64_t right)
{
    int64_t quotient = left / right;
    return left % right != 0 && (left < 0) != (right < 0) ? quotient - 1 : quotient;
}

static int integer_power(struct render *render, int64_t base, int64_t exponent, struct value *result)
{
    if (exponent < 0) {
        if (base == 0)
            return fail_zero(render);
        *result = value_float(pow((double)base, (double)exponent));
        return 1;
    }
    int64_t power = 1;
    while (exponent > 0) {
        if ((exponent & 1) && __builtin_mul_overflow(power, base, &power))
            return fail_overflow(render);
        exponent >>= 1;
        if (exponent > 0 && __builtin_mul_overflow(base, base, &base))
            return fail_overflow(render);
    }
    *result = value_integer(power);
    return 1;
}

/* Python's true division rounds the exact quotient once. */
static int integer_divide(struct render *render, int64_t left, int64_t right, struct value *result)
{
    const int64_t exact = INT64_C(1) << 53;
    if (right == 0)
        return fail_zero(render);
    if (left > exact || left < -exact || right > exact || right < -exact)
        return template_fail(render, BULLA_E_LIMIT, "integers beyond 53 bits cannot be divided with /");
    *result = value_float((double)left / (double)right);
    return 1;
}

static int integers_apply(struct render *render, enum operator_type operator, int64_t left, int64_t right,
                          struct value *result)
{
    int64_t out = 0;
    int overflow = 0;
    switch (operator) {
    case OPERATOR_ADD:
        overflow = __builtin_add_overflow(left, right, &out);
        break;
    case OPERATOR_SUBTRACT:
        overflow = __builtin_sub_overflow(left, right, &out);
        break;
    case OPERATOR_MULTIPLY:
        overflow = __builtin_mul_overflow(left, right, &out);
        break;
    case OPERATOR_DIVIDE:
        return integer_divide(render, left, right, result);
    case OPERATOR_POWER:
        return integer_power(render, left, right, result);
    default:
        if (right == 0)
            return fail_zero(render);
        if (right == -1) {
            overflow = operator == OPERATOR_FLOOR_DIVIDE && __builtin_sub_overflow(0, left, &out);
            break;
        }
        out = floor_divide(left, right);
        if (operator == OPERATOR_MODULO)
            out = left - out * right;
    }
    if (overflow)
        return fail_overflow(render);
    *result = value_integer(out);
    return 1;
}

/* float.__divmod__ */
static double float_modulo(double left, double right, double *quotient)
{
    double rest = fmod(left, right);
    double whole = (left - rest) / right;
    if (rest != 0) {
        if ((right < 0) != (rest < 0)) {
            rest += right;
            whole -= 1;
        }
    } else {
        rest = copysign(0, right);
    }
    *quotient = whole == 0 ? copysign(0, left / right) : floor(whole);
    if (whole - *quotient > 0.5)
        *quotient += 1;
    return rest;
}

static int floats_apply(struct render *render, enum operator_type operator, double left, double right,
                        struct value *result)
{
    double quotient;
    if (right == 0 && (operator == OPERATOR_DIVIDE || operator == OPERATOR_FLOOR_DIVIDE ||
                       operator == OPERATOR_MODULO))
        return fail_zero(render);
    switch (operator) {
    case OPERATOR_ADD:
        *result = value_float(left + right);
        return 1;
    case OPERATOR_SUBTRACT:
        *result = value_float(left - right);
        return 1;
    case OPERATOR_MULTIPLY:
        *result = value_float(left * right);
        return 1;
    case OPERATOR_DIVIDE:
        *result = value_float(left / right);
        return 1;
    case OPERATOR_FLOOR_DIVIDE:
        float_modulo(left, right, &quotient);
        *result = value_float(quotient);
        return 1;
    case OPERATOR_MODULO:
        *result = value_float(float_modulo(left, right, &quotient));
        return 1;
    default:
        if (left == 0 && right < 0)
            return fail_zero(render);
        if (left < 0 && isfinite(left) && isfinite(right) && right != floor(right))
            return template_fail(render, BULLA_E_UNSUPPORTED, "complex numbers are not supported");
        quotient = pow(left, right);
        if (isinf(quotient) && isfinite(left) && isfinite(right))
            return template_fail(render, BULLA_E_INPUT, "the result of ** is too large");
        *result = value_float(quotient);
        return 1;
    }
}

/* Python's str + str; with a markup text on either side the other is escaped. */
static int add_texts(struct render *render, struct value left, struct value right, struct value *result)
{
    if (left.detail != right.detail) {
        struct value *plain = left.detail ? &right : &left;
        if (!text_escape(render, plain->text, plain))
            return 0;
    }
    size_t length = left.text->length + right.text->length;
    char *bytes = arena_alloc(render->arena, length + 1, 1, render->error);
    if (!bytes)
        return 0;
    memcpy(bytes, left.text->bytes, left.text->length);
    memcpy(bytes + left.text->length, right.text->bytes, right.text->length);
    if (!value_text(render, bytes, length, result))
        return 0;
    result->detail = left.detail;
    return 1;
}

static int add_lists(struct render *render, struct value left, struct value right, struct value *result)
{
    struct list *list;
    size_t count = left.list->count + right.list->count;
    if (!list_new(render, count, &list))
        return 0;
    if (left.list->count)
        memcpy(list->items, left.list->items, left.list->count * sizeof *list->items);
    if (right.list->count)
        memcpy(list->items + left.list->count, right.list->items, right.list->count * sizeof *list->items);
    list->count = count;
    *result = (struct value){.type = left.type, .list = list};
    return 1;
}

/* text or list * integer */
static int repeat(struct render *render, struct value value, int64_t times, struct value *result)
{
    size_t size = value.type == VALUE_TEXT ? value.text->length : value.list->count;
    if (times < 0)
        times = 0;
    if (size > 0 && (uint64_t)times > TEMPLATE_MAX_MEMORY / size)
        return template_fail(render, BULLA_E_LIMIT, "%zu times %lld is more than a template may hold", size,
                             (long long)times);
    if (size == 0)
        times = 0;
    if (value.type != VALUE_TEXT) {
        struct list *list;
        if (!template_spend(render, size * (size_t)times) || !list_new(render, size * (size_t)times, &list))
            return 0;
        for (int64_t i = 0; i < times; i++)
            memcpy(list->items + (size_t)i * size, value.list->items, size * sizeof *list->items);
        list->count = size * (size_t)times;
        *result = (struct value){.type = value.type, .list = list};
        return 1;
    }
    char *bytes = arena_alloc(render->arena, size * (size_t)times + 1, 1, render->error);
    if (!bytes)
        return 0;
    for (int64_t i = 0; i < times; i++)
        memcpy(bytes + (size_t)i * size, value.text->bytes, size);
    if (!template_spend(render, (size_t)times) || !value_text(render, bytes, size * (size_t)times, result))
        return 0;
    result->detail = value.detail;
    return 1;
}

static int is_sequence(struct value value)
{
    return value.type == VALUE_TEXT || value.type == VALUE_LIST || value.type == VALUE_TUPLE;
}

int operator_apply(struct render *render, enum operator_type operator, struct value left, struct value right,
                   struct value *result)
{
    if (value_is_integer(left) && value_is_integer(right))
        return integers_apply(render, operator, left.integer, right.integer, result);
    if (value_is_number(left) && value_is_number(right))
        return floats_apply(render, operator, value_as_double(left), value_as_double(right), result);
    if (operator == OPERATOR_ADD && left.type == VALUE_TEXT && right.type == VALUE_TEXT)
        return add_texts(render, left, right, result);
    if (operator == OPERATOR_ADD && left.type == right.type && is_sequence(left))
        return add_lists(render, left, right, result);
    if (operator == OPERATOR_MULTIPLY && is_sequence(left) && value_is_integer(right))
        return repeat(render, left, right.integer, result);
    if (operator == OPERATOR_MULTIPLY && value_is_integer(left) && is_sequence(right))
        return repeat(render, right, left.integer, result);
    if (operator == OPERATOR_MODULO && left.type == VALUE_TEXT)
        return format_percent(render, left, right, result);
    return fail_types(render, operator, left, right);
}

int operator_compare(struct render *render, enum operator_type operator, struct value left, struct value right,
                     int *truth)
{
    int order;
    switch (operator) {
    case OPERATOR_EQUAL:
    case OPERATOR_UNEQUAL:
        if (!value_equal(render, left, right, truth))
            return 0;
        *truth ^= operator == OPERATOR_UNEQUAL;
        return 1;
    case OPERATOR_IN:
    case OPERATOR_NOT_IN:
        if (!value_contains(render, right, left, truth))
            return 0;
        *truth ^= operator == OPERATOR_NOT_IN;
        return 1;
    default:
        if (!value_order(render, symbols[operator], left, right, &order))
            return 0;
        *truth = order != 2 && ((operator == OPERATOR_LESS && order < 0) ||
                                (operator == OPERATOR_LESS_EQUAL && order <= 0) ||
                                (operator == OPERATOR_GREATER && order > 0) ||
                                (operator == OPERATOR_GREATER_EQUAL && order >= 0));
        return 1;
    }
}

int operator_negate(struct render *render, struct value value, struct value *result)
{
    int64_t integer;
    if (value.type == VALUE_FLOAT) {
        *result = value_float(-value.real);
        return 1;
    }
    if (!value_is_integer(value)) {
        if (value.type == VALUE_UNDEFINED)
            return value_fail_undefined(render, value);
        if (value.type == VALUE_BIG)
            return template_fail(render, BULLA_E_LIMIT, "integers beyond 64 bits cannot be computed with");
        return template_fail(render, BULLA_E_INPUT, "bad operand type for unary -: '%s'", value_type_name(value));
    }
    if (__builtin_sub_overflow(0, value.integer, &integer))
        return fail_overflow(render);
    *result = value_integer(integer);
    return 1;
}

/* ---- Numbers from texts ---- */

static struct text trimmed(const struct text *text)
{
    struct text rest = *text;
    size_t size;
    while (rest.length > 0 && text_is_space(text_character(&rest, 0, &size))) {
        rest.bytes += size;
        rest.length -= size;
    }
    while (rest.length > 0 && text_is_space(text_character(&rest, text_previous(&rest, rest.length), &size)))
        rest.length = text_previous(&rest, rest.length);
    return rest;
}

static int digit_value(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'z' ? c - 'a' + 10 : c >= 'A' && c <= 'Z' ? c - 'A' + 10
                                                                                                       : 99;
}

/* Python's int(text, base): white space around, a sign, single '_' between
 * digits, a prefix that fits the base. Beyond 64 bits *result is VALUE_MISSING. */
int number_from_text(const struct text *text, int base, struct value *result)
{
    struct text rest = trimmed(text);
    size_t at = 0;
    int negative = 0, after_digit = 0, too_large = 0;
    int64_t number = 0;
    if (at < rest.length && (rest.bytes[at] == '-' || rest.bytes[at] == '+'))
        negative = rest.bytes[at++] == '-';
    if (rest.length - at >= 2 && rest.bytes[at] == '0') {
        char letter = (char)(rest.bytes[at + 1] | 32);
        int prefix = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
        if (prefix && (base == prefix || base == 0)) {
            base = prefix;
            at += 2;
            after_digit = 1; /* 0x_1 is allowed */
        }
    }
    if (base == 0)
        base = 10;
    size_t digits = 0;
    for (; at < rest.length; at++) {
        if (rest.bytes[at] == '_' && after_digit) {
            after_digit = 0;
            continue;
        }
        int digit = digit_value(rest.bytes[at]);
        if (digit >= base)
            return 0;
        too_large |= __builtin_mul_overflow(number, base, &number);
        too_large |= __builtin_add_overflow(number, negative ? -digit : digit, &number);
        after_digit = 1;
        digits++;
    }
    if (digits == 0 || !after_digit)
        return 0;
    *result = too_large ? (struct value){0} : value_integer(number);
    return 1;
}

static int same_word(const struct text *text, const char *word)
{
    size_t length = strlen(word);
    if (text->length != length)
        return 0;
    for (size_t i = 0; i < length; i++)
        if ((text->bytes[i] | 32) != word[i])
            return 0;
    return 1;
}

/* Python's float(text). */
int float_from_text(const struct text *text, double *result)
{
    struct text rest = trimmed(text);
    char plain[512];
    size_t used = 0, digits = 0;
    int negative = 0, seen_point = 0, seen_exponent = 0;
    if (rest.length > 0 && (rest.bytes[0] == '-' || rest.bytes[0] == '+')) {
        negative = rest.bytes[0] == '-';
        rest.bytes++;
        rest.length--;
    }
    if (same_word(&rest, "inf") || same_word(&rest, "infinity") || same_word(&rest, "nan")) {
        *result = (rest.bytes[0] | 32) == 'n' ? NAN : negative ? -INFINITY : INFINITY;
        return 1;
    }
    if (rest.length >= sizeof plain - 1)
        return 0;
    for (size_t i = 0; i < rest.length; i++) {
        char c = rest.bytes[i], before = i ? rest.bytes[i - 1] : 0, after = i + 1 < rest.length ? rest.bytes[i + 1] : 0;
        if (c == '_' && before >= '0' && before <= '9' && after >= '0' && after <= '9')
            continue;
        int is_digit = c >= '0' && c <= '9';
        digits += (size_t)is_digit;
        if (c == '.' && !seen_point && !seen_exponent)
            seen_point = 1;
        else if ((c == 'e' || c == 'E') && !seen_exponent && digits > 0) {
            seen_exponent = 1;
            digits = 0;
        } else if (!is_digit && !((c == '-' || c == '+') && (before == 'e' || before == 'E')))
            return 0;
        plain[used++] = c;
    }
    if (digits == 0)
        return 0;
    double size = decimal_parse(plain, used);
    *result = negative ? -size : size;
    return 1;
}
