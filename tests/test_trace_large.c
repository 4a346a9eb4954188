/* The bounds of docs/dispute-trace.md for models and contexts that no test can run: rounds, messages and openings by shape
 * alone. */
#include "test.h"

#include "check/step_internal.h"

enum { MOST_OPERATIONS = 2000, MOST_POSITIONS = 1 << 22, DRAWN = 199 };

struct shapes {
    const char *name;
    uint32_t n, hidden, heads, kv_heads, size, layers, vocabulary, window;
    int softcap;
    uint32_t positions, border; /* border: roots of a cell's that are counted */
    unsigned rounds;
};

static bulla_operation operations[MOST_OPERATIONS];
static struct step_operation info[MOST_OPERATIONS + 1];
static uint64_t lowest[MOST_OPERATIONS + 1];
static bulla_tensor tensors[16];
static uint32_t count;

static int add(int kind, uint16_t layer, int a, int b, int c, uint32_t outputs)
{
    bulla_operation *o = &operations[count];
    assert_true(count < MOST_OPERATIONS);
    *o = (bulla_operation){.kind = (uint16_t)kind, .layer = layer, .inputs = {a, b, c}, .outputs = outputs, .k1 = 10,
                           .eps = 1, .F_g = 16};
    o->n = a >= 0 ? operations[a].outputs : 0;
    o->block = o->n & -o->n;
    o->block = o->block > 4096 ? 4096 : o->block;
    memset(o->tensors, 0xFF, sizeof o->tensors);
    for (int role = 0; role < BULLA_TENSOR_ROLES; role++)
        o->tensors[role] = role == BULLA_TENSOR_A && kind == BULLA_ATTEND ? -1 : 4 + role;
    return (int)count++;
}

static int add_heads(int kind, uint16_t layer, int a, uint32_t heads, uint32_t size)
{
    int index = add(kind, layer, a, -1, -1, heads * size);
    operations[index].heads = heads;
    operations[index].head_size = size;
    operations[index].block = size;
    operations[index].rotary = size;
    operations[index].C = 1;
    operations[index].flags = kind == BULLA_ROPE ? BULLA_OPERATION_HALF : 0;
    return index;
}

static int add_layer(const struct shapes *s, uint16_t layer, int x)
{
    int h = add(BULLA_NORM_QUANT, layer, x, -1, -1, s->n);
    int q = add(BULLA_LINEAR, layer, h, -1, -1, s->heads * s->size), k = add(BULLA_LINEAR, layer, h, -1, -1, s->kv_heads * s->size);
    int v = add_heads(BULLA_VALUE_QUANT, layer, add(BULLA_LINEAR, layer, h, -1, -1, s->kv_heads * s->size), s->kv_heads, s->size);
    q = add_heads(BULLA_NORM, layer, q, s->heads, s->size);
    k = add_heads(BULLA_NORM, layer, k, s->kv_heads, s->size);
    q = add_heads(BULLA_HEAD_QUANT, layer, add_heads(BULLA_ROPE, layer, q, s->heads, s->size), s->heads, s->size);
    k = add_heads(BULLA_KEY_QUANT, layer, add_heads(BULLA_ROPE, layer, k, s->kv_heads, s->size), s->kv_heads, s->size);
    int o = add(BULLA_ATTEND, layer, q, k, v, s->heads * s->size);
    operations[o].heads = s->heads;
    operations[o].kv_heads = s->kv_heads;
    operations[o].head_size = s->size;
    operations[o].window = layer % 2 ? s->window : 0;
    operations[o].tensors[BULLA_TENSOR_A] = s->softcap ? 4 + BULLA_TENSOR_A : -1;
    o = add(BULLA_LINEAR, layer, add(BULLA_QUANT, layer, o, -1, -1, s->heads * s->size), -1, -1, s->n);
    x = add(BULLA_ADD, layer, x, add_heads(BULLA_NORM, layer, o, 1, s->n), -1, s->n);
    h = add(BULLA_NORM_QUANT, layer, x, -1, -1, s->n);
    int g = add(BULLA_LINEAR, layer, h, -1, -1, s->hidden), u = add(BULLA_LINEAR, layer, h, -1, -1, s->hidden);
    g = add(BULLA_GATE, layer, g, u, -1, s->hidden);
    operations[g].flags = BULLA_OPERATION_GATED;
    g = add(BULLA_LINEAR, layer, add(BULLA_QUANT, layer, g, -1, -1, s->hidden), -1, -1, s->n);
    return add(BULLA_ADD, layer, x, add_heads(BULLA_NORM, layer, g, 1, s->n), -1, s->n);
}

