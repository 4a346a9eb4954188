#include "check/party.h"

#include <string.h>

#include "base/memory.h"

struct party {
    struct party_options options;
    const struct dispute_facts *given;
    uint8_t answer[DISPUTE_HASH], key[DISPUTE_KEY], challenger[DISPUTE_KEY], dispute[DISPUTE_HASH], last[DISPUTE_HASH];
    uint32_t choice;
    uint64_t number;
    struct arena arena;
    struct dispute_path path;
    enum path_result result;
    struct party_trace own, *run; /* run: the own one or the shared one */
    int is_witnessed;             /* the challenger's trace is expanded under the proposer's witness scalars */
};

void party_trace_close(struct party_trace *shared)
{
    trace_close(shared->trace);
    memory_free(shared->tokens);
    *shared = (struct party_trace){0};
}

int party_open(const struct party_options *options, const struct dispute_facts *given, const uint8_t answer[DISPUTE_HASH],
               uint32_t choice, struct party **result, bulla_error *error)
{
    struct party *party = memory_alloc(1, sizeof *party, error);
    *result = NULL;
    if (!party)
        return BULLA_E_MEMORY;
    party->options = *options;
    party->run = options->shared ? options->shared : &party->own;
    party->given = given;
    party->choice = choice;
    memcpy(party->answer, answer, DISPUTE_HASH);
    int code = dispute_public_key(options->key, party->key, error);
    if (code == BULLA_OK)
        code = path_open(&party->path, given, &party->arena, error);
    if (code == BULLA_OK)
        *result = party;
    else
        party_close(party);
    return code;
}

void party_close(struct party *party)
{
    if (!party)
        return;
    party_trace_close(&party->own);
    path_close(&party->path);
    arena_free(&party->arena);
    memory_free(party);
}

uint64_t party_number(const struct party *party)
{
    return party->number;
}

enum path_result party_result(const struct party *party, const char **why)
{
    if (why)
        *why = party->path.why;
    return party->result;
}

const struct dispute_path *party_path(const struct party *party)
{
    return &party->path;
}

int party_take(struct party *party, const void *bytes, size_t length, bulla_error *error)
{
    struct arena arena = {0};
    struct dispute_message message;
    int code = dispute_message_read(bytes, length, &arena, &message, error);
    if (code == BULLA_OK && party->number == 0) {
        if (message.kind != DISPUTE_CHALLENGE || message.number)
            code = bulla_fail(error, BULLA_E_INPUT, "the dispute's first message is no challenge");
        memcpy(party->challenger, message.key, DISPUTE_KEY);
        memcpy(party->dispute, message.dispute, DISPUTE_HASH);
    } else if (code == BULLA_OK) {
        const uint8_t *key = path_is_proposers(&party->path) ? party->options.proposer : party->challenger;
        if (message.number != party->number || memcmp(message.previous, party->last, DISPUTE_HASH) != 0 ||
            memcmp(message.dispute, party->dispute, DISPUTE_HASH) != 0 || memcmp(message.key, key, DISPUTE_KEY) != 0 ||
            party->result != PATH_GOES_ON)
            code = bulla_fail(error, BULLA_E_INPUT, "a message that does not follow the dispute's last one");
        else
            party->result = path_take(&party->path, message.kind, message.body);
    }
    if (code == BULLA_OK) {
        memcpy(party->last, message.hash, DISPUTE_HASH);
        party->number++;
    }
    arena_free(&arena);
    return code;
}

/* ---- The trace ---- */

static int open_trace(struct party *party, const struct step_answer *answer, bulla_error *error)
{
    const struct trace_options options = {.executor = party->options.executor, .allowed = party->given->allowed,
                                          .hook = party->options.hook};
    trace_close(party->run->trace);
    party->run->trace = NULL;
    return trace_open(party->options.model, answer, &options, &party->run->trace, error);
}

/* Which end token it was: the one with which nothing is wrong. */
static int find_end(struct party *party, struct step_answer *answer, bulla_error *error)
{
    answer->token_count++;
    party->run->has_end = 1;
    for (size_t i = 0; i < party->given->end_count; i++) {
        party->run->tokens[answer->token_count - 1] = party->run->end = party->given->ends[i];
        int code = open_trace(party, answer, error);
        if (code != BULLA_OK || trace_cells(party->run->trace)->first_bad == UINT64_MAX)
            return code;
    }
    return BULLA_OK; /* the proposer stands by what it answered */
}

