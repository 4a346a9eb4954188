/* What answers requests: `native` (a worker process with Bulla's engine) or `upstream` (any
 * OpenAI-compatible server), each a const table of functions (struct backend_class). The API (serve/api.h) turns HTTP
 * into an answer_request and what a backend tells into JSON or server-sent events; it is the same for all backends.
 *
 * All calls and callbacks happen on the event base's thread. */
#ifndef SERVE_BACKEND_H
#define SERVE_BACKEND_H

#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "bulla/error.h"
#include "bulla/sampler.h"

enum answer_kind {
    ANSWER_CHAT,       /* messages through the chat template */
    ANSWER_COMPLETION, /* a text or token ids as they are */
    ANSWER_EMBEDDING   /* a text or token ids to a vector */
};

enum { ANSWER_MOST_CHOICES = 128, ANSWER_MOST_STOPS = 16, ANSWER_MOST_LOGPROBS = 20 };

enum answer_tool_choice { TOOLS_NONE, TOOLS_AUTO, TOOLS_REQUIRED, TOOLS_NAMED };

/* A request to a model, checked, with every default filled in. What it points at lives until the answer's end, but for
 * messages, tools, tool_name, template_kwargs and the prompt: those live until `start` returns. */
struct answer_request {
    enum answer_kind kind;
    const char *id;             /* of the HTTP request: x-request-id */
    const char *model;          /* as asked for */
    const char *tenant;
    int priority;               /* larger goes first */
    uint64_t deadline;          /* clock_nanoseconds(); 0: none */

    /* ANSWER_CHAT: JSON of the request, with content parts already joined into strings and role developer as
     * system; tool calls' arguments are objects where they parse, as templates want them. */
    const struct json *messages;   /* array */
    const struct json *tools;      /* array of {"type":"function","function":{...}}, or NULL */
    enum answer_tool_choice tool_choice;
    const char *tool_name;         /* TOOLS_NAMED */
    int parallel_tool_calls;
    const struct json *template_kwargs; /* chat_template_kwargs with what reasoning_effort adds: object, or NULL */
    const char *reasoning_effort;  /* as asked for, for upstreams; or NULL */
    int continues_last;            /* continue_final_message / add_generation_prompt false */
    /* ANSWER_COMPLETION, ANSWER_EMBEDDING: one prompt; several of a request are several answer_requests. */
    const char *prompt;
    size_t prompt_length;
    const uint32_t *prompt_ids;    /* instead of the text, or NULL */
    size_t prompt_id_count;

    const char *grammar;           /* specification (exec/grammar.h) of response_format, or NULL */
    size_t grammar_length;
    const char *response_format;   /* JSON as it was sent, for upstreams; or NULL */
    size_t response_format_length;
    uint64_t max_tokens;           /* 0: not limited by the request */
    uint32_t choices;              /* n */
    bulla_sampling sampling;       /* of choice 0; choice k takes bulla_sampling_choice_seed(seed, k) */
    int has_seed;                  /* whether the request set one; else one was drawn */
    const char *stops[ANSWER_MOST_STOPS];
    size_t stop_lengths[ANSWER_MOST_STOPS];
    size_t stop_count;
    int logprobs;                  /* -1: none; else the number of likeliest tokens beside each */
    int ignores_end;
    int shares_prefix;             /* cache_prompt: true unless the request or policy says no */
};

/* An error as the OpenAI API has it. */
struct answer_error {
    int status;          /* HTTP: 400, 404, 429, 500, 502, 503 ... */
    const char *type;    /* "invalid_request_error", "server_error", "overloaded_error", ... */
    const char *code;    /* or NULL */
    const char *own_code; /* what is logged in its place, where type and code are another server's words; else NULL */
    const char *param;   /* the field, or NULL */
    char message[1000];
    unsigned retry_after; /* seconds, 0: none */
};

struct answer_logprob {
    const char *token;   /* its bytes */
    size_t length;
    double logprob;
};

