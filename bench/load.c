/* A load generator for OpenAI-compatible servers: N clients, each with one connection, send the requests of a file one
 * after another and read the streamed answers. Prints figures as JSON, its own CPU time too, which has to be small
 * beside what it measures.
 *
 * usage: load URL FILE [options]
 *
 *   URL               http://HOST:PORT/PATH, such as http://127.0.0.1:8080/v1/completions; in the clear
 *   FILE              a request's JSON body a line, with "stream": true and "stream_options": {"include_usage": true}
 *   --clients N       at once (1)
 *   --requests N      in all; the file is gone through again where it has fewer (as many as the file has)
 *   --seconds N       of silence after which an answer counts as failed (120)
 *   --key KEY         sent as bearer token */
#define _GNU_SOURCE
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "load_stream.h"

enum { MOST_CLIENTS = 10000, MOST_FILE = 1 << 30, READ_BYTES = 65536, MOST_KINDS = 16 };

struct samples { /* nanoseconds */
    uint64_t *values;
    size_t count, capacity;
};

struct line {
    const char *text;
    size_t length;
};

struct kind {
    char text[120];
    uint64_t count;
};

struct load {
    struct event_base *base;
    struct addrinfo *address;
    char host[300], path[500];
    const char *key;
    struct line *lines;
    size_t line_count;
    uint64_t requests, started, finished, failed;
    unsigned silence; /* seconds */
    struct samples first, between, whole;
    uint64_t output_tokens, prompt_tokens, texts;
    uint64_t first_start, last_end; /* of the run */
    struct kind kinds[MOST_KINDS];
    size_t kind_count;
};

struct client {
    struct load *load;
    int socket; /* -1: none */
    struct event *readable, *writable;
    struct buffer request;
    size_t written;
    struct load_stream stream;
    uint64_t start, last; /* of the request; of the newest piece of text, 0: none yet */
    int is_reused;        /* the connection had an answer before */
    int has_bytes;        /* of this answer */
};

static char read_buffer[READ_BYTES];

static void start_request(struct client *client);
static void send_request(struct client *client);

static void stop(const char *what, const char *why)
{
    fprintf(stderr, "load: %s: %s\n", what, why);
    exit(1);
}

static void samples_add(struct samples *samples, uint64_t value)
{
    if (samples->count == samples->capacity) {
        samples->capacity = samples->capacity ? 2 * samples->capacity : 1024;
        samples->values = memory_resize(samples->values, samples->capacity, sizeof *samples->values, NULL);
        if (!samples->values)
            stop("samples", "out of memory");
    }
    samples->values[samples->count++] = value;
}

/* --- a client --- */

static void close_connection(struct client *client)
{
    if (client->readable)
        event_free(client->readable);
    if (client->writable)
        event_free(client->writable);
    if (client->socket >= 0)
        close(client->socket);
    client->readable = client->writable = NULL;
    client->socket = -1;
}

static void count_failure(struct load *load, const char *what)
{
    size_t i = 0;
    load->failed++;
    while (i < load->kind_count && strncmp(load->kinds[i].text, what, sizeof load->kinds[i].text - 1) != 0)
        i++;
    if (i == MOST_KINDS)
        return;
    if (i == load->kind_count)
        snprintf(load->kinds[load->kind_count++].text, sizeof load->kinds[0].text, "%s", what);
    load->kinds[i].count++;
}

/* `failure` is NULL for an answer that came whole. */
static void finish_request(struct client *client, const char *failure)
{
    struct load *load = client->load;
    struct load_stream *stream = &client->stream;
    uint64_t now = clock_nanoseconds();
    char text[120];
    load->finished++;
    load->last_end = now;
    if (!failure && stream->status != 200) {
        snprintf(text, sizeof text, "HTTP %d: %.90s", stream->status, stream->problem);
        failure = text;
    } else if (!failure && stream->has_error) {
        snprintf(text, sizeof text, "%.110s", stream->problem);
        failure = text;
    } else if (!failure && (!stream->is_done || !client->last)) {
        failure = stream->is_done ? "an answer without text" : "an answer without [DONE]";
    }
    if (failure) {
        count_failure(load, failure);
    } else {
        samples_add(&load->whole, now - client->start);
        load->output_tokens += stream->output_tokens ? stream->output_tokens : stream->texts;
        load->prompt_tokens += stream->prompt_tokens;
    }
    if (failure || stream->closes)
        close_connection(client);
    client->is_reused = client->socket >= 0;
    start_request(client);
}

/* On a new connection: a server may end an idle one at any time (RFC 9112 section 9.3.1). */
static void send_again(struct client *client)
{
    close_connection(client);
    client->is_reused = 0;
    send_request(client);
}

/* All the text that one read brought has one time; each piece of it counts. */
static void note_texts(struct client *client, uint64_t texts)
{
    uint64_t now = texts ? clock_nanoseconds() : 0;
    for (uint64_t i = 0; i < texts; i++) {
        samples_add(client->last ? &client->load->between : &client->load->first,
                    now - (client->last ? client->last : client->start));
        client->last = now;
    }
    client->load->texts += texts;
}

