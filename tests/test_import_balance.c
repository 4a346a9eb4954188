/* How import divides a channel's size between activations and weights: its choice against the closed form, against
 * every neighbouring choice, and against no balance on channels of which one stands out. */
#include "test.h"

#include <math.h>

#include "base/memory.h"
#include "model/import_state.h"
#include "model/source_format.h"

/* Rows of the matrix that reads, channels, positions, the channel that stands out and one that the text never uses. */
enum { ROWS = 24, CHANNELS = 32, POSITIONS = 50, OUTLIER = 5, SILENT = 9 };
enum { HEADS = 8, KEY_HEADS = 2, HEAD = CHANNELS / HEADS, MADE = KEY_HEADS * HEAD };

struct layer {
    struct importing importing;
    struct draft drafts[6];
    struct import_value values[6];
    int32_t x[POSITIONS][CHANNELS];
    float weights[ROWS][CHANNELS];
    double power[CHANNELS], column[CHANNELS]; /* sigma^2 and w^2 of each channel, computed here */
    uint8_t file[512 + sizeof(float) * ROWS * CHANNELS];
    struct source *source;
};

static uint64_t random_state;

static double random_real(void) /* in [-1, 1) */
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (double)(int32_t)(random_state >> 32) / 2147483648.0;
}

static void fill_values(struct layer *layer)
{
    for (int t = 0; t < POSITIONS; t++)
        for (int i = 0; i < CHANNELS; i++)
            layer->x[t][i] = i == SILENT ? 0 : (int32_t)(random_real() * (i == OUTLIER ? 2e6 : 1e4));
    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < CHANNELS; i++)
            layer->weights[r][i] = (float)(random_real() * (1 + i % 3));
    double mean = 0;
    for (int i = 0; i < CHANNELS; i++) {
        layer->power[i] = layer->column[i] = 0;
        for (int t = 0; t < POSITIONS; t++) {
            double norm = 0;
            for (int j = 0; j < CHANNELS; j++)
                norm += pow(layer->x[t][j], 2);
            layer->power[i] += pow(layer->x[t][i], 2) / norm;
        }
        for (int r = 0; r < ROWS; r++)
            layer->column[i] += pow((double)layer->weights[r][i], 2);
        mean += layer->power[i] / CHANNELS;
    }
    for (int i = 0; i < CHANNELS; i++)
        layer->power[i] = fmax(layer->power[i], mean * 1e-4); /* a silent channel's size, docs/import.md */
}

static void open_weights(struct layer *layer)
{
    char header[200];
    size_t bytes = sizeof layer->weights;
    int length = snprintf(header, sizeof header,
                          "{\"w\":{\"dtype\":\"F32\",\"shape\":[%d,%d],\"data_offsets\":[0,%zu]}}", ROWS, CHANNELS, bytes);
    uint64_t padded = ((uint64_t)length + 7) / 8 * 8;
    memset(layer->file, ' ', sizeof layer->file);
    memcpy(layer->file, &padded, 8);
    memcpy(layer->file + 8, header, (size_t)length);
    memcpy(layer->file + 8 + padded, layer->weights, bytes);
    bulla_error error = {0};
    assert_ok(source_open_bytes(SOURCE_SAFETENSORS, layer->file, 8 + padded + bytes, "{}", 2, &layer->source, &error),
              error);
}

static void set_operation(struct layer *layer, int index, int kind, int first, int second, int third, uint32_t n,
                          uint32_t outputs)
{
    layer->drafts[index].operation = (bulla_operation){
        .kind = (uint16_t)kind, .inputs = {first, second, third}, .n = n, .outputs = outputs, .heads = HEADS,
        .head_size = HEAD, .kv_heads = KEY_HEADS};
}

