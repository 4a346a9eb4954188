/* The parts of the upstream backend that need no socket: URLs, the HTTP response reader, server-sent events, the
 * request's JSON. What is told of an answer is in test_upstream_reply.c, whole answers in test_upstream_answer.c. */
#include "test.h"

#include <event2/event.h>

#include "base/memory.h"
#include "serve/upstream_events.h"
#include "serve/upstream_request.h"
#include "serve/upstream_response.h"
#include "serve/upstream_target.h"

static void assert_target(const char *url, const char *host, unsigned port, const char *prefix, int is_loopback)
{
    struct event_base *base = event_base_new();
    struct upstream_target target;
    bulla_error error = {0};
    if (upstream_target_open(base, url, "key", NULL, &target, &error) != BULLA_OK)
        fail_msg("%s: %s", url, error.text);
    assert_string_equal(target.host, host);
    assert_string_equal(target.prefix, prefix);
    assert_int_equal(target.port, port);
    assert_int_equal(target.is_loopback, is_loopback);
    assert_int_equal(target.tls != NULL, url[4] == 's');
    upstream_target_close(&target);
    event_base_free(base);
}

static void test_urls(void **state)
{
    (void)state;
    assert_target("http://127.0.0.1:8081", "127.0.0.1", 8081, "", 1);
    assert_target("http://127.9.8.7/", "127.9.8.7", 80, "", 1);
    assert_target("http://[::1]:65535/v1", "::1", 65535, "", 1);
    assert_target("http://localhost:1/v1/", "localhost", 1, "", 1);
    assert_target("http://LOCALHOST", "LOCALHOST", 80, "", 1);
    assert_target("https://engine.example/a/b/v1", "engine.example", 443, "/a/b", 0);
    assert_target("https://10.0.0.1:8443/x", "10.0.0.1", 8443, "/x", 0);
    assert_target("http://[2001:db8::1]", "2001:db8::1", 80, "", 0);
    /* Only what is written counts: these look like loopback. */
    assert_target("http://127.0.0.1.example", "127.0.0.1.example", 80, "", 0);
    assert_target("http://localhost.example", "localhost.example", 80, "", 0);
    assert_target("http://128.0.0.1", "128.0.0.1", 80, "", 0);
    assert_target("http://[::ffff:10.0.0.1]", "::ffff:10.0.0.1", 80, "", 0);
}

static void test_refused_urls(void **state)
{
    (void)state;
    static const char *const urls[] = {"",
                                       "127.0.0.1:80",
                                       "ftp://h",
                                       "http:/h",
                                       "http://",
                                       "http://:80",
                                       "http://h:",
                                       "http://h:0",
                                       "http://h:65536",
                                       "http://h:8a",
                                       "http://h:000080",
                                       "http://user@h",
                                       "http://user:key@h/",
                                       "http://[::1",
                                       "http://[::1]x",
                                       "http://[h]",
                                       "http://h/?q",
                                       "http://h/#f",
                                       "http://h/a b",
                                       "http://h/a\r\nX: y",
                                       "http://h\r\n/",
                                       "http://-h",
                                       "http://h_\x80/"};
    struct event_base *base = event_base_new();
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        struct upstream_target target;
        bulla_error error = {0};
        if (upstream_target_open(base, urls[i], NULL, NULL, &target, &error) != BULLA_E_USAGE)
            fail_msg("\"%s\" was taken", urls[i]);
        assert_memory_equal(error.text, "upstream URL", 12);
    }
    struct upstream_target target;
    bulla_error error = {0};
    assert_int_equal(upstream_target_open(base, "http://h", "a\r\nb", NULL, &target, &error), BULLA_E_USAGE);
    bulla_error_clear(&error);
    assert_int_equal(upstream_target_open(base, "http://h", "", NULL, &target, &error), BULLA_E_USAGE);
    bulla_error_clear(&error);
    assert_int_equal(upstream_target_open(base, "https://h", NULL, "/nowhere/ca.pem", &target, &error), BULLA_E_INPUT);
    event_base_free(base);
}

/* What a response is: "status type retry|body|", "..." where it goes on, or the error. */
static int log_body(void *context, const uint8_t *bytes, size_t length)
{
    buffer_append(context, bytes, length);
    return 0;
}

