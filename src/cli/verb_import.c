/* `bulla import`: a published model into a model file. */
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/buffer.h"
#include "base/file.h"
#include "base/memory.h"
#include "cli/importing.h"
#include "cli/output.h"
#include "cli/verb.h"

enum { TEMPLATE_LIMIT = 1 << 20 };

struct import_choice {
    const char *output, *chat_template;
    int fast;
    uint64_t context, threads;
};

static const struct option_spec options[] = {
    {"output", 'o', OPTION_TEXT, offsetof(struct import_choice, output), "FILE",
     "where the model file goes; it appears there only when it is whole", 0, 0},
    {"fast", 0, OPTION_FLAG, offsetof(struct import_choice, fast), NULL,
     "round weights to the nearest integer, without passing each error on to later columns: seconds instead of a "
     "minute, a less faithful model",
     0, 0},
    {"context", 'c', OPTION_INTEGER, offsetof(struct import_choice, context), "N",
     "positions that the program is made for; default 0: the model's own", 0, UINT32_MAX},
    {"template", 0, OPTION_TEXT, offsetof(struct import_choice, chat_template), "FILE",
     "a chat template (Jinja) instead of the model's own", 0, 0},
    {"threads", 0, OPTION_INTEGER, offsetof(struct import_choice, threads), "N",
     "threads that compute; default 0: one a core. The result does not depend on it", 0, 256},
};

static void print_result(const char *path, const uint8_t root[32], double seconds)
{
    char text[2 * 32 + 1], size[OUTPUT_NUMBER];
    struct stat status;
    hex_encode(root, 32, text);
    printf("model root  %s\n", text);
    if (stat(path, &status) == 0)
        printf("file        %s, %s\n", path, output_bytes((uint64_t)status.st_size, size));
    printf("time        %.1f s\n", seconds);
}

static int run(const struct verb *verb, int argc, char **argv, bulla_error *error)
{
    struct import_choice chosen = {0};
    int others;
    int code = verb_parse(verb, argc, argv, &chosen, &others, error);
    if (code != BULLA_OK)
        return code;
    if (!chosen.output)
        return bulla_fail(error, BULLA_E_USAGE, "where should the model file go? -o FILE says it");
    struct import_options wanted = {.fast = chosen.fast, .context = chosen.context,
                                    .threads = (unsigned)chosen.threads};
    uint8_t *template_text = NULL, root[32];
    double seconds;
    if (chosen.chat_template)
        code = file_read(chosen.chat_template, TEMPLATE_LIMIT, &template_text, &wanted.chat_template_length, error);
    wanted.chat_template = (const char *)template_text;
    if (code == BULLA_OK)
        code = importing_run(argv[0], chosen.output, &wanted, root, &seconds, error);
    memory_free(template_text);
    if (code == BULLA_OK)
        print_result(chosen.output, root, seconds);
    return code;
}

const struct verb verb_import = {
    .name = "import",
    .summary = "make a model file from a GGUF file or safetensors folder",
    .arguments = "SOURCE -o FILE",
    .details = "SOURCE is a GGUF file, a .safetensors file, or a folder with safetensors and config.json. The same\n"
               "source with the same options gives the same bytes on every machine. docs/models.md says which\n"
               "families of models are supported.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .minimum_arguments = 1,
    .maximum_arguments = 1,
    .run = run,
};
