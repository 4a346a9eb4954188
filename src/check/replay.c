/* One request at a time: the scheduler accepts it, opens its sequence and draws its tokens; the pieces that it draws from are
 * made here instead of in scheduler_step. */
#include "check/replay.h"

#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "exec/scheduler_internal.h"

enum {
    MOST_LOGIT_BYTES = 64 << 20, /* of the positions of one piece */
    MOST_LOGIT_ROWS = 256,
    PROMPT_ROWS = 512            /* of a piece without logits */
};

struct replay {
    bulla_engine *engine;
    const bulla_program *program;
    struct scheduler *scheduler;
    int32_t *logits; /* [most_rows][vocabulary] */
    uint32_t most_rows;
    /* Of the request under way. */
    const uint32_t *tokens; /* [count], as they are said to be */
    size_t count, right;
    const struct scheduler_events *events;
    struct replay_outcome *outcome;
    int is_over;
};

static void settle(struct replay *replay, enum replay_result result)
{
    replay->is_over = 1;
    replay->outcome->result = result;
    replay->outcome->at = replay->right;
}

static void take_token(void *context, const struct scheduler_token *token)
{
    struct replay *replay = context;
    if (replay->is_over)
        return;
    if (replay->right < replay->count && replay->tokens[replay->right] == token->token) {
        replay->right++;
        replay->events->token(replay->events->context, token);
        return;
    }
    replay->outcome->drawn = token->token;
    settle(replay, replay->right < replay->count ? REPLAY_DIFFERS : REPLAY_GOES_ON);
}

static void take_finish(void *context, const struct scheduler_finish *finish)
{
    struct replay *replay = context;
    if (replay->is_over)
        return;
    if (finish->reason == SCHEDULER_FAILED) {
        replay->outcome->refusal = *finish->error;
        settle(replay, REPLAY_REFUSED);
        return;
    }
    settle(replay, replay->right < replay->count ? REPLAY_ENDS : REPLAY_SAME);
    if (replay->outcome->result == REPLAY_SAME)
        replay->events->finish(replay->events->context, finish);
}

int replay_open(bulla_engine *engine, const bulla_model *model, struct replay **result, bulla_error *error)
{
    static const struct scheduler_options one = {.most_running = 1};
    struct replay *replay = memory_alloc(1, sizeof *replay, error);
    *result = NULL;
    if (!replay)
        return BULLA_E_MEMORY;
    const struct scheduler_events events = {.context = replay, .token = take_token, .finish = take_finish};
    replay->engine = engine;
    replay->program = bulla_model_program(model);
    size_t row_bytes = replay->program->vocabulary * sizeof *replay->logits, rows = MOST_LOGIT_BYTES / row_bytes;
    replay->most_rows = rows == 0 ? 1 : rows < MOST_LOGIT_ROWS ? (uint32_t)rows : MOST_LOGIT_ROWS;
    replay->logits = memory_alloc(replay->most_rows, row_bytes, error);
    int code = replay->logits ? scheduler_open(engine, model, &one, &events, &replay->scheduler, error) : BULLA_E_MEMORY;
    if (code == BULLA_OK)
        *result = replay;
    else
        replay_close(replay);
    return code;
}

void replay_close(struct replay *replay)
{
    if (!replay)
        return;
    scheduler_close(replay->scheduler);
    memory_free(replay->logits);
    memory_free(replay);
}

/* Prompt and tokens one after another, as far as they can be of an answer; a token that the model does not have, or that is
 * beyond the answer's limit, is never computed: it is not what is drawn there. */
static uint32_t *join_ids(const struct replay *replay, const struct job *job, size_t *count, bulla_error *error)
{
    size_t taken = 0;
    while (taken < replay->count && taken < job->limit && replay->tokens[taken] < replay->program->vocabulary)
        taken++;
    uint32_t *ids = memory_alloc(job->prompt_count + taken, sizeof *ids, error);
    if (!ids)
        return NULL;
    memcpy(ids, job->tokens, job->prompt_count * sizeof *ids);
    if (taken)
        memcpy(ids + job->prompt_count, replay->tokens, taken * sizeof *ids);
    *count = job->prompt_count + taken - (taken == job->limit); /* nothing is drawn after the last one that there may be */
    return ids;
}

