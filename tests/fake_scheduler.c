/* exec/scheduler.h without a model: what an answer is follows from its request alone, and its prompt's first token says
 * how the scheduler behaves.
 *
 *   's'  says the rest of the prompt again, token by token, then stops
 *   'g'  letters that follow from seed and number, up to max_tokens (0: without end)
 *   'h'  never says anything           'k'  dies after two tokens       'e'  the engine fails after two tokens
 *   'v'  a token beyond the vocabulary 'u'  a finish twice              'q'  is refused as too long
 *   'r'  RANGE at once  'R'  after two tokens   'd', 'D'  DEADLINE so   'f'  fails for want of memory
 *   'o'  stops at its stop string number 0, with a held back "rest"
 *   'c'  tenant, priority and flags as text
 *   'C'  the worker's open descriptors and its environment's size as text */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "exec/scheduler.h"
#include "fake_scheduler.h"

struct job {
    struct job *next;
    struct scheduler_request request;
    uint32_t *prompt;
    char stop[64], text[400];
    size_t said;
    int is_over;
};

struct scheduler {
    struct scheduler_events events;
    struct job *jobs;
    struct scheduler_counters counters;
    int has_failed;
};

uint32_t fake_scheduler_token(uint64_t seed, size_t number)
{
    return 'a' + (uint32_t)((seed * 31 + number * number * 7 + number) % 26);
}

int scheduler_open(bulla_engine *engine, const bulla_model *model, const struct scheduler_options *options,
                   const struct scheduler_events *events, struct scheduler **scheduler, bulla_error *error)
{
    *scheduler = memory_alloc(1, sizeof **scheduler, error);
    if (!*scheduler)
        return BULLA_E_MEMORY;
    (*scheduler)->events = *events;
    (*scheduler)->counters.pages_total = bulla_engine_pages_total(engine);
    return BULLA_OK;
}

static void free_job(struct job *job)
{
    memory_free(job->prompt);
    memory_free(job);
}

void scheduler_close(struct scheduler *scheduler)
{
    if (!scheduler)
        return;
    for (struct job *job = scheduler->jobs, *next; job; job = next) {
        next = job->next;
        free_job(job);
    }
    memory_free(scheduler);
}

extern char **environ;

static void describe_process(char *text, size_t size)
{
    size_t used = 0, variables = 0;
    DIR *folder = opendir("/proc/self/fd");
    for (struct dirent *entry; folder && (entry = readdir(folder));)
        if (entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(folder))
            used += (size_t)snprintf(text + used, size - used, "%s ", entry->d_name);
    if (folder)
        closedir(folder);
    while (environ[variables])
        variables++;
    snprintf(text + used, size - used, "%s %d", getenv("BULLA_SECRET") ? "secret" : "none", getsid(0) == getpid());
}

int scheduler_add(struct scheduler *scheduler, const struct scheduler_request *request, bulla_error *error)
{
    if (request->prompt[0] == 'q')
        return bulla_fail(error, BULLA_E_LIMIT, "too long for the pool");
    struct job *job = memory_alloc(1, sizeof *job, error);
    if (!job)
        return BULLA_E_MEMORY;
    job->request = *request;
    job->prompt = memory_alloc(request->prompt_count, sizeof *job->prompt, error);
    memcpy(job->prompt, request->prompt, request->prompt_count * sizeof *job->prompt);
    if (request->stop_count)
        snprintf(job->stop, sizeof job->stop, "%s", request->stops[0].text);
    if (request->prompt[0] == 'c')
        snprintf(job->text, sizeof job->text, "%s %d %d %d %llu %.*s", request->tenant ? request->tenant : "-",
                 request->priority, request->shares_prefix, request->ignores_end, (unsigned long long)request->deadline,
                 (int)request->grammar_length, request->grammar ? request->grammar : "");
    if (request->prompt[0] == 'C')
        describe_process(job->text, sizeof job->text);
    struct job **end = &scheduler->jobs;
    while (*end)
        end = &(*end)->next;
    *end = job;
    scheduler->counters.running++;
    scheduler->counters.prompt_tokens += request->prompt_count;
    return BULLA_OK;
}

static void finish(struct scheduler *scheduler, struct job *job, enum scheduler_finish_reason reason, const char *rest)
{
    const bulla_error why = {.code = BULLA_E_MEMORY, .text = "no memory for it"};
    struct scheduler_finish end = {.request = job->request.id, .reason = reason, .rest = rest,
                                   .rest_length = strlen(rest),
                                   .prompt_tokens = job->request.prompt_count, .cached_tokens = 1,
                                   .output_tokens = job->said, .range_position = 9, .range_operation = 4,
                                   .error = reason == SCHEDULER_FAILED ? &why : NULL,
                                   .stop = reason == SCHEDULER_STOP && job->prompt[0] == 'o' ? job->stop : NULL};
    job->is_over = 1;
    scheduler->counters.running--;
    scheduler->events.finish(scheduler->events.context, &end);
    if (job->prompt[0] == 'u')
        scheduler->events.finish(scheduler->events.context, &end);
}

