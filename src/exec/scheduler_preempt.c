/* Which running jobs give their pages back and wait again: where rows need more pages than there are, and where others
 * have more right to run. docs/scheduler.md says why every job finishes nevertheless. */
#include "exec/scheduler_internal.h"

void job_preempt(struct scheduler *scheduler, struct job *job)
{
    bulla_sequence_close(job->sequence);
    job->sequence = NULL;
    job->rows = job->proposed = 0;
    job->looked_at = job->found = 0;
    for (size_t i = 0; job->embeds && i < bulla_engine_hidden_size(scheduler->engine); i++)
        job->sum[i] = 0;
    running_take(scheduler, job);
    queue_put(job);
    scheduler->blocked = NULL;
    scheduler->counters.preemptions++;
}

/* The last running job gives way where it has a lower priority, if that can be enough. */
static int preempt_lower(struct scheduler *scheduler, const struct job *job)
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
    return 1;
}

/* --- tenants that have much --- */

/* What is short: pages or places. */
enum resource { PAGES, PLACES };

static uint64_t share_of(const struct job *job, enum resource resource)
{
    return resource == PAGES ? pages_wanted(job) : 1;
}

static int is_greedy(const struct scheduler *scheduler, uint64_t held, enum resource resource)
{
    return 2 * held > (resource == PAGES ? bulla_engine_pages_total(scheduler->engine) : scheduler->most_running);
}

/* The tenant whose running jobs of a priority hold more than half of what there is; NULL: none. Sets what they hold. */
static struct tenant *find_greedy(const struct scheduler *scheduler, int priority, enum resource resource)
{
    struct tenant *greedy = NULL;
    for (uint32_t i = 0; i < scheduler->running_count; i++)
        scheduler->running[i]->tenant->held = 0;
    for (uint32_t i = 0; i < scheduler->running_count; i++) {
        const struct job *job = scheduler->running[i];
        if (job->priority == priority)
            job->tenant->held += share_of(job, resource);
        if (is_greedy(scheduler, job->tenant->held, resource))
            greedy = job->tenant;
    }
    return greedy;
}

static uint32_t count_running(const struct scheduler *scheduler, const struct tenant *tenant)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < scheduler->running_count; i++)
        count += scheduler->running[i]->tenant == tenant;
    return count;
}

/* The tenant's last job of that priority before `end` in the running order, but for the first one of all; 0: none. */
static uint32_t find_last(const struct scheduler *scheduler, const struct tenant *tenant, int priority, uint32_t end)
{
    while (end-- > 1)
        if (scheduler->running[end]->tenant == tenant && scheduler->running[end]->priority == priority)
            return end;
    return 0;
}

/* Whether there is room for the job when the greedy tenant gives way as long as it is that, and keeps a job. */
static int is_enough(const struct scheduler *scheduler, const struct job *job, const struct tenant *greedy,
                     enum resource resource)
{
    int64_t room = find_room(scheduler) - (int64_t)(pages_wanted(job) + spare_pages(scheduler));
    uint64_t held = greedy->held;
    uint32_t at = scheduler->running_count, kept = count_running(scheduler, greedy);
    for (; kept > 1 && is_greedy(scheduler, held, resource); kept--) {
        at = find_last(scheduler, greedy, job->priority, at);
        if (at == 0)
            return 0;
        room += (int64_t)pages_wanted(scheduler->running[at]);
        held -= share_of(scheduler->running[at], resource);
        if (room >= 0)
            return 1;
    }
    return 0;
}

/* Where nothing of the job's tenant runs, the last job of the greedy one gives way. */
static int preempt_greedy(struct scheduler *scheduler, const struct job *job)
{
    enum resource resource = scheduler->running_count < scheduler->most_running ? PAGES : PLACES;
    const struct tenant *greedy = find_greedy(scheduler, job->priority, resource);
    if (!greedy || count_running(scheduler, job->tenant) > 0 || !is_enough(scheduler, job, greedy, resource))
        return 0;
    uint32_t last = find_last(scheduler, greedy, job->priority, scheduler->running_count);
    job_preempt(scheduler, scheduler->running[last]);
    return 1;
}

int preempt_for(struct scheduler *scheduler, const struct job *job)
{
    return preempt_lower(scheduler, job) || preempt_greedy(scheduler, job);
}

void preempt_for_pages(struct scheduler *scheduler)
{
    struct job *last = scheduler->running[scheduler->running_count - 1];
    const struct tenant *greedy = find_greedy(scheduler, last->priority, PAGES);
    uint32_t at = greedy && count_running(scheduler, greedy) > 1
                      ? find_last(scheduler, greedy, last->priority, scheduler->running_count) : 0;
    job_preempt(scheduler, at ? scheduler->running[at] : last);
}
