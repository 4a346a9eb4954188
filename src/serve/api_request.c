#include "serve/api_request.h"

#include <string.h>

#include "base/decimal.h"
#include "base/memory.h"

enum {
    ARENA_LEAST = 1 << 20,
    ARENA_FACTOR = 96, /* an element of a list takes two bytes of text at least and some 150 of memory */
    ARENA_MOST = 128 << 20 /* of JSON, and of what is kept of it */
};

static const int64_t MOST_TIMEOUT = INT64_C(1000000000) * 1000000; /* millionths of a second */

void api_request_free(struct api_request *request)
{
    arena_free(&request->json);
    arena_free(&request->kept);
    memset(request, 0, sizeof *request);
}

void api_request_forget(struct api_request *request)
{
    struct answer_request *answer = &request->answer;
    arena_free(&request->json);
    request->body = answer->messages = answer->tools = answer->template_kwargs = NULL;
    answer->tool_name = answer->reasoning_effort = NULL;
}

struct answer_request api_request_of_prompt(const struct api_request *request, size_t number)
{
    const struct api_prompt *prompt = request->prompts + number;
    struct answer_request answer = request->answer;
    answer.prompt = prompt->text;
    answer.prompt_length = prompt->length;
    answer.prompt_ids = prompt->ids;
    answer.prompt_id_count = prompt->id_count;
    return answer;
}

const char *request_keep_text(struct api_request *request, struct field_reader *reader, const char *text, size_t length)
{
    bulla_error error = {0};
    const char *copy = arena_copy_text(&request->kept, text, length, &error);
    if (!copy)
        field_fail_error(reader, NULL, &error);
    return copy;
}

/* An adapter would change every token: one that is asked for is never ignored. */
static int refuse_adapters(struct field_reader *reader, const struct json *body)
{
    static const char *const keys[] = {"adapter", "adapters", "lora", "lora_name", "lora_path", "lora_request"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const struct json *found = field_find(body, keys[i]);
        if (found && !((found->type == JSON_ARRAY || found->type == JSON_OBJECT) && found->length == 0))
            return field_fail(reader, &(struct place){NULL, keys[i], 0}, "unsupported_parameter",
                              "names an adapter; this server answers with whole models only");
    }
    return BULLA_OK;
}

static int read_stream(struct api_request *request, struct field_reader *reader)
{
    const struct json *options = NULL;
    if (field_flag(reader, request->body, NULL, "stream", &request->is_stream) != BULLA_OK ||
        field_typed(reader, request->body, NULL, "stream_options", JSON_OBJECT, &options) != BULLA_OK)
        return BULLA_E_INPUT;
    return field_flag(reader, options, &(struct place){NULL, "stream_options", 0}, "include_usage",
                      &request->includes_usage);
}

int request_open(const char *body, size_t length, struct api_request *request, struct field_reader *reader)
{
    bulla_error error = {0};
    const struct json *model = NULL;
    size_t limit = length < (ARENA_MOST - ARENA_LEAST) / ARENA_FACTOR ? ARENA_LEAST + ARENA_FACTOR * length : ARENA_MOST;
    request->json.limit = limit;
    request->kept.limit = ARENA_MOST;
    bulla_sampling_defaults(&request->answer.sampling);
    request->answer.choices = 1;
    request->answer.logprobs = -1;
    request->answer.shares_prefix = 1;
    request->answer.parallel_tool_calls = 1;
    request->adds_special = 1;
    request->body = json_parse(body, length, "the request's body", &request->json, &error);
    if (!request->body) {
        int code = field_fail_error(reader, NULL, &error);
        if (code == BULLA_E_INPUT)
            reader->problem->code = "invalid_json";
        return code;
    }
    if (request->body->type != JSON_OBJECT)
        return field_fail(reader, NULL, "invalid_type", "the request's body is %s; expected an object",
                          field_type_name(request->body));
    if (field_typed(reader, request->body, NULL, "model", JSON_STRING, &model) != BULLA_OK)
        return BULLA_E_INPUT;
    if (model && strlen(model->text) != model->length)
        return field_fail(reader, &(struct place){NULL, "model", 0}, "invalid_value", "holds a NUL character");
    if (model && !(request->model = request_keep_text(request, reader, model->text, model->length)))
        return BULLA_E_MEMORY;
    if (field_integer(reader, request->body, NULL, "priority", -REQUEST_MOST_PRIORITY, REQUEST_MOST_PRIORITY,
                      &request->priority) != BULLA_OK ||
        read_stream(request, reader) != BULLA_OK)
        return BULLA_E_INPUT;
    return refuse_adapters(reader, request->body);
}

