/* The log's folder: made so that a loss of power at any moment leaves nothing or a whole log, and checked when it is
 * opened, since a key that signs two histories is the one thing that a log must never do. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/random.h"
#include "trust/key_file.h"
#include "trust/tlog_internal.h"

enum { MOST_CHECKPOINT_FILE = 65536 };

/* ---- Files ---- */

char *tlog_path(const char *folder, const char *name, bulla_error *error)
{
    struct buffer path = {0};
    buffer_append_format(&path, "%s/%s", folder, name);
    if (path.error.code == BULLA_OK)
        return (char *)path.data;
    bulla_fail(error, path.error.code, "%s", path.error.text);
    buffer_free(&path);
    return NULL;
}

static int fail_with_errno(const char *path, const char *what, bulla_error *error)
{
    return bulla_fail(error, BULLA_E_IO, "%s: cannot %s: %s", path, what, strerror(errno));
}

int tlog_sync_folder(const char *folder, bulla_error *error)
{
    int descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0)
        return fail_with_errno(folder, "open the folder", error);
    int code = BULLA_OK;
    if (fsync(descriptor) != 0 && errno != EINVAL) /* EINVAL: a file system that has no more to offer */
        code = fail_with_errno(folder, "make the folder durable (fsync)", error);
    close(descriptor);
    return code;
}

int tlog_lock(const char *folder, int *descriptor, bulla_error *error)
{
    char *path = tlog_path(folder, "lock", error);
    if (!path)
        return BULLA_E_MEMORY;
    int code = BULLA_OK, result;
    *descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*descriptor < 0) {
        code = fail_with_errno(path, "open it", error);
    } else {
        while ((result = flock(*descriptor, LOCK_EX)) != 0 && errno == EINTR)
            ;
        if (result != 0) {
            code = fail_with_errno(path, "lock it", error);
            close(*descriptor);
            *descriptor = -1;
        }
    }
    memory_free(path);
    return code;
}

/* The folder that `folder` lies in. */
static int sync_parent(const char *folder, bulla_error *error)
{
    size_t length = strlen(folder);
    while (length > 1 && folder[length - 1] == '/')
        length--;
    while (length > 0 && folder[length - 1] != '/')
        length--;
    char *parent = length > 0 ? memory_copy_text(folder, length, error) : memory_copy_text(".", 1, error);
    int code = parent ? tlog_sync_folder(parent, error) : BULLA_E_MEMORY;
    memory_free(parent);
    return code;
}

static int make_folder(const char *folder, bulla_error *error)
{
    struct stat status;
    if (mkdir(folder, 0700) == 0)
        return sync_parent(folder, error);
    if (errno != EEXIST)
        return fail_with_errno(folder, "make this folder", error);
    if (stat(folder, &status) != 0 || !S_ISDIR(status.st_mode))
        return bulla_fail(error, BULLA_E_USAGE, "%s: is no folder, where the log's is to be", folder);
    return BULLA_OK;
}

/* ---- The key ---- */

static int public_part(const char *path, EVP_PKEY *key, uint8_t bytes[NOTE_KEY_BYTES], bulla_error *error)
{
    size_t length = NOTE_KEY_BYTES;
    if (EVP_PKEY_get_raw_public_key(key, bytes, &length) == 1 && length == NOTE_KEY_BYTES)
        return BULLA_OK;
    ERR_clear_error();
    return bulla_fail(error, BULLA_E_INPUT, "%s: the key has no public part", path);
}

/* ---- The first state ---- */

int tlog_sign_state(struct tlog_state *state, EVP_PKEY *private_key, bulla_error *error)
{
    struct checkpoint checkpoint = {.size = state->size};
    struct buffer text = {0}, note = {0};
    memcpy(checkpoint.origin, state->key.name, sizeof checkpoint.origin);
    memcpy(checkpoint.root, state->root, MERKLE_HASH);
    checkpoint_write(&checkpoint, &text);
    buffer_append(&note, text.data, text.length);
    buffer_append_byte(&note, '\n');
    int code = text.error.code != BULLA_OK ? bulla_fail(error, text.error.code, "%s", text.error.text) : BULLA_OK;
    if (code == BULLA_OK)
        code = note_sign((const char *)text.data, text.length, &state->key, private_key, 0, &note, error);
    if (code == BULLA_OK && note.length >= sizeof state->checkpoint)
        code = bulla_fail(error, BULLA_E_INTERNAL, "a checkpoint of %zu bytes", note.length);
    if (code == BULLA_OK) {
        memcpy(state->checkpoint, note.data, note.length + 1);
        state->checkpoint_length = note.length;
    }
    buffer_free(&text);
    buffer_free(&note);
    return code;
}

