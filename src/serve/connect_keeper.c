#define _GNU_SOURCE
#include "serve/connect_keeper.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "serve/connect_log.h"

struct job {
    struct connect_keep keep;
    struct job *next;
    bulla_error error;
};

struct queue {
    struct job *first, **last;
};

struct connect_keeper {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct queue waiting, written;
    int signal, is_ending, has_thread;
    struct event *event;
};

static void push(struct queue *queue, struct job *job)
{
    if (!queue->first)
        queue->last = &queue->first;
    job->next = NULL;
    *queue->last = job;
    queue->last = &job->next;
}

static void free_job(struct job *job)
{
    buffer_free(&job->keep.checkpoint_path);
    buffer_free(&job->keep.checkpoint);
    buffer_free(&job->keep.document_path);
    buffer_free(&job->keep.document);
    memory_free(job);
}

static int fail_document(const char *path, bulla_error *error)
{
    return bulla_fail(error, BULLA_E_IO, "%s: the receipt cannot be kept: %s", path, strerror(errno));
}

/* Never over a receipt that is there: with the same id and time a server could take it back. Not every file system can
 * rename so. */
static int put_new(const char *partial, const char *path)
{
    if (renameat2(AT_FDCWD, partial, AT_FDCWD, path, RENAME_NOREPLACE) == 0)
        return 1;
    if ((errno != EINVAL && errno != ENOSYS) || link(partial, path) != 0)
        return 0;
    unlink(partial);
    return 1;
}

/* Whole or not there: under another name first. What a loss of power takes can be had again from the server, so that
 * nothing is synced here. */
static int write_document(const char *path, const struct buffer *document, bulla_error *error)
{
    char partial[1200];
    if ((size_t)snprintf(partial, sizeof partial, "%s.partial", path) >= sizeof partial)
        return bulla_fail(error, BULLA_E_LIMIT, "the folder of receipts has too long a name");
    int file = open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file < 0)
        return fail_document(path, error);
    int code = BULLA_OK;
    for (size_t at = 0; at < document->length && code == BULLA_OK;) {
        ssize_t written = write(file, document->data + at, document->length - at);
        if (written < 0 && errno != EINTR)
            code = fail_document(path, error);
        at += written > 0 ? (size_t)written : 0;
    }
    if (close(file) != 0 && code == BULLA_OK)
        code = fail_document(path, error);
    if (code == BULLA_OK && !put_new(partial, path))
        code = fail_document(path, error);
    if (code != BULLA_OK)
        unlink(partial);
    return code;
}

static int is_last_of_its_log(const struct job *job)
{
    for (const struct job *other = job->next; other; other = other->next)
        if (other->keep.checkpoint_path.length &&
            strcmp((const char *)other->keep.checkpoint_path.data, (const char *)job->keep.checkpoint_path.data) == 0)
            return 0;
    return 1;
}

/* Behind those that are there, in one write and one sync: a tenth of what a new file takes. 0 where that cannot be, as
 * there is none yet or it has grown. What is left of a write that fails is no note. */
