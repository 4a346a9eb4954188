/* The kernels of the engine: one source compiled once an instruction set, as
 * constant tables of functions. All of them compute docs/canonical.md to the
 * bit; their twins are in exec/ref/operations.h.
 *
 * Data layouts are the same for every instruction set:
 *   weights    [row blocks of 16][groups of 4 columns][16 rows][4 columns] i8,
 *              columns padded to 64 and rows to 16 with zeros. A group of a block
 *              is one 64-byte line: what VNNI multiplies with four broadcast
 *              bytes. 16 groups are one AMX tile (tdpbssd's second operand,
 *              Intel SDM 2D, "TDPBSSD").
 *   keys       the same with positions as rows: 4 blocks of 16 positions
 *   values     the same with dimensions as rows and the 64 positions as columns
 *   activations i8 [rows][stride], stride a multiple of 64, zeros behind the columns
 */
#ifndef EXEC_CPU_KERNELS_H
#define EXEC_CPU_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "bulla/error.h"

#if defined(__AMX_INT8__) || defined(KERNELS_EMULATE_AMX)
#define KERNELS_HAVE_AMX 1
#endif

enum {
    KERNEL_ROWS = 16,     /* rows of a weight block; queries of an attention tile */
    KERNEL_COLUMNS = 64,  /* columns are padded to a multiple of this */
    KERNEL_POSITIONS = 64, /* of an attention block */
    KERNEL_CHUNK_ROWS = 128, /* activation rows that `linear` prepares at a time, at most */
    KERNEL_MAX_HEAD = 256
};

static inline uint64_t kernel_round_up(uint64_t value, uint64_t multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}

/* A linear operation's tensors, packed. */
struct packed_linear {
    const int8_t *weights;   /* [blocks][groups][16][4] */
    const int32_t *offset;   /* [blocks * 16]: -128 * sum of the row's weights */
    const uint16_t *M;       /* [blocks * 16] */
    const int32_t *bias;     /* [blocks * 16], zeros where the operation has none */
    uint32_t rows, columns;  /* of the matrix itself */
    uint32_t blocks, groups; /* groups: padded columns / 4, a multiple of 16 */
    int32_t k1, k2;
    uint32_t largest_magnitude; /* largest sum of a row's |W_ji|; |acc| is at most 127 times that */
    uint32_t largest_M;
    uint32_t largest_bias;   /* largest |bias_j| */
    int64_t bounded_s;       /* up to this s no result can leave 31 bits; -1: no such s */
};

/* Where RANGE goes: the lowest index of an operation that raised it, a row
 * (UINT32_MAX: none yet). Several threads may mark the same row. */
