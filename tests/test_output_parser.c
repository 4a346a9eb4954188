/* An answer's text taken apart: each form, what is broken in it, and the same pieces however the text is cut. */
#include "test.h"

#include "base/buffer.h"
#include "base/memory.h"
#include "serve/tools.h"

enum { HERMES = TOOL_FORMAT_HERMES, LLAMA3 = TOOL_FORMAT_LLAMA3, MISTRAL = TOOL_FORMAT_MISTRAL,
       ARGS = TOOL_FORMAT_MISTRAL_ARGS, NONE = TOOL_FORMAT_NONE };

/* All that came, in one line: R(reasoning) T(text) C0(name:arguments), neighbours of a kind joined. */
struct heard {
    struct buffer line;
    char kind;
    int32_t tool;
    int pieces;
    char first_id[64];
};

static void begin_kind(struct heard *heard, char kind, int32_t tool)
{
    if (heard->kind == kind && heard->tool == tool)
        return;
    if (heard->kind)
        buffer_append_byte(&heard->line, ')');
    heard->kind = kind;
    heard->tool = tool;
    buffer_append_byte(&heard->line, (uint8_t)kind);
    if (kind == 'C')
        buffer_append_format(&heard->line, "%d", tool);
    buffer_append_byte(&heard->line, '(');
}

static void hear(void *context, const struct answer_delta *delta)
{
    struct heard *heard = context;
    heard->pieces++;
    assert_true((delta->text_length > 0) + (delta->reasoning_length > 0) + (delta->tool >= 0) == 1);
    if (delta->tool_id) {
        assert_non_null(delta->tool_name);
        assert_int_equal(delta->arguments_length, 0);
        begin_kind(heard, 'C', delta->tool);
        buffer_append_format(&heard->line, "%s:", delta->tool_name);
        if (delta->tool == 0)
            snprintf(heard->first_id, sizeof heard->first_id, "%s", delta->tool_id);
    } else if (delta->tool >= 0) {
        assert_true(heard->kind == 'C' && heard->tool == delta->tool); /* its first piece came before */
        buffer_append(&heard->line, delta->arguments, delta->arguments_length);
    } else if (delta->text_length) {
        begin_kind(heard, 'T', -1);
        buffer_append(&heard->line, delta->text, delta->text_length);
    } else {
        begin_kind(heard, 'R', -1);
        buffer_append(&heard->line, delta->reasoning, delta->reasoning_length);
    }
}

static uint64_t state = 11;

static size_t next_random(size_t below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (size_t)((state >> 33) % below);
}

/* `piece`: bytes a push; 0: at random. */
static size_t take_apart(int calls, int thinks, int is_thinking, const char *text, size_t length, size_t piece,
                         struct heard *heard)
{
    struct tool_format format = {calls, thinks};
    struct output_parser_sink sink = {heard, hear};
    struct output_parser *parser;
    bulla_error error = {0};
    *heard = (struct heard){.kind = 0, .tool = -2};
    assert_ok(output_parser_open(&format, calls != NONE, is_thinking, 7, &sink, &parser, &error), error);
    for (size_t at = 0; at < length;) {
        size_t size = piece ? piece : next_random(12);
        size = size > length - at ? length - at : size;
        assert_ok(output_parser_push(parser, text + at, size, &error), error);
        at += size;
    }
    assert_ok(output_parser_end(parser, &error), error);
    size_t found = output_parser_calls(parser);
    output_parser_close(parser);
    if (heard->kind)
        buffer_append_byte(&heard->line, ')');
    buffer_append_byte(&heard->line, 0);
    assert_int_equal(heard->line.error.code, BULLA_OK);
    return found;
}

static void check(int calls, int thinks, int is_thinking, const char *text, const char *expected)
{
    static const size_t sizes[] = {100000, 1, 2, 3, 5, 0, 0, 0};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct heard heard;
        take_apart(calls, thinks, is_thinking, text, strlen(text), sizes[i], &heard);
        if (strcmp((char *)heard.line.data, expected) != 0)
            fail_msg("%s\nin pieces of %zu gave\n%s, expected\n%s", text, sizes[i], (char *)heard.line.data, expected);
        buffer_free(&heard.line);
    }
}

