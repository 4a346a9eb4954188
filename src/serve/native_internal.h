/* Inside the native backend (serve/native.h): what its files share.
 *
 *   native_process  one worker process: started, killed, waited for
 *   native_run      a worker that is kept running: its socket, its frames, its death and the next start
 *   native_prompt   a request's prompt as token ids, and the grammar that its tools ask for
 *   native_answer   answers under way: their beginning, their way to the worker, their end
 *   native_told     what the worker tells becomes deltas
 *   native_memory   how large the cache is where nobody says
 *   native_replay   answers computed again, without a worker
 *   native          the backend's table of functions */
#ifndef SERVE_NATIVE_INTERNAL_H
#define SERVE_NATIVE_INTERNAL_H

#include <sys/types.h>

#include "bulla/chat_template.h"
#include "bulla/model.h"
#include "serve/native.h"
#include "serve/tools.h"
#include "serve/wire.h"

struct event;

/* ---- native_process.c ---- */

struct native_process {
    pid_t pid;  /* 0: none */
    int handle; /* pidfd, or -1 where the kernel has none */
};

/* Starts `program` (NULL: this one) as `bulla worker` with the three descriptors as its 3, 4 and 5, `errors` as its
 * standard error, nothing else open, no signal blocked, a session of its own (a terminal's Ctrl-C is for the server),
 * and of the environment only what WORKER_VARIABLES lists. */
int native_process_start(const char *program, int socket, int model_file, int counters, int errors,
                         struct native_process *process, bulla_error *error);
void native_process_kill(const struct native_process *process); /* SIGKILL; one that is gone is fine */
/* Whether it has ended, without waiting; then *status is as waitpid says, and the process is none. */
int native_process_has_ended(struct native_process *process, int *status);

/* ---- native_run.c ---- */

struct native_run;

struct native_run_events {
    void (*ready)(void *context);
    /* Not READY, which native_run takes itself. A code ends the worker: it broke the protocol. */
    int (*frame)(void *context, const struct wire_frame *frame, bulla_error *error);
    void (*lost)(void *context);   /* the worker is gone, with all that it was asked */
    void (*failed)(void *context); /* it could not be started several times in a row */
    int (*is_busy)(void *context); /* whether the worker has anything to do */
    /* Bracket each of libevent's calls; after the second the run may be gone. */
    void (*enter)(void *context);
    void (*leave)(void *context);
};

enum native_phase {
    NATIVE_STOPPED,
    NATIVE_RUNNING, /* ready or on the way to it */
    NATIVE_ENDING,  /* killed or dead, not yet waited for */
    NATIVE_PAUSED   /* until the next start */
};

struct native_run {
    struct event_base *base;
    const char *program;
    int model_file;
    const uint8_t *root; /* of the model: a worker that found another is refused */
    struct wire_configure configure;
    struct native_run_events events;
    void *context;

    enum native_phase phase;
    int is_ready, has_failed;
    struct native_process process;
    int socket, errors; /* -1: closed */
    struct event *readable, *writable, *errors_readable, *timer;
    uint8_t *in; /* a frame begins at its start */
    size_t in_length, in_capacity;
    struct buffer out;
    size_t sent;
    struct wire_counters *counters; /* mapped read-only; NULL: no worker */
    struct backend_counters before; /* sums of the workers before */
    unsigned quick_deaths;          /* in a row: before or soon after READY */
    unsigned failed_starts;         /* in a row: before READY */
    unsigned waits;                 /* for the process to end */
    unsigned stuck_seconds;         /* a busy worker that makes no step for so long is killed */
    uint64_t seen_steps, stepped_at;
    uint64_t ready_at, starts;
    char last_line[400];            /* of the worker's standard error */
    size_t last_length;
    int line_has_ended;
    char trouble[600];              /* "": none */
};

/* Starts the first worker. The structure's first part is the caller's to fill; the rest is zero. */
int native_run_open(struct native_run *run, bulla_error *error);
void native_run_close(struct native_run *run); /* kills the worker; a zeroed run is fine */
/* Sends what was appended to run->out. */
void native_run_flush(struct native_run *run);
size_t native_run_unsent(const struct native_run *run); /* bytes */
void native_run_count(const struct native_run *run, struct backend_counters *counters);

/* ---- native_prompt.c ---- */

struct native;

/* What is taken of one request's text: it is judged before it is encoded, which would take its time. */
struct native_limits {
    size_t bytes, ids;
};

struct native_prompt {
    uint32_t *ids; /* bulla_tokens_free */
    size_t count;
    struct buffer grammar; /* a specification instead of the request's own, or empty */
    int takes_tools;       /* calls are looked for in the answer */
    int is_thinking;       /* the prompt ends inside <think> */
    int is_parsed;         /* the answer's text goes through an output_parser */
};

/* *param: the request's field that an error is about; after BULLA_OK the one that the prompt came from. BULLA_E_LIMIT
 * where the text is beyond `limits`. */
int native_prompt_make(const struct native *native, const struct answer_request *request, int adds_special,
                       const struct native_limits *limits, struct native_prompt *prompt, const char **param,
                       bulla_error *error);
