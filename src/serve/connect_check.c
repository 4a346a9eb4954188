#include "serve/connect_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"

static const char *const part_names[CONNECT_PARTS] = {
    [RECEIPT_CONTENT] = "content", [RECEIPT_REASONING] = "reasoning", [RECEIPT_TOOL_CALL] = "tool_call",
    [RECEIPT_ARGUMENTS] = "arguments", [RECEIPT_FINISH] = "finish"};

/* What a server says reaches terminals. */
static void clean(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = '?';
}

int connect_fail(struct connect_problem *problem, const char *check, const char *format, ...)
{
    va_list arguments;
    if (problem->check[0])
        return BULLA_E_INPUT;
    snprintf(problem->check, sizeof problem->check, "%s", check);
    va_start(arguments, format);
    vsnprintf(problem->text, sizeof problem->text, format, arguments);
    va_end(arguments);
    clean(problem->check);
    clean(problem->text);
    return BULLA_E_INPUT;
}

static int fail_error(struct connect_problem *problem, const bulla_error *error)
{
    return connect_fail(problem, error->code == BULLA_E_MEMORY ? "memory" : "answer.json", "%s", error->text);
}

/* ---- Its life ---- */

int connect_check_open(const struct connect_asked *asked, const char *id, const char *salt, struct connect_check **result,
                       struct connect_problem *problem)
{
    uint8_t bytes[RECEIPT_ID];
    struct connect_check *check = memory_alloc(1, sizeof *check, NULL);
    *result = NULL;
    if (!check)
        return connect_fail(problem, "memory", "memory is short");
    check->asked = *asked;
    int is_read = id && salt && hex_decode(id, strlen(id), bytes, sizeof bytes) &&
                  hex_decode(salt, strlen(salt), check->salt, sizeof check->salt);
    if (!is_read) {
        connect_check_close(check);
        return connect_fail(problem, "answer.headers", "the answer came without the headers x-bulla-receipt-id and "
                                                       "x-bulla-receipt-salt: it will have no receipt");
    }
    hex_encode(bytes, sizeof bytes, check->id);
    hex_encode(check->salt, sizeof check->salt, check->salt_text);
    *result = check;
    return BULLA_OK;
}

static void free_choice(struct connect_choice *choice)
{
    for (size_t i = 0; i < choice->call_count; i++) {
        buffer_free(&choice->calls[i].name);
        buffer_free(&choice->calls[i].id);
        buffer_free(&choice->calls[i].arguments);
    }
    memory_free(choice->calls);
    buffer_free(&choice->content);
    buffer_free(&choice->reasoning);
    buffer_free(&choice->finish);
    buffer_free(&choice->steps);
}

void connect_check_close(struct connect_check *check)
{
    if (!check)
        return;
    for (size_t i = 0; i < check->choice_count; i++)
        free_choice(&check->choices[i]);
    for (size_t i = 0; i < CONNECT_PARTS; i++)
        buffer_free(&check->scratch[i]);
    memory_free(check->choices);
    memory_free(check->items);
    arena_free(&check->arena);
    memory_free(check);
}

const char *connect_check_type(const struct connect_check *check)
{
    return check->asked.form == CONNECT_RESPONSE && check->type[0] ? check->type : NULL;
}

/* ---- Reading ---- */

int connect_read_text(const struct json *object, const char *key, const char *check, struct connect_text *text,
                      struct connect_problem *problem)
{
    const struct json *value = json_get(object, key);
    *text = (struct connect_text){0};
    if (!value || json_is(value, JSON_NULL))
        return BULLA_OK;
    if (!json_is(value, JSON_STRING))
        return connect_fail(problem, check, "\"%s\" of the answer is no text", key);
    *text = (struct connect_text){value->text, value->length};
    return BULLA_OK;
}

int connect_is_empty(const struct json *value)
{
    return json_is(value, JSON_NULL) || json_is(value, JSON_FALSE) ||
           (!json_is(value, JSON_TRUE) && !json_is(value, JSON_NUMBER) && value->length == 0);
}

