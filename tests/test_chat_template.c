/* Chat templates by themselves: texts, error sentences, limits, allocation
 * failures. tests/python/test_chat_template.py compares with jinja2. */
#include "test.h"

#include "base/memory.h"
#include "bulla/chat_template.h"
#include "bulla/tokenizer.h"

enum { NOW = 1753874645 };

static int render_source(const char *source, const char *variables, char **text, bulla_error *error)
{
    bulla_chat_template *chat_template;
    size_t length;
    bulla_error_clear(error);
    *text = NULL;
    int code = bulla_chat_template_compile(source, strlen(source), &chat_template, error);
    if (code != BULLA_OK) {
        assert_null(chat_template);
        return code;
    }
    code = bulla_chat_template_render(chat_template, variables, strlen(variables), NOW, text, &length, error);
    bulla_chat_template_free(chat_template);
    assert_int_equal(code, error->code);
    assert_true(code == BULLA_OK ? strlen(*text) == length : *text == NULL);
    return code;
}

static void assert_renders(const char *source, const char *variables, const char *expected)
{
    char *text;
    bulla_error error;
    if (render_source(source, variables, &text, &error) != BULLA_OK)
        fail_msg("%s: %s", source, error.text);
    assert_string_equal(text, expected);
    bulla_text_free(text);
}

static void assert_fails(const char *source, const char *variables, int code, const char *part)
{
    char *text;
    bulla_error error;
    if (render_source(source, variables, &text, &error) != code)
        fail_msg("%.200s: code %s, \"%s\"", source, bulla_code_name(error.code), error.text);
    if (!strstr(error.text, part))
        fail_msg("\"%s\" should say \"%s\"", error.text, part);
}

