#include "model/import.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/json.h"
#include "base/memory.h"
#include "bulla/chat_template.h"
#include "bulla/tokenizer.h"
#include "model/import_state.h"
#include "model/program_names.h"
#include "model/tokenizer_build.h"

enum {
    MEASURE_POSITIONS = 1024,    /* of the pass that finds the residual stream's range; at most half of all */
    RESIDUAL_MOST_F = 60,        /* a program's F has 64 at most */
};

int import_tick(void *context, uint64_t weights)
{
    struct importing *im = context;
    im->weights_done += weights;
    if (!im->options->progress)
        return 0;
    double share = im->weights_total ? (double)im->weights_done / (double)im->weights_total : 0;
    double fraction = im->stage_from + (im->stage_to - im->stage_from) * (share > 1 ? 1 : share);
    return im->options->progress(im->options->progress_context, im->stage, fraction);
}

/* --- passes --- */

static void find_last_uses(struct importing *im)
{
    for (uint32_t i = 0; i < im->list.count; i++) {
        im->last_use[i] = i;
        for (int j = 0; j < 3; j++)
            if (im->list.drafts[i].operation.inputs[j] >= 0)
                im->last_use[im->list.drafts[i].operation.inputs[j]] = i;
    }
}

static void clear_values(struct importing *im)
{
    for (uint32_t i = 0; im->values && i < im->list.count; i++) {
        memory_free(im->values[i].vector);
        memory_free(im->values[i].bytes);
        memory_free(im->values[i].scale);
        memory_free(im->values[i].head_scale);
        memset(&im->values[i], 0, sizeof im->values[i]);
    }
}

static int run_pass(struct importing *im, const char *stage, double from, double to, bulla_error *error)
{
    im->stage = stage;
    im->stage_from = from;
    im->stage_to = to;
    im->weights_done = 0;
    im->residual_max = 0;
    im->factor_input = -1;
    int code = BULLA_OK;
    for (uint32_t i = 0; i < im->list.count && code == BULLA_OK; i++)
        code = import_draft(im, i, error);
    clear_values(im);
    return code;
}

/* A bound that no format keeps, as a sentence about the model. */
static int fail_range(const struct importing *im, bulla_error *error)
{
    char reason[400];
    snprintf(reason, sizeof reason, "%s", error->code ? error->text : "the residual stream grows without end");
    bulla_error_clear(error);
    return bulla_fail(error, BULLA_E_UNSUPPORTED, "%s: its values fit no integer format: %s", source_path(im->source), reason);
}

/* Whether every n * eps * 2^(2F) of the norms over the residual stream leaves ss its room. */
static int epsilons_fit(const struct importing *im, int F)
{
    for (uint32_t i = 0; i < im->list.count; i++) {
        const struct draft *draft = &im->list.drafts[i];
        if (draft->operation.kind == BULLA_NORM_QUANT && ldexp(draft->operation.n * draft->eps, 2 * F) >= 1e18)
            return 0;
    }
    return 1;
}

/* The residual stream's range, from a pass over part of the text with rows
 * rounded to nearest and a format that leaves much room. */