int connect_only(const struct json *object, const char *const *names, const char *check, struct connect_problem *problem)
{
    if (!json_is(object, JSON_OBJECT))
        return connect_fail(problem, check, "a part of the answer is no object");
    for (size_t i = 0; i < object->length; i++) {
        const char *const *name = names;
        while (*name && (strlen(*name) != object->key_lengths[i] || memcmp(*name, object->keys[i], object->key_lengths[i]) != 0))
            name++;
        if (!*name && !connect_is_empty(object->items[i]))
            return connect_fail(problem, check, "the answer has \"%.100s\", which no receipt covers", object->keys[i]);
    }
    return BULLA_OK;
}

int connect_same(const struct connect_text *text, const void *bytes, size_t length)
{
    return text->length == length && (length == 0 || memcmp(text->bytes, bytes, length) == 0);
}

void connect_join(struct buffer *out, const struct connect_text *first, const struct connect_text *second)
{
    buffer_clear(out);
    buffer_append(out, first->bytes, first->length);
    buffer_append_byte(out, 0);
    buffer_append(out, second->bytes, second->length);
}

struct connect_choice *connect_choice(struct connect_check *check, uint64_t index, struct connect_problem *problem)
{
    bulla_error error = {0};
    if (index >= RECEIPT_MOST_CHOICES) {
        connect_fail(problem, "answer.choice", "the answer has a choice of the number %" PRIu64 ", at most %d are taken", index,
                     RECEIPT_MOST_CHOICES - 1);
        return NULL;
    }
    if (index >= check->choice_count) {
        struct connect_choice *more = memory_resize(check->choices, (size_t)index + 1, sizeof *more, NULL);
        if (!more) {
            connect_fail(problem, "memory", "memory is short");
            return NULL;
        }
        memset(more + check->choice_count, 0, ((size_t)index + 1 - check->choice_count) * sizeof *more);
        check->choices = more;
        check->choice_count = (size_t)index + 1;
    }
    struct connect_choice *choice = &check->choices[index];
    if (choice->is_there)
        return choice;
    if (receipt_chain_start(check->salt, (uint32_t)index, choice->chain, &error) != BULLA_OK) {
        fail_error(problem, &error);
        return NULL;
    }
    choice->is_there = 1;
    return choice;
}

int connect_take_usage(struct connect_check *check, const struct json *usage, const char *input, const char *output,
                       struct connect_problem *problem)
{
    const struct json *prompt = json_get(usage, input), *tokens = json_get(usage, output);
    if (!usage || json_is(usage, JSON_NULL))
        return BULLA_OK;
    if (!json_is(prompt, JSON_NUMBER) || !json_is(tokens, JSON_NUMBER) || !prompt->is_integer || !tokens->is_integer ||
        prompt->integer < 0 || tokens->integer < 0)
        return connect_fail(problem, "answer.usage", "the answer's usage does not have its numbers of tokens");
    check->prompt_tokens = (uint64_t)prompt->integer;
    check->output_tokens = (uint64_t)tokens->integer;
    check->has_usage = 1;
    return BULLA_OK;
}

/* ---- Steps ---- */

static struct connect_call *add_call(struct connect_choice *choice, struct connect_problem *problem)
{
    if (choice->call_count == CONNECT_MOST_CALLS) {
        connect_fail(problem, "answer.calls", "the answer has more than %d calls", CONNECT_MOST_CALLS);
        return NULL;
    }
    if (choice->call_count == choice->call_room) {
        size_t room = choice->call_room ? 2 * choice->call_room : 4;
        struct connect_call *calls = memory_resize(choice->calls, room, sizeof *calls, NULL);
        if (!calls) {
            connect_fail(problem, "memory", "memory is short");
            return NULL;
        }
        choice->calls = calls;
        choice->call_room = room;
    }
    choice->current = choice->call_count++;
    choice->calls[choice->current] = (struct connect_call){0};
    return &choice->calls[choice->current];
}

