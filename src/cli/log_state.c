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

static int fail_old(const struct checkpoint *last, const struct checkpoint *next, const char *more, bulla_error *error)
{
    return bulla_fail(error, BULLA_E_IO, "the log shows an old checkpoint, of %" PRIu64 " leaves where %" PRIu64 " were seen "
                                         "before (a replay, or a copy that is behind)%s", next->size, last->size, more);
}

/* *contradicts, after an error: the two checkpoints themselves are why. */
static int check_growth(const struct tlog_source *source, const struct checkpoint *last, const struct checkpoint *next,
                        int *contradicts, bulla_error *error)
{
    int is_old = next->size < last->size;
    const struct checkpoint *large = is_old ? last : next, *small = is_old ? next : last;
    struct tlog_reader *reader = NULL;
    uint8_t root[MERKLE_HASH];
    bulla_error own = {0};
    *contradicts = next->size == last->size && last->size > 0 && memcmp(next->root, last->root, MERKLE_HASH) != 0;
    if (*contradicts)
        return bulla_fail(error, BULLA_E_INPUT, "the log has forked: it signed two roots of %" PRIu64 " leaves", next->size);
    int code = tlog_reader_open(source, large->size, large->root, &reader, &own);
    if (code == BULLA_OK && small->size > 0)
        code = tlog_reader_root(reader, small->size, root, &own);
    tlog_reader_close(reader);
    *contradicts = code == BULLA_OK && small->size > 0 && memcmp(root, small->root, MERKLE_HASH) != 0;
    if (*contradicts)
        return bulla_fail(error, BULLA_E_INPUT, "the log has forked: its %" PRIu64 " leaves did not begin with the %" PRIu64
                                                " that it signed too", large->size, small->size);
    if (is_old)
        return fail_old(last, next, code == BULLA_OK ? "" : ", and no tiles that show that it is one of this history", error);
    return code == BULLA_OK ? code
                            : bulla_fail(error, code, "the log has signed %" PRIu64 " leaves, and does not show that they began "
                                                      "with the %" PRIu64 " that were seen before: %s", next->size, last->size,
                                         own.text);
}

int log_state_check(const struct log_state *state, struct log_source *source, const struct buffer *note,
                    const struct checkpoint *checkpoint, bulla_error *error)
{
    const struct tlog_source tiles = log_source_tiles(source);
    struct buffer name = {0};
    bulla_error own = {0}, other = {0};
    int contradicts;
    int code = check_growth(&tiles, &state->checkpoint, checkpoint, &contradicts, &own);
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
