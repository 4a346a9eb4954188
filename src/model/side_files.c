#include "model/side_files.h"

#include <math.h>
#include <string.h>

/* Limits are some ten times what known models have. The parsed form of JSON
 * takes more than its text: a vocabulary's 33 MB become 250 MB. */
static const struct {
    const char *name;
    size_t limit;
    int is_json;
} kinds[SIDE_FILES] = {
    {"config.json", 16 << 20, 1},
    {"generation_config.json", 16 << 20, 1},
    {"tokenizer.json", 256 << 20, 1},
    {"tokenizer_config.json", 64 << 20, 1},
    {"special_tokens_map.json", 16 << 20, 1},
    {"added_tokens.json", 16 << 20, 1},
    {"chat_template.json", 16 << 20, 1},
    {"chat_template.jinja", 16 << 20, 0},
    {"tokenizer.model", 64 << 20, 0},
};
static const size_t PARSED_LIMIT = (size_t)1 << 30; /* all JSON of one model together */

static int parse(struct side_files *files, int kind, const char *path, bulla_error *error)
{
    struct side_file *file = &files->files[kind];
    file->json = json_parse((const char *)file->map.data, file->map.length, path, &files->arena, error);
    return file->json ? BULLA_OK : BULLA_E_INPUT;
}

static int open_one(struct side_files *files, const char *folder, int kind, bulla_error *error)
{
    struct buffer path = {0};
    enum file_kind found = FILE_ABSENT;
    struct side_file *file = &files->files[kind];
    buffer_append_format(&path, "%s/%s", folder, kinds[kind].name);
    int code = path.error.code;
    if (code != BULLA_OK)
        bulla_fail(error, code, "%s", path.error.text);
    else
        code = file_find_kind((char *)path.data, &found, error);
    if (code == BULLA_OK && found != FILE_ABSENT) {
        code = file_map_open((char *)path.data, &file->map, error);
        file->present = code == BULLA_OK;
    }
    if (code == BULLA_OK && file->map.length > kinds[kind].limit)
        code = bulla_fail(error, BULLA_E_LIMIT, "%s: its %zu bytes are more than the %zu that such a file may have",
                          (char *)path.data, file->map.length, kinds[kind].limit);
    if (code == BULLA_OK && file->present && kinds[kind].is_json)
        code = parse(files, kind, (char *)path.data, error);
    buffer_free(&path);
    return code;
}

int side_files_open(struct side_files *files, const char *folder, bulla_error *error)
{
    int code = BULLA_OK;
    files->arena.limit = PARSED_LIMIT;
    for (int kind = 0; kind < SIDE_FILES && code == BULLA_OK; kind++)
        code = open_one(files, folder, kind, error);
    return code;
}

int side_files_set_config(struct side_files *files, const void *config, size_t length, bulla_error *error)
{
    files->arena.limit = PARSED_LIMIT;
    files->files[0] = (struct side_file){.map = {.data = config, .length = length}, .present = 1, .borrowed = 1};
    return parse(files, 0, kinds[0].name, error);
}

void side_files_close(struct side_files *files)
{
    for (int kind = 0; kind < SIDE_FILES; kind++)
        if (!files->files[kind].borrowed)
            file_map_close(&files->files[kind].map);
    arena_free(&files->arena);
    memset(files, 0, sizeof *files);
}

static const struct side_file *find(const struct side_files *files, const char *name)
{
    for (int kind = 0; kind < SIDE_FILES; kind++)
        if (strcmp(kinds[kind].name, name) == 0)
            return &files->files[kind];
    return NULL;
}

const struct json *side_files_json(const struct side_files *files, const char *name)
{
    const struct side_file *file = find(files, name);
    return file ? file->json : NULL;
}

int side_files_bytes(const struct side_files *files, const char *name, const uint8_t **data, size_t *length,
                     bulla_error *error)
{
    const struct side_file *file = find(files, name);
    *data = NULL;
    *length = 0;
    if (!file)
        return bulla_fail(error, BULLA_E_USAGE, "%s is not one of the files that are read beside a model", name);
    if (file->present) {
        *data = file->map.length ? file->map.data : (const uint8_t *)"";
        *length = file->map.length;
    }
    return BULLA_OK;
}

void side_files_hash_one(struct hash_stream *stream, const char *name, const uint8_t *data, size_t length)
{
    uint8_t raw[8];
    for (int i = 0; i < 8; i++)
        raw[i] = (uint8_t)((uint64_t)length >> 8 * i);
    hash_stream_update(stream, name, strlen(name) + 1);
    hash_stream_update(stream, raw, sizeof raw);
    hash_stream_update(stream, data, length);
}

void side_files_hash(const struct side_files *files, struct hash_stream *stream)
{
    for (int kind = 0; kind < SIDE_FILES; kind++) {
        const struct side_file *file = &files->files[kind];
        if (file->present)
            side_files_hash_one(stream, kinds[kind].name, file->map.data, file->map.length);
    }
}

/* The whole rest of the key is tried as one member's name before it is split. */
static const struct json *walk(const struct json *config, const char *key)
{
    while (config) {
        const struct json *whole = json_get(config, key);
        const char *dot = strchr(key, '.');
        if (whole || !dot)
            return whole;
        config = json_get_bytes(config, key, (size_t)(dot - key));
        key = dot + 1;
    }
    return NULL;
}

static void set_number(const struct json *value, struct setting *setting)
{
    /* JSON does not tell 32.0 from 32. */
    int integral = fabs(value->number) <= 9007199254740992.0 && value->number == floor(value->number);
    setting->type = value->is_integer || integral ? SETTING_INTEGER : SETTING_REAL;
    setting->integer = value->is_integer ? value->integer : integral ? (int64_t)value->number : 0;
    setting->real = value->number;
    setting->type_name = setting->type == SETTING_INTEGER ? "an integer" : "a number that is no 64-bit integer";
}

static int set(const struct json *value, struct setting *setting, bulla_error *error)
{
    static const char *const names[] = {"null", "a bool", "a bool", "a number", "a string", "an array", "an object"};
    memset(setting, 0, sizeof *setting);
    if (!value || value->type == JSON_NULL)
        return BULLA_OK;
    setting->type_name = names[value->type];
    switch (value->type) {
    case JSON_FALSE:
    case JSON_TRUE:
        setting->type = SETTING_BOOL;
        setting->integer = value->type == JSON_TRUE;
        break;
    case JSON_NUMBER:
        set_number(value, setting);
        break;
    case JSON_STRING:
        if (memchr(value->text, 0, value->length))
            return bulla_fail(error, BULLA_E_INPUT, "its text has a NUL (\\u0000)");
        setting->type = SETTING_TEXT;
        setting->text = value->text;
        setting->length = value->length;
        break;
    case JSON_ARRAY:
        setting->type = SETTING_ARRAY;
        setting->count = value->length;
        break;
    default:
        setting->type = SETTING_OTHER;
    }
    return BULLA_OK;
}

int side_files_setting(const struct json *config, const char *key, struct setting *setting, bulla_error *error)
{
    return set(walk(config, key), setting, error);
}

int side_files_element(const struct json *config, const char *key, uint64_t index, struct setting *setting,
                       bulla_error *error)
{
    return set(walk(config, key)->items[index], setting, error);
}
