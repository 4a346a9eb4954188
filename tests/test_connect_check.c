/* Answers checked as they come: the honest ones pass, in every form; whatever is changed in one does not. */
#include "test.h"

#include "base/memory.h"
#include "connect_answer.h"

/* Runs an answer through a check; the check's name, "" where all of it passed. `text` gets what would be handed on. */
static void run(const struct connect_answer *answer, const struct connect_pin *pin, struct connect_problem *problem,
                struct buffer *text)
{
    struct arena arena = {0};
    struct connect_check *check = NULL;
    struct buffer out = {0};
    enum connect_event event = CONNECT_PASS;
    struct connect_asked asked = {.form = answer->form, .body = answer->request.data, .length = answer->request.length};
    *problem = (struct connect_problem){0};
    asked.json = json_parse(asked.body, asked.length, "the request", &arena, NULL);
    int code = asked.json ? connect_check_open(&asked, answer->id, answer->salt, &check, problem)
                          : connect_fail(problem, "memory", "memory is short");
    for (size_t i = 0; code == BULLA_OK && i < answer->count; i++) {
        const char *data = (const char *)answer->events[i].data;
        code = answer->is_stream ? connect_check_event(check, data, answer->events[i].length, &out, &event, problem)
                                 : connect_check_whole(check, data, answer->events[i].length, &out, problem);
        if (code == BULLA_OK && event != CONNECT_DONE)
            buffer_append(text, out.data, out.length);
    }
    if (code == BULLA_OK && answer->is_stream && !connect_check_ended(check))
        code = connect_fail(problem, "answer.end", "it has not ended");
    if (code == BULLA_OK)
        code = connect_check_receipt(check, pin, problem);
    assert_int_equal(code != BULLA_OK, problem->check[0] != 0);
    if (code == BULLA_OK) {
        buffer_clear(&out);
        connect_check_write(check, "{\"evidence\":1}", 14, 1, &out);
        struct arena kept = {0};
        const struct json *document = json_parse((const char *)out.data, out.length, "the document", &kept, NULL);
        if (out.error.code == BULLA_OK && document)
            assert_true(json_get(document, "transcript") && json_get(document, "evidence") && json_get(document, "signed"));
        arena_free(&kept);
    }
    buffer_free(&out);
    connect_check_close(check);
    arena_free(&arena);
}

static void assert_check(const struct connect_answer *answer, const struct connect_pin *pin, const char *expected)
{
    struct connect_problem problem;
    struct buffer text = {0};
    run(answer, pin, &problem, &text);
    buffer_free(&text);
    if (strcmp(problem.check, expected) != 0)
        fail_msg("found \"%s\" (%s), expected \"%s\"", problem.check, problem.text, expected);
}

static const struct {
    enum connect_form form;
    int is_stream;
} forms[] = {{CONNECT_CHAT, 1}, {CONNECT_CHAT, 0}, {CONNECT_COMPLETION, 1}, {CONNECT_COMPLETION, 0}, {CONNECT_RESPONSE, 1}};
enum { FORMS = sizeof forms / sizeof *forms };

static void test_honest(void **state)
{
    for (size_t i = 0; i < FORMS; i++) {
        struct connect_answer answer;
        struct connect_problem problem;
        struct buffer text = {0};
        connect_answer_make(forms[i].form, forms[i].is_stream, "", &answer);
        run(&answer, &answer.pin, &problem, &text);
        if (problem.check[0])
            fail_msg("form %zu: %s: %s", i, problem.check, problem.text);
        assert_null(strstr((const char *)text.data, "bulla"));
        assert_null(strstr((const char *)text.data, "chain"));
        buffer_free(&text);
        connect_answer_free(&answer);
    }
}

/* Each byte of each event, changed: whatever still passes hands on the same text. */
static void test_changed_bytes(void **state)
{
    static const char *const words[] = {"The", " capital", " is", " \xe2\x98\x83"};
    uint64_t step = test_count(3, 1);
    for (size_t i = 0; i < FORMS; i++) {
        struct connect_answer answer;
        struct connect_problem problem;
        struct buffer right = {0};
        connect_answer_make(forms[i].form, forms[i].is_stream, "", &answer);
        run(&answer, &answer.pin, &problem, &right);
        for (size_t j = 0; j < answer.count; j++)
            for (size_t at = i; at < answer.events[j].length; at += step) {
                struct buffer text = {0};
                uint8_t *byte = &answer.events[j].data[at], before = *byte;
                *byte ^= 1u << (at % 5);
                run(&answer, &answer.pin, &problem, &text);
                for (size_t k = 0; !problem.check[0] && k < sizeof words / sizeof *words; k++)
                    assert_non_null(strstr((const char *)text.data, words[k]));
                buffer_free(&text);
                *byte = before;
            }
        buffer_free(&right);
        connect_answer_free(&answer);
    }
}