void scheduler_cancel(struct scheduler *scheduler, uint64_t id)
{
    for (struct job *job = scheduler->jobs; job; job = job->next)
        if (job->request.id == id && !job->is_over)
            finish(scheduler, job, SCHEDULER_CANCELLED, "");
}

static void sweep(struct scheduler *scheduler)
{
    for (struct job **at = &scheduler->jobs; *at;) {
        struct job *job = *at;
        if (!job->is_over) {
            at = &job->next;
            continue;
        }
        *at = job->next;
        free_job(job);
    }
}

int scheduler_is_idle(const struct scheduler *scheduler)
{
    for (const struct job *job = scheduler->jobs; job; job = job->next)
        if (!job->is_over && job->prompt[0] != 'h')
            return 0;
    return 1;
}

static void say(struct scheduler *scheduler, struct job *job, uint32_t id)
{
    const char text = (char)id;
    const struct scheduler_logprob top[] = {{id, -0.5}, {'z', -1.0 / 0.0}};
    struct scheduler_token token = {.request = job->request.id, .token = id, .text = &text, .length = id < 256,
                                    .logprob = -0.5, .top = top,
                                    .top_count = job->request.logprobs > 0 ? 2 : 0};
    job->said++;
    scheduler->counters.output_tokens++;
    scheduler->events.token(scheduler->events.context, &token);
}

static void say_text(struct scheduler *scheduler, struct job *job, const char *text)
{
    if (text[job->said])
        say(scheduler, job, (unsigned char)text[job->said]);
    else
        finish(scheduler, job, SCHEDULER_STOP, "");
}

static void embed(struct scheduler *scheduler, struct job *job)
{
    const float values[] = {0.5f, (float)job->request.prompt_count, -1.0f};
    scheduler->events.embedding(scheduler->events.context, job->request.id, values, 3);
    finish(scheduler, job, SCHEDULER_STOP, "");
}

static void step_job(struct scheduler *scheduler, struct job *job)
{
    uint32_t command = job->prompt[0];
    if (job->request.embeds) {
        embed(scheduler, job);
    } else if (command == 's') {
        if (job->said + 1 < job->request.prompt_count)
            say(scheduler, job, job->prompt[job->said + 1]);
        else
            finish(scheduler, job, SCHEDULER_STOP, "");
    } else if (command == 'c' || command == 'C') {
        say_text(scheduler, job, job->text);
    } else if (command == 'r' || command == 'd' || command == 'f') {
        finish(scheduler, job,
               command == 'r' ? SCHEDULER_RANGE : command == 'd' ? SCHEDULER_DEADLINE : SCHEDULER_FAILED, "");
    } else if (job->said == 2 && (command == 'R' || command == 'D')) {
        finish(scheduler, job, command == 'R' ? SCHEDULER_RANGE : SCHEDULER_DEADLINE, "");
    } else if (job->said == 2 && (command == 'o' || command == 'u')) {
        finish(scheduler, job, SCHEDULER_STOP, "rest");
    } else if (job->said == 2 && command == 'k') {
        kill(getpid(), SIGKILL);
    } else if (job->said == 2 && command == 'e') {
        scheduler->has_failed = 1;
    } else if (command == 'v') {
        say(scheduler, job, 100000);
    } else if (job->request.max_tokens && job->said == job->request.max_tokens) {
        finish(scheduler, job, SCHEDULER_LENGTH, "");
    } else {
        say(scheduler, job, fake_scheduler_token(job->request.sampling.seed, job->said));
    }
}

int scheduler_step(struct scheduler *scheduler, bulla_error *error)
{
    for (struct job *job = scheduler->jobs; job; job = job->next)
        if (!job->is_over && job->prompt[0] != 'h')
            step_job(scheduler, job);
    sweep(scheduler);
    scheduler->counters.steps++;
    return scheduler->has_failed ? bulla_fail(error, BULLA_E_INTERNAL, "the engine is on fire") : BULLA_OK;
}

void scheduler_count(const struct scheduler *scheduler, struct scheduler_counters *counters)
{
    *counters = scheduler->counters;
}

const char *scheduler_finish_name(enum scheduler_finish_reason reason)
{
    return reason == SCHEDULER_STOP ? "stop" : "other";
}
