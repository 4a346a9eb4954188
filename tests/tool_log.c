/* Appends receipts to a log and says what came of each; and looks whether all that was said holds afterwards.
 *
 *     tool_log append FOLDER COUNT [WAITING [SECONDS]]   "ack ID INDEX SIZE ROOT" for each that is durable, "failed SENTENCE"
 *         for each that is not; WAITING appends wait at a time. COUNT 0: until SECONDS are over or standard input ends
 *     tool_log documents FOLDER COUNT        the same, of receipts that are JSON
 *     tool_log receipts FOLDER               the same of the lines of standard input, each a signed receipt in canonical form
 *     tool_log recovered FOLDER [append]     reads such lines, and "tree SIZE ROOT" for a checkpoint that was published:
 *         opens the log, proves each receipt, and that each tree is the beginning of the newest one, from the files */
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/random.h"
#include "trust/checkpoint.h"
#include "trust/tlog.h"
#include "trust/tlog_tiles.h"

enum { BODY = 1000, LONGEST_LINE = 400 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static uint64_t waiting, failures;
static int as_json;

static int fail(const char *what)
{
    fprintf(stderr, "tool_log: %s\n", what);
    return 1;
}

/* The third line of a checkpoint, up to its end. */
static int print_root(const char *checkpoint, char *out)
{
    const char *size = strchr(checkpoint, '\n'), *root = strchr(size + 1, '\n');
    return sprintf(out, "%.*s", (int)strcspn(root + 1, "\n"), root + 1);
}

static void say(const char *line, size_t length)
{
    if (write(STDOUT_FILENO, line, length) != (ssize_t)length)
        exit(fail("standard output is gone"));
}

static void on_done(void *context, const struct tlog_inclusion *inclusion, const bulla_error *error)
{
    char line[LONGEST_LINE + sizeof error->text], hex[2 * TLOG_ID + 1], root[100];
    hex_encode(context, TLOG_ID, hex);
    if (inclusion)
        print_root(inclusion->checkpoint, root);
    int length = inclusion ? sprintf(line, "ack %s %" PRIu64 " %" PRIu64 " %s\n", hex, inclusion->index, inclusion->size, root)
                           : sprintf(line, "failed %s\n", error->text);
    say(line, (size_t)length);
    free(context);
    pthread_mutex_lock(&mutex);
    waiting--;
    failures += !inclusion;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&mutex);
}

static struct tlog *open_log(const char *folder)
{
    const struct tlog_options options = {.folder = folder};
    bulla_error error = {0};
    struct tlog *log;
    if (tlog_open(&options, &log, &error) != BULLA_OK)
        exit(fail(error.text));
    return log;
}

static uint8_t *make_id(const uint8_t run[8], uint64_t number)
{
    uint8_t *id = calloc(1, TLOG_ID);
    if (!id)
        exit(fail("memory is short"));
    memcpy(id, run, 8);
    memcpy(id + 8, &number, 8);
    return id;
}

static void put(struct tlog *log, uint8_t *id, const char *body, size_t length)
{
    bulla_error error = {0};
    pthread_mutex_lock(&mutex);
    waiting++;
    pthread_mutex_unlock(&mutex);
    if (tlog_append(log, id, body, length, on_done, id, &error) != BULLA_OK)
        exit(fail(error.text));
}

static void append_one(struct tlog *log, const uint8_t run[8], uint64_t number)
{
    char body[BODY + 1];
    uint8_t *id = make_id(run, number);
    memset(body, 'x', BODY);
    int length = snprintf(body, sizeof body, as_json ? "{\"receipt\":{\"number\":\"%016" PRIx64 "-%" PRIu64 "\"},\"signature\":\"\"}"
                                                     : "%016" PRIx64 " is receipt %" PRIu64,
                          *(const uint64_t *)(const void *)id, number);
    if (!as_json) {
        body[length] = ' ';
        length = BODY;
    }
    put(log, id, body, (size_t)length);
}

static int append_lines(const char *folder)
{
    uint8_t run[8];
    char *line = NULL;
    size_t capacity = 0;
    struct tlog *log = open_log(folder);
    random_bytes(run, sizeof run, NULL);
    for (uint64_t i = 0; getline(&line, &capacity, stdin) > 0; i++)
        put(log, make_id(run, i), line, strcspn(line, "\n"));
    free(line);
    tlog_close(log);
    return failures > 0;
}

static int input_has_ended(void)
{
    struct pollfd input = {STDIN_FILENO, POLLIN, 0};
    return poll(&input, 1, 0) > 0;
}

static int append(const char *folder, uint64_t count, uint64_t most_waiting, double seconds)
{
    uint8_t run[8];
    double end = clock_seconds() + seconds;
    struct tlog *log = open_log(folder);
    random_bytes(run, sizeof run, NULL);
    say("open\n", 5);
    for (uint64_t i = 0; count ? i < count : clock_seconds() < end && !input_has_ended(); i++) {
        pthread_mutex_lock(&mutex);
        while (waiting >= most_waiting)
            pthread_cond_wait(&changed, &mutex);
        pthread_mutex_unlock(&mutex);
        append_one(log, run, i);
    }
    tlog_close(log);
    return failures > 0;
}

