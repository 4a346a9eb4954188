#define _GNU_SOURCE
#include "test.h"

#include "base/buffer.h"
#include "base/memory.h"
#include "serve/http_parser.h"

static const struct http_parser_limits usual = {
    .most_header_bytes = 600, .most_header_lines = 8, .most_body_bytes = 64};

/* What became of some bytes, as text: "more", "400", or "GET /path?query 1.1 keeps [body] name=value...". Bytes
 * that were not used are counted at the end. */
static void describe(const struct http_parser *parser, enum http_parse result, size_t rest, struct buffer *out)
{
    if (result == HTTP_PARSE_REFUSED) {
        assert_non_null(parser->refusal);
        buffer_append_format(out, "%d", parser->status);
    } else if (result != HTTP_PARSE_WHOLE) {
        buffer_append_text(out, "more");
    } else {
        const char *query = http_parser_query(parser);
        buffer_append_format(out, "%s %s%s%s 1.%d", http_parser_method(parser), http_parser_path(parser),
                             *query ? "?" : "", query, parser->minor_version);
        if (parser->keeps_alive)
            buffer_append_text(out, " keeps");
        if (parser->expects_continue)
            buffer_append_text(out, " expects");
        buffer_append_text(out, " [");
        buffer_append(out, parser->body.data, parser->body.length);
        buffer_append_text(out, "]");
        for (size_t i = 0; i < parser->field_count; i++) {
            const char *name = (const char *)parser->head.data + parser->fields[i].name;
            if (strcmp(name, "host") != 0)
                buffer_append_format(out, " %s=%s", name, (const char *)parser->head.data + parser->fields[i].value);
            assert_string_equal(http_parser_header(parser, name),
                                (const char *)parser->head.data + parser->fields[i].value);
        }
        if (rest)
            buffer_append_format(out, " +%zu", rest);
    }
    assert_int_equal(out->error.code, BULLA_OK);
}

/* Pushes pieces that end at `cuts`, each in memory of its own so that a sanitizer sees its end. HEADER is told once,
 * and only where a body follows. */
static void push_pieces(const char *text, size_t length, const size_t *cuts, size_t cut_count,
                        const struct http_parser_limits *limits, struct buffer *out)
{
    struct http_parser parser;
    enum http_parse result = HTTP_PARSE_MORE;
    size_t at = 0, headers = 0;
    http_parser_start(&parser, limits);
    for (size_t i = 0; i <= cut_count && result != HTTP_PARSE_WHOLE && result != HTTP_PARSE_REFUSED; i++) {
        size_t end = i < cut_count ? cuts[i] : length, piece = end - at, done = 0;
        char *copy = malloc(piece ? piece : 1);
        memcpy(copy, text + at, piece);
        do {
            size_t used;
            result = http_parser_push(&parser, copy + done, piece - done, &used);
            assert_true(used <= piece - done);
            done += used;
            headers += result == HTTP_PARSE_HEADER;
            if (result == HTTP_PARSE_MORE)
                assert_int_equal(done, piece);
        } while (result == HTTP_PARSE_HEADER);
        free(copy);
        at += done;
    }
    assert_true(headers <= 1);
    if (result == HTTP_PARSE_WHOLE && parser.body.length)
        assert_int_equal(headers, 1);
    describe(&parser, result, length - at, out);
    size_t used;
    if (result == HTTP_PARSE_REFUSED || result == HTTP_PARSE_WHOLE) { /* and it stays so */
        assert_int_equal(http_parser_push(&parser, "x", 1, &used), result);
        assert_int_equal(used, 0);
    }
    http_parser_free(&parser);
}