/* "\0\0N": goes on with call N. 0 where it is not that. */
static int read_switch(const struct connect_text *text, size_t *call)
{
    if (text->length < 3 || text->length > 2 + 4 || text->bytes[0] || text->bytes[1] || (text->bytes[2] == '0' && text->length > 3))
        return 0;
    *call = 0;
    for (size_t i = 2; i < text->length; i++) {
        if (text->bytes[i] < '0' || text->bytes[i] > '9')
            return 0;
        *call = *call * 10 + (size_t)(text->bytes[i] - '0');
    }
    return 1;
}

static int take_call(struct connect_choice *choice, const struct connect_text *text, struct connect_problem *problem)
{
    size_t number;
    const char *zero = text->length ? memchr(text->bytes, 0, text->length) : NULL;
    if (read_switch(text, &number)) {
        if (number >= choice->call_count)
            return connect_fail(problem, "answer.calls", "a step goes on with call %zu, and only %zu have begun", number,
                                choice->call_count);
        choice->current = number;
        return BULLA_OK;
    }
    if (!zero)
        return connect_fail(problem, "answer.calls", "a step that begins a call does not have its name and id");
    struct connect_call *call = add_call(choice, problem);
    if (!call)
        return BULLA_E_INPUT;
    buffer_append(&call->name, text->bytes, (size_t)(zero - text->bytes));
    buffer_append(&call->id, zero + 1, text->length - (size_t)(zero - text->bytes) - 1);
    return BULLA_OK;
}

/* Ids of a step; NULL and a problem where they are not that. `ids` of no step: none. */
static int read_ids(const struct json *list, uint32_t **ids, size_t *count, struct connect_problem *problem)
{
    *ids = NULL;
    *count = 0;
    if (!list)
        return BULLA_OK;
    if (!json_is(list, JSON_ARRAY))
        return connect_fail(problem, "answer.steps", "the ids of a step are no list");
    *ids = memory_alloc(list->length, sizeof **ids, NULL);
    if (!*ids)
        return connect_fail(problem, "memory", "memory is short");
    for (size_t i = 0; i < list->length; i++) {
        const struct json *id = list->items[i];
        if (!json_is(id, JSON_NUMBER) || !id->is_integer || id->integer < 0 || id->integer > UINT32_MAX)
            return connect_fail(problem, "answer.steps", "an id of a step is no token's");
        (*ids)[i] = (uint32_t)id->integer;
    }
    *count = list->length;
    return BULLA_OK;
}

/* As the transcript has it. */
static void write_step(struct buffer *out, enum receipt_part part, const uint32_t *ids, size_t count,
                       const struct connect_text *text)
{
    if (out->length)
        buffer_append_byte(out, ',');
    buffer_append_text(out, "{\"ids\":[");
    for (size_t i = 0; i < count; i++)
        buffer_append_format(out, i ? ",%" PRIu32 : "%" PRIu32, ids[i]);
    buffer_append_format(out, "],\"part\":\"%s\",\"text\":", part_names[part]);
    json_write_string(out, text->bytes, text->length);
    buffer_append_byte(out, '}');
}

/* What the step delivers joins what came before it. */
static int gather(struct connect_choice *choice, enum receipt_part part, const struct connect_text *text,
                  struct connect_problem *problem)
{
    struct buffer *to = part == RECEIPT_CONTENT     ? &choice->content
                        : part == RECEIPT_REASONING ? &choice->reasoning
                                                    : &choice->finish;
    if (choice->has_finished)
        return connect_fail(problem, "answer.steps", "a step comes after the choice's finish");
    if (part == RECEIPT_TOOL_CALL)
        return take_call(choice, text, problem);
    if (part == RECEIPT_ARGUMENTS && choice->call_count == 0)
        return connect_fail(problem, "answer.calls", "arguments come before any call has begun");
    if (part == RECEIPT_ARGUMENTS)
        to = &choice->calls[choice->current].arguments;
    choice->has_finished |= part == RECEIPT_FINISH;
    buffer_append(to, text->bytes, text->length);
    return to->error.code == BULLA_OK ? BULLA_OK : fail_error(problem, &to->error);
}

