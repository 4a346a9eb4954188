#include "trust/tlog.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "base/hash.h"
#include "base/json.h"
#include "base/memory.h"
#include "trust/tlog_internal.h"

enum {
    MOST_WAITING = 65536,
    MOST_WAITING_BYTES = 64 << 20,
    MOST_BATCH = 4096, /* appends in a transaction */
    MOST_BATCH_BYTES = 8 << 20,
    RETRY_SECONDS = 1  /* before files that could not be written are tried again */
};

struct waiting {
    struct waiting *next;
    uint8_t id[TLOG_ID];
    tlog_done done;
    void *context;
    uint64_t index;
    int is_there; /* its id is in the log already */
    size_t length;
    uint8_t receipt[];
};

struct tlog {
    char *folder;
    struct note_key key;
    EVP_PKEY *private_key;
    struct tlog_store *writer, *finder;
    struct tlog_publisher publisher;
    struct tlog_edge edge; /* of the worker */
    pthread_t worker, publishing;
    int is_worker_running, is_publishing_running;
    pthread_mutex_t finding;  /* holds `finder` */
    pthread_mutex_t mutex;    /* holds all below */
    pthread_cond_t appended, committed;
    struct waiting *first, **last;
    size_t waiting, waiting_bytes, most_waiting, most_bytes;
    int is_closing, has_ended; /* has_ended: the worker */
    struct tlog_status status;
};

/* ---- A batch ---- */

static int write_tiles(struct tlog *log, uint64_t before, bulla_error *error)
{
    int code = BULLA_OK;
    for (unsigned level = 0; code == BULLA_OK && level < TLOG_TILE_LEVELS; level++) {
        const struct tlog_edge_level *nodes = &log->edge.levels[8 * level];
        if (log->edge.size >> 8 * level == before >> 8 * level)
            break;
        for (size_t i = 0; code == BULLA_OK && i < nodes->count; i += TLOG_TILE_WIDTH) {
            size_t left = nodes->count - i;
            code = tlog_store_write_tile(log->writer, level, (nodes->first + i) / TLOG_TILE_WIDTH, nodes->hashes + i,
                                         left < TLOG_TILE_WIDTH ? (unsigned)left : TLOG_TILE_WIDTH, error);
        }
    }
    return code;
}

/* One leaf more. That its id is there already is the append's own error. */
static int append_one(struct tlog *log, struct waiting *one, bulla_error *error)
{
    struct tlog_row row = {.index = log->edge.size, .body = one->receipt, .length = one->length};
    uint8_t leaf[MERKLE_HASH];
    int code = hash_sha256(one->receipt, one->length, row.hash, error);
    if (code != BULLA_OK)
        return code;
    memcpy(row.id, one->id, TLOG_ID);
    code = tlog_store_insert(log->writer, &row, &one->is_there, error);
    if (code != BULLA_OK || one->is_there)
        return code;
    one->index = row.index;
    code = merkle_leaf_hash(row.hash, MERKLE_HASH, leaf, error);
    return code == BULLA_OK ? tlog_edge_append(&log->edge, leaf, error) : code;
}

static int check_owner(const struct tlog *log, const struct tlog_state *state, bulla_error *error)
{
    if (memcmp(state->key.key, log->key.key, NOTE_KEY_BYTES) == 0 && strcmp(state->key.name, log->key.name) == 0)
        return BULLA_OK;
    return bulla_fail(error, BULLA_E_INPUT, "%s/log.db: it is no longer the database of %s", log->folder, log->key.name);
}

