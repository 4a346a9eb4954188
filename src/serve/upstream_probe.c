#include "serve/upstream_probe.h"

#include <event2/event.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "serve/upstream_client.h"

enum {
    MOST_BODY_BYTES = 1 << 20,
    MOST_NAME_BYTES = 500,
    MOST_NAMED = 5,      /* models in the sentence that says that one is not there */
    READY_SECONDS = 10,  /* between questions while it is there, and while it is not */
    FAILED_SECONDS = 1,
    ANSWER_SECONDS = 10
};

struct upstream_probe {
    const struct upstream_target *target;
    const char *model;
    unsigned connect_seconds;
    struct event *timer;
    struct client_call *call;
    struct buffer body;
    int status;
    char *found; /* the first model */
    uint64_t context;
    int state, was_ready;
    char trouble[700];
};

/* The end of one question, by success or failure; the next comes after a while. */
static void settle(struct upstream_probe *probe, int state)
{
    client_call_close(probe->call);
    probe->call = NULL;
    buffer_free(&probe->body);
    memset(&probe->body, 0, sizeof probe->body);
    probe->state = state;
    probe->was_ready |= state == BACKEND_READY;
    struct timeval delay = {.tv_sec = state == BACKEND_READY ? READY_SECONDS : FAILED_SECONDS};
    event_add(probe->timer, &delay);
}

static void on_head(void *context, const struct upstream_response *response)
{
    ((struct upstream_probe *)context)->status = response->status;
}

static void on_body(void *context, const uint8_t *bytes, size_t length)
{
    struct upstream_probe *probe = context;
    if (length > MOST_BODY_BYTES - probe->body.length) {
        snprintf(probe->trouble, sizeof probe->trouble, "its list of models is longer than %d bytes", MOST_BODY_BYTES);
        settle(probe, BACKEND_FAILED);
        return;
    }
    buffer_append(&probe->body, bytes, length);
}

static const char *model_at(const struct json *data, size_t number)
{
    const struct json *id = json_get(data->items[number], "id");
    return json_is(id, JSON_STRING) && id->length > 0 && id->length <= MOST_NAME_BYTES && strlen(id->text) == id->length
               ? id->text
               : NULL;
}

/* vLLM, SGLang and LMDeploy say how long a context may be. */
static uint64_t context_of(const struct json *model)
{
    const struct json *length = json_get(model, "max_model_len");
    return json_is(length, JSON_NUMBER) && length->is_integer && length->integer > 0 ? (uint64_t)length->integer : 0;
}

/* The name that requests take from now on; the old one is kept where memory is short. */
static int keep_found(struct upstream_probe *probe, const char *name)
{
    if (probe->found && strcmp(probe->found, name) == 0)
        return 1;
    char *copy = memory_copy_text(name, strlen(name), NULL);
    if (!copy) {
        snprintf(probe->trouble, sizeof probe->trouble, "memory is short");
        return 0;
    }
    memory_free(probe->found);
    probe->found = copy;
    return 1;
}

static void say_missing(struct upstream_probe *probe, const struct json *data)
{
    int at = snprintf(probe->trouble, sizeof probe->trouble, "it has no model \"%.200s\"; it has", probe->model);
    for (size_t i = 0; i < data->length && i < MOST_NAMED && at < (int)sizeof probe->trouble; i++)
        at += snprintf(probe->trouble + at, sizeof probe->trouble - (size_t)at, "%s \"%.60s\"", i ? "," : "",
                       model_at(data, i) ? model_at(data, i) : "");
}

