/* Whole answers of the upstream backend, against a server in this process on loopback that says what a test scripts:
 * streams, errors, hang-ups, time limits, cancelling inside and outside of callbacks, TLS, the probe. */
#include "test.h"

#include <event2/bufferevent.h>
#include <event2/event.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <unistd.h>

#include "answer_log.h"
#include "fake_server.h"
#include "base/clock.h"
#include "base/memory.h"
#include "serve/upstream.h"

static struct backend *open_backend(struct server *server, const struct upstream_options *from)
{
    static const struct upstream_options plain = {
        .model = "m", .key = "secret", .connect_seconds = 10, .idle_seconds = 10};
    struct upstream_options options = from ? *from : plain;
    struct backend *backend = NULL;
    bulla_error error = {0};
    char url[100];
    snprintf(url, sizeof url, "http%s://127.0.0.1:%u/below/v1", server->tls ? "s" : "", server->port);
    if (!options.url)
        options.url = url;
    if (!options.model)
        options.model = "m";
    assert_ok(upstream_open(server->base, &options, &backend, &error), error);
    return backend;
}

static struct answer_request make_request(enum answer_kind kind)
{
    struct answer_request request = {.kind = kind, .id = "r1", .choices = 1, .logprobs = -1, .shares_prefix = 1,
                                     .prompt = "Hi", .prompt_length = 2};
    bulla_sampling_defaults(&request.sampling);
    return request;
}

static struct answer *start(struct backend *backend, const struct answer_request *request, struct answer_log *log)
{
    struct answer_sink sink = answer_log_sink(log);
    struct answer_error problem;
    struct answer *answer = backend->class->start(backend, request, &sink, &problem);
    if (!answer)
        fail_msg("not taken: %s", problem.message);
    return answer;
}

/* One answer from start to end; what it told must be `expected`, or begin with it where that ends with "...". */
static void assert_answer(struct server *server, struct backend *backend, enum answer_kind kind, const char *expected)
{
    struct answer_log log = {0};
    struct answer_request request = make_request(kind);
    size_t length = strlen(expected);
    start(backend, &request, &log);
    run_until(server, &log.ends, 1);
    int is_open = length > 3 && strcmp(expected + length - 3, "...") == 0;
    if (strncmp(answer_log_text(&log), expected, is_open ? length - 3 : length + 1) != 0)
        fail_msg("told\n%s\nexpected\n%s", answer_log_text(&log), expected);
    answer_log_clear(&log);
    forget_connections(server);
}

static void set_script(struct server *server, const char *bytes)
{
    server->script.bytes = bytes;
    server->script.length = bytes ? strlen(bytes) : 0;
    server->script.cut = 0;
}

#define EVENTS "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
#define COMPLETION \
    EVENTS "\r\n: hello\r\n\r\ndata: {\"choices\":[{\"index\":0,\"text\":\"H\\u00e9\"}]}\r\n\r\n" \
           "data: {\"choices\":[{\"index\":0,\"text\":\"!\",\"finish_reason\":\"stop\"}]}\n\n" \
           "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\ndata: [DONE]\n\n"
#define CHUNKED \
    EVENTS "Transfer-Encoding: chunked\r\n\r\n" \
           "33\r\ndata: {\"choices\":[{\"index\":0,\"text\":\"H\\u00e9!\"}]}\n\n\r\n" \
           "48\r\ndata: {\"choices\":[{\"index\":0,\"text\":\"\",\"finish_reason\":\"stop\"}]}\n\ndata: \r\n" \
           "8\r\n[DONE]\n\n\r\n0\r\n\r\n"