#define CALL(name, arguments) "<tool_call>\n{\"name\": \"" name "\", \"arguments\": " arguments "}\n</tool_call>"

static void hermes(void **unused)
{
    check(HERMES, 0, 0, "Hello.", "T(Hello.)");
    check(HERMES, 0, 0, "", "");
    check(HERMES, 0, 0, CALL("f", "{\"a\": 1}"), "C0(f:{\"a\": 1})");
    check(HERMES, 0, 0, "\n" CALL("f", "{}") "\n", "C0(f:{})");
    check(HERMES, 0, 0, "Let me see.\n" CALL("f", "{}"), "T(Let me see.\n)C0(f:{})");
    check(HERMES, 0, 0, CALL("f", "{}") "\n" CALL("g", "{\"b\":[{},\"}\\\"{\"]}"),
          "C0(f:{})C1(g:{\"b\":[{},\"}\\\"{\"]})");
    check(HERMES, 0, 0, CALL("f", "{}") "\n\nDone.", "C0(f:{})T(\n\nDone.)");
    check(HERMES, 0, 0, CALL("f", "{}") " <b> " CALL("g", "{}") ".", "C0(f:{})T( <b> )C1(g:{})T(.)");
    /* The closing mark is left out, or the end comes early. */
    check(HERMES, 0, 0, "<tool_call>{\"name\":\"f\",\"arguments\":{}}\n" CALL("g", "{}"), "C0(f:{})C1(g:{})");
    check(HERMES, 0, 0, "<tool_call>{\"name\":\"f\",\"arguments\":{}}", "C0(f:{})");
    check(HERMES, 0, 0, "<tool_call>{\"name\":\"f\",\"arguments\":{}}Done.", "C0(f:{})T(Done.)");
    check(HERMES, 0, 0, "<tool_call>{\"name\":\"f\",\"arguments\":{}", "C0(f:{})");
    check(HERMES, 0, 0, "<tool_call>{\"name\":\"f\",\"arguments\":{\"a\": \"x", "C0(f:{\"a\": \"x)");
    check(HERMES, 0, 0, "<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool", "C0(f:{})T(</tool)");
    /* Members in any order, others passed over, no arguments, the name escaped. */
    check(HERMES, 0, 0, "<tool_call>{\"arguments\": {\"a\": [1, 2]} , \"name\" : \"f\" }</tool_call>", "C0(f:{\"a\": [1, 2]})");
    check(HERMES, 0, 0, "<tool_call>{\"id\": -1.5e3, \"t\": null ,\"u\":[{\"name\":\"x\"}], \"name\":\"f\",\"parameters\":{}, "
          "\"v\":\"}\", \"w\":true}</tool_call>", "C0(f:{})");
    check(HERMES, 0, 0, "<tool_call>{\"name\":\"f\"}</tool_call>", "C0(f:{})");
    check(HERMES, 0, 0, "<tool_call>{\"name\":\"\\u00e9\\\"\",\"arguments\":{}}</tool_call>", "C0(\xC3\xA9\":{})");
    check(HERMES, 0, 0, "<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":1},\"arguments\":{\"b\":2}}</tool_call>",
          "C0(f:{\"a\":1})");
    /* Marks that are none. */
    check(HERMES, 0, 0, "<<tool_call <tool_calls> </tool_call>", "T(<<tool_call <tool_calls> </tool_call>)");
    check(HERMES, 0, 0, "a <" CALL("f", "{}"), "T(a <)C0(f:{})");
    check(HERMES, 0, 0, "a <", "T(a <)");
    check(HERMES, 0, 0, "  <tool_", "T(  <tool_)");
    check(NONE, 0, 0, " " CALL("f", "{}"), "T( " CALL("f", "{}") ")");
    check(HERMES, 0, 0, "<think>a</think>b", "T(<think>a</think>b)");
}

