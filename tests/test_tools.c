/* Tool calls' forms: found in templates, forced by a grammar's specification, and what was forced is parsed. */
#include "test.h"

#include "base/json.h"
#include "base/memory.h"
#include "serve/tools.h"

static void assert_format(const char *chat_template, int calls, int thinks)
{
    struct tool_format format = tool_format_detect(chat_template, strlen(chat_template));
    if (format.calls != (unsigned)calls || format.thinks != thinks)
        fail_msg("%s: found %d, %d; expected %d, %d", chat_template, (int)format.calls, format.thinks, calls, thinks);
}

static void detection(void **unused)
{
    assert_format("", TOOL_FORMAT_NONE, 0);
    assert_format("<tool_call>", TOOL_FORMAT_NONE, 0);
    assert_format("{% for m in messages %}{{ m.content }}{% endfor %}", TOOL_FORMAT_NONE, 0);
    assert_format("{{ '<think>' }}{{ messages }}", TOOL_FORMAT_NONE, 1);
    assert_format("{% if tools %}{{ '<tool_call>\n{\"name\": ..., \"arguments\": ...}' }}{{ m.tool_calls }}{% endif %}",
                  TOOL_FORMAT_HERMES, 0);
    assert_format("{% if tools %}{{ \"<tool_call>{\\\"name\\\": , \\\"arguments\\\": }<think>\" }}{{ m.tool_calls }}",
                  TOOL_FORMAT_HERMES, 1);
    assert_format("{{ tools }}{{ m.tool_calls }}{{ '<tool_call>\n<function=' }}\"arguments\"", TOOL_FORMAT_NONE, 0);
    assert_format("{{ tools }}{{ m.tool_calls }}{{ '<tool_call>f\n<arg_key>' }}\"arguments\"", TOOL_FORMAT_NONE, 0);
    assert_format("{{ tools }}{{ m.tool_calls }}{{ '<tool_call> <tool_calls>[{' }}\"arguments\"", TOOL_FORMAT_NONE, 0);
    assert_format("{{ tools }}{{ m.tool_calls }}[TOOL_CALLS][", TOOL_FORMAT_MISTRAL, 0);
    assert_format("{{ tools }}{{ m.tool_calls }}[TOOL_CALLS]name[ARGS]", TOOL_FORMAT_MISTRAL_ARGS, 0);
    assert_format("{{ tools }}{{ m.tool_calls }}<|start_header_id|>{'{\"name\": \"', '\"parameters\": '}", TOOL_FORMAT_LLAMA3, 0);
    assert_format("{{ tools }}{{ m.tool_calls }}<|start_header_id|>\"parameters\"<function=", TOOL_FORMAT_NONE, 0);
    assert_format("{{ messages }}<|start_header_id|>\"parameters\"", TOOL_FORMAT_NONE, 0);
}

static void marks(void **unused)
{
    const struct tool_format mistral = {TOOL_FORMAT_MISTRAL_ARGS, 0}, hermes = {TOOL_FORMAT_HERMES, 1}, none = {0};
    assert_true(tool_format_is_mark(&mistral, "[ARGS]", 6));
    assert_true(tool_format_is_mark(&mistral, "[TOOL_CALLS]", 12));
    assert_false(tool_format_is_mark(&mistral, "[TOOL_CALLS]", 11));
    assert_false(tool_format_is_mark(&mistral, "<think>", 7));
    assert_true(tool_format_is_mark(&hermes, "</think>", 8));
    assert_true(tool_format_is_mark(&hermes, "</tool_call>", 12));
    assert_false(tool_format_is_mark(&hermes, "[ARGS]", 6));
    assert_false(tool_format_is_mark(&none, "<tool_call>", 11));
}

/* --- specifications --- */

static const char TOOLS[] =
    "[{\"type\": \"function\", \"function\": {\"name\": \"weather\", \"parameters\": {\"type\": \"object\", "
    "\"properties\": {\"place\": {\"type\": \"string\"}, \"days\": {\"type\": \"integer\", \"maximum\": 1.50}}}}},"
    "{\"type\": \"function\", \"function\": {\"name\": \"say \\\"hi\\\"\", \"parameters\": {\"properties\": {}}}},"
    "{\"type\": \"function\", \"function\": {\"name\": \"now\"}}]";

static int specify(int calls, const char *tools, const char *named, int parallel, struct buffer *out, bulla_error *error)
{
    struct tool_format format = {calls, 0};
    struct arena arena = {0};
    const struct json *value = json_parse(tools, strlen(tools), "tools", &arena, error);
    assert_non_null(value);
    int code = tool_format_grammar(&format, value, named, parallel, out, error);
    arena_free(&arena);
    buffer_append_byte(out, 0);
    return code;
}

