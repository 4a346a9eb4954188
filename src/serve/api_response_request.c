/* /v1/responses, the request: its items become the messages of a chat, its flat tools nested ones. What would need answers
 * kept on the server is refused. */
#include <string.h>

#include "serve/api_request.h"

static const char *const text_types[] = {"input_text", "output_text", "text", "summary_text", "reasoning_text", "refusal",
                                         NULL};

/* The messages so far. A reasoning item, a message and the calls after it are one message of the assistant. */
struct conversation {
    struct field_reader *reader;
    struct json *messages;
    struct json *assistant;        /* the last message, while items of the assistant follow each other */
    struct json *calls;            /* its tool_calls */
    size_t most_calls;             /* room for them */
    const struct json *reasoning;  /* of a message that has not come yet */
};

static struct json *word(struct field_reader *reader, const char *text)
{
    return made_text(reader, text, strlen(text));
}

static int push_message(struct conversation *conversation, const char *role, const struct json *content,
                        const char *more_key, const struct json *more)
{
    struct json *message = made_object(conversation->reader, 4);
    message = made_add(message, "role", word(conversation->reader, role));
    if (content)
        message = made_add(message, "content", content);
    if (more)
        message = made_add(message, more_key, more);
    conversation->assistant = conversation->calls = NULL;
    return made_push(conversation->messages, message) ? BULLA_OK : BULLA_E_MEMORY;
}

/* A message of the assistant that calls can be added to. */
static int push_assistant(struct conversation *conversation, const struct json *content)
{
    int code = push_message(conversation, "assistant", content, "reasoning_content", conversation->reasoning);
    conversation->reasoning = NULL;
    if (code == BULLA_OK)
        conversation->assistant = conversation->messages->items[conversation->messages->length - 1];
    return code;
}

static int read_message(struct conversation *conversation, const struct json *item, const struct place *place)
{
    static const char *const roles[] = {"user", "assistant", "system", "developer"};
    struct field_reader *reader = conversation->reader;
    struct place content_place = {place, "content", 0};
    const struct json *role = NULL, *content = field_find(item, "content");
    size_t number = 0;
    if (field_needed(reader, item, place, "role", JSON_STRING, &role) != BULLA_OK)
        return BULLA_E_INPUT;
    while (number < 4 && !made_is_text(role, roles[number]))
        number++;
    if (number == 4)
        return field_fail(reader, &(struct place){place, "role", 0}, "invalid_value",
                          "is \"%.40s\"; expected user, assistant, system or developer", role->text);
    if (!content)
        return field_fail(reader, &content_place, "missing_required_parameter",
                          "is missing; expected a string or a list of parts");
    content = request_join_parts(reader, content, &content_place, text_types);
    if (!content)
        return BULLA_E_INPUT;
    if (number == 1)
        return push_assistant(conversation, content);
    conversation->reasoning = NULL;
    return push_message(conversation, number == 0 ? "user" : "system", content, NULL, NULL);
}

static int read_call(struct conversation *conversation, const struct json *item, const struct place *place)
{
    struct field_reader *reader = conversation->reader;
    const struct json *id = NULL, *name = NULL, *arguments = NULL;
    if (field_needed(reader, item, place, "call_id", JSON_STRING, &id) ||
        field_needed(reader, item, place, "name", JSON_STRING, &name) ||
        field_needed(reader, item, place, "arguments", JSON_STRING, &arguments))
        return BULLA_E_INPUT;
    if (!conversation->assistant && push_assistant(conversation, NULL) != BULLA_OK)
        return BULLA_E_MEMORY;
    if (!conversation->calls) {
        conversation->calls = made_list(reader, conversation->most_calls);
        if (!made_add(conversation->assistant, "tool_calls", conversation->calls))
            return BULLA_E_MEMORY;
    }
    struct json *function = made_add(made_object(reader, 2), "name", name);
    function = made_add(function, "arguments", function ? request_read_arguments(reader, arguments) : NULL);
    struct json *call = made_add(made_object(reader, 3), "id", id);
    call = made_add(call, "type", word(reader, "function"));
    call = made_add(call, "function", function);
    return made_push(conversation->calls, call) ? BULLA_OK : BULLA_E_MEMORY;
}

