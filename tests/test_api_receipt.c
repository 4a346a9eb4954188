/* Receipts of answers: what their steps are, what clients are told of them, when an answer ends, and what becomes of it where
 * the log fails or the client hangs up. The log is played: it says that a receipt is durable when the test says so. */
#include "test.h"

#include <event2/event.h>
#include <openssl/evp.h>
#include <sys/stat.h>

#include "api_fakes.h"
#include "base/memory.h"
#include "serve/receipts.h"

static const char *const full[] = {"x-bulla-receipt: full", NULL};
static const char *const nothing[] = {NULL};

struct appended {
    uint8_t id[RECEIPT_ID];
    char receipt[8000];
    receipts_logged done; /* NULL: it was called */
    void *context;
};

struct played {
    struct fake_server server;
    struct event_base *base; /* the receipts' */
    struct receipts *receipts;
    EVP_PKEY *key;
    struct appended appended[8];
    size_t count;
    int refuses;
};

static int append(void *context, const uint8_t id[RECEIPT_ID], const void *receipt, size_t length, receipts_logged done,
                  void *done_context, bulla_error *error)
{
    struct played *played = context;
    if (played->refuses)
        return bulla_fail(error, BULLA_E_LIMIT, "too many receipts wait for the disk");
    struct appended *appended = &played->appended[played->count++];
    memcpy(appended->id, id, RECEIPT_ID);
    assert_true(length < sizeof appended->receipt);
    memcpy(appended->receipt, receipt, length);
    appended->done = done;
    appended->context = done_context;
    return BULLA_OK;
}

static int find(void *context, const uint8_t id[RECEIPT_ID], struct buffer *receipt, struct buffer *inclusion, int *is_found,
                bulla_error *error)
{
    struct played *played = context;
    *is_found = 0;
    if (played->refuses)
        return bulla_fail(error, BULLA_E_IO, "the database cannot be read");
    for (size_t i = 0; i < played->count; i++)
        if (memcmp(played->appended[i].id, id, RECEIPT_ID) == 0) {
            buffer_append_text(receipt, played->appended[i].receipt);
            buffer_append_text(inclusion, "{\"index\":7}");
            *is_found = 1;
        }
    return BULLA_OK;
}

static int standing(void *context, uint8_t hash[RECEIPT_HASH], uint8_t policy[RECEIPT_HASH], int *is_simulated,
                    bulla_error *error)
{
    memset(hash, 0xee, RECEIPT_HASH);
    memset(policy, 0xdd, RECEIPT_HASH);
    *is_simulated = 1;
    return BULLA_OK;
}

static int find_evidence(void *context, const uint8_t hash[RECEIPT_HASH], struct buffer *document, int *is_found,
                         bulla_error *error)
{
    *is_found = hash[0] == 0xee;
    buffer_append_text(document, "{\"type\":\"sim\"}");
    return BULLA_OK;
}

static void play(struct played *played, const char *folder)
{
    bulla_error error = {0};
    memset(played, 0, sizeof *played);
    played->base = event_base_new();
    played->key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    assert_non_null(played->key);
    struct receipts_options options = {
        .key = played->key,
        .log = {.context = played, .append = append, .find = find, .folder = folder, .key = "log+00+AA"},
        .evidence = {.standing = standing, .find = find_evidence}};
    assert_ok(receipts_open(played->base, &options, &played->receipts, &error), error);
    fake_open(&played->server, 0, &(struct api_options){.version = "1", .receipts = played->receipts, .cors_origin = "*"});
}

static void stop(struct played *played)
{
    fake_close(&played->server);
    for (size_t i = 0; i < played->count; i++)
        if (played->appended[i].done)
            played->appended[i].done(played->appended[i].context, "{}", 2, NULL);
    receipts_close(played->receipts);
    event_base_free(played->base);
    EVP_PKEY_free(played->key);
}

/* The log has the last receipt, or could not take it. */
static void log_it(struct played *played, const bulla_error *error)
{
    struct appended *appended = &played->appended[played->count - 1];
    receipts_logged done = appended->done;
    appended->done = NULL;
    done(appended->context, "{\"index\":7}", 11, error);
    event_base_loop(played->base, EVLOOP_NONBLOCK);
}

