/* All that the scheduler does with grammars. A specification is held once for all jobs that have it. It is compiled when
 * the first of them starts, which may take a tenth of a second: so in a step no further one is compiled once that took
 * more than a few milliseconds. */
#include "bulla/model.h"
#include "exec/scheduler_internal.h"

enum { STEP_WORK = 5000000 }; /* of GRAMMAR_MOST_WORK */

int grammar_open(struct scheduler *scheduler, struct job *job, const char *specification, size_t length,
                 bulla_error *error)
{
    return grammar_table_take(&scheduler->grammars, specification, length, &job->grammar, error);
}

void grammar_close(struct scheduler *scheduler, struct job *job)
{
    grammar_state_close(job->grammar_state);
    grammar_table_give(&scheduler->grammars, job->grammar);
}

void grammar_forget(struct scheduler *scheduler)
{
    grammar_table_free(&scheduler->grammars);
    grammar_vocabulary_close(scheduler->vocabulary);
}

int grammar_may_start(const struct scheduler *scheduler, const struct job *job)
{
    return !job->grammar || grammar_entry_is_compiled(job->grammar) || scheduler->grammar_step != scheduler->step ||
           scheduler->grammar_work < STEP_WORK;
}

/* That it takes too much is a reason to refuse it, not one of the context's limits. */
static int compile(struct scheduler *scheduler, struct job *job, const struct grammar **grammar, bulla_error *error)
{
    bulla_error own = {0};
    uint64_t work;
    int code = grammar_table_compile(&scheduler->grammars, job->grammar, grammar, &work, &own);
    scheduler->grammar_work = work + (scheduler->grammar_step == scheduler->step ? scheduler->grammar_work : 0);
    scheduler->grammar_step = scheduler->step;
    return code ? bulla_fail(error, code == BULLA_E_LIMIT ? BULLA_E_UNSUPPORTED : code, "%s", own.text) : BULLA_OK;
}

int grammar_start(struct scheduler *scheduler, struct job *job, bulla_error *error)
{
    const struct grammar *grammar;
    int code = BULLA_OK;
    if (!job->grammar || job->grammar_state)
        return BULLA_OK;
    if (!scheduler->vocabulary)
        code = grammar_vocabulary_open(scheduler->tokenizer, scheduler->program->vocabulary, &scheduler->vocabulary,
                                       error);
    if (code == BULLA_OK)
        code = compile(scheduler, job, &grammar, error);
    return code ? code : grammar_state_open(grammar, scheduler->vocabulary, &job->grammar_state, error);
}

int grammar_allowed(struct job *job, const uint64_t **allowed, bulla_error *error)
{
    *allowed = NULL;
    return job->grammar ? grammar_state_allowed(job->grammar_state, allowed, error) : BULLA_OK;
}

int grammar_accept(struct job *job, uint32_t token, bulla_error *error)
{
    return job->grammar ? grammar_state_accept(job->grammar_state, token, error) : BULLA_OK;
}

int grammar_is_final(const struct job *job)
{
    return job->grammar && grammar_state_is_final(job->grammar_state);
}
