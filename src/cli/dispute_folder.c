/* The referee's side of a folder that carries messages. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "cli/dispute_carrier.h"
#include "ops/dispute_server.h"

enum { MOST_NAMES = 1024 };

static int make_folders(const char *folder, bulla_error *error)
{
    static const char *const names[] = {"", "/inbox", "/rejected", "/v1", "/v1/answers", "/v1/disputes"};
    struct buffer path = {0};
    int code = BULLA_OK;
    for (size_t i = 0; i < sizeof names / sizeof *names && code == BULLA_OK; i++) {
        buffer_clear(&path);
        buffer_append_format(&path, "%s%s", folder, names[i]);
        if (path.error.code == BULLA_OK && mkdir((const char *)path.data, 0700) != 0 && errno != EEXIST)
            code = bulla_fail(error, BULLA_E_IO, "%s: cannot make it: %s", (const char *)path.data, strerror(errno));
    }
    buffer_free(&path);
    return code;
}

/* FOLDER/PLACE/NAME */
static int write_text(const char *folder, const char *place, const char *name, const struct buffer *text, bulla_error *error)
{
    struct buffer path = {0};
    buffer_append_format(&path, "%s/%s/%s", folder, place, name);
    int code = path.error.code != BULLA_OK || text->error.code != BULLA_OK
                   ? bulla_fail(error, BULLA_E_MEMORY, "memory is short for a file")
                   : file_write((const char *)path.data, text->data, text->length, error);
    buffer_free(&path);
    return code;
}

/* Messages of all disputes of an answer, and its state. */
static int write_answer(const char *folder, struct dispute_docket *docket, const uint8_t id[DISPUTE_HASH], bulla_error *error)
{
    struct buffer text = {0};
    struct arena arena = {0};
    char name[2 * DISPUTE_HASH + 6];
    int code = referee_write_answer(dispute_docket_referee(docket), id, &text, error);
    const struct json *list = json_get(code == BULLA_OK ? json_parse((const char *)text.data, text.length, "", &arena, error) : NULL,
                                       "disputes");
    for (size_t i = 0; code == BULLA_OK && list && i < list->length; i++) {
        uint8_t dispute[DISPUTE_HASH];
        struct buffer messages = {0};
        dispute_get_hash(list->items[i], "dispute", dispute);
        code = dispute_docket_messages(docket, dispute, 0, &messages, error);
        hex_encode(dispute, DISPUTE_HASH, name);
        memcpy(name + 2 * DISPUTE_HASH, ".json", 6);
        if (code == BULLA_OK)
            code = write_text(folder, "v1/disputes", name, &messages, error);
        buffer_free(&messages);
    }
    buffer_clear(&text);
    if (code == BULLA_OK)
        code = dispute_docket_statement(docket, id, &text, error);
    hex_encode(id, DISPUTE_HASH, name);
    memcpy(name + 2 * DISPUTE_HASH, ".json", 6);
    if (code == BULLA_OK)
        code = write_text(folder, "v1/answers", name, &text, error);
    arena_free(&arena);
    buffer_free(&text);
    return code;
}

static int write_all(const char *folder, struct dispute_docket *docket, bulla_error *error)
{
    struct buffer ids = {0};
    struct arena arena = {0};
    uint8_t id[DISPUTE_HASH];
    referee_write_ids(dispute_docket_referee(docket), 0, &ids);
    const struct json *list = json_get(json_parse((const char *)ids.data, ids.length, "", &arena, error), "answers");
    int code = list ? BULLA_OK : error->code;
    for (size_t i = 0; code == BULLA_OK && i < list->length; i++)
        if (hex_decode(list->items[i]->text, list->items[i]->length, id, sizeof id))
            code = write_answer(folder, docket, id, error);
    if (code == BULLA_OK)
        code = write_text(folder, "v1", "answers.json", &ids, error);
    arena_free(&arena);
    buffer_free(&ids);
    return code;
}

/* A message is gone from the inbox when what came of it is durable. */
static int take_file(const char *folder, const char *name, struct dispute_docket *docket, bulla_error *error)
{
    struct buffer path = {0}, text = {0};
    uint8_t *bytes = NULL;
    size_t length = 0;
    int is_taken = 0;
    bulla_error why = {0};
    buffer_append_format(&path, "%s/inbox/%s", folder, name);
    if (path.error.code != BULLA_OK)
        return bulla_fail(error, path.error.code, "%s", path.error.text);
    int code = BULLA_OK;
    if (file_read((const char *)path.data, DISPUTE_MOST_DOCUMENT, &bytes, &length, &why) == BULLA_OK)
        code = dispute_docket_take(docket, bytes, length, &is_taken, &why, error);
    memory_free(bytes);
    if (code == BULLA_OK && !is_taken) {
        buffer_append_format(&text, "%s\n", why.text);
        code = write_text(folder, "rejected", name, &text, error);
    }
    if (code == BULLA_OK && unlink((const char *)path.data) != 0 && errno != ENOENT)
        code = bulla_fail(error, BULLA_E_IO, "%s: cannot remove it: %s", (const char *)path.data, strerror(errno));
    buffer_free(&path);
    buffer_free(&text);
    return code;
}

int dispute_folder_serve(const char *folder, struct dispute_docket *docket, bulla_error *error)
{
    struct buffer inbox = {0};
    uint64_t before = referee_entries(dispute_docket_referee(docket));
    int code = make_folders(folder, error);
    if (code == BULLA_OK)
        code = dispute_docket_tick(docket, error);
    buffer_append_format(&inbox, "%s/inbox", folder);
    DIR *list = code == BULLA_OK && inbox.error.code == BULLA_OK ? opendir((const char *)inbox.data) : NULL;
    for (struct dirent *entry; list && code == BULLA_OK && (entry = readdir(list)) != NULL;) {
        size_t length = strlen(entry->d_name);
        if (length > 5 && strcmp(entry->d_name + length - 5, ".json") == 0)
            code = take_file(folder, entry->d_name, docket, error);
    }
    if (list)
        closedir(list);
    buffer_free(&inbox);
    struct buffer path = {0};
    enum file_kind kind = FILE_ABSENT;
    buffer_append_format(&path, "%s/v1/answers.json", folder);
    if (code == BULLA_OK)
        code = file_find_kind((const char *)path.data, &kind, error);
    buffer_free(&path);
    if (code == BULLA_OK && (kind == FILE_ABSENT || referee_entries(dispute_docket_referee(docket)) != before))
        code = write_all(folder, docket, error);
    return code;
}
