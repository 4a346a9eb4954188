/* One HTTP answer with server-sent events, read as its bytes come, at little cost: only what the load generator counts
 * is looked at. Bodies by length, chunked (RFC 9112 section 7.1), or as far as the connection goes. */
#ifndef BENCH_LOAD_STREAM_H
#define BENCH_LOAD_STREAM_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

enum load_body { LOAD_BODY_NONE, LOAD_BODY_LENGTH, LOAD_BODY_CHUNKED, LOAD_BODY_TO_THE_END };

/* Zero-initialise, load_stream_begin before each answer, load_stream_free at the end. */
struct load_stream {
    int state;
    enum load_body body;
    uint64_t left;      /* of the body or chunk */
    struct buffer line; /* a header line or an event, cut by the end of what was read */
    struct load_stream_framing {
        char text[64];
        size_t length;
    } framing; /* a chunk's size, cut likewise */
    int status;         /* HTTP */
    int closes;         /* the server closes the connection after this answer */
    int is_events;      /* text/event-stream */
    int is_done;        /* data: [DONE] came */
    int has_error;      /* an event or a body told of an error; `problem` has its beginning */
    uint64_t texts;     /* events that held a piece of text, of thinking or of a call */
    uint64_t output_tokens, prompt_tokens; /* of the usage, 0 where none came */
    char problem[300];
};

void load_stream_begin(struct load_stream *stream);
enum load_step { LOAD_MORE, LOAD_WHOLE, LOAD_BROKEN };
/* LOAD_WHOLE: the answer ended; *used bytes were its own. LOAD_BROKEN: this is no HTTP answer; `problem` says why. */
enum load_step load_stream_read(struct load_stream *stream, const char *bytes, size_t length, size_t *used);
/* The connection ended: whether the answer was whole. */
enum load_step load_stream_end(struct load_stream *stream);
void load_stream_free(struct load_stream *stream);

#endif