static void swap(struct connect_answer *answer, size_t a, size_t b)
{
    struct buffer kept = answer->events[a];
    answer->events[a] = answer->events[b];
    answer->events[b] = kept;
}

static void drop(struct connect_answer *answer, size_t at)
{
    buffer_free(&answer->events[at]);
    memmove(&answer->events[at], &answer->events[at + 1], (answer->count - at - 1) * sizeof *answer->events);
    answer->count--;
}

static void test_order(void **state)
{
    for (size_t i = 0; i < FORMS; i++) {
        struct connect_answer answer;
        if (!forms[i].is_stream)
            continue;
        connect_answer_make(forms[i].form, 1, "", &answer);
        size_t first = forms[i].form == CONNECT_RESPONSE ? 2 : 0;
        for (size_t j = first; j < first + 3; j++) {
            swap(&answer, j, j + 1);
            assert_check(&answer, &answer.pin, "answer.chain");
            swap(&answer, j, j + 1);
        }
        for (size_t j = first; j < first + 3; j++) {
            connect_answer_free(&answer);
            connect_answer_make(forms[i].form, 1, "", &answer);
            drop(&answer, j);
            assert_check(&answer, &answer.pin, "answer.chain");
        }
        connect_answer_free(&answer);
        connect_answer_make(forms[i].form, 1, "", &answer);
        drop(&answer, answer.count - 1);
        assert_check(&answer, &answer.pin, "answer.end");
        if (forms[i].form != CONNECT_RESPONSE) {
            drop(&answer, answer.count - 1);
            buffer_append_text(&answer.events[answer.count++], "[DONE]");
            assert_check(&answer, &answer.pin, "answer.receipt");
        }
        connect_answer_free(&answer);
    }
}

static void test_binding(void **state)
{
    struct connect_answer answer;
    connect_answer_make(CONNECT_CHAT, 1, "", &answer);
    struct connect_pin pin = answer.pin;
    pin.receipt_key[0] ^= 1;
    assert_check(&answer, &pin, "receipt.key");
    pin = answer.pin;
    pin.models[0][0] ^= 1;
    assert_check(&answer, &pin, "receipt.model_root");
    pin = answer.pin;
    pin.model_count = 0;
    assert_check(&answer, &pin, "receipt.model_root");
    pin = answer.pin;
    pin.is_simulated = 0;
    assert_check(&answer, &pin, "receipt.simulated");
    answer.id[0] ^= 1;
    assert_check(&answer, &answer.pin, "receipt.id");
    answer.id[0] ^= 1;
    answer.salt[0] ^= 1;
    assert_check(&answer, &answer.pin, "answer.chain");
    answer.salt[0] = 'x';
    assert_check(&answer, &answer.pin, "answer.headers");
    connect_answer_free(&answer);
    connect_answer_make(CONNECT_CHAT, 1, "", &answer);
    buffer_append_byte(&answer.request, ' ');
    assert_check(&answer, &answer.pin, "receipt.request");
    connect_answer_free(&answer);
}

