/* An answer's receipt (serve/receipts.h, docs/receipt.md): what is delivered becomes its steps, which `x-bulla-receipt:
 * full` asks to be told of beside it; and the answer ends when its receipt is in the log. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "serve/api_answer.h"
#include "serve/api_parameters.h"
#include "serve/api_steps.h"
#include "serve/receipts.h"

/* A step that an event has still to tell of. */
struct note {
    enum receipt_part part; /* 0: told */
    size_t id_count;        /* of api_receipt.ids: only the first of a delta's steps has any */
    const char *text;       /* where it is not plain from the event; as long as the delta */
    size_t length;
    uint8_t chain[RECEIPT_HASH];
};

enum { MOST_NOTES = 4 };

struct api_receipt {
    struct receipt_issue *issue;
    int is_full, is_submitted;
    struct note notes[MOST_NOTES];
    size_t note_count;
    uint32_t note_choice;
    struct buffer ids;        /* u32 each */
    struct api_steps steps;
    struct buffer *jsons;     /* [choices] of a whole answer that is to tell its steps */
    struct api_choice *held;  /* its finish is told with the receipt */
    struct buffer parameters, document;
};

static void take_step(void *answer, size_t choice, enum receipt_part part, const char *bytes, size_t length, int is_plain);

/* ---- Its beginning and end ---- */

static int refuse_header(struct answer_error *problem, const char *found)
{
    *problem = (struct answer_error){.status = 400, .type = "invalid_request_error", .code = "invalid_value",
                                     .param = "x-bulla-receipt"};
    snprintf(problem->message, sizeof problem->message, "the header x-bulla-receipt is \"%.100s\"; expected \"full\"", found);
    return BULLA_E_INPUT;
}

static int refuse_error(struct answer_error *problem, const bulla_error *error)
{
    int is_memory = error->code == BULLA_E_MEMORY;
    *problem = (struct answer_error){.status = is_memory ? 503 : 500, .type = "server_error",
                                     .code = is_memory ? "out_of_memory" : "internal_error", .retry_after = is_memory};
    snprintf(problem->message, sizeof problem->message, "the answer's receipt cannot be made: %s", error->text);
    return error->code;
}

static void write_parameters(const struct api_answer *answer, const uint8_t *salt, struct buffer *out)
{
    const struct api_call *call = &answer->call;
    uint64_t deadline = answer->request.answer.deadline;
    const struct api_parameters parameters = {
        .endpoint = call->route, .model = answer->model_name, .seed = *call->seed ? call->seed : NULL,
        .microseconds = deadline ? (deadline - call->record.received_nanoseconds) / 1000 : 0};
    api_parameters_write(&answer->request, &parameters, salt, out);
}

int api_receipt_open(struct api_answer *answer, struct answer_error *problem)
{
    struct api_call *call = &answer->call;
    const char *wanted = http_header(call->exchange, "x-bulla-receipt");
    bulla_error error = {0};
    size_t length;
    if (!call->api->receipts || answer->form == &embedding_form)
        return BULLA_OK;
    if (wanted && strcmp(wanted, "full") != 0)
        return refuse_header(problem, wanted);
    struct api_receipt *receipt = memory_alloc(1, sizeof *receipt, &error);
    answer->receipt = receipt;
    if (receipt) {
        receipt->steps = (struct api_steps){.take = take_step, .context = answer};
        receipt->jsons = memory_alloc(answer->choice_count, sizeof *receipt->jsons, &error);
        api_steps_open(&receipt->steps, answer->choice_count, &error);
    }
    const char *body = http_body(call->exchange, &length);
    if (error.code == BULLA_OK)
        receipt_issue_open(call->api->receipts, answer->choice_count, body, length, &receipt->issue, &error);
    if (error.code != BULLA_OK)
        return refuse_error(problem, &error);
    receipt->is_full = wanted != NULL;
    hex_encode(receipt_issue_id(receipt->issue), RECEIPT_ID, call->receipt_id);
    hex_encode(receipt_issue_salt(receipt->issue), RECEIPT_SALT, call->receipt_salt);
    write_parameters(answer, receipt_issue_salt(receipt->issue), &receipt->parameters);
    return receipt->parameters.error.code == BULLA_OK ? BULLA_OK : refuse_error(problem, &receipt->parameters.error);
}

void api_receipt_close(struct api_answer *answer)
{
    struct api_receipt *receipt = answer->receipt;
    if (!receipt)
        return;
    receipt_issue_close(receipt->issue);
    for (size_t i = 0; receipt->jsons && i < answer->choice_count; i++)
        buffer_free(&receipt->jsons[i]);
    memory_free(receipt->jsons);
    api_steps_free(&receipt->steps);
    buffer_free(&receipt->ids);
    buffer_free(&receipt->parameters);
    buffer_free(&receipt->document);
    memory_free(receipt);
    answer->receipt = NULL;
}

