/* What the scheduler's files share. A request that was accepted is a job until its finish. */
#ifndef EXEC_SCHEDULER_INTERNAL_H
#define EXEC_SCHEDULER_INTERNAL_H

#include "base/buffer.h"
#include "exec/grammar_table.h"
#include "exec/scheduler.h"
#include "exec/speculate.h"

/* A stop string and how much of it the text ends with (Knuth, Morris, Pratt). */
struct stop {
    char *text;
    size_t length, matched;
    size_t *border; /* [length]: of text[0..i] the longest proper prefix that is its suffix too */
};

/* Whose requests take turns. One with no jobs stays while it was given more than those that have some. */
struct tenant {
    struct tenant *next;
    char *name;           /* NULL: the requests without one */
    uint64_t service;     /* tokens that it was given */
    uint64_t jobs;
    uint64_t held;        /* pages or places of its running jobs, while they are counted */
    struct job *first, *last; /* its waiting jobs: by priority, then in the order they came */
    struct job *next_in_step; /* of them: the first that was neither started nor passed in this step */
};

enum job_state { JOB_WAITING, JOB_RUNNING, JOB_FINISHED };

struct job {
    uint64_t id;
    enum job_state state;
    struct job *next, *previous;                 /* all that are not finished; the finished ones wait to be freed */
    struct job *next_in_bucket;
    struct job *next_expired;                    /* while those past their deadline finish */
    struct job *next_waiting, *previous_waiting; /* of the tenant */
    struct tenant *tenant;
    int priority;
    uint64_t arrival;       /* number of the request */
    uint64_t turn;          /* number of its first start, from 1; 0: not started yet */
    uint64_t deadline;
    uint64_t looked_at;     /* the step in which `found` was seen; 0: not yet */
    uint64_t found;         /* positions that the prefix cache had for it then */

    uint32_t *tokens;       /* [capacity]: the prompt, then the answer; count in all */
    size_t prompt_count, count, capacity;
    uint64_t limit;         /* most tokens of the answer */
    bulla_sampling sampling;
    int shares_prefix, ignores_end, logprobs, embeds;

    bulla_sequence *sequence; /* while it runs */
    int may_copy;             /* its next position may lie in a page that others hold: it takes one page more */
    uint32_t rows, proposed;  /* of this step; the proposals are among the rows */
    uint32_t step_ids[1 + SPECULATE_MOST];
    uint64_t latest_step;     /* in which it had rows */
    uint64_t start_step;      /* in which it started last */
    struct speculation speculation;
    enum { SPECULATION_CLOSED, SPECULATION_OPEN, SPECULATION_REFUSED } speculates;

    struct stop *stops;
    size_t stop_count;
    bulla_text_stream stream;
    struct buffer held;       /* text that was not handed out */
    struct buffer out;        /* text that goes with the token being handed out */
    struct grammar_entry *grammar;       /* NULL: none */
    struct grammar_state *grammar_state; /* of it, from the job's first start on */
    double *sum;              /* embeds: [hidden size] */

    uint64_t cached_tokens;
    uint64_t added, started, first_drawn; /* clock_nanoseconds(); 0: not yet */
};

struct scheduler {
    bulla_engine *engine;
    const bulla_program *program;
    const bulla_tokenizer *tokenizer;
    uint32_t most_running, step_rows, speculate;
    int always_speculates;      /* tests: all that is guessed, whether it pays or not */
    struct scheduler_events events;
    bulla_sampler *sampler;
    struct grammar_vocabulary *vocabulary; /* NULL until a job with a grammar starts */
    struct grammar_table grammars;
    uint64_t grammar_step, grammar_work; /* the step in which grammars were compiled last, and what that cost */
    int32_t *logits;            /* [most_rows][vocabulary], memory only where touched */
    uint32_t most_rows;
    int32_t *hidden;            /* [step_rows][hidden size], NULL until a request embeds */
    struct scheduler_logprob top[SCHEDULER_MOST_LOGPROBS];

    struct job *jobs;           /* all */
    struct job *finished;       /* freed when no call is under way any more */
    struct job **buckets;       /* [bucket_count], a power of two: all by their ids */
    size_t bucket_count;
    struct tenant *tenants;
    uint64_t job_count;
    struct job **running;       /* [most_running]: by priority, then by turn */
    uint32_t running_count;
    struct job **planned;       /* [most_running]: those with rows in this step, NULL once finished; and their pieces */
    bulla_piece *pieces;
    uint32_t planned_count, settled; /* the first `settled` have had their results; all: no step is under way */

    uint64_t arrivals, turns, step;
    uint64_t next_deadline;     /* none ends before it; UINT64_MAX: none at all */
    uint64_t prompt_credit;     /* quarters of rows that prompts may claim before tokens are decoded */
    uint32_t skipped;           /* latest steps that were the prompts' alone, while others decode */
    uint32_t speculating;       /* answers that the times of speculation are of */
    const struct job *blocked;  /* did not fit when it was tried last, and nothing changed what it needs ... */
    int64_t blocked_room;       /* ... it does not before so many pages are free beyond what running jobs will need */
    unsigned calls;             /* under way: step, cancel */
    struct scheduler_counters counters;
};

/* --- jobs (scheduler_job.c) --- */

/* How a job ends. */
struct job_end {
    enum scheduler_finish_reason reason;
    const struct stop *stop;
    uint64_t range_position;
    uint32_t range_operation;
    const bulla_error *error;
};
/* A job that waits: a copy of a request that was checked, with at most `limit` tokens. */
int job_add(struct scheduler *scheduler, const struct scheduler_request *request, uint64_t limit, struct job **job,
            bulla_error *error);
