#define _GNU_SOURCE
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "serve/connect_parts.h"

#define COMMENT_AFTER (UINT64_C(5) * 1000000000) /* nanoseconds in which a server that lives told nothing to pass on */

/* ---- Its life ---- */

void passing_enter(struct passing *passing)
{
    passing->depth++;
}

static void free_passing(struct passing *passing)
{
    *passing->link = passing->next;
    if (passing->next)
        passing->next->link = passing->link;
    connect_check_close(passing->check);
    connect_entry_free(&passing->entry);
    upstream_events_free(&passing->events);
    buffer_free(&passing->whole);
    buffer_free(&passing->ready);
    buffer_free(&passing->out);
    buffer_free(&passing->last);
    arena_free(&passing->arena);
    memory_free(passing);
}

void passing_leave(struct passing *passing)
{
    if (--passing->depth == 0 && passing->is_over && !passing->is_kept)
        free_passing(passing);
}

/* Nothing more is read, proved or told. Between enter and leave. */
static void end(struct passing *passing)
{
    passing->is_over = 1;
    passing->exchange = NULL;
    prove_cancel(passing);
    connect_ask_close(passing->ask);
    passing->ask = NULL;
}

void passing_drop(struct passing *passing)
{
    passing_enter(passing);
    if (!passing->is_over)
        end(passing);
    passing_leave(passing);
}

static void on_closed(void *context)
{
    passing_drop(context);
}

/* ---- To the client ---- */

static void set_header(struct passing *passing, const char *name, const char *value)
{
    bulla_error error = {0}; /* one that cannot be set is left out */
    http_reply_header(passing->exchange, name, value, &error);
}

/* Of the server's headers what means something here. */
static void pass_headers(struct passing *passing, const struct upstream_response *response)
{
    static const char *const names[] = {"x-request-id", "retry-after", "cache-control", "x-accel-buffering", "allow",
                                        "x-bulla-seed", "x-bulla-receipt-id", "x-bulla-receipt-salt"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = upstream_response_header(response, names[i]);
        if (value)
            set_header(passing, names[i], value);
    }
}

static void begin_stream(struct passing *passing)
{
    if (passing->has_begun)
        return;
    passing->has_begun = 1;
    http_reply_begin(passing->exchange, 200, "text/event-stream; charset=utf-8");
}

static void flush(struct passing *passing)
{
    if (passing->ready.length == 0 || !passing->exchange)
        return;
    begin_stream(passing);
    http_reply_write(passing->exchange, passing->ready.data, passing->ready.length);
    passing->written = clock_nanoseconds();
    buffer_clear(&passing->ready);
}

static void write_event(struct passing *passing, const struct buffer *data)
{
    const char *type = connect_check_type(passing->check);
    if (type && strpbrk(type, "\r\n") == NULL)
        buffer_append_format(&passing->ready, "event: %s\n", type);
    buffer_append_text(&passing->ready, "data: ");
    buffer_append(&passing->ready, data->data, data->length);
    buffer_append_text(&passing->ready, "\n\n");
}

/* An error in the middle of a stream, which is the last of it: clients of either API see one. */
static void write_stream_error(struct passing *passing, const struct connect_problem *problem)
{
    struct buffer *out = &passing->ready;
    if (passing->asked.form != CONNECT_RESPONSE) {
        buffer_append_text(out, "data: ");
        connect_write_error(out, "unverified", problem);
    } else {
        char message[1000];
        snprintf(message, sizeof message, "%s: %s", problem->check, problem->text);
        buffer_append_text(out, "event: error\ndata: {\"type\":\"error\",\"code\":\"unverified\",\"message\":");
        json_write_string(out, message, strlen(message));
        buffer_append_text(out, ",\"param\":null,\"sequence_number\":0,\"bulla\":{\"check\":");
        json_write_string(out, problem->check, strlen(problem->check));
        buffer_append_text(out, ",\"verified\":false}}");
    }
    buffer_append_text(out, "\n\n");
}

