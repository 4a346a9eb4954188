/* A team of threads that run one function together, and a barrier inside it.
 *
 * Waiting spins briefly, yields its core for a while and then sleeps (futex), so that
 * handing over costs about a microsecond on idle cores and a busy core does not stall
 * the others.
 * The caller is thread 0. */
#ifndef BASE_THREADS_H
#define BASE_THREADS_H

#include <stdint.h>

#include "bulla/error.h"

struct thread_team;

/* `threads` >= 1, the caller included; at most 256. */
int thread_team_start(unsigned threads, struct thread_team **team, bulla_error *error);
void thread_team_stop(struct thread_team *team); /* NULL is fine */
unsigned thread_team_size(const struct thread_team *team);

/* Runs `work(context, thread)` on every thread of the team, thread in
 * [0, size), and returns when all have returned. Not reentrant. */
void thread_team_run(struct thread_team *team, void (*work)(void *context, unsigned thread), void *context);
/* Inside `work`: returns when every thread of the team has called it. */
void thread_team_barrier(struct thread_team *team);

/* [*begin, *end) of `count` things for `thread` of `threads`, cut at multiples of `grain`. */
void thread_share(uint64_t count, uint64_t grain, unsigned thread, unsigned threads, uint64_t *begin, uint64_t *end);

/* Runs `work(context, index)` for each index below `count`, handed out one at a
 * time; `team` NULL runs them in order here. */
void thread_team_each(struct thread_team *team, uint64_t count, void (*work)(void *context, uint64_t index),
                      void *context);

/* Cores this process may run on: at least 1, at most what a team may have. */
unsigned thread_cores(void);

#endif
