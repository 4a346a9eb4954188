#include "ops/operator.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/file.h"
#include "base/memory.h"
#include "ops/metrics.h"
#include "serve/native.h"
#include "serve/upstream.h"

enum { UPSTREAM_KEY_BYTES = 4096, NOT_AUTHORISED = 401, FORBIDDEN = 403, CONFLICT = 409 };

/* What a backend had counted when it was last looked at. */
struct seen {
    const struct backend *backend; /* NULL: free */
    struct backend_counters counters;
    int state; /* its backend_info's */
    int is_there;
};

struct operator {
    struct operator_options options;
    char *keys_path;
    struct key_set *keys; /* NULL: none */
    struct key_stamp keys_stamp; /* of the store before it was last read */
    int must_reread; /* what was read may not be what is there now, though the stamp is the same */
    struct metrics *metrics;
    const struct http_server *server;
    struct serve_rules rules;
    struct seen seen[CONFIG_MOST_MODELS];
};

static int refuse(struct answer_error *problem, int status, const char *type, const char *code, const char *message)
{
    *problem = (struct answer_error){.status = status, .type = type, .code = code};
    snprintf(problem->message, sizeof problem->message, "%s", message);
    return BULLA_E_USAGE;
}

/* --- Who may do what --- */

/* `text` without the spaces around it, or NULL where nothing is left. */
static const char *trim(const char *text, size_t *length)
{
    text += strspn(text, " ");
    *length = strlen(text);
    while (*length > 0 && text[*length - 1] == ' ')
        --*length;
    return *length > 0 ? text : NULL;
}

/* The key in "Bearer KEY" (RFC 6750 section 2.1; the scheme in any case), or NULL. Without that header, the whole of the
 * other one. */
static const char *find_key(const char *authorization, const char *api_key, size_t *length)
{
    static const char scheme[] = "bearer ";
    if (!authorization)
        return api_key ? trim(api_key, length) : NULL;
    if (strncasecmp(authorization, scheme, sizeof scheme - 1) != 0)
        return NULL;
    return trim(authorization + sizeof scheme - 1, length);
}

static int authorise_without_keys(enum rules_scope scope, struct rules_identity *identity, struct answer_error *problem)
{
    identity->priority = KEY_MOST_PRIORITY;
    if (scope != SCOPE_ADMIN)
        return BULLA_OK;
    return refuse(problem, FORBIDDEN, "permission_error", "no_admin_keys",
                  "this server has no keys (--keys), so nobody may administer it");
}

static void identify(const struct key_entry *entry, struct rules_identity *identity)
{
    snprintf(identity->tenant, sizeof identity->tenant, "%s", entry->tenant);
    snprintf(identity->key_id, sizeof identity->key_id, "%s", entry->id);
    identity->is_admin = entry->is_admin;
    identity->priority = entry->priority;
    identity->most_tokens = entry->most_tokens;
}

static int authorise(void *context, enum rules_scope scope, const char *authorization, const char *api_key,
                     struct rules_identity *identity, struct answer_error *problem)
{
    struct operator *operator = context;
    size_t length = 0;
    memset(identity, 0, sizeof *identity);
    if (!operator->keys)
        return authorise_without_keys(scope, identity, problem);
    const char *key = find_key(authorization, api_key, &length);
    const struct key_entry *entry = key ? key_set_find(operator->keys, key, length) : NULL;
    if (entry && !entry->is_disabled)
        identify(entry, identity);
    if (scope == SCOPE_OPEN || (scope == SCOPE_METRICS && operator->options.metrics_open))
        return BULLA_OK;
    if (!key)
        return refuse(problem, NOT_AUTHORISED, "authentication_error", "missing_api_key",
                      "an API key is needed: send it as \"Authorization: Bearer KEY\" or \"x-api-key: KEY\"");
    if (!entry)
        return refuse(problem, NOT_AUTHORISED, "authentication_error", "invalid_api_key",
                      "this server does not know the API key");
    if (entry->is_disabled)
        return refuse(problem, NOT_AUTHORISED, "authentication_error", "disabled_api_key", "the API key is disabled");
    if (scope == SCOPE_ADMIN && !entry->is_admin)
        return refuse(problem, FORBIDDEN, "permission_error", "admin_key_needed",
                      "the API key may use models but not administer the server");
    return BULLA_OK;
}

