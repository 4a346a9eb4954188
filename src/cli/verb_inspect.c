/* `bulla inspect`: what is in a model file. */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/json.h"
#include "bulla/model.h"
#include "cli/model_cache.h"
#include "cli/output.h"
#include "cli/verb.h"

struct inspect_options {
    int program;
    const char *tensor;
};

static const struct option_spec options[] = {
    {"program", 0, OPTION_FLAG, offsetof(struct inspect_options, program), NULL,
     "print the program as JSON: its operations with their constants, and its tensors (docs/program.md)", 0, 0},
    {"tensor", 0, OPTION_TEXT, offsetof(struct inspect_options, tensor), "NAME",
     "write the raw bytes of this tensor, row after row, little-endian; of several, one after another, for "
     "names with commas between them",
     0, 0},
};

#define FACT "%-15s "

static void print_hex(const char *name, const uint8_t bytes[32])
{
    char text[65];
    hex_encode(bytes, 32, text);
    printf(FACT "%s\n", name, text);
}

/* The description's own facts, which import wrote for people: nested names joined by '.'. */
static void print_description(const struct json *value, const char *name)
{
    if (json_is(value, JSON_OBJECT)) {
        for (size_t i = 0; i < value->length; i++) {
            char nested[200];
            snprintf(nested, sizeof nested, "%s%s%s", name, name[0] ? "." : "", value->keys[i]);
            print_description(value->items[i], nested);
        }
        return;
    }
    if (json_is(value, JSON_NULL) || (json_is(value, JSON_ARRAY) && value->length == 0))
        return;
    struct buffer text = {0};
    if (json_is(value, JSON_STRING))
        buffer_append(&text, value->text, value->length);
    else
        json_write_canonical(&text, value);
    printf(FACT, name);
    if (text.error.code == BULLA_OK)
        output_text(stdout, (const char *)text.data, text.length);
    putchar('\n');
    buffer_free(&text);
}

static void print_weights(const bulla_program *program)
{
    uint64_t integers[BULLA_U64 + 1] = {0}, bytes = 0;
    char number[OUTPUT_NUMBER];
    for (uint32_t i = 0; i < program->tensor_count; i++) {
        const bulla_tensor *tensor = &program->tensors[i];
        integers[tensor->dtype] += (uint64_t)tensor->rows * tensor->columns;
        bytes += tensor->bytes;
    }
    printf(FACT "%u, %s\n", "tensors", program->tensor_count, output_bytes(bytes, number));
    for (int dtype = BULLA_I8; dtype <= BULLA_U64; dtype++)
        if (integers[dtype])
            printf(FACT "%s of %s\n", "", output_number(integers[dtype], number), bulla_dtype_name(dtype));
}

static void print_operations(const bulla_program *program)
{
    uint32_t count[BULLA_OPERATION_KINDS] = {0};
    for (uint32_t i = 0; i < program->operation_count; i++)
        count[program->operations[i].kind]++;
    printf(FACT "%u:", "operations", program->operation_count);
    for (int kind = 1; kind < BULLA_OPERATION_KINDS; kind++)
        if (count[kind])
            printf(" %u %s", count[kind], bulla_operation_kind_name(kind));
    putchar('\n');
}

static void print_tokenizer(const bulla_model *model)
{
    const bulla_tokenizer *tokenizer = bulla_model_tokenizer(model);
    char number[OUTPUT_NUMBER];
    size_t length;
    printf(FACT "%s tokens", "tokenizer", output_number(bulla_tokenizer_vocabulary(tokenizer), number));
    if (bulla_tokenizer_start_token(tokenizer) >= 0)
        printf(", start %" PRId64 "%s", bulla_tokenizer_start_token(tokenizer),
               bulla_tokenizer_adds_start(tokenizer) ? " (added)" : "");
    if (bulla_tokenizer_end_token(tokenizer) >= 0)
        printf(", end %" PRId64, bulla_tokenizer_end_token(tokenizer));
    bulla_model_chat_template(model, &length);
    if (length)
        printf("\n" FACT "%zu bytes\n", "chat template", length);
    else
        printf("\n" FACT "none\n", "chat template");
}