static void hermes_broken(void **unused)
{
    static const char *const broken[] = {
        "<tool_call>", "<tool_call>\n", "<tool_call>f()</tool_call>", "<tool_call>{}</tool_call>",
        "<tool_call>{\"name\": 1, \"arguments\": {}}</tool_call>", "<tool_call>{\"name\": \"\", \"arguments\": {}}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"arguments\": \"{}\"}</tool_call>", "<tool_call>{\"name\": \"f\" \"arguments\": {}}",
        "<tool_call>{\"name\": \"f\", arguments: {}}", "<tool_call>{\"arguments\": {]}", "<tool_call>{\"name\": \"\\ud800\"}",
        "<tool_call>{\"arguments\": {}}</tool_call>", "<tool_call>[{\"name\": \"f\"}]</tool_call>",
        "\n <tool_call> {\"name", "<tool_call>{\"x\": }", "<tool_call>{\"x\": 1]"};
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        char expected[300], text[400], both[500];
        snprintf(expected, sizeof expected, "T(%s)", broken[i]);
        check(HERMES, 0, 0, broken[i], expected);
        if (broken[i][strlen(broken[i]) - 1] == 'e')
            continue; /* what follows would still be part of it */
        snprintf(text, sizeof text, "%s!" CALL("g", "{}"), broken[i]);
        snprintf(both, sizeof both, "T(%s!)C0(g:{})", broken[i]);
        check(HERMES, 0, 0, text, both);
    }
    check(HERMES, 0, 0, "<tool_call>\n" CALL("f", "{}"), "T(<tool_call>\n)C0(f:{})");
    /* Behind the arguments' beginning it stays a call. */
    check(HERMES, 0, 0, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": ]} b", "C0(f:{\"a\": )T(]} b)");
    check(HERMES, 0, 0, "<tool_call>{\"name\": \"f\", \"arguments\": {}, ]", "C0(f:{})T(, ])");
}

static void thinking(void **unused)
{
    check(NONE, 1, 0, "<think>\nHm.\n</think>\n\nYes.", "R(Hm.)T(Yes.)");
    check(NONE, 1, 0, "\n<think>a\n\nb</think> c\n", "R(a\n\nb)T( c\n)");
    check(NONE, 1, 0, "<think>\n\n</think>\n\n", "");
    check(NONE, 1, 0, "No.", "T(No.)");
    check(NONE, 1, 0, "What <think> is </think>", "T(What <think> is </think>)");
    check(NONE, 1, 0, "<think>a", "R(a)");
    check(NONE, 1, 0, "<think>a\n\n", "R(a)");
    check(NONE, 1, 0, "<think>a\n</thi", "R(a\n</thi)");
    check(NONE, 1, 0, "<think>a</think>", "R(a)");
    check(NONE, 1, 0, "<think>a<b</thin></think>\n<think>b</think>", "R(a<b</thin>)T(<think>b</think>)");
    check(NONE, 1, 0, "<think><think>a</think>b", "R(<think>a)T(b)");
    check(NONE, 0, 1, "Hm.\n</think>\n\nYes.", "R(Hm.)T(Yes.)");
    check(NONE, 1, 1, "\n<think>\nHm.</think>Yes.", "R(Hm.)T(Yes.)");
    check(NONE, 1, 1, "</think>\n \nYes.", "T( \nYes.)");
    check(NONE, 1, 1, "<th", "R(<th)");
    check(NONE, 1, 1, "<thing", "R(<thing)");
    check(NONE, 0, 0, "<think>a</think>", "T(<think>a</think>)");
    check(HERMES, 1, 0, "<think>" CALL("x", "{}") "</think>\n\n" CALL("f", "{}"), "R(" CALL("x", "{}") ")C0(f:{})");
    check(HERMES, 1, 0, " \n" CALL("f", "{}") "\n<think>", "C0(f:{})T(\n<think>)");
    check(HERMES, 1, 1, "a</think>b" CALL("f", "{}"), "R(a)T(b)C0(f:{})");
}

