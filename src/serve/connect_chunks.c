/* Chats and completions: what a chunk delivers, and whether a whole body is what its steps give. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "serve/connect_internal.h"

static const char *const top[] = {"id", "object", "created", "model", "choices", "usage", "system_fingerprint", "service_tier",
                                  "bulla", "bulla_receipt", NULL};
static const char *const chunk_choice[] = {"index", "delta", "text", "logprobs", "finish_reason", "stop_reason", NULL};
static const char *const body_choice[] = {"index", "message", "text", "logprobs", "finish_reason", "stop_reason", NULL};
static const char *const message_members[] = {"role", "content", "reasoning_content", "reasoning", "tool_calls", NULL};
static const char *const call_members[] = {"index", "id", "type", "function", NULL};
static const char *const function_members[] = {"name", "arguments", NULL};

static int read_index(const struct json *object, const char *key, uint64_t *index, struct connect_problem *problem)
{
    const struct json *value = json_get(object, key);
    if (!json_is(value, JSON_NUMBER) || !value->is_integer || value->integer < 0)
        return connect_fail(problem, "answer.json", "\"%s\" of the answer is no number of a choice or call", key);
    *index = (uint64_t)value->integer;
    return BULLA_OK;
}

/* Text that is empty delivers nothing. */
static int read_piece(const struct json *object, const char *key, struct connect_text *text, struct connect_problem *problem)
{
    int code = connect_read_text(object, key, "answer.json", text, problem);
    if (text->length == 0)
        text->bytes = NULL;
    return code;
}

/* The role says nothing that is not known. */
static int check_role(const struct json *message, struct connect_problem *problem)
{
    const struct json *role = json_get(message, "role");
    if (role && !json_is(role, JSON_NULL) && !json_is_text(role, "assistant"))
        return connect_fail(problem, "answer.json", "the role of the answer is not the assistant's");
    return BULLA_OK;
}

/* reasoning_content, and reasoning where it is there too: clients read the one or the other. */
static int read_reasoning(const struct json *message, struct connect_text *text, struct connect_problem *problem)
{
    struct connect_text other;
    if (read_piece(message, "reasoning_content", text, problem) != BULLA_OK ||
        read_piece(message, "reasoning", &other, problem) != BULLA_OK)
        return BULLA_E_INPUT;
    if (other.bytes && !connect_same(&other, text->bytes, text->length))
        return connect_fail(problem, "answer.text", "\"reasoning\" of the answer differs from \"reasoning_content\"");
    return BULLA_OK;
}

/* The reason, and where there is one, a zero byte and the stop reason. */
static int read_finish(struct connect_check *check, const struct json *choice, struct connect_text *finish,
                       struct connect_problem *problem)
{
    struct connect_text reason, stop;
    struct buffer *joined = &check->scratch[RECEIPT_FINISH];
    if (connect_read_text(choice, "finish_reason", "answer.json", &reason, problem) != BULLA_OK ||
        connect_read_text(choice, "stop_reason", "answer.json", &stop, problem) != BULLA_OK)
        return BULLA_E_INPUT;
    *finish = reason;
    if (!stop.bytes)
        return BULLA_OK;
    if (!reason.bytes)
        return connect_fail(problem, "answer.text", "the answer has a stop reason without a finish reason");
    connect_join(joined, &reason, &stop);
    *finish = (struct connect_text){(const char *)joined->data, joined->length};
    return joined->error.code == BULLA_OK ? BULLA_OK : connect_fail(problem, "memory", "memory is short");
}