static void tell_ids(struct fake_answer *answer, uint32_t choice, const char *text, uint32_t id)
{
    fake_tell(answer, &(struct answer_delta){.choice = choice, .tokens = 1, .text = text, .text_length = strlen(text), .tool = -1,
                                             .ids = &id});
}

static void start_chain(const struct http_exchange *exchange, uint32_t choice, uint8_t chain[RECEIPT_HASH])
{
    uint8_t salt[RECEIPT_SALT];
    const char *text = fake_header(exchange, "x-bulla-receipt-salt");
    bulla_error error = {0};
    assert_non_null(text);
    assert_true(hex_decode(text, strlen(text), salt, sizeof salt));
    assert_ok(receipt_chain_start(salt, choice, chain, &error), error);
}

static void add_step(uint8_t chain[RECEIPT_HASH], enum receipt_part part, const uint32_t *ids, size_t count, const char *text,
                     size_t length)
{
    bulla_error error = {0};
    assert_ok(receipt_chain_step(chain, part, ids, count, text, length, &error), error);
}

static const char *hex_of(const uint8_t hash[RECEIPT_HASH])
{
    static char text[2 * RECEIPT_HASH + 1];
    hex_encode(hash, RECEIPT_HASH, text);
    return text;
}

#define MESSAGES "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define CHAT MESSAGES ",\"seed\":5"

/* Ids wait for text; the last chunk waits for the log and has the receipt. */
static void streams_tell_their_steps(void **state)
{
    struct played played;
    uint8_t chain[RECEIPT_HASH];
    const uint32_t ids[] = {11, 12, 13};
    play(&played, NULL);
    struct http_exchange *exchange = fake_ask(&played.server, "POST", "/v1/chat/completions", full, CHAT ",\"stream\":true}");
    struct fake_answer *answer = fake_last(&played.server);
    answer->sink.prompt(answer->sink.context, ids, 3);
    tell_ids(answer, 0, "", 11);
    tell_ids(answer, 0, "\xE2\x82\xAC", 12);
    fake_tell(answer, &(struct answer_delta){.tokens = 1, .tool = -1, .ids = &ids[2], .reasoning = "hm", .reasoning_length = 2,
                                             .text = "so", .text_length = 2});
    tell_ids(answer, 0, "", 14);
    start_chain(exchange, 0, chain);
    add_step(chain, RECEIPT_CONTENT, ids, 2, "\xE2\x82\xAC", 3);
    assert_int_equal(fake_events(exchange), 3);
    check_event(exchange, 0, "bulla", "-");
    check_event(exchange, 1, "bulla.steps", "[{\"part\":\"content\",\"ids\":[11,12]}]");
    check_event(exchange, 1, "bulla.choice", "0");
    check_event(exchange, 1, "bulla.chain", hex_of(chain));
    check_event(exchange, 2, "bulla.steps", "[{\"part\":\"reasoning\",\"ids\":[13]},{\"part\":\"content\"}]");
    add_step(chain, RECEIPT_REASONING, &ids[2], 1, "hm", 2);
    add_step(chain, RECEIPT_CONTENT, NULL, 0, "so", 2);
    check_event(exchange, 2, "bulla.chain", hex_of(chain));
    fake_finish(answer, 0, "stop", "END");
    fake_end(answer, 3, 4);
    assert_int_equal(fake_events(exchange), 3); /* the finish waits */
    assert_false(exchange->is_over);
    assert_int_equal(played.count, 1);
    log_it(&played, NULL);
    assert_true(exchange->is_over);
    assert_int_equal(fake_events(exchange), 4);
    add_step(chain, RECEIPT_FINISH, (const uint32_t[]){14}, 1, "stop\0END", 8);
    check_event(exchange, 3, "choices[0].finish_reason", "stop");
    check_event(exchange, 3, "bulla.steps", "[{\"part\":\"finish\",\"ids\":[14]}]");
    check_event(exchange, 3, "bulla.chain", hex_of(chain));
    check_event(exchange, 3, "bulla_receipt.signed.receipt.choices[0].chain", hex_of(chain));
    check_event(exchange, 3, "bulla_receipt.signed.receipt.choices[0].tokens", "4");
    check_event(exchange, 3, "bulla_receipt.signed.receipt.choices[0].finish", "stop");
    check_event(exchange, 3, "bulla_receipt.signed.receipt.prompt_tokens", "3");
    check_event(exchange, 3, "bulla_receipt.signed.receipt.simulated", "true");
    check_event(exchange, 3, "bulla_receipt.signed.receipt.id", fake_header(exchange, "x-bulla-receipt-id"));
    check_event(exchange, 3, "bulla_receipt.log.index", "7");
    check_event(exchange, 3, "bulla_receipt.bulla_receipt", "1");
    assert_non_null(strstr(fake_header(exchange, "access-control-expose-headers"), "x-bulla-receipt-salt"));
    fake_free(exchange);
    stop(&played);
}