static void on_readable(evutil_socket_t socket, short events, void *context)
{
    struct client *client = context;
    if (events & EV_TIMEOUT) {
        finish_request(client, "no byte for too long");
        return;
    }
    ssize_t got = read(client->socket, read_buffer, sizeof read_buffer);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0 && client->is_reused && !client->has_bytes) {
        send_again(client);
        return;
    }
    client->has_bytes = 1;
    size_t used;
    uint64_t texts = client->stream.texts;
    enum load_step step = got > 0 ? load_stream_read(&client->stream, read_buffer, (size_t)got, &used)
                                  : load_stream_end(&client->stream);
    note_texts(client, client->stream.texts - texts);
    if (got <= 0)
        client->stream.closes = 1;
    if (step == LOAD_BROKEN)
        finish_request(client, client->stream.problem);
    else if (step == LOAD_WHOLE)
        finish_request(client, NULL);
}

static void on_writable(evutil_socket_t socket, short events, void *context)
{
    struct client *client = context;
    while (client->written < client->request.length) {
        ssize_t sent = send(client->socket, client->request.data + client->written,
                            client->request.length - client->written, MSG_NOSIGNAL);
        if (sent < 0 && (errno == EAGAIN || errno == ENOTCONN || errno == EINPROGRESS)) {
            event_add(client->writable, NULL);
            return;
        }
        if (sent < 0 && client->is_reused) {
            send_again(client);
            return;
        }
        if (sent < 0) {
            finish_request(client, strerror(errno));
            return;
        }
        client->written += (size_t)sent;
    }
}

static void connect_client(struct client *client)
{
    struct load *load = client->load;
    const struct addrinfo *address = load->address;
    int on = 1;
    struct timeval silence = {(time_t)load->silence, 0};
    client->socket = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->socket < 0)
        stop("socket", strerror(errno));
    setsockopt(client->socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(client->socket, address->ai_addr, address->ai_addrlen) != 0 && errno != EINPROGRESS)
        stop(load->host, strerror(errno));
    client->readable = event_new(load->base, client->socket, EV_READ | EV_PERSIST, on_readable, client);
    client->writable = event_new(load->base, client->socket, EV_WRITE, on_writable, client);
    if (!client->readable || !client->writable || event_add(client->readable, &silence) != 0)
        stop("events", "out of memory");
}

/* From its beginning. */
static void send_request(struct client *client)
{
    client->written = 0;
    client->has_bytes = 0;
    load_stream_begin(&client->stream);
    if (client->socket < 0)
        connect_client(client);
    event_active(client->writable, EV_WRITE, 0);
}

static void start_request(struct client *client)
{
    struct load *load = client->load;
    if (load->started == load->requests) {
        close_connection(client);
        return;
    }
    const struct line *line = &load->lines[load->started++ % load->line_count];
    buffer_clear(&client->request);
    buffer_append_format(&client->request, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n"
                         "Accept: text/event-stream\r\nContent-Length: %zu\r\n", load->path, load->host, line->length);
    if (load->key)
        buffer_append_format(&client->request, "Authorization: Bearer %s\r\n", load->key);
    buffer_append_text(&client->request, "\r\n");
    buffer_append(&client->request, line->text, line->length);
    if (client->request.error.code != BULLA_OK)
        stop("a request", client->request.error.text);
    client->last = 0;
    client->start = clock_nanoseconds();
    if (!load->first_start)
        load->first_start = client->start;
    send_request(client);
}

/* --- what it prints --- */

static int compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

/* The nearest-rank percentile of sorted samples, in seconds. */
static double percentile(const struct samples *samples, unsigned percent)
{
    size_t rank = (samples->count * percent + 99) / 100;
    return samples->count ? (double)samples->values[rank ? rank - 1 : 0] * 1e-9 : 0;
}

static void print_samples(const char *name, struct samples *samples)
{
    uint64_t sum = 0;
    if (samples->count)
        qsort(samples->values, samples->count, sizeof *samples->values, compare);
    for (size_t i = 0; i < samples->count; i++)
        sum += samples->values[i];
    printf(" \"%s\": {\"count\": %zu, \"mean\": %.6f, \"p50\": %.6f, \"p90\": %.6f, \"p99\": %.6f, "
           "\"most\": %.6f},\n", name, samples->count,
           samples->count ? (double)sum * 1e-9 / (double)samples->count : 0, percentile(samples, 50),
           percentile(samples, 90), percentile(samples, 99), percentile(samples, 100));
}

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