static int set_timeout(struct api_request *request, struct field_reader *reader, const struct json *seconds,
                       const struct place *place)
{
    int64_t millionths = 0;
    if (seconds->type != JSON_NUMBER)
        return field_fail_type(reader, place, seconds, "a number of seconds");
    if (!decimal_millionths(seconds->text, seconds->length, &millionths) || millionths <= 0 || millionths > MOST_TIMEOUT)
        return field_fail(reader, place, "invalid_value", "is %.40s; expected seconds from 0.000001 to 1000000000",
                          seconds->text);
    uint64_t asked = UINT64_C(1000) * (uint64_t)millionths;
    if (request->most_nanoseconds == 0 || asked < request->most_nanoseconds)
        request->most_nanoseconds = asked;
    return BULLA_OK;
}

int api_request_read_timeout(const char *seconds, struct api_request *request, struct answer_error *problem)
{
    struct field_reader reader = {&request->json, problem};
    struct place place = {NULL, "X-Request-Timeout", 0};
    bulla_error error = {0};
    const struct json *number = json_parse(seconds, strlen(seconds), "X-Request-Timeout", &request->json, &error);
    if (!number && error.code == BULLA_E_INPUT)
        return field_fail(&reader, &place, "invalid_value", "is \"%.40s\"; expected a number of seconds", seconds);
    return number ? set_timeout(request, &reader, number, &place) : field_fail_error(&reader, NULL, &error);
}

int request_open_answer(const char *body, size_t length, enum request_form form, struct api_request *request,
                        struct field_reader *reader)
{
    int code = request_open(body, length, request, reader);
    request->answer.kind = form == REQUEST_COMPLETION  ? ANSWER_COMPLETION
                           : form == REQUEST_EMBEDDING ? ANSWER_EMBEDDING
                                                       : ANSWER_CHAT;
    request->prompt_key = form == REQUEST_CHAT ? "messages" : form == REQUEST_COMPLETION ? "prompt" : "input";
    const struct json *timeout = code == BULLA_OK ? field_find(request->body, "timeout") : NULL;
    if (timeout)
        code = set_timeout(request, reader, timeout, &(struct place){NULL, "timeout", 0});
    return code == BULLA_OK ? request_refuse_unsupported(request, reader, form) : code;
}

/* One prompt, empty: a chat's is made from its messages by the backend. */
static int add_empty_prompt(struct api_request *request, struct field_reader *reader)
{
    bulla_error error = {0};
    request->prompts = arena_alloc(&request->kept, 1, sizeof *request->prompts, &error);
    if (!request->prompts)
        return field_fail_error(reader, NULL, &error);
    request->prompt_count = 1;
    return BULLA_OK;
}

static int read_ids(struct api_request *request, struct field_reader *reader, const struct json *list,
                    const struct place *place, struct api_prompt *prompt)
{
    bulla_error error = {0};
    uint32_t *ids = arena_alloc(&request->kept, list->length, sizeof *ids, &error);
    if (!ids)
        return field_fail_error(reader, NULL, &error);
    for (size_t i = 0; i < list->length; i++) {
        const struct json *id = list->items[i];
        if (id->type != JSON_NUMBER)
            return field_fail_type(reader, &(struct place){place, NULL, i}, id, "a token id");
        if (!id->is_integer || id->integer < 0 || id->integer > UINT32_MAX)
            return field_fail(reader, &(struct place){place, NULL, i}, "invalid_value",
                              "is %.40s; expected a token id, an integer from 0 up", id->text);
        ids[i] = (uint32_t)id->integer;
    }
    *prompt = (struct api_prompt){.ids = ids, .id_count = list->length};
    return BULLA_OK;
}

static int read_prompt(struct api_request *request, struct field_reader *reader, const struct json *value,
                       const struct place *place, struct api_prompt *prompt)
{
    if (value->type != JSON_STRING && value->type != JSON_ARRAY)
        return field_fail_type(reader, place, value, "a string or a list of token ids");
    if (value->length == 0)
        return field_fail(reader, place, "invalid_value", "is empty; an answer needs at least one token before it");
    if (value->type == JSON_ARRAY)
        return read_ids(request, reader, value, place, prompt);
    *prompt = (struct api_prompt){.text = request_keep_text(request, reader, value->text, value->length),
                                  .length = value->length};
    return prompt->text ? BULLA_OK : BULLA_E_MEMORY;
}

