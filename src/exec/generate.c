#define _GNU_SOURCE
#include "exec/generate.h"

#include <string.h>
#include <time.h>

#include "base/buffer.h"
#include "base/memory.h"

enum {
    CHUNK_TOKENS = 512, /* of the prompt, between two looks at is_cancelled */
    TABLE_EXP24 = 1     /* its number among a model's tensors (model/program_names.h) */
};

struct generation {
    bulla_engine *engine;
    const bulla_program *program;
    const bulla_tokenizer *tokenizer;
    bulla_sequence *sequence;
    bulla_sampler *sampler;
    int32_t *logits; /* [vocabulary] */
    const struct generate_request *request;
    struct generate_result *result;
    struct buffer tokens; /* u32 each */
    struct buffer text;   /* room for one token's text */
    bulla_text_stream stream;
    uint64_t limit; /* most tokens of the answer */
    int finished;
};

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

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

static int check_request(const bulla_program *program, const struct generate_request *request, bulla_error *error)
{
    if (request->prompt_count == 0)
        return bulla_fail(error, BULLA_E_USAGE, "the prompt is empty: an answer needs at least one token before it");
    if (request->prompt_count > program->context)
        return bulla_fail(error, BULLA_E_LIMIT, "the prompt has %zu tokens, more than the model's context of %u holds",
                          request->prompt_count, program->context);
    for (size_t i = 0; i < request->prompt_count; i++)
        if (request->prompt[i] >= program->vocabulary)
            return bulla_fail(error, BULLA_E_USAGE, "prompt token %zu is %u; the model's vocabulary ends at %u", i,
                              request->prompt[i], program->vocabulary - 1);
    return bulla_sampling_check(&request->sampling, program->vocabulary, error);
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

/* Runs ids[0..count), with the logits of the last one where `wanted`. */
static int evaluate(struct generation *generation, const uint32_t *ids, uint32_t count, int wanted, bulla_error *error)
{
    bulla_piece piece = {.sequence = generation->sequence, .ids = ids, .count = count,
                         .logits_from = wanted ? count - 1 : count, .logits = generation->logits};
    int code = bulla_engine_step(generation->engine, &piece, 1, error);
    if (code != BULLA_OK)
        return code;
    if (piece.code == BULLA_E_RANGE) {
        generation->result->range_position = piece.range_position;
        generation->result->range_operation = piece.range_operation;
        finish(generation, GENERATE_RANGE);
    } else if (piece.code != BULLA_OK) {
        return bulla_fail(error, piece.code, "the engine could not compute tokens of this sequence");
    }
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
        int code = evaluate(generation, request->prompt + at, count, count == left, error);
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
    const uint8_t *bytes;
    size_t length = 0; /* stays 0 for an id that the vocabulary pads the tokenizer's with */
    if (token < bulla_tokenizer_vocabulary(generation->tokenizer))
        bulla_tokenizer_token_bytes(generation->tokenizer, token, &bytes, &length);
    buffer_append_u32(&generation->tokens, token);
    buffer_clear(&generation->text);
    size_t capacity = 4 + 3 * length;
    char *text = (char *)buffer_extend(&generation->text, capacity);
    if (!text || generation->tokens.error.code != BULLA_OK)
        return bulla_fail(error, BULLA_E_MEMORY, "out of memory after %zu tokens of the answer",
                          generation->result->token_count);
    if (length > 0)
        length = bulla_text_stream_push(generation->tokenizer, &generation->stream, token, text, capacity);
    generation->result->token_count++;
    const struct generate_request *request = generation->request;
    if (request->on_token && request->on_token(request->context, token, text, length))
        finish(generation, GENERATE_CANCELLED);
    else if (generation->result->token_count == generation->limit)
        finish(generation, GENERATE_LENGTH);
    return BULLA_OK;
}

/* Draws the next token from the logits and, unless the answer ends there, computes its position. */
static int decode(struct generation *generation, bulla_error *error)
{
    const struct generate_request *request = generation->request;
    const uint32_t *tokens = (const uint32_t *)(const void *)generation->tokens.data;
    size_t count = generation->result->token_count;
    uint32_t token;
    bulla_error own = {0};
    int code = bulla_sampler_draw(generation->sampler, &request->sampling, generation->logits,
                                  generation->program->logits_F, request->prompt, request->prompt_count, tokens, count,
                                  NULL, request->prompt_count + count, &token, &own);
    if (code == BULLA_E_RANGE) {
        generation->result->range_position = request->prompt_count + count - 1;
        generation->result->range_operation = generation->program->operation_count;
        finish(generation, GENERATE_RANGE);
        return BULLA_OK;
    }
    if (code != BULLA_OK)
        return bulla_fail(error, code, "%s", own.text);
    if (bulla_tokenizer_is_end(generation->tokenizer, token)) {
        finish(generation, GENERATE_STOP);
        return BULLA_OK;
    }
    code = deliver(generation, token, error);
    if (code != BULLA_OK || generation->finished)
        return code;
    if (is_cancelled(request)) {
        finish(generation, GENERATE_CANCELLED);
        return BULLA_OK;
    }
    return evaluate(generation, &token, 1, 1, error);
}

static int run(struct generation *generation, bulla_error *error)
{
    struct generate_result *result = generation->result;
    double start = seconds_now();
    int code = prefill(generation, error);
    double middle = seconds_now();
    while (code == BULLA_OK && !generation->finished)
        code = decode(generation, error);
    result->prefill_seconds = middle - start;
    result->decode_seconds = seconds_now() - middle;
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
    int code = check_request(program, request, error);
    if (code != BULLA_OK)
        return code;
    struct generation generation = {.engine = engine, .program = program, .tokenizer = bulla_model_tokenizer(model),
                                    .sequence = sequence, .request = request, .result = result};
    uint64_t room = program->context - request->prompt_count;
    generation.limit = request->max_tokens && request->max_tokens < room ? request->max_tokens : room;
    if (generation.limit == 0) {
        result->finish = GENERATE_LENGTH;
        return take_tokens(&generation, error);
    }
    code = bulla_sampler_open(program->vocabulary, program->data[TABLE_EXP24], &generation.sampler, error);
    if (code != BULLA_OK)
        return code;
    generation.logits = memory_alloc(program->vocabulary, sizeof *generation.logits, error);
    code = generation.logits ? BULLA_OK : BULLA_E_MEMORY;
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
    memory_free(generation.logits);
    buffer_free(&generation.tokens);
    buffer_free(&generation.text);
    return code;
}
