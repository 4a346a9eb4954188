#include "test.h"

#include "grammar_samples.h"

struct sample_case {
    const char *specification;
    const char *accepted[8], *rejected[10];
};

static struct grammar *compile(const char *specification)
{
    struct grammar *grammar;
    bulla_error error = {0};
    if (grammar_compile(specification, strlen(specification), &grammar, &error))
        fail_msg("%s: %s", specification, error.text);
    return grammar;
}

static struct grammar_sample open_sample(int sentencepiece, int without)
{
    struct grammar_sample sample;
    bulla_error error = {0};
    assert_ok(grammar_sample_open(&sample, sentencepiece, without, &error), error);
    return sample;
}

static void expect_cases(const struct sample_case *cases, size_t count)
{
    struct grammar_sample sample = open_sample(0, -1);
    for (size_t i = 0; i < count; i++) {
        struct grammar *grammar = compile(cases[i].specification);
        for (int accepts = 0; accepts < 2; accepts++) {
            const char *const *texts = accepts ? cases[i].accepted : cases[i].rejected;
            size_t most = accepts ? 8 : 10;
            for (size_t j = 0; j < most && texts[j]; j++) {
                bulla_error error = {0};
                if (grammar_sample_accepts(&sample, grammar, texts[j], strlen(texts[j]), &error) != accepts)
                    fail_msg("%s: %s is %s", cases[i].specification, texts[j], accepts ? "rejected" : "accepted");
            }
        }
        grammar_free(grammar);
    }
    grammar_sample_close(&sample);
}
#define EXPECT_CASES(cases) expect_cases(cases, sizeof(cases) / sizeof *(cases))
#define SCHEMA(schema) "{\"schema\":" schema "}"

static void strings(void **state)
{
    (void)state;
    static const struct sample_case cases[] = {
        {SCHEMA("{\"type\":\"string\"}"),
         {"\"\"", "\"a\\n\\u00e9\xC3\xA9\"", "\"\\ud83d\\udc32\xF0\x9F\x90\xB2\"", "\"\\\"\\\\\\/\"", "\"\x7F\""},
         {"\"", "a", "\"\n\"", "\"\\ud83d\"", "\"\\udc32\"", "\"\\x\"", "\"\xC0\x80\"", "\"\xED\xA0\x80\"", " \"\"",
          "\"\" "}},
        {SCHEMA("{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}"),
         {"\"ab\"", "\"abc\"", "\"\\u0061\\n\xF0\x9F\x90\xB2\"", "\"\\ud83d\\udc32a\""},
         {"\"a\"", "\"\"", "\"abcd\"", "\"\\ud83d\\udc32\"", "\"\xF0\x9F\x90\xB2\""}},
        {SCHEMA("{\"type\":\"string\",\"pattern\":\"^a[b-d]+$\",\"maxLength\":4}"),
         {"\"ab\"", "\"abcd\"", "\"\\u0061\\u0062\""},
         {"\"a\"", "\"abcdb\"", "\"xab\"", "\"ae\"", "\"ab\\n\""}},
        {SCHEMA("{\"type\":\"string\",\"pattern\":\"b|^c\"}"), {"\"abc\"", "\"ca\"", "\"b\""}, {"\"ac\"", "\"\""}},
        {SCHEMA("{\"type\":\"string\",\"not\":{\"pattern\":\"^a\"}}"), {"\"\"", "\"ba\""}, {"\"a\"", "\"\\u0061\""}},
        {SCHEMA("{\"type\":\"string\",\"pattern\":\"^(?:x{2,3}|\\\\d)$\"}"),
         {"\"xx\"", "\"xxx\"", "\"7\""},
         {"\"x\"", "\"xxxx\"", "\"\xD9\xA3\""}},
        {SCHEMA("{\"type\":\"string\",\"format\":\"date\"}"),
         {"\"2024-02-29\"", "\"2000-02-29\"", "\"2023-12-31\""},
         {"\"2023-02-29\"", "\"1900-02-29\"", "\"2023-04-31\"", "\"2023-13-01\"", "\"23-01-01\""}},
        {SCHEMA("{\"type\":\"string\",\"format\":\"ipv6\"}"),
         {"\"::\"", "\"1::2\"", "\"1:2:3:4:5:6:7:8\"", "\"::1\""},
         {"\":\"", "\"1:2\"", "\"1::2::3\"", "\"1:2:3:4:5:6:7:8:9\"", "\"12345::\""}},
        {SCHEMA("{\"enum\":[\"a\",\"ab\",3,null,{\"x\":[1]}]}"),
         {"\"a\"", "\"ab\"", "3", "null", "{\"x\":[1]}", "{\"x\": [1]}"},
         {"\"abc\"", "\"\"", "4", "33", "{}", "{\"x\":1}"}},
        {SCHEMA("{\"const\":\"\\u0007\\\"\\u00e9\"}"), {"\"\\u0007\\\"\xC3\xA9\""}, {"\"\""}},
    };
    EXPECT_CASES(cases);
}

