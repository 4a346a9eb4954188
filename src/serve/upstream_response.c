#include "serve/upstream_response.h"

#include <string.h>
#include <strings.h>

enum {
    MOST_LINE_BYTES = 16 << 10,
    MOST_HEAD_BYTES = 64 << 10, /* all headers of a response, interim ones and trailers too */
    MOST_HEAD_LINES = 200,
    MOST_INTERIM = 8,
    MOST_RETRY_AFTER = 3600
};

static int is_token_character(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != 0 && strchr("!#$%&'*+-.^_`|~", c)); /* RFC 9110 section 5.6.2 */
}

/* HTTP-version SP 3DIGIT SP [reason] (RFC 9112 section 4); a reason without its space is common enough. */
static int read_status_line(struct upstream_response *response, const char *line, size_t length, bulla_error *error)
{
    if (length < 12 || memcmp(line, "HTTP/1.", 7) != 0 || (line[7] != '0' && line[7] != '1') || line[8] != ' ' ||
        (length > 12 && line[12] != ' '))
        return bulla_fail(error, BULLA_E_INPUT, "its answer does not begin as HTTP/1.1 does (\"%.*s\")",
                          (int)(length < 40 ? length : 40), line);
    int status = 0;
    for (int i = 9; i < 12; i++) {
        if (line[i] < '0' || line[i] > '9')
            return bulla_fail(error, BULLA_E_INPUT, "its HTTP status is no number");
        status = status * 10 + (line[i] - '0');
    }
    if (status < 100 || status > 599 || status == 101)
        return bulla_fail(error, BULLA_E_INPUT, "its HTTP status is %d, expected 200 to 599", status);
    response->status = status;
    response->closes = line[7] == '0';
    response->state = RESPONSE_HEADER;
    return BULLA_OK;
}

static int read_content_length(struct upstream_response *response, const char *value, size_t length, bulla_error *error)
{
    uint64_t number = 0;
    if (response->has_length || length == 0 || length > 15)
        return bulla_fail(error, BULLA_E_INPUT, "its Content-Length is given twice, empty or too long");
    for (size_t i = 0; i < length; i++) {
        if (value[i] < '0' || value[i] > '9')
            return bulla_fail(error, BULLA_E_INPUT, "its Content-Length is no number");
        number = number * 10 + (uint64_t)(value[i] - '0');
    }
    response->has_length = 1;
    response->left = number;
    return BULLA_OK;
}

static int is_value(const char *value, size_t length, const char *expected)
{
    return length == strlen(expected) && strncasecmp(value, expected, length) == 0;
}

static void keep_content_type(struct upstream_response *response, const char *value, size_t length)
{
    size_t kept = 0;
    while (kept < length && kept < sizeof response->content_type - 1 && value[kept] != ';' && value[kept] != ' ' &&
           value[kept] != '\t')
        kept++;
    for (size_t i = 0; i < kept; i++)
        response->content_type[i] = (char)(value[i] >= 'A' && value[i] <= 'Z' ? value[i] + ('a' - 'A') : value[i]);
    response->content_type[kept] = 0;
}

/* Seconds only: its other form, a date, is not worth a clock here. */
static void keep_retry_after(struct upstream_response *response, const char *value, size_t length)
{
    unsigned seconds = 0;
    for (size_t i = 0; i < length; i++) {
        if (value[i] < '0' || value[i] > '9')
            return;
        seconds = seconds * 10 + (unsigned)(value[i] - '0');
        if (seconds > MOST_RETRY_AFTER)
            seconds = MOST_RETRY_AFTER;
    }
    response->retry_after = seconds;
}

/* "close" among the words of a list. */
static int has_close(const char *value, size_t length)
{
    for (size_t at = 0; at < length;) {
        size_t end = at;
        while (end < length && value[end] != ',')
            end++;
        size_t last = end;
        while (at < last && (value[at] == ' ' || value[at] == '\t'))
            at++;
        while (last > at && (value[last - 1] == ' ' || value[last - 1] == '\t'))
            last--;
        if (is_value(value + at, last - at, "close"))
            return 1;
        at = end + 1;
    }
    return 0;
}

static void keep_header(struct upstream_response *response, const char *name, size_t name_length, const char *value,
                        size_t length)
{
    for (size_t i = 0; i < name_length; i++)
        buffer_append_byte(&response->headers, (uint8_t)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] + ('a' - 'A') : name[i]));
    buffer_append_byte(&response->headers, 0);
    buffer_append(&response->headers, value, length);
    buffer_append_byte(&response->headers, 0);
}