static enum receipt_part find_part(const struct json *name)
{
    for (int part = RECEIPT_CONTENT; part <= RECEIPT_FINISH; part++)
        if (json_is_text(name, part_names[part]))
            return (enum receipt_part)part;
    return 0;
}

/* One step whose bytes are known. */
static int take_step(struct connect_check *check, struct connect_choice *choice, enum receipt_part part,
                     const struct json *list, const struct connect_text *text, struct connect_problem *problem)
{
    uint32_t *ids;
    size_t count, before = choice->steps.length;
    bulla_error error = {0};
    int code = read_ids(list, &ids, &count, problem);
    if (code == BULLA_OK)
        code = gather(choice, part, text, problem);
    if (code == BULLA_OK && receipt_chain_step(choice->chain, part, ids, count, text->bytes, text->length, &error) != BULLA_OK)
        code = fail_error(problem, &error);
    if (code == BULLA_OK)
        write_step(&choice->steps, part, ids, count, text);
    if (code == BULLA_OK && choice->steps.error.code != BULLA_OK)
        code = fail_error(problem, &choice->steps.error);
    check->gathered += text->length + choice->steps.length - before;
    if (code == BULLA_OK && check->gathered > CONNECT_MOST_GATHERED)
        code = connect_fail(problem, "answer.length", "the answer is longer than the %d MiB that are gathered of one for its "
                                                      "receipt", CONNECT_MOST_GATHERED >> 20);
    choice->tokens += count;
    memory_free(ids);
    return code;
}

/* The step's bytes: its own text, or what the event delivers of that part, which must be the same where both are there. */
static int find_text(const struct connect_check *check, const struct json *step, enum receipt_part part,
                     const struct connect_delivered *delivered, struct connect_text *text, struct connect_problem *problem)
{
    const struct connect_text *own = &delivered->parts[part];
    size_t call;
    if (connect_read_text(step, "text", "answer.steps", text, problem) != BULLA_OK)
        return BULLA_E_INPUT;
    if (!text->bytes && !own->bytes)
        return connect_fail(problem, "answer.text", "a step delivers %s that the event does not have", part_names[part]);
    if (own->bytes && part == RECEIPT_TOOL_CALL && read_switch(own, &call))
        return connect_fail(problem, "answer.calls", "a call has no name, and an id that none can have");
    if (own->bytes && (!text->bytes || connect_same(own, text->bytes, text->length))) {
        *text = *own;
        return BULLA_OK;
    }
    if (!own->bytes && part == RECEIPT_TOOL_CALL && read_switch(text, &call))
        return BULLA_OK;
    if (!own->bytes && part == RECEIPT_FINISH && check->asked.form == CONNECT_RESPONSE)
        return BULLA_OK;
    return connect_fail(problem, "answer.text", "the text of a step is not the %s that the event has", part_names[part]);
}

/* Pieces of a call belong to the call that the event names. */
static int check_call(const struct connect_choice *choice, enum receipt_part part, const struct connect_delivered *delivered,
                      struct connect_problem *problem)
{
    int is_call = part == RECEIPT_ARGUMENTS || (part == RECEIPT_TOOL_CALL && delivered->parts[part].bytes);
    if (is_call && choice->current != delivered->call)
        return connect_fail(problem, "answer.calls", "the event is of call %zu, its step of call %zu", delivered->call,
                            choice->current);
    return BULLA_OK;
}

