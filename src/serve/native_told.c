/* What the worker tells: its frames become what a sink is told. Nothing is allocated for a token. The worker is not
 * trusted: a token that the vocabulary does not have or that comes after its answer's end ends the worker; what it
 * tells about numbers that mean nothing (any more) is left aside. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "serve/native_internal.h"

enum { LEAST_LOGPROB = -9999 }; /* stands for one that is no finite number, which JSON cannot say */
_Static_assert((int)ANSWER_MOST_LOGPROBS == (int)SCHEDULER_MOST_LOGPROBS, "as many are asked for as can be had");
_Static_assert((int)ANSWER_MOST_STOPS == (int)SCHEDULER_MOST_STOPS, "as many are asked for as can be had");

/* ---- Text ---- */

/* The request's field by which a sink knows the choice. */
static uint32_t number_of(const struct native_choice *choice)
{
    return (uint32_t)(choice - choice->answer->choices);
}

static void deliver(struct answer *answer, const struct answer_delta *delta)
{
    if (!answer->list)
        return;
    answer->has_delivered = 1;
    answer->sink.delta(answer->sink.context, delta);
}

/* Delivers text, reasoning or a tool's piece; what there is to say of the token goes with the first. */
void native_take_piece(void *context, const struct answer_delta *piece)
{
    struct native_choice *choice = context;
    static const struct answer_delta nothing = {.tool = -1};
    const struct answer_delta *token = choice->token ? choice->token : &nothing;
    struct answer_delta delta = *piece;
    delta.choice = number_of(choice);
    delta.tokens = token->tokens;
    delta.ids = token->ids;
    delta.logprob = token->logprob;
    delta.top = token->top;
    delta.top_count = token->top_count;
    choice->token = NULL;
    if (delta.reasoning_length || delta.text_length || delta.tool >= 0)
        choice->is_reasoning = delta.reasoning_length > 0;
    deliver(choice->answer, &delta);
}

/* A control token is no part of the text; one that is a mark of the form of calls is put in for the parser. */
static int push_mark(struct native_choice *choice, uint32_t token, bulla_error *error)
{
    const struct native *native = choice->answer->native;
    const bulla_tokenizer *tokenizer = bulla_model_tokenizer(native->model);
    const uint8_t *spelling;
    size_t length;
    if (!bulla_tokenizer_is_control(tokenizer, token) ||
        bulla_tokenizer_token_bytes(tokenizer, token, &spelling, &length) != BULLA_OK ||
        !tool_format_is_mark(&native->format, (const char *)spelling, length))
        return BULLA_OK;
    return output_parser_push(choice->parser, (const char *)spelling, length, error);
}

/* Text through the choice's parser, then the token's mark if it is one. */
static int push_text(struct native_choice *choice, const struct answer_delta *token, const char *text, size_t length,
                     bulla_error *error)
{
    int code = length ? output_parser_push(choice->parser, text, length, error) : BULLA_OK;
    return code == BULLA_OK && token && choice->answer->list ? push_mark(choice, token->ids[0], error) : code;
}

/* Text of a choice, with the token that it came with, or NULL: through the parser where there is one. The caller holds
 * the answer, and looks afterwards whether it has ended. */
static void deliver_text(struct native_choice *choice, const struct answer_delta *token, const char *text,
                         size_t length)
{
    struct answer *answer = choice->answer;
    struct answer_delta piece = {.tool = -1};
    bulla_error error = {0};
    struct answer_error problem;
    choice->token = token;
    if (!choice->parser) {
        piece.text = text;
        piece.text_length = length;
    } else if (push_text(choice, token, text, length, &error) != BULLA_OK) {
        native_problem_of(&problem, error.code == BULLA_E_MEMORY ? error.code : BULLA_E_INTERNAL, NULL, error.text);
        native_answer_fail(answer, &problem);
        return;
    }
    if (choice->parser ? choice->token != NULL : token || length) /* of a token that shows nothing yet is told too */
        native_take_piece(choice, &piece);
    choice->token = NULL;
    if (token && choice->is_reasoning)
        answer->usage.reasoning_tokens++;
}

static double finite_logprob(double logprob)
{
    return isfinite(logprob) ? logprob : LEAST_LOGPROB;
}