/* What is signed is canonical, and signed by the key that is in it. */
static void receipts_are_as_they_must_be(void **state)
{
    static const char parameters[] =
        "{\"chat_template_kwargs\":null,\"continue_final_message\":false,\"echo\":false,\"endpoint\":\"/v1/chat/completions\","
        "\"frequency_penalty\":-500000,\"ignore_eos\":true,\"logit_bias\":null,\"logprobs\":2,\"max_tokens\":9,\"min_p\":50000,"
        "\"model\":\"tiny\",\"n\":1,\"parallel_tool_calls\":true,\"presence_penalty\":0,\"reasoning_effort\":\"low\","
        "\"repetition_penalty\":1100000,\"response_format\":null,\"seed\":\"18446744073709551615\",\"stop\":[\"a\\nb\",\"c\"],"
        "\"temperature\":700000,\"timeout\":2500000,\"tool_choice\":\"none\",\"tools\":null,\"top_k\":5,\"top_p\":1000000}";
    struct played played;
    struct receipt receipt;
    struct arena arena = {0};
    struct buffer signed_part = {0}, canonical = {0};
    uint8_t signature[RECEIPT_SIGNATURE], salt[RECEIPT_SALT], request[RECEIPT_HASH];
    bulla_error error = {0};
    static const char body[] = MESSAGES ",\"model\":\"tiny\",\"frequency_penalty\":-0.5,\"ignore_eos\":true,\"logprobs\":true,"
                               "\"top_logprobs\":2,\"max_tokens\":9,\"min_p\":0.05,\"reasoning_effort\":\"low\",\"timeout\":2.5,"
                               "\"repetition_penalty\":1.1,\"stop\":[\"a\\nb\",\"c\"],\"temperature\":0.7,\"top_k\":5,"
                               "\"seed\":18446744073709551615}";
    play(&played, NULL);
    struct http_exchange *exchange = fake_ask(&played.server, "POST", "/v1/chat/completions", nothing, body);
    fake_text(fake_last(&played.server), 0, "yes");
    fake_finish(fake_last(&played.server), 0, "range", NULL);
    fake_end(fake_last(&played.server), 3, 1);
    assert_false(exchange->is_over);
    log_it(&played, NULL);
    assert_int_equal(exchange->status, 200);
    check_at(exchange, "bulla_receipt", "-"); /* nobody asked for it */
    check_at(exchange, "bulla", "-");
    const char *text = played.appended[0].receipt;
    const struct json *value = json_parse(text, strlen(text), "receipt", &arena, &error);
    assert_non_null(value);
    json_write_canonical(&canonical, value);
    assert_string_equal((char *)canonical.data, text);
    assert_ok(receipt_read(value, &arena, &receipt, &signed_part, signature, &error), error);
    assert_true(receipt_signature_holds(&receipt, &signed_part, signature));
    assert_string_equal(receipt.choices[0].finish, "length");
    assert_int_equal(receipt.evidence[31], 0xee);
    assert_int_equal(receipt.policy[0], 0xdd);
    assert_string_equal(receipt.retention, "none");
    buffer_clear(&canonical);
    json_write_canonical(&canonical, receipt.parameters);
    assert_string_equal((char *)canonical.data, parameters);
    const char *digits = fake_header(exchange, "x-bulla-receipt-salt");
    assert_true(hex_decode(digits, strlen(digits), salt, sizeof salt));
    assert_ok(receipt_request_hash(salt, body, strlen(body), request, &error), error);
    assert_memory_equal(request, receipt.request, RECEIPT_HASH);
    buffer_free(&signed_part);
    buffer_free(&canonical);
    arena_free(&arena);
    fake_free(exchange);
    stop(&played);
}