/* Where a bound was left: the first place, if the run goes as far as it can. */
static int find_range(struct party *party, struct step_answer *answer, bulla_error *error)
{
    uint64_t position;
    uint32_t operation;
    answer->has_range = 1;
    answer->range_position = answer->token_count - 1;
    answer->range_operation = party->path.program.program.operation_count;
    int code = open_trace(party, answer, error);
    if (code == BULLA_OK && trace_range(party->run->trace, &position, &operation)) {
        answer->range_position = (uint32_t)position;
        answer->range_operation = operation;
        code = open_trace(party, answer, error);
    }
    party->run->range_position = answer->range_position;
    party->run->range_operation = answer->range_operation;
    return code;
}

/* The proposer's before its claim, or by it. */
static int need_trace(struct party *party, bulla_error *error)
{
    struct step_answer answer = party->path.answer;
    if (party->run->trace)
        return BULLA_OK;
    memory_free(party->run->tokens);
    party->run->tokens = memory_alloc(answer.token_count + 1, sizeof *answer.tokens, error);
    if (!party->run->tokens)
        return BULLA_E_MEMORY;
    memcpy(party->run->tokens, party->path.tokens, answer.token_count * sizeof *answer.tokens);
    answer.tokens = party->run->tokens;
    answer.sampling = &party->given->sampling;
    if (party->path.stage != PATH_CLAIM)
        return open_trace(party, &answer, error);
    if (party->given->expects_end)
        return find_end(party, &answer, error);
    return party->given->expects_range ? find_range(party, &answer, error) : open_trace(party, &answer, error);
}

static int need_cell(struct party *party, bulla_error *error)
{
    const struct dispute_path *path = &party->path;
    uint64_t positions = step_answer_positions(&path->answer), group = path->node / positions, position = path->node % positions;
    int64_t witnesses[STEP_WITNESSES];
    int is_challenger = memcmp(party->key, party->options.proposer, DISPUTE_KEY) != 0, has_witnesses = 0;
    if (path->stage != PATH_ARRAYS) {
        group = path->claim.cell.group;
        position = path->claim.cell.position;
        has_witnesses = is_challenger && group == path->program.groups - 1 && path->answer.sampling->temperature &&
                        path->claim.cell.length >= sizeof witnesses;
    }
    if (has_witnesses)
        memcpy(witnesses, path->arrays + path->claim.cell.length - sizeof witnesses, sizeof witnesses);
    if (party->is_witnessed) /* else the trace knows what it has expanded */
        return BULLA_OK;
    party->is_witnessed = has_witnesses;
    return trace_expand(party->run->trace, (uint32_t)group, position, has_witnesses ? witnesses : NULL, path->wants_range, error);
}

/* ---- What the proposer says ---- */

static void put_revealed(const struct party *party, const struct trace_tree *tree, struct buffer *body)
{
    uint8_t hashes[256][MERKLE_HASH];
    uint32_t count;
    trace_reveal(tree, party->path.stage == PATH_CLAIM ? 0 : party->path.round, party->path.stage == PATH_CLAIM ? 0 : party->path.node,
                 hashes, &count);
    dispute_put_bytes(body, "hashes", hashes, (size_t)count * MERKLE_HASH);
}

static void say_claim(struct party *party, struct buffer *body)
{
    uint8_t root[MERKLE_HASH];
    trace_root(party->run->trace, root);
    dispute_put_hex(body, "answer", party->answer, DISPUTE_HASH);
    dispute_put_number(body, "choice", party->choice);
    dispute_put_name(body, "end");
    if (party->run->has_end)
        buffer_append_format(body, "%u", party->run->end);
    else
        buffer_append_text(body, "null");
    put_revealed(party, trace_cells(party->run->trace), body);
    dispute_put_name(body, "range");
    if (party->given->expects_range)
        buffer_append_format(body, "[%u,%u]", party->run->range_position, party->run->range_operation);
    else
        buffer_append_text(body, "null");
    dispute_put_hex(body, "root", root, MERKLE_HASH);
}

static void say_arrays(struct party *party, struct buffer *body)
{
    const struct step_cell *cell = trace_arrays(party->run->trace);
    if (cell->is_range)
        dispute_put_number(body, "array", cell->range_array);
    dispute_put_bytes(body, "arrays", cell->message, cell->length);
    if (cell->is_range)
        dispute_put_number(body, "index", cell->range_index);
}

/* A step that cannot be opened has an empty opening, which loses. */
static int say_opening(struct party *party, struct buffer *body, bulla_error *error)
{
    const struct step_claim *claim = &party->path.claim;
    uint8_t opening[STEP_MESSAGE];
    size_t length = 0;
    bulla_error own = {0};
    int code = claim->array == UINT32_MAX ? BULLA_OK
                                          : trace_opening(party->run->trace, claim->operation, claim->array, claim->index, opening,
                                                          &length, &own);
    if (code == BULLA_E_MEMORY || code == BULLA_E_INTERNAL)
        return bulla_fail(error, code, "%s", own.text);
    dispute_put_bytes(body, "opening", opening, code == BULLA_OK ? length : 0);
    return BULLA_OK;
}

