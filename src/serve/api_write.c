/* Pieces of JSON that several routes write. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "serve/api_answer.h"

void api_write_number(struct buffer *out, uint64_t value)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    buffer_append(out, digits + at, sizeof digits - at);
}

void api_write_real(struct buffer *out, double value, int digits)
{
    if (!isfinite(value))
        value = value > 0 ? 9999 : -9999; /* as vLLM has it */
    buffer_append_format(out, "%.*g", digits, value);
}

void api_write_text(struct buffer *out, const char *text)
{
    json_write_string(out, text, strlen(text));
}

void api_write_text_or_null(struct buffer *out, const char *text)
{
    if (text)
        api_write_text(out, text);
    else
        buffer_append_text(out, "null");
}

void api_write_error(struct buffer *out, const struct answer_error *problem)
{
    buffer_append_text(out, "{\"error\":{\"message\":");
    api_write_text(out, problem->message);
    buffer_append_text(out, ",\"type\":");
    api_write_text(out, problem->type ? problem->type : "server_error");
    buffer_append_text(out, ",\"param\":");
    api_write_text_or_null(out, problem->param);
    buffer_append_text(out, ",\"code\":");
    api_write_text_or_null(out, problem->code);
    buffer_append_text(out, "}}");
}

const char *answer_finish_name(const char *reason)
{
    static const char *const names[] = {"stop", "length", "tool_calls", "content_filter", "range"};
    for (size_t i = 0; reason && i < sizeof names / sizeof names[0]; i++)
        if (strcmp(reason, names[i]) == 0)
            return names[i];
    return "stop";
}

const char *answer_finish_word(const char *reason)
{
    return reason && strcmp(reason, "range") == 0 ? "length" : reason;
}

const char *answer_stop_reason(const struct api_choice *choice)
{
    return choice->stop ? choice->stop : choice->finish && strcmp(choice->finish, "range") == 0 ? "range" : NULL;
}

void answer_write_stop_reason(struct buffer *out, const struct api_choice *choice)
{
    buffer_append_text(out, ",\"stop_reason\":");
    api_write_text_or_null(out, answer_stop_reason(choice));
}

void answer_write_usage(struct buffer *out, const struct answer_usage *usage)
{
    buffer_append_text(out, "{\"prompt_tokens\":");
    api_write_number(out, usage->prompt_tokens);
    buffer_append_text(out, ",\"completion_tokens\":");
    api_write_number(out, usage->output_tokens);
    buffer_append_text(out, ",\"total_tokens\":");
    api_write_number(out, usage->prompt_tokens + usage->output_tokens);
    buffer_append_text(out, ",\"prompt_tokens_details\":{\"cached_tokens\":");
    api_write_number(out, usage->cached_tokens);
    buffer_append_text(out, "},\"completion_tokens_details\":{\"reasoning_tokens\":");
    api_write_number(out, usage->reasoning_tokens);
    buffer_append_text(out, "}}");
}

/* "token":...,"logprob":...,"bytes":[...] */
static void write_token(struct buffer *out, const struct answer_logprob *token)
{
    buffer_append_text(out, "\"token\":");
    json_write_string(out, token->token, token->length);
    buffer_append_text(out, ",\"logprob\":");
    api_write_real(out, token->logprob, 9);
    buffer_append_text(out, ",\"bytes\":[");
    for (size_t i = 0; i < token->length; i++) {
        if (i)
            buffer_append_byte(out, ',');
        api_write_number(out, (unsigned char)token->token[i]);
    }
    buffer_append_byte(out, ']');
}

void answer_write_logprob(struct buffer *out, const struct answer_delta *delta)
{
    buffer_append_byte(out, '{');
    write_token(out, delta->logprob);
    buffer_append_text(out, ",\"top_logprobs\":[");
    for (size_t i = 0; i < delta->top_count; i++) {
        buffer_append_text(out, i ? ",{" : "{");
        write_token(out, delta->top + i);
        buffer_append_byte(out, '}');
    }
    buffer_append_text(out, "]}");
}

uint64_t answer_count_characters(const char *text, size_t length)
{
    uint64_t count = 0;
    for (size_t i = 0; i < length; i++)
        count += ((unsigned char)text[i] & 0xC0) != 0x80;
    return count;
}

