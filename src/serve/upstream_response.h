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
    int keeps_headers;     /* set by the caller: upstream_response_header knows all of them */
    int has_length, is_chunked;
    int closes;            /* the server closes the connection after it: HTTP/1.0, or "Connection: close" */
    /* private */
    int has_more;          /* bytes came behind its end */
    struct buffer headers; /* each "name", NUL, "value", NUL */
    struct buffer line;
    size_t head_bytes;
    unsigned head_lines, interim;
    uint64_t left; /* of the body or chunk */
};

/* BULLA_OK, also when the sink stopped it and after the end (bytes after it are ignored); BULLA_E_INPUT,
 * BULLA_E_LIMIT, BULLA_E_MEMORY: the response is broken from here on. */
int upstream_response_feed(struct upstream_response *response, const uint8_t *bytes, size_t length, bulla_error *error);
/* The connection was closed in order: BULLA_E_INPUT where the response is not whole. */
int upstream_response_close(struct upstream_response *response, bulla_error *error);
/* A header by its name in lower case, the first where it came several times; NULL for none. */
const char *upstream_response_header(const struct upstream_response *response, const char *name);
/* Walks over them: *at is 0 at first. 0 at the end. */
int upstream_response_next_header(const struct upstream_response *response, size_t *at, const char **name,
                                  const char **value);
/* Whether another response can follow on the same connection: this one is whole, framed by itself, and nobody closes. */
int upstream_response_can_follow(const struct upstream_response *response);
void upstream_response_free(struct upstream_response *response);

#endif
