#define _GNU_SOURCE
#include "serve/api.h"

#include <event2/event.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/memory.h"
#include "serve/api_answer.h"
#include "serve/page.h"

enum { KEEP_ALIVE_SECONDS = 15, MOST_HELD_BYTES = 1 << 30 };

struct api_route {
    const char *method, *path; /* a path that ends with '/' takes what follows: {id} */
    const char *pattern;
    enum rules_scope scope;
    void (*serve)(struct api_call *call);
    int is_late; /* `serve` may answer later */
    /* or, of a route that asks a model: */
    int (*read)(const char *body, size_t length, struct api_request *request, struct answer_error *problem);
    const struct answer_form *form;
};

static void serve_health(struct api_call *call)
{
    static const char body[] = "{\"status\":\"ok\"}";
    api_call_reply(call, 200, "application/json", body, sizeof body - 1);
}

/* Whether work can be done: there is the evidence that there is to be, some model is ready, and none that the server was started with still starts for the first
 * time. */
static int is_ready(struct api *api)
{
    int ready = 0;
    for (size_t i = 0; models_at(api->models, i); i++) {
        const struct served_model *model = models_at(api->models, i);
        struct backend_info info = {0};
        model->backend->class->describe(model->backend, &info);
        if (model->is_awaited && info.state == BACKEND_STARTING && !info.was_ready && !model->is_removed)
            return 0;
        ready += info.state == BACKEND_READY && !model->is_removed;
    }
    return ready > 0 && api_evidence_is_ready(api);
}

static void serve_ready(struct api_call *call)
{
    static const char body[] = "{\"status\":\"ready\"}";
    if (call->api->is_draining)
        api_call_fail_with(call, 503, "server_error", "draining", NULL, "the server is stopping");
    else if (!is_ready(call->api))
        api_call_fail_with(call, 503, "server_error", "not_ready", NULL,
                           api_evidence_is_ready(call->api) ? "no model is ready yet"
                                                            : "the server's evidence is not there yet, or too old: it could not be renewed");
    else
        api_call_reply(call, 200, "application/json", body, sizeof body - 1);
}

static void serve_version(struct api_call *call)
{
    struct buffer out = {0};
    buffer_append_text(&out, "{\"version\":");
    api_write_text(&out, call->api->version);
    buffer_append_byte(&out, '}');
    api_call_reply_json(call, 200, &out);
    buffer_free(&out);
}

static void serve_metrics(struct api_call *call)
{
    const struct serve_rules *rules = call->api->rules;
    struct buffer out = {0};
    bulla_error error = {0};
    if (!rules || !rules->write_metrics)
        api_call_fail_with(call, 404, "invalid_request_error", "not_found", NULL, "this server counts no metrics");
    else if (rules->write_metrics(rules->context, &out, &error) != BULLA_OK || out.error.code != BULLA_OK)
        api_call_fail_with(call, 500, "server_error", "internal_error", NULL, "%s", error.code ? error.text : out.error.text);
    else
        api_call_reply(call, 200, "text/plain; version=0.0.4; charset=utf-8", out.data, out.length);
    buffer_free(&out);
}

