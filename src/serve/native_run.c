/* Keeps a worker running. One that ends, breaks the protocol or closes its socket is killed, waited for, and followed
 * by the next: at once where it had served for a while, else after a pause that doubles with each quick death. After
 * several starts in a row that never came to READY the backend counts as failed, and is tried again now and then.
 *
 * Nothing here blocks: the socket is never waited for, and what the worker does not read stays in `out`, which
 * native_answer.c bounds. */
#define _GNU_SOURCE
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "serve/native_internal.h"

enum {
    READ_BYTES = 1 << 18,
    KEPT_BYTES = 1 << 20,     /* for frames to the worker, when none waits */
    READS_AT_ONCE = 4,        /* of a socket that goes on being readable, before others have their turn */
    MOST_FAILED_STARTS = 3,
    FIRST_PAUSE = 100,        /* milliseconds, after a quick death */
    LONGEST_PAUSE = 5000,
    FAILED_PAUSE = 30000,
    QUICK_SECONDS = 5,        /* a worker that served for less died quickly */
    MOST_CLOSE_WAITS = 2000   /* milliseconds, for a killed process to end when the backend is closed */
};

static int fail_with_errno(const char *what, bulla_error *error)
{
    char text[128];
    int number = errno;
    return bulla_fail(error, BULLA_E_IO, "%s: %s", what, strerror_r(number, text, sizeof text));
}

static void close_descriptor(int *descriptor)
{
    if (*descriptor >= 0)
        close(*descriptor);
    *descriptor = -1;
}

static void drop_event(struct event **event)
{
    if (*event)
        event_free(*event);
    *event = NULL;
}

static void set_timer(struct native_run *run, unsigned milliseconds)
{
    const struct timeval delay = {.tv_sec = milliseconds / 1000, .tv_usec = (suseconds_t)(milliseconds % 1000) * 1000};
    evtimer_add(run->timer, &delay);
}

/* ---- The worker's standard error: its last line ---- */

static void note_errors(struct native_run *run, const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c == '\n' || c == '\r') {
            run->line_has_ended = run->last_length > 0;
            continue;
        }
        if (run->line_has_ended)
            run->last_length = 0;
        run->line_has_ended = 0;
        if (run->last_length + 1 < sizeof run->last_line)
            run->last_line[run->last_length++] = (char)c;
    }
    run->last_line[run->last_length] = 0;
}

/* Reads what is there. Lines before the last are the worker's chatter, and dropped. */
static void read_errors(struct native_run *run)
{
    char bytes[4096];
    for (int i = 0; i < 16 && run->errors >= 0; i++) {
        ssize_t length = read(run->errors, bytes, sizeof bytes);
        if (length > 0)
            note_errors(run, bytes, (size_t)length);
        else if (length == 0 || (errno != EAGAIN && errno != EINTR)) {
            drop_event(&run->errors_readable);
            close_descriptor(&run->errors);
        } else if (errno == EAGAIN) {
            break;
        }
    }
}

static void errors_are_readable(evutil_socket_t descriptor, short what, void *context)
{
    read_errors(context);
}

/* ---- Counters ---- */

static uint64_t load(const _Atomic uint64_t *number)
{
    return atomic_load_explicit(number, memory_order_relaxed);
}

/* Sums of the workers before, and of this one. */
static void add_sums(const struct native_run *run, struct backend_counters *counters)
{
    *counters = run->before;
    if (!run->counters)
        return;
    counters->prefix_queried += load(&run->counters->prefix_queried);
    counters->prefix_reused += load(&run->counters->prefix_reused);
    counters->prompt_tokens += load(&run->counters->prompt_tokens);
    counters->output_tokens += load(&run->counters->output_tokens);
    counters->preemptions += load(&run->counters->preemptions);
}

void native_run_count(const struct native_run *run, struct backend_counters *counters)
{
    add_sums(run, counters);
    counters->restarts = run->starts > 1 ? run->starts - 1 : 0;
    if (!run->counters)
        return;
    counters->running = load(&run->counters->running);
    counters->waiting = load(&run->counters->waiting);
    counters->pages_used = load(&run->counters->pages_used);
    counters->pages_total = load(&run->counters->pages_total);
}

/* ---- The end of a worker ---- */

