#include "cli/watch_folder.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "cli/verdicts.h"

/* Where in an order of `count` elements one belongs: the first that is not below it. */
static size_t find_name(const struct watch_folder *folder, const char *name)
{
    size_t low = 0, high = folder->name_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(folder->names[middle], name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static size_t find_hash(const struct watch_folder *folder, const uint8_t hash[RECEIPT_HASH])
{
    size_t low = 0, high = folder->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (memcmp(folder->documents[middle].hash, hash, RECEIPT_HASH) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Room for one element more in an array. */
static void *grow(void *elements, size_t count, size_t *capacity, size_t size, bulla_error *error)
{
    if (count < *capacity)
        return elements;
    size_t more = 64 + 2 * *capacity;
    void *larger = memory_resize(elements, more, size, error);
    if (larger)
        *capacity = more;
    return larger;
}

static int add_name(struct watch_folder *folder, const char *name, bulla_error *error)
{
    size_t at = find_name(folder, name);
    char **names = grow(folder->names, folder->name_count, &folder->name_capacity, sizeof *names, error);
    if (!names)
        return BULLA_E_MEMORY;
    folder->names = names;
    char *copy = memory_copy_text(name, strlen(name), error);
    if (!copy)
        return BULLA_E_MEMORY;
    memmove(names + at + 1, names + at, (folder->name_count - at) * sizeof *names);
    names[at] = copy;
    folder->name_count++;
    return BULLA_OK;
}

static int add_document(struct watch_folder *folder, const uint8_t hash[RECEIPT_HASH], const char *name, bulla_error *error)
{
    size_t at = find_hash(folder, hash);
    struct watch_document *documents = grow(folder->documents, folder->count, &folder->capacity, sizeof *documents, error);
    if (!documents)
        return BULLA_E_MEMORY;
    folder->documents = documents;
    struct watch_document made = {.name = memory_copy_text(name, strlen(name), error)};
    if (!made.name)
        return BULLA_E_MEMORY;
    memcpy(made.hash, hash, RECEIPT_HASH);
    memmove(documents + at + 1, documents + at, (folder->count - at) * sizeof *documents);
    documents[at] = made;
    folder->count++;
    return BULLA_OK;
}

int watch_folder_read(const struct watch_folder *folder, const char *name, uint8_t **text, size_t *length, bulla_error *error)
{
    struct buffer path = {0};
    buffer_append_format(&path, "%s/%s", folder->path, name);
    int code = path.error.code != BULLA_OK
                   ? bulla_fail(error, path.error.code, "%s", path.error.text)
                   : file_read((const char *)path.data, VERDICTS_LARGEST_DOCUMENT, text, length, error);
    buffer_free(&path);
    return code;
}

/* What cannot be read, or is no document with a transcript, is nobody's. */
static int take_file(struct watch_folder *folder, const char *name, bulla_error *error)
{
    struct arena arena = {0};
    uint8_t *text = NULL, hash[RECEIPT_HASH];
    size_t length = 0;
    bulla_error own = {0};
    const struct json *value = NULL, *signed_part = NULL;
    if (watch_folder_read(folder, name, &text, &length, &own) == BULLA_OK)
        value = json_parse((const char *)text, length, name, &arena, &own);
    if (json_get(value, "transcript"))
        signed_part = json_get(value, "signed");
    int code = own.code == BULLA_E_MEMORY ? bulla_fail(error, own.code, "%s", own.text) : BULLA_OK;
    if (code == BULLA_OK && signed_part)
        code = receipt_hash(signed_part, hash, error);
    if (code == BULLA_OK && signed_part)
        code = add_document(folder, hash, name, error);
    memory_free(text);
    arena_free(&arena);
    return code == BULLA_OK ? add_name(folder, name, error) : code;
}

/* Names are told on a terminal: one that would do something there is none. */
static int is_document(const char *name)
{
    size_t length = strlen(name);
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)name[i] < ' ' || name[i] == 0x7f)
            return 0;
    return length > 5 && name[0] != '.' && strcmp(name + length - 5, ".json") == 0;
}

int watch_folder_look(struct watch_folder *folder, bulla_error *error)
{
    int code = BULLA_OK;
    DIR *stream = opendir(folder->path);
    if (!stream)
        return bulla_fail(error, BULLA_E_IO, "%s: the folder cannot be read: %s", folder->path, strerror(errno));
    for (const struct dirent *entry; code == BULLA_OK && (entry = readdir(stream)) != NULL;) {
        size_t at = find_name(folder, entry->d_name);
        int is_known = at < folder->name_count && strcmp(folder->names[at], entry->d_name) == 0;
        if (!is_known && is_document(entry->d_name))
            code = take_file(folder, entry->d_name, error);
    }
    closedir(stream);
    return code;
}

struct watch_document *watch_folder_find(struct watch_folder *folder, const uint8_t hash[RECEIPT_HASH])
{
    for (size_t at = find_hash(folder, hash);
         at < folder->count && memcmp(folder->documents[at].hash, hash, RECEIPT_HASH) == 0; at++)
        if (!folder->documents[at].is_useless)
            return &folder->documents[at];
    return NULL;
}

void watch_folder_free(struct watch_folder *folder)
{
    for (size_t i = 0; i < folder->name_count; i++)
        memory_free(folder->names[i]);
    for (size_t i = 0; i < folder->count; i++)
        memory_free(folder->documents[i].name);
    memory_free(folder->names);
    memory_free(folder->documents);
}