/* The options' name, or one of our own. */
static int name_log(const char *origin, struct note_key *key, bulla_error *error)
{
    uint8_t random[8];
    char name[NOTE_NAME] = "bulla-";
    struct buffer line = {0};
    struct note_key again;
    if (origin && strlen(origin) >= sizeof name)
        return bulla_fail(error, BULLA_E_USAGE, "a log's name has at most %d characters", NOTE_NAME - 1);
    if (origin)
        memcpy(name, origin, strlen(origin) + 1);
    int code = origin ? BULLA_OK : random_bytes(random, sizeof random, error);
    if (!origin && code == BULLA_OK)
        hex_encode(random, sizeof random, name + strlen(name));
    memcpy(key->name, name, sizeof name);
    if (code != BULLA_OK)
        return code;
    note_key_write(key, &line); /* is it a name that whoever reads the line gets back? */
    if (line.error.code != BULLA_OK)
        code = bulla_fail(error, line.error.code, "%s", line.error.text);
    else if (note_key_read((const char *)line.data, line.length, &again, NULL) != BULLA_OK)
        code = bulla_fail(error, BULLA_E_USAGE, "\"%s\" cannot be a log's name: no blanks, no plus signs", name);
    buffer_free(&line);
    return code;
}

/* A key without a database is what a loss of power leaves while a log is made; but not where something was published. */
static int check_is_new(const char *folder, bulla_error *error)
{
    static const char *const names[] = {"checkpoint", "tile"};
    int code = BULLA_OK;
    for (size_t i = 0; code == BULLA_OK && i < sizeof names / sizeof *names; i++) {
        enum file_kind kind;
        char *path = tlog_path(folder, names[i], error);
        code = path ? file_find_kind(path, &kind, error) : BULLA_E_MEMORY;
        if (code == BULLA_OK && kind != FILE_ABSENT)
            code = bulla_fail(error, BULLA_E_INPUT,
                              "%s: there is no log.db beside it: a new log with the same key would be a fork; put the "
                              "database back, or begin in another folder", path);
        memory_free(path);
    }
    return code;
}

static int create(const struct tlog_options *options, struct tlog_store *store, EVP_PKEY **private_key,
                  struct tlog_state *state, bulla_error *error)
{
    char *path = tlog_path(options->folder, "key.pem", error);
    int code = path ? check_is_new(options->folder, error) : BULLA_E_MEMORY;
    *state = (struct tlog_state){.key.algorithm = NOTE_ED25519};
    if (code == BULLA_OK)
        code = key_file_open(path, private_key, error);
    if (code == BULLA_OK)
        code = public_part(path, *private_key, state->key.key, error);
    if (code == BULLA_OK)
        code = name_log(options->origin, &state->key, error);
    if (code == BULLA_OK)
        code = hash_sha256("", 0, state->root, error);
    if (code == BULLA_OK)
        code = tlog_sign_state(state, *private_key, error);
    if (code == BULLA_OK)
        code = tlog_store_create(store, state, error);
    if (code == BULLA_OK)
        code = tlog_sync_folder(options->folder, error);
    memory_free(path);
    return code;
}

/* ---- What belongs together ---- */