/* What is asked for against what was in effect (connect_answer.h). */
static void test_parameters(void **state)
{
    static const struct {
        const char *more, *check;
    } cases[] = {
        {",\"temperature2\":1", ""},
        {",\"top_p\":1,\"top_k\":0,\"min_p\":0.0,\"n\":1,\"presence_penalty\":0e0", ""},
        {",\"top_p\":null,\"seed\":null,\"stop\":null,\"n\":null", ""},
        {",\"top_p\":0.9999994", "parameters.top_p"},
        {",\"top_p\":0.9999996", ""},
        {",\"top_k\":-1", ""},
        {",\"top_k\":4", "parameters.top_k"},
        {",\"min_p\":0.1", "parameters.min_p"},
        {",\"repetition_penalty\":1.0,\"repeat_penalty\":3", ""},
        {",\"repeat_penalty\":1.5", "parameters.repetition_penalty"},
        {",\"presence_penalty\":-0.5", "parameters.presence_penalty"},
        {",\"frequency_penalty\":\"0\"", "parameters.frequency_penalty"},
        {",\"seed\":18446744073709551611", ""},
        {",\"seed\":-5", ""},
        {",\"seed\":-1", ""},
        {",\"seed\":7", "parameters.seed"},
        {",\"stop\":[\"x\",\"\",\"yy\"]", ""},
        {",\"stop\":[\"x\"]", "parameters.stop"},
        {",\"stop\":\"x\"", "parameters.stop"},
        {",\"stop\":[\"yy\",\"x\"]", "parameters.stop"},
        {",\"max_tokens\":100", ""},
        {",\"max_tokens\":1000", ""},
        {",\"max_tokens\":99", "parameters.max_tokens"},
        {",\"max_tokens\":5,\"max_completion_tokens\":100", ""},
        {",\"max_tokens\":-1", ""},
        {",\"n\":2", "parameters.n"},
        {",\"logprobs\":true", "parameters.logprobs"},
        {",\"logprobs\":false", ""},
        {",\"ignore_eos\":true", "parameters.ignore_eos"},
        {",\"parallel_tool_calls\":false", "parameters.parallel_tool_calls"},
        {",\"reasoning_effort\":\"low\"", "parameters.reasoning_effort"},
        {",\"continue_final_message\":true", "parameters.continue_final_message"},
        {",\"add_generation_prompt\":false", "parameters.continue_final_message"},
        {",\"tools\":[]", "parameters.tools"},
        {",\"response_format\":{\"type\":\"json_object\"}", "parameters.response_format"},
        {",\"logit_bias\":{\"5\":1}", "parameters.logit_bias"},
        {",\"chat_template_kwargs\":{}", "parameters.chat_template_kwargs"},
        {",\"tool_choice\":\"none\"", ""},
        {",\"tool_choice\":\"required\"", "parameters.tool_choice"},
        {",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}}", "parameters.tool_choice"},
        {",\"timeout\":5", "parameters.timeout"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct connect_answer answer;
        struct connect_problem problem;
        struct buffer text = {0};
        connect_answer_make(CONNECT_CHAT, 1, cases[i].more, &answer);
        run(&answer, &answer.pin, &problem, &text);
        if (strcmp(problem.check, cases[i].check) != 0)
            fail_msg("%s: found \"%s\" (%s), expected \"%s\"", cases[i].more, problem.check, problem.text, cases[i].check);
        buffer_free(&text);
        connect_answer_free(&answer);
    }
}

/* Events that deliver what no step covers, by members that clients read. */
static void test_uncovered(void **state)
{
    static const struct {
        const char *event, *check;
    } cases[] = {
        {"{\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}", "answer.text"},
        {"{\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"reasoning\":\"x\"}}]}", "answer.text"},
        {"{\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"x\"}}]}", "answer.text"},
        {"{\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"refusal\":\"x\"}}]}", "answer.members"},
        {"{\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"x\"}}]}", "answer.json"},
        {"{\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\\u0000\"}}]}", "answer.json"},
        {"{\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"type\":\"function\\u0000\","
         "\"function\":{\"arguments\":\"x\"}}]}}]}", "answer.calls"},
        {"{\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}", "answer.text"},
        {"{\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"stop_reason\":\"x\"}]}", "answer.text"},
        {"{\"model\":\"m\",\"choices\":[{\"index\":0,\"message\":{\"content\":\"x\"}}]}", "answer.members"},
        {"{\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"function_call\":{\"name\":\"x\"}}}]}", "answer.members"},
        {"{\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"x\"}}]}}]}",
         "answer.text"},
        {"{\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c\","
         "\"function\":{\"name\":\"f\"}}]}}]}", "answer.text"},
        {"{\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{}},{\"index\":1,\"delta\":{}}]}", "answer.json"},
        {"{\"model\":\"m\",\"choices\":[{\"index\":1000000,\"delta\":{}}]}", "answer.choice"},
        {"{\"model\":\"m\",\"choices\":[{\"index\":-1,\"delta\":{}}]}", "answer.json"},
        {"{\"model\":\"m\",\"choices\":[],\"message\":\"x\"}", "answer.members"},
        {"{\"model\":\"m\",\"choices\":[],\"choices2\":[1]}", "answer.members"},
        {"{\"choices\":[]}", "answer.model"},
        {"{\"model\":\"other\",\"choices\":[{\"index\":0,\"delta\":{}}]}", "answer.model"},
        {"{\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"}}],\"bulla\":{\"choice\":0,\"steps\":"
         "[{\"part\":\"content\",\"text\":\"hidden\"}],\"chain\":\"\"}}", "answer.text"},
        {"{\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{}}],\"bulla\":{\"choice\":0,\"steps\":"
         "[{\"part\":\"tool_call\",\"text\":\"\\u0000\\u00000\"}],\"chain\":\"\"}}", "answer.calls"},
        {"{\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"\\u00000\","
         "\"function\":{\"name\":\"\"}}]}}],\"bulla\":{\"choice\":0,\"steps\":[{\"part\":\"tool_call\"}],\"chain\":\"\"}}",
         "answer.calls"},
        {"{\"model\":\"m\",\"choices\":[],\"bulla\":{\"verified\":false}}", "answer.verified"},
        {"[1]", "answer.json"},
        {"{}", "answer.json"},
        {"", "answer.json"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct connect_answer answer;
        struct connect_problem problem;
        struct buffer text = {0};
        connect_answer_make(CONNECT_CHAT, 1, "", &answer);
        struct buffer *second = &answer.events[1];
        buffer_clear(second);
        buffer_append_text(second, cases[i].event);
        run(&answer, &answer.pin, &problem, &text);
        if (strcmp(problem.check, cases[i].check) != 0)
            fail_msg("%s: found \"%s\" (%s), expected \"%s\"", cases[i].event, problem.check, problem.text, cases[i].check);
        buffer_free(&text);
        connect_answer_free(&answer);
    }
}