void passing_fail(struct passing *passing, int status, const struct connect_problem *problem)
{
    struct connect_problem kept = *problem;
    struct buffer body = {0};
    if (passing->is_over)
        return;
    passing_enter(passing);
    struct http_exchange *exchange = passing->exchange;
    int has_begun = passing->has_begun, is_plain = passing->has_begun && !passing->is_stream;
    connect_tell(passing->connect, "%s", problem->text[0] ? problem->text : problem->check);
    if (has_begun && !is_plain) {
        write_stream_error(passing, &kept);
        flush(passing);
        end(passing);
        http_reply_end(exchange);
    } else if (has_begun) {
        end(passing);
        http_reply_abort(exchange);
    } else {
        set_header(passing, "x-bulla-verified", "false");
        if (status == 503)
            set_header(passing, "Retry-After", "1");
        connect_write_error(&body, strncmp(kept.check, "server.", 7) == 0 ? "server_unavailable" : "unverified", &kept);
        end(passing);
        http_reply_buffer(exchange, status, "application/json", &body);
    }
    passing_leave(passing);
}

static void fail_with(struct passing *passing, const char *check, const char *text)
{
    struct connect_problem problem = {0};
    connect_fail(&problem, check, "%s", text);
    passing_fail(passing, 502, &problem);
}

/* Both: the answer has ended as it should, and all of it is proved. */
static void finish_if_whole(struct passing *passing)
{
    if (!passing->has_ended || !passing->is_proved || passing->is_over)
        return;
    struct http_exchange *exchange = passing->exchange;
    const char *path = passing->receipt_path[0] ? passing->receipt_path : NULL;
    connect_check_seal(&passing->last, path);
    if (passing->last.error.code != BULLA_OK || passing->ready.error.code != BULLA_OK) {
        fail_with(passing, "memory", "memory is short");
    } else if (passing->is_stream) {
        write_event(passing, &passing->last);
        if (passing->asked.form != CONNECT_RESPONSE)
            buffer_append_text(&passing->ready, "data: [DONE]\n\n");
        flush(passing);
        end(passing);
        http_reply_end(exchange);
    } else {
        set_header(passing, "x-bulla-verified", "true");
        if (path)
            set_header(passing, "x-bulla-receipt", path);
        struct buffer body = passing->last;
        passing->last = (struct buffer){0};
        end(passing);
        http_reply_buffer(exchange, 200, "application/json", &body);
    }
}

void passing_proved(struct passing *passing)
{
    passing_enter(passing);
    passing->is_proved = 1;
    finish_if_whole(passing);
    passing_leave(passing);
}

/* ---- From the server ---- */

static void on_drained(void *context)
{
    struct passing *passing = context;
    if (passing->is_paused && passing->ask) {
        passing->is_paused = 0;
        connect_ask_pause(passing->ask, 0);
    }
}

/* Reads no more from the server while the client does not take what is there. */
static void slow_down(struct passing *passing)
{
    if (passing->is_over || passing->is_paused || !passing->has_begun || !passing->ask ||
        http_reply_unsent(passing->exchange) <= CONNECT_MOST_UNSENT)
        return;
    passing->is_paused = 1;
    connect_ask_pause(passing->ask, 1);
}

static void on_head(void *context, const struct upstream_response *response)
{
    struct passing *passing = context;
    struct connect_problem problem = {0};
    passing_enter(passing);
    passing->status = response->status;
    pass_headers(passing, response);
    int is_answer = passing->kind == PASSING_ANSWER && response->status == 200;
    if (passing->kind == PASSING_ANSWER && response->status < 400 && !is_answer) {
        passing->is_stream = 0;
        fail_with(passing, "answer.form", "the server answers with a status that is neither 200 nor an error");
    } else if (!is_answer) {
        if (passing->kind != PASSING_PLAIN)
            set_header(passing, "x-bulla-verified", "false");
        passing->is_stream = 0;
        passing->has_begun = 1;
        http_reply_begin(passing->exchange, response->status,
                         response->content_type[0] ? response->content_type : "application/json");
    } else if (passing->is_stream != (strcmp(response->content_type, "text/event-stream") == 0)) {
        passing->is_stream = 0;
        fail_with(passing, "answer.form", "the answer is a stream where none was asked for, or none where one was");
    } else if (connect_check_open(&passing->asked, upstream_response_header(response, "x-bulla-receipt-id"),
                                  upstream_response_header(response, "x-bulla-receipt-salt"), &passing->check,
                                  &problem) != BULLA_OK) {
        passing_fail(passing, 502, &problem);
    }
    passing_leave(passing);
}

