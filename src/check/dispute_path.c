#include "check/dispute_path.h"

#include <string.h>

static enum path_result proposer_loses(struct dispute_path *path, const char *why)
{
    path->why = why;
    return PATH_PROPOSER_LOSES;
}

static enum path_result challenger_loses(struct dispute_path *path, const char *why)
{
    path->why = why;
    return PATH_CHALLENGER_LOSES;
}

int path_open(struct dispute_path *path, const struct dispute_facts *given, struct arena *arena, bulla_error *error)
{
    *path = (struct dispute_path){.program = *given->program, .given = given};
    struct step_operation *operations = arena_alloc(arena, path->program.program.operation_count + 1, sizeof *operations, error);
    uint64_t *lowest = arena_alloc(arena, path->program.program.operation_count + 1, sizeof *lowest, error);
    path->tokens = arena_alloc(arena, given->token_count + 1, sizeof *path->tokens, error);
    if (!operations || !lowest || !path->tokens)
        return BULLA_E_MEMORY;
    if (given->prompt_count == 0 || (given->token_count == given->prompt_count && !given->expects_end && !given->expects_range))
        return bulla_fail(error, BULLA_E_INPUT, "no token was drawn: there is nothing to dispute");
    memcpy(path->tokens, given->tokens, given->token_count * sizeof *path->tokens);
    path->answer = (struct step_answer){.tokens = path->tokens, .token_count = given->token_count,
        .prompt_count = given->prompt_count, .sampling = &given->sampling, .allowed = given->allowed_roots};
    path->stream = hash_stream_open(error);
    if (!path->stream)
        return BULLA_E_MEMORY;
    int code = step_program_open(&path->program, given->prompt_count - 1, operations, lowest, error);
    if (code != BULLA_OK)
        path_close(path);
    return code;
}

void path_close(struct dispute_path *path)
{
    hash_stream_close(path->stream);
    path->stream = NULL;
}

int path_is_proposers(const struct dispute_path *path)
{
    return path->stage != PATH_NODE && path->stage != PATH_ARRAY && path->stage != PATH_ELEMENT;
}

/* ---- The proposer's ---- */

static enum path_result take_hashes(struct dispute_path *path, const struct json *body)
{
    size_t length = 0;
    bisection_reveal(path->leaves, path->round, path->node, &path->first, &path->count);
    if (!dispute_get_bytes(body, "hashes", path->bytes, sizeof path->bytes, &length) ||
        length != (size_t)path->count * MERKLE_HASH)
        return proposer_loses(path, "the proposer did not reveal what was asked for");
    memcpy(path->hashes, path->bytes, length);
    if (path->count && !bisection_children(path->stream, (const uint8_t (*)[MERKLE_HASH])path->hashes, path->count, path->node_hash))
        return proposer_loses(path, "what the proposer revealed does not give what it committed to");
    path->stage = PATH_NODE;
    return PATH_GOES_ON;
}

/* How the answer ended, as far as the receipt does not say it. */
static int take_ending(struct dispute_path *path, const struct json *body)
{
    const struct dispute_facts *given = path->given;
    struct step_answer *answer = &path->answer;
    const struct json *end = json_get(body, "end"), *range = json_get(body, "range");
    uint64_t token;
    if (!end || !range || json_is(end, JSON_NULL) == given->expects_end || json_is(range, JSON_NULL) == given->expects_range)
        return 0;
    if (given->expects_end) {
        size_t i = 0;
        if (!dispute_get_number(body, "end", UINT32_MAX, &token))
            return 0;
        while (i < given->end_count && given->ends[i] != token)
            i++;
        if (i == given->end_count)
            return 0;
        path->tokens[answer->token_count++] = (uint32_t)token;
    }
    if (given->expects_range) {
        if (!json_is(range, JSON_ARRAY) || range->length != 2)
            return 0;
        for (int i = 0; i < 2; i++) {
            const struct json *value = range->items[i];
            if (!json_is(value, JSON_NUMBER) || !value->is_integer || value->integer < 0 || value->integer > UINT32_MAX)
                return 0;
        }
        answer->has_range = 1;
        answer->range_position = (uint32_t)range->items[0]->integer;
        answer->range_operation = (uint32_t)range->items[1]->integer;
    }
    return step_answer_check(&path->program, answer, NULL) == BULLA_OK;
}

