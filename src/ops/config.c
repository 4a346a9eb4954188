#include "ops/config.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "exec/speculate.h"

enum { CONFIG_BYTES = 1 << 20, CONFIG_MEMORY = 32 << 20, WHERE = 500 };

/* A field's type says what lies at `offset` of the struct that is filled. */
enum field_type {
    FIELD_TEXT,    /* const char *, not empty, without NUL */
    FIELD_FLAG,    /* int */
    FIELD_INTEGER, /* uint64_t */
    FIELD_SIZE,    /* size_t */
    FIELD_COUNT,   /* unsigned */
    FIELD_OWN      /* the caller's to read */
};

struct field {
    const char *name;
    enum field_type type;
    size_t offset;
    uint64_t minimum, maximum; /* of numbers */
};

#define AT(type, member) offsetof(struct type, member)

static const struct field limit_fields[] = {
    {"header_bytes", FIELD_SIZE, AT(config, limits.most_header_bytes), 1024, 1 << 20},
    {"header_lines", FIELD_SIZE, AT(config, limits.most_header_lines), 8, 10000},
    {"body_bytes", FIELD_SIZE, AT(config, limits.most_body_bytes), 1024, 1 << 30},
    {"held_bytes", FIELD_SIZE, AT(config, limits.most_held_bytes), 1024, UINT64_C(1) << 40},
    {"answer_bytes", FIELD_SIZE, AT(config, most_answer_bytes), 1 << 20, UINT64_C(1) << 40},
    {"unsent_bytes", FIELD_SIZE, AT(config, limits.most_unsent), 64 << 10, 1 << 30},
    {"connections", FIELD_COUNT, AT(config, limits.most_connections), 1, 1 << 20},
    {"header_seconds", FIELD_COUNT, AT(config, limits.header_seconds), 1, CONFIG_MOST_SECONDS},
    {"body_seconds", FIELD_COUNT, AT(config, limits.body_seconds), 1, CONFIG_MOST_SECONDS},
    {"idle_seconds", FIELD_COUNT, AT(config, limits.idle_seconds), 1, CONFIG_MOST_SECONDS},
    {"write_seconds", FIELD_COUNT, AT(config, limits.write_seconds), 1, CONFIG_MOST_SECONDS},
};

static const struct field tls_fields[] = {
    {"certificate", FIELD_TEXT, AT(config, certificate), 0, 0},
    {"key", FIELD_TEXT, AT(config, key), 0, 0},
    {"names", FIELD_OWN, 0, 0, 0},
};

static const struct field model_fields[] = {
    {"name", FIELD_TEXT, AT(config_model, name), 0, 0},
    {"path", FIELD_TEXT, AT(config_model, path), 0, 0},
    {"upstream", FIELD_TEXT, AT(config_model, upstream), 0, 0},
    {"aliases", FIELD_OWN, 0, 0, 0},
    {"max_tokens", FIELD_INTEGER, AT(config_model, most_tokens), 1, UINT32_MAX},
    {"max_seconds", FIELD_INTEGER, AT(config_model, most_seconds), 1, CONFIG_MOST_SECONDS},
    {"max_waiting", FIELD_INTEGER, AT(config_model, most_waiting), 1, 1 << 20},
    {"threads", FIELD_INTEGER, AT(config_model, threads), 1, 256},
    {"cache_positions", FIELD_INTEGER, AT(config_model, cache_positions), 64, UINT64_C(1) << 40},
    {"max_running", FIELD_INTEGER, AT(config_model, most_running), 1, 4096},
    {"speculate", FIELD_INTEGER, AT(config_model, speculate), 0, SPECULATE_MOST},
    {"prefix_cache", FIELD_FLAG, AT(config_model, has_prefix_cache), 0, 0},
    {"isa", FIELD_TEXT, AT(config_model, isa), 0, 0},
    {"upstream_model", FIELD_TEXT, AT(config_model, upstream_model), 0, 0},
    {"upstream_key_file", FIELD_TEXT, AT(config_model, upstream_key_file), 0, 0},
    {"upstream_ca_file", FIELD_TEXT, AT(config_model, upstream_ca_file), 0, 0},
    {"connect_seconds", FIELD_INTEGER, AT(config_model, connect_seconds), 1, CONFIG_MOST_SECONDS},
    {"idle_seconds", FIELD_INTEGER, AT(config_model, idle_seconds), 1, CONFIG_MOST_SECONDS},
};

