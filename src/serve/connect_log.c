#define _GNU_SOURCE /* memrchr */
#include "serve/connect_log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"

enum { MOST_TILES = 64, ID_BYTES = 16, PATH_BYTES = 1100 };

/* The widest that was seen of one tile; `is_absent`: the server has none of that width. */
struct tile {
    struct tlog_tile name;
    struct buffer bytes;
    int is_absent;
};

struct connect_log {
    char folder[1000], path[PATH_BYTES], fork[PATH_BYTES];
    struct note_key keys[1 + CONNECT_MOST_WITNESSES]; /* the log's, then the witnesses' */
    size_t witness_count, needed;
    int has_key, has_newest, has_forked, has_fork_file;
    struct checkpoint newest;
    struct buffer note; /* the newest's */
    struct tile tiles[MOST_TILES];
    size_t tile_count, oldest;
    struct tlog_tile want; /* while the tiles are read */
    int wants;
};

/* ---- Its life ---- */

int connect_log_open(const struct connect_log_options *options, struct connect_log **result, bulla_error *error)
{
    struct connect_log *log = memory_alloc(1, sizeof *log, error);
    *result = NULL;
    if (!log)
        return BULLA_E_MEMORY;
    if (strlen(options->folder) >= sizeof log->folder || options->witness_count > CONNECT_MOST_WITNESSES ||
        options->needed > options->witness_count) {
        memory_free(log);
        return bulla_fail(error, BULLA_E_USAGE, "%zu cosignatures are wanted of %zu witnesses, at most %d are known",
                          options->needed, options->witness_count, CONNECT_MOST_WITNESSES);
    }
    snprintf(log->folder, sizeof log->folder, "%s", options->folder);
    for (size_t i = 0; i < options->witness_count; i++)
        log->keys[1 + i] = options->witnesses[i];
    log->witness_count = options->witness_count;
    log->needed = options->needed;
    *result = log;
    return BULLA_OK;
}

static void forget_tiles(struct connect_log *log)
{
    for (size_t i = 0; i < log->tile_count; i++)
        buffer_free(&log->tiles[i].bytes);
    memset(log->tiles, 0, sizeof log->tiles);
    log->tile_count = log->oldest = 0;
}

void connect_log_close(struct connect_log *log)
{
    if (!log)
        return;
    forget_tiles(log);
    buffer_free(&log->note);
    memory_free(log);
}

/* The last of the notes that is whole. They were verified when they came, and are verified again. */
static int open_last(struct connect_log *log, const char *bytes, size_t length, bulla_error *error)
{
    for (;;) {
        const char *before = memrchr(bytes, 0, length);
        const char *note = before ? before + 1 : bytes;
        size_t note_length = (size_t)(bytes + length - note);
        bulla_error own = {0};
        int code = checkpoint_open(note, note_length, log->keys, 1, 0, &log->newest, &own);
        if (code == BULLA_OK)
            buffer_append(&log->note, note, note_length);
        if (code == BULLA_OK || !before)
            return code == BULLA_OK ? code : bulla_fail(error, code, "%s", own.text);
        length = (size_t)(before - bytes);
    }
}

static int load_newest(struct connect_log *log, bulla_error *error)
{
    enum file_kind kind;
    uint8_t *bytes;
    size_t length;
    bulla_error own = {0};
    int code = file_find_kind(log->path, &kind, error);
    if (code != BULLA_OK || kind == FILE_ABSENT)
        return code;
    code = file_read(log->path, CONNECT_MOST_KEPT + MOST_NOTE_BYTES, &bytes, &length, error);
    if (code != BULLA_OK)
        return code;
    code = open_last(log, (const char *)bytes, length, &own);
    if (code == BULLA_OK) {
        log->has_newest = 1;
    } else {
        code = bulla_fail(error, code, "%s: this checkpoint was kept and is none now (%s); the log's history cannot be "
                                       "followed without it: restore it, or remove it to begin anew",
                          log->path, own.text);
    }
    memory_free(bytes);
    return code;
}