/* The call of a chunk: at most one. */
static int read_calls(struct connect_check *check, const struct json *list, struct connect_delivered *delivered,
                      struct connect_problem *problem)
{
    struct connect_text name, id;
    struct buffer *joined = &check->scratch[RECEIPT_TOOL_CALL];
    uint64_t number = 0;
    if (!list || connect_is_empty(list))
        return BULLA_OK;
    if (!json_is(list, JSON_ARRAY) || list->length != 1)
        return connect_fail(problem, "answer.calls", "a chunk has pieces of several calls");
    const struct json *call = list->items[0], *function = json_get(call, "function"), *type = json_get(call, "type");
    if (connect_only(call, call_members, "answer.calls", problem) != BULLA_OK ||
        (function && connect_only(function, function_members, "answer.calls", problem) != BULLA_OK) ||
        read_index(call, "index", &number, problem) != BULLA_OK ||
        connect_read_text(call, "id", "answer.calls", &id, problem) != BULLA_OK ||
        connect_read_text(function, "name", "answer.calls", &name, problem) != BULLA_OK ||
        read_piece(function, "arguments", &delivered->parts[RECEIPT_ARGUMENTS], problem) != BULLA_OK)
        return BULLA_E_INPUT;
    if (type && !json_is(type, JSON_NULL) && !json_is_text(type, "function"))
        return connect_fail(problem, "answer.calls", "a call is none of a function");
    delivered->call = (size_t)number;
    if (!name.bytes && !id.bytes)
        return BULLA_OK;
    connect_join(joined, &name, &id);
    delivered->parts[RECEIPT_TOOL_CALL] = (struct connect_text){(const char *)joined->data, joined->length};
    return joined->error.code == BULLA_OK ? BULLA_OK : connect_fail(problem, "memory", "memory is short");
}

static int read_delta(struct connect_check *check, const struct json *delta, struct connect_delivered *delivered,
                      struct connect_problem *problem)
{
    if (!delta)
        return BULLA_OK;
    if (connect_only(delta, message_members, "answer.members", problem) != BULLA_OK ||
        check_role(delta, problem) != BULLA_OK ||
        read_piece(delta, "content", &delivered->parts[RECEIPT_CONTENT], problem) != BULLA_OK ||
        read_reasoning(delta, &delivered->parts[RECEIPT_REASONING], problem) != BULLA_OK)
        return BULLA_E_INPUT;
    return read_calls(check, json_get(delta, "tool_calls"), delivered, problem);
}

/* The model's name, the same in every event. */
static int take_model(struct connect_check *check, const struct json *event, struct connect_problem *problem)
{
    const struct json *model = json_get(event, "model");
    if (!json_is(model, JSON_STRING) || model->length >= sizeof check->model || strlen(model->text) != model->length)
        return connect_fail(problem, "answer.model", "the answer does not name its model");
    if (check->model[0] && strcmp(check->model, model->text) != 0)
        return connect_fail(problem, "answer.model", "the answer names another model than before: \"%.100s\"", model->text);
    snprintf(check->model, sizeof check->model, "%s", model->text);
    return BULLA_OK;
}

int connect_read_chunk(struct connect_check *check, const struct json *event, struct connect_delivered *delivered,
                       struct connect_problem *problem)
{
    const struct json *choices = json_get(event, "choices");
    uint64_t index = 0;
    if (connect_only(event, top, "answer.members", problem) != BULLA_OK || take_model(check, event, problem) != BULLA_OK ||
        connect_take_usage(check, json_get(event, "usage"), "prompt_tokens", "completion_tokens", problem) != BULLA_OK)
        return BULLA_E_INPUT;
    if (!json_is(choices, JSON_ARRAY) || choices->length > 1)
        return connect_fail(problem, "answer.json", "a chunk is not of one choice");
    if (choices->length == 0)
        return BULLA_OK;
    const struct json *choice = choices->items[0];
    if (connect_only(choice, chunk_choice, "answer.members", problem) != BULLA_OK ||
        read_index(choice, "index", &index, problem) != BULLA_OK)
        return BULLA_E_INPUT;
    if (!connect_choice(check, index, problem))
        return BULLA_E_INPUT;
    delivered->choice = (uint32_t)index;
    int is_chat = check->asked.form == CONNECT_CHAT;
    if (json_get(choice, is_chat ? "text" : "delta"))
        return connect_fail(problem, "answer.members", "a chunk has members of another kind of answer");
    int code = is_chat ? read_delta(check, json_get(choice, "delta"), delivered, problem)
                       : read_piece(choice, "text", &delivered->parts[RECEIPT_CONTENT], problem);
    return code == BULLA_OK ? read_finish(check, choice, &delivered->parts[RECEIPT_FINISH], problem) : code;
}

/* ---- Whole bodies ---- */

static int same_buffer(const struct connect_text *text, const struct buffer *buffer)
{
    return connect_same(text, buffer->data, buffer->length);
}

