/* /v1/chat/completions: chat.completion objects and their chunks. */
#include "serve/api_answer.h"

static int open_chat(struct api_answer *answer, struct answer_error *problem)
{
    int code = answer_open_chunks(answer, "chat.completion.chunk");
    if (code != BULLA_OK)
        *problem = (struct answer_error){.status = 503, .type = "server_error", .code = "out_of_memory",
                                         .message = "the server is short of memory", .retry_after = 1};
    return code;
}

/* One chunk's beginning, up to the members of its delta. */
static void begin_chunk(struct api_answer *answer, struct api_choice *choice)
{
    struct buffer *out = &answer->out;
    buffer_append(out, answer->head.data, answer->head.length);
    buffer_append_text(out, "{\"index\":");
    api_write_number(out, choice->index);
    buffer_append_text(out, ",\"delta\":{");
}

static void begin_choice(struct api_answer *answer, struct api_choice *choice)
{
    begin_chunk(answer, choice);
    buffer_append_text(&answer->out, "\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}");
    answer_end_chunk(answer, 0);
}

/* The first piece of a call names it. */
static void write_tool_piece(struct buffer *out, const struct answer_delta *delta)
{
    buffer_append_text(out, "\"tool_calls\":[{\"index\":");
    api_write_number(out, (uint64_t)delta->tool);
    if (delta->tool_id) {
        buffer_append_text(out, ",\"id\":");
        api_write_text(out, delta->tool_id);
        buffer_append_text(out, ",\"type\":\"function\"");
    }
    buffer_append_text(out, ",\"function\":{");
    if (delta->tool_name) {
        buffer_append_text(out, "\"name\":");
        api_write_text(out, delta->tool_name);
        buffer_append_byte(out, ',');
    }
    buffer_append_text(out, "\"arguments\":");
    json_write_string(out, delta->arguments, delta->arguments_length);
    buffer_append_text(out, "}}]");
}

static void write_piece(struct buffer *out, const char *key, const char *text, size_t length, int *has_members)
{
    if (length == 0)
        return;
    if (*has_members)
        buffer_append_byte(out, ',');
    buffer_append_text(out, key);
    json_write_string(out, text, length);
    *has_members = 1;
}

static void stream_delta(struct api_answer *answer, struct api_choice *choice, const struct answer_delta *delta)
{
    struct buffer *out = &answer->out;
    int has_members = 0;
    if (!delta->text_length && !delta->reasoning_length && delta->tool < 0 && !delta->logprob)
        return;
    begin_chunk(answer, choice);
    write_piece(out, "\"reasoning_content\":", delta->reasoning, delta->reasoning_length, &has_members);
    write_piece(out, "\"reasoning\":", delta->reasoning, delta->reasoning_length, &has_members); /* newer clients' name */
    write_piece(out, "\"content\":", delta->text, delta->text_length, &has_members);
    if (delta->tool >= 0) {
        if (has_members)
            buffer_append_byte(out, ',');
        write_tool_piece(out, delta);
        has_members = 1;
    }
    if (!has_members)
        buffer_append_text(out, "\"content\":\"\"");
    if (delta->logprob) {
        buffer_append_text(out, "},\"logprobs\":{\"content\":[");
        answer_write_logprob(out, delta);
        buffer_append_text(out, "],\"refusal\":null},\"finish_reason\":null}");
    } else {
        buffer_append_text(out, "},\"logprobs\":null,\"finish_reason\":null}");
    }
    answer_end_chunk(answer, 1);
}

static void gather_delta(struct api_answer *answer, struct api_choice *choice, const struct answer_delta *delta)
{
    buffer_append(&choice->text, delta->text, delta->text_length);
    buffer_append(&choice->reasoning, delta->reasoning, delta->reasoning_length);
    answer_gather(answer, delta->text_length + delta->reasoning_length + delta->arguments_length);
    if (delta->logprob) {
        size_t before = choice->lists[0].length;
        if (before)
            buffer_append_byte(choice->lists, ',');
        answer_write_logprob(choice->lists, delta);
        answer_gather(answer, choice->lists[0].length - before);
    }
    if (delta->tool < 0)
        return;
    struct api_tool *tool = answer_find_tool(choice, delta);
    if (!tool)
        return;
    buffer_append(&tool->arguments, delta->arguments, delta->arguments_length);
    if (tool->arguments.error.code != BULLA_OK)
        choice->text.error = tool->arguments.error;
}

static void on_delta(struct api_answer *answer, struct api_choice *choice, const struct answer_delta *delta)
{
    if (answer->request.is_stream)
        stream_delta(answer, choice, delta);
    else
        gather_delta(answer, choice, delta);
}

static void finish_choice(struct api_answer *answer, struct api_choice *choice)
{
    struct buffer *out = &answer->out;
    begin_chunk(answer, choice);
    buffer_append_text(out, "},\"logprobs\":null,\"finish_reason\":");
    api_write_text(out, answer_finish_word(choice->finish));
    answer_write_stop_reason(out, choice);
    buffer_append_byte(out, '}');
    answer_end_chunk(answer, 1);
}

static void write_calls(struct buffer *out, const struct api_choice *choice)
{
    buffer_append_text(out, ",\"tool_calls\":[");
    for (size_t i = 0; i < choice->tool_count; i++) {
        const struct api_tool *tool = choice->tools + i;
        buffer_append_text(out, i ? ",{\"id\":" : "{\"id\":");
        api_write_text(out, tool->id);
        buffer_append_text(out, ",\"type\":\"function\",\"function\":{\"name\":");
        api_write_text(out, tool->name);
        buffer_append_text(out, ",\"arguments\":");
        json_write_string(out, (const char *)tool->arguments.data, tool->arguments.length);
        buffer_append_text(out, "}}");
    }
    buffer_append_byte(out, ']');
}

static void write_choice(struct buffer *out, const struct api_answer *answer, const struct api_choice *choice)
{
    buffer_append_text(out, "{\"index\":");
    api_write_number(out, choice->index);
    buffer_append_text(out, ",\"message\":{\"role\":\"assistant\",\"content\":");
    if (choice->tool_count && !choice->text.length)
        buffer_append_text(out, "null");
    else
        json_write_string(out, (const char *)choice->text.data, choice->text.length);
    buffer_append_text(out, ",\"refusal\":null");
    if (choice->reasoning.length) {
        buffer_append_text(out, ",\"reasoning_content\":");
        json_write_string(out, (const char *)choice->reasoning.data, choice->reasoning.length);
        buffer_append_text(out, ",\"reasoning\":");
        json_write_string(out, (const char *)choice->reasoning.data, choice->reasoning.length);
    }
    if (choice->tool_count)
        write_calls(out, choice);
    buffer_append_text(out, "},\"logprobs\":");
    if (answer->request.answer.logprobs >= 0) {
        buffer_append_text(out, "{\"content\":[");
        buffer_append(out, choice->lists[0].data, choice->lists[0].length);
        buffer_append_text(out, "],\"refusal\":null}");
    } else {
        buffer_append_text(out, "null");
    }
    buffer_append_text(out, ",\"finish_reason\":");
    api_write_text(out, answer_finish_word(choice->finish));
    answer_write_stop_reason(out, choice);
    buffer_append_byte(out, '}');
}

static void end_chat(struct api_answer *answer)
{
    answer_write_end(answer, "chat.completion", write_choice);
}

const struct answer_form chat_form = {
    .id_prefix = "chatcmpl-", .open = open_chat, .begin_choice = begin_choice, .delta = on_delta, .finish = finish_choice, .end = end_chat,
    .fail = answer_fail_stream};
