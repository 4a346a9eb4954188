/* The wire between front and worker: round trips, every truncation, hostile lengths, memory that is short. */
#define _GNU_SOURCE /* memmem */
#include "test.h"

#include "base/memory.h"
#include "serve/wire.h"

static struct wire_frame frame_of(const struct buffer *out)
{
    struct wire_frame frame;
    size_t taken, needed;
    bulla_error error = {0};
    assert_int_equal(out->error.code, BULLA_OK);
    assert_ok(wire_next(out->data, out->length, &frame, &taken, &needed, &error), error);
    assert_int_equal(taken, out->length);
    assert_int_equal(needed, out->length);
    return frame;
}

static const struct wire_choice choices[] = {{0x1234567890ABCDEF, UINT64_MAX}, {2, 3}, {UINT64_MAX, 0}};
static const bulla_logit_bias biases[] = {{7, -1000000}, {49151, 5}};
static const uint32_t prompt[] = {1, 2, 3, 0xFFFFFFFF, 5};
static const struct scheduler_text stops[] = {{"\n", 1}, {"a\0b", 3}, {"", 0}};
static const struct scheduler_logprob top[] = {{9, -0.5}, {10, -12.25}};
static const float values[] = {0.5f, -1.0f, 0.25f};

static struct scheduler_request full_request(void)
{
    return (struct scheduler_request){
        .prompt = prompt, .prompt_count = 5, .max_tokens = 77, .tenant = "someone",
        .shares_prefix = 1, .priority = -3, .deadline = 99, .ignores_end = 1, .logprobs = 20, .stops = stops,
        .stop_count = 3, .grammar = "{\"object\": true}", .grammar_length = 16, .embeds = 1,
        .sampling = {.temperature = 1, .top_k = 2, .top_p = 3, .min_p = 4, .repetition = 5, .presence = -6,
                     .frequency = 7, .biases = biases, .bias_count = 2}};
}

static void expect_same_request(const struct scheduler_request *found, const struct scheduler_request *sent)
{
    assert_true(found->max_tokens == sent->max_tokens && found->deadline == sent->deadline);
    assert_int_equal(found->prompt_count, sent->prompt_count);
    assert_memory_equal(found->prompt, sent->prompt, sent->prompt_count * sizeof *sent->prompt);
    assert_int_equal(found->shares_prefix, sent->shares_prefix);
    assert_int_equal(found->ignores_end, sent->ignores_end);
    assert_int_equal(found->embeds, sent->embeds);
    assert_int_equal(found->priority, sent->priority);
    assert_int_equal(found->logprobs, sent->logprobs);
    assert_int_equal(found->tenant != NULL, sent->tenant != NULL);
    if (sent->tenant)
        assert_string_equal(found->tenant, sent->tenant);
    assert_int_equal(found->grammar != NULL, sent->grammar != NULL);
    if (sent->grammar) {
        assert_int_equal(found->grammar_length, sent->grammar_length);
        assert_memory_equal(found->grammar, sent->grammar, sent->grammar_length);
    }
    assert_int_equal(found->stop_count, sent->stop_count);
    for (size_t i = 0; i < sent->stop_count; i++) {
        assert_int_equal(found->stops[i].length, sent->stops[i].length);
        assert_memory_equal(found->stops[i].text, sent->stops[i].text, sent->stops[i].length + 1);
    }
    const bulla_sampling *a = &found->sampling, *b = &sent->sampling;
    assert_true(a->temperature == b->temperature && a->top_k == b->top_k && a->top_p == b->top_p &&
                a->min_p == b->min_p &&
                a->repetition == b->repetition && a->presence == b->presence && a->frequency == b->frequency &&
                a->bias_count == b->bias_count);
    for (size_t i = 0; i < b->bias_count; i++)
        assert_true(a->biases[i].id == b->biases[i].id && a->biases[i].bias == b->biases[i].bias);
}

static void requests_come_as_sent(void **state)
{
    (void)state;
    struct scheduler_request requests[2] = {full_request(), {.prompt = prompt, .prompt_count = 1, .logprobs = -1}};
    for (size_t i = 0; i < 2; i++) {
        struct buffer out = {0};
        struct wire_submit submit;
        bulla_error error = {0};
        wire_write_submit(&out, &requests[i], choices, 1 + 2 * i);
        struct wire_frame frame = frame_of(&out);
        assert_int_equal(frame.type, WIRE_SUBMIT);
        assert_ok(wire_read_submit(&frame, &submit, &error), error);
        expect_same_request(&submit.request, &requests[i]);
        assert_int_equal(submit.choice_count, 1 + 2 * i);
        assert_memory_equal(submit.choices, choices, submit.choice_count * sizeof *choices);
        assert_true(submit.request.id == choices[0].id && submit.request.sampling.seed == choices[0].seed);
        buffer_free(&out);
    }
}

