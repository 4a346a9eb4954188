#include "exec/ref/run.h"

#include <string.h>

#include "base/arena.h"
#include "base/memory.h"
#include "exec/ref/operations.h"

/* The results of one key_quant or value_quant at all positions so far. */
struct cache {
    int8_t *q;       /* [positions][elements] */
    int32_t *scales; /* [positions][heads] */
};

/* All values of one position; the largest models supported need some 100 MB. */
enum { VALUES_LIMIT = 1 << 30 };

struct reference_run {
    const bulla_program *program;
    struct reference_tables tables;
    uint64_t first_sampled;
    uint64_t length;         /* positions computed */
    uint64_t capacity;       /* positions that `ids` and the caches have room for */
    uint32_t *ids;           /* [capacity] */
    uint64_t *lowest;        /* [operation_count] */
    struct cache *caches;    /* [operation_count], of key_quant and value_quant */
    struct reference_value *values; /* [operation_count], at `position`, operations below `done` */
    uint64_t position;
    uint32_t done;
    int32_t *scratch;        /* [largest n] */
    int has_range;
    uint64_t range_position;
    uint32_t range_operation;
    struct arena arena;
};

/* What one operation reads and writes. */
struct step {
    struct reference_run *run;
    const bulla_operation *operation;
    const struct reference_value *inputs[3];
    struct reference_value *result;
    uint64_t position;
};

static const void *tensor_of(const struct step *step, int role)
{
    int32_t tensor = step->operation->tensors[role];
    return tensor < 0 ? NULL : step->run->program->data[tensor];
}

static int run_embed(const struct step *step)
{
    const bulla_operation *o = step->operation;
    uint32_t id = step->run->ids[step->position];
    const int8_t *E8 = tensor_of(step, BULLA_TENSOR_E8);
    const uint16_t *ME = tensor_of(step, BULLA_TENSOR_ME);
    reference_embed(E8 + (uint64_t)id * o->outputs, ME[id], o->ke, o->outputs, step->result->x);
    return 0;
}

static int run_norm_quant(const struct step *step)
{
    const bulla_operation *o = step->operation;
    return reference_norm_quant(step->inputs[0]->x, tensor_of(step, BULLA_TENSOR_E), o->n, o->block, o->c, o->eps,
                                step->run->scratch, step->result->q, &step->result->s);
}

static int run_quant(const struct step *step)
{
    const bulla_operation *o = step->operation;
    reference_quant(step->inputs[0]->x, o->n, o->block, step->run->scratch, step->result->q, &step->result->s);
    return 0;
}

static int run_linear(const struct step *step)
{
    const bulla_operation *o = step->operation;
    return reference_linear(step->inputs[0]->q, step->inputs[0]->s, tensor_of(step, BULLA_TENSOR_W),
                            tensor_of(step, BULLA_TENSOR_M), tensor_of(step, BULLA_TENSOR_BIAS), o->outputs, o->n,
                            o->k1, o->k2, step->result->x);
}

static int run_norm(const struct step *step)
{
    const bulla_operation *o = step->operation;
    int range = 0;
    for (uint64_t head = 0, at = 0; head < o->heads; head++, at += o->head_size)
        range |= reference_norm(step->inputs[0]->x + at, tensor_of(step, BULLA_TENSOR_G), o->head_size, o->eps, o->k,
                                step->result->x + at);
    return range;
}

static int run_rope(const struct step *step)
{
    const bulla_operation *o = step->operation;
    int range = 0;
    for (uint64_t head = 0, at = 0; head < o->heads; head++, at += o->head_size)
        range |= reference_rope(step->inputs[0]->x + at, o->head_size, o->rotary, (o->flags & BULLA_OPERATION_HALF) != 0,
                                tensor_of(step, BULLA_TENSOR_TURN), step->position, step->run->tables.cosine,
                                step->result->x + at);
    return range;
}

static int run_head_quant(const struct step *step)
{
    const bulla_operation *o = step->operation;
    int range = 0;
    for (uint64_t head = 0, at = 0; head < o->heads; head++, at += o->head_size)
        range |= reference_head_quant(step->inputs[0]->x + at, o->head_size, o->block, step->run->scratch,
                                      step->result->q + at, &step->result->scales[head]);
    return range;
}

