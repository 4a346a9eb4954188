/* Weights packed once at load, every linear operation in one mapping. */
#include <string.h>

#include "base/memory.h"
#include "exec/cpu/engine_internal.h"
#include "exec/cpu/pack.h"

struct packing {
    const bulla_program *program;
    struct thread_team *team;
    struct packed_linear *linear;
    struct pack_target target;
    const bulla_operation *operation;
};

static void pack_work(void *context, unsigned thread)
{
    struct packing *packing = context;
    const bulla_operation *o = packing->operation;
    const void *const *data = packing->program->data;
    int32_t bias = o->tensors[BULLA_TENSOR_BIAS];
    uint64_t begin, end;
    thread_share(packing->linear->blocks, 1, thread, thread_team_size(packing->team), &begin, &end);
    pack_linear_blocks(packing->linear, &packing->target, data[o->tensors[BULLA_TENSOR_W]],
                       data[o->tensors[BULLA_TENSOR_M]], bias >= 0 ? data[bias] : NULL, (uint32_t)begin, (uint32_t)end);
}

/* Weights, and a row's offset, bias and M. */
size_t weights_linear_bytes(const struct packed_linear *linear)
{
    size_t rows = (size_t)linear->blocks * KERNEL_ROWS;
    return (size_t)kernel_round_up(pack_weight_bytes(linear) + rows * 10, 64);
}

/* Bytes of an operation's arrays, and where they lie from `memory` on (NULL: only count). */
static size_t lay_out(struct packed_linear *linear, uint8_t *memory, struct pack_target *target)
{
    size_t rows = (size_t)linear->blocks * KERNEL_ROWS, weights = pack_weight_bytes(linear);
    if (memory) {
        target->weights = (int8_t *)memory;
        target->offset = (void *)(memory + weights);
        target->bias = (void *)(memory + weights + rows * 4);
        target->M = (void *)(memory + weights + rows * 8);
        linear->weights = target->weights;
        linear->offset = target->offset;
        linear->bias = target->bias;
        linear->M = target->M;
    }
    return weights_linear_bytes(linear);
}

int weights_pack(const bulla_program *program, const bulla_model *model, struct thread_team *team,
                 struct weights *weights, bulla_error *error)
{
    *weights = (struct weights){0};
    weights->linears = memory_alloc(program->operation_count, sizeof *weights->linears, error);
    if (!weights->linears)
        return BULLA_E_MEMORY;
    for (uint32_t i = 0; i < program->operation_count; i++) {
        const bulla_operation *o = &program->operations[i];
        if (o->kind != BULLA_LINEAR)
            continue;
        pack_linear_shape(&weights->linears[i], o->outputs, o->n, o->k1, o->k2);
        weights->bytes += lay_out(&weights->linears[i], NULL, NULL);
    }
    weights->memory = memory_map(weights->bytes, error);
    if (!weights->memory) {
        weights_free(weights);
        return BULLA_E_MEMORY;
    }
    struct packing packing = {.program = program, .team = team};
    size_t used = 0;
    for (uint32_t i = 0; i < program->operation_count; i++) {
        packing.operation = &program->operations[i];
        if (packing.operation->kind != BULLA_LINEAR)
            continue;
        packing.linear = &weights->linears[i];
        used += lay_out(packing.linear, weights->memory + used, &packing.target);
        thread_team_run(team, pack_work, &packing);
        pack_linear_finish(packing.linear);
        if (model)
            bulla_model_release(model, (uint32_t)packing.operation->tensors[BULLA_TENSOR_W]);
    }
    /* What else reading the file has brought into memory comes back as it is used. */
    for (uint32_t i = 0; model && i < program->tensor_count; i++)
        bulla_model_release(model, i);
    return BULLA_OK;
}

void weights_free(struct weights *weights)
{
    memory_free(weights->linears);
    memory_unmap(weights->memory, weights->bytes);
    *weights = (struct weights){0};
}
