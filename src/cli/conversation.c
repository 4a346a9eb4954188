#include "cli/conversation.h"

#include <string.h>

#include "base/memory.h"

void conversation_begin(struct conversation *conversation, const struct session *session)
{
    memset(conversation, 0, sizeof *conversation);
    conversation->session = session;
    conversation->keeps_sequence = 1;
    conversation->speculate = SPECULATE_MOST;
    bulla_sampling_defaults(&conversation->sampling);
}

static void close_sequence(struct conversation *conversation)
{
    bulla_sequence_close(conversation->sequence);
    conversation->sequence = NULL;
    buffer_free(&conversation->held);
}

static void drop_messages(struct conversation *conversation, size_t count)
{
    while (conversation->message_count > count)
        buffer_free(&conversation->messages[--conversation->message_count].text);
}

void conversation_reset(struct conversation *conversation)
{
    drop_messages(conversation, 0);
    close_sequence(conversation);
}

void conversation_end(struct conversation *conversation)
{
    conversation_reset(conversation);
    memory_free(conversation->messages);
    memory_free(conversation->system);
    memset(conversation, 0, sizeof *conversation);
}

int conversation_set_system(struct conversation *conversation, const char *text, size_t length, bulla_error *error)
{
    char *copy = length ? memory_copy_text(text, length, error) : NULL;
    if (length && !copy)
        return BULLA_E_MEMORY;
    memory_free(conversation->system);
    conversation->system = copy;
    return BULLA_OK;
}

/* Adds a message; NULL when memory is short. */
static struct conversation_message *add_message(struct conversation *conversation, int is_answer, bulla_error *error)
{
    if (conversation->message_count == conversation->message_capacity) {
        size_t wanted = conversation->message_capacity ? 2 * conversation->message_capacity : 16;
        struct conversation_message *messages = memory_resize(conversation->messages, wanted, sizeof *messages, error);
        if (!messages)
            return NULL;
        conversation->messages = messages;
        conversation->message_capacity = wanted;
    }
    struct conversation_message *message = &conversation->messages[conversation->message_count++];
    *message = (struct conversation_message){.is_answer = is_answer};
    return message;
}

static int build_prompt(const struct conversation *conversation, struct session_prompt *prompt, bulla_error *error)
{
    size_t count = 0;
    struct session_message *messages = memory_alloc(conversation->message_count + 1, sizeof *messages, error);
    if (!messages)
        return BULLA_E_MEMORY;
    if (conversation->system)
        messages[count++] = (struct session_message){"system", conversation->system, strlen(conversation->system)};
    for (size_t i = 0; i < conversation->message_count; i++) {
        const struct conversation_message *message = &conversation->messages[i];
        messages[count++] = (struct session_message){message->is_answer ? "assistant" : "user",
                                                     message->text.length ? (const char *)message->text.data : "",
                                                     message->text.length};
    }
    int code = session_chat_prompt(conversation->session, messages, count, prompt, error);
    memory_free(messages);
    return code;
}

/* Leaves an open sequence whose positions are the prompt's first tokens.
 *
 * A sequence from an earlier turn may be continued: what it evaluated covers what this turn needs, since
 * first_sampled only grows, and values do not depend on what else is evaluated. Only RANGE does: it could
 * come from a value that a fresh sequence would not have evaluated (conversation_say starts anew then). */
static int prepare_sequence(struct conversation *conversation, const struct session_prompt *prompt,
                            bulla_error *error)
{
    uint64_t last = prompt->count - 1, common = 0;
    const uint32_t *held = (const uint32_t *)(const void *)conversation->held.data;
    if (conversation->sequence && conversation->keeps_sequence && last >= conversation->first_sampled) {
        uint64_t most = bulla_sequence_length(conversation->sequence);
        while (common < most && common < last && held[common] == prompt->ids[common])
            common++;
    }
    if (common > 0) {
        bulla_sequence_truncate(conversation->sequence, common);
        return BULLA_OK;
    }
    close_sequence(conversation);
    conversation->first_sampled = last;
    return bulla_sequence_open(conversation->session->engine, last, &conversation->sequence, error);
}

/* Remembers which tokens the sequence holds. */
static int note_held(struct conversation *conversation, const struct session_prompt *prompt,
                     const struct generate_result *result, bulla_error *error)
{
    struct buffer *held = &conversation->held;
    buffer_clear(held);
    buffer_append(held, prompt->ids, prompt->count * sizeof *prompt->ids);
    if (result->token_count)
        buffer_append(held, result->tokens, result->token_count * sizeof *result->tokens);
    return held->error.code == BULLA_OK ? BULLA_OK : bulla_fail(error, held->error.code, "%s", held->error.text);
}