static void describe_end(struct native_run *run, int status)
{
    char end[100] = "ended";
    if (WIFSIGNALED(status))
        snprintf(end, sizeof end, "was killed by signal %d", WTERMSIG(status));
    else if (WIFEXITED(status))
        snprintf(end, sizeof end, "ended with status %d", WEXITSTATUS(status));
    bulla_error sentence = {0}; /* cleaned for a terminal */
    bulla_fail(&sentence, BULLA_E_IO, "the worker %s%s%s", end, run->last_length ? ": " : "", run->last_line);
    if (run->trouble[0] == 0) /* else the run knows better why */
        snprintf(run->trouble, sizeof run->trouble, "%s", sentence.text);
}

/* Lets go of all that belonged to the worker; its process may live on for a moment. */
static void let_go(struct native_run *run)
{
    drop_event(&run->readable);
    drop_event(&run->writable);
    close_descriptor(&run->socket);
    read_errors(run);
    drop_event(&run->errors_readable);
    close_descriptor(&run->errors);
    add_sums(run, &run->before);
    if (run->counters)
        munmap(run->counters, WIRE_COUNTERS_BYTES);
    run->counters = NULL;
    buffer_free(&run->out);
    run->sent = run->in_length = 0;
    run->is_ready = 0;
}

/* `why` NULL: the process says it by the way it ends. */
static void lose_worker(struct native_run *run, const char *why)
{
    int was_ready = run->is_ready;
    uint64_t served = was_ready ? clock_nanoseconds() - run->ready_at : 0;
    snprintf(run->trouble, sizeof run->trouble, "%s", why ? why : "");
    native_process_kill(&run->process);
    let_go(run);
    run->failed_starts = was_ready ? 0 : run->failed_starts + 1;
    run->quick_deaths = was_ready && served >= (uint64_t)QUICK_SECONDS * 1000000000 ? 0 : run->quick_deaths + 1;
    run->phase = NATIVE_ENDING;
    run->waits = 0;
    set_timer(run, 0);
    run->events.lost(run->context);
}

static void pause_before_start(struct native_run *run)
{
    unsigned pause = 0;
    for (unsigned i = 0; i < run->quick_deaths && pause < LONGEST_PAUSE; i++)
        pause = pause ? 2 * pause : FIRST_PAUSE;
    run->phase = NATIVE_PAUSED;
    if (run->failed_starts >= MOST_FAILED_STARTS) {
        int is_news = !run->has_failed;
        run->has_failed = 1;
        set_timer(run, FAILED_PAUSE);
        if (is_news)
            run->events.failed(run->context);
        return;
    }
    set_timer(run, pause > LONGEST_PAUSE ? LONGEST_PAUSE : pause);
}

/* ---- Frames from the worker ---- */

static int take_ready(struct native_run *run, const struct wire_frame *frame, bulla_error *error)
{
    struct wire_ready ready;
    if (frame->type != WIRE_READY)
        return bulla_fail(error, BULLA_E_INPUT, "the worker's first frame is of type %d, expected READY", frame->type);
    int code = wire_read_ready(frame, &ready, error);
    if (code != BULLA_OK)
        return code;
    if (memcmp(ready.root, run->root, sizeof ready.root) != 0)
        return bulla_fail(error, BULLA_E_INPUT,
                          "the worker found another model root than the server: the model's file was "
                          "changed while it was open; load the model again");
    run->is_ready = 1;
    run->has_failed = 0;
    run->failed_starts = 0;
    run->ready_at = run->stepped_at = clock_nanoseconds();
    run->seen_steps = 0;
    set_timer(run, 250 * run->stuck_seconds);
    run->trouble[0] = 0;
    run->events.ready(run->context);
    return BULLA_OK;
}

/* Room for the frame that begins the buffer, of `needed` bytes. */
static int make_room(struct native_run *run, size_t needed, bulla_error *error)
{
    if (needed <= run->in_capacity)
        return BULLA_OK;
    uint8_t *in = memory_resize(run->in, needed, 1, error);
    if (!in)
        return BULLA_E_MEMORY;
    run->in = in;
    run->in_capacity = needed;
    return BULLA_OK;
}

