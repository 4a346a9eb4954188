/* Functions that every template can call. */
#include <stdio.h>
#include <string.h>

#include "model/chat_template_internal.h"

#define FUNCTION(name)                                                                                            \
    static int name(struct render *render, struct value self, const struct arguments *arguments,                 \
                    const struct value *slots, struct value *result)

FUNCTION(raise_exception)
{
    (void)self;
    (void)arguments;
    struct value text;
    (void)result;
    if (!value_to_text(render, slots[0], &text))
        return 0;
    return template_fail(render, BULLA_E_INPUT, "%.*s", (int)(text.text->length < 900 ? text.text->length : 900),
                         text.text->bytes);
}

FUNCTION(range)
{
    (void)self;
    (void)arguments;
    int64_t first, second, step;
    if (!slot_integer(render, slots[0], 0, &first) || !slot_integer(render, slots[1], 0, &second) ||
        !slot_integer(render, slots[2], 1, &step))
        return 0;
    int64_t start = slots[1].type == VALUE_MISSING ? 0 : first;
    int64_t stop = slots[1].type == VALUE_MISSING ? first : second;
    if (step == 0)
        return template_fail(render, BULLA_E_INPUT, "range() arg 3 must not be zero");
    uint64_t span = step > 0 ? (stop > start ? (uint64_t)stop - (uint64_t)start : 0)
                             : (start > stop ? (uint64_t)start - (uint64_t)stop : 0);
    uint64_t size = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    uint64_t count = span / size + (span % size != 0);
    if (count > TEMPLATE_MAX_RANGE)
        return template_fail(render, BULLA_E_LIMIT, "a range of more than %d numbers", TEMPLATE_MAX_RANGE);
    struct range *range = arena_alloc(render->arena, 1, sizeof *range, render->error);
    struct value *items = arena_alloc(render->arena, count, sizeof *items, render->error);
    if (!range || !items || !template_spend(render, count / 4))
        return 0;
    for (uint64_t i = 0; i < count; i++)
        items[i] = value_integer((int64_t)((uint64_t)start + i * (uint64_t)step));
    *range = (struct range){{items, count, count}, start, stop, step};
    *result = (struct value){.type = VALUE_RANGE, .range = range};
    return 1;
}

/* Members from a dict, or from pairs. */
static int add_members(struct render *render, struct dict *dict, struct value source)
{
    struct list items, pair;
    if (source.type == VALUE_DICT) {
        for (size_t i = 0; i < source.dict->count; i++)
            if (!template_spend(render, 1) ||
                !dict_set(render, dict, source.dict->entries[i].key, source.dict->entries[i].value))
                return 0;
        return 1;
    }
    if (!value_iterate(render, source, &items))
        return 0;
    for (size_t i = 0; i < items.count; i++) {
        if (!value_iterate(render, items.items[i], &pair))
            return 0;
        if (pair.count != 2)
            return template_fail(render, BULLA_E_INPUT, "dict(): an element has %zu items; 2 are required", pair.count);
        if (!template_spend(render, 1) || !dict_set(render, dict, pair.items[0], pair.items[1]))
            return 0;
    }
    return 1;
}

int dict_builtin(struct render *render, struct value self, const struct arguments *arguments,
                 const struct value *slots, struct value *result)
{
    (void)self;
    (void)slots;
    struct dict *dict;
    if (arguments->count > 1)
        return template_fail(render, BULLA_E_INPUT, "dict expected at most 1 argument, got %zu", arguments->count);
    if (!dict_new(render, &dict) || (arguments->count == 1 && !add_members(render, dict, arguments->values[0])))
        return 0;
    for (size_t i = 0; i < arguments->keyword_count; i++)
        if (!dict_set(render, dict, (struct value){.type = VALUE_TEXT, .text = arguments->keywords[i]},
                      arguments->keyword_values[i]))
            return 0;
    *result = (struct value){.type = VALUE_DICT, .dict = dict};
    return 1;
}

FUNCTION(namespace)
{
    if (!dict_builtin(render, self, arguments, slots, result))
        return 0;
    result->type = VALUE_NAMESPACE;
    return 1;
}

FUNCTION(joiner)
{
    (void)self;
    (void)arguments;
    struct joiner *joiner = arena_alloc(render->arena, 1, sizeof *joiner, render->error);
    if (!joiner)
        return 0;
    joiner->separator = slots[0];
    *result = (struct value){.type = VALUE_JOINER, .joiner = joiner};
    return slots[0].type != VALUE_MISSING || value_text(render, ", ", 2, &joiner->separator);
}

