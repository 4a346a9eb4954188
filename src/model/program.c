#include "bulla/program.h"

#include <string.h>

#include "base/buffer.h"
#include "base/hash.h"
#include "model/name_table.h"
#include "model/program_names.h"

/* Sizes, with what they keep small. */
enum {
    MOST_OPERATIONS = 1 << 16,
    MOST_TENSORS = 1 << 18,
    MOST_IDS = 1 << 24,
    MOST_POSITIONS = 1 << 24, /* attend: 2^18 blocks of |RS(O * f, 15)| < 2^44 */
    MOST_ELEMENTS = 133144    /* linear: acc in 31 bits */
};

#define ROLE(name) (1u << BULLA_TENSOR_##name)

static const struct program_kind kinds[BULLA_OPERATION_KINDS] = {
    [BULLA_EMBED] = {"embed", VALUE_VECTOR, {0}, PARAMETER_KE, ROLE(E8) | ROLE(ME), 0},
    [BULLA_NORM_QUANT] = {"norm_quant", VALUE_QUANTISED, {VALUE_VECTOR},
                          PARAMETER_BLOCK | PARAMETER_C_SHIFT | PARAMETER_EPS, ROLE(E), 0},
    [BULLA_QUANT] = {"quant", VALUE_QUANTISED, {VALUE_VECTOR}, PARAMETER_BLOCK, 0, 0},
    [BULLA_LINEAR] = {"linear", VALUE_VECTOR, {VALUE_QUANTISED}, PARAMETER_K1 | PARAMETER_K2, ROLE(W) | ROLE(M),
                      ROLE(BIAS)},
    [BULLA_NORM] = {"norm", VALUE_VECTOR, {VALUE_VECTOR}, PARAMETER_HEADS | PARAMETER_EPS | PARAMETER_K, ROLE(G), 0},
    [BULLA_ROPE] = {"rope", VALUE_VECTOR, {VALUE_VECTOR}, PARAMETER_HEADS | PARAMETER_ROTARY, ROLE(TURN), 0},
    [BULLA_HEAD_QUANT] = {"head_quant", VALUE_HEADS, {VALUE_VECTOR}, PARAMETER_HEADS | PARAMETER_BLOCK, 0, 0},
    [BULLA_KEY_QUANT] = {"key_quant", VALUE_KEYS, {VALUE_VECTOR}, PARAMETER_HEADS | PARAMETER_BLOCK | PARAMETER_C, 0, 0},
    [BULLA_VALUE_QUANT] = {"value_quant", VALUE_VALUES, {VALUE_VECTOR}, PARAMETER_HEADS, 0, 0},
    [BULLA_ATTEND] = {"attend", VALUE_VECTOR, {VALUE_HEADS, VALUE_KEYS, VALUE_VALUES},
                      PARAMETER_HEADS | PARAMETER_KV_HEADS | PARAMETER_A2 | PARAMETER_WINDOW, 0, ROLE(A)},
    [BULLA_GATE] = {"gate", VALUE_VECTOR, {VALUE_VECTOR, VALUE_VECTOR}, PARAMETER_F_G | PARAMETER_K, ROLE(A), 0},
    [BULLA_ADD] = {"add", VALUE_VECTOR, {VALUE_VECTOR, VALUE_VECTOR}, 0, 0, 0},
    [BULLA_SOFTCAP] = {"softcap", VALUE_VECTOR, {VALUE_VECTOR}, 0, ROLE(A), 0},
};

const struct program_table program_tables[PROGRAM_TABLES] = {
    {"table.EXP15", BULLA_U32, 1024, "027cb22775c222cc75311f41504a62be80d84eee199cb9235471fb55332c2312"},
    {"table.EXP24", BULLA_U32, 1024, "bf8f03ae86766f1a0010ae3616c2b4c58af4ac683509b35dcd078d53845b0c60"},
    {"table.EXP31", BULLA_U32, 1024, "e14050da3fe1c5bbbbf72d4b409571397b09afd25db43043fb47e015d2c17f26"},
    {"table.COS", BULLA_I16, 65536, "201381c9a5cc2c47c70ef2c8d4eb59213bc443f363bd1ca3bb6661454cce59fe"},
};

