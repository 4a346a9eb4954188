#define _GNU_SOURCE
#include "cli/serving.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/model_cache.h"
#include "cli/serving_evidence.h"
#include "cli/serving_receipts.h"
#include "cli/state_folder.h"
#include "ops/listener.h"
#include "ops/operator.h"
#include "serve/api.h"
#include "serve/http.h"
#include "serve/tls.h"

enum {
    TICK_MILLISECONDS = 1000,      /* counters, models that were removed, keys, evidence */
    WATCH_MILLISECONDS = 2,        /* whether models are ready, whether all is drained */
    HAND_BACK_MILLISECONDS = 2000, /* for clients to take the error that hands their request back */
    LOG_MILLISECONDS = 2000,       /* for the last lines */
    HOST_NAME = 256
};

enum stage { STARTING, SERVING, DRAINING, HANDING_BACK };

struct serving {
    const struct config *config;
    struct event_base *base;
    struct event *signals[3], *tick, *watch;
    struct models *models;
    struct log *log;
    struct operator *operator;
    struct http_tls *tls;
    EVP_PKEY *receipt_key;           /* of this process alone */
    struct attestation *attestation;
    struct receipts_log receipts_log;
    struct receipts *receipts;
    uint8_t attested[ATTESTATION_HASH]; /* hash of the evidence in the certificate */
    struct listener_address address;
    struct listener listener;
    struct api *api;
    struct http_server *server;
    enum stage stage;
    uint64_t deadline;  /* clock_nanoseconds(), of draining and handing back */
    bulla_error trouble; /* what ended it */
};

int serving_find_tls_folder(struct buffer *folder, bulla_error *error)
{
    return state_folder_find("tls", "the server's certificate", "name a certificate with --tls-certificate and --tls-key",
                             folder, error);
}

/* --- Events --- */

static void log_event(struct serving *serving, enum log_level level, const char *event, const char *key, const char *text)
{
    struct log_line line;
    log_line_begin(&line, serving->log, level, event);
    log_line_text(&line, key, text);
    log_line_end(&line);
}

static void start_watch(struct serving *serving)
{
    event_add(serving->watch, &(struct timeval){.tv_usec = WATCH_MILLISECONDS * 1000});
}

static void stop_with(struct serving *serving, int code, const char *text)
{
    bulla_fail(&serving->trouble, code, "%s", text);
    event_base_loopbreak(serving->base);
}

static void begin_drain(struct serving *serving)
{
    log_event(serving, LOG_LEVEL_INFO, "draining", NULL, NULL);
    if (serving->stage == STARTING) { /* nothing was promised to anyone yet */
        event_base_loopbreak(serving->base);
        return;
    }
    serving->stage = DRAINING;
    serving->deadline = clock_nanoseconds() + UINT64_C(1000000000) * serving->config->drain_seconds;
    api_drain(serving->api);
    http_server_drain(serving->server);
    start_watch(serving);
}

static void on_signal(evutil_socket_t number, short what, void *context)
{
    struct serving *serving = context;
    bulla_error error = {0};
    (void)what;
    if (number != SIGHUP) {
        if (serving->stage >= DRAINING)
            stop_with(serving, BULLA_E_CANCELLED, "a second signal ended the server before its answers were finished");
        else
            begin_drain(serving);
        return;
    }
    if (serving->log)
        log_reopen(serving->log);
    if (operator_reload_keys(serving->operator, &error) != BULLA_OK)
        log_event(serving, LOG_LEVEL_ERROR, "keys_not_reloaded", "reason", error.text);
    else if (serving->config->keys)
        log_event(serving, LOG_LEVEL_INFO, "keys_reloaded", NULL, NULL);
}

static void notice_keys(struct serving *serving)
{
    int has_changed;
    bulla_error error = {0};
    if (operator_notice_keys(serving->operator, &has_changed, &error) != BULLA_OK)
        log_event(serving, LOG_LEVEL_ERROR, "keys_not_reloaded", "reason", error.text);
    else if (has_changed)
        log_event(serving, LOG_LEVEL_INFO, "keys_reloaded", NULL, NULL);
}

/* The certificate follows the standing evidence. */
static int attest_certificate(struct serving *serving, bulla_error *error)
{
    if (!serving->config->ra_tls)
        return BULLA_OK;
    return serving_attest_certificate(serving->attestation, serving->tls, serving->attested, serving->log, error);
}

static void on_tick(evutil_socket_t unused, short what, void *context)
{
    struct serving *serving = context;
    bulla_error error = {0};
    if (serving->stage != STARTING && attest_certificate(serving, &error) != BULLA_OK)
        log_event(serving, LOG_LEVEL_ERROR, "certificate_not_attested", "reason", error.text);
    (void)unused;
    (void)what;
    operator_sample(serving->operator);
    models_sweep(serving->models);
    if (serving->api)
        api_note_models(serving->api);
    notice_keys(serving);
}