static void expect_bytes(const char *text, size_t length, const struct http_parser_limits *limits, const char *expected)
{
    struct buffer whole = {0}, cut = {0};
    push_pieces(text, length, NULL, 0, limits, &whole);
    if (strcmp((char *)whole.data, expected) != 0)
        fail_msg("%s\n  found    %s\n  expected %s", text, (char *)whole.data, expected);
    size_t *every = malloc((length + 1) * sizeof *every);
    for (size_t i = 0; i < length; i++) {
        every[i] = i + 1;
        size_t two[2] = {i, i + (length - i) / 2};
        buffer_clear(&cut);
        push_pieces(text, length, two, 2, limits, &cut);
        if (strcmp((char *)cut.data, expected) != 0)
            fail_msg("%s\n  cut at %zu and %zu: %s\n  expected %s", text, two[0], two[1], (char *)cut.data, expected);
    }
    buffer_clear(&cut);
    push_pieces(text, length, every, length, limits, &cut);
    if (strcmp((char *)cut.data, expected) != 0)
        fail_msg("%s\n  byte by byte: %s\n  expected %s", text, (char *)cut.data, expected);
    free(every);
    buffer_free(&whole);
    buffer_free(&cut);
}

static void expect(const char *text, const char *expected)
{
    expect_bytes(text, strlen(text), &usual, expected);
}

#define HOST "Host: a\r\n"

static void test_request_lines(void **state)
{
    (void)state;
    expect("GET / HTTP/1.1\r\n" HOST "\r\n", "GET / 1.1 keeps []");
    expect("\r\nGET / HTTP/1.1\r\n" HOST "\r\n", "GET / 1.1 keeps []");
    expect("\r\n\r\nGET / HTTP/1.1\r\n" HOST "\r\n", "400");
    expect("\rGET / HTTP/1.1\r\n" HOST "\r\n", "400");
    expect("\nGET / HTTP/1.1\r\n" HOST "\r\n", "400");
    expect(" GET / HTTP/1.1\r\n" HOST "\r\n", "400");
    expect("GET  / HTTP/1.1\r\n" HOST "\r\n", "400");
    expect("GET /  HTTP/1.1\r\n" HOST "\r\n", "400");
    expect("GET / HTTP/1.1 \r\n" HOST "\r\n", "400");
    expect("GET\t/\tHTTP/1.1\r\n" HOST "\r\n", "400");
    expect("GET /\tHTTP/1.1\r\n" HOST "\r\n", "400");
    expect("GET / HTTP/1.1\n" HOST "\r\n", "400");
    expect("GET / HTTP/1.1\r" HOST "\r\n", "400");
    expect("GET /\r\n\r\n", "400");
    expect("GET\r\n\r\n", "400");
    expect("G(T / HTTP/1.1\r\n" HOST "\r\n", "400");
    expect("get /a HTTP/1.1\r\n" HOST "\r\n", "get /a 1.1 keeps []");
    expect("M-SEARCH /a HTTP/1.1\r\n" HOST "\r\n", "M-SEARCH /a 1.1 keeps []");
    expect("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEF / HTTP/1.1\r\n" HOST "\r\n",
           "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEF / 1.1 keeps []");
    expect("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1\r\n" HOST "\r\n", "501");
    expect("GET / HTTP/1.0\r\n\r\n", "GET / 1.0 []");
    expect("GET / HTTP/1.2\r\n" HOST "\r\n", "505");
    expect("GET / HTTP/0.9\r\n" HOST "\r\n", "505");
    expect("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505");
    expect("GET / HTTP/1.10\r\n" HOST "\r\n", "400");
    expect("GET / HTTP/1,1\r\n" HOST "\r\n", "400");
    expect("GET / HTTP/ 1.1\r\n" HOST "\r\n", "400");
    expect("GET / http/1.1\r\n" HOST "\r\n", "400");
    expect("GET / HTTP/+1.1\r\n" HOST "\r\n", "400");
    expect("GET / HTTP/1.\r\n" HOST "\r\n", "400");
    expect("\x16\x03\x01\x02\x00\x01", "400");
    expect("GET /\x01 HTTP/1.1\r\n" HOST "\r\n", "400");
    expect("GET /\x7f HTTP/1.1\r\n" HOST "\r\n", "400");
    expect("GET /\xc3\xa4 HTTP/1.1\r\n" HOST "\r\n", "400");
    expect_bytes("GET /\0 HTTP/1.1\r\n" HOST "\r\n", 27, &usual, "400");
    expect("GET / HTTP/1.1\r\n" HOST, "more");
    expect("GET / HTTP/1.1\r\n" HOST "\r", "more");
    expect("", "more");
}

