/* A store of keys as JSON lines: people can read and edit it. Changed as a whole (base/file.h), by one process at a time
 * (PATH.lock). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "ops/keys_internal.h"

enum { STORE_BYTES = 64 << 20, LINE_MEMORY = 1 << 20, WHERE = 600 };

/* --- A line --- */

static int take_text(const struct json *value, const char *name, char *out, size_t capacity, const char *where,
                     bulla_error *error)
{
    if (!json_is(value, JSON_STRING) || value->length >= capacity || strlen(value->text) != value->length)
        return bulla_fail(error, BULLA_E_INPUT, "%s: \"%s\" must be a string of at most %zu characters", where, name,
                          capacity - 1);
    memcpy(out, value->text, value->length + 1);
    return BULLA_OK;
}

static int take_integer(const struct json *value, const char *name, int64_t most, int64_t *out, const char *where,
                        bulla_error *error)
{
    if (!json_is(value, JSON_NUMBER) || !value->is_integer || value->integer < 0 || value->integer > most)
        return bulla_fail(error, BULLA_E_INPUT, "%s: \"%s\" must be a whole number from 0 to %" PRId64, where, name,
                          most);
    *out = value->integer;
    return BULLA_OK;
}

static int take_member(const char *name, const struct json *value, struct key_entry *entry, const char *where,
                       bulla_error *error)
{
    char text[2 * KEY_BYTES + 1];
    int64_t number = 0;
    int code;
    if (strcmp(name, "id") == 0)
        return take_text(value, name, entry->id, sizeof entry->id, where, error);
    if (strcmp(name, "tenant") == 0)
        return take_text(value, name, entry->tenant, sizeof entry->tenant, where, error);
    if (strcmp(name, "hash") == 0) {
        code = take_text(value, name, text, sizeof text, where, error);
        if (code == BULLA_OK && !hex_decode(text, strlen(text), entry->hash, KEY_BYTES))
            code = bulla_fail(error, BULLA_E_INPUT, "%s: \"hash\" must be 64 hex digits", where);
        return code;
    }
    if (strcmp(name, "scope") == 0) {
        code = take_text(value, name, text, sizeof text, where, error);
        entry->is_admin = code == BULLA_OK && strcmp(text, "admin") == 0;
        if (code == BULLA_OK && !entry->is_admin && strcmp(text, "use") != 0)
            code = bulla_fail(error, BULLA_E_INPUT, "%s: \"scope\" is \"%s\", expected \"use\" or \"admin\"", where, text);
        return code;
    }
    if (strcmp(name, "disabled") == 0) {
        if (!json_is_bool(value))
            return bulla_fail(error, BULLA_E_INPUT, "%s: \"disabled\" must be true or false", where);
        entry->is_disabled = value->type == JSON_TRUE;
        return BULLA_OK;
    }
    if (strcmp(name, "priority") == 0) {
        code = take_integer(value, name, KEY_MOST_PRIORITY, &number, where, error);
        entry->priority = (int)number;
    } else if (strcmp(name, "most_tokens") == 0) {
        code = take_integer(value, name, INT64_MAX, &number, where, error);
        entry->most_tokens = (uint64_t)number;
    } else if (strcmp(name, "created") == 0) {
        code = take_integer(value, name, INT64_MAX, &entry->created, where, error);
    } else {
        code = bulla_fail(error, BULLA_E_INPUT, "%s: there is no field \"%.40s\"", where, name);
    }
    return code;
}

static int read_line(const char *text, size_t length, const char *where, struct key_entry *entry, bulla_error *error)
{
    struct arena arena = {.limit = LINE_MEMORY};
    struct json *value = json_parse(text, length, where, &arena, error);
    int code = value ? BULLA_OK : error->code;
    if (value && value->type != JSON_OBJECT)
        code = bulla_fail(error, BULLA_E_INPUT, "%s: must be an object", where);
    for (size_t i = 0; code == BULLA_OK && i < value->length; i++)
        code = take_member(value->keys[i], value->items[i], entry, where, error);
    if (code == BULLA_OK && !json_get(value, "hash"))
        code = bulla_fail(error, BULLA_E_INPUT, "%s: \"hash\" is missing", where);
    if (code == BULLA_OK && !json_get(value, "scope"))
        code = bulla_fail(error, BULLA_E_INPUT, "%s: \"scope\" is missing", where);
    arena_free(&arena);
    return code == BULLA_OK ? key_check(entry, where, error) : code;
}