static void test_stream(void **state)
{
    (void)state;
    struct server server;
    server_open(&server);
    struct backend *backend = open_backend(&server, NULL);
    static const char told[] = "0 text \"H\xC3\xA9\"\n0 text \"!\"\n0 finish stop\nend 3 prompt 0 cached 4 output 0 "
                               "reasoning\n";
    set_script(&server, COMPLETION);
    for (size_t cut = 0; cut < strlen(COMPLETION); cut++) {
        server.script.cut = cut;
        assert_answer(&server, backend, ANSWER_COMPLETION, told);
    }
    char *request = (char *)server.request.data;
    assert_memory_equal(request, "POST /below/v1/completions HTTP/1.1\r\nHost: 127.0.0.1:", 53);
    assert_non_null(strstr(request, "\r\nAuthorization: Bearer secret\r\n"));
    assert_non_null(strstr(request, "\r\nX-Request-Id: r1\r\n"));
    assert_non_null(strstr(request, "\r\n\r\n{\"model\":\"m\",\"prompt\":\"Hi\",\"stream\":true"));
    set_script(&server, CHUNKED);
    for (size_t cut = 0; cut < strlen(CHUNKED); cut += 3) {
        server.script.cut = cut;
        assert_answer(&server, backend, ANSWER_COMPLETION,
                      "0 text \"H\xC3\xA9!\"\n0 finish stop\nend 0 prompt 0 cached 1 output 0 reasoning\n");
    }
    struct backend_counters counters;
    backend->class->count(backend, &counters);
    assert_int_equal(counters.running, 0);
    assert_int_equal(counters.prompt_tokens, 3 * strlen(COMPLETION));
    backend->class->close(backend);
    server_close(&server);
}

static void test_failures(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"HTTP/1.1 400 Bad\r\nContent-Length: 48\r\n\r\n{\"error\":{\"message\":\"no\",\"type\":\"T\",\"code\":\"c\"}}",
         "fail 400 T c 0 the upstream answers 400: no\n"},
        {"HTTP/1.1 429 Slow\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n", "fail 429 rate_limit_error - 3 ..."},
        {"HTTP/1.1 401 Who\r\nContent-Length: 0\r\n\r\n", "fail 502 server_error upstream_refused 0 ..."},
        {"HTTP/1.1 503 Loading\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n", "fail 502 server_error upstream_error "
                                                                                "2 ..."},
        {"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", "fail 502 server_error "
                                                                                             "upstream_broken 0 the "
                                                                                             "upstream's answer is "
                                                                                             "broken: it is no event "
                                                                                             "stream..."},
        {"HTTP/1.1 200 OK\nContent-Type: text/event-stream\n\n", "fail 502 server_error upstream_broken 0 ..."},
        {EVENTS "\r\ndata: {\"choices\":[{\"index\":0,\"text\":\"a\"}]}\n\ndata: oops\n\n", "0 text \"a\"\nfail 502 "
                                                                                            "server_error "
                                                                                            "upstream_broken 0 ..."},
        {EVENTS "Content-Length: 10\r\n\r\ndata: {}\n\n", "fail 502 server_error upstream_broken 0 ..."},
    };
    struct server server;
    server_open(&server);
    struct backend *backend = open_backend(&server, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        set_script(&server, cases[i][0]);
        assert_answer(&server, backend, ANSWER_COMPLETION, cases[i][1]);
    }
    /* Cut off anywhere before its end, in order or not, an answer is broken; what came before is told. */
    for (int resets = 0; resets < 2; resets++)
        for (size_t cut = 0; cut < strlen(COMPLETION) - strlen("[DONE]\n\n"); cut += 7) {
            struct answer_log log = {0};
            struct answer_request request = make_request(ANSWER_COMPLETION);
            /* The end that a closed connection marks is an orderly one once the choice has finished. */
            if (!resets && cut > (size_t)(strstr(COMPLETION, "\"stop\"}]}\n\n") - COMPLETION))
                break;
            server.script = (struct script){.bytes = COMPLETION, .length = cut, .closes = 1, .resets = resets};
            start(backend, &request, &log);
            run_until(&server, &log.ends, 1);
            if (!strstr(answer_log_text(&log), "fail 502 server_error upstream_broken 0 ") && cut > 0)
                fail_msg("cut at %zu: %s", cut, answer_log_text(&log));
            answer_log_clear(&log);
            forget_connections(&server);
            if (cut == 0)
                cut++;
        }
    backend->class->close(backend);
    server_close(&server);
}

