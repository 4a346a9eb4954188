/* What the API's parts share: one HTTP exchange (struct api_call), and one answer of a model, streamed or
 * gathered (struct api_answer), which a form (struct answer_form: chat, completion, ...) writes as JSON.
 *
 * An answer has a run for each prompt and a choice for each answer to it. It is done once: when all runs have
 * ended, when one failed, when the client hung up, or when the server hands back. It is freed later, by the event
 * loop: never inside a backend's callback, which may be what ended it. */
#ifndef SERVE_API_ANSWER_H
#define SERVE_API_ANSWER_H

#include "base/buffer.h"
#include "base/hash.h"
#include "serve/api.h"
#include "serve/api_request.h"

enum {
    API_MOST_REQUEST_ID = 128,
    API_MOST_HOST = 256,
    API_MOST_REPLY = 64 << 20, /* bytes of a whole answer, and gathered of a stream */
    API_MOST_RUNS = 64,       /* of one answer at a time */
    API_MOST_TOOL_CALLS = 1024, /* of one choice */
    API_RANDOM_BYTES = 16,
    API_KNOWN_TOOLS = 64,     /* lists of tools whose schemas were found to be good */
    API_GRACE_MILLISECONDS = 1000 /* for a backend to end an answer at its deadline itself, with all that it has to tell */
};

struct event;
struct api_answer;
struct api_choice;
struct api_receipt;
struct receipts;
struct api_evidence;

struct api {
    struct event_base *base;
    struct models *models;
    const struct serve_rules *rules;
    struct receipts *receipts;
    char *cors_origin, *version;
    char **hosts;
    size_t host_count;
    int has_page, is_draining, is_local;
    size_t held, most_held;      /* bytes: the sum of the answers' `held` */
    uint64_t keep_alive_nanoseconds;
    struct grammar_memory grammars; /* schemas that requests had lately */
    struct event *sweep; /* made active when answers wait to be freed, or runs to be started */
    struct event *tick;  /* while there are answers: comments on idle streams */
    struct event *alarm; /* for the first deadline of an answer, a grace later */
    uint64_t alarm_at;   /* clock_nanoseconds(); 0: none */
    struct api_answer *answers; /* under way */
    struct api_answer *ended;
    struct api_evidence *evidence; /* NULL: the server has no attestation */
    unsigned answer_count;
    int has_waiting_runs;
    uint8_t known_tools[API_KNOWN_TOOLS][HASH_SHA256_BYTES]; /* a ring */
    unsigned known_count;
};

/* One exchange. Answers keep a copy of it. */
struct api_call {
    struct api *api;
    struct http_exchange *exchange; /* NULL when it is gone */
    const char *route;              /* the pattern */
    const char *rest;               /* what stands for {id}; while the exchange lives */
    char id[API_MOST_REQUEST_ID + 1];
    char method[16];
    char peer[64];
    struct rules_identity identity;
    struct rules_record record;     /* filled as things become known */
    char seed[24];                  /* of an answer that draws, in decimal: x-bulla-seed */
    char receipt_id[33], receipt_salt[65]; /* in hex; "": no receipt */
    int is_unverified;              /* x-bulla-verified: false */
    int is_answer;                  /* of an answer that is under way: recorded when that is done, not by api_call_reply */
};

/* Sends the whole of an answer, with the headers that all have, and records it. */
void api_call_reply(struct api_call *call, int status, const char *content_type, const void *body, size_t length);
/* The same of a buffer, which may hold an error instead; it is empty afterwards. */
void api_call_reply_json(struct api_call *call, int status, struct buffer *body);
/* JSON in parts (http_reply_parts). */
struct http_part;
void api_call_reply_parts(struct api_call *call, int status, const struct http_part *parts, size_t count);
/* What a record says of an error: a constant of this program. */
const char *api_problem_code(const struct answer_error *problem);
void api_call_fail(struct api_call *call, const struct answer_error *problem);
void api_call_fail_with(struct api_call *call, int status, const char *type, const char *code, const char *param,
                        const char *format, ...) __attribute__((format(printf, 6, 7)));
/* Only the headers that all answers have. */
void api_call_set_headers(struct api_call *call);
/* To the rules, once, when the answer has ended. */
void api_call_record(struct api_call *call, int status);
/* The model that a request names; NULL after failing the call. */
struct served_model *api_call_find_model(struct api_call *call, const char *name);

/* Answers under way hold too much. */
extern const struct answer_error api_overloaded;

/* {"error":{...}} */
void api_write_error(struct buffer *out, const struct answer_error *problem);
void api_write_number(struct buffer *out, uint64_t value); /* decimal digits, without a format */
void api_write_real(struct buffer *out, double value, int digits); /* JSON has no infinity: -9999 or 9999 stand for it */
void api_write_text(struct buffer *out, const char *text);         /* a JSON string */
void api_write_text_or_null(struct buffer *out, const char *text);

struct api_tool {
    char *id, *name;
    struct buffer arguments;
};

