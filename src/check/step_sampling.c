/* Elements of sampling: docs/dispute-trace.md, "Arrays and elements"; docs/canonical.md, "Sampling". */
#include <string.h>

#include "check/step_internal.h"
#include "exec/sampler_terms.h"

enum { A, MAX, LEAST, W, CUT1, ABOVE1, EQUAL1, BELOW1, SUM1, CHECK1, CUT2, EQUAL2, SUM2, CHECK2, RUN, TOKEN };
enum { MILLION = SAMPLER_MILLION, W_MOST = (1 << 24) - 1 };
#define NOT_ALLOWED (-(INT64_C(1) << 32))
#define SUM_LIMIT (INT64_C(1) << 62)

static uint32_t vocabulary(const struct step *step)
{
    return step->program->program.vocabulary;
}

static void shape_sampling(const struct step *step, uint32_t array, struct step_array *shape)
{
    static const uint8_t widths[] = {8, 8, 4, 4, 8, 8, 8, 8, 8, 1, 8, 8, 8, 1, 8, 1};
    uint64_t V = vocabulary(step), chunks = step_chunks(V, STEP_CHUNK);
    int is_greedy = step->answer->sampling->temperature == 0, is_witness = array == CUT1 || array == CUT2;
    uint64_t count = array == A || array == W ? V : is_witness ? 2 : array == CHECK1 || array == CHECK2 || array == TOKEN ? 1
                                                                                                              : chunks;
    if (is_greedy ? array > LEAST && array != TOKEN : array == LEAST)
        count = 0;
    *shape = (struct step_array){.count = count, .width = widths[array], .is_witness = (uint8_t)is_witness};
}

/* How often `id` stands in tokens begin .. end - 1. */
static uint32_t count_token(const struct step *step, uint32_t id, uint64_t begin, uint64_t end)
{
    uint32_t count = 0;
    for (uint64_t i = begin; i < end; i++)
        count += step->answer->tokens[i] == id;
    return count;
}

/* Bias, repetition, presence and frequency. */
static int64_t adjusted(struct step *step, uint32_t array, uint64_t id)
{
    const bulla_sampling *sampling = step->answer->sampling;
    int64_t l, bits = 1;
    const struct step_source logits = {STEP_SOURCE_RESULT, step->operation - 1,
        step_kind(step->program->program.operations[step->operation - 1].kind)->bytes, step->position};
    step_read(step, &logits, id, 1, &l);
    if (step->answer->allowed) {
        const struct step_source allowed = {.kind = STEP_SOURCE_ALLOWED, .position = step->position};
        step_read(step, &allowed, id / 8, 1, &bits);
        bits = bits >> (id & 7) & 1;
    }
    if (!bits)
        return NOT_ALLOWED;
    int128 logit = l;
    int F = step->program->program.logits_F;
    uint64_t prompt = step->answer->prompt_count;
    for (size_t i = 0; i < sampling->bias_count; i++)
        if (sampling->biases[i].id == id)
            logit += sampler_logit_units(sampling->biases[i].bias, F);
    int is_plain = sampling->repetition == MILLION && !sampling->presence && !sampling->frequency;
    uint32_t generated = is_plain ? 0 : count_token(step, (uint32_t)id, prompt, step->position + 1); /* for each id */
    int was_seen = sampling->repetition != MILLION && (generated || count_token(step, (uint32_t)id, 0, prompt));
    logit = sampler_penalised(sampling, F, logit, was_seen, generated);
    return logit <= INT32_MIN || logit > INT32_MAX ? step_end(step, STEP_RANGE) : (int64_t)logit;
}

static int64_t total(struct step *step, uint32_t array)
{
    return step_array_element(step, array, step_chunks(vocabulary(step), STEP_CHUNK) - 1);
}

static int64_t sum_total(struct step *step, uint32_t array)
{
    return step_bounded(step, total(step, array), 0, SUM_LIMIT - 1);
}

static int64_t bounded_logit(struct step *step, int64_t a)
{
    return step_bounded(step, a, NOT_ALLOWED, INT32_MAX);
}

static int64_t largest(struct step *step)
{
    return bounded_logit(step, total(step, MAX));
}

static int64_t fold_largest(struct step *step, uint32_t array, uint64_t c)
{
    int64_t a[STEP_CHUNK], most = c ? step_array_element(step, MAX, c - 1) : 0;
    uint32_t count = step_chunk(vocabulary(step), c, STEP_CHUNK);
    step_read_array(step, A, c * STEP_CHUNK, count, a);
    most = c ? most : a[0];
    for (uint32_t i = 0; i < count; i++)
        most = a[i] > most ? a[i] : most;
    return most;
}

