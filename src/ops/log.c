#define _GNU_SOURCE
#include "ops/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/memory.h"

enum {
    MOST_BYTES = 1 << 20,
    /* A pipe or terminal that poll() calls writable takes this much without waiting. */
    PIECE = 4096,
    NOTICE = 160,
    RETRY_MILLISECONDS = 1000 /* after the sink has refused a write */
};

static const char *const level_names[LOG_LEVEL_COUNT] = {"error", "warning", "info", "debug"};

struct log {
    enum log_level level;
    char *path;
    int descriptor, owns_descriptor, is_regular; /* the thread's, after log_open */
    int is_inside_line;                          /* the thread's: a piece ended there */
    int wake;                                    /* eventfd: something is to do */
    pthread_t thread;
    pthread_mutex_t lock; /* of all below */
    uint8_t *ring;
    size_t capacity, start, length;
    uint64_t dropped, missing; /* in all; since the last line that got through */
    int wants_reopen, is_closing;
    uint64_t deadline; /* clock_nanoseconds(), with is_closing */
};

int log_level_parse(const char *name)
{
    for (int i = 0; i < LOG_LEVEL_COUNT; i++)
        if (strcmp(name, level_names[i]) == 0)
            return i;
    return -1;
}

/* --- The buffer, under the lock --- */

static void ring_append(struct log *log, const void *bytes, size_t length)
{
    size_t at = (log->start + log->length) % log->capacity;
    size_t first = log->capacity - at < length ? log->capacity - at : length;
    memcpy(log->ring + at, bytes, first);
    memcpy(log->ring, (const uint8_t *)bytes + first, length - first);
    log->length += length;
}

