#include "bulla/engine.h"

#include <string.h>

#include "base/memory.h"
#include "exec/cpu/engine_internal.h"
#include "exec/cpu/isa.h"

enum { DEFAULT_BATCH_ROWS = 256, MOST_BATCH_ROWS = 65536, ALIGNMENT = 64, SPLIT_AREAS = 8 };

/* --- opening --- */

static int allocate_batch(bulla_engine *engine, bulla_error *error)
{
    struct batch *batch = &engine->batch;
    size_t rows = engine->plan.batch_rows, operations = engine->program->operation_count;
    batch->rows = memory_alloc(rows, sizeof *batch->rows, error);
    batch->range = memory_alloc(rows, sizeof *batch->range, error);
    batch->runs = memory_alloc(rows, sizeof *batch->runs, error);
    batch->logits = memory_alloc(rows, sizeof *batch->logits, error);
    batch->active = memory_alloc(operations, sizeof *batch->active, error);
    batch->next_item = memory_alloc(engine->plan.stage_count, sizeof *batch->next_item, error);
    batch->indices = memory_map(operations * rows * sizeof *batch->indices, error);
    return batch->rows && batch->range && batch->runs && batch->logits && batch->active && batch->next_item &&
           batch->indices ? BULLA_OK : BULLA_E_MEMORY;
}

static size_t thread_scratch_bytes(const struct plan *plan)
{
    size_t linear = kernel_linear_scratch(plan->largest_columns);
    size_t row = ((size_t)plan->largest_elements + 64) * sizeof(int32_t);
    size_t queries = (size_t)KERNEL_ROWS * plan->largest_padded;
    size_t most = linear > row ? linear : row;
    return (size_t)kernel_round_up(most > queries ? most : queries, ALIGNMENT);
}

static int allocate_work(bulla_engine *engine, bulla_error *error)
{
    const struct plan *plan = &engine->plan;
    size_t rows = plan->batch_rows;
    engine->attend_blocks = (engine->program->context + UINT64_C(63)) / KERNEL_POSITIONS;
    engine->attend_areas = engine->threads > SPLIT_AREAS ? engine->threads : SPLIT_AREAS;
    engine->attend_bytes = attend_area_bytes(plan, engine->attend_blocks);
    engine->attend_total = engine->attend_areas * engine->attend_bytes;
    engine->scratch_bytes = thread_scratch_bytes(plan);
    engine->spare_bytes = rows * engine->program->vocabulary * sizeof *engine->spare_logits;
    engine->activations = memory_map(plan->activation_bytes, error);
    engine->gathered = memory_map(rows * plan->largest_columns, error);
    engine->spare_logits = memory_map(engine->spare_bytes, error);
    engine->attend_scratch = memory_map(engine->attend_total, error);
    engine->scratch = memory_alloc_aligned(ALIGNMENT, engine->threads * engine->scratch_bytes, error);
    engine->small_steps = memory_alloc(engine->program->operation_count, 1, error);
    for (uint32_t i = 0; engine->small_steps && i < engine->program->operation_count; i++) {
        const bulla_operation *o = &engine->program->operations[i];
        if (o->kind == BULLA_GATE)
            engine->small_steps[i] = (uint8_t)engine->kernels->small_steps(engine_tensor(engine, o, BULLA_TENSOR_A));
    }
    engine->own_q = memory_alloc_aligned(ALIGNMENT, (size_t)engine->threads * OWN_ROWS * plan->largest_columns, error);
    engine->own_s = memory_alloc((size_t)engine->threads * OWN_ROWS, sizeof *engine->own_s, error);
    engine->fused_scratch = memory_alloc_aligned(ALIGNMENT, (size_t)engine->threads * 2 * FUSED_ELEMENTS * sizeof(int32_t),
                                                 error);
    return engine->own_q && engine->own_s && engine->small_steps && engine->fused_scratch && engine->activations && engine->gathered && engine->spare_logits && engine->attend_scratch && engine->scratch
               ? BULLA_OK : BULLA_E_MEMORY;
}

