/* Preloaded into a program (LD_PRELOAD), records in order all that it does to the files below a folder, and what it writes to
 * standard output: RECORD_ROOT names the folder (absolute), RECORD_FILE where the record goes. tests/python/power.py reads it,
 * and makes of it what a loss of power could leave.
 *
 * A record: operation, two numbers, two lengths, as little-endian u64 each, then the bytes of both. Files and folders are
 * their inode numbers. Shared memory of databases (NAME-shm) is left out: it does not outlive the machine. */
#define _GNU_SOURCE
#undef _FILE_OFFSET_BITS /* open and open64 are two functions here */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum operation { ROOT = 1, CREATE, MAKE_FOLDER, TRUNCATE, WRITE, SYNC, RENAME, REMOVE, OUTPUT };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char root[4096];
static int record = -1;

static void put(enum operation operation, uint64_t one, uint64_t other, const void *first, size_t first_length,
                const void *second, size_t second_length)
{
    uint64_t head[5] = {operation, one, other, first_length, second_length};
    if (record < 0)
        return;
    if (syscall(SYS_write, record, head, sizeof head) < 0 || (first_length && syscall(SYS_write, record, first, first_length) < 0) ||
        (second_length && syscall(SYS_write, record, second, second_length) < 0))
        _exit(99);
}

__attribute__((constructor)) static void begin(void)
{
    const char *folder = getenv("RECORD_ROOT"), *file = getenv("RECORD_FILE");
    struct stat status;
    if (!folder || !file || strlen(folder) >= sizeof root || stat(folder, &status) != 0)
        return;
    strcpy(root, folder);
    record = (int)syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    put(ROOT, status.st_ino, 0, NULL, 0, NULL, 0);
}

/* The path below the root; NULL for others. */
static const char *below(const char *path)
{
    size_t length = strlen(root), whole = strlen(path);
    if (record < 0 || strncmp(path, root, length) != 0 || path[length] != '/' || (whole > 4 && strcmp(path + whole - 4, "-shm") == 0))
        return NULL;
    return path + length + 1;
}

/* The same of what is open; its inode number into *inode. */
static int is_below(int descriptor, uint64_t *inode)
{
    char link[64], path[4096];
    struct stat status;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = record < 0 ? -1 : readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    if ((strcmp(path, root) != 0 && !below(path)) || fstat(descriptor, &status) != 0)
        return 0;
    *inode = status.st_ino;
    return 1;
}

static int enter(void)
{
    pthread_mutex_lock(&mutex);
    return errno;
}

static void leave(void)
{
    int number = errno;
    pthread_mutex_unlock(&mutex);
    errno = number;
}

/* --- opening --- */

static int record_open(int folder, const char *path, int flags, mode_t mode)
{
    struct stat status;
    enter();
    const char *own = path[0] == '/' ? below(path) : NULL;
    int was_there = own && stat(path, &status) == 0;
    int descriptor = (int)syscall(SYS_openat, folder, path, flags, mode), number = errno;
    if (descriptor >= 0 && own && fstat(descriptor, &status) == 0) {
        if (!was_there && (flags & O_CREAT))
            put(CREATE, status.st_ino, 0, own, strlen(own), NULL, 0);
        else if (flags & O_TRUNC)
            put(TRUNCATE, status.st_ino, 0, NULL, 0, NULL, 0);
    }
    errno = number;
    leave();
    return descriptor;
}

#define TAKE_MODE(flags, last) \
    mode_t mode = 0;           \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list arguments;     \
        va_start(arguments, last); \
        mode = va_arg(arguments, mode_t); \
        va_end(arguments);     \
    }

