/* AMX int8 tiles (Intel SDM volume 1, chapter 18, and 2A/2D: LDTILECFG, TDPBSSD,
 * TDPBUSD): 16 rows of 64 bytes. Included by kernel sources only. */
#ifndef EXEC_CPU_KERNELS_AMX_H
#define EXEC_CPU_KERNELS_AMX_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

enum { AMX_ROWS = 16 };

#if defined(KERNELS_EMULATE_AMX)
#include "exec/cpu/kernels_amx_emulated.h"
#else
#define amx_load _tile_loadd
#define amx_store _tile_stored
#define amx_zero _tile_zero
#define amx_multiply _tile_dpbssd
#define amx_multiply_unsigned _tile_dpbusd /* of the first operand's bytes */
#define amx_load_configuration _tile_loadconfig
#define amx_release _tile_release
#endif

/* Tiles 0 to 3: sums of (first or second 16 rows) x (first or second block);
 * 4, 5: rows of activations; 6, 7: blocks of weights. */
static inline void amx_configure(uint32_t first_rows, uint32_t second_rows)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } configuration = {.palette = 1};
    const uint32_t rows[8] = {first_rows, first_rows, second_rows, second_rows, first_rows, second_rows, 16, 16};
    for (int tile = 0; tile < 8; tile++) {
        configuration.rows[tile] = (uint8_t)(rows[tile] ? rows[tile] : 1);
        configuration.row_bytes[tile] = 64;
    }
    /* gcc 12 believes that loading reads only the first bytes: without the barrier the
     * other stores may come after it. */
    __asm__ volatile("" ::"r"(&configuration) : "memory");
    amx_load_configuration(&configuration);
}

/* acc[32][32] = q rows (16 or 32) x one or two blocks of 16 rows, over `steps` of 64
 * columns. `advance` is work for the vector units
 * meanwhile, in small parts. */
#define AMX_PRODUCT(name, TWO_ROWS, TWO_BLOCKS)                                                                       \
    static inline __attribute__((always_inline)) void name(                                                           \
        const int8_t *q, size_t q_stride, const int8_t *w0, const int8_t *w1, uint32_t steps, int32_t *acc,            \
        void (*advance)(void *context, uint32_t parts), void *context, uint32_t parts)                                 \
    {                                                                                                                  \
        const int8_t *q1 = q + AMX_ROWS * q_stride;                                                                    \
        enum { ACC_STRIDE = 32 * 4 };                                                                                  \
        amx_zero(0);                                                                                                 \
        amx_zero(1);                                                                                                 \
        amx_zero(2);                                                                                                 \
        amx_zero(3);                                                                                                 \
        for (uint32_t k = 0; k < steps; k++) {                                                                         \
            amx_load(4, q + (size_t)k * 64, q_stride);                                                              \
            amx_load(6, w0 + (size_t)k * 1024, 64);                                                                 \
            if (TWO_ROWS)                                                                                              \
                amx_load(5, q1 + (size_t)k * 64, q_stride);                                                         \
            if (TWO_BLOCKS)                                                                                            \
                amx_load(7, w1 + (size_t)k * 1024, 64);                                                             \
            amx_multiply(0, 4, 6);                                                                                     \
            if (TWO_BLOCKS)                                                                                            \
                amx_multiply(1, 4, 7);                                                                                 \
            if (TWO_ROWS)                                                                                              \
                amx_multiply(2, 5, 6);                                                                                 \
            if (TWO_ROWS && TWO_BLOCKS)                                                                                \
                amx_multiply(3, 5, 7);                                                                                 \
            advance(context, parts);                                                                                   \
        }                                                                                                              \
        amx_store(0, acc, ACC_STRIDE);                                                                              \
        if (TWO_BLOCKS)                                                                                                \
            amx_store(1, acc + 16, ACC_STRIDE);                                                                     \
        if (TWO_ROWS)                                                                                                  \
            amx_store(2, acc + 16 * 32, ACC_STRIDE);                                                                \
        if (TWO_ROWS && TWO_BLOCKS)                                                                                    \
            amx_store(3, acc + 16 * 32 + 16, ACC_STRIDE);                                                           \
    }
AMX_PRODUCT(amx_product_1x1, 0, 0)
AMX_PRODUCT(amx_product_1x2, 0, 1)
AMX_PRODUCT(amx_product_2x1, 1, 0)
AMX_PRODUCT(amx_product_2x2, 1, 1)
#undef AMX_PRODUCT
#endif
