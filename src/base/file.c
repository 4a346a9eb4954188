#define _GNU_SOURCE
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/memory.h"

enum { WRITER_BUFFER_BYTES = 1 << 20 };

static atomic_uint_least64_t calls;
static atomic_uint_least64_t fail_at;
static atomic_int fail_forever;
static atomic_size_t transfer_limit;

void file_inject_failure(uint64_t n, int keep_failing)
{
    atomic_store(&fail_forever, keep_failing);
    atomic_store(&fail_at, n == 0 ? 0 : atomic_load(&calls) + n);
}

void file_inject_short_transfers(size_t bytes)
{
    atomic_store(&transfer_limit, bytes);
}

uint64_t file_call_count(void)
{
    return atomic_load(&calls);
}

/* Asked before every system call that can fail. */
static int injected(void)
{
    uint64_t number = atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed) + 1;
    uint64_t at = atomic_load_explicit(&fail_at, memory_order_relaxed);
    int fails = at != 0 &&
                (number == at || (number > at && atomic_load_explicit(&fail_forever, memory_order_relaxed)));
    if (fails)
        errno = EIO;
    return fails;
}

static size_t transfer_size(size_t length)
{
    size_t limit = atomic_load_explicit(&transfer_limit, memory_order_relaxed);
    if (limit > 0 && length > limit)
        return limit;
    return length > 1 << 30 ? 1 << 30 : length; /* Linux moves at most 2 GiB - 4 KiB in one call */
}

static int fail_with_errno(bulla_error *error, const char *path, const char *what)
{
    char text[128];
    int number = errno;
    return bulla_fail(error, BULLA_E_IO, "%s: cannot %s: %s", path, what, strerror_r(number, text, sizeof text));
}

int file_find_kind(const char *path, enum file_kind *kind, bulla_error *error)
{
    struct stat status;
    if (injected() || stat(path, &status) != 0) {
        *kind = FILE_ABSENT;
        if (errno == ENOENT || errno == ENOTDIR)
            return BULLA_OK;
        return fail_with_errno(error, path, "look at it");
    }
    *kind = S_ISREG(status.st_mode) ? FILE_REGULAR : S_ISDIR(status.st_mode) ? FILE_FOLDER : FILE_OTHER;
    return BULLA_OK;
}

/* The size of the regular file that is open there; -1 with the error recorded where it is none. */
static int find_size(int descriptor, const char *path, size_t *length, bulla_error *error)
{
    struct stat status;
    if (injected() || fstat(descriptor, &status) != 0)
        fail_with_errno(error, path, "find its size");
    else if (!S_ISREG(status.st_mode))
        bulla_fail(error, BULLA_E_INPUT, "%s: not a regular file", path);
    else if (status.st_size < 0 || (uint64_t)status.st_size > SIZE_MAX / 2)
        bulla_fail(error, BULLA_E_LIMIT, "%s: %lld bytes are more than can be addressed", path,
                   (long long)status.st_size);
    else {
        *length = (size_t)status.st_size;
        return 0;
    }
    return -1;
}

/* Opens a regular file for reading. O_NONBLOCK: a named pipe is refused instead
 * of waited for. Returns the descriptor, or -1 with the error recorded. */
static int open_regular(const char *path, size_t *length, bulla_error *error)
{
    int descriptor = injected() ? -1 : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (descriptor < 0) {
        fail_with_errno(error, path, "open it for reading");
        return -1;
    }
    if (find_size(descriptor, path, length, error) == 0)
        return descriptor;
    close(descriptor);
    return -1;
}

int file_open(const char *path, int *descriptor, bulla_error *error)
{
    bulla_error own = {0};
    size_t length;
    *descriptor = open_regular(path, &length, &own);
    return *descriptor >= 0 ? BULLA_OK : bulla_fail(error, own.code, "%s", own.text);
}

int file_map_descriptor(int descriptor, const char *name, struct file_map *map, bulla_error *error)
{
    bulla_error own = {0};
    memset(map, 0, sizeof *map);
    size_t length;
    if (find_size(descriptor, name, &length, &own) == 0 && length > 0) {
        void *data = injected() ? MAP_FAILED : mmap(NULL, length, PROT_READ, MAP_PRIVATE, descriptor, 0);
        if (data == MAP_FAILED)
            fail_with_errno(&own, name, "map it");
        else
            *map = (struct file_map){.data = data, .length = length};
    }
    return own.code == BULLA_OK ? BULLA_OK : bulla_fail(error, own.code, "%s", own.text);
}

