#define _GNU_SOURCE
#include "serve/upstream.h"

#include <event2/event.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "bulla/tokenizer.h"
#include "serve/upstream_client.h"
#include "serve/upstream_events.h"
#include "serve/upstream_probe.h"
#include "serve/upstream_reply.h"
#include "serve/upstream_request.h"

enum {
    MOST_PLAIN_BYTES = 8 << 20,  /* of an answer that is no stream */
    MOST_ERROR_BYTES = 64 << 10, /* of an error's body; what is beyond is not read */
    RETRY_SECONDS = 1
};

struct upstream {
    struct backend backend; /* first: a backend is this */
    struct upstream_target target;
    char *url, *model;      /* model NULL: the probe's first */
    unsigned connect_seconds, idle_seconds;
    uint64_t most_waiting;
    struct upstream_probe *probe;
    struct answer *answers;
    struct backend_counters counters;
};

struct answer {
    struct upstream *upstream; /* NULL once it is no longer under way */
    struct answer *next, **link;
    enum answer_kind kind;
    struct client_call *call;
    struct upstream_reply reply;
    struct upstream_events events;
    struct buffer plain;   /* a body that is no stream */
    int status, is_stream;
    unsigned retry_after;
    uint64_t started;
    int depth, is_over;    /* callbacks being run; freed when it is over and depth is 0 */
};

static void free_answer(struct answer *answer)
{
    upstream_reply_close(&answer->reply);
    upstream_events_free(&answer->events);
    buffer_free(&answer->plain);
    memory_free(answer);
}

/* Takes the answer out of its backend and closes its connection: from here on neither is touched, since what the sink
 * does in its last call may close the backend. */
static void detach(struct answer *answer)
{
    answer->is_over = 1;
    answer->reply.is_stopped = 1;
    client_call_close(answer->call);
    answer->call = NULL;
    if (!answer->upstream)
        return;
    *answer->link = answer->next;
    if (answer->next)
        answer->next->link = answer->link;
    answer->upstream->counters.running--;
    answer->upstream->counters.prompt_tokens += answer->reply.usage.prompt_tokens;
    answer->upstream->counters.output_tokens += answer->reply.usage.output_tokens;
    answer->upstream = NULL;
}

static void enter(struct answer *answer)
{
    answer->depth++;
}

static void leave(struct answer *answer)
{
    if (--answer->depth == 0 && answer->is_over)
        free_answer(answer);
}

/* These two run between enter and leave. */
static void end_failed(struct answer *answer, const struct answer_error *problem)
{
    if (answer->is_over)
        return;
    detach(answer);
    answer->reply.sink.fail(answer->reply.sink.context, problem);
}

static void end_done(struct answer *answer)
{
    struct answer_usage *usage = &answer->reply.usage;
    if (answer->is_over)
        return;
    usage->total_nanoseconds = clock_nanoseconds() - answer->started;
    if (answer->reply.first_delta > 0)
        usage->first_token_nanoseconds = answer->reply.first_delta - answer->started;
    detach(answer);
    answer->reply.sink.end(answer->reply.sink.context, usage);
}

static void fail_broken(struct answer *answer, const char *what)
{
    struct answer_error problem;
    upstream_problem(&problem, 502, "server_error", "upstream_broken", 0, "the upstream's answer is broken: %s", what);
    end_failed(answer, &problem);
}

static void on_head(void *context, const struct upstream_response *response)
{
    struct answer *answer = context;
    enter(answer);
    answer->status = response->status;
    answer->retry_after = response->retry_after;
    answer->is_stream = response->status == 200 && answer->kind != ANSWER_EMBEDDING;
    if (answer->is_stream && strcmp(response->content_type, "text/event-stream") != 0)
        fail_broken(answer, "it is no event stream, which was asked for");
    leave(answer);
}

/* The stream has told all: [DONE], or its orderly end. */
static void end_stream(struct answer *answer)
{
    struct answer_error problem;
    if (answer->is_over)
        return;
    if (upstream_reply_end(&answer->reply, &problem) != BULLA_OK)
        end_failed(answer, &problem);
    else
        end_done(answer);
}

static int on_event(void *context, const char *data, size_t length)
{
    struct answer *answer = context;
    struct answer_error problem;
    int code = upstream_reply_chunk(&answer->reply, data, length, &problem);
    if (!answer->is_over && code != BULLA_OK)
        end_failed(answer, &problem);
    else if (answer->reply.is_done)
        end_stream(answer);
    return answer->is_over;
}

static void take_plain(struct answer *answer, const uint8_t *bytes, size_t length)
{
    size_t limit = answer->status == 200 ? MOST_PLAIN_BYTES : MOST_ERROR_BYTES;
    size_t room = limit - answer->plain.length;
    if (length > room && answer->status == 200) {
        fail_broken(answer, "it is longer than 8 MiB");
        return;
    }
    buffer_append(&answer->plain, bytes, length < room ? length : room);
}

