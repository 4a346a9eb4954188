#include "exec/scheduler.h"

#include "base/memory.h"
#include "bulla/model.h"
#include "exec/answer.h"
#include "exec/scheduler_internal.h"

enum { MOST_RUNNING = 256, STEP_ROWS = 512, MOST_ROWS = 65536, FIRST_BUCKETS = 64 };

const char *scheduler_finish_name(enum scheduler_finish_reason reason)
{
    static const char *const names[] = {"stop", "length", "range", "cancelled", "deadline", "failed"};
    return names[reason];
}

/* --- opening --- */

static int allocate(struct scheduler *scheduler, bulla_error *error)
{
    scheduler->bucket_count = FIRST_BUCKETS;
    scheduler->buckets = memory_alloc(scheduler->bucket_count, sizeof *scheduler->buckets, error);
    scheduler->running = memory_alloc(scheduler->most_running, sizeof *scheduler->running, error);
    scheduler->planned = memory_alloc(scheduler->most_running, sizeof *scheduler->planned, error);
    scheduler->pieces = memory_alloc(scheduler->most_running, sizeof *scheduler->pieces, error);
    scheduler->logits = memory_map((size_t)scheduler->most_rows * scheduler->program->vocabulary *
                                   sizeof *scheduler->logits, error);
    return scheduler->buckets && scheduler->running && scheduler->planned && scheduler->pieces && scheduler->logits
               ? BULLA_OK : BULLA_E_MEMORY;
}

int scheduler_open(bulla_engine *engine, const bulla_model *model, const struct scheduler_options *options,
                   const struct scheduler_events *events, struct scheduler **result, bulla_error *error)
{
    *result = NULL;
    if (options->most_running > MOST_ROWS || options->step_rows > MOST_ROWS)
        return bulla_fail(error, BULLA_E_USAGE, "most_running and step_rows: found %u and %u, expected at most %d",
                          options->most_running, options->step_rows, MOST_ROWS);
    struct scheduler *scheduler = memory_alloc(1, sizeof *scheduler, error);
    if (!scheduler)
        return BULLA_E_MEMORY;
    scheduler->engine = engine;
    scheduler->program = bulla_model_program(model);
    scheduler->tokenizer = bulla_model_tokenizer(model);
    scheduler->events = *events;
    scheduler->most_running = options->most_running ? options->most_running : MOST_RUNNING;
    scheduler->step_rows = options->step_rows ? options->step_rows : STEP_ROWS;
    scheduler->speculate = options->speculate < SPECULATE_MOST ? options->speculate : SPECULATE_MOST;
    scheduler->most_rows = 1 + scheduler->speculate;
    if (scheduler->most_rows < scheduler->most_running)
        scheduler->most_rows = scheduler->most_running;
    scheduler->next_deadline = UINT64_MAX;
    scheduler->grammars.most_bytes = options->grammar_bytes;
    int code = allocate(scheduler, error);
    if (code == BULLA_OK)
        code = answer_sampler_open(scheduler->program, &scheduler->sampler, error);
    if (code != BULLA_OK) {
        scheduler_close(scheduler);
        return code;
    }
    *result = scheduler;
    return BULLA_OK;
}

void scheduler_close(struct scheduler *scheduler)
{
    if (!scheduler)
        return;
    while (scheduler->jobs) {
        struct job *job = scheduler->jobs;
        scheduler->jobs = job->next;
        job_free(scheduler, job);
    }
    if (scheduler->settled < scheduler->planned_count)
        bulla_engine_continue(scheduler->engine); /* the step is over: its sequences are closed */
    while (scheduler->tenants) {
        struct tenant *tenant = scheduler->tenants;
        scheduler->tenants = tenant->next;
        memory_free(tenant->name);
        memory_free(tenant);
    }
    grammar_forget(scheduler);
    bulla_sampler_close(scheduler->sampler);
    memory_unmap(scheduler->logits, (size_t)scheduler->most_rows * scheduler->program->vocabulary *
                                    sizeof *scheduler->logits);
    memory_free(scheduler->hidden);
    memory_free(scheduler->buckets);
    memory_free(scheduler->running);
    memory_free(scheduler->planned);
    memory_free(scheduler->pieces);
    memory_free(scheduler);
}

/* --- requests --- */

static int check_request(const struct scheduler *scheduler, const struct scheduler_request *request, bulla_error *error)
{
    if (job_find(scheduler, request->id))
        return bulla_fail(error, BULLA_E_USAGE, "a request with the number %llu is under way already",
                          (unsigned long long)request->id);
    if (request->logprobs < -1 || request->logprobs > SCHEDULER_MOST_LOGPROBS)
        return bulla_fail(error, BULLA_E_USAGE, "logprobs: found %d, expected -1 to %d", request->logprobs,
                          SCHEDULER_MOST_LOGPROBS);
    bulla_sampling sampling = request->sampling;
    if (request->embeds)
        bulla_sampling_defaults(&sampling);
    return answer_check(scheduler->program, request->prompt, request->prompt_count, &sampling, error);
}

/* The answer's limit; BULLA_E_LIMIT where the pool cannot hold it. */
static int find_limit(const struct scheduler *scheduler, const struct scheduler_request *request, uint64_t *limit,
                      bulla_error *error)
{
    uint64_t pages = bulla_engine_pages_total(scheduler->engine), positions = pages * BULLA_PAGE_POSITIONS;
    uint64_t most = answer_limit(scheduler->program, request->prompt_count, request->max_tokens);
    *limit = most;
    if (request->embeds || (request->max_tokens == 0 && most))
        most = 1; /* what has to be there at least */
    if (most && request->prompt_count + most - 1 > positions)
        return bulla_fail(error, BULLA_E_LIMIT, "a prompt of %zu tokens and an answer of %llu need %llu pages of the "
                          "KV cache (%d positions each), which has %llu: shorten the prompt or max_tokens, or give the "
                          "cache more memory", request->prompt_count, (unsigned long long)(request->embeds ? 0 : most),
                          (unsigned long long)pages_for(request->prompt_count + most - 1), BULLA_PAGE_POSITIONS,
                          (unsigned long long)pages);
    if (*limit && request->prompt_count + *limit - 1 > positions)
        *limit = positions - request->prompt_count + 1;
    return BULLA_OK;
}

int scheduler_add(struct scheduler *scheduler, const struct scheduler_request *request, bulla_error *error)
{
    struct job *job;
    uint64_t limit;
    int code = check_request(scheduler, request, error);
    if (code == BULLA_OK)
        code = find_limit(scheduler, request, &limit, error);
    return code == BULLA_OK ? job_add(scheduler, request, limit, &job, error) : code;
}

void scheduler_cancel(struct scheduler *scheduler, uint64_t id)
{
    struct job *job = job_find(scheduler, id);
    if (job)
        job_finish(scheduler, job, (struct job_end){.reason = SCHEDULER_CANCELLED});
}

int scheduler_is_idle(const struct scheduler *scheduler)
{
    return scheduler->job_count == 0;
}

void scheduler_count(const struct scheduler *scheduler, struct scheduler_counters *counters)
{
    *counters = scheduler->counters;
    counters->running = scheduler->running_count;
    counters->waiting = scheduler->job_count - scheduler->running_count;
    counters->pages_total = bulla_engine_pages_total(scheduler->engine);
    counters->pages_used = counters->pages_total - bulla_engine_pages_free(scheduler->engine);
}
