/* `bulla bench`: how fast a model runs here. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/json.h"
#include "base/memory.h"
#include "cli/output.h"
#include "cli/session.h"
#include "cli/verb.h"

enum { REPETITIONS_MAX = 1000, STREAMS_MAX = 4096 };

struct bench_options {
    uint64_t threads, prefill, decode, depth, streams, repetitions;
    int json;
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

static int measure_prefill(struct bench *bench, double *speed, bulla_error *error)
{
    uint32_t count = (uint32_t)bench->chosen->prefill;
    int code = bulla_sequence_open(bench->session.engine, count - 1, &bench->sequences[0], error);
    if (code != BULLA_OK)
        return code;
    bench->pieces[0] = (bulla_piece){.sequence = bench->sequences[0], .ids = bench->ids, .count = count,
                                     .logits_from = count - 1, .logits = bench->logits};
    double start = output_clock();
    code = step(bench, 1, error);
    *speed = count / (output_clock() - start);
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
    double start = output_clock();
    if (code == BULLA_OK)
        code = decode(bench, error);
    *speed = (double)(bench->chosen->decode * bench->chosen->streams) / (output_clock() - start);
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

/* Measures once for warmth and then `repetitions` times; sorts what was found. */
static int measure(struct bench *bench, int (*once)(struct bench *, double *, bulla_error *), double *speeds,
                   bulla_error *error)
{
    uint64_t count = bench->chosen->repetitions;
    int code = once(bench, &speeds[0], error);
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

static void print_json(const struct bench *bench, const char *path)
{
    const struct bench_options *chosen = bench->chosen;
    struct buffer name = {0};
    json_write_string(&name, path, strlen(path));
    printf("{\"model\":%s,\"isa\":\"%s\",\"threads\":%u,\"load_seconds\":%.3f",
           name.error.code == BULLA_OK ? (const char *)name.data : "null", bulla_engine_isa(bench->session.engine),
           bulla_engine_threads(bench->session.engine), bench->session.load_seconds);
    printf(",\"prefill\":%llu,\"decode\":%llu,\"depth\":%llu,\"streams\":%llu,\"repetitions\":%llu",
           (unsigned long long)chosen->prefill, (unsigned long long)chosen->decode, (unsigned long long)chosen->depth,
           (unsigned long long)chosen->streams, (unsigned long long)chosen->repetitions);
    print_speeds("prefill", bench->prefill, chosen->prefill, chosen->repetitions);
    print_speeds("decode", bench->decode, chosen->decode, chosen->repetitions);
    printf("}\n");
    buffer_free(&name);
}

static void print_lines(const struct bench *bench)
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
}

static int measure_all(struct bench *bench, bulla_error *error)
{
    const bulla_program *program = bulla_model_program(bench->session.model);
    bench->vocabulary = program->vocabulary;
    int code = check_lengths(bench->chosen, program->context, error);
    if (code == BULLA_OK)
        code = allocate(bench, error);
    if (code == BULLA_OK && bench->chosen->prefill)
        code = measure(bench, measure_prefill, bench->prefill, error);
    if (code == BULLA_OK && bench->chosen->decode)
        code = measure(bench, measure_decode, bench->decode, error);
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
    bulla_engine_options engine = {.threads = (unsigned)chosen.threads};
    engine.pages = larger(pages(chosen.prefill), chosen.streams * pages(chosen.depth + chosen.decode));
    code = session_open(argv[0], &engine, &bench.session, error);
    if (code == BULLA_OK)
        code = measure_all(&bench, error);
    if (code == BULLA_OK && chosen.json)
        print_json(&bench, argv[0]);
    else if (code == BULLA_OK)
        print_lines(&bench);
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
               "evaluating a prompt (prefill), and one token after another (decode).",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .minimum_arguments = 1,
    .maximum_arguments = 1,
    .run = run,
};
