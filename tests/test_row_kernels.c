/* Row kernels of every instruction set against the reference, to the bit: random
 * vectors of all magnitudes, odd sizes, and both sides of every bound. */
#include "test.h"

#include "base/memory.h"
#include "bulla/engine.h"
#include "exec/cpu/isa.h"
#include "exec/ref/operations.h"
#include "model/tables.h"

enum { MOST = 4096, ROUNDS = 3000 };

static uint64_t state = 88172645463325252u;
static uint64_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static int32_t value_of(int bits)
{
    int64_t span = INT64_C(1) << bits, value = (int64_t)(next() % (uint64_t)(2 * span - 1)) - (span - 1);
    return (int32_t)value;
}

struct buffers {
    int32_t x[MOST], y[MOST], a[MOST], b[MOST], h[MOST], G[MOST], A[1025];
    int8_t q[MOST], p[MOST];
    uint8_t e[MOST];
    uint64_t turn[MOST];
    int16_t table[65536];
};
static struct buffers B;

static void fill(uint32_t n)
{
    int bits = 1 + (int)(next() % 31), odd = next() % 8 == 0;
    for (uint32_t i = 0; i < n; i++) {
        B.x[i] = value_of(bits);
        B.y[i] = value_of(1 + (int)(next() % 31));
        B.G[i] = value_of(24);
        B.e[i] = (uint8_t)(next() % (odd ? 16 : 9));
    }
    if (next() % 4 == 0)
        B.x[next() % n] = next() & 1 ? INT32_MAX : -INT32_MAX;
    if (next() % 64 == 0)
        memset(B.x, 0, n * sizeof B.x[0]);
}

static uint32_t block_of(uint32_t n)
{
    uint32_t b = n & (0u - n);
    return b > 4096 ? 4096 : b;
}

static void check_quantising(const struct kernels *k, uint32_t n)
{
    int64_t s, t;
    reference_quant(B.x, n, block_of(n), B.h, B.q, &s);
    k->quant(B.x, n, block_of(n), B.h, B.p, &t);
    assert_true(s == t);
    assert_memory_equal(B.q, B.p, n);
    int c = (int)(next() % 60) - 20;
    uint64_t eps = next() >> (next() % 63 + 1);
    eps = eps ? eps : 1;
    int r = reference_norm_quant(B.x, B.e, n, block_of(n), c, eps, B.h, B.q, &s);
    assert_int_equal(k->norm_quant(B.x, B.e, n, block_of(n), c, eps, B.h, B.p, &t), r);
    assert_true(r || s == t);
    assert_memory_equal(B.q, B.p, n);
    int32_t kv, kw;
    r = reference_value_quant(B.x, n, B.q, &kv);
    assert_int_equal(k->value_quant(B.x, n, B.p, &kw), r);
    assert_int_equal(kv, kw);
    assert_memory_equal(B.q, B.p, n);
}

static void check_vectors(const struct kernels *k, uint32_t n)
{
    int shift = (int)(next() % 62);
    uint64_t eps = (next() >> (next() % 63 + 1)) | 1;
    int r = reference_norm(B.x, B.G, n, eps, shift, B.a);
    assert_int_equal(k->norm(B.x, B.G, n, eps, shift, B.b), r);
    assert_true(r || memcmp(B.a, B.b, n * 4) == 0);
    int F_g = (int)(next() % 40) - 4;
    r = reference_gate(B.x, B.y, n, B.A, F_g, shift, B.a);
    assert_int_equal(k->gate(B.x, B.y, n, B.A, F_g, k->small_steps(B.A), shift, B.b), r);
    assert_true(r || memcmp(B.a, B.b, n * 4) == 0);
    r = reference_add(B.x, B.y, n, B.a);
    assert_int_equal(k->add(B.x, B.y, n, B.b), r);
    assert_true(r || memcmp(B.a, B.b, n * 4) == 0);
}

static void check_rope(const struct kernels *k, uint32_t n)
{
    uint32_t size = n & ~1u, rotary = size < 8 || next() & 1 ? size : size / 4 * 2;
    uint64_t position = next() % 100000;
    int half = (int)(next() & 1);
    for (uint32_t i = 0; i < rotary / 2; i++)
        B.turn[i] = next();
    int r = reference_rope(B.x, size, rotary, half, B.turn, position, B.table, B.a);
    assert_int_equal(k->rope(B.x, 1, size, rotary, half, B.turn, position, B.table, B.b), r);
    assert_true(r || memcmp(B.a, B.b, size * 4) == 0);
}

static void test_against_reference(void **unused)
{
    (void)unused;
    static int32_t activations[2][1025];
    tables_cosine(B.table);
    tables_activation(TABLES_SILU, activations[0]);
    tables_activation(TABLES_GELU_TANH, activations[1]);
    for (const char *const *isa = bulla_engine_isas(); *isa; isa++) {
        bulla_error error = {0};
        const struct kernels *kernels;
        assert_ok(isa_choose(*isa, &kernels, &error), error);
        printf("row kernels: %s, %d rounds\n", *isa, ROUNDS);
        for (int round = 0; round < ROUNDS; round++) {
            static const uint32_t sizes[] = {576, 640, 1536, 2048, 4096, 64, 256, 80, 96, 2, 8, 33, 100};
            uint32_t n = round % 4 ? sizes[next() % 13] : 2 + (uint32_t)(next() % 700);
            memcpy(B.A, activations[round & 1], sizeof B.A);
            if (round % 16 == 5)
                B.A[next() % 1025] = value_of(30);
            fill(n);
            check_quantising(kernels, n);
            check_vectors(kernels, n);
            check_rope(kernels, n);
        }
    }
}