int request_read_prompts(struct api_request *request, struct field_reader *reader)
{
    const struct json *value = field_find(request->body, request->prompt_key);
    struct place place = {NULL, request->prompt_key, 0};
    bulla_error error = {0};
    if (!value)
        return field_fail(reader, &place, "missing_required_parameter", "is missing; expected a string, token ids, or "
                          "a list of either");
    int is_several = value->type == JSON_ARRAY && value->length > 0 && value->items[0]->type != JSON_NUMBER;
    request->has_list = is_several;
    size_t count = is_several ? value->length : 1;
    if (count > REQUEST_MOST_PROMPTS)
        return field_fail(reader, &place, "invalid_value", "holds %zu prompts; a request has at most %d", count,
                          REQUEST_MOST_PROMPTS);
    request->prompts = arena_alloc(&request->kept, count, sizeof *request->prompts, &error);
    if (!request->prompts)
        return field_fail_error(reader, NULL, &error);
    request->prompt_count = count;
    if (!is_several)
        return read_prompt(request, reader, value, &place, request->prompts);
    for (size_t i = 0; i < count; i++) {
        int code = read_prompt(request, reader, value->items[i], &(struct place){&place, NULL, i}, request->prompts + i);
        if (code != BULLA_OK)
            return code;
    }
    return BULLA_OK;
}

static int check_prompt_ids(const struct api_request *request, size_t number, uint32_t vocabulary,
                            struct field_reader *reader)
{
    const struct api_prompt *prompt = request->prompts + number;
    struct place list = {NULL, request->prompt_key, 0}, one = {&list, NULL, number};
    for (size_t i = 0; i < prompt->id_count; i++)
        if (prompt->ids[i] >= vocabulary)
            return field_fail(reader, &(struct place){request->has_list ? &one : &list, NULL, i}, "invalid_value",
                              "is %u; the model's vocabulary ends at %u", prompt->ids[i], vocabulary - 1);
    return BULLA_OK;
}

int api_request_check_ids(struct api_request *request, uint32_t vocabulary, struct answer_error *problem)
{
    struct field_reader reader = {&request->json, problem};
    const bulla_sampling *sampling = &request->answer.sampling;
    int code = BULLA_OK;
    for (size_t i = 0; vocabulary && i < sampling->bias_count; i++)
        if (sampling->biases[i].id >= vocabulary)
            return field_fail(&reader, &(struct place){NULL, "logit_bias", 0}, "invalid_value",
                              "names the id %u; the model's vocabulary ends at %u", sampling->biases[i].id, vocabulary - 1);
    for (size_t i = 0; vocabulary && i < request->prompt_count && code == BULLA_OK; i++)
        code = check_prompt_ids(request, i, vocabulary, &reader);
    return code;
}

/* reasoning_effort is a variable of the template, and "none" switches thinking off where templates can; unless
 * chat_template_kwargs says otherwise. */
static int set_effort(struct api_request *request, struct field_reader *reader, const struct json *effort,
                      const struct place *place)
{
    static const char *const words[] = {"none", "minimal", "low", "medium", "high", "xhigh", "max"};
    static const struct json no = {.type = JSON_FALSE};
    const struct json *given = request->answer.template_kwargs;
    size_t number = 0;
    if (effort->type != JSON_STRING)
        return field_fail_type(reader, place, effort, "a string");
    while (number < sizeof words / sizeof words[0] && !made_is_text(effort, words[number]))
        number++;
    if (number == sizeof words / sizeof words[0])
        return field_fail(reader, place, "invalid_value", "is \"%.40s\"; expected none, minimal, low, medium, high, xhigh or "
                          "max", effort->text);
    struct json *all = given ? made_copy(reader, given, 2) : made_object(reader, 2);
    if (all && !json_get(given, "reasoning_effort"))
        made_add(all, "reasoning_effort", effort);
    if (all && number == 0 && !json_get(given, "enable_thinking"))
        made_add(all, "enable_thinking", &no);
    request->answer.template_kwargs = all;
    request->answer.reasoning_effort = effort->text;
    return all ? BULLA_OK : BULLA_E_MEMORY;
}

int request_read_template(struct api_request *request, struct field_reader *reader, const struct json *effort,
                          const struct place *effort_place)
{
    struct answer_request *answer = &request->answer;
    int continues = 0, adds = -1;
    if (field_typed(reader, request->body, NULL, "chat_template_kwargs", JSON_OBJECT, &answer->template_kwargs) ||
        field_flag(reader, request->body, NULL, "continue_final_message", &continues) ||
        field_flag(reader, request->body, NULL, "add_generation_prompt", &adds))
        return BULLA_E_INPUT;
    int code = effort ? set_effort(request, reader, effort, effort_place) : BULLA_OK;
    if (code != BULLA_OK)
        return code;
    struct place place = {NULL, "continue_final_message", 0};
    const struct json *last = answer->messages->items[answer->messages->length - 1];
    if (continues && adds == 1)
        return field_fail(reader, &place, "invalid_value", "and `add_generation_prompt` cannot both be true");
    if (continues && !made_is_text(json_get(last, "role"), "assistant"))
        return field_fail(reader, &place, "invalid_value", "needs a last message of the assistant to go on with");
    answer->continues_last = continues || adds == 0;
    return BULLA_OK;
}

