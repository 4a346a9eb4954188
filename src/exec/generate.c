#define _GNU_SOURCE
#include "exec/generate.h"

#include <string.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/memory.h"
#include "exec/answer.h"

enum { CHUNK_TOKENS = 512 }; /* of the prompt, between two looks at is_cancelled */

struct generation {
    bulla_engine *engine;
    const bulla_program *program;
    const bulla_tokenizer *tokenizer;
    bulla_sequence *sequence;
    bulla_sampler *sampler;
    int32_t *logits; /* [1 + proposals][vocabulary] */
    bulla_piece piece; /* of the last step */
    uint32_t rows;     /* of its logits, less those that a RANGE spoilt */
    uint32_t step_ids[1 + SPECULATE_MOST];
    struct speculation speculation;
    const struct generate_request *request;
    struct generate_result *result;
    struct buffer tokens; /* u32 each */
    struct buffer text;   /* room for one token's text */
    bulla_text_stream stream;
    uint64_t limit; /* most tokens of the answer */
    int finished;
};

const char *generate_finish_name(enum generate_finish finish)
{
    static const char *const names[] = {"stop", "length", "range", "cancelled"};
    return names[finish];
}

void generate_result_free(struct generate_result *result)
{
    memory_free(result->tokens);
    memset(result, 0, sizeof *result);
}

static void finish(struct generation *generation, enum generate_finish how)
{
    generation->result->finish = how;
    generation->finished = 1;
}

static int is_cancelled(const struct generate_request *request)
{
    return request->is_cancelled && request->is_cancelled(request->context);
}

/* The answer ends because a bound was left at a position that is part of it. */
static void finish_range(struct generation *generation, uint64_t position, uint32_t operation)
{
    generation->result->range_position = position;
    generation->result->range_operation = operation;
    finish(generation, GENERATE_RANGE);
}

/* Runs the ids, with the logits of those from `logits_from` on. A RANGE behind the first of these is at a position that
 * need not become part of the answer: it only cuts the rows. */
static int evaluate(struct generation *generation, const uint32_t *ids, uint32_t count, uint32_t logits_from,
                    bulla_error *error)
{
    uint64_t first = bulla_sequence_length(generation->sequence) + logits_from;
    bulla_piece *piece = &generation->piece;
    *piece = (bulla_piece){.sequence = generation->sequence, .ids = ids, .count = count, .logits_from = logits_from,
                           .logits = generation->logits};
    int code = bulla_engine_step(generation->engine, piece, 1, error);
    if (code != BULLA_OK)
        return code;
    if (piece->code != BULLA_OK && piece->code != BULLA_E_RANGE)
        return bulla_fail(error, piece->code, "the engine could not compute tokens of this sequence");
    generation->rows = answer_good_rows(piece, first);
    if (piece->code != BULLA_OK && generation->rows == 0)
        finish_range(generation, piece->range_position, piece->range_operation);
    return BULLA_OK;
}

/* The prompt from where the sequence stands; its last token is always computed, for its logits. */
static int prefill(struct generation *generation, bulla_error *error)
{
    const struct generate_request *request = generation->request;
    if (bulla_sequence_length(generation->sequence) >= request->prompt_count)
        bulla_sequence_truncate(generation->sequence, request->prompt_count - 1);
    uint64_t at = bulla_sequence_length(generation->sequence);
    while (at < request->prompt_count && !generation->finished) {
        if (is_cancelled(request)) {
            finish(generation, GENERATE_CANCELLED);
            return BULLA_OK;
        }
        uint64_t left = request->prompt_count - at;
        uint32_t count = left > CHUNK_TOKENS ? CHUNK_TOKENS : (uint32_t)left;
        int code = evaluate(generation, request->prompt + at, count, count == left ? count - 1 : count, error);
        if (code != BULLA_OK)
            return code;
        at += count;
        generation->result->prefill_tokens += count;
    }
    return BULLA_OK;
}

/* Appends a drawn token and hands it out with the text that it completes. */
static int deliver(struct generation *generation, uint32_t token, bulla_error *error)
{
    buffer_append_u32(&generation->tokens, token);
    buffer_clear(&generation->text);
    if (answer_append_text(generation->tokenizer, &generation->stream, token, &generation->text, NULL) != BULLA_OK ||
        generation->tokens.error.code != BULLA_OK)
        return bulla_fail(error, BULLA_E_MEMORY, "out of memory after %zu tokens of the answer",
                          generation->result->token_count);
    generation->result->token_count++;
    const struct generate_request *request = generation->request;
    const char *text = (const char *)generation->text.data;
    if (request->on_token && request->on_token(request->context, token, text, generation->text.length))
        finish(generation, GENERATE_CANCELLED);
    else if (generation->result->token_count == generation->limit)
        finish(generation, GENERATE_LENGTH);
    return BULLA_OK;
}

/* Draws the next token from the logits of a row and hands it out, unless the answer ends before it. */
static int draw(struct generation *generation, uint32_t row, uint32_t *token, bulla_error *error)
{
    const struct generate_request *request = generation->request;
    const uint32_t *tokens = (const uint32_t *)(const void *)generation->tokens.data;
    const bulla_program *program = generation->program;
    size_t count = generation->result->token_count;
    bulla_error own = {0};
    int code = bulla_sampler_draw(generation->sampler, &request->sampling,
                                  generation->logits + (size_t)row * program->vocabulary, program->logits_F,
                                  request->prompt, request->prompt_count, tokens, count, NULL,
                                  request->prompt_count + count, token, &own);
    if (code == BULLA_E_RANGE) {
        finish_range(generation, request->prompt_count + count - 1, program->operation_count);
        return BULLA_OK;
    }
    if (code != BULLA_OK)
        return bulla_fail(error, code, "%s", own.text);
    if (bulla_tokenizer_is_end(generation->tokenizer, *token)) {
        finish(generation, GENERATE_STOP);
        return BULLA_OK;
    }
    speculation_drawn(&generation->speculation, *token);
    code = deliver(generation, *token, error);
    if (code == BULLA_OK && !generation->finished && is_cancelled(request))
        finish(generation, GENERATE_CANCELLED);
    return code;
}

