/* Server-sent events (HTML Living Standard, section 9.2.6, "Interpreting an event stream"), given in pieces cut
 * anywhere. Lines end with CRLF, LF or CR. Only `data` matters here: its lines are joined by LF; comments and other
 * fields are skipped. An event that the end of the stream cuts off is dropped, as the standard says. */
#ifndef SERVE_UPSTREAM_EVENTS_H
#define SERVE_UPSTREAM_EVENTS_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

enum { EVENT_MOST_BYTES = 4 << 20 }; /* of one event's data, and of one line */

/* Zero-initialise, set `context` and `event`, free with upstream_events_free. */
struct upstream_events {
    void *context;
    /* One event's data; NUL follows it. Not 0: reading stops. */
    int (*event)(void *context, const char *data, size_t length);
    /* private */
    struct buffer line, data;
    int has_data, skips_lf, has_begun, is_stopped;
};

/* BULLA_E_LIMIT: an event or line longer than EVENT_MOST_BYTES; BULLA_E_MEMORY. */
int upstream_events_feed(struct upstream_events *events, const uint8_t *bytes, size_t length, bulla_error *error);
void upstream_events_free(struct upstream_events *events);

#endif
