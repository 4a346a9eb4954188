/* linear: products of int8 rows, then the page's epilogue with its two
 * roundings: S_j = RS(s * M_j, k1), y_j = RS(acc_j * S_j, k2) + bias_j. */
#include "exec/cpu/kernels.h"
#include "exec/cpu/kernels_dot.h"

/* How a row of activations is finished. */
enum row_way {
    ROW_RANGE,   /* s is out of its bound: zeros */
    ROW_BOUNDED, /* no result of this row can leave 31 bits: 32-bit bias, no check */
    ROW_CHECKED, /* s below 2^32: vectors, every result checked */
    ROW_SCALAR
};

static int64_t round_shift(int64_t a, int k)
{
    return k == 0 ? a : (a + (INT64_C(1) << (k - 1))) >> k;
}

static enum row_way row_way(const struct packed_linear *linear, int64_t s)
{
    if (s >= INT64_C(1) << (15 + linear->k1))
        return ROW_RANGE;
    if (s >> 32)
        return ROW_SCALAR;
    return s <= linear->bounded_s ? ROW_BOUNDED : ROW_CHECKED;
}

static inline uint32_t row_of(const struct linear_call *call, uint32_t r)
{
    return call->index ? call->index[r] : r;
}

/* Where row `row` of y starts at `block`. */
static inline int32_t *result_of(const struct linear_call *call, uint32_t row, uint32_t block)
{
    int32_t *y = call->y_rows ? call->y_rows[row] : call->y + row * call->y_stride;
    return y + (size_t)(block - call->y_block) * KERNEL_ROWS;
}

static void finish_scalar(const struct linear_call *call, uint32_t row, uint32_t block, enum row_way way,
                          const int32_t acc[KERNEL_ROWS])
{
    const struct packed_linear *linear = call->linear;
    uint32_t first = block * KERNEL_ROWS;
    uint32_t count = linear->rows - first < KERNEL_ROWS ? linear->rows - first : KERNEL_ROWS;
    int32_t *y = result_of(call, row, block);
    int64_t s = call->s[row];
    if (way == ROW_RANGE) {
        memset(y, 0, count * sizeof *y);
        kernel_mark_range(&call->range[row], call->operation);
        return;
    }
    int bad = 0;
    for (uint32_t j = 0; j < count; j++) {
        int64_t S = round_shift(s * linear->M[first + j], linear->k1);
        int64_t value = round_shift(acc[j] * S, linear->k2) + linear->bias[first + j];
        y[j] = (int32_t)(uint32_t)(uint64_t)value;
        bad |= value >= INT64_C(1) << 31 || value <= -(INT64_C(1) << 31);
    }
    if (bad)
        kernel_mark_range(&call->range[row], call->operation);
}

#if defined(__AVX512F__)

/* What the epilogue needs of a block and an operation. */
struct finish {
    __m512i M_even, M_odd, bias;
    __m512i half1, half2;
    __m512i k1, k2; /* vectors: a shift by a count in an xmm register takes two instructions' time */
    __mmask16 mask;
};

ALWAYS_INLINE struct finish finish_begin(const struct packed_linear *linear, uint32_t block)
{
    struct finish f;
    uint32_t first = block * KERNEL_ROWS, left = linear->rows - first;
    f.M_even = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(linear->M + first)));
    f.M_odd = _mm512_srli_epi64(f.M_even, 32);
    f.bias = _mm512_loadu_si512(linear->bias + first);
    f.half1 = _mm512_set1_epi64(linear->k1 ? INT64_C(1) << (linear->k1 - 1) : 0);
    f.half2 = _mm512_set1_epi64(linear->k2 ? INT64_C(1) << (linear->k2 - 1) : 0);
    f.k1 = _mm512_set1_epi64(linear->k1);
    f.k2 = _mm512_set1_epi64(linear->k2);
    f.mask = left >= KERNEL_ROWS ? (__mmask16)0xFFFF : (__mmask16)((1u << left) - 1);
    return f;
}

