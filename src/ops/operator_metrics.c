/* The metrics that a server shows: vLLM's names and bucket bounds where the meaning is the same (its
 * v1/metrics/loggers.py), so that boards made for it work; bulla_ for the rest. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "ops/metrics.h"
#include "ops/operator.h"
#include "serve/http.h"

enum { MOST_MODELS = CONFIG_MOST_MODELS, MOST_ROUTES = 256 };

static const double first_token_bounds[] = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,  0.25,  0.5,   0.75,
                                            1,     2.5,   5,    7.5,  10,   20,   40,   80,   160,   640,   2560};
static const double next_token_bounds[] = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5,
                                           0.75, 1,     2.5,  5,     7.5, 10,   20,  40,  80};
static const double latency_bounds[] = {0.3, 0.5, 0.8, 1,  1.5, 2,   2.5, 5,   10,  15,  20,
                                        30,  40,  50,  60, 120, 240, 480, 960, 1920, 7680};
static const double token_bounds[] = {1,    2,    5,     10,    20,    50,     100,    200,    500,    1000,
                                      2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000, 1000000};
static const double choice_bounds[] = {1, 2, 5, 10, 20};

enum family_number {
    RUNNING,
    WAITING,
    CACHE_USAGE,
    CACHE_USAGE_OLD,
    PREFIX_QUERIES,
    PREFIX_HITS,
    PREFIX_QUERIES_OLD,
    PREFIX_HITS_OLD,
    PREEMPTIONS,
    PROMPT_TOKENS,
    OUTPUT_TOKENS,
    SUCCESS,
    FIRST_TOKEN,
    NEXT_TOKEN,
    NEXT_TOKEN_OLD,
    TOKEN_MEAN,
    END_TO_END,
    QUEUE,
    PREFILL,
    DECODE,
    INFERENCE,
    REQUEST_PROMPT,
    REQUEST_OUTPUT,
    REQUEST_LARGEST,
    REQUEST_MOST,
    REQUEST_CHOICES,
    HTTP_REQUESTS,
    HTTP_CONNECTIONS,
    FRONT_SECONDS,
    MODEL_READY,
    WORKER_RESTARTS,
    LOG_DROPPED,
    BUILD_INFO,
    PROCESS_CPU,
    PROCESS_MEMORY,
    PROCESS_START,
    PROCESS_FILES,
    FAMILY_COUNT
};

#define HISTOGRAM(bounds_) METRIC_HISTOGRAM, {"model_name"}, bounds_, sizeof bounds_ / sizeof bounds_[0], MOST_MODELS
#define OF_MODEL(type_) type_, {"model_name"}, NULL, 0, MOST_MODELS
#define OF_SERVER(type_) type_, {NULL}, NULL, 0, 1

static const struct metric_family families[FAMILY_COUNT] = {
    [RUNNING] = {"vllm:num_requests_running", "Requests that are computed now.", OF_MODEL(METRIC_GAUGE)},
    [WAITING] = {"vllm:num_requests_waiting", "Requests that wait to be computed.", OF_MODEL(METRIC_GAUGE)},
    [CACHE_USAGE] = {"vllm:kv_cache_usage_perc", "Share of the key-value cache in use; 1 is all.", OF_MODEL(METRIC_GAUGE)},
    [CACHE_USAGE_OLD] = {"vllm:gpu_cache_usage_perc", "The same under its older name.", OF_MODEL(METRIC_GAUGE)},
    [PREFIX_QUERIES] = {"vllm:prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache.",
                        OF_MODEL(METRIC_COUNTER)},
    [PREFIX_HITS] = {"vllm:prefix_cache_hits_total", "Prompt tokens found in the prefix cache.", OF_MODEL(METRIC_COUNTER)},
    [PREFIX_QUERIES_OLD] = {"vllm:gpu_prefix_cache_queries_total", "The same under its older name.",
                            OF_MODEL(METRIC_COUNTER)},
    [PREFIX_HITS_OLD] = {"vllm:gpu_prefix_cache_hits_total", "The same under its older name.", OF_MODEL(METRIC_COUNTER)},
    [PREEMPTIONS] = {"vllm:num_preemptions_total", "Requests that gave their cache back and were computed again.",
                     OF_MODEL(METRIC_COUNTER)},
    [PROMPT_TOKENS] = {"vllm:prompt_tokens_total", "Prompt tokens computed or found in the cache.",
                       OF_MODEL(METRIC_COUNTER)},
    [OUTPUT_TOKENS] = {"vllm:generation_tokens_total", "Tokens generated.", OF_MODEL(METRIC_COUNTER)},
    [SUCCESS] = {"vllm:request_success_total", "Requests that a model answered, by what ended the answer.", METRIC_COUNTER,
                 {"model_name", "finished_reason"}, NULL, 0, MOST_MODELS * 6},
    [FIRST_TOKEN] = {"vllm:time_to_first_token_seconds", "Time from a request to its first token.",
                     HISTOGRAM(first_token_bounds)},
    [NEXT_TOKEN] = {"vllm:inter_token_latency_seconds", "Time between tokens of an answer.", HISTOGRAM(next_token_bounds)},
    [NEXT_TOKEN_OLD] = {"vllm:time_per_output_token_seconds", "The same under its older name.",
                        HISTOGRAM(next_token_bounds)},
    [TOKEN_MEAN] = {"vllm:request_time_per_output_token_seconds", "Mean time of an answer's tokens after the first.",
                    HISTOGRAM(next_token_bounds)},
    [END_TO_END] = {"vllm:e2e_request_latency_seconds", "Time from a request to the end of its answer.",
                    HISTOGRAM(latency_bounds)},
    [QUEUE] = {"vllm:request_queue_time_seconds", "Time that a request waited before it was computed.",
               HISTOGRAM(latency_bounds)},
    [PREFILL] = {"vllm:request_prefill_time_seconds", "Time to compute a request's prompt.", HISTOGRAM(latency_bounds)},
    [DECODE] = {"vllm:request_decode_time_seconds", "Time from an answer's first token to its end.",
                HISTOGRAM(latency_bounds)},
    [INFERENCE] = {"vllm:request_inference_time_seconds", "Time to compute a request: prefill and decode.",
                   HISTOGRAM(latency_bounds)},
    [REQUEST_PROMPT] = {"vllm:request_prompt_tokens", "Prompt tokens of a request.", HISTOGRAM(token_bounds)},
    [REQUEST_OUTPUT] = {"vllm:request_generation_tokens", "Tokens of an answer, all choices together.",
                        HISTOGRAM(token_bounds)},
    [REQUEST_LARGEST] = {"vllm:request_max_num_generation_tokens", "Tokens of a request's longest choice.",
                         HISTOGRAM(token_bounds)},
    [REQUEST_MOST] = {"vllm:request_params_max_tokens", "Limit of an answer's tokens.", HISTOGRAM(token_bounds)},
    [REQUEST_CHOICES] = {"vllm:request_params_n", "Choices that a request asks for.", HISTOGRAM(choice_bounds)},
    [HTTP_REQUESTS] = {"bulla_http_requests_total", "HTTP requests, by route and status.", METRIC_COUNTER,
                       {"route", "status"}, NULL, 0, MOST_ROUTES},
    [HTTP_CONNECTIONS] = {"bulla_http_connections", "Connections that are open.", OF_SERVER(METRIC_GAUGE)},
    [FRONT_SECONDS] = {"bulla_front_seconds_total", "Wall time of the front's event thread in the API's code.",
                       OF_SERVER(METRIC_COUNTER)},
    [MODEL_READY] = {"bulla_model_ready", "Whether a model takes requests.", OF_MODEL(METRIC_GAUGE)},
    [WORKER_RESTARTS] = {"bulla_worker_restarts_total", "Times that a model's worker was started again.",
                         OF_MODEL(METRIC_COUNTER)},
    [LOG_DROPPED] = {"bulla_log_lines_dropped_total", "Lines of the log that its sink did not take.",
                     OF_SERVER(METRIC_COUNTER)},
    [BUILD_INFO] = {"bulla_build_info", "1; the version is in the label.", METRIC_GAUGE, {"version"}, NULL, 0, 1},
    [PROCESS_CPU] = {"process_cpu_seconds_total", "CPU time of the front process.", OF_SERVER(METRIC_COUNTER)},
    [PROCESS_MEMORY] = {"process_resident_memory_bytes", "Memory of the front process.", OF_SERVER(METRIC_GAUGE)},
    [PROCESS_START] = {"process_start_time_seconds", "When the front was started, in Unix time.", OF_SERVER(METRIC_GAUGE)},
    [PROCESS_FILES] = {"process_max_fds", "Descriptors that the front process may have.", OF_SERVER(METRIC_GAUGE)},
};

int operator_metrics_open(const char *version, struct metrics **metrics, bulla_error *error)
{
    int code = metrics_open(families, FAMILY_COUNT, metrics, error);
    if (code != BULLA_OK)
        return code;
    metrics_set(*metrics, BUILD_INFO, version ? version : "", NULL, 1);
    metrics_set(*metrics, PROCESS_START, NULL, NULL, (double)time(NULL));
    return BULLA_OK;
}

/* --- Events --- */