struct answer {
    const struct conversation_output *output;
    struct buffer text;
    size_t passed_on; /* bytes of the text that were handed out */
};

/* An answer that is computed a second time is the same as far as it was handed out. */
static int pass_on(struct answer *answer, const char *text, size_t length)
{
    buffer_append(&answer->text, text, length);
    if (answer->text.error.code != BULLA_OK || answer->text.length <= answer->passed_on)
        return answer->text.error.code != BULLA_OK;
    size_t from = answer->passed_on;
    answer->passed_on = answer->text.length;
    return answer->output->on_text(answer->output->context, (const char *)answer->text.data + from,
                                   answer->text.length - from);
}

static int take_token(void *context, uint32_t token, const char *text, size_t length)
{
    return pass_on(context, text, length);
}

static int is_cancelled(void *context)
{
    const struct conversation_output *output = ((struct answer *)context)->output;
    return output->is_cancelled && output->is_cancelled(output->context);
}

static int generate_answer(struct conversation *conversation, const struct session_prompt *prompt,
                           struct answer *answer, struct generate_result *result, bulla_error *error)
{
    struct generate_request request = {.prompt = prompt->ids, .prompt_count = prompt->count,
                                       .max_tokens = conversation->max_tokens, .sampling = conversation->sampling,
                                       .speculate = conversation->speculate,
                                       .always_speculates = conversation->always_speculates,
                                       .on_token = take_token, .is_cancelled = is_cancelled, .context = answer};
    int code = prepare_sequence(conversation, prompt, error);
    int is_fresh = code == BULLA_OK && bulla_sequence_length(conversation->sequence) == 0;
    if (code == BULLA_OK)
        code = generate(conversation->session->engine, conversation->session->model, conversation->sequence, &request,
                        result, error);
    if (code == BULLA_OK && result->finish == GENERATE_RANGE && !is_fresh) {
        close_sequence(conversation);
        generate_result_free(result);
        buffer_clear(&answer->text);
        return generate_answer(conversation, prompt, answer, result, error);
    }
    if (code == BULLA_OK && result->rest_length)
        pass_on(answer, result->rest, result->rest_length);
    if (code == BULLA_OK && answer->text.error.code != BULLA_OK)
        code = bulla_fail(error, answer->text.error.code, "%s", answer->text.error.text);
    if (code == BULLA_OK && result->finish != GENERATE_RANGE)
        code = note_held(conversation, prompt, result, error);
    if (code != BULLA_OK || result->finish == GENERATE_RANGE)
        close_sequence(conversation);
    return code;
}

/* The model's answer to the messages, as one more message. */
static int answer_messages(struct conversation *conversation, const struct conversation_output *output,
                           struct conversation_turn *turn, bulla_error *error)
{
    struct session_prompt prompt = {0};
    struct generate_result result = {0};
    struct answer answer = {.output = output};
    int code = build_prompt(conversation, &prompt, error);
    turn->prompt_tokens = prompt.count;
    turn->is_full = code == BULLA_OK && prompt.count >= bulla_model_program(conversation->session->model)->context;
    if (code == BULLA_OK && !turn->is_full) {
        code = generate_answer(conversation, &prompt, &answer, &result, error);
        struct conversation_message *message = code == BULLA_OK ? add_message(conversation, 1, error) : NULL;
        if (message) {
            message->text = answer.text;
            answer.text = (struct buffer){0};
        } else {
            code = code == BULLA_OK ? BULLA_E_MEMORY : code;
        }
    }
    turn->finish = result.finish;
    turn->output_tokens = result.token_count;
    turn->computed_tokens = result.prefill_tokens;
    turn->range_position = result.range_position;
    turn->range_operation = result.range_operation;
    buffer_free(&answer.text);
    generate_result_free(&result);
    session_prompt_free(&prompt);
    return code;
}

int conversation_say(struct conversation *conversation, const char *text, size_t length,
                     const struct conversation_output *output, struct conversation_turn *turn, bulla_error *error)
{
    size_t before = conversation->message_count;
    *turn = (struct conversation_turn){0};
    struct conversation_message *message = add_message(conversation, 0, error);
    if (!message)
        return BULLA_E_MEMORY;
    buffer_append(&message->text, text, length);
    int code = message->text.error.code;
    if (code == BULLA_OK)
        code = answer_messages(conversation, output, turn, error);
    else
        bulla_fail(error, code, "%s", message->text.error.text);
    if (code != BULLA_OK || turn->is_full)
        drop_messages(conversation, before);
    return code;
}
