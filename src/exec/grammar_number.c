#include "exec/grammar_number.h"

#include <string.h>

enum { MAX_STATES = 1 << 15, MAX_MODULUS = 1 << 30 };

int decimal_read(struct arena *arena, struct work *work, const char *text, size_t length, struct decimal *value,
                 bulla_error *error)
{
    char *digits = work_alloc(work, arena, length + 1, 1, error);
    if (!digits || work_take(work, 30 + 4 * (uint64_t)length, error))
        return error->code;
    size_t count = 0, at = 0;
    int point = 0, seen_point = 0, exponent = 0, exponent_negative = 0;
    *value = (struct decimal){.digits = digits};
    if (at < length && text[at] == '-') {
        value->negative = 1;
        at++;
    }
    for (; at < length && text[at] != 'e' && text[at] != 'E'; at++) {
        if (text[at] == '.') {
            seen_point = 1;
            continue;
        }
        if (count > 0 || text[at] != '0')
            digits[count++] = text[at];
        point += seen_point ? -(count == 0) : count > 0;
        if (count > DECIMAL_MAX_DIGITS || point < -DECIMAL_MAX_DIGITS)
            return bulla_fail(error, BULLA_E_LIMIT, "a number of more than %d digits", DECIMAL_MAX_DIGITS);
    }
    if (at < length) {
        at++;
        exponent_negative = at < length && text[at] == '-';
        at += at < length && (text[at] == '-' || text[at] == '+');
        for (; at < length && exponent < 100000; at++)
            exponent = 10 * exponent + (text[at] - '0');
    }
    while (count > 0 && digits[count - 1] == '0')
        count--;
    value->count = count;
    value->exponent = count == 0 ? 0 : point + (exponent_negative ? -exponent : exponent);
    if (count == 0)
        value->negative = 0;
    if (value->exponent > DECIMAL_MAX_DIGITS || value->exponent < -DECIMAL_MAX_DIGITS)
        return bulla_fail(error, BULLA_E_LIMIT, "the number %.*s is beyond 10^%d", (int)(length < 60 ? length : 60),
                          text, DECIMAL_MAX_DIGITS);
    return BULLA_OK;
}

static int compare_absolute(const struct decimal *a, const struct decimal *b)
{
    if (a->count == 0 || b->count == 0)
        return (a->count > 0) - (b->count > 0);
    if (a->exponent != b->exponent)
        return a->exponent > b->exponent ? 1 : -1;
    size_t common = a->count < b->count ? a->count : b->count;
    int order = memcmp(a->digits, b->digits, common);
    return order ? (order > 0 ? 1 : -1) : (a->count > b->count) - (a->count < b->count);
}

int decimal_compare(const struct decimal *a, const struct decimal *b)
{
    if (a->negative != b->negative)
        return a->negative ? -1 : 1;
    return a->negative ? -compare_absolute(a, b) : compare_absolute(a, b);
}

int decimal_is_integer(const struct decimal *value)
{
    return value->count == 0 || value->exponent >= (int)value->count;
}

/* The digit of 10^-position: position 0 is before the point, 1 after it. */
static int digit_at(const struct decimal *value, int position)
{
    int index = value->exponent - 1 + position;
    return index >= 0 && index < (int)value->count ? value->digits[index] - '0' : 0;
}

/* Digits after the point. */
static int fraction_digits(const struct decimal *value)
{
    int count = (int)value->count - value->exponent;
    return value->count > 0 && count > 0 ? count : 0;
}

/* The factor times 10^digits as an integer; 0 where that is too large. */
static int64_t scaled(const struct decimal *factor, int digits)
{
    int64_t result = 0;
    for (int position = 1 - factor->exponent; position <= digits; position++) {
        if (factor->exponent > 30 || result > MAX_MODULUS)
            return 0;
        result = 10 * result + digit_at(factor, position);
    }
    return result > MAX_MODULUS ? 0 : result;
}

