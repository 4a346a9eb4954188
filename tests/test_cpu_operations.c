/* Import's fast executor against the reference, operation by operation, on every
 * instruction set that runs here: random shapes, odd ones, the ends of bounds. */
#include "test.h"

#include "base/memory.h"
#include "bulla/engine.h"
#include "exec/cpu/import_run.h"
#include "exec/ref/import_run.h"
#include "model/tables.h"

static uint64_t random_state = 1;

static uint64_t random_u64(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * UINT64_C(0x2545F4914F6CDD1D);
}

static int64_t random_between(int64_t low, int64_t high)
{
    return low + (int64_t)(random_u64() % (uint64_t)(high - low + 1));
}

/* About `bits` bits, now and then the very ends. */
static int32_t random_element(int bits)
{
    int64_t top = (INT64_C(1) << bits) - 1;
    uint64_t choice = random_u64() % 64;
    return (int32_t)(choice == 0 ? top : choice == 1 ? -top : random_between(-top, top));
}

struct tables {
    uint32_t exp15[1024], exp24[1024], exp31[1024];
    int16_t cosine[65536];
    const void *list[4];
};

static struct tables tables;

static int make_tables(void **state)
{
    tables_exp(15, tables.exp15);
    tables_exp(24, tables.exp24);
    tables_exp(31, tables.exp31);
    tables_cosine(tables.cosine);
    tables.list[0] = tables.exp15;
    tables.list[1] = tables.exp24;
    tables.list[2] = tables.exp31;
    tables.list[3] = tables.cosine;
    return 0;
}

/* A value's memory for `positions`. */
static struct import_value value_new(uint64_t positions, uint32_t elements, uint32_t heads)
{
    struct import_value value = {0};
    value.vector = memory_alloc(positions * elements, sizeof(int32_t), NULL);
    value.bytes = memory_alloc(positions * elements, 1, NULL);
    value.scale = memory_alloc(positions, sizeof(int64_t), NULL);
    value.head_scale = memory_alloc(positions * (heads ? heads : 1), sizeof(int32_t), NULL);
    assert_true(value.vector && value.bytes && value.scale && value.head_scale);
    return value;
}

static void value_free(struct import_value *value)
{
    memory_free(value->vector);
    memory_free(value->bytes);
    memory_free(value->scale);
    memory_free(value->head_scale);
}

/* Runs the step with the reference and with every instruction set; all must agree. */
static int compare(struct import_step *step)
{
    const bulla_operation *o = step->operation;
    step->tables = tables.list;
    struct import_executor reference;
    bulla_error error = {0};
    assert_ok(reference_import_executor_open(&reference, &error), error);
    struct import_value expected = value_new(step->positions, o->outputs, o->heads);
    step->output = &expected;
    int code = reference.run(reference.context, step, &error);
    assert_true(code == BULLA_OK || code == BULLA_E_RANGE);
    for (const char *const *isa = bulla_engine_isas(); *isa; isa++)
        for (unsigned threads = 1; threads <= 3; threads += 2) {
            struct import_executor executor;
            bulla_error fast_error = {0};
            assert_ok(cpu_import_executor_open(threads, *isa, &executor, &fast_error), fast_error);
            struct import_value found = value_new(step->positions, o->outputs, o->heads);
            step->output = &found;
            int fast_code = executor.run(executor.context, step, &fast_error);
            if (fast_code != code || strcmp(error.text, fast_error.text) != 0)
                fail_msg("%s, %s: %d \"%s\", expected %d \"%s\"", *isa, bulla_operation_kind_name(o->kind), fast_code,
                         fast_error.text, code, error.text);
            if (code == BULLA_OK) {
                uint64_t elements = step->positions * o->outputs;
                for (uint64_t i = 0; i < elements; i++)
                    if (found.vector[i] != expected.vector[i])
                        fail_msg("%s, %s n %u outputs %u: row %llu element %llu is %d, expected %d", *isa,
                                 bulla_operation_kind_name(o->kind), o->n, o->outputs,
                                 (unsigned long long)(i / o->outputs), (unsigned long long)(i % o->outputs),
                                 found.vector[i], expected.vector[i]);
                assert_memory_equal(found.bytes, expected.bytes, elements);
                assert_memory_equal(found.scale, expected.scale, step->positions * sizeof *found.scale);
                assert_memory_equal(found.head_scale, expected.head_scale, step->positions * o->heads * sizeof(int32_t));
            }
            value_free(&found);
            cpu_import_executor_close(&executor);
        }
    value_free(&expected);
    reference_import_executor_close(&reference);
    return code;
}

