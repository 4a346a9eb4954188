/* AMX tiles as memory, for tests on processors with AVX-512 VNNI alone: what Intel's SDM, volume 2D,
 * says of each instruction, and an end where it would fault. Included by kernels_amx.h only. */
#ifndef EXEC_CPU_KERNELS_AMX_EMULATED_H
#define EXEC_CPU_KERNELS_AMX_EMULATED_H

enum { AMX_TILES = 8, AMX_ROW_BYTES = 64 };

/* Each source that includes this has tiles of its own: none hands any to another. */
static _Thread_local struct {
    int is_configured;
    uint32_t rows[AMX_TILES], row_bytes[AMX_TILES];
    uint8_t data[AMX_TILES][AMX_ROWS][AMX_ROW_BYTES];
} amx_state;

static void amx_fault_unless(int holds)
{
    if (!holds)
        __builtin_trap(); /* an invalid instruction, as there */
}

static inline void amx_load_configuration(const void *configuration)
{
    const uint8_t *bytes = configuration;
    amx_fault_unless(bytes[0] == 1 && bytes[1] == 0);
    memset(&amx_state, 0, sizeof amx_state);
    for (int tile = 0; tile < AMX_TILES; tile++) {
        amx_state.row_bytes[tile] = bytes[16 + 2 * tile] | (uint32_t)bytes[17 + 2 * tile] << 8;
        amx_state.rows[tile] = bytes[48 + tile];
        amx_fault_unless(amx_state.rows[tile] <= AMX_ROWS && amx_state.row_bytes[tile] <= AMX_ROW_BYTES &&
                         amx_state.row_bytes[tile] % 4 == 0 && !amx_state.rows[tile] == !amx_state.row_bytes[tile]);
    }
    amx_state.is_configured = 1;
}

static inline void amx_release(void)
{
    memset(&amx_state, 0, sizeof amx_state);
}

static inline void amx_zero(int tile)
{
    amx_fault_unless(amx_state.is_configured && amx_state.rows[tile]);
    memset(amx_state.data[tile], 0, sizeof amx_state.data[tile]);
}

static inline void amx_load(int tile, const void *base, size_t stride)
{
    amx_zero(tile);
    for (uint32_t r = 0; r < amx_state.rows[tile]; r++)
        memcpy(amx_state.data[tile][r], (const uint8_t *)base + r * stride, amx_state.row_bytes[tile]);
}

static inline void amx_store(int tile, void *base, size_t stride)
{
    amx_fault_unless(amx_state.is_configured && amx_state.rows[tile]);
    for (uint32_t r = 0; r < amx_state.rows[tile]; r++)
        memcpy((uint8_t *)base + r * stride, amx_state.data[tile][r], amx_state.row_bytes[tile]);
}

/* sums[m][n] += a[m][k] * b[k][n] in words of four bytes. */
static inline void amx_products(int sums, int a, int b, int is_a_signed)
{
    uint32_t rows = amx_state.rows[sums], depth = amx_state.row_bytes[a] / 4;
    amx_fault_unless(amx_state.is_configured && rows && sums != a && sums != b && a != b && amx_state.rows[a] == rows &&
                     amx_state.rows[b] == depth && amx_state.row_bytes[b] == amx_state.row_bytes[sums]);
    const __m512i signs = _mm512_set1_epi8((char)0x80);
    for (uint32_t k = 0; k < depth; k++) {
        /* VNNI's first operand is unsigned: signed bytes get 128 more, which comes off again. */
        __m512i second = _mm512_loadu_si512(amx_state.data[b][k]), more = _mm512_setzero_si512();
        if (is_a_signed)
            more = _mm512_dpbusd_epi32(more, signs, second);
        for (uint32_t m = 0; m < rows; m++) {
            int32_t four;
            memcpy(&four, &amx_state.data[a][m][4 * k], 4);
            __m512i first = _mm512_set1_epi32(is_a_signed ? four ^ (int32_t)0x80808080 : four);
            __m512i sum = _mm512_dpbusd_epi32(_mm512_loadu_si512(amx_state.data[sums][m]), first, second);
            _mm512_storeu_si512(amx_state.data[sums][m], _mm512_sub_epi32(sum, more));
        }
    }
    for (uint32_t m = rows; m < AMX_ROWS; m++)
        memset(amx_state.data[sums][m], 0, AMX_ROW_BYTES);
}

static inline void amx_multiply(int sums, int a, int b)
{
    amx_products(sums, a, b, 1);
}

static inline void amx_multiply_unsigned(int sums, int a, int b)
{
    amx_products(sums, a, b, 0);
}

#endif
