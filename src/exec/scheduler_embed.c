/* A prompt's embedding: each position's hidden state scaled to length 1, their mean, scaled to length 1; binary64,
 * positions and elements in order. The fraction bits of hidden states cancel out. */
#include <math.h>

#include "base/memory.h"
#include "exec/scheduler_internal.h"

int embed_open(struct scheduler *scheduler, struct job *job, bulla_error *error)
{
    size_t size = bulla_engine_hidden_size(scheduler->engine);
    if (size == 0)
        return bulla_fail(error, BULLA_E_UNSUPPORTED, "the model has no hidden state: it gives no embeddings");
    if (!scheduler->hidden)
        scheduler->hidden = memory_alloc(size * scheduler->step_rows, sizeof *scheduler->hidden, error);
    job->sum = scheduler->hidden ? memory_alloc(size, sizeof *job->sum, error) : NULL;
    return job->sum ? BULLA_OK : BULLA_E_MEMORY;
}

void embed_add(const struct scheduler *scheduler, struct job *job, const int32_t *hidden, uint32_t count)
{
    size_t size = bulla_engine_hidden_size(scheduler->engine);
    for (uint32_t row = 0; row < count; row++, hidden += size) {
        double squares = 0;
        for (size_t i = 0; i < size; i++)
            squares += (double)hidden[i] * hidden[i];
        double length = sqrt(squares);
        for (size_t i = 0; i < size && length > 0; i++)
            job->sum[i] += hidden[i] / length;
    }
}

void embed_end(struct scheduler *scheduler, struct job *job)
{
    size_t size = bulla_engine_hidden_size(scheduler->engine);
    double squares = 0;
    scheduler->counters.prompt_tokens += job->prompt_count;
    bulla_error error = {0};
    float *values = memory_alloc(size, sizeof *values, &error);
    if (!values) {
        job_fail(scheduler, job, &error);
        return;
    }
    for (size_t i = 0; i < size; i++) {
        job->sum[i] /= (double)job->prompt_count;
        squares += job->sum[i] * job->sum[i];
    }
    double length = sqrt(squares);
    for (size_t i = 0; i < size; i++)
        values[i] = length > 0 ? (float)(job->sum[i] / length) : 0;
    scheduler->events.embedding(scheduler->events.context, job->id, values, size);
    memory_free(values);
    if (job->state != JOB_FINISHED)
        job_finish(scheduler, job, (struct job_end){.reason = SCHEDULER_STOP});
}
