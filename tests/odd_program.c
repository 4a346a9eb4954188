#include "odd_program.h"

#include <string.h>

#include "base/memory.h"

int program_copy_new(uint64_t seed, int family, struct program_copy *copy, bulla_error *error)
{
    memset(copy, 0, sizeof *copy);
    int code = random_program_new(seed, family, 0, &copy->origin, error);
    if (code)
        return code;
    copy->program = *copy->origin;
    copy->operations = memory_alloc(copy->program.operation_count, sizeof *copy->operations, error);
    copy->tensors = memory_alloc(copy->program.tensor_count, sizeof *copy->tensors, error);
    if (!copy->operations || !copy->tensors) {
        program_copy_free(copy);
        return BULLA_E_MEMORY;
    }
    copy->program.operations = copy->operations;
    copy->program.tensors = copy->tensors;
    memcpy(copy->operations, copy->origin->operations, copy->program.operation_count * sizeof *copy->operations);
    memcpy(copy->tensors, copy->origin->tensors, copy->program.tensor_count * sizeof *copy->tensors);
    return BULLA_OK;
}

void program_copy_free(struct program_copy *copy)
{
    random_program_free(copy->origin);
    memory_free(copy->operations);
    memory_free(copy->tensors);
    memset(copy, 0, sizeof *copy);
}

static uint64_t random_below(uint64_t *state, uint64_t limit) /* splitmix64 (Steele, Lea, Flood 2014) */
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return (z ^ z >> 31) % limit;
}

/* Fills a tensor with what its bounds allow at most, or with anything allowed. */
static void make_extreme(const struct program_copy *copy, int role, int32_t index, uint64_t *state)
{
    const bulla_tensor *tensor = &copy->tensors[index];
    int64_t limit = role == BULLA_TENSOR_E8 || role == BULLA_TENSOR_W ? 127 : role == BULLA_TENSOR_E ? 15
                  : role == BULLA_TENSOR_G ? (1 << 24) - 1 : role == BULLA_TENSOR_A ? (1 << 30) - 1
                  : role == BULLA_TENSOR_BIAS ? INT32_MAX : INT64_MAX;
    int is_signed = tensor->dtype == BULLA_I8 || tensor->dtype == BULLA_I32;
    uint64_t shape = random_below(state, 4);
    uint32_t size = bulla_dtype_size(tensor->dtype);
    for (uint64_t i = 0; i < tensor->bytes; i += size) {
        int64_t value = shape == 1 ? (int64_t)random_below(state, (uint64_t)limit) : limit;
        if (is_signed && (shape == 2 || (shape != 0 && random_below(state, 2))))
            value = -value;
        memcpy((uint8_t *)(uintptr_t)copy->program.data[index] + i, &value, size);
    }
}

static void change_shift(int32_t *shift, int32_t low, int32_t high, uint64_t *state)
{
    uint64_t way = random_below(state, 4);
    int32_t value = way == 0 ? low : way == 1 ? high
                  : way == 2 ? low + (int32_t)random_below(state, (uint64_t)(high - low + 1))
                  : *shift + (int32_t)random_below(state, 9) - 4;
    *shift = value < low ? low : value > high ? high : value;
}

static void change_operation(bulla_operation *o, uint64_t *state)
{
    int32_t *shifts[] = {&o->k, &o->k1, &o->k2, &o->ke, &o->c, &o->a2, &o->F_g};
    static const int32_t limits[][2] = {{0, 61}, {0, 31}, {0, 61}, {0, 61}, {-64, 64}, {0, 61}, {-15, 62}};
    for (int i = 0; i < 7; i++)
        if (*shifts[i] && random_below(state, 3) == 0)
            change_shift(shifts[i], limits[i][0], limits[i][1], state);
    if (o->eps && random_below(state, 4) == 0)
        o->eps = random_below(state, 2) ? (UINT64_C(1) << 62) - 1 : UINT64_C(1) << random_below(state, 62);
    if (o->C && random_below(state, 4) == 0)
        o->C = 65535;
    if (o->block > 1 && random_below(state, 4) == 0)
        o->block >>= 1 + (o->block > 2 && random_below(state, 2));
    if (o->kind == BULLA_ATTEND && random_below(state, 2))
        o->window = (uint32_t)(random_below(state, 2) ? random_below(state, 5) : UINT32_MAX);
}

int odd_program_new(uint64_t seed, struct program_copy *copy, bulla_error *error)
{
    int code = program_copy_new(seed, (int)(seed % RANDOM_FAMILIES), copy, error);
    if (code)
        return code;
    uint64_t state = seed * 77777, rate = 1 + random_below(&state, 24);
    for (uint32_t i = 0; i < copy->program.operation_count; i++) {
        if (random_below(&state, rate) == 0)
            change_operation(&copy->operations[i], &state);
        for (int role = 0; role < BULLA_TENSOR_ROLES; role++)
            if (copy->operations[i].tensors[role] >= 0 && random_below(&state, 2 * rate) == 0)
                make_extreme(copy, role, copy->operations[i].tensors[role], &state);
    }
    code = bulla_program_check(&copy->program, error);
    if (code)
        program_copy_free(copy);
    return code;
}