static int propose(struct party *party, enum dispute_kind *kind, struct buffer *body, bulla_error *error)
{
    const struct dispute_path *path = &party->path;
    size_t length;
    int code = need_trace(party, error);
    if (code == BULLA_OK && path->stage != PATH_CLAIM && (path->stage != PATH_REVEAL || path->is_array))
        code = need_cell(party, error);
    if (code != BULLA_OK)
        return code;
    switch (path->stage) {
    case PATH_CLAIM:
        *kind = DISPUTE_CLAIM;
        say_claim(party, body);
        break;
    case PATH_REVEAL:
        *kind = DISPUTE_REVEAL;
        put_revealed(party, path->is_array ? trace_array(party->run->trace, path->claim.operation, path->claim.array)
                                           : trace_cells(party->run->trace), body);
        break;
    case PATH_ARRAYS:
        *kind = DISPUTE_ARRAYS;
        say_arrays(party, body);
        break;
    case PATH_BLOCK: {
        const uint8_t *bytes = trace_block(party->run->trace, path->claim.operation, path->claim.array, path->node, &length);
        *kind = DISPUTE_BLOCK;
        dispute_put_bytes(body, "block", bytes, length);
        break;
    }
    default:
        *kind = DISPUTE_OPENING;
        code = say_opening(party, body, error);
    }
    return code;
}

/* ---- What the challenger says ---- */

static void say_at(struct buffer *body, uint64_t first, const uint64_t *second, int wants_range)
{
    dispute_put_name(body, "at");
    buffer_append_format(body, second ? "[%llu,%llu]" : "[%llu]", (unsigned long long)first, (unsigned long long)(second ? *second : 0));
    if (wants_range) {
        dispute_put_name(body, "range");
        buffer_append_text(body, "true");
    }
}

/* The answer says that a bound was left where the own run leaves none: the cell of that. -1: it does not say so. */
static int find_false_range(struct party *party, int64_t *cell, bulla_error *error)
{
    const struct step_answer *answer = &party->path.answer;
    *cell = -1;
    if (!answer->has_range)
        return BULLA_OK;
    uint32_t group = party->path.program.operations[answer->range_operation].group;
    int code = trace_expand(party->run->trace, group, answer->range_position, NULL, 1, error);
    if (code == BULLA_OK && trace_arrays(party->run->trace)->range_array == UINT32_MAX)
        *cell = (int64_t)((uint64_t)group * step_answer_positions(answer) + answer->range_position);
    return code;
}

static int choose_node(struct party *party, enum dispute_kind *kind, struct buffer *body, bulla_error *error)
{
    const struct dispute_path *path = &party->path;
    unsigned rounds = bisection_rounds(path->leaves);
    const uint8_t (*hashes)[MERKLE_HASH] = (const uint8_t (*)[MERKLE_HASH])path->hashes;
    const struct step_claim *claim = &path->claim;
    int64_t node = 0, cell = -1;
    if (rounds)
        node = path->is_array ? trace_choose_node(party->run->trace, &claim->cell, claim->operation, claim->array, path->round,
                                                  path->node, hashes)
                              : trace_difference(trace_cells(party->run->trace), path->round, path->node, hashes);
    int code = node < 0 && !path->is_array ? find_false_range(party, &cell, error) : BULLA_OK;
    if (node < 0 && cell >= 0)
        node = cell >> 8 * (rounds - 1 - path->round);
    if (code != BULLA_OK)
        return code;
    if (node < 0)
        *kind = DISPUTE_WITHDRAWAL;
    else
        say_at(body, (uint64_t)node, NULL, cell >= 0 && path->round + 1 == rounds);
    return BULLA_OK;
}

/* The opening of the element that the proposer named. */
static void say_named(struct buffer *body)
{
    dispute_put_name(body, "at");
    buffer_append_text(body, "[],\"range\":true");
}

static int choose_array(struct party *party, enum dispute_kind *kind, struct buffer *body)
{
    const struct dispute_path *path = &party->path;
    const struct step_cell *cell = &path->claim.cell;
    uint32_t operation, array;
    enum trace_choice choice = trace_choose_array(party->run->trace, cell, &operation, &array);
    if (choice == TRACE_NAMED) {
        say_named(body);
    } else if (choice == TRACE_ARRAY) {
        const uint64_t number = array;
        say_at(body, operation, &number, 0);
    } else {
        *kind = DISPUTE_WITHDRAWAL;
    }
    return BULLA_OK;
}