/* Calls that take turns; members of the request that stand in the parameters as hashes. */
static void calls_are_steps(void **state)
{
    struct played played;
    uint8_t chain[RECEIPT_HASH], salt[RECEIPT_SALT], hash[RECEIPT_HASH];
    struct arena arena = {0};
    bulla_error error = {0};
    static const char tools[] = "[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]";
    play(&played, NULL);
    struct http_exchange *exchange =
        fake_ask(&played.server, "POST", "/v1/chat/completions", full,
                 CHAT ",\"stream\":true,\"stream_options\":{\"include_usage\":true},\"tools\":"
                      "[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],\"tool_choice\":\"auto\"}");
    struct fake_answer *answer = fake_last(&played.server);
    fake_tell(answer, &(struct answer_delta){.tokens = 1, .tool = 0, .tool_id = "a", .tool_name = "f", .arguments = "{",
                                             .arguments_length = 1});
    fake_tell(answer, &(struct answer_delta){.tokens = 1, .tool = 1, .tool_id = "b", .tool_name = "g"});
    fake_tell(answer, &(struct answer_delta){.tokens = 1, .tool = 0, .arguments = "}", .arguments_length = 1});
    fake_tell(answer, &(struct answer_delta){.tokens = 1, .tool = 0});
    fake_finish(answer, 0, "tool_calls", NULL);
    fake_end(answer, 3, 4);
    assert_int_equal(fake_events(exchange), 6); /* the finish is there, the usage waits */
    check_event(exchange, 1, "bulla.steps", "[{\"part\":\"tool_call\"},{\"part\":\"arguments\"}]");
    check_event(exchange, 2, "bulla.steps", "[{\"part\":\"tool_call\"}]");
    check_event(exchange, 3, "bulla.steps", "[{\"part\":\"tool_call\",\"text\":\"\\u0000\\u00000\"},{\"part\":\"arguments\"}]");
    check_event(exchange, 4, "bulla", "-");
    check_event(exchange, 5, "bulla.steps", "[{\"part\":\"finish\"}]");
    check_event(exchange, 5, "bulla_receipt", "-");
    log_it(&played, NULL);
    assert_int_equal(fake_events(exchange), 7);
    check_event(exchange, 6, "usage.total_tokens", "7");
    start_chain(exchange, 0, chain);
    add_step(chain, RECEIPT_TOOL_CALL, NULL, 0, "f\0a", 3);
    add_step(chain, RECEIPT_ARGUMENTS, NULL, 0, "{", 1);
    add_step(chain, RECEIPT_TOOL_CALL, NULL, 0, "g\0b", 3);
    add_step(chain, RECEIPT_TOOL_CALL, NULL, 0, "\0\0" "0", 3);
    add_step(chain, RECEIPT_ARGUMENTS, NULL, 0, "}", 1);
    add_step(chain, RECEIPT_FINISH, NULL, 0, "tool_calls", 10);
    check_event(exchange, 6, "bulla_receipt.signed.receipt.choices[0].chain", hex_of(chain));
    const char *digits = fake_header(exchange, "x-bulla-receipt-salt");
    assert_true(hex_decode(digits, strlen(digits), salt, sizeof salt));
    assert_ok(receipt_parameter_hash(salt, json_parse(tools, strlen(tools), "tools", &arena, &error), hash, &error), error);
    check_event(exchange, 6, "bulla_receipt.signed.receipt.parameters.tools", hex_of(hash));
    check_event(exchange, 6, "bulla_receipt.signed.receipt.parameters.tool_choice", "auto");
    arena_free(&arena);
    fake_free(exchange);
    stop(&played);
}

