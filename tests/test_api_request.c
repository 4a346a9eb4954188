/* Requests' bodies: each field's good values, its wrong types and ranges with the field that the error names. */
#include "test.h"

#include "base/decimal.h"
#include "base/memory.h"
#include "serve/api_request.h"

typedef int (*reader)(const char *body, size_t length, struct api_request *request, struct answer_error *problem);

enum { CHAT, COMPLETION, EMBEDDING, RESPONSE, TOKENIZE, DETOKENIZE };
static const reader readers[] = {api_request_read_chat,     api_request_read_completion, api_request_read_embedding,
                                 api_request_read_response, api_request_read_tokenize,   api_request_read_detokenize};
/* What a body of each kind cannot do without. */
static const char *const needed[] = {"\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]", "\"prompt\":\"hi\"",
                                     "\"input\":\"hi\"", "\"input\":\"hi\"", "\"prompt\":\"hi\"", "\"tokens\":[1]"};

static int read_body(int kind, const char *body, struct api_request *request, struct answer_error *problem)
{
    memset(request, 0, sizeof *request);
    memset(problem, 0, sizeof *problem);
    return readers[kind](body, strlen(body), request, problem);
}

static void read_good(int kind, const char *more, struct api_request *request)
{
    char body[4000];
    struct answer_error problem;
    snprintf(body, sizeof body, "{%s%s%s}", needed[kind], *more ? "," : "", more);
    if (read_body(kind, body, request, &problem) != BULLA_OK)
        fail_msg("%s: %s", body, problem.message);
}

/* `more` is refused with status 400, naming `param` (NULL: none). */
static void check_refused_body(int kind, const char *body, const char *param, const char *code)
{
    struct api_request request;
    struct answer_error problem;
    if (read_body(kind, body, &request, &problem) == BULLA_OK)
        fail_msg("%s: accepted", body);
    if (problem.status != 400 || strcmp(problem.type, "invalid_request_error") != 0)
        fail_msg("%s: status %d", body, problem.status);
    if ((param == NULL) != (problem.param == NULL) || (param && strcmp(param, problem.param) != 0))
        fail_msg("%s: names %s, expected %s (%s)", body, problem.param ? problem.param : "nothing",
                 param ? param : "nothing", problem.message);
    if (code && (!problem.code || strcmp(code, problem.code) != 0))
        fail_msg("%s: code %s, expected %s", body, problem.code ? problem.code : "none", code);
    if (param && !strstr(problem.message, param))
        fail_msg("%s: the sentence does not name the field: %s", body, problem.message);
    api_request_free(&request);
}

static void check_refused(int kind, const char *more, const char *param, const char *code)
{
    char body[4000];
    snprintf(body, sizeof body, "{%s,%s}", needed[kind], more);
    check_refused_body(kind, body, param, code);
}

static void test_defaults(void **state)
{
    struct api_request request;
    read_good(CHAT, "", &request);
    const struct answer_request *answer = &request.answer;
    assert_int_equal(answer->kind, ANSWER_CHAT);
    assert_int_equal(answer->sampling.temperature, 1000000);
    assert_int_equal(answer->sampling.top_p, 1000000);
    assert_int_equal(answer->sampling.min_p, 0);
    assert_int_equal(answer->sampling.top_k, 0);
    assert_int_equal(answer->sampling.repetition, 1000000);
    assert_int_equal(answer->sampling.presence, 0);
    assert_int_equal(answer->choices, 1);
    assert_int_equal(answer->max_tokens, 0);
    assert_int_equal(answer->logprobs, -1);
    assert_int_equal(answer->tool_choice, TOOLS_NONE);
    assert_true(answer->shares_prefix && answer->parallel_tool_calls);
    assert_false(answer->has_seed || answer->ignores_end || answer->continues_last || request.is_stream);
    assert_null(request.model);
    assert_int_equal(request.prompt_count, 1);
    api_request_free(&request);
    read_good(COMPLETION, "", &request);
    assert_int_equal(request.answer.max_tokens, REQUEST_COMPLETION_TOKENS);
    assert_string_equal(request.prompts[0].text, "hi");
    api_request_free(&request);
}

static void test_sampling(void **state)
{
    struct api_request request;
    read_good(CHAT,
              "\"temperature\":0.7,\"top_p\":0.9500004,\"min_p\":0.0000005,\"top_k\":-1,\"presence_penalty\":-1.5,"
              "\"frequency_penalty\":2e0,\"repetition_penalty\":1.1,\"seed\":-3,\"n\":4,\"max_tokens\":7,"
              "\"max_completion_tokens\":9,\"stop\":[\"a\",\"\",\"bc\"],\"logit_bias\":{\"5\":-100,\"0\":0.25},"
              "\"logprobs\":true,\"top_logprobs\":20,\"ignore_eos\":true,\"cache_prompt\":false,\"priority\":-4,"
              "\"stream\":true,\"stream_options\":{\"include_usage\":true},\"unknown\":{\"a\":1},\"top_a\":null",
              &request);
    const struct answer_request *answer = &request.answer;
    assert_int_equal(answer->sampling.temperature, 700000);
    assert_int_equal(answer->sampling.top_p, 950000);
    assert_int_equal(answer->sampling.min_p, 1);
    assert_int_equal(answer->sampling.top_k, 0);
    assert_int_equal(answer->sampling.presence, -1500000);
    assert_int_equal(answer->sampling.frequency, 2000000);
    assert_int_equal(answer->sampling.repetition, 1100000);
    assert_true(answer->has_seed && answer->sampling.seed == (uint64_t)-3);
    assert_int_equal(answer->choices, 4);
    assert_int_equal(answer->max_tokens, 9);
    assert_int_equal(answer->stop_count, 2);
    assert_string_equal(answer->stops[1], "bc");
    assert_int_equal(answer->stop_lengths[1], 2);
    assert_int_equal(answer->sampling.bias_count, 2);
    assert_int_equal(answer->sampling.biases[0].id, 5);
    assert_int_equal(answer->sampling.biases[0].bias, -100000000);
    assert_int_equal(answer->sampling.biases[1].bias, 250000);
    assert_int_equal(answer->logprobs, 20);
    assert_true(answer->ignores_end && !answer->shares_prefix);
    assert_int_equal(request.priority, -4);
    assert_true(request.is_stream && request.includes_usage);
    api_request_free(&request);
    read_good(CHAT, "\"seed\":-1", &request);
    assert_false(request.answer.has_seed);
    api_request_free(&request);
    read_good(CHAT, "\"seed\":18446744073709551615,\"stop\":\"x\",\"max_tokens\":-1,\"logprobs\":true", &request);
    assert_true(request.answer.sampling.seed == UINT64_MAX && request.answer.stop_count == 1);
    assert_int_equal(request.answer.max_tokens, 0);
    assert_int_equal(request.answer.logprobs, 0);
    api_request_free(&request);
}