static int take_frames(struct native_run *run, bulla_error *error)
{
    size_t used = 0, taken = 1, needed = 0;
    int code = BULLA_OK;
    while (code == BULLA_OK && run->phase == NATIVE_RUNNING) { /* an answer's end may close the backend */
        struct wire_frame frame;
        code = wire_next(run->in + used, run->in_length - used, &frame, &taken, &needed, error);
        if (code != BULLA_OK || taken == 0)
            break;
        used += taken;
        code = run->is_ready ? run->events.frame(run->context, &frame, error) : take_ready(run, &frame, error);
    }
    if (run->phase != NATIVE_RUNNING || code != BULLA_OK)
        return code;
    if (used > 0)
        memmove(run->in, run->in + used, run->in_length - used);
    run->in_length -= used;
    return make_room(run, needed, error);
}

/* Reads once; 1: there may be more. */
static int read_socket(struct native_run *run)
{
    bulla_error error = {0};
    ssize_t length = recv(run->socket, run->in + run->in_length, run->in_capacity - run->in_length, MSG_DONTWAIT);
    if (length < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (length <= 0) {
        lose_worker(run, NULL);
        return 0;
    }
    int is_full = run->in_length + (size_t)length == run->in_capacity;
    run->in_length += (size_t)length;
    if (take_frames(run, &error) != BULLA_OK && run->phase == NATIVE_RUNNING)
        lose_worker(run, error.text);
    return is_full && run->phase == NATIVE_RUNNING;
}

static void socket_is_readable(evutil_socket_t descriptor, short what, void *context)
{
    struct native_run *run = context;
    void *owner = run->context;
    void (*leave)(void *) = run->events.leave;
    run->events.enter(owner);
    for (int i = 0; i < READS_AT_ONCE && read_socket(run); i++)
        ;
    leave(owner);
}

/* ---- Frames to the worker ---- */

/* Without calls back: a worker that is gone shows when the socket is read. */
void native_run_flush(struct native_run *run)
{
    while (run->socket >= 0 && run->sent < run->out.length) {
        ssize_t put = send(run->socket, run->out.data + run->sent, run->out.length - run->sent,
                           MSG_DONTWAIT | MSG_NOSIGNAL);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0) {
            if ((errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM) && run->writable)
                event_add(run->writable, NULL);
            break;
        }
        run->sent += (size_t)put;
    }
    if (run->sent >= run->out.length / 2) { /* moved at most as often as they are sent */
        buffer_drop_front(&run->out, run->sent);
        run->sent = 0;
    }
    if (run->out.length == 0 && run->out.capacity > KEPT_BYTES)
        buffer_free(&run->out);
}

size_t native_run_unsent(const struct native_run *run)
{
    return run->out.length - run->sent;
}

static void socket_is_writable(evutil_socket_t descriptor, short what, void *context)
{
    native_run_flush(context);
}

/* ---- The start of a worker ---- */

