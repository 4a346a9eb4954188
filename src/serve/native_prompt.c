#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "model/chat_prompt.h"
#include "serve/native_internal.h"

#define THINK_BEGIN "<think>"
#define THINK_END "</think>"

void native_prompt_free(struct native_prompt *prompt)
{
    bulla_tokens_free(prompt->ids);
    buffer_free(&prompt->grammar);
    *prompt = (struct native_prompt){0};
}

static const struct json *last_message(const struct answer_request *request)
{
    const struct json *messages = request->messages;
    return json_is(messages, JSON_ARRAY) && messages->length ? messages->items[messages->length - 1] : NULL;
}

/* A last message of the assistant's is gone on with; after any other one a prompt without the assistant's turn begun
 * is all that can be meant. */
static int continues_answer(const struct answer_request *request)
{
    const struct json *role = json_get(last_message(request), "role");
    return request->continues_last && json_is_text(role, "assistant");
}

/* Where `mark` occurs last in the text; NULL where it does not. */
static const char *find_last(const char *text, size_t length, const char *mark)
{
    size_t size = strlen(mark);
    for (size_t end = length; end >= size; end--)
        if (memcmp(text + end - size, mark, size) == 0)
            return text + end - size;
    return NULL;
}

/* Whether the model goes on inside <think>: the template opened it, or the answer that is gone on with is in it. Words
 * of other messages that look like it mean nothing. */
static int ends_in_thinking(const struct answer_request *request, const struct chat_rendering *rendering)
{
    size_t length = rendering->length, size = sizeof THINK_BEGIN - 1;
    while (length > 0 && (unsigned char)rendering->text[length - 1] <= ' ')
        length--;
    if (length >= size && memcmp(rendering->text + length - size, THINK_BEGIN, size) == 0)
        return 1;
    const struct json *content = json_get(last_message(request), "content");
    if (!continues_answer(request) || !json_is(content, JSON_STRING))
        return 0;
    const char *begin = find_last(content->text, content->length, THINK_BEGIN);
    const char *end = find_last(content->text, content->length, THINK_END);
    return begin && (!end || end < begin);
}

static int check_bytes(const struct native_limits *limits, size_t bytes, bulla_error *error)
{
    if (bytes <= limits->bytes)
        return BULLA_OK;
    if (limits->ids == SIZE_MAX)
        return bulla_fail(error, BULLA_E_LIMIT, "the text has more than %zu bytes, as many as are tokenized at once: "
                          "send it in parts", limits->bytes);
    return bulla_fail(error, BULLA_E_LIMIT, "the text has more than %zu bytes, which are more tokens than the model's "
                      "context of %zu holds", limits->bytes, limits->ids);
}

/* An encoder's error: where it stopped at the limit, the prompt is too long, whatever its length. */
static int fail_encoding(const struct native_limits *limits, int code, const bulla_error *why, bulla_error *error)
{
    if (code == BULLA_E_LIMIT && limits->ids != SIZE_MAX)
        return bulla_fail(error, code, "the prompt has more than %zu tokens, as many as the model's context holds",
                          limits->ids);
    return bulla_fail(error, code, "%s", why->text);
}

/* Adds the bytes of all strings of a value, or of as many as are more than `most`. */
static void count_text(const struct json *value, size_t most, size_t *bytes)
{
    if (json_is(value, JSON_STRING))
        *bytes += value->length;
    else if (json_is(value, JSON_ARRAY) || json_is(value, JSON_OBJECT))
        for (size_t i = 0; i < value->length && *bytes <= most; i++)
            count_text(value->items[i], most, bytes);
}

static int render(const struct native *native, const struct chat_variables *variables,
                  const struct native_limits *limits, struct chat_rendering *rendering, bulla_error *error)
{
    size_t bytes = 0;
    count_text(variables->messages, limits->bytes, &bytes);
    count_text(variables->tools, limits->bytes, &bytes);
    count_text(variables->more, limits->bytes, &bytes);
    int code = check_bytes(limits, bytes, error);
    if (code == BULLA_OK)
        code = chat_render(bulla_model_tokenizer(native->model), native->chat_template, variables, rendering, error);
    if (code != BULLA_OK)
        return code;
    code = check_bytes(limits, rendering->length, error);
    if (code != BULLA_OK)
        chat_rendering_free(rendering);
    return code;
}

static int make_chat(const struct native *native, const struct answer_request *request,
                     const struct native_limits *limits, struct native_prompt *prompt, const char **param,
                     bulla_error *error)
{
    int takes_tools = request->tools && request->tool_choice != TOOLS_NONE;
    *param = "messages";
    if (!native->chat_template)
        return bulla_fail(error, BULLA_E_UNSUPPORTED,
                          "the model has no chat template: it answers /v1/completions only");
    if (takes_tools && native->format.calls == TOOL_FORMAT_NONE) {
        *param = "tools";
        return bulla_fail(error, BULLA_E_UNSUPPORTED, "the model's chat template takes no tools, or in no form that is "
                          "known; send none, or tool_choice \"none\"");
    }
    struct chat_variables variables = {.messages = request->messages, .tools = takes_tools ? request->tools : NULL,
                                       .more = request->template_kwargs, .begins_answer = !request->continues_last,
                                       .continues_last = continues_answer(request),
                                       .now = native->written_at ? native->written_at : (long long)time(NULL)};
    struct chat_rendering rendering;
    bulla_error why = {0};
    int code = render(native, &variables, limits, &rendering, error);
    if (code == BULLA_E_USAGE)
        *param = "chat_template_kwargs";
    if (code != BULLA_OK)
        return code;
    code = chat_encode_rendering(bulla_model_tokenizer(native->model), &rendering, limits->ids, &prompt->ids,
                                 &prompt->count, &why);
    if (code != BULLA_OK)
        fail_encoding(limits, code, &why, error);
    prompt->takes_tools = takes_tools;
    prompt->is_thinking = native->format.thinks && ends_in_thinking(request, &rendering);
    prompt->is_parsed = takes_tools || native->format.thinks;
    chat_rendering_free(&rendering);
    return code;
}

