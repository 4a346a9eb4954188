/* /v1/responses: response objects, and streams of typed events. An answer is a list of items (reasoning, a message,
 * calls of functions); the same items are gathered for whole answers and told as they grow in streams. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "serve/api_answer.h"
#include "trust/receipt.h"

enum item_kind { ITEM_REASONING, ITEM_MESSAGE, ITEM_CALL };

struct item {
    enum item_kind kind;
    int is_open;
    int32_t tool;           /* ITEM_CALL: its number */
    char id[48];
    char *call_id, *name;   /* ITEM_CALL */
    struct buffer text;     /* or arguments */
    struct buffer logprobs; /* ITEM_MESSAGE */
};

struct response_state {
    struct item *items;
    size_t count, room;
    uint64_t sequence;
    struct buffer fixed; /* members of the response that repeat the request: ,"instructions":... */
};

static void write_key(struct buffer *out, const char *key)
{
    buffer_append_text(out, ",\"");
    buffer_append_text(out, key);
    buffer_append_text(out, "\":");
}

static void write_member(struct buffer *out, const struct json *body, const char *key, const char *otherwise)
{
    const struct json *value = field_find(body, key);
    write_key(out, key);
    if (value)
        json_write(out, value);
    else
        buffer_append_text(out, otherwise);
}

/* What is in force of the request, not what it asked for. */
static void write_options(const struct answer_request *request, const struct json *body, struct buffer *out)
{
    write_key(out, "max_output_tokens");
    if (request->max_tokens)
        api_write_number(out, request->max_tokens);
    else
        buffer_append_text(out, "null");
    write_key(out, "parallel_tool_calls");
    buffer_append_text(out, request->parallel_tool_calls ? "true" : "false");
    write_key(out, "reasoning");
    buffer_append_text(out, "{\"effort\":");
    api_write_text_or_null(out, request->reasoning_effort);
    buffer_append_text(out, ",\"summary\":null},\"text\":{\"format\":");
    const struct json *format = field_find(field_find(body, "text"), "format");
    if (format)
        json_write(out, format);
    else
        buffer_append_text(out, "{\"type\":\"text\"}");
    buffer_append_byte(out, '}');
    write_key(out, "top_logprobs");
    api_write_number(out, request->logprobs > 0 ? (uint64_t)request->logprobs : 0);
    write_key(out, "temperature");
    api_write_real(out, (double)request->sampling.temperature / 1e6, 9);
    write_key(out, "top_p");
    api_write_real(out, (double)request->sampling.top_p / 1e6, 9);
}

/* What stays the same in each copy of the response. */
static void write_fixed(struct api_answer *answer, struct buffer *out)
{
    const struct json *body = answer->request.body;
    static const char *const given[] = {"instructions", "max_tool_calls", "prompt_cache_key", "safety_identifier", "user"};
    write_key(out, "model");
    api_write_text(out, answer->model_name);
    for (size_t i = 0; i < sizeof given / sizeof given[0]; i++)
        write_member(out, body, given[i], "null");
    write_member(out, body, "metadata", "{}");
    write_member(out, body, "tool_choice", "\"auto\"");
    write_member(out, body, "tools", "[]");
    write_options(&answer->request.answer, body, out);
    buffer_append_text(out, ",\"truncation\":\"disabled\",\"background\":false,\"store\":false,"
                            "\"previous_response_id\":null,\"service_tier\":\"default\"");
}

static int open_response(struct api_answer *answer, struct answer_error *problem)
{
    bulla_error error = {0};
    struct response_state *state = memory_alloc(1, sizeof *state, &error);
    answer->state = state;
    if (state) {
        write_fixed(answer, &state->fixed);
        answer_gather(answer, state->fixed.length);
        error = state->fixed.error;
    }
    if (error.code == BULLA_OK)
        return BULLA_OK;
    struct field_reader reader = {&answer->request.json, problem};
    return field_fail_error(&reader, NULL, &error);
}