static void test_embedding(void **state)
{
    (void)state;
    struct server server;
    server_open(&server);
    struct backend *backend = open_backend(&server, NULL);
    set_script(&server, "HTTP/1.1 200 OK\r\nContent-Length: 72\r\n\r\n"
                        "{\"data\":[{\"embedding\":[0.5,-2],\"index\":0}],\"usage\":{\"prompt_tokens\":2}}\n");
    for (size_t cut = 0; cut < server.script.length; cut += 5) {
        server.script.cut = cut;
        assert_answer(&server, backend, ANSWER_EMBEDDING,
                      "embedding 0.500 -2.000\nend 2 prompt 0 cached 0 output 0 reasoning\n");
    }
    assert_memory_equal(server.request.data, "POST /below/v1/embeddings HTTP/1.1\r\n", 36);
    backend->class->close(backend);
    server_close(&server);
}

static void test_unreachable_and_slow(void **state)
{
    (void)state;
    struct server server;
    server_open(&server);
    struct upstream_options options = {.connect_seconds = 1, .idle_seconds = 1};
    struct backend *backend = open_backend(&server, &options);
    set_script(&server, NULL); /* takes the request and says nothing */
    assert_answer(&server, backend, ANSWER_CHAT, "fail 504 server_error upstream_timeout 0 ...");
    set_script(&server, EVENTS "\r\ndata: {\"choices\":[{\"index\":0,\"text\":\"a\"}]}\n\n");
    assert_answer(&server, backend, ANSWER_COMPLETION, "0 text \"a\"\nfail 504 server_error upstream_timeout 0 ...");
    struct answer_log log = {0};
    struct answer_request request = make_request(ANSWER_COMPLETION);
    request.deadline = clock_nanoseconds() + 1000000;
    set_script(&server, NULL);
    start(backend, &request, &log);
    run_until(&server, &log.ends, 1);
    assert_memory_equal(answer_log_text(&log), "fail 504 server_error deadline 0 ", 33);
    answer_log_clear(&log);
    evconnlistener_free(server.listener);
    server.listener = NULL;
    assert_answer(&server, backend, ANSWER_CHAT,
                  "fail 503 server_error upstream_unavailable 1 the upstream failed: no connection to "
                  "127.0.0.1 port ...");
    backend->class->close(backend);
    options.url = "http://localhost:1"; /* both of its addresses refuse */
    backend = open_backend(&server, &options);
    assert_answer(&server, backend, ANSWER_CHAT, "fail 503 server_error upstream_unavailable 1 ...");
    backend->class->close(backend);
    server_close(&server);
}

/* What was told before the deadline stays; one choice had finished. */
static void test_deadline(void **state)
{
    (void)state;
    struct server server;
    struct answer_log log = {0};
    struct answer_request request = make_request(ANSWER_COMPLETION);
    server_open(&server);
    struct backend *backend = open_backend(&server, NULL);
    request.choices = 2;
    request.deadline = clock_nanoseconds() + 1000000000;
    set_script(&server, EVENTS "\r\ndata: {\"choices\":[{\"index\":1,\"text\":\"a\"}]}\n\n"
                               "data: {\"choices\":[{\"index\":0,\"text\":\"b\",\"finish_reason\":\"stop\"}]}\n\n");
    start(backend, &request, &log);
    run_until(&server, &log.ends, 1);
    assert_string_equal(answer_log_text(&log), "1 text \"a\"\n0 text \"b\"\n0 finish stop\n1 finish length at \"deadline\"\n"
                                               "end 0 prompt 0 cached 2 output 0 reasoning\n");
    run_until(&server, &server.hung_up, 1);
    answer_log_clear(&log);
    backend->class->close(backend);
    server_close(&server);
}