static bulla_operation operation_new(int kind, uint32_t n, uint32_t outputs)
{
    bulla_operation o = {.kind = (uint16_t)kind, .n = n, .outputs = outputs, .inputs = {0, -1, -1}};
    return o;
}

static uint32_t block_of(uint32_t n)
{
    uint32_t block = n & -n;
    return block > 4096 ? 4096 : block;
}

static void test_linear(void **state)
{
    static const uint32_t columns[] = {1, 3, 4, 17, 63, 64, 65, 128, 130, 576, 640, 1536, 2048};
    static const uint32_t outputs[] = {1, 5, 15, 16, 17, 31, 32, 33, 48, 64, 100, 192};
    static const uint32_t positions[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 64, 70, 129, 150, 520};
    int rounds = 150, ranges = 0;
    for (int round = 0; round < rounds; round++) {
        uint32_t n = columns[random_u64() % 13], rows = outputs[random_u64() % 12];
        uint64_t count = positions[random_u64() % 20];
        bulla_operation o = operation_new(BULLA_LINEAR, n, rows);
        int extreme = round % 5 == 0, wide = round % 7 == 0;
        o.k1 = wide ? (int32_t)random_between(0, 31) : 13;
        int8_t *W = memory_alloc((uint64_t)rows * n, 1, NULL);
        uint16_t *M = memory_alloc(rows, 2, NULL);
        int32_t *bias = memory_alloc(rows, 4, NULL);
        for (uint64_t i = 0; i < (uint64_t)rows * n; i++)
            W[i] = (int8_t)(extreme ? (random_u64() & 1 ? 127 : -127) : random_between(-127, 127));
        for (uint32_t j = 0; j < rows; j++) {
            M[j] = extreme && j % 2 ? 65535 : (uint16_t)random_between(1, 65535);
            bias[j] = (int32_t)random_between(-1000000, 1000000);
        }
        struct import_value input = value_new(count, n, 0);
        int64_t bound = INT64_C(1) << (15 + o.k1);
        for (uint64_t p = 0; p < count; p++) {
            input.scale[p] = extreme ? bound - 1 : random_between(0, round % 11 == 3 ? bound : bound / 4);
            for (uint32_t i = 0; i < n; i++)
                input.bytes[p * n + i] = extreme ? (int8_t)(p % 2 ? 127 : W[i]) : (int8_t)random_between(-127, 127);
        }
        /* The largest result near the bound, or well below it. */
        int bits = 31 + (extreme ? 14 : 12);
        for (uint32_t i = n; i > 1; i /= 2)
            bits++;
        o.k2 = (int32_t)random_between(bits - 34, bits - 20);
        o.k2 = o.k2 < 0 ? 0 : o.k2;
        struct import_step step = {.operation = &o, .positions = count, .inputs = {&input},
            .tensors = {[BULLA_TENSOR_W] = W, [BULLA_TENSOR_M] = M, [BULLA_TENSOR_BIAS] = round % 2 ? bias : NULL},
            .sequence_starts = (const uint64_t[]){0, count}, .sequences = 1};
        ranges += compare(&step) == BULLA_E_RANGE;
        value_free(&input);
        memory_free(W);
        memory_free(M);
        memory_free(bias);
    }
    print_message("linear: %d shapes, RANGE in %d\n", rounds, ranges);
    assert_true(ranges > 5 && ranges < rounds / 2);
}