static void numbers(void **state)
{
    (void)state;
    static const struct sample_case cases[] = {
        {SCHEMA("{\"type\":\"integer\"}"),
         {"0", "-7", "123456789012345678"},
         {"-0", "01", "1.0", "1e2", "+1", "-", ""}},
        {SCHEMA("{\"type\":\"number\"}"),
         {"0", "-0.5", "1.50", "2e10", "2.5E-3"},
         {"1.", ".5", "-0.0", "1e", "1e123", "00"}},
        {SCHEMA("{\"type\":\"integer\",\"minimum\":-12,\"exclusiveMaximum\":105}"),
         {"-12", "-9", "0", "99", "104", "100"},
         {"-13", "105", "110", "1000", "-100"}},
        {SCHEMA("{\"type\":\"number\",\"exclusiveMinimum\":0.25,\"maximum\":3}"),
         {"0.26", "0.2501", "3", "3.00", "1"},
         {"0.25", "0.2", "0", "3.01", "-1", "4", "12"}},
        {SCHEMA("{\"type\":\"integer\",\"multipleOf\":7}"), {"0", "7", "-14", "700007"}, {"1", "8", "15", "70.0"}},
        {SCHEMA("{\"multipleOf\":0.01,\"type\":\"number\"}"), {"19.99", "5", "0.5", "-1.10"}, {"19.999", "0.001"}},
        {SCHEMA("{\"type\":\"integer\",\"multipleOf\":0.3}"), {"3", "0", "-6"}, {"1", "2", "10"}},
        {SCHEMA("{\"type\":\"number\",\"not\":{\"type\":\"integer\"}}"), {"1.5", "-0.1", "2.50"}, {"1", "1.0", "0"}},
        {SCHEMA("{\"type\":\"integer\",\"minimum\":1,\"maximum\":5,\"not\":{\"const\":3}}"),
         {"1", "2", "4", "5"},
         {"3", "0", "6"}},
        {SCHEMA("{\"enum\":[1,2,3],\"minimum\":2}"), {"2", "3"}, {"1", "4"}},
    };
    EXPECT_CASES(cases);
}

static void arrays(void **state)
{
    (void)state;
    static const struct sample_case cases[] = {
        {SCHEMA("{\"type\":\"array\",\"items\":{\"type\":\"integer\"}}"),
         {"[]", "[1]", "[1,2]", "[1, 2,3]"},
         {"[1,]", "[1 ,2]", "[ 1]", "[\"a\"]", "[1,  2]", "[1", "[1\n]"}},
        {SCHEMA("{\"type\":\"array\",\"items\":true,\"minItems\":1,\"maxItems\":2}"),
         {"[1]", "[[],{}]"},
         {"[]", "[1,2,3]"}},
        {SCHEMA("{\"type\":\"array\",\"prefixItems\":[{\"const\":1},{\"type\":\"string\"}],\"items\":false}"),
         {"[]", "[1]", "[1,\"a\"]"},
         {"[2]", "[1,1]", "[1,\"a\",1]"}},
        {SCHEMA("{\"type\":\"array\",\"items\":{\"enum\":[1,2,3]},\"uniqueItems\":true,\"minItems\":2}"),
         {"[1,2]", "[3,2,1]"},
         {"[1]", "[1,1]", "[1,2,1]", "[1,2,3,1]"}},
        {SCHEMA("{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"uniqueItems\":true}"),
         {"[\"a\",\"b\"]", "[\"\",\"a\"]"},
         {"[\"a\",\"a\"]", "[\"a\",\"\\u0061\"]", "[\"\",\"\"]", "[\"a\",\"b\",\"a\"]"}},
        {SCHEMA("{\"type\":\"array\",\"items\":{\"type\":[\"number\",\"string\"]},\"uniqueItems\":true}"),
         {"[1,\"1\",1.5]", "[10,100]"},
         {"[1,1.0]", "[1.5,1.50]", "[1,1e0]", "[0,0]"}},
        {SCHEMA("{\"type\":\"array\",\"contains\":{\"const\":1},\"minContains\":2,\"maxContains\":3}"),
         {"[1,1]", "[2,1,\"a\",1]", "[1,1,1]"},
         {"[]", "[1]", "[1,2]", "[1,1,1,1]"}},
        {SCHEMA("{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"not\":{\"items\":{\"minimum\":5}}}"),
         {"[4]", "[7,1]"},
         {"[]", "[5]", "[7,8]"}},
        {SCHEMA(
             "{\"type\":\"array\",\"prefixItems\":[true],\"contains\":{\"type\":\"string\"},"
             "\"unevaluatedItems\":false}"),
         {"[1,\"a\"]", "[\"a\"]"},
         {"[1]", "[1,2,\"a\"]"}},
    };
    EXPECT_CASES(cases);
}

