/* Operations on one row by itself. */
#include <string.h>

#include "exec/cpu/engine_internal.h"
#include "exec/cpu/pack.h"
#include "exec/ref/operations.h"

/* One operation at one row. */
struct task {
    bulla_engine *engine;
    const bulla_operation *operation;
    uint32_t index, row;
    struct slice slice;
    void *scratch;
};

/* The slice's heads of an operation. Values go the other way round, so that small
 * numbers of heads even out. */
static void heads_of(const bulla_operation *o, struct slice slice, uint32_t *begin, uint32_t *end)
{
    uint64_t number = o->kind == BULLA_VALUE_QUANT ? slice.count - 1 - slice.number : slice.number;
    *begin = (uint32_t)(o->heads * number / slice.count);
    *end = (uint32_t)(o->heads * (number + 1) / slice.count);
}

static const void *tensor(const struct task *task, int role)
{
    return engine_tensor(task->engine, task->operation, role);
}

static const int32_t *input(const struct task *task, int which)
{
    return engine_vector(task->engine, (uint32_t)task->operation->inputs[which], task->row);
}

static void run_embed(const struct task *task)
{
    const bulla_operation *o = task->operation;
    uint32_t id = task->engine->batch.rows[task->row].id;
    reference_embed((const int8_t *)tensor(task, BULLA_TENSOR_E8) + (uint64_t)id * o->outputs,
                    ((const uint16_t *)tensor(task, BULLA_TENSOR_ME))[id], o->ke, o->outputs,
                    engine_vector(task->engine, task->index, task->row));
}

int quantise_run(bulla_engine *engine, uint32_t index, uint32_t row, int8_t *q, int64_t *s, void *scratch)
{
    const bulla_operation *o = &engine->program->operations[index];
    const int32_t *x = engine_vector(engine, (uint32_t)o->inputs[0], row);
    int bad = 0;
    if (o->kind == BULLA_NORM_QUANT)
        bad = engine->kernels->norm_quant(x, engine_tensor(engine, o, BULLA_TENSOR_E), o->n, o->block, o->c, o->eps,
                                          scratch, q, s);
    else
        engine->kernels->quant(x, o->n, o->block, scratch, q, s);
    memset(q + o->n, 0, engine->plan.places[index].stride - o->n);
    return bad;
}

static int run_head_quant(const struct task *task)
{
    const bulla_operation *o = task->operation;
    uint32_t padded = task->engine->plan.places[task->index].padded, begin, end;
    int32_t *s_q = engine_head_scales(task->engine, task->index) + (size_t)task->row * o->heads;
    int bad = 0;
    heads_of(o, task->slice, &begin, &end);
    for (uint32_t h = begin; h < end; h++) {
        int8_t *q8 = engine_bytes(task->engine, task->index, task->row) + (size_t)h * padded;
        bad |= task->engine->kernels->head_quant(input(task, 0) + (size_t)h * o->head_size, o->head_size, o->block,
                                                 task->scratch, q8, &s_q[h]);
        memset(q8 + o->head_size, 0, padded - o->head_size);
    }
    return bad;
}

enum { CHUNK = KERNEL_ROWS }; /* rows that go through a stage together */

/* Successive positions of one sequence, all in one page: row `row` and the `count` - 1 after it. */
static uint32_t rows_of_page(const bulla_engine *engine, uint32_t row, uint32_t end)
{
    const struct row *first = &engine->batch.rows[row];
    uint32_t count = 1;
    while (row + count < end && first[count].sequence == first->sequence &&
           first[count].position / KERNEL_POSITIONS == first->position / KERNEL_POSITIONS)
        count++;
    return count;
}

/* One head's values of successive rows into its page, four positions at a time where they allow it. */
static void cache_values(uint8_t *page, uint32_t padded, uint32_t slot, uint32_t count, int8_t bytes[][KERNEL_MAX_HEAD],
                         const int32_t *scales, uint32_t size)
{
    for (uint32_t r = 0; r < count; r++)
        page[(size_t)KERNEL_POSITIONS * padded + slot + r] = (uint8_t)scales[r];
    for (uint32_t r = 0; r < count;)
        if ((slot + r) % 4 == 0 && count - r >= 4) {
            pack_four_values((int8_t *)page, slot + r, bytes[r], KERNEL_MAX_HEAD, size);
            r += 4;
        } else {
            pack_value((int8_t *)page, slot + r, bytes[r], size);
            r++;
        }
}

static void cache_keys(uint8_t *page, uint32_t padded, uint32_t slot, uint32_t count, int8_t bytes[][KERNEL_MAX_HEAD],
                       const int32_t *scales, uint32_t size)
{
    int32_t *t_k = (int32_t *)(void *)(page + (size_t)KERNEL_POSITIONS * padded);
    for (uint32_t r = 0; r < count; r++) {
        t_k[slot + r] = scales[r];
        pack_key((int8_t *)page, (int16_t *)(void *)(t_k + KERNEL_POSITIONS), slot + r, bytes[r], size, padded);
    }
}

