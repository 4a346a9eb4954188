#include "cli/remote.h"

#include <event2/event.h>
#include <strings.h>

#include "base/clock.h"

enum { CONNECT_SECONDS = 10 };

int remote_open(const char *place, const char *ca_file, struct remote *remote, bulla_error *error)
{
    *remote = (struct remote){.place = place};
    if (strncasecmp(place, "http://", 7) != 0 && strncasecmp(place, "https://", 8) != 0)
        return BULLA_OK;
    remote->base = event_base_new();
    if (!remote->base)
        return bulla_fail(error, BULLA_E_MEMORY, "memory is short for a connection");
    return upstream_target_open(remote->base, place, NULL, ca_file, &remote->target, error);
}

void remote_close(struct remote *remote)
{
    if (!remote->base)
        return;
    upstream_target_close(&remote->target);
    event_base_free(remote->base);
}

/* ---- One request ---- */

struct call {
    const struct remote_request *request;
    struct event_base *base;
    struct client_call *call;
    struct buffer *out;
    size_t most;
    int status, is_done;
    bulla_error error;
};

static void end(struct call *call)
{
    call->is_done = 1;
    client_call_close(call->call);
    event_base_loopbreak(call->base);
}

static void on_head(void *context, const struct upstream_response *response)
{
    ((struct call *)context)->status = response->status;
}

static void on_body(void *context, const uint8_t *bytes, size_t length)
{
    struct call *call = context;
    if (call->status != REMOTE_OK && !call->request->takes_any_status)
        return;
    if (length > call->most - call->out->length) {
        bulla_fail(&call->error, BULLA_E_INPUT, "it is longer than %zu bytes", call->request->most);
        end(call);
        return;
    }
    buffer_append(call->out, bytes, length);
}

static void on_done(void *context)
{
    end(context);
}

static void on_failed(void *context, enum client_failure failure, const char *sentence)
{
    struct call *call = context;
    if (failure == CLIENT_DEADLINE)
        bulla_fail(&call->error, BULLA_E_IO, "it did not come whole within %u seconds (--timeout)", call->request->seconds);
    else
        bulla_fail(&call->error, failure == CLIENT_MEMORY ? BULLA_E_MEMORY : BULLA_E_IO, "%s", sentence);
    end(call);
}

int remote_call(const struct remote *remote, const struct remote_request *request, struct buffer *out, int *status,
                bulla_error *error)
{
    struct call call = {.request = request, .base = remote->base, .out = out, .most = request->most + out->length};
    struct buffer body = {0};
    const struct client_sink sink = {&call, on_head, on_body, on_done, on_failed};
    if (request->body)
        buffer_append(&body, request->body->data, request->body->length);
    const struct client_request what = {
        .method = request->body ? "POST" : "GET", .path = request->path, .accept = request->accept,
        .body = request->body ? &body : NULL, .connect_seconds = CONNECT_SECONDS, .idle_seconds = request->idle_seconds,
        .deadline = request->seconds ? clock_nanoseconds() + UINT64_C(1000000000) * request->seconds : 0};
    int code = client_call_open(&remote->target, &what, &sink, &call.call, error);
    if (code != BULLA_OK) {
        buffer_free(&body);
        return code;
    }
    while (!call.is_done && event_base_loop(call.base, EVLOOP_ONCE) == 0)
        ;
    *status = call.status;
    if (call.error.code == BULLA_OK && out->error.code != BULLA_OK)
        call.error = out->error;
    return call.error.code == BULLA_OK ? BULLA_OK : bulla_fail(error, call.error.code, "%s", call.error.text);
}
