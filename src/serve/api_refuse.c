/* What OpenAI, vLLM, llama.cpp or SGLang have and this server has not. Ignoring one of these fields would give another
 * answer than was asked for, so each is refused unless it says what happens anyway. docs/api.md lists them. */
#include <string.h>

#include "serve/api_request.h"

enum {
    ANSWERS = REQUEST_CHAT | REQUEST_COMPLETION | REQUEST_RESPONSE,
    CHATS = REQUEST_CHAT | REQUEST_RESPONSE,
    TEMPLATES = CHATS | REQUEST_TOKENIZE,
    ALL = ANSWERS | REQUEST_EMBEDDING
};

/* Values that change nothing; null always is one. */
enum neutral { NONE, OFF /* false, 0, and what is empty */, YES, ONE, TWO, BELOW_0, NOT_ABOVE_0 };

static const struct {
    const char *key;
    unsigned forms;
    enum neutral neutral;
    const char *instead;
} unsupported[] = {
    /* OpenAI's, and its other APIs' */
    {"functions", ANSWERS, OFF, "use `tools`"},
    {"function_call", ANSWERS, OFF, "use `tool_choice`"},
    {"audio", ANSWERS, OFF, "answers are text"},
    {"prediction", ANSWERS, OFF, "leave it out"},
    {"web_search_options", ANSWERS, OFF, "this server does not search"},
    {"best_of", CHATS, ONE, "this server hands out every answer that it computes"},
    {"n", REQUEST_RESPONSE, ONE, "a response is one answer"},
    {"response_format", REQUEST_RESPONSE, OFF, "use `text.format`"},
    {"messages", REQUEST_RESPONSE, OFF, "use `input`"},
    {"max_tokens", REQUEST_RESPONSE, NONE, "use `max_output_tokens`"},
    {"max_completion_tokens", REQUEST_RESPONSE, NONE, "use `max_output_tokens`"},
    {"n_predict", REQUEST_RESPONSE, NONE, "use `max_output_tokens`"},
    {"logprobs", REQUEST_RESPONSE, OFF, "use `include` and `top_logprobs`"},
    {"reasoning_effort", REQUEST_RESPONSE, NONE, "use `reasoning.effort`"},
    /* vLLM's and SGLang's */
    {"stop_token_ids", ANSWERS, OFF, "use `stop`"},
    {"include_stop_str_in_output", ANSWERS, OFF, "an answer ends before its stop string"},
    {"no_stop_trim", ANSWERS, OFF, "an answer ends before its stop string"},
    {"bad_words", ANSWERS, OFF, "use `logit_bias`"},
    {"allowed_token_ids", ANSWERS, OFF, "use `logit_bias`"},
    {"min_tokens", ANSWERS, OFF, "leave it out"},
    {"use_beam_search", ANSWERS, OFF, "leave it out"},
    {"length_penalty", ANSWERS, ONE, "leave it out"},
    {"skip_special_tokens", ANSWERS, YES, "control tokens are no part of an answer's text"},
    {"prompt_logprobs", ANSWERS, NONE, "leave it out"},
    {"logprob_token_ids", ANSWERS, OFF, "use the number of likeliest tokens"},
    {"return_tokens_as_token_ids", ANSWERS, OFF, "use the tokens' `bytes`"},
    {"truncate_prompt_tokens", ALL, NONE, "a prompt that does not fit is refused"},
    {"prompt_embeds", ANSWERS, OFF, "use `prompt`"},
    {"add_special_tokens", CHATS, OFF, "the chat template writes them"},
    {"add_special_tokens", REQUEST_COMPLETION | REQUEST_EMBEDDING, YES, "send token ids for a prompt without them"},
    {"echo", CHATS, OFF, "leave it out"},
    {"chat_template", TEMPLATES, OFF, "the model's own is used"},
    {"documents", TEMPLATES, OFF, "put them into a message"},
    {"guided_json", ANSWERS, OFF, "use `response_format`"},
    {"guided_choice", ANSWERS, OFF, "use `response_format` with an enum"},
    {"guided_regex", ANSWERS, OFF, "use `response_format` with a JSON schema"},
    {"guided_grammar", ANSWERS, OFF, "use `response_format` with a JSON schema"},
    {"guided_whitespace_pattern", ANSWERS, OFF, "leave it out"},
    {"structured_outputs", ANSWERS, OFF, "use `response_format`"},
    {"structural_tag", ANSWERS, OFF, "use `response_format`"},
    {"regex", ANSWERS, OFF, "use `response_format` with a JSON schema"},
    {"ebnf", ANSWERS, OFF, "use `response_format` with a JSON schema"},
    {"logits_processors", ANSWERS, OFF, "use `logit_bias`"},
    {"custom_logit_processor", ANSWERS, OFF, "use `logit_bias`"},
    {"vllm_xargs", ANSWERS, OFF, "leave it out"},
    {"watermarking", ANSWERS, OFF, "leave it out"},
    {"repetition_detection", ANSWERS, OFF, "leave it out"},
    {"thinking_token_budget", ANSWERS, BELOW_0, "use `max_tokens`"},
    {"include_reasoning", ANSWERS, YES, "what the model thinks is always told"},
    {"separate_reasoning", ANSWERS, YES, "what the model thinks always stands by itself"},
    {"normalize", REQUEST_EMBEDDING, YES, "vectors have length 1"},
    {"use_activation", REQUEST_EMBEDDING, YES, "vectors have length 1"},
    /* llama.cpp's */
    {"grammar", ANSWERS, OFF, "use `response_format` with a JSON schema"},
    {"json_schema", ANSWERS, OFF, "use `response_format`"},
    {"typical_p", ANSWERS, ONE, "leave it out"},
    {"tfs_z", ANSWERS, ONE, "leave it out"},
    {"top_a", ANSWERS, OFF, "leave it out"},
    {"top_n_sigma", ANSWERS, NOT_ABOVE_0, "leave it out"},
    {"xtc_probability", ANSWERS, OFF, "leave it out"},
    {"dry_multiplier", ANSWERS, OFF, "leave it out"},
    {"mirostat", ANSWERS, OFF, "leave it out"},
    {"dynatemp_range", ANSWERS, OFF, "leave it out"},
    {"adaptive_target", ANSWERS, BELOW_0, "leave it out"},
    {"min_keep", ANSWERS, OFF, "leave it out"},
    {"samplers", ANSWERS, OFF, "their order is fixed"},
    {"n_indent", ANSWERS, OFF, "leave it out"},
    {"n_cmpl", ANSWERS, ONE, "use `n`"},
    {"n_probs", ANSWERS, OFF, "use `logprobs`"},
    {"post_sampling_probs", ANSWERS, OFF, "use `logprobs`"},
    {"t_max_predict_ms", ANSWERS, NOT_ABOVE_0, "use `timeout`"},
    {"reasoning_budget", ANSWERS, BELOW_0, "use `max_tokens`"},
    {"reasoning_budget_tokens", ANSWERS, BELOW_0, "use `max_tokens`"},
    {"parse_tool_calls", ANSWERS, YES, "calls are always parsed"},
    {"image_data", ANSWERS, OFF, "this server takes text only"},
    {"embd_normalize", REQUEST_EMBEDDING, TWO, "vectors have length 1"},
};