ALWAYS_INLINE void finish_row(const struct linear_call *call, const struct finish *f, uint32_t row, uint32_t block,
                              enum row_way way, __m512i acc)
{
    if (way == ROW_RANGE || way == ROW_SCALAR) {
        int32_t sums[KERNEL_ROWS];
        _mm512_storeu_si512(sums, acc);
        finish_scalar(call, row, block, way, sums);
        return;
    }
    __m512i s = _mm512_set1_epi64(call->s[row]);
    __m512i S_even = _mm512_srlv_epi64(_mm512_add_epi64(_mm512_mul_epu32(f->M_even, s), f->half1), f->k1);
    __m512i S_odd = _mm512_srlv_epi64(_mm512_add_epi64(_mm512_mul_epu32(f->M_odd, s), f->half1), f->k1);
    __m512i even = _mm512_mul_epi32(acc, S_even), odd = _mm512_mul_epi32(_mm512_srli_epi64(acc, 32), S_odd);
    even = _mm512_srav_epi64(_mm512_add_epi64(even, f->half2), f->k2);
    odd = _mm512_srav_epi64(_mm512_add_epi64(odd, f->half2), f->k2);
    if (way == ROW_CHECKED) {
        const __m512i low = _mm512_set1_epi64(-(INT64_C(1) << 31)), high = _mm512_set1_epi64(INT64_C(1) << 31);
        even = _mm512_add_epi64(even, _mm512_srai_epi64(_mm512_slli_epi64(f->bias, 32), 32));
        odd = _mm512_add_epi64(odd, _mm512_srai_epi64(f->bias, 32));
        __mmask8 bad = _mm512_cmple_epi64_mask(even, low) | _mm512_cmpge_epi64_mask(even, high) |
                       _mm512_cmple_epi64_mask(odd, low) | _mm512_cmpge_epi64_mask(odd, high);
        if (bad)
            kernel_mark_range(&call->range[row], call->operation);
    }
    __m512i y = _mm512_mask_shuffle_epi32(even, 0xAAAA, odd, _MM_PERM_CCAA);
    if (way == ROW_BOUNDED)
        y = _mm512_add_epi32(y, f->bias);
    _mm512_mask_storeu_epi32(result_of(call, row, block), f->mask, y);
}

/* As finish_row for bounded rows and whole blocks. */
ALWAYS_INLINE void finish_plain(const struct finish *f, __m512i s, __m512i acc, int32_t *y)
{
    __m512i S_even = _mm512_srlv_epi64(_mm512_add_epi64(_mm512_mul_epu32(f->M_even, s), f->half1), f->k1);
    __m512i S_odd = _mm512_srlv_epi64(_mm512_add_epi64(_mm512_mul_epu32(f->M_odd, s), f->half1), f->k1);
    __m512i even = _mm512_mul_epi32(acc, S_even), odd = _mm512_mul_epi32(_mm512_srli_epi64(acc, 32), S_odd);
    even = _mm512_srav_epi64(_mm512_add_epi64(even, f->half2), f->k2);
    odd = _mm512_srav_epi64(_mm512_add_epi64(odd, f->half2), f->k2);
    _mm512_storeu_si512(y, _mm512_add_epi32(_mm512_mask_shuffle_epi32(even, 0xAAAA, odd, _MM_PERM_CCAA), f->bias));
}
#endif

#if defined(__AVX512VNNI__)

/* Rows of two whole blocks that are bounded all. */
ALWAYS_INLINE void finish_tile(const struct linear_call *call, const struct finish f[2], uint32_t first, uint32_t rows,
                               uint32_t block, __m512i acc[DOT_ROWS][2])
{
    const struct finish f0 = f[0], f1 = f[1];
    for (uint32_t i = 0; i < rows; i++) {
        uint32_t row = row_of(call, first + i);
        int32_t *y = result_of(call, row, block);
        __m512i s = _mm512_set1_epi64(call->s[row]);
        finish_plain(&f0, s, acc[i][0], y);
        finish_plain(&f1, s, acc[i][1], y + KERNEL_ROWS);
    }
}

enum { NEAR_AHEAD = 4096 }; /* bytes from a line that one row is multiplied by to the one that is fetched */

