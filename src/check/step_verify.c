/* docs/dispute-trace.md, "Openings": an element's function with its reads taken from an opening, each proved. */
#include <string.h>

#include "check/step_internal.h"

enum { BLOCK_TAG = 1, CELL_TAG = 2, LEAF = 1024 }; /* LEAF: bytes of a leaf under the model root */

static const uint8_t empty_root[MERKLE_HASH];

/* An opening under way. */
struct opening {
    const uint8_t *bytes;
    size_t length, at;
    struct hash_stream *stream;
    const struct step_claim *claim;
    /* The other cell that was opened last: its border's roots. */
    const uint8_t *border;
    uint64_t border_cell;
};

static const uint8_t *take(struct opening *opening, uint64_t length)
{
    if (length > opening->length - opening->at)
        return NULL;
    const uint8_t *bytes = opening->bytes + opening->at;
    opening->at += length;
    return bytes;
}

/* Consecutive leaves of `size` bytes (of `total` bytes in all) that hold bytes [first, end), with their proof; the bytes
 * from the first leaf's start on. */
static const uint8_t *take_leaves(struct opening *opening, int tag, uint64_t size, uint64_t first, uint64_t end,
                                  uint64_t total, const uint8_t *root)
{
    uint64_t begin = first / size, last = (end - 1) / size, leaves = (total + size - 1) / size, count = last - begin + 1;
    uint8_t hashes[MERKLE_RANGE_LEAVES + 2][MERKLE_HASH];
    if (end > total || count > MERKLE_RANGE_LEAVES)
        return NULL;
    uint64_t stop = (last + 1) * size < total ? (last + 1) * size : total;
    const uint8_t *bytes = take(opening, stop - begin * size);
    const uint8_t *proof = take(opening, (uint64_t)merkle_range_length(begin, count, leaves) * MERKLE_HASH);
    if (!bytes || !proof)
        return NULL;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t from = (begin + i) * size, left = stop - from;
        if (merkle_range_leaf(opening->stream, tag, bytes + i * size, left < size ? left : size, hashes[i]))
            return NULL;
    }
    return merkle_range_verify(opening->stream, hashes, begin, count, leaves, proof, root) ? bytes : NULL;
}

/* Elements of an array with this root. */
static int read_array(struct opening *opening, const struct step_array *shape, const uint8_t *root, uint64_t first,
                      uint32_t count, int64_t *values)
{
    if (!root || first >= shape->count || count > shape->count - first)
        return 1;
    const uint8_t *bytes = take_leaves(opening, BLOCK_TAG, STEP_BLOCK, first * shape->width, (first + count) * shape->width,
                                       shape->count * shape->width, root);
    uint64_t before = first * shape->width / STEP_BLOCK * STEP_BLOCK / shape->width;
    for (uint32_t i = 0; bytes && i < count; i++)
        values[i] = step_block_element(shape, bytes, (uint32_t)(first - before) + i);
    return !bytes;
}

/* Another cell's border, proved unless it was the last one. */
static int open_cell(struct opening *opening, const struct step *step, uint32_t group, uint64_t position)
{
    uint64_t cell = (uint64_t)group * step_answer_positions(step->answer) + position;
    if (opening->border && opening->border_cell == cell)
        return 0;
    uint64_t cells = step_cells(step->program, step->answer);
    uint64_t length = (uint64_t)step_border_roots(step->program, group, UINT32_MAX) * MERKLE_HASH;
    uint8_t leaf[3][MERKLE_HASH];
    const uint8_t *border = take(opening, length);
    const uint8_t *proof = take(opening, (uint64_t)merkle_range_length(cell, 1, cells) * MERKLE_HASH);
    if (!border || !proof || step_cell_leaf(opening->stream, border, length, leaf[0]) ||
        !merkle_range_verify(opening->stream, leaf, cell, 1, cells, proof, opening->claim->trace_root))
        return 1;
    opening->border = border;
    opening->border_cell = cell;
    return 0;
}

static int read_result(struct opening *opening, const struct step *step, const struct step_source *source,
                       uint64_t first, uint32_t count, int64_t *values)
{
    const struct step_program *program = step->program;
    const struct step_operation *operation = &program->operations[source->operation];
    struct step_array shape = step_array_shape(program, step->answer, source->operation, source->position, source->array);
    if (!step_is_evaluated(program, step->answer, source->operation, source->position))
        return 1;
    const uint8_t *root;
    if (operation->group == opening->claim->cell.group && source->position == step->position)
        root = step_cell_root(program, &opening->claim->cell, source->operation, source->array);
    else {
        const struct step_kind *kind = step_kind(program->program.operations[source->operation].kind);
        uint32_t lowest = kind->bytes < kind->scale ? kind->bytes : kind->scale;
        if (!operation->is_border || open_cell(opening, step, operation->group, source->position))
            return 1;
        uint32_t before = step_border_roots(program, operation->group, source->operation);
        root = opening->border + (before + (source->array != lowest)) * MERKLE_HASH;
    }
    return read_array(opening, &shape, root, first, count, values);
}

