/* One request of the API answered alone, in the plainest way: the whole prompt in one piece, then a token a step, no other
 * sequence, no prefix cache, no speculation, the text searched anew after each token. What a server answers to many at
 * once must be the same.
 *
 * usage: tool_answer MODEL chat|completion [ref]     the request's body on standard input; with `ref` the reference
 *                                                    executor computes the logits
 *
 * Prints a line of JSON a choice: {"text":...,"finish":...,"tokens":N}. A request that is refused: {"error":...}. */
#define _GNU_SOURCE /* memmem */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "bulla/engine.h"
#include "exec/answer.h"
#include "exec/grammar.h"
#include "exec/ref/run.h"
#include "serve/api_request.h"
#include "serve/native_internal.h"

struct alone {
    const bulla_model *model;
    const bulla_program *program;
    const bulla_tokenizer *tokenizer;
    const struct answer_request *request;
    const struct native_prompt *prompt;
    bulla_engine *engine; /* NULL: the reference */
    bulla_sequence *sequence;
    struct reference_run *reference;
    struct grammar *grammar; /* NULL: none */
    struct grammar_vocabulary *vocabulary;
    int32_t *logits;
};

/* The logits after `count` more ids. */
static int evaluate(struct alone *alone, const uint32_t *ids, size_t count, bulla_error *error)
{
    if (!alone->engine)
        return reference_run_append(alone->reference, ids, count, alone->logits, error);
    bulla_piece piece = {.sequence = alone->sequence, .ids = ids, .count = (uint32_t)count,
                         .logits_from = (uint32_t)count - 1, .logits = alone->logits};
    int code = bulla_engine_step(alone->engine, &piece, 1, error);
    return code ? code : piece.code ? bulla_fail(error, piece.code, "RANGE") : BULLA_OK;
}

static int start(struct alone *alone, bulla_error *error)
{
    uint64_t first = alone->prompt->count - 1;
    int code = alone->engine ? bulla_sequence_open(alone->engine, first, &alone->sequence, error)
                             : reference_run_open(alone->program, first, &alone->reference, error);
    return code ? code : evaluate(alone, alone->prompt->ids, alone->prompt->count, error);
}

static void stop(struct alone *alone)
{
    bulla_sequence_close(alone->sequence);
    reference_run_close(alone->reference);
    alone->sequence = NULL;
    alone->reference = NULL;
}

/* Where the stop string begins that is complete first (of those that end together the longest); NULL for none. */
static const char *find_stop(const struct answer_request *request, const struct buffer *text)
{
    const char *begin = (const char *)text->data, *best = NULL, *best_end = NULL;
    for (size_t i = 0; i < request->stop_count && begin; i++) {
        const char *found = memmem(begin, text->length, request->stops[i], request->stop_lengths[i]);
        const char *end = found ? found + request->stop_lengths[i] : NULL;
        if (found && (!best || end < best_end || (end == best_end && found < best))) {
            best = found;
            best_end = end;
        }
    }
    return best;
}

struct choice {
    bulla_sampling sampling;
    struct grammar_state *grammar;
    uint32_t *tokens; /* [limit] */
    uint64_t count, limit;
    struct buffer text;
    bulla_text_stream stream;
};

/* The next token; returns its finish, NULL while it goes on. */
static const char *go_on(struct alone *alone, struct choice *choice, bulla_sampler *sampler, bulla_error *error)
{
    const uint64_t *allowed = NULL;
    uint32_t token;
    if (choice->grammar && grammar_state_is_final(choice->grammar))
        return "stop";
    if (choice->grammar && grammar_state_allowed(choice->grammar, &allowed, error))
        return NULL;
    if (bulla_sampler_draw(sampler, &choice->sampling, alone->logits, alone->program->logits_F, alone->prompt->ids,
                           alone->prompt->count, choice->tokens, choice->count, allowed,
                           alone->prompt->count + choice->count, &token, error))
        return NULL;
    int is_end = bulla_tokenizer_is_end(alone->tokenizer, token);
    if (is_end && (!alone->request->ignores_end || choice->grammar))
        return "stop";
    choice->tokens[choice->count++] = token;
    if (choice->grammar && grammar_state_accept(choice->grammar, token, error))
        return NULL;
    if (answer_append_text(alone->tokenizer, &choice->stream, token, &choice->text, error))
        return NULL;
    const char *found = find_stop(alone->request, &choice->text);
    if (found) {
        choice->text.length = (size_t)(found - (const char *)choice->text.data);
        choice->stream.held_length = 0;
        return "stop";
    }
    if (choice->grammar && grammar_state_is_final(choice->grammar))
        return "stop";
    return choice->count == choice->limit ? "length" : evaluate(alone, &token, 1, error) ? NULL : "";
}

