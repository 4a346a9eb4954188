#include "cli/watch_state.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"

enum { LARGEST_STATE = 1 << 28 };

static const struct {
    const char *name;
    size_t offset;
} numbers[] = {
    {"size", offsetof(struct watch_counts, size)},           {"chosen", offsetof(struct watch_counts, chosen)},
    {"passed", offsetof(struct watch_counts, passed)},       {"failed", offsetof(struct watch_counts, failed)},
    {"unchecked", offsetof(struct watch_counts, unchecked)}, {"given_up", offsetof(struct watch_counts, given_up)},
};

enum { NUMBERS = sizeof numbers / sizeof *numbers };

static uint64_t *number_of(struct watch_counts *counts, size_t number)
{
    return (uint64_t *)(void *)((char *)counts + numbers[number].offset);
}

/* ---- Reading ---- */

static int read_number(const struct json *value, uint64_t *number)
{
    if (!json_is(value, JSON_NUMBER) || !value->is_integer || value->integer < 0)
        return 0;
    *number = (uint64_t)value->integer;
    return 1;
}

static int read_waiting(const struct json *pair, struct watch_waiting *waiting)
{
    const struct json *hash = json_is(pair, JSON_ARRAY) && pair->length == 2 ? pair->items[1] : NULL;
    return hash && read_number(pair->items[0], &waiting->index) && json_is(hash, JSON_STRING) &&
           hex_decode(hash->text, hash->length, waiting->hash, RECEIPT_HASH);
}

/* One more at the end. */
static int add_waiting(struct watch_state *state, const struct watch_waiting *waiting, bulla_error *error)
{
    if (state->waiting_count == state->waiting_capacity) {
        size_t capacity = 64 + 2 * state->waiting_capacity;
        struct watch_waiting *larger = memory_resize(state->waiting, capacity, sizeof *larger, error);
        if (!larger)
            return BULLA_E_MEMORY;
        state->waiting = larger;
        state->waiting_capacity = capacity;
    }
    state->waiting[state->waiting_count++] = *waiting;
    return BULLA_OK;
}

static int read_state(const struct json *value, struct watch_state *state, bulla_error *error)
{
    const struct json *list = json_get(value, "waiting");
    struct watch_waiting waiting;
    int is_read = json_is(list, JSON_ARRAY), code = BULLA_OK;
    for (size_t i = 0; is_read && i < NUMBERS; i++)
        is_read = read_number(json_get(value, numbers[i].name), number_of(&state->counts, i));
    for (size_t i = 0; code == BULLA_OK && is_read && i < list->length; i++) {
        is_read = read_waiting(list->items[i], &waiting);
        code = is_read ? add_waiting(state, &waiting, error) : BULLA_OK;
    }
    state->kept_size = state->counts.size;
    return is_read ? code : bulla_fail(error, BULLA_E_INPUT, "%s: not a watcher's state", (const char *)state->path.data);
}

static int read_file(struct watch_state *state, bulla_error *error)
{
    const char *path = (const char *)state->path.data;
    enum file_kind kind;
    struct arena arena = {0};
    uint8_t *text = NULL;
    size_t length;
    int code = file_find_kind(path, &kind, error);
    if (code != BULLA_OK || kind == FILE_ABSENT)
        return code;
    code = file_read(path, LARGEST_STATE, &text, &length, error);
    const struct json *value = code == BULLA_OK ? json_parse((const char *)text, length, path, &arena, error) : NULL;
    if (code == BULLA_OK)
        code = value ? read_state(value, state, error) : BULLA_E_INPUT;
    memory_free(text);
    arena_free(&arena);
    return code;
}