static const struct field tpm_fields[] = {
    {"tcti", FIELD_TEXT, AT(config, attesting.tpm_tcti), 0, 0},
    {"key", FIELD_TEXT, AT(config, attesting.tpm_key), 0, 0},
    {"certificate", FIELD_TEXT, AT(config, attesting.tpm_certificate), 0, 0},
    {"pcrs", FIELD_TEXT, AT(config, attesting.tpm_pcrs), 0, 0},
};

/* Fields that only one kind of model has. */
static const char *const file_fields[] = {"threads", "cache_positions", "max_running", "speculate", "prefix_cache", "isa"};
static const char *const upstream_fields[] = {"upstream_model", "upstream_key_file", "upstream_ca_file",
                                              "connect_seconds", "idle_seconds"};

static const struct field config_fields[] = {
    {"listen", FIELD_TEXT, AT(config, listen), 0, 0},
    {"tls", FIELD_OWN, 0, 0, 0},
    {"http", FIELD_FLAG, AT(config, http), 0, 0},
    {"insecure_http", FIELD_FLAG, AT(config, insecure_http), 0, 0},
    {"open", FIELD_FLAG, AT(config, is_open), 0, 0},
    {"take_over", FIELD_FLAG, AT(config, takes_over), 0, 0},
    {"keys", FIELD_TEXT, AT(config, keys), 0, 0},
    {"metrics_open", FIELD_FLAG, AT(config, metrics_open), 0, 0},
    {"cors_origin", FIELD_TEXT, AT(config, cors_origin), 0, 0},
    {"receipts", FIELD_TEXT, AT(config, receipts), 0, 0},
    {"receipts_origin", FIELD_TEXT, AT(config, receipts_origin), 0, 0},
    {"hosts", FIELD_OWN, 0, 0, 0},
    {"log", FIELD_TEXT, AT(config, log), 0, 0},
    {"log_level", FIELD_TEXT, AT(config, log_level), 0, 0},
    {"page", FIELD_FLAG, AT(config, has_page), 0, 0},
    {"drain_seconds", FIELD_INTEGER, AT(config, drain_seconds), 0, CONFIG_MOST_SECONDS},
    {"attester", FIELD_TEXT, AT(config, attester), 0, 0},
    {"policy", FIELD_TEXT, AT(config, policy), 0, 0},
    {"collateral", FIELD_TEXT, AT(config, collateral), 0, 0},
    {"ra_tls", FIELD_FLAG, AT(config, ra_tls), 0, 0},
    {"tpm", FIELD_OWN, 0, 0, 0},
    {"limits", FIELD_OWN, 0, 0, 0},
    {"models", FIELD_OWN, 0, 0, 0},
};

#define COUNT(table) (sizeof table / sizeof table[0])

/* --- Fields by table --- */

static int read_number(const struct json *value, const struct field *field, const char *where, uint64_t *number,
                       bulla_error *error)
{
    if (!json_is(value, JSON_NUMBER) || !value->is_integer || value->integer < 0 ||
        (uint64_t)value->integer < field->minimum || (uint64_t)value->integer > field->maximum)
        return bulla_fail(error, BULLA_E_INPUT, "%s: \"%s\" must be a whole number from %" PRIu64 " to %" PRIu64, where,
                          field->name, field->minimum, field->maximum);
    *number = (uint64_t)value->integer;
    return BULLA_OK;
}

static int is_text(const struct json *value)
{
    return json_is(value, JSON_STRING) && value->length > 0 && strlen(value->text) == value->length;
}