static int open_parts(bulla_engine *engine, const bulla_model *model, const bulla_engine_options *options,
                      bulla_error *error)
{
    uint64_t pages = options->pages;
    uint32_t rows = options->batch_rows ? options->batch_rows : DEFAULT_BATCH_ROWS;
    if (rows > MOST_BATCH_ROWS)
        return bulla_fail(error, BULLA_E_USAGE, "batch_rows: found %u, expected at most %d", rows, MOST_BATCH_ROWS);
    if (pages == 0)
        pages = ((uint64_t)engine->program->context + KERNEL_POSITIONS - 1) / KERNEL_POSITIONS;
    engine->threads = options->threads ? options->threads : thread_cores();
    int code = isa_choose(options->isa, &engine->kernels, error);
    if (code == BULLA_OK)
        code = thread_team_start(engine->threads, &engine->team, error);
    if (code == BULLA_OK)
        code = plan_make(engine->program, rows, &engine->plan, error);
    if (code == BULLA_OK)
        code = weights_pack(engine->program, model, engine->team, &engine->weights, error);
    if (code == BULLA_OK)
        code = pool_open(&engine->pool, pages, engine->plan.page_bytes, options->shuffle_pages, error);
    if (code == BULLA_OK)
        code = prefix_cache_open(engine, options->prefix_salt, error);
    if (code == BULLA_OK)
        code = allocate_batch(engine, error);
    if (code == BULLA_OK)
        code = allocate_work(engine, error);
    return code;
}

int bulla_engine_open_program(const bulla_program *program, const bulla_model *model,
                              const bulla_engine_options *options, bulla_engine **result, bulla_error *error)
{
    static const bulla_engine_options defaults;
    *result = NULL;
    bulla_engine *engine = memory_alloc(1, sizeof *engine, error);
    if (!engine)
        return BULLA_E_MEMORY;
    engine->program = program;
    engine->model = model;
    int code = open_parts(engine, model, options ? options : &defaults, error);
    if (code) {
        bulla_engine_close(engine);
        return code;
    }
    *result = engine;
    return BULLA_OK;
}

int bulla_engine_open(const bulla_model *model, const bulla_engine_options *options, bulla_engine **engine,
                      bulla_error *error)
{
    return bulla_engine_open_program(bulla_model_program(model), model, options, engine, error);
}

void bulla_engine_close(bulla_engine *engine)
{
    if (!engine)
        return;
    while (engine->sequences)
        bulla_sequence_close(engine->sequences);
    struct batch *batch = &engine->batch;
    size_t rows = engine->plan.batch_rows;
    memory_free(batch->rows);
    memory_free(batch->range);
    memory_free(batch->runs);
    memory_free(batch->logits);
    memory_free(batch->active);
    memory_free(batch->next_item);
    memory_unmap(batch->indices, engine->program->operation_count * rows * sizeof *batch->indices);
    memory_unmap(engine->activations, engine->plan.activation_bytes);
    memory_unmap(engine->gathered, rows * engine->plan.largest_columns);
    memory_unmap(engine->spare_logits, engine->spare_bytes);
    memory_unmap(engine->attend_scratch, engine->attend_total);
    memory_free(engine->scratch);
    memory_free(engine->fused_scratch);
    memory_free(engine->own_q);
    memory_free(engine->own_s);
    memory_free(engine->small_steps);
    prefix_cache_close(&engine->prefix);
    pool_close(&engine->pool);
    weights_free(&engine->weights);
    plan_free(&engine->plan);
    thread_team_stop(engine->team);
    memory_free(engine);
}

const char *bulla_engine_isa(const bulla_engine *engine)
{
    return engine->kernels->name;
}

unsigned bulla_engine_threads(const bulla_engine *engine)
{
    return engine->threads;
}

uint64_t bulla_engine_pages_free(const bulla_engine *engine)
{
    return pool_available(&engine->pool);
}

uint64_t bulla_engine_pages_total(const bulla_engine *engine)
{
    return engine->pool.total;
}

void bulla_engine_prefix_counters(const bulla_engine *engine, bulla_prefix_counters *counters)
{
    *counters = engine->prefix.counters;
}

/* --- steps --- */

