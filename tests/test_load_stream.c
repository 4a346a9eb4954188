/* The load generator's reader of answers: what it counts, however the bytes are cut. */
#include "test.h"

#include "../bench/load_stream.h"

static const char EVENTS[] =
    "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n"
    ": keep-alive\n\n"
    "data: {\"choices\":[{\"delta\":{\"content\":\"Hi \\\"content\\\": \"}}]}\n\n"
    "data: {\"choices\":[{\"delta\":{\"content\": \"x\"}}]}\r\n\r\n"
    "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"x\"}}]}\n\n"
    "data: {\"choices\":[{\"text\":\"\",\"finish_reason\":\"stop\"}]}\n\n"
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":12}}\n\n"
    "data: [DONE]\n\n";

static enum load_step read_all(struct load_stream *stream, const char *text, size_t length, size_t piece, size_t *used)
{
    enum load_step step = LOAD_MORE;
    load_stream_begin(stream);
    for (*used = 0; *used < length && step == LOAD_MORE;) {
        size_t taken, size = piece > length - *used ? length - *used : piece;
        char *exact = malloc(size); /* so that a sanitizer sees the end */
        assert_non_null(exact);
        memcpy(exact, text + *used, size);
        step = load_stream_read(stream, exact, size, &taken);
        free(exact);
        *used += taken;
    }
    return step;
}

static void write_chunked(struct buffer *out, const char *text, size_t size)
{
    buffer_append_text(out, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (size_t at = 0, length = strlen(text); at < length; at += size) {
        size_t part = size > length - at ? length - at : size;
        buffer_append_format(out, "%zx\r\n", part);
        buffer_append(out, text + at, part);
        buffer_append_text(out, "\r\n");
    }
    buffer_append_text(out, "0\r\n\r\n");
}

static void check_events(struct load_stream *stream)
{
    assert_int_equal(stream->status, 200);
    assert_int_equal(stream->texts, 3);
    assert_int_equal(stream->output_tokens, 12);
    assert_int_equal(stream->prompt_tokens, 7);
    assert_true(stream->is_done && stream->is_events && !stream->has_error);
}

static void chunked(void **unused)
{
    static const size_t chunks[] = {1, 3, 10, 57, 100000};
    struct load_stream stream = {0};
    size_t used;
    for (size_t c = 0; c < sizeof chunks / sizeof chunks[0]; c++)
        for (size_t piece = 1; piece < 1200; piece += piece < 40 ? 1 : 97) {
            struct buffer text = {0};
            write_chunked(&text, EVENTS, chunks[c]);
            size_t whole = text.length;
            buffer_append_text(&text, "HTTP"); /* of the next answer */
            assert_int_equal(read_all(&stream, (char *)text.data, text.length, piece, &used), LOAD_WHOLE);
            assert_int_equal(used, whole);
            check_events(&stream);
            assert_false(stream.closes);
            assert_int_equal(read_all(&stream, (char *)text.data, whole - 3, piece, &used), LOAD_MORE);
            assert_int_equal(load_stream_end(&stream), LOAD_BROKEN);
            buffer_free(&text);
        }
    load_stream_free(&stream);
}

static void other_bodies(void **unused)
{
    struct load_stream stream = {0};
    struct buffer text = {0};
    size_t used;
    buffer_append_format(&text, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                         "Connection: close\r\n\r\n%s", EVENTS);
    for (size_t piece = 1; piece < 200; piece++) {
        assert_int_equal(read_all(&stream, (char *)text.data, text.length, piece, &used), LOAD_MORE);
        assert_int_equal(load_stream_end(&stream), LOAD_WHOLE);
        check_events(&stream);
        assert_true(stream.closes);
    }
    buffer_clear(&text);
    buffer_append_text(&text, "HTTP/1.1 503 Busy\r\nContent-Length: 30\r\n\r\n{\"error\":{\"message\":\"is full\"}}");
    for (size_t piece = 1; piece < 100; piece++) {
        assert_int_equal(read_all(&stream, (char *)text.data, text.length, piece, &used), LOAD_WHOLE);
        assert_int_equal(used, text.length - 1); /* its length says 30 */
        assert_int_equal(stream.status, 503);
        assert_true(stream.has_error);
        assert_non_null(strstr(stream.problem, "is full"));
    }
    buffer_clear(&text);
    buffer_append_text(&text, "HTTP/1.1 204 No\r\n\r\nx");
    assert_int_equal(read_all(&stream, (char *)text.data, text.length, 100, &used), LOAD_WHOLE);
    assert_int_equal(used, text.length - 1);
    load_stream_free(&stream);
    buffer_free(&text);
}

static void no_answers(void **unused)
{
    static const char *const texts[] = {
        "SSH-2.0 hello there\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n"};
    struct load_stream stream = {0};
    size_t used;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_int_equal(read_all(&stream, texts[i], strlen(texts[i]), 1000, &used), LOAD_BROKEN);
        assert_true(stream.problem[0] != 0);
    }
    const char *event = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {\"error\":{\"message\":\"no\"}}\n\n";
    read_all(&stream, event, strlen(event), 7, &used);
    assert_int_equal(load_stream_end(&stream), LOAD_WHOLE);
    assert_true(stream.has_error && !stream.is_done);
    load_stream_free(&stream);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunked),
        cmocka_unit_test(other_bodies),
        cmocka_unit_test(no_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
