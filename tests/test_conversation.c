/* Conversations that keep their sequence between turns against ones that compute each turn from its first token. */
#include "test.h"

#include "answer_model.h"
#include "base/memory.h"
#include "cli/conversation.h"
#include "random_program.h"

#define TEMPLATE "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[a]"
/* Forgets all but the last message: prompts that are no continuation, and shorter ones. */
#define FORGETFUL "{{ messages[-1].content }}>"

static uint64_t state = 3;

static uint32_t next_random(uint32_t below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state >> 33) % below);
}

static int collect(void *context, const char *text, size_t length)
{
    buffer_append(context, text, length);
    return 0;
}

static void say(struct conversation *conversation, const char *text, struct buffer *answer,
                struct conversation_turn *turn)
{
    bulla_error error = {0};
    struct conversation_output output = {.on_text = collect, .context = answer};
    assert_ok(conversation_say(conversation, text, strlen(text), &output, turn, &error), error);
}

struct totals {
    int turns, ranges, full;
    uint64_t computed, prompts;
};

static void check_turn(struct conversation *keeping, struct conversation *plain, struct totals *totals)
{
    struct conversation_turn kept, fresh;
    struct buffer kept_text = {0}, fresh_text = {0};
    char text[32] = "";
    for (uint32_t i = next_random(30); i > 0; i--)
        text[i - 1] = (char)('!' + next_random(60));
    size_t length = strlen(text);
    text[length] = 0;
    keeping->max_tokens = plain->max_tokens = 1 + next_random(30);
    say(keeping, text, &kept_text, &kept);
    say(plain, text, &fresh_text, &fresh);
    assert_int_equal(kept.finish, fresh.finish);
    assert_int_equal(kept.is_full, fresh.is_full);
    assert_int_equal(kept.prompt_tokens, fresh.prompt_tokens);
    assert_int_equal(kept.output_tokens, fresh.output_tokens);
    assert_int_equal(kept.range_position, fresh.range_position);
    assert_int_equal(kept.range_operation, fresh.range_operation);
    assert_int_equal(kept_text.length, fresh_text.length);
    if (kept_text.length)
        assert_memory_equal(kept_text.data, fresh_text.data, kept_text.length);
    assert_int_equal(keeping->message_count, plain->message_count);
    totals->turns++;
    totals->ranges += kept.finish == GENERATE_RANGE;
    totals->full += kept.is_full;
    totals->computed += kept.computed_tokens;
    totals->prompts += fresh.computed_tokens;
    if (kept.is_full || kept.finish == GENERATE_RANGE) {
        conversation_reset(keeping);
        conversation_reset(plain);
    }
    buffer_free(&kept_text);
    buffer_free(&fresh_text);
}

static void converse(const char *chat_template, int family, uint64_t seed, int strain, struct totals *totals)
{
    bulla_error error = {0};
    struct session session = {0};
    struct conversation keeping, plain;
    assert_ok(answer_model_open(seed, family, strain, 9, chat_template, &session.model, &error), error);
    assert_ok(bulla_chat_template_compile(chat_template, strlen(chat_template), &session.chat_template, &error), error);
    assert_ok(bulla_engine_open(session.model, &(bulla_engine_options){.threads = 1, .pages = 40}, &session.engine,
                                &error), error);
    uint64_t pages = bulla_engine_pages_free(session.engine);
    conversation_begin(&keeping, &session);
    conversation_begin(&plain, &session);
    plain.keeps_sequence = 0;
    plain.speculate = 0;
    keeping.always_speculates = (int)(seed >> 2 & 1);
    keeping.sampling.temperature = plain.sampling.temperature = seed & 2 ? 1000000 : 0;
    for (int turn = 0; turn < 12; turn++) {
        check_turn(&keeping, &plain, totals);
        if (next_random(8) == 0) {
            assert_ok(conversation_set_system(&keeping, "sys", 3, &error), error);
            assert_ok(conversation_set_system(&plain, "sys", 3, &error), error);
        }
    }
    conversation_end(&keeping);
    conversation_end(&plain);
    assert_int_equal(bulla_engine_pages_free(session.engine), pages);
    session_close(&session);
}

