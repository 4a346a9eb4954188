/* Streams of frames, as either end of the wire reads them. What is read must be written again as the same bytes, where
 * a writer for it exists and the reader took it whole. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "serve/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect_same(const struct wire_frame *frame, struct buffer *again)
{
    if (again->error.code == BULLA_OK && (again->length != WIRE_HEAD_BYTES + frame->length ||
                                          memcmp(again->data + WIRE_HEAD_BYTES, frame->body, frame->length) != 0))
        abort();
}

/* Bytes that a sanitizer sees being read. */
static unsigned touch(const void *bytes, size_t length)
{
    unsigned sum = 0;
    for (size_t i = 0; i < length; i++)
        sum += ((const uint8_t *)bytes)[i];
    return sum;
}

static int read_submit(const struct wire_frame *frame, struct buffer *again, bulla_error *error)
{
    struct wire_submit submit;
    int code = wire_read_submit(frame, &submit, error);
    if (code == BULLA_OK && submit.request.sampling.bias_count == 0) /* their padding is not kept */
        wire_write_submit(again, &submit.request, submit.choices, submit.choice_count);
    return code;
}

static int read_token(const struct wire_frame *frame, struct buffer *again, bulla_error *error)
{
    struct scheduler_token token;
    int code = wire_read_token(frame, &token, error);
    if (code == BULLA_OK && token.top_count == 0)
        wire_write_token(again, &token);
    return code;
}

static int read_finish(const struct wire_frame *frame, bulla_error *error)
{
    struct wire_finish finish;
    int code = wire_read_finish(frame, &finish, error);
    if (code == BULLA_OK && touch(finish.finish.rest, finish.finish.rest_length) == 1 && finish.error_text &&
        finish.finish.stop)
        return strlen(finish.error_text) + strlen(finish.finish.stop) == SIZE_MAX;
    return code;
}

static int read_frame(const struct wire_frame *frame, struct buffer *again, bulla_error *error)
{
    struct wire_configure configure;
    struct wire_ready ready;
    uint64_t request;
    const float *numbers;
    size_t count;
    int code;
    const char *text;
    switch (frame->type) {
    case WIRE_CONFIGURE:
        return wire_read_configure(frame, &configure, error);
    case WIRE_READY:
        return wire_read_ready(frame, &ready, error);
    case WIRE_SUBMIT:
        return read_submit(frame, again, error);
    case WIRE_CANCEL:
        return wire_read_cancel(frame, &request, error);
    case WIRE_TOKEN:
        return read_token(frame, again, error);
    case WIRE_EMBEDDING:
        code = wire_read_embedding(frame, &request, &numbers, &count, error);
        if (code == BULLA_OK)
            wire_write_embedding(again, request, numbers, count);
        return code;
    case WIRE_FINISH:
        return read_finish(frame, error);
    default:
        code = wire_read_refused(frame, &request, &(int){0}, &text, error);
        return code == BULLA_OK && strlen(text) == SIZE_MAX ? BULLA_E_INTERNAL : code;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (size_t at = 0; at < size;) {
        struct wire_frame frame;
        size_t taken, needed;
        bulla_error error = {0};
        struct buffer again = {0};
        /* As both ends do: a frame begins their buffer, at a multiple of 8. */
        if (wire_next(data + at, size - at, &frame, &taken, &needed, &error) != BULLA_OK || taken == 0)
            break;
        uint8_t *body = malloc(frame.length ? frame.length : 1);
        if (!body)
            break;
        memcpy(body, frame.body, frame.length);
        frame.body = body;
        int code = read_frame(&frame, &again, &error);
        if (code != error.code)
            abort();
        if (again.length)
            expect_same(&frame, &again);
        buffer_free(&again);
        free(body);
        if (code != BULLA_OK)
            break;
        at += taken;
    }
    return 0;
}
