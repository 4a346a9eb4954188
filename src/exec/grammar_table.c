#include "exec/grammar_table.h"

#include <string.h>

#include "base/memory.h"

enum {
    MOST_BYTES = 512 << 20,
    MOST_UNUSED = 16, /* entries that are kept unused, */
    UNUSED_SHARE = 8  /* which may take an eighth of the bytes */
};

struct grammar_entry {
    struct grammar_entry *next;                          /* of its bucket */
    struct grammar_entry *previous_unused, *next_unused; /* while nobody uses it */
    uint64_t hash;
    size_t uses;
    struct grammar *grammar; /* NULL: not compiled yet */
    size_t length;
    char specification[];
};

/* FNV-1a, then a mixer. Entries are compared byte by byte, so that colliding ones cost time only. */
static uint64_t hash_bytes(const char *bytes, size_t length)
{
    uint64_t hash = UINT64_C(0xCBF29CE484222325);
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (uint8_t)bytes[i]) * UINT64_C(0x100000001B3);
    return (hash ^ hash >> 32) * UINT64_C(0xD6E8FEB86659FD93);
}

static struct grammar_entry **bucket_of(struct grammar_table *table, uint64_t hash)
{
    return &table->buckets[(hash >> 32) % GRAMMAR_TABLE_BUCKETS];
}

static size_t most_bytes(const struct grammar_table *table)
{
    return table->most_bytes ? table->most_bytes : MOST_BYTES;
}

static size_t entry_bytes(const struct grammar_entry *entry)
{
    return sizeof *entry + entry->length + (entry->grammar ? grammar_bytes(entry->grammar) : 0);
}

/* ---- Entries that nobody uses ---- */

static void unused_put(struct grammar_table *table, struct grammar_entry *entry)
{
    entry->previous_unused = table->last_unused;
    entry->next_unused = NULL;
    *(table->last_unused ? &table->last_unused->next_unused : &table->first_unused) = entry;
    table->last_unused = entry;
    table->unused_count++;
    table->unused_bytes += entry_bytes(entry);
}

static void unused_take(struct grammar_table *table, struct grammar_entry *entry)
{
    *(entry->previous_unused ? &entry->previous_unused->next_unused : &table->first_unused) = entry->next_unused;
    *(entry->next_unused ? &entry->next_unused->previous_unused : &table->last_unused) = entry->previous_unused;
    table->unused_count--;
    table->unused_bytes -= entry_bytes(entry);
}

static void free_entry(struct grammar_entry *entry)
{
    grammar_free(entry->grammar);
    memory_free(entry);
}

static void drop(struct grammar_table *table, struct grammar_entry *entry)
{
    struct grammar_entry **link = bucket_of(table, entry->hash);
    while (*link != entry)
        link = &(*link)->next;
    *link = entry->next;
    unused_take(table, entry);
    table->bytes -= entry_bytes(entry);
    free_entry(entry);
}

/* Whether there is room for so many bytes more; what is not used makes room. */
static int make_room(struct grammar_table *table, size_t bytes, bulla_error *error)
{
    size_t most = most_bytes(table);
    while (table->first_unused && (table->bytes > most || bytes > most - table->bytes))
        drop(table, table->first_unused);
    if (table->bytes <= most && bytes <= most - table->bytes)
        return BULLA_OK;
    return bulla_fail(error, BULLA_E_MEMORY, "the grammars of the answers under way would take more than %zu MiB "
                      "together", most >> 20);
}

/* ---- Uses ---- */

int grammar_table_take(struct grammar_table *table, const char *specification, size_t length,
                       struct grammar_entry **result, bulla_error *error)
{
    uint64_t hash = hash_bytes(specification, length);
    struct grammar_entry **bucket = bucket_of(table, hash), *entry = *bucket;
    *result = NULL;
    while (entry && !(entry->hash == hash && entry->length == length &&
                      (length == 0 || memcmp(entry->specification, specification, length) == 0)))
        entry = entry->next;
    if (!entry) {
        if (make_room(table, sizeof *entry + length, error) ||
            !(entry = memory_alloc(1, sizeof *entry + length, error)))
            return BULLA_E_MEMORY;
        entry->hash = hash;
        entry->length = length;
        if (length)
            memcpy(entry->specification, specification, length);
        entry->next = *bucket;
        *bucket = entry;
        table->bytes += entry_bytes(entry);
    } else if (entry->uses == 0) {
        unused_take(table, entry);
    }
    entry->uses++;
    *result = entry;
    return BULLA_OK;
}

void grammar_table_give(struct grammar_table *table, struct grammar_entry *entry)
{
    if (!entry || --entry->uses > 0)
        return;
    unused_put(table, entry);
    while (table->unused_count > MOST_UNUSED || table->unused_bytes > most_bytes(table) / UNUSED_SHARE)
        drop(table, table->first_unused);
}

int grammar_entry_is_compiled(const struct grammar_entry *entry)
{
    return entry->grammar != NULL;
}

int grammar_table_compile(struct grammar_table *table, struct grammar_entry *entry, const struct grammar **grammar,
                          uint64_t *work, bulla_error *error)
{
    *work = 0;
    *grammar = entry->grammar;
    if (entry->grammar)
        return BULLA_OK;
    struct grammar *compiled;
    int code = grammar_compile_within(entry->specification, entry->length, work, &compiled, error);
    if (code == BULLA_OK)
        code = make_room(table, grammar_bytes(compiled), error);
    if (code != BULLA_OK) {
        grammar_free(compiled);
        return code;
    }
    table->bytes += grammar_bytes(compiled);
    *grammar = entry->grammar = compiled;
    return BULLA_OK;
}

void grammar_table_free(struct grammar_table *table)
{
    for (size_t i = 0; i < GRAMMAR_TABLE_BUCKETS; i++)
        for (struct grammar_entry *entry = table->buckets[i], *next; entry; entry = next) {
            next = entry->next;
            free_entry(entry);
        }
    *table = (struct grammar_table){.most_bytes = table->most_bytes};
}