/* Drafts 0 and 1 make what `kind` (2) reads; 3 quantises it and 4 is the matrix that reads that. */
static struct layer *open_layer(int kind)
{
    struct layer *layer = memory_alloc(1, sizeof *layer, NULL);
    assert_non_null(layer);
    random_state = 11;
    fill_values(layer);
    open_weights(layer);
    uint32_t made = kind == BULLA_ATTEND ? MADE : CHANNELS;
    set_operation(layer, 0, BULLA_LINEAR, -1, -1, -1, CHANNELS, made);
    set_operation(layer, 1, kind == BULLA_ATTEND ? BULLA_VALUE_QUANT : BULLA_LINEAR, 0, -1, -1, CHANNELS, made);
    set_operation(layer, 2, kind, kind == BULLA_NORM_QUANT ? 5 : 0, 1, 1, CHANNELS, CHANNELS);
    set_operation(layer, 3, kind == BULLA_NORM_QUANT ? BULLA_LINEAR : BULLA_QUANT, 2, -1, -1, CHANNELS,
                  kind == BULLA_NORM_QUANT ? ROWS : CHANNELS);
    set_operation(layer, 4, BULLA_LINEAR, kind == BULLA_NORM_QUANT ? 5 : 3, -1, -1, CHANNELS, ROWS);
    layer->drafts[3].weight.tensor = layer->drafts[4].weight.tensor = source_tensor_find(layer->source, "w");
    layer->values[kind == BULLA_NORM_QUANT ? 5 : 2].vector = &layer->x[0][0];
    layer->importing = (struct importing){.source = layer->source, .list = {.drafts = layer->drafts, .count = 5},
                                          .values = layer->values, .positions = POSITIONS, .text_positions = POSITIONS};
    return layer;
}

static void close_layer(struct layer *layer)
{
    arena_free(&layer->importing.arena);
    source_close(layer->source);
    memory_free(layer);
}

/* What the errors of both roundings go with: (sum of sigma^2 d^2) (sum of w^2 / d^2). */
static double loss(const struct layer *layer, const double d[CHANNELS])
{
    double activations = 0, weights = 0;
    for (int i = 0; i < CHANNELS; i++) {
        activations += layer->power[i] * d[i] * d[i];
        weights += layer->column[i] / (d[i] * d[i]);
    }
    return activations * weights;
}

/* Mean square error of the matrix's results when positions and rows are rounded to int8, d between them. */
static double rounding_error(const struct layer *layer, const double d[CHANNELS])
{
    double sum = 0;
    for (int t = 0; t < POSITIONS; t++)
        for (int r = 0; r < ROWS; r++) {
            double largest_x = 0, largest_w = 0, exact = 0, rounded = 0;
            for (int i = 0; i < CHANNELS; i++) {
                largest_x = fmax(largest_x, fabs(layer->x[t][i] * d[i]));
                largest_w = fmax(largest_w, fabs((double)layer->weights[r][i] / d[i]));
            }
            for (int i = 0; i < CHANNELS; i++) {
                double x = layer->x[t][i], w = (double)layer->weights[r][i];
                exact += x * w;
                rounded += round(x * d[i] * 127 / largest_x) * round(w / d[i] * 127 / largest_w);
            }
            sum += pow(exact - rounded * largest_x * largest_w / (127 * 127), 2);
        }
    return sum / (POSITIONS * ROWS);
}

static void check_better_than_none(const struct layer *layer, const double d[CHANNELS], double share)
{
    double none[CHANNELS];
    for (int i = 0; i < CHANNELS; i++)
        none[i] = 1;
    double with = rounding_error(layer, d), without = rounding_error(layer, none);
    print_message("mean square error %g, without the balance %g\n", with, without);
    assert_true(with < share * without);
}

static void test_product(void **state)
{
    struct layer *layer = open_layer(BULLA_GATE);
    bulla_error error = {0};
    assert_ok(import_balance(&layer->importing, 2, &error), error);
    const double *scale = layer->drafts[1].next_row_scale, *column = layer->drafts[4].next_column_scale;
    assert_non_null(scale);
    assert_non_null(column);
    assert_null(layer->drafts[0].next_row_scale); /* the gated half passes through a curve */
    double wanted[CHANNELS], largest = 0;
    for (int i = 0; i < CHANNELS; i++) {
        wanted[i] = pow(layer->column[i] / layer->power[i], 0.25);
        largest = fmax(largest, wanted[i]);
    }
    for (int i = 0; i < CHANNELS; i++) {
        assert_true(fabs(scale[i] - wanted[i] / largest) < 1e-12);
        assert_true(fabs(scale[i] * column[i] - 1) < 1e-15); /* what one side gains the other loses */
    }
    for (int i = 0; i < CHANNELS; i++)
        for (int up = 0; up < 2; up++) {
            double other[CHANNELS];
            memcpy(other, scale, sizeof other);
            other[i] *= up ? 1.1 : 1 / 1.1;
            assert_true(loss(layer, other) > loss(layer, scale));
        }
    check_better_than_none(layer, scale, 0.2);
    close_layer(layer);
}