static int read_field(struct upstream_response *response, const char *name, size_t name_length, const char *value,
                      size_t length, bulla_error *error)
{
    if (response->keeps_headers)
        keep_header(response, name, name_length, value, length);
    if (response->headers.error.code != BULLA_OK)
        return bulla_fail(error, response->headers.error.code, "%s", response->headers.error.text);
    if (is_value(name, name_length, "connection"))
        response->closes |= has_close(value, length);
    if (is_value(name, name_length, "content-length"))
        return read_content_length(response, value, length, error);
    if (is_value(name, name_length, "transfer-encoding")) {
        if (response->is_chunked || !is_value(value, length, "chunked"))
            return bulla_fail(error, BULLA_E_INPUT, "its Transfer-Encoding is something else than chunked, once");
        response->is_chunked = 1;
    } else if (is_value(name, name_length, "content-encoding")) {
        if (!is_value(value, length, "identity"))
            return bulla_fail(error, BULLA_E_INPUT, "its answer is compressed, which was not asked for");
    } else if (is_value(name, name_length, "content-type")) {
        keep_content_type(response, value, length);
    } else if (is_value(name, name_length, "retry-after")) {
        keep_retry_after(response, value, length);
    }
    return BULLA_OK;
}

/* field-name ":" OWS field-value OWS (RFC 9112 section 5). */
static int read_header_line(struct upstream_response *response, const char *line, size_t length, bulla_error *error)
{
    size_t colon = 0;
    while (colon < length && is_token_character((unsigned char)line[colon]))
        colon++;
    if (colon == 0 || colon == length || line[colon] != ':')
        return bulla_fail(error, BULLA_E_INPUT, "header line %u of its answer has no name before a colon",
                          response->head_lines);
    for (size_t i = colon; i < length; i++)
        if (((unsigned char)line[i] < ' ' && line[i] != '\t') || line[i] == 0x7F)
            return bulla_fail(error, BULLA_E_INPUT, "header line %u of its answer has a control character",
                              response->head_lines);
    size_t start = colon + 1, end = length;
    while (start < end && (line[start] == ' ' || line[start] == '\t'))
        start++;
    while (end > start && (line[end - 1] == ' ' || line[end - 1] == '\t'))
        end--;
    if (response->state == RESPONSE_TRAILER)
        return BULLA_OK;
    return read_field(response, line, colon, line + start, end - start, error);
}

/* The empty line after the headers: how the body is framed (RFC 9112 section 6.3). */
static int end_head(struct upstream_response *response, bulla_error *error)
{
    if (response->has_length && response->is_chunked)
        return bulla_fail(error, BULLA_E_INPUT, "its answer has both a Content-Length and a Transfer-Encoding");
    if (response->status < 200) {
        if (++response->interim > MOST_INTERIM)
            return bulla_fail(error, BULLA_E_LIMIT, "it sent more than %d interim answers", MOST_INTERIM);
        response->has_length = response->is_chunked = response->closes = 0;
        buffer_clear(&response->headers);
        response->content_type[0] = 0;
        response->retry_after = 0;
        response->state = RESPONSE_STATUS;
        return BULLA_OK;
    }
    int is_empty = response->status == 204 || response->status == 304 || (response->has_length && response->left == 0);
    response->state = is_empty               ? RESPONSE_COMPLETE
                      : response->is_chunked ? RESPONSE_CHUNK_SIZE
                      : response->has_length ? RESPONSE_BODY_LENGTH
                                             : RESPONSE_BODY_CLOSE;
    if (response->sink.head && response->sink.head(response->sink.context))
        response->state = RESPONSE_STOPPED;
    return BULLA_OK;
}

/* chunk-size [chunk-ext] (RFC 9112 section 7.1); extensions mean nothing here. */
static int read_chunk_size(struct upstream_response *response, const char *line, size_t length, bulla_error *error)
{
    uint64_t size = 0;
    size_t at = 0;
    for (; at < length; at++) {
        char c = line[at];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            break;
        if (size >> 56)
            return bulla_fail(error, BULLA_E_INPUT, "a chunk of its answer has an impossible size");
        size = size << 4 | (uint64_t)digit;
    }
    if (at == 0 || (at < length && line[at] != ';' && line[at] != ' ' && line[at] != '\t'))
        return bulla_fail(error, BULLA_E_INPUT, "a chunk of its answer has no size in hexadecimal digits");
    response->left = size;
    response->state = size > 0 ? RESPONSE_CHUNK_DATA : RESPONSE_TRAILER;
    return BULLA_OK;
}

static int read_line(struct upstream_response *response, const char *line, size_t length, bulla_error *error)
{
    switch (response->state) {
    case RESPONSE_STATUS:
        return read_status_line(response, line, length, error);
    case RESPONSE_HEADER:
        return length == 0 ? end_head(response, error) : read_header_line(response, line, length, error);
    case RESPONSE_TRAILER:
        if (length > 0)
            return read_header_line(response, line, length, error);
        response->state = RESPONSE_COMPLETE;
        return BULLA_OK;
    case RESPONSE_CHUNK_END:
        if (length > 0)
            return bulla_fail(error, BULLA_E_INPUT, "a chunk of its answer is longer than its size");
        response->state = RESPONSE_CHUNK_SIZE;
        return BULLA_OK;
    default:
        return read_chunk_size(response, line, length, error);
    }
}