static int compare_calls(const struct connect_choice *choice, const struct json *list, struct connect_problem *problem)
{
    size_t count = json_is(list, JSON_ARRAY) ? list->length : 0;
    int is_same = count == choice->call_count && (count > 0 || !list || connect_is_empty(list));
    for (size_t i = 0; is_same && i < count; i++) {
        const struct json *call = list->items[i], *function = json_get(call, "function");
        struct connect_text name, id, arguments;
        if (connect_only(call, call_members, "answer.calls", problem) != BULLA_OK ||
            connect_only(function ? function : call, function ? function_members : call_members, "answer.calls", problem) !=
                BULLA_OK ||
            connect_read_text(call, "id", "answer.calls", &id, problem) != BULLA_OK ||
            connect_read_text(function, "name", "answer.calls", &name, problem) != BULLA_OK ||
            connect_read_text(function, "arguments", "answer.calls", &arguments, problem) != BULLA_OK)
            return BULLA_E_INPUT;
        is_same = same_buffer(&name, &choice->calls[i].name) && same_buffer(&id, &choice->calls[i].id) &&
                  same_buffer(&arguments, &choice->calls[i].arguments);
    }
    return is_same ? BULLA_OK : connect_fail(problem, "answer.calls", "the answer's calls are not those of its steps");
}

static int compare_message(const struct connect_choice *choice, const struct json *message, struct connect_problem *problem)
{
    struct connect_text content, reasoning;
    if (connect_only(message, message_members, "answer.members", problem) != BULLA_OK ||
        check_role(message, problem) != BULLA_OK ||
        connect_read_text(message, "content", "answer.json", &content, problem) != BULLA_OK ||
        read_reasoning(message, &reasoning, problem) != BULLA_OK)
        return BULLA_E_INPUT;
    if (!same_buffer(&content, &choice->content) || !same_buffer(&reasoning, &choice->reasoning))
        return connect_fail(problem, "answer.text", "the answer's text is not that of its steps");
    return compare_calls(choice, json_get(message, "tool_calls"), problem);
}

static int compare_choice(struct connect_check *check, const struct json *value, struct connect_problem *problem)
{
    struct connect_text finish, text;
    uint64_t index = 0;
    if (connect_only(value, body_choice, "answer.members", problem) != BULLA_OK ||
        read_index(value, "index", &index, problem) != BULLA_OK ||
        read_finish(check, value, &finish, problem) != BULLA_OK)
        return BULLA_E_INPUT;
    struct connect_choice *choice = connect_choice(check, index, problem);
    if (!choice)
        return BULLA_E_INPUT;
    if (!same_buffer(&finish, &choice->finish))
        return connect_fail(problem, "answer.text", "the answer's finish reason is not that of its steps");
    int is_chat = check->asked.form == CONNECT_CHAT;
    if (json_get(value, is_chat ? "text" : "message"))
        return connect_fail(problem, "answer.members", "a choice has members of another kind of answer");
    if (is_chat)
        return compare_message(choice, json_get(value, "message"), problem);
    if (connect_read_text(value, "text", "answer.json", &text, problem) != BULLA_OK)
        return BULLA_E_INPUT;
    return same_buffer(&text, &choice->content)
               ? BULLA_OK
               : connect_fail(problem, "answer.text", "the answer's text is not that of its steps");
}

int connect_read_body(struct connect_check *check, const struct json *body, struct connect_problem *problem)
{
    const struct json *choices = json_get(body, "choices");
    unsigned char seen[RECEIPT_MOST_CHOICES] = {0};
    size_t there = 0;
    if (connect_only(body, top, "answer.members", problem) != BULLA_OK || take_model(check, body, problem) != BULLA_OK ||
        connect_take_usage(check, json_get(body, "usage"), "prompt_tokens", "completion_tokens", problem) != BULLA_OK)
        return BULLA_E_INPUT;
    for (size_t i = 0; i < check->choice_count; i++)
        there += (size_t)check->choices[i].is_there;
    if (!json_is(choices, JSON_ARRAY) || choices->length != there)
        return connect_fail(problem, "answer.choices", "the answer does not have the choices of its steps");
    for (size_t i = 0; i < choices->length; i++) {
        const struct json *index = json_get(choices->items[i], "index");
        if (compare_choice(check, choices->items[i], problem) != BULLA_OK)
            return BULLA_E_INPUT;
        if (seen[index->integer]++)
            return connect_fail(problem, "answer.choices", "the answer has a choice twice");
    }
    return BULLA_OK;
}
