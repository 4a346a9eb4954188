/* Which jobs start: in turn, when the running prompts leave rows for one, and there are pages for all its tokens so far
 * and one more, beside what those that run need for that. */
#include <string.h>

#include "base/clock.h"
#include "exec/scheduler_internal.h"

enum {
    MOST_HELD = 1024, /* jobs for which there are no rows, behind which a short one is looked for, in a step */
    MOST_LOOKS = 16,  /* into the prefix cache for those, in a step; */
    LOOK_STEPS = 16,  /*   for each after so many steps again */
    SPARE_SHARE = 32  /* of the pool is left to those that run when one starts, a page each at most */
};

/* What the running prompts of a priority and above still need. */
struct load {
    const struct job *first; /* of them; NULL: there is none */
    uint64_t rows, passing;  /* of all; of those that pass the first one */
};

/* What one look at the waiting jobs goes by. */
struct admission {
    struct load load;
    int is_known;            /* load, for this priority */
    int priority;
    unsigned held, looks;
};

enum trial { TRIED_STARTED, TRIED_NO_ROWS, TRIED_NO_ROOM };

/* --- pages --- */

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

uint64_t pages_wanted(const struct job *job)
{
    uint64_t most = job_positions(job);
    return pages_for(job->count + 1 < most ? job->count + 1 : most);
}

int64_t find_room(const struct scheduler *scheduler)
{
    int64_t room = (int64_t)bulla_engine_pages_free(scheduler->engine);
    for (uint32_t i = 0; i < scheduler->running_count; i++) {
        const struct job *job = scheduler->running[i];
        uint64_t wanted = pages_wanted(job), held = pages_for(bulla_sequence_length(job->sequence));
        room -= (wanted > held ? (int64_t)(wanted - held) : 0) + (job->may_copy != 0);
    }
    return room;
}

uint64_t spare_pages(const struct scheduler *scheduler)
{
    uint64_t most = bulla_engine_pages_total(scheduler->engine) / SPARE_SHARE;
    return most < scheduler->running_count ? most : scheduler->running_count;
}

/* --- rows --- */

static struct load find_load(const struct scheduler *scheduler, int priority)
{
    struct load load = {0};
    for (uint32_t i = 0; i < scheduler->running_count && scheduler->running[i]->priority >= priority; i++) {
        const struct job *job = scheduler->running[i];
        uint64_t remaining = job_remaining(job);
        if (job_is_decoding(job))
            continue;
        load.rows += remaining;
        if (!load.first)
            load.first = job;
        else if (job_may_pass(load.first, job->priority, remaining))
            load.passing += remaining;
    }
    return load;
}

static const struct load *load_of(const struct scheduler *scheduler, struct admission *admission, int priority)
{
    if (!admission->is_known || admission->priority != priority) {
        admission->load = find_load(scheduler, priority);
        admission->is_known = 1;
        admission->priority = priority;
    }
    return &admission->load;
}

/* Whether the prompts that run need less than a step, so that any other may start. */
static int has_rows(const struct scheduler *scheduler, const struct load *load)
{
    return load->rows < scheduler->step_rows;
}

/* Whether short ones may start beside them. */
static int has_rows_to_pass(const struct scheduler *scheduler, const struct load *load, int priority)
{
    return priority == load->first->priority && load->passing < scheduler->step_rows / 2;
}

static int has_rows_for(const struct scheduler *scheduler, const struct load *load, int priority, uint64_t remaining)
{
    return has_rows(scheduler, load) || (has_rows_to_pass(scheduler, load, priority) &&
                                         job_may_pass(load->first, priority, remaining));
}

static const char *prefix_tenant(const struct job *job)
{
    return job->shares_prefix && !job->embeds ? job->tenant->name : NULL;
}

/* Whether there are rows for a waiting job; what the prefix cache has for it is looked up now and then. */
static int may_start(struct scheduler *scheduler, struct admission *admission, struct job *job)
{
    const struct load *load = load_of(scheduler, admission, job->priority);
    if (has_rows_for(scheduler, load, job->priority, job->count - job->found))
        return 1;
    int is_due = job->looked_at == 0 || scheduler->step - job->looked_at >= LOOK_STEPS;
    if (!is_due || !prefix_tenant(job) || admission->looks == MOST_LOOKS)
        return 0;
    admission->looks++;
    job->looked_at = scheduler->step;
    job->found = bulla_engine_prefix_find(scheduler->engine, job->count - 1, prefix_tenant(job), job->tokens,
                                          job->count);
    return has_rows_for(scheduler, load, job->priority, job->count - job->found);
}

/* --- starting --- */

/* The next token is drawn at the last position there is. A job that had drawn some before needs no logits of the
 * positions at which they were drawn: all that reached those was evaluated within its bounds, else the answer would
 * have ended there, so RANGE can be raised from the last position on alone. */
static int open_sequence(struct scheduler *scheduler, struct job *job, bulla_error *error)
{
    return job->embeds ? bulla_sequence_open_hidden(scheduler->engine, &job->sequence, error)
                       : bulla_sequence_open_prefix(scheduler->engine, job->count - 1, prefix_tenant(job), job->tokens,
                                                    job->count, &job->sequence, error);
}

