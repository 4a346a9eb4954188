/* All that the scheduler does with grammars. */
#include "bulla/model.h"
#include "exec/grammar.h"
#include "exec/scheduler_internal.h"

int grammar_open(struct scheduler *scheduler, struct job *job, const char *specification, size_t length,
                 bulla_error *error)
{
    int code = BULLA_OK;
    if (!scheduler->vocabulary)
        code = grammar_vocabulary_open(scheduler->tokenizer, scheduler->program->vocabulary, &scheduler->vocabulary,
                                       error);
    if (code == BULLA_OK)
        code = grammar_compile(specification, length, &job->grammar, error);
    if (code == BULLA_OK)
        code = grammar_state_open(job->grammar, scheduler->vocabulary, &job->grammar_state, error);
    return code;
}

void grammar_close(struct job *job)
{
    if (!job->grammar)
        return;
    grammar_state_close(job->grammar_state);
    grammar_free(job->grammar);
}

void grammar_forget(struct scheduler *scheduler)
{
    if (scheduler->vocabulary)
        grammar_vocabulary_close(scheduler->vocabulary);
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