/* Every field with every wrong type, and the edges of its range. */
static void test_wrong_types(void **state)
{
    static const char *const values[] = {"true", "1", "\"x\"", "[1]", "{\"a\":1}"};
    enum { BOOLEAN = 1, NUMBER = 2, STRING = 4, LIST = 8, OBJECT = 16 };
    static const struct {
        int kind;
        const char *key;
        unsigned good; /* types that are not refused as types */
    } fields[] = {
        {CHAT, "model", STRING}, {CHAT, "stream", BOOLEAN}, {CHAT, "stream_options", OBJECT}, {CHAT, "temperature", NUMBER},
        {CHAT, "top_p", NUMBER}, {CHAT, "min_p", NUMBER}, {CHAT, "top_k", NUMBER}, {CHAT, "presence_penalty", NUMBER},
        {CHAT, "frequency_penalty", NUMBER}, {CHAT, "repetition_penalty", NUMBER}, {CHAT, "seed", NUMBER},
        {CHAT, "n", NUMBER}, {CHAT, "stop", STRING | LIST}, {CHAT, "logit_bias", OBJECT}, {CHAT, "logprobs", BOOLEAN},
        {CHAT, "top_logprobs", NUMBER}, {CHAT, "max_tokens", NUMBER}, {CHAT, "max_completion_tokens", NUMBER},
        {CHAT, "response_format", OBJECT}, {CHAT, "tools", LIST}, {CHAT, "tool_choice", STRING | OBJECT},
        {CHAT, "parallel_tool_calls", BOOLEAN}, {CHAT, "chat_template_kwargs", OBJECT},
        {CHAT, "continue_final_message", BOOLEAN}, {CHAT, "add_generation_prompt", BOOLEAN},
        {CHAT, "ignore_eos", BOOLEAN}, {CHAT, "cache_prompt", BOOLEAN}, {CHAT, "priority", NUMBER},
        {CHAT, "timeout", NUMBER}, {COMPLETION, "timeout", NUMBER}, {CHAT, "repeat_penalty", NUMBER},
        {CHAT, "repeat_last_n", NUMBER}, {COMPLETION, "n_predict", NUMBER}, {CHAT, "verbosity", STRING},
        {EMBEDDING, "timeout", NUMBER},
        {RESPONSE, "timeout", NUMBER},
        {COMPLETION, "echo", BOOLEAN}, {COMPLETION, "logprobs", NUMBER}, {COMPLETION, "best_of", NUMBER},
        {COMPLETION, "suffix", STRING}, {EMBEDDING, "encoding_format", STRING}, {EMBEDDING, "dimensions", NUMBER},
        {RESPONSE, "instructions", STRING}, {RESPONSE, "max_output_tokens", NUMBER}, {RESPONSE, "text", OBJECT},
        {RESPONSE, "tools", LIST}, {RESPONSE, "tool_choice", STRING | OBJECT}, {RESPONSE, "store", BOOLEAN},
        {RESPONSE, "metadata", OBJECT}, {RESPONSE, "include", LIST}, {RESPONSE, "top_logprobs", NUMBER},
        {CHAT, "reasoning_effort", STRING}, {RESPONSE, "reasoning", OBJECT}, {RESPONSE, "chat_template_kwargs", OBJECT},
        {RESPONSE, "max_tool_calls", NUMBER}, {RESPONSE, "user", STRING}, {RESPONSE, "safety_identifier", STRING},
        {RESPONSE, "prompt_cache_key", STRING}, {RESPONSE, "service_tier", STRING}, {RESPONSE, "truncation", STRING},
        {RESPONSE, "parallel_tool_calls", BOOLEAN}, {RESPONSE, "top_p", NUMBER}, {RESPONSE, "stream", BOOLEAN}, {RESPONSE, "temperature", NUMBER}, {RESPONSE, "background", BOOLEAN},
        {TOKENIZE, "add_special_tokens", BOOLEAN}, {TOKENIZE, "return_token_strs", BOOLEAN},
        {TOKENIZE, "with_pieces", BOOLEAN},
        {DETOKENIZE, "model", STRING},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        for (size_t k = 0; k < 5; k++) {
            char more[200];
            snprintf(more, sizeof more, "\"%s\":%s", fields[i].key, values[k]);
            if (!(fields[i].good >> k & 1))
                check_refused(fields[i].kind, more, fields[i].key, "invalid_type");
        }
}

static void test_ranges(void **state)
{
    static const struct {
        int kind;
        const char *more, *param;
    } cases[] = {
        {CHAT, "\"temperature\":100.000001", "temperature"},
        {CHAT, "\"temperature\":-0.000001", "temperature"},
        {CHAT, "\"temperature\":1e300", "temperature"},
        {CHAT, "\"top_p\":1.0000005", "top_p"},
        {CHAT, "\"min_p\":-1", "min_p"},
        {CHAT, "\"top_k\":-2", "top_k"},
        {CHAT, "\"top_k\":1.5", "top_k"},
        {CHAT, "\"presence_penalty\":101", "presence_penalty"},
        {CHAT, "\"frequency_penalty\":-101", "frequency_penalty"},
        {CHAT, "\"repetition_penalty\":0", "repetition_penalty"},
        {CHAT, "\"n\":0", "n"},
        {CHAT, "\"n\":129", "n"},
        {CHAT, "\"seed\":18446744073709551616", "seed"},
        {CHAT, "\"seed\":0.5", "seed"},
        {CHAT, "\"seed\":-9223372036854775809", "seed"},
        {CHAT, "\"max_tokens\":0", "max_tokens"},
        {CHAT, "\"max_tokens\":-2", "max_tokens"},
        {CHAT, "\"max_completion_tokens\":0", "max_completion_tokens"},
        {CHAT, "\"stop\":[\"a\",1]", "stop[1]"},
        {CHAT, "\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"10\",\"11\",\"12\",\"13\",\"14\","
               "\"15\",\"16\",\"17\"]", "stop"},
        {CHAT, "\"logit_bias\":{\"x\":1}", "logit_bias"},
        {CHAT, "\"logit_bias\":{\"01\":1}", "logit_bias"},
        {CHAT, "\"logit_bias\":{\"4294967296\":1}", "logit_bias"},
        {CHAT, "\"logit_bias\":{\"7\":\"1\"}", "logit_bias.7"},
        {CHAT, "\"logit_bias\":{\"7\":1001}", "logit_bias.7"},
        {CHAT, "\"top_logprobs\":3", "top_logprobs"},
        {CHAT, "\"logprobs\":true,\"top_logprobs\":21", "top_logprobs"},
        {CHAT, "\"priority\":1001", "priority"},
        {CHAT, "\"timeout\":0", "timeout"},
        {CHAT, "\"timeout\":-1", "timeout"},
        {CHAT, "\"timeout\":1e10", "timeout"},
        {CHAT, "\"lora\":[{\"id\":0}]", "lora"},
        {CHAT, "\"functions\":[{}]", "functions"},
        {CHAT, "\"function_call\":\"auto\"", "function_call"},
        {CHAT, "\"guided_regex\":\"a\"", "guided_regex"},
        {CHAT, "\"modalities\":[\"text\",\"audio\"]", "modalities[1]"},
        {CHAT, "\"continue_final_message\":true", "continue_final_message"},
        {CHAT, "\"stream_options\":{\"include_usage\":1}", "stream_options.include_usage"},
        {CHAT, "\"response_format\":{}", "response_format.type"},
        {CHAT, "\"response_format\":{\"type\":\"xml\"}", "response_format.type"},
        {CHAT, "\"response_format\":{\"type\":\"json_schema\"}", "response_format.json_schema"},
        {CHAT, "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{}}", "response_format.json_schema.schema"},
        {CHAT, "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":[]}}",
         "response_format.json_schema.schema"},
        {CHAT, "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{\"$dynamicRef\":\"#a\"}}}",
         "response_format.json_schema.schema"},
        {CHAT, "\"response_format\":{\"type\":\"json_object\",\"schema\":7}", "response_format.schema"},
        {CHAT, "\"response_format\":{\"type\":\"json_object\",\"schema\":false}", "response_format.schema"},
        {CHAT, "\"response_format\":{\"type\":\"json_schema\",\"schema\":{\"$dynamicRef\":\"#a\"}}",
         "response_format.schema"},
        {CHAT, "\"response_format\":{\"type\":\"json_schema\",\"schema\":{},\"json_schema\":{\"schema\":{}}}",
         "response_format.schema"},
        {CHAT, "\"tools\":[1]", "tools[0]"},
        {CHAT, "\"tools\":[{\"type\":\"custom\"}]", "tools[0].type"},
        {CHAT, "\"tools\":[{\"type\":\"function\"}]", "tools[0].function"},
        {CHAT, "\"tools\":[{\"type\":\"function\",\"function\":{}}]", "tools[0].function.name"},
        {CHAT, "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"a b\"}}]", "tools[0].function.name"},
        {CHAT, "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":1}}]",
         "tools[0].function.parameters"},
        {CHAT, "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}},{\"type\":\"function\",\"function\":"
               "{\"name\":\"f\"}}]", "tools"},
        {CHAT, "\"tool_choice\":\"required\"", "tool_choice"},
        {CHAT, "\"tool_choice\":\"some\"", "tool_choice"},
        {CHAT, "\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}}", "tool_choice.function.name"},
        {COMPLETION, "\"logprobs\":21", "logprobs"},
        {COMPLETION, "\"best_of\":2", "best_of"},
        {COMPLETION, "\"suffix\":\"x\"", "suffix"},
        {COMPLETION, "\"echo\":true,\"logprobs\":1", "logprobs"},
        {EMBEDDING, "\"encoding_format\":\"hex\"", "encoding_format"},
        {EMBEDDING, "\"dimensions\":0", "dimensions"},
        {RESPONSE, "\"store\":true", "store"},
        {RESPONSE, "\"background\":true", "background"},
        {RESPONSE, "\"previous_response_id\":\"resp_1\"", "previous_response_id"},
        {RESPONSE, "\"conversation\":\"c\"", "conversation"},
        {RESPONSE, "\"max_output_tokens\":0", "max_output_tokens"},
        {RESPONSE, "\"tools\":[{\"type\":\"web_search\"}]", "tools[0].type"},
        {RESPONSE, "\"tools\":[{\"type\":\"function\"}]", "tools[0].name"},
        {RESPONSE, "\"tool_choice\":{\"type\":\"function\",\"name\":\"f\"}", "tool_choice.name"},
        {RESPONSE, "\"text\":{\"format\":{\"type\":\"json_schema\"}}", "text.format.schema"},
        {RESPONSE, "\"text\":{\"format\":{\"type\":\"json_schema\",\"schema\":{\"$dynamicRef\":\"#a\"}}}", "text.format.schema"},
        {RESPONSE, "\"text\":{\"format\":{\"type\":\"xml\"}}", "text.format.type"},
        {RESPONSE, "\"text\":{\"format\":7}", "text.format"},
        {RESPONSE, "\"text\":{\"verbosity\":7}", "text.verbosity"},
        {RESPONSE, "\"max_tool_calls\":-1", "max_tool_calls"},
        {RESPONSE, "\"metadata\":{\"a\":{}}", "metadata.a"},
        {RESPONSE, "\"include\":[7]", "include[0]"},
        {RESPONSE, "\"reasoning\":{\"effort\":7}", "reasoning.effort"},
        {RESPONSE, "\"reasoning\":{\"summary\":7}", "reasoning.summary"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_refused(cases[i].kind, cases[i].more, cases[i].param, NULL);
}