static void read_response(const char *bytes, size_t length, size_t first, size_t piece, int closes, struct buffer *out)
{
    struct upstream_response response = {0};
    struct buffer body = {0};
    bulla_error error = {0};
    int code = BULLA_OK;
    response.sink = (struct response_sink){&body, NULL, log_body};
    for (size_t at = 0, size = first; at < length && code == BULLA_OK; at += size, size = piece) {
        if (size > length - at)
            size = length - at;
        uint8_t *exact = malloc(size ? size : 1); /* a sanitizer sees a read beyond it */
        memcpy(exact, bytes + at, size);
        code = upstream_response_feed(&response, exact, size, &error);
        free(exact);
    }
    if (code == BULLA_OK && closes)
        code = upstream_response_close(&response, &error);
    if (code != BULLA_OK)
        buffer_append_format(out, "error: %s", error.text);
    else
        buffer_append_format(out, "%d %s %u|%.*s%s", response.status, response.content_type, response.retry_after,
                             (int)body.length, body.data ? (char *)body.data : "",
                             response.state == RESPONSE_COMPLETE ? "|" : "...");
    assert_true((response.state == RESPONSE_FAILED) == (code != BULLA_OK && !closes) || closes);
    buffer_free(&body);
    upstream_response_free(&response);
}

static void assert_response(const char *bytes, int closes, const char *expected)
{
    size_t length = strlen(bytes);
    for (size_t first = 0; first <= length; first++)
        for (size_t piece = 1; piece <= length; piece += first == 1 ? 1 : length - 1 + (length == 1)) {
            struct buffer out = {0};
            read_response(bytes, length, first, piece, closes, &out);
            if (!strstr((char *)out.data, expected) || (expected[0] != 'e' && strcmp((char *)out.data, expected) != 0))
                fail_msg("\"%s\" cut at %zu, then by %zu: %s\nexpected %s", bytes, first, piece, (char *)out.data,
                         expected);
            buffer_free(&out);
            if (length <= 1)
                break;
        }
}

static void test_responses(void **state)
{
    (void)state;
    assert_response("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: Text/Event-Stream; "
                    "charset=utf-8\r\n\r\nhello",
                    0, "200 text/event-stream 0|hello|");
    assert_response("HTTP/1.1 200\r\ncontent-length:0\r\n\r\n", 0, "200  0||");
    assert_response("HTTP/1.1 429 Slow down\r\nRetry-After: 7\r\nTransfer-Encoding: Chunked\r\n\r\n"
                    "5\r\nhello\r\nA;x=\"y\"\r\n, world\r\n!\r\n0\r\nTrailer: x\r\n\r\nignored", 0,
                    "429  7|hello, world\r\n!|");
    assert_response("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 \r\nLink: x\r\nContent-Type: a\r\n\r\n"
                    "HTTP/1.1 204 No Content\r\n\r\n", 0, "204  0||");
    assert_response("HTTP/1.0 200 OK\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n\r\nuntil the end", 1,
                    "200  0|until the end|");
    assert_response("HTTP/1.1 200 OK\r\n\r\nuntil the end", 0, "200  0|until the end...");
    assert_response("HTTP/1.1 503 Busy\r\nRetry-After: 99999999999999999999\r\nContent-Length: 0\r\n\r\n", 0,
                    "503  3600||");
}

/* Whether a connection can be used again after an answer. */
static void test_following(void **state)
{
    static const struct {
        const char *bytes;
        int can_follow;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 1},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 1},
        {"HTTP/1.1 204 No Content\r\n\r\n", 1},
        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok", 1},
        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", 0},
        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nconnection: x ,\tCLOSE\r\n\r\nok", 0},
        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: closed\r\n\r\nok", 1},
        {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 0},
        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n", 0}, /* more than was asked for */
        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no", 0},
        {"HTTP/1.1 200 OK\r\n\r\nok", 0},
        {"HTTP/1.1 100 Continue\r\nConnection: close\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct upstream_response response = {0};
        bulla_error error = {0};
        assert_ok(upstream_response_feed(&response, (const uint8_t *)cases[i].bytes, strlen(cases[i].bytes), &error), error);
        if (upstream_response_can_follow(&response) != cases[i].can_follow)
            fail_msg("%s: found %d", cases[i].bytes, !cases[i].can_follow);
        upstream_response_free(&response);
    }
}