/* What a word is followed by after a zero byte is part of it for a client. */
static void test_words_with_more(void **state)
{
    static const char word[] = "response.output_text.delta";
    struct connect_answer answer;
    struct connect_problem problem;
    struct buffer text = {0};
    size_t changed = 0;
    connect_answer_make(CONNECT_RESPONSE, 1, "", &answer);
    for (size_t i = 0; i < answer.count; i++) {
        struct buffer *event = &answer.events[i], made = {0};
        char *at = strstr((char *)event->data, word);
        if (!at)
            continue;
        size_t end = (size_t)(at - (char *)event->data) + strlen(word);
        buffer_append(&made, event->data, end);
        buffer_append_text(&made, "\\u0000");
        buffer_append(&made, event->data + end, event->length - end);
        buffer_free(event);
        *event = made;
        changed++;
    }
    assert_true(changed > 0);
    run(&answer, &answer.pin, &problem, &text);
    assert_string_equal(problem.check, "answer.members");
    buffer_free(&text);
    connect_answer_free(&answer);
}

/* Of a stream that does not end: it fails before memory does. */
static void test_length(void **state)
{
    enum { TEXT = 1 << 20, MOST = 64 };
    struct arena arena = {0};
    struct connect_check *check;
    struct connect_problem problem = {0};
    uint8_t salt[RECEIPT_SALT] = {0}, chain[RECEIPT_HASH];
    char zeros[2 * RECEIPT_SALT + 1], hex[2 * RECEIPT_HASH + 1], *text = malloc(TEXT);
    struct connect_asked asked = {.form = CONNECT_CHAT, .body = "{}", .length = 2};
    int count = 0;
    memset(text, 'x', TEXT);
    memset(zeros, '0', sizeof zeros - 1);
    zeros[sizeof zeros - 1] = 0;
    asked.json = json_parse(asked.body, asked.length, "the request", &arena, NULL);
    assert_int_equal(connect_check_open(&asked, zeros + 2 * (RECEIPT_SALT - RECEIPT_ID), zeros, &check, &problem), BULLA_OK);
    assert_ok(receipt_chain_start(salt, 0, chain, NULL), (bulla_error){0});
    while (!problem.check[0] && count < MOST) {
        struct buffer event = {0}, out = {0};
        enum connect_event what;
        assert_ok(receipt_chain_step(chain, RECEIPT_CONTENT, NULL, 0, text, TEXT, NULL), (bulla_error){0});
        hex_encode(chain, sizeof chain, hex);
        buffer_append_text(&event, "{\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"");
        buffer_append(&event, text, TEXT);
        buffer_append_format(&event, "\"}}],\"bulla\":{\"choice\":0,\"steps\":[{\"part\":\"content\"}],\"chain\":\"%s\"}}", hex);
        count += connect_check_event(check, (const char *)event.data, event.length, &out, &what, &problem) == BULLA_OK;
        buffer_free(&event);
        buffer_free(&out);
    }
    assert_string_equal(problem.check, "answer.length");
    assert_int_equal(count, 31); /* each counts twice: as it is, and as JSON */
    connect_check_close(check);
    arena_free(&arena);
    free(text);
}

static void test_allocation_failures(void **state)
{
    for (size_t i = 0; i < FORMS; i++) {
        struct connect_answer answer;
        struct connect_problem problem = {.check = "x"};
        connect_answer_make(forms[i].form, forms[i].is_stream, "", &answer);
        for (uint64_t n = 1; problem.check[0] && n < 10000; n++) {
            struct buffer text = {0};
            buffer_append(&text, "", 0);
            memory_inject_failure(n, 0);
            run(&answer, &answer.pin, &problem, &text);
            memory_inject_failure(0, 0);
            buffer_free(&text);
        }
        assert_string_equal(problem.check, "");
        connect_answer_free(&answer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_honest),     cmocka_unit_test(test_changed_bytes), cmocka_unit_test(test_order),
        cmocka_unit_test(test_binding),    cmocka_unit_test(test_parameters),    cmocka_unit_test(test_uncovered),
        cmocka_unit_test(test_words_with_more),
        cmocka_unit_test(test_length),     cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