/* Looks for the model in {"data":[{"id":...}, ...]}; returns the state. */
static int read_models(struct upstream_probe *probe, const struct json *value)
{
    const struct json *data = json_get(value, "data");
    if (!json_is(data, JSON_ARRAY) || data->length == 0) {
        snprintf(probe->trouble, sizeof probe->trouble, "its /v1/models lists no model");
        return BACKEND_FAILED;
    }
    for (size_t i = 0; i < data->length; i++) {
        const char *name = model_at(data, i);
        if (!name || (probe->model && strcmp(name, probe->model) != 0))
            continue;
        probe->context = context_of(data->items[i]);
        probe->trouble[0] = 0;
        return probe->model || keep_found(probe, name) ? BACKEND_READY : BACKEND_FAILED;
    }
    if (probe->model)
        say_missing(probe, data);
    else
        snprintf(probe->trouble, sizeof probe->trouble, "its /v1/models lists no model with a name");
    return BACKEND_FAILED;
}

static void on_done(void *context)
{
    struct upstream_probe *probe = context;
    struct arena arena = {.limit = 32 << 20};
    int state = BACKEND_FAILED;
    if (probe->status == 200) {
        const char *text = probe->body.length > 0 ? (const char *)probe->body.data : "";
        const struct json *value = json_parse(text, probe->body.length, "/v1/models", &arena, NULL);
        if (value)
            state = read_models(probe, value);
        else
            snprintf(probe->trouble, sizeof probe->trouble, "its /v1/models is no JSON");
    } else if (probe->status == 404 && probe->model) {
        state = BACKEND_READY; /* a server without the list, but there */
        probe->trouble[0] = 0;
    } else {
        snprintf(probe->trouble, sizeof probe->trouble, "its /v1/models answers %d", probe->status);
        if (probe->status == 503) /* so engines say that they still load */
            state = BACKEND_STARTING;
    }
    arena_free(&arena);
    settle(probe, state);
}

static void on_failed(void *context, enum client_failure failure, const char *sentence)
{
    struct upstream_probe *probe = context;
    snprintf(probe->trouble, sizeof probe->trouble, "%s", sentence);
    settle(probe, BACKEND_FAILED);
}

static void on_timer(evutil_socket_t nothing, short what, void *context)
{
    struct upstream_probe *probe = context;
    const struct client_sink sink = {probe, on_head, on_body, on_done, on_failed};
    const struct client_request request = {.method = "GET", .path = "/v1/models", .accept = "application/json",
                                           .connect_seconds = probe->connect_seconds, .idle_seconds = ANSWER_SECONDS,
                                           .deadline = clock_nanoseconds() + ANSWER_SECONDS * 1000000000ull};
    bulla_error error = {0};
    if (client_call_open(probe->target, &request, &sink, &probe->call, &error) != BULLA_OK) {
        snprintf(probe->trouble, sizeof probe->trouble, "%s", error.text);
        settle(probe, BACKEND_FAILED);
    }
}

int upstream_probe_open(const struct upstream_target *target, const char *model, unsigned connect_seconds,
                        struct upstream_probe **result, bulla_error *error)
{
    struct timeval now = {0};
    struct upstream_probe *probe = memory_alloc(1, sizeof *probe, error);
    if (!probe)
        return BULLA_E_MEMORY;
    probe->target = target;
    probe->model = model;
    probe->connect_seconds = connect_seconds;
    probe->state = BACKEND_STARTING;
    probe->timer = evtimer_new(target->base, on_timer, probe);
    if (!probe->timer || event_add(probe->timer, &now) != 0) {
        upstream_probe_close(probe);
        return bulla_fail(error, BULLA_E_MEMORY, "memory is short");
    }
    *result = probe;
    return BULLA_OK;
}

void upstream_probe_close(struct upstream_probe *probe)
{
    if (!probe)
        return;
    client_call_close(probe->call);
    if (probe->timer)
        event_free(probe->timer);
    buffer_free(&probe->body);
    memory_free(probe->found);
    memory_free(probe);
}

const char *upstream_probe_model(const struct upstream_probe *probe)
{
    return probe->found;
}

void upstream_probe_describe(const struct upstream_probe *probe, struct backend_info *info)
{
    info->state = probe->state;
    info->was_ready = probe->was_ready;
    info->trouble = probe->trouble[0] ? probe->trouble : NULL;
    info->context = probe->context;
}
