#include "bulla/chat_template.h"

#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "model/chat_template_internal.h"

/* ---- Compiling ---- */

/* Line ends become \n, and one at the very end is dropped, as jinja2 does. */
static size_t normalize(const char *source, size_t length, char *out)
{
    size_t used = 0;
    for (size_t i = 0; i < length; i++) {
        char c = source[i];
        if (c == '\r' && i + 1 < length && source[i + 1] == '\n')
            continue;
        out[used++] = c == '\r' ? '\n' : c;
    }
    return used > 0 && out[used - 1] == '\n' ? used - 1 : used;
}

/* The names with a meaning of their own get the first numbers. */
static int add_special_names(struct render *render, struct bulla_chat_template *template)
{
    static const char *const names[NAME_COUNT] = {"loop", "caller", "varargs", "kwargs"};
    template->name_capacity = 64;
    template->name_texts =
        arena_alloc(render->arena, template->name_capacity, sizeof *template->name_texts, render->error);
    if (!template->name_texts)
        return 0;
    for (size_t i = 0; i < NAME_COUNT; i++) {
        struct value text;
        if (!value_text(render, names[i], strlen(names[i]), &text) ||
            !dict_set(render, &template->names, text, value_integer((int64_t)i)))
            return 0;
        template->name_texts[i] = text.text;
    }
    return 1;
}

static int compile(struct bulla_chat_template *template, const char *source, size_t length, bulla_error *error)
{
    struct render render = {.arena = &template->arena, .error = error, .steps = TEMPLATE_MAX_STEPS, .line = 1};
    struct template_parser parser = {.render = &render, .chat_template = template};
    char *normal = memory_alloc(length + 1, 1, error);
    int done = normal && add_special_names(&render, template) &&
               template_tokenize(&render, normal, normalize(source, length, normal), &parser.tokens) &&
               parse_template(&parser);
    memory_free(normal);
    memory_free(parser.tokens.tokens);
    memory_free(parser.called.mentions);
    memory_free(parser.called_methods.mentions);
    return done;
}

int bulla_chat_template_compile(const char *source, size_t length, bulla_chat_template **chat_template,
                                bulla_error *error)
{
    *chat_template = NULL;
    if (length > TEMPLATE_MAX_SOURCE)
        return bulla_fail(error, BULLA_E_LIMIT, "the chat template has %zu bytes; at most %d are read", length,
                          TEMPLATE_MAX_SOURCE);
    size_t valid = utf8_check(source, length);
    if (valid < length)
        return bulla_fail(error, BULLA_E_INPUT, "the chat template is not UTF-8 at byte %zu", valid);
    bulla_error own = {0}; /* a failure must show even where the caller wants no sentence */
    struct bulla_chat_template *template = memory_alloc(1, sizeof *template, &own);
    if (!template)
        return bulla_fail(error, own.code, "%s", own.text);
    template->arena.limit = TEMPLATE_MAX_MEMORY;
    if (!compile(template, source, length, &own)) {
        bulla_chat_template_free(template);
        return bulla_fail(error, own.code, "%s", own.text);
    }
    *chat_template = template;
    return BULLA_OK;
}

void bulla_chat_template_free(bulla_chat_template *chat_template)
{
    if (!chat_template)
        return;
    arena_free(&chat_template->arena);
    memory_free(chat_template);
}

/* ---- Rendering ---- */

/* What each name of the template means outside all scopes: a variable, else a function. */
static int find_globals(struct render *render, const struct json *variables)
{
    const struct bulla_chat_template *template = render->chat_template;
    render->globals = arena_alloc(render->arena, template->names.count, sizeof *render->globals, render->error);
    if (!render->globals)
        return 0;
    for (size_t i = 0; i < template->names.count; i++) {
        const struct text *name = template->name_texts[i];
        const struct json *json = json_get_bytes(variables, name->bytes, name->length);
        const struct builtin *function = builtin_find(function_table, name->bytes, name->length);
        if (json && !value_from_json(render, json, &render->globals[i]))
            return 0;
        if (!json && function)
            render->globals[i] = (struct value){.type = VALUE_FUNCTION, .function = function};
    }
    return 1;
}

static int render_with(struct render *render, const char *variables, size_t length)
{
    struct json *json = json_parse(variables, length, "the chat template's variables", render->arena, render->error);
    if (!json)
        return 0;
    if (json->type != JSON_OBJECT) {
        bulla_fail(render->error, BULLA_E_INPUT, "the chat template's variables must be a JSON object");
        return 0;
    }
    return find_globals(render, json) && scope_push(render, NULL) &&
           execute_body(render, &render->chat_template->body) != FLOW_FAILED;
}

int template_render(const struct bulla_chat_template *chat_template, const char *variables, size_t variables_length,
                    long long now, uint64_t most_steps, size_t most_memory, char **text, size_t *length,
                    bulla_error *error)
{
    struct arena arena = {.limit = most_memory};
    bulla_error own = {0};
    struct render render = {.chat_template = chat_template,
                            .arena = &arena,
                            .error = &own,
                            .steps = most_steps,
                            .line = 1,
                            .now = now};
    *text = NULL;
    *length = 0;
    buffer_append(&render.out, "", 0); /* so that an empty text has its NUL */
    if (render.out.error.code != BULLA_OK)
        bulla_fail(&own, render.out.error.code, "%s", render.out.error.text);
    else if (render_with(&render, variables, variables_length)) {
        *text = (char *)render.out.data;
        *length = render.out.length;
        render.out.data = NULL;
    }
    buffer_free(&render.out);
    arena_free(&arena);
    return own.code == BULLA_OK ? BULLA_OK : bulla_fail(error, own.code, "%s", own.text);
}

int bulla_chat_template_render(const bulla_chat_template *chat_template, const char *variables,
                               size_t variables_length, long long now, char **text, size_t *length,
                               bulla_error *error)
{
    return template_render(chat_template, variables, variables_length, now, TEMPLATE_MAX_STEPS, TEMPLATE_MAX_MEMORY,
                           text, length, error);
}