/* "localhost" finds a server that listens on one of its two addresses only, and has the request whole. */
static void test_localhost(void **state)
{
    (void)state;
    struct server server;
    server_open(&server);
    evconnlistener_free(server.listener);
    struct sockaddr_in6 address = {
        .sin6_family = AF_INET6, .sin6_addr = in6addr_loopback, .sin6_port = htons((uint16_t)server.port)};
    server.listener = evconnlistener_new_bind(server.base, on_accept, &server, LEV_OPT_CLOSE_ON_FREE, 16,
                                              (struct sockaddr *)&address, sizeof address);
    if (!server.listener) { /* no IPv6 here */
        server_close(&server);
        skip();
    }
    char url[100];
    snprintf(url, sizeof url, "http://localhost:%u", server.port);
    struct backend *backend = open_backend(&server, &(struct upstream_options){.url = url});
    set_script(&server, COMPLETION);
    assert_answer(&server, backend, ANSWER_COMPLETION, "0 text \"H\xC3\xA9\"...");
    backend->class->close(backend);
    server_close(&server);
}

static void cancel_here(struct answer_log *log)
{
    struct backend *backend = *(struct backend **)log->context;
    struct answer *answer = ((struct answer **)log->context)[1];
    backend->class->cancel(answer);
    log->on_delta = NULL;
}

static void cancel_and_close_here(struct answer_log *log)
{
    struct backend *backend = *(struct backend **)log->context;
    cancel_here(log);
    backend->class->close(backend);
}

static void close_here(struct answer_log *log)
{
    struct backend *backend = *(struct backend **)log->context;
    backend->class->close(backend);
}

static void test_cancel(void **state)
{
    (void)state;
    struct server server;
    server_open(&server);
    struct answer_request request = make_request(ANSWER_COMPLETION);
    struct answer_log log = {0};
    struct backend *backend = open_backend(&server, NULL);
    /* Before anything was sent, while waiting, and inside a delta: the server sees the connection closed, the sink
     * hears nothing more. */
    backend->class->cancel(start(backend, &request, &log));
    run_pending(&server);
    unsigned probes = server.accepted; /* the probe's */
    assert_true(probes <= 1);
    set_script(&server, NULL);
    struct answer *answer = start(backend, &request, &log);
    run_until(&server, &server.answered, 1);
    unsigned before = server.hung_up;
    backend->class->cancel(answer);
    run_until(&server, &server.hung_up, before + 1);
    set_script(&server, COMPLETION);
    void *context[2] = {backend, NULL};
    log.context = context;
    log.on_delta = cancel_here;
    context[1] = start(backend, &request, &log);
    run_until(&server, &log.deltas, 1);
    run_pending(&server);
    assert_string_equal(answer_log_text(&log), "0 text \"H\xC3\xA9\"\n");
    assert_int_equal(log.ends, 0);
    struct backend_counters counters;
    backend->class->count(backend, &counters);
    assert_int_equal(counters.running, 0);
    answer_log_clear(&log);
    log.context = context;
    log.on_delta = cancel_and_close_here;
    context[1] = start(backend, &request, &log);
    run_until(&server, &log.deltas, 1);
    run_pending(&server);
    assert_int_equal(log.ends, 0);
    answer_log_clear(&log);
    server_close(&server);
}

static void test_close(void **state)
{
    (void)state;
    struct server server;
    server_open(&server);
    struct answer_request request = make_request(ANSWER_COMPLETION);
    struct answer_log logs[3];
    memset(logs, 0, sizeof logs);
    struct backend *backend = open_backend(&server, NULL);
    for (int i = 0; i < 3; i++)
        start(backend, &request, &logs[i]);
    run_until(&server, &server.answered, 2);
    backend->class->close(backend);
    for (int i = 0; i < 3; i++) {
        assert_memory_equal(answer_log_text(&logs[i]), "fail 503 server_error model_unloaded 1 ", 39);
        assert_int_equal(logs[i].ends, 1);
        answer_log_clear(&logs[i]);
    }
    forget_connections(&server);
    set_script(&server, COMPLETION); /* the last call of a sink may close the backend */
    backend = open_backend(&server, NULL);
    logs[0].context = &backend;
    logs[0].on_end = close_here;
    start(backend, &request, &logs[0]);
    run_until(&server, &logs[0].ends, 1);
    run_pending(&server);
    answer_log_clear(&logs[0]);
    server_close(&server);
}