static int read_tensor(struct opening *opening, const struct step_program *program, uint32_t number, uint64_t first,
                       uint32_t count, int64_t *values)
{
    const bulla_tensor *tensor = &program->program.tensors[number];
    uint32_t size = bulla_dtype_size(tensor->dtype);
    if (first > tensor->bytes / size || count > tensor->bytes / size - first)
        return 1;
    uint64_t begin = tensor->offset + first * size, end = begin + (uint64_t)count * size;
    int is_signed = tensor->dtype == BULLA_I8 || tensor->dtype == BULLA_I16 || tensor->dtype == BULLA_I32;
    const uint8_t *bytes = take_leaves(opening, -1, LEAF, begin, end, program->region_length, program->model_root);
    for (uint32_t i = 0; bytes && i < count; i++)
        values[i] = step_number(bytes + begin % LEAF + (uint64_t)i * size, size, is_signed);
    return !bytes;
}

static int read_piece(void *context, const struct step *step, const struct step_source *source, uint64_t first,
                      uint32_t count, int64_t *values)
{
    struct opening *opening = context;
    switch (source->kind) {
    case STEP_SOURCE_ARRAY: {
        struct step_array shape = step_array_shape(step->program, step->answer, step->operation, step->position,
                                                   source->array);
        const uint8_t *root = step_cell_root(step->program, &opening->claim->cell, step->operation, source->array);
        return read_array(opening, &shape, root, first, count, values);
    }
    case STEP_SOURCE_RESULT:
        return read_result(opening, step, source, first, count, values);
    case STEP_SOURCE_TENSOR:
        return read_tensor(opening, step->program, source->array, first, count, values);
    default: {
        const struct step_array shape = {.count = (step->program->program.vocabulary + 7) / 8, .width = 1};
        const uint8_t *root = step->answer->allowed[step->position + 1 - step->answer->prompt_count];
        return read_array(opening, &shape, root, first, count, values);
    }
    }
}

int step_cell_leaf(struct hash_stream *stream, const uint8_t *roots, size_t length, uint8_t leaf[MERKLE_HASH])
{
    return merkle_range_leaf(stream, CELL_TAG, roots, length, leaf);
}

static uint32_t arrays_of(const struct step_program *program, uint32_t group)
{
    uint32_t begin, end;
    step_group(program, group, &begin, &end);
    return begin == end ? 0 : program->operations[end - 1].first_array + step_array_count(program, end - 1);
}

size_t step_cell_length(const struct step_program *program, const struct step_answer *answer, uint32_t group)
{
    int has_witnesses = group == program->groups - 1 && answer->sampling->temperature;
    return (size_t)arrays_of(program, group) * MERKLE_HASH + (has_witnesses ? STEP_WITNESSES * 8 : 0);
}

const uint8_t *step_cell_root(const struct step_program *program, const struct step_cell *cell, uint32_t operation,
                              uint32_t array)
{
    if (operation > program->program.operation_count || program->operations[operation].group != cell->group ||
        array >= step_array_count(program, operation))
        return NULL;
    size_t at = (size_t)(program->operations[operation].first_array + array) * MERKLE_HASH;
    return at + MERKLE_HASH <= cell->length ? cell->message + at : NULL;
}

static int is_claimed_range(const struct step_answer *answer, const struct step_cell *cell, uint32_t operation)
{
    return cell->is_range && answer->has_range && operation == answer->range_operation &&
           cell->position == answer->range_position;
}

/* An operation's arrays: empty ones have the empty root, witnesses their scalars'. */
static int check_operation(const struct step_program *program, const struct step_answer *answer,
                           struct hash_stream *stream, const struct step_cell *cell, uint32_t operation)
{
    int is_there = step_is_evaluated(program, answer, operation, cell->position) || is_claimed_range(answer, cell, operation);
    const uint8_t *witness = cell->message + cell->length - STEP_WITNESSES * 8;
    for (uint32_t array = 0; array < step_array_count(program, operation); array++) {
        struct step_array shape = step_array_shape(program, answer, operation, cell->position, array);
        const uint8_t *root = step_cell_root(program, cell, operation, array);
        if ((!is_there || shape.count == 0) && memcmp(root, empty_root, MERKLE_HASH) != 0)
            return 0;
        if (is_there && shape.is_witness && shape.count) {
            if (!step_check_block(stream, &shape, 0, witness, STEP_WITNESSES * 8 / 2, root))
                return 0;
            witness += STEP_WITNESSES * 8 / 2;
        }
    }
    return 1;
}