static void objects(void **state)
{
    (void)state;
    static const struct sample_case cases[] = {
        {SCHEMA("{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"ab\":{\"type\":\"null\"}},"
                "\"required\":[\"ab\"],\"additionalProperties\":false}"),
         {"{\"a\":1,\"ab\":null}", "{\"ab\": null}", "{\"a\":1, \"ab\":null}"},
         {"{}", "{\"a\":1}", "{\"ab\":null,\"a\":1}", "{\"ab\":null,\"ab\":null}", "{\"ab\":null,\"c\":1}",
          "{ \"ab\":null}", "{\"ab\" :null}", "{\"\\u0061b\":null}"}},
        {SCHEMA("{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}},"
                "\"additionalProperties\":{\"type\":\"boolean\"}}"),
         {"{}", "{\"b\":true}", "{\"a\":1,\"b\":true,\"c\":false}", "{\"aa\":true}"},
         {"{\"b\":1}", "{\"b\":true,\"a\":1}", "{\"b\":true,\"b\":true}", "{\"b\":true,\"\\u0062\":true}",
          "{\"a\":true}"}},
        {SCHEMA("{\"type\":\"object\",\"patternProperties\":{\"^x\":{\"type\":\"integer\"},\"y$\":{\"minimum\":3}},"
                "\"additionalProperties\":false}"),
         {"{\"x\":1}", "{\"y\":\"a\"}", "{\"xy\":3,\"x\":0}"},
         {"{\"z\":1}", "{\"xy\":1}", "{\"x\":true}"}},
        {SCHEMA("{\"type\":\"object\",\"properties\":{\"a\":true,\"b\":true,\"c\":true},\"minProperties\":2,"
                "\"maxProperties\":2,\"additionalProperties\":false}"),
         {"{\"a\":1,\"b\":1}", "{\"a\":1,\"c\":1}", "{\"b\":1,\"c\":1}"},
         {"{\"a\":1}", "{\"c\":1}", "{\"a\":1,\"b\":1,\"c\":1}"}},
        {SCHEMA("{\"type\":\"object\",\"propertyNames\":{\"enum\":[\"p\",\"q\"]},\"minProperties\":1}"),
         {"{\"p\":1}", "{\"q\":1,\"p\":2}"},
         {"{}", "{\"r\":1}", "{\"p\":1,\"p\":1}"}},
        {SCHEMA("{\"type\":\"object\",\"properties\":{\"a\":true,\"b\":true},\"dependentRequired\":{\"a\":[\"b\"]},"
                "\"additionalProperties\":false}"),
         {"{}", "{\"b\":1}", "{\"a\":1,\"b\":1}"},
         {"{\"a\":1}"}},
        {SCHEMA(
             "{\"type\":\"object\",\"allOf\":[{\"properties\":{\"a\":{\"type\":\"integer\"}}},{\"properties\":"
             "{\"b\":true}}],"
             "\"unevaluatedProperties\":false}"),
         {"{\"a\":1,\"b\":2}", "{}"},
         {"{\"c\":1}", "{\"a\":\"x\"}"}},
    };
    EXPECT_CASES(cases);
}

static void applicators(void **state)
{
    (void)state;
    static const struct sample_case cases[] = {
        {SCHEMA("{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"string\",\"maxLength\":1}]}"),
         {"12", "\"a\""},
         {"\"ab\"", "null"}},
        {SCHEMA("{\"oneOf\":[{\"type\":\"integer\",\"minimum\":5},{\"type\":\"integer\",\"maximum\":7}]}"),
         {"4", "8", "-100"},
         {"5", "6", "7"}},
        {SCHEMA(
             "{\"oneOf\":[{\"type\":\"object\",\"properties\":{\"k\":{\"const\":\"a\"},\"x\":{\"type\":\"integer\"}},"
             "\"required\":[\"k\",\"x\"],\"additionalProperties\":false},{\"type\":\"object\",\"properties\":{\"k\":"
             "{\"const\":\"b\"},\"y\":{\"type\":\"null\"}},\"required\":[\"k\",\"y\"],\"additionalProperties\":"
             "false}]}"),
         {"{\"k\":\"a\",\"x\":1}", "{\"k\":\"b\",\"y\":null}"},
         {"{\"k\":\"a\",\"y\":null}", "{\"k\":\"b\"}"}},
        {SCHEMA("{\"type\":\"object\",\"properties\":{\"t\":{\"enum\":[1,2]},\"v\":true},\"required\":[\"t\"],"
                "\"additionalProperties\":false,\"if\":{\"properties\":{\"t\":{\"const\":1}}},"
                "\"then\":{\"required\":[\"v\"]},\"else\":{\"properties\":{\"v\":false}}}"),
         {"{\"t\":1,\"v\":0}", "{\"t\":2}"},
         {"{\"t\":1}", "{\"t\":2,\"v\":0}"}},
        {SCHEMA("{\"not\":{\"type\":[\"object\",\"array\",\"string\",\"number\"]}}"),
         {"null", "true", "false"},
         {"1", "\"\""}},
        {SCHEMA(
             "{\"$ref\":\"#/$defs/tree\",\"$defs\":{\"tree\":{\"type\":\"object\",\"properties\":{\"c\":"
             "{\"type\":\"array\","
             "\"items\":{\"$ref\":\"#/$defs/tree\"}}},\"additionalProperties\":false}}}"),
         {"{}", "{\"c\":[]}", "{\"c\":[{\"c\":[{}]},{}]}"},
         {"{\"c\":[1]}", "[]"}},
        {SCHEMA("{\"$id\":\"http://e/x/root\",\"$ref\":\"item\",\"$defs\":{\"i\":{\"$id\":\"item\",\"$ref\":\"#n\","
                "\"$defs\":{\"j\":{\"$anchor\":\"n\",\"type\":\"null\"}}}}}"),
         {"null"},
         {"1"}},
        {SCHEMA("{\"minLength\":2}"), {"1", "null", "\"ab\"", "[]", "{\"a\":\"\"}"}, {"\"a\""}},
    };
    EXPECT_CASES(cases);
}