static int read_template(struct api_request *request, struct field_reader *reader)
{
    return request_read_template(request, reader, field_find(request->body, "reasoning_effort"),
                                 &(struct place){NULL, "reasoning_effort", 0});
}

/* logprobs and top_logprobs as chats have them. */
static int read_chat_logprobs(struct api_request *request, struct field_reader *reader)
{
    int wants = 0;
    int64_t top = -1;
    if (field_flag(reader, request->body, NULL, "logprobs", &wants) != BULLA_OK ||
        field_integer(reader, request->body, NULL, "top_logprobs", 0, ANSWER_MOST_LOGPROBS, &top) != BULLA_OK)
        return BULLA_E_INPUT;
    if (top > 0 && !wants)
        return field_fail(reader, &(struct place){NULL, "top_logprobs", 0}, "invalid_value",
                          "is given without `logprobs`: true");
    request->answer.logprobs = !wants ? -1 : top < 0 ? 0 : (int)top;
    return BULLA_OK;
}

int api_request_read_chat(const char *body, size_t length, struct api_request *request, struct answer_error *problem)
{
    struct field_reader reader = {&request->json, problem};
    const struct json *format = NULL;
    int code = request_open_answer(body, length, REQUEST_CHAT, request, &reader);
    if (code == BULLA_OK)
        code = request_read_messages(request, &reader);
    if (code == BULLA_OK)
        code = request_read_tools(request, &reader);
    if (code == BULLA_OK)
        code = read_template(request, &reader);
    if (code == BULLA_OK)
        code = request_read_sampling(request, &reader);
    if (code == BULLA_OK)
        code = read_chat_logprobs(request, &reader);
    if (code == BULLA_OK)
        code = field_typed(&reader, request->body, NULL, "response_format", JSON_OBJECT, &format);
    if (code == BULLA_OK)
        code = request_read_format(request, &reader, format, &(struct place){NULL, "response_format", 0});
    return code == BULLA_OK ? add_empty_prompt(request, &reader) : code;
}

static int read_completion_options(struct api_request *request, struct field_reader *reader)
{
    const struct json *body = request->body, *suffix = NULL;
    int64_t logprobs = -1, best = request->answer.choices;
    if (field_flag(reader, body, NULL, "echo", &request->echoes) ||
        field_integer(reader, body, NULL, "logprobs", 0, ANSWER_MOST_LOGPROBS, &logprobs) ||
        field_integer(reader, body, NULL, "best_of", 1, ANSWER_MOST_CHOICES, &best) ||
        field_typed(reader, body, NULL, "suffix", JSON_STRING, &suffix))
        return BULLA_E_INPUT;
    request->answer.logprobs = (int)logprobs;
    if (best != request->answer.choices)
        return field_fail(reader, &(struct place){NULL, "best_of", 0}, "unsupported_parameter",
                          "is not `n`; this server hands out every answer that it computes");
    if (suffix && suffix->length > 0)
        return field_fail(reader, &(struct place){NULL, "suffix", 0}, "unsupported_parameter",
                          "is given; this server does not fill in the middle of a text");
    if (request->echoes && logprobs >= 0)
        return field_fail(reader, &(struct place){NULL, "logprobs", 0}, "unsupported_parameter",
                          "and `echo` are both given; logprobs of a prompt's tokens are not computed");
    if (request->prompt_count * request->answer.choices > REQUEST_MOST_PROMPTS)
        return field_fail(reader, &(struct place){NULL, "n", 0}, "invalid_value",
                          "times the number of prompts is %zu; at most %d answers are given to a request",
                          request->prompt_count * request->answer.choices, REQUEST_MOST_PROMPTS);
    return BULLA_OK;
}

