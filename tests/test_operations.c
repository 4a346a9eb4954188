/* The reference's operations against the cases in tests/vectors/canonical, which
 * an implementation of docs/canonical.md in plain integers of any length made
 * and a second one confirmed; and what those cases leave out: edges, bounds. */
#include "test.h"

#include "base/arena.h"
#include "base/buffer.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/memory.h"
#include "exec/ref/operations.h"
#include "model/program_names.h"
#include "model/tables.h"

struct vectors {
    struct arena arena;
    struct json *cases;
};

static struct vectors vectors_open(const char *name)
{
    struct vectors vectors = {0};
    bulla_error error = {0};
    const char *root = getenv("BULLA_SOURCE_ROOT");
    char path[4096];
    snprintf(path, sizeof path, "%s/tests/vectors/canonical/%s.json", root ? root : ".", name);
    uint8_t *text;
    size_t length;
    assert_ok(file_read(path, 16 << 20, &text, &length, &error), error);
    vectors.cases = json_parse((const char *)text, length, name, &vectors.arena, &error);
    if (!vectors.cases)
        fail_msg("%s", error.text);
    memory_free(text);
    return vectors;
}

static void vectors_close(struct vectors *vectors, const char *name, size_t checked)
{
    assert_true(checked > 0);
    print_message("%s: %zu cases equal\n", name, checked);
    arena_free(&vectors->arena);
}

/* A number, or a 64-bit one in a string. */
static int64_t integer_of(const struct json *value)
{
    if (json_is(value, JSON_STRING))
        return (int64_t)strtoull(value->text, NULL, 10);
    if (!value || !value->is_integer)
        fail_msg("an integer is missing");
    return value->integer;
}

static int64_t member(const struct json *object, const char *key)
{
    return integer_of(json_get(object, key));
}

/* A new array of `list`'s integers as int32_t; memory_free. */
static int32_t *numbers(const struct json *list, uint32_t *count)
{
    if (!json_is(list, JSON_ARRAY))
        fail_msg("a list is missing");
    int32_t *values = memory_alloc(list->length + 1, sizeof *values, NULL);
    for (size_t i = 0; i < list->length; i++)
        values[i] = (int32_t)integer_of(list->items[i]);
    if (count)
        *count = (uint32_t)list->length;
    return values;
}

static int8_t *bytes(const struct json *list, uint32_t *count)
{
    uint32_t length;
    int32_t *values = numbers(list, &length);
    int8_t *result = memory_alloc(length + 1, 1, NULL);
    for (uint32_t i = 0; i < length; i++)
        result[i] = (int8_t)values[i];
    if (count)
        *count = length;
    memory_free(values);
    return result;
}

static void assert_numbers(const struct json *expected, const int32_t *found, uint32_t count)
{
    assert_int_equal(expected->length, count);
    for (uint32_t i = 0; i < count; i++)
        if (integer_of(expected->items[i]) != found[i])
            fail_msg("element %u is %d, expected %lld", i, found[i], (long long)integer_of(expected->items[i]));
}

static void assert_bytes(const struct json *expected, const int8_t *found, uint32_t count)
{
    assert_int_equal(expected->length, count);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(integer_of(expected->items[i]), found[i]);
}

/* Where the case has a result it must be OK, where it has a "range" RANGE. */
static int is_expected(const struct json *one, int range)
{
    assert_int_equal(range, json_get(one, "range") != NULL);
    assert_int_equal(range, json_get(one, "result") == NULL);
    return !range;
}

static void test_quantize(void **state)
{
    struct vectors vectors = vectors_open("quantize");
    for (size_t i = 0; i < vectors.cases->length; i++) {
        const struct json *one = vectors.cases->items[i], *result = json_get(one, "result");
        uint32_t n, m;
        int T;
        int32_t *x = numbers(json_get(one, "x"), &n), *h = memory_alloc(n, sizeof *h, NULL);
        uint8_t *e = (uint8_t *)bytes(json_get(one, "e"), NULL);
        int8_t *q = memory_alloc(n, 1, NULL);
        reference_quantize(x, e, n, (uint32_t)member(one, "b"), h, q, &m, &T);
        assert_int_equal(m, member(result, "m"));
        assert_int_equal(T, member(result, "T"));
        assert_bytes(json_get(result, "q"), q, n);
        memory_free(x), memory_free(h), memory_free(e), memory_free(q);
    }
    vectors_close(&vectors, "quantize", vectors.cases->length);
}