/* --- afterwards --- */

struct published {
    struct checkpoint checkpoint;
    struct tlog_reader *reader;
};

static void open_published(struct tlog *log, struct published *published)
{
    char path[4096];
    uint8_t *text;
    size_t length;
    bulla_error error = {0};
    const struct tlog_source source = tlog_folder_source(tlog_folder(log));
    snprintf(path, sizeof path, "%s/checkpoint", tlog_folder(log));
    if (file_read(path, 65536, &text, &length, &error) != BULLA_OK ||
        checkpoint_open((const char *)text, length, tlog_key(log), 1, 0, &published->checkpoint, &error) != BULLA_OK ||
        tlog_reader_open(&source, published->checkpoint.size, published->checkpoint.root, &published->reader, &error) != BULLA_OK)
        exit(fail(error.text));
    memory_free(text);
}

static int check_receipt(struct tlog *log, const char *hex, uint64_t index)
{
    struct tlog_inclusion inclusion;
    struct checkpoint checkpoint;
    struct buffer receipt = {0};
    bulla_error error = {0};
    uint8_t id[TLOG_ID], hash[32], leaf[32];
    if (!hex_decode(hex, strlen(hex), id, TLOG_ID) || tlog_find(log, id, &receipt, &inclusion, &error) != BULLA_OK)
        return fail(error.text);
    int is_right = inclusion.index == index && hash_sha256(receipt.data, receipt.length, hash, &error) == BULLA_OK &&
                   merkle_leaf_hash(hash, sizeof hash, leaf, &error) == BULLA_OK &&
                   checkpoint_open(inclusion.checkpoint, inclusion.checkpoint_length, tlog_key(log), 1, 0, &checkpoint, &error) == BULLA_OK &&
                   merkle_path_verify(leaf, index, checkpoint.size, inclusion.path[0], inclusion.length, checkpoint.root, &error);
    tlog_inclusion_free(&inclusion);
    buffer_free(&receipt);
    return is_right ? 0 : fail("a receipt's proof is wrong");
}

static int check_tree(struct published *published, uint64_t size, const char *root_text)
{
    uint8_t root[40], found[32];
    size_t length;
    bulla_error error = {0};
    if (base64_most(strlen(root_text)) > sizeof root || !base64_decode(root_text, strlen(root_text), root, &length) || length != 32)
        return fail("a root is malformed");
    if (size > published->checkpoint.size)
        return fail("the log has shrunk");
    if (tlog_reader_root(published->reader, size, found, &error) != BULLA_OK)
        return fail(error.text);
    return memcmp(found, root, 32) == 0 ? 0 : fail("the log has forked");
}

static int recovered(const char *folder, int appends)
{
    char line[LONGEST_LINE], hex[LONGEST_LINE], root[LONGEST_LINE];
    uint64_t index, size;
    struct published published;
    struct tlog *log = open_log(folder);
    int failed = 0;
    open_published(log, &published);
    while (!failed && fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "ack %399s %" SCNu64 " %" SCNu64 " %399s", hex, &index, &size, root) == 4)
            failed = check_receipt(log, hex, index) || check_tree(&published, size, root);
        else if (sscanf(line, "tree %" SCNu64 " %399s", &size, root) == 2)
            failed = check_tree(&published, size, root);
        if (failed)
            fprintf(stderr, "tool_log: at %s", line);
    }
    tlog_reader_close(published.reader);
    if (appends) {
        waiting = 0;
        append_one(log, (const uint8_t *)"recover", published.checkpoint.size);
    }
    tlog_close(log);
    struct tlog_check whole;
    bulla_error error = {0};
    if (!failed && tlog_check(folder, &whole, &error) != BULLA_OK)
        failed = fail(error.text);
    printf("recovered %" PRIu64 "\n", published.checkpoint.size);
    return failed || failures;
}

int main(int argc, char **argv)
{
    as_json = argc >= 4 && strcmp(argv[1], "documents") == 0;
    if (argc >= 4 && (as_json || strcmp(argv[1], "append") == 0))
        return append(argv[2], strtoull(argv[3], NULL, 10), argc > 4 ? strtoull(argv[4], NULL, 10) : 1,
                      argc > 5 ? strtod(argv[5], NULL) : 0);
    if (argc >= 3 && strcmp(argv[1], "receipts") == 0)
        return append_lines(argv[2]);
    if (argc >= 3 && strcmp(argv[1], "recovered") == 0)
        return recovered(argv[2], argc > 3);
    return fail("append FOLDER COUNT [WAITING [SECONDS]], documents FOLDER COUNT, receipts FOLDER, or recovered FOLDER [append]");
}
