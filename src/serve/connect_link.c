#include "serve/connect_link.h"

#include <event2/event.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"
#include "bulla/verify.h"
#include "serve/upstream_client.h"
#include "trust/evidence.h"

enum {
    MOST_CONNECTIONS = 512,
    MOST_EVIDENCE = 8 << 20,
    NONCE_BYTES = 32,
    LONGEST_PAUSE = 60 /* seconds between tries to have a connection that nobody waits for */
};
#define SECOND UINT64_C(1000000000)

/* What the evidence of a connection binds; shared by the connection and what is asked over it. */
struct verified {
    struct connect_pin pin;
    uint8_t tls_key[BINDING_BYTES];
    uint64_t at; /* clock_nanoseconds() when its evidence was asked for */
    unsigned users;
};

/* A verified connection that waits for its next request. */
struct idle {
    struct connect_link *link;
    struct client_connection *connection;
    struct verified *verified;
    struct idle *next;
};

/* A connection whose evidence is on its way. */
struct opening {
    struct connect_link *link;
    struct client_call *call;
    struct verified *verified;
    struct buffer document;
    uint8_t nonce[NONCE_BYTES];
    int status;
    struct opening *next;
};

struct connect_ask {
    struct connect_link *link;
    struct connect_ask_sink sink;
    const char *method;
    char *path, *accept, *headers;
    const void *body;
    size_t length;
    struct client_call *call;
    struct verified *verified;
    int is_waiting, has_retried;
    struct connect_ask *next; /* of those that wait */
};

struct connect_link {
    struct connect_link_options options;
    char *policy_text;
    struct policy *policy;
    struct event_base *base;
    struct upstream_target target;
    struct event *turn;
    struct idle *idle;
    struct opening *openings;
    struct connect_ask *waiting;
    unsigned busy, opening_count;
    uint64_t renew, pause, try_at;
};

/* ---- Evidence ---- */

/* The first check that failed, by its name; `may_be_old`: the policy's max_age may, and nothing else. */
static int find_failure(const bulla_verdict *verdict, int may_be_old, struct connect_problem *problem)
{
    int is_old = 0;
    for (size_t i = 0; i < bulla_verdict_count(verdict); i++) {
        const bulla_check check = bulla_verdict_check(verdict, i);
        if (check.state != BULLA_CHECK_FAILED)
            continue;
        if (!may_be_old || strcmp(check.name, "policy.max_age") != 0)
            return connect_fail(problem, check.name, "the evidence does not pass: found %.300s, expected %.300s",
                                check.found ? check.found : "nothing", check.expected ? check.expected : "something else");
        is_old = 1;
    }
    return is_old ? BULLA_OK : connect_fail(problem, "evidence", "the evidence does not pass");
}

int connect_verify_evidence(const struct connect_link *link, const char *document, size_t length, const uint8_t *tls_key,
                            const uint8_t *nonce, const uint8_t *receipt_key, const uint8_t *model, int may_be_old,
                            struct connect_problem *problem)
{
    const bulla_evidence_options options = {.policy = link->policy_text, .policy_length = link->options.policy_length,
                                            .time = (int64_t)time(NULL), .tls_key = tls_key, .receipt_key = receipt_key,
                                            .nonce = nonce, .model = model};
    bulla_verdict *verdict;
    bulla_error error = {0};
    if (bulla_verify_evidence(document, length, &options, &verdict, &error) != BULLA_OK)
        return connect_fail(problem, "evidence", "%s", error.text);
    int code = bulla_verdict_passed(verdict) ? BULLA_OK : find_failure(verdict, may_be_old, problem);
    bulla_verdict_free(verdict);
    return code;
}

/* What verified evidence binds. */
static int read_pin(const struct buffer *document, struct connect_pin *pin, char type[64], struct connect_problem *problem)
{
    struct arena arena = {0};
    bulla_error error = {0};
    struct binding binding;
    const struct json *value = json_parse((const char *)document->data, document->length, "the evidence", &arena, &error);
    const struct json *name = json_get(value, "type");
    const struct evidence_format *format = json_is(name, JSON_STRING) ? evidence_format_find(name->text) : NULL;
    int code = format && binding_read(json_get(value, "binding"), &binding, &error) == BULLA_OK
                   ? BULLA_OK
                   : connect_fail(problem, "binding", "the evidence binds nothing: %s", error.text);
    if (code == BULLA_OK) {
        memcpy(pin->receipt_key, binding.receipt_key, sizeof pin->receipt_key);
        memcpy(pin->models, binding.models, sizeof pin->models);
        pin->model_count = binding.model_count;
        pin->is_simulated = format->is_simulated;
        snprintf(type, 64, "%s", format->type);
    }
    arena_free(&arena);
    return code;
}