static void test_limit_and_refusals(void **state)
{
    (void)state;
    struct server server;
    server_open(&server);
    struct upstream_options options = {.most_waiting = 2};
    struct backend *backend = open_backend(&server, &options);
    struct answer_log log = {0};
    struct answer_request request = make_request(ANSWER_COMPLETION);
    struct answer_sink sink = answer_log_sink(&log);
    struct answer_error problem;
    struct answer *first = start(backend, &request, &log);
    start(backend, &request, &log);
    assert_null(backend->class->start(backend, &request, &sink, &problem));
    assert_int_equal(problem.status, 503);
    assert_int_equal(problem.retry_after, 1);
    backend->class->cancel(first);
    request.grammar = "{}";
    request.grammar_length = 2;
    assert_null(backend->class->start(backend, &request, &sink, &problem));
    assert_int_equal(problem.status, 400);
    uint32_t *ids = NULL;
    size_t count;
    bulla_error error = {0};
    assert_int_equal(backend->class->tokenize(backend, &request, 1, &ids, &count, &error), BULLA_E_UNSUPPORTED);
    bulla_error_clear(&error);
    assert_int_equal(backend->class->detokenize(backend, NULL, 0, 0, NULL, NULL, &error), BULLA_E_UNSUPPORTED);
    backend->class->close(backend);
    answer_log_clear(&log);
    server_close(&server);
}

static void run_until_state(struct server *server, struct backend *backend, int state, struct backend_info *info)
{
    uint64_t end = clock_nanoseconds() + PATIENCE_SECONDS * 1000000000ull;
    do {
        event_base_loop(server->base, EVLOOP_ONCE);
        backend->class->describe(backend, info);
    } while ((int)info->state != state && clock_nanoseconds() < end);
    assert_int_equal(info->state, state);
}

static void test_probe(void **state)
{
    (void)state;
    struct server server;
    struct backend_info info;
    server_open(&server);
    struct backend *backend = open_backend(&server, NULL);
    backend->class->describe(backend, &info);
    assert_int_equal(info.state, BACKEND_STARTING);
    assert_false(info.was_ready);
    assert_string_equal(info.kind, "upstream");
    assert_null(info.model_root);
    assert_true(info.is_verified);
    server.script.models = "{\"data\":[{\"id\":\"other\"}]}";
    run_until_state(&server, backend, BACKEND_FAILED, &info);
    assert_string_equal(info.trouble, "it has no model \"m\"; it has \"other\"");
    server.script.models =
        "{\"data\":[{\"id\":\"other\"},{\"id\":\"m\",\"max_model_len\":4096}]}"; /* found when it asks again */
    run_until_state(&server, backend, BACKEND_READY, &info);
    assert_null(info.trouble);
    assert_int_equal(info.context, 4096);
    assert_true(info.was_ready);
    backend->class->close(backend);
    static const char *const broken[] = {"", "[]", "{\"data\":[]}", "{\"data\":[{\"id\":5}]}", "{\"data\":[7]}"};
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        server.script.models = broken[i];
        backend = open_backend(&server, NULL);
        run_until_state(&server, backend, BACKEND_FAILED, &info);
        assert_non_null(info.trouble);
        backend->class->close(backend);
        forget_connections(&server);
    }
    server_close(&server);
}

