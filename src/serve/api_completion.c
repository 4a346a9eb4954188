/* /v1/completions: text_completion objects, whole and as chunks. */
#include <string.h>

#include "base/utf8.h"
#include "bulla/tokenizer.h"
#include "serve/api_answer.h"

/* The gathered lists of logprobs. */
enum { LIST_TOKENS, LIST_LOGPROBS, LIST_TOPS, LIST_OFFSETS };

/* A prompt of ids needs its text. */
static int find_echo(struct api_answer *answer, struct api_prompt *prompt, struct field_reader *reader)
{
    struct backend *backend = answer->model->backend;
    bulla_error error = {0};
    char *text = NULL;
    if (prompt->text)
        return BULLA_OK;
    if (backend->class->detokenize(backend, prompt->ids, prompt->id_count, API_MOST_REPLY, &text, &prompt->length, &error))
        return field_fail_error(reader, &(struct place){NULL, "echo", 0}, &error);
    prompt->text = request_keep_text(&answer->request, reader, text, prompt->length);
    bulla_text_free(text);
    return prompt->text ? BULLA_OK : BULLA_E_MEMORY;
}

/* With `echo` a whole answer has each prompt n times: what cannot be given is not computed. */
static int find_echoes(struct api_answer *answer, struct answer_error *problem)
{
    struct api_request *request = &answer->request;
    struct field_reader reader = {&request->json, problem};
    size_t all = 0;
    for (size_t i = 0; i < request->prompt_count; i++) {
        int code = find_echo(answer, request->prompts + i, &reader);
        if (code != BULLA_OK)
            return code;
        all += request->prompts[i].length * request->answer.choices;
        if (!request->is_stream && all > API_MOST_REPLY)
            return field_fail(&reader, &(struct place){NULL, "echo", 0}, "reply_too_long",
                              "would put more than 64 MiB of prompts before the answers, the most that is given at once; "
                              "ask without it, with a smaller `n`, or with fewer prompts at a time");
    }
    return BULLA_OK;
}

static int open_completion(struct api_answer *answer, struct answer_error *problem)
{
    int code = answer_open_chunks(answer, "text_completion");
    if (code != BULLA_OK) {
        *problem = (struct answer_error){.status = 503, .type = "server_error", .code = "out_of_memory",
                                         .message = "the server is short of memory", .retry_after = 1};
        return code;
    }
    return answer->request.echoes ? find_echoes(answer, problem) : BULLA_OK;
}

/* A token as this API spells it: what is no text by itself is "bytes:" and its bytes, so that keys differ. */
static void write_spelling(struct buffer *out, const struct answer_logprob *token)
{
    char digits[3];
    if (utf8_check(token->token, token->length) == token->length) {
        json_write_string(out, token->token, token->length);
        return;
    }
    buffer_append_text(out, "\"bytes:");
    for (size_t i = 0; i < token->length; i++) {
        hex_encode((const uint8_t *)token->token + i, 1, digits);
        buffer_append_text(out, "\\\\x");
        buffer_append_text(out, digits);
    }
    buffer_append_byte(out, '"');
}

static int is_same(const struct answer_logprob *a, const struct answer_logprob *b)
{
    return a->length == b->length && (a->length == 0 || memcmp(a->token, b->token, a->length) == 0);
}

/* The likeliest tokens, and always the one that was taken; those that are spelled alike stand there once. */
static void write_top(struct buffer *out, const struct answer_delta *delta)
{
    size_t written = 0;
    buffer_append_byte(out, '{');
    for (size_t i = 0; i <= delta->top_count; i++) {
        const struct answer_logprob *token = i < delta->top_count ? delta->top + i : delta->logprob;
        size_t before = 0;
        while (before < i && !is_same(delta->top + before, token))
            before++;
        if (before < i)
            continue;
        if (written++)
            buffer_append_byte(out, ',');
        write_spelling(out, token);
        buffer_append_byte(out, ':');
        api_write_real(out, token->logprob, 9);
    }
    buffer_append_byte(out, '}');
}

/* The token's entry of each list. */
static void write_lists(struct buffer lists[4], struct api_choice *choice, const struct answer_delta *delta)
{
    const struct answer_logprob *token = delta->logprob;
    write_spelling(lists + LIST_TOKENS, token);
    api_write_real(lists + LIST_LOGPROBS, token->logprob, 9);
    write_top(lists + LIST_TOPS, delta);
    api_write_number(lists + LIST_OFFSETS, choice->characters);
    choice->characters += answer_count_characters(token->token, token->length);
}

/* The lists as one object. */
static void write_logprobs(struct buffer *out, const struct buffer lists[4])
{
    static const char *const names[4] = {"{\"tokens\":[", "],\"token_logprobs\":[", "],\"top_logprobs\":[",
                                         "],\"text_offset\":["};
    for (size_t i = 0; i < 4; i++) {
        buffer_append_text(out, names[i]);
        buffer_append(out, lists[i].data, lists[i].length);
        if (lists[i].error.code != BULLA_OK && out->error.code == BULLA_OK)
            out->error = lists[i].error;
    }
    buffer_append_text(out, "]}");
}