static void on_done(void *context, const struct buffer *document, const bulla_error *error)
{
    struct api_answer *answer = context;
    struct answer_error problem = {.status = 500, .type = "server_error", .code = "receipt_not_logged"};
    if (error) {
        snprintf(problem.message, sizeof problem.message, "the answer's receipt could not be logged: %s", error->text);
        api_answer_fail(answer, &problem);
        return;
    }
    buffer_append(&answer->receipt->document, document->data, document->length);
    if (answer->receipt->document.error.code != BULLA_OK)
        api_answer_fail_memory(answer);
    else
        api_answer_complete(answer);
}

void api_receipt_submit(struct api_answer *answer)
{
    struct api_receipt *receipt = answer->receipt;
    const struct backend_info *info = &answer->info;
    struct buffer engine = {0};
    bulla_error error = {0};
    if (info->engine)
        buffer_append_format(&engine, "%s %s", info->engine, info->engine_model ? info->engine_model : "");
    struct receipt_facts facts = {.backend = info->kind, .engine = (const char *)engine.data, .model_root = info->root,
                                  .tokenizer = info->tokenizer, .chat_template = info->chat_template,
                                  .program_version = info->program_version, .prompt_tokens = answer->usage.prompt_tokens,
                                  .output_tokens = answer->usage.output_tokens,
                                  .parameters = (const char *)receipt->parameters.data, .retention = "none"};
    receipt->is_submitted = 1;
    if (engine.error.code != BULLA_OK ||
        receipt_issue_submit(receipt->issue, &facts, on_done, answer, &error) != BULLA_OK)
        on_done(answer, NULL, engine.error.code != BULLA_OK ? &engine.error : &error);
    buffer_free(&engine);
}

int api_receipt_is_submitted(const struct api_answer *answer)
{
    return answer->receipt && answer->receipt->is_submitted;
}

/* ---- Steps ---- */

static void write_step(struct buffer *out, enum receipt_part part, const uint32_t *ids, size_t id_count, const char *text,
                       size_t length)
{
    buffer_append_text(out, "{\"part\":\"");
    buffer_append_text(out, receipt_part_name(part));
    buffer_append_byte(out, '"');
    for (size_t i = 0; i < id_count; i++) {
        buffer_append_text(out, i ? "," : ",\"ids\":[");
        api_write_number(out, ids[i]);
    }
    if (id_count)
        buffer_append_byte(out, ']');
    if (text) {
        buffer_append_text(out, ",\"text\":");
        json_write_string(out, text, length);
    }
    buffer_append_byte(out, '}');
}

/* The next event tells of it. `is_plain`: it says the bytes itself. */
static void note_step(struct api_receipt *receipt, const struct receipt_step *step, const char *text, size_t length,
                      int is_plain)
{
    if (receipt->note_count == MOST_NOTES) /* a delta has no more */
        return;
    struct note *note = receipt->notes + receipt->note_count++;
    *note = (struct note){.part = step->part, .id_count = step->id_count, .text = is_plain ? NULL : text, .length = length};
    memcpy(note->chain, step->chain, RECEIPT_HASH);
    if (step->id_count)
        buffer_append(&receipt->ids, step->ids, step->id_count * sizeof *step->ids);
}

/* The step that was just made is told of, where that was asked for. */
static void tell_step(struct api_answer *answer, size_t choice, const char *text, size_t length, int is_plain)
{
    struct api_receipt *receipt = answer->receipt;
    struct receipt_step step = receipt_issue_last(receipt->issue);
    if (!receipt->is_full)
        return;
    receipt->note_choice = (uint32_t)choice;
    if (answer->request.is_stream) {
        note_step(receipt, &step, text, length, is_plain);
        return;
    }
    struct buffer *json = &receipt->jsons[choice];
    size_t before = json->length;
    if (before)
        buffer_append_byte(json, ',');
    write_step(json, step.part, step.ids, step.id_count, text ? text : "", length);
    answer_gather(answer, json->length - before);
}

static void take_step(void *context, size_t choice, enum receipt_part part, const char *bytes, size_t length, int is_plain)
{
    struct api_answer *answer = context;
    if (part == RECEIPT_FINISH) /* a response's words are others */
        is_plain = answer->form != &response_form;
    receipt_issue_step(answer->receipt->issue, choice, part, bytes, length);
    tell_step(answer, choice, bytes, length, is_plain);
}

static void forget_notes(struct api_receipt *receipt)
{
    receipt->note_count = 0;
    buffer_clear(&receipt->ids);
}

void api_receipt_prompt(struct api_answer *answer, size_t number, const uint32_t *ids, size_t count)
{
    if (answer->receipt)
        receipt_issue_prompt(answer->receipt->issue, number, ids, count);
}