int connect_log_set_key(struct connect_log *log, const struct note_key *key, bulla_error *error)
{
    struct buffer text = {0};
    uint8_t digest[HASH_SHA256_BYTES];
    char id[2 * ID_BYTES + 1];
    note_key_write(key, &text);
    int code = text.error.code != BULLA_OK ? bulla_fail(error, text.error.code, "%s", text.error.text)
                                           : hash_sha256(text.data, text.length, digest, error);
    buffer_free(&text);
    if (code != BULLA_OK)
        return code;
    hex_encode(digest, ID_BYTES, id);
    log->keys[0] = *key;
    log->has_newest = 0;
    buffer_clear(&log->note);
    forget_tiles(log);
    snprintf(log->path, sizeof log->path, "%s/%s.checkpoint", log->folder, id);
    snprintf(log->fork, sizeof log->fork, "%s/%s.fork", log->folder, id);
    struct stat status;
    log->has_forked = log->has_fork_file = stat(log->fork, &status) == 0 || errno != ENOENT;
    code = load_newest(log, error);
    log->has_key = code == BULLA_OK;
    return code;
}

const struct note_key *connect_log_key(const struct connect_log *log)
{
    return log->has_key ? &log->keys[0] : NULL;
}

const char *connect_log_fork(struct connect_log *log)
{
    struct stat status;
    if (log->has_forked && log->has_fork_file && stat(log->fork, &status) != 0 && errno == ENOENT) {
        bulla_error error = {0};
        const struct note_key key = log->keys[0];
        /* The checkpoint may have been removed with it; while what is there cannot be read, nothing is sent. */
        if (connect_log_set_key(log, &key, &error) != BULLA_OK)
            log->has_forked = log->has_fork_file = log->has_key = 1;
    }
    return log->has_forked ? log->fork : NULL;
}

const char *connect_log_path(const struct connect_log *log)
{
    return log->path;
}

const struct buffer *connect_log_note(const struct connect_log *log)
{
    return &log->note;
}

uint64_t connect_log_size(const struct connect_log *log)
{
    return log->has_newest ? log->newest.size : 0;
}

/* ---- One receipt ---- */

void connect_entry_free(struct connect_entry *entry)
{
    buffer_free(&entry->note);
    memset(entry, 0, sizeof *entry);
}

static int read_path(const struct json *list, struct connect_entry *entry)
{
    if (!json_is(list, JSON_ARRAY) || list->length > sizeof entry->path / sizeof *entry->path)
        return 0;
    entry->length = (unsigned)list->length;
    for (size_t i = 0; i < list->length; i++)
        if (!json_is(list->items[i], JSON_STRING) ||
            !hex_decode(list->items[i]->text, list->items[i]->length, entry->path[i], MERKLE_HASH))
            return 0;
    return 1;
}

int connect_log_read(const struct connect_log *log, const struct json *member, const uint8_t leaf[32],
                     struct connect_entry *entry, struct connect_problem *problem)
{
    const struct json *index = json_get(member, "index"), *note = json_get(member, "checkpoint");
    uint8_t hash[MERKLE_HASH];
    bulla_error error = {0};
    if (!json_is(member, JSON_OBJECT) || member->length != 3 || !json_is(index, JSON_NUMBER) || !index->is_integer ||
        index->integer < 0 || !json_is(note, JSON_STRING) || !read_path(json_get(member, "path"), entry))
        return connect_fail(problem, "log.form", "the receipt's place in the log is not of index, path and checkpoint");
    entry->index = (uint64_t)index->integer;
    buffer_append(&entry->note, note->text, note->length);
    if (checkpoint_open(note->text, note->length, log->keys, 1 + log->witness_count, log->needed, &entry->checkpoint, &error) !=
        BULLA_OK)
        return connect_fail(problem, "log.checkpoint", "%s", error.text);
    if (entry->note.error.code != BULLA_OK || merkle_leaf_hash(leaf, MERKLE_HASH, hash, &error) != BULLA_OK)
        return connect_fail(problem, "memory", "memory is short");
    if (!merkle_path_verify(hash, entry->index, entry->checkpoint.size, entry->path[0], entry->length, entry->checkpoint.root,
                            &error))
        return connect_fail(problem, "log.inclusion", "the receipt is not in the tree of its checkpoint");
    return BULLA_OK;
}