static double seconds(uint64_t nanoseconds)
{
    return (double)nanoseconds / 1e9;
}

static uint64_t difference(uint64_t later, uint64_t earlier)
{
    return later > earlier ? later - earlier : 0;
}

void operator_metrics_first_token(struct metrics *metrics, const char *model, uint64_t nanoseconds)
{
    metrics_observe(metrics, FIRST_TOKEN, model, NULL, seconds(nanoseconds), 1);
}

void operator_metrics_next_token(struct metrics *metrics, const char *model, uint64_t nanoseconds, uint32_t tokens)
{
    if (tokens == 0)
        return;
    double each = seconds(nanoseconds) / tokens;
    metrics_observe(metrics, NEXT_TOKEN, model, NULL, each, tokens);
    metrics_observe(metrics, NEXT_TOKEN_OLD, model, NULL, each, tokens);
}

/* vLLM's reason for how a record's answer ended: stop, length, abort, error. */
static const char *finished_reason(const struct rules_record *record)
{
    if (record->status == 499)
        return "abort";
    if (record->status >= 400 || record->error_code || !record->finish)
        return "error";
    if (strcmp(record->finish, "length") == 0)
        return "length";
    return strcmp(record->finish, "range") == 0 ? "error" : "stop";
}

static void record_answer(struct metrics *metrics, const struct rules_record *record, const char *model)
{
    const struct answer_usage *usage = &record->usage;
    metrics_observe(metrics, END_TO_END, model, NULL,
                    seconds(difference(record->ended_nanoseconds, record->received_nanoseconds)), 1);
    metrics_observe(metrics, QUEUE, model, NULL, seconds(usage->queued_nanoseconds), 1);
    metrics_observe(metrics, REQUEST_PROMPT, model, NULL, (double)usage->prompt_tokens, 1);
    metrics_observe(metrics, REQUEST_OUTPUT, model, NULL, (double)usage->output_tokens, 1);
    metrics_observe(metrics, REQUEST_LARGEST, model, NULL, (double)record->most_output_tokens, 1);
    if (record->most_tokens > 0)
        metrics_observe(metrics, REQUEST_MOST, model, NULL, (double)record->most_tokens, 1);
    if (record->choices > 0)
        metrics_observe(metrics, REQUEST_CHOICES, model, NULL, record->choices, 1);
    if (usage->output_tokens == 0)
        return;
    uint64_t decode = difference(usage->total_nanoseconds, usage->first_token_nanoseconds);
    metrics_observe(metrics, PREFILL, model, NULL,
                    seconds(difference(usage->first_token_nanoseconds, usage->queued_nanoseconds)), 1);
    metrics_observe(metrics, DECODE, model, NULL, seconds(decode), 1);
    metrics_observe(metrics, INFERENCE, model, NULL,
                    seconds(difference(usage->total_nanoseconds, usage->queued_nanoseconds)), 1);
    uint64_t each = usage->output_tokens / (record->choices > 0 ? record->choices : 1);
    if (each > 1)
        metrics_observe(metrics, TOKEN_MEAN, model, NULL, seconds(decode) / (double)(each - 1), 1);
}