void api_receipt_echo(struct api_answer *answer, const struct api_choice *choice)
{
    const struct api_prompt *prompt = answer->request.prompts + choice->run->number;
    if (!answer->receipt || !answer->request.echoes)
        return;
    forget_notes(answer->receipt);
    api_steps_echo(&answer->receipt->steps, choice->index, prompt->text, prompt->length);
}

void api_receipt_delta(struct api_answer *answer, const struct api_choice *choice, const struct answer_delta *delta)
{
    struct api_receipt *receipt = answer->receipt;
    if (!receipt)
        return;
    forget_notes(receipt);
    receipt_issue_tokens(receipt->issue, choice->index, delta->ids, delta->tokens);
    api_steps_delta(&receipt->steps, choice->index, delta);
}

int api_receipt_finish(struct api_answer *answer, struct api_choice *choice)
{
    struct api_receipt *receipt = answer->receipt;
    const char *word = answer_finish_word(choice->finish), *stop = answer_stop_reason(choice);
    if (!receipt)
        return 0;
    forget_notes(receipt);
    api_steps_finish(&receipt->steps, choice->index, word, stop);
    receipt_issue_end(receipt->issue, choice->index, word);
    for (size_t i = 0; i < answer->choice_count; i++)
        if (!answer->choices[i].finish)
            return 0;
    if (!answer->request.includes_usage)
        receipt->held = choice;
    return receipt->held != NULL;
}

struct api_choice *api_receipt_held(const struct api_answer *answer)
{
    return answer->receipt ? answer->receipt->held : NULL;
}

/* ---- What is told ---- */

static int is_told_of(const struct note *note, unsigned parts)
{
    return note->part && (parts & 1u << note->part);
}

/* Its steps of these parts, with the chain after the last. */
static void write_notes(struct api_receipt *receipt, struct buffer *out, unsigned parts)
{
    const struct note *last = NULL;
    char digits[2 * RECEIPT_HASH + 1];
    buffer_append_text(out, "\"choice\":");
    api_write_number(out, receipt->note_choice);
    buffer_append_text(out, ",\"steps\":[");
    for (size_t i = 0; i < receipt->note_count; i++) {
        struct note *note = receipt->notes + i;
        if (!is_told_of(note, parts))
            continue;
        if (last)
            buffer_append_byte(out, ',');
        write_step(out, note->part, (const uint32_t *)(const void *)receipt->ids.data, note->id_count, note->text, note->length);
        note->part = 0;
        last = note;
    }
    hex_encode(last->chain, RECEIPT_HASH, digits);
    buffer_append_text(out, "],\"chain\":\"");
    buffer_append_text(out, digits);
    buffer_append_byte(out, '"');
}

void answer_write_steps(struct api_answer *answer, struct buffer *out, unsigned parts, int has_marks)
{
    struct api_receipt *receipt = answer->receipt;
    int is_marked = has_marks && !answer->info.is_verified, has_steps = 0;
    for (size_t i = 0; receipt && i < receipt->note_count; i++)
        has_steps |= is_told_of(receipt->notes + i, parts);
    if (receipt && receipt->ids.error.code != BULLA_OK && out->error.code == BULLA_OK)
        out->error = receipt->ids.error;
    if (receipt && receipt->steps.text.error.code != BULLA_OK && out->error.code == BULLA_OK)
        out->error = receipt->steps.text.error;
    if (!is_marked && !has_steps)
        return;
    buffer_append_text(out, ",\"bulla\":{");
    if (has_steps)
        write_notes(receipt, out, parts);
    if (is_marked)
        buffer_append_text(out, has_steps ? ",\"verified\":false" : "\"verified\":false");
    buffer_append_byte(out, '}');
}

void answer_write_whole_steps(struct api_answer *answer, struct buffer *out)
{
    struct api_receipt *receipt = answer->receipt;
    if (!receipt || !receipt->is_full) {
        answer_write_marks(answer, out);
        return;
    }
    buffer_append_text(out, ",\"bulla\":{\"choices\":[");
    for (size_t i = 0; i < answer->choice_count; i++) {
        struct buffer *json = &receipt->jsons[i];
        buffer_append_text(out, i ? ",{\"steps\":[" : "{\"steps\":[");
        buffer_append(out, json->data, json->length);
        buffer_append_text(out, "]}");
        if (json->error.code != BULLA_OK && out->error.code == BULLA_OK)
            out->error = json->error;
    }
    buffer_append_text(out, answer->info.is_verified ? "]}" : "],\"verified\":false}");
    answer_write_receipt(answer, out);
}

void answer_write_receipt(struct api_answer *answer, struct buffer *out)
{
    struct api_receipt *receipt = answer->receipt;
    if (!receipt || receipt->document.length == 0)
        return;
    buffer_append_text(out, ",\"bulla_receipt\":");
    buffer_append(out, receipt->document.data, receipt->document.length);
}
