/* Audits of a document from its request to its verdict (serve/auditor.h), with memory that is short at every place. That what
 * servers answer passes and lies do not is test_audit.py's. */
#include "test.h"

#include <unistd.h>

#include "answer_model.h"
#include "base/memory.h"
#include "random_program.h"
#include "serve/api_parameters.h"
#include "serve/api_steps.h"
#include "serve/auditor.h"
#include "trust/verdict.h"

static const char BODY[] = "{\"prompt\":[1,2,3],\"max_tokens\":6,\"n\":2,\"seed\":3,\"stop\":\"zzz\"}";
static const uint8_t SALT[RECEIPT_SALT];

enum { CHOICES = 2, MOST = 6 };

/* An answer as a server tells it. */
struct told {
    struct api_steps steps;
    struct buffer json[CHOICES]; /* the steps of the transcript */
    struct buffer ids[CHOICES];  /* that go with the next one */
    uint8_t chains[CHOICES][RECEIPT_HASH], prompt[RECEIPT_HASH];
    uint64_t prompt_tokens;
};

static void take_step(void *context, size_t choice, enum receipt_part part, const char *bytes, size_t length, int is_plain)
{
    struct told *told = context;
    struct buffer *out = &told->json[choice], *ids = &told->ids[choice];
    const uint32_t *list = (const uint32_t *)(const void *)ids->data;
    size_t count = ids->length / sizeof *list;
    buffer_append_format(out, "%s{\"part\":\"%s\",\"ids\":[", out->length ? "," : "", receipt_part_name(part));
    for (size_t i = 0; i < count; i++)
        buffer_append_format(out, "%s%u", i ? "," : "", list[i]);
    buffer_append_text(out, "],\"text\":");
    json_write_string(out, bytes, length);
    buffer_append_byte(out, '}');
    receipt_chain_step(told->chains[choice], part, list, count, bytes, length, NULL);
    buffer_clear(ids);
}

static void on_prompt(void *context, const uint32_t *ids, size_t count)
{
    struct told *told = context;
    receipt_prompt_hash(SALT, ids, count, told->prompt, NULL);
    told->prompt_tokens = count;
}

static void on_delta(void *context, const struct answer_delta *delta)
{
    struct told *told = context;
    if (delta->tokens)
        buffer_append_u32(&told->ids[delta->choice], *delta->ids);
    api_steps_delta(&told->steps, delta->choice, delta);
}

static void on_finish(void *context, uint32_t choice, const char *reason, const char *stop)
{
    api_steps_finish(&((struct told *)context)->steps, choice, reason, stop);
}

static void on_end(void *context, const struct answer_usage *usage)
{
}

static void on_fail(void *context, const struct answer_error *problem)
{
    fail_msg("%s", problem->message);
}

/* Tokens one by one, each as it is said to be the right one. */
static void answer(struct native_replay *replay, const struct api_request *request, struct told *told)
{
    uint32_t tokens[CHOICES][MOST];
    struct native_replay_claim claims[CHOICES] = {{tokens[0], 0}, {tokens[1], 0}};
    struct replay_outcome outcomes[CHOICES] = {{0}};
    const struct answer_request asked = api_request_of_prompt(request, 0);
    const struct answer_sink nobody = {.context = told, .prompt = on_prompt, .delta = on_delta, .finish = on_finish,
                                       .end = on_end, .fail = on_fail};
    struct answer_error problem = {0};
    bulla_error error = {0};
    for (int is_right = 0; !is_right;) {
        for (int i = 0; i < CHOICES; i++) {
            buffer_clear(&told->json[i]);
            buffer_clear(&told->ids[i]);
            receipt_chain_start(SALT, (uint32_t)i, told->chains[i], NULL);
        }
        assert_true(native_replay_start(replay, &asked, 1, &nobody, &problem));
        assert_ok(native_replay_run(replay, claims, outcomes, &error), error);
        native_replay_stop(replay);
        is_right = 1;
        for (int i = 0; i < CHOICES; i++) {
            is_right &= outcomes[i].result == REPLAY_SAME;
            if (outcomes[i].result == REPLAY_GOES_ON)
                tokens[i][claims[i].count++] = outcomes[i].drawn;
        }
    }
    assert_int_equal(claims[0].count, MOST);
}