/* Fields of other servers that would change an answer: by the kinds that have them, with a value that changes nothing and
 * one that does. */
static void test_what_is_refused(void **state)
{
    static const struct {
        const char *kinds; /* c: chats, p: completions, e: embeddings, r: responses, t: tokenize */
        const char *key, *neutral, *refused;
    } fields[] = {
        {"cpr", "functions", "[]", "[{}]"}, {"cpr", "function_call", "\"\"", "\"auto\""}, {"cpr", "audio", "{}", "{\"a\":1}"},
        {"cpr", "prediction", "null", "{\"a\":1}"}, {"cpr", "web_search_options", "null", "{\"a\":1}"},
        {"cr", "best_of", "1", "2"}, {"r", "n", "1", "2"}, {"r", "response_format", "null", "{\"type\":\"text\"}"},
        {"r", "messages", "[]", "[1]"}, {"r", "max_tokens", "null", "5"}, {"r", "max_completion_tokens", "null", "5"},
        {"r", "n_predict", "null", "5"}, {"r", "logprobs", "false", "true"}, {"r", "reasoning_effort", "null", "\"low\""},
        {"cpr", "stop_token_ids", "[]", "[1]"}, {"cpr", "include_stop_str_in_output", "false", "true"},
        {"cpr", "no_stop_trim", "false", "true"}, {"cpr", "bad_words", "[]", "[\"a\"]"},
        {"cpr", "allowed_token_ids", "[]", "[1]"}, {"cpr", "min_tokens", "0", "1"}, {"cpr", "use_beam_search", "false", "true"},
        {"cpr", "length_penalty", "1.0", "0.5"}, {"cpr", "skip_special_tokens", "true", "false"},
        {"cpr", "prompt_logprobs", "null", "0"}, {"cpr", "logprob_token_ids", "[]", "[1]"},
        {"cpr", "return_tokens_as_token_ids", "false", "true"}, {"cper", "truncate_prompt_tokens", "null", "-1"},
        {"cpr", "prompt_embeds", "[]", "\"x\""}, {"cr", "add_special_tokens", "false", "true"},
        {"pe", "add_special_tokens", "true", "false"}, {"cr", "echo", "false", "true"}, {"crt", "chat_template", "\"\"", "\"x\""},
        {"crt", "documents", "[]", "[{}]"}, {"cpr", "guided_json", "{}", "{\"a\":1}"}, {"cpr", "guided_choice", "[]", "[\"a\"]"},
        {"cpr", "guided_regex", "\"\"", "\"a\""}, {"cpr", "guided_grammar", "\"\"", "\"a\""},
        {"cpr", "guided_whitespace_pattern", "null", "\"a\""}, {"cpr", "structured_outputs", "{}", "{\"a\":1}"},
        {"cpr", "structural_tag", "null", "\"a\""}, {"cpr", "regex", "\"\"", "\"a\""}, {"cpr", "ebnf", "\"\"", "\"a\""},
        {"cpr", "logits_processors", "[]", "[1]"}, {"cpr", "custom_logit_processor", "null", "\"a\""},
        {"cpr", "vllm_xargs", "{}", "{\"a\":1}"}, {"cpr", "watermarking", "false", "true"},
        {"cpr", "repetition_detection", "null", "{\"a\":1}"}, {"cpr", "thinking_token_budget", "-1", "0"},
        {"cpr", "include_reasoning", "true", "false"}, {"cpr", "separate_reasoning", "true", "false"},
        {"e", "normalize", "true", "false"}, {"e", "use_activation", "true", "false"}, {"cpr", "grammar", "\"\"", "\"a\""},
        {"cpr", "json_schema", "{}", "{\"a\":1}"}, {"cpr", "typical_p", "1", "0.9"}, {"cpr", "tfs_z", "1.0", "0.9"},
        {"cpr", "top_a", "0", "0.2"}, {"cpr", "top_n_sigma", "-1", "1"}, {"cpr", "xtc_probability", "0.0", "0.5"},
        {"cpr", "dry_multiplier", "0", "0.8"}, {"cpr", "mirostat", "0", "2"}, {"cpr", "dynatemp_range", "0", "0.5"},
        {"cpr", "adaptive_target", "-1", "0.5"}, {"cpr", "min_keep", "0", "1"}, {"cpr", "samplers", "[]", "[\"top_k\"]"},
        {"cpr", "n_indent", "0", "2"}, {"cpr", "n_cmpl", "1", "2"}, {"cpr", "n_probs", "0", "3"},
        {"cpr", "post_sampling_probs", "false", "true"}, {"cpr", "t_max_predict_ms", "-1", "100"},
        {"cpr", "reasoning_budget", "-1", "0"}, {"cpr", "reasoning_budget_tokens", "-1", "10"},
        {"cpr", "parse_tool_calls", "true", "false"}, {"cpr", "image_data", "[]", "[1]"}, {"e", "embd_normalize", "2", "-1"},
        {"cpr", "modalities", "[\"text\"]", NULL}, {"cper", "lora_path", "[]", "\"a\""},
    };
    static const char letters[] = "cpert";
    char more[100];
    struct api_request request;
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        for (const char *letter = fields[i].kinds; *letter; letter++) {
            int kind = (int)(strchr(letters, *letter) - letters);
            snprintf(more, sizeof more, "\"%s\":%s", fields[i].key, fields[i].neutral);
            read_good(kind, more, &request);
            api_request_free(&request);
            snprintf(more, sizeof more, "\"%s\":%s", fields[i].key, fields[i].refused);
            if (fields[i].refused)
                check_refused(kind, more, fields[i].key, "unsupported_parameter");
        }
    check_refused(CHAT, "\"reasoning_format\":\"none\"", "reasoning_format", "unsupported_value");
    check_refused(CHAT, "\"verbosity\":\"low\"", "verbosity", "unsupported_value");
    check_refused(RESPONSE, "\"text\":{\"verbosity\":\"high\"}", "text.verbosity", "unsupported_value");
    check_refused(RESPONSE, "\"truncation\":\"auto\"", "truncation", "unsupported_value");
    check_refused(CHAT, "\"repeat_last_n\":64,\"repeat_penalty\":1.1", "repeat_last_n", "unsupported_parameter");
    check_refused(COMPLETION, "\"repeat_last_n\":0,\"presence_penalty\":1", "repeat_last_n", "unsupported_parameter");
    read_good(CHAT, "\"reasoning_format\":\"deepseek\",\"verbosity\":\"medium\",\"repeat_last_n\":64", &request);
    api_request_free(&request);
    read_good(CHAT, "\"repeat_last_n\":-1,\"repeat_penalty\":1.1", &request);
    api_request_free(&request);
}

