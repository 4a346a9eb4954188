#include "ops/metrics.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/decimal.h"
#include "base/memory.h"

/* A series: its label values, and what it has counted. */
struct series {
    char values[METRIC_MOST_LABELS][METRIC_LABEL_BYTES];
    double value;      /* counter, gauge; histogram: the sum */
    uint64_t *buckets; /* histogram: [bound_count + 1], not accumulated */
};

struct family {
    const struct metric_family *spec;
    struct series *series; /* [most_series + 1] */
    uint64_t *buckets;     /* theirs */
    size_t count;
};

struct metrics {
    struct family *families;
    size_t count;
};

static size_t label_count(const struct metric_family *spec)
{
    size_t count = 0;
    while (count < METRIC_MOST_LABELS && spec->labels[count])
        count++;
    return count;
}

/* --- Memory --- */

static int open_family(const struct metric_family *spec, struct family *family, bulla_error *error)
{
    size_t room = spec->most_series + 1;
    family->spec = spec;
    family->series = memory_alloc(room, sizeof *family->series, error);
    if (!family->series)
        return BULLA_E_MEMORY;
    if (spec->type == METRIC_HISTOGRAM) {
        family->buckets = memory_alloc(room * (spec->bound_count + 1), sizeof *family->buckets, error);
        if (!family->buckets)
            return BULLA_E_MEMORY;
        for (size_t i = 0; i < room; i++)
            family->series[i].buckets = family->buckets + i * (spec->bound_count + 1);
    }
    family->count = label_count(spec) == 0;
    return BULLA_OK;
}

int metrics_open(const struct metric_family *families, size_t count, struct metrics **metrics, bulla_error *error)
{
    int code = BULLA_OK;
    *metrics = memory_alloc(1, sizeof **metrics, error);
    if (!*metrics)
        return BULLA_E_MEMORY;
    (*metrics)->families = memory_alloc(count, sizeof *(*metrics)->families, error);
    if ((*metrics)->families)
        (*metrics)->count = count;
    else
        code = BULLA_E_MEMORY;
    for (size_t i = 0; code == BULLA_OK && i < count; i++)
        code = open_family(&families[i], &(*metrics)->families[i], error);
    if (code != BULLA_OK) {
        metrics_close(*metrics);
        *metrics = NULL;
    }
    return code;
}

void metrics_close(struct metrics *metrics)
{
    if (!metrics)
        return;
    for (size_t i = 0; i < metrics->count; i++) {
        memory_free(metrics->families[i].series);
        memory_free(metrics->families[i].buckets);
    }
    memory_free(metrics->families);
    memory_free(metrics);
}

/* --- Events --- */

/* Copies a label's value, cut between characters where it is too long. */
static void copy_value(char out[METRIC_LABEL_BYTES], const char *value)
{
    size_t length = strlen(value);
    if (length >= METRIC_LABEL_BYTES) {
        length = METRIC_LABEL_BYTES - 1;
        while (length > 0 && ((unsigned char)value[length] & 0xC0) == 0x80)
            length--;
    }
    memcpy(out, value, length);
    out[length] = 0;
}

static struct series *find_series(const struct family *family, char values[METRIC_MOST_LABELS][METRIC_LABEL_BYTES])
{
    for (size_t i = 0; i < family->count; i++) {
        struct series *series = &family->series[i];
        if (strcmp(series->values[0], values[0]) == 0 && strcmp(series->values[1], values[1]) == 0)
            return series;
    }
    return NULL;
}

/* The series with these label values, made where it is not there; the last of the family where it is full. */
static struct series *take_series(struct family *family, const char *first, const char *second)
{
    const char *given[METRIC_MOST_LABELS] = {first ? first : "", second ? second : ""};
    char values[METRIC_MOST_LABELS][METRIC_LABEL_BYTES] = {{0}};
    size_t labels = label_count(family->spec);
    for (size_t i = 0; i < labels; i++)
        copy_value(values[i], given[i]);
    struct series *series = find_series(family, values);
    if (series)
        return series;
    if (family->count >= family->spec->most_series) {
        for (size_t i = 0; i < labels; i++)
            copy_value(values[i], "other");
        series = find_series(family, values);
        if (series)
            return series;
    }
    series = &family->series[family->count++];
    memcpy(series->values, values, sizeof values);
    return series;
}

void metrics_add(struct metrics *metrics, size_t family, const char *first, const char *second, double amount)
{
    take_series(&metrics->families[family], first, second)->value += amount;
}

void metrics_set(struct metrics *metrics, size_t family, const char *first, const char *second, double value)
{
    take_series(&metrics->families[family], first, second)->value = value;
}

void metrics_observe(struct metrics *metrics, size_t family, const char *first, const char *second, double value,
                     uint64_t times)
{
    struct series *series = take_series(&metrics->families[family], first, second);
    const struct metric_family *spec = metrics->families[family].spec;
    size_t bucket = 0;
    while (bucket < spec->bound_count && value > spec->bounds[bucket])
        bucket++;
    series->buckets[bucket] += times;
    series->value += value * (double)times;
}