/* In a transaction: all of the batch into the database, and the new checkpoint. */
static int append_all(struct tlog *log, struct waiting *batch, struct tlog_state *state, bulla_error *error)
{
    const struct tlog_nodes nodes = tlog_edge_nodes(&log->edge);
    int code = tlog_store_read_state(log->writer, state, error);
    uint64_t before = state->size;
    if (code == BULLA_OK)
        code = check_owner(log, state, error);
    if (code == BULLA_OK)
        code = tlog_store_edge(log->writer, state, &log->edge, error);
    for (struct waiting *one = batch; code == BULLA_OK && one; one = one->next)
        code = append_one(log, one, error);
    state->size = log->edge.size;
    if (code != BULLA_OK || state->size == before)
        return code;
    code = write_tiles(log, before, error);
    if (code == BULLA_OK)
        code = tlog_tree_root(&nodes, state->size, state->root, error);
    if (code == BULLA_OK)
        code = tlog_sign_state(state, log->private_key, error);
    return code == BULLA_OK ? tlog_store_write_state(log->writer, state, error) : code;
}

static int commit(struct tlog *log, struct waiting *batch, struct tlog_state *state, bulla_error *error)
{
    int code = tlog_store_begin(log->writer, 1, error);
    if (code == BULLA_OK)
        code = append_all(log, batch, state, error);
    if (code == BULLA_OK)
        return tlog_store_commit(log->writer, error);
    tlog_store_rollback(log->writer);
    return code;
}

/* What came of one append of a batch that is durable; BULLA_OK with the inclusion filled. */
static int find_result(struct tlog *log, const struct waiting *one, struct tlog_inclusion *inclusion, bulla_error *error)
{
    const struct tlog_nodes nodes = tlog_edge_nodes(&log->edge);
    char hex[2 * TLOG_ID + 1];
    hex_encode(one->id, TLOG_ID, hex);
    if (one->is_there)
        return bulla_fail(error, BULLA_E_USAGE, "the log has a receipt with the id %s already", hex);
    inclusion->index = one->index;
    return tlog_tree_inclusion(&nodes, inclusion->size, one->index, inclusion->path, &inclusion->length, error);
}

/* Tells each what came of it, and frees it. */
static void tell(struct tlog *log, struct waiting *batch, struct tlog_state *state, const bulla_error *error)
{
    struct tlog_inclusion inclusion = {.size = state->size, .checkpoint = state->checkpoint,
                                       .checkpoint_length = state->checkpoint_length};
    for (struct waiting *one = batch, *next; one; one = next) {
        bulla_error own = *error;
        next = one->next;
        if (own.code == BULLA_OK && find_result(log, one, &inclusion, &own) == BULLA_OK)
            one->done(one->context, &inclusion, NULL);
        else
            one->done(one->context, NULL, &own);
        memory_free(one);
    }
}

static void run_batch(struct tlog *log, struct waiting *batch, size_t count, size_t bytes)
{
    struct tlog_state state = {0};
    bulla_error error = {0};
    commit(log, batch, &state, &error);
    pthread_mutex_lock(&log->mutex);
    log->waiting -= count;
    log->waiting_bytes -= bytes;
    if (error.code == BULLA_OK) {
        log->status.size = state.size;
        log->status.batches++;
        pthread_cond_signal(&log->committed);
    }
    pthread_mutex_unlock(&log->mutex);
    tell(log, batch, &state, &error);
}

/* Takes whatever waits, as far as a batch may hold it; under the mutex. */
static struct waiting *take_batch(struct tlog *log, size_t *count, size_t *bytes)
{
    struct waiting *batch = log->first, *last = batch;
    *count = 1;
    *bytes = batch->length;
    while (last->next && *count < MOST_BATCH && *bytes + last->next->length <= MOST_BATCH_BYTES) {
        last = last->next;
        ++*count;
        *bytes += last->length;
    }
    log->first = last->next;
    if (!log->first)
        log->last = &log->first;
    last->next = NULL;
    return batch;
}

static void *work(void *context)
{
    struct tlog *log = context;
    size_t count, bytes;
    pthread_mutex_lock(&log->mutex);
    for (;;) {
        while (!log->first && !log->is_closing)
            pthread_cond_wait(&log->appended, &log->mutex);
        if (!log->first)
            break;
        struct waiting *batch = take_batch(log, &count, &bytes);
        pthread_mutex_unlock(&log->mutex);
        run_batch(log, batch, count, bytes);
        pthread_mutex_lock(&log->mutex);
    }
    log->has_ended = 1;
    pthread_cond_signal(&log->committed);
    pthread_mutex_unlock(&log->mutex);
    return NULL;
}

