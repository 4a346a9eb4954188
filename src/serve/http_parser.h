/* One HTTP/1.x request (RFC 9112), read from bytes as they come. Pure: no sockets, no time. The result does not
 * depend on how the bytes are cut into pieces.
 *
 * Strict: whatever two parsers on a request's way could read differently is refused, since that is what request
 * smuggling lives on. docs/http.md lists what is accepted and refused.
 *
 * Memory: the head's bytes (less than three times `most_header_bytes`), the body's (less than twice what has come), and
 * eight bytes a header line. Nothing is allocated for what is announced and has not come. */
#ifndef SERVE_HTTP_PARSER_H
#define SERVE_HTTP_PARSER_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

enum {
    HTTP_MOST_METHOD = 32,           /* letters of a method */
    HTTP_MOST_EXTENSION_BYTES = 4096 /* of all chunk extensions of a message together */
};

struct http_parser_limits {
    size_t most_header_bytes; /* request line and headers; also of the trailers after a chunked body */
    size_t most_header_lines;
    size_t most_body_bytes;
};

enum http_parse {
    HTTP_PARSE_MORE,   /* all bytes are used and the request is not whole */
    HTTP_PARSE_HEADER, /* the header is there and a body follows: look at it, then push the rest. Told once */
    HTTP_PARSE_WHOLE,  /* the request is whole; bytes behind it were not used */
    HTTP_PARSE_REFUSED /* `status` and `refusal` say why; every later push says so again */
};

struct http_field {
    uint32_t name, value; /* where in the head; both end with NUL, the name is in lower case */
};

/* What others may read is named here; the rest is the parser's own. */
struct http_parser {
    int status;          /* HTTP_PARSE_REFUSED: 400, 413, 414, 417, 431, 501, 503 or 505 */
    const char *refusal; /* and a sentence */
    int minor_version;   /* of HTTP/1: 0 or 1 */
    int keeps_alive;     /* from HEADER on: the client wants the connection to stay */
    int expects_continue; /* it waits for 100 (Continue) */
    struct buffer body;  /* decoded */

    struct http_parser_limits limits;
    int state;
    int after_cr;          /* the next byte must be LF */
    int has_skipped_line;  /* the one empty line that may come before a request */
    size_t head_bytes;     /* as sent */
    struct buffer head;    /* lines without their ends, each followed by NUL; joined values behind them */
    size_t line_start;     /* of the unfinished line in it */
    size_t path, query;    /* where in the head; query 0: none */
    size_t authority, authority_length; /* of a target in absolute form; length 0: none */
    struct http_field *fields;
    size_t field_count, field_capacity;
    int is_chunked;
    uint64_t body_left;    /* of the body, or of the chunk */
    unsigned chunk_digits;
    int in_extension;
    size_t extension_bytes, trailer_bytes, trailer_lines;
};

void http_parser_start(struct http_parser *parser, const struct http_parser_limits *limits);
void http_parser_free(struct http_parser *parser); /* a zeroed one is fine */
/* `used`: how many of the bytes were taken. */
enum http_parse http_parser_push(struct http_parser *parser, const void *bytes, size_t length, size_t *used);
/* Whether a byte of the request line has come. */
int http_parser_has_begun(const struct http_parser *parser);

/* From HEADER on. */
const char *http_parser_method(const struct http_parser *parser);
const char *http_parser_path(const struct http_parser *parser);  /* decoded; begins with '/', or is "*" for OPTIONS */
const char *http_parser_query(const struct http_parser *parser); /* as sent, "" for none */
/* By its name in lower case; NULL where there is none. */
const char *http_parser_header(const struct http_parser *parser, const char *name);

/* Whether `c` may be in a token (RFC 9110 section 5.6.2): methods, header names. */
int http_is_token_byte(uint8_t c);

#endif