/* Two blocks of weights stay in the first-level cache while all rows pass by. */
static void linear_rows(const struct linear_call *call, uint32_t first, uint32_t rows, uint32_t begin, uint32_t end,
                        uint8_t *prepared)
{
    const struct packed_linear *linear = call->linear;
    size_t bytes = (size_t)linear->groups * 4;
    uint8_t way[KERNEL_CHUNK_ROWS];
    int are_bounded = 1;
    for (uint32_t r = 0; r < rows; r++) {
        dot_prepare(call->q + (first + r) * call->q_stride, (uint32_t)bytes, prepared + r * bytes);
        way[r] = (uint8_t)row_way(linear, call->s[row_of(call, first + r)]);
        are_bounded &= way[r] == ROW_BOUNDED;
    }
    for (uint32_t block = begin, pair; block < end; block += pair) {
        const int8_t *weights[2];
        __m512i start[2];
        struct finish f[2];
        pair = rows > 1 && end - block >= 2 ? 2 : 1;
        for (uint32_t b = 0; b < pair; b++) {
            weights[b] = linear->weights + (block + b) * bytes * KERNEL_ROWS;
            start[b] = _mm512_loadu_si512(linear->offset + (size_t)(block + b) * KERNEL_ROWS);
            f[b] = finish_begin(linear, block + b);
        }
        for (uint32_t r = 0; r < rows; r += DOT_ROWS) {
            uint32_t count = rows - r < DOT_ROWS ? rows - r : DOT_ROWS;
            __m512i acc[DOT_ROWS][2];
            dot_rows(weights, start, linear->groups, prepared + r * bytes, bytes, count, (int)pair,
                     r > 0 ? 0 : rows == 1 ? NEAR_AHEAD : 2 * bytes * KERNEL_ROWS, acc);
            if (are_bounded && pair == 2 && (block + 2) * KERNEL_ROWS <= linear->rows) {
                finish_tile(call, f, first + r, count, block, acc);
                continue;
            }
            for (uint32_t i = 0; i < count; i++)
                for (uint32_t b = 0; b < pair; b++)
                    finish_row(call, &f[b], row_of(call, first + r + i), block + b, (enum row_way)way[r + i], acc[i][b]);
        }
    }
}

#elif defined(__ARM_FEATURE_DOTPROD)
#include "exec/cpu/kernels_neon_linear.h"
#elif defined(KERNELS_HAVE_LANES)

/* What the epilogue needs of a block and an operation: halves of eight rows. */
struct finish {
    lanes M[2], bias[2];
    struct rounding k1, k2;
    uint32_t rows; /* of the block */
};

ALWAYS_INLINE struct finish finish_begin(const struct packed_linear *linear, uint32_t block)
{
    struct finish f = {.k1 = rounding_by(linear->k1), .k2 = rounding_by(linear->k2)};
    uint32_t first = block * KERNEL_ROWS, left = linear->rows - first;
    for (int h = 0; h < 2; h++) {
        f.M[h] = lanes_of_u16(linear->M + first + h * LANES);
        f.bias[h] = lanes_load(linear->bias + first + h * LANES);
    }
    f.rows = left < KERNEL_ROWS ? left : KERNEL_ROWS;
    return f;
}

ALWAYS_INLINE void finish_row(const struct linear_call *call, const struct finish *f, uint32_t row, uint32_t block,
                              enum row_way way, const lanes acc[2])
{
    int32_t sums[KERNEL_ROWS], *y = result_of(call, row, block);
    if (way != ROW_BOUNDED) {
        lanes_store(sums, acc[0]);
        lanes_store(sums + LANES, acc[1]);
        finish_scalar(call, row, block, way, sums);
        return;
    }
    lanes s = lanes_set((int32_t)(uint32_t)call->s[row]), result[2];
    for (int h = 0; h < 2; h++) {
        wide S_even = round_low(wide_product_unsigned(f->M[h], s), &f->k1);
        wide S_odd = round_low(wide_product_unsigned(lanes_odd(f->M[h]), s), &f->k1);
        result[h] = round_join(wide_product(acc[h], S_even), wide_product(lanes_odd(acc[h]), S_odd), &f->k2);
        result[h] = lanes_add(result[h], f->bias[h]);
    }
    if (f->rows == KERNEL_ROWS) {
        lanes_store(y, result[0]);
        lanes_store(y + LANES, result[1]);
        return;
    }
    lanes_store(sums, result[0]);
    lanes_store(sums + LANES, result[1]);
    memcpy(y, sums, f->rows * sizeof *y);
}