/* 1 once every model of a file is ready; upstreams come and go as they like. */
static int models_are_ready(struct serving *serving)
{
    struct served_model *model;
    char text[600];
    for (size_t i = 0; (model = models_at(serving->models, i)) != NULL; i++) {
        struct backend_info info = {0};
        model->backend->class->describe(model->backend, &info);
        if (strcmp(info.kind, "native") != 0 || info.state == BACKEND_READY)
            continue;
        if (info.state == BACKEND_FAILED) {
            snprintf(text, sizeof text, "model \"%s\" does not start: %s", model->name,
                     info.trouble ? info.trouble : "its worker did not say why");
            stop_with(serving, BULLA_E_IO, text);
        }
        return 0;
    }
    return 1;
}

static int open_listener(struct serving *serving, bulla_error *error)
{
    const struct config *config = serving->config;
    int code = listener_open(&serving->address, config->takes_over, &serving->listener, error);
    if (code == BULLA_OK && !serving->listener.is_loopback && config->insecure_http)
        log_event(serving, LOG_LEVEL_WARNING, "insecure_http", "address", serving->listener.text);
    return code;
}

static int open_server(struct serving *serving, bulla_error *error)
{
    const struct config *config = serving->config;
    const char *hosts[CONFIG_MOST_HOSTS + 1];
    memcpy(hosts, config->hosts, sizeof config->hosts);
    hosts[config->host_count] = serving->address.host; /* the name that it listens on is one of its own */
    struct api_options options = {.models = serving->models,
                                  .rules = operator_rules(serving->operator),
                                  .receipts = serving->receipts,
                                  .attestation = serving->attestation,
                                  .cors_origin = config->cors_origin,
                                  .version = BULLA_VERSION,
                                  .has_page = config->has_page,
                                  .is_local = serving->listener.is_loopback && !config->keys,
                                  .hosts = hosts,
                                  .host_count = config->host_count + 1,
                                  .most_held_bytes = config->most_answer_bytes};
    int code = api_open(serving->base, &options, &serving->api, error);
    if (code != BULLA_OK)
        return code;
    struct http_handler handler = api_handler(serving->api);
    int listener = serving->listener.socket;
    serving->listener.socket = -1;
    code = http_server_open(serving->base, listener, serving->tls, &config->limits, &handler, &serving->server, error);
    if (code == BULLA_OK)
        operator_watch(serving->operator, serving->server);
    return code;
}

/* 1 once there is evidence for clients to ask for, where there is to be some. */
static int evidence_is_ready(struct serving *serving)
{
    bulla_error error = {0};
    int is_ready = attestation_is_ready(serving->attestation, &error);
    if (is_ready < 0)
        stop_with(serving, error.code, error.text);
    return is_ready > 0;
}

static void log_ready(struct serving *serving, const char *url)
{
    const struct attester *attester = attestation_attester(serving->attestation);
    struct log_line line;
    log_line_begin(&line, serving->log, LOG_LEVEL_INFO, "ready");
    log_line_text(&line, "address", url);
    log_line_text(&line, "attester", !attester ? "none" : attester->is_simulated ? attester->title : attester->name);
    log_line_end(&line);
}

/* All models are ready. A server that follows another listens only now: until then all requests are that one's. Others
 * read the line to know that the server is there, and where. */
static void begin_serving(struct serving *serving)
{
    bulla_error error = {0};
    if (attest_certificate(serving, &error) != BULLA_OK) {
        stop_with(serving, error.code, error.text);
        return;
    }
    if (!serving->server && (open_listener(serving, &error) != BULLA_OK || open_server(serving, &error) != BULLA_OK)) {
        stop_with(serving, error.code, error.text);
        return;
    }
    char url[LISTENER_TEXT + 16];
    snprintf(url, sizeof url, "%s://%s", serving->tls ? "https" : "http", serving->listener.text);
    serving->stage = SERVING;
    operator_sample(serving->operator);
    log_ready(serving, url);
    if (attestation_is_simulated(serving->attestation))
        printf("the evidence is SIMULATED: it proves nothing\n");
    printf("listening on %s\n", url);
    fflush(stdout);
}

static void hand_back(struct serving *serving)
{
    log_event(serving, LOG_LEVEL_WARNING, "handing_back", NULL, NULL);
    serving->stage = HANDING_BACK;
    serving->deadline = clock_nanoseconds() + UINT64_C(1000000) * HAND_BACK_MILLISECONDS;
    api_hand_back(serving->api);
}