static int check_piece(const bulla_engine *engine, const bulla_piece *piece, size_t number, bulla_error *error)
{
    const bulla_sequence *sequence = piece->sequence;
    const bulla_program *program = engine->program;
    if (!sequence || sequence->engine != engine)
        return bulla_fail(error, BULLA_E_USAGE, "piece %zu: its sequence is not of this engine", number);
    if (sequence->in_step)
        return bulla_fail(error, BULLA_E_USAGE, "piece %zu: its sequence is in this step already", number);
    if (sequence->has_range)
        return bulla_fail(error, BULLA_E_USAGE, "piece %zu: its sequence left a bound (RANGE) at position %llu; it can be "
                          "truncated to that or closed", number, (unsigned long long)sequence->range_position);
    if (piece->count == 0 || piece->logits_from > piece->count)
        return bulla_fail(error, BULLA_E_USAGE, "piece %zu: %u ids with logits from %u", number, piece->count,
                          piece->logits_from);
    if (piece->logits_from < piece->count &&
        (!piece->logits || sequence->length + piece->logits_from < sequence->first_sampled))
        return bulla_fail(error, BULLA_E_USAGE, "piece %zu: logits of position %llu are asked for, the first sampled is %llu",
                          number, (unsigned long long)(sequence->length + piece->logits_from),
                          (unsigned long long)sequence->first_sampled);
    if (piece->hidden && (engine->plan.hidden < 0 || sequence->length < sequence->lowest[engine->plan.hidden]))
        return bulla_fail(error, BULLA_E_USAGE, "piece %zu: the hidden state of position %llu is asked for, which this "
                          "sequence does not evaluate", number, (unsigned long long)sequence->length);
    if (sequence->length + piece->count > program->context)
        return bulla_fail(error, BULLA_E_LIMIT, "%llu positions and %u more do not fit the model's context of %u",
                          (unsigned long long)sequence->length, piece->count, program->context);
    for (uint32_t i = 0; i < piece->count; i++)
        if (piece->ids[i] >= program->vocabulary)
            return bulla_fail(error, BULLA_E_USAGE, "piece %zu: id %u is not below the vocabulary, %u", number,
                              piece->ids[i], program->vocabulary);
    return BULLA_OK;
}

static uint64_t pages_needed(const bulla_piece *piece)
{
    uint64_t pages = (piece->sequence->length + piece->count + KERNEL_POSITIONS - 1) / KERNEL_POSITIONS;
    return pages > piece->sequence->page_count ? pages - piece->sequence->page_count : 0;
}

/* Checks all pieces and gives their sequences pages; all or nothing. */
static int prepare_pieces(bulla_engine *engine, bulla_piece *pieces, size_t count, bulla_error *error)
{
    uint64_t pages = 0;
    int code = BULLA_OK;
    size_t checked = 0;
    for (; checked < count && code == BULLA_OK; checked++) {
        code = check_piece(engine, &pieces[checked], checked, error);
        if (code)
            break;
        pieces[checked].sequence->in_step = 1;
        pages += pages_needed(&pieces[checked]);
    }
    for (size_t i = 0; i < checked; i++)
        pieces[i].sequence->in_step = 0;
    for (size_t i = 0; i < count && code == BULLA_OK; i++)
        code = sequence_own_end(pieces[i].sequence, error);
    uint64_t available = pool_available(&engine->pool);
    if (code == BULLA_OK && pages > available)
        code = bulla_fail(error, BULLA_E_LIMIT, "the step needs %llu more pages of the KV cache, %llu are free",
                          (unsigned long long)pages, (unsigned long long)available);
    for (size_t i = 0; i < count && code == BULLA_OK; i++)
        code = sequence_grow(pieces[i].sequence, pieces[i].sequence->length + pieces[i].count, error);
    for (size_t i = 0; i < count && code; i++)
        if (pieces[i].sequence && pieces[i].sequence->engine == engine)
            bulla_sequence_truncate(pieces[i].sequence, pieces[i].sequence->length);
    return code;
}

/* As many rows of this piece, from its id `done` on, as the batch has room for. */
static uint32_t add_rows(bulla_engine *engine, bulla_piece *piece, uint32_t done)
{
    struct batch *batch = &engine->batch;
    uint32_t room = engine->plan.batch_rows - batch->count, left = piece->count - done;
    uint32_t count = left < room ? left : room;
    if (count == 0)
        return 0;
    prefix_note(piece->sequence, piece->ids + done, count);
    batch->runs[batch->run_count++] = (struct run){.first = batch->count, .count = count, .piece = piece, .done = done};
    for (uint32_t i = 0; i < count; i++, batch->count++) {
        uint32_t id = done + i;
        size_t vocabulary = engine->program->vocabulary;
        batch->rows[batch->count] = (struct row){.sequence = piece->sequence,
            .position = piece->sequence->length + i, .id = piece->ids[id],
            .logits = id >= piece->logits_from ? piece->logits + (id - piece->logits_from) * vocabulary
                                               : engine->spare_logits + batch->count * vocabulary};
    }
    return count;
}