FUNCTION(cycler)
{
    (void)self;
    (void)slots;
    struct joiner *joiner = arena_alloc(render->arena, 1, sizeof *joiner, render->error);
    if (!joiner)
        return 0;
    if (arguments->count == 0)
        return template_fail(render, BULLA_E_INPUT, "at least one item has to be provided");
    joiner->is_cycler = 1;
    joiner->items = (struct list){arguments->values, arguments->count, arguments->count};
    *result = (struct value){.type = VALUE_JOINER, .joiner = joiner};
    return 1;
}

/* ---- strftime_now: datetime.now().strftime in the C locale, in UTC ---- */

struct moment {
    int64_t year;
    int month, day, hour, minute, second; /* month and day from 1 */
    int weekday, year_day;                /* Sunday 0; January 1st 0 */
};

/* Howard Hinnant's civil_from_days (chrono-Compatible Low-Level Date Algorithms). */
static struct moment moment_from_unix(long long now)
{
    int64_t days = now / 86400, rest = now % 86400;
    if (rest < 0) {
        rest += 86400;
        days--;
    }
    int64_t shifted = days + 719468;
    int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
    int64_t day_of_era = shifted - era * 146097;
    int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100); /* from March 1st */
    int64_t month = (5 * day_of_year + 2) / 153;
    struct moment moment = {.year = year_of_era + era * 400 + (month >= 10),
                            .month = (int)(month < 10 ? month + 3 : month - 9),
                            .day = (int)(day_of_year - (153 * month + 2) / 5 + 1),
                            .hour = (int)(rest / 3600),
                            .minute = (int)(rest / 60 % 60),
                            .second = (int)(rest % 60),
                            .weekday = (int)(((days + 4) % 7 + 7) % 7)};
    static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    int leap = (moment.year % 4 == 0 && moment.year % 100 != 0) || moment.year % 400 == 0;
    moment.year_day = before[moment.month - 1] + moment.day - 1 + (leap && moment.month > 2);
    return moment;
}

/* ISO 8601 week and its year. */
static int iso_week(const struct moment *moment, int64_t *year)
{
    int weekday = (moment->weekday + 6) % 7; /* Monday 0 */
    int week = (moment->year_day - weekday + 10) / 7;
    *year = moment->year;
    if (week < 1 || week == 53) {
        int64_t y = week < 1 ? moment->year - 1 : moment->year;
        /* A year has 53 weeks when it starts on a Thursday, or is leap and starts on a Wednesday. */
        int leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
        int64_t january_first = (y + (y - 1) / 4 - (y - 1) / 100 + (y - 1) / 400) % 7; /* Sunday 0 */
        int has_53 = january_first == 4 || (leap && january_first == 3);
        if (week < 1) {
            *year = y;
            return has_53 ? 53 : 52;
        }
        if (!has_53) {
            *year = moment->year + 1;
            return 1;
        }
    }
    return week;
}

static const char *const weekdays[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                       "Thursday", "Friday", "Saturday"};
static const char *const months[] = {"January", "February", "March",     "April",   "May",      "June",
                                     "July",    "August",   "September", "October", "November", "December"};

/* A number, zero-padded to `width` unless the flag says otherwise. */
static void append_number(struct buffer *out, int64_t number, int width, char flag, char pad)
{
    if (flag == '-')
        buffer_append_format(out, "%lld", (long long)number);
    else if (flag == '_' || (flag == 0 && pad == ' '))
        buffer_append_format(out, "%*lld", width, (long long)number);
    else
        buffer_append_format(out, "%0*lld", width, (long long)number);
}

static int append_time(struct render *render, struct buffer *out, const char *format, size_t length,
                       const struct moment *moment);

/* Directives that stand for others, in the C locale. */
static const char *composite(char directive)
{
    switch (directive) {
    case 'D':
    case 'x':
        return "%m/%d/%y";
    case 'F':
        return "%Y-%m-%d";
    case 'T':
    case 'X':
        return "%H:%M:%S";
    case 'R':
        return "%H:%M";
    case 'c':
        return "%a %b %e %H:%M:%S %Y";
    case 'r':
        return "%I:%M:%S %p";
    default:
        return NULL;
    }
}