/* ---- Publishing ---- */

/* Until something was committed that is not published, the worker has ended, or it is time to try again, or to make durable
 * how much was published. */
static void wait_committed(struct tlog *log)
{
    int has_failed = log->status.trouble.code != BULLA_OK, is_timed = has_failed || log->publisher.marked < log->publisher.written;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += has_failed ? RETRY_SECONDS : TLOG_MARK_SECONDS;
    int result = 0;
    while (!log->has_ended && (has_failed || log->status.size == log->status.published) && result != ETIMEDOUT)
        result = is_timed ? pthread_cond_timedwait(&log->committed, &log->mutex, &until)
                          : pthread_cond_wait(&log->committed, &log->mutex);
}

static void *publish(void *context)
{
    struct tlog *log = context;
    int has_ended = 0;
    while (!has_ended) {
        bulla_error error = {0};
        pthread_mutex_lock(&log->mutex);
        wait_committed(log);
        has_ended = log->has_ended;
        pthread_mutex_unlock(&log->mutex);
        tlog_publish(&log->publisher, has_ended, &error);
        pthread_mutex_lock(&log->mutex);
        log->status.published = log->publisher.published;
        if (log->status.size < log->status.published) /* another process has appended */
            log->status.size = log->status.published;
        log->status.trouble = error;
        pthread_mutex_unlock(&log->mutex);
    }
    return NULL;
}

/* ---- Opening and closing ---- */

static void free_log(struct tlog *log)
{
    tlog_store_close(log->publisher.store);
    tlog_store_close(log->finder);
    tlog_store_close(log->writer);
    tlog_edge_free(&log->edge);
    EVP_PKEY_free(log->private_key);
    pthread_cond_destroy(&log->committed);
    pthread_cond_destroy(&log->appended);
    pthread_mutex_destroy(&log->mutex);
    pthread_mutex_destroy(&log->finding);
    memory_free(log->folder);
    memory_free(log);
}

static int open_stores(struct tlog *log, bulla_error *error)
{
    int code = tlog_store_open(log->folder, TLOG_WRITE, &log->writer, error);
    if (code == BULLA_OK)
        code = tlog_store_open(log->folder, TLOG_WRITE, &log->finder, error);
    if (code == BULLA_OK)
        code = tlog_store_open(log->folder, TLOG_WRITE, &log->publisher.store, error);
    log->publisher.folder = log->folder;
    if (code == BULLA_OK)
        code = tlog_publish(&log->publisher, 0, error);
    log->status.size = log->status.published = log->publisher.published;
    return code;
}

static int start_thread(pthread_t *thread, void *(*function)(void *), struct tlog *log, int *is_running, bulla_error *error)
{
    *is_running = pthread_create(thread, NULL, function, log) == 0;
    return *is_running ? BULLA_OK : bulla_fail(error, BULLA_E_IO, "%s: the log's thread could not be started", log->folder);
}