static void start(struct scheduler *scheduler, struct job *job)
{
    queue_take(job);
    job->may_copy = 0;
    job->start_step = scheduler->step;
    if (job->turn == 0) {
        job->turn = ++scheduler->turns;
        job->started = clock_nanoseconds();
        job->cached_tokens = bulla_sequence_length(job->sequence);
        job->tenant->service += job->prompt_count - job->cached_tokens;
    }
    running_put(scheduler, job);
    scheduler->blocked = NULL;
}

static void give_up_start(struct job *job)
{
    bulla_sequence_close(job->sequence);
    job->sequence = NULL;
}

/* Starts it, or fails it, where there are rows and pages. */
static enum trial try_start(struct scheduler *scheduler, const struct load *load, struct job *job)
{
    int64_t room = find_room(scheduler);
    if (scheduler->running_count == scheduler->most_running ||
        (scheduler->running_count && job == scheduler->blocked && room < scheduler->blocked_room))
        return TRIED_NO_ROOM;
    bulla_error error = {0};
    if (grammar_start(scheduler, job, &error) != BULLA_OK || open_sequence(scheduler, job, &error) != BULLA_OK) {
        job_fail(scheduler, job, &error);
        return TRIED_STARTED;
    }
    job->found = bulla_sequence_length(job->sequence);
    job->looked_at = scheduler->step;
    if (!has_rows_for(scheduler, load, job->priority, job_remaining(job))) { /* the cache lost what was found in it */
        give_up_start(job);
        return TRIED_NO_ROWS;
    }
    /* What it found in the prefix cache is not free any more, but need not be taken. */
    uint64_t missing = pages_wanted(job) - pages_for(bulla_sequence_length(job->sequence));
    int64_t needed = (int64_t)(missing + spare_pages(scheduler));
    int64_t left = find_room(scheduler) - needed;
    if (scheduler->running_count && left < 0) {
        give_up_start(job);
        scheduler->blocked = job;
        scheduler->blocked_room = room - left;
        return TRIED_NO_ROOM;
    }
    start(scheduler, job);
    return TRIED_STARTED;
}

/* --- in turn --- */

/* Full pages of tokens that both begin with, of those that the first could take. */
static uint64_t common_pages(const struct job *job, const struct job *other)
{
    size_t most = job->count - 1 < other->count ? job->count - 1 : other->count, pages = 0;
    const size_t page = BULLA_PAGE_POSITIONS;
    while ((pages + 1) * page <= most &&
           memcmp(job->tokens + pages * page, other->tokens + pages * page, page * sizeof *job->tokens) == 0)
        pages++;
    return pages;
}

/* Whether a running job is about to compute pages that this one can take from the prefix cache: several choices of
 * one request, say. Not one that is behind this one in order, nor one that got no rows of late. */
static int waits_for_prefix(const struct scheduler *scheduler, const struct job *job)
{
    bulla_prefix_counters counters;
    bulla_engine_prefix_counters(scheduler->engine, &counters);
    if (!job->shares_prefix || job->embeds || counters.hits + counters.misses == 0)
        return 0;
    for (uint32_t i = 0; i < scheduler->running_count; i++) {
        const struct job *other = scheduler->running[i];
        uint64_t length = bulla_sequence_length(other->sequence);
        int is_served = other->latest_step + 1 >= scheduler->step || other->start_step == scheduler->step;
        if (other->tenant != job->tenant || !other->shares_prefix || other->embeds || length + 1 >= other->count ||
            other->priority < job->priority || !is_served)
            continue;
        if (length < common_pages(job, other) * BULLA_PAGE_POSITIONS)
            return 1;
    }
    return 0;
}

/* A job for which there are no rows is passed. Whether shorter ones may be among those that come after it. */
static int pass_held(struct scheduler *scheduler, struct admission *admission, struct job *job)
{
    queue_pass(job);
    return ++admission->held < MOST_HELD &&
           has_rows_to_pass(scheduler, load_of(scheduler, admission, job->priority), job->priority);
}

/* Whether a job was started, failed or passed, so that the next one can be looked at. */
static int admit(struct scheduler *scheduler, struct admission *admission, struct job *job)
{
    if (!job->embeds && job->limit == 0) {
        job_finish(scheduler, job, (struct job_end){.reason = SCHEDULER_LENGTH});
        admission->is_known = 0;
        return 1;
    }
    if (!may_start(scheduler, admission, job))
        return pass_held(scheduler, admission, job);
    if (waits_for_prefix(scheduler, job)) {
        queue_pass(job);
        return 1;
    }
    if (!grammar_may_start(scheduler, job))
        return 0;
    enum trial trial = try_start(scheduler, load_of(scheduler, admission, job->priority), job);
    if (trial == TRIED_NO_ROWS)
        return pass_held(scheduler, admission, job);
    admission->is_known = 0;
    return trial == TRIED_STARTED || preempt_for(scheduler, job);
}

void scheduler_admit(struct scheduler *scheduler)
{
    struct admission admission = {0};
    queue_rewind(scheduler);
    for (struct job *job; (job = queue_next(scheduler)) != NULL;)
        if (!admit(scheduler, &admission, job))
            break;
}