/* 16 GiB of tensors, each where a leaf is split and long enough for any operation. */
static void make_program(const struct shapes *s, struct step_program *program)
{
    static const uint8_t dtypes[] = {BULLA_U32, BULLA_U32, BULLA_U32, BULLA_I16, BULLA_I8, BULLA_U16, BULLA_I8,
                                     BULLA_U16, BULLA_I32, BULLA_U8, BULLA_I32, BULLA_U64, BULLA_I32};
    count = 0;
    for (int i = 0; i < 13; i++)
        tensors[i] = (bulla_tensor){.dtype = dtypes[i], .offset = ((uint64_t)i << 30) + 832, .bytes = UINT64_C(4) << 30};
    int x = add(BULLA_EMBED, BULLA_NO_LAYER, -1, -1, -1, s->n);
    for (uint32_t layer = 0; layer < s->layers; layer++)
        x = add_layer(s, (uint16_t)layer, x);
    x = add(BULLA_LINEAR, BULLA_NO_LAYER, add(BULLA_NORM_QUANT, BULLA_NO_LAYER, x, -1, -1, s->n), -1, -1, s->vocabulary);
    add(BULLA_SOFTCAP, BULLA_NO_LAYER, x, -1, -1, s->vocabulary);
    bulla_error error = {0};
    *program = (struct step_program){.region_length = UINT64_C(16) << 30};
    program->program = (bulla_program){.operations = operations, .operation_count = count, .tensors = tensors,
        .tensor_count = 13, .vocabulary = s->vocabulary, .context = s->positions, .logits_F = 16};
    assert_ok(step_program_open(program, s->positions - DRAWN - 1, info, lowest, &error), error);
}

/* What an opening would hold. */
struct size {
    uint64_t bytes, cell, border;
};

static void count_leaves(struct size *size, uint64_t leaf, uint64_t first, uint64_t end, uint64_t total)
{
    uint64_t begin = first / leaf, last = (end - 1) / leaf, stop = (last + 1) * leaf < total ? (last + 1) * leaf : total;
    assert_true(end <= total && last - begin < MERKLE_RANGE_LEAVES);
    size->bytes += stop - begin * leaf + 32u * merkle_range_length(begin, last - begin + 1, (total + leaf - 1) / leaf);
}

static int read_size(void *context, const struct step *step, const struct step_source *source, uint64_t first,
                     uint32_t elements, int64_t *values)
{
    struct size *size = context;
    const struct step_program *program = step->program;
    struct step_array shape = {.count = (program->program.vocabulary + 7) / 8, .width = 1};
    if (source->kind == STEP_SOURCE_TENSOR) {
        uint64_t width = bulla_dtype_size(tensors[source->array].dtype), at = tensors[source->array].offset + first * width;
        count_leaves(size, 1024, at, at + elements * width, program->region_length);
    } else {
        if (source->kind != STEP_SOURCE_ALLOWED)
            shape = step_array_shape(program, step->answer, source->operation, source->position, source->array);
        uint32_t group = info[source->operation].group;
        uint64_t cell = (uint64_t)group * step_answer_positions(step->answer) + source->position;
        if (source->kind == STEP_SOURCE_RESULT && size->cell != cell &&
            (group != info[step->operation].group || source->position != step->position)) {
            size->cell = cell;
            size->bytes += size->border * 32 + 32u * merkle_range_length(cell, 1, step_cells(program, step->answer));
        }
        count_leaves(size, STEP_BLOCK, first * shape.width, (first + elements) * shape.width, shape.count * shape.width);
    }
    for (uint32_t i = 0; i < elements; i++) /* so that every read comes */
        values[i] = shape.width == 8 ? 1 : 0;
    return 0;
}

