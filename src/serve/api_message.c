/* A chat's messages, checked and brought into the form that chat templates want: content is one string, the role developer
 * is system, the arguments of tool calls are objects. */
#include <string.h>

#include "serve/api_request.h"

static const char *const text_types[] = {"text", NULL};

static int is_one_of(const struct json *word, const char *const *words)
{
    for (; *words; words++)
        if (made_is_text(word, *words))
            return 1;
    return 0;
}

/* The text of one part; NULL with the problem filled. */
static const struct json *part_text(struct field_reader *reader, const struct json *part, const struct place *place,
                                    const char *const *types)
{
    const struct json *type = NULL, *text = NULL;
    if (part->type == JSON_STRING)
        return part;
    if (part->type != JSON_OBJECT) {
        field_fail_type(reader, place, part, "an object {\"type\": \"text\", \"text\": ...}");
        return NULL;
    }
    if (field_needed(reader, part, place, "type", JSON_STRING, &type) != BULLA_OK)
        return NULL;
    if (!is_one_of(type, types)) {
        field_fail(reader, &(struct place){place, "type", 0}, "unsupported_content",
                   "is \"%.40s\"; expected \"%s\": this server takes text only", type->text, types[0]);
        return NULL;
    }
    const char *key = made_is_text(type, "refusal") ? "refusal" : "text";
    return field_needed(reader, part, place, key, JSON_STRING, &text) == BULLA_OK ? text : NULL;
}

const struct json *request_join_parts(struct field_reader *reader, const struct json *content, const struct place *place,
                                      const char *const *types)
{
    struct buffer joined = {0};
    struct json *result = NULL;
    if (content->type == JSON_STRING)
        return content;
    if (content->type != JSON_ARRAY) {
        field_fail_type(reader, place, content, "a string or a list of parts");
        return NULL;
    }
    size_t i;
    for (i = 0; i < content->length; i++) {
        const struct json *text =
            part_text(reader, content->items[i], &(struct place){place, NULL, i}, types);
        if (!text)
            break;
        if (i)
            buffer_append_byte(&joined, '\n');
        buffer_append(&joined, text->text, text->length);
    }
    if (joined.error.code != BULLA_OK)
        field_fail_error(reader, NULL, &joined.error);
    else if (i == content->length)
        result = made_text(reader, (const char *)joined.data, joined.length);
    buffer_free(&joined);
    return result;
}

const struct json *request_read_arguments(struct field_reader *reader, const struct json *arguments)
{
    bulla_error error = {0};
    if (arguments->type != JSON_STRING)
        return arguments;
    const struct json *parsed = json_parse(arguments->text, arguments->length, "arguments", reader->arena, &error);
    if (parsed)
        return parsed->type == JSON_OBJECT ? parsed : arguments;
    if (error.code == BULLA_E_INPUT)
        return arguments; /* a model wrote it: templates take the text too */
    field_fail_error(reader, NULL, &error);
    return NULL;
}

static const struct json *read_call(struct field_reader *reader, const struct json *call, const struct place *place)
{
    const struct json *unused = NULL, *type = NULL, *function = NULL;
    struct place inside = {place, "function", 0};
    if (call->type != JSON_OBJECT) {
        field_fail_type(reader, place, call, "an object");
        return NULL;
    }
    if (field_typed(reader, call, place, "id", JSON_STRING, &unused) ||
        field_typed(reader, call, place, "type", JSON_STRING, &type) ||
        field_needed(reader, call, place, "function", JSON_OBJECT, &function) ||
        field_needed(reader, function, &inside, "name", JSON_STRING, &unused))
        return NULL;
    if (type && !made_is_text(type, "function")) {
        field_fail(reader, &(struct place){place, "type", 0}, "unsupported_value", "is \"%.40s\"; expected \"function\"",
                   type->text);
        return NULL;
    }
    const struct json *arguments = field_find(function, "arguments");
    if (!arguments)
        return call;
    if (arguments->type != JSON_STRING && arguments->type != JSON_OBJECT) {
        field_fail_type(reader, &(struct place){&inside, "arguments", 0}, arguments, "a string that holds JSON");
        return NULL;
    }
    const struct json *parsed = request_read_arguments(reader, arguments);
    struct json *new_call = parsed ? made_copy(reader, call, 0) : NULL;
    struct json *new_function = new_call ? made_copy(reader, function, 0) : NULL;
    if (!new_function)
        return NULL;
    made_exchange(new_function, "arguments", parsed);
    made_exchange(new_call, "function", new_function);
    return new_call;
}

static const struct json *read_calls(struct field_reader *reader, const struct json *calls, const struct place *place)
{
    struct json *list = made_list(reader, calls->length);
    for (size_t i = 0; list && i < calls->length; i++)
        list = made_push(list, read_call(reader, calls->items[i], &(struct place){place, NULL, i}));
    return list;
}