static void name_token(const struct native *native, uint32_t token, double logprob, struct answer_logprob *named)
{
    const uint8_t *bytes = NULL;
    size_t length = 0;
    bulla_tokenizer_token_bytes(bulla_model_tokenizer(native->model), token, &bytes, &length);
    *named = (struct answer_logprob){.token = (const char *)bytes, .length = length,
                                     .logprob = finite_logprob(logprob)};
}

static int take_token(struct native *native, const struct wire_frame *frame, bulla_error *error)
{
    struct scheduler_token token;
    struct answer_logprob logprob, top[ANSWER_MOST_LOGPROBS];
    uint32_t vocabulary = bulla_tokenizer_vocabulary(bulla_model_tokenizer(native->model));
    int code = wire_read_token(frame, &token, error);
    struct native_slot *slot = code == BULLA_OK ? native_find_slot(native, token.request) : NULL;
    if (!slot)
        return code;
    struct answer *answer = slot->answer;
    struct native_choice *choice = &answer->choices[slot->choice];
    int is_known = token.token < vocabulary;
    for (size_t i = 0; i < token.top_count; i++)
        is_known = is_known && token.top[i].token < vocabulary;
    if (!is_known)
        return bulla_fail(error, BULLA_E_INPUT, "the worker told of a token that is not in the vocabulary of %u",
                          vocabulary);
    if (choice->has_ended)
        return bulla_fail(error, BULLA_E_INPUT, "the worker told of a token after the end of its answer");
    struct answer_delta said = {.tokens = 1, .tool = -1, .ids = &token.token};
    if (answer->request.logprobs >= 0) {
        name_token(native, token.token, token.logprob, &logprob);
        for (size_t i = 0; i < token.top_count; i++)
            name_token(native, token.top[i].token, token.top[i].logprob, &top[i]);
        said.logprob = &logprob;
        said.top = top;
        said.top_count = token.top_count;
    }
    if (answer->first_token == 0 && slot->choice == 0)
        answer->first_token = clock_nanoseconds();
    answer->holds++;
    deliver_text(choice, &said, token.text, token.length);
    native_answer_release(answer);
    return BULLA_OK;
}

/* ---- Ends ---- */

/* The request's own stop string, which the worker's text may be the beginning of up to a NUL; NULL where it is none. */
static const char *find_stop(const struct answer_request *request, const char *text)
{
    for (size_t i = 0; text && i < request->stop_count; i++)
        if (strnlen(request->stops[i], request->stop_lengths[i]) == strlen(text) &&
            memcmp(request->stops[i], text, strlen(text)) == 0)
            return request->stops[i];
    return NULL;
}

/* Ends that leave an answer without anything to show for it are failures: 1 with *problem filled. */
static int is_failure(const struct answer *answer, const struct wire_finish *end, struct answer_error *problem)
{
    const struct scheduler_finish *finish = &end->finish;
    char message[sizeof problem->message];
    int is_empty = answer->request.choices == 1 && finish->output_tokens == 0 && !answer->has_delivered;
    switch (finish->reason) {
    case SCHEDULER_STOP:
    case SCHEDULER_LENGTH:
        return 0;
    case SCHEDULER_RANGE:
        snprintf(message, sizeof message,
                 "a value left a bound of the model's arithmetic at position %llu (operation %u): "
                 "no answer is defined there", (unsigned long long)finish->range_position, finish->range_operation);
        native_problem_set(problem, 422, "invalid_request_error", "range", NULL, 0, message);
        return is_empty || answer->request.kind == ANSWER_EMBEDDING;
    case SCHEDULER_DEADLINE:
        native_problem_of_deadline(problem);
        return is_empty || answer->request.kind == ANSWER_EMBEDDING;
    case SCHEDULER_CANCELLED:
        native_problem_set(problem, 500, "server_error", "cancelled", NULL, 0, "the worker gave the answer up");
        return 1;
    case SCHEDULER_FAILED:
        native_problem_of(problem, end->error_code, NULL,
                          end->error_text ? end->error_text : "the worker could not go on");
        return 1;
    }
    return 0;
}

static const char *reason_of(const struct native_choice *choice, enum scheduler_finish_reason reason)
{
    if (reason != SCHEDULER_STOP)
        return "length";
    return choice->parser && output_parser_calls(choice->parser) > 0 ? "tool_calls" : "stop";
}

