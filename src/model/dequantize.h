/* The number formats of GGUF tensors, and how their blocks become floats.
 *
 * Sizes and numbers are those of the GGUF specification (ggml_type). Each
 * dequantiser does the same float32 operations in the same order as the Python
 * package `gguf` (quants.py), so results are equal to the bit, NaN patterns
 * too, unless two NaNs meet in one sum: which of them survives is the
 * compiler's choice. */
#ifndef MODEL_DEQUANTIZE_H
#define MODEL_DEQUANTIZE_H

#include <stddef.h>
#include <stdint.h>

/* `blocks` blocks at `data` (any alignment) become floats at `values`. */
typedef void dequantize_function(const uint8_t *data, uint64_t blocks, float *values);

struct number_format {
    uint32_t id; /* ggml_type */
    uint32_t values_per_block;
    uint32_t bytes_per_block;
    const char *name;
    dequantize_function *dequantize; /* NULL: known by size, but not read */
};

/* NULL when no such number is known. */
const struct number_format *number_format_find(uint32_t id);
const struct number_format *number_format_find_name(const char *name);

/* "F32, F16, ...": the formats that have a dequantiser. */
extern const char number_formats_read[];

/* One binary16 number, exactly; a NaN keeps its sign and payload. */
float dequantize_half(uint16_t half);

#endif