static void llama3(void **unused)
{
    check(LLAMA3, 0, 0, "{\"name\": \"f\", \"parameters\": {\"a\": \"b\"}}", "C0(f:{\"a\": \"b\"})");
    check(LLAMA3, 0, 0, "\n{\"type\": \"function\", \"name\": \"f\", \"parameters\": {}}", "C0(f:{})");
    check(LLAMA3, 0, 0, "<|python_tag|>{\"name\": \"f\", \"parameters\": {}}", "C0(f:{})");
    check(LLAMA3, 0, 0, "So: <|python_tag|>{\"name\": \"f\"}", "T(So: )C0(f:{})");
    check(LLAMA3, 0, 0, "{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"g\", \"parameters\": {}}", "C0(f:{})C1(g:{})");
    check(LLAMA3, 0, 0, "{\"name\": \"f\", \"parameters\": {}}{\"name\": \"g\", \"parameters\": {}}", "C0(f:{})C1(g:{})");
    check(LLAMA3, 0, 0, "{\"name\": \"f\", \"parameters\": {}} and", "C0(f:{})T( and)");
    /* JSON that is an answer. */
    check(LLAMA3, 0, 0, "{\"city\": \"Paris\"}", "T({\"city\": \"Paris\"})");
    check(LLAMA3, 0, 0, "{\"name\": \"Ada\", \"age\": 36}", "T({\"name\": \"Ada\", \"age\": 36})");
    check(LLAMA3, 0, 0, "{\"name\": \"Ada\", \"age\": 36, \"parameters\": {}}",
          "T({\"name\": \"Ada\", \"age\": 36, \"parameters\": {}})");
    check(LLAMA3, 0, 0, " {\"name\": \"Ada\"} {", "T( {\"name\": \"Ada\"} {)");
    check(LLAMA3, 0, 0, "So: {\"name\": \"f\", \"parameters\": {}}", "T(So: {\"name\": \"f\", \"parameters\": {}})");
    check(LLAMA3, 0, 0, "<|python_tag|>print(1)", "T(<|python_tag|>print(1))");
}

static void mistral(void **unused)
{
    check(MISTRAL, 0, 0, "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a\": 1}}]", "C0(f:{\"a\": 1})");
    check(MISTRAL, 0, 0, "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}, \"id\": \"123456789\"}, {\"name\": \"g\"}]\n",
          "C0(f:{})C1(g:{})");
    check(MISTRAL, 0, 0, "[{\"name\": \"f\", \"arguments\": {}},{\"arguments\": {}, \"name\": \"g\"}]", "C0(f:{})C1(g:{})");
    check(MISTRAL, 0, 0, "Well. [TOOL_CALLS][{\"name\": \"f\"}] So", "T(Well. )C0(f:{})T( So)");
    check(MISTRAL, 0, 0, "[{\"a\": 1}]", "T([{\"a\": 1}])");
    check(MISTRAL, 0, 0, "[1, 2]", "T([1, 2])");
    check(MISTRAL, 0, 0, "[{\"name\": \"Ada\"}]", "T([{\"name\": \"Ada\"}])");
    check(MISTRAL, 0, 0, "[TOOL_CALLS]", "T([TOOL_CALLS])");
    check(MISTRAL, 0, 0, "[TOOL_CALLS][]", "T([TOOL_CALLS][])");
    check(MISTRAL, 0, 0, "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {}}, {\"name\": 3}]", "C0(f:{})T(, {\"name\": 3}])");
    check(MISTRAL, 0, 0, "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {}} {", "C0(f:{})T( {)");
    check(ARGS, 0, 0, "[TOOL_CALLS]f[ARGS]{\"a\": {}}[TOOL_CALLS]g[CALL_ID]123456789[ARGS] {}", "C0(f:{\"a\": {}})C1(g:{})");
    check(ARGS, 0, 0, "Hm.[TOOL_CALLS]f[ARGS]{} x", "T(Hm.)C0(f:{})T( x)");
    check(ARGS, 0, 0, "[TOOL_CALLS]f[ARGS]{\"a", "C0(f:{\"a)");
    check(ARGS, 0, 0, "[TOOL_CALLS]f[ARGS]1", "T([TOOL_CALLS]f[ARGS]1)");
    check(ARGS, 0, 0, "[TOOL_CALLS][ARGS]{}", "T([TOOL_CALLS][ARGS]{})");
    check(ARGS, 0, 0, "[TOOL_CALLS]f{}", "T([TOOL_CALLS]f{})");
    check(ARGS, 0, 0, "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {}}]", "C0(f:{})");
}

static void ids(void **unused)
{
    struct heard first, second, other;
    const char *text = CALL("f", "{}"), *list = "[TOOL_CALLS][{\"name\": \"f\"}]";
    take_apart(HERMES, 0, 0, text, strlen(text), 1, &first);
    take_apart(HERMES, 0, 0, text, strlen(text), 0, &second);
    take_apart(MISTRAL, 0, 0, list, strlen(list), 0, &other);
    assert_string_equal(first.first_id, second.first_id);
    assert_int_equal(strlen(first.first_id), 5 + 24);
    assert_memory_equal(first.first_id, "call_", 5);
    assert_int_equal(strlen(other.first_id), 9);
    buffer_free(&first.line);
    buffer_free(&second.line);
    buffer_free(&other.line);
}

