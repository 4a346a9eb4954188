#include "cli/options.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    MILLION = 1000000,
    DECIMAL_PLACES = 6,
    HELP_WIDTH = 100,
    NAME_COLUMN = 26, /* where help sentences start */
    LONGEST_WORD = 32 /* beyond it nothing is suggested */
};

/* Decimal digits of text[0..length) as a number; 0 when there is anything else or it does not fit. */
static int parse_digits(const char *text, size_t length, uint64_t *number)
{
    *number = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return 0;
        if (__builtin_mul_overflow(*number, (uint64_t)10, number) ||
            __builtin_add_overflow(*number, (uint64_t)(text[i] - '0'), number))
            return 0;
    }
    return length > 0;
}

static int parse_millionths(const char *text, uint64_t *number)
{
    size_t whole_length = strcspn(text, ".");
    const char *fraction = text[whole_length] ? text + whole_length + 1 : "0";
    size_t places = strlen(fraction);
    uint64_t whole, part;
    if (!*text || places > DECIMAL_PLACES || !parse_digits(fraction, places, &part) ||
        !(parse_digits(text, whole_length, &whole) || whole_length == 0))
        return 0;
    for (; places < DECIMAL_PLACES; places++)
        part *= 10;
    return !__builtin_mul_overflow(whole, (uint64_t)MILLION, &whole) && !__builtin_add_overflow(whole, part, number);
}

/* "0.7" for 700000 */
static void format_millionths(uint64_t number, char *text, size_t capacity)
{
    int length = snprintf(text, capacity, "%" PRIu64 ".%06" PRIu64, number / MILLION, number % MILLION);
    while (length > 0 && text[length - 1] == '0')
        text[--length] = 0;
    if (length > 0 && text[length - 1] == '.')
        text[length - 1] = 0;
}

static int store_integer(const struct option_spec *option, const char *text, uint64_t *place, bulla_error *error)
{
    uint64_t number;
    if (!parse_digits(text, strlen(text), &number) || number < option->minimum || number > option->maximum)
        return bulla_fail(error, BULLA_E_USAGE,
                          "--%s needs a whole number from %" PRIu64 " to %" PRIu64 ", found \"%s\"", option->name,
                          option->minimum, option->maximum, text);
    *place = number;
    return BULLA_OK;
}

static int store_decimal(const struct option_spec *option, const char *text, uint64_t *place, bulla_error *error)
{
    uint64_t number;
    if (!parse_millionths(text, &number) || number < option->minimum || number > option->maximum) {
        char least[40], most[40];
        format_millionths(option->minimum, least, sizeof least);
        format_millionths(option->maximum, most, sizeof most);
        return bulla_fail(error, BULLA_E_USAGE,
                          "--%s needs a number from %s to %s with up to %d decimal places, found \"%s\"",
                          option->name, least, most, DECIMAL_PLACES, text);
    }
    *place = number;
    return BULLA_OK;
}

static int store_more(const struct option_spec *option, const char *text, struct option_texts *place, bulla_error *error)
{
    if (place->count == OPTION_MOST_TEXTS)
        return bulla_fail(error, BULLA_E_USAGE, "--%s is given more than %d times", option->name, OPTION_MOST_TEXTS);
    place->texts[place->count++] = text;
    return BULLA_OK;
}

static int store(const struct option_spec *option, const char *text, void *values, bulla_error *error)
{
    void *place = (char *)values + option->offset;
    switch (option->type) {
    case OPTION_FLAG:
        *(int *)place = 1;
        return BULLA_OK;
    case OPTION_INTEGER:
        return store_integer(option, text, place, error);
    case OPTION_DECIMAL:
        return store_decimal(option, text, place, error);
    case OPTION_TEXT:
        *(const char **)place = text;
        return BULLA_OK;
    case OPTION_TEXTS:
        return store_more(option, text, place, error);
    }
    return bulla_fail(error, BULLA_E_INTERNAL, "--%s has no type", option->name);
}

static int unknown_option(const struct option_spec *options, size_t count, const char *argument, bulla_error *error)
{
    char word[LONGEST_WORD + 1] = "";
    size_t length = strcspn(argument, "=");
    if (argument[1] == '-' && length - 2 <= LONGEST_WORD)
        memcpy(word, argument + 2, length - 2);
    const struct option_spec *nearest = NULL;
    size_t least = 3;
    for (size_t i = 0; i < count && word[0]; i++) {
        size_t distance = options_distance(word, options[i].name);
        if (distance < least) {
            least = distance;
            nearest = &options[i];
        }
    }
    if (nearest)
        return bulla_fail(error, BULLA_E_USAGE, "there is no option %.*s; did you mean --%s?", (int)length, argument,
                          nearest->name);
    return bulla_fail(error, BULLA_E_USAGE, "there is no option %.*s (an argument that starts with - goes after --)",
                      (int)length, argument);
}