/* Without a name the first model of the list is asked for; before it is known, nothing can be. */
static void test_first_model(void **state)
{
    (void)state;
    struct server server;
    struct backend_info info;
    struct backend *backend;
    bulla_error error = {0};
    char url[100];
    server_open(&server);
    snprintf(url, sizeof url, "http://127.0.0.1:%u", server.port);
    struct upstream_options options = {.url = url};
    assert_ok(upstream_open(server.base, &options, &backend, &error), error);
    struct answer_log log = {0};
    struct answer_request request = make_request(ANSWER_COMPLETION);
    struct answer_sink sink = answer_log_sink(&log);
    struct answer_error problem;
    assert_null(backend->class->start(backend, &request, &sink, &problem));
    assert_int_equal(problem.status, 503);
    server.script.models = "{\"data\":[{\"id\":\"first\"},{\"id\":\"m\"}]}";
    run_until_state(&server, backend, BACKEND_READY, &info);
    set_script(&server, COMPLETION);
    assert_answer(&server, backend, ANSWER_COMPLETION, "0 text \"H\xC3\xA9\"...");
    assert_non_null(strstr((char *)server.request.data, "{\"model\":\"first\","));
    backend->class->close(backend);
    server_close(&server);
}

/* A self-signed certificate for `name` (as subjectAltName is written: "IP:127.0.0.1") and its key, PEM in one file. */
static void write_certificate(const char *name, const char *path, SSL_CTX *tls)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    X509_NAME *subject = X509_get_subject_name(certificate);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)"test", -1, -1, 0);
    X509_set_issuer_name(certificate, subject);
    X509_EXTENSION *names = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, name);
    X509_add_ext(certificate, names, -1);
    X509_EXTENSION_free(names);
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    PEM_write_X509(file, certificate);
    fclose(file);
    assert_int_equal(SSL_CTX_use_certificate(tls, certificate), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(tls, key), 1);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

static void assert_tls(const char *name, int is_trusted, int version, const char *host, const char *expected)
{
    struct server server;
    char folder[] = "/tmp/bulla-upstream-XXXXXX", own[100], other[100], url[100];
    assert_non_null(mkdtemp(folder));
    snprintf(own, sizeof own, "%s/own.pem", folder);
    snprintf(other, sizeof other, "%s/other.pem", folder);
    server_open(&server);
    server.tls = SSL_CTX_new(TLS_server_method());
    write_certificate(name, other, server.tls); /* another key: not the one that is trusted */
    write_certificate(name, own, server.tls);
    SSL_CTX_set_min_proto_version(server.tls, version < TLS1_2_VERSION ? version : TLS1_2_VERSION);
    SSL_CTX_set_max_proto_version(server.tls, version);
    SSL_CTX_set_security_level(server.tls, version < TLS1_2_VERSION ? 0 : 1);
    snprintf(url, sizeof url, "https://%s:%u", host, server.port);
    struct upstream_options options = {.ca_file = is_trusted ? own : other, .url = url};
    struct backend *backend = open_backend(&server, &options);
    set_script(&server, COMPLETION);
    for (size_t cut = 0; cut < strlen(COMPLETION); cut += 40) {
        server.script.cut = cut;
        assert_answer(&server, backend, ANSWER_COMPLETION, expected);
    }
    backend->class->close(backend);
    server_close(&server);
    unlink(own);
    unlink(other);
    rmdir(folder);
}

static void test_tls(void **state)
{
    (void)state;
    static const char told[] = "0 text \"H\xC3\xA9\"\n0 text \"!\"\n0 finish stop\nend 3 prompt 0 cached 4 output 0 "
                               "reasoning\n";
    static const char untrusted[] = "fail 502 server_error upstream_untrusted 0 the upstream failed: TLS with ...";
    assert_tls("IP:127.0.0.1", 1, TLS1_3_VERSION, "127.0.0.1", told);
    assert_tls("IP:127.0.0.1", 1, TLS1_2_VERSION, "127.0.0.1", told);
    assert_tls("DNS:localhost", 1, TLS1_3_VERSION, "localhost", told);
    assert_tls("DNS:localhost", 1, TLS1_3_VERSION, "127.0.0.1", untrusted);    /* another name */
    assert_tls("DNS:localhost.example", 1, TLS1_3_VERSION, "localhost", untrusted);
    assert_tls("IP:127.0.0.1", 0, TLS1_3_VERSION, "127.0.0.1", untrusted);     /* another authority */
    assert_tls("IP:127.0.0.1", 1, TLS1_1_VERSION, "127.0.0.1", untrusted);     /* too old */
}

