/* The worker's side of serve/native.h: one thread that reads messages, steps the scheduler and writes what it tells.
 *
 * It blocks only where there is nothing to compute, or where the front does not read what it is told: what waits to be
 * sent has a bound, behind which no step is made. Once it has said READY it opens nothing any more: it needs
 * memory, time, its threads and the socket, and can be confined to those. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"
#include "bulla/engine.h"
#include "serve/native.h"
#include "serve/wire.h"

enum {
    READ_BYTES = 1 << 18,
    MOST_UNSENT = 4 << 20, /* bytes; no step is made while more wait for the front to read them */
    MOST_RECEIVING = 4000000 /* nanoseconds between two steps */
};

struct worker {
    int socket;
    struct wire_counters *counters;
    bulla_model *model;
    bulla_engine *engine;
    struct scheduler *scheduler;
    uint8_t *in; /* [in_capacity]; a frame begins at its start */
    size_t in_length, in_capacity;
    struct buffer out;
    size_t sent; /* of out */
    int is_closed; /* by the front */
};

static int fail_with_errno(const char *what, bulla_error *error)
{
    char text[128];
    int number = errno;
    return bulla_fail(error, BULLA_E_IO, "%s: %s", what, strerror_r(number, text, sizeof text));
}

/* ---- The socket ---- */

/* Sends what it can without waiting. */
static int send_some(struct worker *worker, bulla_error *error)
{
    if (worker->out.error.code != BULLA_OK)
        return bulla_fail(error, worker->out.error.code, "%s", worker->out.error.text);
    while (worker->sent < worker->out.length) {
        ssize_t put = send(worker->socket, worker->out.data + worker->sent, worker->out.length - worker->sent,
                           MSG_DONTWAIT | MSG_NOSIGNAL);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        if (put < 0 && (errno == EPIPE || errno == ECONNRESET)) {
            worker->is_closed = 1;
            return BULLA_OK;
        }
        if (put < 0)
            return fail_with_errno("the server's socket cannot be written", error);
        worker->sent += (size_t)put;
    }
    if (worker->sent >= worker->out.length / 2) { /* moved at most as often as they are sent */
        buffer_drop_front(&worker->out, worker->sent);
        worker->sent = 0;
    }
    return BULLA_OK;
}