/* The names that llama.cpp has for fields of vLLM and OpenAI, which count first. */
static void test_other_names(void **state)
{
    struct api_request request;
    read_good(COMPLETION, "\"repeat_penalty\":1.2,\"n_predict\":7", &request);
    assert_int_equal(request.answer.sampling.repetition, 1200000);
    assert_int_equal(request.answer.max_tokens, 7);
    api_request_free(&request);
    read_good(COMPLETION, "\"repeat_penalty\":1.2,\"repetition_penalty\":1.3,\"n_predict\":-1", &request);
    assert_int_equal(request.answer.sampling.repetition, 1300000);
    assert_int_equal(request.answer.max_tokens, 0);
    api_request_free(&request);
    read_good(CHAT, "\"max_tokens\":3,\"n_predict\":7", &request);
    assert_int_equal(request.answer.max_tokens, 3);
    api_request_free(&request);
}

/* Fields that other servers have, where they are off. */
static void test_what_is_off(void **state)
{
    struct api_request request;
    read_good(CHAT,
              "\"functions\":[],\"grammar\":\"\",\"stop_token_ids\":null,\"min_tokens\":0,\"use_beam_search\":false,"
              "\"lora\":[],\"modalities\":[\"text\"],\"tools\":[],\"tool_choice\":\"auto\",\"stop\":\"\",\"seed\":null,"
              "\"reasoning_effort\":\"low\",\"user\":\"u\",\"metadata\":{},\"store\":true,\"service_tier\":\"auto\"",
              &request);
    assert_null(request.answer.tools);
    assert_int_equal(request.answer.stop_count, 0);
    api_request_free(&request);
}

