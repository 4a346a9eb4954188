/* The HTTP parser on any bytes, in any pieces: what becomes of them may not depend on how they are cut. The first byte
 * seeds the cuts, the second picks the limits. What is accepted must also hold what its readers rely on. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "serve/http_parser.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The next of a sequence of cuts: 1 to 32 bytes, or all. */
static size_t next_piece(uint32_t *seed, size_t left)
{
    if (*seed == 0)
        return left;
    *seed = *seed * 1664525 + 1013904223;
    size_t piece = 1 + (*seed >> 24) % 32;
    return piece < left ? piece : left;
}

struct outcome {
    struct http_parser parser;
    enum http_parse result;
    size_t used;
};

static void run(struct outcome *outcome, const struct http_parser_limits *limits, const uint8_t *data, size_t size,
                uint32_t seed)
{
    int headers = 0;
    http_parser_start(&outcome->parser, limits);
    outcome->result = HTTP_PARSE_MORE;
    outcome->used = 0;
    while (outcome->used < size && outcome->result != HTTP_PARSE_WHOLE && outcome->result != HTTP_PARSE_REFUSED) {
        size_t piece = next_piece(&seed, size - outcome->used), used;
        uint8_t *copy = malloc(piece);
        if (!copy)
            abort();
        memcpy(copy, data + outcome->used, piece);
        outcome->result = http_parser_push(&outcome->parser, copy, piece, &used);
        free(copy);
        if (used > piece || (outcome->result == HTTP_PARSE_MORE && used != piece))
            abort();
        headers += outcome->result == HTTP_PARSE_HEADER;
        outcome->used += used;
    }
    if (headers > 1 || outcome->parser.body.length > limits->most_body_bytes ||
        outcome->parser.head.length > 3 * limits->most_header_bytes ||
        outcome->parser.field_count > limits->most_header_lines)
        abort();
}

static void check_text(const char *text, int may_be_empty)
{
    if (!may_be_empty && !*text)
        abort();
    for (; *text; text++)
        if (((unsigned char)*text < 0x20 && *text != '\t') || *text == 0x7F)
            abort();
}

static void check_whole(const struct http_parser *parser)
{
    const char *path = http_parser_path(parser);
    check_text(http_parser_method(parser), 0);
    check_text(path, 0);
    check_text(http_parser_query(parser), 1);
    if ((*path != '/' && strcmp(path, "*") != 0) || utf8_check(path, strlen(path)) != strlen(path))
        abort();
    if (parser->minor_version == 1 && !http_parser_header(parser, "host"))
        abort();
    if (http_parser_header(parser, "content-length") && http_parser_header(parser, "transfer-encoding"))
        abort();
    for (size_t i = 0; i < parser->field_count; i++) {
        const char *name = (const char *)parser->head.data + parser->fields[i].name;
        check_text(name, 0);
        check_text((const char *)parser->head.data + parser->fields[i].value, 1);
        for (size_t j = 0; j < i; j++)
            if (strcmp(name, (const char *)parser->head.data + parser->fields[j].name) == 0)
                abort();
    }
}

static int same(const struct buffer *one, const struct buffer *two)
{
    return one->length == two->length && (one->length == 0 || memcmp(one->data, two->data, one->length) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct http_parser_limits limits[] = {{32768, 100, 1 << 20}, {200, 4, 20}};
    if (size < 2)
        return 0;
    const struct http_parser_limits *chosen = &limits[data[1] & 1];
    struct outcome whole, cut;
    run(&whole, chosen, data + 2, size - 2, 0);
    run(&cut, chosen, data + 2, size - 2, data[0] + 1u);
    /* Told once that a body follows, the last piece may end with MORE or HEADER. */
    int is_open = whole.result == HTTP_PARSE_MORE || whole.result == HTTP_PARSE_HEADER;
    if (is_open ? (cut.result != HTTP_PARSE_MORE && cut.result != HTTP_PARSE_HEADER) : cut.result != whole.result)
        abort();
    if (whole.result == HTTP_PARSE_REFUSED) {
        if (whole.parser.status != cut.parser.status || whole.parser.refusal != cut.parser.refusal)
            abort();
    } else if (whole.used != cut.used || !same(&whole.parser.head, &cut.parser.head) ||
               !same(&whole.parser.body, &cut.parser.body)) {
        abort();
    }
    if (whole.result == HTTP_PARSE_WHOLE)
        check_whole(&whole.parser);
    http_parser_free(&whole.parser);
    http_parser_free(&cut.parser);
    return 0;
}