int decimal_is_multiple(const struct decimal *value, const struct decimal *factor)
{
    int places = fraction_digits(factor);
    int64_t modulus = scaled(factor, places), rest = 0;
    if (value->count == 0)
        return 1;
    if (modulus == 0 || fraction_digits(value) > places)
        return 0;
    for (int position = 1 - value->exponent; position <= places; position++)
        rest = (10 * rest + digit_at(value, position)) % modulus;
    return rest == 0;
}

static int relation_holds(enum number_relation relation, int order)
{
    switch (relation) {
    case NUMBER_ABOVE: return order > 0;
    case NUMBER_AT_LEAST: return order >= 0;
    case NUMBER_BELOW: return order < 0;
    case NUMBER_AT_MOST: return order <= 0;
    default: return order != 0;
    }
}

int number_satisfies(const struct number_rules *rules, const struct decimal *value)
{
    int whole = decimal_is_integer(value);
    if ((rules->integer && !whole) || (rules->fractional && whole))
        return 0;
    for (size_t i = 0; i < rules->limit_count; i++)
        if (!relation_holds(rules->limits[i].relation, decimal_compare(value, &rules->limits[i].value)))
            return 0;
    for (size_t i = 0; i < rules->multiple_count; i++)
        if (decimal_is_multiple(value, &rules->multiples[i].factor) == rules->multiples[i].negated)
            return 0;
    return 1;
}

/* The automaton's states: how far a number is written, and what that decides. */

enum phase { START, SIGN, ZERO, WHOLE, POINT, FRACTION, EXPONENT, EXPONENT_SIGN, EXPONENT_1, EXPONENT_2 };

struct progress {
    uint8_t phase, negative, nonzero, last_zero;
    uint8_t fraction_nonzero, unused;
    uint16_t whole, fraction; /* digits written before and after the point; a lone 0 before it counts none */
    int8_t order[NUMBER_MAX_LIMITS]; /* of the digits so far against the limit's first ones */
    uint32_t rest[NUMBER_MAX_MULTIPLES];
};

struct builder {
    struct arena scratch;
    const struct number_rules *rules;
    int most_whole, most_fraction, exponents;
    int64_t modulus[NUMBER_MAX_MULTIPLES];
    int places[NUMBER_MAX_MULTIPLES];
    struct work *work;
    struct progress *states; /* [capacity] */
    uint32_t (*next)[14];    /* [capacity] */
    uint32_t *slots;         /* [2 * capacity]: numbers + 1 */
    uint32_t count, capacity;
    bulla_error *error;
};

static const char symbols[] = "0123456789-.e+";