static const struct json *message(const struct api_request *request, size_t number, const char *key)
{
    return json_get(request->answer.messages->items[number], key);
}

static void test_messages(void **state)
{
    static const char body[] =
        "{\"messages\":["
        "{\"role\":\"developer\",\"content\":[{\"type\":\"text\",\"text\":\"one\"},{\"type\":\"text\",\"text\":\"two\"}]},"
        "{\"role\":\"user\",\"content\":\"\",\"name\":\"ann\"},"
        "{\"role\":\"assistant\",\"content\":null,\"reasoning_content\":\"hm\",\"tool_calls\":["
        "{\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}},"
        "{\"id\":\"c2\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{broken\"}}]},"
        "{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"2\"}]}";
    struct api_request request;
    struct answer_error problem;
    if (read_body(CHAT, body, &request, &problem) != BULLA_OK)
        fail_msg("%s", problem.message);
    assert_int_equal(request.answer.messages->length, 4);
    assert_string_equal(message(&request, 0, "role")->text, "system");
    assert_string_equal(message(&request, 0, "content")->text, "one\ntwo");
    assert_string_equal(message(&request, 1, "name")->text, "ann");
    assert_true(json_is(message(&request, 2, "content"), JSON_NULL));
    assert_string_equal(message(&request, 2, "reasoning_content")->text, "hm");
    const struct json *calls = message(&request, 2, "tool_calls");
    const struct json *arguments = json_get(json_get(calls->items[0], "function"), "arguments");
    assert_int_equal(json_get(arguments, "a")->integer, 1);
    assert_string_equal(json_get(json_get(calls->items[1], "function"), "arguments")->text, "{broken");
    /* What was read is not changed: it may be handed back. */
    assert_string_equal(json_get(json_get(request.body, "messages")->items[0], "role")->text, "developer");
    api_request_free(&request);
}

/* Thoughts under either name reach templates under one. */
static void test_thoughts(void **state)
{
    static const char *const thoughts[] = {
        "\"reasoning_content\":\"a\"", "\"reasoning\":\"a\"", "\"reasoning_content\":null,\"reasoning\":\"a\"",
        "\"reasoning\":\"b\",\"reasoning_content\":\"a\"", "\"reasoning\":null,\"reasoning_content\":\"a\""};
    for (size_t i = 0; i < sizeof thoughts / sizeof thoughts[0]; i++) {
        struct api_request request;
        struct answer_error problem;
        char body[200];
        snprintf(body, sizeof body, "{\"messages\":[{\"role\":\"assistant\",%s}]}", thoughts[i]);
        assert_int_equal(read_body(CHAT, body, &request, &problem), BULLA_OK);
        assert_string_equal(message(&request, 0, "reasoning_content")->text, "a");
        api_request_free(&request);
    }
}

static void test_wrong_messages(void **state)
{
    static const struct {
        const char *messages, *param;
    } cases[] = {
        {"1", "messages"},
        {"[]", "messages"},
        {"[1]", "messages[0]"},
        {"[{}]", "messages[0].role"},
        {"[{\"role\":\"king\",\"content\":\"x\"}]", "messages[0].role"},
        {"[{\"role\":\"user\"}]", "messages[0].content"},
        {"[{\"role\":\"user\",\"content\":null}]", "messages[0].content"},
        {"[{\"role\":\"user\",\"content\":7}]", "messages[0].content"},
        {"[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
         "{\"type\":\"image_url\",\"image_url\":{}}]}]", "messages[1].content[1].type"},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]", "messages[0].content[0].text"},
        {"[{\"role\":\"user\",\"content\":[{\"text\":\"a\"}]}]", "messages[0].content[0].type"},
        {"[{\"role\":\"user\",\"content\":\"x\",\"name\":1}]", "messages[0].name"},
        {"[{\"role\":\"assistant\"}]", "messages[0].content"},
        {"[{\"role\":\"assistant\",\"reasoning\":{}}]", "messages[0].reasoning"},
        {"[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[]}]", "messages[0].content"},
        {"[{\"role\":\"assistant\",\"tool_calls\":{}}]", "messages[0].tool_calls"},
        {"[{\"role\":\"assistant\",\"tool_calls\":[1]}]", "messages[0].tool_calls[0]"},
        {"[{\"role\":\"assistant\",\"tool_calls\":[{\"type\":\"x\",\"function\":{\"name\":\"f\"}}]}]",
         "messages[0].tool_calls[0].type"},
        {"[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"a\"}]}]", "messages[0].tool_calls[0].function"},
        {"[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{}}]}]", "messages[0].tool_calls[0].function.name"},
        {"[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":1}}]}]",
         "messages[0].tool_calls[0].function.arguments"},
        {"[{\"role\":\"assistant\",\"content\":\"\",\"function_call\":{}}]", "messages[0].function_call"},
        {"[{\"role\":\"tool\",\"content\":\"x\",\"tool_call_id\":5}]", "messages[0].tool_call_id"},
    };
    char body[1000];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(body, sizeof body, "{\"messages\":%s}", cases[i].messages);
        check_refused_body(CHAT, body, cases[i].param, NULL);
        check_refused_body(TOKENIZE, body, cases[i].param, NULL);
    }
    check_refused_body(CHAT, "{}", "messages", "missing_required_parameter");
}

static void test_tools_and_format(void **state)
{
    struct api_request request;
    read_good(CHAT,
              "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\"}}}],"
              "\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}},\"parallel_tool_calls\":false,"
              "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\",\"strict\":false,"
              "\"schema\":{\"z\":1.50,\"a\":[true]}}},\"chat_template_kwargs\":{\"enable_thinking\":false}",
              &request);
    assert_int_equal(request.answer.tool_choice, TOOLS_NAMED);
    assert_string_equal(request.answer.tool_name, "f");
    assert_false(request.answer.parallel_tool_calls);
    /* Members in their order, numbers as they were written: both mean something to a grammar. */
    assert_string_equal(request.answer.grammar, "{\"schema\":{\"z\":1.50,\"a\":[true]}}");
    assert_int_equal(request.answer.grammar_length, strlen(request.answer.grammar));
    assert_non_null(json_get(request.answer.template_kwargs, "enable_thinking"));
    api_request_free(&request);
    read_good(CHAT, "\"response_format\":{\"type\":\"json_object\"}", &request);
    assert_string_equal(request.answer.grammar, "{\"object\":true}");
    api_request_free(&request);
    read_good(CHAT, "\"response_format\":{\"type\":\"text\"}", &request);
    assert_null(request.answer.grammar);
    api_request_free(&request);
    check_refused(CHAT, "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{\"$dynamicRef\":\"#a\"}}}",
                  "response_format.json_schema.schema", "unsupported_schema");
}