int connect_take_steps(struct connect_check *check, const struct json *bulla, const struct connect_delivered *delivered,
                       struct connect_problem *problem)
{
    const struct json *steps = json_get(bulla, "steps"), *number = json_get(bulla, "choice"), *chain = json_get(bulla, "chain");
    unsigned used = 0;
    char hex[2 * RECEIPT_HASH + 1];
    if (json_is(json_get(bulla, "verified"), JSON_FALSE))
        return connect_fail(problem, "answer.verified", "the server says itself that nothing verified the engine that answers");
    if (steps && (!json_is(steps, JSON_ARRAY) || !json_is(number, JSON_NUMBER) || !number->is_integer ||
                  number->integer != (int64_t)delivered->choice))
        return connect_fail(problem, "answer.steps", "the event's steps are of another choice than what it delivers");
    struct connect_choice *choice = steps ? connect_choice(check, delivered->choice, problem) : NULL;
    if (steps && !choice)
        return BULLA_E_INPUT;
    for (size_t i = 0; choice && i < steps->length; i++) {
        const struct json *step = steps->items[i];
        enum receipt_part part = find_part(json_get(step, "part"));
        struct connect_text text;
        if (!part || used & 1u << part)
            return connect_fail(problem, "answer.steps", "an event has a step of an unknown part, or two of one");
        used |= 1u << part;
        if (find_text(check, step, part, delivered, &text, problem) != BULLA_OK ||
            take_step(check, choice, part, json_get(step, "ids"), &text, problem) != BULLA_OK ||
            check_call(choice, part, delivered, problem) != BULLA_OK)
            return BULLA_E_INPUT;
    }
    for (int part = RECEIPT_CONTENT; part <= RECEIPT_FINISH; part++)
        if (delivered->parts[part].bytes && !(used & 1u << part))
            return connect_fail(problem, "answer.text", "the event delivers %s of which no step tells", part_names[part]);
    if (!choice)
        return BULLA_OK;
    hex_encode(choice->chain, RECEIPT_HASH, hex);
    if (!json_is_text(chain, hex))
        return connect_fail(problem, "answer.chain", "the running value of the hash chain is not that of what came");
    return BULLA_OK;
}

/* Of a whole body: each choice's steps, with their texts. */
static int take_choices(struct connect_check *check, const struct json *list, struct connect_problem *problem)
{
    if (!json_is(list, JSON_ARRAY) || list->length == 0)
        return connect_fail(problem, "answer.steps", "the answer has no steps by choice");
    for (size_t i = 0; i < list->length; i++) {
        const struct json *steps = json_get(list->items[i], "steps");
        struct connect_choice *choice = connect_choice(check, i, problem);
        if (!choice || !json_is(steps, JSON_ARRAY))
            return connect_fail(problem, "answer.steps", "a choice of the answer has no list of steps");
        for (size_t j = 0; j < steps->length; j++) {
            const struct json *step = steps->items[j];
            enum receipt_part part = find_part(json_get(step, "part"));
            struct connect_text text;
            if (connect_read_text(step, "text", "answer.steps", &text, problem) != BULLA_OK || !part || !text.bytes)
                return connect_fail(problem, "answer.steps", "a step has no known part, or no text");
            if (take_step(check, choice, part, json_get(step, "ids"), &text, problem) != BULLA_OK)
                return BULLA_E_INPUT;
        }
    }
    return BULLA_OK;
}

/* ---- Events ---- */

/* The object without the members that were added for checking, and without its end. */
static int write_rest(const struct json *event, struct buffer *out, struct connect_problem *problem)
{
    struct json *items[CONNECT_MOST_MEMBERS];
    const char *keys[CONNECT_MOST_MEMBERS];
    size_t lengths[CONNECT_MOST_MEMBERS], count = 0;
    if (!json_is(event, JSON_OBJECT) || event->length > CONNECT_MOST_MEMBERS)
        return connect_fail(problem, "answer.json", "an event is no object of at most %d members", CONNECT_MOST_MEMBERS);
    for (size_t i = 0; i < event->length; i++) {
        if (strcmp(event->keys[i], "bulla") == 0 || strcmp(event->keys[i], "bulla_receipt") == 0)
            continue;
        items[count] = event->items[i];
        keys[count] = event->keys[i];
        lengths[count++] = event->key_lengths[i];
    }
    struct json rest = {.type = JSON_OBJECT, .length = count, .items = items, .keys = keys, .key_lengths = lengths};
    json_write(out, &rest);
    buffer_cut(out, out->length ? out->length - 1 : 0);
    if (count == 0)
        return connect_fail(problem, "answer.json", "an event has no member of its own");
    return out->error.code == BULLA_OK ? BULLA_OK : fail_error(problem, &out->error);
}

