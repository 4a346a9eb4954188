#define _GNU_SOURCE
#include "load_stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MOST_LINE = 1 << 20 };
enum state { STATUS_LINE, HEADERS, BODY, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILERS, WHOLE };

void load_stream_begin(struct load_stream *stream)
{
    struct buffer line = stream->line;
    buffer_clear(&line);
    memset(stream, 0, sizeof *stream);
    stream->line = line;
}

void load_stream_free(struct load_stream *stream)
{
    buffer_free(&stream->line);
}

static enum load_step broken(struct load_stream *stream, const char *why, const char *line, size_t length)
{
    snprintf(stream->problem, sizeof stream->problem, "%s: %.*s", why, (int)(length > 100 ? 100 : length), line);
    return LOAD_BROKEN;
}

/* --- events --- */

/* The first byte of a member's value, or NULL. Quotes inside JSON's strings are escaped: this finds keys only. */
static const char *value_of(const char *line, size_t length, const char *key)
{
    size_t size = strlen(key);
    const char *found = memmem(line, length, key, size), *end = line + length;
    if (!found)
        return NULL;
    found += size;
    while (found < end && (*found == ':' || *found == ' '))
        found++;
    return found < end ? found : NULL;
}

static int holds_text(const char *line, size_t length)
{
    static const char *const keys[] = {"\"content\"", "\"text\"", "\"reasoning_content\"", "\"arguments\""};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const char *value = value_of(line, length, keys[i]);
        if (value && value + 1 < line + length && value[0] == '"' && value[1] != '"')
            return 1;
    }
    return 0;
}

static uint64_t number_of(const char *line, size_t length, const char *key)
{
    const char *value = value_of(line, length, key);
    uint64_t number = 0;
    for (; value && value < line + length && *value >= '0' && *value <= '9' && number < UINT64_MAX / 10 - 9; value++)
        number = number * 10 + (uint64_t)(*value - '0');
    return number;
}

static void note_error(struct load_stream *stream, const char *line, size_t length)
{
    if (!stream->has_error)
        snprintf(stream->problem, sizeof stream->problem, "%.*s", (int)(length > 250 ? 250 : length), line);
    stream->has_error = 1;
}

/* A line of the body. */
static void read_event(struct load_stream *stream, const char *line, size_t length)
{
    if (length && line[length - 1] == '\r')
        length--;
    if (!stream->is_events || stream->status != 200) {
        if (length && (stream->status != 200 || value_of(line, length, "\"error\"")))
            note_error(stream, line, length);
        stream->output_tokens += number_of(line, length, "\"completion_tokens\"");
        return;
    }
    if (length < 5 || memcmp(line, "data:", 5) != 0)
        return;
    line += 5;
    length -= 5;
    if (holds_text(line, length)) {
        stream->texts++;
        return;
    }
    if (memmem(line, length, "[DONE]", 6) && length < 9)
        stream->is_done = 1;
    else if (value_of(line, length, "\"error\""))
        note_error(stream, line, length);
    uint64_t tokens = number_of(line, length, "\"completion_tokens\"");
    if (tokens) {
        stream->output_tokens = tokens;
        stream->prompt_tokens = number_of(line, length, "\"prompt_tokens\"");
    }
}

/* The next line without its line feed, in place where it lies whole in what was read; NULL: it goes on. */
static const char *take_line(struct load_stream *stream, const char **at, const char *end, size_t *length)
{
    const char *feed = memchr(*at, '\n', (size_t)(end - *at)), *line = *at;
    size_t size = (size_t)((feed ? feed : end) - *at);
    *at = feed ? feed + 1 : end;
    if (feed && stream->line.length == 0) {
        *length = size;
        return line;
    }
    if (stream->line.length + size <= MOST_LINE)
        buffer_append(&stream->line, line, size);
    if (!feed)
        return NULL;
    *length = stream->line.length;
    stream->line.length = 0; /* its bytes stay until more are appended */
    return stream->line.data ? (const char *)stream->line.data : "";
}

static void read_body(struct load_stream *stream, const char *bytes, size_t length)
{
    const char *end = bytes + length, *line;
    while (bytes < end && (line = take_line(stream, &bytes, end, &length)))
        read_event(stream, line, length);
}

/* A body that does not end with a line feed. */
static void end_body(struct load_stream *stream)
{
    if (stream->line.length)
        read_event(stream, (const char *)stream->line.data, stream->line.length);
    stream->line.length = 0;
    stream->state = WHOLE;
}

/* --- HTTP --- */

static int names(const char *line, size_t length, const char *name, const char **value, size_t *value_length)
{
    size_t size = strlen(name);
    if (length <= size || line[size] != ':' || strncasecmp(line, name, size) != 0)
        return 0;
    *value = line + size + 1;
    *value_length = length - size - 1;
    while (*value_length && **value == ' ') {
        ++*value;
        --*value_length;
    }
    return 1;
}

static int holds_word(const char *value, size_t length, const char *word)
{
    for (size_t at = 0, size = strlen(word); at + size <= length; at++)
        if (strncasecmp(value + at, word, size) == 0)
            return 1;
    return 0;
}

