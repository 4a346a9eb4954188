#include "exec/cpu/import_run.h"

#include <string.h>

#include "base/memory.h"
#include "base/threads.h"
#include "exec/cpu/isa.h"
#include "exec/cpu/pack.h"
#include "exec/ref/import_run.h"

enum { ALIGNMENT = 64 };

struct cpu_import {
    struct thread_team *team;
    const struct kernels *kernels;
};

/* One step at work. */
struct job {
    const struct cpu_import *import;
    const struct import_step *step;
    uint32_t *range;  /* [positions], as kernel_mark_range */
    uint8_t *scratch; /* [threads][scratch_bytes] */
    size_t scratch_bytes;
    int small_steps;  /* gate: kernels->small_steps of its table */
    /* linear */
    struct packed_linear linear;
    struct pack_target target;
    int8_t *q;        /* [positions][stride] */
    size_t q_stride;
    /* attend: one (sequence, kv head) at a time */
    struct attend_shape shape;
    int8_t *k8, *v8;  /* [blocks][64 * padded] */
    int32_t *t_k;     /* [blocks][64] */
    int16_t *k_sum;
    uint8_t *k_v;
    uint64_t start, end, blocks;
    uint32_t kv_head;
};

/* Operations on each head by itself. */
static int run_heads(const struct job *job, uint64_t row, void *scratch)
{
    const struct import_step *step = job->step;
    const bulla_operation *o = step->operation;
    const struct kernels *kernels = job->import->kernels;
    const struct import_value *out = step->output;
    int bad = 0;
    for (uint32_t head = 0; head < o->heads; head++) {
        uint64_t scale = row * o->heads + head, element = scale * o->head_size;
        const int32_t *x = step->inputs[0]->vector + element;
        if (o->kind == BULLA_NORM)
            bad |= kernels->norm(x, step->tensors[BULLA_TENSOR_G], o->head_size, o->eps, o->k, out->vector + element);
        else if (o->kind == BULLA_VALUE_QUANT)
            bad |= kernels->value_quant(x, o->head_size, out->bytes + element, &out->head_scale[scale]);
        else {
            int32_t *s = &out->head_scale[scale];
            int is_out = kernels->head_quant(x, o->head_size, o->block, scratch, out->bytes + element, s);
            if (o->kind == BULLA_KEY_QUANT)
                *s = is_out ? 0 : (int32_t)(((int64_t)*s * o->C + (1 << 15)) >> 16);
            bad |= is_out;
        }
    }
    return bad;
}

static int run_row(const struct job *job, uint64_t row, void *scratch)
{
    const struct import_step *step = job->step;
    const bulla_operation *o = step->operation;
    const struct kernels *kernels = job->import->kernels;
    const struct import_value *a = step->inputs[0], *b = step->inputs[1], *out = step->output;
    uint64_t in = row * o->n, to = row * o->outputs;
    switch (o->kind) {
    case BULLA_NORM_QUANT:
        return kernels->norm_quant(a->vector + in, step->tensors[BULLA_TENSOR_E], o->n, o->block, o->c, o->eps, scratch,
                                   out->bytes + to, &out->scale[row]);
    case BULLA_QUANT:
        kernels->quant(a->vector + in, o->n, o->block, scratch, out->bytes + to, &out->scale[row]);
        return 0;
    case BULLA_ROPE:
        return kernels->rope(a->vector + in, o->heads, o->head_size, o->rotary, (o->flags & BULLA_OPERATION_HALF) != 0,
                             step->tensors[BULLA_TENSOR_TURN],
                             row - step->sequence_starts[import_step_sequence(step, row)], step->tables[3],
                             out->vector + to);
    case BULLA_GATE:
        return kernels->gate(a->vector + in, b ? b->vector + in : NULL, o->n, step->tensors[BULLA_TENSOR_A], o->F_g,
                             job->small_steps, o->k, out->vector + to);
    case BULLA_ADD:
        return kernels->add(a->vector + in, b->vector + in, o->n, out->vector + to);
    case BULLA_SOFTCAP:
        kernels->softcap(step->tensors[BULLA_TENSOR_A], a->vector + in, o->n, out->vector + to);
        return 0;
    case BULLA_EMBED:
        return reference_import_row(step, row, scratch);
    default:
        return run_heads(job, row, scratch);
    }
}

static void rows_work(void *context, unsigned thread)
{
    struct job *job = context;
    uint64_t begin, end;
    thread_share(job->step->positions, 1, thread, thread_team_size(job->import->team), &begin, &end);
    for (uint64_t row = begin; row < end; row++)
        if (run_row(job, row, job->scratch + thread * job->scratch_bytes))
            kernel_mark_range(&job->range[row], 0);
}