/* Several prompts, each echoed, of several choices; a whole answer tells its steps where that is asked for. */
static void completions_echo(void **state)
{
    struct played played;
    uint8_t salt[RECEIPT_SALT], hashes[2][RECEIPT_HASH], hash[RECEIPT_HASH], chain[RECEIPT_HASH];
    const uint32_t ids[] = {1, 2, 3};
    bulla_error error = {0};
    play(&played, NULL);
    struct http_exchange *exchange = fake_ask(&played.server, "POST", "/v1/completions", full,
                                              "{\"prompt\":[\"ab\",\"c\"],\"n\":2,\"echo\":true}");
    struct fake_answer *answers = played.server.fake.answers;
    for (size_t i = 2; i-- > 0;) {
        answers[i].sink.prompt(answers[i].sink.context, ids, 2 + i);
        for (uint32_t k = 0; k < 2; k++) {
            tell_ids(&answers[i], k, "x", 7);
            fake_finish(&answers[i], k, "length", NULL);
        }
        fake_end(&answers[i], 2 + i, 2);
    }
    assert_false(exchange->is_over);
    log_it(&played, NULL);
    check_at(exchange, "choices[3].text", "cx");
    check_at(exchange, "bulla.choices[3].steps", "[{\"part\":\"content\",\"text\":\"c\"},{\"part\":\"content\",\"ids\":[7],"
                                                 "\"text\":\"x\"},{\"part\":\"finish\",\"text\":\"length\"}]");
    start_chain(exchange, 3, chain);
    add_step(chain, RECEIPT_CONTENT, NULL, 0, "c", 1);
    add_step(chain, RECEIPT_CONTENT, (const uint32_t[]){7}, 1, "x", 1);
    add_step(chain, RECEIPT_FINISH, NULL, 0, "length", 6);
    check_at(exchange, "bulla_receipt.signed.receipt.choices[3].chain", hex_of(chain));
    check_at(exchange, "bulla_receipt.signed.receipt.prompt_tokens", "5");
    check_at(exchange, "bulla_receipt.signed.receipt.output_tokens", "4");
    const char *digits = fake_header(exchange, "x-bulla-receipt-salt");
    assert_true(hex_decode(digits, strlen(digits), salt, sizeof salt));
    for (size_t i = 0; i < 2; i++)
        assert_ok(receipt_prompt_hash(salt, ids, 2 + i, hashes[i], &error), error);
    assert_ok(receipt_prompts_hash(salt, (const uint8_t (*)[RECEIPT_HASH])hashes, 2, hash, &error), error);
    check_at(exchange, "bulla_receipt.signed.receipt.prompt", hex_of(hash));
    fake_free(exchange);
    stop(&played);
}

static void responses_tell_their_steps(void **state)
{
    struct played played;
    uint8_t chain[RECEIPT_HASH];
    play(&played, NULL);
    struct http_exchange *exchange = fake_ask(&played.server, "POST", "/v1/responses", full,
                                              "{\"input\":\"hi\",\"stream\":true}");
    struct fake_answer *answer = fake_last(&played.server);
    fake_tell(answer, &(struct answer_delta){.tokens = 1, .reasoning = "hm", .reasoning_length = 2, .tool = -1});
    fake_text(answer, 0, "so");
    fake_tell(answer, &(struct answer_delta){.tokens = 1, .tool = 0, .tool_id = "a", .tool_name = "f", .arguments = "{}",
                                             .arguments_length = 2});
    fake_finish(answer, 0, "tool_calls", NULL);
    size_t before = fake_events(exchange);
    fake_end(answer, 3, 3);
    assert_int_equal(fake_events(exchange), before);
    log_it(&played, NULL);
    size_t count = fake_events(exchange), told = 0;
    static const struct {
        const char *type, *steps;
    } expected[] = {{"response.reasoning_text.delta", "[{\"part\":\"reasoning\"}]"},
                    {"response.output_text.delta", "[{\"part\":\"content\"}]"},
                    {"response.output_item.added", "[{\"part\":\"tool_call\"}]"},
                    {"response.function_call_arguments.delta", "[{\"part\":\"arguments\"}]"},
                    {"response.completed", "[{\"part\":\"finish\",\"text\":\"tool_calls\"}]"}};
    for (size_t i = 0; i < count; i++) {
        if (strcmp(fake_event_at(exchange, i, "bulla.steps"), "-") == 0)
            continue;
        assert_true(told < 5);
        check_event(exchange, i, "type", expected[told].type);
        check_event(exchange, i, "bulla.steps", expected[told++].steps);
    }
    assert_int_equal(told, 5);
    start_chain(exchange, 0, chain);
    add_step(chain, RECEIPT_REASONING, NULL, 0, "hm", 2);
    add_step(chain, RECEIPT_CONTENT, NULL, 0, "so", 2);
    add_step(chain, RECEIPT_TOOL_CALL, NULL, 0, "f\0a", 3);
    add_step(chain, RECEIPT_ARGUMENTS, NULL, 0, "{}", 2);
    add_step(chain, RECEIPT_FINISH, NULL, 0, "tool_calls", 10);
    check_event(exchange, count - 1, "bulla.chain", hex_of(chain));
    check_event(exchange, count - 1, "bulla_receipt.signed.receipt.choices[0].chain", hex_of(chain));
    check_event(exchange, count - 1, "bulla_receipt.signed.receipt.parameters.endpoint", "/v1/responses");
    fake_free(exchange);
    stop(&played);
}

