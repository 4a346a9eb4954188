/* One step: which rows of which jobs, whether there are pages for them, and what came of it, batch by batch. */
#include "base/clock.h"
#include "exec/answer.h"
#include "exec/scheduler_internal.h"

enum {
    SPECULATING = 4,        /* jobs beside which tokens are proposed; */
    SPECULATION_KEPT = 8,   /*   beside so many what was learnt for it is kept */
    PROMPT_SHARE = 4,       /* a quarter of the rows is the prompts' where all want more than there are */
    CROWD_STEPS = 8,        /* more steps than this are wanted by prompts that wait for another one: a crowd; */
    CROWD_TURN = 3,         /*   then tokens are decoded every third step */
    CROWD_SHARE = 32        /*   where that is at least this part of the rows */
};

uint64_t job_remaining(const struct job *job)
{
    return job->count - bulla_sequence_length(job->sequence);
}

int job_is_decoding(const struct job *job)
{
    return !job->embeds && job_remaining(job) == 1;
}

int job_may_pass(const struct job *first, int priority, uint64_t remaining)
{
    return priority == first->priority && 2 * remaining <= job_remaining(first);
}

/* --- deadlines --- */

/* Chains the jobs that are past their deadline, and finds the next deadline of the others. */
static struct job *find_expired(struct scheduler *scheduler, uint64_t now)
{
    struct job *expired = NULL;
    scheduler->next_deadline = UINT64_MAX;
    for (struct job *job = scheduler->jobs; job; job = job->next)
        if (job->deadline && job->deadline <= now) {
            job->next_expired = expired;
            expired = job;
        } else if (job->deadline && job->deadline < scheduler->next_deadline)
            scheduler->next_deadline = job->deadline;
    return expired;
}

/* The first of them that came goes first. Any of them may be cancelled in the finish of another. */
static void expire(struct scheduler *scheduler)
{
    uint64_t now = scheduler->next_deadline == UINT64_MAX ? 0 : clock_nanoseconds();
    if (now < scheduler->next_deadline)
        return;
    for (struct job *job = find_expired(scheduler, now); job; job = job->next_expired)
        if (job->state != JOB_FINISHED)
            job_finish(scheduler, job, (struct job_end){.reason = SCHEDULER_DEADLINE});
}

/* --- rows --- */

static uint32_t least(uint64_t a, uint64_t b)
{
    return (uint32_t)(a < b ? a : b);
}

/* Of the decoding jobs without rows the one that had its last row longest ago. */
static struct job *find_decoder(const struct scheduler *scheduler)
{
    struct job *found = NULL;
    for (uint32_t i = 0; i < scheduler->running_count; i++) {
        struct job *job = scheduler->running[i];
        if (job->rows || !job_is_decoding(job))
            continue;
        if (found && found->priority > job->priority)
            break;
        if (!found || job->latest_step < found->latest_step)
            found = job;
    }
    return found;
}

/* A row each for the decoding jobs, in turn where there are not enough. */
static void plan_decoders(struct scheduler *scheduler, uint32_t decoders, uint32_t rows)
{
    if (decoders <= rows) {
        for (uint32_t i = 0; i < scheduler->running_count; i++)
            scheduler->running[i]->rows = (uint32_t)job_is_decoding(scheduler->running[i]);
        return;
    }
    for (; rows > 0; rows--) {
        struct job *job = find_decoder(scheduler);
        job->rows = 1;
        job->latest_step = scheduler->step;
    }
}

/* Of the prompts that may pass the first one the shortest without rows. */
static struct job *find_short(const struct scheduler *scheduler, const struct job *first)
{
    struct job *found = NULL;
    for (uint32_t i = 0; i < scheduler->running_count; i++) {
        struct job *job = scheduler->running[i];
        if (job != first && !job->rows && !job_is_decoding(job) &&
            job_may_pass(first, job->priority, job_remaining(job)) &&
            (!found || job_remaining(job) < job_remaining(found)))
            found = job;
    }
    return found;
}

