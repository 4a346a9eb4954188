/* A stage of linear operations that share their input: row blocks shared out among
 * threads, one operation's behind another's. Where an element-wise operation alone
 * reads the results (gate, add), each thread does it on its own part while that is
 * still in its cache, and the linear results themselves are never stored. */
#include <string.h>

#include "exec/cpu/engine_internal.h"

static uint8_t *scratch_of(const bulla_engine *engine, unsigned thread)
{
    return engine->scratch + thread * engine->scratch_bytes;
}

/* What a thread works on: the stage's input, shared or its own. */
struct share {
    bulla_engine *engine;
    const int8_t *q;
    const int64_t *s;
    unsigned thread;
};

/* Rows of the stage's input that this operation does not all need, put together. */
static void gather_rows(const struct share *share, uint32_t input, const struct active *active)
{
    size_t stride = share->engine->plan.places[input].stride;
    for (uint32_t r = 0; r < active->count; r++)
        memcpy(share->engine->gathered + r * stride, share->q + active->index[r] * stride, stride);
}

static struct linear_call call_of(const struct share *share, uint32_t index)
{
    const bulla_engine *engine = share->engine;
    const bulla_operation *o = &engine->program->operations[index];
    const struct place *place = &engine->plan.places[index];
    const struct active *active = &engine->batch.active[index];
    uint32_t input = (uint32_t)o->inputs[0];
    struct linear_call call = {.linear = &engine->weights.linears[index], .index = active->index,
        .q = active->index ? engine->gathered : share->q, .s = share->s,
        .range = engine->batch.range, .q_stride = engine->plan.places[input].stride, .y_stride = place->stride,
        .rows = active->count, .operation = index};
    if (place->is_logits)
        call.y_rows = engine->batch.logits;
    else
        call.y = engine_vector(engine, index, 0);
    return call;
}

/* Row blocks [from, to) of an operation by itself. Every thread comes here, for the barriers. */
static void run_plain(const struct share *share, uint32_t index, uint64_t from, uint64_t to)
{
    bulla_engine *engine = share->engine;
    const struct active *active = &engine->batch.active[index];
    if (active->count && active->index) {
        thread_team_barrier(engine->team);
        if (share->thread == 0)
            gather_rows(share, (uint32_t)engine->program->operations[index].inputs[0], active);
        thread_team_barrier(engine->team);
    }
    struct linear_call call = call_of(share, index);
    if (active->count && from < to)
        engine->kernels->linear(&call, (uint32_t)from, (uint32_t)to, scratch_of(engine, share->thread));
}

/* --- with an element-wise operation --- */

/* Rows [row, row + rows) and row blocks [block, end) of the linear operation `index` into `y`. */
static void multiply_part(const struct share *share, uint32_t index, uint32_t row, uint32_t rows, uint32_t block,
                          uint32_t end, int32_t *y)
{
    struct linear_call call = call_of(share, index);
    call.q += row * call.q_stride;
    call.s += row;
    call.range += row;
    call.rows = rows;
    call.y = y;
    call.y_stride = (size_t)(end - block) * KERNEL_ROWS;
    call.y_block = block;
    share->engine->kernels->linear(&call, block, end, scratch_of(share->engine, share->thread));
}

/* Row blocks [from, to) of the element-wise operation `index` and the linear ones before it. */
static void run_fused(const struct share *share, uint32_t index, uint32_t from, uint32_t to)
{
    bulla_engine *engine = share->engine;
    const bulla_operation *o = &engine->program->operations[index];
    int32_t *parts[2] = {engine->fused_scratch + (size_t)share->thread * 2 * FUSED_ELEMENTS, NULL};
    parts[1] = parts[0] + FUSED_ELEMENTS;
    uint32_t count = engine->batch.count, most_rows = count < FUSED_ROWS ? count : FUSED_ROWS;
    uint32_t most_blocks = FUSED_ELEMENTS / KERNEL_ROWS / most_rows;
    for (uint32_t block = from; block < to; block += most_blocks) {
        uint32_t end = to - block < most_blocks ? to : block + most_blocks, column = block * KERNEL_ROWS;
        uint32_t columns = (end * KERNEL_ROWS < o->n ? end * KERNEL_ROWS : o->n) - column;
        for (uint32_t row = 0; row < count; row += FUSED_ROWS) {
            uint32_t rows = count - row < FUSED_ROWS ? count - row : FUSED_ROWS;
            int is_part[2] = {0};
            for (int j = 0; j < 2; j++) {
                is_part[j] = o->inputs[j] >= 0 && engine->plan.fused_into[o->inputs[j]] == (int32_t)index;
                if (is_part[j])
                    multiply_part(share, (uint32_t)o->inputs[j], row, rows, block, end, parts[j]);
            }
            for (uint32_t r = 0; r < rows; r++) {
                const int32_t *x[2];
                for (int j = 0; j < 2; j++)
                    x[j] = is_part[j] ? parts[j] + (size_t)r * (end - block) * KERNEL_ROWS
                           : o->inputs[j] >= 0 ? engine_vector(engine, (uint32_t)o->inputs[j], row + r) + column : NULL;
                if (elements_run(engine, o, x[0], x[1], columns, engine_vector(engine, index, row + r) + column))
                    kernel_mark_range(&engine->batch.range[row + r], index);
            }
        }
    }
}

