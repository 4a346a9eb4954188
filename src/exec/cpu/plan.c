#include "exec/cpu/plan.h"

#include <string.h>

#include "base/memory.h"

enum { ALIGNMENT = 64 };

static int is_row_operation(const bulla_operation *o)
{
    return o->kind != BULLA_LINEAR && o->kind != BULLA_ATTEND;
}

/* --- stages --- */

struct scheduling {
    struct plan *plan;
    uint8_t *done;      /* [operation_count] */
    uint32_t *uses;     /* [operation_count]: how many inputs name it */
    uint32_t placed;
};

static int is_ready(const struct scheduling *s, uint32_t index)
{
    const bulla_operation *o = &s->plan->program->operations[index];
    if (s->done[index])
        return 0;
    for (int i = 0; i < 3; i++)
        if (o->inputs[i] >= 0 && !s->done[o->inputs[i]])
            return 0;
    return 1;
}

static void place_operation(struct scheduling *s, uint32_t index)
{
    s->plan->order[s->placed++] = index;
    s->done[index] = 1;
    s->plan->stages[s->plan->stage_count].count++;
}

static void begin_stage(struct scheduling *s, enum stage_kind kind)
{
    s->plan->stages[s->plan->stage_count] = (struct stage){.kind = kind, .first = s->placed};
}

/* All row operations that are ready, and those that they make ready. */
static int schedule_rows(struct scheduling *s)
{
    const bulla_program *program = s->plan->program;
    begin_stage(s, STAGE_ROWS);
    for (uint32_t i = 0; i < program->operation_count; i++)
        if (is_row_operation(&program->operations[i]) && is_ready(s, i))
            place_operation(s, i);
    return s->plan->stages[s->plan->stage_count].count > 0;
}

/* Whether an input is a linear operation of the stage being made that nothing else reads. */
static int is_fusible_input(const struct scheduling *s, int32_t input)
{
    const struct stage *stage = &s->plan->stages[s->plan->stage_count];
    for (uint32_t i = 0; i < stage->count; i++)
        if ((int32_t)s->plan->order[stage->first + i] == input)
            return s->uses[input] == 1;
    return 0;
}

static int is_of_stage(const struct scheduling *s, int32_t operation)
{
    for (uint32_t i = s->plan->stages[s->plan->stage_count].first; i < s->placed; i++)
        if ((int32_t)s->plan->order[i] == operation)
            return 1;
    return 0;
}

/* gate of two of the stage's linear operations (of one: ungated), or add of one of them to what was there before. */
static int is_fusible(const struct scheduling *s, const bulla_operation *o)
{
    int first = is_fusible_input(s, o->inputs[0]), second = is_fusible_input(s, o->inputs[1]);
    if (o->kind == BULLA_GATE)
        return first && (second || o->inputs[1] < 0);
    return o->kind == BULLA_ADD && first != second && !is_of_stage(s, o->inputs[first ? 1 : 0]);
}

static void fuse(struct scheduling *s)
{
    const bulla_program *program = s->plan->program;
    struct stage *stage = &s->plan->stages[s->plan->stage_count];
    for (uint32_t i = 0; i + 1 < program->operation_count; i++) {
        const bulla_operation *o = &program->operations[i];
        if (!is_row_operation(o) || !is_ready(s, i) || !is_fusible(s, o))
            continue;
        for (int j = 0; j < 2; j++)
            if (o->inputs[j] >= 0 && is_fusible_input(s, o->inputs[j]))
                s->plan->fused_into[o->inputs[j]] = (int32_t)i;
        s->plan->order[s->placed++] = i;
        s->done[i] = 1;
        stage->fused++;
    }
}

/* The first ready linear operation with all that share its input. */
static int schedule_linear(struct scheduling *s)
{
    const bulla_program *program = s->plan->program;
    int32_t input = -1;
    begin_stage(s, STAGE_LINEAR);
    for (uint32_t i = 0; i < program->operation_count; i++) {
        const bulla_operation *o = &program->operations[i];
        if (o->kind != BULLA_LINEAR || !is_ready(s, i) || (input >= 0 && o->inputs[0] != input))
            continue;
        input = o->inputs[0];
        place_operation(s, i);
    }
    if (input >= 0)
        fuse(s);
    return input >= 0;
}