/* The rows for prompts: short ones pass a long one, with up to half of them; else they go in order. */
static void plan_prompts(struct scheduler *scheduler, uint32_t rows)
{
    const struct job *first = NULL;
    for (uint32_t i = 0; i < scheduler->running_count && !first; i++)
        first = job_is_decoding(scheduler->running[i]) ? NULL : scheduler->running[i];
    struct job *job;
    for (uint32_t passing = rows / 2; passing > 0 && (job = find_short(scheduler, first)) != NULL;) {
        job->rows = least(job_remaining(job), passing);
        passing -= job->rows;
        rows -= job->rows;
    }
    for (uint32_t i = 0; i < scheduler->running_count && rows > 0; i++) {
        job = scheduler->running[i];
        if (job_is_decoding(job))
            continue;
        uint32_t more = least(job_remaining(job) - job->rows, rows);
        job->rows += more;
        rows -= more;
    }
}

/* Whether prompts of this priority and above need many steps, beside the first one. */
static int is_crowd(const struct scheduler *scheduler, int priority)
{
    const uint64_t most = (uint64_t)CROWD_STEPS * scheduler->step_rows;
    uint64_t rows = 0, running = 0, first = 0;
    for (uint32_t i = 0; i < scheduler->running_count && scheduler->running[i]->priority >= priority; i++) {
        const struct job *job = scheduler->running[i];
        if (job_is_decoding(job))
            continue;
        first = first ? first : job_remaining(job);
        running += job_remaining(job);
    }
    if (running < scheduler->step_rows) /* they would not fill the step: the others wait for pages, say */
        return 0;
    rows = running - first;
    for (const struct tenant *tenant = scheduler->tenants; tenant && rows <= most; tenant = tenant->next)
        for (const struct job *job = tenant->first; job && job->priority >= priority && rows <= most;
             job = job->next_waiting)
            rows += job->count - job->found;
    return rows > most;
}

/* Whether those that decode are left out of this step: while many prompts wait, first tokens come sooner that way, and
 * what is not decoded now is decoded beside fewer prompts later. */
static int skips_decoders(struct scheduler *scheduler, uint32_t decoders)
{
    const struct job *first = NULL;
    for (uint32_t i = 0; i < scheduler->running_count && !first; i++)
        first = job_is_decoding(scheduler->running[i]) ? scheduler->running[i] : NULL;
    int is_skipped = first && (uint64_t)decoders * CROWD_SHARE >= scheduler->step_rows &&
                     scheduler->skipped + 1 < CROWD_TURN && is_crowd(scheduler, first->priority);
    scheduler->skipped = is_skipped ? scheduler->skipped + 1 : 0;
    return is_skipped;
}

/* Decoding jobs go first, but where there are prompts a part of the rows is theirs: a row in four steps where steps
 * have one row. */
static uint32_t plan_rows(struct scheduler *scheduler)
{
    uint32_t decoders = 0, rows = scheduler->step_rows;
    for (uint32_t i = 0; i < scheduler->running_count; i++) {
        scheduler->running[i]->rows = scheduler->running[i]->proposed = 0;
        decoders += (uint32_t)job_is_decoding(scheduler->running[i]);
    }
    if (decoders == scheduler->running_count) {
        scheduler->prompt_credit = 0;
        plan_decoders(scheduler, decoders, rows);
        return decoders;
    }
    scheduler->prompt_credit += rows;
    uint32_t reserved = least(scheduler->prompt_credit / PROMPT_SHARE, rows), given = least(decoders, rows - reserved);
    given = skips_decoders(scheduler, decoders) ? 0 : given;
    plan_decoders(scheduler, decoders, given);
    plan_prompts(scheduler, rows - given);
    uint64_t used = (uint64_t)(rows - given) * PROMPT_SHARE;
    scheduler->prompt_credit -= used < scheduler->prompt_credit ? used : scheduler->prompt_credit;
    return decoders;
}

/* --- speculation --- */

static void open_speculation(const struct scheduler *scheduler, struct job *job)
{
    if (job->speculates != SPECULATION_CLOSED)
        return;
    job->speculates = SPECULATION_OPEN;
    if (speculation_open(&job->speculation, job->prompt_count + (size_t)job->limit, scheduler->speculate,
                         scheduler->always_speculates, NULL) != BULLA_OK) {
        speculation_close(&job->speculation); /* the answer goes on without */
        job->speculates = SPECULATION_REFUSED;
        return;
    }
    for (size_t i = 0; i < job->count; i++)
        speculation_prompt(&job->speculation, job->tokens[i]);
}

