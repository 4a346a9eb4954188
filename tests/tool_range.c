/* Whether token sequences leave a bound of a model's program, and how close they come.
 *
 *     tool_range FILE run        runs each sequence through the engine; prints "range R P O" for a sequence R that
 *                                raises RANGE at position P in operation O, then "done R T" (sequences, tokens)
 *     tool_range FILE headroom   runs the operations one after another over all sequences; prints for each operation
 *                                and bound "INDEX KIND BOUND LOG2", the log2 of the largest value over its bound
 *
 * Standard input: records, each three u32, little-endian (kind, length, limit) and its content: token ids (kind 0,
 * `length` of them) or a text (kind 1, `length` bytes) that the model's tokenizer turns into ids, of which the first
 * `limit` count (0: as many as the context holds). Every position counts as evaluated; logits are computed at the last
 * position of each sequence only (their bound holds by the rows' norms). */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "bulla/engine.h"
#include "bulla/model.h"
#include "exec/cpu/import_run.h"
#include "model/program_names.h"

enum { BATCH_SEQUENCES = 48, BATCH_TOKENS = 512, CHUNK = 512 };

struct records {
    uint32_t *ids;
    uint64_t *starts; /* [count + 1] */
    uint64_t count, capacity, total, total_capacity;
};

static int grow(struct records *records, uint64_t more, bulla_error *error)
{
    if (records->count + 2 > records->capacity) {
        records->capacity = 2 * records->capacity + 64;
        void *starts = memory_resize(records->starts, records->capacity, sizeof *records->starts, error);
        if (!starts)
            return BULLA_E_MEMORY;
        records->starts = starts;
        records->starts[records->count] = records->total;
    }
    if (records->total + more > records->total_capacity) {
        records->total_capacity = 2 * records->total_capacity + more;
        void *ids = memory_resize(records->ids, records->total_capacity, sizeof *records->ids, error);
        if (!ids)
            return BULLA_E_MEMORY;
        records->ids = ids;
    }
    return BULLA_OK;
}

static int add_ids(struct records *records, const uint32_t *ids, uint64_t count, bulla_error *error)
{
    if (count == 0)
        return BULLA_OK;
    if (grow(records, count, error))
        return BULLA_E_MEMORY;
    memcpy(records->ids + records->total, ids, count * sizeof *ids);
    records->total += count;
    records->starts[++records->count] = records->total;
    return BULLA_OK;
}

/* A record's content: `bytes` of it are in `content`. */
static int add_record(struct records *records, const bulla_model *model, uint32_t kind, const void *content, size_t bytes,
                      uint32_t limit, bulla_error *error)
{
    uint32_t context = bulla_model_program(model)->context, *ids;
    size_t count;
    limit = limit && limit < context ? limit : context;
    if (kind == 0)
        return add_ids(records, content, bytes / 4 < limit ? bytes / 4 : limit, error);
    int code = bulla_tokenizer_encode(bulla_model_tokenizer(model), content, bytes, BULLA_ENCODE_START, SIZE_MAX, &ids, &count,
                                      error);
    if (code == BULLA_OK) {
        code = add_ids(records, ids, count < limit ? count : limit, error);
        bulla_tokens_free(ids);
    }
    return code;
}

static int read_records(struct records *records, const bulla_model *model, bulla_error *error)
{
    uint32_t head[3];
    int code = BULLA_OK;
    while (code == BULLA_OK && fread(head, sizeof head, 1, stdin) == 1) {
        size_t bytes = head[0] == 0 ? (size_t)head[1] * 4 : head[1];
        uint8_t *content = memory_alloc(bytes + 1, 1, error);
        if (!content)
            return BULLA_E_MEMORY;
        if (fread(content, 1, bytes, stdin) != bytes)
            code = bulla_fail(error, BULLA_E_INPUT, "standard input ends in the middle of a record");
        else
            code = add_record(records, model, head[0], content, bytes, head[2], error);
        memory_free(content);
    }
    if (code == BULLA_OK && records->count == 0)
        code = bulla_fail(error, BULLA_E_INPUT, "standard input holds no record");
    return code;
}

/* --- run --- */

struct batch {
    bulla_engine *engine;
    int32_t *logits; /* [BATCH_SEQUENCES][vocabulary] */
    uint32_t vocabulary;
};

/* One sequence alone, a chunk after another. */
static int run_long(struct batch *batch, const struct records *records, uint64_t index, bulla_error *error)
{
    bulla_sequence *sequence;
    const uint32_t *ids = records->ids + records->starts[index];
    uint32_t all = (uint32_t)(records->starts[index + 1] - records->starts[index]);
    int code = bulla_sequence_open(batch->engine, 0, &sequence, error);
    for (uint32_t at = 0; at < all && code == BULLA_OK; at += CHUNK) {
        uint32_t count = all - at < CHUNK ? all - at : CHUNK;
        bulla_piece piece = {.sequence = sequence, .ids = ids + at, .count = count,
                             .logits_from = at + count == all ? count - 1 : count, .logits = batch->logits};
        code = bulla_engine_step(batch->engine, &piece, 1, error);
        if (code == BULLA_OK && piece.code != BULLA_OK) {
            printf("range %llu %llu %u\n", (unsigned long long)index, (unsigned long long)piece.range_position,
                   piece.range_operation);
            break;
        }
    }
    bulla_sequence_close(sequence);
    return code;
}