static void test_attend(void **state)
{
    static const uint32_t sizes[] = {64, 80, 96, 128, 256, 16, 2, 40};
    static const uint32_t groups[] = {1, 2, 3, 4};
    int rounds = 60, ranges = 0;
    for (int round = 0; round < rounds; round++) {
        uint32_t size = sizes[random_u64() % 8], kv_heads = 1 + (uint32_t)(random_u64() % 3);
        uint32_t heads = kv_heads * groups[random_u64() % 4];
        uint64_t first = (uint64_t)random_between(1, 200), second = (uint64_t)random_between(0, 90);
        uint64_t count = first + second;
        bulla_operation o = operation_new(BULLA_ATTEND, heads * size, heads * size);
        o.heads = heads;
        o.kv_heads = kv_heads;
        o.head_size = size;
        o.window = round % 3 == 0 ? (uint32_t)random_between(1, 130) : 0;
        int32_t cap[1025];
        for (int i = 0; i <= 1024; i++)
            cap[i] = (i - 512) * 700;
        int scale_bits = 20, extreme = round % 6 == 5;
        o.a2 = extreme ? (int32_t)random_between(16, 20) : 22;
        struct import_value q = value_new(count, heads * size, heads), k = value_new(count, kv_heads * size, kv_heads),
                            v = value_new(count, kv_heads * size, kv_heads);
        for (uint64_t i = 0; i < count * heads * size; i++)
            q.bytes[i] = (int8_t)(extreme ? 127 : random_between(-127, 127));
        for (uint64_t i = 0; i < count * kv_heads * size; i++) {
            k.bytes[i] = (int8_t)(extreme ? (random_u64() & 1 ? 127 : -127) : random_between(-127, 127));
            v.bytes[i] = (int8_t)random_between(-127, 127);
        }
        for (uint64_t i = 0; i < count * heads; i++)
            q.head_scale[i] = extreme ? INT32_MAX : (int32_t)random_between(0, 1 << scale_bits);
        for (uint64_t i = 0; i < count * kv_heads; i++) {
            k.head_scale[i] = (int32_t)random_between(0, extreme ? 1 << 21 : 1 << scale_bits);
            v.head_scale[i] = (int32_t)(random_u64() % 4 ? random_between(8, 12) : random_between(0, 24));
        }
        struct import_step step = {.operation = &o, .positions = count, .inputs = {&q, &k, &v},
            .tensors = {[BULLA_TENSOR_A] = round % 4 == 1 ? cap : NULL},
            .sequence_starts = (const uint64_t[]){0, first, count}, .sequences = 2};
        ranges += compare(&step) == BULLA_E_RANGE;
        value_free(&q);
        value_free(&k);
        value_free(&v);
    }
    print_message("attend: %d shapes, RANGE in %d\n", rounds, ranges);
    assert_true(ranges > 0 && ranges < rounds / 2);
}

/* EXP15 at every difference of scores: kernels may compute its mantissas otherwise
 * than by looking them up. Each position's score is -t_k; the first of a block has
 * 0, so that each block's largest score is 0. With k_v = 24 a weight off by one
 * changes the result. */
static void test_exponentials(void **state)
{
    enum { SIZE = 64, BLOCKS = 34, COUNT = 64 * BLOCKS };
    bulla_operation o = operation_new(BULLA_ATTEND, SIZE, SIZE);
    o.heads = o.kv_heads = 1;
    o.head_size = SIZE;
    struct import_value q = value_new(COUNT, SIZE, 1), k = value_new(COUNT, SIZE, 1), v = value_new(COUNT, SIZE, 1);
    for (uint32_t p = 0, D = 0; p < COUNT; p++) {
        q.bytes[(uint64_t)p * SIZE] = 1;
        q.head_scale[p] = 1 << 22;
        k.bytes[(uint64_t)p * SIZE] = -1;
        k.head_scale[p] = p % 64 ? (int32_t)(D++ * (p < COUNT / 2 ? 1 : 7)) : 0;
        v.head_scale[p] = 24;
        for (uint32_t i = 0; i < SIZE; i++)
            v.bytes[(uint64_t)p * SIZE + i] = (int8_t)random_between(-15, 15);
    }
    struct import_step step = {.operation = &o, .positions = COUNT, .inputs = {&q, &k, &v},
        .sequence_starts = (const uint64_t[]){0, COUNT}, .sequences = 1};
    assert_int_equal(compare(&step), BULLA_OK);
    value_free(&q);
    value_free(&k);
    value_free(&v);
}

