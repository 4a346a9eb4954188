/* `bulla tokenize`: text into token ids. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "bulla/model.h"
#include "cli/input.h"
#include "cli/model_cache.h"
#include "cli/verb.h"

struct tokenize_options {
    int special, start, json;
};

static const struct option_spec options[] = {
    {"special", 0, OPTION_FLAG, offsetof(struct tokenize_options, special), NULL,
     "text that spells a control token becomes that token", 0, 0},
    {"start", 0, OPTION_FLAG, offsetof(struct tokenize_options, start), NULL,
     "add the start token (and the end one) where the model wants them", 0, 0},
    {"json", 0, OPTION_FLAG, offsetof(struct tokenize_options, json), NULL,
     "print one JSON array instead of one id a line", 0, 0},
};

static int tokenize(const bulla_model *model, const struct tokenize_options *chosen, const struct buffer *text,
                    bulla_error *error)
{
    unsigned flags = (chosen->special ? BULLA_ENCODE_SPECIAL : 0) | (chosen->start ? BULLA_ENCODE_START : 0);
    uint32_t *ids;
    size_t count;
    int code = bulla_tokenizer_encode(bulla_model_tokenizer(model), text->length ? (const char *)text->data : "",
                                      text->length, flags, SIZE_MAX, &ids, &count, error);
    if (code != BULLA_OK)
        return code;
    if (chosen->json)
        putchar('[');
    for (size_t i = 0; i < count; i++)
        printf(chosen->json ? "%s%u" : "%s%u\n", chosen->json && i ? "," : "", ids[i]);
    if (chosen->json)
        printf("]\n");
    bulla_tokens_free(ids);
    return BULLA_OK;
}

static int run(const struct verb *verb, int argc, char **argv, bulla_error *error)
{
    struct tokenize_options chosen = {0};
    struct buffer text = {0};
    bulla_model *model = NULL;
    int others;
    int code = verb_parse(verb, argc, argv, &chosen, &others, error);
    if (code == BULLA_OK && others > 1)
        buffer_append_text(&text, argv[1]);
    else if (code == BULLA_OK)
        code = input_read_all(stdin, &text, error);
    if (code == BULLA_OK && text.error.code != BULLA_OK)
        code = bulla_fail(error, text.error.code, "%s", text.error.text);
    if (code == BULLA_OK)
        code = model_cache_open(argv[0], &(struct model_opening){0}, &model, error);
    if (code == BULLA_OK)
        code = tokenize(model, &chosen, &text, error);
    bulla_model_close(model);
    buffer_free(&text);
    return code;
}

const struct verb verb_tokenize = {
    .name = "tokenize",
    .summary = "turn text into a model's token ids",
    .arguments = "FILE [TEXT]",
    .details = "Without TEXT all of standard input is the text, whatever its bytes.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .minimum_arguments = 1,
    .maximum_arguments = 2,
    .run = run,
};