static enum path_result take_claim(struct dispute_path *path, const struct json *body)
{
    if (!take_ending(path, body) || !dispute_get_hash(body, "root", path->claim.trace_root))
        return proposer_loses(path, "the proposer's claim is none, or does not end as the receipt says");
    path->leaves = step_cells(&path->program, &path->answer);
    memcpy(path->node_hash, path->claim.trace_root, MERKLE_HASH);
    path->rounds--; /* it comes with the claim */
    path->rounds += bisection_rounds(path->leaves) > 0;
    return take_hashes(path, body);
}

static enum path_result take_arrays(struct dispute_path *path, const struct json *body)
{
    struct step_cell *cell = &path->claim.cell;
    uint64_t positions = step_answer_positions(&path->answer), index[2] = {0};
    *cell = (struct step_cell){.group = (uint32_t)(path->node / positions), .position = path->node % positions,
                               .message = path->arrays, .is_range = path->wants_range};
    if (!dispute_get_bytes(body, "arrays", path->arrays, sizeof path->arrays, &cell->length) || cell->length > STEP_MESSAGE)
        return proposer_loses(path, "the proposer did not say the cell's arrays");
    if (cell->is_range) {
        if (!dispute_get_number(body, "array", UINT64_C(1) << 32, &index[0]) ||
            !dispute_get_number(body, "index", UINT64_C(1) << 53, &index[1]))
            return proposer_loses(path, "the proposer named no element that leaves its bound");
        cell->range_array = (uint32_t)index[0];
        cell->range_index = index[1];
    }
    if (!step_check_arrays(&path->program, &path->answer, path->stream, cell, path->node_hash))
        return proposer_loses(path, "the cell's arrays do not give what the proposer committed to");
    path->stage = PATH_ARRAY;
    return PATH_GOES_ON;
}

static struct step_array shape_of(const struct dispute_path *path)
{
    return step_array_shape(&path->program, &path->answer, path->claim.operation, path->claim.cell.position, path->claim.array);
}

static enum path_result take_block(struct dispute_path *path, const struct json *body)
{
    struct step_array shape = shape_of(path);
    if (!dispute_get_bytes(body, "block", path->bytes, STEP_BLOCK + 4, &path->length) ||
        !step_check_block(path->stream, &shape, path->node, path->bytes, path->length, path->node_hash))
        return proposer_loses(path, "the block is not what the proposer committed to");
    path->stage = PATH_ELEMENT;
    return PATH_GOES_ON;
}

static const char *const verdicts[] = {
    [STEP_HOLDS] = "the disputed element is what it follows to be",
    [STEP_NOT_A_STEP] = "the challenger disputed no element",
    [STEP_DIFFERS] = "the disputed element follows to be another",
    [STEP_RANGE] = "the disputed element leaves its bound",
    [STEP_FAILS] = "a check of the disputed element fails",
    [STEP_UNPROVED] = "the opening does not lead to what was committed to",
    [STEP_NO_OPERAND] = "an operand of the disputed element is one that no run has"};

static enum path_result take_opening(struct dispute_path *path, const struct json *body)
{
    if (!dispute_get_bytes(body, "opening", path->bytes, sizeof path->bytes, &path->length) || path->length > STEP_MESSAGE)
        return proposer_loses(path, "the proposer did not open the step");
    path->verdict = step_verify(&path->program, &path->answer, path->stream, &path->claim, path->bytes, path->length);
    int is_challengers = path->verdict == STEP_HOLDS || path->verdict == STEP_NOT_A_STEP;
    return is_challengers ? challenger_loses(path, verdicts[path->verdict]) : proposer_loses(path, verdicts[path->verdict]);
}

/* ---- The challenger's ---- */

/* Number `i` of the list "at". */
static int get_at(const struct json *body, size_t i, size_t length, uint64_t *number)
{
    const struct json *at = json_get(body, "at");
    if (!json_is(at, JSON_ARRAY) || at->length != length || !json_is(at->items[i], JSON_NUMBER) ||
        !at->items[i]->is_integer || at->items[i]->integer < 0)
        return 0;
    *number = (uint64_t)at->items[i]->integer;
    return 1;
}

static int is_range_cell(const struct dispute_path *path, uint64_t cell)
{
    uint64_t positions = step_answer_positions(&path->answer);
    return path->answer.has_range && cell % positions == path->answer.range_position &&
           cell / positions == path->program.operations[path->answer.range_operation].group;
}

