/* What has to hold before an answer is whole, beyond its own receipt: the evidence that the receipt names, its place in a
 * log of one history, and that all of it is kept. */
#define _GNU_SOURCE
#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/hash.h"
#include "base/memory.h"
#include "serve/connect_parts.h"

enum {
    MOST_DOCUMENT = 8 << 20,
    MOST_KEY_LINE = 4096,
    /* For tiles that a log has not published yet: at first after 2 ms, as a log mostly is about to, then after twice as long
     * each time, but no longer than 300 ms; three seconds in all. */
    MOST_TRIES = 16, FIRST_TRY_MILLISECONDS = 2, LONGEST_TRY_MILLISECONDS = 300
};

static void run_log(struct connect *connect);

static void fail(struct passing *passing, const char *check, const char *text)
{
    struct connect_problem problem = {0};
    connect_fail(&problem, check, "%s", text);
    passing_fail(passing, 502, &problem);
}

/* ---- The log's key, and whether anything may be sent ---- */

static void say_log(struct connect *connect)
{
    struct buffer line = {0};
    note_key_write(connect_log_key(connect->log), &line);
    if (line.error.code == BULLA_OK)
        connect_tell(connect, "the server's log is %s%s", (const char *)line.data,
                     connect->options.log_key ? "" : "; --log-key pins it");
    buffer_free(&line);
}

/* A log that contradicted itself is trusted with nothing more. */
static void send_unless_forked(struct passing *passing)
{
    const char *fork = connect_log_fork(passing->connect->log);
    struct connect_problem problem = {0};
    if (!fork) {
        passing_send(passing);
        return;
    }
    connect_fail(&problem, "log.fork", "the server's log has forked, and nothing is sent to it: %.400s has the evidence; look "
                                       "into it, and remove it to go on", fork);
    passing_fail(passing, 502, &problem);
}

static void on_key(struct connect_fetch *fetch, const struct connect_problem *problem)
{
    struct connect *connect = fetch->context;
    struct connect_problem own = {0};
    struct note_key key;
    bulla_error error = {0};
    size_t length = fetch->body.length;
    int is_read = !problem && fetch->status == 200;
    while (is_read && length > 0 && fetch->body.data[length - 1] == '\n')
        length--;
    if (problem)
        own = *problem;
    else if (!is_read)
        connect_fail(&own, "log.key", "the server has no log (it answered with status %d); --no-log accepts receipts without one",
                     fetch->status);
    else if (length == 0 || note_key_read((const char *)fetch->body.data, length, &key, &error) != BULLA_OK)
        connect_fail(&own, "log.key", "the key of the server's log is none: %s", error.text);
    else if (connect_log_set_key(connect->log, &key, &error) != BULLA_OK)
        connect_fail(&own, "log.kept", "%s", error.text);
    else
        say_log(connect);
    connect_fetch_close(fetch);
    connect->key_fetch = NULL;
    while (connect->key_waiting) {
        struct passing *passing = connect->key_waiting;
        connect->key_waiting = passing->log_next;
        passing->waits_for_log = 0;
        if (own.check[0] && passing->kind != PASSING_PLAIN)
            passing_fail(passing, strncmp(own.check, "server.", 7) == 0 ? 503 : 502, &own);
        else
            send_unless_forked(passing);
    }
}

void prove_find_log(struct passing *passing)
{
    struct connect *connect = passing->connect;
    if (connect->options.needs_no_log || connect_log_key(connect->log)) {
        send_unless_forked(passing);
        return;
    }
    if (!connect->key_fetch &&
        connect_fetch_open(connect, "/log/key", MOST_KEY_LINE, on_key, connect, &connect->key_fetch) != BULLA_OK) {
        fail(passing, "memory", "memory is short");
        return;
    }
    passing->waits_for_log = 1;
    passing->log_next = connect->key_waiting;
    connect->key_waiting = passing;
}

/* ---- What is kept ---- */

/* 2026-11-28T04-12-09Z-ID.json, so that a folder lists them in order. */
static void write_path(struct passing *passing, struct buffer *path)
{
    const struct receipt *receipt = connect_check_get(passing->check);
    char id[2 * RECEIPT_ID + 1], when[40] = "";
    struct tm parts;
    time_t seconds = (time_t)receipt->time;
    hex_encode(receipt->id, RECEIPT_ID, id);
    if (gmtime_r(&seconds, &parts))
        strftime(when, sizeof when, "%Y-%m-%dT%H-%M-%SZ-", &parts);
    buffer_append_format(path, "%s/%s%s.json", passing->connect->options.receipts, when, id);
}

static void on_kept(void *context, const bulla_error *error)
{
    struct passing *passing = context;
    passing_enter(passing);
    passing->is_kept = 0;
    if (!passing->is_over && error)
        fail(passing, "kept", error->text);
    else if (!passing->is_over)
        passing_proved(passing);
    passing_leave(passing);
}