static int run_key_quant(const struct step *step)
{
    const bulla_operation *o = step->operation;
    int range = 0;
    for (uint64_t head = 0, at = 0; head < o->heads; head++, at += o->head_size)
        range |= reference_key_quant(step->inputs[0]->x + at, o->head_size, o->block, o->C, step->run->scratch,
                                     step->result->q + at, &step->result->scales[head]);
    return range;
}

static int run_value_quant(const struct step *step)
{
    const bulla_operation *o = step->operation;
    int range = 0;
    for (uint64_t head = 0, at = 0; head < o->heads; head++, at += o->head_size)
        range |= reference_value_quant(step->inputs[0]->x + at, o->head_size, step->result->q + at,
                                       &step->result->scales[head]);
    return range;
}

/* One kv head of the cache. */
struct key_source {
    const struct cache *keys, *values;
    uint32_t kv_heads, head_size, kv_head;
};

static struct reference_key key_at(void *context, uint64_t position)
{
    const struct key_source *source = context;
    uint64_t head = position * source->kv_heads + source->kv_head;
    return (struct reference_key){.k8 = source->keys->q + head * source->head_size,
                                  .v8 = source->values->q + head * source->head_size,
                                  .t_k = source->keys->scales[head],
                                  .k_v = source->values->scales[head]};
}

static int run_attend(const struct step *step)
{
    const bulla_operation *o = step->operation;
    const struct reference_value *queries = step->inputs[0];
    struct key_source source = {.keys = &step->run->caches[o->inputs[1]], .values = &step->run->caches[o->inputs[2]],
                                .kv_heads = o->kv_heads, .head_size = o->head_size};
    int range = 0;
    for (uint64_t head = 0, at = 0; head < o->heads; head++, at += o->head_size) {
        source.kv_head = (uint32_t)(head * o->kv_heads / o->heads);
        range |= reference_attend(queries->q + at, queries->scales[head], o->head_size, step->position, o->window,
                                  o->a2, tensor_of(step, BULLA_TENSOR_A), &step->run->tables, key_at, &source,
                                  step->result->x + at);
    }
    return range;
}

static int run_gate(const struct step *step)
{
    const bulla_operation *o = step->operation;
    const int32_t *u = o->flags & BULLA_OPERATION_GATED ? step->inputs[1]->x : NULL;
    return reference_gate(step->inputs[0]->x, u, o->n, tensor_of(step, BULLA_TENSOR_A), o->F_g, o->k, step->result->x);
}

static int run_add(const struct step *step)
{
    return reference_add(step->inputs[0]->x, step->inputs[1]->x, step->operation->n, step->result->x);
}

static int run_softcap(const struct step *step)
{
    for (uint32_t i = 0; i < step->operation->n; i++)
        step->result->x[i] = reference_softcap(tensor_of(step, BULLA_TENSOR_A), step->inputs[0]->x[i]);
    return 0;
}

/* By kind; each returns 1 on RANGE. */
static int (*const run_kind[BULLA_OPERATION_KINDS])(const struct step *step) = {
    [BULLA_EMBED] = run_embed,           [BULLA_NORM_QUANT] = run_norm_quant,   [BULLA_QUANT] = run_quant,
    [BULLA_LINEAR] = run_linear,         [BULLA_NORM] = run_norm,               [BULLA_ROPE] = run_rope,
    [BULLA_HEAD_QUANT] = run_head_quant, [BULLA_KEY_QUANT] = run_key_quant,     [BULLA_VALUE_QUANT] = run_value_quant,
    [BULLA_ATTEND] = run_attend,         [BULLA_GATE] = run_gate,               [BULLA_ADD] = run_add,
    [BULLA_SOFTCAP] = run_softcap,
};

/* Keys and values stay. Computed again they are the same bytes. */
static void keep_in_cache(struct reference_run *run, uint32_t operation)
{
    const struct reference_value *value = &run->values[operation];
    struct cache *cache = &run->caches[operation];
    memcpy(cache->q + run->position * value->elements, value->q, value->elements);
    memcpy(cache->scales + run->position * value->heads, value->scales, value->heads * sizeof *value->scales);
}