static int64_t fold_least(struct step *step, uint32_t array, uint64_t c)
{
    int64_t a[STEP_CHUNK], most = largest(step), none = vocabulary(step);
    int64_t least = c ? step_array_element(step, LEAST, c - 1) : none;
    uint32_t count = step_chunk(vocabulary(step), c, STEP_CHUNK);
    if (least != none)
        return least;
    step_read_array(step, A, c * STEP_CHUNK, count, a);
    for (uint32_t i = 0; i < count && least == none; i++)
        least = a[i] == most ? (int64_t)(c * STEP_CHUNK + i) : none;
    return least;
}

static int64_t weight(struct step *step, uint32_t array, uint64_t id)
{
    int64_t a = bounded_logit(step, step_array_element(step, A, id)), most = largest(step);
    if (a == NOT_ALLOWED)
        return 0;
    int64_t difference = step_bounded(step, most - a, 0, UINT32_MAX);
    uint64_t divisor = step->answer->sampling->temperature << step->program->program.logits_F; /* below 2^58 */
    return step_exp(step, 1, 24, (int64_t)((uint64_t)difference * SAMPLER_SCALE / divisor));
}

/* A witness: every weight above `weight`, and of those equal to it the `ties` lowest ids. */
struct cut {
    int64_t weight, ties;
};

static struct cut read_cut(struct step *step, uint32_t array)
{
    int64_t cut[2];
    step_read_array(step, array, 0, 2, cut);
    return (struct cut){step_bounded(step, cut[0], 0, SUM_LIMIT - 1), step_bounded(step, cut[1], 0, SUM_LIMIT - 1)};
}

static void read_weights(struct step *step, uint64_t c, int64_t w[STEP_CHUNK])
{
    step_read_array(step, W, c * STEP_CHUNK, step_chunk(vocabulary(step), c, STEP_CHUNK), w);
    for (uint32_t i = 0; i < step_chunk(vocabulary(step), c, STEP_CHUNK); i++)
        w[i] = step_bounded(step, w[i], 0, W_MOST);
}

/* Counts and sums under a cut. */
static int64_t fold_cut(struct step *step, uint32_t array, uint64_t c)
{
    struct cut cut = read_cut(step, array < CUT2 ? CUT1 : CUT2);
    int64_t w[STEP_CHUNK], sum = c ? step_bounded(step, step_array_element(step, array, c - 1), 0, SUM_LIMIT - 1) : 0;
    uint32_t count = step_chunk(vocabulary(step), c, STEP_CHUNK);
    read_weights(step, c, w);
    for (uint32_t i = 0; i < count; i++)
        if (array == ABOVE1)
            sum += w[i] > cut.weight;
        else if (array == EQUAL1 || array == EQUAL2)
            sum += w[i] == cut.weight;
        else if (array == BELOW1)
            sum += w[i] > 0 && w[i] < cut.weight;
        else
            sum += w[i] > cut.weight ? w[i] : 0;
    return sum;
}

static int64_t holds(struct step *step, int holds)
{
    return holds ? 1 : step_end(step, STEP_FAILS);
}

static int64_t check_top_k(struct step *step, uint32_t array, uint64_t index)
{
    struct cut cut = read_cut(step, CUT1);
    int64_t above = sum_total(step, ABOVE1), equal = sum_total(step, EQUAL1), below = sum_total(step, BELOW1);
    int64_t K = step->answer->sampling->top_k ? step->answer->sampling->top_k : vocabulary(step);
    int128 kept = (int128)above + cut.ties;
    return holds(step, cut.weight >= 1 && cut.ties >= 1 && cut.ties <= equal &&
                           (kept == K || (kept < K && cut.ties == equal && below == 0)));
}