static void add_usage(struct answer *answer, uint32_t choice, const struct scheduler_finish *finish)
{
    struct answer_usage *usage = &answer->usage;
    usage->output_tokens += finish->output_tokens;
    if (choice != 0)
        return;
    usage->prompt_tokens = finish->prompt_tokens;
    usage->cached_tokens = finish->cached_tokens;
    usage->queued_nanoseconds += finish->queued_nanoseconds;
}

/* The text that was held back, then the finish. */
static void finish_choice(struct native_choice *choice, const struct scheduler_finish *finish)
{
    struct answer *answer = choice->answer;
    struct answer_error problem;
    bulla_error error = {0};
    const char *stop = finish->reason == SCHEDULER_STOP ? find_stop(&answer->request, finish->stop)
                       : finish->reason == SCHEDULER_RANGE ? "range"
                       : finish->reason == SCHEDULER_DEADLINE ? "deadline" : NULL;
    deliver_text(choice, NULL, finish->rest, finish->rest_length);
    if (answer->list && choice->parser && output_parser_end(choice->parser, &error) != BULLA_OK) {
        native_problem_of(&problem, error.code == BULLA_E_MEMORY ? error.code : BULLA_E_INTERNAL, NULL, error.text);
        native_answer_fail(answer, &problem);
    }
    if (answer->list)
        answer->sink.finish(answer->sink.context, number_of(choice), reason_of(choice, finish->reason), stop);
}

static int take_finish(struct native *native, const struct wire_frame *frame, bulla_error *error)
{
    struct wire_finish finish;
    struct answer_error problem;
    int code = wire_read_finish(frame, &finish, error);
    struct native_slot *slot = code == BULLA_OK ? native_find_slot(native, finish.finish.request) : NULL;
    if (!slot)
        return code;
    struct answer *answer = slot->answer;
    struct native_choice *choice = &answer->choices[slot->choice];
    if (choice->has_ended)
        return bulla_fail(error, BULLA_E_INPUT, "the worker ended an answer twice");
    choice->has_ended = 1;
    answer->choices_left--;
    add_usage(answer, slot->choice, &finish.finish);
    answer->holds++;
    if (is_failure(answer, &finish, &problem))
        native_answer_fail(answer, &problem);
    else if (answer->request.kind != ANSWER_EMBEDDING)
        finish_choice(choice, &finish.finish);
    if (answer->list && answer->choices_left == 0)
        native_answer_end(answer);
    native_answer_release(answer);
    return BULLA_OK;
}

static int take_embedding(struct native *native, const struct wire_frame *frame, bulla_error *error)
{
    uint64_t request;
    const float *values;
    size_t count;
    int code = wire_read_embedding(frame, &request, &values, &count, error);
    struct native_slot *slot = code == BULLA_OK ? native_find_slot(native, request) : NULL;
    if (!slot || slot->answer->request.kind != ANSWER_EMBEDDING)
        return code;
    struct answer *answer = slot->answer;
    answer->holds++;
    answer->sink.embedding(answer->sink.context, values, count);
    native_answer_release(answer);
    return BULLA_OK;
}

static int take_refused(struct native *native, const struct wire_frame *frame, bulla_error *error)
{
    uint64_t request;
    int refusal;
    const char *text;
    struct answer_error problem;
    int code = wire_read_refused(frame, &request, &refusal, &text, error);
    struct native_slot *slot = code == BULLA_OK ? native_find_slot(native, request) : NULL;
    if (!slot)
        return code;
    slot->answer->choices[slot->choice].has_ended = 1;
    native_problem_of(&problem, refusal, NULL, text);
    native_answer_fail(slot->answer, &problem);
    return BULLA_OK;
}

int native_answers_frame(void *context, const struct wire_frame *frame, bulla_error *error)
{
    struct native *native = context;
    switch (frame->type) {
    case WIRE_TOKEN:
        return take_token(native, frame, error);
    case WIRE_FINISH:
        return take_finish(native, frame, error);
    case WIRE_EMBEDDING:
        return take_embedding(native, frame, error);
    case WIRE_REFUSED:
        return take_refused(native, frame, error);
    default:
        return bulla_fail(error, BULLA_E_INPUT, "the worker sent a frame of type %d, which is not for a server",
                          frame->type);
    }
}