static int run_rows(struct job *job, bulla_error *error)
{
    job->scratch_bytes = kernel_round_up(reference_import_scratch(job->step), ALIGNMENT);
    job->scratch = memory_alloc_aligned(ALIGNMENT, job->scratch_bytes * thread_team_size(job->import->team), error);
    if (!job->scratch)
        return BULLA_E_MEMORY;
    if (job->step->operation->kind == BULLA_GATE)
        job->small_steps = job->import->kernels->small_steps(job->step->tensors[BULLA_TENSOR_A]);
    thread_team_run(job->import->team, rows_work, job);
    return BULLA_OK;
}

static void linear_work(void *context, unsigned thread)
{
    struct job *job = context;
    const struct import_step *step = job->step;
    struct thread_team *team = job->import->team;
    const bulla_operation *o = step->operation;
    uint64_t begin, end;
    thread_share(step->positions, 1, thread, thread_team_size(team), &begin, &end);
    for (uint64_t row = begin; row < end; row++)
        memcpy(job->q + row * job->q_stride, step->inputs[0]->bytes + row * o->n, o->n);
    thread_share(job->linear.blocks, 2, thread, thread_team_size(team), &begin, &end);
    pack_linear_blocks(&job->linear, &job->target, step->tensors[BULLA_TENSOR_W], step->tensors[BULLA_TENSOR_M],
                       step->tensors[BULLA_TENSOR_BIAS], (uint32_t)begin, (uint32_t)end);
    thread_team_barrier(team);
    if (thread == 0)
        pack_linear_finish(&job->linear);
    thread_team_barrier(team);
    /* A few thousand positions at a time: `rows` is 32 bits. */
    for (uint64_t first = 0; first < step->positions; first += 4096) {
        struct linear_call call = {
            .linear = &job->linear, .q = job->q + first * job->q_stride, .s = step->inputs[0]->scale + first,
            .y = step->output->vector + first * o->outputs, .range = job->range + first, .q_stride = job->q_stride,
            .y_stride = o->outputs,
            .rows = (uint32_t)(step->positions - first < 4096 ? step->positions - first : 4096)};
        job->import->kernels->linear(&call, (uint32_t)begin, (uint32_t)end,
                                     job->scratch + thread * job->scratch_bytes);
    }
}

static int run_linear(struct job *job, bulla_error *error)
{
    const bulla_operation *o = job->step->operation;
    struct packed_linear *linear = &job->linear;
    struct pack_target *target = &job->target;
    pack_linear_shape(linear, o->outputs, o->n, o->k1, o->k2);
    uint64_t rows = (uint64_t)linear->blocks * KERNEL_ROWS;
    job->q_stride = (size_t)linear->groups * 4;
    job->scratch_bytes = kernel_round_up(kernel_linear_scratch(linear->groups * 4), ALIGNMENT);
    job->scratch = memory_alloc_aligned(ALIGNMENT, job->scratch_bytes * thread_team_size(job->import->team), error);
    job->q = memory_alloc_aligned(ALIGNMENT, job->step->positions * job->q_stride, error);
    linear->weights = target->weights = memory_alloc_aligned(ALIGNMENT, pack_weight_bytes(linear), error);
    linear->offset = target->offset = memory_alloc(rows, sizeof *target->offset, error);
    linear->bias = target->bias = memory_alloc(rows, sizeof *target->bias, error);
    linear->M = target->M = memory_alloc(rows, sizeof *target->M, error);
    int code = job->scratch && job->q && target->weights && target->offset && target->bias && target->M ? BULLA_OK
                                                                                                        : BULLA_E_MEMORY;
    if (code == BULLA_OK)
        thread_team_run(job->import->team, linear_work, job);
    memory_free(target->weights);
    memory_free(target->offset);
    memory_free(target->bias);
    memory_free(target->M);
    memory_free(job->q);
    return code;
}

/* Scratch of a thread's attention tile. */
struct attend_scratch {
    int8_t *q8;                     /* [16][padded] */
    struct attend_partial *partial; /* [16][blocks] */
    int32_t *O;                     /* [16][blocks][padded] */
};

static size_t attend_scratch_bytes(const struct attend_shape *shape, uint64_t blocks)
{
    return kernel_round_up((size_t)KERNEL_ROWS * shape->padded +
                           KERNEL_ROWS * blocks * (sizeof(struct attend_partial) + shape->padded * sizeof(int32_t)),
                           ALIGNMENT);
}

