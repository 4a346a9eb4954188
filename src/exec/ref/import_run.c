#include "exec/ref/import_run.h"

#include <string.h>

#include "base/memory.h"
#include "exec/ref/operations.h"

uint64_t import_step_sequence(const struct import_step *step, uint64_t row)
{
    uint64_t low = 0, high = step->sequences;
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        if (step->sequence_starts[middle] <= row)
            low = middle;
        else
            high = middle;
    }
    return low;
}

int import_step_range(const struct import_step *step, const uint8_t *range, bulla_error *error)
{
    for (uint64_t row = 0; row < step->positions; row++) {
        if (!range[row])
            continue;
        uint64_t sequence = import_step_sequence(step, row);
        return bulla_fail(error, BULLA_E_RANGE, "%s of layer %d leaves its bound at position %llu of sequence %llu",
                          bulla_operation_kind_name(step->operation->kind),
                          step->operation->layer == BULLA_NO_LAYER ? -1 : step->operation->layer,
                          (unsigned long long)(row - step->sequence_starts[sequence]), (unsigned long long)sequence);
    }
    return BULLA_OK;
}

size_t reference_import_scratch(const struct import_step *step)
{
    const bulla_operation *o = step->operation;
    return o->kind == BULLA_ATTEND ? sizeof(struct reference_tables) : ((size_t)o->n + 2) * sizeof(int32_t);
}

static int run_linear(const struct import_step *step, uint64_t row)
{
    const bulla_operation *o = step->operation;
    const struct import_value *in = step->inputs[0];
    return reference_linear(in->bytes + row * o->n, in->scale[row], step->tensors[BULLA_TENSOR_W],
                            step->tensors[BULLA_TENSOR_M], step->tensors[BULLA_TENSOR_BIAS], o->outputs, o->n, o->k1,
                            o->k2, step->output->vector + row * o->outputs);
}

/* Operations that work on each head by itself. */
static int run_head(const struct import_step *step, uint64_t row, uint32_t head, uint64_t position, int32_t *h)
{
    const bulla_operation *o = step->operation;
    uint64_t element = row * o->n + (uint64_t)head * o->head_size, scale = row * o->heads + head;
    const int32_t *x = step->inputs[0]->vector + element;
    struct import_value *out = step->output;
    switch (o->kind) {
    case BULLA_NORM:
        return reference_norm(x, step->tensors[BULLA_TENSOR_G], o->head_size, o->eps, o->k, out->vector + element);
    case BULLA_ROPE:
        return reference_rope(x, o->head_size, o->rotary, (o->flags & BULLA_OPERATION_HALF) != 0,
                              step->tensors[BULLA_TENSOR_TURN], position, step->tables[3], out->vector + element);
    case BULLA_HEAD_QUANT:
        return reference_head_quant(x, o->head_size, o->block, h, out->bytes + element, &out->head_scale[scale]);
    case BULLA_KEY_QUANT:
        return reference_key_quant(x, o->head_size, o->block, o->C, h, out->bytes + element, &out->head_scale[scale]);
    default:
        return reference_value_quant(x, o->head_size, out->bytes + element, &out->head_scale[scale]);
    }
}

struct key_source {
    const struct import_step *step;
    uint64_t start; /* row of the sequence's position 0 */
    uint32_t head, heads;
};

static struct reference_key key_at(void *context, uint64_t position)
{
    const struct key_source *source = context;
    const struct import_value *keys = source->step->inputs[1], *values = source->step->inputs[2];
    uint64_t head = (source->start + position) * source->heads + source->head;
    uint32_t size = source->step->operation->head_size;
    return (struct reference_key){keys->bytes + head * size, values->bytes + head * size, keys->head_scale[head],
                                  values->head_scale[head]};
}

