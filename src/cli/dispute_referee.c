#include "cli/dispute_referee.h"

#include <event2/event.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "cli/disputing.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/state_folder.h"
#include "ops/dispute_server.h"
#include "ops/listener.h"
#include "serve/dispute_text.h"
#include "serve/tls.h"
#include "trust/key_file.h"

enum { MOST_LOG = 1 << 30 };

static int64_t now(void)
{
    struct timeval time;
    gettimeofday(&time, NULL);
    return (int64_t)time.tv_sec * 1000 + time.tv_usec / 1000;
}

struct court {
    EVP_PKEY *key;
    struct dispute_text *text;
    struct dispute_store *store;
    struct dispute_docket *docket;
    struct referee_text table;
    uint8_t proposers[OPTION_MOST_TEXTS][DISPUTE_KEY];
};

static int open_court(const struct dispute_choice *chosen, struct court *court, bulla_error *error)
{
    int code = key_file_open(chosen->key, &court->key, error);
    for (size_t i = 0; code == BULLA_OK && i < chosen->proposers.count; i++)
        code = disputing_read_key(chosen->proposers.texts[i], court->proposers[i], error);
    if (code == BULLA_OK)
        code = dispute_text_open(chosen->programs.texts, chosen->programs.count, &court->text, error);
    if (code == BULLA_OK)
        code = dispute_store_open(chosen->store, &court->store, error);
    if (code != BULLA_OK)
        return code;
    court->table = dispute_text_table(court->text);
    const struct dispute_docket_options options = {.store = court->store, .text = &court->table, .key = court->key, .now = now,
        .config = {.window = (int64_t)chosen->window * 1000, .turn = (int64_t)chosen->turn * 1000,
                   .proposers = (const uint8_t (*)[DISPUTE_KEY])court->proposers, .proposer_count = chosen->proposers.count}};
    return dispute_docket_open(&options, &court->docket, error);
}

static void close_court(struct court *court)
{
    dispute_docket_close(court->docket);
    dispute_store_close(court->store);
    dispute_text_close(court->text);
    EVP_PKEY_free(court->key);
}

static void say_ready(const struct court *court, const char *where)
{
    char key[2 * DISPUTE_KEY + 1];
    hex_encode(referee_key(dispute_docket_referee(court->docket)), DISPUTE_KEY, key);
    printf("referee %s on %s\n", key, where);
    fflush(stdout);
}

/* ---- By files ---- */

static int serve_folder(const char *folder, struct court *court, bulla_error *error)
{
    int code = dispute_folder_serve(folder, court->docket, error);
    if (code == BULLA_OK)
        say_ready(court, folder);
    interrupt_catch();
    while (code == BULLA_OK && !interrupt_came()) {
        disputing_wait();
        code = dispute_folder_serve(folder, court->docket, error);
    }
    interrupt_release();
    return code;
}

/* ---- By HTTP ---- */

static void on_signal(evutil_socket_t number, short what, void *base)
{
    (void)number;
    (void)what;
    event_base_loopbreak(base);
}

static int open_tls(const struct dispute_choice *chosen, struct http_tls **tls, bulla_error *error)
{
    struct buffer folder = {0};
    const struct tls_names names = {0};
    *tls = NULL;
    if (chosen->http)
        return BULLA_OK;
    if (chosen->certificate)
        return tls_open(chosen->certificate, chosen->certificate_key, tls, error);
    int code = chosen->tls_folder ? BULLA_OK
                                  : state_folder_find("referee-tls", "the referee's certificate", "name a folder with --tls", &folder, error);
    if (code == BULLA_OK)
        code = tls_open_folder(chosen->tls_folder ? chosen->tls_folder : (const char *)folder.data, &names, tls, error);
    buffer_free(&folder);
    return code;
}

