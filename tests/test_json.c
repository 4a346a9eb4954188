#include "test.h"

#include <locale.h>
#include <math.h>
#include <time.h>

#include "base/decimal.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/utf8.h"

static struct json *parse_text(const char *text, struct arena *arena, bulla_error *error)
{
    bulla_error_clear(error);
    return json_parse(text, strlen(text), "file", arena, error);
}

static void assert_canonical(const char *text, const char *expected)
{
    struct arena arena = {0};
    struct buffer out = {0};
    bulla_error error;
    struct json *value = parse_text(text, &arena, &error);
    if (!value)
        fail_msg("%s: %s", text, error.text);
    json_write_canonical(&out, value);
    assert_int_equal(out.error.code, BULLA_OK);
    assert_string_equal((char *)out.data, expected);
    buffer_free(&out);
    arena_free(&arena);
}

static void assert_refused(const char *text, size_t length, const char *part)
{
    struct arena arena = {0};
    bulla_error error = {0};
    char *exact = malloc(length ? length : 1);
    memcpy(exact, text, length);
    assert_null(json_parse(exact, length, "file", &arena, &error));
    assert_int_equal(error.code, BULLA_E_INPUT);
    if (!strstr(error.text, part))
        fail_msg("\"%s\" should say \"%s\"", error.text, part);
    assert_memory_equal(error.text, "file: ", 6);
    free(exact);
    arena_free(&arena);
}

static void test_values(void **state)
{
    (void)state;
    struct arena arena = {0};
    bulla_error error;
    struct json *value = parse_text(" { \"a\" : [ 1 , -2.5e1, true, false, null, \"x\\u0000y\" ] , \"\" : {} } \n",
                                    &arena, &error);
    assert_non_null(value);
    struct json *list = json_get(value, "a");
    assert_true(json_is(list, JSON_ARRAY));
    assert_int_equal(list->length, 6);
    assert_true(list->items[0]->is_integer);
    assert_int_equal(list->items[0]->integer, 1);
    assert_false(list->items[1]->is_integer);
    assert_true(list->items[1]->number == -25);
    assert_string_equal(list->items[1]->text, "-2.5e1");
    assert_true(json_is_bool(list->items[2]) && json_is_bool(list->items[3]) && !json_is_bool(list->items[4]));
    assert_int_equal(list->items[5]->length, 3);
    assert_memory_equal(list->items[5]->text, "x\0y", 4);
    assert_true(json_is(json_get(value, ""), JSON_OBJECT));
    assert_null(json_get(value, "b"));
    assert_null(json_get(list, "a"));
    assert_null(json_get(NULL, "a"));
    assert_false(json_is(NULL, JSON_NULL));
    arena_free(&arena);
}

static void test_integers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int is_integer;
        int64_t integer;
    } cases[] = {{"9223372036854775807", 1, INT64_MAX}, {"-9223372036854775808", 1, INT64_MIN},
                 {"9223372036854775808", 0, 0},         {"-9223372036854775809", 0, 0},
                 {"-0", 1, 0},                          {"1.0", 0, 0},
                 {"1e2", 0, 0},                         {"1000000000000000019884624838656", 0, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct arena arena = {0};
        bulla_error error;
        struct json *value = parse_text(cases[i].text, &arena, &error);
        assert_non_null(value);
        assert_int_equal(value->is_integer, cases[i].is_integer);
        assert_true(value->integer == cases[i].integer);
        arena_free(&arena);
    }
}

static void test_refusals(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"", "found the end"},
        {"  ", "found the end"},
        {"nul", "a JSON value"},
        {"[1,]", "a value after ','"},
        {"{\"a\":1,}", "a key after ','"},
        {"[1 2]", "',' or ']'"},
        {"{\"a\" 1}", "':' after a key"},
        {"{a:1}", "a key in double quotes"},
        {"01", "the end after"},
        {"1.", "after the decimal point"},
        {".5", "a JSON value"},
        {"-", "a digit"},
        {"1e", "a digit of the exponent"},
        {"+1", "a JSON value"},
        {"NaN", "a JSON value"},
        {"Infinity", "a JSON value"},
        {"1e999", "too large"},
        {"\"abc", "no end"},
        {"\"abc\\", "no end"},
        {"\"\\x\"", "backslash"},
        {"\"\\u12g4\"", "four hex digits"},
        {"\"\\ud800\"", "surrogate"},
        {"\"\\ud800\\u0041\"", "surrogate"},
        {"\"\\udc00\\ud800\"", "surrogate"},
        {"\"a\nb\"", "control character"},
        {"\"\x80\"", "UTF-8"},
        {"\"\xC0\x80\"", "UTF-8"},
        {"\"\xED\xA0\x80\"", "UTF-8"},
        {"\"\xF4\x90\x80\x80\"", "UTF-8"},
        {"\"\xE2\x82\"", "UTF-8"},
        {"\xEF\xBB\xBF{}", "found byte 0xef"},
        {"{\"a\":1,\"a\":2}", "\"a\" twice"},
        {"{\"a\":1,\"\\u0061\":2}", "\"a\" twice"},
        {"// c\n1", "a JSON value"},
        {"[1\n,\n  x]", "line 3, column 3"},
        {"'a'", "a JSON value"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_refused(cases[i][0], strlen(cases[i][0]), cases[i][1]);
    assert_refused("1\0", 2, "the end after");
    assert_refused("\"\\\0\"", 4, "backslash");
}

