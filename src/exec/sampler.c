/* docs/canonical.md, "Sampling". Ids whose weight is 0 can never be drawn, and
 * their rank is behind all others: so only ids within 24 octaves of the largest
 * logit are looked at, in ascending order throughout. Where a rank is needed
 * (top_k, top_p) they are counted by weight instead of sorted. */
#include "bulla/sampler.h"

#include <string.h>

#include "base/buffer.h"
#include "base/hash.h"
#include "base/memory.h"
#include "exec/sampler_terms.h"

enum {
    MILLION = SAMPLER_MILLION,
    SCALE = SAMPLER_SCALE,
    OCTAVES = 24,
    DISTANCES = OCTAVES * 1024 /* D of the ids with a weight lie below */
};

/* An id whose logit is changed. */
struct change {
    uint32_t id;
    int was_seen;      /* in the prompt or generated: repetition */
    uint64_t generated; /* times */
    int128 logit;
};

struct bulla_sampler {
    uint32_t vocabulary;
    uint32_t weights[DISTANCES]; /* EXP24[D]: falling */
    uint32_t counts[DISTANCES];  /* candidates by D */
    uint32_t *ids;               /* [vocabulary]: candidates, ascending */
    uint16_t *distances;         /* [vocabulary]: their D */
    int32_t *adjusted;           /* [vocabulary] */
    uint32_t *slots;             /* [vocabulary]: 1 + index in changes; 0 between draws */
    struct change *changes;      /* [vocabulary] */
    uint32_t change_count;
};

void bulla_sampling_defaults(bulla_sampling *sampling)
{
    *sampling = (bulla_sampling){.top_p = MILLION, .repetition = MILLION};
}

static int check_field(const char *name, int64_t value, int64_t low, int64_t high, bulla_error *error)
{
    if (value >= low && value <= high)
        return BULLA_OK;
    return bulla_fail(error, BULLA_E_USAGE, "sampling: %s is %lld millionths, expected %lld to %lld", name,
                      (long long)value, (long long)low, (long long)high);
}

static int64_t clamped(uint64_t value)
{
    return value > INT64_MAX ? INT64_MAX : (int64_t)value;
}

/* All that bulla_sampler_draw relies on. */
static int check_fields(const bulla_sampling *sampling, uint32_t vocabulary, bulla_error *error)
{
    if (check_field("temperature", clamped(sampling->temperature), 0, 100 * MILLION, error) ||
        check_field("top_p", clamped(sampling->top_p), 0, MILLION, error) ||
        check_field("min_p", clamped(sampling->min_p), 0, MILLION, error) ||
        check_field("repetition", clamped(sampling->repetition), 10000, 100 * MILLION, error) ||
        check_field("presence", sampling->presence, -100 * MILLION, 100 * MILLION, error) ||
        check_field("frequency", sampling->frequency, -100 * MILLION, 100 * MILLION, error))
        return BULLA_E_USAGE;
    for (size_t i = 0; i < sampling->bias_count; i++) {
        if (sampling->biases[i].id >= vocabulary)
            return bulla_fail(error, BULLA_E_USAGE, "sampling: a logit bias for id %u, expected one below the vocabulary "
                              "of %u", sampling->biases[i].id, vocabulary);
        if (check_field("a logit bias", sampling->biases[i].bias, -1000 * MILLION, 1000 * MILLION, error))
            return BULLA_E_USAGE;
    }
    return BULLA_OK;
}

int bulla_sampling_check(const bulla_sampling *sampling, uint32_t vocabulary, bulla_error *error)
{
    int code = check_fields(sampling, vocabulary, error);
    if (code || sampling->bias_count < 2)
        return code;
    uint64_t *seen = memory_alloc((size_t)vocabulary / 64 + 1, sizeof *seen, error);
    if (!seen)
        return BULLA_E_MEMORY;
    for (size_t i = 0; i < sampling->bias_count && code == BULLA_OK; i++) {
        uint32_t id = sampling->biases[i].id;
        if (seen[id / 64] >> (id & 63) & 1)
            code = bulla_fail(error, BULLA_E_USAGE, "sampling: two logit biases for id %u, expected one at most", id);
        seen[id / 64] |= UINT64_C(1) << (id & 63);
    }
    memory_free(seen);
    return code;
}

