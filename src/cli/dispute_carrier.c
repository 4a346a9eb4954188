#include "cli/dispute_carrier.h"

#include <event2/event.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/memory.h"
#include "serve/upstream_client.h"

enum { CONNECT_SECONDS = 10, IDLE_SECONDS = 60, HTTP_OK = 200, HTTP_NOT_FOUND = 404, HTTP_CONFLICT = 409, MOST_ANSWER = 4 << 20 };

struct dispute_carrier {
    const char *place;
    struct event_base *base; /* NULL: a folder */
    struct upstream_target target;
};

int dispute_carrier_open(const char *place, const char *ca_file, struct dispute_carrier **carrier, bulla_error *error)
{
    struct dispute_carrier *made = memory_alloc(1, sizeof *made, error);
    int is_url = strncasecmp(place, "http://", 7) == 0 || strncasecmp(place, "https://", 8) == 0, code = BULLA_OK;
    *carrier = NULL;
    if (!made)
        return BULLA_E_MEMORY;
    made->place = place;
    if (is_url && !(made->base = event_base_new()))
        code = bulla_fail(error, BULLA_E_MEMORY, "memory is short for a connection");
    if (code == BULLA_OK && is_url)
        code = upstream_target_open(made->base, place, NULL, ca_file, &made->target, error);
    if (code == BULLA_OK)
        *carrier = made;
    else
        dispute_carrier_close(made);
    return code;
}

void dispute_carrier_close(struct dispute_carrier *carrier)
{
    if (!carrier)
        return;
    if (carrier->base) {
        upstream_target_close(&carrier->target);
        event_base_free(carrier->base);
    }
    memory_free(carrier);
}

/* ---- One request ---- */

struct request {
    struct event_base *base;
    struct client_call *call;
    struct buffer *out;
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
    if (length > MOST_ANSWER - request->out->length) {
        bulla_fail(&request->error, BULLA_E_INPUT, "it says more than %d bytes", MOST_ANSWER);
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
    bulla_fail(&request->error, failure == CLIENT_MEMORY ? BULLA_E_MEMORY : BULLA_E_IO, "%s", sentence);
    end(request);
}

/* The answer's body, whatever its status. */
static int call(struct dispute_carrier *carrier, const char *path, const struct buffer *message, struct buffer *out, int *status,
                bulla_error *error)
{
    struct request request = {.base = carrier->base, .out = out};
    struct buffer body = {0};
    const struct client_sink sink = {&request, on_head, on_body, on_done, on_failed};
    if (message)
        buffer_append(&body, message->data, message->length);
    const struct client_request what = {.method = message ? "POST" : "GET", .path = path, .accept = "application/json",
        .body = message ? &body : NULL, .connect_seconds = CONNECT_SECONDS, .idle_seconds = IDLE_SECONDS};
    int code = client_call_open(&carrier->target, &what, &sink, &request.call, error);
    if (code != BULLA_OK) {
        buffer_free(&body);
        return code;
    }
    while (!request.is_done && event_base_loop(carrier->base, EVLOOP_ONCE) == 0)
        ;
    *status = request.status;
    if (request.error.code == BULLA_OK && out->error.code != BULLA_OK)
        request.error = out->error;
    return request.error.code == BULLA_OK ? BULLA_OK
                                          : bulla_fail(error, request.error.code, "%s: %s", carrier->place, request.error.text);
}

static int post_url(struct dispute_carrier *carrier, const struct buffer *message, int *is_taken, bulla_error *why,
                    bulla_error *error)
{
    struct buffer out = {0};
    struct arena arena = {0};
    int status = 0;
    int code = call(carrier, "/v1/disputes", message, &out, &status, error);
    if (code == BULLA_OK && status == HTTP_CONFLICT) {
        const struct json *said = json_get(json_parse((const char *)out.data, out.length, "", &arena, NULL), "error");
        bulla_fail(why, BULLA_E_INPUT, "%s", json_is(said, JSON_STRING) ? said->text : "it does not say why");
    } else if (code == BULLA_OK && status != HTTP_OK) {
        code = bulla_fail(error, BULLA_E_IO, "%s: the referee answered with status %d", carrier->place, status);
    }
    *is_taken = code == BULLA_OK && status == HTTP_OK;
    arena_free(&arena);
    buffer_free(&out);
    return code;
}

/* FOLDER/inbox/HASH.json: the same message is the same file. */
static int post_file(const struct dispute_carrier *carrier, const struct buffer *message, bulla_error *error)
{
    struct buffer path = {0};
    uint8_t hash[HASH_SHA256_BYTES];
    char text[2 * HASH_SHA256_BYTES + 1];
    int code = hash_sha256(message->data, message->length, hash, error);
    hex_encode(hash, sizeof hash, text);
    buffer_append_format(&path, "%s/inbox/%s.json", carrier->place, text);
    if (code == BULLA_OK)
        code = path.error.code != BULLA_OK ? bulla_fail(error, path.error.code, "%s", path.error.text)
                                           : file_write((const char *)path.data, message->data, message->length, error);
    buffer_free(&path);
    return code;
}

int dispute_carrier_post(struct dispute_carrier *carrier, const struct buffer *message, int *is_taken, bulla_error *why,
                         bulla_error *error)
{
    *is_taken = 1;
    return carrier->base ? post_url(carrier, message, is_taken, why, error) : post_file(carrier, message, error);
}

static int get_file(const struct dispute_carrier *carrier, const char *path, struct buffer *out, bulla_error *error)
{
    struct buffer name = {0};
    uint8_t *bytes = NULL;
    size_t length = 0;
    enum file_kind kind = FILE_ABSENT;
    buffer_append_format(&name, "%s%.*s.json", carrier->place, (int)strcspn(path, "?"), path);
    int code = name.error.code != BULLA_OK ? bulla_fail(error, name.error.code, "%s", name.error.text)
                                           : file_find_kind((const char *)name.data, &kind, error);
    if (code == BULLA_OK && kind != FILE_ABSENT)
        code = file_read((const char *)name.data, MOST_ANSWER, &bytes, &length, error);
    if (bytes)
        buffer_append(out, bytes, length);
    memory_free(bytes);
    buffer_free(&name);
    return code;
}

int dispute_carrier_get(struct dispute_carrier *carrier, const char *path, struct buffer *out, bulla_error *error)
{
    int status = 0;
    if (!carrier->base)
        return get_file(carrier, path, out, error);
    int code = call(carrier, path, NULL, out, &status, error);
    if (code == BULLA_OK && status != HTTP_OK) {
        buffer_clear(out);
        if (status != HTTP_NOT_FOUND)
            code = bulla_fail(error, BULLA_E_IO, "%s: the referee answered with status %d", carrier->place, status);
    }
    return code;
}
