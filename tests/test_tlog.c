/* The log: batches, proofs, restarts, several at one folder, what is full, what is damaged. tests/python/test_tlog.py has the
 * processes that are killed, the power that is lost, witnesses and monitors. */
#define _GNU_SOURCE
#include "test.h"

#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/memory.h"
#include "trust/checkpoint.h"
#include "trust/tlog.h"
#include "trust/tlog_tiles.h"

static char folder[64];

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    (void)status;
    (void)kind;
    (void)walk;
    return remove(path);
}

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/bulla-test-tlog-XXXXXX");
    return mkdtemp(folder) ? rmdir(folder) : -1; /* the log makes it */
}

static int remove_folder(void **state)
{
    (void)state;
    return nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static const char *in_folder(const char *name)
{
    static char path[2][512];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

/* --- appending, and what came of it --- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

struct append {
    struct tlog *log;
    uint64_t number;
    int is_done, is_proved;
    uint64_t index, size;
    bulla_error error;
};

static size_t write_receipt(uint64_t number, char text[64])
{
    return (size_t)snprintf(text, 64, "{\"receipt\":%llu}", (unsigned long long)number);
}

static void write_id(uint64_t number, uint8_t id[TLOG_ID])
{
    memset(id, 7, TLOG_ID);
    memcpy(id, &number, sizeof number);
}

static void hash_leaf(const void *receipt, size_t length, uint8_t leaf[32])
{
    uint8_t hash[32];
    hash_sha256(receipt, length, hash, NULL);
    merkle_leaf_hash(hash, sizeof hash, leaf, NULL);
}

static int is_proved(const struct note_key *key, const struct tlog_inclusion *inclusion, const void *receipt, size_t length)
{
    struct checkpoint checkpoint;
    uint8_t leaf[32];
    hash_leaf(receipt, length, leaf);
    return checkpoint_open(inclusion->checkpoint, inclusion->checkpoint_length, key, 1, 0, &checkpoint, NULL) == BULLA_OK &&
           checkpoint.size == inclusion->size && strlen(inclusion->checkpoint) == inclusion->checkpoint_length &&
           merkle_path_verify(leaf, inclusion->index, inclusion->size, inclusion->path[0], inclusion->length, checkpoint.root, NULL);
}

static void on_done(void *context, const struct tlog_inclusion *inclusion, const bulla_error *error)
{
    struct append *one = context;
    char text[64];
    assert_true((inclusion == NULL) == (error != NULL));
    memory_inject_failure(0, 0); /* what follows is the test's own */
    pthread_mutex_lock(&mutex);
    if (inclusion) {
        one->is_proved = is_proved(tlog_key(one->log), inclusion, text, write_receipt(one->number, text));
        one->index = inclusion->index;
        one->size = inclusion->size;
    } else
        one->error = *error;
    one->is_done++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
}

static int append(struct tlog *log, uint64_t number, struct append *one, bulla_error *error)
{
    uint8_t id[TLOG_ID];
    char text[64];
    *one = (struct append){.log = log, .number = number};
    write_id(number, id);
    return tlog_append(log, id, text, write_receipt(number, text), on_done, one, error);
}

static void wait_done(struct append *one)
{
    pthread_mutex_lock(&mutex);
    while (!one->is_done)
        pthread_cond_wait(&changed, &mutex);
    pthread_mutex_unlock(&mutex);
}

/* Appends one and expects it to be in the log afterwards. */
static void append_now(struct tlog *log, uint64_t number, uint64_t index)
{
    struct append one;
    bulla_error error = {0};
    assert_ok(append(log, number, &one, &error), error);
    wait_done(&one);
    assert_ok(one.error.code, one.error);
    assert_true(one.is_proved);
    assert_int_equal(one.index, index);
}

static struct tlog *open_log_of(struct tlog_options options)
{
    bulla_error error = {0};
    struct tlog *log;
    options.folder = folder;
    assert_ok(tlog_open(&options, &log, &error), error);
    return log;
}

static struct tlog *open_log(void)
{
    return open_log_of((struct tlog_options){0});
}

static void expect_refusal(const char *part)
{
    bulla_error error = {0};
    struct tlog *log;
    if (tlog_open(&(struct tlog_options){.folder = folder}, &log, &error) == BULLA_OK)
        fail_msg("it was opened, expected: %s", part);
    assert_null(log);
    if (!strstr(error.text, part))
        fail_msg("\"%s\" without \"%s\"", error.text, part);
}

static void expect_whole(uint64_t size)
{
    struct tlog_check check;
    bulla_error error = {0};
    assert_ok(tlog_check(folder, &check, &error), error);
    assert_int_equal(check.size, size);
    assert_int_equal(check.published, size);
}

/* --- tests --- */

static void appends_are_proved(void **state)
{
    (void)state;
    enum { COUNT = 700 };
    struct append *all = calloc(COUNT, sizeof *all);
    bulla_error error = {0};
    struct tlog *log = open_log_of((struct tlog_options){.origin = "example.com/log"});
    struct tlog_status status;
    assert_string_equal(tlog_key(log)->name, "example.com/log");
    assert_string_equal(tlog_folder(log), folder);
    for (int i = 0; i < COUNT; i++) {
        assert_ok(append(log, (uint64_t)i, &all[i], &error), error);
        if (i < 5 || i == 400)
            wait_done(&all[i]); /* batches of one, and larger ones */
    }
    for (int i = 0; i < COUNT; i++) {
        wait_done(&all[i]);
        assert_ok(all[i].error.code, all[i].error);
        assert_true(all[i].is_proved);
        assert_int_equal(all[i].index, i);
        assert_true(all[i].size > (uint64_t)i);
        assert_true(i == 0 || all[i].size >= all[i - 1].size);
    }
    tlog_status(log, &status);
    assert_int_equal(status.size, COUNT);
    assert_int_equal(status.waiting, 0);
    assert_true(status.batches >= 6 && status.batches < COUNT);
    tlog_close(log);
    free(all);
    expect_whole(COUNT);
}

static void receipts_are_found(void **state)
{
    (void)state;
    struct tlog *log = open_log();
    bulla_error error = {0};
    uint8_t id[TLOG_ID];
    char text[64];
    for (uint64_t i = 0; i < 20; i++)
        append_now(log, i, i);
    for (uint64_t i = 0; i < 20; i++) {
        struct tlog_inclusion inclusion;
        struct buffer receipt = {0}, json = {0};
        struct arena arena = {0};
        write_id(i, id);
        assert_ok(tlog_find(log, id, &receipt, &inclusion, &error), error);
        assert_int_equal(inclusion.index, i);
        assert_int_equal(inclusion.size, 20);
        assert_int_equal(receipt.length, write_receipt(i, text));
        assert_memory_equal(receipt.data, text, receipt.length);
        assert_true(is_proved(tlog_key(log), &inclusion, receipt.data, receipt.length));
        tlog_inclusion_write(&inclusion, &json);
        const struct json *value = json_parse((const char *)json.data, json.length, "log", &arena, &error);
        assert_non_null(value);
        assert_int_equal(json_get(value, "index")->integer, i);
        assert_int_equal(json_get(value, "path")->length, inclusion.length);
        assert_string_equal(json_get(value, "checkpoint")->text, inclusion.checkpoint);
        struct buffer canonical = {0};
        json_write_canonical(&canonical, value);
        assert_string_equal((const char *)canonical.data, (const char *)json.data);
        buffer_free(&canonical);
        buffer_free(&json);
        arena_free(&arena);
        tlog_inclusion_free(&inclusion);
        assert_ok(tlog_read_receipt(folder, id, NULL, &inclusion, &error), error);
        assert_int_equal(inclusion.index, i);
        tlog_inclusion_free(&inclusion);
        buffer_free(&receipt);
    }
    struct tlog_inclusion none;
    write_id(20, id);
    assert_int_equal(tlog_find(log, id, NULL, &none, &error), BULLA_E_USAGE);
    assert_non_null(strstr(error.text, "no receipt with the id 14000000000000000707070707070707"));
    assert_null(none.checkpoint);
    struct note_key key;
    bulla_error_clear(&error);
    assert_ok(tlog_read_key(folder, &key, &error), error);
    assert_memory_equal(&key, tlog_key(log), sizeof key);
    assert_int_equal(strncmp(key.name, "bulla-", 6), 0);
    tlog_close(log);
}

static void an_id_is_taken_once(void **state)
{
    (void)state;
    struct tlog *log = open_log();
    struct append again[3];
    bulla_error error = {0};
    append_now(log, 1, 0);
    for (int i = 0; i < 3; i++)
        assert_ok(append(log, i == 1 ? 2 : 1, &again[i], &error), error);
    for (int i = 0; i < 3; i++)
        wait_done(&again[i]);
    assert_int_equal(again[0].error.code, BULLA_E_USAGE);
    assert_non_null(strstr(again[0].error.text, "already"));
    assert_ok(again[1].error.code, again[1].error);
    assert_true(again[1].is_proved);
    assert_int_equal(again[1].index, 1);
    assert_int_equal(again[2].error.code, BULLA_E_USAGE);
    tlog_close(log);
    expect_whole(2);
}

static void it_goes_on_after_a_restart(void **state)
{
    (void)state;
    char name[NOTE_NAME];
    struct stat status;
    for (uint64_t i = 0; i < 8; i++) {
        struct tlog *log = open_log();
        if (i > 0)
            assert_string_equal(tlog_key(log)->name, name);
        strcpy(name, tlog_key(log)->name);
        for (uint64_t k = 0; k < 70; k++)
            append_now(log, 70 * i + k, 70 * i + k);
        tlog_close(log);
        expect_whole(70 * (i + 1));
    }
    assert_int_equal(stat(in_folder("key.pem"), &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    assert_int_not_equal(access(in_folder("publishing"), F_OK), 0);
    assert_int_not_equal(access(in_folder("tile/0/001.p"), F_OK), 0); /* narrow ones go with the whole one */
    assert_int_equal(access(in_folder("tile/0/001"), F_OK), 0);
}

static void close_waits_for_what_was_appended(void **state)
{
    (void)state;
    enum { COUNT = 300 };
    static struct append all[COUNT];
    bulla_error error = {0};
    struct tlog *log = open_log();
    const struct note_key key = *tlog_key(log);
    for (uint64_t i = 0; i < COUNT; i++)
        assert_ok(append(log, i, &all[i], &error), error);
    tlog_close(log);
    for (uint64_t i = 0; i < COUNT; i++)
        assert_true(all[i].is_done == 1 && all[i].is_proved);
    assert_int_equal(key.algorithm, NOTE_ED25519);
    expect_whole(COUNT);
}

static void two_take_turns(void **state)
{
    (void)state;
    struct tlog *logs[2] = {open_log(), open_log()};
    static struct append all[2][200];
    bulla_error error = {0};
    for (uint64_t i = 0; i < 50; i++)
        append_now(logs[i % 2], i, i);
    for (uint64_t i = 0; i < 200; i++)
        for (int k = 0; k < 2; k++)
            assert_ok(append(logs[k], 1000 * (uint64_t)(k + 1) + i, &all[k][i], &error), error);
    tlog_close(logs[0]);
    tlog_close(logs[1]);
    uint8_t seen[450] = {0};
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < 200; i++) {
            assert_true(all[k][i].is_proved);
            assert_true(all[k][i].index >= 50 && all[k][i].index < 450);
            assert_int_equal(seen[all[k][i].index]++, 0);
        }
    expect_whole(450);
}

/* --- what is full --- */

static sqlite3 *hold_database(const char *sql)
{
    sqlite3 *database;
    assert_int_equal(sqlite3_open(in_folder("log.db"), &database), SQLITE_OK);
    sqlite3_busy_timeout(database, 10000);
    assert_int_equal(sqlite3_exec(database, sql, NULL, NULL, NULL), SQLITE_OK);
    return database;
}

static void the_queue_is_bounded(void **state)
{
    (void)state;
    static struct append all[11], over;
    bulla_error error = {0};
    for (int by_bytes = 0; by_bytes < 2; by_bytes++) {
        struct tlog *log = open_log_of(by_bytes ? (struct tlog_options){.most_bytes = 160} : (struct tlog_options){.most_waiting = 10});
        sqlite3 *database = hold_database("BEGIN IMMEDIATE");
        uint64_t count = 0, base = 1000 * (uint64_t)by_bytes;
        while (count < 11 && append(log, base + count, &all[count], &error) == BULLA_OK)
            count++;
        assert_int_equal(error.code, BULLA_E_LIMIT);
        assert_non_null(strstr(error.text, "no room"));
        bulla_error_clear(&error);
        assert_true(count <= 10 && count >= 8);
        sqlite3_exec(database, "ROLLBACK", NULL, NULL, NULL);
        sqlite3_close(database);
        for (uint64_t i = 0; i < count; i++) {
            wait_done(&all[i]);
            assert_true(all[i].is_proved);
        }
        assert_int_equal(all[count].is_done, 0);
        assert_ok(append(log, base + 500, &over, &error), error);
        wait_done(&over);
        assert_true(over.is_proved);
        static char large[TLOG_MOST_RECEIPT_BYTES + 1];
        uint8_t id[TLOG_ID] = {1};
        assert_int_equal(tlog_append(log, id, large, sizeof large, on_done, &over, NULL), BULLA_E_LIMIT);
        tlog_close(log);
    }
}

/* The time of day was a year ahead, and is set right while something waits: it must not wait for that year. */
static volatile int clock_is_set_back;

int clock_gettime(clockid_t which, struct timespec *now)
{
    int result = (int)syscall(SYS_clock_gettime, which, now);
    now->tv_sec += which == CLOCK_REALTIME && clock_is_set_back ? 365 * 24 * 3600 : 0;
    return result;
}

/* No file may grow beyond what log.db has: as on a full disk. */
static void limit_files(rlim_t bytes)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void wait_published(struct tlog *log, uint64_t size)
{
    struct tlog_status status;
    do {
        usleep(10000);
        tlog_status(log, &status);
    } while (status.published != size || status.trouble.code != BULLA_OK);
}

static void a_full_disk_loses_nothing(void **state)
{
    (void)state;
    struct append one;
    bulla_error error = {0};
    struct tlog_status status;
    signal(SIGXFSZ, SIG_IGN);
    struct tlog *log = open_log();
    for (uint64_t i = 0; i < 10; i++)
        append_now(log, i, i);
    for (int turn = 0; turn < 3; turn++) {
        limit_files(100);
        assert_ok(append(log, 100, &one, &error), error);
        wait_done(&one);
        assert_int_equal(one.error.code, BULLA_E_IO);
        assert_non_null(strstr(one.error.text, "log.db"));
        limit_files(RLIM_INFINITY);
        append_now(log, 10 + (uint64_t)turn, 10 + (uint64_t)turn);
    }
    append_now(log, 100, 13);
    /* Files alone: the receipts are durable all the same, and the files follow. */
    wait_published(log, 14);
    assert_int_equal(unlink(in_folder("checkpoint")), 0);
    assert_int_equal(mkdir(in_folder("checkpoint"), 0755), 0);
    clock_is_set_back = 1;
    append_now(log, 14, 14);
    do {
        usleep(10000);
        tlog_status(log, &status);
    } while (status.trouble.code == BULLA_OK);
    assert_int_equal(status.trouble.code, BULLA_E_IO);
    assert_non_null(strstr(status.trouble.text, "checkpoint"));
    assert_int_equal(rmdir(in_folder("checkpoint")), 0);
    wait_published(log, 15); /* hangs where it is tried again at a time of day */
    clock_is_set_back = 0;
    tlog_close(log);
    expect_whole(15);
}

/* A process that goes on in a file without a name would fork from whoever opens the new one. */
static void a_database_that_was_replaced_takes_nothing(void **state)
{
    (void)state;
    struct append one;
    char away[4096];
    bulla_error error = {0};
    struct tlog *log = open_log();
    append_now(log, 0, 0);
    snprintf(away, sizeof away, "%s", in_folder("away.db"));
    assert_int_equal(rename(in_folder("log.db"), away), 0);
    assert_ok(append(log, 1, &one, &error), error);
    wait_done(&one);
    assert_int_equal(one.error.code, BULLA_E_IO);
    assert_non_null(strstr(one.error.text, "moved or replaced"));
    assert_int_equal(rename(away, in_folder("log.db")), 0);
    append_now(log, 1, 1);
    tlog_close(log);
    expect_whole(2);
}

static void short_memory_is_an_error(void **state)
{
    (void)state;
    struct tlog *log = open_log();
    append_now(log, 0, 0);
    tlog_close(log);
    for (uint64_t n = 1; n < 400; n++) {
        bulla_error error = {0};
        uint64_t before = memory_allocation_count();
        memory_inject_failure(n, 0);
        int code = tlog_open(&(struct tlog_options){.folder = folder}, &log, &error);
        memory_inject_failure(0, 0);
        uint64_t made = memory_allocation_count() - before;
        tlog_close(log);
        if (code == BULLA_OK && made < n)
            break;
        if (code != BULLA_OK && code != BULLA_E_MEMORY)
            fail_msg("allocation %llu: %s", (unsigned long long)n, error.text);
    }
    expect_whole(1);
}

/* Of an append: it is refused, fails, or is there; whatever it was, the next is there. */
static void short_memory_while_appending(void **state)
{
    (void)state;
    struct tlog *log = open_log();
    uint64_t index = 0, failed = 0;
    for (uint64_t n = 1; n < 40; n++) {
        struct append one;
        bulla_error error = {0};
        memory_inject_failure(n, 0);
        int code = append(log, n, &one, &error);
        if (code == BULLA_OK)
            wait_done(&one);
        memory_inject_failure(0, 0);
        if (code == BULLA_OK && one.error.code == BULLA_OK) {
            assert_true(one.is_proved);
            assert_int_equal(one.index, index++);
        } else {
            assert_int_equal(code == BULLA_OK ? one.error.code : code, BULLA_E_MEMORY);
            failed++;
            append_now(log, n, index++);
        }
    }
    assert_true(failed > 3);
    tlog_close(log);
    expect_whole(index);
}

/* Whoever may not write there gets an error, and leaves everything as it is. */
static void others_may_not_append(void **state)
{
    (void)state;
    enum { NOBODY = 65534 };
    if (geteuid() != 0)
        skip();
    tlog_close(open_log());
    for (int is_readable = 0; is_readable < 2; is_readable++) {
        assert_int_equal(chmod(folder, is_readable ? 0755 : 0700), 0);
        assert_int_equal(chmod(in_folder("log.db"), 0644), 0);
        pid_t child = fork();
        if (child == 0) {
            bulla_error error = {0};
            struct tlog *log;
            int is_refused = setuid(NOBODY) == 0 &&
                             tlog_open(&(struct tlog_options){.folder = folder}, &log, &error) == BULLA_E_IO && !log &&
                             strstr(error.text, "Permission denied");
            _exit(is_refused ? 0 : 1);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
    }
    expect_whole(0);
}

/* --- what is damaged --- */

static void write_file(const char *name, const char *text)
{
    bulla_error error = {0};
    assert_ok(file_write(in_folder(name), text, strlen(text), &error), error);
}

static void move(const char *from, const char *to)
{
    assert_int_equal(rename(in_folder(from), in_folder(to)), 0);
}

/* A log of `count` receipts, closed. */
static void make_log(uint64_t first, uint64_t count)
{
    struct tlog *log = open_log();
    for (uint64_t i = 0; i < count; i++)
        append_now(log, first + i, first + i);
    tlog_close(log);
}

static void change(const char *sql)
{
    sqlite3_close(hold_database(sql));
}

static void torn_files_are_mended(void **state)
{
    (void)state;
    static const char *const files[] = {"tile/0/000",     "tile/0/001",         "tile/0/002.p/8", "tile/1/000.p/2",
                                        "tile/entries/001", "tile/entries/002.p/8", "checkpoint"};
    make_log(0, 520);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        bulla_error error = {0};
        struct tlog_check check;
        write_file(files[i], i % 2 ? "" : "torn");
        change("UPDATE log SET published = 0");
        assert_int_equal(tlog_check(folder, &check, &error), BULLA_E_INPUT);
        assert_non_null(strstr(error.text, files[i]));
        tlog_close(open_log());
        expect_whole(520);
        assert_int_equal(unlink(in_folder(files[i])), 0);
        change("UPDATE log SET published = 0");
        tlog_close(open_log());
        expect_whole(520);
    }
    /* Of whole tiles that were durable nothing is written again. */
    struct stat before, after;
    assert_int_equal(stat(in_folder("tile/0/000"), &before), 0);
    make_log(520, 1);
    assert_int_equal(stat(in_folder("tile/0/000"), &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
}

static void parts_that_do_not_belong_together(void **state)
{
    (void)state;
    bulla_error error = {0};
    struct tlog *log;
    make_log(0, 3);
    assert_int_equal(tlog_open(&(struct tlog_options){.folder = folder, .origin = "another"}, &log, &error), BULLA_E_USAGE);
    assert_non_null(strstr(error.text, "not another"));
    move("key.pem", "kept.pem");
    expect_refusal("is not there; put it back");
    write_file("key.pem", "no key");
    expect_refusal("not an Ed25519 private key");
    char own[64];
    strcpy(own, folder);
    make_folder(NULL);
    make_log(0, 1);
    assert_int_equal(rename(in_folder("key.pem"), "/tmp/bulla-test-tlog-key"), 0);
    remove_folder(NULL);
    strcpy(folder, own);
    assert_int_equal(rename("/tmp/bulla-test-tlog-key", in_folder("key.pem")), 0);
    expect_refusal("not the key of the log in log.db");
    move("kept.pem", "key.pem");
    expect_whole(3);
    /* Its history is gone. */
    move("log.db", "kept.db");
    expect_refusal("would be a fork");
    unlink(in_folder("log.db"));
    move("kept.db", "log.db");
    /* An older copy. */
    uint8_t *bytes;
    size_t length;
    bulla_error_clear(&error);
    assert_ok(file_read(in_folder("log.db"), 1 << 20, &bytes, &length, &error), error);
    make_log(3, 2);
    assert_ok(file_write(in_folder("log.db"), bytes, length, &error), error);
    memory_free(bytes);
    expect_refusal("checkpoint: is of 5 receipts, log.db has 3: the database is an older copy");
    struct tlog_check check;
    assert_int_equal(tlog_check(folder, &check, &error), BULLA_E_INPUT);
    assert_non_null(strstr(error.text, "older copy"));
    /* The tiles show it where the checkpoint does not. */
    assert_int_equal(unlink(in_folder("checkpoint")), 0);
    expect_refusal("tile: is of at least 5 receipts, log.db has 3: the database is an older copy");
    write_file("tile/entries/000", "");
    expect_refusal("tile: is of at least 256 receipts");
    assert_int_equal(mkdir(in_folder("tile/0/007.p"), 0700), 0);
    expect_refusal("tile: is of at least 1793 receipts");
    assert_int_equal(mkdir(in_folder("tile/0/x001"), 0700), 0);
    expect_refusal("tile: is of at least 256001 receipts");
}

static void damaged_databases_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *sql, *part;
    } cases[] = {
        {"UPDATE log SET size = 299, published = 0", "not those that it has signed"},
        {"UPDATE log SET root = zeroblob(32)", "not those that it has signed"},
        {"UPDATE log SET root = zeroblob(31)", "malformed"},
        {"UPDATE log SET origin = 'x'", "x"},
        {"UPDATE log SET checkpoint = ''", "malformed"},
        {"UPDATE log SET checkpoint = 'a' || checkpoint", "signature"},
        {"UPDATE log SET published = 1000", "malformed"},
        {"DELETE FROM log", "malformed"},
        {"DELETE FROM tiles WHERE level = 1", "is not there"},
        {"UPDATE tiles SET hashes = substr(hashes, 1, 32) WHERE level = 0 AND position = 1", "is not there"},
        {"UPDATE tiles SET hashes = zeroblob(44 * 32) WHERE level = 0 AND position = 1", "root that was signed"},
        {"UPDATE tiles SET hashes = zeroblob(33) WHERE level = 0 AND position = 1", "length"},
        {"DELETE FROM receipts WHERE position = 299", "299 receipts"},
        {"INSERT INTO receipts VALUES (300, x'00', x'00', x'00')", "301 receipts"},
        {"PRAGMA user_version = 2", "version"},
        {"PRAGMA application_id = 2", "application"},
        {"DROP TABLE tiles", "tiles"},
    };
    make_log(0, 300);
    bulla_error error = {0};
    uint8_t *bytes;
    size_t length;
    assert_ok(file_read(in_folder("log.db"), 8 << 20, &bytes, &length, &error), error);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        change(cases[i].sql);
        expect_refusal(cases[i].part);
        struct tlog_check check;
        assert_int_not_equal(tlog_check(folder, &check, NULL), BULLA_OK);
        assert_ok(file_write(in_folder("log.db"), bytes, length, &error), error);
    }
    expect_whole(300);
    for (size_t cut = 0; cut < length; cut += 4096) {
        if (cut == 0)
            continue; /* an empty database: there is a checkpoint beside it */
        assert_ok(file_write(in_folder("log.db"), bytes, cut, &error), error);
        struct tlog *log;
        if (tlog_open(&(struct tlog_options){.folder = folder}, &log, NULL) == BULLA_OK) /* a page that wasn't looked at */
            tlog_close(log);
        struct tlog_check check;
        assert_int_not_equal(tlog_check(folder, &check, NULL), BULLA_OK);
        unlink(in_folder("log.db-wal"));
        unlink(in_folder("log.db-shm"));
    }
    assert_ok(file_write(in_folder("log.db"), "", 0, &error), error);
    expect_refusal("would be a fork");
    write_file("log.db", "This is no database at all, but some text that is long enough to be taken for one. This is no database.");
    expect_refusal("damaged");
    memory_free(bytes);
}

static void check_sees_what_opening_does_not(void **state)
{
    (void)state;
    static const struct {
        const char *sql, *part;
    } cases[] = {
        {"UPDATE receipts SET body = x'00' WHERE position = 100", "receipt 100"},
        {"UPDATE receipts SET hash = zeroblob(32) WHERE position = 100", "receipt 100"},
        {"UPDATE receipts SET position = 5000 WHERE position = 100; UPDATE receipts SET position = 100 WHERE position = 101; "
         "UPDATE receipts SET position = 101 WHERE position = 5000", "tile 0"},
        {"DELETE FROM receipts WHERE position = 7", "no receipt 7"},
        {"UPDATE tiles SET hashes = zeroblob(8192) WHERE level = 0 AND position = 0", "tile 0"},
    };
    make_log(0, 300);
    bulla_error error = {0};
    uint8_t *bytes;
    size_t length;
    assert_ok(file_read(in_folder("log.db"), 8 << 20, &bytes, &length, &error), error);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tlog_check check;
        change(cases[i].sql);
        bulla_error_clear(&error);
        assert_int_equal(tlog_check(folder, &check, &error), BULLA_E_INPUT);
        if (!strstr(error.text, cases[i].part))
            fail_msg("\"%s\" without \"%s\"", error.text, cases[i].part);
        bulla_error_clear(&error);
        assert_ok(file_write(in_folder("log.db"), bytes, length, &error), error);
    }
    /* A receipt that is not the one that was logged is not proved. */
    struct tlog_inclusion inclusion;
    uint8_t id[TLOG_ID];
    write_id(100, id);
    change("UPDATE receipts SET body = x'00' WHERE position = 100");
    assert_int_equal(tlog_read_receipt(folder, id, NULL, &inclusion, &error), BULLA_E_INPUT);
    memory_free(bytes);
}