static const struct api_route routes[] = {
    {.method = "GET", .path = "/health", .scope = SCOPE_OPEN, .serve = serve_health},
    {.method = "GET", .path = "/ready", .scope = SCOPE_OPEN, .serve = serve_ready},
    {.method = "GET", .path = "/version", .scope = SCOPE_OPEN, .serve = serve_version},
    {.method = "GET", .path = "/metrics", .scope = SCOPE_METRICS, .serve = serve_metrics},
    {.method = "POST", .path = "/v1/chat/completions", .scope = SCOPE_USE, .read = api_request_read_chat,
     .form = &chat_form},
    {.method = "POST", .path = "/v1/completions", .scope = SCOPE_USE, .read = api_request_read_completion,
     .form = &completion_form},
    {.method = "POST", .path = "/v1/embeddings", .scope = SCOPE_USE, .read = api_request_read_embedding,
     .form = &embedding_form},
    {.method = "POST", .path = "/v1/responses", .scope = SCOPE_USE, .read = api_request_read_response,
     .form = &response_form},
    {.method = "GET", .path = "/v1/models", .scope = SCOPE_USE, .serve = api_serve_models},
    {.method = "GET", .path = "/v1/models/", .pattern = "/v1/models/{id}", .scope = SCOPE_USE,
     .serve = api_serve_model},
    {.method = "GET", .path = "/v1/evidence", .scope = SCOPE_OPEN, .serve = api_serve_evidence, .is_late = 1},
    {.method = "GET", .path = "/v1/evidence/", .pattern = "/v1/evidence/{hash}", .scope = SCOPE_OPEN,
     .serve = api_serve_evidence_by_hash},
    {.method = "GET", .path = "/v1/policy", .scope = SCOPE_OPEN, .serve = api_serve_policy},
    {.method = "POST", .path = "/tokenize", .scope = SCOPE_USE, .serve = api_serve_tokenize},
    {.method = "POST", .path = "/detokenize", .scope = SCOPE_USE, .serve = api_serve_detokenize},
    {.method = "GET", .path = "/v1/receipts/", .pattern = "/v1/receipts/{id}", .scope = SCOPE_USE,
     .serve = api_serve_receipt},
    {.method = "GET", .path = "/log/", .pattern = "/log/{file}", .scope = SCOPE_OPEN, .serve = api_serve_log},
    {.method = "GET", .path = "/v1/admin/models", .scope = SCOPE_ADMIN, .serve = api_serve_admin_models},
    {.method = "POST", .path = "/v1/admin/models", .scope = SCOPE_ADMIN, .serve = api_serve_admin_load},
    {.method = "DELETE", .path = "/v1/admin/models/", .pattern = "/v1/admin/models/{id}", .scope = SCOPE_ADMIN,
     .serve = api_serve_admin_unload},
    /* llama.cpp answers these without the version too. */
    {.method = "POST", .path = "/chat/completions", .pattern = "/v1/chat/completions", .scope = SCOPE_USE,
     .read = api_request_read_chat, .form = &chat_form},
    {.method = "POST", .path = "/embeddings", .pattern = "/v1/embeddings", .scope = SCOPE_USE,
     .read = api_request_read_embedding, .form = &embedding_form},
    {.method = "GET", .path = "/models", .pattern = "/v1/models", .scope = SCOPE_USE, .serve = api_serve_models},
};

enum { ROUTES = sizeof routes / sizeof routes[0] };

static int matches_path(const struct api_route *route, const char *path)
{
    size_t length = strlen(route->path);
    if (route->path[length - 1] == '/')
        return strncmp(path, route->path, length) == 0 && path[length] != 0;
    return strcmp(path, route->path) == 0;
}

/* HEAD asks for what GET gives; the HTTP layer leaves the body out. */
static int matches_method(const char *wanted, const char *method)
{
    return strcmp(wanted, method) == 0 || (strcmp(wanted, "GET") == 0 && strcmp(method, "HEAD") == 0);
}

/* The route of this path and method; NULL with the methods that the path has where it has others. */
static const struct api_route *find_route(const char *path, const char *method, char allowed[64])
{
    allowed[0] = 0;
    for (size_t i = 0; i < ROUTES; i++) {
        if (!matches_path(routes + i, path))
            continue;
        if (matches_method(routes[i].method, method))
            return routes + i;
        size_t used = strlen(allowed);
        snprintf(allowed + used, 64 - used, "%s%s", used ? ", " : "", routes[i].method);
    }
    return NULL;
}

static void set_header(struct api_call *call, const char *name, const char *value)
{
    bulla_error error = {0};
    http_reply_header(call->exchange, name, value, &error);
}

static int is_own_id(const char *id)
{
    size_t length = id ? strlen(id) : 0;
    for (size_t i = 0; i < length; i++)
        if (id[i] <= ' ' || id[i] > '~')
            return 0;
    return length > 0 && length <= API_MOST_REQUEST_ID;
}

static void open_call(struct api *api, struct http_exchange *exchange, struct api_call *call)
{
    const char *id = http_header(exchange, "x-request-id");
    size_t length;
    uint8_t random[API_RANDOM_BYTES] = {0};
    http_body(exchange, &length);
    *call = (struct api_call){.api = api, .exchange = exchange, .route = "unknown"};
    call->record.request_bytes = length;
    call->record.received_nanoseconds = http_received(exchange);
    snprintf(call->method, sizeof call->method, "%s", http_method(exchange));
    snprintf(call->peer, sizeof call->peer, "%s", http_peer(exchange));
    call->identity.priority = api->rules ? 0 : REQUEST_MOST_PRIORITY;
    if (is_own_id(id)) {
        snprintf(call->id, sizeof call->id, "%s", id);
    } else if (getrandom(random, sizeof random, 0) == (ssize_t)sizeof random) {
        memcpy(call->id, "req-", 4);
        hex_encode(random, sizeof random, call->id + 4);
    }
}

static int authorise(struct api_call *call, enum rules_scope scope)
{
    const struct serve_rules *rules = call->api->rules;
    struct answer_error problem = {0};
    if (!rules && scope == SCOPE_ADMIN) {
        api_call_fail_with(call, 403, "permission_error", "not_administrable", NULL,
                           "this server has no keys, so nobody can administer it");
        return 0;
    }
    if (!rules || !rules->authorise)
        return 1;
    if (rules->authorise(rules->context, scope, http_header(call->exchange, "authorization"),
                         http_header(call->exchange, "x-api-key"), &call->identity, &problem) == BULLA_OK)
        return 1;
    if (!problem.status)
        problem.status = 403;
    api_call_fail(call, &problem);
    return 0;
}

