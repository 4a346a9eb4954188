#include "test.h"

#include "base/buffer.h"
#include "base/memory.h"
#include "cli/options.h"
#include "cli/verb.h"

struct values {
    int raw;
    uint64_t threads;
    uint64_t temperature;
    const char *output;
    struct option_texts names;
};

static const struct option_spec options[] = {
    {.name = "raw", .type = OPTION_FLAG, .offset = offsetof(struct values, raw), .help = "no template"},
    {.name = "threads", .letter = 't', .type = OPTION_INTEGER, .offset = offsetof(struct values, threads),
     .value = "N", .help = "threads to use", .minimum = 1, .maximum = 64},
    {.name = "temperature", .type = OPTION_DECIMAL, .offset = offsetof(struct values, temperature), .value = "T",
     .help = "how freely tokens are drawn, where 0 always takes the likeliest; a sentence long enough to be folded "
             "into a second line",
     .minimum = 0, .maximum = 2000000},
    {.name = "output", .letter = 'o', .type = OPTION_TEXT, .offset = offsetof(struct values, output),
     .value = "FILE", .help = "where to write"},
    {.name = "name", .type = OPTION_TEXTS, .offset = offsetof(struct values, names), .value = "NAME", .help = "one more"},
};

enum { OPTIONS = sizeof options / sizeof options[0], ARGUMENTS_MAX = 20 };

/* Parses a copy of the NULL-ended list; argv and count stay for a look. */
static char *argv[ARGUMENTS_MAX];
static int others;

static int parse(const char *const *list, struct values *values, bulla_error *error)
{
    int argc = 0;
    for (; list[argc]; argc++)
        argv[argc] = (char *)(uintptr_t)list[argc];
    *values = (struct values){.threads = 7, .temperature = 800000};
    memset(error, 0, sizeof *error);
    return options_parse(options, OPTIONS, argc, argv, values, &others, error);
}

#define PARSE(...) parse((const char *const[]){__VA_ARGS__, NULL}, &values, &error)

/* The sentence must hold every one of the given words. */
#define assert_refused(call, word)                                            \
    do {                                                                      \
        assert_int_equal(call, BULLA_E_USAGE);                                \
        if (!strstr(error.text, word))                                        \
            fail_msg("\"%s\" does not say \"%s\"", error.text, word);         \
    } while (0)

static void test_forms(void **state)
{
    (void)state;
    struct values values;
    bulla_error error;
    assert_ok(PARSE("a", "--threads", "3", "b", "--raw", "-o", "x y", "c"), error);
    assert_int_equal(values.threads, 3);
    assert_int_equal(values.raw, 1);
    assert_string_equal(values.output, "x y");
    assert_int_equal(others, 3);
    assert_string_equal(argv[0], "a");
    assert_string_equal(argv[1], "b");
    assert_string_equal(argv[2], "c");

    assert_ok(PARSE("--threads=64", "-oout", "--temperature=0.25"), error);
    assert_int_equal(values.threads, 64);
    assert_string_equal(values.output, "out");
    assert_int_equal(values.temperature, 250000);
    assert_int_equal(others, 0);

    assert_ok(PARSE("--output=", "-t1"), error); /* an empty text is a text */
    assert_string_equal(values.output, "");
    assert_int_equal(values.threads, 1);

    assert_ok(PARSE("--name", "a", "--raw", "--name=b"), error); /* several texts */
    assert_int_equal(values.names.count, 2);
    assert_string_equal(values.names.texts[0], "a");
    assert_string_equal(values.names.texts[1], "b");
    assert_refused(PARSE("--name=1", "--name=2", "--name=3", "--name=4", "--name=5", "--name=6", "--name=7", "--name=8",
                         "--name=9", "--name=10", "--name=11", "--name=12", "--name=13", "--name=14", "--name=15",
                         "--name=16", "--name=17"),
                   "--name is given more than 16 times");

    assert_ok(PARSE("--output", "--raw"), error); /* the next argument, whatever it is */
    assert_string_equal(values.output, "--raw");
    assert_int_equal(values.raw, 0);
}

static void test_defaults_stay(void **state)
{
    (void)state;
    struct values values;
    bulla_error error;
    assert_ok(parse((const char *const[]){NULL}, &values, &error), error);
    assert_int_equal(values.threads, 7);
    assert_int_equal(values.temperature, 800000);
    assert_int_equal(values.raw, 0);
    assert_null(values.output);
    assert_int_equal(others, 0);
}

static void test_end_of_options(void **state)
{
    (void)state;
    struct values values;
    bulla_error error;
    assert_ok(PARSE("-", "--", "--raw", "--", "-t"), error);
    assert_int_equal(values.raw, 0);
    assert_int_equal(others, 4);
    assert_string_equal(argv[0], "-");
    assert_string_equal(argv[1], "--raw");
    assert_string_equal(argv[2], "--");
    assert_string_equal(argv[3], "-t");
}

static void test_integers(void **state)
{
    (void)state;
    struct values values;
    bulla_error error;
    static const char *const refused[] = {"0", "65", "-1", "+3", "3.0", "", " 3", "3 ", "0x3", "three",
                                          "18446744073709551617", "99999999999999999999999"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        assert_refused(PARSE("--threads", refused[i]), "--threads needs a whole number from 1 to 64, found \"");
        assert_non_null(strstr(error.text, refused[i]));
        assert_int_equal(values.threads, 7);
    }
    static const struct option_spec seed = {.name = "seed", .type = OPTION_INTEGER, .value = "S", .help = "",
                                            .maximum = UINT64_MAX};
    uint64_t number = 0;
    char most[] = "--seed=18446744073709551615", more[] = "--seed=18446744073709551616";
    char *list[] = {most};
    assert_ok(options_parse(&seed, 1, 1, list, &number, &others, &error), error);
    assert_true(number == UINT64_MAX);
    list[0] = more;
    memset(&error, 0, sizeof error);
    assert_refused(options_parse(&seed, 1, 1, list, &number, &others, &error), "18446744073709551615");
}

