/* The log's files: made from the database, for whoever follows the log. None of them is synced before it is renamed to its
 * place: what a loss of power tears is written anew when the log is opened. Whole tiles, which never change, are made
 * durable from time to time, and the database keeps up to where; so is the name of the last narrow one, by which an older
 * copy of the database is known (tlog_tiles_size). */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "trust/tlog_internal.h"

enum { SYNC_LEAVES = 64 * TLOG_TILE_WIDTH };
#define SECOND UINT64_C(1000000000)

static int fail_with_errno(const char *path, const char *what, bulla_error *error)
{
    return bulla_fail(error, BULLA_E_IO, "%s: cannot %s: %s", path, what, strerror(errno));
}

/* ---- One file ---- */

static int write_whole(const char *path, const void *bytes, size_t length, bulla_error *error)
{
    int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644), code = BULLA_OK;
    if (descriptor < 0)
        return fail_with_errno(path, "create it", error);
    for (size_t done = 0; code == BULLA_OK && done < length;) {
        ssize_t put = write(descriptor, (const uint8_t *)bytes + done, length - done);
        if (put > 0)
            done += (size_t)put;
        else if (put == 0 || errno != EINTR)
            code = fail_with_errno(path, "write to it", error);
    }
    if (close(descriptor) != 0 && code == BULLA_OK)
        code = fail_with_errno(path, "close it", error);
    return code;
}

/* The folders above `path`, below the log's own (whose path is `own` bytes long). */
static int make_folders(char *path, size_t own, bulla_error *error)
{
    int code = BULLA_OK;
    for (char *slash = strchr(path + own + 1, '/'); code == BULLA_OK && slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (mkdir(path, 0755) != 0 && errno != EEXIST)
            code = fail_with_errno(path, "make this folder", error);
        *slash = '/';
    }
    return code;
}

/* Under the lock there is one writer, so that one temporary name is enough, and none is left behind. */
static int put_file(const char *folder, const char *name, const void *bytes, size_t length, bulla_error *error)
{
    char *path = tlog_path(folder, name, error), *temporary = tlog_path(folder, "publishing", error);
    int code = path && temporary ? write_whole(temporary, bytes, length, error) : BULLA_E_MEMORY;
    if (code == BULLA_OK && rename(temporary, path) != 0) {
        if (errno == ENOENT)
            code = make_folders(path, strlen(folder), error);
        if (code == BULLA_OK && rename(temporary, path) != 0)
            code = fail_with_errno(path, "put the new file in its place", error);
    }
    memory_free(path);
    memory_free(temporary);
    return code;
}

/* The narrow forms of a whole tile that is durable: until then their names show how large the log was. Whoever asks for one
 * takes the whole. What cannot be removed only takes room. */
static int remove_narrow(const struct tlog_publisher *publisher, const struct tlog_tile *whole, bulla_error *error)
{
    char name[TLOG_TILE_PATH + 8];
    tlog_tile_path(whole, name);
    memcpy(name + strlen(name), ".p", 3);
    char *path = tlog_path(publisher->folder, name, error);
    DIR *list = path ? opendir(path) : NULL;
    if (list) {
        struct dirent *entry;
        while ((entry = readdir(list)) != NULL)
            if (entry->d_name[0] != '.')
                unlinkat(dirfd(list), entry->d_name, 0);
        closedir(list);
        rmdir(path);
    }
    memory_free(path);
    return BULLA_OK;
}

static int put_tile(const struct tlog_publisher *publisher, const struct tlog_tile *tile, const void *bytes, size_t length,
                    bulla_error *error)
{
    char name[TLOG_TILE_PATH];
    tlog_tile_path(tile, name);
    return put_file(publisher->folder, name, bytes, length, error);
}

/* ---- Tiles ---- */

static int write_bundle(const struct tlog_publisher *publisher, const struct tlog_tile *tile, bulla_error *error)
{
    struct buffer bytes = {0};
    int code = tlog_store_read_bundle(publisher->store, tile->index, tile->width, &bytes, error);
    if (code == BULLA_OK && bytes.length != tile->width * (size_t)TLOG_BUNDLE_ENTRY)
        code = bulla_fail(error, BULLA_E_INPUT, "%s/log.db: the log's database is damaged: receipts are missing",
                          publisher->folder);
    if (code == BULLA_OK)
        code = put_tile(publisher, tile, bytes.data, bytes.length, error);
    buffer_free(&bytes);
    return code;
}