/* quant, norm_quant and the quantising operations a head. */
static void test_quantising(void **state)
{
    static const uint32_t sizes[] = {1, 2, 6, 16, 24, 48, 64, 80, 96, 128, 256, 576, 640, 1000, 1536, 2048, 8192};
    int rounds = 300, ranges = 0;
    for (int round = 0; round < rounds; round++) {
        static const int kinds[] = {BULLA_QUANT, BULLA_NORM_QUANT, BULLA_HEAD_QUANT, BULLA_KEY_QUANT, BULLA_VALUE_QUANT};
        int kind = kinds[round % 5], per_head = round % 5 >= 2;
        uint32_t n = sizes[random_u64() % (per_head ? 11 : 17)], heads = per_head ? 1 + (uint32_t)(random_u64() % 5) : 1;
        uint64_t count = (uint64_t)random_between(1, 6);
        bulla_operation o = operation_new(kind, n * heads, n * heads);
        o.heads = per_head ? heads : 0;
        o.head_size = per_head ? n : 0;
        o.block = block_of(n);
        o.c = (int32_t)random_between(-10, 20);
        o.C = (uint32_t)random_between(1, 65535);
        o.eps = (uint64_t)random_between(1, 1 << 20);
        uint8_t e[8192];
        for (uint32_t i = 0; i < n; i++)
            e[i] = (uint8_t)(random_u64() % 3 ? 0 : random_between(0, round % 4 == 0 ? 15 : 6));
        struct import_value x = value_new(count, n * heads, 0);
        for (uint64_t p = 0; p < count; p++) {
            int bits = (int)random_between(0, round % 8 == 7 ? 31 : 27);
            for (uint32_t i = 0; i < n * heads; i++)
                x.vector[p * n * heads + i] = random_u64() % 16 == 0 ? random_element(bits) : random_element(bits / 2);
        }
        struct import_step step = {.operation = &o, .positions = count, .inputs = {&x},
            .tensors = {[BULLA_TENSOR_E] = kind == BULLA_NORM_QUANT ? e : NULL},
            .sequence_starts = (const uint64_t[]){0, count}, .sequences = 1};
        ranges += compare(&step) == BULLA_E_RANGE;
        value_free(&x);
    }
    print_message("quantising operations: %d shapes, RANGE in %d\n", rounds, ranges);
}

static void test_elementwise(void **state)
{
    static const uint32_t sizes[] = {2, 6, 16, 24, 64, 80, 96, 128, 256};
    int32_t A[1025], cap[1025], *G = memory_alloc(256, 4, NULL);
    tables_activation(TABLES_SILU, A);
    for (int i = 0; i <= 1024; i++)
        cap[i] = (int32_t)random_between(-(1 << 29), 1 << 29);
    int rounds = 300, ranges = 0;
    for (int round = 0; round < rounds; round++) {
        static const int kinds[] = {BULLA_NORM, BULLA_ROPE, BULLA_GATE, BULLA_GATE, BULLA_ADD, BULLA_SOFTCAP};
        int kind = kinds[round % 6];
        uint32_t size = sizes[random_u64() % 9], heads = 1 + (uint32_t)(random_u64() % 4), n = size * heads;
        uint64_t count = (uint64_t)random_between(1, 9);
        bulla_operation o = operation_new(kind, n, n);
        o.heads = heads;
        o.head_size = size;
        o.eps = (uint64_t)random_between(1, 1 << 20);
        o.flags = kind == BULLA_GATE ? (round % 6 == 2 ? BULLA_OPERATION_GATED : 0)
                  : kind == BULLA_ROPE ? (uint32_t)(random_u64() & 1) : 0;
        o.rotary = 2 * (uint32_t)random_between(1, size / 2);
        o.k = kind == BULLA_NORM ? (int32_t)random_between(14, 30) : (int32_t)random_between(4, 30);
        o.F_g = (int32_t)random_between(6, 22);
        uint64_t turn[128];
        for (int i = 0; i < 128; i++)
            turn[i] = random_u64() >> 3;
        for (uint32_t i = 0; i < size; i++)
            G[i] = (int32_t)random_between(-(1 << 24) + 1, (1 << 24) - 1);
        int bits = (int)random_between(1, round % 5 == 0 ? 31 : 24);
        struct import_value x = value_new(count, n, 0), y = value_new(count, n, 0);
        for (uint64_t i = 0; i < count * n; i++) {
            x.vector[i] = random_element(bits);
            y.vector[i] = random_element(bits);
        }
        struct import_step step = {.operation = &o, .positions = count,
            .inputs = {&x, kind == BULLA_ADD || o.flags & BULLA_OPERATION_GATED ? &y : NULL},
            .tensors = {[BULLA_TENSOR_G] = G, [BULLA_TENSOR_TURN] = turn,
                        [BULLA_TENSOR_A] = kind == BULLA_SOFTCAP ? cap : A},
            .sequence_starts = (const uint64_t[]){0, count / 2, count}, .sequences = 2};
        ranges += compare(&step) == BULLA_E_RANGE;
        value_free(&x);
        value_free(&y);
    }
    memory_free(G);
    print_message("elementwise operations: %d shapes, RANGE in %d\n", rounds, ranges);
    assert_true(ranges > 5);
}

/* --- the shapes of published models --- */