static int reload_keys(struct operator *operator, int *has_changed, bulla_error *error)
{
    struct key_set *keys = NULL;
    key_stamp_take(operator->keys_path, &operator->keys_stamp);
    int code = key_store_read(operator->keys_path, &keys, error);
    operator->must_reread = code != BULLA_OK || key_stamp_is_fresh(&operator->keys_stamp);
    if (code != BULLA_OK)
        return code;
    *has_changed = !operator->keys || !key_set_equals(operator->keys, keys);
    key_set_free(operator->keys);
    operator->keys = keys;
    return BULLA_OK;
}

int operator_reload_keys(struct operator *operator, bulla_error *error)
{
    int has_changed;
    return operator->keys_path ? reload_keys(operator, &has_changed, error) : BULLA_OK;
}

int operator_notice_keys(struct operator *operator, int *has_changed, bulla_error *error)
{
    struct key_stamp now;
    bulla_error own = {0};
    *has_changed = 0;
    if (!operator->keys_path)
        return BULLA_OK;
    key_stamp_take(operator->keys_path, &now);
    int is_same = key_stamp_equals(&now, &operator->keys_stamp);
    if (is_same && !operator->must_reread)
        return BULLA_OK;
    if (reload_keys(operator, has_changed, &own) == BULLA_OK || is_same)
        return BULLA_OK;
    return bulla_fail(error, own.code, "%s", own.text);
}

/* --- What is counted and logged --- */

/* The name under which a model is counted: only those that are served, however clients call them. */
static const char *served_name(struct operator *operator, const char *asked)
{
    const struct served_model *model = asked ? models_find(operator->options.models, asked) : NULL;
    return model ? model->name : NULL;
}

static void record(void *context, const struct rules_record *what)
{
    struct operator *operator = context;
    struct rules_record named = *what;
    named.model = served_name(operator, what->model);
    operator_metrics_record(operator->metrics, &named, named.model);
    operator_log_record(operator->options.log, &named);
}

static void first_token(void *context, const char *asked, uint64_t nanoseconds)
{
    struct operator *operator = context;
    const char *model = served_name(operator, asked);
    if (model)
        operator_metrics_first_token(operator->metrics, model, nanoseconds);
}

static void next_token(void *context, const char *asked, uint64_t nanoseconds, uint32_t tokens)
{
    struct operator *operator = context;
    const char *model = served_name(operator, asked);
    if (model)
        operator_metrics_next_token(operator->metrics, model, nanoseconds, tokens);
}

/* The place of a backend's last counters; NULL where all are taken. */
static struct seen *find_seen(struct operator *operator, const struct backend *backend)
{
    struct seen *free_place = NULL;
    for (size_t i = 0; i < CONFIG_MOST_MODELS; i++) {
        if (operator->seen[i].backend == backend)
            return &operator->seen[i];
        if (!operator->seen[i].backend && !free_place)
            free_place = &operator->seen[i];
    }
    if (free_place)
        *free_place = (struct seen){.backend = backend, .state = BACKEND_STARTING};
    return free_place;
}

static void log_model(struct operator *operator, const char *event, const char *name, const char *trouble)
{
    struct log_line line;
    log_line_begin(&line, operator->options.log, trouble ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO, event);
    log_line_text(&line, "model", name);
    log_line_text(&line, "reason", trouble);
    log_line_end(&line);
}

/* What has changed with a backend since it was last looked at. */
static void log_change(struct operator *operator, const char *name, const struct seen *seen,
                       const struct backend_counters *now, const struct backend_info *info)
{
    const char *trouble = info->trouble ? info->trouble : "it did not say why";
    if (now->restarts > seen->counters.restarts)
        log_model(operator, "model_restarted", name, trouble);
    if (info->state != (unsigned)seen->state && info->state == BACKEND_READY)
        log_model(operator, "model_ready", name, NULL);
    if (info->state != (unsigned)seen->state && info->state == BACKEND_FAILED)
        log_model(operator, "model_failed", name, trouble);
}

