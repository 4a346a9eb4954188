#include "serve/upstream_events.h"

#include <string.h>

enum { KEPT_BYTES = 64 << 10 }; /* of a buffer between events: a large event's memory is given back */

static void reset(struct buffer *buffer)
{
    if (buffer->capacity > KEPT_BYTES) {
        buffer_free(buffer);
        memset(buffer, 0, sizeof *buffer);
    } else {
        buffer_clear(buffer);
    }
}

static void dispatch(struct upstream_events *events)
{
    events->has_data = 0;
    if (events->data.length == 0)
        return; /* as the standard says: an event without data is none */
    if (events->event(events->context, (const char *)events->data.data, events->data.length))
        events->is_stopped = 1;
    reset(&events->data);
}

/* "name: value", "name:value" or "name". */
static void take_line(struct upstream_events *events, const char *line, size_t length)
{
    if (!events->has_begun && length >= 3 && memcmp(line, "\xEF\xBB\xBF", 3) == 0) {
        line += 3; /* one byte order mark may begin the stream */
        length -= 3;
    }
    events->has_begun = 1;
    if (length == 0) {
        dispatch(events);
        return;
    }
    if (length < 4 || memcmp(line, "data", 4) != 0 || (length > 4 && line[4] != ':'))
        return;
    size_t start = length > 4 ? 5 : 4;
    if (start < length && line[start] == ' ')
        start++;
    if (events->has_data)
        buffer_append_byte(&events->data, '\n');
    events->has_data = 1;
    buffer_append(&events->data, line + start, length - start);
}

static size_t find_line_end(const uint8_t *bytes, size_t length)
{
    const uint8_t *lf = memchr(bytes, '\n', length);
    size_t limit = lf ? (size_t)(lf - bytes) : length;
    const uint8_t *cr = memchr(bytes, '\r', limit);
    return cr ? (size_t)(cr - bytes) : limit;
}

int upstream_events_feed(struct upstream_events *events, const uint8_t *bytes, size_t length, bulla_error *error)
{
    size_t at = 0;
    while (at < length && !events->is_stopped) {
        if (events->skips_lf && bytes[at] == '\n')
            at++;
        events->skips_lf = 0;
        size_t end = at + find_line_end(bytes + at, length - at);
        size_t held = events->line.length + (end - at);
        if (held > EVENT_MOST_BYTES || events->data.length + held > EVENT_MOST_BYTES)
            return bulla_fail(error, BULLA_E_LIMIT, "an event of its answer is longer than %d bytes", EVENT_MOST_BYTES);
        if (end == length || events->line.length > 0)
            buffer_append(&events->line, bytes + at, end - at);
        if (end < length) {
            int is_held = events->line.length > 0;
            take_line(events, is_held ? (const char *)events->line.data : (const char *)bytes + at, held);
            reset(&events->line);
            events->skips_lf = bytes[end] == '\r';
        }
        if (events->line.error.code != BULLA_OK || events->data.error.code != BULLA_OK) {
            const bulla_error *own = events->line.error.code != BULLA_OK ? &events->line.error : &events->data.error;
            return bulla_fail(error, own->code, "%s", own->text);
        }
        at = end + 1;
    }
    return BULLA_OK;
}

void upstream_events_free(struct upstream_events *events)
{
    buffer_free(&events->line);
    buffer_free(&events->data);
}