static void requests_have_bounds(void **state)
{
    (void)state;
    struct buffer out = {0};
    bulla_error error = {0};
    char name[300] = {0};
    struct scheduler_request request = full_request();
    for (size_t count = 0; count <= WIRE_MOST_CHOICES + 1; count += WIRE_MOST_CHOICES + 1) {
        bulla_error_clear(&error);
        assert_int_equal(wire_check_submit(&request, count, &error), BULLA_E_LIMIT);
    }
    bulla_error_clear(&error);
    request.stop_count = SCHEDULER_MOST_STOPS + 1;
    assert_int_equal(wire_check_submit(&request, 1, &error), BULLA_E_LIMIT);
    request = full_request();
    memset(name, 'x', sizeof name - 1);
    request.tenant = name;
    bulla_error_clear(&error);
    assert_int_equal(wire_check_submit(&request, 1, &error), BULLA_E_LIMIT);
    request = full_request();
    request.prompt_count = SIZE_MAX / 4;
    bulla_error_clear(&error);
    assert_int_equal(wire_check_submit(&request, 1, &error), BULLA_E_LIMIT);
    wire_write_submit(&out, &request, choices, 1);
    assert_int_equal(out.error.code, BULLA_E_LIMIT);
    assert_int_equal(out.length, 0);
    buffer_free(&out);
}

static void events_come_as_told(void **state)
{
    (void)state;
    bulla_error error = {0};
    for (size_t length = 0; length < 20; length++) {
        struct buffer out = {0};
        struct scheduler_token token = {.request = 5, .token = 6, .text = "twenty bytes of text", .length = length,
                                        .logprob = -0.125, .top = top, .top_count = length % 3}, told;
        wire_write_token(&out, &token);
        struct wire_frame frame = frame_of(&out);
        assert_ok(wire_read_token(&frame, &told, &error), error);
        assert_true(told.request == 5 && told.token == 6 && told.length == length && told.top_count == length % 3);
        assert_true(told.logprob >= -0.125 && told.logprob <= -0.125);
        assert_memory_equal(told.text, token.text, length);
        for (size_t i = 0; i < told.top_count; i++)
            assert_true(told.top[i].token == top[i].token && !(told.top[i].logprob < top[i].logprob));
        buffer_clear(&out);
        bulla_error why = {.code = BULLA_E_MEMORY, .text = "no memory"};
        struct scheduler_finish finish = {.request = 8, .reason = SCHEDULER_FAILED, .stop = length & 1 ? "stop" : NULL,
                                          .rest = token.text, .rest_length = length, .prompt_tokens = 1,
                                          .cached_tokens = 2,
                                          .output_tokens = 3, .range_position = 4, .range_operation = 5,
                                          .error = length & 2 ? &why : NULL, .queued_nanoseconds = 6,
                                          .prefill_nanoseconds = 7, .decode_nanoseconds = 8};
        struct wire_finish end;
        wire_write_finish(&out, &finish);
        frame = frame_of(&out);
        assert_ok(wire_read_finish(&frame, &end, &error), error);
        assert_int_equal(end.finish.reason, SCHEDULER_FAILED);
        assert_true(end.finish.prompt_tokens == 1 && end.finish.cached_tokens == 2 && end.finish.output_tokens == 3 &&
                    end.finish.range_position == 4 && end.finish.range_operation == 5 &&
                    end.finish.queued_nanoseconds == 6 &&
                    end.finish.prefill_nanoseconds == 7 && end.finish.decode_nanoseconds == 8);
        assert_int_equal(end.finish.stop != NULL, length & 1);
        assert_memory_equal(end.finish.rest, token.text, length);
        if (length & 2)
            assert_string_equal(end.error_text, "no memory");
        assert_int_equal(end.error_code, length & 2 ? BULLA_E_MEMORY : 0);
        buffer_free(&out);
    }
}