/* https where the port refuses, or speaks no TLS. */
static void test_tls_without_tls(void **state)
{
    (void)state;
    struct server server;
    char url[100];
    server_open(&server);
    snprintf(url, sizeof url, "https://127.0.0.1:%u", server.port);
    struct upstream_options options = {.url = url};
    struct backend *backend = open_backend(&server, &options);
    struct answer_log log = {0};
    struct answer_request request = make_request(ANSWER_CHAT);
    start(backend, &request, &log);
    run_until(&server, &server.accepted, 1);
    for (unsigned i = 0; i < server.accepted; i++)
        bufferevent_write(server.connections[i].event, "HTTP/1.1 400 Bad\r\n\r\n", 20);
    uint64_t end = clock_nanoseconds() + PATIENCE_SECONDS * 1000000000ull;
    while (log.ends == 0 && clock_nanoseconds() < end) {
        event_base_loop(server.base, EVLOOP_ONCE);
        for (unsigned i = 0; i < server.accepted; i++)
            if (server.connections[i].event)
                bufferevent_write(server.connections[i].event, "HTTP/1.1 400 Bad\r\n\r\n", 20);
    }
    assert_memory_equal(answer_log_text(&log), "fail 502 server_error upstream_untrusted 0 ", 43);
    answer_log_clear(&log);
    forget_connections(&server);
    evconnlistener_free(server.listener);
    server.listener = NULL;
    assert_answer(&server, backend, ANSWER_CHAT, "fail 503 server_error upstream_unavailable 1 ...");
    backend->class->close(backend);
    server_close(&server);
}

/* Each allocation in turn fails: the answer fails with an error or is not taken, and nothing leaks. */
static void test_allocation_failures(void **state)
{
    (void)state;
    struct server server;
    server_open(&server);
    set_script(&server, COMPLETION);
    int succeeded = 0;
    for (uint64_t n = 1; !succeeded; n++) {
        struct answer_log log = {0};
        struct answer_request request = make_request(ANSWER_COMPLETION);
        struct answer_sink sink = answer_log_sink(&log);
        struct answer_error problem;
        struct backend *backend = NULL;
        struct answer *answer = NULL;
        bulla_error error = {0};
        char url[100];
        snprintf(url, sizeof url, "http://127.0.0.1:%u", server.port);
        struct upstream_options options = {.url = url, .model = "m", .key = "k"};
        memory_inject_failure(n, 0);
        int code = upstream_open(server.base, &options, &backend, &error);
        if (code == BULLA_OK)
            answer = backend->class->start(backend, &request, &sink, &problem);
        if (answer)
            run_until(&server, &log.ends, 1);
        memory_inject_failure(0, 0);
        succeeded = answer && n > 60;
        assert_true(answer || code == BULLA_E_MEMORY || problem.status == 500);
        if (backend)
            backend->class->close(backend);
        forget_connections(&server);
        answer_log_clear(&log);
    }
    server_close(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_embedding),
        cmocka_unit_test(test_unreachable_and_slow),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_localhost),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_close),
        cmocka_unit_test(test_limit_and_refusals),
        cmocka_unit_test(test_probe),
        cmocka_unit_test(test_first_model),
        cmocka_unit_test(test_tls),
        cmocka_unit_test(test_tls_without_tls),
        cmocka_unit_test(test_allocation_failures),
    };
    signal(SIGPIPE, SIG_IGN); /* as the server does */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
