#include "serve/native_replay.h"

#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "serve/native_internal.h"

struct native_replay {
    struct native *native;
    bulla_engine *engine;
    struct replay *replay;
    struct walk *walk;    /* instead of engine and replay */
    struct buffer frames; /* as a worker writes them */
    bulla_error error;    /* the first one of telling */
};

int native_replay_open(const struct native_replay_options *options, struct native_replay **result, bulla_error *error)
{
    struct native_replay *replay = memory_alloc(1, sizeof *replay, error);
    uint8_t salt[BULLA_PREFIX_SALT_BYTES];
    *result = NULL;
    if (!replay)
        return BULLA_E_MEMORY;
    /* Choices of one prompt compute it once. */
    const bulla_engine_options engine = {.threads = options->threads, .prefix_salt = salt};
    int code = random_bytes(salt, sizeof salt, error);
    if (code == BULLA_OK)
        code = native_new(options->path, options->walks ? NATIVE_NO_TENSORS : NATIVE_ROOT_HERE, &replay->native, error);
    if (code == BULLA_OK && options->walks)
        code = walk_open(replay->native->model, &replay->walk, error);
    if (code == BULLA_OK && !options->walks)
        code = bulla_engine_open(replay->native->model, &engine, &replay->engine, error);
    if (code == BULLA_OK && !options->walks)
        code = replay_open(replay->engine, replay->native->model, &replay->replay, error);
    if (code != BULLA_OK) {
        native_replay_close(replay);
        return code;
    }
    replay->native->run.is_ready = 1; /* what is submitted is written to run.out, where native_replay_run takes it */
    replay->native->most_choices = ANSWER_MOST_CHOICES;
    *result = replay;
    return BULLA_OK;
}

void native_replay_close(struct native_replay *replay)
{
    if (!replay)
        return;
    if (replay->native)
        native_replay_stop(replay);
    replay_close(replay->replay);
    walk_close(replay->walk);
    if (replay->engine)
        bulla_engine_close(replay->engine);
    if (replay->native)
        native_free(replay->native);
    buffer_free(&replay->frames);
    memory_free(replay);
}

void native_replay_describe(const struct native_replay *replay, struct backend_info *info)
{
    replay->native->backend.class->describe(&replay->native->backend, info);
}

int native_replay_start(struct native_replay *replay, const struct answer_request *request, int64_t time,
                        const struct answer_sink *sink, struct answer_error *problem)
{
    struct answer_request own = *request;
    own.tenant = "";
    own.shares_prefix = 1;
    own.deadline = 0;
    own.logprobs = -1; /* they are informative */
    replay->native->written_at = time;
    return native_answer_start(&replay->native->backend, &own, sink, problem) != NULL;
}

void native_replay_stop(struct native_replay *replay)
{
    struct native *native = replay->native;
    while (native->running.first)
        native_answer_cancel(native->running.first);
    buffer_free(&native->run.out);
}

/* ---- The worker's part ---- */

/* The front gets what was written for it. */
static void pass_on(struct native_replay *replay)
{
    struct buffer *frames = &replay->frames;
    struct wire_frame frame;
    size_t taken, needed;
    if (frames->error.code != BULLA_OK)
        replay->error = frames->error;
    if (replay->error.code == BULLA_OK)
        wire_next(frames->data, frames->length, &frame, &taken, &needed, &replay->error);
    if (replay->error.code == BULLA_OK)
        native_answers_frame(replay->native, &frame, &replay->error);
    buffer_clear(frames);
}

static void tell_token(void *context, const struct scheduler_token *token)
{
    struct native_replay *replay = context;
    wire_write_token(&replay->frames, token);
    pass_on(replay);
}

static void tell_finish(void *context, const struct scheduler_finish *finish)
{
    struct native_replay *replay = context;
    wire_write_finish(&replay->frames, finish);
    pass_on(replay);
}

