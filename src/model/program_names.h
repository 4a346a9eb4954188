/* What each kind of operation is made of: one table for checking, printing and
 * documenting programs. */
#ifndef MODEL_PROGRAM_NAMES_H
#define MODEL_PROGRAM_NAMES_H

#include <stdint.h>

#include "bulla/program.h"

/* What a value is. */
enum program_value { VALUE_NONE, VALUE_VECTOR, VALUE_QUANTISED, VALUE_HEADS, VALUE_KEYS, VALUE_VALUES };

enum program_parameter {
    PARAMETER_BLOCK = 1 << 0, PARAMETER_EPS = 1 << 1, PARAMETER_C_SHIFT = 1 << 2, PARAMETER_K = 1 << 3,
    PARAMETER_K1 = 1 << 4, PARAMETER_K2 = 1 << 5, PARAMETER_KE = 1 << 6, PARAMETER_C = 1 << 7,
    PARAMETER_A2 = 1 << 8, PARAMETER_WINDOW = 1 << 9, PARAMETER_ROTARY = 1 << 10, PARAMETER_F_G = 1 << 11,
    PARAMETER_HEADS = 1 << 12, PARAMETER_KV_HEADS = 1 << 13
};

struct program_kind {
    const char *name;
    enum program_value result;
    enum program_value inputs[3];
    uint32_t parameters;     /* enum program_parameter */
    uint32_t tensors;        /* bit per enum bulla_tensor_role: required */
    uint32_t optional;       /* may be there */
};

/* By enum bulla_operation_kind; NULL for an unknown kind. */
const struct program_kind *program_kind(int kind);

/* Names of the tensors that hold the shared tables, in file order: they are
 * tensors 0 to 3 of every model. */
enum { PROGRAM_TABLES = 4 };
struct program_table {
    const char *name;
    int dtype;
    uint32_t elements;
    const char *sha256; /* hex, of the little-endian elements */
};
extern const struct program_table program_tables[PROGRAM_TABLES];

#endif
