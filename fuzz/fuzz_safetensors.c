/* A byte n, then 4 n bytes of config.json, then a .safetensors file: opened, some
 * settings asked for, the first and last row of every tensor read. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "model/source_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_tensor(const struct source *source, const struct source_tensor *tensor)
{
    bulla_error error = {0};
    if (source_tensor_find(source, tensor->name) != tensor)
        abort();
    if (tensor->rows == 0 || tensor->columns == 0)
        return;
    float *values = malloc(tensor->columns * sizeof *values);
    if (!values)
        abort();
    int first = source_tensor_read(source, tensor, 0, 1, values, &error);
    int last = source_tensor_read(source, tensor, tensor->rows - 1, 1, values, &error);
    if (first != last || (first != BULLA_OK && first != BULLA_E_UNSUPPORTED))
        abort();
    free(values);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const keys[] = {"a", "a.b", "quantization_config.bits", "quantization_config", ""};
    bulla_error error = {0};
    struct source *source;
    if (size < 1 || size - 1 < 4 * (size_t)data[0])
        return 0;
    size_t config = 4 * (size_t)data[0];
    if (source_open_bytes(SOURCE_SAFETENSORS, data + 1 + config, size - 1 - config, config ? data + 1 : NULL, config,
                          &source, &error) != BULLA_OK) {
        if (source || error.code == BULLA_OK || error.code == BULLA_E_INTERNAL)
            abort();
        return 0;
    }
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        int64_t integer;
        const char *text;
        size_t length;
        source_get_integer(source, keys[i], -100, 100, &integer, NULL);
        source_get_array_integer(source, keys[i], 0, &integer, NULL);
        source_get_text(source, keys[i], &text, &length, NULL);
    }
    for (size_t i = 0; i < source_tensor_count(source); i++)
        read_tensor(source, source_tensor_at(source, i));
    source_close(source);
    return 0;
}