static void test_kept_headers(void **state)
{
    static const char bytes[] = "HTTP/1.1 103 Early\r\nX-A: early\r\n\r\nHTTP/1.1 200 OK\r\nX-A: 1\r\nx-b:\t two words \r\n"
                                "X-a: 2\r\nX-C:\r\nContent-Length: 0\r\n\r\n";
    struct upstream_response response = {.keeps_headers = 1};
    const char *name, *value;
    size_t count = 0;
    bulla_error error = {0};
    (void)state;
    assert_ok(upstream_response_feed(&response, (const uint8_t *)bytes, sizeof bytes - 1, &error), error);
    assert_string_equal(upstream_response_header(&response, "x-a"), "1");
    assert_string_equal(upstream_response_header(&response, "x-b"), "two words");
    assert_string_equal(upstream_response_header(&response, "x-c"), "");
    assert_null(upstream_response_header(&response, "x-d"));
    for (size_t at = 0; upstream_response_next_header(&response, &at, &name, &value);)
        count++;
    assert_int_equal(count, 5);
    upstream_response_free(&response);
}

static void test_broken_responses(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"HTTP/1.1 200 OK\nContent-Length: 0\n\n", "error: a line"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", "error: its Content-Length"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", "error: its "
                                                                                                          "answer has "
                                                                                                          "both"},
        {"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx", "error: its Content-Length"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\nx", "error: its Content-Length"},
        {"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nx", "error: its Content-Length"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999\r\n\r\n", "error: its Content-Length"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "error: its Transfer-Encoding"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "error: its "
                                                                                                "Transfer-Encoding"},
        {"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", "error: its answer is compressed"},
        {"HTTP/1.1 200 OK\r\nX : y\r\n\r\n", "error: header line"},
        {"HTTP/1.1 200 OK\r\nX: y\r\n folded\r\n\r\n", "error: header line"},
        {"HTTP/1.1 200 OK\r\n: y\r\n\r\n", "error: header line"},
        {"HTTP/1.1 200 OK\r\nX: a\x01"
         "b\r\n\r\n",
         "error: header line"},
        {"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n", "error: header line"},
        {"HTTP/2 200\r\n\r\n", "error: its answer does not begin"},
        {"SSH-2.0-OpenSSH_9\r\n", "error: its answer does not begin"},
        {"HTTP/1.1 20x OK\r\n\r\n", "error: its HTTP status"},
        {"HTTP/1.1 2000 OK\r\n\r\n", "error: its answer does not begin"},
        {"HTTP/1.1 101 Switching\r\n\r\n", "error: its HTTP status is 101"},
        {"HTTP/1.1 999 No\r\n\r\n", "error: its HTTP status is 999"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", "error: a chunk of its answer has no size"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", "error: a chunk of its answer has no size"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\n", "error: a chunk of its answer has no size"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", "error: a chunk of its answer "
                                                                                       "has an imp"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n", "error: a "},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nab\r\n", "error: a line"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_response(cases[i][0], 0, cases[i][1]);
    assert_response("", 1, "error: it closed the connection without");
    assert_response("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", 1,
                    "error: it closed the connection in the middle");
    assert_response("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", 1,
                    "error: it closed the connection in");
    assert_response("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", 1,
                    "error: it closed the connection in");
}

/* Heads that never end are cut off, whatever they are made of. */
static void test_response_limits(void **state)
{
    (void)state;
    static const char *const starts[] = {"", "HTTP/1.1 200 ", "HTTP/1.1 200 OK\r\nX: "};
    static const char *const repeats[] = {"aaaaaaaaaaaaaaaa", "X: y\r\n"};
    for (size_t i = 0; i < sizeof starts / sizeof starts[0] + 2; i++) {
        struct upstream_response response = {0};
        bulla_error error = {0};
        const char *start = i < 3 ? starts[i] : i == 3 ? "HTTP/1.1 200 OK\r\n" : "HTTP/1.1 100 Continue\r\n";
        const char *repeat = i < 3 ? repeats[0] : i == 3 ? repeats[1] : "";
        int code = upstream_response_feed(&response, (const uint8_t *)start, strlen(start), &error);
        size_t fed = 0;
        for (; code == BULLA_OK && fed < 1 << 20 && *repeat; fed += strlen(repeat))
            code = upstream_response_feed(&response, (const uint8_t *)repeat, strlen(repeat), &error);
        for (; code == BULLA_OK && fed < 1 << 20 && !*repeat; fed += 27) {
            static const char interim[] = "\r\nHTTP/1.1 100 Continue\r\n";
            code = upstream_response_feed(&response, (const uint8_t *)interim, sizeof interim - 1, &error);
        }
        assert_int_equal(code, BULLA_E_LIMIT);
        assert_true(fed <= 64 << 10);
        assert_int_equal(upstream_response_feed(&response, (const uint8_t *)"x", 1, NULL), BULLA_E_INPUT);
        upstream_response_free(&response);
    }
}

static int log_event(void *context, const char *data, size_t length)
{
    struct buffer *out = context;
    assert_int_equal(data[length], 0);
    buffer_append_byte(out, '[');
    buffer_append(out, data, length);
    buffer_append_byte(out, ']');
    return length == 4 && memcmp(data, "stop", 4) == 0;
}

static void test_events(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"data: a\n\n", "[a]"},
        {"data:a\r\n\r\ndata: b\r\rdata:  c\n\n", "[a][b][ c]"},
        {": comment\n\ndata: a\n: another\ndata: b\n\n", "[a\nb]"},
        {"event: x\ndata: a\nid: 7\nretry: 5\n\n", "[a]"},
        {"data\n\ndata:\n\n\n\ndata:\ndata:x\n\n", "[\nx]"},
        {"\xEF\xBB\xBF" "data: a\n\n\xEF\xBB\xBF" "data: b\n\n", "[a]"},
        {"data: a\n\ndata: cut off", "[a]"},
        {"data: a\n\ndata: whole line, no end\n", "[a]"},
        {"Data: a\ndat: b\ndatas: c\n\n", ""},
        {"data: stop\n\ndata: not read\n\n", "[stop]"},
        {"\r\n\r\n\ndata: a\r\ndata: b\r\n\r\n", "[a\nb]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t length = strlen(cases[i][0]);
        for (size_t first = 0; first <= length; first++)
            for (size_t second = first; second <= length; second++) {
                struct buffer out = {0};
                struct upstream_events events = {.context = &out, .event = log_event};
                bulla_error error = {0};
                const uint8_t *bytes = (const uint8_t *)cases[i][0];
                assert_ok(upstream_events_feed(&events, bytes, first, &error), error);
                assert_ok(upstream_events_feed(&events, bytes + first, second - first, &error), error);
                assert_ok(upstream_events_feed(&events, bytes + second, length - second, &error), error);
                if (strcmp(out.data ? (char *)out.data : "", cases[i][1]) != 0)
                    fail_msg("case %zu cut at %zu and %zu: %s", i, first, second,
                             out.data ? (char *)out.data : "nothing");
                upstream_events_free(&events);
                buffer_free(&out);
            }
    }
}