static int64_t check_top_p(struct step *step, uint32_t array, uint64_t index)
{
    struct cut first = read_cut(step, CUT1);
    int64_t sum1 = sum_total(step, SUM1);
    struct cut cut = read_cut(step, CUT2);
    int64_t equal = sum_total(step, EQUAL2), sum2 = sum_total(step, SUM2);
    step_bounded(step, first.weight, 0, W_MOST); /* so that nothing below leaves 128 bits */
    step_bounded(step, cut.weight, 0, W_MOST);
    if (step->status)
        return 0;
    int128 P = sum1 + (int128)first.ties * first.weight;
    int128 needed = ((int128)step->answer->sampling->top_p * P + MILLION - 1) / MILLION;
    needed = needed > 1 ? needed : 1;
    int128 reached = sum2 + (int128)cut.ties * cut.weight;
    int is_within = cut.weight > first.weight || (cut.weight == first.weight && cut.ties <= first.ties);
    return holds(step, is_within && cut.ties >= 1 && cut.ties <= equal && reached >= needed &&
                           reached - cut.weight < needed);
}

/* What top_k, top_p and min_p leave of a chunk: weights of others become 0. */
static void keep(struct step *step, uint64_t c, struct cut cut, int64_t ties_before, int64_t w[STEP_CHUNK])
{
    int64_t least = ((int64_t)step->answer->sampling->min_p * W_MOST + MILLION - 1) / MILLION;
    uint32_t count = step_chunk(vocabulary(step), c, STEP_CHUNK);
    read_weights(step, c, w);
    for (uint32_t i = 0; i < count; i++) {
        int is_kept = w[i] >= least && (w[i] > cut.weight || (w[i] == cut.weight && ties_before < cut.ties));
        ties_before += w[i] == cut.weight;
        w[i] = is_kept ? w[i] : 0;
    }
}

/* The chunk's kept weights; the sum of those before it. */
static int64_t kept_chunk(struct step *step, uint64_t c, int64_t w[STEP_CHUNK])
{
    struct cut cut = read_cut(step, CUT2);
    int64_t ties = c ? step_bounded(step, step_array_element(step, EQUAL2, c - 1), 0, SUM_LIMIT - 1) : 0;
    int64_t run = c ? step_bounded(step, step_array_element(step, RUN, c - 1), 0, SUM_LIMIT - 1) : 0;
    keep(step, c, cut, ties, w);
    return run;
}

static int64_t fold_kept(struct step *step, uint32_t array, uint64_t c)
{
    int64_t w[STEP_CHUNK], run = kept_chunk(step, c, w);
    for (uint32_t i = 0; i < step_chunk(vocabulary(step), c, STEP_CHUNK); i++)
        run += w[i];
    return run;
}

/* r: the first 8 bytes of SHA-256("bulla-sample" || seed || position of the new token). */
static uint64_t draw_number(struct step *step)
{
    uint8_t message[SAMPLER_MESSAGE], digest[MERKLE_HASH];
    sampler_draw_message(step->answer->sampling->seed, step->position + 1, message);
    hash_stream_update(step->stream, message, sizeof message);
    if (hash_stream_finish(step->stream, digest, NULL))
        step_end(step, STEP_UNPROVED);
    return (uint64_t)step_number(digest, 8, 0);
}

/* Whether the receipt's next token is what is drawn. */
static int64_t check_token(struct step *step, uint32_t array, uint64_t index)
{
    if (step->position + 1 >= step->answer->token_count) /* an answer that ended by RANGE drew no token here */
        return step_end(step, STEP_FAILS);
    uint32_t token = step->answer->tokens[step->position + 1];
    if (step->answer->sampling->temperature == 0) {
        int64_t most = largest(step), least = total(step, LEAST);
        return holds(step, least == token && most > NOT_ALLOWED);
    }
    int64_t w[STEP_CHUNK], all = sum_total(step, RUN), run = kept_chunk(step, token / STEP_CHUNK, w);
    int64_t draw = (int64_t)((uint128)draw_number(step) * (uint64_t)all >> 64);
    for (uint32_t i = 0; i < token % STEP_CHUNK; i++)
        run += w[i];
    return holds(step, w[token % STEP_CHUNK] > 0 && run <= draw && run + w[token % STEP_CHUNK] > draw);
}

static int64_t element_sampling(struct step *step, uint32_t array, uint64_t index)
{
    static int64_t (*const elements[])(struct step *step, uint32_t array, uint64_t index) = {
        [A] = adjusted, [MAX] = fold_largest, [LEAST] = fold_least, [W] = weight, [CHECK1] = check_top_k,
        [CHECK2] = check_top_p, [RUN] = fold_kept, [TOKEN] = check_token};
    return (elements[array] ? elements[array] : fold_cut)(step, array, index);
}

const struct step_kind step_kind_sampling = {16, TOKEN, TOKEN, shape_sampling, element_sampling};
