/* Renders chat templates for tests/python/test_chat_template.py. Reads cases from
 * standard input, each: the lengths of template and variables and a Unix time
 * on a line, then the bytes of both. Writes for each a line "CODE LENGTH", then
 * the text, or the error's sentence. */
#include <stdio.h>
#include <stdlib.h>

#include "bulla/chat_template.h"
#include "bulla/tokenizer.h"

static char *read_bytes(size_t length)
{
    char *bytes = malloc(length ? length : 1);
    if (!bytes || fread(bytes, 1, length, stdin) != length) {
        free(bytes);
        return NULL;
    }
    return bytes;
}

static void write_answer(const char *code, const char *text, size_t length)
{
    printf("%s %zu\n", code, length);
    fwrite(text, 1, length, stdout);
    fflush(stdout);
}

static size_t length_of(const char *text)
{
    size_t length = 0;
    while (text[length])
        length++;
    return length;
}

static void render_case(const char *source, size_t source_length, const char *variables, size_t variables_length,
                        long long now)
{
    bulla_chat_template *chat_template;
    bulla_error error = {0};
    char *text = NULL;
    size_t length;
    int code = bulla_chat_template_compile(source, source_length, &chat_template, &error);
    if (code != BULLA_OK) {
        char name[40];
        snprintf(name, sizeof name, "compile-%s", bulla_code_name(code));
        write_answer(name, error.text, length_of(error.text));
        return;
    }
    code = bulla_chat_template_render(chat_template, variables, variables_length, now, &text, &length, &error);
    if (code == BULLA_OK)
        write_answer("ok", text, length);
    else
        write_answer(bulla_code_name(code), error.text, length_of(error.text));
    bulla_text_free(text);
    bulla_chat_template_free(chat_template);
}

int main(void)
{
    size_t source_length, variables_length;
    long long now;
    while (scanf("%zu %zu %lld", &source_length, &variables_length, &now) == 3 && getchar() == '\n') {
        char *source = read_bytes(source_length), *variables = read_bytes(variables_length);
        if (source && variables)
            render_case(source, source_length, variables, variables_length, now);
        free(source);
        free(variables);
    }
    return 0;
}