/* ---- Connections ---- */

static void release(struct verified *verified)
{
    if (verified && --verified->users == 0)
        memory_free(verified);
}

static int is_fresh(const struct connect_link *link, const struct verified *verified)
{
    return clock_nanoseconds() - verified->at < link->renew;
}

static void free_idle(struct idle *idle)
{
    client_connection_close(idle->connection);
    release(idle->verified);
    memory_free(idle);
}

static void on_lost(void *context)
{
    struct idle *idle = context;
    for (struct idle **link = &idle->link->idle; *link; link = &(*link)->next)
        if (*link == idle) {
            *link = idle->next;
            break;
        }
    free_idle(idle);
}

/* The connection waits for its next request. Takes both. */
static void add_idle(struct connect_link *link, struct client_connection *connection, struct verified *verified)
{
    struct idle *idle = memory_alloc(1, sizeof *idle, NULL);
    if (!idle) {
        client_connection_close(connection);
        release(verified);
        return;
    }
    *idle = (struct idle){link, connection, verified, link->idle};
    link->idle = idle;
    client_connection_watch(connection, on_lost, idle);
}

static void drop_stale(struct connect_link *link)
{
    for (struct idle **at = &link->idle; *at;) {
        struct idle *idle = *at;
        if (is_fresh(link, idle->verified)) {
            at = &idle->next;
        } else {
            *at = idle->next;
            free_idle(idle);
        }
    }
}

static void schedule(struct connect_link *link)
{
    event_active(link->turn, EV_TIMEOUT, 0);
}

static struct connect_ask *take_waiting(struct connect_link *link)
{
    struct connect_ask *ask = link->waiting;
    if (ask) {
        link->waiting = ask->next;
        ask->is_waiting = 0;
    }
    return ask;
}

static void add_waiting(struct connect_ask *ask, int at_front)
{
    struct connect_ask **place = &ask->link->waiting;
    while (*place && !at_front)
        place = &(*place)->next;
    ask->next = *place;
    *place = ask;
    ask->is_waiting = 1;
    schedule(ask->link);
}

/* ---- Opening one ---- */

static void free_opening(struct opening *opening)
{
    struct connect_link *link = opening->link;
    for (struct opening **at = &link->openings; *at; at = &(*at)->next)
        if (*at == opening) {
            *at = opening->next;
            link->opening_count--;
            break;
        }
    client_call_close(opening->call);
    release(opening->verified);
    buffer_free(&opening->document);
    memory_free(opening);
}

/* The one that has waited longest is told; without one it is tried again after a while. */
static void fail_opening(struct opening *opening, int status, const struct connect_problem *problem)
{
    struct connect_link *link = opening->link;
    const struct connect_problem kept = *problem;
    free_opening(opening);
    link->pause = link->pause ? link->pause * 2 : SECOND;
    if (link->pause > LONGEST_PAUSE * SECOND)
        link->pause = LONGEST_PAUSE * SECOND;
    link->try_at = clock_nanoseconds() + link->pause;
    if (link->options.told)
        link->options.told(link->options.context, NULL, NULL, &kept);
    struct connect_ask *ask = take_waiting(link);
    if (link->waiting)
        schedule(link);
    if (ask)
        ask->sink.failed(ask->sink.context, status, &kept);
}

static void on_opening_head(void *context, const struct upstream_response *response)
{
    ((struct opening *)context)->status = response->status;
}

static void on_opening_body(void *context, const uint8_t *bytes, size_t length)
{
    struct opening *opening = context;
    struct connect_problem problem = {0};
    if (length <= MOST_EVIDENCE - opening->document.length) {
        buffer_append(&opening->document, bytes, length);
        return;
    }
    connect_fail(&problem, "evidence", "the server's evidence is longer than %d bytes", MOST_EVIDENCE);
    fail_opening(opening, 502, &problem);
}