/* Up to 16 successive queries of one head. */
static void attend_tile(const struct job *job, uint32_t head, uint64_t first, uint32_t rows, uint8_t *memory)
{
    const bulla_operation *o = job->step->operation;
    const struct import_value *queries = job->step->inputs[0];
    const struct attend_shape *shape = &job->shape;
    struct attend_scratch scratch = {.q8 = (int8_t *)memory};
    scratch.O = (void *)(memory + (size_t)KERNEL_ROWS * shape->padded);
    scratch.partial = (void *)(scratch.O + KERNEL_ROWS * job->blocks * shape->padded);
    int32_t s_q[KERNEL_ROWS];
    uint8_t begin[KERNEL_ROWS], end[KERNEL_ROWS];
    uint32_t *range[KERNEL_ROWS];
    for (uint32_t r = 0; r < rows; r++) {
        uint64_t scale = (job->start + first + r) * o->heads + head;
        memset(scratch.q8 + (size_t)r * shape->padded, 0, shape->padded);
        memcpy(scratch.q8 + (size_t)r * shape->padded, queries->bytes + scale * o->head_size, o->head_size);
        s_q[r] = queries->head_scale[scale];
        range[r] = &job->range[job->start + first + r];
    }
    uint64_t last_block = (first + rows - 1) / KERNEL_POSITIONS;
    uint64_t first_seen = o->window && first + 1 > o->window ? first + 1 - o->window : 0;
    uint64_t first_block = first_seen / KERNEL_POSITIONS;
    for (uint64_t b = first_block; b <= last_block; b++) {
        for (uint32_t r = 0; r < rows; r++) {
            uint64_t t = first + r, low = o->window && t + 1 > o->window ? t + 1 - o->window : 0;
            uint64_t from = b * KERNEL_POSITIONS, to = from + KERNEL_POSITIONS;
            begin[r] = (uint8_t)(low > from ? (low < to ? low - from : KERNEL_POSITIONS) : 0);
            end[r] = (uint8_t)(t + 1 < to ? (t + 1 > from ? t + 1 - from : 0) : KERNEL_POSITIONS);
        }
        struct key_block block = {job->k8 + b * KERNEL_POSITIONS * shape->padded,
                                  job->v8 + b * KERNEL_POSITIONS * shape->padded, job->t_k + b * KERNEL_POSITIONS,
                                  job->k_sum + b * KERNEL_POSITIONS, job->k_v + b * KERNEL_POSITIONS};
        struct attend_block_call call = {.shape = shape, .block = &block, .q8 = scratch.q8, .s_q = s_q,
            .begin = begin, .end = end, .partial = scratch.partial + (b - first_block),
            .O = scratch.O + (b - first_block) * shape->padded, .range = range,
            .q_stride = shape->padded, .partial_stride = job->blocks, .O_stride = job->blocks * shape->padded,
            .rows = rows};
        job->import->kernels->attend_block(&call);
    }
    for (uint32_t r = 0; r < rows; r++) {
        uint64_t row = job->start + first + r;
        struct attend_combine_call call = {.shape = shape, .partial = scratch.partial + r * job->blocks,
            .O = scratch.O + r * job->blocks * shape->padded, .blocks = last_block - first_block + 1,
            .o = job->step->output->vector + (row * o->heads + head) * o->head_size};
        if (job->import->kernels->attend_combine(&call))
            kernel_mark_range(&job->range[row], 0);
    }
}

static void attend_work(void *context, unsigned thread)
{
    struct job *job = context;
    const struct import_step *step = job->step;
    const bulla_operation *o = step->operation;
    struct thread_team *team = job->import->team;
    unsigned threads = thread_team_size(team);
    uint64_t positions = job->end - job->start, begin, end;
    uint32_t size = o->head_size;
    thread_share(positions, KERNEL_POSITIONS, thread, threads, &begin, &end);
    for (uint64_t p = begin; p < end; p++) {
        uint64_t head = (job->start + p) * o->kv_heads + job->kv_head, b = p / KERNEL_POSITIONS;
        uint64_t base = b * KERNEL_POSITIONS * job->shape.padded;
        uint32_t slot = (uint32_t)(p % KERNEL_POSITIONS);
        pack_key(job->k8 + base, job->k_sum + b * KERNEL_POSITIONS, slot, step->inputs[1]->bytes + head * size, size,
                 job->shape.padded);
        pack_value(job->v8 + base, slot, step->inputs[2]->bytes + head * size, size);
        job->t_k[p] = step->inputs[1]->head_scale[head];
        job->k_v[p] = (uint8_t)step->inputs[2]->head_scale[head];
    }
    thread_team_barrier(team);
    uint32_t group = o->heads / o->kv_heads;
    uint64_t tiles = (positions + KERNEL_ROWS - 1) / KERNEL_ROWS;
    /* Tiles go to threads in turn: later ones see more positions. */
    job->import->kernels->attend_begin();
    for (uint64_t item = thread; item < tiles * group; item += threads) {
        uint64_t first = item / group * KERNEL_ROWS;
        uint32_t rows = (uint32_t)(positions - first < KERNEL_ROWS ? positions - first : KERNEL_ROWS);
        attend_tile(job, job->kv_head * group + (uint32_t)(item % group), first, rows,
                    job->scratch + thread * job->scratch_bytes);
    }
    job->import->kernels->attend_end();
}