static int on_event(void *context, const char *data, size_t length)
{
    struct passing *passing = context;
    struct connect_problem problem = {0};
    enum connect_event event;
    if (connect_check_event(passing->check, data, length, &passing->out, &event, &problem) != BULLA_OK) {
        passing_fail(passing, 502, &problem);
    } else if (event == CONNECT_PASS) {
        write_event(passing, &passing->out);
    } else if (event == CONNECT_LAST) {
        passing->has_last = 1;
        passing->last = passing->out;
        passing->out = (struct buffer){0};
        prove_begin(passing);
    } else if (event == CONNECT_FAILED) {
        buffer_cut(&passing->out, passing->out.length - 1);
        buffer_append_text(&passing->out, ",\"bulla\":{\"verified\":false}}");
        write_event(passing, &passing->out);
        flush(passing);
        struct http_exchange *exchange = passing->exchange;
        end(passing);
        http_reply_end(exchange);
    }
    return passing->is_over;
}

static void take_stream(struct passing *passing, const uint8_t *bytes, size_t length)
{
    bulla_error error = {0};
    if (upstream_events_feed(&passing->events, bytes, length, &error) != BULLA_OK && !passing->is_over)
        fail_with(passing, "answer.events", error.text);
    if (passing->is_over)
        return;
    if (passing->ready.error.code != BULLA_OK) {
        fail_with(passing, "memory", "memory is short");
        return;
    }
    if (passing->ready.length == 0 && clock_nanoseconds() - passing->written > COMMENT_AFTER)
        buffer_append_text(&passing->ready, ": keep-alive\n\n"); /* the server lives, as its comment said */
    flush(passing);
    slow_down(passing);
}

static void on_body(void *context, const uint8_t *bytes, size_t length)
{
    struct passing *passing = context;
    passing_enter(passing);
    if (!passing->check) {
        http_reply_write(passing->exchange, bytes, length);
        slow_down(passing);
    } else if (passing->is_stream) {
        take_stream(passing, bytes, length);
    } else if (length > CONNECT_MOST_WHOLE - passing->whole.length) {
        fail_with(passing, "answer.length", "the answer is longer than 64 MiB");
    } else {
        buffer_append(&passing->whole, bytes, length);
    }
    passing_leave(passing);
}

static void take_whole(struct passing *passing)
{
    struct connect_problem problem = {0};
    const struct buffer *whole = &passing->whole;
    if (whole->error.code != BULLA_OK)
        connect_fail(&problem, "memory", "%s", whole->error.text);
    else
        connect_check_whole(passing->check, whole->length ? (const char *)whole->data : "", whole->length, &passing->last,
                            &problem);
    if (problem.check[0]) {
        passing_fail(passing, 502, &problem);
        return;
    }
    buffer_free(&passing->whole);
    passing->whole = (struct buffer){0};
    passing->has_last = passing->has_ended = 1;
    prove_begin(passing);
}

static void on_done(void *context)
{
    struct passing *passing = context;
    passing_enter(passing);
    if (!passing->check) {
        struct http_exchange *exchange = passing->exchange;
        end(passing);
        http_reply_end(exchange);
    } else if (!passing->is_stream) {
        take_whole(passing);
    } else if (!passing->has_last || !connect_check_ended(passing->check)) {
        fail_with(passing, "answer.end", "the stream ended without its last events: the answer was cut off");
    } else {
        passing->has_ended = 1;
        finish_if_whole(passing);
    }
    passing_leave(passing);
}

static void on_failed(void *context, int status, const struct connect_problem *problem)
{
    passing_fail(context, status, problem);
}

/* ---- The request ---- */

