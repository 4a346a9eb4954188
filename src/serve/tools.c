#include "serve/tools.h"

#include <string.h>

/* --- what a template holds --- */

static int holds(const char *text, size_t length, const char *part)
{
    size_t size = strlen(part);
    for (size_t at = 0; at + size <= length; at++) {
        const char *first = memchr(text + at, part[0], length - size - at + 1);
        if (!first)
            return 0;
        at = (size_t)(first - text);
        if (memcmp(first, part, size) == 0)
            return 1;
    }
    return 0;
}

/* A JSON key, as templates spell it inside their own strings. */
static int holds_key(const char *text, size_t length, const char *plain, const char *escaped)
{
    return holds(text, length, plain) || holds(text, length, escaped);
}

struct tool_format tool_format_detect(const char *chat_template, size_t length)
{
    struct tool_format format = {TOOL_FORMAT_NONE, holds(chat_template, length, "<think>")};
    if (!holds(chat_template, length, "tools") || !holds(chat_template, length, "tool_calls"))
        return format;
    /* Others put something else than one JSON object between such marks: Qwen3-Coder, GLM, Apriel. */
    int is_other = holds(chat_template, length, "<function=") || holds(chat_template, length, "<arg_key>") ||
                   holds(chat_template, length, "<tool_calls>");
    if (holds(chat_template, length, "<tool_call>") && !is_other &&
        holds_key(chat_template, length, "\"arguments\"", "\\\"arguments\\\""))
        format.calls = TOOL_FORMAT_HERMES;
    else if (holds(chat_template, length, "[TOOL_CALLS]"))
        format.calls = holds(chat_template, length, "[ARGS]") ? TOOL_FORMAT_MISTRAL_ARGS : TOOL_FORMAT_MISTRAL;
    else if (holds(chat_template, length, "<|start_header_id|>") && !is_other &&
             holds_key(chat_template, length, "\"parameters\"", "\\\"parameters\\\""))
        format.calls = TOOL_FORMAT_LLAMA3;
    return format;
}

int tool_format_is_mark(const struct tool_format *format, const char *spelling, size_t length)
{
    static const char *const marks[][4] = {
        [TOOL_FORMAT_HERMES] = {"<tool_call>", "</tool_call>"},
        [TOOL_FORMAT_LLAMA3] = {"<|python_tag|>"},
        [TOOL_FORMAT_MISTRAL] = {"[TOOL_CALLS]"},
        [TOOL_FORMAT_MISTRAL_ARGS] = {"[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"},
    };
    for (size_t i = 0; i < 4 && marks[format->calls][i]; i++)
        if (strlen(marks[format->calls][i]) == length && memcmp(marks[format->calls][i], spelling, length) == 0)
            return 1;
    static const char *const thinking[] = {"<think>", "</think>"};
    for (size_t i = 0; format->thinks && i < 2; i++)
        if (strlen(thinking[i]) == length && memcmp(thinking[i], spelling, length) == 0)
            return 1;
    return 0;
}

/* --- the grammar --- */

/* How a format spells one call, and several. */
struct spelling {
    const char *before_all, *after_all, *between;
    const char *before_name, *after_name; /* the name stands in JSON quotes where `quotes_name` */
    int quotes_name;
    const char *after_arguments;
    int has_many;
};

/* Without [TOOL_CALLS] before the array: it is a control token, which a grammar never allows. Llama's templates raise
 * an exception for several calls. */
static const struct spelling spellings[] = {
    [TOOL_FORMAT_HERMES] = {"", "", "\n", "<tool_call>\n{\"name\": ", ", \"arguments\": ", 1, "}\n</tool_call>", 1},
    [TOOL_FORMAT_LLAMA3] = {"", "", "", "{\"name\": ", ", \"parameters\": ", 1, "}", 0},
    [TOOL_FORMAT_MISTRAL] = {"[", "]", ", ", "{\"name\": ", ", \"arguments\": ", 1, "}", 1},
    [TOOL_FORMAT_MISTRAL_ARGS] = {"", "", "", "[TOOL_CALLS]", "[ARGS]", 0, "", 1},
};

static void write_literal(struct buffer *out, const char *text, size_t length)
{
    buffer_append_text(out, "{\"literal\":");
    json_write_string(out, text, length);
    buffer_append_byte(out, '}');
}

static void write_name(const struct spelling *spelling, const struct json *name, struct buffer *out)
{
    struct buffer text = {0};
    buffer_append_text(&text, spelling->before_name);
    if (spelling->quotes_name)
        json_write_string(&text, name->text, name->length);
    else
        buffer_append(&text, name->text, name->length);
    buffer_append_text(&text, spelling->after_name);
    if (text.error.code == BULLA_OK)
        write_literal(out, (const char *)text.data, text.length);
    else
        bulla_fail(&out->error, text.error.code, "%s", text.error.text);
    buffer_free(&text);
}

/* The arguments' schema with "type": "object" where it leaves that open. A function without parameters takes {}. */
int tool_arguments_grammar(const struct json *function, struct buffer *out, bulla_error *error)
{
    const struct json *parameters = json_get(function, "parameters");
    int is_empty = json_is(parameters, JSON_OBJECT) && parameters->length == 0;
    if (!parameters || json_is(parameters, JSON_NULL) || is_empty) {
        write_literal(out, "{}", 2);
        return BULLA_OK;
    }
    const struct json *type = json_get(parameters, "type");
    int is_open = json_is(parameters, JSON_OBJECT) && !type;
    int is_object = json_is_text(type, "object");
    if (!is_open && !is_object)
        return bulla_fail(error, BULLA_E_USAGE, "the parameters of tool \"%s\" are no JSON schema of type \"object\": "
                          "a call's arguments are an object", json_get(function, "name")->text);
    buffer_append_text(out, "{\"schema\":");
    if (is_open) {
        buffer_append_text(out, "{\"type\":\"object\",");
        struct buffer rest = {0};
        json_write(&rest, parameters); /* not empty: its first byte is the brace */
        if (rest.error.code == BULLA_OK)
            buffer_append(out, rest.data + 1, rest.length - 1);
        else
            bulla_fail(&out->error, rest.error.code, "%s", rest.error.text);
        buffer_free(&rest);
    } else {
        json_write(out, parameters);
    }
    buffer_append_byte(out, '}');
    return BULLA_OK;
}