static int serve_base(const struct dispute_choice *chosen, struct event_base *base, struct court *court, bulla_error *error)
{
    struct listener_address address;
    struct listener listener = {.socket = -1};
    struct http_tls *tls = NULL;
    char url[LISTENER_TEXT + 16];
    bulla_error trouble = {0};
    int code = listener_parse(chosen->listen, &address, error);
    if (code == BULLA_OK)
        code = listener_open(&address, 0, &listener, error);
    if (code == BULLA_OK && chosen->http && !listener.is_loopback)
        code = bulla_fail(error, BULLA_E_USAGE, "--http is for addresses that only this machine can reach, and %s is none", chosen->listen);
    if (code == BULLA_OK)
        code = open_tls(chosen, &tls, error);
    struct event *signals[2] = {event_new(base, SIGINT, EV_SIGNAL | EV_PERSIST, on_signal, base),
                                event_new(base, SIGTERM, EV_SIGNAL | EV_PERSIST, on_signal, base)};
    for (size_t i = 0; i < 2; i++)
        if (signals[i])
            event_add(signals[i], NULL);
    if (code == BULLA_OK) {
        snprintf(url, sizeof url, "%s://%s", tls ? "https" : "http", listener.text);
        say_ready(court, url);
        code = dispute_server_run(base, listener.socket, tls, court->docket, &trouble, error);
    } else if (listener.socket >= 0) {
        close(listener.socket);
    }
    for (size_t i = 0; i < 2; i++)
        if (signals[i])
            event_free(signals[i]);
    tls_close(tls);
    return code == BULLA_OK && trouble.code != BULLA_OK ? bulla_fail(error, trouble.code, "%s", trouble.text) : code;
}

int dispute_referee(const struct dispute_choice *chosen, bulla_error *error)
{
    struct court court = {0};
    if (!chosen->store || !chosen->key || !chosen->programs.count || !chosen->listen == !chosen->folder)
        return bulla_fail(error, BULLA_E_USAGE, "a referee needs --store PLACE, --key FILE, --program FILE, and --listen HOST:PORT or "
                                                "--folder FOLDER");
    int code = open_court(chosen, &court, error);
    if (code == BULLA_OK && chosen->folder) {
        code = serve_folder(chosen->folder, &court, error);
    } else if (code == BULLA_OK) {
        struct event_base *base = event_base_new();
        code = base ? serve_base(chosen, base, &court, error) : bulla_fail(error, BULLA_E_MEMORY, "memory is short for the referee");
        if (base)
            event_base_free(base);
    }
    close_court(&court);
    return code;
}

/* ---- The log ---- */

int dispute_log(const struct dispute_choice *chosen, bulla_error *error)
{
    struct dispute_store *store;
    struct buffer line = {0};
    int is_there = 1;
    if (!chosen->store)
        return bulla_fail(error, BULLA_E_USAGE, "whose log? --store PLACE");
    int code = dispute_store_open(chosen->store, &store, error);
    if (code != BULLA_OK)
        return code;
    for (uint64_t number = 0; code == BULLA_OK && is_there; number++) {
        buffer_clear(&line);
        code = dispute_store_read(store, number, &line, &is_there, error);
        buffer_append_byte(&line, '\n');
        if (code == BULLA_OK && is_there)
            output_text(stdout, (const char *)line.data, line.length);
    }
    buffer_free(&line);
    dispute_store_close(store);
    return code;
}

static int apply_lines(const char *text, size_t length, const struct referee_text *table, struct referee **referee, bulla_error *error)
{
    int code = BULLA_OK;
    for (const char *at = text, *end = text + length; code == BULLA_OK && at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t line = newline ? (size_t)(newline - at) : (size_t)(end - at);
        code = *referee ? referee_apply(*referee, at, line, error) : referee_open(at, line, table, referee, error);
        at += line + 1;
    }
    return code == BULLA_OK && !*referee ? bulla_fail(error, BULLA_E_INPUT, "the log is empty") : code;
}

int dispute_replay(const struct dispute_choice *chosen, const char *log, bulla_error *error)
{
    struct dispute_text *text;
    struct referee *referee = NULL;
    struct buffer state = {0};
    uint8_t *bytes = NULL;
    size_t length;
    if (!chosen->programs.count)
        return bulla_fail(error, BULLA_E_USAGE, "by which programs? --program FILE");
    int code = dispute_text_open(chosen->programs.texts, chosen->programs.count, &text, error);
    if (code != BULLA_OK)
        return code;
    const struct referee_text table = dispute_text_table(text);
    code = file_read(log, MOST_LOG, &bytes, &length, error);
    if (code == BULLA_OK)
        code = apply_lines((const char *)bytes, length, &table, &referee, error);
    if (code == BULLA_OK) {
        referee_write_all(referee, &state);
        buffer_append_byte(&state, '\n');
        code = state.error.code != BULLA_OK ? bulla_fail(error, state.error.code, "%s", state.error.text) : BULLA_OK;
    }
    if (code == BULLA_OK)
        output_text(stdout, (const char *)state.data, state.length);
    buffer_free(&state);
    memory_free(bytes);
    referee_close(referee);
    dispute_text_close(text);
    return code;
}