static struct http_exchange *answer_all(struct played *played, const char *rest)
{
    char text[300];
    snprintf(text, sizeof text, CHAT "%s}", rest);
    struct http_exchange *exchange = fake_ask(&played->server, "POST", "/v1/chat/completions", nothing, text);
    fake_text(fake_last(&played->server), 0, "yes");
    fake_finish(fake_last(&played->server), 0, "stop", NULL);
    fake_end(fake_last(&played->server), 3, 1);
    return exchange;
}

/* Never an answer without its receipt. */
static void a_log_that_fails_fails_the_answer(void **state)
{
    static const bulla_error full_disk = {.code = BULLA_E_IO, .text = "the disk is full"};
    struct played played;
    play(&played, NULL);
    for (int refuses = 0; refuses < 2; refuses++) {
        played.refuses = refuses;
        struct http_exchange *exchange = answer_all(&played, "");
        if (!refuses)
            log_it(&played, &full_disk);
        check_error(exchange, 500, "receipt_not_logged", "null");
        assert_null(fake_header(exchange, "x-bulla-receipt-id"));
        fake_free(exchange);
        exchange = answer_all(&played, ",\"stream\":true");
        if (!refuses)
            log_it(&played, &full_disk);
        assert_true(exchange->is_over);
        size_t count = fake_events(exchange);
        check_event(exchange, count - 1, "error.code", "receipt_not_logged");
        for (size_t i = 0; i + 1 < count; i++)
            check_event(exchange, i, "choices[0].finish_reason", "null");
        assert_null(strstr((char *)exchange->reply.data, "bulla_receipt"));
        fake_free(exchange);
        fake_loop(&played.server);
    }
    stop(&played);
}

static void clients_may_hang_up(void **state)
{
    struct played played;
    play(&played, NULL);
    struct http_exchange *exchange = answer_all(&played, ",\"stream\":true");
    assert_int_equal(played.count, 1);
    fake_hang_up(exchange); /* while it waits for the log: that has it all the same */
    fake_loop(&played.server);
    assert_int_equal(api_answers(played.server.api), 0);
    log_it(&played, NULL);
    assert_int_equal(played.server.model->busy, 0);
    fake_free(exchange);
    /* Before its end: there is none. */
    exchange = fake_ask(&played.server, "POST", "/v1/chat/completions", nothing, CHAT ",\"stream\":true}");
    fake_text(fake_last(&played.server), 0, "yes");
    fake_hang_up(exchange);
    fake_loop(&played.server);
    assert_int_equal(played.count, 1);
    fake_free(exchange);
    /* A server that stops, while one waits. */
    exchange = answer_all(&played, "");
    api_hand_back(played.server.api);
    check_error(exchange, 503, "server_stopping", "null");
    fake_free(exchange);
    stop(&played);
}

