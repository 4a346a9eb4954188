/* `bulla run`: one question, one answer. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "cli/answer_options.h"
#include "cli/input.h"
#include "cli/output.h"
#include "cli/session.h"
#include "cli/verb.h"
#include "exec/generate.h"

struct run_options {
    struct answer_options answer;
    int raw, ids, timing;
};

static const struct option_spec options[] = {
    ANSWER_OPTIONS(struct run_options, answer),
    {"raw", 0, OPTION_FLAG, offsetof(struct run_options, raw), NULL,
     "the question is the prompt itself, without the chat template: the model continues it", 0, 0},
    {"ids", 0, OPTION_FLAG, offsetof(struct run_options, ids), NULL,
     "print the token ids of prompt and output and how the answer ended, as JSON, instead of its text", 0, 0},
    {"timing", 0, OPTION_FLAG, offsetof(struct run_options, timing), NULL,
     "say on standard error how long prompt and answer took, and what guessing ahead came to", 0, 0},
};

/* The question from the command line, or all of standard input. */
static int read_question(int others, char **argv, int raw, struct buffer *question, bulla_error *error)
{
    if (others > 1 && strcmp(argv[1], "-") != 0) {
        buffer_append_text(question, argv[1]);
        return BULLA_OK;
    }
    if (output_is_terminal(stdin))
        fprintf(stderr, "reading the question from standard input; Ctrl-D on a line of its own ends it\n");
    int code = input_read_all(stdin, question, error);
    if (code == BULLA_OK && !raw)
        input_drop_newline(question); /* the one that `echo` adds */
    return code;
}

static int build_prompt(const struct session *session, const struct run_options *chosen, const struct buffer *question,
                        struct session_prompt *prompt, bulla_error *error)
{
    const char *text = question->length ? (const char *)question->data : "";
    if (chosen->raw || !session->chat_template) {
        if (!chosen->raw)
            fprintf(stderr, "the model has no chat template: it continues the question as with --raw\n");
        if (chosen->answer.system)
            return bulla_fail(error, BULLA_E_USAGE, "--system needs a chat template, and none is used here");
        return session_raw_prompt(session, text, question->length, prompt, error);
    }
    struct session_message messages[2];
    size_t count = 0;
    if (chosen->answer.system)
        messages[count++] = (struct session_message){"system", chosen->answer.system, strlen(chosen->answer.system)};
    messages[count++] = (struct session_message){"user", text, question->length};
    return session_chat_prompt(session, messages, count, prompt, error);
}

static int print_token(void *context, uint32_t token, const char *text, size_t length)
{
    return length > 0 && !output_text(stdout, text, length);
}

static void print_list(const char *name, const uint32_t *ids, size_t count)
{
    printf("\"%s\":[", name);
    for (size_t i = 0; i < count; i++)
        printf("%s%u", i ? "," : "", ids[i]);
    printf("],");
}

static void print_ids(const struct session_prompt *prompt, const struct generate_result *result)
{
    putchar('{');
    print_list("prompt", prompt->ids, prompt->count);
    print_list("output", result->tokens, result->token_count);
    printf("\"finish\":\"%s\"", generate_finish_name(result->finish));
    if (result->finish == GENERATE_RANGE)
        printf(",\"range\":{\"position\":%llu,\"operation\":%u}", (unsigned long long)result->range_position,
               result->range_operation);
    printf("}\n");
}

static void print_timing(const struct generate_result *result)
{
    fprintf(stderr, "(prompt: %llu tokens in %.3f s; answer: %zu tokens in %.3f s; %llu of %llu guesses were right)\n",
            (unsigned long long)result->prefill_tokens, result->prefill_seconds, result->token_count,
            result->decode_seconds, (unsigned long long)result->accepted_tokens,
            (unsigned long long)result->proposed_tokens);
}

/* Ends the text; says why an answer is not whole. */
static int close_answer(const struct generate_request *request, const struct generate_result *result,
                        bulla_error *error)
{
    output_text(stdout, result->rest, result->rest_length);
    putchar('\n');
    fflush(stdout);
    if (result->finish == GENERATE_LENGTH)
        fprintf(stderr, "(cut after %zu tokens: %s)\n", result->token_count,
                result->token_count == request->max_tokens ? "--max-tokens" : "the model's context is full");
    if (result->finish == GENERATE_RANGE)
        return bulla_fail(error, BULLA_E_RANGE,
                          "the answer ends here: at position %llu operation %u left its bound, and no later token is "
                          "defined (docs/canonical.md, RANGE)",
                          (unsigned long long)result->range_position, result->range_operation);
    return BULLA_OK;
}

static int answer(const struct session *session, const struct run_options *chosen, const struct buffer *question,
                  bulla_error *error)
{
    struct session_prompt prompt = {0};
    struct generate_result result = {0};
    int code = build_prompt(session, chosen, question, &prompt, error);
    if (code == BULLA_OK) {
        struct generate_request request = {.prompt = prompt.ids, .prompt_count = prompt.count,
                                           .max_tokens = chosen->answer.max_tokens,
                                           .speculate = (uint32_t)chosen->answer.speculate,
                                           .on_token = chosen->ids ? NULL : print_token};
        answer_options_sampling(&chosen->answer, &request.sampling);
        code = generate(session->engine, session->model, NULL, &request, &result, error);
        if (code == BULLA_OK && chosen->ids)
            print_ids(&prompt, &result);
        else if (code == BULLA_OK)
            code = close_answer(&request, &result, error);
        if (code == BULLA_OK && chosen->timing)
            print_timing(&result);
    }
    generate_result_free(&result);
    session_prompt_free(&prompt);
    return code;
}

static int run(const struct verb *verb, int argc, char **argv, bulla_error *error)
{
    struct run_options chosen = {0};
    int others;
    answer_options_defaults(&chosen.answer);
    int code = verb_parse(verb, argc, argv, &chosen, &others, error);
    if (code != BULLA_OK)
        return code;
    struct buffer question = {0};
    struct session session = {0};
    code = read_question(others, argv, chosen.raw, &question, error);
    if (code == BULLA_OK && question.error.code != BULLA_OK)
        code = bulla_fail(error, question.error.code, "%s", question.error.text);
    if (code == BULLA_OK)
        code = session_open(argv[0], &(bulla_engine_options){.threads = (unsigned)chosen.answer.threads}, &session,
                            error);
    if (code == BULLA_OK)
        code = answer(&session, &chosen, &question, error);
    session_close(&session);
    buffer_free(&question);
    return code;
}

const struct verb verb_run = {
    .name = "run",
    .summary = "ask a model one question",
    .arguments = "FILE [QUESTION]",
    .details = "FILE is a model file that `bulla import` wrote, or a GGUF file or safetensors folder, which is\n"
               "imported once and kept (in $BULLA_CACHE, by default ~/.cache/bulla). The answer alone goes to\n"
               "standard output, as it comes. Without QUESTION, or where it is -, standard input is the question.\n"
               "The same model, prompt and options give the same answer on every machine.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .minimum_arguments = 1,
    .maximum_arguments = 2,
    .run = run,
};