static int print_summary(const char *path, const bulla_model *model, bulla_error *error)
{
    const bulla_program *program = bulla_model_program(model);
    char number[OUTPUT_NUMBER];
    struct arena arena = {0};
    size_t length;
    const char *description = bulla_model_description(model, &length);
    const struct json *facts = json_parse(description, length, "description", &arena, error);
    if (!facts) {
        arena_free(&arena);
        return bulla_fail_prefix(error, "%s", path);
    }
    struct stat status;
    printf(FACT "%s\n", "file", path);
    if (stat(path, &status) == 0 && S_ISREG(status.st_mode))
        printf(FACT "%s\n", "size", output_bytes((uint64_t)status.st_size, number));
    print_hex("model root", bulla_model_root(model));
    print_hex("source digest", bulla_model_source_digest(model));
    printf(FACT "%d\n", "program version", BULLA_PROGRAM_VERSION);
    printf(FACT "%u\n", "layers", program->layers);
    printf(FACT "%s positions\n", "context", output_number(program->context, number));
    printf(FACT "%s\n", "vocabulary", output_number(program->vocabulary, number));
    print_operations(program);
    print_weights(program);
    print_tokenizer(model);
    print_description(facts, "");
    arena_free(&arena);
    return BULLA_OK;
}

static int print_program(const bulla_model *model, bulla_error *error)
{
    char *text;
    size_t length;
    int code = bulla_model_program_json(model, &text, &length, error);
    if (code != BULLA_OK)
        return code;
    fwrite(text, 1, length, stdout);
    putchar('\n');
    bulla_text_free(text);
    return BULLA_OK;
}

/* The tensor of this name (of `length` bytes), or -1. */
static int64_t find_tensor(const bulla_program *program, const char *name, size_t length)
{
    for (uint32_t i = 0; i < program->tensor_count; i++)
        if (strlen(program->tensors[i].name) == length && memcmp(program->tensors[i].name, name, length) == 0)
            return i;
    return -1;
}

/* Goes through a list of names: looks whether each is there, or writes each. */
static int each_tensor(const char *path, const bulla_program *program, const char *names, int writes,
                       bulla_error *error)
{
    for (const char *name = names;; name += strcspn(name, ",") + 1) {
        size_t length = strcspn(name, ",");
        int64_t tensor = find_tensor(program, name, length);
        if (tensor < 0)
            return bulla_fail(error, BULLA_E_USAGE,
                              "%s: no tensor is named \"%.*s\"; `bulla inspect --program` lists all %u", path,
                              (int)(length > 100 ? 100 : length), name, program->tensor_count);
        if (writes)
            fwrite(program->data[tensor], 1, program->tensors[tensor].bytes, stdout);
        if (name[length] == 0)
            return BULLA_OK;
    }
}

static int write_tensors(const char *path, const bulla_model *model, const char *names, bulla_error *error)
{
    const bulla_program *program = bulla_model_program(model);
    if (output_is_terminal(stdout))
        return bulla_fail(error, BULLA_E_USAGE, "a tensor's bytes are not for a terminal: redirect them to a file");
    int code = each_tensor(path, program, names, 0, error);
    return code == BULLA_OK ? each_tensor(path, program, names, 1, error) : code;
}

static int run(const struct verb *verb, int argc, char **argv, bulla_error *error)
{
    struct inspect_options chosen = {0};
    int others;
    bulla_model *model;
    int code = verb_parse(verb, argc, argv, &chosen, &others, error);
    if (code == BULLA_OK && chosen.program && chosen.tensor)
        code = bulla_fail(error, BULLA_E_USAGE, "--program and --tensor exclude each other");
    if (code == BULLA_OK)
        code = model_cache_open(argv[0], &(struct model_opening){.always_rooted = 1}, &model, error);
    if (code != BULLA_OK)
        return code;
    if (chosen.program)
        code = print_program(model, error);
    else if (chosen.tensor)
        code = write_tensors(argv[0], model, chosen.tensor, error);
    else
        code = print_summary(argv[0], model, error);
    bulla_model_close(model);
    return code;
}

const struct verb verb_inspect = {
    .name = "inspect",
    .summary = "say what a model file holds",
    .arguments = "FILE",
    .details = "Checks the whole file first: its model root is recomputed. A GGUF file or safetensors folder is\n"
               "imported and kept as `bulla run` does.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .minimum_arguments = 1,
    .maximum_arguments = 1,
    .run = run,
};