static int append_directive(struct render *render, struct buffer *out, char directive, char flag,
                            const struct moment *moment)
{
    int hour12 = moment->hour % 12 == 0 ? 12 : moment->hour % 12;
    int64_t iso_year;
    int week = iso_week(moment, &iso_year);
    const char *parts = composite(directive);
    if (parts)
        return append_time(render, out, parts, strlen(parts), moment);
    switch (directive) {
    case 'Y': append_number(out, moment->year, 1, flag, '0'); return 1;
    case 'C': append_number(out, moment->year / 100, 2, flag, '0'); return 1;
    case 'y': append_number(out, moment->year % 100, 2, flag, '0'); return 1;
    case 'm': append_number(out, moment->month, 2, flag, '0'); return 1;
    case 'd': append_number(out, moment->day, 2, flag, '0'); return 1;
    case 'e': append_number(out, moment->day, 2, flag, ' '); return 1;
    case 'H': append_number(out, moment->hour, 2, flag, '0'); return 1;
    case 'k': append_number(out, moment->hour, 2, flag, ' '); return 1;
    case 'I': append_number(out, hour12, 2, flag, '0'); return 1;
    case 'l': append_number(out, hour12, 2, flag, ' '); return 1;
    case 'M': append_number(out, moment->minute, 2, flag, '0'); return 1;
    case 'S': append_number(out, moment->second, 2, flag, '0'); return 1;
    case 'f': buffer_append_text(out, "000000"); return 1;
    case 'j': append_number(out, moment->year_day + 1, 3, flag, '0'); return 1;
    case 'U': append_number(out, (moment->year_day + 7 - moment->weekday) / 7, 2, flag, '0'); return 1;
    case 'W': append_number(out, (moment->year_day + 7 - (moment->weekday + 6) % 7) / 7, 2, flag, '0'); return 1;
    case 'V': append_number(out, week, 2, flag, '0'); return 1;
    case 'G': append_number(out, iso_year, 1, flag, '0'); return 1;
    case 'g': append_number(out, iso_year % 100, 2, flag, '0'); return 1;
    case 'w': append_number(out, moment->weekday, 1, flag, '0'); return 1;
    case 'u': append_number(out, moment->weekday ? moment->weekday : 7, 1, flag, '0'); return 1;
    case 'A': buffer_append_text(out, weekdays[moment->weekday]); return 1;
    case 'a': buffer_append(out, weekdays[moment->weekday], 3); return 1;
    case 'B': buffer_append_text(out, months[moment->month - 1]); return 1;
    case 'b':
    case 'h': buffer_append(out, months[moment->month - 1], 3); return 1;
    case 'p': buffer_append_text(out, moment->hour < 12 ? "AM" : "PM"); return 1;
    case 'P': buffer_append_text(out, moment->hour < 12 ? "am" : "pm"); return 1;
    case 'n': buffer_append_byte(out, '\n'); return 1;
    case 't': buffer_append_byte(out, '\t'); return 1;
    case 'z':
    case 'Z': return 1; /* a naive datetime has no zone */
    case '%': buffer_append_byte(out, '%'); return 1;
    default:
        return template_fail(render, BULLA_E_UNSUPPORTED, "strftime_now: the directive %%%c is not supported",
                             directive);
    }
}

static int append_time(struct render *render, struct buffer *out, const char *format, size_t length,
                       const struct moment *moment)
{
    for (size_t i = 0; i < length; i++) {
        char flag = 0;
        if (format[i] != '%' || i + 1 == length) {
            buffer_append_byte(out, (uint8_t)format[i]);
            continue;
        }
        i++;
        if ((format[i] == '-' || format[i] == '_' || format[i] == '0') && i + 1 < length)
            flag = format[i++];
        if (!template_spend(render, 1) || !append_directive(render, out, format[i], flag, moment))
            return 0;
    }
    return 1;
}

FUNCTION(strftime_now)
{
    (void)self;
    (void)arguments;
    const long long last = 253402300799; /* the end of year 9999, Python's too */
    struct buffer out = {0};
    if (slots[0].type != VALUE_TEXT)
        return template_fail(render, BULLA_E_INPUT, "strftime_now wants a format string, not '%s'",
                             value_type_name(slots[0]));
    if (render->now < -62135596800 || render->now > last)
        return template_fail(render, BULLA_E_INPUT, "strftime_now: the time %lld is outside the years 1 to 9999",
                             render->now);
    struct moment moment = moment_from_unix(render->now);
    if (!append_time(render, &out, slots[0].text->bytes, slots[0].text->length, &moment)) {
        buffer_free(&out);
        return 0;
    }
    return text_from_buffer(render, &out, result);
}

const struct builtin function_table[] = {
    {"raise_exception", raise_exception, 1, 0, {"message"}},
    {"strftime_now", strftime_now, 1, 0, {"format"}},
    {"range", range, 1, BUILTIN_POSITIONAL, {"start", "stop", "step"}},
    {"dict", dict_builtin, 0, BUILTIN_VARIADIC, {NULL}},
    {"namespace", namespace, 0, BUILTIN_VARIADIC, {NULL}},
    {"joiner", joiner, 0, 0, {"sep"}},
    {"cycler", cycler, 0, BUILTIN_VARIADIC, {NULL}},
    {NULL, NULL, 0, 0, {NULL}},
};