/* What an answer must look like. Where the model thinks, that may or must stand before it. */
static int make_grammar(const struct native *native, const struct answer_request *request, struct native_prompt *prompt,
                        const char **param, bulla_error *error)
{
    int is_forced = prompt->takes_tools && (request->tool_choice == TOOLS_REQUIRED ||
                                            request->tool_choice == TOOLS_NAMED);
    struct buffer calls = {0}, *out = native->format.thinks ? &calls : &prompt->grammar;
    int code = BULLA_OK;
    if (is_forced) {
        *param = "tool_choice";
        code = tool_format_grammar(&native->format, request->tools,
                                   request->tool_choice == TOOLS_NAMED ? request->tool_name : NULL,
                                   request->parallel_tool_calls, out, error);
    }
    const char *inner = is_forced ? (const char *)calls.data : request->grammar;
    size_t length = is_forced ? calls.length : request->grammar_length;
    if (code == BULLA_OK && native->format.thinks && inner)
        code = tool_format_grammar_thinking(&native->format, prompt->is_thinking, inner, length, &prompt->grammar,
                                            error);
    if (code == BULLA_OK && calls.error.code != BULLA_OK)
        code = bulla_fail(error, calls.error.code, "%s", calls.error.text);
    if (code == BULLA_OK && prompt->grammar.error.code != BULLA_OK)
        code = bulla_fail(error, prompt->grammar.error.code, "%s", prompt->grammar.error.text);
    buffer_free(&calls);
    return code;
}

static int copy_ids(const struct answer_request *request, struct native_prompt *prompt, bulla_error *error)
{
    prompt->ids = memory_alloc(request->prompt_id_count, sizeof *prompt->ids, error);
    if (!prompt->ids)
        return BULLA_E_MEMORY;
    if (request->prompt_id_count)
        memcpy(prompt->ids, request->prompt_ids, request->prompt_id_count * sizeof *prompt->ids);
    prompt->count = request->prompt_id_count;
    return BULLA_OK;
}

/* A completion's text is its author's alone: spelled control tokens are tokens, as with other servers. A text to embed
 * is data: they are not. */
static int make_text(const struct native *native, const struct answer_request *request, int adds_special,
                     const struct native_limits *limits, struct native_prompt *prompt, bulla_error *error)
{
    const bulla_tokenizer *tokenizer = bulla_model_tokenizer(native->model);
    const char *text = request->prompt;
    size_t length = request->prompt_length;
    bulla_error why = {0};
    int code = check_bytes(limits, length, error);
    if (code != BULLA_OK)
        return code;
    if (request->kind == ANSWER_EMBEDDING)
        code = bulla_tokenizer_encode(tokenizer, text, length, adds_special ? BULLA_ENCODE_START : 0, limits->ids,
                                      &prompt->ids, &prompt->count, &why);
    else if (adds_special)
        code = chat_encode(tokenizer, text, length, limits->ids, &prompt->ids, &prompt->count, &why);
    else
        code = bulla_tokenizer_encode(tokenizer, text, length, BULLA_ENCODE_SPECIAL, limits->ids, &prompt->ids,
                                      &prompt->count, &why);
    return code == BULLA_OK ? BULLA_OK : fail_encoding(limits, code, &why, error);
}

int native_prompt_check(const struct native *native, const struct native_prompt *prompt, bulla_error *error)
{
    const bulla_program *program = bulla_model_program(native->model);
    if (prompt->count == 0)
        return bulla_fail(error, BULLA_E_INPUT, "the prompt is empty: an answer needs at least one token before it");
    if (prompt->count > program->context)
        return bulla_fail(error, BULLA_E_LIMIT, "the prompt has %zu tokens, more than the model's context of %u holds",
                          prompt->count, program->context);
    for (size_t i = 0; i < prompt->count; i++)
        if (prompt->ids[i] >= program->vocabulary)
            return bulla_fail(error, BULLA_E_INPUT, "prompt token %zu is %u; the model's vocabulary ends at %u", i,
                              prompt->ids[i], program->vocabulary - 1);
    return BULLA_OK;
}

int native_prompt_make(const struct native *native, const struct answer_request *request, int adds_special,
                       const struct native_limits *limits, struct native_prompt *prompt, const char **param,
                       bulla_error *error)
{
    int code;
    *prompt = (struct native_prompt){0};
    *param = request->kind == ANSWER_COMPLETION ? "prompt" : "input";
    if (request->kind == ANSWER_CHAT) {
        code = make_chat(native, request, limits, prompt, param, error);
        if (code == BULLA_OK)
            code = make_grammar(native, request, prompt, param, error);
        if (code == BULLA_OK)
            *param = "messages";
    } else {
        code = request->prompt_ids ? copy_ids(request, prompt, error)
                                   : make_text(native, request, adds_special, limits, prompt, error);
    }
    if (code != BULLA_OK)
        native_prompt_free(prompt);
    return code;
}