/* Computes the position of the latest token, and those of tokens proposed after it. */
static int step(struct generation *generation, uint32_t token, bulla_error *error)
{
    uint32_t *ids = generation->step_ids;
    uint64_t left = generation->limit - generation->result->token_count;
    ids[0] = token;
    uint32_t proposed = answer_propose(&generation->speculation, generation->tokenizer, left - 1, ids + 1);
    double start = clock_seconds();
    bulla_error own = {0};
    int code = evaluate(generation, ids, 1 + proposed, 0, &own);
    if (code == BULLA_E_LIMIT && proposed) { /* of pages there may be enough for the token alone */
        proposed = 0;
        bulla_error_clear(&own);
        code = evaluate(generation, ids, 1, 0, &own);
    }
    if (code != BULLA_OK)
        return bulla_fail(error, code, "%s", own.text);
    generation->result->proposed_tokens += proposed;
    speculation_took(&generation->speculation, 1 + proposed, clock_seconds() - start);
    return BULLA_OK;
}

/* Draws from the rows of the last step as long as the tokens are those that the step went on with; then makes the next
 * step, unless the answer ends there. */
static int decode(struct generation *generation, bulla_error *error)
{
    struct generate_result *result = generation->result;
    const bulla_piece *piece = &generation->piece;
    for (uint32_t row = 0;; row++) {
        uint32_t token, next = piece->logits_from + row + 1;
        uint64_t kept = generation->request->prompt_count + result->token_count;
        int code = draw(generation, row, &token, error);
        if (code != BULLA_OK) {
            bulla_sequence_truncate(generation->sequence, kept);
            return code;
        }
        int is_accepted = !generation->finished && next < piece->count && piece->ids[next] == token;
        result->accepted_tokens += (uint64_t)is_accepted;
        if (is_accepted && row + 1 < generation->rows)
            continue;
        if (is_accepted) { /* and with it the position that left a bound */
            finish_range(generation, piece->range_position, piece->range_operation);
            return BULLA_OK;
        }
        bulla_sequence_truncate(generation->sequence, kept);
        return generation->finished ? BULLA_OK : step(generation, token, error);
    }
}

static int run(struct generation *generation, bulla_error *error)
{
    struct generate_result *result = generation->result;
    double start = clock_seconds();
    for (size_t i = 0; i < generation->request->prompt_count; i++)
        speculation_prompt(&generation->speculation, generation->request->prompt[i]);
    int code = prefill(generation, error);
    double middle = clock_seconds();
    while (code == BULLA_OK && !generation->finished)
        code = decode(generation, error);
    result->prefill_seconds = middle - start;
    result->decode_seconds = clock_seconds() - middle;
    result->rest_length = bulla_text_stream_end(&generation->stream, result->rest, sizeof result->rest);
    return code;
}

/* The tokens as an array of their own. */
static int take_tokens(struct generation *generation, bulla_error *error)
{
    struct generate_result *result = generation->result;
    result->tokens = memory_alloc(result->token_count, sizeof *result->tokens, error);
    if (!result->tokens)
        return BULLA_E_MEMORY;
    if (result->token_count)
        memcpy(result->tokens, generation->tokens.data, result->token_count * sizeof *result->tokens);
    return BULLA_OK;
}

int generate(bulla_engine *engine, const bulla_model *model, bulla_sequence *sequence,
             const struct generate_request *request, struct generate_result *result, bulla_error *error)
{
    memset(result, 0, sizeof *result);
    const bulla_program *program = bulla_model_program(model);
    int code = answer_check(program, request->prompt, request->prompt_count, &request->sampling, error);
    if (code != BULLA_OK)
        return code;
    struct generation generation = {.engine = engine, .program = program, .tokenizer = bulla_model_tokenizer(model),
                                    .sequence = sequence, .request = request, .result = result};
    generation.limit = answer_limit(program, request->prompt_count, request->max_tokens);
    if (generation.limit == 0) {
        result->finish = GENERATE_LENGTH;
        return take_tokens(&generation, error);
    }
    code = answer_sampler_open(program, &generation.sampler, error);
    if (code != BULLA_OK)
        return code;
    code = speculation_open(&generation.speculation, request->prompt_count + (size_t)generation.limit,
                            request->speculate, request->always_speculates, error);
    if (code == BULLA_OK)
        generation.logits = memory_alloc((size_t)program->vocabulary * (1 + generation.speculation.most),
                                         sizeof *generation.logits, error);
    if (code == BULLA_OK && !generation.logits)
        code = BULLA_E_MEMORY;
    if (code == BULLA_OK && !sequence)
        code = bulla_sequence_open_prefix(engine, request->prompt_count - 1, request->tenant, request->prompt,
                                          request->prompt_count, &generation.sequence, error);
    if (code == BULLA_OK)
        code = run(&generation, error);
    if (code == BULLA_OK)
        code = take_tokens(&generation, error);
    if (!sequence)
        bulla_sequence_close(generation.sequence);
    bulla_sampler_close(generation.sampler);
    speculation_close(&generation.speculation);
    memory_free(generation.logits);
    buffer_free(&generation.tokens);
    buffer_free(&generation.text);
    return code;
}