/* Powers of two and their neighbours, of both signs, in a row: every bound of the page is one. */
static uint32_t fill_edges(void)
{
    uint32_t n = 0;
    for (int bit = 0; bit <= 30; bit++)
        for (int32_t near = -1; near <= 1; near++) {
            B.x[n++] = (int32_t)(1u << bit) + near;
            B.x[n++] = -((int32_t)(1u << bit) + near);
        }
    B.x[n++] = INT32_MAX;
    B.x[n++] = -INT32_MAX;
    while (n % 64)
        B.x[n++] = 0;
    return n;
}

static void check_table_edges(const struct kernels *k)
{
    uint32_t n = fill_edges();
    for (uint32_t i = 0; i < n; i++)
        B.y[i] = 1 << 4;
    for (int F_g = 16; F_g <= 40; F_g++)
        for (int gated = 0; gated < 2; gated++) {
            const int32_t *u = gated ? B.y : NULL;
            assert_int_equal(reference_gate(B.x, u, n, B.A, F_g, 4, B.a), 0);
            assert_int_equal(k->gate(B.x, u, n, B.A, F_g, k->small_steps(B.A), 4, B.b), 0);
            assert_memory_equal(B.a, B.b, n * sizeof B.a[0]);
        }
    /* Each alone among zeros, shifted to the left: within the bound or just beyond. */
    for (int F_g = 0; F_g < 16; F_g++)
        for (uint32_t i = 0; i < n; i++) {
            int32_t alone[16] = {[5] = B.x[i]};
            int r = reference_gate(alone, B.y, 16, B.A, F_g, 4, B.a);
            assert_int_equal(k->gate(alone, B.y, 16, B.A, F_g, k->small_steps(B.A), 4, B.b), r);
            assert_true(r || memcmp(B.a, B.b, sizeof alone) == 0);
        }
    k->softcap(B.A, B.x, n, B.b);
    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(B.b[i], reference_softcap(B.A, B.x[i]));
}

/* x_0 and y_0 lie at +-2^31 together, or one off. */
static void check_sum_edges(const struct kernels *k)
{
    for (int32_t near = -2; near <= 2; near++)
        for (int negative = 0; negative <= 1; negative++) {
            int32_t first = 1 << 30, second = first + near;
            int32_t x[20] = {[3] = negative ? -first : first}, y[20] = {[3] = negative ? -second : second};
            int r = reference_add(x, y, 20, B.a);
            assert_int_equal(r, near >= 0);
            assert_int_equal(k->add(x, y, 20, B.b), r);
            assert_true(r || memcmp(B.a, B.b, sizeof x) == 0);
        }
}

static void check_value_edges(const struct kernels *k)
{
    for (int bits = 0; bits <= 24; bits++)
        for (int32_t over = 0; over <= 1; over++) {
            int32_t largest = (127 << bits) + over, kv, kw;
            int32_t x[32] = {[9] = -largest, [17] = largest / 2, [31] = largest};
            int r = reference_value_quant(x, 32, B.q, &kv);
            assert_int_equal(r, over && bits == 24);
            assert_int_equal(k->value_quant(x, 32, B.p, &kw), r);
            assert_int_equal(kw, kv);
            assert_memory_equal(B.q, B.p, 32);
        }
}

/* 16 squares of 2^29 are 2^62, the bound; eps fills what is left below it. */
static void check_root_edges(const struct kernels *k)
{
    for (int32_t under = 0; under <= 1; under++)
        for (uint64_t over = 0; over <= 1; over++) {
            int64_t s, t;
            uint64_t left = 0;
            for (int i = 0; i < 16; i++) {
                int32_t size = (1 << 29) - (i == 3 ? 2 * under : 0);
                B.x[i] = i & 1 ? size : -size;
                B.G[i] = i & 2 ? (1 << 24) - 1 : 1 - (1 << 24);
                left += (UINT64_C(1) << 58) - (uint64_t)((int64_t)B.x[i] * B.x[i]);
            }
            uint64_t eps = left ? left - 1 + over : over;
            memset(B.e, 15, 16);
            int r = reference_norm_quant(B.x, B.e, 16, 16, 9, eps, B.h, B.q, &s);
            assert_int_equal(r, !under || over);
            assert_int_equal(k->norm_quant(B.x, B.e, 16, 16, 9, eps, B.h, B.p, &t), r);
            assert_true(r || (s == t && memcmp(B.q, B.p, 16) == 0));
            assert_int_equal(reference_norm(B.x, B.G, 16, eps, 20, B.a), r);
            assert_int_equal(k->norm(B.x, B.G, 16, eps, 20, B.b), r);
            assert_true(r || memcmp(B.a, B.b, 64) == 0);
        }
}

static void test_edges(void **unused)
{
    (void)unused;
    tables_activation(TABLES_SILU, B.A);
    for (const char *const *isa = bulla_engine_isas(); *isa; isa++) {
        bulla_error error = {0};
        const struct kernels *kernels;
        assert_ok(isa_choose(*isa, &kernels, &error), error);
        check_table_edges(kernels);
        check_sum_edges(kernels);
        check_value_edges(kernels);
        check_root_edges(kernels);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_reference), cmocka_unit_test(test_edges)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