int api_request_read_completion(const char *body, size_t length, struct api_request *request,
                                struct answer_error *problem)
{
    struct field_reader reader = {&request->json, problem};
    const struct json *format = NULL;
    int code = request_open_answer(body, length, REQUEST_COMPLETION, request, &reader);
    if (code == BULLA_OK)
        code = request_read_prompts(request, &reader);
    if (code == BULLA_OK)
        code = request_read_sampling(request, &reader);
    if (code == BULLA_OK && !field_find(request->body, "max_tokens") &&
        !field_find(request->body, "max_completion_tokens") && !field_find(request->body, "n_predict"))
        request->answer.max_tokens = REQUEST_COMPLETION_TOKENS;
    if (code == BULLA_OK)
        code = read_completion_options(request, &reader);
    if (code == BULLA_OK)
        code = field_typed(&reader, request->body, NULL, "response_format", JSON_OBJECT, &format);
    return code == BULLA_OK
               ? request_read_format(request, &reader, format, &(struct place){NULL, "response_format", 0})
               : code;
}

int api_request_read_embedding(const char *body, size_t length, struct api_request *request,
                               struct answer_error *problem)
{
    struct field_reader reader = {&request->json, problem};
    const struct json *format = NULL;
    int code = request_open_answer(body, length, REQUEST_EMBEDDING, request, &reader);
    request->is_stream = 0;
    if (code == BULLA_OK)
        code = request_read_prompts(request, &reader);
    if (code == BULLA_OK)
        code = field_typed(&reader, request->body, NULL, "encoding_format", JSON_STRING, &format);
    if (code == BULLA_OK)
        code = field_integer(&reader, request->body, NULL, "dimensions", 1, UINT32_MAX, &request->dimensions);
    request->is_base64 = made_is_text(format, "base64");
    if (code == BULLA_OK && format && !request->is_base64 && !made_is_text(format, "float"))
        code = field_fail(&reader, &(struct place){NULL, "encoding_format", 0}, "invalid_value",
                          "is \"%.40s\"; expected \"float\" or \"base64\"", format->text);
    return code;
}

/* vLLM's `prompt` and `add_special_tokens`, or llama.cpp's `content` and `add_special`. */
static int read_text_to_tokenize(struct api_request *request, struct field_reader *reader)
{
    const struct json *text = NULL;
    int is_content = !field_find(request->body, "prompt") && field_find(request->body, "content");
    request->prompt_key = is_content ? "content" : "prompt";
    if (field_needed(reader, request->body, NULL, request->prompt_key, JSON_STRING, &text) ||
        add_empty_prompt(request, reader))
        return BULLA_E_INPUT;
    request->answer.kind = ANSWER_COMPLETION;
    request->prompts[0] = (struct api_prompt){.text = text->text, .length = text->length};
    request->adds_special = !is_content;
    return field_flag(reader, request->body, NULL, is_content ? "add_special" : "add_special_tokens",
                      &request->adds_special);
}

int api_request_read_tokenize(const char *body, size_t length, struct api_request *request,
                              struct answer_error *problem)
{
    struct field_reader reader = {&request->json, problem};
    int code = request_open(body, length, request, &reader);
    request->is_stream = 0;
    if (code == BULLA_OK)
        code = field_flag(&reader, request->body, NULL, "return_token_strs", &request->wants_strings);
    if (code == BULLA_OK)
        code = field_flag(&reader, request->body, NULL, "with_pieces", &request->wants_pieces);
    if (code == BULLA_OK)
        code = request_refuse_unsupported(request, &reader, REQUEST_TOKENIZE);
    if (code != BULLA_OK || !field_find(request->body, "messages"))
        return code == BULLA_OK ? read_text_to_tokenize(request, &reader) : code;
    request->answer.kind = ANSWER_CHAT;
    request->prompt_key = "messages";
    request->adds_special = 0; /* a template writes them itself */
    code = request_read_messages(request, &reader);
    if (code == BULLA_OK)
        code = request_read_tools(request, &reader);
    if (code == BULLA_OK)
        code = read_template(request, &reader);
    if (code == BULLA_OK)
        code = field_flag(&reader, request->body, NULL, "add_special_tokens", &request->adds_special);
    return code == BULLA_OK ? add_empty_prompt(request, &reader) : code;
}

int api_request_read_detokenize(const char *body, size_t length, struct api_request *request,
                                struct answer_error *problem)
{
    struct field_reader reader = {&request->json, problem};
    const struct json *list = NULL;
    int code = request_open(body, length, request, &reader);
    request->prompt_key = "tokens";
    request->answer.kind = ANSWER_COMPLETION;
    if (code == BULLA_OK)
        code = field_needed(&reader, request->body, NULL, request->prompt_key, JSON_ARRAY, &list);
    if (code == BULLA_OK)
        code = add_empty_prompt(request, &reader);
    return code == BULLA_OK
               ? read_ids(request, &reader, list, &(struct place){NULL, request->prompt_key, 0}, request->prompts)
               : code;
}