static void on_watch(evutil_socket_t unused, short what, void *context)
{
    struct serving *serving = context;
    (void)unused;
    (void)what;
    int is_late = clock_nanoseconds() >= serving->deadline;
    if (serving->stage == STARTING) {
        if (models_are_ready(serving) && evidence_is_ready(serving))
            begin_serving(serving);
        else
            start_watch(serving);
    } else if (http_server_is_drained(serving->server)) {
        event_base_loopbreak(serving->base);
    } else if (serving->stage == DRAINING && is_late && api_answers(serving->api) > 0) {
        hand_back(serving);
        start_watch(serving);
    } else if (is_late) { /* connections without an answer, or whose clients take none */
        event_base_loopbreak(serving->base);
    } else {
        start_watch(serving);
    }
}

static int open_events(struct serving *serving, bulla_error *error)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    serving->base = event_base_new();
    int is_whole = serving->base != NULL;
    for (size_t i = 0; is_whole && i < sizeof numbers / sizeof numbers[0]; i++) {
        serving->signals[i] = evsignal_new(serving->base, numbers[i], on_signal, serving);
        is_whole = serving->signals[i] && event_add(serving->signals[i], NULL) == 0;
    }
    if (is_whole) {
        serving->tick = event_new(serving->base, -1, EV_PERSIST, on_tick, serving);
        serving->watch = evtimer_new(serving->base, on_watch, serving);
        is_whole = serving->tick && serving->watch;
    }
    if (is_whole)
        is_whole = event_add(serving->tick, &(struct timeval){.tv_sec = TICK_MILLISECONDS / 1000}) == 0;
    return is_whole ? BULLA_OK : bulla_fail(error, BULLA_E_MEMORY, "the event loop cannot be made");
}

/* --- Parts --- */

static int open_log(struct serving *serving, bulla_error *error)
{
    const struct config *config = serving->config;
    int level = log_level_parse(config->log_level);
    if (level < 0)
        return bulla_fail(error, BULLA_E_USAGE, "the log's level is \"%s\", expected error, warning, info or debug",
                          config->log_level);
    if (strcmp(config->log, "none") == 0)
        return BULLA_OK;
    struct log_options options = {.descriptor = STDERR_FILENO, .level = (enum log_level)level};
    if (strcmp(config->log, "-") != 0)
        options.path = config->log;
    return log_open(&options, &serving->log, error);
}

/* Who else could use the server, or listen in, is told before it starts. */
static int check_address(struct serving *serving, bulla_error *error)
{
    const struct config *config = serving->config;
    int is_loopback;
    int code = listener_parse(config->listen, &serving->address, error);
    if (code == BULLA_OK)
        code = listener_find_loopback(&serving->address, &is_loopback, error);
    if (code == BULLA_OK && !is_loopback && config->http && !config->insecure_http)
        code = bulla_fail(error, BULLA_E_USAGE,
                          "--http (\"http\" of the configuration) is for addresses that only this machine can reach, and %s is "
                          "none; leave it out for TLS, or say --insecure-http (\"insecure_http\")",
                          config->listen);
    if (code == BULLA_OK && !is_loopback && !config->keys && !config->is_open)
        code = bulla_fail(error, BULLA_E_USAGE,
                          "%s can be reached from other machines, and there are no keys: --keys FILE lets only those who "
                          "have one in, --open lets everyone in",
                          config->listen);
    return code;
}

static int open_tls(struct serving *serving, bulla_error *error)
{
    const struct config *config = serving->config;
    char host[HOST_NAME] = "", digest[65];
    struct buffer folder = {0};
    if (config->http || config->insecure_http)
        return BULLA_OK;
    int code = config->certificate ? tls_open(config->certificate, config->key, &serving->tls, error)
                                   : serving_find_tls_folder(&folder, error);
    if (code == BULLA_OK && !config->certificate) {
        if (gethostname(host, sizeof host - 1) != 0)
            host[0] = 0;
        struct tls_names names = {
            .host = host[0] ? host : NULL, .names = config->tls_names, .count = config->tls_name_count};
        code = tls_open_folder((const char *)folder.data, &names, &serving->tls, error);
    }
    buffer_free(&folder);
    if (code == BULLA_OK) {
        hex_encode(tls_certificate_digest(serving->tls), 32, digest);
        log_event(serving, LOG_LEVEL_INFO, tls_was_made(serving->tls) ? "certificate_made" : "certificate", "sha256", digest);
    }
    return code;
}

static int open_receipts(struct serving *serving, bulla_error *error)
{
    const struct config *config = serving->config;
    struct buffer folder = {0};
    int code = BULLA_OK;
    if (serving_keeps_receipts_in_state(config))
        code = state_folder_find("receipts", "the log of receipts", "name one with --receipts, or say --no-receipts",
                                 &folder, error);
    if (code == BULLA_OK)
        code = serving_open_receipts(serving->base, config, (const char *)folder.data, serving->receipt_key,
                                     serving->attestation, &serving->receipts_log, &serving->receipts, error);
    buffer_free(&folder);
    return code;
}