static void print_report(struct load *load, size_t clients, double cpu)
{
    double seconds = (double)(load->last_end - load->first_start) * 1e-9;
    double cores = (double)sysconf(_SC_NPROCESSORS_ONLN);
    struct buffer kinds = {0};
    for (size_t i = 0; i < load->kind_count; i++) {
        buffer_append_text(&kinds, i ? ", " : "");
        json_write_string(&kinds, load->kinds[i].text, strlen(load->kinds[i].text));
        buffer_append_format(&kinds, ": %llu", (unsigned long long)load->kinds[i].count);
    }
    printf("{\"clients\": %zu, \"requests\": %llu, \"failed\": %llu, \"failures\": {%s}, \"seconds\": %.6f,\n", clients,
           (unsigned long long)load->finished, (unsigned long long)load->failed, kinds.length ? (char *)kinds.data : "",
           seconds);
    printf(" \"prompt_tokens\": %llu, \"output_tokens\": %llu, \"text_events\": %llu, "
           "\"output_tokens_per_second\": %.3f,\n", (unsigned long long)load->prompt_tokens,
           (unsigned long long)load->output_tokens, (unsigned long long)load->texts,
           seconds > 0 ? (double)load->output_tokens / seconds : 0);
    print_samples("first_token_seconds", &load->first);
    print_samples("between_texts_seconds", &load->between);
    print_samples("answer_seconds", &load->whole);
    printf(" \"own_cpu_seconds\": %.6f, \"own_share_of_one_core\": %.6f, \"own_share_of_machine\": %.6f}\n", cpu,
           seconds > 0 ? cpu / seconds : 0, seconds > 0 ? cpu / seconds / cores : 0);
    buffer_free(&kinds);
}

/* --- its arguments --- */

static void read_lines(struct load *load, const char *path)
{
    bulla_error error = {0};
    uint8_t *data;
    size_t length, capacity = 0;
    if (file_read(path, MOST_FILE, &data, &length, &error) != BULLA_OK)
        stop("requests", error.text);
    for (size_t at = 0; at < length;) {
        const uint8_t *feed = memchr(data + at, '\n', length - at);
        size_t size = feed ? (size_t)(feed - data) - at : length - at;
        struct arena arena = {0};
        if (load->line_count == capacity) {
            capacity = capacity ? 2 * capacity : 64;
            load->lines = memory_resize(load->lines, capacity, sizeof *load->lines, &error);
        }
        if (!load->lines || (size && !json_parse((char *)data + at, size, path, &arena, &error)))
            stop("requests", error.text);
        if (size)
            load->lines[load->line_count++] = (struct line){(char *)data + at, size};
        arena_free(&arena);
        at += size + 1;
    }
    if (load->line_count == 0)
        stop(path, "holds no requests");
}

static void read_url(struct load *load, const char *url)
{
    char host[200], port[8] = "80";
    const char *rest = url + 7, *slash = strchr(rest, '/');
    if (strncmp(url, "http://", 7) != 0 || !slash || (size_t)(slash - rest) >= sizeof host)
        stop(url, "is no http://HOST:PORT/PATH");
    snprintf(host, sizeof host, "%.*s", (int)(slash - rest), rest);
    snprintf(load->host, sizeof load->host, "%s", host);
    snprintf(load->path, sizeof load->path, "%s", slash);
    char *colon = strrchr(host, ':');
    if (colon) {
        snprintf(port, sizeof port, "%s", colon + 1);
        *colon = 0;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    int code = getaddrinfo(host, port, &hints, &load->address);
    if (code != 0)
        stop(url, gai_strerror(code));
}

static uint64_t read_number(const char *option, const char *text)
{
    char *end;
    unsigned long long number = text ? strtoull(text, &end, 10) : 0;
    if (!text || *end || number == 0)
        stop(option, "takes a number of at least 1");
    return number;
}

static size_t read_arguments(struct load *load, int count, char **arguments)
{
    uint64_t clients = 1;
    if (count < 3)
        stop("usage", "load URL FILE [--clients N] [--requests N] [--seconds N] [--key KEY]");
    read_url(load, arguments[1]);
    read_lines(load, arguments[2]);
    load->requests = load->line_count;
    load->silence = 120;
    for (int i = 3; i < count; i += 2) {
        const char *option = arguments[i], *value = i + 1 < count ? arguments[i + 1] : NULL;
        if (strcmp(option, "--clients") == 0)
            clients = read_number(option, value);
        else if (strcmp(option, "--requests") == 0)
            load->requests = read_number(option, value);
        else if (strcmp(option, "--seconds") == 0)
            load->silence = (unsigned)read_number(option, value);
        else if (strcmp(option, "--key") == 0 && value)
            load->key = value;
        else
            stop(option, "is no option");
    }
    if (clients > MOST_CLIENTS)
        stop("--clients", "is at most 10000");
    return clients;
}

int main(int count, char **arguments)
{
    static struct load load;
    size_t clients = read_arguments(&load, count, arguments);
    struct client *all = memory_alloc(clients, sizeof *all, NULL);
    load.base = event_base_new();
    if (!all || !load.base)
        stop("start", "out of memory");
    double before = cpu_seconds();
    for (size_t i = 0; i < clients; i++) {
        all[i].load = &load;
        all[i].socket = -1;
        start_request(&all[i]);
    }
    event_base_dispatch(load.base); /* until no client waits for anything */
    print_report(&load, clients, cpu_seconds() - before);
    return load.failed ? 1 : 0;
}