/* Reads what is there, at most what the buffer holds. *got: whether anything came. */
static int receive_some(struct worker *worker, int *got, bulla_error *error)
{
    ssize_t length;
    *got = 0;
    do
        length = recv(worker->socket, worker->in + worker->in_length, worker->in_capacity - worker->in_length,
                      MSG_DONTWAIT);
    while (length < 0 && errno == EINTR);
    if (length < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return BULLA_OK;
    if (length < 0 && errno != ECONNRESET)
        return fail_with_errno("the server's socket cannot be read", error);
    if (length <= 0) {
        worker->is_closed = 1;
        return BULLA_OK;
    }
    worker->in_length += (size_t)length;
    *got = 1;
    return BULLA_OK;
}

/* Waits until the socket can be used again. */
static int wait_for_socket(struct worker *worker, short events, bulla_error *error)
{
    struct pollfd poll_socket = {.fd = worker->socket, .events = events};
    if (poll(&poll_socket, 1, -1) < 0 && errno != EINTR)
        return fail_with_errno("the server's socket cannot be waited for", error);
    if (poll_socket.revents & POLLERR)
        worker->is_closed = 1;
    return BULLA_OK;
}

static size_t unsent(const struct worker *worker)
{
    return worker->out.length - worker->sent;
}

/* ---- Events of the scheduler, as frames ---- */

static void tell_token(void *context, const struct scheduler_token *token)
{
    wire_write_token(&((struct worker *)context)->out, token);
}

static void tell_embedding(void *context, uint64_t request, const float *values, size_t count)
{
    wire_write_embedding(&((struct worker *)context)->out, request, values, count);
}

static void tell_finish(void *context, const struct scheduler_finish *finish)
{
    wire_write_finish(&((struct worker *)context)->out, finish);
}

/* ---- Messages ---- */

/* Where one choice is refused those after it are not tried: the front gives up the whole answer. */
static int take_submit(struct worker *worker, const struct wire_frame *frame, bulla_error *error)
{
    struct wire_submit submit;
    bulla_error reason = {0};
    int code = wire_read_submit(frame, &submit, error);
    for (size_t i = 0; code == BULLA_OK && i < submit.choice_count; i++) {
        submit.request.id = submit.choices[i].id;
        submit.request.sampling.seed = submit.choices[i].seed;
        if (scheduler_add(worker->scheduler, &submit.request, &reason) == BULLA_OK)
            continue;
        bulla_fail(&reason, BULLA_E_INTERNAL, "the scheduler refused a request without a reason");
        wire_write_refused(&worker->out, submit.request.id, &reason);
        break;
    }
    return code;
}

static int take_frame(struct worker *worker, const struct wire_frame *frame, bulla_error *error)
{
    uint64_t request;
    if (frame->type == WIRE_SUBMIT)
        return take_submit(worker, frame, error);
    if (frame->type != WIRE_CANCEL)
        return bulla_fail(error, BULLA_E_INPUT, "the server sent a frame of type %d, which is not for a worker",
                          frame->type);
    int code = wire_read_cancel(frame, &request, error);
    if (code == BULLA_OK)
        scheduler_cancel(worker->scheduler, request);
    return code;
}

/* Makes room for the frame that begins the buffer. */
static int make_room(struct worker *worker, size_t needed, bulla_error *error)
{
    if (needed <= worker->in_capacity)
        return BULLA_OK;
    uint8_t *in = memory_resize(worker->in, needed, 1, error);
    if (!in)
        return BULLA_E_MEMORY;
    worker->in = in;
    worker->in_capacity = needed;
    return BULLA_OK;
}

/* Handles the whole frames that are there, at most `most`. */
static int take_frames(struct worker *worker, size_t most, int (*take)(struct worker *, const struct wire_frame *,
                                                                       bulla_error *),
                       bulla_error *error)
{
    size_t used = 0, taken, needed = 0;
    int code = BULLA_OK;
    while (code == BULLA_OK && most-- > 0) {
        struct wire_frame frame;
        code = wire_next(worker->in + used, worker->in_length - used, &frame, &taken, &needed, error);
        if (code != BULLA_OK || taken == 0)
            break;
        code = take(worker, &frame, error);
        used += taken;
        needed = 0;
    }
    if (used > 0)
        memmove(worker->in, worker->in + used, worker->in_length - used);
    worker->in_length -= used;
    return code == BULLA_OK ? make_room(worker, needed, error) : code;
}

/* ---- The loop ---- */

static void publish(struct worker *worker)
{
    struct scheduler_counters now;
    bulla_prefix_counters prefix;
    struct wire_counters *shared = worker->counters;
    scheduler_count(worker->scheduler, &now);
    bulla_engine_prefix_counters(worker->engine, &prefix);
    const struct {
        _Atomic uint64_t *to;
        uint64_t value;
    } numbers[] = {
        {&shared->running, now.running}, {&shared->waiting, now.waiting}, {&shared->pages_used, now.pages_used},
        {&shared->pages_total, now.pages_total}, {&shared->prefix_queried, prefix.positions_queried},
        {&shared->prefix_reused, prefix.positions_reused}, {&shared->prompt_tokens, now.prompt_tokens},
        {&shared->output_tokens, now.output_tokens}, {&shared->preemptions, now.preemptions}, {&shared->steps,
                                                                                               now.steps},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        atomic_store_explicit(numbers[i].to, numbers[i].value, memory_order_relaxed);
}

/* All that has come, until nothing more is there or too much waits to be sent. While there are answers to give it is
 * no more than comes in a few milliseconds: requests that come and come do not keep those from their next step. */
static int receive_all(struct worker *worker, bulla_error *error)
{
    uint64_t begin = clock_nanoseconds();
    int got = 1;
    while (got && !worker->is_closed && unsent(worker) < MOST_UNSENT &&
           (scheduler_is_idle(worker->scheduler) || clock_nanoseconds() - begin < MOST_RECEIVING)) {
        int code = receive_some(worker, &got, error);
        if (code == BULLA_OK && got)
            code = take_frames(worker, SIZE_MAX, take_frame, error);
        if (code != BULLA_OK)
            return code;
    }
    return BULLA_OK;
}

static int serve(struct worker *worker, bulla_error *error)
{
    int code = BULLA_OK;
    while (code == BULLA_OK && !worker->is_closed) {
        code = receive_all(worker, error);
        int is_full = unsent(worker) >= MOST_UNSENT;
        int is_idle = scheduler_is_idle(worker->scheduler);
        if (code == BULLA_OK && !is_full && !is_idle && !worker->is_closed)
            code = scheduler_step(worker->scheduler, error);
        publish(worker);
        if (code == BULLA_OK)
            code = send_some(worker, error);
        is_full = unsent(worker) >= MOST_UNSENT;
        is_idle = scheduler_is_idle(worker->scheduler);
        if (code == BULLA_OK && !worker->is_closed && (is_full || is_idle))
            code = wait_for_socket(worker, is_full ? POLLOUT : (short)(POLLIN | (unsent(worker) ? POLLOUT : 0)), error);
    }
    return code;
}

/* ---- Start ---- */

static int open_engine(struct worker *worker, const struct wire_configure *configure, bulla_error *error)
{
    uint8_t salt[BULLA_PREFIX_SALT_BYTES];
    int code = random_bytes(salt, sizeof salt, error);
    bulla_engine_options options = {.threads = configure->threads, .isa = configure->isa[0] ? configure->isa : NULL,
                                    .pages = configure->pages,
                                    .prefix_salt = configure->has_prefix_cache ? salt : NULL};
    if (code == BULLA_OK)
        code = bulla_engine_open(worker->model, &options, &worker->engine, error);
    memory_wipe(salt, sizeof salt);
    struct scheduler_options scheduling = {.most_running = configure->most_running, .speculate = configure->speculate};
    const struct scheduler_events events = {.context = worker, .token = tell_token, .finish = tell_finish,
                                            .embedding = tell_embedding};
    if (code == BULLA_OK)
        code = scheduler_open(worker->engine, worker->model, &scheduling, &events, &worker->scheduler, error);
    return code;
}

/* The first frame: opens the engine as it says, and answers READY. */
static int take_configure(struct worker *worker, const struct wire_frame *frame, bulla_error *error)
{
    struct wire_configure configure;
    if (frame->type != WIRE_CONFIGURE)
        return bulla_fail(error, BULLA_E_INPUT, "the server's first frame is of type %d, expected CONFIGURE",
                          frame->type);
    int code = wire_read_configure(frame, &configure, error);
    if (code == BULLA_OK)
        code = open_engine(worker, &configure, error);
    if (code != BULLA_OK)
        return code;
    const bulla_program *program = bulla_model_program(worker->model);
    struct wire_ready ready = {.threads = bulla_engine_threads(worker->engine), .context = program->context,
                               .vocabulary = program->vocabulary, .pages = bulla_engine_pages_total(worker->engine)};
    memcpy(ready.root, bulla_model_root(worker->model), sizeof ready.root);
    const char *isa = bulla_engine_isa(worker->engine);
    memcpy(ready.isa, isa, strnlen(isa, WIRE_MOST_ISA));
    wire_write_ready(&worker->out, &ready);
    return BULLA_OK;
}

static int start(struct worker *worker, int model_file, int counters, bulla_error *error)
{
    worker->in = memory_alloc(READ_BYTES, 1, error);
    worker->in_capacity = READ_BYTES;
    if (!worker->in)
        return BULLA_E_MEMORY;
    void *shared = mmap(NULL, WIRE_COUNTERS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, counters, 0);
    if (shared == MAP_FAILED)
        return fail_with_errno("the memory for counters cannot be mapped", error);
    worker->counters = shared;
    int code = bulla_model_open_descriptor(model_file, "the model", 0, &worker->model, error);
    close(model_file);
    close(counters);
    while (code == BULLA_OK && !worker->scheduler && !worker->is_closed) {
        int got;
        code = wait_for_socket(worker, POLLIN, error);
        if (code == BULLA_OK)
            code = receive_some(worker, &got, error);
        if (code == BULLA_OK)
            code = take_frames(worker, 1, take_configure, error);
    }
    if (code == BULLA_OK && !worker->is_closed)
        code = take_frames(worker, SIZE_MAX, take_frame, error);
    return code;
}

static void stop(struct worker *worker)
{
    scheduler_close(worker->scheduler);
    if (worker->engine)
        bulla_engine_close(worker->engine);
    bulla_model_close(worker->model);
    if (worker->counters)
        munmap(worker->counters, WIRE_COUNTERS_BYTES);
    memory_free(worker->in);
    buffer_free(&worker->out);
}

int native_worker_run(int socket, int model_file, int counters, bulla_error *error)
{
    struct worker worker = {.socket = socket};
    /* If the front dies first, the socket's end says so; a worker deep in a long step is killed. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "bulla-worker");
    int code = start(&worker, model_file, counters, error);
    if (code == BULLA_OK)
        code = serve(&worker, error);
    stop(&worker);
    return code;
}
