/* /v1/embeddings: vectors as numbers or as base64 of little-endian binary32. */
#include <stdio.h>
#include <string.h>

#include "serve/api_answer.h"

static void write_base64(struct buffer *out, const float *values, size_t count)
{
    struct buffer bytes = {0};
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, values + i, sizeof bits);
        buffer_append_u32(&bytes, bits);
    }
    buffer_append_byte(out, '"');
    base64_append(out, bytes.data, bytes.length);
    buffer_append_byte(out, '"');
    if (bytes.error.code != BULLA_OK)
        out->error = bytes.error;
    buffer_free(&bytes);
}

static void write_numbers(struct buffer *out, const float *values, size_t count)
{
    buffer_append_byte(out, '[');
    for (size_t i = 0; i < count; i++) {
        if (i)
            buffer_append_byte(out, ',');
        api_write_real(out, (double)values[i], 9); /* enough to give every binary32 back */
    }
    buffer_append_byte(out, ']');
}

static int on_embedding(struct api_answer *answer, struct api_choice *choice, const float *values, size_t count,
                        struct answer_error *problem)
{
    struct field_reader reader = {&answer->request.kept, problem};
    if (answer->request.dimensions && (uint64_t)answer->request.dimensions != count)
        return field_fail(&reader, &(struct place){NULL, "dimensions", 0}, "unsupported_value",
                          "is %lld; this model's vectors have %zu numbers, and cutting them would spoil them",
                          (long long)answer->request.dimensions, count);
    buffer_clear(&choice->text);
    if (answer->request.is_base64)
        write_base64(&choice->text, values, count);
    else
        write_numbers(&choice->text, values, count);
    answer_gather(answer, choice->text.length);
    return BULLA_OK;
}

static void end_embedding(struct api_answer *answer)
{
    struct buffer *out = &answer->out;
    buffer_append_text(out, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < answer->choice_count; i++) {
        const struct buffer *vector = &answer->choices[i].text;
        buffer_append_text(out, i ? ",{\"object\":\"embedding\",\"index\":" : "{\"object\":\"embedding\",\"index\":");
        api_write_number(out, i);
        buffer_append_text(out, ",\"embedding\":");
        if (vector->length)
            buffer_append(out, vector->data, vector->length);
        else
            buffer_append_text(out, "[]");
        buffer_append_byte(out, '}');
    }
    buffer_append_text(out, "],\"model\":");
    api_write_text(out, answer->model_name);
    buffer_append_text(out, ",\"usage\":{\"prompt_tokens\":");
    api_write_number(out, answer->usage.prompt_tokens);
    buffer_append_text(out, ",\"total_tokens\":");
    api_write_number(out, answer->usage.prompt_tokens);
    buffer_append_byte(out, '}');
    answer_write_marks(answer, out);
    buffer_append_byte(out, '}');
}

const struct answer_form embedding_form = {.id_prefix = "embd-", .embedding = on_embedding, .end = end_embedding};