uint32_t bulla_engine_hidden_size(const bulla_engine *engine)
{
    return engine->plan.hidden < 0 ? 0 : engine->program->operations[engine->plan.hidden].outputs;
}

static void copy_hidden(const bulla_engine *engine, const struct run *run)
{
    size_t size = bulla_engine_hidden_size(engine);
    for (uint32_t i = 0; i < run->count; i++)
        memcpy(run->piece->hidden + (run->done + i) * size,
               engine_vector(engine, (uint32_t)engine->plan.hidden, run->first + i), size * sizeof(int32_t));
}

/* What a batch gave its pieces: lengths, hidden states, and the first RANGE of each. */
static void settle_batch(bulla_engine *engine)
{
    struct batch *batch = &engine->batch;
    for (uint32_t r = 0; r < batch->run_count; r++) {
        const struct run *run = &batch->runs[r];
        run->piece->sequence->length += run->count;
        if (run->piece->hidden)
            copy_hidden(engine, run);
        for (uint32_t i = run->first; i < run->first + run->count; i++)
            if (batch->range[i] != UINT32_MAX) {
                run->piece->code = BULLA_E_RANGE;
                run->piece->range_position = batch->rows[i].position;
                run->piece->range_operation = batch->range[i];
                run->piece->sequence->has_range = 1;
                run->piece->sequence->range_position = batch->rows[i].position;
                break;
            }
    }
    batch->count = batch->run_count = 0;
}

int bulla_engine_begin(bulla_engine *engine, bulla_piece *pieces, size_t count, bulla_error *error)
{
    if (engine->step.count)
        return bulla_fail(error, BULLA_E_USAGE, "a step of the engine was begun before the one under way is over");
    int code = prepare_pieces(engine, pieces, count, error);
    if (code)
        return code;
    for (size_t i = 0; i < count; i++) {
        pieces[i].code = BULLA_OK;
        pieces[i].range_position = 0;
        pieces[i].range_operation = 0;
        pieces[i].sequence->in_step = 1;
    }
    engine->step = (struct step){.pieces = pieces, .count = count};
    return BULLA_OK;
}

/* Whether nothing more is computed of a piece: all of it was, or it left a bound, or its sequence is closed. */
static int is_over(const struct step *step, const bulla_piece *piece)
{
    return !piece->sequence || piece->code != BULLA_OK || step->done == piece->count;
}

static void fill_batch(bulla_engine *engine)
{
    struct step *step = &engine->step;
    while (step->next < step->count && engine->batch.count < engine->plan.batch_rows) {
        bulla_piece *piece = &step->pieces[step->next];
        if (!is_over(step, piece))
            step->done += add_rows(engine, piece, step->done);
        if (!is_over(step, piece))
            return;
        step->next++;
        step->done = 0;
    }
}

/* Those that have their results. */
static void end_pieces(struct step *step)
{
    if (step->next < step->count && is_over(step, &step->pieces[step->next])) {
        step->next++;
        step->done = 0;
    }
    for (; step->ended < step->next; step->ended++) {
        bulla_piece *piece = &step->pieces[step->ended];
        if (!piece->sequence)
            continue;
        piece->sequence->in_step = 0;
        if (piece->code == BULLA_OK)
            prefix_publish(piece->sequence);
    }
}

size_t bulla_engine_continue(bulla_engine *engine)
{
    struct step *step = &engine->step;
    fill_batch(engine);
    if (engine->batch.count) {
        batch_run(engine);
        settle_batch(engine);
    }
    end_pieces(step);
    size_t ended = step->ended;
    if (ended == step->count)
        *step = (struct step){.count = 0};
    return ended;
}

int bulla_engine_step(bulla_engine *engine, bulla_piece *pieces, size_t count, bulla_error *error)
{
    int code = bulla_engine_begin(engine, pieces, count, error);
    while (code == BULLA_OK && engine->step.count)
        bulla_engine_continue(engine);
    return code;
}

void step_forget(struct step *step, const bulla_sequence *sequence)
{
    for (size_t i = step->ended; i < step->count; i++)
        if (step->pieces[i].sequence == sequence)
            step->pieces[i].sequence = NULL;
}
