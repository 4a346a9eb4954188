#include "model/dequantize.h"

#include <string.h>

static inline float float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t bits_of_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Branch-free so that loops over it become vector code. Normal numbers, infinity
 * and NaN are re-biased as integers; a subnormal is 2^-14 + its mantissa, less
 * 2^-14, which is exact. */
static inline uint32_t bits_of_half(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t magnitude = (uint32_t)(half & 0x7FFF) << 13;
    uint32_t exponent = magnitude & 0x0F800000;
    uint32_t normal = magnitude + (exponent == 0x0F800000 ? 224u << 23 : 112u << 23);
    uint32_t subnormal = bits_of_float(float_of_bits(magnitude + (113u << 23)) - float_of_bits(113u << 23));
    return sign | (exponent == 0 ? subnormal : normal);
}

float dequantize_half(uint16_t half)
{
    return float_of_bits(bits_of_half(half));
}

static inline uint16_t load_u16(const uint8_t *data)
{
    return (uint16_t)(data[0] | data[1] << 8);
}

static inline float load_half(const uint8_t *data)
{
    return dequantize_half(load_u16(data));
}

static inline uint32_t load_u32(const uint8_t *data)
{
    return data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 | (uint32_t)data[3] << 24;
}

static void dequantize_f32(const uint8_t *data, uint64_t blocks, float *values)
{
    for (uint64_t i = 0; i < blocks; i++) { /* through integers: a signalling NaN stays as it is */
        uint32_t bits = load_u32(data + 4 * i);
        memcpy(values + i, &bits, sizeof bits);
    }
}

static void dequantize_f16(const uint8_t *data, uint64_t blocks, float *values)
{
    for (uint64_t i = 0; i < blocks; i++) {
        uint32_t bits = bits_of_half(load_u16(data + 2 * i));
        memcpy(values + i, &bits, sizeof bits);
    }
}

static void dequantize_bf16(const uint8_t *data, uint64_t blocks, float *values)
{
    for (uint64_t i = 0; i < blocks; i++) {
        uint32_t bits = (uint32_t)load_u16(data + 2 * i) << 16;
        memcpy(values + i, &bits, sizeof bits);
    }
}

/* Blocks of 32 values. Their nibbles are in two halves: value j < 16 is the low
 * nibble of byte j, value j + 16 the high one. */

static void dequantize_q4_0(const uint8_t *data, uint64_t blocks, float *values)
{
    for (uint64_t b = 0; b < blocks; b++, data += 18, values += 32) {
        float d = load_half(data);
        for (int j = 0; j < 16; j++) {
            values[j] = d * (float)((data[2 + j] & 15) - 8);
            values[j + 16] = d * (float)((data[2 + j] >> 4) - 8);
        }
    }
}

static void dequantize_q4_1(const uint8_t *data, uint64_t blocks, float *values)
{
    for (uint64_t b = 0; b < blocks; b++, data += 20, values += 32) {
        float d = load_half(data), m = load_half(data + 2);
        for (int j = 0; j < 16; j++) {
            values[j] = d * (float)(data[4 + j] & 15) + m;
            values[j + 16] = d * (float)(data[4 + j] >> 4) + m;
        }
    }
}

/* Bit i of `bits` as byte i of the result: 16 where it is set. Each byte first
 * keeps its own bit; adding 127 carries any such bit into the byte's top. */
static inline uint64_t spread_bits(uint8_t bits)
{
    uint64_t own = bits * UINT64_C(0x0101010101010101) & UINT64_C(0x8040201008040201);
    return ((own + UINT64_C(0x7F7F7F7F7F7F7F7F)) >> 3) & UINT64_C(0x1010101010101010);
}

/* The 32 five-bit numbers of a Q5_0 or Q5_1 block. */
static inline void unpack_five_bits(const uint8_t *high, const uint8_t *low, uint8_t numbers[32])
{
    for (int byte = 0; byte < 4; byte++) {
        uint64_t spread = spread_bits(high[byte]);
        for (int i = 0; i < 8; i++)
            numbers[8 * byte + i] = (uint8_t)(spread >> 8 * i);
    }
    for (int j = 0; j < 16; j++) {
        numbers[j] |= low[j] & 15;
        numbers[j + 16] |= low[j] >> 4;
    }
}

static void dequantize_q5_0(const uint8_t *data, uint64_t blocks, float *values)
{
    for (uint64_t b = 0; b < blocks; b++, data += 22, values += 32) {
        uint8_t numbers[32];
        float d = load_half(data);
        unpack_five_bits(data + 2, data + 6, numbers);
        for (int j = 0; j < 32; j++)
            values[j] = d * (float)(numbers[j] - 16);
    }
}

