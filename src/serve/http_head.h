/* The head of a request: what its lines say. For http_parser.c, which cuts them out of the bytes. */
#ifndef SERVE_HTTP_HEAD_H
#define SERVE_HTTP_HEAD_H

#include "serve/http_parser.h"

/* Records why a request is refused. */
enum http_parse http_parser_refuse(struct http_parser *parser, int status, const char *refusal);

/* The line from `line_start` to the head's end: request line, or a header's. Holds no control character but HT.
 * HTTP_PARSE_MORE, or refused. */
enum http_parse http_head_take_request_line(struct http_parser *parser);
enum http_parse http_head_take_field(struct http_parser *parser);
/* The empty line has come: what the fields mean together. Sets is_chunked, body_left, keeps_alive, expects_continue. */
enum http_parse http_head_finish(struct http_parser *parser);

#endif