static void close_response(struct api_answer *answer)
{
    struct response_state *state = answer->state;
    if (!state)
        return;
    for (size_t i = 0; i < state->count; i++) {
        memory_free(state->items[i].call_id);
        memory_free(state->items[i].name);
        buffer_free(&state->items[i].text);
        buffer_free(&state->items[i].logprobs);
    }
    memory_free(state->items);
    buffer_free(&state->fixed);
    memory_free(state);
}

/* {"type":"output_text",...} or {"type":"reasoning_text",...}; `is_empty`: as it begins. */
static void write_part(struct buffer *out, const struct item *item, int is_empty)
{
    int is_message = item->kind == ITEM_MESSAGE;
    buffer_append_text(out, is_message ? "{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":["
                                       : "{\"type\":\"reasoning_text\",\"text\":");
    if (is_message) {
        if (!is_empty)
            buffer_append(out, item->logprobs.data, item->logprobs.length);
        buffer_append_text(out, "],\"text\":");
    }
    json_write_string(out, (const char *)item->text.data, is_empty ? 0 : item->text.length);
    buffer_append_byte(out, '}');
}

/* An item; `is_empty`: as it begins, without what came since. */
static void write_item(struct buffer *out, const struct item *item, const char *status, int is_empty)
{
    static const char *const types[] = {[ITEM_REASONING] = "reasoning", [ITEM_MESSAGE] = "message",
                                        [ITEM_CALL] = "function_call"};
    buffer_append_text(out, "{\"id\":");
    api_write_text(out, item->id);
    buffer_append_text(out, ",\"type\":");
    api_write_text(out, types[item->kind]);
    buffer_append_text(out, ",\"status\":");
    api_write_text(out, status);
    if (item->kind == ITEM_CALL) {
        buffer_append_text(out, ",\"call_id\":");
        api_write_text(out, item->call_id);
        buffer_append_text(out, ",\"name\":");
        api_write_text(out, item->name);
        buffer_append_text(out, ",\"arguments\":");
        json_write_string(out, (const char *)item->text.data, is_empty ? 0 : item->text.length);
    } else {
        buffer_append_text(out, item->kind == ITEM_MESSAGE ? ",\"role\":\"assistant\",\"content\":["
                                                           : ",\"summary\":[],\"content\":[");
        if (!is_empty)
            write_part(out, item, 0);
        buffer_append_byte(out, ']');
    }
    buffer_append_byte(out, '}');
}

static void write_usage(struct buffer *out, const struct answer_usage *usage)
{
    buffer_append_text(out, "{\"input_tokens\":");
    api_write_number(out, usage->prompt_tokens);
    buffer_append_text(out, ",\"input_tokens_details\":{\"cached_tokens\":");
    api_write_number(out, usage->cached_tokens);
    buffer_append_text(out, ",\"cache_write_tokens\":0},\"output_tokens\":");
    api_write_number(out, usage->output_tokens);
    buffer_append_text(out, ",\"output_tokens_details\":{\"reasoning_tokens\":");
    api_write_number(out, usage->reasoning_tokens);
    buffer_append_text(out, "},\"total_tokens\":");
    api_write_number(out, usage->prompt_tokens + usage->output_tokens);
    buffer_append_byte(out, '}');
}

static void write_failure(struct buffer *out, const struct answer_error *problem)
{
    if (!problem) {
        buffer_append_text(out, "null");
        return;
    }
    buffer_append_text(out, "{\"code\":");
    api_write_text(out, problem->status == 429   ? "rate_limit_exceeded"
                        : problem->status == 400 ? "invalid_prompt"
                                                 : "server_error");
    buffer_append_text(out, ",\"message\":");
    api_write_text(out, problem->message);
    buffer_append_byte(out, '}');
}

/* Why an answer is not whole, or NULL. */
static const char *incomplete_reason(const struct api_answer *answer)
{
    const char *word = answer_finish_word(answer->choices[0].finish);
    if (!word)
        return NULL;
    return strcmp(word, "length") == 0           ? "max_output_tokens"
           : strcmp(word, "content_filter") == 0 ? "content_filter"
                                                 : NULL;
}

static void write_response(struct api_answer *answer, const char *status, const struct answer_error *problem)
{
    struct response_state *state = answer->state;
    struct buffer *out = &answer->out;
    int is_over = strcmp(status, "in_progress") != 0;
    const char *reason = is_over && !problem ? incomplete_reason(answer) : NULL;
    buffer_append_text(out, "{\"id\":");
    api_write_text(out, answer->id);
    buffer_append_text(out, ",\"object\":\"response\",\"created_at\":");
    api_write_number(out, answer->created);
    buffer_append_text(out, ",\"status\":");
    api_write_text(out, status);
    buffer_append_text(out, ",\"error\":");
    write_failure(out, problem);
    buffer_append_text(out, ",\"incomplete_details\":");
    if (reason) {
        buffer_append_text(out, "{\"reason\":");
        api_write_text(out, reason);
        buffer_append_byte(out, '}');
    } else {
        buffer_append_text(out, "null");
    }
    buffer_append_text(out, ",\"output\":[");
    for (size_t i = 0; i < state->count; i++) {
        if (i)
            buffer_append_byte(out, ',');
        write_item(out, state->items + i, reason || problem ? "incomplete" : "completed", 0);
    }
    buffer_append_text(out, "],\"usage\":");
    if (is_over)
        write_usage(out, &answer->usage);
    else
        buffer_append_text(out, "null");
    buffer_append(out, state->fixed.data, state->fixed.length);
    if (answer->request.is_stream)
        answer_write_marks(answer, out);
    else
        answer_write_whole_steps(answer, out);
    buffer_append_byte(out, '}');
}

/* event: T  data: {"type":"T","sequence_number":N  */
static void begin_event(struct api_answer *answer, const char *type)
{
    struct response_state *state = answer->state;
    struct buffer *out = &answer->out;
    buffer_append_text(out, "event: ");
    buffer_append_text(out, type);
    buffer_append_text(out, "\ndata: {\"type\":\"");
    buffer_append_text(out, type);
    buffer_append_text(out, "\",\"sequence_number\":");
    api_write_number(out, state->sequence++);
}

static void end_event(struct api_answer *answer)
{
    buffer_append_text(&answer->out, "}\n\n");
}

static void tell_response(struct api_answer *answer, const char *type, const char *status,
                          const struct answer_error *problem)
{
    begin_event(answer, type);
    buffer_append_text(&answer->out, ",\"response\":");
    write_response(answer, status, problem);
    if (!problem) { /* there is none before the end */
        answer_write_steps(answer, &answer->out, 1u << RECEIPT_FINISH, 0);
        answer_write_receipt(answer, &answer->out);
    }
    end_event(answer);
}

/* Events of an item name it and its place. */
static void begin_item_event(struct api_answer *answer, const struct item *item, const char *type)
{
    struct response_state *state = answer->state;
    begin_event(answer, type);
    buffer_append_text(&answer->out, ",\"output_index\":");
    api_write_number(&answer->out, (uint64_t)(item - state->items));
    buffer_append_text(&answer->out, ",\"item_id\":\"");
    buffer_append_text(&answer->out, item->id);
    buffer_append_text(&answer->out, item->kind == ITEM_CALL ? "\"" : "\",\"content_index\":0");
}

static void tell_item(struct api_answer *answer, const struct item *item, const char *type, const char *status,
                      int is_empty)
{
    struct response_state *state = answer->state;
    begin_event(answer, type);
    buffer_append_text(&answer->out, ",\"output_index\":");
    api_write_number(&answer->out, (uint64_t)(item - state->items));
    buffer_append_text(&answer->out, ",\"item\":");
    write_item(&answer->out, item, status, is_empty);
    if (item->kind == ITEM_CALL && is_empty)
        answer_write_steps(answer, &answer->out, 1u << RECEIPT_TOOL_CALL, 0);
    end_event(answer);
}

static void tell_part(struct api_answer *answer, const struct item *item, const char *type, int is_empty)
{
    begin_item_event(answer, item, type);
    buffer_append_text(&answer->out, ",\"part\":");
    write_part(&answer->out, item, is_empty);
    end_event(answer);
}

static void close_item(struct api_answer *answer, struct item *item, const char *status)
{
    static const char *const types[] = {[ITEM_REASONING] = "response.reasoning_text.done",
                                        [ITEM_MESSAGE] = "response.output_text.done",
                                        [ITEM_CALL] = "response.function_call_arguments.done"};
    struct buffer *out = &answer->out;
    if (!item->is_open)
        return;
    item->is_open = 0;
    if (!answer->request.is_stream)
        return;
    begin_item_event(answer, item, types[item->kind]);
    if (item->kind == ITEM_MESSAGE) {
        buffer_append_text(out, ",\"logprobs\":[");
        buffer_append(out, item->logprobs.data, item->logprobs.length);
        buffer_append_byte(out, ']');
    } else if (item->kind == ITEM_CALL) {
        buffer_append_text(out, ",\"name\":");
        api_write_text(out, item->name);
    }
    buffer_append_text(out, item->kind == ITEM_CALL ? ",\"arguments\":" : ",\"text\":");
    json_write_string(out, (const char *)item->text.data, item->text.length);
    end_event(answer);
    if (item->kind != ITEM_CALL)
        tell_part(answer, item, "response.content_part.done", 0);
    tell_item(answer, item, "response.output_item.done", status, 0);
}

static struct item *add_item(struct api_answer *answer, enum item_kind kind, const struct answer_delta *delta)
{
    static const char *const prefixes[] = {[ITEM_REASONING] = "rs_", [ITEM_MESSAGE] = "msg_", [ITEM_CALL] = "fc_"};
    struct response_state *state = answer->state;
    bulla_error *error = &answer->out.error;
    if (state->count == API_MOST_TOOL_CALLS) {
        bulla_fail(error, BULLA_E_LIMIT, "an answer has at most %d items", API_MOST_TOOL_CALLS);
        return NULL;
    }
    if (state->count == state->room) {
        size_t room = state->room ? 2 * state->room : 4;
        struct item *items = memory_resize(state->items, room, sizeof *items, error);
        if (!items)
            return NULL;
        state->items = items;
        state->room = room;
    }
    struct item *item = state->items + state->count;
    *item = (struct item){.kind = kind, .is_open = 1, .tool = -1};
    snprintf(item->id, sizeof item->id, "%s%.28s%04zx", prefixes[kind], answer->id + strlen("resp_"), state->count);
    if (kind == ITEM_CALL) {
        const char *id = delta->tool_id ? delta->tool_id : item->id, *name = delta->tool_name ? delta->tool_name : "";
        item->tool = delta->tool;
        item->call_id = memory_copy_text(id, strlen(id), error);
        item->name = memory_copy_text(name, strlen(name), error);
        if (!item->call_id || !item->name) {
            memory_free(item->call_id);
            memory_free(item->name);
            return NULL;
        }
    }
    state->count++;
    return item;
}

/* The item that a piece belongs to: the last one where it goes on, or a new one. Text ends with what comes
 * after it; calls end with the answer, since their pieces may come in turns. */
static struct item *find_item(struct api_answer *answer, enum item_kind kind, const struct answer_delta *delta)
{
    struct response_state *state = answer->state;
    for (size_t i = state->count; i > 0; i--) {
        struct item *item = state->items + i - 1;
        if (item->is_open && item->kind == kind && (kind != ITEM_CALL || item->tool == delta->tool))
            return item;
    }
    for (size_t i = 0; i < state->count; i++)
        if (state->items[i].kind != ITEM_CALL)
            close_item(answer, state->items + i, "completed");
    struct item *item = add_item(answer, kind, delta);
    if (!item || !answer->request.is_stream)
        return item;
    tell_item(answer, item, "response.output_item.added", "in_progress", 1);
    if (kind != ITEM_CALL)
        tell_part(answer, item, "response.content_part.added", 1);
    return item;
}

static void add_logprob(struct api_answer *answer, struct item *item, const struct answer_delta *delta)
{
    size_t before = item->logprobs.length;
    if (before)
        buffer_append_byte(&item->logprobs, ',');
    answer_write_logprob(&item->logprobs, delta);
    answer_gather(answer, item->logprobs.length - before);
    if (answer->request.is_stream)
        answer_write_logprob(&answer->out, delta);
}

/* One piece of an item, gathered and told. */
static void add_piece(struct api_answer *answer, enum item_kind kind, const struct answer_delta *delta, const char *text,
                      size_t length)
{
    static const char *const types[] = {[ITEM_REASONING] = "response.reasoning_text.delta",
                                        [ITEM_MESSAGE] = "response.output_text.delta",
                                        [ITEM_CALL] = "response.function_call_arguments.delta"};
    static const unsigned parts[] = {[ITEM_REASONING] = 1u << RECEIPT_REASONING, [ITEM_MESSAGE] = 1u << RECEIPT_CONTENT,
                                     [ITEM_CALL] = 1u << RECEIPT_TOOL_CALL | 1u << RECEIPT_ARGUMENTS};
    struct item *item = find_item(answer, kind, delta);
    if (!item)
        return;
    int is_told = answer->request.is_stream && (length > 0 || kind == ITEM_MESSAGE);
    buffer_append(&item->text, text, length);
    answer_gather(answer, length);
    if (is_told) {
        begin_item_event(answer, item, types[kind]);
        buffer_append_text(&answer->out, ",\"delta\":");
        json_write_string(&answer->out, text, length);
    }
    if (kind == ITEM_MESSAGE) {
        if (is_told)
            buffer_append_text(&answer->out, ",\"logprobs\":[");
        if (delta->logprob)
            add_logprob(answer, item, delta);
        if (is_told)
            buffer_append_byte(&answer->out, ']');
    }
    if (is_told) {
        answer_write_steps(answer, &answer->out, parts[kind], 0);
        end_event(answer);
    }
    const bulla_error *error = item->text.error.code != BULLA_OK ? &item->text.error : &item->logprobs.error;
    if (error->code != BULLA_OK && answer->out.error.code == BULLA_OK)
        answer->out.error = *error;
}

static void on_delta(struct api_answer *answer, struct api_choice *choice, const struct answer_delta *delta)
{
    if (delta->reasoning_length)
        add_piece(answer, ITEM_REASONING, delta, delta->reasoning, delta->reasoning_length);
    int is_thinking = delta->reasoning_length > 0 || delta->tool >= 0; /* its logprobs belong to no message */
    if (delta->text_length || (delta->logprob && !is_thinking))
        add_piece(answer, ITEM_MESSAGE, delta, delta->text, delta->text_length);
    if (delta->tool >= 0)
        add_piece(answer, ITEM_CALL, delta, delta->arguments, delta->arguments_length);
}

static void begin_response(struct api_answer *answer)
{
    tell_response(answer, "response.created", "in_progress", NULL);
    tell_response(answer, "response.in_progress", "in_progress", NULL);
}

static void end_response(struct api_answer *answer)
{
    static const struct answer_delta nothing = {.tool = -1};
    struct response_state *state = answer->state;
    const char *status = incomplete_reason(answer) ? "incomplete" : "completed";
    if (state->count == 0)
        find_item(answer, ITEM_MESSAGE, &nothing);
    for (size_t i = 0; i < state->count; i++)
        close_item(answer, state->items + i, status);
    if (answer->request.is_stream)
        tell_response(answer, *status == 'i' ? "response.incomplete" : "response.completed", status, NULL);
    else
        write_response(answer, status, NULL);
}

static void fail_response(struct api_answer *answer, const struct answer_error *problem)
{
    tell_response(answer, "response.failed", "failed", problem);
}

const struct answer_form response_form = {
    .id_prefix = "resp_", .open = open_response, .begin = begin_response, .delta = on_delta, .end = end_response,
    .fail = fail_response, .close = close_response};