static void write_document(const struct backend_info *info, const struct api_request *request, const struct told *told,
                           struct buffer *document)
{
    static const struct api_parameters parameters = {.endpoint = "/v1/completions", .model = "m", .seed = "3"};
    struct buffer text = {0};
    struct receipt_choice choices[CHOICES];
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, SALT, sizeof SALT);
    size_t length = RECEIPT_KEY;
    bulla_error error = {0};
    api_parameters_write(request, &parameters, SALT, &text);
    struct receipt receipt = {.time = 1, .backend = "native", .program_version = info->program_version, .retention = "none",
                              .parameters_text = (const char *)text.data, .choices = choices, .choice_count = CHOICES,
                              .prompt_tokens = told->prompt_tokens, .output_tokens = CHOICES * MOST};
    memcpy(receipt.model_root, info->root, RECEIPT_HASH);
    memcpy(receipt.tokenizer, info->tokenizer, RECEIPT_HASH);
    memcpy(receipt.prompt, told->prompt, RECEIPT_HASH);
    receipt_request_hash(SALT, BODY, strlen(BODY), receipt.request, NULL);
    EVP_PKEY_get_raw_public_key(key, receipt.key, &length);
    for (int i = 0; i < CHOICES; i++) {
        choices[i] = (struct receipt_choice){.tokens = MOST, .finish = "length"};
        memcpy(choices[i].chain, told->chains[i], RECEIPT_HASH);
    }
    buffer_append_text(document, "{\"bulla_receipt\":1,\"signed\":");
    assert_ok(receipt_sign(&receipt, key, document, &error), error);
    buffer_append_format(document, ",\"transcript\":{\"salt\":\"%064d\",\"request\":\"", 0);
    base64_append(document, (const uint8_t *)BODY, strlen(BODY));
    buffer_append_format(document, "\",\"choices\":[{\"steps\":[%s]},{\"steps\":[%s]}]}}", (const char *)told->json[0].data,
                         (const char *)told->json[1].data);
    EVP_PKEY_free(key);
    buffer_free(&text);
}

static void make_document(const char *path, struct buffer *document)
{
    const struct native_replay_options options = {.path = path, .threads = 1};
    struct api_request request = {0};
    struct answer_error problem = {0};
    struct told told = {.steps = {.take = take_step, .context = &told}};
    struct native_replay *replay;
    struct backend_info info;
    bulla_error error = {0};
    assert_ok(native_replay_open(&options, &replay, &error), error);
    native_replay_describe(replay, &info);
    assert_int_equal(api_request_read_completion(BODY, strlen(BODY), &request, &problem), BULLA_OK);
    assert_ok(api_steps_open(&told.steps, CHOICES, &error), error);
    answer(replay, &request, &told);
    write_document(&info, &request, &told, document);
    for (int i = 0; i < CHOICES; i++) {
        buffer_free(&told.json[i]);
        buffer_free(&told.ids[i]);
    }
    api_steps_free(&told.steps);
    api_request_free(&request);
    native_replay_close(replay);
}

/* Gives whether all of it went without a failure. */
static int audit_once(struct auditor *auditor, const struct buffer *document, uint64_t n)
{
    const bulla_receipt_options options = {0};
    struct audit_cost cost = {0};
    bulla_verdict *verdict = NULL;
    bulla_error error = {0};
    uint64_t before = memory_allocation_count();
    memory_inject_failure(n, 0);
    int code = auditor_audit(auditor, (const char *)document->data, document->length, &options, &verdict, &cost, &error);
    memory_inject_failure(0, 0);
    int is_whole = n == 0 || memory_allocation_count() - before < n;
    assert_true(code == BULLA_OK || (code == BULLA_E_MEMORY && !verdict && error.text[0]));
    if (is_whole) {
        const bulla_check *check = verdict_find(&verdict->verdict, "audit.delivered.1");
        assert_true(code == BULLA_OK && bulla_verdict_passed(verdict));
        assert_true(check && check->state == BULLA_CHECK_PASSED);
        assert_true(cost.answer_positions >= MOST);
    }
    bulla_verdict_free(verdict);
    return is_whole;
}

static void memory_may_be_short(void **state)
{
    char path[] = "/tmp/bulla-auditor-XXXXXX";
    const struct native_replay_options options = {.path = path, .threads = 1};
    struct buffer document = {0};
    struct auditor *auditor = NULL;
    bulla_error error = {0};
    int descriptor = mkstemp(path), code = BULLA_E_MEMORY;
    assert_true(descriptor >= 0);
    close(descriptor);
    assert_ok(answer_model_write(path, 2, RANDOM_QWEN2, 0, 0, "", &error), error);
    make_document(path, &document);
    for (uint64_t n = 1; code != BULLA_OK; n++) {
        memory_inject_failure(n, 0);
        code = auditor_open(&options, &auditor, &error);
        memory_inject_failure(0, 0);
        assert_true(code == BULLA_OK || (code == BULLA_E_MEMORY && !auditor));
    }
    audit_once(auditor, &document, 0);
    for (uint64_t n = 1; !audit_once(auditor, &document, n); n++)
        ;
    audit_once(auditor, &document, 0);
    auditor_close(auditor);
    unlink(path);
    buffer_free(&document);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_may_be_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
