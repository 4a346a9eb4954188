/* The sampler against the canonical vectors, and against the page written down
 * naively (everything sorted, 128-bit sums) on random cases full of ties. */
#include "test.h"

#include "base/arena.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/memory.h"
#include "bulla/sampler.h"
#include "model/tables.h"

__extension__ typedef __int128 int128;
__extension__ typedef unsigned __int128 uint128;

enum { LARGEST_VOCABULARY = 3000 };

static uint64_t random_state;

static uint64_t random_next(void) /* splitmix64 (Steele, Lea, Flood 2014) */
{
    uint64_t z = random_state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

static uint64_t random_below(uint64_t limit)
{
    return random_next() % limit;
}

static uint32_t *exp24(void)
{
    static uint32_t mantissas[1024];
    if (!mantissas[0])
        tables_exp(24, mantissas);
    return mantissas;
}

/* One case with all its parts. */
struct sample {
    bulla_sampling sampling;
    uint32_t vocabulary;
    int32_t logits[LARGEST_VOCABULARY];
    int F;
    uint32_t prompt[40], generated[40];
    size_t prompt_count, generated_count;
    bulla_logit_bias biases[20];
    uint64_t allowed_bits[LARGEST_VOCABULARY / 64 + 1];
    uint64_t *allowed;
    uint64_t position;
};

static int128 floor_divide(int128 a, int128 b)
{
    return a / b - (a % b < 0);
}

static int128 half_up(int128 a, int128 b)
{
    return floor_divide(2 * a + b, 2 * b);
}

/* An id with its rank's order. */
struct ranked {
    uint32_t id;
    uint64_t w;
};

static int by_rank(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    return x->w != y->w ? (x->w > y->w ? -1 : 1) : (x->id > y->id) - (x->id < y->id);
}

static int by_id(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static uint64_t naive_hash(const char *name, uint64_t a, uint64_t b)
{
    uint8_t bytes[28], digest[32];
    memcpy(bytes, name, 12);
    memcpy(bytes + 12, &a, 8);
    memcpy(bytes + 20, &b, 8);
    assert_int_equal(hash_sha256(bytes, 28, digest, NULL), BULLA_OK);
    uint64_t result;
    memcpy(&result, digest, 8);
    return result;
}

/* The adjusted logits of the page, one sentence after the other. */
static void naive_adjust(const struct sample *sample, int128 *l)
{
    const bulla_sampling *s = &sample->sampling;
    const int128 unit = (int128)1 << sample->F;
    for (uint32_t i = 0; i < sample->vocabulary; i++) {
        l[i] = sample->logits[i];
        for (size_t j = 0; j < s->bias_count; j++)
            if (s->biases[j].id == i)
                l[i] += half_up(s->biases[j].bias * unit, 1000000);
        uint64_t in_prompt = 0, count = 0;
        for (size_t j = 0; j < sample->prompt_count; j++)
            in_prompt += sample->prompt[j] == i;
        for (size_t j = 0; j < sample->generated_count; j++)
            count += sample->generated[j] == i;
        if (in_prompt || count)
            l[i] = l[i] > 0 ? half_up(l[i] * 1000000, s->repetition) : half_up(l[i] * (int128)s->repetition, 1000000);
        if (count) {
            l[i] -= half_up(s->presence * unit, 1000000);
            l[i] -= half_up(s->frequency * (int128)count * unit, 1000000);
        }
    }
}

/* -1 where RANGE, -2 where nothing is allowed. */
static int64_t naive_sample(const struct sample *sample)
{
    static int128 l[LARGEST_VOCABULARY];
    static struct ranked list[LARGEST_VOCABULARY];
    const bulla_sampling *s = &sample->sampling;
    naive_adjust(sample, l);
    size_t count = 0;
    int128 max = 0;
    uint32_t best = 0;
    for (uint32_t i = 0; i < sample->vocabulary; i++) {
        if (sample->allowed && !(sample->allowed[i / 64] >> i % 64 & 1))
            continue;
        if (l[i] != sample->logits[i] && (l[i] <= INT32_MIN || l[i] > INT32_MAX))
            return -1;
        if (count == 0 || l[i] > max) {
            max = l[i];
            best = i;
        }
        list[count++].id = i;
    }
    if (count == 0)
        return -2;
    if (s->temperature == 0)
        return best;
    for (size_t i = 0; i < count; i++) {
        int128 D = (max - l[list[i].id]) * 1477319722 / ((int128)s->temperature << sample->F);
        list[i].w = D >= 24 * 1024 ? 0 : exp24()[(int)D % 1024] >> (int)D / 1024;
    }
    qsort(list, count, sizeof *list, by_rank);
    if (s->top_k && s->top_k < count)
        count = s->top_k;
    uint128 P = 0, sum = 0;
    for (size_t i = 0; i < count; i++)
        P += list[i].w;
    size_t kept = 0;
    do
        sum += list[kept++].w;
    while (kept < count && sum * 1000000 < s->top_p * P);
    while (kept > 1 && list[kept - 1].w * 1000000 < s->min_p * list[0].w)
        kept--;
    uint128 total = 0, running = 0;
    for (size_t i = 0; i < kept; i++)
        total += list[i].w;
    uint64_t drawn = (uint64_t)(naive_hash("bulla-sample", s->seed, sample->position) * total >> 64);
    qsort(list, kept, sizeof *list, by_id);
    for (size_t i = 0; i < kept; i++)
        if ((running += list[i].w) > drawn)
            return list[i].id;
    fail_msg("nothing drawn");
    return -3;
}

static int64_t fast_sample(bulla_sampler *sampler, const struct sample *sample)
{
    bulla_error error = {0};
    uint32_t token;
    int code = bulla_sampler_draw(sampler, &sample->sampling, sample->logits, sample->F, sample->prompt,
                                  sample->prompt_count, sample->generated, sample->generated_count, sample->allowed,
                                  sample->position, &token, &error);
    if (code == BULLA_E_RANGE || code == BULLA_E_INPUT)
        return code == BULLA_E_RANGE ? -1 : -2;
    assert_ok(code, error);
    return token;
}

static bulla_sampler *open_sampler(uint32_t vocabulary)
{
    bulla_error error = {0};
    bulla_sampler *sampler;
    assert_ok(bulla_sampler_open(vocabulary, exp24(), &sampler, &error), error);
    return sampler;
}

/* Most weight on what occurs, some on the edges. */
static uint64_t pick(uint64_t edge, uint64_t limit)
{
    switch (random_below(4)) {
    case 0:
        return edge;
    case 1:
        return limit;
    default:
        return random_below(limit + 1);
    }
}

static void make_logits(struct sample *sample)
{
    uint64_t shape = random_below(6), spread = UINT64_C(1) << random_below(32);
    int32_t base = (int32_t)random_next() / 2;
    for (uint32_t i = 0; i < sample->vocabulary; i++)
        switch (shape) {
        case 0: /* all equal */
            sample->logits[i] = base;
            break;
        case 1: /* few values: ties */
            sample->logits[i] = (int32_t)((uint32_t)random_below(4) << sample->F);
            break;
        case 2: /* the whole range */
            sample->logits[i] = (int32_t)random_next();
            break;
        default: /* as models have them: some nats apart */
            sample->logits[i] = (int32_t)((int64_t)random_below(2 * spread) - (int64_t)spread);
        }
}

static void make_penalties(struct sample *sample)
{
    bulla_sampling *s = &sample->sampling;
    int extreme = random_below(8) == 0;
    s->repetition = random_below(2) ? 1000000 : extreme ? pick(10000, 100000000) : 900000 + random_below(600000);
    if (s->repetition < 10000)
        s->repetition = 10000;
    s->presence = random_below(2) ? 0 : (int64_t)random_below(4000001) - 2000000;
    s->frequency = random_below(2) ? 0 : (int64_t)random_below(4000001) - 2000000;
    if (extreme)
        s->frequency *= 50;
    sample->prompt_count = random_below(2) ? random_below(40) : 0;
    sample->generated_count = random_below(2) ? random_below(40) : 0;
    for (int i = 0; i < 40; i++) {
        sample->prompt[i] = (uint32_t)random_below(sample->vocabulary);
        sample->generated[i] = (uint32_t)random_below(sample->vocabulary);
    }
    s->biases = sample->biases;
    s->bias_count = 0;
    if (random_below(3) == 0)
        for (uint64_t id = random_below(sample->vocabulary); id < sample->vocabulary && s->bias_count < 20;
             id += 1 + random_below(9))
            sample->biases[s->bias_count++] = (bulla_logit_bias){
                (uint32_t)id, (int64_t)random_below(2000001) * (extreme ? 1000 : 1) - (extreme ? 1000000000 : 1000000)};
}

static void make_sample(struct sample *sample, uint32_t vocabulary)
{
    bulla_sampling *s = &sample->sampling;
    bulla_sampling_defaults(s);
    sample->vocabulary = vocabulary;
    sample->F = (int)(random_below(4) ? 8 + random_below(12) : random_below(32));
    make_logits(sample);
    static const uint64_t temperatures[] = {0, 1, 700000, 1000000, 1000000, 1500000, 100000000};
    s->temperature = random_below(3) ? temperatures[random_below(7)] : random_below(100000001);
    if (random_below(2))
        s->top_k = (uint32_t)pick(1, vocabulary + 10);
    if (random_below(2))
        s->top_p = random_below(4) ? 900000 + random_below(100001) : pick(0, 1000000);
    if (random_below(3) == 0)
        s->min_p = random_below(4) ? random_below(200000) : pick(0, 1000000);
    s->seed = random_next();
    sample->position = random_next() >> random_below(64);
    make_penalties(sample);
    sample->allowed = NULL;
    if (random_below(3) == 0) {
        uint64_t density = random_below(9); /* 0: none */
        sample->allowed = sample->allowed_bits;
        for (uint32_t i = 0; i < vocabulary / 64 + 1; i++)
            sample->allowed_bits[i] = density == 0 ? 0 : random_next() & (density < 4 ? random_next() & random_next()
                                                                                      : UINT64_MAX);
    }
}

static void test_vectors(void **state)
{
    bulla_error error = {0};
    struct arena arena = {0};
    char path[4096];
    snprintf(path, sizeof path, "%s/tests/vectors/canonical/sample.json",
             getenv("BULLA_SOURCE_ROOT") ? getenv("BULLA_SOURCE_ROOT") : ".");
    uint8_t *text;
    size_t length;
    assert_ok(file_read(path, 16 << 20, &text, &length, &error), error);
    struct json *cases = json_parse((const char *)text, length, "sample.json", &arena, &error);
    assert_non_null(cases);
    static struct sample sample;
    for (size_t i = 0; i < cases->length; i++) {
        const struct json *one = cases->items[i], *logits = json_get(one, "logits");
        memset(&sample, 0, sizeof sample);
        bulla_sampling_defaults(&sample.sampling);
        sample.vocabulary = (uint32_t)logits->length;
        for (size_t j = 0; j < logits->length; j++)
            sample.logits[j] = (int32_t)logits->items[j]->integer;
        sample.F = (int)json_get(one, "F")->integer;
        sample.sampling.temperature = (uint64_t)json_get(one, "T_u")->integer;
        sample.sampling.top_k = (uint32_t)json_get(one, "top_k")->integer;
        sample.sampling.top_p = (uint64_t)json_get(one, "top_p")->integer;
        sample.sampling.min_p = (uint64_t)json_get(one, "min_p")->integer;
        sample.sampling.seed = strtoull(json_get(one, "seed")->text, NULL, 10);
        sample.position = (uint64_t)json_get(one, "position")->integer;
        bulla_sampler *sampler = open_sampler(sample.vocabulary);
        assert_int_equal(fast_sample(sampler, &sample), json_get(one, "result")->integer);
        assert_int_equal(naive_sample(&sample), json_get(one, "result")->integer);
        bulla_sampler_close(sampler);
    }
    print_message("sample: %zu cases equal\n", cases->length);
    memory_free(text);
    arena_free(&arena);
}

static void test_random_cases(void **state)
{
    uint64_t cases = test_count(60000, 5000000);
    static const uint32_t vocabularies[] = {1, 2, 3, 7, 63, 64, 65, 128, 300, 2047, 2049, LARGEST_VOCABULARY};
    enum { VOCABULARIES = sizeof vocabularies / sizeof vocabularies[0] };
    bulla_sampler *samplers[VOCABULARIES];
    for (int i = 0; i < VOCABULARIES; i++)
        samplers[i] = open_sampler(vocabularies[i]);
    static struct sample sample;
    uint64_t range = 0, none = 0, drawn = 0;
    random_state = 1;
    for (uint64_t i = 0; i < cases; i++) {
        uint64_t which = random_below(32) ? random_below(9) : random_below(VOCABULARIES);
        uint64_t start = random_state;
        make_sample(&sample, vocabularies[which]);
        int64_t expected = naive_sample(&sample), found = fast_sample(samplers[which], &sample);
        if (found != expected)
            fail_msg("case %llu (state %llu): %lld, expected %lld", (unsigned long long)i, (unsigned long long)start,
                     (long long)found, (long long)expected);
        range += expected == -1;
        none += expected == -2;
        drawn += expected >= 0;
    }
    print_message("%llu random cases equal: %llu tokens, %llu RANGE, %llu with nothing allowed\n",
                  (unsigned long long)cases, (unsigned long long)drawn, (unsigned long long)range,
                  (unsigned long long)none);
    assert_true(range > 0 && none > 0 && drawn > cases / 2);
    for (int i = 0; i < VOCABULARIES; i++)
        bulla_sampler_close(samplers[i]);
}

/* The share of each id over many seeds is its weight's. */
static void test_shares(void **state)
{
    enum { SEEDS = 200000 };
    static struct sample sample;
    memset(&sample, 0, sizeof sample);
    bulla_sampling_defaults(&sample.sampling);
    sample.sampling.temperature = 1000000;
    sample.vocabulary = 4;
    sample.F = 20;
    /* ln 4, ln 2, 0, -20: 4/7, 2/7, 1/7, nothing */
    const int32_t logits[] = {1453635, 726817, 0, -(20 << 20)};
    memcpy(sample.logits, logits, sizeof logits);
    bulla_sampler *sampler = open_sampler(4);
    int counts[4] = {0};
    for (sample.sampling.seed = 0; sample.sampling.seed < SEEDS; sample.sampling.seed++)
        counts[fast_sample(sampler, &sample)]++;
    for (int i = 0; i < 3; i++)
        assert_in_range(counts[i], SEEDS * (4 >> i) / 7 - 1000, SEEDS * (4 >> i) / 7 + 1000);
    assert_int_equal(counts[3], 0);
    bulla_sampler_close(sampler);
}

static void test_choice_seed(void **state)
{
    assert_true(bulla_sampling_choice_seed(7, 3) == naive_hash("bulla-choice", 7, 3));
    assert_true(bulla_sampling_choice_seed(7, 3) != bulla_sampling_choice_seed(7, 4));
}

static void refuse(const bulla_sampling *sampling, const char *names)
{
    bulla_error error = {0};
    assert_int_equal(bulla_sampling_check(sampling, 100, &error), BULLA_E_USAGE);
    if (!strstr(error.text, names))
        fail_msg("\"%s\" does not name %s", error.text, names);
    /* The draw refuses it too, except for ids given twice, which it does not look for. */
    bulla_sampler *sampler = open_sampler(100);
    int32_t logits[100] = {0};
    uint32_t token;
    if (!strstr(names, "two"))
        assert_int_equal(bulla_sampler_draw(sampler, sampling, logits, 10, NULL, 0, NULL, 0, NULL, 0, &token, NULL),
                         BULLA_E_USAGE);
    bulla_sampler_close(sampler);
}

static void test_wrong_numbers_are_named(void **state)
{
    bulla_sampling s;
    bulla_error error = {0};
    bulla_sampling_defaults(&s);
    assert_ok(bulla_sampling_check(&s, 100, &error), error);
    s.temperature = UINT64_MAX;
    refuse(&s, "temperature");
    bulla_sampling_defaults(&s), s.top_p = 1000001;
    refuse(&s, "top_p");
    bulla_sampling_defaults(&s), s.min_p = 1000001;
    refuse(&s, "min_p");
    bulla_sampling_defaults(&s), s.repetition = 0;
    refuse(&s, "repetition");
    bulla_sampling_defaults(&s), s.presence = INT64_MIN;
    refuse(&s, "presence");
    bulla_sampling_defaults(&s), s.frequency = INT64_MAX;
    refuse(&s, "frequency");
    bulla_logit_bias biases[] = {{1, 5}, {100, 5}};
    bulla_sampling_defaults(&s), s.biases = biases, s.bias_count = 2;
    refuse(&s, "id 100");
    biases[1].id = 1;
    refuse(&s, "two logit biases for id 1");
    biases[1] = (bulla_logit_bias){2, INT64_MIN};
    refuse(&s, "a logit bias");
    bulla_sampling_defaults(&s);
    bulla_sampler *sampler = open_sampler(4);
    int32_t logits[4] = {0};
    uint32_t token, wrong[] = {0, 4};
    assert_int_equal(bulla_sampler_draw(sampler, &s, logits, 10, wrong, 2, NULL, 0, NULL, 0, &token, NULL), BULLA_E_USAGE);
    assert_int_equal(bulla_sampler_draw(sampler, &s, logits, 10, NULL, 0, wrong, 2, NULL, 0, &token, NULL), BULLA_E_USAGE);
    assert_int_equal(bulla_sampler_draw(sampler, &s, logits, 32, NULL, 0, NULL, 0, NULL, 0, &token, NULL), BULLA_E_USAGE);
    bulla_sampler_close(sampler);
}

static void test_allocation_failures(void **state)
{
    for (uint64_t n = 1;; n++) {
        bulla_error error = {0};
        bulla_sampler *sampler;
        memory_inject_failure(n, 0);
        int code = bulla_sampler_open(100, exp24(), &sampler, &error);
        memory_inject_failure(0, 0);
        if (code == BULLA_OK) {
            bulla_sampler_close(sampler);
            assert_true(n > 1);
            break;
        }
        assert_int_equal(code, BULLA_E_MEMORY);
        assert_int_equal(error.code, BULLA_E_MEMORY);
        assert_null(sampler);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_random_cases),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_choice_seed),
        cmocka_unit_test(test_wrong_numbers_are_named),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
