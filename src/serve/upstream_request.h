/* A request as OpenAI's API and the engines' own fields beside it spell it (docs/upstream.md tables them). */
#ifndef SERVE_UPSTREAM_REQUEST_H
#define SERVE_UPSTREAM_REQUEST_H

#include "base/buffer.h"
#include "serve/backend.h"

/* Below the URL's prefix: "/v1/chat/completions", "/v1/completions", "/v1/embeddings". */
const char *upstream_request_path(enum answer_kind kind);
/* Appends the JSON body; `model` is the name that the upstream knows. */
void upstream_request_write(const struct answer_request *request, const char *model, struct buffer *out);

#endif