static const struct known_evidence *find_evidence(const struct passing *passing);

static void keep(struct passing *passing)
{
    struct connect *connect = passing->connect;
    const struct known_evidence *known = find_evidence(passing);
    struct connect_keep job = {.done = on_kept, .context = passing};
    bulla_error error = {0};
    write_path(passing, &job.document_path);
    connect_check_write(passing->check, known ? (const char *)known->document.data : NULL, known ? known->document.length : 0,
                        !connect->options.leaves_texts_out, &job.document);
    if (passing->entry.note.length) {
        const struct buffer *note = connect_log_note(connect->log);
        buffer_append_text(&job.checkpoint_path, connect_log_path(connect->log));
        buffer_append(&job.checkpoint, note->data, note->length);
    }
    if (job.document_path.length < sizeof passing->receipt_path)
        snprintf(passing->receipt_path, sizeof passing->receipt_path, "%s", (const char *)job.document_path.data);
    if (connect_keeper_put(connect->keeper, &job, &error) == BULLA_OK) {
        passing->is_kept = 1;
        return;
    }
    buffer_free(&job.document_path);
    buffer_free(&job.document);
    buffer_free(&job.checkpoint_path);
    buffer_free(&job.checkpoint);
    fail(passing, "kept", error.text);
}

/* ---- The log's history ---- */

static void leave_log(struct passing *passing)
{
    struct connect *connect = passing->connect;
    for (struct passing **at = &connect->log_waiting; *at; at = &(*at)->log_next)
        if (*at == passing) {
            *at = passing->log_next;
            break;
        }
    for (struct passing **at = &connect->key_waiting; *at; at = &(*at)->log_next)
        if (*at == passing) {
            *at = passing->log_next;
            break;
        }
    if (connect->log_first == passing)
        connect->log_first = NULL;
    passing->waits_for_log = 0;
}

/* The tile, or the whole one, or what of it there is by now: a log publishes its tiles some time after it signs. */
static void ask_tile(struct connect *connect, const struct tlog_tile *tile);

static void wait_for_tile(struct connect *connect)
{
    struct passing *first = connect->log_first;
    if (!first || ++first->tries > MOST_TRIES) {
        connect_log_give(connect->log, &connect->tile, NULL, 0);
        run_log(connect);
        return;
    }
    unsigned pause = first->tries < 9 ? FIRST_TRY_MILLISECONDS << (first->tries - 1) : LONGEST_TRY_MILLISECONDS;
    connect->waits_for_tile = 1;
    event_add(connect->tile_timer, &(struct timeval){.tv_usec = (suseconds_t)pause * 1000});
}

static void on_tile_timer(evutil_socket_t nothing, short what, void *context)
{
    struct connect *connect = context;
    connect->waits_for_tile = 0;
    if (connect->log_first)
        ask_tile(connect, &connect->tile);
    else
        run_log(connect);
}

/* A fetch has ended; whether it has what was wanted. A failure on the way is that of the answer which waits for it. */
static int end_fetch(struct connect *connect, struct connect_fetch *fetch, const struct connect_problem *problem)
{
    struct passing *first = connect->log_first;
    connect->tile_fetch = NULL;
    if (!problem)
        return fetch->status == 200;
    if (first) {
        leave_log(first);
        passing_fail(first, 502, problem);
    }
    connect_fetch_close(fetch);
    run_log(connect);
    return -1;
}

static void on_wider_tile(struct connect_fetch *fetch, const struct connect_problem *problem)
{
    struct connect *connect = fetch->context;
    int is_there = end_fetch(connect, fetch, problem);
    if (is_there < 0)
        return;
    struct tlog_tile wider = connect->tile;
    wider.width = (unsigned)(fetch->body.length / MERKLE_HASH);
    is_there = is_there && wider.width >= connect->tile.width && wider.width <= TLOG_TILE_WIDTH &&
               fetch->body.length % MERKLE_HASH == 0;
    if (is_there)
        connect_log_give(connect->log, &wider, fetch->body.data, fetch->body.length);
    connect_fetch_close(fetch);
    if (is_there)
        run_log(connect);
    else
        wait_for_tile(connect);
}

static int get(struct connect *connect, const char *path, size_t most,
               void (*done)(struct connect_fetch *fetch, const struct connect_problem *problem))
{
    if (connect_fetch_open(connect, path, most, done, connect, &connect->tile_fetch) == BULLA_OK)
        return 1;
    struct passing *first = connect->log_first;
    if (first) {
        leave_log(first);
        fail(first, "memory", "memory is short");
    }
    return 0;
}