static void on_body(void *context, const uint8_t *bytes, size_t length)
{
    struct answer *answer = context;
    bulla_error error = {0};
    enter(answer);
    if (!answer->is_stream)
        take_plain(answer, bytes, length);
    else if (upstream_events_feed(&answer->events, bytes, length, &error) != BULLA_OK)
        fail_broken(answer, error.text);
    leave(answer);
}

static void on_done(void *context)
{
    struct answer *answer = context;
    struct answer_error problem;
    const char *text = answer->plain.length > 0 ? (const char *)answer->plain.data : "";
    enter(answer);
    if (answer->is_stream) {
        end_stream(answer);
    } else if (answer->status != 200) {
        upstream_reply_refusal(&answer->reply, answer->status, answer->retry_after, text, answer->plain.length,
                               &problem);
        end_failed(answer, &problem);
    } else if (answer->plain.error.code != BULLA_OK) {
        upstream_problem(&problem, 500, "server_error", "out_of_memory", 0, "memory is short");
        end_failed(answer, &problem);
    } else if (upstream_reply_embedding(&answer->reply, text, answer->plain.length, &problem) != BULLA_OK) {
        end_failed(answer, &problem);
    } else {
        end_done(answer);
    }
    leave(answer);
}

static void on_failed(void *context, enum client_failure failure, const char *sentence)
{
    static const struct {
        int status;
        const char *code;
    } kinds[] = {
        [CLIENT_UNREACHABLE] = {503, "upstream_unavailable"}, [CLIENT_TIMEOUT] = {504, "upstream_timeout"},
        [CLIENT_DEADLINE] = {504, "deadline"},                [CLIENT_UNTRUSTED] = {502, "upstream_untrusted"},
        [CLIENT_BROKEN] = {502, "upstream_broken"},           [CLIENT_MEMORY] = {500, "out_of_memory"},
    };
    struct answer *answer = context;
    struct answer_error problem;
    enter(answer);
    if (failure == CLIENT_DEADLINE && answer->reply.first_delta > 0) {
        upstream_reply_cut(&answer->reply, "deadline");
        end_done(answer);
        leave(answer);
        return;
    }
    upstream_problem(&problem, kinds[failure].status, "server_error", kinds[failure].code,
                     failure == CLIENT_UNREACHABLE ? RETRY_SECONDS : 0, "the upstream failed: %s", sentence);
    end_failed(answer, &problem);
    leave(answer);
}

/* Sends the request; the answer is in the backend's list afterwards. */
static int begin(struct upstream *upstream, struct answer *answer, const struct answer_request *request,
                 const char *model, bulla_error *error)
{
    struct buffer body = {0};
    const struct client_sink sink = {answer, on_head, on_body, on_done, on_failed};
    struct client_request call = {.method = "POST",
                                  .path = upstream_request_path(request->kind),
                                  .id = request->id,
                                  .accept =
                                      request->kind == ANSWER_EMBEDDING ? "application/json" : "text/event-stream",
                                  .body = &body,
                                  .connect_seconds = upstream->connect_seconds,
                                  .idle_seconds = upstream->idle_seconds,
                                  .deadline = request->deadline};
    upstream_request_write(request, model, &body);
    int code = body.error.code == BULLA_OK ? client_call_open(&upstream->target, &call, &sink, &answer->call, error)
                                           : bulla_fail(error, body.error.code, "%s", body.error.text);
    buffer_free(&body); /* empty where the call took it */
    if (code != BULLA_OK)
        return code;
    answer->upstream = upstream;
    answer->next = upstream->answers;
    answer->link = &upstream->answers;
    if (answer->next)
        answer->next->link = &answer->next;
    upstream->answers = answer;
    upstream->counters.running++;
    return BULLA_OK;
}

static const char *model_name(const struct upstream *upstream)
{
    return upstream->model ? upstream->model : upstream_probe_model(upstream->probe);
}

/* Whether the request can be taken at all; a constraint that would be lost on the way is refused. */
static int check_start(const struct upstream *upstream, const struct answer_request *request,
                       struct answer_error *problem)
{
    if (upstream->counters.running >= upstream->most_waiting)
        upstream_problem(problem, 503, "overloaded_error", "overloaded", RETRY_SECONDS,
                         "%llu requests wait for this upstream already",
                         (unsigned long long)upstream->counters.running);
    else if (!model_name(upstream))
        upstream_problem(problem, 503, "server_error", "upstream_unavailable", RETRY_SECONDS,
                         "the upstream has not told its models yet");
    else if (request->grammar && !request->response_format && !request->tools)
        upstream_problem(problem, 400, "invalid_request_error", "unsupported", 0,
                         "a constraint other than response_format cannot be passed on to an upstream");
    else
        return 1;
    return 0;
}