/* The forms that a schema comes in: all are enforced, and an upstream gets OpenAI's. */
static void test_schema_forms(void **state)
{
    static const struct {
        int kind;
        const char *more, *grammar, *passed_on;
    } cases[] = {
        {CHAT, "\"response_format\":{\"type\":\"json_object\",\"schema\":{\"type\":\"null\"}}",
         "{\"schema\":{\"type\":\"null\"}}",
         "{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"answer\",\"schema\":{\"type\":\"null\"}}}"},
        {COMPLETION, "\"response_format\":{\"type\":\"json_schema\",\"schema\":{\"type\":\"null\"}}",
         "{\"schema\":{\"type\":\"null\"}}",
         "{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"answer\",\"schema\":{\"type\":\"null\"}}}"},
        {CHAT, "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\",\"strict\":true,"
               "\"description\":\"d\",\"schema\":true}}", "{\"schema\":true}",
         "{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\",\"description\":\"d\",\"strict\":true,"
         "\"schema\":true}}"},
        {RESPONSE, "\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":\"n\",\"schema\":{\"type\":\"null\"}}}",
         "{\"schema\":{\"type\":\"null\"}}",
         "{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\",\"schema\":{\"type\":\"null\"}}}"},
        {CHAT, "\"response_format\":{\"type\":\"json_object\",\"schema\":{}}", "{\"object\":true}",
         "{\"type\":\"json_object\",\"schema\":{}}"},
        {CHAT, "\"response_format\":{\"type\":\"json_object\",\"schema\":null}", "{\"object\":true}",
         "{\"type\":\"json_object\",\"schema\":null}"},
    };
    struct api_request request;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        read_good(cases[i].kind, cases[i].more, &request);
        assert_string_equal(request.answer.grammar, cases[i].grammar);
        assert_string_equal(request.answer.response_format, cases[i].passed_on);
        api_request_free(&request);
    }
}

/* reasoning_effort among the template's variables. */
static void test_effort(void **state)
{
    static const struct {
        int kind;
        const char *more, *variables, *effort;
    } cases[] = {
        {CHAT, "\"reasoning_effort\":\"low\"", "{\"reasoning_effort\":\"low\"}", "low"},
        {CHAT, "\"reasoning_effort\":\"none\"", "{\"reasoning_effort\":\"none\",\"enable_thinking\":false}", "none"},
        {CHAT, "\"reasoning_effort\":\"none\",\"chat_template_kwargs\":{\"enable_thinking\":true,\"a\":1}",
         "{\"enable_thinking\":true,\"a\":1,\"reasoning_effort\":\"none\"}", "none"},
        {CHAT, "\"reasoning_effort\":\"high\",\"chat_template_kwargs\":{\"reasoning_effort\":\"max\"}",
         "{\"reasoning_effort\":\"max\"}", "high"},
        {RESPONSE, "\"reasoning\":{\"effort\":\"minimal\",\"summary\":\"auto\"}", "{\"reasoning_effort\":\"minimal\"}",
         "minimal"},
        {RESPONSE, "\"reasoning\":{\"effort\":\"none\"},\"chat_template_kwargs\":{\"b\":2}",
         "{\"b\":2,\"reasoning_effort\":\"none\",\"enable_thinking\":false}", "none"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct api_request request;
        struct buffer text = {0};
        read_good(cases[i].kind, cases[i].more, &request);
        json_write(&text, request.answer.template_kwargs);
        assert_string_equal((char *)text.data, cases[i].variables);
        assert_string_equal(request.answer.reasoning_effort, cases[i].effort);
        buffer_free(&text);
        api_request_free(&request);
    }
    check_refused(CHAT, "\"reasoning_effort\":\"much\"", "reasoning_effort", "invalid_value");
    check_refused(RESPONSE, "\"reasoning\":{\"effort\":\"much\"}", "reasoning.effort", "invalid_value");
}

/* What an answer needs after its beginning does not lie in the JSON. */
static void test_forgotten(void **state)
{
    struct api_request request;
    read_good(COMPLETION,
              "\"model\":\"m\",\"stop\":[\"end\"],\"logit_bias\":{\"5\":1},\"response_format\":{\"type\":\"json_object\"},"
              "\"unknown\":[0,0,0]",
              &request);
    assert_true(request.json.total > 0);
    api_request_forget(&request);
    assert_int_equal(request.json.total, 0);
    assert_null(request.body);
    assert_string_equal(request.model, "m");
    assert_string_equal(request.prompts[0].text, "hi");
    assert_string_equal(request.answer.stops[0], "end");
    assert_int_equal(request.answer.sampling.biases[0].id, 5);
    assert_string_equal(request.answer.grammar, "{\"object\":true}");
    assert_string_equal(request.answer.response_format, "{\"type\":\"json_object\"}");
    assert_int_equal(request.answer.response_format_length, strlen(request.answer.response_format));
    api_request_free(&request);
    read_good(CHAT,
              "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],\"tool_choice\":{\"type\":\"function\","
              "\"function\":{\"name\":\"f\"}},\"chat_template_kwargs\":{\"a\":1},\"reasoning_effort\":\"low\"",
              &request);
    api_request_forget(&request);
    assert_null(request.answer.messages);
    assert_null(request.answer.tools);
    assert_null(request.answer.tool_name);
    assert_null(request.answer.template_kwargs);
    assert_null(request.answer.reasoning_effort);
    api_request_free(&request);
    read_good(RESPONSE, "\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":\"n\",\"schema\":{\"a\":1}}}", &request);
    api_request_forget(&request);
    assert_string_equal(request.answer.response_format,
                        "{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\",\"schema\":{\"a\":1}}}");
    api_request_free(&request);
}

static void test_prompts(void **state)
{
    static const struct {
        const char *prompt, *param;
    } cases[] = {{"null", "prompt"}, {"1", "prompt"}, {"\"\"", "prompt"}, {"[]", "prompt"}, {"{}", "prompt"},
                 {"[[]]", "prompt[0]"}, {"[\"a\",\"\"]", "prompt[1]"}, {"[1,\"a\"]", "prompt[1]"},
                 {"[[1],[2,-1]]", "prompt[1][1]"}, {"[4294967296]", "prompt[0]"}, {"[\"a\",true]", "prompt[1]"}};
    struct api_request request;
    struct answer_error problem;
    char body[200];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(body, sizeof body, "{\"prompt\":%s}", cases[i].prompt);
        check_refused_body(COMPLETION, body, cases[i].param, NULL);
    }
    assert_int_equal(read_body(COMPLETION, "{\"prompt\":[[1,2],\"ab\",[3]],\"n\":2}", &request, &problem), BULLA_OK);
    assert_int_equal(request.prompt_count, 3);
    assert_int_equal(request.prompts[0].id_count, 2);
    assert_int_equal(request.prompts[0].ids[1], 2);
    assert_string_equal(request.prompts[1].text, "ab");
    api_request_free(&request);
    assert_int_equal(read_body(EMBEDDING, "{\"input\":[4,5],\"encoding_format\":\"base64\"}", &request, &problem), BULLA_OK);
    assert_int_equal(request.prompt_count, 1);
    assert_true(request.is_base64 && request.prompts[0].ids[1] == 5);
    api_request_free(&request);
    assert_int_equal(read_body(TOKENIZE, "{\"content\":\"a\",\"add_special\":true}", &request, &problem), BULLA_OK);
    assert_true(request.adds_special);
    api_request_free(&request);
    check_refused_body(DETOKENIZE, "{}", "tokens", NULL);
    check_refused_body(DETOKENIZE, "{\"tokens\":[1,\"a\"]}", "tokens[1]", NULL);
    check_refused_body(TOKENIZE, "{}", "prompt", NULL);
}

