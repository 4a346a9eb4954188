/* Inside the step verifier: how an element's function reads what it follows from. The same functions run at the referee
 * (check/step_verify.c: reads come from an opening) and at the parties (check/trace_expand.c: from memory), so what a step
 * reads is said once. */
#ifndef CHECK_STEP_INTERNAL_H
#define CHECK_STEP_INTERNAL_H

#include "check/step.h"

enum step_source_kind { STEP_SOURCE_ARRAY, STEP_SOURCE_RESULT, STEP_SOURCE_TENSOR, STEP_SOURCE_ALLOWED };

/* Where a read goes. */
struct step_source {
    enum step_source_kind kind;
    uint32_t operation; /* RESULT */
    uint32_t array;     /* ARRAY, RESULT: the array's number; TENSOR: the tensor's */
    uint64_t position;  /* RESULT */
};

/* One element at work. The first status that is not STEP_HOLDS stays, and reads after it give zeros. */
struct step {
    const struct step_program *program;
    const struct step_answer *answer;
    const bulla_operation *o; /* NULL: sampling */
    uint32_t operation;
    uint64_t position;
    int status;               /* enum step_verdict */
    struct hash_stream *stream;
    /* `count` <= STEP_MOST_READ elements from `first`; 0 where they are there. */
    int (*read)(void *context, const struct step *step, const struct step_source *source, uint64_t first,
                uint32_t count, int64_t *values);
    void *context;
};

/* A little-endian number of 1 to 8 bytes. */
int64_t step_number(const uint8_t *bytes, unsigned width, int is_signed);

/* What an element follows to be; `array` and `index` exist. Look at step->status afterwards. */
int64_t step_element(struct step *step, uint32_t array, uint64_t index);

/* What a kind of operation is made of here. */
struct step_kind {
    uint32_t arrays;
    uint8_t bytes, scale; /* results: the vector or the bytes, and their scales (equal where there is but one) */
    void (*shape)(const struct step *step, uint32_t array, struct step_array *shape);
    int64_t (*element)(struct step *step, uint32_t array, uint64_t index);
};
const struct step_kind *step_kind(int kind); /* 0: sampling */
extern const struct step_kind step_kind_quantise, step_kind_value, step_kind_norm, step_kind_linear, step_kind_embed,
    step_kind_rope, step_kind_gate, step_kind_add, step_kind_softcap, step_kind_attend, step_kind_sampling;

/* Result roots in the border of a group, of its operations before `end`. */
uint32_t step_border_roots(const struct step_program *program, uint32_t group, uint32_t end);

/* Reads of elements; zeros after a failure. */
void step_read(struct step *step, const struct step_source *source, uint64_t first, uint32_t count, int64_t *values);
void step_read_array(struct step *step, uint32_t array, uint64_t first, uint32_t count, int64_t *values);
int64_t step_array_element(struct step *step, uint32_t array, uint64_t index);
/* The same of the operation's input `slot` at a position: its vector or bytes, its scales. */
void step_read_bytes(struct step *step, int slot, uint64_t position, uint64_t first, uint32_t count, int64_t *values);
int64_t step_input(struct step *step, int slot, uint64_t index); /* of the own position */
int64_t step_scale(struct step *step, int slot, uint64_t position, uint64_t index);
void step_read_tensor(struct step *step, int role, uint64_t first, uint32_t count, int64_t *values);
int64_t step_tensor(struct step *step, int role, uint64_t index);
int64_t step_table(struct step *step, int table, uint64_t index); /* tensors 0 to 3 */
/* EXPn[D] with the mantissa read from its table, unless D has `bits` octaves. */
int64_t step_exp(struct step *step, int table, int bits, int64_t D);
/* A table's A[i] + RS((A[i+1] - A[i]) * f, bits) */
int64_t step_interpolate(struct step *step, int64_t i, int64_t f, int bits);
int64_t step_softcap(struct step *step, int64_t z);

/* `value` if it lies in [low, high]; else STEP_NO_OPERAND and `low`. */
int64_t step_bounded(struct step *step, int64_t value, int64_t low, int64_t high);
/* The step ends with this status, if it has none. Returns 0. */
int64_t step_end(struct step *step, int status);
/* `value` if it is within (-2^31, 2^31); else RANGE. */
int64_t step_fits(struct step *step, int64_t value);

/* Chunk c of `size` elements: how many elements it has. */
uint32_t step_chunk(uint64_t size, uint64_t c, uint32_t chunk);
uint64_t step_chunks(uint64_t size, uint32_t chunk);

#endif
