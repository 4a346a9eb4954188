#include "exec/cpu/pack.h"

#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

void pack_linear_shape(struct packed_linear *linear, uint32_t rows, uint32_t columns, int32_t k1, int32_t k2)
{
    *linear = (struct packed_linear){.rows = rows, .columns = columns, .k1 = k1, .k2 = k2};
    linear->blocks = (uint32_t)(kernel_round_up(rows, KERNEL_ROWS) / KERNEL_ROWS);
    linear->groups = (uint32_t)(kernel_round_up(columns, KERNEL_COLUMNS) / 4);
}

static void pack_row(int8_t *block, uint32_t lane, const int8_t *row, uint32_t columns)
{
    uint32_t whole = columns / 4;
    int8_t *to = block + lane * 4;
    for (uint32_t g = 0; g < whole; g++)
        memcpy(to + (size_t)g * 64, row + (size_t)g * 4, 4);
    if (columns % 4)
        memcpy(to + (size_t)whole * 64, row + (size_t)whole * 4, columns % 4);
}

/* Sum of the row's elements, and of their magnitudes. */
static int32_t row_sum(const int8_t *row, uint32_t columns, uint32_t *magnitude)
{
    int32_t sum = 0;
    uint32_t i = 0, magnitudes = 0;
#if defined(__SSE2__)
    const __m128i zero = _mm_setzero_si128(), flip = _mm_set1_epi8((char)0x80);
    __m128i sums = zero, most = zero;
    for (; i + 16 <= columns; i += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(row + i)), sign = _mm_cmpgt_epi8(zero, v);
        sums = _mm_add_epi64(sums, _mm_sad_epu8(_mm_xor_si128(v, flip), zero)); /* of v + 128 */
        most = _mm_add_epi64(most, _mm_sad_epu8(_mm_sub_epi8(_mm_xor_si128(v, sign), sign), zero));
    }
    sum = _mm_cvtsi128_si32(_mm_add_epi64(sums, _mm_unpackhi_epi64(sums, sums))) - 128 * (int32_t)i;
    magnitudes = (uint32_t)_mm_cvtsi128_si32(_mm_add_epi64(most, _mm_unpackhi_epi64(most, most)));
#endif
    for (; i < columns; i++) {
        sum += row[i];
        magnitudes += (uint32_t)(row[i] < 0 ? -row[i] : row[i]);
    }
    *magnitude = magnitudes;
    return sum;
}

