/* The routes of evidence and of the policy: what they answer, and clients that hang up while a quote is made. */
#include "test.h"

#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "api_fakes.h"
#include "base/hash.h"

static const char policy[] = "{\"type\":\"sim\",\"allow_simulated\":true}";
static const char nonce[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
static const char ask_path[] = "/v1/evidence?nonce=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/* ---- An attester that waits until it is let go ---- */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int holds, fails;
} gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void hold(int holds)
{
    pthread_mutex_lock(&gate.lock);
    gate.holds = holds;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
}

static int open_gate(const struct attester_options *options, void **state, bulla_error *error)
{
    return attester_sim.open(options, state, error);
}

static int quote(void *state, const uint8_t report_data[ATTESTER_DATA], struct buffer *document, bulla_error *error)
{
    pthread_mutex_lock(&gate.lock);
    while (gate.holds)
        pthread_cond_wait(&gate.changed, &gate.lock);
    int fails = gate.fails;
    pthread_mutex_unlock(&gate.lock);
    return fails ? bulla_fail(error, fails, "/dev/secret is on fire")
                 : attester_sim.quote(state, report_data, document, error);
}

static void close_gate(void *state)
{
    attester_sim.close(state);
}

static const struct attester gated = {.name = "gated", .title = "SIMULATED", .is_simulated = 1, .open = open_gate,
                                      .quote = quote, .close = close_gate};

struct evidence_server {
    struct fake_server fake;
    struct attestation *attestation;
};

static atomic_ullong seconds_now;

static uint64_t clock_of_the_test(void)
{
    return UINT64_C(1000000000) * seconds_now;
}

static void open_server(struct evidence_server *server, const char *published, unsigned most_waiting)
{
    bulla_error error = {0};
    struct attestation_options options = {.own = &gated, .policy = published, .policy_length = published ? strlen(published) : 0,
                                          .most_waiting = most_waiting, .clock = clock_of_the_test};
    gate.holds = gate.fails = 0;
    assert_ok(attestation_open(&options, &server->attestation, &error), error);
    while (attestation_is_ready(server->attestation, &error) == 0)
        usleep(1000);
    fake_open(&server->fake, 1, &(struct api_options){.version = "1", .attestation = server->attestation});
}

static void close_server(struct evidence_server *server)
{
    attestation_close(server->attestation);
    fake_close(&server->fake);
}

static void wait_answer(struct evidence_server *server, struct http_exchange *exchange)
{
    for (int i = 0; i < 5000 && !exchange->is_over; i++) {
        fake_loop(&server->fake);
        usleep(1000);
    }
    assert_true(exchange->is_over);
}

static void evidence_is_open_to_all(void **state)
{
    struct evidence_server server;
    char path[100], hex[65];
    uint8_t hash[32];
    bulla_error error = {0};
    open_server(&server, policy, 0);
    ask_and_expect(&server.fake, "GET", "/v1/evidence", NULL, NULL, 200, "type", "sim");
    ask_and_expect(&server.fake, "HEAD", "/v1/evidence", NULL, NULL, 200, NULL, NULL);
    assert_ok(attestation_standing(server.attestation, hash, NULL, &error), error);
    hex_encode(hash, 32, hex);
    snprintf(path, sizeof path, "/v1/evidence/%s", hex);
    ask_and_expect(&server.fake, "GET", path, NULL, NULL, 200, "type", "sim");
    path[20] ^= 1;
    ask_and_expect(&server.fake, "GET", path, NULL, NULL, 404, "error.code", "evidence_not_found");
    ask_and_expect(&server.fake, "GET", "/v1/evidence/x", NULL, NULL, 404, "error.code", "evidence_not_found");
    ask_and_expect(&server.fake, "GET", "/v1/evidence?nonce=12", NULL, NULL, 400, "error.code", "invalid_nonce");
    ask_and_expect(&server.fake, "GET", "/v1/evidence?other=12", NULL, NULL, 400, "error.param", "nonce");
    ask_and_expect(&server.fake, "POST", "/v1/evidence", NULL, "{}", 405, "error.code", "method_not_allowed");
    ask_and_expect(&server.fake, "GET", "/v1/policy", NULL, NULL, 200, "type", "sim");
    struct http_exchange *exchange = fake_ask(&server.fake, "GET", ask_path, NULL, NULL);
    wait_answer(&server, exchange);
    check_at(exchange, "binding.nonce", nonce);
    assert_string_equal(fake_header(exchange, "cache-control"), "no-store");
    assert_non_null(fake_header(exchange, "x-request-id"));
    assert_string_equal(server.fake.record_route, "/v1/evidence");
    fake_free(exchange);
    /* With a body, which is of no use, it is asked once. */
    size_t records = server.fake.records;
    exchange = fake_ask(&server.fake, "GET", ask_path, NULL, "{}");
    wait_answer(&server, exchange);
    assert_int_equal(exchange->status, 200);
    assert_int_equal(server.fake.records, records + 1);
    fake_free(exchange);
    close_server(&server);
}