static void forms(void **state)
{
    (void)state;
    static const struct sample_case cases[] = {
        {"{\"literal\":\"ab\\u00e9\"}", {"ab\xC3\xA9"}, {"", "ab", "ab\xC3\xA9x"}},
        {"{\"sequence\":[{\"literal\":\"<\"},{\"schema\":{\"type\":\"integer\"}},{\"literal\":\"5>\"}]}",
         {"<15>", "<55>"},
         {"<5>", "<15"}},
        {"{\"choice\":[{\"literal\":\"a\"},{\"literal\":\"abc\"},{\"sequence\":[]}]}", {"", "a", "abc"}, {"ab", "b"}},
        {"{\"repeat\":{\"literal\":\"xy\"},\"min\":1,\"max\":3}", {"xy", "xyxy", "xyxyxy"}, {"", "x", "xyxyxyxy"}},
        {"{\"repeat\":{\"choice\":[{\"literal\":\"a\"},{\"literal\":\"b\"}]}}",
         {"", "abba", "bbbbbbbbbbbbbbbbb"},
         {"abc"}},
        {"{\"sequence\":[{\"text\":{\"until\":[\"<t>\",\"<u>\"]}},{\"choice\":[{\"literal\":\"<t>!\"},"
         "{\"sequence\":[]}]}]}",
         {"", "a\n<", "x<<t>!", "<t<t>!", "\xC3\xA9"},
         {"a<t>", "<u>", "<u><t>!", "\xC3", "a<t>!b", "\xFF"}},
        {"{\"object\":true}",
         {"{}", " {\n  \"a\": 1\n}", "{\"a\":[1 , 2,{ }],\"b\":\"\"}", "{\n\t\"a\": [\n1,\n2 ]}"},
         {"[]", "{\"a\":1,}", "{\"a\":1,\"a\":2}", "{\"a\":1} ", "1", "{                     }", "{\"a\":01}"}},
    };
    EXPECT_CASES(cases);
}

