#include "exec/lookup.h"

#include "base/memory.h"

enum {
    MOST_SLOTS = 1 << 18, /* of longer texts older places are overwritten sooner */
    MOST_COUNTED = 16     /* tokens compared to find how long a new match is */
};

int lookup_open(struct lookup *lookup, size_t capacity, bulla_error *error)
{
    *lookup = (struct lookup){.capacity = capacity, .slot_count = 64};
    while (lookup->slot_count < MOST_SLOTS && lookup->slot_count / 2 < capacity)
        lookup->slot_count *= 2;
    lookup->tokens = memory_alloc(capacity, sizeof *lookup->tokens, error);
    int is_whole = lookup->tokens != NULL;
    for (int i = 0; i < LOOKUP_SIZES && is_whole; i++) {
        lookup->ends[i] = memory_alloc(lookup->slot_count, sizeof *lookup->ends[i], error);
        is_whole = lookup->ends[i] != NULL;
    }
    return is_whole ? BULLA_OK : BULLA_E_MEMORY;
}

void lookup_close(struct lookup *lookup)
{
    memory_free(lookup->tokens);
    for (int i = 0; i < LOOKUP_SIZES; i++)
        memory_free(lookup->ends[i]);
    *lookup = (struct lookup){0};
}

/* Where the place of the latest `size` tokens is kept. */
static size_t *slot_of(const struct lookup *lookup, size_t size)
{
    uint64_t hash = 0;
    for (size_t i = lookup->count - size; i < lookup->count; i++)
        hash = (hash + lookup->tokens[i] + 1) * UINT64_C(0x9E3779B97F4A7C15);
    return &lookup->ends[size - LOOKUP_SHORTEST][(hash >> 32) & (lookup->slot_count - 1)];
}

/* How many tokens before `end` are the latest ones, as far as they are counted. */
static size_t common_length(const struct lookup *lookup, size_t end)
{
    size_t length = 0;
    while (length < end && length < MOST_COUNTED &&
           lookup->tokens[end - 1 - length] == lookup->tokens[lookup->count - 1 - length])
        length++;
    return length;
}

static void find_match(struct lookup *lookup)
{
    lookup->next = lookup->length = 0;
    for (size_t size = LOOKUP_LONGEST; size >= LOOKUP_SHORTEST && lookup->next == 0; size--) {
        size_t end = lookup->count >= size ? *slot_of(lookup, size) : 0;
        size_t length = end ? common_length(lookup, end) : 0;
        if (length >= size) { /* not other tokens with the same hash */
            lookup->next = end;
            lookup->length = length;
        }
    }
}

void lookup_append(struct lookup *lookup, uint32_t token)
{
    int goes_on = lookup->next && lookup->tokens[lookup->next] == token;
    lookup->tokens[lookup->count++] = token;
    if (goes_on) {
        lookup->next++;
        lookup->length++;
    } else {
        find_match(lookup);
    }
    for (size_t size = LOOKUP_SHORTEST; size <= LOOKUP_LONGEST && size <= lookup->count; size++)
        *slot_of(lookup, size) = lookup->count;
}

size_t lookup_match(const struct lookup *lookup)
{
    return lookup->length;
}

uint32_t lookup_guess(const struct lookup *lookup, size_t ahead)
{
    return lookup->tokens[lookup->next + ahead % (lookup->count - lookup->next)];
}