/* Memory whose size nobody can change any more, mapped to read. */
static int share_counters(struct native_run *run, int *descriptor, bulla_error *error)
{
    *descriptor = memfd_create("bulla-counters", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (*descriptor < 0 || ftruncate(*descriptor, WIRE_COUNTERS_BYTES) != 0 ||
        fcntl(*descriptor, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
        return fail_with_errno("no memory to share with the worker", error);
    void *map = mmap(NULL, WIRE_COUNTERS_BYTES, PROT_READ, MAP_SHARED, *descriptor, 0);
    if (map == MAP_FAILED)
        return fail_with_errno("memory to share with the worker cannot be mapped", error);
    run->counters = map;
    return BULLA_OK;
}

static int watch(struct native_run *run, bulla_error *error)
{
    run->readable = event_new(run->base, run->socket, EV_READ | EV_PERSIST, socket_is_readable, run);
    run->writable = event_new(run->base, run->socket, EV_WRITE, socket_is_writable, run);
    run->errors_readable = event_new(run->base, run->errors, EV_READ | EV_PERSIST, errors_are_readable, run);
    if (!run->readable || !run->writable || !run->errors_readable || event_add(run->readable, NULL) != 0 ||
        event_add(run->errors_readable, NULL) != 0)
        return bulla_fail(error, BULLA_E_MEMORY, "out of memory: the worker's socket cannot be watched");
    return BULLA_OK;
}

static int start_worker(struct native_run *run, bulla_error *error)
{
    int sockets[2] = {-1, -1}, pipes[2] = {-1, -1}, counters = -1;
    run->last_length = 0;
    run->last_line[0] = 0;
    run->line_has_ended = 0;
    run->starts++;
    int code = BULLA_OK;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0 || pipe2(pipes, O_CLOEXEC) != 0)
        code = fail_with_errno("no socket to a worker can be made", error);
    if (code == BULLA_OK)
        code = share_counters(run, &counters, error);
    run->socket = sockets[0];
    run->errors = pipes[0];
    if (code == BULLA_OK && fcntl(run->errors, F_SETFL, O_NONBLOCK) != 0)
        code = fail_with_errno("the worker's standard error cannot be watched", error);
    if (code == BULLA_OK)
        code = watch(run, error);
    if (code == BULLA_OK)
        code = native_process_start(run->program, sockets[1], run->model_file, counters, pipes[1], &run->process,
                                    error);
    close_descriptor(&sockets[1]);
    close_descriptor(&pipes[1]);
    close_descriptor(&counters);
    wire_write_configure(&run->out, &run->configure);
    if (code == BULLA_OK && run->out.error.code != BULLA_OK)
        code = bulla_fail(error, run->out.error.code, "%s", run->out.error.text);
    run->phase = NATIVE_RUNNING;
    if (code == BULLA_OK)
        native_run_flush(run);
    return code;
}

/* A worker that has answers to give and makes no step hangs. Its steps are in the shared counters. */
static void look_at_worker(struct native_run *run)
{
    uint64_t steps = load(&run->counters->steps), now = clock_nanoseconds();
    if (steps != run->seen_steps || !run->events.is_busy(run->context)) {
        run->seen_steps = steps;
        run->stepped_at = now;
    } else if (now - run->stepped_at > (uint64_t)run->stuck_seconds * 1000000000) {
        char why[80];
        snprintf(why, sizeof why, "the worker made no step for %u s", run->stuck_seconds);
        lose_worker(run, why);
        return;
    }
    set_timer(run, 250 * run->stuck_seconds);
}

static void time_is_up(evutil_socket_t descriptor, short what, void *context)
{
    struct native_run *run = context;
    void *owner = run->context;
    void (*leave)(void *) = run->events.leave;
    bulla_error error = {0};
    int status;
    run->events.enter(owner);
    if (run->phase == NATIVE_ENDING && native_process_has_ended(&run->process, &status)) {
        describe_end(run, status);
        pause_before_start(run);
    } else if (run->phase == NATIVE_ENDING) {
        set_timer(run, run->waits++ < 20 ? 1 : 20);
    } else if (run->phase == NATIVE_PAUSED && start_worker(run, &error) != BULLA_OK) {
        lose_worker(run, error.text);
    } else if (run->phase == NATIVE_RUNNING && run->is_ready) {
        look_at_worker(run);
    }
    leave(owner);
}

int native_run_open(struct native_run *run, bulla_error *error)
{
    run->socket = run->errors = -1;
    run->process = (struct native_process){.handle = -1};
    run->in = memory_alloc(READ_BYTES, 1, error);
    run->in_capacity = READ_BYTES;
    if (!run->in)
        return BULLA_E_MEMORY;
    run->timer = evtimer_new(run->base, time_is_up, run);
    if (!run->timer)
        return bulla_fail(error, BULLA_E_MEMORY, "out of memory: the event base gives no timer");
    return start_worker(run, error);
}

void native_run_close(struct native_run *run)
{
    const struct timespec millisecond = {.tv_nsec = 1000000};
    int status;
    if (!run->in) /* never opened */
        return;
    native_process_kill(&run->process);
    let_go(run);
    drop_event(&run->timer);
    for (int i = 0; i < MOST_CLOSE_WAITS && !native_process_has_ended(&run->process, &status); i++)
        nanosleep(&millisecond, NULL);
    if (run->process.handle >= 0)
        close(run->process.handle);
    run->process = (struct native_process){.handle = -1};
    run->phase = NATIVE_STOPPED;
    memory_free(run->in);
    run->in = NULL;
}