/* Residual stream, attention's result, inner network; head size; query heads of a kv head. From the models' config.json. */
static const struct shape {
    const char *model;
    uint32_t hidden, attention, inner, head_size, group;
} shapes[] = {
    {"SmolLM2-135M", 576, 576, 1536, 64, 3},         {"SmolLM2-360M", 960, 960, 2560, 64, 3},
    {"SmolLM2-1.7B", 2048, 2048, 8192, 64, 1},       {"Llama-3.2-1B", 2048, 2048, 8192, 64, 4},
    {"Llama-3.2-3B", 3072, 3072, 8192, 128, 3},      {"Llama-2-7B", 4096, 4096, 11008, 128, 1},
    {"Llama-2-13B", 5120, 5120, 13824, 128, 1},      {"Llama-3.1-8B, Mistral-7B", 4096, 4096, 14336, 128, 4},
    {"Llama-3.1-70B", 8192, 8192, 28672, 128, 8},    {"Qwen2.5-0.5B", 896, 896, 4864, 64, 7},
    {"Qwen2.5-1.5B", 1536, 1536, 8960, 128, 6},      {"Qwen2.5-3B", 2048, 2048, 11008, 128, 8},
    {"Qwen2.5-7B", 3584, 3584, 18944, 128, 7},       {"Qwen2.5-32B", 5120, 5120, 27648, 128, 5},
    {"Qwen2.5-72B", 8192, 8192, 29568, 128, 8},      {"Qwen3-0.6B", 1024, 2048, 3072, 128, 2},
    {"Qwen3-1.7B", 2048, 2048, 6144, 128, 2},        {"Qwen3-4B", 2560, 4096, 9728, 128, 4},
    {"Qwen3-8B", 4096, 4096, 12288, 128, 4},         {"Qwen3-14B", 5120, 5120, 17408, 128, 5},
    {"Qwen3-32B", 5120, 8192, 25600, 128, 8},        {"Gemma-2-2B", 2304, 2048, 9216, 256, 2},
    {"Gemma-2-9B", 3584, 4096, 14336, 256, 2},       {"Gemma-2-27B", 4608, 4096, 36864, 128, 2},
    {"Gemma-3-270M", 640, 1024, 2048, 256, 4},       {"Gemma-3-1B", 1152, 1024, 6912, 256, 4},
    {"Gemma-3-4B", 2560, 2048, 10240, 256, 2},       {"Gemma-3-12B", 3840, 4096, 15360, 256, 2},
    {"Gemma-3-27B", 5376, 4096, 21504, 128, 2},      {"Phi-3-mini", 3072, 3072, 8192, 96, 1},
    {"Phi-3-medium, Phi-4", 5120, 5120, 17920, 128, 4}, {"Phi-4-mini", 3072, 3072, 8192, 128, 3},
};

/* A linear operation of n columns: random numbers, or every product and scale at its largest. */
static void check_width_linear(uint32_t n, int extreme)
{
    enum { ROWS = 18, POSITIONS = 14 };
    bulla_operation o = operation_new(BULLA_LINEAR, n, ROWS);
    int8_t *W = memory_alloc((uint64_t)ROWS * n, 1, NULL);
    uint16_t M[ROWS];
    struct import_value input = value_new(POSITIONS, n, 0);
    o.k1 = 13;
    o.k2 = 45 + (int32_t)(31 - __builtin_clz(n)) - 30;
    for (uint64_t i = 0; i < (uint64_t)ROWS * n; i++)
        W[i] = (int8_t)(extreme ? 127 : random_between(-127, 127));
    for (uint32_t j = 0; j < ROWS; j++)
        M[j] = extreme ? 65535 : (uint16_t)random_between(1, 65535);
    for (uint64_t p = 0; p < POSITIONS; p++) {
        input.scale[p] = extreme ? (INT64_C(1) << 28) - 1 : random_between(0, INT64_C(1) << 24);
        for (uint32_t i = 0; i < n; i++)
            input.bytes[p * n + i] = (int8_t)(extreme ? (p % 2 ? 127 : -127) : random_between(-127, 127));
    }
    struct import_step step = {.operation = &o, .positions = POSITIONS, .inputs = {&input},
        .tensors = {[BULLA_TENSOR_W] = W, [BULLA_TENSOR_M] = M}, .sequence_starts = (const uint64_t[]){0, POSITIONS},
        .sequences = 1};
    assert_int_equal(compare(&step), BULLA_OK);
    value_free(&input);
    memory_free(W);
}

