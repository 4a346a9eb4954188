/* attend over the paged cache. An item is a tile of up to 16 queries that share a
 * kv head: the heads of its group at one or more successive rows of a sequence.
 * Where there are fewer items than it takes to keep all threads busy, as when one
 * sequence decodes behind a long context, the blocks of each item are shared out
 * instead, and combined after a barrier. */
#include <string.h>

#include "exec/cpu/engine_internal.h"

enum { SPLIT_BLOCKS = 8 }; /* contexts shorter than this are not worth a barrier */

struct area {
    int8_t *q8;                     /* [16][padded] */
    int32_t *O;                     /* [16][the tile's blocks][padded] */
    struct attend_partial *partial; /* [16][the tile's blocks] */
};

size_t attend_area_bytes(const struct plan *plan, uint64_t blocks)
{
    if (plan->largest_padded == 0)
        return 0;
    size_t a_block = (size_t)KERNEL_ROWS * (plan->largest_padded * sizeof(int32_t) + sizeof(struct attend_partial));
    return (size_t)kernel_round_up((size_t)KERNEL_ROWS * plan->largest_padded + blocks * a_block, 64);
}

/* One attend operation at work. */
struct attending {
    bulla_engine *engine;
    const bulla_operation *operation;
    uint32_t index;
    struct attend_shape shape;
    uint32_t group;      /* heads of a kv head */
    uint32_t tile_rows;  /* successive rows of a tile */
    uint32_t heads_at_once; /* of the group, in a tile: all, unless there are more than 16 */
};

/* Queries of one item: their blocks and what is visible. */
struct tile {
    const struct row *rows;
    uint32_t first_row, row_count, kv_head, first_head, heads;
    uint64_t first_block, block_count;
};

static struct attending attending_of(bulla_engine *engine, uint32_t index)
{
    const bulla_operation *o = &engine->program->operations[index];
    struct attending a = {.engine = engine, .operation = o, .index = index, .group = o->heads / o->kv_heads};
    a.shape = (struct attend_shape){.size = o->head_size, .padded = engine->plan.places[o->inputs[0]].padded,
        .a2 = o->a2, .cap = engine_tensor(engine, o, BULLA_TENSOR_A), .exp15 = engine->program->data[0],
        .exp31 = engine->program->data[2]};
    a.heads_at_once = a.group < KERNEL_ROWS ? a.group : KERNEL_ROWS;
    a.tile_rows = KERNEL_ROWS / a.heads_at_once;
    return a;
}

static struct area area_of(const struct attending *a, uint32_t number)
{
    uint8_t *memory = a->engine->attend_scratch + number * a->engine->attend_bytes;
    struct area area = {.q8 = (int8_t *)memory};
    area.O = (void *)(memory + (size_t)KERNEL_ROWS * a->shape.padded);
    area.partial = (void *)(area.O + (size_t)KERNEL_ROWS * a->engine->attend_blocks * a->shape.padded);
    return area;
}

static uint64_t first_visible(const bulla_operation *o, uint64_t t)
{
    return o->window && t + 1 > o->window ? t + 1 - o->window : 0;
}

/* The run's rows at which the operation is evaluated: [*first, *end). */
static void evaluated_rows(const struct attending *a, const struct run *run, uint32_t *first, uint32_t *end)
{
    const struct row *rows = &a->engine->batch.rows[run->first];
    uint64_t lowest = rows->sequence->lowest[a->index];
    uint64_t skip = lowest > rows->position ? lowest - rows->position : 0;
    *first = run->first + (uint32_t)(skip < run->count ? skip : run->count);
    *end = run->first + run->count;
}

static uint32_t head_groups(const struct attending *a)
{
    return (a->group + a->heads_at_once - 1) / a->heads_at_once;
}

static uint32_t run_items(const struct attending *a, const struct run *run)
{
    uint32_t first, end;
    evaluated_rows(a, run, &first, &end);
    return (end - first + a->tile_rows - 1) / a->tile_rows * a->operation->kv_heads * head_groups(a);
}