int file_map_open(const char *path, struct file_map *map, bulla_error *error)
{
    int descriptor;
    memset(map, 0, sizeof *map);
    int code = file_open(path, &descriptor, error);
    if (code != BULLA_OK)
        return code;
    code = file_map_descriptor(descriptor, path, map, error);
    close(descriptor);
    return code;
}

void file_map_close(struct file_map *map)
{
    if (map->data)
        munmap((void *)(uintptr_t)map->data, map->length);
    memset(map, 0, sizeof *map);
}

void file_map_release(const struct file_map *map, size_t offset, size_t length)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (!map->data || offset > map->length || length > map->length - offset)
        return;
    size_t first = (offset + page - 1) / page * page, end = (offset + length) / page * page;
    if (end > first)
        madvise((void *)(uintptr_t)(map->data + first), end - first, MADV_DONTNEED);
}

/* Reads until `length` bytes are there or the file ends; the count, or -1. */
static ssize_t read_fully(int descriptor, uint8_t *data, size_t length)
{
    size_t have = 0;
    while (have < length) {
        ssize_t got = injected() ? -1 : read(descriptor, data + have, transfer_size(length - have));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        have += (size_t)got;
    }
    return (ssize_t)have;
}

int file_read(const char *path, size_t limit, uint8_t **data, size_t *length, bulla_error *error)
{
    bulla_error own = {0};
    size_t expected = 0;
    uint8_t *bytes = NULL;
    *data = NULL;
    *length = 0;
    int descriptor = open_regular(path, &expected, &own);
    if (descriptor < 0)
        return bulla_fail(error, own.code, "%s", own.text);
    if (expected > limit)
        bulla_fail(&own, BULLA_E_LIMIT, "%s: its %zu bytes are more than the %zu that such a file may have", path,
                   expected, limit);
    else
        bytes = memory_alloc(expected + 1, 1, &own);
    ssize_t got = bytes ? read_fully(descriptor, bytes, expected) : 0;
    if (got < 0)
        fail_with_errno(&own, path, "read it");
    else if (bytes && (size_t)got != expected)
        bulla_fail(&own, BULLA_E_IO, "%s: ends after %zd of %zu bytes: it was changed while it was read", path, got,
                   expected);
    close(descriptor);
    if (own.code != BULLA_OK) {
        memory_free(bytes);
        return bulla_fail(error, own.code, "%s", own.text);
    }
    *data = bytes;
    *length = expected;
    return BULLA_OK;
}

struct file_writer {
    int descriptor;
    char *path, *partial_path, *folder;
    uint64_t written; /* bytes that left the buffer, counting held ones */
    size_t buffered;
    uint8_t held[FILE_HELD_BYTES];
    bulla_error error; /* the first */
    uint8_t *buffer;   /* WRITER_BUFFER_BYTES; NULL: all is written at once, and nothing is held */
};

/* Writes all of it at `offset`. */
static int write_fully(struct file_writer *writer, uint64_t offset, const uint8_t *bytes, size_t length)
{
    while (length > 0) {
        ssize_t put = injected() ? -1 : pwrite(writer->descriptor, bytes, transfer_size(length), (off_t)offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put == 0)
            errno = EIO;
        if (put <= 0)
            return fail_with_errno(&writer->error, writer->partial_path, "write to it");
        bytes += put;
        offset += (uint64_t)put;
        length -= (size_t)put;
    }
    return BULLA_OK;
}

/* Puts `bytes` at `offset` of the file; the part among the first bytes is held
 * back, zeros are written in its place. */
static int write_held(struct file_writer *writer, uint64_t offset, const uint8_t *bytes, size_t length)
{
    static const uint8_t zeros[FILE_HELD_BYTES];
    if (offset < FILE_HELD_BYTES) {
        size_t part = FILE_HELD_BYTES - (size_t)offset < length ? FILE_HELD_BYTES - (size_t)offset : length;
        if (part > 0)
            memcpy(writer->held + offset, bytes, part);
        if (write_fully(writer, offset, zeros, part) != BULLA_OK)
            return writer->error.code;
        offset += part;
        bytes += part;
        length -= part;
    }
    return write_fully(writer, offset, bytes, length);
}

