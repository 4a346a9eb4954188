/* Counters, gauges and histograms, written in Prometheus' text format 0.0.4.
 *
 * A family has a name and up to METRIC_MOST_LABELS labels; each combination of their values is a series. All memory is
 * taken at the start: a family holds at most `most_series` of them, and what comes beyond is counted in one more,
 * whose label values are all "other". So nothing here fails or grows while requests are served. One thread. */
#ifndef OPS_METRICS_H
#define OPS_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "bulla/error.h"

enum { METRIC_MOST_LABELS = 2, METRIC_LABEL_BYTES = 128 /* of a value; longer ones are cut at a character */ };

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric_family {
    const char *name, *help;
    enum metric_type type;
    const char *labels[METRIC_MOST_LABELS]; /* names; NULL where there are fewer */
    const double *bounds;                   /* METRIC_HISTOGRAM: upper bounds of the buckets but the last, ascending */
    size_t bound_count;
    size_t most_series; /* at least 1 */
};

struct metrics;

/* `families` must outlive it; a family is named by its number there. */
int metrics_open(const struct metric_family *families, size_t count, struct metrics **metrics, bulla_error *error);
void metrics_close(struct metrics *metrics); /* NULL is fine */

/* `first` and `second` are label values, NULL where the family has no such label. */
void metrics_add(struct metrics *metrics, size_t family, const char *first, const char *second, double amount);
void metrics_set(struct metrics *metrics, size_t family, const char *first, const char *second, double value);
/* `times` observations of `value`. */
void metrics_observe(struct metrics *metrics, size_t family, const char *first, const char *second, double value,
                     uint64_t times);
/* Removes series of the family, of a gauge for things that may be gone. */
void metrics_forget(struct metrics *metrics, size_t family);
/* What a counter or gauge is at; 0 for a series that is not there. */
double metrics_value(const struct metrics *metrics, size_t family, const char *first, const char *second);

/* Appends all families. A family without labels is written as 0 before its first event, others when they have series. */
int metrics_write(const struct metrics *metrics, struct buffer *out, bulla_error *error);

#endif