static void the_rest_comes_as_told(void **state)
{
    (void)state;
    struct buffer out = {0};
    bulla_error error = {0}, why = {.code = BULLA_E_LIMIT, .text = "too long"};
    struct wire_configure configure = {1, 2, 3, 1, 4, "avx2"}, configured;
    wire_write_configure(&out, &configure);
    struct wire_frame frame = frame_of(&out);
    assert_ok(wire_read_configure(&frame, &configured, &error), error);
    assert_true(configured.threads == 1 && configured.most_running == 2 && configured.speculate == 3 &&
                configured.has_prefix_cache == 1 && configured.pages == 4);
    assert_string_equal(configured.isa, "avx2");
    buffer_clear(&out);
    struct wire_ready ready = {1, 2, 3, 4, {9}, "vnni"}, is_ready;
    wire_write_ready(&out, &ready);
    frame = frame_of(&out);
    assert_ok(wire_read_ready(&frame, &is_ready, &error), error);
    assert_true(is_ready.context == 2 && is_ready.vocabulary == 3 && is_ready.pages == 4 && is_ready.root[0] == 9);
    buffer_clear(&out);
    uint64_t request;
    wire_write_cancel(&out, 17);
    frame = frame_of(&out);
    assert_ok(wire_read_cancel(&frame, &request, &error), error);
    assert_int_equal(request, 17);
    buffer_clear(&out);
    const float *told;
    size_t count;
    wire_write_embedding(&out, 18, values, 3);
    frame = frame_of(&out);
    assert_ok(wire_read_embedding(&frame, &request, &told, &count, &error), error);
    assert_int_equal(count, 3);
    assert_memory_equal(told, values, sizeof values);
    buffer_clear(&out);
    int code;
    const char *text;
    wire_write_refused(&out, 19, &why);
    frame = frame_of(&out);
    assert_ok(wire_read_refused(&frame, &request, &code, &text, &error), error);
    assert_int_equal(code, BULLA_E_LIMIT);
    assert_string_equal(text, "too long");
    buffer_free(&out);
}

/* ---- Damage ---- */

static int read_any(const struct wire_frame *frame, bulla_error *error)
{
    union {
        struct wire_configure configure;
        struct wire_ready ready;
        struct wire_submit submit;
        struct scheduler_token token;
        struct wire_finish finish;
    } result;
    uint64_t request;
    const float *numbers;
    size_t count;
    int code;
    const char *text;
    switch (frame->type) {
    case WIRE_CONFIGURE: return wire_read_configure(frame, &result.configure, error);
    case WIRE_READY: return wire_read_ready(frame, &result.ready, error);
    case WIRE_SUBMIT: return wire_read_submit(frame, &result.submit, error);
    case WIRE_CANCEL: return wire_read_cancel(frame, &request, error);
    case WIRE_TOKEN: return wire_read_token(frame, &result.token, error);
    case WIRE_EMBEDDING: return wire_read_embedding(frame, &request, &numbers, &count, error);
    case WIRE_FINISH: return wire_read_finish(frame, &result.finish, error);
    case WIRE_REFUSED: return wire_read_refused(frame, &request, &code, &text, error);
    default: return BULLA_E_INTERNAL;
    }
}

enum { KINDS = 8 };

static void write_kind(struct buffer *out, int kind)
{
    bulla_error why = {.code = BULLA_E_LIMIT, .text = "why"};
    struct scheduler_request request = full_request();
    struct scheduler_token token = {.text = "text", .length = 4, .top = top, .top_count = 2};
    struct scheduler_finish finish = {.stop = "stop", .rest = "rest!", .rest_length = 5, .error = &why};
    struct wire_configure configure = {.isa = "vnni"};
    struct wire_ready ready = {.isa = "vnni"};
    switch (kind) {
    case 0: wire_write_configure(out, &configure); break;
    case 1: wire_write_ready(out, &ready); break;
    case 2: wire_write_submit(out, &request, choices, 3); break;
    case 3: wire_write_cancel(out, 5); break;
    case 4: wire_write_token(out, &token); break;
    case 5: wire_write_embedding(out, 6, values, 3); break;
    case 6: wire_write_finish(out, &finish); break;
    default: wire_write_refused(out, 7, &why); break;
    }
}

/* A copy of exactly its bytes, so that a sanitizer sees what lies beyond. */
static int read_copy(const struct wire_frame *frame, size_t length)
{
    bulla_error error = {0};
    uint8_t *copy = malloc(length ? length : 1);
    if (length)
        memcpy(copy, frame->body, length);
    struct wire_frame cut = {frame->type, copy, length};
    int code = read_any(&cut, &error);
    assert_int_equal(code, error.code);
    free(copy);
    return code;
}

static void cut_frames_are_refused(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        struct buffer out = {0};
        write_kind(&out, kind);
        struct wire_frame frame = frame_of(&out), none;
        assert_int_equal(read_copy(&frame, frame.length), BULLA_OK);
        for (size_t length = 0; length + 8 <= frame.length; length++)
            assert_int_equal(read_copy(&frame, length), BULLA_E_INPUT);
        for (size_t length = 0; length < out.length; length++) {
            size_t taken, needed;
            bulla_error error = {0};
            assert_ok(wire_next(out.data, length, &none, &taken, &needed, &error), error);
            assert_int_equal(taken, 0);
            assert_int_equal(needed, length < WIRE_HEAD_BYTES ? WIRE_HEAD_BYTES : out.length);
        }
        buffer_append_u64(&out, 0); /* more than it should be */
        frame.body = out.data + WIRE_HEAD_BYTES;
        assert_int_equal(read_copy(&frame, frame.length + 8), BULLA_E_INPUT);
        buffer_free(&out);
    }
}