static void test_norm_quant(void **state)
{
    struct vectors vectors = vectors_open("norm_quant");
    for (size_t i = 0; i < vectors.cases->length; i++) {
        const struct json *one = vectors.cases->items[i], *result = json_get(one, "result");
        uint32_t n;
        int64_t s;
        int32_t *x = numbers(json_get(one, "x"), &n), *h = memory_alloc(n, sizeof *h, NULL);
        uint8_t *e = (uint8_t *)bytes(json_get(one, "e"), NULL);
        int8_t *q = memory_alloc(n, 1, NULL);
        int range = reference_norm_quant(x, e, n, (uint32_t)member(one, "b"), (int)member(one, "c"),
                                         (uint64_t)member(one, "eps"), h, q, &s);
        if (is_expected(one, range)) {
            assert_true(s == member(result, "s"));
            assert_bytes(json_get(result, "q"), q, n);
        }
        memory_free(x), memory_free(h), memory_free(e), memory_free(q);
    }
    vectors_close(&vectors, "norm_quant", vectors.cases->length);
}

static void test_linear(void **state)
{
    struct vectors vectors = vectors_open("linear");
    for (size_t i = 0; i < vectors.cases->length; i++) {
        const struct json *one = vectors.cases->items[i], *rows = json_get(one, "W");
        uint32_t n;
        int8_t *q = bytes(json_get(one, "q"), &n), *W = memory_alloc(rows->length, n, NULL);
        uint16_t *M = memory_alloc(rows->length, sizeof *M, NULL);
        int32_t *M_wide = numbers(json_get(one, "M"), NULL), *y = memory_alloc(rows->length, sizeof *y, NULL);
        int32_t *bias = json_is(json_get(one, "bias"), JSON_ARRAY) ? numbers(json_get(one, "bias"), NULL) : NULL;
        for (size_t j = 0; j < rows->length; j++) {
            int8_t *row = bytes(rows->items[j], NULL);
            memcpy(W + j * n, row, n);
            M[j] = (uint16_t)M_wide[j];
            memory_free(row);
        }
        int range = reference_linear(q, member(one, "s"), W, M, bias, (uint32_t)rows->length, n,
                                     (int)member(one, "k1"), (int)member(one, "k2"), y);
        if (is_expected(one, range))
            assert_numbers(json_get(one, "result"), y, (uint32_t)rows->length);
        memory_free(q), memory_free(W), memory_free(M), memory_free(M_wide), memory_free(y), memory_free(bias);
    }
    vectors_close(&vectors, "linear", vectors.cases->length);
}

static void test_norm(void **state)
{
    struct vectors vectors = vectors_open("norm");
    for (size_t i = 0; i < vectors.cases->length; i++) {
        const struct json *one = vectors.cases->items[i];
        uint32_t n;
        int32_t *x = numbers(json_get(one, "x"), &n), *G = numbers(json_get(one, "G"), NULL);
        int32_t *y = memory_alloc(n, sizeof *y, NULL);
        if (is_expected(one, reference_norm(x, G, n, (uint64_t)member(one, "eps"), (int)member(one, "k"), y)))
            assert_numbers(json_get(one, "result"), y, n);
        memory_free(x), memory_free(G), memory_free(y);
    }
    vectors_close(&vectors, "norm", vectors.cases->length);
}

static void test_rope(void **state)
{
    struct vectors vectors = vectors_open("rope");
    static int16_t cosine[65536];
    tables_cosine(cosine);
    for (size_t i = 0; i < vectors.cases->length; i++) {
        const struct json *one = vectors.cases->items[i], *turns = json_get(one, "turn");
        uint32_t n;
        int32_t *x = numbers(json_get(one, "x"), &n), *y = memory_alloc(n, sizeof *y, NULL);
        uint64_t *turn = memory_alloc(turns->length, sizeof *turn, NULL);
        for (size_t j = 0; j < turns->length; j++)
            turn[j] = (uint64_t)integer_of(turns->items[j]);
        int range = reference_rope(x, n, 2 * (uint32_t)turns->length, json_is(json_get(one, "half"), JSON_TRUE), turn,
                                   (uint64_t)member(one, "pos"), cosine, y);
        if (is_expected(one, range))
            assert_numbers(json_get(one, "result"), y, n);
        memory_free(x), memory_free(y), memory_free(turn);
    }
    vectors_close(&vectors, "rope", vectors.cases->length);
}

