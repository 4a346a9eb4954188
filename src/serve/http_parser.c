#include "serve/http_parser.h"

#include <string.h>

#include "base/memory.h"
#include "serve/http_head.h"

enum state {
    STATE_BEFORE,       /* no byte of the request line yet; one empty line may come */
    STATE_REQUEST_LINE,
    STATE_FIELDS,
    STATE_BODY,         /* body_left bytes of it */
    STATE_CHUNK_SIZE,
    STATE_CHUNK,        /* body_left bytes of it */
    STATE_CHUNK_END,    /* CR LF behind it */
    STATE_TRAILER_START,
    STATE_TRAILER_NAME,
    STATE_TRAILER_VALUE,
    STATE_WHOLE,
    STATE_REFUSED
};

void http_parser_start(struct http_parser *parser, const struct http_parser_limits *limits)
{
    memset(parser, 0, sizeof *parser);
    parser->limits = *limits;
}

void http_parser_free(struct http_parser *parser)
{
    buffer_free(&parser->head);
    buffer_free(&parser->body);
    memory_free(parser->fields);
    memset(parser, 0, sizeof *parser);
}

int http_parser_has_begun(const struct http_parser *parser)
{
    return parser->state != STATE_BEFORE;
}

const char *http_parser_method(const struct http_parser *parser)
{
    return (const char *)parser->head.data;
}

const char *http_parser_path(const struct http_parser *parser)
{
    return (const char *)parser->head.data + parser->path;
}

const char *http_parser_query(const struct http_parser *parser)
{
    return parser->query ? (const char *)parser->head.data + parser->query : "";
}

/* Control characters but HT: in no line (RFC 9110 section 5.5). CR is looked at before. */
static int is_control(uint8_t c)
{
    return (c < 0x20 && c != '\t') || c == 0x7F;
}

static enum http_parse refuse_control(struct http_parser *parser, uint8_t c)
{
    return http_parser_refuse(parser, 400,
                              c == '\n' ? "A line ends with LF alone." : "A line holds a control character.");
}

static enum http_parse out_of_memory(struct http_parser *parser)
{
    return http_parser_refuse(parser, 503, "The server is short of memory.");
}

/* The empty line has come. */
static enum http_parse end_head(struct http_parser *parser)
{
    enum http_parse result = http_head_finish(parser);
    if (result != HTTP_PARSE_MORE)
        return result;
    if (!parser->is_chunked && parser->body_left == 0) {
        parser->state = STATE_WHOLE;
        return HTTP_PARSE_WHOLE;
    }
    parser->state = parser->is_chunked ? STATE_CHUNK_SIZE : STATE_BODY;
    return HTTP_PARSE_HEADER;
}

static enum http_parse end_line(struct http_parser *parser)
{
    if (parser->state == STATE_REQUEST_LINE) {
        parser->state = STATE_FIELDS;
        return http_head_take_request_line(parser);
    }
    return parser->head.length == parser->line_start ? end_head(parser) : http_head_take_field(parser);
}

static enum http_parse refuse_head_size(struct http_parser *parser)
{
    return parser->state == STATE_REQUEST_LINE
               ? http_parser_refuse(parser, 414, "The request line is longer than is taken.")
               : http_parser_refuse(parser, 431, "The request's header is longer than is taken.");
}

/* Bytes up to a line's end, or the end itself. */
static enum http_parse take_head(struct http_parser *parser, const uint8_t *bytes, size_t length, size_t *used)
{
    size_t room = parser->limits.most_header_bytes - parser->head_bytes, run = 0;
    if (room == 0)
        return refuse_head_size(parser);
    if (parser->after_cr || bytes[0] == '\r') {
        parser->head_bytes++;
        *used = 1;
        if (!parser->after_cr) {
            parser->after_cr = 1;
            return HTTP_PARSE_MORE;
        }
        parser->after_cr = 0;
        return bytes[0] == '\n' ? end_line(parser) : http_parser_refuse(parser, 400, "A CR is not followed by LF.");
    }
    if (length > room)
        length = room;
    while (run < length && !is_control(bytes[run]))
        run++;
    if (run == 0)
        return refuse_control(parser, bytes[0]);
    buffer_append(&parser->head, bytes, run);
    if (parser->head.error.code != BULLA_OK)
        return out_of_memory(parser);
    parser->head_bytes += run;
    *used = run;
    return HTTP_PARSE_MORE;
}

