/* 4-bit weights as AutoGPTQ/GPTQModel and AutoAWQ pack them in safetensors.
 *
 * A matrix NAME.weight {outputs, inputs} is stored as
 *   NAME.qweight  i32; GPTQ {inputs / 8, outputs}: 8 inputs in one word, the first lowest;
 *                 AWQ {inputs, outputs / 8}: 8 outputs in one word, in the order 0 2 4 6 1 3 5 7
 *   NAME.qzeros   i32 {groups, outputs / 8}: 8 outputs in one word, in the format's own order
 *   NAME.scales   F16, BF16 or F32 {groups, outputs}
 *   NAME.g_idx    i32 {inputs}, GPTQ, may be absent: the group of each input
 * and weight = (q - zero) * scale, exact in float32 (with 16-bit scales). GPTQ's first
 * version stores zero - 1, modulo 16; its second ("gptq_v2") and AWQ the zero. */
#ifndef MODEL_AWQ_GPTQ_H
#define MODEL_AWQ_GPTQ_H

#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "bulla/error.h"
#include "model/dequantize.h"

enum packing_layout { PACKING_NONE, PACKING_GPTQ, PACKING_GPTQ_V2, PACKING_AWQ };

/* What quantization_config of config.json says. */
struct packing {
    enum packing_layout layout;
    uint64_t group_size; /* inputs; 0: one group (-1 in the file) */
    int ordered;         /* desc_act: groups hold inputs in no order, so g_idx must be there */
};

/* PACKING_NONE where config.json has no quantization_config. An error where it
 * describes anything but the packings above. */
int packing_parse(const struct json *config, struct packing *packing, bulla_error *error);

/* One of a matrix's tensors, as the file has it. Absent: data is NULL. */
struct packed_part {
    const char *type_name; /* "I32", ... */
    int dimensions;
    uint64_t shape[2]; /* where dimensions <= 2 */
    const uint8_t *data; /* holds as many bytes as type and shape say */
};

struct packed_matrix {
    enum packing_layout layout;
    uint64_t inputs, outputs, groups, group_size;
    const uint8_t *weights, *zeros, *scales, *group_indices; /* group_indices may be NULL */
    const struct number_format *scale_format;
};

/* Checks the parts against each other and every group index. */
int packed_matrix_open(const struct packing *packing, const struct packed_part *weights,
                       const struct packed_part *zeros, const struct packed_part *scales,
                       const struct packed_part *group_indices, struct packed_matrix *matrix, bulla_error *error);

/* Outputs `first_row` to `first_row + count - 1` as rows of `inputs` floats. */
void packed_matrix_read(const struct packed_matrix *matrix, uint64_t first_row, uint64_t count, float *values);

const char *packing_type_name(enum packing_layout layout);

#endif