static int measure_residual(struct importing *im, bulla_error *error)
{
    uint64_t positions = im->positions, sequences = im->sequences;
    int feedback = im->feedback, code = BULLA_E_RANGE;
    uint64_t most = positions / 2 < MEASURE_POSITIONS ? positions / 2 : MEASURE_POSITIONS;
    while (im->sequences > 2 && im->sequence_starts[im->sequences - 1] >= most)
        im->sequences--;
    im->positions = im->sequence_starts[im->sequences];
    uint64_t text = im->text_positions;
    im->text_positions = text < im->positions ? text : im->positions;
    im->feedback = 0;
    for (int F = 14; code == BULLA_E_RANGE && F >= -20; F -= 5) {
        bulla_error_clear(error);
        im->residual_F = F;
        code = run_pass(im, "measuring", 0, 0.15, error);
    }
    im->positions = positions;
    im->sequences = sequences;
    im->text_positions = text;
    im->feedback = feedback;
    if (code == BULLA_E_RANGE)
        return fail_range(im, error);
    for (uint32_t i = 0; i < im->list.count; i++) {
        im->list.drafts[i].row_scale = im->list.drafts[i].next_row_scale;
        im->list.drafts[i].column_scale = im->list.drafts[i].next_column_scale;
    }
    if (code == BULLA_OK) {
        int exponent = 0;
        frexp(im->residual_max > 0 ? im->residual_max : 1, &exponent);
        im->residual_F = 26 - exponent; /* the largest in [2^25, 2^26) */
        while (im->residual_F > RESIDUAL_MOST_F || !epsilons_fit(im, im->residual_F) ||
               !import_embed_fits(im, im->residual_F)) /* an embedding's element has 7 + 16 bits */
            im->residual_F--;
    }
    return code;
}

static int write_shared(struct importing *im, bulla_error *error)
{
    int code = BULLA_OK;
    int32_t index;
    for (int i = 0; i < PROGRAM_TABLES && code == BULLA_OK; i++) {
        const struct program_table *table = &program_tables[i];
        code = model_writer_begin_tensor(im->writer, table->name, table->dtype, 1, table->elements, &index, error);
        if (code == BULLA_OK)
            code = model_writer_append(im->writer, im->tables[i], table->elements * bulla_dtype_size(table->dtype), error);
    }
    for (int i = 0; i < 2 && code == BULLA_OK; i++)
        if (im->activation_used[i]) {
            code = model_writer_begin_tensor(im->writer, i == TABLES_SILU ? "table.silu" : "table.gelu_tanh", BULLA_I32, 1, 1025,
                                             &im->activation_tensor[i], error);
            if (code == BULLA_OK)
                code = model_writer_append(im->writer, im->activation[i], 1025 * sizeof(int32_t), error);
        }
    return code;
}

static uint32_t count_tensors(struct importing *im)
{
    const uint64_t *turns[8] = {0};
    uint32_t count = PROGRAM_TABLES, distinct = 0, capped = 0;
    for (uint32_t i = 0; i < im->list.count; i++) {
        const struct draft *draft = &im->list.drafts[i];
        int kind = draft->operation.kind;
        count += (kind == BULLA_EMBED || kind == BULLA_LINEAR) * 2 + (draft->bias.tensor != NULL);
        count += kind == BULLA_NORM_QUANT || kind == BULLA_NORM || kind == BULLA_SOFTCAP;
        capped |= kind == BULLA_ATTEND && draft->softcap > 0;
        if (kind == BULLA_GATE)
            im->activation_used[draft->activation] = 1;
        uint32_t slot = 0;
        while (kind == BULLA_ROPE && slot < distinct && turns[slot] != draft->turn)
            slot++;
        if (kind == BULLA_ROPE && slot == distinct && distinct < 8)
            turns[distinct++] = draft->turn;
    }
    return count + distinct + capped + (uint32_t)(im->activation_used[0] + im->activation_used[1]);
}

static int describe(const struct importing *im, struct buffer *out, bulla_error *error)
{
    buffer_append_format(out, "{\"architecture\":\"%s\",\"source\":{\"kind\":\"%s\"},\"import\":{\"error_feedback\":%s,"
                         "\"calibration_positions\":%llu,\"residual_F\":%d},\"commitments\":[]}", im->list.family,
                         source_kind(im->source) == SOURCE_GGUF ? "gguf" : "safetensors", im->feedback ? "true" : "false",
                         (unsigned long long)im->positions, im->residual_F);
    return out->error.code ? bulla_fail(error, out->error.code, "%s", out->error.text) : BULLA_OK;
}

