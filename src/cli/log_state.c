#define _GNU_SOURCE
#include "cli/log_state.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"

enum { ROOT_DIGITS = 4 /* bytes of the root in the names of what is kept */ };

static int take_lock(struct log_state *state, bulla_error *error)
{
    struct buffer path = {0};
    buffer_append_format(&path, "%s.lock", state->path);
    if (path.error.code != BULLA_OK)
        return bulla_fail(error, path.error.code, "%s", path.error.text);
    state->lock = open((const char *)path.data, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int code = BULLA_OK;
    if (state->lock < 0)
        code = bulla_fail(error, BULLA_E_IO, "%s: cannot open it: %s", (const char *)path.data, strerror(errno));
    else if (flock(state->lock, LOCK_EX | LOCK_NB) != 0)
        code = bulla_fail(error, BULLA_E_IO, "%s: another process goes on from this state", state->path);
    buffer_free(&path);
    return code;
}

int log_state_open(const char *path, const struct note_key *key, struct log_state *state, bulla_error *error)
{
    enum file_kind kind;
    uint8_t *text = NULL;
    size_t length = 0;
    bulla_error own = {0};
    *state = (struct log_state){.path = path, .lock = -1};
    int code = take_lock(state, error);
    if (code == BULLA_OK)
        code = file_find_kind(path, &kind, error);
    if (code != BULLA_OK || kind == FILE_ABSENT)
        return code;
    code = file_read(path, MOST_NOTE_BYTES, &text, &length, error);
    if (code == BULLA_OK && checkpoint_open((const char *)text, length, key, 1, 0, &state->checkpoint, &own) != BULLA_OK)
        code = bulla_fail(error, own.code, "%s: not a state of this log: %s", path, own.text);
    if (code == BULLA_OK)
        buffer_append(&state->note, text, length);
    memory_free(text);
    return code == BULLA_OK && state->note.error.code != BULLA_OK
               ? bulla_fail(error, state->note.error.code, "%s", state->note.error.text)
               : code;
}

void log_state_close(struct log_state *state)
{
    buffer_free(&state->note);
    if (state->lock >= 0)
        close(state->lock);
}

int log_state_keep(struct log_state *state, const struct buffer *note, const struct checkpoint *checkpoint,
                   bulla_error *error)
{
    int code = file_write(state->path, note->data, note->length, error);
    if (code != BULLA_OK)
        return code;
    buffer_clear(&state->note);
    buffer_append(&state->note, note->data, note->length);
    state->checkpoint = *checkpoint;
    return state->note.error.code != BULLA_OK ? bulla_fail(error, state->note.error.code, "%s", state->note.error.text)
                                              : BULLA_OK;
}

/* STATE.conflict-SIZE-ROOT.kept and .shown: the same contradiction, seen again, has the same names. */
static int keep_evidence(const struct log_state *state, const struct buffer *note, const struct checkpoint *checkpoint,
                         struct buffer *name, bulla_error *error)
{
    char root[2 * ROOT_DIGITS + 1];
    hex_encode(checkpoint->root, ROOT_DIGITS, root);
    buffer_append_format(name, "%s.conflict-%" PRIu64 "-%s", state->path, checkpoint->size, root);
    size_t length = name->length;
    buffer_append_text(name, ".kept");
    if (name->error.code != BULLA_OK)
        return bulla_fail(error, name->error.code, "%s", name->error.text);
    int code = file_write((const char *)name->data, state->note.data, state->note.length, error);
    buffer_cut(name, length);
    buffer_append_text(name, ".shown");
    if (code == BULLA_OK)
        code = name->error.code != BULLA_OK ? bulla_fail(error, name->error.code, "%s", name->error.text)
                                            : file_write((const char *)name->data, note->data, note->length, error);
    buffer_cut(name, length);
    return code;
}

int log_state_check(const struct log_state *state, struct log_source *source, const struct buffer *note,
                    const struct checkpoint *checkpoint, bulla_error *error)
{
    const struct tlog_source tiles = log_source_tiles(source);
    struct buffer name = {0};
    bulla_error own = {0}, other = {0};
    int contradicts;
    int code = tlog_check_growth(&tiles, &state->checkpoint, checkpoint, &contradicts, &own);
    if (code == BULLA_OK)
        return code;
    if (!contradicts)
        bulla_fail(error, code, "%s", own.text);
    else if (keep_evidence(state, note, checkpoint, &name, &other) == BULLA_OK)
        bulla_fail(error, code, "%s; both checkpoints are in %s.kept and .shown", own.text, (const char *)name.data);
    else
        bulla_fail(error, code, "%s; and the checkpoints could not be kept: %s", own.text, other.text);
    buffer_free(&name);
    return code;
}