static inline void kernel_mark_range(uint32_t *range, uint32_t operation)
{
    uint32_t now = __atomic_load_n(range, __ATOMIC_RELAXED);
    while (operation < now &&
           !__atomic_compare_exchange_n(range, &now, operation, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
}

/* y = linear(q, s) at some positions ("rows" of the activations). Row r of q
 * belongs to row index[r] (r where index is NULL) of s, y and range. */
struct linear_call {
    const struct packed_linear *linear;
    const int8_t *q;         /* [rows][q_stride] */
    const uint32_t *index;   /* [rows] or NULL */
    const int64_t *s;
    int32_t *y;              /* y_stride apart, unless y_rows is there; starts at row block y_block */
    int32_t *const *y_rows;
    uint32_t *range;
    size_t q_stride, y_stride;
    uint32_t rows;
    uint32_t operation;      /* for range */
    uint32_t y_block;
};

/* 64 positions of one kv head's cache. */
struct key_block {
    const int8_t *k8;        /* [4][dimensions / 4][16 positions][4] */
    const int8_t *v8;        /* [dimensions / 16][16][16 dimensions][4 positions] */
    const int32_t *t_k;      /* [64] */
    const int16_t *k_sum;    /* [64]: sum of the position's k8 */
    const uint8_t *k_v;      /* [64] */
};

struct attend_shape {
    uint32_t size;           /* head size */
    uint32_t padded;         /* rounded up to 64: dimensions of k8 and v8 */
    int32_t a2;
    const int32_t *cap;      /* softcap table or NULL */
    const uint32_t *exp15, *exp31;
};

/* What a block of positions gave one query (the page's Z_j, K_j, S_j); O_j apart. */
struct attend_partial {
    int32_t Z;
    int32_t K;               /* -1: no position of the block is visible */
    uint32_t S;
};

/* Up to KERNEL_ROWS queries against one block. */
struct attend_block_call {
    const struct attend_shape *shape;
    const struct key_block *block, *next; /* `next` (may be NULL) comes after it, and is fetched from memory meanwhile */
    const int8_t *q8;        /* [16][q_stride], `rows` of them used, zeros behind the head's size */
    const int32_t *s_q;      /* [rows] */
    const uint8_t *begin, *end; /* [rows]: visible are positions begin <= p < end of the block */
    struct attend_partial *partial; /* [rows], partial_stride apart */
    int32_t *O;              /* [rows][size padded to 64], O_stride elements apart */
    uint32_t *const *range;  /* [rows]: where each query's RANGE goes */
    size_t q_stride, partial_stride, O_stride;
    uint32_t rows;
    uint32_t operation;
};

/* One query's blocks -> o[size]. */
struct attend_combine_call {
    const struct attend_shape *shape;
    const struct attend_partial *partial; /* [blocks] */
    const int32_t *O;        /* [blocks][padded] */
    uint64_t blocks;
    int32_t *o;              /* [size] */
};

struct kernels {
    const char *name;
    /* What each kernel family runs with, for tests and doctor to print. */
    const char *description;
    /* Asks for what the instruction set needs of the operating system. */
    int (*prepare)(bulla_error *error);
    /* Row blocks [begin, end) of a linear operation. `scratch`: kernel_linear_scratch bytes, 64-byte aligned. */
    void (*linear)(const struct linear_call *call, uint32_t begin, uint32_t end, void *scratch);
    /* Around any number of attend_block calls in a thread, with no other kernels between. */
    void (*attend_begin)(void);
    void (*attend_end)(void);
    void (*attend_block)(const struct attend_block_call *call);
    int (*attend_combine)(const struct attend_combine_call *call); /* 1: RANGE */
    /* As reference_*: 1 for RANGE; `h` is scratch of n elements. rope takes all heads of a row. */
    void (*quant)(const int32_t *x, uint32_t n, uint32_t b, int32_t *h, int8_t *q, int64_t *s);
    int (*norm_quant)(const int32_t *x, const uint8_t *e, uint32_t n, uint32_t b, int c, uint64_t eps, int32_t *h,
                      int8_t *q, int64_t *s);
    int (*head_quant)(const int32_t *x, uint32_t size, uint32_t b, int32_t *h, int8_t *q8, int32_t *s);
    int (*value_quant)(const int32_t *x, uint32_t size, int8_t *v8, int32_t *k_v);
    int (*norm)(const int32_t *x, const int32_t *G, uint32_t n, uint64_t eps, int k, int32_t *y);
    int (*rope)(const int32_t *x, uint32_t heads, uint32_t size, uint32_t rotary, int half, const uint64_t *turn,
                      uint64_t position, const int16_t *cosine, int32_t *y);
    /* `small_steps`: what the function of that name says of A. */
    int (*gate)(const int32_t *g, const int32_t *u, uint32_t n, const int32_t *A, int F_g, int small_steps, int k,
                int32_t *y);
    int (*small_steps)(const int32_t *A);
    int (*add)(const int32_t *x, const int32_t *y, uint32_t n, int32_t *sum);
    void (*softcap)(const int32_t *A, const int32_t *x, uint32_t n, int32_t *y);
};

/* Bytes of scratch that `linear` needs for an operation of that many padded columns: a
 * chunk of activation rows and a block of 16 rows of weights, widened to 16 bits. */
static inline size_t kernel_linear_scratch(uint32_t padded_columns)
{
    return (size_t)2 * (KERNEL_CHUNK_ROWS + KERNEL_ROWS) * padded_columns + 64;
}

/* This file's instruction set, in names: KERNEL(linear) is linear_vnni. */
#ifdef KERNELS_ISA
#define KERNEL_JOIN_(name, isa) name##_##isa
#define KERNEL_JOIN(name, isa) KERNEL_JOIN_(name, isa)
#define KERNEL(name) KERNEL_JOIN(kernel_##name, KERNELS_ISA)
void KERNEL(linear)(const struct linear_call *call, uint32_t begin, uint32_t end, void *scratch);
void KERNEL(attend_begin)(void);
void KERNEL(attend_end)(void);
void KERNEL(attend_block)(const struct attend_block_call *call);
int KERNEL(attend_combine)(const struct attend_combine_call *call);
void KERNEL(quant)(const int32_t *x, uint32_t n, uint32_t b, int32_t *h, int8_t *q, int64_t *s);
int KERNEL(norm_quant)(const int32_t *x, const uint8_t *e, uint32_t n, uint32_t b, int c, uint64_t eps, int32_t *h,
                       int8_t *q, int64_t *s);
int KERNEL(head_quant)(const int32_t *x, uint32_t size, uint32_t b, int32_t *h, int8_t *q8, int32_t *s);
int KERNEL(value_quant)(const int32_t *x, uint32_t size, int8_t *v8, int32_t *k_v);
int KERNEL(norm)(const int32_t *x, const int32_t *G, uint32_t n, uint64_t eps, int k, int32_t *y);
int KERNEL(rope)(const int32_t *x, uint32_t heads, uint32_t size, uint32_t rotary, int half, const uint64_t *turn,
                       uint64_t position, const int16_t *cosine, int32_t *y);
int KERNEL(gate)(const int32_t *g, const int32_t *u, uint32_t n, const int32_t *A, int F_g, int small_steps, int k,
                 int32_t *y);
int KERNEL(small_steps)(const int32_t *A);
int KERNEL(add)(const int32_t *x, const int32_t *y, uint32_t n, int32_t *sum);
void KERNEL(softcap)(const int32_t *A, const int32_t *x, uint32_t n, int32_t *y);
#endif

extern const struct kernels kernels_portable;
#if defined(__x86_64__)
extern const struct kernels kernels_avx2, kernels_avxvnni, kernels_vnni, kernels_amx;
#elif defined(__aarch64__)
extern const struct kernels kernels_neon, kernels_i8mm;
#endif

#endif