void operator_sample(struct operator *operator)
{
    struct served_model *model;
    operator_metrics_forget_models(operator->metrics);
    for (size_t i = 0; i < CONFIG_MOST_MODELS; i++)
        operator->seen[i].is_there = 0;
    for (size_t i = 0; (model = models_at(operator->options.models, i)) != NULL; i++) {
        struct seen *seen = find_seen(operator, model->backend);
        if (!seen)
            continue;
        struct backend_counters now = {0};
        struct backend_info info = {0};
        model->backend->class->count(model->backend, &now);
        model->backend->class->describe(model->backend, &info);
        operator_metrics_sample(operator->metrics, model->name, &seen->counters, &now, info.state == BACKEND_READY);
        log_change(operator, model->name, seen, &now, &info);
        seen->counters = now;
        seen->state = (int)info.state;
        seen->is_there = 1;
    }
    for (size_t i = 0; i < CONFIG_MOST_MODELS; i++)
        if (!operator->seen[i].is_there)
            operator->seen[i].backend = NULL;
}

static int write_metrics(void *context, struct buffer *out, bulla_error *error)
{
    struct operator *operator = context;
    operator_sample(operator);
    operator_metrics_process(operator->metrics, operator->server,
                             operator->options.log ? log_dropped(operator->options.log) : 0);
    return metrics_write(operator->metrics, out, error);
}

void operator_watch(struct operator *operator, const struct http_server *server)
{
    operator->server = server;
}

/* --- Models --- */

static int open_native(struct operator *operator, const struct config_model *model, struct backend **backend,
                       bulla_error *error)
{
    struct native_options options = {.path = model->path,
                                     .threads = (unsigned)model->threads,
                                     .cache_positions = model->cache_positions,
                                     .most_running = (uint32_t)model->most_running,
                                     .speculate = (uint32_t)model->speculate,
                                     .has_prefix_cache = model->has_prefix_cache,
                                     .isa = model->isa,
                                     .most_waiting = model->most_waiting};
    return native_open(operator->options.base, &options, backend, error);
}

static int open_upstream(struct operator *operator, const struct config_model *model, struct backend **backend,
                         bulla_error *error)
{
    uint8_t *key = NULL;
    size_t length = 0;
    int code = model->upstream_key_file ? file_read(model->upstream_key_file, UPSTREAM_KEY_BYTES, &key, &length, error)
                                        : BULLA_OK;
    size_t used = length;
    while (used > 0 && strchr(" \t\r\n", key[used - 1]))
        key[--used] = 0;
    if (code == BULLA_OK && key && (used == 0 || strcspn((char *)key, " \t\r\n") != used))
        code = bulla_fail(error, BULLA_E_INPUT, "%s: must hold one key without spaces", model->upstream_key_file);
    struct upstream_options options = {.url = model->upstream,
                                       .model = model->upstream_model,
                                       .key = (char *)key,
                                       .ca_file = model->upstream_ca_file,
                                       .connect_seconds = (unsigned)model->connect_seconds,
                                       .idle_seconds = (unsigned)model->idle_seconds,
                                       .most_waiting = model->most_waiting};
    if (code == BULLA_OK)
        code = upstream_open(operator->options.base, &options, backend, error);
    if (key)
        memory_wipe(key, length);
    memory_free(key);
    return code;
}

static int add_model(struct operator *operator, const struct config_model *model, int is_awaited, bulla_error *error)
{
    struct served_model served = {.name = model->name,
                                  .alias_count = model->alias_count,
                                  .most_tokens = model->most_tokens,
                                  .most_seconds = model->most_seconds,
                                  .created = (uint64_t)time(NULL),
                                  .is_awaited = is_awaited};
    if (models_at(operator->options.models, CONFIG_MOST_MODELS - 1))
        return bulla_fail(error, BULLA_E_LIMIT, "the server has %d models, which is as many as it can have",
                          CONFIG_MOST_MODELS);
    for (size_t i = 0; i <= model->alias_count; i++) { /* before a worker is started in vain */
        const char *name = i == 0 ? model->name : model->aliases[i - 1];
        if (models_find(operator->options.models, name))
            return bulla_fail(error, BULLA_E_USAGE, "the name \"%s\" is taken by another model", name);
        if (i > 0)
            served.aliases[i - 1] = name;
    }
    int code = model->path ? open_native(operator, model, &served.backend, error)
                           : open_upstream(operator, model, &served.backend, error);
    return code == BULLA_OK ? models_add(operator->options.models, &served, error) : code;
}