static void serve_answer(struct api_call *call, const struct api_route *route)
{
    struct api_request request = {.grammars = &call->api->grammars};
    struct answer_error problem = {0};
    size_t length;
    const char *body = http_body(call->exchange, &length), *seconds = http_header(call->exchange, "x-request-timeout");
    int code = route->read(body, length, &request, &problem);
    if (code == BULLA_OK && seconds)
        code = api_request_read_timeout(seconds, &request, &problem);
    if (code == BULLA_OK && api_evidence_covers(call, request.model)) {
        api_answer_begin(call, &request, route->form);
        return;
    }
    if (code != BULLA_OK)
        api_call_fail(call, &problem);
    api_request_free(&request);
}

static void serve_page(struct api_call *call, const struct page_file *file)
{
    call->route = strcmp(file->path, "/") == 0 ? "/" : "/page/{file}";
    if (!authorise(call, SCOPE_OPEN))
        return;
    set_header(call, "Content-Security-Policy", page_security_policy);
    set_header(call, "X-Content-Type-Options", "nosniff");
    set_header(call, "X-Frame-Options", "DENY");
    set_header(call, "Referrer-Policy", "no-referrer");
    set_header(call, "Cache-Control", "no-cache");
    api_call_reply(call, 200, file->content_type, file->data, file->length);
}

static void serve_no_route(struct api_call *call, const char *path, const char *allowed)
{
    const struct page_file *file = call->api->has_page ? page_find(path) : NULL;
    if (file && matches_method("GET", call->method)) {
        serve_page(call, file);
    } else if (file || *allowed) {
        set_header(call, "Allow", file ? "GET" : allowed);
        api_call_fail_with(call, 405, "invalid_request_error", "method_not_allowed", NULL,
                           "%s is not allowed for %.200s; use %s", call->method, path, file ? "GET" : allowed);
    } else {
        api_call_fail_with(call, 404, "invalid_request_error", "not_found", NULL, "there is no %s %.200s here",
                           call->method, path);
    }
}

/* Whether a model may be asked for one more answer. */
static int has_room(struct api_call *call)
{
    struct api *api = call->api;
    if (api->is_draining) {
        api_call_fail_with(call, 503, "server_error", "draining", NULL, "the server is stopping; ask another one");
        return 0;
    }
    if (api->held < api->most_held)
        return 1;
    api_call_fail(call, &api_overloaded);
    return 0;
}

/* The route of a request that is let in: its host, method, origin and key are good. NULL where it was answered. Nothing
 * here looks at the body. */
static const struct api_route *admit(struct api_call *call)
{
    const char *path = http_path(call->exchange);
    char allowed[64];
    if (api_is_foreign_host(call)) {
        api_call_fail_with(call, 403, "permission_error", "foreign_host", NULL,
                           "%.200s is no name of this machine that the server knows, and only this machine may use it; ask "
                           "for localhost, or start the server with --hosts to name others",
                           http_header(call->exchange, "host"));
        return NULL;
    }
    if (strcmp(call->method, "OPTIONS") == 0 && call->api->cors_origin) {
        call->route = "preflight";
        api_serve_preflight(call);
        return NULL;
    }
    const struct api_route *route = find_route(path, call->method, allowed);
    if (!route) {
        serve_no_route(call, path, allowed);
        return NULL;
    }
    call->route = route->pattern ? route->pattern : route->path;
    call->rest = path + strlen(route->path);
    if (strcmp(route->method, "GET") != 0 && api_is_foreign_origin(call)) {
        api_call_fail_with(call, 403, "permission_error", "foreign_origin", NULL,
                           "pages of other origins may not ask this server; its operator can allow one (CORS)");
        return NULL;
    }
    if (!authorise(call, route->scope) || (route->read && !has_room(call)))
        return NULL;
    return route;
}

/* A body follows. It is read only where the request is let in and its route takes one. */
static void on_head(void *context, struct http_exchange *exchange)
{
    struct api_call call;
    open_call(context, exchange, &call);
    const struct api_route *route = admit(&call);
    if (route && strcmp(route->method, "POST") != 0 && !route->is_late)
        route->serve(&call);
}

/* What let the head in is asked again: keys, room and the server's end may have changed since. */
static void on_request(void *context, struct http_exchange *exchange)
{
    struct api_call call;
    open_call(context, exchange, &call);
    const struct api_route *route = admit(&call);
    if (route && route->read)
        serve_answer(&call, route);
    else if (route)
        route->serve(&call);
}

