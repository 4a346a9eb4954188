/* What every exchange has: the headers of its answer, errors in OpenAI's form, its record. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "serve/api_answer.h"

const struct answer_error api_overloaded = {
    .status = 503, .type = "overloaded_error", .code = "overloaded", .retry_after = 1,
    .message = "the answers under way hold as much memory as they may; try again later"};

static void set_header(struct api_call *call, const char *name, const char *value)
{
    bulla_error error = {0}; /* a header that cannot be set is left out */
    http_reply_header(call->exchange, name, value, &error);
}

void api_call_set_headers(struct api_call *call)
{
    const char *origin = call->api->cors_origin;
    set_header(call, "X-Request-Id", call->id);
    if (*call->seed)
        set_header(call, "X-Bulla-Seed", call->seed);
    if (call->is_unverified)
        set_header(call, "X-Bulla-Verified", "false");
    if (*call->receipt_id) {
        set_header(call, "X-Bulla-Receipt-Id", call->receipt_id);
        set_header(call, "X-Bulla-Receipt-Salt", call->receipt_salt);
    }
    if (!origin)
        return;
    set_header(call, "Access-Control-Allow-Origin", origin);
    set_header(call, "Access-Control-Expose-Headers",
               "x-request-id, retry-after, x-bulla-seed, x-bulla-verified, x-bulla-receipt-id, x-bulla-receipt-salt");
    if (strcmp(origin, "*") != 0)
        set_header(call, "Vary", "Origin");
}

void api_call_record(struct api_call *call, int status)
{
    const struct serve_rules *rules = call->api->rules;
    struct rules_record *record = &call->record;
    if (!rules || !rules->record)
        return;
    record->request_id = call->id;
    record->method = call->method;
    record->route = call->route;
    record->peer = call->peer;
    record->identity = &call->identity;
    record->status = status;
    record->ended_nanoseconds = clock_nanoseconds();
    rules->record(rules->context, record);
}

/* The exchange, which is gone with the call of http_reply that has to follow. */
static struct http_exchange *begin_reply(struct api_call *call, size_t length)
{
    struct http_exchange *exchange = call->exchange;
    api_call_set_headers(call);
    call->exchange = NULL;
    call->rest = NULL;
    call->record.reply_bytes += length;
    return exchange;
}

static void end_reply(struct api_call *call, int status)
{
    if (!call->is_answer)
        api_call_record(call, status);
}

void api_call_reply(struct api_call *call, int status, const char *content_type, const void *body, size_t length)
{
    struct http_exchange *exchange = begin_reply(call, length);
    http_reply(exchange, status, content_type, body, length);
    end_reply(call, status);
}

void api_call_reply_json(struct api_call *call, int status, struct buffer *body)
{
    static const char no_memory[] = "{\"error\":{\"message\":\"the server is short of memory\",\"type\":\"server_error\","
                                    "\"param\":null,\"code\":\"out_of_memory\"}}";
    if (body->error.code == BULLA_OK) {
        struct http_exchange *exchange = begin_reply(call, body->length);
        http_reply_buffer(exchange, status, "application/json", body);
        end_reply(call, status);
        return;
    }
    call->record.error_code = "out_of_memory";
    if (status != 429 && status != 503) /* those have it */
        set_header(call, "Retry-After", "1");
    api_call_reply(call, 503, "application/json", no_memory, sizeof no_memory - 1);
}

void api_call_reply_parts(struct api_call *call, int status, const struct http_part *parts, size_t count)
{
    size_t length = 0;
    for (size_t i = 0; i < count; i++)
        length += parts[i].length;
    struct http_exchange *exchange = begin_reply(call, length);
    http_reply_parts(exchange, status, "application/json", parts, count);
    end_reply(call, status);
}

const char *api_problem_code(const struct answer_error *problem)
{
    return problem->own_code ? problem->own_code : problem->code ? problem->code : problem->type;
}

void api_call_fail(struct api_call *call, const struct answer_error *problem)
{
    struct buffer out = {0};
    char seconds[16];
    unsigned retry = problem->retry_after;
    int status = problem->status >= 400 && problem->status < 600 ? problem->status : 500;
    if (status == 429 || status == 503) {
        snprintf(seconds, sizeof seconds, "%u", retry ? retry : 1);
        set_header(call, "Retry-After", seconds);
    }
    if (status == 401)
        set_header(call, "WWW-Authenticate", "Bearer");
    call->record.error_code = api_problem_code(problem);
    *call->receipt_id = 0; /* an error has no receipt */
    api_write_error(&out, problem);
    api_call_reply_json(call, status, &out);
    buffer_free(&out);
}

void api_call_fail_with(struct api_call *call, int status, const char *type, const char *code, const char *param,
                        const char *format, ...)
{
    struct answer_error problem = {.status = status, .type = type, .code = code, .param = param};
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(problem.message, sizeof problem.message, format, arguments);
    va_end(arguments);
    api_call_fail(call, &problem);
}

int api_is_upstream(const struct backend_info *info)
{
    return strcmp(info->kind, "upstream") == 0;
}

/* "base:adapter", where the part before the colon is a model. */
static int names_adapter(struct api *api, const char *name)
{
    char base[256];
    const char *colon = strrchr(name, ':');
    if (!colon || colon == name || (size_t)(colon - name) >= sizeof base)
        return 0;
    snprintf(base, sizeof base, "%.*s", (int)(colon - name), name);
    return models_find(api->models, base) != NULL;
}

struct served_model *api_call_find_model(struct api_call *call, const char *name)
{
    struct api *api = call->api;
    struct served_model *model = models_find(api->models, name);
    if (model && !model->is_removed) {
        call->record.model = model->name;
        return model;
    }
    if (!name || !*name)
        api_call_fail_with(call, 400, "invalid_request_error", "missing_required_parameter", "model",
                           "`model` is missing; GET /v1/models lists the models of this server");
    else if (names_adapter(api, name))
        api_call_fail_with(call, 400, "invalid_request_error", "unsupported_parameter", "model",
                           "The model `%.200s` names an adapter; this server answers with whole models only", name);
    else
        api_call_fail_with(call, 404, "invalid_request_error", "model_not_found", "model",
                           "The model `%.200s` does not exist; GET /v1/models lists those of this server", name);
    return NULL;
}