static int read_output(struct conversation *conversation, const struct json *item, const struct place *place)
{
    struct field_reader *reader = conversation->reader;
    struct place output_place = {place, "output", 0};
    const struct json *id = NULL, *output = field_find(item, "output");
    if (field_needed(reader, item, place, "call_id", JSON_STRING, &id) != BULLA_OK)
        return BULLA_E_INPUT;
    if (!output)
        return field_fail(reader, &output_place, "missing_required_parameter",
                          "is missing; expected a string or a list of parts");
    output = request_join_parts(reader, output, &output_place, text_types);
    return output ? push_message(conversation, "tool", output, "tool_call_id", id) : BULLA_E_INPUT;
}

static int read_reasoning(struct conversation *conversation, const struct json *item, const struct place *place)
{
    const struct json *content = field_find(item, "content");
    struct place content_place = {place, "content", 0};
    conversation->assistant = conversation->calls = NULL;
    conversation->reasoning = NULL;
    if (!content || content->length == 0)
        return BULLA_OK;
    conversation->reasoning = request_join_parts(conversation->reader, content, &content_place, text_types);
    return conversation->reasoning ? BULLA_OK : BULLA_E_INPUT;
}

static int read_item(struct conversation *conversation, const struct json *item, const struct place *place)
{
    struct field_reader *reader = conversation->reader;
    const struct json *type = NULL;
    if (item->type != JSON_OBJECT)
        return field_fail_type(reader, place, item, "an object");
    if (field_typed(reader, item, place, "type", JSON_STRING, &type) != BULLA_OK)
        return BULLA_E_INPUT;
    if (!type || made_is_text(type, "message"))
        return read_message(conversation, item, place);
    if (made_is_text(type, "function_call"))
        return read_call(conversation, item, place);
    if (made_is_text(type, "function_call_output"))
        return read_output(conversation, item, place);
    if (made_is_text(type, "reasoning"))
        return read_reasoning(conversation, item, place);
    return field_fail(reader, &(struct place){place, "type", 0}, "unsupported_value",
                      "is \"%.40s\"; expected message, function_call, function_call_output or reasoning: this server "
                      "keeps no answers and has no tools of its own", type->text);
}

static int read_items(struct conversation *conversation, const struct json *input, const struct place *place)
{
    size_t run = 0; /* where the calls that follow each other end */
    for (size_t i = 0; i < input->length; i++) {
        for (run = run > i ? run : i; run < input->length; run++)
            if (!made_is_text(json_get(input->items[run], "type"), "function_call"))
                break;
        conversation->most_calls = run - i;
        int code = read_item(conversation, input->items[i], &(struct place){place, NULL, i});
        if (code != BULLA_OK)
            return code;
    }
    return BULLA_OK;
}

static int read_input(struct api_request *request, struct field_reader *reader)
{
    const struct json *input = field_find(request->body, "input"), *instructions = NULL;
    struct place place = {NULL, "input", 0};
    if (field_typed(reader, request->body, NULL, "instructions", JSON_STRING, &instructions) != BULLA_OK)
        return BULLA_E_INPUT;
    if (!input)
        return field_fail(reader, &place, "missing_required_parameter", "is missing; expected a string or a list of "
                          "items");
    if (input->type != JSON_STRING && input->type != JSON_ARRAY)
        return field_fail_type(reader, &place, input, "a string or a list of items");
    if (input->length == 0)
        return field_fail(reader, &place, "invalid_value", "is empty; expected at least one item");
    /* At most one message an item, and the instructions. */
    struct conversation conversation = {
        .reader = reader,
        .messages = made_list(reader, 1 + (input->type == JSON_ARRAY ? input->length : 1)),
    };
    int code = conversation.messages ? BULLA_OK : BULLA_E_MEMORY;
    if (code == BULLA_OK && instructions)
        code = push_message(&conversation, "system", instructions, NULL, NULL);
    if (code == BULLA_OK)
        code = input->type == JSON_STRING ? push_message(&conversation, "user", input, NULL, NULL)
                                          : read_items(&conversation, input, &place);
    if (code == BULLA_OK && conversation.messages->length == 0)
        return field_fail(reader, &place, "invalid_value", "holds no message");
    request->answer.messages = conversation.messages;
    return code;
}