static int run_choices(struct native_replay *replay, const struct wire_frame *frame, const struct native_replay_claim *claims,
                       struct replay_outcome *outcomes, bulla_error *error)
{
    const struct scheduler_events events = {.context = replay, .token = tell_token, .finish = tell_finish};
    struct wire_submit submit;
    int code = wire_read_submit(frame, &submit, error);
    for (size_t i = 0; code == BULLA_OK && i < submit.choice_count; i++) {
        submit.request.id = submit.choices[i].id;
        submit.request.sampling.seed = submit.choices[i].seed;
        code = replay_run(replay->replay, &submit.request, claims[i].tokens, claims[i].count, &events, &outcomes[i], error);
        if (code == BULLA_OK && replay->error.code != BULLA_OK)
            code = bulla_fail(error, replay->error.code, "%s", replay->error.text);
    }
    return code;
}

/* What was started, as a worker would read it; *submitted is the caller's. */
static int take_submitted(struct native_replay *replay, struct buffer *submitted, struct wire_frame *frame, bulla_error *error)
{
    size_t taken, needed;
    *submitted = replay->native->run.out;
    replay->native->run.out = (struct buffer){0};
    replay->error = (bulla_error){0};
    bulla_error_clear(&replay->frames.error);
    int code = wire_next(submitted->data, submitted->length, frame, &taken, &needed, error);
    if (code == BULLA_OK && (taken == 0 || frame->type != WIRE_SUBMIT))
        code = bulla_fail(error, BULLA_E_INTERNAL, "nothing was started that could be computed again");
    return code;
}

int native_replay_run(struct native_replay *replay, const struct native_replay_claim *claims,
                      struct replay_outcome *outcomes, bulla_error *error)
{
    struct buffer submitted;
    struct wire_frame frame;
    int code = take_submitted(replay, &submitted, &frame, error);
    if (code == BULLA_OK)
        code = run_choices(replay, &frame, claims, outcomes, error);
    buffer_free(&submitted);
    return code;
}

static int copy_sampling(const bulla_sampling *from, struct arena *arena, bulla_sampling *sampling, bulla_error *error)
{
    bulla_logit_bias *biases = arena_alloc(arena, from->bias_count + 1, sizeof *biases, error);
    if (!biases)
        return BULLA_E_MEMORY;
    if (from->bias_count)
        memcpy(biases, from->biases, from->bias_count * sizeof *biases);
    *sampling = *from;
    sampling->biases = biases;
    return BULLA_OK;
}

int native_replay_walk(struct native_replay *replay, uint32_t choice, const struct native_replay_claim *claim,
                       const struct walk_options *options, struct replay_outcome *outcome, int *has_end, struct arena *arena,
                       bulla_sampling *sampling, bulla_error *error)
{
    const struct scheduler_events events = {.context = replay, .token = tell_token, .finish = tell_finish};
    struct buffer submitted;
    struct wire_frame frame;
    struct wire_submit submit;
    int code = take_submitted(replay, &submitted, &frame, error);
    if (code == BULLA_OK)
        code = wire_read_submit(&frame, &submit, error);
    if (code == BULLA_OK && choice >= submit.choice_count)
        code = bulla_fail(error, BULLA_E_USAGE, "there is no choice %u", choice);
    if (code == BULLA_OK) {
        submit.request.id = submit.choices[choice].id;
        submit.request.sampling.seed = submit.choices[choice].seed;
        code = copy_sampling(&submit.request.sampling, arena, sampling, error);
    }
    if (code == BULLA_OK)
        code = walk_run(replay->walk, &submit.request, claim->tokens, claim->count, options, &events, outcome, has_end, error);
    if (code == BULLA_OK && replay->error.code != BULLA_OK)
        code = bulla_fail(error, replay->error.code, "%s", replay->error.text);
    buffer_free(&submitted);
    return code;
}

const bulla_model *native_replay_model(const struct native_replay *replay)
{
    return replay->native->model;
}
