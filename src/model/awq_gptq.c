#include "model/awq_gptq.h"

#include <string.h>
#include <strings.h>

/* A value of quantization_config as a sentence may show it. */
static const char *shown(const struct json *value)
{
    if (!value)
        return "absent";
    switch (value->type) {
    case JSON_NULL:
        return "null";
    case JSON_FALSE:
        return "false";
    case JSON_TRUE:
        return "true";
    case JSON_ARRAY:
        return "an array";
    case JSON_OBJECT:
        return "an object";
    default:
        return value->text;
    }
}

static int refuse(const char *member, const struct json *value, const char *expected, bulla_error *error)
{
    return bulla_fail(error, BULLA_E_UNSUPPORTED, "quantization_config.%s is %s; read is: %s", member,
                      shown(value), expected);
}

static int is_text(const struct json *value, const char *text)
{
    return json_is(value, JSON_STRING) && strcasecmp(value->text, text) == 0;
}

/* The member by its name or by its older name; null counts as absent. */
static const struct json *get(const struct json *object, const char *name, const char *older)
{
    const struct json *value = json_get(object, name);
    if (!value && older)
        value = json_get(object, older);
    return json_is(value, JSON_NULL) ? NULL : value;
}

static int parse_numbers(const struct json *quantization, struct packing *packing, bulla_error *error)
{
    const struct json *bits = get(quantization, "bits", "w_bit");
    const struct json *group_size = get(quantization, "group_size", "q_group_size");
    if (!json_is(bits, JSON_NUMBER) || !bits->is_integer || bits->integer != 4)
        return refuse("bits", bits, "4", error);
    if (!json_is(group_size, JSON_NUMBER) || !group_size->is_integer ||
        (group_size->integer < 1 && group_size->integer != -1))
        return refuse("group_size", group_size, "a positive integer, or -1 for one group", error);
    packing->group_size = group_size->integer < 0 ? 0 : (uint64_t)group_size->integer;
    return BULLA_OK;
}

static int parse_gptq(const struct json *quantization, struct packing *packing, bulla_error *error)
{
    const struct json *format = get(quantization, "checkpoint_format", "format");
    const struct json *pack = get(quantization, "pack_dtype", NULL), *dynamic = get(quantization, "dynamic", NULL);
    if (format && !is_text(format, "gptq") && !is_text(format, "gptq_v2"))
        return refuse("checkpoint_format", format, "gptq and gptq_v2", error);
    if (pack && !is_text(pack, "int32"))
        return refuse("pack_dtype", pack, "int32", error);
    if (dynamic && !json_is(dynamic, JSON_OBJECT))
        return refuse("dynamic", dynamic, "an object", error);
    for (size_t i = 0; dynamic && i < dynamic->length; i++) /* "-:PATTERN" leaves modules unquantised */
        if (strncmp(dynamic->keys[i], "-:", 2) != 0)
            return bulla_fail(error, BULLA_E_UNSUPPORTED,
                              "quantization_config.dynamic gives %s settings of its own; read are models "
                              "with one setting for all modules",
                              dynamic->keys[i]);
    packing->layout = is_text(format, "gptq_v2") ? PACKING_GPTQ_V2 : PACKING_GPTQ;
    packing->ordered = json_is(get(quantization, "desc_act", NULL), JSON_TRUE);
    return parse_numbers(quantization, packing, error);
}

static int parse_awq(const struct json *quantization, struct packing *packing, bulla_error *error)
{
    const struct json *version = get(quantization, "version", NULL), *backend = get(quantization, "backend", NULL);
    const struct json *zero_point = get(quantization, "zero_point", NULL);
    if (version && !is_text(version, "gemm"))
        return refuse("version", version, "gemm", error);
    if (backend && !is_text(backend, "autoawq"))
        return refuse("backend", backend, "autoawq", error);
    if (zero_point && !json_is(zero_point, JSON_TRUE))
        return refuse("zero_point", zero_point, "true", error);
    packing->layout = PACKING_AWQ;
    return parse_numbers(quantization, packing, error);
}

int packing_parse(const struct json *config, struct packing *packing, bulla_error *error)
{
    const struct json *quantization = get(config, "quantization_config", NULL);
    memset(packing, 0, sizeof *packing);
    if (!quantization)
        return BULLA_OK;
    if (!json_is(quantization, JSON_OBJECT))
        return bulla_fail(error, BULLA_E_INPUT, "quantization_config is %s; an object was expected",
                          shown(quantization));
    const struct json *method = get(quantization, "quant_method", NULL);
    if (is_text(method, "gptq"))
        return parse_gptq(quantization, packing, error);
    if (is_text(method, "awq"))
        return parse_awq(quantization, packing, error);
    return refuse("quant_method", method, "gptq and awq", error);
}