/* `prepared`: the rows' activations; behind them room for a widened block. */
static void linear_rows(const struct linear_call *call, uint32_t first, uint32_t rows, uint32_t begin, uint32_t end,
                        uint8_t *prepared)
{
    const struct packed_linear *linear = call->linear;
    size_t bytes = (size_t)linear->groups * 4, stride = bytes * DOT_BYTES;
    uint8_t way[KERNEL_CHUNK_ROWS], *widened = prepared + rows * stride;
    for (uint32_t r = 0; r < rows; r++) {
        dot_prepare(call->q + (first + r) * call->q_stride, (uint32_t)bytes, prepared + r * stride);
        way[r] = (uint8_t)row_way(linear, call->s[row_of(call, first + r)]);
    }
    for (uint32_t block = begin; block < end; block++) {
        const int8_t *weights = linear->weights + block * bytes * KERNEL_ROWS;
        const int32_t *start = linear->offset + (size_t)block * KERNEL_ROWS;
        const struct finish f = finish_begin(linear, block);
        int is_wide = DOT_WIDENS && rows >= WIDEN_FROM_ROWS;
        if (is_wide)
            dot_widen(weights, bytes * KERNEL_ROWS, (int16_t *)(void *)widened);
        for (uint32_t r = 0; r < rows; r += TILE_ROWS) {
            uint32_t count = rows - r < TILE_ROWS ? rows - r : TILE_ROWS;
            lanes acc[TILE_ROWS][2];
            if (is_wide)
                dot_rows(widened, 1, start, linear->groups, prepared + r * stride, stride, count, acc);
            else
                dot_rows(weights, 0, start, linear->groups, prepared + r * stride, stride, count, acc);
            for (uint32_t i = 0; i < count; i++)
                finish_row(call, &f, row_of(call, first + r + i), block, (enum row_way)way[r + i], acc[i]);
        }
    }
}

#else

static void linear_rows(const struct linear_call *call, uint32_t first, uint32_t rows, uint32_t begin, uint32_t end,
                        uint8_t *prepared)
{
    const struct packed_linear *linear = call->linear;
    uint32_t bytes = linear->groups * 4;
    enum row_way way[DOT_ROWS];
    for (uint32_t r = 0; r < rows; r++) {
        dot_prepare(call->q + (first + r) * call->q_stride, bytes, prepared + (size_t)r * bytes);
        way[r] = row_way(linear, call->s[row_of(call, first + r)]);
    }
    for (uint32_t block = begin; block < end; block++) {
        int32_t acc[DOT_ROWS][KERNEL_ROWS];
        dot_rows(linear->weights + (size_t)block * linear->groups * 64, linear->groups, prepared, bytes, rows, acc);
        for (uint32_t r = 0; r < rows; r++)
            finish_scalar(call, row_of(call, first + r), block, way[r], acc[r]);
    }
}
#endif

#if defined(KERNELS_HAVE_AMX)
#include "exec/cpu/kernels_amx.h"
enum { AMX_FROM_ROWS = 4, TILE_POSITIONS = 2 * AMX_ROWS, CHUNK_ROWS = 512 };

/* Sums of a tile (32 rows x 2 blocks) on their way through the epilogue, which
 * runs while the next tile multiplies. */
struct finishing {
    const struct linear_call *call;
    const uint8_t *way;       /* of the call's rows from chunk_first on */
    int are_bounded;          /* all rows, and y lies by its stride */
    int is_plain;             /* besides, two whole blocks */
    uint32_t chunk_first;
    uint32_t first, rows, done, block;
    int pair;
    const int32_t *acc;       /* [32][32] */
    struct finish f[2];
};

ALWAYS_INLINE void finishing_advance(void *context, uint32_t parts)
{
    struct finishing *t = context;
    const struct linear_call *call = t->call;
    uint32_t end = t->done + parts < t->rows ? t->done + parts : t->rows;
    if (t->is_plain) {
        const struct finish f0 = t->f[0], f1 = t->f[1];
        for (uint32_t r = t->done; r < end; r++) {
            uint32_t row = row_of(call, t->first + r);
            int32_t *y = call->y + row * call->y_stride + (size_t)(t->block - call->y_block) * KERNEL_ROWS;
            __m512i s = _mm512_set1_epi64(call->s[row]);
            finish_plain(&f0, s, _mm512_load_si512(t->acc + r * 32), y);
            finish_plain(&f1, s, _mm512_load_si512(t->acc + r * 32 + 16), y + KERNEL_ROWS);
        }
        t->done = end;
        return;
    }
    for (uint32_t r = t->done; r < end; r++) {
        __m512i first = _mm512_load_si512(t->acc + r * 32), second = _mm512_load_si512(t->acc + r * 32 + 16);
        uint32_t row = row_of(call, t->first + r);
        enum row_way way = (enum row_way)t->way[t->first + r - t->chunk_first];
        finish_row(call, &t->f[0], row, t->block, way, first);
        if (t->pair)
            finish_row(call, &t->f[1], row, t->block + 1, way, second);
    }
    t->done = end;
}