static void test_depth(void **state)
{
    (void)state;
    char text[600];
    for (int depth = JSON_MAX_DEPTH; depth <= JSON_MAX_DEPTH + 1; depth++) {
        struct arena arena = {0};
        bulla_error error = {0};
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        struct json *value = json_parse(text, 2 * (size_t)depth, "file", &arena, &error);
        assert_true(depth <= JSON_MAX_DEPTH ? value != NULL : value == NULL && strstr(error.text, "128 deep"));
        arena_free(&arena);
    }
}

/* RFC 8785: appendix B (as decimal text), section 3.2.2's and 3.2.3's examples. */
static void test_canonical(void **state)
{
    (void)state;
    assert_canonical("{\"numbers\":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],"
                     "\"string\":\"\\u20ac$\\u000F\\u000aA'\\u0042\\u0022\\u005c\\\\\\\"\\/\","
                     "\"literals\":[null,true,false]}",
                     "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],"
                     "\"string\":\"\xE2\x82\xAC$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}");
    assert_canonical("{\"\\u20ac\":\"Euro Sign\",\"\\r\":\"Carriage Return\",\"\\ufb33\":\"Hebrew Letter Dalet With "
                     "Dagesh\",\"1\":\"One\",\"\\ud83d\\ude00\":\"Emoji: Grinning Face\",\"\\u0080\":\"Control\","
                     "\"\\u00f6\":\"Latin Small Letter O With Diaeresis\"}",
                     "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\xC2\x80\":\"Control\",\"\xC3\xB6\":\"Latin Small "
                     "Letter O With Diaeresis\",\"\xE2\x82\xAC\":\"Euro Sign\",\"\xF0\x9F\x98\x80\":\"Emoji: Grinning "
                     "Face\",\"\xEF\xAC\xB3\":\"Hebrew Letter Dalet With Dagesh\"}");
    assert_canonical("[56.0,-0,-0.0,0e5,1e21,1e20,123456789012345680000,1e-6,1e-7,0.00001234,-1.5e-300,100,"
                     "9007199254740993,12345678901234567890]",
                     "[56,0,0,0,1e+21,100000000000000000000,123456789012345680000,0.000001,1e-7,0.00001234,"
                     "-1.5e-300,100,9007199254740992,12345678901234567000]");
    assert_canonical("{}", "{}");
    assert_canonical("[]", "[]");
    assert_canonical("{\"aa\":1,\"a\":{\"b\":[{}],\"\":0}}", "{\"a\":{\"\":0,\"b\":[{}]},\"aa\":1}");
}

