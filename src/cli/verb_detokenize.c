/* `bulla detokenize`: token ids into text. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "bulla/model.h"
#include "cli/input.h"
#include "cli/model_cache.h"
#include "cli/output.h"
#include "cli/verb.h"

struct detokenize_options {
    int control;
};

static const struct option_spec options[] = {
    {"control", 0, OPTION_FLAG, offsetof(struct detokenize_options, control), NULL,
     "spell control tokens too; without it they are left out", 0, 0},
};

/* Ids below 2^32 separated by blanks or newlines, or as a JSON array; appended as u32. */
static int read_ids(const struct buffer *text, uint32_t vocabulary, struct buffer *ids, bulla_error *error)
{
    const uint8_t *bytes = text->data;
    for (size_t i = 0; i < text->length;) {
        if (strchr(" \t\r\n,[]", bytes[i]) && bytes[i]) {
            i++;
            continue;
        }
        uint64_t id = 0;
        size_t start = i;
        for (; i < text->length && bytes[i] >= '0' && bytes[i] <= '9' && id < vocabulary; i++)
            id = 10 * id + (bytes[i] - '0');
        if (i == start || id >= vocabulary)
            return bulla_fail(error, BULLA_E_INPUT,
                              "standard input, byte %zu: \"%.*s\" was found, a token id below %u was expected", start,
                              (int)(text->length - start < 20 ? text->length - start : 20), (const char *)bytes + start,
                              vocabulary);
        buffer_append_u32(ids, (uint32_t)id);
    }
    return ids->error.code == BULLA_OK ? BULLA_OK : bulla_fail(error, ids->error.code, "%s", ids->error.text);
}

static int detokenize(const bulla_model *model, int control, const struct buffer *text, bulla_error *error)
{
    const bulla_tokenizer *tokenizer = bulla_model_tokenizer(model);
    struct buffer ids = {0};
    char *decoded = NULL;
    size_t length;
    int code = read_ids(text, bulla_tokenizer_vocabulary(tokenizer), &ids, error);
    if (code == BULLA_OK)
        code = bulla_tokenizer_decode(tokenizer, (const uint32_t *)(const void *)ids.data, ids.length / 4, control,
                                      &decoded, &length, error);
    if (code == BULLA_OK)
        output_text(stdout, decoded, length);
    bulla_text_free(decoded);
    buffer_free(&ids);
    return code;
}

static int run(const struct verb *verb, int argc, char **argv, bulla_error *error)
{
    struct detokenize_options chosen = {0};
    struct buffer text = {0};
    bulla_model *model = NULL;
    int others;
    int code = verb_parse(verb, argc, argv, &chosen, &others, error);
    if (code == BULLA_OK)
        code = input_read_all(stdin, &text, error);
    if (code == BULLA_OK)
        code = model_cache_open(argv[0], &(struct model_opening){0}, &model, error);
    if (code == BULLA_OK)
        code = detokenize(model, chosen.control, &text, error);
    bulla_model_close(model);
    buffer_free(&text);
    return code;
}

const struct verb verb_detokenize = {
    .name = "detokenize",
    .summary = "turn a model's token ids into text",
    .arguments = "FILE",
    .details = "Reads ids from standard input, separated by blanks, newlines or commas; brackets are passed over,\n"
               "so that what `bulla tokenize --json` prints can be given back.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .minimum_arguments = 1,
    .maximum_arguments = 1,
    .run = run,
};