/* name || a || b */
static void write_message(const char name[12], uint64_t a, uint64_t b, uint8_t message[SAMPLER_MESSAGE])
{
    memcpy(message, name, 12);
    for (int i = 0; i < 8; i++) {
        message[12 + i] = (uint8_t)(a >> 8 * i);
        message[20 + i] = (uint8_t)(b >> 8 * i);
    }
}

void sampler_draw_message(uint64_t seed, uint64_t position, uint8_t message[SAMPLER_MESSAGE])
{
    write_message("bulla-sample", seed, position, message);
}

/* The first 8 bytes, little-endian, of a message's SHA-256. */
static int hash_message(const uint8_t message[SAMPLER_MESSAGE], uint64_t *result, bulla_error *error)
{
    uint8_t digest[HASH_SHA256_BYTES];
    int code = hash_sha256(message, SAMPLER_MESSAGE, digest, error);
    struct reader reader = reader_over(digest, sizeof digest);
    *result = code ? 0 : reader_u64(&reader);
    return code;
}

uint64_t bulla_sampling_choice_seed(uint64_t seed, uint64_t choice)
{
    uint8_t message[SAMPLER_MESSAGE];
    uint64_t result;
    write_message("bulla-choice", seed, choice, message);
    hash_message(message, &result, NULL);
    return result;
}

int bulla_sampler_open(uint32_t vocabulary, const uint32_t exp24[1024], bulla_sampler **result, bulla_error *error)
{
    *result = NULL;
    bulla_sampler *sampler = memory_alloc(1, sizeof *sampler, error);
    if (!sampler)
        return BULLA_E_MEMORY;
    sampler->vocabulary = vocabulary;
    for (uint32_t D = 0; D < DISTANCES; D++)
        sampler->weights[D] = exp24[D & 1023] >> (D >> 10);
    sampler->ids = memory_alloc(vocabulary, sizeof *sampler->ids, error);
    sampler->distances = memory_alloc(vocabulary, sizeof *sampler->distances, error);
    sampler->adjusted = memory_alloc(vocabulary, sizeof *sampler->adjusted, error);
    sampler->slots = memory_alloc(vocabulary, sizeof *sampler->slots, error);
    sampler->changes = memory_alloc(vocabulary, sizeof *sampler->changes, error);
    if (!sampler->ids || !sampler->distances || !sampler->adjusted || !sampler->slots || !sampler->changes) {
        bulla_sampler_close(sampler);
        return BULLA_E_MEMORY;
    }
    *result = sampler;
    return BULLA_OK;
}

void bulla_sampler_close(bulla_sampler *sampler)
{
    if (!sampler)
        return;
    memory_free(sampler->ids);
    memory_free(sampler->distances);
    memory_free(sampler->adjusted);
    memory_free(sampler->slots);
    memory_free(sampler->changes);
    memory_free(sampler);
}

/* floor(numerator / denominator + 1/2), denominator > 0. Nearly all numbers fit into 64 bits, whose quotient takes a
 * third of the time. */
static int128 divide_half_up(int128 numerator, int64_t denominator)
{
    int128 twice = 2 * numerator + denominator, divisor = 2 * (int128)denominator;
    int fits = twice == (int64_t)twice && divisor == (int64_t)divisor;
    int128 quotient = fits ? (int64_t)twice / (int64_t)divisor : twice / divisor;
    return quotient * divisor > twice ? quotient - 1 : quotient;
}

int128 sampler_logit_units(int128 millionths, int F)
{
    return divide_half_up(millionths * (INT64_C(1) << F), MILLION);
}

static struct change *change_of(bulla_sampler *sampler, uint32_t id, const int32_t *logits)
{
    if (sampler->slots[id] == 0) {
        sampler->changes[sampler->change_count] = (struct change){.id = id, .logit = logits[id]};
        sampler->slots[id] = ++sampler->change_count;
    }
    return &sampler->changes[sampler->slots[id] - 1];
}

static int is_allowed(const uint64_t *allowed, uint32_t id)
{
    return !allowed || (allowed[id / 64] >> (id & 63) & 1);
}

