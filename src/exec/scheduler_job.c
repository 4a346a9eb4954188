/* Jobs: requests from when they are accepted to their finish. */
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "exec/answer.h"
#include "exec/scheduler_internal.h"

/* --- beginning --- */

static int copy_sampling(struct job *job, const bulla_sampling *sampling, bulla_error *error)
{
    job->sampling = *sampling;
    bulla_logit_bias *biases = memory_alloc(sampling->bias_count, sizeof *biases, error);
    job->sampling.biases = biases;
    if (biases && sampling->bias_count)
        memcpy(biases, sampling->biases, sampling->bias_count * sizeof *biases);
    return biases ? BULLA_OK : BULLA_E_MEMORY;
}

static int copy_prompt(struct job *job, const struct scheduler_request *request, bulla_error *error)
{
    job->capacity = request->prompt_count + 16;
    job->tokens = memory_alloc(job->capacity, sizeof *job->tokens, error);
    if (!job->tokens)
        return BULLA_E_MEMORY;
    memcpy(job->tokens, request->prompt, request->prompt_count * sizeof *job->tokens);
    job->count = job->prompt_count = request->prompt_count;
    return BULLA_OK;
}

/* A copy of a request that was checked. */
static int job_new(struct scheduler *scheduler, const struct scheduler_request *request, struct job **result,
                   bulla_error *error)
{
    struct job *job = memory_alloc(1, sizeof *job, error);
    if (!job)
        return BULLA_E_MEMORY;
    job->id = request->id;
    job->priority = request->priority;
    job->deadline = request->deadline;
    job->shares_prefix = request->shares_prefix && request->tenant;
    job->ignores_end = request->ignores_end;
    job->logprobs = request->logprobs;
    job->embeds = request->embeds;
    int code = copy_prompt(job, request, error);
    if (code == BULLA_OK)
        code = copy_sampling(job, &request->sampling, error);
    if (code == BULLA_OK)
        code = text_open(job, request, error);
    if (code == BULLA_OK && job->embeds)
        code = embed_open(scheduler, job, error);
    if (code == BULLA_OK && request->grammar && !job->embeds)
        code = grammar_open(scheduler, job, request->grammar, request->grammar_length, error);
    if (code != BULLA_OK) {
        job_free(scheduler, job);
        return code;
    }
    *result = job;
    return BULLA_OK;
}

void job_free(struct scheduler *scheduler, struct job *job)
{
    bulla_sequence_close(job->sequence);
    speculation_close(&job->speculation);
    grammar_close(scheduler, job);
    text_close(job);
    memory_free(job->sum);
    memory_free((void *)(uintptr_t)job->sampling.biases);
    memory_free(job->tokens);
    memory_free(job);
}

int job_reserve(struct job *job, bulla_error *error)
{
    if (job->count < job->capacity)
        return BULLA_OK;
    size_t capacity = job->capacity + job->capacity / 2;
    uint32_t *tokens = memory_resize(job->tokens, capacity, sizeof *tokens, error);
    if (!tokens)
        return BULLA_E_MEMORY;
    job->tokens = tokens;
    job->capacity = capacity;
    return BULLA_OK;
}

/* --- by id --- */

static struct job **bucket_of(const struct scheduler *scheduler, uint64_t id)
{
    return &scheduler->buckets[(id * UINT64_C(0x9E3779B97F4A7C15)) >> 32 & (scheduler->bucket_count - 1)];
}

struct job *job_find(const struct scheduler *scheduler, uint64_t id)
{
    struct job *job = *bucket_of(scheduler, id);
    while (job && job->id != id)
        job = job->next_in_bucket;
    return job;
}

/* Where memory for more buckets is short there stay as many as there are. */
static void grow_buckets(struct scheduler *scheduler)
{
    struct job **buckets = memory_alloc(2 * scheduler->bucket_count, sizeof *buckets, NULL);
    if (!buckets)
        return;
    memory_free(scheduler->buckets);
    scheduler->buckets = buckets;
    scheduler->bucket_count *= 2;
    for (struct job *job = scheduler->jobs; job; job = job->next) {
        struct job **bucket = bucket_of(scheduler, job->id);
        job->next_in_bucket = *bucket;
        *bucket = job;
    }
}

