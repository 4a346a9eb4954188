#include "check/claim.h"

#include <string.h>

static int fail(bulla_error *error, const char *what)
{
    return bulla_fail(error, BULLA_E_INPUT, "the receipt's document: %s", what);
}

static int is_text(const struct json *value)
{
    return json_is(value, JSON_STRING);
}

/* Ids go to `tokens` where that is not NULL. *count: how many there are. */
static int read_ids(const struct json *list, uint32_t *tokens, size_t *count, bulla_error *error)
{
    *count = 0;
    if (!list)
        return BULLA_OK;
    if (!json_is(list, JSON_ARRAY))
        return fail(error, "a step's ids are no list");
    for (size_t i = 0; i < list->length; i++) {
        const struct json *id = list->items[i];
        if (!json_is(id, JSON_NUMBER) || !id->is_integer || id->integer < 0 || id->integer > UINT32_MAX)
            return fail(error, "a step's ids are no token ids");
        if (tokens)
            tokens[i] = (uint32_t)id->integer;
    }
    *count = list->length;
    return BULLA_OK;
}

static int read_step(const struct json *value, struct claim_step *step, uint32_t *tokens, bulla_error *error)
{
    const struct json *part = json_get(value, "part"), *text = json_get(value, "text");
    if (!is_text(part) || !is_text(text) || !receipt_part_find(part->text))
        return fail(error, "a step has no part or no text");
    *step = (struct claim_step){.part = receipt_part_find(part->text), .text = text->text, .length = text->length};
    return read_ids(json_get(value, "ids"), tokens, &step->id_count, error);
}

static int read_choice(const struct json *value, struct arena *arena, struct claim_choice *choice, bulla_error *error)
{
    const struct json *list = json_get(value, "steps");
    struct claim_step step;
    size_t count = 0;
    int code = BULLA_OK;
    if (!json_is(list, JSON_ARRAY) || list->length == 0)
        return fail(error, "a choice has no steps");
    for (size_t i = 0; code == BULLA_OK && i < list->length; i++, count += step.id_count)
        code = read_step(list->items[i], &step, NULL, error);
    struct claim_step *steps = code == BULLA_OK ? arena_alloc(arena, list->length, sizeof *steps, error) : NULL;
    uint32_t *tokens = steps ? arena_alloc(arena, count + 1, sizeof *tokens, error) : NULL;
    if (!tokens)
        return code ? code : BULLA_E_MEMORY;
    count = 0;
    for (size_t i = 0; code == BULLA_OK && i < list->length; count += steps[i++].id_count)
        code = read_step(list->items[i], &steps[i], tokens + count, error);
    const struct claim_step *last = &steps[list->length - 1];
    *choice = (struct claim_choice){.steps = steps, .step_count = list->length, .tokens = tokens, .token_count = count,
                                    .finish = last->text};
    if (last->part != RECEIPT_FINISH)
        return fail(error, "a choice's last step is no finish");
    if (strlen(last->text) < last->length)
        choice->stop = last->text + strlen(last->text) + 1;
    return code;
}

static int read_transcript(const struct json *transcript, struct arena *arena, struct claim *claim, bulla_error *error)
{
    const struct json *salt = json_get(transcript, "salt"), *request = json_get(transcript, "request"),
                      *list = json_get(transcript, "choices");
    if (!is_text(salt) || !hex_decode(salt->text, salt->length, claim->salt, sizeof claim->salt) ||
        !json_is(list, JSON_ARRAY) || list->length != claim->receipt.choice_count)
        return fail(error, "the transcript has no salt, or not the receipt's choices");
    struct claim_choice *choices = arena_alloc(arena, list->length + 1, sizeof *choices, error);
    uint8_t *body = choices && is_text(request) ? arena_alloc(arena, base64_most(request->length) + 1, 1, error) : NULL;
    if (!choices || (is_text(request) && !body))
        return BULLA_E_MEMORY;
    if (body && base64_decode(request->text, request->length, body, &claim->request_length))
        claim->request = body;
    claim->choices = choices;
    int code = BULLA_OK;
    for (size_t i = 0; code == BULLA_OK && i < list->length; i++)
        code = read_choice(list->items[i], arena, &choices[i], error);
    return code;
}

int claim_read(const char *document, size_t length, struct arena *arena, struct claim *claim, bulla_error *error)
{
    struct buffer signed_part = {0};
    uint8_t signature[RECEIPT_SIGNATURE];
    *claim = (struct claim){0};
    const struct json *value = json_parse(document, length, "the receipt", arena, error);
    if (!value)
        return error ? error->code : BULLA_E_INPUT;
    int code = receipt_read(json_get(value, "signed"), arena, &claim->receipt, &signed_part, signature, error);
    buffer_free(&signed_part);
    if (code == BULLA_OK && json_get(value, "transcript"))
        code = read_transcript(json_get(value, "transcript"), arena, claim, error);
    return code;
}
