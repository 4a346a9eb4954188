#include "base/arena.h"

#include <stdint.h>
#include <string.h>

#include "base/memory.h"

struct arena_chunk {
    struct arena_chunk *next;
    size_t capacity;
    _Alignas(16) unsigned char data[];
};

enum { CHUNK_BYTES = 64 * 1024 };

void *arena_alloc(struct arena *arena, size_t count, size_t size, bulla_error *error)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX - 2 * CHUNK_BYTES) {
        bulla_fail(error, BULLA_E_MEMORY, "out of memory: %zu x %zu bytes could not be allocated", count, size);
        return NULL;
    }
    bytes = (bytes + 15) & ~(size_t)15;
    if (!arena->chunks || arena->chunks->capacity - arena->used < bytes) {
        size_t capacity = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;
        if (arena->limit && capacity > arena->limit - arena->total) {
            bulla_fail(error, BULLA_E_LIMIT, "more than %zu bytes would be needed, the limit here", arena->limit);
            return NULL;
        }
        struct arena_chunk *chunk = memory_alloc(1, sizeof *chunk + capacity, error);
        if (!chunk)
            return NULL;
        chunk->capacity = capacity;
        chunk->next = arena->chunks;
        arena->chunks = chunk;
        arena->total += capacity;
        arena->used = 0;
    }
    void *block = arena->chunks->data + arena->used;
    arena->used += bytes;
    return block;
}

char *arena_copy_text(struct arena *arena, const char *text, size_t length, bulla_error *error)
{
    char *copy = arena_alloc(arena, length + 1, 1, error);
    if (copy && length)
        memcpy(copy, text, length);
    return copy;
}

void arena_free(struct arena *arena)
{
    for (struct arena_chunk *chunk = arena->chunks; chunk;) {
        struct arena_chunk *next = chunk->next;
        memory_free(chunk);
        chunk = next;
    }
    memset(arena, 0, sizeof *arena);
}
