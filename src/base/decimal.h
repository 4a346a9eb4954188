/* Decimal text and binary64, exactly and in any locale. */
#ifndef BASE_DECIMAL_H
#define BASE_DECIMAL_H

#include <stddef.h>
#include <stdint.h>

/* The shortest decimal that reads back as `value` (finite, not 0; its sign is
 * ignored), and of those the closest: 0.D1D2D3... times 10^exponent, without
 * trailing zeros. `digits` is NUL-terminated; returns how many there are (1..17). */
int decimal_shortest(double value, char digits[18], int *exponent);

/* The binary64 nearest to `text`, ties to even: [-]digits[.digits][(e|E)[+-]digits],
 * which the caller has checked. Infinity when too large. */
double decimal_parse(const char *text, size_t length);

/* The same text in millionths, exactly: floor(1,000,000 value + 1/2). 0 where that does not fit int64. */
int decimal_millionths(const char *text, size_t length, int64_t *millionths);

#endif