int128 sampler_penalised(const bulla_sampling *sampling, int F, int128 logit, int was_seen, uint64_t generated)
{
    if (was_seen && logit > 0)
        logit = divide_half_up(logit * MILLION, (int64_t)sampling->repetition);
    else if (was_seen)
        logit = divide_half_up(logit * (int128)sampling->repetition, MILLION);
    if (generated)
        logit -= sampler_logit_units(sampling->presence, F);
    return logit - sampler_logit_units((int128)sampling->frequency * (int64_t)generated, F);
}

/* Everything said about a draw but its result. */
struct draw {
    const bulla_sampling *sampling;
    const int32_t *logits;
    int F;
    const uint32_t *prompt, *generated;
    size_t prompt_count, generated_count;
    const uint64_t *allowed;
    uint64_t position;
};

/* Writes the changed logits over a copy of all. */
static int apply_changes(bulla_sampler *sampler, struct draw *draw, bulla_error *error)
{
    memcpy(sampler->adjusted, draw->logits, sampler->vocabulary * sizeof *sampler->adjusted);
    draw->logits = sampler->adjusted;
    for (uint32_t i = 0; i < sampler->change_count; i++) {
        const struct change *change = &sampler->changes[i];
        int128 logit = sampler_penalised(draw->sampling, draw->F, change->logit, change->was_seen, change->generated);
        if (!is_allowed(draw->allowed, change->id))
            continue;
        if (logit <= INT32_MIN || logit > INT32_MAX)
            return bulla_fail(error, BULLA_E_RANGE, "sampling: the adjusted logit of id %u does not fit in 32 bits",
                              change->id);
        sampler->adjusted[change->id] = (int32_t)logit;
    }
    return BULLA_OK;
}

/* Bias, repetition, presence and frequency. */
static int adjust(bulla_sampler *sampler, struct draw *draw, bulla_error *error)
{
    const bulla_sampling *sampling = draw->sampling;
    const int32_t *logits = draw->logits;
    for (size_t i = 0; i < sampling->bias_count; i++)
        change_of(sampler, sampling->biases[i].id, logits)->logit += sampler_logit_units(sampling->biases[i].bias, draw->F);
    int repetition = sampling->repetition != MILLION;
    if (repetition)
        for (size_t i = 0; i < draw->prompt_count; i++)
            change_of(sampler, draw->prompt[i], logits)->was_seen = 1;
    if (repetition || sampling->presence || sampling->frequency)
        for (size_t i = 0; i < draw->generated_count; i++) {
            struct change *change = change_of(sampler, draw->generated[i], logits);
            change->was_seen = repetition;
            change->generated++;
        }
    int code = sampler->change_count ? apply_changes(sampler, draw, error) : BULLA_OK;
    for (uint32_t i = 0; i < sampler->change_count; i++)
        sampler->slots[sampler->changes[i].id] = 0;
    sampler->change_count = 0;
    return code;
}

static int32_t largest_of(const int32_t *values, uint32_t count)
{
    int32_t largest = values[0];
    for (uint32_t i = 1; i < count; i++)
        largest = values[i] > largest ? values[i] : largest;
    return largest;
}

/* The lowest id with the largest logit, by blocks so that the compiler's vector
 * code only has to find a maximum. */
static uint32_t find_largest(const int32_t *logits, uint32_t count)
{
    enum { BLOCK = 2048 };
    uint32_t start = 0;
    int32_t best = logits[0];
    for (uint32_t at = 0; at < count; at += BLOCK) {
        int32_t largest = largest_of(logits + at, count - at < BLOCK ? count - at : BLOCK);
        if (largest > best) {
            best = largest;
            start = at;
        }
    }
    while (logits[start] != best)
        start++;
    return start;
}

/* The same among allowed ids; `count` when there is none. */
static uint32_t find_largest_allowed(const int32_t *logits, uint32_t count, const uint64_t *allowed)
{
    uint32_t best = count;
    for (uint32_t word = 0; word <= (count - 1) / 64; word++)
        for (uint64_t bits = allowed[word]; bits; bits &= bits - 1) {
            uint32_t id = word * 64 + (uint32_t)__builtin_ctzll(bits);
            if (id < count && (best == count || logits[id] > logits[best]))
                best = id;
        }
    return best;
}

