/* A GGUF file of any bytes: opened, every setting of a few names asked for in
 * every way, the first and last row of every tensor read. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "model/source_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ask(const struct source *source, const char *key)
{
    int64_t integer;
    double real;
    int boolean;
    const char *text;
    size_t length;
    uint64_t count = 0;
    source_get_integer(source, key, -100, 100, &integer, NULL);
    source_get_real(source, key, &real, NULL);
    source_get_bool(source, key, &boolean, NULL);
    source_get_text(source, key, &text, &length, NULL);
    source_get_array(source, key, &count, NULL);
    for (uint64_t i = 0; i <= count && i < 1000; i++) {
        source_get_array_integer(source, key, i, &integer, NULL);
        source_get_array_real(source, key, i, &real, NULL);
        if (source_get_array_text(source, key, i, &text, &length, NULL) == 1 && text[length] != 0)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const keys[] = {"general.architecture", "general.alignment", "tokens", "scores", "a", "b", ""};
    bulla_error error = {0};
    struct source *source;
    if (source_open_bytes(SOURCE_GGUF, data, size, NULL, 0, &source, &error) != BULLA_OK) {
        if (source || error.code == BULLA_OK || error.code == BULLA_E_INTERNAL)
            abort();
        return 0;
    }
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        ask(source, keys[i]);
    for (size_t i = 0; i < source_tensor_count(source); i++) {
        const struct source_tensor *tensor = source_tensor_at(source, i);
        float *values = malloc(tensor->columns * sizeof *values);
        if (!values || source_tensor_find(source, tensor->name) != tensor ||
            source_tensor_read(source, tensor, 0, 1, values, &error) != BULLA_OK ||
            source_tensor_read(source, tensor, tensor->rows - 1, 1, values, &error) != BULLA_OK)
            abort();
        free(values);
    }
    source_close(source);
    return 0;
}