/* Takes bytes up to the end of a line, and the line where it is there. Returns how many it took, 0 after an error. */
static size_t take_line(struct upstream_response *response, const uint8_t *bytes, size_t length, bulla_error *error)
{
    const uint8_t *end = memchr(bytes, '\n', length);
    size_t taken = end ? (size_t)(end - bytes) + 1 : length;
    int is_head = response->state == RESPONSE_STATUS || response->state == RESPONSE_HEADER ||
                  response->state == RESPONSE_TRAILER;
    if (response->line.length + taken > MOST_LINE_BYTES ||
        (is_head && (response->head_bytes += taken) > MOST_HEAD_BYTES)) {
        bulla_fail(error, BULLA_E_LIMIT, "the headers of its answer are longer than %d bytes", MOST_HEAD_BYTES);
        return 0;
    }
    buffer_append(&response->line, bytes, taken);
    if (response->line.error.code != BULLA_OK) {
        bulla_fail(error, response->line.error.code, "%s", response->line.error.text);
        return 0;
    }
    if (!end)
        return taken;
    size_t line = response->line.length - 1; /* without LF */
    if (line == 0 || response->line.data[line - 1] != '\r') {
        bulla_fail(error, BULLA_E_INPUT, "a line of its answer's headers or chunks ends without CR");
        return 0;
    }
    if (is_head && ++response->head_lines > MOST_HEAD_LINES) {
        bulla_fail(error, BULLA_E_LIMIT, "its answer has more than %d header lines", MOST_HEAD_LINES);
        return 0;
    }
    int code = read_line(response, (const char *)response->line.data, line - 1, error);
    buffer_clear(&response->line);
    return code == BULLA_OK ? taken : 0;
}

static size_t take_body(struct upstream_response *response, const uint8_t *bytes, size_t length)
{
    size_t taken = length;
    if (response->state != RESPONSE_BODY_CLOSE) {
        taken = response->left < length ? (size_t)response->left : length;
        response->left -= taken;
    }
    if (response->sink.body && response->sink.body(response->sink.context, bytes, taken))
        response->state = RESPONSE_STOPPED;
    else if (response->state == RESPONSE_BODY_LENGTH && response->left == 0)
        response->state = RESPONSE_COMPLETE;
    else if (response->state == RESPONSE_CHUNK_DATA && response->left == 0)
        response->state = RESPONSE_CHUNK_END;
    return taken;
}

int upstream_response_feed(struct upstream_response *response, const uint8_t *bytes, size_t length, bulla_error *error)
{
    if (response->state == RESPONSE_FAILED)
        return bulla_fail(error, BULLA_E_INPUT, "its answer is broken");
    while (length > 0 && response->state != RESPONSE_COMPLETE && response->state != RESPONSE_STOPPED) {
        int is_body = response->state == RESPONSE_BODY_LENGTH || response->state == RESPONSE_BODY_CLOSE ||
                      response->state == RESPONSE_CHUNK_DATA;
        bulla_error own = {0};
        size_t taken = is_body ? take_body(response, bytes, length) : take_line(response, bytes, length, &own);
        if (own.code != BULLA_OK) {
            response->state = RESPONSE_FAILED;
            return bulla_fail(error, own.code, "%s", own.text);
        }
        bytes += taken;
        length -= taken;
    }
    response->has_more |= length > 0;
    return BULLA_OK;
}

int upstream_response_close(struct upstream_response *response, bulla_error *error)
{
    if (response->state == RESPONSE_BODY_CLOSE)
        response->state = RESPONSE_COMPLETE;
    if (response->state == RESPONSE_COMPLETE || response->state == RESPONSE_STOPPED)
        return BULLA_OK;
    if (response->state == RESPONSE_STATUS && response->head_bytes == 0)
        return bulla_fail(error, BULLA_E_INPUT, "it closed the connection without an answer");
    return bulla_fail(error, BULLA_E_INPUT, "it closed the connection in the middle of its answer");
}

int upstream_response_next_header(const struct upstream_response *response, size_t *at, const char **name,
                                  const char **value)
{
    if (*at >= response->headers.length)
        return 0;
    *name = (const char *)response->headers.data + *at;
    *value = *name + strlen(*name) + 1;
    *at += (size_t)(*value - *name) + strlen(*value) + 1;
    return 1;
}

const char *upstream_response_header(const struct upstream_response *response, const char *name)
{
    const char *found, *value;
    for (size_t at = 0; upstream_response_next_header(response, &at, &found, &value);)
        if (strcmp(found, name) == 0)
            return value;
    return NULL;
}

int upstream_response_can_follow(const struct upstream_response *response)
{
    int is_framed = response->has_length || response->is_chunked || response->status == 204 || response->status == 304;
    return response->state == RESPONSE_COMPLETE && is_framed && !response->closes && !response->has_more;
}

void upstream_response_free(struct upstream_response *response)
{
    buffer_free(&response->headers);
    buffer_free(&response->line);
}
