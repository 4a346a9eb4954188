/* Weights packed once at load, every linear operation in one mapping. */
#include <string.h>

#include "base/memory.h"
#include "exec/cpu/engine_internal.h"
#include "exec/cpu/pack.h"

/* Row blocks [begin, end) of an operation: what a thread packs at a time. */
struct piece {
    uint32_t operation, begin, end;
};
enum { PIECE_BYTES = 1 << 20 };
/* Of the file, after which its pages go: reading it all is not to take the memory that the packed weights take. */
enum { RELEASE_BYTES = 16 << 20 };

struct packing {
    const bulla_program *program;
    const bulla_model *model;
    struct weights *weights;
    struct pack_target *targets; /* [operation_count] */
    struct piece *pieces;
    uint64_t count, done_bytes;
};

static void pack_piece(void *context, uint64_t number)
{
    struct packing *packing = context;
    const struct piece *piece = &packing->pieces[number];
    const bulla_operation *o = &packing->program->operations[piece->operation];
    const void *const *data = packing->program->data;
    int32_t bias = o->tensors[BULLA_TENSOR_BIAS];
    pack_linear_blocks(&packing->weights->linears[piece->operation], &packing->targets[piece->operation],
                       data[o->tensors[BULLA_TENSOR_W]], data[o->tensors[BULLA_TENSOR_M]], bias >= 0 ? data[bias] : NULL,
                       piece->begin, piece->end);
    uint64_t bytes = (uint64_t)(piece->end - piece->begin) * KERNEL_ROWS * o->n;
    uint64_t before = __atomic_fetch_add(&packing->done_bytes, bytes, __ATOMIC_RELAXED);
    if (packing->model && before / RELEASE_BYTES != (before + bytes) / RELEASE_BYTES)
        bulla_model_release(packing->model);
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

static uint32_t blocks_a_piece(const struct packed_linear *linear)
{
    uint64_t blocks = PIECE_BYTES / ((uint64_t)linear->groups * 64);
    return blocks ? (uint32_t)blocks : 1;
}

/* Shapes, places and pieces of all linear operations. */
static int plan_packing(struct packing *packing, bulla_error *error)
{
    struct weights *weights = packing->weights;
    const bulla_program *program = packing->program;
    weights->linears = memory_alloc(program->operation_count, sizeof *weights->linears, error);
    packing->targets = memory_alloc(program->operation_count, sizeof *packing->targets, error);
    if (!weights->linears || !packing->targets)
        return BULLA_E_MEMORY;
    for (uint32_t i = 0; i < program->operation_count; i++) {
        const bulla_operation *o = &program->operations[i];
        if (o->kind != BULLA_LINEAR)
            continue;
        struct packed_linear *linear = &weights->linears[i];
        pack_linear_shape(linear, o->outputs, o->n, o->k1, o->k2);
        weights->bytes += lay_out(linear, NULL, NULL);
        packing->count += (linear->blocks + blocks_a_piece(linear) - 1) / blocks_a_piece(linear);
    }
    weights->memory = memory_map(weights->bytes, error);
    packing->pieces = memory_alloc(packing->count, sizeof *packing->pieces, error);
    if (!weights->memory || !packing->pieces)
        return BULLA_E_MEMORY;
    size_t used = 0;
    uint64_t count = 0;
    for (uint32_t i = 0; i < program->operation_count; i++) {
        struct packed_linear *linear = &weights->linears[i];
        if (program->operations[i].kind != BULLA_LINEAR)
            continue;
        used += lay_out(linear, weights->memory + used, &packing->targets[i]);
        for (uint32_t begin = 0; begin < linear->blocks;) {
            uint32_t left = linear->blocks - begin, blocks = blocks_a_piece(linear);
            blocks = blocks < left ? blocks : left;
            packing->pieces[count++] = (struct piece){i, begin, begin + blocks};
            begin += blocks;
        }
    }
    return BULLA_OK;
}

int weights_pack(const bulla_program *program, const bulla_model *model, struct thread_team *team,
                 struct weights *weights, bulla_error *error)
{
    *weights = (struct weights){0};
    struct packing packing = {.program = program, .model = model, .weights = weights};
    int code = plan_packing(&packing, error);
    if (code == BULLA_OK) {
        thread_team_each(team, packing.count, pack_piece, &packing);
        for (uint32_t i = 0; i < program->operation_count; i++)
            if (program->operations[i].kind == BULLA_LINEAR)
                pack_linear_finish(&weights->linears[i]);
        if (model) /* what else reading the file has brought into memory comes back as it is used */
            bulla_model_release(model);
    } else
        weights_free(weights);
    memory_free(packing.pieces);
    memory_free(packing.targets);
    return code;
}

void weights_free(struct weights *weights)
{
    memory_free(weights->linears);
    memory_unmap(weights->memory, weights->bytes);
    *weights = (struct weights){0};
}