/* A piece of one choice. Of text, reasoning and tools, what came now; any may be empty. */
struct answer_delta {
    uint32_t choice;
    uint32_t tokens;      /* that this piece stands for */
    const char *text;     /* of the answer; whole characters */
    size_t text_length;
    const char *reasoning; /* of the thinking before it, where the model thinks aloud */
    size_t reasoning_length;
    int32_t tool;         /* -1, or the number of a tool call that goes on */
    const char *tool_id, *tool_name; /* with its first piece, else NULL */
    const char *arguments; /* JSON text, in pieces */
    size_t arguments_length;
    const struct answer_logprob *logprob; /* of the one token that this piece stands for, or NULL */
    const struct answer_logprob *top;     /* [top_count] */
    size_t top_count;
    const uint32_t *ids;  /* [tokens], or NULL where the backend knows none */
};

struct answer_usage {
    uint64_t prompt_tokens, cached_tokens, output_tokens, reasoning_tokens; /* output: all choices together */
    uint64_t queued_nanoseconds, first_token_nanoseconds, total_nanoseconds; /* of choice 0 */
};

/* Where an answer goes. Exactly one of `end` and `fail` is the last call. */
struct answer_sink {
    void *context;
    void (*delta)(void *context, const struct answer_delta *delta);
    /* "stop", "length", "tool_calls", "content_filter", "range" */
    void (*finish)(void *context, uint32_t choice, const char *reason, const char *stop);
    void (*embedding)(void *context, const float *values, size_t count);
    void (*end)(void *context, const struct answer_usage *usage);
    void (*fail)(void *context, const struct answer_error *error); /* also after deltas */
    /* The prompt's tokens, once, before all else, by a backend that knows them; also where `start` then takes nothing.
     * NULL: nobody wants to know. */
    void (*prompt)(void *context, const uint32_t *ids, size_t count);
};

struct answer; /* one under way, the backend's */
struct backend;

struct backend_info {
    const char *kind;        /* "native", "upstream" */
    const char *model_root;  /* hex, or NULL: upstream */
    /* For receipts; as long as the backend. NULL and 0: upstream, a model without a chat template. */
    const uint8_t *root, *tokenizer, *chat_template; /* the model root; SHA-256 of these parts of the model file */
    uint32_t program_version;
    const char *engine, *engine_model; /* an upstream's URL and its model's name there, which may not be known yet */
    uint64_t context;        /* positions; 0: not known */
    uint32_t vocabulary;     /* ids that prompts and biases may have; 0: not known */
    uint32_t spellings;      /* ids of these that have a text: the first ones; 0: not known */
    int is_verified;         /* 0: answers are marked unverified (upstream not on loopback and without a policy) */
    enum { BACKEND_STARTING, BACKEND_READY, BACKEND_FAILED } state;
    int was_ready;           /* at some time since it was opened */
    const char *trouble;     /* with BACKEND_FAILED, or while it restarts */
};

struct backend_counters {
    uint64_t running, waiting, pages_used, pages_total;
    uint64_t prefix_queried, prefix_reused; /* positions */
    uint64_t prompt_tokens, output_tokens, preemptions, restarts;
};

struct backend_class {
    const char *name;
    /* Begins to answer. The sink may be called before it returns. NULL, with *problem filled and no
     * call of the sink, where the request can't be taken. `request` and `sink` are copied, what they point at is not. */
    struct answer *(*start)(struct backend *backend, const struct answer_request *request, const struct answer_sink *sink,
                            struct answer_error *problem);
    void (*cancel)(struct answer *answer); /* the sink is not called any more, and the answer is gone */
    void (*describe)(const struct backend *backend, struct backend_info *info);
    void (*count)(const struct backend *backend, struct backend_counters *counters);
    /* Text to ids and back; BULLA_E_UNSUPPORTED where the backend cannot. With `messages` the chat's prompt.
     * Ids are freed with bulla_tokens_free, text with bulla_text_free. BULLA_E_LIMIT where the tokens' bytes are more than
     * `most`. */
    int (*tokenize)(struct backend *backend, const struct answer_request *request, int adds_special, uint32_t **ids,
                    size_t *count, bulla_error *error);
    int (*detokenize)(struct backend *backend, const uint32_t *ids, size_t count, size_t most, char **text,
                      size_t *length, bulla_error *error);
    /* The bytes that a token stands for inside a text, a control token's spelling; they live as long as the backend. */
    int (*spell)(const struct backend *backend, uint32_t id, const char **bytes, size_t *length, bulla_error *error);
    void (*close)(struct backend *backend); /* answers under way fail first */
};

/* The head of every backend. */
struct backend {
    const struct backend_class *class;
};

#endif