static int64_t greatest_divisor(int64_t a, int64_t b)
{
    while (b) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* A factor of whole numbers only: those of its multiples that are whole are the multiples of another. */
static int64_t whole_modulus(int64_t modulus, int places)
{
    for (int i = 0; i < places; i++)
        modulus /= greatest_divisor(modulus, 10);
    return modulus;
}

/* M / gcd(M, 10^places): dividing by gcd(M, 10) `places` times takes out each 2 and 5 at most so often. */
static int prepare_multiples(struct builder *builder)
{
    const struct number_rules *rules = builder->rules;
    if (rules->multiple_count > NUMBER_MAX_MULTIPLES)
        return bulla_fail(builder->error, BULLA_E_UNSUPPORTED, "more than %d factors apply to one number",
                          NUMBER_MAX_MULTIPLES);
    for (size_t i = 0; i < rules->multiple_count; i++) {
        const struct decimal *factor = &rules->multiples[i].factor;
        builder->places[i] = fraction_digits(factor);
        builder->modulus[i] = scaled(factor, builder->places[i]);
        if (builder->modulus[i] == 0)
            return bulla_fail(builder->error, BULLA_E_UNSUPPORTED, "the factor has too many digits");
        if (rules->integer) {
            builder->modulus[i] = whole_modulus(builder->modulus[i], builder->places[i]);
            builder->places[i] = 0;
        }
        if (builder->places[i] < builder->most_fraction)
            builder->most_fraction = builder->places[i];
    }
    return BULLA_OK;
}

static int prepare(struct builder *builder)
{
    const struct number_rules *rules = builder->rules;
    builder->most_whole = NUMBER_INTEGER_DIGITS;
    builder->most_fraction = rules->integer ? 0 : NUMBER_FRACTION_DIGITS;
    if (rules->limit_count > NUMBER_MAX_LIMITS)
        return bulla_fail(builder->error, BULLA_E_UNSUPPORTED, "more than %d limits apply to one number",
                          NUMBER_MAX_LIMITS);
    for (size_t i = 0; i < rules->limit_count; i++) {
        const struct decimal *value = &rules->limits[i].value;
        if (value->exponent + 1 > builder->most_whole)
            builder->most_whole = value->exponent + 1;
        if (!rules->integer && fraction_digits(value) + 2 > builder->most_fraction)
            builder->most_fraction = fraction_digits(value) + 2;
    }
    builder->exponents = !rules->integer && !rules->fractional && !rules->canonical && rules->limit_count == 0 &&
                         rules->multiple_count == 0;
    return prepare_multiples(builder);
}

/* The order of the whole absolute value against the limit's. */
static int order_absolute(const struct progress *progress, size_t index, const struct decimal *limit)
{
    int whole = limit->exponent > 0 ? limit->exponent : 0;
    if (progress->whole != whole)
        return progress->whole > whole ? 1 : -1;
    if (progress->order[index] != 0)
        return progress->order[index];
    return fraction_digits(limit) > progress->fraction ? -1 : 0;
}

static int order_of(const struct progress *progress, size_t index, const struct decimal *limit)
{
    int limit_negative = limit->negative;
    if (progress->negative != limit_negative)
        return progress->negative ? -1 : 1;
    return progress->negative ? -order_absolute(progress, index, limit) : order_absolute(progress, index, limit);
}

static int is_multiple(const struct builder *builder, const struct progress *progress, size_t index)
{
    int64_t rest = progress->rest[index];
    for (int i = progress->fraction; i < builder->places[index]; i++)
        rest = 10 * rest % builder->modulus[index];
    return rest == 0;
}

static int accepts(const struct builder *builder, const struct progress *progress)
{
    const struct number_rules *rules = builder->rules;
    int ends = progress->phase == ZERO || progress->phase == WHOLE || progress->phase == FRACTION ||
               progress->phase == EXPONENT_1 || progress->phase == EXPONENT_2;
    if (!ends || (progress->negative && !progress->nonzero))
        return 0;
    if ((rules->canonical && progress->last_zero) || (rules->fractional && !progress->fraction_nonzero))
        return 0;
    for (size_t i = 0; i < rules->limit_count; i++)
        if (!relation_holds(rules->limits[i].relation, order_of(progress, i, &rules->limits[i].value)))
            return 0;
    for (size_t i = 0; i < rules->multiple_count; i++)
        if (is_multiple(builder, progress, i) == rules->multiples[i].negated)
            return 0;
    return 1;
}

/* Takes a digit into orders and rests. `position` counts from the limit's first digit before the point, or is 1, 2, ...
 * after it. */
static void take_digit(const struct builder *builder, struct progress *progress, int digit, int after_point)
{
    for (size_t i = 0; i < builder->rules->limit_count; i++) {
        const struct decimal *limit = &builder->rules->limits[i].value;
        int whole = limit->exponent > 0 ? limit->exponent : 0;
        int position = after_point ? progress->fraction : progress->whole - whole;
        int compared = after_point ? progress->whole == whole : progress->whole <= whole;
        if (compared && progress->order[i] == 0) {
            int expected = digit_at(limit, position);
            progress->order[i] = (int8_t)((digit > expected) - (digit < expected));
        }
    }
    for (size_t i = 0; i < builder->rules->multiple_count; i++)
        progress->rest[i] = (uint32_t)((10 * (int64_t)progress->rest[i] + digit) % builder->modulus[i]);
    progress->nonzero |= digit != 0;
}

/* Whether a number that must not be whole has as many digits as a reader of doubles can tell from a whole one. */
static int is_full(const struct builder *builder, const struct progress *progress, int more)
{
    return builder->rules->fractional && progress->whole > 0 &&
           progress->whole + progress->fraction + more > NUMBER_DOUBLE_DIGITS;
}

static int step_whole(const struct builder *builder, struct progress *progress, int digit)
{
    if (progress->phase == ZERO || progress->whole == builder->most_whole || is_full(builder, progress, 2))
        return 0;
    if (progress->phase != WHOLE && digit == 0) {
        progress->phase = ZERO;
        return 1;
    }
    progress->phase = WHOLE;
    progress->whole++;
    take_digit(builder, progress, digit, 0);
    return 1;
}

static int step_fraction(const struct builder *builder, struct progress *progress, int digit)
{
    if (progress->fraction == builder->most_fraction || is_full(builder, progress, 1))
        return 0;
    progress->phase = FRACTION;
    progress->fraction++;
    progress->last_zero = digit == 0;
    progress->fraction_nonzero |= digit != 0;
    take_digit(builder, progress, digit, 1);
    return 1;
}

static int step_digit(const struct builder *builder, struct progress *progress, int digit)
{
    switch (progress->phase) {
    case START:
    case SIGN:
    case ZERO:
    case WHOLE:
        return step_whole(builder, progress, digit);
    case POINT:
    case FRACTION:
        return step_fraction(builder, progress, digit);
    case EXPONENT:
    case EXPONENT_SIGN:
        progress->phase = EXPONENT_1;
        return 1;
    case EXPONENT_1:
        progress->phase = EXPONENT_2;
        return 1;
    default:
        return 0;
    }
}

static int step(const struct builder *builder, struct progress *progress, char symbol)
{
    int phase = progress->phase;
    if (symbol >= '0' && symbol <= '9')
        return step_digit(builder, progress, symbol - '0');
    if (symbol == '-' && phase == START) {
        progress->negative = 1;
        progress->phase = SIGN;
        return 1;
    }
    if (symbol == '.' && (phase == ZERO || phase == WHOLE)) {
        progress->phase = POINT;
        return builder->most_fraction > 0;
    }
    if (symbol == 'e' && (phase == ZERO || phase == WHOLE || phase == FRACTION)) {
        progress->phase = EXPONENT;
        return builder->exponents;
    }
    if ((symbol == '-' || symbol == '+') && phase == EXPONENT) {
        progress->phase = EXPONENT_SIGN;
        return 1;
    }
    return 0;
}

/* Of states that differ only in what no longer matters, one. */
static void normalize(const struct builder *builder, struct progress *progress)
{
    if (progress->phase >= EXPONENT) {
        *progress = (struct progress){.phase = progress->phase, .negative = progress->negative,
                                      .nonzero = progress->nonzero};
        return;
    }
    if (!builder->rules->canonical)
        progress->last_zero = 0;
    if (!builder->rules->fractional)
        progress->fraction_nonzero = 0;
}

static uint64_t hash_progress(const struct progress *progress)
{
    uint64_t hash = UINT64_C(0x9E3779B97F4A7C15);
    const uint8_t *bytes = (const uint8_t *)progress;
    for (size_t i = 0; i < sizeof *progress; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001B3);
    return hash ^ hash >> 29;
}

static int grow(struct builder *builder)
{
    uint32_t capacity = builder->capacity ? 2 * builder->capacity : 128;
    struct arena *scratch = &builder->scratch;
    struct progress *states = work_alloc(builder->work, scratch, capacity, sizeof *states, builder->error);
    uint32_t(*next)[14] = work_alloc(builder->work, scratch, capacity, sizeof *next, builder->error);
    uint32_t *slots = work_alloc(builder->work, scratch, 2 * (size_t)capacity, sizeof *slots, builder->error);
    if (!states || !next || !slots || work_take(builder->work, 100 * (uint64_t)builder->count, builder->error))
        return 0;
    if (builder->count > 0) {
        memcpy(states, builder->states, builder->count * sizeof *states);
        memcpy(next, builder->next, builder->count * sizeof *next);
    }
    for (uint32_t i = 0; i < builder->count; i++) {
        size_t slot = hash_progress(&states[i]) & (2 * capacity - 1);
        while (slots[slot])
            slot = (slot + 1) & (2 * capacity - 1);
        slots[slot] = i + 1;
    }
    builder->states = states;
    builder->next = next;
    builder->slots = slots;
    builder->capacity = capacity;
    return 1;
}

static uint32_t state_add(struct builder *builder, const struct progress *progress)
{
    if (builder->count == builder->capacity && builder->count < MAX_STATES && !grow(builder))
        return AUTOMATON_DEAD;
    size_t mask = 2 * builder->capacity - 1, slot = hash_progress(progress) & mask;
    for (; builder->slots[slot]; slot = (slot + 1) & mask)
        if (memcmp(&builder->states[builder->slots[slot] - 1], progress, sizeof *progress) == 0)
            return builder->slots[slot] - 1;
    if (builder->count == MAX_STATES) {
        bulla_fail(builder->error, BULLA_E_UNSUPPORTED, "the limits of a number together need more than %d states",
                   MAX_STATES);
        return AUTOMATON_DEAD;
    }
    builder->states[builder->count] = *progress;
    builder->slots[slot] = ++builder->count;
    return builder->count - 1;
}

/* What the steps from one state cost. */
static uint64_t state_cost(const struct number_rules *rules)
{
    return 14 * (80 + 12 * (uint64_t)rules->limit_count + 10 * (uint64_t)rules->multiple_count);
}

static int explore(struct builder *builder)
{
    struct progress start;
    memset(&start, 0, sizeof start); /* padding is compared too */
    if (state_add(builder, &start) == AUTOMATON_DEAD)
        return builder->error->code;
    for (uint32_t state = 0; state < builder->count; state++) {
        if (work_take(builder->work, state_cost(builder->rules), builder->error))
            return builder->error->code;
        for (size_t i = 0; i < sizeof symbols - 1; i++) {
            struct progress progress = builder->states[state];
            builder->next[state][i] = AUTOMATON_DEAD;
            if (!step(builder, &progress, symbols[i]))
                continue;
            normalize(builder, &progress);
            uint32_t target = state_add(builder, &progress); /* which may move the states */
            if (builder->error->code)
                return builder->error->code;
            builder->next[state][i] = target;
        }
    }
    return BULLA_OK;
}

/* What asking whether one state accepts costs: rests are followed to the factor's last digit. */
static uint64_t accept_cost(const struct builder *builder)
{
    uint64_t cost = 20 + 10 * (uint64_t)builder->rules->limit_count;
    for (size_t i = 0; i < builder->rules->multiple_count; i++)
        cost += 10 + 10 * (uint64_t)builder->places[i];
    return cost;
}

static struct automaton *write_automaton(struct builder *builder, struct arena *arena)
{
    static const uint32_t boundaries[] = {0, '+', ',', '-', '.', '/', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9',
                                          ':', 'E', 'F', 'e', 'f'};
    const uint32_t count = sizeof boundaries / sizeof *boundaries;
    struct automaton *automaton =
        automaton_new(arena, builder->work, builder->count, boundaries, NULL, count, count, builder->error);
    if (!automaton || work_take(builder->work, builder->count * (50 + accept_cost(builder)), builder->error))
        return NULL;
    for (uint32_t state = 0; state < builder->count; state++) {
        automaton->accepts[state] = (uint8_t)accepts(builder, &builder->states[state]);
        uint32_t *row = automaton->next + (size_t)state * automaton->classes;
        for (size_t i = 0; i < sizeof symbols - 1; i++)
            row[automaton->ascii_class[(unsigned char)symbols[i]]] = builder->next[state][i];
        row[automaton->ascii_class['E']] = row[automaton->ascii_class['e']];
    }
    return automaton_finish(arena, builder->work, automaton, builder->error) ? NULL : automaton;
}

struct automaton *automaton_from_number(struct arena *arena, struct work *work, const struct number_rules *rules,
                                        bulla_error *error)
{
    struct builder builder = {.scratch = {.limit = arena->limit}, .work = work, .rules = rules, .error = error};
    struct automaton *automaton = NULL;
    if (prepare(&builder))
        return NULL;
    if (!explore(&builder))
        automaton = write_automaton(&builder, arena);
    arena_free(&builder.scratch);
    return automaton;
}