static void clients_hang_up(void **state)
{
    enum { CLIENTS = 20 };
    struct evidence_server server;
    struct http_exchange *exchanges[CLIENTS];
    open_server(&server, NULL, 0);
    hold(1);
    for (int i = 0; i < CLIENTS; i++)
        exchanges[i] = fake_ask(&server.fake, "GET", ask_path, NULL, NULL);
    fake_loop(&server.fake);
    for (int i = 0; i < CLIENTS; i += 2) {
        fake_hang_up(exchanges[i]);
        assert_int_equal(server.fake.record.status, 499);
        assert_string_equal(server.fake.record_code, "client_closed");
        fake_free(exchanges[i]);
    }
    hold(0);
    for (int i = 1; i < CLIENTS; i += 2) {
        wait_answer(&server, exchanges[i]);
        assert_int_equal(exchanges[i]->status, 200);
        assert_non_null(exchanges[i]->first_part);
    }
    int documents = 1; /* those who came before the held quote was begun share one, all others the next */
    for (int i = 3; i < CLIENTS; i += 2)
        documents += exchanges[i]->first_part != exchanges[i - 2]->first_part;
    assert_in_range(documents, 1, 2);
    for (int i = 1; i < CLIENTS; i += 2)
        fake_free(exchanges[i]);
    ask_and_expect(&server.fake, "GET", "/v1/policy", NULL, NULL, 404, "error.code", "no_policy");
    close_server(&server);
}

/* Who hangs up does not keep others out. */
static void a_place_is_given_back(void **state)
{
    enum { MOST = 3, TURNS = 20 };
    struct evidence_server server;
    struct http_exchange *first, *exchange;
    open_server(&server, NULL, MOST);
    hold(1);
    first = fake_ask(&server.fake, "GET", ask_path, NULL, NULL);
    for (int i = 0; i < TURNS; i++) {
        exchange = fake_ask(&server.fake, "GET", ask_path, NULL, NULL);
        assert_false(exchange->is_over);
        fake_hang_up(exchange);
        fake_free(exchange);
    }
    exchange = fake_ask(&server.fake, "GET", ask_path, NULL, NULL);
    hold(0);
    wait_answer(&server, first);
    wait_answer(&server, exchange);
    assert_int_equal(first->status, 200);
    assert_int_equal(exchange->status, 200);
    fake_free(first);
    fake_free(exchange);
    close_server(&server);
}

static void too_many_and_failures(void **state)
{
    enum { MOST = 3 };
    struct evidence_server server;
    struct http_exchange *exchanges[2 * MOST + 2], *exchange;
    open_server(&server, NULL, MOST);
    hold(1);
    int asked = 0; /* those of a quote under way, and as many as may wait */
    do
        exchanges[asked] = fake_ask(&server.fake, "GET", ask_path, NULL, NULL);
    while (!exchanges[asked++]->is_over && asked < 2 * MOST + 2);
    check_error(exchanges[--asked], 503, "overloaded", "null");
    fake_free(exchanges[asked]);
    hold(0);
    for (int i = 0; i < asked; i++) {
        wait_answer(&server, exchanges[i]);
        assert_int_equal(exchanges[i]->status, 200);
        fake_free(exchanges[i]);
    }
    static const struct {
        int code, status;
        const char *name;
    } failures[] = {{BULLA_E_IO, 500, "evidence_failed"}, {BULLA_E_UNSUPPORTED, 500, "evidence_failed"},
                    {BULLA_E_INPUT, 500, "evidence_failed"}, {BULLA_E_LIMIT, 500, "evidence_failed"},
                    {BULLA_E_INTERNAL, 500, "evidence_failed"}, {BULLA_E_MEMORY, 503, "out_of_memory"},
                    {BULLA_E_CANCELLED, 503, "server_stopping"}};
    for (size_t i = 0; i < sizeof failures / sizeof *failures; i++) {
        gate.fails = failures[i].code;
        exchange = fake_ask(&server.fake, "GET", ask_path, NULL, NULL);
        wait_answer(&server, exchange);
        check_error(exchange, failures[i].status, failures[i].name, "null");
        assert_null(strstr((char *)exchange->reply.data, "/dev/secret")); /* the operator's to read */
        fake_free(exchange);
    }
    close_server(&server);
}