static int is_whole(const bulla_engine *engine, const uint32_t *operations, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (engine->batch.active[operations[i]].index || engine->batch.active[operations[i]].count == 0)
            return 0;
    return 1;
}

/* Where a unit of work begins and ends for this thread, `passed` row blocks after the stage's first. */
static void clip(uint64_t begin, uint64_t end, uint64_t passed, uint64_t blocks, uint64_t *from, uint64_t *to)
{
    *from = begin > passed ? begin - passed : 0;
    *to = end > passed ? end - passed : 0;
    *from = *from < blocks ? *from : blocks;
    *to = *to < blocks ? *to : blocks;
}

/* The stage's input: where the stage before it left it, or quantised here and now. */
static struct share share_of(bulla_engine *engine, uint32_t stage, unsigned thread)
{
    uint32_t first = engine->plan.order[engine->plan.stages[stage].first];
    uint32_t input = (uint32_t)engine->program->operations[first].inputs[0];
    if (stage == 0 || !is_own_stage(engine, stage - 1))
        return (struct share){engine, engine_bytes(engine, input, 0), engine_scales(engine, input), thread};
    size_t stride = engine->plan.places[input].stride;
    int8_t *q = engine->own_q + (size_t)thread * OWN_ROWS * engine->plan.largest_columns;
    int64_t *s = engine->own_s + thread * OWN_ROWS;
    for (uint32_t row = 0; row < engine->batch.count; row++) {
        const struct row *at = &engine->batch.rows[row];
        if (at->position >= at->sequence->lowest[input] &&
            quantise_run(engine, input, row, q + row * stride, &s[row], scratch_of(engine, thread)))
            kernel_mark_range(&engine->batch.range[row], input);
    }
    return (struct share){engine, q, s, thread};
}

void linear_run(bulla_engine *engine, uint32_t number, unsigned thread)
{
    const struct stage *stage = &engine->plan.stages[number];
    const uint32_t *order = engine->plan.order + stage->first;
    const struct share share = share_of(engine, number, thread);
    int whole = is_whole(engine, order, stage->count + stage->fused);
    uint64_t total = 0, passed = 0, begin, end, from, to;
    for (uint32_t i = 0; i < stage->count; i++)
        total += engine->plan.fused_into[order[i]] < 0 ? engine->weights.linears[order[i]].blocks : 0;
    thread_share(total, 2, thread, engine->threads, &begin, &end);
    for (uint32_t i = 0; i < stage->count; i++) {
        uint32_t index = order[i], blocks = engine->weights.linears[index].blocks;
        int32_t fused = engine->plan.fused_into[index];
        if (whole && fused < 0) {
            clip(begin, end, passed, blocks, &from, &to);
            run_plain(&share, index, from, to);
        } else if (!whole) {
            thread_share(blocks, 2, thread, engine->threads, &from, &to);
            run_plain(&share, index, from, to);
        }
        if (fused < 0)
            passed += blocks;
    }
    if (whole) {
        for (uint32_t i = stage->count; i < stage->count + stage->fused; i++) {
            uint64_t blocks = (engine->program->operations[order[i]].n + KERNEL_ROWS - 1) / KERNEL_ROWS;
            thread_share(blocks, 2, thread, engine->threads, &from, &to);
            run_fused(&share, order[i], (uint32_t)from, (uint32_t)to);
        }
    } else if (stage->fused) {
        thread_team_barrier(engine->team);
        thread_share(engine->batch.count, 1, thread, engine->threads, &from, &to);
        rows_run(engine, order + stage->count, stage->fused, (uint32_t)from, (uint32_t)to, (struct slice){0, 1},
                 scratch_of(engine, thread));
    }
}
