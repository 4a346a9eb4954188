/* One batch through the stages of the plan. */
#include <string.h>
#include <time.h>

#include "exec/cpu/engine_internal.h"

static uint8_t *scratch_of(const bulla_engine *engine, unsigned thread)
{
    return engine->scratch + thread * engine->scratch_bytes;
}

static void run_rows(bulla_engine *engine, const struct stage *stage, unsigned thread)
{
    uint64_t begin, end;
    thread_share(engine->batch.count, 1, thread, engine->threads, &begin, &end);
    rows_run(engine, stage, (uint32_t)begin, (uint32_t)end, scratch_of(engine, thread));
}

/* Rows of the stage's input that this operation does not all need, put together. */
static void gather_rows(const bulla_engine *engine, uint32_t input, const struct active *active, int8_t *to)
{
    size_t stride = engine->plan.places[input].stride;
    for (uint32_t r = 0; r < active->count; r++)
        memcpy(to + r * stride, engine_bytes(engine, input, active->index[r]), stride);
}

static struct linear_call linear_call_of(const bulla_engine *engine, uint32_t index, int32_t **logits)
{
    const bulla_operation *o = &engine->program->operations[index];
    const struct place *place = &engine->plan.places[index];
    const struct active *active = &engine->batch.active[index];
    uint32_t input = (uint32_t)o->inputs[0];
    struct linear_call call = {.linear = &engine->weights.linears[index], .index = active->index,
        .q = active->index ? engine->gathered : engine_bytes(engine, input, 0), .s = engine_scales(engine, input),
        .range = engine->batch.range, .q_stride = engine->plan.places[input].stride, .y_stride = place->stride,
        .rows = active->count, .operation = index};
    if (place->is_logits)
        call.y_rows = logits;
    else
        call.y = engine_vector(engine, index, 0);
    return call;
}

/* The stage's row blocks, one operation's behind another's, shared out evenly. */
static void run_linear(bulla_engine *engine, const struct stage *stage, unsigned thread)
{
    const uint32_t *order = engine->plan.order + stage->first;
    const struct active *first = &engine->batch.active[order[0]];
    int alike = 1;
    uint64_t total = 0, passed = 0, begin, end;
    for (uint32_t i = 0; i < stage->count; i++) {
        const struct active *active = &engine->batch.active[order[i]];
        alike &= active->count == first->count && !active->index;
        total += engine->weights.linears[order[i]].blocks;
    }
    thread_share(total, 2, thread, engine->threads, &begin, &end);
    for (uint32_t i = 0; i < stage->count; i++) {
        uint32_t index = order[i], blocks = engine->weights.linears[index].blocks;
        const struct active *active = &engine->batch.active[index];
        uint64_t from = begin > passed ? begin - passed : 0, to = end > passed ? end - passed : 0;
        passed += blocks;
        if (!alike)
            thread_share(blocks, 2, thread, engine->threads, &from, &to);
        if (active->count && active->index) {
            thread_team_barrier(engine->team);
            if (thread == 0)
                gather_rows(engine, (uint32_t)engine->program->operations[index].inputs[0], active, engine->gathered);
            thread_team_barrier(engine->team);
        }
        struct linear_call call = linear_call_of(engine, index, engine->batch.logits);
        if (active->count && from < blocks && from < to)
            engine->kernels->linear(&call, (uint32_t)from, (uint32_t)(to < blocks ? to : blocks),
                                    scratch_of(engine, thread));
    }
}

static int is_idle(const bulla_engine *engine, const struct stage *stage)
{
    for (uint32_t i = 0; i < stage->count; i++)
        if (engine->batch.active[engine->plan.order[stage->first + i]].count)
            return 0;
    return 1;
}

static uint64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void batch_work(void *context, unsigned thread)
{
    bulla_engine *engine = context;
    int is_timed = thread == 0 && engine->stage_nanoseconds != NULL;
    uint64_t before = is_timed ? nanoseconds() : 0;
    for (uint32_t s = 0; s < engine->plan.stage_count; s++) {
        const struct stage *stage = &engine->plan.stages[s];
        if (is_idle(engine, stage))
            continue;
        if (stage->kind == STAGE_ROWS)
            run_rows(engine, stage, thread);
        else if (stage->kind == STAGE_LINEAR)
            run_linear(engine, stage, thread);
        else
            attend_run(engine, s, thread);
        thread_team_barrier(engine->team);
        if (is_timed) {
            uint64_t now = nanoseconds();
            engine->stage_nanoseconds[s] += now - before;
            before = now;
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
}