/* The server ends while clients wait: the HTTP server closes first, as a server does it. */
static void the_end(void **state)
{
    struct evidence_server server;
    open_server(&server, NULL, 0);
    hold(1);
    struct http_exchange *first = fake_ask(&server.fake, "GET", ask_path, NULL, NULL);
    struct http_exchange *second = fake_ask(&server.fake, "GET", ask_path, NULL, NULL);
    fake_hang_up(first);
    fake_hang_up(second);
    hold(0);
    close_server(&server);
    fake_free(first);
    fake_free(second);
}

static void models_that_come_are_bound(void **state)
{
    static const char *const admin[] = {"authorization: Bearer admin", NULL};
    struct evidence_server server;
    uint8_t before[32], after[32];
    bulla_error error = {0};
    open_server(&server, NULL, 0);
    static const char later[] = "{\"model\":\"later\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}",
                      small[] = "{\"model\":\"small\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}";
    uint8_t one[1][32];
    memset(one, 1, sizeof one); /* as a server does it at its start */
    assert_ok(attestation_set_models(server.attestation, (const uint8_t(*)[32])one, 1, &error), error);
    while (!attestation_binds(server.attestation, one[0]))
        usleep(1000);
    assert_ok(attestation_standing(server.attestation, before, NULL, &error), error);
    hold(1);
    ask_and_expect(&server.fake, "POST", "/v1/admin/models", admin, "{\"name\":\"later\",\"path\":\"x\"}", 200, "name", "later");
    /* Nobody is answered by a model of which the evidence says nothing. */
    ask_and_expect(&server.fake, "POST", "/v1/chat/completions", admin, later, 503, "error.code", "not_ready");
    server.fake.fake.play = fake_play_at_once;
    ask_and_expect(&server.fake, "POST", "/v1/chat/completions", admin, small, 200, "object", "chat.completion");
    hold(0);
    do {
        usleep(1000);
        assert_ok(attestation_standing(server.attestation, after, NULL, &error), error);
    } while (memcmp(before, after, 32) == 0);
    memset(one, 2, sizeof one);
    assert_true(attestation_binds(server.attestation, one[0]));
    fake_loop(&server.fake);
    close_server(&server);
}

/* A server whose evidence clients refuse is not ready, and answers all the same. */
static void old_evidence_is_not_ready(void **state)
{
    struct evidence_server server;
    open_server(&server, NULL, 0);
    ask_and_expect(&server.fake, "GET", "/ready", NULL, NULL, 200, "status", "ready");
    gate.fails = BULLA_E_IO;
    seconds_now += 2 * ATTESTATION_SECONDS + 1;
    ask_and_expect(&server.fake, "GET", "/ready", NULL, NULL, 503, "error.code", "not_ready");
    ask_and_expect(&server.fake, "GET", "/v1/evidence", NULL, NULL, 200, "type", "sim");
    close_server(&server);
}

static void without_an_attestation(void **state)
{
    struct fake_server server;
    fake_open(&server, 0, NULL);
    ask_and_expect(&server, "GET", "/v1/evidence", NULL, NULL, 404, "error.code", "no_evidence");
    ask_and_expect(&server, "GET", ask_path, NULL, NULL, 404, "error.code", "no_evidence");
    ask_and_expect(&server, "GET", "/v1/evidence/ab", NULL, NULL, 404, "error.code", "no_evidence");
    ask_and_expect(&server, "GET", "/v1/policy", NULL, NULL, 404, "error.code", "no_policy");
    fake_close(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(evidence_is_open_to_all), cmocka_unit_test(clients_hang_up),
        cmocka_unit_test(a_place_is_given_back),
        cmocka_unit_test(too_many_and_failures),   cmocka_unit_test(the_end),
        cmocka_unit_test(models_that_come_are_bound), cmocka_unit_test(old_evidence_is_not_ready),
        cmocka_unit_test(without_an_attestation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