/* The error in an event, with a message that a client shows; NULL: it is none, whatever it calls itself. */
static const struct json *find_error(const struct connect_check *check, const struct json *event)
{
    const struct json *error = json_get(event, "error");
    if (check->asked.form == CONNECT_RESPONSE && strcmp(check->type, "error") == 0)
        error = event;
    if (check->asked.form == CONNECT_RESPONSE && strcmp(check->type, "response.failed") == 0)
        error = json_get(json_get(event, "response"), "error");
    const struct json *message = json_get(error, "message");
    return json_is(message, JSON_STRING) && message->length > 0 ? error : NULL;
}

/* An event of the error alone: nothing else of a stream that failed reaches the client. */
static void write_error(struct connect_check *check, const struct json *error, struct buffer *out)
{
    static const char *const members[] = {"message", "type", "code", "param"};
    int is_response = check->asked.form == CONNECT_RESPONSE;
    buffer_clear(out);
    buffer_append_text(out, is_response ? "{\"type\":\"error\"" : "{\"error\":{");
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        const struct json *value = json_get(error, members[i]);
        if (is_response && strcmp(members[i], "type") == 0)
            continue;
        buffer_append_format(out, "%s\"%s\":", i || is_response ? "," : "", members[i]);
        if (json_is(value, JSON_STRING))
            json_write(out, value);
        else
            buffer_append_text(out, "null");
    }
    buffer_append_text(out, is_response ? "}" : "}}");
    snprintf(check->type, sizeof check->type, "error");
}

/* Keeps the document, which is of the arena that becomes the check's. */
static void keep_document(struct connect_check *check, const struct json *document, struct arena *arena)
{
    check->document = document;
    check->has_receipt = 1;
    check->arena = *arena;
    *arena = (struct arena){0};
}

static int take_event(struct connect_check *check, const struct json *event, struct buffer *out, enum connect_event *what,
                      struct connect_problem *problem)
{
    struct connect_delivered delivered = {0};
    const struct json *type = json_get(event, "type");
    check->type[0] = 0;
    if (json_is(type, JSON_STRING) && strlen(type->text) == type->length)
        snprintf(check->type, sizeof check->type, "%s", type->text);
    int code = write_rest(event, out, problem);
    const struct json *error = find_error(check, event);
    if (code == BULLA_OK && error) {
        write_error(check, error, out);
        *what = CONNECT_FAILED;
        return BULLA_OK;
    }
    if (code == BULLA_OK)
        code = check->asked.form == CONNECT_RESPONSE ? connect_read_item(check, event, &delivered, problem)
                                                     : connect_read_chunk(check, event, &delivered, problem);
    if (code == BULLA_OK)
        code = connect_take_steps(check, json_get(event, "bulla"), &delivered, problem);
    *what = json_get(event, "bulla_receipt") ? CONNECT_LAST : CONNECT_PASS;
    if (*what == CONNECT_PASS)
        buffer_append_byte(out, '}');
    return code;
}

int connect_check_event(struct connect_check *check, const char *data, size_t length, struct buffer *out,
                        enum connect_event *what, struct connect_problem *problem)
{
    struct arena arena = {0};
    bulla_error error = {0};
    buffer_clear(out);
    if (check->is_done || (check->has_receipt && !(length == 6 && memcmp(data, "[DONE]", 6) == 0)))
        return connect_fail(problem, "answer.end", "an event comes after the last one");
    if (length == 6 && memcmp(data, "[DONE]", 6) == 0) {
        check->is_done = 1;
        *what = CONNECT_DONE;
        return check->has_receipt ? BULLA_OK
                                  : connect_fail(problem, "answer.receipt", "the answer ended without its receipt");
    }
    const struct json *event = json_parse(data, length, "an event of the answer", &arena, &error);
    int code = event ? take_event(check, event, out, what, problem) : fail_error(problem, &error);
    if (code == BULLA_OK && *what == CONNECT_LAST)
        keep_document(check, json_get(event, "bulla_receipt"), &arena);
    if (code == BULLA_OK && out->error.code != BULLA_OK)
        code = fail_error(problem, &out->error);
    arena_free(&arena);
    return code;
}