/* {"type", "name", ...} to {"type", "function": {"name", ...}}. */
static const struct json *nest_tool(struct field_reader *reader, const struct json *tool, const struct place *place)
{
    static const char *const keys[] = {"name", "description", "parameters", "strict"};
    const struct json *type = NULL;
    if (tool->type != JSON_OBJECT) {
        field_fail_type(reader, place, tool, "an object");
        return NULL;
    }
    if (field_needed(reader, tool, place, "type", JSON_STRING, &type) != BULLA_OK)
        return NULL;
    if (!made_is_text(type, "function")) {
        field_fail(reader, &(struct place){place, "type", 0}, "unsupported_value",
                   "is \"%.40s\"; expected \"function\": this server has no tools of its own", type->text);
        return NULL;
    }
    if (request_check_tool(reader, tool, place) != BULLA_OK)
        return NULL;
    struct json *function = made_object(reader, 4);
    for (size_t i = 0; i < 4 && function; i++)
        if (field_find(tool, keys[i]))
            function = made_add(function, keys[i], field_find(tool, keys[i]));
    struct json *nested = made_add(made_object(reader, 2), "type", type);
    return made_add(nested, "function", function);
}

static int read_tools(struct api_request *request, struct field_reader *reader)
{
    const struct json *tools = NULL;
    struct place place = {NULL, "tools", 0};
    if (field_typed(reader, request->body, NULL, "tools", JSON_ARRAY, &tools) ||
        field_flag(reader, request->body, NULL, "parallel_tool_calls", &request->answer.parallel_tool_calls))
        return BULLA_E_INPUT;
    if (!tools || tools->length == 0)
        return BULLA_OK;
    struct json *nested = made_list(reader, tools->length);
    for (size_t i = 0; nested && i < tools->length; i++)
        nested = made_push(nested, nest_tool(reader, tools->items[i], &(struct place){&place, NULL, i}));
    request->answer.tools = nested;
    return nested ? request_check_tool_names(reader, nested) : BULLA_E_INPUT;
}

/* text.format: as chats have it, the schema beside the type. */
static int read_text(struct api_request *request, struct field_reader *reader)
{
    const struct json *text = NULL, *format = NULL, *schema = NULL, *verbosity = NULL;
    struct place place = {NULL, "text", 0}, format_place = {&place, "format", 0};
    if (field_typed(reader, request->body, NULL, "text", JSON_OBJECT, &text) ||
        field_typed(reader, text, &place, "format", JSON_OBJECT, &format) ||
        field_typed(reader, text, &place, "verbosity", JSON_STRING, &verbosity))
        return BULLA_E_INPUT;
    if (verbosity && !made_is_text(verbosity, "medium"))
        return field_fail(reader, &(struct place){&place, "verbosity", 0}, "unsupported_value",
                          "is \"%.40s\"; this server has \"medium\" only", verbosity->text);
    if (made_is_text(field_find(format, "type"), "json_schema") &&
        field_needed(reader, format, &format_place, "schema", JSON_OBJECT, &schema) != BULLA_OK)
        return BULLA_E_INPUT;
    return request_read_format(request, reader, format, &format_place);
}

/* reasoning.effort, and the template's fields as chats have them. No summaries are made of thoughts, whoever asks. */
static int read_reasoning_options(struct api_request *request, struct field_reader *reader)
{
    const struct json *reasoning = NULL, *unused = NULL;
    struct place place = {NULL, "reasoning", 0};
    if (field_typed(reader, request->body, NULL, "reasoning", JSON_OBJECT, &reasoning) ||
        field_typed(reader, reasoning, &place, "summary", JSON_STRING, &unused) ||
        field_typed(reader, reasoning, &place, "generate_summary", JSON_STRING, &unused))
        return BULLA_E_INPUT;
    return request_read_template(request, reader, field_find(reasoning, "effort"), &(struct place){&place, "effort", 0});
}

