/* What an upstream tells, read strictly and turned into calls of an answer's sink: the chunks of a stream
 * (docs/upstream.md tables the fields), embeddings, and errors. Nothing in it is trusted: numbers, indices and sizes
 * are checked, and the text of an answer is bounded. */
#ifndef SERVE_UPSTREAM_REPLY_H
#define SERVE_UPSTREAM_REPLY_H

#include "base/arena.h"
#include "serve/backend.h"

enum {
    REPLY_MOST_TOOLS = 128,           /* tool calls of one choice */
    REPLY_MOST_TEXT_BYTES = 64 << 20, /* passed on for one answer, all choices and log probabilities together */
    REPLY_MOST_VALUES = 1 << 16       /* of an embedding */
};

struct reply_choice {
    int is_finished;
    uint32_t tools[REPLY_MOST_TOOLS / 32]; /* bit set: calls that have begun */
};

/* One answer's state. */
struct upstream_reply {
    enum answer_kind kind;
    uint32_t choice_count;
    struct answer_sink sink;
    int is_stopped; /* set by the caller, also inside a call of the sink: nothing more is told */
    int is_done;    /* [DONE] came */
    struct answer_usage usage;  /* as told; output_tokens counted until then */
    int has_usage;
    uint64_t first_delta;       /* clock_nanoseconds(), 0: none yet */
    /* private */
    const char *id;
    uint64_t text_bytes;
    struct reply_choice *choices; /* [choice_count] */
    struct arena kept;            /* texts of the answer_error */
};

/* `request` lives until upstream_reply_close. */
int upstream_reply_open(struct upstream_reply *reply, const struct answer_request *request,
                        const struct answer_sink *sink, bulla_error *error);
void upstream_reply_close(struct upstream_reply *reply);

/* All below return BULLA_OK, or another code with *problem filled: its texts live until upstream_reply_close.
 * `sink.fail` and `sink.end` are the caller's to call. */

/* One event's data. */
int upstream_reply_chunk(struct upstream_reply *reply, const char *text, size_t length, struct answer_error *problem);
/* The stream has ended in order: an error where a choice has not finished. */
int upstream_reply_end(struct upstream_reply *reply, struct answer_error *problem);
/* Choices that have not finished end with what they have: "length", with this stop text. */
void upstream_reply_cut(struct upstream_reply *reply, const char *stop);
/* The body of an answer to /v1/embeddings. */
int upstream_reply_embedding(struct upstream_reply *reply, const char *text, size_t length,
                             struct answer_error *problem);
/* Fills *problem from an answer with this status (not 200) and body. 4xx stay what they are, in the upstream's words,
 * but for 401, 403 and 407, which are about the key that the operator set, not the client's: they become 502, as 3xx and
 * 5xx do. */
void upstream_reply_refusal(struct upstream_reply *reply, int status, unsigned retry_after, const char *body,
                            size_t length, struct answer_error *problem);

/* Fills *problem; `type` and `code` are literals. */
void upstream_problem(struct answer_error *problem, int status, const char *type, const char *code,
                      unsigned retry_after, const char *format, ...) __attribute__((format(printf, 6, 7)));

#endif