static void raise_bound(uint32_t *bound, uint32_t value)
{
    uint32_t now = __atomic_load_n(bound, __ATOMIC_RELAXED);
    while (value > now && !__atomic_compare_exchange_n(bound, &now, value, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
}

/* A block's rows [0, rows): whole groups of whole rows by fours, the rest one by one. */
static void pack_rows(int8_t *block, const int8_t *from, uint32_t rows, uint32_t columns, uint32_t groups)
{
    uint32_t whole = columns / 4, packed = 0;
#if defined(__SSE2__)
    /* Four rows' groups of four bytes turned: 4 x 4 words of 32 bits. */
    for (; rows == KERNEL_ROWS && (packed + 4) * 4 <= columns; packed += 4)
        for (uint32_t lane = 0; lane < KERNEL_ROWS; lane += 4) {
            __m128i row[4];
            for (uint32_t r = 0; r < 4; r++)
                row[r] = _mm_loadu_si128((const __m128i *)(const void *)(from + (size_t)(lane + r) * columns + packed * 4));
            __m128i low01 = _mm_unpacklo_epi32(row[0], row[1]), low23 = _mm_unpacklo_epi32(row[2], row[3]);
            __m128i high01 = _mm_unpackhi_epi32(row[0], row[1]), high23 = _mm_unpackhi_epi32(row[2], row[3]);
            __m128i *to = (__m128i *)(void *)(block + (size_t)packed * 64 + lane * 4);
            _mm_store_si128(to, _mm_unpacklo_epi64(low01, low23));
            _mm_store_si128(to + 4, _mm_unpackhi_epi64(low01, low23));
            _mm_store_si128(to + 8, _mm_unpacklo_epi64(high01, high23));
            _mm_store_si128(to + 12, _mm_unpackhi_epi64(high01, high23));
        }
#endif
    if (whole < groups)
        memset(block + (size_t)whole * 64, 0, (size_t)(groups - whole) * 64);
    for (uint32_t lane = 0; lane < KERNEL_ROWS; lane++)
        if (lane < rows)
            pack_row(block + (size_t)packed * 64, lane, from + (size_t)lane * columns + (size_t)packed * 4,
                     columns - packed * 4);
        else
            for (uint32_t g = 0; g < whole; g++)
                memset(block + (size_t)g * 64 + lane * 4, 0, 4);
}

void pack_linear_blocks(struct packed_linear *linear, const struct pack_target *target, const int8_t *W,
                        const uint16_t *M, const int32_t *bias, uint32_t begin, uint32_t end)
{
    uint32_t most = 0, largest_M = 0, largest_bias = 0;
    for (uint32_t b = begin; b < end; b++) {
        uint32_t first = b * KERNEL_ROWS, rows = linear->rows - first < KERNEL_ROWS ? linear->rows - first : KERNEL_ROWS;
        const int8_t *from = W + (size_t)first * linear->columns;
        pack_rows(target->weights + (size_t)b * linear->groups * 64, from, rows, linear->columns, linear->groups);
        for (uint32_t row = first; row < first + KERNEL_ROWS; row++) {
            int there = row < linear->rows;
            uint32_t magnitude = 0;
            target->M[row] = there ? M[row] : 0;
            target->bias[row] = there && bias ? bias[row] : 0;
            target->offset[row] = 0;
            if (!there)
                continue;
            target->offset[row] = (int32_t)(-128u * (uint32_t)row_sum(from, linear->columns, &magnitude));
            from += linear->columns;
            uint32_t bias_magnitude = target->bias[row] < 0 ? -(uint32_t)target->bias[row] : (uint32_t)target->bias[row];
            most = magnitude > most ? magnitude : most;
            largest_M = M[row] > largest_M ? M[row] : largest_M;
            largest_bias = bias_magnitude > largest_bias ? bias_magnitude : largest_bias;
        }
    }
    raise_bound(&linear->largest_magnitude, most);
    raise_bound(&linear->largest_M, largest_M);
    raise_bound(&linear->largest_bias, largest_bias);
}

/* Whether no result can leave 31 bits at this s < 2^32. */
static int is_bounded(const struct packed_linear *linear, int64_t s)
{
    int64_t half1 = linear->k1 ? INT64_C(1) << (linear->k1 - 1) : 0, half2 = linear->k2 ? INT64_C(1) << (linear->k2 - 1) : 0;
    int64_t S = (s * linear->largest_M + half1) >> linear->k1;
    if (S >= INT64_C(1) << 31)
        return 0;
    int64_t largest = (INT64_C(127) * linear->largest_magnitude * S + half2) >> linear->k2;
    return largest + 1 + (int64_t)linear->largest_bias < INT64_C(1) << 31;
}

void pack_linear_finish(struct packed_linear *linear)
{
    int64_t low = -1, high = INT64_C(1) << 32; /* bounded at low, not (or not asked) at high */
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (is_bounded(linear, middle))
            low = middle;
        else
            high = middle;
    }
    linear->bounded_s = low;
}

void pack_key(int8_t *k8, int16_t *k_sum, uint32_t slot, const int8_t *key, uint32_t size, uint32_t padded)
{
    int8_t *block = k8 + (size_t)(slot / KERNEL_ROWS) * padded * KERNEL_ROWS;
    for (uint32_t g = size / 4; g < padded / 4; g++)
        memset(block + (size_t)g * 64 + slot % KERNEL_ROWS * 4, 0, 4);
    pack_row(block, slot % KERNEL_ROWS, key, size);
    uint32_t magnitude;
    k_sum[slot] = (int16_t)row_sum(key, size, &magnitude);
}

void pack_value(int8_t *v8, uint32_t slot, const int8_t *value, uint32_t size)
{
    int8_t *to = v8 + slot / 4 * 64 + slot % 4;
    for (uint32_t i = 0; i < size; i++)
        to[(size_t)(i / KERNEL_ROWS) * KERNEL_POSITIONS * KERNEL_ROWS + i % KERNEL_ROWS * 4] = value[i];
}

void pack_four_values(int8_t *v8, uint32_t slot, const int8_t *values, size_t stride, uint32_t size)
{
    uint32_t i = 0;
#if defined(__SSE2__)
    /* Bytes of 16 dimensions interleaved: (0, 1) and (2, 3), then pairs of both. */
    int8_t *line = v8 + slot / 4 * 64;
    for (; i + KERNEL_ROWS <= size; i += KERNEL_ROWS, line += KERNEL_POSITIONS * KERNEL_ROWS) {
        __m128i v[4];
        for (int p = 0; p < 4; p++)
            v[p] = _mm_loadu_si128((const __m128i *)(const void *)(values + p * stride + i));
        __m128i low01 = _mm_unpacklo_epi8(v[0], v[1]), high01 = _mm_unpackhi_epi8(v[0], v[1]);
        __m128i low23 = _mm_unpacklo_epi8(v[2], v[3]), high23 = _mm_unpackhi_epi8(v[2], v[3]);
        __m128i *to = (__m128i *)(void *)line;
        _mm_store_si128(to, _mm_unpacklo_epi16(low01, low23));
        _mm_store_si128(to + 1, _mm_unpackhi_epi16(low01, low23));
        _mm_store_si128(to + 2, _mm_unpacklo_epi16(high01, high23));
        _mm_store_si128(to + 3, _mm_unpackhi_epi16(high01, high23));
    }
#endif
    for (uint32_t p = 0; p < 4 && i < size; p++)
        pack_value(v8 + (size_t)i / KERNEL_ROWS * KERNEL_POSITIONS * KERNEL_ROWS, slot + p, values + p * stride + i, size - i);
}