static int run_attend(const struct import_step *step, uint64_t row, const struct reference_tables *tables)
{
    const bulla_operation *o = step->operation;
    uint64_t start = step->sequence_starts[import_step_sequence(step, row)];
    int bad = 0;
    for (uint32_t head = 0; head < o->heads; head++) {
        uint64_t scale = row * o->heads + head;
        struct key_source source = {step, start, (uint32_t)((uint64_t)head * o->kv_heads / o->heads), o->kv_heads};
        bad |= reference_attend(step->inputs[0]->bytes + scale * o->head_size, step->inputs[0]->head_scale[scale],
                                o->head_size, row - start, o->window, o->a2, step->tensors[BULLA_TENSOR_A], tables,
                                key_at, &source, step->output->vector + scale * o->head_size);
    }
    return bad;
}

static void copy_tables(const struct import_step *step, struct reference_tables *tables)
{
    memcpy(tables->exp15, step->tables[0], sizeof tables->exp15);
    memcpy(tables->exp24, step->tables[1], sizeof tables->exp24);
    memcpy(tables->exp31, step->tables[2], sizeof tables->exp31);
    memcpy(tables->cosine, step->tables[3], sizeof tables->cosine);
}

int reference_import_row(const struct import_step *step, uint64_t row, void *scratch)
{
    const bulla_operation *o = step->operation;
    const struct import_value *a = step->inputs[0], *b = step->inputs[1];
    struct import_value *out = step->output;
    uint64_t in_row = row * o->n, out_row = row * o->outputs, position = 0;
    int bad = 0;
    switch (o->kind) {
    case BULLA_EMBED: {
        uint32_t id = step->ids[row];
        reference_embed((const int8_t *)step->tensors[BULLA_TENSOR_E8] + (uint64_t)id * o->outputs,
                        ((const uint16_t *)step->tensors[BULLA_TENSOR_ME])[id], o->ke, o->outputs,
                        out->vector + out_row);
        return 0;
    }
    case BULLA_NORM_QUANT:
        return reference_norm_quant(a->vector + in_row, step->tensors[BULLA_TENSOR_E], o->n, o->block, o->c, o->eps,
                                    scratch, out->bytes + out_row, &out->scale[row]);
    case BULLA_QUANT:
        reference_quant(a->vector + in_row, o->n, o->block, scratch, out->bytes + out_row, &out->scale[row]);
        return 0;
    case BULLA_LINEAR:
        return run_linear(step, row);
    case BULLA_ATTEND:
        copy_tables(step, scratch);
        return run_attend(step, row, scratch);
    case BULLA_GATE:
        return reference_gate(a->vector + in_row, b ? b->vector + in_row : NULL, o->n, step->tensors[BULLA_TENSOR_A],
                              o->F_g, o->k, out->vector + out_row);
    case BULLA_ADD:
        return reference_add(a->vector + in_row, b->vector + in_row, o->n, out->vector + out_row);
    case BULLA_SOFTCAP:
        for (uint32_t i = 0; i < o->n; i++)
            out->vector[out_row + i] = reference_softcap(step->tensors[BULLA_TENSOR_A], a->vector[in_row + i]);
        return 0;
    default:
        if (o->kind == BULLA_ROPE)
            position = row - step->sequence_starts[import_step_sequence(step, row)];
        for (uint32_t head = 0; head < o->heads; head++)
            bad |= run_head(step, row, head, position, scratch);
        return bad;
    }
}

static int run(void *context, const struct import_step *step, bulla_error *error)
{
    uint8_t *range = memory_alloc(step->positions, 1, error);
    void *scratch = memory_alloc(1, reference_import_scratch(step), error);
    int code = range && scratch ? BULLA_OK : BULLA_E_MEMORY;
    for (uint64_t row = 0; row < step->positions && code == BULLA_OK; row++)
        range[row] = (uint8_t)reference_import_row(step, row, scratch);
    if (code == BULLA_OK && step->range)
        memcpy(step->range, range, step->positions);
    else if (code == BULLA_OK)
        code = import_step_range(step, range, error);
    memory_free(range);
    memory_free(scratch);
    return code;
}

int reference_import_executor_open(struct import_executor *executor, bulla_error *error)
{
    *executor = (struct import_executor){.name = "ref", .run = run};
    return BULLA_OK;
}

void reference_import_executor_close(struct import_executor *executor)
{
    executor->run = NULL;
}