static int check_key(const char *folder, const struct tlog_state *state, EVP_PKEY **private_key, bulla_error *error)
{
    uint8_t bytes[NOTE_KEY_BYTES];
    enum file_kind kind;
    char *path = tlog_path(folder, "key.pem", error);
    int code = path ? file_find_kind(path, &kind, error) : BULLA_E_MEMORY;
    if (code == BULLA_OK && kind == FILE_ABSENT)
        code = bulla_fail(error, BULLA_E_INPUT, "%s: the key of the log beside it is not there; put it back", path);
    if (code == BULLA_OK)
        code = key_file_read(path, private_key, error);
    if (code == BULLA_OK)
        code = public_part(path, *private_key, bytes, error);
    if (code == BULLA_OK && memcmp(bytes, state->key.key, NOTE_KEY_BYTES) != 0)
        code = bulla_fail(error, BULLA_E_INPUT, "%s: not the key of the log in log.db beside it (%s)", path, state->key.name);
    memory_free(path);
    return code;
}

int tlog_check_signed(const char *folder, const struct tlog_state *state, bulla_error *error)
{
    struct checkpoint checkpoint;
    bulla_error own = {0};
    int code = checkpoint_open(state->checkpoint, state->checkpoint_length, &state->key, 1, 0, &checkpoint, &own);
    if (code == BULLA_OK && (checkpoint.size != state->size || memcmp(checkpoint.root, state->root, MERKLE_HASH) != 0))
        code = bulla_fail(&own, BULLA_E_INPUT, "its size and root are not those that it has signed");
    return code == BULLA_OK ? code : bulla_fail(error, own.code, "%s/log.db: the log's database is damaged: %s", folder, own.text);
}