static const char conversation[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"Be brief.\"},{\"role\":\"user\",\"content\":\"Hi\\u00e9\"}],"
    "\"add_generation_prompt\":true,\"bos_token\":\"<s>\"}";

static void test_conversation(void **state)
{
    (void)state;
    assert_renders("{{ bos_token }}{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
                   "message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}"
                   "{{ '<|im_start|>assistant\\n' }}{% endif %}",
                   conversation,
                   "<s><|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi\xC3\xA9<|im_end|>\n"
                   "<|im_start|>assistant\n");
}

static void test_small_templates(void **state)
{
    (void)state;
    assert_renders("", "{}", "");
    assert_renders("plain\n", "{}", "plain");
    assert_renders("  {% if x %}\n yes\n  {% endif %}\nend", "{\"x\":1}", " yes\nend");
    assert_renders("{{ x | tojson }}", "{\"x\":{\"a\":[1,2.0,null,true,\"\\u00fc\"]}}",
                   "{\"a\": [1, 2.0, null, true, \"\xC3\xBC\"]}");
    assert_renders("{{ x }}", "{\"x\":{\"a\":[1,2.0,null,true,\"q\"]}}", "{'a': [1, 2.0, None, True, 'q']}");
    assert_renders("{{ strftime_now('%d %b %Y') }}", "{}", "30 Jul 2025");
    assert_renders("{% macro m(a, b='y') %}{{ a }}{{ b }}{% endmacro %}{{ m('x') }}{{ m(b=1, a=2) }}", "{}", "xy21");
    assert_renders("{{ x.missing is defined }}{{ x.missing }}", "{\"x\":{}}", "False");
    assert_renders("{{ x }}", "{\"x\":123456789012345678901234567890}", "123456789012345678901234567890");
    assert_renders("{{ '[1, {\"a\": 2}]' | from_json }}", "{}", "[1, {'a': 2}]");
    assert_renders("{% set block %} kept {% endset %}", "{}", "");
    assert_renders("a{% set block %}bcd{% endset %}", "{}", "a");
    assert_renders("{% set r = [] %}{% for i in range(3) %}{% set r = r + [i] %}{% endfor %}{{ r }}", "{}", "[]");
}

static void test_a_template_is_used_again(void **state)
{
    (void)state;
    bulla_chat_template *chat_template;
    bulla_error error = {0};
    char *text;
    size_t length;
    static const char source[] = "{% set ns = namespace(n=n) %}{% set ns.n = ns.n + 1 %}{{ ns.n }}";
    assert_ok(bulla_chat_template_compile(source, strlen(source), &chat_template, &error), error);
    for (int i = 0; i < 3; i++) {
        assert_ok(bulla_chat_template_render(chat_template, "{\"n\":1}", 7, NOW, &text, &length, &error), error);
        assert_string_equal(text, "2");
        bulla_text_free(text);
    }
    bulla_chat_template_free(chat_template);
    bulla_chat_template_free(NULL);
}

static void test_compile_errors(void **state)
{
    (void)state;
    static const struct {
        const char *source;
        int code;
        const char *part;
    } cases[] = {
        {"{{ x", BULLA_E_INPUT, "line 1: expected '}}', found the end"},
        {"\n{% if x %}", BULLA_E_INPUT, "line 2: expected 'elif' or 'else' or 'endif', found the end of the template"},
        {"{% endif %}", BULLA_E_UNSUPPORTED, "'endif'"},
        {"{# x", BULLA_E_INPUT, "a comment has no end"},
        {"{% raw %}x", BULLA_E_INPUT, "a raw block has no end"},
        {"{{ 'x }}", BULLA_E_INPUT, "a string has no end"},
        {"{{ x. }}", BULLA_E_INPUT, "expected a name or number after '.', found '}}'"},
        {"{{ (1 }}", BULLA_E_INPUT, "line 1"},
        {"{{ 1 2 }}", BULLA_E_INPUT, "expected '}}', found '2'"},
        {"{% for x y %}{% endfor %}", BULLA_E_INPUT, "expected 'in', found 'y'"},
        {"{% set 1 = 2 %}", BULLA_E_INPUT, "line 1"},
        {"{% break %}", BULLA_E_INPUT, "need a loop"},
        {"{{ x | nope }}", BULLA_E_UNSUPPORTED, "the filter 'nope' is not supported"},
        {"\n\n{{ x is nope }}", BULLA_E_UNSUPPORTED, "line 3: the test 'nope' is not supported"},
        {"{{ nope() }}", BULLA_E_UNSUPPORTED, "the function 'nope' is not supported"},
        {"{{ x.nope() }}", BULLA_E_UNSUPPORTED, "the method 'nope' is not supported"},
        {"{% nope %}", BULLA_E_UNSUPPORTED, "the statement 'nope' is not supported"},
        {"{{ '\\ud800' }}", BULLA_E_UNSUPPORTED, "surrogate"},
        {"{{ '\\x4' }}", BULLA_E_INPUT, "hex digits"},
        {"{{ \xC3\xA9 }}", BULLA_E_UNSUPPORTED, "beyond ASCII"},
        {"a\xFFz", BULLA_E_INPUT, "not UTF-8 at byte 1"},
        {"{{ x ? y }}", BULLA_E_INPUT, "means nothing"},
        {"{{ f(a=1, 2) }}", BULLA_E_INPUT, "keyword argument"},
        {"{% macro m(a=1, b) %}{% endmacro %}", BULLA_E_INPUT, "without a default"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_fails(cases[i].source, "{}", cases[i].code, cases[i].part);
}

static void test_render_errors(void **state)
{
    (void)state;
    assert_fails("{{ raise_exception('Roles must alternate!') }}", "{}", BULLA_E_INPUT, "Roles must alternate!");
    assert_fails("\n{{ a.b.c }}", "{\"a\":{}}", BULLA_E_INPUT, "line 2: there is no 'b' here");
    assert_fails("{{ a.b }}", "{}", BULLA_E_INPUT, "'a' is undefined");
    assert_fails("{{ 'a' + 1 }}", "{}", BULLA_E_INPUT, "'str' and 'int'");
    assert_fails("{{ 1 / 0 }}", "{}", BULLA_E_INPUT, "division by zero");
    assert_fails("{{ x.append(1) }}", "{\"x\":[]}", BULLA_E_INPUT, "'append' would change its object");
    assert_fails("{% for i in 5 %}{% endfor %}", "{}", BULLA_E_INPUT, "'int' object is not iterable");
    assert_fails("{% for a, b in [[1]] %}{% endfor %}", "{}", BULLA_E_INPUT, "1 values cannot be unpacked into 2");
    assert_fails("{{ missing | tojson }}", "{}", BULLA_E_INPUT, "not JSON serializable");
    assert_fails("{{ 9223372036854775807 + 1 }}", "{}", BULLA_E_LIMIT, "64 bits");
    assert_fails("{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "{}", BULLA_E_INPUT, "macro 'm'");
    assert_fails("{{ strftime_now('%Q') }}", "{}", BULLA_E_UNSUPPORTED, "%Q");
    assert_fails("x", "[]", BULLA_E_INPUT, "must be a JSON object");
    assert_fails("x", "{\"a\":1,\"a\":2}", BULLA_E_INPUT, "twice");
    assert_fails("x", "{", BULLA_E_INPUT, "the chat template's variables");
}

/* Whatever a template does, it ends soon, in little memory. */
static void test_limits(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}"
        "{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
        "{% set ns = namespace(x='x') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}"
        "{{ ns.x | tojson }}",
        "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}"
        "{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}",
        "{% set ns = namespace(x=(1,)) %}{% for i in range(99) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}"
        "{{ {ns.x: 1} }}",
        "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}",
        "{% macro m(a=m()) %}{% endmacro %}{{ m() }}",
        "{% macro m(a) %}{% for i in [1] %}{{ m(a=(1 + m(a|e)))|upper }}{% endfor %}{% endmacro %}{{ m() }}",
        "{{ 'x' * 9999999999 }}",
        "{{ [1] * 9999999999 }}",
        "{% for i in range(99999) %}{{ 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' * 1000 }}{% endfor %}",
        "{{ range(1000000) }}",
        "{{ 'x'.center(99999999999) }}",
        "{{ '%99999999d' % 1 }}",
        "{{ '{:99999999}'.format(1) }}",
        "{% set x = 'a' * 4000000 %}{% for i in range(99999) %}{{ x.rfind('a' * 1000 + 'b') }}{% endfor %}",
        "{% set x = 'ab' * 4000000 %}{% for i in range(99999) %}{% set y = x.replace('a', 'b') %}{% endfor %}",
        "{% set x = ('ab' * 1000000) | list %}{% for i in range(99999) %}{{ x | sort | length }}{% endfor %}",
        "{{ 'x' | indent(999999999) }}",
        "{{ [[1]] | tojson(indent=999999999) }}",
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_fails(cases[i], "{}", BULLA_E_LIMIT, "");
}

/* Nesting in the source is bounded too. */
static void test_deep_sources(void **state)
{
    (void)state;
    static const char *const parts[][2] = {{"(", ")"},          {"[", "]"},      {"{1:", "}"},
                                           {"-", ""},           {"not ", ""},    {"a if b else ", ""},
                                           {"x[", "]"},         {"f(", ")"},     {"a.b|map(", ")"}};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        char *text, *source = calloc(1, 64 * 1024);
        bulla_error error;
        strcat(source, "{{ ");
        for (int n = 0; n < 5000; n++)
            memcpy(source + 3 + (size_t)n * strlen(parts[i][0]), parts[i][0], strlen(parts[i][0]));
        strcat(source, "1 }}");
        assert_int_not_equal(render_source(source, "{}", &text, &error), BULLA_OK);
        assert_int_equal(error.code, BULLA_E_LIMIT);
        free(source);
    }
    static const struct {
        const char *start, *part, *end;
    } chains[] = {{"{{ 1", "+1", " }}"},
                  {"{{ x", ".a", " }}"},
                  {"{{ x", "|e", " }}"},
                  {"{{ 1", " and 1", " }}"},
                  {"{{ 'a'|map('map'", ",'map'", ")|list }}"}};
    for (size_t i = 0; i < sizeof chains / sizeof chains[0]; i++) {
        char *text, *source = calloc(1, 256 * 1024), *at = source;
        bulla_error error;
        at = stpcpy(at, chains[i].start);
        for (int n = 0; n < 30000; n++)
            at = stpcpy(at, chains[i].part);
        strcpy(at, chains[i].end);
        assert_int_equal(render_source(source, "{}", &text, &error), BULLA_E_LIMIT);
        free(source);
    }
}

static void test_sources_too_long(void **state)
{
    (void)state;
    char *source = malloc(2 << 20);
    bulla_chat_template *chat_template;
    bulla_error error = {0};
    memset(source, 'x', 2 << 20);
    assert_int_equal(bulla_chat_template_compile(source, 2 << 20, &chat_template, &error), BULLA_E_LIMIT);
    assert_int_equal(bulla_chat_template_compile(source, 2 << 20, &chat_template, NULL), BULLA_E_LIMIT);
    free(source);
}

/* Every allocation of a compilation and a rendering that use most of the code. */
static void test_allocation_failures(void **state)
{
    (void)state;
    static const char source[] =
        "{% macro m(a, b=[1]) %}{{ a ~ b }}{{ caller() if caller is defined }}{% endmacro %}"
        "{% set ns = namespace(n=0) %}{% for m2 in messages if m2.role %}{% set ns.n = ns.n + loop.index %}"
        "{{ m2 | tojson(indent=2) }}{{ m2.content.strip().split('a') }}{{ m2['role'] | upper | replace('U', 'v') }}"
        "{% endfor %}{{ m('x', b={'k': (1, 2)}) }}{% call m(1) %}in{% endcall %}{% set t | trim %} a {% endset %}"
        "{{ messages | map(attribute='role') | sort | join(',') }}{{ 'a' 'b' }}{{ '%s' % t }}{{ '{}'.format(1) }}"
        "{{ 1 < 2 < 3 }}{{ t[0:1] }}{{ strftime_now('%Y') }}{{ missing is defined }}{{ range(3) | list }}";
    for (uint64_t n = 1;; n++) {
        bulla_chat_template *chat_template = NULL;
        bulla_error error = {0};
        char *text = NULL;
        size_t length;
        uint64_t before = memory_allocation_count();
        memory_inject_failure(n, 0);
        int code = bulla_chat_template_compile(source, strlen(source), &chat_template, &error);
        if (code == BULLA_OK)
            code = bulla_chat_template_render(chat_template, conversation, strlen(conversation), NOW, &text, &length,
                                              &error);
        memory_inject_failure(0, 0);
        int done = memory_allocation_count() - before < n;
        assert_int_equal(code, done ? BULLA_OK : BULLA_E_MEMORY);
        bulla_text_free(text);
        bulla_chat_template_free(chat_template);
        if (done)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conversation),
        cmocka_unit_test(test_small_templates),
        cmocka_unit_test(test_a_template_is_used_again),
        cmocka_unit_test(test_compile_errors),
        cmocka_unit_test(test_render_errors),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_deep_sources),
        cmocka_unit_test(test_sources_too_long),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