static int verify_opening(struct opening *opening, const struct client_connection *connection, char type[64],
                          struct connect_problem *problem)
{
    struct verified *verified = opening->verified;
    const struct buffer *document = &opening->document;
    bulla_error error = {0};
    if (opening->status != 200)
        return connect_fail(problem, "evidence", "the server gave no evidence: it answered with status %d", opening->status);
    if (!connection)
        return connect_fail(problem, "evidence", "the server closes the connection over which it gave its evidence");
    if (document->error.code != BULLA_OK || document->length == 0)
        return connect_fail(problem, "evidence", "the server's evidence is empty");
    if (client_connection_key(connection, verified->tls_key, &error) != BULLA_OK)
        return connect_fail(problem, "tls", "%s", error.text);
    if (connect_verify_evidence(opening->link, (const char *)document->data, document->length, verified->tls_key,
                                opening->nonce, NULL, NULL, 0, problem) != BULLA_OK)
        return BULLA_E_INPUT;
    return read_pin(document, &verified->pin, type, problem);
}

static void on_opening_done(void *context)
{
    struct opening *opening = context;
    struct connect_link *link = opening->link;
    struct client_connection *connection = client_call_keep(opening->call);
    struct connect_problem problem = {0};
    char type[64] = "";
    if (verify_opening(opening, connection, type, &problem) != BULLA_OK) {
        client_connection_close(connection);
        fail_opening(opening, 502, &problem);
        return;
    }
    struct verified *verified = opening->verified;
    verified->users++;
    free_opening(opening);
    if (link->options.told)
        link->options.told(link->options.context, &verified->pin, type, NULL);
    add_idle(link, connection, verified);
    link->pause = link->try_at = 0;
    if (link->waiting)
        schedule(link);
}

/* The status for a client, and the check's name. */
static int describe_failure(enum client_failure failure, const char *sentence, struct connect_problem *problem)
{
    static const struct {
        int status;
        const char *check;
    } kinds[] = {
        [CLIENT_UNREACHABLE] = {503, "server.unreachable"}, [CLIENT_TIMEOUT] = {504, "server.timeout"},
        [CLIENT_DEADLINE] = {504, "server.timeout"},        [CLIENT_UNTRUSTED] = {502, "tls"},
        [CLIENT_BROKEN] = {502, "server.answer"},           [CLIENT_MEMORY] = {500, "memory"},
    };
    connect_fail(problem, kinds[failure].check, "the server failed: %s", sentence);
    return kinds[failure].status;
}

static void on_opening_failed(void *context, enum client_failure failure, const char *sentence)
{
    struct connect_problem problem = {0};
    int status = describe_failure(failure, sentence, &problem);
    fail_opening(context, status, &problem);
}

static int open_connection(struct connect_link *link)
{
    struct opening *opening = memory_alloc(1, sizeof *opening, NULL);
    struct verified *verified = opening ? memory_alloc(1, sizeof *verified, NULL) : NULL;
    char path[64 + 2 * NONCE_BYTES] = "/v1/evidence?nonce=";
    const struct client_sink sink = {opening, on_opening_head, on_opening_body, on_opening_done, on_opening_failed};
    struct client_request request = {.method = "GET", .path = path, .accept = "application/json", .keeps = 1,
                                     .is_anonymous = 1, /* nobody has verified yet who this is */
                                     .connect_seconds = link->options.connect_seconds,
                                     .idle_seconds = link->options.idle_seconds};
    if (!verified || random_bytes(opening->nonce, NONCE_BYTES, NULL) != BULLA_OK) {
        memory_free(verified);
        memory_free(opening);
        return 0;
    }
    hex_encode(opening->nonce, NONCE_BYTES, path + strlen(path));
    verified->users = 1;
    verified->at = clock_nanoseconds();
    opening->link = link;
    opening->verified = verified;
    opening->next = link->openings;
    link->openings = opening;
    link->opening_count++;
    if (client_call_open(&link->target, &request, &sink, &opening->call, NULL) == BULLA_OK)
        return 1;
    free_opening(opening);
    return 0;
}