static int count_event(void *context, const char *data, size_t length)
{
    *(size_t *)context += length;
    return 0;
}

/* An event of the largest size is told; one byte more, in one line or in many, is not held. */
static void test_event_limit(void **state)
{
    (void)state;
    char *line = malloc(EVENT_MOST_BYTES + 16);
    memset(line, 'x', EVENT_MOST_BYTES + 16);
    memcpy(line, "data: ", 6);
    for (size_t extra = 0; extra < 2; extra++) {
        size_t told = 0, length = EVENT_MOST_BYTES + extra;
        struct upstream_events events = {.context = &told, .event = count_event};
        bulla_error error = {0};
        int code = upstream_events_feed(&events, (uint8_t *)line, length, &error);
        if (code == BULLA_OK)
            code = upstream_events_feed(&events, (const uint8_t *)"\n\n", 2, &error);
        assert_int_equal(code, extra ? BULLA_E_LIMIT : BULLA_OK);
        assert_int_equal(told, extra ? 0 : EVENT_MOST_BYTES - 6);
        upstream_events_free(&events);
    }
    size_t told = 0, fed = 0;
    struct upstream_events events = {.context = &told, .event = count_event};
    bulla_error error = {0};
    while (upstream_events_feed(&events, (const uint8_t *)"data: 0123456789\n", 17, &error) == BULLA_OK)
        assert_true((fed += 11) <= EVENT_MOST_BYTES);
    assert_int_equal(error.code, BULLA_E_LIMIT);
    upstream_events_free(&events);
    free(line);
}