static int open_secret(const char *path, uint8_t secret[AUDIT_SECRET], bulla_error *error)
{
    enum file_kind kind;
    uint8_t *bytes = NULL;
    size_t length = 0;
    int code = file_find_kind(path, &kind, error);
    if (code == BULLA_OK && kind == FILE_ABSENT) {
        code = random_bytes(secret, AUDIT_SECRET, error);
        return code == BULLA_OK ? file_write_private(path, secret, AUDIT_SECRET, error) : code;
    }
    if (code == BULLA_OK)
        code = file_read(path, AUDIT_SECRET, &bytes, &length, error);
    if (code == BULLA_OK && length != AUDIT_SECRET)
        code = bulla_fail(error, BULLA_E_INPUT, "%s has %zu bytes, a watcher's secret has %d", path, length, AUDIT_SECRET);
    if (code == BULLA_OK)
        memcpy(secret, bytes, AUDIT_SECRET);
    memory_wipe(bytes, bytes ? length : 0);
    memory_free(bytes);
    return code;
}

int watch_state_open(const char *path, struct watch_state *state, bulla_error *error)
{
    struct buffer secret = {0};
    *state = (struct watch_state){0};
    buffer_append_format(&state->path, "%s.audits", path);
    buffer_append_format(&secret, "%s.secret", path);
    int code = BULLA_OK;
    if (state->path.error.code != BULLA_OK || secret.error.code != BULLA_OK)
        code = bulla_fail(error, BULLA_E_MEMORY, "out of memory for the names of the watcher's files");
    if (code == BULLA_OK)
        code = open_secret((const char *)secret.data, state->secret, error);
    if (code == BULLA_OK)
        code = read_file(state, error);
    buffer_free(&secret);
    return code;
}

void watch_state_close(struct watch_state *state)
{
    buffer_free(&state->path);
    memory_free(state->waiting);
    memory_wipe(state->secret, sizeof state->secret);
}

/* ---- Changing ---- */

void watch_state_drop(struct watch_state *state, size_t at)
{
    state->waiting_count--;
    memmove(state->waiting + at, state->waiting + at + 1, (state->waiting_count - at) * sizeof *state->waiting);
}

int watch_state_take(struct watch_state *state, uint64_t index, const uint8_t hash[RECEIPT_HASH], int is_chosen,
                     bulla_error *error)
{
    struct watch_waiting waiting = {.index = index};
    if (index < state->counts.size) {
        state->waiting_count -= state->fresh;
        state->counts.chosen -= state->fresh;
        state->counts.size = state->kept_size;
        state->fresh = 0;
    }
    if (index < state->counts.size)
        return BULLA_OK;
    memcpy(waiting.hash, hash, RECEIPT_HASH);
    int code = is_chosen ? add_waiting(state, &waiting, error) : BULLA_OK;
    if (code != BULLA_OK)
        return code;
    state->counts.size = index + 1;
    state->counts.chosen += is_chosen != 0;
    state->fresh += is_chosen != 0;
    return BULLA_OK;
}

void watch_state_give_up(struct watch_state *state, size_t most)
{
    for (; state->waiting_count > most; state->counts.given_up++)
        watch_state_drop(state, 0);
}

int watch_state_keep(struct watch_state *state, bulla_error *error)
{
    struct watch_counts counts = state->counts;
    struct buffer text = {0};
    char digits[2 * RECEIPT_HASH + 1];
    buffer_append_byte(&text, '{');
    for (size_t i = 0; i < NUMBERS; i++)
        buffer_append_format(&text, "\"%s\":%" PRIu64 ",", numbers[i].name, *number_of(&counts, i));
    buffer_append_text(&text, "\"waiting\":[");
    for (size_t i = 0; i < state->waiting_count; i++) {
        hex_encode(state->waiting[i].hash, RECEIPT_HASH, digits);
        buffer_append_format(&text, "%s[%" PRIu64 ",\"%s\"]", i ? "," : "", state->waiting[i].index, digits);
    }
    buffer_append_text(&text, "]}\n");
    int code = text.error.code != BULLA_OK ? bulla_fail(error, text.error.code, "%s", text.error.text)
                                           : file_write((const char *)state->path.data, text.data, text.length, error);
    buffer_free(&text);
    if (code == BULLA_OK) {
        state->kept_size = state->counts.size;
        state->fresh = 0;
    }
    return code;
}