static void test_no_json(void **state)
{
    for (int kind = CHAT; kind <= DETOKENIZE; kind++) {
        check_refused_body(kind, "", NULL, "invalid_json");
        check_refused_body(kind, "{\"a\":1,\"a\":2}", NULL, "invalid_json");
        check_refused_body(kind, "{\"a\":1}}", NULL, "invalid_json");
        check_refused_body(kind, "[]", NULL, "invalid_type");
        check_refused_body(kind, "{\"model\":\"a\\u0000b\"}", "model", "invalid_value");
    }
}

/* Items of /v1/responses become messages. */
static void test_response_items(void **state)
{
    static const char body[] =
        "{\"instructions\":\"be\",\"input\":["
        "{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":\"hi\"}]},"
        "{\"type\":\"reasoning\",\"id\":\"rs\",\"summary\":[],\"content\":[{\"type\":\"reasoning_text\",\"text\":\"hm\"}]},"
        "{\"type\":\"message\",\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\",\"text\":\"ok\"}]},"
        "{\"type\":\"function_call\",\"call_id\":\"c1\",\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"},"
        "{\"type\":\"function_call\",\"call_id\":\"c2\",\"name\":\"g\",\"arguments\":\"\"},"
        "{\"type\":\"function_call_output\",\"call_id\":\"c1\",\"output\":\"1\"},"
        "{\"type\":\"function_call\",\"call_id\":\"c3\",\"name\":\"f\",\"arguments\":\"{}\"},"
        "{\"type\":\"function_call_output\",\"call_id\":\"c3\",\"output\":[{\"type\":\"input_text\",\"text\":\"2\"}]}],"
        "\"tools\":[{\"type\":\"function\",\"name\":\"f\",\"strict\":true,\"parameters\":{}}],"
        "\"tool_choice\":{\"type\":\"function\",\"name\":\"f\"},"
        "\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":\"n\",\"schema\":{\"b\":1,\"a\":2}}},"
        "\"include\":[\"reasoning.encrypted_content\",\"message.output_text.logprobs\"],\"top_logprobs\":2}";
    struct api_request request;
    struct answer_error problem;
    if (read_body(RESPONSE, body, &request, &problem) != BULLA_OK)
        fail_msg("%s", problem.message);
    struct buffer text = {0};
    json_write(&text, request.answer.messages);
    assert_string_equal((char *)text.data,
        "[{\"role\":\"system\",\"content\":\"be\"},{\"role\":\"user\",\"content\":\"hi\"},"
        "{\"role\":\"assistant\",\"content\":\"ok\",\"reasoning_content\":\"hm\",\"tool_calls\":["
        "{\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1}}},"
        "{\"id\":\"c2\",\"type\":\"function\",\"function\":{\"name\":\"g\",\"arguments\":\"\"}}]},"
        "{\"role\":\"tool\",\"content\":\"1\",\"tool_call_id\":\"c1\"},"
        "{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"c3\",\"type\":\"function\",\"function\":{\"name\":\"f\","
        "\"arguments\":{}}}]},{\"role\":\"tool\",\"content\":\"2\",\"tool_call_id\":\"c3\"}]");
    buffer_clear(&text);
    json_write(&text, request.answer.tools);
    assert_string_equal((char *)text.data, "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{},"
                                           "\"strict\":true}}]");
    buffer_free(&text);
    assert_int_equal(request.answer.tool_choice, TOOLS_NAMED);
    assert_string_equal(request.answer.grammar, "{\"schema\":{\"b\":1,\"a\":2}}");
    assert_int_equal(request.answer.logprobs, 2);
    api_request_free(&request);
}

static void test_wrong_response_items(void **state)
{
    static const struct {
        const char *input, *param;
    } cases[] = {
        {"null", "input"}, {"[]", "input"}, {"\"\"", "input"}, {"4", "input"}, {"[4]", "input[0]"},
        {"[{\"type\":7}]", "input[0].type"},
        {"[{\"type\":\"item_reference\",\"id\":\"x\"}]", "input[0].type"},
        {"[{\"role\":\"tool\",\"content\":\"x\"}]", "input[0].role"},
        {"[{\"role\":\"user\"}]", "input[0].content"},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"input_image\"}]}]", "input[0].content[0].type"},
        {"[{\"type\":\"function_call\",\"name\":\"f\",\"arguments\":\"\"}]", "input[0].call_id"},
        {"[{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"f\",\"arguments\":{}}]", "input[0].arguments"},
        {"[{\"type\":\"function_call_output\",\"call_id\":\"c\"}]", "input[0].output"},
        {"[{\"type\":\"reasoning\",\"summary\":[]}]", "input"},
    };
    char body[1000];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(body, sizeof body, "{\"input\":%s}", cases[i].input);
        check_refused_body(RESPONSE, body, cases[i].param, NULL);
    }
}

