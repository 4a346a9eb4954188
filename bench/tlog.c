/* How many receipts a second the log makes durable, with the batches that come of it: tlog FOLDER [RECEIPTS [WAITING]].
 * FOLDER is made, and must not be there. */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "trust/tlog.h"

enum { RECEIPT_BYTES = 1200 /* as those of chat answers */ };

struct bench {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    uint64_t waiting, failed;
    double slowest, sum;
};

struct one {
    struct bench *bench;
    double began;
};

static void on_done(void *context, const struct tlog_inclusion *inclusion, const bulla_error *error)
{
    struct one *one = context;
    struct bench *bench = one->bench;
    double took = clock_seconds() - one->began;
    (void)error;
    pthread_mutex_lock(&bench->mutex);
    bench->waiting--;
    bench->failed += !inclusion;
    bench->sum += took;
    bench->slowest = took > bench->slowest ? took : bench->slowest;
    pthread_cond_signal(&bench->changed);
    pthread_mutex_unlock(&bench->mutex);
    free(one);
}

static int append(struct tlog *log, struct bench *bench, uint64_t number, bulla_error *error)
{
    char receipt[RECEIPT_BYTES];
    uint8_t id[TLOG_ID] = {0};
    uint64_t spread = number * UINT64_C(0x9E3779B97F4A7C15); /* ids are random: they lie anywhere in the index */
    struct one *one = malloc(sizeof *one);
    if (!one)
        return bulla_fail(error, BULLA_E_MEMORY, "memory is short");
    *one = (struct one){bench, clock_seconds()};
    memset(receipt, 'x', sizeof receipt);
    memcpy(receipt, &number, sizeof number);
    memcpy(id, &spread, sizeof spread);
    return tlog_append(log, id, receipt, sizeof receipt, on_done, one, error);
}

static int measure(struct tlog *log, uint64_t receipts, uint64_t most_waiting, bulla_error *error)
{
    struct bench bench = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    struct tlog_status status;
    double began = clock_seconds();
    int code = BULLA_OK;
    for (uint64_t i = 0; code == BULLA_OK && i < receipts; i++) {
        pthread_mutex_lock(&bench.mutex);
        while (bench.waiting >= most_waiting)
            pthread_cond_wait(&bench.changed, &bench.mutex);
        bench.waiting++;
        pthread_mutex_unlock(&bench.mutex);
        code = append(log, &bench, i, error);
    }
    pthread_mutex_lock(&bench.mutex);
    while (code == BULLA_OK && bench.waiting > 0)
        pthread_cond_wait(&bench.changed, &bench.mutex);
    pthread_mutex_unlock(&bench.mutex);
    double took = clock_seconds() - began;
    tlog_status(log, &status);
    if (code == BULLA_OK)
        printf("%.0f receipts a second: %" PRIu64 " in %.2f s, %" PRIu64 " waiting at a time, batches of %.1f; "
               "durable after %.1f ms, at most %.1f ms; %" PRIu64 " failed\n",
               (double)receipts / took, receipts, took, most_waiting, (double)receipts / (double)status.batches,
               1000 * bench.sum / (double)receipts, 1000 * bench.slowest, bench.failed);
    return code;
}

int main(int argc, char **argv)
{
    uint64_t receipts = argc > 2 ? strtoull(argv[2], NULL, 10) : 20000, waiting = argc > 3 ? strtoull(argv[3], NULL, 10) : 256;
    bulla_error error = {0};
    struct tlog *log = NULL;
    if (argc < 2 || receipts == 0 || waiting == 0) {
        fprintf(stderr, "usage: tlog FOLDER [RECEIPTS [WAITING]]\n");
        return 2;
    }
    int code = tlog_open(&(struct tlog_options){.folder = argv[1]}, &log, &error);
    if (code == BULLA_OK)
        code = measure(log, receipts, waiting, &error);
    tlog_close(log);
    if (code != BULLA_OK)
        fprintf(stderr, "tlog: %s\n", error.text);
    return code != BULLA_OK;
}
