/* Answers of a server as `bulla connect` checks them. The first byte of the input says which form was asked for; the rest
 * are events, a line each, or a whole body. Salt, id, key and request are those of tests/connect_answer.c, so that the
 * corpus has answers that verify. What verifies must hand on what its receipt covers, and nothing else. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "connect_answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Appends the text that clients read of choice 0. */
static void read_text(const struct buffer *out, int is_sealed, enum connect_form form, struct buffer *text)
{
    struct arena arena = {0};
    struct buffer copy = {0};
    buffer_append(&copy, out->data, out->length);
    if (is_sealed)
        connect_check_seal(&copy, NULL);
    const struct json *value = json_parse((const char *)copy.data, copy.length, "out", &arena, NULL);
    if (!value || json_get(value, "bulla_receipt"))
        abort();
    const struct json *choices = json_get(value, "choices"), *delta = json_get(value, "delta");
    for (size_t i = 0; form != CONNECT_RESPONSE && json_is(choices, JSON_ARRAY) && i < choices->length; i++) {
        const struct json *choice = choices->items[i], *index = json_get(choice, "index"), *message = json_get(choice, "message");
        const struct json *holder = form == CONNECT_COMPLETION ? choice : message ? message : json_get(choice, "delta");
        const struct json *piece = json_get(holder, form == CONNECT_COMPLETION ? "text" : "content");
        if (index && index->integer == 0 && json_is(piece, JSON_STRING))
            buffer_append(text, piece->text, piece->length);
    }
    const struct json *type = json_get(value, "type");
    if (form == CONNECT_RESPONSE && json_is(type, JSON_STRING) && strcmp(type->text, "response.output_text.delta") == 0 &&
        json_is(delta, JSON_STRING))
        buffer_append(text, delta->text, delta->length);
    buffer_free(&copy);
    arena_free(&arena);
}

/* The content of choice 0 in the transcript. */
static void read_transcript(const struct connect_check *check, struct buffer *text)
{
    struct buffer document = {0};
    struct arena arena = {0};
    connect_check_write(check, NULL, 0, 1, &document);
    const struct json *value = json_parse((const char *)document.data, document.length, "document", &arena, NULL);
    const struct json *choices = json_get(json_get(value, "transcript"), "choices");
    const struct json *steps = json_get(json_is(choices, JSON_ARRAY) && choices->length ? choices->items[0] : NULL, "steps");
    if (!json_is(steps, JSON_ARRAY))
        abort();
    for (size_t i = 0; i < steps->length; i++) {
        const struct json *piece = json_get(steps->items[i], "text");
        if (strcmp(json_get(steps->items[i], "part")->text, "content") == 0)
            buffer_append(text, piece->text, piece->length);
    }
    buffer_free(&document);
    arena_free(&arena);
}

static int take(struct connect_check *check, const struct connect_answer *answer, const char *data, size_t length,
                struct buffer *text, struct connect_problem *problem)
{
    struct buffer out = {0};
    enum connect_event event = CONNECT_LAST;
    int code = answer->is_stream ? connect_check_event(check, data, length, &out, &event, problem)
                                 : connect_check_whole(check, data, length, &out, problem);
    if ((code != BULLA_OK) != (problem->check[0] != 0))
        abort();
    if (code == BULLA_OK && event != CONNECT_DONE && event != CONNECT_FAILED)
        read_text(&out, event == CONNECT_LAST, answer->form, text);
    buffer_free(&out);
    return code == BULLA_OK && event != CONNECT_FAILED;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct connect_answer answers[6];
    struct connect_problem problem = {0};
    struct arena arena = {0};
    struct buffer text = {0}, covered = {0};
    struct connect_check *check = NULL;
    if (size == 0 || size > 1 << 16)
        return 0;
    unsigned which = data[0] % 6;
    struct connect_answer *answer = &answers[which];
    if (!answer->count)
        connect_answer_make((enum connect_form)(which % 3), which % 3 == CONNECT_RESPONSE || which >= 3, "", answer);
    answer->is_stream = which >= 3;
    struct connect_asked asked = {.form = answer->form, .body = answer->request.data, .length = answer->request.length};
    asked.json = json_parse(asked.body, asked.length, "request", &arena, NULL);
    if (connect_check_open(&asked, answer->id, answer->salt, &check, &problem) != BULLA_OK)
        abort();
    const char *at = (const char *)data + 1, *end = (const char *)data + size;
    int goes_on = 1;
    while (goes_on && at < end) {
        const char *line = answer->is_stream ? memchr(at, '\n', (size_t)(end - at)) : NULL;
        size_t length = (size_t)((line ? line : end) - at);
        goes_on = take(check, answer, at, length, &text, &problem);
        at += length + 1;
    }
    if (goes_on && connect_check_receipt(check, &answer->pin, &problem) == BULLA_OK) {
        read_transcript(check, &covered);
        if (answer->form != CONNECT_RESPONSE || answer->is_stream)
            if (text.length != covered.length || (text.length && memcmp(text.data, covered.data, text.length) != 0))
                abort();
    }
    buffer_free(&text);
    buffer_free(&covered);
    connect_check_close(check);
    arena_free(&arena);
    return 0;
}