static void test_targets(void **state)
{
    (void)state;
    expect("GET /a%20b/%C3%A4?x=%00&y HTTP/1.1\r\n" HOST "\r\n", "GET /a b/\xc3\xa4?x=%00&y 1.1 keeps []");
    expect("GET /a?b?c HTTP/1.1\r\n" HOST "\r\n", "GET /a?b?c 1.1 keeps []");
    expect("GET /a%3Fb HTTP/1.1\r\n" HOST "\r\n", "GET /a?b 1.1 keeps []");
    expect("GET /? HTTP/1.1\r\n" HOST "\r\n", "GET / 1.1 keeps []");
    expect("GET //a HTTP/1.1\r\n" HOST "\r\n", "GET //a 1.1 keeps []");
    expect("GET /%00 HTTP/1.1\r\n" HOST "\r\n", "400");
    expect("GET /%0d%0a HTTP/1.1\r\n" HOST "\r\n", "400");
    expect("GET /%7F HTTP/1.1\r\n" HOST "\r\n", "400");
    expect("GET /% HTTP/1.1\r\n" HOST "\r\n", "400");
    expect("GET /%4 HTTP/1.1\r\n" HOST "\r\n", "400");
    expect("GET /%4g HTTP/1.1\r\n" HOST "\r\n", "400");
    expect("GET /%4?1 HTTP/1.1\r\n" HOST "\r\n", "400");
    expect("GET /%ff HTTP/1.1\r\n" HOST "\r\n", "400");
    expect("GET /%c0%ae HTTP/1.1\r\n" HOST "\r\n", "400");
    expect("GET /a/../b HTTP/1.1\r\n" HOST "\r\n", "400");
    expect("GET /a/%2e%2E HTTP/1.1\r\n" HOST "\r\n", "400");
    expect("GET /./b HTTP/1.1\r\n" HOST "\r\n", "400");
    expect("GET /a/.b/c..d/... HTTP/1.1\r\n" HOST "\r\n", "GET /a/.b/c..d/... 1.1 keeps []");
    expect("GET /a#b HTTP/1.1\r\n" HOST "\r\n", "400");
    expect("GET a HTTP/1.1\r\n" HOST "\r\n", "400");
    expect("GET * HTTP/1.1\r\n" HOST "\r\n", "400");
    expect("OPTIONS * HTTP/1.1\r\n" HOST "\r\n", "OPTIONS * 1.1 keeps []");
    expect("OPTIONS /a HTTP/1.1\r\n" HOST "\r\n", "OPTIONS /a 1.1 keeps []");
    expect("CONNECT a:443 HTTP/1.1\r\n" HOST "\r\n", "501");
    expect("GET http://a HTTP/1.1\r\n" HOST "\r\n", "GET / 1.1 keeps []");
    expect("GET http://a/ HTTP/1.1\r\n" HOST "\r\n", "GET / 1.1 keeps []");
    expect("GET http://a?x HTTP/1.1\r\n" HOST "\r\n", "GET /?x 1.1 keeps []");
    expect("GET HTTPS://A/b%20c?x HTTP/1.1\r\n" HOST "\r\n", "GET /b c?x 1.1 keeps []");
    expect("GET http://b/ HTTP/1.1\r\n" HOST "\r\n", "400");
    expect("GET http://a:80/ HTTP/1.1\r\n" HOST "\r\n", "400");
    expect("GET http://user@a/ HTTP/1.1\r\n" HOST "\r\n", "400");
    expect("GET http:/// HTTP/1.1\r\n" HOST "\r\n", "400");
    expect("GET http:// HTTP/1.1\r\n" HOST "\r\n", "400");
    expect("GET ftp://a/ HTTP/1.1\r\n" HOST "\r\n", "400");
    expect("GET http://a/../b HTTP/1.1\r\n" HOST "\r\n", "400");
    expect("GET http://a/ HTTP/1.0\r\n\r\n", "GET / 1.0 []");
}