static void refusals_name_keyword_and_place(void **state)
{
    (void)state;
    static const struct {
        const char *specification;
        int code;
        const char *first, *second;
    } cases[] = {
        {SCHEMA("{\"properties\":{\"a/b\":{\"pattern\":\"(?=a)\"}}}"), BULLA_E_UNSUPPORTED, "\"pattern\"",
         "/properties/a~1b"},
        {SCHEMA("{\"pattern\":\"\\\\bx\"}"), BULLA_E_UNSUPPORTED, "\"pattern\"", "escape"},
        {SCHEMA("{\"pattern\":\"(a\"}"), BULLA_E_UNSUPPORTED, "\"pattern\"", "group"},
        {SCHEMA("{\"$ref\":\"http://e/other\"}"), BULLA_E_UNSUPPORTED, "\"$ref\"", "nowhere"},
        {SCHEMA("{\"$ref\":\"#\"}"), BULLA_E_UNSUPPORTED, "\"$ref\"", "itself"},
        {SCHEMA("{\"type\":\"array\",\"items\":{\"type\":\"object\"},\"uniqueItems\":true}"), BULLA_E_UNSUPPORTED,
         "\"uniqueItems\"", "told apart"},
        {SCHEMA("{\"not\":{\"additionalProperties\":false}}"), BULLA_E_UNSUPPORTED, "\"additionalProperties\"", "/not"},
        {SCHEMA("{\"$schema\":\"http://e/d\"}"), BULLA_E_UNSUPPORTED, "\"$schema\"", "dialect"},
        {SCHEMA("false"), BULLA_E_UNSUPPORTED, "no value satisfies", ""},
        {SCHEMA("{\"enum\":[]}"), BULLA_E_UNSUPPORTED, "no value satisfies", ""},
        {SCHEMA("{\"type\":\"object\",\"required\":[\"a\"],\"properties\":{\"a\":{\"type\":\"integer\",\"minimum\":2,"
                "\"maximum\":1}}}"),
         BULLA_E_UNSUPPORTED, "no value satisfies", ""},
        {SCHEMA("{\"type\":\"object\",\"required\":[\"a\"],\"properties\":{\"a\":{\"$ref\":\"#\"}}}"),
         BULLA_E_UNSUPPORTED, "no value satisfies", ""},
        {SCHEMA("{\"type\":\"array\",\"items\":{\"enum\":[1,2]},\"uniqueItems\":true,\"minItems\":3}"),
         BULLA_E_UNSUPPORTED, "no value satisfies", ""},
        {SCHEMA("{\"type\":\"strin\"}"), BULLA_E_INPUT, "\"type\"", ""},
        {SCHEMA("{\"minLength\":-1}"), BULLA_E_INPUT, "\"minLength\"", ""},
        {SCHEMA("{\"multipleOf\":0}"), BULLA_E_INPUT, "\"multipleOf\"", ""},
        {SCHEMA("{\"required\":[1]}"), BULLA_E_INPUT, "\"required\"", ""},
        {SCHEMA("{\"properties\":{\"a\":1}}"), BULLA_E_INPUT, "\"properties\"", ""},
        {SCHEMA("3"), BULLA_E_INPUT, "object or a boolean", ""},
        {"{\"literal\":1}", BULLA_E_INPUT, "literal", ""},
        {"{\"choice\":[]}", BULLA_E_INPUT, "choice", ""},
        {"{\"repeat\":{\"literal\":\"\"}}", BULLA_E_INPUT, "empty", ""},
        {"{\"repeat\":{\"literal\":\"a\"},\"min\":3,\"max\":2}", BULLA_E_INPUT, "min", ""},
        {"{\"text\":{\"until\":[\"\"]}}", BULLA_E_INPUT, "until", ""},
        {"{\"what\":1}", BULLA_E_INPUT, "form", ""},
        {"[]", BULLA_E_INPUT, "form", ""},
        {"{", BULLA_E_INPUT, "grammar", ""},
        {SCHEMA("{\"type\":\"string\",\"pattern\":\"^(?:[ab]{0,900}a[ab]{900}){900}$\"}"), BULLA_E_LIMIT, "\"pattern\"",
         ""},
        {SCHEMA("{\"type\":\"array\",\"minItems\":100000}"), BULLA_E_LIMIT, "\"minItems\"", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct grammar *grammar;
        bulla_error error = {0};
        if (grammar_compile(cases[i].specification, strlen(cases[i].specification), &grammar, &error) !=
                cases[i].code ||
            !strstr(error.text, cases[i].first) || !strstr(error.text, cases[i].second))
            fail_msg("%s: %s: %s", cases[i].specification, bulla_code_name(error.code), error.text);
        assert_null(grammar);
    }
}

static void append_repeated(struct buffer *out, const char *text, int times)
{
    for (int i = 0; i < times; i++)
        buffer_append_text(out, text);
}

/* `part`, with the number for each %d in it. */
static void append_numbered(struct buffer *out, const char *part, int number)
{
    for (const char *at = part; *at; at++)
        if (at[0] == '%' && at[1] == 'd') {
            buffer_append_format(out, "%d", number);
            at++;
        } else {
            buffer_append_byte(out, (uint8_t)*at);
        }
}

static void large_specifications_end(void **state)
{
    (void)state;
    static const struct {
        const char *before, *part, *after;
        int times;
    } cases[] = {
        {"{\"schema\":{\"allOf\":[", "{\"anyOf\":[{\"minLength\":3},{\"maxLength\":9},{\"required\":[\"a\"]}]},",
         "true]}}", 40},
        {"{\"schema\":{\"oneOf\":[", "{\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"minimum\":3}}},",
         "true]}}", 60},
        {"{\"schema\":", "{\"not\":", "true", 60},
        {"{\"schema\":{\"type\":\"string\",\"pattern\":\"", "(a|b)*a(a|b)(a|b)", "\"}}", 40},
        {"{\"choice\":[", "{\"sequence\":[{\"literal\":\"\"},{\"text\":{\"until\":[\"ab\"]}}]},",
         "{\"literal\":\"x\"}]}", 3000},
        {"{\"schema\":{\"enum\":[", "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",", "1]}}", 10000},
        {"{\"schema\":{\"contains\":true,\"allOf\":[", "{\"contains\":{\"const\":1},\"minContains\":900},", "true]}}",
         3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buffer text = {0};
        struct grammar *grammar;
        bulla_error error = {0};
        buffer_append_text(&text, cases[i].before);
        append_repeated(&text, cases[i].part, cases[i].times);
        buffer_append_text(&text, cases[i].after);
        if (strstr(cases[i].part, "\"not\""))
            append_repeated(&text, "}", cases[i].times + 1);
        int code = grammar_compile((char *)text.data, text.length, &grammar, &error);
        if (code != BULLA_OK && code != BULLA_E_LIMIT && code != BULLA_E_UNSUPPORTED)
            fail_msg("case %zu: %s: %s", i, bulla_code_name(code), error.text);
        grammar_free(grammar);
        buffer_free(&text);
    }
}

