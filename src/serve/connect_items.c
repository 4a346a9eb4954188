/* Responses: what an event delivers; events and bodies that repeat what was delivered are compared with it. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "serve/connect_internal.h"

/* Of each kind of event and item what its reading looks at; anything else would reach a client unchecked. */
#define PLACE "type", "sequence_number", "output_index", "item_id", "content_index"
static const char *const delta_members[] = {PLACE, "delta", "logprobs", "bulla", NULL};
static const char *const text_done_members[] = {PLACE, "text", "logprobs", NULL};
static const char *const arguments_done_members[] = {PLACE, "name", "arguments", NULL};
static const char *const part_event_members[] = {PLACE, "part", NULL};
static const char *const item_event_members[] = {PLACE, "item", "bulla", NULL};
static const char *const response_event_members[] = {"type", "sequence_number", "response", "bulla", "bulla_receipt", NULL};
static const char *const text_item_members[] = {"id", "type", "status", "role", "content", NULL};
static const char *const call_item_members[] = {"id", "type", "status", "call_id", "name", "arguments", NULL};
static const char *const response_members[] = {
    "id", "object", "created_at", "status", "error", "incomplete_details", "output", "usage", "model", "instructions",
    "max_tool_calls", "prompt_cache_key", "safety_identifier", "user", "metadata", "tool_choice", "tools",
    "max_output_tokens", "parallel_tool_calls", "reasoning", "text", "top_logprobs", "temperature", "top_p", "truncation",
    "background", "store", "previous_response_id", "service_tier", "bulla", "bulla_receipt", NULL};
static const char *const part_members[] = {"type", "text", "logprobs", NULL};

static int is_word(const struct json *object, const char *key, const char *word)
{
    return json_is_text(json_get(object, key), word);
}

/* Where an item's text is in what was gathered. */
static struct connect_text find_text(const struct connect_check *check, size_t number)
{
    const struct connect_item *item = &check->items[number];
    const struct connect_choice *choice = &check->choices[0];
    const struct buffer *all = item->part == RECEIPT_CONTENT     ? &choice->content
                               : item->part == RECEIPT_REASONING ? &choice->reasoning
                                                                 : &choice->calls[item->call].arguments;
    size_t end = all->length, start = item->part == RECEIPT_TOOL_CALL ? 0 : item->start;
    for (size_t i = number + 1; i < check->item_count && item->part != RECEIPT_TOOL_CALL; i++)
        if (check->items[i].part == item->part) {
            end = check->items[i].start;
            break;
        }
    return (struct connect_text){all->data ? (const char *)all->data + start : "", end - start};
}

/* The kind of an item; 0 for one that is not known. */
static enum receipt_part item_part(const struct json *item)
{
    return is_word(item, "type", "message")         ? RECEIPT_CONTENT
           : is_word(item, "type", "reasoning")     ? RECEIPT_REASONING
           : is_word(item, "type", "function_call") ? RECEIPT_TOOL_CALL
                                                    : 0;
}

static int fail_item(struct connect_problem *problem)
{
    return connect_fail(problem, "answer.text", "what the answer repeats is not what it delivered");
}

static int compare_key(const struct json *object, const char *key, const struct connect_text *expected,
                       struct connect_problem *problem)
{
    struct connect_text text;
    if (connect_read_text(object, key, "answer.json", &text, problem) != BULLA_OK)
        return BULLA_E_INPUT;
    return connect_same(&text, expected->bytes, expected->length) ? BULLA_OK : fail_item(problem);
}

static int compare_part(const struct json *part, enum receipt_part kind, const struct connect_text *expected,
                        struct connect_problem *problem)
{
    if (connect_only(part, part_members, "answer.members", problem) != BULLA_OK)
        return BULLA_E_INPUT;
    if (!is_word(part, "type", kind == RECEIPT_REASONING ? "reasoning_text" : "output_text"))
        return fail_item(problem);
    return compare_key(part, "text", expected, problem);
}

/* An item of that text; `is_empty`: as it begins. */
static int compare_item(const struct connect_check *check, const struct json *item, enum receipt_part part,
                        const struct connect_call *call, const struct connect_text *text, struct connect_problem *problem)
{
    const struct json *content = json_get(item, "content"), *role = json_get(item, "role");
    if (connect_only(item, part == RECEIPT_TOOL_CALL ? call_item_members : text_item_members, "answer.members", problem) !=
        BULLA_OK)
        return BULLA_E_INPUT;
    if (item_part(item) != part || (role && !is_word(item, "role", "assistant")))
        return fail_item(problem);
    if (part == RECEIPT_TOOL_CALL) {
        struct connect_text name = {(const char *)call->name.data, call->name.length},
                            id = {(const char *)call->id.data, call->id.length};
        return compare_key(item, "name", &name, problem) == BULLA_OK && compare_key(item, "call_id", &id, problem) == BULLA_OK
                   ? compare_key(item, "arguments", text, problem)
                   : BULLA_E_INPUT;
    }
    if (json_is(content, JSON_ARRAY) && content->length == 1)
        return compare_part(content->items[0], part, text, problem);
    return text->length == 0 && json_is(content, JSON_ARRAY) && content->length == 0 ? BULLA_OK : fail_item(problem);
}

