/* Elements of attend: docs/dispute-trace.md, "Arrays and elements". A slot is a position counted from the first visible
 * block; arrays over slots hold zeros where a position is not visible. */
#include <string.h>

#include "check/step_internal.h"
#include "exec/ref/operations.h"

#define RS reference_round_shift

enum { Z_SLOTS, KV_SLOTS, V_SLOTS, Z_BLOCKS, K_BLOCKS, E_SLOTS, S_BLOCKS, O_BLOCKS, Z_ALL, K_ALL, F_BLOCKS, S_ALL, B_ALL, RESULT };
enum { SLOTS = REFERENCE_ATTEND_BLOCK };

/* What is visible from a position. */
struct view {
    uint64_t first, start, blocks; /* the first visible position, slot 0's position, blocks of 64 slots */
};

static struct view view_of(const struct step *step)
{
    uint64_t t = step->position, window = step->o->window;
    struct view view = {.first = window && t + 1 > window ? t + 1 - window : 0};
    view.start = view.first / SLOTS * SLOTS;
    view.blocks = t / SLOTS - view.first / SLOTS + 1;
    return view;
}

/* The visible slots of a block: [*begin, *end), counted from slot 0. */
static void visible_slots(const struct step *step, uint64_t block, uint64_t *begin, uint64_t *end)
{
    struct view view = view_of(step);
    uint64_t low = view.first - view.start, high = step->position + 1 - view.start;
    *begin = block * SLOTS > low ? block * SLOTS : low;
    *end = (block + 1) * SLOTS < high ? (block + 1) * SLOTS : high;
}

static uint64_t kv_head_of(const struct step *step, uint64_t head)
{
    return head * step->o->kv_heads / step->o->heads;
}

static void shape_attend(const struct step *step, uint32_t array, struct step_array *shape)
{
    static const uint8_t widths[] = {4, 1, 1, 4, 1, 4, 4, 4, 4, 1, 4, 8, 8, 4};
    const bulla_operation *o = step->o;
    uint64_t blocks = view_of(step).blocks, chunks = step_chunks(blocks, STEP_CHUNK);
    const uint64_t heads = o->heads, kv_heads = o->kv_heads, size = o->head_size;
    const uint64_t counts[] = {heads * blocks * SLOTS, kv_heads * blocks * SLOTS, kv_heads * size * blocks * SLOTS,
        heads * blocks, kv_heads * blocks, heads * blocks * SLOTS, heads * blocks, heads * size * blocks,
        heads * chunks, kv_heads * chunks, heads * blocks, heads * chunks, heads * size * chunks, heads * size};
    *shape = (struct step_array){.count = counts[array], .width = widths[array], .is_result = array == RESULT};
}

static int64_t score(struct step *step, uint64_t head, uint64_t position)
{
    uint32_t size = step->o->head_size;
    uint64_t kv_head = kv_head_of(step, head);
    int64_t values[2][STEP_CHUNK];
    int8_t rows[2][STEP_CHUNK];
    step_read_bytes(step, 0, step->position, head * size, size, values[0]);
    int32_t s_q = (int32_t)step_scale(step, 0, step->position, head), z;
    step_read_bytes(step, 1, position, kv_head * size, size, values[1]);
    for (uint32_t i = 0; i < 2 * size; i++)
        rows[i / size][i % size] = (int8_t)values[i / size][i % size];
    struct reference_key key = {.k8 = rows[1], .t_k = (int32_t)step_scale(step, 1, position, kv_head)};
    if (reference_score(rows[0], s_q, &key, size, step->o->a2, NULL, &z))
        return step_end(step, STEP_RANGE);
    return step->o->tensors[BULLA_TENSOR_A] < 0 ? z : step_softcap(step, z);
}

/* Elements a slot: z, k_v, v8, e. */
static int64_t slot_element(struct step *step, uint32_t array, uint64_t index)
{
    struct view view = view_of(step);
    uint64_t slots = view.blocks * SLOTS, row = index / slots, slot = index % slots, position = view.start + slot;
    if (position < view.first || position > step->position)
        return 0;
    switch (array) {
    case Z_SLOTS:
        return score(step, row, position);
    case KV_SLOTS:
        return step_scale(step, 2, position, row);
    case V_SLOTS: {
        int64_t v8;
        step_read_bytes(step, 2, position, row, 1, &v8); /* a row is a kv head and a dimension, as in the cell */
        return v8;
    }
    default: {
        int64_t Z = step_array_element(step, Z_BLOCKS, index / SLOTS), z = step_array_element(step, Z_SLOTS, index);
        return step_exp(step, 0, 15, step_bounded(step, Z - z, 0, INT64_MAX));
    }
    }
}

static int64_t largest_of(const int64_t *values, uint32_t count, int64_t most)
{
    for (uint32_t i = 0; i < count; i++)
        most = values[i] > most ? values[i] : most;
    return most;
}

/* max z, max k_v of a block's visible slots. */
static int64_t block_largest(struct step *step, uint32_t array, uint64_t index)
{
    uint64_t blocks = view_of(step).blocks, begin, end;
    int64_t values[SLOTS];
    visible_slots(step, index % blocks, &begin, &end);
    step_read_array(step, array == Z_BLOCKS ? Z_SLOTS : KV_SLOTS, index / blocks * blocks * SLOTS + begin, (uint32_t)(end - begin), values);
    return largest_of(values, (uint32_t)(end - begin), values[0]);
}

