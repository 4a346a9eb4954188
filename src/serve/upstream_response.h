/* A strict reader of one HTTP/1.1 response (RFC 9112), given in pieces cut anywhere. What two readers could understand
 * differently is an error: bare LF, both Content-Length and Transfer-Encoding, a length given twice, white space before
 * a colon, folded lines, control characters, codings other than chunked. Memory is bounded whatever comes. */
#ifndef SERVE_UPSTREAM_RESPONSE_H
#define SERVE_UPSTREAM_RESPONSE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

struct response_sink {
    void *context;
    /* Final status line and headers are there. Not 0: reading stops. */
    int (*head)(void *context);
    /* A piece of the body, decoded. Not 0: reading stops. */
    int (*body)(void *context, const uint8_t *bytes, size_t length);
};

enum response_state {
    RESPONSE_STATUS, RESPONSE_HEADER, RESPONSE_BODY_LENGTH, RESPONSE_BODY_CLOSE, RESPONSE_CHUNK_SIZE,
    RESPONSE_CHUNK_DATA, RESPONSE_CHUNK_END, RESPONSE_TRAILER, RESPONSE_COMPLETE, RESPONSE_STOPPED, RESPONSE_FAILED
};

/* Zero-initialise, set `sink`, free with upstream_response_free. */
struct upstream_response {
    struct response_sink sink;
    enum response_state state;
    int status;
    unsigned retry_after;  /* of a Retry-After in seconds; at most 3,600; 0: none */
    char content_type[64]; /* without parameters, in lower case; "" for none */
    /* private */
    struct buffer line;
    size_t head_bytes;
    unsigned head_lines, interim;
    int has_length, is_chunked;
    uint64_t left; /* of the body or chunk */
};

/* BULLA_OK, also when the sink stopped it and after the end (bytes after it are ignored); BULLA_E_INPUT,
 * BULLA_E_LIMIT, BULLA_E_MEMORY: the response is broken from here on. */
int upstream_response_feed(struct upstream_response *response, const uint8_t *bytes, size_t length, bulla_error *error);
/* The connection was closed in order: BULLA_E_INPUT where the response is not whole. */
int upstream_response_close(struct upstream_response *response, bulla_error *error);
void upstream_response_free(struct upstream_response *response);

#endif