static void begin_chunk(struct api_answer *answer, const struct api_choice *choice)
{
    buffer_append(&answer->out, answer->head.data, answer->head.length);
    buffer_append_text(&answer->out, "{\"index\":");
    api_write_number(&answer->out, choice->index);
    buffer_append_text(&answer->out, ",\"text\":");
}

static void end_chunk(struct api_answer *answer)
{
    buffer_append_text(&answer->out, ",\"finish_reason\":null,\"stop_reason\":null}");
    answer_end_chunk(answer, 1);
}

static void begin_choice(struct api_answer *answer, struct api_choice *choice)
{
    const struct api_prompt *prompt = answer->request.prompts + choice->run->number;
    if (!answer->request.echoes)
        return;
    begin_chunk(answer, choice);
    json_write_string(&answer->out, prompt->text, prompt->length);
    buffer_append_text(&answer->out, ",\"logprobs\":null");
    end_chunk(answer);
}

static void write_chunk_logprobs(struct api_answer *answer, struct api_choice *choice, const struct answer_delta *delta)
{
    buffer_append_text(&answer->out, ",\"logprobs\":");
    if (!delta->logprob) {
        buffer_append_text(&answer->out, "null");
        return;
    }
    for (size_t i = 0; i < 4; i++)
        buffer_clear(choice->lists + i);
    write_lists(choice->lists, choice, delta);
    write_logprobs(&answer->out, choice->lists);
}

static void stream_delta(struct api_answer *answer, struct api_choice *choice, const struct answer_delta *delta)
{
    if (!delta->text_length && !delta->logprob)
        return;
    begin_chunk(answer, choice);
    json_write_string(&answer->out, delta->text, delta->text_length);
    write_chunk_logprobs(answer, choice, delta);
    end_chunk(answer);
}

static size_t lists_length(const struct api_choice *choice)
{
    size_t length = 0;
    for (size_t i = 0; i < 4; i++)
        length += choice->lists[i].length;
    return length;
}

static void gather_delta(struct api_answer *answer, struct api_choice *choice, const struct answer_delta *delta)
{
    size_t before = lists_length(choice);
    buffer_append(&choice->text, delta->text, delta->text_length);
    for (size_t i = 0; i < 4 && delta->logprob; i++)
        if (choice->lists[i].length)
            buffer_append_byte(choice->lists + i, ',');
    if (delta->logprob)
        write_lists(choice->lists, choice, delta);
    answer_gather(answer, delta->text_length + lists_length(choice) - before);
}

static void on_delta(struct api_answer *answer, struct api_choice *choice, const struct answer_delta *delta)
{
    if (answer->request.is_stream)
        stream_delta(answer, choice, delta);
    else
        gather_delta(answer, choice, delta);
}

static void write_finish(struct buffer *out, const struct api_choice *choice)
{
    buffer_append_text(out, ",\"finish_reason\":");
    api_write_text(out, answer_finish_word(choice->finish));
    answer_write_stop_reason(out, choice);
    buffer_append_byte(out, '}');
}

static void finish_choice(struct api_answer *answer, struct api_choice *choice)
{
    begin_chunk(answer, choice);
    buffer_append_text(&answer->out, "\"\",\"logprobs\":null");
    write_finish(&answer->out, choice);
    answer_end_chunk(answer, 1);
}

static void write_text(struct buffer *out, const struct api_answer *answer, const struct api_choice *choice)
{
    const struct api_prompt *prompt = answer->request.prompts + choice->run->number;
    if (!answer->request.echoes) {
        json_write_string(out, (const char *)choice->text.data, choice->text.length);
        return;
    }
    struct buffer whole = {0};
    buffer_append(&whole, prompt->text, prompt->length);
    buffer_append(&whole, choice->text.data, choice->text.length);
    json_write_string(out, (const char *)whole.data, whole.length);
    if (whole.error.code != BULLA_OK && out->error.code == BULLA_OK)
        out->error = whole.error;
    buffer_free(&whole);
}

static void write_choice(struct buffer *out, const struct api_answer *answer, const struct api_choice *choice)
{
    buffer_append_text(out, "{\"index\":");
    api_write_number(out, choice->index);
    buffer_append_text(out, ",\"text\":");
    write_text(out, answer, choice);
    buffer_append_text(out, ",\"logprobs\":");
    if (answer->request.answer.logprobs < 0)
        buffer_append_text(out, "null");
    else
        write_logprobs(out, choice->lists);
    write_finish(out, choice);
}

static void end_completion(struct api_answer *answer)
{
    answer_write_end(answer, "text_completion", write_choice);
}

const struct answer_form completion_form = {
    .id_prefix = "cmpl-", .open = open_completion, .begin_choice = begin_choice, .delta = on_delta, .finish = finish_choice, .end = end_completion,
    .fail = answer_fail_stream};