/* The model's file is found, imported where it is none yet, and opened; one of the cache's that is damaged is made again. */
static int add_file_model(struct serving *serving, const struct config_model *model, bulla_error *error)
{
    struct config_model found = *model;
    struct buffer path = {0};
    bulla_error own = {0};
    int code = model_cache_find(model->path, (unsigned)model->threads, &path, error);
    if (code == BULLA_OK) {
        found.path = (const char *)path.data;
        code = operator_add_model(serving->operator, &found, &own);
    }
    if (own.code == BULLA_E_INPUT && strcmp(found.path, model->path) != 0) {
        bulla_model *checked = NULL;
        bulla_error_clear(&own);
        code = model_cache_open(model->path, &(struct model_opening){(unsigned)model->threads, 1}, &checked, error);
        bulla_model_close(checked);
        if (code == BULLA_OK)
            code = operator_add_model(serving->operator, &found, &own);
    }
    buffer_free(&path);
    return own.code == BULLA_OK ? code : bulla_fail(error, own.code, "%s", own.text);
}

static int add_models(struct serving *serving, bulla_error *error)
{
    int code = BULLA_OK;
    for (size_t i = 0; code == BULLA_OK && i < serving->config->model_count; i++) {
        const struct config_model *model = &serving->config->models[i];
        code = model->path ? add_file_model(serving, model, error) : operator_add_model(serving->operator, model, error);
    }
    return code;
}

static int open_serving(struct serving *serving, bulla_error *error)
{
    const struct config *config = serving->config;
    int code = open_events(serving, error);
    if (code == BULLA_OK)
        code = open_log(serving, error);
    if (code == BULLA_OK)
        code = models_open(&serving->models, error);
    struct operator_options options = {.base = serving->base,
                                       .models = serving->models,
                                       .keys_path = config->keys,
                                       .metrics_open = config->metrics_open,
                                       .log = serving->log,
                                       .version = BULLA_VERSION};
    if (code == BULLA_OK)
        code = operator_open(&options, &serving->operator, error);
    if (code == BULLA_OK)
        code = check_address(serving, error);
    if (code == BULLA_OK && !config->takes_over)
        code = open_listener(serving, error);
    if (code == BULLA_OK)
        code = open_tls(serving, error);
    if (code == BULLA_OK)
        code = add_models(serving, error);
    if (code == BULLA_OK)
        code = serving_make_receipt_key(&serving->receipt_key, error);
    if (code == BULLA_OK)
        code = serving_open_attestation(config, serving->tls ? tls_key_digest(serving->tls) : NULL, serving->receipt_key,
                                        serving->models, serving->log, &serving->attestation, error);
    if (code == BULLA_OK)
        code = open_receipts(serving, error);
    return code == BULLA_OK && !config->takes_over ? open_server(serving, error) : code;
}

static void free_event(struct event *event)
{
    if (event)
        event_free(event);
}

/* The server first, because its exchanges are the API's, then the API, whose answers are the backends'. */
static void close_serving(struct serving *serving)
{
    if (serving->api)
        api_hand_back(serving->api);
    http_server_close(serving->server);
    if (serving->operator)
        operator_watch(serving->operator, NULL);
    if (serving->listener.socket >= 0)
        close(serving->listener.socket);
    attestation_close(serving->attestation);
    api_close(serving->api);
    receipts_tlog_close(&serving->receipts_log); /* tells the receipts of what is still on its way */
    receipts_close(serving->receipts);
    models_close(serving->models);
    operator_close(serving->operator);
    EVP_PKEY_free(serving->receipt_key);
    tls_close(serving->tls);
    for (size_t i = 0; i < sizeof serving->signals / sizeof serving->signals[0]; i++)
        free_event(serving->signals[i]);
    free_event(serving->tick);
    free_event(serving->watch);
    if (serving->base)
        event_base_free(serving->base);
    log_event(serving, LOG_LEVEL_INFO, "stopped", "reason", serving->trouble.code == BULLA_OK ? NULL : serving->trouble.text);
    log_close(serving->log, LOG_MILLISECONDS);
}

/* As many connections as the system lets this process have. */
static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int serving_run(const struct config *config, bulla_error *error)
{
    struct serving serving = {.config = config, .listener.socket = -1};
    signal(SIGPIPE, SIG_IGN);
    raise_file_limit();
    int code = open_serving(&serving, &serving.trouble);
    if (code == BULLA_OK) {
        start_watch(&serving);
        if (event_base_dispatch(serving.base) < 0)
            bulla_fail(&serving.trouble, BULLA_E_IO, "the event loop failed: %s", strerror(errno));
    }
    close_serving(&serving);
    return serving.trouble.code == BULLA_OK ? BULLA_OK
                                            : bulla_fail(error, serving.trouble.code, "%s", serving.trouble.text);
}
