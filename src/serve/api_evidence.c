/* Evidence for clients: the standing one, one made for a nonce, and the policy that the server publishes. Open to all,
 * because a client has to know whom it talks to before it sends its key.
 *
 * Quotes are made by the attestation's thread, which hands what it made to this one through a list and an eventfd. The
 * exchange may be gone by then: an asker who hangs up gives its place to others where its quote is not under way, and is
 * freed when that is there otherwise. What the askers of one quote get is sent from one memory but for a part of their own. */
#define _GNU_SOURCE
#include <event2/event.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/memory.h"
#include "serve/api_answer.h"
#include "trust/binding.h"

enum { NONCE_BYTES = 32 };

struct asker {
    struct api_call call; /* its exchange is NULL after the client hung up */
    struct api_evidence *evidence;
    struct attestation_ends *ends;
    struct buffer middle;
    bulla_error error;
    struct asker *next;   /* of those that are answered */
    int is_answered;      /* by the thread; under the list's lock */
};

struct api_evidence {
    struct attestation *attestation;
    int wake;             /* eventfd: something is answered */
    struct event *woken;
    pthread_mutex_t lock; /* of the list */
    struct asker *answered;
};

/* ---- Refusals ---- */

/* What could not be made or found. The attestation's own sentences say nothing of the machine. */
static void refuse(struct api_call *call, const bulla_error *error)
{
    switch (error->code) {
    case BULLA_E_UNSUPPORTED:
        api_call_fail_with(call, 404, "invalid_request_error", "no_evidence", NULL, "%s", error->text);
        break;
    case BULLA_E_INPUT:
        api_call_fail_with(call, 404, "invalid_request_error", "evidence_not_found", NULL, "%s", error->text);
        break;
    case BULLA_E_LIMIT:
        api_call_fail_with(call, 503, "overloaded_error", "overloaded", NULL, "%s", error->text);
        break;
    default:
        api_call_fail_with(call, 503, "server_error", "out_of_memory", NULL, "the server is short of memory");
    }
}

/* A quote that failed, whatever the attester calls it: paths, devices and what they said are the operator's to read, and the
 * log has them. */
static void refuse_quoted(struct api_call *call, const bulla_error *error)
{
    if (error->code == BULLA_E_CANCELLED)
        api_call_fail_with(call, 503, "server_error", "server_stopping", NULL, "the server stops");
    else if (error->code == BULLA_E_MEMORY)
        refuse(call, error);
    else
        api_call_fail_with(call, 500, "server_error", "evidence_failed", NULL,
                           "no evidence could be made; the server's log says why");
}

static void reply(struct api_call *call, struct buffer *document, const bulla_error *error)
{
    bulla_error ignored = {0};
    http_reply_header(call->exchange, "Cache-Control", "no-store", &ignored);
    if (error->code != BULLA_OK)
        refuse(call, error);
    else
        api_call_reply_json(call, 200, document);
    buffer_free(document);
}

/* ---- Askers ---- */

static void free_asker(struct asker *asker)
{
    attestation_ends_release(asker->ends);
    buffer_free(&asker->middle);
    memory_free(asker);
}

static void release(const void *bytes, size_t length, void *ends)
{
    attestation_ends_release(ends);
}

static void reply_quoted(struct asker *asker)
{
    struct http_part parts[3] = {{.release = release, .context = asker->ends},
                                 {.bytes = asker->middle.data, .length = asker->middle.length},
                                 {.release = release, .context = asker->ends}};
    bulla_error ignored = {0};
    http_reply_header(asker->call.exchange, "Cache-Control", "no-store", &ignored);
    if (asker->error.code != BULLA_OK) {
        refuse_quoted(&asker->call, &asker->error);
        return;
    }
    parts[0].bytes = attestation_ends_head(asker->ends, &parts[0].length);
    parts[2].bytes = attestation_ends_tail(asker->ends, &parts[2].length);
    attestation_ends_hold(asker->ends);
    attestation_ends_hold(asker->ends);
    api_call_reply_parts(&asker->call, 200, parts, 3);
}

/* On the attestation's thread. */
static void on_quoted(void *context, struct attestation_ends *ends, const char *middle, size_t length,
                      const bulla_error *error)
{
    struct asker *asker = context;
    struct api_evidence *evidence = asker->evidence;
    if (!error) {
        buffer_append(&asker->middle, middle, length);
        attestation_ends_hold(ends);
        asker->ends = ends;
    }
    asker->error = error ? *error : asker->middle.error;
    pthread_mutex_lock(&evidence->lock);
    asker->is_answered = 1;
    asker->next = evidence->answered;
    evidence->answered = asker;
    pthread_mutex_unlock(&evidence->lock);
    ssize_t written = write(evidence->wake, &(uint64_t){1}, sizeof(uint64_t)); /* full: it is woken already */
    (void)written;
}

static struct asker *take_answered(struct api_evidence *evidence)
{
    pthread_mutex_lock(&evidence->lock);
    struct asker *first = evidence->answered;
    evidence->answered = NULL;
    pthread_mutex_unlock(&evidence->lock);
    return first;
}

static void on_woken(evutil_socket_t descriptor, short what, void *context)
{
    uint64_t count;
    ssize_t taken = read(descriptor, &count, sizeof count);
    (void)taken;
    (void)what;
    for (struct asker *asker = take_answered(context), *next; asker; asker = next) {
        next = asker->next;
        if (asker->call.exchange)
            reply_quoted(asker);
        free_asker(asker);
    }
}