/* ---- Events ---- */

static int find_item(const struct connect_check *check, const struct json *event, size_t *number,
                     struct connect_problem *problem)
{
    const struct json *index = json_get(event, "output_index");
    if (!json_is(index, JSON_NUMBER) || !index->is_integer || index->integer < 0 ||
        (uint64_t)index->integer >= check->item_count)
        return connect_fail(problem, "answer.json", "an event is of an item that was not begun");
    *number = (size_t)index->integer;
    return BULLA_OK;
}

static int add_item(struct connect_check *check, const struct json *event, struct connect_delivered *delivered,
                    struct connect_problem *problem)
{
    const struct json *item = json_get(event, "item"), *index = json_get(event, "output_index");
    enum receipt_part part = item_part(item);
    struct connect_choice *choice = connect_choice(check, 0, problem);
    struct connect_text name, id, nothing = {"", 0};
    if (!choice)
        return BULLA_E_INPUT;
    if (!part || !json_is(index, JSON_NUMBER) || index->integer != (int64_t)check->item_count ||
        check->item_count == CONNECT_MOST_CALLS)
        return connect_fail(problem, "answer.json", "an item of the answer is of an unknown kind, or not the next one");
    if (check->item_count == check->item_room) {
        size_t room = check->item_room ? 2 * check->item_room : 4;
        struct connect_item *items = memory_resize(check->items, room, sizeof *items, NULL);
        if (!items)
            return connect_fail(problem, "memory", "memory is short");
        check->items = items;
        check->item_room = room;
    }
    size_t start = part == RECEIPT_CONTENT ? choice->content.length : choice->reasoning.length;
    check->items[check->item_count++] = (struct connect_item){part, start, choice->call_count};
    if (part != RECEIPT_TOOL_CALL)
        return compare_item(check, item, part, NULL, &nothing, problem);
    struct buffer *joined = &check->scratch[RECEIPT_TOOL_CALL];
    if (connect_only(item, call_item_members, "answer.members", problem) != BULLA_OK ||
        compare_key(item, "arguments", &nothing, problem) != BULLA_OK ||
        connect_read_text(item, "name", "answer.json", &name, problem) != BULLA_OK ||
        connect_read_text(item, "call_id", "answer.json", &id, problem) != BULLA_OK)
        return BULLA_E_INPUT;
    connect_join(joined, &name, &id);
    delivered->parts[RECEIPT_TOOL_CALL] = (struct connect_text){(const char *)joined->data, joined->length};
    delivered->call = choice->call_count;
    return joined->error.code == BULLA_OK ? BULLA_OK : connect_fail(problem, "memory", "memory is short");
}

/* Text of an item grows: only that of the newest of its kind can. */
static int read_delta(struct connect_check *check, const struct json *event, enum receipt_part part,
                      struct connect_delivered *delivered, struct connect_problem *problem)
{
    size_t number = 0;
    if (find_item(check, event, &number, problem) != BULLA_OK ||
        connect_read_text(event, "delta", "answer.json", &delivered->parts[part], problem) != BULLA_OK)
        return BULLA_E_INPUT;
    enum receipt_part kind = part == RECEIPT_ARGUMENTS ? RECEIPT_TOOL_CALL : part;
    if (check->items[number].part != kind)
        return connect_fail(problem, "answer.json", "an event is of an item of another kind");
    for (size_t i = number + 1; i < check->item_count && kind != RECEIPT_TOOL_CALL; i++)
        if (check->items[i].part == kind)
            return connect_fail(problem, "answer.json", "an item grows after the next one has begun");
    delivered->call = check->items[number].call;
    if (delivered->parts[part].length == 0)
        delivered->parts[part].bytes = NULL;
    return BULLA_OK;
}