/* What it thought, under the name that templates read: vLLM and others have `reasoning` for it too. */
static int read_thoughts(struct field_reader *reader, const struct json *message, const struct place *place,
                         struct json *copy, const struct json **thoughts)
{
    const struct json *other = NULL;
    if (field_typed(reader, message, place, "reasoning_content", JSON_STRING, thoughts) ||
        field_typed(reader, message, place, "reasoning", JSON_STRING, &other))
        return BULLA_E_INPUT;
    if (*thoughts || !other)
        return BULLA_OK;
    *thoughts = other;
    if (json_get(message, "reasoning_content"))
        made_exchange(copy, "reasoning_content", other);
    else
        made_add(copy, "reasoning_content", other);
    return BULLA_OK;
}

/* What a message of the assistant may have beside its content. */
static int read_assistant(struct field_reader *reader, const struct json *message, const struct place *place,
                          struct json *copy)
{
    const struct json *calls = NULL, *reasoning = NULL, *refusal = NULL;
    struct place calls_place = {place, "tool_calls", 0};
    if (field_typed(reader, message, place, "tool_calls", JSON_ARRAY, &calls) ||
        read_thoughts(reader, message, place, copy, &reasoning) ||
        field_typed(reader, message, place, "refusal", JSON_STRING, &refusal))
        return BULLA_E_INPUT;
    if (field_find(message, "function_call"))
        return field_fail(reader, &(struct place){place, "function_call", 0}, "unsupported_parameter",
                          "is not supported here; use `tool_calls`");
    if (!field_find(message, "content") && !reasoning && !refusal && (!calls || calls->length == 0))
        return field_fail(reader, &(struct place){place, "content", 0}, "missing_required_parameter",
                          "is missing; an assistant's message has content or tool_calls");
    if (!calls)
        return BULLA_OK;
    const struct json *list = read_calls(reader, calls, &calls_place);
    if (!list)
        return BULLA_E_INPUT;
    made_exchange(copy, "tool_calls", list);
    return BULLA_OK;
}

static int check_role(struct field_reader *reader, const struct json *message, const struct place *place,
                      const struct json **role)
{
    static const char *const roles[] = {"system", "developer", "user", "assistant", "tool", NULL};
    const struct json *unused = NULL;
    if (field_needed(reader, message, place, "role", JSON_STRING, role) != BULLA_OK ||
        field_typed(reader, message, place, "name", JSON_STRING, &unused) != BULLA_OK ||
        field_typed(reader, message, place, "tool_call_id", JSON_STRING, &unused) != BULLA_OK)
        return BULLA_E_INPUT;
    if (!is_one_of(*role, roles))
        return field_fail(reader, &(struct place){place, "role", 0}, "invalid_value",
                          "is \"%.40s\"; expected system, developer, user, assistant or tool", (*role)->text);
    return BULLA_OK;
}

static struct json *read_message(struct field_reader *reader, const struct json *message, const struct place *place)
{
    static const char *const assistant_types[] = {"text", "refusal", NULL};
    const struct json *role = NULL, *content = field_find(message, "content");
    struct place content_place = {place, "content", 0};
    if (message->type != JSON_OBJECT) {
        field_fail_type(reader, place, message, "an object with role and content");
        return NULL;
    }
    if (check_role(reader, message, place, &role) != BULLA_OK)
        return NULL;
    int is_assistant = made_is_text(role, "assistant");
    struct json *copy = made_copy(reader, message, 1);
    if (!copy)
        return NULL;
    if (!content && !is_assistant) {
        field_fail(reader, &content_place, "missing_required_parameter", "is missing; expected a string or a list of "
                   "parts");
        return NULL;
    }
    const struct json *joined =
        content ? request_join_parts(reader, content, &content_place, is_assistant ? assistant_types : text_types) : NULL;
    if (content && !joined)
        return NULL;
    if (joined)
        made_exchange(copy, "content", joined);
    if (is_assistant && read_assistant(reader, message, place, copy) != BULLA_OK)
        return NULL;
    if (made_is_text(role, "developer")) {
        struct json *system = made_text(reader, "system", 6);
        if (!system)
            return NULL;
        made_exchange(copy, "role", system);
    }
    return copy;
}

int request_read_messages(struct api_request *request, struct field_reader *reader)
{
    const struct json *messages = NULL;
    struct place place = {NULL, "messages", 0};
    int code = field_needed(reader, request->body, NULL, "messages", JSON_ARRAY, &messages);
    if (code != BULLA_OK)
        return code;
    if (messages->length == 0)
        return field_fail(reader, &place, "invalid_value", "is empty; expected at least one message");
    struct json *list = made_list(reader, messages->length);
    for (size_t i = 0; list && i < messages->length; i++)
        list = made_push(list, read_message(reader, messages->items[i], &(struct place){&place, NULL, i}));
    request->answer.messages = list;
    return list ? BULLA_OK : BULLA_E_INPUT;
}