/* Each automaton, list and combination is within its own bound; together they are too much. */
static void too_complex_schemas_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *before, *part, *after;
        int times;
    } cases[] = {
        {"{\"properties\":{", "\"%d\":{\"type\":\"string\",\"pattern\":\"^(a|b)*a(a|b){10}c%d$\"}", "}}", 40},
        {"{\"properties\":{", "\"%d\":{\"patternProperties\":{\"a.{4}b%d\":{\"type\":\"integer\"}}}", "}}", 4000},
        {"{\"properties\":{", "\"%d\":{\"type\":\"number\",\"minimum\":%d.12345678,\"maximum\":99999.999}", "}}",
         2000},
        {"{\"oneOf\":[", "{\"properties\":{\"k\":{\"const\":%d},\"v\":{\"minimum\":%d}},\"required\":[\"k\"]}", "]}",
         300},
        {"{\"properties\":{", "\"%d\":{\"type\":\"array\",\"minItems\":400%d}", "}}", 200},
        {"{\"allOf\":[", "{\"prefixItems\":[{\"minimum\":%d},{\"minimum\":%d}],\"required\":[\"a\"]}", "]}", 8000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buffer text = {0};
        struct grammar *grammar;
        bulla_error error = {0};
        buffer_append_format(&text, "{\"schema\":%s", cases[i].before);
        for (int j = 0; j < cases[i].times; j++) {
            buffer_append_text(&text, j ? "," : "");
            append_numbered(&text, cases[i].part, j);
        }
        buffer_append_format(&text, "%s}", cases[i].after);
        int code = grammar_compile((char *)text.data, text.length, &grammar, &error);
        if (code != BULLA_E_LIMIT || !strstr(error.text, "the schema is too complex"))
            fail_msg("case %zu: %s: %s", i, bulla_code_name(code), error.text);
        buffer_free(&text);
    }
}

/* Whether a token may follow those taken, by asking a state of its own. */
static int may_follow(const struct grammar_sample *sample, const struct grammar *grammar, const uint32_t *taken,
                      size_t count, uint32_t id)
{
    struct grammar_state *state;
    bulla_error error = {0}, refused = {0};
    assert_ok(grammar_state_open(grammar, sample->vocabulary, &state, &error), error);
    for (size_t i = 0; i < count; i++)
        assert_ok(grammar_state_accept(state, taken[i], &error), error);
    int may = grammar_state_accept(state, id, &refused) == BULLA_OK;
    if (!may)
        assert_int_equal(refused.code, BULLA_E_USAGE);
    grammar_state_close(state);
    return may;
}

static void expect_same_masks(const struct grammar_sample *sample, const char *specification, uint64_t seed)
{
    struct grammar *grammar = compile(specification);
    struct grammar_state *state;
    struct grammar_sample_draws draws = {.seed = seed, .hint = specification, .hint_length = strlen(specification)};
    bulla_error error = {0};
    uint32_t taken[24];
    size_t count = 0;
    assert_ok(grammar_state_open(grammar, sample->vocabulary, &state, &error), error);
    while (count < 24) {
        const uint64_t *allowed;
        assert_ok(grammar_state_allowed(state, &allowed, &error), error);
        for (uint32_t id = 0; id < GRAMMAR_SAMPLE_IDS + 5; id++)
            if (grammar_sample_is_allowed(allowed, id) != may_follow(sample, grammar, taken, count, id))
                fail_msg("%s: token %u after %zu others is %s", specification, id, count,
                         grammar_sample_is_allowed(allowed, id) ? "allowed and refused" : "not allowed and taken");
        uint32_t id = grammar_sample_draw(allowed, &draws, count);
        assert_ok(grammar_state_accept(state, id, &error), error);
        taken[count++] = id;
        if (id == GRAMMAR_SAMPLE_END)
            break;
    }
    grammar_state_close(state);
    grammar_free(grammar);
}