static void close_speculation(struct scheduler *scheduler)
{
    for (uint32_t i = 0; i < scheduler->running_count; i++) {
        struct job *job = scheduler->running[i];
        if (job->speculates == SPECULATION_OPEN) {
            speculation_close(&job->speculation);
            job->speculates = SPECULATION_CLOSED;
        }
    }
}

static void propose(struct scheduler *scheduler, struct job *job, uint32_t room)
{
    if (job->speculates != SPECULATION_OPEN)
        return;
    uint64_t left = job->limit - (job->count - job->prompt_count) - 1;
    const bulla_tokenizer *tokenizer = job->ignores_end && !job->grammar ? NULL : scheduler->tokenizer;
    job->step_ids[0] = job->tokens[job->count - 1];
    job->proposed = answer_propose(&job->speculation, tokenizer, least(left, room), job->step_ids + 1);
    job->rows += job->proposed;
}

/* Proposals where few jobs decode, and nothing else happens in the step; whether that is so. The times of such steps
 * tell what further rows cost beside so many jobs. */
static int plan_proposals(struct scheduler *scheduler, uint32_t decoders)
{
    if (decoders > SPECULATION_KEPT)
        close_speculation(scheduler);
    int is_usable = scheduler->speculate && decoders == scheduler->running_count && decoders <= SPECULATING &&
                    decoders <= scheduler->step_rows;
    if (!is_usable)
        return 0;
    uint32_t rows = least(scheduler->step_rows, scheduler->most_rows);
    for (uint32_t i = 0; i < decoders; i++) {
        struct job *job = scheduler->running[i];
        open_speculation(scheduler, job);
        if (scheduler->speculating != decoders)
            speculation_forget_times(&job->speculation);
        propose(scheduler, job, rows > decoders ? (rows - decoders) / decoders : 0);
    }
    scheduler->speculating = decoders;
    return 1;
}

/* --- pages --- */

static uint64_t count_pages(const struct scheduler *scheduler)
{
    uint64_t pages = 0;
    for (uint32_t i = 0; i < scheduler->running_count; i++)
        pages += job_pages(scheduler->running[i]);
    return pages;
}

static void drop_proposals(struct scheduler *scheduler)
{
    for (uint32_t i = 0; i < scheduler->running_count; i++) {
        scheduler->running[i]->rows -= scheduler->running[i]->proposed;
        scheduler->running[i]->proposed = 0;
    }
}

/* Jobs give way until there are pages for the others' rows. One alone has them: it was accepted for that, and shares no
 * page with another. */
static void find_pages(struct scheduler *scheduler)
{
    uint64_t available = bulla_engine_pages_free(scheduler->engine);
    if (count_pages(scheduler) > available)
        drop_proposals(scheduler);
    while (scheduler->running_count > 1 && count_pages(scheduler) > bulla_engine_pages_free(scheduler->engine))
        preempt_for_pages(scheduler);
}

/* --- the step --- */

static bulla_piece piece_of(struct scheduler *scheduler, struct job *job, uint64_t *logits_rows, uint64_t *hidden_rows)
{
    uint64_t length = bulla_sequence_length(job->sequence);
    bulla_piece piece = {.sequence = job->sequence, .ids = job->proposed ? job->step_ids : job->tokens + length,
                         .count = job->rows, .logits_from = job->rows};
    if (job->embeds) {
        piece.hidden = scheduler->hidden + *hidden_rows * bulla_engine_hidden_size(scheduler->engine);
        *hidden_rows += job->rows;
    } else if (length + job->rows >= job->count) {
        piece.logits_from = job->rows - 1 - job->proposed;
        piece.logits = scheduler->logits + *logits_rows * scheduler->program->vocabulary;
        *logits_rows += 1 + job->proposed;
    }
    return piece;
}

/* Those that give a result come first, so that it is told after an early batch: what decodes, what ends its prompt;
 * then what goes on with it. */
static int place_of(const struct job *job)
{
    if (job_is_decoding(job))
        return 0;
    return job_remaining(job) == job->rows ? 1 : 2;
}

static void make_pieces(struct scheduler *scheduler)
{
    uint64_t logits_rows = 0, hidden_rows = 0;
    scheduler->planned_count = scheduler->settled = 0;
    for (int place = 0; place < 3; place++)
        for (uint32_t i = 0; i < scheduler->running_count; i++) {
            struct job *job = scheduler->running[i];
            if (job->rows == 0 || place_of(job) != place)
                continue;
            scheduler->planned[scheduler->planned_count] = job;
            scheduler->pieces[scheduler->planned_count++] = piece_of(scheduler, job, &logits_rows, &hidden_rows);
        }
}