void job_free(struct scheduler *scheduler, struct job *job);
/* Takes it out of everything and tells its finish. The job's memory stays until no call is under way. */
void job_finish(struct scheduler *scheduler, struct job *job, struct job_end end);
void job_fail(struct scheduler *scheduler, struct job *job, const bulla_error *error);
/* Room for one token more. */
int job_reserve(struct job *job, bulla_error *error);
/* All that is not finished is known by its id. */
struct job *job_find(const struct scheduler *scheduler, uint64_t id);
/* Around a call that may call back. */
void calls_begin(struct scheduler *scheduler);
void calls_end(struct scheduler *scheduler);

/* --- order (scheduler_queue.c) --- */

/* The tenant of that name with one job more. */
struct tenant *queue_join(struct scheduler *scheduler, const char *name, bulla_error *error);
void queue_leave(struct scheduler *scheduler, struct tenant *tenant);
void queue_put(struct job *job);   /* into its tenant's queue */
void queue_take(struct job *job);  /* out of it */
/* A step begins; those that come to wait while it looks at them are not among the next ones before another does. */
void queue_rewind(struct scheduler *scheduler);
/* The waiting job whose turn it is, those passed in this step left out; NULL: none. */
struct job *queue_next(const struct scheduler *scheduler);
/* Others are let past the one whose turn it is. */
void queue_pass(struct job *job);
/* The jobs that run, in the order in which they are served. */
void running_put(struct scheduler *scheduler, struct job *job);
void running_take(struct scheduler *scheduler, struct job *job);

/* --- rows (scheduler_step.c) --- */

/* Of a running job: positions to compute before its next token is drawn. */
uint64_t job_remaining(const struct job *job);
int job_is_decoding(const struct job *job);
/* Whether a prompt with so many rows to go passes the one that is first: at most half as long as what is left of it. */
int job_may_pass(const struct job *first, int priority, uint64_t remaining);

/* --- starting (scheduler_admit.c) --- */

uint64_t pages_for(uint64_t positions);
/* Positions that are ever computed: the last token of an answer is not. */
uint64_t job_positions(const struct job *job);
/* Pages that its rows of this step take. */
uint64_t job_pages(const struct job *job);
/* Pages for a job's tokens so far and the next one. */
uint64_t pages_wanted(const struct job *job);
/* Pages free beyond what those that run will take for their tokens so far and the next one. */
int64_t find_room(const struct scheduler *scheduler);
/* Pages that are left to those that run when another one starts. */
uint64_t spare_pages(const struct scheduler *scheduler);
/* Starts waiting jobs as far as there is room. */
void scheduler_admit(struct scheduler *scheduler);
/* --- giving way (scheduler_preempt.c) --- */

/* It gives its pages back and waits. */
void job_preempt(struct scheduler *scheduler, struct job *job);
/* A running job gives way to one that found no room, if that has more right to run. */
int preempt_for(struct scheduler *scheduler, const struct job *job);
/* A running job gives way where pages are short, and several run: the last one, or that of the tenant that has more
 * than half of the pages and runs others too; not the first one of all. */
void preempt_for_pages(struct scheduler *scheduler);

/* --- tokens (scheduler_draw.c) --- */

/* Draws from a finished piece's logits as long as the tokens are those that it went on with. */
void job_draw(struct scheduler *scheduler, struct job *job, const bulla_piece *piece);

/* --- text (scheduler_text.c) --- */

int text_open(struct job *job, const struct scheduler_request *request, bulla_error *error);
void text_close(struct job *job);
/* The token's text: what became certain goes to job->out. *stop: the stop string that it completed, or NULL. */
int text_append(const bulla_tokenizer *tokenizer, struct job *job, uint32_t token, const struct stop **stop,
                bulla_error *error);
/* No token comes any more: what is left in job->held belongs to the answer, but for a stop string. */
int text_end(struct job *job, const struct stop **stop, bulla_error *error);

/* --- logprobs (scheduler_logprobs.c) --- */

/* Natural logarithms of the softmax: the token's, and those of the `most` likeliest by (logit falling, id rising). */
double logprobs_find(const int32_t *logits, uint32_t vocabulary, int F, uint32_t token, struct scheduler_logprob *top,
                     size_t most);

/* --- embeddings (scheduler_embed.c) --- */

int embed_open(struct scheduler *scheduler, struct job *job, bulla_error *error);
/* Adds the hidden states of successive positions. */
void embed_add(const struct scheduler *scheduler, struct job *job, const int32_t *hidden, uint32_t count);
/* Tells the embedding and finishes. */
void embed_end(struct scheduler *scheduler, struct job *job);

/* --- grammars (scheduler_grammar.c); nothing where the job has none --- */

/* Of a job that comes. */
int grammar_open(struct scheduler *scheduler, struct job *job, const char *specification, size_t length,
                 bulla_error *error);
void grammar_close(struct scheduler *scheduler, struct job *job);
void grammar_forget(struct scheduler *scheduler); /* what is kept beyond jobs */
/* Whether the job can start in this step: its grammar is compiled, or as little was compiled in this step that another
 * one may be. A job that cannot is the first one in the next step. */
int grammar_may_start(const struct scheduler *scheduler, const struct job *job);
/* When the job starts, for the first time or again: from then on it can be asked what is allowed. */
int grammar_start(struct scheduler *scheduler, struct job *job, bulla_error *error);
int grammar_allowed(struct job *job, const uint64_t **allowed, bulla_error *error); /* NULL: all */
int grammar_accept(struct job *job, uint32_t token, bulla_error *error);
int grammar_is_final(const struct job *job);

#endif