static int schedule_attend(struct scheduling *s)
{
    begin_stage(s, STAGE_ATTEND);
    for (uint32_t i = 0; i < s->plan->program->operation_count; i++)
        if (is_ready(s, i)) {
            place_operation(s, i);
            return 1;
        }
    return 0;
}

static int is_by_heads(const struct plan *plan, const struct stage *stage)
{
    const bulla_operation *all = plan->program->operations;
    for (uint32_t i = 0; i < stage->count; i++) {
        const bulla_operation *o = &all[plan->order[stage->first + i]];
        if (o->kind != BULLA_ROPE && o->kind != BULLA_NORM && o->kind != BULLA_HEAD_QUANT && o->kind != BULLA_KEY_QUANT &&
            o->kind != BULLA_VALUE_QUANT)
            return 0;
        for (uint32_t j = 0; j < i; j++)
            if (o->inputs[0] == (int32_t)plan->order[stage->first + j] &&
                (all[o->inputs[0]].heads != o->heads || o->kind == BULLA_VALUE_QUANT))
                return 0;
    }
    return 1;
}

static void describe_stages(struct plan *plan)
{
    const bulla_operation *all = plan->program->operations;
    for (uint32_t s = 0; s < plan->stage_count; s++) {
        struct stage *stage = &plan->stages[s];
        if (stage->kind != STAGE_ROWS)
            continue;
        uint32_t index = plan->order[stage->first], uses = 0, uses_next = 0;
        stage->by_heads = (uint8_t)is_by_heads(plan, stage);
        if (stage->count != 1 || s + 1 == plan->stage_count || plan->stages[s + 1].kind != STAGE_LINEAR ||
            (all[index].kind != BULLA_QUANT && all[index].kind != BULLA_NORM_QUANT))
            continue;
        for (uint32_t i = 0; i < plan->program->operation_count; i++)
            for (int j = 0; j < 3; j++)
                uses += all[i].inputs[j] == (int32_t)index;
        for (uint32_t i = 0; i < plan->stages[s + 1].count; i++)
            uses_next += all[plan->order[plan->stages[s + 1].first + i]].inputs[0] == (int32_t)index;
        stage->can_be_own = uses == uses_next;
    }
}

static int make_stages(struct plan *plan, bulla_error *error)
{
    uint32_t count = plan->program->operation_count;
    plan->order = memory_alloc(count, sizeof *plan->order, error);
    plan->stages = memory_alloc((size_t)count + 1, sizeof *plan->stages, error);
    plan->fused_into = memory_alloc(count, sizeof *plan->fused_into, error);
    struct scheduling s = {.plan = plan, .done = memory_alloc(count, 1, error)};
    s.uses = memory_alloc(count, sizeof *s.uses, error);
    int code = plan->order && plan->stages && plan->fused_into && s.done && s.uses ? BULLA_OK : BULLA_E_MEMORY;
    for (uint32_t i = 0; i < count && code == BULLA_OK; i++) {
        plan->fused_into[i] = -1;
        for (int j = 0; j < 3; j++)
            if (plan->program->operations[i].inputs[j] >= 0)
                s.uses[plan->program->operations[i].inputs[j]]++;
    }
    while (code == BULLA_OK && s.placed < count) {
        if (schedule_rows(&s) || schedule_linear(&s) || schedule_attend(&s))
            plan->stage_count++;
        else
            code = bulla_fail(error, BULLA_E_INTERNAL, "a program's operations have no order");
    }
    memory_free(s.done);
    memory_free(s.uses);
    return code;
}

/* --- places --- */

struct live {
    size_t offset, bytes;
    uint32_t until; /* last stage that reads it */
};

static size_t align(size_t bytes)
{
    return (size_t)kernel_round_up(bytes, ALIGNMENT);
}