static void format_time(char out[32])
{
    struct timespec now;
    struct tm parts;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    size_t length = strftime(out, 32, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(out + length, 32 - length, ".%03ldZ", now.tv_nsec / 1000000);
}

/* The line that says how many are missing. */
static size_t format_notice(uint64_t missing, char out[NOTICE])
{
    char time[32];
    format_time(time);
    return (size_t)snprintf(out, NOTICE,
                            "{\"time\":\"%s\",\"level\":\"warning\",\"event\":\"log_dropped\",\"lines\":%" PRIu64 "}\n",
                            time, missing);
}

/* Wakes the thread. A full eventfd means that it is woken already. */
static void wake(struct log *log)
{
    uint64_t one = 1;
    ssize_t put = write(log->wake, &one, sizeof one);
    (void)put;
}

static void hand_over(struct log *log, const uint8_t *line, size_t length, int is_whole)
{
    char notice[NOTICE];
    pthread_mutex_lock(&log->lock);
    size_t notice_length = log->missing > 0 ? format_notice(log->missing, notice) : 0;
    if (!is_whole || notice_length + length > log->capacity - log->length) {
        log->dropped++;
        log->missing++;
    } else {
        ring_append(log, notice, notice_length);
        ring_append(log, line, length);
        log->missing = 0;
    }
    pthread_mutex_unlock(&log->lock);
    wake(log);
}

/* --- The thread --- */

/* The next piece to write, copied out. */
static size_t take_piece(struct log *log, uint8_t piece[PIECE])
{
    pthread_mutex_lock(&log->lock);
    size_t length = log->length < PIECE ? log->length : PIECE;
    for (size_t i = 0; i < length; i++)
        piece[i] = log->ring[(log->start + i) % log->capacity];
    pthread_mutex_unlock(&log->lock);
    return length;
}

static void forget_bytes(struct log *log, size_t length)
{
    pthread_mutex_lock(&log->lock);
    log->start = (log->start + length) % log->capacity;
    log->length -= length;
    pthread_mutex_unlock(&log->lock);
}

/* O_NONBLOCK: a named pipe that nobody reads is refused instead of waited for. */
static int open_path(const char *path)
{
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
}

static void look_at_descriptor(struct log *log)
{
    struct stat status;
    log->is_regular = fstat(log->descriptor, &status) == 0 && S_ISREG(status.st_mode);
}

/* What the log is asked: reopens where that is wanted; milliseconds left to write in (-1: as many as it takes). */
static int look_at_orders(struct log *log, int *is_closing)
{
    pthread_mutex_lock(&log->lock);
    int reopens = log->wants_reopen && !log->is_inside_line, left = -1;
    log->wants_reopen &= !reopens;
    *is_closing = log->is_closing;
    if (log->is_closing) {
        uint64_t now = clock_nanoseconds();
        left = now >= log->deadline ? 0 : (int)((log->deadline - now) / 1000000 + 1);
    }
    pthread_mutex_unlock(&log->lock);
    int fresh = reopens && log->path ? open_path(log->path) : -1;
    if (fresh >= 0) { /* where it cannot be opened, the old file goes on */
        close(log->descriptor);
        log->descriptor = fresh;
        look_at_descriptor(log);
    }
    return left;
}

/* Waits until the sink takes bytes (1), or something else is to be looked at (0). */
static int wait_for_sink(struct log *log, int has_bytes, int milliseconds)
{
    struct pollfd waits[2] = {{.fd = log->wake, .events = POLLIN},
                              {.fd = has_bytes && !log->is_regular ? log->descriptor : -1, .events = POLLOUT}};
    if (has_bytes && log->is_regular)
        return 1;
    poll(waits, 2, milliseconds);
    if (waits[0].revents & POLLIN) {
        uint64_t count;
        ssize_t got = read(log->wake, &count, sizeof count);
        (void)got;
    }
    return waits[1].revents != 0;
}

/* After a refusal: the sink is tried again later, meanwhile lines pile up and are dropped. */
static void rest(struct log *log, int milliseconds)
{
    struct pollfd wait = {.fd = log->wake, .events = POLLIN};
    uint64_t until = clock_nanoseconds() + UINT64_C(1000000) * RETRY_MILLISECONDS, now;
    int is_closing = 0;
    while (!is_closing && milliseconds != 0 && (now = clock_nanoseconds()) < until) {
        poll(&wait, 1, (int)((until - now) / 1000000 + 1));
        uint64_t count;
        ssize_t got = wait.revents & POLLIN ? read(log->wake, &count, sizeof count) : 0;
        (void)got;
        look_at_orders(log, &is_closing);
    }
    if (is_closing)
        poll(NULL, 0, 10);
}

static void *write_lines(void *context)
{
    struct log *log = context;
    uint8_t piece[PIECE];
    for (;;) {
        int is_closing;
        int left = look_at_orders(log, &is_closing);
        size_t length = take_piece(log, piece);
        if (is_closing && (length == 0 || left == 0))
            return NULL;
        if (!wait_for_sink(log, length > 0, left))
            continue;
        ssize_t put = write(log->descriptor, piece, length);
        if (put > 0) {
            log->is_inside_line = piece[put - 1] != '\n';
            forget_bytes(log, (size_t)put);
        } else if (errno != EINTR && errno != EAGAIN)
            rest(log, left);
    }
}

/* --- Open and close --- */

static int open_sink(struct log *log, const struct log_options *options, bulla_error *error)
{
    log->descriptor = options->descriptor;
    if (options->path) {
        log->path = memory_copy_text(options->path, strlen(options->path), error);
        if (!log->path)
            return BULLA_E_MEMORY;
        log->descriptor = open_path(log->path);
        if (log->descriptor < 0)
            return bulla_fail(error, BULLA_E_IO, "%s: cannot open it for the log: %s", log->path, strerror(errno));
        log->owns_descriptor = 1;
    }
    look_at_descriptor(log);
    return BULLA_OK;
}

/* Signals are the main thread's to take. */
static int start_thread(struct log *log, bulla_error *error)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int number = pthread_create(&log->thread, NULL, write_lines, log);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (number != 0)
        return bulla_fail(error, BULLA_E_IO, "cannot start the log's thread: %s", strerror(number));
    return BULLA_OK;
}

static void free_log(struct log *log)
{
    if (log->owns_descriptor)
        close(log->descriptor);
    if (log->wake >= 0)
        close(log->wake);
    pthread_mutex_destroy(&log->lock);
    memory_free(log->path);
    memory_free(log->ring);
    memory_free(log);
}

