#define _GNU_SOURCE
#include "ops/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "ops/keys_internal.h"

enum { FRESH_SECONDS = 2 };

static const char key_prefix[] = "bulla-";
static const char sqlite_magic[16] = "SQLite format 3";

struct key_set {
    struct key_list list; /* sorted by hash */
};

/* --- Checks --- */

static int is_name(const char *text, size_t capacity)
{
    size_t length = strnlen(text, capacity);
    if (length == capacity)
        return 0;
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("._-", c)))
            return 0;
    }
    return 1;
}

int key_check(const struct key_entry *entry, const char *where, bulla_error *error)
{
    if (!is_name(entry->id, KEY_ID) || !entry->id[0])
        return bulla_fail(error, BULLA_E_INPUT, "%s: \"id\" must be 1 to %d letters, digits, '.', '_' and '-'", where,
                          KEY_ID - 1);
    if (!is_name(entry->tenant, KEY_TENANT))
        return bulla_fail(error, BULLA_E_INPUT, "%s: \"tenant\" must be at most %d letters, digits, '.', '_' and '-'",
                          where, KEY_TENANT - 1);
    if (entry->priority < 0 || entry->priority > KEY_MOST_PRIORITY)
        return bulla_fail(error, BULLA_E_INPUT, "%s: \"priority\" is %d, expected 0 to %d", where, entry->priority,
                          KEY_MOST_PRIORITY);
    if (entry->most_tokens > INT64_MAX || entry->created < 0)
        return bulla_fail(error, BULLA_E_INPUT, "%s: \"%s\" is out of range", where,
                          entry->created < 0 ? "created" : "most_tokens");
    return BULLA_OK;
}

int key_list_add(struct key_list *list, const struct key_entry *entry, bulla_error *error)
{
    if (list->count == KEY_MOST_COUNT)
        return bulla_fail(error, BULLA_E_LIMIT, "a store holds at most %d keys", KEY_MOST_COUNT);
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 16;
        struct key_entry *more = memory_resize(list->entries, capacity, sizeof *more, error);
        if (!more)
            return BULLA_E_MEMORY;
        list->entries = more;
        list->capacity = capacity;
    }
    list->entries[list->count++] = *entry;
    return BULLA_OK;
}

/* --- Which form a store has --- */

static int ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

static int choose_class(const char *path, const struct key_store_class **class, enum file_kind *kind, bulla_error *error)
{
    int code = file_find_kind(path, kind, error);
    if (code != BULLA_OK)
        return code;
    if (*kind != FILE_REGULAR && *kind != FILE_ABSENT)
        return bulla_fail(error, BULLA_E_INPUT, "%s: is no regular file, expected a store of keys", path);
    int is_database = ends_with(path, ".db") || ends_with(path, ".sqlite") || ends_with(path, ".sqlite3");
    if (*kind == FILE_REGULAR) {
        char magic[sizeof sqlite_magic];
        int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        ssize_t got = descriptor < 0 ? -1 : read(descriptor, magic, sizeof magic);
        int number = errno;
        if (descriptor >= 0)
            close(descriptor);
        if (got < 0)
            return bulla_fail(error, BULLA_E_IO, "%s: cannot open it for reading: %s", path, strerror(number));
        if (got > 0) /* a database that is being made may be empty still */
            is_database = got == (ssize_t)sizeof magic && memcmp(magic, sqlite_magic, sizeof magic) == 0;
    }
    *class = is_database ? &key_store_sqlite : &key_store_lines;
    return BULLA_OK;
}

/* --- Reading --- */

static int compare_hashes(const void *a, const void *b)
{
    return memcmp(((const struct key_entry *)a)->hash, ((const struct key_entry *)b)->hash, KEY_BYTES);
}

static int compare_ids(const void *a, const void *b)
{
    return strcmp(((const struct key_entry *)a)->id, ((const struct key_entry *)b)->id);
}

static int check_unique(struct key_list *list, const char *path, bulla_error *error)
{
    if (list->count == 0)
        return BULLA_OK;
    qsort(list->entries, list->count, sizeof *list->entries, compare_ids);
    for (size_t i = 1; i < list->count; i++)
        if (strcmp(list->entries[i - 1].id, list->entries[i].id) == 0)
            return bulla_fail(error, BULLA_E_INPUT, "%s: two keys have the id \"%s\"", path, list->entries[i].id);
    qsort(list->entries, list->count, sizeof *list->entries, compare_hashes);
    for (size_t i = 1; i < list->count; i++)
        if (compare_hashes(&list->entries[i - 1], &list->entries[i]) == 0)
            return bulla_fail(error, BULLA_E_INPUT, "%s: the keys \"%s\" and \"%s\" have the same hash", path,
                              list->entries[i - 1].id, list->entries[i].id);
    return BULLA_OK;
}

int key_store_read(const char *path, struct key_set **set, bulla_error *error)
{
    bulla_error own = {0};
    const struct key_store_class *class = NULL;
    enum file_kind kind = FILE_ABSENT;
    *set = memory_alloc(1, sizeof **set, error);
    if (!*set)
        return BULLA_E_MEMORY;
    if (choose_class(path, &class, &kind, &own) == BULLA_OK && kind == FILE_ABSENT)
        bulla_fail(&own, BULLA_E_IO, "%s: there is no such store of keys; `bulla keys add --store %s` makes one", path,
                   path);
    if (own.code == BULLA_OK && class->read(path, &(*set)->list, &own) == BULLA_OK)
        check_unique(&(*set)->list, path, &own);
    if (own.code == BULLA_OK)
        return BULLA_OK;
    key_set_free(*set);
    *set = NULL;
    return bulla_fail(error, own.code, "%s", own.text);
}