void metrics_forget(struct metrics *metrics, size_t family)
{
    struct family *one = &metrics->families[family];
    if (label_count(one->spec) == 0)
        return;
    for (size_t i = 0; i < one->count; i++) {
        one->series[i].value = 0;
        if (one->buckets)
            memset(one->series[i].buckets, 0, (one->spec->bound_count + 1) * sizeof *one->buckets);
    }
    one->count = 0;
}

double metrics_value(const struct metrics *metrics, size_t family, const char *first, const char *second)
{
    char values[METRIC_MOST_LABELS][METRIC_LABEL_BYTES] = {{0}};
    copy_value(values[0], first ? first : "");
    copy_value(values[1], second ? second : "");
    const struct series *series = find_series(&metrics->families[family], values);
    return series ? series->value : 0;
}

/* --- Text --- */

/* A label's value or, without `quotes`, a help text: backslash and newline are escaped. */
static void write_escaped(struct buffer *out, const char *text, int quotes)
{
    for (; *text; text++) {
        if (*text == '\n')
            buffer_append_text(out, "\\n");
        else if (*text == '\\' || (*text == '"' && quotes))
            buffer_append_format(out, "\\%c", *text);
        else
            buffer_append_byte(out, (uint8_t)*text);
    }
}

/* As short as reads back the same, in any locale: 17, 0.25, 1.5e-7. */
static void write_number(struct buffer *out, double value)
{
    char digits[18];
    int exponent;
    if (isnan(value)) {
        buffer_append_text(out, "NaN");
    } else if (isinf(value)) {
        buffer_append_text(out, value < 0 ? "-Inf" : "+Inf");
    } else if (value == floor(value) && fabs(value) < 9007199254740992.0) {
        buffer_append_format(out, "%" PRId64, (int64_t)value);
    } else {
        int count = decimal_shortest(value, digits, &exponent);
        if (value < 0)
            buffer_append_byte(out, '-');
        if (exponent <= 0 && exponent > -6) {
            buffer_append_text(out, "0.");
            for (int i = exponent; i < 0; i++)
                buffer_append_byte(out, '0');
            buffer_append_text(out, digits);
        } else if (exponent > 0 && exponent < count) {
            buffer_append_format(out, "%.*s.%s", exponent, digits, digits + exponent);
        } else {
            buffer_append_format(out, "%c%s%se%d", digits[0], count > 1 ? "." : "", digits + 1, exponent - 1);
        }
    }
}

/* {a="x",b="y"}, with `bound` as le where it is not NULL. */
static void write_labels(struct buffer *out, const struct metric_family *spec, const struct series *series,
                         const double *bound)
{
    size_t labels = label_count(spec);
    if (labels == 0 && !bound)
        return;
    for (size_t i = 0; i < labels; i++) {
        buffer_append_format(out, "%c%s=\"", i == 0 ? '{' : ',', spec->labels[i]);
        write_escaped(out, series->values[i], 1);
        buffer_append_byte(out, '"');
    }
    if (bound) {
        buffer_append_format(out, "%cle=\"", labels == 0 ? '{' : ',');
        write_number(out, *bound);
        buffer_append_byte(out, '"');
    }
    buffer_append_byte(out, '}');
}

static void write_histogram(struct buffer *out, const struct metric_family *spec, const struct series *series)
{
    uint64_t total = 0;
    for (size_t i = 0; i <= spec->bound_count; i++) {
        double bound = i < spec->bound_count ? spec->bounds[i] : (double)INFINITY;
        total += series->buckets[i];
        buffer_append_format(out, "%s_bucket", spec->name);
        write_labels(out, spec, series, &bound);
        buffer_append_format(out, " %" PRIu64 "\n", total);
    }
    buffer_append_format(out, "%s_sum", spec->name);
    write_labels(out, spec, series, NULL);
    buffer_append_byte(out, ' ');
    write_number(out, series->value);
    buffer_append_format(out, "\n%s_count", spec->name);
    write_labels(out, spec, series, NULL);
    buffer_append_format(out, " %" PRIu64 "\n", total);
}

static void write_family(struct buffer *out, const struct family *family)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    const struct metric_family *spec = family->spec;
    buffer_append_format(out, "# HELP %s ", spec->name);
    write_escaped(out, spec->help, 0);
    buffer_append_format(out, "\n# TYPE %s %s\n", spec->name, types[spec->type]);
    for (size_t i = 0; i < family->count; i++) {
        if (spec->type == METRIC_HISTOGRAM) {
            write_histogram(out, spec, &family->series[i]);
            continue;
        }
        buffer_append_text(out, spec->name);
        write_labels(out, spec, &family->series[i], NULL);
        buffer_append_byte(out, ' ');
        write_number(out, family->series[i].value);
        buffer_append_byte(out, '\n');
    }
}

int metrics_write(const struct metrics *metrics, struct buffer *out, bulla_error *error)
{
    for (size_t i = 0; i < metrics->count; i++)
        if (metrics->families[i].count > 0)
            write_family(out, &metrics->families[i]);
    return out->error.code == BULLA_OK ? BULLA_OK : bulla_fail(error, out->error.code, "%s", out->error.text);
}