static int write_tool(const struct spelling *spelling, const struct json *function, struct buffer *out,
                      bulla_error *error)
{
    const struct json *name = json_get(function, "name");
    buffer_append_text(out, "{\"sequence\":[");
    write_name(spelling, name, out);
    buffer_append_byte(out, ',');
    int code = tool_arguments_grammar(function, out, error);
    if (code != BULLA_OK)
        return code;
    if (spelling->after_arguments[0]) {
        buffer_append_byte(out, ',');
        write_literal(out, spelling->after_arguments, strlen(spelling->after_arguments));
    }
    buffer_append_text(out, "]}");
    return BULLA_OK;
}

/* One call of any of the tools that may be called. */
static int write_call(const struct spelling *spelling, const struct json *tools, const char *named, struct buffer *out,
                      bulla_error *error)
{
    size_t found = 0;
    buffer_append_text(out, "{\"choice\":[");
    for (size_t i = 0; i < tools->length; i++) {
        const struct json *function = json_get(tools->items[i], "function"), *name = json_get(function, "name");
        if (!json_is(name, JSON_STRING) || name->length == 0 || name->length > TOOL_MOST_NAME)
            return bulla_fail(error, BULLA_E_USAGE, "tools[%zu].function.name is no text of 1 to %d bytes", i,
                              TOOL_MOST_NAME);
        if (named && strcmp(named, name->text) != 0)
            continue;
        if (found++)
            buffer_append_byte(out, ',');
        int code = write_tool(spelling, function, out, error);
        if (code != BULLA_OK)
            return code;
    }
    buffer_append_text(out, "]}");
    if (found)
        return BULLA_OK;
    if (!named)
        return bulla_fail(error, BULLA_E_USAGE, "a tool has to be called, but tools is empty");
    return bulla_fail(error, BULLA_E_USAGE, "tool_choice names the function \"%s\", which is not among the tools",
                      named);
}

static void write_part(struct buffer *out, const char *literal)
{
    if (!literal[0])
        return;
    write_literal(out, literal, strlen(literal));
    buffer_append_byte(out, ',');
}

static void write_all(const struct spelling *spelling, const struct buffer *call, int parallel, struct buffer *out)
{
    buffer_append_text(out, "{\"sequence\":[");
    write_part(out, spelling->before_all);
    buffer_append(out, call->data, call->length);
    if (parallel && spelling->has_many) {
        buffer_append_text(out, ",{\"repeat\":{\"sequence\":[");
        write_part(out, spelling->between);
        buffer_append(out, call->data, call->length);
        buffer_append_format(out, "]},\"min\":0,\"max\":%d}", TOOL_MOST_FORCED - 1);
    }
    if (spelling->after_all[0]) {
        buffer_append_byte(out, ',');
        write_literal(out, spelling->after_all, strlen(spelling->after_all));
    }
    buffer_append_text(out, "]}");
}

int tool_format_grammar(const struct tool_format *format, const struct json *tools, const char *named, int parallel,
                        struct buffer *specification, bulla_error *error)
{
    struct buffer call = {0};
    if (format->calls == TOOL_FORMAT_NONE)
        return bulla_fail(error, BULLA_E_UNSUPPORTED, "the model's chat template has no form of tool calls that is "
                          "known here, so none can be forced (docs/tools.md lists the forms)");
    if (!json_is(tools, JSON_ARRAY))
        return bulla_fail(error, BULLA_E_USAGE, "tools is no array");
    const struct spelling *spelling = &spellings[format->calls];
    int code = write_call(spelling, tools, named, &call, error);
    if (code == BULLA_OK && call.error.code == BULLA_OK)
        write_all(spelling, &call, parallel, specification);
    if (code == BULLA_OK && call.error.code != BULLA_OK)
        code = bulla_fail(error, call.error.code, "%s", call.error.text);
    if (code == BULLA_OK && specification->error.code != BULLA_OK)
        code = bulla_fail(error, specification->error.code, "%s", specification->error.text);
    buffer_free(&call);
    return code;
}

int tool_format_grammar_thinking(const struct tool_format *format, int is_thinking, const char *inner, size_t length,
                                 struct buffer *specification, bulla_error *error)
{
    static const char thought[] = "{\"text\":{\"until\":[\"</think>\"]}},{\"literal\":\"</think>\\n\\n\"}";
    if (is_thinking)
        buffer_append_format(specification, "{\"sequence\":[%s,", thought);
    else if (format->thinks)
        buffer_append_format(specification, "{\"sequence\":[{\"repeat\":{\"sequence\":[{\"literal\":\"<think>\"},%s]},"
                             "\"min\":0,\"max\":1},", thought);
    buffer_append(specification, inner, length);
    if (is_thinking || format->thinks)
        buffer_append_text(specification, "]}");
    if (specification->error.code != BULLA_OK)
        return bulla_fail(error, specification->error.code, "%s", specification->error.text);
    return BULLA_OK;
}
