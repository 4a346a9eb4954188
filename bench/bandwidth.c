/* What the memory gives to plain reading: the best of several kernels, threads
 * reading a share each. usage: bandwidth BYTES THREADS -> GB/s on standard output */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/threads.h"

typedef int64_t lanes __attribute__((vector_size(64)));

struct job {
    const uint8_t *data;
    uint64_t bytes;
    unsigned threads;
    int kernel;
    int64_t sums[256 * 8];
};

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

__attribute__((always_inline)) static inline int64_t read_span(const lanes *p, uint64_t count, int streams, int ahead)
{
    lanes sums[8] = {{0}}, total = {0};
    uint64_t part = count / (uint64_t)streams;
    for (uint64_t i = 0; i + 2 <= part; i += 2)
        for (int s = 0; s < streams; s++) {
            const lanes *at = p + (uint64_t)s * part + i;
            if (ahead)
                __builtin_prefetch(at + ahead, 0, 0);
            sums[s % 8] ^= at[0];
            sums[(s + 4) % 8] ^= at[1];
        }
    for (int s = 0; s < 8; s++)
        total ^= sums[s];
    return total[0] ^ total[7];
}

static void work(void *context, unsigned thread)
{
    struct job *job = context;
    uint64_t begin, end;
    thread_share(job->bytes, 4096, thread, job->threads, &begin, &end);
    const lanes *p = (const void *)(job->data + begin);
    uint64_t count = (end - begin) / sizeof(lanes);
    int64_t sum;
    switch (job->kernel) {
    case 0: sum = read_span(p, count, 1, 0); break;
    case 1: sum = read_span(p, count, 1, 64); break;
    case 2: sum = read_span(p, count, 4, 0); break;
    case 3: sum = read_span(p, count, 4, 32); break;
    default: sum = read_span(p, count, 8, 16); break;
    }
    job->sums[thread * 8] = sum;
}

int main(int argc, char **argv)
{
    bulla_error error = {0};
    struct job job = {.bytes = argc > 1 ? strtoull(argv[1], NULL, 10) : UINT64_C(1) << 30};
    job.threads = argc > 2 ? (unsigned)atoi(argv[2]) : thread_cores();
    struct thread_team *team;
    if (thread_team_start(job.threads, &team, &error)) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    uint8_t *data = aligned_alloc(2 << 20, (job.bytes + (2 << 20)) & ~(uint64_t)((2 << 20) - 1));
    if (!data)
        return 1;
    madvise(data, job.bytes, MADV_HUGEPAGE);
    memset(data, 1, job.bytes);
    job.data = data;
    double best = 0;
    for (int round = 0; round < 25; round++) {
        job.kernel = round % 5;
        double start = now();
        thread_team_run(team, work, &job);
        double speed = (double)job.bytes / (now() - start) * 1e-9;
        best = speed > best ? speed : best;
    }
    printf("%.2f\n", best);
    thread_team_stop(team);
    free(data);
    return 0;
}