static struct answer_request plain_request(enum answer_kind kind)
{
    struct answer_request request = {.kind = kind, .id = "r1", .choices = 1, .logprobs = -1, .shares_prefix = 1,
                                     .prompt = "Hi \"you\"", .prompt_length = 8};
    bulla_sampling_defaults(&request.sampling);
    return request;
}

static void assert_request(const struct answer_request *request, const char *expected)
{
    struct buffer out = {0};
    struct arena arena = {0};
    bulla_error error = {0};
    upstream_request_write(request, "m", &out);
    assert_int_equal(out.error.code, BULLA_OK);
    assert_string_equal((char *)out.data, expected);
    if (!json_parse((char *)out.data, out.length, "request", &arena, &error))
        fail_msg("%s", error.text);
    arena_free(&arena);
    buffer_free(&out);
}

#define NEUTRAL                                                                                                        \
    "\"temperature\":0,\"top_p\":1,\"top_k\":-1,\"min_p\":0,\"presence_penalty\":0,\"frequency_penalty\":0,"           \
    "\"repetition_penalty\":1,\"repeat_penalty\":1"
#define STREAM "\"stream\":true,\"stream_options\":{\"include_usage\":true}"

static void test_request_bodies(void **state)
{
    (void)state;
    struct answer_request request = plain_request(ANSWER_COMPLETION);
    assert_request(&request, "{\"model\":\"m\",\"prompt\":\"Hi \\\"you\\\"\"," STREAM ",\"n\":1," NEUTRAL "}");
    request.kind = ANSWER_EMBEDDING;
    assert_request(&request, "{\"model\":\"m\",\"input\":\"Hi \\\"you\\\"\",\"encoding_format\":\"float\"}");
    uint32_t ids[] = {0, 7, UINT32_MAX};
    request.prompt_ids = ids;
    request.prompt_id_count = 3;
    assert_request(&request, "{\"model\":\"m\",\"input\":[0,7,4294967295],\"encoding_format\":\"float\"}");
    request.kind = ANSWER_COMPLETION;
    request.logprobs = 0;
    request.choices = 3;
    request.max_tokens = 12;
    request.has_seed = 1;
    request.ignores_end = 1;
    request.shares_prefix = 0;
    request.stops[0] = "a\0b";
    request.stop_lengths[0] = 3;
    request.stops[1] = "\n";
    request.stop_lengths[1] = 1;
    request.stop_count = 2;
    bulla_logit_bias biases[] = {{5, -100000000}, {9, 1}};
    request.sampling = (bulla_sampling){.temperature = 700000,
                                        .top_k = 40,
                                        .top_p = 950000,
                                        .min_p = 50000,
                                        .repetition = 1100000,
                                        .presence = -1500000,
                                        .frequency = 10,
                                        .seed = UINT64_MAX,
                                        .biases = biases,
                                        .bias_count = 2};
    assert_request(&request, "{\"model\":\"m\",\"prompt\":[0,7,4294967295],\"logprobs\":0," STREAM ",\"n\":3,\"max_"
                                                                                                   "tokens\":12,"
                             "\"temperature\":0.7,\"top_p\":0.95,\"top_k\":40,\"min_p\":0.05,\"presence_penalty\":-1.5,"
                             "\"frequency_penalty\":0.00001,\"repetition_penalty\":1.1,\"repeat_penalty\":1.1,"
                             "\"seed\":9223372036854775807,\"logit_bias\":{\"5\":-100,\"9\":0.000001},\"stop\":["
                             "\"a\\u0000b\",\"\\n\"],"
                             "\"ignore_eos\":true,\"cache_prompt\":false}");
}

static const struct json *parse(const char *text, struct arena *arena)
{
    bulla_error error = {0};
    const struct json *value = json_parse(text, strlen(text), "test", arena, &error);
    if (!value)
        fail_msg("%s", error.text);
    return value;
}