static enum path_result take_node(struct dispute_path *path, const struct json *body)
{
    unsigned rounds = bisection_rounds(path->leaves);
    uint64_t node;
    int is_last = path->round + 1 >= rounds, wants_range = json_is(json_get(body, "range"), JSON_TRUE);
    if (!get_at(body, 0, 1, &node) || node < path->first || (rounds == 0 ? node > 0 : node - path->first >= path->count))
        return challenger_loses(path, "the challenger chose no node that was revealed");
    if (wants_range && (path->is_array || !is_last || !is_range_cell(path, node)))
        return challenger_loses(path, "the challenger asked for a range where none is claimed");
    if (rounds)
        memcpy(path->node_hash, path->hashes[node - path->first], MERKLE_HASH);
    path->node = node;
    path->wants_range |= wants_range;
    path->round++;
    path->stage = !is_last ? PATH_REVEAL : path->is_array ? PATH_BLOCK : PATH_ARRAYS;
    return PATH_GOES_ON;
}

/* The element that the proposer named in a range cell, whose opening is asked for at once. */
static enum path_result take_named(struct dispute_path *path)
{
    if (!path->claim.cell.is_range)
        return challenger_loses(path, "the challenger asked for a range where none is claimed");
    path->claim.operation = path->answer.range_operation;
    path->claim.array = path->claim.cell.range_array;
    path->claim.index = path->claim.cell.range_index;
    path->stage = PATH_OPENING;
    return PATH_GOES_ON;
}

static enum path_result take_array(struct dispute_path *path, const struct json *body)
{
    const struct step_cell *cell = &path->claim.cell;
    uint64_t operation, array;
    uint32_t begin, end;
    if (json_is(json_get(body, "range"), JSON_TRUE))
        return take_named(path);
    step_group(&path->program, cell->group, &begin, &end);
    int is_there = get_at(body, 0, 2, &operation) && get_at(body, 1, 2, &array) && operation >= begin && operation < end &&
                   array < step_array_count(&path->program, (uint32_t)operation);
    if (!is_there || !(step_is_evaluated(&path->program, &path->answer, (uint32_t)operation, cell->position) ||
                       (cell->is_range && operation == path->answer.range_operation)))
        return challenger_loses(path, "the challenger chose no array of the cell");
    path->claim.operation = (uint32_t)operation;
    path->claim.array = (uint32_t)array;
    struct step_array shape = shape_of(path);
    if (shape.count == 0 || shape.is_witness)
        return challenger_loses(path, "the challenger chose an array that cannot be disputed");
    path->is_array = 1;
    path->leaves = step_array_blocks(&shape);
    path->round = 0;
    path->node = 0;
    memcpy(path->node_hash, step_cell_root(&path->program, cell, path->claim.operation, path->claim.array), MERKLE_HASH);
    path->stage = bisection_rounds(path->leaves) ? PATH_REVEAL : PATH_BLOCK;
    return PATH_GOES_ON;
}

static enum path_result take_element(struct dispute_path *path, const struct json *body)
{
    struct step_array shape = shape_of(path);
    uint64_t index, first = path->node * (STEP_BLOCK / shape.width);
    if (!get_at(body, 0, 1, &index) || index < first || index - first >= path->length / shape.width)
        return challenger_loses(path, "the challenger chose no element of the block");
    path->claim.index = index;
    path->claim.value = step_block_element(&shape, path->bytes, (uint32_t)(index - first));
    path->stage = PATH_OPENING;
    return PATH_GOES_ON;
}

enum path_result path_take(struct dispute_path *path, enum dispute_kind kind, const struct json *body)
{
    static const struct {
        enum dispute_kind kind;
        enum path_result (*take)(struct dispute_path *path, const struct json *body);
    } stages[] = {[PATH_CLAIM] = {DISPUTE_CLAIM, take_claim},    [PATH_NODE] = {DISPUTE_CHOICE, take_node},
                  [PATH_REVEAL] = {DISPUTE_REVEAL, take_hashes}, [PATH_ARRAYS] = {DISPUTE_ARRAYS, take_arrays},
                  [PATH_ARRAY] = {DISPUTE_CHOICE, take_array},   [PATH_BLOCK] = {DISPUTE_BLOCK, take_block},
                  [PATH_ELEMENT] = {DISPUTE_CHOICE, take_element}, [PATH_OPENING] = {DISPUTE_OPENING, take_opening}};
    int is_proposers = path_is_proposers(path);
    if (!is_proposers && kind == DISPUTE_WITHDRAWAL)
        return challenger_loses(path, "the challenger withdrew");
    if (kind != stages[path->stage].kind)
        return is_proposers ? proposer_loses(path, "the proposer did not send what was its turn")
                            : challenger_loses(path, "the challenger did not send what was its turn");
    path->rounds += (unsigned)is_proposers;
    return stages[path->stage].take(path, body);
}