static void turns_are_the_same(void **unused)
{
    static const int families[] = {RANDOM_LLAMA, RANDOM_QWEN2, RANDOM_GEMMA2, RANDOM_GEMMA3, RANDOM_QWEN3};
    struct totals totals = {0};
    for (size_t f = 0; f < sizeof families / sizeof families[0]; f++)
        for (uint64_t seed = 1; seed <= test_count(6, 60); seed++)
            converse(seed % 3 == 0 ? FORGETFUL : TEMPLATE, families[f], seed, seed & 1, &totals);
    print_message("%d turns, %d in RANGE, %d of a full context; %llu prompt tokens computed instead of %llu\n",
                  totals.turns, totals.ranges, totals.full, (unsigned long long)totals.computed,
                  (unsigned long long)totals.prompts);
    assert_true(totals.ranges > 5 && totals.full > 5);
    assert_true(totals.computed < totals.prompts / 2);
}

/* A later prompt may be shorter than the first: then positions are sampled that the sequence has no logits for. */
static void a_shorter_prompt(void **unused)
{
    bulla_error error = {0};
    struct session session = {0};
    struct conversation conversation;
    struct conversation_turn turn;
    struct buffer first = {0}, answer = {0};
    assert_ok(answer_model_open(4, RANDOM_QWEN2, 0, 0, FORGETFUL, &session.model, &error), error);
    assert_ok(bulla_chat_template_compile(FORGETFUL, strlen(FORGETFUL), &session.chat_template, &error), error);
    assert_ok(bulla_engine_open(session.model, &(bulla_engine_options){.threads = 1}, &session.engine, &error), error);
    conversation_begin(&conversation, &session);
    conversation.max_tokens = 10;
    say(&conversation, "abc", &first, &turn);
    conversation_reset(&conversation);
    say(&conversation, "abcdefghijkl", &answer, &turn);
    buffer_clear(&answer);
    say(&conversation, "abc", &answer, &turn);
    assert_int_equal(turn.computed_tokens, 4);
    assert_int_equal(answer.length, first.length);
    assert_memory_equal(answer.data, first.data, first.length);
    buffer_clear(&answer);
    say(&conversation, "abcd", &answer, &turn);
    assert_int_equal(turn.computed_tokens, 2); /* "abc" is kept */
    conversation_end(&conversation);
    session_close(&session);
    buffer_free(&first);
    buffer_free(&answer);
}

static void memory_runs_short(void **unused)
{
    bulla_error error = {0};
    struct session session = {0};
    assert_ok(answer_model_open(2, RANDOM_QWEN2, 0, 0, TEMPLATE, &session.model, &error), error);
    assert_ok(bulla_chat_template_compile(TEMPLATE, strlen(TEMPLATE), &session.chat_template, &error), error);
    assert_ok(bulla_engine_open(session.model, &(bulla_engine_options){.threads = 1}, &session.engine, &error), error);
    struct conversation conversation;
    struct conversation_turn turn;
    struct buffer expected = {0};
    conversation_begin(&conversation, &session);
    conversation.max_tokens = 5;
    say(&conversation, "first", &expected, &turn);
    buffer_clear(&expected);
    say(&conversation, "second", &expected, &turn);
    int done = 0;
    for (uint64_t n = 1; !done; n++) {
        struct buffer answer = {0};
        struct conversation_output output = {.on_text = collect, .context = &answer};
        conversation_reset(&conversation);
        say(&conversation, "first", &answer, &turn);
        buffer_clear(&answer);
        bulla_error_clear(&error);
        memory_inject_failure(n, 0);
        int code = conversation_say(&conversation, "second", 6, &output, &turn, &error);
        memory_inject_failure(0, 0);
        done = code == BULLA_OK;
        if (!done) {
            assert_int_equal(code, BULLA_E_MEMORY);
            assert_int_equal(conversation.message_count, 2);
            buffer_free(&answer);
            say(&conversation, "second", &answer, &turn); /* it can be said again */
        }
        assert_int_equal(answer.length, expected.length);
        assert_memory_equal(answer.data, expected.data, expected.length);
        buffer_free(&answer);
        assert_true(n < 2000);
    }
    buffer_free(&expected);
    conversation_end(&conversation);
    session_close(&session);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(turns_are_the_same),
        cmocka_unit_test(a_shorter_prompt),
        cmocka_unit_test(memory_runs_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
