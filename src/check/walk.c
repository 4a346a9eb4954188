#include "check/walk.h"

#include "base/memory.h"
#include "exec/answer.h"
#include "exec/scheduler_internal.h"

struct walk {
    const bulla_model *model;
    struct scheduler *scheduler; /* without an engine: it keeps the job, and never steps */
    const struct scheduler_events *events;
    struct replay_outcome *outcome;
    size_t count;
    int is_over;
};

static void settle(struct walk *walk, enum replay_result result)
{
    walk->is_over = 1;
    walk->outcome->result = result;
}

static void take_token(void *context, const struct scheduler_token *token)
{
    struct walk *walk = context;
    if (walk->is_over)
        return;
    walk->outcome->at++;
    walk->events->token(walk->events->context, token);
}

static void take_finish(void *context, const struct scheduler_finish *finish)
{
    struct walk *walk = context;
    if (walk->is_over)
        return;
    if (finish->reason == SCHEDULER_FAILED) {
        walk->outcome->refusal = *finish->error;
        settle(walk, REPLAY_REFUSED);
        return;
    }
    settle(walk, walk->outcome->at < walk->count ? REPLAY_ENDS : REPLAY_SAME);
    if (walk->outcome->result == REPLAY_SAME)
        walk->events->finish(walk->events->context, finish);
}

int walk_open(const bulla_model *model, struct walk **result, bulla_error *error)
{
    static const struct scheduler_options one = {.most_running = 1};
    struct walk *walk = memory_alloc(1, sizeof *walk, error);
    *result = NULL;
    if (!walk)
        return BULLA_E_MEMORY;
    const struct scheduler_events events = {.context = walk, .token = take_token, .finish = take_finish};
    walk->model = model;
    int code = scheduler_open(NULL, model, &one, &events, &walk->scheduler, error);
    if (code == BULLA_OK)
        *result = walk;
    else
        walk_close(walk);
    return code;
}

void walk_close(struct walk *walk)
{
    if (!walk)
        return;
    scheduler_close(walk->scheduler);
    memory_free(walk);
}

/* Whether the token could be drawn, and what it ends. */
static int take(struct walk *walk, struct job *job, uint32_t token, const struct walk_options *options, bulla_error *error)
{
    struct scheduler *scheduler = walk->scheduler;
    const uint64_t *allowed;
    const struct stop *stop = NULL;
    int code = grammar_allowed(job, &allowed, error);
    if (code == BULLA_OK && options->allowed)
        code = options->allowed(options->context, allowed, error);
    if (code != BULLA_OK)
        return code;
    int ends = (!job->ignores_end || job->grammar) && bulla_tokenizer_is_end(scheduler->tokenizer, token);
    if (token >= scheduler->program->vocabulary || ends || (allowed && !(allowed[token / 64] >> (token & 63) & 1))) {
        settle(walk, REPLAY_DIFFERS);
        return BULLA_OK;
    }
    code = job_reserve(job, error);
    if (code == BULLA_OK)
        code = grammar_accept(job, token, error);
    if (code == BULLA_OK)
        code = text_append(scheduler->tokenizer, job, token, &stop, error);
    if (code != BULLA_OK)
        return code;
    job->tokens[job->count++] = token;
    const struct scheduler_token event = {.request = job->id, .token = token, .text = (const char *)job->out.data,
                                          .length = job->out.length};
    take_token(walk, &event);
    if (stop || grammar_is_final(job))
        job_finish(scheduler, job, (struct job_end){.reason = SCHEDULER_STOP, .stop = stop});
    else if (job->count - job->prompt_count == job->limit)
        job_finish(scheduler, job, (struct job_end){.reason = SCHEDULER_LENGTH});
    return BULLA_OK;
}

/* Behind the tokens, where they did not end the answer. */
static int end(struct walk *walk, struct job *job, const struct walk_options *options, int *has_end, bulla_error *error)
{
    static const enum scheduler_finish_reason reasons[] = {[WALK_END_TOKEN] = SCHEDULER_STOP, [WALK_RANGE] = SCHEDULER_RANGE,
                                                           [WALK_DEADLINE] = SCHEDULER_DEADLINE};
    const uint64_t *allowed;
    int code = grammar_allowed(job, &allowed, error);
    if (code == BULLA_OK && options->allowed && options->end != WALK_DEADLINE)
        code = options->allowed(options->context, allowed, error);
    if (code != BULLA_OK)
        return code;
    if (options->end == WALK_LIMIT || (options->end == WALK_END_TOKEN && job->ignores_end && !job->grammar)) {
        settle(walk, REPLAY_GOES_ON);
        return BULLA_OK;
    }
    *has_end = options->end == WALK_END_TOKEN;
    job_finish(walk->scheduler, job, (struct job_end){.reason = reasons[options->end]});
    return BULLA_OK;
}

static int open_job(struct walk *walk, const struct scheduler_request *request, struct job **job, bulla_error *error)
{
    const bulla_program *program = walk->scheduler->program;
    int code = answer_check(program, request->prompt, request->prompt_count, &request->sampling, error);
    if (code != BULLA_OK)
        return code;
    return job_add(walk->scheduler, request, answer_limit(program, request->prompt_count, request->max_tokens), job, error);
}

int walk_run(struct walk *walk, const struct scheduler_request *request, const uint32_t *tokens, size_t count,
             const struct walk_options *options, const struct scheduler_events *events, struct replay_outcome *outcome,
             int *has_end, bulla_error *error)
{
    struct job *job;
    bulla_error why = {0};
    *outcome = (struct replay_outcome){0};
    *has_end = 0;
    walk->events = events;
    walk->outcome = outcome;
    walk->count = count;
    walk->is_over = 0;
    int code = open_job(walk, request, &job, &why);
    if (code == BULLA_OK) {
        calls_begin(walk->scheduler); /* a job that finishes stays until calls_end */
        code = grammar_start(walk->scheduler, job, &why);
        for (size_t i = 0; code == BULLA_OK && i < count && !walk->is_over; i++)
            code = take(walk, job, tokens[i], options, &why);
        if (code == BULLA_OK && !walk->is_over)
            code = end(walk, job, options, has_end, &why);
        walk->is_over = 1;
        scheduler_cancel(walk->scheduler, request->id);
        calls_end(walk->scheduler);
    }
    if (code == BULLA_E_MEMORY || code == BULLA_E_INTERNAL || code == BULLA_E_IO)
        return bulla_fail(error, code, "%s", why.text);
    if (code != BULLA_OK) {
        outcome->refusal = why;
        outcome->result = REPLAY_REFUSED;
    }
    return BULLA_OK;
}
