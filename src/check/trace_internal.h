/* Inside the parties' side of a dispute. */
#ifndef CHECK_TRACE_INTERNAL_H
#define CHECK_TRACE_INTERNAL_H

#include "base/threads.h"
#include "check/step_internal.h"
#include "check/trace.h"

/* Room for a tree over `count` leaves; their hashes go to levels->hashes, then merkle_levels_build. */
int merkle_levels_open(struct merkle_levels *levels, uint64_t count, bulla_error *error);
int merkle_levels_build(struct merkle_levels *levels, struct hash_stream *stream);
void merkle_levels_free(struct merkle_levels *levels);
void merkle_levels_root(const struct merkle_levels *levels, uint8_t root[MERKLE_HASH]);
/* The proof of leaves first .. first + count - 1: at most 2 * 64 hashes; their number. */
unsigned merkle_levels_proof(const struct merkle_levels *levels, uint64_t first, uint64_t count,
                             uint8_t (*proof)[MERKLE_HASH]);
/* A tree over an array's bytes in blocks, and only its root. */
int merkle_levels_array(struct merkle_levels *levels, const void *bytes, uint64_t length, struct hash_stream *stream,
                        bulla_error *error);
int merkle_array_root(struct hash_stream *stream, const void *bytes, uint64_t length, uint8_t root[MERKLE_HASH]);

/* What an operation gave at positions base .. base + rows - 1. */
struct trace_value {
    struct import_value v;
    uint64_t base, rows;
};

/* An array of the expanded cell. */
struct trace_cell_array {
    struct step_array shape;
    uint8_t *bytes;
    struct trace_tree tree;
    uint64_t first_bad; /* element; UINT64_MAX: none */
    int bad_status;
};

struct trace {
    const struct trace_model *model;
    struct step_program program;
    struct step_answer answer;
    struct trace_options options;
    uint64_t positions;
    struct hash_stream *stream;
    bulla_sampler *sampler;
    uint8_t **borders;        /* [groups]: [positions][roots of the border] hashes */
    uint32_t *border_roots;   /* [groups] */
    uint32_t *last_use;       /* [operation_count]: the last operation that reads it */
    struct trace_tree cells;
    int has_range;
    uint64_t range_position;
    uint32_t range_operation;
    struct trace_value *values; /* [operation_count]: of the expanded cell's group, and what it reads */
    uint32_t kept_group;        /* that group; UINT32_MAX: none */
    struct step_cell cell;      /* the expanded one */
    int is_expanded;            /* it is there, with the own witness scalars */
    uint8_t *message;
    int64_t witnesses[STEP_WITNESSES];
    struct trace_cell_array *arrays; /* [STEP_MOST_ARRAYS] by first_array + array */
};

/* Runs groups 0 .. last - 1 over all positions; values that operations of group `keep` read or give stay in
 * trace->values (UINT32_MAX: none). `collect`: borders are hashed, ranges noted. */
int trace_run_groups(struct trace *trace, uint32_t last, uint32_t keep, int collect, bulla_error *error);
/* Runs a group for positions first .. first + rows - 1 out of trace->values, into them. */
int trace_run_group(struct trace *trace, uint32_t group, uint64_t first, uint64_t rows, uint32_t keep, int collect,
                    bulla_error *error);
/* Whether a group can be run for some positions alone. */
int trace_is_sliceable(const struct trace *trace, uint32_t group);
void trace_free_values(struct trace *trace);

/* Elements out of trace->values; 0 where they are there. */
int trace_read_value(const struct trace *trace, const struct step_source *source, uint64_t first, uint32_t count,
                     int64_t *values);
/* The same of any source of a step; `arrays` are its operation's. */
int trace_read_memory(const struct trace *trace, const struct trace_cell_array *arrays, const struct step *step,
                      const struct step_source *source, uint64_t first, uint32_t count, int64_t *values);
/* An operation's arrays at a position out of trace->values. `arrays` has room for the operation's; free with
 * trace_free_arrays. `witnesses` NULL: the own. `values_stay`: its result is compared with trace->values, else written
 * there. */
int trace_expand_operation(struct trace *trace, uint32_t operation, uint64_t position, const int64_t *witnesses,
                           int values_stay, struct trace_cell_array *arrays, bulla_error *error);
void trace_free_arrays(struct trace_cell_array *arrays, uint32_t count);
/* The own witness scalars of cut 0 (top_k) or 1 (top_p), out of w. */
int trace_find_cut(const struct trace *trace, const struct trace_cell_array *arrays, int cut, int64_t witness[2],
                   bulla_error *error);

#endif