void key_set_free(struct key_set *set)
{
    if (!set)
        return;
    memory_free(set->list.entries);
    memory_free(set);
}

size_t key_set_count(const struct key_set *set)
{
    return set->list.count;
}

const struct key_entry *key_set_at(const struct key_set *set, size_t number)
{
    return number < set->list.count ? &set->list.entries[number] : NULL;
}

static int hash_key(const uint8_t bytes[KEY_BYTES], uint8_t hash[KEY_BYTES], bulla_error *error)
{
    return hash_sha256(bytes, KEY_BYTES, hash, error);
}

const struct key_entry *key_set_find(const struct key_set *set, const char *text, size_t length)
{
    uint8_t bytes[KEY_BYTES];
    struct key_entry wanted;
    size_t skip = sizeof key_prefix - 1;
    if (length != KEY_TEXT - 1 || memcmp(text, key_prefix, skip) != 0 ||
        !hex_decode(text + skip, length - skip, bytes, sizeof bytes))
        return NULL;
    int code = hash_key(bytes, wanted.hash, NULL);
    memory_wipe(bytes, sizeof bytes);
    if (code != BULLA_OK || set->list.count == 0)
        return NULL;
    /* The search's time depends on the hash, which a guesser can compute but not steer towards one in the store. */
    const struct key_entry *found =
        bsearch(&wanted, set->list.entries, set->list.count, sizeof wanted, compare_hashes);
    return found && CRYPTO_memcmp(found->hash, wanted.hash, KEY_BYTES) == 0 ? found : NULL;
}

static int entry_equals(const struct key_entry *a, const struct key_entry *b)
{
    return memcmp(a->hash, b->hash, KEY_BYTES) == 0 && strcmp(a->id, b->id) == 0 && strcmp(a->tenant, b->tenant) == 0 &&
           a->is_admin == b->is_admin && a->is_disabled == b->is_disabled && a->priority == b->priority &&
           a->most_tokens == b->most_tokens && a->created == b->created;
}

int key_set_equals(const struct key_set *a, const struct key_set *b)
{
    int is_same = a->list.count == b->list.count;
    for (size_t i = 0; is_same && i < a->list.count; i++)
        is_same = entry_equals(&a->list.entries[i], &b->list.entries[i]);
    return is_same;
}

/* --- Whether it has changed --- */

/* Every change of a file sets its change time, also one that sets its other times back. */
void key_stamp_take(const char *path, struct key_stamp *stamp)
{
    static const char *const endings[] = {"", "-wal"};
    char name[PATH_MAX + 8];
    struct stat status;
    *stamp = (struct key_stamp){0};
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        snprintf(name, sizeof name, "%s%s", path, endings[i]);
        if (stat(name, &status) != 0 || (i > 0 && status.st_size == 0)) /* reading makes an empty log */
            continue;
        stamp->files[i].device = status.st_dev;
        stamp->files[i].inode = status.st_ino;
        stamp->files[i].size = (uint64_t)status.st_size;
        stamp->files[i].seconds = (uint64_t)status.st_ctim.tv_sec;
        stamp->files[i].nanoseconds = (uint64_t)status.st_ctim.tv_nsec;
    }
}

int key_stamp_equals(const struct key_stamp *a, const struct key_stamp *b)
{
    return memcmp(a, b, sizeof *a) == 0; /* numbers of 64 bits: no padding */
}

int key_stamp_is_fresh(const struct key_stamp *stamp)
{
    int64_t now = (int64_t)time(NULL);
    for (size_t i = 0; i < sizeof stamp->files / sizeof stamp->files[0]; i++) {
        int64_t age = now - (int64_t)stamp->files[i].seconds;
        if (age >= -FRESH_SECONDS && age <= FRESH_SECONDS)
            return 1;
    }
    return 0;
}

/* --- Changing --- */

int key_store_add(const char *path, struct key_entry *entry, char text[KEY_TEXT], bulla_error *error)
{
    uint8_t bytes[KEY_BYTES];
    enum file_kind kind;
    const struct key_store_class *class = NULL;
    text[0] = 0;
    int code = choose_class(path, &class, &kind, error);
    if (code != BULLA_OK)
        return code;
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        return bulla_fail(error, BULLA_E_IO, "the system gives no random bytes: %s", strerror(errno));
    code = hash_key(bytes, entry->hash, error);
    hex_encode(entry->hash, (KEY_ID - 8) / 2, entry->id);
    entry->created = (int64_t)time(NULL);
    entry->is_disabled = 0;
    if (code == BULLA_OK)
        code = key_check(entry, "the new key", error);
    if (code == BULLA_OK)
        code = class->add(path, entry, error);
    if (code == BULLA_OK) {
        memcpy(text, key_prefix, sizeof key_prefix - 1);
        hex_encode(bytes, sizeof bytes, text + sizeof key_prefix - 1);
    }
    memory_wipe(bytes, sizeof bytes);
    return code;
}

int key_store_disable(const char *path, const char *id, bulla_error *error)
{
    enum file_kind kind;
    const struct key_store_class *class = NULL;
    int code = choose_class(path, &class, &kind, error);
    if (code != BULLA_OK)
        return code;
    if (kind == FILE_ABSENT)
        return bulla_fail(error, BULLA_E_IO, "%s: there is no such store of keys", path);
    return class->disable(path, id, error);
}