/* No channel is made smaller than 2^-8 of the largest. */
static void test_least_scale(void **state)
{
    struct layer *layer = open_layer(BULLA_GATE);
    bulla_error error = {0};
    for (int t = 0; t < POSITIONS; t++)
        for (int i = 0; i < CHANNELS; i++)
            layer->x[t][i] = i == OUTLIER ? 1 << 30 : 1;
    for (int r = 0; r < ROWS; r++)
        layer->weights[r][OUTLIER] = 1e-5f;
    source_close(layer->source);
    open_weights(layer);
    layer->importing.source = layer->source;
    layer->drafts[4].weight.tensor = source_tensor_find(layer->source, "w");
    assert_ok(import_balance(&layer->importing, 2, &error), error);
    assert_true(layer->drafts[1].next_row_scale[OUTLIER] == 1.0 / 256);
    assert_true(layer->drafts[4].next_column_scale[OUTLIER] == 256);
    close_layer(layer);
}

/* One scale for all the query heads that read a value's row. */
static void test_attention(void **state)
{
    struct layer *layer = open_layer(BULLA_ATTEND);
    bulla_error error = {0};
    assert_ok(import_balance(&layer->importing, 2, &error), error);
    const double *scale = layer->drafts[0].next_row_scale, *column = layer->drafts[4].next_column_scale;
    assert_non_null(scale);
    assert_non_null(column);
    double d[CHANNELS], wanted[MADE], power[MADE] = {0}, weights[MADE] = {0}, largest = 0;
    for (int i = 0; i < CHANNELS; i++) {
        int row = i / HEAD * KEY_HEADS / HEADS * HEAD + i % HEAD;
        power[row] += i == SILENT ? 0 : layer->power[i];
        weights[row] += layer->column[i];
        d[i] = scale[row];
        assert_true(fabs(d[i] * column[i] - 1) < 1e-15);
    }
    for (int row = 0; row < MADE; row++) {
        wanted[row] = pow(weights[row] / power[row], 0.25);
        largest = fmax(largest, wanted[row]);
    }
    for (int row = 0; row < MADE; row++)
        assert_true(fabs(scale[row] - wanted[row] / largest) < 1e-12);
    check_better_than_none(layer, d, 0.5);
    close_layer(layer);
}

/* After a norm: up to a common factor, and with the gain's share. */
static void test_norm(void **state)
{
    struct layer *layer = open_layer(BULLA_NORM_QUANT);
    bulla_error error = {0};
    double gain[CHANNELS], wanted[CHANNELS];
    for (int i = 0; i < CHANNELS; i++)
        gain[i] = 1 + i % 4 - (i % 7 == 0) * 5;
    assert_ok(import_wanted_scales(&layer->importing, 2, gain, wanted, &error), error);
    for (int i = 0; i < CHANNELS; i++) {
        double expected = pow(layer->column[i] / layer->power[i], 0.25) * sqrt(fabs(gain[i]));
        assert_true(fabs(wanted[i] - expected) < 1e-12 * expected + 1e-300);
    }
    for (int i = 0; i < CHANNELS; i++)
        gain[i] = 1;
    assert_ok(import_wanted_scales(&layer->importing, 2, gain, wanted, &error), error);
    check_better_than_none(layer, wanted, 0.2);
    close_layer(layer);
}

/* A result that nothing quantises for a matrix stays as it is. */
static void test_nothing_to_balance(void **state)
{
    struct layer *layer = open_layer(BULLA_GATE);
    bulla_error error = {0};
    layer->importing.list.count = 4;
    assert_ok(import_balance(&layer->importing, 2, &error), error);
    assert_null(layer->drafts[1].next_row_scale);
    close_layer(layer);
}

static void test_allocations(void **state)
{
    for (uint64_t n = 1;; n++) {
        struct layer *layer = open_layer(BULLA_GATE);
        bulla_error error = {0};
        memory_inject_failure(n, 0);
        int code = import_balance(&layer->importing, 2, &error);
        memory_inject_failure(0, 0);
        if (code == BULLA_OK) {
            assert_true(n > 5); /* it has five */
            close_layer(layer);
            return;
        }
        assert_int_equal(code, BULLA_E_MEMORY);
        assert_int_equal(error.code, BULLA_E_MEMORY);
        assert_null(layer->drafts[1].next_row_scale);
        close_layer(layer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_product), cmocka_unit_test(test_least_scale),        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_norm),    cmocka_unit_test(test_nothing_to_balance), cmocka_unit_test(test_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