static void dequantize_q5_1(const uint8_t *data, uint64_t blocks, float *values)
{
    for (uint64_t b = 0; b < blocks; b++, data += 24, values += 32) {
        uint8_t numbers[32];
        float d = load_half(data), m = load_half(data + 2);
        unpack_five_bits(data + 4, data + 8, numbers);
        for (int j = 0; j < 32; j++)
            values[j] = d * (float)numbers[j] + m;
    }
}

static void dequantize_q8_0(const uint8_t *data, uint64_t blocks, float *values)
{
    for (uint64_t b = 0; b < blocks; b++, data += 34, values += 32) {
        float d = load_half(data);
        for (int j = 0; j < 32; j++)
            values[j] = (float)(int8_t)data[2 + j] * d;
    }
}

/* Super-blocks of 256 values. */

/* 16 scale bytes (scale low, minimum high), 64 bytes of 2-bit numbers, d, dmin.
 * In each half of 128, value 32k + j has bits 2k.. of byte j. */
static void dequantize_q2_k(const uint8_t *data, uint64_t blocks, float *values)
{
    for (uint64_t b = 0; b < blocks; b++, data += 84) {
        const uint8_t *scale = data, *low = data + 16;
        float d = load_half(data + 80), dmin = load_half(data + 82);
        for (int half = 0; half < 2; half++, low += 32) {
            for (int k = 0; k < 8; k++, scale++, values += 16) {
                float dl = d * (float)(*scale & 15), ml = dmin * (float)(*scale >> 4);
                const uint8_t *bytes = low + 16 * (k & 1);
                int shift = k / 2 * 2;
                for (int j = 0; j < 16; j++)
                    values[j] = dl * (float)(bytes[j] >> shift & 3) - ml;
            }
        }
    }
}

/* The 16 six-bit scales of Q3_K, less 32: four low bits in bytes 0..7 (first low
 * nibbles, then high ones), two high bits in bytes 8..11. */
static inline void unpack_q3_k_scales(const uint8_t *packed, int8_t scales[16])
{
    for (int i = 0; i < 16; i++) {
        int low = i < 8 ? packed[i] & 15 : packed[i - 8] >> 4;
        int high = packed[8 + i % 4] >> (i / 4 * 2) & 3;
        scales[i] = (int8_t)((low | high << 4) - 32);
    }
}

/* 32 bytes of high bits (value 32i + j: bit i of byte j; clear means 4 less), 64
 * bytes of low bits as in Q2_K, 12 bytes of scales, d. */
static void dequantize_q3_k(const uint8_t *data, uint64_t blocks, float *values)
{
    for (uint64_t b = 0; b < blocks; b++, data += 110) {
        int8_t scales[16];
        float d = load_half(data + 108);
        unpack_q3_k_scales(data + 96, scales);
        for (int k = 0; k < 16; k++, values += 16) {
            const uint8_t *low = data + 32 + 32 * (k / 8) + 16 * (k & 1), *high = data + 16 * (k & 1);
            int shift = k % 8 / 2 * 2, bit = k / 2;
            float dl = d * (float)scales[k];
            for (int j = 0; j < 16; j++)
                values[j] = dl * (float)((low[j] >> shift & 3) + (high[j] >> bit & 1) * 4 - 4);
        }
    }
}

/* The eight six-bit scales and minima that Q4_K and Q5_K pack in 12 bytes: the
 * first four in the low six bits of bytes 0..3 and 4..7; the last four in the
 * nibbles of bytes 8..11 with two high bits from bytes 0..3 and 4..7. */
static inline void unpack_scales_and_minima(const uint8_t *packed, uint8_t scales[8], uint8_t minima[8])
{
    for (int i = 0; i < 4; i++) {
        scales[i] = packed[i] & 63;
        minima[i] = packed[4 + i] & 63;
        scales[4 + i] = (uint8_t)((packed[8 + i] & 15) | (packed[i] >> 2 & 48));
        minima[4 + i] = (uint8_t)(packed[8 + i] >> 4 | (packed[4 + i] >> 2 & 48));
    }
}

/* d, dmin, 12 bytes of scales and minima, 128 bytes of nibbles: 32 bytes hold
 * the 32 values of an even sub-block (low) and of the next (high). */
static void dequantize_q4_k(const uint8_t *data, uint64_t blocks, float *values)
{
    for (uint64_t b = 0; b < blocks; b++, data += 144) {
        uint8_t scales[8], minima[8];
        float d = load_half(data), dmin = load_half(data + 2);
        unpack_scales_and_minima(data + 4, scales, minima);
        for (int k = 0; k < 8; k++, values += 32) {
            const uint8_t *bytes = data + 16 + 32 * (k / 2);
            int shift = k % 2 * 4;
            float dl = d * (float)scales[k], ml = dmin * (float)minima[k];
            for (int j = 0; j < 32; j++)
                values[j] = dl * (float)(bytes[j] >> shift & 15) - ml;
        }
    }
}