/* ---- Asking ---- */

static void end_use(struct connect_ask *ask)
{
    client_call_close(ask->call);
    ask->call = NULL;
    ask->link->busy--;
    if (ask->link->waiting)
        schedule(ask->link);
}

static void on_head(void *context, const struct upstream_response *response)
{
    struct connect_ask *ask = context;
    ask->has_retried = 1; /* what has begun to be answered is not asked again */
    ask->sink.head(ask->sink.context, response);
}

static void on_body(void *context, const uint8_t *bytes, size_t length)
{
    struct connect_ask *ask = context;
    ask->sink.body(ask->sink.context, bytes, length);
}

static void on_done(void *context)
{
    struct connect_ask *ask = context;
    struct client_connection *connection = client_call_keep(ask->call);
    if (connection) {
        ask->verified->users++;
        add_idle(ask->link, connection, ask->verified);
    }
    end_use(ask);
    ask->sink.done(ask->sink.context);
}

/* A connection that was kept may be closed by the server just when a request is sent on it: not a byte of an answer then
 * comes back, and the request is sent once more, on a new one. */
static void on_failed(void *context, enum client_failure failure, const char *sentence)
{
    struct connect_ask *ask = context;
    struct connect_problem problem = {0};
    int is_silent = client_call_is_silent(ask->call) && failure == CLIENT_BROKEN;
    end_use(ask);
    if (is_silent && !ask->has_retried) {
        ask->has_retried = 1;
        release(ask->verified);
        ask->verified = NULL;
        add_waiting(ask, 1);
        return;
    }
    int status = describe_failure(failure, sentence, &problem);
    ask->sink.failed(ask->sink.context, status, &problem);
}

/* Sends it on an idle connection. */
static int send_on(struct connect_ask *ask, struct idle *idle)
{
    struct connect_link *link = ask->link;
    struct buffer body = {0};
    const struct client_sink sink = {ask, on_head, on_body, on_done, on_failed};
    struct client_request request = {.method = ask->method, .path = ask->path, .accept = ask->accept, .headers = ask->headers,
                                     .body = ask->body ? &body : NULL, .keeps = 1, .keeps_headers = 1,
                                     .connection = idle->connection, .connect_seconds = link->options.connect_seconds,
                                     .idle_seconds = link->options.idle_seconds};
    buffer_append(&body, ask->body ? ask->body : "", ask->length);
    int code = body.error.code;
    if (code == BULLA_OK)
        code = client_call_open(&link->target, &request, &sink, &ask->call, NULL);
    buffer_free(&body);
    if (code != BULLA_OK) {
        free_idle(idle);
        return 0;
    }
    ask->verified = idle->verified;
    memory_free(idle);
    link->busy++;
    return 1;
}

static void on_turn(evutil_socket_t nothing, short what, void *context)
{
    struct connect_link *link = context;
    unsigned wanted = 0, idle_count = 0;
    drop_stale(link);
    while (link->waiting && link->idle) {
        struct connect_ask *ask = take_waiting(link);
        struct idle *idle = link->idle;
        link->idle = idle->next;
        if (!send_on(ask, idle)) {
            const struct connect_problem problem = {"memory", "memory is short"};
            ask->sink.failed(ask->sink.context, 500, &problem);
        }
    }
    for (struct connect_ask *ask = link->waiting; ask; ask = ask->next)
        wanted++;
    for (struct idle *idle = link->idle; idle; idle = idle->next)
        idle_count++;
    while (link->opening_count < wanted && link->busy + link->opening_count + idle_count < MOST_CONNECTIONS)
        if (!open_connection(link))
            break;
    if (wanted > 0 && link->opening_count == 0 && link->busy == 0) { /* not even one could be tried */
        const struct connect_problem problem = {"memory", "memory is short"};
        struct connect_ask *ask = take_waiting(link);
        if (link->waiting)
            schedule(link);
        ask->sink.failed(ask->sink.context, 500, &problem);
    }
}

static int copy(char **to, const char *text, bulla_error *error)
{
    *to = text ? memory_copy_text(text, strlen(text), error) : NULL;
    return !text || *to;
}

