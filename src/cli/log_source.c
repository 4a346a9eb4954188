#include "cli/log_source.h"

#include <event2/event.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "serve/upstream_client.h"

enum { CONNECT_SECONDS = 10, HTTP_OK = 200, HTTP_NOT_FOUND = 404, HTTP_GONE = 410 };

struct log_source {
    const char *place;
    struct event_base *base; /* NULL: a folder */
    struct upstream_target target;
    unsigned seconds;
};

int log_source_open(const char *place, const char *ca_file, unsigned seconds, struct log_source **source, bulla_error *error)
{
    struct log_source *made = memory_alloc(1, sizeof *made, error);
    int is_url = strncasecmp(place, "http://", 7) == 0 || strncasecmp(place, "https://", 8) == 0, code = BULLA_OK;
    *source = NULL;
    if (!made)
        return BULLA_E_MEMORY;
    made->place = place;
    made->seconds = seconds;
    if (is_url && !(made->base = event_base_new()))
        code = bulla_fail(error, BULLA_E_MEMORY, "memory is short for a connection");
    if (code == BULLA_OK && is_url)
        code = upstream_target_open(made->base, place, NULL, ca_file, &made->target, error);
    if (code == BULLA_OK)
        *source = made;
    else
        log_source_close(made);
    return code;
}

void log_source_close(struct log_source *source)
{
    if (!source)
        return;
    if (source->base) {
        upstream_target_close(&source->target);
        event_base_free(source->base);
    }
    memory_free(source);
}

/* ---- One request ---- */

struct request {
    struct event_base *base;
    struct client_call *call;
    struct buffer *out;
    size_t most;
    unsigned seconds;
    int status, is_done;
    bulla_error error;
};

static void end(struct request *request)
{
    request->is_done = 1;
    client_call_close(request->call);
    event_base_loopbreak(request->base);
}

static void on_head(void *context, const struct upstream_response *response)
{
    ((struct request *)context)->status = response->status;
}

static void on_body(void *context, const uint8_t *bytes, size_t length)
{
    struct request *request = context;
    if (request->status != HTTP_OK)
        return;
    if (length > request->most - request->out->length) {
        bulla_fail(&request->error, BULLA_E_INPUT, "it is longer than %zu bytes", request->most);
        end(request);
        return;
    }
    buffer_append(request->out, bytes, length);
}

static void on_done(void *context)
{
    end(context);
}

static void on_failed(void *context, enum client_failure failure, const char *sentence)
{
    struct request *request = context;
    if (failure == CLIENT_DEADLINE)
        bulla_fail(&request->error, BULLA_E_IO, "it did not come whole within %u seconds (--timeout)", request->seconds);
    else
        bulla_fail(&request->error, failure == CLIENT_MEMORY ? BULLA_E_MEMORY : BULLA_E_IO, "%s", sentence);
    end(request);
}

/* Nothing is appended where the server says that there is no such thing. */
static int get_url(struct log_source *source, const char *path, size_t most, struct buffer *out, bulla_error *error)
{
    struct request request = {.base = source->base, .out = out, .most = most + out->length,
                              .seconds = source->seconds};
    const struct client_sink sink = {&request, on_head, on_body, on_done, on_failed};
    const struct client_request what = {.method = "GET", .path = path, .accept = "*/*", .connect_seconds = CONNECT_SECONDS,
                                        .idle_seconds = source->seconds,
                                        .deadline = clock_nanoseconds() + UINT64_C(1000000000) * source->seconds};
    int code = client_call_open(&source->target, &what, &sink, &request.call, error);
    if (code != BULLA_OK)
        return code;
    while (!request.is_done && event_base_loop(source->base, EVLOOP_ONCE) == 0)
        ;
    if (request.error.code == BULLA_OK && request.status != HTTP_OK && request.status != HTTP_NOT_FOUND &&
        request.status != HTTP_GONE)
        bulla_fail(&request.error, BULLA_E_IO, "the server answered with status %d", request.status);
    if (request.error.code != BULLA_OK)
        return bulla_fail(error, request.error.code, "%s%s: %s", source->place, path, request.error.text);
    return BULLA_OK;
}

static int get_file(const struct log_source *source, const char *path, size_t most, struct buffer *out, bulla_error *error)
{
    struct buffer name = {0};
    uint8_t *bytes = NULL;
    size_t length = 0;
    buffer_append_format(&name, "%s%s", source->place, path);
    int code = name.error.code != BULLA_OK ? bulla_fail(error, name.error.code, "%s", name.error.text)
                                           : file_read((const char *)name.data, most, &bytes, &length, error);
    if (code == BULLA_OK)
        buffer_append(out, bytes, length);
    memory_free(bytes);
    buffer_free(&name);
    return code;
}

/* ---- What is got ---- */

int log_source_checkpoint(struct log_source *source, const struct note_key *key, struct buffer *note,
                          struct checkpoint *checkpoint, bulla_error *error)
{
    bulla_error own = {0};
    buffer_clear(note);
    int code = source->base ? get_url(source, "/checkpoint", MOST_NOTE_BYTES, note, error)
                            : get_file(source, "/checkpoint", MOST_NOTE_BYTES, note, error);
    if (code == BULLA_OK && note->error.code != BULLA_OK)
        code = bulla_fail(error, note->error.code, "%s", note->error.text);
    if (code != BULLA_OK)
        return code;
    if (note->length == 0)
        return bulla_fail(error, BULLA_E_IO, "%s/checkpoint is not there", source->place);
    code = checkpoint_open((const char *)note->data, note->length, key, 1, 0, checkpoint, &own);
    return code == BULLA_OK ? code : bulla_fail(error, code, "%s/checkpoint: %s", source->place, own.text);
}

static int get_tile(void *context, const struct tlog_tile *tile, size_t most, struct buffer *out, bulla_error *error)
{
    char path[1 + TLOG_TILE_PATH] = "/";
    tlog_tile_path(tile, path + 1);
    return get_url(context, path, most, out, error);
}

struct tlog_source log_source_tiles(struct log_source *source)
{
    return source->base ? (struct tlog_source){source, get_tile} : tlog_folder_source(source->place);
}