/* RFC 8785, appendix B: bits and text. */
static void test_number_bits(void **state)
{
    (void)state;
    static const struct {
        uint64_t bits;
        const char *text;
    } cases[] = {
        {0x0000000000000000, "0"},
        {0x8000000000000000, "0"},
        {0x0000000000000001, "5e-324"},
        {0x8000000000000001, "-5e-324"},
        {0x7fefffffffffffff, "1.7976931348623157e+308"},
        {0xffefffffffffffff, "-1.7976931348623157e+308"},
        {0x4340000000000000, "9007199254740992"},
        {0xc340000000000000, "-9007199254740992"},
        {0x4430000000000000, "295147905179352830000"},
        {0x44b52d02c7e14af5, "9.999999999999997e+22"},
        {0x44b52d02c7e14af6, "1e+23"},
        {0x44b52d02c7e14af7, "1.0000000000000001e+23"},
        {0x444b1ae4d6e2ef4e, "999999999999999700000"},
        {0x444b1ae4d6e2ef4f, "999999999999999900000"},
        {0x444b1ae4d6e2ef50, "1e+21"},
        {0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"},
        {0x3eb0c6f7a0b5ed8d, "0.000001"},
        {0x41b3de4355555553, "333333333.3333332"},
        {0x41b3de4355555554, "333333333.33333325"},
        {0x41b3de4355555555, "333333333.3333333"},
        {0x41b3de4355555556, "333333333.3333334"},
        {0x41b3de4355555557, "333333333.33333343"},
        {0xbecbf647612f3696, "-0.0000033333333333333333"},
        {0x43143ff3c1cb0959, "1424953923781206.2"},
        {0x3d30000000000000, "5.684341886080802e-14"}, /* 2^-44: the closest 16 digits do not read back */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct json value = {.type = JSON_NUMBER};
        struct buffer out = {0};
        memcpy(&value.number, &cases[i].bits, 8);
        json_write_canonical(&out, &value);
        assert_string_equal((char *)out.data, cases[i].text);
        buffer_free(&out);
    }
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    uint64_t x = *state ^ *state >> 33;
    return x * UINT64_C(0xFF51AFD7ED558CCD) ^ x >> 29;
}

/* What is written reads back to the same bits, and no shorter text would. */
static void test_numbers_read_back(void **state)
{
    (void)state;
    uint64_t random = 1;
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = next_random(&random);
        if (i % 3 == 0)
            bits &= UINT64_C(0xFFF0000000000000); /* powers of two */
        if (i % 7 == 0)
            bits &= UINT64_C(0x800FFFFFFFFFFFFF); /* subnormal */
        double number, back;
        memcpy(&number, &bits, 8);
        if (!isfinite(number) || number == 0)
            continue;
        char digits[18], text[64];
        int exponent, count = decimal_shortest(number, digits, &exponent);
        snprintf(text, sizeof text, "%s0.%se%d", number < 0 ? "-" : "", digits, exponent);
        back = decimal_parse(text, strlen(text));
        assert_memory_equal(&back, &number, 8);
        snprintf(text, sizeof text, "%.*e", count > 1 ? count - 2 : 0, number);
        assert_true(count == 1 || strtod(text, NULL) != number);
    }
}

/* decimal_parse against strtod, which glibc rounds correctly. */
static void test_decimal_parse(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "0", "-0.0", "1", "0.1", "123456789012345678901234567890", "1e22", "1e23", "1e-22", "1e-23", "4.9e-324",
        "2.4703282292062327e-324", "2.4703282292062328e-324", "2.2250738585072011e-308", "1.7976931348623158e308",
        "1e400", "-1e400", "1e-400", "9007199254740993", "9007199254740992.99999", "0.000000000000000000000000123456",
        "100000000000000000000000000000000e-32", "1e99999999999999999999", "0e99999999999999999999",
        "1e-99999999999999999999", "8.5070591730234615865843651857942052863e37", "0.5000000000000001e1",
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double value = decimal_parse(cases[i], strlen(cases[i])), expected = strtod(cases[i], NULL);
        assert_memory_equal(&value, &expected, 8);
    }
    /* 1 + 2^-53 exactly is a tie (to even: 1); one digit far behind decides. */
    static const char tie[] = "1.00000000000000011102230246251565404236316680908203125";
    char longer[4096];
    assert_true(decimal_parse(tie, strlen(tie)) == 1.0);
    memset(longer, '0', sizeof longer);
    memcpy(longer, tie, strlen(tie));
    assert_true(decimal_parse(longer, sizeof longer) == 1.0);
    longer[sizeof longer - 1] = '1';
    assert_true(decimal_parse(longer, sizeof longer) > 1.0);
}