static void job_enter(struct scheduler *scheduler, struct job *job)
{
    if (scheduler->job_count++ >= scheduler->bucket_count)
        grow_buckets(scheduler);
    struct job **bucket = bucket_of(scheduler, job->id);
    job->next_in_bucket = *bucket;
    *bucket = job;
    job->next = scheduler->jobs;
    if (job->next)
        job->next->previous = job;
    scheduler->jobs = job;
    if (job->deadline && job->deadline < scheduler->next_deadline)
        scheduler->next_deadline = job->deadline;
    job->arrival = ++scheduler->arrivals;
    job->added = clock_nanoseconds();
    queue_put(job);
}

int job_add(struct scheduler *scheduler, const struct scheduler_request *request, uint64_t limit, struct job **result,
            bulla_error *error)
{
    struct job *job;
    int code = job_new(scheduler, request, &job, error);
    if (code != BULLA_OK)
        return code;
    job->limit = limit;
    job->tenant = queue_join(scheduler, request->tenant, error);
    if (!job->tenant) {
        job_free(scheduler, job);
        return BULLA_E_MEMORY;
    }
    job_enter(scheduler, job);
    *result = job;
    return BULLA_OK;
}

static void leave(struct scheduler *scheduler, struct job *job)
{
    struct job **link = bucket_of(scheduler, job->id);
    while (*link != job)
        link = &(*link)->next_in_bucket;
    *link = job->next_in_bucket;
    *(job->previous ? &job->previous->next : &scheduler->jobs) = job->next;
    if (job->next)
        job->next->previous = job->previous;
    scheduler->job_count--;
    if (scheduler->blocked == job)
        scheduler->blocked = NULL;
    for (uint32_t i = 0; i < scheduler->planned_count; i++)
        if (scheduler->planned[i] == job)
            scheduler->planned[i] = NULL;
    if (job->state == JOB_RUNNING)
        running_take(scheduler, job);
    else
        queue_take(job);
    queue_leave(scheduler, job->tenant);
    job->tenant = NULL;
    job->state = JOB_FINISHED;
    job->previous = NULL;
    job->next = scheduler->finished;
    scheduler->finished = job;
}

/* --- ending --- */

void calls_begin(struct scheduler *scheduler)
{
    scheduler->calls++;
}

void calls_end(struct scheduler *scheduler)
{
    if (--scheduler->calls > 0)
        return;
    while (scheduler->finished) {
        struct job *job = scheduler->finished;
        scheduler->finished = job->next;
        job_free(scheduler, job);
    }
}

/* The rest of the text. A stop string may be completed by the character that the answer's end cut. */
static void end_text(struct job *job, struct job_end *end, bulla_error *error)
{
    const struct stop *stop;
    int is_whole = end->reason == SCHEDULER_STOP || end->reason == SCHEDULER_LENGTH || end->reason == SCHEDULER_RANGE;
    if (text_end(job, &stop, error) != BULLA_OK) {
        if (is_whole)
            *end = (struct job_end){.reason = SCHEDULER_FAILED, .error = error};
    } else if (stop && is_whole)
        *end = (struct job_end){.reason = SCHEDULER_STOP, .stop = stop};
}

static uint64_t difference(uint64_t from, uint64_t to)
{
    return to > from ? to - from : 0;
}

void job_finish(struct scheduler *scheduler, struct job *job, struct job_end end)
{
    bulla_error error = {0};
    uint64_t now = clock_nanoseconds();
    calls_begin(scheduler);
    leave(scheduler, job);
    bulla_sequence_close(job->sequence);
    job->sequence = NULL;
    if (!end.stop)
        end_text(job, &end, &error);
    struct scheduler_finish finish = {.request = job->id, .reason = end.reason,
        .stop = end.stop ? end.stop->text : NULL,
        .rest = job->held.data ? (const char *)job->held.data : "", .rest_length = job->held.length,
        .prompt_tokens = job->prompt_count, .cached_tokens = job->cached_tokens,
        .output_tokens = job->count - job->prompt_count, .range_position = end.range_position,
        .range_operation = end.range_operation, .error = end.error};
    finish.queued_nanoseconds = difference(job->added, job->started ? job->started : now);
    if (job->started)
        finish.prefill_nanoseconds = difference(job->started, job->first_drawn ? job->first_drawn : now);
    if (job->first_drawn)
        finish.decode_nanoseconds = difference(job->first_drawn, now);
    scheduler->events.finish(scheduler->events.context, &finish);
    calls_end(scheduler);
}

void job_fail(struct scheduler *scheduler, struct job *job, const bulla_error *error)
{
    job_finish(scheduler, job, (struct job_end){.reason = SCHEDULER_FAILED, .error = error});
}
