/* What the front and a worker tell each other over their socket (docs/processes.md).
 *
 * A stream of frames: u32 length of the body, u32 type, then the body, whose length is a multiple of 8. Integers have
 * the machine's order (little-endian): both ends run on it. Fields lie where their type wants them, so that arrays are
 * used in place: a reader gives pointers into the frame, which must start at a multiple of 8 in memory. Neither
 * end trusts the other: every length is checked against the frame, and every flag and count against its bounds.
 *
 * Writers append a frame to a buffer (its error handling). Readers return BULLA_E_INPUT, naming the frame, where a body
 * is not what its writer makes. */
#ifndef SERVE_WIRE_H
#define SERVE_WIRE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "exec/scheduler.h"

enum {
    WIRE_VERSION = 2,
    WIRE_HEAD_BYTES = 8,
    WIRE_MOST_BODY = 32 << 20,
    WIRE_MOST_CHOICES = 128,
    WIRE_MOST_TENANT = 255,
    WIRE_MOST_ISA = 31
};

enum wire_type {
    WIRE_CONFIGURE = 1, /* front: first of all */
    WIRE_SUBMIT,        /* front: an answer's requests, one for each choice */
    WIRE_CANCEL,        /* front */
    WIRE_READY,         /* worker: first of all */
    WIRE_TOKEN,         /* worker */
    WIRE_EMBEDDING,     /* worker */
    WIRE_FINISH,        /* worker: last of a request that was accepted */
    WIRE_REFUSED,       /* worker: all there is of one that was not */
    WIRE_TYPES
};

struct wire_frame {
    enum wire_type type;
    const uint8_t *body;
    size_t length;
};

/* The frame at `data`, of which `available` bytes are there. *taken: its bytes, 0 where it is not whole yet; *needed:
 * how many it will have, as far as its head is there. BULLA_E_INPUT where it is none. */
int wire_next(const uint8_t *data, size_t available, struct wire_frame *frame, size_t *taken, size_t *needed,
              bulla_error *error);

struct wire_configure {
    uint32_t threads, most_running, speculate;
    int has_prefix_cache;
    uint64_t pages;
    char isa[WIRE_MOST_ISA + 1]; /* "": the best */
};
void wire_write_configure(struct buffer *out, const struct wire_configure *configure);
int wire_read_configure(const struct wire_frame *frame, struct wire_configure *configure, bulla_error *error);

struct wire_ready {
    uint32_t threads, context, vocabulary;
    uint64_t pages;
    uint8_t root[32]; /* of the model, as the worker computed it */
    char isa[WIRE_MOST_ISA + 1];
};
void wire_write_ready(struct buffer *out, const struct wire_ready *ready);
int wire_read_ready(const struct wire_frame *frame, struct wire_ready *ready, bulla_error *error);

/* What one choice of an answer has for itself. */
struct wire_choice {
    uint64_t id, seed;
};
/* A request with all that it points at, made once for each choice. What is read points into the frame, and to `stops`;
 * its own id and seed are the first choice's. Ids, and fields that the scheduler checks, are as sent. */
struct wire_submit {
    struct scheduler_request request;
    struct scheduler_text stops[SCHEDULER_MOST_STOPS];
    const struct wire_choice *choices; /* [choice_count], at least one */
    size_t choice_count;
};
/* Whether a frame can hold it: BULLA_E_LIMIT naming what is too long. */
int wire_check_submit(const struct scheduler_request *request, size_t choice_count, bulla_error *error);
void wire_write_submit(struct buffer *out, const struct scheduler_request *request, const struct wire_choice *choices,
                       size_t choice_count);
int wire_read_submit(const struct wire_frame *frame, struct wire_submit *submit, bulla_error *error);

void wire_write_cancel(struct buffer *out, uint64_t request);
int wire_read_cancel(const struct wire_frame *frame, uint64_t *request, bulla_error *error);

void wire_write_token(struct buffer *out, const struct scheduler_token *token);
int wire_read_token(const struct wire_frame *frame, struct scheduler_token *token, bulla_error *error);

void wire_write_embedding(struct buffer *out, uint64_t request, const float *values, size_t count);
int wire_read_embedding(const struct wire_frame *frame, uint64_t *request, const float **values, size_t *count,
                        bulla_error *error);

/* A finish: stop and error text are NUL-terminated in the frame. */
struct wire_finish {
    struct scheduler_finish finish;
    int error_code;         /* with SCHEDULER_FAILED */
    const char *error_text;
};
void wire_write_finish(struct buffer *out, const struct scheduler_finish *finish);
int wire_read_finish(const struct wire_frame *frame, struct wire_finish *finish, bulla_error *error);

void wire_write_refused(struct buffer *out, uint64_t request, const bulla_error *reason);
int wire_read_refused(const struct wire_frame *frame, uint64_t *request, int *code, const char **text,
                      bulla_error *error);

/* Shared memory that the worker writes and the front reads. Each number is whole; together they may be of two moments.
 * The front believes none of them: they are shown, and decide nothing. */
struct wire_counters {
    _Atomic uint64_t running, waiting, pages_used, pages_total;
    _Atomic uint64_t prefix_queried, prefix_reused;
    _Atomic uint64_t prompt_tokens, output_tokens, preemptions;
    _Atomic uint64_t steps;
};
enum { WIRE_COUNTERS_BYTES = 4096 };
_Static_assert(sizeof(struct wire_counters) <= WIRE_COUNTERS_BYTES, "the counters fit their page");

#endif