static struct reference_key key_at(void *context, uint64_t position)
{
    return ((struct reference_key *)context)[position];
}

static struct reference_tables *shared_tables(void)
{
    struct reference_tables *tables = memory_alloc(1, sizeof *tables, NULL);
    tables_exp(15, tables->exp15);
    tables_exp(24, tables->exp24);
    tables_exp(31, tables->exp31);
    tables_cosine(tables->cosine);
    return tables;
}

static void test_attend(void **state)
{
    struct vectors vectors = vectors_open("attend");
    struct reference_tables *tables = shared_tables();
    for (size_t i = 0; i < vectors.cases->length; i++) {
        const struct json *one = vectors.cases->items[i], *list = json_get(one, "keys");
        const struct json *window = json_get(one, "window");
        uint32_t size;
        int8_t *q8 = bytes(json_get(one, "q8"), &size);
        struct reference_key *keys = memory_alloc(list->length, sizeof *keys, NULL);
        for (size_t p = 0; p < list->length; p++)
            keys[p] = (struct reference_key){.k8 = bytes(list->items[p]->items[0], NULL),
                                             .t_k = (int32_t)integer_of(list->items[p]->items[1]),
                                             .v8 = bytes(list->items[p]->items[2], NULL),
                                             .k_v = (int32_t)integer_of(list->items[p]->items[3])};
        int32_t *o = memory_alloc(size, sizeof *o, NULL);
        int range = reference_attend(q8, (int32_t)member(one, "s_q"), size, (uint64_t)member(one, "t"),
                                     json_is(window, JSON_NULL) ? 0 : (uint32_t)integer_of(window),
                                     (int)member(one, "a2"), NULL, tables, key_at, keys, o);
        if (is_expected(one, range))
            assert_numbers(json_get(one, "result"), o, size);
        for (size_t p = 0; p < list->length; p++)
            memory_free((void *)(uintptr_t)keys[p].k8), memory_free((void *)(uintptr_t)keys[p].v8);
        memory_free(q8), memory_free(keys), memory_free(o);
    }
    memory_free(tables);
    vectors_close(&vectors, "attend", vectors.cases->length);
}

static void test_gate(void **state)
{
    struct vectors vectors = vectors_open("gate");
    for (size_t i = 0; i < vectors.cases->length; i++) {
        const struct json *one = vectors.cases->items[i];
        int32_t A[1025];
        int is_silu = strcmp(json_get(one, "act")->text, "silu") == 0;
        tables_activation(is_silu ? TABLES_SILU : TABLES_GELU_TANH, A);
        uint32_t n;
        int32_t *g = numbers(json_get(one, "g"), &n), *u = numbers(json_get(one, "u"), NULL);
        int32_t *y = memory_alloc(n, sizeof *y, NULL);
        if (is_expected(one, reference_gate(g, u, n, A, (int)member(one, "F_g"), (int)member(one, "k"), y)))
            assert_numbers(json_get(one, "result"), y, n);
        memory_free(g), memory_free(u), memory_free(y);
    }
    vectors_close(&vectors, "gate", vectors.cases->length);
}

static void assert_digest(const char *name, const void *table, size_t length, const char *expected)
{
    bulla_error error = {0};
    uint8_t digest[32];
    char text[65];
    assert_ok(hash_sha256(table, length, digest, &error), error);
    hex_encode(digest, 32, text);
    if (!expected || strcmp(text, expected) != 0)
        fail_msg("%s: SHA-256 %s, expected %s", name, text, expected ? expected : "one in tables.json");
}

/* The digest in tables.json whose description starts with `name`. */
static const char *digest_of(const struct json *list, const char *name)
{
    for (size_t i = 0; i < list->length; i++)
        if (strncmp(list->keys[i], name, strlen(name)) == 0)
            return list->items[i]->text;
    return NULL;
}

