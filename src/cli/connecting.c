#define _GNU_SOURCE
#include "cli/connecting.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"
#include "cli/state_folder.h"
#include "ops/listener.h"
#include "serve/connect.h"

enum {
    MOST_POLICY = 16 << 20,
    MOST_KEY = 4096,
    KEY_BYTES = 32,
    MOST_WITNESSES = 16,
    DRAIN_SECONDS = 30,
    WATCH_MILLISECONDS = 10
};

struct running {
    const struct connecting *options;
    struct event_base *base;
    struct event *signals[2], *watch;
    struct buffer state, receipts, logs;
    char *local_key, *server_key;
    uint8_t *policy;
    size_t policy_length;
    struct note_key log_key, witnesses[MOST_WITNESSES];
    struct listener listener;
    struct connect *connect;
    struct http_server *server;
    int is_draining;
    uint64_t deadline;
    bulla_error trouble;
};

/* ---- Files ---- */

static int find_folders(struct running *running, bulla_error *error)
{
    const struct connecting *options = running->options;
    int code;
    if (options->state) {
        buffer_append_text(&running->state, options->state);
        code = state_folder_make(&running->state, error);
    } else {
        code = state_folder_find("connect", "what connect keeps", "name a folder with --state", &running->state, error);
    }
    if (code != BULLA_OK)
        return code;
    buffer_append_format(&running->logs, "%s/logs", (const char *)running->state.data);
    if (options->receipts)
        buffer_append_text(&running->receipts, options->receipts);
    else
        buffer_append_format(&running->receipts, "%s/receipts", (const char *)running->state.data);
    code = state_folder_make(&running->logs, error);
    return code == BULLA_OK ? state_folder_make(&running->receipts, error) : code;
}

/* The file's one word. */
static int read_key(const char *path, char **key, bulla_error *error)
{
    uint8_t *bytes;
    size_t length;
    int code = file_read(path, MOST_KEY, &bytes, &length, error);
    if (code != BULLA_OK)
        return code;
    while (length > 0 && (bytes[length - 1] == '\n' || bytes[length - 1] == '\r' || bytes[length - 1] == ' '))
        length--;
    for (size_t i = 0; i < length && code == BULLA_OK; i++)
        if (bytes[i] <= ' ' || bytes[i] > '~')
            code = bulla_fail(error, BULLA_E_INPUT, "%s: a key of visible ASCII characters alone is expected", path);
    if (code == BULLA_OK && length == 0)
        code = bulla_fail(error, BULLA_E_INPUT, "%s: it is empty, and a key is expected", path);
    *key = code == BULLA_OK ? memory_copy_text((const char *)bytes, length, error) : NULL;
    memory_wipe(bytes, length);
    memory_free(bytes);
    return code == BULLA_OK && !*key ? BULLA_E_MEMORY : code;
}

/* The first start makes the key that clients must send, and says it once. */
static int make_key(const char *path, bulla_error *error)
{
    uint8_t bytes[KEY_BYTES];
    char text[sizeof "bulla-local-" + 2 * KEY_BYTES + 1] = "bulla-local-";
    int code = random_bytes(bytes, sizeof bytes, error);
    if (code != BULLA_OK)
        return code;
    hex_encode(bytes, sizeof bytes, text + strlen(text));
    size_t length = strlen(text);
    text[length] = '\n';
    code = file_write_private(path, text, length + 1, error);
    if (code == BULLA_OK)
        fprintf(stderr, "bulla connect: clients need this key, which is kept in %s:\n%s", path, text);
    memory_wipe(bytes, sizeof bytes);
    memory_wipe(text, sizeof text);
    return code;
}

static int find_local_key(struct running *running, bulla_error *error)
{
    const struct connecting *options = running->options;
    struct buffer path = {0};
    enum file_kind kind = FILE_ABSENT;
    if (options->is_open)
        return BULLA_OK;
    if (options->local_key_file)
        buffer_append_text(&path, options->local_key_file);
    else
        buffer_append_format(&path, "%s/key", (const char *)running->state.data);
    int code = path.error.code != BULLA_OK ? bulla_fail(error, path.error.code, "%s", path.error.text)
                                           : file_find_kind((const char *)path.data, &kind, error);
    if (code == BULLA_OK && kind == FILE_ABSENT)
        code = make_key((const char *)path.data, error);
    if (code == BULLA_OK)
        code = read_key((const char *)path.data, &running->local_key, error);
    buffer_free(&path);
    return code;
}

static int read_keys(struct running *running, bulla_error *error)
{
    const struct connecting *options = running->options;
    int code = BULLA_OK;
    if (options->log_key)
        code = note_key_read(options->log_key, strlen(options->log_key), &running->log_key, error);
    if (options->witness_count > MOST_WITNESSES)
        return bulla_fail(error, BULLA_E_USAGE, "%zu witnesses, at most %d are taken", options->witness_count, MOST_WITNESSES);
    for (size_t i = 0; code == BULLA_OK && i < options->witness_count; i++)
        code = note_key_read(options->witnesses[i], strlen(options->witnesses[i]), &running->witnesses[i], error);
    if (code == BULLA_OK && options->server_key_file)
        code = read_key(options->server_key_file, &running->server_key, error);
    return code;
}

/* ---- Events ---- */

static void told(void *context, const char *line)
{
    fprintf(stderr, "bulla connect: %s\n", line);
}