/* Shapes of a result; its bytes for a whole batch in the activations. */
static size_t shape_place(const struct plan *plan, uint32_t index, struct place *place)
{
    const bulla_operation *o = &plan->program->operations[index];
    size_t rows = plan->batch_rows, bytes;
    place->type = program_kind(o->kind)->result;
    place->padded = (uint32_t)kernel_round_up(o->head_size, KERNEL_COLUMNS);
    switch (place->type) {
    case VALUE_QUANTISED:
        place->stride = (size_t)kernel_round_up(o->outputs, KERNEL_COLUMNS);
        bytes = align(rows * place->stride);
        place->scales = bytes;
        return bytes + align(rows * sizeof(int64_t));
    case VALUE_HEADS:
        place->stride = (size_t)o->heads * place->padded;
        bytes = align(rows * place->stride);
        place->scales = bytes;
        return bytes + align(rows * o->heads * sizeof(int32_t));
    case VALUE_KEYS:
        place->head_bytes = (size_t)KERNEL_POSITIONS * (place->padded + sizeof(int32_t) + sizeof(int16_t));
        return 0;
    case VALUE_VALUES:
        place->head_bytes = (size_t)KERNEL_POSITIONS * (place->padded + sizeof(uint8_t));
        return 0;
    default:
        place->stride = (size_t)kernel_round_up(o->outputs, KERNEL_ROWS);
        return place->is_logits ? 0 : align(rows * place->stride * sizeof(int32_t));
    }
}

/* The lowest offset where `bytes` touch nothing that is live. */
static size_t find_room(const struct live *live, uint32_t count, size_t bytes)
{
    size_t offset = 0;
    for (uint32_t i = 0; i < count;) {
        if (live[i].bytes && offset < live[i].offset + live[i].bytes && live[i].offset < offset + bytes) {
            offset = live[i].offset + live[i].bytes;
            i = 0;
        } else
            i++;
    }
    return offset;
}

/* The stage of each operation, and the last stage that reads its result. */
static void find_lifetimes(const struct plan *plan, uint32_t *stage_of, struct live *live)
{
    for (uint32_t s = 0; s < plan->stage_count; s++)
        for (uint32_t i = 0; i < plan->stages[s].count + plan->stages[s].fused; i++)
            stage_of[plan->order[plan->stages[s].first + i]] = s;
    for (uint32_t i = 0; i < plan->program->operation_count; i++) {
        live[i].until = (int32_t)i == plan->hidden ? plan->stage_count : stage_of[i];
        for (int j = 0; j < 3; j++) {
            int32_t input = plan->program->operations[i].inputs[j];
            /* One thread may already be in the next stage while another still does a stage of its own. */
            uint32_t until = stage_of[i] + plan->stages[stage_of[i]].can_be_own;
            if (input >= 0 && live[input].until < until)
                live[input].until = until;
        }
    }
}

/* The last operation's rows go to the caller; so do those of the one before it
 * where the last is a softcap, done in place. */
static void mark_logits(struct plan *plan)
{
    const bulla_program *program = plan->program;
    uint32_t last = program->operation_count - 1;
    plan->places[last].is_logits = 1;
    int32_t input = program->operations[last].inputs[0];
    if (program->operations[last].kind != BULLA_SOFTCAP || program->operations[input].kind != BULLA_LINEAR)
        return;
    for (uint32_t i = 0; i < last; i++)
        for (int j = 0; j < 3; j++)
            if (program->operations[i].inputs[j] == input)
                return;
    plan->places[input].is_logits = 1;
}

/* The input of the normalisation before the output head. */
static int32_t find_hidden(const bulla_program *program)
{
    int32_t index = (int32_t)program->operation_count - 1;
    if (program->operations[index].kind == BULLA_SOFTCAP)
        index = program->operations[index].inputs[0];
    if (program->operations[index].kind != BULLA_LINEAR)
        return -1;
    index = program->operations[index].inputs[0];
    return program->operations[index].kind == BULLA_NORM_QUANT ? program->operations[index].inputs[0] : -1;
}