int log_open(const struct log_options *options, struct log **log, bulla_error *error)
{
    bulla_error own = {0};
    struct log *made = memory_alloc(1, sizeof *made, error);
    *log = NULL;
    if (!made)
        return BULLA_E_MEMORY;
    pthread_mutex_init(&made->lock, NULL);
    made->level = options->level;
    made->wake = -1;
    made->capacity = options->most_bytes ? options->most_bytes : MOST_BYTES;
    made->ring = memory_alloc(made->capacity, 1, &own);
    if (made->ring)
        open_sink(made, options, &own);
    if (own.code == BULLA_OK) {
        made->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (made->wake < 0)
            bulla_fail(&own, BULLA_E_IO, "the log cannot make an event descriptor: %s", strerror(errno));
        else
            start_thread(made, &own);
    }
    if (own.code != BULLA_OK) {
        free_log(made);
        return bulla_fail(error, own.code, "%s", own.text);
    }
    *log = made;
    return BULLA_OK;
}

void log_close(struct log *log, unsigned milliseconds)
{
    char notice[NOTICE];
    if (!log)
        return;
    pthread_mutex_lock(&log->lock);
    size_t length = log->missing > 0 ? format_notice(log->missing, notice) : 0;
    if (length > 0 && length <= log->capacity - log->length)
        ring_append(log, notice, length);
    log->is_closing = 1;
    log->deadline = clock_nanoseconds() + UINT64_C(1000000) * milliseconds;
    pthread_mutex_unlock(&log->lock);
    wake(log);
    pthread_join(log->thread, NULL);
    free_log(log);
}

void log_reopen(struct log *log)
{
    pthread_mutex_lock(&log->lock);
    log->wants_reopen = 1;
    pthread_mutex_unlock(&log->lock);
    wake(log);
}

uint64_t log_dropped(struct log *log)
{
    pthread_mutex_lock(&log->lock);
    uint64_t dropped = log->dropped;
    pthread_mutex_unlock(&log->lock);
    return dropped;
}

/* --- Lines --- */

void log_line_begin(struct log_line *line, struct log *log, enum log_level level, const char *event)
{
    char time[32];
    *line = (struct log_line){.log = log && level <= log->level ? log : NULL};
    if (!line->log)
        return;
    format_time(time);
    buffer_append_format(&line->text, "{\"time\":\"%s\",\"level\":\"%s\",\"event\":\"%s\"", time, level_names[level],
                         event);
}

static int begin_field(struct log_line *line, const char *key)
{
    if (line->log)
        buffer_append_format(&line->text, ",\"%s\":", key);
    return line->log != NULL;
}

void log_line_text(struct log_line *line, const char *key, const char *text)
{
    if (!text || !begin_field(line, key))
        return;
    size_t length = strnlen(text, LOG_TEXT_BYTES + 1);
    if (length > LOG_TEXT_BYTES) {
        length = LOG_TEXT_BYTES;
        while (length > 0 && ((unsigned char)text[length] & 0xC0) == 0x80)
            length--;
    }
    json_write_string(&line->text, text, length);
}

void log_line_number(struct log_line *line, const char *key, uint64_t number)
{
    if (begin_field(line, key))
        buffer_append_format(&line->text, "%" PRIu64, number);
}

void log_line_seconds(struct log_line *line, const char *key, uint64_t nanoseconds)
{
    if (begin_field(line, key))
        buffer_append_format(&line->text, "%" PRIu64 ".%06" PRIu64, nanoseconds / 1000000000,
                             nanoseconds % 1000000000 / 1000);
}

void log_line_bool(struct log_line *line, const char *key, int value)
{
    if (begin_field(line, key))
        buffer_append_text(&line->text, value ? "true" : "false");
}

void log_line_end(struct log_line *line)
{
    if (line->log) {
        buffer_append_text(&line->text, "}\n");
        hand_over(line->log, line->text.data, line->text.length, line->text.error.code == BULLA_OK);
    }
    buffer_free(&line->text);
    line->log = NULL;
}
