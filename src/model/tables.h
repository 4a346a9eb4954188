/* The integer tables of docs/canonical.md. Each is the correctly rounded value
 * of its formula. */
#ifndef MODEL_TABLES_H
#define MODEL_TABLES_H

#include <stdint.h>

/* round((2^bits - 1) * 2^(-i/1024)), i < 1024 */
void tables_exp(int bits, uint32_t mantissas[1024]);
/* round(16384 * cos(2*pi*i / 2^16)) */
void tables_cosine(int16_t cosine[65536]);

enum tables_activation { TABLES_SILU, TABLES_GELU_TANH };
/* The activation at -16 + i/32 in Q16, i <= 1024. gelu_tanh is
 * x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))) (Hendrycks and Gimpel, 2016). */
void tables_activation(enum tables_activation activation, int32_t A[1025]);
/* cap * tanh(x / cap) * 2^F at x = (i * 2^10 - 2^19) / 2^F, where `unit` is the
 * real value of 1.0 (attention's scores are in log2 units: unit = ln 2, F = 10;
 * logits: unit = 1). */
void tables_softcap(double cap, int logarithmic, int F, int32_t A[1025]);

#endif
