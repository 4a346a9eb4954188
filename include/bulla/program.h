/* The canonical program: what a model is, in integers (docs/canonical.md).
 *
 * A program is a list of operations in the order they are applied to a
 * position. Each operation gives one value, so a value is named by the index of
 * the operation that made it, and `inputs` are such indices. The last operation
 * gives the logits. Values are
 *   - vectors of i32 in fixed point (most operations),
 *   - pairs (q i8[n], s) of the quantising operations quant and norm_quant, and
 *     of head_quant, which has one s a head,
 *   - key_quant (k8, t_k a kv head) and value_quant (v8, k_v a kv head), which
 *     stay: `attend` reads them at every visible position. They are the KV cache.
 *
 * The structures below are the file's own bytes (little-endian, no padding
 * beyond what is written), mapped and checked by bulla_model_open. Their layout
 * is part of the file format (docs/model-file.md has every bound); every reserved
 * byte is zero, and so is every field that a kind does not have.
 */
#ifndef BULLA_PROGRAM_H
#define BULLA_PROGRAM_H

#include <stdint.h>

#include "bulla/error.h"

enum { BULLA_PROGRAM_VERSION = 1 };

/* The operations of docs/canonical.md, in its words. */
enum bulla_operation_kind {
    BULLA_EMBED = 1,   /* token id -> x;           E8 [vocabulary, n], ME [vocabulary]; ke */
    BULLA_NORM_QUANT,  /* x -> (q, s);             e [n]; block, c, eps */
    BULLA_QUANT,       /* x -> (q, s);             block */
    BULLA_LINEAR,      /* (q, s) -> y;             W [outputs, n], M [outputs], bias [outputs] or none; k1, k2 */
    BULLA_NORM,        /* x -> y, each run of head_size elements (heads of them) by itself; G [head_size]; eps, k */
    BULLA_ROPE,        /* x -> y, each head;       turn [rotary / 2]; rotary, half */
    BULLA_HEAD_QUANT,  /* x -> (q8, s_q), each head; block */
    BULLA_KEY_QUANT,   /* x -> (k8, t_k), each head; block, C */
    BULLA_VALUE_QUANT, /* x -> (v8, k_v), each head */
    BULLA_ATTEND,      /* head_quant, key_quant, value_quant -> o; a2, window, softcap table A [1025] or none */
    BULLA_GATE,        /* g, u -> y (gated) or g -> y; A [1025]; F_g, k */
    BULLA_ADD,         /* x, y -> x + y */
    BULLA_SOFTCAP,     /* x -> x', the logits' softcap; A [1025] */
    BULLA_OPERATION_KINDS
};

/* Which tensor slot of an operation holds what. */
enum bulla_tensor_role {
    BULLA_TENSOR_E8, BULLA_TENSOR_ME, BULLA_TENSOR_W, BULLA_TENSOR_M, BULLA_TENSOR_BIAS,
    BULLA_TENSOR_E, BULLA_TENSOR_G, BULLA_TENSOR_TURN, BULLA_TENSOR_A,
    BULLA_TENSOR_ROLES
};

enum {
    BULLA_NO_LAYER = 0xFFFF,
    BULLA_OPERATION_HALF = 1,  /* rope: pair i is (i, i + rotary/2); without it (2i, 2i+1) */
    BULLA_OPERATION_GATED = 2, /* gate: two inputs */
};

typedef struct bulla_operation {
    uint16_t kind;       /* enum bulla_operation_kind */
    uint16_t layer;      /* 0-based, or BULLA_NO_LAYER */
    uint32_t flags;
    int32_t inputs[3];   /* indices of earlier operations, -1 where unused */
    uint32_t n;          /* elements of the (first) input; 0 for embed */
    uint32_t outputs;    /* elements of the result */
    uint32_t heads;      /* norm, rope, *_quant per head, attend: heads of the result */
    uint32_t head_size;  /* elements of one head */
    uint32_t kv_heads;   /* attend */
    uint32_t block;      /* b, the Hadamard's block, a power of two */
    uint32_t window;     /* attend: positions seen, 0 for all */
    uint32_t rotary;     /* rope: leading dimensions of each head that turn */
    uint32_t C;          /* key_quant */
    int32_t F;           /* fraction bits of the result; only sampling reads it (the logits' F) */
    int32_t F_g;         /* gate: fraction bits of g */
    int32_t k, k1, k2, ke, c, a2; /* shifts, by the page's names */
    uint64_t eps;        /* norm, norm_quant: already round(n * eps_real * 2^(2F)), at least 1 */
    int32_t tensors[12]; /* by enum bulla_tensor_role; -1 where unused */
    uint8_t reserved[48];
} bulla_operation;
_Static_assert(sizeof(bulla_operation) == 192, "an operation's record is 192 bytes");

enum bulla_dtype { BULLA_I8 = 1, BULLA_U8, BULLA_I16, BULLA_U16, BULLA_I32, BULLA_U32, BULLA_U64 };

typedef struct bulla_tensor {
    char name[72];    /* NUL-terminated, e.g. "layer.3.q.W" */
    uint8_t dtype;    /* enum bulla_dtype */
    uint8_t reserved[7];
    uint32_t rows;    /* a vector has one row */
    uint32_t columns;
    uint64_t offset;  /* bytes from the start of the rooted region; a multiple of 64 */
    uint64_t bytes;
    uint8_t reserved_end[24];
} bulla_tensor;
_Static_assert(sizeof(bulla_tensor) == 128, "a tensor's record is 128 bytes");

/* A program with its data in memory. `data[i]` points at tensor i's elements,
 * row-major, 64-byte aligned. */
typedef struct bulla_program {
    const bulla_operation *operations;
    uint32_t operation_count;
    const bulla_tensor *tensors;
    uint32_t tensor_count;
    const void *const *data;
    uint32_t vocabulary;     /* elements of the logits; ids are below it */
    uint32_t context;        /* positions the model was made for: a hard limit */
    uint32_t layers;
    int32_t logits_F;        /* fraction bits of the logits */
} bulla_program;

const char *bulla_operation_kind_name(int kind);  /* "norm_quant"; "unknown" */
const char *bulla_tensor_role_name(int role);     /* "E8", "W", ... */
const char *bulla_dtype_name(int dtype);          /* "i8", ... */
uint32_t bulla_dtype_size(int dtype);             /* bytes, 0 for an unknown one */

/* Checks everything that executors rely on: indices in order, kinds and shapes
 * that fit together, shifts and constants within the bounds that keep every
 * product below 2^62 (docs/canonical.md). `data` may be NULL; where it is there
 * the values with bounds (W, E8 never -128, e at most 15) are checked too. */
int bulla_program_check(const bulla_program *program, bulla_error *error);

#endif