/* Ids that are allowed and at least `least`, ascending, into sampler->ids. */
static uint32_t collect(bulla_sampler *sampler, const struct draw *draw, int64_t least)
{
    uint32_t count = 0, vocabulary = sampler->vocabulary;
    if (!draw->allowed) {
        for (uint32_t id = 0; id < vocabulary; id++) {
            sampler->ids[count] = id;
            count += draw->logits[id] >= least;
        }
        return count;
    }
    for (uint32_t word = 0; word <= (vocabulary - 1) / 64; word++)
        for (uint64_t bits = draw->allowed[word]; bits; bits &= bits - 1) {
            uint32_t id = word * 64 + (uint32_t)__builtin_ctzll(bits);
            if (id < vocabulary && draw->logits[id] >= least)
                sampler->ids[count++] = id;
        }
    return count;
}

/* D = floor((largest - l) * SCALE / divisor) of each candidate. The quotient by a
 * reciprocal is at most one too small: `reciprocal` = floor(SCALE * 2^shift / divisor)
 * is less than 1 off, times a difference below 2^32, over 2^shift with shift >= 33. */
static void measure(bulla_sampler *sampler, const struct draw *draw, int64_t largest, uint64_t divisor, uint32_t count)
{
    uint64_t whole = SCALE / divisor;
    int shift = whole ? __builtin_clzll(whole) : 64;
    uint64_t reciprocal = (uint64_t)(((uint128)SCALE << shift) / divisor);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t difference = (uint64_t)(largest - draw->logits[sampler->ids[i]]);
        uint64_t D = (uint64_t)((uint128)difference * reciprocal >> shift);
        D += (D + 1) * divisor <= difference * SCALE;
        sampler->distances[i] = (uint16_t)D;
    }
}

/* What top_k, top_p and min_p leave: every weight above `weight`, and of those
 * equal to it the `ties` lowest ids. */
struct cut {
    uint32_t weight;
    uint64_t ties;
};

/* The candidates with one weight: D from *D on. 0 after the last with a weight. */
static int next_weight(const bulla_sampler *sampler, uint32_t *D, uint32_t *weight, uint64_t *count)
{
    while (*D < DISTANCES && sampler->counts[*D] == 0)
        ++*D;
    if (*D == DISTANCES || sampler->weights[*D] == 0)
        return 0;
    *weight = sampler->weights[*D];
    for (*count = 0; *D < DISTANCES && sampler->weights[*D] == *weight; ++*D)
        *count += sampler->counts[*D];
    return 1;
}

static struct cut find_cut(bulla_sampler *sampler, const bulla_sampling *sampling, uint32_t candidates)
{
    memset(sampler->counts, 0, sizeof sampler->counts);
    for (uint32_t i = 0; i < candidates; i++)
        sampler->counts[sampler->distances[i]]++;
    uint64_t top_k = sampling->top_k ? sampling->top_k : candidates, left = top_k, P = 0, count;
    uint32_t weight;
    for (uint32_t D = 0; left && next_weight(sampler, &D, &weight, &count);) {
        count = count < left ? count : left;
        left -= count;
        P += count * weight;
    }
    /* The shortest prefix with 10^6 * sum >= top_p * P: at least one id. */
    uint64_t needed = (uint64_t)(((uint128)sampling->top_p * P + MILLION - 1) / MILLION), sum = 0;
    needed = needed ? needed : 1;
    struct cut cut = {0, 0};
    left = top_k;
    for (uint32_t D = 0; left && sum < needed && next_weight(sampler, &D, &weight, &count);) {
        uint64_t wanted = (needed - sum + weight - 1) / weight;
        count = count < left ? count : left;
        cut = (struct cut){weight, count < wanted ? count : wanted};
        left -= cut.ties;
        sum += cut.ties * weight;
    }
    return cut;
}

/* min_p on top of the other two. */
static struct cut raise_cut(struct cut cut, uint64_t min_p, uint32_t largest_weight)
{
    uint64_t least = (min_p * largest_weight + MILLION - 1) / MILLION;
    return least <= cut.weight || least == 0 ? cut : (struct cut){(uint32_t)least - 1, 0};
}

