/* What the API stands on, for its tests: an HTTP layer that keeps what is sent, a backend that the test plays, a set
 * of models, a page, operator's rules that keep what they are told. */
#ifndef TESTS_API_FAKES_H
#define TESTS_API_FAKES_H

#include "base/buffer.h"
#include "base/json.h"
#include "serve/api.h"

enum { FAKE_MOST_HEADERS = 32 };

struct fake_header {
    char name[64], value[1100];
};

struct http_exchange {
    char method[16], path[300], query[100];
    struct fake_header given[FAKE_MOST_HEADERS];
    size_t given_count;
    char *body;
    size_t body_length;
    int status;                /* of the answer; 0: none yet */
    char content_type[80];
    struct fake_header headers[FAKE_MOST_HEADERS]; /* of the answer */
    size_t header_count;
    struct buffer reply;
    const void *first_part;    /* where it lay, of an answer in parts */
    int has_begun, is_over, was_aborted, is_closed;
    int is_refused;            /* answered before its body was there */
    void (*closed)(void *context);
    void *closed_context;
    size_t cut_after;          /* the client is cut off when more bytes than this were written; 0: never */
};

struct fake_answer {
    struct answer_request request; /* without messages, tools and the like, which live until start returns */
    size_t messages;               /* how many there were */
    struct answer_sink sink;
    int is_cancelled, is_over;
};

struct fake_backend {
    struct backend backend;
    int is_unverified;
    const char *kind; /* NULL: "native" */
    int state, was_ready; /* of struct backend_info */
    /* What happens inside start: it may call the sink. NULL: nothing, the test goes on later. */
    void (*play)(struct fake_backend *fake, struct fake_answer *answer);
    struct answer_error refusal; /* with a status: start takes nothing */
    size_t spelled;              /* bytes that each id stands for; 0: 1 */
    struct fake_answer answers[256];
    size_t count;
};

struct fake_server {
    struct event_base *base;
    struct api *api;
    struct http_handler handler;
    struct models *models;
    struct fake_backend fake, later; /* the second: of a model that is loaded */
    struct served_model *model; /* "small", alias "tiny"; "later" follows it once one was loaded */
    /* rules */
    struct serve_rules rules;
    struct rules_record record; /* the last */
    char record_id[200], record_route[80], record_code[80], record_finish[40];
    size_t records, first_tokens, next_tokens;
    struct rules_identity identity; /* handed out */
};

/* `options` may be NULL. With rules the keys "Bearer user" and "Bearer admin" are good. */
void fake_open(struct fake_server *server, int has_rules, const struct api_options *options);
void fake_close(struct fake_server *server);
void fake_loop(struct fake_server *server); /* what the event loop has to do now */

/* A request, handed to the API. `headers`: "name: value" strings ended by NULL, or NULL. */
struct http_exchange *fake_ask(struct fake_server *server, const char *method, const char *path,
                               const char *const *headers, const char *body);
void fake_hang_up(struct http_exchange *exchange);
void fake_free(struct http_exchange *exchange);
const char *fake_header(const struct http_exchange *exchange, const char *name); /* of the answer; NULL: none */

/* The answer's body, or a stream's event, as JSON at a way into it ("choices[0].message.content"), written as text: strings
 * as they are, everything else as JSON; "-" where there is nothing. Overwritten by the next call but three. */
const char *fake_at(const struct http_exchange *exchange, const char *way);
const char *fake_event_at(const struct http_exchange *exchange, size_t event, const char *way);
size_t fake_events(const struct http_exchange *exchange); /* data: lines, without [DONE] and comments */

/* What a test expects of an answer, or of an event of a stream; an error has all that one must have. */
void check_at(const struct http_exchange *exchange, const char *way, const char *expected);
void check_event(const struct http_exchange *exchange, size_t event, const char *way, const char *expected);
void check_error(const struct http_exchange *exchange, int status, const char *code, const char *param);
/* A request that is answered at once; `way` may be NULL. */
void ask_and_expect(struct fake_server *server, const char *method, const char *path, const char *const *headers,
                    const char *body, int status, const char *way, const char *expected);

/* What a backend tells. */
struct fake_answer *fake_last(struct fake_server *server);
void fake_text(struct fake_answer *answer, uint32_t choice, const char *text);
void fake_tell(struct fake_answer *answer, const struct answer_delta *delta);
void fake_finish(struct fake_answer *answer, uint32_t choice, const char *reason, const char *stop);
void fake_end(struct fake_answer *answer, uint64_t prompt, uint64_t output);
/* To play: a word of each choice, its finish and the end, all inside start. */
void fake_play_at_once(struct fake_backend *fake, struct fake_answer *answer);
void fake_fail(struct fake_answer *answer, int status, const char *type, const char *code, const char *message);

#endif