int tlog_open(const struct tlog_options *options, struct tlog **log, bulla_error *error)
{
    struct tlog *made = memory_alloc(1, sizeof *made, error);
    *log = NULL;
    if (!made)
        return BULLA_E_MEMORY;
    pthread_mutex_init(&made->finding, NULL);
    pthread_mutex_init(&made->mutex, NULL);
    pthread_cond_init(&made->appended, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&made->committed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    made->last = &made->first;
    made->most_waiting = options->most_waiting ? options->most_waiting : MOST_WAITING;
    made->most_bytes = options->most_bytes ? options->most_bytes : MOST_WAITING_BYTES;
    made->folder = memory_copy_text(options->folder, strlen(options->folder), error);
    int code = made->folder ? tlog_prepare_folder(options, &made->key, &made->private_key, error) : BULLA_E_MEMORY;
    if (code == BULLA_OK)
        code = open_stores(made, error);
    if (code == BULLA_OK)
        code = start_thread(&made->worker, work, made, &made->is_worker_running, error);
    if (code == BULLA_OK)
        code = start_thread(&made->publishing, publish, made, &made->is_publishing_running, error);
    if (code == BULLA_OK)
        *log = made;
    else
        tlog_close(made);
    return code;
}

void tlog_close(struct tlog *log)
{
    if (!log)
        return;
    pthread_mutex_lock(&log->mutex);
    log->is_closing = 1;
    pthread_cond_signal(&log->appended);
    pthread_mutex_unlock(&log->mutex);
    if (log->is_worker_running)
        pthread_join(log->worker, NULL);
    if (log->is_publishing_running)
        pthread_join(log->publishing, NULL);
    free_log(log);
}

const struct note_key *tlog_key(const struct tlog *log)
{
    return &log->key;
}

const char *tlog_folder(const struct tlog *log)
{
    return log->folder;
}

/* ---- Calls ---- */

int tlog_append(struct tlog *log, const uint8_t id[TLOG_ID], const void *receipt, size_t length, tlog_done done,
                void *context, bulla_error *error)
{
    if (length > TLOG_MOST_RECEIPT_BYTES)
        return bulla_fail(error, BULLA_E_LIMIT, "a receipt of %zu bytes, the log takes at most %d", length,
                          TLOG_MOST_RECEIPT_BYTES);
    struct waiting *one = memory_alloc(1, sizeof *one + length, error);
    if (!one)
        return BULLA_E_MEMORY;
    memcpy(one->id, id, TLOG_ID);
    if (length > 0)
        memcpy(one->receipt, receipt, length);
    one->length = length;
    one->done = done;
    one->context = context;
    pthread_mutex_lock(&log->mutex);
    int is_full = log->waiting >= log->most_waiting || length > log->most_bytes - log->waiting_bytes;
    size_t waiting = log->waiting;
    if (!is_full) {
        *log->last = one;
        log->last = &one->next;
        log->waiting++;
        log->waiting_bytes += length;
        pthread_cond_signal(&log->appended);
    }
    pthread_mutex_unlock(&log->mutex);
    if (!is_full)
        return BULLA_OK;
    memory_free(one);
    return bulla_fail(error, BULLA_E_LIMIT, "the log has no room for another receipt: %zu wait for the disk", waiting);
}

int tlog_find(struct tlog *log, const uint8_t id[TLOG_ID], struct buffer *receipt, struct tlog_inclusion *inclusion,
              bulla_error *error)
{
    pthread_mutex_lock(&log->finding);
    int code = tlog_store_prove(log->finder, id, receipt, inclusion, error);
    pthread_mutex_unlock(&log->finding);
    return code;
}

void tlog_inclusion_free(struct tlog_inclusion *inclusion)
{
    memory_free(inclusion->checkpoint);
    inclusion->checkpoint = NULL;
    inclusion->checkpoint_length = 0;
}

void tlog_inclusion_write(const struct tlog_inclusion *inclusion, struct buffer *out)
{
    char hex[2 * MERKLE_HASH + 1];
    buffer_append_text(out, "{\"checkpoint\":");
    json_write_string(out, inclusion->checkpoint, inclusion->checkpoint_length);
    buffer_append_format(out, ",\"index\":%" PRIu64 ",\"path\":[", inclusion->index);
    for (unsigned i = 0; i < inclusion->length; i++) {
        hex_encode(inclusion->path[i], MERKLE_HASH, hex);
        buffer_append_format(out, "%s\"%s\"", i ? "," : "", hex);
    }
    buffer_append_text(out, "]}");
}

void tlog_status(struct tlog *log, struct tlog_status *status)
{
    pthread_mutex_lock(&log->mutex);
    *status = log->status;
    status->waiting = log->waiting;
    pthread_mutex_unlock(&log->mutex);
}