static int append_checkpoint(const char *path, const struct buffer *note)
{
    struct stat status;
    int file = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
    if (file < 0)
        return 0;
    struct iovec parts[] = {{(char[]){0}, 1}, {note->data, note->length}};
    int is_written = fstat(file, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0 &&
                     (uint64_t)status.st_size + note->length < CONNECT_MOST_KEPT &&
                     writev(file, parts, 2) == (ssize_t)(1 + note->length) && fdatasync(file) == 0;
    return close(file) == 0 && is_written;
}

/* A checkpoint that failed fails all that rely on it. */
static void write_checkpoint(struct job *jobs, struct job *job)
{
    const struct connect_keep *keep = &job->keep;
    bulla_error error = {0};
    if (keep->checkpoint_path.length == 0 || !is_last_of_its_log(job))
        return;
    const char *path = (const char *)keep->checkpoint_path.data;
    if (append_checkpoint(path, &keep->checkpoint) ||
        file_write_private(path, keep->checkpoint.data, keep->checkpoint.length, &error) == BULLA_OK)
        return;
    for (struct job *other = jobs; other; other = other->next)
        if (other->keep.checkpoint_path.length && strcmp((const char *)other->keep.checkpoint_path.data, path) == 0)
            bulla_fail(&other->error, error.code, "%s", error.text);
}

static void write_all(struct job *jobs)
{
    for (struct job *job = jobs; job; job = job->next)
        write_checkpoint(jobs, job);
    for (struct job *job = jobs; job; job = job->next)
        if (job->keep.document_path.length && job->error.code == BULLA_OK)
            write_document((const char *)job->keep.document_path.data, &job->keep.document, &job->error);
}

static void *run(void *context)
{
    struct connect_keeper *keeper = context;
    pthread_mutex_lock(&keeper->lock);
    for (;;) {
        struct job *jobs = keeper->waiting.first;
        keeper->waiting.first = NULL;
        if (!jobs && keeper->is_ending)
            break;
        if (!jobs) {
            pthread_cond_wait(&keeper->wake, &keeper->lock);
            continue;
        }
        pthread_mutex_unlock(&keeper->lock);
        write_all(jobs);
        pthread_mutex_lock(&keeper->lock);
        for (struct job *next; jobs; jobs = next) {
            next = jobs->next;
            push(&keeper->written, jobs);
        }
        const uint64_t one = 1;
        if (write(keeper->signal, &one, sizeof one) < 0)
            continue; /* it is full: the loop is awake anyway */
    }
    pthread_mutex_unlock(&keeper->lock);
    return NULL;
}

static void on_signal(evutil_socket_t descriptor, short what, void *context)
{
    struct connect_keeper *keeper = context;
    uint64_t count;
    if (read(keeper->signal, &count, sizeof count) < 0)
        return;
    pthread_mutex_lock(&keeper->lock);
    struct job *jobs = keeper->written.first;
    keeper->written.first = NULL;
    pthread_mutex_unlock(&keeper->lock);
    for (struct job *next; jobs; jobs = next) {
        next = jobs->next;
        jobs->keep.done(jobs->keep.context, jobs->error.code == BULLA_OK ? NULL : &jobs->error);
        free_job(jobs);
    }
}

int connect_keeper_open(struct event_base *base, struct connect_keeper **result, bulla_error *error)
{
    struct connect_keeper *keeper = memory_alloc(1, sizeof *keeper, error);
    *result = NULL;
    if (!keeper)
        return BULLA_E_MEMORY;
    pthread_mutex_init(&keeper->lock, NULL);
    pthread_cond_init(&keeper->wake, NULL);
    keeper->signal = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    keeper->event = keeper->signal >= 0 ? event_new(base, keeper->signal, EV_READ | EV_PERSIST, on_signal, keeper) : NULL;
    if (keeper->event && event_add(keeper->event, NULL) == 0)
        keeper->has_thread = pthread_create(&keeper->thread, NULL, run, keeper) == 0;
    if (!keeper->has_thread) {
        connect_keeper_close(keeper);
        return bulla_fail(error, BULLA_E_MEMORY, "the thread that keeps receipts could not be started");
    }
    *result = keeper;
    return BULLA_OK;
}

void connect_keeper_close(struct connect_keeper *keeper)
{
    if (!keeper)
        return;
    pthread_mutex_lock(&keeper->lock);
    keeper->is_ending = 1;
    pthread_cond_signal(&keeper->wake);
    pthread_mutex_unlock(&keeper->lock);
    if (keeper->has_thread)
        pthread_join(keeper->thread, NULL);
    for (struct job *job = keeper->written.first, *next; job; job = next) {
        next = job->next;
        free_job(job);
    }
    if (keeper->event)
        event_free(keeper->event);
    if (keeper->signal >= 0)
        close(keeper->signal);
    pthread_cond_destroy(&keeper->wake);
    pthread_mutex_destroy(&keeper->lock);
    memory_free(keeper);
}

int connect_keeper_put(struct connect_keeper *keeper, struct connect_keep *keep, bulla_error *error)
{
    const struct buffer *buffers[] = {&keep->checkpoint_path, &keep->checkpoint, &keep->document_path, &keep->document};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        if (buffers[i]->error.code != BULLA_OK)
            return bulla_fail(error, buffers[i]->error.code, "%s", buffers[i]->error.text);
    struct job *job = memory_alloc(1, sizeof *job, error);
    if (!job)
        return BULLA_E_MEMORY;
    job->keep = *keep;
    *keep = (struct connect_keep){0};
    pthread_mutex_lock(&keeper->lock);
    push(&keeper->waiting, job);
    pthread_cond_signal(&keeper->wake);
    pthread_mutex_unlock(&keeper->lock);
    return BULLA_OK;
}