/* The path as a request line has it; what was decoded may hold anything. */
static void write_target(struct buffer *out, const char *path, const char *query)
{
    for (const char *c = path; *c; c++)
        if (isalnum((unsigned char)*c) || strchr("/-._~!$&'()*+,;=:@", *c))
            buffer_append_byte(out, (uint8_t)*c);
        else
            buffer_append_format(out, "%%%02X", (unsigned char)*c);
    if (*query)
        buffer_append_format(out, "?%s", query);
}

static void write_headers(const struct passing *passing, struct buffer *out)
{
    static const char *const passed[] = {"x-request-id", "x-request-timeout"};
    for (size_t i = 0; i < sizeof passed / sizeof *passed; i++) {
        const char *value = http_header(passing->exchange, passed[i]);
        if (value)
            buffer_append_format(out, "%s: %s\r\n", passed[i], value);
    }
    if (passing->kind == PASSING_ANSWER)
        buffer_append_text(out, "x-bulla-receipt: full\r\n");
}

void passing_send(struct passing *passing)
{
    struct buffer target = {0}, headers = {0};
    const struct connect_ask_sink sink = {passing, on_head, on_body, on_done, on_failed};
    const char *method = http_method(passing->exchange);
    size_t length;
    const char *body = http_body(passing->exchange, &length);
    write_target(&target, http_path(passing->exchange), http_query(passing->exchange));
    write_headers(passing, &headers);
    const struct connect_ask_request request = {
        .method = strcmp(method, "HEAD") == 0 ? "GET" : method, /* whose body the HTTP server leaves out */
        .path = (const char *)target.data,
        .accept = passing->kind != PASSING_ANSWER ? "*/*" : passing->is_stream ? "text/event-stream" : "application/json",
        .headers = headers.length ? (const char *)headers.data : "",
        .body = length || strcmp(method, "POST") == 0 ? body : NULL,
        .length = length};
    int code = target.error.code != BULLA_OK ? target.error.code : headers.error.code;
    if (code == BULLA_OK)
        code = connect_ask_open(passing->connect->link, &request, &sink, &passing->ask, NULL);
    buffer_free(&target);
    buffer_free(&headers);
    if (code != BULLA_OK)
        fail_with(passing, "memory", "memory is short");
}

/* What the check has to know of the request. 0 where it was refused. */
static int read_request(struct passing *passing, enum connect_form form, struct connect_problem *problem)
{
    bulla_error error = {0};
    struct connect_asked *asked = &passing->asked;
    asked->form = form;
    asked->body = http_body(passing->exchange, &asked->length);
    asked->json = json_parse(asked->body, asked->length, "the request", &passing->arena, &error);
    if (!json_is(asked->json, JSON_OBJECT))
        return connect_fail(problem, "request", "%s", error.code != BULLA_OK ? error.text : "the request is no object");
    passing->is_stream = json_is(json_get(asked->json, "stream"), JSON_TRUE);
    return BULLA_OK;
}

void passing_start(struct connect *connect, struct http_exchange *exchange, enum passing_kind kind, enum connect_form form)
{
    struct connect_problem problem = {0};
    struct passing *passing = memory_alloc(1, sizeof *passing, NULL);
    if (!passing) {
        connect_refuse(exchange, 503, "server_error", "out_of_memory", "memory is short");
        return;
    }
    passing->connect = connect;
    passing->exchange = exchange;
    passing->kind = kind;
    passing->events.context = passing;
    passing->events.event = on_event;
    passing->written = clock_nanoseconds();
    passing->next = connect->passings;
    passing->link = &connect->passings;
    if (passing->next)
        passing->next->link = &passing->next;
    connect->passings = passing;
    http_on_close(exchange, on_closed, passing);
    http_on_drain(exchange, on_drained, passing);
    passing_enter(passing);
    if (kind == PASSING_ANSWER && read_request(passing, form, &problem) != BULLA_OK) {
        end(passing);
        connect_refuse(exchange, 400, "invalid_request_error", "invalid_json", "%s", problem.text);
    } else {
        prove_find_log(passing);
    }
    passing_leave(passing);
}