/* The published checkpoint says how wide the tile is now. */
static void on_published(struct connect_fetch *fetch, const struct connect_problem *problem)
{
    struct connect *connect = fetch->context;
    struct tlog_tile wider = connect->tile;
    struct checkpoint checkpoint;
    char path[16 + TLOG_TILE_PATH] = "/log/";
    uint64_t count = 0, before = wider.index * TLOG_TILE_WIDTH;
    bulla_error error = {0};
    int is_there = end_fetch(connect, fetch, problem);
    if (is_there < 0)
        return;
    if (is_there && checkpoint_open((const char *)fetch->body.data, fetch->body.length, connect_log_key(connect->log), 1, 0,
                                    &checkpoint, &error) == BULLA_OK)
        count = checkpoint.size >> (8 * wider.level);
    connect_fetch_close(fetch);
    if (count < before + wider.width) {
        wait_for_tile(connect);
        return;
    }
    wider.width = count - before < TLOG_TILE_WIDTH ? (unsigned)(count - before) : TLOG_TILE_WIDTH;
    tlog_tile_path(&wider, path + strlen(path));
    get(connect, path, TLOG_TILE_BYTES, on_wider_tile);
}

static void on_tile(struct connect_fetch *fetch, const struct connect_problem *problem)
{
    struct connect *connect = fetch->context;
    int is_there = end_fetch(connect, fetch, problem);
    if (is_there < 0)
        return;
    if (is_there)
        connect_log_give(connect->log, &connect->tile, fetch->body.data, fetch->body.length);
    connect_fetch_close(fetch);
    if (is_there)
        run_log(connect);
    else if (!get(connect, "/log/checkpoint", MOST_NOTE_BYTES, on_published))
        run_log(connect);
}

static void ask_tile(struct connect *connect, const struct tlog_tile *tile)
{
    char path[16 + TLOG_TILE_PATH] = "/log/";
    connect->tile = *tile;
    tlog_tile_path(tile, path + strlen(path));
    get(connect, path, TLOG_TILE_BYTES, on_tile);
}

/* The one with the largest tree goes first: the tiles for it have what the others need. */
static struct passing *choose_first(const struct connect *connect)
{
    struct passing *first = connect->log_waiting;
    for (struct passing *passing = first; passing; passing = passing->log_next)
        if (passing->entry.checkpoint.size > first->entry.checkpoint.size)
            first = passing;
    return first;
}

static void run_log(struct connect *connect)
{
    while (connect->log_waiting && !connect->tile_fetch && !connect->waits_for_tile) {
        struct passing *first = connect->log_first ? connect->log_first : choose_first(connect);
        struct connect_problem problem = {0};
        struct tlog_tile want;
        enum connect_history history = connect_log_compare(connect->log, &first->entry, &want, &problem);
        connect->log_first = first;
        if (history == CONNECT_WANTS_TILE) {
            ask_tile(connect, &want);
            continue;
        }
        leave_log(first);
        if (history == CONNECT_ONE_HISTORY)
            keep(first);
        else
            passing_fail(first, 502, &problem);
    }
}

static void enter_log(struct passing *passing)
{
    struct connect *connect = passing->connect;
    const struct json *member = connect_check_log(passing->check);
    struct connect_problem problem = {0};
    if (!member && connect->options.needs_no_log) {
        keep(passing);
        return;
    }
    if (!member) {
        fail(passing, "log.inclusion", "the answer's receipt is in no log");
        return;
    }
    if (!connect_log_key(connect->log)) { /* --no-log, and there is one: nobody said by which key */
        keep(passing);
        return;
    }
    if (connect_log_read(connect->log, member, connect_check_leaf(passing->check), &passing->entry, &problem) != BULLA_OK) {
        passing_fail(passing, 502, &problem);
        return;
    }
    passing->waits_for_log = 1;
    passing->log_next = connect->log_waiting;
    connect->log_waiting = passing;
    run_log(connect);
}

/* ---- Evidence ---- */

static int is_known(const struct known_evidence *known, const struct passing *passing)
{
    const struct receipt *receipt = connect_check_get(passing->check);
    return memcmp(known->hash, receipt->evidence, 32) == 0 && memcmp(known->receipt_key, receipt->key, 32) == 0 &&
           memcmp(known->model, receipt->model_root, 32) == 0 &&
           memcmp(known->tls_key, connect_ask_tls_key(passing->ask), 32) == 0;
}

static const struct known_evidence *find_evidence(const struct passing *passing)
{
    const struct connect *connect = passing->connect;
    size_t count = connect->known_count < CONNECT_MOST_EVIDENCE ? connect->known_count : CONNECT_MOST_EVIDENCE;
    for (size_t i = 0; i < count; i++)
        if (is_known(&connect->known[i], passing))
            return &connect->known[i];
    return NULL;
}