static int parse_lines(const char *path, const char *text, size_t length, struct key_list *list, bulla_error *error)
{
    char where[WHERE];
    size_t number = 1;
    for (size_t at = 0; at < length; number++) {
        const char *end = memchr(text + at, '\n', length - at);
        size_t line = end ? (size_t)(end - text) - at : length - at;
        struct key_entry entry = {0};
        if (strspn(text + at, " \t\r") < line) { /* a NUL stands after the text */
            snprintf(where, sizeof where, "%.500s, line %zu", path, number);
            int code = read_line(text + at, line, where, &entry, error);
            if (code == BULLA_OK)
                code = key_list_add(list, &entry, error);
            if (code != BULLA_OK)
                return code;
        }
        at += line + 1;
    }
    return BULLA_OK;
}

static int lines_read(const char *path, struct key_list *list, bulla_error *error)
{
    uint8_t *data;
    size_t length;
    int code = file_read(path, STORE_BYTES, &data, &length, error);
    if (code != BULLA_OK)
        return code;
    code = parse_lines(path, (const char *)data, length, list, error);
    memory_free(data);
    return code;
}

/* --- Changing --- */

static void write_line(struct buffer *out, const struct key_entry *entry)
{
    char hash[2 * KEY_BYTES + 1];
    hex_encode(entry->hash, KEY_BYTES, hash);
    /* Ids and tenants are of characters that JSON leaves as they are (key_check). */
    buffer_append_format(out,
                         "{\"id\":\"%s\",\"hash\":\"%s\",\"tenant\":\"%s\",\"scope\":\"%s\",\"priority\":%d,"
                         "\"most_tokens\":%" PRIu64 ",\"created\":%" PRId64 ",\"disabled\":%s}\n",
                         entry->id, hash, entry->tenant, entry->is_admin ? "admin" : "use", entry->priority,
                         entry->most_tokens, entry->created, entry->is_disabled ? "true" : "false");
}

static int write_lines(const char *path, const struct key_list *list, bulla_error *error)
{
    struct buffer text = {0};
    for (size_t i = 0; i < list->count; i++)
        write_line(&text, &list->entries[i]);
    int code = text.error.code == BULLA_OK ? file_write(path, text.data, text.length, error)
                                           : bulla_fail(error, text.error.code, "%s", text.error.text);
    buffer_free(&text);
    return code;
}

/* Closing the descriptor gives the lock back; -1 with the error recorded. */
static int take_lock(const char *path, bulla_error *error)
{
    struct buffer name = {0};
    buffer_append_format(&name, "%s.lock", path);
    int descriptor = -1;
    if (name.error.code != BULLA_OK)
        bulla_fail(error, name.error.code, "%s", name.error.text);
    else {
        descriptor = open((const char *)name.data, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        int result = descriptor < 0 ? -1 : flock(descriptor, LOCK_EX);
        while (descriptor >= 0 && result != 0 && errno == EINTR)
            result = flock(descriptor, LOCK_EX);
        if (result != 0) {
            bulla_fail(error, BULLA_E_IO, "%s: cannot lock it: %s", (const char *)name.data, strerror(errno));
            if (descriptor >= 0)
                close(descriptor);
            descriptor = -1;
        }
    }
    buffer_free(&name);
    return descriptor;
}

/* Reads the store, adds `added` or disables `disabled`, and writes it again, under the lock. */
static int change(const char *path, const struct key_entry *added, const char *disabled, bulla_error *error)
{
    bulla_error own = {0};
    struct key_list list = {0};
    enum file_kind kind;
    int lock = take_lock(path, error), found = 0;
    if (lock < 0)
        return error ? error->code : BULLA_E_IO;
    if (file_find_kind(path, &kind, &own) == BULLA_OK && kind != FILE_ABSENT)
        lines_read(path, &list, &own);
    for (size_t i = 0; disabled && i < list.count; i++)
        if (strcmp(list.entries[i].id, disabled) == 0)
            found = list.entries[i].is_disabled = 1;
    if (disabled && !found)
        bulla_fail(&own, BULLA_E_USAGE, "%s: there is no key with the id \"%s\"; `bulla keys list` shows them", path,
                   disabled);
    if (added && own.code == BULLA_OK)
        key_list_add(&list, added, &own);
    if (own.code == BULLA_OK)
        write_lines(path, &list, &own);
    memory_free(list.entries);
    close(lock);
    return own.code == BULLA_OK ? BULLA_OK : bulla_fail(error, own.code, "%s", own.text);
}

static int lines_add(const char *path, const struct key_entry *entry, bulla_error *error)
{
    return change(path, entry, NULL, error);
}

static int lines_disable(const char *path, const char *id, bulla_error *error)
{
    return change(path, NULL, id, error);
}

const struct key_store_class key_store_lines = {.read = lines_read, .add = lines_add, .disable = lines_disable};