const struct program_kind *program_kind(int kind)
{
    return kind > 0 && kind < BULLA_OPERATION_KINDS ? &kinds[kind] : NULL;
}

const char *bulla_operation_kind_name(int kind)
{
    const struct program_kind *found = program_kind(kind);
    return found ? found->name : "unknown";
}

const char *bulla_tensor_role_name(int role)
{
    static const char *const names[BULLA_TENSOR_ROLES] = {"E8", "ME", "W", "M", "bias", "e", "G", "turn", "A"};
    return role >= 0 && role < BULLA_TENSOR_ROLES ? names[role] : "unknown";
}

static const struct {
    const char *name;
    uint32_t size;
} dtypes[] = {{"unknown", 0}, {"i8", 1}, {"u8", 1}, {"i16", 2}, {"u16", 2}, {"i32", 4}, {"u32", 4}, {"u64", 8}};
enum { DTYPES = sizeof dtypes / sizeof dtypes[0] };

const char *bulla_dtype_name(int dtype)
{
    return dtypes[dtype > 0 && dtype < DTYPES ? dtype : 0].name;
}

uint32_t bulla_dtype_size(int dtype)
{
    return dtypes[dtype > 0 && dtype < DTYPES ? dtype : 0].size;
}

/* One operation under check. */
struct check {
    const bulla_program *program;
    const bulla_operation *operation;
    uint32_t index;
    bulla_error *error;
};

static int wrong(const struct check *check, const char *field, int64_t found, const char *expected)
{
    return bulla_fail(check->error, BULLA_E_INPUT, "operation %u (%s): %s is %lld, expected %s", check->index,
                      bulla_operation_kind_name(check->operation->kind), field, (long long)found, expected);
}

static int check_range(const struct check *check, const char *field, int64_t value, int64_t low, int64_t high)
{
    if (value >= low && value <= high)
        return BULLA_OK;
    return bulla_fail(check->error, BULLA_E_INPUT, "operation %u (%s): %s is %lld, expected %lld to %lld", check->index,
                      bulla_operation_kind_name(check->operation->kind), field, (long long)value, (long long)low,
                      (long long)high);
}

static int check_tensor(const struct check *check, int role, int dtype, uint32_t rows, uint32_t columns)
{
    int32_t index = check->operation->tensors[role];
    if (index < 0)
        return BULLA_OK; /* presence was checked */
    const bulla_tensor *tensor = &check->program->tensors[index];
    if (tensor->dtype == dtype && tensor->rows == rows && tensor->columns == columns)
        return BULLA_OK;
    return bulla_fail(check->error, BULLA_E_INPUT,
                      "operation %u (%s): tensor %s is %s [%u, %u], expected %s [%u, %u]", check->index,
                      bulla_operation_kind_name(check->operation->kind), tensor->name, bulla_dtype_name(tensor->dtype),
                      tensor->rows, tensor->columns, bulla_dtype_name(dtype), rows, columns);
}

static int check_links(const struct check *check, const struct program_kind *kind)
{
    const bulla_operation *operation = check->operation;
    int gate_alone = operation->kind == BULLA_GATE && !(operation->flags & BULLA_OPERATION_GATED);
    for (int i = 0; i < 3; i++) {
        int32_t input = operation->inputs[i];
        enum program_value wanted = gate_alone && i == 1 ? VALUE_NONE : kind->inputs[i];
        if (wanted == VALUE_NONE) {
            if (input != -1)
                return wrong(check, "an unused input", input, "-1");
            continue;
        }
        if (input < 0 || (uint32_t)input >= check->index)
            return wrong(check, "an input", input, "an earlier operation");
        if (program_kind(check->program->operations[input].kind)->result != wanted)
            return wrong(check, "an input", input, "an operation with a result of the right type");
    }
    for (int role = 0; role < 12; role++) {
        int32_t tensor = operation->tensors[role];
        uint32_t bit = role < BULLA_TENSOR_ROLES ? 1u << role : 0;
        if (tensor != -1 && (tensor < 0 || (uint32_t)tensor >= check->program->tensor_count))
            return wrong(check, "a tensor index", tensor, "a tensor of the file");
        if (tensor == -1 ? (kind->tensors & bit) != 0 : !((kind->tensors | kind->optional) & bit))
            return wrong(check, bulla_tensor_role_name(role), tensor, tensor == -1 ? "a tensor" : "no tensor");
    }
    uint32_t flags = operation->kind == BULLA_GATE ? BULLA_OPERATION_GATED
                     : operation->kind == BULLA_ROPE ? BULLA_OPERATION_HALF : 0;
    if (operation->flags & ~flags)
        return wrong(check, "flags", operation->flags, "no unknown flag");
    for (size_t i = 0; i < sizeof operation->reserved; i++)
        if (operation->reserved[i])
            return wrong(check, "a reserved byte", operation->reserved[i], "0");
    return BULLA_OK;
}