/* Evaluates operations `done` to `end` - 1 at run->position. */
static void run_operations(struct reference_run *run, uint32_t end)
{
    for (; run->done < end; run->done++) {
        if (run->position < run->lowest[run->done])
            continue;
        const bulla_operation *o = &run->program->operations[run->done];
        struct step step = {.run = run, .operation = o, .result = &run->values[run->done], .position = run->position};
        for (int i = 0; i < 3; i++)
            step.inputs[i] = o->inputs[i] < 0 ? NULL : &run->values[o->inputs[i]];
        if (run_kind[o->kind](&step)) {
            run->has_range = 1;
            run->range_position = run->position;
            run->range_operation = run->done;
            return;
        }
        if (run->caches[run->done].q)
            keep_in_cache(run, run->done);
    }
}

void reference_lowest(const bulla_program *program, uint64_t first_sampled, uint64_t *lowest)
{
    for (uint32_t i = 0; i < program->operation_count; i++)
        lowest[i] = UINT64_MAX;
    lowest[program->operation_count - 1] = first_sampled;
    for (uint32_t i = program->operation_count; i-- > 0;) { /* from the last operation back */
        const bulla_operation *o = &program->operations[i];
        uint64_t own = lowest[i];
        if (own == UINT64_MAX)
            continue;
        uint64_t seen = o->window && own >= o->window ? own - o->window + 1 : 0;
        for (int j = 0; j < 3; j++) {
            uint64_t needed = o->kind == BULLA_ATTEND && j > 0 ? seen : own;
            if (o->inputs[j] >= 0 && needed < lowest[o->inputs[j]])
                lowest[o->inputs[j]] = needed;
        }
    }
}

static void make_value(struct reference_run *run, uint32_t index, bulla_error *error)
{
    const bulla_operation *o = &run->program->operations[index];
    struct reference_value *value = &run->values[index];
    value->type = program_kind(o->kind)->result;
    value->elements = o->outputs;
    if (value->type == VALUE_VECTOR) {
        value->x = arena_alloc(&run->arena, o->outputs, sizeof *value->x, error);
        return;
    }
    value->q = arena_alloc(&run->arena, o->outputs, sizeof *value->q, error);
    if (value->type != VALUE_QUANTISED) {
        value->heads = o->heads;
        value->scales = arena_alloc(&run->arena, o->heads, sizeof *value->scales, error);
    }
}

/* Everything that comes from the arena; afterwards `error` says whether it did. */
static void make_values(struct reference_run *run, bulla_error *error)
{
    uint32_t count = run->program->operation_count, largest = 1;
    run->lowest = arena_alloc(&run->arena, count, sizeof *run->lowest, error);
    run->caches = arena_alloc(&run->arena, count, sizeof *run->caches, error);
    run->values = arena_alloc(&run->arena, count, sizeof *run->values, error);
    for (uint32_t i = 0; i < count && error->code == BULLA_OK; i++) {
        largest = run->program->operations[i].n > largest ? run->program->operations[i].n : largest;
        make_value(run, i, error);
    }
    run->scratch = arena_alloc(&run->arena, largest, sizeof *run->scratch, error);
}

int reference_run_open(const bulla_program *program, uint64_t first_sampled, struct reference_run **result,
                       bulla_error *error)
{
    *result = NULL;
    if (first_sampled >= program->context)
        return bulla_fail(error, BULLA_E_LIMIT, "first sampled position: found %llu, expected one below the context of %u",
                          (unsigned long long)first_sampled, program->context);
    bulla_error own = {0};
    struct reference_run *run = memory_alloc(1, sizeof *run, &own);
    if (!run)
        return bulla_fail(error, own.code, "%s", own.text);
    run->program = program;
    run->first_sampled = first_sampled;
    run->arena.limit = VALUES_LIMIT;
    memcpy(run->tables.exp15, program->data[0], sizeof run->tables.exp15);
    memcpy(run->tables.exp24, program->data[1], sizeof run->tables.exp24);
    memcpy(run->tables.exp31, program->data[2], sizeof run->tables.exp31);
    memcpy(run->tables.cosine, program->data[3], sizeof run->tables.cosine);
    make_values(run, &own);
    if (own.code != BULLA_OK) {
        reference_run_close(run);
        return bulla_fail(error, own.code, "a reference run of this program: %s", own.text);
    }
    reference_lowest(run->program, run->first_sampled, run->lowest);
    *result = run;
    return BULLA_OK;
}

void reference_run_close(struct reference_run *run)
{
    if (!run)
        return;
    for (uint32_t i = 0; run->caches && i < run->program->operation_count; i++) {
        memory_free(run->caches[i].q);
        memory_free(run->caches[i].scales);
    }
    memory_free(run->ids);
    arena_free(&run->arena);
    memory_free(run);
}

