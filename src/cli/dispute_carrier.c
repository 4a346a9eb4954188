#include "cli/dispute_carrier.h"

#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/memory.h"
#include "cli/remote.h"

enum { IDLE_SECONDS = 60, MOST_ANSWER = 4 << 20 };

struct dispute_carrier {
    struct remote remote;
};

int dispute_carrier_open(const char *place, const char *ca_file, struct dispute_carrier **carrier, bulla_error *error)
{
    struct dispute_carrier *made = memory_alloc(1, sizeof *made, error);
    *carrier = NULL;
    if (!made)
        return BULLA_E_MEMORY;
    int code = remote_open(place, ca_file, &made->remote, error);
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
    remote_close(&carrier->remote);
    memory_free(carrier);
}

/* The answer's body, whatever its status. */
static int call(struct dispute_carrier *carrier, const char *path, const struct buffer *message, struct buffer *out, int *status,
                bulla_error *error)
{
    const struct remote_request request = {.path = path, .accept = "application/json", .body = message,
                                           .idle_seconds = IDLE_SECONDS, .most = MOST_ANSWER, .takes_any_status = 1};
    bulla_error why = {0};
    int code = remote_call(&carrier->remote, &request, out, status, &why);
    return code == BULLA_OK ? BULLA_OK : bulla_fail(error, code, "%s: %s", carrier->remote.place, why.text);
}

static int post_url(struct dispute_carrier *carrier, const struct buffer *message, int *is_taken, bulla_error *why,
                    bulla_error *error)
{
    struct buffer out = {0};
    struct arena arena = {0};
    int status = 0;
    int code = call(carrier, "/v1/disputes", message, &out, &status, error);
    if (code == BULLA_OK && status == REMOTE_CONFLICT) {
        const struct json *said = json_get(json_parse((const char *)out.data, out.length, "", &arena, NULL), "error");
        bulla_fail(why, BULLA_E_INPUT, "%s", json_is(said, JSON_STRING) ? said->text : "it does not say why");
    } else if (code == BULLA_OK && status != REMOTE_OK) {
        code = bulla_fail(error, BULLA_E_IO, "%s: the referee answered with status %d", carrier->remote.place, status);
    }
    *is_taken = code == BULLA_OK && status == REMOTE_OK;
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
    buffer_append_format(&path, "%s/inbox/%s.json", carrier->remote.place, text);
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
    return carrier->remote.base ? post_url(carrier, message, is_taken, why, error) : post_file(carrier, message, error);
}

static int get_file(const struct dispute_carrier *carrier, const char *path, struct buffer *out, bulla_error *error)
{
    struct buffer name = {0};
    uint8_t *bytes = NULL;
    size_t length = 0;
    enum file_kind kind = FILE_ABSENT;
    buffer_append_format(&name, "%s%.*s.json", carrier->remote.place, (int)strcspn(path, "?"), path);
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
    if (!carrier->remote.base)
        return get_file(carrier, path, out, error);
    int code = call(carrier, path, NULL, out, &status, error);
    if (code == BULLA_OK && status != REMOTE_OK) {
        buffer_clear(out);
        if (status != REMOTE_NOT_FOUND)
            code = bulla_fail(error, BULLA_E_IO, "%s: the referee answered with status %d", carrier->remote.place, status);
    }
    return code;
}
