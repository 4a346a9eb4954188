/* Which jobs run. A waiting one starts when there are pages for all its tokens so far and one more, beside what those
 * that run need for that; where a running one needs a page later and none is left, the last one waits again.
 * docs/scheduler.md says why every job finishes. */
#include "base/clock.h"
#include "exec/scheduler_internal.h"

enum {
    MOST_PASSED = 64, /* jobs that others are let past, in a step */
    SPARE_SHARE = 32  /* of the pool is left to those that run when one starts */
};

uint64_t pages_for(uint64_t positions)
{
    return (positions + BULLA_PAGE_POSITIONS - 1) / BULLA_PAGE_POSITIONS;
}

uint64_t job_positions(const struct job *job)
{
    return job->embeds ? job->prompt_count : job->prompt_count + job->limit - 1;
}

uint64_t job_pages(const struct job *job)
{
    uint64_t length = bulla_sequence_length(job->sequence);
    return job->rows ? pages_for(length + job->rows) - pages_for(length) + (job->may_copy != 0) : 0;
}

/* Pages for its tokens so far and the next one. */
static uint64_t pages_wanted(const struct job *job)
{
    uint64_t most = job_positions(job);
    return pages_for(job->count + 1 < most ? job->count + 1 : most);
}

/* Pages free beyond what those that run will take for their tokens so far and the next one. */
static int64_t find_room(const struct scheduler *scheduler)
{
    int64_t room = (int64_t)bulla_engine_pages_free(scheduler->engine);
    for (uint32_t i = 0; i < scheduler->running_count; i++) {
        const struct job *job = scheduler->running[i];
        uint64_t wanted = pages_wanted(job), held = pages_for(bulla_sequence_length(job->sequence));
        room -= (wanted > held ? (int64_t)(wanted - held) : 0) + (job->may_copy != 0);
    }
    return room;
}

static int open_sequence(struct scheduler *scheduler, struct job *job, bulla_error *error)
{
    return job->embeds ? bulla_sequence_open_hidden(scheduler->engine, &job->sequence, error)
                       : bulla_sequence_open_prefix(scheduler->engine, job->prompt_count - 1,
                                                    job->shares_prefix ? job->tenant->name : NULL, job->tokens,
                                                    job->count, &job->sequence, error);
}

static void start(struct scheduler *scheduler, struct job *job)
{
    queue_take(job);
    job->may_copy = 0;
    if (job->turn == 0) {
        job->turn = ++scheduler->turns;
        job->started = clock_nanoseconds();
        job->cached_tokens = bulla_sequence_length(job->sequence);
        job->tenant->service += job->prompt_count - job->cached_tokens;
    }
    running_put(scheduler, job);
}

/* Whether the job is no longer waiting: it started, or failed. */
static int try_start(struct scheduler *scheduler, struct job *job)
{
    int64_t room = find_room(scheduler);
    if (scheduler->running_count && job == scheduler->blocked && room < scheduler->blocked_room)
        return 0;
    bulla_error error = {0};
    if (grammar_start(scheduler, job, &error) != BULLA_OK || open_sequence(scheduler, job, &error) != BULLA_OK) {
        job_fail(scheduler, job, &error);
        return 1;
    }
    /* What it found in the prefix cache is not free any more, but need not be taken. */
    uint64_t spare = bulla_engine_pages_total(scheduler->engine) / SPARE_SHARE;
    spare = spare < scheduler->running_count ? spare : scheduler->running_count;
    int64_t needed = (int64_t)(pages_wanted(job) - pages_for(bulla_sequence_length(job->sequence)) + spare);
    int64_t left = find_room(scheduler) - needed;
    if (scheduler->running_count && left < 0) {
        bulla_sequence_close(job->sequence);
        job->sequence = NULL;
        scheduler->blocked = job;
        scheduler->blocked_room = room - left;
        return 0;
    }
    start(scheduler, job);
    return 1;
}

void job_preempt(struct scheduler *scheduler, struct job *job)
{
    bulla_sequence_close(job->sequence);
    job->sequence = NULL;
    job->rows = job->proposed = 0;
    for (size_t i = 0; job->embeds && i < bulla_engine_hidden_size(scheduler->engine); i++)
        job->sum[i] = 0;
    running_take(scheduler, job);
    queue_put(job);
    scheduler->counters.preemptions++;
}

/* Takes the last running job's place where it has a lower priority, if that can be enough. */
static int make_way(struct scheduler *scheduler, const struct job *job)
{
    int64_t room = find_room(scheduler);
    uint32_t at = scheduler->running_count;
    if (at == 0 || scheduler->running[at - 1]->priority >= job->priority)
        return 0;
    for (; at > 0 && scheduler->running[at - 1]->priority < job->priority; at--)
        room += (int64_t)pages_wanted(scheduler->running[at - 1]);
    if (at > 0 && room < (int64_t)pages_wanted(job))
        return 0;
    job_preempt(scheduler, scheduler->running[scheduler->running_count - 1]);
    scheduler->blocked = NULL;
    return 1;
}

static size_t common_tokens(const struct job *job, const struct job *other)
{
    size_t most = job->prompt_count - 1 < other->count ? job->prompt_count - 1 : other->count, common = 0;
    while (common < most && job->tokens[common] == other->tokens[common])
        common++;
    return common;
}

/* Whether a running job is about to compute pages that this one can take from the prefix cache: several choices of
 * one request, say. */
static int waits_for_prefix(const struct scheduler *scheduler, const struct job *job)
{
    bulla_prefix_counters counters;
    bulla_engine_prefix_counters(scheduler->engine, &counters);
    if (!job->shares_prefix || job->embeds || counters.hits + counters.misses == 0)
        return 0;
    for (uint32_t i = 0; i < scheduler->running_count; i++) {
        const struct job *other = scheduler->running[i];
        uint64_t length = bulla_sequence_length(other->sequence);
        if (other->tenant != job->tenant || !other->shares_prefix || other->embeds || length + 1 >= other->count)
            continue;
        if (length < common_tokens(job, other) / BULLA_PAGE_POSITIONS * BULLA_PAGE_POSITIONS)
            return 1;
    }
    return 0;
}

void scheduler_admit(struct scheduler *scheduler)
{
    uint32_t passed = 0;
    for (struct job *job; passed < MOST_PASSED && (job = queue_next(scheduler)) != NULL;) {
        if (!job->embeds && job->limit == 0)
            job_finish(scheduler, job, (struct job_end){.reason = SCHEDULER_LENGTH});
        else if (waits_for_prefix(scheduler, job)) {
            job->passed_at = scheduler->step;
            passed++;
        } else if (!grammar_may_start(scheduler, job) ||
                   ((scheduler->running_count == scheduler->most_running || !try_start(scheduler, job)) &&
                    !make_way(scheduler, job)))
            break;
    }
}
