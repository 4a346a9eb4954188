/* `bulla bench`: how fast a model runs here. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/memory.h"
#include "cli/bench_profile.h"
#include "cli/output.h"
#include "cli/session.h"
#include "cli/verb.h"

enum { REPETITIONS_MAX = 1000, STREAMS_MAX = 4096 };

struct bench_options {
    uint64_t threads, prefill, decode, depth, streams, repetitions;
    int profile, json;
};

static const struct option_spec options[] = {
    {"threads", 0, OPTION_INTEGER, offsetof(struct bench_options, threads), "N",
     "threads that compute; default 0: one a core", 0, 256},
    {"prefill", 'p', OPTION_INTEGER, offsetof(struct bench_options, prefill), "P",
     "length of the prompt whose evaluation is measured; default 512; 0: not measured", 0, UINT32_MAX},
    {"decode", 'n', OPTION_INTEGER, offsetof(struct bench_options, decode), "D",
     "tokens evaluated one after another; default 128; 0: not measured", 0, UINT32_MAX},
    {"depth", 'd', OPTION_INTEGER, offsetof(struct bench_options, depth), "N",
     "tokens that stand before those decoded, not measured; default 0", 0, UINT32_MAX},
    {"streams", 0, OPTION_INTEGER, offsetof(struct bench_options, streams), "S",
     "sequences decoded together; the speed is of all of them; default 1", 1, STREAMS_MAX},
    {"repetitions", 'r', OPTION_INTEGER, offsetof(struct bench_options, repetitions), "R",
     "measurements, of which the median is given; default 5", 1, REPETITIONS_MAX},
    {"profile", 0, OPTION_FLAG, offsetof(struct bench_options, profile), NULL,
     "say what each stage took, and what it would take at best on this machine", 0, 0},
    {"json", 0, OPTION_FLAG, offsetof(struct bench_options, json), NULL, "print JSON", 0, 0},
};

struct bench {
    const struct bench_options *chosen;
    struct session session;
    uint32_t vocabulary;
    uint32_t *ids;              /* [longest run of tokens] */
    int32_t *logits;            /* [streams][vocabulary] */
    bulla_sequence **sequences; /* [streams] */
    bulla_piece *pieces;        /* [streams] */
    double *prefill, *decode;   /* tokens a second, [repetitions] */
    struct bounds bounds;       /* with --profile */
    struct bench_phase prefill_phase, decode_phase;
};

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Tokens at random, always the same: how fast they go does not depend on which they are. */
static void fill_ids(uint32_t *ids, uint64_t count, uint32_t vocabulary)
{
    uint64_t state = 1;
    for (uint64_t i = 0; i < count; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u; /* Knuth's MMIX generator */
        ids[i] = (uint32_t)((state >> 33) % vocabulary);
    }
}

static int step(struct bench *bench, size_t count, bulla_error *error)
{
    int code = bulla_engine_step(bench->session.engine, bench->pieces, count, error);
    for (size_t i = 0; i < count && code == BULLA_OK; i++)
        if (bench->pieces[i].code != BULLA_OK)
            code = bulla_fail(error, bench->pieces[i].code,
                              "sequence %zu: operation %u left its bound at position %llu", i,
                              bench->pieces[i].range_operation, (unsigned long long)bench->pieces[i].range_position);
    return code;
}

/* Starts the clock, and counts into the phase's profile where there is one. */
static double begin(struct bench *bench, const struct bench_phase *phase)
{
    profile_attach(bench->session.engine, phase->profile);
    return clock_seconds();
}

/* Tokens a second since `start`. */
static double end(struct bench *bench, struct bench_phase *phase, double start, uint64_t tokens)
{
    double seconds = clock_seconds() - start;
    profile_attach(bench->session.engine, NULL);
    if (phase->profile) {
        phase->seconds += seconds;
        phase->tokens += tokens;
    }
    return (double)tokens / seconds;
}

static int measure_prefill(struct bench *bench, double *speed, bulla_error *error)
{
    uint32_t count = (uint32_t)bench->chosen->prefill;
    int code = bulla_sequence_open(bench->session.engine, count - 1, &bench->sequences[0], error);
    if (code != BULLA_OK)
        return code;
    bench->pieces[0] = (bulla_piece){.sequence = bench->sequences[0], .ids = bench->ids, .count = count,
                                     .logits_from = count - 1, .logits = bench->logits};
    double start = begin(bench, &bench->prefill_phase);
    code = step(bench, 1, error);
    *speed = end(bench, &bench->prefill_phase, start, count);
    bulla_sequence_close(bench->sequences[0]);
    bench->sequences[0] = NULL;
    return code;
}

/* Opens the streams with what stands before the decoded tokens. */
static int open_streams(struct bench *bench, bulla_error *error)
{
    uint32_t depth = (uint32_t)bench->chosen->depth;
    int code = BULLA_OK;
    for (uint64_t i = 0; i < bench->chosen->streams && code == BULLA_OK; i++) {
        code = bulla_sequence_open(bench->session.engine, depth, &bench->sequences[i], error);
        bench->pieces[i] = (bulla_piece){.sequence = bench->sequences[i], .ids = bench->ids, .count = depth,
                                         .logits_from = depth};
    }
    return code == BULLA_OK && depth ? step(bench, bench->chosen->streams, error) : code;
}