/* Sequences [first, first + count) in one step. */
static int run_short(struct batch *batch, const struct records *records, uint64_t first, uint32_t count, bulla_error *error)
{
    bulla_piece pieces[BATCH_SEQUENCES] = {0};
    int code = BULLA_OK;
    for (uint32_t i = 0; i < count && code == BULLA_OK; i++) {
        uint64_t start = records->starts[first + i];
        uint32_t length = (uint32_t)(records->starts[first + i + 1] - start);
        code = bulla_sequence_open(batch->engine, 0, &pieces[i].sequence, error);
        pieces[i].ids = records->ids + start;
        pieces[i].count = length;
        pieces[i].logits_from = length - 1;
        pieces[i].logits = batch->logits + (uint64_t)i * batch->vocabulary;
    }
    if (code == BULLA_OK)
        code = bulla_engine_step(batch->engine, pieces, count, error);
    for (uint32_t i = 0; i < count; i++) {
        if (code == BULLA_OK && pieces[i].code != BULLA_OK)
            printf("range %llu %llu %u\n", (unsigned long long)(first + i), (unsigned long long)pieces[i].range_position,
                   pieces[i].range_operation);
        bulla_sequence_close(pieces[i].sequence);
    }
    return code;
}

static int run_all(const bulla_model *model, const struct records *records, bulla_error *error)
{
    struct batch batch = {.vocabulary = bulla_model_program(model)->vocabulary};
    bulla_engine_options options = {0};
    int code = bulla_engine_open(model, &options, &batch.engine, error);
    if (code == BULLA_OK && !(batch.logits = memory_alloc(BATCH_SEQUENCES, batch.vocabulary * sizeof(int32_t), error)))
        code = BULLA_E_MEMORY;
    for (uint64_t at = 0; at < records->count && code == BULLA_OK;) {
        uint32_t count = 0;
        while (at + count < records->count && count < BATCH_SEQUENCES &&
               records->starts[at + count + 1] - records->starts[at] <= BATCH_TOKENS)
            count++;
        code = count ? run_short(&batch, records, at, count, error) : run_long(&batch, records, at, error);
        at += count ? count : 1;
    }
    memory_free(batch.logits);
    bulla_engine_close(batch.engine);
    if (code == BULLA_OK)
        printf("done %llu %llu\n", (unsigned long long)records->count, (unsigned long long)records->total);
    return code;
}

/* --- headroom --- */

static double log2_ratio(double largest, double bound)
{
    return largest > 0 ? log2(largest / bound) : -99;
}

static double largest_vector(const struct import_value *value, uint64_t count)
{
    double largest = 0;
    for (uint64_t i = 0; i < count; i++)
        largest = fabs((double)value->vector[i]) > largest ? fabs((double)value->vector[i]) : largest;
    return largest;
}

static double largest_head_scale(const struct import_value *value, uint64_t count)
{
    double largest = 0;
    for (uint64_t i = 0; i < count; i++)
        largest = value->head_scale[i] > largest ? value->head_scale[i] : largest;
    return largest;
}

static double largest_square_sum(const struct import_value *value, uint64_t rows, uint32_t n)
{
    double largest = 0;
    for (uint64_t row = 0; row < rows; row++) {
        double sum = 0;
        for (uint32_t i = 0; i < n; i++)
            sum += (double)value->vector[row * n + i] * value->vector[row * n + i];
        largest = sum > largest ? sum : largest;
    }
    return largest;
}

static void print_headroom(uint32_t index, const bulla_operation *o, const struct import_step *step)
{
    const struct import_value *input = step->inputs[0], *result = step->output;
    const char *kind = bulla_operation_kind_name(o->kind);
    uint64_t rows = step->positions;
    double two31 = 2147483648.0;
    if (result->vector && o->kind != BULLA_EMBED)
        printf("%u %s result %.2f\n", index, kind, log2_ratio(largest_vector(result, rows * o->outputs), two31));
    if (o->kind == BULLA_LINEAR) {
        double s = 0;
        for (uint64_t i = 0; i < rows; i++)
            s = (double)input->scale[i] > s ? (double)input->scale[i] : s;
        printf("%u %s s %.2f\n", index, kind, log2_ratio(s, ldexp(1, 15 + o->k1)));
    } else if (o->kind == BULLA_NORM_QUANT)
        printf("%u %s ss %.2f\n", index, kind, log2_ratio(largest_square_sum(input, rows, o->n), ldexp(1, 62)));
    else if (o->kind == BULLA_NORM)
        printf("%u %s ss %.2f\n", index, kind,
               log2_ratio(largest_square_sum(input, rows * o->heads, o->head_size), ldexp(1, 62)));
    else if (o->kind == BULLA_HEAD_QUANT)
        printf("%u %s s %.2f\n", index, kind, log2_ratio(largest_head_scale(result, rows * o->heads), two31));
    else if (o->kind == BULLA_KEY_QUANT)
        printf("%u %s s %.2f\n", index, kind, log2_ratio(largest_head_scale(result, rows * o->heads) * 65536 / o->C, two31));
    else if (o->kind == BULLA_VALUE_QUANT)
        printf("%u %s k_v %.2f\n", index, kind, largest_head_scale(result, rows * o->heads) - 24);
    else if (o->kind == BULLA_GATE)
        printf("%u %s t %.2f\n", index, kind,
               log2_ratio(ldexp(largest_vector(input, rows * o->outputs), 16 - o->F_g), two31));
}