static void test_tables(void **state)
{
    struct vectors vectors = vectors_open("tables");
    static const struct {
        const char *name;
        int bits;
    } powers[] = {{"EXP15", 15}, {"EXP24", 24}, {"EXP31", 31}};
    for (int i = 0; i < 3; i++) {
        uint32_t mantissas[1024];
        tables_exp(powers[i].bits, mantissas);
        assert_digest(powers[i].name, mantissas, sizeof mantissas, digest_of(vectors.cases, powers[i].name));
        assert_digest(powers[i].name, mantissas, sizeof mantissas, program_tables[i].sha256);
    }
    static int16_t cosine[65536];
    tables_cosine(cosine);
    assert_digest("COS", cosine, sizeof cosine, digest_of(vectors.cases, "COS"));
    assert_digest("COS", cosine, sizeof cosine, program_tables[3].sha256);
    int32_t A[1025];
    tables_activation(TABLES_SILU, A);
    assert_digest("silu", A, sizeof A, digest_of(vectors.cases, "silu"));
    tables_activation(TABLES_GELU_TANH, A);
    assert_digest("gelu_tanh", A, sizeof A, digest_of(vectors.cases, "gelu_tanh"));
    assert_int_equal(vectors.cases->length, 6);
    vectors_close(&vectors, "tables", vectors.cases->length);
}

/* |x| at its largest and every shape of sign must stay within 30 bits and
 * within 127, as the page says without a check. */
static void test_quantize_extremes(void **state)
{
    enum { N = 4096 };
    static int32_t x[N], h[N];
    static int8_t q[N];
    static uint8_t e[N];
    uint32_t m;
    int T;
    for (int shape = 0; shape < 6; shape++)
        for (uint32_t b = 1; b <= N; b *= 2) {
            for (int i = 0; i < N; i++) {
                int negative = shape == 1 || (shape == 2 && (i & 1)) || (shape == 3 && __builtin_popcount(i & 85) % 2);
                x[i] = shape == 4 ? i == 77 : negative ? -INT32_MAX : INT32_MAX;
                e[i] = shape == 5 ? (uint8_t)(i % 16) : 15;
            }
            reference_quantize(x, e, N, b, h, q, &m, &T);
            assert_true(m > 0 && m <= 1u << 30);
            int largest = 0;
            for (int i = 0; i < N; i++) {
                assert_true(q[i] >= -127);
                largest = abs(q[i]) > largest ? abs(q[i]) : largest;
            }
            assert_int_equal(largest, 127);
        }
}

static void test_round_shift_and_roots(void **state)
{
    assert_true(reference_round_shift(5, 1) == 3 && reference_round_shift(-5, 1) == -2);
    assert_true(reference_round_shift(-6, 2) == -1 && reference_round_shift(7, 0) == 7);
    for (uint64_t root = 0; root < 100000; root++)
        assert_true(reference_integer_root(root * root) == root && reference_integer_root(root * root + 2 * root) == root);
    for (uint64_t root = (UINT64_C(1) << 31) - 1000; root < UINT64_C(1) << 31; root++)
        assert_true(reference_integer_root(root * root) == root && reference_integer_root(root * root + 2 * root) == root);
    assert_true(reference_integer_root((UINT64_C(1) << 62) - 1) == (UINT64_C(1) << 31) - 1);
    assert_int_equal(reference_bit_length(0), 0);
    assert_int_equal(reference_bit_length(UINT64_MAX), 64);
}

/* Each bound marked in the page: the last value within and the first one out. */
static void test_bounds(void **state)
{
    int32_t y, big = INT32_MAX, one = 1, minus = -INT32_MAX;
    assert_int_equal(reference_add(&big, &one, 1, &y), 1);
    assert_int_equal(reference_add(&minus, &one, 1, &y), 0);
    int32_t minus_one = -1;
    assert_int_equal(reference_add(&minus, &minus_one, 1, &y), 1); /* -2^31 is no value */
    int8_t q = 1, W = 1;
    assert_int_equal(reference_linear_row(&q, (INT64_C(1) << 25) - 1, &W, 1, 0, 1, 10, 0, &y), 0);
    assert_int_equal(reference_linear_row(&q, INT64_C(1) << 25, &W, 1, 0, 1, 10, 0, &y), 1);
    int32_t v[2] = {127 << 24, 0};
    int8_t v8[2];
    int32_t k_v;
    assert_int_equal(reference_value_quant(v, 2, v8, &k_v), 0);
    assert_int_equal(k_v, 24);
    assert_int_equal(v8[0], 127);
    v[1] = -(127 << 24) - 1;
    assert_int_equal(reference_value_quant(v, 2, v8, &k_v), 1);
    /* ss + eps < 2^62 */
    int32_t x[1] = {1 << 30}, h[1], G[1] = {1};
    int64_t s;
    uint64_t rest = (UINT64_C(1) << 62) - (UINT64_C(1) << 60);
    assert_int_equal(reference_norm(x, G, 1, rest - 1, 0, &y), 0);
    assert_int_equal(reference_norm(x, G, 1, rest, 0, &y), 1);
    int8_t q8[1];
    assert_int_equal(reference_norm_quant(x, NULL, 1, 1, 0, rest - 1, h, q8, &s), 0);
    assert_int_equal(reference_norm_quant(x, NULL, 1, 1, 0, rest, h, q8, &s), 1);
}

