/* Row kernels of every instruction set against the reference, to the bit: random
 * vectors of all magnitudes, odd sizes, and both sides of every bound. */
#include "test.h"

#include "base/memory.h"
#include "bulla/engine.h"
#include "exec/cpu/isa.h"
#include "exec/ref/operations.h"
#include "model/tables.h"

enum { MOST = 2304, ROUNDS = 3000 };

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
            static const uint32_t sizes[] = {576, 640, 1536, 2048, 64, 256, 80, 96, 2, 8, 33, 100};
            uint32_t n = round % 4 ? sizes[next() % 12] : 2 + (uint32_t)(next() % 700);
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_reference)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
