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
    void *scratch;
};

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

static int run_quantise(const struct task *task)
{
    const bulla_operation *o = task->operation;
    int8_t *q = engine_bytes(task->engine, task->index, task->row);
    int64_t *s = &engine_scales(task->engine, task->index)[task->row];
    size_t stride = task->engine->plan.places[task->index].stride;
    const struct kernels *kernels = task->engine->kernels;
    int bad = 0;
    if (o->kind == BULLA_NORM_QUANT)
        bad = kernels->norm_quant(input(task, 0), tensor(task, BULLA_TENSOR_E), o->n, o->block, o->c, o->eps,
                                   task->scratch, q, s);
    else
        kernels->quant(input(task, 0), o->n, o->block, task->scratch, q, s);
    memset(q + o->n, 0, stride - o->n);
    return bad;
}

static int run_head_quant(const struct task *task)
{
    const bulla_operation *o = task->operation;
    uint32_t padded = task->engine->plan.places[task->index].padded;
    int8_t *q8 = engine_bytes(task->engine, task->index, task->row);
    int32_t *s_q = engine_head_scales(task->engine, task->index) + (size_t)task->row * o->heads;
    const int32_t *x = input(task, 0);
    int bad = 0;
    for (uint32_t h = 0; h < o->heads; h++, x += o->head_size, q8 += padded) {
        bad |= task->engine->kernels->head_quant(x, o->head_size, o->block, task->scratch, q8, &s_q[h]);
        memset(q8 + o->head_size, 0, padded - o->head_size);
    }
    return bad;
}

/* key_quant and value_quant write to the cache. */
static int run_cache(const struct task *task)
{
    const bulla_operation *o = task->operation;
    const struct row *row = &task->engine->batch.rows[task->row];
    uint32_t padded = task->engine->plan.places[task->index].padded;
    uint32_t slot = (uint32_t)(row->position % KERNEL_POSITIONS);
    const struct kernels *kernels = task->engine->kernels;
    const int32_t *x = input(task, 0);
    int bad = 0;
    for (uint32_t h = 0; h < o->heads; h++, x += o->head_size) {
        uint8_t *page = engine_head_page(task->engine, row->sequence, task->index, row->position / KERNEL_POSITIONS, h);
        int8_t bytes[KERNEL_MAX_HEAD];
        uint8_t *after = page + (size_t)KERNEL_POSITIONS * padded;
        int32_t scale;
        if (o->kind == BULLA_KEY_QUANT) {
            int is_out = kernels->head_quant(x, o->head_size, o->block, task->scratch, bytes, &scale);
            bad |= is_out;
            ((int32_t *)(void *)after)[slot] = is_out ? 0 : (int32_t)(((int64_t)scale * o->C + (1 << 15)) >> 16);
            pack_key((int8_t *)page, (int16_t *)(void *)(after + KERNEL_POSITIONS * sizeof(int32_t)), slot, bytes,
                     o->head_size, padded);
        } else {
            bad |= kernels->value_quant(x, o->head_size, bytes, &scale);
            after[slot] = (uint8_t)scale;
            pack_value((int8_t *)page, slot, bytes, o->head_size);
        }
    }
    return bad;
}

static int run_heads(const struct task *task)
{
    const bulla_operation *o = task->operation;
    const struct kernels *kernels = task->engine->kernels;
    const int32_t *x = input(task, 0);
    int32_t *y = engine_vector(task->engine, task->index, task->row);
    int bad = 0;
    if (o->kind == BULLA_ROPE)
        return kernels->rope(x, o->heads, o->head_size, o->rotary, (o->flags & BULLA_OPERATION_HALF) != 0,
                             tensor(task, BULLA_TENSOR_TURN), task->engine->batch.rows[task->row].position,
                             task->engine->program->data[3], y);
    for (uint32_t h = 0; h < o->heads; h++, x += o->head_size, y += o->head_size)
        bad |= kernels->norm(x, tensor(task, BULLA_TENSOR_G), o->head_size, o->eps, o->k, y);
    return bad;
}

static int run_elements(const struct task *task)
{
    const bulla_operation *o = task->operation;
    const int32_t *x = input(task, 0);
    int32_t *y = engine_vector(task->engine, task->index, task->row);
    const struct kernels *kernels = task->engine->kernels;
    if (o->kind == BULLA_ADD)
        return kernels->add(x, input(task, 1), o->n, y);
    if (o->kind == BULLA_GATE)
        return kernels->gate(x, o->inputs[1] >= 0 ? input(task, 1) : NULL, o->n, tensor(task, BULLA_TENSOR_A), o->F_g,
                             o->k, y);
    kernels->softcap(tensor(task, BULLA_TENSOR_A), x, o->n, y);
    return 0;
}

static int run_operation(const struct task *task)
{
    switch (task->operation->kind) {
    case BULLA_EMBED:
        run_embed(task);
        return 0;
    case BULLA_NORM_QUANT:
    case BULLA_QUANT:
        return run_quantise(task);
    case BULLA_HEAD_QUANT:
        return run_head_quant(task);
    case BULLA_KEY_QUANT:
    case BULLA_VALUE_QUANT:
        return run_cache(task);
    case BULLA_NORM:
    case BULLA_ROPE:
        return run_heads(task);
    default:
        return run_elements(task);
    }
}

void rows_run(bulla_engine *engine, const struct stage *stage, uint32_t row, void *scratch)
{
    const struct row *at = &engine->batch.rows[row];
    for (uint32_t i = 0; i < stage->count; i++) {
        uint32_t index = engine->plan.order[stage->first + i];
        if (at->position < at->sequence->lowest[index])
            continue;
        struct task task = {engine, &engine->program->operations[index], index, row, scratch};
        if (run_operation(&task))
            kernel_mark_range(&engine->batch.range[row], index);
    }
}