int step_check_arrays(const struct step_program *program, const struct step_answer *answer, struct hash_stream *stream,
                      const struct step_cell *cell, const uint8_t leaf[MERKLE_HASH])
{
    if (cell->group >= program->groups || cell->position >= step_answer_positions(answer) ||
        cell->length != step_cell_length(program, answer, cell->group))
        return 0;
    uint8_t border[STEP_MOST_ARRAYS * MERKLE_HASH], own[MERKLE_HASH];
    size_t length = 0;
    uint32_t begin, end;
    step_group(program, cell->group, &begin, &end);
    for (uint32_t i = begin; i < end; i++) {
        if (!check_operation(program, answer, stream, cell, i))
            return 0;
        for (uint32_t array = 0; program->operations[i].is_border && array < step_array_count(program, i); array++)
            if (step_array_shape(program, answer, i, cell->position, array).is_result) {
                int is_there = step_is_evaluated(program, answer, i, cell->position);
                memcpy(border + length, is_there ? step_cell_root(program, cell, i, array) : empty_root, MERKLE_HASH);
                length += MERKLE_HASH;
            }
    }
    return step_cell_leaf(stream, border, length, own) == BULLA_OK && memcmp(own, leaf, MERKLE_HASH) == 0;
}

int step_check_block(struct hash_stream *stream, const struct step_array *array, uint64_t block, const uint8_t *bytes,
                     size_t length, const uint8_t hash[MERKLE_HASH])
{
    uint8_t own[MERKLE_HASH];
    uint64_t total = array->count * array->width;
    if (block >= step_array_blocks(array))
        return 0;
    uint64_t left = total - block * STEP_BLOCK;
    return length == (left < STEP_BLOCK ? left : STEP_BLOCK) &&
           merkle_range_leaf(stream, BLOCK_TAG, bytes, length, own) == BULLA_OK && memcmp(own, hash, MERKLE_HASH) == 0;
}

enum step_verdict step_verify(const struct step_program *program, const struct step_answer *answer,
                              struct hash_stream *stream, const struct step_claim *claim, const uint8_t *bytes,
                              size_t length)
{
    const struct step_cell *cell = &claim->cell;
    if (claim->operation > program->program.operation_count ||
        program->operations[claim->operation].group != cell->group ||
        !(step_is_evaluated(program, answer, claim->operation, cell->position) ||
          is_claimed_range(answer, cell, claim->operation)))
        return STEP_NOT_A_STEP;
    struct step_array shape = step_array_shape(program, answer, claim->operation, cell->position, claim->array);
    int is_range = is_claimed_range(answer, cell, claim->operation), is_named = 0;
    if (is_range) {
        is_named = claim->array == cell->range_array && claim->index == cell->range_index;
        if (claim->array > cell->range_array || (claim->array == cell->range_array && claim->index > cell->range_index))
            return STEP_NOT_A_STEP;
        if (is_named && claim->index >= shape.count)
            return STEP_DIFFERS; /* named by the proposer */
    }
    if (claim->index >= shape.count || (shape.is_witness && !is_named))
        return STEP_NOT_A_STEP;
    if (shape.is_witness)
        return STEP_DIFFERS;
    if (length > STEP_MESSAGE)
        return STEP_UNPROVED;
    struct opening opening = {.bytes = bytes, .length = length, .stream = stream, .claim = claim};
    int is_sampling = claim->operation == program->program.operation_count;
    struct step step = {.program = program, .answer = answer, .operation = claim->operation, .position = cell->position,
                        .o = is_sampling ? NULL : &program->program.operations[claim->operation],
                        .stream = stream, .read = read_piece, .context = &opening};
    int64_t value = step_element(&step, claim->array, claim->index);
    if (opening.at != length) /* bytes that nothing asked for */
        return STEP_UNPROVED;
    if (is_named)
        return step.status == STEP_RANGE ? STEP_HOLDS : step.status == STEP_HOLDS ? STEP_DIFFERS : step.status;
    return step.status != STEP_HOLDS ? (enum step_verdict)step.status : value == claim->value ? STEP_HOLDS : STEP_DIFFERS;
}