/* RFC 9112 section 2.2: an empty line before a request is passed over. */
static enum http_parse take_before(struct http_parser *parser, const uint8_t *bytes, size_t length, size_t *used)
{
    if (parser->after_cr) {
        if (bytes[0] != '\n')
            return http_parser_refuse(parser, 400, "A CR is not followed by LF.");
        parser->after_cr = 0;
        parser->has_skipped_line = 1;
        *used = 1;
        return HTTP_PARSE_MORE;
    }
    if (bytes[0] == '\r' && !parser->has_skipped_line) {
        parser->after_cr = 1;
        *used = 1;
        return HTTP_PARSE_MORE;
    }
    parser->state = STATE_REQUEST_LINE;
    return HTTP_PARSE_MORE;
}

/* Bytes of the body or of a chunk. */
static enum http_parse take_body(struct http_parser *parser, const uint8_t *bytes, size_t length, size_t *used)
{
    size_t part = length < parser->body_left ? length : (size_t)parser->body_left;
    buffer_append(&parser->body, bytes, part);
    if (parser->body.error.code != BULLA_OK)
        return out_of_memory(parser);
    *used = part;
    parser->body_left -= part;
    if (parser->body_left > 0)
        return HTTP_PARSE_MORE;
    parser->state = parser->state == STATE_BODY ? STATE_WHOLE : STATE_CHUNK_END;
    return parser->state == STATE_WHOLE ? HTTP_PARSE_WHOLE : HTTP_PARSE_MORE;
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* chunk-size [ chunk-ext ] CR LF (RFC 9112 section 7.1). What extensions say is passed over. */
static enum http_parse take_chunk_size(struct http_parser *parser, uint8_t c)
{
    int digit = hex_digit(c);
    if (parser->after_cr) {
        if (c != '\n')
            return http_parser_refuse(parser, 400, "A CR is not followed by LF.");
        parser->after_cr = 0;
        parser->state = parser->body_left > 0 ? STATE_CHUNK : STATE_TRAILER_START;
        return HTTP_PARSE_MORE;
    }
    if (c == '\r' && parser->chunk_digits > 0) {
        parser->after_cr = 1;
        return HTTP_PARSE_MORE;
    }
    if (parser->in_extension) {
        if (is_control(c))
            return refuse_control(parser, c);
        if (++parser->extension_bytes > HTTP_MOST_EXTENSION_BYTES)
            return http_parser_refuse(parser, 400, "The chunk extensions are longer than are taken.");
        return HTTP_PARSE_MORE;
    }
    if (c == ';' && parser->chunk_digits > 0) {
        parser->in_extension = 1;
        return HTTP_PARSE_MORE;
    }
    if (digit < 0 || ++parser->chunk_digits > 16)
        return http_parser_refuse(parser, 400, "A chunk's size is not a hexadecimal number.");
    /* What is there is at most most_body_bytes, so that neither side can overflow. */
    uint64_t room = parser->limits.most_body_bytes - parser->body.length;
    if (parser->body_left > room / 16 || parser->body_left * 16 + (uint64_t)digit > room)
        return http_parser_refuse(parser, 413, "The body is longer than is taken.");
    parser->body_left = parser->body_left * 16 + (uint64_t)digit;
    return HTTP_PARSE_MORE;
}

static enum http_parse take_chunk_end(struct http_parser *parser, uint8_t c)
{
    if (c != (parser->after_cr ? '\n' : '\r'))
        return http_parser_refuse(parser, 400, "A chunk is not followed by CR LF.");
    if (parser->after_cr) {
        parser->state = STATE_CHUNK_SIZE;
        parser->chunk_digits = 0;
        parser->in_extension = 0;
    }
    parser->after_cr = !parser->after_cr;
    return HTTP_PARSE_MORE;
}

/* Trailer lines (RFC 9112 section 7.1.2) must be well-formed, and are dropped. */
static enum http_parse take_trailer(struct http_parser *parser, uint8_t c)
{
    if (++parser->trailer_bytes > parser->limits.most_header_bytes)
        return http_parser_refuse(parser, 431, "The trailers are longer than are taken.");
    if (parser->after_cr) {
        if (c != '\n')
            return http_parser_refuse(parser, 400, "A CR is not followed by LF.");
        parser->after_cr = 0;
        parser->state = parser->state == STATE_TRAILER_START ? STATE_WHOLE : STATE_TRAILER_START;
        return parser->state == STATE_WHOLE ? HTTP_PARSE_WHOLE : HTTP_PARSE_MORE;
    }
    if (c == '\r' && parser->state != STATE_TRAILER_NAME) {
        parser->after_cr = 1;
        return HTTP_PARSE_MORE;
    }
    if (parser->state == STATE_TRAILER_VALUE)
        return is_control(c) ? refuse_control(parser, c) : HTTP_PARSE_MORE;
    if (parser->state == STATE_TRAILER_NAME && c == ':') {
        parser->state = STATE_TRAILER_VALUE;
        return HTTP_PARSE_MORE;
    }
    if (parser->state == STATE_TRAILER_START && ++parser->trailer_lines > parser->limits.most_header_lines)
        return http_parser_refuse(parser, 431, "The request has more trailer lines than are taken.");
    if (!http_is_token_byte(c))
        return http_parser_refuse(parser, 400, "A trailer line is not NAME: VALUE.");
    parser->state = STATE_TRAILER_NAME;
    return HTTP_PARSE_MORE;
}

static enum http_parse take(struct http_parser *parser, const uint8_t *bytes, size_t length, size_t *used)
{
    *used = 0;
    switch ((enum state)parser->state) {
    case STATE_BEFORE:
        return take_before(parser, bytes, length, used);
    case STATE_REQUEST_LINE:
    case STATE_FIELDS:
        return take_head(parser, bytes, length, used);
    case STATE_BODY:
    case STATE_CHUNK:
        return take_body(parser, bytes, length, used);
    case STATE_CHUNK_SIZE:
        *used = 1;
        return take_chunk_size(parser, bytes[0]);
    case STATE_CHUNK_END:
        *used = 1;
        return take_chunk_end(parser, bytes[0]);
    case STATE_TRAILER_START:
    case STATE_TRAILER_NAME:
    case STATE_TRAILER_VALUE:
        *used = 1;
        return take_trailer(parser, bytes[0]);
    case STATE_WHOLE:
        return HTTP_PARSE_WHOLE;
    case STATE_REFUSED:
        break;
    }
    return HTTP_PARSE_REFUSED;
}

enum http_parse http_parser_push(struct http_parser *parser, const void *bytes, size_t length, size_t *used)
{
    enum http_parse result = parser->state == STATE_WHOLE     ? HTTP_PARSE_WHOLE
                             : parser->state == STATE_REFUSED ? HTTP_PARSE_REFUSED
                                                              : HTTP_PARSE_MORE;
    *used = 0;
    while (result == HTTP_PARSE_MORE && *used < length) {
        size_t part;
        result = take(parser, (const uint8_t *)bytes + *used, length - *used, &part);
        *used += part;
    }
    if (result == HTTP_PARSE_REFUSED)
        parser->state = STATE_REFUSED;
    return result;
}
