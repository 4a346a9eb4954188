/* The HTTP routes: OpenAI's API and those that servers of models have beside it (docs/api.md tables them). It takes
 * whole HTTP requests, checks them, hands them to a model's backend, and writes what that tells as JSON or server-sent
 * events.
 *
 *   api_request.c    bodies of requests, checked: struct answer_request, with api_fields.c (typed fields),
 *                    api_refuse.c (fields that are not supported), api_sampling.c, api_format.c, api_message.c,
 *                    api_tools.c, api_response_request.c
 *   api_tool_schemas.c  whether the schemas of tools can be enforced
 *   api_answer.c     one answer of one or more runs, whole or streamed (api_stream.c), in one of these forms:
 *   api_chat.c       /v1/chat/completions      api_completion.c  /v1/completions
 *   api_embedding.c  /v1/embeddings            api_response.c    /v1/responses
 *   api_models.c     /v1/models, admin         api_token.c       /tokenize, /detokenize
 *   api_receipt.c    receipts of answers, with api_parameters.c and api_steps.c, which an audit needs too
 *   api_log.c        /v1/receipts, /log
 *   api_evidence.c   /v1/evidence, /v1/policy
 *   api_call.c       what every exchange has: request ids, headers, errors, records
 *   api_origin.c     what browsers say: CORS, pages from elsewhere, names of this machine
 *   api.c            routes, authorisation, health, metrics, the page at / */
#ifndef SERVE_API_H
#define SERVE_API_H

#include "serve/http.h"
#include "serve/models.h"
#include "serve/rules.h"
#include "trust/attestation.h"

struct api;

struct api_options {
    struct models *models;
    const struct serve_rules *rules;  /* NULL: none */
    struct receipts *receipts;        /* that answers have (serve/receipts.h); NULL: none */
    struct attestation *attestation;  /* NULL: none; ends after the HTTP server and before the API */
    const char *cors_origin;          /* NULL: no CORS headers; "*" or an origin */
    const char *version;
    int has_page;                     /* serve the page at / */
    int is_local;                     /* to be on this machine is all that a client needs: only names of it are taken */
    const char *const *hosts;         /* [host_count]: more such names, without a port; copied */
    size_t host_count;
    size_t most_held_bytes;           /* by answers under way together; more get 503. 0: 1 GiB */
    unsigned keep_alive_seconds;      /* between comments on an idle stream; 0: 15 */
};

/* `base` is the event base that the server runs on. */
int api_open(struct event_base *base, const struct api_options *options, struct api **api, bulla_error *error);
void api_close(struct api *api); /* after the HTTP server, before the models. NULL is fine */
struct http_handler api_handler(struct api *api);
/* Models may have come or gone: where they have, the standing evidence is made anew. To be called now and then too: a model
 * that was removed goes when its last answer has ended. */
void api_note_models(struct api *api);
/* /ready says 503 and new work is refused with 503 from now on. */
void api_drain(struct api *api);
unsigned api_answers(const struct api *api); /* under way */
/* Ends every answer under way with an error that says that the server stops. */
void api_hand_back(struct api *api);

#endif