/* ---- Histories ---- */

static void hash_nodes(const uint8_t *left, const uint8_t *right, uint8_t *node)
{
    uint8_t message[1 + 2 * MERKLE_HASH] = {1};
    memcpy(message + 1, left, MERKLE_HASH);
    memcpy(message + 1 + MERKLE_HASH, right, MERKLE_HASH);
    hash_sha256(message, sizeof message, node, NULL);
}

/* The tree of all leaves before the entry's has its nodes on the left of the entry's path: their root. */
static void root_before(const struct connect_entry *entry, uint8_t root[MERKLE_HASH])
{
    uint64_t node = entry->index, last = entry->checkpoint.size - 1;
    int has_root = 0;
    for (unsigned i = 0; i < entry->length; i++) {
        if ((node & 1) || node == last) {
            uint8_t right[MERKLE_HASH];
            memcpy(right, root, MERKLE_HASH);
            if (has_root)
                hash_nodes(entry->path[i], right, root);
            else
                memcpy(root, entry->path[i], MERKLE_HASH);
            has_root = 1;
            while (!(node & 1) && node) {
                node >>= 1;
                last >>= 1;
            }
        }
        node >>= 1;
        last >>= 1;
    }
}

static struct tile *find_tile(struct connect_log *log, const struct tlog_tile *name, int is_absent)
{
    for (size_t i = 0; i < log->tile_count; i++) {
        struct tile *tile = &log->tiles[i];
        if (tile->name.level == name->level && tile->name.index == name->index && tile->is_absent == is_absent &&
            (is_absent ? tile->name.width == name->width : tile->name.width >= name->width))
            return tile;
    }
    return NULL;
}

/* A narrow tile is the beginning of a wider one. */
static int get_tile(void *context, const struct tlog_tile *name, size_t most, struct buffer *out, bulla_error *error)
{
    struct connect_log *log = context;
    size_t length = (size_t)name->width * MERKLE_HASH;
    const struct tile *tile = find_tile(log, name, 0);
    if (tile && length <= most) {
        buffer_append(out, tile->bytes.data, length);
        return out->error.code == BULLA_OK ? BULLA_OK : bulla_fail(error, out->error.code, "%s", out->error.text);
    }
    if (find_tile(log, name, 1))
        return BULLA_OK;
    log->want = *name;
    log->wants = 1;
    return bulla_fail(error, BULLA_E_CANCELLED, "a tile has to be fetched first");
}

void connect_log_give(struct connect_log *log, const struct tlog_tile *name, const void *bytes, size_t length)
{
    size_t place = log->tile_count < MOST_TILES ? log->tile_count++ : log->oldest++ % MOST_TILES;
    struct tile *tile = &log->tiles[place];
    int is_absent = !bytes || length != (size_t)name->width * MERKLE_HASH;
    buffer_free(&tile->bytes);
    *tile = (struct tile){.name = *name, .is_absent = is_absent};
    if (!is_absent)
        buffer_append(&tile->bytes, bytes, length);
    tile->is_absent |= tile->bytes.error.code != BULLA_OK;
}

/* The root of the first `size` leaves of the tree of `of`, by the log's tiles. BULLA_E_CANCELLED: a tile is wanted. */
static int find_root(struct connect_log *log, const struct checkpoint *of, uint64_t size, uint8_t root[MERKLE_HASH],
                     bulla_error *error)
{
    const struct tlog_source source = {log, get_tile};
    struct tlog_reader *reader = NULL;
    log->wants = 0;
    int code = tlog_reader_open(&source, of->size, of->root, &reader, error);
    if (code == BULLA_OK)
        code = tlog_reader_root(reader, size, root, error);
    tlog_reader_close(reader);
    return log->wants ? BULLA_E_CANCELLED : code;
}

