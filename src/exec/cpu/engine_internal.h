/* What the engine's files share. */
#ifndef EXEC_CPU_ENGINE_INTERNAL_H
#define EXEC_CPU_ENGINE_INTERNAL_H

#include "base/threads.h"
#include "bulla/engine.h"
#include "exec/cpu/kernels.h"
#include "exec/cpu/plan.h"
#include "exec/cpu/profile.h"
#include "exec/cpu/prefix_cache.h"

/* Packed weights of all linear operations (weights.c). */
struct weights {
    struct packed_linear *linears; /* [operation_count], empty for other kinds */
    uint8_t *memory;
    size_t bytes;
};
int weights_pack(const bulla_program *program, const bulla_model *model, struct thread_team *team,
                 struct weights *weights, bulla_error *error);
void weights_free(struct weights *weights);
/* What the arrays of one of them take. */
size_t weights_linear_bytes(const struct packed_linear *linear);

/* A page of the pool. A sequence that writes into it is the only one that holds it. */
struct page {
    uint32_t references;   /* sequences that hold it */
    uint32_t older, newer; /* idle pages by the time of their last use */
    struct prefix_entry prefix; /* what the prefix cache knows of it */
};

/* The pool of KV pages (cache.c). A page is held by sequences, or idle (only the
 * prefix cache knows it), or free. */
struct pool {
    uint8_t *memory;
    size_t bytes, page_bytes;
    struct page *pages;   /* [total + 1]: the last one joins the two ends of the list of idle pages */
    uint32_t *free_pages; /* a stack */
    uint64_t free_count, idle_count, total;
};
int pool_open(struct pool *pool, uint64_t pages, size_t page_bytes, int shuffle, bulla_error *error);
void pool_close(struct pool *pool);
uint64_t pool_available(const struct pool *pool); /* free and idle */
void page_hold(struct pool *pool, uint32_t page); /* one more sequence holds it */
void page_release(struct pool *pool, uint32_t page); /* one fewer */
void page_free_idle(struct pool *pool, uint32_t page); /* an idle page that the prefix cache has forgotten */

struct bulla_sequence {
    bulla_engine *engine;
    bulla_sequence *next, *previous;
    uint64_t length;
    uint64_t first_sampled;
    uint64_t *lowest;     /* [operation_count]: plan_lowest */
    uint32_t *pages;      /* [page_capacity], page_count in use */
    uint64_t page_count, page_capacity;
    struct prefix_chain prefix;
    int has_range;
    uint64_t range_position; /* with has_range: the first */
    int in_step; /* of the step under way, and its piece has no results yet */
};
/* Room for the numbers of so many pages, and for what the prefix cache keeps of them. */
int sequence_reserve(bulla_sequence *sequence, uint64_t pages, bulla_error *error);
/* Lets the sequence write behind its length: a last page that others hold too is
 * copied (BULLA_E_LIMIT where no page is left), the prefix cache forgets its own. */
int sequence_own_end(bulla_sequence *sequence, bulla_error *error);
/* Pages for positions below `length`; the caller has counted that they are there. */
int sequence_grow(bulla_sequence *sequence, uint64_t length, bulla_error *error);

/* Rows at which an operation is evaluated in this batch. */
struct active {
    uint32_t count;
    const uint32_t *index; /* [count], NULL: all rows */
};

/* One row of the batch: one position of one piece. */
struct row {
    bulla_sequence *sequence;
    uint64_t position;
    uint32_t id;
    int32_t *logits;       /* [vocabulary]; a spare row where nobody wants them */
};

/* Successive rows of one sequence. */
struct run {
    uint32_t first, count;
    bulla_piece *piece;
    uint32_t done; /* the piece's ids before the run's */
};

/* A tile of queries of one kv head: successive rows times the heads that share it. */
struct attend_item {
    uint32_t first_row, rows; /* rows * group queries, at most KERNEL_ROWS */
    uint32_t kv_head;
};

struct batch {
    struct row *rows;        /* [batch_rows] */
    uint32_t *range;         /* [batch_rows], as kernel_mark_range */
    uint32_t count;
    struct run *runs;        /* [batch_rows] */
    uint32_t run_count;
    struct active *active;   /* [operation_count] */
    uint32_t *indices;       /* [operation_count][batch_rows], where active.index points */
    uint32_t *next_item;     /* [stage_count]: next attention item, atomic */
    int32_t **logits;        /* [batch_rows]: rows[].logits */
};

/* A step under way. */
struct step {
    bulla_piece *pieces; /* [count], the caller's; count 0: there is none */
    size_t count, ended; /* the first `ended` have their results */
    size_t next;         /* the piece whose rows come next, ... */
    uint32_t done;       /* ... and how many of them are computed */
};
/* The sequence is closed: nothing more of its piece is computed. */
void step_forget(struct step *step, const bulla_sequence *sequence);

/* Elements of a linear operation's results that wait for the element-wise one. */
enum { FUSED_ELEMENTS = 16384, FUSED_ROWS = 128 };
/* Up to this many rows each thread quantises the input of linear operations for
 * itself: sooner done than handed over. */