/* Room for `positions` in one cache; what it had stays valid when memory is short. */
static int grow_cache(struct cache *cache, const struct reference_value *value, uint64_t positions, bulla_error *error)
{
    int8_t *q = memory_resize(cache->q, positions, value->elements, error);
    if (!q)
        return BULLA_E_MEMORY;
    cache->q = q;
    int32_t *scales = memory_resize(cache->scales, positions, value->heads * sizeof *scales, error);
    if (!scales)
        return BULLA_E_MEMORY;
    cache->scales = scales;
    return BULLA_OK;
}

static int make_room(struct reference_run *run, uint64_t positions, bulla_error *error)
{
    if (positions <= run->capacity)
        return BULLA_OK;
    positions = positions < 2 * run->capacity ? 2 * run->capacity : positions;
    positions = positions < run->program->context ? positions : run->program->context;
    uint32_t *ids = memory_resize(run->ids, positions, sizeof *ids, error);
    if (!ids)
        return BULLA_E_MEMORY;
    run->ids = ids;
    for (uint32_t i = 0; i < run->program->operation_count; i++) {
        enum program_value type = run->values[i].type;
        if ((type == VALUE_KEYS || type == VALUE_VALUES) &&
            grow_cache(&run->caches[i], &run->values[i], positions, error) != BULLA_OK)
            return BULLA_E_MEMORY;
    }
    run->capacity = positions;
    return BULLA_OK;
}

static int report_range(const struct reference_run *run, bulla_error *error)
{
    return bulla_fail(error, BULLA_E_RANGE, "position %llu, operation %u (%s): a value leaves its bound (RANGE)",
                      (unsigned long long)run->range_position, run->range_operation,
                      bulla_operation_kind_name(run->program->operations[run->range_operation].kind));
}

int reference_run_append(struct reference_run *run, const uint32_t *ids, size_t count, int32_t *logits,
                         bulla_error *error)
{
    const bulla_program *program = run->program;
    if (run->has_range)
        return report_range(run, error);
    if (count > program->context - run->length)
        return bulla_fail(error, BULLA_E_LIMIT, "%llu positions and %zu more are beyond the context of %u",
                          (unsigned long long)run->length, count, program->context);
    for (size_t i = 0; i < count; i++)
        if (ids[i] >= program->vocabulary)
            return bulla_fail(error, BULLA_E_USAGE, "token %zu: found id %u, expected one below the vocabulary of %u", i,
                              ids[i], program->vocabulary);
    int code = make_room(run, run->length + count, error);
    if (code)
        return code;
    for (size_t i = 0; i < count; i++) {
        run->ids[run->length] = ids[i];
        run->position = run->length;
        run->done = 0;
        run_operations(run, program->operation_count);
        if (run->has_range)
            return report_range(run, error);
        run->length++;
        if (logits && run->position >= run->first_sampled) {
            memcpy(logits, run->values[program->operation_count - 1].x, program->vocabulary * sizeof *logits);
            logits += program->vocabulary;
        }
    }
    return BULLA_OK;
}

uint64_t reference_run_length(const struct reference_run *run)
{
    return run->length;
}

int reference_run_range(const struct reference_run *run, uint64_t *position, uint32_t *operation)
{
    *position = run->range_position;
    *operation = run->range_operation;
    return run->has_range;
}

uint64_t reference_run_lowest(const struct reference_run *run, uint32_t operation)
{
    return operation < run->program->operation_count ? run->lowest[operation] : UINT64_MAX;
}

int reference_run_value(struct reference_run *run, uint32_t operation, uint64_t position,
                        const struct reference_value **value, bulla_error *error)
{
    *value = NULL;
    if (operation >= run->program->operation_count || position < run->lowest[operation])
        return bulla_fail(error, BULLA_E_USAGE, "operation %u is not evaluated at position %llu", operation,
                          (unsigned long long)position);
    if (run->has_range && position == run->range_position && operation >= run->range_operation)
        return report_range(run, error);
    if (position >= run->length && !(run->has_range && position == run->range_position))
        return bulla_fail(error, BULLA_E_USAGE, "position %llu is not computed yet: there are %llu",
                          (unsigned long long)position, (unsigned long long)run->length);
    if (position != run->position) {
        run->position = position;
        run->done = 0;
    }
    run_operations(run, operation + 1);
    *value = &run->values[operation];
    return BULLA_OK;
}