/* Item `number` of a run. Tiles of later rows, which see more, come first. */
static struct tile tile_of(const struct attending *a, const struct run *run, uint32_t number)
{
    uint32_t first, end, per_row = a->operation->kv_heads * head_groups(a);
    evaluated_rows(a, run, &first, &end);
    uint32_t tiles = (end - first + a->tile_rows - 1) / a->tile_rows, tile_number = tiles - 1 - number / per_row;
    struct tile tile = {.first_row = first + tile_number * a->tile_rows};
    tile.row_count = end - tile.first_row < a->tile_rows ? end - tile.first_row : a->tile_rows;
    tile.kv_head = number % per_row / head_groups(a);
    tile.first_head = number % per_row % head_groups(a) * a->heads_at_once;
    tile.heads = a->group - tile.first_head < a->heads_at_once ? a->group - tile.first_head : a->heads_at_once;
    tile.first_head += tile.kv_head * a->group;
    tile.rows = &a->engine->batch.rows[tile.first_row];
    tile.first_block = first_visible(a->operation, tile.rows[0].position) / KERNEL_POSITIONS;
    tile.block_count = tile.rows[tile.row_count - 1].position / KERNEL_POSITIONS + 1 - tile.first_block;
    return tile;
}

static struct key_block block_of(const struct attending *a, const struct tile *tile, uint64_t block)
{
    const bulla_operation *o = a->operation;
    const bulla_sequence *sequence = tile->rows->sequence;
    size_t elements = (size_t)KERNEL_POSITIONS * a->shape.padded;
    uint8_t *keys = engine_head_page(a->engine, sequence, (uint32_t)o->inputs[1], block, tile->kv_head);
    uint8_t *values = engine_head_page(a->engine, sequence, (uint32_t)o->inputs[2], block, tile->kv_head);
    return (struct key_block){.k8 = (const int8_t *)keys, .t_k = (const void *)(keys + elements),
        .k_sum = (const void *)(keys + elements + KERNEL_POSITIONS * sizeof(int32_t)), .v8 = (const int8_t *)values,
        .k_v = values + elements};
}

/* What each query sees of the block that starts at position `start`. */
static void find_visible(const bulla_operation *o, const struct tile *tile, uint32_t rows, uint64_t start, uint8_t *from,
                         uint8_t *to)
{
    uint64_t last_first = first_visible(o, tile->rows[tile->row_count - 1].position);
    if (last_first <= start && tile->rows[0].position >= start + KERNEL_POSITIONS - 1) {
        memset(from, 0, rows);
        memset(to, KERNEL_POSITIONS, rows);
        return;
    }
    for (uint32_t r = 0; r < rows; r++) {
        uint64_t t = tile->rows[r / tile->heads].position, first = first_visible(o, t);
        from[r] = (uint8_t)(first > start ? (first - start < KERNEL_POSITIONS ? first - start : KERNEL_POSITIONS) : 0);
        to[r] = (uint8_t)(t < start ? 0 : t - start < KERNEL_POSITIONS ? t - start + 1 : KERNEL_POSITIONS);
    }
}

/* Blocks [begin, end) of the tile's; the queries are gathered first. `next` (may be
 * NULL) is what this thread does after them. */
static void score_blocks(const struct attending *a, const struct tile *tile, uint64_t begin, uint64_t end, int8_t *q8,
                         const struct area *area, const struct tile *next)
{
    const bulla_operation *o = a->operation;
    uint32_t query = (uint32_t)o->inputs[0], rows = tile->row_count * tile->heads, padded = a->shape.padded;
    const int32_t *scales = engine_head_scales(a->engine, query);
    int32_t s_q[KERNEL_ROWS];
    uint8_t from[KERNEL_ROWS], to[KERNEL_ROWS];
    uint32_t *range[KERNEL_ROWS];
    for (uint32_t r = 0; r < rows; r++) {
        uint32_t row = tile->first_row + r / tile->heads, head = tile->first_head + r % tile->heads;
        memcpy(q8 + (size_t)r * padded, engine_bytes(a->engine, query, row) + (size_t)head * padded, padded);
        s_q[r] = scales[(size_t)row * o->heads + head];
        range[r] = &a->engine->batch.range[row];
    }
    uint64_t stride = tile->block_count;
    for (uint64_t b = begin; b < end; b++) {
        uint64_t start = (tile->first_block + b) * KERNEL_POSITIONS;
        find_visible(o, tile, rows, start, from, to);
        struct key_block block = block_of(a, tile, tile->first_block + b), following;
        int is_followed = b + 1 < end ? rows < KERNEL_ROWS / 2 : next != NULL; /* more queries take longer than memory does */
        if (is_followed)
            following = b + 1 < end ? block_of(a, tile, tile->first_block + b + 1) : block_of(a, next, next->first_block);
        struct attend_block_call call = {.shape = &a->shape, .block = &block, .next = is_followed ? &following : NULL,
            .q8 = q8, .s_q = s_q, .begin = from, .end = to, .partial = area->partial + b, .O = area->O + b * padded,
            .range = range, .q_stride = padded, .partial_stride = stride, .O_stride = stride * padded, .rows = rows,
            .operation = a->index};
        a->engine->kernels->attend_block(&call);
    }
}