static void read_header(struct load_stream *stream, const char *line, size_t length)
{
    const char *value;
    size_t size;
    if (names(line, length, "content-length", &value, &size)) {
        stream->body = LOAD_BODY_LENGTH;
        stream->left = strtoull(value, NULL, 10);
    } else if (names(line, length, "transfer-encoding", &value, &size)) {
        if (holds_word(value, size, "chunked"))
            stream->body = LOAD_BODY_CHUNKED;
    } else if (names(line, length, "connection", &value, &size)) {
        stream->closes = holds_word(value, size, "close");
    } else if (names(line, length, "content-type", &value, &size)) {
        stream->is_events = holds_word(value, size, "text/event-stream");
    }
}

static enum load_step begin_body(struct load_stream *stream)
{
    if (stream->status >= 100 && stream->status < 200) { /* the answer itself follows */
        load_stream_begin(stream);
        return LOAD_MORE;
    }
    if (stream->body == LOAD_BODY_NONE && stream->status != 204)
        stream->body = LOAD_BODY_TO_THE_END;
    stream->state = stream->body == LOAD_BODY_CHUNKED ? CHUNK_SIZE : BODY;
    if (stream->body == LOAD_BODY_NONE || (stream->body == LOAD_BODY_LENGTH && stream->left == 0))
        stream->state = WHOLE;
    return LOAD_MORE;
}

static enum load_step read_line(struct load_stream *stream, const char *line, size_t length)
{
    if (length && line[length - 1] == '\r')
        length--;
    switch (stream->state) {
    case STATUS_LINE:
        if (length < 12 || memcmp(line, "HTTP/1.", 7) != 0)
            return broken(stream, "no HTTP status line", line, length);
        stream->status = atoi(line + 9);
        stream->closes = line[7] == '0';
        stream->state = HEADERS;
        return LOAD_MORE;
    case HEADERS:
        if (length == 0)
            return begin_body(stream);
        read_header(stream, line, length);
        return LOAD_MORE;
    case CHUNK_SIZE: {
        char *end;
        stream->left = strtoull(line, &end, 16);
        if (end == line)
            return broken(stream, "no chunk size", line, length);
        stream->state = stream->left ? CHUNK : TRAILERS;
        return LOAD_MORE;
    }
    case CHUNK_END:
        stream->state = CHUNK_SIZE;
        return length ? broken(stream, "a chunk longer than its size", line, length) : LOAD_MORE;
    default: /* TRAILERS */
        if (length == 0)
            end_body(stream);
        return LOAD_MORE;
    }
}

/* A chunk's size comes between parts of a line of the body: it is read apart from it, byte by byte. */
static enum load_step read_framing(struct load_stream *stream, const char **at, const char *end)
{
    char line[80];
    size_t length;
    if (stream->body != LOAD_BODY_CHUNKED || stream->state == HEADERS) {
        const char *whole = take_line(stream, at, end, &length);
        return whole ? read_line(stream, whole, length) : LOAD_MORE;
    }
    struct load_stream_framing *framing = &stream->framing;
    while (*at < end) {
        char byte = *(*at)++;
        if (byte != '\n' && framing->length < sizeof framing->text)
            framing->text[framing->length++] = byte;
        if (byte != '\n')
            continue;
        length = framing->length < sizeof line ? framing->length : sizeof line - 1;
        memcpy(line, framing->text, length);
        line[length] = 0;
        framing->length = 0;
        return read_line(stream, line, length);
    }
    return LOAD_MORE;
}

enum load_step load_stream_read(struct load_stream *stream, const char *bytes, size_t length, size_t *used)
{
    const char *at = bytes, *end = bytes + length;
    enum load_step step = LOAD_MORE;
    while (at < end && step == LOAD_MORE && stream->state != WHOLE) {
        if (stream->state != BODY && stream->state != CHUNK) {
            step = read_framing(stream, &at, end);
            continue;
        }
        size_t part = (size_t)(end - at);
        if (stream->body != LOAD_BODY_TO_THE_END && part > stream->left)
            part = (size_t)stream->left;
        read_body(stream, at, part);
        at += part;
        stream->left -= stream->body == LOAD_BODY_TO_THE_END ? 0 : part;
        if (stream->body == LOAD_BODY_LENGTH && stream->left == 0)
            end_body(stream);
        else if (stream->body == LOAD_BODY_CHUNKED && stream->left == 0)
            stream->state = CHUNK_END;
    }
    *used = (size_t)(at - bytes);
    if (stream->line.error.code != BULLA_OK)
        return broken(stream, "out of memory", "", 0);
    return step == LOAD_MORE && stream->state == WHOLE ? LOAD_WHOLE : step;
}

enum load_step load_stream_end(struct load_stream *stream)
{
    if (stream->state == BODY && stream->body == LOAD_BODY_TO_THE_END) {
        end_body(stream);
        return LOAD_WHOLE;
    }
    return broken(stream, "the connection ended inside the answer", "", 0);
}