void operator_metrics_record(struct metrics *metrics, const struct rules_record *record, const char *model)
{
    char status[16];
    snprintf(status, sizeof status, "%d", record->status);
    metrics_add(metrics, HTTP_REQUESTS, record->route ? record->route : "", status, 1);
    metrics_add(metrics, FRONT_SECONDS, NULL, NULL, seconds(record->front_nanoseconds));
    if (!model || record->usage.prompt_tokens == 0)
        return;
    metrics_add(metrics, SUCCESS, model, finished_reason(record), 1);
    record_answer(metrics, record, model);
}

/* --- Samples --- */

/* A worker that was started again may count from 0 again. */
static double gained(uint64_t before, uint64_t now)
{
    return (double)(now >= before ? now - before : now);
}

void operator_metrics_forget_models(struct metrics *metrics)
{
    static const enum family_number gauges[] = {RUNNING, WAITING, CACHE_USAGE, CACHE_USAGE_OLD, MODEL_READY};
    for (size_t i = 0; i < sizeof gauges / sizeof gauges[0]; i++)
        metrics_forget(metrics, gauges[i]);
}

void operator_metrics_sample(struct metrics *metrics, const char *model, const struct backend_counters *before,
                             const struct backend_counters *now, int is_ready)
{
    double usage = now->pages_total ? (double)now->pages_used / (double)now->pages_total : 0;
    metrics_set(metrics, RUNNING, model, NULL, (double)now->running);
    metrics_set(metrics, WAITING, model, NULL, (double)now->waiting);
    metrics_set(metrics, CACHE_USAGE, model, NULL, usage);
    metrics_set(metrics, CACHE_USAGE_OLD, model, NULL, usage);
    metrics_set(metrics, MODEL_READY, model, NULL, is_ready != 0);
    metrics_add(metrics, PREFIX_QUERIES, model, NULL, gained(before->prefix_queried, now->prefix_queried));
    metrics_add(metrics, PREFIX_HITS, model, NULL, gained(before->prefix_reused, now->prefix_reused));
    metrics_add(metrics, PREFIX_QUERIES_OLD, model, NULL, gained(before->prefix_queried, now->prefix_queried));
    metrics_add(metrics, PREFIX_HITS_OLD, model, NULL, gained(before->prefix_reused, now->prefix_reused));
    metrics_add(metrics, PROMPT_TOKENS, model, NULL, gained(before->prompt_tokens, now->prompt_tokens));
    metrics_add(metrics, OUTPUT_TOKENS, model, NULL, gained(before->output_tokens, now->output_tokens));
    metrics_add(metrics, PREEMPTIONS, model, NULL, gained(before->preemptions, now->preemptions));
    metrics_add(metrics, WORKER_RESTARTS, model, NULL, gained(before->restarts, now->restarts));
}