/* Walks the candidates upwards. With `limit` UINT64_MAX, the sum of the kept
 * weights; otherwise *token is the first whose running sum exceeds it. */
static uint64_t walk(const bulla_sampler *sampler, uint32_t candidates, struct cut cut, uint64_t limit, uint32_t *token)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < candidates; i++) {
        uint32_t weight = sampler->weights[sampler->distances[i]];
        if (weight < cut.weight || (weight == cut.weight && cut.ties == 0))
            continue;
        cut.ties -= weight == cut.weight;
        sum += weight;
        if (sum > limit) {
            *token = sampler->ids[i];
            break;
        }
    }
    return sum;
}

static int draw_weighted(bulla_sampler *sampler, const struct draw *draw, uint32_t best, uint32_t *token,
                         bulla_error *error)
{
    const bulla_sampling *sampling = draw->sampling;
    uint64_t divisor = sampling->temperature << draw->F; /* below 2^58 */
    int64_t largest = draw->logits[best];
    /* D < DISTANCES exactly up to this difference. */
    uint128 reach = ((uint128)DISTANCES * divisor - 1) / SCALE;
    uint32_t candidates = collect(sampler, draw, largest - (reach > UINT32_MAX ? UINT32_MAX : (int64_t)reach));
    measure(sampler, draw, largest, divisor, candidates);
    struct cut cut = {0, 0};
    if (sampling->top_k || sampling->top_p < MILLION)
        cut = find_cut(sampler, sampling, candidates);
    cut = raise_cut(cut, sampling->min_p, sampler->weights[0]);
    uint64_t r, total = walk(sampler, candidates, cut, UINT64_MAX, token);
    uint8_t message[SAMPLER_MESSAGE];
    sampler_draw_message(sampling->seed, draw->position, message);
    int code = hash_message(message, &r, error);
    if (code == BULLA_OK)
        walk(sampler, candidates, cut, (uint64_t)((uint128)r * total >> 64), token);
    return code;
}

static int check_ids(const char *name, const uint32_t *ids, size_t count, uint32_t vocabulary, bulla_error *error)
{
    uint32_t largest = 0;
    for (size_t i = 0; i < count; i++)
        largest = ids[i] > largest ? ids[i] : largest;
    return largest < vocabulary ? BULLA_OK
                                : bulla_fail(error, BULLA_E_USAGE, "sampling: %s token %u, expected ids below the "
                                             "vocabulary of %u", name, largest, vocabulary);
}

int bulla_sampler_draw(bulla_sampler *sampler, const bulla_sampling *sampling, const int32_t *logits, int F,
                       const uint32_t *prompt, size_t prompt_count, const uint32_t *generated,
                       size_t generated_count, const uint64_t *allowed, uint64_t position, uint32_t *token,
                       bulla_error *error)
{
    uint32_t vocabulary = sampler->vocabulary;
    if (vocabulary == 0 || F < 0 || F > 31)
        return bulla_fail(error, BULLA_E_USAGE, "sampling: a vocabulary of %u, F is %d, expected 0 to 31", vocabulary, F);
    int code = check_fields(sampling, vocabulary, error);
    code = code ? code : check_ids("prompt", prompt, prompt_count, vocabulary, error);
    code = code ? code : check_ids("generated", generated, generated_count, vocabulary, error);
    struct draw draw = {.sampling = sampling, .logits = logits, .F = F, .prompt = prompt, .generated = generated,
                        .prompt_count = prompt_count, .generated_count = generated_count, .allowed = allowed,
                        .position = position};
    code = code ? code : adjust(sampler, &draw, error);
    if (code)
        return code;
    uint32_t best = allowed ? find_largest_allowed(draw.logits, vocabulary, allowed)
                            : find_largest(draw.logits, vocabulary);
    if (best == vocabulary)
        return bulla_fail(error, BULLA_E_INPUT, "sampling: no id of the vocabulary is allowed");
    *token = best;
    return sampling->temperature ? draw_weighted(sampler, &draw, best, token, error) : BULLA_OK;
}