/* What the HTTP layer does not take is answered, counted and logged as every error is. */
static void on_refuse(void *context, struct http_exchange *exchange, int status, const char *message)
{
    static const struct {
        int status;
        const char *code;
    } codes[] = {{408, "request_timeout"}, {413, "body_too_long"}, {414, "header_too_long"}, {431, "header_too_long"},
                 {417, "unsupported_http"}, {501, "unsupported_http"}, {505, "unsupported_http"}, {503, "overloaded"}};
    const char *code = "malformed_http";
    struct api_call call;
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        code = codes[i].status == status ? codes[i].code : code;
    open_call(context, exchange, &call);
    api_call_fail_with(&call, status, status == 503 ? "overloaded_error" : "invalid_request_error", code, NULL, "%s", message);
}

static void on_sweep(evutil_socket_t socket, short what, void *context)
{
    api_answer_sweep(context);
}

static void on_alarm(evutil_socket_t socket, short what, void *context)
{
    api_answer_end_late(context);
}

static void on_tick(evutil_socket_t socket, short what, void *context)
{
    api_stream_keep_alive(context);
}

static int copy_option(char **copy, const char *text, bulla_error *error)
{
    *copy = text ? memory_copy_text(text, strlen(text), error) : NULL;
    return text && !*copy ? error->code : BULLA_OK;
}

static int copy_hosts(struct api *api, const struct api_options *options, bulla_error *error)
{
    if (options->host_count == 0)
        return BULLA_OK;
    api->hosts = memory_alloc(options->host_count, sizeof *api->hosts, error);
    if (!api->hosts)
        return error->code;
    int code = BULLA_OK;
    for (; code == BULLA_OK && api->host_count < options->host_count; api->host_count++)
        code = copy_option(&api->hosts[api->host_count], options->hosts[api->host_count], error);
    return code;
}

int api_open(struct event_base *base, const struct api_options *options, struct api **result, bulla_error *error)
{
    struct api *api = memory_alloc(1, sizeof *api, error);
    *result = NULL;
    if (!api)
        return error->code;
    api->base = base;
    api->models = options->models;
    api->rules = options->rules;
    api->receipts = options->receipts;
    api->has_page = options->has_page;
    api->is_local = options->is_local;
    api->most_held = options->most_held_bytes ? options->most_held_bytes : MOST_HELD_BYTES;
    api->keep_alive_nanoseconds =
        UINT64_C(1000000000) * (options->keep_alive_seconds ? options->keep_alive_seconds : KEEP_ALIVE_SECONDS);
    int code = copy_option(&api->cors_origin, options->cors_origin, error);
    if (code == BULLA_OK)
        code = copy_option(&api->version, options->version ? options->version : "", error);
    if (code == BULLA_OK)
        code = copy_hosts(api, options, error);
    if (code == BULLA_OK && options->attestation)
        code = api_evidence_open(base, options->attestation, &api->evidence, error);
    api->sweep = event_new(base, -1, 0, on_sweep, api);
    api->tick = event_new(base, -1, EV_PERSIST, on_tick, api);
    api->alarm = evtimer_new(base, on_alarm, api);
    if (code == BULLA_OK && (!api->sweep || !api->tick || !api->alarm))
        code = bulla_fail(error, BULLA_E_MEMORY, "out of memory: the API's events could not be made");
    if (code == BULLA_OK)
        *result = api;
    else
        api_close(api);
    return code;
}

void api_close(struct api *api)
{
    static const struct answer_error stopping = {.status = 503, .type = "server_error", .code = "server_stopping",
                                                 .message = "the server stopped", .retry_after = 1};
    if (!api)
        return;
    api_answer_fail_all(api, &stopping); /* none, where the HTTP server was closed first */
    if (api->models)
        api_answer_sweep(api);
    api_evidence_close(api->evidence);
    if (api->sweep)
        event_free(api->sweep);
    if (api->tick)
        event_free(api->tick);
    if (api->alarm)
        event_free(api->alarm);
    for (size_t i = 0; i < api->host_count; i++)
        memory_free(api->hosts[i]);
    memory_free(api->hosts);
    memory_free(api->cors_origin);
    memory_free(api->version);
    memory_free(api);
}

struct http_handler api_handler(struct api *api)
{
    return (struct http_handler){.context = api, .request = on_request, .head = on_head, .refuse = on_refuse};
}

void api_drain(struct api *api)
{
    api->is_draining = 1;
}

unsigned api_answers(const struct api *api)
{
    return api->answer_count;
}

void api_hand_back(struct api *api)
{
    static const struct answer_error stopping = {
        .status = 503, .type = "server_error", .code = "server_stopping", .retry_after = 1,
        .message = "the server stops before this answer is finished; ask again, here later or another one"};
    api_answer_fail_all(api, &stopping);
    api_answer_sweep(api);
}