static int alloc_value(const bulla_operation *o, uint64_t positions, struct import_value *value, bulla_error *error)
{
    enum program_value type = program_kind(o->kind)->result;
    uint64_t elements = positions * o->outputs;
    if (type == VALUE_VECTOR)
        return (value->vector = memory_alloc(elements, sizeof(int32_t), error)) ? BULLA_OK : BULLA_E_MEMORY;
    value->bytes = memory_alloc(elements, 1, error);
    if (type == VALUE_QUANTISED)
        value->scale = memory_alloc(positions, sizeof(int64_t), error);
    else
        value->head_scale = memory_alloc(positions * o->heads, sizeof(int32_t), error);
    return value->bytes && (value->scale || value->head_scale) ? BULLA_OK : BULLA_E_MEMORY;
}

static void free_value(struct import_value *value)
{
    memory_free(value->vector);
    memory_free(value->bytes);
    memory_free(value->scale);
    memory_free(value->head_scale);
    memset(value, 0, sizeof *value);
}

static int headroom_operation(const bulla_program *program, const struct records *records, uint32_t index,
                              struct import_value *values, const struct import_executor *executor, bulla_error *error)
{
    const bulla_operation *o = &program->operations[index];
    const void *tables[PROGRAM_TABLES];
    struct import_step step = {.operation = o, .tables = tables, .output = &values[index], .ids = records->ids,
                               .positions = records->total, .sequence_starts = records->starts, .sequences = records->count};
    for (int i = 0; i < PROGRAM_TABLES; i++)
        tables[i] = program->data[i];
    for (int role = 0; role < BULLA_TENSOR_ROLES; role++)
        step.tensors[role] = o->tensors[role] < 0 ? NULL : program->data[o->tensors[role]];
    for (int i = 0; i < 3; i++)
        step.inputs[i] = o->inputs[i] < 0 ? NULL : &values[o->inputs[i]];
    int code = alloc_value(o, records->total, &values[index], error);
    if (code == BULLA_OK)
        code = executor->run(executor->context, &step, error);
    if (code == BULLA_OK)
        print_headroom(index, o, &step);
    return code;
}

static int headroom_all(const bulla_model *model, const struct records *records, bulla_error *error)
{
    const bulla_program *program = bulla_model_program(model);
    struct import_executor executor;
    int code = cpu_import_executor_open(0, NULL, &executor, error);
    if (code != BULLA_OK)
        return code;
    uint32_t count = program->operation_count;
    struct import_value *values = memory_alloc(count, sizeof *values, error);
    uint32_t *last_use = memory_alloc(count, sizeof *last_use, error);
    if (!values || !last_use)
        code = BULLA_E_MEMORY;
    for (uint32_t i = 0; i < count && code == BULLA_OK; i++)
        for (int j = 0; j < 3; j++)
            if (program->operations[i].inputs[j] >= 0)
                last_use[program->operations[i].inputs[j]] = i;
    for (uint32_t i = 0; i < count && code == BULLA_OK; i++) {
        if (program->operations[i].outputs >= program->vocabulary)
            break; /* the logits: too large at all positions */
        code = headroom_operation(program, records, i, values, &executor, error);
        for (int j = 0; j < 3 && code == BULLA_OK; j++) {
            int32_t input = program->operations[i].inputs[j];
            if (input >= 0 && last_use[input] == i)
                free_value(&values[input]);
        }
    }
    for (uint32_t i = 0; values && i < count; i++)
        free_value(&values[i]);
    memory_free(values);
    memory_free(last_use);
    cpu_import_executor_close(&executor);
    return code;
}

int main(int argc, char **argv)
{
    if (argc != 3 || (strcmp(argv[2], "run") != 0 && strcmp(argv[2], "headroom") != 0)) {
        fprintf(stderr, "usage: tool_range FILE run | headroom\n");
        return 2;
    }
    bulla_model *model = NULL;
    bulla_error error = {0};
    struct records records = {0};
    int code = bulla_model_open(argv[1], 0, &model, &error);
    if (code == BULLA_OK)
        code = read_records(&records, model, &error);
    if (code == BULLA_OK)
        code = strcmp(argv[2], "run") == 0 ? run_all(model, &records, &error) : headroom_all(model, &records, &error);
    if (code != BULLA_OK)
        fprintf(stderr, "tool_range: %s\n", error.text);
    memory_free(records.ids);
    memory_free(records.starts);
    bulla_model_close(model);
    return code == BULLA_OK ? 0 : 1;
}
