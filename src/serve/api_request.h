/* From the body of a request to what a backend is asked. Reading never fails half: either everything in a
 * struct api_request is checked and has its default, or the problem says which field is wrong. docs/api.md tables the
 * fields. */
#ifndef SERVE_API_REQUEST_H
#define SERVE_API_REQUEST_H

#include "exec/grammar.h"
#include "serve/api_fields.h"

enum {
    REQUEST_MOST_PROMPTS = 2048,     /* of one request, also of its answers: prompts x n */
    REQUEST_MOST_TOOLS = 512,
    REQUEST_MOST_BIASES = 4096,
    REQUEST_MOST_STOP_BYTES = 4096,  /* of one stop string */
    REQUEST_COMPLETION_TOKENS = 16,  /* max_tokens of /v1/completions where a request does not say it */
    REQUEST_MOST_PRIORITY = 1000
};

/* What a body asks for, as bits. */
enum request_form {
    REQUEST_CHAT = 1,
    REQUEST_COMPLETION = 2,
    REQUEST_EMBEDDING = 4,
    REQUEST_RESPONSE = 8,
    REQUEST_TOKENIZE = 16
};

struct api_prompt {
    const char *text; /* or NULL: */
    size_t length;
    const uint32_t *ids;
    size_t id_count;
};

struct api_request {
    struct arena json;            /* the body, what was made of it, the param of a problem: until api_request_forget */
    struct arena kept;            /* all the rest: until api_request_free */
    const struct json *body;
    struct answer_request answer; /* the same for each prompt: prompt, id and tenant are filled in later */
    const char *model;            /* NULL where the request names none */
    int64_t priority;             /* as asked for */
    uint64_t most_nanoseconds;    /* from when the request is whole to its answer's end; 0: not asked for */
    int is_stream;
    int includes_usage;           /* stream_options.include_usage */
    struct api_prompt *prompts;   /* [prompt_count]; one, empty, for chats */
    size_t prompt_count;
    const char *prompt_key;       /* the field that they came from */
    int has_list;                 /* it is a list of prompts, also of one */
    int echoes;                   /* completions: the prompt before each answer */
    int is_base64;                /* embeddings */
    int64_t dimensions;           /* embeddings; 0: not asked for */
    int adds_special;             /* tokenize */
    int wants_strings, wants_pieces; /* tokenize */
    struct grammar_memory *grammars; /* the caller's: schemas that it need not compile to know that it can; or NULL */
    uint64_t grammar_work;        /* that its schemas have cost */
};

/* Each reads one kind of body; the caller frees the request in either case, after it used the problem. The request is
 * zero but for `grammars`. */
int api_request_read_chat(const char *body, size_t length, struct api_request *request, struct answer_error *problem);
int api_request_read_completion(const char *body, size_t length, struct api_request *request,
                                struct answer_error *problem);
int api_request_read_embedding(const char *body, size_t length, struct api_request *request,
                               struct answer_error *problem);
int api_request_read_response(const char *body, size_t length, struct api_request *request,
                              struct answer_error *problem);
/* A text as prompts[0], or messages (kind ANSWER_CHAT). */
int api_request_read_tokenize(const char *body, size_t length, struct api_request *request,
                              struct answer_error *problem);
/* Ids as prompts[0]. */
int api_request_read_detokenize(const char *body, size_t length, struct api_request *request,
                                struct answer_error *problem);
/* The seconds of the header X-Request-Timeout, for clients that cannot add the field `timeout`; the smaller one counts. */
int api_request_read_timeout(const char *seconds, struct api_request *request, struct answer_error *problem);
void api_request_free(struct api_request *request); /* a zeroed one is fine */
/* A backend has begun to answer: lets go of the JSON, which takes many times the memory of its text, and with it of
 * messages, tools, tool_name, template_kwargs and reasoning_effort. */
void api_request_forget(struct api_request *request);

/* What a backend is asked for that prompt of the request's. */
struct answer_request api_request_of_prompt(const struct api_request *request, size_t number);
/* Ids that the model does not have: of the prompts, of logit_bias. `vocabulary` 0: not known, so none is wrong. */
int api_request_check_ids(struct api_request *request, uint32_t vocabulary, struct answer_error *problem);

/* The parts below are for the readers among themselves. `body` is the request's object. */

/* Parses the body and reads what all kinds have: model, stream, stream_options, priority, adapters. */
int request_open(const char *body, size_t length, struct api_request *request, struct field_reader *reader);
/* The same of a request to a model, and what all of these have beside: its kind, timeout, fields to be refused. */
int request_open_answer(const char *body, size_t length, enum request_form form, struct api_request *request,
                        struct field_reader *reader);
/* temperature ... logit_bias, n, stop, seed, max_tokens, ignore_eos, cache_prompt (api_sampling.c). */
int request_read_sampling(struct api_request *request, struct field_reader *reader);
/* Fields that change an answer and that Bulla does not have: refused unless they are off (api_refuse.c). */
int request_refuse_unsupported(struct api_request *request, struct field_reader *reader, enum request_form form);
/* A copy that lives as long as the request; NULL with the problem filled. */
const char *request_keep_text(struct api_request *request, struct field_reader *reader, const char *text, size_t length);
/* response_format to a grammar (api_format.c); `format` may be NULL. */
int request_read_format(struct api_request *request, struct field_reader *reader, const struct json *format,
                        const struct place *place);
/* What the grammar's compiler said of the schema at `place`. Returns the error's code. */
int request_fail_schema(struct field_reader *reader, const struct place *place, const bulla_error *error);
/* messages (api_message.c), tools and tool_choice (api_tools.c), into request->answer. */
int request_read_messages(struct api_request *request, struct field_reader *reader);
int request_read_tools(struct api_request *request, struct field_reader *reader);
int request_check_tool(struct field_reader *reader, const struct json *function, const struct place *place);
int request_check_tool_names(struct field_reader *reader, const struct json *tools);
/* tool_choice: a word, or an object that names a function, inside "function" or (`is_flat`) beside "type". */
int request_read_tool_choice(struct api_request *request, struct field_reader *reader, int is_flat);
/* Content as one string: a string, or parts whose `type` is one of `types` (ended by NULL), joined by line feeds. */
const struct json *request_join_parts(struct field_reader *reader, const struct json *content, const struct place *place,
                                      const char *const *types);
/* A call's arguments as templates want them: the object that the string holds, where it is one. */
const struct json *request_read_arguments(struct field_reader *reader, const struct json *arguments);
/* chat_template_kwargs, continue_final_message, add_generation_prompt. `effort`: reasoning_effort, or NULL. */
int request_read_template(struct api_request *request, struct field_reader *reader, const struct json *effort,
                          const struct place *effort_place);
/* A text, token ids, or a list of either, from prompt_key's field into prompts. */
int request_read_prompts(struct api_request *request, struct field_reader *reader);

#endif