/* Words that change nothing, of fields whose other words do. */
static const struct {
    const char *key;
    unsigned forms;
    const char *neutral[2];
} words[] = {
    {"reasoning_format", ANSWERS, {"auto", "deepseek"}},
    {"verbosity", ANSWERS, {"medium", "medium"}},
    {"truncation", REQUEST_RESPONSE, {"disabled", "disabled"}},
};

static int is_neutral(const struct json *value, enum neutral neutral)
{
    int is_number = value->type == JSON_NUMBER;
    switch (neutral) {
    case NONE:
        return 0;
    case OFF:
        return value->type == JSON_FALSE || (is_number && value->number == 0) ||
               (value->type >= JSON_STRING && value->length == 0);
    case YES:
        return value->type == JSON_TRUE;
    case ONE:
        return is_number && value->number == 1;
    case TWO:
        return is_number && value->number == 2;
    case BELOW_0:
        return is_number && value->number < 0;
    case NOT_ABOVE_0:
        return is_number && value->number <= 0;
    }
    return 0;
}

static int check_words(struct api_request *request, struct field_reader *reader, enum request_form form)
{
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        struct place place = {NULL, words[i].key, 0};
        const struct json *word = NULL;
        if (!(words[i].forms & form))
            continue;
        if (field_typed(reader, request->body, NULL, words[i].key, JSON_STRING, &word) != BULLA_OK)
            return BULLA_E_INPUT;
        if (word && !made_is_text(word, words[i].neutral[0]) && !made_is_text(word, words[i].neutral[1]))
            return field_fail(reader, &place, "unsupported_value", "is \"%.40s\"; this server has \"%s\" only",
                              word->text, words[i].neutral[0]);
    }
    return BULLA_OK;
}

static int check_modalities(struct api_request *request, struct field_reader *reader)
{
    const struct json *modalities = NULL;
    struct place place = {NULL, "modalities", 0};
    if (field_typed(reader, request->body, NULL, "modalities", JSON_ARRAY, &modalities) != BULLA_OK)
        return BULLA_E_INPUT;
    for (size_t i = 0; modalities && i < modalities->length; i++)
        if (!made_is_text(modalities->items[i], "text"))
            return field_fail(reader, &(struct place){&place, NULL, i}, "unsupported_parameter",
                              "is not \"text\"; answers are text");
    return BULLA_OK;
}

int request_refuse_unsupported(struct api_request *request, struct field_reader *reader, enum request_form form)
{
    for (size_t i = 0; i < sizeof unsupported / sizeof unsupported[0]; i++) {
        const struct json *value = unsupported[i].forms & form ? field_find(request->body, unsupported[i].key) : NULL;
        if (value && !is_neutral(value, unsupported[i].neutral))
            return field_fail(reader, &(struct place){NULL, unsupported[i].key, 0}, "unsupported_parameter",
                              "is not supported here; %s", unsupported[i].instead);
    }
    int code = check_words(request, reader, form);
    return code == BULLA_OK && form & ANSWERS ? check_modalities(request, reader) : code;
}
