#define _GNU_SOURCE
#include "serve/connect.h"

#include <event2/event.h>
#include <openssl/crypto.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "serve/connect_parts.h"
#include "serve/host_name.h"

enum { MOST_HOST = 256, TICK_SECONDS = 1 };

/* ---- Words ---- */

void connect_tell(struct connect *connect, const char *format, ...)
{
    char line[1100];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (connect->options.told)
        connect->options.told(connect->options.context, line);
}

static void write_text(struct buffer *out, const char *before, const char *text)
{
    buffer_append_text(out, before);
    json_write_string(out, text, strlen(text));
}

void connect_write_error(struct buffer *out, const char *code, const struct connect_problem *problem)
{
    char message[1000];
    snprintf(message, sizeof message, "%s: %s", problem->check, problem->text);
    write_text(out, "{\"error\":{\"message\":", message);
    write_text(out, ",\"type\":\"server_error\",\"param\":null,\"code\":", code);
    write_text(out, "},\"bulla\":{\"check\":", problem->check);
    buffer_append_text(out, ",\"verified\":false}}");
}

void connect_refuse(struct http_exchange *exchange, int status, const char *type, const char *code, const char *format, ...)
{
    char message[1000];
    va_list arguments;
    struct buffer body = {0};
    bulla_error error = {0};
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    write_text(&body, "{\"error\":{\"message\":", message);
    write_text(&body, ",\"type\":", type);
    write_text(&body, ",\"param\":null,\"code\":", code);
    buffer_append_text(&body, "}}");
    if (status == 401)
        http_reply_header(exchange, "WWW-Authenticate", "Bearer", &error);
    if (body.error.code == BULLA_OK)
        http_reply_buffer(exchange, status, "application/json", &body);
    else
        http_reply(exchange, status, NULL, NULL, 0);
    buffer_free(&body);
}

/* ---- Who may ask ---- */

/* The key that was sent: "Bearer KEY", or where that header is missing, x-api-key. */
static const char *find_key(const struct http_exchange *exchange)
{
    const char *authorization = http_header(exchange, "authorization");
    if (!authorization)
        return http_header(exchange, "x-api-key");
    if (strncasecmp(authorization, "bearer ", 7) != 0)
        return NULL;
    authorization += 7;
    return authorization + strspn(authorization, " ");
}

static int is_authorised(const struct connect *connect, const struct http_exchange *exchange)
{
    const char *own = connect->options.local_key, *key = find_key(exchange);
    return !own || (key && strlen(key) == strlen(own) && CRYPTO_memcmp(key, own, strlen(own)) == 0);
}

/* Pages from elsewhere, and names that mean this machine for a moment only (docs/api.md, "Browsers"). */
static int is_foreign(struct http_exchange *exchange)
{
    const char *host = http_header(exchange, "host"), *method = http_method(exchange);
    char name[MOST_HOST];
    if (host && (!host_name_read(host, name, sizeof name) || !host_name_is_loopback(name))) {
        connect_refuse(exchange, 403, "permission_error", "foreign_host", "%.200s is no name of this machine; ask for localhost",
                       host);
        return 1;
    }
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0 &&
        host_name_is_foreign(http_header(exchange, "origin"), host)) {
        connect_refuse(exchange, 403, "permission_error", "foreign_origin", "pages of other origins may not ask this proxy");
        return 1;
    }
    return 0;
}

struct route {
    const char *path;
    enum connect_form form;
};

static const struct route answers[] = {{"/v1/chat/completions", CONNECT_CHAT},
                                       {"/chat/completions", CONNECT_CHAT},
                                       {"/v1/completions", CONNECT_COMPLETION},
                                       {"/v1/responses", CONNECT_RESPONSE}};

static const struct route *find_route(const struct http_exchange *exchange)
{
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
        if (strcmp(http_path(exchange), answers[i].path) == 0)
            return &answers[i];
    return NULL;
}

/* Whether the request may go on; else it was answered. */
static int admit(const struct connect *connect, struct http_exchange *exchange, enum passing_kind *kind)
{
    const char *method = http_method(exchange);
    int is_get = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
    const struct route *route = find_route(exchange);
    if (is_foreign(exchange))
        return 0;
    if (!is_authorised(connect, exchange)) {
        int has_key = find_key(exchange) != NULL;
        connect_refuse(exchange, 401, "authentication_error", has_key ? "invalid_api_key" : "missing_api_key", "%s",
                       has_key ? "that is not this proxy's key, which it printed when it was made"
                               : "this proxy wants its key, which it printed when it was made, as `Authorization: Bearer KEY`");
        return 0;
    }
    if (!is_get && strcmp(method, "POST") != 0 && strcmp(method, "DELETE") != 0) {
        connect_refuse(exchange, 405, "invalid_request_error", "method_not_allowed", "%s is not passed on", method);
        return 0;
    }
    *kind = is_get ? PASSING_PLAIN : route && strcmp(method, "POST") == 0 ? PASSING_ANSWER : PASSING_UNVERIFIED;
    if (*kind == PASSING_UNVERIFIED && connect->options.is_strict) {
        connect_refuse(exchange, 403, "permission_error", "unverifiable",
                       "nothing verifies what %.200s answers, and this proxy is strict", http_path(exchange));
        return 0;
    }
    return 1;
}