/* Whether the model can answer it: it is not empty, fits the context, and its ids are the vocabulary's. */
int native_prompt_check(const struct native *native, const struct native_prompt *prompt, bulla_error *error);
void native_prompt_free(struct native_prompt *prompt);

/* ---- native_answer.c ---- */

/* What the worker calls a request: the slot in its low half, how often the slot was taken in its high one. */
struct native_slot {
    struct answer *answer; /* NULL: free */
    uint32_t choice;
    uint32_t takes;
    uint32_t next_free; /* 1 + number, 0: none */
};

struct native_choice {
    struct answer *answer;
    uint64_t request;
    struct output_parser *parser;     /* NULL: the text is delivered as it comes */
    const struct answer_delta *token; /* that is being delivered, what its first piece says of it; NULL once it did */
    int has_ended;
    int is_reasoning; /* the last piece was */
};

/* Whose answers are under way. */
struct native_tenant {
    struct native_tenant *next;
    char *name; /* NULL: those without one */
    uint64_t choices;
};

struct answer_list {
    struct answer *first, *last;
};

struct answer {
    struct native *native;
    struct answer_request request;
    struct answer_sink sink;
    struct native_prompt prompt; /* its ids and grammar only while it waits */
    struct answer *previous, *next;
    struct answer_list *list; /* NULL: it has ended */
    unsigned holds;
    uint64_t started, first_token; /* clock_nanoseconds() */
    struct native_tenant *tenant;
    uint64_t held_bytes;           /* that it counts among native.held_bytes */
    uint32_t choices_left;
    int has_delivered;
    struct answer_usage usage;
    struct native_choice choices[];
};

struct native {
    struct backend backend;
    char *path, *program;
    bulla_model *model;
    int model_file;
    bulla_chat_template *chat_template; /* NULL where the model has none */
    struct tool_format format;
    char root[65];
    uint8_t tokenizer_hash[32], template_hash[32]; /* SHA-256 of these parts of the model's file */
    struct native_limits limits; /* of a prompt that is to be answered */
    int64_t written_at;          /* Unix time that chat templates see; 0: the present */
    uint64_t most_choices; /* under way at once */
    struct native_run run;
    struct native_slot *slots;
    uint32_t slot_count, slot_capacity, free_slot;
    struct answer_list waiting, running; /* for the worker to be ready; in it */
    uint64_t waiting_choices;
    uint64_t choices;            /* under way */
    uint64_t held_bytes;         /* that this process or the worker holds for them */
    struct native_tenant *tenants;
    struct event *deadline_timer; /* at the first deadline among `waiting`: */
    uint64_t next_deadline;       /* UINT64_MAX: none */
    unsigned depth; /* of calls that must find the backend alive when they return */
    int is_closed;
};

/* ---- native.c ---- */

/* With that file's model, its template and its hashes, and nothing that answers yet. Where there will be no worker, which
 * else computes the model's root, it is computed here. */
int native_new(const char *path, int has_worker, struct native **native, bulla_error *error);
void native_free(struct native *native);
void native_enter(void *native);
void native_leave(void *native); /* frees a backend that was closed meanwhile */

int native_answers_open(struct native *native, struct event_base *base, bulla_error *error);
void native_answers_close(struct native *native); /* when there are none; one that was not opened is fine */
struct answer *native_answer_start(struct backend *backend, const struct answer_request *request,
                                   const struct answer_sink *sink, struct answer_error *problem);
void native_answer_cancel(struct answer *answer);
/* Events of native_run. */
void native_answers_ready(void *native);
void native_answers_lost(void *native);
void native_answers_failed(void *native);
/* Every answer under way fails. */
void native_answers_end(struct native *native, const struct answer_error *problem);

void native_problem_set(struct answer_error *problem, int status, const char *type, const char *code, const char *param,
                        unsigned retry_after, const char *message);
/* An error of this project as one of the API. */
void native_problem_of(struct answer_error *problem, int code, const char *param, const char *message);
void native_problem_of_deadline(struct answer_error *problem);
/* NULL where the worker's number of a request means nothing (any more). */
struct native_slot *native_find_slot(struct native *native, uint64_t request);
/* The last call of an answer's sink; nothing where it has ended. */
void native_answer_fail(struct answer *answer, const struct answer_error *problem);
void native_answer_end(struct answer *answer);
/* After holds++: frees what has ended meanwhile. */
void native_answer_release(struct answer *answer);

/* ---- native_told.c ---- */

int native_answers_frame(void *native, const struct wire_frame *frame, bulla_error *error);
/* Where a choice's output_parser puts its pieces; context: struct native_choice. */
void native_take_piece(void *choice, const struct answer_delta *piece);

/* ---- native_memory.c ---- */

/* KV pages for that many positions; 0 positions: by the memory that is free now, see native.h. */
int native_memory_pages(const bulla_program *program, uint64_t positions, uint64_t model_bytes, uint64_t *pages,
                        bulla_error *error);

#endif
