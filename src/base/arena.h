/* Memory that is freed all at once. Zero-initialise an arena; arena_free ends it
 * and everything that came from it. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>

#include "bulla/error.h"

struct arena {
    struct arena_chunk *chunks; /* newest first */
    size_t used;                /* bytes taken from the newest chunk */
    size_t total;               /* bytes held in all chunks */
    size_t limit;               /* 0, or the most bytes the arena may hold */
};

/* Zeroed memory for `count` things of `size` bytes, aligned to 16; NULL with the
 * error recorded when memory is short or `limit` would be passed. */
void *arena_alloc(struct arena *arena, size_t count, size_t size, bulla_error *error);
/* A NUL-terminated copy of `length` bytes. */
char *arena_copy_text(struct arena *arena, const char *text, size_t length, bulla_error *error);
void arena_free(struct arena *arena);

#endif
