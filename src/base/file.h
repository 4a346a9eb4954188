/* Files: read-only maps, small files read whole, and files written so that a
 * reader sees either the old content or all of the new one.
 *
 * Every system call below goes through one place, where tests can make the n-th
 * one fail. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "bulla/error.h"

enum file_kind { FILE_ABSENT, FILE_REGULAR, FILE_FOLDER, FILE_OTHER };

/* What `path` (symbolic links followed) is; FILE_ABSENT also for a folder on the
 * way that is not there. Any other refusal of the system is an error. */
int file_find_kind(const char *path, enum file_kind *kind, bulla_error *error);

/* A regular file mapped read-only. Bytes of a file that another process cuts
 * short while it is mapped are gone: touching them ends the process (SIGBUS). */
struct file_map {
    const uint8_t *data; /* NULL for an empty file */
    size_t length;
};

int file_map_open(const char *path, struct file_map *map, bulla_error *error);
/* Opens a regular file for reading, closed on exec. The caller closes *descriptor. */
int file_open(const char *path, int *descriptor, bulla_error *error);
/* Maps what is open there; `name` stands for it in error sentences. The descriptor stays the caller's and may be
 * closed at once. */
int file_map_descriptor(int descriptor, const char *name, struct file_map *map, bulla_error *error);
void file_map_close(struct file_map *map); /* a zeroed map is fine */
/* Tells the kernel that the pages lying wholly in this range may be dropped;
 * they are read again when touched. Never fails, safe beside readers. */
void file_map_release(const struct file_map *map, size_t offset, size_t length);

/* The whole of a regular file into memory of its own (memory_free), followed by
 * a NUL that `length` does not count. More than `limit` bytes: BULLA_E_LIMIT. */
int file_read(const char *path, size_t limit, uint8_t **data, size_t *length, bulla_error *error);

/* Writing. The bytes go to a new file in the folder of `path`, named
 * PATH.partial-RANDOM. Until the commit its first FILE_HELD_BYTES bytes are zero
 * there, so that a file left behind by a crash can never be taken for whole.
 * The commit makes the bytes durable, writes the first ones, renames the file
 * over `path`, and makes the rename durable. After a failure the new file is
 * removed and what was at `path` is as before; only where the folder's own fsync
 * fails, last of all, is the new content in place but perhaps not durable. */
enum { FILE_HELD_BYTES = 16 };
struct file_writer;

/* `path` may exist as a regular file. NULL with the error recorded otherwise. */
struct file_writer *file_writer_open(const char *path, bulla_error *error);
/* Appends. After an error all further calls return it without writing. */
int file_writer_append(struct file_writer *writer, const void *bytes, size_t length, bulla_error *error);
/* Overwrites bytes appended before. */
int file_writer_write_at(struct file_writer *writer, uint64_t offset, const void *bytes, size_t length,
                         bulla_error *error);
/* Zero bytes until the length is a multiple of `alignment`. */
int file_writer_pad(struct file_writer *writer, size_t alignment, bulla_error *error);
uint64_t file_writer_length(const struct file_writer *writer);
/* Commits, or removes the new file and reports why. Frees the writer either way. */
int file_writer_commit(struct file_writer *writer, bulla_error *error);
/* Removes the new file and frees the writer. NULL is fine. */
void file_writer_abandon(struct file_writer *writer);

/* All of it at once, in place when it returns: the new file is made durable with one fsync before it gets its name. */
int file_write(const char *path, const void *bytes, size_t length, bulla_error *error);
/* The same for a secret: only the owner may read the file, at every moment. */
int file_write_private(const char *path, const void *bytes, size_t length, bulla_error *error);

/* Tests only: system call number `n` from now (1 = the next) fails as a broken
 * disk does, and every one after it too if `keep_failing`. 0 switches off. */
void file_inject_failure(uint64_t n, int keep_failing);
/* Tests only: each read and write moves at most `bytes` at a time; 0 is off. */
void file_inject_short_transfers(size_t bytes);
/* Tests only: system calls made here since the process started. */
uint64_t file_call_count(void);

#endif