static int make_places(struct plan *plan, bulla_error *error)
{
    const bulla_program *program = plan->program;
    uint32_t count = program->operation_count, live_count = 0;
    plan->places = memory_alloc(count, sizeof *plan->places, error);
    struct live *lifetimes = memory_alloc(count, sizeof *lifetimes, error);
    struct live *live = memory_alloc(count, sizeof *live, error);
    uint32_t *stage_of = memory_alloc(count, sizeof *stage_of, error);
    int code = plan->places && lifetimes && live && stage_of ? BULLA_OK : BULLA_E_MEMORY;
    if (code == BULLA_OK) {
        mark_logits(plan);
        find_lifetimes(plan, stage_of, lifetimes);
    }
    for (uint32_t i = 0; i < count && code == BULLA_OK; i++) {
        uint32_t index = plan->order[i], kept = 0;
        struct place *place = &plan->places[index];
        size_t bytes = shape_place(plan, index, place);
        for (uint32_t j = 0; j < live_count; j++)
            if (live[j].until >= stage_of[index])
                live[kept++] = live[j];
        live_count = kept;
        place->offset = find_room(live, live_count, bytes);
        place->scales += place->offset;
        live[live_count++] = (struct live){place->offset, bytes, lifetimes[index].until};
        if (place->offset + bytes > plan->activation_bytes)
            plan->activation_bytes = place->offset + bytes;
    }
    memory_free(lifetimes);
    memory_free(live);
    memory_free(stage_of);
    return code;
}

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static void measure(struct plan *plan)
{
    const bulla_program *program = plan->program;
    for (uint32_t i = 0; i < program->operation_count; i++) {
        const bulla_operation *o = &program->operations[i];
        struct place *place = &plan->places[i];
        if (place->type == VALUE_KEYS || place->type == VALUE_VALUES) {
            place->page_offset = plan->page_bytes;
            plan->page_bytes += place->head_bytes * o->heads;
        }
        if (o->kind == BULLA_LINEAR)
            plan->largest_columns = larger(plan->largest_columns, (uint32_t)kernel_round_up(o->n, KERNEL_COLUMNS));
        if (o->kind == BULLA_ATTEND) {
            plan->largest_padded = larger(plan->largest_padded, place->padded);
            plan->largest_kv_heads = larger(plan->largest_kv_heads, o->kv_heads);
        }
        plan->largest_elements = larger(plan->largest_elements, larger(o->n, o->outputs));
    }
}

int plan_make(const bulla_program *program, uint32_t batch_rows, struct plan *plan, bulla_error *error)
{
    *plan = (struct plan){.program = program, .batch_rows = batch_rows, .hidden = find_hidden(program)};
    int code = make_stages(plan, error);
    if (code == BULLA_OK) {
        describe_stages(plan);
        code = make_places(plan, error);
    }
    if (code == BULLA_OK)
        measure(plan);
    else
        plan_free(plan);
    return code;
}

void plan_free(struct plan *plan)
{
    memory_free(plan->order);
    memory_free(plan->stages);
    memory_free(plan->fused_into);
    memory_free(plan->places);
    memset(plan, 0, sizeof *plan);
}

void plan_lowest(const bulla_program *program, uint64_t first_sampled, uint64_t *lowest)
{
    plan_lowest_of(program, program->operation_count - 1, first_sampled, lowest);
}

void plan_lowest_of(const bulla_program *program, uint32_t operation, uint64_t first, uint64_t *lowest)
{
    uint32_t count = program->operation_count;
    for (uint32_t i = 0; i < count; i++)
        lowest[i] = UINT64_MAX;
    lowest[operation] = first;
    for (uint32_t i = operation + 1; i-- > 0;) {
        const bulla_operation *o = &program->operations[i];
        if (lowest[i] == UINT64_MAX)
            continue;
        for (int j = 0; j < 3; j++) {
            if (o->inputs[j] < 0)
                continue;
            uint64_t from = lowest[i];
            if (o->kind == BULLA_ATTEND && j > 0)
                from = o->window && from + 1 > o->window ? from + 1 - o->window : 0;
            if (from < lowest[o->inputs[j]])
                lowest[o->inputs[j]] = from;
        }
    }
}