/* The document in canonical form, where it is the one that the receipt names. */
static int read_document(const struct connect_fetch *fetch, const struct passing *passing, struct buffer *text,
                         struct connect_problem *problem)
{
    struct arena arena = {0};
    bulla_error error = {0};
    uint8_t hash[HASH_SHA256_BYTES];
    if (fetch->status != 200 || fetch->body.length == 0)
        return connect_fail(problem, "receipt.evidence", "the server does not give the evidence that the receipt names: it "
                                                         "answered with status %d", fetch->status);
    const struct json *value = json_parse((const char *)fetch->body.data, fetch->body.length, "the evidence", &arena, &error);
    if (value)
        json_write_canonical(text, value);
    arena_free(&arena);
    if (!value || text->error.code != BULLA_OK || hash_sha256(text->data, text->length, hash, &error) != BULLA_OK)
        return connect_fail(problem, "receipt.evidence", "%s", error.code ? error.text : text->error.text);
    if (memcmp(hash, connect_check_get(passing->check)->evidence, sizeof hash) != 0)
        return connect_fail(problem, "receipt.evidence", "the server gives another document than the one that the receipt names");
    return BULLA_OK;
}

static void on_evidence(struct connect_fetch *fetch, const struct connect_problem *failure)
{
    struct passing *passing = fetch->context;
    struct connect *connect = passing->connect;
    struct connect_problem problem = {0};
    struct buffer text = {0};
    passing_enter(passing);
    const struct receipt *receipt = connect_check_get(passing->check);
    int code = failure ? BULLA_E_IO : read_document(fetch, passing, &text, &problem);
    if (code == BULLA_OK)
        code = connect_verify_evidence(connect->link, (const char *)text.data, text.length, connect_ask_tls_key(passing->ask),
                                       NULL, receipt->key, receipt->model_root, 1, &problem);
    passing->evidence = NULL;
    if (code == BULLA_OK) {
        struct known_evidence *known = &connect->known[connect->known_count++ % CONNECT_MOST_EVIDENCE];
        buffer_free(&known->document);
        known->document = text;
        memcpy(known->hash, receipt->evidence, sizeof known->hash);
        memcpy(known->receipt_key, receipt->key, sizeof known->receipt_key);
        memcpy(known->model, receipt->model_root, sizeof known->model);
        memcpy(known->tls_key, connect_ask_tls_key(passing->ask), sizeof known->tls_key);
        enter_log(passing);
    } else {
        buffer_free(&text);
        passing_fail(passing, 502, failure ? failure : &problem);
    }
    connect_fetch_close(fetch);
    passing_leave(passing);
}

static void find_document(struct passing *passing)
{
    static const uint8_t zeros[RECEIPT_HASH];
    const struct receipt *receipt = connect_check_get(passing->check);
    char path[32 + 2 * RECEIPT_HASH] = "/v1/evidence/";
    if (find_evidence(passing)) {
        enter_log(passing);
        return;
    }
    if (memcmp(receipt->evidence, zeros, sizeof zeros) == 0) {
        fail(passing, "receipt.evidence", "the receipt names no evidence");
        return;
    }
    hex_encode(receipt->evidence, RECEIPT_HASH, path + strlen(path));
    if (connect_fetch_open(passing->connect, path, MOST_DOCUMENT, on_evidence, passing, &passing->evidence) != BULLA_OK)
        fail(passing, "memory", "memory is short");
}

void prove_begin(struct passing *passing)
{
    struct connect_problem problem = {0};
    const struct connect_pin *pin = connect_ask_pin(passing->ask);
    if (connect_check_receipt(passing->check, pin, &problem) != BULLA_OK) {
        passing_fail(passing, 502, &problem);
        return;
    }
    struct verdict verdict = {0};
    int is_accepted = policy_check_model(connect_link_policy(passing->connect->link),
                                         connect_check_get(passing->check)->model_root, &verdict);
    verdict_free(&verdict);
    if (is_accepted)
        find_document(passing);
    else
        fail(passing, "policy.models", "the policy does not accept the model that answered");
}

void prove_cancel(struct passing *passing)
{
    struct connect *connect = passing->connect;
    connect_fetch_close(passing->evidence);
    passing->evidence = NULL;
    if (!passing->waits_for_log)
        return;
    leave_log(passing);
    if (connect->tile_timer && connect->waits_for_tile && !connect->log_first) {
        event_del(connect->tile_timer);
        connect->waits_for_tile = 0;
        run_log(connect);
    }
}

int prove_open(struct connect *connect)
{
    connect->tile_timer = evtimer_new(connect->base, on_tile_timer, connect);
    return connect->tile_timer != NULL;
}

void prove_close(struct connect *connect)
{
    connect_fetch_close(connect->key_fetch);
    connect_fetch_close(connect->tile_fetch);
    if (connect->tile_timer)
        event_free(connect->tile_timer);
    for (size_t i = 0; i < CONNECT_MOST_EVIDENCE; i++)
        buffer_free(&connect->known[i].document);
}