enum { OWN_ROWS = 2 };

struct bulla_engine {
    const bulla_program *program;
    const bulla_model *model; /* whose map the program lies in, or NULL */
    const struct kernels *kernels;
    struct thread_team *team;
    unsigned threads;
    struct plan plan;
    struct weights weights;
    struct pool pool;
    struct prefix_cache prefix;
    struct batch batch;
    struct step step;
    uint8_t *small_steps;    /* [operation_count]: kernels->small_steps of a gate's table */
    uint8_t *activations;    /* plan.activation_bytes */
    int8_t *gathered;        /* [batch_rows][largest_columns]: rows of a linear operation that are not all */
    int32_t *spare_logits;   /* [batch_rows][vocabulary], touched only where evaluated logits are unwanted */
    size_t spare_bytes;
    uint8_t *scratch;        /* [threads][scratch_bytes] */
    size_t scratch_bytes;
    int8_t *own_q;           /* [threads][OWN_ROWS][largest_columns]: a thread's own quantised input */
    int64_t *own_s;          /* [threads][OWN_ROWS] */
    int32_t *fused_scratch;  /* [threads][2][FUSED_ELEMENTS] */
    uint8_t *attend_scratch; /* [attend_areas][attend_bytes] */
    size_t attend_bytes, attend_total;
    uint32_t attend_areas;
    uint64_t attend_blocks;  /* blocks that an area has room for */
    bulla_sequence *sequences;
    struct profile *profile; /* where steps are counted, else NULL */
};

/* As bulla_engine_open for a program in memory that was checked; `model` (may be
 * NULL) has its pages released as they are packed. */
int bulla_engine_open_program(const bulla_program *program, const bulla_model *model,
                              const bulla_engine_options *options, bulla_engine **engine, bulla_error *error);

/* Runs the batch that is set up. */
void batch_run(bulla_engine *engine);
/* Whether this stage is a quantisation that each thread does for itself in the next one. */
static inline int is_own_stage(const bulla_engine *engine, uint32_t stage)
{
    return engine->threads > 1 && engine->batch.count <= OWN_ROWS && engine->plan.stages[stage].can_be_own;
}

static inline const void *engine_tensor(const bulla_engine *engine, const bulla_operation *operation, int role)
{
    int32_t tensor = operation->tensors[role];
    return tensor < 0 ? NULL : engine->program->data[tensor];
}

/* The i32 row of an operation's result. */
static inline int32_t *engine_vector(const bulla_engine *engine, uint32_t operation, uint32_t row)
{
    const struct place *place = &engine->plan.places[operation];
    if (place->is_logits)
        return engine->batch.rows[row].logits;
    return (int32_t *)(void *)(engine->activations + place->offset) + row * place->stride;
}

static inline int8_t *engine_bytes(const bulla_engine *engine, uint32_t operation, uint32_t row)
{
    const struct place *place = &engine->plan.places[operation];
    return (int8_t *)engine->activations + place->offset + row * place->stride;
}

static inline int64_t *engine_scales(const bulla_engine *engine, uint32_t operation)
{
    return (int64_t *)(void *)(engine->activations + engine->plan.places[operation].scales);
}

static inline int32_t *engine_head_scales(const bulla_engine *engine, uint32_t operation)
{
    return (int32_t *)(void *)(engine->activations + engine->plan.places[operation].scales);
}

/* A head's part of the page that holds block `block` of a sequence. */
static inline uint8_t *engine_head_page(const bulla_engine *engine, const bulla_sequence *sequence, uint32_t operation,
                                        uint64_t block, uint32_t head)
{
    const struct place *place = &engine->plan.places[operation];
    return engine->pool.memory + sequence->pages[block] * engine->pool.page_bytes + place->page_offset +
           head * place->head_bytes;
}

/* A thread's part of the heads of operations that are by the head: {0, 1} is all. */
struct slice {
    unsigned number, count;
};
/* Row operations at rows [begin, end), in this order at each row (rows.c). */
void rows_run(bulla_engine *engine, const uint32_t *operations, uint32_t count, uint32_t begin, uint32_t end,
              struct slice slice, void *scratch);
/* quant or norm_quant at one row; 1 for RANGE. */
int quantise_run(bulla_engine *engine, uint32_t operation, uint32_t row, int8_t *q, int64_t *s, void *scratch);
/* `n` elements of an element-wise operation (gate, add, softcap); 1 for RANGE. */
int elements_run(const bulla_engine *engine, const bulla_operation *operation, const int32_t *x, const int32_t *y,
                 uint32_t n, int32_t *result);
/* A stage of linear operations (linear.c); attention of a stage (attend.c). */
void linear_run(bulla_engine *engine, uint32_t stage, unsigned thread);
void attend_run(bulla_engine *engine, uint32_t stage, unsigned thread);
size_t attend_area_bytes(const struct plan *plan, uint64_t blocks);

#endif