static void assert_specification(int calls, const char *named, int parallel, const char *expected)
{
    struct buffer out = {0};
    bulla_error error = {0};
    assert_ok(specify(calls, TOOLS, named, parallel, &out, &error), error);
    assert_string_equal((char *)out.data, expected);
    buffer_free(&out);
}

static void specifications(void **unused)
{
    assert_specification(TOOL_FORMAT_HERMES, "now", 0,
                         "{\"sequence\":[{\"choice\":[{\"sequence\":[{\"literal\":\"<tool_call>\\n{\\\"name\\\": \\\"now\\\", "
                         "\\\"arguments\\\": \"},{\"literal\":\"{}\"},{\"literal\":\"}\\n</tool_call>\"}]}]}]}");
    assert_specification(TOOL_FORMAT_HERMES, "weather", 0,
                         "{\"sequence\":[{\"choice\":[{\"sequence\":[{\"literal\":\"<tool_call>\\n{\\\"name\\\": \\\"weather\\\", "
                         "\\\"arguments\\\": \"},{\"schema\":{\"type\":\"object\",\"properties\":{\"place\":{\"type\":\"string\"},"
                         "\"days\":{\"type\":\"integer\",\"maximum\":1.50}}}},{\"literal\":\"}\\n</tool_call>\"}]}]}]}");
    assert_specification(TOOL_FORMAT_LLAMA3, "say \"hi\"", 1,
                         "{\"sequence\":[{\"choice\":[{\"sequence\":[{\"literal\":\"{\\\"name\\\": \\\"say \\\\\\\"hi\\\\\\\"\\\", "
                         "\\\"parameters\\\": \"},{\"schema\":{\"type\":\"object\",\"properties\":{}}},{\"literal\":\"}\"}]}]}]}");
    assert_specification(TOOL_FORMAT_MISTRAL_ARGS, "now", 0,
                         "{\"sequence\":[{\"choice\":[{\"sequence\":[{\"literal\":\"[TOOL_CALLS]now[ARGS]\"},{\"literal\":\"{}\"}]}]}]}");
    struct buffer out = {0};
    bulla_error error = {0};
    assert_ok(specify(TOOL_FORMAT_MISTRAL, TOOLS, NULL, 1, &out, &error), error);
    const char *text = (char *)out.data;
    assert_non_null(strstr(text, "{\"sequence\":[{\"literal\":\"[\"},{\"choice\":["));
    assert_non_null(strstr(text, ",{\"repeat\":{\"sequence\":[{\"literal\":\", \"},{\"choice\":["));
    assert_non_null(strstr(text, "\"min\":0,\"max\":15},{\"literal\":\"]\"}]}"));
    struct arena arena = {0};
    assert_non_null(json_parse(text, out.length - 1, "specification", &arena, &error));
    arena_free(&arena);
    buffer_free(&out);
}

static void refusals(void **unused)
{
    static const struct { int calls; const char *tools, *named; int code; const char *says; } cases[] = {
        {TOOL_FORMAT_NONE, TOOLS, NULL, BULLA_E_UNSUPPORTED, "chat template"},
        {TOOL_FORMAT_HERMES, TOOLS, "later", BULLA_E_USAGE, "later"},
        {TOOL_FORMAT_HERMES, "[]", NULL, BULLA_E_USAGE, "empty"},
        {TOOL_FORMAT_HERMES, "{}", NULL, BULLA_E_USAGE, "no array"},
        {TOOL_FORMAT_HERMES, "[{\"function\": {}}]", NULL, BULLA_E_USAGE, "tools[0].function.name"},
        {TOOL_FORMAT_HERMES, "[{\"function\": {\"name\": \"\"}}]", NULL, BULLA_E_USAGE, "tools[0].function.name"},
        {TOOL_FORMAT_HERMES, "[{\"function\": {\"name\": \"f\", \"parameters\": {\"type\": \"array\"}}}]", NULL, BULLA_E_USAGE,
         "\"f\""},
        {TOOL_FORMAT_HERMES, "[{\"function\": {\"name\": \"f\", \"parameters\": 5}}]", NULL, BULLA_E_USAGE, "\"f\""}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buffer out = {0};
        bulla_error error = {0};
        assert_int_equal(specify(cases[i].calls, cases[i].tools, cases[i].named, 0, &out, &error), cases[i].code);
        assert_non_null(strstr(error.text, cases[i].says));
        buffer_free(&out);
    }
}

