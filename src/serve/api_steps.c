#include "serve/api_steps.h"

#include "base/memory.h"
#include "serve/api_answer.h"

int api_steps_open(struct api_steps *steps, size_t choices, bulla_error *error)
{
    steps->last_call = memory_alloc(choices, sizeof *steps->last_call, error);
    return steps->last_call ? BULLA_OK : BULLA_E_MEMORY;
}

void api_steps_free(struct api_steps *steps)
{
    buffer_free(&steps->text);
    memory_free(steps->last_call);
    steps->last_call = NULL;
}

static void take(struct api_steps *steps, size_t choice, enum receipt_part part, const char *bytes, size_t length, int is_plain)
{
    steps->take(steps->context, choice, part, bytes, length, is_plain);
}

static void take_text(struct api_steps *steps, size_t choice, enum receipt_part part, int is_plain)
{
    const char *text = steps->text.data ? (const char *)steps->text.data : ""; /* where memory is short */
    take(steps, choice, part, text, steps->text.length, is_plain);
}

static void begin_text(struct api_steps *steps, const char *first)
{
    buffer_clear(&steps->text);
    buffer_append_text(&steps->text, first);
    buffer_append_byte(&steps->text, 0);
}

void api_steps_echo(struct api_steps *steps, size_t choice, const char *text, size_t length)
{
    if (length)
        take(steps, choice, RECEIPT_CONTENT, text, length, 1);
}

/* A call's beginning, or the return to one that began before another. */
static void take_call(struct api_steps *steps, size_t choice, const struct answer_delta *delta)
{
    uint32_t number = 1 + (uint32_t)delta->tool;
    int begins = delta->tool_name || delta->tool_id;
    if (!begins && (steps->last_call[choice] == number || delta->arguments_length == 0))
        return;
    steps->last_call[choice] = number;
    if (begins) {
        begin_text(steps, delta->tool_name ? delta->tool_name : "");
        buffer_append_text(&steps->text, delta->tool_id ? delta->tool_id : "");
    } else {
        begin_text(steps, "");
        buffer_append_byte(&steps->text, 0);
        api_write_number(&steps->text, number - 1);
    }
    take_text(steps, choice, RECEIPT_TOOL_CALL, begins);
}

void api_steps_delta(struct api_steps *steps, size_t choice, const struct answer_delta *delta)
{
    if (delta->reasoning_length)
        take(steps, choice, RECEIPT_REASONING, delta->reasoning, delta->reasoning_length, 1);
    if (delta->text_length)
        take(steps, choice, RECEIPT_CONTENT, delta->text, delta->text_length, 1);
    if (delta->tool >= 0)
        take_call(steps, choice, delta);
    if (delta->tool >= 0 && delta->arguments_length)
        take(steps, choice, RECEIPT_ARGUMENTS, delta->arguments, delta->arguments_length, 1);
}

void api_steps_finish(struct api_steps *steps, size_t choice, const char *word, const char *stop)
{
    if (stop) {
        begin_text(steps, word);
        buffer_append_text(&steps->text, stop);
    } else {
        buffer_clear(&steps->text);
        buffer_append_text(&steps->text, word);
    }
    take_text(steps, choice, RECEIPT_FINISH, 1);
}