static int read_field(const struct json *value, const struct field *field, const char *where, void *out,
                      bulla_error *error)
{
    char *place = (char *)out + field->offset;
    uint64_t number = 0;
    if (field->type == FIELD_OWN)
        return BULLA_OK;
    if (field->type == FIELD_TEXT) {
        if (!is_text(value))
            return bulla_fail(error, BULLA_E_INPUT, "%s: \"%s\" must be a string that is not empty", where, field->name);
        memcpy(place, &value->text, sizeof value->text);
        return BULLA_OK;
    }
    if (field->type == FIELD_FLAG) {
        if (!json_is_bool(value))
            return bulla_fail(error, BULLA_E_INPUT, "%s: \"%s\" must be true or false", where, field->name);
        memcpy(place, &(int){value->type == JSON_TRUE}, sizeof(int));
        return BULLA_OK;
    }
    int code = read_number(value, field, where, &number, error);
    if (code != BULLA_OK)
        return code;
    if (field->type == FIELD_INTEGER)
        memcpy(place, &number, sizeof number);
    else if (field->type == FIELD_SIZE)
        memcpy(place, &(size_t){(size_t)number}, sizeof(size_t));
    else
        memcpy(place, &(unsigned){(unsigned)number}, sizeof(unsigned));
    return BULLA_OK;
}

static const struct field *find_field(const struct field *fields, size_t count, const char *name, size_t length)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(fields[i].name) == length && memcmp(fields[i].name, name, length) == 0)
            return &fields[i];
    return NULL;
}

/* Every member of `object` by the table into `out`. */
static int read_fields(const struct json *object, const struct field *fields, size_t count, const char *where, void *out,
                       bulla_error *error)
{
    if (!json_is(object, JSON_OBJECT))
        return bulla_fail(error, BULLA_E_INPUT, "%s: must be an object", where);
    int code = BULLA_OK;
    for (size_t i = 0; code == BULLA_OK && i < object->length; i++) {
        const struct field *field = find_field(fields, count, object->keys[i], object->key_lengths[i]);
        if (!field)
            return bulla_fail(error, BULLA_E_INPUT, "%s: there is no field \"%.60s\" (docs/serving.md lists those there are)",
                              where, object->keys[i]);
        code = read_field(object->items[i], field, where, out, error);
    }
    return code;
}

/* --- A model --- */

int config_check_name(const char *name, const char *where, bulla_error *error)
{
    size_t length = strlen(name);
    int fits = length > 0 && length < CONFIG_NAME_BYTES;
    for (size_t i = 0; fits && i < length; i++)
        fits = name[i] > ' ' && name[i] < 0x7F && name[i] != '"' && name[i] != '\\';
    if (fits)
        return BULLA_OK;
    return bulla_fail(error, BULLA_E_INPUT,
                      "%s: \"%.60s\" is no name for a model: it must be 1 to %d visible ASCII characters without quotes "
                      "and backslashes",
                      where, name, CONFIG_NAME_BYTES - 1);
}

/* An array of texts into `out`, which has room for `most`. */
static int read_texts(const struct json *value, const char *name, const char *where, size_t most, const char **out,
                      size_t *count, bulla_error *error)
{
    if (!value)
        return BULLA_OK;
    if (!json_is(value, JSON_ARRAY) || value->length > most)
        return bulla_fail(error, BULLA_E_INPUT, "%s: \"%s\" must be an array of at most %zu strings", where, name, most);
    for (size_t i = 0; i < value->length; i++) {
        if (!is_text(value->items[i]))
            return bulla_fail(error, BULLA_E_INPUT, "%s: \"%s\" must hold strings that are not empty", where, name);
        out[(*count)++] = value->items[i]->text;
    }
    return BULLA_OK;
}

static int read_aliases(const struct json *value, const char *where, struct config_model *model, bulla_error *error)
{
    int code = read_texts(value, "aliases", where, MODEL_MOST_ALIASES, model->aliases, &model->alias_count, error);
    for (size_t i = 0; code == BULLA_OK && i < model->alias_count; i++)
        code = config_check_name(model->aliases[i], where, error);
    return code;
}

/* None of `names` may stand in a model of the other kind. */
static int refuse_fields(const struct json *value, const char *const *names, size_t count, const char *kind,
                         const char *where, bulla_error *error)
{
    for (size_t i = 0; i < count; i++)
        if (json_get(value, names[i]))
            return bulla_fail(error, BULLA_E_INPUT, "%s: \"%s\" is only for models with \"%s\"", where, names[i], kind);
    return BULLA_OK;
}

void config_model_defaults(struct config_model *model)
{
    *model = (struct config_model){.has_prefix_cache = 1, .speculate = SPECULATE_MOST};
}