/* One tile's products, with the epilogue of the tile before it in between. */
static void multiply_tile(const struct linear_call *call, uint32_t first, uint32_t rows, uint32_t block, int pair,
                          struct finishing *before, int32_t *acc)
{
    const struct packed_linear *linear = call->linear;
    const int8_t *q = call->q + first * call->q_stride, *w0 = linear->weights + (size_t)block * linear->groups * 64;
    const int8_t *w1 = w0 + (size_t)linear->groups * 64;
    uint32_t steps = linear->groups / 16, parts = (before->rows + steps - 1) / steps;
    if (rows > AMX_ROWS && pair)
        amx_product_2x2(q, call->q_stride, w0, w1, steps, acc, finishing_advance, before, parts);
    else if (rows > AMX_ROWS)
        amx_product_2x1(q, call->q_stride, w0, w1, steps, acc, finishing_advance, before, parts);
    else if (pair)
        amx_product_1x2(q, call->q_stride, w0, w1, steps, acc, finishing_advance, before, parts);
    else
        amx_product_1x1(q, call->q_stride, w0, w1, steps, acc, finishing_advance, before, parts);
    finishing_advance(before, before->rows);
}

/* Rows [first, end): whole tiles of 32, or a single smaller one. */
static void linear_tiles(const struct linear_call *call, const uint8_t *way, int is_plain, uint32_t chunk_first,
                         uint32_t first, uint32_t end, uint32_t begin_block, uint32_t end_block)
{
    _Alignas(64) int32_t acc[2][TILE_POSITIONS * 2 * KERNEL_ROWS];
    struct finishing tile = {.call = call, .way = way, .are_bounded = is_plain, .chunk_first = chunk_first};
    uint32_t turn = 0, tile_rows = end - first < TILE_POSITIONS ? end - first : TILE_POSITIONS;
    for (uint32_t block = begin_block; block < end_block; block += 2) {
        int pair = end_block - block >= 2;
        for (uint32_t row = first; row + tile_rows <= end; row += tile_rows, turn ^= 1) {
            multiply_tile(call, row, tile_rows, block, pair, &tile, acc[turn]);
            tile.first = row;
            tile.rows = tile_rows;
            tile.done = 0;
            tile.acc = acc[turn];
            if (tile.block != block || row == first) {
                tile.block = block;
                tile.pair = pair;
                tile.is_plain = tile.are_bounded && (block + 2) * KERNEL_ROWS <= call->linear->rows && pair;
                tile.f[0] = finish_begin(call->linear, block);
                tile.f[1] = finish_begin(call->linear, pair ? block + 1 : block);
            }
        }
    }
    finishing_advance(&tile, tile.rows);
}

static void linear_chunk(const struct linear_call *call, uint32_t first, uint32_t rows, uint32_t begin, uint32_t end)
{
    uint8_t way[CHUNK_ROWS];
    int is_plain = call->y_rows == NULL;
    for (uint32_t r = 0; r < rows; r++) {
        way[r] = (uint8_t)row_way(call->linear, call->s[row_of(call, first + r)]);
        is_plain &= way[r] == ROW_BOUNDED;
    }
    uint32_t whole = rows / TILE_POSITIONS * TILE_POSITIONS, rest = rows - whole;
    if (whole) {
        amx_configure(AMX_ROWS, AMX_ROWS);
        linear_tiles(call, way, is_plain, first, first, first + whole, begin, end);
    }
    if (rest) {
        amx_configure(rest < AMX_ROWS ? rest : AMX_ROWS, rest < AMX_ROWS ? 0 : rest - AMX_ROWS);
        linear_tiles(call, way, is_plain, first, first + whole, first + rows, begin, end);
    }
}

static void linear_amx(const struct linear_call *call, uint32_t begin, uint32_t end)
{
    for (uint32_t first = 0; first < call->rows; first += CHUNK_ROWS)
        linear_chunk(call, first, call->rows - first < CHUNK_ROWS ? call->rows - first : CHUNK_ROWS, begin, end);
    amx_release();
}
#endif

void KERNEL(linear)(const struct linear_call *call, uint32_t begin, uint32_t end, void *scratch)
{
    if (begin >= end)
        return;
#if defined(KERNELS_HAVE_AMX)
    if (call->rows >= AMX_FROM_ROWS) {
        linear_amx(call, begin, end);
        return;
    }
#endif
#if defined(KERNELS_HAVE_LANES) || defined(__AVX512VNNI__)
    enum { MOST_ROWS = KERNEL_CHUNK_ROWS };
#else
    enum { MOST_ROWS = DOT_ROWS };
#endif
    for (uint32_t first = 0; first < call->rows; first += MOST_ROWS) {
        uint32_t rows = call->rows - first < MOST_ROWS ? call->rows - first : MOST_ROWS;
        linear_rows(call, first, rows, begin, end, scratch);
    }
}