struct api_choice {
    uint32_t index;            /* in the whole answer: prompt x n + choice */
    struct api_run *run;
    int has_begun;             /* its first chunk is out */
    struct buffer text, reasoning; /* gathered */
    struct buffer lists[4];    /* gathered logprobs: [0] alone for chats; see api_completion.c */
    struct api_tool *tools;
    size_t tool_count, tool_room;
    uint64_t characters;       /* of its tokens so far, for text_offset */
    const char *finish;        /* as the backend calls it: a constant; NULL: not yet */
    char *stop;                /* the stop string that ended it, or "deadline" */
    uint64_t told;             /* when tokens came last; 0: none did */
    uint64_t tokens;           /* so far */
};

struct api_run {
    struct api_answer *owner;
    size_t number;
    enum { RUN_WAITING, RUN_STARTING, RUN_RUNNING, RUN_ENDED } state;
    struct answer *answer; /* the backend's, while it runs */
};

struct answer_form {
    const char *id_prefix; /* "chatcmpl-" */
    const char *object;    /* "chat.completion" */
    /* Before anything is asked of the backend. Errors fail the request. May be NULL, as all below may be where a form
     * never needs them. */
    int (*open)(struct api_answer *answer, struct answer_error *problem);
    /* Each writes into answer->out; a stream's is sent when the call returns. */
    void (*begin)(struct api_answer *answer);  /* a stream */
    void (*begin_choice)(struct api_answer *answer, struct api_choice *choice); /* a stream's, before all of it */
    void (*delta)(struct api_answer *answer, struct api_choice *choice, const struct answer_delta *delta);
    void (*finish)(struct api_answer *answer, struct api_choice *choice); /* a stream's */
    int (*embedding)(struct api_answer *answer, struct api_choice *choice, const float *values, size_t count,
                     struct answer_error *problem);
    void (*end)(struct api_answer *answer); /* the end of a stream, or the whole */
    void (*fail)(struct api_answer *answer, const struct answer_error *problem); /* a stream that has begun */
    void (*close)(struct api_answer *answer);
};

struct api_answer {
    struct api_answer *next, *previous;
    struct api_call call;
    struct api_request request;
    const struct answer_form *form;
    void *state;               /* the form's */
    struct served_model *model;
    struct backend_info info;
    char fingerprint[24];      /* "bulla-" and 12 digits, or "" */
    char id[40];
    const char *model_name;    /* as the request says it */
    uint64_t created;          /* Unix time */
    int is_done;
    int has_begun;             /* a stream's headers are out */
    uint64_t written;          /* clock_nanoseconds() of the last bytes of a stream */
    struct api_run *runs;
    size_t run_count, next_run, running, ended_runs;
    struct api_choice *choices;
    size_t choice_count;
    struct answer_usage usage;
    size_t held;               /* bytes until its end, of api->held: what was kept of the request, choices, what was gathered */
    size_t gathered;           /* of them, bytes that the whole of the answer will have at least */
    struct api_receipt *receipt; /* NULL: none is issued */
    struct buffer out;         /* used again and again; holds at most API_MOST_REPLY */
    struct buffer head, tail;  /* of every chunk: the form's, made once */
};

/* Answers a request that was read: takes it over (also where it fails) and copies the call. */
void api_answer_begin(struct api_call *call, struct api_request *request, const struct answer_form *form);
/* Its receipt is in the log, or it has none: the rest of it is sent. */
void api_answer_complete(struct api_answer *answer);
/* Ends it with an error: as the whole answer, or in its stream. */
void api_answer_fail(struct api_answer *answer, const struct answer_error *problem);
void api_answer_fail_memory(struct api_answer *answer);
/* Ends what is under way, with this error. */
void api_answer_fail_all(struct api *api, const struct answer_error *problem);
/* Ends those whose backend has not ended them at their deadline: the alarm event's. */
void api_answer_end_late(struct api *api);
/* Frees the answers that are done and starts the runs that wait: the sweep event's. */
void api_answer_sweep(struct api *api);

/* Whether the arguments of tools that must be called, and of those that say `strict`, are schemas that can be enforced
 * (api_tool_schemas.c); `is_flat`: the request has them as /v1/responses does. */
int api_check_tool_schemas(struct api *api, struct api_request *request, int is_flat, struct answer_error *problem);
/* Whether another server computes the answers. */
int api_is_upstream(const struct backend_info *info);

