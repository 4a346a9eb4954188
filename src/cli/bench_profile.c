#include "cli/bench_profile.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "cli/output.h"

enum { NAME_WIDTH = 44 };

int bench_phase_open(bulla_engine *engine, uint64_t rows, struct bench_phase *phase, bulla_error *error)
{
    uint32_t together = rows < UINT32_MAX ? (uint32_t)rows : UINT32_MAX;
    int code = bounds_measure_multiplying(engine, together, &phase->most_multiply_adds, error);
    return code == BULLA_OK ? profile_open(engine, &phase->profile, error) : code;
}

void bench_phase_close(struct bench_phase *phase)
{
    profile_close(phase->profile);
    memset(phase, 0, sizeof *phase);
}

/* What a stage would take at best, and what of. */
struct bound {
    double seconds;
    const char *by; /* NULL where it neither reads from memory nor multiplies */
};

static struct bound bound_of(const struct profile_stage *stage, const struct bounds *bounds,
                             const struct bench_phase *phase)
{
    double fastest = bounds->weights_per_second > bounds->large_per_second ? bounds->weights_per_second
                                                                           : bounds->large_per_second;
    double reading = (double)(stage->weight_bytes + stage->cache_bytes) / fastest;
    double multiplying = (double)stage->multiply_adds / phase->most_multiply_adds;
    if (reading >= multiplying)
        return (struct bound){reading, reading > 0 ? "reading" : NULL};
    return (struct bound){multiplying, "multiplying"};
}

static double stage_seconds(const struct profile_stage *stage)
{
    return 1e-9 * (double)stage->nanoseconds;
}

/* Time that no stage has: handing work to threads, setting up batches. */
static double seconds_between(const struct bench_phase *phase)
{
    uint32_t count;
    const struct profile_stage *stages = profile_stages(phase->profile, &count);
    double left = phase->seconds;
    for (uint32_t i = 0; i < count; i++)
        left -= stage_seconds(&stages[i]);
    return left;
}

/* --- for people --- */

static int compare_times(const void *a, const void *b)
{
    const struct profile_stage *const *x = a, *const *y = b;
    return ((*x)->nanoseconds < (*y)->nanoseconds) - ((*x)->nanoseconds > (*y)->nanoseconds);
}

static void append_stage(struct buffer *out, const struct profile_stage *stage, const struct bounds *bounds,
                         const struct bench_phase *phase)
{
    double seconds = stage_seconds(stage), microseconds = 1e6 / (double)phase->tokens;
    struct bound bound = bound_of(stage, bounds, phase);
    buffer_append_format(out, "  %-*s %10.1f %6.1f %% %8.1f %10.1f", NAME_WIDTH, stage->name, seconds * microseconds,
                         100 * seconds / phase->seconds,
                         1e-9 * (double)(stage->weight_bytes + stage->cache_bytes) / seconds,
                         1e-9 * (double)stage->multiply_adds / seconds);
    if (bound.by)
        buffer_append_format(out, " %10.1f %-11s %6.2f", bound.seconds * microseconds, bound.by,
                             seconds / bound.seconds);
    buffer_append_text(out, "\n");
}

void bench_profile_table(struct buffer *out, const char *name, const struct bounds *bounds,
                         const struct bench_phase *phase)
{
    char large[OUTPUT_NUMBER], weights[OUTPUT_NUMBER];
    uint32_t count, used = 0;
    const struct profile_stage *stages = profile_stages(phase->profile, &count);
    const struct profile_stage **sorted = memory_alloc(count, sizeof *sorted, &out->error);
    if (!sorted)
        return;
    for (uint32_t i = 0; i < count; i++)
        if (stages[i].calls)
            sorted[used++] = &stages[i];
    qsort(sorted, used, sizeof *sorted, compare_times);
    double between = seconds_between(phase), microseconds = 1e6 / (double)phase->tokens;
    buffer_append_format(out, "\n%s, %.1f us a token; at best here: %.1f GB/s over %s of weights, %.1f GB/s over %s, "
                              "%.1f Gmul/s\n", name, phase->seconds * microseconds, 1e-9 * bounds->weights_per_second,
                         output_bytes(bounds->weight_bytes, weights), 1e-9 * bounds->large_per_second,
                         output_bytes(bounds->large_bytes, large), 1e-9 * phase->most_multiply_adds);
    buffer_append_format(out, "  %-*s %10s %8s %8s %10s %10s %-11s %6s\n", NAME_WIDTH, "stage", "us/token", "share",
                         "GB/s", "Gmul/s", "at best us", "bound by", "times");
    for (uint32_t i = 0; i < used; i++)
        append_stage(out, sorted[i], bounds, phase);
    buffer_append_format(out, "  %-*s %10.1f %6.1f %%\n", NAME_WIDTH, "between stages", between * microseconds,
                         100 * between / phase->seconds);
    memory_free(sorted);
}

/* --- JSON --- */

static void append_phase_json(struct buffer *out, const char *name, const struct bounds *bounds,
                              const struct bench_phase *phase)
{
    buffer_append_format(out, ",\"%s\":", name);
    if (!phase->profile) {
        buffer_append_text(out, "null");
        return;
    }
    uint32_t count;
    const struct profile_stage *stages = profile_stages(phase->profile, &count);
    buffer_append_format(out, "{\"tokens\":%llu,\"seconds\":%.9f,\"multiply_adds_per_second_at_best\":%.0f,"
                              "\"between_seconds\":%.9f,\"stages\":[", (unsigned long long)phase->tokens,
                         phase->seconds, phase->most_multiply_adds, seconds_between(phase));
    for (uint32_t i = 0; i < count; i++) {
        const struct profile_stage *stage = &stages[i];
        struct bound bound = bound_of(stage, bounds, phase);
        buffer_append_text(out, i ? ",{\"name\":" : "{\"name\":");
        json_write_string(out, stage->name, strlen(stage->name));
        buffer_append_format(out, ",\"calls\":%llu,\"seconds\":%.9f,\"weight_bytes\":%llu,\"cache_bytes\":%llu,"
                                  "\"multiply_adds\":%llu,\"seconds_at_best\":%.9f,\"bound_by\":",
                             (unsigned long long)stage->calls, stage_seconds(stage),
                             (unsigned long long)stage->weight_bytes, (unsigned long long)stage->cache_bytes,
                             (unsigned long long)stage->multiply_adds, bound.seconds);
        buffer_append_format(out, bound.by ? "\"%s\"}" : "null}", bound.by);
    }
    buffer_append_text(out, "]}");
}

void bench_profile_json(struct buffer *out, const struct bounds *bounds, const struct bench_phase *prefill,
                        const struct bench_phase *decode)
{
    buffer_append_format(out, "{\"weight_bytes\":%llu,\"weights_bytes_per_second\":%.0f,\"large_bytes\":%llu,"
                              "\"large_bytes_per_second\":%.0f", (unsigned long long)bounds->weight_bytes,
                         bounds->weights_per_second, (unsigned long long)bounds->large_bytes, bounds->large_per_second);
    append_phase_json(out, "prefill", bounds, prefill);
    append_phase_json(out, "decode", bounds, decode);
    buffer_append_text(out, "}");
}