/* What is not held goes out at once. */
static void streaming(void **unused)
{
    struct tool_format format = {TOOL_FORMAT_HERMES, 0};
    struct heard heard = {.tool = -2};
    struct output_parser_sink sink = {&heard, hear};
    struct output_parser *parser;
    bulla_error error = {0};
    static const struct { const char *push, *so_far; } steps[] = {
        {"Hi", "T(Hi"}, {" <", "T(Hi "}, {"b>", "T(Hi <b>"}, {"<tool_call>{\"name\": \"f\", ", "T(Hi <b>"},
        {"\"arguments\": {\"a\"", "T(Hi <b>)C0(f:{\"a\""}, {": 1", "T(Hi <b>)C0(f:{\"a\": 1"},
        {"}}", "T(Hi <b>)C0(f:{\"a\": 1}"}};
    assert_ok(output_parser_open(&format, 1, 0, 1, &sink, &parser, &error), error);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        assert_ok(output_parser_push(parser, steps[i].push, strlen(steps[i].push), &error), error);
        assert_int_equal(heard.line.length, strlen(steps[i].so_far));
        assert_memory_equal(heard.line.data, steps[i].so_far, heard.line.length);
    }
    output_parser_close(parser);
    buffer_free(&heard.line);
}

static void repeat(struct buffer *text, const char *part, size_t times)
{
    for (size_t i = 0; i < times; i++)
        buffer_append_text(text, part);
}