/* The largest width among the names of narrow tiles; 1 where there is none: the folder itself was made for one. */
static unsigned narrow_width(int group, const char *name)
{
    unsigned largest = 1;
    int descriptor = openat(group, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = descriptor >= 0 ? fdopendir(descriptor) : NULL;
    for (struct dirent *entry; list && (entry = readdir(list)) != NULL;) {
        unsigned long width = strtoul(entry->d_name, NULL, 10);
        if (width > largest && width < TLOG_TILE_WIDTH)
            largest = (unsigned)width;
    }
    if (list)
        closedir(list);
    else if (descriptor >= 0)
        close(descriptor);
    return largest;
}

/* As tlog_tiles_size, of the tiles that share the folder of the one at the edge. */
static uint64_t group_size(DIR *list, uint64_t first)
{
    uint64_t largest = 0;
    for (struct dirent *entry; (entry = readdir(list)) != NULL;) {
        char *end;
        uint64_t before = (first + strtoul(entry->d_name, &end, 10)) * TLOG_TILE_WIDTH, size = 0;
        if (end == entry->d_name + 3 && !*end)
            size = before + TLOG_TILE_WIDTH;
        else if (end == entry->d_name + 3 && strcmp(end, ".p") == 0 && before + TLOG_TILE_WIDTH > largest)
            size = before + narrow_width(dirfd(list), entry->d_name);
        largest = size > largest ? size : largest;
    }
    return largest;
}

uint64_t tlog_tiles_size(const char *folder, uint64_t size)
{
    uint64_t first = size / TLOG_TILE_WIDTH / TLOG_TILE_GROUP * TLOG_TILE_GROUP, largest = size;
    for (int level = TLOG_ENTRIES; level <= 0; level++)
        for (int is_next = 0; is_next <= 1; is_next++) {
            char name[TLOG_TILE_PATH];
            tlog_tile_path(&(struct tlog_tile){level, first + (is_next ? TLOG_TILE_GROUP : 0), TLOG_TILE_WIDTH}, name);
            *strrchr(name, '/') = 0;
            char *path = tlog_path(folder, name, NULL);
            DIR *list = path ? opendir(path) : NULL;
            uint64_t found = !list ? 0 : is_next ? (first + TLOG_TILE_GROUP) * TLOG_TILE_WIDTH + 1 : group_size(list, first);
            largest = found > largest ? found : largest;
            if (list)
                closedir(list);
            memory_free(path);
        }
    return largest;
}

int tlog_check_tiles(const char *folder, uint64_t shown, uint64_t size, bulla_error *error)
{
    return shown <= size ? BULLA_OK
                         : bulla_fail(error, BULLA_E_INPUT,
                                      "%s/tile: is of at least %" PRIu64 " receipts, log.db has %" PRIu64 ": the database "
                                      "is an older copy, and appending to it would fork the log; put the newest back",
                                      folder, shown, size);
}

/* The file beside it is derived, and may be torn; but where it is a checkpoint of this log that the database has not
 * reached, the database is an old copy, and going on from it would be a fork. So it is where tiles show that: a loss of
 * power may leave an older checkpoint, or none. */
static int check_published(const char *folder, const struct tlog_state *state, bulla_error *error)
{
    struct checkpoint checkpoint;
    enum file_kind kind;
    uint8_t *text = NULL;
    size_t length = 0;
    char *path = tlog_path(folder, "checkpoint", error);
    int code = path ? file_find_kind(path, &kind, error) : BULLA_E_MEMORY;
    if (code == BULLA_OK && kind == FILE_REGULAR)
        code = file_read(path, MOST_CHECKPOINT_FILE, &text, &length, error);
    if (code == BULLA_OK && text &&
        checkpoint_open((const char *)text, length, &state->key, 1, 0, &checkpoint, NULL) == BULLA_OK &&
        (checkpoint.size > state->size ||
         (checkpoint.size == state->size && memcmp(checkpoint.root, state->root, MERKLE_HASH) != 0)))
        code = bulla_fail(error, BULLA_E_INPUT,
                          "%s: is of %" PRIu64 " receipts, log.db has %" PRIu64 "%s: the database is an older copy, and "
                          "appending to it would fork the log; put the newest back", path, checkpoint.size, state->size,
                          checkpoint.size == state->size ? " others" : "");
    if (code == BULLA_OK)
        code = tlog_check_tiles(folder, tlog_tiles_size(folder, state->size), state->size, error);
    memory_free(text);
    memory_free(path);
    return code;
}

static int check_tree(const char *folder, struct tlog_store *store, const struct tlog_state *state, bulla_error *error)
{
    struct tlog_edge edge = {0};
    uint64_t count = 0;
    int code = tlog_store_edge(store, state, &edge, error);
    if (code == BULLA_OK)
        code = tlog_store_count(store, &count, error);
    if (code == BULLA_OK && count != state->size)
        code = bulla_fail(error, BULLA_E_INPUT,
                          "%s/log.db: the log's database is damaged: it has %" PRIu64 " receipts, its tree %" PRIu64 " leaves",
                          folder, count, state->size);
    tlog_edge_free(&edge);
    return code;
}

static int check_all(const struct tlog_options *options, struct tlog_store *store, struct tlog_state *state,
                     EVP_PKEY **private_key, bulla_error *error)
{
    const char *folder = options->folder;
    int code = tlog_store_begin(store, 0, error);
    if (code == BULLA_OK)
        code = tlog_store_read_state(store, state, error);
    if (code == BULLA_OK && options->origin && strcmp(options->origin, state->key.name) != 0)
        code = bulla_fail(error, BULLA_E_USAGE, "%s: its log's name is %s, not %s", folder, state->key.name, options->origin);
    if (code == BULLA_OK)
        code = check_key(folder, state, private_key, error);
    if (code == BULLA_OK)
        code = tlog_check_signed(folder, state, error);
    if (code == BULLA_OK)
        code = check_published(folder, state, error);
    if (code == BULLA_OK)
        code = check_tree(folder, store, state, error);
    tlog_store_rollback(store);
    return code;
}

int tlog_prepare_folder(const struct tlog_options *options, struct note_key *key, EVP_PKEY **private_key, bulla_error *error)
{
    struct tlog_store *store = NULL;
    struct tlog_state state;
    int lock = -1, is_empty = 0;
    *private_key = NULL;
    int code = make_folder(options->folder, error);
    if (code == BULLA_OK)
        code = tlog_lock(options->folder, &lock, error);
    if (code == BULLA_OK)
        code = tlog_store_open(options->folder, TLOG_CREATE, &store, error);
    if (code == BULLA_OK)
        code = tlog_store_is_empty(store, &is_empty, error);
    if (code == BULLA_OK)
        code = is_empty ? create(options, store, private_key, &state, error)
                        : check_all(options, store, &state, private_key, error);
    if (code == BULLA_OK)
        *key = state.key;
    tlog_store_close(store);
    if (lock >= 0)
        close(lock);
    if (code != BULLA_OK) {
        EVP_PKEY_free(*private_key);
        *private_key = NULL;
    }
    return code;
}
