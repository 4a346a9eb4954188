/* tools, tool_choice and parallel_tool_calls. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "serve/api_request.h"

enum { MOST_TOOL_NAME = 128 };

/* Names go into prompts and grammars: letters, digits and a few signs, as OpenAI has it, somewhat longer. */
static int check_tool_name(struct field_reader *reader, const struct json *name, const struct place *place)
{
    size_t good = 0;
    for (; good < name->length; good++) {
        unsigned char c = (unsigned char)name->text[good];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
              c == '.' || c == ':' || c == '/'))
            break;
    }
    if (name->length > 0 && good == name->length && good <= MOST_TOOL_NAME)
        return BULLA_OK;
    return field_fail(reader, place, "invalid_value", "is \"%.140s\"; expected 1 to %d of a-z, A-Z, 0-9 and _-.:/",
                      name->text, MOST_TOOL_NAME);
}

int request_check_tool(struct field_reader *reader, const struct json *function, const struct place *place)
{
    const struct json *name = NULL, *unused = NULL;
    int is_strict = 0;
    if (field_needed(reader, function, place, "name", JSON_STRING, &name) ||
        field_typed(reader, function, place, "description", JSON_STRING, &unused) ||
        field_typed(reader, function, place, "parameters", JSON_OBJECT, &unused) ||
        field_flag(reader, function, place, "strict", &is_strict))
        return BULLA_E_INPUT;
    return check_tool_name(reader, name, &(struct place){place, "name", 0});
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static const char *tool_name(const struct json *tool)
{
    return json_get(json_get(tool, "function"), "name")->text;
}

/* `tools` in the nested form, each checked. */
int request_check_tool_names(struct field_reader *reader, const struct json *tools)
{
    bulla_error error = {0};
    struct place place = {NULL, "tools", 0};
    if (tools->length > REQUEST_MOST_TOOLS)
        return field_fail(reader, &place, "invalid_value", "has %zu tools; at most %d are taken", tools->length,
                          REQUEST_MOST_TOOLS);
    const char **names = arena_alloc(reader->arena, tools->length, sizeof *names, &error);
    if (!names)
        return field_fail_error(reader, NULL, &error);
    for (size_t i = 0; i < tools->length; i++)
        names[i] = tool_name(tools->items[i]);
    qsort(names, tools->length, sizeof *names, compare_names);
    for (size_t i = 1; i < tools->length; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            return field_fail(reader, &place, "invalid_value", "has two tools named \"%s\"", names[i]);
    return BULLA_OK;
}

static int read_tool(struct field_reader *reader, const struct json *tool, const struct place *place)
{
    const struct json *type = NULL, *function = NULL;
    if (tool->type != JSON_OBJECT)
        return field_fail_type(reader, place, tool, "an object");
    if (field_needed(reader, tool, place, "type", JSON_STRING, &type) != BULLA_OK)
        return BULLA_E_INPUT;
    if (!made_is_text(type, "function"))
        return field_fail(reader, &(struct place){place, "type", 0}, "unsupported_value",
                          "is \"%.40s\"; expected \"function\"", type->text);
    if (field_needed(reader, tool, place, "function", JSON_OBJECT, &function) != BULLA_OK)
        return BULLA_E_INPUT;
    return request_check_tool(reader, function, &(struct place){place, "function", 0});
}

/* "none", "auto", "required". */
static int set_word(struct api_request *request, struct field_reader *reader, const struct json *word,
                    const struct place *place)
{
    static const char *const words[] = {[TOOLS_NONE] = "none", [TOOLS_AUTO] = "auto", [TOOLS_REQUIRED] = "required"};
    for (int i = TOOLS_NONE; i <= TOOLS_REQUIRED; i++)
        if (made_is_text(word, words[i])) {
            request->answer.tool_choice = (enum answer_tool_choice)i;
            if (i == TOOLS_REQUIRED && !request->answer.tools)
                return field_fail(reader, place, "invalid_value", "is \"required\" without `tools`");
            return BULLA_OK;
        }
    return field_fail(reader, place, "invalid_value", "is \"%.40s\"; expected \"none\", \"auto\", \"required\" or a "
                      "function's name in an object", word->text);
}

/* The name must be one of the tools'. */
static int set_named_tool(struct api_request *request, struct field_reader *reader, const struct json *name,
                          const struct place *place)
{
    const struct json *tools = request->answer.tools;
    for (size_t i = 0; tools && i < tools->length; i++)
        if (made_is_text(name, tool_name(tools->items[i]))) {
            request->answer.tool_choice = TOOLS_NAMED;
            request->answer.tool_name = name->text;
            return BULLA_OK;
        }
    return field_fail(reader, place, "invalid_value", "is \"%.140s\", which is none of `tools`", name->text);
}

int request_read_tool_choice(struct api_request *request, struct field_reader *reader, int is_flat)
{
    const struct json *choice = field_find(request->body, "tool_choice"), *type = NULL, *function = NULL, *name = NULL;
    struct place place = {NULL, "tool_choice", 0}, inside = {&place, "function", 0};
    request->answer.tool_choice = request->answer.tools ? TOOLS_AUTO : TOOLS_NONE;
    if (!choice)
        return BULLA_OK;
    if (choice->type == JSON_STRING)
        return set_word(request, reader, choice, &place);
    if (choice->type != JSON_OBJECT)
        return field_fail_type(reader, &place, choice, "a string or an object");
    if (field_needed(reader, choice, &place, "type", JSON_STRING, &type) != BULLA_OK)
        return BULLA_E_INPUT;
    if (!made_is_text(type, "function"))
        return field_fail(reader, &(struct place){&place, "type", 0}, "unsupported_value",
                          "is \"%.40s\"; expected \"function\"", type->text);
    const struct place *holder = is_flat ? &place : &inside;
    if (!is_flat && field_needed(reader, choice, &place, "function", JSON_OBJECT, &function) != BULLA_OK)
        return BULLA_E_INPUT;
    if (field_needed(reader, is_flat ? choice : function, holder, "name", JSON_STRING, &name) != BULLA_OK)
        return BULLA_E_INPUT;
    return set_named_tool(request, reader, name, &(struct place){holder, "name", 0});
}

int request_read_tools(struct api_request *request, struct field_reader *reader)
{
    const struct json *tools = NULL;
    struct place place = {NULL, "tools", 0};
    int code = field_typed(reader, request->body, NULL, "tools", JSON_ARRAY, &tools);
    if (code == BULLA_OK)
        code = field_flag(reader, request->body, NULL, "parallel_tool_calls", &request->answer.parallel_tool_calls);
    if (code == BULLA_OK && tools && tools->length > 0) {
        for (size_t i = 0; i < tools->length && code == BULLA_OK; i++)
            code = read_tool(reader, tools->items[i], &(struct place){&place, NULL, i});
        if (code == BULLA_OK)
            code = request_check_tool_names(reader, tools);
        request->answer.tools = tools;
    }
    return code == BULLA_OK ? request_read_tool_choice(request, reader, 0) : code;
}
