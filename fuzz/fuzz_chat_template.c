/* A chat template and, after a NUL, its variables: compiled and rendered. Whatever
 * they are, the answer is a text in UTF-8 or an error with a sentence. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "bulla/chat_template.h"
#include "bulla/tokenizer.h"
#include "model/chat_template_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Fewer steps and less memory than in earnest, so that many inputs are tried. */
enum { MOST_STEPS = 200 * 1000, MOST_MEMORY = 32 << 20 };

static void check(int code, const bulla_error *error)
{
    if (code != error->code || (code != BULLA_OK && error->text[0] == 0) || code == BULLA_E_INTERNAL)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char some_variables[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi \\u00e9\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
        "\"arguments\":{\"a\":1}}}]},{\"role\":\"assistant\",\"content\":null}],\"add_generation_prompt\":true,"
        "\"tools\":[{\"type\":\"function\"}],\"x\":5,\"s\":\"a,b\",\"d\":{\"b\":1,\"a\":[1.5,true]},\"n\":null}";
    const uint8_t *end = memchr(data, 0, size);
    size_t source_length = end ? (size_t)(end - data) : size;
    const char *variables = end ? (const char *)end + 1 : some_variables;
    size_t variables_length = end ? size - source_length - 1 : sizeof some_variables - 1;
    bulla_chat_template *chat_template;
    bulla_error error = {0};
    char *text;
    size_t length;
    int code = bulla_chat_template_compile((const char *)data, source_length, &chat_template, &error);
    check(code, &error);
    if (code != BULLA_OK)
        return 0;
    code = template_render(chat_template, variables, variables_length, 1753874645, MOST_STEPS, MOST_MEMORY, &text,
                           &length, &error);
    check(code, &error);
    if (code == BULLA_OK && (utf8_check(text, length) != length || text[length] != 0))
        abort();
    bulla_text_free(text);
    bulla_chat_template_free(chat_template);
    return 0;
}