static int write_tile(const struct tlog_publisher *publisher, const struct tlog_tile *tile, bulla_error *error)
{
    uint8_t hashes[TLOG_TILE_WIDTH][MERKLE_HASH];
    unsigned width;
    if (tile->level == TLOG_ENTRIES)
        return write_bundle(publisher, tile, error);
    int code = tlog_store_read_tile(publisher->store, (unsigned)tile->level, tile->index, hashes, &width, error);
    if (code == BULLA_OK && width < tile->width)
        code = bulla_fail(error, BULLA_E_INPUT, "%s/log.db: the log's database is damaged: a tile is missing",
                          publisher->folder);
    return code == BULLA_OK ? put_tile(publisher, tile, hashes, tile->width * sizeof *hashes, error) : code;
}

/* Calls `each` for the tiles of a level that hold nodes `from` .. `to` - 1. */
static int each_tile(const struct tlog_publisher *publisher, int level, uint64_t from, uint64_t to, int only_whole,
                     int (*each)(const struct tlog_publisher *publisher, const struct tlog_tile *tile, bulla_error *error),
                     bulla_error *error)
{
    int code = BULLA_OK;
    for (uint64_t index = from / TLOG_TILE_WIDTH; code == BULLA_OK && index * TLOG_TILE_WIDTH < to; index++) {
        uint64_t left = to - index * TLOG_TILE_WIDTH;
        const struct tlog_tile tile = {level, index, left < TLOG_TILE_WIDTH ? (unsigned)left : TLOG_TILE_WIDTH};
        if (!only_whole || tile.width == TLOG_TILE_WIDTH)
            code = each(publisher, &tile, error);
    }
    return code;
}

/* The tiles of trees from `from` leaves to `to`: entries first, then hashes from below, so that the checkpoint that
 * follows never stands for something that isn't there. */
static int each_level(const struct tlog_publisher *publisher, uint64_t from, uint64_t to, int only_whole,
                      int (*each)(const struct tlog_publisher *publisher, const struct tlog_tile *tile, bulla_error *error),
                      bulla_error *error)
{
    int code = BULLA_OK;
    for (int level = TLOG_ENTRIES; code == BULLA_OK && level < TLOG_TILE_LEVELS; level++) {
        unsigned shift = level > 0 ? 8 * (unsigned)level : 0;
        if (to >> shift > from >> shift || !publisher->is_begun)
            code = each_tile(publisher, level, from >> shift, to >> shift, only_whole, each, error);
    }
    return code;
}

/* ---- Durability ---- */

/* The folder that the file is in, with those above it up to the log's; the path is cut. */
static int sync_folders(const struct tlog_publisher *publisher, char *path, bulla_error *error)
{
    int code = BULLA_OK;
    while (code == BULLA_OK && strlen(path) > strlen(publisher->folder)) {
        *strrchr(path, '/') = 0;
        code = tlog_sync_folder(path, error);
    }
    return code;
}

/* A whole tile; and behind the last of a folder the folder. */
static int sync_tile(const struct tlog_publisher *publisher, const struct tlog_tile *tile, bulla_error *error)
{
    unsigned shift = tile->level > 0 ? 8 * (unsigned)tile->level : 0;
    int is_last = tile->index % TLOG_TILE_GROUP == TLOG_TILE_GROUP - 1 ||
                  tile->index + 1 == (publisher->written >> shift) / TLOG_TILE_WIDTH;
    char name[TLOG_TILE_PATH];
    tlog_tile_path(tile, name);
    char *path = tlog_path(publisher->folder, name, error);
    int descriptor = path ? open(path, O_RDONLY | O_CLOEXEC) : -1, code = BULLA_OK;
    if (!path)
        return BULLA_E_MEMORY;
    if (descriptor < 0 || fsync(descriptor) != 0)
        code = fail_with_errno(path, "make it durable (fsync)", error);
    if (descriptor >= 0)
        close(descriptor);
    if (code == BULLA_OK && is_last)
        code = sync_folders(publisher, path, error);
    memory_free(path);
    return code;
}