void answer_write_head(struct api_answer *answer, struct buffer *out, const char *object)
{
    buffer_append_text(out, "{\"id\":");
    api_write_text(out, answer->id);
    buffer_append_text(out, ",\"object\":");
    api_write_text(out, object);
    buffer_append_text(out, ",\"created\":");
    api_write_number(out, answer->created);
    buffer_append_text(out, ",\"model\":");
    api_write_text(out, answer->model_name);
    buffer_append_text(out, ",\"system_fingerprint\":");
    api_write_text_or_null(out, *answer->fingerprint ? answer->fingerprint : NULL);
    buffer_append_text(out, ",\"choices\":[");
}

void answer_write_marks(struct api_answer *answer, struct buffer *out)
{
    if (!answer->info.is_verified)
        buffer_append_text(out, ",\"bulla\":{\"verified\":false}");
}

int answer_open_chunks(struct api_answer *answer, const char *object)
{
    if (!answer->request.is_stream)
        return BULLA_OK;
    buffer_append_text(&answer->head, "data: ");
    answer_write_head(answer, &answer->head, object);
    buffer_append_text(&answer->tail, "]");
    if (answer->request.includes_usage)
        buffer_append_text(&answer->tail, ",\"usage\":null");
    return answer->head.error.code != BULLA_OK ? answer->head.error.code : answer->tail.error.code;
}

void answer_end_chunk(struct api_answer *answer, int has_steps)
{
    struct buffer *out = &answer->out;
    buffer_append(out, answer->tail.data, answer->tail.length);
    answer_write_steps(answer, out, has_steps ? ~0u : 0, 1);
    answer_write_receipt(answer, out);
    buffer_append_text(out, "}\n\n");
}

static void end_stream(struct api_answer *answer)
{
    struct buffer *out = &answer->out;
    if (answer->request.includes_usage) {
        buffer_append(out, answer->head.data, answer->head.length);
        buffer_append_text(out, "],\"usage\":");
        answer_write_usage(out, &answer->usage);
        answer_write_marks(answer, out);
        answer_write_receipt(answer, out);
        buffer_append_text(out, "}\n\n");
    }
    buffer_append_text(out, "data: [DONE]\n\n");
}

void answer_write_end(struct api_answer *answer, const char *object,
                      void (*write_choice)(struct buffer *out, const struct api_answer *answer,
                                           const struct api_choice *choice))
{
    struct buffer *out = &answer->out;
    if (answer->request.is_stream) {
        end_stream(answer);
        return;
    }
    answer_write_head(answer, out, object);
    for (size_t i = 0; i < answer->choice_count; i++) {
        if (i)
            buffer_append_byte(out, ',');
        write_choice(out, answer, answer->choices + i);
    }
    buffer_append_text(out, "],\"usage\":");
    answer_write_usage(out, &answer->usage);
    answer_write_whole_steps(answer, out);
    buffer_append_byte(out, '}');
}

void answer_fail_stream(struct api_answer *answer, const struct answer_error *problem)
{
    buffer_append_text(&answer->out, "data: ");
    api_write_error(&answer->out, problem);
    buffer_append_text(&answer->out, "\n\ndata: [DONE]\n\n");
}

struct api_tool *answer_find_tool(struct api_choice *choice, const struct answer_delta *delta)
{
    bulla_error *error = &choice->text.error;
    size_t number = (size_t)delta->tool;
    if (number < choice->tool_count)
        return choice->tools + number;
    if (number > choice->tool_count || number >= API_MOST_TOOL_CALLS) {
        bulla_fail(error, BULLA_E_LIMIT, "tool call %zu comes after %zu", number, choice->tool_count);
        return NULL;
    }
    if (choice->tool_count == choice->tool_room) {
        size_t room = choice->tool_room ? 2 * choice->tool_room : 4;
        struct api_tool *tools = memory_resize(choice->tools, room, sizeof *tools, error);
        if (!tools)
            return NULL;
        choice->tools = tools;
        choice->tool_room = room;
    }
    struct api_tool *tool = choice->tools + choice->tool_count;
    *tool = (struct api_tool){0};
    const char *id = delta->tool_id ? delta->tool_id : "", *name = delta->tool_name ? delta->tool_name : "";
    tool->id = memory_copy_text(id, strlen(id), error);
    tool->name = memory_copy_text(name, strlen(name), error);
    choice->tool_count++;
    return tool->id && tool->name ? tool : NULL;
}