static int run_attend(struct job *job, bulla_error *error)
{
    const struct import_step *step = job->step;
    const bulla_operation *o = step->operation;
    uint64_t longest = 0;
    for (uint64_t i = 0; i < step->sequences; i++) {
        uint64_t length = step->sequence_starts[i + 1] - step->sequence_starts[i];
        longest = length > longest ? length : longest;
    }
    job->shape = (struct attend_shape){.size = o->head_size,
        .padded = (uint32_t)kernel_round_up(o->head_size, KERNEL_COLUMNS), .a2 = o->a2,
        .cap = step->tensors[BULLA_TENSOR_A], .exp15 = step->tables[0], .exp31 = step->tables[2]};
    job->blocks = (longest + KERNEL_POSITIONS - 1) / KERNEL_POSITIONS;
    job->scratch_bytes = attend_scratch_bytes(&job->shape, job->blocks);
    job->scratch = memory_alloc_aligned(ALIGNMENT, job->scratch_bytes * thread_team_size(job->import->team), error);
    uint64_t slots = job->blocks * KERNEL_POSITIONS;
    job->k8 = memory_alloc_aligned(ALIGNMENT, slots * job->shape.padded, error);
    job->v8 = memory_alloc_aligned(ALIGNMENT, slots * job->shape.padded, error);
    job->t_k = memory_alloc(slots, sizeof *job->t_k, error);
    job->k_sum = memory_alloc(slots, sizeof *job->k_sum, error);
    job->k_v = memory_alloc(slots, sizeof *job->k_v, error);
    int code = job->scratch && job->k8 && job->v8 && job->t_k && job->k_sum && job->k_v ? BULLA_OK : BULLA_E_MEMORY;
    for (uint64_t i = 0; i < step->sequences && code == BULLA_OK; i++)
        for (job->kv_head = 0; job->kv_head < o->kv_heads; job->kv_head++) {
            job->start = step->sequence_starts[i];
            job->end = step->sequence_starts[i + 1];
            if (job->end > job->start)
                thread_team_run(job->import->team, attend_work, job);
        }
    memory_free(job->k8);
    memory_free(job->v8);
    memory_free(job->t_k);
    memory_free(job->k_sum);
    memory_free(job->k_v);
    return code;
}

static int run(void *context, const struct import_step *step, bulla_error *error)
{
    if (step->positions == 0)
        return BULLA_OK;
    struct job job = {.import = context, .step = step};
    uint8_t *left = memory_alloc(step->positions, 1, error);
    job.range = memory_alloc(step->positions, sizeof *job.range, error);
    if (!left || !job.range) {
        memory_free(left);
        memory_free(job.range);
        return BULLA_E_MEMORY;
    }
    memset(job.range, 0xFF, step->positions * sizeof *job.range);
    int code;
    if (step->operation->kind == BULLA_LINEAR)
        code = run_linear(&job, error);
    else if (step->operation->kind == BULLA_ATTEND)
        code = run_attend(&job, error);
    else
        code = run_rows(&job, error);
    for (uint64_t row = 0; row < step->positions; row++)
        left[row] = job.range[row] != UINT32_MAX;
    if (code == BULLA_OK && step->range)
        memcpy(step->range, left, step->positions);
    else if (code == BULLA_OK)
        code = import_step_range(step, left, error);
    memory_free(job.scratch);
    memory_free(job.range);
    memory_free(left);
    return code;
}

int cpu_import_executor_open(unsigned threads, const char *isa, struct import_executor *executor, bulla_error *error)
{
    *executor = (struct import_executor){.run = run};
    struct cpu_import *import = memory_alloc(1, sizeof *import, error);
    if (!import)
        return BULLA_E_MEMORY;
    int code = isa_choose(isa, &import->kernels, error);
    if (code == BULLA_OK)
        code = thread_team_start(threads ? threads : thread_cores(), &import->team, error);
    if (code) {
        memory_free(import);
        return code;
    }
    executor->name = import->kernels->name;
    executor->context = import;
    executor->team = import->team;
    return BULLA_OK;
}

void cpu_import_executor_close(struct import_executor *executor)
{
    struct cpu_import *import = executor->context;
    if (import)
        thread_team_stop(import->team);
    memory_free(import);
    executor->context = NULL;
    executor->team = NULL;
}
