#include "cli/log_source.h"

#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "cli/remote.h"

struct log_source {
    struct remote remote;
    unsigned seconds;
};

int log_source_open(const char *place, const char *ca_file, unsigned seconds, struct log_source **source, bulla_error *error)
{
    struct log_source *made = memory_alloc(1, sizeof *made, error);
    *source = NULL;
    if (!made)
        return BULLA_E_MEMORY;
    made->seconds = seconds;
    int code = remote_open(place, ca_file, &made->remote, error);
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
    remote_close(&source->remote);
    memory_free(source);
}

/* Nothing is appended where the server says that there is no such thing. */
static int get_url(struct log_source *source, const char *path, size_t most, struct buffer *out, bulla_error *error)
{
    const struct remote_request request = {.path = path, .accept = "*/*", .idle_seconds = source->seconds,
                                           .seconds = source->seconds, .most = most};
    bulla_error why = {0};
    int status = 0, code = remote_call(&source->remote, &request, out, &status, &why);
    if (code == BULLA_OK && status != REMOTE_OK && status != REMOTE_NOT_FOUND && status != REMOTE_GONE)
        code = bulla_fail(&why, BULLA_E_IO, "the server answered with status %d", status);
    return code == BULLA_OK ? BULLA_OK : bulla_fail(error, code, "%s%s: %s", source->remote.place, path, why.text);
}

static int get_file(const struct log_source *source, const char *path, size_t most, struct buffer *out, bulla_error *error)
{
    struct buffer name = {0};
    uint8_t *bytes = NULL;
    size_t length = 0;
    buffer_append_format(&name, "%s%s", source->remote.place, path);
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
    int code = source->remote.base ? get_url(source, "/checkpoint", MOST_NOTE_BYTES, note, error)
                            : get_file(source, "/checkpoint", MOST_NOTE_BYTES, note, error);
    if (code == BULLA_OK && note->error.code != BULLA_OK)
        code = bulla_fail(error, note->error.code, "%s", note->error.text);
    if (code != BULLA_OK)
        return code;
    if (note->length == 0)
        return bulla_fail(error, BULLA_E_IO, "%s/checkpoint is not there", source->remote.place);
    code = checkpoint_open((const char *)note->data, note->length, key, 1, 0, checkpoint, &own);
    return code == BULLA_OK ? code : bulla_fail(error, code, "%s/checkpoint: %s", source->remote.place, own.text);
}

static int get_tile(void *context, const struct tlog_tile *tile, size_t most, struct buffer *out, bulla_error *error)
{
    char path[1 + TLOG_TILE_PATH] = "/";
    tlog_tile_path(tile, path + 1);
    return get_url(context, path, most, out, error);
}

struct tlog_source log_source_tiles(struct log_source *source)
{
    return source->remote.base ? (struct tlog_source){source, get_tile} : tlog_folder_source(source->remote.place);
}
