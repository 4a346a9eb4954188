#include "exec/cpu/profile.h"

#include <string.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/memory.h"
#include "exec/cpu/engine_internal.h"

struct profile {
    const bulla_engine *engine;
    struct profile_stage *stages; /* [count] of at most plan.stage_count */
    uint32_t count;
    uint32_t *kind_of;            /* [plan.stage_count]: index into `stages` */
    struct arena names;
};

/* --- names --- */

/* "layer.3.q.W" -> "q" */
static void append_tensor_name(struct buffer *out, const char *tensor)
{
    static const char layer[] = "layer.";
    if (strncmp(tensor, layer, sizeof layer - 1) == 0) {
        const char *dot = strchr(tensor + sizeof layer - 1, '.');
        tensor = dot ? dot + 1 : tensor;
    }
    const char *end = strrchr(tensor, '.');
    buffer_append(out, tensor, end ? (size_t)(end - tensor) : strlen(tensor));
}

static void operation_name(const bulla_program *program, const bulla_operation *o, struct buffer *out)
{
    buffer_clear(out);
    buffer_append_text(out, "+");
    if (o->kind == BULLA_LINEAR)
        append_tensor_name(out, program->tensors[o->tensors[BULLA_TENSOR_W]].name);
    else
        buffer_append_format(out, "%s()", bulla_operation_kind_name(o->kind));
    buffer_append_text(out, "+");
}

/* "+q+k+v+": each name stands between signs, so that a search finds whole names. */
static void stage_name(const bulla_engine *engine, const struct stage *stage, struct buffer *one, struct buffer *out)
{
    buffer_clear(out);
    buffer_append_text(out, "+");
    for (uint32_t i = 0; i < stage->count + stage->fused; i++) {
        operation_name(engine->program, &engine->program->operations[engine->plan.order[stage->first + i]], one);
        if (one->error.code != BULLA_OK || out->error.code != BULLA_OK)
            return;
        if (!strstr((const char *)out->data, (const char *)one->data))
            buffer_append_text(out, (const char *)one->data + 1);
    }
}

/* The profile's stage of that name, a new one where there is none; its name without the outer signs. */
static int find_kind(struct profile *profile, const struct buffer *name, uint32_t *kind, bulla_error *error)
{
    const char *text = (const char *)name->data + 1;
    size_t length = name->length - 2;
    for (*kind = 0; *kind < profile->count; ++*kind) {
        const char *other = profile->stages[*kind].name;
        if (strlen(other) == length && memcmp(other, text, length) == 0)
            return BULLA_OK;
    }
    profile->stages[*kind].name = arena_copy_text(&profile->names, text, length, error);
    if (!profile->stages[*kind].name)
        return BULLA_E_MEMORY;
    profile->count++;
    return BULLA_OK;
}

static int name_stages(struct profile *profile, bulla_error *error)
{
    const struct plan *plan = &profile->engine->plan;
    struct buffer one = {0}, name = {0};
    int code = BULLA_OK;
    for (uint32_t s = 0; s < plan->stage_count && code == BULLA_OK; s++) {
        stage_name(profile->engine, &plan->stages[s], &one, &name);
        if (one.error.code != BULLA_OK || name.error.code != BULLA_OK)
            code = bulla_fail(error, BULLA_E_MEMORY, "out of memory for the names of a profile's stages");
        else
            code = find_kind(profile, &name, &profile->kind_of[s], error);
    }
    buffer_free(&one);
    buffer_free(&name);
    return code;
}

int profile_open(const bulla_engine *engine, struct profile **result, bulla_error *error)
{
    *result = NULL;
    struct profile *profile = memory_alloc(1, sizeof *profile, error);
    if (!profile)
        return BULLA_E_MEMORY;
    profile->engine = engine;
    profile->stages = memory_alloc(engine->plan.stage_count, sizeof *profile->stages, error);
    profile->kind_of = memory_alloc(engine->plan.stage_count, sizeof *profile->kind_of, error);
    int code = profile->stages && profile->kind_of ? name_stages(profile, error) : BULLA_E_MEMORY;
    if (code != BULLA_OK) {
        profile_close(profile);
        return code;
    }
    *result = profile;
    return BULLA_OK;
}

void profile_close(struct profile *profile)
{
    if (!profile)
        return;
    memory_free(profile->stages);
    memory_free(profile->kind_of);
    arena_free(&profile->names);
    memory_free(profile);
}

void profile_attach(bulla_engine *engine, struct profile *profile)
{
    engine->profile = profile;
}

const struct profile_stage *profile_stages(const struct profile *profile, uint32_t *count)
{
    *count = profile->count;
    return profile->stages;
}

/* --- counting --- */

/* Positions of the cache that a query at position `t` sees. */
static uint64_t visible(const bulla_operation *o, uint64_t t)
{
    return o->window && o->window <= t ? o->window : t + 1;
}

static void add_attend(const bulla_engine *engine, uint32_t index, struct profile_stage *stage)
{
    const bulla_operation *o = &engine->program->operations[index];
    const struct active *active = &engine->batch.active[index];
    const struct place *places = engine->plan.places;
    uint64_t a_position = (places[o->inputs[1]].head_bytes + places[o->inputs[2]].head_bytes) / KERNEL_POSITIONS *
                          o->kv_heads;
    const struct row *before = NULL;
    for (uint32_t i = 0; i < active->count; i++) {
        const struct row *row = &engine->batch.rows[active->index ? active->index[i] : i];
        uint64_t seen = visible(o, row->position);
        /* The next position of a sequence sees what the one before it saw, and itself. */
        stage->cache_bytes += (before && before->sequence == row->sequence ? 1 : seen) * a_position;
        stage->multiply_adds += 2 * seen * o->heads * o->head_size;
        before = row;
    }
}

static void add_operation(const bulla_engine *engine, uint32_t index, struct profile_stage *stage)
{
    const bulla_operation *o = &engine->program->operations[index];
    uint64_t rows = engine->batch.active[index].count;
    if (o->kind == BULLA_ATTEND)
        add_attend(engine, index, stage);
    if (o->kind == BULLA_LINEAR && rows) {
        stage->weight_bytes += weights_linear_bytes(&engine->weights.linears[index]);
        stage->multiply_adds += rows * o->n * o->outputs;
    }
    if (o->kind == BULLA_EMBED)
        for (int role = BULLA_TENSOR_E8; role <= BULLA_TENSOR_ME; role++) {
            const bulla_tensor *tensor = &engine->program->tensors[o->tensors[role]];
            stage->weight_bytes += rows * (tensor->bytes / engine->program->vocabulary);
        }
}

void profile_add(struct profile *profile, uint32_t number, uint64_t nanoseconds)
{
    const struct plan *plan = &profile->engine->plan;
    const struct stage *stage = &plan->stages[number];
    struct profile_stage *kind = &profile->stages[profile->kind_of[number]];
    kind->calls++;
    kind->nanoseconds += nanoseconds;
    for (uint32_t i = 0; i < stage->count + stage->fused; i++)
        add_operation(profile->engine, plan->order[stage->first + i], kind);
}