const char *packing_type_name(enum packing_layout layout)
{
    return layout == PACKING_AWQ ? "AWQ 4-bit" : "GPTQ 4-bit";
}

static int is_integer_part(const struct packed_part *part)
{
    return strcmp(part->type_name, "I32") == 0 || strcmp(part->type_name, "U32") == 0;
}

/* A part of 32-bit integers, of the expected shape. */
static int check_integers(const struct packed_part *part, const char *name, int dimensions, uint64_t first,
                          uint64_t second, bulla_error *error)
{
    if (!part->data)
        return bulla_fail(error, BULLA_E_INPUT, "%s is missing", name);
    if (!is_integer_part(part))
        return bulla_fail(error, BULLA_E_INPUT, "%s has type %s; I32 was expected", name, part->type_name);
    if (part->dimensions != dimensions || part->shape[0] != first || (dimensions == 2 && part->shape[1] != second))
        return bulla_fail(error, BULLA_E_INPUT, "%s has %d dimensions (%llu, %llu); %llu%s%.0llu was expected", name,
                          part->dimensions, (unsigned long long)part->shape[0], (unsigned long long)part->shape[1],
                          (unsigned long long)first, dimensions == 2 ? " by " : "",
                          (unsigned long long)(dimensions == 2 ? second : 0));
    return BULLA_OK;
}

static int check_weights(const struct packed_part *part, struct packed_matrix *matrix, bulla_error *error)
{
    if (!is_integer_part(part) || part->dimensions != 2)
        return bulla_fail(error, BULLA_E_INPUT, "qweight is %s with %d dimensions; I32 with 2 was expected",
                          part->type_name, part->dimensions);
    int gptq = matrix->layout != PACKING_AWQ;
    matrix->inputs = gptq ? part->shape[0] * 8 : part->shape[0]; /* below 2^64: 4 bytes each are in the file */
    matrix->outputs = gptq ? part->shape[1] : part->shape[1] * 8;
    if (matrix->inputs == 0 || matrix->outputs == 0 || matrix->outputs % 8)
        return bulla_fail(error, BULLA_E_INPUT, "qweight is for %llu inputs and %llu outputs; outputs are a multiple "
                          "of 8, and neither is 0",
                          (unsigned long long)matrix->inputs, (unsigned long long)matrix->outputs);
    return BULLA_OK;
}

static int check_scales(const struct packed_part *part, struct packed_matrix *matrix, bulla_error *error)
{
    if (!part->data)
        return bulla_fail(error, BULLA_E_INPUT, "scales is missing");
    matrix->scale_format = number_format_find_name(part->type_name);
    if (!matrix->scale_format || !matrix->scale_format->dequantize || matrix->scale_format->values_per_block != 1)
        return bulla_fail(error, BULLA_E_INPUT, "scales has type %s; F16, BF16 or F32 was expected", part->type_name);
    if (part->dimensions != 2 || part->shape[0] != matrix->groups || part->shape[1] != matrix->outputs)
        return bulla_fail(error, BULLA_E_INPUT, "scales has %d dimensions (%llu, %llu); %llu by %llu was expected",
                          part->dimensions, (unsigned long long)part->shape[0], (unsigned long long)part->shape[1],
                          (unsigned long long)matrix->groups, (unsigned long long)matrix->outputs);
    return BULLA_OK;
}

static inline uint32_t load_u32(const uint8_t *data)
{
    return data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 | (uint32_t)data[3] << 24;
}

static int check_group_indices(const struct packed_part *part, int ordered, struct packed_matrix *matrix, bulla_error *error)
{
    if (!part->data && ordered && matrix->groups > 1)
        return bulla_fail(error, BULLA_E_INPUT, "g_idx is missing, and quantization_config.desc_act is true");
    if (!part->data)
        return BULLA_OK;
    if (matrix->layout == PACKING_AWQ)
        return bulla_fail(error, BULLA_E_INPUT, "g_idx is there, which AWQ does not have");
    int code = check_integers(part, "g_idx", 1, matrix->inputs, 0, error);
    for (uint64_t i = 0; i < matrix->inputs && code == BULLA_OK; i++)
        if (load_u32(part->data + 4 * i) >= matrix->groups)
            code = bulla_fail(error, BULLA_E_INPUT, "g_idx[%llu] is %ld; groups are 0 to %llu", (unsigned long long)i,
                              (long)(int32_t)load_u32(part->data + 4 * i), (unsigned long long)matrix->groups - 1);
    return code;
}