static void folders_that_are_none(void **state)
{
    (void)state;
    bulla_error error = {0};
    struct tlog *log;
    static const char *const names[] = {"", "two words", "a+b", "x\n"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        bulla_error_clear(&error);
        assert_int_equal(tlog_open(&(struct tlog_options){.folder = folder, .origin = names[i]}, &log, &error), BULLA_E_USAGE);
    }
    char longest[NOTE_NAME + 1];
    memset(longest, 'n', NOTE_NAME);
    longest[NOTE_NAME] = 0;
    assert_int_equal(tlog_open(&(struct tlog_options){.folder = folder, .origin = longest}, &log, NULL), BULLA_E_USAGE);
    /* What those left is a folder with a key; a log is made of it all the same. */
    make_log(0, 1);
    assert_int_equal(tlog_open(&(struct tlog_options){.folder = in_folder("no/such/place")}, &log, NULL), BULLA_E_IO);
    assert_int_equal(tlog_open(&(struct tlog_options){.folder = in_folder("key.pem")}, &log, NULL), BULLA_E_USAGE);
    struct tlog_check check;
    struct note_key key;
    assert_int_equal(tlog_check("/tmp/bulla-test-no-such-folder", &check, NULL), BULLA_E_IO);
    assert_int_equal(tlog_read_key("/tmp/bulla-test-no-such-folder", &key, NULL), BULLA_E_IO);
    assert_int_not_equal(access("/tmp/bulla-test-no-such-folder", F_OK), 0);
}

int main(void)
{
#define FOLDER_TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        FOLDER_TEST(appends_are_proved),
        FOLDER_TEST(receipts_are_found),
        FOLDER_TEST(an_id_is_taken_once),
        FOLDER_TEST(it_goes_on_after_a_restart),
        FOLDER_TEST(close_waits_for_what_was_appended),
        FOLDER_TEST(two_take_turns),
        FOLDER_TEST(the_queue_is_bounded),
        FOLDER_TEST(a_full_disk_loses_nothing),
        FOLDER_TEST(a_database_that_was_replaced_takes_nothing),
        FOLDER_TEST(short_memory_is_an_error),
        FOLDER_TEST(short_memory_while_appending),
        FOLDER_TEST(others_may_not_append),
        FOLDER_TEST(torn_files_are_mended),
        FOLDER_TEST(parts_that_do_not_belong_together),
        FOLDER_TEST(damaged_databases_are_refused),
        FOLDER_TEST(check_sees_what_opening_does_not),
        FOLDER_TEST(folders_that_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