static void test_locale_changes_nothing(void **state)
{
    (void)state;
    static const char *const names[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "de_DE", "da_DK.UTF-8"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (setlocale(LC_ALL, names[i]))
            break;
    assert_canonical("[1.5,1.234567890123e-50]", "[1.5,1.234567890123e-50]");
    setlocale(LC_ALL, "C");
}

static void test_write_string_replaces_invalid_bytes(void **state)
{
    (void)state;
    struct buffer out = {0};
    json_write_string(&out, "a\xFF\xE2\x82z\x7F\b\f", 8);
    assert_string_equal((char *)out.data, "\"a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBDz\x7F\\b\\f\"");
    buffer_free(&out);
}

static void test_utf8(void **state)
{
    (void)state;
    for (uint32_t code_point = 0; code_point < 0x110000; code_point++) {
        char text[4];
        uint32_t back = 0;
        size_t size = utf8_encode(code_point, text);
        int surrogate = code_point >= 0xD800 && code_point <= 0xDFFF;
        assert_int_equal(utf8_decode(text, size, &back), surrogate ? 0 : size);
        assert_true(surrogate || back == code_point);
        assert_int_equal(utf8_decode(text, size - 1, &back), 0);
    }
    assert_int_equal(utf8_check("ab\xC3\xA4\xFFz", 6), 4);
}

/* Many members: found by hash, duplicates refused, in linear time. */
static void test_large_object(void **state)
{
    (void)state;
    enum { MEMBERS = 300000 };
    struct buffer text = {0};
    struct arena arena = {0};
    bulla_error error = {0};
    buffer_append_byte(&text, '{');
    for (int i = 0; i < MEMBERS; i++)
        buffer_append_format(&text, "%s\"k%d\":%d", i ? "," : "", i, i);
    buffer_append_byte(&text, '}');
    clock_t start = clock();
    struct json *value = json_parse((char *)text.data, text.length, "file", &arena, &error);
    assert_non_null(value);
    for (int i = 0; i < MEMBERS; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i);
        assert_int_equal(json_get(value, key)->integer, i);
    }
    assert_null(json_get(value, "k300000"));
    print_message("%d members in %.0f ms\n", MEMBERS, 1e3 * (double)(clock() - start) / CLOCKS_PER_SEC);
    arena_free(&arena);
    text.length--;
    buffer_append_text(&text, ",\"k77\":0}");
    assert_null(json_parse((char *)text.data, text.length, "file", &arena, &error));
    assert_non_null(strstr(error.text, "\"k77\" twice"));
    arena_free(&arena);
    buffer_free(&text);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    static const char text[] = "{\"a\":[1,2.5,\"x\"],\"b\":{\"c\":null},\"d\":1,\"e\":2,\"f\":3,\"g\":4,\"h\":5,"
                               "\"i\":6,"
                               "\"j\":7,\"k\":[[[]]]}";
    for (uint64_t n = 1;; n++) {
        struct arena arena = {0};
        struct buffer out = {0};
        bulla_error error = {0};
        uint64_t before = memory_allocation_count();
        memory_inject_failure(n, 0);
        struct json *value = json_parse(text, sizeof text - 1, "file", &arena, &error);
        if (value)
            json_write_canonical(&out, value);
        memory_inject_failure(0, 0);
        int done = memory_allocation_count() - before < n;
        int failed = !value || out.error.code != BULLA_OK;
        assert_int_equal(failed, !done);
        assert_true(value || error.code == BULLA_E_MEMORY);
        buffer_free(&out);
        arena_free(&arena);
        if (done)
            break;
    }
}

static void test_arena_limit(void **state)
{
    (void)state;
    struct arena arena = {.limit = 128 * 1024};
    struct buffer text = {0};
    bulla_error error = {0};
    buffer_append_byte(&text, '[');
    for (int i = 0; i < 100000; i++)
        buffer_append_text(&text, "1,");
    buffer_append_text(&text, "1]");
    assert_null(json_parse((char *)text.data, text.length, "file", &arena, &error));
    assert_int_equal(error.code, BULLA_E_LIMIT);
    arena_free(&arena);
    buffer_free(&text);
}

/* What is passed on keeps its order and its numbers, and loses its blanks. */
static void test_write_as_it_came(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct buffer out = {0};
    bulla_error error;
    struct json *value = parse_text(" { \"z\" : [ 1.50, -0, 1E3, true, false, null, {} , [ ] ] ,"
                                    " \"a\\u0000\" : \"\\u00e9\\n\" } ", &arena, &error);
    assert_non_null(value);
    json_write(&out, value);
    assert_string_equal((char *)out.data, "{\"z\":[1.50,-0,1E3,true,false,null,{},[]],\"a\\u0000\":\"\xC3\xA9\\n\"}");
    buffer_free(&out);
    arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_canonical),
        cmocka_unit_test(test_write_as_it_came),
        cmocka_unit_test(test_number_bits),
        cmocka_unit_test(test_numbers_read_back),
        cmocka_unit_test(test_decimal_parse),
        cmocka_unit_test(test_locale_changes_nothing),
        cmocka_unit_test(test_write_string_replaces_invalid_bytes),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_large_object),
        cmocka_unit_test(test_allocation_failures),
        cmocka_unit_test(test_arena_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