static void check_width_quantising(uint32_t n, int kind)
{
    enum { POSITIONS = 4 };
    bulla_operation o = operation_new(kind, n, n);
    uint8_t *e = memory_alloc(n, 1, NULL);
    struct import_value x = value_new(POSITIONS, n, 0);
    o.block = block_of(n);
    o.c = 6;
    o.eps = 1000;
    for (uint32_t i = 0; i < n; i++)
        e[i] = (uint8_t)random_between(0, 8);
    for (uint64_t p = 0; p < POSITIONS; p++)
        for (uint32_t i = 0; i < n; i++)
            x.vector[p * n + i] = p == 0 ? (i % 2 ? -(1 << 23) : 1 << 23) : random_element((int)(8 + 5 * p));
    struct import_step step = {.operation = &o, .positions = POSITIONS, .inputs = {&x},
        .tensors = {[BULLA_TENSOR_E] = kind == BULLA_NORM_QUANT ? e : NULL},
        .sequence_starts = (const uint64_t[]){0, POSITIONS}, .sequences = 1};
    assert_int_equal(compare(&step), BULLA_OK);
    value_free(&x);
    memory_free(e);
}

static void check_heads(uint32_t size, uint32_t group)
{
    enum { COUNT = 83 };
    bulla_operation o = operation_new(BULLA_ATTEND, group * size, group * size);
    o.heads = group;
    o.kv_heads = 1;
    o.head_size = size;
    o.a2 = 22;
    struct import_value q = value_new(COUNT, group * size, group), k = value_new(COUNT, size, 1), v = value_new(COUNT, size, 1);
    for (uint64_t i = 0; i < COUNT * group * size; i++)
        q.bytes[i] = (int8_t)random_between(-127, 127);
    for (uint64_t i = 0; i < COUNT * size; i++) {
        k.bytes[i] = (int8_t)random_between(-127, 127);
        v.bytes[i] = (int8_t)random_between(-127, 127);
    }
    for (uint64_t i = 0; i < COUNT * group; i++)
        q.head_scale[i] = (int32_t)random_between(0, 1 << 20);
    for (uint64_t i = 0; i < COUNT; i++) {
        k.head_scale[i] = (int32_t)random_between(0, 1 << 20);
        v.head_scale[i] = (int32_t)random_between(8, 12);
    }
    struct import_step step = {.operation = &o, .positions = COUNT, .inputs = {&q, &k, &v},
        .sequence_starts = (const uint64_t[]){0, COUNT}, .sequences = 1};
    assert_int_equal(compare(&step), BULLA_OK);
    value_free(&q);
    value_free(&k);
    value_free(&v);
}

static void test_model_shapes(void **state)
{
    enum { SHAPES = sizeof shapes / sizeof shapes[0] };
    uint8_t seen[1 << 16] = {0}, seen_heads[257][16] = {{0}};
    int widths = 0, heads = 0, step = getenv("BULLA_TEST_EMULATED") ? 8 : 1;
    for (int i = 0; i < SHAPES; i += step) {
        const struct shape *s = &shapes[i];
        const uint32_t columns[] = {s->hidden, s->attention, s->inner};
        for (int j = 0; j < 3; j++) {
            if (seen[columns[j]]++)
                continue;
            widths++;
            check_width_linear(columns[j], 0);
            check_width_linear(columns[j], 1);
            check_width_quantising(columns[j], BULLA_NORM_QUANT);
            check_width_quantising(columns[j], BULLA_QUANT);
        }
        if (!seen_heads[s->head_size][s->group]++) {
            heads++;
            check_heads(s->head_size, s->group);
        }
    }
    print_message("shapes of %d models: %d widths, %d kinds of heads\n", (SHAPES + step - 1) / step, widths, heads);
}

static void test_isas(void **state)
{
    bulla_error error = {0};
    struct import_executor executor;
    assert_int_equal(cpu_import_executor_open(1, "no-such-set", &executor, &error), BULLA_E_UNSUPPORTED);
    assert_non_null(strstr(error.text, "no-such-set"));
    print_message("kernels that ran:");
    for (const char *const *isa = bulla_engine_isas(); *isa; isa++)
        print_message(" %s", *isa);
    print_message("\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_isas),       cmocka_unit_test(test_linear),      cmocka_unit_test(test_attend),
        cmocka_unit_test(test_exponentials),
        cmocka_unit_test(test_quantising), cmocka_unit_test(test_elementwise), cmocka_unit_test(test_model_shapes),
    };
    return cmocka_run_group_tests(tests, make_tables, NULL);
}
