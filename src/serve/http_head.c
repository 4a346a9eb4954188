#define _GNU_SOURCE
#include "serve/http_head.h"

#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "base/utf8.h"

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static int hex_value(char c)
{
    if (is_digit(c))
        return c - '0';
    char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

int http_is_token_byte(uint8_t c)
{
    return is_letter((char)c) || is_digit((char)c) || (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static int is_token(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!http_is_token_byte((uint8_t)text[i]))
            return 0;
    return length > 0;
}

enum http_parse http_parser_refuse(struct http_parser *parser, int status, const char *refusal)
{
    parser->status = status;
    parser->refusal = refusal;
    return HTTP_PARSE_REFUSED;
}

static enum http_parse out_of_memory(struct http_parser *parser)
{
    return http_parser_refuse(parser, 503, "The server is short of memory.");
}

static char *head_at(const struct http_parser *parser, size_t offset)
{
    return (char *)parser->head.data + offset;
}

/* uri-host [ ":" port ] (RFC 9110 section 4.2): letters, digits, '-', '.', '_', '~', or an IPv6 address in brackets.
 * Percent-encoding and the rest of RFC 3986's reg-name are not in use and not taken. */
static int is_authority(const char *text, size_t length)
{
    size_t at = 0;
    if (length > 0 && text[0] == '[') {
        for (at = 1; at < length && (hex_value(text[at]) >= 0 || text[at] == ':' || text[at] == '.'); at++)
            ;
        if (at < 3 || at == length || text[at++] != ']')
            return 0;
    } else {
        while (at < length && (is_letter(text[at]) || is_digit(text[at]) || (text[at] && strchr("-._~", text[at]))))
            at++;
        if (at == 0)
            return 0;
    }
    if (at == length)
        return 1;
    size_t digits = length - at - 1;
    unsigned port = 0;
    if (text[at] != ':' || digits < 1 || digits > 5)
        return 0;
    for (size_t i = at + 1; i < length; i++) {
        if (!is_digit(text[i]))
            return 0;
        port = port * 10 + (unsigned)(text[i] - '0');
    }
    return port <= 65535;
}

/* A '.' or '..' between slashes. */
static int has_dot_segment(const char *path)
{
    for (const char *segment = path; segment; segment = strchr(segment + 1, '/')) {
        size_t length = strcspn(segment + 1, "/");
        if ((length == 1 && segment[1] == '.') || (length == 2 && segment[1] == '.' && segment[2] == '.'))
            return 1;
    }
    return 0;
}

/* Percent-decodes the path in place (RFC 3986 section 2.1). */
static enum http_parse decode_path(struct http_parser *parser, size_t length)
{
    char *path = head_at(parser, parser->path), *to = path;
    for (size_t i = 0; i < length; i++) {
        int c = (unsigned char)path[i];
        if (c == '%') {
            int high = i + 1 < length ? hex_value(path[i + 1]) : -1, low = i + 2 < length ? hex_value(path[i + 2]) : -1;
            if (high < 0 || low < 0)
                return http_parser_refuse(parser, 400, "A '%' in the path is not followed by two hex digits.");
            c = high << 4 | low;
            if (c < 0x20 || c == 0x7F)
                return http_parser_refuse(parser, 400, "The path holds an encoded control character.");
            i += 2;
        }
        *to++ = (char)c;
    }
    *to = 0;
    if (utf8_check(path, (size_t)(to - path)) != (size_t)(to - path))
        return http_parser_refuse(parser, 400, "The path is not UTF-8.");
    if (has_dot_segment(path))
        return http_parser_refuse(parser, 400, "The path holds a '.' or '..' segment.");
    return HTTP_PARSE_MORE;
}

/* http://AUTHORITY[/PATH][?QUERY] (RFC 9112 section 3.2.2). Moves the authority one byte to the left, so that there is
 * room for the '/' of an empty path. Gives where path or '?' begins. */
static enum http_parse split_absolute(struct http_parser *parser, size_t *start, size_t end)
{
    char *target = head_at(parser, *start);
    size_t length = end - *start;
    size_t scheme = length > 7 && strncasecmp(target, "http://", 7) == 0 ? 7
                    : length > 8 && strncasecmp(target, "https://", 8) == 0 ? 8 : 0;
    if (scheme == 0)
        return http_parser_refuse(parser, 400, "The request's target is neither a path nor an http URL.");
    size_t host = 0;
    while (scheme + host < length && target[scheme + host] != '/' && target[scheme + host] != '?')
        host++;
    if (!is_authority(target + scheme, host))
        return http_parser_refuse(parser, 400, "The host in the request's target is malformed.");
    memmove(target + scheme - 1, target + scheme, host);
    parser->authority = *start + scheme - 1;
    parser->authority_length = host;
    *start += scheme + host;
    if (*start == end || *head_at(parser, *start) == '?')
        *head_at(parser, --*start) = '/';
    return HTTP_PARSE_MORE;
}

static enum http_parse take_target(struct http_parser *parser, size_t start, size_t end)
{
    const char *method = head_at(parser, 0);
    for (size_t i = start; i < end; i++) {
        uint8_t c = parser->head.data[i];
        if (c <= 0x20 || c >= 0x7F || c == '#')
            return http_parser_refuse(parser, 400, "The request's target holds a byte that no URL has.");
    }
    parser->path = start;
    if (end - start == 1 && *head_at(parser, start) == '*')
        return strcmp(method, "OPTIONS") == 0
                   ? HTTP_PARSE_MORE
                   : http_parser_refuse(parser, 400, "The target '*' is for OPTIONS only.");
    if (strcmp(method, "CONNECT") == 0)
        return http_parser_refuse(parser, 501, "CONNECT is not understood: this server is no proxy.");
    if (*head_at(parser, start) != '/') {
        enum http_parse result = split_absolute(parser, &start, end);
        if (result != HTTP_PARSE_MORE)
            return result;
    }
    parser->path = start;
    const char *mark = memchr(head_at(parser, start), '?', end - start);
    size_t path_end = mark ? (size_t)(mark - head_at(parser, 0)) : end;
    parser->query = mark ? path_end + 1 : 0;
    return decode_path(parser, path_end - start);
}

static enum http_parse take_version(struct http_parser *parser, const char *text, size_t length)
{
    if (length != 8 || memcmp(text, "HTTP/", 5) != 0 || !is_digit(text[5]) || text[6] != '.' || !is_digit(text[7]))
        return http_parser_refuse(parser, 400, "The request line does not end with HTTP/1.1.");
    if (text[5] != '1' || text[7] > '1')
        return http_parser_refuse(parser, 505, "Only HTTP/1.1 and HTTP/1.0 are understood.");
    parser->minor_version = text[7] - '0';
    return HTTP_PARSE_MORE;
}

/* method SP request-target SP HTTP-version (RFC 9112 section 3), with one space each. */
enum http_parse http_head_take_request_line(struct http_parser *parser)
{
    size_t length = parser->head.length;
    if (length == 0)
        return http_parser_refuse(parser, 400, "An empty line stands where a request begins.");
    char *line = (char *)parser->head.data, *end = line + length;
    char *first = memchr(line, ' ', length);
    char *second = first ? memchr(first + 1, ' ', (size_t)(end - first - 1)) : NULL;
    if (!first || !is_token(line, (size_t)(first - line)))
        return http_parser_refuse(parser, 400, "The request line is malformed.");
    if (first - line > HTTP_MOST_METHOD)
        return http_parser_refuse(parser, 501, "The method is longer than any that is known.");
    if (!second || second == first + 1)
        return http_parser_refuse(parser, 400, "The request line is malformed: it is METHOD TARGET HTTP/1.1.");
    enum http_parse result = take_version(parser, second + 1, (size_t)(end - second - 1));
    if (result != HTTP_PARSE_MORE)
        return result;
    *first = 0;
    *second = 0;
    result = take_target(parser, (size_t)(first + 1 - line), (size_t)(second - line));
    buffer_append_byte(&parser->head, 0);
    if (parser->head.error.code != BULLA_OK)
        return out_of_memory(parser);
    parser->line_start = parser->head.length;
    return result;
}

static int add_field(struct http_parser *parser, size_t name, size_t value)
{
    if (parser->field_count == parser->field_capacity) {
        size_t capacity = parser->field_capacity ? 2 * parser->field_capacity : 16;
        struct http_field *fields = memory_resize(parser->fields, capacity, sizeof *fields, NULL);
        if (!fields)
            return 0;
        parser->fields = fields;
        parser->field_capacity = capacity;
    }
    parser->fields[parser->field_count++] = (struct http_field){(uint32_t)name, (uint32_t)value};
    return 1;
}

/* field-name ":" OWS field-value OWS (RFC 9112 section 5). */
enum http_parse http_head_take_field(struct http_parser *parser)
{
    char *line = head_at(parser, parser->line_start);
    size_t length = parser->head.length - parser->line_start;
    if (parser->field_count >= parser->limits.most_header_lines)
        return http_parser_refuse(parser, 431, "The request has more header lines than are taken.");
    if (line[0] == ' ' || line[0] == '\t')
        return http_parser_refuse(parser, 400, "A header line begins with white space: folded lines are not taken.");
    char *colon = memchr(line, ':', length);
    if (!colon || !is_token(line, (size_t)(colon - line)))
        return http_parser_refuse(parser, 400, "A header line is not NAME: VALUE, with no space before the colon.");
    for (char *c = line; c < colon; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c | 0x20);
    *colon = 0;
    char *value = colon + 1, *end = line + length;
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *end = 0;
    size_t name = parser->line_start, value_start = (size_t)(value - head_at(parser, 0));
    buffer_append_byte(&parser->head, 0);
    if (parser->head.error.code != BULLA_OK || !add_field(parser, name, value_start))
        return out_of_memory(parser);
    parser->line_start = parser->head.length;
    return HTTP_PARSE_MORE;
}

const char *http_parser_header(const struct http_parser *parser, const char *name)
{
    for (size_t i = 0; i < parser->field_count; i++)
        if (strcmp(head_at(parser, parser->fields[i].name), name) == 0)
            return head_at(parser, parser->fields[i].value);
    return NULL;
}

static size_t count_fields(const struct http_parser *parser, const char *name)
{
    size_t count = 0;
    for (size_t i = 0; i < parser->field_count; i++)
        count += strcmp(head_at(parser, parser->fields[i].name), name) == 0;
    return count;
}

/* Fields of one name become one, their values joined by ", " behind the head (RFC 9110 section 5.3). */
static int join_fields(struct http_parser *parser)
{
    for (size_t i = 0; i < parser->field_count; i++) {
        const char *name = head_at(parser, parser->fields[i].name);
        size_t kept = i + 1, joined = 0, value = 0; /* whole only once NUL stands behind it */
        for (size_t j = i + 1; j < parser->field_count; j++) {
            struct http_field other = parser->fields[j];
            name = head_at(parser, parser->fields[i].name);
            if (strcmp(head_at(parser, other.name), name) != 0) {
                parser->fields[kept++] = other;
                continue;
            }
            size_t first_length = joined ? 0 : strlen(head_at(parser, parser->fields[i].value));
            size_t other_length = strlen(head_at(parser, other.value));
            size_t start = parser->head.length;
            /* Reserved first: the values are in the buffer that grows. */
            if (!buffer_extend(&parser->head, first_length + 2 + other_length))
                return 0;
            char *to = head_at(parser, start);
            memcpy(to, head_at(parser, parser->fields[i].value), first_length);
            memcpy(to + first_length, ", ", 2);
            memcpy(to + first_length + 2, head_at(parser, other.value), other_length);
            value = joined ? value : start;
            joined = 1;
        }
        parser->field_count = kept;
        if (joined)
            buffer_append_byte(&parser->head, 0);
        if (parser->head.error.code != BULLA_OK)
            return 0;
        if (joined)
            parser->fields[i].value = (uint32_t)value;
    }
    return 1;
}

/* Whether a comma-separated list holds the token, without regard to case. */
static int list_has(const char *list, const char *token)
{
    size_t length = strlen(token);
    while (list && *list) {
        list += strspn(list, ", \t");
        size_t item = strcspn(list, ", \t");
        if (item == length && strncasecmp(list, token, length) == 0)
            return 1;
        list += item;
    }
    return 0;
}

/* Exactly one in HTTP/1.1 (RFC 9112 section 3.2), and the same as a URL's in the request line. */
static enum http_parse check_host(struct http_parser *parser)
{
    size_t count = count_fields(parser, "host");
    const char *host = http_parser_header(parser, "host");
    if (count > 1)
        return http_parser_refuse(parser, 400, "The request has more than one Host header.");
    if (count == 0)
        return parser->minor_version == 0 ? HTTP_PARSE_MORE
                                          : http_parser_refuse(parser, 400, "The request has no Host header.");
    if (!is_authority(host, strlen(host)))
        return http_parser_refuse(parser, 400, "The Host header is malformed.");
    if (parser->authority_length > 0 && (strlen(host) != parser->authority_length ||
                                         strncasecmp(host, head_at(parser, parser->authority), strlen(host)) != 0))
        return http_parser_refuse(parser, 400, "The Host header names another host than the request line.");
    return HTTP_PARSE_MORE;
}

/* Decimal digits and nothing else; a leading zero would be octal to some. */
static enum http_parse take_length(struct http_parser *parser, const char *text)
{
    uint64_t value = 0;
    size_t digits = strlen(text);
    if (digits == 0 || digits > 19 || (digits > 1 && text[0] == '0'))
        return http_parser_refuse(parser, 400, "Content-Length is not a decimal number.");
    for (size_t i = 0; i < digits; i++) {
        if (!is_digit(text[i]))
            return http_parser_refuse(parser, 400, "Content-Length is not a decimal number.");
        value = value * 10 + (uint64_t)(text[i] - '0');
    }
    if (value > parser->limits.most_body_bytes)
        return http_parser_refuse(parser, 413, "The body is longer than is taken.");
    parser->body_left = value;
    return HTTP_PARSE_MORE;
}

/* Transfer-Encoding (RFC 9112 section 6.1): "chunked" alone. */
static enum http_parse take_coding(struct http_parser *parser, const char *text)
{
    if (parser->minor_version == 0)
        return http_parser_refuse(parser, 400, "HTTP/1.0 has no Transfer-Encoding.");
    if (strcasecmp(text, "chunked") == 0) {
        parser->is_chunked = 1;
        return HTTP_PARSE_MORE;
    }
    /* "gzip, chunked" is well-formed, and its end can be found, but it is not understood. */
    const char *comma = strrchr(text, ',');
    const char *last = comma ? comma + 1 + strspn(comma + 1, " \t") : text;
    if (comma && strcasecmp(last, "chunked") == 0 && strcasestr(text, "chunked") == last)
        return http_parser_refuse(parser, 501, "Of transfer codings only chunked is understood.");
    return http_parser_refuse(parser, 400, "Transfer-Encoding is not chunked: the body's length is unknown.");
}

static enum http_parse find_framing(struct http_parser *parser)
{
    size_t lengths = count_fields(parser, "content-length"), codings = count_fields(parser, "transfer-encoding");
    if (lengths > 0 && codings > 0)
        return http_parser_refuse(parser, 400, "The request has both Content-Length and Transfer-Encoding.");
    if (lengths > 1)
        return http_parser_refuse(parser, 400, "The request has more than one Content-Length.");
    if (codings > 1)
        return http_parser_refuse(parser, 400, "The request has more than one Transfer-Encoding.");
    if (lengths == 1)
        return take_length(parser, http_parser_header(parser, "content-length"));
    return codings == 1 ? take_coding(parser, http_parser_header(parser, "transfer-encoding")) : HTTP_PARSE_MORE;
}

enum http_parse http_head_finish(struct http_parser *parser)
{
    enum http_parse result = check_host(parser);
    if (result == HTTP_PARSE_MORE)
        result = find_framing(parser);
    if (result != HTTP_PARSE_MORE)
        return result;
    if (!join_fields(parser))
        return out_of_memory(parser);
    parser->keeps_alive = parser->minor_version > 0 && !list_has(http_parser_header(parser, "connection"), "close");
    const char *expected = http_parser_header(parser, "expect");
    if (expected && parser->minor_version > 0) { /* RFC 9110 section 10.1.1: 1.0 has none */
        if (strcasecmp(expected, "100-continue") != 0)
            return http_parser_refuse(parser, 417, "Of expectations only 100-continue is understood.");
        parser->expects_continue = 1;
    }
    return HTTP_PARSE_MORE;
}