/* Resident bytes by /proc/self/statm (proc(5)); 0 where it cannot be read. */
static double resident_bytes(void)
{
    char text[128];
    uint64_t size, resident = 0;
    int descriptor = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t length = descriptor < 0 ? -1 : read(descriptor, text, sizeof text - 1);
    if (descriptor >= 0)
        close(descriptor);
    if (length <= 0)
        return 0;
    text[length] = 0;
    if (sscanf(text, "%" SCNu64 " %" SCNu64, &size, &resident) != 2)
        return 0;
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

void operator_metrics_process(struct metrics *metrics, const struct http_server *server, uint64_t log_dropped_lines)
{
    struct timespec used = {0};
    struct rlimit files = {0};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    metrics_set(metrics, PROCESS_CPU, NULL, NULL, (double)used.tv_sec + (double)used.tv_nsec / 1e9);
    metrics_set(metrics, PROCESS_MEMORY, NULL, NULL, resident_bytes());
    if (getrlimit(RLIMIT_NOFILE, &files) == 0)
        metrics_set(metrics, PROCESS_FILES, NULL, NULL, (double)files.rlim_cur);
    metrics_set(metrics, HTTP_CONNECTIONS, NULL, NULL, server ? http_server_connections(server) : 0);
    metrics_set(metrics, LOG_DROPPED, NULL, NULL, (double)log_dropped_lines);
}