static int read_done(struct connect_check *check, const struct json *event, struct connect_problem *problem)
{
    size_t number = 0;
    if (find_item(check, event, &number, problem) != BULLA_OK)
        return BULLA_E_INPUT;
    const struct connect_item *item = &check->items[number];
    const struct connect_call *call = item->part == RECEIPT_TOOL_CALL ? &check->choices[0].calls[item->call] : NULL;
    struct connect_text text = find_text(check, number);
    if (strcmp(check->type, "response.output_item.done") == 0)
        return compare_item(check, json_get(event, "item"), item->part, call, &text, problem);
    if (strcmp(check->type, "response.content_part.done") == 0)
        return compare_part(json_get(event, "part"), item->part, &text, problem);
    if (!call)
        return compare_key(event, "text", &text, problem);
    struct connect_text name = {(const char *)call->name.data, call->name.length};
    if (json_get(event, "name") && compare_key(event, "name", &name, problem) != BULLA_OK)
        return BULLA_E_INPUT;
    return compare_key(event, "arguments", &text, problem);
}

/* The last event: its finish is in a step only, so it is read again once the steps are taken. */
static int read_end(struct connect_check *check, const struct json *event, struct connect_problem *problem)
{
    const struct json *steps = json_get(json_get(event, "bulla"), "steps");
    const struct json *last = json_is(steps, JSON_ARRAY) && steps->length == 1 ? steps->items[0] : NULL;
    struct connect_text finish;
    if (!last || !is_word(last, "part", "finish") ||
        connect_read_text(last, "text", "answer.steps", &finish, problem) != BULLA_OK || !finish.bytes)
        return connect_fail(problem, "answer.steps", "the response ends without a step that says so");
    if (!json_get(event, "bulla_receipt"))
        return connect_fail(problem, "answer.receipt", "the response ended without its receipt");
    struct connect_choice *choice = connect_choice(check, 0, problem);
    if (!choice)
        return BULLA_E_INPUT;
    /* What the response says must be what the step will add. */
    choice->finish.length = 0;
    buffer_append(&choice->finish, finish.bytes, finish.length);
    int code = connect_read_response(check, json_get(event, "response"), problem);
    buffer_clear(&choice->finish);
    if (code == BULLA_OK && strcmp(check->type, is_word(json_get(event, "response"), "status", "incomplete")
                                                    ? "response.incomplete"
                                                    : "response.completed") != 0)
        code = connect_fail(problem, "answer.text", "the last event is of another kind than the response's status");
    return code;
}

static int read_begin(struct connect_check *check, const struct json *event, struct connect_problem *problem)
{
    const struct json *response = json_get(event, "response"), *output = json_get(response, "output");
    if (connect_only(response, response_members, "answer.members", problem) != BULLA_OK)
        return BULLA_E_INPUT;
    if (output && !connect_is_empty(output))
        return connect_fail(problem, "answer.text", "the response has output before any was delivered");
    return BULLA_OK;
}

enum item_event { ITEM_DELTA, ITEM_DONE, ITEM_BEGIN, ITEM_ADDED, ITEM_PART, ITEM_END };

static const struct event_kind {
    const char *type;
    enum item_event what;
    enum receipt_part part; /* of a delta */
    const char *const *members;
} event_kinds[] = {
    {"response.output_text.delta", ITEM_DELTA, RECEIPT_CONTENT, delta_members},
    {"response.reasoning_text.delta", ITEM_DELTA, RECEIPT_REASONING, delta_members},
    {"response.function_call_arguments.delta", ITEM_DELTA, RECEIPT_ARGUMENTS, delta_members},
    {"response.output_text.done", ITEM_DONE, 0, text_done_members},
    {"response.reasoning_text.done", ITEM_DONE, 0, text_done_members},
    {"response.function_call_arguments.done", ITEM_DONE, 0, arguments_done_members},
    {"response.content_part.done", ITEM_DONE, 0, part_event_members},
    {"response.output_item.done", ITEM_DONE, 0, item_event_members},
    {"response.created", ITEM_BEGIN, 0, response_event_members},
    {"response.in_progress", ITEM_BEGIN, 0, response_event_members},
    {"response.output_item.added", ITEM_ADDED, 0, item_event_members},
    {"response.content_part.added", ITEM_PART, 0, part_event_members},
    {"response.completed", ITEM_END, 0, response_event_members},
    {"response.incomplete", ITEM_END, 0, response_event_members},
};

static int read_part(struct connect_check *check, const struct json *event, struct connect_problem *problem)
{
    struct connect_text nothing = {"", 0};
    size_t number = 0;
    if (find_item(check, event, &number, problem) != BULLA_OK)
        return BULLA_E_INPUT;
    return compare_part(json_get(event, "part"), check->items[number].part, &nothing, problem);
}