/* The option that `argument` names, and where its value starts in it (NULL when it holds none). */
static const struct option_spec *find_option(const struct option_spec *options, size_t count, const char *argument,
                                             const char **attached)
{
    *attached = NULL;
    for (size_t i = 0; i < count; i++) {
        if (argument[1] == '-') {
            size_t length = strlen(options[i].name);
            const char *end = argument + 2 + length;
            if (strncmp(argument + 2, options[i].name, length) != 0 || (*end && *end != '='))
                continue;
            *attached = *end ? end + 1 : NULL;
            return &options[i];
        }
        if (options[i].letter && argument[1] == options[i].letter) {
            *attached = argument[2] ? argument + 2 : NULL;
            return &options[i];
        }
    }
    return NULL;
}

int options_parse(const struct option_spec *options, size_t count, int argc, char **argv, void *values, int *others,
                  bulla_error *error)
{
    uint64_t given = 0;
    int only_arguments = 0;
    *others = 0;
    if (count > OPTIONS_MAX)
        return bulla_fail(error, BULLA_E_INTERNAL, "%zu options in a table, at most %d fit", count, OPTIONS_MAX);
    for (int i = 0; i < argc; i++) {
        char *argument = argv[i];
        if (only_arguments || argument[0] != '-' || argument[1] == 0) {
            argv[(*others)++] = argument;
            continue;
        }
        if (strcmp(argument, "--") == 0) {
            only_arguments = 1;
            continue;
        }
        const char *value;
        const struct option_spec *option = find_option(options, count, argument, &value);
        if (!option)
            return unknown_option(options, count, argument, error);
        if (option->type != OPTION_TEXTS && (given >> (option - options) & 1))
            return bulla_fail(error, BULLA_E_USAGE, "--%s is given twice", option->name);
        given |= (uint64_t)1 << (option - options);
        if (option->type == OPTION_FLAG && value)
            return bulla_fail(error, BULLA_E_USAGE, "--%s takes no value, found \"%s\"", option->name, value);
        if (option->type != OPTION_FLAG && !value) {
            if (i + 1 == argc)
                return bulla_fail(error, BULLA_E_USAGE, "--%s needs a value: --%s %s", option->name, option->name,
                                  option->value);
            value = argv[++i];
        }
        int code = store(option, value, values, error);
        if (code != BULLA_OK)
            return code;
    }
    return BULLA_OK;
}

/* Appends `text` word by word, new lines starting at `column`. */
static void append_folded(struct buffer *out, const char *text, size_t column)
{
    size_t at = column;
    while (*text) {
        size_t word = strcspn(text, " ");
        if (at > column && at + 1 + word > HELP_WIDTH) {
            buffer_append_format(out, "\n%*s", (int)column, "");
            at = column;
        } else if (at > column) {
            buffer_append_byte(out, ' ');
            at++;
        }
        buffer_append(out, text, word);
        at += word;
        text += word + strspn(text + word, " ");
    }
    buffer_append_byte(out, '\n');
}

void options_describe(const struct option_spec *options, size_t count, struct buffer *out)
{
    for (size_t i = 0; i < count; i++) {
        size_t start = out->length;
        if (options[i].letter)
            buffer_append_format(out, "  -%c, --%s", options[i].letter, options[i].name);
        else
            buffer_append_format(out, "  --%s", options[i].name);
        if (options[i].type != OPTION_FLAG)
            buffer_append_format(out, " %s", options[i].value);
        size_t width = out->length - start;
        if (width + 2 > NAME_COLUMN)
            buffer_append_format(out, "\n%*s", NAME_COLUMN, "");
        else
            buffer_append_format(out, "%*s", (int)(NAME_COLUMN - width), "");
        append_folded(out, options[i].help, NAME_COLUMN);
    }
}

/* Optimal string alignment: row by row, with the two rows before kept for swaps. */
size_t options_distance(const char *word, const char *name)
{
    size_t word_length = strlen(word), name_length = strlen(name);
    if (word_length > LONGEST_WORD || name_length > LONGEST_WORD)
        return SIZE_MAX;
    size_t rows[3][LONGEST_WORD + 1];
    for (size_t j = 0; j <= name_length; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= word_length; i++) {
        size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *two_above = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= name_length; j++) {
            size_t best = above[j - 1] + (word[i - 1] != name[j - 1]);
            if (above[j] + 1 < best)
                best = above[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            if (i > 1 && j > 1 && word[i - 1] == name[j - 2] && word[i - 2] == name[j - 1] &&
                two_above[j - 2] + 1 < best)
                best = two_above[j - 2] + 1;
            row[j] = best;
        }
    }
    return rows[word_length % 3][name_length];
}