int operator_add_model(struct operator *operator, const struct config_model *model, bulla_error *error)
{
    return add_model(operator, model, 1, error);
}

/* The HTTP status for a failure to load a model. */
static int refuse_model(struct answer_error *problem, const bulla_error *error)
{
    switch (error->code) {
    case BULLA_E_USAGE:
        return refuse(problem, CONFLICT, "invalid_request_error", "model_exists", error->text);
    case BULLA_E_MEMORY:
    case BULLA_E_INTERNAL:
        return refuse(problem, 500, "server_error", "model_not_loaded", error->text);
    default:
        return refuse(problem, 400, "invalid_request_error", "model_not_loaded", error->text);
    }
}

static int load_model(void *context, const struct json *description, struct answer_error *problem)
{
    struct operator *operator = context;
    struct config_model model;
    bulla_error error = {0};
    int code = config_read_model(description, "the model", &model, &error);
    if (code == BULLA_OK && !model.name)
        code = bulla_fail(&error, BULLA_E_INPUT, "the model: \"name\" is missing");
    if (code == BULLA_OK)
        code = add_model(operator, &model, 0, &error);
    if (code != BULLA_OK)
        return refuse_model(problem, &error);
    log_model(operator, "model_loaded", model.name, NULL);
    return BULLA_OK;
}

static int unload_model(void *context, const char *name, struct answer_error *problem)
{
    struct operator *operator = context;
    bulla_error error = {0};
    char canonical[CONFIG_NAME_BYTES];
    const struct served_model *model = name && name[0] ? models_find(operator->options.models, name) : NULL;
    if (!model)
        return refuse(problem, 404, "invalid_request_error", "model_not_found", "there is no such model");
    snprintf(canonical, sizeof canonical, "%s", model->name);
    operator_sample(operator);
    if (models_remove(operator->options.models, name, &error) != BULLA_OK)
        return refuse(problem, 404, "invalid_request_error", "model_not_found", error.text);
    operator_sample(operator); /* forgets it: the next backend may lie at the same address */
    log_model(operator, "model_unloaded", canonical, NULL);
    return BULLA_OK;
}

/* --- Open and close --- */

int operator_open(const struct operator_options *options, struct operator **operator, bulla_error *error)
{
    struct operator *made = memory_alloc(1, sizeof *made, error);
    int code = BULLA_OK;
    *operator = NULL;
    if (!made)
        return BULLA_E_MEMORY;
    made->options = *options;
    made->rules = (struct serve_rules){.context = made,
                                       .authorise = authorise,
                                       .record = record,
                                       .first_token = first_token,
                                       .next_token = next_token,
                                       .write_metrics = write_metrics,
                                       .load_model = load_model,
                                       .unload_model = unload_model};
    if (options->keys_path) {
        made->keys_path = memory_copy_text(options->keys_path, strlen(options->keys_path), error);
        code = made->keys_path ? operator_reload_keys(made, error) : BULLA_E_MEMORY;
    }
    if (code == BULLA_OK)
        code = operator_metrics_open(options->version, &made->metrics, error);
    if (code != BULLA_OK) {
        operator_close(made);
        return code;
    }
    *operator = made;
    return BULLA_OK;
}

void operator_close(struct operator *operator)
{
    if (!operator)
        return;
    key_set_free(operator->keys);
    metrics_close(operator->metrics);
    memory_free(operator->keys_path);
    memory_free(operator);
}

const struct serve_rules *operator_rules(struct operator *operator)
{
    return &operator->rules;
}