/* What somebody else can check: two notes, signed by one key, of no single history. */
static enum connect_history fork_log(struct connect_log *log, const struct connect_entry *entry, const char *how,
                                     struct connect_problem *problem)
{
    struct buffer both = {0};
    bulla_error error = {0};
    log->has_forked = 1;
    buffer_append_format(&both, "%s\n\nkept:\n\n", how);
    buffer_append(&both, log->note.data, log->note.length);
    buffer_append_text(&both, "\npresented:\n\n");
    buffer_append(&both, entry->note.data, entry->note.length);
    if (both.error.code != BULLA_OK)
        bulla_fail(&error, both.error.code, "%s", both.error.text);
    else
        log->has_fork_file = file_write_private(log->fork, both.data, both.length, &error) == BULLA_OK;
    buffer_free(&both);
    connect_fail(problem, "log.fork", "the log %.100s has forked: %s; both checkpoints are in %.300s, and nothing is sent "
                                      "until that file is removed%s%.200s",
                 log->keys[0].name, how, log->fork, error.code != BULLA_OK ? "; it could not be written: " : "",
                 error.code != BULLA_OK ? error.text : "");
    return CONNECT_FORKED;
}

static int take_newest(struct connect_log *log, const struct connect_entry *entry, struct connect_problem *problem)
{
    buffer_clear(&log->note);
    buffer_append(&log->note, entry->note.data, entry->note.length);
    if (log->note.error.code != BULLA_OK)
        return connect_fail(problem, "memory", "memory is short");
    log->newest = entry->checkpoint;
    log->has_newest = 1;
    return BULLA_OK;
}

/* By tiles: whether the smaller of the two trees is the beginning of the larger. */
static enum connect_history compare_by_tiles(struct connect_log *log, const struct connect_entry *entry,
                                             struct tlog_tile *want, struct connect_problem *problem)
{
    int grows = entry->checkpoint.size > log->newest.size;
    const struct checkpoint *large = grows ? &entry->checkpoint : &log->newest,
                            *small = grows ? &log->newest : &entry->checkpoint;
    uint8_t root[MERKLE_HASH];
    bulla_error error = {0};
    int code = find_root(log, large, small->size, root, &error);
    if (code == BULLA_E_CANCELLED) {
        *want = log->want;
        return CONNECT_WANTS_TILE;
    }
    if (code == BULLA_OK && memcmp(root, small->root, MERKLE_HASH) == 0)
        return CONNECT_ONE_HISTORY;
    forget_tiles(log);
    if (code == BULLA_OK)
        return fork_log(log, entry, "one of its trees is not the beginning of the other", problem);
    connect_fail(problem, "log.consistency", "the log does not show that its tree of %" PRIu64 " leaves began with that of "
                                             "%" PRIu64 ": %s", large->size, small->size, error.text);
    return CONNECT_NOT_SHOWN;
}

enum connect_history connect_log_compare(struct connect_log *log, const struct connect_entry *entry, struct tlog_tile *want,
                                         struct connect_problem *problem)
{
    enum connect_history history = CONNECT_ONE_HISTORY;
    uint8_t root[MERKLE_HASH];
    if (log->has_newest && entry->checkpoint.size == log->newest.size) {
        if (memcmp(entry->checkpoint.root, log->newest.root, MERKLE_HASH) != 0)
            return fork_log(log, entry, "it signed two trees of the same size", problem);
        return CONNECT_ONE_HISTORY;
    }
    if (log->has_newest && log->newest.size > 0 && entry->index == log->newest.size) {
        root_before(entry, root);
        if (memcmp(root, log->newest.root, MERKLE_HASH) != 0)
            return fork_log(log, entry, "the receipt follows other leaves than those that it had", problem);
    } else if (log->has_newest && log->newest.size > 0) {
        history = compare_by_tiles(log, entry, want, problem);
    }
    if (history == CONNECT_ONE_HISTORY && entry->checkpoint.size > connect_log_size(log) &&
        take_newest(log, entry, problem) != BULLA_OK)
        return CONNECT_NOT_SHOWN;
    return history;
}