int open(const char *path, int flags, ...)
{
    TAKE_MODE(flags, flags)
    return record_open(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    TAKE_MODE(flags, flags)
    return record_open(AT_FDCWD, path, flags, mode);
}

int openat(int folder, const char *path, int flags, ...)
{
    TAKE_MODE(flags, flags)
    return record_open(folder, path, flags, mode);
}

int openat64(int folder, const char *path, int flags, ...)
{
    TAKE_MODE(flags, flags)
    return record_open(folder, path, flags, mode);
}

/* --- writing --- */

ssize_t write(int descriptor, const void *bytes, size_t length)
{
    uint64_t inode;
    enter();
    off64_t offset = lseek64(descriptor, 0, SEEK_CUR);
    ssize_t written = syscall(SYS_write, descriptor, bytes, length);
    if (written > 0 && descriptor == STDOUT_FILENO)
        put(OUTPUT, 0, 0, bytes, (size_t)written, NULL, 0);
    else if (written > 0 && is_below(descriptor, &inode))
        put(WRITE, inode, (uint64_t)offset, bytes, (size_t)written, NULL, 0);
    leave();
    return written;
}

static ssize_t record_pwrite(int descriptor, const void *bytes, size_t length, off64_t offset)
{
    uint64_t inode;
    enter();
    ssize_t written = syscall(SYS_pwrite64, descriptor, bytes, length, offset);
    if (written > 0 && is_below(descriptor, &inode))
        put(WRITE, inode, (uint64_t)offset, bytes, (size_t)written, NULL, 0);
    leave();
    return written;
}

ssize_t pwrite(int descriptor, const void *bytes, size_t length, off_t offset)
{
    return record_pwrite(descriptor, bytes, length, offset);
}

ssize_t pwrite64(int descriptor, const void *bytes, size_t length, off64_t offset)
{
    return record_pwrite(descriptor, bytes, length, offset);
}

static int record_truncate(int descriptor, off64_t length)
{
    uint64_t inode;
    enter();
    int result = (int)syscall(SYS_ftruncate, descriptor, length);
    if (result == 0 && is_below(descriptor, &inode))
        put(TRUNCATE, inode, (uint64_t)length, NULL, 0, NULL, 0);
    leave();
    return result;
}

int ftruncate(int descriptor, off_t length)
{
    return record_truncate(descriptor, length);
}

int ftruncate64(int descriptor, off64_t length)
{
    return record_truncate(descriptor, length);
}

static int record_sync(int descriptor, long number)
{
    uint64_t inode;
    enter();
    int result = (int)syscall(number, descriptor);
    if (result == 0 && is_below(descriptor, &inode))
        put(SYNC, inode, 0, NULL, 0, NULL, 0);
    leave();
    return result;
}

int fsync(int descriptor)
{
    return record_sync(descriptor, SYS_fsync);
}

int fdatasync(int descriptor)
{
    return record_sync(descriptor, SYS_fdatasync);
}

/* --- folders --- */

int rename(const char *from, const char *to)
{
    enter();
    int result = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    const char *old = below(from), *new = below(to);
    if (result == 0 && old && new)
        put(RENAME, 0, 0, old, strlen(old), new, strlen(new));
    leave();
    return result;
}

static int record_remove(int folder, const char *path, int flags)
{
    char link[64], whole[8192];
    enter();
    const char *own = path[0] == '/' ? below(path) : NULL;
    if (folder != AT_FDCWD && path[0] != '/') {
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t length = readlink(link, whole, 4096);
        if (length > 0) {
            snprintf(whole + length, sizeof whole - (size_t)length, "/%s", path);
            own = below(whole);
        }
    }
    int result = (int)syscall(SYS_unlinkat, folder, path, flags);
    if (result == 0 && own)
        put(REMOVE, 0, 0, own, strlen(own), NULL, 0);
    leave();
    return result;
}

int unlink(const char *path)
{
    return record_remove(AT_FDCWD, path, 0);
}

int unlinkat(int folder, const char *path, int flags)
{
    return record_remove(folder, path, flags);
}

int rmdir(const char *path)
{
    return record_remove(AT_FDCWD, path, AT_REMOVEDIR);
}

int mkdir(const char *path, mode_t mode)
{
    struct stat status;
    enter();
    int result = (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    const char *own = below(path);
    if (result == 0 && own && stat(path, &status) == 0)
        put(MAKE_FOLDER, status.st_ino, 0, own, strlen(own), NULL, 0);
    leave();
    return result;
}