int config_read_model(const struct json *value, const char *where, struct config_model *model, bulla_error *error)
{
    config_model_defaults(model);
    int code = read_fields(value, model_fields, COUNT(model_fields), where, model, error);
    if (code == BULLA_OK && !model->path == !model->upstream)
        code = bulla_fail(error, BULLA_E_INPUT, "%s: needs either \"path\" (of a model file) or \"upstream\" (a URL)%s",
                          where, model->path ? ", not both" : "");
    if (code == BULLA_OK)
        code = model->path ? refuse_fields(value, upstream_fields, COUNT(upstream_fields), "upstream", where, error)
                           : refuse_fields(value, file_fields, COUNT(file_fields), "path", where, error);
    if (code == BULLA_OK && model->name)
        code = config_check_name(model->name, where, error);
    return code == BULLA_OK ? read_aliases(json_get(value, "aliases"), where, model, error) : code;
}

/* --- Names of this machine --- */

/* As a Host header has it without its port (RFC 9110 section 4.2): a name, or an address, IPv6 in brackets. */
static int is_host(const char *name, size_t length)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    if (length == 0 || length > 253)
        return 0;
    if (length > 2 && name[0] == '[' && name[length - 1] == ']')
        return strspn(name + 1, "0123456789abcdefABCDEF:.") == length - 2;
    return strspn(name, letters) >= length;
}

static int add_host(struct config *config, const char *name, size_t length, const char *where, int code,
                    bulla_error *error)
{
    if (!is_host(name, length))
        return bulla_fail(error, code, "%s: \"%.*s\" is no host's name; expected a name or an address without a port, such as "
                          "box.example", where, (int)(length < 100 ? length : 100), name);
    if (config->host_count == CONFIG_MOST_HOSTS)
        return bulla_fail(error, code, "%s: more than %d names of this machine", where, CONFIG_MOST_HOSTS);
    const char *copy = arena_copy_text(&config->arena, name, length, error);
    if (!copy)
        return BULLA_E_MEMORY;
    config->hosts[config->host_count++] = copy;
    return BULLA_OK;
}

int config_set_hosts(struct config *config, const char *names, bulla_error *error)
{
    int code = BULLA_OK;
    config->host_count = 0;
    for (const char *name = names; name && code == BULLA_OK;) {
        const char *comma = strchr(name, ',');
        code = add_host(config, name, comma ? (size_t)(comma - name) : strlen(name), "--hosts", BULLA_E_USAGE, error);
        name = comma ? comma + 1 : NULL;
    }
    return code;
}

static int read_hosts(const struct json *value, const char *file, struct config *config, bulla_error *error)
{
    int code = BULLA_OK;
    if (value && !json_is(value, JSON_ARRAY))
        return bulla_fail(error, BULLA_E_INPUT, "%s: \"hosts\" must be an array of names", file);
    for (size_t i = 0; value && i < value->length && code == BULLA_OK; i++) {
        if (!is_text(value->items[i]))
            return bulla_fail(error, BULLA_E_INPUT, "%s: \"hosts\" must hold strings that are not empty", file);
        code = add_host(config, value->items[i]->text, value->items[i]->length, file, BULLA_E_INPUT, error);
    }
    return code;
}

/* --- The whole --- */

void config_defaults(struct config *config)
{
    *config = (struct config){.listen = "127.0.0.1:8080",
                              .log = "-",
                              .log_level = "info",
                              .has_page = 1,
                              .drain_seconds = CONFIG_DRAIN_SECONDS,
                              .arena = {.limit = CONFIG_MEMORY}};
}

void config_free(struct config *config)
{
    arena_free(&config->arena);
}

/* A name or alias may be there once among all models. */
static int check_names(const struct config *config, const char *file, bulla_error *error)
{
    for (size_t i = 0; i < config->model_count; i++)
        for (size_t a = 0; a <= config->models[i].alias_count; a++) {
            const char *name = a == 0 ? config->models[i].name : config->models[i].aliases[a - 1];
            size_t found = 0;
            for (size_t j = 0; j < config->model_count; j++)
                for (size_t b = 0; b <= config->models[j].alias_count; b++)
                    found += strcmp(name, b == 0 ? config->models[j].name : config->models[j].aliases[b - 1]) == 0;
            if (found > 1)
                return bulla_fail(error, BULLA_E_INPUT, "%s: the name \"%s\" is given to models more than once", file,
                                  name);
        }
    return BULLA_OK;
}