static void on_watch(evutil_socket_t nothing, short what, void *context)
{
    struct running *running = context;
    if (http_server_is_drained(running->server) || clock_nanoseconds() >= running->deadline)
        event_base_loopbreak(running->base);
    else
        event_add(running->watch, &(struct timeval){.tv_usec = WATCH_MILLISECONDS * 1000});
}

static void on_signal(evutil_socket_t number, short what, void *context)
{
    struct running *running = context;
    if (running->is_draining) {
        bulla_fail(&running->trouble, BULLA_E_CANCELLED, "a second signal ended it before its answers were finished");
        event_base_loopbreak(running->base);
        return;
    }
    running->is_draining = 1;
    running->deadline = clock_nanoseconds() + UINT64_C(1000000000) * DRAIN_SECONDS;
    http_server_drain(running->server);
    on_watch(-1, 0, running);
}

static int open_events(struct running *running, bulla_error *error)
{
    static const int numbers[] = {SIGTERM, SIGINT};
    running->base = event_base_new();
    int is_whole = running->base != NULL;
    for (size_t i = 0; is_whole && i < 2; i++) {
        running->signals[i] = evsignal_new(running->base, numbers[i], on_signal, running);
        is_whole = running->signals[i] && event_add(running->signals[i], NULL) == 0;
    }
    if (is_whole)
        running->watch = evtimer_new(running->base, on_watch, running);
    return is_whole && running->watch ? BULLA_OK : bulla_fail(error, BULLA_E_MEMORY, "the event loop cannot be made");
}

/* Only this machine may reach it: what it hands out was decrypted here. */
static int open_listener(struct running *running, bulla_error *error)
{
    struct listener_address address;
    int is_loopback = 0;
    int code = listener_parse(running->options->listen, &address, error);
    if (code == BULLA_OK)
        code = listener_find_loopback(&address, &is_loopback, error);
    if (code == BULLA_OK && !is_loopback)
        code = bulla_fail(error, BULLA_E_USAGE, "%s can be reached from other machines; connect listens on loopback only",
                          running->options->listen);
    return code == BULLA_OK ? listener_open(&address, 0, &running->listener, error) : code;
}

static int open_proxy(struct running *running, bulla_error *error)
{
    const struct connecting *options = running->options;
    const struct connect_options proxy = {.url = options->url,
                                          .server_key = running->server_key,
                                          .policy = (const char *)running->policy,
                                          .policy_length = running->policy_length,
                                          .local_key = running->local_key,
                                          .receipts = (const char *)running->receipts.data,
                                          .logs = (const char *)running->logs.data,
                                          .leaves_texts_out = options->leaves_texts_out,
                                          .is_strict = options->is_strict,
                                          .needs_no_log = options->needs_no_log,
                                          .log_key = options->log_key ? &running->log_key : NULL,
                                          .witnesses = running->witnesses,
                                          .witness_count = options->witness_count,
                                          .witnesses_needed = options->witnesses_needed,
                                          .renew_seconds = options->renew_seconds,
                                          .idle_seconds = options->idle_seconds,
                                          .told = told};
    int code = connect_open(running->base, &proxy, &running->connect, error);
    if (code != BULLA_OK)
        return code;
    struct http_handler handler = connect_handler(running->connect);
    int listener = running->listener.socket;
    running->listener.socket = -1;
    code = http_server_open(running->base, listener, NULL, &(struct http_limits){0}, &handler, &running->server, error);
    if (code != BULLA_OK)
        close(listener);
    return code;
}

static void free_event(struct event *event)
{
    if (event)
        event_free(event);
}

static void wipe(char *text)
{
    if (text)
        memory_wipe(text, strlen(text));
    memory_free(text);
}

static void close_all(struct running *running)
{
    http_server_close(running->server);
    connect_close(running->connect);
    if (running->listener.socket >= 0)
        close(running->listener.socket);
    for (size_t i = 0; i < 2; i++)
        free_event(running->signals[i]);
    free_event(running->watch);
    if (running->base)
        event_base_free(running->base);
    wipe(running->local_key);
    wipe(running->server_key);
    memory_free(running->policy);
    buffer_free(&running->state);
    buffer_free(&running->receipts);
    buffer_free(&running->logs);
}

int connecting_run(const struct connecting *options, bulla_error *error)
{
    struct running running = {.options = options, .listener.socket = -1};
    signal(SIGPIPE, SIG_IGN);
    int code = file_read(options->policy, MOST_POLICY, &running.policy, &running.policy_length, error);
    if (code == BULLA_OK)
        code = find_folders(&running, error);
    if (code == BULLA_OK)
        code = read_keys(&running, error);
    if (code == BULLA_OK)
        code = open_listener(&running, error);
    if (code == BULLA_OK)
        code = find_local_key(&running, error);
    if (code == BULLA_OK)
        code = open_events(&running, error);
    if (code == BULLA_OK)
        code = open_proxy(&running, error);
    if (code == BULLA_OK) {
        printf("listening on http://%s\n", running.listener.text);
        fflush(stdout);
        if (event_base_dispatch(running.base) < 0)
            bulla_fail(&running.trouble, BULLA_E_IO, "the event loop failed: %s", strerror(errno));
    }
    close_all(&running);
    return code != BULLA_OK || running.trouble.code == BULLA_OK
               ? code
               : bulla_fail(error, running.trouble.code, "%s", running.trouble.text);
}
