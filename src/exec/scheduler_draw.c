/* From logits to tokens, text and the answer's end: what exec/generate.c does for one answer. */
#include "base/clock.h"
#include "exec/answer.h"
#include "exec/scheduler_internal.h"

static void finish_range(struct scheduler *scheduler, struct job *job, uint64_t position, uint32_t operation)
{
    job_finish(scheduler, job, (struct job_end){.reason = SCHEDULER_RANGE, .range_position = position,
                                                .range_operation = operation});
}

static int append_token(struct scheduler *scheduler, struct job *job, uint32_t token, const struct stop **stop,
                        bulla_error *error)
{
    int code = job_reserve(job, error);
    if (code == BULLA_OK)
        code = grammar_accept(job, token, error);
    if (code == BULLA_OK)
        code = text_append(scheduler->tokenizer, job, token, stop, error);
    if (code != BULLA_OK)
        return code;
    job->tokens[job->count++] = token;
    if (job->speculates == SPECULATION_OPEN)
        speculation_drawn(&job->speculation, token);
    job->tenant->service++;
    scheduler->counters.output_tokens++;
    return BULLA_OK;
}

/* Tells a token and its text; then the answer goes on, or ends with it. */
static void deliver(struct scheduler *scheduler, struct job *job, const int32_t *logits, uint32_t token)
{
    const bulla_program *program = scheduler->program;
    const struct stop *stop = NULL;
    bulla_error error = {0};
    if (append_token(scheduler, job, token, &stop, &error) != BULLA_OK) {
        job_fail(scheduler, job, &error);
        return;
    }
    struct scheduler_token event = {.request = job->id, .token = token, .top = scheduler->top,
                                    .text = (const char *)job->out.data, .length = job->out.length};
    if (job->logprobs >= 0) {
        size_t most = (size_t)job->logprobs;
        event.top_count = most < program->vocabulary ? most : program->vocabulary;
        event.logprob = logprobs_find(logits, program->vocabulary, program->logits_F, token, scheduler->top, most);
    }
    scheduler->events.token(scheduler->events.context, &event);
    if (job->state == JOB_FINISHED)
        return;
    if (stop || grammar_is_final(job))
        job_finish(scheduler, job, (struct job_end){.reason = SCHEDULER_STOP, .stop = stop});
    else if (job->count - job->prompt_count == job->limit)
        job_finish(scheduler, job, (struct job_end){.reason = SCHEDULER_LENGTH});
}

/* An end token under a grammar ends the answer whatever the request says: nothing could follow it. */
static int is_end(const struct scheduler *scheduler, const struct job *job, uint32_t token)
{
    return (!job->ignores_end || job->grammar) && bulla_tokenizer_is_end(scheduler->tokenizer, token);
}

static void draw(struct scheduler *scheduler, struct job *job, const int32_t *logits, uint32_t *token)
{
    const bulla_program *program = scheduler->program;
    const uint64_t *allowed;
    bulla_error error = {0};
    int code = grammar_allowed(job, &allowed, &error);
    if (code == BULLA_OK)
        code = bulla_sampler_draw(scheduler->sampler, &job->sampling, logits, program->logits_F, job->tokens,
                                  job->prompt_count, job->tokens + job->prompt_count, job->count - job->prompt_count,
                                  allowed, job->count, token, &error);
    if (code == BULLA_E_RANGE)
        finish_range(scheduler, job, job->count - 1, program->operation_count);
    else if (code != BULLA_OK)
        job_fail(scheduler, job, &error);
    else if (is_end(scheduler, job, *token))
        job_finish(scheduler, job, (struct job_end){.reason = SCHEDULER_STOP});
    else
        deliver(scheduler, job, logits, *token);
}

/* Back to before the latest token, where proposals were wrong. */
static void forget_rejected(struct job *job)
{
    uint64_t length = bulla_sequence_length(job->sequence), kept = job->count - 1;
    if (length <= kept)
        return;
    bulla_sequence_truncate(job->sequence, kept);
    job->may_copy = kept % BULLA_PAGE_POSITIONS && length / BULLA_PAGE_POSITIONS > kept / BULLA_PAGE_POSITIONS;
}

void job_draw(struct scheduler *scheduler, struct job *job, const bulla_piece *piece)
{
    uint32_t good = answer_good_rows(piece, job->count - 1);
    uint64_t vocabulary = scheduler->program->vocabulary;
    if (!job->first_drawn) {
        job->first_drawn = clock_nanoseconds();
        scheduler->counters.prompt_tokens += job->prompt_count;
    }
    if (good == 0) {
        finish_range(scheduler, job, piece->range_position, piece->range_operation);
        return;
    }
    for (uint32_t row = 0;; row++) {
        uint32_t token, next = piece->logits_from + row + 1;
        draw(scheduler, job, piece->logits + row * vocabulary, &token);
        if (job->state == JOB_FINISHED)
            return;
        int is_accepted = next < piece->count && piece->ids[next] == token;
        scheduler->counters.accepted_tokens += (uint64_t)is_accepted;
        if (is_accepted && row + 1 < good)
            continue;
        if (is_accepted) /* and with it the position that left a bound */
            finish_range(scheduler, job, piece->range_position, piece->range_operation);
        else
            forget_rejected(job);
        return;
    }
}