static int flush(struct file_writer *writer)
{
    if (writer->error.code == BULLA_OK && write_held(writer, writer->written, writer->buffer, writer->buffered) == 0) {
        writer->written += writer->buffered;
        writer->buffered = 0;
    }
    return writer->error.code;
}

static void free_writer(struct file_writer *writer)
{
    memory_free(writer->path);
    memory_free(writer->partial_path);
    memory_free(writer->folder);
    memory_free(writer->buffer);
    memory_free(writer);
}

/* PATH.partial-RANDOM beside `path`, opened; -1 with the error recorded. */
static int open_partial(struct file_writer *writer, mode_t mode, bulla_error *error)
{
    uint8_t random[8];
    char digits[2 * sizeof random + 1];
    if (injected() || getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) {
        fail_with_errno(error, writer->path, "draw a random name for its new content");
        return -1;
    }
    hex_encode(random, sizeof random, digits);
    struct buffer name = {0};
    buffer_append_format(&name, "%s.partial-%s", writer->path, digits);
    if (name.error.code != BULLA_OK) {
        bulla_fail(error, name.error.code, "%s", name.error.text);
        buffer_free(&name);
        return -1;
    }
    writer->partial_path = (char *)name.data;
    int descriptor = injected() ? -1 : open(writer->partial_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (descriptor < 0)
        fail_with_errno(error, writer->partial_path, "create it");
    return descriptor;
}

static struct file_writer *open_writer(const char *path, mode_t mode, bulla_error *error)
{
    bulla_error own = {0};
    enum file_kind kind;
    struct file_writer *writer = NULL;
    if (file_find_kind(path, &kind, &own) == BULLA_OK && kind != FILE_ABSENT && kind != FILE_REGULAR)
        bulla_fail(&own, BULLA_E_USAGE, "%s: is %s, where a file is to be written", path,
                   kind == FILE_FOLDER ? "a folder" : "no regular file");
    if (own.code == BULLA_OK)
        writer = memory_alloc(1, sizeof *writer, &own);
    if (writer) {
        const char *slash = strrchr(path, '/');
        writer->descriptor = -1;
        writer->path = memory_copy_text(path, strlen(path), &own);
        if (slash == path)
            writer->folder = memory_copy_text("/", 1, &own);
        else
            writer->folder = memory_copy_text(slash ? path : ".", slash ? (size_t)(slash - path) : 1, &own);
        if (own.code == BULLA_OK)
            writer->descriptor = open_partial(writer, mode, &own);
    }
    if (own.code != BULLA_OK) {
        if (writer)
            free_writer(writer);
        bulla_fail(error, own.code, "%s", own.text);
        return NULL;
    }
    return writer;
}

struct file_writer *file_writer_open(const char *path, bulla_error *error)
{
    struct file_writer *writer = open_writer(path, 0666, error);
    bulla_error own = {0};
    if (writer && !(writer->buffer = memory_alloc(WRITER_BUFFER_BYTES, 1, &own))) {
        file_writer_abandon(writer);
        bulla_fail(error, own.code, "%s", own.text);
        return NULL;
    }
    return writer;
}

int file_writer_append(struct file_writer *writer, const void *bytes, size_t length, bulla_error *error)
{
    const uint8_t *next = bytes;
    while (length > 0 && writer->error.code == BULLA_OK) {
        if (writer->buffered == 0 && length >= WRITER_BUFFER_BYTES) { /* large pieces skip the buffer */
            if (write_held(writer, writer->written, next, length) == BULLA_OK)
                writer->written += length;
            break;
        }
        size_t room = WRITER_BUFFER_BYTES - writer->buffered, part = length < room ? length : room;
        memcpy(writer->buffer + writer->buffered, next, part);
        writer->buffered += part;
        next += part;
        length -= part;
        if (writer->buffered == WRITER_BUFFER_BYTES)
            flush(writer);
    }
    return writer->error.code ? bulla_fail(error, writer->error.code, "%s", writer->error.text) : BULLA_OK;
}

int file_writer_write_at(struct file_writer *writer, uint64_t offset, const void *bytes, size_t length,
                         bulla_error *error)
{
    uint64_t all = file_writer_length(writer);
    if (offset > all || length > all - offset)
        return bulla_fail(error, BULLA_E_INTERNAL, "%s: %zu bytes at %llu lie beyond the %llu written so far",
                          writer->path, length, (unsigned long long)offset, (unsigned long long)all);
    if (flush(writer) == BULLA_OK && length > 0)
        write_held(writer, offset, bytes, length);
    return writer->error.code ? bulla_fail(error, writer->error.code, "%s", writer->error.text) : BULLA_OK;
}

int file_writer_pad(struct file_writer *writer, size_t alignment, bulla_error *error)
{
    static const uint8_t zeros[256];
    size_t over = (size_t)(file_writer_length(writer) % alignment);
    size_t more = over ? alignment - over : 0;
    int code = BULLA_OK;
    for (; more > 0 && code == BULLA_OK; more -= more < sizeof zeros ? more : sizeof zeros)
        code = file_writer_append(writer, zeros, more < sizeof zeros ? more : sizeof zeros, error);
    return code;
}

uint64_t file_writer_length(const struct file_writer *writer)
{
    return writer->written + writer->buffered;
}

static int sync_descriptor(struct file_writer *writer, int descriptor, const char *path)
{
    if (injected() || fsync(descriptor) != 0)
        return fail_with_errno(&writer->error, path, "make it durable (fsync)");
    return BULLA_OK;
}

static int write_first_bytes(struct file_writer *writer)
{
    size_t length = writer->written < FILE_HELD_BYTES ? (size_t)writer->written : FILE_HELD_BYTES;
    return write_fully(writer, 0, writer->held, length);
}

/* The rename is durable once the folder is. A file system that cannot sync a
 * folder (EINVAL) has no more to offer. */
static void sync_folder(struct file_writer *writer)
{
    int folder = injected() ? -1 : open(writer->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) {
        fail_with_errno(&writer->error, writer->folder, "open the folder");
        return;
    }
    if (injected() || (fsync(folder) != 0 && errno != EINVAL))
        fail_with_errno(&writer->error, writer->folder, "make the folder durable (fsync)");
    close(folder);
}

static int close_descriptor(struct file_writer *writer)
{
    int descriptor = writer->descriptor;
    writer->descriptor = -1;
    int failed = close(descriptor) != 0; /* a network file system may report a late write error here */
    if (injected() || failed)
        return fail_with_errno(&writer->error, writer->partial_path, "close it");
    return BULLA_OK;
}

static int rename_partial(struct file_writer *writer)
{
    if (injected() || rename(writer->partial_path, writer->path) != 0)
        return fail_with_errno(&writer->error, writer->path, "put the new file in its place");
    return BULLA_OK;
}

int file_writer_commit(struct file_writer *writer, bulla_error *error)
{
    int code = writer->buffer ? flush(writer) : writer->error.code;
    if (code == BULLA_OK && writer->buffer &&
        sync_descriptor(writer, writer->descriptor, writer->partial_path) == BULLA_OK)
        write_first_bytes(writer);
    if (writer->error.code != BULLA_OK || sync_descriptor(writer, writer->descriptor, writer->partial_path) != BULLA_OK ||
        close_descriptor(writer) != BULLA_OK || rename_partial(writer) != BULLA_OK) {
        code = bulla_fail(error, writer->error.code, "%s", writer->error.text);
        file_writer_abandon(writer);
        return code;
    }
    sync_folder(writer);
    code = writer->error.code ? bulla_fail(error, writer->error.code, "%s", writer->error.text) : BULLA_OK;
    free_writer(writer);
    return code;
}

void file_writer_abandon(struct file_writer *writer)
{
    if (!writer)
        return;
    if (writer->descriptor >= 0)
        close(writer->descriptor);
    unlink(writer->partial_path);
    free_writer(writer);
}

static int write_all(const char *path, mode_t mode, const void *bytes, size_t length, bulla_error *error)
{
    struct file_writer *writer = open_writer(path, mode, error);
    if (!writer)
        return error && error->code != BULLA_OK ? error->code : BULLA_E_IO;
    write_fully(writer, 0, bytes, length); /* the commit sees its error */
    return file_writer_commit(writer, error);
}

int file_write(const char *path, const void *bytes, size_t length, bulla_error *error)
{
    return write_all(path, 0666, bytes, length, error);
}

int file_write_private(const char *path, const void *bytes, size_t length, bulla_error *error)
{
    return write_all(path, 0600, bytes, length, error);
}