static const char *const varied[] = {
    SCHEMA("true"),
    SCHEMA(
        "{\"type\":\"object\",\"properties\":{\"foo\":{\"type\":\"string\"},\"name\":{\"type\":\"number\"}},"
        "\"required\":"
        "[\"foo\"]}"),
    SCHEMA(
        "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"pattern\":\"^[a-f\\u00e9]{1,3}$\"},"
        "\"uniqueItems\":true}"),
    SCHEMA("{\"type\":\"string\",\"minLength\":2,\"maxLength\":5}"),
    SCHEMA("{\"anyOf\":[{\"type\":\"array\",\"contains\":{\"const\":\"foo\"}},{\"type\":\"array\",\"items\":{\"type\":"
           "\"string\"}}]}"),
    SCHEMA(
        "{\"type\":\"object\",\"patternProperties\":{\"^f\":{\"type\":\"integer\"}},\"propertyNames\":"
        "{\"maxLength\":4},"
        "\"minProperties\":1,\"maxProperties\":3}"),
    SCHEMA("{\"type\":\"string\",\"maxLength\":2,\"not\":{\"enum\":[\"12\",\"fo\"]}}"),
    "{\"object\":true}",
    "{\"sequence\":[{\"text\":{\"until\":[\"<tool>\"]}},{\"repeat\":{\"sequence\":[{\"literal\":\"<tool>\"},"
    "{\"schema\":{\"type\""
    ":\"integer\"}},{\"literal\":\"</tool>\"}]},\"max\":3}]}",
};

static void masks_are_what_is_accepted(void **state)
{
    (void)state;
    for (int sentencepiece = 0; sentencepiece < 2; sentencepiece++) {
        struct grammar_sample sample = open_sample(sentencepiece, -1);
        for (size_t i = 0; i < sizeof varied / sizeof *varied; i++)
            for (uint64_t seed = 0; seed < test_count(4, 40); seed++)
                expect_same_masks(&sample, varied[i], seed);
        grammar_sample_close(&sample);
    }
}

/* What is kept between steps must not show: the same masks as a state that took the same tokens anew. */
static void long_answers_keep_their_masks(void **state)
{
    (void)state;
    struct grammar_sample sample = open_sample(0, -1);
    struct grammar *grammar =
        compile(SCHEMA("{\"type\":\"array\",\"items\":{\"type\":\"object\",\"minProperties\":2}}"));
    struct grammar_state *kept, *anew;
    struct grammar_sample_draws draws = {.seed = 5};
    bulla_error error = {0};
    enum { STEPS = 6000 };
    uint32_t *taken = calloc(STEPS, sizeof *taken);
    assert_ok(grammar_state_open(grammar, sample.vocabulary, &kept, &error), error);
    for (size_t count = 0; count < STEPS; count++) {
        const uint64_t *allowed, *expected;
        assert_ok(grammar_state_allowed(kept, &allowed, &error), error);
        if (count % 1500 == 1499) {
            assert_ok(grammar_state_open(grammar, sample.vocabulary, &anew, &error), error);
            for (size_t i = 0; i < count; i++)
                assert_ok(grammar_state_accept(anew, taken[i], &error), error);
            assert_ok(grammar_state_allowed(anew, &expected, &error), error);
            assert_memory_equal(allowed, expected, (GRAMMAR_SAMPLE_IDS + 5 + 63) / 64 * 8);
            grammar_state_close(anew);
        }
        do
            taken[count] = grammar_sample_draw(allowed, &draws, 30);
        while (taken[count] == GRAMMAR_SAMPLE_END || (taken[count] == ']' && count < STEPS / 2));
        assert_ok(grammar_state_accept(kept, taken[count], &error), error);
        if (grammar_state_is_final(kept))
            break;
    }
    free(taken);
    grammar_state_close(kept);
    grammar_free(grammar);
    grammar_sample_close(&sample);
}

static void ends_where_the_text_is_complete(void **state)
{
    (void)state;
    struct grammar_sample sample = open_sample(0, -1);
    struct grammar *grammar = compile(SCHEMA("{\"type\":\"integer\",\"maximum\":15,\"minimum\":1}"));
    struct grammar_state *answer;
    const uint64_t *allowed;
    bulla_error error = {0}, refused = {0};
    assert_ok(grammar_state_open(grammar, sample.vocabulary, &answer, &error), error);
    assert_int_equal(grammar_state_accept(answer, GRAMMAR_SAMPLE_END, &refused), BULLA_E_USAGE);
    bulla_error_clear(&refused);
    assert_int_equal(grammar_state_accept(answer, GRAMMAR_SAMPLE_START, &refused), BULLA_E_USAGE);
    bulla_error_clear(&refused);
    assert_int_equal(grammar_state_accept(answer, UINT32_MAX, &refused), BULLA_E_USAGE);
    bulla_error_clear(&refused);
    assert_int_equal(grammar_state_accept(answer, '0', &refused), BULLA_E_USAGE);
    assert_int_equal(grammar_state_is_complete(answer), 0);
    assert_ok(grammar_state_accept(answer, '1', &error), error);
    assert_int_equal(grammar_state_is_complete(answer), 1);
    assert_int_equal(grammar_state_is_final(answer), 0);
    assert_ok(grammar_state_allowed(answer, &allowed, &error), error);
    assert_true(grammar_sample_is_allowed(allowed, GRAMMAR_SAMPLE_END));
    assert_false(grammar_sample_is_allowed(allowed, GRAMMAR_SAMPLE_START));
    assert_ok(grammar_state_accept(answer, '5', &error), error);
    assert_int_equal(grammar_state_is_final(answer), 1);
    assert_ok(grammar_state_accept(answer, GRAMMAR_SAMPLE_END, &error), error);
    assert_ok(grammar_state_allowed(answer, &allowed, &error), error);
    for (uint32_t id = 0; id < GRAMMAR_SAMPLE_IDS + 5; id++)
        assert_int_equal(grammar_sample_is_allowed(allowed, id), id == GRAMMAR_SAMPLE_END);
    grammar_state_close(answer);
    grammar_free(grammar);
    grammar_sample_close(&sample);
}