static void test_bounds(void **state)
{
    static const struct shapes models[] = {
        {"8 kv heads of 128", 4096, 14336, 32, 8, 128, 32, 128256, 0, 0, 32768, 6, 8},
        {"4 kv heads of 256", 2560, 10240, 8, 4, 256, 34, 262144, 1024, 1, 32768, 6, 8},
        {"odd sizes", 3000, 10008, 24, 8, 96, 40, 200000, 4000, 1, 32768, 6, 8},
        {"64 kv heads, long", 16384, 65536, 128, 64, 256, 40, 262144, 4000, 1, STEP_MOST_CONTEXT, STEP_MOST_BORDER, 11},
        {"16 kv heads, longer", 16384, 65536, 128, STEP_FEW_HEADS, 256, 40, 262144, 4000, 1, STEP_MOST_CONTEXT_FEW,
         STEP_MOST_BORDER, 11},
    };
    static uint32_t tokens[MOST_POSITIONS];
    bulla_sampling sampling;
    bulla_sampling_defaults(&sampling);
    sampling.temperature = 1000000;
    for (size_t m = 0; m < sizeof models / sizeof models[0]; m++) {
        struct step_program program;
        make_program(&models[m], &program);
        const struct step_answer answer = {.tokens = tokens, .token_count = models[m].positions,
            .prompt_count = models[m].positions - DRAWN, .sampling = &sampling,
            .allowed = (const uint8_t (*)[MERKLE_HASH])tokens};
        uint64_t largest = 0, position = models[m].positions - 2, from = 0;
        unsigned rounds = 0;
        for (uint32_t i = 0; i <= count; i++) {
            if (info[i].group > 2 && i + 3 < count)
                continue; /* layers are alike */
            for (uint32_t a = 0; a < step_array_count(&program, i); a++) {
                struct step_array shape = step_array_shape(&program, &answer, i, position, a);
                if (shape.count == 0 || shape.is_witness)
                    continue;
                uint64_t blocks = step_array_blocks(&shape);
                unsigned own = bisection_rounds(step_cells(&program, &answer)) + 1 + bisection_rounds(blocks) + 2;
                rounds = own > rounds ? own : rounds;
                for (uint64_t j = 0; j < 60; j++) {
                    struct size size = {.cell = UINT64_MAX, .border = models[m].border};
                    struct step step = {.program = &program, .answer = &answer, .operation = i, .position = position,
                        .o = i < count ? &operations[i] : NULL, .read = read_size, .context = &size,
                        .stream = hash_stream_open(NULL)};
                    step_element(&step, a, j < 2 ? j * (shape.count - 1) : j * 2654435761u % shape.count);
                    hash_stream_close(step.stream);
                    if (size.bytes > largest) {
                        largest = size.bytes;
                        from = i * 100 + a;
                    }
                }
            }
        }
        print_message("%s: openings up to %llu bytes (operation %llu, array %llu), %u rounds\n", models[m].name,
                      (unsigned long long)largest, (unsigned long long)from / 100, (unsigned long long)from % 100, rounds);
        assert_true(largest <= STEP_MESSAGE);
        assert_true(rounds <= models[m].rounds);
    }
}

/* Programs whose openings could be longer cannot be disputed. */
static void test_refused(void **state)
{
    struct shapes s = {"small", 64, 64, 32, 17, 64, 1, 64, 0, 0, .positions = 1000};
    struct step_program program;
    bulla_error error = {0};
    make_program(&s, &program);
    program.program.context = STEP_MOST_CONTEXT;
    assert_ok(step_program_open(&program, 0, info, lowest, &error), error);
    program.program.context++;
    assert_int_equal(step_program_open(&program, 0, info, lowest, NULL), BULLA_E_UNSUPPORTED);
    s.kv_heads = STEP_FEW_HEADS;
    make_program(&s, &program);
    program.program.context = STEP_MOST_CONTEXT_FEW;
    assert_ok(step_program_open(&program, 0, info, lowest, &error), error);
    program.program.context++;
    assert_int_equal(step_program_open(&program, 0, info, lowest, NULL), BULLA_E_UNSUPPORTED);
    for (int values = 15; values <= 16; values++) { /* with x, of the next layer, 2 * 16 + 1 roots */
        count = 0;
        int x = add(BULLA_EMBED, BULLA_NO_LAYER, -1, -1, -1, 64);
        for (int i = 0; i < values; i++)
            add_heads(BULLA_VALUE_QUANT, 0, x, 1, 64);
        x = add(BULLA_ADD, 0, x, x, -1, 64);
        add(BULLA_LINEAR, BULLA_NO_LAYER, add(BULLA_NORM_QUANT, BULLA_NO_LAYER, x, -1, -1, 64), -1, -1, 64);
        program.program.context = 1000;
        program.program.operation_count = count;
        assert_int_equal(step_program_open(&program, 0, info, lowest, NULL), values == 15 ? BULLA_OK : BULLA_E_UNSUPPORTED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bounds), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