int connect_check_whole(struct connect_check *check, const char *body, size_t length, struct buffer *out,
                        struct connect_problem *problem)
{
    struct arena arena = {0};
    bulla_error error = {0};
    buffer_clear(out);
    const struct json *value = json_parse(body, length, "the answer", &arena, &error), *bulla = json_get(value, "bulla");
    int code = value ? write_rest(value, out, problem) : fail_error(problem, &error);
    if (code == BULLA_OK && json_is(json_get(bulla, "verified"), JSON_FALSE))
        code = connect_fail(problem, "answer.verified", "the server says itself that nothing verified the engine that answers");
    if (code == BULLA_OK)
        code = take_choices(check, json_get(bulla, "choices"), problem);
    if (code == BULLA_OK)
        code = check->asked.form == CONNECT_RESPONSE ? connect_read_response(check, value, problem)
                                                     : connect_read_body(check, value, problem);
    if (code == BULLA_OK && !json_get(value, "bulla_receipt"))
        code = connect_fail(problem, "answer.receipt", "the answer has no receipt");
    if (code == BULLA_OK)
        keep_document(check, json_get(value, "bulla_receipt"), &arena);
    arena_free(&arena);
    return code;
}

int connect_check_ended(const struct connect_check *check)
{
    return check->has_receipt && (check->is_done || check->asked.form == CONNECT_RESPONSE);
}

void connect_check_seal(struct buffer *out, const char *path)
{
    buffer_append_text(out, ",\"bulla\":{");
    if (path) {
        buffer_append_text(out, "\"receipt\":");
        json_write_string(out, path, strlen(path));
        buffer_append_byte(out, ',');
    }
    buffer_append_text(out, "\"verified\":true}}");
}

/* ---- What is kept ---- */

const struct receipt *connect_check_get(const struct connect_check *check)
{
    return &check->receipt;
}

const uint8_t *connect_check_leaf(const struct connect_check *check)
{
    return check->leaf;
}

const struct json *connect_check_log(const struct connect_check *check)
{
    return json_get(check->document, "log");
}

static void write_transcript(const struct connect_check *check, struct buffer *out)
{
    buffer_append_text(out, ",\"transcript\":{\"choices\":[");
    for (size_t i = 0; i < check->receipt.choice_count; i++) {
        buffer_append_text(out, i ? ",{\"steps\":[" : "{\"steps\":[");
        buffer_append(out, check->choices[i].steps.data, check->choices[i].steps.length);
        buffer_append_text(out, "]}");
    }
    buffer_append_text(out, "],\"request\":\"");
    base64_append(out, check->asked.body, check->asked.length);
    buffer_append_format(out, "\",\"salt\":\"%s\"}", check->salt_text);
}

void connect_check_write(const struct connect_check *check, const char *evidence, size_t length, int with_transcript,
                         struct buffer *out)
{
    const struct json *log = connect_check_log(check);
    buffer_append_format(out, "{\"bulla_receipt\":%d", RECEIPT_VERSION);
    if (evidence) {
        buffer_append_text(out, ",\"evidence\":");
        buffer_append(out, evidence, length);
    }
    if (log) {
        buffer_append_text(out, ",\"log\":");
        json_write_canonical(out, log);
    }
    buffer_append_text(out, ",\"signed\":");
    json_write_canonical(out, json_get(check->document, "signed"));
    if (with_transcript)
        write_transcript(check, out);
    buffer_append_text(out, "}\n");
}