static void test_hosts(void **state)
{
    (void)state;
    expect("GET / HTTP/1.1\r\n\r\n", "400");
    expect("GET / HTTP/1.1\r\n" HOST HOST "\r\n", "400");
    expect("GET / HTTP/1.1\r\nHost:\r\n\r\n", "400");
    expect("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "400");
    expect("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", "400");
    expect("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "400");
    expect("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", "400");
    expect("GET / HTTP/1.1\r\nHost: a:\r\n\r\n", "400");
    expect("GET / HTTP/1.1\r\nHost: a:x\r\n\r\n", "400");
    expect("GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", "400");
    expect("GET / HTTP/1.1\r\nHost: a:123456\r\n\r\n", "400");
    expect("GET / HTTP/1.1\r\nHost: a.b-c_d~e:65535\r\n\r\n", "GET / 1.1 keeps []");
    expect("GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", "GET / 1.1 keeps []");
    expect("GET http://[::1]:8080/ HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", "GET / 1.1 keeps []");
    expect("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", "400");
    expect("GET / HTTP/1.1\r\nHost: []\r\n\r\n", "400");
    expect("GET / HTTP/1.1\r\nHost: [g]\r\n\r\n", "400");
    expect("GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", "400");
}

static void test_fields(void **state)
{
    (void)state;
    expect("GET / HTTP/1.1\r\n" HOST "A: 1\r\nb:2\r\nC:\t 3 \t\r\nd:\r\ne: \r\n\r\n",
           "GET / 1.1 keeps [] a=1 b=2 c=3 d= e=");
    expect("GET / HTTP/1.1\r\n" HOST "A: 1\r\nB: x\r\na: 2\r\nA: \r\na: 3\r\n\r\n",
           "GET / 1.1 keeps [] a=1, 2, , 3 b=x");
    expect("GET / HTTP/1.1\r\n" HOST "A: b\tc  d \xff\r\n\r\n", "GET / 1.1 keeps [] a=b\tc  d \xff");
    expect("GET / HTTP/1.1\r\n" HOST "A : 1\r\n\r\n", "400");
    expect("GET / HTTP/1.1\r\n" HOST "A\t: 1\r\n\r\n", "400");
    expect("GET / HTTP/1.1\r\n" HOST " A: 1\r\n\r\n", "400");
    expect("GET / HTTP/1.1\r\n " HOST "\r\n", "400");
    expect("GET / HTTP/1.1\r\n" HOST "A: 1\r\n 2\r\n\r\n", "400");
    expect("GET / HTTP/1.1\r\n" HOST "A: 1\r\n\t2\r\n\r\n", "400");
    expect("GET / HTTP/1.1\r\n" HOST "A: 1\r\n \r\n\r\n", "400");
    expect("GET / HTTP/1.1\r\n" HOST ": 1\r\n\r\n", "400");
    expect("GET / HTTP/1.1\r\n" HOST "A\r\n\r\n", "400");
    expect("GET / HTTP/1.1\r\n" HOST "A(b): 1\r\n\r\n", "400");
    expect("GET / HTTP/1.1\r\n" HOST "\xc3\xa4: 1\r\n\r\n", "400");
    expect("GET / HTTP/1.1\r\n" HOST "A: 1\nB: 2\r\n\r\n", "400");
    expect("GET / HTTP/1.1\r\n" HOST "A: 1\rB: 2\r\n\r\n", "400");
    expect("GET / HTTP/1.1\r\n" HOST "A: 1\r\r\n\r\n", "400");
    expect("GET / HTTP/1.1\r\n" HOST "A: \x01\r\n\r\n", "400");
    expect_bytes("GET / HTTP/1.1\r\n" HOST "A: \0\r\n\r\n", 33, &usual, "400");
    expect("GET / HTTP/1.1\r\n" HOST "\n", "400");
    expect("GET / HTTP/1.1\r\n" HOST "\r\r\n", "400");
    expect("GET / HTTP/1.1\r\n" HOST "Connection: a, Close ,b\r\n\r\n", "GET / 1.1 [] connection=a, Close ,b");
    expect("GET / HTTP/1.1\r\n" HOST "Connection: a\r\nConnection: close\r\n\r\n", "GET / 1.1 [] connection=a, close");
    expect("GET / HTTP/1.1\r\n" HOST "Connection: closed\r\n\r\n", "GET / 1.1 keeps [] connection=closed");
    expect("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "GET / 1.0 [] connection=keep-alive");
    expect("GET / HTTP/1.1\r\n" HOST "Expect: 100-Continue\r\n\r\n", "GET / 1.1 keeps expects [] expect=100-Continue");
    expect("GET / HTTP/1.1\r\n" HOST "Expect: x\r\n\r\n", "417");
    expect("GET / HTTP/1.0\r\nExpect: x\r\n\r\n", "GET / 1.0 [] expect=x");
}

static void test_lengths(void **state)
{
    (void)state;
#define POST "POST / HTTP/1.1\r\n" HOST
    expect(POST "Content-Length: 5\r\n\r\nhello", "POST / 1.1 keeps [hello] content-length=5");
    expect(POST "Content-Length: 5\r\n\r\nhelloGET", "POST / 1.1 keeps [hello] content-length=5 +3");
    expect(POST "Content-Length: 5\r\n\r\nhell", "more");
    expect(POST "Content-Length: 0\r\n\r\nGET", "POST / 1.1 keeps [] content-length=0 +3");
    expect(POST "\r\nhello", "POST / 1.1 keeps [] +5");
    expect("POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi", "POST / 1.0 [hi] content-length=2");
    static const char *const broken[] = {"",   "+5", "-5",  "5 5", "5, 5",    "5,5", "0x5", "05", "00", "5.0", "5a",
                                         "a5", " ",  "1e1", "5;",  "\xb2", "99999999999999999999",
                                         "18446744073709551621"};
    char text[200];
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        snprintf(text, sizeof text, POST "Content-Length: %s\r\n\r\nhello", broken[i]);
        expect(text, "400");
    }
    expect(POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "400");
    expect(POST "Content-Length: 5\r\ncontent-length: 6\r\n\r\nhello", "400");
    expect(POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400");
    expect(POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "400");
    expect(POST "Content-Length: 64\r\n\r\n", "more");
    expect(POST "Content-Length: 65\r\n\r\n", "413");
    expect(POST "Content-Length: 9223372036854775807\r\n\r\n", "413");
}

static void test_codings(void **state)
{
    (void)state;
    static const struct {
        const char *coding, *expected;
    } cases[] = {{"Chunked", "more"}, {" chunked\t", "more"}, {"", "400"}, {"xchunked", "400"}, {"chunked ,", "400"},
                 {"identity", "400"}, {"gzip", "400"}, {"chunked, identity", "400"}, {"chunked, chunked", "400"},
                 {"\"chunked\"", "400"}, {"chunked;q=1", "400"}, {", chunked", "501"}, {"gzip, chunked", "501"},
                 {"gzip,chunked", "501"}, {"chunke", "400"}, {"chunked\x0b", "400"}, {"\xa0" "chunked", "400"}};
    char text[200];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(text, sizeof text, POST "Transfer-Encoding: %s\r\n\r\n", cases[i].coding);
        expect(text, cases[i].expected);
    }
    expect(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "400");
    expect(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", "400");
    expect(POST "Transfer-Encoding : chunked\r\n\r\n", "400");
    expect("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400");
}

static void test_chunks(void **state)
{
    (void)state;
#define CHUNKED POST "TE: x\r\nTransfer-Encoding: chunked\r\n\r\n"
#define SEEN " te=x transfer-encoding=chunked"
    expect(CHUNKED "0\r\n\r\n", "POST / 1.1 keeps []" SEEN);
    expect(CHUNKED "5\r\nhello\r\n0\r\n\r\nGET", "POST / 1.1 keeps [hello]" SEEN " +3");
    expect(CHUNKED "1\r\nh\r\n0004\r\nello\r\n000\r\n\r\n", "POST / 1.1 keeps [hello]" SEEN);
    expect(CHUNKED "A;a=b;c=\"d e\"\r\n0123456789\r\n0;x\r\n\r\n", "POST / 1.1 keeps [0123456789]" SEEN);
    expect(CHUNKED "b\r\n01234\r\n\r\n01\r\n0\r\nA: b\r\nC:d\r\n\r\n", "POST / 1.1 keeps [01234\r\n\r\n01]" SEEN);
    expect(CHUNKED "5\r\nhello\r\n0\r\n", "more");
    expect(CHUNKED "5\r\nhello\r\n0\r\nA: b\r\n", "more");
    static const char *const broken[] = {
        "\r\n", " 5\r\nhello\r\n", "5 \r\nhello\r\n", "5\t\r\nhello\r\n", "5\nhello\r\n0\r\n\r\n", "5\rhello",
        "+5\r\nhello", "-5\r\nhello", "0x5\r\nhello", "g\r\n", ";a\r\n", "5 ;a\r\nhello", "5;a\nhello",
        "5;a\rb\r\nhello", "5;a\x01\r\n", "5\r\nhello0\r\n\r\n", "5\r\nhello!\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n", "5\r\nhello\r0\r\n\r\n", "5\r\nhello\n\n0\r\n\r\n", "5\r\nhello\n\r0\r\n\r\n",
        "5\r\nhello\r\r0\r\n\r\n", "00000000000000005\r\nhello", "0\r\n\n", "0\r\n\rx", "0\r\nA\r\n\r\n",
        "0\r\nA : b\r\n\r\n", "0\r\n A: b\r\n\r\n", "0\r\nA: b\n\r\n", "0\r\nA: \x02\r\n\r\n",
        "0\r\n: b\r\n\r\n", "0\r\nA: b\r\n c\r\n\r\n", "0\n\n", "0\r\nA: b\rC: d\r\n"};
    char text[300];
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        snprintf(text, sizeof text, CHUNKED "%s", broken[i]);
        expect(text, "400");
    }
    static const char *const large[] = {
        "41\r\n", "ffffffffffffffff\r\n", "8000000000000000\r\n", "10000000000000005\r\nhello",
        "5\r\nhello\r\n3c\r\n", "40000000000000001"};
    for (size_t i = 0; i < sizeof large / sizeof large[0]; i++) {
        snprintf(text, sizeof text, CHUNKED "%s", large[i]);
        expect(text, "413");
    }
    expect(CHUNKED "5\r\nhello\r\n3b\r\n", "more");
}

static void fill(struct buffer *out, const char *before, size_t count, const char *after)
{
    buffer_clear(out);
    buffer_append_text(out, before);
    memset(buffer_extend(out, count), 'a', count);
    buffer_append_text(out, after);
}

static void test_limits(void **state)
{
    (void)state;
    struct buffer text = {0};
    /* 600 bytes are taken: 5 of "GET /", 11 of " HTTP/1.1\r\n", 9 of Host, 2 of the end. */
    fill(&text, "GET /", 573, " HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(text.length, 600);
    struct buffer out = {0};
    push_pieces((char *)text.data, text.length, NULL, 0, &usual, &out);
    assert_non_null(strstr((char *)out.data, "aaa 1.1 keeps []"));
    fill(&text, "GET /", 574, " HTTP/1.1\r\n" HOST "\r\n");
    expect((char *)text.data, "431");
    fill(&text, "GET /", 590, " HTTP/1.1\r\n" HOST "\r\n");
    expect((char *)text.data, "414");
    fill(&text, "", 700, "");
    expect((char *)text.data, "414");
    fill(&text, "GET / HTTP/1.1\r\n" HOST "A: ", 600, "\r\n\r\n");
    expect((char *)text.data, "431");
    expect("GET / HTTP/1.1\r\n" HOST "A:\r\nB:\r\nC:\r\nD:\r\nE:\r\nF:\r\nG:\r\n\r\n",
           "GET / 1.1 keeps [] a= b= c= d= e= f= g=");
    expect("GET / HTTP/1.1\r\n" HOST "A:\r\nB:\r\nC:\r\nD:\r\nE:\r\nF:\r\nG:\r\nH:\r\n\r\n", "431");
    expect(CHUNKED "0\r\nA:\r\nB:\r\nC:\r\nD:\r\nE:\r\nF:\r\nG:\r\nH:\r\n\r\n", "POST / 1.1 keeps []" SEEN);
    expect(CHUNKED "0\r\nA:\r\nB:\r\nC:\r\nD:\r\nE:\r\nF:\r\nG:\r\nH:\r\nI:\r\n\r\n", "431");
    fill(&text, CHUNKED "0\r\nA: ", 600, "\r\n\r\n");
    expect((char *)text.data, "431");
    fill(&text, CHUNKED "1;", HTTP_MOST_EXTENSION_BYTES, "\r\nh\r\n0\r\n\r\n");
    buffer_clear(&out);
    push_pieces((char *)text.data, text.length, NULL, 0, &usual, &out);
    assert_string_equal((char *)out.data, "POST / 1.1 keeps [h]" SEEN);
    fill(&text, CHUNKED "1;a\r\nh\r\n1;", HTTP_MOST_EXTENSION_BYTES, "\r\nh\r\n0\r\n\r\n");
    buffer_clear(&out);
    push_pieces((char *)text.data, text.length, NULL, 0, &usual, &out);
    assert_string_equal((char *)out.data, "400");
    buffer_free(&text);
    buffer_free(&out);
}

/* Joined values take no more than the head itself, whatever is repeated. */
static void test_join_is_bounded(void **state)
{
    (void)state;
    static const struct http_parser_limits wide = {.most_header_bytes = 32768, .most_header_lines = 1000};
    struct buffer text = {0};
    struct http_parser parser;
    size_t used;
    buffer_append_text(&text, "GET / HTTP/1.1\r\n" HOST);
    for (int i = 0; i < 990; i++)
        buffer_append_format(&text, "X%d: aaaaaaaaaaaaaaaaaaaa\r\n", i % 3);
    buffer_append_text(&text, "\r\n");
    http_parser_start(&parser, &wide);
    assert_int_equal(http_parser_push(&parser, text.data, text.length, &used), HTTP_PARSE_WHOLE);
    assert_int_equal(parser.field_count, 4);
    assert_int_equal(strlen(http_parser_header(&parser, "x2")), 330 * 22 - 2);
    assert_true(parser.head.capacity < 3 * text.length);
    http_parser_free(&parser);
    buffer_free(&text);
}

static void test_memory(void **state)
{
    (void)state;
    static const char text[] = POST "A: 1\r\nB: 2\r\na: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    for (uint64_t n = 1;; n++) {
        struct http_parser parser;
        size_t used, at = 0;
        enum http_parse result;
        http_parser_start(&parser, &usual);
        memory_inject_failure(n, 0);
        do {
            result = http_parser_push(&parser, text + at, sizeof text - 1 - at, &used);
            at += used;
        } while (result == HTTP_PARSE_HEADER);
        memory_inject_failure(0, 0);
        if (result == HTTP_PARSE_REFUSED)
            assert_int_equal(parser.status, 503);
        http_parser_free(&parser);
        if (result == HTTP_PARSE_WHOLE) {
            assert_true(n > 3);
            return;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_lines), cmocka_unit_test(test_targets), cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_fields), cmocka_unit_test(test_lengths), cmocka_unit_test(test_codings),
        cmocka_unit_test(test_chunks), cmocka_unit_test(test_limits), cmocka_unit_test(test_join_is_bounded),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