/* Never backwards: another process may have come further. */
static int keep_published(const struct tlog_publisher *publisher, bulla_error *error)
{
    struct tlog_state state;
    int code = tlog_store_begin(publisher->store, 1, error);
    if (code == BULLA_OK)
        code = tlog_store_read_state(publisher->store, &state, error);
    if (code == BULLA_OK && state.published < publisher->written)
        code = tlog_store_set_published(publisher->store, publisher->written, error);
    if (code == BULLA_OK)
        return tlog_store_commit(publisher->store, error);
    tlog_store_rollback(publisher->store);
    return code;
}

static int sync_whole(struct tlog_publisher *publisher, bulla_error *error)
{
    int code = each_level(publisher, publisher->synced, publisher->written, 1, sync_tile, error);
    if (code == BULLA_OK)
        code = each_level(publisher, publisher->synced, publisher->written, 1, remove_narrow, error);
    if (code == BULLA_OK)
        code = keep_published(publisher, error);
    if (code == BULLA_OK)
        publisher->synced = publisher->written;
    return code;
}

/* The name of the last bundle of entries, where it is a narrow one. */
static int sync_edge(const struct tlog_publisher *publisher, bulla_error *error)
{
    const struct tlog_tile edge = {TLOG_ENTRIES, publisher->written / TLOG_TILE_WIDTH,
                                   (unsigned)(publisher->written % TLOG_TILE_WIDTH)};
    char name[TLOG_TILE_PATH];
    if (edge.width == 0)
        return BULLA_OK;
    tlog_tile_path(&edge, name);
    char *path = tlog_path(publisher->folder, name, error);
    int code = path ? sync_folders(publisher, path, error) : BULLA_E_MEMORY;
    memory_free(path);
    return code;
}

static int mark(struct tlog_publisher *publisher, bulla_error *error)
{
    int code = publisher->written / TLOG_TILE_WIDTH > publisher->synced / TLOG_TILE_WIDTH ? sync_whole(publisher, error)
                                                                                          : BULLA_OK;
    if (code == BULLA_OK)
        code = sync_edge(publisher, error);
    if (code == BULLA_OK) {
        publisher->marked = publisher->written;
        publisher->marked_at = clock_nanoseconds();
    }
    return code;
}

/* ---- All of it ---- */

static int write_all(struct tlog_publisher *publisher, struct tlog_state *state, bulla_error *error)
{
    int code = tlog_store_begin(publisher->store, 0, error);
    if (code == BULLA_OK)
        code = tlog_store_read_state(publisher->store, state, error);
    if (code == BULLA_OK && !publisher->is_begun)
        publisher->written = publisher->synced = state->published;
    if (code == BULLA_OK)
        code = each_level(publisher, publisher->written, state->size, 0, write_tile, error);
    tlog_store_rollback(publisher->store);
    if (code == BULLA_OK && (!publisher->is_begun || state->size > publisher->published))
        code = put_file(publisher->folder, "checkpoint", state->checkpoint, state->checkpoint_length, error);
    if (code == BULLA_OK) {
        publisher->is_begun = 1;
        publisher->written = publisher->published = state->size;
    }
    return code;
}

int tlog_publish(struct tlog_publisher *publisher, int is_final, bulla_error *error)
{
    struct tlog_state state;
    int lock = -1;
    int code = tlog_lock(publisher->folder, &lock, error);
    if (code == BULLA_OK)
        code = write_all(publisher, &state, error);
    if (code == BULLA_OK && publisher->written > publisher->marked &&
        (is_final || publisher->written / SYNC_LEAVES > publisher->synced / SYNC_LEAVES ||
         clock_nanoseconds() - publisher->marked_at >= TLOG_MARK_SECONDS * SECOND))
        code = mark(publisher, error);
    if (lock >= 0)
        close(lock);
    return code;
}
