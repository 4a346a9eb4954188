/* The models that are served: for clients, and for whoever administers them. */
#include <string.h>

#include "serve/api_answer.h"

/* One entry of the list; an alias is an entry of its own, as in vLLM. */
static void write_model(struct buffer *out, const struct served_model *model, const char *id)
{
    struct backend_info info = {0};
    model->backend->class->describe(model->backend, &info);
    buffer_append_text(out, "{\"id\":");
    api_write_text(out, id);
    buffer_append_text(out, ",\"object\":\"model\",\"created\":");
    api_write_number(out, model->created);
    buffer_append_text(out, ",\"owned_by\":");
    api_write_text(out, api_is_upstream(&info) ? "upstream" : "bulla");
    buffer_append_text(out, ",\"root\":");
    api_write_text_or_null(out, info.model_root);
    buffer_append_text(out, ",\"parent\":");
    api_write_text_or_null(out, id == model->name ? NULL : model->name);
    buffer_append_text(out, ",\"max_model_len\":");
    if (info.context)
        api_write_number(out, info.context);
    else
        buffer_append_text(out, "null");
    if (!info.is_verified)
        buffer_append_text(out, ",\"bulla\":{\"verified\":false}");
    buffer_append_byte(out, '}');
}

void api_serve_models(struct api_call *call)
{
    struct buffer out = {0};
    int is_first = 1;
    buffer_append_text(&out, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; models_at(call->api->models, i); i++) {
        const struct served_model *model = models_at(call->api->models, i);
        for (size_t k = 0; k <= model->alias_count && !model->is_removed; k++) {
            if (!is_first)
                buffer_append_byte(&out, ',');
            is_first = 0;
            write_model(&out, model, k ? model->aliases[k - 1] : model->name);
        }
    }
    buffer_append_text(&out, "]}");
    api_call_reply_json(call, 200, &out);
    buffer_free(&out);
}

void api_serve_model(struct api_call *call)
{
    struct buffer out = {0};
    const struct served_model *model = api_call_find_model(call, call->rest);
    if (!model)
        return;
    const char *id = model->name;
    for (size_t i = 0; i < model->alias_count; i++)
        if (strcmp(model->aliases[i], call->rest) == 0)
            id = model->aliases[i];
    write_model(&out, model, id);
    api_call_reply_json(call, 200, &out);
    buffer_free(&out);
}

static void write_counter(struct buffer *out, const char *key, uint64_t value)
{
    buffer_append_text(out, ",\"");
    buffer_append_text(out, key);
    buffer_append_text(out, "\":");
    api_write_number(out, value);
}

static const char *state_name(const struct served_model *model, const struct backend_info *info)
{
    static const char *const states[] = {[BACKEND_STARTING] = "starting", [BACKEND_READY] = "ready",
                                         [BACKEND_FAILED] = "failed"};
    return model->is_removed ? "leaving" : states[info->state];
}

static void write_admin_model(struct buffer *out, const struct served_model *model)
{
    struct backend_info info = {0};
    struct backend_counters counters = {0};
    model->backend->class->describe(model->backend, &info);
    model->backend->class->count(model->backend, &counters);
    buffer_append_text(out, "{\"name\":");
    api_write_text(out, model->name);
    buffer_append_text(out, ",\"aliases\":[");
    for (size_t i = 0; i < model->alias_count; i++) {
        if (i)
            buffer_append_byte(out, ',');
        api_write_text(out, model->aliases[i]);
    }
    buffer_append_text(out, "],\"backend\":");
    api_write_text_or_null(out, info.kind);
    buffer_append_text(out, ",\"state\":");
    api_write_text(out, state_name(model, &info));
    buffer_append_text(out, ",\"trouble\":");
    api_write_text_or_null(out, info.trouble);
    buffer_append_text(out, ",\"model_root\":");
    api_write_text_or_null(out, info.model_root);
    buffer_append_text(out, info.is_verified ? ",\"verified\":true" : ",\"verified\":false");
    write_counter(out, "created", model->created);
    write_counter(out, "context", info.context);
    write_counter(out, "max_tokens", model->most_tokens);
    write_counter(out, "max_seconds", model->most_seconds);
    write_counter(out, "answers", model->busy);
    write_counter(out, "running", counters.running);
    write_counter(out, "waiting", counters.waiting);
    write_counter(out, "restarts", counters.restarts);
    buffer_append_byte(out, '}');
}

void api_serve_admin_models(struct api_call *call)
{
    struct buffer out = {0};
    buffer_append_text(&out, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; models_at(call->api->models, i); i++) {
        if (i)
            buffer_append_byte(&out, ',');
        write_admin_model(&out, models_at(call->api->models, i));
    }
    buffer_append_text(&out, "]}");
    api_call_reply_json(call, 200, &out);
    buffer_free(&out);
}

static int can_administer(struct api_call *call)
{
    const struct serve_rules *rules = call->api->rules;
    if (rules && rules->load_model && rules->unload_model)
        return 1;
    api_call_fail_with(call, 403, "permission_error", "not_administrable", NULL,
                       "this server's models cannot be changed while it runs");
    return 0;
}

static void reply_named(struct api_call *call, const char *name, const char *state)
{
    struct buffer out = {0};
    buffer_append_text(&out, "{\"name\":");
    api_write_text(&out, name);
    buffer_append_text(&out, ",\"object\":\"model\",\"state\":");
    api_write_text(&out, state);
    buffer_append_byte(&out, '}');
    api_call_reply_json(call, 200, &out);
    buffer_free(&out);
}

/* What the list says of it from now on. */
static void reply_loaded(struct api_call *call, const char *name)
{
    const struct served_model *model = models_find(call->api->models, name);
    struct backend_info info = {.state = BACKEND_STARTING};
    if (model)
        model->backend->class->describe(model->backend, &info);
    reply_named(call, name, model ? state_name(model, &info) : "starting");
}

void api_serve_admin_load(struct api_call *call)
{
    struct api_request request = {0};
    struct answer_error problem = {0};
    struct field_reader reader = {&request.json, &problem};
    const struct serve_rules *rules = call->api->rules;
    const struct json *name = NULL;
    size_t length;
    if (!can_administer(call))
        return;
    const char *body = http_body(call->exchange, &length);
    int code = request_open(body, length, &request, &reader);
    if (code == BULLA_OK)
        code = field_needed(&reader, request.body, NULL, "name", JSON_STRING, &name);
    if (code == BULLA_OK)
        code = rules->load_model(rules->context, request.body, &problem);
    if (code == BULLA_OK)
        api_note_models(call->api);
    if (code == BULLA_OK)
        reply_loaded(call, name->text);
    else
        api_call_fail(call, &problem);
    api_request_free(&request);
}

void api_serve_admin_unload(struct api_call *call)
{
    struct answer_error problem = {0};
    const struct serve_rules *rules = call->api->rules;
    if (!can_administer(call))
        return;
    if (rules->unload_model(rules->context, call->rest, &problem) != BULLA_OK) {
        api_call_fail(call, &problem);
        return;
    }
    api_note_models(call->api);
    reply_named(call, call->rest, "unloaded");
}