int packed_matrix_open(const struct packing *packing, const struct packed_part *weights,
                       const struct packed_part *zeros, const struct packed_part *scales,
                       const struct packed_part *group_indices, struct packed_matrix *matrix, bulla_error *error)
{
    memset(matrix, 0, sizeof *matrix);
    matrix->layout = packing->layout;
    if (packing->layout == PACKING_NONE)
        return bulla_fail(error, BULLA_E_INPUT,
                          "qweight is there, but config.json has no quantization_config that says how it is packed");
    int code = check_weights(weights, matrix, error);
    if (code != BULLA_OK)
        return code;
    matrix->group_size = packing->group_size ? packing->group_size : matrix->inputs;
    matrix->groups = (matrix->inputs - 1) / matrix->group_size + 1;
    code = check_scales(scales, matrix, error);
    if (code == BULLA_OK)
        code = check_integers(zeros, "qzeros", 2, matrix->groups, matrix->outputs / 8, error);
    if (code == BULLA_OK)
        code = check_group_indices(group_indices, packing->ordered, matrix, error);
    matrix->weights = weights->data;
    matrix->zeros = zeros->data;
    matrix->scales = scales->data;
    matrix->group_indices = group_indices->data;
    return code;
}

/* Rows are read eight at a time, the outputs of one word of zeros, so that each
 * word of the file, which lies across rows, is looked at once. */
enum { TILE = 8 };

/* Where output j of eight is in a word, in bits. AWQ's word has, from its lowest
 * nibble, the outputs 0 2 4 6 1 3 5 7. */
static const uint8_t plain_shifts[TILE] = {0, 4, 8, 12, 16, 20, 24, 28};
static const uint8_t awq_shifts[TILE] = {0, 16, 4, 20, 8, 24, 12, 28};

/* The scales and zeros of one group for the tile's eight outputs. */
static void load_group(const struct packed_matrix *matrix, uint64_t group, uint64_t tile, float scales[TILE],
                       int zeros[TILE])
{
    uint64_t at = group * matrix->outputs + tile * TILE;
    const uint8_t *shifts = matrix->layout == PACKING_AWQ ? awq_shifts : plain_shifts;
    uint32_t word = load_u32(matrix->zeros + 4 * (group * (matrix->outputs / 8) + tile));
    matrix->scale_format->dequantize(matrix->scales + at * matrix->scale_format->bytes_per_block, TILE, scales);
    for (int j = 0; j < TILE; j++) {
        int zero = word >> shifts[j] & 15;
        zeros[j] = matrix->layout == PACKING_GPTQ ? (zero + 1) & 15 : zero;
    }
}

static uint64_t group_of(const struct packed_matrix *matrix, uint64_t input)
{
    return matrix->group_indices ? load_u32(matrix->group_indices + 4 * input) : input / matrix->group_size;
}

/* The eight outputs' four-bit numbers at one input. */
static inline void load_numbers(const struct packed_matrix *matrix, uint64_t tile, uint64_t input, int numbers[TILE])
{
    if (matrix->layout == PACKING_AWQ) {
        uint32_t word = load_u32(matrix->weights + 4 * (input * (matrix->outputs / 8) + tile));
        for (int j = 0; j < TILE; j++)
            numbers[j] = word >> awq_shifts[j] & 15;
        return;
    }
    const uint8_t *words = matrix->weights + 4 * (input / 8 * matrix->outputs + tile * TILE);
    for (int j = 0; j < TILE; j++)
        numbers[j] = load_u32(words + 4 * j) >> (input % 8 * 4) & 15;
}

/* Outputs `first` to `end` (exclusive) of the tile into `values`, a row each. */
static void read_tile(const struct packed_matrix *matrix, uint64_t tile, uint64_t first, uint64_t end, float *values)
{
    float scales[TILE];
    int zeros[TILE], numbers[TILE];
    uint64_t loaded = UINT64_MAX;
    for (uint64_t input = 0; input < matrix->inputs; input++) {
        uint64_t group = group_of(matrix, input);
        if (group != loaded)
            load_group(matrix, group, tile, scales, zeros);
        loaded = group;
        load_numbers(matrix, tile, input, numbers);
        for (uint64_t j = first; j < end; j++)
            values[(j - first) * matrix->inputs + input] = (float)(numbers[j] - zeros[j]) * scales[j];
    }
}

void packed_matrix_read(const struct packed_matrix *matrix, uint64_t first_row, uint64_t count, float *values)
{
    uint64_t end_row = first_row + count;
    for (uint64_t row = first_row; row < end_row;) {
        uint64_t tile = row / TILE, next = (tile + 1) * TILE < end_row ? (tile + 1) * TILE : end_row;
        read_tile(matrix, tile, row - tile * TILE, next - tile * TILE, values + (row - first_row) * matrix->inputs);
        row = next;
    }
}