static int choose_element(struct party *party, enum dispute_kind *kind, struct buffer *body)
{
    const struct dispute_path *path = &party->path;
    const struct step_claim *claim = &path->claim;
    int64_t index = trace_choose_element(party->run->trace, &claim->cell, claim->operation, claim->array, path->node, path->bytes);
    if (index < 0)
        *kind = DISPUTE_WITHDRAWAL;
    else
        say_at(body, (uint64_t)index, NULL, 0);
    return BULLA_OK;
}

static int challenge(struct party *party, enum dispute_kind *kind, struct buffer *body, bulla_error *error)
{
    const struct dispute_path *path = &party->path;
    int code = need_trace(party, error);
    *kind = DISPUTE_CHOICE;
    if (code == BULLA_OK && (path->stage != PATH_NODE || path->is_array))
        code = need_cell(party, error);
    if (code != BULLA_OK)
        return code;
    return path->stage == PATH_NODE ? choose_node(party, kind, body, error)
           : path->stage == PATH_ARRAY ? choose_array(party, kind, body) : choose_element(party, kind, body);
}

int party_next(struct party *party, struct buffer *out, bulla_error *error)
{
    struct buffer body = {0};
    int is_proposers = path_is_proposers(&party->path);
    if (party->number == 0 || party->result != PATH_GOES_ON ||
        memcmp(party->key, is_proposers ? party->options.proposer : party->challenger, DISPUTE_KEY) != 0)
        return BULLA_OK;
    struct dispute_message message = {.number = party->number};
    memcpy(message.dispute, party->dispute, DISPUTE_HASH);
    memcpy(message.previous, party->last, DISPUTE_HASH);
    buffer_append_byte(&body, '{');
    int code = is_proposers ? propose(party, &message.kind, &body, error) : challenge(party, &message.kind, &body, error);
    buffer_append_byte(&body, '}');
    if (code == BULLA_OK && party->options.edit)
        code = party->options.edit(party->options.edit_context, message.kind, &body);
    if (code == BULLA_OK)
        code = dispute_message_write(&message, &body, party->options.key, out, error);
    buffer_free(&body);
    return code;
}

/* ---- First messages ---- */

static int write_first(enum dispute_kind kind, const uint8_t id[DISPUTE_HASH], struct buffer *body, EVP_PKEY *key,
                       struct buffer *out, bulla_error *error)
{
    struct dispute_message message = {.kind = kind};
    memcpy(message.dispute, id, DISPUTE_HASH);
    buffer_append_byte(body, '}');
    int code = dispute_message_write(&message, body, key, out, error);
    buffer_free(body);
    return code;
}

int party_write_answer(EVP_PKEY *key, const uint8_t receipt[DISPUTE_HASH], const struct buffer *document, const char *stake,
                       struct buffer *out, uint8_t id[DISPUTE_HASH], bulla_error *error)
{
    struct buffer body = {0};
    uint8_t own[DISPUTE_KEY];
    int code = dispute_public_key(key, own, error);
    if (code == BULLA_OK)
        code = dispute_answer_id(receipt, own, id, error);
    if (code != BULLA_OK)
        return code;
    buffer_append_byte(&body, '{');
    dispute_put_name(&body, "document");
    buffer_append(&body, document->data, document->length);
    dispute_put_text(&body, "stake", stake);
    return write_first(DISPUTE_ANSWER, id, &body, key, out, error);
}

int party_write_challenge(EVP_PKEY *key, const uint8_t answer[DISPUTE_HASH], uint32_t choice, enum dispute_about about,
                          const uint8_t nonce[DISPUTE_HASH], const char *stake, struct buffer *out, uint8_t id[DISPUTE_HASH],
                          bulla_error *error)
{
    struct buffer body = {0};
    uint8_t own[DISPUTE_KEY];
    int code = dispute_public_key(key, own, error);
    if (code == BULLA_OK)
        code = dispute_id(answer, choice, own, nonce, id, error);
    if (code != BULLA_OK)
        return code;
    buffer_append_byte(&body, '{');
    dispute_put_text(&body, "about", dispute_about_name(about));
    dispute_put_hex(&body, "answer", answer, DISPUTE_HASH);
    dispute_put_number(&body, "choice", choice);
    dispute_put_hex(&body, "nonce", nonce, DISPUTE_HASH);
    dispute_put_text(&body, "stake", stake);
    return write_first(DISPUTE_CHALLENGE, id, &body, key, out, error);
}

int party_write_equivocation(EVP_PKEY *key, const uint8_t answer[DISPUTE_HASH], const struct buffer *first,
                             const struct buffer *second, struct buffer *out, bulla_error *error)
{
    struct buffer body = {0};
    buffer_append_byte(&body, '{');
    dispute_put_name(&body, "first");
    buffer_append(&body, first->data, first->length);
    dispute_put_name(&body, "second");
    buffer_append(&body, second->data, second->length);
    return write_first(DISPUTE_EQUIVOCATION, answer, &body, key, out, error);
}