static int decode(struct bench *bench, bulla_error *error)
{
    int code = BULLA_OK;
    for (uint64_t t = 0; t < bench->chosen->decode && code == BULLA_OK; t++) {
        for (uint64_t i = 0; i < bench->chosen->streams; i++)
            bench->pieces[i] = (bulla_piece){.sequence = bench->sequences[i], .ids = &bench->ids[t], .count = 1,
                                             .logits = bench->logits + i * bench->vocabulary};
        code = step(bench, bench->chosen->streams, error);
    }
    return code;
}

static int measure_decode(struct bench *bench, double *speed, bulla_error *error)
{
    int code = open_streams(bench, error);
    double start = begin(bench, &bench->decode_phase);
    if (code == BULLA_OK)
        code = decode(bench, error);
    *speed = end(bench, &bench->decode_phase, start, bench->chosen->decode * bench->chosen->streams);
    for (uint64_t i = 0; i < bench->chosen->streams; i++) {
        bulla_sequence_close(bench->sequences[i]);
        bench->sequences[i] = NULL;
    }
    return code;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Measures once for warmth and then `repetitions` times; sorts what was found. With --profile these are
 * counted into `phase`, of which the engine sees `rows` positions together. */
static int measure(struct bench *bench, int (*once)(struct bench *, double *, bulla_error *), double *speeds,
                   struct bench_phase *phase, uint64_t rows, bulla_error *error)
{
    uint64_t count = bench->chosen->repetitions;
    int code = once(bench, &speeds[0], error);
    if (code == BULLA_OK && bench->chosen->profile)
        code = bench_phase_open(bench->session.engine, rows, phase, error);
    for (uint64_t i = 0; i < count && code == BULLA_OK; i++)
        code = once(bench, &speeds[i], error);
    qsort(speeds, count, sizeof *speeds, compare);
    return code;
}

static double median(const double *sorted, uint64_t count)
{
    return (sorted[(count - 1) / 2] + sorted[count / 2]) / 2;
}

static int check_lengths(const struct bench_options *chosen, uint32_t context, bulla_error *error)
{
    uint64_t most = larger(chosen->prefill, chosen->depth + chosen->decode);
    if (most > context)
        return bulla_fail(error, BULLA_E_LIMIT, "%llu tokens do not fit the model's context of %u",
                          (unsigned long long)most, context);
    return BULLA_OK;
}

static uint64_t pages(uint64_t positions)
{
    return (positions + BULLA_PAGE_POSITIONS - 1) / BULLA_PAGE_POSITIONS;
}

static int allocate(struct bench *bench, bulla_error *error)
{
    const struct bench_options *chosen = bench->chosen;
    uint64_t most = larger(chosen->prefill, larger(chosen->depth, chosen->decode));
    bench->ids = memory_alloc(most, sizeof *bench->ids, error);
    bench->logits = memory_alloc(chosen->streams * bench->vocabulary, sizeof *bench->logits, error);
    bench->sequences = memory_alloc(chosen->streams, sizeof *bench->sequences, error);
    bench->pieces = memory_alloc(chosen->streams, sizeof *bench->pieces, error);
    bench->prefill = memory_alloc(chosen->repetitions, sizeof *bench->prefill, error);
    bench->decode = memory_alloc(chosen->repetitions, sizeof *bench->decode, error);
    if (!bench->ids || !bench->logits || !bench->sequences || !bench->pieces || !bench->prefill || !bench->decode)
        return BULLA_E_MEMORY;
    fill_ids(bench->ids, most, bench->vocabulary);
    return BULLA_OK;
}

static void print_speeds(const char *name, const double *speeds, uint64_t tokens, uint64_t repetitions)
{
    if (tokens == 0) {
        printf(",\"%s_tokens_per_second\":null,\"%s_range\":null", name, name);
        return;
    }
    printf(",\"%s_tokens_per_second\":%.2f,\"%s_range\":[%.2f,%.2f]", name, median(speeds, repetitions), name, speeds[0],
           speeds[repetitions - 1]);
}

static int print_json(const struct bench *bench, const char *path, bulla_error *error)
{
    const struct bench_options *chosen = bench->chosen;
    struct buffer name = {0}, profile = {0};
    json_write_string(&name, path, strlen(path));
    if (chosen->profile)
        bench_profile_json(&profile, &bench->bounds, &bench->prefill_phase, &bench->decode_phase);
    if (name.error.code != BULLA_OK || profile.error.code != BULLA_OK) {
        buffer_free(&name);
        buffer_free(&profile);
        return bulla_fail(error, BULLA_E_MEMORY, "out of memory for what was measured");
    }
    printf("{\"model\":%s,\"isa\":\"%s\",\"threads\":%u,\"load_seconds\":%.3f", (const char *)name.data,
           bulla_engine_isa(bench->session.engine),
           bulla_engine_threads(bench->session.engine), bench->session.load_seconds);
    printf(",\"prefill\":%llu,\"decode\":%llu,\"depth\":%llu,\"streams\":%llu,\"repetitions\":%llu",
           (unsigned long long)chosen->prefill, (unsigned long long)chosen->decode, (unsigned long long)chosen->depth,
           (unsigned long long)chosen->streams, (unsigned long long)chosen->repetitions);
    print_speeds("prefill", bench->prefill, chosen->prefill, chosen->repetitions);
    print_speeds("decode", bench->decode, chosen->decode, chosen->repetitions);
    if (chosen->profile)
        printf(",\"profile\":%s", (const char *)profile.data);
    printf("}\n");
    buffer_free(&name);
    buffer_free(&profile);
    return BULLA_OK;
}

static int print_tables(const struct bench *bench, bulla_error *error)
{
    struct buffer out = {0};
    if (bench->prefill_phase.profile)
        bench_profile_table(&out, "prefill", &bench->bounds, &bench->prefill_phase);
    if (bench->decode_phase.profile)
        bench_profile_table(&out, "decode", &bench->bounds, &bench->decode_phase);
    int code = out.error.code == BULLA_OK ? BULLA_OK : bulla_fail(error, BULLA_E_MEMORY, "%s", out.error.text);
    if (code == BULLA_OK)
        output_text(stdout, (const char *)out.data, out.length);
    buffer_free(&out);
    return code;
}

static int print_lines(const struct bench *bench, bulla_error *error)
{
    const struct bench_options *chosen = bench->chosen;
    uint64_t last = chosen->repetitions - 1;
    printf("kernels  %s, %u threads\n", bulla_engine_isa(bench->session.engine),
           bulla_engine_threads(bench->session.engine));
    printf("load     %.2f s\n", bench->session.load_seconds);
    if (chosen->prefill)
        printf("prefill  %.1f tokens/s (%.1f to %.1f; %llu tokens)\n", median(bench->prefill, last + 1),
               bench->prefill[0], bench->prefill[last], (unsigned long long)chosen->prefill);
    if (chosen->decode)
        printf("decode   %.1f tokens/s (%.1f to %.1f; %llu streams of %llu tokens after %llu)\n",
               median(bench->decode, last + 1), bench->decode[0], bench->decode[last],
               (unsigned long long)chosen->streams, (unsigned long long)chosen->decode,
               (unsigned long long)chosen->depth);
    return chosen->profile ? print_tables(bench, error) : BULLA_OK;
}

static int measure_all(struct bench *bench, bulla_error *error)
{
    const bulla_program *program = bulla_model_program(bench->session.model);
    bench->vocabulary = program->vocabulary;
    int code = check_lengths(bench->chosen, program->context, error);
    if (code == BULLA_OK)
        code = allocate(bench, error);
    if (code == BULLA_OK && bench->chosen->profile)
        code = bounds_measure_reading(bench->session.engine, &bench->bounds, error);
    if (code == BULLA_OK && bench->chosen->prefill)
        code = measure(bench, measure_prefill, bench->prefill, &bench->prefill_phase, bench->chosen->prefill, error);
    if (code == BULLA_OK && bench->chosen->decode)
        code = measure(bench, measure_decode, bench->decode, &bench->decode_phase, bench->chosen->streams, error);
    return code;
}

static int run(const struct verb *verb, int argc, char **argv, bulla_error *error)
{
    struct bench_options chosen = {.prefill = 512, .decode = 128, .streams = 1, .repetitions = 5};
    struct bench bench = {.chosen = &chosen};
    int others;
    int code = verb_parse(verb, argc, argv, &chosen, &others, error);
    if (code != BULLA_OK)
        return code;
    if (chosen.profile && chosen.prefill == 0 && chosen.decode == 0)
        return bulla_fail(error, BULLA_E_USAGE, "--profile: --prefill and --decode are both 0, expected one to measure");
    bulla_engine_options engine = {.threads = (unsigned)chosen.threads};
    engine.pages = larger(pages(chosen.prefill), chosen.streams * pages(chosen.depth + chosen.decode));
    code = session_open(argv[0], &engine, &bench.session, error);
    if (code == BULLA_OK)
        code = measure_all(&bench, error);
    if (code == BULLA_OK)
        code = chosen.json ? print_json(&bench, argv[0], error) : print_lines(&bench, error);
    bench_phase_close(&bench.prefill_phase);
    bench_phase_close(&bench.decode_phase);
    session_close(&bench.session);
    memory_free(bench.ids);
    memory_free(bench.logits);
    memory_free(bench.sequences);
    memory_free(bench.pieces);
    memory_free(bench.prefill);
    memory_free(bench.decode);
    return code;
}

const struct verb verb_bench = {
    .name = "bench",
    .summary = "measure tokens a second",
    .arguments = "FILE",
    .details = "FILE as for `bulla run`. Measures the engine alone, without tokenizer and sampler, on random tokens:\n"
               "evaluating a prompt (prefill), and one token after another (decode). With --profile it first\n"
               "measures how fast this machine reads memory (1 GiB of it) and multiplies.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .minimum_arguments = 1,
    .maximum_arguments = 1,
    .run = run,
};