/* key_quant or value_quant of up to CHUNK successive rows of one page. */
static void run_cache(bulla_engine *engine, uint32_t index, uint32_t row, uint32_t count, struct slice slice,
                      void *scratch)
{
    const bulla_operation *o = &engine->program->operations[index];
    const struct row *first = &engine->batch.rows[row];
    const struct kernels *kernels = engine->kernels;
    uint32_t padded = engine->plan.places[index].padded, slot = (uint32_t)(first->position % KERNEL_POSITIONS);
    uint32_t begin, end;
    heads_of(o, slice, &begin, &end);
    for (uint32_t h = begin; h < end; h++) {
        uint8_t *page = engine_head_page(engine, first->sequence, index, first->position / KERNEL_POSITIONS, h);
        int8_t bytes[CHUNK][KERNEL_MAX_HEAD];
        int32_t scales[CHUNK];
        for (uint32_t r = 0; r < count; r++) {
            const int32_t *x = engine_vector(engine, (uint32_t)o->inputs[0], row + r) + (size_t)h * o->head_size;
            int is_out;
            if (o->kind == BULLA_KEY_QUANT) {
                is_out = kernels->head_quant(x, o->head_size, o->block, scratch, bytes[r], &scales[r]);
                scales[r] = is_out ? 0 : (int32_t)(((int64_t)scales[r] * o->C + (1 << 15)) >> 16);
            } else
                is_out = kernels->value_quant(x, o->head_size, bytes[r], &scales[r]);
            if (is_out)
                kernel_mark_range(&engine->batch.range[row + r], index);
        }
        (o->kind == BULLA_KEY_QUANT ? cache_keys : cache_values)(page, padded, slot, count, bytes, scales, o->head_size);
    }
}

static void run_cache_rows(bulla_engine *engine, uint32_t index, uint32_t row, uint32_t end, struct slice slice,
                           void *scratch)
{
    for (uint32_t count; row < end; row += count) {
        const struct row *at = &engine->batch.rows[row];
        count = 1;
        if (at->position < at->sequence->lowest[index])
            continue;
        count = rows_of_page(engine, row, end);
        run_cache(engine, index, row, count, slice, scratch);
    }
}

static int run_heads(const struct task *task)
{
    const bulla_operation *o = task->operation;
    const struct kernels *kernels = task->engine->kernels;
    uint32_t begin, end;
    heads_of(o, task->slice, &begin, &end);
    const int32_t *x = input(task, 0) + (size_t)begin * o->head_size;
    int32_t *y = engine_vector(task->engine, task->index, task->row) + (size_t)begin * o->head_size;
    int bad = 0;
    if (o->kind == BULLA_ROPE)
        return kernels->rope(x, end - begin, o->head_size, o->rotary, (o->flags & BULLA_OPERATION_HALF) != 0,
                             tensor(task, BULLA_TENSOR_TURN), task->engine->batch.rows[task->row].position,
                             task->engine->program->data[3], y);
    for (uint32_t h = begin; h < end; h++, x += o->head_size, y += o->head_size)
        bad |= kernels->norm(x, tensor(task, BULLA_TENSOR_G), o->head_size, o->eps, o->k, y);
    return bad;
}

int elements_run(const bulla_engine *engine, const bulla_operation *o, const int32_t *x, const int32_t *y, uint32_t n,
                 int32_t *result)
{
    const struct kernels *kernels = engine->kernels;
    if (o->kind == BULLA_ADD)
        return kernels->add(x, y, n, result);
    if (o->kind == BULLA_GATE)
        return kernels->gate(x, y, n, engine_tensor(engine, o, BULLA_TENSOR_A), o->F_g,
                             engine->small_steps[o - engine->program->operations], o->k, result);
    kernels->softcap(engine_tensor(engine, o, BULLA_TENSOR_A), x, n, result);
    return 0;
}

static int run_elements(const struct task *task)
{
    const bulla_operation *o = task->operation;
    return elements_run(task->engine, o, input(task, 0), o->inputs[1] >= 0 ? input(task, 1) : NULL, o->n,
                        engine_vector(task->engine, task->index, task->row));
}

static int run_operation(const struct task *task)
{
    switch (task->operation->kind) {
    case BULLA_EMBED:
        run_embed(task);
        return 0;
    case BULLA_NORM_QUANT:
    case BULLA_QUANT:
        return quantise_run(task->engine, task->index, task->row, engine_bytes(task->engine, task->index, task->row),
                            &engine_scales(task->engine, task->index)[task->row], task->scratch);
    case BULLA_HEAD_QUANT:
        return run_head_quant(task);
    case BULLA_NORM:
    case BULLA_ROPE:
        return run_heads(task);
    default:
        return run_elements(task);
    }
}

void rows_run(bulla_engine *engine, const uint32_t *operations, uint32_t count, uint32_t begin, uint32_t end,
              struct slice slice, void *scratch)
{
    for (uint32_t first = begin; first < end; first += CHUNK)
        for (uint32_t i = 0; i < count; i++) {
            uint32_t index = operations[i], last = end - first < CHUNK ? end : first + CHUNK;
            const bulla_operation *o = &engine->program->operations[index];
            if (o->kind == BULLA_KEY_QUANT || o->kind == BULLA_VALUE_QUANT) {
                run_cache_rows(engine, index, first, last, slice, scratch);
                continue;
            }
            for (uint32_t row = first; row < last; row++) {
                const struct row *at = &engine->batch.rows[row];
                struct task task = {engine, o, index, row, slice, scratch};
                if (at->position >= at->sequence->lowest[index] && run_operation(&task))
                    kernel_mark_range(&engine->batch.range[row], index);
            }
        }
}