static int commit(struct importing *im, uint8_t root[32], bulla_error *error)
{
    bulla_operation *operations = memory_alloc(im->list.count, sizeof *operations, error);
    struct buffer description = {0};
    uint8_t digest[32];
    int code = operations ? describe(im, &description, error) : BULLA_E_MEMORY;
    if (code == BULLA_OK)
        code = source_digest(im->source, digest, error);
    if (code == BULLA_OK) {
        for (uint32_t i = 0; i < im->list.count; i++)
            operations[i] = im->list.drafts[i].operation;
        bulla_program program = {.operations = operations, .operation_count = im->list.count,
                                 .vocabulary = im->list.vocabulary, .context = im->list.context,
                                 .layers = im->list.layers, .logits_F = operations[im->list.count - 1].F};
        struct model_writer *writer = im->writer;
        im->writer = NULL; /* freed by the commit in every case */
        code = model_writer_commit(writer, &program, digest, (const char *)description.data, description.length, root, error);
    }
    buffer_free(&description);
    memory_free(operations);
    return code;
}

/* The final pass; once more with less fraction where the whole text shows more
 * than 2^28. */
static int write_model(struct importing *im, const char *path, const struct buffer *tokenizer, const char *chat_template,
                       size_t template_length, uint8_t root[32], bulla_error *error)
{
    uint32_t tensors = count_tensors(im);
    for (int attempt = 0; attempt < 4; attempt++, im->residual_F -= 2) {
        im->shared_softcap = -1;
        memset(im->turns, 0, sizeof im->turns);
        int code = model_writer_open(path, im->list.count, tensors, tokenizer, chat_template, template_length, &im->writer, error);
        if (code == BULLA_OK)
            code = write_shared(im, error);
        if (code == BULLA_OK)
            code = run_pass(im, "rounding", 0.15, 1, error);
        int again = code == BULLA_E_RANGE || (code == BULLA_OK && ldexp(im->residual_max, im->residual_F) > 268435456.0);
        if (!again)
            return code ? code : commit(im, root, error);
        model_writer_abandon(im->writer);
        im->writer = NULL;
        if (attempt < 3)
            bulla_error_clear(error);
    }
    return fail_range(im, error);
}

/* --- tokenizer and template --- */

static int choose_template(const struct importing *im, const char **text, size_t *length, bulla_error *error)
{
    *text = im->options->chat_template;
    *length = im->options->chat_template_length;
    if (*text)
        return BULLA_OK;
    int gguf = source_kind(im->source) == SOURCE_GGUF;
    const uint8_t *file;
    int found = 0;
    if (gguf)
        found = source_get_text(im->source, "tokenizer.chat_template", text, length, error);
    else {
        int code = source_side_file(im->source, "chat_template.jinja", &file, length, error);
        if (code != BULLA_OK)
            return code;
        *text = (const char *)file;
        const struct json *entry = json_get(source_json(im->source, "tokenizer_config.json"), "chat_template");
        if (!file && json_is(entry, JSON_STRING)) {
            *text = entry->text;
            *length = entry->length;
        }
    }
    if (found < 0)
        return error->code;
    if (!*text && im->list.fallback_template) {
        *text = im->list.fallback_template;
        *length = strlen(*text);
    }
    if (!*text) {
        *text = "";
        *length = 0;
    }
    return BULLA_OK;
}

static int compile_template(const char *text, size_t length, bulla_chat_template **compiled, bulla_error *error)
{
    if (length == 0)
        return BULLA_OK;
    int code = bulla_chat_template_compile(text, length, compiled, error);
    return code ? bulla_fail_prefix(error, "the chat template") : BULLA_OK;
}

/* --- */

