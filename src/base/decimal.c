#include "base/decimal.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Texts given to strtod here have no decimal point, so that no locale changes
 * what they mean. */
static double digits_value(const char *digits, int count, int exponent)
{
    char text[48];
    snprintf(text, sizeof text, "%.*se%d", count, digits, exponent - count);
    return strtod(text, NULL);
}

/* Adds one unit in the last place; the exponent grows when all digits are 9. */
static void increment(char *digits, int count, int *exponent)
{
    int i = count - 1;
    while (i >= 0 && digits[i] == '9')
        digits[i--] = '0';
    if (i >= 0) {
        digits[i]++;
        return;
    }
    digits[0] = '1';
    ++*exponent;
}

/* `value` correctly rounded to `count` digits. */
static void round_to_digits(double value, int count, char *digits, int *exponent)
{
    char text[40];
    snprintf(text, sizeof text, "%.*e", count - 1, value);
    int found = 0;
    const char *c = text;
    for (; *c != 'e'; c++)
        if (*c >= '0' && *c <= '9')
            digits[found++] = *c;
    digits[found] = 0;
    *exponent = (int)strtol(c + 1, NULL, 10) + 1;
}

int decimal_shortest(double value, char digits[18], int *exponent)
{
    value = fabs(value);
    int binary_exponent;
    int power_of_two = frexp(value, &binary_exponent) == 0.5;
    /* Any decimal of 15 digits survives a normal binary64, so fewer than 15 need
     * no search there: they are 15 with zeros at the end. */
    int count = value < DBL_MIN ? 1 : 15;
    for (;; count++) {
        round_to_digits(value, count, digits, exponent);
        if (count == 17 || digits_value(digits, count, *exponent) == value)
            break;
        /* Below a power of two numbers are twice as dense: the closest decimal may
         * lie below and miss while the next one above still reads back. */
        if (power_of_two) {
            increment(digits, count, exponent);
            if (digits_value(digits, count, *exponent) == value)
                break;
        }
    }
    while (count > 1 && digits[count - 1] == '0')
        count--;
    digits[count] = 0;
    return count;
}

/* Powers of ten that binary64 holds exactly. */
static const double exact_powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                      1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* More significant digits than any halfway point between two binary64 has
 * (767): beyond them only whether all are zero matters. */
enum { MAX_DIGITS = 800 };

struct parsed {
    char digits[MAX_DIGITS + 32]; /* room for an exponent after them */
    int count;
    int64_t exponent; /* of the last digit */
    uint64_t small;   /* the value of the digits while there are at most 18 */
    int sticky;       /* a nonzero digit was dropped */
};

static void take_digit(struct parsed *parsed, char digit, int after_point)
{
    if (parsed->count == 0 && digit == '0') {
        parsed->exponent -= after_point;
        return;
    }
    if (parsed->count < MAX_DIGITS) {
        parsed->digits[parsed->count++] = digit;
        if (parsed->count <= 18)
            parsed->small = parsed->small * 10 + (uint64_t)(digit - '0');
        parsed->exponent -= after_point;
        return;
    }
    parsed->sticky |= digit != '0';
    parsed->exponent += !after_point;
}

static int64_t read_exponent(const char *text, size_t length)
{
    size_t at = 0;
    int negative = at < length && text[at] == '-';
    if (at < length && (text[at] == '-' || text[at] == '+'))
        at++;
    int64_t value = 0;
    for (; at < length; at++)
        if (value < INT64_C(1000000000000000))
            value = value * 10 + (text[at] - '0');
    return negative ? -value : value;
}

double decimal_parse(const char *text, size_t length)
{
    struct parsed parsed;
    parsed.count = 0;
    parsed.exponent = 0;
    parsed.small = 0;
    parsed.sticky = 0;
    int negative = length > 0 && text[0] == '-', after_point = 0;
    for (size_t i = (size_t)negative; i < length; i++) {
        if (text[i] == '.') {
            after_point = 1;
        } else if (text[i] == 'e' || text[i] == 'E') {
            parsed.exponent += read_exponent(text + i + 1, length - i - 1);
            break;
        } else {
            take_digit(&parsed, text[i], after_point);
        }
    }
    double value;
    if (parsed.count == 0) {
        value = 0;
    } else if (parsed.count <= 15 && parsed.exponent >= -22 && parsed.exponent <= 22) {
        /* Both operands are exact, so the one rounding is the right one. */
        value = parsed.exponent < 0 ? (double)parsed.small / exact_powers[-parsed.exponent]
                                    : (double)parsed.small * exact_powers[parsed.exponent];
    } else {
        if (parsed.sticky) {
            parsed.digits[parsed.count++] = '1';
            parsed.exponent--;
        }
        int64_t exponent = parsed.exponent < -100000 ? -100000 : parsed.exponent > 100000 ? 100000 : parsed.exponent;
        snprintf(parsed.digits + parsed.count, 16, "e%d", (int)exponent);
        value = strtod(parsed.digits, NULL);
    }
    return negative ? -value : value;
}

int decimal_millionths(const char *text, size_t length, int64_t *millionths)
{
    int negative = length > 0 && text[0] == '-';
    size_t start = (size_t)negative, end = start, point = 0, digits = 0;
    int has_point = 0;
    for (; end < length && text[end] != 'e' && text[end] != 'E'; end++) {
        if (text[end] == '.') {
            has_point = 1;
            point = digits;
        } else {
            digits++;
        }
    }
    /* So many of the digits stand before the point of the value in millionths. */
    int64_t whole = (int64_t)(has_point ? point : digits) + 6;
    if (end < length)
        whole += read_exponent(text + end + 1, length - end - 1);
    int64_t value = 0, number = 0;
    int first_behind = 0, more_behind = 0, is_zero = 1;
    for (size_t at = start; at < end; at++) {
        if (text[at] == '.')
            continue;
        int digit = text[at] - '0';
        is_zero &= digit == 0;
        if (number < whole) {
            if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, digit, &value))
                return 0;
        } else if (number == whole) {
            first_behind = digit;
        } else {
            more_behind |= digit;
        }
        number++;
    }
    for (; number < whole && !is_zero; number++)
        if (__builtin_mul_overflow(value, 10, &value))
            return 0;
    if (whole < 0)
        first_behind = 0;
    /* Half up: a negative number's size grows only where more than a half is cut off. */
    int grows = negative ? first_behind > 5 || (first_behind == 5 && more_behind) : first_behind >= 5;
    if (grows && __builtin_add_overflow(value, 1, &value))
        return 0;
    *millionths = negative ? -value : value;
    return 1;
}