static void test_decimals(void **state)
{
    (void)state;
    struct values values;
    bulla_error error;
    static const struct {
        const char *text;
        uint64_t millionths;
    } accepted[] = {{"0", 0},          {"2", 2000000},   {"0.7", 700000}, {".5", 500000},
                    {"1.000001", 1000001}, {"0.000001", 1}, {"1.50", 1500000}, {"2.000000", 2000000}};
    for (size_t i = 0; i < sizeof accepted / sizeof accepted[0]; i++) {
        assert_ok(PARSE("--temperature", accepted[i].text), error);
        assert_int_equal(values.temperature, accepted[i].millionths);
    }
    static const char *const refused[] = {"2.000001", "0.1234567", "", ".", "1.", "1e0", "-0.5", "nan", "inf",
                                          "1,5", "1.2.3", "18446744073710", "18446744073709551616"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        assert_refused(PARSE("--temperature", refused[i]),
                       "--temperature needs a number from 0 to 2 with up to 6 decimal places, found \"");
}

static void test_refusals(void **state)
{
    (void)state;
    struct values values;
    bulla_error error;
    assert_refused(PARSE("--raw=yes"), "--raw takes no value, found \"yes\"");
    assert_refused(PARSE("a", "--output"), "--output needs a value: --output FILE");
    assert_refused(PARSE("-t"), "--threads needs a value");
    assert_refused(PARSE("-t", "1", "--threads=1"), "--threads is given twice");
    assert_refused(PARSE("--thread", "4"), "there is no option --thread; did you mean --threads?");
    assert_refused(PARSE("--thraeds=4"), "there is no option --thraeds; did you mean --threads?");
    assert_refused(PARSE("--entirely-different"), "there is no option --entirely-different (an argument");
    assert_refused(PARSE("-x"), "there is no option -x");
    assert_refused(PARSE("--=3"), "there is no option --");
    assert_refused(PARSE("--a-name-that-is-far-longer-than-any-option-could-ever-be"), "there is no option --a-name");
    assert_refused(PARSE("--r\x1b[31mw"), "there is no option --r?[31mw"); /* nothing reaches the terminal */
}

static void test_verb_arguments(void **state)
{
    (void)state;
    bulla_error error = {0};
    struct values values = {0};
    static const struct verb verb = {.name = "try", .arguments = "FILE [QUESTION]", .options = options,
                                     .option_count = OPTIONS, .minimum_arguments = 1, .maximum_arguments = 2};
    char a[] = "a", b[] = "b", c[] = "c";
    char *list[] = {a, b, c};
    assert_refused(verb_parse(&verb, 0, list, &values, &others, &error), "too few arguments: needs FILE [QUESTION]");
    memset(&error, 0, sizeof error);
    assert_ok(verb_parse(&verb, 2, list, &values, &others, &error), error);
    assert_int_equal(others, 2);
    assert_refused(verb_parse(&verb, 3, list, &values, &others, &error), "one argument too many: \"c\"");
}

static void test_description(void **state)
{
    (void)state;
    struct buffer out = {0};
    options_describe(options, OPTIONS, &out);
    assert_int_equal(out.error.code, BULLA_OK);
    const char *text = (const char *)out.data;
    assert_non_null(strstr(text, "  --raw                   no template\n"));
    assert_non_null(strstr(text, "  -t, --threads N         threads to use\n"));
    assert_non_null(strstr(text, "  -o, --output FILE       where to write\n"));
    for (const char *line = text; *line; line = strchr(line, '\n') + 1)
        assert_true(strcspn(line, "\n") <= 100);
    assert_non_null(strstr(text, "likeliest; a\n                          sentence long"));
    buffer_free(&out);
}

static void test_description_without_memory(void **state)
{
    (void)state;
    int failures = 0;
    for (uint64_t n = 1;; n++) {
        struct buffer out = {0};
        memory_inject_failure(n, 0);
        options_describe(options, OPTIONS, &out);
        memory_inject_failure(0, 0);
        int code = out.error.code;
        buffer_free(&out);
        if (code == BULLA_OK)
            break;
        assert_int_equal(code, BULLA_E_MEMORY);
        failures++;
    }
    assert_true(failures > 0);
}

static void test_distance(void **state)
{
    (void)state;
    assert_int_equal(options_distance("", ""), 0);
    assert_int_equal(options_distance("run", "run"), 0);
    assert_int_equal(options_distance("rn", "run"), 1);
    assert_int_equal(options_distance("urn", "run"), 1); /* a swap is one */
    assert_int_equal(options_distance("", "chat"), 4);
    assert_int_equal(options_distance("import", "inspect"), 4);
    assert_int_equal(options_distance("kitten", "sitting"), 3);
    assert_true(options_distance("a word that is longer than thirty-two letters", "run") > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_defaults_stay),
        cmocka_unit_test(test_end_of_options),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_decimals),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_verb_arguments),
        cmocka_unit_test(test_description),
        cmocka_unit_test(test_description_without_memory),
        cmocka_unit_test(test_distance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