/* A parameter that a kind does not have is 0, so that a program has one spelling. */
static int check_unused(const struct check *check, uint32_t with)
{
    const bulla_operation *o = check->operation;
    const struct {
        uint32_t parameter;
        const char *name;
        int64_t value;
    } list[] = {
        {PARAMETER_HEADS, "heads", o->heads},       {PARAMETER_HEADS, "head_size", o->head_size},
        {PARAMETER_KV_HEADS, "kv_heads", o->kv_heads}, {PARAMETER_BLOCK, "block", o->block},
        {PARAMETER_WINDOW, "window", o->window},    {PARAMETER_ROTARY, "rotary", o->rotary},
        {PARAMETER_C, "C", o->C},                   {PARAMETER_F_G, "F_g", o->F_g},
        {PARAMETER_K, "k", o->k},                   {PARAMETER_K1, "k1", o->k1},
        {PARAMETER_K2, "k2", o->k2},                {PARAMETER_KE, "ke", o->ke},
        {PARAMETER_C_SHIFT, "c", o->c},             {PARAMETER_A2, "a2", o->a2},
        {PARAMETER_EPS, "eps", (int64_t)o->eps},
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
        if (!(with & list[i].parameter) && list[i].value != 0)
            return wrong(check, list[i].name, list[i].value, "0, as this kind has none");
    if (o->layer != BULLA_NO_LAYER && o->layer >= check->program->layers)
        return wrong(check, "layer", o->layer, "a layer of the program");
    return BULLA_OK;
}

static int check_heads(const struct check *check)
{
    const bulla_operation *o = check->operation;
    if (check_range(check, "heads", o->heads, 1, 4096) || check_range(check, "head_size", o->head_size, 1, MOST_ELEMENTS))
        return BULLA_E_INPUT;
    if ((uint64_t)o->heads * o->head_size != o->outputs)
        return wrong(check, "outputs", o->outputs, "heads x head_size");
    int is_norm = o->kind == BULLA_NORM;
    return is_norm ? BULLA_OK : check_range(check, "head_size", o->head_size, 1, 256);
}

static int check_block(const struct check *check, uint32_t n)
{
    uint32_t block = check->operation->block;
    if (block == 0 || (block & (block - 1)) || block > 4096 || n % block)
        return wrong(check, "block", block, "a power of two up to 4,096 that divides n");
    return BULLA_OK;
}

static int check_attend(const struct check *check)
{
    const bulla_operation *o = check->operation, *all = check->program->operations;
    const bulla_operation *q = &all[o->inputs[0]], *k = &all[o->inputs[1]], *v = &all[o->inputs[2]];
    if (check_range(check, "a2", o->a2, 0, 61) || check_range(check, "kv_heads", o->kv_heads, 1, 4096))
        return BULLA_E_INPUT;
    if (o->heads % o->kv_heads)
        return wrong(check, "heads", o->heads, "a multiple of kv_heads");
    if (q->heads != o->heads || k->heads != o->kv_heads || v->heads != o->kv_heads || q->head_size != o->head_size ||
        k->head_size != o->head_size || v->head_size != o->head_size)
        return wrong(check, "head_size", o->head_size, "that of its queries, keys and values");
    return check_tensor(check, BULLA_TENSOR_A, BULLA_I32, 1, 1025);
}

/* The parameters of one operation whose links are good. */
static int check_parameters(const struct check *check, const struct program_kind *kind)
{
    const bulla_operation *o = check->operation;
    uint32_t n = o->n, with = kind->parameters;
    if (o->kind != BULLA_EMBED && n != check->program->operations[o->inputs[0]].outputs)
        return wrong(check, "n", n, "the elements of its input");
    int long_result = o->kind == BULLA_LINEAR || o->kind == BULLA_SOFTCAP;
    if (check_range(check, "outputs", o->outputs, 1, long_result ? MOST_IDS : MOST_ELEMENTS) ||
        check_range(check, "n", n, o->kind != BULLA_EMBED,
                    o->kind == BULLA_EMBED ? 0 : o->kind == BULLA_SOFTCAP ? MOST_IDS : MOST_ELEMENTS))
        return BULLA_E_INPUT;
    int code = check_unused(check, with);
    if (!code && o->kind != BULLA_EMBED && o->kind != BULLA_LINEAR && o->outputs != n)
        code = wrong(check, "outputs", o->outputs, "n");
    if (!code && (with & PARAMETER_HEADS))
        code = check_heads(check);
    if (!code && (with & PARAMETER_BLOCK))
        code = check_block(check, with & PARAMETER_HEADS ? o->head_size : n);
    if (!code && (with & PARAMETER_EPS) && (o->eps < 1 || o->eps >> 62))
        code = wrong(check, "eps", (int64_t)o->eps, "1 to 2^62");
    if (!code && (with & PARAMETER_K))
        code = check_range(check, "k", o->k, 0, 61);
    if (!code && (with & PARAMETER_K1)) /* s * M < 2^(15 + k1) * 2^16 */
        code = check_range(check, "k1", o->k1, 0, 31);
    if (!code && (with & PARAMETER_K2))
        code = check_range(check, "k2", o->k2, 0, 61);
    if (!code && (with & PARAMETER_KE))
        code = check_range(check, "ke", o->ke, 0, 61);
    if (!code && (with & PARAMETER_C_SHIFT))
        code = check_range(check, "c", o->c, -64, 64);
    if (!code && (with & PARAMETER_C))
        code = check_range(check, "C", o->C, 1, 65535);
    if (!code && (with & PARAMETER_F_G))
        code = check_range(check, "F_g", o->F_g, -15, 62);
    if (!code && (with & PARAMETER_ROTARY) && (o->rotary % 2 || o->rotary > o->head_size || o->rotary == 0))
        code = wrong(check, "rotary", o->rotary, "an even number up to head_size");
    return code ? code : check_range(check, "F", o->F, -64, 64);
}

static int check_shapes(const struct check *check)
{
    const bulla_operation *o = check->operation, *all = check->program->operations;
    int code = BULLA_OK;
    switch (o->kind) {
    case BULLA_EMBED:
        code = check_tensor(check, BULLA_TENSOR_E8, BULLA_I8, check->program->vocabulary, o->outputs);
        return code ? code : check_tensor(check, BULLA_TENSOR_ME, BULLA_U16, 1, check->program->vocabulary);
    case BULLA_NORM_QUANT:
        return check_tensor(check, BULLA_TENSOR_E, BULLA_U8, 1, o->n);
    case BULLA_LINEAR:
        code = check_tensor(check, BULLA_TENSOR_W, BULLA_I8, o->outputs, o->n);
        code = code ? code : check_tensor(check, BULLA_TENSOR_M, BULLA_U16, 1, o->outputs);
        return code ? code : check_tensor(check, BULLA_TENSOR_BIAS, BULLA_I32, 1, o->outputs);
    case BULLA_NORM:
        return check_tensor(check, BULLA_TENSOR_G, BULLA_I32, 1, o->head_size);
    case BULLA_ROPE:
        return check_tensor(check, BULLA_TENSOR_TURN, BULLA_U64, 1, o->rotary / 2);
    case BULLA_ATTEND:
        return check_attend(check);
    case BULLA_GATE:
    case BULLA_ADD:
        if (o->inputs[1] >= 0 && all[o->inputs[1]].outputs != o->n)
            return wrong(check, "n", o->n, "the elements of both inputs");
        return check_tensor(check, BULLA_TENSOR_A, BULLA_I32, 1, 1025);
    case BULLA_SOFTCAP:
        return check_tensor(check, BULLA_TENSOR_A, BULLA_I32, 1, 1025);
    default:
        return BULLA_OK;
    }
}

static int has_minus_128(const int8_t *values, uint64_t count)
{
    uint8_t found = 0;
    for (uint64_t i = 0; i < count; i++)
        found |= values[i] == -128;
    return found;
}

static uint8_t largest_byte(const uint8_t *values, uint64_t count)
{
    uint8_t largest = 0;
    for (uint64_t i = 0; i < count; i++)
        largest = values[i] > largest ? values[i] : largest;
    return largest;
}

/* Bytes are weights (E8, W) or gains' powers of two (e): each tensor is looked
 * through once, however many operations use it. */
static int check_bytes(const bulla_tensor *tensor, const void *data, bulla_error *error)
{
    if (tensor->dtype == BULLA_I8 && has_minus_128(data, tensor->bytes))
        return bulla_fail(error, BULLA_E_INPUT, "tensor %s: an element is -128, expected at least -127", tensor->name);
    if (tensor->dtype == BULLA_U8 && largest_byte(data, tensor->bytes) > 15)
        return bulla_fail(error, BULLA_E_INPUT, "tensor %s: an element is %u, expected at most 15", tensor->name,
                          largest_byte(data, tensor->bytes));
    return BULLA_OK;
}

/* Printable, ended, zeros after it. */
static int is_name(const char name[72])
{
    size_t length = strnlen(name, 72), i;
    if (length == 0 || length == 72)
        return 0;
    for (i = 0; i < length; i++)
        if (name[i] <= ' ' || name[i] > '~')
            return 0;
    for (; i < 72; i++)
        if (name[i])
            return 0;
    return 1;
}

static int check_tensor_record(const bulla_tensor *tensor, uint32_t index, bulla_error *error)
{
    uint32_t size = bulla_dtype_size(tensor->dtype);
    uint64_t bytes;
    if (!is_name(tensor->name))
        return bulla_fail(error, BULLA_E_INPUT, "tensor %u: the name is empty, not ended or not printable", index);
    if (size == 0 || tensor->rows == 0 || tensor->columns == 0 ||
        __builtin_mul_overflow((uint64_t)tensor->rows * tensor->columns, (uint64_t)size, &bytes) ||
        tensor->bytes != bytes)
        return bulla_fail(error, BULLA_E_INPUT, "tensor %s: %llu bytes do not fit %s [%u, %u]", tensor->name,
                          (unsigned long long)tensor->bytes, bulla_dtype_name(tensor->dtype), tensor->rows,
                          tensor->columns);
    for (size_t j = 0; j < 24; j++)
        if (tensor->reserved_end[j] || (j < 7 && tensor->reserved[j]))
            return bulla_fail(error, BULLA_E_INPUT, "tensor %s: a reserved byte is not zero", tensor->name);
    return BULLA_OK;
}

static int check_tensors(const bulla_program *program, bulla_error *error)
{
    struct name_table names = {0};
    int code = BULLA_OK;
    for (uint32_t i = 0; i < program->tensor_count && code == BULLA_OK; i++) {
        const bulla_tensor *tensor = &program->tensors[i];
        size_t length = strnlen(tensor->name, sizeof tensor->name), other;
        code = check_tensor_record(tensor, i, error);
        if (code == BULLA_OK && name_table_find(&names, tensor->name, length, &other))
            code = bulla_fail(error, BULLA_E_INPUT, "tensors %zu and %u have the same name, %s", other, i, tensor->name);
        if (code == BULLA_OK)
            code = name_table_add(&names, tensor->name, length, i, error);
        if (code == BULLA_OK && program->data)
            code = check_bytes(tensor, program->data[i], error);
    }
    name_table_free(&names);
    return code;
}

static int check_table(const bulla_program *program, int index, bulla_error *error)
{
    const struct program_table *table = &program_tables[index];
    const bulla_tensor *tensor = &program->tensors[index];
    if (strcmp(tensor->name, table->name) != 0 || tensor->dtype != table->dtype || tensor->columns != table->elements ||
        tensor->rows != 1)
        return bulla_fail(error, BULLA_E_INPUT, "tensor %d is %s %s [%u, %u], expected %s", index, tensor->name,
                          bulla_dtype_name(tensor->dtype), tensor->rows, tensor->columns, table->name);
    if (!program->data)
        return BULLA_OK;
    uint8_t digest[32];
    char text[65];
    int code = hash_sha256(program->data[index], tensor->bytes, digest, error);
    if (code)
        return code;
    hex_encode(digest, 32, text);
    if (strcmp(text, table->sha256) != 0)
        return bulla_fail(error, BULLA_E_INPUT, "tensor %s is not the table of this program version: SHA-256 %s, "
                          "expected %s", table->name, text, table->sha256);
    return BULLA_OK;
}

/* Small tensors' values with bounds that executors rely on. */
static int check_values(const struct check *check)
{
    const bulla_operation *o = check->operation;
    const bulla_program *program = check->program;
    if (o->tensors[BULLA_TENSOR_G] >= 0) {
        const int32_t *G = program->data[o->tensors[BULLA_TENSOR_G]];
        for (uint32_t i = 0; i < o->head_size; i++)
            if (G[i] <= -(1 << 24) || G[i] >= 1 << 24)
                return wrong(check, "G", G[i], "below 2^24");
    }
    if (o->tensors[BULLA_TENSOR_A] >= 0) {
        const int32_t *A = program->data[o->tensors[BULLA_TENSOR_A]];
        for (uint32_t i = 0; i < 1025; i++)
            if (A[i] <= -(1 << 30) || A[i] >= 1 << 30)
                return wrong(check, "A", A[i], "below 2^30");
    }
    return BULLA_OK;
}

int bulla_program_check(const bulla_program *program, bulla_error *error)
{
    if (program->operation_count == 0 || program->operation_count > MOST_OPERATIONS ||
        program->tensor_count < PROGRAM_TABLES || program->tensor_count > MOST_TENSORS || program->vocabulary == 0 ||
        program->vocabulary > MOST_IDS || program->context == 0 || program->context > MOST_POSITIONS ||
        program->layers >= BULLA_NO_LAYER)
        return bulla_fail(error, BULLA_E_INPUT, "a program of %u operations, %u tensors, vocabulary %u, context %u, "
                          "%u layers; expected 1 to %d, %d to %d, 1 to %d, 1 to %d, 0 to %d", program->operation_count,
                          program->tensor_count, program->vocabulary, program->context, program->layers,
                          MOST_OPERATIONS, PROGRAM_TABLES, MOST_TENSORS, MOST_IDS, MOST_POSITIONS, BULLA_NO_LAYER - 1);
    int code = check_tensors(program, error);
    for (int i = 0; i < PROGRAM_TABLES && code == BULLA_OK; i++)
        code = check_table(program, i, error);
    struct check check = {.program = program, .error = error};
    for (; check.index < program->operation_count && code == BULLA_OK; check.index++) {
        check.operation = &program->operations[check.index];
        const struct program_kind *kind = program_kind(check.operation->kind);
        if (!kind)
            return wrong(&check, "kind", check.operation->kind, "a kind of program version 1");
        if (check.index == 0 ? check.operation->kind != BULLA_EMBED : check.operation->kind == BULLA_EMBED)
            return wrong(&check, "kind", check.operation->kind, "embed first, and nowhere else");
        code = check_links(&check, kind);
        code = code ? code : check_parameters(&check, kind);
        code = code ? code : check_shapes(&check);
        if (code == BULLA_OK && program->data)
            code = check_values(&check);
    }
    if (code)
        return code;
    const bulla_operation *last = &program->operations[program->operation_count - 1];
    if (program_kind(last->kind)->result != VALUE_VECTOR || last->outputs != program->vocabulary ||
        last->F != program->logits_F)
        return bulla_fail(error, BULLA_E_INPUT, "the last operation gives %u elements with F %d, expected logits of %u with F %d",
                          last->outputs, last->F, program->vocabulary, program->logits_F);
    if (program->logits_F < 0 || program->logits_F > 31)
        return bulla_fail(error, BULLA_E_INPUT, "the logits' F is %d, expected 0 to 31", program->logits_F);
    return BULLA_OK;
}