/* Each 32-bit word of each frame replaced by a hostile number: read in bounds, whatever comes of it. */
static void hostile_numbers_stay_in_bounds(void **state)
{
    (void)state;
    static const uint32_t hostile[] = {0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, 0x40000000, 0x10000001};
    size_t refused = 0;
    for (int kind = 0; kind < KINDS; kind++) {
        struct buffer out = {0};
        write_kind(&out, kind);
        struct wire_frame frame = frame_of(&out);
        for (size_t at = WIRE_HEAD_BYTES; at + 4 <= out.length; at += 4)
            for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
                uint32_t kept;
                memcpy(&kept, out.data + at, 4);
                memcpy(out.data + at, &hostile[i], 4);
                refused += read_copy(&frame, frame.length) != BULLA_OK;
                memcpy(out.data + at, &kept, 4);
            }
        buffer_free(&out);
    }
    assert_true(refused > 300);
}

static void heads_are_checked(void **state)
{
    (void)state;
    static const uint32_t heads[][2] = {{8, 0}, {8, WIRE_TYPES}, {8, 0xFFFFFFFF}, {7, WIRE_CANCEL}, {WIRE_MOST_BODY + 8,
                                                                                                     WIRE_CANCEL},
                                        {0xFFFFFFF8, WIRE_CANCEL}};
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        struct wire_frame frame;
        size_t taken, needed;
        bulla_error error = {0};
        assert_int_equal(wire_next((const uint8_t *)heads[i], 8, &frame, &taken, &needed, &error), BULLA_E_INPUT);
    }
}

static void texts_end_where_they_say(void **state)
{
    (void)state;
    struct buffer out = {0};
    struct wire_submit submit;
    bulla_error error = {0};
    struct scheduler_request request = full_request();
    wire_write_submit(&out, &request, choices, 1);
    struct wire_frame frame = frame_of(&out);
    uint8_t *tenant = memmem(out.data, out.length, "someone", 8);
    assert_non_null(tenant);
    tenant[3] = 0; /* a NUL inside, which would hide the rest */
    assert_int_equal(wire_read_submit(&frame, &submit, &error), BULLA_E_INPUT);
    tenant[3] = 'e';
    tenant[7] = 'x'; /* no NUL after */
    bulla_error_clear(&error);
    assert_int_equal(wire_read_submit(&frame, &submit, &error), BULLA_E_INPUT);
    buffer_free(&out);
}

static void other_versions_are_refused(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        struct buffer out = {0};
        write_kind(&out, kind);
        struct wire_frame frame = frame_of(&out);
        bulla_error error = {0};
        out.data[WIRE_HEAD_BYTES]++;
        assert_int_equal(read_any(&frame, &error), BULLA_E_INPUT);
        assert_non_null(strstr(error.text, "version 3"));
        buffer_free(&out);
    }
}

static void memory_that_is_short_leaves_no_part(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        struct buffer out = {0};
        memory_inject_failure(1, 1);
        write_kind(&out, kind);
        memory_inject_failure(0, 0);
        assert_int_equal(out.error.code, BULLA_E_MEMORY);
        assert_int_equal(out.length, 0);
        buffer_free(&out);
    }
}

static void bytes_are_dropped_from_the_front(void **state)
{
    (void)state;
    struct buffer buffer = {0};
    buffer_drop_front(&buffer, 3);
    buffer_append_text(&buffer, "abcdef");
    buffer_drop_front(&buffer, 2);
    assert_string_equal((const char *)buffer.data, "cdef");
    buffer_drop_front(&buffer, 9);
    assert_int_equal(buffer.length, 0);
    assert_string_equal((const char *)buffer.data, "");
    buffer_free(&buffer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_come_as_sent),
        cmocka_unit_test(requests_have_bounds),
        cmocka_unit_test(events_come_as_told),
        cmocka_unit_test(the_rest_comes_as_told),
        cmocka_unit_test(cut_frames_are_refused),
        cmocka_unit_test(hostile_numbers_stay_in_bounds),
        cmocka_unit_test(heads_are_checked),
        cmocka_unit_test(texts_end_where_they_say),
        cmocka_unit_test(other_versions_are_refused),
        cmocka_unit_test(memory_that_is_short_leaves_no_part),
        cmocka_unit_test(bytes_are_dropped_from_the_front),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