static int64_t block_sum(struct step *step, uint32_t array, uint64_t index)
{
    int64_t e[SLOTS], sum = 0;
    step_read_array(step, E_SLOTS, index * SLOTS, SLOTS, e);
    for (uint32_t i = 0; i < SLOTS; i++)
        sum += e[i];
    return sum;
}

static int64_t block_weighted(struct step *step, uint32_t array, uint64_t index)
{
    uint64_t blocks = view_of(step).blocks, j = index % blocks, row = index / blocks, size = step->o->head_size;
    uint64_t head = row / size, kv_head = kv_head_of(step, head), i = row % size;
    int64_t e[SLOTS], k_v[SLOTS], v8[SLOTS], sum = 0, K = step_array_element(step, K_BLOCKS, kv_head * blocks + j);
    step_read_array(step, E_SLOTS, (head * blocks + j) * SLOTS, SLOTS, e);
    step_read_array(step, KV_SLOTS, (kv_head * blocks + j) * SLOTS, SLOTS, k_v);
    step_read_array(step, V_SLOTS, ((kv_head * size + i) * blocks + j) * SLOTS, SLOTS, v8);
    for (uint32_t p = 0; p < SLOTS; p++)
        if (e[p]) /* not so where it is not visible */
            sum += (e[p] >> step_bounded(step, K - k_v[p], 0, 31)) * v8[p];
    return sum;
}

/* The last element of a row's fold over blocks. */
static int64_t row_total(struct step *step, uint32_t array, uint64_t row)
{
    uint64_t chunks = step_chunks(view_of(step).blocks, STEP_CHUNK);
    return step_array_element(step, array, row * chunks + chunks - 1);
}

/* Folds over blocks. */
static int64_t fold_blocks(struct step *step, uint32_t array, uint64_t index)
{
    uint64_t blocks = view_of(step).blocks, chunks = step_chunks(blocks, STEP_CHUNK), row = index / chunks;
    uint64_t c = index % chunks, first = c * STEP_CHUNK, size = step->o->head_size;
    uint32_t count = step_chunk(blocks, c, STEP_CHUNK);
    int64_t values[STEP_CHUNK], f[STEP_CHUNK], k[STEP_CHUNK];
    int64_t result = c ? step_array_element(step, array, index - 1) : 0;
    if (array == Z_ALL || array == K_ALL) {
        step_read_array(step, array == Z_ALL ? Z_BLOCKS : K_BLOCKS, row * blocks + first, count, values);
        return largest_of(values, count, c || array == K_ALL ? result : values[0]);
    }
    const int64_t most = INT64_C(1) << 62;
    if (array == S_ALL) {
        result = step_bounded(step, result, 0, most - 1);
        step_read_array(step, S_BLOCKS, row * blocks + first, count, values);
        step_read_array(step, F_BLOCKS, row * blocks + first, count, f);
        for (uint32_t i = 0; i < count; i++)
            result += RS(values[i] * f[i], 15);
        return result;
    }
    uint64_t head = row / size, kv_head = kv_head_of(step, head);
    result = step_bounded(step, result, 1 - most, most - 1);
    int64_t K = row_total(step, K_ALL, kv_head);
    step_read_array(step, O_BLOCKS, row * blocks + first, count, values);
    step_read_array(step, F_BLOCKS, head * blocks + first, count, f);
    step_read_array(step, K_BLOCKS, kv_head * blocks + first, count, k);
    for (uint32_t i = 0; i < count; i++)
        result += RS(values[i] * f[i], (int)(15 + step_bounded(step, K - k[i], 0, 31)));
    return result;
}

static int64_t block_factor(struct step *step, uint32_t array, uint64_t index)
{
    uint64_t blocks = view_of(step).blocks;
    int64_t Z = row_total(step, Z_ALL, index / blocks), Z_j = step_array_element(step, Z_BLOCKS, index);
    return step_exp(step, 2, 31, step_bounded(step, Z - Z_j, 0, INT64_MAX));
}

static int64_t combined(struct step *step, uint32_t array, uint64_t index)
{
    const int64_t most = INT64_C(1) << 62;
    uint64_t head = index / step->o->head_size;
    int64_t S = step_bounded(step, row_total(step, S_ALL, head), 1, most - 1);
    int64_t B = step_bounded(step, row_total(step, B_ALL, index), 1 - most, most - 1);
    int64_t K = step_bounded(step, row_total(step, K_ALL, kv_head_of(step, head)), 0, 24);
    int d;
    int64_t R = reference_attend_ratio((uint64_t)S, &d), limit = (INT64_MAX - (INT64_C(1) << 60)) / R;
    B = step_bounded(step, RS(B, d), -limit, limit);
    return step_fits(step, RS(B * R, (int)(53 - K)));
}

static int64_t element_attend(struct step *step, uint32_t array, uint64_t index)
{
    static int64_t (*const elements[])(struct step *step, uint32_t array, uint64_t index) = {
        [Z_SLOTS] = slot_element,   [KV_SLOTS] = slot_element,  [V_SLOTS] = slot_element, [E_SLOTS] = slot_element,
        [Z_BLOCKS] = block_largest, [K_BLOCKS] = block_largest, [S_BLOCKS] = block_sum,   [O_BLOCKS] = block_weighted,
        [F_BLOCKS] = block_factor,  [Z_ALL] = fold_blocks,      [K_ALL] = fold_blocks,    [S_ALL] = fold_blocks,
        [B_ALL] = fold_blocks,      [RESULT] = combined};
    return elements[array](step, array, index);
}

const struct step_kind step_kind_attend = {14, RESULT, RESULT, shape_attend, element_attend};