static void a_space_that_decoding_drops_is_no_text(void **state)
{
    (void)state;
    struct grammar_sample sample = open_sample(1, -1);
    struct grammar *grammar = compile("{\"literal\":\"{x\"}");
    struct grammar_state *answer;
    const uint64_t *allowed;
    bulla_error error = {0};
    uint32_t spaced = GRAMMAR_SAMPLE_FIRST;
    while (strcmp(grammar_sample_words[spaced - GRAMMAR_SAMPLE_FIRST], " {") != 0)
        spaced++;
    assert_ok(grammar_state_open(grammar, sample.vocabulary, &answer, &error), error);
    assert_ok(grammar_state_allowed(answer, &allowed, &error), error);
    assert_true(grammar_sample_is_allowed(allowed, spaced));
    assert_true(grammar_sample_is_allowed(allowed, '{'));
    assert_false(grammar_sample_is_allowed(allowed, ' '));
    assert_ok(grammar_state_accept(answer, spaced, &error), error);
    assert_ok(grammar_state_allowed(answer, &allowed, &error), error);
    assert_true(grammar_sample_is_allowed(allowed, 'x'));
    assert_false(grammar_sample_is_allowed(allowed, spaced));
    grammar_state_close(answer);
    grammar_free(grammar);
    grammar_sample_close(&sample);
}

static void a_byte_without_a_token_is_an_error(void **state)
{
    (void)state;
    struct grammar_sample sample = open_sample(0, 'z');
    struct grammar *grammar = compile("{\"literal\":\"az\"}");
    struct grammar_state *answer;
    const uint64_t *allowed;
    bulla_error error = {0};
    assert_ok(grammar_state_open(grammar, sample.vocabulary, &answer, &error), error);
    assert_ok(grammar_state_allowed(answer, &allowed, &error), error);
    assert_ok(grammar_state_accept(answer, 'a', &error), error);
    assert_int_equal(grammar_state_allowed(answer, &allowed, &error), BULLA_E_UNSUPPORTED);
    assert_non_null(strstr(error.text, "0x7a"));
    grammar_state_close(answer);
    grammar_free(grammar);
    grammar_sample_close(&sample);
}

static int run_all(const char *specification)
{
    struct grammar_sample sample;
    struct grammar *grammar = NULL;
    struct buffer text = {0};
    bulla_error error = {0};
    int code = grammar_sample_open(&sample, 0, -1, &error);
    if (code == BULLA_OK)
        code = grammar_compile(specification, strlen(specification), &grammar, &error);
    if (code == BULLA_OK)
        code = grammar_sample_answer(&sample, grammar, 3, specification, strlen(specification), 3000, &text, &error);
    if (code == BULLA_OK && text.error.code)
        code = text.error.code;
    buffer_free(&text);
    grammar_free(grammar);
    grammar_sample_close(&sample);
    return code;
}

static void allocations_may_fail(void **state)
{
    (void)state;
    for (size_t i = 1; i < sizeof varied / sizeof *varied; i++) {
        uint64_t before = memory_allocation_count();
        assert_int_equal(run_all(varied[i]), BULLA_OK);
        uint64_t count = memory_allocation_count() - before;
        for (uint64_t n = 1; n <= count; n++) {
            memory_inject_failure(n, 0);
            int code = run_all(varied[i]);
            memory_inject_failure(0, 0);
            if (code != BULLA_E_MEMORY)
                fail_msg("%s: allocation %d of %d: code %s", varied[i], (int)n, (int)count, bulla_code_name(code));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strings),
        cmocka_unit_test(numbers),
        cmocka_unit_test(arrays),
        cmocka_unit_test(objects),
        cmocka_unit_test(applicators),
        cmocka_unit_test(forms),
        cmocka_unit_test(refusals_name_keyword_and_place),
        cmocka_unit_test(large_specifications_end),
        cmocka_unit_test(too_complex_schemas_are_refused),
        cmocka_unit_test(masks_are_what_is_accepted),
        cmocka_unit_test(long_answers_keep_their_masks),
        cmocka_unit_test(ends_where_the_text_is_complete),
        cmocka_unit_test(a_space_that_decoding_drops_is_no_text),
        cmocka_unit_test(a_byte_without_a_token_is_an_error),
        cmocka_unit_test(allocations_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
