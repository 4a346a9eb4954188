/* Everything that reads what an upstream sends: the HTTP response, its events, their JSON. The first byte of the input
 * says how many choices were asked for and of which kind; the second where the bytes are cut. What is told must not
 * depend on where they are cut. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "answer_log.h"
#include "base/memory.h"
#include "serve/upstream_events.h"
#include "serve/upstream_reply.h"
#include "serve/upstream_response.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct pipe {
    struct upstream_reply reply;
    struct upstream_events events;
    struct buffer plain;
    struct answer_log log;
    int is_over;
};

static int on_event(void *context, const char *data, size_t length)
{
    struct pipe *pipe = context;
    struct answer_error problem;
    if (upstream_reply_chunk(&pipe->reply, data, length, &problem) != BULLA_OK) {
        answer_log_fail(&pipe->log, &problem);
        pipe->is_over = 1;
    }
    return pipe->is_over || pipe->reply.is_done;
}

static int on_body(void *context, const uint8_t *bytes, size_t length)
{
    struct pipe *pipe = context;
    if (pipe->reply.kind == ANSWER_EMBEDDING)
        buffer_append(&pipe->plain, bytes, length);
    else if (upstream_events_feed(&pipe->events, bytes, length, NULL) != BULLA_OK)
        pipe->is_over = 1;
    return pipe->is_over;
}

static void finish(struct pipe *pipe, const struct upstream_response *response)
{
    struct answer_error problem;
    const char *body = pipe->plain.length > 0 ? (const char *)pipe->plain.data : "";
    int code = BULLA_OK;
    if (pipe->is_over)
        return;
    if (response->status != 200 && response->status != 0) {
        upstream_reply_refusal(&pipe->reply, response->status, response->retry_after, body, pipe->plain.length,
                               &problem);
        code = BULLA_E_INPUT;
    } else if (pipe->reply.kind == ANSWER_EMBEDDING) {
        code = upstream_reply_embedding(&pipe->reply, body, pipe->plain.length, &problem);
    } else {
        code = upstream_reply_end(&pipe->reply, &problem);
    }
    if (code == BULLA_OK)
        answer_log_end(&pipe->log, &pipe->reply.usage);
    else
        answer_log_fail(&pipe->log, &problem);
    if (code != BULLA_OK && (problem.status < 400 || problem.status > 599 || !problem.type || !problem.message[0]))
        abort();
}

static void run(const uint8_t *data, size_t size, unsigned how, size_t piece, struct buffer *told)
{
    struct pipe *pipe = memory_alloc(1, sizeof *pipe, NULL);
    struct answer_request request = {.kind = (enum answer_kind)(how % 3), .id = "r", .choices = 1 + (how >> 2) % 4};
    struct answer_sink sink = answer_log_sink(&pipe->log);
    struct upstream_response response = {.sink = {pipe, NULL, on_body}};
    int has_head = how & 128; /* else the bytes are a body already */
    if (!pipe || upstream_reply_open(&pipe->reply, &request, &sink, NULL) != BULLA_OK)
        abort();
    pipe->events.context = pipe;
    pipe->events.event = on_event;
    for (size_t at = 0; at < size && !pipe->is_over; at += piece) {
        size_t length = size - at < piece ? size - at : piece;
        if (!has_head)
            on_body(pipe, data + at, length);
        else if (upstream_response_feed(&response, data + at, length, NULL) != BULLA_OK)
            pipe->is_over = 1;
    }
    if (!has_head || upstream_response_close(&response, NULL) == BULLA_OK)
        finish(pipe, &response);
    *told = pipe->log.text;
    upstream_reply_close(&pipe->reply);
    upstream_events_free(&pipe->events);
    upstream_response_free(&response);
    buffer_free(&pipe->plain);
    memory_free(pipe);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buffer whole, cut;
    if (size < 2)
        return 0;
    run(data + 2, size - 2, data[0], size, &whole);
    run(data + 2, size - 2, data[0], 1 + data[1] % 32, &cut);
    if (whole.length != cut.length || (whole.length > 0 && memcmp(whole.data, cut.data, whole.length) != 0))
        abort();
    buffer_free(&whole);
    buffer_free(&cut);
    return 0;
}