/* Memory that a parser takes for a text is bounded: nothing but what was said goes out. */
static void hostile(void **unused)
{
    static const struct { const char *before, *part; size_t times; const char *after; size_t calls; } cases[] = {
        {"<tool_call>{\"name\": \"", "x", 1000000, "\"}", 0},
        {"<tool_call>{\"name\": \"", "\\u0061", TOOL_MOST_NAME, "\"}", 1},
        {"<tool_call>{\"name\": \"", "\\u0061", TOOL_MOST_NAME + 1, "\"}", 0},
        {"<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"", "x", 1000000, "", 1},
        {"<tool_call>{\"name\": \"f\", \"arguments\": ", "{\"a\":", 1000000, "", 1},
        {"<tool_call>{\"arguments\": {\"a\": \"", "x", 1000000, "\"}, \"name\": \"f\"}", 0},
        {"<tool_call>{\"", "x", 1000000, "\": 1}", 0},
        {"<tool_call>", " ", 1000000, "{\"name\": \"f\"}", 0},
        {"", "\n", 1000000, CALL("f", "{}"), 1},
        {"", CALL("f", "{}"), 1000, "", TOOL_MOST_CALLS},
        {"", "<tool_call>", 100000, "", 0},
        {"", "<tool_call>{\"arguments\":{", 10000, "", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buffer text = {0};
        struct heard whole, pieces;
        buffer_append_text(&text, cases[i].before);
        repeat(&text, cases[i].part, cases[i].times);
        buffer_append_text(&text, cases[i].after);
        assert_int_equal(take_apart(HERMES, 1, 0, (char *)text.data, text.length, text.length, &whole), cases[i].calls);
        take_apart(HERMES, 1, 0, (char *)text.data, text.length, 0, &pieces);
        assert_string_equal((char *)whole.line.data, (char *)pieces.line.data);
        if (cases[i].calls == 0) { /* nothing of it is lost */
            assert_int_equal(whole.line.length, text.length + 4);
            assert_memory_equal(whole.line.data + 2, text.data, text.length);
        }
        buffer_free(&whole.line);
        buffer_free(&pieces.line);
        buffer_free(&text);
    }
}

/* Arguments nested to the limit are a call's; one level more breaks it there. */
static void depth(void **unused)
{
    for (size_t levels = 128; levels <= 129; levels++) {
        struct buffer text = {0}, expected = {0};
        buffer_append_text(&text, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": ");
        buffer_append_text(&expected, "C0(f:{\"a\": ");
        repeat(&text, "[", levels - 1);
        repeat(&expected, "[", 127);
        repeat(&text, "]", levels - 1);
        buffer_append_text(&expected, levels == 128 ? "" : ")T([");
        repeat(&expected, "]", levels - 1);
        buffer_append_text(&text, "}}</tool_call>");
        buffer_append_text(&expected, levels == 128 ? "})" : "}}</tool_call>)");
        check(HERMES, 0, 0, (char *)text.data, (char *)expected.data);
        buffer_free(&text);
        buffer_free(&expected);
    }
}

/* Texts put together from parts of forms: however they are cut, the same comes out. */
static void cuts(void **unused)
{
    static const char *const parts[] = {
        "<think>", "</think>", "<tool_call>", "</tool_call>", "\n", " ", "{", "}", "[", "]", "\"name\"", "\"arguments\"", ":", ",",
        "\"f\"", "{}", "{\"name\": \"f\", \"arguments\": ", "[TOOL_CALLS]", "[ARGS]", "<|python_tag|>", ";", "<", "text", "\\", "\"",
        "\"parameters\": {", "f[ARGS]{", "\xE2\x82\xAC", CALL("g", "{\"a\": \"}\"}")};
    size_t calls = 0;
    for (uint64_t i = 0; i < test_count(20000, 2000000); i++) {
        struct buffer text = {0};
        struct heard whole, bytes, random;
        size_t count = next_random(14), format = next_random(5);
        int thinks = (int)next_random(2), is_thinking = (int)next_random(2);
        for (size_t p = 0; p < count; p++)
            buffer_append_text(&text, parts[next_random(sizeof parts / sizeof parts[0])]);
        calls += take_apart((int)format, thinks, is_thinking, (char *)text.data, text.length, 100000, &whole);
        take_apart((int)format, thinks, is_thinking, (char *)text.data, text.length, 1, &bytes);
        take_apart((int)format, thinks, is_thinking, (char *)text.data, text.length, 0, &random);
        if (strcmp((char *)whole.line.data, (char *)bytes.line.data) != 0 ||
            strcmp((char *)whole.line.data, (char *)random.line.data) != 0)
            fail_msg("format %zu, %d, %d: %s gave\n%s\n%s\n%s", format, thinks, is_thinking, (char *)text.data,
                     (char *)whole.line.data, (char *)bytes.line.data, (char *)random.line.data);
        if (format == NONE && !thinks && !is_thinking && text.length)
            assert_memory_equal(whole.line.data + 2, text.data, text.length);
        buffer_free(&whole.line);
        buffer_free(&bytes.line);
        buffer_free(&random.line);
        buffer_free(&text);
    }
    assert_true(calls > 100);
}

static void ignore(void *context, const struct answer_delta *delta)
{
}

static void allocation_failures(void **unused)
{
    static const char *const texts[] = {"<think>a</think>b" CALL("f", "{\"a\": 1}") "c", "<tool_call>{\"name\": \"f"};
    for (size_t t = 0; t < 2; t++) {
        int done = 0;
        for (uint64_t n = 1; !done; n++) {
            struct tool_format format = {TOOL_FORMAT_HERMES, 1};
            struct output_parser_sink sink = {NULL, ignore};
            struct output_parser *parser = NULL;
            bulla_error error = {0};
            memory_inject_failure(n, 0);
            int code = output_parser_open(&format, 1, 0, 1, &sink, &parser, &error);
            for (const char *at = texts[t]; *at && code == BULLA_OK; at++)
                code = output_parser_push(parser, at, 1, &error);
            if (code == BULLA_OK)
                code = output_parser_end(parser, &error);
            memory_inject_failure(0, 0);
            done = code == BULLA_OK;
            assert_true(done || code == BULLA_E_MEMORY);
            output_parser_close(parser);
            assert_true(n < 100);
        }
    }
    output_parser_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hermes),
        cmocka_unit_test(hermes_broken),
        cmocka_unit_test(thinking),
        cmocka_unit_test(llama3),
        cmocka_unit_test(mistral),
        cmocka_unit_test(ids),
        cmocka_unit_test(streaming),
        cmocka_unit_test(hostile),
        cmocka_unit_test(depth),
        cmocka_unit_test(cuts),
        cmocka_unit_test(allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
