/* Numbers of schemas, exactly, as decimals; and automata of the JSON numbers that satisfy limits. */
#ifndef EXEC_GRAMMAR_NUMBER_H
#define EXEC_GRAMMAR_NUMBER_H

#include "exec/grammar_automaton.h"

enum {
    DECIMAL_MAX_DIGITS = 400,
    NUMBER_INTEGER_DIGITS = 18, /* written before the point, where no limit needs more */
    NUMBER_DOUBLE_DIGITS = 15,  /* that a binary double keeps apart (IEEE 754): of numbers that must not be whole */
    NUMBER_FRACTION_DIGITS = 16,
    NUMBER_MAX_LIMITS = 8,
    NUMBER_MAX_MULTIPLES = 3
};

/* 0.D1D2D3... times 10^exponent, without zeros at either end; zero has no digits and is not negative. */
struct decimal {
    int negative;
    int exponent;
    size_t count;
    const char *digits;
};

/* A JSON number's value. Digits and exponents beyond DECIMAL_MAX_DIGITS are BULLA_E_LIMIT. */
int decimal_read(struct arena *arena, struct work *work, const char *text, size_t length, struct decimal *value,
                 bulla_error *error);
int decimal_compare(const struct decimal *a, const struct decimal *b);
int decimal_is_integer(const struct decimal *value);
/* Whether `value` is a whole multiple of `factor` (not zero). */
int decimal_is_multiple(const struct decimal *value, const struct decimal *factor);

enum number_relation { NUMBER_ABOVE, NUMBER_AT_LEAST, NUMBER_BELOW, NUMBER_AT_MOST, NUMBER_NOT };

struct number_limit {
    enum number_relation relation;
    struct decimal value;
};
struct number_multiple {
    struct decimal factor;
    int negated; /* no multiple of it */
};

struct number_rules {
    int integer, fractional; /* only whole numbers; none of them */
    int canonical;           /* a value has one spelling only */
    const struct number_limit *limits;
    size_t limit_count;
    const struct number_multiple *multiples;
    size_t multiple_count;
};

int number_satisfies(const struct number_rules *rules, const struct decimal *value);
/* The spellings of numbers that satisfy all rules; with neither limits nor multiples, exponents of two digits too. What
 * needs more states than are possible is BULLA_E_UNSUPPORTED. */
struct automaton *automaton_from_number(struct arena *arena, struct work *work, const struct number_rules *rules,
                                        bulla_error *error);

#endif