static void settle(struct scheduler *scheduler, struct job *job, const bulla_piece *piece)
{
    job->may_copy = 0;
    job->latest_step = scheduler->step;
    int is_prompt = piece->logits_from == piece->count || piece->count > 1 + job->proposed;
    if (is_prompt && scheduler->blocked && scheduler->blocked->tenant == job->tenant)
        scheduler->blocked = NULL; /* it may find more in the prefix cache now */
    scheduler->counters.proposed_tokens += job->proposed;
    if (piece->code != BULLA_OK && piece->code != BULLA_E_RANGE) {
        bulla_error error = {0};
        bulla_fail(&error, piece->code, "the engine could not compute tokens of this request");
        job_fail(scheduler, job, &error);
    } else if (piece->logits_from < piece->count)
        job_draw(scheduler, job, piece);
    else if (piece->code == BULLA_E_RANGE)
        job_finish(scheduler, job, (struct job_end){.reason = SCHEDULER_RANGE, .range_position = piece->range_position,
                                                    .range_operation = piece->range_operation});
    else if (job->embeds) {
        embed_add(scheduler, job, piece->hidden, piece->count);
        if (bulla_sequence_length(job->sequence) == job->prompt_count)
            embed_end(scheduler, job);
    }
}

/* The pieces one after another, where together they could not be had. */
static void run_alone(struct scheduler *scheduler, struct job *job, bulla_piece *piece)
{
    bulla_error error = {0};
    int code = bulla_engine_step(scheduler->engine, piece, 1, &error);
    if (code == BULLA_OK)
        settle(scheduler, job, piece);
    else if (code == BULLA_E_LIMIT && scheduler->running_count > 1)
        job_preempt(scheduler, job);
    else
        job_fail(scheduler, job, &error);
}

/* The next batch of the step under way, and what came of it. The times of steps with one batch tell what rows cost. */
static void run_batch(struct scheduler *scheduler, int is_timed)
{
    double before = clock_seconds();
    size_t ended = bulla_engine_continue(scheduler->engine);
    double seconds = clock_seconds() - before;
    is_timed &= ended == scheduler->planned_count;
    while (scheduler->settled < ended) {
        uint32_t at = scheduler->settled++;
        struct job *job = scheduler->planned[at];
        if (!job) /* finished meanwhile */
            continue;
        if (is_timed && job->speculates == SPECULATION_OPEN)
            speculation_took(&job->speculation, job->rows, seconds);
        settle(scheduler, job, &scheduler->pieces[at]);
    }
}

static void run_pieces(struct scheduler *scheduler, int is_timed)
{
    bulla_error error = {0};
    scheduler->counters.steps++;
    if (bulla_engine_begin(scheduler->engine, scheduler->pieces, scheduler->planned_count, &error) == BULLA_OK) {
        run_batch(scheduler, is_timed);
        return;
    }
    while (scheduler->settled < scheduler->planned_count) {
        uint32_t at = scheduler->settled++;
        if (scheduler->planned[at])
            run_alone(scheduler, scheduler->planned[at], &scheduler->pieces[at]);
    }
}

static void begin_step(struct scheduler *scheduler)
{
    scheduler->step++;
    expire(scheduler);
    scheduler_admit(scheduler);
    while (scheduler->running_count) {
        uint32_t decoders = plan_rows(scheduler);
        int is_timed = plan_proposals(scheduler, decoders);
        find_pages(scheduler);
        make_pieces(scheduler);
        if (scheduler->planned_count) {
            run_pieces(scheduler, is_timed);
            break;
        }
    }
}

int scheduler_step(struct scheduler *scheduler, bulla_error *error)
{
    if (scheduler->calls)
        return bulla_fail(error, BULLA_E_USAGE, "scheduler_step was called from inside a callback of the scheduler");
    calls_begin(scheduler);
    if (scheduler->settled < scheduler->planned_count)
        run_batch(scheduler, 0);
    else
        begin_step(scheduler);
    calls_end(scheduler);
    return BULLA_OK;
}
