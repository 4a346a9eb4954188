/* One batch through the stages of the plan. */
#include <string.h>

#include "base/clock.h"
#include "exec/cpu/engine_internal.h"

enum { RELEASE_ROWS = 64 }; /* of a batch after which the file's pages go */

static void run_rows(bulla_engine *engine, const struct stage *stage, unsigned thread)
{
    uint64_t begin = 0, end = engine->batch.count;
    struct slice slice = {0, 1};
    if (stage->by_heads && end < engine->threads)
        slice = (struct slice){thread, engine->threads};
    else
        thread_share(engine->batch.count, 1, thread, engine->threads, &begin, &end);
    rows_run(engine, engine->plan.order + stage->first, stage->count, (uint32_t)begin, (uint32_t)end, slice,
             engine->scratch + thread * engine->scratch_bytes);
}

static int is_idle(const bulla_engine *engine, const struct stage *stage)
{
    for (uint32_t i = 0; i < stage->count + stage->fused; i++)
        if (engine->batch.active[engine->plan.order[stage->first + i]].count)
            return 0;
    return 1;
}

static void batch_work(void *context, unsigned thread)
{
    bulla_engine *engine = context;
    int is_timed = thread == 0 && engine->profile != NULL;
    uint64_t before = is_timed ? clock_nanoseconds() : 0;
    for (uint32_t s = 0; s < engine->plan.stage_count; s++) {
        const struct stage *stage = &engine->plan.stages[s];
        if (is_idle(engine, stage) || is_own_stage(engine, s))
            continue;
        if (stage->kind == STAGE_ROWS)
            run_rows(engine, stage, thread);
        else if (stage->kind == STAGE_LINEAR)
            linear_run(engine, s, thread);
        else
            attend_run(engine, s, thread);
        thread_team_barrier(engine->team);
        if (is_timed) {
            profile_add(engine->profile, s, clock_nanoseconds() - before);
            before = clock_nanoseconds();
        }
    }
}

/* The rows at which each operation is evaluated. */
static void find_active(bulla_engine *engine)
{
    struct batch *batch = &engine->batch;
    for (uint32_t i = 0; i < engine->program->operation_count; i++) {
        uint32_t *index = batch->indices + (size_t)i * engine->plan.batch_rows, count = 0, total = 0;
        for (uint32_t r = 0; r < batch->run_count; r++) {
            const struct run *run = &batch->runs[r];
            const struct row *row = &batch->rows[run->first];
            uint64_t lowest = row->sequence->lowest[i];
            uint64_t skip = lowest > row->position ? lowest - row->position : 0;
            total += skip < run->count ? run->count - (uint32_t)skip : 0;
        }
        batch->active[i] = (struct active){.count = total, .index = total == batch->count ? NULL : index};
        if (total == batch->count || total == 0)
            continue;
        for (uint32_t r = 0; r < batch->count; r++)
            if (batch->rows[r].position >= batch->rows[r].sequence->lowest[i])
                index[count++] = r;
    }
}

void batch_run(bulla_engine *engine)
{
    struct batch *batch = &engine->batch;
    memset(batch->range, 0xFF, batch->count * sizeof *batch->range);
    memset(batch->next_item, 0, engine->plan.stage_count * sizeof *batch->next_item);
    for (uint32_t r = 0; r < batch->count; r++)
        batch->logits[r] = batch->rows[r].logits;
    find_active(engine);
    thread_team_run(engine->team, batch_work, engine);
    /* Each embedded row has brought its neighbours in the file with it (Linux maps 16 pages a fault). */
    if (engine->model && batch->count >= RELEASE_ROWS)
        bulla_model_release(engine->model);
}