/* What needs a server that remembers, or that works on after the client left. */
static int refuse_state(struct api_request *request, struct field_reader *reader)
{
    static const char *const keys[] = {"previous_response_id", "conversation", "prompt"};
    int stores = 0, is_background = 0;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (field_find(request->body, keys[i]))
            return field_fail(reader, &(struct place){NULL, keys[i], 0}, "unsupported_parameter",
                              "refers to something kept on the server, and this server keeps nothing; send all items "
                              "in `input`");
    if (field_flag(reader, request->body, NULL, "store", &stores) != BULLA_OK ||
        field_flag(reader, request->body, NULL, "background", &is_background) != BULLA_OK)
        return BULLA_E_INPUT;
    if (stores)
        return field_fail(reader, &(struct place){NULL, "store", 0}, "unsupported_parameter",
                          "is true, and this server keeps no answers; leave it out or set it to false");
    if (is_background)
        return field_fail(reader, &(struct place){NULL, "background", 0}, "unsupported_parameter",
                          "is true; answers are given to a client that waits for them");
    return BULLA_OK;
}

/* Fields that are only handed back: there are no tools of the server's own, so any number of their calls holds. */
static int read_labels(struct api_request *request, struct field_reader *reader)
{
    static const char *const texts[] = {"user", "safety_identifier", "prompt_cache_key", "service_tier"};
    const struct json *metadata = NULL, *unused = NULL;
    struct place place = {NULL, "metadata", 0};
    int64_t calls = 0;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (field_typed(reader, request->body, NULL, texts[i], JSON_STRING, &unused) != BULLA_OK)
            return BULLA_E_INPUT;
    if (field_integer(reader, request->body, NULL, "max_tool_calls", 0, INT64_MAX, &calls) ||
        field_typed(reader, request->body, NULL, "metadata", JSON_OBJECT, &metadata))
        return BULLA_E_INPUT;
    for (size_t i = 0; metadata && i < metadata->length; i++)
        if (metadata->items[i]->type != JSON_STRING)
            return field_fail_type(reader, &(struct place){&place, metadata->keys[i], 0}, metadata->items[i], "a string");
    return BULLA_OK;
}

static int read_logprobs(struct api_request *request, struct field_reader *reader)
{
    const struct json *include = NULL;
    struct place place = {NULL, "include", 0};
    int64_t top = 0;
    if (field_typed(reader, request->body, NULL, "include", JSON_ARRAY, &include) ||
        field_integer(reader, request->body, NULL, "top_logprobs", 0, ANSWER_MOST_LOGPROBS, &top))
        return BULLA_E_INPUT;
    for (size_t i = 0; include && i < include->length; i++) {
        if (include->items[i]->type != JSON_STRING)
            return field_fail_type(reader, &(struct place){&place, NULL, i}, include->items[i], "a string");
        if (made_is_text(include->items[i], "message.output_text.logprobs"))
            request->answer.logprobs = (int)top;
    }
    return BULLA_OK;
}

static int read_rest(struct api_request *request, struct field_reader *reader)
{
    int64_t most = 0;
    int code = field_integer(reader, request->body, NULL, "max_output_tokens", 1, INT64_MAX, &most);
    request->answer.max_tokens = (uint64_t)most;
    if (code == BULLA_OK)
        code = read_labels(request, reader);
    return code == BULLA_OK ? read_logprobs(request, reader) : code;
}

int api_request_read_response(const char *body, size_t length, struct api_request *request,
                              struct answer_error *problem)
{
    struct field_reader reader = {&request->json, problem};
    bulla_error error = {0};
    int code = request_open_answer(body, length, REQUEST_RESPONSE, request, &reader);
    request->includes_usage = 1;
    if (code == BULLA_OK)
        code = refuse_state(request, &reader);
    if (code == BULLA_OK)
        code = read_input(request, &reader);
    if (code == BULLA_OK)
        code = read_tools(request, &reader);
    if (code == BULLA_OK)
        code = request_read_tool_choice(request, &reader, 1);
    if (code == BULLA_OK)
        code = request_read_sampling(request, &reader);
    request->answer.choices = 1;
    if (code == BULLA_OK)
        code = read_reasoning_options(request, &reader);
    if (code == BULLA_OK)
        code = read_text(request, &reader);
    if (code == BULLA_OK)
        code = read_rest(request, &reader);
    if (code != BULLA_OK)
        return code;
    request->prompts = arena_alloc(&request->kept, 1, sizeof *request->prompts, &error);
    request->prompt_count = 1;
    return request->prompts ? BULLA_OK : field_fail_error(&reader, NULL, &error);
}