static int read_models(const struct json *value, const char *file, struct config *config, bulla_error *error)
{
    char where[WHERE];
    if (!value)
        return BULLA_OK;
    if (!json_is(value, JSON_ARRAY) || value->length > CONFIG_MOST_MODELS)
        return bulla_fail(error, BULLA_E_INPUT, "%s: \"models\" must be an array of at most %d objects", file,
                          CONFIG_MOST_MODELS);
    for (size_t i = 0; i < value->length; i++) {
        snprintf(where, sizeof where, "%.400s, models[%zu]", file, i);
        struct config_model *model = &config->models[i];
        int code = config_read_model(value->items[i], where, model, error);
        if (code == BULLA_OK && !model->name)
            code = bulla_fail(error, BULLA_E_INPUT, "%s: \"name\" is missing", where);
        if (code != BULLA_OK)
            return code;
        config->model_count++;
    }
    return check_names(config, file, error);
}

static int read_section(const struct json *value, const char *name, const struct field *fields, size_t count,
                        const char *file, void *out, bulla_error *error)
{
    char where[WHERE];
    snprintf(where, sizeof where, "%.400s, %s", file, name);
    return value ? read_fields(value, fields, count, where, out, error) : BULLA_OK;
}

static int read_tls(const struct json *value, const char *file, struct config *config, bulla_error *error)
{
    char where[WHERE];
    snprintf(where, sizeof where, "%.400s, tls", file);
    int code = read_section(value, "tls", tls_fields, COUNT(tls_fields), file, config, error);
    if (code == BULLA_OK && value)
        code = read_texts(json_get(value, "names"), "names", where, CONFIG_MOST_TLS_NAMES, config->tls_names,
                          &config->tls_name_count, error);
    if (code == BULLA_OK && !config->certificate != !config->key)
        code = bulla_fail(error, BULLA_E_INPUT, "%s needs both \"certificate\" and \"key\"", where);
    if (code == BULLA_OK && config->certificate && config->tls_name_count > 0)
        code = bulla_fail(error, BULLA_E_INPUT,
                          "%s: \"names\" are for the certificate that the server makes itself, so not with \"certificate\"",
                          where);
    return code;
}

static int read_config(const struct json *value, const char *file, struct config *config, bulla_error *error)
{
    int code = read_fields(value, config_fields, COUNT(config_fields), file, config, error);
    if (code == BULLA_OK)
        code = read_tls(json_get(value, "tls"), file, config, error);
    if (code == BULLA_OK)
        code = read_section(json_get(value, "limits"), "limits", limit_fields, COUNT(limit_fields), file, config, error);
    if (code == BULLA_OK)
        code = read_section(json_get(value, "tpm"), "tpm", tpm_fields, COUNT(tpm_fields), file, config, error);
    if (code == BULLA_OK)
        code = read_hosts(json_get(value, "hosts"), file, config, error);
    if (code == BULLA_OK)
        code = read_models(json_get(value, "models"), file, config, error);
    if (code == BULLA_OK && (config->certificate || config->tls_name_count > 0) && (config->http || config->insecure_http))
        code = bulla_fail(error, BULLA_E_INPUT, "%s: \"tls\" and \"%s\" exclude each other", file,
                          config->http ? "http" : "insecure_http");
    return code;
}

int config_parse(const char *text, size_t length, const char *name, struct config *config, bulla_error *error)
{
    bulla_error own = {0};
    config_defaults(config);
    const struct json *value = json_parse(text, length, name, &config->arena, &own);
    if (value)
        read_config(value, name, config, &own);
    return own.code == BULLA_OK ? BULLA_OK : bulla_fail(error, own.code, "%s", own.text);
}

int config_read(const char *path, struct config *config, bulla_error *error)
{
    uint8_t *data;
    size_t length;
    config_defaults(config);
    int code = file_read(path, CONFIG_BYTES, &data, &length, error);
    if (code != BULLA_OK)
        return code;
    code = config_parse((const char *)data, length, path, config, error);
    memory_free(data);
    return code;
}
