/* Draws answers under grammars and asks whether texts are answers, with the vocabulary of grammar_samples.h.
 *
 * usage: tool_grammar ANSWERS
 *
 * Standard input: records, each a length as u32 little-endian and that many bytes. The first byte says what the rest
 * is: H, a text whose parts are likely in answers to come; S, a specification, which the records after it are about; T,
 * a text. For S, standard output has a line "enforced" and ANSWERS lines, each an answer in hex or "error: SENTENCE";
 * or the one line "refused CODE SENTENCE". For T it has "accepted" or "rejected". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "grammar_samples.h"

enum { MOST_TOKENS = 3000, MOST_RECORD = 1 << 24 };

static void print_answers(const struct grammar_sample *sample, const struct grammar *grammar, const char *hint,
                          size_t hint_length, int count)
{
    printf("enforced\n");
    for (int i = 0; i < count; i++) {
        bulla_error error = {.code = BULLA_E_LIMIT};
        struct buffer text = {0};
        /* Chance alone may not find what a pattern looks for. */
        for (uint64_t seed = (uint64_t)i; error.code == BULLA_E_LIMIT && seed < 20000; seed += 1000) {
            bulla_error_clear(&error);
            buffer_clear(&text);
            grammar_sample_answer(sample, grammar, seed, hint, hint_length, MOST_TOKENS, &text, &error);
        }
        if (error.code)
            printf("error: %s", error.text);
        for (size_t j = 0; j < text.length && !error.code; j++)
            printf("%02x", text.data[j]);
        printf("\n");
        buffer_free(&text);
    }
}

static void run_record(const struct grammar_sample *sample, struct grammar **grammar, struct buffer *hint,
                       const char *record, size_t length, int answers)
{
    bulla_error error = {0};
    if (record[0] == 'H') {
        buffer_clear(hint);
        buffer_append(hint, record + 1, length - 1);
        return;
    }
    if (record[0] == 'T') {
        int accepted = *grammar && grammar_sample_accepts(sample, *grammar, record + 1, length - 1, &error);
        printf("%s\n", error.code ? error.text : accepted ? "accepted" : "rejected");
        return;
    }
    grammar_free(*grammar);
    *grammar = NULL;
    if (grammar_compile(record + 1, length - 1, grammar, &error))
        printf("refused %s %s\n", bulla_code_name(error.code), error.text);
    else
        print_answers(sample, *grammar, (char *)hint->data, hint->length, answers);
}

int main(int count, char **arguments)
{
    struct grammar_sample sample;
    struct grammar *grammar = NULL;
    struct buffer hint = {0};
    bulla_error error = {0};
    uint8_t prefix[4];
    if (count != 2 || grammar_sample_open(&sample, 0, -1, &error)) {
        fprintf(stderr, "usage: tool_grammar ANSWERS %s\n", error.text);
        return 2;
    }
    while (fread(prefix, 1, sizeof prefix, stdin) == sizeof prefix) {
        size_t length = tokenizer_load(prefix);
        char *record = length > 0 && length < MOST_RECORD ? malloc(length) : NULL;
        if (!record || fread(record, 1, length, stdin) != length)
            return 2;
        run_record(&sample, &grammar, &hint, record, length, atoi(arguments[1]));
        free(record);
        fflush(stdout);
    }
    grammar_free(grammar);
    buffer_free(&hint);
    grammar_sample_close(&sample);
    return 0;
}
