#define _GNU_SOURCE
#include "base/threads.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/memory.h"

/* Waiting spins for some microseconds, then offers its core to whoever can use it for
 * about a millisecond, then sleeps. A sleeper takes so long to wake on a virtual machine
 * that it comes late to the next barrier too, and all would sleep at every one from then
 * on; a thread that only spins takes the time of the one it waits for where something else
 * runs on the other core. */
enum { SPINS = 120, SPINS_CROWDED = 20, YIELDS = 1000, MAX_THREADS = 256, CACHE_LINE = 64 };

/* A word that is waited on: `value` changes, `sleepers` says whether to wake. */
struct gate {
    _Alignas(CACHE_LINE) atomic_uint value;
    atomic_uint sleepers;
};

struct worker {
    struct thread_team *team;
    unsigned thread;
    pthread_t handle;
};

struct thread_team {
    struct gate start;  /* rises for each run */
    struct gate done;   /* workers that finished the run, counted down */
    struct gate pass;   /* rises when a barrier opens */
    _Alignas(CACHE_LINE) atomic_uint waiting; /* threads at the barrier */
    unsigned threads;
    int spins;
    int stopping;
    void (*work)(void *context, unsigned thread);
    void *context;
    struct worker *workers; /* [threads - 1] */
};

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Returns once the gate's value differs from `old`. */
static unsigned gate_wait(struct gate *gate, unsigned old, int spins)
{
    unsigned now;
    for (int i = 0; i < spins + YIELDS; i++) {
        now = atomic_load_explicit(&gate->value, memory_order_acquire);
        if (now != old)
            return now;
        if (i < spins)
            relax();
        else
            sched_yield();
    }
    atomic_fetch_add(&gate->sleepers, 1);
    while ((now = atomic_load(&gate->value)) == old)
        syscall(SYS_futex, &gate->value, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
    atomic_fetch_sub(&gate->sleepers, 1);
    return now;
}

static void gate_wake(struct gate *gate)
{
    if (atomic_load(&gate->sleepers))
        syscall(SYS_futex, &gate->value, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    struct thread_team *team = worker->team;
    unsigned seen = 0;
    for (;;) {
        seen = gate_wait(&team->start, seen, team->spins);
        if (team->stopping)
            return NULL;
        team->work(team->context, worker->thread);
        atomic_fetch_sub(&team->done.value, 1);
        gate_wake(&team->done);
    }
}

int thread_team_start(unsigned threads, struct thread_team **result, bulla_error *error)
{
    *result = NULL;
    if (threads < 1 || threads > MAX_THREADS)
        return bulla_fail(error, BULLA_E_USAGE, "threads: found %u, expected 1 to %d", threads, MAX_THREADS);
    struct thread_team *team = memory_alloc_aligned(CACHE_LINE, sizeof *team, error);
    if (!team)
        return BULLA_E_MEMORY;
    team->spins = threads > thread_cores() ? SPINS_CROWDED : SPINS;
    team->workers = memory_alloc(threads, sizeof *team->workers, error);
    if (!team->workers) {
        memory_free(team);
        return BULLA_E_MEMORY;
    }
    for (team->threads = 1; team->threads < threads; team->threads++) {
        struct worker *worker = &team->workers[team->threads - 1];
        *worker = (struct worker){.team = team, .thread = team->threads};
        int failed = pthread_create(&worker->handle, NULL, worker_main, worker);
        if (failed) {
            thread_team_stop(team);
            return bulla_fail(error, BULLA_E_IO, "a thread could not be started: %s", strerror(failed));
        }
    }
    *result = team;
    return BULLA_OK;
}

void thread_team_stop(struct thread_team *team)
{
    if (!team)
        return;
    team->stopping = 1;
    atomic_fetch_add(&team->start.value, 1);
    gate_wake(&team->start);
    for (unsigned i = 0; i + 1 < team->threads; i++)
        pthread_join(team->workers[i].handle, NULL);
    memory_free(team->workers);
    memory_free(team);
}

unsigned thread_team_size(const struct thread_team *team)
{
    return team->threads;
}

void thread_team_run(struct thread_team *team, void (*work)(void *context, unsigned thread), void *context)
{
    if (team->threads == 1) {
        work(context, 0);
        return;
    }
    team->work = work;
    team->context = context;
    atomic_store(&team->done.value, team->threads - 1);
    atomic_fetch_add(&team->start.value, 1);
    gate_wake(&team->start);
    work(context, 0);
    for (unsigned left; (left = atomic_load_explicit(&team->done.value, memory_order_acquire)) != 0;)
        gate_wait(&team->done, left, team->spins);
}

void thread_team_barrier(struct thread_team *team)
{
    if (team->threads == 1)
        return;
    unsigned pass = atomic_load_explicit(&team->pass.value, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&team->waiting, 1, memory_order_acq_rel) + 1 == team->threads) {
        atomic_store_explicit(&team->waiting, 0, memory_order_relaxed);
        atomic_fetch_add(&team->pass.value, 1);
        gate_wake(&team->pass);
    } else
        gate_wait(&team->pass, pass, team->spins);
}

void thread_share(uint64_t count, uint64_t grain, unsigned thread, unsigned threads, uint64_t *begin, uint64_t *end)
{
    uint64_t grains = (count + grain - 1) / grain;
    *begin = grains * thread / threads * grain;
    *end = grains * (thread + 1) / threads * grain;
    *begin = *begin < count ? *begin : count;
    *end = *end < count ? *end : count;
}

struct each {
    void (*work)(void *context, uint64_t index);
    void *context;
    uint64_t count;
    atomic_uint_least64_t next;
};

static void each_work(void *argument, unsigned thread)
{
    struct each *each = argument;
    for (uint64_t index; (index = atomic_fetch_add(&each->next, 1)) < each->count;)
        each->work(each->context, index);
}

void thread_team_each(struct thread_team *team, uint64_t count, void (*work)(void *context, uint64_t index),
                      void *context)
{
    struct each each = {.work = work, .context = context, .count = count};
    if (team)
        thread_team_run(team, each_work, &each);
    else
        each_work(&each, 0);
}

unsigned thread_cores(void)
{
    cpu_set_t set;
    long cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : sysconf(_SC_NPROCESSORS_ONLN);
    return cores < 1 ? 1 : cores > MAX_THREADS ? MAX_THREADS : (unsigned)cores;
}