/* Counts bytes that were gathered. */
void answer_gather(struct api_answer *answer, size_t bytes);
/* The backend's words into a constant. */
const char *answer_finish_name(const char *reason);
/* What the OpenAI API calls it: "range" is "length". */
const char *answer_finish_word(const char *reason);
/* ,"usage":{...} without the comma and key */
void answer_write_usage(struct buffer *out, const struct answer_usage *usage);
/* {"token","logprob","bytes","top_logprobs"} of a delta's token */
void answer_write_logprob(struct buffer *out, const struct answer_delta *delta);
/* What ended it, beyond OpenAI's words: a stop string, "range" or "deadline"; NULL: nothing. */
const char *answer_stop_reason(const struct api_choice *choice);
/* "stop_reason": the same */
void answer_write_stop_reason(struct buffer *out, const struct api_choice *choice);
/* Characters in UTF-8 text, counted by their first bytes. */
uint64_t answer_count_characters(const char *text, size_t length);
/* {"id","object","created","model","system_fingerprint","choices":[ */
void answer_write_head(struct api_answer *answer, struct buffer *out, const char *object);
/* ,"bulla":{"verified":false} where it is so */
void answer_write_marks(struct api_answer *answer, struct buffer *out);
/* data: {error} data: [DONE] */
void answer_fail_stream(struct api_answer *answer, const struct answer_error *problem);
/* head and tail of chunks of `object` (chat, completion). */
int answer_open_chunks(struct api_answer *answer, const char *object);
/* The end of such a chunk, after its choices. With `has_steps` it tells the receipt's steps that are to be told. */
void answer_end_chunk(struct api_answer *answer, int has_steps);
/* The end of a form that is a list of choices (chat, completion): a stream's usage and [DONE], else the whole
 * object. */
void answer_write_end(struct api_answer *answer, const char *object,
                      void (*write_choice)(struct buffer *out, const struct api_answer *answer,
                                           const struct api_choice *choice));
/* The gathered call number `tool`, made where it is new; NULL where memory is short or the number is absurd. */
struct api_tool *answer_find_tool(struct api_choice *choice, const struct answer_delta *delta);

/* api_receipt.c. Nothing of it happens where the server issues no receipts.
 *
 * Before anything is asked of the backend; reads the request's body and JSON. */
int api_receipt_open(struct api_answer *answer, struct answer_error *problem);
void api_receipt_close(struct api_answer *answer);
/* What the answer consists of, before the form tells it: prompts by their number, an echoed prompt, pieces, finishes. */
void api_receipt_prompt(struct api_answer *answer, size_t number, const uint32_t *ids, size_t count);
void api_receipt_echo(struct api_answer *answer, const struct api_choice *choice);
void api_receipt_delta(struct api_answer *answer, const struct api_choice *choice, const struct answer_delta *delta);
/* 1 where the answer's last chunk is this finish: it is told when the receipt is there. */
int api_receipt_finish(struct api_answer *answer, struct api_choice *choice);
struct api_choice *api_receipt_held(const struct api_answer *answer); /* whose finish that is; NULL: none's */
/* Signs and logs it; api_answer_complete or api_answer_fail follows. */
void api_receipt_submit(struct api_answer *answer);
int api_receipt_is_submitted(const struct api_answer *answer);
/* ,"bulla":{...} of an event: steps of these parts (bits: 1 << part) that are to be told, with the marks of
 * answer_write_marks where `has_marks`; nothing where there is neither. */
void answer_write_steps(struct api_answer *answer, struct buffer *out, unsigned parts, int has_marks);
/* The same of a whole body: all steps and the receipt, where they were asked for. */
void answer_write_whole_steps(struct api_answer *answer, struct buffer *out);
/* ,"bulla_receipt":{...} once it is there */
void answer_write_receipt(struct api_answer *answer, struct buffer *out);

/* api_stream.c. Begins the stream where it has not begun: headers, and the form's first events into answer->out. */
void api_stream_begin(struct api_answer *answer);
/* Sends answer->out of a stream that has begun, and empties it. */
void api_stream_send(struct api_answer *answer);
void api_stream_keep_alive(struct api *api);

extern const struct answer_form chat_form, completion_form, embedding_form, response_form;

/* api_origin.c. From a page of another origin that no option allows; to a host that may not be this machine, where
 * that is what keeps others out. */
int api_is_foreign_origin(const struct api_call *call);
int api_is_foreign_host(const struct api_call *call);

/* Routes in other files. */
void api_serve_preflight(struct api_call *call);
void api_serve_models(struct api_call *call);
void api_serve_model(struct api_call *call);
void api_serve_admin_models(struct api_call *call);
void api_serve_admin_load(struct api_call *call);
void api_serve_admin_unload(struct api_call *call);
void api_serve_evidence(struct api_call *call);
void api_serve_evidence_by_hash(struct api_call *call);
void api_serve_policy(struct api_call *call);
/* Of these routes; the result is the caller's to close also after an error. */
int api_evidence_open(struct event_base *base, struct attestation *attestation, struct api_evidence **evidence,
                      bulla_error *error);
/* Whether the standing evidence binds the model that is asked for (or there is none of either); else the call is refused. */
int api_evidence_covers(struct api_call *call, const char *model);
int api_evidence_is_ready(struct api *api);
void api_evidence_close(struct api_evidence *evidence); /* NULL is fine */
void api_serve_tokenize(struct api_call *call);
void api_serve_detokenize(struct api_call *call);
void api_serve_receipt(struct api_call *call);
void api_serve_log(struct api_call *call);

#endif