static void a_failed_answer_has_none(void **state)
{
    struct played played;
    play(&played, NULL);
    struct http_exchange *exchange = fake_ask(&played.server, "POST", "/v1/chat/completions", nothing, CHAT "}");
    fake_fail(fake_last(&played.server), 503, "server_error", "worker_died", "the worker died");
    check_error(exchange, 503, "worker_died", "null");
    assert_null(fake_header(exchange, "x-bulla-receipt-id"));
    fake_free(exchange);
    static const char *const other[] = {"x-bulla-receipt: all", NULL};
    exchange = fake_ask(&played.server, "POST", "/v1/chat/completions", other, CHAT "}");
    check_error(exchange, 400, "invalid_value", "x-bulla-receipt");
    fake_free(exchange);
    exchange = fake_ask(&played.server, "POST", "/v1/embeddings", nothing, "{\"input\":\"a\"}");
    fake_last(&played.server)->sink.embedding(fake_last(&played.server)->sink.context, (const float[]){1}, 1);
    fake_end(fake_last(&played.server), 1, 0);
    assert_int_equal(exchange->status, 200);
    assert_null(fake_header(exchange, "x-bulla-receipt-id"));
    fake_free(exchange);
    assert_int_equal(played.count, 0);
    stop(&played);
}

/* The choice that the backend says nothing of ends too. */
static void every_choice_ends(void **state)
{
    struct played played;
    play(&played, NULL);
    struct http_exchange *exchange = fake_ask(&played.server, "POST", "/v1/chat/completions", full,
                                              CHAT ",\"stream\":true,\"n\":2}");
    struct fake_answer *answer = fake_last(&played.server);
    tell_ids(answer, 1, "b", 2);
    fake_finish(answer, 1, "length", NULL);
    fake_end(answer, 3, 1);
    log_it(&played, NULL);
    size_t count = fake_events(exchange);
    check_event(exchange, count - 1, "choices[0].index", "0");
    check_event(exchange, count - 1, "choices[0].finish_reason", "stop");
    check_event(exchange, count - 1, "bulla_receipt.signed.receipt.choices[1].finish", "length");
    check_event(exchange, count - 1, "bulla_receipt.signed.receipt.choices[0].tokens", "0");
    fake_free(exchange);
    stop(&played);
}

static void receipts_are_found(void **state)
{
    struct played played;
    char path[80];
    play(&played, NULL);
    struct http_exchange *exchange = answer_all(&played, "");
    log_it(&played, NULL);
    snprintf(path, sizeof path, "/v1/receipts/%s", fake_header(exchange, "x-bulla-receipt-id"));
    fake_free(exchange);
    ask_and_expect(&played.server, "GET", path, nothing, NULL, 200, "log.index", "7");
    ask_and_expect(&played.server, "GET", path, nothing, NULL, 200, "evidence", "-");
    strcat(path, "?evidence=1");
    ask_and_expect(&played.server, "GET", path, nothing, NULL, 200, "evidence.type", "sim");
    ask_and_expect(&played.server, "GET", "/v1/receipts/00000000000000000000000000000000", nothing, NULL, 404, "error.code",
                   "receipt_not_found");
    ask_and_expect(&played.server, "GET", "/v1/receipts/0", nothing, NULL, 404, "error.code", "receipt_not_found");
    played.refuses = 1;
    ask_and_expect(&played.server, "GET", path, nothing, NULL, 500, "error.code", "internal_error");
    played.refuses = 0;
    ask_and_expect(&played.server, "GET", "/log/checkpoint", nothing, NULL, 404, "error.code", "not_found");
    stop(&played);
}

static void write_file(const char *folder, const char *name)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(name, file);
    fclose(file);
}