static void combine_query(const struct attending *a, const struct tile *tile, const struct area *area, uint32_t r)
{
    uint32_t row = tile->first_row + r / tile->heads, head = tile->first_head + r % tile->heads;
    uint64_t stride = tile->block_count;
    struct attend_combine_call call = {.shape = &a->shape, .partial = area->partial + r * stride,
        .O = area->O + r * stride * a->shape.padded, .blocks = tile->block_count,
        .o = engine_vector(a->engine, a->index, row) + (size_t)head * a->shape.size};
    if (a->engine->kernels->attend_combine(&call))
        kernel_mark_range(&a->engine->batch.range[row], a->index);
}

/* The tile that is item `number` of the whole batch. */
static struct tile find_tile(const struct attending *a, uint32_t number)
{
    const struct batch *batch = &a->engine->batch;
    uint32_t run = 0;
    for (uint32_t items; number >= (items = run_items(a, &batch->runs[run])); run++)
        number -= items;
    return tile_of(a, &batch->runs[run], number);
}

static void run_whole(const struct attending *a, uint32_t items, uint32_t *next_item, unsigned thread)
{
    struct area area = area_of(a, thread);
    struct tile tile, next;
    uint32_t item = __atomic_fetch_add(next_item, 1, __ATOMIC_RELAXED);
    if (item < items)
        tile = find_tile(a, item);
    while (item < items) {
        item = __atomic_fetch_add(next_item, 1, __ATOMIC_RELAXED);
        if (item < items)
            next = find_tile(a, item);
        score_blocks(a, &tile, 0, tile.block_count, area.q8, &area, item < items ? &next : NULL);
        for (uint32_t r = 0; r < tile.row_count * tile.heads; r++)
            combine_query(a, &tile, &area, r);
        if (item < items)
            tile = next;
    }
}

/* Each item has its own area; every thread takes its share of each item's blocks. */
static void run_split(const struct attending *a, uint32_t items, unsigned thread, int8_t *q8)
{
    unsigned threads = a->engine->threads;
    uint64_t total = 0, begin, end, passed = 0;
    for (uint32_t item = 0; item < items; item++)
        total += find_tile(a, item).block_count;
    thread_share(total, 1, thread, threads, &begin, &end);
    for (uint32_t item = 0; item < items; item++) {
        struct tile tile = find_tile(a, item);
        struct area area = area_of(a, item);
        uint64_t from = begin > passed ? begin - passed : 0, to = end > passed ? end - passed : 0;
        to = to < tile.block_count ? to : tile.block_count;
        if (from < to)
            score_blocks(a, &tile, from, to, q8, &area, NULL);
        passed += tile.block_count;
    }
    thread_team_barrier(a->engine->team);
    uint32_t queries = 0;
    for (uint32_t item = 0; item < items; item++) {
        struct tile tile = find_tile(a, item);
        struct area area = area_of(a, item);
        for (uint32_t r = 0; r < tile.row_count * tile.heads; r++)
            if (queries++ % threads == thread)
                combine_query(a, &tile, &area, r);
    }
}

void attend_run(bulla_engine *engine, uint32_t stage, unsigned thread)
{
    const struct batch *batch = &engine->batch;
    struct attending a = attending_of(engine, engine->plan.order[engine->plan.stages[stage].first]);
    uint32_t items = 0;
    uint64_t longest = 0;
    for (uint32_t i = 0; i < batch->run_count; i++) {
        uint32_t count = run_items(&a, &batch->runs[i]);
        items += count;
        if (count) {
            uint64_t blocks = tile_of(&a, &batch->runs[i], 0).block_count;
            longest = blocks > longest ? blocks : longest;
        }
    }
    engine->kernels->attend_begin();
    if (engine->threads > 1 && items <= engine->attend_areas && longest >= SPLIT_BLOCKS)
        run_split(&a, items, thread, (int8_t *)engine->scratch + thread * engine->scratch_bytes);
    else
        run_whole(&a, items, &engine->batch.next_item[stage], thread);
    engine->kernels->attend_end();
}