/* The order of members stays, numbers stay as written, and a call's arguments become text again. */
static void test_chat_body(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct answer_request request = plain_request(ANSWER_CHAT);
    request.messages = parse("[{\"role\":\"user\",\"content\":\"z\"},{\"role\":\"assistant\",\"content\":null,\"tool_"
                             "calls\":["
                             "{\"id\":\"c\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":{\"z\":1."
                             "50,\"a\":[\"\\\"\"]}}},"
                             "{\"id\":\"d\",\"function\":{\"arguments\":\"as it is\"}}]}]",
                             &arena);
    request.tools =
        parse("[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"z\":1,\"a\":1e3}}}]", &arena);
    request.tool_choice = TOOLS_NAMED;
    request.tool_name = "f";
    request.template_kwargs = parse("{\"enable_thinking\":false}", &arena);
    request.reasoning_effort = "none";
    request.response_format = "{\"type\":\"json_object\"}";
    request.response_format_length = strlen(request.response_format);
    request.continues_last = 1;
    request.logprobs = 4;
    assert_request(&request, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"z\"},{\"role\":"
                             "\"assistant\",\"content\":null,"
                             "\"tool_calls\":[{\"id\":\"c\",\"type\":\"function\",\"function\":{\"name\":\"f\","
                             "\"arguments\":"
                             "\"{\\\"z\\\":1.50,\\\"a\\\":[\\\"\\\\\\\"\\\"]}\"}},{\"id\":\"d\",\"function\":{"
                             "\"arguments\":\"as it is\"}}]}],"
                             "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"z\":1,"
                             "\"a\":1e3}}}],"
                             "\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}},\"parallel_tool_"
                             "calls\":false,"
                             "\"chat_template_kwargs\":{\"enable_thinking\":false},\"reasoning_effort\":\"none\",\"add_generation_prompt\":false,"
                             "\"continue_final_message\":true,\"logprobs\":true,\"top_logprobs\":4," STREAM
                             ",\"n\":1," NEUTRAL ",\"response_format\":{\"type\":\"json_object\"}}");
    arena_free(&arena);
}

/* Each allocation in turn fails: an error, no leak. */
static void test_allocation_failures(void **state)
{
    (void)state;
    static const char response_bytes[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    struct event_base *base = event_base_new();
    int succeeded = 0;
    for (uint64_t n = 1; !succeeded; n++) {
        struct buffer request_body = {0};
        struct upstream_response response = {0};
        size_t told = 0;
        struct upstream_events reader = {.context = &told, .event = count_event};
        struct upstream_target target;
        struct answer_request request = plain_request(ANSWER_COMPLETION);
        bulla_error error = {0};
        memory_inject_failure(n, 1);
        int target_code = upstream_target_open(base, "http://127.0.0.1:1/a", "key", NULL, &target, &error);
        int response_code =
            upstream_response_feed(&response, (const uint8_t *)response_bytes, sizeof response_bytes - 1, &error);
        int events_code = upstream_events_feed(&reader, (const uint8_t *)"data: a\ndata: b", 15, &error);
        if (events_code == BULLA_OK)
            events_code = upstream_events_feed(&reader, (const uint8_t *)"c\n\n", 3, &error);
        upstream_request_write(&request, "m", &request_body);
        memory_inject_failure(0, 0);
        succeeded = target_code == BULLA_OK && response_code == BULLA_OK && events_code == BULLA_OK &&
                    request_body.error.code == BULLA_OK;
        assert_true(succeeded || n < 200);
        if (target_code == BULLA_OK)
            upstream_target_close(&target);
        upstream_response_free(&response);
        upstream_events_free(&reader);
        buffer_free(&request_body);
    }
    event_base_free(base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_urls),
        cmocka_unit_test(test_refused_urls),
        cmocka_unit_test(test_responses),
        cmocka_unit_test(test_following),
        cmocka_unit_test(test_kept_headers),
        cmocka_unit_test(test_broken_responses),
        cmocka_unit_test(test_response_limits),
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_event_limit),
        cmocka_unit_test(test_request_bodies),
        cmocka_unit_test(test_chat_body),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