/* What looks like a file of a log is given, and nothing else. */
static void the_logs_files_are_shown(void **state)
{
    static const char *const given[] = {"checkpoint", "tile/0/000", "tile/0/000.p/7", "tile/entries/000",
                                        "tile/0/x001/234"};
    static const char *const refused[] = {
        "/log/log.db", "/log/key.pem", "/log/tile/0/000.p/8", "/log/tile/0/001", "/log/tile/0", "/log/tile/64/000",
        "/log/tile/00/000", "/log/tile/0/0000", "/log/tile/0/000/", "/log/tile/0/000.p/", "/log/tile/0/000.p/07",
        "/log/tile/0/000.p/256", "/log/tile/0/000.p/7x", "/log/tile/0/x000", "/log/tile/../key.pem", "/log/tile/0/..",
        "/log/tile/entries/../../key.pem", "/log//etc/passwd", "/log/tile/entries", "/log/tile/x001/234", "/log/tile/-1/000",
        "/log/tile/0/x001/x002/x003/x004/x005/x006/x007/008"};
    struct played played;
    char folder[] = "/tmp/bulla-log-XXXXXX", path[300];
    assert_non_null(mkdtemp(folder));
    static const char *const folders[] = {"tile", "tile/0", "tile/entries", "tile/0/x001", "tile/0/000.p", "tile/1"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, folders[i]);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    for (size_t i = 0; i < sizeof given / sizeof *given; i++)
        write_file(folder, given[i]);
    write_file(folder, "key.pem");
    write_file(folder, "log.db");
    play(&played, folder);
    for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
        snprintf(path, sizeof path, "/log/%s", given[i]);
        struct http_exchange *exchange = fake_ask(&played.server, "GET", path, nothing, NULL);
        assert_int_equal(exchange->status, 200);
        assert_string_equal((char *)exchange->reply.data, given[i]);
        assert_string_equal(fake_header(exchange, "cache-control"), i ? "public, max-age=31536000, immutable" : "no-cache");
        fake_free(exchange);
    }
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        ask_and_expect(&played.server, "GET", refused[i], nothing, NULL, 404, "error.code", "not_found");
    struct http_exchange *exchange = fake_ask(&played.server, "GET", "/log/key", nothing, NULL);
    assert_string_equal((char *)exchange->reply.data, "log+00+AA");
    fake_free(exchange);
    stop(&played);
    snprintf(path, sizeof path, "rm -rf %s", folder);
    assert_int_equal(system(path), 0);
}

/* Each allocation of an answer fails in turn: it fails, or is whole, and nothing leaks or crashes. */
static void memory_may_be_short(void **state)
{
    for (int is_stream = 0; is_stream < 2; is_stream++)
        for (uint64_t failing = 1, is_over = 0; !is_over && failing < 400; failing++) {
            struct played played;
            play(&played, NULL);
            memory_inject_failure(failing, 0);
            struct http_exchange *exchange = fake_ask(&played.server, "POST", "/v1/chat/completions", full,
                                                      is_stream ? CHAT ",\"stream\":true}" : CHAT "}");
            if (!exchange->is_over) {
                struct fake_answer *answer = fake_last(&played.server);
                tell_ids(answer, 0, "", 1);
                if (!exchange->is_over)
                    tell_ids(answer, 0, "yes", 2);
                if (!exchange->is_over)
                    fake_finish(answer, 0, "stop", "x");
                if (!exchange->is_over)
                    fake_end(answer, 3, 2);
                if (!exchange->is_over && played.count)
                    log_it(&played, NULL);
            }
            is_over = exchange->is_over && !exchange->was_aborted && exchange->status == 200 &&
                      strstr((char *)exchange->reply.data, "bulla_receipt\":{\"bulla_receipt\":1") != NULL;
            memory_inject_failure(0, 0);
            assert_true(exchange->is_over);
            fake_free(exchange);
            fake_loop(&played.server);
            stop(&played);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_tell_their_steps),
        cmocka_unit_test(receipts_are_as_they_must_be),
        cmocka_unit_test(calls_are_steps),
        cmocka_unit_test(completions_echo),
        cmocka_unit_test(responses_tell_their_steps),
        cmocka_unit_test(a_log_that_fails_fails_the_answer),
        cmocka_unit_test(clients_may_hang_up),
        cmocka_unit_test(a_failed_answer_has_none),
        cmocka_unit_test(every_choice_ends),
        cmocka_unit_test(receipts_are_found),
        cmocka_unit_test(the_logs_files_are_shown),
        cmocka_unit_test(memory_may_be_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