static void on_head(void *context, struct http_exchange *exchange)
{
    enum passing_kind kind;
    admit(context, exchange, &kind);
}

static void on_request(void *context, struct http_exchange *exchange)
{
    struct connect *connect = context;
    enum passing_kind kind;
    if (!admit(connect, exchange, &kind))
        return;
    const struct route *route = find_route(exchange);
    passing_start(connect, exchange, kind, route ? route->form : CONNECT_CHAT);
}

struct http_handler connect_handler(struct connect *connect)
{
    return (struct http_handler){.context = connect, .request = on_request, .head = on_head};
}

/* ---- Its life ---- */

/* The same is not said again and again. */
static void on_told(void *context, const struct connect_pin *pin, const char *type, const struct connect_problem *problem)
{
    struct connect *connect = context;
    char line[sizeof connect->said], key[2 * BINDING_BYTES + 1];
    if (problem) {
        snprintf(line, sizeof line, "NOT VERIFIED, nothing is sent: %s: %s", problem->check, problem->text);
    } else {
        hex_encode(pin->receipt_key, BINDING_BYTES, key);
        snprintf(line, sizeof line, "verified: %s evidence, %zu model%s, receipts of key %s%s", type, pin->model_count,
                 pin->model_count == 1 ? "" : "s", key, pin->is_simulated ? "; SIMULATED: this proves nothing" : "");
    }
    if (strcmp(line, connect->said) == 0)
        return;
    snprintf(connect->said, sizeof connect->said, "%s", line);
    connect_tell(connect, "%s", line);
}

static void on_tick(evutil_socket_t nothing, short what, void *context)
{
    connect_link_warm(((struct connect *)context)->link);
}

static int copy(const char **to, bulla_error *error)
{
    if (*to && !(*to = memory_copy_text(*to, strlen(*to), error)))
        return BULLA_E_MEMORY;
    return BULLA_OK;
}

static int open_log(struct connect *connect, const struct connect_options *options, bulla_error *error)
{
    const struct connect_log_options log = {.folder = options->logs, .witnesses = options->witnesses,
                                            .witness_count = options->witness_count, .needed = options->witnesses_needed};
    int code = connect_log_open(&log, &connect->log, error);
    if (code == BULLA_OK && options->log_key)
        code = connect_log_set_key(connect->log, options->log_key, error);
    return code;
}

int connect_open(struct event_base *base, const struct connect_options *options, struct connect **result, bulla_error *error)
{
    struct connect *connect = memory_alloc(1, sizeof *connect, error);
    *result = NULL;
    if (!connect)
        return BULLA_E_MEMORY;
    connect->base = base;
    connect->options = *options;
    connect->options.local_key = options->local_key;
    connect->options.receipts = options->receipts;
    int code = copy(&connect->options.local_key, error);
    if (code != BULLA_OK)
        connect->options.local_key = NULL;
    int receipts_code = copy(&connect->options.receipts, error);
    if (receipts_code != BULLA_OK)
        connect->options.receipts = NULL;
    const struct connect_link_options link = {
        .url = options->url, .key = options->server_key, .policy = options->policy, .policy_length = options->policy_length,
        .renew_seconds = options->renew_seconds, .connect_seconds = options->connect_seconds,
        .idle_seconds = options->idle_seconds, .told = on_told, .context = connect};
    code = code == BULLA_OK ? receipts_code : code;
    if (code == BULLA_OK)
        code = connect_link_open(base, &link, &connect->link, error);
    if (code == BULLA_OK)
        code = open_log(connect, options, error);
    if (code == BULLA_OK)
        code = connect_keeper_open(base, &connect->keeper, error);
    connect->tick = event_new(base, -1, EV_PERSIST, on_tick, connect);
    if (code == BULLA_OK && (!prove_open(connect) || !connect->tick ||
                             event_add(connect->tick, &(struct timeval){.tv_sec = TICK_SECONDS}) != 0))
        code = bulla_fail(error, BULLA_E_MEMORY, "memory is short");
    if (code != BULLA_OK) {
        connect_close(connect);
        return code;
    }
    connect_link_warm(connect->link);
    *result = connect;
    return BULLA_OK;
}

/* One that is not over; those that the keeper has may be. */
static struct passing *find_live(const struct connect *connect)
{
    struct passing *passing = connect->passings;
    while (passing && passing->is_over)
        passing = passing->next;
    return passing;
}

void connect_close(struct connect *connect)
{
    if (!connect)
        return;
    for (struct passing *passing; (passing = find_live(connect)) != NULL;)
        passing_drop(passing);
    connect_keeper_close(connect->keeper); /* its callbacks are over */
    for (struct passing *passing = connect->passings, *next; passing; passing = next) {
        next = passing->next;
        passing_enter(passing);
        passing->is_kept = 0;
        passing_leave(passing);
    }
    prove_close(connect);
    connect_link_close(connect->link);
    connect_log_close(connect->log);
    if (connect->tick)
        event_free(connect->tick);
    if (connect->options.local_key)
        memory_wipe((void *)(uintptr_t)connect->options.local_key, strlen(connect->options.local_key));
    memory_free((void *)(uintptr_t)connect->options.local_key);
    memory_free((void *)(uintptr_t)connect->options.receipts);
    memory_free(connect);
}