static void test_millionths(void **state)
{
    static const struct {
        const char *text;
        int64_t value;
    } good[] = {{"0", 0}, {"1", 1000000}, {"-1", -1000000}, {"0.1", 100000}, {"1e-6", 1}, {"1E+1", 10000000},
                {"0.0000005", 1}, {"0.00000049999999999", 0}, {"-0.0000005", 0}, {"-0.00000050000001", -1},
                {"-0.0000015", -1}, {"0.0000015", 2}, {"1e-7", 0}, {"5e-7", 1}, {"9e-99999999999", 0}, {"0e999999999", 0},
                {"0.9999995", 1000000}, {"9223372036854.775807", INT64_MAX}, {"0.00001e5", 1000000},
                {"123456789.123456749", 123456789123457}, {"-9223372036854.775807", -INT64_MAX}, {"10.50e-1", 1050000}};
    static const char *const bad[] = {"9223372036854.7758075", "1e13", "1e999999999999", "99999999999999999999"};
    int64_t value;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        if (!decimal_millionths(good[i].text, strlen(good[i].text), &value) || value != good[i].value)
            fail_msg("%s: %lld, expected %lld", good[i].text, (long long)value, (long long)good[i].value);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (decimal_millionths(bad[i], strlen(bad[i]), &value))
            fail_msg("%s: accepted", bad[i]);
}

static void test_memory(void **state)
{
    static const struct {
        int kind;
        const char *more;
    } bodies[] = {
        {CHAT, "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],\"logit_bias\":{\"1\":1},"
               "\"response_format\":{\"type\":\"json_object\"},\"reasoning_effort\":\"none\""},
        {COMPLETION, "\"stop\":\"x\""},
        {RESPONSE, "\"tools\":[{\"type\":\"function\",\"name\":\"f\"}],\"instructions\":\"x\",\"text\":{\"format\":"
                   "{\"type\":\"json_schema\",\"schema\":{}}}"},
    };
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        char body[1000];
        snprintf(body, sizeof body, "{%s,%s}", needed[bodies[i].kind], bodies[i].more);
        int code = BULLA_E_MEMORY;
        for (uint64_t n = 1; code != BULLA_OK; n++) {
            struct api_request request;
            struct answer_error problem;
            assert_true(n < 1000);
            memory_inject_failure(n, 0);
            code = read_body(bodies[i].kind, body, &request, &problem);
            memory_inject_failure(0, 0);
            if (code != BULLA_OK && problem.status != 503)
                fail_msg("allocation %llu: status %d: %s", (unsigned long long)n, problem.status, problem.message);
            api_request_free(&request);
        }
    }
}

/* Lists of numbers need far more memory than text: bounded all the same. */
static void test_large(void **state)
{
    enum { COUNT = 200000 };
    struct buffer body = {0};
    struct api_request request = {0};
    struct answer_error problem = {0};
    buffer_append_text(&body, "{\"prompt\":[");
    for (int i = 0; i < COUNT; i++)
        buffer_append_format(&body, i ? ",%d" : "%d", i % 50000);
    buffer_append_text(&body, "]}");
    assert_int_equal(api_request_read_completion((char *)body.data, body.length, &request, &problem), BULLA_OK);
    assert_int_equal(request.prompts[0].id_count, COUNT);
    api_request_free(&request);
    buffer_clear(&body);
    buffer_append_text(&body, "{\"prompt\":[");
    for (int i = 0; i < 5 * 1000 * 1000; i++)
        buffer_append_text(&body, i ? ",{}" : "{}");
    buffer_append_text(&body, "]}");
    assert_int_not_equal(api_request_read_completion((char *)body.data, body.length, &request, &problem), BULLA_OK);
    assert_int_equal(problem.status, 400);
    assert_true(request.json.total <= 128u << 20 && request.kept.total <= 128u << 20);
    api_request_free(&request);
    buffer_free(&body);
}

/* A schema is compiled once, and not at all where it was lately; what all of a request's cost is bounded. */
static void test_schemas_are_remembered(void **state)
{
    static const char body[] = "{\"prompt\":\"hi\",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{"
                               "\"schema\":{\"type\":\"integer\"}}}}";
    struct grammar_memory memory = {0};
    uint64_t work[3];
    for (int i = 0; i < 3; i++) {
        struct api_request request = {.grammars = i < 2 ? &memory : NULL};
        struct answer_error problem = {0};
        assert_int_equal(api_request_read_completion(body, strlen(body), &request, &problem), BULLA_OK);
        assert_string_equal(request.answer.grammar, "{\"schema\":{\"type\":\"integer\"}}");
        work[i] = request.grammar_work;
        api_request_free(&request);
    }
    assert_true(work[0] > 0 && work[1] == 0 && work[2] == work[0]);
}

static void test_complex_schema(void **state)
{
    struct buffer body = {0};
    struct api_request request = {0};
    struct answer_error problem = {0};
    buffer_append_text(&body, "{\"prompt\":\"hi\",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{"
                              "\"schema\":{\"properties\":{");
    for (int i = 0; i < 40; i++)
        buffer_append_format(&body, "%s\"%d\":{\"type\":\"string\",\"pattern\":\"^(a|b)*a(a|b){10}c%d$\"}", i ? "," : "",
                             i, i);
    buffer_append_text(&body, "}}}}}");
    assert_int_not_equal(api_request_read_completion((char *)body.data, body.length, &request, &problem), BULLA_OK);
    assert_int_equal(problem.status, 400);
    assert_string_equal(problem.code, "invalid_schema");
    assert_non_null(strstr(problem.message, "the schema is too complex"));
    api_request_free(&request);
    buffer_free(&body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),        cmocka_unit_test(test_sampling),
        cmocka_unit_test(test_forgotten),
        cmocka_unit_test(test_wrong_types),     cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_what_is_off),     cmocka_unit_test(test_messages),
        cmocka_unit_test(test_wrong_messages),  cmocka_unit_test(test_tools_and_format),
        cmocka_unit_test(test_prompts),         cmocka_unit_test(test_no_json),
        cmocka_unit_test(test_response_items),  cmocka_unit_test(test_wrong_response_items),
        cmocka_unit_test(test_millionths),      cmocka_unit_test(test_memory),
        cmocka_unit_test(test_large),           cmocka_unit_test(test_schema_forms),
        cmocka_unit_test(test_thoughts),        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_other_names),     cmocka_unit_test(test_effort),
        cmocka_unit_test(test_schemas_are_remembered),
        cmocka_unit_test(test_complex_schema),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