/* As Q4_K, with 32 bytes of fifth bits before the nibbles: sub-block k's value j
 * has bit k of byte j. */
static void dequantize_q5_k(const uint8_t *data, uint64_t blocks, float *values)
{
    for (uint64_t b = 0; b < blocks; b++, data += 176) {
        uint8_t scales[8], minima[8];
        const uint8_t *high = data + 16;
        float d = load_half(data), dmin = load_half(data + 2);
        unpack_scales_and_minima(data + 4, scales, minima);
        for (int k = 0; k < 8; k++, values += 32) {
            const uint8_t *bytes = data + 48 + 32 * (k / 2);
            int shift = k % 2 * 4;
            float dl = d * (float)scales[k], ml = dmin * (float)minima[k];
            for (int j = 0; j < 32; j++)
                values[j] = dl * (float)((bytes[j] >> shift & 15) | (high[j] >> k & 1) << 4) - ml;
        }
    }
}

/* 128 bytes of low nibbles, 64 of high bit pairs, 16 signed scales, d. In each
 * half of 128, values 64n + j have nibble n of byte j (j < 64), and values
 * 32k + j bits 2k.. of high byte j (j < 32). */
static void dequantize_q6_k(const uint8_t *data, uint64_t blocks, float *values)
{
    for (uint64_t b = 0; b < blocks; b++, data += 210) {
        const uint8_t *scale = data + 192;
        float d = load_half(data + 208);
        for (int k = 0; k < 16; k++, scale++, values += 16) {
            int half = k / 8, within = k % 8;
            const uint8_t *low = data + 64 * half + 16 * (within % 4);
            const uint8_t *high = data + 128 + 32 * half + 16 * (within % 2);
            int low_shift = within / 4 * 4, high_shift = within / 2 * 2;
            float dl = d * (float)(int8_t)*scale;
            for (int j = 0; j < 16; j++)
                values[j] = dl * (float)(((low[j] >> low_shift & 15) | (high[j] >> high_shift & 3) << 4) - 32);
        }
    }
}

const char number_formats_read[] =
    "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K and Q6_K";

static const struct number_format formats[] = {
    {0, 1, 4, "F32", dequantize_f32},
    {1, 1, 2, "F16", dequantize_f16},
    {2, 32, 18, "Q4_0", dequantize_q4_0},
    {3, 32, 20, "Q4_1", dequantize_q4_1},
    {6, 32, 22, "Q5_0", dequantize_q5_0},
    {7, 32, 24, "Q5_1", dequantize_q5_1},
    {8, 32, 34, "Q8_0", dequantize_q8_0},
    {9, 32, 40, "Q8_1", NULL},
    {10, 256, 84, "Q2_K", dequantize_q2_k},
    {11, 256, 110, "Q3_K", dequantize_q3_k},
    {12, 256, 144, "Q4_K", dequantize_q4_k},
    {13, 256, 176, "Q5_K", dequantize_q5_k},
    {14, 256, 210, "Q6_K", dequantize_q6_k},
    {15, 256, 292, "Q8_K", NULL},
    {16, 256, 66, "IQ2_XXS", NULL},
    {17, 256, 74, "IQ2_XS", NULL},
    {18, 256, 98, "IQ3_XXS", NULL},
    {19, 256, 50, "IQ1_S", NULL},
    {20, 32, 18, "IQ4_NL", NULL},
    {21, 256, 110, "IQ3_S", NULL},
    {22, 256, 82, "IQ2_S", NULL},
    {23, 256, 136, "IQ4_XS", NULL},
    {24, 1, 1, "I8", NULL},
    {25, 1, 2, "I16", NULL},
    {26, 1, 4, "I32", NULL},
    {27, 1, 8, "I64", NULL},
    {28, 1, 8, "F64", NULL},
    {29, 256, 56, "IQ1_M", NULL},
    {30, 1, 2, "BF16", dequantize_bf16},
    {34, 256, 54, "TQ1_0", NULL},
    {35, 256, 66, "TQ2_0", NULL},
    {39, 32, 17, "MXFP4", NULL},
    {40, 64, 36, "NVFP4", NULL},
    {41, 128, 18, "Q1_0", NULL},
};

const struct number_format *number_format_find(uint32_t id)
{
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (formats[i].id == id)
            return &formats[i];
    return NULL;
}

const struct number_format *number_format_find_name(const char *name)
{
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (strcmp(formats[i].name, name) == 0)
            return &formats[i];
    return NULL;
}