static int prepare(struct importing *im, bulla_error *error)
{
    static const int bits[3] = {15, 24, 31};
    for (int i = 0; i < 3; i++) {
        uint32_t *table = arena_alloc(&im->arena, 1024, sizeof *table, error);
        if (!table)
            return BULLA_E_MEMORY;
        tables_exp(bits[i], table);
        im->tables[i] = table;
    }
    int16_t *cosine = arena_alloc(&im->arena, 65536, sizeof *cosine, error);
    if (!cosine)
        return BULLA_E_MEMORY;
    tables_cosine(cosine);
    im->tables[3] = cosine;
    for (int i = 0; i < 2; i++) {
        int32_t *table = arena_alloc(&im->arena, 1025, sizeof *table, error);
        if (!table)
            return BULLA_E_MEMORY;
        tables_activation((enum tables_activation)i, table);
        im->activation[i] = table;
    }
    im->list.arena = &im->arena;
    int code = architecture_emit(im->source, im->options->context, &im->list, error);
    if (code != BULLA_OK)
        return code;
    im->values = memory_alloc(im->list.count, sizeof *im->values, error);
    im->last_use = memory_alloc(im->list.count, sizeof *im->last_use, error);
    if (!im->values || !im->last_use)
        return BULLA_E_MEMORY;
    find_last_uses(im);
    for (uint32_t i = 0; i < im->list.count; i++) {
        const bulla_operation *o = &im->list.drafts[i].operation;
        if (o->kind == BULLA_LINEAR || o->kind == BULLA_EMBED)
            im->weights_total += (uint64_t)o->outputs * (o->n ? o->n : im->list.vocabulary);
    }
    return BULLA_OK;
}

static int import_source(struct importing *im, const char *path, uint8_t root[32], bulla_error *error)
{
    struct buffer block = {0};
    bulla_tokenizer *tokenizer = NULL;
    bulla_chat_template *compiled = NULL;
    const char *chat_template;
    size_t template_length;
    int code = prepare(im, error);
    if (code == BULLA_OK)
        code = tokenizer_build(im->source, im->list.vocabulary, &block, error);
    if (code == BULLA_OK)
        code = choose_template(im, &chat_template, &template_length, error);
    if (code == BULLA_OK)
        code = compile_template(chat_template, template_length, &compiled, error);
    if (code == BULLA_OK)
        code = bulla_tokenizer_open(block.data, block.length, &tokenizer, error);
    if (code == BULLA_OK)
        code = import_make_sequences(im, tokenizer, compiled, error);
    if (code == BULLA_OK)
        code = measure_residual(im, error);
    if (code == BULLA_OK)
        code = write_model(im, path, &block, chat_template, template_length, root, error);
    bulla_chat_template_free(compiled);
    bulla_tokenizer_close(tokenizer);
    buffer_free(&block);
    return code;
}

/* Whether two paths name one file. */
static int same_file(const char *one, const char *other)
{
    struct stat a, b;
    return stat(one, &a) == 0 && stat(other, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

int import_model(const char *source, const char *path, const struct import_options *options,
                 const struct import_executor *executor, uint8_t model_root[32], bulla_error *error)
{
    struct importing im = {.options = options, .executor = executor, .feedback = !options->fast, .factor_input = -1};
    struct source *opened = NULL;
    int code = same_file(source, path) ? bulla_fail(error, BULLA_E_USAGE, "%s: is the source itself; the model file needs another "
                                                    "place", path)
                                       : source_open(source, &opened, error);
    im.source = opened;
    struct thread_team *own = NULL;
    if (code == BULLA_OK && !executor->team)
        code = thread_team_start(options->threads ? options->threads : thread_cores(), &own, error);
    im.team = own ? own : executor->team;
    if (code == BULLA_OK)
        code = import_source(&im, path, model_root, error);
    if ((code == BULLA_E_INPUT || code == BULLA_E_UNSUPPORTED) && opened && error && !strstr(error->text, source_path(opened)))
        bulla_fail_prefix(error, "%s", source_path(opened));
    model_writer_abandon(im.writer);
    clear_values(&im);
    memory_free(im.values);
    memory_free(im.last_use);
    memory_free(im.ids);
    memory_free(im.sequence_starts);
    memory_free(im.factor);
    memory_free(im.rest);
    memory_free(im.gain);
    thread_team_stop(own);
    arena_free(&im.arena);
    source_close(opened);
    return code;
}