static struct answer *upstream_start(struct backend *backend, const struct answer_request *request,
                                     const struct answer_sink *sink, struct answer_error *problem)
{
    struct upstream *upstream = (struct upstream *)backend;
    bulla_error error = {0};
    if (!check_start(upstream, request, problem))
        return NULL;
    struct answer *answer = memory_alloc(1, sizeof *answer, &error);
    if (answer && upstream_reply_open(&answer->reply, request, sink, &error) == BULLA_OK) {
        answer->kind = request->kind;
        answer->started = clock_nanoseconds();
        answer->events.context = answer;
        answer->events.event = on_event;
        begin(upstream, answer, request, model_name(upstream), &error);
    }
    if (error.code == BULLA_OK)
        return answer;
    if (answer)
        free_answer(answer);
    upstream_problem(problem, 500, "server_error", "out_of_memory", 0, "the request could not be passed on: %s",
                     error.text);
    return NULL;
}

static void upstream_cancel(struct answer *answer)
{
    if (answer->is_over)
        return;
    detach(answer);
    if (answer->depth == 0)
        free_answer(answer);
}

static void upstream_describe(const struct backend *backend, struct backend_info *info)
{
    const struct upstream *upstream = (const struct upstream *)backend;
    memset(info, 0, sizeof *info);
    info->kind = "upstream";
    info->is_verified = upstream->target.is_loopback;
    info->engine = upstream->url;
    info->engine_model = model_name(upstream);
    upstream_probe_describe(upstream->probe, info);
}

static void upstream_count(const struct backend *backend, struct backend_counters *counters)
{
    *counters = ((const struct upstream *)backend)->counters;
}

static int upstream_tokenize(struct backend *backend, const struct answer_request *request, int adds_special,
                             uint32_t **ids, size_t *count, bulla_error *error)
{
    return bulla_fail(error, BULLA_E_UNSUPPORTED, "an upstream's tokenizer is not here: ask the upstream itself");
}

static int upstream_detokenize(struct backend *backend, const uint32_t *ids, size_t count, size_t most, char **text,
                               size_t *length, bulla_error *error)
{
    return bulla_fail(error, BULLA_E_UNSUPPORTED, "an upstream's tokenizer is not here: ask the upstream itself");
}

static int upstream_spell(const struct backend *backend, uint32_t id, const char **bytes, size_t *length,
                          bulla_error *error)
{
    return bulla_fail(error, BULLA_E_UNSUPPORTED, "an upstream's tokenizer is not here: ask the upstream itself");
}

static void upstream_close(struct backend *backend)
{
    struct upstream *upstream = (struct upstream *)backend;
    struct answer_error problem;
    if (!backend)
        return;
    upstream_problem(&problem, 503, "server_error", "model_unloaded", RETRY_SECONDS, "the model is being unloaded");
    while (upstream->answers) {
        struct answer *answer = upstream->answers;
        enter(answer);
        end_failed(answer, &problem);
        leave(answer);
    }
    upstream_probe_close(upstream->probe);
    upstream_target_close(&upstream->target);
    memory_free(upstream->url);
    memory_free(upstream->model);
    memory_free(upstream);
}

static const struct backend_class upstream_class = {
    .name = "upstream", .start = upstream_start, .cancel = upstream_cancel, .describe = upstream_describe,
    .count = upstream_count, .tokenize = upstream_tokenize, .detokenize = upstream_detokenize, .spell = upstream_spell,
    .close = upstream_close};

int upstream_open(struct event_base *base, const struct upstream_options *options, struct backend **backend,
                  bulla_error *error)
{
    bulla_error own = {0};
    struct upstream *upstream = memory_alloc(1, sizeof *upstream, error);
    if (!upstream)
        return BULLA_E_MEMORY;
    upstream->backend.class = &upstream_class;
    upstream->connect_seconds = options->connect_seconds ? options->connect_seconds : 5;
    upstream->idle_seconds = options->idle_seconds ? options->idle_seconds : 120;
    upstream->most_waiting = options->most_waiting ? options->most_waiting : 1024;
    upstream->url = memory_copy_text(options->url, strlen(options->url), &own);
    if (own.code == BULLA_OK && options->model)
        upstream->model = memory_copy_text(options->model, strlen(options->model), &own);
    if (own.code == BULLA_OK)
        upstream_target_open(base, options->url, options->key, options->ca_file, &upstream->target, &own);
    if (own.code == BULLA_OK)
        upstream_probe_open(&upstream->target, upstream->model, upstream->connect_seconds, &upstream->probe, &own);
    if (own.code != BULLA_OK) {
        upstream_close(&upstream->backend);
        return bulla_fail(error, own.code, "%s", own.text);
    }
    *backend = &upstream->backend;
    return BULLA_OK;
}