int connect_ask_open(struct connect_link *link, const struct connect_ask_request *request, const struct connect_ask_sink *sink,
                     struct connect_ask **result, bulla_error *error)
{
    struct connect_ask *ask = memory_alloc(1, sizeof *ask, error);
    *result = NULL;
    if (!ask)
        return BULLA_E_MEMORY;
    ask->link = link;
    ask->sink = *sink;
    ask->method = request->method;
    ask->body = request->body;
    ask->length = request->length;
    if (!copy(&ask->path, request->path, error) || !copy(&ask->accept, request->accept, error) ||
        !copy(&ask->headers, request->headers, error)) {
        connect_ask_close(ask);
        return BULLA_E_MEMORY;
    }
    add_waiting(ask, 0);
    *result = ask;
    return BULLA_OK;
}

void connect_ask_close(struct connect_ask *ask)
{
    if (!ask)
        return;
    for (struct connect_ask **at = &ask->link->waiting; ask->is_waiting && *at; at = &(*at)->next)
        if (*at == ask) {
            *at = ask->next;
            break;
        }
    if (ask->call)
        end_use(ask);
    release(ask->verified);
    memory_free(ask->path);
    memory_free(ask->accept);
    memory_free(ask->headers);
    memory_free(ask);
}

void connect_ask_pause(struct connect_ask *ask, int is_paused)
{
    if (ask->call)
        client_call_pause(ask->call, is_paused);
}

const struct connect_pin *connect_ask_pin(const struct connect_ask *ask)
{
    return &ask->verified->pin;
}

const uint8_t *connect_ask_tls_key(const struct connect_ask *ask)
{
    return ask->verified->tls_key;
}

/* ---- The link ---- */

const struct policy *connect_link_policy(const struct connect_link *link)
{
    return link->policy;
}

void connect_link_warm(struct connect_link *link)
{
    drop_stale(link);
    if (!link->idle && !link->busy && !link->opening_count && clock_nanoseconds() >= link->try_at)
        open_connection(link);
}

/* Evidence that is tied to no keys would let anyone pass for the server. */
static int read_policy(struct connect_link *link, bulla_error *error)
{
    int code = policy_parse(link->policy_text, link->options.policy_length, "the policy", &link->policy, error);
    if (code != BULLA_OK)
        return code;
    if (policy_names(link->policy, "report_data") || policy_names(link->policy, "public_key"))
        return bulla_fail(error, BULLA_E_USAGE, "the policy names \"report_data\" or \"public_key\": such evidence is not bound to "
                                                "a server's keys, and a connection can only be verified by those");
    uint64_t age = policy_most_age(link->policy), renew = link->options.renew_seconds ? link->options.renew_seconds : 3600;
    link->renew = (age && age < renew ? age : renew) * SECOND;
    return BULLA_OK;
}

int connect_link_open(struct event_base *base, const struct connect_link_options *options, struct connect_link **result,
                      bulla_error *error)
{
    struct connect_link *link = memory_alloc(1, sizeof *link, error);
    *result = NULL;
    if (!link)
        return BULLA_E_MEMORY;
    link->base = base;
    link->options = *options;
    link->options.connect_seconds = options->connect_seconds ? options->connect_seconds : 10;
    link->options.idle_seconds = options->idle_seconds ? options->idle_seconds : 300;
    link->policy_text = memory_copy_text(options->policy, options->policy_length, error);
    int code = link->policy_text ? read_policy(link, error) : BULLA_E_MEMORY;
    if (code == BULLA_OK)
        code = upstream_target_open_keyed(base, options->url, options->key, &link->target, error);
    if (code == BULLA_OK && !(link->turn = event_new(base, -1, 0, on_turn, link)))
        code = bulla_fail(error, BULLA_E_MEMORY, "memory is short");
    if (code == BULLA_OK)
        *result = link;
    else
        connect_link_close(link);
    return code;
}

void connect_link_close(struct connect_link *link)
{
    if (!link)
        return;
    while (link->openings)
        free_opening(link->openings);
    while (link->idle) {
        struct idle *idle = link->idle;
        link->idle = idle->next;
        free_idle(idle);
    }
    if (link->turn)
        event_free(link->turn);
    upstream_target_close(&link->target);
    policy_free(link->policy);
    memory_free(link->policy_text);
    memory_free(link);
}