static void test_exp_and_softcap(void **state)
{
    struct reference_tables *tables = shared_tables();
    assert_int_equal(reference_exp(tables->exp15, 15, 0), 32767);
    assert_int_equal(reference_exp(tables->exp15, 15, 1024), 32767 >> 1);
    assert_int_equal(reference_exp(tables->exp15, 15, 15 * 1024 - 1), tables->exp15[1023] >> 14);
    assert_int_equal(reference_exp(tables->exp15, 15, 15 * 1024), 0);
    assert_int_equal(reference_exp(tables->exp31, 31, UINT64_MAX), 0);
    memory_free(tables);
    int32_t A[1025];
    tables_softcap(20, 1, 10, A);
    assert_int_equal(A[512], 0);
    for (int i = 0; i <= 1024; i++) {
        assert_int_equal(A[i], -A[1024 - i]); /* tanh is odd, and no value is a half */
        assert_int_equal(reference_softcap(A, (i - 512) * 1024), A[i]);
    }
    /* 20 / ln 2 in Q10, reached and kept at the ends */
    assert_int_equal(A[1024], 29546);
    static const int32_t beyond[] = {1 << 19, (1 << 19) + 1, INT32_MAX};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(reference_softcap(A, beyond[i]), A[1024]);
        assert_int_equal(reference_softcap(A, -beyond[i]), A[0]);
    }
    assert_int_equal(reference_softcap(A, INT32_MIN), A[0]);
    for (int32_t z = -700; z <= 700; z++) /* a line from 0 to A[513] and from A[511] */
        assert_int_equal(reference_softcap(A, z), z < 0 ? A[511] + reference_round_shift((int64_t)-A[511] * (1024 + z), 10)
                                                        : reference_round_shift((int64_t)A[513] * z, 10));
}

/* The window is a view of the same keys: positions before it do not matter. */
static void test_attend_window(void **state)
{
    enum { SIZE = 16, POSITIONS = 200, WINDOW = 70 };
    struct reference_tables *tables = shared_tables();
    static int8_t k8[POSITIONS][SIZE], v8[POSITIONS][SIZE];
    struct reference_key keys[POSITIONS];
    uint32_t seed = 1;
    for (int p = 0; p < POSITIONS; p++) {
        for (int i = 0; i < SIZE; i++) {
            k8[p][i] = (int8_t)((int)((seed = seed * 1664525 + 1013904223) >> 24) % 127);
            v8[p][i] = (int8_t)((int)((seed = seed * 1664525 + 1013904223) >> 24) % 127);
        }
        keys[p] = (struct reference_key){k8[p], v8[p], 300000, p % 5};
    }
    for (uint64_t t = 0; t < POSITIONS; t++) {
        int32_t windowed[SIZE], again[SIZE], all[SIZE];
        assert_int_equal(reference_attend(k8[0], 400000, SIZE, t, WINDOW, 18, NULL, tables, key_at, keys, windowed), 0);
        assert_int_equal(reference_attend(k8[0], 400000, SIZE, t, 0, 18, NULL, tables, key_at, keys, all), 0);
        if (t < WINDOW) {
            assert_memory_equal(windowed, all, sizeof all);
            continue;
        }
        struct reference_key kept = keys[t - WINDOW];
        keys[t - WINDOW].t_k = INT32_MAX;
        keys[t - WINDOW].k_v = 24;
        assert_int_equal(reference_attend(k8[0], 400000, SIZE, t, WINDOW, 18, NULL, tables, key_at, keys, again), 0);
        assert_memory_equal(windowed, again, sizeof again);
        keys[t - WINDOW] = kept;
    }
    memory_free(tables);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp_and_softcap),
        cmocka_unit_test(test_attend_window),
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_quantize),
        cmocka_unit_test(test_norm_quant),
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_norm),
        cmocka_unit_test(test_rope),
        cmocka_unit_test(test_attend),
        cmocka_unit_test(test_gate),
        cmocka_unit_test(test_quantize_extremes),
        cmocka_unit_test(test_round_shift_and_roots),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