int connect_read_item(struct connect_check *check, const struct json *event, struct connect_delivered *delivered,
                      struct connect_problem *problem)
{
    const struct event_kind *kind = event_kinds, *end = event_kinds + sizeof event_kinds / sizeof *event_kinds;
    while (kind < end && strcmp(check->type, kind->type) != 0)
        kind++;
    if (kind == end)
        return connect_fail(problem, "answer.members", "an event of the type \"%.60s\" is not known here", check->type);
    if (connect_only(event, kind->members, "answer.members", problem) != BULLA_OK)
        return BULLA_E_INPUT;
    switch (kind->what) {
    case ITEM_DELTA:
        return read_delta(check, event, kind->part, delivered, problem);
    case ITEM_DONE:
        return read_done(check, event, problem);
    case ITEM_BEGIN:
        return read_begin(check, event, problem);
    case ITEM_ADDED:
        return add_item(check, event, delivered, problem);
    case ITEM_PART:
        return read_part(check, event, problem);
    default:
        return read_end(check, event, problem);
    }
}

/* ---- Whole responses ---- */

/* The output's items, joined by kind, are what the steps gave. */
struct output {
    struct buffer content, reasoning;
    size_t calls;
};

static int join_item(const struct connect_check *check, const struct json *item, struct output *output,
                     struct connect_problem *problem)
{
    enum receipt_part part = item_part(item);
    const struct connect_choice *choice = &check->choices[0];
    const struct json *content = json_get(item, "content");
    if (part == RECEIPT_TOOL_CALL) {
        if (output->calls >= choice->call_count)
            return fail_item(problem);
        const struct connect_call *call = &choice->calls[output->calls++];
        struct connect_text arguments = {(const char *)call->arguments.data, call->arguments.length};
        return compare_item(check, item, part, call, &arguments, problem);
    }
    if (!part || !json_is(content, JSON_ARRAY) || content->length > 1)
        return connect_fail(problem, "answer.members", "an item of the response is of an unknown kind");
    struct connect_text text = {0};
    if (content->length == 1 && connect_read_text(content->items[0], "text", "answer.json", &text, problem) != BULLA_OK)
        return BULLA_E_INPUT;
    buffer_append(part == RECEIPT_CONTENT ? &output->content : &output->reasoning, text.bytes, text.length);
    return compare_item(check, item, part, NULL, &text, problem);
}

static int compare_output(const struct connect_check *check, const struct json *list, struct connect_problem *problem)
{
    const struct connect_choice *choice = &check->choices[0];
    struct output output = {0};
    int code = json_is(list, JSON_ARRAY) ? BULLA_OK : fail_item(problem);
    for (size_t i = 0; code == BULLA_OK && i < list->length; i++)
        code = join_item(check, list->items[i], &output, problem);
    struct connect_text content = {(const char *)output.content.data, output.content.length},
                        reasoning = {(const char *)output.reasoning.data, output.reasoning.length};
    if (code == BULLA_OK && (output.content.error.code != BULLA_OK || output.reasoning.error.code != BULLA_OK))
        code = connect_fail(problem, "memory", "memory is short");
    if (code == BULLA_OK && (!connect_same(&content, choice->content.data, choice->content.length) ||
                             !connect_same(&reasoning, choice->reasoning.data, choice->reasoning.length) ||
                             output.calls != choice->call_count))
        code = fail_item(problem);
    buffer_free(&output.content);
    buffer_free(&output.reasoning);
    return code;
}

int connect_read_response(struct connect_check *check, const struct json *response, struct connect_problem *problem)
{
    const struct json *model = json_get(response, "model"), *error = json_get(response, "error");
    const struct buffer *finish = &check->choices[0].finish;
    int is_cut = finish->length > 0 && strcmp((const char *)finish->data, "length") == 0;
    int is_filtered = finish->length > 0 && strcmp((const char *)finish->data, "content_filter") == 0;
    if (!json_is(response, JSON_OBJECT) || !json_is(model, JSON_STRING) || model->length >= sizeof check->model ||
        (error && !json_is(error, JSON_NULL)))
        return connect_fail(problem, "answer.json", "the response is none, or names no model");
    snprintf(check->model, sizeof check->model, "%s", model->text);
    if (connect_only(response, response_members, "answer.members", problem) != BULLA_OK)
        return BULLA_E_INPUT;
    if (!is_word(response, "status", is_cut || is_filtered ? "incomplete" : "completed"))
        return connect_fail(problem, "answer.text", "the response's status is not what its last step says");
    if (is_cut && !is_word(json_get(response, "incomplete_details"), "reason", "max_output_tokens"))
        return connect_fail(problem, "answer.text", "the response does not say why it is incomplete as its last step does");
    if (connect_take_usage(check, json_get(response, "usage"), "input_tokens", "output_tokens", problem) != BULLA_OK)
        return BULLA_E_INPUT;
    return compare_output(check, json_get(response, "output"), problem);
}
