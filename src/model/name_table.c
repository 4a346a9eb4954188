#include "model/name_table.h"

#include <stdint.h>
#include <string.h>

#include "base/memory.h"

/* With a million names at half load the longest run of a good hash is below 100. */
enum { MAX_STEPS = 1024 };

struct name_slot {
    const char *name; /* NULL: free */
    size_t length;
    size_t index;
    uint64_t hash;
};

/* FNV-1a (RFC 9923), its bits mixed once more because only the low ones are used. */
static uint64_t hash_name(const char *name, size_t length)
{
    uint64_t hash = UINT64_C(0xCBF29CE484222325);
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)name[i]) * UINT64_C(0x100000001B3);
    hash ^= hash >> 33;
    hash *= UINT64_C(0xFF51AFD7ED558CCD);
    return hash ^ hash >> 33;
}

/* The slot of this name, or the free one where it belongs; NULL after MAX_STEPS. */
static struct name_slot *find_slot(const struct name_table *table, const char *name, size_t length, uint64_t hash)
{
    size_t mask = table->capacity - 1, at = (size_t)hash & mask;
    for (int step = 0; step < MAX_STEPS; step++, at = (at + 1) & mask) {
        struct name_slot *slot = &table->slots[at];
        if (!slot->name || (slot->hash == hash && slot->length == length && memcmp(slot->name, name, length) == 0))
            return slot;
    }
    return NULL;
}

static int too_many_collisions(bulla_error *error)
{
    return bulla_fail(error, BULLA_E_LIMIT, "over %d names share one hash: chance does not do that", MAX_STEPS);
}

static int grow(struct name_table *table, bulla_error *error)
{
    struct name_table larger = {.capacity = table->capacity ? table->capacity * 2 : 64, .count = table->count};
    larger.slots = memory_alloc(larger.capacity, sizeof *larger.slots, error);
    if (!larger.slots)
        return BULLA_E_MEMORY;
    for (size_t i = 0; i < table->capacity; i++) {
        const struct name_slot *old = &table->slots[i];
        struct name_slot *slot = old->name ? find_slot(&larger, old->name, old->length, old->hash) : NULL;
        if (slot)
            *slot = *old;
        else if (old->name) {
            name_table_free(&larger);
            return too_many_collisions(error);
        }
    }
    name_table_free(table);
    *table = larger;
    return BULLA_OK;
}

int name_table_add(struct name_table *table, const char *name, size_t length, size_t index, bulla_error *error)
{
    if (2 * (table->count + 1) > table->capacity) {
        int code = grow(table, error);
        if (code != BULLA_OK)
            return code;
    }
    uint64_t hash = hash_name(name, length);
    struct name_slot *slot = find_slot(table, name, length, hash);
    if (!slot)
        return too_many_collisions(error);
    *slot = (struct name_slot){.name = name, .length = length, .index = index, .hash = hash};
    table->count++;
    return BULLA_OK;
}

int name_table_find(const struct name_table *table, const char *name, size_t length, size_t *index)
{
    if (table->capacity == 0)
        return 0;
    const struct name_slot *slot = find_slot(table, name, length, hash_name(name, length));
    if (!slot || !slot->name)
        return 0;
    *index = slot->index;
    return 1;
}

void name_table_free(struct name_table *table)
{
    memory_free(table->slots);
    memset(table, 0, sizeof *table);
}