/* A bound was left in the prompt: the answer ends before its first token. */
static void end_in_prompt(struct replay *replay, struct job *job, const bulla_piece *piece)
{
    job_finish(replay->scheduler, job, (struct job_end){.reason = SCHEDULER_RANGE, .range_position = piece->range_position,
                                                        .range_operation = piece->range_operation});
}

/* The next piece: of the prompt up to its last position, or positions from whose logits tokens are drawn. */
static int run_piece(struct replay *replay, struct job *job, const uint32_t *ids, size_t id_count, bulla_error *error)
{
    struct replay_outcome *outcome = replay->outcome;
    uint64_t at = bulla_sequence_length(job->sequence), first = job->prompt_count - 1;
    int is_prompt = at < first;
    uint64_t left = (is_prompt ? first : id_count) - at, most = is_prompt ? PROMPT_ROWS : replay->most_rows;
    bulla_piece piece = {.sequence = job->sequence, .ids = ids + at, .count = (uint32_t)(left < most ? left : most),
                         .logits = replay->logits};
    piece.logits_from = is_prompt ? piece.count : 0;
    double start = clock_seconds();
    int code = bulla_engine_step(replay->engine, &piece, 1, error);
    if (code == BULLA_OK && piece.code != BULLA_OK && piece.code != BULLA_E_RANGE)
        code = bulla_fail(error, piece.code, "the engine could not compute the answer again");
    if (code != BULLA_OK)
        return code;
    if (!is_prompt)
        job_draw(replay->scheduler, job, &piece);
    else if (piece.code == BULLA_E_RANGE)
        end_in_prompt(replay, job, &piece);
    *(is_prompt ? &outcome->prompt_positions : &outcome->answer_positions) += piece.count;
    *(is_prompt ? &outcome->prompt_seconds : &outcome->answer_seconds) += clock_seconds() - start;
    return BULLA_OK;
}

static int run_pieces(struct replay *replay, struct job *job, bulla_error *error)
{
    size_t count;
    uint32_t *ids = join_ids(replay, job, &count, error);
    int code = ids ? BULLA_OK : BULLA_E_MEMORY;
    while (code == BULLA_OK && !replay->is_over)
        code = bulla_sequence_length(job->sequence) < count
                   ? run_piece(replay, job, ids, count, error)
                   : bulla_fail(error, BULLA_E_INTERNAL, "the scheduler drew no end from the answer's last position");
    memory_free(ids);
    return code;
}

/* What is wrong with the request is an outcome; memory and the like are errors. */
static int refuse(struct replay *replay, const bulla_error *why, bulla_error *error)
{
    if (why->code == BULLA_E_MEMORY || why->code == BULLA_E_INTERNAL || why->code == BULLA_E_IO)
        return bulla_fail(error, why->code, "%s", why->text);
    replay->outcome->refusal = *why;
    settle(replay, REPLAY_REFUSED);
    return BULLA_OK;
}

int replay_run(struct replay *replay, const struct scheduler_request *request, const uint32_t *tokens, size_t count,
               const struct scheduler_events *events, struct replay_outcome *outcome, bulla_error *error)
{
    struct scheduler *scheduler = replay->scheduler;
    bulla_error why = {0};
    *outcome = (struct replay_outcome){0};
    replay->tokens = tokens;
    replay->count = count;
    replay->right = 0;
    replay->events = events;
    replay->outcome = outcome;
    replay->is_over = 0;
    if (scheduler_add(scheduler, request, &why) != BULLA_OK)
        return refuse(replay, &why, error);
    struct job *job = job_find(scheduler, request->id);
    calls_begin(scheduler); /* a job that finishes stays until calls_end */
    scheduler->step++;
    scheduler_admit(scheduler);
    int code = replay->is_over || job->state == JOB_RUNNING
                   ? run_pieces(replay, job, error)
                   : bulla_fail(error, BULLA_E_INTERNAL, "the scheduler did not start the answer");
    replay->is_over = 1;
    scheduler_cancel(scheduler, request->id);
    calls_end(scheduler);
    if (code == BULLA_OK && outcome->result == REPLAY_REFUSED)
        code = refuse(replay, &outcome->refusal, error);
    return code;
}