static int answer(struct alone *alone, uint32_t number, bulla_sampler *sampler, bulla_error *error)
{
    const struct answer_request *request = alone->request;
    struct choice choice = {.sampling = request->sampling};
    choice.limit = answer_limit(alone->program, alone->prompt->count, request->max_tokens);
    if (request->choices > 1)
        choice.sampling.seed = bulla_sampling_choice_seed(request->sampling.seed, number);
    choice.tokens = memory_alloc(choice.limit, sizeof *choice.tokens, error);
    const char *finish = choice.limit ? "" : "length";
    int code = choice.tokens ? BULLA_OK : BULLA_E_MEMORY;
    if (code == BULLA_OK && alone->grammar)
        code = grammar_state_open(alone->grammar, alone->vocabulary, &choice.grammar, error);
    if (code == BULLA_OK && choice.limit)
        code = start(alone, error);
    while (code == BULLA_OK && finish && !*finish)
        finish = go_on(alone, &choice, sampler, error);
    char rest[4];
    buffer_append(&choice.text, rest, bulla_text_stream_end(&choice.stream, rest, sizeof rest));
    if (code == BULLA_OK && finish) {
        struct buffer line = {0};
        buffer_append_text(&line, "{\"text\":");
        json_write_string(&line, choice.text.length ? (const char *)choice.text.data : "", choice.text.length);
        buffer_append_format(&line, ",\"finish\":\"%s\",\"tokens\":%llu}\n", finish, (unsigned long long)choice.count);
        fwrite(line.data, 1, line.length, stdout);
        buffer_free(&line);
    }
    stop(alone);
    grammar_state_close(choice.grammar);
    buffer_free(&choice.text);
    memory_free(choice.tokens);
    return finish ? code : error->code;
}

static int answer_all(struct alone *alone, bulla_error *error)
{
    const struct answer_request *request = alone->request;
    bulla_sampler *sampler = NULL;
    int from_tools = alone->prompt->grammar.length > 0;
    const char *grammar = from_tools ? (const char *)alone->prompt->grammar.data : request->grammar;
    size_t length = from_tools ? alone->prompt->grammar.length : request->grammar_length;
    int code = answer_check(alone->program, alone->prompt->ids, alone->prompt->count, &request->sampling, error);
    if (code == BULLA_OK)
        code = answer_sampler_open(alone->program, &sampler, error);
    alone->logits = memory_alloc(alone->program->vocabulary, sizeof *alone->logits, error);
    if (code == BULLA_OK && !alone->logits)
        code = BULLA_E_MEMORY;
    if (code == BULLA_OK && grammar)
        code = grammar_compile(grammar, length, &alone->grammar, error);
    if (code == BULLA_OK && grammar)
        code = grammar_vocabulary_open(alone->tokenizer, alone->program->vocabulary, &alone->vocabulary, error);
    for (uint32_t i = 0; i < request->choices && code == BULLA_OK; i++)
        code = answer(alone, i, sampler, error);
    bulla_sampler_close(sampler);
    grammar_free(alone->grammar);
    grammar_vocabulary_close(alone->vocabulary);
    memory_free(alone->logits);
    return code;
}

static int make_prompt(struct native *native, struct api_request *request, struct native_prompt *prompt, bulla_error *error)
{
    size_t length;
    const char *source = bulla_model_chat_template(native->model, &length), *param;
    if (length && bulla_chat_template_compile(source, length, &native->chat_template, error))
        return error->code;
    native->format = tool_format_detect(source, length);
    if (request->answer.kind == ANSWER_COMPLETION) {
        request->answer.prompt = request->prompts[0].text;
        request->answer.prompt_length = request->prompts[0].length;
        request->answer.prompt_ids = request->prompts[0].ids;
        request->answer.prompt_id_count = request->prompts[0].id_count;
    }
    const struct native_limits limits = {SIZE_MAX, SIZE_MAX};
    return native_prompt_make(native, &request->answer, 1, &limits, prompt, &param, error);
}

static int run(const char *path, int is_chat, int is_reference, struct buffer *body, bulla_error *error)
{
    struct api_request request = {0};
    struct answer_error problem = {0};
    struct native native = {0};
    struct native_prompt prompt = {0};
    bulla_engine *engine = NULL;
    const char *text = (const char *)body->data;
    int code = (is_chat ? api_request_read_chat : api_request_read_completion)(text, body->length, &request, &problem);
    if (code != BULLA_OK)
        bulla_fail(error, code, "%s", problem.message);
    if (code == BULLA_OK)
        code = bulla_model_open(path, 0, &native.model, error);
    if (code == BULLA_OK)
        code = make_prompt(&native, &request, &prompt, error);
    if (code == BULLA_OK && !is_reference)
        code = bulla_engine_open(native.model, &(bulla_engine_options){0}, &engine, error);
    if (code == BULLA_OK) {
        struct alone alone = {.model = native.model, .program = bulla_model_program(native.model), .engine = engine,
                              .tokenizer = bulla_model_tokenizer(native.model), .request = &request.answer,
                              .prompt = &prompt};
        code = answer_all(&alone, error);
    }
    if (engine)
        bulla_engine_close(engine);
    native_prompt_free(&prompt);
    bulla_chat_template_free(native.chat_template);
    bulla_model_close(native.model);
    api_request_free(&request);
    return code;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: tool_answer MODEL chat|completion [ref]\n");
        return 2;
    }
    struct buffer body = {0};
    char part[4096];
    for (size_t got; (got = fread(part, 1, sizeof part, stdin)) > 0;)
        buffer_append(&body, part, got);
    bulla_error error = {0};
    int code = run(argv[1], strcmp(argv[2], "chat") == 0, argc > 3, &body, &error);
    buffer_free(&body);
    if (code == BULLA_OK)
        return 0;
    struct buffer line = {0};
    buffer_append_text(&line, "{\"error\":");
    json_write_string(&line, error.text, strlen(error.text));
    buffer_append_text(&line, "}\n");
    fwrite(line.data, 1, line.length, stdout);
    buffer_free(&line);
    return 1;
}