static void on_close(void *context)
{
    struct asker *asker = context;
    struct api_evidence *evidence = asker->evidence;
    asker->call.exchange = NULL;
    asker->call.record.error_code = "client_closed";
    api_call_record(&asker->call, 499);
    pthread_mutex_lock(&evidence->lock);
    int is_answered = asker->is_answered;
    pthread_mutex_unlock(&evidence->lock);
    if (!is_answered && attestation_cancel(evidence->attestation, asker))
        free_asker(asker);
}

static void ask(struct api_call *call, const uint8_t nonce[NONCE_BYTES])
{
    struct api_evidence *evidence = call->api->evidence;
    bulla_error error = {0};
    struct asker *asker = memory_alloc(1, sizeof *asker, &error);
    if (asker) {
        asker->call = *call;
        asker->call.rest = NULL;
        asker->evidence = evidence;
        /* From here on the thread may answer; what it answers is read by this thread later. */
        attestation_quote(evidence->attestation, nonce, on_quoted, asker, &error);
    }
    if (error.code == BULLA_OK) {
        http_on_close(asker->call.exchange, on_close, asker);
        return;
    }
    if (asker)
        free_asker(asker);
    refuse(call, &error);
}

void api_note_models(struct api *api)
{
    uint8_t roots[MOST_MODELS][BINDING_BYTES];
    bulla_error error = {0}; /* more than evidence can name: it stays what it is, and those are not covered */
    if (api->evidence)
        attestation_set_models(api->evidence->attestation, (const uint8_t(*)[32])roots,
                               models_roots(api->models, roots, MOST_MODELS), &error);
}

int api_evidence_covers(struct api_call *call, const char *name)
{
    struct api *api = call->api;
    const struct served_model *model = models_find(api->models, name);
    uint8_t root[BINDING_BYTES];
    if (!api->evidence || !model)
        return 1;
    models_root(model, root);
    if (attestation_binds(api->evidence->attestation, root))
        return 1;
    api_call_fail_with(call, 503, "server_error", "not_ready", NULL,
                       "the server's evidence does not name this model yet; try again in a moment");
    return 0;
}

int api_evidence_is_ready(struct api *api)
{
    bulla_error error = {0};
    return !api->evidence || (attestation_is_ready(api->evidence->attestation, &error) > 0 &&
                              !attestation_is_old(api->evidence->attestation));
}

/* ---- Routes ---- */

/* Whether the server has a policy or evidence at all; else the call is answered. */
static int has_attestation(struct api_call *call, const char *code, const char *sentence)
{
    if (call->api->evidence)
        return 1;
    api_call_fail_with(call, 404, "invalid_request_error", code, NULL, "%s", sentence);
    return 0;
}

void api_serve_evidence(struct api_call *call)
{
    static const char name[] = "nonce=";
    const char *query = http_query(call->exchange);
    uint8_t nonce[NONCE_BYTES], hash[ATTESTATION_HASH];
    struct buffer document = {0};
    bulla_error error = {0};
    if (!has_attestation(call, "no_evidence", "this server has no evidence: nothing attests to it"))
        return;
    if (!*query) {
        attestation_standing(call->api->evidence->attestation, hash, &document, &error);
        reply(call, &document, &error);
    } else if (strncmp(query, name, sizeof name - 1) == 0 &&
               hex_decode(query + sizeof name - 1, strlen(query) - (sizeof name - 1), nonce, sizeof nonce)) {
        ask(call, nonce);
    } else {
        api_call_fail_with(call, 400, "invalid_request_error", "invalid_nonce", "nonce",
                           "`nonce` must be 32 random bytes in hex, and nothing else is asked for here");
    }
}

void api_serve_evidence_by_hash(struct api_call *call)
{
    uint8_t hash[ATTESTATION_HASH];
    struct buffer document = {0};
    bulla_error error = {0};
    if (!has_attestation(call, "no_evidence", "this server has no evidence: nothing attests to it"))
        return;
    if (!hex_decode(call->rest, strlen(call->rest), hash, sizeof hash))
        bulla_fail(&error, BULLA_E_INPUT, "evidence is named by its SHA-256 in hex");
    else
        attestation_find(call->api->evidence->attestation, hash, &document, &error);
    reply(call, &document, &error);
}

void api_serve_policy(struct api_call *call)
{
    size_t length;
    if (!has_attestation(call, "no_policy", "this server publishes no policy"))
        return;
    const char *policy = attestation_policy(call->api->evidence->attestation, &length);
    if (policy)
        api_call_reply(call, 200, "application/json", policy, length);
    else
        api_call_fail_with(call, 404, "invalid_request_error", "no_policy", NULL, "this server publishes no policy");
}

/* ---- Open and close ---- */

int api_evidence_open(struct event_base *base, struct attestation *attestation, struct api_evidence **result,
                      bulla_error *error)
{
    struct api_evidence *evidence = memory_alloc(1, sizeof *evidence, error);
    *result = evidence;
    if (!evidence)
        return BULLA_E_MEMORY;
    pthread_mutex_init(&evidence->lock, NULL);
    evidence->attestation = attestation;
    evidence->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (evidence->wake >= 0)
        evidence->woken = event_new(base, evidence->wake, EV_READ | EV_PERSIST, on_woken, evidence);
    if (evidence->woken && event_add(evidence->woken, NULL) == 0)
        return BULLA_OK;
    return bulla_fail(error, BULLA_E_IO, "the event of evidence could not be made");
}

void api_evidence_close(struct api_evidence *evidence)
{
    if (!evidence)
        return;
    for (struct asker *asker = take_answered(evidence), *next; asker; asker = next) {
        next = asker->next;
        free_asker(asker);
    }
    if (evidence->woken)
        event_free(evidence->woken);
    if (evidence->wake >= 0)
        close(evidence->wake);
    pthread_mutex_destroy(&evidence->lock);
    memory_free(evidence);
}