static void thinking(void **unused)
{
    static const char inner[] = "{\"object\":true}";
    static const struct { int thinks, is_thinking; const char *expected; } cases[] = {
        {0, 0, "{\"object\":true}"},
        {1, 1, "{\"sequence\":[{\"text\":{\"until\":[\"</think>\"]}},{\"literal\":\"</think>\\n\\n\"},{\"object\":true}]}"},
        {1, 0, "{\"sequence\":[{\"repeat\":{\"sequence\":[{\"literal\":\"<think>\"},{\"text\":{\"until\":[\"</think>\"]}},"
               "{\"literal\":\"</think>\\n\\n\"}]},\"min\":0,\"max\":1},{\"object\":true}]}"}};
    for (size_t i = 0; i < 3; i++) {
        struct tool_format format = {TOOL_FORMAT_NONE, cases[i].thinks};
        struct buffer out = {0};
        bulla_error error = {0};
        assert_ok(tool_format_grammar_thinking(&format, cases[i].is_thinking, inner, strlen(inner), &out, &error), error);
        assert_string_equal((char *)out.data, cases[i].expected);
        buffer_free(&out);
    }
}

/* --- what a specification demands is what the parser takes --- */

/* The first text that a specification allows: first of a choice, repeats twice, {} for a schema. */
static void write_first(const struct json *specification, struct buffer *out)
{
    const char *kind = specification->keys[0];
    const struct json *value = specification->items[0];
    if (strcmp(kind, "literal") == 0)
        buffer_append(out, value->text, value->length);
    else if (strcmp(kind, "schema") == 0)
        buffer_append_text(out, "{\"place\": \"}\"}");
    else if (strcmp(kind, "choice") == 0)
        write_first(value->items[0], out);
    else if (strcmp(kind, "repeat") == 0)
        for (int i = 0; i < 2; i++)
            write_first(value, out);
    else if (strcmp(kind, "sequence") == 0)
        for (size_t i = 0; i < value->length; i++)
            write_first(value->items[i], out);
    else
        fail_msg("%s", kind);
}

static void hear(void *context, const struct answer_delta *delta)
{
    struct buffer *heard = context;
    assert_true(delta->tool >= 0);
    if (delta->tool_name)
        buffer_append_format(heard, "%d %s ", delta->tool, delta->tool_name);
    buffer_append(heard, delta->arguments, delta->arguments_length);
}

static void forced_is_parsed(void **unused)
{
    for (int calls = TOOL_FORMAT_HERMES; calls <= TOOL_FORMAT_MISTRAL_ARGS; calls++)
        for (int parallel = 0; parallel < 2; parallel++) {
            struct buffer out = {0}, text = {0}, heard = {0};
            struct arena arena = {0};
            bulla_error error = {0};
            assert_ok(specify(calls, TOOLS, NULL, parallel, &out, &error), error);
            const struct json *value = json_parse((char *)out.data, out.length - 1, "specification", &arena, &error);
            assert_non_null(value);
            write_first(value, &text);
            struct tool_format format = {calls, 0};
            struct output_parser_sink sink = {&heard, hear};
            struct output_parser *parser;
            assert_ok(output_parser_open(&format, 1, 0, 3, &sink, &parser, &error), error);
            assert_ok(output_parser_push(parser, (char *)text.data, text.length, &error), error);
            assert_ok(output_parser_end(parser, &error), error);
            assert_int_equal(output_parser_calls(parser), parallel && calls != TOOL_FORMAT_LLAMA3 ? 3 : 1);
            assert_memory_equal(heard.data, "0 weather {\"place\": \"}\"}", 24);
            output_parser_close(parser);
            arena_free(&arena);
            buffer_free(&out);
            buffer_free(&text);
            buffer_free(&heard);
        }
}

static void allocation_failures(void **unused)
{
    struct arena arena = {0};
    struct tool_format format = {TOOL_FORMAT_HERMES, 0};
    bulla_error error = {0};
    const struct json *tools = json_parse(TOOLS, strlen(TOOLS), "tools", &arena, &error);
    assert_non_null(tools);
    int done = 0;
    for (uint64_t n = 1; !done; n++) {
        struct buffer out = {0};
        bulla_error own = {0};
        memory_inject_failure(n, 0);
        int code = tool_format_grammar(&format, tools, NULL, 1, &out, &own);
        memory_inject_failure(0, 0);
        done = code == BULLA_OK;
        assert_true(done || code == BULLA_E_MEMORY);
        buffer_free(&out);
        assert_true(n < 100);
    }
    arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(detection),
        cmocka_unit_test(marks),
        cmocka_unit_test(specifications),
        cmocka_unit_test(refusals),
        cmocka_unit_test(thinking),
        cmocka_unit_test(forced_is_parsed),
        cmocka_unit_test(allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
